"""The conductor: performs the steps of a rollout on a target and a router, journal first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from ci import exits
from ci.clock import Clock
from ci.deploy.protocol import Condition, Instance, Router, Smoke, Target
from ci.deploy.rollout import Phase, Rollout, advance, fail, resume
from ci.errors import CiError, StageFailed
from ci.values import Outcome, Value

__all__ = ["Checks", "Conductor", "Journal"]

_log = structlog.get_logger(__name__)


class Journal(Protocol):
    """Remembers where a rollout stands."""

    async def write(self, rollout: Rollout) -> None:
        """Return when the state would survive a crash."""
        ...


class Checks(Value):
    """What an instance must show before it is trusted, and how long it may take. In seconds."""

    ready_deadline: float = 60.0
    probe_deadline: float = 15.0
    drain_deadline: float = 15.0
    interval: float = 0.1
    #: Good answers in a row.
    consecutive: int = 3
    #: The answer must name the release's version.
    version: bool = True


@dataclass(frozen=True, kw_only=True)
class Conductor:
    """Takes a rollout from any state to its end."""

    target: Target
    router: Router
    journal: Journal
    clock: Clock
    checks: Checks = field(default_factory=Checks)
    smoke: Smoke | None = None
    #: Told of the rollout as it enters each phase.
    entered: Callable[[Rollout], None] | None = None

    async def conduct(self, rollout: Rollout) -> Rollout:
        """The rollout at its end, or where it paused. A failed step is no error but a way back."""
        while True:
            await self.journal.write(rollout)
            if self.entered:
                self.entered(rollout)
            if rollout.ended or rollout.paused:
                return rollout
            try:
                await self._steps[rollout.phase](rollout)
            except CiError as error:
                _log.warning("rollout.step_failed", phase=rollout.phase, error=str(error))
                outcome = Outcome.FAILED if error.exit_code == exits.FAILED else Outcome.ERRORED
                rollout = fail(rollout, f"{rollout.phase}: {error}", outcome)
            else:
                _log.info("rollout.step_done", phase=rollout.phase, new=rollout.new.name)
                rollout = advance(rollout)

    async def resume(self, rollout: Rollout) -> Rollout:
        """Go on with a rollout whose conductor died."""
        instances = [rollout.new, *([rollout.old] if rollout.old else [])]
        ready = [i.name for i in instances if (await self.target.status(i)).ready]
        return await self.conduct(resume(rollout, ready=ready))

    @property
    def _steps(self) -> Mapping[Phase, Callable[[Rollout], Awaitable[object]]]:
        return {
            Phase.PREPARING: lambda r: self.target.prepare(r.new),
            Phase.STARTING: lambda r: self.target.deploy(r.new),
            Phase.AWAITING: lambda r: self.wait_ready(r.new),
            Phase.CHECKING: self._check_instance,
            Phase.SHIFTING: self._shift,
            Phase.PROBING: self._probe,
            Phase.CONFIRMING: self._confirm,
            Phase.DRAINING: self._drain_old,
            Phase.RETIRING: self._retire_old,
            Phase.RESTORING: self._restore,
            Phase.RETURNING: self._shift,
            Phase.EMPTYING: lambda r: self._drain(r.new),
            Phase.DISCARDING: lambda r: self.target.retire(r.new),
        }

    async def wait_ready(self, instance: Instance) -> Condition:
        """Return when the instance answered well several times in a row.

        Raises:
            StageFailed: it did not in time, it ended, or it answers another version.
        """
        deadline = self.clock.monotonic() + self.checks.ready_deadline
        good = 0
        while True:
            condition = await self.target.status(instance)
            good = good + 1 if condition.ready and self._is_version(instance, condition) else 0
            if good >= self.checks.consecutive:
                return condition
            if condition.failed or self.clock.monotonic() >= deadline:
                raise self._unready(instance, condition)
            await self.clock.sleep(self.checks.interval)

    def _is_version(self, instance: Instance, condition: Condition) -> bool:
        return not self.checks.version or condition.version == instance.release.version

    def _unready(self, instance: Instance, condition: Condition) -> StageFailed:
        release = instance.release
        if condition.ready:
            return StageFailed(
                f"{release.name} {release.version} at {condition.url}",
                got=f"version {condition.version!r}",
                expected=f"{release.version!r}",
                hint="the readiness answer names a version: build it in, or set it by a variable",
            )
        return StageFailed(
            f"{release.name} {release.version} is not ready",
            got=condition.detail or "no answer",
            expected=f"readiness within {self.checks.ready_deadline:g} s",
        )

    async def _check_instance(self, rollout: Rollout) -> None:
        if self.smoke:
            await self.smoke((await self.target.status(rollout.new)).url)

    async def _shift(self, rollout: Rollout) -> None:
        if rollout.phase is Phase.SHIFTING:
            condition = await self.target.status(rollout.new)
            if not condition.ready:
                raise self._unready(rollout.new, condition)
        await self.router.shift(rollout.weights)

    async def _probe(self, rollout: Rollout) -> None:
        """The router sends requests to the new instance, and it answers them."""
        deadline = self.clock.monotonic() + self.checks.probe_deadline
        while True:
            answer = await self.router.probe()
            if answer.ready and answer.instance == rollout.new.name:
                return
            if self.clock.monotonic() >= deadline:
                raise StageFailed(
                    f"{rollout.new.release.version} does not answer at {self.router.url}",
                    got=answer.detail or f"an answer of {answer.instance or 'no instance'}",
                    expected=f"one of {rollout.new.name}",
                )
            await self.clock.sleep(self.checks.interval)

    async def _confirm(self, _: Rollout) -> None:
        if self.smoke:
            await self.smoke(self.router.url)

    async def _drain_old(self, rollout: Rollout) -> None:
        if rollout.old:
            await self._drain(rollout.old)

    async def _drain(self, instance: Instance) -> None:
        if not await self.router.drain(instance, deadline=self.checks.drain_deadline):
            _log.warning("rollout.drain_cut_short", instance=instance.name)

    async def _retire_old(self, rollout: Rollout) -> None:
        if rollout.old:
            await self.target.retire(rollout.old)

    async def _restore(self, rollout: Rollout) -> None:
        if rollout.old and not (await self.target.status(rollout.old)).ready:
            await self.target.deploy(rollout.old)
            await self.wait_ready(rollout.old)
