"""Measure everything and write RESULTS.md; about ten minutes on two cores.

    python -m benchmarks [--small]

``--small`` is to see that it works: it measures little, and prints the page only.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks import engine, machine, page, pipeline, scheduler

RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> None:
    small = "--small" in sys.argv
    size, rounds, nodes = (engine.SMALL, 1, 500) if small else (engine.Size(), 7, 10_000)
    # As an installation has it: an editable one compiles when it is first imported, if it may.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    load = machine.load()
    _say("scheduler")
    node = scheduler.measure(scheduler.scheduled(lambda: scheduler.layers(nodes)), nodes, 3)
    group = scheduler.measure(scheduler.bare(nodes), nodes, 3)
    _say("start-up")
    start = pipeline.startup(rounds)
    _say("pipeline, first and again")
    run = pipeline.measure(rounds)
    _say("engine and its peers")
    with pipeline.scratch() as folder:
        found = engine.measure(folder, size)
    text = page.render(
        page.Figures(
            load=load,
            rounds=rounds,
            start=start,
            run=run,
            engine=found,
            size=size,
            nodes=nodes,
            node=node,
            group=group,
        )
    )
    if not small:
        RESULTS.write_text(text)
    print(text)


def _say(what: str) -> None:
    print(f"{what} ...", file=sys.stderr)


if __name__ == "__main__":
    main()
