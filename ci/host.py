"""Deliveries to this machine: what `ci` adds to a pipeline and a Dagger engine cannot.

Here the images of the engine, the local target of ``ci.deploy`` and the configuration meet.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import dagger
from dagger import dag

from ci import config
from ci.deploy.conductor import Checks
from ci.deploy.environment import BackingService, EnvironmentSpec
from ci.deploy.postgres import postgres, postgres_url
from ci.deploy.protocol import Smoke
from ci.errors import CiError, ConfigError, StageErrored
from ci.values import DeliveryRecord, Release

if TYPE_CHECKING:
    from ci.deploy.targets.local.delivery import LocalDelivery
    from ci.engine.store.own_folder import OwnFolder

__all__ = ["Host"]


class Host:
    """Delivers images of the engine to environments on this machine.

    Args:
        delivery: Makes what delivers, when it is first needed.
        source: The repository's folder; relative paths of secrets start there.
        exports: A folder for images on their way; what killed processes left there is removed.
    """

    def __init__(
        self, delivery: Callable[[], LocalDelivery], *, source: Path, exports: Path
    ) -> None:
        self._delivery = delivery
        self._source = source
        self._exports = exports
        self._archives: dict[str, tuple[Path, str]] = {}
        self._folder: OwnFolder | None = None
        self._exporting = anyio.Lock()

    def close(self) -> None:
        """Remove what was exported for deliveries."""
        if self._folder is not None:
            self._folder.remove()

    async def deliver(
        self,
        project: str,
        name: str,
        environment: config.Environment,
        image: dagger.Container,
        *,
        version: str,
        commit: str = "",
        smoke: Smoke | None = None,
    ) -> DeliveryRecord:
        """Deliver ``image`` to an environment; what stands against it is in the record."""
        archive, digest = await self._archive(image)
        services = await self._services(environment)
        urls = {variable: postgres_url(service) for variable, service in services.items()}
        spec = EnvironmentSpec(
            project=project,
            name=name,
            port=environment.port,
            env={"HOST": "127.0.0.1", **urls, **environment.env},
            migrate=environment.migrate,
            services=tuple(services.values()),
            ready=environment.ready,
            checks=Checks(ready_deadline=environment.ready_timeout),
        )
        return await self._delivery().deploy(
            spec,
            Release(name=project, version=version, digest=digest, commit=commit),
            archive,
            secrets={key: self._secret(key, uri) for key, uri in environment.secrets.items()},
            smoke=smoke,
        )

    async def _services(self, environment: config.Environment) -> dict[str, BackingService]:
        """The backing services, by the variable that tells the release their URL."""
        services = {}
        for variable, service in environment.services.items():
            archive, digest = await self._archive(dag.container().from_(service.image))
            services[variable] = postgres(
                digest=digest,
                archive=archive,
                image=service.image,
                name=_service_name(variable),
                database=service.database,
            )
        return services

    async def _archive(self, image: dagger.Container) -> tuple[Path, str]:
        """The image as an OCI archive on this machine, and its manifest's digest; made once."""
        tarball = image.as_tarball()
        key = await tarball.digest()
        async with self._exporting:
            if key not in self._archives:
                path = await anyio.to_thread.run_sync(self._place, f"{len(self._archives)}.tar")
                await tarball.export(str(path))
                digest = await anyio.to_thread.run_sync(_manifest_digest, path)
                self._archives[key] = (path, digest)
        return self._archives[key]

    def _place(self, name: str) -> Path:
        """A path in a folder of this process's own."""
        from ci.engine.store.own_folder import OwnFolder, sweep  # noqa: PLC0415 - an extra

        if self._folder is None:
            self._exports.mkdir(parents=True, exist_ok=True)
            sweep(str(self._exports))
            self._folder = OwnFolder.make(str(self._exports))
        return Path(self._folder.path, name)

    def _secret(self, variable: str, uri: str) -> str:
        """The value of ``env:NAME``, ``file:PATH`` (relative to the source) or ``cmd:COMMAND``."""
        provider, _, rest = uri.partition(":")
        subject = f"secret {variable}"
        if provider == "env":
            if rest not in os.environ:
                raise ConfigError(subject, got=f"no variable {rest}", hint=f"export {rest}=...")
            return os.environ[rest]
        if provider == "file":
            try:
                return (self._source / rest).read_text().rstrip("\n")
            except OSError as error:
                raise ConfigError(subject, got=f"{rest}: {error.strerror}") from error
        result = subprocess.run(  # noqa: S602 - the user's own command line
            rest, shell=True, capture_output=True, text=True, check=False, cwd=self._source
        )
        if result.returncode:
            raise StageErrored(subject, got=f"its command ended with {result.returncode}")
        return result.stdout.rstrip("\n")


def _service_name(variable: str) -> str:
    """``DATABASE_URL`` names the service ``database``."""
    name = re.sub(r"[^a-z0-9]+", "-", variable.lower().removesuffix("_url")).strip("-")
    return name or "service"


def _manifest_digest(archive: Path) -> str:
    """The digest of the one image in an OCI archive: of its manifest, as index.json names it."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile("index.json")
        if file is None:
            raise CiError(f"{archive.name}: no OCI archive", expected="index.json")
        index = json.load(file)
    manifests = index["manifests"]
    if len(manifests) == 1:
        return str(manifests[0]["digest"])
    return "sha256:" + hashlib.sha256(json.dumps(manifests, sort_keys=True).encode()).hexdigest()
