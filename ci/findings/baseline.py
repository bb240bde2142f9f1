"""A baseline: findings that were there before, so that only new ones count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

from pydantic import BaseModel, Field

from ci.findings.report import ReportError, read_json
from ci.values import Finding, Value

__all__ = ["Baseline"]


class _Document(BaseModel):
    version: int
    fingerprints: list[str] = Field(default_factory=list)


class Baseline(Value):
    """The fingerprints of known findings. A gate takes it as an acceptance (``ci.gates``)."""

    fingerprints: frozenset[str] = frozenset()

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Self:
        """The baseline under which none of these counts."""
        return cls(fingerprints=frozenset(finding.fingerprint for finding in findings))

    @classmethod
    def parse(cls, text: str, *, subject: str = "the baseline") -> Self:
        """Read what ``write`` wrote.

        Raises:
            ReportError: it is no baseline of version 1.
        """
        expected = '{"version": 1, "fingerprints": [...]}'
        document = read_json(text, _Document, subject=subject, expected=expected)
        if document.version != 1:
            raise ReportError(subject, got=f"version {document.version}", expected=expected)
        return cls(fingerprints=frozenset(document.fingerprints))

    def write(self) -> str:
        """One fingerprint a line, sorted, so that a change of it reads well in a diff."""
        lines = ",\n".join(f'    "{fingerprint}"' for fingerprint in sorted(self.fingerprints))
        body = f"[\n{lines}\n  ]" if lines else "[]"
        return f'{{\n  "version": 1,\n  "fingerprints": {body}\n}}\n'

    def __call__(self, findings: Sequence[Finding]) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
        """The findings, known ones marked as accepted; and no notes."""
        marked = tuple(
            finding.model_copy(update={"waived": "known: it is in the baseline"})
            if finding.fingerprint in self.fingerprints and not finding.waived
            else finding
            for finding in findings
        )
        return marked, ()
