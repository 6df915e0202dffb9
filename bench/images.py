"""The measurements of images: load, pull, list, and the memory of it, next to podman and skopeo.

    WORK/images/debian.tar     oci-archive, one layer of gzip: Debian's minbase with perl and python3, by mmdebstrap
    WORK/images/twenty.tar     the same files in twenty layers
    WORK/images/many.tar       docker-archive of 200 images that share one small layer
    WORK/images/registry/      docker-registry on 127.0.0.1 with the first two

Every load and pull goes into a store of its own, and nothing is removed before the end: ext4 does not use the inodes of
files again that were removed minutes ago, and looking past them costs whoever creates files next several times its own time.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

from image_sources import debian, layers, make_layout, make_many
from places import BenchError, Place, median, say

ROUNDS = 5
LIST_ROUNDS = 6
MANY = 200
PATIENCE = 180  # seconds for one command

# Inflate each layer of an OCI layout and write it to one file, two threads, then fsync: no tar, no files, no digests.
LIMIT = """
import os, queue, sys, threading, time
try:
    from isal import isal_zlib as zlib
except ImportError:
    import zlib
out, *layers = sys.argv[1:]
began = time.monotonic()
pieces = queue.Queue(8)
def inflate():
    for path in layers:
        made = zlib.decompressobj(31)
        with open(path, "rb") as file:
            while raw := file.read(1 << 18):
                pieces.put(made.decompress(raw))
    pieces.put(None)
threading.Thread(target=inflate).start()
fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
while (piece := pieces.get()) is not None:
    os.write(fd, piece)
