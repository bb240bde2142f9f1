"""What is shared is made once in a run, and nothing outlives it."""

from __future__ import annotations

import anyio

from ci.sharing import shared, sharing


def test_within_sharing_a_thing_is_made_once_for_a_key():
    with sharing():
        first = shared("a", object)
        assert shared("a", object) is first
        assert shared("b", object) is not first


def test_tasks_started_within_share_with_each_other():
    made = []

    async def ask() -> None:
        made.append(shared("a", object))

    async def main() -> None:
        with sharing():
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(ask)

    anyio.run(main)
    assert len(made) == 3
    assert len({id(each) for each in made}) == 1


def test_nothing_is_kept_for_the_next_run():
    with sharing():
        first = shared("a", object)
    with sharing():
        assert shared("a", object) is not first


def test_outside_of_sharing_all_is_made_anew():
    assert shared("a", object) is not shared("a", object)
