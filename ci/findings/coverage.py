"""Coverage reports, coverage.py's JSON or Cobertura XML, become ``Coverage``.

Sources: https://coverage.readthedocs.io/en/latest/cmd.html#json-reporting-coverage-json and the
Cobertura DTD ``coverage-04.dtd``.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pydantic import BaseModel, Field

from ci.findings.report import ReportError, read_json
from ci.values import Coverage

__all__ = ["parse"]

_EXPECTED = "coverage.py's JSON or Cobertura XML"


class _Totals(BaseModel):
    covered_lines: int = Field(ge=0)
    num_statements: int = Field(ge=0)
    covered_branches: int = Field(default=0, ge=0)
    num_branches: int = Field(default=0, ge=0)


class _Report(BaseModel):
    totals: _Totals


def parse(text: str, *, subject: str = "the coverage report") -> Coverage:
    """Lines and branches covered; the format is told from the first character.

    Raises:
        ReportError: it is neither format, or counts more covered than there is.
    """
    coverage = (_xml if text.lstrip().startswith("<") else _json)(text, subject)
    if (
        coverage.lines_covered > coverage.lines_total
        or coverage.branches_covered > coverage.branches_total
    ):
        raise ReportError(subject, got="more covered than there is", expected=_EXPECTED)
    return coverage


def _json(text: str, subject: str) -> Coverage:
    totals = read_json(text, _Report, subject=subject, expected=_EXPECTED).totals
    return Coverage(
        lines_covered=totals.covered_lines,
        lines_total=totals.num_statements,
        branches_covered=totals.covered_branches,
        branches_total=totals.num_branches,
    )


def _xml(text: str, subject: str) -> Coverage:
    try:
        root = fromstring(text)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise ReportError(subject, got=f"no XML: {error!r}", expected=_EXPECTED) from error
    if root.tag != "coverage":
        raise ReportError(subject, got=f"<{root.tag}>", expected="<coverage>")
    return Coverage(
        lines_covered=_count(root, "lines-covered", subject),
        lines_total=_count(root, "lines-valid", subject),
        branches_covered=_count(root, "branches-covered", subject, default="0"),
        branches_total=_count(root, "branches-valid", subject, default="0"),
    )


def _count(root: Element, name: str, subject: str, *, default: str = "") -> int:
    value = root.get(name, default)
    if not value.isdecimal():
        got = f'{name}="{value}"'
        raise ReportError(subject, got=got, expected=f"a whole number in {name}")
    return int(value)
