"""The secrets stage: gitleaks over the files, and over the history where there is one.

Only gitleaks' own rules and comments beside the line (``gitleaks:allow``) count; its configuration
and ignore files in the repository do not, as they can switch a rule off for all that comes. What is
known and harmless is accepted by a waiver in ci.toml. No secret stands in a finding or a report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

import dagger
from dagger import dag

from ci.errors import StageErrored, StageSkipped
from ci.findings import sarif
from ci.stages.batch import REPORT, Command, Ended, batch
from ci.stages.history import History, history_of
from ci.stages.proof import SECRETS, require, with_sample
from ci.stages.scanning import told
from ci.stages.tools import GITLEAKS_IMAGE
from ci.values import Evidence, Finding, Output, Scanner, Status

__all__ = ["secrets"]

#: Gitleaks reads .gitleaksignore from where it stands and from the folder that it is given: the
#: files lie one folder further down, and a history is named by GIT_DIR.
_FILES = "/files/source"
_PLANTED = "/planted/source"
_HISTORY = "/history.git"
#: Stands for a history's working tree, of which nothing is needed.
_TREE = "/tree"
_EMPTY = "/empty"
_RULES = "/etc/towpath-gitleaks.toml"
_IGNORED = "/etc/towpath-gitleaksignore"
_OPTIONS = [
    "--redact", "--no-banner", "--no-color", "--exit-code=0", f"--config={_RULES}",
    f"--gitleaks-ignore-path={_IGNORED}", "--report-format=sarif", f"--report-path={REPORT}",
]  # fmt: skip
#: What gitleaks says when all is well; any other warning or error means that it left something out.
_EXPECTED = re.compile(r"WRN leaks found: \d+$")
_TROUBLE = re.compile(r"^\S+ (?:WRN|ERR|FTL) ")
#: The repository's owner is whoever the engine says, and is trusted. From a folder of it, git shows
#: what changed there, by paths from there.
_CONFIG = {
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "GIT_CONFIG_KEY_1": "diff.relative",
    "GIT_CONFIG_VALUE_1": "true",
}
#: A repository whose planted secret is gone from its last commit, then a scan of its history.
_SCAN_PLANTED = f"""
mkdir -p "/planted/history/$1" && cp -r {_PLANTED}/. "/planted/history/$1" && cd /planted/history
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.invalid
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.invalid
git init --quiet . && git add --all && git commit --quiet --message planted
git rm --quiet -r . && git commit --quiet --message removed
shift; cd {_EMPTY}; export GIT_DIR=/planted/history/.git GIT_WORK_TREE={_TREE}; exec "$@"
"""


async def secrets(source: dagger.Directory) -> Output[None]:
    """Scan for secrets; what counts is the gate's to say.

    Args:
        source: The repository, with .git where its history is to be scanned. Of a folder with the
            history of the repository above it (``ci.stages.history``), what changed in that folder
            is scanned: what is wrong elsewhere is for the pipeline of elsewhere.

    Raises:
        StageSkipped: the source holds no file.
        StageErrored: gitleaks crashed, could not read the history, or missed a planted secret.
    """
    entries = set(await source.entries())
    if not entries - {".git", ".git/"}:
        raise StageSkipped("no files", expected="a repository with files in it")
    history = await history_of(source)
    ended = await batch(_container(source, history), _commands(history))
    findings, text = _scan(ended["gitleaks"])
    looked_at, reports = "the files", {"gitleaks.sarif": text}
    proof = _proof(ended["gitleaks-planted"])
    if history:
        commits = _commits(ended) + (f" of {history.folder}" if history.folder else "")
        past, text = _scan(ended["gitleaks-history"])
        _proof(ended["gitleaks-history-planted"])
        known = {_place(finding) for finding in findings}
        findings += tuple(f for f in past if _place(f) not in known)
        looked_at += f" and {commits}"
        proof += ", in files and in a history"
        reports["gitleaks-history.sarif"] = text
    elif ".git" in entries:
        looked_at += "; the history is not here: .git is a link to it"
    version = ended["version"].check(0).stdout.strip().removeprefix("v")
    scanner = Scanner(name="gitleaks", version=version, proven=True, proof=proof)
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


def _container(source: dagger.Directory, history: History | None) -> dagger.Container:
    container = (
        dag.container()
        .from_(GITLEAKS_IMAGE)
        .with_user("root")
        .with_new_file(_RULES, "[extend]\nuseDefault = true\n")
        .with_new_file(_IGNORED, "")
        .with_new_file(f"{_EMPTY}/.keep", "")
        .with_mounted_directory(_FILES, source.filter(exclude=[".git"]))
    )
    container = with_sample(container, _PLANTED, SECRETS)
    if history is None:
        return container
    container = container.with_directory(_tree(history), dag.directory())
    return container.with_mounted_directory(_HISTORY, history.git)


def _tree(history: History) -> str:
    """The place of the source in the history's working tree."""
    return str(PurePosixPath(_TREE, history.folder))


