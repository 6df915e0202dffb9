"""The containers there are, the one that is named, and what is said of one that is in the wrong state.  (cold)"""

from sandbox import paths, state
from sandbox.errors import EXIT_FAILED, SandboxError


def parent() -> str:
    """The folder of all containers."""
    return f"{paths.store()}/containers"


def all_known() -> list[state.Known]:
    """All containers, oldest first."""
    return state.containers(parent())


def find(word: str) -> state.Known:
    """The container that is named; SandboxError "find container"."""
    return state.find(parent(), word)


def improper(step: str, known: state.Known, words: str, hint: str = "", code: int = EXIT_FAILED) -> SandboxError:
    """An error about a container whose state does not allow `step`; `words` and the last ones are podman's, for scripts."""
    return SandboxError(
        step, known.name, detail=f"it is {known.status}; {words}: container state improper", hint=hint, code=code
    )
