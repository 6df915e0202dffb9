"""Seccomp profiles in docker's and OCI's JSON: conditions decided, everything unclear refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sandbox.errors import SandboxError
from sandbox.profile import calls, compile, foreign, simulate
from sandbox.profile.policy import Answer

NATIVE = calls.machine()
AUDIT, OCI_ARCH, _ = calls.MACHINES[NATIVE]
ALLOW, EPERM = Answer("SCMP_ACT_ALLOW"), Answer("SCMP_ACT_ERRNO", 1)

DOCKER: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
    ],
    "syscalls": [
        {"names": ["read", "write", "call_of_2030"], "action": "SCMP_ACT_ALLOW", "args": None, "comment": "", "includes": {}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["getcpu"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
        {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
        {"names": ["getppid"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_CHROOT"]}},
        {"names": ["gettid"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
        {"names": ["getuid"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["s390x"]}},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {"name": "getgid", "action": "SCMP_ACT_ALLOW"},
    ],
}  # fmt: skip


def write(tmp_path: Path, document: object) -> str:
    path = tmp_path / "seccomp.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def ask(program: bytes, name: str, *args: int) -> Answer:
    number = calls.number(name, NATIVE)
    assert number is not None
    return simulate.answer(program, number, (*args, *(0,) * (6 - len(args))), AUDIT)


def test_docker_conditions_are_decided_for_this_machine(tmp_path: Path) -> None:
    rules = foreign.read(write(tmp_path, DOCKER), ["CAP_SYS_CHROOT"])
    assert rules["architectures"] == [OCI_ARCH]
    program = compile.program(rules)
    wanted = {
        "read": ALLOW, "ptrace": ALLOW, "getcpu": EPERM, "bpf": EPERM, "chroot": ALLOW, "getppid": EPERM,
        "gettid": EPERM, "getuid": ALLOW, "clone3": Answer("SCMP_ACT_ERRNO", 38), "getgid": ALLOW, "fsopen": EPERM,
    }  # fmt: skip
    assert {name: ask(program, name) for name in wanted} == wanted
    assert ask(program, "clone", 17) == ALLOW
    assert ask(program, "clone", 0x10000011) == EPERM
    program = compile.program(foreign.read(write(tmp_path, DOCKER), ["CAP_BPF"]))
    assert [ask(program, name) for name in ("bpf", "chroot", "getppid")] == [ALLOW, EPERM, ALLOW]


@pytest.mark.skipif(not os.path.exists("/usr/share/containers/seccomp.json"), reason="probe: podman's profile")
def test_podmans_own_profile_compiles() -> None:
    rules = foreign.read("/usr/share/containers/seccomp.json", ["CAP_CHOWN"])
    program = compile.program(rules)
    assert ask(program, "read") == ALLOW
    assert ask(program, "bpf") == EPERM
    assert ask(program, "personality", 8) == ALLOW
    assert ask(program, "personality", 0x40000) == Answer("SCMP_ACT_ERRNO", 38)
    if NATIVE == "x86_64":  # its map of architectures asks for the 32-bit entry
        assert simulate.answer(program, 3, (0,) * 6, 0x40000003) == ALLOW


def test_oci_form_keeps_its_own_meaning(tmp_path: Path) -> None:
    document = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [OCI_ARCH],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5},
            {"names": ["getpid"], "action": "SCMP_ACT_ERRNO"},
            {
                "names": ["kill"],
                "action": "SCMP_ACT_KILL_PROCESS",
                "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}],
            },
            {"names": ["dup"], "action": "SCMP_ACT_LOG"},
        ],
    }
    rules = foreign.read(write(tmp_path, document), [])
    assert rules["flags"] == ["SECCOMP_FILTER_FLAG_LOG"]
    program = compile.program(rules)
    assert ask(program, "getppid") == Answer("SCMP_ACT_ERRNO", 5)
    assert ask(program, "getpid") == EPERM  # the specification's default errno
    assert ask(program, "kill", 1, 9) == Answer("SCMP_ACT_KILL_PROCESS")
    assert ask(program, "kill", 1, 15) == ALLOW
    assert ask(program, "dup") == Answer("SCMP_ACT_LOG")


def test_an_unknown_call_that_was_to_be_refused_is_an_error(tmp_path: Path) -> None:
    document = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["unlnk"], "action": "SCMP_ACT_ERRNO"}]}
    with pytest.raises(SandboxError, match="unknown system call, and the default would allow it") as caught:
        compile.program(foreign.read(write(tmp_path, document), []))
    assert "`unlink" in caught.value.hint


def change(**changes: object) -> dict[str, Any]:
    return {**DOCKER, **changes}


def call(**changes: object) -> dict[str, Any]:
    return change(syscalls=[{"names": ["read"], "action": "SCMP_ACT_ALLOW", **changes}])


@pytest.mark.parametrize(
    ("document", "place", "detail"),
    [
        ([], "profile", "must be an object"),
        ({}, "defaultAction", "missing"),
        (change(defaultAction="SCMP_ACT_NOTIFY"), "defaultAction", "not supported"),
        (change(defaultAction="ALLOW"), "defaultAction", "unknown action"),
        (change(defaultAction=1), "profile.defaultAction", "must be of type str"),
        (change(defaultErrnoRet=True), "profile.defaultErrnoRet", "must be of type int"),
        (change(defaultErrnoRet=-1), "defaultErrnoRet", "between 0 and 4095"),
        (change(sycalls=[]), "profile.sycalls", "unknown key"),
        (change(listenerPath="/run/x"), "profile.listenerPath", "user notification"),
        (change(architectures=[OCI_ARCH]), "archMap", "must not stand beside"),
        (change(archMap=[{"architecture": "SCMP_ARCH_S390X"}]), "archMap", "does not list"),
        (change(flags=["SECCOMP_FILTER_FLAG_NEW"]), "flags", "unknown flag"),
        (call(names=[]), "syscalls[0]", "names no system call"),
        (call(names="read"), "syscalls[0].names", "must be of type list"),
        (call(names=[1]), "syscalls[0].names", "list of strings"),
        (call(name="write"), "syscalls[0]", "beside `names`"),
        (call(action="SCMP_ACT_NOTIFY"), "syscalls[0].action", "not supported"),
        (call(action=None), "syscalls[0]", "`action` is missing"),
        (call(arguments=[]), "syscalls[0].arguments", "unknown key"),
        (call(args=[{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]), "syscalls[0].args[0]", "between 0 and 5"),
        (call(args=[{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]), "syscalls[0].args[0]", "64 bits"),
        (call(args=[{"index": 0, "value": 1, "op": "EQ"}]), "syscalls[0].args[0]", "unknown operator"),
        (call(args=[{"index": 0, "op": "SCMP_CMP_EQ"}]), "syscalls[0].args[0]", "`value` is missing"),
        (call(args=[{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}] * 2), "syscalls[0].args", "compared twice"),
        (call(includes={"caps": ["CAP_SYS_ADMNI"]}), "syscalls[0].includes.caps", "unknown capability"),
        (call(includes={"minKernel": "new"}), "syscalls[0].includes.minKernel", "not a kernel version"),
        (call(includes={"kernel": "4.8"}), "syscalls[0].includes.kernel", "unknown key"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "defaultAction": "SCMP_ACT_ERRNO"}', "", "stands there twice"),
        ('{"defaultAction": NaN}', "", "not a JSON number"),
        ("{", "", "not JSON"),
        ("[" * 100000, "", ""),
        ("\x00\x01", "", "not JSON"),
        (" " * ((1 << 20) + 1), "", "larger than"),
    ],
)  # fmt: skip
def test_what_is_not_exactly_right_is_refused(tmp_path: Path, document: object, place: str, detail: str) -> None:
    path = write(tmp_path, document)
    with pytest.raises(SandboxError) as caught:
        foreign.read(path, [])
    assert caught.value.step == "read seccomp profile"
    assert detail in caught.value.detail
    assert caught.value.subject == (f"{path}: {place}" if place else path)


def test_a_refusal_that_a_plain_allow_swallows_is_an_error(tmp_path: Path) -> None:
    tiocsti = {
        "names": ["ioctl"],
        "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 1, "value": 0x5412, "op": "SCMP_CMP_EQ"}],
    }
    document = change(syscalls=[{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW"}, tiocsti])
    with pytest.raises(SandboxError, match="one entry refuses it and another one allows it"):
        foreign.read(write(tmp_path, document), [])


def test_contradicting_entries_are_an_error(tmp_path: Path) -> None:
    arg = {"args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}
    entries = [{"names": ["dup"], "action": "SCMP_ACT_ALLOW", **arg},
               {"names": ["dup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 9, **arg}]  # fmt: skip
    with pytest.raises(SandboxError, match="another rule answers the same call differently"):
        compile.program(foreign.read(write(tmp_path, change(syscalls=entries)), []))
