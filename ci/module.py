"""``Ci``: every public function of Towpath, thin.

The main object of the Dagger module, and what the ``ci`` command derives its commands from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import dagger
from dagger import Doc, dag, field, function, object_type

from ci import flow, pipeline
from ci.errors import CiError
from ci.inputs import IGNORED, read
from ci.stages.history import with_history_above

__all__ = ["Ci", "Run"]

Source = Annotated[
    dagger.Directory | None, Doc("The repository to run on; the caller's folder if not given.")
]
Database = Annotated[
    dagger.Directory | None,
    Doc("Trivy's vulnerability database, a folder with db/trivy.db; else the official one."),
]
Only = Annotated[list[str] | None, Doc("Run only these nodes of the graph and what they need.")]
Skip = Annotated[list[str] | None, Doc("Leave these nodes of the graph out.")]
FailFast = Annotated[bool, Doc("Stop all that runs when one node does not pass.")]

F = TypeVar("F", bound=Callable[..., Any])


def _function(cache: str) -> Callable[[F], F]:
    """``dagger.function`` with a cache policy: "never", or "session" where a result stays true."""
    decorate: Any = function  # its overloads leave the policy out
    decorated: Callable[[F], F] = decorate(cache=cache)
    return decorated


@object_type
class Run:
    """One execution of the pipeline: its verdict, its summary, its reports."""

    outcome: str = field()
    summary: str = field()
    reports: dagger.Directory = field()
    exit_code: int = field()

    @function
    def verdict(self) -> str:
        """The summary; fails where the run did not pass."""
        if self.exit_code:
            raise RunNotPassed(self.summary, self.exit_code)
        return self.summary


class RunNotPassed(CiError):
    """The verdict of a run that is not passed."""

    def __init__(self, summary: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(summary.rstrip())


@object_type
class Ci:
    """Takes a commit to production: the stages of a pipeline, and the pipeline."""

    @_function("never")
    async def pipeline(
        self,
        ws: dagger.Workspace,
        source: Source = None,
        database: Database = None,
        only: Only = None,
        skip: Skip = None,
        fail_fast: FailFast = False,
    ) -> str:
        """Run the whole pipeline and end by its verdict.

        Dagger's CLI from v0.20.4 on hides functions of this name: type `dagger -c pipeline` there,
        or `dagger call run verdict`.
        """
        ended = await _whole(await _source(ws, source), database, only, skip, fail_fast=fail_fast)
        return ended.check().summary

    @_function("never")
    async def run(
        self,
        ws: dagger.Workspace,
        source: Source = None,
        database: Database = None,
        only: Only = None,
        skip: Skip = None,
        fail_fast: FailFast = False,
    ) -> Run:
        """Run the whole pipeline and return the execution, whatever its verdict.

        `run reports export --path=DIR` keeps the reports of a failed run too; `run verdict` ends
        by the verdict.
        """
        ended = await _whole(await _source(ws, source), database, only, skip, fail_fast=fail_fast)
        return Run(  # type: ignore[call-arg]  # the decorator makes its constructor
            outcome=ended.verdict.outcome.value,
            summary=ended.summary,
            reports=_folder(ended),
            exit_code=ended.exit_code,
        )

    @_function("session")
    async def format(self, ws: dagger.Workspace, source: Source = None) -> str:
        """Check that the code is formatted."""
        return await _alone("format", await _source(ws, source))

    @_function("session")
    async def lint(self, ws: dagger.Workspace, source: Source = None) -> str:
        """Lint the code."""
        return await _alone("lint", await _source(ws, source))

    @_function("session")
    async def types(self, ws: dagger.Workspace, source: Source = None) -> str:
        """Check the types."""
        return await _alone("types", await _source(ws, source))

    @_function("session")
    async def sast(self, ws: dagger.Workspace, source: Source = None) -> str:
        """Look for insecure code."""
        return await _alone("sast", await _source(ws, source))

    @_function("session")
    async def secrets(self, ws: dagger.Workspace, source: Source = None) -> str:
        """Look for committed secrets, in the history too."""
        return await _alone("secrets", await _source(ws, source))

    @_function("session")
    async def dependencies(
        self, ws: dagger.Workspace, source: Source = None, database: Database = None
    ) -> str:
        """Look for known vulnerabilities in the dependencies."""
        return await _alone("dependencies", await _source(ws, source), database)

    @_function("session")
    async def iac(self, ws: dagger.Workspace, source: Source = None) -> str:
        """Look for misconfiguration in infrastructure as code."""
        return await _alone("iac", await _source(ws, source))

    @_function("session")
    async def workflows(self, ws: dagger.Workspace, source: Source = None) -> str:
        """Audit the GitHub Actions workflows."""
        return await _alone("workflows", await _source(ws, source))

    @_function("session")
    async def unit(self, ws: dagger.Workspace, source: Source = None) -> str:
        """Run the unit tests and measure their coverage."""
        return await _alone("unit", await _source(ws, source))

    @_function("session")
    async def integration(self, ws: dagger.Workspace, source: Source = None) -> str:
        """Run the integration tests, with the services that they need."""
        return await _alone("integration", await _source(ws, source))

    @_function("session")
    async def build(self, ws: dagger.Workspace, source: Source = None) -> dagger.Container:
        """Build the image."""
        inputs = await read(await _source(ws, source))
        return await pipeline.built(inputs)

    @_function("session")
    async def sbom(self, ws: dagger.Workspace, source: Source = None) -> dagger.Directory:
        """Build the image and list what is in it, as CycloneDX and SPDX."""
        inputs = await read(await _source(ws, source))
        ended = await pipeline.execute(pipeline.alone(inputs, "sbom"), inputs)
        return _folder(ended.check()).directory("sbom")

    @_function("session")
    async def scan(
        self, ws: dagger.Workspace, source: Source = None, database: Database = None
    ) -> str:
        """Build the image and look for known vulnerabilities in it."""
        return await _alone("scan", await _source(ws, source), database)

    @_function("never")
    async def smoke(
        self,
        ws: dagger.Workspace,
        url: Annotated[str, Doc("Base URL of what is tested.")],
        source: Source = None,
    ) -> str:
        """Run the smoke tests against a URL."""
        inputs = await read(await _source(ws, source))
        ended = await pipeline.execute(pipeline.smoke_alone(inputs, url), inputs)
        return ended.check().summary

    @_function("session")
    async def graph(
        self,
        ws: dagger.Workspace,
        source: Source = None,
        form: Annotated[str, Doc("text, mermaid or svg.")] = "text",
    ) -> str:
        """Draw the pipeline."""
        inputs = await read(await _source(ws, source))
        return pipeline.drawn(pipeline.for_source(inputs), form)


async def _source(ws: dagger.Workspace, source: dagger.Directory | None) -> dagger.Directory:
    """The repository, or the folder of one, to run on, less what tools leave behind."""
    if source is not None:
        return dag.directory().with_directory("/", source, exclude=IGNORED)
    source = ws.directory(".", exclude=IGNORED)
    # On this machine the folder has its history already: see ci/workspace.py.
    return await with_history_above(source, ws) if isinstance(ws, dagger.Workspace) else source


async def _whole(
    source: dagger.Directory,
    database: dagger.Directory | None,
    only: list[str] | None,
    skip: list[str] | None,
    *,
    fail_fast: bool,
) -> flow.Run:
    inputs = await read(source, database)
    return await pipeline.execute(
        pipeline.for_source(inputs), inputs, only=only or (), skip=skip or (), fail_fast=fail_fast
    )


async def _alone(
    name: str, source: dagger.Directory, database: dagger.Directory | None = None
) -> str:
    inputs = await read(source, database)
    ended = await pipeline.execute(pipeline.alone(inputs, name), inputs)
    return ended.check().summary


def _folder(ended: flow.Run) -> dagger.Directory:
    """The run's folder as a Directory."""
    directory = dag.directory()
    for path, text in pipeline.files(ended).items():
        directory = directory.with_new_file(path, text)
    return directory
