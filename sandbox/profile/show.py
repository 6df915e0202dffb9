"""A profile as text: for `sbx profile show`, and the tables in docs/profiles.md.  (cold)"""

from sandbox.profile.groups import GROUPS
from sandbox.profile.kept import UNLIMITED, Profile
from sandbox.profile.schema import TABLES


def _limit(value: int) -> str:
    return "unlimited" if value == UNLIMITED else str(value)


def setting(key: str, value: object) -> str:
    """The value of a key as one would write it: octal, seconds, words."""
    if key == "process.umask" and isinstance(value, int):
        return f"{value:03o}"
    if isinstance(value, dict):
        return " ".join(f"{name}={one}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return " ".join(setting("", one) for one in value) or "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}s" if key == "process.timeout" and isinstance(value, float) else str(value)


def _rows(profile: Profile) -> list[tuple[str, str, str]]:
    """(calls, condition, answer) in the order in which they are asked; group names stay names."""
    rows = []
    for rule in profile.policy.rules:
        condition = " and ".join(str(arg) for arg in rule.args)
        rows.append((" ".join(rule.written), condition, str(rule.answer)))
    if profile.policy.groups:
        rows.append((" ".join(profile.policy.groups), "", "allow"))
    rows.append(("everything else", "", str(profile.policy.default)))
    return rows


def _calls(names: tuple[str, ...]) -> str:
    return " ".join(names) or "none"


def text(profile: Profile) -> str:
    """All that the profile decides, for a terminal; the lines of `seccomp` are asked from top to bottom."""
    lines = [
        f"description     {profile.description}",
        f"file            {profile.path}",
        f"capabilities    {_calls(tuple(c.removeprefix('CAP_') for c in profile.capabilities))}",
        f"no new rights   {'yes' if profile.no_new_privileges else 'no'}",
    ]
    for kind, soft, hard in profile.rlimits:
        lines.append(f"rlimit          {kind.removeprefix('RLIMIT_').lower()} soft {_limit(soft)} hard {_limit(hard)}")
    lines += [f"masked          {path}" for path in profile.masked_paths]
    lines += [f"read-only       {path}" for path in profile.readonly_paths]
    settings = {key: value for key, value in profile.settings.items() if key != "test"}
    lines += [f"{key:<15} {setting(key, value)}" for key, value in settings.items()]
    for wish in profile.settings.get("test", ()):
        lines += [f"{'test':<15} {wanted} {probe}" for wanted, probe in wish.items()]
    lines += [f"extends         {path}" for path in profile.files[1:]]
    for names, condition, answer in _rows(profile):
        lines.append(f"seccomp         {answer:<13} {names}{f' if {condition}' if condition else ''}")
    used = [*profile.policy.groups, *(w for r in profile.policy.rules for w in r.written if w in GROUPS)]
    for group in dict.fromkeys(used):
        lines.append(f"group           {group}: {_calls(GROUPS[group])}")
    return "\n".join(lines) + "\n"


def markdown(profile: Profile) -> str:
    """The same as tables, for the documentation."""
    lines = [
        f"- capabilities: {_calls(tuple(c.removeprefix('CAP_') for c in profile.capabilities))}",
        f"- no_new_privileges: {'true' if profile.no_new_privileges else 'false'}",
        *(
            f"- rlimit {kind.removeprefix('RLIMIT_').lower()}: soft {_limit(soft)}, hard {_limit(hard)}"
            for kind, soft, hard in profile.rlimits
        ),
        f"- masked: {' '.join(f'`{p}`' for p in profile.masked_paths) or 'none'}",
        f"- read-only: {' '.join(f'`{p}`' for p in profile.readonly_paths) or 'none'}",
        "",
        "| calls | condition | answer | why |",
        "|---|---|---|---|",
    ]
    comments = [rule.comment for rule in profile.policy.rules]
    for (names, condition, answer), comment in zip(_rows(profile), [*comments, "", "", ""], strict=False):
        lines.append(f"| {names} | {condition.replace('|', chr(92) + '|')} | {answer} | {comment} |")
    return "\n".join(lines) + "\n"


def markdown_language() -> str:
    """Every key of the language."""
    lines = ["| table | key | value | a profile that extends may change it |", "|---|---|---|---|"]
    for table, keys in TABLES.items():
        if table == "rlimits":
            about = 'number, `"unlimited"`, or `{ soft = ..., hard = ... }`; units as in getrlimit(2)'
            lines.append(f"| `[rlimits]` | {' '.join(f'`{key}`' for key in keys)} | {about} | only lower |")
            continue
        for name, key in keys.items():
            if key.kind != "table":
                lines.append(
                    f"| {f'`[{table}]`' if table else '(top)'} | `{name}` | {key.kind}{': ' if key.about else ''}{key.about} | {key.merge} |"
                )
    return "\n".join(lines) + "\n"


def markdown_groups() -> str:
    lines = ["| group | calls |", "|---|---|"]
    lines += [f"| {group} | {_calls(names)} |" for group, names in GROUPS.items()]
    return "\n".join(lines) + "\n"
