"""`sbx login`: try a user name and password on a registry, and keep them where podman keeps them.  (cold)"""

import getpass
import os
import sys
from typing import Any

from sandbox.errors import SandboxError, UsageError, printable, tell
from sandbox.registry import credentials, keeping
from sandbox.registry.access import Access
from sandbox.registry.credentials import Credentials
from sandbox.registry.login import place, verify

_PASSWORD_BYTES = 64 << 10


def _from_stdin() -> str:
    raw = sys.stdin.buffer.read(_PASSWORD_BYTES + 1)
    if len(raw) > _PASSWORD_BYTES:
        raise SandboxError("read password", "stdin", detail=f"longer than {_PASSWORD_BYTES >> 10} KiB")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise SandboxError("read password", "stdin", detail="not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")


def _ask(opts: dict[str, Any], known: Credentials | None) -> tuple[str, str]:
    """User name and password from options, standard input or the terminal."""
    user, password = opts["username"], opts["password"]
    if opts["password_stdin"]:
        return user, _from_stdin()
    if user and password:
        return user, password
    if not os.isatty(0):
        raise SandboxError(
            "log in", detail="there is no terminal to ask for the password on",
            hint="sbx login -u USER --password-stdin HOST < FILE",
        )  # fmt: skip
    if not user:
        offered = f" ({printable(known.username)})" if known and known.username else ""
        os.write(2, f"Username{offered}: ".encode())
        user = sys.stdin.readline().rstrip("\n") or (known.username if known else "")
    return user, password or getpass.getpass("Password: ", sys.stderr)


def _checked(user: str, password: str) -> None:
    if not user or not password:
        raise SandboxError("log in", detail="user name and password must not be empty")
    if ":" in user or any(ord(char) < 32 or ord(char) == 127 for char in user + password):
        raise SandboxError("log in", detail="a colon in the user name, or control characters, can not be sent")


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Verify the credentials on the registry, then store them; nothing is stored that was refused."""
    host, repository = place(operands[0] if operands else "")
    key = keeping.key_of(host, repository)
    if opts["password_stdin"] and (not opts["username"] or opts["password"]):
        raise UsageError("log in", key, detail="--password-stdin goes with --username, and not with --password")
    # An auth file that is to be written need not be there yet.
    there = "" if opts["authfile"] and not os.path.exists(opts["authfile"]) else opts["authfile"]
    missing = bool(opts["authfile"]) and not there
    own = os.environ.get("REGISTRY_AUTH_FILE", "")
    missing = missing or (not opts["authfile"] and bool(own) and not os.path.exists(own))
    known = None if missing else credentials.find(host, repository, there)
    if opts["get_login"]:
        if known is None:
            raise SandboxError("get login", key, detail="not logged in", hint=f"sbx login {key}")
        print(printable(known.username or "<token>"))
        return 0
    if opts["password"]:
        tell("warning: a password on the command line can be seen by every process; --password-stdin is safer")
    access = Access(opts["tls_verify"], cert_dir=opts["cert_dir"])
    if known is not None and known.password and not (opts["username"] or opts["password"]):
        try:
            verify(host, repository, access._replace(creds=f"{known.username}:{known.password}"))
            print(f"Already logged in to {key} as {printable(known.username)}")
            return 0
        except SandboxError as error:
            if getattr(error, "status", 0) not in (400, 401, 403):
                raise
            tell(f"the stored credentials of {key} are not accepted any more")
    user, password = _ask(opts, known)
    _checked(user, password)
    if not verify(host, repository, access._replace(creds=f"{user}:{password}")):
        tell(f"warning: {key} did not ask who you are, so the password was not tried")
    where = keeping.store(host, repository, Credentials(user, password), opts["authfile"])
    if opts["verbose"]:
        print(f"Used: {printable(where)}")
    print("Login Succeeded!")
    return 0
