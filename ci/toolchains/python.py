"""Python repositories: what their files say, and what that means for tools. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from ci.errors import ConfigError
from ci.toolchains import locks, poetry, setuptools
from ci.toolchains.locks import TOML_LOCKS, Lock

__all__ = ["MARKERS", "Needs", "PythonProject", "describe", "is_python", "is_read"]

#: Files of which one makes a folder a Python repository.
MARKERS = ("pyproject.toml", "setup.py", "setup.cfg")
#: Versions that images are named after: the first that the project allows is used.
_PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.10", "3.9", "3.8")
#: Extras and dependency groups that tests are likely to need.
_TEST_GROUPS = ("test", "tests", "testing", "dev", "develop", "development", "typing", "types")
#: Requirements of the project, and of its development.
_LOCKS = ("requirements.lock", "requirements.txt")
_DEV = tuple(
    f"{stem}{end}"
    for end in (".lock", ".txt")
    for stem in (
        "requirements-dev", "requirements_dev", "dev-requirements", "requirements-test",
        "requirements_test", "requirements-tests", "test-requirements", "requirements/dev",
        "requirements/test", "requirements/tests",
    )
)  # fmt: skip
#: What may be a requirements file, or be included by one.
_REQUIREMENTS = re.compile(
    r"([\w.-]*(requirements|constraints)[\w.-]*|requirements/[\w.-]+)\.(txt|lock|in)"
)
#: A tool's own configuration file.
_TOOL_FILES = {
    "ruff.toml": "ruff",
    ".ruff.toml": "ruff",
    "mypy.ini": "mypy",
    ".mypy.ini": "mypy",
    "pytest.ini": "pytest",
    ".coveragerc": "coverage",
}
_SECTIONS = {
    "mypy": "mypy",
    "tool:pytest": "pytest",
    "coverage:run": "coverage",
    "coverage:report": "coverage",
}


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What is installed beside a project, in this order."""

    #: Requirements files of the repository, by their keys in ``PythonProject.requirements_files``.
    files: tuple[str, ...] = ()
    #: Requirements as PEP 508 says them.
    requirements: tuple[str, ...] = ()
    #: Pins the requirements.
    lock: Lock | None = None


@dataclass(frozen=True, kw_only=True)
class PythonProject:
    """What a Python repository says of itself."""

    name: str = ""
    #: Empty where only the build backend knows it.
    version: str = ""
    description: str = ""
    #: Of the image that it is built on and tested with: ``3.11``.
    python: str = _PYTHONS[0]
    #: What it needs to run, and what its tests need, that included.
    runtime: Needs = field(default_factory=Needs)
    development: Needs = field(default_factory=Needs)
    #: Text by path of the requirements files, less the lines that ask for the repository itself.
    requirements_files: Mapping[str, str] = field(default_factory=dict)
    build_requires: tuple[str, ...] = ()
    #: Extras that tests are likely to need.
    test_extras: tuple[str, ...] = ()
    #: pip can build it: there is a pyproject.toml with a project, or a setup.py.
    installable: bool = False
    #: Its dependencies can be known only by running its build backend.
    dynamic: bool = False
    #: Its build backend asks git for the version.
    versioned_by_git: bool = False
    #: Names of the commands that it installs.
    scripts: tuple[str, ...] = ()
    #: Tables of [tool] in pyproject.toml, and other tools' own files.
    tools: frozenset[str] = field(default_factory=frozenset)
    #: Of [tool.black]; 0: its default.
    line_length: int = 0
    #: pytest is configured to measure coverage itself.
    measures_coverage: bool = False

    def uses(self, *tools: str) -> bool:
        """One of these is configured in the repository."""
        return any(tool in self.tools for tool in tools)

    def pinned(self, tool: str) -> str:
        """The version of a tool that the repository's lock files pin; empty: none."""
        return self.development.lock.version(tool) if self.development.lock else ""

    def requires(self, tool: str) -> bool:
        """The repository names it among what it needs for development."""
        name = canonicalize_name(tool)
        named = map(_requirement, self.development.requirements)
        return bool(self.pinned(tool)) or any(
            each is not None and canonicalize_name(each.name) == name for each in named
        )

    def allows(self, tool: str, version: str) -> bool:
        """Whether no declared requirement excludes this version of a tool."""
        name = canonicalize_name(tool)
        return all(
            requirement.specifier.contains(version, prereleases=True)
            for requirement in map(_requirement, self.development.requirements)
            if requirement and canonicalize_name(requirement.name) == name
        )


