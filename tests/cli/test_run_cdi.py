"""Devices by the description of their vendor: --device vendor.com/class=name, --gpus."""

import json

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")


@pytest.fixture
def described(box, tmp_path):
    """`described(SCRIPT, OPTIONS...)`: run with the descriptions in this test's own folder; `.write(NAME, DOCUMENT)`."""

    class Described:
        folder = tmp_path / "config/cdi"

        def write(self, name, **document):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(json.dumps({"cdiVersion": "0.6.0", **document}))

        def __call__(self, script, *options):
            return box(script, *options, env={"XDG_CONFIG_HOME": str(tmp_path / "config")})

        def out(self, script, *options):
            done = self(script, *options)
            assert (done.returncode, done.stderr) == (0, ""), done
            return done.stdout

        def fails(self, *options):
            done = self("true", *options)
            assert done.returncode == 125 and "Traceback" not in done.stderr
            return done.stderr

    return Described()


def entry(name, **edits):
    return {"name": name, "containerEdits": edits}


def test_a_device_with_all_that_belongs_to_it(described, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/driver").write_text("bytes\n")
    described.write(
        "acme.json", kind="acme.com/sink",
        devices=[
            entry("one", deviceNodes=[{"path": "/dev/acme0", "hostPath": "/dev/zero"}], env=["ACME=1"]),
            entry("two", deviceNodes=[{"path": "/dev/fuse", "permissions": "rw", "type": "c"}]),
        ],
        containerEdits={
            "mounts": [{"hostPath": f"{tmp_path}/lib", "containerPath": "/usr/lib/acme", "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"]}],
            "env": ["ACME_ALL=yes"],
        },
    )  # fmt: skip
    script = "head -c 2 /dev/acme0 | od -An -tx1; cat /usr/lib/acme/driver; echo $ACME $ACME_ALL; touch /usr/lib/acme/x; ls /dev/fuse"
    done = described(
        script, "--device", "acme.com/sink=one", "--device", "/dev/random:/dev/other", "-e", "ACME_ALL=mine"
    )
    assert done.stdout == " 00 00\nbytes\n1 yes\n" and "Read-only file system" in done.stderr
    assert described.out("ls /dev/fuse; ls /dev/acme0 2>/dev/null; true", "--device=acme.com/sink=two") == "/dev/fuse\n"
    assert "there are acme.com/sink=one, acme.com/sink=two" in described.fails("--device", "acme.com/sink=three")


def test_gpus(described):
    nodes = {
        name: entry(name, deviceNodes=[{"path": f"/dev/nvidia{name}", "hostPath": "/dev/null"}])
        for name in ("0", "1", "all")
    }
    described.write("nvidia.yaml", kind="nvidia.com/gpu", devices=list(nodes.values()))
    for asked, seen in (("all", "all"), ("2", "0 1"), ("device=1", "1"), ('"device=0,1"', "0 1"), ("none", "*")):
        assert described.out("cd /dev; echo nvidia*", "--gpus", asked).split() == [
            f"nvidia{name}" for name in seen.split()
        ]
    assert "read --gpus `a b`" in described.fails("--gpus", "a b")


def test_refused(described, tmp_path):
    described.write(
        "hooks.json",
        kind="a.com/hooks",
        devices=[entry("x", hooks=[{"hookName": "createContainer", "path": "/bin/true"}])],
    )
    said = described.fails("--device", "a.com/hooks=x")
    assert "use device `a.com/hooks=x`" in said and "hooks: programs that run outside of the container" in said
    described.write("rdt.json", kind="a.com/rdt", devices=[entry("x", intelRdt={"closID": "1"})])
    assert "asks for `intelRdt`" in described.fails("--device", "a.com/rdt=x")
    described.write("odd.json", kind="a.com/odd", devices=[
        entry("relative", deviceNodes=[{"path": "dev/null"}]), entry("none", deviceNodes=[{"path": "/dev/none-such"}]),
        entry("file", deviceNodes=[{"path": "/dev/x", "hostPath": "/etc/passwd"}]), entry("env", env=["X"]),
        entry("root", mounts=[{"hostPath": "/usr", "containerPath": "/"}]),
        entry("shared", mounts=[{"hostPath": "/usr", "containerPath": "/u", "options": ["rshared"]}]),
    ])  # fmt: skip
    for name, words in (
        ("relative", "`dev/null` is no absolute path"), ("none", "open device `/dev/none-such`: No such file"), ("file", "it is no device"),
        ("env", "containerEdits of"), ("root", "the root can not be covered"), ("shared", "that is not to be had"),
    ):  # fmt: skip
        assert words in described.fails("--device", f"a.com/odd={name}")
    assert "read --device `null`" in described.fails("--device", "null")


def test_files_that_can_not_be_read(described):
    assert "descriptions are looked for in /etc/cdi, /run/cdi," in described.fails("--device", "a.com/b=c")
    described.write("a.json", kind="a.com/b", devices=[entry("c"), entry("d", env=["D=1"])])
    described.write("b.json", kind="a.com/b", devices=[entry("c")])
    (described.folder / "c.yaml").write_text("cdiVersion: 0.6.0\nkind: a.com/yaml\n")
    (described.folder / "d.json").write_text("{")
    assert described.out("echo $D", "--device", "a.com/b=d") == "1\n"  # the others do not matter
    said = described.fails("--device", "a.com/b=c")
    assert "a.com/b=c is in" in said and "the only form of YAML" in said and "d.json" in said
