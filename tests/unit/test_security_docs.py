"""The table in docs/security.md against the tests.  `python tests/unit/test_security_docs.py` writes it anew."""

import re
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
DOCS = TREE / "docs/security.md"

# row -> (weakness, what sbx does)
ROWS = {
    "R01": ("a descriptor of the host is open at start (CVE-2024-21626)", "all close-on-exec, closed again before exec; the working directory is checked"),
    "R02": ("descriptors of the caller are inherited", "0 to 2 and those named by --preserve-fd; a file at 0 that is read can not be written"),
    "R03": ("the program of the tool is overwritten through /proc (CVE-2019-5736)", "it belongs to nobody who is mapped, or is a sealed copy in memory; not dumpable until exec"),
    "R04": ("who joins a sandbox is traced before it is confined (CVE-2016-9962)", "not dumpable until exec"),
    "R05": ("the image's code is loaded by the tool (CVE-2019-14271)", "everything is imported before the root changes"),
    "R06": ("masks through a fake /dev/null (CVE-2025-31133)", "masked by descriptor, with a device that was checked"),
    "R07": ("/dev/console onto a symlink (CVE-2025-52565)", "a devpts of its own, mounts by descriptor"),
    "R08": ("writes to /proc are led elsewhere (CVE-2025-52881)", "through its own procfs, no links, its magic is checked"),
    "R09": ("/dev, /proc, /sys of the image are symlinks", "targets are resolved inside the root; a symlink there is an error"),
    "R10": ("as R09 for procfs (CVE-2019-19921)", "as R09"),
    "R11": ("a mount's target is swapped meanwhile (CVE-2021-30465)", "mounts go by descriptor only"),
    "R12": ("setgroups regains access (CVE-2018-7169)", "setgroups denied without the helper"),
    "R13": ("groups of the caller are kept", "exactly the image's groups"),
    "R14": ("TIOCSTI types into the terminal", "filter, a session of its own, a terminal of its own in place of the caller's, with -t or without"),
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
    "R54": ("forks, memory, descriptors", "a hard limit of descriptors; of the others where they were asked for, or refused"),
    "R55": ("disk and logs fill up", "sizes for file systems in memory, 16 MiB and one older log of as much; of the disk there is none"),
    "R56": ("the kernel's log", "syslog refused, kmsg masked"),
    "R57": ("personality", "an allow-list"),
    "R58": ("rare calls", "refused"),
    "R59": ("environment, umask, signals, priority", "clean, 022, reset, refused"),
    "R60": ("namespaces that were forgotten", "all seven, always"),
    "R61": ("sockets and files of the host", "not there; a socket as volume takes a word; what the session goes by is covered in volumes"),
    "R62": ("a filter on one thread only", "loaded before exec, so every thread has it"),
    "R63": ("root of the host is mapped", "never"),
    "I01": ("absolute names and `..` in archives", "`/` is dropped, `..` refused; each part is opened by descriptor"),
    "I02": ("a file through a symlink of the same or an earlier layer", "parents are folders or refused; the last part is never followed"),
    "I03": ("hard links to files of the host", "only to files of the same layer"),
    "I04": ("owner, mode, times through a symlink", "by descriptor, links are not followed"),
    "I05": ("whiteouts through a symlink, of `.` and `..`", "made in the layer's own folder only; those names are refused"),
    "I06": ("device nodes and pipes in images", "nodes are left out and told; blobs are regular files"),
    "I07": ("set-uid files in the store", "the store is 0700; nosuid below"),
    "I08": ("extended attributes that steer overlayfs", "an allow-list"),
    "I09": ("bombs: size, count, depth, names", "limits while it streams, space given back"),
    "I10": ("digest or size not checked, bytes after the end", "both are checked, no byte more"),
    "I11": ("a layer under another image's diff id", "computed and compared; layers are named by it"),
    "I12": ("digests as paths (CVE-2024-3727)", "`sha256:` and 64 hex digits, before any use"),
    "I13": ("one document, two meanings (CVE-2021-41190)", "refused"),
    "I14": ("JSON: twice the same key, NaN, depth, size, types", "one strict reader"),
    "I15": ("layers from foreign URLs", "never fetched"),
    "I16": ("passwd and group as links, pipes, folders, huge files", "regular files inside the root, 1 MiB"),
    "I17": ("the User field", "a strict grammar; who is not found is an error, not root"),
    "I18": ("WorkingDir and Volumes through links and `..`", "resolved inside the root"),
    "I19": ("/etc/hosts and others as links out", "files of sbx, mounted inside the root"),
    "I20": ("the image's Env reaches the tool", "the command only"),
    "I21": ("labels and annotations that switch options", "shown, never obeyed"),
    "G01": ("credentials repeated after a redirect", "to the same scheme, host and port only"),
    "G02": ("a realm of another host gets the password", "same host or domain, or configured; else anonymous"),
    "G03": ("realms and redirects into internal addresses", "refused unless the registry is there itself"),
    "G04": ("other schemes than http", "refused"),
    "G05": ("plain http after a TLS error", "by a flag only; no password without TLS but to loopback"),
    "G06": ("answers without end", "limits on each kind, also after Content-Encoding; idle time-out"),
    "G07": ("blobs longer, shorter, others", "as I10, while they come"),
    "G08": ("the digest header is trusted", "computed and compared"),
    "G09": ("control characters in tokens, broken challenges", "refused; a reader of linear cost"),
    "G10": ("text of the server on the terminal", "escaped"),
    "G11": ("the next page on another host", "refused"),
    "G12": ("the file of credentials", "0600, replaced whole; names of helpers are checked"),
    "G13": ("short names from the wrong registry", "one registry, or an error that names the candidates"),
    "E01": ("a race while cp copies (CVE-2018-15664)", "copied by descriptors below the root's"),
    "E02": ("cp through a link of the container", "as E01"),
    "E03": ("cp loads libraries of the image (CVE-2019-14271)", "no helper of the image is used"),
    "E04": ("names with globs, dashes, line breaks", "no globbing, names as they are"),
    "E05": ("the source of a volume is swapped", "what was checked is mounted: a path without links"),
    "E06": ("set-uid files and devices by volumes", "nosuid, nodev; ro reaches what is mounted below"),
    "E07": ("an anonymous volume keeps another container's data", "a fresh folder each"),
    "E08": ("exec is weaker than run", "the same steps"),
    "E09": ("users of exec", "the grammar of run"),
    "E10": ("exec into a pid that was used again", "by namespaces that are held, not by number"),
    "S01": ("names in /tmp that others can foresee", "nothing lies in /tmp"),
    "S02": ("state that others can read or write", "0700, whatever the umask; foreign owners are refused"),
    "S03": ("a pid that was used again is killed", "signals go through the keeper; a lock says who lives"),
    "S04": ("locks and halves after a crash", "locks of the kernel, renames of what is whole"),
    "S05": ("others connect to the control socket", "in a folder that only its owner enters"),
    "S06": ("names and ids as paths", "`[a-zA-Z0-9][a-zA-Z0-9_.-]*`"),
    "S07": ("output that forges records of the log", "each line of output is one record"),
    "S08": ("control characters in ps, inspect, errors", "escaped on a terminal, exact in JSON"),
    "S09": ("state that a payload edits", "the store can not be mounted, and shows empty"),
    "S10": ("removal goes outside", "by descriptor, links and mounts are not followed"),
    "S11": ("the caller's environment steers Python", "`-I`; documented variables only"),
    "F01": ("unknown keys are ignored", "an error with the nearest name"),
    "F02": ("a wrong type weakens", "an error"),
    "F03": ("extends out of the folder, or in a loop", "names and ./FILE only, four deep, no loops"),
    "F04": ("a later file weakens", "denials only grow; `allow_weaken` is not inherited"),
    "F05": ("unknown calls or capabilities", "an error with the nearest name"),
    "F06": ("what the kernel lacks", "`require` fails"),
    "F07": ("profiles that others wrote", "owner and mode are checked; never from the working directory"),
    "F08": ("options beat a profile silently", "`lock`: an error that names the key"),
}  # fmt: skip
# Rows that nothing of sbx can have, and why.
NOT_YET = {
    **{f"D{n:02}": "there is no `build` yet" for n in range(1, 16)},
}  # fmt: skip
# Rows of commands that run are tried by one process in each kind of sandbox (`view` of test_confinement.py): as root and as
# a user, by run, exec and wrap.  These have tests of their own, and why that is enough.
BESIDES = {
    "R03": "as root, as a user, with --init, by exec, by wrap", "R04": "it is about exec: root and user, with --init and without",
    "R05": "before the command is there, whoever it runs as; by run, exec, cp", "R06": "as root, as a user, with --init",
    "R07": "as R06", "R08": "sysctls are written once, before the command is there",
    "R09": "mounts are made once, before the command is there", "R10": "as R09", "R11": "as R09",
    "R13": "all views but those with one id, where the kernel keeps the groups and denies setgroups",
    "R18": "where process 1 is not the command: --init as root and user, by exec", "R21": "run and exec, as root and as a user",
    "R24": "all views of users", "R28": "all views, and the host's network by tests of its own",
    "R51": "all views, and each network as root, user, by exec and wrap", "R52": "each network as root, user, by exec and wrap",
    "R53": "as R51", "R55": "not about who runs: the file systems, the log",
}  # fmt: skip
# Every row of the catalogue: one that stands in neither table is forgotten.
CATALOGUE = [
    f"{letter}{n:02}"
    for letter, last in (("R", 63), ("I", 21), ("G", 13), ("D", 15), ("E", 10), ("S", 11), ("F", 8))
    for n in range(1, last + 1)
]
SECTIONS = {
    "R": "A command that runs", "I": "Images", "G": "Registries", "E": "Files, volumes, further commands",
    "S": "What is kept on disk", "F": "Profiles",
}  # fmt: skip


