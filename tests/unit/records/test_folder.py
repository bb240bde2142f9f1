from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ci.errors import CiError
from ci.records.folder import latest_run, list_runs, write_run
from ci.records.run import RunRecord, new_run_id
from tests.unit.records.samples import START, passed_run


def run_at(seconds: int) -> RunRecord:
    return passed_run().model_copy(update={"id": new_run_id(START + timedelta(seconds=seconds))})


def test_a_run_folder_holds_the_record_the_page_and_every_report(tmp_path: Path):
    record = passed_run()
    reports: dict[str, str | bytes] = {
        "lint/lint.sarif": "{}",
        "sbom/sbom.cdx.json": b"{ }",
        "log": "caf\xe9\n",
    }
    folder = write_run(tmp_path / "runs", record, reports)
    assert folder.name == record.id
    assert RunRecord.load(folder) == record
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert (folder / "lint/lint.sarif").read_text() == "{}"
    assert (folder / "sbom/sbom.cdx.json").read_bytes() == b"{ }"
    assert (folder / "log").read_text() == "caf\xe9\n"
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 5


def test_latest_points_at_the_run_that_was_written_last(tmp_path: Path):
    for seconds in (0, 1):
        folder = write_run(tmp_path, run_at(seconds))
        assert (tmp_path / "latest").resolve() == folder
    assert not (tmp_path / "latest").readlink().is_absolute()


def test_files_that_were_there_before_stay(tmp_path: Path):
    record = passed_run()
    (tmp_path / record.id).mkdir()
    (tmp_path / record.id / "log").write_text("streamed")
    assert (write_run(tmp_path, record) / "log").read_text() == "streamed"


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a/../../b", "", ".", "run.json", "a\0b", "report.html"]
)
def test_a_report_cannot_leave_the_folder_or_replace_the_record(tmp_path: Path, name: str):
    with pytest.raises(CiError, match="report name"):
        write_run(tmp_path / "runs", passed_run(), {name: "x"})
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_killed_is_no_run(tmp_path: Path):
    assert latest_run(tmp_path / "absent") is None
    first = write_run(tmp_path, run_at(0))
    killed = tmp_path / run_at(5).id
    killed.mkdir()
    (killed / "log").write_text("half")
    assert list_runs(tmp_path) == [first]
    assert latest_run(tmp_path) == first


def test_a_disk_that_takes_nothing_is_an_error_that_says_so(tmp_path: Path):
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(CiError, match=r"reports not written: got .*\nhint: run it in a folder"):
        write_run(tmp_path / "runs", passed_run())


def test_text_that_is_not_valid_unicode_is_written_as_it_came(tmp_path: Path):
    raw = b"caf\xe9".decode("utf-8", "surrogateescape")
    folder = write_run(tmp_path, passed_run(), {"log": raw})
    assert (folder / "log").read_bytes() == b"caf\xe9"
