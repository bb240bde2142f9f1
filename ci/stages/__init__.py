"""Stages: one file each; Dagger objects in, evidence and Dagger objects out."""

from ci.stages.build import build
from ci.stages.format import format  # noqa: A004 - the stage's name
from ci.stages.integration import integration
from ci.stages.lint import lint
from ci.stages.sast import sast
from ci.stages.secrets import secrets
from ci.stages.smoke import smoke
from ci.stages.types import types
from ci.stages.unit import unit

__all__ = ["build", "format", "integration", "lint", "sast", "secrets", "smoke", "types", "unit"]
