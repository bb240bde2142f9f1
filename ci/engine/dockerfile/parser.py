"""From the logical lines of a Dockerfile to instructions. Pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass

from ci.engine.dockerfile.expansion import BadSubstitution
from ci.engine.dockerfile.fault import DockerfileError, nearest
from ci.engine.dockerfile.flags import Flags, parse_flags
from ci.engine.dockerfile.instructions import (
    Arg,
    Cmd,
    CommandLine,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    MountFlag,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from ci.engine.dockerfile.lines import Heredoc, Line, Source, heredoc_of, read
from ci.engine.dockerfile.words import (
    BadWords,
    json_array,
    pairs,
    plain_words,
    quoted_words,
    take_flags,
)
from ci.engine.vertices.duration import seconds
from ci.errors import CiError

__all__ = ["Dockerfile", "parse", "parse_trigger"]

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_NOT_TRIGGERS = ("ONBUILD", "FROM", "MAINTAINER")
_SHORTEST_SECONDS = 0.001
_MOUNT_OPTIONS = (
    "type", "from", "source", "src", "target", "dst", "destination", "readonly", "ro", "readwrite",
    "rw", "required", "size", "id", "sharing", "mode", "uid", "gid", "env",
)  # fmt: skip
#: Of a mount, those that may stand without a value.
_MOUNT_SWITCHES = ("readonly", "ro", "readwrite", "rw", "required")


@dataclass(frozen=True, kw_only=True)
class Dockerfile:
    """A Dockerfile's instructions."""

    file: str
    escape: str
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, kw_only=True)
class _Request:
    """A line whose flags are split off."""

    line: Line
    escape: str
    flags: tuple[str, ...]
    rest: str

    def no_flags(self) -> None:
        """Raise BadWords where there are some."""
        parse_flags(self.flags)

    def one(self, what: str) -> str:
        """The rest, which must be something."""
        self.no_flags()
        if not self.rest:
            raise BadWords("nothing", what)
        return self.rest

    def command(self) -> CommandLine:
        """The rest as a command."""
        words = json_array(self.rest)
        if words is not None:
            return CommandLine(words=words, shell_form=False)
        return CommandLine(words=(self.rest,) if self.rest else (), shell_form=True)


def parse(text: str, file: str) -> Dockerfile:
    """The instructions of a Dockerfile.

    Raises:
        DockerfileError: it is not a Dockerfile that the engine can build.
    """
    source = read(text, file)
    instructions = tuple(_instruction(line, source) for line in source.lines)
    return Dockerfile(file=file, escape=source.escape, instructions=instructions)


def parse_trigger(trigger: str, file: str, line: int) -> Instruction:
    """The instruction of an ``ONBUILD``, as if it stood at ``line``.

    Raises:
        DockerfileError: it is none.
    """
    source = read(trigger, file)
    first = source.lines[0]
    moved = Line(number=line, keyword=first.keyword, rest=first.rest, heredocs=first.heredocs)
    return _instruction(moved, source)


def _instruction(line: Line, source: Source) -> Instruction:
    make = _MAKERS.get(line.keyword)
    if make is None:
        raise DockerfileError(
            source.file, line.number, "instruction",
            got=repr(line.keyword), expected="one of " + ", ".join(_MAKERS),
            hint=nearest(line.keyword, _MAKERS),
        )  # fmt: skip
    try:
        flags, rest = take_flags(line.rest)
        return make(_Request(line=line, escape=source.escape, flags=flags, rest=rest))
    except BadWords as error:
        got, expected = error.got, error.expected
    except BadSubstitution as error:
        got, expected = str(error), ""
    raise DockerfileError(source.file, line.number, line.keyword, got=got, expected=expected)


# -- one function an instruction -----------------------------------------------------------------


def _from(request: _Request) -> From:
    flags = parse_flags(request.flags, texts=("platform",))
    words = plain_words(request.rest)
    name = ""
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise BadWords(f"the stage name {words[2]!r}", "letters, digits, '-', '_' and '.'")
    elif len(words) != 1:
        raise BadWords(repr(request.rest) if words else "nothing", "an image, or: image AS name")
    return From(
        line=request.line.number, image=words[0], name=name, platform=flags.text("platform")
    )


