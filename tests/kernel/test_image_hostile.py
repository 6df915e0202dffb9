"""Hostile layers and documents: each is refused by a named step, or does nothing outside its own folder."""

import gzip
import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from test_image_workshop import Layout, Room, folder, hard, image_of, info, link, room, sha256, tar  # noqa: F401

PWNED = b"pwned"


def _refused(room: Room, name: str, words: str, code: int = 125, **more: Any) -> str:  # noqa: F811
    done = room.prepare(name, **more)
    assert done.returncode == code, done.stdout + done.stderr
    assert words in done.stderr
    assert done.stderr.startswith("sbx: ")
    assert "Traceback" not in done.stderr
    room.untouched()
    assert room.temporaries() == []
    return done.stderr


# -- names that try to leave --


@pytest.mark.parametrize(
    "members",
    [
        [(info("../outside/x"), PWNED)],
        [(info("a/../../outside/x"), PWNED)],
        [(info("/../canary"), PWNED)],
        [folder("a"), (info("a/.."), PWNED)],
        [info("../outside/.wh.x")],
    ],
)
def test_I01_dot_dot_is_refused(room: Room, members: list[Any]) -> None:  # noqa: F811
    _refused(room, image_of(room, tar(*members)), "has a `..` in its path")
    assert room.content()["layers"] == []


def test_I01_absolute_names_stay_inside(room: Room) -> None:  # noqa: F811
    target = str(room.canary)
    [found] = room.layers(image_of(room, tar((info(target), PWNED), (info("//etc//./x"), b"1"))))
    assert found[target.lstrip("/")]["text"] == "pwned"
    assert found["etc/x"]["text"] == "1"
    room.untouched()


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize(
    "last",
    [
        (info("l/canary"), PWNED), folder("l/outside/new"), hard("l/h", "x"), link("l/s", "x"), info("l/.wh.canary"),
        info("l/.wh..wh..opq"), info("l/p", type=tarfile.FIFOTYPE), hard("x2", "l/canary"),
    ],
    ids=["file", "folder", "hardlink", "symlink", "whiteout", "opaque", "fifo", "link-source"],
)  # fmt: skip
def test_I02_I05_a_symlink_is_no_parent(room: Room, absolute: bool, last: Any) -> None:  # noqa: F811
    target = str(room.path) if absolute else "../" * 12 + str(room.path).lstrip("/")
    first = (info("x"), b"")
    _refused(room, image_of(room, tar(first, link("l", target), last)), "goes through something that is not a folder")


def test_I02_I05_a_symlink_of_an_earlier_layer_is_hidden_not_followed(room: Room) -> None:  # noqa: F811
    below = tar(link("l", str(room.path)))
    above = tar((info("l/canary"), PWNED), info("l/.wh.outside"))
    lower, upper = room.layers(image_of(room, below, above))
    assert lower["l"]["target"] == str(room.path)
    assert stat.S_ISDIR(upper["l"]["mode"])
    assert upper["l/canary"]["text"] == "pwned"
    room.untouched()


def test_I02_a_file_over_a_symlink_replaces_the_link(room: Room) -> None:  # noqa: F811
    raw = tar(link("l", str(room.canary)), (info("l", mode=0o600, mtime=5), PWNED), link("d", str(room.path / "outside")), folder("d", mode=0o700))  # fmt: skip
    [found] = room.layers(image_of(room, raw))
    assert found["l"]["text"] == "pwned"
    assert stat.S_ISDIR(found["d"]["mode"])
    room.untouched()


def test_I04_metadata_does_not_follow_a_symlink(room: Room) -> None:  # noqa: F811
    """A folder whose times are set at the end has been swapped for a link meanwhile; links get owners of their own."""
    outside = str(room.path / "outside")
    raw = tar(folder("d", mode=0o777, mtime=7), link("d", outside), info("s", type=tarfile.SYMTYPE, linkname=str(room.canary), uid=9, gid=9, mode=0o777, mtime=3))  # fmt: skip
    before = os.stat(outside)
    [found] = room.layers(image_of(room, raw))
    assert found["d"]["target"] == outside
    assert (found["s"]["uid"], found["s"]["mtime"]) == (9, 3 * 10**9)
    assert os.stat(outside).st_mtime_ns == before.st_mtime_ns
    room.untouched()


