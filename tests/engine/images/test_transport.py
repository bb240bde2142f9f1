"""Registries that hesitate, break off, ask for tokens, or are not there."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from ci.engine.images import Images
from ci.engine.images.challenge import challenges
from ci.engine.images.credentials import CredentialError, Credentials
from ci.engine.images.endpoint import Endpoint, endpoint
from ci.engine.images.failures import (
    AccessDenied,
    NotInRegistry,
    RegistryError,
    UnreachableRegistry,
)
from ci.engine.images.mirrors import with_dockers
from ci.engine.images.oci import Descriptor, ImageError, Platform
from ci.engine.images.reference import Reference
from ci.engine.images.registry import Registry, RemoteImage
from ci.engine.images.sources import Sources
from ci.engine.images.transport import Transport
from ci.engine.store.store import Store
from ci.errors import ConfigError
from tests.fake_clock import FakeClock

PLACE = Endpoint("registry.test")
NOBODY = Credentials(environ={})
Handler = Callable[[httpx.Request], httpx.Response]


class Fixture:
    """A transport whose registry is a function."""

    def __init__(self, handler: Handler) -> None:
        self.clock = FakeClock(instant=True)
        self.requests: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            return handler(request)

        self.transport = Transport(clock=self.clock, transport=httpx.MockTransport(handle))
        self.registry = Registry(self.transport, mirrors={}, clock=self.clock)

    async def get(self, credentials: Credentials = NOBODY) -> httpx.Response:
        return await self.transport.request(
            PLACE, "GET", PLACE.url("a/manifests/1"), credentials=credentials,
            scope="repository:a:pull", ok={200},
        )  # fmt: skip


def in_turn(*answers: httpx.Response | Exception) -> Handler:
    left = list(answers)

    def handle(_: httpx.Request) -> httpx.Response:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle


# -- retries ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [httpx.Response(503), httpx.Response(429), httpx.ReadError("reset"),
     httpx.RemoteProtocolError("closed"), httpx.ReadTimeout("slow")],
)  # fmt: skip
async def test_trouble_that_passes_is_waited_out(trouble: httpx.Response | Exception) -> None:
    fixture = Fixture(in_turn(trouble, trouble, httpx.Response(200, text="there")))
    assert (await fixture.get()).text == "there"
    assert fixture.clock.slept == [0.5, 1.0]


async def test_a_registry_that_says_when_to_come_back_is_obeyed() -> None:
    fixture = Fixture(
        in_turn(httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(200))
    )
    await fixture.get()
    assert fixture.clock.slept == [7.0]


async def test_a_date_to_come_back_at_is_obeyed() -> None:
    headers = {
        "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
        "Retry-After": "Wed, 21 Oct 2026 07:28:09 GMT",
    }
    fixture = Fixture(in_turn(httpx.Response(503, headers=headers), httpx.Response(200)))
    await fixture.get()
    assert fixture.clock.slept == [9.0]


async def test_a_registry_that_asks_for_too_much_patience_is_an_error() -> None:
    fixture = Fixture(in_turn(httpx.Response(429, headers={"Retry-After": "3600"})))
    with pytest.raises(RegistryError, match="429"):
        await fixture.get()
    assert fixture.clock.slept == []


async def test_trouble_that_stays_is_an_error_that_names_the_registry() -> None:
    fixture = Fixture(lambda _: httpx.Response(500))
    with pytest.raises(RegistryError, match=r"registry\.test.*500"):
        await fixture.get()
    assert len(fixture.requests) == 5


async def test_an_answer_that_says_no_is_not_asked_for_again() -> None:
    errors = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
    fixture = Fixture(lambda _: httpx.Response(404, json=errors))
    with pytest.raises(NotInRegistry, match="MANIFEST_UNKNOWN: manifest unknown"):
        await fixture.get()
    assert len(fixture.requests) == 1


# -- unreachable ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("no such host"), httpx.ConnectTimeout("late"), httpx.ProxyError("403")],
)
async def test_a_host_that_cannot_be_reached_is_asked_once_a_session(error: Exception) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    fixture = Fixture(fail)
    for _ in range(20):
        with pytest.raises(UnreachableRegistry, match=r"registry\.test"):
            await fixture.get()
    assert len(fixture.requests) == 1
    assert fixture.clock.slept == []


async def test_an_untrusted_certificate_is_no_reason_for_a_stand_in(store: Store) -> None:
    import ssl

    def fail(_: httpx.Request) -> httpx.Response:
        cause = ssl.SSLCertVerificationError("self-signed")
        cause.verify_message = "self-signed certificate"
        raise httpx.ConnectError("tls") from cause

    images = Images(store, registry=Fixture(fail).registry, credentials=NOBODY)
    with pytest.raises(RegistryError, match="not trusted") as caught:
        await images.resolve("debian:bookworm-slim")
    assert not isinstance(caught.value, UnreachableRegistry)


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_a_registry_that_answers_is_never_replaced_by_a_stand_in(
    store: Store, status: int
) -> None:
    fixture = Fixture(lambda _: httpx.Response(status))
    images = Images(store, registry=fixture.registry, credentials=NOBODY)
    with pytest.raises((RegistryError, ImageError), match=str(status)):
        await images.resolve("debian:bookworm-slim")


async def test_when_nothing_works_every_source_is_named(store: Store) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no such host")

    images = Images(
        store,
        registry=Fixture(fail).registry,
        credentials=NOBODY,
    )
    with pytest.raises(ImageError) as caught:
        await images.resolve("python:3.11-slim", platform="linux/amd64")
    said = str(caught.value)
    assert "image python:3.11-slim for linux/amd64" in said
    assert "the store has not got it" in said
    assert "registry registry-1.docker.io: no connection (no such host)" in said
    assert "no recipe stands in for it" in said
    assert "hint:" in said


async def test_a_digest_is_never_stood_in_for(store: Store) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no such host")

    images = Images(store, registry=Fixture(fail).registry, credentials=NOBODY)
    with pytest.raises(ImageError, match="named by its digest"):
        await images.resolve("debian:bookworm-slim@sha256:" + "0" * 64)


async def test_sources_can_be_left_out(store: Store) -> None:
    fixture = Fixture(lambda _: httpx.Response(200))
    images = Images(
        store, sources=Sources(order=("store",)), registry=fixture.registry, credentials=NOBODY
    )
    with pytest.raises(ImageError, match="the store has not got it"):
        await images.resolve("debian:bookworm-slim")
    assert fixture.requests == []


# -- authorisation ---------------------------------------------------------------------------

BEARER = 'Bearer realm="https://auth.test/token",service="registry.test"'


def token_registry(request: httpx.Request) -> httpx.Response:
    """Gives a token to ada, or to nobody for the repository ``a``; wants it for the rest."""
    if request.url.host == "auth.test":
        login = request.headers.get("Authorization", "")
        if login and base64.b64decode(login.removeprefix("Basic ")) != b"ada:secret":
            return httpx.Response(401)
        return httpx.Response(200, json={"token": f"T-{request.url.params['scope']}"})
    if request.headers.get("Authorization") == "Bearer T-repository:a:pull":
        return httpx.Response(200, text="let in")
    return httpx.Response(401, headers={"WWW-Authenticate": BEARER})


@pytest.mark.parametrize(
    "credentials", [NOBODY, Credentials({"registry.test": ("ada", "secret")}, environ={})]
)
async def test_a_token_is_fetched_where_the_registry_asks_and_used_again(
    credentials: Credentials,
) -> None:
    fixture = Fixture(token_registry)
    assert (await fixture.get(credentials)).text == "let in"
    assert (await fixture.get(credentials)).text == "let in"
    hosts = [request.url.host for request in fixture.requests]
    assert hosts == ["registry.test", "auth.test", "registry.test", "registry.test"]


async def test_a_wrong_password_is_an_error_that_does_not_tell_it() -> None:
    fixture = Fixture(token_registry)
    with pytest.raises(AccessDenied, match=r"docker login registry\.test") as caught:
        await fixture.get(Credentials({"registry.test": ("ada", "hunter2")}, environ={}))
    assert "hunter2" not in str(caught.value)


async def test_an_identity_token_is_exchanged(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.host == "auth.test":
            seen.append(request.content)
            return httpx.Response(200, json={"access_token": "T-repository:a:pull"})
        return token_registry(request)

    (tmp_path / "config.json").write_text(
        json.dumps({"auths": {"registry.test": {"identitytoken": "IDENTITY"}}})
    )
    fixture = Fixture(handle)
    await fixture.get(Credentials(environ={"DOCKER_CONFIG": str(tmp_path)}))
    assert b"refresh_token=IDENTITY" in seen[0]


async def test_a_login_is_not_sent_along_to_another_host() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.host == "storage.test":
            assert "Authorization" not in request.headers
            return httpx.Response(200, text="blob")
        if "Authorization" not in request.headers:
            return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        return httpx.Response(307, headers={"Location": "https://storage.test/blob"})

    fixture = Fixture(handle)
    got = await fixture.get(Credentials({"registry.test": ("ada", "secret")}, environ={}))
    assert got.text == "blob"


def test_challenges_are_read_in_their_order() -> None:
    header = 'Bearer realm="https://a/t?x=1,2",service="s, \\"q\\"" , Basic realm="r"'
    bearer, basic = challenges(header)
    assert bearer.scheme == "bearer"
    assert bearer.parameters == {"realm": "https://a/t?x=1,2", "service": 's, "q"'}
    assert basic.scheme == "basic"


# -- credentials -----------------------------------------------------------------------------


def helper(folder: Path, name: str, script: str) -> dict[str, str]:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"DOCKER_CONFIG": str(folder), "PATH": f"{folder}:/usr/bin:/bin"}


async def test_a_credential_helper_is_asked_for_the_registry(tmp_path: Path) -> None:
    environ = helper(
        tmp_path,
        "box",
        """read host; echo "{\\"Username\\": \\"$host\\", \\"Secret\\": \\"s\\"}" """,
    )
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {"a.test": "box"}}))
    login = await Credentials(environ=environ).login("a.test")
    assert login is not None
    assert (login.username, login.password) == ("a.test", "s")
    assert await Credentials(environ=environ).login("b.test") is None


async def test_a_store_that_has_nothing_means_no_login(tmp_path: Path) -> None:
    environ = helper(tmp_path, "box", "echo 'credentials not found in native keychain'; exit 1")
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "box"}))
    assert await Credentials(environ=environ).login("a.test") is None


async def test_a_broken_helper_is_an_error_that_names_it(tmp_path: Path) -> None:
    environ = helper(tmp_path, "box", "echo 'keychain is locked'; exit 1")
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "box"}))
    with pytest.raises(CredentialError, match=r"docker-credential-box.*keychain is locked"):
        await Credentials(environ=environ).login("a.test")


async def test_a_missing_helper_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "nowhere"}))
    environ = {"DOCKER_CONFIG": str(tmp_path), "PATH": str(tmp_path)}
    with pytest.raises(CredentialError, match="docker-credential-nowhere"):
        await Credentials(environ=environ).login("a.test")


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "index.docker.io", "docker.io"])
async def test_docker_hub_is_found_under_each_of_its_names(tmp_path: Path, key: str) -> None:
    auth = base64.b64encode(b"ada:pass:word").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {key: {"auth": auth}}}))
    login = await Credentials(environ={"DOCKER_CONFIG": str(tmp_path)}).login("docker.io")
    assert login is not None
    assert (login.username, login.password) == ("ada", "pass:word")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"a.test": {"auth": "%%%"}}}'])
async def test_a_broken_configuration_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CredentialError):
        await Credentials(environ={"DOCKER_CONFIG": str(tmp_path)}).login("a.test")


def test_a_password_is_in_no_representation() -> None:
    from ci.engine.images.credentials import Login

    assert "hunter2" not in repr(Login("ada", "hunter2"))


# -- downloads --------------------------------------------------------------------------------

BLOB = bytes(range(256)) * 4096


class Stream(httpx.AsyncByteStream):
    """Some bytes, and maybe an error after them."""

    def __init__(self, content: bytes, *, breaks: bool = False) -> None:
        self._content = content
        self._breaks = breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content
        if self._breaks:
            raise httpx.ReadError("connection reset")


def remote() -> tuple[RemoteImage, Descriptor]:
    digest = "sha256:" + hashlib.sha256(BLOB).hexdigest()
    return RemoteImage(PLACE, "a", digest, {}, ()), Descriptor("layer", digest, len(BLOB))


async def test_a_download_that_broke_goes_on_where_it_was(tmp_path: Path) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        begin = int(request.headers.get("Range", "bytes=0-")[6:-1])
        end = min(begin + len(BLOB) // 3, len(BLOB))
        told = {"Content-Range": f"bytes {begin}-{len(BLOB) - 1}/{len(BLOB)}"} if begin else {}
        content = Stream(BLOB[begin:end], breaks=end < len(BLOB))
        return httpx.Response(206 if begin else 200, headers=told, stream=content)

    fixture = Fixture(handle)
    image, descriptor = remote()
    await fixture.registry.download(image, descriptor, tmp_path / "blob", NOBODY)
    assert (tmp_path / "blob").read_bytes() == BLOB
    assert "Range" not in fixture.requests[0].headers
    assert len(fixture.requests) > 2


async def test_a_registry_that_cannot_resume_is_read_from_the_start(tmp_path: Path) -> None:
    fixture = Fixture(
        in_turn(
            httpx.Response(200, stream=Stream(BLOB[:1000], breaks=True)),
            httpx.Response(200, stream=Stream(BLOB)),
        )
    )
    image, descriptor = remote()
    await fixture.registry.download(image, descriptor, tmp_path / "blob", NOBODY)
    assert (tmp_path / "blob").read_bytes() == BLOB


@pytest.mark.parametrize("content", [BLOB[:-1] + b"x", BLOB[:-1], BLOB + b"x"])
async def test_other_content_than_the_digest_says_is_refused(
    tmp_path: Path, content: bytes
) -> None:
    fixture = Fixture(lambda _: httpx.Response(200, stream=Stream(content)))
    image, descriptor = remote()
    with pytest.raises(ImageError, match="sha256:"):
        await fixture.registry.download(image, descriptor, tmp_path / "blob", NOBODY)


async def test_a_manifest_that_is_not_of_its_digest_is_refused() -> None:
    fixture = Fixture(lambda _: httpx.Response(200, json={"schemaVersion": 2}))
    reference = Reference.parse("registry.test/a@sha256:" + "0" * 64)
    with pytest.raises(ImageError, match="sha256:0000"):
        await fixture.registry.find(reference, Platform("linux", "amd64"), NOBODY)


# -- mirrors ----------------------------------------------------------------------------------


async def test_mirrors_are_asked_first_and_the_registry_last() -> None:
    fixture = Fixture(lambda _: httpx.Response(404))
    registry = Registry(
        fixture.transport,
        mirrors={"docker.io": ["https://one.test/hub", "two.test"]},
        clock=fixture.clock,
    )
    with pytest.raises(NotInRegistry):
        await registry.find(Reference.parse("debian:12"), Platform("linux", "amd64"), NOBODY)
    assert [str(request.url) for request in fixture.requests] == [
        "https://one.test/v2/hub/library/debian/manifests/12",
        "https://two.test/v2/library/debian/manifests/12",
        "https://registry-1.docker.io/v2/library/debian/manifests/12",
    ]


def test_dockers_own_mirrors_come_last(tmp_path: Path) -> None:
    daemon = tmp_path / "daemon.json"
    daemon.write_text(json.dumps({"registry-mirrors": ["https://docker.test"]}))
    said = {"docker.io": ["https://a.test/x"], "ghcr.io": ["b.test"]}
    assert with_dockers(said, docker_daemon=daemon) == {
        "docker.io": ["https://a.test/x", "https://docker.test"],
        "ghcr.io": ["b.test"],
    }
    assert with_dockers({}, docker_daemon=tmp_path / "no") == {"docker.io": []}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("docker.io", "https://registry-1.docker.io/v2/a"),
        ("ghcr.io", "https://ghcr.io/v2/a"),
        ("localhost:5000", "http://localhost:5000/v2/a"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2/a"),
        ("[::1]:5000", "http://[::1]:5000/v2/a"),
        ("https://localhost:5000", "https://localhost:5000/v2/a"),
        ("https://m.test/hub/", "https://m.test/v2/hub/a"),
    ],
)
def test_plain_http_is_for_this_machine_only(address: str, expected: str) -> None:
    assert endpoint(address).url("a") == expected


@pytest.mark.parametrize("address", ["http://m.test", "http://localhost.evil.test"])
def test_plain_http_to_another_machine_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="plain HTTP"):
        endpoint(address)
