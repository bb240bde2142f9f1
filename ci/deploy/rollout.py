"""The rollout as a pure state machine: which step comes next, whatever happened in the last one.

A conductor performs the step that ``phase`` names, then takes the next state from ``advance`` or
``fail``, and writes it to a journal before it goes on. Every step can be performed again, so a
rollout that was killed at any instant goes on where its journal says (``resume``). Traffic only
moves to an instance that was ready and passed its checks, and the old instance lives until the
new one was confirmed: that is why there is always one that can serve.

::

    preparing > starting > awaiting > checking > shifting > probing > confirming
                                                    ^ each step of weights |
                                                    +----------------------+> draining > retiring
                                                                              > succeeded
    any of them up to confirming, on failure > restoring > returning > emptying > discarding
                                                                              > aborted
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from itertools import pairwise

from ci import exits
from ci.deploy.protocol import Instance
from ci.errors import CiError
from ci.values import Outcome, Value

__all__ = ["Phase", "Rollout", "RolloutError", "abort", "advance", "fail", "pause", "promote",
           "resume"]  # fmt: skip


class Phase(StrEnum):
    """What is being done."""

    #: Backing services, migrations.
    PREPARING = "preparing"
    STARTING = "starting"
    #: Until the new instance is ready.
    AWAITING = "awaiting"
    #: Smoke checks on the new instance itself.
    CHECKING = "checking"
    #: Weights of the current step.
    SHIFTING = "shifting"
    #: Until the new instance answers through the router.
    PROBING = "probing"
    #: Checks through the router; a canary's metric gate.
    CONFIRMING = "confirming"
    #: Requests in flight to the old instance.
    DRAINING = "draining"
    #: The old instance.
    RETIRING = "retiring"
    SUCCEEDED = "succeeded"
    #: Until the old instance is ready, started again if need be.
    RESTORING = "restoring"
    #: All traffic back to the old instance.
    RETURNING = "returning"
    #: Requests in flight to the new instance.
    EMPTYING = "emptying"
    #: The new instance.
    DISCARDING = "discarding"
    ABORTED = "aborted"


_FORWARD = (
    Phase.PREPARING,
    Phase.STARTING,
    Phase.AWAITING,
    Phase.CHECKING,
    Phase.SHIFTING,
    Phase.PROBING,
    Phase.CONFIRMING,
)
_NEXT = {
    **dict(pairwise(_FORWARD)),
    Phase.DRAINING: Phase.RETIRING,
    Phase.RETIRING: Phase.SUCCEEDED,
    Phase.RESTORING: Phase.RETURNING,
    Phase.RETURNING: Phase.EMPTYING,
    Phase.EMPTYING: Phase.DISCARDING,
    Phase.DISCARDING: Phase.ABORTED,
}
_ENDED = (Phase.SUCCEEDED, Phase.ABORTED)
_MOVED = (Phase.SHIFTING, Phase.PROBING, Phase.CONFIRMING)
_SETTLING = (Phase.DRAINING, Phase.RETIRING)
_BADNESS = list(Outcome)
_BACK = (Phase.RETURNING, Phase.EMPTYING, Phase.DISCARDING)


class RolloutError(CiError):
    """The rollout cannot do that in the phase it is in."""

    exit_code = exits.MISUSED


class Rollout(Value):
    """Where a rollout stands. A change is a new value."""

    new: Instance
    #: What serves now; None at the first delivery.
    old: Instance | None = None
    #: Share of the new instance after each step, in percent, rising to 100.
    steps: tuple[int, ...] = (100,)
    step: int = 0
    phase: Phase = Phase.PREPARING
    paused: bool = False
    #: Traffic was given to the new instance, or may have been.
    moved: bool = False
    #: What went wrong, in order.
    reasons: tuple[str, ...] = ()
    #: Whose fault that was: the release failed, or the machine errored; the worst of them.
    outcome: Outcome = Outcome.PASSED

    @property
    def ended(self) -> bool:
        """Nothing is left to do."""
        return self.phase in _ENDED

    @property
    def forward(self) -> bool:
        """It may still be aborted: the new instance is not confirmed yet."""
        return self.phase in _FORWARD

    @property
    def weights(self) -> Mapping[str, int]:
        """The shares that the current phase sets (SHIFTING, RETURNING), in percent."""
        if self.phase not in _MOVED:
            return {self.old.name: 100} if self.old else {}
        share = self.steps[self.step] if self.old else 100
        old = {self.old.name: 100 - share} if self.old and share < 100 else {}
        return {self.new.name: share, **old}

    def becomes(self, phase: Phase, **changes: object) -> Rollout:
        """The same rollout in another phase."""
        moved = self.moved or phase is Phase.SHIFTING
        return self.model_copy(update={"phase": phase, "moved": moved, **changes})

    def noting(self, reason: str, outcome: Outcome) -> Rollout:
        """The same rollout with one more thing that went wrong."""
        worst = max(self.outcome, outcome, key=_BADNESS.index)
        return self.model_copy(update={"reasons": (*self.reasons, reason), "outcome": worst})


def advance(rollout: Rollout) -> Rollout:
    """The state after its phase was done; a paused or ended rollout stays as it is."""
    if rollout.paused or rollout.ended:
        return rollout
    if rollout.phase is not Phase.CONFIRMING:
        return rollout.becomes(_NEXT[rollout.phase])
    if rollout.old and rollout.step + 1 < len(rollout.steps):
        return rollout.becomes(Phase.SHIFTING, step=rollout.step + 1)
    return rollout.becomes(Phase.DRAINING if rollout.old else Phase.SUCCEEDED)


def fail(rollout: Rollout, reason: str, outcome: Outcome = Outcome.FAILED) -> Rollout:
    """The state after its phase could not be done.

    Before the new instance is confirmed that aborts. Afterwards it is noted and the rest is done.
    Where the old instance cannot come back and the new one may have traffic, both stay as they
    are: what might serve is not taken away.
    """
    if rollout.forward:
        return abort(rollout, reason, outcome)
    noted = rollout.noting(reason, outcome)
    if rollout.phase in (Phase.RESTORING, Phase.RETURNING):
        return noted.becomes(Phase.ABORTED if rollout.moved else Phase.DISCARDING)
    return noted if rollout.ended else noted.becomes(_NEXT[rollout.phase])


def abort(rollout: Rollout, reason: str, outcome: Outcome = Outcome.FAILED) -> Rollout:
    """Go back to the old instance; a rollout that already goes back only notes the reason.

    Raises:
        RolloutError: the new instance was confirmed; a rollback is a rollout of its own.
    """
    noted = rollout.noting(reason, outcome).model_copy(update={"paused": False})
    if rollout.forward:
        return noted.becomes(Phase.RESTORING if rollout.old else Phase.RETURNING)
    if rollout.phase in (*_SETTLING, Phase.SUCCEEDED):
        raise RolloutError(
            f"abort of {rollout.new.release.name} {rollout.new.release.version}",
            got=f"phase {rollout.phase}",
            expected="a release that is not confirmed yet",
            hint="roll back instead",
        )
    return noted


def pause(rollout: Rollout) -> Rollout:
    """Stay in this phase until it is resumed or promoted.

    Raises:
        RolloutError: there is nothing left to hold.
    """
    if not rollout.forward:
        raise RolloutError("pause", got=f"phase {rollout.phase}", expected="one up to confirming")
    return rollout.model_copy(update={"paused": True})


def promote(rollout: Rollout) -> Rollout:
    """Skip the steps that are left: the next shift gives the new instance everything.

    Raises:
        RolloutError: it goes back, or is at its end.
    """
    if not rollout.forward:
        raise RolloutError("promote", got=f"phase {rollout.phase}", expected="one up to confirming")
    last = len(rollout.steps) - 1
    again = rollout.phase in _MOVED and rollout.step < last
    phase = Phase.SHIFTING if again else rollout.phase
    return rollout.becomes(phase, step=last, paused=False)


def resume(rollout: Rollout, *, ready: Collection[str]) -> Rollout:
    """Go on after a pause, or after the death of whoever conducted it.

    ``ready`` names the instances that are live and ready now. Where traffic was moving, it goes
    to one of them: back when the new one is gone, all the way when the old one is.
    """
    resumed = rollout.model_copy(update={"paused": False})
    if not resumed.old:
        return resumed
    new, old = resumed.new.name in ready, resumed.old.name in ready
    if resumed.phase is Phase.CHECKING and not new:
        return resumed.becomes(Phase.STARTING)
    if resumed.phase in _MOVED:
        if not new:
            return abort(resumed, f"{resumed.new.name} is no longer ready")
        return resumed if old else promote(resumed)
    if resumed.phase in _SETTLING and old and not new:
        reason = f"{resumed.new.name} is no longer ready"
        return resumed.noting(reason, Outcome.FAILED).becomes(Phase.RESTORING)
    return resumed.becomes(Phase.RESTORING) if resumed.phase in _BACK and not old else resumed
