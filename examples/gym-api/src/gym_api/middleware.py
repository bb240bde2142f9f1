"""Around each request: an identifier, a log line, the metrics, and headers for every answer."""

from __future__ import annotations

import time
from uuid import uuid4

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gym_api.metrics import Metrics

log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Asked every few seconds by machines; logged only when they fail.
QUIET = {"/health", "/ready", "/metrics"}


class Observe:
    """ASGI middleware; plain, so that streaming and cancellation pass through untouched."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        request_id = uuid4().hex

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Cache-Control"] = "no-store"
            await send(message)

        started = time.perf_counter()
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            self._metrics.in_flight.track_inprogress(),
        ):
            try:
                await self._app(scope, receive, send_observed)
            finally:
                self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"]
        self._metrics.observe(method=method, route=route, status=status, seconds=seconds)
        if route in QUIET and status < 400:
            return
        log.info(
            "request.answered",
            method=method,
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 1),
        )
