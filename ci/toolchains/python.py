"""Python repositories: what their files say, and what that means for tools. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ci.errors import ConfigError

__all__ = ["MARKERS", "PythonProject", "describe", "is_python"]

#: Files of which one makes a folder a Python repository.
MARKERS = ("pyproject.toml", "setup.py", "setup.cfg")
_DEFAULT_PYTHON = "3.11"
#: Newest first: the versions that images are named after.
_PYTHONS = ("3.14", "3.13", "3.12", "3.11", "3.10", "3.9")
#: Extras and dependency groups that tests are likely to need.
_TEST_GROUPS = ("test", "tests", "testing", "dev", "develop", "development")
#: Whole sets of pins, development tools included; the first that is there is used.
_DEV_LOCKS = ("requirements-dev.lock", "requirements-dev.txt", "dev-requirements.txt")
_LOCKS = ("requirements.lock", "requirements.txt")


@dataclass(frozen=True, kw_only=True)
class PythonProject:
    """What a Python repository says of itself."""

    name: str = ""
    version: str = ""
    #: Of the image that it is built on and tested with: ``3.11``.
    python: str = _DEFAULT_PYTHON
    #: Files of the top folder that say what it depends on.
    files: tuple[str, ...] = ()
    #: Pins of what it needs to run, and of that and its development tools; empty: none.
    lock: str = ""
    dev_lock: str = ""
    #: As pyproject.toml says them; both empty where setup.py does.
    dependencies: tuple[str, ...] = ()
    test_dependencies: tuple[str, ...] = ()
    build_requires: tuple[str, ...] = ()
    #: Extras that tests are likely to need.
    test_extras: tuple[str, ...] = ()
    #: pip can build it: there is a pyproject.toml with a project, or a setup.py.
    installable: bool = False
    #: Its dependencies can be known only by running its build backend.
    dynamic: bool = False
    #: Names of the commands that it installs.
    scripts: tuple[str, ...] = ()
    #: Tables of [tool] in pyproject.toml, and other tools' own files.
    tools: frozenset[str] = field(default_factory=frozenset)

    def uses(self, *tools: str) -> bool:
        """One of these is configured in the repository."""
        return any(tool in self.tools for tool in tools)


def is_python(entries: Collection[str]) -> bool:
    """The top folder is a Python repository's."""
    return any(
        name in MARKERS or name.endswith(".py") or re.fullmatch(r"requirements.*\.(txt|lock)", name)
        for name in entries
    )


def describe(entries: Collection[str], pyproject: str = "") -> PythonProject:
    """The project whose top folder has these entries, and this pyproject.toml.

    Raises:
        ConfigError: pyproject.toml is no TOML.
    """
    try:
        data = tomllib.loads(pyproject)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("pyproject.toml", got=str(error), expected="TOML 1.0") from None
    project: Mapping[str, Any] = data.get("project", {})
    extras: Mapping[str, list[str]] = project.get("optional-dependencies", {})
    test_extras = tuple(name for name in _TEST_GROUPS if name in extras)
    dynamic = not project or "dependencies" in project.get("dynamic", ())
    installable = "setup.py" in entries or bool(project) or "build-system" in data
    return PythonProject(
        name=str(project.get("name", "")),
        version=str(project.get("version", "")),
        python=_python(str(project.get("requires-python", ""))),
        files=tuple(sorted(set(entries) & {*MARKERS, *_LOCKS, *_DEV_LOCKS})),
        lock=_first(_LOCKS, entries),
        dev_lock=_first(_DEV_LOCKS, entries),
        dependencies=tuple(project.get("dependencies", ())),
        test_dependencies=_test_dependencies(extras, data.get("dependency-groups", {})),
        build_requires=tuple(data.get("build-system", {}).get("requires", ["setuptools", "wheel"])),
        test_extras=test_extras,
        installable=installable,
        dynamic=installable and dynamic,
        scripts=tuple(project.get("scripts", {})),
        tools=frozenset(data.get("tool", {})) | _tool_files(entries),
    )


def _python(specifier: str) -> str:
    """The lowest version that ``requires-python`` allows, as a team that says so tests it."""
    if exact := re.search(r"[=~]=\s*(3\.\d+)", specifier):
        return exact[1]
    lowest = re.search(r">=\s*(3\.\d+)", specifier)
    if lowest and lowest[1] in _PYTHONS and _order(lowest[1]) > _order(_DEFAULT_PYTHON):
        return lowest[1]
    below = re.search(r"<\s*(3\.\d+)", specifier)
    if below and _order(below[1]) <= _order(_DEFAULT_PYTHON):
        return next((one for one in _PYTHONS if _order(one) < _order(below[1])), _DEFAULT_PYTHON)
    return _DEFAULT_PYTHON


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _first(names: Collection[str], entries: Collection[str]) -> str:
    return next((name for name in names if name in entries), "")


def _test_dependencies(
    extras: Mapping[str, list[str]], groups: Mapping[str, list[Any]]
) -> tuple[str, ...]:
    """Requirements of the extras and dependency groups (PEP 735) for tests, includes resolved."""
    found: list[str] = []
    for name in _TEST_GROUPS:
        found += extras.get(name, [])
        found += _group(groups, name, ())
    return tuple(dict.fromkeys(found))


def _group(groups: Mapping[str, list[Any]], name: str, seen: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for item in groups.get(name, []) if name not in seen else []:
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict) and "include-group" in item:
            found += _group(groups, str(item["include-group"]), (*seen, name))
    return found


def _tool_files(entries: Collection[str]) -> frozenset[str]:
    """Tools that have a configuration file of their own in the top folder."""
    files = {
        "ruff.toml": "ruff",
        ".ruff.toml": "ruff",
        "mypy.ini": "mypy",
        ".mypy.ini": "mypy",
        "pytest.ini": "pytest",
        ".coveragerc": "coverage",
    }
    return frozenset(tool for name, tool in files.items() if name in entries)
