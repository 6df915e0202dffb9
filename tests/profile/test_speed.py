"""What a profile costs: compiled once in bounded time, and a start from the cache reads one file."""

import time
from pathlib import Path

import pytest

from sandbox import profiles
from sandbox.profile import calls, compile, load

_SLACK = 4  # machines of a CI are slower than the one that the figures are from


def test_compiling_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 150 ms, once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls.library()
    started = time.perf_counter()
    profile = load.effective("default")[0]
    assert compile.program(profile.policy.oci(calls.machine()))
    assert time.perf_counter() - started < 0.150 * _SLACK


@pytest.mark.parametrize("name", ["default", "strict"])
def test_a_compiled_profile_from_the_cache(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 1 ms, the best of ten."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    load.load(name)
    best = 1.0
    for _ in range(10):
        started = time.perf_counter()
        profiles.apply({"security_opt": [], "network": ""}, profiles.load(name, "")["fragment"])
        best = min(best, time.perf_counter() - started)
    assert best < 0.001 * _SLACK
    print(f"{name}: {1000 * best:.2f} ms")
