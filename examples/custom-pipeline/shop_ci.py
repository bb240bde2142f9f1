"""The pipeline of the shop: two stages of its own, one of Towpath's, one gate.

``ci pipeline`` runs it here without Docker, ``dagger call pipeline --source=.`` on a Dagger engine.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

import dagger
from ci import stages
from ci.flow import Evidence, Output, Pipeline, StageFailed, Status
from ci.gates import Statuses
from ci.values import Finding, Place, Severity
from dagger import dag, function, object_type

PYTHON = "python:3.11-slim-bookworm"


async def prices(source: dagger.Directory) -> Evidence:
    """Every price list can be read and has a sensible price on every line."""
    lists = await source.glob("prices/*.csv")
    if not lists:
        raise StageFailed("no price list", expected="prices/*.csv")
    findings = [
        finding
        for path in lists
        for finding in check_prices(path, await source.file(path).contents())
    ]
    return Evidence(
        stage="prices",
        status=Status.FAILED if findings else Status.PASSED,
        summary=f"{len(lists)} price lists, {len(findings)} with faults",
        findings=tuple(findings),
    )


async def page(source: dagger.Directory) -> Output[dagger.File]:
    """The page that customers see, made by the shop's own program."""
    made = (
        dag.container()
        .from_(PYTHON)
        .with_mounted_directory("/src", source)
        .with_workdir("/src")
        .with_exec(["python", "-m", "catalogue", "prices", "/page.html"])
        .file("/page.html")
    )
    text = await made.contents()
    evidence = Evidence(stage="page", status=Status.PASSED, summary=f"{len(text)} characters")
    return Output(evidence=evidence, artifact=made, reports={"page.html": text})


def pipeline(source: dagger.Directory) -> Pipeline:
    """The whole of it."""
    p = Pipeline("shop")
    listed = p.stage("prices", prices, source)
    lint = p.stage("lint", stages.lint, source)
    quality = p.gate("quality", Statuses(), [listed, lint])
    p.stage("page", page, source, after=[quality])
    return p


def check_prices(path: str, text: str) -> Iterator[Finding]:
    """A finding for each line without a price above zero in whole cents."""
    for number, row in enumerate(csv.DictReader(text.splitlines()), start=2):
        try:
            price = Decimal(row.get("price") or "")
            fault = "" if price > 0 and price == round(price, 2) else f"a price of {price}"
        except InvalidOperation:
            fault = f"no price: {row.get('price')!r}"
        if fault:
            yield Finding(
                scanner="prices",
                rule="price",
                severity=Severity.HIGH,
                message=f"article {row.get('article')} has {fault}",
                place=Place(path=path, line=number),
                fingerprint=hashlib.sha256(f"{path} {row.get('article')}".encode()).hexdigest(),
            )


@object_type
class Shop:
    """Checks the shop's price lists and makes its page."""

    @function(cache="never")
    async def pipeline(self, source: dagger.Directory) -> str:
        """Run the pipeline and end by its verdict."""
        run = await pipeline(source).run()
        return run.check().summary
