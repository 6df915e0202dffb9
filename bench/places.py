"""Where the bench runs: one temporary folder with the same busybox image for every tool, and nothing of the user's own.

WORK/root/          busybox root file system: bwrap, crun
WORK/image.tar      the same as a tar file: `sbx import`, `podman import`
WORK/bundle/        crun's bundle, prepared
WORK/home, runtime  HOME and XDG_RUNTIME_DIR: stores, caches and the pause process of podman are in or below them
"""

import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

IMAGE = "localhost/sbx-bench:latest"
APPLETS = ("sh", "true", "sleep", "echo", "cat", "id")


class BenchError(Exception):
    """Something without which there is nothing to measure."""


def find_sbx(tree: str, asked: str) -> str:
    for path in (asked,) if asked else (f"{tree}/.venv/bin/sbx", shutil.which("sbx") or ""):
        if path and os.access(path, os.X_OK):
            return os.path.abspath(path)
    raise BenchError(f"there is no sbx{' at ' + asked if asked else ''}; ./try --setup-only makes .venv/bin/sbx")


def find_python(sbx: str) -> str:
    """The interpreter that sbx runs on: the yardstick is its start."""
    beside = os.path.join(os.path.dirname(sbx), "python3")
    return beside if os.access(beside, os.X_OK) else shutil.which("python3") or sys.executable


