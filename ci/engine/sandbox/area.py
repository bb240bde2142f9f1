"""A place in the sandbox that can be written to: an overlay over layers, and what is kept of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ci.engine.sandbox.argv import Overlay
from ci.engine.sandbox.ephemeral import Ephemeral
from ci.engine.store.layers import Layer, remove_tree
from ci.engine.store.store import Store
from ci.engine.trees.builder import LayerBuilder, set_owner
from ci.engine.trees.merged import MergedTree, SettledTree

__all__ = ["Area"]


class Area:
    """An overlay at ``target``. Its folders are made under ``folder``, which is the caller's."""

    def __init__(
        self,
        target: str,
        layers: list[str],
        folder: Path,
        *,
        as_root: bool,
        read_only: bool = False,
    ) -> None:
        self.target = target
        self.read_only = read_only
        self.base = SettledTree(layers)
        self._layers = layers
        self._as_root = as_root
        self._upper = folder / "u"
        self._work = folder / "w"
        lower = folder / "e"
        for path in (folder, lower, self._upper, self._work):
            path.mkdir(exist_ok=True)
            os.chmod(path, 0o755)  # noqa: S103 - a root directory
        self.ephemeral = Ephemeral(self.base, lower, as_root=as_root)
        LayerBuilder(self.base, self._upper, as_root=as_root)
        self._before = _metadata(self._upper)

    def overlay(self) -> Overlay:
        """The mount."""
        lower = (*self._layers, self.ephemeral.folder)
        if self.read_only:
            return Overlay(target=self.target, lower=lower)
        return Overlay(
            target=self.target, lower=lower, upper=str(self._upper), work=str(self._work)
        )

    def write(self, path: str, contents: bytes, owner: tuple[int, int]) -> None:
        """A file over what the sandbox left, at a path relative to the area."""
        now = MergedTree([*self._layers, str(self._upper)])
        builder = LayerBuilder(now, self._upper, as_root=self._as_root)
        builder.write(now.resolve(path), contents, 0o644, owner)

    def take(self, store: Store, maker: tuple[int, int]) -> Layer | None:
        """What was written, as a layer of the store; None when nothing was.

        ``maker`` ran the command: where the file system cannot say so, it is written down.
        """
        if self.read_only:
            return None
        upper = str(self._upper)
        self.ephemeral.clean(upper)
        with os.scandir(upper) as entries:
            empty = next(entries, None) is None
        if empty and _metadata(self._upper) == self._before:
            return None
        if not self._as_root and maker != (0, 0):
            self._sign(upper, maker)
        return store.add_layer(self._upper)

    def _sign(self, folder: str, maker: tuple[int, int]) -> None:
        """Write down who made what no layer below has."""
        for place, folders, files in os.walk(folder):
            for name in (*folders, *files):
                host = f"{place}/{name}"
                path = host[len(folder) :]
                mode = os.lstat(host).st_mode
                plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
                if plain and self.base.lookup(path, follow=False) is None:
                    set_owner(host, *maker, as_root=False)

    def discard(self) -> None:
        """Remove what is left of its folders."""
        remove_tree(self._upper.parent)


def _metadata(folder: Path) -> tuple[int, int, int]:
    status = os.lstat(folder)
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
