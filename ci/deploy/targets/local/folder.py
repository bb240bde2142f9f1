"""The folder of one environment: its layout, its lock, and the values kept in it.

::

    environment.json       the spec, without secrets
    releases/KEY.json      each confirmed or tried release with its configuration
    releases/KEY.secrets   its secrets, mode 0600
    instances/NAME.json    each instance that runs or should
    launches/NAME.json     argv and variables of each program, mode 0600
    rollout.json           where the last rollout stands
    services/NAME/         data, port and password of a backing service
    run/                   sockets, pids, the router's slots
    logs/  caddy/  supervisor/
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import AwareDatetime, BaseModel, ValidationError

from ci.deploy.environment import EnvironmentSpec
from ci.deploy.journal import FileJournal, write_whole
from ci.deploy.protocol import Instance
from ci.errors import CiError
from ci.values import Release, Value

__all__ = ["Folder", "KeptRelease", "LocalInstance"]

#: A socket's path must fit into 108 bytes, and supervisor appends its pid to a temporary one.
_LONGEST_SOCKET = 90

#: How the names of instances end, see ``Folder.next_name``; logs are named by them.
_OF_INSTANCE = re.compile(r"-[0-9a-f]{6}-\d+$")
_LOGS_KEPT = 12

M = TypeVar("M", bound=BaseModel)


class KeptRelease(Value):
    """A release with the configuration it was delivered with: what a rollback restores."""

    #: Of image, version, configuration and secrets: equal means the same in every respect.
    key: str
    release: Release
    env: Mapping[str, str] = {}
    args: tuple[str, ...] = ()
    #: When it last took all traffic and passed its checks; None: never.
    confirmed_at: AwareDatetime | None = None
    #: A rollback left it: it is not gone back to.
    withdrawn: bool = False


class LocalInstance(Value):
    """An instance with what this target needs to run it."""

    instance: Instance
    key: str
    #: On 127.0.0.1.
    port: int
    #: Run the migrations of its release first; a rollback does not.
    migrate: bool = True

    @property
    def address(self) -> str:
        """As Caddy dials it."""
        return f"127.0.0.1:{self.port}"


class Folder:
    """Reads and writes the state of one environment. Writes are whole files, by rename."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.releases = path / "releases"
        self.instances = path / "instances"
        self.launches = path / "launches"
        self.services = path / "services"
        self.run = path / "run"
        self.pids = self.run / "pids"
        self.logs = path / "logs"
        self.caddy = path / "caddy"
        self.supervisor = path / "supervisor"
        self.journal = FileJournal(path / "rollout.json")

    def make(self) -> None:
        """Make the folders; only their owner may enter.

        Raises:
            CiError: they cannot be made.
        """
        try:
            self._make()
        except OSError as error:
            raise CiError(
                f"{self.path}: folder of an environment not made",
                got=error.strerror or str(error),
                hint="TOWPATH_STATE names another place",
            ) from error

    def _make(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o700)
        for folder in (
            self.releases,
            self.instances,
            self.launches,
            self.services,
            self.pids,
            self.logs,
            self.caddy,
            self.supervisor / "programs",
        ):
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands out.

        Raises:
            CiError: another one is at work in this environment.
        """
        self.make()
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CiError(
                    f"environment {self.path.name} is busy",
                    got=f"another command at work (pid {os.pread(descriptor, 20, 0).decode()})",
                    hint="wait until it ended",
                ) from None
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def socket(self, name: str) -> Path:
        """Path of a unix socket in ``run``, by a short link where the path would be too long."""
        if len(os.fsencode(self.run)) + 1 + len(name) <= _LONGEST_SOCKET:
            return self.run / name
        short = Path(f"/tmp/towpath-{os.getuid()}")  # noqa: S108 - owner and mode are checked
        short.mkdir(mode=0o700, exist_ok=True)
        if short.lstat().st_uid != os.getuid() or short.lstat().st_mode & 0o077:
            raise CiError(
                str(short), got="a folder of someone else", expected="a private one of this user"
            )
        link = short / hashlib.sha256(os.fsencode(self.run)).hexdigest()[:16]
        if not link.is_symlink():
            _forget_removed(short)
            link.symlink_to(self.run)
        return link / name

    def _read(self, path: Path, model: type[M]) -> M | None:
        try:
            return model.model_validate_json(path.read_text())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise CiError(f"{path}: not read", got=error.errors()[0]["msg"]) from error

    # -- spec ------------------------------------------------------------------------------------

    def spec(self) -> EnvironmentSpec | None:
        """The environment as it was last asked for."""
        return self._read(self.path / "environment.json", EnvironmentSpec)

    def write_spec(self, spec: EnvironmentSpec) -> None:
        """Keep it."""
        write_whole(self.path / "environment.json", spec.model_dump_json(indent=1))

    # -- releases --------------------------------------------------------------------------------

    def key(self, spec: EnvironmentSpec, release: Release, values: Mapping[str, str]) -> str:
        """Identity of a release with its configuration; tells nothing about the secrets."""
        salt = self.path / "salt"
        if not salt.exists():
            write_whole(salt, secrets.token_hex(32))
        sealed = hmac.new(salt.read_bytes(), json.dumps(sorted(values.items())).encode(), "sha256")
        facts = [release.digest, release.version, sorted(spec.env.items()), spec.args]
        text = json.dumps([*facts, sealed.hexdigest()])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def keep_release(self, kept: KeptRelease, values: Mapping[str, str]) -> None:
        """Write a release and its secrets."""
        write_whole(self.releases / f"{kept.key}.secrets", json.dumps(dict(values)))
        write_whole(self.releases / f"{kept.key}.json", kept.model_dump_json(indent=1))

    def change_release(self, kept: KeptRelease) -> None:
        """Write it again; its secrets stay."""
        write_whole(self.releases / f"{kept.key}.json", kept.model_dump_json(indent=1))

    def release(self, key: str) -> KeptRelease | None:
        """The kept release of that key."""
        return self._read(self.releases / f"{key}.json", KeptRelease)

    def secrets(self, key: str) -> dict[str, str]:
        """The secrets of a kept release."""
        values: dict[str, str] = json.loads((self.releases / f"{key}.secrets").read_text())
        return values

    def kept_releases(self) -> list[KeptRelease]:
        """Those that are kept, last confirmed first, then those that never were."""
        found = [self.release(path.stem) for path in self.releases.glob("*.json")]
        kept = [release for release in found if release]
        return sorted(
            kept,
            key=lambda k: (k.confirmed_at is not None, str(k.confirmed_at), k.key),
            reverse=True,
        )

    def forget_release(self, key: str) -> None:
        """Remove a kept release and its secrets."""
        for suffix in (".json", ".secrets"):
            (self.releases / f"{key}{suffix}").unlink(missing_ok=True)

    # -- instances -------------------------------------------------------------------------------

    def next_name(self, release: Release, key: str) -> str:
        """A name for an instance that none had before."""
        counter = self.path / "sequence"
        number = int(counter.read_text()) + 1 if counter.exists() else 1
        write_whole(counter, str(number))
        version = "".join(c if c.isalnum() or c in ".-" else "-" for c in release.version)[:40]
        return f"{version}-{key[:6]}-{number}"

    def write_instance(self, local: LocalInstance) -> None:
        """Keep an instance: it exists from now on."""
        write_whole(self.instances / f"{local.instance.name}.json", local.model_dump_json(indent=1))

    def instance(self, name: str) -> LocalInstance | None:
        """The instance of that name."""
        return self._read(self.instances / f"{name}.json", LocalInstance)

    def all_instances(self) -> list[LocalInstance]:
        """Every instance that exists, by name."""
        found = [self.instance(path.stem) for path in sorted(self.instances.glob("*.json"))]
        return [local for local in found if local]

    def forget_instance(self, name: str) -> None:
        """It is no more; its log is one of the last that are kept."""
        (self.instances / f"{name}.json").unlink(missing_ok=True)
        logs = [path for path in self.logs.glob("*.log") if _OF_INSTANCE.search(path.stem)]
        for log in sorted(logs, key=lambda path: path.stat().st_mtime)[:-_LOGS_KEPT]:
            log.unlink(missing_ok=True)
            log.with_name(f"{log.name}.1").unlink(missing_ok=True)


def _forget_removed(links: Path) -> None:
    """Remove the links to environments whose folders are gone."""
    for link in links.iterdir():
        if link.is_symlink() and not link.exists():
            link.unlink(missing_ok=True)
