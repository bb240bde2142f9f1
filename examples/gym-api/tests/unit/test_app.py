from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs
from support.memory import MemoryStore

pytestmark = pytest.mark.anyio


async def test_health_answers_without_the_database(
    client: httpx.AsyncClient, store: MemoryStore
) -> None:
    store.fault = ConnectionError("gone")
    assert (await client.get("/health")).json() == {"status": "alive"}


async def test_ready_answers_the_version(client: httpx.AsyncClient) -> None:
    answer = await client.get("/ready")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "version": "1.2.3"}


async def test_ready_is_503_without_the_database(
    client: httpx.AsyncClient, store: MemoryStore
) -> None:
    store.fault = ConnectionError("password: hidden")
    answer = await client.get("/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "unavailable", "version": "1.2.3"}


async def test_metrics_count_requests_by_route(client: httpx.AsyncClient) -> None:
    await client.get("/health")
    await client.get("/v1/me")
    await client.get("/nowhere")
    text = (await client.get("/metrics")).text
    assert 'gym_api_requests_total{method="GET",route="/health",status="200"} 1.0' in text
    assert 'gym_api_requests_total{method="GET",route="/v1/me",status="401"} 1.0' in text
    assert 'gym_api_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'gym_api_build_info{version="1.2.3"} 1.0' in text


async def test_every_answer_has_an_identifier_and_safe_headers(client: httpx.AsyncClient) -> None:
    first, second = await client.get("/health"), await client.get("/nowhere")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert second.headers["x-content-type-options"] == "nosniff"
    assert second.headers["cache-control"] == "no-store"


async def test_probes_are_logged_only_when_they_fail(
    client: httpx.AsyncClient, store: MemoryStore
) -> None:
    with capture_logs() as logs:
        await client.get("/ready")
        assert logs == []
        store.fault = ConnectionError()
        await client.get("/ready")
    assert [entry["event"] for entry in logs] == ["database.unavailable", "request.answered"]


async def test_a_fault_of_ours_is_counted_as_500(app: FastAPI, store: MemoryStore) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("on purpose")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gym") as client:
        answer = await client.get("/broken")
        text = (await client.get("/metrics")).text
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert 'route="/broken",status="500"} 1.0' in text


async def test_shutting_down_closes_the_store(app: FastAPI, store: MemoryStore) -> None:
    async with app.router.lifespan_context(app):
        assert not store.closed
    assert store.closed
