"""The private network: its own ports, reached from outside by sockets made inside."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
import structlog
import structlog.testing

from ci.engine.services import gateway as gateway_module
from ci.engine.services import network as network_module
from ci.engine.services.egress import Egress
from ci.engine.services.gateway import PROGRAM, RESOLVER
from ci.engine.services.network import HostNetwork, Place, private_network
from tests.conformance.loopback_http import answering
from tests.engine.outer_network import within


async def test_the_same_port_is_free_in_every_private_network():
    async with private_network() as network, private_network() as other:
        with await network.listener(5432), await other.listener(5432):
            assert await network.answers(5432)
            assert await other.answers(5432)


async def test_a_port_of_a_private_network_is_not_the_machines():
    async with private_network() as network:
        with await network.listener(0) as listener:
            port = listener.getsockname()[1]
            assert await network.answers(port)
            assert not await HostNetwork().answers(port)


async def test_a_taken_port_is_an_error():
    async with private_network() as network:
        with await network.listener(8080), pytest.raises(OSError, match="in use"):
            await network.listener(8080)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may join another's network")


@as_root
async def test_places_have_ports_of_their_own_and_reach_each_other():
    async with (
        private_network() as network,
        network.place("first") as first,
        network.place("second") as second,
        network.place() as third,
    ):
        assert network.is_apart
        with served_in(first, b"first"), served_in(second, b"second"):
            assert ask_from(third, first.address) == b"first"
            assert ask_from(third, second.address) == b"second"
            assert ask_from(third, "127.0.0.1") == b""
            assert await network.answers(PORT, first.address)
            assert not await network.answers(PORT)


@as_root
async def test_a_place_has_its_address_again_and_is_reached_at_once():
    async with private_network() as network:
        for turn in (b"1", b"2", b"3"):
            async with network.place("again") as place, network.place() as other:
                assert place.address == network.address("again")
                with served_in(place, turn):
                    assert ask_from(other, place.address) == turn


async def test_listeners_at_addresses_of_their_own_share_a_port():
    async with private_network() as network:
        one, two = network.address("one"), network.address("two")
        with await network.listener(80, one), await network.listener(80, two):
            assert await network.answers(80, one)
            assert await network.answers(80, two)
            assert not await network.answers(80)


PORT = 5432


@contextmanager
def served_in(place: Place, text: bytes) -> Iterator[None]:
    """A server at the place, on all its addresses, that sends the text and hangs up."""
    with within(place, lambda: socket.create_server(("0.0.0.0", PORT))) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(text)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def ask_from(place: Place, address: str) -> bytes:
    """What the server at the address says to the place; nothing where none is."""
    asking = within(place, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    with asking:
        asking.settimeout(30)
        try:
            asking.connect((address, PORT))
        except ConnectionRefusedError:
            return b""
        return asking.recv(100)


# -- the way out -----------------------------------------------------------------------------------


def from_within(*arguments: str | Path, **environ: str) -> dict[str, str]:
    """What a place of a network reaches on a machine that is made for it."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.engine.outer_network", *arguments],
        env={**kept, **environ}, capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found: dict[str, str] = json.loads(ran.stdout)
    return found


HAS_GATEWAY = shutil.which(PROGRAM) is not None and os.access("/dev/net/tun", os.W_OK)
with_gateway = pytest.mark.skipif(not HAS_GATEWAY, reason=f"no {PROGRAM}, or no /dev/net/tun")


@as_root
@with_gateway
@pytest.mark.parametrize("kernel", ["with bridges", "without"])
def test_all_protocols_reach_the_outside_by_a_gateway_but_not_the_machines_loopback(
    tmp_path: Path, kernel: str
):
    found = from_within(*([without_bridge(tmp_path)] if kernel == "without" else []))
    assert found.pop("tcp to the loopback") in {"ConnectionRefusedError", "OSError"}
    outside = {"tcp": "outside", "udp": "outside", "tcp of another": "outside"}
    assert found == {"resolver": RESOLVER, "proxy": "", **outside}


@as_root
@with_gateway
def test_the_machines_own_proxy_is_passed_on_beside_a_gateway():
    found = from_within(https_proxy="http://192.0.2.1:3128")
    assert found["resolver"] == RESOLVER
    assert found["proxy"].startswith("http://198.18.0.1:")


