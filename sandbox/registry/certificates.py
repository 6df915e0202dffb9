"""TLS for registries: the system's CAs, and the folders of certs.d.  (cold)

    <certs.d>/<host[:port]>/*.crt               CAs to trust as well
    <certs.d>/<host[:port]>/NAME.cert, NAME.key   a certificate of our own, sent when the server asks for one

certs.d is, first that has the host: ~/.config/containers, /etc/containers, /etc/docker (containers-certs.d(5)).
"""

import os
import ssl

from sandbox import paths
from sandbox.errors import SandboxError

_FOLDERS = ("/etc/containers/certs.d", "/etc/docker/certs.d")


def folder_of(host: str) -> str:
    """The folder with the certificates for `host[:port]`, "" when there is none."""
    if "/" in host or host.startswith("."):
        return ""
    for base in (os.path.dirname(paths.config()) + "/containers/certs.d", *_FOLDERS):
        if os.path.isdir(f"{base}/{host}"):
            return f"{base}/{host}"
    return ""


def context(folder: str, *, verify: bool, more: str = "") -> ssl.SSLContext:
    """A client's TLS settings with what `folder` adds; of `more` only the CAs count (a registry's, for its CDN)."""
    made = ssl.create_default_context()
    # On from Python 3.13: refuses private CAs without key usage, which every other tool accepts.
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
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