def is_python(entries: Collection[str]) -> bool:
    """The top folder is a Python repository's."""
    return any(
        name in MARKERS or name.endswith(".py") or re.fullmatch(r"requirements.*\.(txt|lock)", name)
        for name in entries
    )


def is_read(path: str) -> bool:
    """``describe`` wants the text of this file."""
    known = (*MARKERS, *TOML_LOCKS, "pytest.ini", "tox.ini")
    return path in known or bool(_REQUIREMENTS.fullmatch(path))


def describe(entries: Collection[str], texts: Mapping[str, str]) -> PythonProject:
    """The project whose top folder has these entries.

    Args:
        entries: Names in the top folder.
        texts: Text by path of every file for which ``is_read`` holds.

    Raises:
        ConfigError: pyproject.toml or a lock file is not of its format.
    """
    data = _toml(texts.get("pyproject.toml", ""))
    project: Mapping[str, Any] = data.get("project", {})
    tool: Mapping[str, Any] = data.get("tool", {})
    own = tool.get("poetry", {})
    setup = setuptools.read(script=texts.get("setup.py", ""), cfg=texts.get("setup.cfg", ""))
    builds = "build-system" in data or bool(project) or "setup.py" in entries
    installable = builds and own.get("package-mode", True) is not False
    build_requires = tuple(data.get("build-system", {}).get("requires", ("setuptools", "wheel")))
    declared = _declared(data)
    extras = {*project.get("optional-dependencies", ()), *setup.extras}
    runtime = _runtime(declared, texts, installable=installable)
    return PythonProject(
        name=str(project.get("name") or own.get("name") or setup.name),
        version=str(project.get("version") or own.get("version") or setup.version),
        description=str(project.get("description") or own.get("description") or ""),
        python=_python(_requires_python(project, own) or setup.python_requires),
        runtime=runtime,
        development=_development(runtime, _test_requirements(data), texts),
        requirements_files={
            path: locks.without_local(text)
            for path, text in sorted(texts.items())
            if _REQUIREMENTS.fullmatch(path)
        },
        build_requires=build_requires,
        test_extras=tuple(name for name in _TEST_GROUPS if name in extras),
        installable=installable,
        dynamic=installable and declared is None,
        versioned_by_git=installable
        and any(re.search(r"scm|hatch-vcs|versioningit|dunamai", each) for each in build_requires),
        scripts=tuple(
            {**project.get("scripts", {}), **own.get("scripts", {}), **dict.fromkeys(setup.scripts)}
        ),
        tools=_tools(entries, tool, texts),
        line_length=int(tool.get("black", {}).get("line-length", 0)),
        measures_coverage=any(
            "--cov" in texts.get(name, "")
            for name in ("pyproject.toml", "setup.cfg", "pytest.ini", "tox.ini")
        ),
    )


# -- what it needs --------------------------------------------------------------------------------


