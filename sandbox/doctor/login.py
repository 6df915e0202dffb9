"""Probe of what a container that lives on has to fear from the end of a login.  (cold)"""

import os
from pathlib import Path

from sandbox import idmap
from sandbox.doctor.probe import WEAKER, WORKS, Scratch, Verdict

_SYSTEMD = "/run/systemd/system"  # sd_booted(3)
_LINGERING = "/var/lib/systemd/linger"
_LOGIND = ("/etc/systemd/logind.conf", "/usr/lib/systemd/logind.conf.d/*.conf", "/run/systemd/logind.conf.d/*.conf",
           "/etc/systemd/logind.conf.d/*.conf")  # fmt: skip


def lingering(
    scratch: Scratch, *, booted: str = _SYSTEMD, lingers: str = _LINGERING, files: tuple[str, ...] = _LOGIND
) -> Verdict:
    """Whether systemd ends what a user has started when he has logged out."""
    if not os.path.isdir(booted):
        return Verdict(WORKS, "no systemd here that ends containers with a login")
    uid = os.getuid()
    user = idmap.user_name(uid) or str(uid)
    if uid == 0:
        return Verdict(WORKS, "root's containers outlive its logins")
    if os.path.exists(f"{lingers}/{user}"):
        return Verdict(WORKS, f"on for {user}: containers outlive the login")
    if _kills(files, user):
        return Verdict(
            WEAKER, "off, and KillUserProcesses=yes: all containers end with the login", "loginctl enable-linger"
        )
    what = "containers with limits end, whose control groups are the user manager's; others live on"
    return Verdict(WEAKER, f"off: with the last logout {what}", "loginctl enable-linger")


def _kills(patterns: tuple[str, ...], user: str) -> bool:
    """logind.conf(5): KillUserProcesses=, and for whom."""
    found = {"KillUserProcesses": "no", "KillOnlyUsers": "", "KillExcludeUsers": "root"}
    for path in (str(path) for pattern in patterns for path in sorted(Path("/").glob(pattern[1:]))):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for key, equals, value in (line.strip().partition("=") for line in lines):
            if equals and key in found:
                found[key] = value.strip()
    only, exclude = found["KillOnlyUsers"].split(), found["KillExcludeUsers"].split()
    kills = found["KillUserProcesses"].lower() in ("yes", "true", "on", "1")
    return kills and user not in exclude and (not only or user in only)
