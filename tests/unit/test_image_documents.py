"""Manifests, indexes and configs of strangers: one meaning, or an error that names the document."""

import datetime
import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sandbox.errors import SandboxError
from sandbox.image import describe, jsonstrict, limits, manifest
from sandbox.image.goformat import headings, render
from sandbox.image.keyed import expression
from sandbox.image.store import SIZE, named

HEX = "ab" * 32
DIGEST = f"sha256:{HEX}"


def _descriptor(kind: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": DIGEST, "size": 10, **more}


def _manifest(**more: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": manifest.MANIFEST,
        "config": _descriptor(manifest.CONFIG),
        "layers": [_descriptor(manifest.LAYER)],
        **more,
    }


def _config(**more: Any) -> dict[str, Any]:
    return {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [DIGEST]}, **more}


def _refused(document: Any, words: str, kind: str = manifest.MANIFEST) -> None:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(SandboxError) as caught:
        manifest.parse_manifest(raw, kind, "x")
    assert words in str(caught.value)
    assert caught.value.code == 125


# -- json --


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"a": 1, "a": 2}', "`a` appears twice"),
        (b'{"x": {"layers": [], "layers": []}}', "appears twice"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": ["\\ud800"]}', "not UTF-8 text"),
        (b'{"\\uDC00\\ud800": 1}', "not UTF-8 text"),
        (b'{"a": Infinity}', "is not JSON"),
        (b"[" * 100 + b"]" * 100, "nested more than 64 deep"),
        (b"[" * 1_000_000, "nested more than"),
        (b'{"a": ' + b"9" * 30 + b"}", "more than 20 digits"),
        (b"\xff\xfe", "not UTF-8"),
        (b"{}x", "Extra data"),
        (b"", "Expecting value"),
        (b" " * (limits.JSON_BYTES + 1), "longer than 4 MiB"),
    ],
)
def test_I14_json_that_is_refused(raw: bytes, words: str) -> None:
    with pytest.raises(SandboxError) as caught:
        jsonstrict.loads(raw, "file")
    assert words in str(caught.value)
    assert caught.value.step == "read json"


def test_whole_surrogate_pairs_are_text() -> None:
    assert jsonstrict.loads(b'{"a": "\\ud83d\\uDE00"}', "file") == {"a": "\U0001f600"}


@given(st.binary())
def test_bytes_are_json_or_a_json_error(raw: bytes) -> None:
    try:
        value = jsonstrict.loads(raw, "file")
    except SandboxError as error:
        assert error.step == "read json"
    else:
        assert value == json.loads(raw)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_JSON)
def test_what_we_write_we_read(value: Any) -> None:
    assert jsonstrict.loads(jsonstrict.dumps(value), "x") == value


# -- manifests --


def test_a_manifest() -> None:
    found = manifest.parse_manifest(json.dumps(_manifest()).encode(), manifest.MANIFEST, "x")
    assert (found.config.digest, len(found.layers), found.layers[0].size) == (DIGEST, 1, 10)


def test_I13_manifest_and_index_in_one() -> None:
    _refused(_manifest(manifests=[]), "both a manifest and an index")


def test_I13_media_type_other_than_announced() -> None:
    _refused(_manifest(mediaType=manifest.INDEX), "where `application/vnd.oci.image.manifest.v1+json` was announced")
    _refused(_manifest(), "was announced", manifest.INDEX)


def test_schema_one() -> None:
    _refused(_manifest(schemaVersion=1), "schema version 1")


@pytest.mark.parametrize("digest", ["sha256:../../../../etc/passwd", "md5:" + "a" * 32, "", 7, None, DIGEST + "0"])
def test_I12_digests_that_are_none(digest: Any) -> None:
    _refused(_manifest(config=_descriptor(manifest.CONFIG, digest=digest)), "digest")


@pytest.mark.parametrize("size", [-1, 1 << 62, "10", True, 1.5, None])
def test_sizes_that_are_none(size: Any) -> None:
    _refused(_manifest(layers=[_descriptor(manifest.LAYER, size=size)]), "size")


def test_artifacts_and_unknown_layers() -> None:
    _refused(_manifest(config=_descriptor("application/vnd.oci.empty.v1+json")), "not a container image")
    _refused(_manifest(layers=[_descriptor("application/vnd.oci.image.layer.v1.tar+encrypted")]), "unknown media type")


