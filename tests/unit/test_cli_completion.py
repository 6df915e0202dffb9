"""Completion scripts, asked by the shells themselves; a shell that is not installed is skipped."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox.cli.completion import SCRIPTS
from sandbox.verbs import VERBS


def needs(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the scripts, two files, and an `sbx` that knows two images and one profile."""
    for shell, script in SCRIPTS.items():
        (tmp_path / f"sbx.{shell}").write_text(script())
    (tmp_path / "fpath").mkdir()
    (tmp_path / "fpath/_sbx").write_text(SCRIPTS["zsh"]())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sbx").write_text(
        "#!/bin/sh\ncase $1 in\nimages) echo busybox:latest; echo busybox:old ;;\nprofile) printf 'strict\\t/x/strict.toml\\tfor x\\n' ;;\n"
        "ps) echo web; echo db ;;\nvolume) echo data ;;\npod) echo shop ;;\nsecret) echo token ;;\nesac\n"
    )
    (tmp_path / "bin/sbx").chmod(0o755)
    (tmp_path / "bin/sbxtool").write_text("#!/bin/sh\n")
    (tmp_path / "bin/sbxtool").chmod(0o755)
    (tmp_path / "file one.env").touch()
    (tmp_path / "folder").mkdir()
    return tmp_path


def ask(place: Path, *argv: str, stdin: str = "") -> str:
    environment = {"PATH": f"{place}/bin:{os.environ['PATH']}", "HOME": str(place), "LANG": "C.UTF-8", "TERM": "xterm"}
    done = subprocess.run(
        argv, env=environment, cwd=place, input=stdin, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "-n")])
def test_the_shell_accepts_its_script(place: Path, shell: str, check: str) -> None:
    assert ask(place, needs(shell), check, f"{place}/sbx.{shell}") == ""


@pytest.mark.parametrize("shell", SCRIPTS)
def test_every_verb_and_option_is_in_every_script(shell: str) -> None:
    script = SCRIPTS[shell]()
    for name, verb in VERBS.items():
        assert all(word in script for word in name.split())
        for option in verb.options:
            for flag in option.flags:
                shown = f"-l {flag[2:]} " if shell == "fish" and flag[:2] == "--" else flag
                if not option.hidden and len(flag) > 2:
                    assert shown in script


