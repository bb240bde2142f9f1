"""Backing services of an environment: started before its releases, kept across them."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from ci.clock import Clock
from ci.deploy.environment import BackingService, render
from ci.deploy.journal import write_whole
from ci.deploy.targets.local.folder import Folder
from ci.deploy.targets.local.images import UnpackedImage, UnpackedImages
from ci.deploy.targets.local.oneoff import run_once
from ci.deploy.targets.local.ports import Ports
from ci.deploy.targets.local.processes import Processes, Program, tail
from ci.errors import CiError
from ci.values import Value

__all__ = ["BackingServices"]

_log = structlog.get_logger(__name__)

_PREFIX = "service-"
_POLL = 0.1
_CHECK_DEADLINE = 10.0


class _Access(Value):
    """How a service is reached; made once, as releases and data depend on it."""

    port: int
    password: str


@dataclass(frozen=True, kw_only=True)
class BackingServices:
    """The services of one environment."""

    folder: Folder
    processes: Processes
    images: UnpackedImages
    ports: Ports
    clock: Clock

    async def ensure(self, wanted: tuple[BackingService, ...]) -> None:
        """Return when exactly these run and can be used. The data of others is kept.

        Raises:
            CiError: one does not become usable before its deadline.
        """
        names = {_PREFIX + service.name for service in wanted}
        for name in await self.processes.names():
            if name.startswith(_PREFIX) and name not in names:
                await self.processes.stop(name)
        for service in wanted:
            await self._ensure(service)

    async def _ensure(self, service: BackingService) -> None:
        image = await self.images.ensure(service.digest, service.archive)
        access = await anyio.to_thread.run_sync(self._access, service.name)
        names = {"port": str(access.port), "password": access.password}
        subject = f"service {service.name}"
        env = {k: render(v, names, subject=subject) for k, v in service.env.items()}
        env = {"PORT": str(access.port), **env}
        args = [render(arg, names, subject=subject) for arg in service.args]
        program = self._program(service, image, env=env, args=args)
        await self.processes.start(program)
        check = [render(arg, names, subject=subject) for arg in service.ready]
        checking = self._program(service, image, env=env, args=check) if check else None
        await self._wait_ready(service, access.port, checking)

    def _program(
        self,
        service: BackingService,
        image: UnpackedImage,
        *,
        env: Mapping[str, str],
        args: list[str],
    ) -> Program:
        binds: dict[str, Path] = {}
        if service.data:
            binds[service.data] = self.folder.services / service.name / "data"
            binds[service.data].mkdir(parents=True, exist_ok=True)
        runtime = self.images.runtime
        argv = runtime.argv(image.rootfs, image.config, env=env, binds=binds, args=args)
        facts = [service.digest, args, sorted(env.items()), service.data]
        stop_signal = str(image.config.get("config", {}).get("StopSignal") or "SIGTERM")
        return Program(
            name=_PREFIX + service.name,
            argv=argv,
            env=env,
            identity=hashlib.sha256(json.dumps(facts).encode()).hexdigest(),
            stop_deadline=service.stop_deadline,
            stop_signal=stop_signal.removeprefix("SIG"),
            priority=100,
        )

    async def _wait_ready(
        self, service: BackingService, port: int, checking: Program | None
    ) -> None:
        deadline = self.clock.monotonic() + service.ready_deadline
        while not await self._usable(port, checking):
            process = await self.processes.process(_PREFIX + service.name)
            if process.failed or self.clock.monotonic() >= deadline:
                log = self.processes.log(_PREFIX + service.name)
                said = await anyio.to_thread.run_sync(tail, log)
                raise CiError(
                    f"service {service.name} of environment {self.folder.path.name}",
                    got=f"not usable\n{process.detail}\n{said}",
                    expected=f"use within {service.ready_deadline:g} s",
                    hint=f"its log is {log}",
                )
            await self.clock.sleep(_POLL)
        _log.info("service.ready", service=service.name, port=port)

    async def _usable(self, port: int, checking: Program | None) -> bool:
        try:
            stream = await anyio.connect_tcp("127.0.0.1", port)
        except OSError:
            return False
        await stream.aclose()
        if checking is None:
            return True
        # Not before it listens: a check in a sandbox takes processor time from what it waits for.
        program = Program(name=f"check-{checking.name}", argv=checking.argv, env=checking.env)
        ended = await run_once(self.processes, program, deadline=_CHECK_DEADLINE)
        return ended.exit_code == 0

    def _access(self, name: str) -> _Access:
        path = self.folder.services / name / "access.json"
        if path.exists():
            return _Access.model_validate_json(path.read_text())
        access = _Access(port=self.ports.reserve(path), password=secrets.token_urlsafe(24))
        write_whole(path, access.model_dump_json())
        return access

    def names(self, wanted: tuple[BackingService, ...]) -> dict[str, str]:
        """What templates of a release may name of these services."""
        known: dict[str, str] = {}
        for service in wanted:
            access = self._access(service.name)
            known[f"{service.name}.port"] = str(access.port)
            known[f"{service.name}.password"] = access.password
        return known
