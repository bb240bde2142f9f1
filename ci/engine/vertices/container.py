"""ContainerState: what a container is before anything of it runs; every change returns a new one.

Pure: no I/O. The GraphQL layer calls these methods, and hands the execs that they make to the
solver. Semantics follow Dagger's Container type.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ci.engine.refusal import Refusal
from ci.engine.vertices.duration import seconds
from ci.engine.vertices.execution import DEFAULT_PATH
from ci.engine.vertices.vertex import (
    CacheMount,
    DirectoryMount,
    DirectoryRef,
    Exec,
    ExecMountOutput,
    ExecRootOutput,
    FileMount,
    FileRef,
    ImageRoot,
    Mount,
    Scratch,
    SecretMount,
    SecretRef,
    ServiceSpec,
    SocketMount,
    TmpfsMount,
    Tree,
    Vertex,
)

__all__ = ["ContainerState", "ExposedPort", "Healthcheck", "join"]

_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*|[0-9*#$@!?-]))")

Pairs = tuple[tuple[str, str], ...]


def join(base: str, path: str) -> str:
    """``path`` as an absolute, clean path; a relative one starts at ``base``."""
    joined = posixpath.normpath(posixpath.join("/", base, path))
    return "/" + joined.lstrip("/")


def put(pairs: Pairs, name: str, value: str) -> Pairs:
    """The pairs with ``name`` set, where it stood or at the end."""
    if any(key == name for key, _ in pairs):
        return tuple((key, value if key == name else old) for key, old in pairs)
    return (*pairs, (name, value))


def drop(pairs: Pairs, name: str) -> Pairs:
    """The pairs without ``name``."""
    return tuple(pair for pair in pairs if pair[0] != name)


def inside(path: str, folder: str) -> bool:
    """``path`` is ``folder`` or below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


