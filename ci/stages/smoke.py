"""The smoke stage: tests/smoke against something that runs."""

from __future__ import annotations

import dagger

from ci.errors import StageSkipped
from ci.stages.pytest_run import evidence_of, pytest
from ci.stages.python_environment import environment, project_of
from ci.values import Output

__all__ = ["smoke"]

_FOLDER = "tests/smoke"


async def smoke(source: dagger.Directory, url: str, nonce: str = "") -> Output[None]:
    """Run the smoke tests against ``url``, which they get as SMOKE_BASE_URL.

    Args:
        source: The repository.
        url: Base URL, as ``http://127.0.0.1:8081``.
        nonce: Another one runs the tests again, even where nothing else has changed.

    Raises:
        StageSkipped: there is no Python, or there are no smoke tests.
        StageErrored: pytest could not run them.
    """
    project = await project_of(source)
    if not await source.glob(f"{_FOLDER}/**/test_*.py"):
        raise StageSkipped("no smoke tests here", expected=f"{_FOLDER}/test_*.py")
    container = await environment(project, source)
    container = container.with_env_variable("SMOKE_BASE_URL", url).with_env_variable(
        "SMOKE_NONCE", nonce
    )
    ran = await pytest(container, ["python", "-m", "pytest"], [_FOLDER])
    evidence, reports = await evidence_of("smoke", ran)
    return Output(evidence=evidence, reports=reports)
