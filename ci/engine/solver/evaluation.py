"""From vertices to snapshots, one case a vertex."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from ci.engine.flights import gather
from ci.engine.git.repository import GitClean, GitTree
from ci.engine.solver.editor import Editor
from ci.engine.store.layers import EMPTY, Layer, Snapshot
from ci.engine.trees.host import Import, import_directory, import_file
from ci.engine.trees.making import TreeBuilder
from ci.engine.trees.patterns import EVERYTHING
from ci.engine.trees.squash import squash
from ci.engine.vertices.edits import DiffText, Edit
from ci.engine.vertices.vertex import (
    Copy,
    Diff,
    DirectoryRef,
    DockerCopy,
    ExecMountOutput,
    ExecRootOutput,
    Filter,
    HostDirectory,
    HostFile,
    Http,
    ImageRoot,
    NewDirectory,
    NewFile,
    Scratch,
    Symlink,
    Tarball,
    Tree,
    Without,
    fingerprint,
)
from ci.errors import CiError

if TYPE_CHECKING:
    from ci.engine.solver.solver import Solver

__all__ = ["Evaluation", "UnknownImage"]

#: Bytes of mount options that layers may take; the kernel's page of 4,096 also holds the exec's
#: own three folders and bwrap's flags.
_OPTIONS = 3_700
#: Well below what most folders' names allow, so that layers are the same on every machine.
_MAX_LAYERS = 48


class UnknownImage(CiError):
    """The store does not have an image's layers (any more)."""