@dataclass(frozen=True, kw_only=True, eq=False)
class ExposedPort(Vertex):
    """A port that others may dial; the engine waits for it unless told not to."""

    port: int
    protocol: str = "TCP"
    description: str | None = None
    skip_healthcheck: bool = False
    #: It came with the image: it is listed, but nobody waits for it.
    from_image: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Healthcheck(Vertex):
    """A Docker health check. Durations are as Go writes them, empty for the default."""

    args: tuple[str, ...]
    shell: bool = False
    interval: str = ""
    timeout: str = ""
    start_period: str = ""
    start_interval: str = ""
    retries: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ContainerState(Vertex):
    """Root file system, mounts and configuration of a container."""

    platform: str
    root: Tree = field(default_factory=Scratch)
    mounts: tuple[Mount, ...] = ()
    secret_mounts: tuple[SecretMount, ...] = ()
    sockets: tuple[SocketMount, ...] = ()
    services: tuple[tuple[str, ServiceSpec], ...] = ()
    #: The last exec of the chain: what stdout, stderr and exitCode speak of.
    last_exec: Exec | None = None
    image_reference: str = ""

    env: Pairs = ()
    secret_env: tuple[tuple[str, SecretRef], ...] = ()
    volatile_env: Pairs = ()
    workdir: str = ""
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    default_args: tuple[str, ...] = ()
    #: The user set them, so a service runs them without the image's entrypoint.
    default_args_set: bool = False
    #: What ``terminal`` runs, and whether it has all capabilities.
    terminal_args: tuple[str, ...] = ()
    terminal_is_privileged: bool = False
    labels: Pairs = ()
    annotations: Pairs = ()
    ports: tuple[ExposedPort, ...] = ()
    healthcheck: Healthcheck | None = None
    #: An image says that it has none, whatever its base says.
    no_healthcheck: bool = False
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()
    #: What runs commands in shell form, where a Dockerfile or its base image says so.
    shell: tuple[str, ...] = ()
    #: Instructions for whoever builds a Dockerfile from this image.
    on_build: tuple[str, ...] = ()
    author: str = ""
    #: Docker's deprecated mark of images whose command came from a Dockerfile.
    args_escaped: bool = False
    #: (registry address, user, password)
    registry_auth: tuple[tuple[str, str, SecretRef], ...] = ()

    def __post_init__(self) -> None:
        """Leave the digest to whoever asks: most states of a chain are never named."""

    # -- paths ------------------------------------------------------------------------------

    def resolve(self, path: str) -> str:
        """``path`` from the working directory."""
        return join(self.workdir or "/", path)

    def expand(self, text: str) -> str:
        """``$NAME`` and ``${NAME}`` replaced by the environment; what is not set is empty.

        Raises:
            Refusal: a secret variable is named.
        """
        values = dict(self.env)
        secrets = {name for name, _ in self.secret_env}

        def value(match: re.Match[str]) -> str:
            name = match[1] if match[1] is not None else match[2]
            if name in secrets:
                message = f'expand cannot be used with secret env variable "{name}"'
                raise Refusal(message)
            return values.get(name, "")

        return _VARIABLE.sub(value, text)

    def locate(self, path: str) -> tuple[Mount | None, Tree, str]:
        """Where ``path`` (absolute) is: its mount, if any, and its place in a tree.

        Raises:
            Refusal: it is in a cache volume or a tmpfs, which nothing can be read from.
        """
        for mount in reversed(self.mounts):
            if not inside(path, mount.path):
                continue
            if isinstance(mount, CacheMount):
                raise Refusal(f"{path}: cannot retrieve path from cache")
            if isinstance(mount, TmpfsMount):
                raise Refusal(f"{path}: cannot retrieve path from tmpfs")
            if isinstance(mount, DirectoryMount):
                below = path[len(mount.path.rstrip("/")) :].lstrip("/")
                return mount, mount.source.tree, join(mount.source.path, below)
            if isinstance(mount, FileMount):
                return mount, mount.source.tree, mount.source.path
        return None, self.root, path

    def change(self, path: str, make: Callable[[Tree, str], Tree]) -> ContainerState:
        """The tree that holds ``path`` replaced by ``make(tree, place in it)``."""
        mount, tree, place = self.locate(path)
        if not isinstance(mount, DirectoryMount):
            return replace(self, root=make(self.root, path))
        source = DirectoryRef(tree=make(tree, place), path=mount.source.path)
        changed = replace(mount, source=source)
        return replace(self, mounts=tuple(changed if m is mount else m for m in self.mounts))

    # -- mounts -----------------------------------------------------------------------------

    def with_mount(self, mount: Mount) -> ContainerState:
        """``mount`` on top; what was mounted there or below is gone."""
        kept = tuple(m for m in self.mounts if not inside(m.path, mount.path))
        return replace(self, mounts=(*kept, mount))

    def without_mount(self, path: str) -> ContainerState:
        """Whatever is mounted exactly there, unmounted."""
        return replace(
            self,
            mounts=tuple(m for m in self.mounts if m.path != path),
            secret_mounts=tuple(m for m in self.secret_mounts if m.path != path),
        )

    def with_secret_mount(self, mount: SecretMount) -> ContainerState:
        """A secret as a file; one that was there is replaced."""
        kept = tuple(m for m in self.secret_mounts if m.path != mount.path)
        return replace(self, secret_mounts=(*kept, mount))

    def with_socket(self, mount: SocketMount) -> ContainerState:
        """A socket; one that was there is replaced."""
        kept = tuple(m for m in self.sockets if m.path != mount.path)
        return replace(self, sockets=(*kept, mount))

    # -- configuration ----------------------------------------------------------------------

    def with_env(self, name: str, value: str) -> ContainerState:
        """The variable set; a secret of that name gives way."""
        kept = tuple(pair for pair in self.secret_env if pair[0] != name)
        return replace(self, env=put(self.env, name, value), secret_env=kept)

    def with_secret_env(self, name: str, secret: SecretRef) -> ContainerState:
        """The variable set to a secret; a plain one of that name gives way."""
        kept = tuple(pair for pair in self.secret_env if pair[0] != name)
        return replace(self, env=drop(self.env, name), secret_env=(*kept, (name, secret)))

    def with_port(self, port: ExposedPort) -> ContainerState:
        """The port exposed; the same port of the same protocol is replaced."""
        return replace(self, ports=(*self.without_port(port.port, port.protocol).ports, port))

    def without_port(self, port: int, protocol: str) -> ContainerState:
        """The port not exposed."""
        kept = tuple(p for p in self.ports if (p.port, p.protocol) != (port, protocol))
        return replace(self, ports=kept)

    # -- running ----------------------------------------------------------------------------

    def command(self, args: Iterable[str], *, use_entrypoint: bool) -> tuple[str, ...]:
        """The argv of an exec: empty args are the default ones.

        Raises:
            Refusal: nothing is left to run.
        """
        argv = tuple(args) or self.default_args
        if use_entrypoint:
            argv = (*self.entrypoint, *argv)
        if not argv:
            raise Refusal("no command has been set")
        return argv

    def service_command(self, args: Iterable[str], *, use_entrypoint: bool) -> tuple[str, ...]:
        """The argv of a service: the image's entrypoint, unless args or default args are set.

        Raises:
            Refusal: nothing is left to run.
        """
        given = tuple(args)
        prefix = use_entrypoint or (not given and not self.default_args_set)
        argv = (*(self.entrypoint if prefix else ()), *(given or self.default_args))
        if not argv:
            raise Refusal("no service command has been set")
        return argv

    def environment(self) -> Pairs:
        """Variables of an exec, sorted by name; PATH is added where it is not set."""
        values = dict(self.env)
        values.setdefault("PATH", DEFAULT_PATH)
        return tuple(sorted(values.items()))

    def exec(self, args: tuple[str, ...], **options: Any) -> Exec:
        """The exec of ``args`` here; ``options`` are the other fields of Exec."""
        return Exec(
            root=self.root,
            args=args,
            env=self.environment(),
            secret_env=tuple(sorted(self.secret_env, key=lambda pair: pair[0])),
            volatile_env=tuple(sorted(self.volatile_env)),
            workdir=self.workdir or "/",
            user=self.user,
            mounts=(*self.mounts, *self.secret_mounts, *self.sockets),
            services=self.services,
            platform=self.platform,
            **options,
        )

    def after(self, ran: Exec) -> ContainerState:
        """This container once ``ran`` has run in it: new root, and what it wrote to mounts."""
        return replace(
            self,
            root=ExecRootOutput(exec=ran),
            mounts=tuple(_after(mount, ran) for mount in self.mounts),
            last_exec=ran,
        )

    # -- images -----------------------------------------------------------------------------

    def from_image(
        self, reference: str, digest: str, image: Mapping[str, Any], platform: str
    ) -> ContainerState:
        """The image's root and configuration; variables and labels set before it stay set."""
        config: Mapping[str, Any] = image.get("config") or {}
        env: Pairs = ()
        for name, value in [entry.partition("=")[::2] for entry in config.get("Env") or ()]:
            env = put(env, name, value)
        for name, value in self.env:
            env = put(env, name, value)
        labels = tuple((config.get("Labels") or {}).items())
        for name, value in self.labels:
            labels = put(labels, name, value)
        return replace(
            self,
            root=ImageRoot(image_digest=digest, reference=reference),
            platform=platform,
            image_reference=reference,
            env=env,
            labels=labels,
            workdir=config.get("WorkingDir") or "",
            user=config.get("User") or "",
            entrypoint=tuple(config.get("Entrypoint") or ()),
            default_args=tuple(config.get("Cmd") or ()),
            default_args_set=False,
            ports=(*_image_ports(config), *self.ports),
            healthcheck=_image_healthcheck(config),
            no_healthcheck=(config.get("Healthcheck") or {}).get("Test") == ["NONE"],
            shell=tuple(config.get("Shell") or ()),
            on_build=tuple(config.get("OnBuild") or ()),
            author=image.get("author") or "",
            args_escaped=bool(config.get("ArgsEscaped")),
            stop_signal=config.get("StopSignal") or "",
            volumes=tuple(sorted(config.get("Volumes") or ())),
        )

    def image_config(self) -> dict[str, Any]:
        """The OCI image configuration, less what depends on layers."""
        os, architecture, *variant = self.platform.split("/")
        config: dict[str, Any] = {
            "User": self.user,
            "ExposedPorts": {f"{p.port}/{p.protocol.lower()}": {} for p in self.ports},
            "Env": [f"{name}={value}" for name, value in self.env],
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.default_args),
            "Volumes": {volume: {} for volume in self.volumes},
            "WorkingDir": self.workdir,
            "Labels": dict(self.labels),
            "StopSignal": self.stop_signal,
            "Shell": list(self.shell),
            "OnBuild": list(self.on_build),
            "ArgsEscaped": self.args_escaped,
        }
        image: dict[str, Any] = {"architecture": architecture, "os": os}
        if variant:
            image["variant"] = variant[0]
        image["config"] = {key: value for key, value in config.items() if value}
        if self.author:
            image["author"] = self.author
        if self.healthcheck:
            image["config"]["Healthcheck"] = _docker_healthcheck(self.healthcheck)
        elif self.no_healthcheck:
            image["config"]["Healthcheck"] = {"Test": ["NONE"]}
        return image


