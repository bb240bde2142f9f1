"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from hypothesis import settings

#: The same examples each time, so that what failed fails again; without --need-all, new ones.
settings.register_profile("repeatable", derandomize=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make test` installs what tests need, and then has none of them skipped for want of it."""
    parser.addoption(
        "--need-all",
        action="store_true",
        help='fail what is skipped because something is missing that could be installed ("needs")',
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Soak tests run where they are asked for by name only."""
    if "soak" in config.getoption("markexpr"):
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    if soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if item not in soak]


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module makes settings of its own."""
    if config.getoption("--need-all"):
        settings.load_profile("repeatable")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail such a skip. Others, for another kind of machine or engine, are listed at the end."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason.startswith("needs ") and item.config.getoption("--need-all"):
            report.outcome = "failed"
            report.longrepr = f"skipped: {reason}"
    return report
