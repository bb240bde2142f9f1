"""ci.toml: what it may say, and what is said of what it may not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ci.config import Config, parse, read
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[engine]\nmemory = "much"',
            r"ci.toml:2: engine.memory: got 'much'; expected a size, as ",
        ),
        ('[engine]\nmemory = "10%"', r"ci.toml:2: engine.memory: got '10%'; expected a size, as "),
        ("[engine]\nmemory = -1", r"ci.toml:2: engine.memory: got -1; expected greater than or "),
        (
            "[engine]\nprocesses = 1.5",
            r"ci.toml:2: engine.processes: got 1.5; expected a valid int",
        ),
        (
            "[engine]\nexec_seconds = inf",
            r"ci.toml:2: engine.exec_seconds: got inf; expected a fin",
        ),
        ("[engine]\nopen_file = 1", r"ci.toml:2: engine.open_file: .*did you mean 'open_files'\?"),
    ],
)
def test_a_limit_that_is_none_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert re.match(message, str(caught.value), re.DOTALL), str(caught.value)


def test_a_folder_without_the_file_has_the_default_configuration(tmp_path: Path) -> None:
    assert read(tmp_path) == Config()
    (tmp_path / "ci.toml").write_text('[engine]\nmemory = "1.5GiB"')
    assert read(tmp_path).engine.memory == 3 << 29


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "ci.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"ci\.toml: got .*; expected TOML 1\.0, in UTF-8"):
        read(tmp_path)
