"""Try credentials on a registry, and search it: what the verbs login, logout and search are made of.  (cold)"""

import urllib.parse
from typing import Any

from sandbox.errors import SandboxError
from sandbox.image import jsonstrict, reference
from sandbox.image.reference import Reference
from sandbox.registry import configuration, names
from sandbox.registry.access import Access
from sandbox.registry.client import Client
from sandbox.registry.faults import RegistryError
from sandbox.registry.names import DOCKER, Endpoint
from sandbox.registry.session import Session

_DOCKER_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
_SEARCH = "https://index.docker.io/v1/search"  # not part of the distribution API; only this registry has it
_SEARCH_BYTES = 4 << 20


def place(text: str) -> tuple[str, str]:
    """(host, repository or "") of what a person gives to login and logout; "" is the first registry that is searched."""
    if not text:
        return (configuration.load().search or [DOCKER])[0], ""
    bare = text
    for scheme in ("https://", "http://"):
        if text.startswith(scheme):
            bare = text.removeprefix(scheme)
            if bare.partition("/")[2] in ("v1/", "v2/", "v1", "v2"):
                bare = bare.partition("/")[0]
    host, _, path = bare.rstrip("/").partition("/")
    try:
        ref = reference.parse(f"{host}/{path or 'x'}")
    except SandboxError as error:
        raise SandboxError("use registry", text, detail=error.detail, hint="the form is HOST[:PORT][/PATH]") from None
    if ref.tag or ref.digest or (not ref.host and host != "localhost"):
        raise SandboxError("use registry", text, detail="not a registry's name", hint="the form is HOST[:PORT][/PATH]")
    return (DOCKER if host in _DOCKER_NAMES else host), path


def verify(host: str, repository: str, access: Access) -> bool:
    """Log in to see whether that works; True when the registry asked who we are.  SandboxError when it refuses."""
    ref = Reference(host, repository or "x", "", "")
    insecure = names.endpoints(ref)[-1].insecure
    session = Session(Endpoint(host, "", insecure), access)
    step = "log in"
    try:
        answer = session.ping(step)
        if answer.status in (401, 403):
            raise RegistryError(
                step, host, detail=f"user name or password are not accepted (HTTP {answer.status})",
                hint="some registries want an access token in the password's place", status=answer.status,
            )  # fmt: skip
        if answer.status != 200:
            raise session.error(answer, step, host)
        answer.done()
        if session.withheld:
            raise RegistryError(step, host, detail="the password could not be tried", hint=session.withheld)
        return session.asked
    except RegistryError as error:
        if error.step == "get token" and error.status in (400, 401, 403):
            raise RegistryError(
                step, host, detail=f"user name or password are not accepted (HTTP {error.status})",
                hint=session.withheld or "some registries want an access token in the password's place", status=error.status,
            ) from None  # fmt: skip
        raise
    finally:
        session.close()


def search(term: str, limit: int, access: Access) -> list[dict[str, Any]]:
    """Rows with Index, Name, Description, Stars and Official; `term` is [HOST/]TEXT, without a host all search registries."""
    host, slash, text = term.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        hosts = [host]
    else:
        hosts, text = configuration.load().search or [DOCKER], term
    rows: list[dict[str, Any]] = []
    for name in hosts:
        if name in _DOCKER_NAMES:
            rows += _docker(text, limit, access)
            continue
        with Client(name, access) as client:
            found = client.catalog(text)
        rows += [
            {
                "Index": name,
                "Name": f"{name}/{path}",
                "Description": "",
                "Stars": 0,
                "Official": "",
                "Automated": "",
                "Tag": "",
            }
            for path in found[:limit]
        ]
    return rows


def _docker(text: str, limit: int, access: Access) -> list[dict[str, Any]]:
    session = Session(Endpoint(DOCKER, ""), access._replace(creds=""))
    try:
        url = f"{_SEARCH}?{urllib.parse.urlencode([('q', text), ('n', str(limit))])}"
        answer = session.request("GET", url, step="search", subject=DOCKER, scopes=[], limit=_SEARCH_BYTES)
        if answer.status != 200:
            raise session.error(answer, "search", DOCKER)
        return rows_of(answer.body)[:limit]
    finally:
        session.close()


def rows_of(raw: bytes) -> list[dict[str, Any]]:
    """The rows of docker.io's answer to a search."""
    value = jsonstrict.loads(raw, DOCKER)
    results = value.get("results") if type(value) is dict else None
    rows = []
    for entry in results if type(results) is list else []:
        if type(entry) is not dict or type(entry.get("name")) is not str:
            continue
        stars, about = entry.get("star_count"), entry.get("description")
        name = reference.normal(f"{DOCKER}/{entry['name']}").repository
        rows.append(
            {
                "Index": DOCKER, "Name": name, "Description": about if type(about) is str else "",
                "Stars": stars if type(stars) is int else 0, "Official": "[OK]" if entry.get("is_official") is True else "",
                "Automated": "[OK]" if entry.get("is_automated") is True else "", "Tag": "",
            }
        )  # fmt: skip
    return rows
