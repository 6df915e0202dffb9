"""What a container prints, to systemd's journal: a record for each line.  (launch, hot)

Source of the form: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/; of the names of the fields: podman, so that
`journalctl CONTAINER_NAME=web` finds both.  `sbx logs` reads them again: see life/logtext.py.
"""

import _socket
import select

from sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

SOCKET: "Final" = "/run/systemd/journal/socket"
_PATIENCE = 1000  # milliseconds that one record may wait for a journal that does not read
_PRIORITIES = {"stdout": b"6", "stderr": b"3"}


class Journal:
    """Takes what `Log` takes; SandboxError "open journal" when there is none."""

    def __init__(self, about: "dict[str, Any]", name: str) -> None:
        self.lost = 0  # bytes that the journal did not take
        self.sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        try:
            self.sock.connect(SOCKET)
        except OSError as error:
            raise SandboxError.of("open journal", SOCKET, error, "--log-driver k8s-file keeps a file") from None
        fields = {
            "SYSLOG_IDENTIFIER": name, "CONTAINER_NAME": name, "CONTAINER_ID": about["id"][:12], "CONTAINER_ID_FULL": about["id"],
            "IMAGE_NAME": str(about.get("image", "")),
        }  # fmt: skip
        lines = [f"{key}={value}\n" for key, value in fields.items() if "\n" not in value]
        self._head = "".join(lines).encode("utf-8", "surrogateescape")

    def write(self, stream: str, chunk: bytes) -> None:
        """Log `chunk`, which came from `stream` (stdout, stderr); a piece without its newline is marked, as podman does."""
        head = self._head + b"PRIORITY=" + _PRIORITIES[stream] + b"\n"
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._send(head + b"MESSAGE=" + line + b"\n")
        if rest:
            self._send(head + b"CONTAINER_PARTIAL_MESSAGE=true\nMESSAGE=" + rest + b"\n")

    def _send(self, record: bytes) -> None:
        for _ in range(2):
            try:
                self.sock.send(record, _socket.MSG_NOSIGNAL)
                return
            except BlockingIOError:
                poll = select.poll()
                poll.register(self.sock.fileno(), select.POLLOUT)
                # One that has not read for so long loses what comes now: the command must go on.
                if self.lost or not poll.poll(_PATIENCE):
                    break
            except OSError:
                if not self._again():  # it was started anew
                    break
        self.lost += len(record)

    def _again(self) -> bool:
        try:
            self.sock.connect(SOCKET)
        except OSError:
            return False
        return True
