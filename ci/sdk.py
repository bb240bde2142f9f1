"""Dagger's SDK as ``ci`` imports it: it starts quickly, and asks quickly.

Dagger's SDK has beartype compile a check of the arguments for each of its 850 functions when it is
imported, which takes longer than most commands run; a command calls a few of them. Here the check
of a function is compiled when it is first called. Likewise the SDK makes a converter of values for
each call in a chain; here there is one for what all calls have in common, and another only for an
answer that needs its own. All else is as the SDK has it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import beartype
from beartype import BeartypeConf, BeartypeHintOverrides

__all__ = ["import_quickly"]

_DEFAULT = BeartypeConf()
_OVERRIDES: Any = BeartypeHintOverrides  # mypy takes it for an object

T = TypeVar("T")


def import_quickly() -> None:
    """Import the SDK; whoever imports it later gets this one."""
    with _checks_on_first_call():
        import dagger  # noqa: F401, PLC0415 - for its own sake
    _convert_with_one()


@contextmanager
def _checks_on_first_call() -> Iterator[None]:
    """Within the context, what is decorated with beartype is checked from its first call on."""
    at_once: Any = beartype.beartype

    def later(decorated: Any = None, *, conf: BeartypeConf = _DEFAULT) -> Any:  # noqa: ANN401 - a class or a function
        if decorated is None:
            return functools.partial(later, conf=conf)
        if isinstance(decorated, type):
            return _checked_later(decorated, at_once, conf)
        return at_once(decorated, conf=conf)

    setattr(beartype, "beartype", later)  # noqa: B010 - of another type, on purpose
    try:
        yield
    finally:
        setattr(beartype, "beartype", at_once)  # noqa: B010


def _checked_later(decorated: type[T], at_once: Callable[..., Any], conf: BeartypeConf) -> type[T]:
    """The class, each function of which is checked from its first call on."""
    # A function alone does not tell what Self stands for.
    overrides: Any = {**conf.hint_overrides, Self: decorated}
    check: Any = at_once(
        conf=BeartypeConf(**{**conf.kwargs, "hint_overrides": _OVERRIDES(overrides)})
    )
    functions = {name: each for name, each in vars(decorated).items() if inspect.isfunction(each)}
    for name, function in functions.items():
        setattr(decorated, name, _calling(functools.partial(check, function), function))
    return decorated


def _calling(
    check: Callable[[], Callable[..., Any]], function: Callable[..., Any]
) -> Callable[..., Any]:
    """Calls what ``check`` makes of the function once it is needed."""
    checked = functools.cache(check)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def asynchronous(*args: object, **kwargs: object) -> object:
            return await checked()(*args, **kwargs)

        return asynchronous

    @functools.wraps(function)
    def synchronous(*args: object, **kwargs: object) -> object:
        return checked()(*args, **kwargs)

    return synchronous


#: What answers are, but for objects; no conversion of these depends on the question.
_PLAIN_ANSWERS = (str, int, float, bool)


class _Converter:
    """Stands for the converter of one call; see ``dagger.client._core.make_converter``."""

    def __init__(self, make: Callable[[Any], Any], common: Any, context: object) -> None:  # noqa: ANN401 - of cattrs
        self._make = make
        self._common = common
        self._context = context

    def unstructure(self, value: object) -> object:
        """The value as a query says it, which is the same in every call."""
        return self._common.unstructure(value)

    def structure(self, value: object, kind: Any) -> object:  # noqa: ANN401 - a type
        """The value as one of a type; objects go on from the call that they came from."""
        plain = isinstance(kind, type) and issubclass(kind, _PLAIN_ANSWERS)
        return (self._common if plain else self._make(self._context)).structure(value, kind)


def _convert_with_one() -> None:
    """From here on, calls share a converter. An SDK that has another way keeps it."""
    from dagger.client import _core  # noqa: PLC0415 - the SDK

    make: Any = getattr(_core, "make_converter", None)
    if make is not None:
        common = make(None)
        setattr(_core, "make_converter", functools.partial(_Converter, make, common))  # noqa: B010