def by_row() -> dict[str, list[str]]:
    """Row -> tests that carry its number, in a function's name or in the list of calls of test_confinement.py."""
    found: dict[str, list[str]] = {row: [] for row in ROWS}
    for path in sorted((TREE / "tests").rglob("test_*.py")):
        text = path.read_text()
        for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE):
            for row in re.findall(r"(?<=_)([A-Z]\d\d)(?=_)", name):
                if row in found:
                    found[row].append(name)
        if path.name == "test_confinement.py":
            for row in dict.fromkeys(re.findall(r'"(R\d\d) ', text)):
                found[row].append("test_call")
    return {row: list(dict.fromkeys(some)) for row, some in found.items()}


def table() -> str:
    found = by_row()
    lines = []
    for letter, title in SECTIONS.items():
        lines += [f"### {title}", "", "| row | weakness | defence | test |", "|---|---|---|---|"]
        for row in CATALOGUE:
            if row in found and row[0] == letter:
                weakness, defence = ROWS[row]
                lines.append(f"| {row} | {weakness} | {defence} | {', '.join(f'`{name}`' for name in found[row])} |")
        lines.append("")
    lines += ["### Not yet, because", ""]
    for reason in dict.fromkeys(NOT_YET.values()):
        rows = [row for row in CATALOGUE if NOT_YET.get(row) == reason]
        lines.append(
            f"- {', '.join(rows) if rows[-1][0] != rows[0][0] or len(rows) < 4 else f'{rows[0]} to {rows[-1]}'}: {reason}"
        )
    return "\n".join(lines) + "\n"


