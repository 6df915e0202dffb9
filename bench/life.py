"""The measurements of containers that live on: exec, run -d, ps, stop, logs, memory, next to podman.

Both have the same image, and do the same by turns; podman with its cgroups disabled and its log in a file, as sbx has it.
"""

import time
from collections.abc import Callable

from places import IMAGE, BenchError, Place, median, say
from timing import Bench, _processes, _rollup

MANY = 100
LOG_BYTES = 50_000_000
ROUNDS = {"exec": 40, "run -d": 30, "stop": 20, "ps": 20, "log": 3}
# Of podman's, or times podman's, or MB
TARGETS = {
    "exec": "<= 0.3", "run -d": "<= 0.35", "ps": "<= 0.6", "stop": "<= 0.3", "many": ">= 4", "log": ">= 1", "memory": "<= 10 MB",
}  # fmt: skip
TITLES = {
    "exec": "`exec CONTAINER true`",
    "run -d": "`run -d IMAGE sleep`",
    "ps": f"`ps` with {MANY} containers",
    "stop": "`stop` of a container that obeys SIGTERM",
    "many": f"{MANY} detached containers one after another",
    "log": f"{LOG_BYTES // 1_000_000} MB of lines written and logged",
}
# Ends at once when it is asked to: the shell waits for a signal, not for a program.
POLITE = 'trap "exit 0" TERM; sleep 1000 & wait'


class Life:
    """`results`: {"exec": {"sbx": [ms, ...], "podman": [...]}, ...}; `memory` in MB."""

    def __init__(self, place: Place, *, quick: bool) -> None:
        self.place, self.quick = place, quick
        self.bench = Bench(place, quick=quick)
        self.results: dict[str, dict[str, list[float]]] = {}
        self.memory: dict[str, float] = {}
        self.tools = {"sbx": [place.sbx]}
        if place.podman:
            self.tools["podman"] = list(place.podman)

    def run(self) -> None:
        for part in (self.exec, self.run_detached, self.stop, self.log, self.many):
            say(f"{part.__name__.replace('_', ' ')} ...")
            try:
                part()
            finally:
                self.clear()

    def words(self, tool: str, name: str, *command: str, flags: "list[str] | tuple[str, ...]" = ()) -> list[str]:
        """A detached container."""
        flags = ["--network", "none", *flags]
        if tool == "podman":
            flags += ["--cgroups=disabled", "--log-driver", "k8s-file"]
        return [*self.tools[tool], "run", "-d", "--name", name, *flags, IMAGE, *command]

    def ask(self, command: list[str]) -> str:
        done = self.place.attempt(command)
        if done.returncode:
            raise BenchError(f"{' '.join(command)}: exit status {done.returncode}; {done.stderr[-300:].strip()}")
        return done.stdout

    def turns(
        self, part: str, command: Callable[[str, int], list[str]], after: Callable[[str, int], object] | None = None
    ) -> None:
        """`command(tool, round)` by turns; `after(tool, round)` is not measured."""
        found: dict[str, list[float]] = {tool: [] for tool in self.tools}
        rounds = ROUNDS[part] // (4 if self.quick else 1) or 1
        for number in range(-1, rounds):
            for tool in self.tools:
                taken = self.bench.once(command(tool, number))
                if number >= 0:
                    found[tool].append(taken)
                if after:
                    after(tool, number)
                time.sleep(0.25 if tool == "podman" else 0.02)
        self.results[part] = found

    def clear(self) -> None:
        for words in self.tools.values():
            self.place.attempt([*words, "rm", "-f", "-a", "-t", "0"], 300)

    def exec(self) -> None:
        for tool in self.tools:
            self.ask(self.words(tool, "one", "sleep", "1000"))
        self.turns("exec", lambda tool, _: [*self.tools[tool], "exec", "one", "true"])

    def run_detached(self) -> None:
        self.turns("run -d", lambda tool, number: self.words(tool, f"n{number}", "sleep", "1000"))

    def stop(self) -> None:
        rounds = range(-1, ROUNDS["stop"] // (4 if self.quick else 1))
        for tool in self.tools:
            for number in rounds:
                self.ask(self.words(tool, f"n{number}", "sh", "-c", POLITE))
        time.sleep(1)
        self.turns("stop", lambda tool, number: [*self.tools[tool], "stop", f"n{number}"])

    def log(self) -> None:
        """From `run -d` to `wait`; then every byte must be there.  podman has no limit if none is given, sbx one of 16 MiB."""
        found: dict[str, list[float]] = {tool: [] for tool in self.tools}
        script = f"yes 'a line of forty characters, more or less' | head -c {LOG_BYTES}"
        for number in range(1 if self.quick else ROUNDS["log"]):
            for tool, words in self.tools.items():
                began = time.monotonic_ns()
                whole = ["--log-opt", "max-size=1g"]
                self.ask(self.words(tool, f"n{number}", "sh", "-c", script, flags=whole))
                self.ask([*words, "wait", f"n{number}"])
                found[tool].append((time.monotonic_ns() - began) / 1e6)
                size = len(self.ask([*words, "logs", f"n{number}"]))
                if size != LOG_BYTES:
                    self.place.notes.append(f"{tool} logged {size} bytes of {LOG_BYTES}.")
        self.results["log"] = found

    def many(self) -> None:
        count = MANY // (4 if self.quick else 1)
        found: dict[str, list[float]] = {}
        for tool in self.tools:
            before = set(_processes())
            began = time.monotonic_ns()
            for number in range(count):
                self.bench.once(self.words(tool, f"n{number}", "sleep", "1000"))
            found[tool] = [(time.monotonic_ns() - began) / 1e6]
            time.sleep(0.5)
            self.memory[tool] = self.waiting(before, count)
        self.results["many"] = found
        self.turns("ps", lambda tool, _: [*self.tools[tool], "ps"])

    @staticmethod
    def waiting(before: set[int], count: int) -> float:
        """Proportional MB of all new processes but the payloads, for one container."""
        total = 0.0
        for pid, (_, name) in _processes().items():
            if pid not in before and name not in ("sleep", "podman pause"):
                try:
                    total += _rollup(pid)[0]
                except OSError:
                    continue
        return total / count


def markdown(life: Life) -> str:
    """The table: figures, ratios, targets."""
    lines = ["", "| | sbx ms | podman ms | ratio | target | |", "|---|--:|--:|--:|--:|---|"]
    for part, title in TITLES.items():
        row = life.results.get(part, {})
        if "podman" not in row:
            continue
        sbx, podman = median(row["sbx"]), median(row["podman"])
        ratio = podman / sbx if TARGETS[part].startswith(">") else sbx / podman
        limit = float(TARGETS[part].split()[1])
        met = ratio >= limit if TARGETS[part].startswith(">") else ratio <= limit
        lines.append(
            f"| {title} | {sbx:.1f} | {podman:.1f} | {ratio:.2f} | {TARGETS[part]} | {'met' if met else '**missed**'} |"
        )
    lines += ["", "| memory of an idle detached container | proportional MB | target | |", "|---|--:|--:|---|"]
    for tool, size in life.memory.items():
        verdict = ("met" if size <= 10 else "**missed**") if tool == "sbx" else ""
        lines.append(f"| {tool} | {size:.1f} | {TARGETS['memory'] if tool == 'sbx' else ''} | {verdict} |")
    return "\n".join(lines) + "\n"
