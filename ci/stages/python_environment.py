"""Containers for Python repositories: a base, tools of exact versions, the project's own needs.

What changes seldom comes first: an edit of the code installs nothing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio
import dagger
from dagger import ReturnType, dag

from ci.errors import StageErrored, StageSkipped
from ci.sharing import shared
from ci.stages.tools import COVERAGE, LOCK, MYPY, PYTEST, PYTHON_IMAGE, is_locked
from ci.toolchains.python import Needs, PythonProject, describe, is_python, is_read

__all__ = [
    "SOURCE",
    "Ran",
    "base",
    "environment",
    "installed",
    "pip",
    "project_of",
    "run",
    "wheel",
    "with_environment",
    "with_tools",
]

#: Where the code stands in the containers.
SOURCE = "/src"
_TOOLS = "/opt/tools"
_VENV = "/opt/venv"
#: What build backends need, apart from the project's own environment.
_BACKEND = "/opt/backend"
_PINS = "/run/pins.txt"
_REQUIREMENTS = "/run/requirements"
_TAIL = 8000
#: Of Python 3: what ``tools.lock`` is made for.
_OLDEST_MINOR = 11


class Ran:
    """How a command ended, once: exit code and output."""

    def __init__(self, container: dagger.Container, code: int, stdout: str, stderr: str) -> None:
        self.container = container
        self.code = code
        self.stdout = stdout
        self.stderr = stderr

    @property
    def log(self) -> str:
        """The end of both streams, stderr last."""
        return (self.stdout + self.stderr)[-_TAIL:]


async def project_of(source: dagger.Directory) -> PythonProject:
    """The Python project in this folder.

    Raises:
        StageSkipped: it is none.
        ConfigError: its pyproject.toml, or a lock file, is not of its format.
    """
    entries = [entry.rstrip("/") for entry in await source.entries()]
    if not is_python(entries):
        raise StageSkipped(
            "no Python here", expected="pyproject.toml, setup.py, requirements*.txt or *.py"
        )
    paths = [*entries]
    if "requirements" in entries:
        paths += [f"requirements/{name}" for name in await source.entries(path="requirements")]
    texts: dict[str, str] = {}

    async def read(path: str) -> None:
        texts[path] = await source.file(path).contents()

    async with anyio.create_task_group() as tasks:
        for path in filter(is_read, paths):
            tasks.start_soon(read, path)
    return describe(entries, texts)


def base(project: PythonProject | None = None) -> dagger.Container:
    """Python alone, with pip's downloads kept between runs."""
    version = (project or PythonProject()).python
    return shared((base, version), partial(_base, version))