os.fsync(fd)
print(time.monotonic() - began, zlib.__name__)
"""

Result = dict[str, list[float]]  # "wall" and "cpu": seconds of each round


class Images:
    """Results by row: {"load debian": {"sbx": {"wall": [...], "cpu": [...]}, ...}, ...}"""

    def __init__(self, place: Place, tree: str, *, quick: bool) -> None:
        self.place, self.rounds = place, 2 if quick else ROUNDS
        self.folder = f"{place.work}/images"
        self.results: dict[str, dict[str, Result]] = {}
        self.peaks: dict[str, dict[str, float]] = {}
        self.limits: dict[str, list[float]] = {}
        self.sizes: dict[str, str] = {}
        self.inflater = ""
        venv = f"{tree}/.venv/bin/python3"
        self.python = venv if os.access(venv, os.X_OK) else place.python
        self.count = self.turn = 0
        self.port = 0
        self.trusted = ""  # folder with the CA of the registry, when it speaks TLS

    def run(self) -> None:
        os.mkdir(self.folder)
        self.make()
        if not self.place.podman:
            raise BenchError("without podman there is nothing to compare with")
        with self.registry() if shutil.which("docker-registry") else contextlib.nullcontext():
            pull = self.port and self.place.attempt([self.place.sbx, "pull", "--help"]).returncode == 0
            if not pull:
                self.place.notes.append("pull is not measured: no docker-registry, or an sbx without `pull`.")
            for number in range(self.rounds):
                say(f"round {number + 1} of {self.rounds}")
                for image in ("debian", "twenty"):
                    self.limit(image)
                    self.row(f"load {image}", self.loads(image))
                    if pull:
                        self.row(f"pull {image}", self.pulls(image))
            if pull:
                self.again("pull again")
                if shutil.which("openssl"):
                    with self.registry(self.certificate()):
                        self.again("pull again, TLS")
            say("memory")
            for image in ("debian", "twenty"):
                for what, commands in (("load", self.loads), ("pull", self.pulls)):
                    if what == "load" or pull:
                        for name, (command, environment) in commands(image).items():
                            self.peaks.setdefault(f"{what} {image}", {})[name] = self.peak(command, environment)
        say("images")
        self.listing()

    def make(self) -> None:
        say("making the images")
        root = debian(self.folder)
        for name, count in (("debian", 1), ("twenty", 20)):
            layout = f"{self.folder}/{name}"
            make_layout(layout, layers(root, count))
            self.must(["skopeo", "--insecure-policy", "copy", "-q", f"oci:{layout}:latest", f"oci-archive:{layout}.tar:localhost/{name}:latest"])  # fmt: skip
            packed = os.path.getsize(f"{layout}.tar") / 1e6
            self.sizes[name] = (
                f"{os.path.getsize(root) / 1e6:.0f} MB in {count} layer{'s' * (count > 1)}, {packed:.0f} MB as gzip"
            )
        make_many(f"{self.folder}/many.tar", MANY)

    def must(self, command: list[str]) -> None:
        done = self.place.attempt(command, PATIENCE)
        if done.returncode:
            raise BenchError(f"{' '.join(command)[:300]}: {done.stderr.strip()[-300:]}")

    # -- stores --

    def sbx(self, store: str, *words: str) -> tuple[list[str], dict[str, str]]:
        return [self.place.sbx, *words], {**self.place.environment, "SBX_STORE": f"{self.folder}/{store}"}

    def podman(self, store: str, *words: str) -> tuple[list[str], dict[str, str]]:
        options = list(self.place.podman)
        options[options.index("--root") + 1] = f"{self.folder}/{store}"
        options[options.index("--runroot") + 1] = f"{self.place.runtime}/{store}"
        return [*options, *words], self.place.environment

    def fresh(self, tool: str) -> str:
        self.count += 1
        return f"{tool}{self.count}"

    def loads(self, image: str) -> dict[str, tuple[list[str], dict[str, str]]]:
        path = f"{self.folder}/{image}.tar"
        return {
            "sbx": self.sbx(self.fresh("s"), "load", "-q", "-i", path),
            "podman": self.podman(self.fresh("p"), "load", "-q", "-i", path),
        }

    def pulls(self, image: str, sbx: str = "", podman: str = "") -> dict[str, tuple[list[str], dict[str, str]]]:
        name = f"127.0.0.1:{self.port}/{image}:latest"
        trust = f"--cert-dir={self.trusted}" if self.trusted else "--tls-verify=false"
        found = {
            "sbx": self.sbx(sbx or self.fresh("s"), "pull", "-q", trust, name),
            "podman": self.podman(podman or self.fresh("p"), "pull", "-q", trust, name),
        }
        if not sbx:
            # Only the blobs, nothing unpacked: how much of the time the network's side can be.
            target = f"oci:{self.folder}/{self.fresh('k')}:latest"
            copy = ["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", target]
            found["skopeo, blobs only"] = copy, self.place.environment
        return found

    # -- one row --

    def row(self, title: str, commands: dict[str, tuple[list[str], dict[str, str]]]) -> None:
        order = list(commands.items())
        self.turn += 1
        for name, (command, environment) in order[:: 1 if self.turn % 2 else -1]:  # nobody is always the first
            wall, cpu = self.once(command, environment)
            found = self.results.setdefault(title, {}).setdefault(name, {})
            for key, value in (("wall", wall), ("cpu", cpu)):
                found.setdefault(key, []).append(value)

    def once(self, command: list[str], environment: dict[str, str]) -> tuple[float, float]:
        """(wall, user and system seconds of the command and all it has waited for)"""
        os.sync()  # what others have written is not this one's to wait for
        with open(f"{self.place.work}/errors", "ab") as errors:
            began = time.monotonic()
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)  # fmt: skip
            timer = threading.Timer(PATIENCE, process.kill)
            timer.start()
            _, status, usage = os.wait4(process.pid, 0)
            taken = time.monotonic() - began
            timer.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            with open(f"{self.place.work}/errors", encoding="utf-8", errors="replace") as file:
                raise BenchError(f"{' '.join(command)[:200]}: exit {process.returncode}: {file.read()[-400:].strip()}")
        return taken, usage.ru_utime + usage.ru_stime

    def limit(self, image: str) -> None:
        with open(f"{self.folder}/{image}/index.json", encoding="ascii") as file:
            digest = json.load(file)["manifests"][0]["digest"]
        with open(f"{self.folder}/{image}/blobs/sha256/{digest[7:]}", encoding="ascii") as file:
            paths = [f"{self.folder}/{image}/blobs/sha256/{layer['digest'][7:]}" for layer in json.load(file)["layers"]]
        os.sync()
        done = self.place.attempt([self.python, "-c", LIMIT, f"{self.folder}/{self.fresh('l')}", *paths], PATIENCE)
        if done.returncode:
            raise BenchError(f"the limit can not be measured: {done.stderr[-300:]}")
        seconds, self.inflater = done.stdout.split()
        self.limits.setdefault(image, []).append(float(seconds))

    def again(self, title: str) -> None:
        """Pull what is already there: the manifest is asked for, no blob is."""
        say(title)
        stores = [self.fresh("s"), self.fresh("p")]
        for command, environment in self.pulls("twenty", *stores).values():
            self.once(command, environment)
        for _ in range(2 * LIST_ROUNDS):
            self.row(title, self.pulls("twenty", *stores))

    def listing(self) -> None:
        stores = [self.fresh("s"), self.fresh("p")]
        for command, environment in (
            self.sbx(stores[0], "load", "-q", "-i", f"{self.folder}/many.tar"),
            self.podman(stores[1], "load", "-q", "-i", f"{self.folder}/many.tar"),
        ):
            self.once(command, environment)
        for _ in range(LIST_ROUNDS):
            self.row("images", {"sbx": self.sbx(stores[0], "images"), "podman": self.podman(stores[1], "images")})

    # -- memory --

    def peak(self, command: list[str], environment: dict[str, str]) -> float:
        """Greatest proportional set size of the whole process tree, in MB, looked at every 10 ms or so."""
        with open(f"{self.place.work}/errors", "ab") as errors, subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        ) as process:  # fmt: skip
            most = 0.0
            while process.poll() is None:
                most = max(most, sum(_pss(pid) for pid in _tree(process.pid)))
                time.sleep(0.01)
        return most

    # -- the registry --

    def certificate(self) -> str:
        """A folder with a certificate for 127.0.0.1 that is its own CA, and its key."""
        folder = f"{self.folder}/certificate"
        os.mkdir(folder)
        words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=bench -addext subjectAltName=IP:127.0.0.1".split()
        self.must(["openssl", *words, "-keyout", f"{self.folder}/key", "-out", f"{folder}/ca.crt"])
        return folder

    @contextlib.contextmanager
    def registry(self, certificate: str = "") -> Iterator[None]:
        """docker-registry with the images in it; over TLS with the folder `certificate`, on another port meanwhile."""
        before = self.port, self.trusted
        self.trusted = certificate
        try:
            with self._serving(certificate):
                yield
        finally:
            self.port, self.trusted = before

    @contextlib.contextmanager
    def _serving(self, certificate: str) -> Iterator[None]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        config = {
            "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": f"{self.folder}/registry"}},
            "http": {"addr": f"127.0.0.1:{self.port}"},
        }  # fmt: skip
        if certificate:
            tls = {"certificate": f"{certificate}/ca.crt", "key": f"{self.folder}/key"}
            config["http"] = {"addr": f"127.0.0.1:{self.port}", "tls": tls}
        path = f"{self.folder}/registry.json"
        with open(path, "w", encoding="ascii") as file:
            json.dump(config, file)  # JSON is YAML
        with open(f"{self.folder}/registry.log", "wb") as log, subprocess.Popen(
            ["docker-registry", "serve", path], env=self.place.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        ) as server:  # fmt: skip
            try:
                self.wait()
                for name in () if certificate else ("debian", "twenty"):
                    target = f"docker://127.0.0.1:{self.port}/{name}:latest"
                    self.must(["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", f"oci:{self.folder}/{name}:latest", target])  # fmt: skip
                yield
            finally:
                server.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.1)
        raise BenchError("docker-registry does not start")


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                    found += map(int, file.read().split())
    return found


def _pss(pid: int) -> float:
    """MB of 10^6 bytes; a process of another user namespace's root may be looked at, as its owner made it."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) * 1024 / 1e6 for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0.0  # it has ended


