"""What runs on this machine, and what answers."""

from pathlib import Path

import httpx

from ci.deploy.targets.local.launch import identity


async def get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.get(url)


async def version_at(url: str) -> str:
    return str((await get(url + "/ready")).json()["version"])


def processes_of(folder: Path) -> dict[int, str]:
    """Command lines, by pid, of the living processes that name a path in the folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line and identity(process.name):
            found[int(process.name)] = line
    return found


def pid_of(folder: Path, word: str) -> int:
    """The one process of the folder whose command line has that word."""
    (pid,) = [pid for pid, line in processes_of(folder).items() if word in line]
    return pid
