"""What the environment says of the machine: values, defaults, and what is said of a wrong one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ci import config, embedded
from ci.engine.sandbox.limits import Limits
from ci.errors import ConfigError
from ci.settings import VARIABLES, Settings

ROOT = Path(__file__).parents[2]
#: Not the user's to set: what the engine and the stages give to their own commands.
OWN = {"TOWPATH_OWNER", "TOWPATH_BUILD", "TOWPATH_SLOT", "TOWPATH_DATABASE"}


class Asked(Mapping[str, str]):
    """An empty environment that notes what is asked of it."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_nothing_said_is_the_xdg_folders_and_no_limits() -> None:
    settings = Settings.from_environment({"HOME": "/home/a", "XDG_STATE_HOME": "/state"})
    assert settings == Settings(
        cache=Path("/home/a/.cache/towpath"), state=Path("/state/towpath"), cache_max=20 << 30
    )
    assert settings == Settings.from_environment(
        {"HOME": "/home/a", "XDG_STATE_HOME": "/state", **dict.fromkeys(VARIABLES, " ")}
    )


def test_each_variable_is_read_into_its_value() -> None:
    environ = {
        "TOWPATH_CACHE": "/c",
        "TOWPATH_CACHE_MAX": "1.5 G",
        "TOWPATH_STATE": "/s",
        "TOWPATH_MEMORY": "2GiB",
        "TOWPATH_PROCESSES": "512",
        "TOWPATH_OPEN_FILES": "0",
        "TOWPATH_EXEC_SECONDS": "0.5",
        "TOWPATH_IMAGE_SOURCES": "registry, store",
        "TOWPATH_NO_STAND_IN_FOR": "python:*, ,debian:*",
        "TOWPATH_REGISTRY_MIRRORS": "docker.io=https://a.test/x, docker.io=b.test,ghcr.io=c.test",
        "TOWPATH_DEBIAN_MIRROR": "https://v.test/debian",
        "CI": "true",
        "NO_COLOR": "1",
    }
    assert environ.keys() >= VARIABLES.keys()
    assert Settings.from_environment(environ) == Settings(
        cache=Path("/c"),
        cache_max=3 << 29,
        state=Path("/s"),
        memory_bytes=2 << 30,
        processes=512,
        open_files=0,
        exec_seconds=0.5,
        image_sources=("registry", "store"),
        no_stand_in_for=("python:*", "debian:*"),
        registry_mirrors={"docker.io": ["https://a.test/x", "b.test"], "ghcr.io": ["c.test"]},
        debian_mirror="https://v.test/debian",
        no_color=True,
        in_ci=True,
    )


@pytest.mark.parametrize(
    ("name", "text", "got"),
    [
        ("TOWPATH_MEMORY", "much", "much"),
        ("TOWPATH_MEMORY", "-1", "-1"),
        ("TOWPATH_MEMORY", "10%", "10%"),
        ("TOWPATH_MEMORY", "9999999P", "9999999P"),
        ("TOWPATH_PROCESSES", "1.5", "1.5"),
        ("TOWPATH_PROCESSES", "1" + "0" * 30, "1" + "0" * 30),
        ("TOWPATH_OPEN_FILES", "-3", "-3"),
        ("TOWPATH_EXEC_SECONDS", "soon", "soon"),
        ("TOWPATH_EXEC_SECONDS", "nan", "nan"),
        ("TOWPATH_EXEC_SECONDS", "inf", "inf"),
        ("TOWPATH_CACHE_MAX", "most", "most"),
        ("TOWPATH_CACHE_MAX", "101%", "101%"),
        ("TOWPATH_CACHE_MAX", "nan%", "nan%"),
        ("TOWPATH_IMAGE_SOURCES", "store,nowhere", "nowhere"),
        ("TOWPATH_REGISTRY_MIRRORS", "docker.io=a.test,b.test", "b.test"),
    ],
)
def test_what_is_wrong_is_told_with_what_is_expected(name: str, text: str, got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_environment({name: text})
    expected, hint = VARIABLES[name]
    assert str(caught.value) == f"{name}: got {got!r}; expected {expected}\nhint: {hint}"


def test_the_store_may_be_without_bound_or_bound_to_a_part_of_its_disk(tmp_path: Path) -> None:
    def bound(text: str) -> int | None:
        environ = {"TOWPATH_CACHE": str(tmp_path / "not/there"), "TOWPATH_CACHE_MAX": text}
        return Settings.from_environment(environ).cache_max

    total = shutil.disk_usage(tmp_path).total
    assert bound("None") is None
    assert bound("50%") == total // 2
    assert bound("12.5 %") == total // 8
    assert bound("0%") == 0


def test_a_limit_of_the_environment_wins_over_that_of_the_repository() -> None:
    section = config.parse(
        '[engine]\nmemory = "1GiB"\nprocesses = 7\nopen_files = 9\nexec_seconds = 1.5'
    ).engine
    nothing = Settings.from_environment({})
    ours = embedded.limits(nothing, section)
    assert (ours.memory_bytes, ours.processes, ours.open_files) == (1 << 30, 7, 9)
    assert ours.seconds == 1.5
    environ = {"TOWPATH_MEMORY": "0", "TOWPATH_PROCESSES": "8", "TOWPATH_EXEC_SECONDS": "2"}
    theirs = embedded.limits(Settings.from_environment(environ), section)
    assert (theirs.memory_bytes, theirs.processes, theirs.open_files) == (0, 8, 9)
    assert theirs.seconds == 2
    assert embedded.limits(nothing, config.parse("").engine) == Limits()


def test_the_readme_tells_all_variables_that_are_read_and_messages_name_no_other() -> None:
    asked = Asked()
    Settings.from_environment(asked)
    assert {name for name in asked.names if name.startswith("TOWPATH_")} == VARIABLES.keys()
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("| variable |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(TOWPATH_\w+)`", table)) == VARIABLES.keys()
    named = set()
    for path in (ROOT / "ci").rglob("*.py"):
        named |= set(re.findall(r"\bTOWPATH_[A-Z_]+\b", path.read_text()))
    assert named - OWN == VARIABLES.keys()
