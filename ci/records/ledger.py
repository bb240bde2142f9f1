"""The ledger: every delivery that was ever tried, one JSON line each, only ever appended to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from ci.errors import CiError
from ci.values import DeliveryRecord, Outcome, Value

__all__ = ["FILE_NAME", "Damage", "Ledger", "LedgerEntry", "LedgerReading"]

FILE_NAME = "ledger.jsonl"


class LedgerEntry(Value):
    """One line: a delivery, the run that made it, and when it was written down."""

    schema_version: Literal[1] = 1
    #: Empty for a delivery outside a run: ``ci rollback``.
    run: str = ""
    recorded_at: AwareDatetime
    delivery: DeliveryRecord


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A line that is no entry: torn by a crash in mid-write, or edited. It is never removed."""

    line: int
    reason: str
    #: It is the last line and has no end: an append that a crash cut off.
    torn: bool = False


@dataclass(frozen=True, kw_only=True)
class LedgerReading:
    """What the ledger holds, oldest first, and what in it could not be read."""

    entries: tuple[LedgerEntry, ...] = ()
    damage: tuple[Damage, ...] = ()

    def last_good(self, environment: str) -> LedgerEntry | None:
        """The newest delivery to ``environment`` that passed."""
        for entry in reversed(self.entries):
            delivery = entry.delivery
            if delivery.environment == environment and delivery.outcome is Outcome.PASSED:
                return entry
        return None


class Ledger:
    """The file at ``path``. Several processes may append to and read it at once.

    An entry is on the disk when ``append`` returns. A crash in mid-write leaves at most one torn
    line, which later appends keep apart from themselves and readings report.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: LedgerEntry) -> None:
        """Add one line.

        Raises:
            CiError: the file cannot be written.
        """
        line = entry.model_dump_json().encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked(os.O_RDWR | os.O_CREAT | os.O_APPEND, fcntl.LOCK_EX) as file:
                if _is_torn(file):
                    line = b"\n" + line
                _write_all(file, line)
                os.fsync(file)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise CiError(f"{self.path}: ledger not written", got=str(error)) from error

    def read(self) -> LedgerReading:
        """All entries; an absent file is an empty ledger.

        Raises:
            CiError: the file is there and cannot be read.
        """
        try:
            with self._locked(os.O_RDONLY, fcntl.LOCK_SH) as file:
                content = _read_all(file)
        except FileNotFoundError:
            return LedgerReading()
        except OSError as error:
            raise CiError(f"{self.path}: ledger not read", got=str(error)) from error
        return parse(content)

    @contextmanager
    def _locked(self, flags: int, lock: int) -> Iterator[int]:
        file = os.open(self.path, flags | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, lock)
            yield file
        finally:
            os.close(file)


def parse(content: bytes) -> LedgerReading:
    """The entries in these bytes; a line that is none becomes damage, not an error."""
    entries: list[LedgerEntry] = []
    damage: list[Damage] = []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entries.append(LedgerEntry.model_validate_json(line))
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            damage.append(Damage(line=number, reason=reason, torn=number == len(lines)))
    return LedgerReading(entries=tuple(entries), damage=tuple(damage))


def _is_torn(file: int) -> bool:
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


def _write_all(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def _read_all(file: int) -> bytes:
    return b"".join(iter(lambda: os.read(file, 1 << 20), b""))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
