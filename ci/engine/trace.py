"""TRACE: on whose behalf work is done."""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["TRACE"]

#: The ``traceparent`` header of the request; SDKs send it when their caller has a span.
TRACE: ContextVar[str] = ContextVar("towpath_trace", default="")
