"""The default pipeline, composed from configuration with nothing but the public library."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import dagger

from ci import stages, surroundings
from ci.clock import SystemClock
from ci.config import Environment, Stage
from ci.deploy.protocol import Smoke
from ci.drawing import as_mermaid, as_svg, as_text
from ci.errors import ConfigError, StageErrored, StageFailed, StageSkipped
from ci.events import NodePlan
from ci.findings import code_scanning
from ci.findings.waivers import Waiver, Waivers
from ci.flow import Node, Pipeline, Run
from ci.gates import Quality, QualityPolicy, Security, SecurityPolicy
from ci.graph import nearest
from ci.inputs import IGNORED, Inputs
from ci.records.folder import REPORT_NAME
from ci.records.report import render
from ci.records.run import FILE_NAME, SourceRecord
from ci.revision import changed
from ci.stages.history import history_of
from ci.values import DeliveryRecord, Evidence, Output, Status

__all__ = [
    "STAGES",
    "alone",
    "built",
    "drawn",
    "execute",
    "files",
    "for_source",
    "smoke_alone",
    "standard",
]

#: Seconds that a stage may take, and further tries after the tool or the machine was at fault,
#: unless ci.toml says otherwise.
_TIMEOUT = 1800.0
_RETRIES = 1

#: It makes the environment that the longest chain of the pipeline waits for.
_URGENT = "types"

#: Stages of the code alone, which run at once before the quality gate.
_CHECKS: Mapping[str, Callable[[Inputs], tuple[Any, dict[str, Any]]]] = {
    "format": lambda i: (stages.format, {"source": i.code, "toolchain": i.toolchain}),
    "lint": lambda i: (stages.lint, {"source": i.code, "toolchain": i.toolchain}),
    "types": lambda i: (stages.types, {"source": i.code, "toolchain": i.toolchain}),
    "sast": lambda i: (stages.sast, {"source": i.code}),
    "secrets": lambda i: (stages.secrets, {"source": i.source}),
    "dependencies": lambda i: (stages.dependencies, {"source": i.code, "database": i.database}),
    "iac": lambda i: (stages.iac, {"source": i.code}),
    "workflows": lambda i: (stages.workflows, {"source": i.code}),
    "unit": lambda i: (stages.unit, {"source": i.code, "toolchain": i.toolchain}),
}
STAGES = (*_CHECKS, "integration", "build", "sbom", "scan")
#: What the graph can be drawn as.
FORMS: Mapping[str, Callable[[Sequence[NodePlan]], str]] = {
    "text": as_text,
    "mermaid": as_mermaid,
    "svg": as_svg,
}


class _Declaring:
    """Declares stages of one pipeline with what the configuration says of each."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.pipeline = Pipeline(inputs.name)

    def stage(
        self,
        name: str,
        function: Callable[..., Awaitable[Output[Any]]],
        *,
        after: Collection[Node[Any]] = (),
        **kwargs: Any,
    ) -> Node[Any]:
        said = self.inputs.config.stages.get(name, Stage())
        return self.pipeline.stage(
            name,
            function,
            after=after,
            timeout=said.timeout or _TIMEOUT,
            retries=_RETRIES if said.retries is None else said.retries,
            urgent=name == _URGENT,
            **kwargs,
        )

    def check(self, name: str) -> Node[Any]:
        function, kwargs = _CHECKS[name](self.inputs)
        return self.stage(name, function, **kwargs)

    def integration(self, *after: Node[Any]) -> Node[Any]:
        services = self.inputs.config.services
        return self.stage(
            "integration",
            stages.integration,
            source=self.inputs.code,
            services={variable: s.image for variable, s in services.items()} or None,
            toolchain=self.inputs.toolchain,
            after=after,
        )

    def build(self, *after: Node[Any]) -> Node[dagger.Container]:
        i = self.inputs
        return self.stage(
            "build",
            stages.build,
            source=i.code,
            command=list(i.config.build.command) or None,
            port=i.config.build.port,
            user=i.config.build.user,
            title=i.name,
            revision=i.revision.commit,
            toolchain=i.toolchain,
            after=after,
        )

    def sbom(self, image: Node[dagger.Container]) -> Node[Any]:
        return self.stage("sbom", stages.sbom, image=image)

    def scan(self, image: Node[dagger.Container]) -> Node[Any]:
        return self.stage("scan", stages.scan, image=image, database=self.inputs.database)


