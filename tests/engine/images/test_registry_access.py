"""Real registries that want TLS, tokens or helpers' logins, stand behind mirrors, share blobs."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from ci.engine.images import Images, archive
from ci.engine.images.credentials import Credentials
from ci.engine.images.endpoint import Endpoint
from ci.engine.images.failures import AccessDenied, RegistryError, UnreachableRegistry
from ci.engine.images.layout import open_layout
from ci.engine.images.oci import ImageError
from ci.engine.images.reference import InvalidReferenceError
from ci.engine.images.registry import Registry
from ci.engine.images.transport import Transport
from ci.engine.store.store import Store
from tests.engine.images.conftest import RegistryServer, make_layers

Requests = list[httpx.Request]


class Client:
    """An engine's client, and the requests that it made."""

    def __init__(
        self,
        store: Store,
        *,
        mirrors: dict[str, list[str]] | None = None,
        environ: dict[str, str] | None = None,
        certificates: tuple[Path, ...] = (),
    ) -> None:
        self.requests: Requests = []
        self.transport = Transport(certificates=certificates)
        send = self.transport.send

        async def watched(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            return await send(request)

        self.transport.send = watched  # type: ignore[method-assign]
        registry = Registry(self.transport, mirrors=mirrors or {})
        credentials = Credentials(environ=environ or {})
        self.images = Images(store, registry=registry, credentials=credentials)

    def count(self, method: str, part: str = "") -> int:
        return sum(r.method == method and part in str(r.url) for r in self.requests)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.images.close()


def image_of(folder: Path, text: str, architecture: str = "amd64") -> Path:
    """An archive that differs from others by its configuration alone."""
    folder.mkdir()
    config = {"os": "linux", "architecture": architecture, "config": {"Cmd": [text]}}
    archive.write(folder / "image.tar", platforms=[(make_layers(folder / "made"), config)])
    return folder / "image.tar"


# -- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls_registry(
    tmp_path_factory: pytest.TempPathFactory, certificate: Path
) -> Iterator[RegistryServer]:
    folder = tmp_path_factory.mktemp("registry") / "tls"
    server = RegistryServer(folder, certificate=certificate)
    yield server
    server.stop()


