"""A container's log keeps whole lines, and to its size, however much comes at once."""

import os

import pytest

from sandbox.logs import OLDER, PATH, Log


@pytest.mark.parametrize("pieces", [1, 7, 500])
def test_rotated_between_lines(tmp_path, monkeypatch, pieces):
    monkeypatch.chdir(tmp_path)
    log = Log(20_480)
    lines = [b"%d\n" % number for number in range(3000)]
    for start in range(0, 3000, 3000 // pieces):
        log.write("stdout", b"".join(lines[start : start + 3000 // pieces]))
    kept = []
    for name in (OLDER, PATH):
        assert os.path.getsize(name) <= 20_480
        with open(name, "rb") as file:
            kept += [line.split(b" ", 3)[3] for line in file]
    assert kept == lines[-len(kept) :]
    assert len(kept) > 400


def test_a_line_that_is_longer_than_the_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = Log(1000)
    for line in (b"before\n", b"x" * 5000 + b"\n", b"after\n"):
        log.write("stderr", line)
    assert os.path.getsize(OLDER) > 5000
    with open(PATH, "rb") as file:
        assert file.read().endswith(b" stderr F after\n")
