"""Transfers that go wrong: hostile registries, cuts, signals.  Each ends with a message, and leaves nothing."""

import gzip
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import images
import pytest
from hostile import Hostile, Request, manifest_bytes, sha256
from images import entry, tar
from registries import insecure
from support import Sbx, clean_environment, launcher_path, leftovers

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Served:
    """An image a/b:1 of three small layers on a hostile server."""

    def __init__(self, server: Hostile) -> None:
        self.server = server
        self.layers = [tar(entry(f"layer{n}", random.Random(n).randbytes(300_000))) for n in range(3)]
        self.serve()

    def serve(self, **changes: object) -> None:
        found = {
            "architecture": images.ARCHITECTURE, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [sha256(raw) for raw in self.layers]}, **changes,
        }  # fmt: skip
        self.config = json.dumps(found).encode()
        for raw in (*self.layers, self.config):
            self.server.serve_blob(raw)
        self.manifest = manifest_bytes(*self.layers, config=self.config)
        self.server.serve_manifest(self.manifest)
        self.server.serve_manifest(self.manifest, sha256(self.manifest))

    def path(self, number: int) -> str:
        return f"/v2/a/b/blobs/{sha256(self.layers[number])}"


@pytest.fixture
def served(hostile: Hostile) -> Served:
    return Served(hostile)


@pytest.fixture
def puller(tmp_path: Path, session_folder: Path, hostile: Hostile) -> Iterator[Sbx]:
    yield Sbx(
        tmp_path / "store", {**clean_environment(session_folder), **insecure(tmp_path, hostile.host)}, launcher_path()
    )
    images.remove_tree(tmp_path / "store")


def refused(puller: Sbx, served: Served, *words: str) -> str:
    """The message of a pull that must fail, after which nothing is there."""
    done = puller("pull", "--retry", "0", *words, f"{served.server.host}/a/b:1")
    assert (done.returncode, done.stdout) == (125, ""), done
    assert "Traceback" not in done.stderr
    nothing(puller)
    return done.stderr


def nothing(puller: Sbx) -> None:
    assert list((puller.store / "blobs/sha256").iterdir()) == []
    assert list((puller.store / "layers").glob("*")) == []
    assert leftovers(puller.store) == []


def test_what_is_whole_is_pulled(puller: Sbx, served: Served) -> None:
    done = puller("pull", f"{served.server.host}/a/b:1")
    assert (done.returncode, done.stdout.strip()) == (0, sha256(served.config)[7:]), done.stderr


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("sent", [0, 1000, 250_000])
def test_a_connection_cut_at_each_layer(puller: Sbx, served: Served, number: int, sent: int) -> None:
    raw = served.layers[number]

    def cut(request: Request) -> None:
        request.begin(200, {"Content-Length": str(len(raw))})
        request.write(raw[:sent])
        request.cut()

    served.server.routes[served.path(number)] = cut
    assert "sbx: pull blob" in refused(puller, served)
    # One cut is taken up again where it was.
    whole = Served(Hostile(tls=None))
    served.serve()
    good = served.server.routes[served.path(number)]
    assert callable(good)
    served.server.routes[served.path(number)] = [cut, good]
    done = puller("pull", "--retry", "3", f"{served.server.host}/a/b:1")
    assert done.returncode == 0, done.stderr
    whole.server.close()


# What a server may answer in the place of a manifest or of a layer, and what sbx says to it.
Fault = tuple[Callable[[Request], None], str]


def status(number: int, **headers: str) -> Callable[[Request], None]:
    return lambda request: request.answer(number, b'{"errors": [{"message": "no\\u001b[31m, never"}]}', **headers)


def to_itself(request: Request) -> None:
    request.answer(307, Location=f"{request.path}?{len(request.query)}x")


def endlessly(request: Request) -> None:
    request.begin(200, {"Content-Type": MANIFEST})
    while True:
        request.write(b" " * 65536)


def endless_body(request: Request) -> None:
    request.begin(200, {})
    while True:
        request.write(bytes(65536))


def as_manifest(raw: bytes, content_type: str = MANIFEST) -> Callable[[Request], None]:
    return lambda request: request.answer(200, raw, Content_Type=content_type)


