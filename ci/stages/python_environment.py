"""Containers for Python repositories: a base, tools of exact versions, the project's own needs.

What changes seldom comes first: an edit of the code installs nothing again.
"""

from __future__ import annotations

import dagger
from dagger import ReturnType, dag

from ci.errors import StageErrored, StageSkipped
from ci.stages.tools import COVERAGE, MYPY, PYTEST, PYTHON_IMAGE
from ci.toolchains.python import PythonProject, describe, is_python

__all__ = [
    "SOURCE",
    "Ran",
    "base",
    "environment",
    "project_of",
    "run",
    "with_tools",
]

#: Where the code stands in the containers.
SOURCE = "/src"
_TOOLS = "/opt/tools"
_VENV = "/opt/venv"
_TAIL = 8000


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
        ConfigError: its pyproject.toml is no TOML.
    """
    entries = [entry.rstrip("/") for entry in await source.entries()]
    if not is_python(entries):
        raise StageSkipped(
            "no Python here", expected="pyproject.toml, setup.py, requirements*.txt or *.py"
        )
    text = await source.file("pyproject.toml").contents() if "pyproject.toml" in entries else ""
    return describe(entries, text)


def base(project: PythonProject | None = None) -> dagger.Container:
    """Python alone, with pip's downloads kept between runs."""
    version = (project or PythonProject()).python
    return (
        dag.container()
        .from_(PYTHON_IMAGE.format(version=version))
        .with_mounted_cache("/root/.cache/pip", dag.cache_volume("towpath-pip"))
        .with_env_variable("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .with_env_variable("PIP_ROOT_USER_ACTION", "ignore")
        .with_env_variable("PYTHONDONTWRITEBYTECODE", "1")
        .with_env_variable("PYTHONUNBUFFERED", "1")
    )


def with_tools(container: dagger.Container, *requirements: str) -> dagger.Container:
    """Tools in an environment of their own, apart from the project's; on PATH behind nothing."""
    return container.with_exec(["python", "-m", "venv", _TOOLS]).with_exec(
        [f"{_TOOLS}/bin/pip", "install", "--quiet", "--no-compile", *requirements]
    ).with_env_variable("PATH", f"{_TOOLS}/bin:${{PATH}}", expand=True)  # fmt: skip


async def environment(project: PythonProject, source: dagger.Directory) -> dagger.Container:
    """The project, its dependencies, those of its tests, and mypy, pytest and coverage.

    It is the same for every stage, so it is made once. A lock file with development tools is
    taken as it is, and a tool that it pins is the project's choice; else come the pins of the
    plain lock file and the test requirements of pyproject.toml.
    """
    pinned = await _pinned(project, source)
    tools = [tool for tool in (MYPY, PYTEST, COVERAGE) if _name(tool) not in pinned]
    return _with_project(_with_dependencies(base(project), project, source, tools), project, source)


def _with_dependencies(
    container: dagger.Container,
    project: PythonProject,
    source: dagger.Directory,
    tools: list[str],
) -> dagger.Container:
    container = (
        container.with_exec(["python", "-m", "venv", _VENV])
        .with_env_variable("VIRTUAL_ENV", _VENV)
        .with_env_variable("PATH", f"{_VENV}/bin:${{PATH}}", expand=True)
        .with_workdir(SOURCE)
    )
    lock = project.dev_lock or project.lock
    if lock:
        mounted = f"/run/{lock}"
        container = (
            container.with_mounted_file(mounted, source.file(lock))
            .with_exec(_pip("-r", mounted))
            .without_mount(mounted)
        )
    wanted = [] if project.dev_lock else [*project.test_dependencies]
    wanted += tools if lock else [*project.dependencies, *tools]
    return container.with_exec(_pip(*wanted)) if wanted else container


def _with_project(
    container: dagger.Container, project: PythonProject, source: dagger.Directory
) -> dagger.Container:
    """The code at ``SOURCE``, installed in place where it is a package."""
    container = container.with_directory(SOURCE, source)
    if not project.installable:
        return container.with_env_variable("PYTHONPATH", SOURCE)
    if not project.dynamic:
        return container.with_exec(_pip("--no-deps", "-e", "."))
    extras = f"[{','.join(project.test_extras)}]" if project.test_extras else ""
    return container.with_exec(_pip("-e", f".{extras}"))


async def _pinned(project: PythonProject, source: dagger.Directory) -> set[str]:
    """Names that the development lock file pins."""
    if not project.dev_lock:
        return set()
    text = await source.file(project.dev_lock).contents()
    return {_name(line) for line in text.splitlines() if "==" in line}


def _name(requirement: str) -> str:
    return requirement.partition("==")[0].partition("[")[0].strip().lower()


async def run(
    container: dagger.Container, args: list[str], *, accept: tuple[int, ...] = (0, 1)
) -> Ran:
    """Run a tool to its end.

    Raises:
        StageErrored: it ended with another code than those in ``accept``.
    """
    ended = container.with_exec(args, expect=ReturnType.ANY)
    code = await ended.exit_code()
    ran = Ran(ended, code, await ended.stdout(), await ended.stderr())
    if code not in accept:
        raise StageErrored(
            args[0].rpartition("/")[2],
            got=f"exit code {code}\n{ran.log.strip()}",
            expected=f"one of {', '.join(map(str, accept))}",
        )
    return ran


def _pip(*arguments: str) -> list[str]:
    return ["pip", "install", "--quiet", "--no-compile", *arguments]
