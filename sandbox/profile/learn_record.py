"""What was seen of a command in one or several runs, as one record that can be merged, and kept in a profile.  (cold)"""

import errno
import hashlib
import json
import textwrap
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args, get_origin

from sandbox.errors import SandboxError
from sandbox.profile import learn_paths
from sandbox.profile.learn_paths import Place
from sandbox.profile.schema import NETWORKS

_MARK = "#: "
_VERSION = 1
_EXAMPLES = 100
# Mounts of sbx itself: no places to write to that somebody has asked for.
_OWN_MOUNTS = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
_LOOPBACK_6 = f"{1:032x}"


@dataclass
class Record:
    """Everything is a set, a sum or a peak, so that records of several runs come to one."""

    runs: int = 0
    commands: list[str] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)  # real paths that were written, outside of what is thrown away
    found_in_scratch: list[str] = field(default_factory=list)  # files of the image in folders that are thrown away
    programs: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)  # "connect inet 10.0.0.1 443"
    ports: dict[str, list[int]] = field(default_factory=dict)  # "connect" and "bind"
    outside: bool = False  # something beyond the container itself was to be reached
    network: str = "none"  # the mode that it ran with
    families: list[int] = field(default_factory=list)
    capabilities: dict[str, str] = field(default_factory=dict)  # name -> the first call that took it
    root: bool = False  # some run had uid 0
    peak: dict[str, int] = field(default_factory=dict)
    top: list[str] = field(default_factory=list)  # folders at the top of the image
    refused: list[str] = field(default_factory=list)  # calls that the base refuses
    protected: list[str] = field(default_factory=list)  # asked for, and not to be proposed
    spare: list[str] = field(default_factory=list)  # volumes that nothing was written to
    full: bool = False


# What a run with a read-only root has in memory
SCRATCH = ("/tmp", "/var/tmp", "/run")
_OTHERS = ("/dev", "/proc", "/sys")


def of_run(record: dict[str, Any], names: dict[int, str]) -> Record:
    """What observe.py and learn_watch.py have written down of one run.  `names`: of calls, by number."""
    facts = [tuple(fact) for fact in record["facts"]]
    mounts = [path for path, _ in record["mounts"] if path not in _OWN_MOUNTS]
    paths = {path: rights for path, rights in record["paths"].items() if not learn_paths.is_protected(path)}
    written = [path for path, rights in record["paths"].items() if rights & 2]
    changed = [path for path in written if not _below(path, (*mounts, *SCRATCH, *_OTHERS))]
    reached = sorted({f"{word} {family} {_text(family, address)} {port}" for word, family, address, port in
                      (fact for fact in facts if fact[0] in ("connect", "bind"))
                      if family != "unix" or not learn_paths.is_protected(address)})  # fmt: skip
    sockets = {(fact[1], fact[2]) for fact in facts if fact[0] == "socket"}
    addressed = [fact for fact in facts if fact[0] in ("connect", "bind") and fact[1] != "unix"]
    # A datagram socket may send to whom it likes with calls that nobody is asked about.
    silent = any(family in (2, 10) and kind != 1 for family, kind in sockets) and not addressed
    outside = silent or any(not _is_own(record["network"], *fact) for fact in addressed)
    scratch = [
        path for path, rights in paths.items() if _below(path, SCRATCH) and not rights & 2 and path not in SCRATCH
    ]
    scratch = [path for path in scratch if not _below(path, tuple(mounts))]
    everything = {**record["paths"], **{fact[2]: 2 for fact in facts if fact[0] == "connect" and fact[1] == "unix"}}
    return Record(
        runs=1,
        calls=dict(record["calls"]),
        places=learn_paths.generalise(paths),
        changed=_examples(changed),
        found_in_scratch=_examples(scratch),
        programs=sorted({fact[1] for fact in facts if fact[0] == "program"})[: 5 * _EXAMPLES],
        devices=sorted({fact[1] for fact in facts if fact[0] == "device"}),
        reached=reached[:_EXAMPLES],
        ports={word: sorted({fact[3] for fact in addressed if fact[0] == word}) for word in ("connect", "bind")},
        outside=outside,
        network=record["network"],
        families=sorted({family for family, _ in sockets}),
        capabilities=dict(record["capabilities"]),
        root=record["uid"] == 0,
        peak=dict(record["peak"]),
        top=sorted(record["top"]),
        refused=sorted({names.get(row[0], f"call {row[0]}") for row in record["refused"]}),
        protected=sorted(path for path in everything if learn_paths.is_protected(path))[:_EXAMPLES],
        spare=sorted(
            path for path, readonly in record["mounts"]
            if not readonly and path not in (*_OWN_MOUNTS, *SCRATCH) and not path.startswith("/dev") and not any(_below(w, (path,)) for w in written)
        ),
        full=record["full"],
    )  # fmt: skip


