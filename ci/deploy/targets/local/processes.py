"""The processes of one environment, under a supervisord of their own.

supervisord runs detached and restarts what dies. It is killed with ``kill -9`` at most by a
person or by the kernel; its children then live on and no successor can adopt them, so every
program records who it is (``launch.py``) and the next ``ensure`` ends what is left before it
starts anew.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import shlex
import shutil
import signal
import sys
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import structlog
from supervisor.xmlrpc import SupervisorTransport

from ci.clock import Clock
from ci.deploy.journal import write_whole
from ci.deploy.targets.local import launch
from ci.deploy.targets.local.folder import Folder
from ci.errors import CiError

__all__ = ["Process", "Processes", "Program", "tail"]

_log = structlog.get_logger(__name__)

_LOG_BYTES = 5_000_000
_POLL = 0.02
_START_DEADLINE = 15.0
#: supervisor's states; http://supervisord.org/subprocess.html#process-states
_STOPPED, _STARTING, _RUNNING, _BACKOFF, _STOPPING, _FATAL = 0, 10, 20, 30, 40, 200
_ALIVE = (_STARTING, _RUNNING)
#: Faults of its RPC interface that mean "it is so already".
_BAD_NAME, _NOT_RUNNING, _ALREADY_STARTED, _ALREADY_ADDED = 10, 70, 60, 90


class SupervisorGone(CiError):
    """supervisord does not answer."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is to run under a name."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    #: What makes it another program; not the command, which names files of the installation that
    #: started it: a command from a second one leaves alone what runs.
    identity: str = ""
    stop_deadline: float = 10.0
    stop_signal: str = "TERM"
    #: When all are ended, those with higher numbers are ended first.
    priority: int = 500


@dataclass(frozen=True, kw_only=True)
class Process:
    """What runs under a name."""

    alive: bool = False
    #: supervisord knows it, alive or not.
    known: bool = False
    #: It ended again and again, or just did so at its start.
    failed: bool = False
    pid: int = 0
    detail: str = ""


