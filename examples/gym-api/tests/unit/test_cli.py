from __future__ import annotations

import json

import pytest

from gym_api import cli
from gym_api.settings import Settings

URL = {"DATABASE_URL": "postgresql://gym@db/gym"}


def test_a_missing_setting_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve"], {}) == 64
    assert capsys.readouterr().err.startswith("gym-api: DATABASE_URL: expected postgresql://")


def test_the_migrations_can_be_read_as_sql(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["migrate", "--sql"], URL) == 0
    sql = capsys.readouterr().out
    for table in ("organisation", "member", "api_token", "conversation", "message"):
        assert f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY" in sql


def test_requests_in_flight_get_the_configured_time() -> None:
    settings = Settings.from_environment({**URL, "GYM_API_SHUTDOWN_SECONDS": "7"})
    options = cli.server_options(settings)
    assert options["timeout_graceful_shutdown"] == 7


def test_logs_are_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    import structlog

    from gym_api import log

    log.configure("info")
    structlog.get_logger().info("member.added", role="trainer")
    logging.getLogger("uvicorn.error").warning("odd %s", "thing")
    streams = capsys.readouterr()
    ours, theirs = json.loads(streams.out), json.loads(streams.err)
    assert (ours["event"], ours["role"], ours["level"]) == ("member.added", "trainer", "info")
    assert (theirs["event"], theirs["level"]) == ("odd thing", "warning")