def _after(mount: Mount, ran: Exec) -> Mount:
    """A mount as ``ran`` left it."""
    if isinstance(mount, DirectoryMount) and not mount.read_only:
        written = ExecMountOutput(exec=ran, path=mount.path)
        return replace(mount, source=DirectoryRef(tree=written), owner=None)
    if isinstance(mount, FileMount):
        written = ExecMountOutput(exec=ran, path=mount.path)
        name = posixpath.basename(mount.source.path)
        return replace(mount, source=FileRef(tree=written, path="/" + name), owner=None)
    return mount


def _image_ports(config: Mapping[str, Any]) -> tuple[ExposedPort, ...]:
    """EXPOSE of an image."""
    ports = []
    for spec in sorted(config.get("ExposedPorts") or ()):
        number, _, protocol = spec.partition("/")
        if number.isdigit():
            ports.append(
                ExposedPort(
                    port=int(number),
                    protocol=(protocol or "tcp").upper(),
                    skip_healthcheck=True,
                    from_image=True,
                )
            )
    return tuple(ports)


def _image_healthcheck(config: Mapping[str, Any]) -> Healthcheck | None:
    """HEALTHCHECK of an image. Its durations are nanoseconds."""
    check = config.get("Healthcheck") or {}
    test = list(check.get("Test") or ())
    if len(test) < 2 or test[0] not in ("CMD", "CMD-SHELL"):
        return None

    def duration(key: str) -> str:
        whole, rest = divmod(int(check.get(key) or 0), 10**9)
        written = f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
        return f"{written}s" if whole or rest else ""

    return Healthcheck(
        args=tuple(test[1:]),
        shell=test[0] == "CMD-SHELL",
        interval=duration("Interval"),
        timeout=duration("Timeout"),
        start_period=duration("StartPeriod"),
        start_interval=duration("StartInterval"),
        retries=check.get("Retries") or 0,
    )


def _docker_healthcheck(check: Healthcheck) -> dict[str, Any]:
    """As the image configuration holds it."""
    times = {
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
    }
    shape: dict[str, Any] = {"Test": ["CMD-SHELL" if check.shell else "CMD", *check.args]}
    shape |= {key: round(seconds(value) * 1e9) for key, value in times.items() if value}
    if check.retries:
        shape["Retries"] = check.retries
    return shape
