"""The service as it runs: its own process, its own port, the real database."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

Service = tuple[subprocess.Popen[str], str]


@pytest.fixture
def service(environment: dict[str, str]) -> Iterator[Service]:
    port = str(_free_port())
    command = "from gym_api.cli import main; import sys; sys.exit(main(['serve']))"
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", command],
        env={**environment, "HOST": "127.0.0.1", "PORT": port, "GYM_API_VERSION": "4.5.6"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(r"Uvicorn running on", line):
            break
    yield process, f"http://127.0.0.1:{port}"
    process.kill()
    process.communicate()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def test_a_request_goes_through_to_the_database(service: Service) -> None:
    _, url = service
    ready = httpx.get(f"{url}/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "version": "4.5.6"})
    owner = {"name": "Ada", "email": "ada@example.org"}
    body = {"name": "North", "slug": "north", "owner": owner}
    answer = httpx.post(f"{url}/v1/organisations", json=body)
    assert answer.status_code == 201
    headers = {"Authorization": f"Bearer {answer.json()['token']}"}
    assert httpx.get(f"{url}/v1/me", headers=headers).json()["name"] == "Ada"
    assert httpx.post(f"{url}/v1/organisations", json=body).status_code == 409


def test_sigterm_ends_the_service_in_good_order(service: Service) -> None:
    process, url = service
    assert httpx.get(f"{url}/health").status_code == 200
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode in {0, -signal.SIGTERM}
    assert "Finished server process" in errors
