"""A layer that exists for one exec: lent files and mount points, under the exec's own upper folder.

Mount points and files that bubblewrap would have to create would stay in the exec's layer. As the
highest of the lower layers they are there while it runs, and nowhere afterwards.
"""

from __future__ import annotations

import os
from pathlib import Path

from ci.engine.store.layers import is_whiteout
from ci.engine.trees.builder import LayerBuilder
from ci.engine.trees.merged import MergedTree, NoSuchPath

__all__ = ["Ephemeral"]

#: Files that a container gets anew for each exec, so what one writes there is not kept.
_NEVER_KEPT = frozenset({"/etc/hosts", "/etc/resolv.conf"})


class Ephemeral:
    """Builds the layer in ``folder``, over ``base``; afterwards cleans what it caused."""

    def __init__(self, base: MergedTree, folder: Path, *, as_root: bool) -> None:
        self._base = base
        self._builder = LayerBuilder(base, folder, as_root=as_root)
        self.folder = str(folder)
        #: Paths that are in no layer below.
        self._new: list[str] = []

    def add_file(self, path: str, source: str) -> None:
        """A file over whatever is at ``path``: a link to ``source``, which nobody writes to."""
        place = self._builder.resolve(path)
        self._note(place)
        try:
            self._builder.link(source, place)
        except NoSuchPath:
            return  # an image without the usual folders can do without the usual files

    def add_directory(self, path: str, mode: int) -> None:
        """A directory where the image has none."""
        place = self._builder.resolve(path)
        self._note(place)
        self._builder.make_directory(place, mode, None)

    def add_mount_point(self, path: str, *, directory: bool) -> str:
        """Something to mount on at ``path``, and the path with its links resolved.

        Raises:
            NoSuchPath: a file is in the way.
        """
        place = self._base.resolve(path)
        entry = self._base.lookup(place, follow=False)
        if entry is not None:
            if entry.is_directory != directory:
                expected = "a directory" if directory else "a file"
                raise NoSuchPath(f"mount at {path!r}", got=f"a {entry.kind}", expected=expected)
            return place
        self._note(place)
        try:
            if directory:
                self._builder.ensure_directory(place)
            elif not os.path.lexists(self._builder.host(place)):
                self._builder.write(place, b"", 0o644, None)
        except NoSuchPath as error:
            raise NoSuchPath(
                f"mount at {path!r}", got=f"a file at {error.subject}", expected="a directory"
            ) from error
        return place

    def _note(self, place: str) -> None:
        """Remember what of ``place`` is new, its parents too."""
        while place != "/" and self._base.lookup(place, follow=False) is None:
            self._new.append(place)
            place = place.rpartition("/")[0] or "/"
        if place in _NEVER_KEPT:
            self._new.append(place)

    def clean(self, upper: str) -> None:
        """Take out of an exec's upper folder what is there only because of this layer."""
        for place in dict.fromkeys(self._new):
            _drop(upper + place, keep_files=place not in _NEVER_KEPT)


def _drop(host: str, *, keep_files: bool) -> None:
    """Remove a whiteout of what was never there, or a file that is never kept."""
    try:
        status = os.lstat(host)
    except OSError:
        return
    if is_whiteout(status) or not keep_files:
        os.unlink(host)
