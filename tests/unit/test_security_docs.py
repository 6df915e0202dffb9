"""The table in docs/security.md against the tests.  `python tests/unit/test_security_docs.py` writes it anew."""

import re
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
DOCS = TREE / "docs/security.md"

# row -> (weakness, what sbx does)
ROWS = {
    "R01": ("a descriptor of the host is open at start (CVE-2024-21626)", "all close-on-exec, closed again before exec; the working directory is checked"),
    "R02": ("descriptors of the caller are inherited", "0 to 2 and those named by --preserve-fd"),
    "R05": ("the image's code is loaded by the tool (CVE-2019-14271)", "everything is imported before the root changes"),
    "R06": ("masks through a fake /dev/null (CVE-2025-31133)", "masked by descriptor, with a device that was checked"),
    "R07": ("/dev/console onto a symlink (CVE-2025-52565)", "a devpts of its own, mounts by descriptor"),
    "R09": ("/dev, /proc, /sys of the image are symlinks", "targets are resolved inside the root; a symlink there is an error"),
    "R10": ("as R09 for procfs (CVE-2019-19921)", "as R09"),
    "R11": ("a mount's target is swapped meanwhile (CVE-2021-30465)", "mounts go by descriptor only"),
    "R12": ("setgroups regains access (CVE-2018-7169)", "setgroups denied without the helper"),
    "R13": ("groups of the caller are kept", "exactly the image's groups"),
    "R14": ("TIOCSTI types into the terminal", "filter, a session of its own, a terminal proxy"),
    "R15": ("TIOCSTI with high bits (CVE-2019-10063)", "comparisons are on the low 32 bits"),
    "R16": ("TIOCLINUX, TIOCSETD", "filter"),
    "R17": ("process 1 is traced or read", "it is the command itself, or not dumpable; pidfd_getfd and process_vm_writev refused"),
    "R18": ("variables of the caller in /proc/1/environ", "process 1 has an environment of its own"),
    "R19": ("mounts propagate", "everything is private"),
    "R20": ("a remount drops locked flags", "flags are kept; remount refused"),
    "R21": ("mounts below a read-only volume stay writable", "read-only is recursive"),
    "R22": ("nested user namespaces", "clone, unshare refused; max_user_namespaces is 0"),
    "R23": ("inheritable capabilities (CVE-2022-24769)", "empty, always"),
    "R24": ("capabilities of a user other than root", "none in any set"),
    "R25": ("capabilities are regained", "the bounding set is what is held"),
    "R26": ("set-uid files and file capabilities", "no_new_privs; volumes nosuid"),
    "R27": ("the session's keyring", "a new one is joined; the calls are refused"),
    "R28": ("abstract unix sockets (CVE-2020-15257)", "a network namespace, or Landlock's scope"),
    "R29": ("AF_VSOCK", "families are an allow-list"),
    "R30": ("AF_ALG", "as R29"),
    "R31": ("rare families load modules", "as R29"),
    "R32": ("io_uring", "ENOSYS"),
    "R33": ("bpf, perf, userfaultfd", "EPERM"),
    "R34": ("kexec, modules, reboot, swap, clock, ports", "EPERM, and no such capability"),
    "R35": ("open_by_handle_at", "EPERM"),
    "R36": ("clone3 can not be inspected", "ENOSYS"),
    "R37": ("new calls", "ENOSYS for what is not known"),
    "R38": ("x32 numbers", "ENOSYS"),
    "R39": ("the 32-bit entry", "ENOSYS"),
    "R40": ("64-bit comparisons of 32-bit arguments", "comparisons are on the low 32 bits"),
    "R41": ("raw and packet sockets", "refused, and no NET_RAW"),
    "R42": ("/proc shows and controls the kernel", "masked, read-only"),
    "R43": ("masks are unmounted", "umount refused; the mounts are locked"),
    "R44": ("/sys", "read-only, masked"),
    "R45": ("control groups (CVE-2022-0492)", "a namespace of their own, version 2, read-only"),
    "R46": ("core_pattern, sysrq, modprobe", "not mapped and read-only"),
    "R47": ("core dumps run a helper outside", "the limit is 0"),
    "R48": ("device nodes", "six bound ones, nodev elsewhere, mknod refused"),
    "R49": ("terminals of the host", "a devpts of its own"),
    "R50": ("mount calls, setns", "refused"),
    "R51": ("loopback of the host through the helper", "switched off"),
    "R52": ("metadata of clouds", "unreachable routes"),
    "R53": ("name servers of the host", "the helper's only"),
    "R54": ("descriptors", "a hard limit"),
    "R56": ("the kernel's log", "syslog refused, kmsg masked"),
    "R57": ("personality", "an allow-list"),
    "R58": ("rare calls", "refused"),
    "R59": ("environment, umask, signals, priority", "clean, 022, reset, refused"),
    "R60": ("namespaces that were forgotten", "all seven, always"),
    "R61": ("sockets and files of the host", "not there; a socket as volume takes a word"),
    "R62": ("a filter on one thread only", "loaded before exec, so every thread has it"),
    "R63": ("root of the host is mapped", "never"),
    "F01": ("unknown keys are ignored", "an error with the nearest name"),
    "F02": ("a wrong type weakens", "an error"),
    "F03": ("extends out of the folder, or in a loop", "names and ./FILE only, four deep, no loops"),
    "F04": ("a later file weakens", "denials only grow; `allow_weaken` is not inherited"),
    "F05": ("unknown calls or capabilities", "an error with the nearest name"),
    "F06": ("what the kernel lacks", "`require` fails"),
    "F07": ("profiles that others wrote", "owner and mode are checked; never from the working directory"),
    "F08": ("options beat a profile silently", "`lock`: an error that names the key"),
}  # fmt: skip
# Tests whose names do not carry the row.
ALSO = {
    "F01": "test_every_misspelt_key_is_an_error_with_the_right_one_as_hint", "F02": "test_wrong_types_are_errors",
    "F05": "test_errors_name_the_line", "F07": "test_files_that_others_can_change_are_refused",
}  # fmt: skip


