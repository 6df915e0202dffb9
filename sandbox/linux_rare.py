"""Wrappers of system calls that most starts do without; the rest is in linux.py.  (core, hot when needed)"""

import os
import sys

from sandbox.linux import AF_INET, SOCK_CLOEXEC, packed, syscall


def pidfd_open(pid: int) -> int:
    return syscall("pidfd_open", pid, 0)


def pidfd_getfd(pidfd: int, target: int) -> int:
    """A copy of file descriptor `target` of the process behind `pidfd`; needs ptrace access to it."""
    return syscall("pidfd_getfd", pidfd, target, 0)


def personality(persona: int) -> int:
    return syscall("personality", persona)


def syncfs(fd: int) -> None:
    """Write what is cached of the file system that `fd` lies on to its disk."""
    syscall("syncfs", fd)


# -- Landlock --


def landlock_abi() -> int:
    """The kernel's Landlock ABI version, 1 or more; OSError ENOSYS or EOPNOTSUPP when there is none."""
    return syscall("landlock_create_ruleset", None, 0, 1)


def landlock_create(files: int, ports: int, scopes: int) -> int:
    """A ruleset that handles these LANDLOCK_ACCESS_FS_*, LANDLOCK_ACCESS_NET_* and LANDLOCK_SCOPE_*.

    OSError E2BIG or EINVAL for what this kernel does not know, ENOSYS or EOPNOTSUPP without Landlock.
    """
    attr = packed((files, 8), (ports, 8), (scopes, 8))  # struct landlock_ruleset_attr, as long as it must be
    return syscall("landlock_create_ruleset", attr, 24 if scopes else 16 if ports else 8, 0)


def landlock_allow_path(ruleset: int, fd: int, rights: int) -> None:
    syscall("landlock_add_rule", ruleset, 1, packed((rights, 8), (fd, 4)), 0)  # struct landlock_path_beneath_attr


def landlock_allow_port(ruleset: int, port: int, rights: int) -> None:
    syscall("landlock_add_rule", ruleset, 2, packed((rights, 8), (port, 8)), 0)  # struct landlock_net_port_attr


def landlock_restrict_self(ruleset: int) -> None:
    """Confine this process and its children, for good; needs no_new_privs or CAP_SYS_ADMIN."""
    syscall("landlock_restrict_self", ruleset, 0)


# -- routes --


def unreachable_route(network: str, prefix: int) -> None:
    """Make an IPv4 network unreachable in the current network namespace: rtnetlink(7), RTM_NEWROUTE, RTN_UNREACHABLE."""
    address_bytes = bytes(int(part) for part in network.split("."))
    # struct rtmsg: family, dst_len, src_len, tos, table main, protocol static, scope universe, type; flags
    route = bytes((AF_INET, prefix, 0, 0, 254, 4, 0, 7)) + bytes(4) + packed((8, 2), (1, 2)) + address_bytes
    # struct nlmsghdr: length, RTM_NEWROUTE, REQUEST | ACK | CREATE | EXCL, sequence number, port
    message = packed((16 + len(route), 4), (24, 2), (0x605, 2), (1, 4), (0, 4)) + route
    fd = syscall("socket", 16, 3 | SOCK_CLOEXEC, 0)  # AF_NETLINK, SOCK_RAW, NETLINK_ROUTE
    try:
        os.write(fd, message)  # not connected: it goes to the kernel
        answer = os.read(fd, 4096)
        error = -int.from_bytes(answer[16:20], sys.byteorder, signed=True)  # struct nlmsgerr
        if error and error != 17:  # EEXIST
            raise OSError(error, os.strerror(error), f"{network}/{prefix}")
    finally:
        os.close(fd)
