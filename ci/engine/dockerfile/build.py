"""A Dockerfile as a container: stages in order of need, instructions lowered to vertices.

Nothing runs here but the resolving of images: vertices are evaluated when something of the
container is asked for, those that do not depend on each other at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

from ci.engine.dockerfile.context import Reader, open_context
from ci.engine.dockerfile.fault import DockerfileError, nearest, told
from ci.engine.dockerfile.instructions import Instruction
from ci.engine.dockerfile.lowering import lower
from ci.engine.dockerfile.parser import parse, parse_trigger
from ci.engine.dockerfile.plan import SCRATCH, Plan, Stage, make_plan, references
from ci.engine.dockerfile.state import Request, StageState, Surroundings
from ci.engine.flights import gather
from ci.engine.images.oci import Platform
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.execution import DEFAULT_PATH
from ci.engine.vertices.vertex import DirectoryRef, Scratch, SecretMount, SecretRef, Tree
from ci.errors import CiError

__all__ = ["assemble", "build"]

#: An empty container on an image of that address.
ImageOf = Callable[[ContainerState, str], Awaitable[ContainerState]]


async def build(
    reader: Reader,
    image_of: ImageOf,
    source: DirectoryRef,
    *,
    dockerfile: str,
    platform: str,
    build_args: Mapping[str, str],
    target: str,
    secrets: Mapping[str, SecretRef],
    no_init: bool,
) -> ContainerState:
    """The container that a Dockerfile describes.

    Args:
        reader: Reads the Dockerfile.
        image_of: Resolves images.
        source: The build context.
        dockerfile: Path in it.
        platform: This machine's, ``os/architecture[/variant]``.
        build_args: Values of arguments, by name.
        target: The stage that is wanted; empty is the last one.
        secrets: By the id that the Dockerfile names.
        no_init: Commands run as process 1.

    Raises:
        DockerfileError: the Dockerfile is wrong, or asks for what cannot be done here.
        CiError: an image is nowhere to be had.
    """
    context = await open_context(reader, source, dockerfile)
    plan = make_plan(
        parse(context.text, dockerfile), platform=platform, build_args=build_args, target=target
    )
    request = Request(
        context=context.directory, platform=platform, secrets=secrets, no_init=no_init
    )
    container = await assemble(plan, request, image_of)
    mounts = tuple(
        SecretMount(path=f"/run/secrets/{name}", secret=secret) for name, secret in secrets.items()
    )
    return replace(container, secret_mounts=mounts, image_reference="", default_args_set=False)


async def assemble(plan: Plan, request: Request, image_of: ImageOf) -> ContainerState:
    """The container of a plan's target, without the secrets of the build.

    Raises:
        DockerfileError: an instruction asks for what cannot be done here.
        CiError: an image is nowhere to be had.
    """
    return await _Build(plan, request, image_of).run()


class _Build:
    """One build: remembers the stages and images that it has come by."""

    def __init__(self, plan: Plan, request: Request, image_of: ImageOf) -> None:
        self._plan = plan
        self._request = request
        self._image_of = image_of
        self._images: dict[str, ContainerState] = {}
        self._stages: dict[int, StageState] = {}

    async def run(self) -> ContainerState:
        """The container of the target."""
        plan = self._plan
        for index in plan.needed:
            self._check_platform(plan.stages[index])
        await gather(*(partial(self._image, name, line) for name, line in plan.images.items()))
        for index in plan.needed:
            self._stages[index] = await self._stage(plan.stages[index])
        return self._stages[plan.target].container

    def _check_platform(self, stage: Stage) -> None:
        if not stage.platform:
            return
        own = Platform.parse(self._request.platform)
        try:
            wanted = Platform.parse(
                stage.platform if "/" in stage.platform else f"linux/{stage.platform}"
            )
        except CiError:
            wanted = Platform("", "")
        if own.rank(vars(wanted)) != 0:
            raise DockerfileError(
                self._plan.file, stage.line, "FROM --platform", got=repr(stage.platform),
                expected=f"{own}, this machine's",
                hint="run this build on the Dagger engine, which emulates other processors",
            )  # fmt: skip

    async def _image(self, name: str, line: int) -> ContainerState:
        if name not in self._images:
            empty = ContainerState(platform=self._request.platform)
            try:
                self._images[name] = await self._image_of(empty, name)
            except CiError as error:
                stages = [stage.name for stage in self._plan.stages if stage.name]
                raise told(f"{self._plan.file}:{line}", error, nearest(name, stages)) from error
        return self._images[name]

    async def _stage(self, stage: Stage) -> StageState:
        state = await self._base(stage)
        triggers = state.container.on_build
        state = state.setting(on_build=())
        instructions: tuple[Instruction, ...] = stage.instructions
        if triggers:
            file = f"{self._plan.file} (ONBUILD of {stage.base})"
            first = tuple(parse_trigger(trigger, file, stage.line) for trigger in triggers)
            instructions = (*first, *instructions)
        around = Surroundings(
            plan=self._plan,
            request=self._request,
            roots=await self._roots(stage, instructions),
            index=stage.index,
        )
        for instruction in instructions:
            state = lower(instruction, state, around)
        return state

    async def _base(self, stage: Stage) -> StageState:
        """The stage before its first instruction."""
        if isinstance(stage.base, int):
            return replace(self._stages[stage.base], command_set=False)
        if stage.base == SCRATCH:
            container = ContainerState(platform=self._request.platform, workdir="/")
        else:
            container = await self._image(stage.base, stage.line)
        if "PATH" not in dict(container.env):
            container = replace(container, env=(*container.env, ("PATH", DEFAULT_PATH)))
        return StageState(container=container, scope=dict(container.env), escape=self._plan.escape)

    async def _roots(
        self, stage: Stage, instructions: tuple[Instruction, ...]
    ) -> dict[int | str, Tree]:
        """What the instructions take from: stages, made where an ONBUILD needs them, and images."""
        roots: dict[int | str, Tree] = {}
        for one in instructions:
            for reference in references(one):
                place = self._plan.find(reference, before=stage.index, line=one.line)
                if isinstance(place, int):
                    if place not in self._stages:
                        self._stages[place] = await self._late(place)
                    roots[place] = self._stages[place].container.root
                elif place == SCRATCH:
                    roots[place] = Scratch()
                else:
                    roots[place] = (await self._image(place, one.line)).root
        return roots

    async def _late(self, index: int) -> StageState:
        """A stage that only an ONBUILD trigger needs, with the one it starts from."""
        stage = self._plan.stages[index]
        self._check_platform(stage)
        if isinstance(stage.base, int) and stage.base not in self._stages:
            self._stages[stage.base] = await self._late(stage.base)
        return await self._stage(stage)
