"""One environment in the hands of one command: its parts put together, and brought into shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from ci.clock import Clock
from ci.deploy.conductor import Conductor
from ci.deploy.environment import EnvironmentSpec
from ci.deploy.protocol import Instance, Runtime, Smoke
from ci.deploy.rollout import Phase, Rollout, abort
from ci.deploy.targets.local.folder import Folder, KeptRelease, LocalInstance
from ci.deploy.targets.local.images import UnpackedImages
from ci.deploy.targets.local.ports import BusyPort, Ports
from ci.deploy.targets.local.processes import Processes
from ci.deploy.targets.local.router import CaddyRouter
from ci.deploy.targets.local.services import BackingServices
from ci.deploy.targets.local.target import LocalTarget
from ci.errors import CiError
from ci.values import Outcome

__all__ = ["Site"]

_log = structlog.get_logger(__name__)

#: How long a rollout that is interrupted may take to go back, in seconds.
_RETREAT = 60.0


class Site:
    """The parts of a local environment. The caller holds the folder's lock."""

    def __init__(
        self,
        folder: Folder,
        spec: EnvironmentSpec,
        *,
        state: Path,
        runtime: Runtime,
        clock: Clock,
        smoke: Smoke | None,
        entered: Callable[[Rollout], None] | None = None,
    ) -> None:
        """``entered`` is told of a rollout as it enters each phase."""
        self.folder = folder
        self.spec = spec
        self.clock = clock
        self.images = UnpackedImages(state / "images", runtime)
        self.ports = Ports(state / "ports")
        self.processes = Processes(folder, clock)
        self.services = BackingServices(
            folder=folder,
            processes=self.processes,
            images=self.images,
            ports=self.ports,
            clock=clock,
        )
        self.target = LocalTarget(
            spec=spec,
            folder=folder,
            processes=self.processes,
            images=self.images,
            services=self.services,
            ports=self.ports,
        )
        self.router = CaddyRouter(
            folder,
            port=spec.port,
            ready=spec.ready,
            processes=self.processes,
            clock=clock,
            address=self.target.address,
        )
        self.conductor = Conductor(
            target=self.target,
            router=self.router,
            journal=folder.journal,
            clock=clock,
            checks=spec.checks,
            smoke=smoke,
            entered=entered,
        )

    async def converge(self) -> None:
        """Bring back whatever of the environment should run and does not; end what should not.

        Raises:
            BusyPort: somebody else listens on its port.
            CiError: supervisord, Caddy or a backing service does not start.
        """
        started = await self.processes.ensure()
        try:
            await self.router.ensure()
        except BusyPort:
            if started:
                await self.processes.shutdown()
            raise
        self.folder.write_spec(self.spec)
        await self.services.ensure(self.spec.services)
        rollout = self.folder.journal.read()
        wanted = set(await self.router.weights())
        if rollout and not rollout.ended:
            wanted |= {i.name for i in (rollout.new, rollout.old) if i}
        for local in self.folder.all_instances():
            if local.instance.name in wanted:
                await self.target.deploy(local.instance)
            else:
                await self.target.retire(local.instance)
        await anyio.to_thread.run_sync(self._sweep_ports)
        active = await self.active()
        if active and started:
            await self._wait_back(active.instance)

    async def _wait_back(self, instance: Instance) -> None:
        """Give what served time to serve again; what follows judges whether it does."""
        try:
            await self.conductor.wait_ready(instance)
        except CiError as error:
            _log.warning("release.not_restored", instance=instance.name, error=str(error))

    def _sweep_ports(self) -> None:
        self.ports.sweep(before=self.clock.now().timestamp() - 60)

    async def active(self) -> LocalInstance | None:
        """The instance that has most of the traffic."""
        weights = await self.router.weights()
        name = max(weights, key=lambda name: weights[name], default="")
        return self.folder.instance(name) if name else None

    async def recover(self) -> Rollout | None:
        """Bring a rollout whose command died to an end: back if it was not confirmed yet."""
        rollout = self.folder.journal.read()
        if rollout is None or rollout.ended:
            return rollout if rollout and self._is_unsettled(rollout) else None
        _log.warning("rollout.recovered", phase=rollout.phase, new=rollout.new.name)
        if rollout.forward:
            reason = f"the command that delivered it was interrupted ({rollout.phase})"
            rollout = abort(rollout, reason, Outcome.ERRORED)
        return await self.conductor.resume(rollout)

    def _is_unsettled(self, rollout: Rollout) -> bool:
        """It succeeded, and its command died before it could note that."""
        local = self.folder.instance(rollout.new.name)
        kept = self.folder.release(local.key) if local else None
        return rollout.phase is Phase.SUCCEEDED and kept is not None and not kept.confirmed_at

    async def retreat(self, new: Instance, reason: str) -> Rollout | None:
        """Go back, undisturbed by cancellation and bounded in time, when a rollout is cut off.

        None: it had not begun.

        Where even that fails, the journal keeps what is left to do, and the next command does it.
        """
        with anyio.CancelScope(shield=True), anyio.move_on_after(_RETREAT):
            try:
                rollout = self.folder.journal.read()
                if rollout is None or rollout.new != new:
                    return None
                if rollout.forward:
                    rollout = abort(rollout, reason, Outcome.ERRORED)
                return await self.conductor.conduct(rollout)
            except CiError as error:
                _log.warning("rollout.retreat_failed", error=str(error))
        return None

    def keep(self, kept: KeptRelease, values: Mapping[str, str]) -> None:
        """Keep a release that is to be delivered, unless it was delivered before.

        Raises:
            ConfigError: a template of it names something that there is not.
        """
        if not self.folder.release(kept.key):
            self.folder.keep_release(kept, values)
        self.target.check(kept)

    def settle(self, rollout: Rollout, at: datetime) -> None:
        """Note which release serves, and forget those that are too old to go back to."""
        local = self.folder.instance(rollout.new.name)
        kept = self.folder.release(local.key) if local else None
        if kept and rollout.phase is Phase.SUCCEEDED:
            changed = kept.model_copy(update={"confirmed_at": at, "withdrawn": False})
            self.folder.change_release(changed)
        self._prune()

    def _prune(self) -> None:
        """Keep the confirmed releases that the spec asks for, and those that instances need."""
        needed = {local.key for local in self.folder.all_instances()}
        kept = self.folder.kept_releases()
        confirmed = [release.key for release in kept if release.confirmed_at]
        needed |= set(confirmed[: self.spec.keep])
        for release in kept:
            if release.key not in needed:
                self.folder.forget_release(release.key)

    def last_good(self, active: KeptRelease | None) -> KeptRelease | None:
        """The release to go back to from ``active``."""
        return next(
            (
                kept
                for kept in self.folder.kept_releases()
                if kept.confirmed_at
                and not kept.withdrawn
                and (not active or kept.key != active.key)
            ),
            None,
        )

    def new_instance(self, kept: KeptRelease, *, migrate: bool) -> LocalInstance:
        """An instance of a release, with a name and a port of its own."""
        name = self.folder.next_name(kept.release, kept.key)
        port = self.ports.reserve(self.folder.instances / f"{name}.json")
        instance = Instance(name=name, release=kept.release)
        local = LocalInstance(instance=instance, key=kept.key, port=port, migrate=migrate)
        self.folder.write_instance(local)
        return local
