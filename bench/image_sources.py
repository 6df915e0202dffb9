"""The images that are measured, made on the spot: a Debian in one layer and in twenty, and many small ones."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from places import BenchError

PACKAGES = "perl,python3"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
OCI = "application/vnd.oci.image"


def debian(work: str) -> str:
    """A root file system in a tar, with the owners that Debian gives its files."""
    target = f"{work}/root.tar"
    if not shutil.which("mmdebstrap"):
        raise BenchError("mmdebstrap is not installed")
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout.split("\n")
    proxies = [f"--aptopt={line.rstrip(';')}" for line in dump if "::proxy" in line.lower()]
    options = ["--quiet", "--variant=minbase", f"--include={PACKAGES}", "--format=tar", *proxies]
    # Without a suite the sources come from standard input: those of this machine's apt.
    listed = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    files = [path for path in listed if path.suffix in (".list", ".sources") and path.is_file()]
    sources = "\n\n".join(path.read_text(encoding="utf-8") for path in files)
    done = subprocess.run(
        ["mmdebstrap", *options, "", target, "-"],
        env={**os.environ, "TMPDIR": work}, input=sources, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"mmdebstrap failed: {done.stderr.strip()[-300:]}")
    return target


def layers(source: str, count: int) -> Iterator[bytes]:
    """The members of a tar, in `count` tars of about the same size; links stay with what they link to."""
    with tarfile.open(source) as archive:
        members = [member for member in archive if not member.isdev() and not member.name.startswith("./dev/")]
        folders = {member.name: member for member in members if member.isdir()}
        share = sum(member.size for member in members) // count + 1
        home: dict[str, int] = {}
        seen = 0
        groups: list[list[tarfile.TarInfo]] = [[] for _ in range(count)]
        for member in members:
            number = home[member.linkname] if member.islnk() else seen // share
            home[member.name] = number
            seen += member.size
            groups[number].append(member)
        for group in groups:
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as layer:
                made: set[str] = set()
                for member in group:
                    parts = member.name.split("/")
                    for depth in range(1, len(parts) + 1):
                        name = "/".join(parts[:depth])
                        if name in folders and name not in made:
                            made.add(name)
                            layer.addfile(folders[name])
                    if not member.isdir():
                        layer.addfile(member, archive.extractfile(member) if member.isreg() else None)
            yield buffer.getvalue()


def _blob(layout: str, raw: bytes, kind: str) -> dict[str, Any]:
    digest = hashlib.sha256(raw).hexdigest()
    with open(f"{layout}/blobs/sha256/{digest}", "wb") as file:
        file.write(raw)
    return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{digest}", "size": len(raw)}


def _config(diff_ids: list[str], label: str) -> bytes:
    document = {
        "architecture": ARCHITECTURE, "os": "linux", "created": "2024-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Labels": {"number": label}}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }  # fmt: skip
    return json.dumps(document).encode()


def make_layout(layout: str, parts: Iterator[bytes]) -> None:
    """An OCI layout with one image of gzip layers, tagged `latest`."""
    os.makedirs(f"{layout}/blobs/sha256")
    diff_ids, descriptors = [], []
    for raw in parts:
        diff_ids.append("sha256:" + hashlib.sha256(raw).hexdigest())
        descriptors.append(_blob(layout, gzip.compress(raw, 6, mtime=0), "layer.v1.tar+gzip"))
    config = _blob(layout, _config(diff_ids, "0"), "config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": descriptors}
    entry = _blob(layout, json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    for name, document in (("index.json", {"schemaVersion": 2, "manifests": [entry]}), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):  # fmt: skip
        with open(f"{layout}/{name}", "w", encoding="ascii") as file:
            json.dump(document, file)


def make_many(path: str, count: int) -> None:
    """A docker-archive of `count` images that differ in a label."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        layer.addfile(tarfile.TarInfo("empty"))
    raw = buffer.getvalue()
    digest = hashlib.sha256(raw).hexdigest()
    files = {f"{digest}.tar": raw}
    document = []
    for number in range(count):
        config = _config([f"sha256:{digest}"], str(number))
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        files[name] = config
        document.append({"Config": name, "RepoTags": [f"localhost/many-{number}:latest"], "Layers": [f"{digest}.tar"]})
    files["manifest.json"] = json.dumps(document).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
