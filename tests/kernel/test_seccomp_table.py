"""Every system call number there is, made for real under the default profile, against what the profile says."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import seccomp_child as child
from seccomp_child import MACHINE, call, in_child

from sandbox.profile import calls, simulate
from sandbox.profile.policy import ERRNO, Answer

pytestmark = pytest.mark.requires("seccomp")

PROGRAM = child.default_program()
POLICY = child.default_policy()
NAMES = {number: name for name, number in calls.table(MACHINE).items()}
BAD = (-1,) * 6  # no descriptor, no address, no length: calls that get through fail without doing anything
BAD_64 = ((1 << 64) - 1,) * 6

# Allowed calls that do not come back, would end the process or its relatives, or start others, whatever they are given.
NOT_TRIED = {
    "exit", "exit_group", "pause", "fork", "vfork", "rt_sigreturn", "restart_syscall", "rt_sigsuspend", "kill", "tkill",
    "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal", "uretprobe", "uprobe", "sync", "alarm",
    "msgget",  # makes a queue that would stay
}  # fmt: skip


def said(number: int) -> Answer:
    return POLICY.answer(NAMES[number], BAD_64) if number in NAMES else POLICY.default


@pytest.mark.parametrize("number", range(700))
def test_number(number: int) -> None:
    answer = said(number)
    assert simulate.answer(PROGRAM, number, BAD_64, calls.MACHINES[MACHINE][0]) == answer
    if answer.action == ERRNO:
        assert in_child(lambda: call(number, *BAD), PROGRAM) == str(answer)
    elif NAMES[number] not in NOT_TRIED:
        outcome = in_child(lambda: call(number, *BAD), PROGRAM)
        assert outcome == in_child(lambda: child.confine(b"") or call(number, *BAD)), NAMES[number]
