"""Runs the program of an unpacked image as a process of this machine, for the local delivery.

``Runtime.argv`` gives a command that a supervisor can run: this module as a program, which starts
the sandbox, passes signals on and ends as the program does. Nothing of the engine's session is
needed, and nothing outlives the command.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ci.engine.sandbox.argv import Bind, Data, Mode, MountPlan, Overlay, Plan
from ci.engine.sandbox.box import Sandbox
from ci.engine.sandbox.lent import Host
from ci.engine.sandbox.runner import Ended, Process
from ci.engine.trees.merged import MergedTree
from ci.engine.trees.passwd import account
from ci.engine.vertices.execution import DEFAULT_PATH
from ci.errors import CiError

__all__ = ["Program", "Runtime", "plan"]

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1,
              signal.SIGUSR2)  # fmt: skip
#: How long a signal waits for a program that is only just being started. Seconds.
_START_PATIENCE = 0.02
_CANNOT_START = 125


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run, without the values of the variables that are passed through."""

    rootfs: str
    args: tuple[str, ...]
    #: The image's own variables.
    env: tuple[tuple[str, str], ...] = ()
    #: Names of the command's own variables that the program gets too; they win.
    passed: tuple[str, ...] = ()
    #: (path inside, folder outside)
    binds: tuple[tuple[str, str], ...] = ()
    user: str = ""
    workdir: str = "/"
    #: Of the sandbox; empty finds out.
    mode: str = ""

    def dump(self) -> str:
        """As one argument of a command line."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> Program:
        """From that argument."""
        value = json.loads(text)
        for name in ("env", "binds"):
            value[name] = tuple(tuple(pair) for pair in value[name])
        return cls(**{**value, "args": tuple(value["args"]), "passed": tuple(value["passed"])})


@dataclass(frozen=True)
class Runtime:
    """Implements ``ci.deploy.protocol.Runtime`` with the engine's sandbox."""

    #: The Python that runs this module.
    python: str = field(default=sys.executable)
    #: Of the sandboxes; None finds out, each time.
    mode: Mode | None = None

    def unpack(self, archive: Path, dest: Path) -> dict[str, Any]:
        """Write the root file system of an OCI archive to ``dest``; the OCI image configuration.

        Raises:
            ImageError: the archive is damaged, or has nothing for this machine.
        """
        # Not needed to start a program, and costly to import.
        from ci.engine.images.layout import flatten  # noqa: PLC0415

        return flatten(archive, dest, as_root=False if self.mode is Mode.ONE_UID else None)

    def argv(
        self,
        rootfs: Path,
        config: Mapping[str, Any],
        *,
        env: Mapping[str, str],
        binds: Mapping[str, Path],
        args: Sequence[str],
    ) -> list[str]:
        """The command that runs the image's program, with ``args`` in place of its Cmd if given.

        The contract is ``ci.deploy.protocol.Runtime``'s.

        Raises:
            CiError: the image names no program.
        """
        inner: Mapping[str, Any] = config.get("config") or {}
        command = [*(inner.get("Entrypoint") or ()), *(args or inner.get("Cmd") or ())]
        if not command:
            raise CiError(
                f"image in {rootfs}", got="neither entrypoint nor command", expected="a program"
            )
        pairs = (entry.partition("=") for entry in inner.get("Env") or ())
        program = Program(
            rootfs=str(rootfs.absolute()),
            args=tuple(command),
            env=tuple((name, value) for name, _, value in pairs),
            passed=tuple(sorted(env)),
            binds=tuple((path, str(folder.absolute())) for path, folder in sorted(binds.items())),
            user=str(inner.get("User") or ""),
            workdir=str(inner.get("WorkingDir") or "/"),
            mode=self.mode or "",
        )
        return [self.python, "-I", "-m", "ci.engine.runtime", program.dump()]


def plan(program: Program, environ: Mapping[str, str], mode: Mode, host: Host) -> Plan:
    """The sandbox of a program. Opens a descriptor for each file that the host lends it.

    Raises:
        CiError: the image has no such user.
    """
    tree = MergedTree([program.rootfs])
    who = account(tree, program.user)
    loan = host.loan(tree)
    env = {"PATH": DEFAULT_PATH, "HOME": who.home or "/", **dict(loan.env), **dict(program.env)}
    env.update({name: environ[name] for name in program.passed if name in environ})
    mounts: list[MountPlan] = [
        Data(target=tree.resolve(path), descriptor=_in_memory(content), mode=0o444)
        for path, content in loan.files
    ]
    mounts += [Bind(target=tree.resolve(path), source=folder) for path, folder in program.binds]
    return Plan(
        mode=mode,
        root=Overlay(target="/", lower=(program.rootfs,), in_memory=True),
        mounts=tuple(sorted(mounts, key=lambda mount: mount.target.count("/"))),
        args=program.args,
        env=tuple(sorted(env.items())),
        workdir=program.workdir,
        make_workdir=True,
        user=who.identity,
    )


def _in_memory(content: bytes) -> int:
    descriptor = os.memfd_create("towpath-lent")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def run(program: Program) -> int:
    """Run to the end; the program's exit code, 128 + n where signal n ended it.

    Raises:
        CiError: it cannot be started.
    """
    sandbox = Sandbox(mode=Mode(program.mode) if program.mode else None)
    wake = os.eventfd(0, os.EFD_CLOEXEC)
    ended: list[Ended] = []
    signals: list[int] = []

    def end(outcome: Ended) -> None:
        ended.append(outcome)
        os.eventfd_write(wake, 1)

    def note(number: int, _frame: object) -> None:
        signals.append(number)
        os.eventfd_write(wake, 1)

    for number in _PASSED_ON:
        signal.signal(number, note)
    try:
        described = plan(program, os.environ, sandbox.mode(), Host())
        process = sandbox.start(described, on_output=_pass_output, on_end=end)
        while not ended:
            while signals and _deliver(process, signals[0]):
                del signals[0]
            if select.select([wake], [], [], _START_PATIENCE if signals else None)[0]:
                os.eventfd_read(wake)
    finally:
        sandbox.close()
        os.close(wake)
    return _exit_code(ended[0])


def _deliver(process: Process, number: int) -> bool:
    """Send a signal to the program; False where there is none yet."""
    init = process.init_pid
    try:
        started = bool(init) and bool(Path(f"/proc/{init}/task/{init}/children").read_text())
    except OSError:
        return False
    if started:
        process.signal(number)
    return started


def _pass_output(stream: str, chunk: bytes) -> None:
    descriptor = 1 if stream == "stdout" else 2
    while chunk:
        try:
            chunk = chunk[os.write(descriptor, chunk) :]
        except OSError:
            return  # nobody reads it; the program goes on


def _exit_code(ended: Ended) -> int:
    if ended.exit_code is not None:
        return ended.exit_code
    return _CANNOT_START if ended.error or not ended.killed else 128 + signal.SIGKILL


def main(arguments: Sequence[str]) -> int:
    """Run the program that the one argument describes; the exit code."""
    try:
        return run(Program.load(arguments[0]))
    except CiError as error:
        sys.stderr.write(f"{error}\n")
        return _CANNOT_START


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
