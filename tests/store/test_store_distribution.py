"""An image of a real distribution: many owners and modes, set-id programs, glibc, a package database."""

import pytest
from images import Images
from support import Sbx

pytestmark = [pytest.mark.requires("userns", "idmap", "overlay"), pytest.mark.slow]


def out(sbx: Sbx, image: Images, script: str) -> list[str]:
    done = sbx("run", image.oci, "bash", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_packages_are_whole(session_sbx: Sbx, debian_oci: Images) -> None:
    """dpkg compares each file with its digest; owners and modes are as the packages have them."""
    assert out(session_sbx, debian_oci, "dpkg --verify; dpkg --audit") == []
    script = "stat -c '%a %U:%G' /bin/su /sbin/unix_chkpwd /var/mail /var/local /tmp"
    assert out(session_sbx, debian_oci, script) == [
        "4755 root:root", "2755 root:shadow", "2775 root:mail", "2775 root:staff", "1777 root:root",
    ]  # fmt: skip


def test_services_become_their_own_users(session_sbx: Sbx, debian_oci: Images) -> None:
    script = """
        install -d -o www-data -g www-data /srv/www
        setpriv --reuid www-data --regid www-data --init-groups bash -c '
            id -un; touch /srv/www/f; stat -c %U:%G /srv/www/f; touch /etc/f 2>/dev/null || echo refused'
    """
    assert out(session_sbx, debian_oci, script) == ["www-data", "www-data:www-data", "refused"]


def test_a_package_is_removed(session_sbx: Sbx, debian_oci: Images) -> None:
    """dpkg renames, links, chowns and syncs; scripts of packages run as root."""
    script = "dpkg --force-all --purge hostname >/dev/null 2>&1; type -P hostname; dpkg-query -W hostname 2>&1"
    done = session_sbx("run", debian_oci.oci, "bash", "-c", script)
    assert (done.returncode, done.stdout) == (1, "dpkg-query: no packages found matching hostname\n")
    assert out(session_sbx, debian_oci, "type -P hostname") in (["/usr/bin/hostname"], ["/bin/hostname"])
