"""Limits as users write them -> OCI's linux.resources; and what stands in for them without control groups.  (front, hot with limits)"""

import os

from sandbox import values
from sandbox.errors import EINVAL, ENODEV, SandboxError, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Options = dict[str, Any]

_RATES = {
    "device_read_bps": "throttleReadBpsDevice", "device_write_bps": "throttleWriteBpsDevice",
    "device_read_iops": "throttleReadIOPSDevice", "device_write_iops": "throttleWriteIOPSDevice",
}  # fmt: skip
_PERIOD = 100000  # microseconds, the kernel's own
_LEAST_MEMORY = 1 << 19  # bytes; below that not even a shell starts


def _number(opts: "Options", name: str, least: int, most: int) -> "int | None":
    text = opts.get(name) or ""
    if not text:
        return None
    option = "--" + name.replace("_", "-")
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20 and least <= int(text) <= most):
        raise SandboxError(f"read {option}", text, EINVAL, hint=f"a number from {least} to {most}")
    return int(text)


def _bytes(opts: "Options", name: str) -> "int | None":
    text = opts.get(name) or ""
    if not text:
        return None
    return -1 if text == "-1" else values.size(text, "--" + name.replace("_", "-"))


def resources(opts: "Options", base: "dict[str, Any]") -> "dict[str, Any]":
    """`base` (of the profile), changed by the options; names and rules are podman's."""
    found = {key: dict(value) for key, value in base.items()}
    for part, read in (("memory", _memory), ("cpu", _cpu), ("blockIO", _block)):
        changed = {**found.get(part, {}), **read(opts)}
        if changed:
            found[part] = changed
    pids = _number(opts, "pids_limit", -1, 1 << 40)
    if pids is not None:
        found["pids"] = {"limit": pids or -1}
    if opts.get("cgroup_conf"):
        found["unified"] = {**found.get("unified", {}), **_files(opts["cgroup_conf"])}
    memory = found.get("memory", {})
    if memory.get("swap", -1) >= 0 and not 0 <= memory.get("limit", -1) <= memory["swap"]:
        raise SandboxError(
            "read --memory-swap", str(memory["swap"]), EINVAL,
            detail="it counts memory and swap together, so it must be at least --memory, which must be given",
        )  # fmt: skip
    if memory.get("limit", -1) >= 0 and "swap" not in memory:
        memory["swap"] = 2 * memory["limit"]
    return found


def _memory(opts: "Options") -> "dict[str, Any]":
    found: dict[str, Any] = {}
    for name, key in (("memory", "limit"), ("memory_swap", "swap"), ("memory_reservation", "reservation")):
        number = _bytes(opts, name)
        if number is not None:
            found[key] = number or -1
    if 0 <= found.get("limit", -1) < _LEAST_MEMORY:
        raise SandboxError("read --memory", opts["memory"], EINVAL, detail="less than 512k, no command fits in")
    return found


def _cpu(opts: "Options") -> "dict[str, Any]":
    found: dict[str, Any] = {}
    text = opts.get("cpus") or ""
    if text:
        try:
            count = float(text)
        except ValueError:
            count = -1.0
        if not 0.01 <= count <= 100000:
            raise SandboxError("read --cpus", text, EINVAL, hint="a number of processors, such as 1.5")
        found["quota"], found["period"] = int(count * _PERIOD), _PERIOD
    for name, key, least, most in (
        ("cpu_shares", "shares", 0, 262144),
        ("cpu_quota", "quota", -1, 1 << 40),
        ("cpu_period", "period", 1000, 1000000),
    ):
        number = _number(opts, name, least, most)
        if number is None:
            continue
        if text and key != "shares":
            raise SandboxError("read --cpus", text, EINVAL, detail="it excludes --cpu-quota and --cpu-period")
        if number or key != "shares":  # podman's and docker's 0: not set
            found[key] = number
    for name, key in (("cpuset_cpus", "cpus"), ("cpuset_mems", "mems")):
        word = opts.get(name) or ""
        if not set(word) <= set("0123456789,-"):
            raise SandboxError(f"read --{name.replace('_', '-')}", word, EINVAL, hint="a list such as 0-2,4")
        if word:
            found[key] = word
    return found


