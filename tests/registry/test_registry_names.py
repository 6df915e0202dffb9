"""registries.conf: which registry is asked for a name, and where."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings as bounds, strategies as st

from sandbox.errors import SandboxError
from sandbox.image.reference import normal
from sandbox.registry import configuration, names
from sandbox.registry.configuration import Configuration


def settings(text: str) -> Configuration:
    found = Configuration()
    configuration.read(text.encode(), "registries.conf", found)
    return found


def places(name: str, text: str) -> list[str]:
    return [
        f"{endpoint}{' insecure' if endpoint.insecure else ''}"
        for endpoint in names.endpoints(normal(name), settings(text))
    ]


DIGEST = "sha256:" + "0" * 64
MIRRORED = """
[[registry]]
prefix = "example.org/team"
location = "internal.example:5000/mirror/team"
insecure = true
[[registry.mirror]]
location = "one.example/team"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "two.example"
insecure = true
[[registry.mirror]]
location = "three.example"
pull-from-mirror = "tag-only"
[[registry]]
location = "example.org"
blocked = true
[[registry]]
prefix = "*.wild.example"
insecure = true
[[registry]]
location = "example.org/teamwork"
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("quay.io/x/y", ["quay.io/x/y"]),
        ("docker.io/busybox", ["docker.io/library/busybox"]),
        ("example.org/team/app:1", ["two.example/app insecure", "three.example/app", "internal.example:5000/mirror/team/app insecure"]),
        (f"example.org/team/app@{DIGEST}", ["one.example/team/app", "two.example/app insecure", "internal.example:5000/mirror/team/app insecure"]),
        ("example.org/teamwork/x", ["example.org/teamwork/x"]),
        ("a.wild.example/x", ["a.wild.example/x insecure"]),
        ("a.b.wild.example:5000/x", ["a.b.wild.example:5000/x insecure"]),
        ("wild.example/x", ["wild.example/x"]),
        ("notwild.example/x", ["notwild.example/x"]),
    ],
)  # fmt: skip
def test_endpoints(name: str, expected: list[str]) -> None:
    assert places(name, MIRRORED) == expected


def test_blocked() -> None:
    with pytest.raises(SandboxError, match=r"use registry.*example\.org.*blocked"):
        places("example.org/other", MIRRORED)


def test_mirror_by_digest_only() -> None:
    text = '[[registry]]\nlocation="a.example"\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation="b.example"\n'
    assert places("a.example/x:1", text) == ["a.example/x"]
    assert places(f"a.example/x@{DIGEST}", text) == ["b.example/x", "a.example/x"]


def test_prefix_with_a_tag() -> None:
    text = '[[registry]]\nprefix="a.example/x:1"\nlocation="b.example/y"\n'
    assert places("a.example/x:1", text) == ["b.example/y"]
    assert places("a.example/x:12", text) == ["a.example/x"]


def test_push_goes_to_the_name_itself() -> None:
    endpoint = names.upload_endpoint(normal("example.org/team/app"), settings(MIRRORED))
    assert (str(endpoint), endpoint.insecure) == ("example.org/team/app", True)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("busybox", "", ["docker.io/library/busybox:latest"]),
        ("me/tool:1", "", ["docker.io/me/tool:1"]),
        ("quay.io/x", 'unqualified-search-registries=["a.example"]', ["quay.io/x:latest"]),
        ("localhost/x", "", ["localhost/x:latest"]),
        ("x", 'unqualified-search-registries=["a.example"]', ["a.example/x:latest"]),
        ("x", 'short-name-mode="disabled"\nunqualified-search-registries=["a.example","docker.io"]', ["a.example/x:latest", "docker.io/library/x:latest"]),
        ("x", 'short-name-mode="permissive"\nunqualified-search-registries=["a.example","b.example"]', ["a.example/x:latest", "b.example/x:latest"]),
        ("x:3", 'unqualified-search-registries=["a.example"]\n[aliases]\nx="b.example/other"', ["b.example/other:3"]),
        (f"x@{DIGEST}", '[aliases]\nx="b.example/other"', [f"b.example/other@{DIGEST}"]),
        ("y/x", '[aliases]\n"y/x"="b.example/other"', ["b.example/other:latest"]),
        ("x", 'short-name-mode="disabled"\n[aliases]\nx="b.example/other"', ["docker.io/library/x:latest"]),
        ("x", "unqualified-search-registries=[]", ["docker.io/library/x:latest"]),
    ],
)  # fmt: skip
def test_G13_short_names(name: str, text: str, expected: list[str]) -> None:
    assert [str(ref) for ref in names.candidates(name, settings(text))] == expected


def test_G13_short_name_that_could_be_from_two_registries() -> None:
    two = settings('unqualified-search-registries=["a.example","b.example"]')
    with pytest.raises(
        SandboxError, match=r"resolve short name `x`: it could be from any of a.example, b.example"
    ) as found:
        names.candidates("x", two)
    assert "a.example/x" in found.value.hint


@pytest.mark.parametrize("alias", ["other", "b.example/other:1", "", "b.example/UPPER"])
def test_bad_alias(alias: str) -> None:
    text = f'[aliases]\nx="{alias}"'
    if alias:
        with pytest.raises(SandboxError):
            names.candidates("x", settings(text))
    else:
        assert str(names.candidates("x", settings(text))[0]) == "docker.io/library/x:latest"


