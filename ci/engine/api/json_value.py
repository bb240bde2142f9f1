"""Fields of JSONValue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeVar

from ci.engine.api.context import Context
from ci.engine.api.values import JSONValue
from ci.engine.refusal import Refusal

__all__ = [
    "as_array",
    "as_boolean",
    "as_integer",
    "as_string",
    "contents",
    "field",
    "fields",
    "new_boolean",
    "new_integer",
    "new_string",
    "with_contents",
    "with_field",
]

T = TypeVar("T")


def check(text: str, what: str) -> None:
    """See that text is JSON.

    Raises:
        Refusal: it is not JSON.
    """
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(what, got=f"no JSON ({error})", expected="JSON") from None


def of(value: object) -> JSONValue:
    """A value as JSON."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return JSONValue(text=text)


def _as(value: JSONValue, kind: type[T], called: str) -> T:
    """The value, which must be of that type: true is no integer."""
    found = json.loads(value.text)
    if isinstance(found, kind) and type(found) is kind:
        return found
    raise Refusal("JSON value", got=value.text[:80], expected=called)


def contents(value: JSONValue, _: Context, *, pretty: bool, indent: str) -> str:
    """The JSON text."""
    if not pretty:
        return value.text
    return json.dumps(json.loads(value.text), ensure_ascii=False, indent=indent, sort_keys=True)


def with_contents(_value: JSONValue, _: Context, *, contents: str) -> JSONValue:
    """The value of other JSON text."""
    check(contents, "JSONValue.withContents")
    return JSONValue(text=contents)


def new_string(_value: JSONValue, _: Context, *, value: str) -> JSONValue:
    """A string."""
    return of(value)


def new_integer(_value: JSONValue, _: Context, *, value: int) -> JSONValue:
    """An integer."""
    return of(value)


def new_boolean(_value: JSONValue, _: Context, *, value: bool) -> JSONValue:
    """True or false."""
    return of(value)


def as_string(value: JSONValue, _: Context) -> str:
    """The string that it is."""
    return _as(value, str, "a string")


def as_integer(value: JSONValue, _: Context) -> int:
    """The integer that it is."""
    return _as(value, int, "an integer")


def as_boolean(value: JSONValue, _: Context) -> bool:
    """Whether it is true."""
    return _as(value, bool, "true or false")


def as_array(value: JSONValue, _: Context) -> list[JSONValue]:
    """The elements of the array that it is."""
    return [of(item) for item in _as(value, list, "an array")]


def fields(value: JSONValue, _: Context) -> list[str]:
    """The names of the object that it is, sorted."""
    return sorted(_as(value, dict, "an object"))


def field(value: JSONValue, _: Context, *, path: Sequence[str]) -> JSONValue:
    """What is at a path of names."""
    found = json.loads(value.text)
    for name in path:
        if not isinstance(found, dict) or name not in found:
            raise Refusal("JSON field", got=f"no {'.'.join(path)!r} in the value")
        found = found[name]
    return of(found)


def with_field(target: JSONValue, ctx: Context, *, path: Sequence[str], value: str) -> JSONValue:
    """Another value at a path of names; what is no object on the way becomes one."""
    root = json.loads(target.text)
    root = root if isinstance(root, dict) else {}
    here = root
    for name in path[:-1]:
        if not isinstance(here.get(name), dict):
            here[name] = {}
        here = here[name]
    if path:
        here[path[-1]] = json.loads(ctx.get(value, JSONValue).text)
    return of(root)
