"""Query.http: files that a service of the host serves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import dagger
import pytest

from .loopback_http import answering


@dataclass
class Site:
    """What a server serves, at any path, to whom it lets in."""

    content: bytes = b"content of the file\n"
    authorization: str = ""
    requests: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"


@contextmanager
def running() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append(self.path)
            given = self.headers.get("Authorization", "")
            allowed = not site.authorization or given == site.authorization
            status = 404 if self.path == "/none" else 200 if allowed else 401
            content = site.content if status == 200 else b""
            etag = f'"{site.digest}"'
            if status == 200 and self.headers.get("If-None-Match") == etag:
                status, content = 304, b""
            self.send_response(status)
            if status in (200, 304):
                self.send_header("ETag", etag)
            if status != 304:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with answering(Handler) as site.port:
        yield site


@pytest.fixture
def site() -> Iterator[Site]:
    with running() as site:
        yield site


@pytest.fixture
def service(dag, site) -> dagger.Service:
    """The server, to bind and to fetch from."""
    found: dagger.Service = dag.host().service(
        [dagger.PortForward(backend=site.port, frontend=8090)]
    )
    return found


@pytest.fixture
async def url(service) -> str:
    return f"http://{await service.hostname()}:8090"


async def test_a_file_is_downloaded(dag, service, url, unique):
    file = dag.http(f"{url}/{unique}", experimental_service_host=service)
    assert await file.contents() == "content of the file\n"
    assert await file.size() == 20


async def test_a_file_has_the_name_that_it_is_given(dag, service, url, unique):
    file = dag.http(f"{url}/{unique}", name="named.txt", experimental_service_host=service)
    assert await file.name() == "named.txt"


async def test_a_file_has_the_last_name_of_its_url(dag, service, url, unique):
    file = dag.http(f"{url}/{unique}/last.txt", experimental_service_host=service)
    assert await dag.directory().with_files("/", [file]).entries() == ["last.txt"]


async def test_a_file_has_the_permissions_that_it_is_given(dag, base, service, url, unique):
    file = dag.http(f"{url}/{unique}", permissions=0o751, experimental_service_host=service)
    shown = base.with_file("/f", file).with_exec(["stat", "-c", "%a", "/f"])
    assert (await shown.stdout()).strip() == "751"


@pytest.mark.since("0.21.0")
async def test_the_right_checksum_is_taken(dag, service, url, site, unique):
    file = dag.http(f"{url}/{unique}", checksum=site.digest, experimental_service_host=service)
    assert await file.contents() == "content of the file\n"


@pytest.mark.since("0.21.0")
async def test_a_wrong_checksum_is_an_error(dag, service, url, unique):
    wrong = "sha256:" + "0" * 64
    file = dag.http(f"{url}/{unique}", checksum=wrong, experimental_service_host=service)
    with pytest.raises(dagger.QueryError):
        await file.contents()


async def test_a_file_that_is_not_there_is_an_error(dag, service, url):
    with pytest.raises(dagger.QueryError):
        await dag.http(f"{url}/none", experimental_service_host=service).contents()


async def test_a_header_lets_in(dag, service, url, site, unique):
    site.authorization = f"Bearer {unique}"
    header = dag.set_secret(f"header-{unique}", f"Bearer {unique}")
    file = dag.http(f"{url}/{unique}", auth_header=header, experimental_service_host=service)
    assert await file.contents() == "content of the file\n"


async def test_who_has_no_header_is_not_let_in(dag, service, url, site, unique):
    site.authorization = f"Bearer {unique}"
    with pytest.raises(dagger.QueryError):
        await dag.http(f"{url}/{unique}", experimental_service_host=service).contents()
