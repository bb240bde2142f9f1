"""What setup.cfg and setup.py say of a project, as far as their text says it outright. Pure."""

from __future__ import annotations

import ast
from configparser import ConfigParser, Error
from dataclasses import dataclass

__all__ = ["Setup", "read"]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What stands in pyproject.toml elsewhere; empty: not said, or known only to the program."""

    name: str = ""
    version: str = ""
    python_requires: str = ""
    #: Names of the commands that it installs.
    scripts: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()


def read(*, script: str, cfg: str) -> Setup:
    """Of the texts of setup.py and setup.cfg; where both say it, what setup.cfg says."""
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(cfg)
    except Error:  # whatever builds by it will say so
        parser = ConfigParser(interpolation=None)
    passed = _passed(script)

    def said(section: str, name: str) -> str:
        text = parser.get(section, name, fallback="")
        return passed.get(name, "") if not text or text.startswith(("attr:", "file:")) else text

    commands = parser.get("options.entry_points", "console_scripts", fallback="").splitlines()
    extras = "options.extras_require"
    return Setup(
        name=said("metadata", "name"),
        version=said("metadata", "version"),
        python_requires=said("options", "python_requires"),
        scripts=tuple(line.partition("=")[0].strip() for line in commands if "=" in line),
        extras=tuple(parser[extras]) if parser.has_section(extras) else (),
    )


def _passed(script: str) -> dict[str, str]:
    """The keyword arguments of ``setup()`` that are texts."""
    try:
        tree = ast.parse(script)
    except (SyntaxError, ValueError):
        return {}
    return {
        keyword.arg: keyword.value.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == "setup"
        for keyword in call.keywords
        if keyword.arg is not None
        and isinstance(keyword.value, ast.Constant)
        and isinstance(keyword.value.value, str)
    }
