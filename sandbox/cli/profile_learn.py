"""`sbx profile learn`: a profile from what a command does.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError, UsageError, tell
from sandbox.profile.learn import MOST_RUNS, Wish, learn

OWN = ("base", "output", "runs", "status", "merge", "force", "debug")


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Observe the command, write the profile, replay the command under it."""
    if len(operands) < 2:
        raise UsageError(
            "profile learn", operands[0], detail="no command given", hint="sbx profile learn -o FILE IMAGE COMMAND..."
        )
    if opts["merge"] and not opts["output"]:
        raise UsageError("profile learn", "--merge", detail="it needs -o FILE, to which it adds")
    base = opts["base"]
    if "/" not in base and base.endswith(".toml"):
        base = f"./{base}"
    output = opts["output"]
    wish = Wish(
        {name: value for name, value in opts.items() if name not in OWN}, operands, base, output,
        _number(opts, "runs", 1, MOST_RUNS), _number(opts, "status", 0, 124), opts["merge"], opts["force"],
    )  # fmt: skip
    learn(wish)
    if output:
        tell(f"{output}: the command passes with it; `sbx run --profile {output if '/' in output else f'./{output}'}`")
    return 0


def _number(opts: dict[str, Any], name: str, least: int, most: int) -> int:
    text = opts[name]
    if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
        raise SandboxError(f"read --{name}", text, 22, hint=f"a number from {least} to {most}")
    return int(text)
