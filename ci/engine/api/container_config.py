"""Fields of Container: its configuration."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ci.engine.api.context import Context
from ci.engine.api.env_file import values
from ci.engine.api.registry_service import place_of
from ci.engine.api.values import EnvFile, EnvVariable, Label, ServiceState
from ci.engine.refusal import Refusal, Unsupported
from ci.engine.vertices.container import ContainerState, ExposedPort, Healthcheck, drop, put
from ci.engine.vertices.duration import seconds
from ci.engine.vertices.vertex import SecretRef

__all__ = [
    "default_args",
    "docker_healthcheck",
    "entrypoint",
    "env_variable",
    "env_variables",
    "exposed_ports",
    "from_",
    "image_ref",
    "label",
    "labels",
    "platform",
    "user",
    "with_annotation",
    "with_default_args",
    "with_default_terminal_cmd",
    "with_docker_healthcheck",
    "with_entrypoint",
    "with_env_file_variables",
    "with_env_variable",
    "with_error",
    "with_exposed_port",
    "with_label",
    "with_registry_auth",
    "with_secret_variable",
    "with_service_binding",
    "with_user",
    "with_volatile_variable",
    "with_workdir",
    "without_annotation",
    "without_default_args",
    "without_docker_healthcheck",
    "without_entrypoint",
    "without_env_variable",
    "without_exposed_port",
    "without_label",
    "without_registry_auth",
    "without_secret_variable",
    "without_user",
    "without_volatile_variable",
    "without_workdir",
    "workdir",
]

_ALIAS = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


# -- the image -----------------------------------------------------------------------------------


async def from_(
    container: ContainerState, ctx: Context, *, address: str, registry_service: str | None = None
) -> ContainerState:
    """The container on an image: its root and its configuration."""
    place = await place_of(ctx, address, registry_service)
    return await ctx.images.base(container, address, place=place)


def image_ref(container: ContainerState, _: Context) -> str:
    """The image it came from, with its digest."""
    if not container.image_reference:
        raise Refusal("image reference", got="a container that is not from an image")
    return container.image_reference


def platform(container: ContainerState, _: Context) -> str:
    """Its platform."""
    return container.platform


def with_registry_auth(
    container: ContainerState, ctx: Context, *, address: str, username: str, secret: str
) -> ContainerState:
    """Credentials for a registry, for whatever is pulled or pushed later in the chain."""
    kept = without_registry_auth(container, ctx, address=address).registry_auth
    return replace(
        container, registry_auth=(*kept, (address, username, ctx.get(secret, SecretRef)))
    )


def without_registry_auth(container: ContainerState, _: Context, *, address: str) -> ContainerState:
    """The registry's credentials forgotten."""
    kept = tuple(entry for entry in container.registry_auth if entry[0] != address)
    return replace(container, registry_auth=kept)


# -- the environment -----------------------------------------------------------------------------


def env_variable(container: ContainerState, _: Context, *, name: str) -> str | None:
    """The value of a variable; null where it is not set, or is a secret."""
    return dict(container.env).get(name)


def env_variables(container: ContainerState, _: Context) -> list[EnvVariable]:
    """All variables but secret ones."""
    return [EnvVariable(name=name, value=value) for name, value in container.env]


def with_env_variable(
    container: ContainerState, _: Context, *, name: str, value: str, expand: bool
) -> ContainerState:
    """The variable set."""
    if not name or "=" in name or "\0" in name + value:
        raise Refusal("environment variable", got=repr(name), expected="a name without '='")
    return container.with_env(name, container.expand(value) if expand else value)


def with_env_file_variables(
    container: ContainerState, ctx: Context, *, source: str
) -> ContainerState:
    """The variables of an env file set."""
    for name, value in values(ctx.get(source, EnvFile)):
        container = with_env_variable(container, ctx, name=name, value=value, expand=False)
    return container


def without_env_variable(container: ContainerState, _: Context, *, name: str) -> ContainerState:
    """The variable not set."""
    return replace(container, env=drop(container.env, name))


def with_secret_variable(
    container: ContainerState, ctx: Context, *, name: str, secret: str
) -> ContainerState:
    """The variable set to a secret, for execs only."""
    return container.with_secret_env(name, ctx.get(secret, SecretRef))


def without_secret_variable(container: ContainerState, _: Context, *, name: str) -> ContainerState:
    """The secret variable not set."""
    kept = tuple(pair for pair in container.secret_env if pair[0] != name)
    return replace(container, secret_env=kept)


def with_volatile_variable(
    container: ContainerState, _: Context, *, name: str, value: str
) -> ContainerState:
    """A variable that execs see and that makes no difference to the cache."""
    return replace(container, volatile_env=put(container.volatile_env, name, value))


def without_volatile_variable(
    container: ContainerState, _: Context, *, name: str
) -> ContainerState:
    """The volatile variable not set."""
    return replace(container, volatile_env=drop(container.volatile_env, name))


# -- what runs, where, as whom -------------------------------------------------------------------


def workdir(container: ContainerState, _: Context) -> str:
    """The working directory, as it was set."""
    return container.workdir


def with_workdir(
    container: ContainerState, _: Context, *, path: str, expand: bool
) -> ContainerState:
    """The working directory; a relative one joins the one before."""
    return replace(container, workdir=container.resolve(container.expand(path) if expand else path))


def without_workdir(container: ContainerState, _: Context) -> ContainerState:
    """No working directory set: ``/``."""
    return replace(container, workdir="")


def user(container: ContainerState, _: Context) -> str:
    """The user, as it was set."""
    return container.user


def with_user(container: ContainerState, _: Context, *, name: str) -> ContainerState:
    """The user, and group after a colon, that commands run as."""
    return replace(container, user=name)