def by_row() -> dict[str, list[str]]:
    """Row -> tests that carry its number, in a function's name or in the list of calls of test_confinement.py."""
    found: dict[str, list[str]] = {row: [] for row in ROWS}
    names = set()
    for path in sorted((TREE / "tests").rglob("test_*.py")):
        text = path.read_text()
        for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE):
            names.add(name)
            for row in re.findall(r"(?<=_)([RF]\d\d)(?=_)", name):
                if row in found:
                    found[row].append(name)
        if path.name == "test_confinement.py":
            for row in dict.fromkeys(re.findall(r'"(R\d\d) ', text)):
                found[row].append("test_call")
    for row, name in ALSO.items():
        assert name in names
        found[row].append(name)
    return {row: list(dict.fromkeys(some)) for row, some in found.items()}


def table() -> str:
    lines = ["| row | weakness | defence | test |", "|---|---|---|---|"]
    for row, some in by_row().items():
        weakness, defence = ROWS[row]
        lines.append(f"| {row} | {weakness} | {defence} | {', '.join(f'`{name}`' for name in some)} |")
    return "\n".join(lines) + "\n"


def filled(text: str) -> str:
    head, _, rest = text.partition("<!-- generated: rows -->\n")
    return f"{head}<!-- generated: rows -->\n{table()}<!-- end -->{rest.partition('<!-- end -->')[2]}"


def test_the_table_is_generated() -> None:
    assert DOCS.read_text() == filled(DOCS.read_text()), f"run: python {Path(__file__).name}"


def test_every_row_has_a_test() -> None:
    assert [row for row, some in by_row().items() if not some] == []


if __name__ == "__main__":
    sys.exit(DOCS.write_text(filled(DOCS.read_text())) and None)
