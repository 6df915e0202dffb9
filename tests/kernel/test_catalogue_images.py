"""Rows of the catalogue of known weaknesses about what stands in an image's config: folders, variables, labels.

The number in a test's name is the row, see docs/security.md.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from images import ENVIRONMENT, Layout, busybox_layer, entry, remove_tree, tar
from support import Sbx

Make = Callable[..., str]
SHELL = {"Cmd": ["sh"], "Env": ENVIRONMENT}


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host that an image points to; it must stay as it is."""
    path = tmp_path / "canary"
    path.mkdir()
    (path / "file").write_text("of the host\n")
    path.chmod(0o777)
    (path / "file").chmod(0o666)
    yield path
    assert os.listdir(path) == ["file"]
    assert (path / "file").read_text() == "of the host\n"


@pytest.fixture
def image(tmp_path: Path) -> Make:
    """`image(config, *layers)`: busybox with these layers on top; its reference."""

    def make(config: dict[str, Any], *layers: bytes) -> str:
        folder = tmp_path / "image"
        Layout(folder).image("latest", [busybox_layer(), *layers], {**SHELL, **config})
        return f"oci:{folder}:latest"

    return make


def link(name: str, target: Path | str) -> Any:
    return entry(name, kind=b"2", link=str(target))


UP = "/.." * 20


@pytest.mark.parametrize(
    "folder", ["/link", "/link/new", "/up", "/up/new", "{up}{canary}", "{up}{canary}/new", "/link/../canary/new", "/fd", "/fd/x"]
)  # fmt: skip
@pytest.mark.parametrize("field", ["WorkingDir", "Volumes", "-w", "-v", "--tmpfs"])
def test_I18_folders_of_the_config_stay_inside(
    field: str, folder: str, sbx: Sbx, image: Make, canary: Path, tmp_path: Path
) -> None:
    """Links, dots and descriptors in WorkingDir and Volumes: made and mounted inside, or refused."""
    path = folder.format(up=UP, canary=canary)
    links = tar(link("link", canary), link("up", f"{UP}{canary}"), link("fd", "/proc/self/fd/5"))
    own = tmp_path / "own"
    own.mkdir()
    options = {
        "-w": ["-w", path], "-v": ["-v", f"{own}:{path}"], "--tmpfs": ["--tmpfs", path],
        "Volumes": ["--name", "c"],  # of one that stays they are volumes
    }.get(field, [])  # fmt: skip
    config = {"WorkingDir": path} if field == "WorkingDir" else {"Volumes": {path: {}}} if field == "Volumes" else {}
    script = f"touch {path}/made ./made2; cat {path}/file file {canary}/file; true"
    done = sbx("run", *options, image(config, links), "sh", "-c", script)
    assert done.returncode in (0, 125, 126), done
    assert "of the host" not in done.stdout
    if done.returncode:
        assert done.stderr.startswith("sbx: ")


@pytest.mark.parametrize(
    "folder", ["/proc", "/proc/sys", "/proc/self", "/sys", "/dev", "/", "proc/x", "", "a\nb", "/\0"]
)
@pytest.mark.parametrize("field", ["WorkingDir", "Volumes"])
def test_I18_folders_of_the_kernel(field: str, folder: str, sbx: Sbx, image: Make) -> None:
    """What an image wants over /proc or /dev weakens nothing there: masks hold, or it is refused."""
    config = {"WorkingDir": folder} if field == "WorkingDir" else {"Volumes": {folder: {}}}
    options = ["--name", "c"] if field == "Volumes" else []
    script = "stat -fc %T /proc; wc -c </proc/keys; touch /proc/sys/kernel/hostname 2>/dev/null && echo x >/proc/sys/kernel/hostname"
    done = sbx("run", *options, image(config), "sh", "-c", script)
    if done.returncode == 125:
        assert done.stderr.startswith("sbx: ")
    else:
        assert done.returncode == 1 and done.stdout.split() == ["proc", "0"], done


