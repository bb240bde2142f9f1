"""All recipes, and what they made: each is built once and then comes from the store."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import structlog

from ci.engine.bootstrap import debian, gitleaks, hadolint, postgres, python, trivy, zizmor
from ci.engine.bootstrap.builder import Builder
from ci.engine.bootstrap.recipe import Recipe
from ci.engine.images.reference import Reference
from ci.engine.images.resolve import Images
from ci.engine.images.sources import Sources
from ci.engine.images.stand_ins import StandIn
from ci.engine.solver.solver import Solver
from ci.engine.store.layers import Layer, Snapshot
from ci.engine.store.store import Store

__all__ = ["RECIPES", "Catalogue", "with_stand_ins"]

RECIPES: tuple[Recipe, ...] = (
    *debian.RECIPES,
    *python.RECIPES,
    *postgres.RECIPES,
    *trivy.RECIPES,
    *gitleaks.RECIPES,
    *hadolint.RECIPES,
    *zizmor.RECIPES,
)

#: Between two looks at whether another process has finished the same build.
_LOCK_RETRY_SECONDS = 0.2

_log = structlog.get_logger(__name__)


class Catalogue:
    """Recipes and the store in which their results are kept.

    ``debian_mirror`` has the packages; empty: the mirror of the machine's own apt.
    """

    def __init__(
        self, store: Store, recipes: Sequence[Recipe] = RECIPES, *, debian_mirror: str = ""
    ) -> None:
        self._store = store
        self._recipes = recipes
        self._debian_mirror = debian_mirror
        self._locks: dict[str, anyio.Lock] = {}

    def stand_in(self, reference: Reference, architecture: str) -> StandIn | None:
        """What stands in for that image on that architecture, if anything does."""
        recipe = self.recipe_for(reference, architecture)
        if recipe is None:
            return None

        async def build(refresh: bool) -> Snapshot:  # noqa: FBT001 - as StandIn has it
            return await self.build(recipe, architecture, refresh=refresh)

        return StandIn(
            gives=recipe.gives, key=recipe.key(architecture), config=recipe.config, build=build
        )

    def recipe_for(self, reference: Reference, architecture: str) -> Recipe | None:
        """The first recipe that can stand in for that image on that architecture."""
        for recipe in self._recipes:
            if recipe.stands_in_for(reference) and architecture in recipe.architectures:
                return recipe
        return None

    async def build(self, recipe: Recipe, architecture: str, *, refresh: bool = False) -> Snapshot:
        """The layers of a recipe, built now unless the store has them.

        Raises:
            BootstrapError: it could not be built.
            WheelError: a program that it needs could not be fetched.
        """
        key = recipe.key(architecture)
        if not refresh and (known := self._known(key)):
            return known
        async with self._alone(recipe.name):
            if not refresh and (known := self._known(key)):
                return known
            base: Snapshot = ()
            if recipe.base is not None:
                base = await self.build(recipe.base, architecture)
            return await self._build(recipe, base, key)

    async def _build(self, recipe: Recipe, base: Snapshot, key: str) -> Snapshot:
        started = time.monotonic()
        _log.info("image.bootstrap_started", recipe=recipe.name)
        async with Solver(self._store) as solver:
            builder = Builder(solver, base, recipe.name, debian_mirror=self._debian_mirror)
            await recipe.build(builder)
        seconds = round(time.monotonic() - started, 1)
        record = {"layers": list(builder.snapshot), "recipe": recipe.name, "seconds": seconds}
        self._store.put("bootstrap", key, record)
        _log.info("image.bootstrap_finished", recipe=recipe.name, seconds=seconds)
        return builder.snapshot

    def _known(self, key: str) -> Snapshot | None:
        record = self._store.get("bootstrap", key)
        if record is None:
            return None
        snapshot = tuple(Layer(layer) for layer in record["layers"])
        return snapshot if self._store.has_layers(snapshot) else None

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """No other task or process builds the same recipe meanwhile."""
        async with self._locks.setdefault(name, anyio.Lock()):
            path = self._store.root / f"bootstrap-{name}.lock"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                while not _locked(fd):  # noqa: ASYNC110 - nothing tells when it is free
                    await anyio.sleep(_LOCK_RETRY_SECONDS)
                yield
            finally:
                os.close(fd)


def with_stand_ins(store: Store, sources: Sources | None = None) -> Images:
    """Images of that store, with all that stands in for some of them."""
    sources = sources or Sources()
    catalogue = Catalogue(store, debian_mirror=sources.debian_mirror)
    return Images(store, sources=sources, stand_ins=catalogue.stand_in)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
