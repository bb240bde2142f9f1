"""Fields of Error and ErrorValue."""

from __future__ import annotations

from dataclasses import replace

from ci.engine.api.context import Context
from ci.engine.api.json_value import check
from ci.engine.api.values import Error, ErrorValue

__all__ = ["message", "name", "value", "values", "with_value"]


def message(error: Error, _: Context) -> str:
    """What went wrong."""
    return error.message


def values(error: Error, _: Context) -> tuple[ErrorValue, ...]:
    """What was said beside it."""
    return error.values


def with_value(error: Error, _: Context, *, name: str, value: str) -> Error:
    """A value, as JSON, beside the message."""
    check(value, "Error.withValue")
    return replace(error, values=(*error.values, ErrorValue(name=name, value=value)))


def name(named: ErrorValue, _: Context) -> str:
    """Of the value."""
    return named.name


def value(named: ErrorValue, _: Context) -> str:
    """As JSON."""
    return named.value
