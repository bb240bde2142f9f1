"""A registry that resets, truncates, throttles, lies or sends elsewhere: what is kept is right."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ci.engine.images import Images, archive
from ci.engine.images.credentials import Credentials
from ci.engine.images.documents import MAX_DOCUMENT
from ci.engine.images.failures import AccessDenied, RegistryError, UnreachableRegistry
from ci.engine.images.layout import open_layout
from ci.engine.images.oci import ImageError
from ci.engine.images.registry import Registry
from ci.engine.images.transport import Transport
from ci.engine.store.store import Store
from ci.engine.trees.merged import MergedTree
from ci.errors import CiError
from tests.engine.images.conftest import RegistryServer, make_layers
from tests.engine.images.faulty import (
    Deed,
    Faulty,
    Reply,
    Request,
    answer,
    cut,
    edit,
    garbage,
    refuse_upload,
)
from tests.fake_clock import FakeClock

MANIFEST = r"/manifests/"
BLOB = r"/blobs/sha256"
UPLOAD = r"/blobs/uploads/"


def motd(tree: MergedTree) -> MergedTree:
    """The tree, which is the image's."""
    assert Path(tree.require("/etc/motd").host).read_text() == "goodbye\n"
    return tree


class Bench:
    """A client, the proxy that it talks to, and the image that is there as ``app:1``."""

    def __init__(self, store: Store, proxy: Faulty, registry: RegistryServer, image: Path) -> None:
        self.store = store
        self.proxy = proxy
        self.image = image
        self.clock = FakeClock(instant=True)
        self.straight = registry.host
        self.transport = Transport(clock=self.clock)
        self.images = self.client(store)

    def client(self, store: Store, auth: dict[str, tuple[str, str]] | None = None) -> Images:
        registry = Registry(self.transport, mirrors={}, clock=self.clock)
        return Images(store, registry=registry, credentials=Credentials(auth, environ={}))

    def address(self, name: str) -> str:
        return f"{self.proxy.host}/{name}"

    async def pull(self, name: str) -> MergedTree:
        image = await self.images.resolve(self.address(name))
        return motd(MergedTree(self.store.layer_paths(image.snapshot)))

    def nothing_is_kept(self) -> bool:
        records = [path for path in self.store.records() if path.parent.parent.name != "origin"]
        damaged = [
            path
            for path in self.store.blobs()
            if hashlib.sha256(path.read_bytes()).hexdigest() != path.name
        ]
        return not damaged and not [path for path in records if "image" in str(path.parent)]


@asynccontextmanager
async def bench(store: Store, registry: RegistryServer, image: Path) -> AsyncIterator[Bench]:
    async with Faulty(registry.host) as proxy:
        made = Bench(store, proxy, registry, image)
        try:
            yield made
        finally:
            await made.images.close()


@pytest.fixture
async def faulty(
    store: Store, registry: RegistryServer, image: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Bench]:
    async with bench(store, registry, image) as made:
        name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
        made.images._registry._mirrors = {}
        await made.images.publish(f"{registry.host}/faults/{name}:1", image)
        made.name = f"faults/{name}:1"  # type: ignore[attr-defined]
        yield made


def layer(image: Path) -> str:
    """What the path of a request for the image's first layer ends with."""
    with open_layout(image) as layout:
        return layout.image().layers[0].rpartition("/")[2]


def name_of(faulty: Bench) -> str:
    name: str = faulty.name  # type: ignore[attr-defined]
    return name


# -- what passes -------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [MANIFEST, BLOB])
@pytest.mark.parametrize(
    "deed",
    [cut(0), cut(40), answer(503), answer(500), answer(429, Retry_After="7"), answer(408),
     answer(502, b"<html>")],
)  # fmt: skip
async def test_trouble_that_passes_is_not_seen(faulty: Bench, target: str, deed: Deed) -> None:
    faulty.proxy.on("GET", target, deed, times=2)
    await faulty.pull(name_of(faulty))
    assert faulty.clock.slept


