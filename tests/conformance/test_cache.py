"""CacheVolume: what one exec leaves, the next one finds."""

from __future__ import annotations

import anyio
import dagger
import pytest


async def test_a_cache_volume_keeps_files_across_chains(base, dag, unique):
    volume = dag.cache_volume(unique)
    await base.with_mounted_cache("/c", volume).with_exec(["sh", "-c", "echo 1 > /c/f"]).sync()
    other = base.with_env_variable("OTHER", unique).with_mounted_cache("/c", volume)
    assert await other.with_exec(["cat", "/c/f"]).stdout() == "1\n"


async def test_volumes_of_different_keys_are_apart(base, dag, unique):
    first = base.with_mounted_cache("/c", dag.cache_volume(unique + "-1"))
    await first.with_exec(["touch", "/c/f"]).sync()
    second = base.with_mounted_cache("/c", dag.cache_volume(unique + "-2"))
    assert await second.with_exec(["ls", "/c"]).stdout() == ""


async def test_a_cache_volume_is_not_in_the_root_and_cannot_be_read(base, dag, unique):
    ran = base.with_mounted_cache("/c", dag.cache_volume(unique)).with_exec(["touch", "/c/f"])
    with pytest.raises(dagger.QueryError, match="cannot retrieve path from cache"):
        await ran.directory("/c").entries()
    assert not await ran.without_mount("/c").exists("/c/f")


async def test_a_cache_volume_begins_with_its_source(base, dag, unique):
    source = dag.directory().with_new_file("f", "seed")
    container = base.with_mounted_cache("/c", dag.cache_volume(unique), source=source)
    assert await container.with_exec(["cat", "/c/f"]).stdout() == "seed"


async def test_a_locked_volume_is_used_by_one_exec_at_a_time(base, dag, unique):
    volume = dag.cache_volume(unique)
    script = "mkdir /c/lock || exit 9; sleep 0.2; rmdir /c/lock"

    async def use(number: int) -> None:
        container = base.with_mounted_cache(
            "/c", volume, sharing=dagger.CacheSharingMode.LOCKED
        ).with_env_variable("N", f"{unique}-{number}")
        await container.with_exec(["sh", "-c", script]).sync()

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(use, number)
