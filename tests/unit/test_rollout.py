"""The rollout as a pure machine, and a conductor that is killed wherever it can be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.deploy.conductor import Checks, Conductor
from ci.deploy.journal import FileJournal
from ci.deploy.protocol import Answer, Condition, Instance
from ci.deploy.rollout import (
    Phase,
    Rollout,
    RolloutError,
    abort,
    advance,
    fail,
    pause,
    promote,
    resume,
)
from ci.errors import CiError, StageFailed
from ci.values import Outcome, Release


def instance(name: str) -> Instance:
    release = Release(name="gym", version=name, digest="sha256:" + "0" * 64)
    return Instance(name=name, release=release)


OLD, NEW = instance("old"), instance("new")
STEPS = [(100,), (5, 25, 50, 100), (50, 100)]
rollouts = st.builds(
    Rollout, new=st.just(NEW), old=st.sampled_from([OLD, None]), steps=st.sampled_from(STEPS)
)


def test_blue_green_takes_its_steps_in_order():
    rollout, phases = Rollout(new=NEW, old=OLD), [Phase.PREPARING]
    while not rollout.ended:
        rollout = advance(rollout)
        phases.append(rollout.phase)
    assert " ".join(phases) == (
        "preparing starting awaiting checking shifting probing confirming draining retiring "
        "succeeded"
    )


def test_each_step_of_a_canary_shifts_probes_and_confirms():
    rollout, shares = Rollout(new=NEW, old=OLD, steps=(5, 50, 100)), []
    while not rollout.ended:
        if rollout.phase is Phase.SHIFTING:
            shares.append(dict(rollout.weights))
        rollout = advance(rollout)
    assert shares == [{"new": 5, "old": 95}, {"new": 50, "old": 50}, {"new": 100}]


def test_a_first_delivery_has_nothing_to_drain_and_takes_all_traffic_at_once():
    rollout = Rollout(new=NEW, steps=(5, 100), phase=Phase.SHIFTING)
    assert rollout.weights == {"new": 100}
    assert advance(advance(advance(rollout))).phase is Phase.SUCCEEDED


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.RETIRING, Phase.SUCCEEDED])
def test_a_confirmed_release_cannot_be_aborted_or_promoted(phase):
    rollout = Rollout(new=NEW, old=OLD, phase=phase)
    for refuse in (lambda: abort(rollout, "x"), lambda: promote(rollout), lambda: pause(rollout)):
        with pytest.raises(RolloutError):
            refuse()


def test_a_paused_rollout_stays_until_it_is_promoted_to_everything():
    rollout = pause(Rollout(new=NEW, old=OLD, steps=(5, 50, 100), phase=Phase.CONFIRMING))
    assert advance(rollout) == rollout
    promoted = promote(rollout)
    assert (promoted.phase, dict(promoted.weights)) == (Phase.SHIFTING, {"new": 100})


def test_the_worst_outcome_is_kept():
    rollout = abort(Rollout(new=NEW, old=OLD), "disk", Outcome.ERRORED)
    assert fail(rollout, "later", Outcome.FAILED).outcome is Outcome.ERRORED


@given(rollouts, st.lists(st.sampled_from(["advance", "fail", "abort", "pause", "promote"])))
def test_whatever_happens_a_rollout_ends_and_weights_sum_to_a_hundred(rollout, events):
    for event in events:
        try:
            match event:
                case "advance":
                    rollout = advance(rollout)
                case "fail":
                    rollout = fail(rollout, "broken")
                case "abort":
                    rollout = abort(rollout, "asked")
                case "pause":
                    rollout = pause(rollout)
                case "promote":
                    rollout = promote(rollout)
        except RolloutError:
            assert not rollout.forward
        assert sum(rollout.weights.values()) in ({100} if rollout.old else {0, 100})
    rollout = resume(rollout, ready=["new", "old"])
    for _ in range(30):
        rollout = advance(rollout)
    assert rollout.ended


# -- a world that outlives the conductor -------------------------------------------------------


class Killed(BaseException):
    """kill -9: nothing that would handle an error sees it."""


@dataclass
class World:
    """A target, a router and a journal. Its ``kill_at``-th effect kills the conductor."""

    kill_at: int = -1
    after: bool = False
    faults: frozenset[str] = frozenset()
    alive: set[str] = field(default_factory=lambda: {"old"})
    shares: dict[str, int] = field(default_factory=lambda: {"old": 100})
    journal: Rollout | None = None
    effects: int = 0
    #: Somebody died: until the conductor is back, traffic may go to it.
    lenient: bool = False
    url: str = "router"

    def effect(self, change) -> None:
        self.effects += 1
        if self.effects == self.kill_at and not self.after:
            raise Killed
        change()
        if not self.lenient:
            self.check()
        if self.effects == self.kill_at:
            raise Killed

    def check(self) -> None:
        assert set(self.shares) <= self.alive, "traffic goes to an instance that does not live"
        assert self.shares, "traffic goes nowhere"

    async def write(self, rollout: Rollout) -> None:
        def change() -> None:
            self.journal = Rollout.model_validate_json(rollout.model_dump_json())

        self.effect(change)

    async def prepare(self, instance: Instance) -> None:
        self.effect(lambda: None)
        self.fault("migration")

    async def deploy(self, instance: Instance) -> None:
        self.effect(lambda: self.alive.add(instance.name))

    async def status(self, instance: Instance) -> Condition:
        live = instance.name in self.alive
        unready = instance.name == "new" and "unready" in self.faults
        return Condition(
            live=live, ready=live and not unready, version=instance.name, url=instance.name
        )

    async def retire(self, instance: Instance) -> None:
        self.effect(lambda: self.alive.discard(instance.name))
        self.fault("retire")

    async def weights(self) -> Mapping[str, int]:
        return self.shares

    async def shift(self, weights: Mapping[str, int]) -> None:
        self.effect(lambda: setattr(self, "shares", dict(weights)))
        if "new" in weights:
            self.fault("shift")

    async def probe(self) -> Answer:
        best = max(self.shares, key=lambda name: self.shares[name])
        name = "new" if "new" in self.shares else best
        return Answer(instance=name, ready=True)

    async def drain(self, instance: Instance, *, deadline: float) -> bool:
        self.effect(lambda: None)
        return "drain" not in self.faults

    async def smoke(self, url: str) -> None:
        if url == "router":
            self.fault("smoke-after")
        else:
            self.fault("smoke-before")

    def fault(self, name: str) -> None:
        if name in self.faults:
            raise StageFailed(name)


class FakeClock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        assert self.time < 1000, "waits for ever"
        await anyio.lowlevel.checkpoint()


def conductor(world: World) -> Conductor:
    return Conductor(
        target=world,
        router=world,
        journal=world,
        clock=FakeClock(),
        checks=Checks(ready_deadline=1),
        smoke=world.smoke,
    )


FAULTS = ["migration", "unready", "smoke-before", "shift", "smoke-after", "drain", "retire"]


@dataclass(frozen=True)
class Scenario:
    kill_at: int
    #: The killing effect took place.
    after: bool
    #: Effects that the one who resumes may have before it is killed too; -1: it is not.
    second_kill: int = -1
    faults: frozenset[str] = frozenset()
    steps: tuple[int, ...] = (100,)
    #: Who resumes aborts rather than goes on.
    going_back: bool = False
    #: The instance that dies with the conductor.
    dies: str = ""


async def play(world: World, scenario: Scenario) -> None:
    try:
        await conductor(world).conduct(Rollout(new=NEW, old=OLD, steps=scenario.steps))
    except Killed:
        world.check()
        if scenario.dies and world.alive == {"old", "new"}:
            world.alive -= {scenario.dies}
            world.lenient = True
    for _ in range(3):
        if world.journal is None or world.journal.ended:
            return
        first = world.kill_at == scenario.kill_at and scenario.second_kill > 0
        world.kill_at = world.effects + scenario.second_kill if first else -1
        left = world.journal
        if scenario.going_back and left.forward:
            left = abort(left, "interrupted")
        try:
            await conductor(world).resume(left)
        except Killed:
            if not world.lenient:
                world.check()


def check_outcome(scenario: Scenario) -> World:
    world = World(kill_at=scenario.kill_at, after=scenario.after, faults=scenario.faults)
    anyio.run(play, world, scenario)
    world.check()
    winner = "new" if world.journal and world.journal.phase is Phase.SUCCEEDED else "old"
    assert world.shares == {winner: 100}
    assert world.alive == {winner}
    return world


@pytest.mark.parametrize("fault", ["", *FAULTS])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_instant_it_resumes_and_traffic_stays_at_a_live_release(fault, after):
    """At every instant there is: until a kill comes too late to happen."""
    faults = frozenset({fault} - {""})
    for kill_at in range(1, 100):
        world = check_outcome(Scenario(kill_at=kill_at, after=after, faults=faults))
        if world.effects < kill_at:
            break
    assert 10 < kill_at < 40


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        Scenario,
        kill_at=st.integers(1, 40),
        after=st.booleans(),
        second_kill=st.integers(1, 30),
        faults=st.frozensets(st.sampled_from(FAULTS), max_size=2),
        steps=st.sampled_from(STEPS),
        going_back=st.booleans(),
    )
)
def test_killed_twice_it_still_ends_with_all_traffic_at_the_one_live_release(scenario):
    check_outcome(scenario)


@pytest.mark.parametrize("dies", ["old", "new"])
@pytest.mark.parametrize("going_back", [False, True])
def test_when_an_instance_dies_too_the_other_one_or_its_successor_serves(dies, going_back):
    for kill_at in range(1, 30):
        scenario = Scenario(kill_at=kill_at, after=True, going_back=going_back, dies=dies)
        world = World(kill_at=kill_at, after=True)
        anyio.run(play, world, scenario)
        if world.journal and world.journal.phase is not Phase.PREPARING:
            world.check()


@given(st.sampled_from([*Phase]), st.booleans(), st.booleans())
def test_what_resumes_gives_traffic_to_a_ready_instance_whichever_died(phase, new, old):
    """Of the phases in which both should live, when one of them does not come back."""
    alive = {name for name, lives in (("new", new), ("old", old)) if lives}
    rollout = Rollout(new=NEW, old=OLD, phase=phase, steps=(50, 100), step=0, moved=True)
    resumed = resume(rollout, ready=alive)
    if phase in (Phase.SHIFTING, Phase.PROBING, Phase.CONFIRMING) and alive:
        while resumed.phase not in (Phase.DRAINING, Phase.RETURNING):
            resumed = advance(resumed)
        target = "new" if resumed.phase is Phase.DRAINING else "old"
        assert target == "old" if not new else True
        assert target == "new" if not old and new else True


async def test_the_old_release_is_kept_when_it_cannot_be_restored():
    """A router that cannot be told to go back keeps both instances."""
    world = World(alive={"old", "new"}, shares={"new": 100})

    async def broken(weights: Mapping[str, int]) -> None:
        raise CiError("no space left")

    world.shift = broken  # type: ignore[method-assign]
    left = abort(Rollout(new=NEW, old=OLD, phase=Phase.CONFIRMING, moved=True), "smoke")
    ended = await conductor(world).conduct(left)
    assert (ended.phase, ended.outcome) == (Phase.ABORTED, Outcome.ERRORED)
    assert world.alive == {"old", "new"}


async def test_a_journal_survives_as_a_whole(tmp_path):
    journal = FileJournal(tmp_path / "rollout.json")
    assert journal.read() is None
    rollout = abort(Rollout(new=NEW, old=OLD, phase=Phase.PROBING), "why")
    await journal.write(rollout)
    assert journal.read() == rollout
    assert [path.name for path in tmp_path.iterdir()] == ["rollout.json"]


def test_a_damaged_journal_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "rollout.json"
    path.write_text("{")
    with pytest.raises(CiError, match=r"rollout\.json"):
        FileJournal(path).read()