async def test_a_registry_that_is_slow_is_given_another_try(faulty: Bench) -> None:
    waiting = asyncio.Event()

    async def hang(_: Request, __: object) -> Reply:
        await waiting.wait()
        raise ConnectionResetError

    await faulty.images.close()
    faulty.transport._timeout.read = 0.5
    faulty.proxy.on("GET", MANIFEST, hang)
    await faulty.pull(name_of(faulty))
    waiting.set()


async def test_a_broken_download_goes_on_where_it_was(faulty: Bench) -> None:
    faulty.proxy.on("GET", layer(faulty.image), cut(100), times=3)
    await faulty.pull(name_of(faulty))
    ranges = [request.headers.get("range") for request in faulty.proxy.requests]
    assert {"bytes=100-", "bytes=200-"} <= set(ranges)


async def test_a_range_that_starts_elsewhere_is_not_joined_on(faulty: Bench) -> None:
    def elsewhere(reply: Reply) -> None:
        assert reply.status == 206
        reply.headers["content-range"] = "bytes 0-0/1"

    faulty.proxy.on("GET", layer(faulty.image), cut(100))
    faulty.proxy.on("GET", layer(faulty.image), edit(elsewhere))
    await faulty.pull(name_of(faulty))


# -- what stays ----------------------------------------------------------------------------------


def garble(reply: Reply) -> None:
    reply.body = reply.body[:-1] + bytes([reply.body[-1] ^ 1])


def lengthen(reply: Reply) -> None:
    reply.body += b"\0"
    reply.headers.pop("content-length", None)


def shorten(reply: Reply) -> None:
    reply.body = reply.body[:-1]
    reply.headers.pop("content-length", None)


def retype(reply: Reply) -> None:
    document = json.loads(reply.body)
    document["mediaType"] = "application/vnd.cncf.helm.chart"
    say(reply, document)


def say(reply: Reply, document: object) -> None:
    reply.body = json.dumps(document).encode()
    reply.headers["docker-content-digest"] = "sha256:" + hashlib.sha256(reply.body).hexdigest()


def both(reply: Reply) -> None:
    say(reply, {**json.loads(reply.body), "manifests": []})


