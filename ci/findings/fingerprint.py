"""Fingerprints: a finding keeps its own while lines above it come and go.

A fingerprint hashes what the finding is about (rule, file, the text of its line with white space
collapsed; or rule and package) and, for findings that are alike in all of that, how many such
stand before it in the file. Line numbers, columns and versions are no part of it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ci.values import Finding

__all__ = ["Draft", "line_text", "seal"]


class Draft(NamedTuple):
    """A finding whose fingerprint is still to be made, and what identifies it beside its rule."""

    finding: Finding
    #: The text of its line, or whatever else stays when lines above come or go.
    identity: tuple[str, ...] = ()


def line_text(sources: Mapping[str, str], path: str, line: int | None) -> str | None:
    """The text at a 1-based line of a file in ``sources``, or None where it is not there."""
    text = sources.get(path)
    if text is None or line is None:
        return None
    lines = text.split("\n")
    return lines[line - 1] if 1 <= line <= len(lines) else None


def seal(drafts: Iterable[Draft]) -> tuple[Finding, ...]:
    """Give each draft its fingerprint; the result is sorted by place and independent of order."""
    seen: Counter[tuple[str, ...]] = Counter()
    sealed = []
    for draft in sorted(drafts, key=_order):
        identity = _identity(draft)
        seen[identity] += 1
        content = "\0".join((*identity, str(seen[identity])))
        digest = hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        sealed.append(draft.finding.model_copy(update={"fingerprint": digest}))
    return tuple(sealed)


def _identity(draft: Draft) -> tuple[str, ...]:
    finding = draft.finding
    path = finding.place.path if finding.place else ""
    package = (finding.package.ecosystem, finding.package.name) if finding.package else ("", "")
    texts = tuple(" ".join(text.split()) for text in draft.identity)
    return (finding.scanner, finding.rule, path, *package, *texts)


def _order(draft: Draft) -> tuple[str, int, int, str, str, str, tuple[str, ...]]:
    finding = draft.finding
    place = finding.place
    return (
        place.path if place else "",
        (place.line or 0) if place else 0,
        (place.column or 0) if place else 0,
        finding.rule,
        f"{finding.package.name} {finding.package.version}" if finding.package else "",
        finding.message,
        draft.identity,
    )
