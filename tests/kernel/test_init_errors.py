"""The init's last line of defence: whatever a step does, nothing of the keeper's code runs on in the container."""

import marshal
import os

import pytest

from sandbox import filters, init, linux
from sandbox.profile import load


def last_record(*steps):
    """Run steps in a child, as the keeper's child; (exit status, its last record or None)."""
    ours, theirs = linux.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            init.run([*steps], theirs, {})
        finally:
            os._exit(99)  # it came back: the keeper would go on as if it were outside
    os.close(theirs)
    record = None
    while message := linux.receive(ours):
        record = marshal.loads(message)
    os.close(ours)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), record


@pytest.mark.parametrize("length", [100, 50_000, 300_000, 3_000_000])
def test_names_longer_than_any_record(length):
    """Entrypoint and WorkingDir of an image may be as long as its config."""
    status, record = last_record(("cwd", "/" + "a" * length))
    assert status == 125
    step, subject, errno, *_ = record[1]
    assert (record[0], step, errno) == ("error", "change directory", 2 if length == 100 else 36)
    assert len(subject) <= 4099


def test_report_that_can_not_be_sent():
    """A lone step that writes more than the channel takes: the process ends all the same."""
    status, record = last_record(("tell", "x" * 3_000_000))
    assert status == 125
    assert (record[0], record[1][0]) == ("error", "tell")


def test_filter_that_is_not_in_force():
    """The call that it should refuse tells."""
    allow_all = b"\x06\0\0\0\0\0\xff\x7f"
    status, record = last_record(("no_new_privs",), ("seccomp", allow_all, b"", "clone3"))
    assert status == 125
    assert (record[0], record[1][0]) == ("error", "load filter")
    status, record = last_record(("no_new_privs",), ("seccomp", allow_all, b"", ""), ("execute", ("true",), ()))
    assert (status, record[0]) == (0, "ready")


@pytest.mark.parametrize("name", ["default", "strict", "ci-build", "podman", "nested"])
def test_ready_profiles_have_a_call_that_tells(name):
    assert filters.witness(load.load(name, "")["bpf"]) in ("clone3", "io_uring_setup")
