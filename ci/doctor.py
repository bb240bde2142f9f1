"""What this machine can and cannot do, and what to do about it: ``ci doctor``."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import anyio

from ci.errors import CiError
from ci.settings import Settings

__all__ = ["Check", "Health", "examine"]

#: Seconds that a host on the network has to accept a connection.
_REACH = 3.0
#: Bytes of free disk below which a first run is likely to fill it.
_ROOM = 5 * 1024**3
#: Versions of Dagger's CLI that hide a function named ``pipeline``: from this one on.
_HIDES_PIPELINE = (0, 20, 4)


class Health(StrEnum):
    """How a check came out."""

    GOOD = "good"
    #: Works, with something less.
    LIMITED = "limited"
    #: The embedded engine does not work without it.
    MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the examination."""

    name: str
    health: Health
    found: str
    hint: str = ""


async def examine(settings: Settings) -> Sequence[Check]:
    """Every check, in the order to read them; those on the network run at once."""
    local = [_python(), _sandbox(), _limits(), *await _network()]
    local += [_disk(settings.cache), _recipes()]
    remote: list[Check | None] = [None] * 3
    async with anyio.create_task_group() as group:
        for index, probe in enumerate((_docker_hub, _database, _dagger_cli)):
            group.start_soon(_into, remote, index, probe)
    return [*local, *(check for check in remote if check)]


async def _into(
    results: list[Check | None], index: int, probe: Callable[[], Awaitable[Check]]
) -> None:
    results[index] = await probe()


def _python() -> Check:
    return Check(
        name="python", health=Health.GOOD, found=f"{platform.python_version()} ({sys.executable})"
    )


def _sandbox() -> Check:
    from ci.engine.sandbox.argv import Mode  # noqa: PLC0415 - an extra, maybe not installed
    from ci.engine.sandbox.box import Sandbox  # noqa: PLC0415

    meanings = {
        Mode.ROOT: "owners of files are what they are",
        Mode.ONE_UID: "all files are this user's; changes of owner succeed without effect",
    }
    sandbox = Sandbox()
    try:
        mode = sandbox.mode()
    except CiError as error:
        found = f"{error.subject}: {error.got}"
        return Check(name="sandbox", health=Health.MISSING, found=found, hint=error.hint)
    finally:
        sandbox.close()
    return Check(name="sandbox", health=Health.GOOD, found=f"{mode.value}: {meanings[mode]}")


def _limits() -> Check:
    from ci.engine.sandbox.groups import (  # noqa: PLC0415 - an extra, maybe not installed
        ControlGroups,
    )

    groups = ControlGroups.open()
    if groups is not None:
        groups.close()
        return Check(name="limits", health=Health.GOOD, found=f"control groups, {groups}")
    return Check(
        name="limits",
        health=Health.LIMITED,
        found="no control groups: TOWPATH_MEMORY is for each process, TOWPATH_PROCESSES for a user",
        hint="run within `systemd-run --user --scope -p Delegate=yes`, or as root",
    )


async def _network() -> list[Check]:
    from ci.engine.services.network import (  # noqa: PLC0415 - an extra, maybe not installed
        NetworkUnavailable,
        private_network,
    )

    try:
        async with private_network() as network:
            way_out = _way_out(has_gateway=bool(network.resolver))
            return [_private_network(is_apart=network.is_apart), way_out]
    except NetworkUnavailable as error:
        private = Check(
            name="private network",
            health=Health.LIMITED,
            found=error.got or error.subject,
            hint="services use the host's ports: two runs at once may fight over one",
        )
        return [private]


def _private_network(*, is_apart: bool) -> Check:
    if not is_apart:
        return Check(
            name="private network",
            health=Health.LIMITED,
            found="each session has its own, but its services share one loopback: no bridges",
            hint="modprobe bridge veth, so that two services of one run may have the same port",
        )
    return Check(
        name="private network",
        health=Health.GOOD,
        found="each session has its own, so two runs may use the same ports, and two services too",
    )


def _way_out(*, has_gateway: bool) -> Check:
    if has_gateway:
        return Check(
            name="way out",
            health=Health.GOOD,
            found="slirp4netns: commands that bind services reach all that this machine does",
        )
    return Check(
        name="way out",
        health=Health.LIMITED,
        found="commands that bind services reach others by an HTTP proxy: "
        "programs that heed http_proxy, no others (Java, ssh, databases elsewhere)",
        hint="apt-get install slirp4netns, and see that /dev/net/tun is there",
    )


def _disk(cache: Path) -> Check:
    folder = next(each for each in (cache, *cache.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / 1024**3:.1f} GiB free for {cache}"
    if free >= _ROOM:
        return Check(name="disk", health=Health.GOOD, found=found)
    return Check(
        name="disk",
        health=Health.LIMITED,
        found=found,
        hint="free some with `ci engine prune`, or set TOWPATH_CACHE to a larger disk",
    )


def _recipes() -> Check:
    if path := shutil.which("mmdebstrap"):
        return Check(name="image recipes", health=Health.GOOD, found=path)
    return Check(
        name="image recipes",
        health=Health.LIMITED,
        found="no mmdebstrap, so no stand-ins for images that no registry gives",
        hint="apt-get install mmdebstrap",
    )


async def _docker_hub() -> Check:
    if await _reaches("registry-1.docker.io"):
        return Check(name="container registry", health=Health.GOOD, found="Docker Hub answers")
    return Check(
        name="container registry",
        health=Health.LIMITED,
        found="Docker Hub cannot be reached",
        hint="images come from the store, or stand-ins are made by recipe and the report says so",
    )


async def _database() -> Check:
    if await _reaches("ghcr.io"):
        return Check(
            name="vulnerability database", health=Health.GOOD, found="the official one can be had"
        )
    return Check(
        name="vulnerability database",
        health=Health.LIMITED,
        found="ghcr.io cannot be reached",
        hint="give one with --database or [database] in ci.toml; without, scans are errored",
    )


async def _dagger_cli() -> Check:
    name = "dagger CLI"
    path = shutil.which("dagger")
    if not path:
        return Check(name=name, health=Health.GOOD, found="not installed; `ci` does not need it")
    result = await anyio.run_process([path, "version"], check=False)
    text = result.stdout.decode(errors="replace").strip()
    version = re.search(r"v(\d+)\.(\d+)\.(\d+)", text)
    if version and tuple(map(int, version.groups())) >= _HIDES_PIPELINE:
        return Check(
            name=name,
            health=Health.LIMITED,
            found=f"{text}: hides functions named `pipeline`",
            hint="type `dagger -c pipeline` or `dagger call run verdict`, or install v0.20.3",
        )
    return Check(name=name, health=Health.GOOD, found=text)


async def _reaches(host: str) -> bool:
    """A TCP connection to its HTTPS port is accepted in time."""
    try:
        with anyio.fail_after(_REACH):
            stream = await anyio.connect_tcp(host, 443)
    except (OSError, TimeoutError):
        return False
    await stream.aclose()
    return True
