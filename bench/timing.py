"""The measurements.  All commands of a part take turns, so what else happens on the machine hits each of them alike.

Times are from just before posix_spawn(3) to the return of wait4(2), in milliseconds; no shell in between.
"""

import os
import signal
import subprocess
import time

from places import IMAGE, BenchError, Place, median, say

PARTS = ("start", "slirp", "crowd", "memory", "host")
# Seconds after which a part begins no further round; six minutes in all, with what the set-up takes.
BUDGET = {"start": 60, "slirp": 50, "crowd": 150, "memory": 20, "host": 30}
ROUNDS = {"start": 60, "slirp": 30, "crowd": 200, "host": 40}
AT_ONCE = 8
PATIENCE = 30  # seconds for one command

Commands = dict[str, list[str]]


class Bench:
    """Results by part: {"start": {"sbx": {"median": ..., "min": ..., "count": ...}, ...}, ...}"""

    def __init__(self, place: Place, *, quick: bool) -> None:
        self.place, self.quick = place, quick
        self.results: dict[str, dict[str, dict[str, float]]] = {}
        self.null = os.open(os.devnull, os.O_RDWR)
        self.errors = os.open(f"{place.work}/errors", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.count = 0

    def run(self, part: str) -> None:
        say(f"{part} ...")
        measure = {"crowd": self.crowd, "memory": self.memory}.get(part, lambda: self.turns(part))
        try:
            self.results[part] = measure()
        except BenchError as error:
            say(f"{part}: {error}")
            self.place.notes.append(f"The part `{part}` failed and has no figures.")

    # -- one after the other --

    def commands(self, part: str) -> Commands:
        place, python = self.place, [self.place.python, "-IS", "-c", "pass"]
        if part == "host":
            found = {
                "python": python,
                "sbx run host:": [place.sbx, "run", "--rm", "--network", "none", "host:", "true"],
                "sbx wrap": [place.sbx, "wrap", "--", "true"],
            }
            if place.bwrap:
                found["bwrap"] = ["bwrap", "--ro-bind", "/", "/", *place.bwrap[1:], "true"]
            return found
        network = {"start": "none", "slirp": "slirp4netns"}[part]
        found = {"python": python, "sbx": self.sbx(network)}
        if part == "start":
            if place.bwrap:
                found["bwrap"] = ["bwrap", "--bind", place.root, "/", *place.bwrap[1:], "true"]
            if place.crun:
                found["crun"] = place.crun
        if place.podman:
            found["podman"] = self.podman(network)
        return found

    def sbx(self, network: str, *command: str) -> list[str]:
        return [self.place.sbx, "run", "--rm", "--network", network, IMAGE, *(command or ("true",))]

    def podman(self, network: str, *command: str) -> list[str]:
        flags = ["run", "--rm", "--network", network, "--cgroups=disabled", IMAGE]
        return [*self.place.podman, *flags, *(command or ("true",))]

    def turns(self, part: str) -> dict[str, dict[str, float]]:
        commands = self.commands(part)
        times: dict[str, list[float]] = {name: [] for name in commands}
        deadline = time.monotonic() + BUDGET[part]
        rounds = ROUNDS[part] // (4 if self.quick else 1)
        warm = 2
        for number in range(-warm, rounds):
            for name, command in commands.items():
                taken = self.once(command)
                if number >= 0:
                    times[name].append(taken)
                # podman cleans up after its end, and the kernel takes network namespaces apart later: not in the
                # time of whoever comes next.
                time.sleep(0.25 if name == "podman" else 0.02)
            if time.monotonic() > deadline:
                break
        return {name: summary(values) for name, values in times.items()}

    def once(self, command: list[str]) -> float:
        began = time.monotonic_ns()
        pid = self.spawn(command)
        signal.signal(signal.SIGALRM, _too_long)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        try:
            _, status, _ = os.wait4(pid, 0)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise BenchError(f"{' '.join(command)} took more than {PATIENCE} s") from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        ended = time.monotonic_ns()
        self.check(command, status)
        return (ended - began) / 1e6

    def spawn(self, command: list[str]) -> int:
        if command is self.place.crun:
            self.count += 1
            command = [*command, f"bench-{self.count}"]
        actions = [(os.POSIX_SPAWN_DUP2, self.null, 0), (os.POSIX_SPAWN_DUP2, self.null, 1),
                   (os.POSIX_SPAWN_DUP2, self.errors, 2)]  # fmt: skip
        return os.posix_spawnp(command[0], command, self.place.environment, file_actions=actions)

    def check(self, command: list[str], status: int) -> None:
        if status:
            with open(f"{self.place.work}/errors", encoding="utf-8", errors="replace") as file:
                said = file.read()[-600:].strip()
            raise BenchError(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}; {said}")

    # -- many at a time --

    def crowd(self) -> dict[str, dict[str, float]]:
        """200 runs and more, 8 at a time, in four turns per tool; the rate is the median of the turns'.

        sbx gets twice the runs: its turns are so short that one hiccup of the machine would fill them.
        """
        commands = {"sbx": self.sbx("none")}
        if self.place.podman:
            commands["podman"] = self.podman("none")
        times: dict[str, list[float]] = {name: [] for name in commands}
        rates: dict[str, list[float]] = {name: [] for name in commands}
        turns = 4
        share = ROUNDS["crowd"] // turns // (4 if self.quick else 1)
        deadline = time.monotonic() + BUDGET["crowd"]
        for _ in range(turns):
            for name, command in commands.items():
                began = time.monotonic()
                done = self.at_once(command, share * 2 if name == "sbx" else share)
                rates[name].append(len(done) / (time.monotonic() - began))
                times[name] += done
                time.sleep(2)
            if time.monotonic() > deadline:
                break
        found = {}
        for name, values in times.items():
            found[name] = summary(values)
            found[name]["per second"] = median(rates[name])
            found[name]["p99"] = sorted(values)[max(0, -(-99 * len(values) // 100) - 1)]
        return found

    def at_once(self, command: list[str], total: int) -> list[float]:
        running: dict[int, int] = {}
        times: list[float] = []
        started = 0
        signal.signal(signal.SIGALRM, _too_long)
        signal.setitimer(signal.ITIMER_REAL, 4 * PATIENCE)
        try:
            while len(times) < total:
                while started < total and len(running) < AT_ONCE:
                    began = time.monotonic_ns()
                    running[self.spawn(command)] = began
                    started += 1
                pid, status, _ = os.wait4(-1, 0)
                ended = time.monotonic_ns()
                times.append((ended - running.pop(pid)) / 1e6)
                self.check(command, status)
        except TimeoutError:
            raise BenchError(f"{' '.join(command)}, {AT_ONCE} at a time, does not end") from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for pid in running:
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
        return times

    # -- memory --

    def memory(self) -> dict[str, dict[str, float]]:
        """Proportional set size, MB, of all that waits while the payload sleeps; without the payload and its helpers.

        sbx: cli and keeper.  podman: podman (twice where it starts itself again in its namespace), conmon; its pause
        process, which stays for all containers of a user, is left out.
        """
        commands = {"sbx": self.sbx("none", "sh", "-c", "echo ready; exec sleep 120")}
        if self.place.podman:
            commands["podman"] = self.podman("none", "sh", "-c", "echo ready; exec sleep 120")
        found = {}
        for name, command in commands.items():
            values = []
            for _ in range(3):
                values.append(self.waiting(name, command))
                time.sleep(0.3)
            found[name] = {key: median([value[key] for value in values]) for key in values[0]}
        return found

    def waiting(self, name: str, command: list[str]) -> dict[str, float]:
        before = set(_processes())
        with subprocess.Popen(
            command, env=self.place.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors
        ) as process:
            assert process.stdout
            try:
                if process.stdout.readline() != b"ready\n":
                    self.check(command, process.wait() << 8 or 256)
                time.sleep(0.5)
                total = {"median": 0.0, "processes": 0.0, "resident": 0.0}
                mine = _processes()
                for pid in set(mine) - before:
                    belongs = (
                        _descends(pid, process.pid, mine)
                        if name == "sbx"
                        else mine[pid][1] in ("podman", "exe", "conmon")
                    )
                    if belongs and mine[pid][1] not in ("sleep", "sh"):
                        pss, rss = _rollup(pid)
                        total["median"] += pss
                        total["resident"] += rss
                        total["processes"] += 1
                return total
            finally:
                self.stop(process)

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """End the payload's container: by the signal that both tools pass on, and in the end without asking."""
        process.terminate()
        try:
            # The payload is pid 1 and has no handler: podman's container does not end by SIGTERM.
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            if self.place.podman:
                self.place.attempt([*self.place.podman, "rm", "-f", "-t", "0", "-a"])
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def summary(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values, default=float("nan")), "count": len(values)}


def _too_long(_number: int, _frame: object) -> None:
    raise TimeoutError


def _processes() -> dict[int, tuple[int, str]]:
    """pid -> (parent, name) of the processes of this user."""
    found = {}
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid():
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    text = file.read()
                found[int(name)] = (int(text.rpartition(")")[2].split()[1]), text.partition("(")[2].rpartition(")")[0])
        except OSError:
            continue
    return found


def _descends(pid: int, ancestor: int, processes: dict[int, tuple[int, str]]) -> bool:
    while pid in processes and pid != ancestor:
        pid = processes[pid][0]
    return pid == ancestor


def _rollup(pid: int) -> tuple[float, float]:
    """(PSS, RSS) in MB of 10^6 bytes."""
    fields = {}
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if rest.endswith("kB\n"):
                fields[name] = int(rest.split()[0]) * 1024 / 1e6
    return fields["Pss"], fields["Rss"]
