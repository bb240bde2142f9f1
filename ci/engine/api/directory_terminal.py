"""Field of Directory: a shell in it at the caller's terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ci.engine.api.container_terminal import interact
from ci.engine.api.context import Context
from ci.engine.refusal import Unsupported
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.vertex import DirectoryMount, DirectoryRef

__all__ = ["terminal"]

#: Where no container is given; Dagger takes one with another C library.
_IMAGE = "debian:bookworm-slim"
_PLACE = "/src"


async def terminal(
    source: DirectoryRef,
    ctx: Context,
    *,
    cmd: Sequence[str],
    experimental_privileged_nesting: bool,
    insecure_root_capabilities: bool,
    container: str | None = None,
) -> DirectoryRef:
    """The same directory, once a command that was run at the terminal beside it has ended."""
    if experimental_privileged_nesting:
        raise Unsupported("Directory.terminal(experimentalPrivilegedNesting:)")
    if container is None:
        base = await ctx.images.base(ContainerState(platform=ctx.platform), _IMAGE)
    else:
        base = ctx.get(container, ContainerState)
    mounted = base.with_mount(DirectoryMount(path=_PLACE, source=source))
    await interact(
        "Directory.terminal",
        replace(mounted, workdir=_PLACE),
        ctx,
        cmd,
        privileged=insecure_root_capabilities,
    )
    return source
