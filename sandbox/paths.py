"""Where things lie on disk, by the XDG rules; owner and mode are checked before use.  (core, hot)"""

import os

from sandbox.errors import ENOENT, SandboxError


def _base(variable: str, fallback: str) -> str:
    value = os.environ.get(variable, "")
    # The XDG specification: a relative path is invalid and must be ignored.
    if value.startswith("/"):
        return value
    home = os.environ.get("HOME", "")
    if not home.startswith("/"):
        home = home_of_user()
    return f"{home}/{fallback}"


def home_of_user() -> str:
    """The home folder of passwd(5), for callers without HOME (cron, `env -i`)."""
    uid = str(os.getuid())
    try:
        with open("/etc/passwd", "rb") as file:
            for line in file:
                fields = line.decode("utf-8", "replace").rstrip("\n").split(":")
                if len(fields) >= 6 and fields[2] == uid and fields[5].startswith("/"):
                    return fields[5]
    except OSError:
        pass
    raise SandboxError("find home directory", uid, ENOENT, hint="set HOME or SBX_STORE to a directory of your own")


def store() -> str:
    """The image and container store: $SBX_STORE, or $XDG_DATA_HOME/sbx, or ~/.local/share/sbx."""
    own = os.environ.get("SBX_STORE", "")
    return own if own.startswith("/") else _base("XDG_DATA_HOME", ".local/share") + "/sbx"


def cache() -> str:
    """Things that can be computed again: $XDG_CACHE_HOME/sbx."""
    return _base("XDG_CACHE_HOME", ".cache") + "/sbx"


def config() -> str:
    """The user's own configuration: $XDG_CONFIG_HOME/sbx."""
    return _base("XDG_CONFIG_HOME", ".config") + "/sbx"


def package_data(name: str) -> str:
    """A folder that ships with sbx (`profiles`): inside the package when installed, beside it in a source tree."""
    here = os.path.dirname(os.path.abspath(__file__))
    inside = f"{here}/_data/{name}"
    return inside if os.path.isdir(inside) else f"{os.path.dirname(here)}/{name}"


def private_directory(path: str) -> str:
    """Make `path` (0700) when it is not there, and refuse one that belongs to somebody else.  Returns `path`."""
    try:
        s = os.lstat(path)
    except FileNotFoundError:
        try:
            os.makedirs(path, 0o700, exist_ok=True)
            s = os.lstat(path)
        except OSError as error:
            raise SandboxError.of(
                "create directory", path, error, "set SBX_STORE and XDG_CACHE_HOME to directories that you can write"
            ) from None
    except OSError as error:
        raise SandboxError.of("open directory", path, error) from None
    if s.st_uid != os.geteuid():
        raise SandboxError(
            "use directory", path, detail=f"it belongs to uid {s.st_uid}, not to you",
            hint="set SBX_STORE to a directory of your own",
        )  # fmt: skip
    return path
