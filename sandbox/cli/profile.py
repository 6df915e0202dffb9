"""`sbx profile ACTION`: list, show, check, diff, explain, test, score, schema.  (cold)"""

import json
import marshal
import os
import sys
from typing import Any

from sandbox.errors import SandboxError, UsageError, printable, tell
from sandbox.profile import calls, compile, load, probes, questions, schema, score, show

# action -> fewest and most operands
_OPERANDS = {
    "list": (0, 0), "show": (0, 1), "check": (1, 1), "diff": (2, 2), "explain": (1, 7), "test": (1, 1), "score": (1, 1),
    "schema": (0, 0),
}  # fmt: skip


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """The verb `profile`, whose first operand says what to do."""
    actions = {
        "list": list_profiles, "show": show_profile, "check": check, "diff": diff, "explain": explain, "test": test,
        "score": give_score, "schema": print_schema,
    }  # fmt: skip
    action = operands[0] if operands else ""
    if action not in actions:
        hint = f"one of {', '.join(actions)}"
        raise UsageError("read command line", f"profile {action}".rstrip(), detail="no such action", hint=hint)
    least, most = _OPERANDS[action]
    if not least <= len(operands) - 1 <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise UsageError("read command line", f"profile {action}", detail=f"expected {wanted} operands")
    return actions[action](opts, operands[1:])


def _name(word: str) -> str:
    """A file in the working directory may be given without `./` when it ends as profiles do."""
    return f"./{word}" if "/" not in word and word.endswith(".toml") else word


