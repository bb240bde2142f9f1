"""Layer tars into folders: overlay format for the store, or flattened to one root file system.

Nothing is ever written outside the destination: ``..`` is refused, absolute names are taken from
the root, and links in a path are followed within the image only.
https://github.com/opencontainers/image-spec/blob/main/layer.md
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ci.engine.images.oci import ImageError
from ci.engine.images.stream import CHUNK, HashingReader, Readable, broken, decompressed
from ci.engine.images.tars import BoundedTarInfo, Parts, check_entry, copy_content, parts_of
from ci.engine.store.layers import OWNER_XATTR, is_whiteout, make_opaque, make_whiteout, remove_tree
from ci.engine.trees.builder import set_owner
from ci.engine.trees.merged import MergedTree

__all__ = ["LayerUnpacker", "unpack_layer"]

_WHITEOUT = ".wh."
_OPAQUE_MARKER = ".wh..wh..opq"
#: Names of AUFS's own, which are no part of the image.
_AUFS = ".wh..wh."
_XATTR = "SCHILY.xattr."
_MAX_LINKS = 40
#: What the system says of an entry that no file system takes.
_REFUSALS = frozenset(
    {
        errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.EMLINK, errno.ENAMETOOLONG,
        errno.ENOTDIR, errno.EPERM, errno.EFBIG, errno.EOVERFLOW, errno.ENOENT, errno.ERANGE,
        errno.E2BIG,
    }
)  # fmt: skip


def unpack_layer(
    source: IO[bytes],
    folder: Path,
    *,
    lowers: Sequence[Path] = (),
    flat: bool = False,
    as_root: bool | None = None,
) -> str:
    """Unpack one layer's tar (gzip, zstd or plain) into ``folder``; the tar's diff ID.

    A process that is not root notes owners other than root in ``OWNER_XATTR``.

    Args:
        source: The layer blob, read to its end.
        folder: Exists. Empty, unless ``flat``: then it holds the layers below.
        lowers: Folders of the layers below, lowest first, which links in paths lead through.
        flat: Delete what a whiteout names, rather than note it for overlayfs.
        as_root: Give files their owners and make devices; None is what the process may.

    Raises:
        ImageError: the tar is broken, or an entry would land outside the folder.
    """
    unpacker = LayerUnpacker(folder, lowers=lowers, flat=flat, as_root=as_root)
    with broken("layer"):
        tar_stream = HashingReader(decompressed(source))
        with tarfile.open(  # type: ignore[call-overload]
            fileobj=tar_stream, mode="r|", bufsize=CHUNK, tarinfo=BoundedTarInfo
        ) as tar:
            for member in tar:
                if member.isreg():
                    tar.fileobj.seek(member.offset_data)
                unpacker.add(member, tar.fileobj)
                tar.members.clear()  # or a layer of a million files fills the memory
        unpacker.finish()
        tar_stream.drain()
    return tar_stream.digest


class LayerUnpacker:
    """Puts a layer's entries into a folder, one after another."""

    def __init__(
        self,
        folder: Path,
        *,
        lowers: Sequence[Path] = (),
        flat: bool = False,
        as_root: bool | None = None,
        whiteouts: bool = True,
    ) -> None:
        """Start with no entry; without ``whiteouts``, names that begin with ``.wh.`` are plain."""
        self._whiteouts = whiteouts
        self._root = folder
        self._below = MergedTree([str(lower) for lower in lowers])
        self._flat = flat
        self._as_root = os.geteuid() == 0 if as_root is None else as_root
        #: Folders known to be there, as written: where they really are.
        self._folders: dict[Parts, Parts] = {(): ()}
        #: What this layer brought, and the folders above, which its own whiteouts spare.
        self._own: set[Parts] = set()
        #: Mode and time of folders, set last: a read-only one must be filled first.
        self._late: dict[Parts, tuple[int, float]] = {}
        self._hides_all = False

    def add(self, member: tarfile.TarInfo, content: Readable) -> None:
        """Put one entry; ``content`` stands where a file's data begins.

        Raises:
            ImageError: it would land outside, or its parent is no folder.
        """
        try:
            self._add(member, content)
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else errno.EINVAL
            if number not in _REFUSALS:
                raise
            said = error.strerror if isinstance(error, OSError) else str(error)
            raise ImageError(
                f"layer entry {member.name[:200]!r}",
                got=said or str(error),
                expected="an entry that this file system takes",
            ) from error

    def _add(self, member: tarfile.TarInfo, content: Readable) -> None:
        check_entry(member)
        parts = parts_of(member.name)
        if not parts:
            if member.isdir():
                self._describe((), member)
            return
        marked = self._whiteouts and parts[-1].startswith(_WHITEOUT)
        if self._whiteouts and parts[-1] != _OPAQUE_MARKER and _is_aufs(parts):
            return
        parent = self._folder(parts[:-1])
        if marked and parts[-1] == _OPAQUE_MARKER:
            self._hide_below(parent)
        elif marked:
            self._whiteout((*parent, parts[-1].removeprefix(_WHITEOUT)))
        else:
            self._put((*parent, parts[-1]), member, content)

    def finish(self) -> None:
        """Give the folders their modes and times."""
        if self._hides_all:
            self._hide_all_below()
        for parts in sorted(self._late, key=len, reverse=True):
            mode, mtime = self._late[parts]
            path = self._path(parts)
            path.chmod(mode)
            os.utime(path, (mtime, mtime))

    def _path(self, parts: Parts) -> Path:
        return self._root.joinpath(*parts)

    def _find_below(self, parts: Parts) -> Path | None:
        """That entry in the layers below."""
        entry = self._below.lookup("/".join(parts), follow=False)
        return Path(entry.host) if entry else None

    # -- folders ------------------------------------------------------------------------------

    def _folder(self, parts: Parts, links: int = 0) -> Parts:
        """Where that folder really is; made if need be, like the one in the layers below."""
        if parts in self._folders:
            return self._folders[parts]
        parent = self._folder(parts[:-1], links)
        real = (*parent, parts[-1])
        status = self._status(real)
        if status is None or (is_whiteout(status) and not self._flat):
            below = self._find_below(real) if status is None else None
            status = below.lstat() if below else None
            if status is None or stat.S_ISDIR(status.st_mode):
                self._make_folder(real, status)
            elif below and stat.S_ISLNK(status.st_mode):
                real = self._follow(real, str(below.readlink()), links)
            else:
                raise _not_a_folder(real)
        elif stat.S_ISLNK(status.st_mode):
            real = self._follow(real, str(self._path(real).readlink()), links)
        elif not stat.S_ISDIR(status.st_mode):
            raise _not_a_folder(real)
        self._folders[parts] = real
        return real

    def _follow(self, link: Parts, target: str, links: int) -> Parts:
        """The folder that a link leads to, never above the root."""
        if links >= _MAX_LINKS:
            raise ImageError(f"layer entry {'/'.join(link)}", got="a loop of symbolic links")
        trail = [] if target.startswith("/") else list(link[:-1])
        for part in target.split("/"):
            if part == "..":
                trail = trail[:-1]
            elif part not in {"", "."}:
                trail = list(self._folder((*trail, part), links + 1))
        return tuple(trail)

    def _make_folder(self, parts: Parts, like: os.stat_result | None) -> None:
        """A folder that the tar does not list: as the one below, else root's with 0755."""
        path = self._path(parts)
        hidden = self._remove(parts)
        path.mkdir(0o700)
        if hidden:
            make_opaque(str(path))
        mode = stat.S_IMODE(like.st_mode) if like else 0o755
        self._late[parts] = (mode, like.st_mtime if like else 0.0)
        if self._as_root and like:
            os.lchown(path, like.st_uid, like.st_gid)

    # -- entries --------------------------------------------------------------------------------

    def _put(self, parts: Parts, member: tarfile.TarInfo, content: Readable) -> None:
        path = self._path(parts)
        if member.islnk():
            self._link(parts, member)
            return
        if member.isdir():
            status = self._status(parts)
            if status is None or not stat.S_ISDIR(status.st_mode):
                hidden = self._remove(parts)
                path.mkdir(0o700)
                if hidden:
                    make_opaque(str(path))
            self._folders[parts] = parts
        else:
            self._remove(parts)
            if not self._create(path, member, content):
                return
        self._claim(parts)
        self._describe(parts, member)

    def _create(self, path: Path, member: tarfile.TarInfo, content: Readable) -> bool:
        """Make what is no folder and no hard link; False where that kind cannot be made."""
        if member.issym():
            path.symlink_to(member.linkname)
        elif member.isfifo():
            os.mkfifo(path, 0o600)
        elif member.ischr() or member.isblk():
            # A user may not make devices, and 0/0 would be a whiteout in disguise.
            if not self._as_root or (member.devmajor, member.devminor) == (0, 0):
                return False
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            try:
                os.mknod(path, 0o600 | kind, os.makedev(member.devmajor, member.devminor))
            except PermissionError:  # root of a container that may not
                return False
        elif member.isreg():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                copy_content(member, content, file)
        else:
            return False
        return True

    def _link(self, parts: Parts, member: tarfile.TarInfo) -> None:
        """A hard link; its target may be in a layer below, and is then copied up first."""
        wanted = parts_of(member.linkname)
        if not wanted:
            raise ImageError(f"layer entry {member.name}", got="a hard link to the root")
        target = (*self._folder(wanted[:-1]), wanted[-1])
        if target == parts:
            return
        status = self._status(target)
        gone = status is not None and is_whiteout(status) and not self._flat
        if status is None or gone:
            below = None if gone else self._find_below(target)
            if below is None:
                raise ImageError(
                    f"layer entry {member.name}", got=f"a hard link to {member.linkname}, not there"
                )
            self._copy_up(below, self._path(target))
        self._remove(parts)
        os.link(self._path(target), self._path(parts), follow_symlinks=False)
        self._claim(parts)

    def _copy_up(self, below: Path, target: Path) -> None:
        status = below.lstat()
        if stat.S_ISREG(status.st_mode):
            shutil.copyfile(below, target)
        elif stat.S_ISLNK(status.st_mode):
            target.symlink_to(below.readlink())
        elif stat.S_ISDIR(status.st_mode):
            raise ImageError(f"layer entry {target.name!r}", got="a hard link to a folder")
        else:
            os.mknod(target, status.st_mode, status.st_rdev)
        if self._as_root:
            os.lchown(target, status.st_uid, status.st_gid)
        shutil.copystat(below, target, follow_symlinks=False)

    def _claim(self, parts: Parts) -> None:
        for depth in range(len(parts), 0, -1):
            if parts[:depth] in self._own:
                return
            self._own.add(parts[:depth])

    def _describe(self, parts: Parts, member: tarfile.TarInfo) -> None:
        """Owner, extended attributes, mode and time, in that order: chown clears setuid."""
        path = self._path(parts)
        if self._as_root or member.isreg() or member.isdir():
            set_owner(str(path), member.uid, member.gid, as_root=self._as_root)
        self._set_xattrs(path, member)
        mode = member.mode & 0o7777
        if member.isdir():
            self._late[parts] = (mode, member.mtime)
            return
        if not member.issym():
            path.chmod(mode)
        os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)

    def _set_xattrs(self, path: Path, member: tarfile.TarInfo) -> None:
        for key, value in member.pax_headers.items():
            name = key.removeprefix(_XATTR)
            # These would let an image forge whiteouts and owners.
            if name in {key, OWNER_XATTR} or ".overlay." in name:
                continue
            try:
                os.setxattr(
                    path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False
                )
            except OSError:
                if self._as_root and name == "security.capability":
                    raise

    # -- deletions ----------------------------------------------------------------------------

    def _status(self, parts: Parts) -> os.stat_result | None:
        try:
            return self._path(parts).lstat()
        except FileNotFoundError:
            return None

    def _remove(self, parts: Parts) -> bool:
        """Remove what is there; True when it hid the layers below, as all but folders do."""
        status = self._status(parts)
        if status is None:
            self._forget_link(parts)
            return False
        path = self._path(parts)
        if stat.S_ISDIR(status.st_mode):
            remove_tree(path)
            self._forget(parts)
            return False
        path.unlink()
        if stat.S_ISLNK(status.st_mode):
            self._forget(parts)
        return not self._flat

    def _forget(self, parts: Parts) -> None:
        """What was known of a place that is now another."""
        depth = len(parts)
        for key, real in list(self._folders.items()):
            if key[:depth] == parts or real[:depth] == parts:
                del self._folders[key]
        for key in [key for key in self._late if key[:depth] == parts]:
            del self._late[key]

    def _forget_link(self, parts: Parts) -> None:
        """The same of what is not in this layer: a link of a layer below may have been followed."""
        if parts in self._folders:
            self._forget(parts)

    def _whiteout(self, parts: Parts) -> None:
        if parts[-1] in {"", ".", ".."}:
            raise ImageError("layer entry", got=f"a whiteout of {parts[-1]!r}")
        status = self._status(parts)
        if self._flat:
            self._clear(parts)
        elif status is None:
            self._forget_link(parts)
            make_whiteout(str(self._path(parts)))
        elif stat.S_ISDIR(status.st_mode) and parts in self._own:
            self._hide_below(parts)
        elif parts not in self._own and not is_whiteout(status):
            self._remove(parts)
            make_whiteout(str(self._path(parts)))

    def _hide_below(self, folder: Parts) -> None:
        """Hide what is in a folder of the layers below; what only markers brought goes, too."""
        for entry in list(self._path(folder).iterdir()):
            self._clear((*folder, entry.name))
        if not self._flat:
            # Overlayfs does not look at the root of a layer.
            self._hides_all = self._hides_all or not folder
            make_opaque(str(self._path(folder)))

    def _hide_all_below(self) -> None:
        """Make each name at the root of the layers below hidden by itself."""
        root = self._below.root()
        for entry in self._below.children(root) if root else ():
            own = self._status((entry.path[1:],))
            if own is None:
                make_whiteout(str(self._path((entry.path[1:],))))
            elif stat.S_ISDIR(own.st_mode):
                make_opaque(str(self._path((entry.path[1:],))))

    def _clear(self, parts: Parts) -> None:
        """Remove what earlier layers left at a path, but nothing of this one."""
        status = self._status(parts)
        if status is None:
            return
        if parts not in self._own:
            self._remove(parts)
        elif stat.S_ISDIR(status.st_mode):
            for entry in list(self._path(parts).iterdir()):
                self._clear((*parts, entry.name))


def _is_aufs(parts: Parts) -> bool:
    return any(part.startswith(_AUFS) for part in parts)


def _not_a_folder(parts: Parts) -> ImageError:
    return ImageError(f"layer entry below {'/'.join(parts)}", got="a parent that is no folder")
