"""The quick parser, by cases and against typer: whatever it accepts, typer reads in the same way."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from sandbox.cli import app
from sandbox.errors import SandboxError
from sandbox.options import FLAG, Verb, parse
from sandbox.verbs import VERBS

DESTS = {verb: {option.dest: option.blank() for option in entry.options} for verb, entry in VERBS.items()}


def quick(verb: str, *argv: str) -> tuple[dict[str, Any], list[str]]:
    """What differs from the blank values, and the operands."""
    parsed = parse(verb, list(argv))
    assert parsed is not None
    found, operands = parsed
    assert found.keys() == DESTS[verb].keys()
    return {dest: value for dest, value in found.items() if value != DESTS[verb][dest]}, operands


@pytest.mark.parametrize(
    ("argv", "found", "operands"),
    [
        (["x"], {}, ["x"]),
        (["-it", "x", "-y", "--", "z"], {"interactive": True, "tty": True}, ["x", "-y", "--", "z"]),
        (["-itv", "/a:/b", "x"], {"interactive": True, "tty": True, "volume": ["/a:/b"]}, ["x"]),
        (["-v/a:/b", "-v=/c:/d", "-v", "/e:/f", "x"], {"volume": ["/a:/b", "/c:/d", "/e:/f"]}, ["x"]),
        (["--env=A=b", "-e=C=d", "-eE=f", "x"], {"env": ["A=b", "C=d", "E=f"]}, ["x"]),
        (["--name", "-x", "x"], {"name": "-x"}, ["x"]),
        (["--name=a", "--name=b", "x"], {"name": "b"}, ["x"]),
        (["--name=", "-e=", "x"], {"env": [""]}, ["x"]),
        (["--rm", "--rm=false", "x"], {}, ["x"]),
        (["--rm=false", "--rm=true", "x"], {"rm": True}, ["x"]),
        (["--net", "none", "x"], {"network": "none"}, ["x"]),
        (["--", "--name", "x"], {}, ["--name", "x"]),
        (["-"], {}, ["-"]),
        (["", "x"], {}, ["", "x"]),
        (["--debug", "x"], {"debug": True}, ["x"]),
    ],
)
def test_accepted(argv: list[str], found: dict[str, Any], operands: list[str]) -> None:
    assert quick("run", *argv) == (found, operands)


@pytest.mark.parametrize(
    "argv",
    [
        [], ["--rm"], ["--help"], ["--help", "x"], ["--volum=a", "x"], ["--vol", "a", "x"], ["-Z", "x"], ["-itZ", "x"],
        ["--rm=yes", "x"], ["-v"], ["--volume"], ["--pull=often", "x"], ["--pull=", "x"], ["---rm", "x"], ["--=x", "x"],
        ["-i=true", "x"],
    ],
)  # fmt: skip
def test_left_to_typer(argv: list[str]) -> None:
    assert parse("run", argv) is None


def test_options_may_follow_operands_where_nothing_is_passed_through() -> None:
    assert quick("rmi", "a", "-f", "b") == ({"force": True}, ["a", "b"])
    assert quick("rmi", "a", "--", "-f") == ({}, ["a", "-f"])


def test_number_of_operands_and_closed_words() -> None:
    assert parse("version", ["x"]) is None
    assert parse("history", []) is None
    assert parse("completion", ["tcsh"]) is None
    assert quick("completion", "zsh") == ({}, ["zsh"])


def test_lists_are_new_each_time() -> None:
    first = parse("run", ["x"])
    assert first is not None
    first[0]["env"].append("A=b")
    second = parse("run", ["x"])
    assert second is not None
    assert second[0]["env"] == []


# -- the table itself --


@pytest.mark.parametrize("verb", VERBS)
def test_no_flag_or_dest_twice(verb: str) -> None:
    flags = [flag for option in VERBS[verb].options for flag in option.flags]
    dests = [option.dest for option in VERBS[verb].options]
    assert len(flags) == len(set(flags))
    assert len(dests) == len(set(dests))
    for option in VERBS[verb].options:
        assert (option.metavar == "") == (option.kind == FLAG)
        assert option.help.endswith(".")
        assert all(len(flag) == 2 if flag[:2] != "--" else len(flag) > 3 for flag in option.flags)


# -- against typer --

_WORDS = st.sampled_from(
    ["x", "", "-", "--", "a=b", "--=", "-=", "--help", "-h", "true", "none", "host", "list", "zsh", "\udce9", "é", "[b]x[/b]", "\n"]
)  # fmt: skip


def _flag_words(entry: Verb) -> st.SearchStrategy[str]:
    flags = [flag for option in entry.options for flag in option.flags]
    short = [flag[1] for flag in flags if flag[:2] != "--"]
    values = st.sampled_from(["", "v", "-v", "a=b", "true", "false", "always", "none", "--", "[/x]"])
    return st.one_of(
        st.sampled_from(flags),
        st.builds("{}={}".format, st.sampled_from(flags), values),
        st.builds("{}{}".format, st.sampled_from(flags), values),
        st.lists(st.sampled_from([*short, "Z", "="]), min_size=1, max_size=4).map(
            lambda letters: "-" + "".join(letters)
        ),
        st.sampled_from(flags).map(lambda flag: flag[:-1]),
    )


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[str, list[str]]:
    verb = draw(st.sampled_from(sorted(VERBS)))
    words = st.one_of(
        _flag_words(VERBS[verb]),
        _flag_words(VERBS[verb]),
        _WORDS,
        st.text(max_size=4).filter(lambda word: "\0" not in word),
    )
    return verb, draw(st.lists(words, max_size=7))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(command_lines())
def test_typer_reads_what_the_quick_parser_accepts_in_the_same_way(line: tuple[str, list[str]]) -> None:
    verb, argv = line
    parsed = parse(verb, argv)
    if parsed is not None:
        assert app.parse(verb, argv) == parsed


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(command_lines())
def test_typer_accepts_raises_or_shows_help_and_nothing_else(line: tuple[str, list[str]]) -> None:
    verb, argv = line
    try:
        result = app.parse(verb, argv)
    except SandboxError as error:
        assert error.code == 125
        assert error.hint
        assert "\n" not in str(error)
    else:
        assert result == 0 or isinstance(result, tuple)
