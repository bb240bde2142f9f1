"""The folder of a run, ``.towpath/runs/<id>/``, and how it comes to be whole.

::

    runs/
      latest -> 20260131T142530123Z-9f3a1c
      20260131T142530123Z-9f3a1c/
        run.json          the record; written last: a folder without it is a run that was killed
        report.html       the same, to read
        findings.sarif    all findings
        <stage>/<file>    what each stage reported: junit.xml, coverage.xml, sbom.cdx.json ...
        log               output of the run
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ci.errors import CiError
from ci.records.report import render
from ci.records.run import FILE_NAME, RunRecord

__all__ = ["LATEST", "REPORT_NAME", "latest_run", "list_runs", "write_run"]

LATEST = "latest"
REPORT_NAME = "report.html"


def write_run(
    runs: Path, record: RunRecord, reports: Mapping[str, str | bytes] | None = None
) -> Path:
    """Write the run's folder into ``runs`` and point ``latest`` at it; the folder.

    ``reports`` maps paths relative to the run's folder to their content. Each file appears whole,
    ``run.json`` last. Files that are there already (a log that was streamed) stay.

    Raises:
        CiError: a path leads out of the folder, or the disk does not take it.
    """
    folder = runs / record.id
    files = {_inside(name): content for name, content in (reports or {}).items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            _write(folder / name, content)
        _write(folder / REPORT_NAME, render(record))
        record.save(folder)
        _point(runs / LATEST, record.id)
    except OSError as error:
        raise CiError(
            f"{folder}: reports not written",
            got=error.strerror or str(error),
            hint="free some space"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "run it in a folder that can be written, with --source=FOLDER",
        ) from error
    return folder


def list_runs(runs: Path) -> list[Path]:
    """The folders of the runs that were written to their end, oldest first."""
    if not runs.is_dir():
        return []
    return sorted(
        path
        for path in runs.iterdir()
        if not path.is_symlink() and not path.name.startswith(".") and (path / FILE_NAME).is_file()
    )


def latest_run(runs: Path) -> Path | None:
    """The folder of the newest run that was written to its end."""
    found = list_runs(runs)
    return found[-1] if found else None


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise CiError("report name", got=repr(name), expected="a relative path without '..'")
    if str(path) in {FILE_NAME, REPORT_NAME}:
        raise CiError("report name", got=repr(name), expected="a name that the run does not use")
    return path


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _point(link: Path, name: str) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.replace(link)