def test_too_many_layers() -> None:
    _refused(_manifest(layers=[_descriptor(manifest.LAYER)] * (limits.LAYERS + 1)), "layers")


@pytest.mark.parametrize("history", [5, "made", {"a": 1}, ["made"], [None]])
def test_a_history_that_is_none(history: Any) -> None:
    with pytest.raises(SandboxError, match="`history` is not"):
        manifest.parse_config(json.dumps(_config(history=history)).encode(), "x", 1)


@given(_JSON)
def test_any_json_is_a_manifest_or_an_error(value: Any) -> None:
    raw = json.dumps(value).encode()
    with pytest.raises(SandboxError):
        manifest.parse_manifest(raw, "", "x")
    with pytest.raises(SandboxError):
        manifest.parse_config(raw, "x", 1)


@given(key=st.sampled_from(["schemaVersion", "mediaType", "config", "layers"]), value=_JSON)
def test_a_manifest_with_one_wrong_value(key: str, value: Any) -> None:
    raw = json.dumps(_manifest(**{key: value})).encode()
    try:
        manifest.parse_manifest(raw, manifest.MANIFEST, "x")
    except SandboxError as error:
        assert error.step in ("read json", "read manifest")
    else:
        assert (key, value) in (("schemaVersion", 2), ("layers", []), ("mediaType", manifest.MANIFEST))


# -- configs --


def test_config_values_are_checked_and_filled_in() -> None:
    inner = {"Env": ["A=b"], "Cmd": None, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "Labels": None}
    found = manifest.parse_config(json.dumps(_config(config=inner)).encode(), "x", 1)
    assert found.run == {
        "Env": ["A=b"], "Cmd": [], "Entrypoint": [], "WorkingDir": "", "User": "", "StopSignal": "", "Volumes": ["/v"],
        "ExposedPorts": ["80/tcp"], "Labels": {}, "Healthcheck": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    "inner",
    [
        {"Env": "A=b"}, {"Env": [1]}, {"Cmd": "sh"}, {"Cmd": [None]}, {"Entrypoint": {}}, {"User": 0.5}, {"WorkingDir": ["/"]},
        {"Labels": {"a": 1}}, {"Volumes": ["/v"]}, {"ExposedPorts": "80"}, {"Env": ["A=\0"]}, {"User": "a\0b"},
    ],
)  # fmt: skip
def test_I14_config_of_wrong_types(inner: dict[str, Any]) -> None:
    with pytest.raises(SandboxError) as caught:
        manifest.parse_config(json.dumps(_config(config=inner)).encode(), "x", 1)
    assert caught.value.step in ("read json", "read image config")


def test_I11_diff_ids_must_be_as_many_as_layers() -> None:
    with pytest.raises(SandboxError, match="1 diff ids for 2 layers"):
        manifest.parse_config(json.dumps(_config()).encode(), "x", 2)


def test_diff_ids_must_be_sha256() -> None:
    with pytest.raises(SandboxError, match="not a sha256 digest"):
        manifest.parse_config(json.dumps(_config(rootfs={"diff_ids": ["sha256:../x"]})).encode(), "x", 1)


# -- platforms --


def _entries(*platforms: str) -> list[manifest.Descriptor]:
    found = []
    for words in platforms:
        parts = words.split("/")
        value = dict(zip(("os", "architecture", "variant"), parts, strict=False))
        found.append(manifest.descriptor(_descriptor(manifest.MANIFEST, platform=value), "x"))
    return found


def test_platform_of_this_machine_is_chosen() -> None:
    system, architecture, _ = manifest.machine()
    chosen = manifest.choose(_entries("linux/s390x", f"{system}/{architecture}", "unknown/unknown"), "", "x")
    assert chosen.platform["architecture"] == architecture


def test_platform_asked_for_is_chosen() -> None:
    chosen = manifest.choose(_entries("linux/arm/v6", "linux/arm/v7"), "linux/arm/v7", "x")
    assert chosen.platform["variant"] == "v7"


@pytest.mark.parametrize("wanted", ["linux/arm64", "linux/arm64/v8", "linux/aarch64/v8"])
@pytest.mark.parametrize("there", ["linux/arm64", "linux/arm64/v8"])
def test_arm64_is_v8(wanted: str, there: str) -> None:
    assert manifest.choose(_entries("linux/amd64", there), wanted, "x").platform["architecture"] == "arm64"


