"""Images and root file systems for tests and benchmarks, made on the spot by real tools and kept for the next run.

Everything lands in one folder outside of the tree, under a name that has a hash of the recipe (its source, and what goes
in).  Made in a temporary folder next to it, under a lock, and renamed: several test processes may ask at once.

    busybox_rootfs()    folder; busybox with its applets as links, passwd, group, /tmp
    busybox()           Images: the same as OCI layout (buildah), oci-archive and docker-archive (skopeo)
    layered(3)          two layers by buildah, one of our own: whiteouts, an opaque folder, hard links, set-uid, ...
    layered(n)          n layers by our own writer: layer i adds /layers/i, and removes /layers/(i-2);
                        above 100 only the layout is made
    debian()            Images: Debian's essential packages, by mmdebstrap from the mirror of this machine's apt
"""

import fcntl
import hashlib
import inspect
import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


@dataclass(frozen=True)
class Images:
    """One image in the forms that `sbx run` takes without a registry."""

    layout: Path  # folder
    tag: str
    oci_archive: Path
    docker_archive: Path

    @property
    def oci(self) -> str:
        """Reference of the OCI layout."""
        return f"oci:{self.layout}:{self.tag}"


def cache() -> Path:
    """Where finished images are kept, per user."""
    own = os.environ.get("SBX_TEST_CACHE")
    path = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sbx-tests"
    path.mkdir(parents=True, exist_ok=True)
    return path


