"""From an exec's vertex and its inputs to a plan of a sandbox, and from what it left to layers.

Blocks; the solver calls it in threads.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ci.engine.sandbox.area import Area
from ci.engine.sandbox.argv import Bind, Data, Mode, MountPlan, Plan, Tmpfs
from ci.engine.sandbox.lent import Host, Shelf
from ci.engine.solver.bundle import bundle
from ci.engine.store.layers import Layer, Snapshot, remove_tree
from ci.engine.store.own_folder import OwnFolder
from ci.engine.store.store import Store
from ci.engine.trees.beneath import make_place, write_beneath
from ci.engine.trees.builder import LayerBuilder, set_owner
from ci.engine.trees.merged import Entry, MergedTree, NoSuchPath, normalize
from ci.engine.trees.passwd import Account, account, owner_ids
from ci.engine.trees.patterns import EVERYTHING, select
from ci.engine.vertices.execution import DEFAULT_PATH, Attachment
from ci.engine.vertices.vertex import (
    BindMount,
    CacheMount,
    DirectoryMount,
    Exec,
    FileMount,
    Mount,
    SecretMount,
    SocketMount,
    TmpfsMount,
)
from ci.errors import CiError

__all__ = ["Inputs", "Prepared", "Written", "prepare"]

_APT_ONE_UID = b'APT::Sandbox::User "root";\n'


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What an exec needs, evaluated."""

    root: Snapshot
    #: By mount path: the tree that is mounted (a directory's own), or that has the file.
    mounts: Mapping[str, Snapshot]
    #: Paths of the mounts that are files.
    files: frozenset[str]
    #: By secret name.
    secrets: Mapping[str, bytes]
    #: By mount path: what is mounted in place of the host's socket.
    sockets: Mapping[str, str]
    attachment: Attachment


@dataclass(frozen=True, kw_only=True)
class Written:
    """What an exec left: layers over the inputs; None where nothing changed."""

    root: Layer | None
    mounts: Mapping[str, Layer | None]


