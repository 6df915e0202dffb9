"""Decompress a stream of pieces: gzip, zstd, xz, bzip2, or plain; told apart by their first bytes.  (cold)

The first bytes decide, not the media type: tools write wrong ones.  Several members one after another are one stream
(pigz, eStargz and zstd:chunked write such); bytes that belong to no member are an error, and so is an end in the
middle.  Each step's output is bounded, so that a bomb's output comes in bearable portions and the reader can stop it.

gzip is most of what there is: isal (Intel's igzip) inflates twice as fast as zlib; where there is no wheel of it,
zlib does the same work.
"""

from collections.abc import Iterator
from typing import Any

from sandbox.errors import SandboxError
from sandbox.image import limits

_MAGIC = ((b"\x1f\x8b\x08", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"))
_PIECE = 1 << 16
_PIECE_ZSTD = 1 << 11  # four bytes of zstd may stand for 128 KiB
_WINDOW_ZSTD = 1 << 27  # zstd(1)'s own limit without --long
_OUT = 1 << 20


def kind(first: bytes) -> str:
    """ "gzip", "zstd", "xz", "bzip2" or "" (plain), from the first 6 bytes or more."""
    for magic, name in _MAGIC:
        if first.startswith(magic):
            return name
    if first[1:4] == b"\x2a\x4d\x18" and 0x50 <= first[0] <= 0x5F:
        return "zstd"  # a skippable frame may come first
    return ""


def _inflater() -> Any:
    """A decompressor object as zlib has it; 31 is 15 + 16: a gzip header is required."""
    try:
        from isal import isal_zlib

        return isal_zlib.decompressobj(31)
    except ImportError:
        import zlib

        return zlib.decompressobj(31)


class _Bounded:
    """gzip with bounded output per step; the interface of the other three."""

    def __init__(self) -> None:
        self._inner = _inflater()
        self._rest = b""

    def decompress(self, piece: bytes) -> bytes:
        made: bytes = self._inner.decompress(piece, _OUT)
        self._rest = self._inner.unconsumed_tail
        return made

    @property
    def pending(self) -> bytes:
        return self._rest

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        rest: bytes = self._inner.unused_data
        return rest


def _zstd() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14

        return zstd.ZstdDecompressor()
    except ImportError:
        pass
    try:
        import zstandard

        return zstandard.ZstdDecompressor(max_window_size=_WINDOW_ZSTD).decompressobj()
    except ImportError:
        raise SandboxError(
            "decompress", "zstd", detail="the Python package zstandard is not installed",
            hint="pip install zstandard, or convert the image to gzip layers",
        ) from None  # fmt: skip


def _member(name: str) -> Any:
    if name == "gzip":
        return _Bounded()
    if name == "zstd":
        return _zstd()
    try:
        if name == "xz":
            import lzma

            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 28)
        import bz2

        return bz2.BZ2Decompressor()
    except ImportError:
        raise SandboxError(
            "decompress", name, detail="this Python was built without it", hint="convert the file to gzip or plain tar"
        ) from None


def decompressed(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    """The plain bytes of `pieces`; SandboxError "decompress" for broken, truncated or trailing bytes, and for bombs."""
    first = b""
    stored = plain = 0

    def counted() -> Iterator[bytes]:
        nonlocal stored
        for piece in source:
            stored += len(piece)
            yield piece

    source, pieces = pieces, counted()
    for piece in pieces:
        first += piece
        if len(first) >= 6:
            break
    name = kind(first)
    if not name:
        if first:
            yield first
        yield from pieces
        return
    for piece in _members(name, first, pieces, what):
        plain += len(piece)
        if plain > limits.RATIO_FREE and plain > limits.RATIO * stored:
            raise SandboxError(
                "decompress", what, detail=f"grows more than {limits.RATIO} times: a decompression bomb",
                hint=limits.raised("RATIO"),
            )  # fmt: skip
        yield piece


def _step(member: Any, piece: bytes, name: str, what: str) -> bytes:
    try:
        made: bytes = member.decompress(piece)
    except Exception as error:  # zlib.error, ZstdError, LZMAError, OSError, EOFError: no common base
        raise SandboxError("decompress", what, detail=f"broken {name} stream: {error}") from None
    return made


def _members(name: str, first: bytes, pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    size = _PIECE_ZSTD if name == "zstd" else _PIECE
    member = _member(name)
    started = False
    for whole in _chain(first, pieces):
        for start in range(0, len(whole), size):
            piece = whole[start : start + size]
            while piece:
                if member.eof:
                    if not piece.startswith(b"\x1f") and name == "gzip":
                        raise SandboxError("decompress", what, detail="bytes after the end of the gzip stream")
                    member = _member(name)
                    started = False
                made = _step(member, piece, name, what)
                started = True
                if made:
                    yield made
                piece = member.unused_data if member.eof else getattr(member, "pending", b"")
    while not member.eof:
        # Output that was held back by its bound.
        made = _step(member, getattr(member, "pending", b""), name, what) if name == "gzip" else b""
        if not made:
            break
        yield made
    if not member.eof or not started:
        raise SandboxError("decompress", what, detail=f"the {name} stream ends in the middle")


def _chain(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces
