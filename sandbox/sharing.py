"""--network, --ipc, --uts, --pid and --userns with `container:NAME` or `ns:PATH`, and --pod: which namespaces a container has
in common with others.  (front, hot)

What is said on the command line ends in the annotation `dev.sbx.spaces`, from which the launcher opens them (spaces.py),
at each start anew.
"""

import os

from sandbox import cold, idmap, paths, spaces
from sandbox.errors import EINVAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Options = dict[str, Any]

# OCI's name of a namespace -> the option about it
OPTIONS = {"network": "network", "ipc": "ipc", "uts": "uts", "pid": "pid", "user": "userns"}
SHARED = "shared"


class Sharing:
    """What one container shares: `sources` by kind, and `opts` with the rest of the words decided."""

    def __init__(self, opts: "Options") -> None:
        if opts["pod_id_file"]:
            opts = {**opts, "pod": _id_in(opts["pod_id_file"])}
        self.opts = opts = cold.here("sandbox.life.pods:member", opts) if opts["pod"] else {**opts}
        self.pod = str(opts["pod"])  # by now its id
        self.sources: dict[str, str] = {}
        self.peers: dict[str, dict[str, Any]] = {}  # what is known of the container that a kind is shared with
        for kind, dest in OPTIONS.items():
            if spaces.wanted(opts[dest]):
                self._take(kind, dest, spaces.source(opts[dest]))
        self.spaces = spaces.Spaces(self.text)
        try:
            for kind in self.spaces.ours:  # the other one has it in common with us: none is made
                self.opts[OPTIONS[kind]] = "" if kind == "user" else "host"
                del self.sources[kind]
            self.maps = self._maps()
        finally:
            self.spaces.close()
        self._refuse()

    @property
    def text(self) -> str:
        """The annotation."""
        return "\n".join(f"{kind}={where}" for kind, where in self.sources.items())

    def _take(self, kind: str, dest: str, where: str) -> None:
        if where.startswith("container:"):
            self.peers[kind] = spaces.peer(where).about
        self.sources[kind] = where
        self.opts[dest] = SHARED
        if kind == "network":
            # Its name servers and addresses are those of the network that is shared.
            seen = self.peers[kind]["network"].rpartition(":")[2] if kind in self.peers else "host"
            self.opts[dest] = f"{SHARED}:{seen}"

    def _maps(self) -> "dict[str, Any]":
        """The id map of the user namespace to be in."""
        given = self.opts["userns"] if self.opts["userns"] not in ("auto", SHARED) else ""
        if self.spaces.user < 0:
            return idmap.resolve(given, self.opts["uidmap"], self.opts["gidmap"])
        if given or self.opts["uidmap"] or self.opts["gidmap"]:
            raise SandboxError(
                "choose user namespace", given or "--uidmap", EINVAL,
                "who shares a namespace has the ids of the user namespace that it belongs to",
            )  # fmt: skip
        for about in self.peers.values():
            return dict(about["maps"])
        uid, gid = self.spaces.id_maps()
        for mode in ("", "single"):
            known = idmap.resolve(mode if os.getuid() else "")
            if (known["uid"], known["gid"]) == (uid, gid):
                return known
        return idmap.resolve("", *([f"{i}:@{o}:{n}" for i, o, n in entries] for entries in (uid, gid)))

    def _refuse(self) -> None:
        """What belongs to who made the namespace can not be said by who shares it."""
        for kind, dests in (
            ("network", ("publish", "publish_all", "expose")),
            ("uts", ("hostname",)),
            ("ipc", ("shm_size",)),
        ):
            for dest in dests:
                if kind in self.sources and self.opts[dest]:
                    raise SandboxError(
                        "run", f"--{dest.replace('_', '-')}", EINVAL, f"the {kind} namespace is another's, who decides that",
                    )  # fmt: skip

    @property
    def hostname(self) -> str:
        """The name of the container whose uts namespace is shared; "" for the container's own."""
        return str(self.peers["uts"].get("hostname", "")) if "uts" in self.sources and "uts" in self.peers else ""

    @property
    def of_machine(self) -> bool:
        """Whether the network namespace belongs to the machine: no sysfs of it can be mounted."""
        return self.spaces.fds.get("network", -1) in self.spaces.foreign

    @property
    def needs(self) -> "list[str]":
        """Ids of the containers that must be there."""
        return sorted({where.partition(":")[2] for where in self.sources.values() if where.startswith("container:")})

    def note(self) -> None:
        """Leave word with the containers that are needed: they are not removed before us."""
        for id_ in self.needs:
            path = f"{paths.store()}/containers/{id_}/{spaces.NEEDED}"
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            except OSError as error:
                raise SandboxError.of("share namespace", id_[:12], error) from None

    def apply(self, spec: "dict[str, Any]") -> None:
        """Write it into the spec: OCI's paths, for who reads it; the annotation, for the launcher."""
        spec["annotations"]["dev.sbx.spaces"] = self.text
        joined = dict(self.sources)
        if self.spaces.user >= 0 and "user" not in joined:
            joined["user"] = next(where for kind, where in self.sources.items())
        for entry in spec["linux"]["namespaces"]:
            where = joined.get(entry["type"])
            if where:
                entry["path"] = _path(entry["type"], where)


def _id_in(path: str) -> str:
    """The id that `pod create --pod-id-file` has written."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline(4096).strip()
    except OSError as error:
        raise SandboxError.of("read pod id from", path, error) from None


def _path(kind: str, where: str) -> str:
    if where.startswith("ns:"):
        return where[3:]
    return f"/proc/{spaces.peer(where).state['pid']}/ns/{spaces.KINDS[kind][0]}"
