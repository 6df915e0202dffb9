"""Subordinate ranges and the maps made of them: files as subuid(5) has them, all modes, properties of what comes out."""

import itertools
import os
import stat

import pytest
from hypothesis import assume, given, settings, strategies as st

from sandbox import idmap
from sandbox.errors import SandboxError

ME, MINE = 1000, 1001


@pytest.fixture
def host(tmp_path, monkeypatch):
    """`host(subuid, subgid, ...)`: files of this machine, and who the caller is on it."""

    def files(subuid="me:100000:65536\n", subgid="me:200000:65536\n", uid=ME, gid=MINE, nsswitch="files"):
        for name, text in (("SUBUID", subuid), ("SUBGID", subgid)):
            path = tmp_path / name
            if text is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(text if isinstance(text, bytes) else text.encode())
            monkeypatch.setattr(idmap, name, str(path))
        monkeypatch.setattr(os, "getuid", lambda: uid)
        monkeypatch.setattr(os, "getgid", lambda: gid)
        monkeypatch.setattr(idmap, "user_name", lambda number: {ME: "me", 0: "root"}.get(number, ""))
        monkeypatch.setattr(idmap, "_nsswitch_subid", lambda: nsswitch != "files")

    files()
    return files


# -- the files --


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("me:100000:65536\n", [(100000, 65536)]),
        ("1000:100000:65536\n", [(100000, 65536)]),
        ("you:1:2\nme:100000:10\n1000:200000:20\nme:300000:30\n", [(100000, 10), (200000, 20), (300000, 30)]),
        ("me:100000:65536", [(100000, 65536)]),
        ("  me:100000:65536  \r\n", [(100000, 65536)]),
        ("me:100000:65536\nme:100000:65536\n", [(100000, 65536)]),
        ("# me:1:2\n\nme:1\nme:1:2:3\nme:x:2\nme:1:-2\nme:1:0\nme:-1:5\nme::5\nme:1:\nme:+1:5\n", []),
        ("men:1:2\n10001:1:2\n100:1:2\nmE:1:2\n", []),
        ("me:4294967290:100\nme:4294967296:1\nme:99999999999999999999:1\n", []),
        ("me:4294967294:1\n", [(4294967294, 1)]),
        (b"\xff\xfe:1:2\nme:5:6\n", [(5, 6)]),
        (None, []),
    ],
)
def test_ranges_of_a_file(host, text, found):
    host(subuid=text)
    assert idmap.ranges(idmap.SUBUID, "me", ME) == found
    assert idmap.subordinate(group=False) == found


def test_a_folder_in_place_of_the_file(host, tmp_path, monkeypatch):
    monkeypatch.setattr(idmap, "SUBUID", str(tmp_path))
    assert idmap.subordinate(group=False) == []


def test_groups_have_a_file_of_their_own(host):
    host(subuid="me:1000:5\n", subgid="me:2000:6\n")
    assert (idmap.subordinate(group=False), idmap.subordinate(group=True)) == ([(1000, 5)], [(2000, 6)])


def test_a_user_without_a_name(host):
    host(subuid="4242:700000:10\n", uid=4242)
    assert idmap.subordinate(group=False) == [(700000, 10)]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("subuid") / "f"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    for start, count in idmap.ranges(str(path), "me", ME):
        assert count > 0 and start + count - 1 <= idmap.ID_MAX


