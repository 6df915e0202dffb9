"""`-u user[:group]` in an image's passwd and group: as docker resolves it, from files that may be hostile."""

import os

import pytest
from hypothesis import given, settings, strategies as st

from sandbox import spec as oci, users
from sandbox.errors import SandboxError

PASSWD = """root:x:0:0:root:/root:/bin/sh
app:x:1000:1000:an application:/home/app:/bin/sh
twice:x:1:1::/first:/bin/sh
twice:x:2:2::/second:/bin/sh
7:x:77:77::/seven:/bin/sh
nohome:x:8:8:::
broken:x:x:1::/:
short:x:9
neg:x:-1:-1::/:
+::::::
"""
GROUP = "root:x:0:\napp:x:1000:\nextra:x:50:app,other\nmore:x:51:other,app\nbad:x:x:app\nshort:x\nnear:x:52:apple\n"


@pytest.fixture
def root(tmp_path):
    """(descriptor, folder) of an image."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("app", (1000, 1000, [50, 51], "/home/app")),
        ("1000", (1000, 1000, [50, 51], "/home/app")),
        ("app:extra", (1000, 50, [], "/home/app")),
        ("app:77", (1000, 77, [], "/home/app")),
        ("root", (0, 0, [], "/root")),
        ("0", (0, 0, [], "/root")),
        (":extra", (0, 50, [], "/root")),
        ("twice", (1, 1, [], "/first")),
        ("2", (2, 2, [], "/second")),
        ("5", (5, 0, [], "/")),
        ("5:6", (5, 6, [], "/")),
        ("nohome", (8, 8, [], "/")),
        ("4294967294", (4294967294, 0, [], "/")),
        ("7", (7, 0, [], "/")),  # a number is an id, be there a user of that name
    ],
)
def test_resolve(root, text, found):
    assert users.resolve(root, text) == found


@pytest.mark.parametrize(
    "text",
    ["ghost", "broken", "neg", "short", "app:", "app:ghosts", "app:bad", "-1", "+5", "4294967295", "99999999999", "a/b", "\u0665", " 5",
     "app\n", "app:short", ":"],
)  # fmt: skip
def test_I17_users_that_are_none(root, text):
    with pytest.raises(SandboxError) as caught:
        users.resolve(root, text)
    assert caught.value.step in ("find user", "find group")


def test_no_files_at_all(root, tmp_path):
    (tmp_path / "etc/passwd").unlink()
    (tmp_path / "etc/group").unlink()
    assert users.resolve(root, "0") == (0, 0, [], "/root")
    assert users.resolve(root, "12:13") == (12, 13, [], "/")
    with pytest.raises(SandboxError, match="no such user"):
        users.resolve(root, "root")


def test_lines_that_are_too_long_are_passed_over(root, tmp_path):
    (tmp_path / "etc/passwd").write_text(f"big:x:1:1:{'x' * 5000}:/:\nsmall:x:2:2::/:\n")
    assert users.resolve(root, "small")[0] == 2
    with pytest.raises(SandboxError):
        users.resolve(root, "big")


@pytest.mark.parametrize("kind", ["fifo", "folder", "huge", "socket"])
def test_I16_what_is_no_file(root, tmp_path, kind):
    path = tmp_path / "etc/passwd"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with open(path, "w") as file:
            file.truncate(1 << 40)
    else:
        os.mknod(path, 0o140644)
    with pytest.raises(SandboxError) as caught:
        users.resolve(root, "app")
    assert (caught.value.step, caught.value.subject) == ("read", "etc/passwd")


@pytest.mark.parametrize(
    "where", ["/etc/passwd", "../../../../../../../../../etc/passwd", "/proc/self/root/etc/passwd"]
)
def test_I16_links_stay_in_the_image(root, tmp_path, where):
    """The host's passwd has a root; the image's is not there."""
    (tmp_path / "etc/passwd").unlink()
    (tmp_path / "etc/passwd").symlink_to(where)
    with pytest.raises(SandboxError):
        users.resolve(root, "root")


def test_etc_that_is_a_link_out(tmp_path):
    (tmp_path / "image").mkdir()
    (tmp_path / "image/etc").symlink_to("/etc")
    fd = os.open(tmp_path / "image", os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(SandboxError):
            users.resolve(fd, "root")
    finally:
        os.close(fd)


@settings(deadline=None)
@given(st.binary(max_size=200), st.text(max_size=8))
def test_any_passwd_gives_a_user_or_an_error_of_ours(tmp_path_factory, content, text):
    folder = tmp_path_factory.mktemp("image")
    (folder / "etc").mkdir()
    for name in ("passwd", "group"):
        (folder / "etc" / name).write_bytes(content)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        uid, gid, groups, home = users.resolve(fd, text)
    except SandboxError:
        return
    finally:
        os.close(fd)
    assert 0 <= uid < 0xFFFFFFFF and 0 <= gid < 0xFFFFFFFF and all(0 <= g < 0xFFFFFFFF for g in groups)
    assert home


@settings(deadline=None)
@given(st.lists(st.sampled_from(["app", "other", "x", "1000"]), max_size=4))
def test_only_who_is_listed_is_in_a_group(tmp_path_factory, members):
    folder = tmp_path_factory.mktemp("image")
    (folder / "etc").mkdir()
    (folder / "etc/passwd").write_text("app:x:1000:1000::/:\n")
    (folder / "etc/group").write_text(f"g:x:5:{','.join(members)}\n")
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        assert users.resolve(fd, "app")[2] == ([5] if "app" in members else [])
    finally:
        os.close(fd)


def test_complete_fills_the_spec(root):
    spec = oci.skeleton({"uid": [(0, 1, 1)], "gid": [(0, 1, 1)]})
    oci.set_capabilities(spec, ["CAP_CHOWN"], ["CAP_KILL"])
    spec["annotations"].update({"dev.sbx.home": "lookup", "dev.sbx.groups": "extra,99,1000"})
    assert users.complete(spec, root, "app") is True
    assert spec["process"]["user"] == {"uid": 1000, "gid": 1000, "additionalGids": [50, 51, 99], "umask": 0o022}
    assert spec["process"]["env"] == ["HOME=/home/app"]
    assert all(names == ["CAP_KILL"] for names in spec["process"]["capabilities"].values())


def test_complete_without_a_user_keeps_the_ids(root):
    spec = oci.skeleton({"uid": [(0, 1, 1)], "gid": [(0, 1, 1)]})
    oci.set_capabilities(spec, ["CAP_CHOWN"], [])
    spec["annotations"]["dev.sbx.home"] = "lookup"
    users.complete(spec, root, "")
    assert (spec["process"]["user"]["uid"], spec["process"]["env"]) == (0, ["HOME=/root"])
    assert spec["process"]["capabilities"]["effective"] == ["CAP_CHOWN"]


def test_image_without_a_home_line(root, tmp_path):
    """A control character in a passwd would become part of HOME; it stays one variable."""
    (tmp_path / "etc/passwd").write_text("evil:x:5:5::/a=b\x1b[0m:\n")
    assert users.resolve(root, "evil")[3] == "/a=b\x1b[0m"
