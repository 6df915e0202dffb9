"""Removing what a sandbox left: all of it, nothing else, whatever it looks like."""

import os
import resource

import pytest
from hypothesis import given, settings, strategies as st

from sandbox import linux, mounts, trees, userns


def remove(path):
    """trees.remove by path."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        trees.remove(path.name, fd)
    finally:
        os.close(fd)


SINGLE = {"mode": "single", "uid": [(0, os.getuid(), 1)], "gid": [(0, os.getgid(), 1)], "variant": "single", "note": ""}


def test_absent_is_fine(tmp_path):
    remove(tmp_path / "none")


def test_file_and_links_are_removed_too(tmp_path):
    (tmp_path / "target").write_text("stays")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/inner").write_text("stays")
    (tmp_path / "to-folder").symlink_to("folder")
    for name in ("file", "link", "to-folder"):
        remove(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["folder", "target"]
    assert (tmp_path / "folder/inner").read_text() == "stays"


def test_S10_links_are_not_followed(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("stays")
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    for place in (top, top / "a", top / "a/b"):
        (place / "link").symlink_to(tmp_path / "outside")
        (place / "up").symlink_to("../../..")
        os.link(tmp_path / "outside/file", place / "hard")
    remove(top)
    assert os.listdir(tmp_path) == ["outside"]
    assert (tmp_path / "outside/file").read_text() == "stays"


def test_S10_folders_without_permissions(tmp_path):
    top = tmp_path / "top"
    (top / "a/b/c").mkdir(parents=True)
    (top / "a/b/c/file").write_text("")
    (top / "empty").mkdir()
    for path, mode in ((top / "a/b/c", 0), (top / "a/b", 0o111), (top / "a", 0o444), (top / "empty", 0), (top, 0o555)):
        path.chmod(mode)
    remove(top)
    assert os.listdir(tmp_path) == []


def test_odd_files_and_names(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    os.mkfifo(top / "fifo")
    os.mknod(top / "socket", 0o140600)
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b" ", b".sbx-1", b".sbx-2", b"a" * 255):
        os.mkdir(os.path.join(os.fsencode(top), name))
        os.mkdir(os.path.join(os.fsencode(top), name, b"inner"))
        with open(os.path.join(os.fsencode(top), name, b"inner", b"file"), "wb"):
            pass
    remove(top)
    assert os.listdir(tmp_path) == []


def test_names_that_the_walk_uses_itself(tmp_path):
    """Folders are lifted to the top as .sbx-N: such names may be there, as folders and as files."""
    top = tmp_path / "top"
    for number in range(1, 30):
        (top / f".sbx-{number}/x/y").mkdir(parents=True)
        (top / f".sbx-{number}/.sbx-{number}").mkdir()
        (top / f".sbx-{number + 100}").write_text("") if top.exists() else None
    (top / ".sbx-1/x/.sbx-2").mkdir()
    (top / ".sbx-1/x/.sbx-2/file").write_text("")
    remove(top)
    assert os.listdir(tmp_path) == []


def test_deep_trees_take_no_recursion_and_few_descriptors(tmp_path):
    """Deeper than PATH_MAX and than Python's stack."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    os.mkdir("top", dir_fd=fd)
    here = os.open("top", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
    for _ in range(3000):
        os.mkdir("d" * 10, dir_fd=here)
        inner = os.open("d" * 10, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(int(number) for number in os.listdir("/proc/self/fd")) + 40  # who runs the tests has some open
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, most), hard))
    try:
        trees.remove("top", fd)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if os.path.exists(tmp_path / "top"):
            trees.remove("top", fd)  # pytest could not
        os.close(fd)
    assert os.listdir(tmp_path) == []


def test_wide_trees(tmp_path):
    for number in range(300):
        (tmp_path / f"top/{number}/a/b").mkdir(parents=True)
        (tmp_path / f"top/{number}/a/b/file").write_text("")
    remove(tmp_path / "top")
    assert os.listdir(tmp_path) == []


@pytest.mark.requires("userns", "mount")
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_S10_mounts_are_not_entered(tmp_path, kind):
    """A tmpfs has a device number of its own; a bind of a folder next to it has the same."""
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary/file").write_text("stays")
    (tmp_path / "top/point").mkdir(parents=True)

    def inside():
        os.chdir(tmp_path)
        point = os.open("top/point", os.O_PATH | os.O_DIRECTORY)
        bind = kind == "bind"
        fd = mounts.tree("canary", recursive=False) if bind else mounts.filesystem("tmpfs", "tmpfs", 0, ())
        linux.move_mount(fd, point)
        if kind == "tmpfs":
            os.mkdir("top/point/inner")
        here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        found = []
        for folder, name in ((here, "top"), (os.open("top", os.O_RDONLY | os.O_DIRECTORY), "point")):
            try:
                trees.remove(name, folder)
            except OSError as error:
                found.append(error.errno)
        return [found, os.listdir("top/point"), os.listdir("canary")]

    found, below, canary = userns.call(SINGLE, inside)
    assert found == [18, 18]  # EXDEV
    assert below == (["inner"] if kind == "tmpfs" else ["file"])
    assert canary == ["file"]


names = st.sampled_from(["a", "b", ".sbx-1", ".sbx-2", ".sbx-3", "c d"])
files = st.sampled_from(["file", "link", "fifo"])
shapes = st.recursive(
    st.dictionaries(names, files, max_size=3),
    lambda inner: st.dictionaries(names, st.one_of(files, inner), max_size=3),
    max_leaves=20,
)


def build(path, shape, modes):
    path.mkdir()
    for name, content in shape.items():
        if content == "file":
            (path / name).write_text("x")
        elif content == "link":
            (path / name).symlink_to("..")
        elif content == "fifo":
            os.mkfifo(path / name)
        else:
            build(path / name, content, modes)
    path.chmod(modes.pop() if modes else 0o755)


@settings(max_examples=60, deadline=None)
@given(shapes, st.lists(st.sampled_from([0o755, 0, 0o500, 0o111]), max_size=20))
def test_S10_every_tree_is_removed(tmp_path_factory, shape, modes):
    folder = tmp_path_factory.mktemp("tree")
    build(folder / "top", shape, list(modes))
    (folder / "beside").write_text("stays")
    remove(folder / "top")
    assert os.listdir(folder) == ["beside"]