ANYWHERE: dict[str, Fault] = {
    "401": (status(401), "wants a login (HTTP 401)"),
    "403": (status(403), "refuses access (HTTP 403): no\\x1b[31m, never"),
    "404": (status(404), "not found (HTTP 404)"),
    "429": (status(429, Retry_After="7200"), "hint: wait 7200 s, or "),
    "500": (status(500), "failed (HTTP 500)"),
    "503": (status(503), "not available (HTTP 503)"),
    "redirect loop": (to_itself, "redirected more than 5 times"),
    "redirect to a file": (status(302, Location="file:///etc/passwd"), "not an http or https URL"),
    "redirect to a password": (status(302, Location="http://a:b@127.0.0.1/"), "URL without a user"),
    "no http": (lambda request: request.write(b"SSH-2.0-OpenSSH_9.2\r\n"), "127.0.0.1"),
}
MANIFESTS: dict[str, Fault] = {
    "endless": (endlessly, "longer than 4096 KiB"),
    "html": (as_manifest(b"<html>", "text/html"), "no manifest but `text/html`"),
    "schema 1": (as_manifest(b"{}", "application/vnd.docker.distribution.manifest.v1+json"), "old schema 1"),
    "an artifact": (as_manifest(b'{"mediaType": "application/vnd.x+json"}', "application/vnd.x+json"), "is no image"),
    "two types": (as_manifest(b'{"mediaType": "%s"}' % INDEX.encode()), "and calls itself"),
    "duplicate keys": (as_manifest(b'{"schemaVersion": 2, "config": {}, "config": {}}'), "twice"),
    "nested": (as_manifest(b"[" * 2000 + b"]" * 2000), "no manifest"),
    "empty": (as_manifest(b""), "no manifest"),
    "no layers": (as_manifest(b'{"schemaVersion": 2}'), "`descriptor` is not an object"),
    "both": (as_manifest(b'{"schemaVersion": 2, "manifests": [], "layers": []}'), "manifest"),
    "a size below zero": (as_manifest(b'{"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:' + b"a" * 64 + b'", "size": -1}, "layers": []}'), "size"),
}  # fmt: skip
BLOBS: dict[str, Fault] = {
    "endless": (endless_body, "longer than the"),
    "short": (lambda request: request.answer(200, b"abc"), "it has 3 bytes where the manifest says"),
    "nothing": (lambda request: request.answer(200), "it has 0 bytes where"),
    "encoded": (lambda request: request.answer(200, bytes(308736), Content_Encoding="gzip"), "the body is encoded"),
    "another range": (lambda request: request.answer(206, b"abc", Content_Range="bytes 5-7/8"), "HTTP 206"),
}


@pytest.mark.parametrize("fault", [*ANYWHERE, *MANIFESTS])
def test_what_comes_in_the_place_of_a_manifest(puller: Sbx, served: Served, fault: str) -> None:
    answer, words = {**ANYWHERE, **MANIFESTS}[fault]
    served.server.routes["/v2/a/b/manifests/1"] = answer
    said = refused(puller, served)
    assert words in said, said


@pytest.mark.parametrize("fault", [*ANYWHERE, *BLOBS])
@pytest.mark.parametrize("which", ["config", "layer"])
def test_what_comes_in_the_place_of_a_blob(puller: Sbx, served: Served, fault: str, which: str) -> None:
    answer, words = {**ANYWHERE, **BLOBS}[fault]
    path = served.path(1) if which == "layer" else f"/v2/a/b/blobs/{sha256(served.config)}"
    served.server.routes[path] = answer
    said = refused(puller, served)
    assert words in said and "sbx: pull blob" in said, said


def test_retry_after_is_waited_for(puller: Sbx, served: Served) -> None:
    good = served.server.routes[served.path(1)]
    assert callable(good)
    served.server.routes[served.path(1)] = [status(429, Retry_After="1"), status(503), good]
    started = time.monotonic()
    done = puller("pull", f"{served.server.host}/a/b:1")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started > 1.2


def test_a_compression_bomb_meets_limits_that_can_be_set(puller: Sbx, served: Served) -> None:
    plain = tar(entry("zeros", bytes(8 << 20)))
    bomb = gzip.compress(plain)
    config = json.dumps({"architecture": images.ARCHITECTURE, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha256(plain)]}}).encode()  # fmt: skip
    raw = manifest_bytes(bomb, config=config).replace(b"layer.v1.tar", b"layer.v1.tar+gzip")
    for blob in (bomb, config):
        served.server.serve_blob(blob)
    served.server.serve_manifest(raw)
    name = f"{served.server.host}/a/b:1"
    for limit, words, way in (
        ("ratio=100,ratio-free=1M", "100 times", "SBX_LIMITS=ratio=200 in the environment"),
        ("layer-bytes=1M", "more than 1 MiB unpacked", "SBX_LIMITS=layer-bytes=2M in the environment"),
    ):
        done = puller("pull", name, env={"SBX_LIMITS": limit})
        assert done.returncode == 125 and words in done.stderr and way in done.stderr, done.stderr
        nothing(puller)
    assert puller("pull", name, env={"SBX_LIMITS": "ratio=5000,ratio-free=1M"}).returncode == 0


