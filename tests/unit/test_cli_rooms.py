"""Hot modules import little, and every target of the option table is where the table says."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import TREE

import sandbox
from sandbox import spec
from sandbox.options_run import HEALTH
from sandbox.verbs import VERBS

PACKAGE = Path(sandbox.__file__).parent
# Built in or one small C module each; what Python has loaded at its start anyway (io, os, sys) is free.
ALLOWED = {
    "_ctypes", "_frozen_importlib_external", "_signal", "_socket", "_io", "errno", "fcntl", "gc", "marshal", "os", "select", "sys", "termios", "time",
}  # fmt: skip


def hot_modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.glob("*.py")) if "hot" in place(path)]


def place(path: Path) -> str:
    """What stands in brackets at the end of the docstring's first paragraph: (mechanism, hot), (cold)."""
    paragraph = (ast.get_docstring(parse(path)) or "").split("\n\n")[0]
    match = re.search(r"\(((?:core|mechanism|launch|front), hot\b[^()]*|cold)\)$", paragraph)
    return match.group(1) if match else ""


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_at_start(body: list[ast.stmt]) -> Iterator[str]:
    """Names of modules that importing the module imports too: not those in functions and TYPE_CHECKING blocks."""
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, "relative import"
            if statement.module == "sandbox":
                yield from (f"sandbox.{alias.name}" for alias in statement.names)
            else:
                yield str(statement.module)
        elif isinstance(statement, ast.If):
            if not (isinstance(statement.test, ast.Name) and statement.test.id == "TYPE_CHECKING"):
                yield from imported_at_start(statement.body)
            yield from imported_at_start(statement.orelse)
        elif isinstance(statement, ast.Try):
            yield from imported_at_start([*statement.body, *statement.orelse, *statement.finalbody])


def test_there_are_hot_modules() -> None:
    assert {"entry", "errors", "linux", "options"} <= {path.stem for path in hot_modules()}


@pytest.mark.parametrize("path", hot_modules(), ids=lambda path: path.stem)
def test_a_hot_module_imports_only_what_is_cheap(path: Path) -> None:
    hot = {f"sandbox.{module.stem}" for module in hot_modules()} | {"sandbox"}
    assert set(imported_at_start(parse(path).body)) - ALLOWED - hot == set()


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_every_module_says_where_it_runs(path: Path) -> None:
    assert path.stem == "__init__" or place(path)


@pytest.mark.parametrize("verb", VERBS)
def test_the_target_is_there(verb: str) -> None:
    module, _, name = VERBS[verb].target.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


# What the verb's own module does not have to read: --debug is entry's, --health-... are read as a group; the others ask for
# what is always so.
READ_ELSEWHERE = {"debug", "rm", "remove_signatures", "multi_image_archive", *(option.dest for option in HEALTH)}
ALWAYS_SO = {"images": {"all"}}
COMPOSED = ("sandbox.compose", "sandbox.compose_life", "sandbox.compose_mounts", "sandbox.values", "sandbox.limits")
# Modules that a verb's own module hands its options to.
WITH = {
    "sandbox.run": [*COMPOSED, "sandbox.sharing"], "sandbox.wrap": ["sandbox.limits"],
    "sandbox.cli.update": ["sandbox.limits"], "sandbox.cli.pod": ["sandbox.life.pods"],
    "sandbox.cli.pod_look": ["sandbox.cli.logs", "sandbox.cli.stats"],
    "sandbox.cli.profile_learn": ["sandbox.run", *COMPOSED, "sandbox.profile.learn_watch"],
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_no_option_is_accepted_and_then_ignored(verb: str) -> None:
    """What the table offers is read by the verb's module, and what it postpones (`later`) is not read yet."""
    module = VERBS[verb].target.partition(":")[0]
    read: set[str] = set()
    for name in (module, *WITH.get(module, ())):
        text = Path(str(importlib.import_module(name).__file__)).read_text(encoding="utf-8")
        read |= set(re.findall(r"""opts(?:\.get\(|\[)["'](\w+)["']""", text))
        # `for name in ("a", "b"): opts[name]`
        if re.search(r"opts(\[|\.get\()[a-z_]+[\])]", text):
            read |= set(re.findall(r"""["'](\w+)["']""", text))
    offered = {option.dest for option in VERBS[verb].options if not option.later} - READ_ELSEWHERE
    offered -= ALWAYS_SO.get(verb, set())
    postponed = {option.dest for option in VERBS[verb].options if option.later}
    assert offered - read == set()
    assert read & postponed == set()


def test_every_annotation_is_in_the_table() -> None:
    used = {
        name
        for path in PACKAGE.rglob("*.py")
        if path.name != "spec.py"
        for name in re.findall(r"""["'](dev\.sbx\.[a-z]+)["']""", path.read_text(encoding="utf-8"))
    }
    assert used - {"dev.sbx.size"} == set(spec.ANNOTATIONS)  # that one is of images


def test_the_house_is_drawn_as_it_is() -> None:
    """docs/architecture.md names every module at the top, and no file that is not there."""
    page = (TREE / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b([a-z_]+\.py)\b", page))
    assert {path.name for path in PACKAGE.glob("[a-z]*.py")} - named == set()
    assert named - {path.name for path in PACKAGE.rglob("*.py")} == set()
