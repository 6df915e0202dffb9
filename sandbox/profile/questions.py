"""What can be asked about profiles: by which line a call is answered, and what two of them differ in.  (cold)"""

import os
from typing import Any

from sandbox.profile import calls, language, load, patterns
from sandbox.profile.groups import GROUPS
from sandbox.profile.kept import Profile
from sandbox.profile.policy import Answer
from sandbox.profile.show import setting


def origin(path: str) -> str:
    """FILE:LINE without its folder."""
    return os.path.basename(path)


def rows(profile: Profile, name: str) -> list[tuple[str, str, str, str]]:
    """(condition, answer, line, comment) in the order in which the call `name` meets them; the last is the default."""
    found = []
    for rule in profile.policy.rules:
        if name in rule.names:
            found.append((rule.condition, str(rule.answer), origin(rule.origin), rule.comment))
            if not rule.args:
                return found
    for group in profile.policy.groups:
        if name in GROUPS[group]:
            return [*found, ("", "allow", _group_line(profile, group), f'by "{group}"')]
    return [*found, ("", str(profile.policy.default), _group_line(profile, "defaultAction"), "everything else")]


def asked(profile: Profile, name: str, arguments: tuple[int, ...]) -> tuple[str, str, str, str]:
    """The one of `rows` that answers `name` with these six arguments."""
    for rule in profile.policy.rules:
        if name in rule.names and any(patterns.matches(pattern, arguments) for pattern in rule.patterns()):
            return rule.condition, str(rule.answer), origin(rule.origin), rule.comment
    return rows(profile, name)[-1]


def _group_line(profile: Profile, word: str) -> str:
    """Where a group, or the default, stands: the first file that has it in [seccomp]."""
    for path in profile.files:
        line = language.line_of(path, load.read(path), "seccomp", word)
        if line:
            return f"{origin(path)}:{line}"
    return origin(profile.path)


def difference(a: Profile, b: Profile) -> list[str]:
    """What `b` has in place of `a`, a line each: `-` only in `a`, `+` only in `b`, `~` another value."""
    found = []
    for sign, some, others in (("-", a, b), ("+", b, a)):
        found += [f"{sign} capability {name}" for name in some.capabilities if name not in others.capabilities]
        for field in ("masked_paths", "readonly_paths"):
            word = field.partition("_")[0]
            found += [f"{sign} {word} {path}" for path in getattr(some, field) if path not in getattr(others, field)]
    if a.no_new_privileges != b.no_new_privileges:
        found.append(f"~ noNewPrivileges {_word(a.no_new_privileges)} -> {_word(b.no_new_privileges)}")
    limits = [{kind: f"{soft}:{hard}" for kind, soft, hard in one.rlimits} for one in (a, b)]
    found += _values("rlimit ", *limits)
    settings: list[dict[str, Any]] = [{k: v for k, v in one.settings.items() if k != "test"} for one in (a, b)]
    found += _values("", *settings)
    changed: dict[tuple[str, str], list[str]] = {}
    for name in sorted(calls.table(calls.machine())):
        answers = [_answers(one, name) for one in (a, b)]
        if answers[0] != answers[1]:
            changed.setdefault((answers[0], answers[1]), []).append(name)
    return [*found, *(f"~ {' '.join(names)}: {before} -> {after}" for (before, after), names in changed.items())]


def _values(label: str, a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    return [
        f"~ {label}{key} {_word(a.get(key), key)} -> {_word(b.get(key), key)}"
        for key in dict.fromkeys((*a, *b)) if a.get(key) != b.get(key)
    ]  # fmt: skip


def _word(value: Any, key: str = "") -> str:
    return "not said" if value is None else setting(key, value)


def _answers(profile: Profile, name: str) -> str:
    """All answers to a call in words; the same words mean the same answers."""
    found: list[str] = []
    left = patterns.in_order([row for row, _ in profile.policy.rows.get(name, [])])
    answers: list[Answer] = [answer for _, answer in profile.policy.rows.get(name, [])]
    for pattern, answer in zip(left, answers, strict=True):
        if pattern:
            whole = pattern == [patterns.ANYTHING]
            conditions = [f"argument {i} & {m:#x} == {v:#x}" for p in pattern for i, (m, v) in enumerate(p) if m]
            found.append(
                f"{answer}{'' if whole else ' if ' + ' or '.join(conditions[:3])}{' ...' if len(conditions) > 3 else ''}"
            )
            if whole:
                return ", ".join(found)
    return ", ".join([*found, str(profile.policy.default)])
