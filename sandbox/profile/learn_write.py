"""From what was seen to a profile: only what is stricter than the base, with a comment for each rule.  (cold)"""

import os
from dataclasses import dataclass

from sandbox import cgroup
from sandbox.observe_rights import KNOWN
from sandbox.profile import calls, learn_landlock, learn_record, patterns
from sandbox.profile.groups import GROUPS
from sandbox.profile.kept import Profile
from sandbox.profile.learn_landlock import printed, quoted
from sandbox.profile.learn_record import SCRATCH, Record, comment
from sandbox.profile.learn_watch import NEEDED
from sandbox.profile.policy import PERMISSIVE, Answer
from sandbox.profile.schema import DEVICES, NETWORKS

_SHOWN = 40  # lines of a list in a comment
_MIB = 1 << 20
_LEAST_MEMORY, _LEAST_TASKS, _LEAST_DESCRIPTORS = 64 * _MIB, 32, 256
_NOT_FOLDERS = ("proc", "sys", "dev", "tmp", "run", "mnt", "media", "lost+found")
# What a replay that failed lets go, one after the other; the words stand in the profile.
PARTS = ("paths and ports", "files and devices", "capabilities, network and limits")


@dataclass(frozen=True)
class Source:
    """What is written: `seen` over `base`, which the file extends as `extends`; without the parts `given_up`."""

    base: Profile
    extends: str
    seen: Record
    given_up: tuple[str, ...] = ()

    def has(self, part: str) -> bool:
        return part not in self.given_up


def text(source: Source) -> str:
    """The profile's text, without its record."""
    parts = [_head(source), _capabilities(source), _rlimits(source), _files(source), _landlock(source), _devices(source), _network(source),
             _limits(source), _calls(source)]  # fmt: skip
    return "\n".join(part for part in parts if part)


def _head(source: Source) -> str:
    seen = source.seen
    times = "1 run" if seen.runs == 1 else f"{seen.runs} runs"
    lines = f"# Written by `sbx profile learn` from {times} of:\n" + "".join(
        comment(printed(one)) for one in seen.commands[:_SHOWN]
    )
    lines += "# Everything here is stricter than the profile that it extends. --merge adds further runs and writes the file anew:\n"
    lines += "# rules of your own belong into a profile that extends this one.\n"
    for part in source.given_up:
        lines += f"# Left as it is in `{source.extends}`, because the command did not pass with less: {part}.\n"
    if seen.refused:
        lines += "# Refused then, and refused now: " + ", ".join(seen.refused) + ".\n"
    if seen.protected:
        lines += "# Asked for, and never proposed (secrets, the store, control sockets):\n" + _list(seen.protected)
    lines += "#\n# Programs:\n" + _list(seen.programs)
    lines += "# Files:\n" + _list([f"{place.pattern}: {place.words} ({place.reason})" for place in seen.places])
    if seen.reached:
        lines += "# Addresses:\n" + _list(seen.reached)
    if seen.full:
        lines += "# There was more than could be kept: the lists are not complete.\n"
    if seen.spare:
        lines += "# Volumes that nothing was written to, and that could be given with `:ro`:\n" + _list(seen.spare)
    told = quoted(f"learned: {'; '.join(seen.commands)}"[:100])
    return f"{lines}\ndescription = {told}\nextends = {quoted(source.extends)}\n"


def _list(lines: list[str]) -> str:
    made = "".join(f"#   {printed(line)}\n" for line in lines[:_SHOWN])
    return made + (f"#   and {len(lines) - _SHOWN} more\n" if len(lines) > _SHOWN else "")


def _strings(names: list[str]) -> str:
    """A TOML list, over several lines when it is long."""
    words = [quoted(name) for name in names]
    if len(", ".join(words)) < 90:
        return f"[{', '.join(words)}]"
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) > 112:
            lines.append(line.rstrip())
            line = ""
        line += f"{word}, "
    return "[\n" + "".join(f"  {one}\n" for one in (*lines, line.rstrip())) + "]"


