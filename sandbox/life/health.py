"""Health checks: what is asked of a container and how often, one check, and what is known of the last ones.  (cold)

    containers/<id>/health    {"started", "status", "streak", "log": [(began, ended, exit status, output), ...]}

Written by the checker (see checker.py) and by `healthcheck run`; who changes it holds a lock on `checking`.
"""

import contextlib
import fcntl
import json
import os
import select
import time
from collections.abc import Iterator
from typing import Any

from sandbox import channel, events, state, values
from sandbox.errors import EINVAL, SandboxError
from sandbox.life import ending
from sandbox.life.chosen import write

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
TOO_LATE = -1  # exit status of a check that was ended for its time, as podman has it
_RECORD, _LOCK = "health", "checking"
_MOST, _LONGEST = 5, 500  # entries of the log, characters of each: podman's
_LEAST = 1.0  # seconds
_NANO = 1e9  # images count in nanoseconds
_TIMES = {"interval": "Interval", "timeout": "Timeout", "start_period": "StartPeriod"}
_DEFAULTS: dict[str, float] = {"interval": 30.0, "timeout": 30.0, "start_period": 0.0, "retries": 3}


def defined(given: dict[str, Any], image: str) -> dict[str, Any]:
    """{"test", "interval", "timeout", "start_period" (seconds; interval 0: never by itself), "retries", "action"}; {} for none.

    `given`: the --health options, which win over the HEALTHCHECK of the image whose id is `image`.
    """
    of_image = _of_image(image) if image else {}
    if given["no_healthcheck"]:
        if given["health_cmd"]:
            raise SandboxError("read --health-cmd", given["health_cmd"], EINVAL, detail="not with --no-healthcheck")
        return {}
    test = _command(given["health_cmd"]) if given["health_cmd"] else [str(word) for word in of_image.get("Test") or ()]
    if test[:1] == ["NONE"]:
        return {}
    if not test:
        first = next((name for name, text in given.items() if text), "")
        if not first:
            return {}
        raise SandboxError(f"read --{first.replace('_', '-')}", str(given[first]), EINVAL, detail="there is no health check",
                           hint="--health-cmd COMMAND; the image has no HEALTHCHECK")  # fmt: skip
    found: dict[str, Any] = {"test": test, "action": given["health_on_failure"] or "none"}
    for name, key in _TIMES.items():
        found[name] = _number(of_image.get(key)) / _NANO or _DEFAULTS[name]
        if name != "start_period":
            found[name] = max(found[name], _LEAST)  # an image is not to keep this machine busy
        if text := given[f"health_{name}"]:
            found[name] = 0.0 if name == "interval" and text == "disable" else _seconds(name, text)
    found["retries"] = int(_number(of_image.get("Retries")) or _DEFAULTS["retries"])
    if text := given["health_retries"]:
        if not text.isdecimal() or len(text) > 9 or not int(text):
            raise SandboxError("read --health-retries", text, EINVAL, hint="a number from 1 on")
        found["retries"] = int(text)
    return found


def _seconds(name: str, text: str) -> float:
    option = f"--health-{name.replace('_', '-')}"
    seconds = values.seconds(text, option)
    if seconds < (1.0 if name == "timeout" else 0.0):
        raise SandboxError(
            f"read {option}", text, EINVAL, "at least 1 second" if name == "timeout" else "it is negative"
        )
    return seconds


def _number(found: Any) -> float:
    return float(min(found, 1 << 62)) if isinstance(found, int) and found > 0 else 0.0


def _of_image(image: str) -> dict[str, Any]:
    """What the config of a stored image says; {} for one that is not in the store any more."""
    from sandbox.image.store import Store

    store = Store()
    try:
        found = store.image(store.find(image)[0]).config.document
    except SandboxError:
        return {}
    health = (found.get("config") or {}).get("Healthcheck")
    return health if isinstance(health, dict) else {}


def _command(text: str) -> list[str]:
    """--health-cmd as podman reads it: a JSON list of words, `none`, CMD or CMD-SHELL with words, or a line for a shell."""
    words = None
    if text.startswith("["):
        with contextlib.suppress(ValueError):
            words = json.loads(text)
    if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
        if words[0] in ("CMD", "CMD-SHELL", "NONE"):
            return words
        return ["CMD-SHELL", *words] if len(words) == 1 else ["CMD", *words]
    if text in ("none", "NONE"):
        return ["NONE"]
    first, _, rest = text.partition(" ")
    if first == "CMD" and rest.split():
        return ["CMD", *rest.split()]
    return ["CMD-SHELL", rest if first == "CMD-SHELL" and rest else text]


