"""`sbx login`, `logout` and `search` as a user runs them, against docker-registry."""

import json
import os
import pty
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import Hostile
from hypothesis import given, strategies as st
from registries import PASSWORD, USER, Registry, TokenServer
from support import Sbx

from sandbox.errors import SandboxError
from sandbox.registry.login import place, rows_of

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(sbx: Sbx, nobodys_files: Path, trusting: str) -> Call:
    """`sbx` with the test's own home; --cert-dir is added to what speaks to a registry."""

    def run(
        verb: str, *arguments: str, input: str = "", secure: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        more = ["--cert-dir", trusting] if verb != "logout" and secure else []
        own = {"HOME": str(nobodys_files), "XDG_RUNTIME_DIR": str(nobodys_files / "run"), "SBX_DEBUG": "1"}
        done = sbx(verb, *more, *arguments, input=input, env={**own, "SBX_REGISTRIES_CONF": str(nobodys_files / "registries.conf"), **env})  # fmt: skip
        assert PASSWORD not in done.stdout + done.stderr
        return done

    return run


def test_G12_login_and_logout(call: Call, registry: Registry, nobodys_files: Path) -> None:
    path = nobodys_files / "run/containers/auth.json"
    done = call("login", "-u", USER, "--password-stdin", registry.host, input="wrong\n")
    assert (
        done.returncode == 125
        and f"sbx: log in `{registry.host}`: user name or password are not accepted" in done.stderr
    )
    assert not path.exists(), "nothing is stored that was refused"
    done = call("login", "-v", "-u", USER, "--password-stdin", registry.host, input=PASSWORD + "\n")
    assert (done.returncode, done.stdout) == (0, f"Used: {path}\nLogin Succeeded!\n"), done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert call("login", "--get-login", registry.host).stdout == f"{USER}\n"
    assert call("login", registry.host).stdout == f"Already logged in to {registry.host} as {USER}\n"
    kept = path.read_text()
    path.write_text(kept.replace(registry.host, "127.0.0.1:1"))
    done = call("login", "127.0.0.1:1")
    assert done.returncode == 125 and "Connection refused" in done.stderr and "not accepted" not in done.stderr
    path.write_text(json.dumps({"auths": {registry.host: {"username": USER, "password": "old"}}}))
    done = call("login", registry.host)
    assert done.returncode == 125 and "are not accepted any more" in done.stderr and "no terminal" in done.stderr
    path.write_text(kept)
    assert call("search", f"{registry.host}/nothing-of-this-name").returncode == 0
    done = call("logout", registry.host)
    assert (done.returncode, done.stdout) == (0, f"Removed login credentials for {registry.host}\n")
    assert json.loads(path.read_text()) == {"auths": {}}
    assert call("logout", registry.host).returncode == 125
    done = call("login", "--get-login", registry.host)
    assert (done.returncode, done.stdout) == (125, "") and "not logged in" in done.stderr
    assert call("logout", "--all").returncode == 0


def test_podman_login_and_ours_share_a_file(call: Call, registry: Registry, nobodys_files: Path, trusting: str) -> None:
    path = nobodys_files / "run/containers/auth.json"
    done = subprocess.run(
        ["podman", "login", "-u", USER, "--password-stdin", "--cert-dir", trusting, "--authfile", str(path), registry.host],
        input=PASSWORD, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert call("login", "--get-login", registry.host).stdout == f"{USER}\n"
    assert call("logout", registry.host).returncode == 0
    assert registry.host not in path.read_text()


def test_login_with_a_token_server(call: Call, token_registry: tuple[Registry, TokenServer]) -> None:
    host = token_registry[0].host
    assert call("login", "-u", USER, "--password-stdin", host, input=PASSWORD).stdout == "Login Succeeded!\n"
    done = call("login", "-u", USER, "--password-stdin", host, input="not it")
    assert done.returncode == 125 and "not accepted (HTTP 401)" in done.stderr


def test_password_on_the_command_line(call: Call, registry: Registry) -> None:
    done = call("login", f"--username={USER}", "-p", "wrong", registry.host)
    assert done.returncode == 125 and "warning: a password on the command line" in done.stderr


def test_login_without_a_terminal(call: Call, registry: Registry) -> None:
    done = call("login", registry.host)
    assert done.returncode == 125 and "--password-stdin" in done.stderr
    done = call("login", "--password-stdin", registry.host, input="x")
    assert done.returncode == 125 and "goes with --username" in done.stderr


def test_login_on_a_terminal(sbx: Sbx, registry: Registry, nobodys_files: Path, trusting: str) -> None:
    main, other = pty.openpty()
    own = {"HOME": str(nobodys_files), "XDG_RUNTIME_DIR": str(nobodys_files / "run")}
    process = sbx.popen("login", "--cert-dir", trusting, registry.host, env=own, stdin=other, stderr=other)
    os.close(other)
    seen = b""
    for prompt, answer in ((b"Username: ", USER), (b"Password: ", PASSWORD)):
        while not seen.endswith(prompt):  # what is typed before a password is asked for is thrown away
            seen += os.read(main, 4096)
        os.write(main, f"{answer}\n".encode())
    assert process.communicate(timeout=30)[0] == "Login Succeeded!\n"
    os.close(main)
    assert PASSWORD.encode() not in seen


def test_tls_verify_false(call: Call, registry: Registry) -> None:
    done = call(
        "login", "--tls-verify=false", "-u", USER, "--password-stdin", registry.host, input=PASSWORD, secure=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Login Succeeded!\n", "")


def test_login_over_plain_http(call: Call, hostile: Callable[..., Hostile]) -> None:
    server = hostile(tls=None)
    done = call("login", "-u", USER, "--password-stdin", server.host, input=PASSWORD, secure=False)
    assert done.returncode == 125 and "--tls-verify=false" in done.stderr
    assert server.requests == []
    done = call(
        "login", "--tls-verify=false", "-u", USER, "--password-stdin", server.host, input=PASSWORD, secure=False
    )
    assert done.returncode == 0 and "did not ask who you are" in done.stderr
    assert server.secrets_seen(PASSWORD) == []


@pytest.mark.parametrize("name", ["a b", "https://", "-x/", "x/y:tag", "h.example/UPPER", "../x"])
def test_names_that_are_no_registry(call: Call, name: str) -> None:
    done = call("logout", "--", name)
    assert done.returncode == 125 and "sbx: use registry" in done.stderr


def test_docker_hub_has_one_name(call: Call, nobodys_files: Path) -> None:
    path = nobodys_files / "run/containers/auth.json"
    path.parent.mkdir()
    for name in ("", "docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"):
        path.write_text(json.dumps({"auths": {"docker.io": {"auth": "bWU6cA=="}}}))
        done = call("logout", *([name] if name else []))
        assert (done.returncode, done.stdout) == (0, "Removed login credentials for docker.io\n"), done.stderr


def test_logout_of_what_docker_keeps(call: Call, nobodys_files: Path) -> None:
    (nobodys_files / ".docker").mkdir()
    path = nobodys_files / ".docker/config.json"
    path.write_text(json.dumps({"auths": {"h.example": {"auth": "bWU6cA=="}}}))
    done = call("logout", "h.example")
    assert done.returncode == 125 and f"its credentials are in {path}" in done.stderr


def test_search(call: Call, hostile: Callable[..., Hostile]) -> None:
    server = hostile()
    server.routes["/v2/_catalog"] = lambda request: request.answer(
        200, b'{"repositories": ["a/tool", "b/other", "c/too\\u001bl"]}'
    )
    server.routes["/v2/a/tool/tags/list"] = lambda request: request.answer(200, b'{"tags": ["1", "2"]}')
    done = call("search", f"{server.host}/too")
    assert (done.returncode, done.stdout.splitlines()[1:]) == (
        0,
        [f"{server.host}/a/tool", f"{server.host}/c/too\\x1bl"],
    )
    assert (
        call("search", "--limit", "1", "--format", "{{.Name}}", f"{server.host}/").stdout == f"{server.host}/a/tool\n"
    )
    done = call("search", "--list-tags", "--format=json", f"{server.host}/a/tool")
    assert [row["Tag"] for row in json.loads(done.stdout)] == ["1", "2"]
    assert call("search", "--limit", "none", "x").returncode == 125
    done = call("search", "--list-tags", f"{server.host}/none")
    assert done.returncode == 125 and done.stderr.count("sbx:") == 1


@given(st.text(max_size=40) | st.from_regex(r"(https?://)?[a-z.:/0-9-]{1,30}", fullmatch=True))
def test_any_name_of_a_registry(text: str) -> None:
    try:
        host, path = place(text or "x.example")
        assert host and not host.startswith("-") and "//" not in path
    except SandboxError as error:
        assert error.step == "use registry" and str(error).isprintable()


def test_registry_without_a_catalogue(call: Call, hostile: Callable[..., Hostile]) -> None:
    done = call("search", f"{hostile().host}/x")
    assert done.returncode == 125 and "do not show their catalogue" in done.stderr


def test_rows_of_docker_io() -> None:
    raw = json.dumps({"results": [
        {"name": "busybox", "description": "Busybox base image.", "star_count": 3000, "is_official": True}, {"name": "me/x"}, 7, {},
    ]}).encode()  # fmt: skip
    assert [(row["Name"], row["Stars"], row["Official"]) for row in rows_of(raw)] == [
        ("docker.io/library/busybox", 3000, "[OK]"), ("docker.io/me/x", 0, ""),
    ]  # fmt: skip
    assert rows_of(b"{}") == rows_of(b"[]") == []
