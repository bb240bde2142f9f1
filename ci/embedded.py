"""The embedded engine as this machine's settings, and a repository's ci.toml, have it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ci import config
from ci.engine.images.sources import Sources
from ci.engine.sandbox.limits import Limits
from ci.engine.session import Session
from ci.engine.terminal import Borrow
from ci.events import EngineEvent
from ci.settings import Settings

N = TypeVar("N", int, float)

__all__ = ["limits", "session", "sources"]


def session(
    settings: Settings,
    *,
    source: Path,
    workdir: Path | None = None,
    on_event: Callable[[EngineEvent], None] | None = None,
    terminal: Borrow | None = None,
) -> Session:
    """A session for the repository in ``source``; the rest is as ``Session`` has it.

    Raises:
        ConfigError: its ci.toml is wrong.
    """
    return Session(
        cache=settings.cache,
        cache_max=settings.cache_max,
        sources=sources(settings),
        workdir=workdir,
        on_event=on_event,
        terminal=terminal,
        limits=limits(settings, config.read(source).engine),
    )


def sources(settings: Settings) -> Sources:
    """Where images may come from on this machine."""
    return Sources(
        order=settings.image_sources,
        no_stand_in_for=settings.no_stand_in_for,
        mirrors=settings.registry_mirrors,
        debian_mirror=settings.debian_mirror,
    )


def limits(settings: Settings, section: config.Engine) -> Limits:
    """What each command may use: what the environment says, else what ci.toml does."""
    return Limits(
        memory_bytes=_first(settings.memory_bytes, section.memory),
        processes=_first(settings.processes, section.processes),
        open_files=_first(settings.open_files, section.open_files),
        seconds=_first(settings.exec_seconds, section.exec_seconds),
    )


def _first(said: N | None, otherwise: N) -> N:
    return otherwise if said is None else said