def _arg(request: _Request) -> Arg:
    request.no_flags()
    found: list[tuple[str, str | None]] = []
    for word in quoted_words(request.rest, request.escape):
        name, separator, default = word.partition("=")
        if not name:
            raise BadWords(repr(word), "name or name=default")
        found.append((name, default if separator else None))
    if not found:
        raise BadWords("nothing", "name or name=default")
    return Arg(line=request.line.number, names=tuple(found))


def _pairs(request: _Request) -> tuple[tuple[str, str], ...]:
    request.no_flags()
    found = pairs(request.rest, request.escape)
    if not found:
        raise BadWords("nothing", "name=value")
    return found


def _run(request: _Request) -> Run:
    flags = parse_flags(
        request.flags, texts=("network", "security"), many=("mount", "device"), switches=()
    )
    if flags.text("security", "sandbox") != "sandbox":
        raise BadWords(f"--security={flags.text('security')}", "--security=sandbox")
    if flags.many("device"):
        raise BadWords("--device", "no devices: the embedded engine has none to give")
    network = flags.text("network", "default")
    if network not in ("default", "none"):
        raise BadWords(f"--network={network}", "--network=default or --network=none")
    if not request.rest:
        raise BadWords("nothing", "a command")
    command = request.command()
    heredocs = request.line.heredocs if command.shell_form else ()
    mounts = tuple(_mount(text) for text in flags.many("mount"))
    return Run(
        line=request.line.number,
        command=command,
        heredocs=heredocs,
        mounts=mounts,
        network=network,
    )


def _mount(text: str) -> MountFlag:
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise BadWords(f"--mount={text} ({error})", "key=value,...") from None
    options: list[tuple[str, str | None]] = []
    for field in fields:
        key, separator, value = field.partition("=")
        key = key.lower()
        if key not in _MOUNT_OPTIONS:
            near = nearest(key, _MOUNT_OPTIONS)
            raise BadWords(
                f"the mount option {key!r}",
                "one of " + ", ".join(_MOUNT_OPTIONS) + (f" ({near})" if near else ""),
            )
        if not separator and key not in _MOUNT_SWITCHES:
            raise BadWords(f"the mount option {key!r} without a value", f"{key}=...")
        if key == "from" and "$" in value:
            raise BadWords(
                f"the variable in from={value}",
                "a stage or image by its name; define a stage of that image by FROM and ARG",
            )
        options.append((key, value if separator else None))
    return MountFlag(options=tuple(options))


def _copy(request: _Request) -> Copy:
    flags = parse_flags(
        request.flags, texts=("from", "chown", "chmod"), many=("exclude",),
        switches=("link", "parents"),
    )  # fmt: skip
    stage = flags.text("from")
    if "$" in stage:
        raise BadWords(
            f"the variable in --from={stage}",
            "a stage or image by its name; define a stage of that image by FROM and ARG",
        )
    return _files(request, flags, add=False)


def _add(request: _Request) -> Copy:
    flags = parse_flags(
        request.flags, texts=("chown", "chmod", "checksum"), many=("exclude",),
        switches=("link", "keep-git-dir", "unpack"),
    )  # fmt: skip
    return _files(request, flags, add=True)


def _files(request: _Request, flags: Flags, *, add: bool) -> Copy:
    words = json_array(request.rest)
    if words is None:
        words = plain_words(request.rest)
    if len(words) < 2:
        raise BadWords(repr(request.rest) if words else "nothing", "sources and a destination")
    *sources, destination = words
    if heredoc_of(destination) is not None:
        raise BadWords(f"a heredoc as destination ({destination})", "a path")
    bodies = {heredoc.name: heredoc for heredoc in request.line.heredocs}
    paths: list[str] = []
    documents: list[Heredoc] = []
    for source in sources:
        named = heredoc_of(source)
        if named is not None and named.name in bodies:
            documents.append(bodies[named.name])
        else:
            paths.append(source)
    checksum = flags.text("checksum")
    if checksum and len(sources) != 1:
        raise BadWords(f"--checksum with {len(sources)} sources", "one source")
    return Copy(
        line=request.line.number,
        sources=tuple(paths),
        documents=tuple(documents),
        destination=destination,
        add=add,
        stage=flags.text("from"),
        owner=flags.text("chown"),
        mode=flags.text("chmod"),
        exclude=flags.many("exclude"),
        parents=bool(flags.switch("parents")),
        checksum=checksum,
        unpack=flags.switch("unpack"),
    )