def test_getsubids_where_nsswitch_says_so(host, tmp_path, monkeypatch):
    """A program of that name in PATH: its output is what counts, also without a line in the files."""
    program = tmp_path / "getsubids"
    program.write_text(
        '#!/bin/sh\n[ "$1" = -g ] && { shift; echo "0: $1 900000 7"; exit; }\necho "0: $1 800000 5"; echo "1: $1 810000 6"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    host(subuid="", subgid="", nsswitch="sss")
    assert idmap.subordinate(group=False) == [(800000, 5), (810000, 6)]
    assert idmap.subordinate(group=True) == [(900000, 7)]
    program.write_text("#!/bin/sh\nexit 1\n")
    host(subuid="me:5:6\n", nsswitch="sss")
    assert idmap.subordinate(group=False) == [(5, 6)]
    monkeypatch.setenv("PATH", "/nonexistent")
    assert idmap.subordinate(group=False) == [(5, 6)]


# -- modes --


def test_ordinary_map(host):
    assert idmap.resolve() == {
        "mode": "auto", "uid": [(0, ME, 1), (1, 100000, 65536)], "gid": [(0, MINE, 1), (1, 200000, 65536)],
        "variant": idmap.cache.short_hash("[(100000, 65536)] [(200000, 65536)]"), "note": "",
    }  # fmt: skip


def test_several_ranges_follow_each_other(host):
    host(subuid="me:100000:10\n1000:300000:20\n")
    assert idmap.resolve()["uid"] == [(0, ME, 1), (1, 100000, 10), (11, 300000, 20)]


@pytest.mark.parametrize(
    ("subuid", "subgid", "path"), [("", "me:1:2", "SUBUID"), ("me:1:2", "", "SUBGID"), (None, None, "SUBUID")]
)
def test_one_id_without_a_range(host, subuid, subgid, path):
    host(subuid=subuid, subgid=subgid)
    found = idmap.resolve()
    assert (found["mode"], found["uid"], found["gid"], found["variant"]) == (
        "single",
        [(0, ME, 1)],
        [(0, MINE, 1)],
        "single",
    )
    assert found["note"].startswith(
        f"no subordinate ids in {getattr(idmap, path)}: only one id inside; fix: sudo usermod"
    )
    assert found["note"].endswith(" me")


def test_single_says_nothing(host):
    assert idmap.resolve("single")["note"] == ""
    host(subuid="", subgid="")
    assert idmap.resolve("single")["note"] == ""


@pytest.mark.parametrize("mode", ["keep-id", "nomap", "keep-id:uid=5"])
def test_modes_that_need_a_range(host, mode):
    host(subuid="", subgid="")
    with pytest.raises(SandboxError) as caught:
        idmap.resolve(mode)
    assert (caught.value.step, caught.value.subject) == ("map ids", "me")
    assert "usermod" in caught.value.hint


def test_nomap(host):
    found = idmap.resolve("nomap")
    assert (found["uid"], found["gid"]) == ([(0, 100000, 65536)], [(0, 200000, 65536)])
    assert found["variant"].startswith("nomap.")


def test_keep_id(host):
    found = idmap.resolve("keep-id")
    assert found["uid"] == [(0, 100000, 1000), (1000, ME, 1), (1001, 101000, 64536)]
    assert found["gid"] == [(0, 200000, 1001), (1001, MINE, 1), (1002, 201001, 64535)]
    assert found["variant"].startswith("keep-id-1000-1001.")


def test_keep_id_with_others(host):
    found = idmap.resolve("keep-id:uid=0,gid=7")
    assert found["uid"] == [(0, ME, 1), (1, 100000, 65536)]
    assert found["gid"] == [(0, 200000, 7), (7, MINE, 1), (8, 200007, 65529)]


def test_keep_id_beyond_the_range(host):
    host(subuid="me:100000:10\n")
    assert idmap.resolve("keep-id")["uid"] == [(0, 100000, 10), (ME, ME, 1)]


@pytest.mark.parametrize("mode", ["keep-id:", "keep-id:uid", "keep-id:uid=", "keep-id:uid=-1", "keep-id:x=1", "keep-id:uid=1;gid=2",
                                  "keep-id:uid=4294967295", "single:uid=1", "bogus", "host", "auto:size=5"])  # fmt: skip
def test_modes_that_are_none(host, mode):
    if mode == "keep-id:":
        assert idmap.resolve(mode)["uid"] == idmap.resolve("keep-id")["uid"]
        return
    with pytest.raises(SandboxError) as caught:
        idmap.resolve(mode)
    assert (caught.value.step, caught.value.subject) == ("choose user namespace", mode)


# -- root --


@pytest.mark.parametrize("mode", ["", "auto", "nomap"])
def test_root_is_never_mapped(host, mode):
    host(subuid="root:500000:65536\n", subgid="root:600000:65536\n", uid=0, gid=0)
    found = idmap.resolve(mode)
    assert (found["uid"], found["gid"]) == ([(0, 500000, 65536)], [(0, 600000, 65536)])
    assert found["variant"].startswith("root.")


@pytest.mark.parametrize("mode", ["single", "keep-id", "keep-id:uid=5,gid=5"])
def test_root_can_not_be_itself(host, mode):
    host(subuid="root:500000:65536\n", subgid="root:600000:65536\n", uid=0, gid=0)
    with pytest.raises(SandboxError, match="root of the host is never mapped"):
        idmap.resolve(mode)


def test_root_without_a_range(host):
    host(uid=0, gid=0)
    with pytest.raises(SandboxError, match="no range in"):
        idmap.resolve()


@pytest.mark.parametrize("options", [(["0:@0:1"], []), (["0:0:1"], ["0:@0:5"]), (["0:0:1", "5:@0:1"], [])])
def test_root_can_not_map_itself_by_hand(host, options):
    host(subuid="root:500000:65536\n", subgid="root:600000:65536\n", uid=0, gid=0)
    with pytest.raises(SandboxError, match="root of the host is never mapped"):
        idmap.resolve("", *options)


# -- explicit maps --

ORDINARY = [(0, ME, 1), (1, 100000, 100), (101, 300000, 50)]


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("0:0:1", [(0, ME, 1)]),
        ("0:0", [(0, ME, 1)]),
        ("5:1:10", [(5, 100000, 10)]),
        ("0:0:151", [(0, ME, 1), (1, 100000, 100), (101, 300000, 50)]),
        ("7:99:4", [(7, 100098, 2), (9, 300000, 2)]),
        ("3:@4000:6", [(3, 4000, 6)]),
        ("3:@4000", [(3, 4000, 1)]),
    ],
)
def test_parse(text, entries):
    assert idmap.parse(text, ORDINARY) == entries


