"""Which hosts to ask for a registry's images: its mirrors, then itself."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ci.engine.images.reference import DOCKER_HUB
from ci.errors import ConfigError

__all__ = ["MIRRORS_VARIABLE", "configured_mirrors"]

#: ``docker.io=https://mirror.example/dockerhub,...``
MIRRORS_VARIABLE = "TOWPATH_REGISTRY_MIRRORS"

_DOCKER_DAEMON = Path("/etc/docker/daemon.json")


def configured_mirrors(
    environ: Mapping[str, str] | None = None, *, docker_daemon: Path = _DOCKER_DAEMON
) -> dict[str, list[str]]:
    """Mirrors by registry host: from ``TOWPATH_REGISTRY_MIRRORS``, then Docker's own settings.

    Raises:
        ConfigError: the variable is not ``registry=mirror,...``.
    """
    values = os.environ if environ is None else environ
    mirrors: dict[str, list[str]] = {}
    for item in filter(
        None, (part.strip() for part in values.get(MIRRORS_VARIABLE, "").split(","))
    ):
        registry, equals, mirror = item.partition("=")
        if not (registry and equals and mirror):
            raise ConfigError(MIRRORS_VARIABLE, got=repr(item), expected="registry=mirror,...")
        mirrors.setdefault(registry, []).append(mirror)
    mirrors.setdefault(DOCKER_HUB, []).extend(_docker_mirrors(docker_daemon))
    return mirrors


def _docker_mirrors(path: Path) -> Sequence[str]:
    try:
        return list(json.loads(path.read_bytes()).get("registry-mirrors") or ())
    except (OSError, ValueError, AttributeError):
        return ()
