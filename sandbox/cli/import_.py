"""`sbx import`: one tar of a root file system becomes an image of one layer.  (cold)"""

import datetime
import json
import os
import shlex
from collections.abc import Callable, Iterator
from typing import Any

from sandbox import events, idmap, values
from sandbox.errors import SandboxError
from sandbox.image import manifest, reference
from sandbox.image.archive import Image, Layer
from sandbox.image.compression import decompressed, kind
from sandbox.image.files import stream_pieces
from sandbox.image.jsonstrict import dumps
from sandbox.image.layers import announce
from sandbox.image.store import Store

_INSTRUCTIONS = (
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "LABEL",
    "EXPOSE",
    "VOLUME",
    "USER",
    "WORKDIR",
    "STOPSIGNAL",
    "HEALTHCHECK",
)

_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}


def _wrong(text: str, why: str) -> SandboxError:
    return SandboxError("read --change", text, detail=why, hint="instructions: " + ", ".join(_INSTRUCTIONS))


def _command(text: str, whole: str) -> list[str]:
    """JSON form, or a shell's line."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
            raise _wrong(whole, "not a JSON array of strings")
        return found
    return ["/bin/sh", "-c", text]


def _pairs(text: str, whole: str) -> list[tuple[str, str]]:
    """`A=1 B="2 3"`, or the old form `A 1`."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _wrong(whole, str(error).lower()) from None
    if words and "=" not in words[0]:
        if len(words) < 2:
            raise _wrong(whole, "no value")
        return [(words[0], text.split(None, 1)[1])]
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise _wrong(whole, f"`{word}` is not KEY=VALUE")
        pairs.append((key, value))
    return pairs


def _health(text: str, whole: str) -> dict[str, Any]:
    """`[--interval=30s ...] CMD COMMAND`, or NONE, as image configs have it: times in nanoseconds."""
    found: dict[str, Any] = {}
    while text.startswith("--"):
        option, _, text = text.partition(" ")
        name, _, value = option[2:].partition("=")
        if name == "retries" and value.isascii() and value.isdecimal() and len(value) < 10:
            found["Retries"] = int(value)
        elif name in _TIMES:
            try:
                found[_TIMES[name]] = int(values.seconds(value, option) * 1e9)
            except SandboxError as error:
                raise _wrong(whole, f"`{option}`: {error.hint}") from None
        else:
            raise _wrong(whole, f"no option {option}")
        text = text.lstrip()
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    if word.upper() == "NONE" and not rest and not found:
        return {"Test": ["NONE"]}
    if word.upper() != "CMD" or not rest:
        raise _wrong(whole, "neither CMD COMMAND nor NONE")
    return {"Test": ["CMD", *_command(rest, whole)] if rest.startswith("[") else ["CMD-SHELL", rest], **found}


def _map(config: dict[str, Any], key: str) -> dict[str, Any]:
    """A map of the config to be changed, which may be null there."""
    config[key] = config.get(key) or {}
    found: dict[str, Any] = config[key]
    return found


def apply(config: dict[str, Any], change: str) -> None:
    """One Dockerfile-like instruction onto an image config's inner part; SandboxError "read --change"."""
    word, separator, rest = change.strip().partition(" ")
    if "=" in word:  # podman takes CMD=... too
        word, separator, rest = change.strip().partition("=")
    rest = rest.strip()
    word = word.upper()
    if word not in _INSTRUCTIONS:
        raise _wrong(change, f"no instruction {word}")
    if not separator or not rest:
        raise _wrong(change, "no value")
    if word in ("CMD", "ENTRYPOINT"):
        config[word.capitalize()] = _command(rest, change)
    elif word == "ENV":
        for key, value in _pairs(rest, change):
            kept = [entry for entry in config.get("Env") or [] if entry.partition("=")[0] != key]
            config["Env"] = [*kept, f"{key}={value}"]
    elif word == "LABEL":
        _map(config, "Labels").update(_pairs(rest, change))
    elif word == "EXPOSE":
        for port in rest.split():
            number, _, protocol = port.partition("/")
            if (
                not (number.isascii() and number.isdecimal())
                or not 0 < int(number) < 65536
                or protocol not in ("", "tcp", "udp", "sctp")
            ):
                raise _wrong(change, f"`{port}` is not PORT[/tcp|udp|sctp]")
            _map(config, "ExposedPorts")[f"{number}/{protocol or 'tcp'}"] = {}
    elif word == "VOLUME":
        for path in _command(rest, change) if rest.startswith("[") else rest.split():
            _map(config, "Volumes")[path] = {}
    elif word == "HEALTHCHECK":
        config["Healthcheck"] = _health(rest, change)
    else:
        if word == "STOPSIGNAL":
            from sandbox.life.ending import signal_number

            try:
                signal_number(rest)
            except SandboxError as error:
                raise _wrong(change, error.detail or "no such signal") from None
        key = {"USER": "User", "WORKDIR": "WorkingDir", "STOPSIGNAL": "StopSignal"}[word]
        config[key] = rest


def _open(path: str) -> Callable[[], Iterator[bytes]]:
    """Pieces of the tar as they shall be stored: gzip and zstd stay as they are, others are decompressed first."""
    what = "stdin" if path == "-" else path
    if path == "-" and os.isatty(0):
        raise SandboxError("import image", "stdin", detail="stdin is a terminal", hint="tar -c . | sbx import - NAME")
    try:
        fd = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError.of("open", what, error) from None
    pieces = stream_pieces(fd, what)
    first = b""
    for piece in pieces:
        first += piece
        if len(first) >= 6:
            break
    if not first:
        raise SandboxError("import image", what, detail="it is empty")

    def whole() -> Iterator[bytes]:
        yield first
        yield from pieces

    if kind(first) in ("", "gzip", "zstd"):
        return whole
    return lambda: decompressed(whole(), what)


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Make an image of tar FILE ("-" is stdin), named NAME when given; prints its id."""
    names = [str(reference.normal(operands[1]))] if len(operands) > 1 else []
    inner: dict[str, Any] = {}
    for change in opts["change"]:
        apply(inner, change)
    pieces = _open(operands[0])
    store = Store()
    maps = idmap.resolve()
    announce([maps["note"]] if maps["note"] else [], quiet=opts["quiet"])
    with store.taking():
        source = Layer("", -1, "", "", pieces)
        layer, _ = store.keep_layer(source, "" if opts["quiet"] else "read archive", must_end=True)
        now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        ours = manifest.machine()
        system, architecture, variant = (opts[key] or ours[at] for at, key in enumerate(("os", "arch", "variant")))
        comment = opts["message"] or f"imported from {'stdin' if operands[0] == '-' else os.path.basename(operands[0])}"
        config_raw = dumps(
            {
                "created": now,
                "architecture": architecture,
                "os": system,
                **({"variant": variant} if variant else {}),
                "config": inner,
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
                "history": [{"created": now, "created_by": "sbx import", "comment": comment}],
            }
        )
        config = manifest.parse_config(config_raw, "import", 1)
        image = Image(names, "", b"", manifest.MANIFEST, config_raw, config, [layer])
        image_id, warnings = store.take(image, maps, quiet=True)
        announce(warnings, quiet=opts["quiet"])
    print(f"sha256:{image_id}")
    events.remember_other("image", "import", image_id, names[0] if names else "")
    return 0