class Processes:
    """Starts, watches and ends the programs of an environment."""

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self._config = folder.supervisor / "supervisord.conf"
        self._socket = folder.socket("supervisor.sock")

    # -- supervisord -----------------------------------------------------------------------------

    async def ensure(self) -> bool:
        """Return when supervisord answers; whether it had to be started.

        Raises:
            CiError: it does not start.
        """
        if await self.running():
            return False
        await anyio.to_thread.run_sync(self._clear)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._config)]
        env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        done = await anyio.run_process(command, check=False, env=env, cwd=self.folder.path)
        deadline = self.clock.monotonic() + _START_DEADLINE
        while done.returncode == 0 and self.clock.monotonic() < deadline:
            if await self.running():
                _log.info("supervisor.started", environment=self.folder.path.name)
                return True
            await self.clock.sleep(_POLL)
        said = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
        raise CiError(
            f"supervisord of environment {self.folder.path.name} does not start",
            got=said.strip() or tail(self.folder.logs / "supervisord.log") or "no answer",
        )

    async def running(self) -> bool:
        """Whether supervisord answers."""
        try:
            await self._call("getState")
        except SupervisorGone:
            return False
        return True

    async def shutdown(self) -> None:
        """Return when no process of the environment runs any more."""
        if await self.running():
            known = await self._call("getAllConfigInfo")
            for config in sorted(known, key=lambda config: -int(config["process_prio"])):
                await self.stop(str(config["name"]))
            pid = int(await self._call("getPID"))
            await self._call("shutdown")
            while await self.running():  # it ends when it is next spoken to, or a second later
                await self.clock.sleep(_POLL)
            await anyio.to_thread.run_sync(_wait_exit, pid, _START_DEADLINE)
        await anyio.to_thread.run_sync(self._clear)

    def _clear(self) -> None:
        """End what an earlier supervisord left behind, and write the configuration anew."""
        for record in sorted((*self.folder.pids.glob("[!.]*"), self._config.with_suffix(".pid"))):
            end_leftover(record, owner=str(self._config))
        self._socket.unlink(missing_ok=True)
        for config in self._configs():
            config.unlink()
        write_whole(self._config, self._daemon_config())

    def _configs(self) -> list[Path]:
        return sorted((self.folder.supervisor / "programs").glob("*.conf"))

    def _daemon_config(self) -> str:
        sections: dict[str, dict[str, object]] = {
            "unix_http_server": {"file": self._socket, "chmod": "0600"},
            "supervisord": {
                "logfile": self.folder.logs / "supervisord.log",
                "logfile_maxbytes": _LOG_BYTES,
                "logfile_backups": 1,
                "pidfile": self._config.with_suffix(".pid"),
                "childlogdir": self.folder.logs,
                "minprocs": 20,
                **({"user": "root"} if os.geteuid() == 0 else {}),
            },
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": (
                    "supervisor.rpcinterface:make_main_rpcinterface"
                ),
            },
            "include": {"files": self.folder.supervisor / "programs" / "*.conf"},
        }
        return _ini(sections)

    # -- programs --------------------------------------------------------------------------------

    async def start(self, program: Program) -> None:
        """Return when the program is being run; one of that identity that lives is left alone."""
        now = await self.process(program.name)
        running = await anyio.to_thread.run_sync(self._identity, program.name)
        if now.alive and running == program.identity:
            return
        if now.known:
            await self.stop(program.name)
        await anyio.to_thread.run_sync(self._write, program)
        await self._call("reloadConfig")
        await self._unless(_ALREADY_ADDED, "addProcessGroup", program.name)
        await self._unless(_ALREADY_STARTED, "startProcess", program.name, False)  # noqa: FBT003

    async def process(self, name: str) -> Process:
        """What runs under that name now."""
        try:
            info = await self._call("getProcessInfo", name)
        except xmlrpc.client.Fault:
            return Process(detail="not started")
        state = int(info["state"])
        return Process(
            known=True,
            alive=state in _ALIVE,
            failed=state in (_BACKOFF, _FATAL),
            pid=int(info["pid"]),
            detail=str(info["spawnerr"] or info["description"]),
        )

    async def stop(self, name: str) -> None:
        """Return when the program has ended and is forgotten; killed after its stop deadline."""
        await self._unless(_NOT_RUNNING, "stopProcess", name, False)  # noqa: FBT003
        while True:
            try:
                info = await self._call("getProcessInfo", name)
            except xmlrpc.client.Fault:
                break
            if int(info["state"]) not in (*_ALIVE, _STOPPING, _BACKOFF):
                break
            await self.clock.sleep(_POLL)
        await self._unless(_BAD_NAME, "removeProcessGroup", name)
        await anyio.to_thread.run_sync(self._forget, name)

    async def names(self) -> list[str]:
        """Every program that supervisord knows."""
        return [str(info["name"]) for info in await self._call("getAllProcessInfo")]

    def launch_file(self, program: Program) -> tuple[Path, str]:
        """Where ``launch.py`` reads the program, and the text."""
        first = shutil.which(program.argv[0], path=os.environ.get("PATH")) or program.argv[0]
        text = json.dumps(
            {
                "argv": [first, *program.argv[1:]],
                "env": dict(program.env),
                "identity": program.identity,
                "record": str(self.folder.pids / program.name),
            }
        )
        return self.folder.launches / f"{program.name}.json", text

    def _identity(self, name: str) -> str | None:
        text = _text(self.folder.launches / f"{name}.json")
        return str(json.loads(text).get("identity", "")) if text else None

    def _write(self, program: Program) -> None:
        """Write the files of a program."""
        path, text = self.launch_file(program)
        config_path = self.folder.supervisor / "programs" / f"{program.name}.conf"
        config = _ini(
            {
                f"program:{program.name}": {
                    "command": shlex.join([sys.executable, "-I", launch.__file__, str(path)]),
                    "directory": self.folder.path,
                    "autostart": "false",
                    "autorestart": "true",
                    "priority": program.priority,
                    "startsecs": 1,
                    "startretries": 10,
                    "stopsignal": program.stop_signal,
                    "stopwaitsecs": max(1, round(program.stop_deadline)),
                    "killasgroup": "true",
                    "redirect_stderr": "true",
                    "stdout_logfile": self.log(program.name),
                    "stdout_logfile_maxbytes": _LOG_BYTES,
                    "stdout_logfile_backups": 1,
                }
            }
        )
        write_whole(path, text)
        write_whole(config_path, config)

    def _forget(self, name: str) -> None:
        for path in (
            self.folder.supervisor / "programs" / f"{name}.conf",
            self.folder.launches / f"{name}.json",
            self.folder.pids / name,
        ):
            path.unlink(missing_ok=True)

    def log(self, name: str) -> Path:
        """Where the output of a program goes."""
        return self.folder.logs / f"{name}.log"

    # -- RPC -------------------------------------------------------------------------------------

    async def _unless(self, fault: int, method: str, *args: object) -> None:
        """Call; that fault means that it is so already. So does a name that is not known."""
        try:
            await self._call(method, *args)
        except xmlrpc.client.Fault as error:
            if error.faultCode not in (fault, _BAD_NAME):
                raise CiError(f"supervisord: {method} {args[0]}", got=error.faultString) from error

    async def _call(self, method: str, *args: object) -> Any:  # noqa: ANN401 - as XML-RPC has it
        return await anyio.to_thread.run_sync(self._call_now, method, *args)

    def _call_now(self, method: str, *args: object) -> Any:  # noqa: ANN401 - as XML-RPC has it
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        try:
            proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
            return getattr(proxy.supervisor, method)(*args)
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise SupervisorGone(
                f"supervisord of environment {self.folder.path.name} does not answer",
                got=str(error) or type(error).__name__,
            ) from error
        finally:
            transport.close()


def end_leftover(record: Path, *, owner: str) -> None:
    """End the process group that a record names, if it is still the one that was recorded.

    supervisord's own record is a bare pid; its command line must then name ``owner``.
    """
    try:
        said = record.read_text().strip()
    except FileNotFoundError:
        return
    pid = said.partition(" ")[0]
    command = Path(f"/proc/{pid}/cmdline")
    same = launch.identity(pid) == said if " " in said else owner in (_text(command) or "")
    if pid.isdigit() and same:
        _log.warning("process.leftover_ended", program=record.name, pid=int(pid))
        for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(os.getpgid(int(pid)), number)
            except ProcessLookupError:
                break
            if _wait_exit(int(pid), patience):
                break
    record.unlink(missing_ok=True)


def _wait_exit(pid: int, seconds: float) -> bool:
    """Whether the process, which need not be a child, ended in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def _ini(sections: Mapping[str, Mapping[str, object]]) -> str:
    """Text of a configuration of supervisor, in which ``%`` is doubled."""
    lines = []
    for section, options in sections.items():
        lines += [f"[{section}]"]
        lines += [f"{key}={str(value).replace('%', '%%')}" for key, value in options.items()]
        lines += [""]
    return "\n".join(lines)
