"""Manual pages: complete, and set by groff and man without a warning."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import sandbox
from sandbox.cli import manpages
from sandbox.verbs import VERBS

PAGES = manpages.pages()


def formatted(path: Path) -> str:
    man = shutil.which("man")
    if man is None:
        pytest.skip("man is not installed")
    done = subprocess.run(
        [man, "--warnings", "-E", "UTF-8", "-l", str(path)], env={"MANWIDTH": "200", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_one_page_per_verb_and_one_about_all() -> None:
    assert set(PAGES) == {"sbx.1"} | {f"sbx-{verb.replace(' ', '-')}.1" for verb in VERBS}


@pytest.mark.parametrize("name", PAGES)
def test_groff_has_nothing_to_complain_about(tmp_path: Path, name: str) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    (tmp_path / name).write_text(PAGES[name])
    done = subprocess.run(
        [groff, "-ww", "-man", "-Tutf8", "-z", str(tmp_path / name)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("verb", VERBS)
def test_page_of_a_verb(tmp_path: Path, verb: str) -> None:
    (tmp_path / "page.1").write_text(PAGES[f"sbx-{verb.replace(' ', '-')}.1"])
    text = formatted(tmp_path / "page.1")
    assert f"sbx {verb} [OPTIONS] {VERBS[verb].operands}".rstrip() in text
    for option in VERBS[verb].options:
        for flag in option.flags:
            assert (flag in text.split()) or (f"{flag}={option.metavar}" in text) or f"{flag}," in text or option.hidden
    for command, _ in VERBS[verb].examples:
        assert f"    {command}\n" in text


def test_page_about_all(tmp_path: Path) -> None:
    (tmp_path / "page.1").write_text(PAGES["sbx.1"])
    text = formatted(tmp_path / "page.1")
    assert text.rstrip().splitlines()[-1].startswith(f"sbx {sandbox.__version__}")
    for verb in VERBS:
        assert f"sbx-{verb.replace(' ', '-')}(1)" in text
    for words in ("EXIT STATUS", "125", "SBX_STORE", "/etc/subuid"):
        assert words in text


def test_every_variable_that_is_read_is_told() -> None:
    """Those that begin with an underscore, and LD_LIBRARY_PATH as it was, go from sbx to sbx only."""
    sources = Path(sandbox.__file__).parent.rglob("*.py")
    read = {name for path in sources for name in re.findall(r"(?<!_)SBX_[A-Z_]+", path.read_text())}
    assert read - {"SBX_LD_LIBRARY_PATH"} == {name for name, _ in manpages.ENVIRONMENT if name.startswith("SBX_")}


def test_the_same_bytes_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert '"1970-01-02"' in manpages.pages()["sbx.1"]
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert manpages.pages() == manpages.pages()


@pytest.mark.parametrize("text", [".TH x", "'br", "a\\fBb", "`x`", "^~-", ".\n.x"])
def test_text_stays_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "page.1").write_text(f".TH X 1\n.SH NAME\n.nf\n{manpages.escaped(text)}\n")
    assert "".join(text.split()) in "".join(formatted(tmp_path / "page.1").split())
