"""Mount options on paper; mount targets in a root that may be hostile, in a real namespace."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from sandbox import linux, mounts, userns
from sandbox.errors import SandboxError

SINGLE = {"mode": "single", "uid": [(0, os.getuid(), 1)], "gid": [(0, os.getgid(), 1)], "variant": "single", "note": ""}
RO, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8

# -- options --


@pytest.mark.parametrize(
    ("options", "split"),
    [
        ((), (0, 0, [])),
        (("ro", "nosuid", "nodev", "noexec"), (15, 0, [])),
        (("ro", "rw"), (0, RO, [])),
        (("rw", "ro"), (RO, 0, [])),
        (("nosuid", "suid", "nodev"), (NODEV, NOSUID, [])),
        (("bind", "rbind", "private", "rprivate"), (0, 0, [])),
        (("size=1m", "noexec", "mode=700", "newinstance"), (NOEXEC, 0, ["size=1m", "mode=700", "newinstance"])),
        (("relatime", "noatime"), (0x10, 0, [])),
    ],
)
def test_split_options(options, split):
    assert mounts.split_options(options) == split


@settings(deadline=None)
@given(st.lists(st.sampled_from([*mounts.ATTRIBUTES, *mounts.BINDS, *mounts.PROPAGATION, "size=1m", "x"])))
def test_the_last_word_on_an_attribute_counts(options):
    attributes, cleared, rest = mounts.split_options(options)
    assert attributes & cleared == 0
    assert rest == [option for option in options if option in ("size=1m", "x")]
    for on, off, bit in (
        (("ro", "rro"), "rw", RO),
        (("nosuid",), "suid", NOSUID),
        (("nodev",), "dev", NODEV),
        (("noexec",), "exec", NOEXEC),
    ):
        said = [option for option in options if option in (*on, off)]
        assert bool(attributes & bit) == (said != [] and said[-1] in on)
        assert bool(cleared & bit) == (said[-1:] == [off])


# -- targets: no namespace is needed to make them --


@pytest.fixture
def root(tmp_path):
    """(descriptor, path) of a root; next to it a canary that links may point to."""
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "canary").mkdir()
    fd = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    yield fd, tmp_path / "root"
    os.close(fd)
    assert os.listdir(tmp_path / "canary") == []
    assert sorted(os.listdir(tmp_path)) == ["canary", "root"]


def where(fd):
    """The path behind a descriptor, which is closed."""
    try:
        return Path(os.readlink(f"/proc/self/fd/{fd}"))
    finally:
        os.close(fd)


@pytest.mark.parametrize("directory", [True, False])
@pytest.mark.parametrize("path", ["/new", "/etc/new", "/a/b/c", "/etc/../x", "/../../../y"])
def test_target_is_made(root, path, directory):
    fd, folder = root
    found = where(mounts.target(fd, path, directory=directory))
    assert found.is_relative_to(folder)
    assert found.is_dir() == directory
    assert found.stat().st_mode & 0o777 == (0o755 if directory else 0o644) or os.umask(os.umask(0)) != 0


def test_target_that_is_there_is_left_as_it_is(root):
    fd, folder = root
    (folder / "etc/file").write_text("content")
    assert where(mounts.target(fd, "/etc/file", directory=False)) == folder / "etc/file"
    assert (folder / "etc/file").read_text() == "content"


@pytest.mark.parametrize("climb", ["", "../../../../../../../.."])
@pytest.mark.parametrize("below", ["", "/x/y"])
def test_links_lead_inside(root, tmp_path, climb, below):
    fd, folder = root
    (folder / "link").symlink_to(f"{climb}{tmp_path}/canary")
    found = where(mounts.target(fd, f"/link{below}", directory=True))
    assert found == folder / str(tmp_path).lstrip("/") / f"canary{below}"


def test_chain_of_dangling_links(root):
    fd, folder = root
    (folder / "etc/resolv.conf").symlink_to("../run/a")
    (folder / "run").mkdir()
    (folder / "run/a").symlink_to("/var/b")
    found = where(mounts.target(fd, "/etc/resolv.conf", directory=False))
    assert found == folder / "var/b"
    assert found.is_file()


def test_links_in_a_circle(root):
    fd, folder = root
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    with pytest.raises(SandboxError) as caught:
        mounts.target(fd, "/a", directory=False)
    assert (caught.value.step, caught.value.errno) == ("open mount target", 40)


def test_ever_longer_links(root):
    """Each points to something new below itself: the number of steps is limited."""
    fd, folder = root
    for number in range(20):
        (folder / f"l{number}").symlink_to(f"l{number + 1}")
    with pytest.raises(SandboxError):
        mounts.target(fd, "/l0/x", directory=True)


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_no_links_where_the_kernel_shows_itself(root, tmp_path, name):
    fd, folder = root
    (folder / name).symlink_to(tmp_path / "canary")
    for path in (f"/{name}", f"/{name}/sub"):
        with pytest.raises(SandboxError) as caught:
            mounts.target(fd, path, directory=True)
        assert (caught.value.step, caught.value.subject, caught.value.errno) == ("open mount target", path, 40)
    # A name that only begins so is another folder.
    (folder / f"{name}x").symlink_to("etc")
    assert where(mounts.target(fd, f"/{name}x", directory=True)) == folder / "etc"


def test_a_file_in_the_way(root):
    fd, folder = root
    (folder / "file").write_text("")
    with pytest.raises(SandboxError) as caught:
        mounts.target(fd, "/file/below", directory=True)
    assert caught.value.errno == 20


parts = st.lists(st.sampled_from(["a", "b", "etc", "..", ".", "link", "up", "abs"]), min_size=1, max_size=5)


@settings(deadline=None)
@given(parts, st.booleans())
def test_no_path_leads_outside(tmp_path_factory, path, directory):
    base = tmp_path_factory.mktemp("base")
    folder = base / "root"
    (folder / "etc").mkdir(parents=True)
    (folder / "link").symlink_to("etc/deep/er")
    (folder / "up").symlink_to("../../../../..")
    (folder / "abs").symlink_to(str(base))
    (folder / "etc/link").symlink_to("/abs/outside")
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        found = where(mounts.target(fd, "/" + "/".join(path), directory=directory))
    except SandboxError:
        found = folder
    finally:
        os.close(fd)
    assert found.is_relative_to(folder)
    assert os.listdir(base) == ["root"]


# -- mounts, in a namespace --

namespace = pytest.mark.requires("userns", "mount")


def inside(function):
    """The result of `function` as root of a new namespace; what it mounts is gone afterwards."""
    return userns.call(SINGLE, function)


@namespace
def test_attach_and_restrict(tmp_path):
    for name in ("root/v", "source/sub"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "source/file").write_text("content")

    def work():
        os.chdir(tmp_path)
        root = os.open("root", os.O_PATH | os.O_DIRECTORY)
        fd = mounts.tree("source", recursive=True)
        mounts.restrict(fd, RO | NOSUID, 0, "v")
        mounts.attach(fd, root, "/v")
        with open("root/v/file") as file:
            text = file.read()
        try:
            os.mkdir("root/v/new")
        except OSError as error:
            return [text, error.errno]
        return [text, 0]

    assert inside(work) == ["content", 30]


@namespace
def test_attach_needs_the_same_kind(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "root/folder").mkdir(parents=True)
    (tmp_path / "root/file").write_text("")

    def work():
        os.chdir(tmp_path)
        root = os.open("root", os.O_PATH | os.O_DIRECTORY)
        mounts.attach(mounts.tree("folder", recursive=False), root, "/file")

    with pytest.raises(SandboxError, match="the target is a file, what is mounted is a directory"):
        inside(work)


@namespace
def test_mask_and_read_only(tmp_path):
    for name in ("root/secret", "root/ro"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("content")
    (tmp_path / "root/one").write_text("content")
    (tmp_path / "root/link").symlink_to("one")
    (tmp_path / "root/away").symlink_to(tmp_path / "canary")

    def work():
        os.chdir(tmp_path)
        root = os.open("root", os.O_PATH | os.O_DIRECTORY)
        null = os.open("/dev/null", os.O_PATH)  # attached: before Linux 6.15 nothing else can be copied
        for path in ("/secret", "/one", "/none", "/one/below", "/away", "/link"):
            mounts.mask(root, path, null)
        for path in ("/ro", "/none"):
            mounts.make_readonly(root, path)
        found = [os.listdir("root/secret"), os.stat("root/one").st_rdev]
        for path in ("root/secret/x", "root/ro/x"):
            try:
                os.mkdir(path)
            except OSError as error:
                found.append(error.errno)
        return found

    assert inside(work) == [[], os.makedev(1, 3), 30, 30]
    assert (tmp_path / "root/one").read_text() == "content"


@namespace
@pytest.mark.skipif(os.getuid() == 0, reason="a folder of somebody else is wanted")
def test_mask_below_a_closed_folder(tmp_path):
    """/root belongs to an id that is not mapped: what can not be reached is covered from above."""
    if os.access("/root", os.X_OK):
        pytest.skip("/root is open here")

    def work():
        root = os.open("/", os.O_PATH | os.O_DIRECTORY)
        mounts.mask(root, "/root/deep/er", mounts.tree("/dev/null", recursive=False))
        return os.listdir("/root")

    assert inside(work) == []


@namespace
def test_unknown_file_system_and_option():
    def unknown():
        mounts.filesystem("nosuchfs", "x", 0, ())

    with pytest.raises(SandboxError) as caught:
        inside(unknown)
    assert (caught.value.step, caught.value.errno) == ("mount nosuchfs", 19)

    def option():
        mounts.filesystem("tmpfs", "x", 0, ("bogus=1",))

    with pytest.raises(SandboxError) as caught:
        inside(option)
    assert (caught.value.step, caught.value.errno) == ("mount tmpfs", 22)


@namespace
def test_source_that_is_not_there(tmp_path):
    def work():
        mounts.tree(f"{tmp_path}/none", recursive=True)

    with pytest.raises(SandboxError) as caught:
        inside(work)
    assert (caught.value.step, caught.value.subject, caught.value.errno) == (
        "open volume source",
        f"{tmp_path}/none",
        2,
    )


@namespace
def test_bind_without_the_mounts_below_is_refused_by_the_kernel():
    """/dev of the host has mounts below it that a less privileged namespace must not uncover."""

    def work():
        try:
            linux.open_tree(linux.AT_FDCWD, "/dev", linux.OPEN_TREE_CLONE)
        except OSError as error:
            alone = error.errno
        else:
            alone = 0
        fd = mounts.tree("/dev", recursive=False)
        return [alone, os.stat(fd).st_mode & 0o170000]

    assert inside(work) in ([22, 0o040000], [0, 0o040000])
