"""mount and umount inside `sbx unshare`."""

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")


@pytest.mark.parametrize("driver", ["overlay", "copy"])
def test_mount(sbx_in, driver):
    sbx_in("run", "--name", "c", "--storage-driver", driver, sbx_in.image, "sh", "-c", "echo x >/new")
    sbx = sbx_in.sbx.launcher
    script = f'd=$({sbx} mount c) && cat "$d/new" && echo y >"$d/new" && {sbx} mount | cut -d" " -f3 | grep -c "$d" && {sbx} umount c && {sbx} umount c'
    done = sbx_in("unshare", "sh", "-c", script, code=125)
    assert done.stdout == "x\n1\nc\n"
    assert done.stderr == "sbx: unmount container `c`: it is not mounted here\n"
    assert sbx_in.out("cp", "c:/new", "-").count("y\n") == 1
    assert [path.name for path in (sbx_in.sbx.store / "containers").glob("*/merged")] == []


def test_mount_of_what_can_not_be(sbx_in):
    sbx_in.live()
    done = sbx_in("mount", "c", code=125)
    assert done.stderr.startswith("sbx: mount container `c`: it takes a user namespace")
    done = sbx_in("unshare", sbx_in.sbx.launcher, "mount", "c", code=125)
    assert done.stderr.startswith("sbx: mount container `c`: it is running")
