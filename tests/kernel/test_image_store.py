"""The store: real archives of other tools, verbs, locks, kills, a full disk."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_image_workshop import TREE, Layout, Room, folder, hard, image_of, info, link, room, tar  # noqa: F401

from sandbox import idmap

_CAPABILITY = "0100000200200000000000000000000000000000"  # version 2: effective, permitted cap_net_raw


def _need(*programs: str) -> None:
    for name in programs:
        if not shutil.which(name):
            why = f"probe {name}: the program is not installed"
            if name in os.environ.get("SBX_MUST_WORK", "").split(","):
                pytest.fail(why)
            pytest.skip(why)


def _base() -> bytes:
    return tar(
        folder("etc"), (info("etc/name", uid=1, gid=2), b"base"), hard("etc/same", "etc/name"), link("l", "etc/name")
    )


def _loaded(room: Room, path: str, *names: str) -> None:  # noqa: F811
    done = room.sbx("load", "-q", "-i", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"Loaded image: {name}\n" for name in names)
    assert done.stderr == ""


# -- archives of other tools --


@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive", "zstd"])
def test_archives_written_by_skopeo(room: Room, form: str) -> None:  # noqa: F811
    _need("skopeo")
    if form == "zstd":
        pytest.importorskip("zstandard", reason="probe zstandard: the package is not installed")
    source = image_of(room, _base(), tar(info("etc/.wh.same"), (info("new"), b"2")), tag="t")
    target, options = (f"{form}:{room.path}/made", []) if form != "zstd" else (
        f"oci:{room.path}/made", ["--dest-compress", "--dest-compress-format", "zstd"],
    )  # fmt: skip
    policy = room.path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    words = ["skopeo", "--policy", str(policy), "--tmpdir", str(room.path), "copy", "-q", *options]
    done = room.run(*words, f"{source}:t", f"{target}:it:1")
    assert done.returncode == 0, done.stderr
    transport = target.partition(":")[0]
    lower, upper = room.layers(f"{transport}:{room.path}/made")
    assert lower["etc/name"]["text"] == "base" and (lower["etc/name"]["uid"], lower["etc/name"]["gid"]) == (1, 2)
    assert lower["etc/same"]["ino"] == lower["etc/name"]["ino"]
    assert upper["etc/same"]["rdev"] == 0 and upper["etc/same"]["mode"] & 0o170000 == 0o020000
    assert upper["new"]["text"] == "2"
    name = "docker.io/library/it:1" if form == "docker-archive" else "localhost/it:1"
    _loaded(room, f"{room.path}/made", name)
    [told] = json.loads(room.sbx("inspect", "it:1").stdout)
    assert told["RepoTags"] == [name]
    assert len(told["RootFS"]["Layers"]) == 2
    # The store is a layout that skopeo reads back.
    back = room.run(*words[:4], *words[4:6], "-q", f"oci:{room.store}:{name}", f"oci:{room.path}/back:x")
    assert back.returncode == 0, back.stderr


def test_layers_built_by_buildah(room: Room) -> None:  # noqa: F811
    _need("buildah")
    script = """
