"""What is built: folders with a Dockerfile, the same for every engine. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DOCKERFILE", "application", "chain", "context", "edit", "pipeline"]

DOCKERFILE = "Dockerfile"
_HEAD = "ARG BASE\nFROM $BASE\n"
_APPLICATION = """WORKDIR /app
COPY requirements.txt ./
RUN mkdir deps && cd deps && seq 2000 | split -l 1 -a 4 -d
COPY src ./src
RUN cat src/* | sha256sum > built
RUN test -s built
"""
_PIPELINE = """WORKDIR /app
COPY src ./src
RUN cat src/* > built
RUN test -s built
"""


def application(folder: Path, nonce: str) -> Path:
    """An application: dependencies of 2,000 files, then 20 source files built and tested."""
    (folder / "src").mkdir(parents=True)
    (folder / "requirements.txt").write_text(f"{nonce}\n")
    (folder / DOCKERFILE).write_text(_HEAD + _APPLICATION)
    for number in range(20):
        (folder / "src" / f"{number}.txt").write_text(f"{nonce} {number}\n" * 50)
    return folder


def edit(folder: Path, nonce: str) -> None:
    """Change one source file."""
    (folder / "src" / "7.txt").write_text(f"edited {nonce}\n")


def chain(folder: Path, nonce: str, steps: int) -> Path:
    """One command after another, each with something of its own to keep."""
    folder.mkdir(parents=True)
    lines = [f"RUN echo {nonce} > /step-{number}\n" for number in range(steps)]
    (folder / DOCKERFILE).write_text(_HEAD + "".join(lines))
    return folder


def context(folder: Path, nonce: str, files: int) -> Path:
    """A folder of many files, copied into an image."""
    for number in range(files):
        place = folder / "files" / f"{number // 100}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}").write_text(f"{nonce} {number}\n")
    (folder / DOCKERFILE).write_text(_HEAD + "COPY files /files\n")
    return folder


def pipeline(folder: Path, nonce: str) -> Path:
    """A source of its own, built and tested: one of many at once."""
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.txt").write_text(f"{nonce}\n")
    (folder / DOCKERFILE).write_text(_HEAD + _PIPELINE)
    return folder
