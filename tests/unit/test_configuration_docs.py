"""docs/configuration.md tells of every key of ci.toml, and of its default."""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

from ci.config import Config, parse

PAGE = Path("docs/configuration.md").read_text()
ROWS = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|", PAGE, re.MULTILINE))
#: What a key of the user's own choice is called on the page, by the table that it is in.
CHOSEN = {"stages": "NAME", "environments": "NAME", "services": "VARIABLE"}


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every key below a section, with its default."""
    for name, field in model.model_fields.items():
        key = prefix + name
        kind = field.annotation
        inner = [each for each in typing.get_args(kind) if isinstance(each, type)]
        section = next((each for each in inner if issubclass(each, BaseModel)), None)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys(kind, f"{key}.")
        elif section is None or prefix:
            yield key, field.default
        elif typing.get_origin(kind) is tuple:
            yield from keys(section, f"{key}.")
        else:
            assert issubclass(typing.get_origin(kind) or object, Mapping)
            yield from keys(section, f"{key}.{CHOSEN[name]}.")


def test_every_key_is_told_and_no_other():
    assert sorted(ROWS) == sorted(key for key, _ in keys(Config))


def test_the_defaults_told_are_the_defaults():
    defaults = dict(keys(Config))
    told = {
        key: tomllib.loads(f"it = {found[1]}")["it"]
        for key, said in ROWS.items()
        if (found := re.match(r"`(.*?)`", said)) and not key.startswith("stages.")
    }
    assert len(told) > 20
    for key, value in told.items():
        default = defaults[key]
        assert value == (list(default) if isinstance(default, tuple) else default), key


def test_every_configuration_shown_is_valid():
    blocks = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        parse(block)
