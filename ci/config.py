"""Configuration: ci.toml, read here and nowhere else.

Every key has a default, so that a repository without ci.toml is served too. What is wrong is
told with the file, the line and the nearest known key.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from ci import sizes
from ci.errors import ConfigError
from ci.values import Severity

__all__ = [
    "Build",
    "Config",
    "Database",
    "Engine",
    "Environment",
    "Gates",
    "Project",
    "QualityGate",
    "Run",
    "Section",
    "SecurityGate",
    "Service",
    "Stage",
    "Waiver",
    "parse",
    "read",
]

#: The name of the file, in the top folder of the source.
FILE_NAME = "ci.toml"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
User = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*(:\w[\w.-]*)?$")]


def _size(value: object) -> object:
    """Bytes of a size that is written out; anything else is left to the type."""
    if not isinstance(value, str):
        return value
    try:
        return sizes.parse(value)
    except ValueError:
        raise ValueError(sizes.EXAMPLE) from None


#: Bytes, or a size as people write it.
Size = Annotated[int, BeforeValidator(_size), Field(ge=0, lt=1 << 62)]
Count = Annotated[int, Field(ge=0, lt=1 << 62)]
#: Where a secret's value comes from, as `dagger call` writes it.
SecretSource = Annotated[str, StringConstraints(pattern=r"^(env|file|cmd):.+$")]


class Section(BaseModel):
    """Base of the sections: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Project(Section):
    """What the repository is."""

    #: Names the image and the environments' state; empty: from pyproject.toml or the folder.
    name: Name | Literal[""] = ""
    #: Empty: detected.
    toolchain: Literal["", "python"] = ""
    #: ``package.module:attribute`` of a pipeline of the repository's own, see docs/library.md.
    pipeline: str = ""


class Run(Section):
    """How the graph is run."""

    #: Stages at once; 0: one for each core, at least two.
    concurrency: Annotated[int, Field(ge=0)] = 0
    fail_fast: bool = False
    skip: tuple[str, ...] = ()


class Stage(Section):
    """What may be said of any stage."""

    #: In seconds.
    timeout: Seconds | None = None
    #: Further tries after the tool or the machine was at fault; never after a failure.
    retries: Annotated[int, Field(ge=0, le=10)] | None = None


class Build(Section):
    """The image."""

    #: Command that serves; empty: from [project.scripts].
    command: tuple[str, ...] = ()
    port: Port = 8000
    #: Whom it runs as: ``uid:gid``. The security gate refuses root unless ``allow_root``.
    user: User = "10001:10001"
    #: Where to publish: ``registry.example.com/team/name``; empty: the image is not published.
    publish: str = ""


class Service(Section):
    """A service that integration tests, or an environment, need beside the code."""

    #: The only kind so far.
    kind: Literal["postgres"] = "postgres"
    image: str = "postgres:15-bookworm"
    database: str = "app"


class QualityGate(Section):
    """What the quality gate lets through."""

    coverage: Annotated[float, Field(ge=0, le=100)] = 80.0
    #: Nothing tested is not a pass.
    tests: bool = True
    #: Least severity of a finding that fails it.
    fail_on: Severity = Severity.HIGH


class SecurityGate(Section):
    """What the security gate lets through."""

    fail_on: Severity = Severity.HIGH
    #: Pass vulnerabilities for which no fixed version exists.
    fixable_only: bool = False
    #: Let images run as root.
    allow_root: bool = False


class Gates(Section):
    """The gates."""

    quality: QualityGate = QualityGate()
    security: SecurityGate = SecurityGate()


class Waiver(Section):
    """A finding that is accepted until a day."""

    rule: str
    reason: Annotated[str, StringConstraints(min_length=8)]
    expires: date
    package: str = ""
    path: str = ""


class Database(Section):
    """Trivy's vulnerability database; none given: the official one."""

    #: A folder that holds ``db/trivy.db``, relative to the source.
    path: str = ""
    #: An OCI reference, by digest.
    reference: Annotated[str, StringConstraints(pattern=r"^$|@sha256:[0-9a-f]{64}$")] = ""


class Environment(Section):
    """A place that releases are delivered to."""

    target: Literal["local"] = "local"
    strategy: Literal["blue-green"] = "blue-green"
    #: On 127.0.0.1.
    port: Port
    env: Mapping[str, str] = {}
    secrets: Mapping[str, SecretSource] = {}
    #: Backing services, by the name of the variable that tells the release their URL.
    services: Mapping[str, Service] = {}
    #: Command of the release's image that runs before the release takes traffic.
    migrate: tuple[str, ...] = ()
    #: Answers 200 once the release can serve.
    ready: str = "/ready"
    #: In seconds.
    ready_timeout: Seconds = 60.0


