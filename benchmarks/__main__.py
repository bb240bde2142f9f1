"""Measure everything and write RESULTS.md; about five minutes on two cores."""

from __future__ import annotations

import datetime as dt
import statistics
import sys
from pathlib import Path

from benchmarks import execs, machine, pipeline, scheduler

EXECS = 200
ROUNDS = 7
NODES = 10_000
RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> None:
    load = machine.load()
    print("execs ...", file=sys.stderr)
    on = execs.measure(EXECS)
    print("scheduler ...", file=sys.stderr)
    node = scheduler.measure(scheduler.scheduled(lambda: scheduler.layers(NODES)), NODES, 3)
    group = scheduler.measure(scheduler.bare(NODES), NODES, 3)
    print("start-up ...", file=sys.stderr)
    start = pipeline.startup(ROUNDS)
    print("pipeline, first and again ...", file=sys.stderr)
    run = pipeline.measure(ROUNDS)
    bound = max(run.critical_path, run.work / pipeline.slots())
    rows = [
        ("exec over a bare process, median", f"{on['overhead']:.1f} ms", "under 15 ms"),
        ("second run without changes", f"{run.second:.2f} s", "under 2 s"),
        ("... of the first run", f"{run.second / run.first.seconds:.1%}", "under 3 %"),
        ("first run over the critical path of its tools",
         f"{run.run / run.critical_path:.2f}", "under 1.15"),
        ("peak memory of the `ci` process", f"{run.peak:.0f} MiB", "under 300 MB"),
        ("a trivial node of the scheduler", f"{node:.0f} µs", "under 100 µs"),
    ]  # fmt: skip
    text = TEXT.format(
        day=dt.datetime.now(dt.UTC).date(),
        machine=machine.kind(),
        load=load,
        table="\n".join(f"| {' | '.join(row)} |" for row in rows),
        count=EXECS,
        rounds=ROUNDS,
        on=on,
        run=run,
        low=min(each.seconds for each in run.again),
        high=max(each.seconds for each in run.again),
        chain=", ".join(run.chain),
        bound=bound,
        over_bound=run.run / bound,
        slots=pipeline.slots(),
        start=start,
        nodes=NODES,
        node=node,
        group=group,
        second_peak=statistics.median(each.peak for each in run.again),
        at_once=execs.AT_ONCE,
    )
    RESULTS.write_text(text)
    print(text)


TEXT = """# Results

Made by `make bench` on {day}: {machine}, sandbox as {run.sandbox}. Load average before it began:
{load:.1f}.

| | measured | goal |
|---|---|---|
{table}

## Execs

{count} execs of `/bin/true` on the embedded engine, each of another cache key, from the SDK's call
to its answer; in turn with the same program as a bare process, with the same in bubblewrap alone,
and with an exec that is in the store. Medians, in milliseconds; the overhead is the median of the
differences.

| bare process | bubblewrap alone | engine | engine, cached | engine, {at_once} at once, each |
|---|---|---|---|---|
| {on[bare]:.1f} | {on[bubblewrap]:.1f} | {on[engine]:.1f} | {on[cached]:.1f} | {on[at_once]:.1f} |

## The pipeline

`ci pipeline --only=security` on examples/gym-api: all stages and gates up to where deliveries
begin, on a store of its own. The store has the images (they took {run.images:.0f} s) and nothing
else before the first run: no tools, no packages, no results. Whole processes, from start to exit;
the second run is the median of {rounds}.

| | wall time | CPU time |
|---|---|---|
| first run | {run.first.seconds:.1f} s | {run.first.cpu:.1f} s |
| second run | {run.second:.2f} s ({low:.2f} to {high:.2f}) | {run.second_cpu:.2f} s |
| of that, before any work: `ci --version` | | {start[ci --version]:.2f} s |
| ... `import dagger` alone | | {start[import dagger]:.2f} s |
| ... an interpreter alone | | {start[python]:.2f} s |

The first run's critical path is that of its tools: for each stage the seconds of the commands that
it ran, along the chain that takes longest ({chain}): {run.critical_path:.1f} s. From its first
event to its last the run took {run.run:.1f} s. That path assumes a core for each stage; {slots} run
at once here, and all tools together took {run.work:.1f} s, so that no schedule can end before
{bound:.1f} s: {over_bound:.2f} times that.

Memory is the high-water mark of the `ci` process, which holds the engine too, without the tools:
{run.first.peak:.0f} MiB in the first run, {second_peak:.0f} MiB in the second.

## The scheduler

{nodes} trivial nodes in layers, each of which needs five others: {node:.0f} µs a node. Its peer, a
bare anyio task group without order, events or ends: {group:.0f} µs.
"""


if __name__ == "__main__":
    main()
