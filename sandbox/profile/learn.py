"""`sbx profile learn`: observe a command, write the profile that it needs, and prove that it passes with it.  (cold)"""

import errno
import os
import re
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from typing import Any

from sandbox import cache, cold, paths
from sandbox.errors import EXIT_FAILED, EXIT_NOT_FOUND, EXIT_SIGNAL, SandboxError, printable, tell
from sandbox.options_run import RUN
from sandbox.profile import calls, learn_record, learn_write, load
from sandbox.profile.kept import Profile
from sandbox.profile.learn_record import Record
from sandbox.profile.learn_write import PARTS, Source
from sandbox.profile.policy import PERMISSIVE

_TRIES = 3  # more than the first replay
_PATIENCE, _LEAST_PATIENCE = 5, 60.0  # times what it took when observed, and seconds, until a replay hangs
MOST_RUNS = 100


@dataclass(frozen=True)
class Wish:
    """What is to be learned, and where it goes."""

    opts: dict[str, Any]  # of `run`
    operands: list[str]
    base: str  # name or path of a profile; "" is that of the file that is added to, or `default`
    output: str  # "" is standard output
    runs: int
    status: int  # that the command is to end with
    merge: bool
    force: bool

    @property
    def command(self) -> str:
        return shlex.join(self.operands)


def learn(wish: Wish) -> None:
    """Observe, write, replay; SandboxError when the command, or the replay, does not end as it should.

    The profile is in its place only when it has passed.
    """
    seen, before = _known(wish)
    wish = replace(wish, base=wish.base or _path_of(before, wish.output) or "default")
    base, extends = _base(wish)
    if before not in ("", extends) and not wish.force:
        raise SandboxError(
            "merge profile", wish.output, errno.EEXIST, f"it extends `{before}`, and --from says `{extends}`", "--force replaces that",
        )  # fmt: skip
    seen = replace(seen, commands=sorted({*seen.commands, wish.command}))
    opts = {**{option.dest: option.blank() for option in RUN}, **wish.opts}
    longest = 0.0
    for number in range(wish.runs):
        tell(f"observe run {number + 1} of {wish.runs}" if wish.runs > 1 else "observe the command")
        began = time.monotonic()
        status, record = _observed(wish, opts)
        if status != wish.status:
            raise _failed(wish, status)
        seen = learn_record.merge(seen, record)
        longest = max(longest, time.monotonic() - began)
    if not opts["timeout"] and "process.timeout" not in base.settings:
        opts["timeout"] = f"{max(_LEAST_PATIENCE, _PATIENCE * longest):.0f}"
    source = _proven(wish, opts, Source(base, extends, seen))
    content = learn_write.whole(source)
    if wish.output:
        _put(wish.output, content)
    else:
        sys.stdout.write(content)


def _base(wish: Wish) -> tuple[Profile, str]:
    """The profile that is made stricter, and the word for `extends`."""
    base = load.effective(wish.base)[0]
    extends = learn_write.extends_word(wish.base, wish.output)
    if not extends:
        raise SandboxError(
            "extend profile", wish.base, errno.EINVAL, "a profile extends files of its own folder only",
            "give a name to --from, or write the new profile (-o) into the same folder",
        )  # fmt: skip
    for word in wish.opts.get("security_opt", ()):
        if word.replace(":", "=", 1).startswith("seccomp="):
            raise SandboxError("learn profile", word, errno.EINVAL, "the filter comes from the profile", "use --from")
    return base, extends


def _known(wish: Wish) -> tuple[Record, str]:
    """What the file that is written has from earlier runs, and what it extends; SandboxError when it is there and nobody
    said what to do."""
    if not wish.output or not os.path.lexists(wish.output):
        folder = os.path.dirname(os.path.abspath(wish.output))
        if wish.output and not os.access(folder, os.W_OK):
            code = errno.EACCES if os.path.isdir(folder) else errno.ENOENT
            raise SandboxError("write profile", wish.output, code)
        return Record(), ""
    if wish.merge:
        text = load.read(wish.output)
        record = learn_record.read(wish.output, text, force=wish.force)
        before = re.search(r'^extends = "([^"\\]+)"$', text, re.MULTILINE)
        return record, before[1] if before else ""
    if not wish.force:
        hint = "--merge adds to it, --force replaces it"
        raise SandboxError("write profile", wish.output, errno.EEXIST, hint=hint)
    return Record(), ""


def _path_of(word: str, output: str) -> str:
    """The profile that the word of `extends` in the file `output` means, for --from."""
    return os.path.join(os.path.dirname(os.path.abspath(output)), word[2:]) if word.startswith("./") else word


