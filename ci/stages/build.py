"""The build stage: an OCI image of a Python service; dependencies and code in separate layers."""

from __future__ import annotations

import dagger
from dagger import dag

from ci.errors import StageSkipped
from ci.stages.python_environment import base, installed, pip, project_of, wheel, with_environment
from ci.stages.tools import PYTHON_IMAGE
from ci.toolchains.python import PythonProject
from ci.values import Evidence, Image, Output, Status

__all__ = ["build"]

#: Numeric, so that a cluster can see without the image that it is not root.
_USER = "10001:10001"
_APP = "/app"
_CODE = "/code"
_LABEL = "org.opencontainers.image"

_HINT_FOR_LIBRARIES = (
    "a library passes without an image where ci.toml says, under [run],"
    ' skip = ["integration", "build", "sbom", "scan", "security"]'
)


async def build(
    source: dagger.Directory,
    command: list[str] | None = None,
    port: int = 8000,
    title: str = "",
    version: str = "",
    revision: str = "",
    url: str = "",
    created: str = "",
    user: str = _USER,
    *,
    toolchain: PythonProject | None = None,
) -> Output[dagger.Container]:
    """Build the image; the same inputs make the same digest.

    Args:
        source: The repository.
        command: What the image runs; the one command that the project installs, or the one that is
            named as the project, if not given.
        port: What it listens on, also told as PORT.
        title: Label of the OCI image spec; the project's name, if not given.
        version: Label; the version of the project's wheel, if not given.
        revision: Label, if given: the commit.
        url: Label ``source``, if given: where the source is found.
        created: Label, if given: a time as RFC 3339 has it. Another one makes another digest.
        user: ``uid:gid`` that it runs as.
        toolchain: What the repository says of itself, where that is known already.

    Raises:
        StageSkipped: there is no Python, or nothing that the image could run.
    """
    project = toolchain or await project_of(source)
    command = command or [_script(project)]
    wheels = wheel(project, source) if project.installable else None
    version = version or project.version or (await _version(wheels) if wheels else "0")
    labels = {
        f"{_LABEL}.{key}": value
        for key, value in (
            ("created", created),
            ("description", project.description),
            ("revision", revision),
            ("source", url),
            ("title", title or project.name or "app"),
            ("version", version),
        )
        if value
    }
    image = _assembled(project, source, wheels)
    for name, value in labels.items():
        image = image.with_label(name, value)
    image = (
        image.with_env_variable("PORT", str(port))
        .with_exposed_port(port)
        .with_user(user)
        .with_workdir(_APP)
        .without_entrypoint()
        .with_default_args(command)
    )
    await image.sync()
    return Output(
        evidence=Evidence(
            stage="build",
            status=Status.PASSED,
            summary=f"{labels[f'{_LABEL}.title']} {version}, runs as {user}",
            image=Image(user=user, labels=tuple(sorted(labels.items()))),
        ),
        artifact=image,
    )


def _script(project: PythonProject) -> str:
    """The command that the image runs.

    Raises:
        StageSkipped: there is none, or several and none is named as the project.
    """
    scripts = project.scripts
    named = [script for script in scripts if script == project.name]
    if len(scripts) != 1 and not named:
        raise StageSkipped(
            "nothing to run in an image",
            got=f"commands {', '.join(scripts)}" if scripts else "a library",
            expected="one command in [project.scripts], or [build] command in ci.toml",
            hint="" if scripts else _HINT_FOR_LIBRARIES,
        )
    return named[0] if named else scripts[0]


async def _version(wheels: dagger.Directory) -> str:
    """The version in the name of the wheel, which is ``name-version-...whl``."""
    return (await wheels.entries())[0].split("-")[1]


def _assembled(
    project: PythonProject, source: dagger.Directory, wheels: dagger.Directory | None
) -> dagger.Container:
    """The base image, a layer with what the code needs, and a layer with the code.

    Both are put together elsewhere, so that nothing of pip's stays behind.
    """
    builder = with_environment(base(project), _APP)
    builder = installed(builder, project, project.runtime, _APP)
    if wheels is None:
        code = dag.directory().with_directory("src", source)
    else:
        builder = builder.with_mounted_directory("/wheels", wheels)
        if project.dynamic:
            # Only its wheel says what it depends on: with it come the dependencies, without it
            # they stay, and are the same as long as they are.
            builder = builder.with_exec(_from_wheels(pip(_APP))).with_exec(
                [
                    "sh",
                    "-c",
                    f"pip --python={_APP}/bin/python uninstall --quiet --yes /wheels/*.whl",
                ]
            )
        install = pip(_APP, "--no-deps", "--no-index", f"--prefix={_CODE}")
        code = builder.with_exec(_from_wheels(install)).directory(_CODE)
    image = (
        dag.container()
        .from_(PYTHON_IMAGE.format(version=project.python))
        .with_env_variable("PATH", f"{_APP}/bin:${{PATH}}", expand=True)
        .with_env_variable("PYTHONDONTWRITEBYTECODE", "1")
        .with_env_variable("PYTHONUNBUFFERED", "1")
        .with_directory(_APP, builder.directory(_APP))
        .with_directory(_APP, code)
    )
    return image if wheels else image.with_env_variable("PYTHONPATH", f"{_APP}/src")


def _from_wheels(install: list[str]) -> list[str]:
    return ["sh", "-c", 'exec "$@" /wheels/*.whl', *install[:1], *install]
