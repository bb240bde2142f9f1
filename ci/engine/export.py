"""Writing trees and files to the host."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ci.engine.layers import remove_tree
from ci.engine.merged import Entry, MergedTree
from ci.errors import CiError

__all__ = ["ExportError", "export_directory", "export_file", "remove_paths"]


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
            os.chmod(host, stat.S_IMODE(status.st_mode))
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


def _write_entry(entry: Entry, host: str) -> None:
    """A file or link, whole or not at all."""
    if os.path.isdir(host) and not os.path.islink(host):
        remove_tree(host)
    temporary = f"{os.path.dirname(host)}/.towpath-{os.urandom(6).hex()}"
    try:
        if entry.kind == "symlink":
            os.symlink(os.readlink(entry.host), temporary)
        elif entry.kind == "file":
            shutil.copyfile(entry.host, temporary)
            os.chmod(temporary, stat.S_IMODE(entry.status.st_mode))
            status = entry.status
            os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
        else:
            return
        os.rename(temporary, host)
    except BaseException:
        remove_tree(temporary)
        raise
