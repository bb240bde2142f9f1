"""Programs that run in containers: the standard library only, and no import of this package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["text"]


def text(name: str) -> str:
    """The program's source, to be written into a container."""
    return Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
