"""Lock files of Python, read without any scanner: what they pin, and whether that is all.

Formats: https://pip.pypa.io/en/stable/reference/requirements-file-format/, poetry.lock, uv.lock,
Pipfile.lock, and pylock.toml of https://packaging.python.org/en/latest/specifications/pylock-toml/.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Self

from ci.errors import StageFailed

__all__ = ["PATTERNS", "Lock", "canonical", "is_lock", "parse"]

#: Where lock files are looked for, as patterns of a folder's files.
PATTERNS = (
    "**/requirements*.txt", "**/requirements*.lock", "**/requirements/*.txt", "**/poetry.lock",
    "**/uv.lock", "**/Pipfile.lock", "**/pylock.toml", "**/pylock.*.toml",
)  # fmt: skip
_PATH = re.compile(
    r"(?:^|/)(?:requirements[^/]*\.(?:txt|lock)|requirements/[^/]+\.txt|poetry\.lock|uv\.lock"
    r"|Pipfile\.lock|pylock\.(?:[^/]+\.)?toml)$"
)
_PIN = re.compile(r"([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*==\s*([\w.!+-]+)$")
#: Lines that say how to install and not what.
_OPTION = re.compile(
    r"(?:-i|-f|--index-url|--extra-index-url|--find-links|--no-index|--no-binary|--only-binary"
    r"|--prefer-binary|--require-hashes|--trusted-host|--use-feature)(?:[\s=]|$)"
)
#: What Trivy reads in full. Of Pipfile.lock it leaves out the development packages.
_OF_TYPE = {"poetry.lock": "poetry", "uv.lock": "uv"}


@dataclass(frozen=True, kw_only=True)
class Lock:
    """One lock file."""

    path: str
    #: Trivy's name of the format; ``pip`` for requirements and for what Trivy does not read.
    type: str
    text: str
    #: (canonical name, version), sorted.
    packages: tuple[tuple[str, str], ...]
    #: Lines that leave open what is installed.
    unpinned: tuple[str, ...] = ()

    @classmethod
    def of_pins(
        cls, path: str, packages: Iterable[tuple[str, str]], *, unpinned: tuple[str, ...] = ()
    ) -> Self:
        """A requirements file with just these pins."""
        pins = tuple(sorted({*packages}))
        text = "".join(f"{name}=={version}\n" for name, version in pins)
        return cls(path=path, type="pip", text=text, packages=pins, unpinned=unpinned)


def is_lock(path: str) -> bool:
    """Whether a file of this path is a lock file; ``PATTERNS`` match these and no others."""
    return bool(_PATH.search(path))


def canonical(name: str) -> str:
    """A project's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse(path: str, text: str) -> Lock:
    """Read a lock file of any of the formats, told apart by its name.

    Raises:
        StageFailed: it is malformed.
    """
    name = PurePosixPath(path).name
    try:
        if name.endswith((".txt", "requirements.lock")) or name.startswith("requirements"):
            return _requirements(path, text)
        found = _pipfile(json.loads(text)) if name == "Pipfile.lock" else _toml(tomllib.loads(text))
        packages = tuple(sorted({(canonical(n), version) for n, version in found}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        got = f"{type(error).__name__}: {error}"
        raise StageFailed(path, got=got, expected="a lock file") from error
    if name not in _OF_TYPE:
        return Lock.of_pins(path, packages)
    return Lock(path=path, type=_OF_TYPE[name], text=text, packages=packages)


def _requirements(path: str, text: str) -> Lock:
    packages, unpinned = set(), []
    for line in _logical(text):
        requirement = re.split(r"\s--hash|;", line, maxsplit=1)[0].strip()
        if pin := _PIN.fullmatch(requirement):
            packages.add((canonical(pin[1]), pin[2]))
        elif not _OPTION.match(line):
            unpinned.append(line)
    return Lock(
        path=path,
        type="pip",
        text=text,
        packages=tuple(sorted(packages)),
        unpinned=tuple(unpinned),
    )


def _logical(text: str) -> Iterator[str]:
    """Lines with their continuations, without comments."""
    for line in text.replace("\r\n", "\n").replace("\\\n", " ").split("\n"):
        if bare := re.sub(r"(?:^|\s)#.*", "", line).strip():
            yield bare


def _pipfile(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for section in ("default", "develop"):
        for name, entry in document.get(section, {}).items():
            if version := entry.get("version"):
                yield name, version.removeprefix("==")


def _toml(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Packages of poetry.lock, uv.lock and pylock.toml; not the repository's own projects."""
    for entry in document.get("packages", document.get("package", [])):
        own = {"editable", "virtual"} & {*entry.get("source", {})} or "directory" in entry
        if not own and entry.get("version"):
            yield entry["name"], entry["version"]