def standard(inputs: Inputs) -> Pipeline:
    """The whole way of a commit: checks, quality gate, image, security gate, environments."""
    d = _Declaring(inputs)
    checks = [d.check(name) for name in _CHECKS]
    quality = d.pipeline.gate("quality", _quality(inputs), checks)
    integration = d.integration(quality)
    image = d.build(quality)
    scanned = [integration, image, d.sbom(image), d.scan(image)]
    security = d.pipeline.gate("security", _security(inputs), scanned, after=[quality])
    ready: Node[Any] = security
    if inputs.config.build.publish:
        address = inputs.config.build.publish
        ready = d.stage("publish", publish, image=image, address=address, after=[security])
    for name, environment in inputs.config.environments.items():
        ready = d.pipeline.delivery(
            f"deploy-{name}", deliver, inputs, name, environment, image, after=[ready]
        )
    return d.pipeline


def alone(inputs: Inputs, name: str) -> Pipeline:
    """One stage, with the image built before where it needs one, judged as its gate would.

    ``name`` is one of ``STAGES``.
    """
    d = _Declaring(inputs)
    if name in _CHECKS:
        stage = d.check(name)
        d.pipeline.gate("quality", _only(_quality(inputs), name), [stage])
    elif name in ("integration", "build"):
        (d.integration if name == "integration" else d.build)()
    else:
        image = d.build()
        stage = d.sbom(image) if name == "sbom" else d.scan(image)
        if name == "scan":
            d.pipeline.gate("security", _security(inputs), [image, stage])
    return d.pipeline


async def execute(
    pipeline: Pipeline,
    inputs: Inputs,
    *,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    fail_fast: bool = False,
) -> Run:
    """Run the pipeline with what the surroundings give, and have them keep its record."""
    around = surroundings.current()
    said = inputs.config.run
    # Asked before: a run whose engine is lost has its reports, too.
    history = await history_of(inputs.source)
    folder = history.folder if history else ""
    run = await pipeline.run(
        only=only,
        skip={*skip, *said.skip},
        fail_fast=fail_fast or said.fail_fast,
        concurrency=said.concurrency,
        on_event=around.sinks,
        feed=around.feed,
        stop=around.stop,
        source=await _source_record(inputs),
        engine=around.engine,
    )
    record = run.record.model_copy(update={"images": tuple(around.images())})
    run = dataclasses.replace(run, record=record, reports={**run.reports, **_common(run, folder)})
    if around.keep:
        await around.keep(run)
    return run


async def _source_record(inputs: Inputs) -> SourceRecord:
    """The revision, and whether the source has changes beside it."""
    dirty = await changed(inputs.source, IGNORED, surroundings.current().folder)
    return inputs.revision.model_copy(update={"dirty": dirty})


def for_source(inputs: Inputs) -> Pipeline:
    """The pipeline that the source declares for itself (``[project] pipeline``), else ``standard``.

    Raises:
        ConfigError: what it names cannot be imported, or makes no pipeline.
    """
    declared = inputs.config.project.pipeline
    folder = surroundings.current().folder
    if not declared:
        return standard(inputs)
    if folder is None:
        raise ConfigError(
            "project.pipeline in ci.toml",
            got="a pipeline of the repository's own, on a Dagger engine",
            expected="`ci pipeline`, or the repository's own Dagger module",
            hint="see docs/library.md",
        )
    return load(declared, folder)(inputs.source)


def load(declared: str, folder: Path) -> Callable[[dagger.Directory], Pipeline]:
    """The function that ``package.module:attribute`` names in a folder.

    Raises:
        ConfigError: there is none.
    """
    module, _, attribute = declared.partition(":")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found = getattr(importlib.import_module(module), attribute or "pipeline")
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"project.pipeline = {declared!r} in ci.toml",
            got=str(error),
            expected="package.module:function, importable from the repository's top folder",
        ) from None
    return cast("Callable[[dagger.Directory], Pipeline]", found)


def drawn(pipeline: Pipeline, form: str) -> str:
    """The graph of a pipeline; ``form`` is one of ``FORMS``.

    Raises:
        ConfigError: it is none of them.
    """
    if form not in FORMS:
        near = nearest(form, FORMS)
        raise ConfigError(
            "--form",
            got=repr(form),
            expected="one of " + ", ".join(FORMS),
            hint=f"did you mean {near!r}?" if near else "",
        )
    return FORMS[form](pipeline.plan).rstrip("\n")


async def built(inputs: Inputs) -> dagger.Container:
    """The image, built and judged as its stage does.

    Raises:
        NotPassedError: it was not built.
    """
    made: list[dagger.Container] = []

    async def keep(image: dagger.Container) -> None:
        made.append(image)

    d = _Declaring(inputs)
    d.pipeline.stage("keep", keep, image=d.build())
    run = await execute(d.pipeline, inputs)
    run.check()
    if not made:
        raise StageErrored("build", got="no image", hint=run.summary)
    return made[0]