@pytest.mark.parametrize("target", ["/canary", "{room}/canary", "nothing", "l", "d"])
def test_I03_hard_links_to_what_is_not_in_the_layer(room: Room, target: str) -> None:  # noqa: F811
    raw = tar(folder("d"), hard("l", target.format(room=room.path)))
    _refused(room, image_of(room, raw), "which is no file of this layer")


def test_I03_hard_link_to_dot_dot(room: Room) -> None:  # noqa: F811
    _refused(room, image_of(room, tar(hard("l", "../" * 15 + str(room.canary).lstrip("/")))), "has a `..` in its path")


def test_I03_a_hard_link_to_a_symlink_is_the_symlink(room: Room) -> None:  # noqa: F811
    [found] = room.layers(
        image_of(room, tar(link("s", str(room.canary)), hard("h", "s"), (info("h2"), b"x"), hard("h2", "s")))
    )
    assert found["h"]["target"] == found["h2"]["target"] == str(room.canary)
    assert found["h"]["ino"] == found["s"]["ino"]
    room.untouched()


def test_I03_a_hard_link_to_a_lower_layer(room: Room) -> None:  # noqa: F811
    _refused(room, image_of(room, tar((info("a"), b"1")), tar(hard("b", "a"))), "which is no file of this layer")


# -- nodes, whiteouts, attributes --


