"""Images of another store, which is only read."""

import json
from pathlib import Path

import pytest
from images import Images, remove_tree
from support import Sbx


def state(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in folder.glob("[!.]*/*"))


@pytest.mark.requires("userns")
@pytest.mark.parametrize("how", ["variable", "file"])
def test_an_image_runs_from_another_store(sbx: Sbx, busybox_oci: Images, tmp_path: Path, how: str) -> None:
    other = Sbx(tmp_path / "other", sbx.environment, sbx.launcher)
    try:
        assert other("load", "-q", "-i", busybox_oci.oci_archive).returncode == 0
        assert other("tag", other("images", "-q").stdout.strip(), "shared:1").returncode == 0
        before = state(other.store)
        environment = {}
        if how == "variable":
            environment = {"SBX_ADDITIONAL_STORES": f"/nonexistent:{other.store}"}
        else:
            environment = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
            (tmp_path / "config/sbx").mkdir(parents=True)
            (tmp_path / "config/sbx/storage.conf").write_text(f'additional_image_stores = ["{other.store}"]\n')
        for _ in range(2):  # the second time from the record
            done = sbx("run", "--pull", "never", "shared:1", "echo", "hello", env=environment)
            assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
        assert list((sbx.store / "layers").glob("*")) == []  # nothing was copied or unpacked
        assert list((sbx.store / "blobs/sha256").iterdir()) == []
        assert state(other.store) == before
        # Without an unpacked layer of the right owners: unpacked here, from the blob there.
        done = sbx("run", "--pull", "never", "--userns", "keep-id", "shared:1", "echo", "mine", env=environment)
        assert (done.returncode, done.stdout) == (0, "mine\n"), done.stderr
        assert len(list((sbx.store / "layers").glob("*"))) >= 1
        assert state(other.store) == before
        assert json.loads(sbx("images", "--json").stdout) == []
    finally:
        remove_tree(other.store)
