"""The functions of ``Ci`` by name and documentation, as the source has them: without the SDK.

For the list of commands alone, the SDK need not be imported, which takes longer than all else.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from cyclopts import App

__all__ = ["command_name", "functions", "register"]

_MODULE, _CLASS = "ci.module", "Ci"


def command_name(function: str) -> str:
    """What a function is called on the command line."""
    return function.rstrip("_").replace("_", "-")


def functions() -> Iterator[tuple[str, str]]:
    """Name on the command line and documentation of each; they are what is decorated."""
    spec = find_spec(_MODULE)
    assert spec is not None  # noqa: S101 - it is of this package
    assert spec.origin is not None  # noqa: S101 - likewise
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    main = next(
        each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == _CLASS
    )
    for member in main.body:
        if isinstance(member, ast.AsyncFunctionDef | ast.FunctionDef) and member.decorator_list:
            yield command_name(member.name), ast.get_docstring(member) or ""


def register(app: App) -> None:
    """Add a command for each that has its help, and does nothing."""
    for name, documentation in functions():

        def command() -> None:
            raise NotImplementedError

        command.__doc__ = inspect.cleandoc(documentation)
        app.command(command, name=name)