class Prepared:
    """A sandbox about to run. ``discard`` it whatever happens."""

    def __init__(
        self,
        exec_: Exec,
        inputs: Inputs,
        *,
        store: Store,
        host: Host,
        shelf: Shelf,
        mode: Mode,
    ) -> None:
        self._exec = exec_
        self._inputs = inputs
        self._store = store
        self._mode = mode
        self._shelf = shelf
        self._as_root = mode is not Mode.ONE_UID
        self._folder = store.temporary()
        self._memory: list[OwnFolder] = []
        self._areas: dict[str, Area] = {}
        self._files: dict[str, Path] = {}
        self._mounts: list[MountPlan] = []
        self._descriptors: list[int] = []
        self._root = self._area("/", inputs.root)
        self.account: Account = account(self._root.base, exec_.user)
        attached = inputs.attachment
        self._loan = host.loan(self._root.base, attached.hosts, resolver=attached.resolver)
        self.stdin: int | None = None
        self.plan: Plan
        #: The sandbox closes what the plan names from here on.
        self.handed_over = False

    def make_plan(self) -> None:
        """Make the plan of the whole sandbox, and the folders that it names.

        Raises:
            CiError: a mount or the workdir cannot be there.
        """
        exec_ = self._exec
        for name in ("/proc", "/dev", "/sys"):
            self._root.ephemeral.add_mount_point(name, directory=True)
        if self._root.base.lookup("/tmp") is None:  # noqa: S108 - the container's
            self._root.ephemeral.add_directory("/tmp", 0o1777)  # noqa: S108
        for path, content in self._loan.files:
            self._root.ephemeral.add_file(path, self._shelf.file(content))
        if self._mode is Mode.ONE_UID and self._root.base.lookup("/etc/apt/apt.conf.d"):
            self._root.ephemeral.add_file(
                "/etc/apt/apt.conf.d/99towpath", self._shelf.file(_APT_ONE_UID)
            )
        for mount in sorted(exec_.mounts, key=lambda item: item.path.count("/")):
            self._mount(mount)
        workdir, make_workdir = self._workdir()
        self.stdin = self._open_stdin()
        self.plan = Plan(
            mode=self._mode,
            root=self._root.overlay(),
            mounts=tuple(self._with_overlays()),
            args=exec_.args,
            env=tuple(self._environment().items()),
            workdir=workdir,
            make_workdir=make_workdir,
            user=self.account.identity,
            confined=not exec_.insecure_root_capabilities,
            offline=exec_.offline,
            joined=self._inputs.attachment.namespaces is not None
            and self._inputs.attachment.namespaces.user is not None,
        )

    def hold(self, locks: Sequence[int]) -> None:
        """Have the sandbox hold locks, too, until the last of it is gone."""
        if locks:
            held = bundle(locks)
            self._descriptors.append(held)
            self.plan = replace(self.plan, held=held)

    def discard(self) -> None:
        """Remove all folders of the exec. What was taken over by the store stays."""
        self.discard_secrets()
        for area in self._areas.values():
            area.discard()
        remove_tree(self._folder)

    def discard_secrets(self) -> None:
        """Remove what must not outlive the exec; ``discard`` may come later."""
        for folder in self._memory:
            folder.remove()
        self._memory.clear()
        if not self.handed_over:
            for fd in (*self._descriptors, *([self.stdin] if self.stdin is not None else [])):
                os.close(fd)
            self.handed_over = True

    # -- what is left --------------------------------------------------------------------------

    def take(self, stdout: bytes, stderr: bytes) -> Written:
        """Keep what the exec wrote, and write its redirected output first."""
        for path, content in (
            (self._exec.redirect_stdout, stdout), (self._exec.redirect_stderr, stderr),
        ):  # fmt: skip
            if path:
                self._redirect(posixpath.join(self._exec.workdir, path), content)
        identity = self.account.identity
        maker = (identity.uid, identity.gid)
        mounts: dict[str, Layer | None] = {}
        for mount in self._exec.mounts:
            if isinstance(mount, DirectoryMount) and not mount.read_only:
                mounts[mount.path] = self._areas[mount.path].take(self._store, maker)
            elif isinstance(mount, FileMount):
                mounts[mount.path] = self._store.add_layer(self._files[mount.path].parent)
        return Written(root=self._root.take(self._store, maker), mounts=mounts)

    def _redirect(self, path: str, content: bytes) -> None:
        place = normalize(path)
        identity = self.account.identity
        holder = self._holder(place)
        area = self._areas.get(holder)
        if area is not None:
            area.write(place[len(holder.rstrip("/")) :], content, (identity.uid, identity.gid))
            return
        for mount in self._exec.mounts:
            if mount.path == holder and isinstance(mount, CacheMount):
                write_beneath(str(self._volume(mount)), place[len(holder) :], content)

    # -- mounts --------------------------------------------------------------------------------

    def _area(self, target: str, snapshot: Snapshot, *, read_only: bool = False) -> Area:
        """A writable (or not) overlay, remembered by its mount path."""
        folder = self._folder / str(len(self._areas))
        layers = self._store.layer_paths(snapshot)
        area = Area(target, layers, folder, as_root=self._as_root, read_only=read_only)
        self._areas[target] = area
        return area

    def _holder(self, path: str) -> str:
        """The mount path (or ``/``) that ``path`` is in."""
        best = "/"
        for mount in self._exec.mounts:
            if len(mount.path) > len(best) and (path + "/").startswith(mount.path + "/"):
                best = mount.path
        return best

    def _target(self, mount: Mount, *, directory: bool) -> str:
        """Where to mount, links resolved; what is missing on the way is there while it runs."""
        holder = self._holder(posixpath.dirname(mount.path))
        area = self._areas.get(holder)
        if area is None:
            return self._outside_areas(holder, mount.path, directory=directory)
        place = area.ephemeral.add_mount_point(
            mount.path[len(holder.rstrip("/")) :], directory=directory
        )
        return area.target.rstrip("/") + place

    def _outside_areas(self, holder: str, path: str, *, directory: bool) -> str:
        """A place in what no layer makes. In a cache volume a link might lead out of it."""
        for mount in self._exec.mounts:
            if mount.path == holder and isinstance(mount, CacheMount):
                below = path[len(holder) :]
                return holder + make_place(str(self._volume(mount)), below, directory=directory)
        return path

    def _mount(self, mount: Mount) -> None:
        match mount:
            case BindMount() if mount.path in self._inputs.files:
                self._mount_file(mount)
            case DirectoryMount() | BindMount():
                area = self._area(
                    mount.path, self._inputs.mounts[mount.path], read_only=mount.read_only
                )
                area.target = self._target(mount, directory=True)
            case FileMount():
                self._mount_file(mount)
            case CacheMount():
                source = str(self._volume(mount))
                target = self._target(mount, directory=True)
                self._add(Bind(target=target, source=source, read_only=mount.read_only))
            case TmpfsMount():
                target = self._target(mount, directory=True)
                self._add(Tmpfs(target=target, size_bytes=mount.size_bytes))
            case SecretMount():
                self._mount_secret(mount)
            case SocketMount():
                if not os.path.exists(mount.host_path):
                    raise CiError(f"socket {mount.host_path!r}", got="no such socket on the host")
                source = self._inputs.sockets.get(mount.path, mount.host_path)
                target = self._target(mount, directory=False)
                # Read-only is the inode: one can connect, and not take it away from the host.
                self._add(Bind(target=target, source=source, read_only=True))
            case _:
                raise TypeError(f"mount {mount!r}")

    def _add(self, plan: MountPlan) -> None:
        self._mounts.append(plan)

    def _with_overlays(self) -> list[MountPlan]:
        """All mounts, parents before children."""
        overlays = [area.overlay() for path, area in self._areas.items() if path != "/"]
        return sorted([*overlays, *self._mounts], key=lambda plan: plan.target.count("/"))

    def _mount_file(self, mount: FileMount | BindMount) -> None:
        tree = MergedTree(self._store.layer_paths(self._inputs.mounts[mount.path]))
        entry = tree.require(mount.source.path, "file")
        target = self._target(mount, directory=False)
        if isinstance(mount, BindMount) and mount.read_only:
            self._add(Bind(target=target, source=entry.host, read_only=True))
            return
        folder = self._folder / f"file-{len(self._files)}"
        folder.mkdir()
        name = posixpath.basename(mount.source.path)
        builder = LayerBuilder(MergedTree([]), folder, as_root=self._as_root)
        spec = mount.owner if isinstance(mount, FileMount) else None
        owner = owner_ids(self._root.base, spec.spec) if spec else None
        builder.copy(entry, "/" + name, owner=owner)
        self._files[mount.path] = folder / name
        self._add(Bind(target=target, source=str(folder / name)))

    def _volume(self, mount: CacheMount) -> Path:
        def prepare(folder: Path) -> None:
            if mount.source is not None:
                tree = MergedTree(self._store.layer_paths(self._inputs.mounts[mount.path]))
                root = tree.root()
                if root is not None:
                    _copy_for_writing(tree, root, folder, as_root=self._as_root)
            if mount.owner is not None:
                owner = owner_ids(self._root.base, mount.owner.spec)
                set_owner(str(folder), *owner, as_root=self._as_root)
            if mount.permissions is not None:
                os.chmod(folder, mount.permissions)

        return self._store.volume(mount.volume, prepare=prepare)

    def _mount_secret(self, mount: SecretMount) -> None:
        value = self._inputs.secrets[mount.secret.name]
        target = self._target(mount, directory=False)
        owner = owner_ids(self._root.base, mount.owner.spec) if mount.owner else (0, 0)
        if owner == (0, 0) or not self._as_root:
            fd = os.memfd_create("towpath-secret")
            os.write(fd, value)
            os.lseek(fd, 0, os.SEEK_SET)
            self._descriptors.append(fd)
            self._add(Data(target=target, descriptor=fd, mode=mount.mode))
            return
        folder = self._in_memory()
        path = f"{folder}/{len(self._mounts)}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        try:
            os.write(fd, value)
            os.fchmod(fd, mount.mode)
            os.fchown(fd, *owner)
        finally:
            os.close(fd)
        self._add(Bind(target=target, source=path, read_only=True))

    def _in_memory(self) -> str:
        """A folder that is on no disk."""
        if not self._memory:
            self._memory.append(OwnFolder.in_memory(str(self._folder)))
        return self._memory[0].path

    # -- process -------------------------------------------------------------------------------

    def _workdir(self) -> tuple[str, bool]:
        """The workdir, and whether it must be made."""
        wanted = normalize(self._exec.workdir or "/")
        holder = self._holder(wanted)
        area = self._areas.get(holder)
        if area is None:
            return self._outside_areas(holder, wanted, directory=True), True
        below = wanted[len(holder.rstrip("/")) :] or "/"
        try:
            place = area.base.resolve(below)
            _require_directory(area.base, place)
        except NoSuchPath as error:
            raise CiError(
                f"workdir {wanted!r}", got=error.got or str(error), expected="a directory"
            ) from error
        found = area.base.lookup(place) is not None or place == "/"
        inside = area.target.rstrip("/") + place
        return inside.rstrip("/") or "/", not found and not area.read_only

    def _open_stdin(self) -> int | None:
        exec_ = self._exec
        if exec_.redirect_stdin:
            path = normalize(posixpath.join(exec_.workdir, exec_.redirect_stdin))
            holder = self._holder(path)
            area = self._areas.get(holder)
            if area is None:
                raise NoSuchPath(f"redirectStdin {path!r}", got="a path that cannot be read from")
            entry = area.base.require(path[len(holder.rstrip("/")) :], "file")
            # Of its own: whoever reads it can also open it for writing, by /proc/self/fd/0.
            copy = self._folder / "stdin"
            shutil.copyfile(entry.host, copy)
            return os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
        if exec_.stdin:
            fd = os.memfd_create("towpath-stdin")
            with open(fd, "wb", closefd=False) as file:
                file.write(exec_.stdin.encode("utf-8", "surrogateescape"))
            os.lseek(fd, 0, os.SEEK_SET)
            return fd
        return None

    def _environment(self) -> dict[str, str]:
        """The exec's own variables, then what is added where it says nothing."""
        exec_ = self._exec
        env = {**dict(exec_.env), **dict(exec_.volatile_env)}
        for name, secret in exec_.secret_env:
            env[name] = os.fsdecode(self._inputs.secrets[secret.name])
        added = {"PATH": DEFAULT_PATH, "HOME": self.account.home or "/"}
        for name, value in (*added.items(), *self._inputs.attachment.env, *self._loan.env):
            env.setdefault(name, value)
        return env


