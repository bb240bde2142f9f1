from pathlib import Path

import pytest

from ci.findings import coverage
from ci.findings.report import ReportError
from ci.values import Coverage

REPORTS = Path(__file__).parent / "reports"


@pytest.mark.parametrize("name", ["coverage.json", "cobertura.xml"])
def test_either_format_gives_the_same_coverage(name):
    found = coverage.parse((REPORTS / name).read_text())
    assert found == Coverage(lines_covered=4, lines_total=7)


def test_branches_count():
    text = '<coverage lines-valid="8" lines-covered="6" branches-valid="2" branches-covered="1"/>'
    assert coverage.parse(text).percent == 70.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "<html/>",
        '<coverage lines-valid="1"/>',
        '<coverage lines-valid="1" lines-covered="-1"/>',
        '<coverage lines-valid="1" lines-covered="2"/>',
        '{"totals": {"covered_lines": 3, "num_statements": 2}}',
        '{"totals": {"covered_lines": 3}}',
        (REPORTS / "coverage.json").read_text()[:-30],
        (REPORTS / "cobertura.xml").read_text()[:-30],
    ],
)
def test_a_report_that_cannot_be_read_is_an_error(text):
    with pytest.raises(ReportError, match=r"cannot be read: got .*; expected .*"):
        coverage.parse(text)
