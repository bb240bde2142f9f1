"""Instructions of a Dockerfile as frozen values; variables in them are as written."""

from __future__ import annotations

from dataclasses import dataclass

from ci.engine.dockerfile.lines import Heredoc

__all__ = [
    "Arg",
    "Cmd",
    "CommandLine",
    "Copy",
    "Entrypoint",
    "Env",
    "Expose",
    "From",
    "HealthCheck",
    "Instruction",
    "Label",
    "Maintainer",
    "MountFlag",
    "OnBuild",
    "Run",
    "Shell",
    "StopSignal",
    "User",
    "Volume",
    "Workdir",
]

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """Base: where it stands."""

    line: int


@dataclass(frozen=True, kw_only=True)
class From(Instruction):
    """``FROM image [AS name]``: a stage begins."""

    image: str
    #: In small letters; empty where it has none.
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, kw_only=True)
class Arg(Instruction):
    """``ARG name[=default] ...``."""

    names: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, kw_only=True)
class Env(Instruction):
    """``ENV name=value ...``, or ``ENV name value``."""

    pairs: Pairs


@dataclass(frozen=True, kw_only=True)
class Label(Instruction):
    """``LABEL name=value ...``."""

    pairs: Pairs


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """A command: words to run as they are (JSON form), or one text for the shell."""

    words: tuple[str, ...]
    shell_form: bool


@dataclass(frozen=True, kw_only=True)
class MountFlag:
    """``--mount=key=value,...``; a key without value has None."""

    options: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, kw_only=True)
class Run(Instruction):
    """``RUN``: a command whose changes are kept."""

    command: CommandLine
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[MountFlag, ...] = ()
    #: ``default`` or ``none``.
    network: str = "default"


@dataclass(frozen=True, kw_only=True)
class Copy(Instruction):
    """``COPY``, or ``ADD`` where ``add``."""

    sources: tuple[str, ...]
    documents: tuple[Heredoc, ...]
    destination: str
    add: bool = False
    stage: str = ""
    owner: str = ""
    mode: str = ""
    exclude: tuple[str, ...] = ()
    parents: bool = False
    checksum: str = ""
    #: Extract archives; None is what ADD does: those of the context, not downloads.
    unpack: bool | None = None

    @property
    def keyword(self) -> str:
        """As it is written."""
        return "ADD" if self.add else "COPY"


@dataclass(frozen=True, kw_only=True)
class Workdir(Instruction):
    """``WORKDIR``."""

    path: str


@dataclass(frozen=True, kw_only=True)
class User(Instruction):
    """``USER``."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Shell(Instruction):
    """``SHELL``: what runs commands in shell form from here on."""

    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Expose(Instruction):
    """``EXPOSE``."""

    ports: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Entrypoint(Instruction):
    """``ENTRYPOINT``."""

    command: CommandLine


@dataclass(frozen=True, kw_only=True)
class Cmd(Instruction):
    """``CMD``."""

    command: CommandLine


@dataclass(frozen=True, kw_only=True)
class HealthCheck(Instruction):
    """``HEALTHCHECK CMD ...``; no command is ``HEALTHCHECK NONE``. Durations are as written."""

    command: CommandLine | None
    interval: str = ""
    timeout: str = ""
    start_period: str = ""
    start_interval: str = ""
    retries: int = 0


@dataclass(frozen=True, kw_only=True)
class StopSignal(Instruction):
    """``STOPSIGNAL``."""

    signal: str


@dataclass(frozen=True, kw_only=True)
class Volume(Instruction):
    """``VOLUME``."""

    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OnBuild(Instruction):
    """``ONBUILD``: an instruction for whoever builds from this image, as written."""

    trigger: str


@dataclass(frozen=True, kw_only=True)
class Maintainer(Instruction):
    """``MAINTAINER``."""

    name: str
