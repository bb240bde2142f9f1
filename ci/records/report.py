"""``report.html``: one run as one self-contained page, made from its record and nothing else."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from ci.records.run import RunRecord

__all__ = ["render"]


def render(record: RunRecord) -> str:
    """The page. It asks for nothing from anywhere, and all that it shows is escaped."""
    return _template().render(run=record)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("ci.records", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")
