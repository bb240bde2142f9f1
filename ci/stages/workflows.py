"""The workflows stage: zizmor over GitHub Actions workflows and actions, offline.

Comments beside the line (``zizmor: ignore[...]``) count; zizmor's configuration file in the
repository does not, as it can switch a rule off for all that comes; waivers in ci.toml do.
"""

from __future__ import annotations

import re

import dagger

from ci.errors import StageErrored, StageFailed, StageSkipped
from ci.findings import sarif
from ci.findings.report import ScanReport
from ci.stages.proof import WORKFLOW, require, with_sample
from ci.stages.python_environment import SOURCE, Ran, base, run, with_tools
from ci.stages.scanning import VENDORED, texts, told
from ci.stages.tools import ZIZMOR
from ci.values import Evidence, Output, Scanner, Status

__all__ = ["workflows"]

_PLANTED = "/planted"
_COMMAND = [
    "zizmor", "--offline", "--no-config", "--no-progress", "--color=never", "--collect=all",
    "--strict-collection", "--no-exit-codes", "--format=sarif", ".",
]  # fmt: skip
_ACTIONS = ("**/action.yml", "**/action.yaml")
_WORKFLOWS = (".github/workflows/*.yml", ".github/workflows/*.yaml")
_COMPLETED = re.compile(r"completed (?:file://)?(?:\./)?(.+)$", re.MULTILINE)
#: How zizmor begins to say that a file of the repository is at fault.
_MALFORMED = "failed to load"


async def workflows(source: dagger.Directory) -> Output[None]:
    """Scan workflows and actions; what counts is the gate's to say.

    Raises:
        StageSkipped: there is neither a workflow nor an action.
        StageFailed: one of them is no workflow or action that GitHub could run.
        StageErrored: zizmor crashed, left files out, or missed a planted fault.
    """
    include = [".github/**", *_ACTIONS]
    code = source.filter(include=include, exclude=VENDORED)
    files = {path for pattern in (*_WORKFLOWS, *_ACTIONS) for path in await code.glob(pattern)}
    if not files:
        raise StageSkipped("no workflows", expected=".github/workflows/*.yml or action.yml")
    tools = with_tools(base(), ZIZMOR)
    ran = await _zizmor(tools.with_mounted_directory(SOURCE, code).with_workdir(SOURCE))
    report = _read(ran)
    if left_out := sorted(files - {*_COMPLETED.findall(ran.stderr)}):
        raise StageErrored(
            "zizmor left files out", got=", ".join(left_out), expected="every file looked at"
        )
    report = sarif.parse(ran.stdout, scanner="zizmor", sources=await texts(code, report.findings))
    planted = with_sample(tools, _PLANTED, WORKFLOW).with_workdir(_PLANTED)
    found = _read(await _zizmor(planted)).findings
    proof = require({finding.rule for finding in found}, WORKFLOW, scanner="zizmor")
    _, _, version = ZIZMOR.partition("==")
    return Output(
        evidence=Evidence(
            stage="workflows",
            status=Status.PASSED,
            summary=told(report.findings, f"{len(files)} file{'s' * (len(files) != 1)}"),
            findings=report.findings,
            scanners=(Scanner(name="zizmor", version=version, proven=True, proof=proof),),
        ),
        reports={"zizmor.sarif": ran.stdout},
    )


async def _zizmor(container: dagger.Container) -> Ran:
    ran = await run(container, _COMMAND, accept=(0, 1))
    if ran.code:
        said = ran.stderr.partition("Stack backtrace")[0].strip()
        if _MALFORMED in said:
            raise StageFailed("workflows", got=said[said.index(_MALFORMED) :])
        raise StageErrored("zizmor", got=f"exit code {ran.code}\n{said}")
    return ran


def _read(ran: Ran) -> ScanReport:
    report = sarif.parse(ran.stdout, scanner="zizmor")
    if report.problems:
        raise StageErrored("zizmor", got="\n".join(report.problems), expected="files it can read")
    return report
