"""`sbx update`: change the limits of a container, running or not.  (cold)"""

import sys
from typing import Any

from sandbox import cgroup, limits, state
from sandbox.cli.each import the_one
from sandbox.errors import EINVAL, SandboxError
from sandbox.life.chosen import write


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """New limits take force at once, and again at each start; those that are not given stay."""
    known = the_one(operands, latest=opts["latest"])
    kept = state.read(known.directory, "spec")
    if not kept:
        raise SandboxError(
            "update container",
            known.name,
            detail="it is removed when it ends",
            hint="limits are given to `sbx run` then",
        )
    spec, bpf = kept
    old = spec["linux"].get("resources", {})
    if opts["memory"] and not opts["memory_swap"]:
        old = {**old, "memory": {key: value for key, value in old.get("memory", {}).items() if key != "swap"}}
    new = limits.resources(opts, old)
    if new == old:
        raise SandboxError("update container", known.name, EINVAL, "no limit given", "`sbx update --help` lists them")
    if known.lives:
        _in_force(known, new)
    spec["linux"]["resources"] = new
    write(known, "spec", (spec, bpf))
    sys.stdout.write(f"{known.id}\n")
    return 0


def _in_force(known: state.Known, new: dict[str, Any]) -> None:
    group = known.state.get("cgroup")
    if not group:
        raise SandboxError(
            "update container", known.name, detail="it runs without a control group of its own",
            hint="stop it first: it gets one at its next start",
        )  # fmt: skip
    cgroup.hand_on(group, new)
    cgroup.write_limits(f"{group}/payload", new)
