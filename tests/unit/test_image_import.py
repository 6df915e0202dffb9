"""`sbx import --change`: Dockerfile instructions onto a config."""

from typing import Any

import pytest

from sandbox.cli.import_ import apply
from sandbox.errors import SandboxError


def test_instructions() -> None:
    config: dict[str, Any] = {}
    for change in (
        'CMD ["a", "b"]', "ENTRYPOINT exec x", "ENV A=1 B='2 3'", "ENV A 4 5", "LABEL k=v", "EXPOSE 80 53/udp", "USER u:g",
        "WORKDIR /w", "VOLUME /v", "STOPSIGNAL SIGINT", "ENV=C=6",
    ):  # fmt: skip
        apply(config, change)
    assert config == {
        "Cmd": ["a", "b"],
        "Entrypoint": ["/bin/sh", "-c", "exec x"],
        "Env": ["B=2 3", "A=4 5", "C=6"],
        "Labels": {"k": "v"},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "User": "u:g",
        "WorkingDir": "/w",
        "Volumes": {"/v": {}},
        "StopSignal": "SIGINT",
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("NONE", {"Test": ["NONE"]}),
        ("CMD test -e /ok", {"Test": ["CMD-SHELL", "test -e /ok"]}),
        ('--interval=5m --timeout=1.5s cmd ["test", "-e", "/ok"]',
         {"Test": ["CMD", "test", "-e", "/ok"], "Interval": 300_000_000_000, "Timeout": 1_500_000_000}),
        ("--start-period=2s  --retries=2 CMD true", {"Test": ["CMD-SHELL", "true"], "StartPeriod": 2_000_000_000, "Retries": 2}),
    ],
)  # fmt: skip
def test_health_check(text: str, found: dict[str, Any]) -> None:
    config: dict[str, Any] = {}
    apply(config, f"HEALTHCHECK {text}")
    assert config == {"Healthcheck": found}


def test_what_an_image_says_is_null() -> None:
    config: dict[str, Any] = dict.fromkeys(("Env", "Labels", "ExposedPorts", "Volumes"))
    for change in ("ENV A=1", "LABEL k=v", "EXPOSE 80", "VOLUME /v"):
        apply(config, change)
    assert config == {"Env": ["A=1"], "Labels": {"k": "v"}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}}


@pytest.mark.parametrize(
    "change",
    [
        "HEALTHCHECK",
        "HEALTHCHECK true",
        "HEALTHCHECK CMD",
        "HEALTHCHECK CMD [1]",
        "HEALTHCHECK --retries=x CMD true",
        "HEALTHCHECK --interval=soon CMD true",
        "HEALTHCHECK --often=1s CMD true",
        "HEALTHCHECK --retries=1 NONE",
        "STOPSIGNAL FOO",
        "EXPOSE ٣",
        "RUN x",
        "CMD",
        "CMD [1]",
        "CMD [",
        "ENV A",
        "EXPOSE 0",
        "EXPOSE x/tcp",
        "LABEL a=1 b",
        "",
    ],
)
def test_what_is_no_instruction(change: str) -> None:
    with pytest.raises(SandboxError) as caught:
        apply({}, change)
    assert caught.value.step == "read --change"
