"""TLS for registries: the system's CAs, and the folders of certs.d.  (cold)

    <certs.d>/<host[:port]>/*.crt               CAs to trust as well
    <certs.d>/<host[:port]>/NAME.cert, NAME.key   a certificate of our own, sent when the server asks for one

certs.d is, first that has the host: ~/.config/containers, /etc/containers, /etc/docker (containers-certs.d(5)).
"""

import os
import re
import ssl

from sandbox import paths
from sandbox.errors import SandboxError

_HASHED = re.compile(r"[0-9a-f]{8}\.\d\Z")
_FOLDERS = ("/etc/containers/certs.d", "/etc/docker/certs.d")


def folder_of(host: str) -> str:
    """The folder with the certificates for `host[:port]`, "" when there is none."""
    if "/" in host or host.startswith("."):
        return ""
    for base in (os.path.dirname(paths.config()) + "/containers/certs.d", *_FOLDERS):
        if os.path.isdir(f"{base}/{host}"):
            return f"{base}/{host}"
    return ""


def hashed_folder() -> str:
    """The system's folder of CAs when OpenSSL can look single ones up in it (names by hash), "" otherwise.

    Reading the bundle with all of them takes 15 ms.  SSL_CERT_FILE asks for a bundle, so there is no such folder then.
    """
    if os.environ.get("SSL_CERT_FILE"):
        return ""
    folder = os.environ.get("SSL_CERT_DIR") or ssl.get_default_verify_paths().openssl_capath
    try:
        return folder if any(_HASHED.match(name) for name in os.listdir(folder)) else ""
    except OSError:
        return ""


def context(folder: str, *, verify: bool, more: str = "", whole: bool = False) -> ssl.SSLContext:
    """A client's TLS settings with what `folder` adds; of `more` only the CAs count (a registry's, for its CDN).

    Without `whole`, the system's CAs may come from its hashed folder.  It can lack what somebody added to the bundle only:
    who meets a certificate that is not trusted asks again with `whole`.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks host name and certificate
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        hashed = "" if whole else hashed_folder()
        if hashed:
            made.load_verify_locations(capath=hashed)
        else:
            made.load_default_certs()
    for path, own in ((folder, True), (more, False)):
        if path:
            _load(made, path, own=own)
    return made


def _load(made: ssl.SSLContext, folder: str, *, own: bool) -> None:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise SandboxError.of("read certificates", folder, error) from None
    for name in names:
        path = f"{folder}/{name}"
        try:
            if name.endswith(".crt"):
                made.load_verify_locations(cafile=path)
            elif own and name.endswith(".cert"):
                key = path.removesuffix(".cert") + ".key"
                if not os.path.exists(key):
                    raise SandboxError(
                        "read certificate", path, detail="its key is missing", hint=f"the key belongs into {key}"
                    )
                made.load_cert_chain(path, key)
        except ssl.SSLError as error:
            raise SandboxError(
                "read certificate", path, detail=f"not a PEM certificate that TLS can use ({error.reason or 'no data'})"
            ) from None
        except OSError as error:
            raise SandboxError.of("read certificate", path, error) from None
