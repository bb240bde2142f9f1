"""ci.toml: what it may say, and what is said of what it may not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ci.config import Config, Settings, parse
from ci.errors import ConfigError
from ci.values import Severity


def test_an_empty_file_is_the_default_configuration():
    assert parse("") == Config()


def test_values_are_read_into_their_sections():
    config = parse(
        """
        [project]
        name = "gym-api"
        [gates.security]
        fail_on = "critical"
        [environments.development]
        port = 8081
        migrate = ["gym-api", "migrate"]
        services.DATABASE_URL = { kind = "postgres" }
        """
    )
    assert config.project.name == "gym-api"
    assert config.gates.security.fail_on is Severity.CRITICAL
    assert config.environments["development"].services["DATABASE_URL"].image.startswith("postgres")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[project]\nnmae = 'x'\n",
            r"ci.toml:2: project.nmae: got a key that is not known; .*hint: did you mean 'name'\?",
        ),
        ("[gates.quality]\ncoverage = 800\n", r"ci.toml:2: gates.quality.coverage: got 800; .*100"),
        ("\nx == 1", r"ci.toml:2: got no valid TOML: invalid value; expected TOML 1.0"),
        ("[build]\n\nport = [\n", r"ci.toml:3: got no valid TOML"),
        ("[run]\n[envronments.dev]\nport = 1\n", r"ci.toml:2: envronments: .*'environments'"),
        ("[run]\n\nfoo.bar.baz = 1\n", r"ci.toml:3: run.foo: "),
        ("[project]\nname = 'Bad Name'", r"ci.toml:2: project.name: got 'Bad Name'"),
        ("\n\n[buld]\n", r"ci.toml:3: buld: .*\nhint: did you mean 'build'\?"),
        (
            "[environments.dev]\nprt = 1\n",
            r"ci.toml:2: environments.dev.prt: .*\nhint: did you mean 'port'\?",
        ),
        (
            "\n".join(
                f"[[waivers]]\nrule='a'\n{key}='long enough'\nexpires=2027-01-01"
                for key in ("reason", "reasn")
            ),
            r"ci.toml:7: waivers.1.reasn: .*\nhint: did you mean 'reason'\?",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_the_nearest_known_key(text, message):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert re.match(message, str(caught.value), re.DOTALL), str(caught.value)
    assert caught.value.exit_code == 64


def test_settings_follow_the_xdg_folders_and_towpaths_own_variables():
    settings = Settings.from_environment({"HOME": "/home/a", "XDG_STATE_HOME": "/state"})
    assert settings.cache == Path("/home/a/.cache/towpath")
    assert settings.state == Path("/state/towpath")
    assert not settings.in_ci
    settings = Settings.from_environment({"TOWPATH_CACHE": "/c", "CI": "true"})
    assert settings.cache == Path("/c")
    assert settings.in_ci


@pytest.mark.parametrize(
    ("text", "size"), [("512M", 512 << 20), ("2GiB", 2 << 30), ("1kb", 1024), ("7", 7), ("", 0)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert Settings.from_environment({"TOWPATH_MEMORY": text}).memory_bytes == size


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TOWPATH_MEMORY", "much"),
        ("TOWPATH_MEMORY", "-1"),
        ("TOWPATH_PROCESSES", "1.5"),
        ("TOWPATH_OPEN_FILES", "-3"),
        ("TOWPATH_EXEC_SECONDS", "nan"),
        ("TOWPATH_EXEC_SECONDS", "inf"),
    ],
)
def test_a_limit_that_is_no_number_is_named(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Settings.from_environment({name: text})
