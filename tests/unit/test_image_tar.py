"""The tar reader and the decompressors, against Python's and GNU's own tools."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from sandbox.errors import SandboxError
from sandbox.image import limits, scan
from sandbox.image.compression import decompressed, kind
from sandbox.image.tarheader import TarError, split_name
from sandbox.image.tarstream import TarStream
from sandbox.image.unpack import owner_record


def _read(raw: bytes) -> list[tuple[Any, bytes]]:
    stream = TarStream(io.BytesIO(raw))
    found = []
    while entry := stream.next():
        content = b""
        while piece := stream.read(1 << 16):
            content += piece
        found.append((entry, content))
    return found


def _tar(members: list[tuple[tarfile.TarInfo, bytes]], form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _info(name: str, **values: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(info, key, value)
    return info


_NAME = st.lists(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
        lambda t: t not in (".", "..")
    ),
    min_size=1,
    max_size=6,
).map("/".join)


@settings(max_examples=150)
@given(
    members=st.lists(
        st.tuples(
            _NAME, st.binary(max_size=1500), st.integers(0, 0o7777), st.integers(0, 2**31), st.integers(0, 2**31),
            st.integers(0, 2**33),
        ),
        max_size=5,
    ),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)  # fmt: skip
def test_reads_what_tarfile_writes(members: list[tuple[str, bytes, int, int, int, int]], form: int) -> None:
    raw = _tar(
        [(_info(n, size=len(c), mode=m, uid=u, gid=g, mtime=t), c) for n, c, m, u, g, t in members], form
    )  # fmt: skip
    found = [(e.name, c, e.mode, e.uid, e.gid, e.mtime) for e, c in _read(raw) if e.kind == "file"]
    assert found == [(n, c, m, u, g, t * 10**9) for n, c, m, u, g, t in members if not n.endswith("/")]


@settings(max_examples=300)
@given(raw=st.binary(max_size=3000), at=st.integers(0, 3000), byte=st.integers(0, 255))
def test_broken_archives_are_tar_errors_and_nothing_else(raw: bytes, at: int, byte: int) -> None:
    good = bytearray(
        _tar(
            [(_info("a" * 120, size=len(raw)), raw), (_info("b", type=tarfile.SYMTYPE, linkname="c"), b"")],
            tarfile.PAX_FORMAT,
        )
    )
    good[at % len(good)] = byte
    for data in (raw, bytes(good), bytes(good[: at % len(good)])):
        try:
            _read(data)
        except TarError:
            pass


def test_kinds_links_and_times() -> None:
    raw = _tar(
        [
            (_info("d", type=tarfile.DIRTYPE, mode=0o1777), b""),
            (_info("d/l", type=tarfile.SYMTYPE, linkname="x" * 300), b""),
            (_info("d/h", type=tarfile.LNKTYPE, linkname="d/f"), b""),
            (_info("p", type=tarfile.FIFOTYPE), b""),
            (_info("c", type=tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
            (_info("t", mtime=1.25, pax_headers={"SCHILY.xattr.user.a": "v\udcff"}), b""),
        ],
        tarfile.PAX_FORMAT,
    )
    found = {e.name: e for e, _ in _read(raw)}
    assert [e.kind for e in found.values()] == ["dir", "symlink", "link", "fifo", "char", "file"]
    assert found["d/l"].linkname == "x" * 300
    assert found["t"].mtime == 1_250_000_000
    assert found["t"].xattrs == {"user.a": b"v\xff"}


@pytest.mark.parametrize("form", ["gnu", "posix"])
@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_sparse_files_of_gnu_tar(tmp_path: Path, form: str, version: str) -> None:
    if not shutil.which("tar"):
        pytest.skip("probe tar: GNU tar is not installed")
    hole = tmp_path / "hole"
    with hole.open("wb") as file:
        for number in range(30):
            file.seek(number * 131072)
            file.write(bytes([number + 1]) * 4096)
        file.truncate(30 * 131072 + 77)
    command = ["tar", f"--format={form}", "-S", "-cf", "-", "hole"]
    if form == "posix":
        command.insert(2, f"--sparse-version={version}")
    raw = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout
    [(entry, stored)] = _read(raw)
    assert entry.name == "hole"
    assert entry.size == hole.stat().st_size
    assert entry.sparse
    rebuilt = bytearray(entry.size)
    for offset, length in entry.sparse:
        rebuilt[offset : offset + length], stored = stored[:length], stored[length:]
    assert bytes(rebuilt) == hole.read_bytes()
    assert stored == b""


@pytest.mark.parametrize("name", ["..", "a/../b", "../x", "", "a\0b", "/" + "x" * 256, "a/" * 600, "y" * 5000])
def test_I01_names_that_are_refused(name: str) -> None:
    with pytest.raises(TarError):
        split_name(name)


def test_names_are_made_relative() -> None:
    assert split_name("//a/./b//c/") == ["a", "b", "c"]
    assert split_name("./") == []


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh..", "a/.wh..."])
def test_whiteouts_of_nothing_and_of_dots(name: str) -> None:
    with pytest.raises(SandboxError, match=r"read layer `x`: entry .* hides"):
        scan.scan(io.BytesIO(_tar([(_info(name), b"")], tarfile.GNU_FORMAT)), "x")


def test_I09_limits_stop_the_reader() -> None:
    raw = _tar([(_info(str(n)), b"") for n in range(20)], tarfile.GNU_FORMAT)
    stream = TarStream(io.BytesIO(raw), entries=10)
    with pytest.raises(TarError, match="more than 10 entries"):
        while stream.next():
            pass
    huge = _info("x", size=1 << 40).tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(TarError, match="MiB unpacked"):
        TarStream(io.BytesIO(huge), size=1 << 30).next()
    long_name = _info("././@LongLink", type=b"L", size=1 << 30).tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(TarError, match="extended header of"):
        TarStream(io.BytesIO(long_name)).next()


def test_headers_without_an_entry_end() -> None:
    extra = _info("././@LongLink", type=b"L", size=1).tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")
    with pytest.raises(TarError, match="extended headers for one entry"):
        TarStream(io.BytesIO(extra * 100)).next()


def test_a_sparse_map_must_fit() -> None:
    header = bytearray(_info("s", type=b"S", size=512).tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\0" + b"00000010000\0"  # 4096 bytes at 0, but 512 are stored
    header[483:495] = b"00000020000\0"
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(TarError, match="does not fit"):
        TarStream(io.BytesIO(bytes(header) + bytes(512))).next()


# -- owners --


def _maps(*entries: tuple[int, int, int], variant: str = "", mode: str = "auto") -> dict[str, Any]:
    return {"mode": mode, "uid": list(entries), "gid": list(entries), "variant": variant}


def test_ids_outside_the_map_are_named_with_the_fix() -> None:
    found = scan.scan(
        io.BytesIO(_tar([(_info("a", uid=70000), b""), (_info("b", gid=5), b"")], tarfile.PAX_FORMAT)), "x"
    )
    with pytest.raises(SandboxError) as caught:
        scan.check_ids([found], _maps((0, 1000, 1), (1, 100000, 65536)), "img")
    assert "needs uids up to 70000, this map has 65537" in str(caught.value)
    assert "sudo usermod --add-subuids " in caught.value.hint
    first, last = caught.value.hint.split("--add-subuids ")[1].split()[0].split("-")
    assert int(last) - int(first) + 1 == 70000 + 1 - 65537
    scan.check_ids([found], _maps((0, 1000, 1), variant="single", mode="single"), "img")
    scan.check_ids([found], _maps((0, 1000, 1), (1, 100000, 100000)), "img")


def test_the_owner_record_is_the_published_protobuf() -> None:
    assert owner_record(0, 0) == b""
    assert owner_record(1, 0) == b"\x08\x01"
    assert owner_record(300, 65534) == b"\x08\xac\x02\x10\xfe\xff\x03"


# -- compression --


def _zstd(raw: bytes) -> bytes:
    if not shutil.which("zstd"):
        pytest.skip("probe zstd: the program is not installed")
    pytest.importorskip("zstandard", reason="probe zstandard: the package is not installed")
    return subprocess.run(["zstd", "-q", "-c"], input=raw, check=True, capture_output=True).stdout


def _pieces(raw: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(raw), size):
        yield raw[start : start + size]


_PACK = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress, "zstd": _zstd}


@pytest.mark.parametrize("name", _PACK)
def test_round_trip_members_and_truncation(name: str) -> None:
    raw = os.urandom(3000) + bytes(5_000_000) + os.urandom(100)
    packed = _PACK[name](raw)
    assert kind(packed) == name
    for size in (1 << 16, 1000):
        assert b"".join(decompressed(_pieces(packed, size), "x")) == raw
    assert b"".join(decompressed(_pieces(packed * 2, 777), "x")) == raw * 2
    for cut in (len(packed) - 1, len(packed) // 2, 7):
        with pytest.raises(SandboxError, match="decompress `x`"):
            list(decompressed(_pieces(packed[:cut], 1000), "x"))
    with pytest.raises(SandboxError, match="decompress `x`"):
        list(decompressed(_pieces(packed + b"trailing", 1000), "x"))


@given(st.binary(max_size=4000), st.integers(1, 300))
def test_plain_bytes_pass(raw: bytes, size: int) -> None:
    if not kind(raw):
        assert b"".join(decompressed(_pieces(raw, size), "x")) == raw


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_bomb_comes_in_small_pieces(name: str) -> None:
    packed = _PACK[name](bytes(64 << 20))
    assert max(len(piece) for piece in decompressed(_pieces(packed, 1 << 18), "x")) <= 65 << 20
    assert limits.RATIO * len(packed) < 64 << 20


# -- limits --


def test_limits_are_changed_by_name() -> None:
    assert limits.changed("ratio=1000, layer-bytes=20G,") == {"RATIO": 1000, "LAYER_BYTES": 20 << 30}
    assert limits.changed("") == {}


@pytest.mark.parametrize("text", ["ratio", "ratio=", "ratio=0", "ratio=-1", "ratio=1k", "id-max=5", "ratio=1e3", "=4"])
def test_limits_that_are_none(text: str) -> None:
    with pytest.raises(SandboxError, match=r"read SBX_LIMITS `.*`: not a limit with a number"):
        limits.changed(text)


def test_the_hint_doubles_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "SBX_LIMITS=layer-bytes=512G in" in limits.raised("LAYER_BYTES")
    assert "SBX_LIMITS=layer-entries=4000000 in" in limits.raised("LAYER_ENTRIES")
    for name in limits.CHANGEABLE:
        text = limits.raised(name).partition("SBX_LIMITS=")[2].partition(" ")[0]
        assert limits.changed(text) == {name: 2 * getattr(limits, name)}


# -- decompressors --


def test_zlib_serves_where_there_is_no_isal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same bytes, same refusals."""
    raw = os.urandom(300_000) + bytes(3 << 20)
    packed = gzip.compress(raw)
    for missing in (False, True):
        if missing:
            monkeypatch.setitem(sys.modules, "isal", None)
        assert b"".join(decompressed(iter([packed[:7], packed[7:]]), "x")) == raw
        for broken, words in (
            (packed[:-9], "ends in the middle"),
            (packed + b"more", "bytes after the end"),
            (packed[:-5] + b"\1" + packed[-4:], "broken gzip stream"),
        ):
            with pytest.raises(SandboxError, match=words):
                list(decompressed(iter([broken]), "x"))


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress, _zstd])
def test_a_bomb_is_cut_off_whatever_it_is_packed_with(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RATIO_FREE", 1 << 20)
    monkeypatch.setattr(limits, "RATIO", 10)
    got = 0
    with pytest.raises(SandboxError, match="grows more than 10 times: a decompression bomb"):
        for piece in decompressed(_pieces(pack(bytes(1 << 25)), 100), "x"):
            got += len(piece)
    assert got < 1 << 22
    harmless = os.urandom(1 << 16) + bytes(1 << 17)
    assert b"".join(decompressed(_pieces(pack(harmless), 1000), "x")) == harmless
