"""What a scanner's report says, and the one error for a report that cannot be read.

A report that cannot be parsed is never "no findings": every reader in this room raises
``ReportError`` instead of returning an empty result.
"""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ci.errors import CiError
from ci.values import Finding, Value

__all__ = ["ReportError", "ScanReport", "read_json"]

ModelT = TypeVar("ModelT", bound=BaseModel)


class ReportError(CiError):
    """A tool's report is missing, cut off, or not of the format it should have."""

    def __init__(self, subject: str, *, got: str, expected: str) -> None:
        super().__init__(
            f"{subject} cannot be read",
            got=got,
            expected=expected,
            hint="the tool did not finish, or its version writes another format; see its log",
        )


class ScanReport(Value):
    """One scanner's report, normalised."""

    #: As the report names itself: ``ruff``, ``bandit``, ``zizmor``, ``gitleaks``, ``trivy``.
    scanner: str
    version: str = ""
    findings: tuple[Finding, ...] = ()
    #: What the scanner could not look at, in its own words; a stage that is to fail closed is
    #: errored by these.
    problems: tuple[str, ...] = ()


def read_json(text: str, model: type[ModelT], *, subject: str, expected: str) -> ModelT:
    """Parse ``text`` as ``model``.

    Raises:
        ReportError: it is empty, no JSON, or lacks what ``model`` needs.
    """
    if not text.strip():
        raise ReportError(subject, got="an empty report", expected=expected)
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ReportError(subject, got=f"no JSON: {error}", expected=expected) from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ReportError(subject, got=f"{where}: {first['msg']}", expected=expected) from error