def _shell(request: _Request) -> Shell:
    request.no_flags()
    words = json_array(request.rest)
    if not words:
        raise BadWords(repr(request.rest), 'a JSON array, such as ["/bin/bash", "-c"]')
    return Shell(line=request.line.number, words=words)


def _expose(request: _Request) -> Expose:
    return Expose(line=request.line.number, ports=plain_words(request.one("ports")))


def _optional_command(request: _Request) -> CommandLine:
    request.no_flags()
    return request.command()


def _healthcheck(request: _Request) -> HealthCheck:
    kind, rest = (*request.rest.split(None, 1), "", "")[:2]
    number = request.line.number
    if kind.upper() == "NONE":
        if rest.strip():
            raise BadWords(repr(rest), "nothing after NONE")
        return HealthCheck(line=number, command=None)
    if kind.upper() != "CMD":
        raise BadWords(repr(kind) if kind else "nothing", "CMD and a command, or NONE")
    flags = parse_flags(
        request.flags,
        texts=("interval", "timeout", "start-period", "start-interval", "retries"),
    )
    words = json_array(rest.strip())
    command = CommandLine(
        words=words if words is not None else (rest.strip(),), shell_form=words is None
    )
    if not any(command.words):
        raise BadWords("nothing after CMD", "a command")
    retries = flags.text("retries", "0")
    if not retries.isascii() or not retries.isdigit() or len(retries) > 9:
        raise BadWords(f"--retries={retries}", "a number")
    return HealthCheck(
        line=number,
        command=command,
        interval=_duration(flags, "interval"),
        timeout=_duration(flags, "timeout"),
        start_period=_duration(flags, "start-period"),
        start_interval=_duration(flags, "start-interval"),
        retries=int(retries),
    )


def _duration(flags: Flags, name: str) -> str:
    """As written; empty for none and for zero."""
    text = flags.text(name)
    try:
        length = seconds(text) if text and text != "0" else 0.0
    except CiError:
        length = -1.0
    if length and length < _SHORTEST_SECONDS:
        raise BadWords(f"--{name}={text}", "a duration of 1ms or more, such as 1m30s")
    return text if length else ""


def _volume(request: _Request) -> Volume:
    rest = request.one("paths")
    words = json_array(rest)
    paths = tuple(word.strip() for word in (plain_words(rest) if words is None else words))
    if not paths or not all(paths):
        raise BadWords(repr(rest), "paths")
    return Volume(line=request.line.number, paths=paths)


def _onbuild(request: _Request) -> OnBuild:
    line = request.line
    keyword = line.rest.split(None, 1)[0].upper() if line.rest else ""
    if not keyword or keyword in _NOT_TRIGGERS or keyword not in _MAKERS:
        known = [name for name in _MAKERS if name not in _NOT_TRIGGERS]
        near = nearest(keyword, known)
        raise BadWords(
            repr(keyword) if keyword else "nothing",
            "one of " + ", ".join(known) + (f" ({near})" if near else ""),
        )
    documents = "".join(f"\n{one.content}{one.name}" for one in line.heredocs)
    return OnBuild(line=line.number, trigger=line.rest + documents)


_MAKERS: dict[str, Callable[[_Request], Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": lambda r: Cmd(line=r.line.number, command=_optional_command(r)),
    "COPY": _copy,
    "ENTRYPOINT": lambda r: Entrypoint(line=r.line.number, command=_optional_command(r)),
    "ENV": lambda r: Env(line=r.line.number, pairs=_pairs(r)),
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": lambda r: Label(line=r.line.number, pairs=_pairs(r)),
    "MAINTAINER": lambda r: Maintainer(line=r.line.number, name=r.one("a name")),
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda r: StopSignal(line=r.line.number, signal=r.one("a signal")),
    "USER": lambda r: User(line=r.line.number, name=r.one("a user")),
    "VOLUME": _volume,
    "WORKDIR": lambda r: Workdir(line=r.line.number, path=r.one("a path")),
}
