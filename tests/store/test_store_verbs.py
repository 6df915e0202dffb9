"""Verbs about images that lie in the store: names, lists, filters, history, sizes, what is removed."""

import gzip
import json
import lzma
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from images import Layout, entry, remove_tree, tar
from support import TREE, Sbx

from sandbox.image.store import Store
from sandbox.transfer.pulling import name_stored


def layout(path: Path) -> Path:
    """Three images: `base`, `more` on top of it, `other`."""
    made = Layout(path / "layout")
    made.image("base", [tar(entry("a", b"a" * 5000), entry("d", None, mode=0o700, uid=7))], {"Labels": {"k": "v"}})
    made.image("more", [tar(entry("b", b"b" * 9000, uid=33))], {"Labels": {"k": "w", "only": "more"}}, base="base")
    made.image("other", [tar(entry("c", b"c"))], {})
    return path / "layout"


@pytest.fixture
def full(sbx: Sbx, tmp_path: Path) -> Sbx:
    done = sbx("load", "-q", "-i", layout(tmp_path))
    assert done.returncode == 0, done.stderr
    return sbx


def lines(sbx: Sbx, *words: str) -> list[str]:
    done = sbx(*words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


NAMES = ("images", "--format", "{{.Repository}}:{{.Tag}}")


def test_names_come_and_go(full: Sbx) -> None:
    assert lines(full, "tag", "base", "quay.io/team/app:1", "second") == []
    assert set(lines(full, *NAMES)) == {
        "localhost/base:latest", "quay.io/team/app:1", "localhost/second:latest", "localhost/more:latest",
        "localhost/other:latest",
    }  # fmt: skip
    ids = lines(full, "images", "-q", "--no-trunc")
    assert len(ids) == 3  # one image, three names
    # A name moves; the image that had it stays, as long as it has another.
    lines(full, "tag", "other", "second")
    assert lines(full, "inspect", "-f", "{{.RepoTags}}", "other") == [
        "[localhost/other:latest localhost/second:latest]"
    ]
    lines(full, "untag", "base", "quay.io/team/app:1")
    done = full("untag", "base", "never")
    assert done.returncode == 125 and "the image has no such name" in done.stderr
    lines(full, "untag", "base")
    assert "<none>:<none>" in lines(full, *NAMES)  # it takes space, so it is shown
    assert lines(full, *NAMES, "--all") == lines(full, *NAMES)
    assert len(lines(full, *NAMES, "--filter", "dangling=true")) == 1
    [removed] = lines(full, "image", "prune", "-f")
    assert f"sha256:{removed}" in ids
    assert lines(full, "images", "-aq", "-f", "dangling=true") == []
    assert full("run", "--rm", "--print-config", "more", "x").returncode == 0  # its lower layer was base's


def test_a_name_with_a_digest_is_refused(full: Sbx) -> None:
    done = full("tag", "base", "x@sha256:" + "0" * 64)
    assert done.returncode == 125 and "a name with a digest can not be given" in done.stderr
    assert full("tag", "base", "UPPER").returncode == 125


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["label=k"], {"base", "more"}),
        (["label=k=v"], {"base"}),
        (["label=k", "label=only"], {"more"}),
        (["label!=k"], {"other"}),
        (["reference=*o*"], {"more", "other"}),
        (["reference=localhost/ba*:latest"], {"base"}),
        (["reference=base", "reference=other"], {"base", "other"}),
        (["until=2000-01-01T00:00:00Z"], {"base", "more", "other"}),  # they say nothing of their age
        (["since=base"], set()),
        (["intermediate=true"], set()),
        (["dangling=false"], {"base", "more", "other"}),
    ],
)
def test_filters(full: Sbx, texts: list[str], expected: set[str]) -> None:
    words = [word for text in texts for word in ("--filter", text)]
    assert set(lines(full, "images", "--format", "{{.Repository}}", *words)) == {
        f"localhost/{name}" for name in expected
    }


@pytest.mark.parametrize("text", ["color=red", "dangling", "dangling=perhaps", "until=soon", "before=nothing"])
def test_filters_that_make_no_sense(full: Sbx, text: str) -> None:
    done = full("images", "--filter", text)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("sbx: ") and "Traceback" not in done.stderr


def test_newest_first(full: Sbx, tmp_path: Path) -> None:
    for name in ("early", "late"):
        (tmp_path / f"{name}.tar").write_bytes(tar(entry(name, b"")))
        lines(full, "import", "-q", str(tmp_path / f"{name}.tar"), name)
    assert [line.split(":")[0] for line in lines(full, *NAMES)][:2] == ["localhost/late", "localhost/early"]


