"""Build steps that pyproject.toml has no words for: manual pages and completions from the option table, profiles."""

import os
import shutil
import sys

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)  # the option table of this very source tree

from sandbox.cli import completion, manpages  # noqa: E402

GENERATED = "build/generated"
COMPLETIONS = {
    "bash": "share/bash-completion/completions/sbx",
    "zsh": "share/zsh/site-functions/_sbx",
    "fish": "share/fish/vendor_completions.d/sbx.fish",
}


def generated() -> dict[str, str]:
    """Path below the installation prefix -> text."""
    files = {f"share/man/man1/{name}": text for name, text in manpages.pages().items()}
    files.update({path: completion.SCRIPTS[shell]() for shell, path in COMPLETIONS.items()})
    return files


class BuildPy(build_py):
    """Also generates what data_files names, and puts the profiles into the package."""

    def run(self) -> None:
        super().run()
        for path, text in generated().items():
            target = f"{GENERATED}/{path}"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "w", encoding="utf-8") as file:
                file.write(text)
        # An editable install finds the profiles in the source tree (paths.package_data).
        if not self.editable_mode:
            target = f"{self.build_lib}/sandbox/_data/profiles"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree("profiles", target)


DATA_FILES: dict[str, list[str]] = {}
for name in generated():
    DATA_FILES.setdefault(os.path.dirname(name), []).append(f"{GENERATED}/{name}")

setup(cmdclass={"build_py": BuildPy}, data_files=sorted(DATA_FILES.items()))
