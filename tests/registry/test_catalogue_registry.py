"""Rows of the catalogue of known weaknesses about registries, tried with the verb that a user types.

The number in a test's name is the row, see docs/security.md.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import Hostile
from support import Sbx

Make = Callable[..., Hostile]


@pytest.fixture
def pull(sbx: Sbx, nobodys_files: Path) -> Callable[..., str]:
    """`pull(REGISTRIES_CONF, WORDS...)`: what `sbx pull` says when it fails, without a terminal."""

    def run(text: str, *words: str) -> str:
        settings = nobodys_files / "registries.conf"
        settings.write_text(text)
        own = {
            "HOME": str(nobodys_files),
            "XDG_RUNTIME_DIR": str(nobodys_files / "run"),
            "SBX_REGISTRIES_CONF": str(settings),
        }
        done = sbx("pull", *words, env=own)
        assert done.returncode == 125 and done.stdout == "", done
        assert "Traceback" not in done.stderr
        return done.stderr

    return run


def test_G13_a_short_name_is_asked_for_at_one_registry(pull: Callable[..., str], hostile: Make) -> None:
    """Two registries could be meant: neither is asked.  One is configured: that one is, and no other."""
    one, two = hostile(), hostile()
    said = pull(f'unqualified-search-registries = ["{one.host}", "{two.host}"]\n', "--tls-verify=false", "x")
    assert said.startswith("sbx: resolve short name `x`") and one.host in said and two.host in said
    assert one.requests == two.requests == []
    pull(f'unqualified-search-registries = ["{two.host}"]\n', "--tls-verify=false", "--retry=0", "x")
    assert one.requests == [] and two.requests != []


@pytest.mark.parametrize(
    "name", ["x@sha256:../../../etc/passwd", "../x", "x:../y", "x/../../y", "X\x1b[31m", "x@md5:" + "a" * 32, "-x", ""]
)
def test_I12_G09_names_that_are_none(name: str, pull: Callable[..., str], hostile: Make) -> None:
    """Refused before anybody is asked, and nothing of it reaches the terminal raw."""
    server = hostile()
    said = pull(f'unqualified-search-registries = ["{server.host}"]\n', "--tls-verify=false", "--", name)
    assert server.requests == []
    assert "\x1b" not in said and said.startswith("sbx: ")


def test_G05_no_plain_http_beside_a_broken_tls(pull: Callable[..., str], hostile: Make, certificates: Path) -> None:
    """The certificate is not trusted, and a server without TLS listens too: it is never asked."""
    secure, plain = hostile(), hostile(tls=None)
    text = f'[[registry]]\nprefix = "r.example"\nlocation = "{secure.host}"\n[[registry.mirror]]\nlocation = "{plain.host}"\n'
    said = pull(text, "--retry=0", "r.example/a/b:1")
    assert "TLS" in said or "certificate" in said or "not trusted" in said, said
    assert secure.requests == plain.requests == []


def test_G10_text_of_a_server_is_escaped(pull: Callable[..., str], hostile: Make) -> None:
    """Its error has control characters, more lines, and the end of our own message."""
    server = hostile()
    body = b'{"errors": [{"code": "X", "message": "\\u001b]0;pwned\\u0007\\u009b31m\\nsbx: all is well\\r"}]}'
    server.routes["/v2/a/b/manifests/1"] = lambda request: request.answer(403, body)
    said = pull("", "--tls-verify=false", "--retry=0", f"{server.host}/a/b:1")
    assert server.requests != []
    assert all(char.isprintable() or char == "\n" for char in said)
    assert not any(line.startswith("sbx: all") for line in said.split("\n"))
