"""The installed `sbx` as tests call it, and what it must not leave behind.  Imported by name, unlike a conftest."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
TREE = Path(__file__).resolve().parent.parent
SLOWER = float(os.environ.get("SBX_TEST_SLOWER", "1"))  # how much slower this machine is than time limits are made for


@dataclass
class Sbx:
    """The installed `sbx`, called as a user calls it, with a store of its own and no settings of the caller's."""

    store: Path
    environment: dict[str, str] = field(default_factory=dict)
    launcher: str = ""

    def command(self, *arguments: str | Path) -> list[str]:
        """The argv of `sbx ARGUMENTS`."""
        return [self.launcher, *(str(a) for a in arguments)]

    def popen(self, *arguments: str | Path, env: Mapping[str, str | None] | None = None, **options: Any) -> subprocess.Popen[str]:  # fmt: skip
        """Start `sbx ARGUMENTS` in a session of its own; `env` adds to the environment, None removes."""
        merged = {**self.environment, "SBX_STORE": str(self.store), **(env or {})}
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(
            self.command(*arguments),
            env={name: value for name, value in merged.items() if value is not None},
            text=True, encoding="utf-8", errors="surrogateescape", start_new_session=True, **options,
        )  # fmt: skip

    def __call__(
        self, *arguments: str | Path, input: str = "", timeout: float = 60, env: Mapping[str, str | None] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run `sbx ARGUMENTS` to its end; its exit status, stdout and stderr.  On a timeout its session is killed."""
        process = self.popen(*arguments, env=env, stdin=subprocess.PIPE if input else subprocess.DEVNULL, **options)
        try:
            out, err = process.communicate(input or None, timeout * SLOWER)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            sys.stderr.write(f"killed: sbx {' '.join(map(str, arguments))}\nstdout: {out}\nstderr: {err}\n")
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def launcher_path() -> str:
    # sys.executable is not resolved: in a virtual environment it is a link to the system's Python.
    for path in (os.environ.get("SBX_LAUNCHER", ""), f"{os.path.dirname(sys.executable)}/sbx", f"{TREE}/bin/sbx"):
        if path and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError("sbx: neither installed next to this Python nor in the tree")


def clean_environment(base: Path) -> dict[str, str]:
    # No test asks a registry of the wide world: what is not there locally is an error at once.
    registries = base / "config/containers/registries.conf"
    if not registries.exists():
        registries.parent.mkdir(parents=True, exist_ok=True)
        registries.write_text('[[registry]]\nprefix = "docker.io"\nblocked = true\n')
    kept = ("HOME", "XDG_RUNTIME_DIR", "TMPDIR", "SBX_DEBUG", "PYTHONDONTWRITEBYTECODE")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        # In the tree the launcher takes the first python3 of PATH: that of the tests has what cold verbs import.
        "PATH": f"{os.path.dirname(sys.executable)}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "XDG_CACHE_HOME": str(base / "cache"),
        "XDG_CONFIG_HOME": str(base / "config"),
    }


def until(question: Callable[[], T], wanted: Callable[[T], Any] = bool, seconds: float = 10) -> T:
    """The answer to `question()` once `wanted` holds for it; AssertionError with the last one when that takes longer."""
    deadline = time.monotonic() + seconds * SLOWER
    while not wanted(answer := question()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)
    return answer


# -- what is left behind --


def descendants() -> dict[int, str]:
    """pid -> command line of every living process below this one; whatever lost its parent is ours (subreaper)."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                stat = Path(f"/proc/{name}/stat").read_text(errors="replace")
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents[int(name)] = int(parent)
    found: dict[int, str] = {}
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and pid != above:
            try:
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
            except OSError:
                continue
    return found


def mount_points() -> list[str]:
    """Mount points of our own namespace; other programs may mount elsewhere meanwhile, so only sbx's are taken."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(point for point in points if "sbx" in point or "pytest" in point)


def runtime_entries() -> set[str]:
    found = set()
    for folder in (os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/dev/shm", "/run"):
        try:
            found |= {
                f"{folder}/{name}" for name in os.listdir(folder or "/nonexistent") if name.startswith((".sbx", "sbx"))
            }
        except OSError:
            continue
    return found


def leftovers(store: Path) -> list[str]:
    """What a finished command must not leave in its store: containers, half-made things, held locks."""
    found = [str(path) for path in sorted((store / "containers").glob("*")) if path.name not in (".names", ".events")]
    found += [
        str(path) for folder in ("layers", "images", "blobs/sha256") for path in sorted((store / folder).glob(".*"))
    ]
    layers: Sequence[Path] = sorted((store / "layers").glob("*"))
    for path in layers:
        fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            found.append(f"lock on {path}")
        finally:
            os.close(fd)
    return found
