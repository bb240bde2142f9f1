"""Services of a session: each definition runs once, healthy before anyone gets to reach it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Protocol, Self

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from ci.clock import Clock, SystemClock
from ci.engine.services.forward import reaching_out
from ci.engine.services.network import HostNetwork, Network, NetworkUnavailable, private_network
from ci.engine.services.service import (
    HostServiceSpec,
    Service,
    ServiceFailed,
    attachment,
    checked_ports,
    hostname,
    label,
)
from ci.engine.vertices.execution import Attachment, Running
from ci.engine.vertices.health import NeverHealthy, wait_answering, wait_passing
from ci.engine.vertices.vertex import Exec, ServiceSpec
from ci.errors import CiError

__all__ = ["HEALTHY_SECONDS", "Services", "Starter"]

_log = structlog.get_logger()

#: How long a service may take until it is healthy, where its health check does not say.
HEALTHY_SECONDS = 120.0
STOP_SECONDS = 10.0

Binding = tuple[str, ServiceSpec]


class Starter(Protocol):
    """What starts a service's process: the solver."""

    async def start(self, exec: Exec, *, attachment: Attachment) -> Running:  # noqa: A002
        """Start the exec; its writes are kept nowhere."""
        ...


class Services:
    """The services of a session. An async context manager: all are stopped at its end."""

    def __init__(
        self,
        starter: Starter,
        *,
        clock: Clock | None = None,
        private: bool = True,
        user_namespace: Callable[[], int | None] = lambda: None,
        healthy_seconds: float = HEALTHY_SECONDS,
    ) -> None:
        self._starter = starter
        self._clock = clock or SystemClock()
        self._private = private
        self._user_namespace = user_namespace
        self._healthy_seconds = healthy_seconds
        self._services: dict[str, Service] = {}
        self._network: Network | None = None
        self._opening = anyio.Lock()
        self._closing = anyio.Event()
        self._tasks: TaskGroup | None = None
        #: (name, log) of those that have ended.
        self._ended_logs: list[tuple[str, str]] = []

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._tasks is not None  # noqa: S101 - it was entered
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as stopping:
                for service in list(self._services.values()):
                    stopping.start_soon(self._halt, service)
        self._closing.set()
        await self._tasks.__aexit__(None, None, None)

    def logs(self) -> list[tuple[str, str]]:
        """(name, log) of every service so far."""
        alive = [(label(s.spec), s.log()) for s in self._services.values() if s.running]
        return [*self._ended_logs, *alive]

    # -- for execs ----------------------------------------------------------------------------

    @asynccontextmanager
    async def attach(self, services: tuple[Binding, ...]) -> AsyncIterator[Attachment]:
        """Start what is bound and not running, wait until it is healthy, and tell the way.

        Raises:
            CiError: one of them failed.
        """
        if not services:
            yield Attachment()
            return
        bound = [(alias, await self._wanted(spec)) for alias, spec in services]
        for _, service in bound:
            await self._wait_settled(service)
        network = await self.network()
        async with network.place() as place:
            yield attachment(network, place, bound)

    # -- for the API --------------------------------------------------------------------------

    async def start(self, spec: ServiceSpec) -> str:
        """Start it if it does not run, and wait until it is healthy; its address.

        Raises:
            CiError: it failed.
        """
        service = await self._wanted(spec)
        await self._wait_settled(service)
        return service.address

    async def stop(self, spec: ServiceSpec, *, kill: bool = False) -> None:
        """Stop it if it runs: SIGTERM, then SIGKILL after 10 seconds, or at once."""
        if service := self._services.get(spec.digest):
            service.kill = kill
            await self._halt(service)

    async def visit(
        self, spec: ServiceSpec, args: Sequence[str], *, terminal: int | None = None
    ) -> int:
        """Run a program inside a service, which is started if it does not run; the exit code.

        Raises:
            CiError: the service failed, or has no container.
        """
        service = await self._wanted(spec)
        await self._wait_settled(service)
        if service.running is None:
            raise CiError(f"service {label(spec)}", got="ports of the host", expected="a container")
        return await service.running.visit(args, terminal=terminal)

    async def wait_ended(self, spec: ServiceSpec) -> None:
        """Return when it does not run."""
        if service := self._services.get(spec.digest):
            await service.ended.wait()

    async def network(self) -> Network:
        """The session's network, made when it is first needed."""
        async with self._opening:
            if self._network is None:
                assert self._tasks is not None  # noqa: S101 - used within the context
                self._network = await self._tasks.start(self._keep_network)
            return self._network

    # -- within -------------------------------------------------------------------------------

    async def _keep_network(self, *, task_status: TaskStatus[Network]) -> None:
        """Hold the network open to the end, in one task."""
        if not self._private:
            task_status.started(HostNetwork())
            return
        try:
            async with private_network(self._user_namespace()) as network:
                task_status.started(network)
                await self._closing.wait()
        except NetworkUnavailable as error:
            _log.warning("network.shared", reason=str(error))
            task_status.started(HostNetwork())

    async def _wanted(self, spec: ServiceSpec) -> Service:
        """The service, which is started if it was not; it may not be healthy yet."""
        assert self._tasks is not None  # noqa: S101 - used within the context
        service = self._services.get(spec.digest)
        if service is None:
            service = self._services[spec.digest] = Service(spec)
            self._tasks.start_soon(self._run, service)
        return service

    async def _wait_settled(self, service: Service) -> None:
        await service.settled.wait()
        if service.failure is not None:
            raise service.failure

    async def _halt(self, service: Service) -> None:
        """Have the service's task stop it, and wait for that."""
        service.scope.cancel()
        await service.ended.wait()

    async def _run(self, service: Service) -> None:
        """A service's life."""
        try:
            with service.scope:
                await self._live(service)
        except CiError as error:
            service.failure = error
        except Exception as error:  # noqa: BLE001 - a task's end is told to those who wait
            _log.exception("service.crashed", service=label(service.spec))
            service.failure = CiError(f"service {label(service.spec)}", got=repr(error))
        finally:
            if self._services.get(service.spec.digest) is service:
                del self._services[service.spec.digest]
            if not service.settled.is_set() and service.failure is None:
                service.failure = CiError(f"service {label(service.spec)}", got="a stop")
            service.settled.set()
            service.ended.set()

    async def _end(self, service: Service) -> None:
        """Stop its process, and keep its log."""
        if service.running is None:
            return
        with anyio.CancelScope(shield=True):
            await service.running.stop(grace=STOP_SECONDS, kill=service.kill)
        self._ended_logs.append((label(service.spec), service.log()))

    async def _live(self, service: Service) -> None:
        """Start it with all that it binds itself, see it healthy, and wait for its end."""
        spec = service.spec
        if isinstance(spec, HostServiceSpec):
            await self._pass_on(service, spec)
            return
        bound = [(alias, await self._wanted(other)) for alias, other in spec.exec.services]
        for _, other in bound:
            await self._wait_settled(other)
        network = await self.network()
        async with network.place(spec.digest) as place:
            service.address = place.address
            bound.append((hostname(spec), service))
            attached = replace(attachment(network, place, bound), broken=None)
            await self._refuse_taken_ports(spec, network)
            try:
                service.running = await self._starter.start(spec.exec, attachment=attached)
                await self._wait_healthy(service)
                service.settled.set()
                code = await service.running.wait()
                _log.info("service.ended", service=label(spec), exit_code=code)
            finally:
                await self._end(service)

    async def _pass_on(self, service: Service, spec: HostServiceSpec) -> None:
        """Let a port of the host be reached from the session's network."""
        network = await self.network()
        service.address = network.address(spec.digest)
        if network.is_private:
            await self._refuse_taken_ports(spec, network)
            async with reaching_out(network, service.address, spec.host, spec.forwards):
                service.settled.set()
                await anyio.sleep_forever()
        if any(backend != frontend for backend, frontend in spec.forwards):
            raise CiError(
                f"service {label(spec)}",
                got="another port than the host's",
                expected="a private network, which this machine does not allow",
                hint="give the service the port that the host has",
            )
        service.settled.set()
        await anyio.sleep_forever()

    async def _refuse_taken_ports(self, spec: ServiceSpec, network: Network) -> None:
        """A port that answers already would be taken for this service.

        Raises:
            CiError: one does.
        """
        if network.is_apart:
            return
        for port in checked_ports(spec):
            if not await network.answers(port):
                continue
            others = [
                label(other.spec)
                for other in self._services.values()
                if other.spec.digest != spec.digest
                and any(number == port for number, _, _ in other.spec.ports)
            ]
            raise CiError(
                f"service {label(spec)}",
                got=f"port {port} taken by "
                + (f"the service {others[0]}" if others else "another program"),
                expected="a free port",
                hint="services of one session share its network: give one of them another port",
            )

    async def _wait_healthy(self, service: Service) -> None:
        """Return when it is healthy.

        Raises:
            ServiceFailed: it ended before, or took too long.
        """
        spec, running = service.spec, service.running
        assert running is not None  # noqa: S101 - the caller started it
        complaints: list[str] = []

        async def watch() -> None:
            code = await running.wait()
            complaints.append(f"exited with code {code} before it was healthy")
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            try:
                await self._become_healthy(service)
            except NeverHealthy as error:
                complaints.append(str(error))
            tasks.cancel_scope.cancel()
        if complaints:
            raise ServiceFailed(f"service {label(spec)}", complaints[0], running.log())

    async def _become_healthy(self, service: Service) -> None:
        if service.spec.healthcheck:
            await wait_passing(
                partial(self._docker_check, service),
                timing=service.spec.health_timing,
                clock=self._clock,
            )
        else:
            await wait_answering(
                partial(self._dial, service),
                patience=self._healthy_seconds,
                clock=self._clock,
            )

    async def _dial(self, service: Service) -> str:
        """What does not answer yet; empty when all does."""
        network = await self.network()
        for port in checked_ports(service.spec):
            if not await network.answers(port, service.address):
                return f"nothing answers at port {port}"
        return ""

    async def _docker_check(self, service: Service) -> str:
        """Run the health check inside the service: why it is not healthy, or empty."""
        timeout = service.spec.health_timing.timeout
        assert service.running is not None  # noqa: S101 - the caller started it
        code: int | None = None
        with anyio.move_on_after(timeout):
            code = await service.running.visit(service.spec.healthcheck)
        if code == 0:
            return ""
        return "its health check " + (
            f"takes longer than {timeout:g} s" if code is None else f"exits with code {code}"
        )