BASH = """
source sbx.bash
COMP_LINE=$1
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_sbx
((${#COMPREPLY[@]} == 0)) || printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "words", "expected"),
    [
        ("sbx ru", ["sbx", "ru"], {"run"}),
        ("sbx --ver", ["sbx", "--ver"], {"--version"}),
        ("sbx run --pul", ["sbx", "run", "--pul"], {"--pull"}),
        ("sbx run --pull ", ["sbx", "run", "--pull", ""], {"always", "missing", "never", "newer"}),
        ("sbx run --pull=ne", ["sbx", "run", "--pull", "=", "ne"], {"never", "newer"}),
        ("sbx run --pull=", ["sbx", "run", "--pull", "="], {"always", "missing", "never", "newer"}),
        ("sbx run --rm --dns 1.1.1.1 --net ", ["sbx", "run", "--rm", "--dns", "1.1.1.1", "--net", ""],
         {"none", "host", "slirp4netns", "pasta", "container:", "ns:"}),
        ("sbx run --env-file fi", ["sbx", "run", "--env-file", "fi"], {"file one.env"}),
        ("sbx run -w fo", ["sbx", "run", "-w", "fo"], {"folder"}),
        ("sbx run --profile s", ["sbx", "run", "--profile", "s"], {"strict"}),
        ("sbx run -it b", ["sbx", "run", "-it", "b"], {"busybox:latest", "busybox:old"}),
        ("sbx run busybox:o", ["sbx", "run", "busybox", ":", "o"], {"old"}),
        ("sbx run busybox:", ["sbx", "run", "busybox", ":"], {"latest", "old"}),
        ("sbx run a:b -", ["sbx", "run", "a", ":", "b", "-"], set()),
        ("sbx run a:b fi", ["sbx", "run", "a", ":", "b", "fi"], {"file one.env"}),
        ("sbx wrap -- sbxto", ["sbx", "wrap", "--", "sbxto"], {"sbxtool"}),
        ("sbx rmi -f x busybox:l", ["sbx", "rmi", "-f", "x", "busybox", ":", "l"], {"latest"}),
        ("sbx help im", ["sbx", "help", "im"], {"import", "image", "images"}),
        ("sbx completion ", ["sbx", "completion", ""], {"bash", "zsh", "fish"}),
        ("sbx --debug images --no", ["sbx", "--debug", "images", "--no"], {"--no-trunc", "--noheading"}),
        ("sbx version x", ["sbx", "version", "x"], set()),
        ("sbx stop -t 3 ", ["sbx", "stop", "-t", "3", ""], {"web", "db"}),
        ("sbx exec w", ["sbx", "exec", "w"], {"web"}),
        ("sbx exec web fi", ["sbx", "exec", "web", "fi"], {"file one.env"}),
        ("sbx volume rm ", ["sbx", "volume", "rm", ""], {"data"}),
        ("sbx pod in", ["sbx", "pod", "in"], {"inspect"}),
        ("sbx pod stop ", ["sbx", "pod", "stop", ""], {"shop"}),
        ("sbx secret rm to", ["sbx", "secret", "rm", "to"], {"token"}),
        ("sbx run --pod ", ["sbx", "run", "--pod", ""], {"shop"}),
        ("sbx profile show s", ["sbx", "profile", "show", "s"], {"strict"}),
        ("sbx cp fi", ["sbx", "cp", "fi"], {"file one.env"}),
    ],
)  # fmt: skip
def test_bash(place: Path, line: str, words: list[str], expected: set[str]) -> None:
    found = ask(place, needs("bash"), "--norc", "--noprofile", "-c", BASH + "exit 0", "bash", line, *words)
    assert set(found.splitlines()) == expected


def test_bash_takes_names_as_they_are(place: Path) -> None:
    (place / "bin/sbx").write_text("#!/bin/sh\necho '$(touch${IFS}ran)' '`touch${IFS}ran`' '*' plain\n")
    words = ["sbx", "volume", "rm", ""]
    found = ask(place, needs("bash"), "--norc", "--noprofile", "-c", BASH + "exit 0", "bash", "sbx volume rm ", *words)
    assert found.splitlines() == ["$(touch${IFS}ran)", "`touch${IFS}ran`", "*", "plain"]
    assert not (place / "ran").exists()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sbx ru", {"run"}),
        ("sbx run --pul", {"--pull"}),
        ("sbx run --pull ", {"always", "missing", "never", "newer"}),
        ("sbx run --pull=ne", {"--pull=never", "--pull=newer"}),
        ("sbx run --env-file fi", {"file one.env"}),
        ("sbx run busyb", {"busybox:latest", "busybox:old"}),
        ("sbx wrap -- sbxto", {"sbxtool"}),
        ("sbx unshare sbxto", {"sbxtool"}),
        ("sbx help im", {"import", "image", "images"}),
        ("sbx completion ", {"bash", "zsh", "fish"}),
        ("sbx --debug images --no", {"--no-trunc", "--noheading"}),
        ("sbx stop ", {"web", "db"}),
        ("sbx volume rm ", {"data"}),
        ("sbx pod in", {"inspect"}),
        ("sbx pod stop ", {"shop"}),
        ("sbx run --profile st", {"strict"}),
    ],
)
def test_fish(place: Path, line: str, expected: set[str]) -> None:
    found = ask(place, needs("fish"), "-N", "-c", "source sbx.fish; complete -C $argv[1]", line)
    assert {row.split("\t")[0] for row in found.splitlines()} == expected


ZSH = """
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PS1=; fpath=($PWD/fpath $fpath); autoload -Uz compinit; compinit -u -d $PWD/dump; stty cols 200; stty -echo
unsetopt zle_bracketed_paste; zstyle ":completion:*" verbose no
wf() { _main_complete; compstate[insert]=; compstate[list]=list; }
zle -C w complete-word wf; bindkey "^X" w; print rea""dy'
zpty -r -m z out '*ready*'
zpty -w -n z "$1"$'\\x18'
all=
for i in {1..30}; do
    sleep 0.1
    zpty -r -t z out && all+=$out
    [[ $all == *$2* ]] && break
done
print -r -- "$all"
zpty -d z
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sbx imp", "import"),
        ("sbx run --pul", "--pull"),
        ("sbx run --pull ", "missing"),
        ("sbx run --pull=", "missing"),
        ("sbx run -it busyb", "busybox:old"),
        ("sbx run -q busybox sbxto", "sbxtool"),
        ("sbx wrap -- sbxto", "sbxtool"),
        ("sbx --debug run --env-f", "--env-file"),
        ("sbx completion ", "fish"),
        ("sbx stop w", "web"),
        ("sbx exec w", "web"),
        ("sbx volume rm d", "data"),
        ("sbx pod insp", "inspect"),
        ("sbx run --profile str", "strict"),
    ],
)
def test_zsh(place: Path, line: str, expected: str) -> None:
    found = ask(place, needs("zsh"), "-f", "-c", ZSH, "zsh", line, expected)
    assert expected in found.replace(line, "", 1)
