"""A whole profile, as it is in force: what one file, or several of which each extends the next, come to.  (cold)"""

import os
from dataclasses import dataclass, field
from typing import Any

from sandbox.profile.policy import Policy
from sandbox.profile.schema import DEVICES, LANDLOCK

UNLIMITED = (1 << 64) - 1

# key -> option of `run` and `wrap` that it is the default of; see profiles.apply
_DEFAULTS = {
    "process.user": "user", "network.mode": "network", "namespaces.user": "userns",
}  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """A profile with everything that it extends."""

    path: str
    description: str
    capabilities: tuple[str, ...]  # CAP_X
    no_new_privileges: bool
    rlimits: tuple[tuple[str, int, int], ...]  # (RLIMIT_X, soft, hard)
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]
    policy: Policy
    settings: dict[str, Any] = field(default_factory=dict)  # "table.key" -> value, of all other keys
    files: tuple[str, ...] = ()  # every file that took part, this one first

    def fragment(self) -> dict[str, Any]:
        """The parts of an OCI config.json that a profile decides, without seccomp; under `sbx` defaults of options."""
        settings = self.settings
        process: dict[str, Any] = {
            "capabilities": list(self.capabilities),
            "rlimits": [{"type": kind, "soft": soft, "hard": hard} for kind, soft, hard in self.rlimits],
            "noNewPrivileges": self.no_new_privileges,
        }
        devices = settings.get("devices.allow", DEVICES)
        linux: dict[str, Any] = {
            "maskedPaths": [
                *(os.path.expanduser(path) for path in dict.fromkeys((*self.masked_paths, *settings.get("filesystem.hidden", ())))),
                *(f"/dev/{name}" for name in DEVICES if name not in devices),
            ],
            "readonlyPaths": [
                os.path.expanduser(path) for path in dict.fromkeys((*self.readonly_paths, *settings.get("filesystem.protected", ())))
            ],
        }  # fmt: skip
        resources: dict[str, Any] = {}
        for key, value in settings.items():
            table, _, name = key.partition(".")
            if table == "limits":
                part, _, name = name.partition(".")
                resources.setdefault(part, {})[name] = value
        if resources:
            linux["resources"] = resources
        options, locked = self._options(), self._locked()
        found: dict[str, Any] = {"process": process, "linux": linux}
        if options:
            found["options"] = options
        if locked:
            found["locked"] = locked
        if settings.get("filesystem.hidepid"):
            found["hidepid"] = True
        confined = {
            word: settings[f"landlock.{name}"] for name, word in LANDLOCK.items() if f"landlock.{name}" in settings
        }
        if confined:
            found["landlock"] = "".join(
                f"{word} {value}\n" for word, values in confined.items() for value in ("-", *values)
            )
        return found

    def _options(self) -> dict[str, Any]:
        """Options that the command line need not give; lists go before those of the command line."""
        settings = self.settings
        found: dict[str, Any] = {option: settings[key] for key, option in _DEFAULTS.items() if key in settings}
        if "process.umask" in settings:
            found["umask"] = f"{settings['process.umask']:04o}"
        if "process.timeout" in settings:
            found["timeout"] = f"{settings['process.timeout']:g}"
        if settings.get("filesystem.readonly"):
            found["read_only"] = True
        if settings.get("namespaces.time"):
            found["time_offset"] = "0"
        if settings.get("filesystem.tmpfs"):
            found["tmpfs"] = list(settings["filesystem.tmpfs"])
        variables = [f"{name}={value}" for name, value in settings.get("environment.set", {}).items()]
        if variables or settings.get("environment.pass"):
            found["env"] = [*settings.get("environment.pass", ()), *variables]
        if settings.get("environment.unset"):
            found["unsetenv"] = list(settings["environment.unset"])
        if settings.get("filesystem.mounts"):
            found["mount"] = [_mount(entry) for entry in settings["filesystem.mounts"]]
        return found

    def _locked(self) -> dict[str, str]:
        """Option -> the key that it must not change."""
        from sandbox.profile.schema import OPTIONS

        locks = self.settings.get("lock", ())
        return {
            option: key
            for key, options in OPTIONS.items()
            if key in locks or key.partition(".")[0] in locks
            for option in options
        }


def _mount(entry: dict[str, Any]) -> str:
    options = entry.get("options", ["ro"])
    source, destination = os.path.expanduser(entry["source"]), os.path.expanduser(entry["destination"])
    words = ["ro"] if "rw" not in options else []
    words += [option for option in options if option == "noexec"]
    return ",".join([f"type=bind,src={source},dst={destination}", *words])
