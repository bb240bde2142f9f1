"""The local target: instances are supervised processes, run from unpacked images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import anyio.to_thread
import httpx

from ci.deploy.environment import EnvironmentSpec, render
from ci.deploy.protocol import Condition, Instance
from ci.deploy.targets.local.folder import Folder, KeptRelease, LocalInstance
from ci.deploy.targets.local.images import UnpackedImages
from ci.deploy.targets.local.loopback import get, version_of
from ci.deploy.targets.local.oneoff import run_once
from ci.deploy.targets.local.ports import Ports
from ci.deploy.targets.local.processes import Process, Processes, Program, tail
from ci.deploy.targets.local.services import BackingServices
from ci.errors import CiError, StageFailed

__all__ = ["LocalTarget"]


@dataclass(frozen=True, kw_only=True)
class LocalTarget:
    """Runs the instances of one environment."""

    spec: EnvironmentSpec
    folder: Folder
    processes: Processes
    images: UnpackedImages
    services: BackingServices
    ports: Ports

    def local(self, instance: Instance) -> LocalInstance:
        """What is kept of an instance.

        Raises:
            CiError: nothing is.
        """
        local = self.folder.instance(instance.name)
        if local is None:
            raise CiError(f"instance {instance.name} does not exist")
        return local

    def address(self, name: str) -> str:
        """``host:port`` of an instance; empty for one that does not exist."""
        local = self.folder.instance(name)
        return local.address if local else ""

    # -- Target ----------------------------------------------------------------------------------

    async def prepare(self, instance: Instance) -> None:
        """Backing services run, and the migrations of the release are done.

        Raises:
            StageFailed: the migrations failed.
            CiError: a service cannot be used.
        """
        await self.services.ensure(self.spec.services)
        local = self.local(instance)
        if not local.migrate or not self.spec.migrate:
            return
        program = await anyio.to_thread.run_sync(
            self._program, local, f"migrate-{instance.name}", self.spec.migrate
        )
        deadline = self.spec.migrate_deadline
        ended = await run_once(self.processes, program, deadline=deadline)
        log = self.processes.log("migrate")
        await anyio.to_thread.run_sync(log.write_text, ended.output)
        if ended.exit_code != 0:
            how = f"exit code {ended.exit_code}" if ended.exit_code is not None else "no end"
            said = self._scrubbed(local, "\n".join(ended.output.splitlines()[-20:]))
            raise StageFailed(
                f"migration {' '.join(self.spec.migrate)}",
                got=f"{how}\n{said}",
                expected=f"exit code 0 within {deadline:g} s",
                hint=f"its output is in {log}",
            )

    async def deploy(self, instance: Instance) -> None:
        """Its process is supervised and was started."""
        local = self.local(instance)
        program = await anyio.to_thread.run_sync(
            self._program, local, instance.name, self._kept(local).args
        )
        await self.processes.start(program)

    async def status(self, instance: Instance) -> Condition:
        """Its process, and what it answers on its own port."""
        local = self.folder.instance(instance.name)
        if local is None:
            return Condition(detail="it does not exist")
        url = f"http://{local.address}"
        process = await self.processes.process(instance.name)
        if not process.alive:
            said = await anyio.to_thread.run_sync(self._last_words, local, process)
            return Condition(failed=process.failed, url=url, detail=said)
        try:
            response = await get(url + self.spec.ready)
        except httpx.HTTPError as error:
            detail = f"{self.spec.ready}: {error or type(error).__name__}"
            return Condition(live=True, url=url, detail=detail)
        ready = response.status_code == httpx.codes.OK
        return Condition(
            live=True,
            ready=ready,
            version=version_of(response) if ready else "",
            url=url,
            detail="" if ready else f"{self.spec.ready} answers {response.status_code}",
        )

    async def retire(self, instance: Instance) -> None:
        """SIGTERM, its end, SIGKILL after the stop deadline; then it is forgotten."""
        await self.processes.stop(instance.name)
        local = self.folder.instance(instance.name)
        if local:
            self.folder.forget_instance(instance.name)
            self.ports.release(local.port)

    def check(self, kept: KeptRelease) -> None:
        """Return when the templates of a release can be filled in.

        Raises:
            ConfigError: one names something that there is not.
        """
        instance = Instance(name="", release=kept.release)
        local = LocalInstance(instance=instance, key=kept.key, port=0)
        names = self._names(local)
        self._env(local, names)
        for arg in kept.args:
            render(arg, names, subject=f"environment {self.spec.name}: args")

    # -- programs --------------------------------------------------------------------------------

    def _kept(self, local: LocalInstance) -> KeptRelease:
        kept = self.folder.release(local.key)
        if kept is None:
            raise CiError(f"release {local.key} of instance {local.instance.name} is not kept")
        return kept

    def _program(self, local: LocalInstance, name: str, args: tuple[str, ...]) -> Program:
        release = local.instance.release
        image = self.images.read(release.digest)
        names, subject = self._names(local), f"environment {self.spec.name}"
        env = self._env(local, names)
        argv = self.images.runtime.argv(
            image.rootfs,
            image.config,
            env=env,
            binds={},
            args=[render(arg, names, subject=subject) for arg in args],
        )
        return Program(name=name, argv=argv, env=env, stop_deadline=self.spec.stop_deadline)

    def _env(self, local: LocalInstance, names: Mapping[str, str]) -> dict[str, str]:
        subject = f"environment {self.spec.name}: env"
        given = {k: render(v, names, subject=subject) for k, v in self._kept(local).env.items()}
        return {"PORT": str(local.port), **given, **self.folder.secrets(local.key)}

    def _names(self, local: LocalInstance) -> dict[str, str]:
        secrets = self.folder.secrets(local.key)
        return {
            "port": str(local.port),
            "version": local.instance.release.version,
            **self.services.names(self.spec.services),
            **{f"secrets.{name}": value for name, value in secrets.items()},
        }

    def _last_words(self, local: LocalInstance, process: Process) -> str:
        name = local.instance.name
        log = self.processes.log(name)
        said = self._scrubbed(local, tail(log))
        return "\n".join(filter(None, [process.detail, said, f"its log is {log}"]))

    def _scrubbed(self, local: LocalInstance, text: str) -> str:
        """Without the secrets, which a program may have printed."""
        known = self._names(local)
        hidden = [v for k, v in known.items() if k.startswith("secrets.") or "password" in k]
        for value in sorted(filter(None, hidden), key=len, reverse=True):
            text = text.replace(value, "***")
        return text