def artifact(reply: Reply) -> None:
    document = json.loads(reply.body)
    document["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    say(reply, document)


def encrypted(reply: Reply) -> None:
    document = json.loads(reply.body)
    document["layers"][0]["mediaType"] += "+encrypted"
    say(reply, document)


def lie_about_size(reply: Reply) -> None:
    document = json.loads(reply.body)
    document["layers"][0]["size"] += 1
    say(reply, document)


def climb(reply: Reply) -> None:
    document = json.loads(reply.body)
    document["layers"][0]["digest"] = "sha256:../../../../etc/passwd"
    say(reply, document)


@pytest.mark.parametrize(
    ("target", "deed", "said"),
    [
        (MANIFEST, edit(garble), "sha256:"),
        (BLOB, edit(garble), "sha256:"),
        (BLOB, edit(lengthen), "bytes"),
        (BLOB, edit(shorten), "bytes"),
        (MANIFEST, edit(lie_about_size), "bytes"),
        (MANIFEST, edit(retype), "helm.chart"),
        (MANIFEST, edit(both), "both an index and an image"),
        (MANIFEST, edit(artifact), "helm.config"),
        (MANIFEST, edit(encrypted), "encrypted"),
        (MANIFEST, edit(climb), "a sha256 digest"),
        (MANIFEST, answer(200, b"{" * 100_000), "JSON"),
        (MANIFEST, answer(200, b"[]"), "a JSON object"),
        (MANIFEST, answer(200, b"\xff\xfe"), "JSON"),
        (MANIFEST, answer(200, b'{"layers": 5}'), "manifest"),
        (MANIFEST, answer(200, b" " * (MAX_DOCUMENT + 1)), f"more than {MAX_DOCUMENT} bytes"),
        (MANIFEST, answer(500, b"x" * (MAX_DOCUMENT + 1)), f"more than {MAX_DOCUMENT} bytes"),
        (MANIFEST, answer(503), "503"),
        (MANIFEST, answer(429, Retry_After="99999"), "429"),
        (MANIFEST, answer(302, Location="http://127.0.0.1:1/x"), "no answer from 127.0.0.1:1,"),
        (MANIFEST, answer(302, Location="file:///etc/passwd"), "a redirect to"),
        (MANIFEST, answer(302, Location="http://a:b/"), "location header"),
        (MANIFEST, answer(302, Location="/v2/round/manifests/1"), "redirects"),
        (MANIFEST, answer(401, WWW_Authenticate='Bearer realm="nowhere"'), "gives its tokens"),
        (MANIFEST, answer(401, WWW_Authenticate='Bearer realm="http://a.test/"'), "an https URL"),
        (MANIFEST, answer(401, WWW_Authenticate="Digest"), "401"),
        (BLOB, cut(0), "a connection that broke"),
        (BLOB, answer(404), "404"),
        (MANIFEST, answer(200, b'{"schemaVersion": 1, "fsLayers": []}'), "manifest of type"),
    ],
)  # fmt: skip
async def test_trouble_that_stays_is_one_error_and_leaves_nothing_wrong(
    faulty: Bench, target: str, deed: Deed, said: str
) -> None:
    faulty.proxy.on("GET", target, deed, times=1000)
    with pytest.raises(CiError, match=said) as caught:
        await faulty.pull(name_of(faulty))
    assert not isinstance(caught.value, UnreachableRegistry)
    assert isinstance(caught.value, RegistryError | ImageError)
    assert len(str(caught.value)) < 1500
    assert faulty.nothing_is_kept()
    faulty.proxy._faults.clear()
    await faulty.pull(name_of(faulty))


@pytest.mark.parametrize("target", [MANIFEST, BLOB])
@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000,
        b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm=,,\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 There\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 No\r\nRetry-After: 1e99\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 No\r\nRetry-After: never\r\nDate: now\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_one_error(faulty: Bench, target: str, raw: bytes) -> None:
    faulty.proxy.on("GET", target, garbage(raw), times=1000)
    with pytest.raises((RegistryError, ImageError)) as caught:
        await faulty.pull(name_of(faulty))
    assert not isinstance(caught.value, UnreachableRegistry)
    assert len(str(caught.value)) < 1500
    assert faulty.nothing_is_kept()
    faulty.proxy._faults.clear()
    await faulty.pull(name_of(faulty))


# -- elsewhere -----------------------------------------------------------------------------------


async def test_a_login_stays_with_its_registry_when_blobs_are_elsewhere(
    store: Store, guarded_registry: RegistryServer, image: Path
) -> None:
    """Both with Basic logins, which the blob store must not see."""
    login = {"ada": ("ada", "engine no. 1")}
    async with bench(store, guarded_registry, image) as one, Faulty("unused") as storage:
        auth = {one.proxy.host: login["ada"]}
        client = one.client(store, auth)
        await client.publish(one.address("moved:1"), image)
        with open_layout(image) as layout:
            blobs = {digest: layout.files.open(f"blobs/sha256/{digest[7:]}").read()
                     for digest in layout.blobs()}  # fmt: skip

        async def away(request: Request, _: object) -> Reply:
            digest = request.target.rpartition("/")[2]
            return Reply(307, {"Location": f"http://{storage.host}/{digest}?signed=yes"})

        async def give(request: Request, _: object) -> Reply:
            return Reply(200, {}, blobs[request.target[1:].partition("?")[0]])

        one.proxy.on("GET", BLOB, away, times=100)
        storage.on("GET", "", give, times=100)
        await client.resolve(one.address("moved:1"))
        assert len(storage.requests) == 3
        for request in storage.requests:
            assert "authorization" not in request.headers
        assert "authorization" in one.proxy.requests[-1].headers


async def test_an_upload_that_is_sent_elsewhere_takes_no_login_along(
    store: Store, guarded_registry: RegistryServer, image: Path
) -> None:
    async with bench(store, guarded_registry, image) as one, Faulty("unused") as other:

        async def away(_: Request, __: object) -> Reply:
            return Reply(202, {"Location": f"http://{other.host}/steal?x=1"})

        one.proxy.on("POST", UPLOAD, away, times=100)
        other.on("PUT", "", answer(401, WWW_Authenticate='Basic realm="mine"'), times=100)
        other.on("GET", "", answer(404), times=100)
        client = one.client(store, {one.proxy.host: ("ada", "engine no. 1")})
        with pytest.raises(AccessDenied, match="where it sent us"):
            await client.publish(one.address("stolen:1"), image)
        assert other.requests
        for request in other.requests:
            assert "authorization" not in request.headers


# -- pushes --------------------------------------------------------------------------------------


def is_large(request: Request) -> bool:
    return len(request.body) >= 1 << 16


@pytest.mark.parametrize("deed", [refuse_upload(), answer(413), answer(503, Retry_After="3")])
async def test_a_push_that_breaks_gets_through_in_pieces(
    faulty: Bench, registry: RegistryServer, deed: Deed, store: Store, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("ci.engine.images.push._PIECE", 1 << 16)
    made = tmp_path / "large"
    (made / "etc").mkdir(parents=True)
    (made / "etc/motd").write_text("goodbye\n")
    (made / "data").write_bytes(hashlib.shake_256(str(deed).encode()).digest(1 << 20))
    config = {"os": "linux", "architecture": "amd64", "config": {}}
    large = tmp_path / "large.tar"
    archive.write(large, platforms=[([made], config)])
    faulty.proxy.on("PUT", UPLOAD, deed, when=is_large)
    faulty.proxy.on("PATCH", UPLOAD, refuse_upload(), when=is_large)
    published = await faulty.images.publish(faulty.address("faults/pieces:1"), large)
    assert faulty.proxy.count("PATCH") > 2
    with Store(tmp_path / "other") as other:
        pulled = await faulty.client(other).resolve(f"{registry.host}/faults/pieces:1")
    assert published.endswith(pulled.digest)


async def test_a_push_goes_on_from_the_byte_that_the_registry_has(
    faulty: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ci.engine.images.push._PIECE", 1 << 16)
    made = tmp_path / "large"
    made.mkdir()
    (made / "data").write_bytes(hashlib.shake_256(b"resumed").digest(1 << 18))
    large = tmp_path / "large.tar"
    archive.write(large, platforms=[([made], {"os": "linux", "architecture": "amd64"})])
    faulty.proxy.on("PUT", UPLOAD, answer(413), when=is_large)

    def is_second(request: Request) -> bool:
        return request.headers["content-range"].startswith("65536-")

    faulty.proxy.on("PATCH", UPLOAD, refuse_upload(), when=is_second)
    await faulty.images.publish(faulty.address("faults/resumed:1"), large)
    sent = [request for request in faulty.proxy.requests if request.method == "PATCH"]
    starts = [request.headers["content-range"] for request in sent]
    assert starts[:3] == ["0-65535", "65536-131071", "65536-131071"]


@pytest.mark.parametrize(
    ("method", "target", "deed", "said"),
    [
        ("POST", UPLOAD, answer(202), "without a Location"),
        ("POST", UPLOAD, answer(202, Location="http://a:b/"), "as the Location"),
        ("POST", UPLOAD, answer(500), "500"),
        ("PUT", UPLOAD, answer(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}'), "DIGEST_INVALID"),
        ("PUT", MANIFEST, answer(201, Docker_Content_Digest="sha256:0"), "as its digest"),
        ("PUT", MANIFEST, answer(413), "413"),
        ("HEAD", BLOB, answer(403), "403"),
    ],
)
async def test_a_push_that_fails_is_one_error(
    faulty: Bench, tmp_path: Path, method: str, target: str, deed: Deed, said: str
) -> None:
    other = tmp_path / "other.tar"
    config = {"os": "linux", "architecture": "amd64", "config": {"Cmd": [said]}}
    archive.write(other, platforms=[(make_layers(tmp_path / "o"), config)], epoch=len(said))
    faulty.proxy.on(method, target, deed, times=1000)
    with pytest.raises(RegistryError, match=said):
        await faulty.images.publish(faulty.address("faults/refused:1"), other)


async def test_a_host_that_answered_before_is_not_taken_for_unreachable(
    faulty: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stands in for an image of a registry that is only being restarted."""
    await faulty.pull(name_of(faulty))
    assert faulty.proxy._server is not None
    faulty.proxy._server.close()
    await faulty.images.close()
    with pytest.raises(RegistryError) as caught:
        await faulty.images.resolve(faulty.address("faults/other:1"))
    assert not isinstance(caught.value, UnreachableRegistry)
