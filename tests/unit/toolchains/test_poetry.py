"""Poetry's constraints in the words of PEP 440 and PEP 508."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ci.toolchains.poetry import requirements, specifier


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        ("^1.2.3", ">=1.2.3,<2"),
        ("^0.2.3", ">=0.2.3,<0.3"),
        ("^0.0.3", ">=0.0.3,<0.0.4"),
        ("^0.0", ">=0.0,<0.1"),
        ("^0", ">=0,<1"),
        ("~1.2.3", ">=1.2.3,<1.3"),
        ("~1.2", ">=1.2,<1.3"),
        ("~1", ">=1,<2"),
        ("~=1.4", "~=1.4"),
        ("*", ""),
        ("1.5", "==1.5"),
        ("1.*", "==1.*"),
        (">=1, <3", ">=1,<3"),
        ("^1.0,!=1.3", ">=1.0,<2,!=1.3"),
        ("^3.9 || ^4.0", ">=4.0,<5"),
    ],
)
def test_constraints_are_those_of_poetrys_manual(constraint, expected):
    assert specifier(constraint) == expected


@given(st.lists(st.integers(0, 30), min_size=1, max_size=3), st.sampled_from("^~"))
def test_the_version_named_is_allowed_and_the_next_major_one_is_not(numbers, sign):
    version = ".".join(map(str, numbers))
    allowed = SpecifierSet(specifier(sign + version))
    assert version in allowed
    assert f"{numbers[0] + 1}.0.0" not in allowed or not any(numbers)


def test_tables_become_requirements_and_what_pip_cannot_reach_is_left_out():
    found = requirements(
        {
            "python": "^3.11",
            "six": "^1.16",
            "uvicorn": {"version": ">=0.30", "extras": ["standard"], "markers": "os_name=='posix'"},
            "later": {"version": "1", "optional": True},
            "local": {"path": "../local"},
            "forked": {"git": "https://example.com/f.git", "tag": "v1"},
            "wheel": {"url": "https://example.com/w.whl"},
            "both": [{"version": "1", "python": "<3.12"}, {"version": "2"}],
        }
    )
    assert found == (
        "six>=1.16,<2",
        "uvicorn[standard]>=0.30 ; (os_name=='posix')",
        "forked @ git+https://example.com/f.git@v1",
        "wheel @ https://example.com/w.whl",
        "both==1 ; python_version < '3.12'",
        "both==2",
    )
    assert [str(Requirement(each)) for each in found]
