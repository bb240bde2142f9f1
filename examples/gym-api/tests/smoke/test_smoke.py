"""Is what answers at SMOKE_BASE_URL the service, and does it work? Leaves nothing behind.

Needs httpx and pytest, and nothing of the service's own code. SMOKE_EXPECTED_VERSION, where it is
set, must be what answers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(base_url=os.environ["SMOKE_BASE_URL"], timeout=10) as client:
        yield client


@pytest.fixture
def owner(client: httpx.Client) -> Iterator[httpx.Client]:
    """A client with the token of an organisation that is closed afterwards."""
    slug = f"smoke-{uuid4().hex}"
    body = {"name": "Smoke", "slug": slug, "owner": {"name": "S", "email": "s@example.org"}}
    answer = client.post("/v1/organisations", json=body)
    assert answer.status_code == 201, answer.text
    client.headers["Authorization"] = f"Bearer {answer.json()['token']}"
    yield client
    assert client.delete("/v1/organisation").status_code == 204


def test_it_is_alive(client: httpx.Client) -> None:
    assert client.get("/health").status_code == 200


def test_it_is_ready_with_the_expected_version(client: httpx.Client) -> None:
    answer = client.get("/ready")
    assert answer.status_code == 200, answer.text
    expected = os.environ.get("SMOKE_EXPECTED_VERSION") or answer.json()["version"]
    assert answer.json() == {"status": "ready", "version": expected}


def test_it_exposes_metrics(client: httpx.Client) -> None:
    assert "gym_api_build_info" in client.get("/metrics").text


def test_strangers_are_refused(client: httpx.Client) -> None:
    assert client.get("/v1/me").status_code == 401


def test_a_message_is_read_back(owner: httpx.Client) -> None:
    conversation = owner.post("/v1/conversations", json={"subject": "Smoke"})
    assert conversation.status_code == 201
    path = f"/v1/conversations/{conversation.json()['id']}/messages"
    assert owner.post(path, json={"text": "Is anybody there?"}).status_code == 201
    texts = [message["text"] for message in owner.get(path).json()["messages"]]
    assert texts == ["Is anybody there?"]
