"""Measure everything and write RESULTS.md; about ten minutes on two cores."""

from __future__ import annotations

import compileall
import sys
from pathlib import Path

from benchmarks import engine, machine, page, pipeline, scheduler

ROUNDS = 7
NODES = 10_000
RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> None:
    # As an installation has it: an editable one compiles when it is first imported, if it may.
    compileall.compile_dir(pipeline.TOP / "ci", quiet=1)
    load = machine.load()
    _say("scheduler")
    node = scheduler.measure(scheduler.scheduled(lambda: scheduler.layers(NODES)), NODES, 3)
    group = scheduler.measure(scheduler.bare(NODES), NODES, 3)
    _say("start-up")
    start = pipeline.startup(ROUNDS)
    _say("pipeline, first and again")
    run = pipeline.measure(ROUNDS)
    _say("engine and its peers")
    with pipeline.scratch() as folder:
        found = engine.measure(folder)
    text = page.render(
        page.Figures(
            load=load,
            rounds=ROUNDS,
            start=start,
            run=run,
            engine=found,
            nodes=NODES,
            node=node,
            group=group,
        )
    )
    RESULTS.write_text(text)
    print(text)


def _say(what: str) -> None:
    print(f"{what} ...", file=sys.stderr)


if __name__ == "__main__":
    main()
