"""Which hosts to ask for a registry's images: its mirrors, then itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ci.engine.images.reference import DOCKER_HUB

__all__ = ["with_dockers"]

_DOCKER_DAEMON = Path("/etc/docker/daemon.json")


def with_dockers(
    mirrors: Mapping[str, Sequence[str]], *, docker_daemon: Path = _DOCKER_DAEMON
) -> dict[str, list[str]]:
    """These mirrors by registry host, and then those of Docker's own settings."""
    known = {registry: list(named) for registry, named in mirrors.items()}
    known.setdefault(DOCKER_HUB, []).extend(_docker_mirrors(docker_daemon))
    return known


def _docker_mirrors(path: Path) -> Sequence[str]:
    try:
        return list(json.loads(path.read_bytes()).get("registry-mirrors") or ())
    except (OSError, ValueError, AttributeError):
        return ()
