"""Stages: one file each; Dagger objects in, evidence and Dagger objects out."""

from ci.stages.build import build
from ci.stages.dependencies import dependencies
from ci.stages.format import format  # noqa: A004 - the stage's name
from ci.stages.iac import iac
from ci.stages.integration import integration
from ci.stages.lint import lint
from ci.stages.sast import sast
from ci.stages.sbom import sbom
from ci.stages.scan import scan
from ci.stages.secrets import secrets
from ci.stages.smoke import smoke
from ci.stages.types import types
from ci.stages.unit import unit
from ci.stages.workflows import workflows

__all__ = [
    "build",
    "dependencies",
    "format",
    "iac",
    "integration",
    "lint",
    "sast",
    "sbom",
    "scan",
    "secrets",
    "smoke",
    "types",
    "unit",
    "workflows",
]