class Evaluation:
    """Evaluates the vertices of one solver."""

    def __init__(self, solver: Solver, *, as_root: bool) -> None:
        self._solver = solver
        self._store = solver.store
        self._as_root = as_root
        self._trees = TreeBuilder(self._store, as_root=as_root)
        self._editor = Editor(self._store, as_root=as_root)

    async def snapshot(self, tree: Tree) -> Snapshot:  # noqa: PLR0911 - one case a vertex
        """The layers of a tree."""
        match tree:
            case Scratch():
                return EMPTY
            case ImageRoot():
                return self._image(tree)
            case HostDirectory():
                return ((await self.host_directory(tree)).layer,)
            case HostFile():
                return ((await self._host_file(tree)).layer,)
            case ExecRootOutput():
                record = await self._solver.exec_record(tree.exec)
                return tuple(record["layers"])
            case ExecMountOutput():
                return await self._mount_output(tree)
            case _:
                return await self._built(tree)

    def _image(self, tree: ImageRoot) -> Snapshot:
        record = self._store.get("image", tree.image_digest)
        layers = tuple(record["layers"]) if record else ()
        if record is None or not self._store.has_layers(layers):
            raise UnknownImage(
                f"image {tree.reference or tree.image_digest}",
                got="it is not in the store (any more)",
                hint="run again: it is fetched anew",
            )
        return layers

    async def host_directory(self, tree: HostDirectory) -> Import:
        """The import of a host folder, made once a session."""
        call = partial(import_directory, self._store, tree.path, tree.patterns)
        return await self._solver.once("host " + tree.digest, partial(_in_thread, call))

    async def _host_file(self, tree: HostFile) -> Import:
        call = partial(import_file, self._store, tree.path)
        return await self._solver.once("host " + tree.digest, partial(_in_thread, call))

    async def _mount_output(self, tree: ExecMountOutput) -> Snapshot:
        record = await self._solver.exec_record(tree.exec)
        found = record["mounts"].get(tree.path)
        if found is None:
            raise CiError(f"mount {tree.path!r}", got="nothing is kept of it")
        return tuple(found["layers"])

    # -- what is built -------------------------------------------------------------------------

    async def _built(self, tree: Tree) -> Snapshot:  # noqa: PLR0911 - one case a vertex
        match tree:
            case NewFile() | NewDirectory() | Symlink() | Without():
                return await self._change(tree)
            case Edit():
                return await self._edit(tree)
            case Copy():
                return await self._copy(tree)
            case DockerCopy():
                return await self._docker_copy(tree)
            case Filter():
                return await self._filter(tree)
            case Diff() | DiffText():
                return await self._diff(tree)
            case Tarball():
                return await self._tarball(tree)
            case Http():
                return await self._http(tree)
            case GitTree() | GitClean():
                return await self._git(tree)
        raise TypeError(f"cannot evaluate {type(tree).__name__}")

    async def _change(self, tree: NewFile | NewDirectory | Symlink | Without) -> Snapshot:
        key = await self._solver.key(tree)
        below = await self._solver.snapshot(tree.tree)
        make: partial[Layer] | partial[Layer | None]
        if isinstance(tree, NewFile):
            make = partial(self._trees.new_file, tree, below)
        elif isinstance(tree, NewDirectory):
            make = partial(self._trees.new_directory, tree, below)
        elif isinstance(tree, Symlink):
            make = partial(self._trees.symlink, tree, below)
        else:
            make = partial(self._trees.without, tree, below)
        return await self._over(below, await self._solver.kept("tree", key, make))

    async def _edit(self, tree: Edit) -> Snapshot:
        key = await self._solver.key(tree)
        trees = [tree.tree, *(source.tree for source in tree.sources())]
        below, *sources = await gather(*(partial(self._solver.snapshot, one) for one in trees))
        make = partial(self._editor.layer, tree, below, sources)
        return await self._over(below, await self._solver.kept("tree", key, make))

    async def _copy(self, tree: Copy) -> Snapshot:
        plain = tree.owner is None and tree.permissions is None and tree.patterns == EVERYTHING
        whole = isinstance(tree.tree, Scratch) and tree.path == "/"
        if plain and whole and isinstance(tree.source, DirectoryRef):
            return await self._solver.subtree(tree.source)
        key, below, source = await self._prepared(tree)
        make = partial(self._trees.copy, tree, below, source)
        return await self._over(below, await self._solver.kept("tree", key, make))

    async def _docker_copy(self, tree: DockerCopy) -> Snapshot:
        """Its record has the whole tree, as an exec's has: what is below need not be looked at."""
        key = await self._solver.key(tree)
        found = self._solver.found("copy", key)
        if found is not None:
            return found
        below, *sources = await gather(
            partial(self._solver.snapshot, tree.tree),
            *(partial(self._solver.snapshot, source.source.tree) for source in tree.sources),
        )
        self._solver.counters.trees += 1
        made = await anyio.to_thread.run_sync(self._put_copy, tree, below, sources)
        self._store.put("copy", key, {"layers": list(made)})
        return made

    def _put_copy(self, tree: DockerCopy, below: Snapshot, sources: list[Snapshot]) -> Snapshot:
        from ci.engine.dockerfile.copying import copy_layer  # noqa: PLC0415 - only Dockerfiles

        with self._store.guard():
            layer = copy_layer(
                tree,
                self._store.layer_paths(below),
                [self._store.layer_paths(source) for source in sources],
                store=self._store,
                as_root=self._as_root,
            )
            return self.on_top(below, layer)

    async def _git(self, tree: GitTree | GitClean) -> Snapshot:
        key = await self._solver.key(tree)
        found = self._solver.found("git", key)
        if found is None:
            self._solver.counters.trees += 1
            found = (await self._solver.repositories.layer(tree),)
            self._store.put("git", key, {"layers": list(found)})
        return found

    async def _prepared(self, tree: Copy) -> tuple[str, Snapshot, Snapshot]:
        key = await self._solver.key(tree)
        below, source = await gather(
            partial(self._solver.snapshot, tree.tree),
            partial(self._solver.snapshot, tree.source.tree),
        )
        return key, below, source

    async def _filter(self, tree: Filter) -> Snapshot:
        if tree.patterns == EVERYTHING:
            return await self._solver.subtree(tree.source)
        key = await self._solver.key(tree)
        source = await self._solver.snapshot(tree.source.tree)
        make = partial(self._trees.subset, source, tree.source.path, tree.patterns)
        return await self._solver.kept("tree", key, make)

    async def _diff(self, tree: Diff | DiffText) -> Snapshot:
        key = await self._solver.key(tree)
        lower, upper = await gather(
            partial(self._solver.snapshot, tree.lower.tree),
            partial(self._solver.snapshot, tree.upper.tree),
        )
        places = (lower, tree.lower.path), (upper, tree.upper.path)
        write = self._trees.difference if isinstance(tree, Diff) else self._editor.diff_text
        make = partial(write, *places)
        return await self._solver.kept("tree", key, make)

    async def subtree(self, key: str, snapshot: Snapshot, path: str) -> Snapshot:
        """A directory as a tree of its own: hard links to its files."""
        make = partial(self._trees.subset, snapshot, path, EVERYTHING)
        return await self._solver.kept("subtree", key, make)

    async def _tarball(self, tree: Tarball) -> Snapshot:
        key = await self._solver.key(tree)
        roots = await gather(*(partial(self._solver.snapshot, root) for root in tree.roots))
        return await self._solver.kept("tree", key, partial(self._write_archive, tree, roots))

    def _write_archive(self, tree: Tarball, roots: list[Snapshot]) -> Layer:
        from ci.engine.images import archive  # noqa: PLC0415 - only where images are made

        target = self._store.temporary() / "container.tar"
        platforms = [
            ([Path(path) for path in self._store.layer_paths(root)], json.loads(config))
            for root, config in zip(roots, tree.configs, strict=True)
        ]
        archive.write(
            target,
            platforms=platforms,
            compression=tree.compression,
            media_types=tree.media_types,
            annotations=[dict(pairs) for pairs in tree.annotations],
            store=self._store,
        )
        return self._trees.lone_file(target, "container.tar", 0o600)

    async def _http(self, tree: Http) -> Snapshot:
        from ci.engine.solver.download import Download  # noqa: PLC0415 - only where it is asked for

        authorization, scope, port = "", "", 0
        if tree.auth_header is not None:
            value = await self._solver.secrets.value(tree.auth_header)
            authorization = value.decode("utf-8", "surrogateescape").strip()
            scope = await self._solver.secrets.fingerprint(tree.auth_header)
        if tree.service is not None:
            parts = urlsplit(tree.url)
            own = parts.port or (443 if parts.scheme == "https" else 80)
            port = await self._solver.loopback_port(tree.service, own)
            scope += tree.service.digest
        wanted = Download(
            url=tree.url,
            checksum=tree.checksum,
            authorization=authorization,
            scope=scope,
            port=port,
        )
        path, digest = await wanted.into(self._store)
        key = fingerprint("http", digest, tree.name, tree.permissions)
        make = partial(self._trees.file_copy, path, tree.name, tree.permissions)
        return await self._solver.kept("tree", key, make)

    # -- long chains ---------------------------------------------------------------------------

    async def _over(self, below: Snapshot, added: Snapshot) -> Snapshot:
        if not added:
            return below
        return await anyio.to_thread.run_sync(self.on_top, below, added[0])

    def on_top(self, below: Snapshot, layer: Layer | None) -> Snapshot:
        """A layer over others, in a form that overlayfs takes."""
        return self.fit((*below, layer)) if layer is not None else below

    def fit(self, snapshot: Snapshot) -> Snapshot:
        """The same tree in no more layers than can be mounted: the upper ones are squashed."""
        cost = len(str(self._store.root)) + len("/oldroot/l/123456:")
        room = min(_MAX_LAYERS, (_OPTIONS - 3 * (cost + 40)) // cost)
        if len(snapshot) <= room:
            return snapshot
        kept, upper = snapshot[: room // 3], snapshot[room // 3 :]
        key = fingerprint("squash", upper)
        record = self._store.get("squash", key)
        if record is None or not self._store.has_layers(tuple(record["layers"])):
            folder = self._store.temporary()
            squash(self._store.layer_paths(upper), folder, as_root=self._as_root)
            record = {"layers": [self._store.add_layer(folder)]}
            self._store.put("squash", key, record)
        return (*kept, *record["layers"])


async def _in_thread(call: partial[Import]) -> Import:
    return await anyio.to_thread.run_sync(call)