def _commands(history: History | None) -> dict[str, Command]:
    """What runs, by name; the planted secrets are looked for exactly as the others."""
    commands = {
        "version": Command(args=["gitleaks", "version"]),
        "gitleaks": _gitleaks("dir", str(PurePosixPath(_FILES).parent)),
        "gitleaks-planted": _gitleaks("dir", str(PurePosixPath(_PLANTED).parent)),
    }
    if history is None:
        return commands
    env = {**_CONFIG, "GIT_DIR": _HISTORY, "GIT_WORK_TREE": _TREE}
    tree = _tree(history)
    past = _gitleaks("git", tree)
    # A pattern would leave commits out that change nothing.
    count = ["rev-list", "--all", "--count", *(["--", "."] if history.folder else [])]
    return commands | {
        "git-count": Command(args=["git", *count], workdir=tree, env=env),
        "git-shallow": Command(args=["git", "rev-parse", "--is-shallow-repository"], env=env),
        "gitleaks-history": replace(past, env=env),
        "gitleaks-history-planted": Command(
            args=["sh", "-ec", _SCAN_PLANTED, "planted", history.folder, *past.args], env=_CONFIG
        ),
    }


def _gitleaks(kind: str, folder: str) -> Command:
    return Command(args=["gitleaks", kind, *_OPTIONS, folder], workdir=_EMPTY)


def _commits(ended: Mapping[str, Ended]) -> str:
    """How much history there is, in words.

    Raises:
        StageErrored: git cannot read it.
    """
    count, shallow = ended["git-count"], ended["git-shallow"]
    if count.code or shallow.code:
        raise StageErrored(
            "git cannot read the history",
            got=(count.stderr or shallow.stderr).strip(),
            expected="a .git that is whole",
        )
    commits = int(count.stdout)
    counted = f"{commits} commit{'s' * (commits != 1)}"
    return counted + (" of a shallow history" if shallow.stdout.strip() == "true" else "")


def _proof(planted: Ended) -> str:
    found = {finding.rule for finding in _scan(planted)[0]}
    return require(found, SECRETS, scanner=planted.name.removesuffix("-planted"))


def _scan(ended: Ended) -> tuple[tuple[Finding, ...], str]:
    """What a scan reported: findings, and the report itself, with paths as the repository's.

    Raises:
        StageErrored: gitleaks ended with an error, or logged one.
    """
    lines = ended.check(0).stderr.splitlines()
    trouble = [line for line in lines if _TROUBLE.match(line) and not _EXPECTED.search(line)]
    if trouble:
        raise StageErrored(ended.name, got="\n".join(trouble), expected="no warning and no error")
    text = ended.report.replace(f"{_FILES}/", "")
    return sarif.parse(text, scanner="gitleaks").findings, text


def _place(finding: Finding) -> tuple[str, str, int | None]:
    """Of a secret in a file, whichever commit it came with."""
    place = finding.place
    return finding.rule, place.path if place else "", place.line if place else None
