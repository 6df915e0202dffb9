"""Entry: what reaches the user, which exit status, and what a hot verb imports before its own module."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sandbox
from sandbox.verbs import VERBS

TREE = Path(__file__).resolve().parent.parent.parent
MAIN = Path(sandbox.__file__).parent / "__main__.py"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def sbx(tmp_path: Path) -> Run:
    """Runs the package as the launcher does, in an empty home."""
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    def run(*argv: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-IS", str(MAIN), *argv], env=environment | more, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, check=False, cwd=tmp_path, timeout=60,
        )  # fmt: skip

    return run


def test_version(sbx: Run) -> None:
    for argv in (["version"], ["--version"]):
        done = sbx(*argv)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"sbx {sandbox.__version__}\n", "")
    assert json.loads(sbx("version", "--json").stdout)["version"] == sandbox.__version__


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["rnu"], "sbx: unknown verb `rnu`", "did you mean `run`?"),
        (["build", "."], "sbx: unknown verb `build`", "`sbx load -i FILE` takes"),
        (["network", "ls"], "sbx: unknown verb `network`", "`--network container:NAME` or a pod"),
        (["--versoin"], "sbx: unknown option `--versoin`", "did you mean `--version`?"),
        (["run", "--volum", "a", "x"], "sbx: run: unknown option `--volum`", "did you mean `--volume`?"),
        (["run", "--vol=a", "x"], "sbx: run: unknown option `--vol`", "did you mean `--volume`?"),
        (["run", "-rm", "x"], "sbx: run: unknown option `-r`", "did you mean `--rm`?"),
        (["run", "-itZ", "x"], "sbx: run: unknown option `-Z`", "`sbx run --help`"),
        (["run", "-v"], "sbx: run: option `-v`: SRC:DST[:OPTIONS] is missing after it", "`sbx run --help`"),
        (["run", "--rm=yes", "x"], "sbx: run: option `--rm`: takes no value but true or false", "`sbx run --help`"),
        (
            ["run", "--pull=alway", "x"],
            "sbx: run: --pull `alway`: not one of always, missing",
            "did you mean `always`?",
        ),
        (["wrap", "--cap-drop=ALL", "x"], "sbx: wrap: --cap-drop: sbx wrap can not do that yet", "`sbx wrap --help`"),
        (["run"], "sbx: run: missing operand `IMAGE [COMMAND [ARG...]]`", "`sbx run --help`"),
        (["version", "x"], "sbx: version: unexpected operand `x`", "`sbx version --help`"),
        (["completion", "fsh"], "sbx: completion `fsh`: not one of bash, zsh, fish", "did you mean `fish`?"),
        (["help", "imags"], "sbx: unknown verb `imags`", "did you mean `images`?"),
        (["r\x1b[31m"], "sbx: unknown verb `r\\x1b[31m`", "`sbx --help`"),
    ],
)
def test_usage_errors_are_one_line_and_a_hint(sbx: Run, argv: list[str], message: str, hint: str) -> None:
    done = sbx(*argv)
    assert (done.returncode, done.stdout) == (125, "")
    first, second = done.stderr.splitlines()
    assert first.startswith(message)
    assert second.startswith("hint: ")
    assert hint in second


def test_a_command_line_that_is_not_utf8(sbx: Run) -> None:
    done = sbx("run", "--\udce9", "x")
    assert (done.returncode, done.stderr.splitlines()[0]) == (125, "sbx: run: unknown option `--\\udce9`")


def test_no_verb_shows_help_on_stderr(sbx: Run) -> None:
    done = sbx()
    assert (done.returncode, done.stdout) == (125, "")
    assert "Run images and wrap commands" in done.stderr


def test_help_of_sbx(sbx: Run) -> None:
    done = sbx("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for verb in VERBS:
        assert f" {verb} " in done.stdout
    assert "sbx run host: id" in done.stdout
    assert sbx("help").stdout == done.stdout == sbx("-h").stdout


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(sbx: Run, verb: str) -> None:
    done = sbx(*verb.split(), "--help", COLUMNS="200", TERMINAL_WIDTH="200")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: sbx {verb} [OPTIONS] {VERBS[verb].operands}".rstrip() in done.stdout
    for option in VERBS[verb].options:
        for flag in option.flags:
            assert (f"{flag} " in done.stdout or f"{flag}," in done.stdout) != option.hidden
        if not option.hidden:
            assert f" {option.group} " in done.stdout
    for command, _ in VERBS[verb].examples:
        assert f"\n   {command}" in done.stdout
    assert ":off" not in done.stdout
    assert sbx("help", *verb.split(), COLUMNS="200", TERMINAL_WIDTH="200").stdout == done.stdout


def test_h_is_the_hostname_of_run_and_help_elsewhere(sbx: Run) -> None:
    assert sbx("images", "-h").stdout.lstrip().startswith("Usage: sbx images")
    assert "NAME is missing after it" in sbx("run", "-h").stderr


def test_a_full_disk_is_an_error(sbx: Run, tmp_path: Path) -> None:
    for argv in (["version"], ["completion", "bash"], ["completion", "zsh"], ["run", "--help"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-IS", str(MAIN), *argv], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
                env={"HOME": str(tmp_path)},
            )  # fmt: skip
        assert (done.returncode, done.stderr) == (125, "sbx: write `standard output`: No space left on device\n")


def test_a_reader_that_went_away_is_no_error_to_talk_about(tmp_path: Path) -> None:
    for verb in (["version"], ["completion", "bash"], ["completion", "zsh"], ["run", "--help"]):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-IS", str(MAIN), *verb], stdout=write, stderr=subprocess.PIPE, check=False,
            env={"HOME": str(tmp_path)},
        )  # fmt: skip
        os.close(write)
        assert (done.returncode, done.stderr) == (141, b"")


def test_closed_standard_descriptors_do_not_end_up_as_files(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -IS "{MAIN}" version'
    for closed, code in (("<&- 2>&-", 0), (">&-", 125), ("<&- >&- 2>&-", 125)):
        done = subprocess.run(["sh", "-c", f"{command} {closed}"], env={"HOME": str(tmp_path)}, check=False)
        assert (closed, done.returncode) == (closed, code)


# -- with a verb of our own: a module that does what the test says --

STUB = """
import os, sys
sys.path.append({tree!r})
from sandbox import entry, options_run
options_run.VERB.target = "stub:main"
sys.path.append({here!r})
entry.main()
"""


@pytest.fixture
def stub(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs `sbx run ARGV` with the body of main(opts, operands) given as source."""

    def run(body: str, *argv: str, **more: str) -> "subprocess.CompletedProcess[str]":
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        (tmp_path / "stub.py").write_text(f"import os, sys\ndef main(opts, operands):\n{lines}")
        return subprocess.run(
            [sys.executable, "-ISc", STUB.format(tree=str(MAIN.parent.parent), here=str(tmp_path)), *argv],
            env={"HOME": str(tmp_path)} | more, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("return 7", 7, ""),
        ("return 300", 44, ""),
        ("raise KeyboardInterrupt", 130, ""),
        ("sys.exit(3)", 3, ""),
        ("print('x'); return 0", 0, ""),
        (
            "from sandbox.errors import SandboxError; raise SandboxError('mount proc', '/p', 2, hint='look', code=127)",
            127,
            "sbx: mount proc `/p`: No such file or directory\nhint: look\n",
        ),
        (
            "1 / 0",
            125,
            "sbx: internal error: ZeroDivisionError: division by zero\n"
            "hint: run again as `sbx --debug ...` and report what it shows\n",
        ),
        (
            "os.close(os.pipe()[0]); r, w = os.pipe(); os.close(r); os.write(w, b'x')",
            125,
            "sbx: internal error: BrokenPipeError: [Errno 32] Broken pipe\n"
            "hint: run again as `sbx --debug ...` and report what it shows\n",
        ),
        ("import nowhere_to_be_found", 125, None),
    ],
)
def test_exit_status_and_words(stub: Run, body: str, code: int, said: str | None) -> None:
    done = stub(body, "run", "x")
    assert done.returncode == code
    if said is None:
        assert done.stderr.startswith("sbx: load Python package `nowhere_to_be_found`: it is not installed\nhint: ")
    else:
        assert done.stderr == said


