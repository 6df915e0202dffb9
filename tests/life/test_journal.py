"""--log-driver journald: with a real journal, started in a mount namespace of this test's own; and without one."""

import json
import os
import shutil
import subprocess

import pytest

JOURNALD = "/lib/systemd/systemd-journald"
WITH_JOURNAL = f"""
set -e
mkdir -p /run/systemd /run/log
mount -t tmpfs -o mode=755 none /run/systemd
mount -t tmpfs -o mode=755 none /run/log
mkdir -p /run/systemd/journal /run/log/journal
{JOURNALD} >/dev/null 2>&1 &
journal=$!
trap 'kill $journal; wait' EXIT
for n in $(seq 100); do [ -S /run/systemd/journal/socket ] && break; sleep 0.1; done
"""


@pytest.mark.requires("userns", "idmap", "store")
@pytest.mark.skipif(os.path.exists("/run/systemd/journal/socket"), reason="a journal runs here")
def test_without_a_journal(sbx_in):
    done = sbx_in("run", "-d", "--log-driver", "journald", sbx_in.image, "true", code=125)
    assert done.stderr.startswith("sbx: open journal `/run/systemd/journal/socket`: no systemd-journald runs here")
    assert sbx_in.column("Names") == []


@pytest.mark.root
@pytest.mark.skipif(not os.path.exists(JOURNALD) or not shutil.which("journalctl"), reason="no systemd-journald")
@pytest.mark.skipif(not os.path.exists("/etc/machine-id"), reason="journald wants a machine id")
def test_with_a_journal(sbx_in):
    script = (
        WITH_JOURNAL
        + """
    said="printf 'one\\ntwo \\377\\nhalf'; echo wrong >&2; sleep 0.5; echo; echo last"
    "$SBX" run -d --name web --log-driver journald "$IMAGE" sh -c "$said" >/dev/null
    "$SBX" wait web >/dev/null
    sleep 0.5
    echo "[out]"; "$SBX" logs web 2>/dev/null
    echo "[err]"; "$SBX" logs web 2>&1 >/dev/null
    echo "[tail]"; "$SBX" logs --tail 1 web 2>/dev/null
    echo "[inspect]"; "$SBX" inspect -f '{{.HostConfig.LogConfig.Type}}' web
    echo "[journal]"; journalctl -q -o json CONTAINER_NAME=web PRIORITY=3
    "$SBX" run -d --name slow --log-driver journald "$IMAGE" sh -c 'for n in 1 2 3; do echo $n; sleep 0.4; done' >/dev/null
    echo "[follow]"; "$SBX" logs -f slow
    "$SBX" run -d --name bulk --log-driver journald "$IMAGE" sh -c 'seq 1000' >/dev/null
    "$SBX" wait bulk >/dev/null
    sleep 0.5
    echo "[bulk]"; "$SBX" logs bulk | wc -l
    "$SBX" rm -f -a >/dev/null
    """
    )
    environment = {
        **sbx_in.sbx.environment,
        "SBX_STORE": str(sbx_in.sbx.store),
        "SBX": sbx_in.sbx.launcher,
        "IMAGE": sbx_in.image,
    }
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], env=environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done
    parts = dict(part.split(b"]\n", 1) for part in done.stdout.split(b"[") if b"]\n" in part)
    assert parts[b"out"] == b"one\ntwo \377\nhalf\nlast\n"
    assert parts[b"err"] == b"wrong\n" and parts[b"tail"] == b"last\n" and parts[b"inspect"] == b"journald\n"
    record = json.loads(parts[b"journal"])
    assert record["MESSAGE"] == "wrong" and record["SYSLOG_IDENTIFIER"] == "web" and len(record["CONTAINER_ID"]) == 12
    assert parts[b"follow"] == b"1\n2\n3\n" and parts[b"bulk"] == b"1000\n"