set -e
c=$(buildah from scratch)
buildah copy -q --chown 5:6 $c one /one
buildah commit -q --format oci $c a
d=$(buildah from localhost/a)
buildah copy -q $d two /dir/two
buildah config --cmd '["/one"]' --env A=b --label k=v $d
buildah commit -q --format docker $d b
buildah push -q b docker-archive:made.tar:localhost/b:2
"""
    (room.path / "one").write_text("1")
    (room.path / "two").write_text("2")
    (room.path / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (room.path / "run").mkdir(mode=0o700)
    (room.path / ".config/containers").mkdir(parents=True)
    shutil.copy(room.path / "policy.json", room.path / ".config/containers/policy.json")
    for made in ("one", "two", "run", ".config"):
        room.own(room.path / made)
    places = {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot", "XDG_RUNTIME_DIR": str(room.path / "run")}
    done = room.run("sh", "-c", script, env=places)
    room.run("buildah", "rm", "--all", env=places)
    room.run("buildah", "rmi", "--all", "--force", env=places)
    assert done.returncode == 0, done.stderr
    done = room.sbx("load", "-q", "-i", f"{room.path}/made.tar")
    assert done.returncode == 0, done.stderr
    assert "Loaded image: localhost/b:2" in done.stdout.splitlines()
    first, *_, last = room.layers("b:2")
    assert (first["one"]["uid"], first["one"]["gid"], first["one"]["text"]) == (5, 6, "1")
    assert last["dir/two"]["text"] == "2"
    shown = room.sbx("inspect", "-f", "{{.Config.Cmd}} {{.Config.Env}} {{.Labels.k}}", "b:2").stdout
    assert shown.startswith("[/one] [") and "A=b" in shown and shown.endswith(" v\n")


def test_file_capabilities_keep_working(room: Room) -> None:  # noqa: F811
    value = bytes.fromhex(_CAPABILITY).decode("ascii")
    raw = tar((info("ping", mode=0o755, uid=4, pax_headers={"SCHILY.xattr.security.capability": value}), b"x"))
    name = image_of(room, raw)
    [found] = room.layers(name)
    # Seen from inside it is the plain capability; on disk the kernel has bound it to this namespace's root.
    assert found["ping"]["xattrs"] == {"security.capability": _CAPABILITY}
    if shutil.which("getcap"):
        [path] = json.loads(room.prepare(name).stdout)["layers"]
        assert "rootid" in room.run("getcap", "-n", f"{path}/ping").stdout


def test_sparse_files_stay_sparse(room: Room) -> None:  # noqa: F811
    _need("tar")
    hole = room.path / "hole"
    with hole.open("wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    raw = subprocess.run(
        ["tar", "--format=posix", "-S", "-c", "hole"], cwd=room.path, check=True, capture_output=True
    ).stdout
    [found] = room.layers(image_of(room, raw))
    assert found["hole"]["size"] == (50 << 20) + 3
    assert found["hole"]["blocks"] < 1000


# -- verbs --


def test_import_list_inspect_remove(room: Room) -> None:  # noqa: F811
    _need("xz")
    plain = room.path / "root.tar"
    plain.write_bytes(tar(folder("bin"), (info("bin/sh", mode=0o755), b"#!")))
    subprocess.run(["xz", "-k", plain], check=True)
    for path, form in ((plain, "tar"), (Path(f"{plain}.xz"), "tar")):
        done = room.sbx(
            "import", "-c", 'CMD ["/bin/sh"]', "-c", "ENV A=b", "-c", "LABEL k=\x1b[31m", str(path), "mine:1"
        )
        assert done.returncode == 0, done.stderr
        image_id = done.stdout.strip().removeprefix("sha256:")
        assert len(image_id) == 64
        [told] = json.loads(room.sbx("inspect", "mine:1").stdout)
        assert told["Id"] == image_id
        assert told["RepoTags"] == ["localhost/mine:1"]
        assert told["Config"] == {"Cmd": ["/bin/sh"], "Env": ["A=b"], "Labels": {"k": "\x1b[31m"}}
        assert told["Digest"].startswith("sha256:") and told["Size"] == 2
        manifest = json.loads((room.store / "blobs" / told["Digest"].replace(":", "/")).read_text())
        assert manifest["layers"][0]["mediaType"].endswith(form)
    rows = room.sbx("images", "-a", "-n", "--format", "{{.Repository}} {{.Tag}}").stdout
    assert sorted(rows.splitlines()) == ["<none> <none>", "localhost/mine 1"]
    assert room.sbx("images", "-q", "mine").stdout == image_id[:12] + "\n"
    assert room.sbx("images", "--no-trunc", "-q", "mine").stdout == f"sha256:{image_id}\n"
    listed = json.loads(room.sbx("images", "--json").stdout)
    assert sorted(row["Names"] for row in listed) == [[], ["localhost/mine:1"]]
    done = room.sbx("rmi", "mine:1")
    assert done.stdout == f"Untagged: localhost/mine:1\nDeleted: {image_id}\n"
    assert room.sbx("rmi", "--all").returncode == 0
    assert room.content() == {"blobs/sha256": [], "layers": []}
    assert room.sbx("images", "-n").stdout == ""


def test_import_refuses_what_is_cut_off(room: Room) -> None:  # noqa: F811
    raw = tar((info("a"), b"1" * 2000))
    for data in (raw[:1000], raw[:2560], b"", b"noise" * 200):
        path = room.path / "cut.tar"
        path.write_bytes(data)
        done = room.sbx("import", str(path))
        assert done.returncode == 125
        assert done.stderr.startswith("sbx: ") and "Traceback" not in done.stderr
        assert room.content() == {"blobs/sha256": [], "layers": []}
        assert room.temporaries() == []


def test_a_broken_stream_does_not_wait_for_its_end(room: Room) -> None:  # noqa: F811
    """The writer says nonsense and keeps the pipe open: the error comes at once."""
    words = room.command([sys.executable, "-m", "sandbox", "import", "-"])
    with subprocess.Popen(words, env=room.environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stderr
        process.stdin.write(b"nonsense" * 1000)
        process.stdin.flush()
        assert process.wait(30) == 125
        assert b"sbx: read layer" in process.stderr.read()
    assert room.temporaries() == []


def test_load_from_a_pipe_compressed_and_several_images(room: Room) -> None:  # noqa: F811
    layout = Layout(room.path / "two")
    layout.image([_base()], tag="x.io/a:1")
    first = json.loads((room.path / "two/index.json").read_text())["manifests"]
    layout.image([_base(), tar((info("b"), b"2"))], tag="x.io/b:1")
    second = json.loads((room.path / "two/index.json").read_text())["manifests"]
    layout.index([*first, *second, {**first[0], "annotations": {"org.opencontainers.image.ref.name": "x.io/c:1"}}])
    packed = room.path / "two.tar.gz"
    subprocess.run(["tar", "-C", room.path / "two", "-czf", packed, "."], check=True)
    with packed.open("rb") as file:
        done = room.sbx("load", "-q", stdin=file)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Loaded image: x.io/a:1\nLoaded image: x.io/c:1\nLoaded image: x.io/b:1\n"
    assert len(room.content()["layers"]) == 2
    assert room.sbx("rmi", "x.io/b:1").returncode == 0
    assert len(room.content()["layers"]) == 1
    assert room.sbx("rmi", "x.io/a:1").stdout == "Untagged: x.io/a:1\n"
    image_id = json.loads(room.sbx("inspect", "x.io/c:1").stdout)[0]["Id"]
    assert room.sbx("rmi", image_id[:10]).stdout == f"Untagged: x.io/c:1\nDeleted: {image_id}\n"
    assert room.content() == {"blobs/sha256": [], "layers": []}


def test_what_is_not_there(room: Room) -> None:  # noqa: F811
    for verb, code, said in (
        ("rmi", 1, "sbx: find image `nothing`: no such image in the local store\n"),
        ("inspect", 125, 'sbx: inspect `nothing`: no such object: "nothing"\n'),
    ):
        done = room.sbx(verb, "nothing")
        assert done.returncode == code and said in done.stderr and "hint: " in done.stderr
    assert room.sbx("rmi", "--force", "nothing").returncode == 0


def test_a_short_name_is_local_first(room: Room) -> None:  # noqa: F811
    for name in ("docker.io/library/x:latest", "localhost/x:latest"):
        Layout(room.path / name.replace("/", "_")).image([tar((info("a"), name.encode()))], tag=name)
        assert room.sbx("load", "-q", "-i", str(room.path / name.replace("/", "_"))).returncode == 0
        assert json.loads(room.prepare("x").stdout)["name"] == name


# -- records --


def test_a_record_is_believed_until_something_changes(room: Room) -> None:  # noqa: F811
    name = image_of(room, _base())
    assert room.prepare(name).returncode == 0
    get = ("sandbox.cache:get", str(room.store / "images"), f"{name}|{idmap.resolve()['variant']}")
    record = json.loads(room.call(*get).stdout)
    assert record["layers"] == [str(next((room.store / "layers").iterdir()) / "fs")]
    shutil.rmtree(room.path / "img")
    image_of(room, tar((info("other"), b"1")))
    assert json.loads(room.call(*get).stdout) is None
    assert room.prepare(name).returncode == 0
    assert room.sbx("rmi", "--all").returncode == 0
    assert json.loads(room.call(*get).stdout) is None


# -- locks --


def test_an_image_in_use_is_not_removed(room: Room) -> None:  # noqa: F811
    image_of(room, _base(), tag="used")
    _loaded(room, str(room.path / "img"), "localhost/used:latest")
    before = room.content()
    [layer] = (room.store / "layers").iterdir()
    fd = os.open(layer, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        done = room.sbx("rmi", "used")
        assert done.returncode == 2
        assert "remove image `localhost/used:latest`: image is in use" in done.stderr
        assert room.content() == before
        assert room.sbx("images", "-q").stdout != ""
        assert room.sbx("rmi", "--force", "used").returncode == 0
        assert room.content()["layers"] == before["layers"]
        assert room.sbx("images", "-q").stdout == ""
    finally:
        os.close(fd)
    assert room.sbx("rmi", "--all").returncode == 0
    assert room.content() == {"blobs/sha256": [], "layers": []}


def test_many_at_once_unpack_a_layer_once(room: Room) -> None:  # noqa: F811
    files = [(info(f"f{n}", uid=n % 100), b"x" * n) for n in range(1500)]
    image_of(room, tar(*files), tag="same")
    words = room.command([sys.executable, "-m", "sandbox", "load", "-q", "-i", str(room.path / "img")])
    started = [
        subprocess.Popen(words, env=room.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        out, err = process.communicate(timeout=100)
        assert (process.returncode, out, err) == (0, "Loaded image: localhost/same:latest\n", "")
    assert len(room.content()["layers"]) == 1
    assert len(json.loads((room.store / "index.json").read_text())["manifests"]) == 1
    assert room.temporaries() == []
    [found] = room.layers("same")
    assert len(found) == 1501


# -- kills and a full disk --


def _load(room: Room) -> "subprocess.Popen[str]":  # noqa: F811
    words = room.command([sys.executable, "-m", "sandbox", "load", "-q", "-i", str(room.path / "img")])
    return subprocess.Popen(words, env=room.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _own_processes(room: Room) -> list[int]:  # noqa: F811
    """Processes that work on this store."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if str(room.store).encode() in Path(f"/proc/{name}/environ").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("verb", ["load", "rmi"])
