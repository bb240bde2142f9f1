"""Settings: what the environment says of this machine.

Towpath's own variables are read here and nowhere else; below, they are plain values.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args

from ci import sizes
from ci.errors import ConfigError

__all__ = ["VARIABLES", "Settings", "Source", "Variable"]

#: Who is asked for images; see ``ci.engine.images.sources``.
Source = Literal["store", "registry", "bootstrap"]

T = TypeVar("T")


class Variable(NamedTuple):
    """What a variable takes, for whoever gave it something else."""

    expected: str
    hint: str


_LIMIT = "0 is no limit, whatever ci.toml says"

#: All variables of Towpath's own.
VARIABLES: Mapping[str, Variable] = {
    "TOWPATH_CACHE": Variable("a folder", "unset, it is ~/.cache/towpath"),
    "TOWPATH_CACHE_MAX": Variable(
        "a size such as 20GiB, 10% or none", "per cent are of the disk; unset, it is 20GiB"
    ),
    "TOWPATH_STATE": Variable("a folder", "unset, it is ~/.local/state/towpath"),
    "TOWPATH_MEMORY": Variable(sizes.EXAMPLE, _LIMIT),
    "TOWPATH_PROCESSES": Variable("a whole number", _LIMIT),
    "TOWPATH_OPEN_FILES": Variable("a whole number", _LIMIT),
    "TOWPATH_EXEC_SECONDS": Variable("seconds", _LIMIT),
    "TOWPATH_IMAGE_SOURCES": Variable(
        ", ".join(get_args(Source)), "separate them by commas; unset, all are asked in this order"
    ),
    "TOWPATH_NO_STAND_IN_FOR": Variable("patterns of images", "as python:*,aquasec/trivy:*"),
    "TOWPATH_REGISTRY_MIRRORS": Variable(
        "registry=mirror,...", "as docker.io=https://mirror.example/dockerhub"
    ),
    "TOWPATH_DEBIAN_MIRROR": Variable("a URL", "unset, it is that of apt's own sources"),
}

_DEFAULT_CACHE_MAX: int | None = 20 << 30
#: More than any machine has, and less than the kernel takes for no limit at all.
_MOST = 1 << 62


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Plain values, each by the variable that says it."""

    #: TOWPATH_CACHE: the engine's store.
    cache: Path
    #: TOWPATH_CACHE_MAX: bytes that it may take up; None: any.
    cache_max: int | None = _DEFAULT_CACHE_MAX
    #: TOWPATH_STATE: where environments live.
    state: Path
    #: TOWPATH_MEMORY: bytes that a command may use with all that it starts; 0: any, None: not said.
    memory_bytes: int | None = None
    #: TOWPATH_PROCESSES: how many a command may have; likewise.
    processes: int | None = None
    #: TOWPATH_OPEN_FILES: how many one process may have; likewise.
    open_files: int | None = None
    #: TOWPATH_EXEC_SECONDS: until a command is killed; likewise.
    exec_seconds: float | None = None
    #: TOWPATH_IMAGE_SOURCES: what to ask for images, in this order.
    image_sources: tuple[Source, ...] = get_args(Source)
    #: TOWPATH_NO_STAND_IN_FOR: patterns of images that nothing may stand in for.
    no_stand_in_for: tuple[str, ...] = ()
    #: TOWPATH_REGISTRY_MIRRORS: by registry, what to ask before it.
    registry_mirrors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: TOWPATH_DEBIAN_MIRROR: what stand-ins are built from; empty: apt's own sources.
    debian_mirror: str = ""
    #: NO_COLOR is set and not empty.
    no_color: bool = False
    #: CI is set: plain lines even on a terminal.
    in_ci: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings by these variables (the process's).

        Raises:
            ConfigError: one of them takes something else.
        """
        env = os.environ if environ is None else environ
        home = Path(env.get("HOME") or "~").expanduser()
        caches = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
        states = Path(env.get("XDG_STATE_HOME") or home / ".local/state")

        def said(name: str, read: Callable[[str], T], default: T) -> T:
            return _read(name, env.get(name, ""), read, default)

        cache = said("TOWPATH_CACHE", Path, caches / "towpath").absolute()
        return cls(
            cache=cache,
            cache_max=said("TOWPATH_CACHE_MAX", partial(_bound, cache), _DEFAULT_CACHE_MAX),
            state=said("TOWPATH_STATE", Path, states / "towpath").absolute(),
            memory_bytes=said("TOWPATH_MEMORY", _size, None),
            processes=said("TOWPATH_PROCESSES", _number, None),
            open_files=said("TOWPATH_OPEN_FILES", _number, None),
            exec_seconds=said("TOWPATH_EXEC_SECONDS", _seconds, None),
            image_sources=said("TOWPATH_IMAGE_SOURCES", _sources, get_args(Source)),
            no_stand_in_for=said("TOWPATH_NO_STAND_IN_FOR", _parts, ()),
            registry_mirrors=said("TOWPATH_REGISTRY_MIRRORS", _mirrors, {}),
            debian_mirror=said("TOWPATH_DEBIAN_MIRROR", str, ""),
            no_color=bool(env.get("NO_COLOR")),
            in_ci=env.get("CI", "").lower() not in ("", "0", "false"),
        )


def _read(name: str, text: str, read: Callable[[str], T], default: T) -> T:
    """The value of a variable; the default where it is not set, or empty.

    Raises:
        ConfigError: ``read`` refuses it, with a ValueError of the part that is wrong.
    """
    text = text.strip()
    if not text:
        return default
    try:
        return read(text)
    except ValueError as error:
        expected, hint = VARIABLES[name]
        raise ConfigError(name, got=repr(str(error)), expected=expected, hint=hint) from None


def _size(text: str) -> int:
    return _limited(sizes.parse(text), text)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return _limited(int(text), text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(text) from None
    return _limited(seconds if math.isfinite(seconds) else -1, text)


N = TypeVar("N", int, float)


def _limited(value: N, text: str) -> N:
    if not 0 <= value < _MOST:
        raise ValueError(text)
    return value


def _bound(folder: Path, text: str) -> int | None:
    """Bytes that ``folder`` may take up: of its disk, where it is per cent; None: any."""
    if text.lower() == "none":
        return None
    if not text.endswith("%"):
        return sizes.parse(text)
    try:
        part = float(text[:-1])
    except ValueError:
        part = -1
    if not 0 <= part <= 100:
        raise ValueError(text)
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return int(part / 100 * shutil.disk_usage(there).total)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _sources(text: str) -> tuple[Source, ...]:
    known: Mapping[str, Source] = {name: name for name in get_args(Source)}
    found = []
    for part in _parts(text):
        if part not in known:
            raise ValueError(part)
        found.append(known[part])
    return tuple(found) or get_args(Source)


def _mirrors(text: str) -> Mapping[str, Sequence[str]]:
    mirrors: dict[str, list[str]] = {}
    for part in _parts(text):
        registry, _, mirror = part.partition("=")
        if not (registry and mirror):
            raise ValueError(part)
        mirrors.setdefault(registry, []).append(mirror)
    return mirrors
