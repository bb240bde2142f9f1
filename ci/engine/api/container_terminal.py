"""Fields of Container: a shell at the caller's terminal, and its service at the caller's ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ci.engine.api import service
from ci.engine.api.container_run import as_service
from ci.engine.api.context import Context
from ci.engine.refusal import Unsupported
from ci.engine.vertices.container import ContainerState

__all__ = ["interact", "terminal", "up"]

_SHELL = ("sh",)


async def terminal(
    container: ContainerState,
    ctx: Context,
    *,
    cmd: Sequence[str],
    experimental_privileged_nesting: bool,
    insecure_root_capabilities: bool,
) -> ContainerState:
    """The same container, once a command that was run at the terminal has ended."""
    if experimental_privileged_nesting:
        raise Unsupported("Container.terminal(experimentalPrivilegedNesting:)")
    privileged = insecure_root_capabilities or (not cmd and container.terminal_is_privileged)
    await interact("Container.terminal", container, ctx, cmd, privileged=privileged)
    return container


async def interact(
    field: str,
    container: ContainerState,
    ctx: Context,
    command: Sequence[str],
    *,
    privileged: bool = False,
) -> None:
    """Run a command, or the container's shell, at the caller's terminal.

    Raises:
        Refusal: there is no terminal; it names the field.
    """
    args = tuple(command) or container.terminal_args or _SHELL
    runs = container.exec(args, insecure_root_capabilities=privileged)
    secrets = await ctx.solver.plain_secrets(runs)
    await ctx.terminal.lend(field, partial(ctx.solver.interact, runs), secrets.values())


async def up(
    container: ContainerState,
    ctx: Context,
    *,
    ports: Sequence[Mapping[str, Any]],
    random: bool,
    **options: Any,
) -> None:
    """Serve it on the host's loopback until it ends or the request is cancelled."""
    made = as_service(container, ctx, **options)
    await service.up(made, ctx, ports=ports, random=random)
