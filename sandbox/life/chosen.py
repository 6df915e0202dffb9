"""The containers there are, and the one that is named.  (cold)"""

from sandbox import paths, state


def parent() -> str:
    """The folder of all containers."""
    return f"{paths.store()}/containers"


def all_known() -> list[state.Known]:
    """All containers, oldest first."""
    return state.containers(parent())


def find(word: str) -> state.Known:
    """The container that is named; SandboxError "find container"."""
    return state.find(parent(), word)
