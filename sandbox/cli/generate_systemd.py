"""`sbx generate systemd`: a unit that starts a container with the machine or the login.  (cold)"""

import os
import shlex
import sys
from typing import Any

from sandbox import compose
from sandbox.errors import SandboxError
from sandbox.life.chosen import find

_UNIT = """\
# sbx generate systemd {name}
# As a user: put it below ~/.config/systemd/user/, then
#   systemctl --user daemon-reload && systemctl --user enable --now {unit}
#   loginctl enable-linger        to have it started without a login
[Unit]
Description=sbx container {name}
Wants=network-online.target
After=network-online.target

[Service]
Type=simple
{environment}ExecStart={sbx} start --attach {name}
ExecStop={sbx} stop --ignore --time {seconds} {name}
Restart={restart}
TimeoutStopSec={patience}
KillMode=mixed
Delegate=yes

[Install]
WantedBy=default.target
"""
_RESTART = {"no": "no", "always": "always", "unless-stopped": "always", "on-failure": "on-failure"}


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the unit, or with --files write it here and print its name."""
    known = find(operands[0])
    if known.about.get("rm"):
        raise SandboxError(
            "make unit for",
            known.name,
            detail="it is removed when it ends, so it can not be started again",
            hint="make it without --rm",
        )
    policy = opts["restart_policy"] or known.about.get("restart", ("no", 0))[0]
    policy = "on-failure" if policy == "no" and not opts["restart_policy"] else compose.restart_policy(policy)[0]
    seconds = int(float(opts["time"] or known.about.get("stop_timeout", 10)))
    unit = f"container-{known.name}.service"
    text = _UNIT.format(
        name=known.name, unit=unit, sbx=shlex.quote(os.path.abspath(_program())), seconds=seconds, restart=_RESTART[policy],
        patience=seconds + 20, environment=_environment(),
    )  # fmt: skip
    if not opts["files"]:
        sys.stdout.write(text)
        return 0
    try:
        with open(unit, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SandboxError.of("write unit", unit, error) from None
    print(os.path.abspath(unit))
    return 0


def _program() -> str:
    """The launcher that we were started by: beside the package in a tree, beside the interpreter once installed."""
    import shutil

    import sandbox

    tree = os.path.dirname(os.path.dirname(os.path.abspath(sandbox.__file__)))
    for path in (f"{os.path.dirname(sys.executable)}/sbx", f"{tree}/bin/sbx", shutil.which("sbx") or ""):
        if os.access(path, os.X_OK):
            return path
    return "sbx"


def _environment() -> str:
    """What decides where the store is."""
    kept = {name: os.environ[name] for name in ("SBX_STORE", "XDG_DATA_HOME") if name in os.environ}
    return "".join(f'Environment="{name}={value}"\n' for name, value in kept.items())
