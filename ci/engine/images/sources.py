"""Where images may come from, as this machine configures it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Literal, cast, get_args

from ci.engine.images.reference import Reference
from ci.errors import ConfigError

__all__ = [
    "NO_STAND_IN_VARIABLE",
    "SOURCES",
    "SOURCES_VARIABLE",
    "Source",
    "configured_sources",
    "may_be_stood_in_for",
]

Source = Literal["store", "registry", "bootstrap"]
SOURCES: tuple[Source, ...] = get_args(Source)

#: ``store,registry`` leaves the stand-ins out.
SOURCES_VARIABLE = "TOWPATH_IMAGE_SOURCES"
#: ``python:*,aquasec/trivy:*``: images that nothing may stand in for.
NO_STAND_IN_VARIABLE = "TOWPATH_NO_STAND_IN_FOR"


def configured_sources(environ: Mapping[str, str] | None = None) -> tuple[Source, ...]:
    """What to ask for images, in this order; all of them where nothing is configured.

    Raises:
        ConfigError: the variable names another.
    """
    text = (os.environ if environ is None else environ).get(SOURCES_VARIABLE, "")
    named = tuple(part.strip() for part in text.split(",") if part.strip())
    if unknown := [name for name in named if name not in SOURCES]:
        raise ConfigError(SOURCES_VARIABLE, got=repr(unknown[0]), expected=", ".join(SOURCES))
    return cast("tuple[Source, ...]", named) or SOURCES


def may_be_stood_in_for(reference: Reference, environ: Mapping[str, str] | None = None) -> bool:
    """Whether this machine lets a recipe stand in for that image."""
    text = (os.environ if environ is None else environ).get(NO_STAND_IN_VARIABLE, "")
    patterns = [part.strip() for part in text.split(",") if part.strip()]
    return not any(fnmatchcase(reference.familiar, pattern) for pattern in patterns)
