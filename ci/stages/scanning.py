"""What scanner stages share: texts of sources, counts in a line, files that were not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

import anyio
import dagger

from ci.findings.fingerprint import Draft, seal
from ci.values import Finding, Place, Severity

__all__ = ["VENDORED", "read", "texts", "told", "unread"]

#: Where other people's code lies: installed packages, environments.
VENDORED = [
    f"**/{name}" for name in (".venv", "node_modules", ".git", ".tox", ".nox", "site-packages")
]
#: Files that are read at once.
_AT_ONCE = 16


async def texts(source: dagger.Directory, findings: Iterable[Finding]) -> dict[str, str]:
    """The text of each file that a finding is in, by its path."""
    return await read(source, {finding.place.path for finding in findings if finding.place})


async def read(source: dagger.Directory, paths: Collection[str]) -> dict[str, str]:
    """The text of each of these files, by its path."""
    found: dict[str, str] = {}
    limit = anyio.CapacityLimiter(_AT_ONCE)

    async def one(path: str) -> None:
        async with limit:
            found[path] = await source.file(path).contents()

    async with anyio.create_task_group() as tasks:
        for path in sorted(paths):
            tasks.start_soon(one, path)
    return found


def told(findings: Iterable[Finding], looked_at: str) -> str:
    """One line: how many findings of which severity, in what."""
    counts = Counter(finding.severity for finding in findings)
    found = ", ".join(f"{counts[s]} {s.value}" for s in reversed(Severity) if counts[s])
    return f"{found or 'nothing found'} in {looked_at}"


def unread(scanner: str, problems: Iterable[str]) -> tuple[Finding, ...]:
    """A finding of unknown severity for each file that a scanner could not read.

    Which policy holds for a file that nobody looked into is the gate's to say; it is never clean.
    """
    drafts = []
    for problem in problems:
        path, _, rest = problem.partition(":")
        line = rest.partition(":")[0]
        drafts.append(
            Draft(
                Finding(
                    scanner=scanner,
                    rule="not-scanned",
                    severity=Severity.UNKNOWN,
                    message=f"not scanned: {problem}",
                    place=Place(path=path, line=int(line) if line.isdecimal() else None),
                    fingerprint="",
                )
            )
        )
    by_file = {draft.finding.place.path: draft for draft in reversed(drafts) if draft.finding.place}
    return seal(by_file.values())
