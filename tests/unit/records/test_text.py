from __future__ import annotations

from datetime import timedelta

import pytest

from ci.records.text import (
    age,
    clean,
    command_line,
    duration,
    short_digest,
    size,
    web_address,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0124, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (72, "1 min 12 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_read_well_at_every_scale(seconds: float, text: str):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (141_234_567, "141 MB"), (2**40, "1100 GB")],
)
def test_sizes_are_decimal(count: int, text: str):
    assert size(count) == text


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(minutes=59), "fresh"),
        (timedelta(hours=1), "1 hour old"),
        (timedelta(hours=47), "47 hours old"),
        (timedelta(days=12, hours=5), "12 days old"),
    ],
)
def test_ages_are_in_the_unit_that_matters(span: timedelta, text: str):
    assert age(span) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("10%\r50%\r100%\n", "100%\n"),
        ("one\r\ntwo", "one\ntwo"),
        ("tab\tstays\x00", "tab\tstays"),
        ("abc\u202edef", "abc\ufffddef"),
    ],
)
def test_text_of_a_tool_loses_what_acts_on_a_terminal(raw: str, text: str):
    assert clean(raw) == text


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//x", "http://a b", ""]
)
def test_only_web_addresses_become_links(url: str):
    assert web_address(url) == ""
    assert web_address("https://example.org/a?b=c") == "https://example.org/a?b=c"


def test_a_short_digest_keeps_the_algorithm():
    assert short_digest("sha256:" + "ab" * 32) == "sha256:abababababab"


def test_a_script_is_called_by_the_comment_that_heads_it():
    assert command_line(["sh", "-c", "# mypy .\nmkdir x\nmypy ."]) == "mypy ."
    assert command_line(("sh", "-c", "mkdir x\n# not a head")) == "sh -c mkdir x # not a head"
    assert command_line(["sh", "-c"]) == "sh -c"
