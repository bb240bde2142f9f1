"""Lock files of Python projects: which version of each package they pin. Pure.

Sources: https://pip.pypa.io/en/stable/reference/requirements-file-format/,
https://packaging.python.org/en/latest/specifications/pylock-toml/, and the files that uv, Poetry
and PDM write.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ci.errors import ConfigError

__all__ = ["TOML_LOCKS", "Lock", "Pin", "parse", "without_local"]

#: Lock files in TOML, first the one that is taken where there are several.
TOML_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml")

_HASH = re.compile(r"--hash[= ](\S+)")
_COMMENT = re.compile(r"(^|\s)#.*$")
#: ``-e .``, ``.``, ``./folder[extra]``: the project itself, or another in the repository.
_LOCAL = re.compile(r"^(-e\s|--editable[\s=]|\.|file:)")


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One version of one package."""

    #: Normalised: lower case, dashes.
    name: str
    version: str
    #: When it holds, as PEP 508 says it; empty: always.
    marker: str = ""
    #: ``sha256:...``, sorted.
    hashes: tuple[str, ...] = ()

    def line(self) -> str:
        """The pin as a line of a requirements file."""
        marker = f" ; {self.marker}" if self.marker else ""
        hashes = "".join(f" --hash={each}" for each in self.hashes)
        return f"{self.name}=={self.version}{marker}{hashes}"


@dataclass(frozen=True, kw_only=True)
class Lock:
    """What a lock file, or a requirements file, pins."""

    file: str
    pins: tuple[Pin, ...] = ()
    #: Requirements that name no single version.
    unpinned: tuple[str, ...] = ()
    #: Other files that it includes with ``-r`` or ``-c``.
    includes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Every requirement is pinned, and there is one at least."""
        return bool(self.pins) and not self.unpinned and not self.includes

    @property
    def hashed(self) -> bool:
        """Every pin has a hash."""
        return bool(self.pins) and all(pin.hashes for pin in self.pins)

    def version(self, name: str) -> str:
        """The version that is pinned for a package; empty where none or several are."""
        found = {pin.version for pin in self.pins if pin.name == canonicalize_name(name)}
        return found.pop() if len(found) == 1 else ""

    def covers(self, requirements: Iterable[str]) -> bool:
        """It pins each of these requirements."""
        held = {pin.name for pin in self.pins}
        named = re.compile(r"\s*([A-Za-z0-9][\w.-]*)")
        found = [named.match(requirement) for requirement in requirements]
        return all(name is not None and canonicalize_name(name[1]) in held for name in found)

    def constraints(self, *, hashed: bool) -> str:
        """The pins as a requirements file, with hashes if asked for and all have them.

        pip then refuses whatever the file does not pin.
        """
        pins = self.pins if hashed and self.hashed else [_without_hashes(pin) for pin in self.pins]
        return "".join(f"{pin.line()}\n" for pin in pins)


def parse(file: str, text: str) -> Lock:
    """The lock in ``text``; the format is told from the name of the file.

    Raises:
        ConfigError: it is not of that format.
    """
    if not file.endswith((".toml", "uv.lock", "poetry.lock", "pdm.lock")):
        return _requirements(file, text)
    try:
        data = tomllib.loads(text)
        pins = tuple(_packages(data))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(file, got=repr(error), expected="a lock file in TOML") from None
    return Lock(file=file, pins=tuple(sorted(pins, key=lambda p: (p.name, p.version, p.marker))))


def without_local(text: str) -> str:
    """A requirements file less its lines that ask for the repository itself."""
    return "".join(
        line for line in text.splitlines(keepends=True) if not _LOCAL.match(line.strip())
    )


def _packages(data: Mapping[str, Any]) -> Iterator[Pin]:
    """Packages of uv.lock, poetry.lock and pdm.lock (``package``) or pylock.toml (``packages``)."""
    for package in [*data.get("package", ()), *data.get("packages", ())]:
        if not package.get("version") or not _from_index(package):
            continue
        files = [*package.get("files", ()), *package.get("wheels", ())]
        files += [package["sdist"]] if package.get("sdist") else []
        yield Pin(
            name=canonicalize_name(package["name"]),
            version=str(package["version"]),
            marker=_marker(package),
            hashes=tuple(sorted({h for each in files for h in _hashes(each)})),
        )


def _from_index(package: Mapping[str, Any]) -> bool:
    """It is from a package index: not the project itself, a folder, a repository, a URL."""
    source = package.get("source", {})
    if {"directory", "vcs", "archive"} & {*package}:
        return False
    return not source or "registry" in source or source.get("type") == "legacy"


def _marker(package: Mapping[str, Any]) -> str:
    """When a package of a lock file holds: a fork of uv's, or Poetry 2's and PDM's marker."""
    forks = package.get("resolution-markers")
    if forks:
        return " or ".join(f"({fork})" for fork in forks)
    marker = package.get("marker", package.get("markers", ""))
    return marker if isinstance(marker, str) else ""


def _hashes(file: Mapping[str, Any]) -> Iterator[str]:
    if "hash" in file:
        yield str(file["hash"])
    for algorithm, value in file.get("hashes", {}).items():
        yield f"{algorithm}:{value}"


def _requirements(file: str, text: str) -> Lock:
    pins: list[Pin] = []
    unpinned: list[str] = []
    includes: list[str] = []
    for line in _logical_lines(text):
        include = re.match(r"(-r|-c|--requirement|--constraint)[\s=]*(\S+)", line)
        if include:
            includes.append(include[2])
        elif _LOCAL.match(line) or line.startswith("-"):
            continue
        elif pin := _pin(line):
            pins.append(pin)
        else:
            unpinned.append(_HASH.sub("", line).strip())
    return Lock(file=file, pins=tuple(pins), unpinned=tuple(unpinned), includes=tuple(includes))


def _logical_lines(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        if stripped := _COMMENT.sub("", line).strip():
            yield stripped


def _pin(line: str) -> Pin | None:
    """The pin that a line is; None where it allows more than one version."""
    hashes = tuple(sorted(_HASH.findall(line)))
    try:
        requirement = Requirement(_HASH.sub("", line).strip())
    except InvalidRequirement:
        return None
    exact = [s for s in requirement.specifier if s.operator in ("==", "===")]
    if len(requirement.specifier) != 1 or not exact or exact[0].version.endswith(".*"):
        return None
    return Pin(
        name=canonicalize_name(requirement.name),
        version=exact[0].version,
        marker=str(requirement.marker) if requirement.marker else "",
        hashes=hashes,
    )


def _without_hashes(pin: Pin) -> Pin:
    return Pin(name=pin.name, version=pin.version, marker=pin.marker)
