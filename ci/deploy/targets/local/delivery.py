"""The commands of the local target: deliver, roll back, stop, list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
from pydantic import AwareDatetime

from ci.clock import Clock, SystemClock
from ci.deploy.environment import EnvironmentSpec
from ci.deploy.protocol import Runtime, Smoke
from ci.deploy.rollout import Phase, Rollout
from ci.deploy.strategies.blue_green import BlueGreen
from ci.deploy.targets.local.folder import Folder, KeptRelease, LocalInstance
from ci.deploy.targets.local.processes import Processes
from ci.deploy.targets.local.router import CaddyRouter
from ci.deploy.targets.local.site import Site
from ci.errors import CiError, ConfigError
from ci.events import DeliveryMoved
from ci.values import DeliveryRecord, Outcome, Release, Value

__all__ = ["EnvironmentStatus", "LocalDelivery"]

_log = structlog.get_logger(__name__)


class EnvironmentStatus(Value):
    """How an environment is at this moment."""

    project: str
    name: str
    url: str
    #: What it serves; None: nothing.
    release: Release | None = None
    #: It answers at its URL, with the version that it should.
    healthy: bool = False
    #: Its processes are supervised; False: it was stopped, or never started.
    running: bool = False
    #: When the release took the traffic.
    since: AwareDatetime | None = None
    #: Of a rollout that did not end; the next command ends it.
    phase: Phase | None = None
    detail: str = ""


class LocalDelivery:
    """Delivers releases to environments on this machine, as its ordinary user.

    ``state`` holds everything (``~/.local/state/towpath``); ``ledger`` is called once for each
    delivery that ended, those of interrupted commands included, ``moved`` for each step on the way
    there. One command at a time works in an environment; environments do not disturb each other.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        state: Path,
        clock: Clock | None = None,
        ledger: Callable[[DeliveryRecord], None] | None = None,
        moved: Callable[[DeliveryMoved], None] | None = None,
        strategy: BlueGreen | None = None,
    ) -> None:
        self.runtime = runtime
        self.state = state.absolute()
        self.clock = clock or SystemClock()
        self.ledger = ledger
        self.moved = moved
        self.strategy = strategy or BlueGreen()

    async def deploy(
        self,
        spec: EnvironmentSpec,
        release: Release,
        archive: Path,
        *,
        secrets: Mapping[str, str] | None = None,
        smoke: Smoke | None = None,
    ) -> DeliveryRecord:
        """Deliver a release, or see that it is there already and healthy.

        ``secrets`` are variables of the release. A release that is not ready, or fails a check,
        is no error: the record says so, and the environment answers with the one before.

        Raises:
            BusyPort: somebody else listens on the environment's port.
            CiError: the environment itself cannot be brought up, or another command is at work.
        """
        begun = self.clock.now()
        values = dict(secrets or {})
        async with self._site(spec, smoke) as site:
            self._tell(spec, "converging", release)
            await site.converge()
            await self._recover(site, begun)
            key = site.folder.key(spec, release, values)
            active = await site.active()
            if active and active.key == key and await self._is_healthy(site, active):
                return self._record(site, begun, release=release, previous=release, unchanged=True)
            kept = KeptRelease(key=key, release=release, env=spec.env, args=spec.args)
            await anyio.to_thread.run_sync(site.keep, kept, values)
            self._tell(spec, "unpacking", release)
            await site.images.ensure(release.digest, archive)
            return await self._roll(site, key, begun, migrate=True)

    async def rollback(
        self, project: str, name: str, *, smoke: Smoke | None = None
    ) -> DeliveryRecord:
        """Deliver the last good release again, by the same strategy and checks.

        No migrations are run. A delivery that was cut off is undone first, and that is all then.

        Raises:
            ConfigError: there is no such environment, or nothing to go back to.
        """
        begun = self.clock.now()
        spec = self._known(project, name)
        async with self._site(spec, smoke) as site:
            await site.converge()
            undone = await self._recover(site, begun)
            if undone and undone.outcome is not Outcome.PASSED:
                return undone
            active = await site.active()
            left = site.folder.release(active.key) if active else None
            good = site.last_good(left)
            if good is None:
                raise ConfigError(
                    f"environment {name} has nothing to roll back to",
                    got=f"only {left.release.version}" if left else "no release",
                    expected="an earlier release that was confirmed",
                )
            record = await self._roll(site, good.key, begun, migrate=False)
            if left and record.outcome is Outcome.PASSED:
                now = site.folder.release(left.key)
                if now:
                    site.folder.change_release(now.model_copy(update={"withdrawn": True}))
            return record

    async def stop(self, project: str, name: str) -> None:
        """Return when no process of the environment runs; its releases and data are kept.

        Raises:
            ConfigError: there is no such environment.
        """
        self._known(project, name)
        folder = self._folder(project, name)
        with folder.locked():
            await Processes(folder, self.clock).shutdown()
        _log.info("environment.stopped", environment=name)

    async def environments(self, project: str = "") -> list[EnvironmentStatus]:
        """Every environment, or those of one project, as they are; nothing is changed."""
        found = sorted((self.state / "environments").glob(f"{project or '*'}/*/environment.json"))
        return [await self._status(Folder(path.parent)) for path in found]

    # -- parts -----------------------------------------------------------------------------------

    def _folder(self, project: str, name: str) -> Folder:
        return Folder(self.state / "environments" / project / name)

    def _known(self, project: str, name: str) -> EnvironmentSpec:
        folder = self._folder(project, name)
        spec = folder.spec()
        if spec is None:
            there = sorted(p.parent.name for p in folder.path.parent.glob("*/environment.json"))
            raise ConfigError(
                f"environment {name} of {project} does not exist here",
                expected=f"one of {', '.join(there)}" if there else "one that was deployed to",
            )
        return spec

    @asynccontextmanager
    async def _site(self, spec: EnvironmentSpec, smoke: Smoke | None) -> AsyncIterator[Site]:
        folder = self._folder(spec.project, spec.name)
        with folder.locked():
            if folder.spec() is None:
                folder.write_spec(spec)
            yield Site(
                folder,
                spec,
                state=self.state,
                runtime=self.runtime,
                clock=self.clock,
                smoke=smoke,
                entered=partial(self._tell_phase, spec),
            )

    def _tell_phase(self, spec: EnvironmentSpec, rollout: Rollout) -> None:
        if not rollout.ended:
            self._tell(spec, rollout.phase.value, rollout.new.release)

    def _tell(self, spec: EnvironmentSpec, step: str, release: Release) -> None:
        if self.moved:
            now = self.clock.now()
            self.moved(
                DeliveryMoved(at=now, environment=spec.name, step=step, version=release.version)
            )

    async def _is_healthy(self, site: Site, active: LocalInstance) -> bool:
        try:
            await site.conductor.wait_ready(active.instance)
        except CiError as error:
            _log.warning("release.unhealthy", instance=active.instance.name, error=str(error))
            return False
        return (await site.router.probe()).instance == active.instance.name

    async def _roll(
        self, site: Site, key: str, begun: datetime, *, migrate: bool
    ) -> DeliveryRecord:
        kept = site.folder.release(key)
        if kept is None:
            raise CiError(f"release {key} is not kept")
        active = await site.active()
        new = await anyio.to_thread.run_sync(lambda: site.new_instance(kept, migrate=migrate))
        old = active.instance if active else None
        try:
            rollout = await self.strategy.roll_out(new.instance, old=old, conductor=site.conductor)
        except BaseException as error:
            reason = f"interrupted: {error or type(error).__name__}"
            with anyio.CancelScope(shield=True):
                retreated = await site.retreat(new.instance, reason)
                if retreated:
                    await self._settle(site, retreated, begun)
            raise
        return await self._settle(site, rollout, begun)

    async def _recover(self, site: Site, begun: datetime) -> DeliveryRecord | None:
        rollout = await site.recover()
        return await self._settle(site, rollout, begun) if rollout else None

    async def _settle(self, site: Site, rollout: Rollout, begun: datetime) -> DeliveryRecord:
        """Keep what a rollout that ended has changed, and say it."""
        succeeded = rollout.phase is Phase.SUCCEEDED
        await anyio.to_thread.run_sync(site.settle, rollout, self.clock.now())
        await anyio.to_thread.run_sync(self._prune_images, site)
        return self._record(
            site,
            begun,
            release=rollout.new.release,
            previous=rollout.old.release if rollout.old else None,
            outcome=Outcome.PASSED if succeeded else rollout.outcome,
            rolled_back=rollout.moved and not succeeded and rollout.old is not None,
            reason="\n".join(rollout.reasons),
        )

    def _record(
        self,
        site: Site,
        begun: datetime,
        *,
        release: Release,
        previous: Release | None,
        outcome: Outcome = Outcome.PASSED,
        rolled_back: bool = False,
        unchanged: bool = False,
        reason: str = "",
    ) -> DeliveryRecord:
        record = DeliveryRecord(
            environment=site.spec.name,
            target="local",
            strategy=self.strategy.name,
            release=release,
            outcome=outcome,
            url=site.router.url,
            previous=previous,
            rolled_back=rolled_back,
            unchanged=unchanged,
            reason=reason,
            started_at=begun,
            finished_at=self.clock.now(),
        )
        if self.ledger:
            self.ledger(record)
        return record

    def _prune_images(self, site: Site) -> None:
        """Remove the images that no environment needs any more."""
        needed = set()
        for path in (self.state / "environments").glob("*/*/environment.json"):
            folder = Folder(path.parent)
            spec = folder.spec()
            needed |= {service.digest for service in spec.services} if spec else set()
            needed |= {kept.release.digest for kept in folder.kept_releases()}
        site.images.prune(needed)

    async def _status(self, folder: Folder) -> EnvironmentStatus:
        spec = folder.spec()
        if spec is None:
            raise CiError(f"{folder.path}: no environment")
        processes = Processes(folder, self.clock)

        def address(name: str) -> str:
            local = folder.instance(name)
            return local.address if local else ""

        router = CaddyRouter(
            folder,
            port=spec.port,
            ready=spec.ready,
            processes=processes,
            clock=self.clock,
            address=address,
        )
        weights = await router.weights()
        local = folder.instance(max(weights, key=lambda name: weights[name], default=""))
        running = await processes.running()
        answer = await router.probe() if local and running else None
        kept = folder.release(local.key) if local else None
        rollout = folder.journal.read()
        named = bool(local and answer and answer.instance == local.instance.name)
        return EnvironmentStatus(
            project=spec.project,
            name=spec.name,
            url=router.url,
            release=local.instance.release if local else None,
            healthy=bool(named and answer and answer.ready),
            running=running,
            since=kept.confirmed_at if kept else None,
            phase=rollout.phase if rollout and not rollout.ended else None,
            detail=answer.detail if answer else "" if running else "stopped",
        )
