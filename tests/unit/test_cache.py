"""The cache of what is slow to compute: only our own files are read, and nobody else can put one there."""

import os
import stat
from pathlib import Path

import pytest

from sandbox import cache


def test_S02_results_that_others_have_left_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that allows everything, in a folder of somebody else that the environment names."""
    folder = str(tmp_path / "cache/profiles")
    cache.put(folder, "default|", {"bpf": b""})
    assert cache.get(folder, "default|") == {"bpf": b""}
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert cache.get(folder, "default|") is None


def test_S02_the_folder_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        cache.put(str(tmp_path / "sbx/profiles"), "k", 1)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "sbx").rglob("*")}
    assert stat.S_IMODE((tmp_path / "sbx").stat().st_mode) == 0o700
    assert sorted(set(modes.values())) == [0o600, 0o700]


@pytest.mark.parametrize("content", [b"", b"x", b"\xa9\x03", bytes(4096)])
def test_rubbish_is_no_result(tmp_path: Path, content: bytes) -> None:
    cache.put(str(tmp_path), "k", 1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert cache.get(str(tmp_path), "k") is None