def _capabilities(source: Source) -> str:
    base, seen = source.base, source.seen
    if not source.has(PARTS[2]) or not base.capabilities:
        return ""
    names = [name.removeprefix("CAP_") for name in base.capabilities]
    unknown = [name for name in names if name not in KNOWN]
    used = [name for name in names if name in seen.capabilities]
    lines = "[capabilities]\n# Concluded from calls, ids and owners, and proven by a replay.\n"
    for name in used:
        lines += f"#   {name}: {printed(seen.capabilities[name])}\n"
    if unknown and seen.root:
        lines += f"# Whether they are used can not be seen: {' '.join(unknown)}\n"
    if not seen.root:
        lines += "# The command was not root: it has none.\n"
    kept = [name for name in names if name in used or (name in unknown and seen.root)]
    return f"{lines}keep = {_strings(kept)}\n"


def _rlimits(source: Source) -> str:
    base = {kind: (soft, hard) for kind, soft, hard in source.base.rlimits}
    peak = source.seen.peak.get("descriptors", 0)
    if not source.has(PARTS[2]) or not peak:
        return ""
    wanted = max(_LEAST_DESCRIPTORS, 2 * peak)
    soft, hard = base.get("RLIMIT_NOFILE", (wanted, wanted))
    soft, hard = min(soft, wanted), min(hard, wanted)
    return f"[rlimits]\n# The table of open files had room for {peak} at most.\nnofile = {{ soft = {soft}, hard = {hard} }}\n"


def _files(source: Source) -> str:
    base, seen = source.base, source.seen
    if not source.has(PARTS[1]):
        return ""
    lines = ""
    if base.settings.get("filesystem.readonly"):
        pass
    elif not seen.changed and not seen.found_in_scratch:
        lines += f"# Nothing was written outside of volumes and of {', '.join(SCRATCH)}, which are in memory then.\nreadonly = true\n"
    else:
        closed = closed_folders(seen)
        if seen.changed:
            lines += "# Written, so that the root can not be read-only as a whole:\n" + _list(seen.changed)
        else:
            lines += "# Read in folders that would be empty with a read-only root:\n" + _list(seen.found_in_scratch)
        if closed:
            lines += f"# Nothing was written in these.\nreadonlyPaths = {_strings(closed)}\n"
    if not any(place.pattern.startswith("/sys") for place in seen.places) and "/sys" not in base.masked_paths:
        lines += '# Nothing was opened in it.\nmaskedPaths = ["/sys"]\n'
    return f"[filesystem]\n{lines}" if lines else ""


def _landlock(source: Source) -> str:
    return learn_landlock.lines(source.base, source.seen) if source.has(PARTS[0]) else ""


def closed_folders(seen: Record) -> list[str]:
    """Folders at the top of the root that nothing was written in, in volumes neither."""
    written = [place.pattern for place in seen.places if place.rights & 2] + seen.changed
    busy = {path.split("/")[1] for path in written if path.count("/")} | {path.split("/")[1] for path in seen.protected}
    return [f"/{name}" for name in seen.top if name not in _NOT_FOLDERS and name not in busy]


def _devices(source: Source) -> str:
    base, seen = source.base, source.seen
    before = base.settings.get("devices.allow", DEVICES)
    # `null` covers what is masked, and stands for an input that there is not.
    kept = [name for name in before if name == "null" or f"/dev/{name}" in seen.devices]
    if not source.has(PARTS[1]) or len(kept) == len(before):
        return ""
    return f"[devices]\n# Those that were opened.\nallow = {_strings(kept)}\n"


def _network(source: Source) -> str:
    base, seen = source.base, source.seen
    before = base.settings.get("network.mode", "")
    if not source.has(PARTS[2]):
        return ""
    if not seen.outside:
        why = (
            "No connection was tried." if not seen.reached else "Nothing beyond the container itself was to be reached."
        )
        return f'[network]\n# {why}\nmode = "none"\n' if before != "none" else ""
    if seen.network not in NETWORKS or (before and NETWORKS.index(before) <= NETWORKS.index(seen.network)):
        return ""
    return f'[network]\n# As it ran; the addresses are at the top.\nmode = "{seen.network}"\n'


