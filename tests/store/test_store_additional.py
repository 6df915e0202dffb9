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


@pytest.mark.requires("userns")
def test_a_short_name_leads_there_too(sbx: Sbx, busybox_oci: Images, tmp_path: Path) -> None:
    (tmp_path / "registries.conf").write_text('[aliases]\ntool = "ghcr.io/team/tool"\n')
    other = Sbx(tmp_path / "other", sbx.environment, sbx.launcher)
    own = {"SBX_ADDITIONAL_STORES": str(other.store), "SBX_REGISTRIES_CONF": str(tmp_path / "registries.conf")}
    try:
        assert other("copy", "-q", busybox_oci.oci, "store:ghcr.io/team/tool:1").returncode == 0
        done = sbx("run", "--pull", "never", "tool:1", "echo", "theirs", env=own)
        assert (done.returncode, done.stdout) == (0, "theirs\n"), done.stderr
        assert list((sbx.store / "blobs/sha256").iterdir()) == []
        # The own store comes first, by whatever name it has it.
        assert sbx("copy", "-q", busybox_oci.oci, "store:ghcr.io/team/tool:1").returncode == 0
        remove_tree(other.store / "blobs")
        done = sbx("run", "--pull", "never", "tool:1", "echo", "ours", env=own)
        assert (done.returncode, done.stdout) == (0, "ours\n"), done.stderr
    finally:
        remove_tree(other.store)
