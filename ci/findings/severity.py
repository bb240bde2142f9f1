"""Severities: the words and numbers of each tool become ``Severity``."""

from __future__ import annotations

from collections.abc import Mapping

from ci.values import Severity

__all__ = ["from_level", "from_score", "from_word", "of_python_rule"]

_WORDS: Mapping[str, Severity] = {
    "informational": Severity.LOW,
    "info": Severity.LOW,
    "negligible": Severity.LOW,
    "low": Severity.LOW,
    "moderate": Severity.MEDIUM,
    "medium": Severity.MEDIUM,
    "important": Severity.HIGH,
    "high": Severity.HIGH,
    "critical": Severity.CRITICAL,
}

_LEVELS: Mapping[str, Severity] = {
    "error": Severity.HIGH,
    "warning": Severity.MEDIUM,
    "note": Severity.LOW,
}

#: Bandit's own severities, by the number that its rules (B307) and ruff's (S307) share. Where
#: Bandit's depends on the call, the higher one stands. Ruff reports every rule as "error".
#: Source: https://bandit.readthedocs.io/en/latest/plugins/ and .../blacklists/
_PYTHON_LOW = frozenset({101, 105, 106, 107, 110, 112, 311, *range(403, 411), 504, 603, 606, 607})
_PYTHON_HIGH = frozenset(
    {103, 201, 202, 304, 312, 321, 324, 401, 402, 411, 412, 413, 415, 501, 502, 505, 507}
    | {602, 605, 609, 613, 701}
)
#: Code execution by design: Bandit says medium for these, which a gate at "high" would let by.
_PYTHON_RAISED = frozenset({102, 307})


def from_word(word: str) -> Severity:
    """The severity that a tool names; unknown for a word that no tool is known to use."""
    return _WORDS.get(word.strip().lower(), Severity.UNKNOWN)


def from_level(level: str) -> Severity:
    """The severity for a SARIF level: error is high, warning medium, note low."""
    return _LEVELS.get(level, Severity.UNKNOWN)


def from_score(score: float) -> Severity:
    """The severity for a score of 0 to 10, in the bands of CVSS and of GitHub code scanning."""
    bands = ((9.0, Severity.CRITICAL), (7.0, Severity.HIGH), (4.0, Severity.MEDIUM))
    for least, severity in bands:
        if score >= least:
            return severity
    return Severity.LOW if score > 0 else Severity.UNKNOWN


def of_python_rule(rule: str) -> Severity | None:
    """The severity of a Bandit rule by either name (``B307``, ``S307``); None for other rules."""
    prefix, number = rule[:1], rule[1:]
    if prefix not in {"B", "S"} or len(number) != 3 or not number.isdecimal():
        return None
    code = int(number)
    if code in _PYTHON_HIGH or code in _PYTHON_RAISED:
        return Severity.HIGH
    return Severity.LOW if code in _PYTHON_LOW else Severity.MEDIUM
