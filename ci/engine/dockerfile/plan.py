"""From instructions to stages: what each starts from, what it takes from others, what is needed.

Pure: images are named, not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ci.engine.dockerfile.expansion import BadSubstitution, Expander
from ci.engine.dockerfile.fault import DockerfileError, nearest
from ci.engine.dockerfile.instructions import Arg, Copy, From, Instruction, Run
from ci.engine.dockerfile.parser import Dockerfile

__all__ = ["SCRATCH", "Plan", "Stage", "make_plan", "references"]

#: The image of nothing.
SCRATCH = "scratch"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a build."""

    index: int
    #: Empty where it has none.
    name: str
    line: int
    #: The number of the stage that it starts from, or the name of an image.
    base: int | str
    platform: str = ""
    instructions: tuple[Instruction, ...] = ()

    @property
    def label(self) -> str:
        """Its name, or its number."""
        return self.name or str(self.index)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A Dockerfile as stages, and the one that is wanted."""

    file: str
    escape: str
    stages: tuple[Stage, ...]
    #: Number of the stage that is wanted.
    target: int
    #: Numbers of the stages that it needs, itself too, in order.
    needed: tuple[int, ...]
    #: Images that these stages start from or copy from, by the line that names each first.
    images: Mapping[str, int]
    #: Values that an ARG without a default takes in a stage.
    global_args: Mapping[str, str] = field(default_factory=dict)
    #: What the caller gave.
    build_args: Mapping[str, str] = field(default_factory=dict)

    def find(self, reference: str, *, before: int, line: int) -> int | str:
        """The stage, or the image, that ``--from=reference`` names in stage ``before``.

        Raises:
            DockerfileError: it is this stage, or a later one.
        """
        found: int | str
        if reference.isascii() and reference.isdigit():
            found = int(reference) if len(reference) < 9 else len(self.stages)
        else:
            found = _by_name(self.stages, reference)
        if isinstance(found, int) and found >= before:
            got = f"stage {reference!r}, which is not built before this one"
            raise DockerfileError(
                self.file, line, "from", got=got, expected="an earlier stage, or an image"
            )
        return found


def make_plan(
    dockerfile: Dockerfile,
    *,
    platform: str,
    build_args: Mapping[str, str],
    target: str = "",
) -> Plan:
    """The stages of a Dockerfile.

    Args:
        dockerfile: Its instructions.
        platform: ``os/architecture[/variant]``, that of this machine.
        build_args: Values by name.
        target: The stage that is wanted; empty is the last one.

    Raises:
        DockerfileError: a name is not known, or what is needed cannot be built here.
    """
    for name, value in build_args.items():
        if "\0" in name + value:
            raise DockerfileError(
                dockerfile.file, 0, f"argument {name!r}", got="a NUL character", expected="text"
            )
    scope = _platform_args(platform, build_args)
    stages: list[Stage] = []
    instructions: list[list[Instruction]] = []
    for one in dockerfile.instructions:
        if isinstance(one, From):
            stages.append(_stage(one, stages, scope, dockerfile))
            instructions.append([])
        elif stages:
            instructions[-1].append(one)
        elif isinstance(one, Arg):
            _declare(one, scope, build_args, dockerfile)
        else:
            raise DockerfileError(
                dockerfile.file, one.line, "instruction", got="one before FROM",
                expected="FROM or ARG",
            )  # fmt: skip
    if not stages:
        raise DockerfileError(dockerfile.file, 0, "", got="no stage", expected="FROM")
    whole = tuple(
        replace(stage, instructions=tuple(own))
        for stage, own in zip(stages, instructions, strict=True)
    )
    wanted = _target(whole, target, dockerfile.file)
    scope["TARGETSTAGE"] = build_args.get("TARGETSTAGE", target or whole[wanted].name or "default")
    plan = Plan(
        file=dockerfile.file,
        escape=dockerfile.escape,
        stages=whole,
        target=wanted,
        needed=(),
        images={},
        global_args=scope,
        build_args=dict(build_args),
    )
    return _with_needs(plan)


def references(instruction: Instruction) -> Iterator[str]:
    """The stages or images that an instruction takes files from."""
    if isinstance(instruction, Copy) and instruction.stage:
        yield instruction.stage
    elif isinstance(instruction, Run):
        for mount in instruction.mounts:
            yield from (value for key, value in mount.options if key == "from" and value)


def _with_needs(plan: Plan) -> Plan:
    """The plan with what its target needs."""
    needed: set[int] = set()
    images: dict[str, int] = {}
    pending: list[int] = [plan.target]
    while pending:
        stage = plan.stages[pending.pop()]
        if stage.index in needed:
            continue
        needed.add(stage.index)
        places: list[tuple[int | str, int]] = [(stage.base, stage.line)]
        for one in stage.instructions:
            places += [
                (plan.find(name, before=stage.index, line=one.line), one.line)
                for name in references(one)
            ]
        for place, line in places:
            if isinstance(place, int):
                pending.append(place)
            elif place != SCRATCH:
                images.setdefault(place, line)
    return replace(plan, needed=tuple(sorted(needed)), images=images)


def _platform_args(platform: str, build_args: Mapping[str, str]) -> dict[str, str]:
    """The arguments that are there without being declared."""
    os, architecture, variant = (*platform.split("/"), "")[:3]
    values = {
        f"{side}{name}": value
        for side in ("BUILD", "TARGET")
        for name, value in (
            ("PLATFORM", platform),
            ("OS", os),
            ("OSVERSION", ""),
            ("ARCH", architecture),
            ("VARIANT", variant),
        )
    }
    return {name: build_args.get(name, value) for name, value in values.items()}


def _declare(
    arg: Arg, scope: dict[str, str], build_args: Mapping[str, str], dockerfile: Dockerfile
) -> None:
    """Take in an ARG before the first FROM."""
    for name, default in arg.names:
        if name in build_args:
            scope[name] = build_args[name]
        elif default is not None:
            scope[name] = _expanded(default, scope, dockerfile, arg.line)


def _expanded(text: str, scope: Mapping[str, str], dockerfile: Dockerfile, line: int) -> str:
    try:
        return Expander(scope, escape=dockerfile.escape).word(text)
    except BadSubstitution as error:
        raise DockerfileError(dockerfile.file, line, repr(text), got=str(error)) from None


def _stage(
    one: From, before: list[Stage], scope: Mapping[str, str], dockerfile: Dockerfile
) -> Stage:
    image = _expanded(one.image, scope, dockerfile, one.line)
    if not image:
        raise DockerfileError(
            dockerfile.file, one.line, "FROM", got=f"nothing in {one.image}",
            expected="an image or a stage", hint="give the argument a value, or a default",
        )  # fmt: skip
    platform = _expanded(one.platform, scope, dockerfile, one.line)
    if one.platform and not platform:
        raise DockerfileError(
            dockerfile.file, one.line, "FROM --platform", got=f"nothing in {one.platform}",
            expected="os/architecture[/variant]",
        )  # fmt: skip
    return Stage(
        index=len(before),
        name=one.name,
        line=one.line,
        base=_by_name(before, image),
        platform=platform,
    )


def _by_name(stages: tuple[Stage, ...] | list[Stage], name: str) -> int | str:
    """The last stage of that name; else the name, which is an image's."""
    wanted = name.lower()
    for stage in reversed(stages):
        if stage.name and stage.name == wanted:
            return stage.index
    return name


def _target(stages: tuple[Stage, ...], target: str, file: str) -> int:
    if not target:
        return len(stages) - 1
    found = _by_name(stages, target)
    if isinstance(found, int):
        return found
    names = [stage.name for stage in stages if stage.name]
    raise DockerfileError(
        file, 0, "target", got=repr(target),
        expected="one of " + ", ".join(names) if names else "no target: no stage has a name",
        hint=nearest(target.lower(), names),
    )  # fmt: skip
