"""What went wrong between us and a registry, in one line and one hint, without secrets.  (cold)"""

import json
import re
import socket
import ssl
from collections.abc import Iterable, Mapping

from sandbox.errors import SandboxError

ERROR_BYTES = 64 << 10  # of an error's body; more is not read
_SHOWN = 300  # characters of a server's own words in a message
# What looks like a credential in a server's words, even when it is not one of ours.
_SECRET = re.compile(
    r"(?i)\b(bearer|basic|token|password|refresh_token|access_token)([\s\"':=]+)[A-Za-z0-9._~+/=-]{12,}"
)


class RegistryError(SandboxError):
    """A registry's answer that is no success; `status` is the HTTP status, 0 when there was no answer at all."""

    def __init__(self, step: str, subject: str = "", *, detail: str = "", hint: str = "", status: int = 0) -> None:
        super().__init__(step, subject, 0, detail, hint)
        self.status = status


class UnreachableError(RegistryError):
    """No answer: connecting, TLS or the connection failed; `lasting`: another attempt would fail the same way."""

    def __init__(
        self, step: str, subject: str = "", *, detail: str = "", hint: str = "", lasting: bool = False
    ) -> None:
        super().__init__(step, subject, detail=detail, hint=hint)
        self.lasting = lasting


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without any of `secrets` and without what looks like a token."""
    for secret in sorted((s for s in secrets if len(s) >= 4), key=len, reverse=True):
        text = text.replace(secret, "***")
    return _SECRET.sub(r"\1\2***", text)


def words_of(body: bytes, secrets: Iterable[str] = ()) -> str:
    """The message in an error body: the distribution API's errors list, a token server's `details`, or short plain text."""
    found = ""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
        text = body.decode("utf-8", "replace").strip()
        if text and not text.startswith("<"):  # an HTML page of some proxy says nothing in its first line
            found = text.splitlines()[0]
    if isinstance(value, dict):
        errors = value.get("errors")
        if isinstance(errors, list):
            parts = []
            for error in errors[:3]:
                if isinstance(error, dict):
                    said = error.get("message") or error.get("code")
                    parts.append(said if isinstance(said, str) else "")
            found = "; ".join(part for part in parts if part)
        for key in ("details", "error_description", "message", "error"):
            if not found and isinstance(value.get(key), str):
                found = value[key]
    found = " ".join(redacted(found, secrets).split())
    return found if len(found) <= _SHOWN else found[: _SHOWN - 3] + "..."


_REASONS = {
    400: "the registry does not accept the request",
    401: "the registry wants a login",
    403: "the registry refuses access",
    404: "not found",
    405: "the registry does not support this",
    413: "too large for the registry",
    429: "too many requests",
    500: "the registry failed",
    502: "the registry can not be reached behind its proxy",
    503: "the registry is not available",
    504: "the registry does not answer behind its proxy",
}


def status_error(
    step: str, subject: str, host: str, status: int, headers: Mapping[str, str], body: bytes,
    *, account: str = "", secrets: Iterable[str] = (), note: str = "",
) -> RegistryError:  # fmt: skip
    """The error for an answer with `status`.

    `account` says where the credentials came from, "" for nobody's; `note` is a hint that goes before the ordinary one.
    """
    reason = _REASONS.get(status, "an answer that is not expected" if status < 500 else "the registry failed")
    said = words_of(body, secrets)
    detail = f"{reason} (HTTP {status})" + (f": {said}" if said else "")
    hint = ""
    if status == 401:
        hint = (
            f"what {account} says is not accepted; `sbx login {host}` again" if account
            else f"check the name, or `sbx login {host}`"
        )  # fmt: skip
    elif status == 403:
        hint = "this account may not do that here" if account else f"`sbx login {host}` with an account that may"
    elif status == 404:
        hint = "check the name and the tag"
    elif status == 429:
        after = headers.get("retry-after", "")
        wait = f"wait {after} s, or " if after.isascii() and after.isdigit() else "wait, or "
        allowed = headers.get("ratelimit-limit", "")  # docker.io: "100;w=21600", requests in seconds
        detail += f" (its limit is {allowed[:40]})" if allowed else ""
        hint = wait + f"`sbx login {host}` for a higher limit, or use a mirror (registries.conf)"
    elif status >= 500:
        hint = "try again later; the registry's own log has the cause"
    return RegistryError(step, subject, detail=detail, hint=note or hint, status=status)


def innermost(error: BaseException) -> BaseException:
    """What a chain of urllib3's exceptions began with."""
    seen = error
    for _ in range(8):
        if isinstance(seen, ssl.SSLError | socket.gaierror):
            return seen
        inner = getattr(seen, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in seen.args if isinstance(arg, BaseException)), None) or seen.__cause__
        if inner is None:
            return seen
        seen = inner
    return seen


def lasting(error: BaseException) -> bool:
    """Whether a connection failure is one that another attempt would meet again: TLS, a name that is not known."""
    inner = innermost(error)
    if isinstance(inner, ssl.SSLError):
        return not isinstance(inner, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    return isinstance(inner, socket.gaierror) and inner.errno != socket.EAI_AGAIN


def cause_of(error: BaseException) -> str:
    """The innermost reason of a chain of library exceptions, as words."""
    seen = innermost(error)
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror
    # urllib3 puts the connection object in front: "<...HTTPSConnection(host=...) ...>: words".
    return re.sub(r"^(?:<[^>]*>|\w+\([^)]*\)): ", "", str(seen) or type(seen).__name__)


def unreachable(error: BaseException, step: str, subject: str, netloc: str) -> UnreachableError:
    """The error for a connection to `netloc` that failed with `error`."""
    inner = innermost(error)
    hint = f"check the network, and that a registry listens at {netloc}"
    detail = f"{netloc}: {cause_of(error)}"
    if isinstance(inner, ssl.SSLCertVerificationError):
        detail = f"{netloc}: its certificate is not trusted ({inner.verify_message or inner.reason})"
        hint = f"put its CA into ~/.config/containers/certs.d/{netloc}/ca.crt"
    elif isinstance(inner, ssl.SSLError):
        reason = (inner.reason or str(inner)).replace("_", " ").lower()
        detail = f"{netloc}: TLS failed ({reason})"
        hint = "when it speaks plain http, allow that with --tls-verify=false, or `insecure` in registries.conf"
        if "certificate required" in reason or "handshake failure" in reason:
            hint = f"a client certificate goes into ~/.config/containers/certs.d/{netloc}/client.cert and client.key"
    elif isinstance(inner, socket.gaierror):
        detail, hint = f"{netloc}: no such host ({inner.strerror})", "check the name, and the name server"
    elif isinstance(inner, TimeoutError) or "timed out" in detail:
        detail = f"{netloc}: no answer in time"
    return UnreachableError(step, subject, detail=detail, hint=hint, lasting=lasting(error))
