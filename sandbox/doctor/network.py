"""Probes of networks: a namespace with its loopback, and both user-mode network helpers.  (cold)"""

import os
import socket

from sandbox import linux, userns
from sandbox.doctor import inside
from sandbox.doctor.packages import install
from sandbox.doctor.probe import DEADLINE, MISSING, WORKS, Refused, Scratch, Verdict, step
from sandbox.doctor.storage import open_tun

_SECONDS = 0.7 * DEADLINE


def network_namespace(scratch: Scratch) -> Verdict:
    """Set `lo` up in a new network namespace, and send a datagram to ourselves through it."""
    inside.enter(linux.CLONE_NEWNET)
    with step("set interface up", "lo"):
        linux.loopback_up()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(1)
        with step("use interface", "lo"):
            one.bind(("127.0.0.1", 0))
            one.sendto(b"hello", one.getsockname())
            return Verdict(WORKS) if one.recv(16) == b"hello" else Verdict(MISSING, "lo lost a datagram")


def _route(pid: int) -> str:
    """The device of the default route in the network namespace of `pid`, "" while there is none."""
    with open(f"/proc/{pid}/net/route", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if len(fields) > 7 and fields[1] == fields[7] == "00000000":
                return fields[0]
    with open(f"/proc/{pid}/net/ipv6_route", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if fields[:2] == ["0" * 32, "00"] and fields[-1] != "lo":
                return fields[-1]
    return ""


def slirp4netns(scratch: Scratch) -> Verdict:
    """Start slirp4netns on a held namespace; it must report ready and leave a default route."""
    program = userns.find("slirp4netns")
    if not program:
        raise Refused("the program slirp4netns is missing", install("slirp4netns"))
    open_tun()
    with inside.held(linux.CLONE_NEWNET) as pid:
        read, write = os.pipe()
        helper = inside.Helper(
            [program, "--configure", "--mtu=65520", "--disable-host-loopback", f"--ready-fd={write}", str(pid), "tap0"],
            (write,),
        )
        os.close(write)
        try:
            if not inside.readable(read, _SECONDS):
                return Verdict(MISSING, f"slirp4netns was not ready within {_SECONDS:g} s")
            if os.read(read, 1) != b"1":
                return Verdict(MISSING, f"slirp4netns: {helper.last_words()}")
            if _route(pid) != "tap0":
                return Verdict(MISSING, "slirp4netns is ready, but there is no default route through tap0")
        finally:
            helper.stop()
    return Verdict(WORKS)


def pasta(scratch: Scratch) -> Verdict:
    """Start pasta on a held namespace; a default route must appear there."""
    program = userns.find("pasta")
    if not program:
        raise Refused("the program pasta is missing", install("pasta"))
    open_tun()
    with inside.held(linux.CLONE_NEWNET) as pid:
        none = [word for option in ("-t", "-u", "-T", "-U") for word in (option, "none")]
        # Called by root, pasta would become nobody, who may not join the namespace.
        own = ["--runas", "0:0"] if os.geteuid() == 0 else []
        helper = inside.Helper([program, "--foreground", "--config-net", *own, *none, str(pid)])
        try:
            for _ in inside.until(_SECONDS):
                if _route(pid):
                    return Verdict(WORKS)
                if helper.process.poll() is not None:
                    said = helper.last_words()
                    fix = "give the host a default route, or use --network slirp4netns" if "routable" in said else ""
                    return Verdict(MISSING, f"pasta: {said}", fix)
            return Verdict(MISSING, f"pasta configured no route within {_SECONDS:g} s")
        finally:
            helper.stop()
