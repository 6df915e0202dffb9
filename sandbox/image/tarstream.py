"""Read tar headers from a pipe, strictly: ustar, GNU and PAX, sparse files included.  (cold)

Own reader, because tarfile reads headers of any size into memory, guesses at broken ones, and takes three times as
long.  Nothing is extracted here.  Formats: POSIX pax(1), the GNU tar manual's "Basic Tar Format" and "Sparse Formats";
where readers differ (global headers, data of links, bytes after the end marker), Go's archive/tar is followed, because
that is what the tools use that made the image.
"""

from typing import BinaryIO

from sandbox.errors import SandboxError
from sandbox.image import limits

BLOCK = 512
_ZERO = bytes(BLOCK)
_CHUNK = 1 << 18
_KINDS = {
    b"0": "file", b"\0": "file", b"7": "file", b"S": "file", b"1": "link", b"2": "symlink", b"3": "char", b"4": "block",
    b"5": "dir", b"6": "fifo",
}  # fmt: skip
_XATTR = "SCHILY.xattr."


class TarError(Exception):
    """The archive is broken; the caller knows its name."""

    hint = ""


class Entry:
    """One member.  Sizes in bytes, mtime in nanoseconds; `sparse` is [(offset, length)] of the stored parts."""

    __slots__ = (
        "gid",
        "kind",
        "linkname",
        "mode",
        "mtime",
        "name",
        "parts",
        "size",
        "sparse",
        "stored",
        "uid",
        "xattrs",
    )

    def __init__(self) -> None:
        self.name = self.linkname = ""
        self.kind = "file"
        self.mode = self.uid = self.gid = self.mtime = 0
        self.size = 0  # of the file as it shall be
        self.stored = 0  # of its data in the archive
        self.sparse: list[tuple[int, int]] | None = None
        self.xattrs: dict[str, bytes] = {}
        self.parts: list[str] = []  # `name` split by `split_name`


def _too_much(why: str, limit: str) -> TarError:
    found = TarError(why)
    found.hint = limits.raised(limit)
    return found


