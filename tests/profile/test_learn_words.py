"""`sbx profile learn`: what it can not be asked for, and its parts on paper."""

import functools
import os
from pathlib import Path

import pytest
import tomli
from hypothesis import given, settings, strategies as st
from learners import Done, Learner
from support import Sbx

from sandbox import filters, linux
from sandbox.profile import calls, compile, language, learn_paths, learn_record, learn_write, load

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay", "seccomp", "notify")

# -- bad input --


def said(done: Done) -> str:
    assert (done.returncode, done.stdout) == (125, ""), done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_no_command(learn: Learner) -> None:
    done = learn.sbx("profile", "learn", "-o", learn.path, learn.image)
    assert said(done).startswith(f"sbx: profile learn `{learn.image}`: no command given")
    assert "missing operand" in said(learn.sbx("profile", "learn"))


def test_a_base_that_is_not_there(learn: Learner) -> None:
    text = said(learn("true", "--from", "defualt"))
    assert text.startswith(
        "sbx: find profile `defualt`: there is no profile of this name\nhint: did you mean `default`?"
    )


def test_a_base_that_can_not_be_extended(learn: Learner) -> None:
    folder = learn.path.parent / "elsewhere"
    folder.mkdir()
    (folder / "base.toml").write_text('extends = "default"\n')
    assert learn("true", "--from", folder / "base.toml").returncode == 0  # a folder below is fine
    learn.path = folder / "mine.toml"
    (folder.parent / "base.toml").write_text('extends = "default"\n')
    assert "a profile extends files of its own folder only" in said(
        learn("true", "--from", folder.parent / "base.toml")
    )


def test_a_command_that_fails(learn: Learner) -> None:
    text = said(learn("exit 3"))
    assert "sbx: learn profile `" in text and "it failed with 3" in text and "--status 3" in text
    assert not learn.path.exists()
    assert "it was ended by signal 9" in said(learn("exit 137"))
    done = learn.sbx("profile", "learn", "-o", learn.path, learn.image, "/no/such")
    assert done.returncode == 127 or "could not be run" in done.stderr or "/no/such" in done.stderr
    assert not learn.path.exists()


def test_a_server_that_is_stopped(learn: Learner) -> None:
    assert learn("mkdir /tmp/x; sleep 60", "--timeout", "1", "--status", "124").returncode == 0
    assert "mkdir" not in learn.denied()


def test_a_status_that_is_expected(learn: Learner) -> None:
    assert learn("exit 3", "--status", "3").returncode == 0
    assert learn.run("exit 3").returncode == 3


def test_a_file_that_is_there(learn: Learner) -> None:
    learn.path.write_text("mine\n")
    assert said(learn("true")).endswith("File exists\nhint: --merge adds to it, --force replaces it\n")
    assert "it has no record of what was seen" in said(learn("true", "--merge"))
    assert learn.text == "mine\n"
    assert learn("true", "--force").returncode == 0
    assert "extends" in learn.text


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--runs", "0"), "read --runs `0`"), (("--runs", "many"), "read --runs `many`"), (("--status", "-1"), "read --status `-1`"),
        (("--security-opt", "seccomp=unconfined"), "the filter comes from the profile"), (("--detach",), "unknown option `--detach`"),
        (("--profile", "strict"), "unknown option `--profile`"),
    ],
)  # fmt: skip
def test_options_that_are_wrong(learn: Learner, option: tuple[str, ...], words: str) -> None:
    assert words in said(learn("true", *option))


def test_a_folder_that_is_not_there(learn: Learner) -> None:
    learn.path = learn.path.parent / "no/mine.toml"
    assert f"write profile `{learn.path}`: No such file or directory" in said(learn("true"))


def test_without_a_file_it_is_printed(learn: Learner) -> None:
    done = learn.sbx("profile", "learn", learn.image, "sh", "-c", "echo hi")
    assert done.returncode == 0
    assert tomli.loads(done.stdout)["extends"] == "default"
    assert "hi\n" in done.stderr


def test_nothing_is_left(sbx: Sbx, busybox_rootfs: Path, tmp_path: Path, no_leftovers: object) -> None:
    learn = Learner(sbx, f"rootfs:{busybox_rootfs}", tmp_path / "mine.toml")
    learn.learned("sleep 0.1 & sleep 0.2; mkdir /tmp/d")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "store") == ["mine.toml"]
    cache = Path(sbx.environment["XDG_CACHE_HOME"]) / "sbx"
    assert not [path for path in cache.rglob("*") if "learning" in path.name]


# -- on paper --


