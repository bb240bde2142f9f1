"""Sessions of the embedded engine on the user's store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from ci import embedded
from ci.engine.session import Session
from ci.settings import Settings

__all__ = ["embedded_session", "user_session"]


def user_session(**options: Any) -> Session:
    """A session on the user's store, where the images are."""
    settings = Settings.from_environment()
    return Session(cache=settings.cache, sources=embedded.sources(settings), **options)


@contextmanager
def embedded_session() -> Iterator[None]:
    """Within the context, ``dagger.connection`` connects to one, which lives in a thread."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(user_session()) as session,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in session.environment().items():
            patch.setenv(name, value)
        yield
