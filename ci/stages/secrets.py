"""The secrets stage: gitleaks over the files, and over the history where there is one.

Only gitleaks' own rules and comments beside the line (``gitleaks:allow``) count; its configuration
and ignore files in the repository do not, as they can switch a rule off for all that comes. What is
known and harmless is accepted by a waiver in ci.toml. No secret stands in a finding or a report.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

import dagger
from dagger import dag

from ci.errors import StageErrored, StageSkipped
from ci.findings import sarif
from ci.stages.proof import SECRETS, require, with_sample
from ci.stages.python_environment import run
from ci.stages.scanning import told
from ci.stages.tools import GITLEAKS_IMAGE
from ci.values import Evidence, Finding, Output, Scanner, Status

__all__ = ["secrets"]

#: Gitleaks reads .gitleaksignore from where it stands and from the folder that it is given: the
#: files lie one folder further down, and a history is named by GIT_DIR.
_GIVEN = "/given"
_SOURCE = f"{_GIVEN}/source"
_PLANTED = f"{_GIVEN}/planted"
_HISTORY = "/history.git"
_EMPTY = "/empty"
_REPORT = "/tmp/report.sarif"  # noqa: S108 - in the container
_RULES = "/etc/towpath-gitleaks.toml"
_IGNORED = "/etc/towpath-gitleaksignore"
_OPTIONS = [
    "--redact", "--no-banner", "--no-color", "--exit-code=0", f"--config={_RULES}",
    f"--gitleaks-ignore-path={_IGNORED}", "--report-format=sarif", f"--report-path={_REPORT}",
]  # fmt: skip
#: What gitleaks says when all is well; any other warning or error means that it left something out.
_EXPECTED = re.compile(r"WRN leaks found: \d+$")
_TROUBLE = re.compile(r"^\S+ (?:WRN|ERR|FTL) ")
_COMMIT = """
git init --quiet . && git add --all && git commit --quiet --message planted
git rm --quiet -r . && git commit --quiet --allow-empty --message removed
"""


@dataclass(frozen=True)
class _Scan:
    """What one scan reported."""

    findings: tuple[Finding, ...]
    #: SARIF.
    text: str


async def secrets(source: dagger.Directory) -> Output[None]:
    """Scan for secrets; what counts is the gate's to say.

    Args:
        source: The repository, with .git where its history is to be scanned.

    Raises:
        StageSkipped: the source holds no file.
        StageErrored: gitleaks crashed, could not read the history, or missed a planted secret.
    """
    entries = set(await source.entries())
    if not entries - {".git", ".git/"}:
        raise StageSkipped("no files", expected="a repository with files in it")
    tools = _tools()
    planted = with_sample(tools, _PLANTED, SECRETS)
    files = source.filter(exclude=[".git"])
    present = await _scan(tools.with_mounted_directory(_SOURCE, files), "dir", _SOURCE)
    found = (await _scan(planted, "dir", _PLANTED)).findings
    proof = require({finding.rule for finding in found}, SECRETS, scanner="gitleaks")
    findings, looked_at = present.findings, "the files"
    reports = {"gitleaks.sarif": present.text}
    if ".git" in entries:
        looked_at += "; the history is not here: .git is a link to it"
    elif ".git/" in entries:
        commits = await _commits(tools, source.directory(".git"))
        looked_at += f" and {commits}"
        if commits.count:
            history = await _scan(commits.container, "git")
            committed = planted.with_workdir(_PLANTED).with_exec(["sh", "-ec", _COMMIT])
            committed = committed.with_env_variable("GIT_DIR", f"{_PLANTED}/.git")
            found = (await _scan(committed.with_workdir(_EMPTY), "git")).findings
            require({finding.rule for finding in found}, SECRETS, scanner="gitleaks in a history")
            known = {_place(finding) for finding in findings}
            findings += tuple(f for f in history.findings if _place(f) not in known)
            reports["gitleaks-history.sarif"] = history.text
            proof += ", in files and in a history"
    version = (await run(tools, ["gitleaks", "version"], accept=(0,))).stdout.strip()
    scanner = Scanner(name="gitleaks", version=version.removeprefix("v"), proven=True, proof=proof)
    return Output(
        evidence=Evidence(
            stage="secrets",
            status=Status.PASSED,
            summary=told(findings, looked_at),
            findings=findings,
            scanners=(scanner,),
        ),
        reports=reports,
    )


@dataclass(frozen=True)
class _History:
    """The commits that can be scanned, in a container that stands in their repository."""

    container: dagger.Container
    count: int
    shallow: bool

    def __str__(self) -> str:
        counted = f"{self.count} commit{'s' * (self.count != 1)}"
        return counted + (" of a shallow history" if self.shallow else "")


def _tools() -> dagger.Container:
    """Gitleaks and git; the repository's owner is whoever the engine says, and is trusted."""
    container = (
        dag.container()
        .from_(GITLEAKS_IMAGE)
        .with_user("root")
        .with_new_file(_RULES, "[extend]\nuseDefault = true\n")
        .with_new_file(_IGNORED, "")
        .with_new_file(f"{_EMPTY}/.keep", "")
        .with_workdir(_EMPTY)
        .with_env_variable("GIT_CONFIG_COUNT", "1")
        .with_env_variable("GIT_CONFIG_KEY_0", "safe.directory")
        .with_env_variable("GIT_CONFIG_VALUE_0", "*")
    )
    for who in ("AUTHOR", "COMMITTER"):
        container = (
            container.with_env_variable(f"GIT_{who}_NAME", "planted")
            .with_env_variable(f"GIT_{who}_EMAIL", "planted@example.invalid")
            .with_env_variable(f"GIT_{who}_DATE", "2026-01-01T00:00:00Z")
        )
    return container


async def _commits(tools: dagger.Container, git: dagger.Directory) -> _History:
    """How much history there is.

    Raises:
        StageErrored: git cannot read it.
    """
    container = tools.with_mounted_directory(_HISTORY, git).with_env_variable("GIT_DIR", _HISTORY)
    # An exit code of git's own, 128, would be taken for a signal.
    count = await run(container, ["sh", "-c", "git rev-list --all --count || exit 1"])
    if count.code:
        raise StageErrored(
            "git cannot read the history", got=count.log.strip(), expected="a .git that is whole"
        )
    shallow = await run(container, ["git", "rev-parse", "--is-shallow-repository"], accept=(0,))
    return _History(container, int(count.stdout), shallow.stdout.strip() == "true")


async def _scan(container: dagger.Container, kind: str, folder: str = _EMPTY) -> _Scan:
    """Scan a folder (dir), or the history that GIT_DIR names (git).

    Raises:
        StageErrored: gitleaks ended with an error, or logged one.
    """
    given = str(PurePosixPath(folder).parent) if kind == "dir" else folder
    ran = await run(container, ["gitleaks", kind, *_OPTIONS, given], accept=(0,))
    lines = ran.stderr.splitlines()
    trouble = [line for line in lines if _TROUBLE.match(line) and not _EXPECTED.search(line)]
    if trouble:
        raise StageErrored(
            f"gitleaks {kind}", got="\n".join(trouble), expected="no warning and no error"
        )
    text = (await ran.container.file(_REPORT).contents()).replace(f"{folder}/", "")
    return _Scan(sarif.parse(text, scanner="gitleaks").findings, text)


def _place(finding: Finding) -> tuple[str, str, int | None]:
    """Of a secret in a file, whichever commit it came with."""
    place = finding.place
    return finding.rule, place.path if place else "", place.line if place else None
