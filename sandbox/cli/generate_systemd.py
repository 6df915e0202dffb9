"""`sbx generate systemd`: a unit that starts a container with the machine or the login.  (cold)"""

import json
import os
import sys
from typing import Any

from sandbox import options, state, values
from sandbox.errors import SandboxError
from sandbox.life.chosen import find
from sandbox.life.ending import patience
from sandbox.options_run import RUN

_HEADER = """\
# sbx generate systemd {name}
# As a user: put it below ~/.config/systemd/user/, then
#   systemctl --user daemon-reload && systemctl --user enable --now {unit}
#   loginctl enable-linger        to have it started without a login
"""
_UNIT = """\
[Unit]
Description=sbx container {name}
Wants=network-online.target
After=network-online.target
{relations}
[Service]
Type=simple
{environment}ExecStart={start}
ExecStop={sbx} stop --ignore --time {seconds} {name}
{after_stop}Restart={restart}
TimeoutStopSec={patience}
{start_timeout}KillMode=mixed
Delegate=yes

[Install]
WantedBy=default.target
"""
_RESTART = {"no": "no", "always": "always", "unless-stopped": "always", "on-failure": "on-failure"}
# What the unit does itself.
_OF_UNIT = (
    "detach", "name", "replace", "rm", "restart", "cidfile", "pidfile", "print_config", "print_plan", "timings", "debug", "preserve_fds",
    "preserve_fd",
)  # fmt: skip
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,@+")


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the unit, or with --files write it here and print its name."""
    known = find(operands[0])
    if known.about.get("rm") and not opts["new"]:
        raise SandboxError(
            "make unit for",
            known.name,
            detail="it is removed when it ends, so it can not be started again",
            hint="make it without --rm, or let the unit make it: --new",
        )
    policy = opts["restart_policy"] or known.about.get("restart", ("no", 0))[0]
    policy = "on-failure" if policy == "no" and not opts["restart_policy"] else values.restart_policy(policy)[0]
    seconds = int(patience(opts["time"], "--time") if opts["time"] else known.about.get("stop_timeout", 10))
    if opts["template"] and not opts["new"]:
        raise SandboxError("make unit for", known.name, detail="a template makes containers anew: --new")
    name = f"{known.name}-%i" if opts["template"] else known.name
    unit = f"{opts['container_prefix']}{opts['separator']}{known.name}{'@' if opts['template'] else ''}.service"
    if "/" in unit or not unit.isprintable():
        raise SandboxError("make unit for", known.name, detail=f"`{unit}` can be no unit's name")
    program = _word(os.path.abspath(_program()))
    relations = [f"{key.capitalize()}={one}\n" for key in ("wants", "after", "requires") for one in opts[key]]
    if any("\n" in line[:-1] for line in relations):
        raise SandboxError("make unit for", known.name, detail="a newline in the name of a unit")
    restart = _RESTART[policy] + (
        f"\nRestartSec={patience(opts['restart_sec'], '--restart-sec'):g}" if opts["restart_sec"] else ""
    )
    text = _UNIT.format(
        name=name, sbx=program, seconds=seconds, restart=restart, patience=seconds + 20,
        start_timeout=f"TimeoutStartSec={patience(opts['start_timeout'], '--start-timeout'):g}\n" if opts["start_timeout"] else "",
        relations="".join(relations), environment=_environment(opts["env"]),
        start=f"{program} {_creation(known, name)}" if opts["new"] else f"{program} start --attach {known.name}",
        after_stop=f"ExecStopPost={program} rm --force --ignore {name}\n" if opts["new"] else "",
    )  # fmt: skip
    if not opts["no_header"]:
        text = _HEADER.format(name=known.name, unit=unit) + text
    if not opts["files"]:
        sys.stdout.write(json.dumps({unit.removesuffix(".service"): text}, indent=2) + "\n" if opts["format"] else text)
        return 0
    try:
        with open(unit, "x", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    except OSError as error:
        raise SandboxError.of("write unit", unit, error) from None
    print(os.path.abspath(unit))
    return 0


def _creation(known: state.Known, name: str) -> str:
    """The command line that the container was made by, for the foreground, with its name."""
    argv = [str(word) for word in known.about.get("argv", ())]
    argv = argv[1:] if argv[:1] == ["container"] else argv
    if argv[:1] not in (["run"], ["create"]):
        raise SandboxError("make unit for", known.name, detail="it is not known how it was made")
    parsed = options.parse(argv[0], argv[1:])
    if not parsed:
        from sandbox.cli.app import typer_parse

        found = typer_parse(argv[0], argv[1:])
        assert not isinstance(found, int)
        parsed = found
    given, operands = parsed
    words = ["run", "--replace"]
    if not given["network"]:
        words.append(f"--network={known.about['network']}")  # what SBX_NETWORK said then
    for option in RUN:
        value = given.get(option.dest, option.blank())
        if value == option.blank() or option.dest in _OF_UNIT:
            continue
        flag = next(flag for flag in option.flags if flag[:2] == "--")
        words += (
            [flag]
            if value is True
            else [f"{flag}={one}" for one in (value if option.kind == options.LIST else [value])]
        )
    return " ".join([_word(words[0]), f"--name={name}", *map(_word, [*words[1:], *operands])])


def _word(text: str) -> str:
    """One word of a command line, as systemd.service(5) wants it quoted."""
    text = text.replace("%", "%%").replace("$", "$$")
    if text and set(text) <= _SAFE | {"%"}:
        return text
    escaped = "".join(
        char if char.isprintable() and char not in '"\\' else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
        for char in text
    )
    return f'"{escaped}"'


def _program() -> str:
    """The launcher that we were started by: beside the package in a tree, beside the interpreter once installed."""
    import shutil

    import sandbox

    tree = os.path.dirname(os.path.dirname(os.path.abspath(sandbox.__file__)))
    for path in (f"{os.path.dirname(sys.executable)}/sbx", f"{tree}/bin/sbx", shutil.which("sbx") or ""):
        if os.access(path, os.X_OK):
            return path
    return "sbx"


def _environment(given: list[str]) -> str:
    """What decides where the store is, and what was asked for."""
    kept = [f"{name}={os.environ[name]}" for name in ("SBX_STORE", "XDG_DATA_HOME") if name in os.environ]
    return "".join(f"Environment={_variable(entry)}\n" for entry in [*kept, *given])


def _variable(text: str) -> str:
    return _word(text).replace("$$", "$")  # of Environment=, where a dollar means nothing
