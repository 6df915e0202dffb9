"""What came as a manifest: is it what was asked for, and is it one at all?  (cold)"""

import hashlib

from sandbox.errors import SandboxError
from sandbox.image import jsonstrict
from sandbox.image.reference import valid_digest
from sandbox.registry import glance
from sandbox.registry.faults import RegistryError

ACCEPT = list(glance.ACCEPT)
_OLD = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_VAGUE = ("", "text/plain", "application/octet-stream")
STEP = "pull manifest"


def digest_of(raw: bytes, asked: str, said: str, subject: str) -> str:
    """The digest of `raw`, computed here; `asked` and what the registry `said` have to agree with it where they are digests."""
    wanted = [text for text in (asked, said) if valid_digest(text)]
    for digest in wanted:
        algorithm = digest.partition(":")[0]
        found = f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"
        if found != digest:
            whose = "" if digest == asked else f", and the registry says {digest}"
            raise RegistryError(
                STEP, subject, detail=f"what came has the digest {found}{whose}",
                hint="the registry's copy is damaged, or somebody changed it on its way",
            )  # fmt: skip
    return wanted[0] if wanted else f"sha256:{hashlib.sha256(raw).hexdigest()}"


def media_type_of(raw: bytes, content_type: str, accept: list[str], subject: str) -> str:
    """The media type on which the header and the document agree, one of `accept`."""
    header = content_type.partition(";")[0].strip().lower()
    if header in _OLD:
        raise RegistryError(
            STEP, subject, detail="the registry has only a manifest of the old schema 1",
            hint="push the image again with a current tool",
        )  # fmt: skip
    if header not in _VAGUE and not header.endswith("json"):
        raise RegistryError(
            STEP, subject, detail=f"what came is no manifest but `{header[:100]}`",
            hint="a web server or a proxy answers in the registry's place?",
        )  # fmt: skip
    try:
        value = jsonstrict.loads(raw, subject)
    except SandboxError as error:
        raise RegistryError(STEP, subject, detail=f"what came is no manifest: {error.detail}") from None
    inside = value.get("mediaType") if type(value) is dict else None
    if type(value) is not dict or (inside is not None and type(inside) is not str):
        raise RegistryError(STEP, subject, detail="what came is no manifest")
    if inside and header in ACCEPT and inside != header:
        raise RegistryError(STEP, subject, detail=f"it is sent as {header} and calls itself {inside}")
    found = header if header in accept else inside or header
    if found not in accept:
        raise RegistryError(STEP, subject, detail=f"its type is `{found[:100]}`, which is no image")
    return found
