"""Write the file that a hot verb's modules are loaded from at once: see sandbox/bundle.py.  (cold)

`python3 -Im sandbox.cli.bundle` writes all of them, for who installs sbx where its users can not write.
"""

import importlib
import marshal
import os
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER
from types import ModuleType

from sandbox import bundle

_LONGEST = 90_000  # bytes of a part; what is longer than 128 KiB gets memory of its own from the C library


def write(verb: str) -> None:
    """For `verb` of bundle.VERBS; imports all that it needs anew, so this is for a process that ends after it."""
    # Times first: a source that changes meanwhile does not match later.
    sources = [name for name in os.listdir(bundle.FOLDER) if name.endswith(".py")]
    times = {entry[0]: entry for entry in bundle.stamp(sources)}
    parts: list[list[bundle.Module]] = [[]]
    original = SourceFileLoader.exec_module

    def exec_module(loader: SourceFileLoader, module: ModuleType) -> None:
        original(loader, module)
        package, _, name = module.__name__.rpartition(".")
        code = loader.get_code(module.__name__)
        if package == "sandbox" and name != "bundle" and code:
            # In the order in which they are ready: each comes after what it needs.
            found = (name, os.path.basename(loader.path), code)
            if len(marshal.dumps([*parts[-1], found])) > _LONGEST:
                parts.append([])
            parts[-1].append(found)

    SourceFileLoader.exec_module = exec_module  # type: ignore[assignment,method-assign]
    try:
        for name in [name for name in sys.modules if name.partition(".")[0] == "sandbox"]:
            del sys.modules[name]
        for name in bundle.VERBS[verb][0]:
            importlib.import_module(f"sandbox.{name}")
        early = len(parts)
        parts.append([])
        for name in bundle.VERBS[verb][1]:
            importlib.import_module(f"sandbox.{name}")
    finally:
        SourceFileLoader.exec_module = original  # type: ignore[method-assign]
    data = [marshal.dumps(part) for part in parts]
    stamps = [times[source] for part in parts for _, source, _ in part]
    head = marshal.dumps((MAGIC_NUMBER, stamps, [len(part) for part in data], early))
    fresh = f"{bundle.path(verb)}.{os.getpid()}"
    for name in os.listdir(bundle.CACHE):
        if name.startswith(f"{os.path.basename(bundle.path(verb))}."):
            os.unlink(f"{bundle.CACHE}/{name}")  # of one who was killed; who is not only writes it later
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, os.stat(bundle.__file__).st_mode & 0o444 | 0o200)
            file.write(b"%0*d" % (bundle.DIGITS, len(head)) + head + b"".join(data))
        os.rename(fresh, bundle.path(verb))
    except OSError:
        os.unlink(fresh)
        raise


if __name__ == "__main__":
    for word in bundle.VERBS:
        write(word)