def _files(texts: "list[str]") -> "dict[str, str]":
    """`--cgroup-conf FILE=VALUE`: OCI's `unified`."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        plain = set(name) <= set("abcdefghijklmnopqrstuvwxyz_.") and "." in name[1:-1]
        if not equals or not value.isprintable() or not plain or name.startswith("cgroup."):
            raise SandboxError("read --cgroup-conf", text, EINVAL, hint="a file and its value, such as memory.high=64M")
        found[name] = value
    return found


def _block(opts: "Options") -> "dict[str, Any]":
    found: dict[str, Any] = {}
    weight = _number(opts, "blkio_weight", 10, 1000)
    if weight is not None:
        found["weight"] = weight
    weights = [_weight(text) for text in opts.get("blkio_weight_device") or ()]
    if weights:
        found["weightDevice"] = weights
    for name, key in _RATES.items():
        entries = [_device(text, "--" + name.replace("_", "-"), name.endswith("bps")) for text in opts.get(name) or ()]
        if entries:
            found[key] = entries
    return found


def _weight(text: str) -> "dict[str, int]":
    """`--blkio-weight-device DEVICE:WEIGHT`."""
    found = _device(text, "--blkio-weight-device", in_bytes=False)
    weight = found.pop("rate")
    if not 10 <= weight <= 1000:
        raise SandboxError("read --blkio-weight-device", text, EINVAL, hint="a weight from 10 to 1000")
    return {**found, "weight": weight}


def _device(text: str, option: str, in_bytes: bool) -> "dict[str, int]":
    path, _, rate = text.rpartition(":")
    if not path.startswith("/"):
        raise SandboxError(f"read {option}", text, EINVAL, hint="the form is DEVICE:RATE, such as /dev/sda:1mb")
    try:
        found = os.stat(path)
    except OSError as error:
        raise SandboxError.of(f"read {option}", path, error) from None
    if found.st_mode & 0o170000 != 0o060000:  # S_IFBLK; the module `stat` costs too much
        raise SandboxError(f"read {option}", path, ENODEV, detail="it is not a block device")
    if not in_bytes and not (rate.isascii() and rate.isdecimal() and len(rate) < 20):
        raise SandboxError(f"read {option}", text, EINVAL, hint="a number after the colon")
    number = values.size(rate, option) if in_bytes else int(rate)
    return {"major": os.major(found.st_rdev), "minor": os.minor(found.st_rdev), "rate": number}


def apply(spec: "dict[str, Any]", opts: "Options", base: "dict[str, Any]") -> None:
    """Put the limits into the spec; with --allow-degraded=limits, where there are no control groups, what can replace them."""
    adjust = _number(opts, "oom_score_adj", -1000, 1000)
    if adjust is not None:
        spec["process"]["oomScoreAdj"] = adjust
    found = resources(opts, base)
    kind = opts.get("cgroups") or ""
    parent = opts.get("cgroup_parent") or ""
    if kind == "disabled" and (found or parent):
        raise SandboxError("read --cgroups", kind, EINVAL, detail="limits and --cgroup-parent need control groups")
    if not found and kind != "enabled" and not parent:
        return
    if "limits" in (opts.get("allow_degraded") or ()):
        from sandbox import cgroup

        reason = cgroup.unavailable(found)
        if reason:
            _degrade(spec, found, reason)
            return
    spec["linux"]["resources"] = found
    if parent:
        spec["linux"]["cgroupsPath"] = parent


def _degrade(spec: "dict[str, Any]", found: "dict[str, Any]", reason: str) -> None:
    """rlimits where one fits: they count for each process (RLIMIT_AS), or for one user id (RLIMIT_NPROC)."""
    instead, lost = [], []
    for part, content in found.items():
        if part == "memory" and content.get("limit", -1) >= 0:
            _rlimit(spec, "RLIMIT_AS", content["limit"])
            instead.append(f"memory: {content['limit']} bytes of address space for each process")
        elif part == "pids" and content["limit"] >= 0:
            _rlimit(spec, "RLIMIT_NPROC", content["limit"])
            instead.append(f"pids: {content['limit']} processes for each user id")
        else:
            lost.append(f"{part}: no limit")
    words = ", ".join(instead + lost) or "no control group"
    spec["annotations"]["dev.sbx.degraded"] = f"limits ({words})"
    tell(f"limits are weaker than asked for ({reason}): {words}")


def _rlimit(spec: "dict[str, Any]", kind: str, number: int) -> None:
    kept = [limit for limit in spec["process"]["rlimits"] if limit["type"] != kind]
    spec["process"]["rlimits"] = [*kept, {"type": kind, "soft": number, "hard": number}]