# -- the table --

TARGETS = {
    "load debian": 0.6,
    "load twenty": 0.6,
    "pull debian": 0.6,
    "pull twenty": 0.6,
    "pull again": 0.3,
    "images": 0.3,
}
MEMORY = 150


def markdown(bench: Images) -> str:
    """Two tables: seconds and their ratios, and memory."""
    lines = [f"- {name}: {size}" for name, size in bench.sizes.items()]
    lines += [
        f"- limit: inflate by {bench.inflater} and write to one file, two threads, with fsync",
        "", "| | s | s of podman | ratio | target | | cpu s | cpu s of podman | limit s |", "|---|--:|--:|--:|--:|---|--:|--:|--:|",
    ]  # fmt: skip
    for title, row in bench.results.items():
        wall = {name: median(values["wall"]) for name, values in row.items()}
        cpu = {name: median(values["cpu"]) for name, values in row.items()}
        ratio = wall["sbx"] / wall["podman"]
        image = title.split()[1] if title.split()[-1] in bench.limits else ""
        limit = f"{median(bench.limits[image]):.2f}" if image else ""
        target = TARGETS.get(title)
        verdict = "" if target is None else "met" if ratio <= target else "**missed**"
        lines.append(
            f"| {title} | {wall['sbx']:.3f} | {wall['podman']:.3f} | {ratio:.2f} | {target or ''} | {verdict} "
            f"| {cpu['sbx']:.2f} | {cpu['podman']:.2f} | {limit} |"
        )
        if "skopeo, blobs only" in wall:
            lines.append(
                f"| {title} by skopeo, blobs only | {wall['skopeo, blobs only']:.3f} | | | | | {cpu['skopeo, blobs only']:.2f} | | |"
            )
    lines += ["", "| peak memory of all processes | MB | MB of podman | target | |", "|---|--:|--:|--:|---|"]
    for title, peak in bench.peaks.items():
        verdict = "met" if peak["sbx"] <= MEMORY else "**missed**"
        lines.append(f"| {title} | {peak['sbx']:.0f} | {peak['podman']:.0f} | {MEMORY} | {verdict} |")
    return "\n".join(lines) + "\n"
