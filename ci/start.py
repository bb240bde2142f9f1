"""The program ``ci``: starts quickly, and asks quickly.

Dagger's SDK has beartype compile a check of the arguments for each of its 850 functions when it is
imported, which takes longer than most commands run; a command uses a few of the SDK's classes. Here
the checks of a class are compiled when one of its functions is first called. Likewise the SDK makes
a converter of values for each call in a chain; here there is one for what all calls have in common,
and another only for an answer that needs its own. All else is as the SDK has it.
"""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import beartype

__all__ = ["main"]

#: Objects made and kept between two looks for garbage; Python's own 700 is for small programs.
_ALLOCATIONS = 20_000

T = TypeVar("T")


def main() -> None:
    """Run the command line; see ``ci.cli``."""
    # What is imported stays: to look through it for garbage, again and again, takes a tenth.
    gc.disable()
    with _checks_on_first_call():
        from ci import cli  # noqa: PLC0415 - imports the SDK
    _convert_with_one()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
    gc.enable()
    cli.main()


@contextmanager
def _checks_on_first_call() -> Iterator[None]:
    """Within the context, what is decorated with beartype is checked from its first call on."""
    at_once: Any = beartype.beartype

    def later(decorated: Any = None, **options: Any) -> Any:  # noqa: ANN401 - a class or a function
        decorate = functools.partial(_decorate, at_once(**options) if options else at_once)
        return decorate if decorated is None else decorate(decorated)

    setattr(beartype, "beartype", later)  # noqa: B010 - of another type, on purpose
    try:
        yield
    finally:
        setattr(beartype, "beartype", at_once)  # noqa: B010


def _decorate(check: Callable[[Any], Any], decorated: T) -> T:
    if not isinstance(decorated, type):
        return check(decorated)  # type: ignore[no-any-return]
    functions = {name: each for name, each in vars(decorated).items() if inspect.isfunction(each)}

    @functools.cache
    def checked() -> Mapping[str, Any]:
        # The whole class at once: that is how beartype sees what Self stands for.
        for name, function in functions.items():
            setattr(decorated, name, function)
        check(decorated)
        return vars(decorated)

    for name, function in functions.items():
        setattr(decorated, name, _calling(checked, name, function))
    return decorated


def _calling(
    checked: Callable[[], Mapping[str, Any]], name: str, function: Callable[..., Any]
) -> Callable[..., Any]:
    """Calls what stands in the place of the function once the class is checked."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def asynchronous(*args: object, **kwargs: object) -> object:
            return await checked()[name](*args, **kwargs)

        return asynchronous

    @functools.wraps(function)
    def synchronous(*args: object, **kwargs: object) -> object:
        return checked()[name](*args, **kwargs)

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
