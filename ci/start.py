"""The program ``ci``: starts quickly.

Dagger's SDK has beartype compile a check of the arguments for each of its 850 functions when it is
imported, which takes longer than most commands run; a command calls a few dozen of them. Here each
check is compiled when its function is first called. All else is as the SDK has it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import beartype
import typing_extensions

__all__ = ["main"]

T = TypeVar("T")


def main() -> None:
    """Run the command line; see ``ci.cli``."""
    with _checks_on_first_call():
        from ci import cli  # noqa: PLC0415 - imports the SDK
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
        return cast("T", _later(check, cast("Callable[..., Any]", decorated)))
    for name, member in list(vars(decorated).items()):
        if inspect.isfunction(member):
            # What Self is can only be seen where a whole class is checked at once.
            if member.__annotations__.get("return") is typing_extensions.Self:
                member.__annotations__["return"] = decorated
            setattr(decorated, name, _later(check, member))
    return decorated


def _later(check: Callable[[Any], Any], function: Callable[..., Any]) -> Callable[..., Any]:
    checked = functools.cache(lambda: check(function))

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def asynchronous(*args: object, **kwargs: object) -> object:
            return await checked()(*args, **kwargs)

        return asynchronous

    @functools.wraps(function)
    def synchronous(*args: object, **kwargs: object) -> object:
        return checked()(*args, **kwargs)

    return synchronous
