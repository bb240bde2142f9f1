"""What Prometheus scrapes: requests by route and status, and how long they took."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """The measures of one application."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "gym_api_requests_total",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "gym_api_request_duration_seconds",
            "Time from request to answer.",
            ("method", "route"),
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "gym_api_requests_in_flight", "Requests not answered yet.", registry=self.registry
        )
        build = Gauge("gym_api_build_info", "Always 1.", ("version",), registry=self.registry)
        build.labels(version).set(1)

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. ``route`` is a template, so that the labels stay few."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
