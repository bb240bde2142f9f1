"""The program ``ci``: starts quickly.

Dagger's SDK has beartype compile a check of the arguments for each of its 850 functions when it is
imported, which takes longer than most commands run; a command uses a few of the SDK's classes. Here
the checks of a class are compiled when one of its functions is first called. All else is as the SDK
has it.
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
