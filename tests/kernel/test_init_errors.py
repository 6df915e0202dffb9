"""The init's last line of defence: whatever a step does, nothing of the keeper's code runs on in the container."""

import marshal
import os

import pytest

from sandbox import init, linux


def last_record(step):
    """Run one step in a child, as the keeper's child; (exit status, its last record or None)."""
    ours, theirs = linux.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            init.run([step], theirs, {})
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
