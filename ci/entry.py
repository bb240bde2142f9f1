"""The main object of the Dagger module that is being loaded.

Dagger's SDK takes the first entry point ``main_object`` of the group ``dagger.mod`` that it comes
upon. In the environment of a module that uses Towpath as a library there are two, in no certain
order: so ours hands over to the other one.
"""

from __future__ import annotations

import logging
from importlib.metadata import entry_points

from ci.errors import CiError

__all__ = ["main_object"]

_OURS = "towpath"


def _main_object() -> object:
    for found in entry_points(group="dagger.mod", name="main_object"):
        if found.dist is not None and found.dist.name != _OURS:
            return found.load()
    from ci.module import Ci  # noqa: PLC0415 - see ci/__init__.py

    logging.getLogger("dagger.mod").addFilter(_is_unforeseen)
    return Ci


def _is_unforeseen(record: logging.LogRecord) -> bool:
    """Not an error of ours: the engine gets its message, and a traceback would only hide that."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, CiError)


main_object = _main_object()