def test_S04_killed_at_many_points(room: Room, verb: str) -> None:  # noqa: F811
    layers = [
        tar(*[(info(f"d{n % 40}/f{n}", uid=n % 9), bytes([n % 256]) * 500) for n in range(k, 900, 3)]) for k in range(3)
    ]
    image_of(room, *layers, tag="killed")
    start = time.monotonic()
    assert _load(room).wait() == 0
    whole = time.monotonic() - start
    complete = room.content()
    if verb == "load":
        room.sbx("rmi", "--all")
    else:
        start = time.monotonic()
        assert room.sbx("rmi", "--all").returncode == 0
        whole = time.monotonic() - start
    for point in range(15):
        if verb == "load":
            process = _load(room)
        else:
            assert _load(room).wait() == 0
            words = room.command([sys.executable, "-m", "sandbox", "rmi", "--all"])
            process = subprocess.Popen(
                words, env=room.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        time.sleep(whole * (point + 0.5) / 15)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        end = time.monotonic() + 5
        while _own_processes(room) and time.monotonic() < end:
            time.sleep(0.01)
        assert _own_processes(room) == []
        listed = room.sbx("images", "-n")
        assert (listed.returncode, listed.stderr) == (0, ""), f"after a kill at point {point}"
        again = _load(room)
        assert again.wait() == 0, again.communicate()[1]
        again.communicate()
        assert room.temporaries() == [], f"after a kill at point {point}"
        assert room.content() == complete
        if point % 5 == 0:
            assert sum(len(found) for found in room.layers("killed")) == 900 + 3 * 41
        if verb == "load":
            assert room.sbx("rmi", "--all").returncode == 0
            assert room.content() == {"blobs/sha256": [], "layers": []}


_SMALL_DISK = """
import json, os, subprocess, sys
sys.path.insert(0, {tree!r})
from sandbox import idmap, linux, userns
store, archive, size = sys.argv[1:]
def work():
    # An own small disk, and the subordinate ids of this namespace for its root.
    os.makedirs(store, exist_ok=True)
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("tmpfs", store, "tmpfs", 0, "mode=700,size=" + size)
    with open(store + "/.ids", "w") as file:
        file.write("root:1:60000\\n")
    for path in ("/etc/subuid", "/etc/subgid"):
        linux.mount(store + "/.ids", path, None, linux.MS_BIND)
    done = subprocess.run([sys.executable, "-m", "sandbox", "load", "-q", "-i", archive], capture_output=True, text=True)
    left = [os.path.join(f, n) for f, _, names in os.walk(store) for n in names]
    left += os.listdir(store + "/layers") if os.path.isdir(store + "/layers") else []
    return json.dumps([done.returncode, done.stdout, done.stderr, left])
print(userns.call(idmap.resolve(), work))
"""


@pytest.mark.parametrize("size", ["16k", "200k", "2m", "4m", "50m"])
def test_a_full_disk(room: Room, size: str) -> None:  # noqa: F811
    """No room for the index, for the blob, for the unpacked files: one line, and nothing stays."""
    raw = tar(*[(info(f"f{n}"), os.urandom(20000)) for n in range(120)])
    image_of(room, raw)
    done = room.run(
        sys.executable, "-c", _SMALL_DISK.format(tree=str(TREE)), str(room.store), str(room.path / "img"), size
    )
    assert done.returncode == 0, done.stderr
    code, out, err, left = json.loads(done.stdout)
    if size == "50m":
        assert (code, err) == (0, "")
        return
    assert (code, out) == (125, "")
    lines = err.splitlines()
    assert len(lines) == 2, err
    assert lines[0].startswith("sbx: ") and "No space left on device" in lines[0]
    assert lines[1].startswith("hint: free some space")
    kept = {"oci-layout", "index.json", ".index.lock", ".content.lock", ".ids", ".spare"}
    assert {os.path.basename(path) for path in left} <= kept


def test_I07_S02_the_store_is_private(room: Room) -> None:  # noqa: F811
    previous = os.umask(0)
    try:
        image_of(room, _base())
        assert room.sbx("load", "-q", "-i", str(room.path / "img")).returncode == 0
    finally:
        os.umask(previous)
    assert room.store.stat().st_mode & 0o777 == 0o700
    assert (room.store / "index.json").stat().st_mode & 0o077 == 0
    room.store.chmod(0o755)
    assert room.sbx("images").returncode == 0
    assert room.store.stat().st_mode & 0o777 == 0o700
    (room.path / "foreign").mkdir()
    (room.path / "foreign/mine").write_text("x")
    room.own(room.path / "foreign")
    (room.path / "foreign").chmod(0o755)
    done = room.sbx("images", env={"SBX_STORE": str(room.path / "foreign")})
    assert done.returncode == 125 and "it is no image store" in done.stderr
    assert (room.path / "foreign").stat().st_mode & 0o777 == 0o755
