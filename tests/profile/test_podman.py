"""profiles/podman.toml against the JSON profile that podman installs: every call gets the same answer."""

import os

import pytest

from sandbox.profile import calls, compile, foreign, load, simulate

JSON = "/usr/share/containers/seccomp.json"
ARGUMENTS = [(0,) * 6, (16, 3, 9, 0, 0, 0), (2, 1, 0, 0, 0, 0), (0x10000000, 0, 0, 0, 0, 0), (0x40000, 0, 0, 0, 0, 0)]


@pytest.mark.skipif(not os.path.exists(JSON), reason="podman's profile is not installed")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the table is of x86_64")
def test_every_call_is_answered_as_podman_answers_it() -> None:
    profile = load.effective("podman")[0]
    program = compile.program(foreign.read(JSON, list(profile.capabilities)))
    arch = calls.MACHINES["x86_64"][0]
    different = {
        (name, arguments): (str(profile.policy.answer(name, arguments)), str(simulate.answer(program, number, arguments, arch)))
        for name, number in calls.table("x86_64").items()
        for arguments in ARGUMENTS
        if profile.policy.answer(name, arguments) != simulate.answer(program, number, arguments, arch)
    }  # fmt: skip
    assert different == {}
