"""Zizmor, from a wheel that carries the project's binary."""

from __future__ import annotations

from ci.engine.bootstrap.builder import Builder
from ci.engine.bootstrap.debian import BOOKWORM
from ci.engine.bootstrap.recipe import Recipe
from ci.engine.bootstrap.wheel import Wheel
from ci.engine.vertices.execution import DEFAULT_PATH

__all__ = ["RECIPES"]

_WHEEL = Wheel(
    "zizmor", "1.32.0", "84a6acb975accc13408786a2bd274b572537ca19c933ebbc13e78f3988562071"
)


async def _build(builder: Builder) -> None:
    await builder.program(_WHEEL, "zizmor-1.32.0.data/scripts/zizmor", "/usr/local/bin/zizmor")


ZIZMOR = Recipe(
    name="zizmor",
    revision=1,
    references=("ghcr.io/zizmorcore/zizmor:*", "ghcr.io/woodruffw/zizmor:*"),
    gives="Zizmor 1.32.0 of the wheel zizmor, on Debian 12 (bookworm)",
    build=_build,
    config={"Env": [f"PATH={DEFAULT_PATH}"], "Entrypoint": ["zizmor"]},
    base=BOOKWORM,
    architectures=("amd64",),
)

RECIPES = (ZIZMOR,)
