"""Fields of Container: images of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ci.engine.api.context import Context
from ci.engine.api.host import absolute
from ci.engine.api.registry_service import place_of
from ci.engine.images.programs import find_program
from ci.engine.refusal import Unsupported
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.vertex import FileRef, Scratch, Tarball

__all__ = ["as_tarball", "export", "export_image", "import_", "publish"]

_COMPRESSIONS = ("gzip", "zstd", "uncompressed")


def as_tarball(
    container: ContainerState,
    ctx: Context,
    *,
    platform_variants: Sequence[str],
    media_types: str,
    forced_compression: str | None = None,
) -> FileRef:
    """An OCI archive of the container, and of its variants for other platforms."""
    variants = [ctx.get(variant, ContainerState) for variant in platform_variants]
    states = [*([container] if _is_something(container) or not variants else []), *variants]
    compression = (forced_compression or "").lower()
    if compression not in _COMPRESSIONS and compression:
        raise Unsupported(f"ImageLayerCompression.{forced_compression}")
    tree = Tarball(
        roots=tuple(state.root for state in states),
        configs=tuple(
            json.dumps(state.image_config(), sort_keys=True, separators=(",", ":"))
            for state in states
        ),
        compression=compression,
        media_types="docker" if media_types in ("DockerMediaTypes", "DOCKER") else "oci",
        annotations=tuple(state.annotations for state in states),
    )
    return FileRef(tree=tree, path="/container.tar")


async def export(
    container: ContainerState,
    ctx: Context,
    *,
    path: str,
    platform_variants: Sequence[str],
    media_types: str,
    expand: bool,
    forced_compression: str | None = None,
) -> str:
    """Write the OCI archive to the host; the path it has there."""
    archive = as_tarball(
        container,
        ctx,
        platform_variants=platform_variants,
        forced_compression=forced_compression,
        media_types=media_types,
    )
    place = absolute(ctx, container.expand(path) if expand else path)
    return str(await ctx.solver.export_file(archive, place))


async def export_image(
    container: ContainerState,
    ctx: Context,
    *,
    name: str,
    platform_variants: Sequence[str],
    media_types: str,
    forced_compression: str | None = None,
) -> None:
    """Give the image to the machine's own Docker or Podman, by that name."""
    if platform_variants:
        raise Unsupported("Container.exportImage(platformVariants:)")
    archive = as_tarball(
        container,
        ctx,
        platform_variants=(),
        forced_compression=forced_compression,
        media_types=media_types,
    )
    program = await find_program()
    await program.load(await _on_host(archive, ctx), name)


async def publish(
    container: ContainerState,
    ctx: Context,
    *,
    address: str,
    platform_variants: Sequence[str],
    media_types: str,
    forced_compression: str | None = None,
    registry_service: str | None = None,
) -> str:
    """Push the image; its reference with the digest."""
    archive = as_tarball(
        container,
        ctx,
        platform_variants=platform_variants,
        forced_compression=forced_compression,
        media_types=media_types,
    )
    place = await place_of(ctx, address, registry_service)
    file = await _on_host(archive, ctx)
    return await ctx.images.publish(address, file, container.registry_auth, place=place)


async def import_(
    container: ContainerState, ctx: Context, *, source: str, tag: str
) -> ContainerState:
    """The container on the image of an archive."""
    place = await _on_host(ctx.get(source, FileRef), ctx)
    return await ctx.images.load(container, place, tag=tag)


async def _on_host(file: FileRef, ctx: Context) -> Path:
    """A copy of the file that lasts to the session's end."""
    return await ctx.solver.export_file(file, ctx.temporary() / "image.tar")


def _is_something(container: ContainerState) -> bool:
    """It has files: it is more than the handle on which ``publish`` is called for its variants."""
    return not isinstance(container.root, Scratch)
