"""`system check`: what it finds, what --repair does, and that parallel, killed commands leave a store that it likes."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from images import Layout, entry, tar
from support import Sbx

pytestmark = pytest.mark.requires("userns")


def layout(path: Path) -> Path:
    made = Layout(path / "layout")
    base = [entry(f"f{n}", os.urandom(2000), uid=n % 5) for n in range(300)]
    made.image("base", [tar(entry("bin", None), *base)], {})
    made.image("more", [tar(*[entry(f"g{n}", os.urandom(20000)) for n in range(40)])], {}, base="base")
    made.image("other", [tar(*[entry(f"h{n}", os.urandom(20000)) for n in range(40)])], {})
    return path / "layout"


@pytest.fixture
def full(sbx: Sbx, tmp_path: Path) -> Sbx:
    done = sbx("load", "-q", "-i", layout(tmp_path))
    assert done.returncode == 0, done.stderr
    return sbx


def check(sbx: Sbx, *words: str) -> list[tuple[str, str, str]]:
    """(kind, what, detail) of all findings; the exit status says the same."""
    done = sbx("system", "check", "--json", *words)
    found = [(row["kind"], row["what"], row["detail"]) for row in json.loads(done.stdout)]
    assert (done.returncode, done.stderr) == (1 if found else 0, ""), done.stderr
    return found


def layer_of(sbx: Sbx, image: str, number: int) -> Path:
    [document] = json.loads(sbx("inspect", image).stdout)
    diff_id = document["RootFS"]["Layers"][number].partition(":")[2]
    [path] = (sbx.store / "layers").glob(f"{diff_id}*")
    return path


def test_a_whole_store(full: Sbx) -> None:
    assert check(full) == [] == check(full, "--quick")


def test_folders_that_no_entry_names_and_deep_ones(sbx: Sbx, tmp_path: Path) -> None:
    deep = "/".join(["d"] * 511)
    entries = [entry(f"{deep}/f", b"x"), entry("a/b", b"y"), entry("a", None)]
    for moment, (info, _) in zip((5, 7, 9), entries, strict=True):
        info.mtime = moment
    made = Layout(tmp_path / "layout")
    made.image("deep", [tar(*entries)], {})
    assert sbx("load", "-q", "-i", tmp_path / "layout").returncode == 0
    assert check(sbx) == []  # a second unpacking is the same to the nanosecond
    top = layer_of(sbx, "deep", 0) / "fs"
    assert [(top / name).stat().st_mtime for name in ("d", "d/d", "a", "a/b")] == [5, 5, 9, 7]
    few = Sbx(sbx.store, sbx.environment, "/bin/sh")
    for words in (("system", "check"), ("system", "df"), ("rmi", "deep"), ("system", "check")):
        done = few("-c", 'ulimit -n 100; exec "$@"', "sh", sbx.launcher, *words)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("damage", "detail"),
    [
        ("printf x >> f1", "./f1: another time"),
        ("rm f2", "./f2: is missing"),
        ("touch zz", "./zz: does not belong there"),
        ("chmod 600 f3", "./f3: mode 100600, not 100644"),
        ("chown 9 f4", "./f4: belongs to 9:0, not 4:0"),
        (
            "touch -r f5 /tmp/.sbx-ref$$; printf x | dd of=f5 conv=notrunc 2>&-; touch -r /tmp/.sbx-ref$$ f5; rm /tmp/.sbx-ref$$",
            "./f5: other content",
        ),
    ],
)
def test_a_damaged_layer_is_found_and_unpacked_again(full: Sbx, damage: str, detail: str) -> None:
    path = layer_of(full, "base", 0) / "fs"
    done = full("unshare", "sh", "-c", f"cd {path} && {damage}")
    assert done.returncode == 0, done.stderr
    assert check(full, "--quick") == []
    [(kind, what, told)] = check(full)
    assert (kind, what) == ("broken", "layer") and (told == detail or ": another time" in told)
    assert full("system", "check", "--repair").returncode == 0
    assert check(full) == []
    assert full("inspect", "more").returncode == 0


def test_a_damaged_blob_takes_its_images_along_and_no_other(full: Sbx) -> None:
    [document] = json.loads(full("inspect", "other").stdout)
    index = json.loads((full.store / "index.json").read_text())
    [digest] = [
        layer["digest"]
        for one in index["manifests"] if one["digest"] == document["Digest"]
        for layer in json.loads((full.store / "blobs" / one["digest"].replace(":", "/")).read_text())["layers"]
    ]  # fmt: skip
    path = full.store / "blobs" / digest.replace(":", "/")
    raw = bytearray(path.read_bytes())
    raw[700] ^= 1
    path.write_bytes(raw)
    assert [(kind, what) for kind, what, _ in check(full)] == [("broken", "blob")]
    done = full("system", "check", "--repair")
    assert (done.returncode, done.stderr) == (0, "sbx: image removed, pull or load it again: localhost/other:latest\n")
    assert check(full) == []
    assert set(full("images", "--format", "{{.Repository}}").stdout.split()) == {"localhost/base", "localhost/more"}
    assert not layer_exists(full, document["RootFS"]["Layers"][0])


def layer_exists(sbx: Sbx, diff_id: str) -> bool:
    return bool(list((sbx.store / "layers").glob(f"{diff_id.partition(':')[2]}*")))


def test_what_belongs_to_nothing(full: Sbx) -> None:
    (full.store / "blobs/sha256" / ("0" * 64)).write_bytes(b"")
    (full.store / "layers" / ("1" * 64) / "fs").mkdir(parents=True)
    (full.store / "layers" / ".new-x").mkdir()
    (full.store / ".new-y").write_text("")
    found = check(full)
    assert sorted((kind, what) for kind, what, _ in found) == [
        ("left", "blob"), ("left", "file"), ("left", "file"), ("left", "layer"),
    ]  # fmt: skip
    assert full("system", "prune", "--force").returncode == 0
    assert check(full) == []
    assert len(full("images", "-q").stdout.split()) == 3


def test_a_broken_index_is_told_and_not_repaired(full: Sbx) -> None:
    (full.store / "index.json").write_text("{")
    [(kind, what, _)] = check(full)
    assert (kind, what) == ("broken", "index")
    done = full("system", "check", "--repair")
    assert done.returncode == 125 and "sbx system reset" in done.stderr
    assert len(list((full.store / "blobs/sha256").iterdir())) > 3


# -- parallel and killed --


def contents(sbx: Sbx) -> dict[str, list[str]]:
    return {name: sorted(os.listdir(sbx.store / name)) for name in ("blobs/sha256", "layers")}


@pytest.mark.slow
def test_S04_parallel_commands_killed_at_random(sbx: Sbx, tmp_path: Path) -> None:
    """What was complete stays, what was not goes, the space comes back; for 20 seconds."""
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    source = layout(tmp_path)
    single = Layout(tmp_path / "keep")
    single.image("keep", [tar(entry("keep", b"keep" * 1000, uid=3))], {})
    assert sbx("load", "-q", "-i", tmp_path / "keep").returncode == 0
    before = contents(sbx)
    commands = (
        ("load", "-q", "-i", str(source)), ("load", "-q", "-i", str(source)), ("rmi", "-f", "base", "more"),
        ("rmi", "-f", "other"), ("image", "prune", "-f"), ("tag", "keep", "again"), ("untag", "keep", "again"),
        ("system", "prune", "-f"), ("images", "-q"),
    )  # fmt: skip
    running: list[tuple[subprocess.Popen[str], float, tuple[str, ...]]] = []
    ended = killed = 0
    end = time.monotonic() + 20
    while time.monotonic() < end or running:
        if len(running) < 4 and time.monotonic() < end:
            words = chance.choice(commands)
            running.append((sbx.popen(*words), time.monotonic() + chance.uniform(0.01, 0.8), words))
        for one in list(running):
            process, until, words = one
            if process.poll() is not None:
                _, err = process.communicate()
                assert process.returncode in (0, 125, -9), (seed, words, err)
                assert "Traceback" not in err and "internal error" not in err, (seed, words, err)
                ended += 1
                running.remove(one)
            elif time.monotonic() > until:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                killed += 1
                running.remove(one)
        time.sleep(0.005)
    assert ended > 10 and killed > 10, (ended, killed)
    time.sleep(0.5)  # children of killed ones die with them
    # Whatever was left is only what sweeps remove, nothing is broken.
    assert {kind for kind, _, _ in check(sbx)} <= {"left"}, seed
    assert sbx("system", "prune", "-f").returncode == 0
    assert check(sbx) == [], seed
    assert sbx("load", "-q", "-i", source).returncode == 0
    assert check(sbx) == [], seed
    assert sbx("rmi", "-f", "base", "more", "other").returncode == 0
    assert sbx("image", "prune", "-f").returncode == 0
    assert contents(sbx) == before, seed
    assert sbx("inspect", "keep").returncode == 0
    assert check(sbx) == [], seed
