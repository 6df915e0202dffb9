"""The containers there are, the one that is named, and what is said of one that is in the wrong state.  (cold)"""

import os

from sandbox import paths, state
from sandbox.errors import EXIT_FAILED, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parent() -> str:
    """The folder of all containers."""
    return f"{paths.store()}/containers"


def all_known() -> list[state.Known]:
    """All containers, oldest first."""
    return state.containers(parent())


def find(word: str) -> state.Known:
    """The container that is named; SandboxError "find container"."""
    return state.find(parent(), word)


def write(known: state.Known, name: str, value: "Any") -> None:
    """Put a record into a container's folder; SandboxError "write": the disk is full, or it has been removed meanwhile."""
    try:
        folder = os.open(known.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            state.write(name, value, folder)
        finally:
            os.close(folder)
    except FileNotFoundError:
        raise SandboxError("write", f"{known.name}/{name}", detail="the container has been removed meanwhile") from None
    except OSError as error:
        raise SandboxError.of("write", f"{known.directory}/{name}", error) from None


def improper(step: str, known: state.Known, words: str, hint: str = "", code: int = EXIT_FAILED) -> SandboxError:
    """An error about a container whose state does not allow `step`; `words` and the last ones are podman's, for scripts."""
    return SandboxError(
        step, known.name, detail=f"it is {known.status}; {words}: container state improper", hint=hint, code=code
    )
