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


@pytest.mark.parametrize("sharing", ["PRIVATE", "LOCKED"])
async def test_one_that_is_not_shared_is_never_two_execs_at_once(base, dag, unique, sharing):
    mounted = base.with_mounted_cache(
        "/c", dag.cache_volume(unique), sharing=dagger.CacheSharingMode[sharing]
    )
    script = (
        "mkdir /c/lock || exit 9; for i in 1 2 3 4 5; do ls /c > /dev/null; done; rmdir /c/lock"
    )

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            container = mounted.with_env_variable("N", f"{unique}-{number}")
            tasks.start_soon(container.with_exec(["sh", "-c", script]).sync)


async def test_a_shared_volume_is_used_by_two_execs_at_once(base, dag, unique):
    mounted = base.with_mounted_cache(
        "/c", dag.cache_volume(unique), sharing=dagger.CacheSharingMode.SHARED
    )
    meet = "touch /c/$0; for i in $(seq 600); do test -e /c/$1 && exit; sleep 0.1; done; exit 1"
    async with anyio.create_task_group() as tasks:
        for mine, other in (("a", "b"), ("b", "a")):
            tasks.start_soon(mounted.with_exec(["sh", "-c", meet, mine, other]).sync)


async def test_a_volume_is_the_same_at_another_path(base, dag, unique):
    volume = dag.cache_volume(unique)
    await base.with_mounted_cache("/one", volume).with_exec(["touch", "/one/f"]).sync()
    other = base.with_mounted_cache("/two", volume).with_exec(["ls", "/two"])
    assert await other.stdout() == "f\n"


async def test_a_volume_is_the_same_by_its_key(base, dag, unique):
    first = base.with_mounted_cache("/c", dag.cache_volume(unique))
    await first.with_exec(["touch", "/c/f"]).sync()
    second = base.with_env_variable("O", unique).with_mounted_cache("/c", dag.cache_volume(unique))
    assert await second.with_exec(["ls", "/c"]).stdout() == "f\n"


async def test_what_a_failed_exec_left_in_a_volume_stays(base, dag, unique):
    mounted = base.with_mounted_cache("/c", dag.cache_volume(unique))
    with pytest.raises(dagger.ExecError):
        await mounted.with_exec(["sh", "-c", "echo kept > /c/f; exit 1"]).sync()
    assert await mounted.with_exec(["cat", "/c/f"]).stdout() == "kept\n"


async def test_what_is_removed_from_a_volume_stays_removed(base, dag, unique):
    mounted = base.with_mounted_cache("/c", dag.cache_volume(unique))
    ran = mounted.with_exec(["sh", "-c", "mkdir /c/d; touch /c/d/f /c/g"])
    ran = ran.with_exec(["rm", "-r", "/c/d"])
    assert await ran.with_exec(["ls", "/c"]).stdout() == "g\n"


async def test_a_source_does_not_come_back_over_what_was_written(base, dag, unique):
    source = dag.directory().with_new_file("f", "seed")
    mounted = base.with_mounted_cache("/c", dag.cache_volume(unique), source=source)
    await mounted.with_exec(["sh", "-c", "echo written > /c/f"]).sync()
    again = mounted.with_env_variable("O", unique).with_exec(["cat", "/c/f"])
    assert await again.stdout() == "written\n"


@pytest.mark.usefixtures("_owners")
async def test_a_volume_belongs_to_whom_was_asked_for(base, dag, unique):
    mounted = base.with_mounted_cache("/c", dag.cache_volume(unique), owner="nobody:nogroup")
    ran = mounted.with_user("nobody").with_exec(["sh", "-c", "touch /c/f; stat -c %U:%G /c"])
    assert await ran.stdout() == "nobody:nogroup\n"


async def test_a_file_of_a_volume_cannot_be_taken_out(base, dag, unique):
    ran = base.with_mounted_cache("/c", dag.cache_volume(unique)).with_exec(["touch", "/c/f"])
    with pytest.raises(dagger.QueryError):
        await ran.file("/c/f").contents()


async def test_a_volume_hides_what_is_below(base, dag, unique):
    made = base.with_new_file("/c/below", "").with_mounted_cache("/c", dag.cache_volume(unique))
    assert await made.with_exec(["ls", "/c"]).stdout() == ""
    assert await made.without_mount("/c").with_exec(["ls", "/c"]).stdout() == "below\n"
