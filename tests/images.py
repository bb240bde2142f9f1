"""``python -m tests.images [IMAGE...]``: pull, or make, the images that tests use, or these.

`make test` does so first, so that it is no part of any test's time. A test that is run alone gets
its images by itself.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import anyio
import dagger

from ci.stages.tools import GITLEAKS_IMAGE, POSTGRES_IMAGE, PYTHON_IMAGE, TRIVY_IMAGE
from tests.sdk_session import user_session

__all__ = ["IMAGES", "fetch"]

#: The first is what the others are made from where no registry answers.
IMAGES = (
    "debian:bookworm-slim",
    PYTHON_IMAGE.format(version="3.11"),
    POSTGRES_IMAGE,
    TRIVY_IMAGE,
    GITLEAKS_IMAGE,
)


async def fetch(images: Sequence[str] = IMAGES) -> None:
    """Have all of them in the store; a line on stderr for each that took its time."""
    async with user_session() as session:
        os.environ.update(session.environment())
        async with dagger.connection(), anyio.create_task_group() as tasks:
            await _one(images[0])
            for image in images[1:]:
                tasks.start_soon(_one, image)


async def _one(image: str) -> None:
    started = time.monotonic()
    await dagger.dag.container().from_(image).sync()
    if (seconds := time.monotonic() - started) > 1:
        print(  # noqa: T201 - a program
            f"{image}: {seconds:.0f} s",
            file=sys.stderr,
        )


if __name__ == "__main__":
    anyio.run(fetch, sys.argv[1:] or IMAGES)
