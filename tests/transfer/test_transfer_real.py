"""pull, push, copy, save and manifest with real parts: docker-registry, skopeo, podman, umoci, buildah's images."""

import itertools
import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import images
import pytest
from registries import PASSWORD, USER, Registry, needed
from support import Sbx, leftovers

Tool = Callable[..., str]


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def ran_by_podman(podman: Tool, name: str, path: str) -> str:
    """What `cat path` says in podman's container of image `name`."""
    words = ("run", "--rm", "--network", "none", "--cgroups=disabled", name, "cat", path)
    try:
        return podman(*words)
    except RuntimeError as error:
        if "hybrid mode not supported" not in str(error):
            raise
        # crun refuses this machine's cgroups: read what podman has unpacked instead.
        return podman("unshare", "sh", "-c", f'cat "$({podman.__doc__} image mount {name})"{path}')


@pytest.mark.requires("overlay")
def test_pull_prints_the_id_and_the_image_runs(mover: Sbx, pushed: str, skopeo: Tool) -> None:
    done = mover("pull", f"{pushed}/layered:3")
    image_id = ok(done).strip()
    assert image_id == json.loads(ok(mover("inspect", f"{pushed}/layered:3")))[0]["Id"]
    assert done.stderr.count("pull layer") == 3
    assert ok(mover("run", f"{pushed}/layered:3", "cat", "/data/late")) == "3\n"
    # What is there is asked for once, and read no more.
    again = mover("pull", f"{pushed}/layered:3")
    assert (ok(again).strip(), again.stderr) == (image_id, "")
    assert skopeo(f"oci:{mover.store}:{pushed}/layered:3") == skopeo(f"docker://{pushed}/layered:3")
    assert leftovers(mover.store) == []


def test_pull_quietly_by_digest_and_all_tags(mover: Sbx, pushed: str, skopeo: Tool) -> None:
    digest = skopeo(f"docker://{pushed}/layered:20").split()[0]
    done = mover("pull", "-q", f"{pushed}/layered@{digest}")
    assert (len(ok(done).strip()), done.stderr) == (64, "")
    assert digest in ok(mover("images", "--digests"))
    both = ok(mover("pull", "-q", "-a", f"{pushed}/layered")).split()
    assert len(both) == 2 and done.stdout.strip() in both


@pytest.mark.requires("overlay")
def test_run_fetches_by_policy(mover: Sbx, pushed: str, skopeo: Tool) -> None:
    name = f"{pushed}/policy:1"
    images.call("skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{pushed}/busybox:latest", f"docker://{name}")  # fmt: skip
    never = mover("run", "--pull=never", name, "true")
    assert never.returncode == 125 and f"sbx: find image `{name}`" in never.stderr
    assert ok(mover("run", name, "echo", "fetched")) == "fetched\n"
    images.call("skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{pushed}/layered:3", f"docker://{name}")  # fmt: skip
    assert mover("run", name, "cat", "/data/late").returncode == 1  # missing: the old one will do
    assert ok(mover("run", "--pull=newer", name, "cat", "/data/late")) == "3\n"
    assert ok(mover("run", "--pull=always", name, "cat", "/data/late")) == "3\n"


@pytest.mark.requires("overlay")
def test_newer_makes_do_with_what_is_there_and_always_does_not(mover: Sbx, busybox_oci: images.Images) -> None:
    ok(mover("copy", "-q", busybox_oci.oci, "store:127.0.0.1:1/x:1"))
    newer = mover("run", "--pull=newer", "127.0.0.1:1/x:1", "echo", "here")
    assert newer.stdout == "here\n" and "warning: the local image is used" in newer.stderr
    always = mover("run", "--pull=always", "127.0.0.1:1/x:1", "echo", "here")
    assert (always.returncode, always.stdout) == (125, "")


def test_pulled_by_two_at_once_each_layer_is_unpacked_once(mover: Sbx, pushed: str) -> None:
    running = [mover.popen("pull", f"{pushed}/layered:20") for _ in range(3)]
    ended = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], ended
    assert len({out for out, _ in ended}) == 1
    assert len(list((mover.store / "layers").iterdir())) == 20
    assert leftovers(mover.store) == []