def call(*words: str | Path, stdin: bytes = b"") -> str:
    """Run a tool; its stdout.  A failure shows the command and its stderr."""
    done = subprocess.run([str(w) for w in words], input=stdin, capture_output=True, timeout=600, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace")
        raise RuntimeError(f"{shlex.join(str(w) for w in words)}: exit status {done.returncode}\n{said[-3000:]}")
    return done.stdout.decode()


def made(name: str, recipe: Callable[[Path], None], *ingredients: bytes) -> Path:
    """The folder that `recipe` fills, made once for this source and these ingredients."""
    # All of this file: recipes call each other.
    source = inspect.getsource(inspect.getmodule(made)).encode()  # type: ignore[arg-type]
    key = hashlib.sha256(b"\0".join((source, ARCHITECTURE.encode(), *ingredients))).hexdigest()[:16]
    final = cache() / f"{name}-{key}"
    if final.is_dir():
        return final
    with open(cache() / f".lock-{name}", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if final.is_dir():
            return final
        for old in cache().glob(f"{name}-" + "?" * 16):
            remove_tree(old)
        new = cache() / f".new-{name}"
        remove_tree(new)
        new.mkdir()
        recipe(new)
        new.rename(final)
    return final


def remove_tree(path: Path) -> None:
    """Remove `path` with files of subordinate ids in it: as root of a user namespace, where there are some."""

    def gone() -> None:
        for folder, names, _ in os.walk(path):
            for inner in names:
                if not os.path.islink(f"{folder}/{inner}"):
                    os.chmod(f"{folder}/{inner}", 0o700)
        shutil.rmtree(path, ignore_errors=True)

    try:
        gone()
    except OSError:
        pass
    if os.path.lexists(path):
        from sandbox import idmap, userns  # only here: the rest needs no sbx

        userns.call(idmap.resolve(), gone)


# -- root file systems --


def _busybox() -> Path:
    for candidate in ("/bin/busybox.static", "/usr/bin/busybox", "/bin/busybox"):
        if os.path.exists(candidate):
            return Path(candidate)
    raise FileNotFoundError("busybox: install busybox-static")


def busybox_rootfs() -> Path:
    """A folder with a static busybox and little else, owned by the caller."""

    def recipe(new: Path) -> None:
        root = new / "rootfs"
        for name in (
            "bin",
            "dev",
            "etc",
            "home/app",
            "proc",
            "root",
            "run",
            "sbin",
            "sys",
            "tmp",
            "usr/bin",
            "var/tmp",
        ):
            (root / name).mkdir(parents=True)
        for name in ("tmp", "var/tmp"):
            (root / name).chmod(0o1777)
        (root / "root").chmod(0o700)
        shutil.copy(_busybox(), root / "bin/busybox")
        for applet in call(_busybox(), "--list").split():
            if applet != "busybox":
                (root / "bin" / applet).symlink_to("busybox")
        (root / "bin/busybox").chmod(0o755)
        (root / "etc/passwd").write_text(
            "root:x:0:0:root:/root:/bin/sh\n"
            "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
            "app:x:1000:1000:an application:/home/app:/bin/sh\n"
            "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
        )
        (root / "etc/group").write_text(
            "root:x:0:\ndaemon:x:1:\naudio:x:29:app\napp:x:1000:\nvideo:x:44:app,nobody\nnogroup:x:65534:\n"
        )
        (root / "etc/os-release").write_text('ID=sbx-test\nPRETTY_NAME="busybox of the tests"\n')

    return made("busybox-rootfs", recipe, _busybox().read_bytes()) / "rootfs"


def _apt_sources() -> list[Path]:
    """The files that say which mirrors this machine's apt uses."""
    listed = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return [path for path in listed if path.suffix in (".list", ".sources") and path.is_file()]


def _debian_tar(target: Path) -> None:
    """Debian's essential packages as a tar file; as an ordinary user in a user namespace of mmdebstrap's own."""
    if not shutil.which("mmdebstrap"):
        raise FileNotFoundError("mmdebstrap: install it (Debian, Ubuntu, Arch)")
    proxies = [
        f"--aptopt={line.rstrip(';')}" for line in call("apt-config", "dump").split("\n") if "::proxy" in line.lower()
    ]
    # Without a suite the sources come from standard input, as this machine's apt has them.
    sources = b"\n\n".join(path.read_bytes() for path in _apt_sources())
    call("mmdebstrap", "--variant=essential", "--format=tar", *proxies, "", target, "-", stdin=sources)


def _debian_tar_file() -> Path:
    return made("debian-tar", lambda new: _debian_tar(new / "root.tar")) / "root.tar"


# -- layouts --


class Layout:
    """An OCI image layout under construction, written by hand: cheap for hundreds of layers, exact for odd ones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, content: bytes, media_type: str) -> dict[str, object]:
        """Store `content`; gives its descriptor."""
        digest = hashlib.sha256(content).hexdigest()
        (self.path / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def read(self, descriptor: dict[str, str]) -> bytes:
        """The content of a descriptor."""
        return (self.path / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()

    def image(self, tag: str, layers: Iterable[bytes], config: dict[str, object], base: str = "") -> None:
        """Add image `tag`: uncompressed tar `layers`, on top of those of image `base` of this layout."""
        index_file = self.path / "index.json"
        index = json.loads(index_file.read_text()) if index_file.exists() else {"schemaVersion": 2, "manifests": []}
        descriptors, diff_ids = [], []
        for entry in index["manifests"]:
            if base and entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == base:
                manifest = json.loads(self.read(entry))
                descriptors += manifest["layers"]
                diff_ids += json.loads(self.read(manifest["config"]))["rootfs"]["diff_ids"]
        for layer in layers:
            descriptor = self.blob(layer, "application/vnd.oci.image.layer.v1.tar")
            descriptors.append(descriptor)
            diff_ids.append(descriptor["digest"])
        whole = {
            "architecture": ARCHITECTURE, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }  # fmt: skip
        config_descriptor = self.blob(json.dumps(whole).encode(), "application/vnd.oci.image.config.v1+json")
        manifest = {
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config_descriptor, "layers": descriptors,
        }  # fmt: skip
        entry = self.blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
        entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
        index["manifests"].append(entry)
        index_file.write_text(json.dumps(index))


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """An uncompressed tar file of these entries, as they are: odd names and types included."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in entries:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def entry(name: str, content: bytes | None = b"", *, mode: int = 0o644, uid: int = 0, gid: int = 0, kind: bytes = b"",
          link: str = "", xattrs: dict[str, str] | None = None) -> tuple[tarfile.TarInfo, bytes]:  # fmt: skip
    """One tar entry: a file, or a folder for content None, or what `kind` (tarfile.SYMTYPE, ...) says."""
    info = tarfile.TarInfo(name)
    info.type = kind or (tarfile.DIRTYPE if content is None else tarfile.REGTYPE)
    info.mode = 0o755 if content is None and mode == 0o644 else mode
    info.uid, info.gid, info.linkname = uid, gid, link
    info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
    return info, content or b""


def busybox_layer() -> bytes:
    """The busybox root file system as one layer owned by root."""
    buffer = io.BytesIO()

    def owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
        app = info.name == "home/app"
        info.uid = info.gid = 1000 if app else 0
        info.uname = info.gname = ""
        info.mtime = 0
        return info

    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(busybox_rootfs().iterdir()):
            archive.add(path, path.name, filter=owned)
    return buffer.getvalue()


def _archives(folder: Path, tag: str) -> None:
    """oci.tar and docker.tar next to the layout, by skopeo."""
    copy = ("skopeo", "--tmpdir", folder, "copy", "--quiet", "--insecure-policy", f"oci:{folder}/layout:{tag}")
    call(*copy, f"oci-archive:{folder}/oci.tar:{tag}")
    call(*copy, f"docker-archive:{folder}/docker.tar:localhost/{folder.name.lstrip('.')}:{tag}")


def _images(folder: Path, tag: str) -> Images:
    return Images(folder / "layout", tag, folder / "oci.tar", folder / "docker.tar")


def _buildah(new: Path, script: str) -> None:
    """Run a shell script in which `b` is an unprivileged buildah with storage of its own, and clean up after it.

    vfs: needs nothing of the machine; `chroot`: no runtime below it.
    """
    storage = new / "buildah"
    b = f"buildah --root {storage}/s --runroot {storage}/r --storage-driver vfs"
    # Root mounts as it is; a namespace would need a subordinate range that it may not have.
    unshare = f"{b} unshare" if os.geteuid() else ""
    try:
        call("sh", "-euc", f'b() {{ {b} "$@"; }}\nB="{b}"\nU="{unshare}"\n{script}')
    finally:
        if storage.exists():
            subprocess.run([*unshare.split(), "rm", "-rf", storage])


def busybox() -> Images:
    """The busybox image; Cmd is `sh`."""

    def recipe(new: Path) -> None:
        _buildah(new, f"""
            c=$(b from scratch)
            b copy --quiet $c {busybox_rootfs()} /
            b config --cmd sh --env {ENVIRONMENT[0]} --label dev.sbx.test=busybox $c
            b commit --quiet $c oci:{new}/layout:latest
        """)  # fmt: skip
        _archives(new, "latest")

    return _images(made("busybox-oci", recipe, _busybox().read_bytes()), "latest")


def layered(count: int) -> Images:
    """An image of `count` layers.  With 3, /data holds what images do to each other's files:

    layer 1  /data/{keep,gone,replaced,tree/a,tree/b,opaque/old,link,hard1,hard2,owned}, busybox
    layer 2  no gone; tree with only c; `replaced` is a folder; /data/suid 4755, /data/cap with cap_net_raw; owned by 1000
    layer 3  /data/opaque (opaque: `old` is hidden) with new; /data/late
    """
    if count == 3:
        return _images(made("layered-3", _three_layers, _busybox().read_bytes()), "latest")

    def recipe(new: Path) -> None:
        small = (
            tar(
                entry("layers", None),
                entry(f"layers/{number}", str(number).encode()),
                *([entry(f"layers/.wh.{number - 2}")] if number > 2 else []),
                entry("last", str(number).encode()),
            )
            for number in range(1, count)
        )
        Layout(new / "layout").image("latest", [busybox_layer(), *small], {"Cmd": ["sh"], "Env": ENVIRONMENT})
        if count <= 100:  # skopeo takes 30 ms for each layer
            _archives(new, "latest")

    return _images(made(f"layered-{count}", recipe, _busybox().read_bytes()), "latest")


def _three_layers(new: Path) -> None:
    _buildah(new, f"""
        c=$(b from scratch)
        b copy --quiet $c {busybox_rootfs()} /
        b config --cmd sh --env {ENVIRONMENT[0]} $c
        $U sh -euc '
            cd "$('"$B"' mount '$c')"; mkdir data data/tree data/opaque; cd data
            for name in keep gone replaced tree/a tree/b opaque/old hard1 owned; do echo 1 >$name; done
            ln hard1 hard2; ln -s keep link; ln -s /etc/passwd absolute
        '
        b commit --quiet $c one
        d=$(b from --pull-never one)
        $U sh -euc '
            cd "$('"$B"' mount '$d')/data"; rm gone replaced; rm -r tree; mkdir tree replaced
            echo 2 >tree/c; echo 2 >replaced/inner; cp ../bin/busybox suid; chmod 4755 suid
            cp ../bin/busybox cap; setcap cap_net_raw+ep cap; chown 1000:1000 owned
        '
        b commit --quiet $d oci:{new}/layout:two
    """)  # fmt: skip
    layout = Layout(new / "layout")
    third = tar(
        entry("data", None),
        entry("data/opaque", None),
        entry("data/opaque/.wh..wh..opq"),
        entry("data/opaque/new", b"3\n"),
        entry("data/late", b"3\n", uid=65534, gid=65534),
    )
    layout.image("latest", [third], {"Cmd": ["sh"], "Env": ENVIRONMENT}, base="two")
    _archives(new, "latest")


def debian() -> Images:
    """Debian's essential packages as an image of one layer."""

    def recipe(new: Path) -> None:
        # mmdebstrap puts /dev nodes in; images have none.
        plain = new / "plain.tar"
        shutil.copy(_debian_tar_file(), plain)
        call("tar", "--delete", "-f", plain, *_members_below(plain, "./dev/"))
        Layout(new / "layout").image("latest", [plain.read_bytes()], {"Cmd": ["bash"], "Env": ENVIRONMENT})
        plain.unlink()
        _archives(new, "latest")

    return _images(made("debian-oci", recipe), "latest")


def _members_below(file: Path, prefix: str) -> list[str]:
    with tarfile.open(file) as archive:
        return [
            name
            for name in (f"./{n}" if not n.startswith("./") else n for n in archive.getnames())
            if name.startswith(prefix)
        ]
