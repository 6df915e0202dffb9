"""Layers of one image on their way into the store: several at a time, one pass, all or nothing."""

import gzip
import json
import subprocess
import sys
from typing import Any

import pytest
from test_image_workshop import Layout, Room, image_of, info, room, sha256, tar  # noqa: F401


def _loading(room: Room, name: str, *before: str) -> "subprocess.Popen[str]":  # noqa: F811
    words = room.command([*before, sys.executable, "-m", "sandbox", "load", "-q", "-i", str(room.path / name)])
    return subprocess.Popen(words, env=room.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _load(room: Room, name: str, *before: str) -> tuple[int, str]:  # noqa: F811
    process = _loading(room, name, *before)
    _, said = process.communicate(timeout=100)
    return process.returncode, said


def _unpacked(room: Room) -> list[str]:  # noqa: F811
    return sorted(name.partition(".")[0] for name in room.content()["layers"])


def _many(count: int, first: str = "") -> list[bytes]:
    return [tar((info(f"{first}{number}", uid=number % 50), b"x" * number)) for number in range(count)]


def _empty(room: Room) -> None:  # noqa: F811
    assert room.content() == {"blobs/sha256": [], "layers": []}
    assert room.temporaries() == []


def test_a_layer_that_comes_twice(room: Room) -> None:  # noqa: F811
    """Once as the same blob, once packed in another way; each blob is kept, the layer is unpacked once."""
    one, two = tar((info("a"), b"1")), tar((info("b"), b"2"))
    layout = Layout(room.path / "img")

    def again(manifest: dict[str, Any]) -> None:
        kind = "application/vnd.oci.image.layer.v1.tar"
        packed = layout.blob(gzip.compress(one, 9, mtime=5))
        manifest["layers"][3] = {"mediaType": f"{kind}+gzip", **packed}
        manifest["layers"][4] = {"mediaType": kind, **layout.blob(one)}

    layout.image([one, two, one, one, one], change=again, tag="twice")
    room.own(room.path / "img")
    assert _load(room, "img") == (0, "")
    assert _unpacked(room) == sorted(sha256(raw)[7:] for raw in (one, two))
    # Four ways to the layers, a config, a manifest.
    assert len(room.content()["blobs/sha256"]) == 6
    assert [sorted(found) for found in room.layers("twice")] == [[".", name] for name in "abaaa"]
    assert room.temporaries() == []


def test_more_layers_than_descriptors(room: Room) -> None:  # noqa: F811
    image_of(room, *_many(120), tag="many")
    status, said = _load(room, "img", "prlimit", "--nofile=64:4096")
    assert (status, said) == (0, "")
    assert len(room.content()["layers"]) == 120


@pytest.mark.parametrize("broken", [0, 7, 11])
def test_one_broken_layer_leaves_nothing_of_the_others(room: Room, broken: int) -> None:  # noqa: F811
    layers = _many(12)
    image_of(room, *layers, packed=False)
    path = room.path / "img/blobs/sha256" / sha256(layers[broken])[7:]
    raw = bytearray(path.read_bytes())
    raw[700] ^= 1  # in the padding of the data: only the digest tells
    path.write_bytes(raw)
    status, said = _load(room, "img")
    assert status == 125
    assert f"sbx: verify blob `{sha256(layers[broken])[7:19]}`: its digest is " in said
    _empty(room)


def test_ids_are_told_of_all_layers_at_once(room: Room) -> None:  # noqa: F811
    """The greatest one counts, wherever it is, and what does not fit is not written while it is looked for."""
    layers = [*_many(5), tar((info("a", uid=900000), b"1"), (info("b", uid=1900000), b"2")), tar(info("c", uid=800000))]
    image_of(room, *layers)
    status, said = _load(room, "img")
    assert status == 125
    assert "needs uids up to 1900000, this map has " in said
    _empty(room)


def test_the_same_layers_in_another_order_at_once(room: Room) -> None:  # noqa: F811
    """Each holds layers that the other wants; nobody waits while holding, so both end."""
    layers = [tar(*[(info(f"{n}-{m}"), b"x" * m) for m in range(80)]) for n in range(8)]
    for number, order in enumerate((layers, layers[::-1], layers[4:] + layers[:4])):
        image_of(room, *order, name=f"img{number}", tag=f"order{number}")
    started = [_loading(room, f"img{number}") for number in range(3)]
    for process in started:
        _, said = process.communicate(timeout=100)
        assert (process.returncode, said) == (0, "")
    assert _unpacked(room) == sorted(sha256(raw)[7:] for raw in layers)
    assert len(json.loads((room.store / "index.json").read_text())["manifests"]) == 3
    assert room.temporaries() == []


def test_blobs_that_are_here_are_not_read_from_the_archive(room: Room) -> None:  # noqa: F811
    layers = _many(3)
    image_of(room, *layers, tag="first")
    assert _load(room, "img") == (0, "")
    before = {name: (room.store / "blobs/sha256" / name).stat().st_ino for name in room.content()["blobs/sha256"]}
    more = tar((info("more"), b"1"))
    image_of(room, *layers, more, name="next", tag="next")
    for raw in layers:
        path = room.path / "next/blobs/sha256" / sha256(gzip.compress(raw, 1, mtime=0))[7:]
        path.write_bytes(bytes(path.stat().st_size))
    assert _load(room, "next") == (0, "")
    for name, inode in before.items():
        assert (room.store / "blobs/sha256" / name).stat().st_ino == inode
    assert [sorted(found) for found in room.layers("next")] == [[".", n] for n in ("0", "1", "2", "more")]


def test_a_layer_that_lost_its_folder_comes_back_from_its_blob(room: Room) -> None:  # noqa: F811
    image_of(room, *_many(2), tag="it")
    assert _load(room, "img") == (0, "")
    done = room.sbx("unshare", "rm", "-rf", str(room.store / "layers" / room.content()["layers"][0]))
    assert done.returncode == 0, done.stderr
    assert _load(room, "img") == (0, "")
    assert len(room.content()["layers"]) == 2


def test_tar_that_is_broken_and_tar_that_does_not_fit(room: Room) -> None:  # noqa: F811
    good = tar((info("a"), b"1" * 3000))
    image_of(room, good[:1700], name="short")
    status, said = _load(room, "short")
    assert (status, "sbx: read layer `" in said, "the archive ends in the middle" in said) == (125, True, True)
    image_of(room, tar(info("l", type=b"1", linkname="nowhere")), name="astray")
    status, said = _load(room, "astray")
    assert (status, "sbx: unpack layer `" in said, "which is no file of this layer" in said) == (125, True, True)
    _empty(room)


def test_limits_of_the_environment(room: Room) -> None:  # noqa: F811
    image_of(room, tar(*[info(str(n)) for n in range(20)]))
    done = room.sbx("load", "-q", "-i", str(room.path / "img"), env={"SBX_LIMITS": "layer-entries=10"})
    assert (done.returncode, "more than 10 entries" in done.stderr) == (125, True)
    assert "SBX_LIMITS=layer-entries=20 in the environment" in done.stderr
    _empty(room)
    done = room.sbx("load", "-q", "-i", str(room.path / "img"), env={"SBX_LIMITS": "layer-bites=10"})
    assert done.returncode == 125
    assert "sbx: read SBX_LIMITS `layer-bites=10`: not a limit with a number" in done.stderr


_UNPACK = """
import json, sys
from sandbox import idmap
from sandbox.image.archive import oci_images
from sandbox.image.files import FolderFiles
from sandbox.image.intake import Intake
from sandbox.image.store import Store
store, maps = Store(), idmap.resolve()
[image] = oci_images(FolderFiles(sys.argv[1]), "")
names = [""] * len(image.layers)
intake = Intake(store.layout, store.layers, store.records, maps)
print(json.dumps([len(found) for found in intake.take(image.layers, "it", names, names, copy=False)]))
"""


def test_unpacking_without_a_copy(room: Room) -> None:  # noqa: F811
    """What runs from an archive needs its layers, not its blobs; what is there is not read again."""
    layers = _many(5)
    image_of(room, *layers[:3])
    image_of(room, *layers, layers[0], name="next")
    for name, missing in (("img", 3), ("next", 2), ("next", 0)):
        done = room.run(sys.executable, "-c", _UNPACK, str(room.path / name))
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == [missing, missing, 0]
    assert _unpacked(room) == sorted(sha256(raw)[7:] for raw in layers)
    assert room.content()["blobs/sha256"] == []
    assert room.temporaries() == []