@pytest.mark.slow
def test_answers_that_are_changed_at_random(puller: Sbx, served: Served) -> None:
    """Bytes flipped, cut and repeated in what a registry sends: never a traceback, and never an image that is not the one."""
    chance = random.Random(7)
    expected = sha256(served.config)[7:]
    originals = dict(served.server.routes)

    def changed(route: Callable[[Request], None]) -> Callable[[Request], None]:
        def answer(request: Request) -> None:
            written: list[bytes] = []
            wfile, request.handler.wfile = request.handler.wfile, Recorded(written)
            try:
                route(request)
            finally:
                request.handler.wfile = wfile
            raw = bytearray(b"".join(written))
            for _ in range(chance.choice((0, 1, 1, 3))):
                at = chance.randrange(len(raw))
                kind = chance.randrange(3)
                if kind == 0:
                    raw[at] ^= 1 << chance.randrange(8)
                elif kind == 1:
                    del raw[at : at + chance.randrange(1, 50)]
                else:
                    raw[at:at] = raw[max(0, at - 20) : at]
            request.handler.close_connection = True
            wfile.write(raw)

        return answer

    for _ in range(40):
        served.server.routes = {path: changed(route) for path, route in originals.items() if callable(route)}
        done = puller("pull", "-q", "--retry", "1", f"{served.server.host}/a/b:1")
        assert "Traceback" not in done.stderr
        assert (done.returncode, done.stdout.strip()) in ((125, ""), (0, expected)), done
        if done.returncode == 0:
            assert puller("rmi", "-a").returncode == 0
        nothing(puller)


class Recorded:
    """What is written to it, in a list."""

    def __init__(self, written: list[bytes]) -> None:
        self._written = written

    def write(self, raw: bytes) -> int:
        self._written.append(bytes(raw))
        return len(raw)

    def flush(self) -> None: ...


def test_a_wrong_digest(puller: Sbx, served: Served) -> None:
    changed = bytes(served.layers[1][:-1]) + b"x"
    served.server.routes[served.path(1)] = lambda request: request.answer(200, changed)
    assert "digest" in refused(puller, served)


def test_a_config_that_disagrees_with_its_layers(puller: Sbx, served: Served) -> None:
    ids = [sha256(raw) for raw in served.layers]
    served.serve(rootfs={"type": "layers", "diff_ids": ids[:2]})
    assert "2 diff ids for 3 layers" in refused(puller, served)
    served.serve(rootfs={"type": "layers", "diff_ids": [ids[1], ids[0], ids[2]]})
    assert "sbx: verify layer" in refused(puller, served)


def index(served: Served, *entries: dict[str, object]) -> bytes:
    raw = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}).encode()
    served.server.serve_manifest(raw, Content_Type=INDEX)
    served.server.serve_manifest(raw, sha256(raw), Content_Type=INDEX)
    return raw


def about(raw: bytes, media_type: str, architecture: str = images.ARCHITECTURE) -> dict[str, object]:
    platform = {"os": "linux", "architecture": architecture}
    return {"mediaType": media_type, "digest": sha256(raw), "size": len(raw), "platform": platform}


def test_an_index_without_our_platform(puller: Sbx, served: Served) -> None:
    index(served, about(served.manifest, MANIFEST, "s390x"))
    said = refused(puller, served)
    assert "sbx: choose platform" in said and "image is for linux/s390x, this machine is linux/" in said


def test_indexes_without_end(puller: Sbx, served: Served) -> None:
    raw = served.manifest
    inner = about(raw, MANIFEST)
    for _ in range(6):
        raw = index(served, inner)
        inner = about(raw, INDEX)
    assert "nested more than 4 deep" in refused(puller, served)
    # One that names itself can not have that digest.
    cyclic = {"mediaType": INDEX, "digest": sha256(b"x"), "size": 10, "platform": inner["platform"]}
    raw = index(served, cyclic)
    served.server.serve_manifest(raw, sha256(b"x"), Content_Type=INDEX)
    assert "digest" in refused(puller, served)


