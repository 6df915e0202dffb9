"""What documentation and help name is there: options, files, verbs of examples."""

import re
import shlex
from pathlib import Path

import pytest

from sandbox.options import parse
from sandbox.verbs import VERBS, resolve

TREE = Path(__file__).parents[2]
PAGES = [
    TREE / "README.md",
    TREE / "CHANGELOG.md",
    TREE / "CONTRIBUTING.md",
    TREE / "bench/README.md",
    *(TREE / "docs").glob("*.md"),
]
# Of other programs, of scripts, of what is told to be missing; beginnings that stand for several.
FOREIGN = {
    "--setup-only", "--now", "--health-", "--cpu-rt-", "--device-", "--kernel-memory", "--memory-swappiness", "--oom-kill-disable",
    "--images", "--life", "--quick", "--unshare-all", "--help", "--version",
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "podman.md"], ids=lambda page: page.name)
def test_options_in_pages_exist(page: Path) -> None:
    """podman.md names what is missing too, and has a test of its own."""
    known = {flag for verb in VERBS.values() for option in verb.options for flag in option.flags}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text()))
    assert named - known - FOREIGN == set()


def commands(line: str) -> list[list[str]]:
    """The commands of a line of shell that are sbx's, without `sbx` and without redirections."""
    words = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    words.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set("|&;"):
            found.append([])
        elif set(word) <= set("<>"):
            next(words)
        else:
            found[-1].append(word)
    return [command[1:] for command in found if command[:1] == ["sbx"]]


@pytest.mark.parametrize("verb", VERBS)
def test_examples_are_understood(verb: str) -> None:
    assert VERBS[verb].examples
    for line, _ in VERBS[verb].examples:
        for command in commands(line):
            both = resolve(*command[:2]) if len(command) > 1 else ""
            name, rest = (both, command[2:]) if both else (command[0], command[1:])
            assert parse(name, rest) is not None, line
