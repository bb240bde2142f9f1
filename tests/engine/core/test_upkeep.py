"""A store keeps within its limit by itself, looks seldom, and takes nothing that is in use."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from ci.engine.session import Session
from ci.engine.store.prune import Usage, usage
from ci.engine.store.store import Store
from ci.engine.store.upkeep import tend

MEGABYTE = 1 << 20


def fill(store: Store, number: int) -> None:
    """A layer of one megabyte, used ``100 - number`` seconds ago."""
    folder = store.temporary()
    (folder / "data").write_bytes(os.urandom(MEGABYTE))
    store.put("kind", f"key-{number}", {"layers": [store.add_layer(folder)]})
    path = store.record_path("kind", f"key-{number}")
    when = path.stat().st_mtime - 100 + number
    os.utime(path, (when, when))


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    with Store(tmp_path) as store:
        for number in range(6):
            fill(store, number)
    return tmp_path


def kept(store: Store) -> list[int]:
    return [n for n in range(6) if store.record_path("kind", f"key-{n}").exists()]


def test_one_that_is_too_large_loses_what_was_used_longest_ago(filled: Path) -> None:
    with Store(filled) as store:
        gone = tend(store, 5 * MEGABYTE)
        assert gone is not None
        assert kept(store) == [3, 4, 5]
        assert usage(store).total_bytes <= 4 * MEGABYTE


def test_one_within_its_limit_is_left_alone(filled: Path) -> None:
    with Store(filled) as store:
        assert tend(store, 7 * MEGABYTE) is None
        assert tend(store, None) is None
        assert kept(store) == [0, 1, 2, 3, 4, 5]


def test_it_is_looked_at_once_a_minute_and_measured_once_a_day(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Store] = []

    def measure(store: Store) -> Usage:
        measured.append(store)
        return usage(store)

    monkeypatch.setattr("ci.engine.store.upkeep.usage", measure)
    looks = []
    with Store(filled) as store:
        for moment in (1e9, 1e9 + 30, 1e9 + 90, 1e9 + 100_000):
            tend(store, 7 * MEGABYTE, now=partial(float, moment))
            looks.append(len(measured))
    assert looks == [1, 1, 1, 2]


def test_what_it_grew_by_since_is_seen_without_a_measure(filled: Path) -> None:
    with Store(filled) as store:
        assert tend(store, 7 * MEGABYTE, now=lambda: 1e9) is None
        for number in range(2):
            fill(store, -number)
    with Store(filled) as store:
        gone = tend(store, 7 * MEGABYTE, now=lambda: 1e9 + 90)
        assert gone is not None
        assert usage(store).total_bytes <= 7 * MEGABYTE


def test_what_a_living_process_uses_stays_however_large(filled: Path) -> None:
    with Store(filled) as user, Store(filled) as store:
        assert user.get("kind", "key-0") is not None
        tend(store, 2 * MEGABYTE)
        assert 0 in kept(store)


async def test_a_session_tends_its_store_at_its_end(filled: Path) -> None:
    async with Session(cache=filled, cache_max=3 * MEGABYTE):
        pass
    with Store(filled) as store:
        assert usage(store).total_bytes <= 3 * MEGABYTE
