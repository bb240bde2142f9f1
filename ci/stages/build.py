"""The build stage: an OCI image of a Python service; dependencies and code in separate layers."""

from __future__ import annotations

import dagger
from dagger import dag

from ci.errors import StageSkipped
from ci.stages.python_environment import SOURCE, base, project_of, with_tools
from ci.stages.tools import BUILD, PYTHON_IMAGE
from ci.toolchains.python import PythonProject
from ci.values import Evidence, Image, Output, Status

__all__ = ["build"]

#: Numeric, so that a cluster can see without the image that it is not root.
_USER = "10001:10001"
_APP = "/app"
_LABEL = "org.opencontainers.image"
_CACHE = "/root/.cache"


async def build(
    source: dagger.Directory,
    command: list[str] | None = None,
    port: int = 8000,
    title: str = "",
    revision: str = "",
    user: str = _USER,
) -> Output[dagger.Container]:
    """Build the image; the same inputs make the same digest.

    Args:
        source: The repository.
        command: What the image runs; the one command that the project installs, if not given.
        port: What it listens on, also told as PORT.
        title: Label of the OCI image spec; the project's name, if not given.
        revision: Label: the commit.
        user: ``uid:gid`` that it runs as.

    Raises:
        StageSkipped: there is no Python, or nothing that the image could run.
    """
    project = await project_of(source)
    if not command:
        if len(project.scripts) != 1:
            raise StageSkipped(
                "nothing to run in an image",
                got=f"commands {', '.join(project.scripts)}" if project.scripts else "a library",
                expected="one command in [project.scripts], or [build] command in ci.toml",
            )
        command = [project.scripts[0]]
    image = _with_code(_with_dependencies(project, source), project, source)
    labels = _labels(project, title=title, revision=revision)
    for name, value in labels.items():
        image = image.with_label(name, value)
    image = (
        image.without_mount(_CACHE)
        .without_directory(_CACHE)
        .with_env_variable("PORT", str(port))
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
            summary=f"{labels[f'{_LABEL}.title']} {labels[f'{_LABEL}.version']}, runs as {user}",
            image=Image(user=await image.user(), labels=tuple(sorted(labels.items()))),
        ),
        artifact=image,
    )


def _with_dependencies(project: PythonProject, source: dagger.Directory) -> dagger.Container:
    """The base with an environment at /app that has what the code needs, and not the code."""
    container = (
        dag.container()
        .from_(PYTHON_IMAGE.format(version=project.python))
        .with_env_variable("PYTHONDONTWRITEBYTECODE", "1")
        .with_env_variable("PYTHONUNBUFFERED", "1")
        .with_mounted_cache(_CACHE, dag.cache_volume("towpath-build"))
        .with_exec(["python", "-m", "venv", "--without-pip", _APP])
        .with_env_variable("PATH", f"{_APP}/bin:${{PATH}}", expand=True)
    )
    if project.lock:
        lock = f"/tmp/{project.lock}"  # noqa: S108 - in the container
        return container.with_mounted_file(lock, source.file(project.lock)).with_exec(
            [*_INSTALL, "-r", lock]
        ).without_mount(lock)  # fmt: skip
    if project.dependencies:
        return container.with_exec([*_INSTALL, *project.dependencies])
    return container


def _with_code(
    container: dagger.Container, project: PythonProject, source: dagger.Directory
) -> dagger.Container:
    """The image with the code: its wheel installed, or its files where it is no package."""
    if not project.installable:
        return container.with_directory(f"{_APP}/src", source).with_env_variable(
            "PYTHONPATH", f"{_APP}/src"
        )
    wheels = (
        with_tools(base(project), *BUILD, *project.build_requires)
        .with_env_variable("SOURCE_DATE_EPOCH", "315532800")
        .with_directory(SOURCE, source)
        .with_workdir(SOURCE)
        .with_exec(["python", "-m", "build", "--wheel", "--no-isolation", "--outdir=/wheels", "."])
        .directory("/wheels")
    )
    install = [*_INSTALL, *(["--no-deps"] if project.lock else [])]
    return (
        container.with_mounted_directory("/wheels", wheels)
        .with_exec(["sh", "-c", 'exec "$@" /wheels/*.whl', "install", *install])
        .without_mount("/wheels")
    )


#: pip of the base installs into the environment, so that the image holds no pip of its own there.
_INSTALL = [
    "pip", f"--python={_APP}/bin/python", "install", "--quiet", "--no-compile",
    "--disable-pip-version-check", "--root-user-action=ignore",
]  # fmt: skip


def _labels(project: PythonProject, *, title: str, revision: str) -> dict[str, str]:
    """https://github.com/opencontainers/image-spec/blob/main/annotations.md."""
    labels = {
        f"{_LABEL}.title": title or project.name or "app",
        f"{_LABEL}.version": project.version or "0",
    }
    return labels | ({f"{_LABEL}.revision": revision} if revision else {})