@pytest.mark.requires("overlay")
def test_what_is_pushed_is_run_by_podman(mover: Sbx, pushed: str, podman: Tool, skopeo: Tool, tmp_path: Path) -> None:
    ok(mover("pull", "-q", f"{pushed}/layered:3"))
    ok(mover("push", "-q", "--digestfile", tmp_path / "digest", f"{pushed}/layered:3", f"{pushed}/again/three:1"))
    assert skopeo(f"docker://{pushed}/again/three:1") == f"{(tmp_path / 'digest').read_text()} 3"
    podman("pull", "-q", "--tls-verify=false", f"{pushed}/again/three:1")
    assert ran_by_podman(podman, f"{pushed}/again/three:1", "/data/late") == "3\n"


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_what_is_saved_is_loaded_by_podman_and_by_us(mover: Sbx, pushed: str, podman: Tool, tmp_path: Path, form: str) -> None:  # fmt: skip
    ok(mover("pull", "-q", f"{pushed}/layered:3"))
    file = tmp_path / "saved.tar"
    ok(mover("save", "-q", "--format", form, "-o", file, f"{pushed}/layered:3"))
    podman("load", "-q", "-i", file)
    assert f"{pushed}/layered:3" in podman("images", "--format", "{{.Repository}}:{{.Tag}}")
    first = ok(mover("images", "--no-trunc", "-q")).strip()
    ok(mover("rmi", "-a"))
    assert f"Loaded image: {pushed}/layered:3" in ok(mover("load", "-q", "-i", file))
    assert ok(mover("images", "--no-trunc", "-q")).strip() == first
    # The same image gives the same bytes, and to a pipe too.
    again = tmp_path / "again.tar"
    ok(mover("save", "-q", "--format", form, "-o", again, f"{pushed}/layered:3"))
    with open(tmp_path / "pipe.tar", "w", encoding="ascii") as out:
        process = mover.popen("save", "--format", form, f"{pushed}/layered:3", stdout=out)
        assert process.wait(60) == 0
    assert (tmp_path / "pipe.tar").read_bytes() == again.read_bytes()


def test_several_images_in_one_archive(mover: Sbx, pushed: str, skopeo: Tool, tmp_path: Path) -> None:
    names = [f"{pushed}/layered:3", f"{pushed}/layered:20"]
    ok(mover("pull", "-q", *names))
    for form, transport in (("oci-archive", "oci-archive"), ("docker-archive", "docker-archive"), ("oci-dir", "oci")):
        target = tmp_path / form
        ok(mover("save", "-q", "-m", "--format", form, "-o", target, *names))
        assert [skopeo(f"{transport}:{target}:{name}").split()[1] for name in names] == ["3", "20"]
    # What docker reads of an archive is in the OCI one too.
    assert [skopeo(f"docker-archive:{tmp_path}/oci-archive:{name}").split()[1] for name in names] == ["3", "20"]
    images.call(
        "skopeo", "copy", "-q", f"docker-archive:{tmp_path}/oci-archive:{names[0]}", f"oci:{tmp_path}/from-docker:1"
    )
    assert ok(mover("run", f"oci:{tmp_path}/from-docker:1", "cat", "/data/late")) == "3\n"
    one = mover("save", "--format", "docker-dir", "-o", tmp_path / "x", *names)
    assert one.returncode == 125 and "holds one image" in one.stderr


def test_nothing_is_saved_to_a_terminal(mover: Sbx, pushed: str) -> None:
    ok(mover("pull", "-q", f"{pushed}/busybox"))
    ours, theirs = pty.openpty()
    process = mover.popen("save", f"{pushed}/busybox", stdout=theirs)
    os.close(theirs)
    _, said = process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 125 and "stdout is a terminal" in said