def test_I06_device_nodes_are_left_out_and_told(room: Room) -> None:  # noqa: F811
    disk = info("dev/sda", type=tarfile.BLKTYPE, devmajor=8, devminor=0)
    white = info("fake", type=tarfile.CHRTYPE, devmajor=0, devminor=0)
    raw = tar(info("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3), disk, white, (info("f"), b"1"), info("p", type=tarfile.FIFOTYPE, mode=0o640))  # fmt: skip
    name = image_of(room, raw)
    done = room.prepare(name)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "device nodes are not unpacked: dev/null and 2 more" in done.stderr
    [found] = room.layers(name)
    assert sorted(found) == [".", "f", "p"]
    assert stat.S_ISFIFO(found["p"]["mode"]) and found["p"]["mode"] & 0o777 == 0o640


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh..", "a/.wh..."])
def test_I05_whiteouts_of_dots(room: Room, name: str) -> None:  # noqa: F811
    _refused(room, image_of(room, tar(folder("a"), info(name))), "hides")


def test_whiteouts_in_overlay_form(room: Room) -> None:  # noqa: F811
    raw = tar(
        folder("a"), info("a/.wh.gone"), info("a/.wh.gone"), (info("a/kept"), b"1"), info("a/.wh.kept"),
        folder("o"), info("o/.wh..wh..opq"), (info("o/x"), b"1"), info("n/.wh..wh..opq"),
        info(".wh.swap"), folder("swap"), folder("swap2"), info(".wh.swap2"), info(".wh..wh.plnk"),
        info(".wh.f"), (info("f"), b"new"),
    )  # fmt: skip
    [found] = room.layers(image_of(room, raw))
    assert stat.S_ISCHR(found["a/gone"]["mode"]) and found["a/gone"]["rdev"] == 0
    assert found["a/kept"]["text"] == "1"
    assert found["f"]["text"] == "new"
    opaque = {path for path, entry in found.items() if entry.get("xattrs", {}).get("user.overlay.opaque") == b"y".hex()}
    assert opaque == {"o", "n", "swap", "swap2"}
    assert not any(".wh." in path for path in found)


def test_I08_attributes_by_list(room: Room) -> None:  # noqa: F811
    planted = {
        "user.overlay.redirect": "/../x", "user.overlay.opaque": "y", "user.fuseoverlayfs.opaque": "y", "user.good": "1",
        "user.containers.override_stat": "0:0:4755", "trusted.overlay.opaque": "y", "security.selinux": "x",
        "user.rootlesscontainers": "\x08\x00",
    }  # fmt: skip
    headers = {f"SCHILY.xattr.{key}": value for key, value in planted.items()}
    [found] = room.layers(image_of(room, tar(folder("d", pax_headers=headers), info("f", pax_headers=headers))))
    assert found["d"]["xattrs"] == {"user.good": "31"}
    assert found["f"]["xattrs"] == {"user.good": "31"}


# -- owners --


def test_owners_modes_and_times(room: Room) -> None:  # noqa: F811
    raw = tar(
        folder(".", mode=0o751, mtime=11),
        (info("suid", mode=0o6755, uid=5, gid=7, mtime=1_000_000_000.25), b"x"), folder("shut", mode=0, mtime=12, uid=3),
        (info("shut/in", mode=0), b"in"), folder("tmp", mode=0o1777, mtime=13), hard("second", "suid"),
    )  # fmt: skip
    [found] = room.layers(image_of(room, raw))
    assert found["."]["mode"] & 0o7777 == 0o751 and found["."]["mtime"] == 11 * 10**9
    assert found["suid"]["mode"] & 0o7777 == 0o6755
    assert (found["suid"]["uid"], found["suid"]["gid"], found["suid"]["mtime"]) == (5, 7, 1_000_000_000_250_000_000)
    assert found["second"]["ino"] == found["suid"]["ino"]
    assert found["shut"]["mode"] & 0o7777 == 0 and found["shut"]["mtime"] == 12 * 10**9
    assert found["shut/in"]["text"] == "in"
    assert found["tmp"]["mode"] & 0o7777 == 0o1777 and found["tmp"]["mtime"] == 13 * 10**9


@pytest.mark.parametrize("mode", ["", "nomap", "keep-id", "single"])
def test_a_root_folder_closed_to_everybody_can_be_removed(room: Room, mode: str) -> None:  # noqa: F811
    shut = [folder(".", mode=0, uid=5, gid=5), folder("d", mode=0, uid=6), (info("d/f", mode=0), b"1"), folder("d/e")]
    done = room.prepare(image_of(room, tar(*shut, (info("d/e/x/y/z"), b"1"))), mode)
    assert done.returncode == 0, done.stderr
    [path] = json.loads(done.stdout)["layers"]
    assert os.stat(path).st_mode & 0o7777 == 0
    assert room.sbx("rmi", "--all").returncode == 0
    assert room.content()["layers"] == []


def test_ids_outside_the_map_are_said_before_anything_is_unpacked(room: Room) -> None:  # noqa: F811
    name = image_of(room, tar((info("fine"), b"1")), tar((info("big", uid=172761424), b"1")))
    said = _refused(room, name, "needs uids up to 172761424, this map has ")
    assert "hint: sudo usermod --add-subuids " in said
    assert room.content()["layers"] == []
    done = room.sbx("load", "-i", str(room.path / "img"))
    assert done.returncode == 125
    assert room.content() == {"blobs/sha256": [], "layers": []}


def test_one_id_takes_all_owners_and_remembers_them(room: Room) -> None:  # noqa: F811
    name = image_of(room, tar((info("big", uid=172761424, gid=300, mode=0o4755), b"1"), link("l", "x"), info("plain")))
    [found] = room.layers(name, "single")
    assert (found["big"]["uid"], found["big"]["gid"], found["big"]["mode"] & 0o7777) == (0, 0, 0o4755)
    assert found["big"]["xattrs"]["user.rootlesscontainers"] == "08d0c2b05210ac02"
    assert found["plain"]["xattrs"] == {}
    assert [n.endswith(".single") for n in room.content()["layers"]] == [True]


@pytest.mark.parametrize("mode", ["nomap", "keep-id"])
def test_other_maps_have_layers_of_their_own(room: Room, mode: str) -> None:  # noqa: F811
    name = image_of(room, tar((info("a", uid=0), b"1"), (info("b", uid=33), b"1")))
    room.layers(name)
    [found] = room.layers(name, mode)
    assert (found["a"]["uid"], found["b"]["uid"]) == (0, 33)
    assert len(room.content()["layers"]) == 2
    assert room.sbx("rmi", "--all").returncode == 0
    assert room.content()["layers"] == []


# -- bombs --


def test_I09_a_gzip_bomb_is_cut_off(room: Room) -> None:  # noqa: F811
    """2 GiB of zeros in 2 MB: refused by its ratio while it streams, and nothing of it stays."""
    header = info("zeros", size=1 << 31).tobuf(tarfile.PAX_FORMAT)
    packed = room.path / "bomb.gz"
    with gzip.open(packed, "wb", 1) as file:
        file.write(header)
        for _ in range(1 << 5):
            file.write(bytes(1 << 26))
    layout = Layout(room.path / "bomb")
    layout.image([b""], change=lambda m: _with_layer(m, layout, packed.read_bytes(), sha256(b"")))
    room.own(room.path / "bomb")
    _refused(room, f"oci:{room.path / 'bomb'}", "a decompression bomb")
    assert room.content()["layers"] == []


def _with_layer(manifest: dict[str, Any], layout: Layout, stored: bytes, diff_id: str) -> None:
    del diff_id
    kind = "application/vnd.oci.image.layer.v1.tar+gzip"
    manifest["layers"] = [{"mediaType": kind, **layout.blob(stored)}]


def test_I09_a_name_that_is_too_deep(room: Room) -> None:  # noqa: F811
    _refused(room, image_of(room, tar((info("d/" * 1000 + "f"), b"1"))), "too long or too deep")


def test_I09_strange_names_survive(room: Room) -> None:  # noqa: F811
    names = ["new\nline", "esc\x1b[31m", "-rf", " ", "*", "ü", "a" * 255, "caf\udce9"]
    [found] = room.layers(image_of(room, tar(*[(info(n), b"1") for n in names], form=tarfile.GNU_FORMAT)))
    assert set(found) == {".", *names}
    said = _refused(room, image_of(room, tar(info("esc\x1b[31m/../x")), name="bad"), "has a `..`")
    assert "\x1b" not in said


# -- wrong digests, broken documents --


@pytest.mark.parametrize("packed", [True, False])
def test_I10_a_layer_with_another_digest(room: Room, packed: bool) -> None:  # noqa: F811
    name = image_of(room, tar((info("a"), b"1" * 5000)), packed=packed)
    blobs = sorted((room.path / "img/blobs/sha256").iterdir(), key=lambda p: p.read_bytes()[:1] == b"{")
    raw = bytearray(blobs[0].read_bytes())
    raw[-1] ^= 1
    blobs[0].write_bytes(raw)
    done = room.prepare(name)
    assert done.returncode == 125
    assert "verify blob" in done.stderr or "decompress" in done.stderr
    assert room.content()["layers"] == []
    assert room.temporaries() == []


@pytest.mark.parametrize("cut", [1, 100, 1500])
def test_I10_a_truncated_layer(room: Room, cut: int) -> None:  # noqa: F811
    raw = tar((info("a"), os.urandom(3000)))
    layout = Layout(room.path / "img")
    layout.image([raw], change=lambda m: _with_layer(m, layout, gzip.compress(raw)[:-cut], ""))
    room.own(room.path / "img")
    _refused(room, f"oci:{room.path / 'img'}", "ends in the middle")
    assert room.content()["layers"] == []


def test_I10_a_layer_longer_or_shorter_than_announced(room: Room) -> None:  # noqa: F811
    raw = tar((info("a"), b"1"))

    def resize(by: int) -> Any:
        return lambda m: m["layers"][0].update(size=m["layers"][0]["size"] + by)

    _refused(room, image_of(room, raw, change=resize(1), name="long"), "bytes where")
    _refused(room, image_of(room, raw, change=resize(-1), name="short"), "longer than the")


def test_I10_bytes_after_the_gzip_stream(room: Room) -> None:  # noqa: F811
    raw = tar((info("a"), b"1"))
    layout = Layout(room.path / "img")
    layout.image([raw], change=lambda m: _with_layer(m, layout, gzip.compress(raw) + b"more", ""))
    _refused(room, f"oci:{room.own(room.path / 'img')}", "bytes after the end of the gzip stream")


def test_I11_a_layer_under_another_image_s_diff_id(room: Room) -> None:  # noqa: F811
    """Else one image could plant files into another's layer: the store's layers are named by diff id."""
    good, evil = tar((info("a"), b"good")), tar((info("a"), b"evil"))
    _refused(room, image_of(room, evil, diff_ids=[sha256(good)], name="evil"), "verify layer")
    assert room.content()["layers"] == []
    [found] = room.layers(image_of(room, good, name="good"))
    assert found["a"]["text"] == "good"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(manifests=[]), "both a manifest and an index"),
        (lambda m: m["config"].update(digest="sha256:../../../../canary"), "is not a sha256 or sha512 digest"),
        (lambda m: m["layers"][0].update(digest="md5:" + "a" * 32), "is not a sha256 or sha512 digest"),
        (lambda m: m["layers"][0].update(size=-1), "`size` is -1"),
        (lambda m: m["layers"].append(m["layers"][0]), "1 diff ids for 2 layers"),
        (lambda m: m.update(mediaType="application/vnd.oci.image.index.v1+json"), "was announced"),
        (lambda m: json.dumps(m).replace('"layers"', '"layers": [], "layers"').encode(), "appears twice"),
        (lambda m: json.dumps({**m, "x": 1}).replace('"x": 1', '"x": NaN').encode(), "NaN is not JSON"),
        (lambda m: b'{"a":' * 500 + b"1" + b"}" * 500, "nested more than"),
        (lambda m: json.dumps({**m, "x": " " * (5 << 20)}).encode(), "longer than 4 MiB"),
    ],
)
def test_I10_I11_I12_I13_I14_broken_manifests(room: Room, change: Any, words: str) -> None:  # noqa: F811
    def spoil(manifest: dict[str, Any]) -> bytes | None:
        result = change(manifest)
        return result if isinstance(result, bytes) else None

    _refused(room, image_of(room, tar((info("a"), b"1")), change=spoil), words)


