"""`sbx profile show [NAME]` and `sbx profile list`.  (cold)"""

import json
import marshal
import sys
from typing import Any

from sandbox.errors import SandboxError, UsageError, printable
from sandbox.profile import language, load, show


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """The verb `profile`, whose first operand is `show` or `list`."""
    actions = {"show": show_profile, "list": list_profiles}
    action = operands[0] if operands else ""
    if action not in actions:
        raise UsageError("read command line", f"profile {action}".rstrip(), detail="expected `show` or `list`")
    return actions[action](opts, operands[1:])


def show_profile(opts: dict[str, Any], operands: list[str]) -> int:
    """Print what the profile NAME (default: `default`) decides; with --json the fragment for config.json."""
    if len(operands) > 1:
        raise UsageError("read command line", "profile show", detail="expected at most one NAME")
    name = operands[0] if operands else "default"
    if opts.get("json"):
        fragment = load.load(name)["fragment"]
        if "seccomp" in fragment["linux"]:
            fragment["linux"]["seccomp"] = marshal.loads(fragment["linux"]["seccomp"])  # as profile/load.py packs it
        _write(json.dumps(fragment, indent=2) + "\n")
        return 0
    path, _ = load.find(name)
    text = show.text(language.parse(path, load.read(path)))
    _write("".join(f"{printable(line)}\n" for line in text.splitlines()))
    return 0


def list_profiles(opts: dict[str, Any], operands: list[str]) -> int:
    """Print every profile that can be given by name: name, file, description; one that can not be read says why."""
    if operands:
        raise UsageError("read command line", "profile list", detail="expected no operands")
    found = []
    for name, path in load.names().items():
        try:
            description = language.parse(path, load.read(path)).description
        except SandboxError as error:
            description = f"unusable: {error}"
        found.append({"name": name, "path": path, "description": description})
    if opts.get("json"):
        _write(json.dumps(found, indent=2) + "\n")
        return 0
    for row in found:
        _write("\t".join(printable(column) for column in row.values()) + "\n")
    return 0


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
