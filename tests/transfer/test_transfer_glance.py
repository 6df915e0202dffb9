"""A pull of what is there: one request and no HTTP library; whatever else is answered, the full way decides."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import images
import pytest
from hostile import Hostile, Request, sha256
from registries import Registry, insecure, make_certificates, start_registry, stop_registry
from support import Sbx, clean_environment, launcher_path
from test_transfer_faults import Served

Tool = Callable[..., str]
PATH = "/v2/a/b/manifests/1"


@pytest.fixture
def served(hostile: Hostile) -> Served:
    served = Served(hostile)
    digest = sha256(served.manifest)
    hostile.serve_manifest(served.manifest, Docker_Content_Digest=digest)
    return served


@pytest.fixture
def puller(tmp_path: Path, session_folder: Path, hostile: Hostile) -> Iterator[Sbx]:
    yield Sbx(
        tmp_path / "store", {**clean_environment(session_folder), **insecure(tmp_path, hostile.host)}, launcher_path()
    )
    images.remove_tree(tmp_path / "store")


def pulled(puller: Sbx, served: Served, *words: str) -> list[str]:
    """Methods and paths that a pull asked for; it must succeed."""
    served.server.requests.clear()
    done = puller("pull", *words, f"{served.server.host}/a/b:1")
    assert (done.returncode, done.stdout.strip()) == (0, sha256(served.config)[7:]), done.stderr
    return [f"{request.method} {request.path}" for request in served.server.requests]


def test_what_is_there_takes_one_request_and_imports_little(puller: Sbx, served: Served) -> None:
    assert len(pulled(puller, served)) > 4
    assert pulled(puller, served) == [f"HEAD {PATH}"]
    headers = served.server.requests[0].headers
    assert "authorization" not in headers and headers["accept"].startswith("application/vnd.oci.image.index.v1+json, ")
    assert pulled(puller, served, "--policy", "newer") == [f"HEAD {PATH}"]
    assert pulled(puller, served, "--policy", "missing") == [] == pulled(puller, served, "--policy", "never")
    script = Path(puller.launcher).read_text().replace(" -IS ", " -ISv ")
    verbose = Sbx(puller.store, puller.environment, "/bin/sh")
    done = verbose("-c", script, puller.launcher, "pull", f"{served.server.host}/a/b:1")
    found = set(re.findall(r"^import '?([\w.]+)", done.stderr, re.MULTILINE))
    assert done.returncode == 0 and "sandbox.registry.glance" in found
    assert not found & {
        "urllib3",
        "ssl",
        "socket",
        "re",
        "json",
        "typing",
        "enum",
        "typer",
        "http.client",
        "contextlib",
    }
    # With a password of one's own, or another number of retries, it is not the same question.
    assert pulled(puller, served, "--retry", "1") == ["GET /v2/", f"HEAD {PATH}"]


def test_a_run_asks_as_little(puller: Sbx, served: Served) -> None:
    def ran(*words: str) -> list[str]:
        served.server.requests.clear()
        done = puller("run", *words, "--print-config", f"{served.server.host}/a/b:1", "true")
        assert done.returncode == 0 and '"ociVersion"' in done.stdout, done.stderr
        return [f"{request.method} {request.path}" for request in served.server.requests]

    assert f"GET {PATH}" in ran("--pull=always")
    assert ran("--pull=always") == ran("--pull=newer") == pulled(puller, served) == [f"HEAD {PATH}"]
    assert ran() == []
    served.serve(author="somebody else")
    served.server.serve_manifest(served.manifest, Docker_Content_Digest=sha256(served.manifest))
    assert ran() == []
    assert f"GET {PATH}" in ran("--pull=newer")
    assert ran("--pull=newer") == [f"HEAD {PATH}"]


def test_another_image_there_is_fetched(puller: Sbx, served: Served) -> None:
    pulled(puller, served)
    served.serve(author="somebody else")
    served.server.serve_manifest(served.manifest, Docker_Content_Digest=sha256(served.manifest))
    assert f"GET {PATH}" in pulled(puller, served)
    assert pulled(puller, served) == [f"HEAD {PATH}"]


ANSWERS: dict[str, Callable[[Request], None]] = {
    "cut": lambda request: request.cut(),
    "unauthorized": lambda request: request.answer(401, Www_Authenticate='Basic realm="x"'),
    "gone": lambda request: request.answer(404),
    "broken": lambda request: request.answer(500),
    "redirect": lambda request: request.answer(307, Location="/v2/a/b/manifests/other"),
    "no digest": lambda request: request.answer(200),
    "two digests": lambda request: request.answer(200, Docker_Content_Digest="x", docker_content_digest="x"),
    "endless headers": lambda request: request.write(b"HTTP/1.1 200 OK\r\n" + (b"a: " + b"b" * 1000 + b"\r\n") * 40),
    "no HTTP": lambda request: request.write(b"SSH-2.0-x\r\n\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_any_other_answer_decides_nothing(puller: Sbx, served: Served, name: str) -> None:
    pulled(puller, served)
    ordinary = served.server.routes[PATH]
    assert not isinstance(ordinary, list)
    served.server.routes[PATH] = [ANSWERS[name], ordinary]
    assert pulled(puller, served) == [f"HEAD {PATH}", "GET /v2/", f"HEAD {PATH}"]


def test_a_record_ends_with_what_it_came_from(puller: Sbx, served: Served, tmp_path: Path) -> None:
    host = served.server.host
    name = f"{host}/a/b:1"
    full = ["GET /v2/", f"HEAD {PATH}"]
    pulled(puller, served)
    assert puller("tag", name, "other").returncode == 0
    assert pulled(puller, served) == full
    assert pulled(puller, served) == full[1:]
    (tmp_path / "registries.conf").write_text(f'[[registry]]\nlocation = "{host}"\nblocked = true\n')
    served.server.requests.clear()
    done = puller("pull", name)
    assert done.returncode == 125 and "is blocked" in done.stderr and not served.server.requests
    insecure(tmp_path, host)
    assert puller("rmi", "-af").returncode == 0
    assert f"GET {PATH}" in pulled(puller, served)
    # Proxies are for the full way; this machine is never asked through one.
    puller.environment["HTTP_PROXY"] = "http://127.0.0.1:1"
    assert pulled(puller, served) == full
    puller.store.chmod(0o755)
    assert pulled(puller, served) == full


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Path]]:
    """(docker-registry with TLS and without a password, its CA)."""
    folder = tmp_path_factory.mktemp("certified")
    certificates = make_certificates(folder)
    running = start_registry(folder, certificates, {})
    yield running, certificates / "ca.crt"
    stop_registry(running)


def records(puller: Sbx) -> list[str]:
    return [path.name for path in (puller.store / "images").glob("glance*")]


def test_certificates_are_checked_each_time(
    mover: Sbx, certified: tuple[Registry, Path], layered_oci: Callable[[int], images.Images], tmp_path: Path
) -> None:
    registry, authority = certified
    config = tmp_path / "config"
    trusted = config / f"containers/certs.d/{registry.host}/ca.crt"
    trusted.parent.mkdir(parents=True)
    trusted.write_bytes(authority.read_bytes())
    mover.environment.update({"XDG_CONFIG_HOME": str(config)})
    name = f"{registry.host}/three:1"
    images.call("skopeo", "copy", "-q", "--dest-tls-verify=false", layered_oci(3).oci, f"docker://{name}")
    first = mover("pull", "-q", name)
    assert first.returncode == 0, first.stderr
    assert len(records(mover)) == 1
    script = Path(mover.launcher).read_text().replace(" -IS ", " -ISv ")
    verbose = Sbx(mover.store, mover.environment, "/bin/sh")("-c", script, mover.launcher, "pull", name)
    assert verbose.stdout == first.stdout and "import 'ssl'" in verbose.stderr
    assert "import 'urllib3'" not in verbose.stderr
    trusted.unlink()
    refused = mover("pull", "--retry", "0", name), mover("pull", name)
    assert all(done.returncode == 125 and "its certificate is not trusted" in done.stderr for done in refused)
    unchecked = [mover("pull", "--tls-verify=false", name) for _ in range(2)]
    assert [done.stdout for done in unchecked] == [first.stdout] * 2
    assert len(records(mover)) == 2
    given = ["--cert-dir", str(authority.parent)], ["--cert-dir", str(tmp_path)]
    for _ in range(2):
        assert mover("pull", *given[0], name).stdout == first.stdout
        assert "its certificate is not trusted" in mover("pull", *given[1], name).stderr
    assert len(records(mover)) == 3
    assert "its certificate is not trusted" in mover("pull", name).stderr
