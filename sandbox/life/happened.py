"""What has happened to containers, images and volumes, read: from when on, which, and on as it happens; see events.py.  (cold)"""

import datetime
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sandbox import events
from sandbox.errors import SandboxError
from sandbox.image import keyed

_PAUSE = 0.1  # seconds between two looks
FILTERS = ("container", "event", "image", "label", "type", "volume")
TYPES = ("container", "image", "volume")


class Event(NamedTuple):
    """One line of the file: nanoseconds since 1970, what happened to which container, and what else is known."""

    when: int
    what: str
    id: str
    name: str
    image: str
    more: dict[str, str]
    labels: dict[str, str]
    type: str = "container"


def parsed(line: bytes) -> Event | None:
    """What a line says; None for an empty one, and for one that was cut off by a full disk."""
    fields = [_whole(field) for field in line.decode("utf-8", "replace").split("\t")]
    if len(fields) < 5 or not fields[0].isdecimal():
        return None
    when, what, id_, name, image = fields[:5]
    kind, _, what = what.rpartition(":")
    if kind not in ("", *TYPES) or (kind != "volume" and len(id_) != 64):
        return None
    pairs = [field.partition("=") for field in fields[5:]]
    more = {key: value for key, _, value in pairs if key[:1] != "@"}
    labels = {key[1:]: value for key, _, value in pairs if key[:1] == "@"}
    return Event(int(when), what, id_, name, image, more, labels, kind or "container")


def _whole(text: str) -> str:
    if "\\" not in text:
        return text
    return "\\".join(part.replace("\\t", "\t").replace("\\n", "\n") for part in text.split("\\\\"))


def every(parent: str, *, follow: Callable[[], bool]) -> Iterator[Event]:
    """All there are, oldest first, then those to come for as long as `follow` says."""
    older = f"{parent}/{events.OLDER}"
    yield from _read(older, 0)[0]
    path, position = f"{parent}/{events.PATH}", 0
    while True:
        if position and _size(path) < position:  # room was made: what we have not seen of it is in the other
            yield from _read(older, position)[0]
            position = 0
        found, position = _read(path, position)
        yield from found
        if not found:
            if not follow():
                return
            time.sleep(_PAUSE)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _read(path: str, position: int) -> tuple[list[Event], int]:
    """(the events behind `position` in whole lines, where the next begins)."""
    try:
        with open(path, "rb") as file:
            file.seek(position)
            data = file.read()
    except FileNotFoundError:
        return [], 0
    end = data.rfind(b"\n") + 1
    return [event for event in map(parsed, data[:end].split(b"\n")) if event], position + end


def test(texts: list[str]) -> Callable[[Event], bool]:
    """One test for all filters: different keys must all hold, of the values of one key any (labels: all)."""
    return keyed.parse(texts, FILTERS, _test)


def _test(key: str, value: str) -> Callable[[Event], bool]:
    if key in ("container", "volume"):
        return lambda event: event.type == key and _is_named(event, value)
    if key == "event":
        return lambda event: event.what == value
    if key == "image":
        return lambda event: _is_of(event, value)
    if key == "type":
        if value not in TYPES:
            raise SandboxError("read filter", f"type={value}", detail="no such type", hint=", ".join(TYPES))
        return lambda event: event.type == value
    return lambda event: keyed.has_label(event.labels, value)


def _is_named(event: Event, value: str) -> bool:
    return event.name == value or (bool(value) and event.id.startswith(value))


def _is_of(event: Event, value: str) -> bool:
    """Whether it is about this image, or about a container that was made from it."""
    if event.type == "volume" or (event.type == "image" and _is_named(event, value)):
        return event.type == "image"
    name = event.image if event.type == "container" else event.name
    short = name.rpartition("/")[2]
    return value in (name, short, short.partition(":")[0], name.removesuffix(":latest"))


def cell(event: Event) -> dict[str, Any]:
    """The fields that templates may use, podman's names."""
    row: dict[str, Any] = {
        "ID": event.id, "Name": event.name, "Image": event.image, "Status": event.what, "Type": event.type,
        "Time": _time(event.when), "TimeNano": event.when, "Attributes": event.labels,
    }  # fmt: skip
    if "exitCode" in event.more:
        row["ContainerExitCode"] = int(event.more["exitCode"])
    return row


def _time(nanoseconds: int) -> str:
    second, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.datetime.fromtimestamp(second, datetime.UTC):%Y-%m-%d %H:%M:%S}.{rest:09} +0000 UTC"


def line(event: Event, *, full: bool) -> str:
    """One event as podman prints it."""
    if event.type != "container":
        words = [event.id if full else event.id[:12], event.name]
        return " ".join(word for word in (_time(event.when), event.type, event.what, *words) if word)
    pairs = {"image": event.image, "name": event.name, **event.more, **event.labels}
    inner = ", ".join(f"{key}={value}" for key, value in pairs.items())
    return f"{_time(event.when)} container {event.what} {event.id if full else event.id[:12]} ({inner})"


def json_line(event: Event) -> str:
    """One event as a JSON document on one line, in ASCII: no terminal is harmed by it."""
    second, rest = divmod(event.when, 1_000_000_000)
    when = f"{datetime.datetime.fromtimestamp(second, datetime.UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
    return json.dumps({**cell(event), "Time": when})
