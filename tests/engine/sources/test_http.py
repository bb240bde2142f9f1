"""Query.http against a real server, which throttles, truncates and lies as it is told to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import dagger
import pytest

from ci.engine.solver.download import Download, DownloadError
from ci.engine.store.store import Store
from tests.conformance.loopback_http import answering
from tests.engine.sources.conftest import Connect
from tests.fake_clock import FakeClock

SECRET = "Bearer s3cr3t-0f-the-test"


class Site:
    """A server that answers as it is told to."""

    def __init__(self) -> None:
        self.content = b"content"
        self.headers: dict[str, str] = {}
        #: (path, headers) of every request.
        self.requests: list[tuple[str, dict[str, str]]] = []
        #: Answers given first: (status, headers, how much of the content).
        self.first: list[tuple[int, dict[str, str], int]] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    def unchanged(self, asked: dict[str, str]) -> bool:
        """The client has it, by what it says."""
        etag, date = self.headers.get("ETag"), self.headers.get("Last-Modified")
        return (etag is not None and asked.get("if-none-match") == etag) or (
            etag is None and date is not None and asked.get("if-modified-since") == date
        )


class Handler(BaseHTTPRequestHandler):
    """Answers for a site."""

    site: Site

    def do_GET(self) -> None:
        asked = {name.lower(): value for name, value in self.headers.items()}
        self.site.requests.append((self.path, asked))
        status, headers, size = 200, self.site.headers, len(self.site.content)
        if self.site.first:
            status, headers, size = self.site.first.pop(0)
        elif self.site.unchanged(asked):
            status, size = 304, 0
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            length = len(self.site.content) if status == 200 else size
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(self.site.content[:size])

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def running() -> Iterator[Site]:
    site = Site()
    with answering(type("Handler", (Handler,), {"site": site})) as site.port:
        yield site


@pytest.fixture
def site() -> Iterator[Site]:
    with running() as site:
        yield site


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def download(site: Site, store: Store) -> Callable[..., object]:
    """Downloads ``/f`` and gives its content."""

    async def get(**arguments: Any) -> bytes:
        given = {"url": f"{site.url}/f", "clock": FakeClock(instant=True), **arguments}
        path, digest = await Download(**given).into(store)
        assert digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        return path.read_bytes()

    return get


@pytest.mark.parametrize(
    "validator",
    [{"ETag": '"one"'}, {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}],
    ids=["etag", "date"],
)
async def test_what_did_not_change_costs_one_conditional_request(download, site, validator):
    site.headers = validator
    assert await download() == b"content"
    site.first = []
    assert await download() == b"content"
    (_, asked) = site.requests[1]
    assert "if-none-match" in asked or "if-modified-since" in asked
    site.headers, site.content = {}, b"changed"
    assert await download() == b"changed"
    assert len(site.requests) == 3


async def test_what_has_no_validator_is_downloaded_again(download, site):
    assert await download() == b"content"
    site.content = b"changed"
    assert await download() == b"changed"


async def test_what_has_a_known_checksum_is_not_asked_for(download, site):
    assert await download(checksum=site.digest) == b"content"
    assert await download(checksum=site.digest, url="http://127.0.0.1:1/gone") == b"content"
    assert len(site.requests) == 1


async def test_another_checksum_is_an_error_that_tells_both(download, site):
    wanted = "sha256:" + "0" * 64
    with pytest.raises(DownloadError, match=f"got {site.digest}; expected {wanted}"):
        await download(checksum=wanted)


async def test_what_is_no_checksum_is_refused_before_anything_is_asked(download, site):
    with pytest.raises(DownloadError, match="got the checksum 'md5:1'; expected sha256: and 64"):
        await download(checksum="md5:1")
    assert not site.requests


async def test_an_answer_that_breaks_off_is_asked_for_again(download, site):
    site.first = [(200, {}, 3), (200, {}, 0)]
    assert await download() == b"content"
    assert len(site.requests) == 3


async def test_a_server_that_always_breaks_off_is_given_up(download, site):
    site.first = [(200, {}, 3)] * 9
    with pytest.raises(DownloadError, match=r"download http://127\.0\.0\.1:\d+/f: got "):
        await download()
    assert len(site.requests) == 4


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_server_that_is_busy_is_asked_again_when_it_says(download, site, status):
    clock = FakeClock(instant=True)
    site.first = [(status, {"Retry-After": "7"}, 0), (status, {}, 0)]
    assert await download(clock=clock) == b"content"
    assert clock.monotonic() >= 7


async def test_a_server_that_asks_for_an_hour_is_not_waited_for(download, site):
    site.first = [(429, {"Retry-After": "3600"}, 0)]
    with pytest.raises(DownloadError, match="got status 429"):
        await download()
    assert len(site.requests) == 1


async def test_a_status_that_will_not_pass_is_an_error_at_once(download, site):
    site.first = [(404, {}, 0)]
    with pytest.raises(DownloadError, match="got status 404"):
        await download()
    assert len(site.requests) == 1


async def test_unchanged_is_no_answer_to_who_has_nothing(download, site):
    site.first = [(304, {}, 0)]
    with pytest.raises(DownloadError, match="got status 304"):
        await download()


@pytest.mark.parametrize("announced", [True, False])
async def test_a_file_that_is_too_large_is_not_downloaded(download, site, announced):
    site.content = b"x" * 5_000_000
    if not announced:
        site.first = [(200, {"Transfer-Encoding": "identity"}, len(site.content))]
    with pytest.raises(DownloadError, match="got a larger file; expected at most 1000000 bytes"):
        await download(limit=1_000_000)


async def test_content_is_kept_as_it_is_sent(download, site):
    site.headers = {"Content-Encoding": "gzip"}
    assert await download() == b"content"
    assert site.requests[0][1]["accept-encoding"] == "identity"


async def test_credentials_are_shown_nowhere(download, site):
    site.first = [(403, {}, 0)]
    with pytest.raises(DownloadError) as raised:
        await download(url=f"http://ada:pa55@127.0.0.1:{site.port}/f?key=k3y", authorization=SECRET)
    assert str(raised.value).startswith(f"download http://127.0.0.1:{site.port}/f: got status 403")
    for hidden in ("ada", "pa55", "k3y", SECRET):
        assert hidden not in str(raised.value)


async def test_credentials_do_not_follow_to_another_host(download, site):
    with running() as other:
        site.first = [(302, {"Location": f"http://localhost:{other.port}/g"}, 0)]
        assert await download(authorization=SECRET) == b"content"
    assert site.requests[0][1]["authorization"] == SECRET
    assert "authorization" not in other.requests[0][1]


# -- through the API -----------------------------------------------------------------------------


async def test_a_download_is_a_file_with_name_and_permissions(dag, site):
    file = dag.http(f"{site.url}/folder/data.bin?x=1")
    assert (await file.name(), await file.contents()) == ("data.bin", "content")
    assert await file.stat().permissions() == 0o600
    named = dag.http(f"{site.url}/f", name="other.sh", permissions=0o755, checksum=site.digest)
    assert await named.name() == "other.sh"
    assert await named.stat().permissions() == 0o755


async def test_one_session_asks_once(connect: Connect, site):
    site.headers = {"ETag": '"one"'}
    for sessions in (1, 2):
        async with connect() as dag:
            file = dag.http(f"{site.url}/f")
            assert await file.contents() == "content"
            assert await dag.directory().with_file("f", file).entries() == ["f"]
        assert len(site.requests) == sessions


async def test_a_header_is_sent_and_kept_nowhere(connect: Connect, site, cache):
    async with connect() as dag:
        header = dag.set_secret("header", SECRET)
        assert await dag.http(f"{site.url}/f", auth_header=header).contents() == "content"
    assert site.requests[0][1]["authorization"] == SECRET
    for path in cache.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


async def test_who_has_another_secret_is_asked_about_again(connect: Connect, site):
    site.headers = {"ETag": '"one"'}
    async with connect() as dag:
        for name in ("one", "two"):
            header = dag.set_secret(name, f"Bearer {name}")
            assert await dag.http(f"{site.url}/f", auth_header=header).contents() == "content"
    assert "if-none-match" not in site.requests[1][1]


async def test_a_service_of_the_session_can_serve_it(dag, site):
    service = dag.host().service([dagger.PortForward(backend=site.port, frontend=8080)])
    host = await service.hostname()
    file = dag.http(f"http://{host}:8080/f", experimental_service_host=service)
    assert await file.contents() == "content"
    assert site.requests[-1][1]["host"] == f"{host}:8080"


async def test_an_address_that_is_no_http_is_refused(dag):
    with pytest.raises(dagger.QueryError, match="expected an http:// or https:// URL"):
        await dag.http("file:///etc/passwd").contents()
