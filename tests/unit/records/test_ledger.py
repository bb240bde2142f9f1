from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ci.errors import CiError
from ci.records.ledger import Ledger, LedgerEntry
from ci.values import DeliveryRecord, Outcome
from tests.unit.records.samples import START


def entry(number: int, outcome: Outcome = Outcome.PASSED) -> LedgerEntry:
    delivery = DeliveryRecord(environment="staging", outcome=outcome, reason=str(number))
    return LedgerEntry(run="", recorded_at=START, delivery=delivery)


def test_entries_are_read_in_the_order_of_their_deliveries(tmp_path: Path):
    ledger = Ledger(tmp_path / "state" / "ledger.jsonl")
    entries = tuple(entry(number) for number in range(3))
    for each in entries:
        ledger.append(each)
    assert ledger.read().entries == entries
    assert ledger.read().damage == ()


def test_an_absent_ledger_is_empty(tmp_path: Path):
    assert Ledger(tmp_path / "ledger.jsonl").read().entries == ()


@pytest.mark.parametrize("cut", [2, 20, 100])
def test_a_torn_line_is_reported_and_spoils_no_other(tmp_path: Path, cut: int):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(entry(0))
    ledger.append(entry(1))
    ledger.path.write_bytes(ledger.path.read_bytes()[:-cut])
    reading = ledger.read()
    assert reading.entries == (entry(0),)
    assert [(each.line, each.torn) for each in reading.damage] == [(2, True)]
    ledger.append(entry(2))
    reading = ledger.read()
    assert reading.entries == (entry(0), entry(2))
    assert [(each.line, each.torn) for each in reading.damage] == [(2, False)]


def test_a_line_that_lacks_only_its_end_is_whole(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(entry(0))
    ledger.path.write_bytes(ledger.path.read_bytes().rstrip())
    assert ledger.read().entries == (entry(0),)
    ledger.append(entry(1))
    assert ledger.read().entries == (entry(0), entry(1))
    assert ledger.read().damage == ()


def test_a_line_that_was_tampered_with_is_reported_and_kept(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(entry(0))
    ledger.path.write_bytes(b'{"schema_version": 1, "more": 2}\n' + ledger.path.read_bytes())
    assert [each.line for each in ledger.read().damage] == [1]
    ledger.append(entry(1))
    assert len(ledger.read().entries) == 2
    assert b'"more"' in ledger.path.read_bytes()


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path):
    path = tmp_path / "ledger.jsonl"
    program = (
        "import sys; from pathlib import Path; from ci.records.ledger import Ledger;"
        "from tests.unit.records.test_ledger import entry\n"
        "for number in range(25): Ledger(Path(sys.argv[1])).append(entry(number))"
    )
    command = [sys.executable, "-c", program, str(path)]
    writers = [subprocess.Popen(command) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    reading = Ledger(path).read()
    assert len(reading.entries) == 75
    assert reading.damage == ()


def test_the_last_good_delivery_is_the_newest_that_passed(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for number, outcome in enumerate((Outcome.PASSED, Outcome.PASSED, Outcome.FAILED)):
        ledger.append(entry(number, outcome))
    good = ledger.read().last_good("staging")
    assert good is not None
    assert good.delivery.reason == "1"
    assert ledger.read().last_good("production") is None


def test_a_ledger_that_cannot_be_written_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CiError, match="ledger not written"):
        Ledger(tmp_path / "file" / "ledger.jsonl").append(entry(0))