@pytest.mark.parametrize(
    ("argv", "more"),
    [(["--debug", "run", "x"], {}), (["run", "--debug", "x"], {}), (["run", "x"], {"SBX_DEBUG": "1"})],
)
def test_debug_shows_a_traceback_and_reaches_the_verb(stub: Run, argv: list[str], more: dict[str, str]) -> None:
    done = stub("assert opts['debug'] and operands == ['x']; 1 / 0", *argv, **more)
    assert done.returncode == 125
    assert done.stderr.startswith("Traceback ")
    assert "sbx: internal error: ZeroDivisionError" in done.stderr


def test_no_traceback_with_debug_switched_off(stub: Run) -> None:
    assert "Traceback" not in stub("1 / 0", "run", "x", SBX_DEBUG="0").stderr


def test_what_a_hot_verb_imports_on_the_way_to_its_module(stub: Run) -> None:
    done = stub("print(*sorted(sys.modules)); return 0", "run", "-it", "--rm", "-v", "/a:/b", "x", "-y")
    assert done.returncode == 0
    bare = subprocess.run(
        [sys.executable, "-ISc", "import os, sys; print(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    more = set(done.stdout.split()) - set(bare.stdout.split())
    own = {f"sandbox.{name}" for name in ("entry", "errors", "options", "options_run")}
    assert more == {"sandbox", "sandbox.bundle", "stub", *own}
