"""No request is lost while releases are switched and rolled back under load."""

import http.client
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

import anyio
import anyio.to_thread
import pytest

from ci.values import Outcome

REQUESTS = 10_000
CLIENTS = 6
#: Enough for the slowest machine; the test ends at its count.
SECONDS = 90


@dataclass
class Load:
    """Clients with connections that they keep, which never try again."""

    port: int
    stop: threading.Event = field(default_factory=threading.Event)
    answered: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    methods: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def total(self) -> int:
        return sum(self.answered.values()) + len(self.failed)

    def client(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        for turn in count():
            if self.stop.is_set():
                break
            method = "POST" if turn % 2 else "GET"
            path = "/slow" if turn % 200 == number else "/echo"
            body = f"{number}/{turn}" if method == "POST" else ""
            try:
                connection.request(method, path, body)
                response = connection.getresponse()
                text = response.read().decode()
                answer = json.loads(text) if response.status == 200 else {}
                fault = "" if answer.get("echo") == body else f"{response.status} {text}"
            except (OSError, http.client.HTTPException, ValueError) as error:
                connection.close()
                answer, fault = {}, repr(error)
            with self._lock:
                self.methods[method] += 1
                if fault:
                    self.failed.append(f"{method} {path}: {fault}")
                else:
                    self.answered[answer["version"]] += 1
        connection.close()


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
async def test_ten_thousand_requests_over_switches_and_rollbacks_and_none_fails(
    delivery, spec, archives
):
    await delivery.deploy(spec, *archives("1.0.0"))
    load = Load(spec.port)
    switches = 0

    async def switch() -> None:
        nonlocal switches
        with anyio.fail_after(SECONDS):
            for number in count(1):
                for step in (
                    lambda n=number: delivery.deploy(spec, *archives(f"1.{n}.0")),
                    lambda n=number: delivery.deploy(spec, *archives(f"1.{n}.1")),
                    lambda: delivery.rollback(spec.project, spec.name),
                ):
                    record = await step()
                    assert record.outcome is Outcome.PASSED, record.reason
                    switches += 1
                if load.total >= REQUESTS:
                    return

    try:
        async with anyio.create_task_group() as group:
            for number in range(CLIENTS):
                group.start_soon(anyio.to_thread.run_sync, load.client, number)
            await switch()
            load.stop.set()
    finally:
        load.stop.set()

    assert load.failed == []
    assert load.total >= REQUESTS
    assert switches >= 3
    assert len(load.answered) >= 3, "more than one release answered"
    assert min(load.methods["GET"], load.methods["POST"]) > 4_000

    log = delivery.state / "environments" / spec.project / spec.name / "logs" / "access.log"
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    asked = [entry for entry in entries if entry["request"]["uri"] in ("/echo", "/slow")]
    assert len(asked) == load.total, "each request stands in the access log once"
    assert all(entry["upstream"].startswith("127.0.0.1:") for entry in asked)
