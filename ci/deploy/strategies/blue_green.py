"""Blue-green: the new release stands beside the old one, then takes all traffic at once."""

from __future__ import annotations

from dataclasses import dataclass

from ci.deploy.conductor import Conductor
from ci.deploy.protocol import Instance
from ci.deploy.rollout import Rollout

__all__ = ["BlueGreen"]


@dataclass(frozen=True)
class BlueGreen:
    """One step, from nothing to everything. The old release lives until the new is confirmed."""

    name: str = "blue-green"

    async def roll_out(
        self, new: Instance, *, old: Instance | None, conductor: Conductor
    ) -> Rollout:
        """The rollout at its end: succeeded, or aborted with the old release serving."""
        return await conductor.conduct(Rollout(new=new, old=old, steps=(100,)))
