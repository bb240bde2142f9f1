"""Reading the host's files into layers: copied once, hard-linked from then on.

An import writes an index: of each file its size, times, inode and digest. The next import of the
folder costs a walk; only files that differ from the index are read.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from ci.engine.store.file_digest import file_digest
from ci.engine.store.layers import Layer
from ci.engine.store.records import decode, encode
from ci.engine.store.store import Store
from ci.engine.trees.digest import TreeHasher
from ci.engine.trees.merged import Entry, MergedTree
from ci.engine.trees.patterns import select
from ci.engine.vertices.vertex import Patterns
from ci.errors import CiError

__all__ = ["HostPathError", "Import", "KnownDigests", "import_directory", "import_file"]

#: A file changed this recently may change again without a new time stamp.
_SETTLED_NS = 50_000_000
#: The same where the file system keeps whole seconds only, or every second one.
_SETTLED_COARSE_NS = 2_100_000_000
_SECOND_NS = 1_000_000_000

#: Up to this many bytes a file is read and written by us, beyond it the kernel copies.
_SMALL = 1 << 18

#: Inode, size, mtime, ctime, permissions: what changes when a file does.
_Stamp = list[int]


class HostPathError(CiError):
    """A path of the host cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """A host path in the store."""

    layer: Layer
    #: Content digest of the tree.
    digest: str


class KnownDigests:
    """Content digests of the files of an imported folder, from its index where many are asked for.

    To read some files costs less than to read the index.
    """

    _FEW = 64

    def __init__(self, store: Store, layer: Layer) -> None:
        self._index = Path(f"{store.layer_path(layer)}.index")
        self._known: dict[str, list[Any]] | None = None
        self._asked = 0

    def __call__(self, entry: Entry) -> str:
        """Hex BLAKE3 of a file."""
        self._asked += 1
        if self._asked <= self._FEW:
            return file_digest(entry.host)
        if self._known is None:
            try:
                self._known = decode(self._index.read_bytes()) or {}
            except OSError:
                self._known = {}
        found = self._known.get(entry.path[1:])
        return str(found[1]) if found else file_digest(entry.host)


def import_directory(store: Store, path: str, patterns: Patterns) -> Import:
    """The folder as a layer. An unchanged one costs no more than a walk.

    Raises:
        HostPathError: there is no such folder, or something in it cannot be read.
    """
    tree = _HostTree([path])
    try:
        root = tree.root()
    except OSError as error:
        raise _unreadable(path, error) from error
    if root is None or not root.is_directory:
        raise HostPathError(f"host path {path!r}", got="no folder", expected="a folder")
    try:
        entries = list(select(tree, root, _without_store(patterns, store, path)))
    except OSError as error:
        raise _unreadable(path, error) from error
    stamp = _fingerprint(root, entries)
    return _imported(store, f"{path}\0{patterns.digest}", root, entries, stamp)


def _without_store(patterns: Patterns, store: Store, path: str) -> Patterns:
    """The patterns, and not the store itself where it is in the folder."""
    place = os.path.relpath(os.path.realpath(store.root), os.path.realpath(path))
    if place.startswith(".."):
        return patterns
    return replace(patterns, exclude=(*patterns.exclude, place))


