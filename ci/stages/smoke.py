"""The smoke stage: tests/smoke against something that runs."""

from __future__ import annotations

import dagger

from ci.errors import ConfigError, StageSkipped
from ci.stages.pytest_run import pytest
from ci.stages.python_environment import environment, project_of
from ci.toolchains.python import PythonProject
from ci.values import Output

__all__ = ["smoke"]

_FOLDER = "tests/smoke"
_ALIAS = "service"


async def smoke(
    source: dagger.Directory,
    url: str = "",
    service: dagger.Service | None = None,
    nonce: str = "",
    *,
    limit: int = 300,
    toolchain: PythonProject | None = None,
) -> Output[None]:
    """Run the smoke tests against ``url`` or ``service``; they get its URL as SMOKE_BASE_URL.

    Args:
        source: The repository.
        url: Base URL, as ``http://127.0.0.1:8081``.
        service: What is tested, where no URL is given: started for the tests, and reached by
            HTTP on the first port that it exposes.
        nonce: Another one runs the tests again, even where nothing else has changed.
        limit: Seconds that the suite may take.
        toolchain: What the repository says of itself, where that is known already.

    Raises:
        StageSkipped: there is no Python, or there are no smoke tests.
        StageErrored: pytest could not run them.
        ConfigError: neither a URL nor a service is given.
    """
    if not url and service is None:
        raise ConfigError("smoke", got="neither a URL nor a service", expected="what to test")
    project = toolchain or await project_of(source)
    if not await source.glob(f"{_FOLDER}/**/test_*.py"):
        raise StageSkipped("no smoke tests here", expected=f"{_FOLDER}/test_*.py")
    container = environment(project, source)
    if service is not None and not url:
        port = await (await service.ports())[0].port()
        container = container.with_service_binding(_ALIAS, service)
        url = f"http://{_ALIAS}:{port}"
    container = container.with_env_variable("SMOKE_BASE_URL", url).with_env_variable(
        "SMOKE_NONCE", nonce
    )
    return await pytest("smoke", container, [_FOLDER], limit=limit)