def test_order_and_columns(full: Sbx) -> None:
    assert lines(full, "images", "--sort", "repository", "--format", "{{.Repository}}") == [
        "localhost/base", "localhost/more", "localhost/other",
    ]  # fmt: skip
    assert lines(full, "images", "--sort", "size", "--format", "{{.Repository}} {{.Size}}") == [
        "localhost/other 1 B", "localhost/base 5 kB", "localhost/more 14 kB",
    ]  # fmt: skip
    assert lines(full, "images", "--sort", "tag", "--format", "table {{.ID}} {{json .Tag}}")[:2] == [
        "IMAGE ID      TAG", f'{lines(full, "images", "-q", "base")[0]}  "latest"',
    ]  # fmt: skip
    assert lines(full, "images", "-n", "--format", r"table {{.Repository}}\t{{.Tag}}")[0] == "localhost/base   latest"
    rows = json.loads(full("images", "--format", "json").stdout)
    assert {row["Names"][0]: row["Size"] for row in rows} == {
        "localhost/base:latest": 5000, "localhost/more:latest": 14000, "localhost/other:latest": 1,
    }  # fmt: skip


def test_the_kept_list_follows_every_change(full: Sbx) -> None:
    before = lines(full, *NAMES)
    assert lines(full, *NAMES) == before
    lines(full, "tag", "base", "new")
    assert "localhost/new:latest" in lines(full, *NAMES)
    lines(full, "rmi", "new")
    assert lines(full, *NAMES) == before
    for path in (full.store / "images").iterdir():
        path.unlink()
    assert lines(full, *NAMES) == before