def _failed(wish: Wish, status: int) -> SandboxError:
    words = f"it ended with {status}" if wish.status else f"it failed with {status}"
    hint = "a profile is learned from a command that works"
    if status < EXIT_FAILED:
        hint += f"; --status {status} says that it is to end so"
    elif status <= EXIT_NOT_FOUND:
        words = f"it could not be run ({status})"
    elif status > EXIT_SIGNAL:
        words = f"it was ended by signal {status - EXIT_SIGNAL}"
    return SandboxError("learn profile", wish.command, detail=words, hint=hint)


def _observed(wish: Wish, opts: dict[str, Any]) -> tuple[int, Record]:
    """(exit status, what was seen) of a run under the base."""
    names = {number: name for name, number in calls.table(calls.machine()).items()}
    status, record = cold.call("sandbox.profile.learn_watch:watch", {**opts, "profile": wish.base}, wish.operands)
    return status, learn_record.of_run(record, names)


def _proven(wish: Wish, opts: dict[str, Any], source: Source) -> Source:
    """`source`, with what a replay was missing; SandboxError when the command does not pass after all tries."""
    parts = iter(PARTS)
    words = said = ""
    for attempt in range(1 + _TRIES):
        tell("replay under the learned profile" if not attempt else f"replay again: {words}")
        status, refused, said = _replay(wish, opts, source)
        if status == wish.status and not refused:
            return _tightened(wish, opts, source)
        words = f"it was refused {', '.join(refused)}" if refused else f"it ended with {status}"
        if attempt == _TRIES:
            break
        # It did something else than before, or failed for want of something that nobody is asked about: look again.
        again, record = _observed(wish, opts)
        if again != wish.status:
            raise SandboxError(
                "prove profile", wish.command, detail=f"it ended with {again} when it was observed once more, not with {wish.status}",
                hint="what is it that it does not find again as it was? volumes stay as it has left them",
            )  # fmt: skip
        record.calls.update({name: record.calls.get(name, 1) for name in refused})
        seen = learn_record.merge(source.seen, record)
        more = learn_record.kinds(seen) != learn_record.kinds(source.seen)
        if not refused and (attempt or not more):
            part = next(parts)
            words += f"; without the rules about {part}"
            source = replace(source, given_up=(*source.given_up, part))
        source = replace(source, seen=seen)
    last = printable(said.strip().rpartition("\n")[2])
    raise SandboxError(
        "prove profile", wish.command, detail=f"it does not pass under what was learned, after {_TRIES} corrections: {words}",
        hint=f"it said: {last}" if last else "--runs observes it more often",
    )  # fmt: skip


def _tightened(wish: Wish, opts: dict[str, Any], source: Source) -> Source:
    """`source`, with those of the parts that were given up without need: all but the last one may be."""
    for part in source.given_up[:-1]:
        tell(f"replay with the rules about {part}")
        tighter = replace(source, given_up=tuple(one for one in source.given_up if one != part))
        status, refused, _ = _replay(wish, opts, tighter)
        if status == wish.status and not refused:
            source = tighter
    return source


def _replay(wish: Wish, opts: dict[str, Any], source: Source) -> tuple[int, list[str], str]:
    """(exit status, calls that the new profile refuses and its base does not, last words) of a run under it."""
    if "/" in source.extends:
        folder = os.path.dirname(os.path.abspath(wish.output))
    else:
        folder = paths.cache()
        paths.private_directory(folder)
    try:
        fd, path = tempfile.mkstemp(".toml", ".learning-", folder)
    except OSError as error:
        raise SandboxError.of("write profile", folder, error) from None
    try:
        with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(learn_write.text(source))
        load.effective(path)
        status, refused, said = cold.call(
            "sandbox.profile.learn_watch:replay",
            {**opts, "profile": path, "network": _network(opts, source)},
            wish.operands,
        )
    finally:
        os.unlink(path)
        _forget(path)
    policy = source.base.policy
    # Of the filter: what the id map or a read-only file system refuses has ids or a path in place of the arguments.
    answered = [(row["call"], tuple(row["args"])) for row in refused if len(row["args"]) == 6]
    ours = {name for name, args in answered if policy.answer(name, args).action in PERMISSIVE}
    return status, sorted(ours), said


def _forget(path: str) -> None:
    """What was compiled of a profile that nobody will use again."""
    try:
        os.unlink(f"{paths.cache()}/profiles/{cache.file_name(f'{path}|')}.{cache._FORMAT}")
    except OSError:
        pass


def _network(opts: dict[str, Any], source: Source) -> str:
    """The option that goes with the profile: its own mode is what is to be proven, where it has one."""
    return "" if not source.seen.outside and source.has(PARTS[2]) else opts["network"]


def _put(path: str, content: str) -> None:
    """The file as a whole or not at all; nobody else may write to it."""
    temporary = f"{path}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(content)
        os.rename(temporary, path)
    except OSError as error:
        raise SandboxError.of("write profile", path, error) from None
