"""A session of the embedded engine that the SDK finds by the environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from anyio.from_thread import start_blocking_portal

from ci.engine.session import Session

__all__ = ["embedded_session"]


@contextmanager
def embedded_session() -> Iterator[None]:
    """Within the context, ``dagger.connection`` connects to it; it lives in a thread of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Session()) as session,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in session.environment().items():
            patch.setenv(name, value)
        yield