def test_no_platform_fits() -> None:
    with pytest.raises(SandboxError, match="image is for linux/s390x, this machine is linux/") as caught:
        manifest.choose(_entries("linux/s390x", "unknown/unknown"), "", "x")
    assert caught.value.code == 125


def test_image_of_another_machine() -> None:
    other = "arm64" if manifest.machine()[1] != "arm64" else "amd64"
    config = manifest.parse_config(json.dumps(_config(architecture=other)).encode(), "x", 1)
    with pytest.raises(SandboxError, match=f"image is for linux/{other}, this machine is linux/"):
        manifest.check_platform(config, "", "x")
    manifest.check_platform(config, f"linux/{other}", "x")


@pytest.mark.parametrize("text", ["a/b/c/d", "linux/", "linux/am d64", "/", "linux/../x"])
def test_platforms_that_are_none(text: str) -> None:
    with pytest.raises(SandboxError, match="read platform"):
        manifest.platform(text)


# -- the index of the store --


def test_a_name_moves_and_the_old_image_stays_nameless() -> None:
    old = named([], {"digest": "d1"}, ["n"], 5)
    new = named(old, {"digest": "d2"}, ["n"], 6)
    assert [(e["digest"], e["annotations"]) for e in new] == [
        ("d1", {SIZE: "5"}),
        ("d2", {manifest.REF_NAME: "n", SIZE: "6"}),
    ]
    again = named(new, {"digest": "d1"}, ["m"], 5)
    assert [e["annotations"].get(manifest.REF_NAME) for e in again] == ["n", "m"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.sampled_from("xyz"), unique=True)), max_size=8))
def test_each_name_stands_once_and_no_image_is_lost(steps: list[tuple[str, list[str]]]) -> None:
    index: list[dict[str, Any]] = []
    for digest, names in steps:
        index = named(index, {"digest": digest}, names, 1)
    used = [e["annotations"][manifest.REF_NAME] for e in index if manifest.REF_NAME in e["annotations"]]
    assert len(used) == len(set(used))
    assert {e["digest"] for e in index} == {digest for digest, _ in steps}
    last = {name: digest for digest, names in steps for name in names}
    assert {
        e["annotations"][manifest.REF_NAME]: e["digest"] for e in index if manifest.REF_NAME in e["annotations"]
    } == last


# -- templates --

