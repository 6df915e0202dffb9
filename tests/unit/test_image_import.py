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
    "change",
    [
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