def without_user(container: ContainerState, _: Context) -> ContainerState:
    """No user set: root."""
    return replace(container, user="")


def entrypoint(container: ContainerState, _: Context) -> tuple[str, ...]:
    """The entrypoint."""
    return container.entrypoint


def with_entrypoint(
    container: ContainerState, _: Context, *, args: Sequence[str], keep_default_args: bool
) -> ContainerState:
    """The entrypoint; default args go, unless they are kept."""
    changed = replace(container, entrypoint=tuple(args))
    return changed if keep_default_args else replace(changed, default_args=())


def without_entrypoint(
    container: ContainerState, ctx: Context, *, keep_default_args: bool
) -> ContainerState:
    """No entrypoint; default args go, unless they are kept."""
    return with_entrypoint(container, ctx, args=(), keep_default_args=keep_default_args)


def default_args(container: ContainerState, _: Context) -> tuple[str, ...]:
    """What runs where no args are given."""
    return container.default_args


def with_default_args(
    container: ContainerState, _: Context, *, args: Sequence[str]
) -> ContainerState:
    """What runs where no args are given."""
    return replace(container, default_args=tuple(args), default_args_set=True)


def with_default_terminal_cmd(
    container: ContainerState,
    _: Context,
    *,
    args: Sequence[str],
    experimental_privileged_nesting: bool,
    insecure_root_capabilities: bool,
) -> ContainerState:
    """What a terminal runs where no command is given."""
    if experimental_privileged_nesting:
        raise Unsupported("Container.withDefaultTerminalCmd(experimentalPrivilegedNesting:)")
    return replace(
        container,
        terminal_args=tuple(args),
        terminal_is_privileged=insecure_root_capabilities,
    )


def without_default_args(container: ContainerState, _: Context) -> ContainerState:
    """Nothing runs where no args are given."""
    return replace(container, default_args=(), default_args_set=False)


# -- labels, annotations, ports ------------------------------------------------------------------


def label(container: ContainerState, _: Context, *, name: str) -> str | None:
    """The value of a label, or null."""
    return dict(container.labels).get(name)


def labels(container: ContainerState, _: Context) -> list[Label]:
    """All labels."""
    return [Label(name=name, value=value) for name, value in container.labels]


def with_label(container: ContainerState, _: Context, *, name: str, value: str) -> ContainerState:
    """The label set."""
    return replace(container, labels=put(container.labels, name, value))


def without_label(container: ContainerState, _: Context, *, name: str) -> ContainerState:
    """The label not set."""
    return replace(container, labels=drop(container.labels, name))


def with_annotation(
    container: ContainerState, _: Context, *, name: str, value: str
) -> ContainerState:
    """The annotation set, on the manifest of what is exported."""
    return replace(container, annotations=put(container.annotations, name, value))


def without_annotation(container: ContainerState, _: Context, *, name: str) -> ContainerState:
    """The annotation not set."""
    return replace(container, annotations=drop(container.annotations, name))


def exposed_ports(container: ContainerState, _: Context) -> tuple[ExposedPort, ...]:
    """Its ports, those of its image too."""
    return container.ports


def with_exposed_port(
    container: ContainerState,
    _: Context,
    *,
    port: int,
    protocol: str,
    experimental_skip_healthcheck: bool,
    description: str | None = None,
) -> ContainerState:
    """The port exposed; a service is healthy when it answers there."""
    if not 0 < port < 65536:
        raise Refusal("port", got=str(port), expected="1 to 65535")
    return container.with_port(
        ExposedPort(
            port=port,
            protocol=protocol,
            description=description,
            skip_healthcheck=experimental_skip_healthcheck,
        )
    )


def without_exposed_port(
    container: ContainerState, _: Context, *, port: int, protocol: str
) -> ContainerState:
    """The port not exposed."""
    return container.without_port(port, protocol)


def docker_healthcheck(container: ContainerState, _: Context) -> Healthcheck | None:
    """The health check, or null."""
    return container.healthcheck


def with_docker_healthcheck(
    container: ContainerState,
    _: Context,
    *,
    args: Sequence[str],
    shell: bool | None = None,
    interval: str | None = None,
    timeout: str | None = None,
    start_period: str | None = None,
    start_interval: str | None = None,
    retries: int | None = None,
) -> ContainerState:
    """The health check: it decides when a service of this container is healthy."""
    times = [given or "" for given in (interval, timeout, start_period, start_interval)]
    for given in filter(None, times):
        seconds(given)
    check = Healthcheck(
        args=tuple(args),
        shell=bool(shell),
        interval=times[0],
        timeout=times[1],
        start_period=times[2],
        start_interval=times[3],
        retries=retries or 0,
    )
    return replace(container, healthcheck=check)


def without_docker_healthcheck(container: ContainerState, _: Context) -> ContainerState:
    """No health check."""
    return replace(container, healthcheck=None)


# -- services, errors ----------------------------------------------------------------------------


def with_service_binding(
    container: ContainerState, ctx: Context, *, alias: str, service: str
) -> ContainerState:
    """The service runs while execs of this container do, which reach it by the alias."""
    if not _ALIAS.fullmatch(alias):
        raise Refusal("service alias", got=repr(alias), expected="a host name")
    bound = ctx.get(service, ServiceState)
    kept = tuple(pair for pair in container.services if pair[0] != alias)
    return replace(container, services=(*kept, (alias, bound.spec)))


def with_error(container: ContainerState, _: Context, *, err: str) -> ContainerState:
    """Fail with this message; an empty one changes nothing."""
    if err:
        raise Refusal(err)
    return container