def test_copy_between_all_transports_keeps_the_image(mover: Sbx, pushed: str, skopeo: Tool, tmp_path: Path) -> None:
    steps = [
        f"docker://{pushed}/layered:3", f"oci:{tmp_path}/oci:name:1", f"dir:{tmp_path}/dir", f"oci-archive:{tmp_path}/oci.tar:1",
        "store:mine:1", f"docker-archive:{tmp_path}/docker.tar:mine:2", f"docker://{pushed}/copied:1",
    ]  # fmt: skip
    for source, target in itertools.pairwise(steps):
        ok(mover("copy", "-q", source, target))
    configs = {
        json.loads(images.call("skopeo", "inspect", "--raw", "--tls-verify=false", step))["config"]["digest"]
        for step in steps if not step.startswith(("store:", "docker-archive"))
    }  # fmt: skip
    assert len(configs) == 1
    assert len({skopeo(step) for step in steps[:4]}) == 1  # the very manifest
    # Plain layers of the docker-archive stay as they are in a copy; the other layout's images stay too.
    ok(mover("copy", "-q", f"docker://{pushed}/busybox:latest", f"oci:{tmp_path}/oci:name:2"))
    assert skopeo(f"oci:{tmp_path}/oci:name:1") == skopeo(steps[0])
    needed("umoci")
    images.call("umoci", "unpack", "--rootless", "--image", f"{tmp_path}/oci:name:2", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/bin/busybox").exists()
    images.remove_tree(tmp_path / "bundle")


def test_manifest_types_and_compression_are_converted(mover: Sbx, pushed: str, skopeo: Tool, tmp_path: Path) -> None:
    ok(mover("copy", "-q", "--compression-format", "zstd", f"docker://{pushed}/layered:3", f"docker://{pushed}/z:1"))
    raw = json.loads(images.call("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{pushed}/z:1"))
    assert {layer["mediaType"].rpartition("+")[2] for layer in raw["layers"]} == {"zstd"}
    ok(mover("copy", "-q", "--format", "docker", f"docker://{pushed}/z:1", f"dir:{tmp_path}/d"))
    raw = json.loads((tmp_path / "d/manifest.json").read_bytes())
    assert raw["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert {layer["mediaType"] for layer in raw["layers"]} == {"application/vnd.docker.image.rootfs.diff.tar.gzip"}
    images.call("skopeo", "copy", "-q", f"dir:{tmp_path}/d", f"oci:{tmp_path}/o:1")
    ok(mover("pull", "-q", f"{pushed}/z:1"))
    kept = mover("copy", "-q", "--preserve-digests", f"dir:{tmp_path}/d", f"oci:{tmp_path}/p:1")
    assert kept.returncode == 125 and not (tmp_path / "p").exists() and "--preserve-digests" in kept.stderr


def index_of(folder: Path, pushed: str) -> str:
    """An index of two platforms in an OCI layout, by buildah; its reference."""
    layout = folder / "index"
    images.call(
        "skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{pushed}/busybox:latest", f"oci:{layout}:a"
    )
    entry = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    entry.pop("annotations", None)
    config_name = json.loads((layout / f"blobs/sha256/{entry['digest'][7:]}").read_bytes())["config"]["digest"]
    other = json.loads((layout / f"blobs/sha256/{config_name[7:]}").read_bytes()) | {"architecture": "s390x"}
    found = json.loads((layout / f"blobs/sha256/{entry['digest'][7:]}").read_bytes())
    found["config"] |= add(layout, json.dumps(other).encode())
    second = {"mediaType": entry["mediaType"], **add(layout, json.dumps(found).encode())}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {**entry, "platform": {"os": "linux", "architecture": images.ARCHITECTURE}},
        {**second, "platform": {"os": "linux", "architecture": "s390x"}},
    ]}  # fmt: skip
    top = {"mediaType": index["mediaType"], **add(layout, json.dumps(index).encode())}
    top["annotations"] = {"org.opencontainers.image.ref.name": "both"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    return f"oci:{layout}:both"


def add(layout: Path, raw: bytes) -> dict[str, object]:
    import hashlib

    digest = hashlib.sha256(raw).hexdigest()
    (layout / f"blobs/sha256/{digest}").write_bytes(raw)
    return {"digest": f"sha256:{digest}", "size": len(raw)}


def test_indexes(mover: Sbx, pushed: str, skopeo: Tool, tmp_path: Path) -> None:
    source = index_of(tmp_path, pushed)
    raw = images.call("skopeo", "inspect", "--raw", source)
    ok(mover("copy", "-q", "-a", "--preserve-digests", source, f"docker://{pushed}/both:1"))
    assert images.call("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{pushed}/both:1") == raw
    images.call(
        "skopeo", "copy", "-q", "-a", "--src-tls-verify=false", f"docker://{pushed}/both:1", f"dir:{tmp_path}/all"
    )
    ok(mover("copy", "-q", "-a", f"dir:{tmp_path}/all", f"oci-archive:{tmp_path}/all.tar:1"))
    shown = json.loads(ok(mover("manifest", "inspect", f"docker://{pushed}/both:1")))
    assert [entry["platform"]["architecture"] for entry in shown["manifests"]] == [images.ARCHITECTURE, "s390x"]
    # One of it in the store; the index's digest is known again.
    ok(mover("pull", "-q", f"{pushed}/both:1"))
    again = mover("pull", f"{pushed}/both:1")
    assert again.stderr == ""
    ok(mover("pull", "-q", "--platform", "linux/s390x", f"{pushed}/both:1"))
    assert json.loads(ok(mover("inspect", f"{pushed}/both:1")))[0]["Architecture"] == "s390x"
    arm = mover("pull", "--platform", "linux/arm/v7", f"{pushed}/both:1")
    assert arm.returncode == 125
    assert "sbx: choose platform" in arm.stderr and "linux/s390x, not for linux/arm/v7" in arm.stderr
    archive = mover("copy", "-q", "-a", f"docker://{pushed}/both:1", f"docker-archive:{tmp_path}/no.tar")
    assert archive.returncode == 125 and not (tmp_path / "no.tar").exists()
    # As Docker's list, with Docker's manifests.
    ok(mover("copy", "-q", "-a", "--format", "docker", source, f"docker://{pushed}/both:2"))
    listed = json.loads(images.call("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{pushed}/both:2"))
    assert listed["mediaType"] == "application/vnd.docker.distribution.manifest.list.v2+json"
    assert mover("pull", "-q", f"{pushed}/both:2").returncode == 0


def test_push_mounts_what_the_registry_has(mover: Sbx, pushed: str, registry: object) -> None:
    ok(mover("copy", f"docker://{pushed}/layered:20", f"docker://{pushed}/mounted:1"))
    done = mover("copy", f"docker://{pushed}/layered:20", f"docker://{pushed}/mounted:2")
    assert done.stderr.count(", there already\n") == done.stderr.count("copy layer") == 20  # nothing was read


def test_progress_forms(mover: Sbx, pushed: str) -> None:
    lines = mover("pull", "--progress", "json", f"{pushed}/layered:3").stderr.splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert [event["event"] for event in events].count("end") == 3
    assert all(event["done"] == event["size"] for event in events if event["event"] == "end")
    ok(mover("tag", f"{pushed}/layered:3", "three"))
    ok(mover("untag", "three", f"{pushed}/layered:3"))  # nobody knows any more that this registry has it
    for target, event in (("progress:1", "end"), ("progress:2", "exists")):
        pushing = mover("push", "--progress=json", "three", f"{pushed}/{target}")
        events = [json.loads(line) for line in pushing.stderr.splitlines()]
        ends = [one["layer"] for one in events if one["event"] == event]
        assert len(set(ends)) == 3 and all(one["done"] == one["size"] for one in events if one["event"] == event)
    for form in ("oci-archive", "docker-archive", "oci-dir", "docker-dir"):
        ok(mover("save", "-q", "--format", form, "-o", mover.store.parent / form, "three"))
        ok(mover("rmi", "-a", "-f"))
        loaded = mover("load", "--progress=json", "-i", mover.store.parent / form)
        called = "Loaded image: " + ("sha256:" if form == "docker-dir" else "localhost/three:latest\n")
        assert ok(loaded).startswith(called) and loaded.stderr.count('"event": "end", "verb": "load"') == 3
        ok(mover("tag", loaded.stdout.split()[2], "three"))
    wrong = mover("pull", "--progress", "fancy", f"{pushed}/layered:3")
    assert wrong.returncode == 125 and "not one of auto, plain, json, none" in wrong.stderr


def test_bars_on_a_terminal(mover: Sbx, pushed: str) -> None:
    ours, theirs = pty.openpty()
    process = mover.popen("pull", f"{pushed}/layered:3", stderr=theirs, env={"TERM": "xterm"})
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # the other end is closed
    os.close(ours)
    assert process.wait(30) == 0
    assert b"[====" in shown and shown.count(b"pull ") >= 3


@pytest.mark.requires("overlay")
def test_with_tls_and_a_password_there_and_back(
    mover: Sbx,
    secured: tuple[Registry, Path],
    layered_oci: Callable[[int], images.Images],
    podman: Tool,
    tmp_path: Path,
) -> None:
    registry, trusting = secured
    there = tmp_path / "config/containers/certs.d" / registry.host
    there.mkdir(parents=True)
    (there / "ca.crt").write_bytes((trusting / "ca.crt").read_bytes())
    own = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    mover.environment.update(own)
    (tmp_path / "auth.json").write_text("{}")
    name = f"{registry.host}/team/three:1"
    ok(mover("copy", "-q", layered_oci(3).oci, f"store:{name}"))
    nobody = mover("push", "-q", name)
    assert nobody.returncode == 125 and "wants a login (HTTP 401)" in nobody.stderr
    assert (
        ok(mover("login", "-u", USER, "--password-stdin", registry.host, input=f"{PASSWORD}\n")) == "Login Succeeded!\n"
    )
    ok(mover("push", name))
    ok(mover("rmi", name))
    assert ok(mover("run", name, "cat", "/data/late")) == "3\n"
    for words in (["--tls-verify"], ["--tls-verify=true"], ["--tls-verify=false"], ["--creds", f"{USER}:{PASSWORD}"]):
        ok(mover("pull", "-q", *words, name))
    wrong = mover("pull", "--creds", f"{USER}:not-{PASSWORD}", name)
    assert (
        wrong.returncode == 125 and "what --creds says is not accepted" in wrong.stderr and PASSWORD not in wrong.stderr
    )
    # The file that we wrote is podman's; what podman pushes is ours.
    access = ("--authfile", own["REGISTRY_AUTH_FILE"], "--cert-dir", str(trusting))
    podman("pull", "-q", *access, name)
    assert ran_by_podman(podman, name, "/data/late") == "3\n"
    podman("push", "-q", *access, "--format", "docker", name, f"{registry.host}/team/podman:1")
    assert ok(mover("run", "-q", f"{registry.host}/team/podman:1", "cat", "/data/late")) == "3\n"
    tags = ok(mover("search", "--list-tags", "--format", "{{.Tag}}", f"{registry.host}/team/podman"))
    assert tags == "1\n"
    ok(mover("logout", registry.host))
    assert "wants a login" in mover("pull", name).stderr


@pytest.mark.requires("overlay")
def test_what_others_make_is_run_by_us(mover: Sbx, pushed: str, podman: Tool, tmp_path: Path) -> None:
    podman("pull", "-q", "--tls-verify=false", f"{pushed}/busybox:latest")
    (tmp_path / "Containerfile").write_text(f"FROM {pushed}/busybox:latest\nRUN echo built > /made\n")
    made = f"{pushed}/made:1"
    podman("build", "-q", "--isolation", "chroot", "--network", "host", "--pull-never", "-t", made, tmp_path)
    podman("push", "-q", "--tls-verify=false", made)
    assert ok(mover("run", "-q", made, "cat", "/made")) == "built\n"
    for form in ("oci-archive", "docker-archive"):
        ok(mover("rmi", "-a"))
        podman("save", "-q", "--format", form, "-o", tmp_path / form, made)
        assert ok(mover("load", "-q", "-i", tmp_path / form)) == f"Loaded image: {made}\n"
        assert ok(mover("run", "--pull=never", made, "cat", "/made")) == "built\n"
    # umoci unpacks what we copy, and changes it; podman takes that from the registry.
    ok(mover("copy", "-q", f"store:{made}", f"oci:{tmp_path}/layout:made"))
    needed("umoci")
    images.call("umoci", "unpack", "--rootless", "--image", f"{tmp_path}/layout:made", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/made").read_text() == "built\n"
    (tmp_path / "bundle/rootfs/made").write_text("changed\n")
    images.call("umoci", "repack", "--image", f"{tmp_path}/layout:changed", tmp_path / "bundle")
    images.remove_tree(tmp_path / "bundle")
    assert ok(mover("run", f"oci:{tmp_path}/layout:changed", "cat", "/made")) == "changed\n"
    ok(mover("copy", "-q", f"oci:{tmp_path}/layout:changed", f"docker://{pushed}/made:2"))
    podman("pull", "-q", "--tls-verify=false", f"{pushed}/made:2")
    assert ran_by_podman(podman, f"{pushed}/made:2", "/made") == "changed\n"


@pytest.mark.requires("overlay")
def test_names_that_registries_conf_leads_elsewhere(mover: Sbx, pushed: str, tmp_path: Path) -> None:
    """docker.io and library/, short names, aliases, mirrors and blocked registries, as `run` and `pull` meet them."""
    copied = (
        "skopeo",
        "copy",
        "-q",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        f"docker://{pushed}/busybox:latest",
    )
    images.call(*copied, f"docker://{pushed}/library/busybox:latest")
    images.call(*copied, f"docker://{pushed}/copies/team/tool:2")
    text = f"""
unqualified-search-registries = ["docker.io"]
[aliases]
tool = "quay.io/team/tool"
[[registry]]
prefix = "docker.io"
location = "{pushed}"
insecure = true
[[registry]]
prefix = "quay.io"
location = "127.0.0.1:1"
[[registry.mirror]]
location = "127.0.0.1:2"
[[registry.mirror]]
location = "{pushed}/copies"
insecure = true
[[registry]]
prefix = "ghcr.io"
blocked = true
"""
    (tmp_path / "registries.conf").write_text(text)
    for name in ("busybox", "docker.io/busybox", "docker.io/library/busybox", "index.docker.io/library/busybox:latest"):
        done = mover("run", name, "echo", "ran")
        assert ok(done) == "ran\n"
        assert ok(mover("images", "--format", "{{.Repository}}:{{.Tag}}")) == "docker.io/library/busybox:latest\n"
        ok(mover("rmi", "-a"))
    for name in ("tool:2", "quay.io/team/tool:2"):
        ok(mover("pull", "-q", name))
        assert ok(mover("run", "--pull=never", name, "echo", "ran")) == "ran\n"
        assert ok(mover("images", "--format", "{{.Repository}}:{{.Tag}}")) == "quay.io/team/tool:2\n"
        ok(mover("rmi", "-a"))
    # A short name is known by what the configuration says now, with nobody asked.
    ok(mover("pull", "-q", "quay.io/team/tool:2"))
    offline = text.replace(f'location = "{pushed}', 'location = "127.0.0.1:3')
    (tmp_path / "registries.conf").write_text(offline)
    for _ in range(2):
        assert ok(mover("run", "tool:2", "echo", "ran")) == "ran\n"
    (tmp_path / "registries.conf").write_text(offline.replace("quay.io/team/tool", "ghcr.io/other/tool"))
    other = mover("run", "tool:2", "echo", "ran")
    assert other.returncode == 125 and "`ghcr.io` is blocked" in other.stderr
    (tmp_path / "registries.conf").write_text(text)
    blocked = mover("pull", "ghcr.io/team/tool")
    assert blocked.returncode == 125 and "`ghcr.io` is blocked in registries.conf" in blocked.stderr
    missing = mover("run", "quay.io/team/none", "true")
    assert missing.returncode == 125 and "127.0.0.1:1: Connection refused" in missing.stderr


def media_types(reference: str) -> set[str]:
    raw = json.loads(images.call("skopeo", "inspect", "--raw", "--tls-verify=false", reference))
    return {layer["mediaType"].removeprefix("application/vnd.oci.image.layer.v1.") for layer in raw["layers"]}


def test_plain_layers_are_compressed_or_left(mover: Sbx, pushed: str, skopeo: Tool, tmp_path: Path) -> None:
    images.call("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{pushed}/layered:3", f"docker-archive:{tmp_path}/plain.tar:plain:1")  # fmt: skip
    source, target = f"docker-archive:{tmp_path}/plain.tar", f"docker://{pushed}/plain"
    for words, kind in (
        ([], "tar+gzip"), (["--compression-format", "none"], "tar"), (["--compression-format", "zstd"], "tar+zstd"),
        (["--compression-format", "gzip"], "tar+gzip"), (["--preserve-digests"], "tar"),
    ):  # fmt: skip
        ok(mover("copy", "-q", *words, source, f"{target}:1"))
        assert media_types(f"{target}:1") == {kind}, words
    ok(mover("copy", "-q", source, f"oci:{tmp_path}/kept:1"))
    assert media_types(f"oci:{tmp_path}/kept:1") == {"tar"}
    # From the store, and back to plain.
    ok(mover("copy", "-q", source, "store:plain"))
    ok(mover("push", "-q", "plain", f"{pushed}/plain:2"))
    ok(mover("push", "-q", "--compression-format", "none", "plain", f"{pushed}/plain:3"))
    assert (media_types(f"{target}:2"), media_types(f"{target}:3")) == ({"tar+gzip"}, {"tar"})
    ok(mover("copy", "-q", "--compression-format", "none", f"{target}:2", f"{target}:4"))
    assert skopeo(f"{target}:4") == skopeo(f"{target}:3")
    docker = mover(
        "copy", "-q", "--compression-format", "none", "--format", "docker", f"{target}:2", f"dir:{tmp_path}/d"
    )
    ok(docker)
    raw = json.loads((tmp_path / "d/manifest.json").read_bytes())
    assert {layer["mediaType"] for layer in raw["layers"]} == {"application/vnd.docker.image.rootfs.diff.tar"}


@pytest.mark.requires("overlay")
def test_all_platforms_in_the_store(mover: Sbx, pushed: str, skopeo: Tool, tmp_path: Path) -> None:
    source = index_of(tmp_path, pushed)
    raw = images.call("skopeo", "inspect", "--raw", source)
    attested = attest(tmp_path / "index", raw)
    name = f"{pushed}/every:1"
    ok(mover("copy", "-q", "-a", "--preserve-digests", source, f"docker://{name}"))
    ok(mover("copy", "-q", "-a", f"docker://{name}", f"store:{name}"))
    assert images.call("skopeo", "inspect", "--raw", f"oci:{mover.store}:{name}") == attested
    assert json.loads(ok(mover("inspect", name)))[0]["Architecture"] == images.ARCHITECTURE
    assert ok(mover("run", "--pull=never", name, "echo", "ran")) == "ran\n"
    other = mover("run", "--pull=never", "--platform", "linux/s390x", "--print-config", name, "true")
    assert other.returncode == 0, other.stderr
    assert len(ok(mover("images", "-q")).split()) == 1
    # Nothing of it is left over, nothing is missing; the registry has nothing newer.
    assert ok(mover("system", "check")) == ""
    ok(mover("image", "prune", "-f"))
    again = mover("pull", name)
    assert ok(again) and again.stderr == ""
    # Out again, whole, by us and by skopeo.
    ok(mover("copy", "-q", "-a", "--preserve-digests", f"store:{name}", f"docker://{pushed}/every:2"))
    images.call("skopeo", "copy", "-q", "-a", f"oci:{mover.store}:{name}", f"dir:{tmp_path}/out")
    assert skopeo(f"docker://{pushed}/every:2").split()[0] == skopeo(f"docker://{name}").split()[0]
    assert images.call("skopeo", "inspect", "--raw", f"dir:{tmp_path}/out") == attested
    ok(mover("push", "-q", name, f"{pushed}/every:3"))  # one platform, as ever
    assert len(skopeo(f"docker://{pushed}/every:3").split()) == 2
    ok(mover("rmi", name))
    assert list((mover.store / "blobs/sha256").iterdir()) == [] == list((mover.store / "layers").iterdir())


def attest(layout: Path, raw: str) -> str:
    """Add an attestation to the index in `layout`, as buildkit does; the index as it is then."""
    about = {"mediaType": "application/vnd.in-toto+json", **add(layout, b'{"predicate": {}}')}
    found = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **add(layout, b'{"rootfs": {}}')}, "layers": [about],
    })  # fmt: skip
    index = json.loads(raw)
    index["manifests"].append({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", **add(layout, found.encode()),
        "platform": {"os": "unknown", "architecture": "unknown"},
    })  # fmt: skip
    made = json.dumps(index)
    top = json.loads((layout / "index.json").read_bytes())
    top["manifests"][0] |= add(layout, made.encode())
    (layout / "index.json").write_text(json.dumps(top))
    return made


