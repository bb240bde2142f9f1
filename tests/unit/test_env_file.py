"""What a .env file says: quotes, references, comments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.engine.api.env_file import parsed, values
from ci.engine.refusal import Refusal


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("  export A = 1  ", "1"),
        ("A=", ""),
        ("A=a=b", "a=b"),
        ("A='$B \\n'", "$B \\n"),
        ('A="$B"', "b"),
        ("A=${B}c", "bc"),
        ("A=$B-$NONE.", "b-."),
        ("A=${NONE:-other}", "other"),
        ("A=\\$B", "$B"),
        ("A='it", "'it"),
    ],
)
def test_a_value_is_what_a_shell_would_make_of_it(line, value):
    assert dict(values(parsed(f"B=b\n# a comment\n\n{line}\n")))["A"] == value


def test_a_reference_is_to_what_stands_before_it():
    assert values(parsed("A=$B\nB=1\nC=$B\nB=2\nD=$B")) == [
        ("A", ""), ("B", "1"), ("C", "1"), ("B", "2"), ("D", "2"),
    ]  # fmt: skip


def test_a_line_without_an_equals_sign_is_named():
    with pytest.raises(Refusal, match=r"env file, line 2: got no '='; expected NAME=value"):
        parsed("A=1\nnonsense\n")


@given(st.text())
def test_any_text_is_variables_or_refused(text):
    try:
        found = values(parsed(text))
    except Refusal:
        return
    assert all(name and "=" not in name for name, _ in found)
