"""Ruff of the version that the repository pins, else of ours."""

from __future__ import annotations

import dagger

from ci.stages.batch import Command, Ended, batch
from ci.stages.proof import Sample, require, with_sample
from ci.stages.python_environment import SOURCE, with_tools
from ci.stages.tools import RUFF
from ci.toolchains.python import PythonProject
from ci.values import Scanner

__all__ = ["FORMAT", "LINT", "OWN_RULES", "judged", "with_ruff"]

LINT = ["ruff", "check", "--no-cache"]
FORMAT = ["ruff", "format", "--check", "--no-cache"]
#: For a repository that chose none: what is likely wrong, not what is a matter of taste. Ruff's
#: own default grows with its versions; this is what it was for long.
OWN_RULES = ["--select=E4,E7,E9,F"]

_PLANTED = "/planted"
_SAMPLE = {"planted.py": "import os\nx = {  }\n"}
_SAMPLES = {
    "check": Sample(title="a planted unused import", files=_SAMPLE, rules=frozenset({"F401"})),
    "format": Sample(
        title="a planted file that is not formatted", files=_SAMPLE, rules=frozenset({"reformat"})
    ),
}


def with_ruff(project: PythonProject) -> tuple[dagger.Container, str]:
    """A container with ruff, and its version."""
    version = project.pinned("ruff") or RUFF.partition("==")[2]
    return with_tools(f"ruff=={version}"), version


async def judged(
    container: dagger.Container, version: str, command: list[str], *arguments: str
) -> tuple[Ended, Scanner]:
    """How ``command`` (``LINT`` or ``FORMAT``) ends on the code at ``SOURCE``, and that it sees.

    Raises:
        StageErrored: it did not find a planted fault, or could not run.
    """
    sample = _SAMPLES[command[1]]
    ended = await batch(
        with_sample(container, _PLANTED, sample),
        {
            "planted": Command(args=[*command, "--isolated", "."], workdir=_PLANTED),
            "ruff": Command(args=[*command, *arguments, "."], workdir=SOURCE),
        },
    )
    said = ended["planted"].stdout + ended["planted"].stderr
    found = {rule for rule in sample.rules if rule in said}
    proof = require(found, sample, scanner="ruff")
    scanner = Scanner(name="ruff", version=version, proven=True, proof=proof)
    return ended["ruff"].check(0, 1), scanner