def _base(version: str) -> dagger.Container:
    return (
        dag.container()
        .from_(PYTHON_IMAGE.format(version=version))
        .with_mounted_cache("/root/.cache/pip", dag.cache_volume("towpath-pip"))
        .with_env_variable("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .with_env_variable("PIP_ROOT_USER_ACTION", "ignore")
        .with_env_variable("PYTHONDONTWRITEBYTECODE", "1")
        .with_env_variable("PYTHONUNBUFFERED", "1")
    )


def with_tools(*requirements: str) -> dagger.Container:
    """Python with tools in an environment of their own, apart from the project's; first on PATH.

    Those of the versions in ``ci/stages/tools.lock`` are checked against the hashes there.
    """
    return shared((with_tools, requirements), partial(_tools, requirements))


def _tools(requirements: Sequence[str]) -> dagger.Container:
    return _with_pinned(with_environment(_pinning(), _TOOLS), _TOOLS, requirements)


def environment(project: PythonProject, source: dagger.Directory) -> dagger.Container:
    """The project, its dependencies, those of its tests, and mypy, pytest and coverage.

    It is the same for every stage, so it is made once. A tool that the repository's lock file pins
    is the project's choice; where its declared requirements exclude our version, theirs decide.

    Args:
        project: What ``source`` says of itself.
        source: The repository.
    """
    # The source is kept beside it, so that no other object gets its identity.
    _, container = shared(
        (environment, id(source)), lambda: (source, _environment(project, source))
    )
    return container


def _environment(project: PythonProject, source: dagger.Directory) -> dagger.Container:
    container = with_environment(_pinning(project), _VENV).with_env_variable("VIRTUAL_ENV", _VENV)
    # First, so that projects share them, and so that what a project pins has the last word.
    tools = [_for(project, tool) for tool in (MYPY, PYTEST, COVERAGE) if _is_ours(project, tool)]
    container = _with_pinned(container, _VENV, tools)
    container = installed(container, project, project.development, _VENV)
    container = _with_backend(container, project).with_directory(SOURCE, source)
    container = container.with_workdir(SOURCE)
    if not project.installable:
        return container.with_env_variable("PYTHONPATH", SOURCE)
    extras = f"[{','.join(project.test_extras)}]" if project.dynamic and project.test_extras else ""
    return container.with_exec(
        _with_or_without_isolation(
            pip(_VENV, *([] if project.dynamic else ["--no-deps"]), "-e", f".{extras}")
        )
    )


def installed(
    container: dagger.Container, project: PythonProject, needs: Needs, environment: str
) -> dagger.Container:
    """The container with what is needed in that environment, the code itself left out."""
    if needs.files:
        folder = dag.directory()
        for path, text in project.requirements_files.items():
            folder = folder.with_new_file(path, text)
        files = [argument for file in needs.files for argument in ("-r", f"{_REQUIREMENTS}/{file}")]
        container = (
            container.with_mounted_directory(_REQUIREMENTS, folder)
            .with_exec(pip(environment, *files))
            .without_mount(_REQUIREMENTS)
        )
    if not needs.requirements:
        return container
    if needs.lock is None:
        return container.with_exec(pip(environment, *needs.requirements))
    pins = needs.lock.constraints(hashed=needs.lock.covers(needs.requirements))
    return (
        container.with_mounted_file(_PINS, dag.directory().with_new_file("pins", pins).file("pins"))
        .with_exec(pip(environment, "-c", _PINS, *needs.requirements))
        .without_mount(_PINS)
    )


def wheel(project: PythonProject, source: dagger.Directory) -> dagger.Directory:
    """A folder that holds the wheel of the project and nothing else; the same each time."""
    container = with_environment(base(project), _TOOLS)
    return (
        _with_backend(container, project)
        .with_env_variable("SOURCE_DATE_EPOCH", "315532800")
        .with_directory(SOURCE, source)
        .with_workdir(SOURCE)
        .with_exec(
            _with_or_without_isolation(
                ["pip", f"--python={_TOOLS}/bin/python", "wheel", "--quiet", "--no-deps",
                 "--wheel-dir=/wheels", "."]
            )
        )
        .directory("/wheels")
    )  # fmt: skip


async def run(
    container: dagger.Container, args: list[str], *, accept: tuple[int, ...] = (0, 1)
) -> Ran:
    """Run a tool to its end.

    Raises:
        StageErrored: it ended with another code than those in ``accept``, or by a signal.
        ExecError: something that comes before it failed.
    """
    tool = args[0].rpartition("/")[2]
    ended = container.with_exec(args, expect=ReturnType.ANY)
    try:
        ran = Ran(ended, await ended.exit_code(), await ended.stdout(), await ended.stderr())
    except dagger.ExecError as error:
        if error.command != args:
            raise
        output = f"{error.stdout}\n{error.stderr}".strip()[-_TAIL:]
        number = error.exit_code - 128
        raise StageErrored(
            tool,
            got=f"signal {number}\n{output}".strip(),
            expected="an end of its own",
            hint="the machine may be short of memory" if number == 9 else "",
        ) from error
    if ran.code not in accept:
        raise StageErrored(
            tool,
            got=f"exit code {ran.code}\n{ran.log.strip()}",
            expected=f"one of {', '.join(map(str, accept))}",
        )
    return ran


def _for(project: PythonProject, tool: str) -> str:
    """The tool, in any version for an interpreter that is older than those it is made for."""
    is_old = int(project.python.partition(".")[2]) < _OLDEST_MINOR
    return tool.partition("==")[0] if is_old else tool


def _pinning(project: PythonProject | None = None) -> dagger.Container:
    """Python alone, and ``tools.lock`` for ``_with_pinned``.

    Mounted first, so that it is part of what is shared, and as a file, so that no later question
    carries its text.
    """

    def mounted() -> dagger.Container:
        file = dag.directory().with_new_file("pins", LOCK).file("pins")
        return base(project).with_mounted_file(_PINS, file)

    return shared((_pinning, (project or PythonProject()).python), mounted)


def _with_pinned(
    container: dagger.Container, environment: str, tools: Sequence[str]
) -> dagger.Container:
    """Tools, checked against the hashes in ``tools.lock`` where it has their version.

    ``container`` comes of ``_pinning``.
    """
    locked = [tool for tool in tools if is_locked(tool)]
    others = [tool for tool in tools if not is_locked(tool)]
    if locked:
        arguments = ["--require-hashes", "-c", _PINS, *locked]
        container = container.with_exec(pip(environment, *arguments))
    container = container.without_mount(_PINS)
    return container.with_exec(pip(environment, *others)) if others else container


def _is_ours(project: PythonProject, tool: str) -> bool:
    """Whether we choose the version of this tool in the project's environment."""
    name, _, version = tool.partition("==")
    return not project.pinned(name) and project.allows(name, version)


def with_environment(container: dagger.Container, folder: str) -> dagger.Container:
    """Without a pip of its own: the image's installs into it."""
    return container.with_exec(["python", "-m", "venv", "--without-pip", folder]).with_env_variable(
        "PATH", f"{folder}/bin:${{PATH}}", expand=True
    )


def _with_backend(container: dagger.Container, project: PythonProject) -> dagger.Container:
    """What builds the project, where nothing else sees it, so that no edit fetches it again."""
    if not project.installable:
        return container
    # hatchling asks for it when it makes an editable installation.
    wanted = (*project.build_requires, "editables")
    arguments = ["install", "--quiet", "--no-compile", f"--target={_BACKEND}", *wanted]
    container = container.with_exec(["pip", *arguments])
    if project.versioned_by_git:
        container = container.with_env_variable("SETUPTOOLS_SCM_PRETEND_VERSION", "0.0.0")
    return container


def _with_or_without_isolation(args: list[str]) -> list[str]:
    """With what ``_with_backend`` brought; where the backend wants more, pip fetches it."""
    script = f'PYTHONPATH={_BACKEND} "$@" --no-build-isolation || exec "$@"'
    return ["sh", "-c", script, "pip", *args]


def pip(environment: str, *arguments: str) -> list[str]:
    """Command that installs into an environment, by the pip of the image."""
    python = f"--python={environment}/bin/python"
    return ["pip", python, "install", "--quiet", "--no-compile", *arguments]
