"""Beneath: places in a folder that commands write to, such as a cache volume's, without leaving it.

Links in it are resolved as the command would, with the folder as the root. Then every step is taken
from an open folder and follows no link, so that one put there meanwhile leads nowhere either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ci.engine.trees.merged import MergedTree, NoSuchPath

__all__ = ["make_place", "write_beneath"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_place(folder: str, path: str, *, directory: bool) -> str:
    """See that a directory, or a file, is at ``path``; where that is, links resolved.

    Raises:
        NoSuchPath: something else is there, or in the way.
    """
    place = MergedTree([folder]).resolve(path)
    if directory:
        with _opened(folder, place):
            return place
    parent, _, name = place.rpartition("/")
    with _opened(folder, parent) as at, _in_the_way(place):
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=at))
    return place


def write_beneath(folder: str, path: str, content: bytes) -> None:
    """A file of this content at ``path``, in place of what is there.

    Raises:
        NoSuchPath: something is in the way.
    """
    place = MergedTree([folder]).resolve(path)
    parent, _, name = place.rpartition("/")
    with _opened(folder, parent) as at, _in_the_way(place):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o644, dir_fd=at), "wb") as file:
            file.write(content)


@contextmanager
def _opened(folder: str, place: str) -> Iterator[int]:
    """A descriptor of a directory in the folder, which is made with its parents."""
    at = os.open(folder, _FOLDER)
    try:
        for name in filter(None, place.split("/")):
            with _in_the_way(place):
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=at)
                below = os.open(name, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


@contextmanager
def _in_the_way(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoSuchPath(f"path {place!r}", got=error.strerror or str(error)) from error
