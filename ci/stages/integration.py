"""The integration stage: tests/integration, with a PostgreSQL of its own for each database URL."""

from __future__ import annotations

import dagger
from dagger import dag

from ci.errors import StageSkipped
from ci.stages.pytest_run import pytest
from ci.stages.python_environment import environment, project_of
from ci.stages.tools import POSTGRES_IMAGE
from ci.toolchains.python import PythonProject
from ci.values import Output

__all__ = ["integration", "postgres"]

_FOLDER = "tests/integration"
_PORT = 5432
_USER = _DATABASE = "app"


async def integration(
    source: dagger.Directory,
    services: dict[str, str] | None = None,
    *,
    limit: int = 900,
    toolchain: PythonProject | None = None,
) -> Output[None]:
    """Run the integration tests.

    Args:
        source: The repository.
        services: Image of PostgreSQL by the variable that tells the tests its URL; if not given,
            ``DATABASE_URL`` is one.
        limit: Seconds that the suite may take.
        toolchain: What the repository says of itself, where that is known already.

    Raises:
        StageSkipped: there is no Python, or there are no integration tests.
        StageErrored: pytest could not run them.
    """
    project = toolchain or await project_of(source)
    if not await source.glob(f"{_FOLDER}/**/test_*.py"):
        raise StageSkipped("no integration tests here", expected=f"{_FOLDER}/test_*.py")
    container = environment(project, source)
    wanted = {"DATABASE_URL": POSTGRES_IMAGE} if services is None else services
    for variable, image in wanted.items():
        alias = variable.lower().removesuffix("_url").replace("_", "-") or "service"
        container = container.with_service_binding(alias, postgres(image)).with_env_variable(
            variable, f"postgresql://{_USER}:{_USER}@{alias}:{_PORT}/{_DATABASE}"
        )
    return await pytest("integration", container, [_FOLDER], limit=limit)


def postgres(image: str = POSTGRES_IMAGE) -> dagger.Service:
    """A PostgreSQL for tests: empty, in memory as far as it can be, gone after the run."""
    return (
        dag.container()
        .from_(image)
        .with_env_variable("POSTGRES_USER", _USER)
        .with_env_variable("POSTGRES_PASSWORD", _USER)
        .with_env_variable("POSTGRES_DB", _DATABASE)
        .with_exposed_port(_PORT)
        .as_service(use_entrypoint=True, args=["postgres", "-c", "fsync=off"])
    )