def show_profile(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the profile NAME (default: `default`): with --effective what it comes to, with --json as a fragment for config.json."""
    name = _name(operands[0]) if operands else "default"
    if opts.get("json"):
        fragment = load.load(name)["fragment"]
        if "seccomp" in fragment["linux"]:
            fragment["linux"]["seccomp"] = marshal.loads(fragment["linux"]["seccomp"])  # as profile/load.py packs it
        _write(json.dumps(fragment, indent=2) + "\n")
        return 0
    profile = load.effective(name)[0]
    own = len(profile.files) > 1 and not opts.get("effective")
    text = load.read(profile.path) if own else show.text(profile)
    _write("".join(f"{printable(line)}\n" for line in text.splitlines()))
    return 0


def list_profiles(opts: dict[str, Any], operands: list[str]) -> int:
    """Print every profile that can be given by name: name, file, description; one that can not be read says why."""
    found = []
    for name, path in load.names().items():
        try:
            description = load.effective(name)[0].description
        except SandboxError as error:
            description = f"unusable: {error}"
        found.append({"name": name, "path": path, "description": description})
    if opts.get("json"):
        _write(json.dumps(found, indent=2) + "\n")
        return 0
    for row in found:
        _write("\t".join(printable(column) for column in row.values()) + "\n")
    return 0


def check(opts: dict[str, Any], operands: list[str]) -> int:
    """Read a profile, all that it extends, and compile its filter; what is wrong is the error."""
    profile = load.effective(_name(operands[0]))[0]
    program = compile.program(profile.policy.oci(calls.machine())) if profile.policy.confined else b""
    missing = [word for word in profile.settings.get("require", ()) if load.lacking(word)]
    for word in missing:
        tell(f"this machine lacks what the profile requires: {word}: {load.lacking(word)}")
    made = f"{len(program) // 8} instructions" if program else "no filter"
    _write(f"{printable(profile.path)}: right, {made}\n")
    return 0


def diff(opts: dict[str, Any], operands: list[str]) -> int:
    """Print what the second profile has in place of the first; 1 when they differ."""
    a, b = (load.effective(_name(word))[0] for word in operands)
    found = questions.difference(a, b)
    if opts.get("json"):
        _write(json.dumps(found, indent=2) + "\n")
    else:
        _write("".join(f"{printable(line)}\n" for line in found))
    return 1 if found else 0


def explain(opts: dict[str, Any], operands: list[str]) -> int:
    """Print what answers a call, and the line that says so; with arguments only the answer to those."""
    profile = load.effective(_name(opts.get("profile") or "default"))[0]
    name, *words = operands
    known = calls.table("x86_64") | calls.table("aarch64")
    if name not in known:
        best = calls.nearest(name)
        raise SandboxError("explain call", name, 22, "unknown system call", f"did you mean `{best}`?" if best else "")
    try:
        arguments = tuple(int(word, 0) & (1 << 64) - 1 for word in words)
    except ValueError:
        raise UsageError("explain call", " ".join(words), detail="arguments are numbers") from None
    full = (*arguments, *(0,) * (6 - len(arguments)))
    found = [questions.asked(profile, name, full)] if words else questions.rows(profile, name)
    if opts.get("json"):
        keys = ("condition", "answer", "line", "comment")
        _write(json.dumps([dict(zip(keys, row, strict=True)) for row in found], indent=2) + "\n")
        return 0
    for condition, answer, line, comment in found:
        text = (
            f"{name}{f' if {condition}' if condition else ''}: {answer}, by {line}{f' ({comment})' if comment else ''}"
        )
        _write(printable(text) + "\n")
    return 0


def test(opts: dict[str, Any], operands: list[str]) -> int:
    """Try every [[test]] of a profile, on paper and in a sandbox; 1 when one does not come out as it says."""
    name = _name(operands[0])
    profile = load.effective(name)[0]
    wishes = [next(iter(entry.items())) for entry in profile.settings.get("test", ())]
    if not wishes:
        tell("the profile has no [[test]]")
        return 0
    real = _try(name, [text for _, text in wishes])
    failed = 0
    for (wanted, text), outcome in zip(wishes, real, strict=True):
        paper = probes.paper(profile, text)
        right = outcome == (wanted == "allow") and paper in (None, outcome)
        failed += not right
        seen = "allowed" if outcome else "refused"
        more = f", on paper {'allowed' if paper else 'refused'}" if paper not in (None, outcome) else ""
        _write(printable(f"{'ok    ' if right else 'FAILED'} {wanted} {text}: {seen}{more}") + "\n")
    return 1 if failed else 0


def _try(name: str, texts: list[str]) -> list[bool]:
    """What each probe gets inside: True for allowed."""
    import subprocess

    wishes = json.dumps([probes.wish(text) for text in texts])
    command = [
        _launcher(),
        "run",
        "--profile",
        os.path.abspath(name) if "/" in name else name,
        "host:",
        "python3",
        "-Ic",
    ]
    done = subprocess.run([*command, probes.PROGRAM, wishes], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        words = printable(done.stderr.strip().rpartition("\n")[2]) or f"exit status {done.returncode}"
        raise SandboxError("try profile", name, detail=words) from None
    return [bool(outcome) for outcome in found]


def _launcher() -> str:
    """Our own launcher: beside the package in a tree, beside the interpreter once installed."""
    import shutil

    import sandbox

    tree = os.path.dirname(os.path.dirname(os.path.abspath(sandbox.__file__)))
    for path in (f"{tree}/bin/sbx", f"{os.path.dirname(sys.executable)}/sbx"):
        if os.access(path, os.X_OK):
            return path
    return shutil.which("sbx") or "sbx"


def give_score(opts: dict[str, Any], operands: list[str]) -> int:
    """Print what a profile leaves exposed, and a number from 0 (least) to 100; 1 when it is above --threshold."""
    profile = load.effective(_name(operands[0]))[0]
    found = score.rows(profile)
    number = score.number(found)
    if opts.get("json"):
        _write(json.dumps({"score": number, "rows": found}, indent=2) + "\n")
    else:
        for row in sorted((row for row in found if row["exposed"]), key=lambda row: -int(row["weight"])):
            _write(f"{row['weight']:3}  {row['what']:<24} {row['reason']}\n")
        _write(f"exposure {number} of 100\n")
    text = opts.get("threshold") or "100"
    if not text.isdecimal():
        raise UsageError("read --threshold", text, detail="a number from 0 to 100")
    return 1 if number > int(text) else 0


def print_schema(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the JSON Schema of the language."""
    _write(json.dumps(schema.json_schema(), indent=1) + "\n")
    return 0


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
