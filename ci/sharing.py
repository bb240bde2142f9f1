"""What the stages of one run have in common and make once: containers, mostly.

Two of the same definition are one to an engine, but not to the SDK, which would describe each of
them anew, down to the files that it is made from.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

__all__ = ["shared", "sharing"]

T = TypeVar("T")

_MADE: ContextVar[dict[Hashable, Any] | None] = ContextVar("made", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Within the context, and the tasks that are started in it, things are shared."""
    token = _MADE.set({})
    try:
        yield
    finally:
        _MADE.reset(token)


def shared(key: Hashable, make: Callable[[], T]) -> T:
    """What ``make`` gives: the same for all calls with this key within ``sharing``, else anew."""
    made = _MADE.get()
    if made is None:
        return make()
    if key not in made:
        made[key] = make()
    known: T = made[key]
    return known
