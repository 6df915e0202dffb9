"""Image names: what people type, the stored form, and the search order."""

import pytest
from hypothesis import given, strategies as st

from sandbox.errors import SandboxError
from sandbox.image import reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("typed", "local", "remote"),
    [
        ("busybox", "localhost/busybox:latest", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "localhost/busybox:1.36", "docker.io/library/busybox:1.36"),
        ("me/tool", "localhost/me/tool:latest", "docker.io/me/tool:latest"),
        (f"busybox@{DIGEST}", f"localhost/busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
    ],
)
def test_short_names_are_searched_locally_first(typed: str, local: str, remote: str) -> None:
    assert [str(ref) for ref in reference.candidates(typed)] == [local, remote]


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/library/busybox:1", "docker.io/library/busybox:1"),
        ("quay.io/a/b-c/d__e:v1.2", "quay.io/a/b-c/d__e:v1.2"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        (f"quay.io/a/b:tag@{DIGEST}", f"quay.io/a/b:tag@{DIGEST}"),
    ],
)
def test_names_with_a_host_stand_for_one_image(typed: str, full: str) -> None:
    assert [str(ref) for ref in reference.candidates(typed)] == [full]


@pytest.mark.parametrize(
    "text",
    [
        "", "Busybox", "a//b", "/a", "a/", "../x", "a/../b", "a:", "a:-x", "a:b:c", "a@sha256:12", "a@md5:" + "a" * 32,
        "a@sha256:" + "AB" * 32, "a b", "a\n", "a:b\n", "ä", "-a", "a:" + "t" * 129, "a/" * 130 + "a", "ab" * 32, ".", "..",
        "sha256:../../etc", "exa mple.com/x", "example.com:port/x", "a@", "\x1b[2J",
    ],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(SandboxError) as caught:
        reference.candidates(text)
    assert caught.value.step == "read image name"
    assert caught.value.code == 125


@pytest.mark.parametrize(
    "text",
    [
        "sha256:../../x",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 64 + "\n",
        "SHA256:" + "a" * 64,
        "md5:" + "a" * 32,
        "sha256:" + "g" * 64,
    ],
)
def test_a_digest_is_a_safe_file_name_or_none(text: str) -> None:
    assert not reference.valid_digest(text)


def test_id_prefixes() -> None:
    assert reference.id_prefix("abc") == "abc"
    assert reference.id_prefix(DIGEST) == "ab" * 32
    assert reference.id_prefix("ab") == ""
    assert reference.id_prefix("abg") == ""
    assert reference.id_prefix("abc\n") == ""


@given(st.text())
def test_any_text_is_a_name_or_an_image_name_error(text: str) -> None:
    try:
        found = reference.candidates(text)
    except SandboxError as error:
        assert error.step == "read image name"
        return
    for ref in found:
        assert reference.parse(str(ref)) == ref
        assert reference.normal(str(ref)) == ref
        assert ".." not in str(ref).split("/")


_PART = st.from_regex(r"[a-z0-9]{1,8}([._-][a-z0-9]{1,4})?", fullmatch=True)
_TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(
    host=st.sampled_from(["", "quay.io", "localhost", "r.example:5000"]),
    parts=st.lists(_PART, min_size=1, max_size=4),
    tag=st.one_of(st.just(""), _TAG),
)
def test_parsing_a_written_name_gives_its_parts(host: str, parts: list[str], tag: str) -> None:
    text = "/".join(filter(None, [host, *parts])) + (f":{tag}" if tag else "")
    try:
        ref = reference.parse(text)
    except SandboxError:
        assert len(parts) == 1 and len(parts[0]) == 64
        return
    if host or "." not in parts[0] or len(parts) == 1:
        assert (ref.host, ref.path, ref.tag) == (host, "/".join(parts), tag)
    assert str(ref) == text