def _declared(data: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The dependencies that pyproject.toml tells; None where only the build backend knows them."""
    project = data.get("project")
    own = data.get("tool", {}).get("poetry", {})
    if project is not None and "dependencies" not in project.get("dynamic", ()):
        return tuple(project.get("dependencies", ()))
    if "dependencies" in own:
        return poetry.requirements(own["dependencies"])
    return None


def _runtime(
    declared: tuple[str, ...] | None, texts: Mapping[str, str], *, installable: bool
) -> Needs:
    """A requirements file is a lock where it pins all that is declared; else it is what it says."""
    for file in _LOCKS:
        lock = locks.parse(file, texts[file]) if file in texts else None
        if lock and (not installable or (lock.complete and lock.covers(declared or ()))):
            return Needs(files=(file,), lock=lock if lock.complete else None)
    for file in TOML_LOCKS:
        if file in texts:
            return Needs(requirements=declared or (), lock=locks.parse(file, texts[file]))
    return Needs(requirements=declared or ())


def _development(runtime: Needs, wanted: tuple[str, ...], texts: Mapping[str, str]) -> Needs:
    """A lock file with development tools as it is; else the plain one and what tests ask for."""
    for file in _DEV:
        if file not in texts:
            continue
        lock = locks.parse(file, texts[file])
        if not lock.complete:
            files = (*runtime.files, file)
            return Needs(files=files, requirements=runtime.requirements, lock=runtime.lock)
        held = {pin.name for pin in lock.pins}
        if {pin.name for pin in runtime.lock.pins} <= held if runtime.lock else not runtime.files:
            missing = tuple(r for r in runtime.requirements if not lock.covers([r]))
            return Needs(files=(file,), requirements=missing, lock=lock)
        return Needs(files=(*runtime.files, file), requirements=runtime.requirements, lock=lock)
    return Needs(
        files=runtime.files,
        requirements=tuple(dict.fromkeys((*runtime.requirements, *wanted))),
        lock=runtime.lock,
    )


def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _test_requirements(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the extras and dependency groups for tests (PEP 735, Poetry's), includes resolved."""
    project = data.get("project", {})
    own = data.get("tool", {}).get("poetry", {})
    extras = project.get("optional-dependencies", {})
    found: list[str] = [*poetry.requirements(own.get("dev-dependencies", {}))]
    for name in _TEST_GROUPS:
        found += _extra(str(project.get("name", "")), extras, name, ())
        found += _group(data.get("dependency-groups", {}), name, ())
        found += poetry.requirements(own.get("group", {}).get(name, {}).get("dependencies", {}))
    return tuple(dict.fromkeys(found))


def _extra(
    project: str, extras: Mapping[str, list[str]], name: str, seen: tuple[str, ...]
) -> list[str]:
    """Requirements of an extra; ``project[other]`` in it stands for those of another."""
    found: list[str] = []
    for item in extras.get(name, []) if name not in seen else []:
        requirement = _requirement(item)
        if requirement and canonicalize_name(requirement.name) == canonicalize_name(project):
            for other in sorted(requirement.extras):
                found += _extra(project, extras, other, (*seen, name))
        else:
            found.append(item)
    return found


def _group(groups: Mapping[str, list[Any]], name: str, seen: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for item in groups.get(name, []) if name not in seen else []:
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict) and "include-group" in item:
            found += _group(groups, str(item["include-group"]), (*seen, name))
    return found


# -- what its files say ---------------------------------------------------------------------------


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("pyproject.toml", got=str(error), expected="TOML 1.0") from None


def _requires_python(project: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    said = own.get("dependencies", {}).get("python", "")
    return str(
        project.get("requires-python")
        or (poetry.specifier(said) if isinstance(said, str) and said else "")
    )


def _python(specifier: str) -> str:
    """The first version that the specifier allows in some patch release."""
    try:
        allowed = SpecifierSet(specifier)
    except InvalidSpecifier:
        return _PYTHONS[0]
    return next((v for v in _PYTHONS if allowed.contains(f"{v}.99")), _PYTHONS[0])


def _tools(
    entries: Collection[str], tool: Mapping[str, Any], texts: Mapping[str, str]
) -> frozenset[str]:
    files = {found for name, found in _TOOL_FILES.items() if name in entries}
    sections = {
        found for name, found in _SECTIONS.items() if f"[{name}" in texts.get("setup.cfg", "")
    }
    return frozenset(tool) | files | sections
