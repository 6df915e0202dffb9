"""-v, --mount and --tmpfs on paper: what becomes which OCI mount, and what is refused."""

import os

import pytest
from hypothesis import given, settings, strategies as st

from sandbox import spec as oci, volumes
from sandbox.errors import SandboxError
from sandbox.mounts import split_options

MAPS = {"uid": [(0, 1000, 1)], "gid": [(0, 1000, 1)]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to mount, in the current directory; the store and the session's folder elsewhere."""
    (tmp_path / "v/sub").mkdir(parents=True)
    (tmp_path / "v/file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SBX_STORE", str(tmp_path / "data/store"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run/1"))
    return tmp_path


@pytest.fixture
def reader(folder):
    return volumes.Reader(oci.skeleton(MAPS), str(folder / "container"), sockets=False)


def only(reader):
    (entry,) = reader.spec["mounts"]
    return entry


# -- -v --


@pytest.mark.parametrize(
    ("text", "destination", "options"),
    [
        ("V:/d", "/d", {"rbind", "nosuid", "nodev", "rprivate"}),
        ("./v:/d", "/d", {"rbind", "nosuid", "nodev", "rprivate"}),
        ("v/../v/:/d//e/../", "/d", {"rbind", "nosuid", "nodev", "rprivate"}),
        ("V:/d:ro", "/d", {"rbind", "ro", "nosuid", "nodev", "rprivate"}),
        ("V:/d:ro,noexec,z,Z", "/d", {"rbind", "ro", "noexec", "nosuid", "nodev", "rprivate"}),
        ("V:/d:bind", "/d", {"bind", "nosuid", "nodev", "rprivate"}),
        ("V:/d:rbind,rprivate", "/d", {"rbind", "nosuid", "nodev", "rprivate"}),
        ("V:/d:,", "/d", {"rbind", "nosuid", "nodev", "rprivate"}),
    ],
)
def test_volume(reader, folder, text, destination, options):
    reader.volume(text.replace("V", str(folder / "v")))
    entry = only(reader)
    assert (entry["destination"], entry["type"], entry["source"]) == (destination, "bind", str(folder / "v"))
    assert set(entry["options"]) == options


def test_words_of_the_caller_come_after_the_defaults(reader):
    """The last word on an attribute counts (mounts.split_options): who writes `suid` means it."""
    reader.volume("./v:/d:suid,ro")
    assert split_options(only(reader)["options"]) == (1 | 4, 2, [])  # read-only, nodev; nosuid cleared


def test_later_ones_replace(reader, folder):
    reader.volume("./v:/d")
    reader.tmpfs("/d")
    reader.volume("./v/sub:/e")
    reader.mount("src=v,dst=/d/")
    assert [(m["destination"], m["source"]) for m in reader.spec["mounts"]] == [
        ("/e", f"{folder}/v/sub"),
        ("/d", f"{folder}/v"),
    ]


def test_u_and_o(reader, folder):
    reader.volume("./v:/d:U")
    reader.volume("./v:/e:O")
    reader.volume("./v/sub:/f:O,ro")
    annotations = reader.spec["annotations"]
    assert annotations["dev.sbx.chown"] == "/d\n"
    first, second = reader.spec["mounts"][1:]
    assert first["type"] == second["type"] == "overlay"
    assert {f"lowerdir={folder}/v", "upperdir=upper.1", "workdir=work.1", "userxattr", "nosuid", "nodev"} == set(
        first["options"]
    )
    assert {f"lowerdir={folder}/v/sub", "upperdir=upper.2", "workdir=work.2", "ro"} <= set(second["options"])


@pytest.mark.parametrize("text", ["", ":", "v", "./v", "v:d", "-v:/d", "v:/", "v:/d:O", "v:/d:x", "./v:d", "./v:/", "./v:/..", "./v:/d:x", "./v:/d:ro:rw", "./v:/d:shared",
                                  "./v:/d:size=1m", "./none:/d", ":/d", "./v:"])  # fmt: skip
def test_volumes_that_are_none(reader, text):
    with pytest.raises(SandboxError) as caught:
        reader.volume(text)
    assert caught.value.step in ("read volume", "name volume", "open volume source")
    assert reader.spec["mounts"] == []


def test_volumes_of_the_store(reader):
    reader.volume("data:/d:ro,nocopy")
    reader.volume("/x")
    reader.mount("type=volume,src=other,dst=/x")
    reader.finish()
    assert [m["destination"] for m in reader.spec["mounts"]] == ["/d", "/x"]
    assert reader.spec["mounts"][0]["source"].endswith("/volumes/data/data")
    assert "ro" in reader.spec["mounts"][0]["options"] and "nocopy" not in reader.spec["mounts"][0]["options"]
    assert reader.spec["annotations"]["dev.sbx.volumes"] == "/d=data,nocopy\n/x=other"


# -- what never comes in --


def test_store_is_refused(reader, folder):
    (folder / "data/store/layers").mkdir(parents=True)
    (folder / "link").symlink_to("data/store/layers")
    for path in ("data/store", "data/store/layers", "link", "data/../data/store/."):
        with pytest.raises(SandboxError, match="it belongs to the store of sbx"):
            reader.volume(f"./{path}:/d")


def test_store_is_covered_below_a_volume(reader, folder, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    (folder / "data/store").mkdir(parents=True)
    reader.spec["linux"]["maskedPaths"] = ["/proc/keys"]
    reader.volume("./data:/d")
    reader.volume(".:/e/")
    reader.volume("./v:/f")
    assert reader.spec["linux"]["maskedPaths"] == ["/proc/keys", "/d/store", "/e/data/store"]


def test_a_name_that_begins_like_the_store_is_another_folder(reader, folder):
    (folder / "data/store-2").mkdir(parents=True)
    reader.volume("./data/store-2:/d")
    assert reader.spec["linux"]["maskedPaths"] == []


@pytest.mark.parametrize("path", ["/run", "/var/run", "/", "RUN", "RUN/1"])
def test_folders_of_sockets(reader, folder, path):
    (folder / "run/1").mkdir(parents=True)
    with pytest.raises(SandboxError, match="it holds the host's sockets"):
        reader.volume(f"{path.replace('RUN', str(folder / 'run'))}:/d")


def test_sockets(reader, folder):
    os.mknod(folder / "s", 0o140600)
    (folder / "link").symlink_to("s")
    for name in ("s", "link"):
        with pytest.raises(SandboxError, match="it is a socket of the host"):
            reader.volume(f"./{name}:/d")
    allowed = volumes.Reader(oci.skeleton(MAPS), "", sockets=True)
    allowed.volume("./s:/d")
    assert only(allowed)["source"] == f"{folder}/s"


# -- --mount and --tmpfs --


@pytest.mark.parametrize("text", ["type=bind,src=v,dst=/d,ro", "source=v,target=/d,readonly", "src=v,destination=/d,readonly=true",
                                  "dst=/d,ro,src=v,bind-propagation=private", "src=v,dst=/d,rw=false"])  # fmt: skip
def test_mount_read_only(reader, folder, text):
    reader.mount(text)
    assert (only(reader)["source"], only(reader)["destination"]) == (f"{folder}/v", "/d")
    assert "ro" in only(reader)["options"]


@pytest.mark.parametrize("text", ["", "type=bind", "src=v", "dst=/d", "type=x,src=v,dst=/d", "src=v,dst=/d,x", "src=v,dst=/d,ro=x", "src=v,dst=d",
                                  "src=v,dst=/d,bind-propagation=rshared", "src=,dst=/d", "type=tmpfs", "type=tmpfs,dst=/"])  # fmt: skip
def test_mounts_that_are_none(reader, text):
    with pytest.raises(SandboxError):
        reader.mount(text)
    assert reader.spec["mounts"] == []


def test_tmpfs(reader):
    reader.tmpfs("/t:size=10%,mode=0700,uid=5,noexec,rprivate,tmpcopyup")
    assert only(reader) == oci.mount(
        "/t", "tmpfs", "tmpfs", "nosuid", "nodev", "size=10%", "mode=0700", "uid=5", "noexec"
    )
    reader.mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1700")
    assert only(reader) == oci.mount("/t", "tmpfs", "tmpfs", "nosuid", "nodev", f"size={1 << 20}", "mode=1700")


@settings(deadline=None)
@given(st.text(max_size=20))
def test_any_text_is_mounts_or_an_error_of_ours(text):
    made = volumes.Reader(oci.skeleton(MAPS), "", sockets=False)
    for read in (made.volume, made.mount, made.tmpfs):
        try:
            read(text)
        except SandboxError:
            continue
    for entry in made.spec["mounts"]:
        assert entry["destination"].startswith("/") and entry["destination"] != "/"
        assert {"nosuid", "nodev"} <= set(entry["options"])