def test_I15_foreign_layers_are_never_fetched(room: Room) -> None:  # noqa: F811
    def foreign(manifest: dict[str, Any]) -> None:
        kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        manifest["layers"] = [{"mediaType": kind, "digest": sha256(b"x"), "size": 1, "urls": ["http://127.0.0.1:9/x"]}]

    _refused(room, image_of(room, tar(info("a")), change=foreign), "sbx never fetches urls")


def test_an_image_of_another_machine(room: Room) -> None:  # noqa: F811
    other = "s390x"
    name = image_of(room, tar(info("a")), config={"architecture": other})
    _refused(room, name, "image is for linux/s390x, this machine is linux/")
    assert room.prepare(name, platform="linux/s390x").returncode == 0


def test_I06_a_blob_that_is_a_link_out_or_a_pipe(room: Room) -> None:  # noqa: F811
    name = image_of(room, tar((info("a"), b"1")), packed=False)
    blob = room.path / "img/blobs" / sha256(tar((info("a"), b"1"))).replace(":", "/")
    moved = room.path / "moved"
    blob.rename(moved)
    blob.symlink_to(moved)
    assert room.prepare(name).returncode == 125
    blob.unlink()
    os.mkfifo(blob)
    room.own(blob)
    done = room.prepare(name)
    assert done.returncode == 125
    assert "is missing" in done.stderr


