"""Which repositories have a blob: a registry takes it from there rather than be sent it again."""

from __future__ import annotations

from collections.abc import Iterable

from ci.engine.images.reference import Reference
from ci.engine.store.store import Store

__all__ = ["Origins"]

_KIND = "origin"


class Origins:
    """Remembers, by registry, a repository for each blob that was pulled or pushed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, reference: Reference, blobs: Iterable[str]) -> None:
        """These blobs are in that repository."""
        for digest in blobs:
            known = self._store.get(_KIND, digest) or {}
            if known.get(reference.registry) != reference.repository:
                self._store.put(_KIND, digest, {**known, reference.registry: reference.repository})

    def elsewhere(self, reference: Reference, blobs: Iterable[str]) -> dict[str, str]:
        """Another repository of the same registry for each blob of which one is known."""
        found: dict[str, str] = {}
        for digest in blobs:
            repository = (self._store.get(_KIND, digest) or {}).get(reference.registry)
            if isinstance(repository, str) and repository != reference.repository:
                found[digest] = repository
        return found
