from __future__ import annotations

import pytest

import gym_api
from gym_api.settings import Settings, SettingsError

URL = {"DATABASE_URL": "postgresql://gym:hidden@db:5432/gym"}


def test_a_database_url_is_all_that_is_needed() -> None:
    settings = Settings.from_environment(URL)
    assert settings.database_url == "postgresql+psycopg://gym:hidden@db:5432/gym"
    assert (settings.port, settings.version) == (8000, gym_api.__version__)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_the_scheme_selects_psycopg(scheme: str) -> None:
    settings = Settings.from_environment({"DATABASE_URL": f"{scheme}://db/gym"})
    assert settings.database_url == "postgresql+psycopg://db/gym"


def test_the_environment_overrides_the_defaults() -> None:
    settings = Settings.from_environment(
        {
            **URL,
            "HOST": "127.0.0.1",
            "PORT": "8123",
            "GYM_API_VERSION": "9.9.9",
            "GYM_API_LOG_LEVEL": "DEBUG",
            "GYM_API_POOL_SIZE": "2",
            "GYM_API_SHUTDOWN_SECONDS": "3",
        }
    )
    assert (settings.host, settings.port, settings.version) == ("127.0.0.1", 8123, "9.9.9")
    assert (settings.log_level, settings.pool_size, settings.shutdown_seconds) == ("debug", 2, 3)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "DATABASE_URL"),
        ({"DATABASE_URL": "mysql://db/gym"}, "DATABASE_URL"),
        ({**URL, "PORT": "http"}, "PORT"),
        ({**URL, "PORT": "65536"}, "PORT"),
        ({**URL, "GYM_API_POOL_SIZE": "0"}, "GYM_API_POOL_SIZE"),
        ({**URL, "GYM_API_LOG_LEVEL": "loud"}, "GYM_API_LOG_LEVEL"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(environment: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment(environment)


def test_the_password_is_never_shown() -> None:
    assert "hidden" not in repr(Settings.from_environment(URL))
    with pytest.raises(SettingsError) as error:
        Settings.from_environment({"DATABASE_URL": "mysql://gym:hidden@db"})
    assert "hidden" not in str(error.value)