@pytest.mark.parametrize("target", ["{canary}", "{up}{canary}"])
@pytest.mark.parametrize("name", ["etc", "run", "tmp", "root", "mnt", "var", "home", "bin/sh", "dev/shm", "etc/hosts"])
def test_I19_folders_of_the_root_as_links(
    name: str, target: str, session_sbx: Sbx, busybox_rootfs: Path, tmp_path: Path, canary: Path
) -> None:
    """/etc, /run, /tmp and others as links out of the image: what sbx writes and mounts there stays inside."""
    rootfs = tmp_path / "rootfs"
    shutil.copytree(busybox_rootfs, rootfs, symlinks=True)
    try:
        path = rootfs / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(target.format(up=UP, canary=canary))
        words = [
            "--hostname",
            "inside",
            "--add-host",
            "a:192.0.2.1",
            "--dns",
            "192.0.2.1",
            "--tmpfs",
            "/run",
            "--tmpfs",
            "/tmp",
        ]
        script = f"cat {canary}/file /{name}/file; echo x >/{name}/made; echo x >/etc/hosts; true"
        done = session_sbx("run", *words, f"rootfs:{rootfs}", "/bin/busybox", "sh", "-c", script)
        assert done.returncode in (0, 125), done
        assert "of the host" not in done.stdout
        if done.returncode:
            assert done.stderr.startswith("sbx: ")
        assert sorted(os.listdir(tmp_path)) == ["canary", "rootfs"]
    finally:
        remove_tree(rootfs)


TRAPS = ("newuidmap", "newgidmap", "slirp4netns", "pasta", "fuse-overlayfs", "python3", "tar", "sh", "unpigz", "zstd")


@pytest.mark.parametrize(
    "options", [[], ["--init"], ["--network", "slirp4netns"], ["--storage-driver", "fuse-overlayfs"]]
)
def test_I20_variables_of_the_image_reach_the_command_only(
    options: list[str], sbx: Sbx, image: Make, tmp_path: Path
) -> None:
    """PATH, LD_*, PYTHON*, SBX_*: the tool and its helpers neither load nor run nor write what they name."""
    fired = tmp_path / "fired"
    fired.mkdir()
    fired.chmod(0o777)
    trap = f"#!/bin/busybox sh\n: >{fired}/$0; : >/fired/x\n".encode()
    # In the image, and on the host under the same path: wherever it was looked for, it would be found.
    folder = tmp_path / "trap"
    folder.mkdir()
    for name in TRAPS:
        (folder / name).write_bytes(trap)
        (folder / name).chmod(0o755)
    (folder / "sandbox.py").write_text(f"open('{fired}/module', 'w')\n")
    variables = [
        f"PATH={folder}:/trap:/bin", f"LD_PRELOAD={folder}/evil.so", f"LD_LIBRARY_PATH={folder}", f"PYTHONPATH={folder}",
        f"PYTHONHOME={folder}", f"PYTHONSTARTUP={folder}/sandbox.py", f"SBX_STORE={tmp_path}/elsewhere", "SBX_DEBUG=1",
        f"XDG_DATA_HOME={tmp_path}/elsewhere", f"XDG_CACHE_HOME={tmp_path}/elsewhere", f"TMPDIR={tmp_path}/elsewhere",
        f"HOME={tmp_path}/elsewhere", "SBX_NETWORK=host", "SBX_STORAGE_DRIVER=copy", "BASH_ENV=/trap/sh",
    ]  # fmt: skip
    layer = tar(entry("trap", None), *[entry(f"trap/{name}", trap, mode=0o755) for name in TRAPS], entry("fired", None))
    reference = image({"Env": variables, "Entrypoint": ["/bin/busybox"]}, layer)
    done = sbx("run", *options, "-v", f"{fired}:/fired", reference, "env")
    assert (done.returncode, [line for line in done.stderr.splitlines() if "LD_PRELOAD" not in line]) == (0, [])
    shown = done.stdout.splitlines()
    assert set(variables) <= set(shown)
    assert os.listdir(fired) == []
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("odd", ["=x", "NOVALUE", "", "A=\nB=c", "A=\x1b[31m", "=", "A\0=b"])
def test_I20_odd_variables(odd: str, sbx: Sbx, image: Make) -> None:
    """Passed on as they are, left out, or refused in words; the others stay."""
    done = sbx("run", image({"Env": ["GOOD=1", odd, *ENVIRONMENT]}), "sh", "-c", "echo $GOOD")
    if done.returncode == 125:
        assert done.stderr.startswith("sbx: ") and "internal error" not in done.stderr
    else:
        assert (done.returncode, done.stdout) == (0, "1\n"), done
    assert "\x1b" not in done.stderr


