"""The solver: evaluates vertices, each once, from the store where it can."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio

from ci.engine.dockerfile.digests import TakenDigests
from ci.engine.flights import Flights, gather
from ci.engine.sandbox.argv import Mode
from ci.engine.sandbox.box import Sandbox
from ci.engine.sandbox.lent import Host
from ci.engine.sandbox.limits import Limits
from ci.engine.solver.claims import claimed
from ci.engine.solver.evaluation import Evaluation
from ci.engine.solver.execs import ExecRunner, Finished, ServiceProcess
from ci.engine.solver.keys import Keys
from ci.engine.solver.outputs import Outputs
from ci.engine.solver.prepare import Inputs
from ci.engine.solver.reading import Reading
from ci.engine.solver.sockets import Sockets
from ci.engine.store.layers import Layer, Snapshot
from ci.engine.store.records import Record
from ci.engine.store.store import Store
from ci.engine.trees.digest import VERSION, TreeHasher, lone_file_digest
from ci.engine.trees.making import directory
from ci.engine.trees.passwd import owner_ids
from ci.engine.trees.patterns import EVERYTHING, select
from ci.engine.vertices.execution import (
    Attachment,
    ExecEvent,
    ExecFailed,
    ExecFinished,
    ExecResult,
    ExecStarted,
    NoSecrets,
    NoServices,
    Secrets,
    Services,
)
from ci.engine.vertices.vertex import (
    BindMount,
    CacheMount,
    Copy,
    DirectoryMount,
    DirectoryRef,
    Exec,
    ExecMountOutput,
    ExecRootOutput,
    FileMount,
    FileRef,
    HostDirectory,
    HostFile,
    Http,
    Mount,
    Owner,
    Patterns,
    Scratch,
    SecretMount,
    ServiceSpec,
    SocketMount,
    Tree,
    fingerprint,
)
from ci.errors import CiError

if TYPE_CHECKING:
    from ci.engine.git.repositories import Repositories
    from ci.engine.services.tunnels import Tunnels

__all__ = ["Counters", "Outcome", "Solver"]

T = TypeVar("T")


@dataclass
class Counters:
    """What a solver did: tests assert on it."""

    #: Execs that ran.
    execs: int = 0
    #: Execs whose result came from the store.
    hits: int = 0
    #: Trees that were built or imported.
    trees: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an exec of a session came out."""

    exec: Exec
    #: None where it was stopped.
    exit_code: int | None
    cached: bool
    #: The store has its result.
    kept: bool