def test_drop_ins(monkeypatch: pytest.MonkeyPatch, nobodys_files: Path) -> None:
    """The user's file replaces the system's; drop-ins of both are read, the user's last."""
    monkeypatch.delenv("SBX_REGISTRIES_CONF")
    system, user = nobodys_files / "etc", nobodys_files / ".config/containers"
    monkeypatch.setattr(configuration, "SYSTEM", str(system))
    for path, text in (
        (system / "registries.conf", '[[registry]]\nlocation="a.example"\nblocked=true\n'),
        (system / "registries.conf.d/1.conf", '[aliases]\nx="one.example/x"\ny="one.example/y"\n'),
        (system / "registries.conf.d/readme", "not TOML"),
        (user / "registries.conf.d/1.conf", '[aliases]\nx="two.example/x"\n'),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = configuration.load()
    assert found.aliases == {"x": "two.example/x", "y": "one.example/y"} and "a.example" in found.registries
    (user / "registries.conf").write_text("")
    assert configuration.load().registries == {}
    for variable in ("CONTAINERS_REGISTRIES_CONF", "SBX_REGISTRIES_CONF"):
        monkeypatch.setenv(variable, str(system / "registries.conf"))
        assert configuration.load().aliases == {}
    monkeypatch.setenv("SBX_REGISTRIES_CONF", str(system / "none"))
    with pytest.raises(SandboxError, match="read registries configuration"):
        configuration.load()


def test_configuration_is_kept_until_a_file_changes(monkeypatch: pytest.MonkeyPatch, nobodys_files: Path) -> None:
    path = nobodys_files / "registries.conf"
    path.write_text('short-name-mode = "disabled"\n' + MIRRORED)
    first = configuration.load()
    reads: list[str] = []
    real = configuration.read
    monkeypatch.setattr(configuration, "read", lambda raw, path, found: (reads.append(path), real(raw, path, found)))
    assert configuration.load().plain() == first.plain() and reads == []
    assert configuration.load().registries["example.org/team"].mirrors[0] == ("one.example/team", False, "digest-only")
    path.write_text(MIRRORED.replace("blocked = true", "blocked = false"))
    assert not configuration.load().registries["example.org"].blocked and reads == [str(path)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[registry]\n", "not TOML"),
        ("registry = 1", "`registry` is not a list"),
        ("registry = [1]", "tables"),
        ("[[registry]]\ninsecure = true", "neither"),
        ('[[registry]]\nlocation = "https://a.example"', "scheme"),
        ('[[registry]]\nlocation = "a"\ninsecure = "yes"', "`insecure` is not true or false"),
        ('[[registry]]\nprefix = "a.*.example"', "wildcard"),
        ('[[registry]]\nlocation = "a"\nmirror = [{}]', "no `location`"),
        ('[[registry]]\nlocation = "a"\nmirror = [{location="b", pull-from-mirror="never"}]', "pull-from-mirror"),
        ("[aliases]\nx = 1", "alias"),
        ("unqualified-search-registries = [1]", "host names"),
        ('short-name-mode = "maybe"', "short-name-mode"),
        ("[registries.search]\nregistries = []", "version 1"),
    ],
)
def test_configuration_that_is_wrong(text: str, words: str) -> None:
    with pytest.raises(SandboxError) as found:
        settings(text)
    assert found.value.step == "read registries configuration" and words in found.value.detail


values = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["a.example", "*.b", "docker.io/x", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["prefix", "location", "insecure", "blocked", "mirror", "pull-from-mirror"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value if abs(value) < 2**62 else 0)
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(char):08x}" if not 0xD800 <= ord(char) < 0xE000 else "?" for char in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return "{" + ", ".join(f'"{key}" = {_toml(inner)}' for key, inner in value.items()) + "}"  # type: ignore[attr-defined]


@bounds(suppress_health_check=[HealthCheck.too_slow])  # its first example, on a busy machine
@given(
    st.dictionaries(
        st.sampled_from(["registry", "aliases", "unqualified-search-registries", "short-name-mode", "registries"]),
        values,
    )
)
def test_any_configuration(table: dict[str, object]) -> None:
    """It is read or refused in one line; then every name has endpoints, is blocked, or has no usable alias."""
    text = "\n".join(f'"{key}" = {_toml(value)}' for key, value in table.items())
    try:
        found = settings(text)
        assert names.endpoints(normal("docker.io/x/y"), found)[-1]
        assert names.candidates("x", found)
    except SandboxError as error:
        assert str(error)


@given(st.binary(max_size=200))
def test_any_bytes_as_configuration(raw: bytes) -> None:
    try:
        configuration.read(raw, "x", Configuration())
    except SandboxError as error:
        assert str(error)


def test_real_short_names_file() -> None:
    path = "/etc/containers/registries.conf.d/shortnames.conf"
    if not os.path.exists(path):
        pytest.skip("no shortnames.conf here")
    assert names.candidates("alpine", settings(Path(path).read_text()))[0].host == "docker.io"
