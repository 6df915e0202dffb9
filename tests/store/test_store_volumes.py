"""Volumes as the verbs about the whole store see them: sizes, what is not needed, what is left over."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
from images import Images
from support import Sbx

pytestmark = pytest.mark.requires("userns", "overlay")


@pytest.fixture
def box(sbx: Sbx, busybox_oci: Images) -> str:
    done = sbx("load", "-q", "-i", busybox_oci.docker_archive)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def ok(sbx: Sbx, *words: str) -> str:
    done = sbx(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def row(sbx: Sbx) -> dict[str, Any]:
    """The row of volumes; all rows together are what du says."""
    rows = json.loads(ok(sbx, "system", "df", "--format", "json"))
    said = int(ok(sbx, "unshare", "du", "-s", "--block-size=1", str(sbx.store)).split()[0])
    assert sum(one["RawSize"] for one in rows) == said
    found: dict[str, Any] = next(one for one in rows if one["Type"] == "Local Volumes")
    return found


def write(sbx: Sbx, box: str, volume: str, megabytes: int, *words: str) -> None:
    script = f"mkdir -m 700 /v/d; dd if=/dev/urandom of=/v/d/f bs=1M count={megabytes} 2>/dev/null; ln /v/d/f /v/d/g"
    ok(sbx, "run", "-v", f"{volume}:/v", *words, box, "sh", "-c", script)


def test_df_counts_volumes_as_du_does(sbx: Sbx, box: str) -> None:
    assert row(sbx) | {"Size": "", "Reclaimable": ""} == {
        "Type": "Local Volumes", "Total": 0, "Active": 0, "RawSize": 0, "RawReclaimable": 0, "Size": "", "Reclaimable": "",
    }  # fmt: skip
    ok(sbx, "volume", "create", "empty")
    write(sbx, box, "used", 3, "--name", "one", "-u", "1000:100", "--cap-add", "DAC_OVERRIDE")
    write(sbx, box, "kept", 2, "--userns", "keep-id")
    found = row(sbx)
    assert (found["Total"], found["Active"]) == (3, 1)
    # The hard link counts once; folders that only a subordinate id may enter are counted too.
    assert 5 << 20 <= found["RawSize"] < 6 << 20
    assert 2 << 20 <= found["RawReclaimable"] < 3 << 20
    shown = ok(sbx, "system", "df", "-v").partition("Local Volumes space usage:")[2].split("\n")
    cells = {line.split()[0]: line.split()[1:] for line in shown if line.strip()}
    assert cells["VOLUME"] == ["NAME", "LINKS", "SIZE"]
    assert (cells["used"][0], cells["kept"][0], cells["empty"][0]) == ("1", "0", "0")
    assert cells["used"][1].startswith("3.") and cells["used"][2] == "MB"
    ok(sbx, "rm", "one")
    assert row(sbx)["RawReclaimable"] == found["RawSize"]


def names(sbx: Sbx) -> set[str]:
    return set(ok(sbx, "volume", "ls", "-q").split())


def test_prune_takes_volumes_when_it_is_told_to(sbx: Sbx, box: str) -> None:
    ok(sbx, "volume", "create", "--label", "keep=yes", "labelled")
    ok(sbx, "volume", "create", "plain")
    write(sbx, box, "ended", 1, "--name", "one")
    write(sbx, box, "free", 4)
    ok(sbx, "run", "-d", "--name", "two", "-v", "running:/v", box, "sleep", "100")
    everything = {"labelled", "plain", "ended", "free", "running"}
    try:
        assert "Deleted Volumes" not in ok(sbx, "system", "prune", "-f")
        assert names(sbx) == everything and "one" not in ok(sbx, "ps", "-a")
        assert "Deleted Volumes" not in ok(sbx, "system", "prune", "-f", "--volumes", "--filter", "until=1h")
        said = ok(sbx, "system", "prune", "-f", "--volumes", "--filter", "label!=keep")
        volumes, _, total = said.partition("Deleted Volumes\n")[2].partition("Total reclaimed space: ")
        assert set(volumes.split()) == {"plain", "ended", "free"}
        assert total.strip().endswith("MB") and float(total.split()[0]) > 4
        assert names(sbx) == {"labelled", "running"}
        assert "Deleted Volumes\nlabelled\nTotal" in ok(sbx, "system", "prune", "-f", "--volumes")
        assert names(sbx) == {"running"}
    finally:
        ok(sbx, "rm", "-f", "-t", "0", "two")
    ok(sbx, "system", "prune", "-f", "--volumes")
    assert names(sbx) == set() and list((sbx.store / "volumes").iterdir()) == []


def check(sbx: Sbx, *words: str) -> set[tuple[str, str, str]]:
    done = sbx("system", "check", "--json", "--quick", *words)
    found = {(one["kind"], one["what"], one["name"]) for one in json.loads(done.stdout)}
    assert done.returncode == (1 if found else 0), done.stderr
    return found


def test_check_finds_what_is_left_of_volumes(sbx: Sbx, box: str) -> None:
    for name in ("whole", "headless", "bodyless"):
        write(sbx, box, name, 1)
    folder = sbx.store / "volumes"
    assert check(sbx) == set()
    # As killed commands leave them: half made, half removed, both with files of subordinate ids.
    for name in ("x", "y"):
        write(sbx, box, name, 1)
    (folder / "x").rename(folder / ".new-0123456789abcdef")
    (folder / "y").rename(folder / ".old-0123456789abcdef")
    (folder / "headless/about").unlink()
    ok(sbx, "unshare", "rm", "-r", str(folder / "bodyless/data"))
    expected = {
        ("left", "volume", ".new-0123456789abcdef"), ("left", "volume", ".old-0123456789abcdef"),
        ("broken", "volume", "headless"), ("broken", "volume", "bodyless"),
    }  # fmt: skip
    assert check(sbx) == expected
    # What somebody holds is being made.
    fd = os.open(folder / ".new-0123456789abcdef", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    assert check(sbx) == {one for one in expected if one[2][:4] != ".new"}
    os.close(fd)
    done = sbx("system", "check", "--quick", "--repair")
    assert done.returncode == 1 and "not repaired: broken volume headless: it has no record" in done.stderr
    assert check(sbx) == {one for one in expected if one[0] == "broken"}
    # Nobody's only copy is removed.
    assert sorted(Path(folder).iterdir()) == [folder / "bodyless", folder / "headless", folder / "whole"]
    assert ok(sbx, "run", "-v", "whole:/v", box, "ls", "/v/d") == "f\ng\n"
    ok(sbx, "unshare", "rm", "-r", str(folder / "headless"))
    ok(sbx, "volume", "rm", "bodyless", "whole")
    assert check(sbx) == set()


def test_an_anonymous_volume_of_a_killed_command_is_left(sbx: Sbx, box: str) -> None:
    process = sbx.popen("run", "-v", "/v", box, "sh", "-c", "echo up; sleep 100")
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    [volume] = [path.name for path in (sbx.store / "volumes").iterdir()]
    assert check(sbx) == set()
    assert row(sbx)["Active"] == 1
    os.killpg(process.pid, 9)
    process.communicate()
    containers = [path.name for path in (sbx.store / "containers").iterdir() if path.name[0] != "."]
    for _ in range(200):  # the kernel ends the keeper's namespaces
        if check(sbx) != set():
            break
    assert check(sbx) == {("left", "container", containers[0])}
    # Its container is gone, by a command that was killed before it came to the volume.
    ok(sbx, "unshare", "rm", "-r", str(sbx.store / "containers" / containers[0]))
    assert check(sbx) == {("left", "volume", volume)}
    assert sbx("system", "check", "--quick", "--repair").returncode == 0
    assert check(sbx) == set() and list((sbx.store / "volumes").iterdir()) == []