_VALUE = {
    "Id": "abc",
    "RepoTags": ["a", "b"],
    "Config": {"Env": ["X=1"], "Cmd": None},
    "Labels": {"k": "v"},
    "Ok": True,
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Id}}", "abc"),
        ("x {{ .RepoTags }} y", "x [a b] y"),
        ("{{json .Config}}", '{"Env":["X=1"],"Cmd":null}'),
        ('{{join .RepoTags ","}}', "a,b"),
        ("{{len .RepoTags}}\\t{{.Ok}}", "2\ttrue"),
        ('{{index .Labels "k"}}', "v"),
        ("{{.Labels}} {{.Config.Cmd}}", "map[k:v] <nil>"),
        ("plain", "plain"),
        ("{{range .RepoTags}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $i, $name := .RepoTags}}{{$i}}={{$name}}{{$.Id}} {{end}}", "0=aabc 1=babc "),
        ("{{range $k, $v := .Labels}}{{$k}}:{{$v}}{{else}}none{{end}}", "k:v"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{if .Ok}}yes{{else}}no{{end}}", "yes"),
        ('{{if not .Ok}}a{{else if eq .Id "abc" "x"}}b{{else}}c{{end}}', "b"),
        ("{{with .Config}}{{index .Env 0}}{{else}}none{{end}}", "X=1"),
        ("{{with .Config.Cmd}}x{{else}}{{.Id}}{{end}}", "abc"),
        ('{{.Id | printf "%-5s|%q|%.2s" "a" "b"}}', 'a    |"b"|ab'),
        ("{{(index .RepoTags 1)}} {{len (json .Labels)}}", "b 9"),
        ("{{$x := .Id}}{{range .RepoTags}}{{$x = .}}{{end}}{{$x}}", "b"),
        ("{{range .RepoTags}}{{.}}{{break}}{{end}}", "a"),
        ('{{range .RepoTags}}{{if eq . "a"}}{{continue}}{{end}}{{.}}{{end}}', "b"),
        ("a  {{- .Id -}}  b {{- /* note */ -}} c", "aabcbc"),
        ('{{and .Ok .Id}} {{or .Config.Cmd "none"}} {{gt 2 1}} {{ne .Id "x"}}', "abc none true true"),
        ('{{upper .Id}} {{title .Id}} {{split .Id "b"}} {{slice .Id 1 2}} {{truncate .Id 2}}', "ABC Abc [a c] b ab"),
        ('{{println .Id 1}}{{print 1 2 "a"}}{{printf "%d %5d|%x %t" 7 8 255 true}}', "abc 1\n1 2a7     8|ff true"),
        ('{{"}}"}}{{`raw\\n`}}{{"a\\tb"}}{{0x10}}', "}}raw\\na\tb16"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert render(template, _VALUE) == text


def test_what_a_config_leaves_out_is_empty_in_a_template() -> None:
    config = describe._config({"Env": ["A=b"], "Labels": {"k": "v"}})
    template = "{{.Entrypoint}} {{.ExposedPorts}} {{.User}}|{{.Labels.k}} {{.Labels.other}} {{json .}}"
    assert render(template, config) == '[] map[] |v <no value> {"Env":["A=b"],"Labels":{"k":"v"}}'
    with pytest.raises(SandboxError, match="there is no field Entrypoints"):
        render("{{.Entrypoints}}", config)


@given(st.text("{}()|.$\"`'- aAn0=:,ifrangeelsend", max_size=30), st.text(max_size=4))
def test_any_template_is_a_text_or_an_error(template: str, more: str) -> None:
    for text in (template, "{{" + template + "}}" + more, "{{range .RepoTags}}{{" + template + "}}{{end}}"):
        try:
            assert isinstance(render(text, _VALUE), str)
            headings(text, {})
        except SandboxError as error:
            assert error.step == "read template"


def test_template_errors_name_the_neighbour() -> None:
    with pytest.raises(SandboxError) as caught:
        render("{{.Idd}}", _VALUE)
    assert "there is no field Idd" in str(caught.value)
    assert caught.value.hint == "did you mean Id?"
    for template in (
        "{{",
        "{{}}",
        "{{range .X}}",
        "{{.Id.x}}",
        "{{.}",
        "{{exec `id`}}",
        "{{if .Ok}}",
        "{{end}}",
        "{{else}}",
        "{{range .Id}}{{end}}",
        "{{.Id 1}}",
        "{{$x}}",
        "{{define `x`}}{{end}}",
        "{{(.Id}}",
        "{{lt .Id 1}}",
        "{{index .RepoTags 9}}",
        "{{upper 1}}",
        "{{break}}",
        "{{'}}",
        "{{.Id | .Ok}}",
        "{{" + "(" * 5000,
        "{{" + "/**/" * 40,  # would be read for years, if there were two ways to read a comment
        "{{" * 20000,
        "{{" + "9" * 5000 + "}}",
        "{{0x" + "f" * 5000 + "}}",
    ):
        with pytest.raises(SandboxError):
            render(template, _VALUE)


@pytest.mark.filterwarnings("error")
def test_an_expression_that_another_python_may_read_otherwise() -> None:
    assert expression("name", "[[a]").search("a")


def test_decimal_places_are_bounded() -> None:
    assert len(render('{{printf "%.999999999f" 1.5}}', {})) == 10_002


@pytest.mark.parametrize("text", ["(", "a{99999999999}", "(" * 5000])
def test_an_expression_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(SandboxError) as caught:
        expression("name", text)
    assert caught.value.step == "read filter"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "Less than a second"), (0.9, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"),
        (119, "About a minute"), (120, "2 minutes"), (3600, "About an hour"), (7200, "2 hours"), (172800, "2 days"),
        (86400 * 15, "2 weeks"), (86400 * 70, "2 months"), (86400 * 800, "2 years"),
    ],
)  # fmt: skip
def test_lengths_of_time_have_one_set_of_words(seconds: float, words: str) -> None:
    """`images`, `history`, `ps` and `secret ls` say it as podman and docker do."""
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    assert describe.age(now - datetime.timedelta(seconds=seconds), now) == f"{words} ago"