def import_file(store: Store, path: str) -> Import:
    """A file as a layer in which it stands under its own name.

    Raises:
        HostPathError: there is no such file, or it cannot be read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise HostPathError(f"host path {path!r}", got="no regular file", expected="a file")
        parent = os.stat(os.path.dirname(path))
    except OSError as error:
        raise _unreadable(path, error) from error
    name = os.path.basename(path)
    root = Entry("/", os.path.dirname(path), parent, (os.path.dirname(path),))
    entries = [(name, Entry("/" + name, os.path.realpath(path), status))]
    return _imported(store, f"file\0{path}", root, entries, _fingerprint(None, entries))


def _imported(
    store: Store, place: str, root: Entry, entries: list[tuple[str, Entry]], stamp: str
) -> Import:
    """The layer of the last import from this place, where the stamp is the same; else a new one."""
    with store.guard():
        known = store.get("host", place)
        if known and known.get("stamp") == stamp and store.has_layers(tuple(known["layers"])):
            return Import(layer=known["layers"][0], digest=known["digest"])
        return _Importer(store, known).run(place, root, entries, stamp)


def _unreadable(path: str, error: OSError) -> HostPathError:
    where = error.filename or path
    return HostPathError(f"host path {where!r}", got=error.strerror or str(error))


def _stamp(status: os.stat_result) -> _Stamp:
    return [
        status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode,
    ]  # fmt: skip


def _fingerprint(root: Entry | None, entries: list[tuple[str, Entry]]) -> str:
    """One digest of all stamps: equal means that nothing changed."""
    lines = [] if root is None else [f"{root.status.st_mode}"]
    for path, entry in entries:
        status = entry.status
        if entry.is_directory:
            lines.append(f"{path}\0{status.st_mode}")
        else:
            lines.append(
                f"{path}\0{status.st_mode} {status.st_dev} {status.st_ino} {status.st_size} "
                f"{status.st_mtime_ns} {status.st_ctime_ns}"
            )
    return blake3("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


class _HostTree(MergedTree):
    """A folder that others may change while it is read."""

    def children(self, folder: Entry) -> list[Entry]:
        """The entries of a directory; none of one that is gone."""
        try:
            return super().children(folder)
        except FileNotFoundError:
            if folder.path == "/":
                raise
            return []


def _settles(ctime_ns: int) -> int:
    """When no further change of a file can bear the same time stamp, in ns since the epoch."""
    return ctime_ns + (_SETTLED_NS if ctime_ns % _SECOND_NS else _SETTLED_COARSE_NS)


class _Importer:
    """One import: copies what is new, links what the previous one had."""

    def __init__(self, store: Store, previous: Mapping[str, Any] | None) -> None:
        self._store = store
        self._old: dict[str, list[Any]] = {}
        self._old_folder = ""
        if previous and store.has_layers(tuple(previous["layers"])):
            self._old_folder = str(store.layer_path(previous["layers"][0]))
            index = Path(self._old_folder + ".index")
            try:
                self._old = decode(index.read_bytes()) or {}
            except OSError:
                self._old = {}
        self._new: dict[str, list[Any]] = {}
        #: When the last change will have settled.
        self._settled = 0

    def run(self, place: str, root: Entry, entries: list[tuple[str, Entry]], stamp: str) -> Import:
        started = time.time_ns()
        folder = self._store.temporary()
        os.chmod(folder, stat.S_IMODE(root.status.st_mode) | 0o700)
        target = str(folder)
        for path, entry in entries:
            try:
                self._bring(path, entry, f"{target}/{path}")
            except OSError as error:
                if error.filename == entry.host:
                    raise _unreadable(entry.host, error) from error
                raise
        for path, entry in reversed(entries):
            if entry.is_directory:
                status = entry.status
                os.utime(f"{target}/{path}", ns=(status.st_mtime_ns, status.st_mtime_ns))
        digest = self._digest(target)
        settled = self._settled < started
        layer = self._store.add_layer(folder, read=False)
        self._keep_index(layer)
        record = {"layers": [layer], "digest": digest, "stamp": stamp if settled else ""}
        self._store.put("host", place, record)
        return Import(layer=layer, digest=digest)

    def _bring(self, path: str, entry: Entry, target: str) -> None:
        if entry.is_directory:
            os.mkdir(target)
            os.chmod(target, stat.S_IMODE(entry.status.st_mode) | 0o700)
            return
        self._settled = max(self._settled, _settles(entry.status.st_ctime_ns))
        if entry.kind == "symlink":
            with self._unless_gone(entry.host):
                os.symlink(os.readlink(entry.host), target)
            times = (entry.status.st_atime_ns, entry.status.st_mtime_ns)
            os.utime(target, ns=times, follow_symlinks=False)
        elif entry.kind == "file":
            old = self._old.get(path)
            if old is not None and old[0] == _stamp(entry.status):
                try:
                    os.link(f"{self._old_folder}/{path}", target)
                except OSError:
                    old = None
                else:
                    self._new[path] = old
                    return
            with self._unless_gone(entry.host):
                self._copy(path, entry, target)

    @contextmanager
    def _unless_gone(self, host: str) -> Iterator[None]:
        """What went, or became something else, since it was listed is left out; look again soon."""
        try:
            yield
        except OSError as error:
            gone = error.errno in {errno.ENOENT, errno.EINVAL, errno.ENXIO}
            if not gone or error.filename != host:
                raise
            self._settled = sys.maxsize

    def _copy(self, path: str, entry: Entry, target: str) -> None:
        """Copy a file; its digest is that of the copy, whatever the original becomes."""
        # A link in the place of what was a file when it was looked at leads anywhere.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        source = os.open(entry.host, flags)
        try:
            before = os.fstat(source)
            if not stat.S_ISREG(before.st_mode):
                raise OSError(errno.EINVAL, "no regular file any more", entry.host)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            copy = os.open(target, flags, stat.S_IMODE(before.st_mode))
            try:
                digest = _copy_content(source, copy, before.st_size)
                os.fchmod(copy, stat.S_IMODE(before.st_mode))
            finally:
                os.close(copy)
            os.utime(target, ns=(before.st_mtime_ns, before.st_mtime_ns))
            unchanged = _stamp(os.fstat(source)) == _stamp(entry.status)
        finally:
            os.close(source)
        settled = _settles(entry.status.st_ctime_ns) < time.time_ns()
        stamp = _stamp(entry.status) if unchanged and settled else []
        self._new[path] = [stamp, digest or file_digest(target)]

    def _digest(self, target: str) -> str:
        tree = MergedTree([target])
        root = tree.root()
        assert root is not None  # noqa: S101 - it was made above
        hasher = TreeHasher(lambda entry: str(self._new[entry.path[1:]][1]))
        hasher.add("", root)
        return hasher.add_all((entry.path[1:], entry) for entry in tree.walk(root)).hexdigest()

    def _keep_index(self, layer: Layer) -> None:
        """Beside the layer, so that it goes with it."""
        index = f"{self._store.layer_path(layer)}.index"
        temporary = self._store.temporary() / "index"
        temporary.write_bytes(encode(self._new))
        os.rename(temporary, index)
        os.rmdir(temporary.parent)


def _write_all(target: int, content: bytes) -> None:
    """A full disk takes less than it is given before it takes nothing."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(target, rest) :]


def _copy_content(source: int, target: int, size: int) -> str:
    """Copy the content; its digest, where it passed through our hands."""
    if size <= _SMALL:
        content = os.read(source, _SMALL + 1)
        if len(content) <= _SMALL and not os.read(source, 1):
            _write_all(target, content)
            return blake3(content).hexdigest()
        os.lseek(source, 0, os.SEEK_SET)
    try:
        while os.copy_file_range(source, target, 1 << 30):
            pass
    except OSError:  # not between these file systems
        os.lseek(source, 0, os.SEEK_SET)
        os.ftruncate(target, 0)
        os.lseek(target, 0, os.SEEK_SET)
        with open(source, "rb", closefd=False) as reader, open(target, "wb", closefd=False) as out:
            shutil.copyfileobj(reader, out, 1 << 20)
    return ""