def smoke_alone(inputs: Inputs, url: str) -> Pipeline:
    """The smoke tests against a URL."""
    d = _Declaring(inputs)
    d.stage(
        "smoke",
        stages.smoke,
        source=inputs.code,
        url=url,
        nonce=_nonce(),
        toolchain=inputs.toolchain,
    )
    return d.pipeline


def files(run: Run) -> Mapping[str, str]:
    """All files of the run's folder, by their path in it."""
    return {
        **run.reports,
        REPORT_NAME: render(run.record),
        FILE_NAME: run.record.model_dump_json(indent=2) + "\n",
    }


async def publish(image: dagger.Container, address: str) -> Output[str]:
    """Push the image; its digest is part of the reference that it returns."""
    reference = await image.publish(address)
    return Output(
        evidence=Evidence(stage="publish", status=Status.PASSED, summary=reference),
        artifact=reference,
    )


async def deliver(
    inputs: Inputs, name: str, environment: Environment, image: dagger.Container
) -> DeliveryRecord:
    """Deliver the image to one environment, with the repository's smoke tests as its check."""
    host = surroundings.current().host
    if host is None:
        raise StageSkipped(
            f"target {environment.target} of {name} cannot be reached from this engine",
            hint="`ci pipeline` on a machine delivers to its local environments",
        )
    label = "org.opencontainers.image.version"
    return await host.deliver(
        inputs.name,
        name,
        environment,
        image,
        version=await image.label(label) or inputs.revision.version or "0",
        commit=inputs.revision.commit,
        smoke=smoke_check(inputs),
    )


def smoke_check(inputs: Inputs) -> Smoke:
    """Runs the repository's smoke tests against a URL; passes where there are none."""

    async def check(url: str) -> None:
        try:
            output = await stages.smoke(
                inputs.code, url=url, nonce=_nonce(), toolchain=inputs.toolchain
            )
        except StageSkipped:
            return
        evidence = output.evidence
        if evidence.status is Status.FAILED:
            raise StageFailed("smoke tests", got=f"{evidence.summary}\n{evidence.log}")
        if evidence.status is Status.ERRORED:
            raise StageErrored("smoke tests", got=f"{evidence.summary}\n{evidence.log}")

    return check


def _nonce() -> str:
    """Differs at each call, so that what is asked of the outside is asked again."""
    return SystemClock().now().isoformat()


#: Stages whose findings are no matter of security.
_STYLE = frozenset({"format", "lint", "types"})


def _common(run: Run, folder: str) -> dict[str, str]:
    """Reports of the run as a whole: all findings as SARIF, and the verdict in one word.

    ``folder`` is that of the repository which the source is; empty where it is all of it.
    """
    findings = run.record.findings()
    evidence = [node.evidence for node in run.record.nodes if node.evidence]
    sarif = code_scanning.write(
        [finding for _, finding in findings],
        versions={one.name: one.version for each in evidence for one in each.scanners},
        style=[finding for stage, finding in findings if stage in _STYLE],
        folder=folder,
    )
    return {
        "findings.sarif": sarif,
        "verdict": run.verdict.outcome.value + "\n",
    }


# -- gates ----------------------------------------------------------------------------------------


def _quality(inputs: Inputs) -> Quality:
    said = inputs.config.gates.quality
    policy = QualityPolicy(coverage=said.coverage, fail_at=said.fail_on, tests=said.tests)
    return Quality(policy=policy, acceptances=_waivers(inputs))


def _only(gate: Quality, stage: str) -> Quality:
    """The gate for the evidence of one stage: asks nothing that this stage cannot answer."""
    tested = stage == "unit"
    policy = gate.policy.model_copy(
        update={
            "tests": tested and gate.policy.tests,
            "coverage": gate.policy.coverage if tested else None,
        }
    )
    return dataclasses.replace(gate, policy=policy)


def _security(inputs: Inputs) -> Security:
    said = inputs.config.gates.security
    policy = SecurityPolicy(
        fail_at=said.fail_on,
        fixable_only=said.fixable_only,
        non_root=not said.allow_root,
        scans=("scan",),
    )
    return Security(policy=policy, acceptances=_waivers(inputs))


def _waivers(inputs: Inputs) -> tuple[Waivers, ...]:
    waivers = [Waiver.model_validate(each.model_dump()) for each in inputs.config.waivers]
    return (Waivers(waivers),) if waivers else ()