def filled(text: str) -> str:
    head, _, rest = text.partition("<!-- generated: rows -->\n")
    return f"{head}<!-- generated: rows -->\n{table()}<!-- end -->{rest.partition('<!-- end -->')[2]}"


def test_the_table_is_generated() -> None:
    assert DOCS.read_text() == filled(DOCS.read_text()), f"run: python {Path(__file__).name}"


def test_no_row_is_forgotten() -> None:
    assert sorted([*ROWS, *NOT_YET]) == sorted(CATALOGUE)


def test_rows_of_commands_are_tried_in_every_kind_of_sandbox() -> None:
    text = (TREE / "tests/kernel/test_confinement.py").read_text()
    viewed = set(re.findall(r'"(R\d\d) ', text))  # the calls
    for name in re.findall(r"^def (test_\w+)\([^)]*\bview: View", text, re.MULTILINE):
        viewed |= set(re.findall(r"(?<=_)(R\d\d)(?=_)", name))
    assert sorted({*viewed, *BESIDES}) == [row for row in CATALOGUE if row[0] == "R"]
    assert viewed & set(BESIDES) == set()


def test_every_row_has_a_test() -> None:
    assert [row for row, some in by_row().items() if not some] == []


if __name__ == "__main__":
    sys.exit(DOCS.write_text(filled(DOCS.read_text())) and None)
