"""One header of a tar: its fields and their numbers, PAX records, names.  (cold)

Formats: POSIX pax(1), and the GNU tar manual's "Basic Tar Format".  Everything here is pure, and a TarError when it is broken.
"""

from sandbox.errors import SandboxError
from sandbox.image import limits

BLOCK = 512
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


def text(raw: bytes) -> str:
    """A field that ends with a zero byte, or is full."""
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def number(raw: bytes) -> int:
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


def decimal(word: str, what: str) -> int:
    """A number in a PAX record."""
    if not (word.isascii() and word.isdigit() and len(word) <= 19):
        raise TarError(f"{what} is not a number")
    return int(word)


def time_of(word: str) -> int:
    """PAX time, decimal seconds with a fraction, as nanoseconds, exactly."""
    whole, _, fraction = word.partition(".")
    sign = -1 if whole.startswith("-") else 1
    seconds = decimal(whole.lstrip("-") or "0", "mtime")
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        raise TarError("mtime is not a number")
    return sign * (seconds * 10**9 + int((fraction + "0" * 9)[:9]))


def verify(block: bytes) -> None:
    """TarError when the checksum of a header block is wrong."""
    told = number(block[148:156])
    unsigned = sum(block) - sum(block[148:156]) + 256
    if told == unsigned:
        return
    signed = sum(b - 256 if b > 127 else b for b in block[:148] + block[156:]) + 256  # old Sun and NeXT tars
    if told != signed:
        raise TarError("a header has a wrong checksum")


def pax_records(payload: bytes, pax: dict[str, str], xattrs: dict[str, bytes], sparse_map: list[str]) -> None:
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
        said = value.decode("utf-8", "surrogateescape")
        if key in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
            sparse_map.append(said)
        else:
            pax[key] = said


def entry_of(block: bytes, flag: bytes) -> Entry:
    """What a plain header says, nothing checked but its form."""
    kind = _KINDS.get(flag)
    if kind is None:
        raise TarError(f"an entry of unknown type {flag!r}")
    entry = Entry()
    entry.kind = kind
    entry.name = text(block[:100])
    entry.mode = number(block[100:108]) & 0o7777
    entry.uid = number(block[108:116])
    entry.gid = number(block[116:124])
    entry.size = entry.stored = number(block[124:136])
    entry.mtime = number(block[136:148]) * 10**9
    entry.linkname = text(block[157:257])
    if block[257:263] == b"ustar\0":
        end = 476 if block[508:512] == b"tar\0" else 500  # star keeps times behind a shorter prefix
        prefix = text(block[345:end])
        if prefix:
            entry.name = f"{prefix}/{entry.name}"
    return entry


def error(step: str, subject: str, found: TarError) -> SandboxError:
    """`found` as every command shows it."""
    return SandboxError(step, subject, detail=str(found), hint=found.hint)
