"""Which node asked: each has a span of its own, whose identity travels with every request.

The Dagger SDK sends the current span as the ``traceparent`` header (W3C Trace Context). Where the
user has set up an exporter the spans are real ones and stages show in their traces; else they are
mere identities, and nothing is recorded or sent anywhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace

__all__ = ["Spans"]


class Spans:
    """The spans of one run."""

    def __init__(self) -> None:
        self._trace_id = secrets.randbits(128) or 1
        self._nodes: dict[int, str] = {}

    @contextmanager
    def span(self, node: str) -> Iterator[None]:
        """Within the context, requests are this node's."""
        parent = trace.get_current_span().get_span_context()
        tracer = trace.get_tracer("towpath")
        with tracer.start_as_current_span(node, record_exception=False) as span:
            context = span.get_span_context()
            if context.is_valid and context.span_id != parent.span_id:
                self._nodes[context.span_id] = node
                yield
                return
        own = trace.SpanContext(
            trace_id=parent.trace_id or self._trace_id,
            span_id=secrets.randbits(64) or 1,
            is_remote=False,
            trace_flags=parent.trace_flags
            if parent.is_valid
            else trace.TraceFlags(trace.TraceFlags.SAMPLED),
            trace_state=parent.trace_state,
        )
        self._nodes[own.span_id] = node
        with trace.use_span(trace.NonRecordingSpan(own), record_exception=False):
            yield

    def node(self, traceparent: str) -> str:
        """Whose request carried this header; empty where it was none of the run's."""
        parts = traceparent.split("-")
        try:
            return self._nodes.get(int(parts[2], 16), "")
        except (IndexError, ValueError):
            return ""
