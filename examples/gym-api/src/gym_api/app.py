"""The application: routes, probes, metrics, errors; put together from a store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from gym_api import api
from gym_api.domain import Conflict, DomainError, Forbidden, NotFound
from gym_api.metrics import Metrics
from gym_api.middleware import Observe
from gym_api.schemas import ReadyOut
from gym_api.store import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger()

STATUS: dict[type[DomainError], int] = {NotFound: 404, Forbidden: 403, Conflict: 409}


def create_app(store: Store, *, version: str) -> FastAPI:
    """The application over this store, which it closes when it shuts down."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        log.info("service.started", version=version)
        yield
        await store.close()
        log.info("service.stopped", version=version)

    app = FastAPI(title="gym-api", version=version, lifespan=lifespan, redoc_url=None)
    app.state.store = store
    metrics = Metrics(version)
    app.add_middleware(Observe, metrics=metrics)
    app.add_exception_handler(DomainError, _domain_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.include_router(api.router)
    _add_probes(app, store, metrics, version)
    return app


def _add_probes(app: FastAPI, store: Store, metrics: Metrics, version: str) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process is alive; says nothing of the database, or a restart would cure nothing."""
        return {"status": "alive"}

    @app.get("/ready", response_model=ReadyOut)
    async def ready(response: Response) -> ReadyOut:
        """Requests can be served: 200, else 503."""
        try:
            await store.check()
        except Exception as error:  # whatever it is, it is not ready
            log.warning("database.unavailable", error=type(error).__name__)
            response.status_code = 503
            return ReadyOut(status="unavailable", version=version)
        return ReadyOut(status="ready", version=version)

    @app.get("/metrics", include_in_schema=False)
    async def scrape() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)


def problem(status: int, detail: str, **more: object) -> JSONResponse:
    """An error as RFC 9457 writes it."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    return JSONResponse(
        {**body, "detail": detail, **more}, status, media_type="application/problem+json"
    )


async def _domain_error(_: Request, error: Exception) -> Response:
    return problem(STATUS[type(error)] if isinstance(error, DomainError) else 500, str(error))


async def _http_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    response = problem(error.status_code, str(error.detail))
    response.headers.update(error.headers or {})
    return response


async def _invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [
        {"at": ".".join(str(part) for part in item["loc"]), "message": item["msg"]}
        for item in error.errors()
    ]
    return problem(422, "the request is not valid", errors=errors)