def test_history(full: Sbx) -> None:
    head, *rows = lines(full, "history", "more")
    assert head.split() == ["ID", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert len(rows) == 2
    found = json.loads(full("history", "--format", "json", "more").stdout)
    assert [row["size"] for row in found] == [9000, 5000]
    assert found[0]["tags"] == ["localhost/more:latest"] and found[1]["id"] == "<missing>"
    assert lines(full, "history", "-q", "--no-trunc", "more")[0].startswith("sha256:")
    assert lines(full, "history", "--human=false", "--format", "{{.Size}}", "more") == ["9000", "5000"]


def test_missing_images_and_ignore(full: Sbx) -> None:
    assert full("rmi", "none").returncode == 1
    assert full("rmi", "--ignore", "none", "other").returncode == 0
    assert "localhost/other:latest" not in lines(full, *NAMES)


def test_podmans_spellings(full: Sbx) -> None:
    assert full("image", "ls").stdout == full("images").stdout
    assert full("image", "inspect", "base").stdout == full("inspect", "base").stdout
    assert full("image", "rm", "base").returncode == 0
    done = full("image", "nonsense")
    assert done.returncode == 125 and "unknown verb `image nonsense`" in done.stderr
    assert "df" in full("system", "--help").stdout


@pytest.mark.parametrize("verb", ["image prune", "system prune", "system reset"])
def test_nobody_there_to_ask(full: Sbx, verb: str) -> None:
    before = lines(full, *NAMES)
    done = full(*verb.split())
    assert (done.returncode, done.stdout) == (125, "")
    assert f"hint: sbx {verb} --force" in done.stderr
    assert lines(full, *NAMES) == before


def test_asked_on_a_terminal(full: Sbx) -> None:
    lines(full, "untag", "other")
    for answer, left in ((b"n\n", 1), (b"y\n", 0)):
        ours, theirs = pty.openpty()
        os.write(ours, answer)
        done = _with_stdin(full, theirs, "image", "prune")
        os.close(ours)
        os.close(theirs)
        assert done.returncode == 0 and "Are you sure you want to continue? [y/N]" in done.stderr
        assert len(lines(full, "images", "-aq", "-f", "dangling=true")) == left


def _with_stdin(sbx: Sbx, fd: int, *words: str) -> "subprocess.CompletedProcess[str]":
    process = sbx.popen(*words, stdin=fd)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


@pytest.mark.requires("userns")
def test_df_is_what_du_says(full: Sbx) -> None:
    rows = json.loads(full("system", "df", "--format", "json").stdout)
    done = full("unshare", "du", "-s", "--block-size=1", str(full.store))
    assert sum(row["RawSize"] for row in rows) == int(done.stdout.split()[0])
    assert rows[0]["Total"] == 3 and rows[0]["RawReclaimable"] == rows[0]["RawSize"]
    verbose = lines(full, "system", "df", "-v")
    assert any(line.startswith("localhost/base") for line in verbose)
    lines(full, "rmi", "-a")
    rows = json.loads(full("system", "df", "--format", "json").stdout)
    assert rows[0]["RawSize"] == 0


def test_two_manifests_of_one_image_are_one_image_by_its_id(full: Sbx, tmp_path: Path) -> None:
    lines(full, "copy", "-q", "--compression-format", "zstd", "base", f"oci:{tmp_path}/zstd:1")
    lines(full, "copy", "-q", f"oci:{tmp_path}/zstd:1", "store:second")
    ids = dict(line.split() for line in lines(full, "images", "--no-trunc", "--format", "{{.Repository}} {{.ID}}"))
    digests = set(lines(full, "images", "--format", "{{.Digest}}"))
    image_id = ids["localhost/base"].removeprefix("sha256:")
    assert ids["localhost/second"].endswith(image_id) and len(digests) == 4
    for text in (image_id, image_id[:12], f"sha256:{image_id}"):
        assert lines(full, "inspect", "-f", "{{.Id}}", text) == [image_id]
    done = full("rmi", image_id[:12])
    assert done.returncode == 125 and "it has 2 names: localhost/base:latest, localhost/second:latest" in done.stderr
    said = lines(full, "rmi", "-f", image_id[:12])
    assert said == [
        "Untagged: localhost/base:latest", f"Deleted: {image_id}", "Untagged: localhost/second:latest", f"Deleted: {image_id}",
    ]  # fmt: skip
    assert len(lines(full, "images", "-aq")) == 2
    other = json.loads(full("inspect", "more").stdout)[0]["Id"], json.loads(full("inspect", "other").stdout)[0]["Id"]
    length = next(n for n in range(3, 64) if other[0][:n] != other[1][:n])
    assert lines(full, "inspect", "-f", "{{.Id}}", other[0][:length]) == [other[0]]


def test_short_names_mean_what_the_configuration_says(full: Sbx, tmp_path: Path) -> None:
    (tmp_path / "registries.conf").write_text(
        'unqualified-search-registries = ["quay.io"]\n[aliases]\ntool = "ghcr.io/team/tool"\n'
    )
    full.environment["SBX_REGISTRIES_CONF"] = str(tmp_path / "registries.conf")
    lines(full, "tag", "base", "ghcr.io/team/tool:1", "quay.io/team/app", "quay.io/team/last")
    lines(full, "untag", "base", "base")
    image_id = json.loads(full("inspect", "ghcr.io/team/tool:1").stdout)[0]["Id"]
    for name in ("tool:1", "team/app", "team/app:latest"):
        assert lines(full, "inspect", "-f", "{{.Id}}", name) == [image_id]
        assert lines(full, "history", "-q", name)[0] == image_id[:12]
        assert json.loads(full("manifest", "inspect", name).stdout)["config"]["digest"] == f"sha256:{image_id}"
    lines(full, "tag", "tool:1", "third")
    assert full("save", "-q", "-o", tmp_path / "saved.tar", "team/app").returncode == 0
    assert lines(full, "load", "-q", "-i", str(tmp_path / "saved.tar")) == ["Loaded image: quay.io/team/app:latest"]
    refused = full("push", "-q", "--retry", "0", "third")
    assert refused.returncode == 125 and "this name is of the local store" in refused.stderr
    lines(full, "untag", "third", "team/last")
    assert lines(full, "rmi", "tool:1") == ["Untagged: ghcr.io/team/tool:1"]
    assert lines(full, "inspect", "-f", "{{.RepoTags}}", "third") == [
        "[localhost/third:latest quay.io/team/app:latest]"
    ]
    for words in (("inspect", "tool:1"), ("rmi", "tool:1"), ("tag", "tool:1", "x"), ("save", "-o", tmp_path / "x", "tool:1")):  # fmt: skip
        done = full(*words)
        assert done.returncode == (1 if words[0] == "rmi" else 125) and "no such" in done.stderr, words


def test_a_name_with_a_digest_is_no_tag(full: Sbx, tmp_path: Path) -> None:
    raw = (full.store / "index.json").read_text()
    index = json.loads(raw)
    digest = index["manifests"][0]["digest"]
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = f"quay.io/a/b@{digest}"
    (full.store / "index.json").write_text(json.dumps(index))
    about = json.loads(full("inspect", f"quay.io/a/b@{digest}").stdout)[0]
    assert (about["RepoTags"], about["RepoDigests"]) == ([], [f"quay.io/a/b@{digest}"])
    row = json.loads(full("images", "--json", "quay.io/a/b").stdout)[0]
    assert (row["RepoTags"], row["Names"]) == ([], [f"quay.io/a/b@{digest}"])


def test_images_finds_as_all_verbs_do(full: Sbx, tmp_path: Path) -> None:
    (tmp_path / "registries.conf").write_text(
        'unqualified-search-registries = ["quay.io"]\n[aliases]\ntool = "ghcr.io/team/other-tool"\n'
    )
    full.environment["SBX_REGISTRIES_CONF"] = str(tmp_path / "registries.conf")
    lines(
        full,
        "tag",
        "base",
        "ghcr.io/team/other-tool:1",
        "ghcr.io/team/other-tool:2",
        "quay.io/app",
        "docker.io/library/lib",
    )
    about = json.loads(full("inspect", "base").stdout)[0]
    image_id, digest = about["Id"], about["Digest"]
    tool = ["ghcr.io/team/other-tool:1", "ghcr.io/team/other-tool:2"]
    every = ["localhost/base:latest", *tool, "quay.io/app:latest", "docker.io/library/lib:latest"]
    for text, expected in (
        ("tool", tool), ("tool:2", tool[1:]), ("other-tool", tool), ("team/other-tool:1", tool[:1]), ("app", every[3:4]),
        ("lib", every[4:]), ("docker.io/lib", every[4:]), ("base", every[:1]), (image_id, every), (image_id[:7], every),
        (f"sha256:{image_id}", every), (digest[7:20], every), (f"quay.io/app@{digest}", every[3:4]), ("o*r-tool", tool),
        ("nothing", []), ("tool:3", []), (f"quay.io/app@sha256:{'0' * 64}", []),
    ):  # fmt: skip
        assert lines(full, *NAMES, text) == expected, text
    assert len(lines(full, *NAMES, "-f", "reference=tool")) == 5  # all names of what it finds
    assert lines(full, *NAMES, "-f", "before=tool:1") == []
    for text in ("team/other-tool", "other-tool:1"):
        done = full("history", text)
        assert done.returncode == 125 and "hint: there is ghcr.io/team/other-tool:1" in done.stderr
    lines(full, "untag", "base")
    assert lines(full, "images", "-q", image_id[:7]) == [image_id[:12]]


@pytest.mark.requires("userns", "overlay")
def test_an_image_is_not_in_use_by_what_shares_its_base(full: Sbx) -> None:
    assert full("create", "--name", "kept", "more", "/nothing").returncode == 0
    ids = dict(line.split() for line in lines(full, "images", "--no-trunc", "--format", "{{.Repository}} {{.ID}}"))
    removed = lines(full, "image", "prune", "-af")
    assert sorted(removed) == sorted(ids[f"localhost/{name}"].removeprefix("sha256:") for name in ("base", "other"))
    assert lines(full, *NAMES) == ["localhost/more:latest"]
    assert json.loads(full("system", "check", "--json").stdout or "[]") == [], full("system", "check").stdout
    done = full("rmi", "more")
    assert done.returncode == 2 and "in use by container" in done.stderr
    assert lines(full, "images", "--format", "{{.Containers}}") == ["1"]
    assert [row["Containers"] for row in json.loads(full("images", "--format", "json").stdout)] == [1]
    assert lines(full, "system", "df", "-v")[3].split()[-1] == "1"
    lines(full, "rm", "kept")
    lines(full, "rmi", "more")


def test_an_image_that_was_just_removed_gets_no_name(full: Sbx) -> None:
    store = Store(str(full.store))
    [base, more, _] = store.images()
    lines(full, "rmi", "more")
    assert name_stored(store, more, "quay.io/a/b:1") is None
    assert lines(full, *NAMES) == ["localhost/base:latest", "localhost/other:latest"]
    found = name_stored(store, base, "quay.io/a/b:1")
    assert found is not None and found.names == ["localhost/base:latest", "quay.io/a/b:1"]
    assert lines(full, *NAMES)[1] == "quay.io/a/b:1"
    lines(full, "system", "check")


@pytest.mark.requires("userns", "overlay")
def test_what_a_container_needs_is_not_to_be_had_back(full: Sbx) -> None:
    assert full("create", "--name", "kept", "more", "/nothing").returncode == 0
    lines(full, "rmi", "-f", "more")
    lines(full, "rmi", "base", "other")
    images = json.loads(full("system", "df", "--format", "json").stdout)[0]
    assert images["Total"] == 0 and images["RawSize"] > 14000 and images["RawReclaimable"] == 0
    [said] = [line for line in lines(full, "system", "prune", "-f") if line.startswith("Total")]
    after = json.loads(full("system", "df", "--format", "json").stdout)[0]
    assert after["RawSize"] == 0 and float(said.split()[-2]) * 1000 > images["RawSize"]


def test_a_broken_image_does_not_keep_others(full: Sbx) -> None:
    digest = lines(full, "images", "--format", "{{.Digest}}", "other")[0]
    (full.store / "blobs" / digest.replace(":", "/")).write_text("{}")
    done = full("rmi", "more")
    assert done.returncode == 0 and "Untagged: localhost/more:latest" in done.stdout
    assert "warning: the space is not given back: " in done.stderr and "sbx system check --repair" in done.stderr
    assert lines(full, "rmi", "other")[0] == "Untagged: localhost/other:latest"
    assert lines(full, "system", "check") == [] and len(list((full.store / "blobs/sha256").iterdir())) == 3


@pytest.mark.requires("userns", "overlay")
def test_an_image_with_the_layers_of_one_in_use(full: Sbx, tmp_path: Path) -> None:
    made = Layout(tmp_path / "layout")
    made.image("twin", [], {"Env": ["A=b"]}, base="more")
    lines(full, "load", "-q", "-i", str(tmp_path / "layout"))
    assert full("create", "--name", "kept", "more", "/nothing").returncode == 0
    assert "Untagged: localhost/twin:latest" in lines(full, "rmi", "twin")
    assert full("rmi", "more").returncode == 2


def test_annotations_are_told(sbx: Sbx, tmp_path: Path) -> None:
    made = Layout(tmp_path / "noted")
    made.image("1", [tar(entry("a", b"a"))], {})
    index = json.loads((tmp_path / "noted/index.json").read_text())
    manifest = {**json.loads(made.read(index["manifests"][0])), "annotations": {"a.b": "c"}}
    index["manifests"][0].update(made.blob(json.dumps(manifest).encode(), manifest["mediaType"]))
    (tmp_path / "noted/index.json").write_text(json.dumps(index))
    lines(sbx, "copy", "-q", f"oci:{tmp_path}/noted:1", "store:noted")
    assert lines(sbx, "inspect", "-f", "{{json .Annotations}}", "noted") == ['{"a.b":"c"}']


def test_bombs_that_are_archives_or_go_elsewhere(full: Sbx, tmp_path: Path) -> None:
    less = {"SBX_LIMITS": "ratio=100,ratio-free=1M"}
    (tmp_path / "bomb.tar.xz").write_bytes(lzma.compress(tar(entry("zeros", bytes(1 << 23)))))
    for words in (("load", "-i"), ("import",)):
        done = full(*words, tmp_path / "bomb.tar.xz", env=less)
        assert done.returncode == 125 and "a decompression bomb" in done.stderr, done.stderr
    made = Layout(tmp_path / "zeros")
    made.image("1", [gzip.compress(tar(entry("zeros", bytes(1 << 23))))], {})
    done = full("copy", "-q", f"oci:{tmp_path}/zeros:1", f"docker-archive:{tmp_path}/out.tar", env=less)
    assert done.returncode == 125 and "a decompression bomb" in done.stderr, done.stderr
    assert not (tmp_path / "out.tar").exists()


ELSEWHERE = """
import fcntl, os, sys
from sandbox.image.prune import held
from sandbox.image.store import Store
store = Store(sys.argv[1])
if os.fork() == 0:
    fd = os.open(store.layers.folder + "/" + store.layers.names()[0], os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    if os.fork() == 0:
        os.read(0, 1)  # has the lock, which one took who has ended
    os._exit(0)
os.wait()
print(len(held(store, sure=True)))
"""


@pytest.mark.requires("userns")
def test_what_a_pid_namespace_hides_is_held_all_the_same(full: Sbx) -> None:
    """/proc/locks has no lock there whose taker has ended; `system reset` relies on it that nobody runs."""
    words = ["unshare", "-Urpf", "--mount-proc", sys.executable, "-c", ELSEWHERE, str(full.store)]
    with subprocess.Popen(
        words, env={**os.environ, "PYTHONPATH": str(TREE)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as done:
        assert done.stdout and done.stdout.readline() == "1\n"


def test_reset_removes_all(full: Sbx) -> None:
    assert full("system", "reset", "--force").returncode == 0
    assert not full.store.exists()
    assert lines(full, "images", "-q") == []
    remove_tree(full.store)
