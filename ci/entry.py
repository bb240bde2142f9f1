"""The main object of the Dagger module that is being loaded.

Dagger's SDK takes the first entry point ``main_object`` of the group ``dagger.mod`` that it comes
upon. In the environment of a module that uses Towpath as a library there are two, in no certain
order: so ours hands over to the other one.
"""

from __future__ import annotations

from importlib.metadata import entry_points

__all__ = ["main_object"]

_OURS = "towpath"


def _main_object() -> object:
    for found in entry_points(group="dagger.mod", name="main_object"):
        if found.dist is not None and found.dist.name != _OURS:
            return found.load()
    from ci.module import Ci  # noqa: PLC0415 - see ci/__init__.py

    return Ci


main_object = _main_object()