class Place:
    """The folder, the environment, and for each tool the command that it is measured by."""

    def __init__(self, sbx: str) -> None:
        self.sbx, self.python = sbx, find_python(sbx)
        self.notes: list[str] = []
        self.storage = ""
        self.podman: list[str] = []
        self.crun: list[str] = []
        self.bwrap: list[str] = []
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        os.makedirs(cache, exist_ok=True)
        self.work = tempfile.mkdtemp(prefix="sbx-bench-", dir=cache)
        os.chmod(self.work, 0o755)
        self.root = f"{self.work}/root"
        # podman takes 50 characters at most for the folder of its run-time state.
        self.runtime = tempfile.mkdtemp(prefix="sbx-bench-", dir="/tmp")
        home = f"{self.work}/home"
        os.mkdir(home, 0o700)
        # `sbx wrap` makes the working directory writable, and so refuses one that holds the home folder.
        os.mkdir(f"{self.work}/project")
        os.chdir(f"{self.work}/project")
        self.environment = {
            "HOME": home,
            "XDG_RUNTIME_DIR": self.runtime,
            "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
            "USER": os.environ.get("USER", ""),
        }

    def prepare(self) -> None:
        say("preparing one busybox image for all")
        self._make_root()
        self._ask([self.sbx, "import", "-q", f"{self.work}/image.tar", IMAGE])
        self._ask([self.sbx, "run", "--rm", "--network", "none", IMAGE, "true"])
        self._prepare_podman()
        self._prepare_crun()
        self._prepare_bwrap()

    def _ask(self, command: list[str]) -> str:
        """Output of a command that must work."""
        done = self.attempt(command)
        if done.returncode:
            raise BenchError(f"{os.path.basename(command[0])} {command[1]} failed: {done.stderr.strip()[-400:]}")
        return done.stdout

    def attempt(self, command: list[str], seconds: float = 60) -> "subprocess.CompletedProcess[str]":
        try:
            return subprocess.run(
                command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=seconds, errors="replace",
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(command, 125, "", str(error))

    def _make_root(self) -> None:
        busybox = next((p for p in ("/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static") if _static(p)), "")
        if not busybox:
            raise BenchError("there is no statically linked busybox; Debian has it as busybox-static")
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "run"):
            os.makedirs(f"{self.root}/{name}")
        shutil.copy(busybox, f"{self.root}/bin/busybox")
        for name in APPLETS:
            os.symlink("busybox", f"{self.root}/bin/{name}")
        with open(f"{self.root}/etc/passwd", "w", encoding="ascii") as file:
            file.write("root:x:0:0:root:/root:/bin/sh\n")
        with tarfile.open(f"{self.work}/image.tar", "w") as archive:
            archive.add(self.root, arcname=".", filter=_owned_by_root)

    def _prepare_podman(self) -> None:
        """podman with the storage driver that starts containers fastest here; without one it is left out."""
        if not shutil.which("podman"):
            self.notes.append("podman is not installed: not measured.")
            return
        drivers = {"overlay by the kernel": ["overlay"], "vfs": ["vfs"]}
        if fuse := shutil.which("fuse-overlayfs"):
            drivers["overlay by fuse-overlayfs"] = ["overlay", "--storage-opt", f"overlay.mount_program={fuse}"]
        found = {}
        for number, (name, driver) in enumerate(drivers.items()):
            config = ["podman", "--root", f"{self.work}/podman-{number}", "--runroot", f"{self.runtime}/{number}"]
            config += ["--cgroup-manager", "cgroupfs", "--events-backend", "file", "--storage-driver", *driver]
            self.attempt([*config, "import", f"{self.work}/image.tar", IMAGE])
            done = self._podman_once(config)
            if done.returncode:
                say(f"podman with {name} does not run: {done.stderr.strip()[-200:]}")
            else:
                found[name] = config
        if not found:
            self.notes.append("podman is installed, but does not run rootless here: not measured.")
            return
        best = dict.fromkeys(found, float("inf"))
        for _ in range(6):
            for name, config in found.items():
                began = time.monotonic()
                self._podman_once(config)
                # A tenth in favour of the kernel's: what podman takes by itself, when noise alone makes the difference.
                taken = (time.monotonic() - began) * (0.9 if name.endswith("kernel") else 1)
                best[name] = min(best[name], taken)
                time.sleep(0.25)
        self.storage = min(best, key=lambda name: best[name])
        self.podman = found[self.storage]

    def _podman_once(self, config: list[str]) -> "subprocess.CompletedProcess[str]":
        return self.attempt([*config, "run", "--rm", "--network", "none", "--cgroups=disabled", IMAGE, "true"])

    def _prepare_crun(self) -> None:
        if not shutil.which("crun"):
            return
        bundle = f"{self.work}/bundle"
        os.mkdir(bundle)
        if self.attempt(["sh", "-c", f"cd {bundle} && crun spec --rootless"]).returncode:
            return
        with open(f"{bundle}/config.json", encoding="utf-8") as file:
            config = json.load(file)
        config["process"].update(args=["true"], terminal=False)
        config["root"] = {"path": self.root, "readonly": False}
        config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/sys/fs/cgroup"]
        kinds = {namespace["type"] for namespace in config["linux"]["namespaces"]}
        config["linux"]["namespaces"] += [{"type": kind} for kind in ("network", "cgroup") if kind not in kinds]
        with open(f"{bundle}/config.json", "w", encoding="utf-8") as file:
            json.dump(config, file)
        command = ["crun", "--cgroup-manager=disabled", f"--root={self.runtime}/crun", "run", "-b", bundle]
        done = self.attempt([*command, "bench-0"])
        if done.returncode:
            self.notes.append("crun is installed, but its rootless bundle does not run here: not measured.")
        else:
            self.crun = command

    def _prepare_bwrap(self) -> None:
        if not shutil.which("bwrap"):
            return
        command = ["bwrap", "--unshare-all", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        if not self.attempt(["bwrap", "--ro-bind", "/", "/", *command[1:], "true"]).returncode:
            self.bwrap = command

    def remove(self) -> None:
        """Everything, with files of subordinate ids and podman's pause process."""
        for pause in pathlib.Path(self.runtime).rglob("pause.pid"):
            try:
                with pause.open(encoding="ascii") as file:
                    os.kill(int(file.read()), signal.SIGKILL)
            except (OSError, ValueError):
                pass
        os.chdir("/")
        self.attempt([self.sbx, "unshare", "rm", "-rf", self.work, self.runtime])
        for path in (self.work, self.runtime):
            shutil.rmtree(path, ignore_errors=True)
            if os.path.exists(path):
                say(f"something is left in {path}")

    def facts(self) -> list[str]:
        """The machine and the versions, without names of hosts or paths."""
        release = "".join(char for char in os.uname().release.split("-")[0] if char.isdigit() or char == ".")
        model = _field("/proc/cpuinfo", "model name") or platform.machine()
        memory = int(_field("/proc/meminfo", "MemTotal").split()[0]) / 2**20
        os_name = _field("/etc/os-release", "PRETTY_NAME", "=").strip('"')
        hardware = f"{len(os.sched_getaffinity(0))} cpus ({model}), {memory:.0f} GB"
        facts = [f"Linux {release}, {os_name}, {hardware}, store on {_file_system(self.work)}"]
        versions = [self._version(self.python), self._version(self.sbx, "version")]
        versions += [self._version(name) for name in ("podman", "conmon", "crun", "bwrap", "slirp4netns")]
        facts.append(", ".join(version for version in versions if version))
        if self.podman:
            facts.append(f"podman's storage: {self.storage} (its fastest here); cgroups disabled, events in a file")
        return facts

    def _version(self, program: str, argument: str = "--version") -> str:
        """`name 1.2.3` of what the program says first."""
        if not shutil.which(program):
            return ""
        name = os.path.basename(program).replace("python3", "Python").replace("bwrap", "bubblewrap")
        words = self.attempt([program, argument]).stdout.split()
        number = next((word.strip(",") for word in words if word[:1].isdigit()), "")
        return f"{name} {number}"


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


def _static(path: str) -> bool:
    """An ELF file that names no interpreter."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    return head[:4] == b"\x7fELF" and b"ld-linux" not in head and b"ld-musl" not in head


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _field(path: str, name: str, separator: str = ":") -> str:
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(separator)
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ""


def _file_system(path: str) -> str:
    """Type, and the options that cost time, of the file system that `path` is on."""
    best, found = "", ""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        for line in file:
            _, point, kind, options = line.split()[:4]
            if len(point) >= len(best) and (path + "/").startswith(point.rstrip("/") + "/"):
                costly = [word for word in options.split(",") if word in ("discard", "sync", "dirsync")]
                best, found = point, " ".join([kind, *costly])
    return found