def prepare(
    exec_: Exec, inputs: Inputs, *, store: Store, host: Host, shelf: Shelf, mode: Mode
) -> Prepared:
    """The folders of an exec. Raises CiError for a user that is not there and the like."""
    for text in (*exec_.args, *(value for _, value in exec_.env)):
        if "\0" in text:
            raise CiError("exec", got="a NUL byte in an argument or variable")
    if not exec_.args:
        raise CiError("exec", got="no command", expected="a program and its arguments")
    return Prepared(exec_, inputs, store=store, host=host, shelf=shelf, mode=mode)


def _require_directory(tree: MergedTree, path: str) -> None:
    """Raise NoSuchPath when ``path``, or what is there of the way to it, is no directory."""
    while path != "/":
        entry = tree.lookup(path)
        if entry is not None:
            tree.require(path, "directory")
            return
        path = posixpath.dirname(path)


def _copy_for_writing(tree: MergedTree, root: Entry, folder: Path, *, as_root: bool) -> None:
    """Copy a tree and share nothing with it."""
    builder = LayerBuilder(MergedTree([]), folder, as_root=as_root)
    for path, entry in select(tree, root, EVERYTHING):
        if entry.is_directory:
            mode = stat.S_IMODE(entry.status.st_mode)
            builder.make_directory("/" + path, mode, None)
        else:
            builder.copy(entry, "/" + path, owner=None)