@pytest.mark.parametrize("way", ["bundle", "certs.d"])
async def test_a_private_ca_is_trusted_where_the_machine_names_it(
    store: Store, tls_registry: RegistryServer, certificate: Path, image: Path, tmp_path: Path,
    way: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    host = f"localhost:{tls_registry.port}"
    if way == "bundle":
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        folders: tuple[Path, ...] = ()
    else:
        (tmp_path / "certs.d" / host).mkdir(parents=True)
        shutil.copy(certificate, tmp_path / "certs.d" / host)
        folders = (tmp_path / "certs.d",)
    place = Endpoint(host)
    async with Client(store, certificates=folders) as client:
        published = await client.images.publish(f"{host}/tls:{way}", image, place=place)
        pulled = await client.images.resolve(f"{host}/tls:{way}", place=place)
    assert published.endswith(f"@{pulled.digest}")
    assert {request.url.scheme for request in client.requests} == {"https"}


async def test_an_unknown_ca_is_an_error_that_says_where_to_put_it(
    store: Store, tls_registry: RegistryServer
) -> None:
    async with Client(store) as client:
        with pytest.raises(RegistryError, match=r"not trusted(?s:.*)certs\.d") as caught:
            await client.images.resolve("a:1", place=Endpoint(f"localhost:{tls_registry.port}"))
    assert not isinstance(caught.value, UnreachableRegistry)


async def test_plain_http_where_tls_is_expected_is_an_error_and_no_absence(
    store: Store, registry: RegistryServer
) -> None:
    async with Client(store) as client:
        with pytest.raises(RegistryError, match=r"no TLS.*expected https") as caught:
            await client.images.resolve("a:1", place=Endpoint(registry.host))
    assert not isinstance(caught.value, UnreachableRegistry)


# -- tokens --------------------------------------------------------------------------------------


class TokenServer:
    """Gives tokens that a real registry believes: to ada for all, to nobody for ``open/``."""

    def __init__(self, certificate: Path) -> None:
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        key, der = f"{certificate}.key", _der(certificate)
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                server.asked.append((self.headers.get("Authorization", ""), query))
                self.answer(query.get("scope", []), self.headers.get("Authorization", ""))

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                server.asked.append(("", form))
                given = "Basic " + base64.b64encode(b"ada:s e:cret").decode()
                known = form.get("refresh_token") == ["identity"]
                self.answer(form.get("scope", []), given if known else "Basic bm9ib2R5Ong=")

            def answer(self, scopes: list[str], login: str) -> None:
                who = base64.b64decode(login.removeprefix("Basic ")).decode()
                if login and who != "ada:s e:cret":
                    self.send_error(401)
                    return
                access = [_access(scope) for scope in scopes if who or ":open/" in scope]
                body = json.dumps({"token": _jwt(key, der, access)}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.realm = f"http://127.0.0.1:{self._server.server_port}/token"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _der(certificate: Path) -> str:
    lines = certificate.read_text().splitlines()
    return "".join(line for line in lines if not line.startswith("-"))


def _access(scope: str) -> dict[str, object]:
    kind, name, actions = scope.split(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}


def _jwt(key: str, certificate: str, access: list[dict[str, object]]) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    now = int(time.time())
    claims = {"iss": "test", "sub": "", "aud": "registry", "exp": now + 600, "nbf": now - 600,
              "iat": now, "jti": "1", "access": access}  # fmt: skip
    text = part({"typ": "JWT", "alg": "RS256", "x5c": [certificate]}) + "." + part(claims)
    signed = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", key], input=text.encode(), check=True,
        capture_output=True,
    ).stdout  # fmt: skip
    return f"{text}.{base64.urlsafe_b64encode(signed).decode().rstrip('=')}"


@pytest.fixture(scope="module")
def tokens(certificate: Path) -> Iterator[TokenServer]:
    server = TokenServer(certificate)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def token_registry(
    tmp_path_factory: pytest.TempPathFactory, certificate: Path, tokens: TokenServer
) -> Iterator[RegistryServer]:
    auth = (
        f"auth: {{token: {{realm: '{tokens.realm}', service: registry, issuer: test, "
        f"rootcertbundle: {certificate}}}}}"
    )
    server = RegistryServer(tmp_path_factory.mktemp("registry") / "token", auth=auth)
    yield server
    server.stop()


def configured(folder: Path, value: object) -> dict[str, str]:
    (folder / "config.json").write_text(json.dumps(value))
    return {"DOCKER_CONFIG": str(folder), "PATH": f"{folder}:/usr/bin:/bin"}


def helper(folder: Path) -> None:
    """A credential helper that writes down how often it was asked."""
    path = folder / "docker-credential-box"
    path.write_text(
        f"#!/bin/sh\ncat >> {folder}/asked; echo >> {folder}/asked\n"
        'echo \'{"Username": "ada", "Secret": "s e:cret"}\'\n'
    )
    path.chmod(0o755)


@pytest.mark.parametrize("kind", ["auth", "credHelpers", "credsStore", "identitytoken"])
async def test_tokens_are_had_with_each_kind_of_docker_login(
    store: Store, token_registry: RegistryServer, image: Path, tmp_path: Path, kind: str
) -> None:
    host = token_registry.host
    helper(tmp_path)
    value = {
        "auth": {"auths": {host: {"auth": base64.b64encode(b"ada:s e:cret").decode()}}},
        "credHelpers": {"credHelpers": {host: "box"}},
        "credsStore": {"credsStore": "box", "auths": {host: {}}},
        "identitytoken": {"auths": {host: {"identitytoken": "identity"}}},
    }[kind]
    async with Client(store, environ=configured(tmp_path, value)) as client:
        published = await client.images.publish(f"{host}/secret/{kind.lower()}:1", image)
        pulled = await client.images.resolve(f"{host}/secret/{kind.lower()}:1")
    assert published.endswith(pulled.digest)
    if "cred" in kind:
        assert (tmp_path / "asked").read_text().split() in ([host], [host] * 2)


async def test_what_is_open_needs_no_login_and_what_is_not_says_so(
    store: Store, token_registry: RegistryServer, image: Path, tokens: TokenServer, tmp_path: Path
) -> None:
    host = token_registry.host
    async with Client(store) as client:
        await client.images.publish(f"{host}/open/app:1", image)
        asked = len(tokens.asked)
        await client.images.resolve(f"{host}/open/app:1")
        assert len(tokens.asked) == asked + 1  # one token for pulling, used for all that is pulled
        with pytest.raises(AccessDenied, match=r"401(?s:.*)docker login"):
            await client.images.resolve(f"{host}/secret/app:1")
    wrong = {"auths": {host: {"auth": base64.b64encode(b"ada:wrong").decode()}}}
    async with Client(store, environ=configured(tmp_path, wrong)) as client:
        with pytest.raises(AccessDenied, match=r"401(?s:.*)gives its tokens") as caught:
            await client.images.resolve(f"{host}/secret/app:1")
    assert "wrong" not in str(caught.value)


# -- mirrors -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, registry: RegistryServer) -> Iterator[str]:
    """A pull-through cache of the registry."""
    proxy = f"proxy: {{remoteurl: 'http://{registry.host}'}}"
    server = RegistryServer(tmp_path_factory.mktemp("registry") / "mirror", auth=proxy)
    yield server.host
    server.stop()


async def test_an_image_comes_from_the_mirror_and_no_other_host_is_asked(
    store: Store, registry: RegistryServer, mirror: str, tmp_path: Path
) -> None:
    archived = image_of(tmp_path / "mirrored", "mirrored")
    async with Client(store) as client:
        published = await client.images.publish(f"{registry.host}/hub/app:1", archived)
    mirrors = {"registry.test": [f"http://{mirror}/hub"]}
    async with Client(store, mirrors=mirrors) as client:
        pulled = await client.images.resolve("registry.test/app:1")
    assert published.endswith(pulled.digest)
    assert pulled.reference == "registry.test/app:1"
    assert {request.url.netloc.decode() for request in client.requests} == {mirror}


async def test_a_mirror_that_fails_is_passed_over_and_is_no_reason_for_a_stand_in(
    store: Store, registry: RegistryServer, guarded_registry: RegistryServer, tmp_path: Path
) -> None:
    archived = image_of(tmp_path / "beyond", "beyond")
    async with Client(store) as client:
        await client.images.publish(f"{registry.host}/beyond/app:1", archived)
    refusing = f"http://{guarded_registry.host}"
    async with Client(store, mirrors={registry.host: [refusing]}) as client:
        assert (await client.images.resolve(f"{registry.host}/beyond/app:1")).config["config"]
    async with Client(store, mirrors={"127.0.0.1:1": [refusing]}) as client:
        with pytest.raises(AccessDenied):
            await client.images.resolve("127.0.0.1:1/library/debian:bookworm-slim")


# -- blobs ---------------------------------------------------------------------------------------


@pytest.fixture
async def pushed(
    store: Store, registry: RegistryServer, tmp_path: Path
) -> AsyncIterator[tuple[Client, str]]:
    """A client that has pushed an image of two layers."""
    async with Client(store) as client:
        name = f"{registry.host}/blobs/{tmp_path.name[-20:].lower().replace('_', '')}"
        await client.images.publish(f"{name}/one:1", image_of(tmp_path / "one", tmp_path.name))
        client.requests.clear()
        yield client, name


async def test_blobs_that_the_registry_has_elsewhere_are_mounted_and_not_sent(
    pushed: tuple[Client, str], tmp_path: Path, store: Store
) -> None:
    client, name = pushed
    await client.images.publish(f"{name}/two:1", image_of(tmp_path / "two", "two"))
    assert client.count("POST", "?mount=sha256:") == 2  # the layers
    assert client.count("PUT", "/blobs/uploads/") == 1  # the new configuration
    pulled = await client.images.resolve(f"{name}/two:1")
    assert pulled.config["config"] == {"Cmd": ["two"]}


async def test_a_repository_that_is_gone_is_no_hindrance(
    registry: RegistryServer, store: Store, tmp_path: Path
) -> None:
    fresh = image_of(tmp_path / "fresh", f"{tmp_path}")
    with open_layout(fresh) as layout:
        for digest in layout.blobs():
            store.put("origin", digest, {registry.host: "no-such/repository"})
    async with Client(store) as client:
        await client.images.publish(f"{registry.host}/gone/{tmp_path.name[-8:]}:1", fresh)
    assert client.count("POST", "?mount=") >= 1
    assert client.count("PUT", "/blobs/uploads/") == client.count("POST")


async def test_an_index_of_variants_gives_each_platform_its_own(
    store: Store, registry: RegistryServer, tmp_path: Path
) -> None:
    layers = make_layers(tmp_path / "made")
    variants = [("amd64", ""), ("arm64", "v8"), ("arm", "v6"), ("arm", "v7")]
    platforms = [
        (layers[: 1 + (variant == "")],
         {"os": "linux", "architecture": architecture, "config": {"Cmd": [architecture + variant]},
          **({"variant": variant} if variant else {})})
        for architecture, variant in variants
    ]  # fmt: skip
    digest = archive.write(tmp_path / "index.tar", platforms=platforms)
    address = f"{registry.host}/index/app:1"
    async with Client(store) as client:
        published = await client.images.publish(address, tmp_path / "index.tar")
        assert published == f"{address}@{digest}"
        for platform, expected in {
            "linux/amd64": "amd64", "linux/arm64": "arm64v8", "linux/arm/v7": "armv7",
            "linux/arm": "armv7", "linux/arm/v6": "armv6", "linux/arm/v8": "armv7",
        }.items():  # fmt: skip
            pulled = await client.images.resolve(published, platform=platform)
            assert pulled.config["config"] == {"Cmd": [expected]}
        with pytest.raises(ImageError, match=r"an index of linux/amd64, .*expected linux/s390x"):
            await client.images.resolve(published, platform="linux/s390x")
        with pytest.raises(ImageError, match=r"expected linux/arm/v5"):
            await client.images.resolve(published, platform="linux/arm/v5")


async def test_an_image_for_another_machine_is_refused(
    store: Store, registry: RegistryServer, tmp_path: Path
) -> None:
    archived = image_of(tmp_path / "arm", "arm", "arm64")
    async with Client(store) as client:
        address = f"{registry.host}/alone/arm:1"
        await client.images.publish(address, archived)
        with pytest.raises(ImageError, match=r"an image for linux/arm64; expected one for linux/"):
            await client.images.resolve(address, platform="linux/amd64")


@pytest.mark.parametrize("media_types", ["oci", "docker"])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
async def test_every_form_of_an_image_goes_out_and_comes_back(
    store: Store, registry: RegistryServer, tmp_path: Path, compression: str, media_types: str
) -> None:
    config = {"os": "linux", "architecture": "amd64", "config": {"Cmd": [compression]}}
    digest = archive.write(
        tmp_path / "image.tar", platforms=[(make_layers(tmp_path / "made"), config)] * 2,
        compression=compression, media_types=media_types,
    )  # fmt: skip
    address = f"{registry.host}/forms/{compression}-{media_types}:1"
    async with Client(store) as client:
        assert await client.images.publish(address, tmp_path / "image.tar") == f"{address}@{digest}"
        pulled = await client.images.resolve(address, platform="linux/amd64")
        assert len(pulled.snapshot) == 2
        with pytest.raises(InvalidReferenceError, match="gets its digest then"):
            await client.images.publish(f"{address}@{digest}", tmp_path / "image.tar")
