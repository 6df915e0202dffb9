"""From argv to the verb's function, and from what it raises to a message and an exit status.  (front, hot)

The one place that catches.  A verb is named by a string in the table of `options`, so nothing is imported but what the
verb that was asked for needs.
"""

import _io  # what io is made of; Python 3.14 no longer imports io for itself
import os
import sys

from sandbox import bundle, options
from sandbox.errors import EPIPE, EXIT_FAILED, EXIT_SIGNAL, SandboxError, printable, report, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
    from collections.abc import Callable
    from typing import Any, NoReturn
else:
    import _signal

SIGINT, SIGPIPE, SIGCHLD = 2, 13, 17
# What Python sets where there is no locale (PEP 538), in our environment too.
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
_MFD_EXEC, _F_ADD_SEALS, _EVERY_SEAL = (
    0x10,
    1033,
    15,
)  # memfd_create(2), fcntl(2): of seals, shrinking, growing, writing
_LIBRARIES = "SBX_LD_LIBRARY_PATH"  # what LD_LIBRARY_PATH was
# What `sbx` itself takes in front of a verb, as the verb that answers it.
_INSTEAD_OF_A_VERB = {"--help": "help", "-h": "help", "--version": "version"}


def main() -> "NoReturn":
    """Run the process's own command line and end the process."""
    _reserve_standard_descriptors()
    _watch_output()
    _hear_of_children()
    _forget_locale()
    _be_out_of_reach()
    code = run(sys.argv[1:])
    bundle.keep()
    leave(code)


def run(argv: list[str]) -> int:
    """Run one command line (without the program's name); the exit status.  Raises nothing."""
    debug = [os.environ.get("SBX_DEBUG", "") not in ("", "0")]
    try:
        return dispatch(argv, debug)
    except SandboxError as error:
        _traceback(error, debug)
        return report(error)
    except OutputLostError as error:
        _traceback(error, debug)
        return _lost(error)
    except KeyboardInterrupt as error:
        _traceback(error, debug)
        return EXIT_SIGNAL + SIGINT
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else EXIT_FAILED if error.code else 0
    except BaseException as error:
        _traceback(error, debug)
        if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != "sandbox":
            return report(
                SandboxError(
                    "load Python package", error.name, detail="it is not installed",
                    hint=f"install it for {sys.executable}: `python3 -m pip install {error.name}`, or sbx again with pip",
                )
            )  # fmt: skip
        return report(
            SandboxError(
                "internal error", detail=f"{type(error).__name__}: {printable(str(error))}",
                hint="run again as `sbx --debug ...` and report what it shows",
            )
        )  # fmt: skip


def dispatch(argv: list[str], debug: "list[bool]") -> int:
    """Find the verb in `argv`, parse what follows, call its function; sets ``debug[0]`` when --debug was given."""
    position = 0
    while position < len(argv) and argv[position] == "--debug":
        debug[0] = True
        position += 1
    verb = argv[position] if position < len(argv) else ""
    rest = argv[position + 1 :]
    verb = _INSTEAD_OF_A_VERB.get(verb, verb)
    if rest and verb not in options.HOT:
        verb, rest = _of_two_words(verb, rest)
    parsed = options.parse(verb, rest)
    if parsed is None:
        _switch_on_packages()
        parsed = load("sandbox.cli.app:parse")(verb, rest)
        if isinstance(parsed, int):  # help was shown
            return parsed
    found, operands = parsed
    debug[0] = found["debug"] = found["debug"] or debug[0]
    entry = options.find(verb)
    assert entry is not None
    if not entry.hot:
        _switch_on_packages()
    code: int = load(entry.target)(found, operands)
    return code


def _of_two_words(verb: str, rest: list[str]) -> "tuple[str, list[str]]":
    """`system df` is one verb, `image rm` another spelling of one."""
    from sandbox import verbs

    found = verbs.resolve(verb, rest[0])
    return (found, rest[1:]) if found else (verb, rest)


def load(target: str) -> "Callable[..., Any]":
    """The function of ``module:function``; the built-in __import__, because importlib costs 1 ms."""
    module, _, name = target.partition(":")
    __import__(module)
    function: Callable[..., Any] = getattr(sys.modules[module], name)
    return function


def leave(code: int) -> "NoReturn":
    """End the process at once, without the interpreter's tidying up (2 ms), but not without what was printed."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OutputLostError as error:
        lost = _lost(error)
        code = code or lost
    except ValueError:
        pass  # somebody has closed it, and so has flushed it
    os._exit(code & 0xFF)


class OutputLostError(Exception):
    """Stdout did not take what was printed.  Not an OSError: those come from every file and pipe."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


lost_output: "list[object]" = []


