"""Profile files that are not exactly right: each is an error that names file, line, key and the nearest name."""

import re
import time

import pytest
from support import SLOWER

from sandbox.errors import SandboxError
from sandbox.profile import calls, language, load, schema
from sandbox.profile.policy import Answer

GOOD = """\
description = "a test"

[capabilities]
keep = ["CHOWN", "CAP_KILL"]

[process]
noNewPrivileges = true

[rlimits]
nofile = { soft = 256, hard = 1024 }
core = 0
stack = "unlimited"

[filesystem]
maskedPaths = ["/proc/kcore"]
readonlyPaths = []

[seccomp]
defaultAction = "SCMP_ACT_ERRNO"
defaultErrnoRet = "ENOSYS"
groups = ["@file-io", "@process"]

[[seccomp.syscalls]]
names = ["personality"]
action = "SCMP_ACT_ALLOW"
args = [{ index = 0, op = "SCMP_CMP_EQ", value = 0 }]

[[seccomp.syscalls]]
names = ["@mount", "ptrace"]
action = "SCMP_ACT_ERRNO"
errnoRet = 1
comment = "no"
"""


def wrong(text: str) -> SandboxError:
    with pytest.raises(SandboxError) as caught:
        language.parse("/x/test.toml", text)
    assert caught.value.step == "read profile"
    assert caught.value.code == 125
    return caught.value


def test_a_good_profile_becomes_a_fragment() -> None:
    profile = language.parse("/x/test.toml", GOOD)
    assert profile.fragment() == {
        "process": {
            "capabilities": ["CAP_CHOWN", "CAP_KILL"],
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "soft": 256, "hard": 1024},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                {"type": "RLIMIT_STACK", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1},
            ],
            "noNewPrivileges": True,
        },
        "linux": {"maskedPaths": ["/proc/kcore"], "readonlyPaths": []},
    }
    assert profile.policy.answer("read") == Answer("SCMP_ACT_ALLOW")
    assert profile.policy.answer("umount2") == Answer("SCMP_ACT_ERRNO", 1)
    assert profile.policy.answer("personality", (8, 0, 0, 0, 0, 0)) == Answer("SCMP_ACT_ERRNO", 38)
    object_ = profile.policy.oci(calls.machine())
    assert object_["defaultErrnoRet"] == 38
    refused = next(entry for entry in object_["syscalls"] if "ptrace" in entry["names"])
    assert refused == {
        "names": ["mount", "pivot_root", "ptrace", "umount", "umount2"],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": 1,
    }


@pytest.mark.parametrize(("table", "key"), [(table, key) for table in schema.TABLES for key in schema.TABLES[table]])
def test_F01_every_misspelt_key_is_an_error_with_the_right_one_as_hint(table: str, key: str) -> None:
    typo = key[:-1] + ("" if len(key) > 4 else "q")
    if typo in schema.TABLES[table]:
        return
    extra = {
        "": f"{typo} = 1\n{GOOD}",
        "rlimits.*": GOOD.replace("{ soft = 256,", f"{{ {typo} = 1, soft = 256,"),
        "seccomp.syscalls": f"{GOOD}{typo} = 1\n",
        "seccomp.syscalls.args": GOOD.replace("{ index = 0,", f"{{ {typo} = 1, index = 0,"),
        "filesystem.mounts": f"{GOOD}\n[[filesystem.mounts]]\n{typo} = 1\n",
        "test": f"{GOOD}\n[[test]]\n{typo} = 1\n",
    }.get(table) or GOOD.replace(f"[{table}]\n", f"[{table}]\n{typo} = 1\n")
    if extra == GOOD:
        extra = f"{GOOD}\n[{table}]\n{typo} = 1\n"
    error = wrong(extra)
    assert f"unknown key `{typo}`" in error.detail
    assert "did you mean" in error.hint or len(key) < 4
    number = int(error.subject.rsplit(":", 1)[1])
    assert re.search(rf"\b{typo}\b", extra.splitlines()[number - 1])


_KINDS = {"a string": '"false"', "a number": "3", "a flag": "true", "a list": "[1]", "a table": "{ x = 1 }",
          "a fraction": "1.5", "a date": "2024-01-01"}  # fmt: skip
