"""Archives that try to write outside of the folder that they are written to."""

import io
import os
import tarfile

import pytest

from sandbox.errors import SandboxError
from sandbox.life.tarreader import TarReader


def archive(*entries):
    """A tar of (name, kind, link name or content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, text in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
            else:
                info.linkname = text
                tar.addfile(info)
    return buffer.getvalue()


@pytest.fixture
def read(tmp_path):
    """Write an archive to the folder `in`, next to which there is the file `out`."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "out").write_text("mine")

    def read(data, **options):
        source = os.memfd_create("tar")
        os.write(source, data)
        os.lseek(source, 0, os.SEEK_SET)
        folder = os.open(tmp_path / "in", os.O_RDONLY | os.O_DIRECTORY)
        try:
            TarReader(folder, **options).read(source)
        finally:
            os.close(folder)
            os.close(source)

    yield read
    assert (tmp_path / "out").read_text() == "mine"
    assert os.listdir(tmp_path / "secret") == []


SYM, LNK, REG = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.REGTYPE


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "entries",
    [
        (("../out", REG, "x"),),
        (("/out", REG, "x"),),
        (("a/../../out", REG, "x"),),
        (("l", SYM, "../secret"), ("l/x", REG, "x")),
        (("l", SYM, ".."), ("l/out", REG, "x")),
        (("l", SYM, "../secret"), ("l/d/x", REG, "x")),
        (("h", LNK, "../out"),),
        (("l", SYM, ".."), ("h", LNK, "l/out"), ("h", REG, "x")),
    ],
)
def test_I01_I02_I03_refused(read, entries, overwrite):
    with pytest.raises(SandboxError) as caught:
        read(archive(*entries), overwrite=overwrite)
    assert caught.value.step in ("read archive", "write")


def test_a_file_over_a_link_replaces_the_link(read, tmp_path):
    read(archive(("l", SYM, "../out"), ("l", REG, "x")))
    assert (tmp_path / "in/l").read_text() == "x" and not (tmp_path / "in/l").is_symlink()


def test_I02_a_link_that_was_there_is_not_followed(read, tmp_path):
    (tmp_path / "in/l").symlink_to("../secret")
    with pytest.raises(SandboxError):
        read(archive(("l/x", REG, "x")))


def test_attributes_of_a_link_are_not_its_targets(read, tmp_path):
    (tmp_path / "out").chmod(0o600)
    read(archive(("l", SYM, "../out")))
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", [REG, SYM, tarfile.DIRTYPE])
@pytest.mark.parametrize(
    "headers", [{"mtime": "inf"}, {"mtime": "nan"}, {"mtime": "1e30"}, {"SCHILY.xattr.user.a\0b": "c"}, {"linkpath": "a\0b"}]
)  # fmt: skip
def test_headers_that_make_no_sense(read, kind, headers):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("x")
        info.type, info.linkname, info.pax_headers = kind, "y" if kind == SYM else "", headers
        tar.addfile(info)
    if "linkpath" in headers and kind != SYM:
        read(buffer.getvalue())  # nothing of theirs
        return
    with pytest.raises(SandboxError) as caught:
        read(buffer.getvalue())
    assert caught.value.step == "read archive"


@pytest.mark.parametrize("data", [b"", b"no tar at all", archive(("x", REG, "content"))[:600]])
def test_what_is_no_archive(read, data):
    with pytest.raises(SandboxError) as caught:
        read(data)
    assert caught.value.step == "read archive"