def test_a_foreign_layer(puller: Sbx, served: Served) -> None:
    found = json.loads(served.manifest)
    found["layers"][1]["urls"] = [f"http://{served.server.host}/elsewhere"]
    served.server.serve_manifest(json.dumps(found).encode())
    assert "is a foreign layer" in refused(puller, served)
    assert "/elsewhere" not in [request.path for request in served.server.requests]


def test_nothing_is_left_of_a_copy_that_fails(puller: Sbx, served: Served, tmp_path: Path) -> None:
    def cut(request: Request) -> None:
        request.begin(200, {"Content-Length": "307200"})
        request.write(served.layers[2][:1000])
        request.cut()

    served.server.routes[served.path(2)] = cut
    (tmp_path / "out").mkdir()
    (tmp_path / "out/there.tar").write_text("as it was")
    (tmp_path / "out/empty").mkdir()
    for target in ("oci:{}/new:1", "oci:{}/empty:1", "dir:{}/d", "oci-archive:{}/there.tar", "docker-archive:{}/a.tar"):
        done = puller(
            "copy", "-q", "--retry", "0", f"docker://{served.server.host}/a/b:1", target.format(tmp_path / "out")
        )
        assert done.returncode == 125 and "sbx: pull blob" in done.stderr, done.stderr
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["empty", "there.tar"]
    assert (tmp_path / "out/there.tar").read_text() == "as it was"
    assert list((tmp_path / "out/empty").iterdir()) == []


@pytest.mark.parametrize(("number", "words"), [(401, "wants a login"), (403, "refuses access"), (404, "not found"),
    (413, "too large for the registry"), (429, "too many requests"), (500, "failed"), (302, "redirected with status 302")])  # fmt: skip
@pytest.mark.parametrize("where", ["POST", "PUT", "manifest"])
def test_a_push_that_is_refused(puller: Sbx, served: Served, number: int, words: str, where: str) -> None:
    host = served.server.host
    name = f"{host}/a/b:1"
    assert puller("pull", "-q", name).returncode == 0
    if number == 302:  # elsewhere there would be a mount before it
        assert puller("tag", name, "x").returncode == puller("untag", "x", name).returncode == 0
        name = "x"
    routes = served.server.routes
    routes["POST /v2/x/y/blobs/uploads/"] = lambda request: request.answer(202, Location="/v2/x/y/blobs/uploads/1")
    routes["PUT /v2/x/y/blobs/uploads/1"] = lambda request: request.answer(201)
    routes["PUT /v2/x/y/manifests/1"] = lambda request: request.answer(201)
    refuse = status(number, Location="/elsewhere")
    routes[{"POST": "POST /v2/x/y/blobs/uploads/", "PUT": "PUT /v2/x/y/blobs/uploads/1", "manifest": "PUT /v2/x/y/manifests/1"}[where]] = refuse  # fmt: skip
    routes["PATCH /v2/x/y/blobs/uploads/1"] = refuse
    done = puller("push", "-q", "--retry=0", name, f"{host}/x/y:1")
    assert (done.returncode, done.stdout) == (125, "") and "Traceback" not in done.stderr
    assert (
        words in done.stderr and f"sbx: push {'manifest' if where == 'manifest' else 'blob'} `{host}/x/y" in done.stderr
    )
    named = [request for request in served.server.requests if request.path == "/v2/x/y/manifests/1"]
    assert len(named) == (where == "manifest")  # half an image gets no name


# -- signals --


@pytest.fixture
def slowly(served: Served) -> Served:
    """The last layer comes to its middle and then waits."""

    def wait(request: Request) -> None:
        raw = served.layers[2]
        request.begin(200, {"Content-Length": str(len(raw))})
        request.write(raw[:200_000])
        time.sleep(4)
        request.cut()

    served.server.routes[served.path(2)] = wait
    return served


def begun(puller: Sbx, served: Served, *words: str) -> "subprocess.Popen[str]":
    process = puller.popen(*words)
    end = time.monotonic() + 20
    while time.monotonic() < end and served.path(2) not in [request.path for request in served.server.requests]:
        time.sleep(0.02)
    time.sleep(0.2)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whole_session", [True, False])
