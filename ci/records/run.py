"""The record of one run: what ran, how it ended, why, and on what. Saved as ``run.json``.

Schema
    ``schema_version`` is a whole number that rises with every change of shape, additions too.
    A reader takes its own version and earlier ones, and refuses later ones by name. Times are
    UTC, ISO 8601. No path of a machine, user name or host name is in a record: paths are
    relative, to the source or to the run's folder. ``RunRecord.model_json_schema()`` is the
    schema as JSON Schema; a copy of it is ``docs/run.schema.json``.

    Version 1: the first.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError

from ci.errors import CiError
from ci.values import DeliveryRecord, Evidence, Finding, Outcome, Status, Value, Verdict

__all__ = [
    "FILE_NAME",
    "SCHEMA_VERSION",
    "CommandRecord",
    "EngineRecord",
    "ImageRecord",
    "NodeKind",
    "NodeRecord",
    "RunId",
    "RunRecord",
    "SourceRecord",
    "new_run_id",
]

SCHEMA_VERSION = 1
FILE_NAME = "run.json"

#: ``20260131T142530123Z-9f3a1c``: sorts by start time, to the millisecond.
RunId = Annotated[str, StringConstraints(pattern=r"^\d{8}T\d{9}Z-[0-9a-f]{6}$")]


def new_run_id(now: datetime, *, suffix: str = "") -> str:
    """An identifier that sorts by ``now``; ``suffix`` (6 hex digits) is random unless given."""
    utc = now.astimezone(UTC)
    stamp = f"{utc:%Y%m%dT%H%M%S}{utc.microsecond // 1000:03d}Z"
    return f"{stamp}-{suffix or secrets.token_hex(3)}"


class NodeKind(StrEnum):
    """What a node of the graph is."""

    STAGE = "stage"
    GATE = "gate"
    DELIVERY = "delivery"
    CLEANUP = "cleanup"


class SourceRecord(Value):
    """Which source was run; no path of it. Empty where the source is no git repository."""

    commit: str = ""
    branch: str = ""
    #: The work tree had changes that are not in ``commit``; None where nobody looked.
    dirty: bool | None = None
    #: Of the project, as it names itself.
    version: str = ""

    def named(self, digits: int) -> str:
        """The commit by its first digits, and that the source was not quite it; empty for none."""
        changed = " (with local changes)" if self.dirty else ""
        return f"{self.commit[:digits]}{changed}" if self.commit else ""


class EngineRecord(Value):
    """What executed the stages."""

    kind: Literal["embedded", "dagger"]
    version: str = ""
    #: Of the embedded engine: root, subuid or single-uid, with or without a network namespace.
    sandbox: str = ""


class ImageRecord(Value):
    """An image that the run was made with (not the one that it built)."""

    reference: str
    digest: str = ""
    #: Says what stood in for the image and why; empty where the image is the published one.
    stand_in: str = ""


class CommandRecord(Value):
    """A command that a node ran on the engine, as it ended."""

    args: tuple[str, ...]
    cached: bool = False
    seconds: float = 0.0
    #: None where it never ran to its end.
    exit_code: int | None = None


class NodeRecord(Value):
    """One node of the graph, and how it ended."""

    name: str
    kind: NodeKind = NodeKind.STAGE
    #: Names of the nodes that it waited for.
    needs: tuple[str, ...] = ()
    status: Status
    #: None where it never started.
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    #: How often it was begun: more than 1 after a retry, 0 where it never started.
    attempts: int = 0
    #: How many commands it ran on the engine, and how many of those came from the cache.
    execs: int = 0
    cached_execs: int = 0
    #: These commands, in the order in which they ended; empty where the engine does not tell.
    commands: tuple[CommandRecord, ...] = ()
    #: Why it did not pass, or was skipped; hints included.
    reason: str = ""
    evidence: Evidence | None = None
    #: Its report files, relative to the run's folder: ``lint/ruff.sarif``.
    reports: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it took; 0 where it never started."""
        if self.started_at is None or self.finished_at is None:
            return 0.0
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def cached(self) -> bool:
        """It ran commands, and every one came from the cache."""
        return self.execs > 0 and self.cached_execs == self.execs


class RunRecord(Value):
    """One execution of a pipeline. See the module for how its schema changes."""

    schema_version: Literal[1] = 1
    id: RunId
    pipeline: str
    started_at: AwareDatetime
    finished_at: AwareDatetime
    #: Version of Towpath.
    towpath: str = ""
    source: SourceRecord = SourceRecord()
    engine: EngineRecord
    images: tuple[ImageRecord, ...] = ()
    #: In the order of the graph: a node stands after all that it needs.
    nodes: tuple[NodeRecord, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    deliveries: tuple[DeliveryRecord, ...] = ()
    outcome: Outcome
    #: Why the run as a whole ended as it did, where no node says it: "interrupted".
    reason: str = ""
    exit_code: int = Field(ge=0, le=255)

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run."""
        return (self.finished_at - self.started_at).total_seconds()

    def findings(self) -> Iterable[tuple[str, Finding]]:
        """Each finding with the name of the node that found it, most severe first."""
        pairs = [
            (node.name, finding)
            for node in self.nodes
            if node.evidence
            for finding in node.evidence.findings
        ]
        return sorted(pairs, key=lambda pair: -pair[1].severity.rank)

    def save(self, folder: Path) -> Path:
        """Write ``run.json`` into ``folder``, whole or not at all; the file's path."""
        path = folder / FILE_NAME
        temporary = folder / f".{FILE_NAME}.{os.getpid()}"
        with temporary.open("w", encoding="utf-8") as file:
            file.write(self.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return path

    @classmethod
    def load(cls, path: Path) -> RunRecord:
        """The record in this file, or in the ``run.json`` of this folder.

        Raises:
            CiError: there is none, it is no record, or a later Towpath wrote it.
        """
        file = path / FILE_NAME if path.is_dir() else path
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CiError(f"{file}: no run record", hint="a run that was killed has none") from None
        except (OSError, ValueError) as error:
            raise CiError(f"{file}: not readable as JSON", got=str(error)) from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION:
            raise CiError(
                f"{file}: schema_version",
                got=repr(version),
                expected=str(SCHEMA_VERSION),
                hint="read it with the version of Towpath that wrote it",
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise CiError(f"{file}: {where}", got=first["msg"]) from error
