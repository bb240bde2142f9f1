"""The bench that a recipe works at: the layers so far, and the tools to add another."""

from __future__ import annotations

import errno
import os
import shutil
from functools import partial
from pathlib import Path

import anyio

from ci.engine.bootstrap.debootstrap import (
    has_uid_range,
    mmdebstrap_command,
    run_mmdebstrap,
)
from ci.engine.bootstrap.mirror import sources_list
from ci.engine.bootstrap.wheel import Wheel, download, extract
from ci.engine.images.oci import sha256
from ci.engine.images.pack import EPOCH
from ci.engine.images.unpack import unpack_layer
from ci.engine.sandbox.argv import Mode
from ci.engine.solver.solver import Solver
from ci.engine.store.layers import Snapshot, remove_tree
from ci.engine.vertices.execution import ExecFailed
from ci.engine.vertices.vertex import (
    DirectoryMount,
    DirectoryRef,
    Exec,
    ExecRootOutput,
    HostDirectory,
    ImageRoot,
)
from ci.errors import CiError

__all__ = ["BootstrapError", "Builder", "hint_for"]

#: Where scripts see the folder that the recipe shares with them.
_SHARED = "/.bootstrap"

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "SOURCE_DATE_EPOCH": str(EPOCH),
}

#: Run after each script: what depends on the day, the machine or the order of things goes.
_TIDY = """
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
rm -rf /var/cache/debconf/*-old /var/cache/ldconfig/* /var/lib/dpkg/*-old /etc/*-
find /var/log -type f -delete
cd /; find /tmp /var/tmp -mindepth 1 -delete
"""


class BootstrapError(CiError):
    """A stand-in image could not be built."""


class Builder:
    """Stacks layers in the store. Each step adds at most one."""

    def __init__(
        self, solver: Solver, base: Snapshot, name: str, *, debian_mirror: str = ""
    ) -> None:
        self._solver = solver
        self._store = store = solver.store
        self._name = name
        self._debian_mirror = debian_mirror
        #: Makes every build's scripts its own: none is answered from an earlier one.
        self._nonce = os.urandom(8).hex()
        self._shared = store.temporary()
        self._scratch = store.temporary()
        #: All layers so far, lowest first.
        self.snapshot: Snapshot = base

    async def debootstrap(self, codename: str, *, before: str = "", after: str = "") -> None:
        """Add a minimal Debian of that release.

        Args:
            codename: Such as ``bookworm``.
            before: Shell script run on the empty root, which is ``$1``.
            after: Shell script run on the finished root.

        Raises:
            BootstrapError: mmdebstrap is missing, or failed: mostly no mirror was reached.
        """
        tar = self._scratch / "root.tar"
        mode = await anyio.to_thread.run_sync(self._solver.sandbox.mode)
        one_uid = mode is Mode.ONE_UID and not has_uid_range()
        command = mmdebstrap_command(
            self._mmdebstrap(), codename, tar, before=before, after=after, one_uid=one_uid
        )
        code, output = await run_mmdebstrap(
            command,
            sources=sources_list(codename, mirror=self._debian_mirror),
            bwrap=self._solver.sandbox.program() if one_uid else "",
        )
        if code:
            raise self._failed("mmdebstrap", code, output)
        as_root = mode is not Mode.ONE_UID
        await anyio.to_thread.run_sync(partial(self._take_tar, tar, as_root=as_root))

    async def shell(self, script: str) -> None:
        """Run a shell script, as root, in the image as it is so far; add what it wrote.

        Raises:
            BootstrapError: it failed; the message has the end of what it printed.
        """
        below = self._image()
        shared = DirectoryRef(tree=HostDirectory(path=str(self._shared), nonce=self._nonce))
        exec_ = Exec(
            root=ImageRoot(image_digest=below, reference=self._name),
            args=("/bin/sh", "-eu", "-c", script + _TIDY),
            env=tuple(sorted({**_ENVIRONMENT, "TOWPATH_BUILD": self._nonce}.items())),
            user="0:0",
            mounts=(DirectoryMount(path=_SHARED, source=shared, read_only=True),),
        )
        try:
            after = await self._solver.snapshot(ExecRootOutput(exec=exec_))
        except ExecFailed as error:
            raise self._failed("script", error.code, error.stdout + error.stderr) from None
        finally:
            self._store.drop("image", below)
        for layer in set(after) - set(self.snapshot):
            await anyio.to_thread.run_sync(_fix_times, self._store.layer_path(layer))
            await anyio.to_thread.run_sync(self._store.layer_folder.seal, layer)
        self.snapshot = after

    def _image(self) -> str:
        """The layers so far as an image that the solver finds; its digest."""
        digest = sha256(f"{self._nonce} {self.snapshot}".encode())
        self._store.put("image", digest, {"layers": list(self.snapshot), "config": {}})
        return digest

    async def program(self, wheel: Wheel, member: str, path: str) -> None:
        """Add one file of a wheel, executable, at ``path``."""
        (found,) = await self.wheels(wheel)
        folder = self._store.temporary()
        await anyio.to_thread.run_sync(extract, found, member, folder / path.lstrip("/"))
        await anyio.to_thread.run_sync(_fix_times, folder)
        self.snapshot = (*self.snapshot, self._store.add_layer(folder))

    def share(self, path: Path) -> None:
        """Let scripts see a copy of that file in ``/.bootstrap``."""
        shutil.copy(path, self._shared)

    async def wheels(self, *wheels: Wheel) -> list[Path]:
        """The files of these wheels, fetched by the host."""
        return await download(wheels, self._scratch)

    def _mmdebstrap(self) -> str:
        program = shutil.which("mmdebstrap", path=f"{os.environ.get('PATH', '')}:/usr/bin")
        if program is None:
            raise BootstrapError(
                f"stand-in {self._name}",
                got="no mmdebstrap on this machine",
                expected="mmdebstrap, which makes a root file system from Debian's packages",
                hint="apt-get install mmdebstrap",
            )
        return program

    def _take_tar(self, tar: Path, *, as_root: bool) -> None:
        folder = self._store.temporary()
        with tar.open("rb") as stream:
            unpack_layer(stream, folder, as_root=as_root)
        tar.unlink()
        for device in list((folder / "dev").iterdir()):
            remove_tree(device)
        _fix_times(folder)
        self.snapshot = (*self.snapshot, self._store.add_layer(folder))

    def _failed(self, what: str, code: int, output: str) -> BootstrapError:
        lines = [line for line in output.splitlines() if line.strip()]
        said = "\n".join(lines[-12:]) or "no output"
        return BootstrapError(
            f"stand-in {self._name}",
            got=f"{what} ended with {code}:\n{said}",
            hint=hint_for(output),
        )


def hint_for(output: str) -> str:
    """What to do about a build that failed with this output."""
    if os.strerror(errno.ENOSPC) in output:
        return "free some space where TOWPATH_CACHE and TMPDIR are, or name other folders there"
    return (
        "Debian's packages come from the mirror in this machine's apt sources; "
        "TOWPATH_DEBIAN_MIRROR names another"
    )


def _fix_times(folder: Path) -> None:
    """Give every entry of a new layer the one time that packed layers have."""
    for path, _, names in os.walk(folder):
        for name in names:
            os.utime(f"{path}/{name}", (EPOCH, EPOCH), follow_symlinks=False)
        os.utime(path, (EPOCH, EPOCH))
