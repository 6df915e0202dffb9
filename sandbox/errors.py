"""The one error type that users see, the exit codes, and the table of hints.  (core, hot)"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# Exit codes, as chroot(1), podman(1) and timeout(1) have them; anything else is the payload's own.
EXIT_TIMEOUT: "Final" = 124
EXIT_FAILED: "Final" = 125
EXIT_NOT_EXECUTABLE: "Final" = 126
EXIT_NOT_FOUND: "Final" = 127
EXIT_SIGNAL: "Final" = 128

EPERM, ENOENT, EIO, E2BIG, ENOEXEC, EBADF, EAGAIN, EACCES, EEXIST, ENODEV, ENOTDIR, EINVAL, ENOSPC, EROFS, EPIPE = (
    1, 2, 5, 7, 8, 9, 11, 13, 17, 19, 20, 22, 28, 30, 32,
)  # fmt: skip
EINTR, EBUSY, ENOSYS, ENOTEMPTY, ELOOP, EOVERFLOW, EOPNOTSUPP, EDQUOT = 4, 16, 38, 39, 40, 75, 95, 122

# What crosses a process boundary goes in one record of at most 64 KiB; names in images and on command lines may be longer.
_LONGEST = 4096

# (step, errno) -> cause and the command that checks or fixes it; errno 0 stands for any.
HINTS: dict[tuple[str, int], str] = {
    ("create user namespace", EPERM): "unprivileged user namespaces are restricted on this machine; "
    "`sbx doctor` names the setting and the smallest fix",
    ("use user namespace", 0): "the namespace was made, but has no rights: AppArmor may want a profile for sbx; "
    "`sbx doctor` names the setting and the smallest fix",
    ("create user namespace", ENOSPC): "the limit of user namespaces is reached or zero; "
    "check `sysctl user.max_user_namespaces`",
    ("create namespaces", ENOSPC): "a limit of namespaces is reached; check `sysctl -a | grep user.max_`",
    ("create namespaces", EPERM): "`sbx doctor` tries each namespace and names the one that is refused",
    ("map user ids", EPERM): "newuidmap needs its set-uid bit or file capabilities, and the range must be in "
    "/etc/subuid; `sbx doctor` checks both",
    ("map group ids", EPERM): "newgidmap needs its set-uid bit or file capabilities, and the range must be in "
    "/etc/subgid; `sbx doctor` checks both",
    ("mount proc", EPERM): "part of /proc is covered on this machine (a container?), so the kernel refuses a new one; "
    "give the outer container `--security-opt systempaths=unconfined`",
    ("mount overlay", EPERM): "the kernel refuses overlay mounts in a user namespace; "
    "use `--storage-driver fuse-overlayfs`",
    ("mount overlay", EINVAL): "the storage directory's file system can not be an overlay's upper layer; "
    "use `--storage-driver fuse-overlayfs` or set SBX_STORE to a directory on a local disk",
    ("open fuse device", EACCES): "/dev/fuse must be readable and writable for everyone; `chmod 666 /dev/fuse`",
    ("open fuse device", ENOENT): "load the fuse module, or pass /dev/fuse into the outer container",
    ("execute", ENOENT): "the command is not in the image, or its interpreter (first line, ELF loader) is missing",
    ("execute", EACCES): "the file is not executable for this user, or its file system is mounted noexec",
    ("execute", ENOEXEC): "the file is not a program of this machine's architecture, and has no `#!` line",
}


class SandboxError(Exception):
    """Something that sbx could not do, told in one line and one hint.

    ``step`` is a verb phrase in lower case ("mount overlay"), ``subject`` the object it was about (a path, a name),
    ``errno`` a number of errno(3) or 0, ``detail`` the words to use when errno has none that fit.
    ``code`` is the exit status of sbx.  Survives a process boundary through `as_tuple` and `from_tuple`.
    """

    def __init__(
        self,
        step: str,
        subject: str = "",
        errno: int = 0,
        detail: str = "",
        hint: str = "",
        code: int = EXIT_FAILED,
    ) -> None:
        super().__init__(step, subject, errno, detail)
        self.step = step
        self.subject = subject
        self.errno = errno
        self.detail = detail
        self.hint = hint or HINTS.get((step, errno), "") or HINTS.get((step, 0), "")
        self.code = code

    def __str__(self) -> str:
        text = self.step
        if self.subject:
            text += f" `{printable(self.subject)}`"
        cause = self.detail or (os.strerror(self.errno) if self.errno else "")
        return f"{text}: {printable(cause)}" if cause else text

    def as_tuple(self) -> tuple[str, str, int, str, str, int]:
        """Plain data for marshal; the inverse of `from_tuple`, but for words that no screen could show whole."""
        subject, detail, hint = (
            text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
            for text in (self.subject, self.detail, self.hint)
        )
        return (self.step, subject, self.errno, detail, hint, self.code)

    @classmethod
    def from_tuple(cls, data: tuple[str, str, int, str, str, int]) -> "SandboxError":
        return cls(*data)

    @classmethod
    def of(cls, step: str, subject: str, error: OSError, hint: str = "") -> "SandboxError":
        """Wrap an OSError of `step` on `subject`."""
        return cls(step, subject, error.errno or 0, "" if error.errno else str(error), hint)


class UsageError(SandboxError):
    """The command line itself is wrong: same shape and code, but typer shows the usage line with it."""


def printable(text: str) -> str:
    """`text` safe for a terminal: control characters, C1 and lone surrogates are escaped, never sent raw."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == " " else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def tell(message: str) -> None:
    """One line on stderr, in sbx's name.  Never raises: a closed stderr must not change an exit status."""
    try:
        os.write(2, f"sbx: {message}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def report(error: SandboxError) -> int:
    """Show `error` as every command shows it; returns its exit status."""
    tell(str(error))
    if error.hint:
        try:
            os.write(2, f"hint: {printable(error.hint)}\n".encode("utf-8", "backslashreplace"))
        except OSError:
            pass
    return error.code