def merge(a: Record, b: Record) -> Record:
    """Both together: whatever either has seen."""
    made = Record()
    for one in fields(Record):
        x, y = getattr(a, one.name), getattr(b, one.name)
        value: Any
        if one.name == "calls":
            value = {name: x.get(name, 0) + y.get(name, 0) for name in sorted({*x, *y})}
        elif one.name == "peak":
            value = {name: max(x.get(name, 0), y.get(name, 0)) for name in {*x, *y}}
        elif one.name == "ports":
            value = {word: sorted({*x.get(word, ()), *y.get(word, ())}) for word in ("connect", "bind")}
        elif one.name == "places":
            value = learn_paths.together([*x, *y])
        elif one.name == "network":
            value = max(x, y, key=lambda mode: NETWORKS.index(mode) if mode in NETWORKS else len(NETWORKS))
        elif one.name == "spare":
            value = sorted({*x} & {*y}) if a.runs and b.runs else x or y
        elif isinstance(x, dict):
            value = {**y, **x}
        elif isinstance(x, list):
            value = sorted({*x, *y})
        elif isinstance(x, bool):
            value = x or y
        else:
            value = x + y
        setattr(made, one.name, value)
    return made


def kinds(record: Record) -> tuple[Any, ...]:
    """All of a record but what is counted: equal when a further run has shown nothing new."""
    return (
        sorted(record.calls), [(place.pattern, place.rights) for place in record.places], record.programs, record.devices,
        record.reached, sorted(record.capabilities), record.changed, record.found_in_scratch,
    )  # fmt: skip


def dump(record: Record, body: str) -> str:
    """The record as comment lines of a profile whose other text is `body`."""
    known = {"version": _VERSION, "of": _digest(body), **asdict(record)}
    text = json.dumps(known, separators=(",", ":"), ensure_ascii=True)
    return "".join(f"{_MARK}{text[at : at + 110]}\n" for at in range(0, len(text), 110))


def read(path: str, text: str, *, force: bool) -> Record:
    """The record in the profile `text`; SandboxError when there is none, or, without `force`, when the rest was edited."""
    lines = text.splitlines(keepends=True)
    raw = "".join(line[len(_MARK) :].rstrip("\n") for line in lines if line.startswith(_MARK))
    body = "".join(line for line in lines if not line.startswith(_MARK))
    try:
        known = json.loads(raw)
        if known.pop("version") != _VERSION:
            raise ValueError
        digest = known.pop("of")
        known["places"] = [Place(**place) for place in known["places"]]
        record = Record(**known)
        for one in fields(Record):
            _check(getattr(record, one.name), one.type)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise SandboxError(
            "merge profile", path, errno.EINVAL, "it has no record of what was seen: `sbx profile learn` has not written it",
            "--force alone writes it anew",
        ) from None  # fmt: skip
    if digest != _digest(body) and not force:
        raise SandboxError(
            "merge profile", path, errno.EEXIST, "it was edited since, and would be written anew",
            "put rules of your own into a profile that extends it; --force gives the changes up",
        )  # fmt: skip
    return record


def _check(value: Any, kind: Any) -> None:
    """TypeError when `value` is not of the type `kind`, with what is in it."""
    whole, inner = get_origin(kind) or kind, get_args(kind)
    if type(value) is not whole:
        raise TypeError
    if whole is list:
        for item in value:
            _check(item, inner[0])
    elif whole is dict:
        for key, item in value.items():
            _check(key, inner[0])
            _check(item, inner[1])
    elif whole is Place:
        for one in fields(Place):
            _check(getattr(value, one.name), one.type)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:32]


def _examples(paths: list[str]) -> list[str]:
    """Some of them, but one at least of each folder at the top."""
    first: dict[str, str] = {}
    for path in sorted(paths):
        first.setdefault(path.split("/")[1], path)
    return sorted({*sorted(paths)[:_EXAMPLES], *first.values()})


def _below(path: str, folders: tuple[str, ...]) -> bool:
    return any(f"{path}/".startswith(f"{folder}/") for folder in folders)


def _is_own(network: str, word: str, family: str, address: str, port: int) -> bool:
    """Whether an address is the container's own, which it reaches without a network too."""
    if network == "host":
        return False
    if family == "inet":
        return address.startswith("127.") or (address == "0.0.0.0" and (word == "connect" or network == "none"))
    return address == _LOOPBACK_6 or (not int(address, 16) and (word == "connect" or network == "none"))


def _text(family: str, address: str) -> str:
    if family == "inet6":
        import ipaddress

        return str(ipaddress.ip_address(bytes.fromhex(address)))
    return address


def comment(text: str, indent: str = "#   ") -> str:
    """`text` as comment lines."""
    return textwrap.fill(text, 118, initial_indent=indent, subsequent_indent=indent, break_long_words=False) + "\n"
