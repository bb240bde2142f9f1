"""``report.html``: one run as one self-contained page, made from its record and nothing else."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FileSystemBytecodeCache, PackageLoader, StrictUndefined, Template
from jinja2.bccache import Bucket
from markupsafe import Markup

from ci.records import text
from ci.records.run import RunRecord
from ci.records.view import view

__all__ = ["render"]


def render(record: RunRecord) -> str:
    """The page. It asks for nothing from anywhere, and all that it shows is escaped."""
    return _template().render(page=view(record), run=record)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("ci.records", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=_bytecode(),
    )
    filters = (
        text.command_line,
        text.duration,
        text.moment,
        text.short_digest,
        text.size,
        text.web_address,
    )
    environment.filters.update({each.__name__: each for each in filters})
    # Our own two files, which go into the page as they are.
    style, script = _own("report.css"), _own("report.js")
    environment.globals.update(style=style, script=script, script_hash=_hash(script))
    return environment.get_template("report.html.j2")


class _Compiled(FileSystemBytecodeCache):
    """Keeps the compiled template; where it cannot be written, the page is made all the same."""

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Write it, or do not."""
        with suppress(OSError):
            super().dump_bytecode(bucket)


def _bytecode() -> _Compiled | None:
    """With the compiled modules, where Python keeps those."""
    folder = Path(__file__).with_name("__pycache__")
    if sys.dont_write_bytecode or not os.access(folder, os.W_OK):
        return None
    return _Compiled(str(folder))


def _finalize(value: object) -> object:
    """Every text of the record, less what acts on a terminal; ours (Markup) as it is."""
    return text.clean(value) if type(value) is str else value


def _own(name: str) -> Markup:
    return Markup(files("ci.records").joinpath(name).read_text("utf-8"))  # noqa: S704


def _hash(script: str) -> str:
    """What a Content-Security-Policy calls an inline script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
