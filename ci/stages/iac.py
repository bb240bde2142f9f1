"""The iac stage: Trivy's checks of Dockerfiles, Kubernetes, Helm, Terraform and CloudFormation.

Comments beside the line (``trivy:ignore``) count; ignore files in the repository do not; waivers in
ci.toml do. The checks are those inside Trivy: nothing is fetched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import dagger

from ci.errors import StageErrored, StageSkipped
from ci.findings import trivy as reports
from ci.stages import trivy
from ci.stages.batch import Command, batch
from ci.stages.proof import IAC, require, with_sample
from ci.stages.scanning import VENDORED, told, unread
from ci.values import Evidence, Output, Scanner, Status

__all__ = ["iac"]

_SOURCE = "/src"
_PLANTED = "/planted"
_NAMED: Mapping[str, tuple[str, ...]] = {
    "dockerfile": ("Dockerfile", "Dockerfile.*", "*.Dockerfile", "*.dockerfile", "Containerfile"),
    "terraform": ("*.tf", "*.tf.json"),
    "helm": ("Chart.yaml",),
}
#: What may hold a Kubernetes object or a CloudFormation template.
_DOCUMENTS = ("*.yaml", "*.yml", "*.json")
# One line for each file that is of a kind, or that a template engine has still to fill in.
_CLASSIFY = r"""
find . -type f \( -name '*.yaml' -o -name '*.yml' -o -name '*.json' \) | while IFS= read -r file; do
  if grep -q AWSTemplateFormatVersion "$file"; then kind=cloudformation
  elif grep -qE '^[{" ]*apiVersion"?:' "$file" && grep -qE '"?kind"?:' "$file" &&
    grep -qE '"?metadata"?:' "$file"; then kind=kubernetes
  else continue; fi
  if grep -qE '\{\{|\{%' "$file"; then kind=template; fi
  echo "$kind $file"
done
"""


async def iac(source: dagger.Directory) -> Output[None]:
    """Scan infrastructure as code for misconfigurations; what counts is the gate's to say.

    Raises:
        StageSkipped: there is none of it.
        StageErrored: Trivy crashed, left a file out, or missed a planted fault.
    """
    patterns = [f"**/{name}" for names in (*_NAMED.values(), _DOCUMENTS) for name in names]
    # Terraform's variables, and the templates and values of charts, belong to their files.
    include = [*patterns, "**/*.tfvars", "**/templates/**"]
    code = source.filter(include=include, exclude=VENDORED)
    container = trivy.container().with_mounted_directory(_SOURCE, code)
    files = await _files(container, code)
    templates = files.pop("template", set())
    if not files:
        raise StageSkipped(
            "no infrastructure as code",
            expected="a Dockerfile, Kubernetes objects, a Helm chart, Terraform or CloudFormation",
        )
    kinds = sorted(files)
    command = ["config", *trivy.OFFLINE, f"--misconfig-scanners={','.join(kinds)}", "--format=json"]
    for kind in kinds:
        container = with_sample(container, f"{_PLANTED}/{kind}", IAC[kind])
    planted = {f"planted-{kind}": [*command, f"{_PLANTED}/{kind}"] for kind in kinds}
    ran = await trivy.scans(container, {**planted, "files": [*command, _SOURCE]})
    report = reports.parse(ran.texts["files"])
    _complete(report, files)
    proofs = [
        require(reports.parse(ran.texts[f"planted-{kind}"]).rules(), IAC[kind], scanner="trivy")
        for kind in kinds
    ]
    findings = (*report.findings, *unread("trivy", sorted(templates - _targets(report))))
    count = sum(len(paths) for paths in files.values())
    return Output(
        evidence=Evidence(
            stage="iac",
            status=Status.PASSED,
            summary=told(findings, f"{count} file{'s' * (count != 1)} of {', '.join(kinds)}"),
            findings=findings,
            scanners=(
                Scanner(name="trivy", version=ran.version, proven=True, proof="; ".join(proofs)),
            ),
        ),
        reports={"trivy-config.json": ran.texts["files"]},
    )


async def _files(container: dagger.Container, code: dagger.Directory) -> dict[str, set[str]]:
    """Paths by kind: those that Trivy knows by name, and those that it knows by what is in them."""
    files: defaultdict[str, set[str]] = defaultdict(set)
    paths = [path for path in await code.glob("**/*") if not path.endswith("/")]
    for path in paths:
        for kind, names in _NAMED.items():
            if any(fnmatchcase(PurePosixPath(path).name, name) for name in names):
                files[kind].add(path)
    charts = {str(PurePosixPath(path).parent) for path in files["helm"]}
    if any(path.endswith((".yaml", ".yml", ".json")) for path in paths):
        command = Command(args=["sh", "-c", _CLASSIFY], workdir=_SOURCE)
        ended = (await batch(container, {"classify": command}))["classify"].check(0)
        for line in ended.stdout.splitlines():
            kind, _, path = line.partition(" ./")
            if not charts & {str(parent) for parent in PurePosixPath(path).parents}:
                files[kind].add(path)
    return {kind: found for kind, found in files.items() if found}


def _targets(report: reports.TrivyReport) -> set[str]:
    return {result.target for result in report.scanned(kind="config")}


def _complete(report: reports.TrivyReport, files: Mapping[str, set[str]]) -> None:
    """Raise unless Trivy saw every file, or, where it reports by module or chart, that kind."""
    seen = _targets(report)
    missed = [path for kind, paths in files.items() if kind in _BY_FILE for path in paths - seen]
    by_module = {kind for kind in files if kind not in _BY_FILE}
    missed += [kind for kind in by_module if not report.scanned(kind="config", type=kind)]
    if missed:
        raise StageErrored(
            "trivy left files out",
            got=f"no word of {', '.join(sorted(missed)[:10])}",
            expected="every file looked at",
        )


_BY_FILE = frozenset({"dockerfile", "kubernetes", "cloudformation"})
