"""Calls mmdebstrap, which makes a root file system of a distribution's packages.

As root it does so by itself. For a user it needs a range of uids in /etc/subuid; where there is
none it runs in a user namespace of one uid, in which changes of ownership succeed without effect.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
from anyio.abc import Process

from ci.engine.images.pack import EPOCH
from ci.engine.sandbox.seccomp import filter_program

__all__ = ["has_uid_range", "mmdebstrap_command", "run_mmdebstrap"]

#: What is of no use in an image, as Debian's own slim images leave it out.
_EXCLUDED = ("doc", "info", "locale", "man", "lintian", "linda", "groff", "bash-completion")
_DPKG_OPTIONS = (
    "force-unsafe-io",
    *(f"path-exclude=/usr/share/{name}/*" for name in _EXCLUDED),
    "path-include=/usr/share/doc/*/copyright",
)
_APT_OPTIONS = (
    'Acquire::Languages "none"',
    'Acquire::GzipIndexes "true"',
    'Acquire::Retries "3"',
    'Apt::AutoRemove::SuggestsImportant "false"',
)

#: Where root is nobody outside, no device can be made, no devpts mounted, no other user become.
_ONE_UID_OPTIONS = ("--mode=root", "--skip=chroot/mount/dev", "--skip=cleanup/apt")


def mmdebstrap_command(
    program: str, codename: str, target: Path, *, before: str, after: str, one_uid: bool
) -> list[str]:
    """The command line; it uses mmdebstrap's own choice of a mirror.

    Args:
        program: Path of mmdebstrap.
        codename: Of the release, such as ``bookworm``.
        target: The tar file to write.
        before: Shell script run on the empty root, which is ``$1``.
        after: Shell script run on the finished root.
        one_uid: It runs in a user namespace of one uid.
    """
    command = [program, "--variant=minbase", "--format=tar"]
    command += _ONE_UID_OPTIONS if one_uid else ()
    command += [f"--dpkgopt={option}" for option in _DPKG_OPTIONS]
    command += [f"--aptopt={option}" for option in _APT_OPTIONS]
    command += ['--aptopt=APT::Sandbox::User "root"'] if one_uid else []
    command += [f"--setup-hook={before}"] if before else []
    command += [f"--customize-hook={after}"] if after else []
    return [*command, codename, str(target)]


def has_uid_range(*, root: Path = Path("/"), user: str = "", uid: int | None = None) -> bool:
    """Whether this user may map a range of uids: subuid(5) and newuidmap(1)."""
    names = {user or getpass.getuser(), str(os.getuid() if uid is None else uid)}
    if shutil.which("newuidmap") is None:
        return False
    for file in ("etc/subuid", "etc/subgid"):
        try:
            lines = (root / file).read_text().splitlines()
        except OSError:
            return False
        if not any(line.partition(":")[0] in names for line in lines):
            return False
    return True


async def run_mmdebstrap(
    command: Sequence[str], *, sources: str, bwrap: str = ""
) -> tuple[int, str]:
    """Run it; exit code and output. With all that it started, it is gone when cancelled.

    Args:
        command: As ``mmdebstrap_command`` makes it.
        sources: The lines of the sources.list; empty for mmdebstrap's own.
        bwrap: Path of bubblewrap, to run it in a user namespace of one uid; empty runs it as it is.
    """
    command = [*command, "-"] if sources else command
    if not bwrap:
        return await _call(command, stdin=sources.encode())
    seccomp = os.memfd_create("towpath-seccomp")
    try:
        os.write(seccomp, filter_program(confined=False, pretend_ownership=True) or b"")
        os.lseek(seccomp, 0, os.SEEK_SET)
        inside = [
            bwrap, "--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL",
            "--unshare-pid", "--die-with-parent", "--bind", "/", "/", "--dev-bind", "/dev", "/dev",
            "--proc", "/proc", "--seccomp", str(seccomp), "--", *command,
        ]  # fmt: skip
        return await _call(inside, stdin=sources.encode(), pass_fds=(seccomp,))
    finally:
        os.close(seccomp)


async def _call(
    command: Sequence[str], *, stdin: bytes, pass_fds: Sequence[int] = ()
) -> tuple[int, str]:
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    process = await anyio.open_process(
        command, stderr=subprocess.STDOUT, env=env, start_new_session=True, pass_fds=pass_fds
    )
    output = bytearray()
    try:
        assert process.stdin is not None  # noqa: S101 - pipes are the default
        assert process.stdout is not None  # noqa: S101
        with suppress(anyio.BrokenResourceError):
            await process.stdin.send(stdin)
        await process.stdin.aclose()
        async for chunk in process.stdout:
            output += chunk
        code = await process.wait()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await _end(process)
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await process.aclose()
    return code, output.decode(errors="replace")


async def _end(process: Process) -> None:
    """SIGTERM to its group, whose clean-up unmounts things; SIGKILL after five seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with anyio.move_on_after(5):
            await process.wait()
            return
