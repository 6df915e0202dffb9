"""Refused calls, as the keeper counted them, in words: which rule it was, and what to add if they were meant; and calls
that failed by the id map, or with what is read-only.  (cold)"""

import errno
import os
from typing import Any

from sandbox import linux
from sandbox.errors import SandboxError, printable
from sandbox.profile import calls, load, patterns
from sandbox.profile.groups import GROUPS
from sandbox.profile.policy import Policy, Rule

_UNMAPPED = "not all of them are mapped; --userns, --uidmap and /etc/subuid say which are"
_SHOWN = 20  # lines; the report has them all


def explain(profile: str, seccomp: str, records: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """One dict for each kind of refusal in `records` (see refusals.py): {call, errno, count, process, pid, args, rule, advice}.

    `rule` is FILE:LINE of a profile, or the JSON profile's path; "" where no rule is why, but the id map (`args` are ids then) or a
    file system that is read-only (`args` is the path).
    """
    names = {number: name for name, number in calls.table(calls.machine()).items()}
    path, policy = _policy(profile, seccomp)
    found = []
    for number, code, process, count, pid, args in records:
        name = names.get(number, f"call {number}")
        if not code:
            found.append(
                {
                    "call": name, "errno": "EINVAL", "count": count, "process": process, "pid": pid, "args": list(args),
                    "rule": "", "advice": _UNMAPPED,
                }
            )  # fmt: skip
            continue
        if args and isinstance(args[0], str):
            found.append(
                {
                    "call": name, "errno": "EROFS", "count": count, "process": process, "pid": pid, "args": [args[0]],
                    "rule": "", "advice": args[1],
                }
            )  # fmt: skip
            continue
        rule = _rule(policy, name, tuple(args)) if policy else None
        alone = policy is not None and len(policy.rows.get(name, ())) < 2
        found.append(
            {
                "call": name, "errno": errno.errorcode.get(code, str(code)), "count": count, "process": process, "pid": pid,
                "args": list(args), "rule": rule[1].origin if rule else path,
                "advice": _advice(name, rule[1] if rule else None, alone),
            }
        )  # fmt: skip
    return found


def lines(profile: str, seccomp: str, records: list[tuple[Any, ...]]) -> list[str]:
    """`explain`, a line each: refused 3x ptrace by default.toml:41 (strace, pid 7): add "@debug"."""
    made = []
    for row in explain(profile, seccomp, records)[:_SHOWN]:
        times = f"{row['count']}x " if row["count"] > 1 else ""
        who = f"{row['process']}, pid {row['pid']}" if row["process"] else "a process that ended"
        line = f"refused {times}{row['call']} by {os.path.basename(row['rule'])} ({who}): {row['advice']}"
        if not row["rule"]:
            what = row["args"][0] if row["errno"] == "EROFS" else f"ids {':'.join(map(str, row['args']))}"
            line = f"failed {times}{row['call']} with {what} ({who}): {row['advice']}"
        made.append(printable(line))
    if len(records) > _SHOWN:
        made.append(f"refused {len(records) - _SHOWN} more kinds of calls; --report has all")
    return made


def report(profile: str, seccomp: str, records: list[tuple[Any, ...]], about: dict[str, Any], path: str) -> None:
    """Write `about` and the refusals to `path`, as JSON."""
    import json

    text = json.dumps({**about, "refused": explain(profile, seccomp, records)}, indent=2) + "\n"
    try:
        _put(path, text.encode())
    except OSError as error:
        raise SandboxError.of("write report", path, error) from None


def _put(path: str, content: bytes) -> None:
    """Write a file whose folder the command may have had in its hands: links that it has put there are not followed.

    A link in the place of the file is replaced, one on the way from the working directory is an error.
    """
    directory, _, name = path.rpartition("/")
    here = os.getcwd()
    below = f"{directory}/".startswith(f"{here}/")
    if os.path.exists(path) and not os.path.isfile(path) and not (below and os.path.islink(path)):
        with open(path, "wb") as file:  # /dev/stdout, a pipe of the caller's
            file.write(content)
        return
    resolve = linux.RESOLVE_NO_SYMLINKS if below else 0
    start = directory[len(here) :].strip("/") or "." if below else directory or "/"
    folder = linux.openat2(linux.AT_FDCWD, start, os.O_PATH | os.O_DIRECTORY, resolve)
    temporary = f".{name}.{os.getpid()}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o666, dir_fd=folder), "wb") as file:
            file.write(content)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


def _policy(profile: str, seccomp: str) -> tuple[str, Policy | None]:
    """(file, its rules); of a JSON profile the path only."""
    if seccomp:
        return seccomp, None
    try:
        found, _ = load.effective(profile)
    except SandboxError:  # it was changed or removed meanwhile
        return profile, None
    return found.path, found.policy


def _rule(policy: Policy, name: str, args: tuple[int, ...]) -> tuple[int, Rule] | None:
    """(position, rule) that answers the call; None when it is the default."""
    for position, rule in enumerate(policy.rules):
        if name in rule.names and any(patterns.matches(pattern, args) for pattern in rule.patterns()):
            return position, rule
    return None


def _advice(name: str, rule: Rule | None, alone: bool) -> str:
    """What to add to a profile to allow the call; `alone`: its arguments make no difference there."""
    for group, members in GROUPS.items():
        if alone and name in members and (rule is None or group in rule.written):
            return f'add "{group}"'
    why = f" ({rule.comment})" if rule and rule.comment else ""
    return f"a rule of its own can allow it{why}"
