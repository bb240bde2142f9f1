"""Poetry's own dependency tables as PEP 508 requirements. Pure.

Source: https://python-poetry.org/docs/dependency-specification/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["requirements", "specifier"]


def requirements(table: Mapping[str, Any]) -> tuple[str, ...]:
    """The requirements of a table such as ``[tool.poetry.dependencies]``, optional ones left out.

    Those from a path in the repository are left out too: pip cannot reach them before the code is
    there.
    """
    return tuple(found for name, said in table.items() for found in _requirements(name, said))


def _requirements(name: str, said: Any) -> Iterator[str]:  # noqa: ANN401 - any TOML value
    if name == "python":
        return
    for one in said if isinstance(said, list) else [said]:
        details: Mapping[str, Any] = one if isinstance(one, dict) else {"version": one}
        if details.get("optional") or "path" in details:
            continue
        extras = f"[{','.join(details['extras'])}]" if details.get("extras") else ""
        marker = f" ; {found}" if (found := _marker(details)) else ""
        if "url" in details or "git" in details:
            yield f"{name}{extras} @ {_location(details)}{marker}"
        else:
            yield f"{name}{extras}{specifier(str(details.get('version', '*')))}{marker}"


def _marker(details: Mapping[str, Any]) -> str:
    """Its ``markers``, and the interpreters that its ``python`` allows."""
    parts = [f"({details['markers']})"] if details.get("markers") else []
    for part in filter(None, specifier(str(details.get("python", ""))).split(",")):
        operator, version = re.findall(r"^([<>=!~]+)\s*(.*)$", part)[0]
        variable = "python_full_version" if version.count(".") > 1 else "python_version"
        parts.append(f"{variable} {operator} '{version}'")
    return " and ".join(parts)


def _location(details: Mapping[str, Any]) -> str:
    if "url" in details:
        return str(details["url"])
    at = next((details[key] for key in ("rev", "tag", "branch") if key in details), "")
    return f"git+{details['git']}" + (f"@{at}" if at else "")


def specifier(constraint: str) -> str:
    """``^1.2`` as ``>=1.2,<2``; what PEP 440 knows already stays."""
    parts = [part.strip() for part in constraint.rsplit("||", maxsplit=1)[-1].split(",")]
    return ",".join(found for part in parts if (found := _one(part)))


def _one(part: str) -> str:
    if part in ("", "*"):
        return ""
    if part[0] in "^~" and not part.startswith("~="):
        version = part[1:].strip()
        return f">={version},<{_next(version, caret=part[0] == '^')}"
    return part if part[0] in "<>=!~" else f"=={part}"


def _next(version: str, *, caret: bool) -> str:
    """The first version that is not compatible any more."""
    numbers = [int(number) for number in re.findall(r"\d+", version.split("-", maxsplit=1)[0])[:3]]
    if caret:
        significant = next((i for i, n in enumerate(numbers) if n), len(numbers) - 1)
    else:
        significant = min(1, len(numbers) - 1)
    return ".".join(str(n) for n in [*numbers[:significant], numbers[significant] + 1])
