"""What people are told about images: sizes, ages, the document of `inspect`.  (cold)"""

import datetime
import json
import re
import sys
from typing import Any

from sandbox.errors import SandboxError, printable
from sandbox.image.listing import repository_and_tag

TYPE_CHECKING = False
if TYPE_CHECKING:  # `sbx images` needs neither
    from sandbox.image.archive import Image
    from sandbox.image.store import Store, Stored

SIZE = "dev.sbx.size"  # as in store.py


def show(text: str) -> str:
    """Text for stdout: escaped on a terminal (names and labels come from strangers), exact in a pipe."""
    if not sys.stdout.isatty():
        return text
    return "\n".join("\t".join(printable(cell) for cell in line.split("\t")) for line in text.split("\n"))


def json_text(value: Any) -> str:
    """JSON for stdout: exact in any case; on a terminal ASCII only, so that C1 controls stay escaped too."""
    return json.dumps(value, indent=4, ensure_ascii=sys.stdout.isatty())


def human_size(size: int) -> str:
    """Bytes in decimal units, three digits, as podman shows them."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            return f"{value:.3g} {unit}"
        value /= 1000
    return ""


def moment(text: str) -> datetime.datetime | None:
    """RFC 3339 time of an image config, None when it is absent or makes no sense."""
    text = text.strip().replace("Z", "+00:00")
    head, dot, rest = text.partition(".")
    if dot:  # Go writes nanoseconds, Python reads microseconds
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        text = f"{head}.{digits[:6].ljust(6, '0')}{rest[len(digits) :]}"
    try:
        found = datetime.datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
    except (ValueError, OverflowError):  # the year 10000, in UTC
        return None


def lapse(seconds: float) -> str:
    """A length of time in the words of podman and docker: "3 weeks"."""
    passed = max(0, int(seconds))
    minutes, hours = passed // 60, round(passed / 3600)
    if passed < 60:
        return "Less than a second" if passed < 1 else "1 second" if passed == 1 else f"{passed} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for most, length, word in ((24 * 14, 24, "days"), (24 * 60, 24 * 7, "weeks"), (24 * 730, 24 * 30, "months")):
        if hours < most:
            return f"{hours // length} {word}"
    return f"{hours // (24 * 365)} years"


def age(created: datetime.datetime | None, now: datetime.datetime) -> str:
    """ "3 weeks ago"."""
    return "unknown" if created is None else f"{lapse((now - created).total_seconds())} ago"


def size_of(stored: "Stored", image: "Image") -> int:
    """Bytes of all layers unpacked; of the blobs when that is not known."""
    told = stored.entry.annotations.get(SIZE, "")
    return (
        int(told)
        if told.isascii() and told.isdecimal() and len(told) < 20
        else sum(layer.size for layer in image.layers)
    )


def repo_digests_of(names: list[str], digest: str) -> list[str]:
    """REPOSITORY@DIGEST for each repository among stored names."""
    return sorted({f"{repository_and_tag(name)[0]}@{digest}" for name in names})


def tags_of(names: list[str]) -> list[str]:
    """The names with a tag; what was pulled by its digest has one without."""
    return [name for name in names if "@" not in name]


def _config(inner: dict[str, Any]) -> dict[str, Any]:
    """The inner part of a config for templates, which may ask for what it does not say."""
    from sandbox.image.gofunctions import Map, Struct

    found = Struct(inner)
    found.zero = {
        "User": "", "ExposedPorts": {}, "Env": [], "Entrypoint": [], "Cmd": [], "Volumes": {}, "WorkingDir": "", "Labels": Map(),
        "StopSignal": "", "Healthcheck": None, "ArgsEscaped": False, "OnBuild": None,
    }  # fmt: skip
    if isinstance(inner.get("Labels"), dict):
        found["Labels"] = Map(inner["Labels"])
    return found


def inspect(store: "Store", stored: "Stored") -> dict[str, Any]:
    """The document of one image, with the keys of `podman image inspect`."""
    from sandbox.image import manifest
    from sandbox.image.gofunctions import Map

    image = store.image(stored)
    document = image.config.document
    size = size_of(stored, image)
    return {
        "Id": image.id,
        "Digest": stored.entry.digest,
        "RepoTags": tags_of(stored.names),
        "RepoDigests": repo_digests_of(stored.names, stored.entry.digest),
        "Parent": "",
        "Version": "",
        "Comment": document.get("comment", ""),
        "Created": image.config.created,
        "Config": _config(document.get("config") or {}),
        "Author": document.get("author", ""),
        "Architecture": image.config.architecture,
        "Variant": image.config.variant,
        "Os": image.config.os,
        "Size": size,
        "VirtualSize": size,
        "RootFS": {"Type": "layers", "Layers": list(image.config.diff_ids)},
        "Labels": Map(image.config.run["Labels"]),
        "Annotations": manifest.parse_manifest(image.manifest_raw, image.manifest_type, image.digest).annotations,
        "ManifestType": image.manifest_type,
        "User": image.config.run["User"],
        "History": document.get("history") or [],
        "NamesHistory": list(stored.names),
    }


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "d": 86400.0, "ms": 0.001}


def point_in_time(text: str, now: datetime.datetime) -> datetime.datetime:
    """A moment of a filter: a duration before `now` (`10m`, `1h30m`), RFC 3339, or seconds since 1970."""
    if re.fullmatch(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[hmsd]))+", text):
        parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|[hmsd])", text)
        try:
            return now - datetime.timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
        except OverflowError:
            return datetime.datetime.min.replace(tzinfo=datetime.UTC)
    if re.fullmatch(r"[0-9]{1,11}(?:\.[0-9]+)?", text):
        return datetime.datetime.fromtimestamp(float(text), datetime.UTC)
    found = moment(text)
    if found is None:
        raise SandboxError("read time", text, detail="no duration or time", hint="e.g. 24h, or 2025-01-31T12:00:00Z")
    return found
