"""RESULTS.md: goals and how far they are, then each figure with its method."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import builders, execs, machine, pipeline
from benchmarks.engine import Measured, Size

__all__ = ["Figures", "render"]

TEMPLATE = Path(__file__).with_name("results.md.in")

OURS = builders.Towpath.name
WHOLE = builders.WholeProcess.name
DOCKER = builders.Docker.name


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All that was measured."""

    load: float
    rounds: int
    start: Mapping[str, float]
    run: pipeline.Measured
    engine: Measured
    size: Size
    nodes: int
    node: float
    group: float

    @property
    def bound(self) -> float:
        """Seconds before which no schedule of the first run can end on these cores."""
        return max(self.run.critical_path, self.run.work / pipeline.slots())


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A figure that is to be below another."""

    what: str
    got: float
    below: float
    form: str = "{:.1f}"
    #: What no change of Towpath can go below, and whose it is.
    limit: str = ""

    def row(self) -> str:
        """Of the table."""
        met = "met" if self.got < self.below else "**missed**"
        got, below = self.form.format(self.got), self.form.format(self.below)
        return f"| {self.what} | {got} | under {below} | {met} | {self.limit} |"


def render(figures: Figures) -> str:
    """The page."""
    run, on = figures.run, figures.engine.execs
    return TEMPLATE.read_text(encoding="utf-8").format(
        day=dt.datetime.now(dt.UTC).date(),
        machine=machine.kind(),
        goals="\n".join(goal.row() for goal in _goals(figures)),
        size=figures.size,
        on=on,
        peers=_peers(figures.engine),
        absent=_absent(figures.engine),
        dagger=_dagger(figures),
        f=figures,
        low=min(each.seconds for each in run.again),
        high=max(each.seconds for each in run.again),
        path=", ".join(run.chain),
        over_bound=run.run / figures.bound,
        slots=pipeline.slots(),
        second_peak=statistics.median(each.peak for each in run.again),
    )


def _goals(f: Figures) -> Sequence[Goal]:
    on, run = f.engine.execs, f.run
    sdk = on["cached"] - on["cached alone"]
    sandbox = on["bubblewrap"] - on["bare"]
    imports = f"`import dagger` alone {f.start['import dagger']:.2f} s"
    return [
        Goal(what="exec over a bare process, median", got=on["overhead"], below=15,
             form="{:.1f} ms", limit=f"bubblewrap {sandbox:.1f} ms, the SDK {sdk:.1f} ms"),
        Goal(what="cached exec, the engine's part", got=on["cached alone"], below=2,
             form="{:.1f} ms", limit=f"the SDK adds {sdk:.1f} ms"),
        Goal(what=f"unchanged folder of {f.size.files:,} files", got=on["import again"] / 1000,
             below=0.3, form="{:.2f} s", limit="a stat of each"),
        Goal(what="second run without changes", got=run.second, below=2, form="{:.2f} s",
             limit=imports),
        Goal(what="... of the first run", got=run.second / run.first.seconds * 100, below=3,
             form="{:.1f} %",
             limit=f"that import alone: {f.start['import dagger'] / run.first.seconds:.1%}"),
        Goal(what="first run over the critical path of its tools",
             got=run.run / run.critical_path, below=1.15, form="{:.2f}",
             limit=f"on {pipeline.slots()} cores {f.bound / run.critical_path:.2f}"),
        Goal(what="peak memory of the `ci` process", got=run.peak, below=286, form="{:.0f} MiB"),
        Goal(what="a trivial node of the scheduler", got=f.node, below=100, form="{:.0f} µs",
             limit=f"a bare anyio task {f.group:.0f} µs"),
        *_against_docker(f.engine),
    ]  # fmt: skip


def _against_docker(found: Measured) -> Sequence[Goal]:
    if DOCKER in found.absent:
        return []
    goals = []
    for row, below in (
        ("first build", 1.0),
        ("no change", 1 / 3),
        ("one source file changed", 1 / 3),
    ):
        ours, theirs = (found.rows[row][name] for name in (OURS, DOCKER))
        if isinstance(ours, float) and isinstance(theirs, float):
            goals.append(
                Goal(what=f"{row}, over BuildKit's", got=ours / theirs, below=below, form="{:.2f}")
            )
    memory = found.memory[OURS] / found.memory[DOCKER]
    limit = "an interpreter with the engine's modules, against a program in machine code"
    goals.append(
        Goal(what="memory, over dockerd's and containerd's", got=memory, below=0.5, form="{:.2f}",
             limit=limit)
    )  # fmt: skip
    return goals


def _peers(found: Measured) -> str:
    head = f"| | {' | '.join(found.names)} |\n|---|{'---|' * len(found.names)}"
    rows = [
        f"| {row} | {' | '.join(_seconds(values.get(name)) for name in found.names)} |"
        for row, values in found.rows.items()
    ]
    peaks = [found.memory.get(name, 0.0) for name in found.names]
    memory = " | ".join(f"{peak:.0f} MiB" if peak else "" for peak in peaks)
    return "\n".join([head, *rows, f"| memory, at its highest | {memory} |"])


def _seconds(value: float | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:.3f} s" if value < 1 else f"{value:.1f} s"


def _absent(found: Measured) -> str:
    said = [f"{name} did not run here: {why}." for name, why in found.absent.items()]
    return "\n" + " ".join(said) + "\n" if said else ""


def _dagger(f: Figures) -> str:
    on = f.engine.execs
    rows = [
        ("an exec", "150 ms (105 to 240)", f"{on['engine']:.1f} ms"),
        ("a cached exec", "17 to 21 ms", f"{on['cached']:.1f} ms"),
        (f"a chain of {execs.CHAIN}, each", "150 to 177 ms", f"{on['chain']:.1f} ms"),
        (f"{execs.AT_ONCE} at once, each", "90 to 97 ms", f"{on['at_once']:.1f} ms"),
        (
            f"a folder of {f.size.files:,} files imported",
            "1.4 to 3.2 s",
            f"{on['import'] / 1000:.2f} s",
        ),
        ("... again, unchanged", "", f"{on['import again'] / 1000:.2f} s"),
        ("a function, everything cached", "6.8 to 7.6 s", f"{f.run.command:.2f} s"),
        ("memory of the engine, at its highest", "434 MB", f"{f.engine.memory[OURS]:.0f} MiB"),
    ]
    return "\n".join(f"| {what} | {theirs} | {ours} |" for what, theirs, ours in rows)
