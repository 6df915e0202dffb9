"""Runs inside a sandbox, tries what must not work there, and prints what happened as JSON.

Standard library only, nothing of sbx: it is handed to the host's Python by `python3 -Ic SOURCE WISHES`.  Every attempt
is harmless if it works: calls that change the kernel get arguments that are not valid, files are opened and not
written.  An outcome is a value, or the name of the errno.
"""

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any

WISHES: dict[str, Any] = json.loads(sys.argv[1])
NUMBERS: dict[str, int] = WISHES["numbers"]
ME = os.getpid()

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def attempt(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")


def raw(number: int, *arguments: Any) -> str:
    """One system call: `ok` or an errno."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *words)
    failed = ctypes.get_errno()
    if os.getpid() != ME:
        os._exit(0)  # the call made a process
    return errno.errorcode.get(failed, "?") if result == -1 else "ok"


def in_child(function: Callable[[], int]) -> str:
    """What a forked child's function returns (0 to 255), or the signal it died of."""
    pid = os.fork()
    if pid == 0:
        os._exit(function() & 0xFF)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return f"exit {status}" if status >= 0 else signal.Signals(-status).name


def text(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read(65536)


def openable(path: str) -> str:
    os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    return "ok"


def writable_folder(path: str) -> str:
    name = f"{path}/.sbx-confinement-probe"
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(name)
    return "ok"


def node(path: str) -> list[Any]:
    """[type, major, minor] of what is at `path`, links followed."""
    found = os.stat(path)
    kind = {stat.S_IFCHR: "char", stat.S_IFBLK: "block", stat.S_IFDIR: "folder", stat.S_IFREG: "file"}
    return [kind.get(stat.S_IFMT(found.st_mode), "other"), os.major(found.st_rdev), os.minor(found.st_rdev)]


def descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # that of the listing
        if "/libffi.so" not in target:  # from 3.5 on our own ctypes keeps it open, for its trampolines
            found[name] = target
    return found


def families() -> dict[str, str]:
    """Every address family, with the type that has the best chance."""
    found = {}
    for family in range(46):
        outcomes = {raw(NUMBERS["socket"], family, kind, 0) for kind in (1, 2, 3, 5)}
        found[str(family)] = "ok" if "ok" in outcomes else ",".join(sorted(outcomes))
    return found


def thread_filters() -> list[str]:
    """The seccomp mode of every thread, one of them started here."""
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    modes = []
    for task in os.listdir("/proc/self/task"):
        lines = text(f"/proc/self/task/{task}/status").splitlines()
        modes += [line.split()[1] for line in lines if line.startswith("Seccomp:")]
    gate.set()
    thread.join()
    return modes


def machine_code(code: bytes) -> int:
    """The result (as errno, positive) of a piece of code that makes a system call by another entry."""
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    return -int(function())


def i386(number: int, first: int = 0) -> str:
    # push rbx; mov eax, number; mov ebx, first; xor ecx, ecx; int 0x80; pop rbx; ret
    code = (
        b"\x53\xb8" + number.to_bytes(4, "little") + b"\xbb" + first.to_bytes(4, "little") + b"\x31\xc9\xcd\x80\x5b\xc3"
    )
    return in_child(lambda: machine_code(code))


def connect(kind: str, *address: Any) -> str:
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as client:
        client.settimeout(1)
        try:
            client.connect(address[0] if kind == "unix" else (address[0], address[1]))
        except TimeoutError:
            return "timeout"
    return "ok"


def route(address: str) -> str:
    """Whether there is a route to `address`; connecting a datagram socket looks it up and sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.connect(socket.getaddrinfo(address, 9, family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST)[0][4])
    return "ok"


def first_process() -> dict[str, Any]:
    """What can be had of pid 1, when that is not ourselves."""
    buffer = ctypes.create_string_buffer(8)
    vector = ctypes.addressof(buffer).to_bytes(8, "little") + (8).to_bytes(8, "little")  # struct iovec
    pidfd = libc.syscall(ctypes.c_long(NUMBERS["pidfd_open"]), ctypes.c_long(1), ctypes.c_long(0))
    return {
        **{name: attempt(lambda name=name: os.readlink(f"/proc/1/{name}")) for name in ("exe", "cwd", "root")},
        **{name: attempt(lambda name=name: text(f"/proc/1/{name}")) for name in ("environ", "maps", "mem", "auxv")},
        "fd": attempt(lambda: os.listdir("/proc/1/fd")),
        "exe_write": attempt(lambda: openable("/proc/1/exe")),
        "ptrace": raw(NUMBERS["ptrace"], 16, 1, 0, 0),  # PTRACE_ATTACH
        "seize": raw(NUMBERS["ptrace"], 0x4206, 1, 0, 0),
        "pidfd_getfd": raw(NUMBERS["pidfd_getfd"], pidfd, 0, 0),
        "process_vm_readv": raw(NUMBERS["process_vm_readv"], 1, vector, 1, vector, 1, 0),
        "cmdline": attempt(lambda: text("/proc/1/cmdline")),
    }


def facts() -> dict[str, Any]:
    status = dict(line.split(":", 1) for line in text("/proc/self/status").splitlines())
    return {
        "pid": ME,
        "session": os.getsid(0),
        "descriptors": descriptors(),
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
        "status": {name: value.strip() for name, value in status.items()},
        "mountinfo": text("/proc/self/mountinfo").splitlines(),
        "uid_map": [line.split() for line in text("/proc/self/uid_map").splitlines()],
        "gid_map": [line.split() for line in text("/proc/self/gid_map").splitlines()],
        "setgroups": text("/proc/self/setgroups").strip(),
        "groups": os.getgroups(),
        "cgroup": text("/proc/self/cgroup").splitlines(),
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")},
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "hostname": os.uname().nodename,
        "limits": {
            name: list(resource.getrlimit(getattr(resource, name))) for name in dir(resource) if name[:7] == "RLIMIT_"
        },
        "umask": os.umask(0o022),
        "threads": thread_filters(),
    }


def main() -> None:
    found: dict[str, Any] = {"facts": facts()}
    for kind, function in {
        "read": text, "list": os.listdir, "write": openable, "write_below": writable_folder, "node": node,
        "link": os.readlink,
    }.items():  # fmt: skip
        found[kind] = {path: attempt(lambda f=function, p=path: f(p)) for path in WISHES.get(kind, ())}
    found["call"] = {
        name: raw(number, *(a.encode() if isinstance(a, str) else a for a in arguments))
        for name, (number, arguments) in WISHES.get("call", {}).items()
    }
    found["connect"] = {
        repr(target): attempt(lambda t=target: connect(*(w.replace("@", "\0") if isinstance(w, str) else w for w in t)))
        for target in WISHES.get("connect", ())
    }
    found["route"] = {address: attempt(lambda a=address: route(a)) for address in WISHES.get("route", ())}
    found["families"] = families()
    if WISHES.get("pid1"):
        found["pid1"] = first_process()
    if os.uname().machine == "x86_64":
        found["i386"] = {"getpid": i386(20), "socketcall": i386(102, 1), "ipc": i386(117, 1)}
    print(json.dumps(found))


main()
