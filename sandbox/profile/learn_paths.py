"""Paths that were seen -> fewer patterns, each with its reason, none of which covers what is protected.  (cold)"""

import os
import re
from dataclasses import dataclass

from sandbox import hostroot, paths

_MANY = 8  # names in one folder
_MOST = 150  # patterns; what is more is taken together, folder by folder
# Where names differ from start to start
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")
# Where files come, go and change their names with versions
_SYSTEM = re.compile(
    r"(/usr(/local)?)?/(lib|lib32|lib64|libx32|libexec)(?=/)|/usr(/local)?/(share|include)(?=/)|/opt/[^/]+(?=/)"
)
_NUMBER = re.compile(r"/[0-9]+(?=/|$)")
# What is nobody's business but the user's, wherever it lies; and sockets whose other end does what it is told.
_SECRET = re.compile(
    r"/(\.ssh|\.gnupg|\.aws|\.azure|\.kube|\.docker|\.netrc|\.pgpass|\.my\.cnf|\.password-store|\.git-credentials|\.vault-token|"
    r"\.config/(gcloud|gh|hub|git/credentials|containers/auth\.json|chromium|google-chrome|sops)|\.cargo/credentials(\.toml)?|"
    r"\.terraform\.d|\.m2/settings(-security)?\.xml|\.gem/credentials|\.local/share/keyrings|\.mozilla|\.thunderbird|\.pki|\.npmrc|"
    r"\.pypirc|\.[a-z]+_history|id_(rsa|dsa|ecdsa|ed25519)(_sk)?)(/|$)"
)
_SOCKETS = re.compile(
    r"/(docker|podman|containerd|crio|buildkitd)\.sock$|^/(var/)?run/(dbus/|user/|systemd/private|libvirt/)|/X11-unix/|"
    r"/ssh-[^/]+/agent\.[0-9]+$|/S\.gpg-agent|/tmux-[0-9]+/"
)


@dataclass(frozen=True, order=True)
class Place:
    """A path, or with `/*` everything in a folder, with `/**` everything below it; never what is protected."""

    pattern: str
    rights: int  # 8 make or remove the name itself, 4 read, 2 write, 1 execute
    reason: str

    @property
    def words(self) -> str:
        names = ((4, "read"), (2, "write"), (8, "make"), (1, "execute"))
        return ", ".join(word for bit, word in names if self.rights & bit)

    @property
    def folder(self) -> str:
        """The file or folder that takes it in with all that is below, and that is there before the command runs."""
        path = self.pattern.removesuffix("/**").removesuffix("/*").replace("[*]", "*")
        return os.path.dirname(path) if self.rights & 8 and path == self.pattern.replace("[*]", "*") else path

    def covers(self, path: str) -> bool:
        folder, _, last = self.pattern.rpartition("/")
        if is_protected(path):
            return False
        if last == "**":
            return _spelled(path).startswith(f"{folder}/")
        if last == "*":
            return _spelled(path).startswith(f"{folder}/") and "/" not in _spelled(path)[len(folder) + 1 :]
        return _spelled(path) == self.pattern


def is_protected(path: str) -> bool:
    """Whether a learned profile must not propose it: secrets, homes of the caller, the store, control sockets."""
    if _SECRET.search(path) or _SOCKETS.search(path):
        return True
    return any(path == secret or path.startswith(f"{secret}/") for secret in _protected())


def _protected() -> tuple[str, ...]:
    # Of the folders below /var images have their own, and of those for temporary files every container.
    secrets = [path for path in hostroot.SECRETS if path.startswith(("/etc/", "/var/lib/"))]
    own = [
        path
        for path in (*hostroot.homes(), os.path.realpath(paths.store()))
        if not path.startswith((*_TEMPORARY, "/run/"))
    ]
    return (*secrets, *own)


def _spelled(path: str) -> str:
    """As a pattern: numbers of processes are others each time, and a star in a name is no star of ours."""
    path = path.replace("*", "[*]")
    return _NUMBER.sub("/[N]", path) if path.startswith("/proc/") else path


def generalise(seen: dict[str, int]) -> list[Place]:
    """Patterns that cover all of `seen`, path -> rights; what is protected is left out, and covered by none of them."""
    groups: dict[tuple[str, str], int] = {}
    single: dict[str, int] = {}
    for path, rights in seen.items():
        if is_protected(path):
            continue
        pattern, reason = _known(path)
        if reason:
            groups[pattern, reason] = groups.get((pattern, reason), 0) | rights
        else:
            single[pattern] = single.get(pattern, 0) | rights
    found = [Place(pattern, rights, reason) for (pattern, reason), rights in groups.items()]
    folders: dict[tuple[str, int], list[str]] = {}
    for path, rights in single.items():
        folders.setdefault((os.path.dirname(path), rights), []).append(path)
    for (folder, rights), names in folders.items():
        if len(names) > _MANY and folder not in ("/", "/proc") and not holds_protected(folder):
            found.append(Place(f"{folder}/*", rights, f"{len(names)} files of this folder"))
        else:
            found += [Place(name, rights, "seen") for name in names]
    return _fewer(together(found))


def _fewer(places: list[Place]) -> list[Place]:
    """At most `_MOST` patterns, as far as that goes without opening the root, or a folder with something protected in it."""
    depth = max((place.pattern.count("/") for place in places), default=0)
    while len(places) > _MOST and depth >= 2:
        made = []
        for place in places:
            folder = place.pattern.rpartition("/")[0]
            if place.pattern.endswith("/**"):
                folder = folder.rpartition("/")[0] if place.pattern.count("/") >= depth else ""
            deep = place.pattern.count("/") >= depth and folder.count("/") >= 1 and not holds_protected(folder)
            made.append(Place(f"{folder}/**", place.rights, "many files, in many folders") if deep else place)
        places = together(made)
        depth -= 1
    return places


def _known(path: str) -> tuple[str, str]:
    """(pattern, reason) for a path whose kind is known, else (path, "")."""
    spelled = _spelled(path)
    for folder in _TEMPORARY:
        if path.startswith(f"{folder}/"):
            return f"{folder}/**", "names of temporary files differ from run to run"
    system = _SYSTEM.match(path)
    if system and not holds_protected(system[0]):
        return f"{system[0]}/**", "files of the system change their names with versions"
    if path.startswith("/proc/") and _NUMBER.search(path):
        return spelled, "numbers of processes differ from run to run"
    return spelled, ""


def holds_protected(folder: str) -> bool:
    """Whether there is something protected in a folder, or it is so itself."""
    return any(f"{secret}/".startswith(f"{folder}/") for secret in _protected()) or is_protected(folder)


def together(places: list[Place]) -> list[Place]:
    """Each pattern once, and none that another covers with all its rights."""
    joined: dict[str, Place] = {}
    for place in places:
        known = joined.get(place.pattern)
        joined[place.pattern] = Place(
            place.pattern, place.rights | (known.rights if known else 0), known.reason if known else place.reason
        )
    wide = [place for place in joined.values() if place.pattern.endswith("*")]
    return sorted(
        place for place in joined.values()
        if not any(w is not place and _within(place.pattern, w) and not place.rights & ~w.rights for w in wide)
    )  # fmt: skip


def _within(pattern: str, wide: Place) -> bool:
    folder, _, last = wide.pattern.rpartition("/")
    if last == "**":
        return pattern.startswith(f"{folder}/")
    return not pattern.endswith("/**") and pattern.startswith(f"{folder}/") and "/" not in pattern[len(folder) + 1 :]
