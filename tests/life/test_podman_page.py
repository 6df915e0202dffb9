"""docs/podman.md says what is so: held against the table of verbs, and against podman itself."""

import re
import shutil
import subprocess

import pytest
from support import TREE

from sandbox.options_run import RUN
from sandbox.verbs import ALIASES, VERBS

PAGE = (TREE / "docs/podman.md").read_text(encoding="utf-8")
THERE, ABSENT = ("same", "different"), ("refused", "missing")


def table(heading):
    """First cell -> the others, of the first table below a heading."""
    text = PAGE.split(f"\n{heading}\n", 1)[1].split("\n|", 1)[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n")[2:]]
    return {name: [verdict, why] for name, verdict, why in rows}


COMMANDS = table("## Commands")
FLAGS = table("## Flags of run and create")
OURS = {flag for option in RUN if not option.hidden for flag in option.flags if flag.startswith("--")}


def test_what_is_said_to_be_there_is_there():
    words = {name.partition(" ")[0] for name in (*VERBS, *ALIASES)}
    for name, (verdict, _) in COMMANDS.items():
        assert verdict in THERE + ABSENT
        assert (name in words) == (verdict in THERE), name
    for flag, (verdict, _) in FLAGS.items():
        assert verdict in THERE + ABSENT
        assert (flag in OURS) == (verdict in THERE), flag


def test_every_verb_and_flag_is_on_the_page():
    for name in VERBS:
        first = name.partition(" ")[0]
        assert first in COMMANDS or f"`{first}`" in PAGE, name
    for flag in OURS:
        assert f"| {flag} |" in PAGE, flag


def test_reasons_are_given():
    for name, (verdict, why) in {**COMMANDS, **FLAGS}.items():
        assert verdict not in ("different", "refused") or why, name


def podman(*words):
    done = subprocess.run(["podman", *words], capture_output=True, text=True, check=False)
    return done.stdout


@pytest.fixture(scope="module")
def of_podman():
    if not shutil.which("podman") or " 4.3." not in podman("--version"):
        pytest.skip("the page compares with podman 4.3")


def flags_of(verb):
    return set(
        re.findall(r"^\s+(?:-\w, )?(--[a-z0-9-]+)", podman(verb, "--help").partition("Options:")[2], re.MULTILINE)
    )


def test_all_of_podmans_commands_and_flags(of_podman):
    commands = podman("--help").partition("Available Commands:")[2].partition("Options:")[0]
    assert set(re.findall(r"^  ([a-z-]+) ", commands, re.MULTILINE)) <= COMMANDS.keys()
    assert flags_of("run") - {"--help"} <= FLAGS.keys()


def test_flags_that_a_verb_has_not_are_named(of_podman):
    for name, (verdict, note) in COMMANDS.items():
        if verdict in ABSENT or name not in VERBS or name in ("run", "create"):
            continue
        ours = {flag for option in VERBS[name].options if not option.hidden for flag in option.flags}
        absent = flags_of(name) - ours - {"--help", "--remote"}
        named = set(re.findall(r"--[a-z0-9-]+", note))
        assert absent <= named, name
        assert not (named & ours & flags_of(name)) - {"--platform", "--attach", "--cgroups"}, name
