"""What a filter costs: getppid in a loop without one, under profiles of sbx and under JSON profiles; and the time to compile.

python bench/filter.py [FILE.json...]     default: podman's own profile, where it is installed
"""

import ctypes
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sandbox import linux
from sandbox.profile import calls, compile, foreign, load

ROUNDS, CALLS = 15, 100_000
PODMAN = "/usr/share/containers/seccomp.json"
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"]


def nanoseconds(program: bytes) -> float:
    """Of one getppid in a child with this filter; the loop's own cost is in it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        if program:
            linux.prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
            linux.seccomp_load(program)
        getppid = ctypes.CDLL(None).getppid
        started = time.perf_counter_ns()
        for _ in range(CALLS):
            getppid()
        os.write(write, str((time.perf_counter_ns() - started) / CALLS).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    spent = float(os.read(read, 64))
    os.close(read)
    return spent


def main() -> None:
    """Print a line for each filter."""
    programs = {"no filter": b""}
    for name in ("default", "strict", "podman"):
        started = time.perf_counter()
        profile = load.effective(name)[0]
        programs[f"{name}.toml"] = compile.program(profile.policy.oci(calls.machine()))
        print(f"compile {name:<22} {1000 * (time.perf_counter() - started):7.1f} ms")
    for path in sys.argv[1:] or [PODMAN] * os.path.exists(PODMAN):
        programs[path] = compile.program(foreign.read(path, CAPABILITIES))
    best = dict.fromkeys(programs, float("inf"))
    for _ in range(ROUNDS):  # by turns, so that what else the machine does hits all alike
        for name, program in programs.items():
            best[name] = min(best[name], nanoseconds(program))
    for name, program in programs.items():
        print(f"{name:<30} {len(program) // 8:5} instructions {best[name] - best['no filter']:8.1f} ns")


if __name__ == "__main__":
    main()