# -- archives --


def test_truncated_and_foreign_archives(room: Room) -> None:  # noqa: F811
    image_of(room, tar((info("a"), os.urandom(20000))))
    whole = subprocess.run(["tar", "-C", room.path / "img", "-c", "."], check=True, capture_output=True).stdout
    cut = room.own(_written(room.path / "cut.tar", whole[: len(whole) * 2 // 3]))
    for name in (f"oci-archive:{cut}", f"docker-archive:{cut}"):
        _refused(room, name, "read archive")
    _refused(room, f"docker-archive:{room.own(_written(room.path / 't.tar', whole))}", "`manifest.json` is missing")
    _refused(room, f"oci-archive:{room.own(_written(room.path / 'noise', os.urandom(5000)))}", "read archive")
    _refused(room, f"oci-archive:{room.own(_written(room.path / 'empty', b''))}", "is missing")
    _refused(room, f"oci-archive:{room.path}/nothing.tar", "No such file or directory")
    _refused(room, f"oci:{room.path}/nothing", "No such file or directory")
    for data in (os.urandom(5000), b"", whole[: len(whole) * 2 // 3]):
        done = room.sbx("load", "-i", str(room.own(_written(room.path / "x", data))))
        assert done.returncode == 125
        assert room.content() == {"blobs/sha256": [], "layers": []}


def _written(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


def test_archive_members_are_names_not_paths(room: Room) -> None:  # noqa: F811
    """A docker-archive whose layer is a symlink to a host file, or whose config is outside."""
    layer = tar((info("a"), b"1"))
    config = json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]}}).encode()

    def archive(listed: dict[str, Any], *members: Any) -> str:
        raw = tar((info("manifest.json"), json.dumps([listed]).encode()), (info("c.json"), config), *members)
        return f"docker-archive:{room.own(_written(room.path / 'd.tar', raw))}"

    listed = {"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["1/layer.tar"]}
    _refused(room, archive(listed, link("1/layer.tar", str(room.canary))), "is missing")
    _refused(room, archive({**listed, "Config": str(room.canary)}), "is missing")
    assert (
        room.prepare(archive(listed, (info("2/layer.tar"), layer), link("1/layer.tar", "../2/layer.tar"))).returncode
        == 0
    )
    _refused(room, archive({**listed, "RepoTags": ["../x"]}, (info("1/layer.tar"), layer)), "read image name")
    _refused(room, archive({**listed, "Layers": []}), "1 diff ids for 0 layers")
