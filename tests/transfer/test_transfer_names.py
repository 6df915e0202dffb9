"""Names of transports, and folders and archives with anything in them: a value or one error, never a traceback."""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import images
import pytest
from hypothesis import given, strategies as st
from support import Sbx

from sandbox.errors import SandboxError, UsageError
from sandbox.registry.access import Access, retries
from sandbox.transfer import recode, unfinished
from sandbox.transfer.sources import source_of
from sandbox.transfer.transports import Place, image_of, place


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app", Place("store", "app")),
        ("store:app:1", Place("store", "app:1")),
        ("containers-storage:app", Place("store", "app")),
        ("docker://quay.io/a/b:1", Place("docker", "quay.io/a/b:1")),
        ("docker:1", Place("store", "docker:1")),  # an image called docker
        ("oci:1.2", Place("oci", "1.2")),
        ("oci:/no/such:name:1", Place("oci", "/no/such", "name:1")),
        ("oci-archive:a.tar", Place("oci-archive", "a.tar")),
        ("dir:/a:b", Place("dir", "/a:b")),
        ("localhost:5000/a:1", Place("store", "localhost:5000/a:1")),
    ],
)
def test_places(text: str, expected: Place) -> None:
    assert place(text) == expected
    assert place(str(expected)) == expected


def test_a_path_with_colons_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    assert place(f"oci:{tmp_path}/a:b:c:1") == Place("oci", f"{tmp_path}/a:b", "c:1")


@pytest.mark.parametrize("text", ["docker://", "oci:", "store:", "docker-daemon:x:1", "sif:x:"])
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(SandboxError) as found:
        place(text)
    assert found.value.step == "read image name" and found.value.hint


@given(st.text() | st.sampled_from(["oci", "dir", "docker", "oci-archive", "store"]).flatmap(lambda t: st.builds(f"{t}:{{}}".format, st.text())))  # fmt: skip
def test_any_place(text: str) -> None:
    with contextlib.suppress(SandboxError):
        assert place(text).transport


@given(st.text(max_size=8))
def test_any_number_of_retries(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert 0 <= retries(text) <= 100 and text.isdigit()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["config", "layers", "manifests", "digest", "size", "mediaType", "platform", "urls", "annotations", "Config", "Layers", "RepoTags"]), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip
_FILES = st.dictionaries(
    st.sampled_from(["manifest.json", "index.json", "oci-layout", "version", "a" * 64]),
    _JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30),
    max_size=4,
)


@given(_FILES, st.sampled_from(["dir", "oci"]))
def test_any_folder(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], transport: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    with contextlib.suppress(SandboxError):
        image_of(source_of(Place(transport, str(folder)), None, "", Access()))
    for name in files:
        os.unlink(folder / name)
    folder.rmdir()


@given(st.binary(max_size=600), st.sampled_from(["oci-archive", "docker-archive"]))
def test_any_archive(tmp_path_factory: pytest.TempPathFactory, raw: bytes, transport: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tar"
    path.write_bytes(raw)
    with contextlib.suppress(SandboxError):
        image_of(source_of(Place(transport, str(path)), None, "", Access()))


_LAYERS = st.lists(st.tuples(st.sampled_from(["", "gzip", "zstd"]), st.just("sha256:" + "a" * 64), st.integers(0, 1 << 40)), max_size=4)  # fmt: skip


@given(_LAYERS, st.sampled_from(["oci", "docker"]))
def test_a_manifest_of_the_other_family_names_the_same_layers(layers: list[tuple[str, str, int]], to: str) -> None:
    config = {"mediaType": recode.DOCKER_CONFIG, "digest": "sha256:" + "b" * 64, "size": 7}
    raw, media_type = recode.manifest_as(json.dumps({"config": config, "layers": []}).encode(), to, layers, "x")
    made = json.loads(raw)
    assert recode.family(media_type) == to == recode.family(made["config"]["mediaType"])
    again = [(recode.compression(layer["mediaType"]), layer["digest"], layer["size"]) for layer in made["layers"]]
    assert again == layers


def test_run_takes_the_form_with_docker_in_front(mover: Sbx, pushed: str) -> None:
    name = f"docker://{pushed}/busybox"
    for _ in range(2):
        done = mover("run", "--rm", "--print-config", name, "true")
        assert done.returncode == 0 and '"ociVersion"' in done.stdout, done.stderr
    assert mover("images", "-q", f"{pushed}/busybox").stdout != ""


def test_pull_takes_from_files_too(mover: Sbx, layered_oci: Callable[[int], images.Images], tmp_path: Path) -> None:
    made = layered_oci(3)
    found = set()
    images.call("skopeo", "copy", "-q", made.oci, f"dir:{tmp_path}/dir")
    images.call("skopeo", "copy", "-q", made.oci, f"docker-archive:{tmp_path}/named.tar:quay.io/a/b:3")
    for source in (
        made.oci,
        f"oci-archive:{made.oci_archive}",
        f"docker-archive:{made.docker_archive}",
        f"dir:{tmp_path}/dir",
        f"docker-archive:{tmp_path}/named.tar",
    ):
        done = mover("pull", "-q", source)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1
    assert "quay.io/a/b:3" in mover("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.splitlines()
    done = mover("pull", f"oci-archive:{tmp_path}/none.tar")
    assert done.returncode == 125 and "No such file" in done.stderr
    done = mover("pull", "-a", made.oci)
    assert done.returncode == 125 and "it is in no registry" in done.stderr
    assert mover("system", "check").returncode == 0


@pytest.mark.parametrize("nameless", [True, False])
def test_a_file_gets_its_name_at_the_end(nameless: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def without(path: str, flags: int, *more: int, **others: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, *more, **others)

    if not nameless:
        monkeypatch.setattr(os, "open", without)
    target = tmp_path / "out"
    target.write_text("before")
    path, fd = unfinished.file(str(tmp_path))
    second, other = unfinished.file(str(tmp_path))  # its sweep leaves alone what is being written
    os.write(fd, b"after")
    assert (path == "", target.read_text()) == (nameless, "before")
    unfinished.name(path, fd, str(target))
    os.close(fd)
    os.close(other)
    assert target.read_text() == "after" and target.stat().st_mode & 0o777 == 0o666 & ~_umask()
    third, last = unfinished.file(str(tmp_path))
    os.close(last)
    assert not second or not os.path.exists(second)
    assert {entry.name for entry in tmp_path.iterdir()} == {"out"} | ({os.path.basename(third)} if third else set())


def test_what_another_machine_makes_is_not_swept(tmp_path: Path) -> None:
    """On a shared file system its lock may not be seen."""
    theirs = tmp_path / f".sbx-new-{'0' * 16}"
    theirs.mkdir()
    path, fd = unfinished.folder(str(tmp_path))
    os.close(fd)
    second, fd = unfinished.folder(str(tmp_path))
    os.close(fd)
    assert sorted(map(str, tmp_path.iterdir())) == sorted([str(theirs), second]) and path != second


def test_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS without its daemon, some FUSE: it is written all the same, and nothing is taken for left."""

    def refused(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    found = [unfinished.folder(str(tmp_path)) for _ in range(2)]
    assert sorted(path for path, _ in found) == sorted(map(str, tmp_path.iterdir()))
    for _, fd in found:
        os.close(fd)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
