"""A profile over those that it extends.  What is refused stays refused, unless the file says `allow_weaken = true`.  (cold)

Rules for plain keys stand in schema.py (grows, only shorter, only lower, ...).  System calls are compared by meaning:
a rule weakens when some call, with some arguments, that was refused would be allowed.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from sandbox.profile import patterns
from sandbox.profile.groups import GROUPS
from sandbox.profile.kept import Profile
from sandbox.profile.patterns import ANYTHING, Pattern
from sandbox.profile.policy import PERMISSIVE, Answer, Policy, Rule
from sandbox.profile.probes import is_below
from sandbox.profile.schema import DEVICES, GROW, LOWER, SHRINK, TABLES, TRUE, WITHIN

Limits = tuple[tuple[str, int, int], ...]
_NO_LIMIT = ("limits.pids.limit", "limits.cpu.quota")  # 0 is none
_PERIOD = 100000  # microseconds, the kernel's own
_HINT = "`allow_weaken = true` at the top of this file permits it"

# "table.key" that have a field of their own in Profile
_FIELDS = (
    "description", "extends", "allow_weaken", "capabilities.keep", "capabilities.drop", "process.noNewPrivileges", "rlimits",
    "filesystem.maskedPaths", "filesystem.readonlyPaths", "filesystem.uncovered", "seccomp.groups",
)  # fmt: skip


def whole(path: str, settings: dict[str, Any], rules: tuple[Rule, ...], default: Answer | None) -> Profile:
    """The profile of a file that extends none; it says all that is required."""
    assert default is not None  # the reader asks for it
    dropped = settings.get("capabilities.drop", ())
    gone = settings.get("filesystem.uncovered", ())
    return Profile(
        path=path,
        description=settings.get("description", ""),
        capabilities=tuple(name for name in settings["capabilities.keep"] if name not in dropped),
        no_new_privileges=settings.get("process.noNewPrivileges", True),
        rlimits=settings.get("rlimits", ()),
        masked_paths=tuple(p for p in settings["filesystem.maskedPaths"] if p not in gone),
        readonly_paths=tuple(p for p in settings["filesystem.readonlyPaths"] if p not in gone),
        policy=Policy(default, tuple(settings.get("seccomp.groups", ())), rules),
        settings={key: value for key, value in settings.items() if key not in _FIELDS},
        files=(path,),
    )


def over(
    path: str, base: Profile, settings: dict[str, Any], rules: tuple[Rule, ...], default: Answer | None,
    fail: Callable[..., NoReturn],
) -> Profile:  # fmt: skip
    """`settings` and `rules` of the file `path` put over `base`.

    `fail(table, word, detail, hint)` is called for what weakens without leave.
    """

    def weaker(key: str, detail: str) -> None:
        if not settings.get("allow_weaken"):
            table, _, word = key.rpartition(".")
            fail(table, word, f"`{key}` weakens {os.path.basename(base.path)}: {detail}", _HINT)

    kept = settings.get("capabilities.keep", base.capabilities)
    more = [name for name in kept if name not in base.capabilities]
    if more:
        weaker("capabilities.keep", f"it does not keep {' '.join(more)}")
    nnp = settings.get("process.noNewPrivileges", base.no_new_privileges)
    if base.no_new_privileges and not nnp:
        weaker("process.noNewPrivileges", "it is true there")
    groups = tuple(settings.get("seccomp.groups", ()))
    _calls(base.policy, Policy(default or base.policy.default, groups, rules), default, weaker)
    gone = settings.get("filesystem.uncovered", ())
    if gone:
        weaker("filesystem.uncovered", "covered paths only get more")
    masked = (*base.masked_paths, *settings.get("filesystem.maskedPaths", ()))
    readonly = (*base.readonly_paths, *settings.get("filesystem.readonlyPaths", ()))
    plain = {key: _plain(key, base.settings, value, weaker) for key, value in settings.items() if key not in _FIELDS}
    plain = {**base.settings, **plain}
    if _processors(plain) > _processors(base.settings):
        weaker("limits.cpu.period", f"it is {base.settings.get('limits.cpu.period') or _PERIOD} there")
    for key in ("filesystem.hidden", "filesystem.protected"):
        if gone and key in plain:
            plain[key] = tuple(path for path in plain[key] if path not in gone)
    dropped = settings.get("capabilities.drop", ())
    return Profile(
        path=path,
        description=settings.get("description", ""),
        capabilities=tuple(name for name in kept if name not in dropped),
        no_new_privileges=nnp,
        rlimits=_rlimits(base.rlimits, settings.get("rlimits", ()), weaker),
        masked_paths=tuple(dict.fromkeys(p for p in masked if p not in gone)),
        readonly_paths=tuple(dict.fromkeys(p for p in readonly if p not in gone)),
        policy=Policy(
            default or base.policy.default, tuple(dict.fromkeys((*base.policy.groups, *groups))), (*rules, *base.policy.rules)
        ),
        settings=plain,
        files=tuple(dict.fromkeys((path, *base.files))),
    )  # fmt: skip


def _rlimits(base: Limits, new: Limits, weaker: Callable[[str, str], None]) -> Limits:
    limits = {kind: (soft, hard) for kind, soft, hard in base}
    for kind, soft, hard in new:
        before = limits.get(kind)
        if before and (hard > before[1] or soft > before[0]):
            weaker(f"rlimits.{kind.removeprefix('RLIMIT_').lower()}", f"it is {before[0]}:{before[1]} there")
        limits[kind] = (soft, hard)
    return tuple((kind, *pair) for kind, pair in limits.items())


def _plain(key: str, base: dict[str, Any], value: Any, weaker: Callable[[str, str], None]) -> Any:
    """The value of `key` after the merge; says what is weaker than in `base`."""
    table, _, name = key.rpartition(".")
    merge = TABLES[table][name].merge
    before = base.get(key)
    if key == "process.umask":
        if before is not None and before & ~value:
            weaker(key, f"it is {before:04o} there")
    elif key == "process.user":
        # Without a group it is that of the image's passwd, or 0.
        roots = [[not word.strip("0") for word in (f"{user}:0".split(":")[:2])] for user in (before or "0", value)]
        if any(now and not then for then, now in zip(*roots, strict=True)):
            weaker(key, f"it is {before} there, and this is root")
    elif key == "filesystem.tmpfs":
        _memory(before or (), value, weaker)
        return tuple(dict.fromkeys((*(before or ()), *value)))
    elif key == "test":  # what the file wants refused, it need not want allowed for its base's sake
        refused = [wish["deny"] for wish in value if "deny" in wish]
        return (*(wish for wish in before or () if wish.get("allow") not in refused), *value)
    elif merge == GROW:
        return tuple(dict.fromkeys((*(before or ()), *value)))
    elif merge == WITHIN:
        more = [path for path in value if before is not None and not any(is_below(path, above) for above in before)]
        if more:
            weaker(key, f"it does not have {' '.join(more)}")
    elif merge == SHRINK:
        every = DEVICES if key == "devices.allow" else value if table == "landlock" else ()  # when not said
        ground = before if before is not None else every
        more = [item for item in value if item not in ground]
        if more:
            words = " ".join(item["source"] if isinstance(item, dict) else str(item) for item in more)
            weaker(key, f"it does not have {words}")
    elif merge == LOWER and before is not None:
        order = TABLES[table][name].words
        if (order.index(value) > order.index(before)) if order else _most(key, value) > _most(key, before):
            weaker(key, f"it is {before} there")
    elif merge == TRUE and before and not value:
        weaker(key, "it is true there")
    return value


def _most(key: str, value: Any) -> Any:
    """`value` as it compares: where 0 stands for no limit, that is more than any."""
    return float("inf") if key in _NO_LIMIT and not value else value


def _memory(before: tuple[str, ...], value: Iterable[str], weaker: Callable[[str, str], None]) -> None:
    """A file system in memory that replaces one of the same path may not let more be done."""
    known = {os.path.normpath(text.partition(":")[0]): text for text in before}
    for text in value:
        there = known.get(os.path.normpath(text.partition(":")[0]), text)
        if there != text:
            weaker("filesystem.tmpfs", f"it is {there} there")


def _processors(settings: dict[str, Any]) -> float:
    """How many may be used at a time."""
    quota = settings.get("limits.cpu.quota", 0)
    return quota / (settings.get("limits.cpu.period") or _PERIOD) if quota else float("inf")


def _calls(base: Policy, new: Policy, default: Answer | None, weaker: Callable[[str, str], None]) -> None:
    """Whether `new`, asked before `base`, allows a call that `base` refuses."""
    if default and default.action in PERMISSIVE and base.default.action not in PERMISSIVE:
        weaker("seccomp.defaultAction", f"it is {base.default} there")
    places: dict[str, list[Rule]] = {}
    for rule in new.rules:
        for name in rule.names:
            places.setdefault(name, []).append(rule)
    for name, rules in places.items():
        rows = patterns.in_order([rule.patterns() for rule in rules])
        for rule, row in zip(rules, rows, strict=True):
            if rule.answer.action in PERMISSIVE and any(_refused(base, name, pattern) for pattern in row):
                key = "seccomp.syscalls" if rule.origin and not rule.plain else "seccomp.allow"
                weaker(key, f"{name}{f' ({rule.condition})' if rule.args else ''} is refused there")
    for group in new.groups:
        for name in GROUPS[group]:
            if group not in base.groups and base.default.action not in PERMISSIVE and _rest(base, name, ANYTHING):
                weaker("seccomp.groups", f"{name} of {group} is refused there")
                return


def _refused(policy: Policy, name: str, pattern: Pattern) -> bool:
    """Whether `policy` refuses `name` for some of the arguments of `pattern`."""
    rows = policy.rows.get(name, [])
    for row, (_, answer) in zip(patterns.in_order([row for row, _ in rows]), rows, strict=True):
        if answer.action not in PERMISSIVE and any(patterns.overlap(pattern, one) for one in row):
            return True
    return policy.default.action not in PERMISSIVE and bool(_rest(policy, name, pattern))


def _rest(policy: Policy, name: str, pattern: Pattern) -> list[Pattern]:
    """What of `pattern` no rule or group of `policy` answers."""
    left = [pattern]
    for row, _ in policy.rows.get(name, []):
        for one in row:
            left = [piece for whole in left for piece in patterns.subtract(whole, one)]
    return left
