"""How a registry is reached, as a command line says it: the options that every verb which asks one has.  (cold)"""

from typing import NamedTuple

from sandbox.errors import UsageError

RETRIES = 4  # of a request that failed
_MOST_RETRIES = 100


class Access(NamedTuple):
    """`tls_verify`: None as registries.conf says, False allows untrusted certificates and plain http.

    `authfile` is read in place of podman's and docker's, `creds` is USER:PASSWORD, `cert_dir` stands for the folder of
    certs.d, and `retries` says how often a failed request is tried again.
    """

    tls_verify: bool | None = None
    authfile: str = ""
    creds: str = ""
    cert_dir: str = ""
    retries: int = RETRIES

    def __repr__(self) -> str:  # a traceback with local variables must not show the password
        return f"Access(tls_verify={self.tls_verify}, authfile={self.authfile!r})"


ORDINARY = Access()


def retries(text: str) -> int:
    """What --retry says; UsageError for what is no number from 0 to 100."""
    if not text.isascii() or not text.isdigit() or int(text[:6]) > _MOST_RETRIES:
        raise UsageError("read option", f"--retry={text}", detail=f"not a number from 0 to {_MOST_RETRIES}")
    return int(text)
