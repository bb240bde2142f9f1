"""Towpath takes a commit to production: CI/CD as Dagger functions in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ci.module import Ci

__all__ = ["Ci"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    # Not before it is asked for: what is imported is part of the Dagger module that imports it,
    # and a module that only uses the library has objects of its own.
    if name == "Ci":
        from ci.module import Ci  # noqa: PLC0415

        return Ci
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