class Solver(Reading):
    """Evaluates vertices. Use as an async context manager; leaving it stops what still runs.

    Args:
        store: Where results are kept; the caller closes it.
        secrets: The session's secrets.
        services: Starts the services that execs bind. May be set later: it needs the solver.
        on_event: Called on the event loop, in the context (contextvars) of the call that first
            asked for an exec.
        sandbox: None makes one, and closes it at the end.
        parallel: How many execs run at once; None is twice the processors, at least 4.
        host: What containers borrow from this machine.
        limits: What each command may use; of the sandbox that it makes.
    """

    def __init__(
        self,
        store: Store,
        *,
        secrets: Secrets | None = None,
        services: Services | None = None,
        on_event: Callable[[ExecEvent], None] | None = None,
        sandbox: Sandbox | None = None,
        parallel: int | None = None,
        host: Host | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.store = store
        self.secrets: Secrets = secrets or NoSecrets()
        self.services: Services = services or NoServices()
        #: Lead to services from this machine. Set later, as they are.
        self.tunnels: Tunnels | None = None
        self.counters = Counters()
        #: Of all execs so far, in the order in which they ended.
        self.outcomes: list[Outcome] = []
        self._on_event = on_event
        self._own_sandbox = sandbox is None
        self.sandbox = sandbox or Sandbox(
            scratch=store.temporary(), owner=store.owner, limits=limits
        )
        self._runner = ExecRunner(
            store,
            self.sandbox,
            host or Host(),
            parallel=parallel or max(4, 2 * (os.cpu_count() or 1)),
            emit=self._emit,
        )
        self._outputs = Outputs(store)
        self._sockets = Sockets(store.temporary)
        self._flights: Flights
        #: Digests of what copies and binds of Dockerfiles take.
        self.taken: TakenDigests
        self._keys: Keys
        self._evaluation: Evaluation

    async def __aenter__(self) -> Self:
        mode = await anyio.to_thread.run_sync(self.sandbox.mode)
        self._flights = Flights()
        self.taken = TakenDigests(self)
        self._keys = Keys(self.content_digest, self.taken.of, self.secrets, flavour=mode.value)
        self._evaluation = Evaluation(self, as_root=mode is not Mode.ONE_UID)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._flights.close()
        with anyio.CancelScope(shield=True):
            await self._sockets.close()
            await anyio.to_thread.run_sync(self._runner.close)
            if self._own_sandbox:
                await anyio.to_thread.run_sync(self.sandbox.close)

    # -- execs -----------------------------------------------------------------------------------

    async def run(self, exec: Exec) -> ExecResult:  # noqa: A002 - the vertex's own name
        """The result of an exec, from the store or by running it.

        Raises:
            ExecFailed: it ended with an exit code that ``expect`` does not allow.
            CiError: it could not be run.
        """
        record = await self.exec_record(exec)
        if self._outputs.is_inline(record):
            return self._outputs.result(record)
        return await anyio.to_thread.run_sync(self._outputs.result, record)

    async def exec_record(self, exec_: Exec) -> Record:
        """The record of an exec that met its expectation."""
        return await self._flights.once("exec " + exec_.digest, partial(self._exec, exec_))

    async def _exec(self, exec_: Exec) -> Record:
        key = await self._keys.of(exec_)
        return await self._flights.once("exec-key " + key, partial(self._by_key, exec_, key))

    async def _by_key(self, exec_: Exec, key: str) -> Record:
        """Identical execs of different recipes meet here."""
        record = self._known(key)
        if record is None:
            async with claimed(self.store, "exec " + key):
                record = self._known(key)
                if record is None:
                    record = await self._run(exec_)
                    self.store.put("exec", key, record)
                    return {**record, "cached": False}
        self.counters.hits += 1
        self._finished(exec_, record["exit_code"], cached=True, seconds=record["seconds"])
        return {**record, "cached": True}

    def _known(self, key: str) -> Record | None:
        """The record of an exec, with all that it names."""
        record = self.store.get("exec", key)
        return record if record is not None and self._outputs.whole(record) else None

    async def _run(self, exec_: Exec) -> Record:
        attached = (
            nullcontext(Attachment()) if exec_.offline else self.services.attach(exec_.services)
        )
        async with attached as attachment:
            inputs = await self._inputs(exec_, attachment)
            self.counters.execs += 1
            self._emit(ExecStarted(exec=exec_))
            try:
                record = await self._runner.run(
                    exec_, inputs, self.secrets, partial(self._exec_to_record, inputs)
                )
            except ExecFailed as error:
                self._finished(exec_, error.code, cached=False, seconds=0.0, kept=False)
                raise
            except BaseException:
                self._finished(exec_, None, cached=False, seconds=0.0, kept=False)
                raise
        self._finished(exec_, record["exit_code"], cached=False, seconds=record["seconds"])
        return record

    def _exec_to_record(self, inputs: Inputs, finished: Finished) -> Record:
        written = finished.written
        root = self._evaluation.on_top(inputs.root, written.root)
        mounts: dict[str, Any] = {}
        for path, layer in written.mounts.items():
            below = () if path in inputs.files else inputs.mounts[path]
            mounts[path] = {"layers": list(self._evaluation.on_top(below, layer))}
        return self._outputs.record(finished, root, mounts)

    async def _inputs(self, exec_: Exec, attachment: Attachment) -> Inputs:
        """Evaluate all that an exec needs."""
        mounts = [m for m in exec_.mounts if _source(m) is not None]
        files = frozenset([mount.path for mount in mounts if await self._is_file(mount)])
        root, *snapshots = await gather(
            partial(self.snapshot, exec_.root),
            *(partial(self._mounted, exec_, m, is_file=m.path in files) for m in mounts),
        )
        return Inputs(
            root=self._evaluation.fit(root),
            mounts={
                m.path: self._evaluation.fit(s) for m, s in zip(mounts, snapshots, strict=True)
            },
            files=files,
            secrets=await self.plain_secrets(exec_),
            sockets={
                mount.path: await self._socket(mount, exec_.root)
                for mount in exec_.mounts
                if isinstance(mount, SocketMount)
            },
            attachment=attachment,
        )

    async def plain_secrets(self, exec: Exec) -> dict[str, bytes]:  # noqa: A002 - as in run
        """The secrets that an exec is given, by name: to give, and to scrub output of."""
        wanted = [secret for _, secret in exec.secret_env]
        wanted += [m.secret for m in exec.mounts if isinstance(m, SecretMount)]
        return {secret.name: await self.secrets.value(secret) for secret in wanted}

    async def _socket(self, mount: SocketMount, root: Tree) -> str:
        """The path of a socket as its owner can use it."""
        if mount.owner is None:
            return mount.host_path
        owner = await self._look(root, partial(owner_ids, spec=mount.owner.spec))
        if self.sandbox.mode() is Mode.ONE_UID:  # whoever it is in there is this user out here
            return mount.host_path
        name = fingerprint("socket", mount.host_path, owner)
        return await self.once(name, partial(self._sockets.lead, mount.host_path, owner))

    async def _is_file(self, mount: Mount) -> bool:
        """A file is mounted; only the tree tells what a bind is."""
        if not isinstance(mount, BindMount):
            return isinstance(mount, FileMount)
        found = await self.stat(mount.source)
        return found is not None and found.kind == "file"

    async def _mounted(self, exec_: Exec, mount: Mount, *, is_file: bool) -> Snapshot:
        """The tree to mount, or that has the file: a directory's with the owner it is to have."""
        source = _source(mount)
        assert source is not None  # noqa: S101 - the caller chose
        if is_file or isinstance(source, FileRef):
            return await self.snapshot(source.tree)
        if isinstance(mount, DirectoryMount) and mount.owner is not None:
            uid, gid = await self._look(exec_.root, partial(owner_ids, spec=mount.owner.spec))
            owner = Owner(spec=f"{uid}:{gid}")
            return await self.snapshot(Copy(tree=Scratch(), path="/", source=source, owner=owner))
        return await self.subtree(source)

    async def start(self, exec: Exec, *, attachment: Attachment) -> ServiceProcess:  # noqa: A002
        """Start a service's process; the caller stops it. What it writes is kept nowhere."""
        inputs = await self._inputs(exec, attachment)
        return await self._runner.start(exec, inputs, self.secrets)

    async def interact(self, exec: Exec, terminal: int) -> None:  # noqa: A002 - as in run
        """Run a command at a terminal; what it writes is kept nowhere."""
        async with self.services.attach(exec.services) as attachment:
            shown = (*attachment.env, ("TERM", os.environ.get("TERM", "xterm")))
            inputs = await self._inputs(exec, replace(attachment, env=shown))
            await self._runner.interact(exec, inputs, terminal)

    # -- trees -----------------------------------------------------------------------------------

    async def once(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` gives, done once a session."""
        return await self._flights.once(name, work)

    async def snapshot(self, tree: Tree) -> Snapshot:
        """The layers of a tree, evaluated."""
        return await self._flights.once(
            "tree " + tree.digest, partial(self._evaluation.snapshot, tree)
        )

    def known_snapshot(self, tree: Tree) -> Snapshot:
        """The layers of a tree where this session has evaluated it, else none."""
        if isinstance(tree, HostDirectory | HostFile):
            imported = self._flights.known("host " + tree.digest)
            return (imported.layer,) if imported is not None else ()
        found: Snapshot | None = self._flights.known("tree " + tree.digest)
        if found is None and isinstance(tree, ExecRootOutput | ExecMountOutput):
            record = self._flights.known("exec " + tree.exec.digest)
            if record is not None and isinstance(tree, ExecMountOutput):
                found = tuple(record["mounts"].get(tree.path, {}).get("layers", ()))
            elif record is not None:
                found = tuple(record["layers"])
        return found or ()

    async def subtree(self, ref: DirectoryRef) -> Snapshot:
        """The layers of a directory, as a tree of its own."""
        snapshot = await self.snapshot(ref.tree)
        if ref.path == "/":
            return snapshot
        key = fingerprint("subtree", snapshot, ref.path)
        return await self._flights.once(
            "subtree " + key, partial(self._evaluation.subtree, key, snapshot, ref.path)
        )

    async def folder(self, ref: DirectoryRef) -> Path | None:
        """A directory as one folder of this machine, to read only; None for the empty tree."""
        snapshot = await self.subtree(ref)
        if len(snapshot) > 1:
            key = fingerprint("subtree", snapshot, "/")
            snapshot = await self._flights.once(
                "subtree " + key, partial(self._evaluation.subtree, key, snapshot, "/")
            )
        return self.store.layer_path(snapshot[0]) if snapshot else None

    @cached_property
    def repositories(self) -> Repositories:
        """Git repositories."""
        from ci.engine.git.repositories import Repositories  # noqa: PLC0415 - where it is asked for

        return Repositories(self)

    async def loopback_port(self, service: ServiceSpec, port: int) -> int:
        """A port of the host's loopback that leads to a port of a service, which is started.

        Raises:
            CiError: the service failed.
        """
        if self.tunnels is None:
            raise CiError("service", got="no network to reach one by")
        name = f"{service.digest} {port}"
        await self.tunnels.open(name, service, ((port, 0),))
        return self.tunnels.taken(name)[0][1]

    async def key(self, vertex: Tree | Exec) -> str:
        """The cache key of a vertex."""
        return await self._keys.of(vertex)

    def found(self, kind: str, key: str) -> Snapshot | None:
        """Layers by a record of the store; None, and no record, where they are not there."""
        record = self.store.get(kind, key)
        if record is None:
            return None
        snapshot = tuple(record["layers"])
        if self.store.has_layers(snapshot):
            return snapshot
        self.store.drop(kind, key)
        return None

    async def kept(self, kind: str, key: str, make: Callable[[], Layer | None]) -> Snapshot:
        """Layers by a record of the store; a record that lost its layers is made again."""
        if (found := self.found(kind, key)) is not None:
            return found
        self.counters.trees += 1
        layer = await anyio.to_thread.run_sync(self._guarded, make)
        made: Snapshot = () if layer is None else (layer,)
        self.store.put(kind, key, {"layers": list(made)})
        return made

    def _guarded(self, make: Callable[[], Layer | None]) -> Layer | None:
        with self.store.guard():
            return make()

    async def content_digest(
        self, ref: DirectoryRef | FileRef, patterns: Patterns = EVERYTHING
    ) -> str:
        """Hex BLAKE3 of what is there: a directory's selected entries, or a file.

        Raises:
            NoSuchPath: it is missing, or of the other type.
        """
        name = f"content {ref.digest} {patterns.digest}"
        return await self._flights.once(name, partial(self._content_digest, ref, patterns))

    async def _content_digest(self, ref: DirectoryRef | FileRef, patterns: Patterns) -> str:
        if isinstance(ref.tree, HostDirectory) and patterns == EVERYTHING and ref.path == "/":
            return (await self._evaluation.host_directory(ref.tree)).digest
        snapshot: Snapshot | None = None
        if _from_outside(ref.tree):
            snapshot = await self.snapshot(ref.tree)
            key = fingerprint("layers", snapshot)
        else:
            key = await self._keys.of(ref.tree)
        key = fingerprint(type(ref).__name__, key, ref.path, patterns.digest, VERSION)
        record = self.store.get("content", key)
        if record is not None:
            return str(record["digest"])
        if snapshot is None:
            snapshot = await self.snapshot(ref.tree)
        digest = await anyio.to_thread.run_sync(self._hash, snapshot, ref, patterns)
        self.store.put("content", key, {"digest": digest})
        return digest

    def _hash(self, snapshot: Snapshot, ref: DirectoryRef | FileRef, patterns: Patterns) -> str:
        tree = self._merged(snapshot)
        if isinstance(ref, FileRef):
            return lone_file_digest(tree.require(ref.path, "file"))
        root = directory(tree, ref.path)
        hasher = TreeHasher()
        if root is not None:
            hasher.add("", root)
            hasher.add_all(select(tree, root, patterns))
        return hasher.hexdigest()

    # -- events ----------------------------------------------------------------------------------

    def _emit(self, event: ExecEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def _finished(
        self, exec_: Exec, code: int | None, *, cached: bool, seconds: float, kept: bool = True
    ) -> None:
        self.outcomes.append(Outcome(exec=exec_, exit_code=code, cached=cached, kept=kept))
        self._emit(ExecFinished(exec=exec_, exit_code=code, cached=cached, seconds=seconds))


def _source(mount: Mount) -> DirectoryRef | FileRef | None:
    """The tree or file that a mount starts from, if any."""
    if isinstance(mount, DirectoryMount | FileMount | BindMount | CacheMount):
        return mount.source
    return None


def _from_outside(tree: Tree) -> bool:
    """Keyed by content alone, so the key needs the content and not the other way round."""
    return isinstance(tree, HostDirectory | HostFile | Http)