@pytest.mark.parametrize(
    "text",
    ["", "0", "0:", ":0:1", "0:0:0", "0:0:-1", "0:0:1:1", "a:0:1", "0:0x1:1", "@0:0:1", "0:@:1", "0:0:152", "0:151:1", "0:@@1:1",
     "4294967295:0:1", "0:@4294967295:1", "0:@4294967290:10", "\u0660:0:1", " 0:0:1", "0:0:99999999999999999999"],
)  # fmt: skip
def test_maps_that_are_none(text):
    with pytest.raises(SandboxError) as caught:
        idmap.parse(text, ORDINARY)
    assert (caught.value.step, caught.value.subject) == ("read id map", text)


def test_the_other_map_follows(host):
    found = idmap.resolve("", ["0:1:10"], [])
    assert (found["uid"], found["gid"]) == ([(0, 100000, 10)], [(0, 200000, 10)])
    found = idmap.resolve("", [], ["0:1:10"])
    assert (found["uid"], found["gid"]) == ([(0, 100000, 10)], [(0, 200000, 10)])


@pytest.mark.parametrize(
    ("uidmap", "detail"),
    [
        (["1:0:1"], "id 0 is not mapped"),
        (["0:0:10", "5:20:1"], "id 5 inside is mapped twice"),
        (["0:1:10", "20:5:2"], "id 100004 outside is mapped twice"),
    ],
)
def test_maps_the_kernel_would_refuse(host, uidmap, detail):
    with pytest.raises(SandboxError, match=detail):
        idmap.resolve("", uidmap, [])


def test_too_many_entries(host):
    with pytest.raises(SandboxError, match="341 entries; the kernel takes 340"):
        idmap.resolve("", [f"{2 * n}:{2 * n}:1" for n in range(341)], [])


def test_variant_is_a_file_name_and_tells_maps_apart(host):
    variants = set()
    for uidmap in (
        ["0:0:1"],
        ["0:1:1"],
        ["0:0:1", "5:5:5"],
        [f"{2 * n}:{2 * n}:1" for n in range(100)],
        [f"{2 * n}:{2 * n}:1" for n in range(101)],
    ):
        variant = idmap.resolve("", uidmap, [])["variant"]
        assert variant.startswith("map-") and "/" not in variant and len(variant) < 110
        variants.add(variant)
    assert len(variants) == 5


# -- properties --