def split_name(name: str) -> list[str]:
    """Path parts without empty ones and dots; TarError for `..`, zero bytes and what no file system can hold."""
    if "\0" in name or not name:
        raise TarError("an entry has an empty name or one with a zero byte")
    parts = [part for part in name.split("/") if part and part != "."]
    if ".." in parts:
        raise TarError(f"entry `{name[:200]}` has a `..` in its path")
    if len(name) > limits.NAME_BYTES or len(parts) > limits.NAME_DEPTH:
        raise TarError(f"entry `{name[:80]}...` has a name that is too long or too deep")
    if any(len(part) > 60 and len(part.encode("utf-8", "surrogateescape")) > limits.PART_BYTES for part in parts):
        raise TarError(f"entry `{name[:80]}...` has a name of more than {limits.PART_BYTES} bytes")
    return parts


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(raw: bytes) -> int:
    """A numeric field: octal digits, or base 256 (GNU, star) when the first bit is set."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big", signed=False) & ((1 << (8 * len(raw) - 1)) - 1)
        if raw[0] & 0x40:
            value -= 1 << (8 * len(raw) - 1)
        return value
    digits = raw.strip(b" \0").partition(b"\0")[0].strip()
    if not digits:
        return 0
    try:
        if not digits.isdigit():
            raise ValueError
        return int(digits, 8)
    except ValueError:
        raise TarError("a number in a header is no octal number") from None


def _decimal(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise TarError(f"{what} is not a number")
    return int(text)


def _time(text: str) -> int:
    """PAX time, decimal seconds with a fraction, as nanoseconds, exactly."""
    whole, _, fraction = text.partition(".")
    sign = -1 if whole.startswith("-") else 1
    seconds = _decimal(whole.lstrip("-") or "0", "mtime")
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        raise TarError("mtime is not a number")
    return sign * (seconds * 10**9 + int((fraction + "0" * 9)[:9]))


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
            self._verify(block)
            if flag in (b"x", b"X", b"g", b"L", b"K"):
                extended += 1
                if extended > limits.TAR_EXTRA_HEADERS:
                    raise TarError(f"more than {limits.TAR_EXTRA_HEADERS} extended headers for one entry")
                payload = self._extra(block)
                if flag in (b"x", b"X"):
                    self._pax(payload, pax, xattrs, sparse_map)
                elif flag == b"L":
                    long_name = _text(payload)
                elif flag == b"K":
                    long_link = _text(payload)
                continue  # global headers have no effect, as in Go
            entry = self._entry(block, flag)
            if long_name is not None:
                entry.name = long_name
            if long_link is not None:
                entry.linkname = long_link
            self._apply(entry, block, flag, pax, xattrs, sparse_map)
            return entry

    @staticmethod
    def _verify(block: bytes) -> None:
        told = _number(block[148:156])
        unsigned = sum(block) - sum(block[148:156]) + 256
        if told == unsigned:
            return
        signed = sum(b - 256 if b > 127 else b for b in block[:148] + block[156:]) + 256  # old Sun and NeXT tars
        if told != signed:
            raise TarError("a header has a wrong checksum")

    def _extra(self, block: bytes) -> bytes:
        size = _number(block[124:136])
        if not 0 <= size <= limits.TAR_EXTRA_BYTES:
            raise TarError(f"an extended header of {size} bytes")
        payload = self._exact(size)
        self._exact(-size % BLOCK)
        return payload

    @staticmethod
    def _pax(payload: bytes, pax: dict[str, str], xattrs: dict[str, bytes], sparse_map: list[str]) -> None:
        """Records `LENGTH KEY=VALUE\\n`; LENGTH counts itself."""
        position = 0
        while position < len(payload):
            space = payload.find(b" ", position, position + 10)
            length = payload[position:space]
            if space < 0 or not length.isdigit():
                raise TarError("a PAX record without length")
            end = position + int(length)
            record = payload[space + 1 : end]
            raw_key, equals, value = record.partition(b"=")
            if not equals or not raw_key or end > len(payload) or not record.endswith(b"\n"):
                raise TarError("a broken PAX record")
            position = end
            value = value[:-1]
            key = raw_key.decode("utf-8", "surrogateescape")
            if key.startswith(_XATTR):
                xattrs[key[len(_XATTR) :]] = value
                if len(xattrs) > limits.XATTRS:
                    raise TarError(f"more than {limits.XATTRS} extended attributes")
                continue
            if b"\0" in value and key in ("path", "linkpath", "GNU.sparse.name"):
                raise TarError("a name with a zero byte")
            text = value.decode("utf-8", "surrogateescape")
            if key in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
                sparse_map.append(text)
            else:
                pax[key] = text

    def _entry(self, block: bytes, flag: bytes) -> Entry:
        kind = _KINDS.get(flag)
        if kind is None:
            raise TarError(f"an entry of unknown type {flag!r}")
        entry = Entry()
        entry.kind = kind
        entry.name = _text(block[:100])
        entry.mode = _number(block[100:108]) & 0o7777
        entry.uid = _number(block[108:116])
        entry.gid = _number(block[116:124])
        entry.size = entry.stored = _number(block[124:136])
        entry.mtime = _number(block[136:148]) * 10**9
        entry.linkname = _text(block[157:257])
        if block[257:263] == b"ustar\0":
            end = 476 if block[508:512] == b"tar\0" else 500  # star keeps times behind a shorter prefix
            prefix = _text(block[345:end])
            if prefix:
                entry.name = f"{prefix}/{entry.name}"
        return entry

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
                entry.size = entry.stored = _decimal(pax["size"], "size")
            if "uid" in pax:
                entry.uid = _decimal(pax["uid"], "uid")
            if "gid" in pax:
                entry.gid = _decimal(pax["gid"], "gid")
            if "mtime" in pax:
                entry.mtime = _time(pax["mtime"])
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
                    found.append((_number(raw[at : at + 12]), _number(raw[at + 12 : at + 24])))

        take(block[386:482], 4)
        extended = block[482]
        entry.size = _number(block[483:495])
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
            entry.size = _decimal(pax.get("GNU.sparse.realsize", ""), "sparse size")
            numbers = self._map_in_data()
        elif "GNU.sparse.map" in pax or sparse_map:
            entry.size = _decimal(pax.get("GNU.sparse.size", ""), "sparse size")
            numbers = [_decimal(n, "sparse map") for n in (sparse_map or pax["GNU.sparse.map"].split(","))]
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
                count = _decimal(head.decode("ascii", "replace"), "sparse map")
                if count > limits.SPARSE_PARTS:
                    raise TarError("a sparse file of too many parts")
                wanted = 1 + 2 * count
        return [_decimal(line.decode("ascii", "replace"), "sparse map") for line in raw.split(b"\n")[1:wanted]]

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


def error(step: str, subject: str, found: TarError) -> SandboxError:
    """`found` as every command shows it."""
    return SandboxError(step, subject, detail=str(found), hint=found.hint)
