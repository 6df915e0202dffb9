"""A container's log: what its command prints, line by line with the time, in the form that podman calls k8s-file.  (launch, hot)

    2026-01-31T12:00:00.123456789+00:00 stdout F a whole line
    2026-01-31T12:00:00.123456789+00:00 stderr P a piece of a line: the rest follows

Bytes are kept as they are.  One chunk that was read at once has one time, so that a command that prints a million lines
costs one formatting and one write for each 64 KiB.
"""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

PATH: "Final" = "log"
OLDER: "Final" = "log.1"
# Bytes of each of the two, where nobody said how many: output must not fill the disk.
MOST: "Final" = 16 << 20


class Log:
    """Appends to `log` in the working directory; past `most` bytes (0: MOST) it becomes `log.1` and is begun anew."""

    def __init__(self, most: int = 0) -> None:
        self.most = most or MOST
        self.lost = 0  # bytes that a full disk did not take
        self._second, self._stamp = -1, ""
        self._open()

    def _open(self) -> None:
        # For the user, whose id may be another one; nobody else can enter the folder above.
        self.fd = os.open(PATH, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self.size = os.fstat(self.fd).st_size

    def write(self, stream: str, chunk: bytes) -> None:
        """Log `chunk`, which came from `stream` (stdout, stderr)."""
        head = f"{self._now()} {stream} "
        whole, partial = head.encode() + b"F ", head.encode() + b"P "
        body, newline, rest = chunk.rpartition(b"\n")
        data = b""
        if newline:
            data = whole + body.replace(b"\n", b"\n" + whole) + b"\n"
        if rest:
            data += partial + rest + b"\n"
        while data:
            data = self._append(data)

    def _append(self, data: bytes) -> bytes:
        """Write as many whole lines as there is room for, in a log begun anew if there is none; returns the rest."""
        rest = b""
        if len(data) > self.most - self.size:
            end = data.rfind(b"\n", 0, max(0, self.most - self.size)) + 1
            if not end and self.size:
                os.close(self.fd)
                os.rename(PATH, OLDER)
                self._open()
                return data
            end = end or data.index(b"\n") + 1  # a line that is longer than the log may be
            data, rest = data[:end], data[end:]
        self._put(data)
        return rest

    def _put(self, data: bytes) -> None:
        self.size += len(data)
        while data:
            try:
                data = data[os.write(self.fd, data) :]
            except OSError:
                # A full disk must not stop the command; how much is missing is recorded at its end.
                self.lost += len(data)
                self.size -= len(data)
                return

    def _now(self) -> str:
        """RFC 3339, in UTC, with nanoseconds."""
        nanoseconds = time.time_ns()
        second = nanoseconds // 1_000_000_000
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{nanoseconds % 1_000_000_000:09}+00:00"