counts = st.integers(1, 1 << 20)
ids = st.integers(0, idmap.ID_MAX)


@st.composite
def found_ranges(draw):
    """Ranges of a subuid file that do not overlap, in any order."""
    start, found = draw(st.integers(1, 1 << 16)), []
    for _ in range(draw(st.integers(1, 6))):
        start += draw(st.integers(0, 1 << 16))
        count = draw(counts)
        found.append((start, count))
        start += count
    return draw(st.permutations(found))


def well_formed(entries):
    """What the kernel asks for: no id twice, on either side."""
    idmap.check(entries, "user id")
    assert all(count > 0 for _, _, count in entries)


def outside_of(entries, number):
    return next(
        (outside + number - inside for inside, outside, count in entries if inside <= number < inside + count), None
    )


@settings(deadline=None)
@given(found_ranges(), ids)
def test_entries_have_no_holes(found, first):
    entries = idmap.entries_of(found, first)
    well_formed(entries)
    assert idmap.size(entries) == sum(count for _, count in found)
    assert [e[0] for e in entries] == [first + sum(count for _, count in found[:n]) for n in range(len(found))]


@settings(deadline=None)
@given(found_ranges(), st.integers(0, 1 << 22), st.integers(0, idmap.ID_MAX))
def test_keep_maps_the_caller_and_all_of_the_range(found, own, outside):
    assume(not any(start <= outside < start + count for start, count in found))
    entries = idmap._keep(found, own, outside)
    well_formed(entries)
    assert outside_of(entries, own) == outside
    total = sum(count for _, count in found)
    assert idmap.size(entries) == total + 1
    inside = sorted((e[0], e[0] + e[2]) for e in entries)
    # No holes below the range's end; only the caller itself may lie beyond.
    assert inside[0][0] == 0 or own == 0 or total == 0
    holes = [(a[1], b[0]) for a, b in itertools.pairwise(inside) if a[1] != b[0]]
    assert holes in ([], [(total, own)])


@settings(deadline=None)
@given(found_ranges(), st.integers(0, 1 << 12), st.integers(1, 1 << 12), st.integers(0, 1 << 12))
def test_parse_is_a_window_on_the_ordinary_map(found, outside, count, inside):
    ordinary = [(0, 7, 1), *idmap.entries_of([(start + 8, n) for start, n in found], 1)]
    total = idmap.size(ordinary)
    text = f"{inside}:{outside}:{count}"
    if outside + count > total:
        with pytest.raises(SandboxError):
            idmap.parse(text, ordinary)
        return
    entries = idmap.parse(text, ordinary)
    assert idmap.size(entries) == count
    for number in {0, count // 2, count - 1}:
        assert outside_of(entries, inside + number) == outside_of(ordinary, outside + number)


@settings(deadline=None)
@given(st.text(alphabet="0123456789:@- ", max_size=14))
def test_parse_gives_entries_or_an_error_of_ours(text):
    try:
        entries = idmap.parse(text, ORDINARY)
    except SandboxError as error:
        assert error.step == "read id map"
    else:
        assert entries and all(0 <= n <= idmap.ID_MAX for entry in entries for n in entry)
        assert all(inside + count - 1 <= idmap.ID_MAX for inside, _, count in entries)


@pytest.mark.parametrize("mode", ["", "nomap", "keep-id"])
def test_variant_follows_the_ranges(host, mode):
    """Layers unpacked before /etc/subuid changed have owners that are not mapped any more."""
    variants = set()
    for first in (100000, 300000, 500000):
        host(subuid=f"me:{first}:65536\n", subgid=f"me:{first}:65536\n")
        variants.add(idmap.resolve(mode)["variant"])
    assert len(variants) == 3
    assert mode or variants == {"100000-65536", "300000-65536", "500000-65536"}


@pytest.mark.parametrize("number", ["9" * 5000, "\u0661", "4294967295"])
def test_numbers_that_are_no_ids(host, number):
    with pytest.raises(SandboxError, match="choose user namespace"):
        idmap.resolve(f"keep-id:uid={number}")
    with pytest.raises(SandboxError, match="read id map"):
        idmap.resolve("", [f"0:{number}:1"], [])
