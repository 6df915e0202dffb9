"""The code of a hot verb's modules in one file, read at once instead of found and read forty times.  (core, hot)

    __pycache__/run.cpython-311.bundle
        how long the next part is, in eight digits
        marshal: magic number, [(source, mtime in ns, size)], [how long each further part is], how many are for the cli
        marshal: [(module, source, code)]     and so on: parts so small that their memory serves the next one (0.2 ms)

It lies beside Python's own compiled files and is trusted for the same reason: who can write there can write the sources.
It is used as a whole, while each source still has its time and size, and written by who may (cli/bundle.py) at the end of a
start that found none.  Without it modules are imported one by one, and nothing is lost but 2 ms.
"""

import marshal
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

    Stamps = list[tuple[str, int, int]]
    Module = tuple[str, str, CodeType]

# Verb -> what the cli imports, and what the keeper does, with what these import; modules that only some starts need are
# left to them.
VERBS: "dict[str, tuple[tuple[str, ...], tuple[str, ...]]]" = {
    "run": (("entry", "options_run", "run"), ("keeper", "overlay", "refusals")),
    "wrap": (("entry", "options_wrap", "wrap"), ("keeper", "refusals")),
    "exec": (("entry", "options_exec", "exec", "channel"), ()),
}
FOLDER = os.path.dirname(__file__)
CACHE = f"{FOLDER}/__pycache__"
DIGITS = 8
missing = ""  # the verb whose file was not there or did not match
loaded = ""  # the verb whose file was


def path(verb: str) -> str:
    return f"{CACHE}/{verb}.{sys.implementation.cache_tag}.bundle"


def load(verb: str) -> None:
    """Load the modules of `verb` at once, where that can be done."""
    global missing, loaded
    if verb in VERBS and not sys.flags.optimize:
        found = _add(_read(verb, rest=False))
        missing, loaded = ("", verb) if found else (verb, "")


def load_rest() -> None:
    """In the keeper: those of its modules that the cli did not need."""
    if loaded:
        _add(_read(loaded, rest=True))


def _add(modules: "Iterator[Module]") -> bool:
    """Whether there are any."""
    package = sys.modules["sandbox"]
    found = False
    for name, source, code in modules:
        found = True
        full = f"sandbox.{name}"
        if full in sys.modules:
            continue
        if sys.flags.verbose:
            sys.stderr.write(f"import '{full}' # from a bundle\n")
        module = type(sys)(full)
        module.__file__, module.__package__ = f"{FOLDER}/{source}", "sandbox"
        sys.modules[full] = module
        exec(code, module.__dict__)  # noqa: S102 - as import does
        setattr(package, name, module)
    return found


def _read(verb: str, *, rest: bool) -> "Iterator[Module]":
    """Nothing when it is not there, not whole, of another Python, or older than a source."""
    try:
        fd = os.open(path(verb), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        head = int(os.read(fd, DIGITS))
        magic, stamps, sizes, early = marshal.loads(os.read(fd, head))
        whole = os.fstat(fd).st_size == DIGITS + head + sum(sizes)
        # Who loads the rest has looked at the sources a moment ago.
        if whole and magic == MAGIC_NUMBER and (rest or stamps == stamp([source for source, _, _ in stamps])):
            if rest:
                os.lseek(fd, sum(sizes[:early]), os.SEEK_CUR)
            for size in sizes[early:] if rest else sizes[:early]:
                yield from marshal.loads(os.read(fd, size))
    except (OSError, ValueError, EOFError, TypeError):
        return
    finally:
        os.close(fd)


def stamp(sources: list[str]) -> "Stamps":
    """(name, mtime in ns, size) of files of the package; OSError when one is gone."""
    folder = os.open(FOLDER, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = []
        for source in sources:
            status = os.stat(source, dir_fd=folder)
            found.append((source, status.st_mtime_ns, status.st_size))
        return found
    finally:
        os.close(folder)


def keep() -> None:
    """Write the file that was missing, for the next start; nobody has to know when that can not be done."""
    if missing and os.access(CACHE, os.W_OK) and not sys.dont_write_bytecode:
        from sandbox import cold

        try:
            cold.call("sandbox.cli.bundle:write", missing)
        except Exception:  # also that of an output that takes no more, of which the end of the start tells
            pass
