from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.errors import CiError
from ci.records.run import RunRecord, new_run_id
from tests.unit.records.samples import START, failed_run, passed_run


@pytest.mark.parametrize("make", [passed_run, failed_run])
def test_a_saved_record_is_loaded_unchanged(make, tmp_path: Path):
    record = make()
    record.save(tmp_path)
    assert RunRecord.load(tmp_path) == record
    assert RunRecord.load(tmp_path / "run.json") == record


def test_saving_leaves_nothing_but_the_record(tmp_path: Path):
    passed_run().save(tmp_path)
    passed_run().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=20, unique=True))
def test_run_ids_sort_by_time(milliseconds: list[int]):
    times = sorted(START + timedelta(milliseconds=each) for each in milliseconds)
    ids = [new_run_id(time) for time in times]
    assert sorted(ids) == ids


def test_runs_of_the_same_instant_have_different_ids():
    assert len({new_run_id(START) for _ in range(50)}) == 50


def test_a_record_says_its_version_and_times_in_utc(tmp_path: Path):
    data = json.loads(passed_run().save(tmp_path).read_text())
    assert data["schema_version"] == 1
    assert data["started_at"].endswith("Z")


def test_a_later_version_is_refused_by_number(tmp_path: Path):
    path = passed_run().save(tmp_path)
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"schema_version": 2}))
    with pytest.raises(CiError, match=r"schema_version: got 2; expected 1\nhint: "):
        RunRecord.load(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"schema_version": 1, "id": ', "not readable as JSON"),
        ("[]", "schema_version"),
        ('{"schema_version": 1}', "id: got Field required"),
    ],
)
def test_what_is_no_record_is_an_error_that_says_where(tmp_path: Path, content: str, says: str):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(CiError, match=re.escape(says)):
        RunRecord.load(tmp_path)


def test_an_absent_record_is_an_error(tmp_path: Path):
    with pytest.raises(CiError, match="no run record"):
        RunRecord.load(tmp_path)


def test_findings_come_most_severe_first():
    severities = [finding.severity.rank for _, finding in failed_run().findings()]
    assert len(severities) == 4
    assert severities == sorted(severities, reverse=True)


def test_a_node_is_cached_when_every_command_was():
    node = passed_run(cached=True).nodes[0]
    assert node.cached
    assert not node.model_copy(update={"cached_execs": 1}).cached
    assert not node.model_copy(update={"execs": 0, "cached_execs": 0}).cached


def test_the_published_schema_is_the_one_of_the_code():
    published = json.loads(Path("docs/run.schema.json").read_text())
    assert published == RunRecord.model_json_schema()
