"""The workflows stage: zizmor over GitHub Actions workflows and actions, offline.

Comments beside the line (``zizmor: ignore[...]``) count; zizmor's configuration file in the
repository does not, as it can switch a rule off for all that comes; waivers in ci.toml do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import dagger

from ci.errors import StageErrored, StageFailed, StageSkipped
from ci.findings import sarif
from ci.findings.report import ScanReport
from ci.stages.batch import Command, Ended, batch
from ci.stages.proof import WORKFLOW, require, with_sample
from ci.stages.python_environment import SOURCE, with_tools
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
#: A workflow of the repository, or an action anywhere in it.
_IS_SCANNED = re.compile(r"^/\.github/workflows/[^/]+\.ya?ml$|/action\.ya?ml$")
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
    code = source.filter(include=[".github/**", *_ACTIONS], exclude=VENDORED)
    files = {path for path in await code.glob("**/*") if _IS_SCANNED.search(f"/{path}")}
    if not files:
        raise StageSkipped("no workflows", expected=".github/workflows/*.yml or action.yml")
    tools = with_sample(with_tools(ZIZMOR), _PLANTED, WORKFLOW)
    ended = await batch(
        tools.with_mounted_directory(SOURCE, code),
        {
            "zizmor": Command(args=_COMMAND, workdir=SOURCE),
            "zizmor-planted": Command(args=_COMMAND, workdir=_PLANTED),
        },
    )
    zizmor = ended["zizmor"]
    report = _read(zizmor)
    if left_out := sorted(files - {*_COMPLETED.findall(zizmor.stderr)}):
        raise StageErrored(
            "zizmor left files out", got=", ".join(left_out), expected="every file looked at"
        )
    if report.findings:
        report = _read(zizmor, await texts(code, report.findings))
    found = {finding.rule for finding in _read(ended["zizmor-planted"]).findings}
    proof = require(found, WORKFLOW, scanner="zizmor")
    _, _, version = ZIZMOR.partition("==")
    return Output(
        evidence=Evidence(
            stage="workflows",
            status=Status.PASSED,
            summary=told(report.findings, f"{len(files)} file{'s' * (len(files) != 1)}"),
            findings=report.findings,
            scanners=(Scanner(name="zizmor", version=version, proven=True, proof=proof),),
        ),
        reports={"zizmor.sarif": zizmor.stdout},
    )


def _read(ended: Ended, sources: Mapping[str, str] | None = None) -> ScanReport:
    if ended.code:
        said = ended.stderr.partition("Stack backtrace")[0].strip()
        if _MALFORMED in said:
            raise StageFailed("workflows", got=said[said.index(_MALFORMED) :])
        raise StageErrored("zizmor", got=f"exit code {ended.code}\n{said}")
    report = sarif.parse(ended.stdout, scanner="zizmor", sources=sources or {})
    if report.problems:
        raise StageErrored("zizmor", got="\n".join(report.problems), expected="files it can read")
    return report