@pytest.mark.parametrize(
    ("program", "reason"),
    [("echo 'open: no such device' >&2; exit 1", "open: no such device"), ("", "it ended at once")],
)
async def test_a_gateway_that_cannot_run_leaves_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
):
    path = tmp_path / PROGRAM
    path.write_text(f"#!/bin/sh\n{program}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with structlog.testing.capture_logs() as logs:
        async with private_network() as network:
            assert network.proxy
            assert not network.resolver
    assert logs == [
        {"event": "gateway.unavailable", "log_level": "warning", "program": PROGRAM,
         "reason": reason}
    ]  # fmt: skip


async def children() -> set[str]:
    """Processes that this thread has started and that are still there."""
    path = f"/proc/self/task/{threading.get_native_id()}/children"
    async with await anyio.open_file(path) as file:
        return set((await file.read()).split())


async def test_nothing_is_left_when_the_context_ends():
    before = await children()
    async with private_network() as network, network.place() as place:
        assert place.namespaces is not None
        fd = place.namespaces.net
        os.fstat(fd)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    assert await children() <= before


async def test_the_network_ends_with_a_parent_that_is_killed(tmp_path):
    program = (
        "import anyio\n"
        "from ci.engine.services.network import private_network\n"
        "async def main():\n"
        "    async with private_network() as n:\n"
        "        print(open('/proc/self/task/%d/children' % __import__('os').getpid()).read(),"
        " flush=True)\n"
        "        await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    async with await anyio.open_process(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=None
    ) as parent:
        assert parent.stdout is not None
        helpers = [int(word) for word in (await parent.stdout.receive()).split()]
        assert len(helpers) == (2 if HAS_GATEWAY else 1)
        watched = [os.pidfd_open(helper) for helper in helpers]
        parent.kill()
        await parent.wait()
    for descriptor in watched:
        with anyio.fail_after(60):
            await anyio.wait_readable(descriptor)
        os.close(descriptor)


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"{self.path} {self.headers['X-Test']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def origin():
    with answering(Quiet) as port:
        yield port


async def ask(proxy_port: int, request: str) -> bytes:
    async with await anyio.connect_tcp("127.0.0.1", proxy_port) as stream:
        await stream.send(request.encode())
        answer = b""
        async for piece in stream:
            answer += piece
        return answer


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


async def test_the_proxy_refuses_the_machines_own_loopback(origin):
    async with Egress({}).serving(listener := listening()):
        port = listener.getsockname()[1]
        for request in (
            f"GET http://127.0.0.1:{origin}/ HTTP/1.1\r\nHost: x\r\n\r\n",
            f"CONNECT localhost:{origin} HTTP/1.1\r\n\r\n",
        ):
            assert (await ask(port, request)).startswith(b"HTTP/1.1 403")


async def test_the_proxy_forwards_to_the_proxy_of_the_machine(origin):
    async with Egress({"http_proxy": f"http://127.0.0.1:{origin}"}).serving(
        listener := listening()
    ):
        answer = await ask(
            listener.getsockname()[1],
            "GET http://far.example/a?b HTTP/1.1\r\nHost: far.example\r\nX-Test: yes\r\n"
            "Proxy-Connection: keep-alive\r\n\r\n",
        )
    assert answer.startswith(b"HTTP/1.0 200")
    assert answer.endswith(b"http://far.example/a?b yes")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("nonsense\r\n\r\n", b"400"),
        ("GET / HTTP/1.1\r\n\r\n", b"400"),
        ("CONNECT :0x HTTP/1.1\r\n\r\n", b"400"),
        ("GET http://no-such-host.invalid/ HTTP/1.1\r\n\r\n", b"502"),
        ("GET http://x/ HTTP/1.1\r\nX: " + "a" * 70_000 + "\r\n\r\n", b"431"),
    ],
)
async def test_the_proxy_answers_bad_requests_with_a_status(request_, status):
    async with Egress({}).serving(listener := listening()):
        answer = await ask(listener.getsockname()[1], request_)
    assert answer.split()[1] == status


def without_bridge(folder: Path) -> Path:
    """The network's helper, as on a kernel that has none."""
    source = network_module._HELPER.read_text()
    assert "            _make_bridge()\n" in source
    helper = folder / "netns.py"
    helper.write_text(source.replace("            _make_bridge()\n", "            raise OSError\n"))
    return helper


async def test_where_the_kernel_has_no_bridge_all_places_are_one(tmp_path, monkeypatch):
    monkeypatch.setattr(network_module, "_HELPER", without_bridge(tmp_path))
    monkeypatch.setattr(gateway_module, "PROGRAM", "no-such-program")
    async with private_network() as network, network.place("one") as one, network.place() as two:
        assert network.is_private
        assert not network.is_apart
        assert one == two
        assert one.address == network.address("other") == "127.0.0.1"
        assert network.proxy.startswith("http://127.0.0.1:")
        with await network.listener(5432):
            assert await network.answers(5432)
