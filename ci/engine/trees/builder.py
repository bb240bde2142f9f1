"""Builds one layer on top of a tree, file by file, without a sandbox.

Files are hard-linked where neither owner nor permissions change: layers are never written to, so
two of them may share a file.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from ci.engine.store.layers import OWNER_XATTR, make_whiteout, remove_tree
from ci.engine.trees.digest import owner_of
from ci.engine.trees.merged import Entry, MergedTree, NoSuchPath, join, normalize

__all__ = ["LayerBuilder", "set_owner"]


def set_owner(path: str, uid: int, gid: int, *, as_root: bool) -> None:
    """Make ``uid:gid`` the owner; without root it is written down beside the file."""
    if as_root:
        os.chown(path, uid, gid, follow_symlinks=False)
    elif not os.path.islink(path):
        if uid or gid:
            os.setxattr(path, OWNER_XATTR, b"%d:%d" % (uid, gid), follow_symlinks=False)
        else:
            try:
                os.removexattr(path, OWNER_XATTR, follow_symlinks=False)
            except OSError as error:
                if error.errno not in {errno.ENODATA, errno.ENOTSUP}:
                    raise


class LayerBuilder:
    """Fills ``folder`` with what changes over ``base``; paths are the merged tree's."""

    def __init__(self, base: MergedTree, folder: Path, *, as_root: bool) -> None:
        self._base = base
        self._folder = str(folder)
        self._as_root = as_root
        root = base.root()
        if root is not None:
            self._copy_metadata(root, self._folder)

    # -- places --------------------------------------------------------------------------------

    def host(self, path: str) -> str:
        """Where a (resolved) path is in the layer."""
        return self._folder if path == "/" else self._folder + path

    def resolve(self, path: str) -> str:
        """``path`` with links on the way to its last part resolved; the last part stays."""
        clean = normalize(path)
        if clean == "/":
            return clean
        parent, _, name = clean.rpartition("/")
        return join(self._base.resolve(parent or "/"), name)

    def ensure_directory(self, path: str) -> str:
        """A (resolved) directory in the layer, with its parents: as in the base, or new.

        Raises:
            NoSuchPath: something on the way is no directory.
        """
        host = self.host(path)
        if path == "/":
            return host
        self.ensure_directory(path.rpartition("/")[0] or "/")
        if os.path.isdir(host) and not os.path.islink(host):
            return host
        entry = self._base.lookup(path, follow=False)
        if os.path.lexists(host) or (entry is not None and not entry.is_directory):
            raise NoSuchPath(f"path {path!r}", got="a file", expected="a directory")
        os.mkdir(host, 0o755)
        if entry is not None:
            self._copy_metadata(entry, host)
        return host

    def _place(self, path: str) -> str:
        """Where a new entry goes: its parents are there, and nothing is in the way."""
        self.ensure_directory(path.rpartition("/")[0] or "/")
        host = self.host(path)
        if os.path.lexists(host):
            remove_tree(host)
        return host

    # -- single entries ------------------------------------------------------------------------

    def write(self, path: str, contents: bytes, mode: int, owner: tuple[int, int] | None) -> None:
        """A file of these contents at a resolved path."""
        host = self._place(path)
        with open(host, "wb") as file:
            file.write(contents)
        os.chmod(host, mode)
        self._own(host, owner)

    def link(self, source: str, path: str) -> None:
        """A file of the same file system at a resolved path, as a hard link where possible."""
        host = self._place(path)
        if not _link(source, host):
            shutil.copy2(source, host)

    def symlink(self, target: str, path: str) -> None:
        """A symbolic link at a resolved path; it may lead nowhere."""
        os.symlink(target, self._place(path))

    def make_directory(self, path: str, mode: int, owner: tuple[int, int] | None) -> None:
        """A directory at a resolved path; one that is there gets the permissions and owner."""
        host = self.ensure_directory(path)
        os.chmod(host, mode)
        self._own(host, owner)

    def renew(
        self, entry: Entry, *, owner: tuple[int, int] | None = None, seconds: int | None = None
    ) -> None:
        """An entry of the base with another owner, or time (in seconds since the epoch)."""
        if entry.is_directory:
            host = self.ensure_directory(entry.path)
        else:
            host = self._place(entry.path)
            self._copy(entry, host, owner_of(entry), None)
        if os.path.lexists(host):
            self._set_metadata(host, entry, owner, None)
            if seconds is not None:
                os.utime(host, (seconds, seconds), follow_symlinks=False)

    def replace_directory(self, entry: Entry, path: str) -> None:
        """A directory like that of another tree at a path, in place of whatever else is there."""
        host = self.host(path)
        if not os.path.isdir(host) or os.path.islink(host):
            host = self._place(path)
            os.mkdir(host)
        self._copy_metadata(entry, host)

    def remove(self, path: str) -> None:
        """Hide what the base has at a resolved path, if anything."""
        if self._base.lookup(path, follow=False) is not None:
            make_whiteout(self._place(path))

    def put(
        self, entry: Entry, path: str, *, owner: tuple[int, int] | None, mode: int | None
    ) -> None:
        """An entry of another tree (no directory) at a resolved path."""
        self._put(entry, self._place(path), owner=owner, mode=mode)

    def copy(self, entry: Entry, path: str, *, owner: tuple[int, int] | None) -> None:
        """As ``put``, but never a hard link: for what will be written to."""
        host = self._place(path)
        self._copy(entry, host, owner_of(entry) if owner is None else owner, None)

    def _put(
        self, entry: Entry, host: str, *, owner: tuple[int, int] | None, mode: int | None
    ) -> None:
        kind = entry.kind
        same_owner = owner is None or owner == owner_of(entry)
        same_mode = mode is None or stat.S_IMODE(entry.status.st_mode) == mode
        if same_owner and (same_mode or kind != "file") and _link(entry.host, host):
            return
        self._copy(entry, host, owner_of(entry) if owner is None else owner, mode)

    def _copy(self, entry: Entry, host: str, owner: tuple[int, int], mode: int | None) -> None:
        kind = entry.kind
        if kind == "symlink":
            os.symlink(os.readlink(entry.host), host)
        elif kind == "file":
            shutil.copyfile(entry.host, host, follow_symlinks=False)
        elif self._as_root:
            os.mknod(host, entry.status.st_mode, entry.status.st_rdev)
        else:
            return
        self._set_metadata(host, entry, owner, mode)

    # -- whole trees ---------------------------------------------------------------------------

    def put_tree(
        self,
        root: Entry,
        entries: Iterable[tuple[str, Entry]],
        path: str,
        *,
        owner: tuple[int, int] | None = None,
        mode: int | None = None,
    ) -> None:
        """Entries of another tree merged into the directory at a resolved path.

        A directory that is new takes the permissions and owner of ``root``.
        """
        existing = self._base.lookup(path, follow=False)
        is_new = existing is None and not os.path.lexists(self.host(path))
        target = self.ensure_directory(path)
        if is_new or (path == "/" and existing is None) or mode is not None or owner is not None:
            self._set_metadata(target, root, owner, mode)
        times: list[tuple[str, os.stat_result]] = []
        for relative, entry in entries:
            host = f"{target}/{relative}"
            if entry.is_directory:
                self._merge_directory(join(path, relative), host)
                self._set_metadata(host, entry, owner, mode)
                times.append((host, entry.status))
            else:
                if not is_new and os.path.lexists(host):
                    remove_tree(host)
                self._put(entry, host, owner=owner, mode=mode)
        for host, status in reversed(times):
            os.utime(host, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _merge_directory(self, path: str, host: str) -> None:
        try:
            os.mkdir(host)
        except FileExistsError:
            if not os.path.isdir(host) or os.path.islink(host):
                raise NoSuchPath(f"path {path!r}", got="a file", expected="a directory") from None

    # -- metadata ------------------------------------------------------------------------------

    def _own(self, host: str, owner: tuple[int, int] | None) -> None:
        if owner is not None and owner != (0, 0):
            set_owner(host, *owner, as_root=self._as_root)

    def _copy_metadata(self, entry: Entry, host: str) -> None:
        self._set_metadata(host, entry, None, None)

    def _set_metadata(
        self, host: str, entry: Entry, owner: tuple[int, int] | None, mode: int | None
    ) -> None:
        """Owner, permissions, extended attributes and times of ``entry``, unless others given."""
        wanted = owner_of(entry) if owner is None else owner
        link = entry.kind == "symlink"
        if self._as_root or wanted != (0, 0):
            set_owner(host, *wanted, as_root=self._as_root)
        if not link:
            os.chmod(host, stat.S_IMODE(entry.status.st_mode) if mode is None else mode)
            _copy_capabilities(entry.host, host)
        times = (entry.status.st_atime_ns, entry.status.st_mtime_ns)
        os.utime(host, ns=times, follow_symlinks=False)


def _copy_capabilities(source: str, target: str) -> None:
    """File capabilities, such as ping's; where they cannot be set they are left out."""
    try:
        value = os.getxattr(source, "security.capability", follow_symlinks=False)
        os.setxattr(target, "security.capability", value, follow_symlinks=False)
    except OSError:
        return


def _link(source: str, target: str) -> bool:
    """Hard-link; False where that is not possible (too many links, another file system)."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno in {errno.EMLINK, errno.EXDEV, errno.EPERM, errno.ENOTSUP}:
            return False
        raise
    return True