def test_I20_very_many_variables(sbx: Sbx, image: Make) -> None:
    """As many as a config has room for: the kernel says no to them, and soon."""
    many = [f"A{number}=1" for number in range(200000)]
    done = sbx("run", image({"Env": [*ENVIRONMENT, *many]}), "true", timeout=60)
    assert (done.returncode, done.stderr) == (126, "sbx: execute `true`: Argument list too long\n")


@pytest.mark.parametrize("options", [["--read-only"], ["--image-volume", "tmpfs"]], ids=str)
def test_I18_very_many_volumes(options: list[str], sbx: Sbx, image: Make) -> None:
    done = sbx("run", *options, image({"Volumes": {f"/v{number}": {} for number in range(50000)}}), "true", timeout=60)
    assert done.returncode == 125 and "make volumes: the image names 50000" in done.stderr


def test_I18_volumes_of_the_image_have_no_options(sbx: Sbx, image: Make) -> None:
    done = sbx("run", "--image-volume", "tmpfs", image({"Volumes": {"/x:exec,suid,dev": {}}}), "true")
    assert done.returncode == 125 and "sbx: make volume `/x:exec,suid,dev`" in done.stderr


LABELS = {
    "io.sbx.privileged": "true", "dev.sbx.seccomp": "", "dev.sbx.network": "host", "dev.sbx.keep": "1", "dev.sbx.landlock": "",
    "io.sbx.run": "sbx run --privileged -v /:/host IMAGE", "run": "podman run --privileged IMAGE", "io.podman.annotations.seccomp": "unconfined",
    "io.podman.annotations.userns": "host", "run.oci.keep_original_groups": "1", "org.systemd.property.X": "1",
    "io.containers.autoupdate": "registry", "io.containers.capabilities": "SYS_ADMIN", "dev.sbx.user": "0", "dev.sbx.layers": "/etc",
    "run.oci.hooks.stderr": "/tmp/x", "io.kubernetes.cri-o.userns-mode": "private",
}  # fmt: skip


def test_I21_labels_and_annotations_change_nothing(sbx: Sbx, image: Make, tmp_path: Path) -> None:
    """They are shown by inspect, and the command runs as without them."""
    script = "grep -E 'Cap|Seccomp:|NoNew|Groups' /proc/self/status; cat /proc/self/uid_map; ls /sys/class/net; cut -d' ' -f5- /proc/self/mountinfo | grep -v ' / '"
    plain = sbx("run", image({}), "sh", "-c", script)
    shutil.rmtree(tmp_path / "image")
    reference = image({"Labels": LABELS, "Annotations": LABELS})
    index = json.loads((tmp_path / "image/index.json").read_text())
    layout = Layout(tmp_path / "image")
    manifest = json.loads(layout.read(index["manifests"][0]))
    manifest["annotations"] = LABELS
    again = layout.blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    index["manifests"] = [{**again, "annotations": {**LABELS, "org.opencontainers.image.ref.name": "latest"}}]
    index["annotations"] = LABELS
    (tmp_path / "image/index.json").write_text(json.dumps(index))
    done = sbx("run", reference, "sh", "-c", script)
    assert (done.returncode, done.stderr) == (plain.returncode, plain.stderr) == (0, "")
    assert done.stdout == plain.stdout
    assert sbx("load", "-q", "-i", str(tmp_path / "image")).returncode == 0
    [name] = sbx("images", "-q").stdout.split()
    assert json.loads(sbx("inspect", name).stdout)[0]["Labels"] == LABELS
    spec = json.loads(sbx("run", "--print-config", reference, "true").stdout)
    assert not set(LABELS.values()) - {"", "1", "0", "true"} & set(spec["annotations"].values())


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202ereversed\r\nsbx: forged\x7f"