class _Output(_io.TextIOWrapper):
    """Stdout that tells its own failures from others'.  Names in images need not be text in this locale: they are
    shown somehow (backslashreplace), nothing dies of them."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputLostError(error.errno or 0) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputLostError(error.errno or 0) from error


def _watch_output() -> None:
    """Put our own stdout in place; and something where Python has None, because the caller had closed it."""
    old = sys.stdout
    if old is None:
        old = _io.TextIOWrapper(_io.BufferedWriter(_io.FileIO(1, "w", closefd=False)))
    if type(old) is _io.TextIOWrapper:
        line_buffering, encoding = old.line_buffering, old.encoding
        sys.stdout = _Output(old.detach(), encoding, "backslashreplace", line_buffering=line_buffering)
    if sys.stdin is None:
        sys.stdin = open("/dev/null", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open("/dev/null", "w", encoding="utf-8")


def _lost(error: OutputLostError) -> int:
    """Say that the output is lost; the exit status.

    A reader that went away (`sbx images | head -1`) is no error to talk about: end as SIGPIPE lets other programs end.
    """
    # What is buffered is lost, and leave() must not try again.  Kept: Python 3.14 complains when it finalizes such a file.
    lost_output.append(sys.stdout)
    sys.stdout = None
    if error.errno == EPIPE:
        return EXIT_SIGNAL + SIGPIPE
    return report(SandboxError("write", "standard output", error.errno))


def _reserve_standard_descriptors() -> None:
    """Started with 0, 1 or 2 closed, the next file opened would become standard output: put /dev/null there.

    Read-only, so that output that nobody can see still fails.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDONLY)  # the lowest free number
            os.set_inheritable(fd, True)  # the command that is run would fall into the same hole


def _hear_of_children() -> None:
    """Undo what the caller did to SIGCHLD: blocked nobody would wake us, ignored the kernel keeps no exit status."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    _signal.signal(SIGCHLD, _signal.SIG_DFL)


def _forget_locale() -> None:
    """Take LC_CTYPE out of the environment when Python has put it there: the caller's variables are passed on, not ours."""
    if os.environ.get("LC_CTYPE") in _COERCED:
        try:
            with open("/proc/self/environ", "rb", buffering=0) as file:
                ours = b"\0LC_CTYPE=" not in b"\0" + file.read()
        except OSError:
            return
        if ours:
            del os.environ["LC_CTYPE"]


def _be_out_of_reach() -> None:
    """Where the program of this Python belongs to the caller, become a sealed copy of it in memory, by running it again.

    A command in a sandbox gets at its program for a moment (`#!/proc/self/exe`), and as root inside it is the caller: it
    could change the file's mode, and in some kernels its content (CVE-2019-5736).  The system's Python is nobody's inside.
    """
    uid = os.getuid()
    if uid == 0:
        return  # never mapped
    try:
        program = os.stat("/proc/self/exe")
        if program.st_uid != uid and not os.access("/proc/self/exe", os.W_OK):
            return
        if program.st_nlink:
            _run_copy()
        with open("/proc/self/comm", "w", encoding="utf-8") as file:
            file.write("python3")  # it would be the number of a descriptor
    except OSError as error:
        tell(
            f"{sys.executable} belongs to you and could not be copied into memory: a command could change it ({error})"
        )
    # See _run_copy.
    before = os.environ.pop(_LIBRARIES, None)
    if before is not None:
        os.environ["LD_LIBRARY_PATH"] = before
        if not before:
            del os.environ["LD_LIBRARY_PATH"]


def _run_copy() -> None:
    """Run our own command line from the copy; does not return.  OSError: no memory, or the system runs nothing from memory."""
    import fcntl

    try:
        copy = os.memfd_create("python3", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _MFD_EXEC)
    except OSError:  # before Linux 6.3 every one can be run
        copy = os.memfd_create("python3", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    source = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    while os.sendfile(copy, source, None, 1 << 30):
        pass
    fcntl.fcntl(copy, _F_ADD_SEALS, _EVERY_SEAL)
    environment = dict(os.environ)
    # A Python whose library lies beside its program ($ORIGIN) would look for it beside the copy.
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        library = next((line[line.index("/") : -1] for line in file if "/libpython" in line), "")
    if library:
        before = environment.get("LD_LIBRARY_PATH", "")
        environment[_LIBRARIES] = before
        environment["LD_LIBRARY_PATH"] = library.rpartition("/")[0] + (f":{before}" if before else "")
    os.execve(copy, sys.orig_argv, environment)


def _switch_on_packages() -> None:
    """Make typer and the others importable: the launcher starts Python with -S."""
    from sandbox.cold import site_packages

    site_packages()


def _traceback(error: BaseException, debug: "list[bool]") -> None:
    if not debug[0]:
        return
    try:
        import traceback

        traceback.print_exception(error)
    except Exception as failure:
        tell(f"no traceback: {type(failure).__name__}")
