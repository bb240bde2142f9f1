"""What a node made: its evidence, artifact and reports, from whatever it returned or raised."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import dagger

from ci.errors import CiError, StageErrored, StageFailed, StageSkipped
from ci.records.text import command_line
from ci.scheduler import End
from ci.values import DeliveryRecord, Evidence, Outcome, Output, Status, Verdict

__all__ = [
    "Product",
    "evidence_of",
    "from_delivery",
    "from_error",
    "from_value",
    "from_verdict",
    "status_of",
]

_LOG_LINES = 100
_LOG_CHARACTERS = 16_000


@dataclass(frozen=True, kw_only=True)
class Product:
    """What a node came to."""

    status: Status
    reason: str = ""
    evidence: Evidence | None = None
    artifact: object = None
    #: Path, relative to the run's folder, to text.
    reports: Mapping[str, str] = field(default_factory=dict)
    verdict: Verdict | None = None
    delivery: DeliveryRecord | None = None


def from_value(node: str, value: object) -> Product:
    """A stage returned: an Output, Evidence, nothing, or an artifact of any kind.

    Raises:
        StageErrored: a report's name leads out of its folder.
    """
    match value:
        case Output():
            output = value
        case Evidence():
            output = Output(evidence=value)
        case _:
            output = Output(evidence=Evidence(stage=node, status=Status.PASSED), artifact=value)
    evidence = output.evidence.model_copy(update={"stage": node})
    return Product(
        status=evidence.status,
        reason="" if evidence.status is Status.PASSED else evidence.summary,
        evidence=evidence,
        artifact=output.artifact,
        reports={_report_path(node, name): text for name, text in output.reports.items()},
    )


def from_delivery(node: str, value: object) -> Product:
    """A delivery returned: a DeliveryRecord, or an Output of one.

    Raises:
        StageErrored: it did not, or a report's name leads out of its folder.
    """
    record = value.artifact if isinstance(value, Output) else value
    if not isinstance(record, DeliveryRecord):
        raise StageErrored(
            f"{node}: what a delivery returns", got=type(record).__name__, expected="DeliveryRecord"
        )
    status = status_of(record.outcome)
    version = f" {record.release.version}" if record.release else ""
    evidence = (
        value.evidence
        if isinstance(value, Output)
        else Evidence(
            stage=node,
            status=status,
            summary=record.reason or f"{record.environment}{version} {record.url}".rstrip(),
        )
    )
    product = from_value(
        node,
        Output(
            evidence=evidence,
            artifact=record,
            reports=value.reports if isinstance(value, Output) else {},
        ),
    )
    # The record decides, unless there was nothing to do.
    ended = evidence.status if evidence.status is Status.SKIPPED else status
    reason = "" if ended is Status.PASSED else record.reason or evidence.summary
    return Product(
        status=ended,
        reason=reason,
        evidence=product.evidence,
        artifact=record,
        reports=product.reports,
        delivery=record,
    )


def from_verdict(verdict: Verdict) -> Product:
    """A gate judged."""
    return Product(
        status=status_of(verdict.outcome),
        reason="" if verdict.outcome is Outcome.PASSED else "; ".join(verdict.reasons),
        artifact=verdict,
        verdict=verdict,
    )


def status_of(outcome: Outcome) -> Status:
    """Inconclusive is errored: the code was not shown to be at fault, nor to be right."""
    match outcome:
        case Outcome.PASSED:
            return Status.PASSED
        case Outcome.FAILED:
            return Status.FAILED
        case _:
            return Status.ERRORED


def from_error(node: str, error: Exception) -> Product:
    """A node raised. Groups are taken apart; of several, errored outweighs failed, then skipped."""
    leaves = list(_leaves(error))
    statuses = [_status(leaf) for leaf in leaves]
    status = next(one for one in (Status.ERRORED, Status.FAILED, Status.SKIPPED) if one in statuses)
    reason = "\n".join(
        dict.fromkeys(
            _sentence(leaf) for leaf, one in zip(leaves, statuses, strict=True) if one is status
        )
    )
    log = "" if status is Status.SKIPPED else "\n".join(filter(None, map(_log, leaves)))
    return Product(
        status=status,
        reason=reason,
        evidence=Evidence(stage=node, status=status, summary=reason.split("\n")[0], log=log),
    )


def evidence_of(end: End[Product]) -> Evidence:
    """What a node found out; where it never ran, that."""
    if end.value is not None and end.value.evidence is not None:
        return end.value.evidence
    return Evidence(stage=end.name, status=end.status, summary=end.reason.split("\n")[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _status(error: BaseException) -> Status:
    match error:
        case StageSkipped():
            return Status.SKIPPED
        case StageFailed():
            return Status.FAILED
        case _:
            return Status.ERRORED


def _sentence(error: BaseException) -> str:
    match error:
        case CiError():
            return str(error)
        case dagger.ExecError():
            return f"{command_line(error.command)}: exit code {error.exit_code}"
        case dagger.DaggerError():
            return str(error) or type(error).__name__
        case _:
            return f"{type(error).__name__}: {error}".removesuffix(": ")


def _log(error: BaseException) -> str:
    """Output of the command behind an error; where there is none and it is a bug, its place."""
    exec_error = next((one for one in _causes(error) if isinstance(one, dagger.ExecError)), None)
    if exec_error is not None:
        streams = (("stdout", exec_error.stdout), ("stderr", exec_error.stderr))
        return "\n".join(
            [
                f"$ {' '.join(exec_error.command)}",
                *(f"--- {name}\n{_tail(text)}" for name, text in streams if text),
                f"exit code {exec_error.exit_code}",
            ]
        )
    if isinstance(error, CiError | dagger.DaggerError):
        return ""
    # Names of files only: a record holds no path of a machine.
    return "\n".join(
        f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    step: BaseException | None = error
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        yield step
        step = step.__cause__ or (None if step.__suppress_context__ else step.__context__)


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_LOG_LINES:])[-_LOG_CHARACTERS:]


def _report_path(node: str, name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise StageErrored(
            f"{node}: name of a report", got=repr(name), expected="a path below its folder"
        )
    return str(PurePosixPath(node) / path)
