"""Who is asked for a name: mirrors, rewritten locations, blocked registries; what a short name may mean.  (cold)"""

from typing import NamedTuple

from sandbox.errors import SandboxError
from sandbox.image import reference
from sandbox.image.reference import Reference
from sandbox.registry import configuration
from sandbox.registry.configuration import Configuration, Registry

DOCKER = "docker.io"


class Endpoint(NamedTuple):
    """One place that serves a name: `path` of `host`; `pull_from` says which pulls a mirror serves."""

    host: str
    path: str
    insecure: bool = False
    pull_from: str = "all"
    mirror: bool = False

    def __str__(self) -> str:
        return f"{self.host}/{self.path}" if self.path else self.host


def _matched(prefix: str, name: str) -> int:
    """How many characters of `name` the prefix covers; 0 when it does not match."""
    if prefix.startswith("*."):
        host = name.partition("/")[0]
        bare = host.partition(":")[0]
        for candidate in (host, bare):
            if candidate.endswith(prefix[1:]) and len(candidate) > len(prefix) - 1:
                return len(candidate)
        return 0
    if name.startswith(prefix) and name[len(prefix) : len(prefix) + 1] in ("", "/", ":", "@"):
        return len(prefix)
    return 0


def registry_of(ref: Reference, settings: Configuration) -> Registry | None:
    """The [[registry]] with the longest prefix that matches `ref`."""
    name = str(ref)
    return max(
        (registry for registry in settings.registries.values() if _matched(registry.prefix, name)),
        key=lambda registry: (not registry.prefix.startswith("*."), len(registry.prefix)),
        default=None,
    )


def _rewritten(ref: Reference, prefix: str, location: str) -> tuple[str, str]:
    """(host, path) of `ref` with the part that `prefix` matches replaced by `location`."""
    name = ref.repository
    if not location:
        return ref.host, ref.path
    # A prefix with a tag or digest covers more than the name.
    host, _, path = (location + name[min(_matched(prefix, str(ref)), len(name)) :]).partition("/")
    return host, path


def endpoints(ref: Reference, settings: Configuration | None = None) -> list[Endpoint]:
    """Where to pull `ref` (a full name) from, in order; the last is the registry itself.

    SandboxError when it is blocked, or when the configuration can not be read.
    """
    settings = settings if settings is not None else configuration.load()
    registry = registry_of(ref, settings)
    if registry is None:
        return [Endpoint(ref.host, ref.path)]
    if registry.blocked:
        raise SandboxError(
            "use registry", ref.host, detail=f"`{registry.prefix}` is blocked in registries.conf",
            hint="`blocked` in " + ", ".join(settings.files or ["registries.conf"]),
        )  # fmt: skip
    found = []
    for mirror in registry.mirrors:
        if mirror.pull_from == ("tag-only" if ref.digest else "digest-only"):
            continue
        host, path = _rewritten(ref, registry.prefix, mirror.location)
        found.append(Endpoint(host, path, mirror.insecure, mirror.pull_from, True))
    host, path = _rewritten(ref, registry.prefix, registry.location)
    return [*found, Endpoint(host, path, registry.insecure)]


def upload_endpoint(ref: Reference, settings: Configuration | None = None) -> Endpoint:
    """Where to push `ref` to: the name as it stands, never a mirror or another location (as podman does)."""
    settings = settings if settings is not None else configuration.load()
    return Endpoint(ref.host, ref.path, endpoints(ref, settings)[-1].insecure)


def _full(host: str, ref: Reference) -> Reference:
    return reference.normal(f"{host}/{ref}")


def possible(text: str, settings: Configuration | None = None) -> list[Reference]:
    """All full names that `text` may stand for, best first.

    A name with a host stands for itself.  A short one: its alias, else each registry of
    unqualified-search-registries, else docker.io.
    """
    ref = reference.parse(text)
    if ref.host:
        return [reference.normal(text)]
    settings = settings if settings is not None else configuration.load()
    alias = settings.aliases.get(ref.path, "") if settings.short_name_mode != "disabled" else ""
    if not alias:
        return [_full(host, ref) for host in dict.fromkeys(settings.search or [DOCKER])]
    target = reference.parse(alias)
    if not target.host or target.tag or target.digest:
        raise SandboxError(
            "resolve short name", text, detail=f"its alias `{alias}` is not HOST/PATH", hint="check [aliases]"
        )
    return [reference.normal(str(target._replace(tag=ref.tag, digest=ref.digest)))]


def candidates(text: str, settings: Configuration | None = None, *, terminal: bool = False) -> list[Reference]:
    """`possible`, for who is going to ask there.

    Several registries for a short name are an error with short-name-mode "enforcing" (nobody can choose), and with
    "permissive" on a `terminal`.
    """
    settings = settings if settings is not None else configuration.load()
    found = possible(text, settings)
    if len(found) > 1 and (
        settings.short_name_mode == "enforcing" or (settings.short_name_mode == "permissive" and terminal)
    ):
        raise SandboxError(
            "resolve short name", text, detail=f"it could be from any of {', '.join(ref.host for ref in found)}",
            hint=f"write the whole name, such as {found[0]}",
        )  # fmt: skip
    return found
