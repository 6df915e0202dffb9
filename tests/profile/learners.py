"""`sbx profile learn` as its tests call it.  Imported by name."""

from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import tomli
from support import Sbx

from sandbox.profile import load

Done = CompletedProcess[str]


class Learner:
    """`sbx profile learn -o FILE OPTIONS IMAGE sh -c SCRIPT`, and runs under what came of it."""

    def __init__(self, sbx: Sbx, image: str, path: Path) -> None:
        self.sbx, self.image, self.path = sbx, image, path

    def __call__(self, script: str, *options: str | Path) -> Done:
        return self.sbx("profile", "learn", "-o", self.path, *options, self.image, "sh", "-c", script)

    def learned(self, script: str, *options: str | Path) -> dict[str, Any]:
        """The profile as TOML has it; `check` accepts it."""
        done = self(script, *options)
        assert done.returncode == 0, done
        assert done.stdout == ""
        checked = self.sbx("profile", "check", self.path)
        assert (checked.returncode, checked.stderr) == (0, "")
        return tomli.loads(self.text)

    def run(self, script: str, *options: str | Path) -> Done:
        return self.sbx("run", "--profile", self.path, *options, self.image, "sh", "-c", script)

    @property
    def text(self) -> str:
        return self.path.read_text()

    def denied(self) -> set[str]:
        """All calls that the learned profile refuses, and `default` allows."""
        mine, base = (load.effective(name)[0].policy for name in (str(self.path), "default"))
        return {name for name in base.rows if str(base.answer(name)) == "allow" and str(mine.answer(name)) != "allow"}