def known_of(known: state.Known) -> dict[str, Any]:
    """The record; one of an earlier start says nothing about a container that runs."""
    found = state.read(known.directory, _RECORD)
    fresh = {"started": known.state.get("started", 0.0), "status": STARTING, "streak": 0, "log": []}
    if not isinstance(found, dict) or (known.lives and found.get("started") != fresh["started"]):
        return fresh
    return found


def word(known: state.Known) -> str:
    """starting, healthy, unhealthy; "" for a container that has no health check, or was never started."""
    if not known.about.get("healthcheck") or known.status in ("created", "initialized"):
        return ""
    return str(known_of(known)["status"])


def check(known: state.Known) -> tuple[str, dict[str, Any]]:
    """Run the check once, note it: (whether this one said HEALTHY or UNHEALTHY, the record).

    SandboxError when it could not be asked: the container has ended, or is paused.
    """
    plan = known.about["healthcheck"]
    began = time.time()
    code, output = _asked(known, _words(plan["test"]), plan["timeout"])
    with _changing(known) as record:
        record["log"] = [*record["log"], (began, time.time(), code, output)][-_MOST:]
        if code == 0:
            record.update(status=HEALTHY, streak=0)
        elif began - record["started"] >= plan["start_period"]:
            record["streak"] += 1
            if record["streak"] >= plan["retries"]:
                record["status"] = UNHEALTHY
    events.remember(known.parent, "health_status", known.about, {"health_status": record["status"]})
    return UNHEALTHY if code else HEALTHY, record


def _words(test: list[str]) -> list[str]:
    if test[0] == "CMD-SHELL":
        return ["/bin/sh", "-c", *test[1:]]
    return test[1:] if test[0] == "CMD" else test


@contextlib.contextmanager
def _changing(known: state.Known) -> Iterator[dict[str, Any]]:
    lock = os.open(f"{known.directory}/{_LOCK}", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = known_of(known)
        yield record
        write(known, _RECORD, record)
    finally:
        os.close(lock)


def _asked(known: state.Known, words: list[str], seconds: float) -> tuple[int, str]:
    """(exit status, the beginning of what it printed) of a command in the container; it is ended after `seconds`."""
    wanted = {"args": words, "env": [], "user": "", "tty": False, "cwd": "", "stdin": False, "quiet": True}
    sock = channel.connect(known.directory)
    read, write = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        channel.ask(sock, "exec", wanted, [null, write, write])
        os.close(write)
        write = -1
        return _followed(known, sock, read, time.monotonic() + seconds)
    finally:
        sock.close()  # with which the process ends
        for fd in (read, write, null):
            if fd >= 0:
                os.close(fd)


def _followed(known: state.Known, sock: Any, read: int, deadline: float) -> tuple[int, str]:
    output = b""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    poll.register(read, select.POLLIN)
    code: int | None = None
    while True:
        # Once it has ended: what is in the pipe by then, and nobody waits for what it left behind.
        ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000 if code is None else 0)
        if not ready:
            return (TOO_LATE, _text(output) or "it took too long") if code is None else (code, _text(output))
        for fd, _ in ready:
            if fd == read:
                chunk = os.read(read, 1 << 16)
                output = (output + chunk)[: 4 * _LONGEST]
                if not chunk:
                    poll.unregister(read)
                continue
            kind, value, _ = channel.receive(sock)
            if kind == "running":
                continue
            if kind == "exit":
                code = int(value)
            elif kind == "error":
                failed = SandboxError.from_tuple(value)
                if failed.code not in (126, 127):
                    raise failed
                code, output = failed.code, str(failed).encode()
            else:
                raise SandboxError("check health of", known.name, detail="the container has ended")
            poll.unregister(sock.fileno())


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")[:_LONGEST]


def act(known: state.Known) -> None:
    """What --health-on-failure wants of a container that is unhealthy."""
    from sandbox.life import starting

    action = known.about["healthcheck"]["action"]
    try:
        if action == "kill":
            ending.send(known, ending.SIGKILL)
        elif action == "stop":
            ending.stop(known, None)
        elif action == "restart":
            starting.restart(known, None)
    except SandboxError:
        pass  # it has ended by itself
