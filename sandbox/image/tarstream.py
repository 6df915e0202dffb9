"""Read tar headers from a pipe, strictly: ustar, GNU and PAX, sparse files included.  (cold)

Own reader, because tarfile reads headers of any size into memory, guesses at broken ones, and takes three times as
long.  Nothing is extracted here.  Formats: POSIX pax(1), the GNU tar manual's "Basic Tar Format" and "Sparse Formats";
where readers differ (global headers, data of links, bytes after the end marker), Go's archive/tar is followed, because
that is what the tools use that made the image.
"""

from typing import BinaryIO

from sandbox.image import limits
from sandbox.image.tarheader import (
    BLOCK,
    Entry,
    TarError,
    decimal,
    entry_of,
    number,
    pax_records,
    split_name,
    text,
    time_of,
    verify,
)

_ZERO = bytes(BLOCK)
_CHUNK = 1 << 18


def _too_much(why: str, limit: str) -> TarError:
    found = TarError(why)
    found.hint = limits.raised(limit)
    return found


class TarStream:
    """Entries of the tar that `file` (a blocking, buffered reader) delivers, in order."""

    def __init__(
        self,
        file: BinaryIO,
        entries: int = limits.LAYER_ENTRIES,
        size: int = limits.LAYER_BYTES,
        *,
        seekable: bool = False,
    ) -> None:
        self._file = file
        self._seekable = seekable
        self._left = 0  # data bytes of the current member not read yet
        self._padding = 0
        self._room = size
        self._most = size
        self._entries = entries
        self.count = 0
        self.bytes = 0  # of all files as they shall be
        self.offset = 0  # of the next byte to read
        self.complete = False  # the end marker was there

    # -- bytes --

    def _exact(self, count: int) -> bytes:
        got = self._file.read(count)
        if len(got) != count:
            raise TarError("the archive ends in the middle")
        self.offset += count
        return got

    def read(self, count: int) -> bytes:
        """Up to `count` bytes of the current member; b"" at its end."""
        count = min(count, self._left)
        if not count:
            return b""
        got = self._exact(count)
        self._left -= count
        return got

    def _skip(self) -> None:
        left = self._left + self._padding
        if left and self._seekable:
            self.offset += left
            if self._file.seek(self.offset - 1) < 0 or len(self._file.read(1)) != 1:
                raise TarError("the archive ends in the middle")
            left = 0
        while left:
            left -= len(self._exact(min(left, _CHUNK)))
        self._left = self._padding = 0

    def drain(self) -> None:
        """Read what follows the end marker, so that the writer can hash it."""
        while got := self._file.read(_CHUNK):
            self._room -= len(got)
            self._check_room()

    def _check_room(self) -> None:
        if self._room < 0:
            raise _too_much(f"more than {self._most >> 20} MiB unpacked", "LAYER_BYTES")

    # -- headers --

    def next(self) -> Entry | None:
        """The next member, its data unread; None at the end."""
        self._skip()
        pax: dict[str, str] = {}
        sparse_map: list[str] = []
        xattrs: dict[str, bytes] = {}
        long_name = long_link = None
        extended = 0
        while True:
            block = self._file.read(BLOCK)
            if not block and not pax and long_name is None and long_link is None:
                return None
            if len(block) != BLOCK:
                raise TarError("the archive ends in the middle")
            self.offset += BLOCK
            if block == _ZERO:
                self.complete = True
                return None
            flag = block[156:157]
            verify(block)
            if flag in (b"x", b"X", b"g", b"L", b"K"):
                extended += 1
                if extended > limits.TAR_EXTRA_HEADERS:
                    raise TarError(f"more than {limits.TAR_EXTRA_HEADERS} extended headers for one entry")
                payload = self._extra(block)
                if flag in (b"x", b"X"):
                    pax_records(payload, pax, xattrs, sparse_map)
                elif flag == b"L":
                    long_name = text(payload)
                elif flag == b"K":
                    long_link = text(payload)
                continue  # global headers have no effect, as in Go
            entry = entry_of(block, flag)
            if long_name is not None:
                entry.name = long_name
            if long_link is not None:
                entry.linkname = long_link
            self._apply(entry, block, flag, pax, xattrs, sparse_map)
            return entry

    def _extra(self, block: bytes) -> bytes:
        size = number(block[124:136])
        if not 0 <= size <= limits.TAR_EXTRA_BYTES:
            raise TarError(f"an extended header of {size} bytes")
        payload = self._exact(size)
        self._exact(-size % BLOCK)
        return payload

    def _apply(
        self,
        entry: Entry,
        block: bytes,
        flag: bytes,
        pax: dict[str, str],
        xattrs: dict[str, bytes],
        sparse_map: list[str],
    ) -> None:
        """Extended headers over the plain one, then the checks, then the place of the data."""
        if pax:
            entry.name = pax.get("path") or entry.name
            entry.linkname = pax.get("linkpath") or entry.linkname
            if "size" in pax:
                entry.size = entry.stored = decimal(pax["size"], "size")
            if "uid" in pax:
                entry.uid = decimal(pax["uid"], "uid")
            if "gid" in pax:
                entry.gid = decimal(pax["gid"], "gid")
            if "mtime" in pax:
                entry.mtime = time_of(pax["mtime"])
        entry.xattrs = xattrs
        if flag in (b"0", b"\0", b"7") and entry.name.endswith("/"):
            entry.kind = "dir"  # as tar wrote them before there was a type for it
        if entry.kind != "file":
            entry.size = entry.stored = 0
        if entry.size < 0 or entry.uid < 0 or entry.gid < 0:
            raise TarError(f"entry `{entry.name[:200]}` has a negative size or id")
        self._left = entry.stored
        self._padding = -entry.stored % BLOCK
        if entry.kind == "file" and flag == b"S":
            self._old_sparse(entry, block)
        elif entry.kind == "file" and pax:
            self._pax_sparse(entry, pax, sparse_map)
        entry.parts = split_name(entry.name)
        self.count += 1
        self.bytes += entry.size
        self._room -= entry.size
        self._check_room()
        if self.count > self._entries:
            limit = "ARCHIVE_MEMBERS" if self._seekable else "LAYER_ENTRIES"
            raise _too_much(f"more than {self._entries} entries", limit)

    # -- sparse files --

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        """GNU's own: four parts in the header, 21 in each block that follows."""
        found: list[tuple[int, int]] = []

        def take(raw: bytes, count: int) -> None:
            for at in range(0, 24 * count, 24):
                if raw[at + 12 : at + 24].strip(b"\0 "):
                    found.append((number(raw[at : at + 12]), number(raw[at + 12 : at + 24])))

        take(block[386:482], 4)
        extended = block[482]
        entry.size = number(block[483:495])
        while extended:
            more = self._exact(BLOCK)
            take(more, 21)
            extended = more[504]
            if len(found) > limits.SPARSE_PARTS:
                raise TarError("a sparse file of too many parts")
        self._set_sparse(entry, found)

    def _pax_sparse(self, entry: Entry, pax: dict[str, str], sparse_map: list[str]) -> None:
        if "GNU.sparse.name" in pax:
            entry.name = pax["GNU.sparse.name"]
        if pax.get("GNU.sparse.major") == "1" and pax.get("GNU.sparse.minor") == "0":
            entry.size = decimal(pax.get("GNU.sparse.realsize", ""), "sparse size")
            numbers = self._map_in_data()
        elif "GNU.sparse.map" in pax or sparse_map:
            entry.size = decimal(pax.get("GNU.sparse.size", ""), "sparse size")
            numbers = [decimal(n, "sparse map") for n in (sparse_map or pax["GNU.sparse.map"].split(","))]
        else:
            return
        if len(numbers) % 2:
            raise TarError("a sparse map with an odd count of numbers")
        self._set_sparse(entry, list(zip(numbers[::2], numbers[1::2], strict=True)))

    def _map_in_data(self) -> list[int]:
        """PAX 1.0: the map is decimal lines at the start of the data, padded to a block."""
        raw = b""
        wanted = 1  # numbers to come, the count first
        while raw.count(b"\n") < wanted:
            block = self.read(BLOCK)
            if len(block) != BLOCK or len(raw) > limits.TAR_EXTRA_BYTES:
                raise TarError("a sparse map without end")
            raw += block
            head, newline, _ = raw.partition(b"\n")
            if newline:
                count = decimal(head.decode("ascii", "replace"), "sparse map")
                if count > limits.SPARSE_PARTS:
                    raise TarError("a sparse file of too many parts")
                wanted = 1 + 2 * count
        return [decimal(line.decode("ascii", "replace"), "sparse map") for line in raw.split(b"\n")[1:wanted]]

    def _set_sparse(self, entry: Entry, found: list[tuple[int, int]]) -> None:
        if len(found) > limits.SPARSE_PARTS:
            raise TarError("a sparse file of too many parts")
        end = total = 0
        for offset, length in found:
            if offset < end or length < 0:
                raise TarError("a sparse map whose parts overlap")
            end = offset + length
            total += length
        if end > entry.size or entry.size < 0 or total != self._left:
            raise TarError("a sparse map that does not fit its file")
        entry.sparse = [part for part in found if part[1]]