def test_an_index_of_other_machines_only(mover: Sbx, pushed: str, tmp_path: Path) -> None:
    source = index_of(tmp_path, pushed)
    index = json.loads(images.call("skopeo", "inspect", "--raw", source))
    index["manifests"] = index["manifests"][1:]
    top = json.loads((tmp_path / "index/index.json").read_bytes())
    top["manifests"][0] |= add(tmp_path / "index", json.dumps(index).encode())
    (tmp_path / "index/index.json").write_text(json.dumps(top))
    ok(mover("copy", "-q", "-a", source, "store:other"))
    assert not (mover.store / "layers").exists() or list((mover.store / "layers").iterdir()) == []
    assert ok(mover("images", "--format", "{{.Repository}}")) == "localhost/other\n"
    assert json.loads(ok(mover("inspect", "other")))[0]["Architecture"] == "s390x"
    refused = mover("run", "other", "true")
    assert refused.returncode == 125 and "image is for linux/s390x, this machine is" in refused.stderr
    broken = next((tmp_path / "index/blobs/sha256").glob(f"{index['manifests'][0]['digest'][7:]}"))
    broken.write_bytes(b"{}")
    failed = mover("copy", "-q", "-a", source, "store:broken")
    assert failed.returncode == 125 and leftovers(mover.store) == []
    assert ok(mover("system", "check")) == ""
