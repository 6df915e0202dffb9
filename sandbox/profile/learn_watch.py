"""One run of a command under observation, and one under the profile that came of it.  (cold)

Called through `cold.call`: the launcher changes signals and descriptors of its process.
"""

import json
import marshal
import os
import shutil
import tempfile
from typing import Any

from sandbox import compose, containers, idmap, launch, paths, profiles, run, storage
from sandbox.errors import EXIT_FAILED, SandboxError
from sandbox.profile import calls

_ALLOW_ALL = b"\x06\0\0\0\0\0\xff\x7f"  # return SECCOMP_RET_ALLOW, for a base without a filter

# Not asked about: what works on descriptors that are open already, on the caller's own memory, time and signals, and what
# every start needs.  They may be made hundreds of thousands of times, and tell nothing; a learned profile allows them all,
# as far as its base does.  `sendmsg` is how the listener itself is handed over.
QUIET = tuple(
    """read write close fstat lseek mmap munmap mprotect brk futex rt_sigaction rt_sigprocmask rt_sigreturn poll ppoll select
    pselect6 epoll_wait epoll_pwait epoll_ctl readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 sendmsg recvmsg
    recvfrom fcntl dup dup2 dup3 pipe pipe2 madvise mremap nanosleep clock_nanosleep clock_gettime clock_getres
    gettimeofday time getpid gettid getppid getuid geteuid getgid getegid getpgrp getpgid getsid wait4 waitid
    set_tid_address set_robust_list get_robust_list rseq restart_syscall sigaltstack sched_yield arch_prctl getrandom uname
    getcwd umask getdents64 getdents getrlimit prlimit64""".split()
)
# Asked about, for what they tell, and allowed whether seen or not: no program starts or ends without them.
NEEDED = (
    *QUIET, "execve", "exit", "exit_group", "openat", "newfstatat", "access", "faccessat", "readlink", "readlinkat",
)  # fmt: skip


def watch(opts: dict[str, Any], operands: list[str]) -> tuple[int, dict[str, Any]]:
    """(exit status, record) of the command run with these options of `run`, each call of it observed; see observe.py.

    What the command prints goes to standard error.
    """
    os.dup2(2, 1)
    profile = profiles.load(opts["profile"], "")
    opts = profiles.apply(opts, profile["fragment"])
    maps = idmap.resolve("" if opts["userns"] == "auto" else opts["userns"], opts["uidmap"], opts["gidmap"])
    image = run._image(operands[0], maps, opts)
    store = paths.store()
    driver = storage.choose(store, maps, opts["storage_driver"])
    container = containers.Container(store, maps)
    try:
        spec = compose.build(opts, image, operands[1:], profile["fragment"], maps, driver, container)
        bpf = profile["bpf"] or _ALLOW_ALL
        file = _file()
        spec["annotations"]["dev.sbx.observe"] = str(file)
        container.describe(compose.about(opts, image, spec), spec, bpf)
    except BaseException:
        container.remove()
        raise
    status = launch.run(spec, bpf, container)
    record = marshal.loads(os.pread(file, os.fstat(file).st_size, 0))
    if "calls" not in record:
        raise SandboxError("observe command", operands[0], detail="its keeper left no record")
    record["mounts"] = [
        (entry["destination"], "ro" in entry["options"])
        for entry in spec["mounts"]
        if entry["type"] in ("bind", "tmpfs")
    ]
    record["readonly"] = spec["root"]["readonly"]
    record["network"] = spec["annotations"]["dev.sbx.network"]
    if not spec["process"]["noNewPrivileges"]:
        # The filter is loaded early then, and the init makes these under it.
        record["calls"] |= {name: record["calls"].get(name, 0) + 1 for name in ("capset", "prctl", "close_range")}
    return status, record


def _file() -> int:
    """The file in memory that tells the keeper what to observe, and takes what it has seen."""
    table = {name: number for name, number in calls.table(calls.machine()).items() if number is not None}
    quiet = [table[name] for name in QUIET if name in table]
    file = os.memfd_create("observed", os.MFD_CLOEXEC)
    os.write(file, marshal.dumps({"names": {number: name for name, number in table.items()}, "quiet": quiet}))
    return file


def replay(opts: dict[str, Any], operands: list[str]) -> tuple[int, list[dict[str, Any]], str]:
    """(exit status, what was refused as `--report` has it, last words) of the command under the profile in `opts`."""
    said = os.memfd_create("said")
    os.dup2(said, 1)
    os.dup2(said, 2)
    folder = tempfile.mkdtemp("", ".learning-", paths.cache())
    status, words, refused = EXIT_FAILED, "", []
    try:
        status = run.main({**opts, "report": f"{folder}/report", "quiet": True}, operands)
        with open(f"{folder}/report", encoding="utf-8") as file:
            refused = json.load(file)["refused"]
    except SandboxError as error:
        words = str(error)
    finally:
        shutil.rmtree(folder)
    size = os.fstat(said).st_size
    words = words or os.pread(said, 2000, max(0, size - 2000)).decode("utf-8", "replace")
    return status, refused, words
