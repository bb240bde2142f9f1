"""What the last runs of a folder did, kept in the store: few of them, and small."""

from __future__ import annotations

from ci.engine.store.records import Record
from ci.engine.store.store import Store
from ci.engine.why.step import Steps

__all__ = ["History"]

_RUNS = 4


class History:
    """The last runs that were started in ``place`` (a folder)."""

    def __init__(self, store: Store, place: str) -> None:
        self._store = store
        self._place = place

    def add(self, run: Steps) -> None:
        """Keep a run in the place of the oldest."""
        number = self._last() + 1
        self._store.put("run", self._key(number), run.record())
        self._store.put("runs", self._place, {"last": number})

    def runs(self) -> list[Steps]:
        """Those that are kept, newest first."""
        last = self._last()
        found = []
        for number in range(last, max(0, last - _RUNS), -1):
            record = self._store.get("run", self._key(number))
            run = _read(record) if record is not None else None
            if run is not None:
                found.append(run)
        return found

    def _last(self) -> int:
        record = self._store.get("runs", self._place)
        last = record.get("last") if record is not None else None
        return last if isinstance(last, int) else 0

    def _key(self, number: int) -> str:
        return f"{self._place}\0{number % _RUNS}"


def _read(record: Record) -> Steps | None:
    """None for a record that another version wrote."""
    try:
        return Steps.of(record)
    except (KeyError, TypeError, AttributeError):
        return None