def test_a_signal_ends_a_pull_and_nothing_is_left(
    puller: Sbx, slowly: Served, number: int, whole_session: bool
) -> None:
    process = begun(puller, slowly, "pull", f"{slowly.server.host}/a/b:1")
    started = time.monotonic()
    (os.killpg if whole_session else os.kill)(process.pid, number)
    out, said = process.communicate(timeout=30)
    assert (process.returncode, out) == (128 + number, "") and "Traceback" not in said, said
    assert time.monotonic() - started < 3
    nothing(puller)


@pytest.mark.parametrize(("number", "whole_session"), [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)])  # fmt: skip
def test_a_signal_ends_a_run_that_fetches(puller: Sbx, slowly: Served, number: int, whole_session: bool) -> None:
    process = begun(puller, slowly, "run", f"{slowly.server.host}/a/b:1", "true")
    started = time.monotonic()
    (os.killpg if whole_session else os.kill)(process.pid, number)
    out, said = process.communicate(timeout=30)  # until the last of its children has closed these
    assert process.returncode in (128 + number, -number) and out == "" and "Traceback" not in said, said
    assert time.monotonic() - started < 3
    nothing(puller)


def test_a_signal_ends_a_copy_and_nothing_is_left(puller: Sbx, slowly: Served, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    process = begun(puller, slowly, "copy", f"docker://{slowly.server.host}/a/b:1", f"oci-archive:{tmp_path}/out/a.tar")
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive", "oci", "dir"])
def test_what_a_killed_copy_leaves_goes_with_the_next(puller: Sbx, slowly: Served, tmp_path: Path, form: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.sbx-new-mine").mkdir()  # not one of ours
    words = ("copy", "-q", f"docker://{slowly.server.host}/a/b:1")
    process = begun(puller, slowly, *words, f"{form}:{tmp_path}/out/first")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(left) == (1 if form.endswith("archive") else 2), left
    slowly.serve()
    done = puller(*words, f"{form}:{tmp_path}/out/second")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".sbx-new-mine", "second"]


def test_a_folder_that_is_something_else_stays_as_it_is(puller: Sbx, served: Served, tmp_path: Path) -> None:
    (tmp_path / "out/mine").mkdir(parents=True)
    (tmp_path / "out/mine/file").write_text("x")
    for form in ("oci", "dir"):
        done = puller("copy", "-q", f"docker://{served.server.host}/a/b:1", f"{form}:{tmp_path}/out/mine")
        assert done.returncode == 125, done.stderr
        assert [str(path) for path in sorted((tmp_path / "out").rglob("*"))] == [
            f"{tmp_path}/out/mine", f"{tmp_path}/out/mine/file",
        ]  # fmt: skip


def test_what_a_killed_pull_leaves_goes_with_the_next_command(puller: Sbx, slowly: Served) -> None:
    process = begun(puller, slowly, "pull", f"{slowly.server.host}/a/b:1")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    time.sleep(0.3)  # its children die with it
    slowly.serve()
    done = puller("pull", "-q", f"{slowly.server.host}/a/b:1")
    assert done.returncode == 0, done.stderr
    assert leftovers(puller.store) == []
    assert len(list((puller.store / "blobs/sha256").iterdir())) == 5


@pytest.mark.slow
def test_two_hundred_pulls_killed_at_random(mover: Sbx, pushed: str) -> None:
    """With `rmi` in between: afterwards what is there is whole, and the space is back."""
    chance = random.Random(7)
    names = [f"{pushed}/busybox:latest", f"{pushed}/layered:3"]
    call: Callable[..., subprocess.CompletedProcess[str]] = mover
    assert call("pull", "-q", names[0]).returncode == 0
    until = time.monotonic() + 60
    for number in range(200):
        process = mover.popen("pull", "-q", names[1])
        time.sleep(chance.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
        if number % 20 == 19:
            call("rmi", "-f", names[1])
        if time.monotonic() > until:
            break
    assert number >= 50
    assert call("pull", "-q", names[1]).returncode == 0
    assert leftovers(mover.store) == []
    assert call("save", "-q", "-o", "/dev/null", *names).returncode == 0  # reads and verifies every blob
    assert call("rmi", names[1]).returncode == 0
    assert call("save", "-q", "-o", "/dev/null", names[0]).returncode == 0  # what was complete is not lost
    assert call("rmi", names[0]).returncode == 0
    assert list((mover.store / "blobs/sha256").iterdir()) == [] == list((mover.store / "layers").iterdir())