def test_S08_a_hostile_image_on_a_terminal(sbx: Sbx, image: Make, tmp_path: Path) -> None:
    """Whatever stands in its config: a terminal gets no control character of it, in tables, documents and errors."""
    config = {
        "Labels": {f"a{HOSTILE}": HOSTILE}, "Env": [*ENVIRONMENT, f"X={HOSTILE}"], "Entrypoint": ["/bin/busybox"],
        "Cmd": ["echo", HOSTILE], "StopSignal": "TERM", "ExposedPorts": {},
    }  # fmt: skip
    hostile_name = tar(entry(f"data/{HOSTILE.encode('utf-8', 'surrogateescape').decode()}", b"1"))
    image(config, hostile_name)
    layout = Layout(tmp_path / "image")
    index = json.loads((tmp_path / "image/index.json").read_text())
    manifest = json.loads(layout.read(index["manifests"][0]))
    whole = json.loads(layout.read(manifest["config"]))
    whole.update(
        author=HOSTILE, created="2020-01-01T00:00:00Z", comment=HOSTILE,
        history=[{"created_by": HOSTILE, "comment": HOSTILE, "author": HOSTILE}] * 2,
    )  # fmt: skip
    manifest["config"] = layout.blob(json.dumps(whole).encode(), "application/vnd.oci.image.config.v1+json")
    manifest["annotations"] = {HOSTILE: HOSTILE}
    again = layout.blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    index["manifests"] = [{**again, "annotations": {"org.opencontainers.image.ref.name": "localhost/h:1"}}]
    (tmp_path / "image/index.json").write_text(json.dumps(index))
    assert sbx("load", "-q", "-i", str(tmp_path / "image")).returncode == 0
    spoilt = {
        "WorkingDir": f"/{HOSTILE}/x\0",
        "User": HOSTILE,
        "Entrypoint": [f"/{HOSTILE}"],
        "Volumes": {f"relative{HOSTILE}": {}},
    }
    commands = [
        ["images"], ["images", "--format", "{{.Repository}} {{.ID}}"], ["images", "--format", "json"], ["images", "--filter", f"label=a{HOSTILE}"],
        ["history", "h:1"], ["history", "--no-trunc", "h:1"], ["history", "--format", "{{.CreatedBy}} {{.Comment}}", "h:1"],
        ["inspect", "h:1"], ["inspect", "-f", "{{json .}}", "h:1"], ["history", "--format", "json", "h:1"],
        ["inspect", "-f", "{{.Labels}} {{.Config.Cmd}} {{.Author}} {{.Comment}} {{.Config.Env}}", "h:1"],
        ["run", "--print-config", "h:1"], ["run", "--print-plan", "h:1"], ["create", "--name", "c", "h:1"], ["ps", "-a", "--no-trunc"], ["inspect", "c"],
        ["diff", "c"], ["run", "--rm", "-w", f"/{HOSTILE}", "h:1"], ["run", "--rm", "-u", HOSTILE, "h:1"],
        ["run", "--rm", "--entrypoint", f"/{HOSTILE}", "h:1"], ["image", "tree", "h:1"], ["rmi", HOSTILE], ["system", "df", "-v"], ["system", "check"],
    ]  # fmt: skip
    for key, value in spoilt.items():
        Layout(tmp_path / key).image("x", [busybox_layer()], {**SHELL, key: value})
        commands.append(["run", f"oci:{tmp_path / key}:x"])
    for words in commands:
        command = " ".join(shlex.quote(word) for word in sbx.command(*words))
        done = subprocess.run(
            ["script", "-qec", command, "/dev/null"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
            env={**sbx.environment, "SBX_STORE": str(sbx.store), "COLUMNS": "4000", "TERM": "dumb", "NO_COLOR": "1"},
        )  # fmt: skip
        shown = done.stdout.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
        assert [char for char in shown if not char.isprintable() and char not in "\n\t"] == [], (words, shown)
        # What a template asks for has the lines that it has.
        assert "\nsbx: forged" not in shown or {"-f", "--format"} & set(words), (words, shown)