class Engine(Section):
    """What each command may use of the machine, on the embedded engine; 0: any.

    A machine's own settings win, see ``ci.settings``.
    """

    #: With all that it starts.
    memory: Size = 0
    processes: Count = 0
    #: Of one process.
    open_files: Count = 0
    #: Until it is killed; services run as long as they are needed.
    exec_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class Config(Section):
    """The whole of ci.toml."""

    project: Project = Project()
    run: Run = Run()
    stages: Mapping[str, Stage] = {}
    build: Build = Build()
    #: For integration tests, by the name of the variable that tells the tests their URL.
    services: Mapping[str, Service] = {}
    gates: Gates = Gates()
    waivers: tuple[Waiver, ...] = ()
    database: Database = Database()
    engine: Engine = Engine()
    #: In the order of delivery.
    environments: Mapping[Name, Environment] = {}


def read(folder: Path) -> Config:
    """The configuration in a folder of this machine; where there is no file, all defaults.

    Raises:
        ConfigError: as ``parse``, or the file cannot be read.
    """
    file = folder / FILE_NAME
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), got=str(error), expected="TOML 1.0, in UTF-8") from None
    return parse(text)


def parse(text: str, *, file: str = FILE_NAME) -> Config:
    """The configuration that ``text`` (TOML) says.

    Args:
        text: Content of the file; empty is a valid configuration.
        file: Its name, for messages.

    Raises:
        ConfigError: It is no TOML, or a key or a value is not known; says where.
    """
    try:
        # Some editors begin a file with a byte order mark.
        data = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", where)
        raise ConfigError(
            f"{file}:{line[1] if line else max(1, len(text.splitlines()))}",
            got=f"no valid TOML: {what[0].lower() + what[1:]}",
            expected="TOML 1.0",
        ) from None
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise _explained(error, text, file) from None


def _explained(error: ValidationError, text: str, file: str) -> ConfigError:
    """The first of pydantic's complaints, in our words; the rest are counted."""
    # A misspelt key first: what is then missing is its consequence.
    details = sorted(
        error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden"
    )
    first = details[0]
    path = _known_part(first["loc"])
    where = f"{file}:{_line_of(text, path)}: {'.'.join(str(part) for part in path)}"
    more = f"; and {len(details) - 1} more" if len(details) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        return ConfigError(
            where,
            got="a key that is not known" + more,
            expected="one of " + ", ".join(known),
            hint=f"did you mean {near[0]!r}?" if near else "",
        )
    if first["type"] == "missing":
        return ConfigError(where, got="nothing" + more, expected=f"the key {path[-1]!r}")
    message = first["msg"][0].lower() + first["msg"][1:]
    return ConfigError(where, got=repr(first["input"]) + more, expected=_expected(message))


def _known_part(path: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """``path`` less what pydantic adds to say which branch of a union it tried."""
    return tuple(
        part for part in path if isinstance(part, int) or not re.search(r"constrained|\[", part)
    )


def _expected(message: str) -> str:
    """Pydantic's sentence less its "input should be"."""
    return re.sub(r"^((input|string|value) should (be|have|match)|value error,) ", "", message)


def _known_keys(path: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at ``path`` may have."""
    section: Any = Config
    for part in path:
        if isinstance(section, type) and issubclass(section, BaseModel) and isinstance(part, str):
            section = section.model_fields[part].annotation
        else:  # an item of a table of tables, or of an array
            section = next(a for a in get_args(section) if isinstance(a, type) and a is not str)
    return sorted(section.model_fields)


def _line_of(text: str, path: tuple[int | str, ...]) -> int:
    """The 1-based line of the key at ``path``; its table's, or 1, where it is not seen."""
    table: tuple[str, ...] = ()
    count: dict[tuple[str, ...], int] = {}
    names = tuple(str(part) for part in path if isinstance(part, str))
    index = next((part for part in path if isinstance(part, int)), None)
    best = 1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[(\[?)\s*([^\]]+?)\s*\]", line):
            table = tuple(_unquoted(part) for part in header[2].split("."))
            if header[1]:
                count[table] = count.get(table, -1) + 1
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            full = (*table, *(_unquoted(part) for part in key[1].split(".")))
            within = full == names[: len(full)] or names == full[: len(names)]
            if within and index in (None, count.get(table, index)):
                return number
        if header and names == table[: len(names)]:
            return number
        if table and table == names[: len(table)] and index in (None, count.get(table, index)):
            best = number if header else best
    return best


def _unquoted(part: str) -> str:
    return part.strip().strip("\"'")
