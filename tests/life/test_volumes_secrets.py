"""Secrets as files and variables; devices and time zones of the machine."""

import json
import os
import stat

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")


@pytest.fixture
def secret(sbx_in, tmp_path):
    """A store that has the secret `token`."""
    (tmp_path / "token").write_bytes(b"s3cret\xff")
    sbx_in("secret", "create", "-l", "k=v", "token", str(tmp_path / "token"))
    return sbx_in


def test_secret_as_a_file(secret):
    look = "stat -c '%u:%g %a' /run/secrets/token; wc -c </run/secrets/token"
    assert secret.out("run", "--secret", "token", secret.image, "sh", "-c", look) == "0:0 444\n7\n"
    words = ("run", "-u", "1000", "--secret", "token,target=/etc/t,uid=1000,gid=50,mode=0400", secret.image)
    assert secret.out(*words, "sh", "-c", "stat -c '%u:%g %a' /etc/t; wc -c </etc/t") == "1000:50 400\n7\n"
    done = secret("run", "--secret", "token", secret.image, "sh", "-c", "echo >/run/secrets/token", code=1)
    assert "Read-only" in done.stderr or "Permission denied" in done.stderr


def test_secret_as_a_variable(secret):
    secret("secret", "create", "--env", "word", "WORD", env={"WORD": "hush"})
    out = secret.out("run", "--secret", "word,type=env,target=PASS", secret.image, "sh", "-c", "echo $PASS")
    assert out == "hush\n"


def test_secret_stays_for_the_next_start(secret):
    secret("run", "--name", "c", "--secret", "token", secret.image, "cat", "/run/secrets/token")
    secret("secret", "rm", "token")
    assert secret.out("start", "-a", "c") == "s3cret\udcff"


def test_secret_verbs(secret, tmp_path):
    (found,) = json.loads(secret.out("secret", "inspect", "token"))
    assert found["Spec"]["Name"] == "token" and found["Spec"]["Labels"] == {"k": "v"} and "SecretData" not in found
    assert secret.out("secret", "ls", "--format", "{{.Name}} {{.Driver}}") == "token file\n"
    path = secret.sbx.store / "secrets/token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    source = str(tmp_path / "token")
    done = secret("secret", "create", "token", source, code=125)
    assert done.stderr.startswith("sbx: create secret `token`: token: secret name in use")
    secret("secret", "create", "--replace", "token", source)
    secret("secret", "exists", "token")
    (found,) = json.loads(secret.out("secret", "inspect", "token"))
    assert secret.out("secret", "rm", "token") == f"{found['ID']}\n"
    secret("secret", "exists", "token", code=1)
    (tmp_path / "empty").touch()
    assert "has 1 to" in secret("secret", "create", "x", str(tmp_path / "empty"), code=125).stderr
    secret("secret", "create", "../x", source, code=125)


@pytest.mark.parametrize(
    "text", ["none", "token,type=x", "token,mode=9", "token,uid=x", "token,target=../x", "token,x=y"]
)
def test_secret_that_can_not_be_given(secret, text):
    done = secret("run", "--secret", text, secret.image, "true", code=125)
    assert done.stderr.startswith(
        ("sbx: read --secret", 'sbx: find secret `none`: no secret with name or id "none": no such secret')
    )


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no device that we may use")
def test_device(sbx_in):
    assert (
        sbx_in.out("run", "--device", "/dev/fuse", sbx_in.image, "sh", "-c", "exec 3<>/dev/fuse && echo open")
        == "open\n"
    )
    look = ("run", "--device", "/dev/fuse:/dev/other:rwm", sbx_in.image, "test", "-c", "/dev/other")
    sbx_in(*look)
    done = sbx_in("run", "--device", "/etc/passwd", sbx_in.image, "true", code=125)
    assert done.stderr.startswith("sbx: open device `/etc/passwd`: it is no device")


@pytest.mark.skipif(not os.path.isfile("/usr/share/zoneinfo/Asia/Tokyo"), reason="no tzdata")
def test_time_zone(sbx_in):
    with open("/usr/share/zoneinfo/Asia/Tokyo", "rb") as file:
        size = len(file.read())
    assert sbx_in.out("run", "--tz", "Asia/Tokyo", sbx_in.image, "sh", "-c", "wc -c </etc/localtime") == f"{size}\n"
    done = sbx_in("run", "--tz", "../../etc/shadow", sbx_in.image, "true", code=125)
    assert done.stderr.startswith("sbx: read --tz")
