"""The same done to each of several containers.  (cold)"""

from sandbox import state
from sandbox.errors import ENOENT, EXIT_FAILED, SandboxError, UsageError, report
from sandbox.life.chosen import all_known, find

TYPE_CHECKING = False  # typing and what it imports take a third of the time of `stop`
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def for_each(
    operands: list[str],
    action: "Callable[[state.Known], Any]",
    *,
    everything: bool,
    latest: bool,
    among: "Callable[[state.Known], bool]" = lambda _: True,
    ignore: bool = False,
    cidfiles: "Sequence[str]" = (),
    filters: "Sequence[str]" = (),
    absent: int = EXIT_FAILED,
    at_once: bool = False,
) -> int:
    """`action` on each operand, with --all (`everything`) on those of `among`, or on the `latest`; prints what was typed.

    With `filters` on those of `among` that they hold for, as `ps` has them; `cidfiles` have ids in them.

    Goes on after an error and returns the last one's exit status.  `ignore`: one that is not there is none; `absent` is the
    status when that is all that is wrong.  `at_once`: on all at the same time, an action that starts no process.
    """
    operands = [*operands, *map(_id_in, cidfiles)]
    wanted: list[tuple[str, state.Known | None]] = [(word, None) for word in operands]
    if bool(operands) + (everything or bool(filters)) + latest != 1:
        raise UsageError(
            "read command line", "CONTAINER", detail="containers, --all and --latest exclude each other" if operands
            else "no container given", hint="`sbx ps -a` lists all containers",
        )  # fmt: skip
    if everything or filters:
        everyone = [known for known in reversed(all_known()) if among(known)]  # who shares what another has goes first
        if filters:
            from sandbox.life.rows import parse  # which imports much

            everyone = list(filter(parse(list(filters), all_known()), everyone))
        wanted = [(known.id, known) for known in everyone]
    elif latest:
        wanted = [(known.id, known) for known in all_known()[-1:]]
    if at_once and len(wanted) > 1:
        wanted, action = _at_once(wanted, action)
    code = 0
    for word, known in wanted:
        try:
            action(known or find(word))
            print(word)
        except SandboxError as error:
            missing = error.step == "find container" and error.errno == ENOENT
            if ignore and missing:
                continue
            status = report(error)
            code = code or absent if missing else status
    return code


def _at_once(
    wanted: "list[tuple[str, state.Known | None]]", action: "Callable[[state.Known], Any]"
) -> "tuple[list[tuple[str, state.Known | None]], Callable[[state.Known], Any]]":
    """`wanted` with those that are there, and a function that tells how `action` on one of them, which is over, has gone.

    Who shares what another has goes first: its processes may end with the other's.
    """
    import threading

    there: dict[str, state.Known] = {}
    for word, known in wanted:
        try:
            there[word] = known or find(word)
        except SandboxError:
            pass  # told in its turn
    failed: dict[str, BaseException] = {}

    def one(known: state.Known) -> None:
        try:
            action(known)
        except BaseException as error:  # for who started us
            failed[known.id] = error

    for needs in (True, False):
        few = {known.id: known for known in there.values() if bool(known.about.get("needs")) == needs}
        threads = [threading.Thread(target=one, args=(known,), daemon=True) for known in few.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def tell(known: state.Known) -> None:
        if known.id in failed:
            raise failed[known.id]

    return [(word, there.get(word, known)) for word, known in wanted], tell


def _id_in(path: str) -> str:
    """The id that `run --cidfile` has written."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline(4096).strip()
    except OSError as error:
        raise SandboxError.of("read container id from", path, error) from None


def the_one(operands: list[str], *, latest: bool) -> state.Known:
    """The container that is named, or with --latest the last that was made."""
    if bool(operands) == latest:
        raise UsageError("read command line", "CONTAINER", detail="name a container, or give --latest")
    if operands:
        return find(operands[0])
    known = all_known()
    if not known:
        raise SandboxError(
            "find container", "--latest", detail="there is none", hint="`sbx ps -a` lists all containers"
        )
    return known[-1]