_RIGHT = {
    "description": {"a string"}, "keep": set(), "noNewPrivileges": {"a flag"}, "core": {"a number"},
    "maskedPaths": set(), "defaultAction": set(), "defaultErrnoRet": {"a number"}, "groups": set(),
    "names": set(), "action": set(), "errnoRet": {"a number"}, "args": set(), "comment": {"a string"},
    "capabilities": set(), "process": set(), "rlimits": set(), "filesystem": set(), "seccomp": set(),
}  # fmt: skip


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("key", _RIGHT)
def test_F02_wrong_types_are_errors(key: str, kind: str) -> None:
    value = _KINDS[kind]
    if f"[{key}]" in GOOD:  # a table: replaced as a whole
        lines = f"{key} = {value}\n" + re.sub(rf"\n\[{key}\]\n(?:[^\[].*\n|\n)*", "\n", GOOD)
        lines = re.sub(r"\n\[\[seccomp\.syscalls\]\]\n(?:[^\[].*\n|\n)*", "\n", lines) if key == "seccomp" else lines
    else:
        lines = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", GOOD)
    if kind in _RIGHT[key]:
        language.parse("/x/test.toml", lines)
        return
    error = wrong(lines)
    assert error.detail and error.subject.startswith("/x/test.toml")


@pytest.mark.parametrize(
    ("old", "new", "line", "detail", "hint"),
    [
        ('"CHOWN"', '"SYS_ADMNI"', 4, "unknown capability `SYS_ADMNI`", "SYS_ADMIN"),
        ('["CHOWN", "CAP_KILL"]', '"ALL"', 4, "must be a list of strings, not a string", ""),
        ("nofile =", "nofiles =", 10, "unknown key `nofiles`", "`nofile`"),
        ("soft = 256", "soft = 2048", 10, "soft 2048 is above hard 1024", ""),
        ("soft = 256,", "", 10, "must have both `soft` and `hard`", ""),
        ("soft = 256", "soft = { a = 1 }", 10, "must be a number", ""),
        ("core = 0", "core = -1", 11, "must be a number of 0 or more", ""),
        ('"/proc/kcore"', '"proc/kcore"', 15, "absolute path", ""),
        ('"/proc/kcore"', '"/proc/../etc"', 15, "absolute path", ""),
        ('"SCMP_ACT_ERRNO"\ndefault', '"SCMP_ACT_ERNO"\ndefault', 19, "unknown action", "SCMP_ACT_ERRNO"),
        ('"SCMP_ACT_ERRNO"\ndefault', '"SCMP_ACT_NOTIFY"\ndefault', 19, "not supported", ""),
        ('"ENOSYS"', '"ENOSY"', 20, "unknown error `ENOSY`", "ENOSYS"),
        ('"ENOSYS"', "0", 20, "between 1 and 4095", ""),
        ('defaultErrnoRet = "ENOSYS"\n', "", 19, "must have the key `defaultErrnoRet`", ""),
        ('"@file-io"', '"@file-oi"', 21, "unknown group `@file-oi`", "@file-io"),
        ('["personality"]', '["personalty"]', 24, "unknown system call `personalty`", "`personality`"),
        ('["personality"]', "[]", 24, "must not be empty", ""),
        ('["personality"]', '["read"]', 24, "allowed by @file-io whatever", "refuses the rest"),
        ("index = 0", "index = 6", 26, "between 0 and 5", ""),
        ("index = 0, ", "", 26, "must have the key `index`", ""),
        ('"SCMP_CMP_EQ"', '"SCMP_CMP_EQUAL"', 26, "unknown operator", "SCMP_CMP_EQ"),
        ("value = 0", "value = 0x100000000", 26, "does not fit in 32 bits", "width"),
        ("value = 0", "value = -1", 26, "does not fit", ""),
        ("value = 0", "value = []", 26, "compares with one value", ""),
        ("value = 0", "value = 0, width = 16", 26, "32 or 64", ""),
        ("value = 0", "value = 0, valueTwo = 1", 26, "`valueTwo`", ""),
        ('"SCMP_CMP_EQ", value = 0', '"SCMP_CMP_MASKED_EQ", value = 1, valueTwo = 2', 26, "never be true", ""),
        ('"SCMP_CMP_EQ", value = 0', '"SCMP_CMP_LT", value = 0', 26, "never be true", ""),
        ("value = 0 }", "value = 0 }, { index = 0, op = 'SCMP_CMP_EQ', value = 1 }", 26, "only once", "second rule"),
        ('"@mount", "ptrace"', '"@mount", "ptrace", "personality", "mount"', 0, "", ""),
        ("errnoRet = 1", 'errnoRet = "EPREM"', 31, "unknown error `EPREM`", "EPERM"),
        ("\n[process]", "\n[proces]", 6, "unknown key `proces`", "`process`"),
        ("[filesystem]", "[[filesystem]]", 14, "must be a table", ""),
        ('description = "a test"', 'description = "a test', 1, "not TOML", ""),
        ('description = "a test"', 'description = "a"\ndescription = "b"', 2, "not TOML", ""),
    ],
)  # fmt: skip
def test_F05_errors_name_the_line(old: str, new: str, line: int, detail: str, hint: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if not detail:
        language.parse("/x/test.toml", text)
        return
    error = wrong(text)
    assert detail in error.detail
    assert error.subject == f"/x/test.toml:{line}"
    assert hint in error.hint


def test_a_rule_that_is_never_reached_is_an_error() -> None:
    later = '\n[[seccomp.syscalls]]\nnames = ["ptrace"]\naction = "SCMP_ACT_ALLOW"\n'
    error = wrong(GOOD + later)
    assert "`ptrace` is never reached here" in error.detail
    assert error.subject == f"/x/test.toml:{len(GOOD.splitlines()) + 3}"


@pytest.mark.parametrize("table", ["capabilities", "filesystem", "seccomp"])
def test_nothing_is_assumed_for_a_missing_table(table: str) -> None:
    text = re.sub(rf"\n\[{table}\]\n(?:[^\[].*\n|\n)*", "\n", GOOD)
    if table == "seccomp":
        text = re.sub(r"\n\[\[seccomp\.syscalls\]\]\n(?:[^\[].*\n|\n)*", "\n", text)
    assert f"the table [{table}] is missing" in wrong(text).detail


def test_unknown_calls_of_newer_kernels_can_be_marked_optional() -> None:
    text = GOOD + '\n[[seccomp.syscalls]]\nnames = ["call_of_2030", "getcpu"]\naction = "SCMP_ACT_ALLOW"\n'
    assert "unknown system call `call_of_2030`" in wrong(text).detail
    profile = language.parse("/x/test.toml", text + "optional = true\n")
    assert profile.policy.answer("getcpu") == Answer("SCMP_ACT_ALLOW")


def test_no_new_privileges_is_on_when_not_said() -> None:
    text = GOOD.replace("[process]\nnoNewPrivileges = true\n", "")
    assert language.parse("/x/test.toml", text).no_new_privileges is True


@pytest.mark.parametrize("name", ["default", "unconfined"])
def test_built_in_profiles_are_right(name: str) -> None:
    path, _ = load.find(name)
    assert language.parse(path, load.read(path)).description


def test_deep_nesting_is_an_error_and_not_a_crash() -> None:
    assert "not TOML" in wrong("x = " + "[" * 5000 + "]" * 5000).detail


BOMBS = {
    "digits": "[process]\ntimeout = " + "9" * 5000,
    "bits": "[limits.pids]\nlimit = 0x" + "f" * 100000,
    "bits of a list": '[[seccomp.syscalls]]\nnames = ["ioctl"]\naction = "SCMP_ACT_ALLOW"\n'
                      'args = [{ index = 0, op = "SCMP_CMP_EQ", value = [0x' + "f" * 9000 + "] }]",
    "blanks": "misspelt = 1\n[process]\n#\n[" + " " * 20000 + "]",
    "blanks in quotes": 'misspelt = 1\ndescription = """\n[' + " " * 20000 + '\n"""',
    "a long word": '[capabilities]\nkeep = ["' + "A-" * 200000 + '"]',
    "all of six arguments": '[[seccomp.syscalls]]\nnames = ["ioctl"]\naction = "SCMP_ACT_ALLOW"\nargs = ['
                            + ", ".join(f'{{ index = {n}, op = "SCMP_CMP_NE", value = {n + 5} }}' for n in range(6)) + "]",
    "a hundred thousand values": '[[seccomp.syscalls]]\nnames = ["ioctl"]\naction = "SCMP_ACT_ALLOW"\n'
                                 f'args = [{{ index = 1, op = "SCMP_CMP_EQ", value = {list(range(100000))} }}]',
    "rules that overlap": "".join(f'[[seccomp.syscalls]]\nnames = ["ioctl"]\naction = "SCMP_ACT_ALLOW"\n'
                                  f'args = [{{ index = {n % 6}, op = "SCMP_CMP_NE", value = {n} }}]\n' for n in range(4000)),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_take_for_ever_is_an_error_at_once(name: str) -> None:
    started = time.monotonic()
    with pytest.raises(SandboxError) as caught:
        language.parse("/x/test.toml", f'extends = "default"\n{BOMBS[name]}\n', lambda word: load.effective(word)[0])
    assert time.monotonic() - started < 15 * SLOWER
    assert caught.value.step in ("read profile", "compile seccomp filter") and len(str(caught.value)) < 1000


@pytest.mark.parametrize("key", ["read", "write", "execute"])
def test_a_line_break_in_a_path_adds_no_rule(key: str) -> None:
    """Landlock's rules travel as lines."""
    error = wrong(f'{GOOD}\n[landlock]\n{key} = ["/data/x\\n{key} /"]\n')
    assert "without `..` and line breaks" in error.detail
