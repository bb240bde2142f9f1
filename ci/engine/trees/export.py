"""Writing trees and files to the host."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ci.engine.store.layers import remove_tree
from ci.engine.trees.merged import Entry, MergedTree
from ci.errors import CiError

__all__ = ["ExportError", "export_directory", "export_file", "remove_paths"]


_PREFIX = ".towpath-"


class ExportError(CiError):
    """The host's file system does not take it."""


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"export to {str(target)!r}",
            got=f"{error.strerror} ({error.filename or target})",
            expected="a place that can be written",
        ) from error


def export_directory(tree: MergedTree, root: Entry | None, target: Path, *, wipe: bool) -> None:
    """Merge a directory's entries into ``target``; with ``wipe`` nothing else stays in it.

    Raises:
        ExportError: something cannot be written.
    """
    with _writing(target):
        if wipe and target.is_dir():
            for path in target.iterdir():
                remove_tree(path)
        target.mkdir(parents=True, exist_ok=True)
        _sweep(str(target))
        if root is None:
            return
        skip = len(root.path.rstrip("/")) + 1
        folders: list[tuple[str, os.stat_result]] = []
        for entry in tree.walk(root):
            host = f"{target}/{entry.path[skip:]}"
            if entry.is_directory:
                _make_folder(host)
                folders.append((host, entry.status))
            else:
                _write_entry(entry, host)
        for host, status in reversed(folders):
            os.chmod(host, _mode(status))
            os.utime(host, ns=(status.st_atime_ns, status.st_mtime_ns))


def export_file(entry: Entry, target: Path, *, allow_parent_dir: bool) -> Path:
    """Write a file to ``target``, or into the folder ``target``, and return where.

    Raises:
        ExportError: it cannot be written there.
    """
    with _writing(target):
        if target.is_dir():
            if not allow_parent_dir:
                raise ExportError(
                    f"export to {str(target)!r}", got="a folder", expected="the path of a file"
                )
            target = target / entry.path.rpartition("/")[2]
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(str(target.parent))
        _write_entry(entry, str(target))
    return target


def remove_paths(target: Path, paths: Iterable[str]) -> None:
    """Remove paths below ``target``; what is not there, or behind a link, is left alone.

    Raises:
        ExportError: something cannot be removed.
    """
    with _writing(target):
        root = os.path.realpath(target)
        for path in paths:
            parent, _, name = f"{root}/{path.rstrip('/')}".rpartition("/")
            if name not in ("", ".", "..") and os.path.realpath(parent) == parent:
                remove_tree(f"{parent}/{name}")


def _make_folder(host: str) -> None:
    try:
        os.mkdir(host)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(host).st_mode):
            os.unlink(host)
            os.mkdir(host)
        else:
            os.chmod(host, os.stat(host).st_mode | 0o700)
            _sweep(host)


def _write_entry(entry: Entry, host: str) -> None:
    """A file or link, whole or not at all, and nothing else whenever the process is killed."""
    if os.path.isdir(host) and not os.path.islink(host):
        remove_tree(host)
    if entry.kind == "symlink":
        target = os.readlink(entry.host)
        _put(host, lambda place: os.symlink(target, place))
    elif entry.kind == "file":
        _write_file(entry, host)


def _put(host: str, make: Callable[[str], object]) -> None:
    """Have something made at ``host``, in the place of what is there."""
    try:
        make(host)
    except FileExistsError:
        _replace(host, make)


def _replace(host: str, make: Callable[[str], object]) -> None:
    """The same for what would write into it."""
    temporary = f"{os.path.dirname(host)}/{_PREFIX}{os.getpid()}-{os.urandom(6).hex()}"
    try:
        make(temporary)
        os.rename(temporary, host)
    except BaseException:
        remove_tree(temporary)
        raise


def _write_file(entry: Entry, host: str) -> None:
    try:
        fd = os.open(os.path.dirname(host), os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR}:
            raise
        _replace(host, lambda place: _copy(entry, place))
        return
    try:
        nameless = f"/proc/self/fd/{fd}"
        _copy(entry, nameless)
        # With src_dir_fd the link of /proc is followed.
        _put(host, lambda place: os.link(nameless, place, src_dir_fd=fd, follow_symlinks=True))
    finally:
        os.close(fd)


def _copy(entry: Entry, place: str) -> None:
    shutil.copyfile(entry.host, place)
    os.chmod(place, _mode(entry.status))
    os.utime(place, ns=(entry.status.st_atime_ns, entry.status.st_mtime_ns))


def _mode(status: os.stat_result) -> int:
    """Its permissions, but not whose rights a program takes: on the host the owner is another."""
    return stat.S_IMODE(status.st_mode) & ~(stat.S_ISUID | stat.S_ISGID)


def _sweep(folder: str) -> None:
    """Remove what a process that was killed had not renamed yet."""
    with os.scandir(folder) as found:
        for item in found:
            pid = item.name.removeprefix(_PREFIX).partition("-")[0]
            is_ours = item.name.startswith(_PREFIX) and pid.isdigit()
            if is_ours and not os.path.exists(f"/proc/{pid}"):
                os.unlink(item.path)