def test_an_observing_filter_asks_about_all_that_is_allowed_and_lets_nothing_more_through() -> None:
    program = compile.program(load.effective("default")[0].policy.oci(calls.machine()))
    table = calls.table(calls.machine())
    quiet = tuple(table[name] for name in ("read", "write", "mmap", "sendmsg"))
    asking = filters.observing(program, quiet)
    for name, number in table.items():
        plain, asked = filters.answer(program, number), filters.answer(asking, number)
        if number in quiet:
            assert asked == plain == filters.RET_ALLOW
        elif plain == filters.RET_ERRNO | 38:
            assert asked == plain, name
        else:
            assert asked == linux.SECCOMP_RET_USER_NOTIF, name
        for arch, more in ((0x40000003, 0), (0, 0x40000000)):  # i386; x32
            assert filters.answer(asking, number | more, arch=arch) == filters.answer(program, number | more, arch=arch)


_NAMES = st.sampled_from(
    ["a", "b", "lib", "usr", "etc", "tmp", "proc", "12", "self", "shadow", ".ssh", "id_rsa", "ssh", "home", "x y", "*"]
)
_PATHS = st.lists(_NAMES, min_size=1, max_size=5).map(lambda names: "/" + "/".join(names))


@settings(database=None)
@given(st.dictionaries(_PATHS | st.integers(0, 30).map(lambda n: f"/etc/f{n}"), st.integers(1, 7), max_size=40))
def test_patterns_cover_what_was_seen_and_nothing_protected(seen: dict[str, int]) -> None:
    places = learn_paths.generalise(seen)
    for path, rights in seen.items():
        covering = [place for place in places if place.covers(path)]
        if learn_paths.is_protected(path):
            assert covering == []
        else:
            assert any(not rights & ~place.rights for place in covering)
    assert not any(place.covers("/etc/shadow") or place.covers("/root/.ssh/id_rsa") for place in places)
    assert all(place.reason for place in places)
    assert learn_paths.together(places) == places


_default = functools.cache(lambda: load.effective("default")[0])
_TEXT = st.text(min_size=1, max_size=12).map(lambda text: text.replace("\0", "_")) | st.binary(
    min_size=1, max_size=6
).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"_")))
_ANY_PATH = st.lists(_TEXT, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))


@settings(database=None, deadline=None, max_examples=100)
@given(
    st.dictionaries(_ANY_PATH, st.integers(1, 15), max_size=12),
    st.lists(st.tuples(st.sampled_from(["connect", "bind"]), st.just("unix"), _TEXT, st.just(0)), max_size=3),
    st.lists(_ANY_PATH, max_size=3),
    _TEXT,
)
def test_whatever_was_seen_the_text_is_a_profile_and_says_no_more(
    paths: dict[str, int], facts: list[tuple[str, str, str, int]], programs: list[str], command: str
) -> None:
    """Names are chosen by whoever is observed: none becomes a rule of its own."""
    run = {
        "calls": {"openat": 3}, "paths": paths, "facts": [*facts, *(("program", path) for path in programs)], "peak": {"tasks": 1},
        "capabilities": {"CHOWN": f"chown {command}"}, "top": [path.split("/")[1] for path in paths], "refused": [], "uid": 0,
        "full": False, "mounts": [(path, False) for path in programs], "network": "none",
    }  # fmt: skip
    seen = learn_record.merge(learn_record.Record(commands=[command]), learn_record.of_run(run, {}))
    base = _default()
    text = learn_write.whole(learn_write.Source(base, "default", seen))
    text.encode()
    assert learn_record.read("x", text, force=False) == seen
    profile = language.parse("/x/mine.toml", text, lambda word: base)
    assert profile.capabilities == ("CAP_CHOWN",) and profile.settings["network.mode"] == "none"
    folders = set(paths) | {above for path in paths for above in map(str, Path(path).parents)}
    for key in ("read", "write", "execute"):
        for path in profile.settings.get(f"landlock.{key}", ()):
            assert path.isprintable() and (path in folders or path.startswith(("/tmp", "/var/tmp", "/dev", "/proc")))


@pytest.mark.parametrize("folders", [3, 300])
def test_patterns_are_few(folders: int) -> None:
    seen = {f"/srv/{a}/{b}/f{c}": 4 for a in range(folders) for b in range(4) for c in range(3)}
    places = learn_paths.generalise({**seen, "/root/.ssh/key": 4, "/root/a": 4})
    assert len(places) < 151
    assert all(any(place.covers(path) for place in places) for path in seen)
    assert not any(place.covers("/root/.ssh/key") for place in places)