def limits(source: Source) -> dict[str, int]:
    """Memory and tasks, from the peaks with head room; never above those of the base."""
    settings, peak = source.base.settings, source.seen.peak
    memory = -(-max(_LEAST_MEMORY, 2 * peak.get("memory", 0)) // (16 * _MIB)) * 16 * _MIB
    tasks = max(_LEAST_TASKS, 4 * peak.get("tasks", 0))
    known = (settings.get("limits.memory.limit", memory), settings.get("limits.pids.limit", tasks))
    return {"memory": min(memory, known[0]), "pids": min(tasks, known[1])}


def _limits(source: Source) -> str:
    if not source.has(PARTS[2]):
        return ""
    found, peak = limits(source), source.seen.peak
    tasks = peak.get("tasks", 0)
    lines = [f"# At most {-(-peak.get('memory', 0) // _MIB)} MiB of memory and {tasks} task{'' if tasks == 1 else 's'} at a time were seen.",
             "[limits.memory]", f"limit = \"{found['memory'] // _MIB}m\"", "[limits.pids]", f"limit = {found['pids']}"]  # fmt: skip
    missing = cgroup.unavailable({"memory": {"limit": 1}, "pids": {"limit": 1}})
    if missing:
        lines = [
            f"# Not in force, because this machine can not: {missing}",
            *(f"# {line}".replace("# # ", "# ") for line in lines),
        ]
    return "\n".join(lines) + "\n"


def refused_calls(source: Source) -> tuple[list[str], list[str]]:
    """(calls that the base allows, in part at least, and that are neither seen nor needed; those that are)."""
    policy = source.base.policy
    known = calls.table(calls.machine())
    if policy.default.action in PERMISSIVE:
        able = set(known)
    else:
        able = {name for name, rows in policy.rows.items() if _allowed(rows)}
    kept = {*NEEDED, *source.seen.calls} & able
    return sorted(able - kept), sorted(kept)


def _allowed(rows: list[tuple[list[patterns.Pattern], Answer]]) -> bool:
    """Whether some arguments are allowed by a rule that is reached."""
    left = patterns.in_order([row for row, _ in rows])
    return any(row and answer.action in PERMISSIVE for row, (_, answer) in zip(left, rows, strict=True))


def _calls(source: Source) -> str:
    refused, kept = refused_calls(source)
    counts = source.seen.calls
    seen = sorted((name for name in kept if name in counts), key=lambda name: -counts[name])
    lines = "[seccomp]\n# Seen, and how often:\n" + comment(" ".join(f"{name} {counts[name]}" for name in seen))
    lines += "# What every start needs, or works on open descriptors, own memory and time only; not counted:\n"
    lines += comment(" ".join(name for name in kept if name not in counts))
    left = set(refused)
    words = []
    for group, members in GROUPS.items():
        if set(members) <= left:
            words.append(group)
            left -= set(members)
    if source.base.policy.default.action in PERMISSIVE:
        rows = source.base.policy.rows
        lines += 'defaultAction = "SCMP_ACT_ERRNO"\ndefaultErrnoRet = "ENOSYS"\n'
        lines += f"allow = {_strings([name for name in kept if name not in rows])}\n"
    lines += f"# All else that `{source.extends}` allows.\n"
    lines += f"deny = {_strings([*words, *sorted(left)])}\n"
    families = _families(source)
    return lines + (f"\n{families}" if families else "")


def _families(source: Source) -> str:
    """Internet sockets when there were none."""
    if {2, 10} & set(source.seen.families) or not source.has(PARTS[2]) or "socket" not in source.seen.calls:
        return ""
    return (
        '[[seccomp.syscalls]]\nnames = ["socket"]\naction = "SCMP_ACT_ERRNO"\nerrnoRet = "EAFNOSUPPORT"\n'
        'args = [{ index = 0, op = "SCMP_CMP_EQ", value = [2, 10] }]\ncomment = "AF_INET and AF_INET6 were not used"\n'
    )


def extends_word(name: str, output: str) -> str:
    """How a profile in the file `output` names the profile `name`; "" when it can not."""
    if "/" not in name:
        return name
    folder = os.path.realpath(os.path.dirname(output) or ".")
    path = os.path.realpath(name)
    return f"./{path[len(folder) + 1 :]}" if path.startswith(f"{folder}/") else ""


def whole(source: Source) -> str:
    """The profile with its record."""
    body = text(source)
    return body + learn_record.dump(source.seen, body)
