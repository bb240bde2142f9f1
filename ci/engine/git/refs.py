"""What ``git ls-remote --symref`` tells of a repository, and looking up names in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ci.engine.refusal import Refusal

__all__ = ["Ref", "Refs", "is_commit"]

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PEELED = "^{}"
_VERSION = re.compile(
    r"v(0|[1-9]\d*)(?:\.(0|[1-9]\d*)(?:\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?)?)?"
)


def is_commit(text: str) -> bool:
    """It is the whole ID of a commit."""
    return _COMMIT.fullmatch(text) is not None


@dataclass(frozen=True)
class Ref:
    """A name of a repository and the commit that it stands for; a lone commit has no name."""

    name: str
    commit: str


@dataclass(frozen=True)
class Refs:
    """All names of a repository, in its order."""

    #: (name, object); a tag's commit has the tag's name and ``^{}``.
    listed: tuple[tuple[str, str], ...] = ()
    #: (name, the name that it stands for)
    symbolic: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Refs:
        """Of the program's output."""
        listed, symbolic = [], []
        for line in text.splitlines():
            value, tab, name = line.partition("\t")
            if tab and value.startswith("ref: "):
                symbolic.append((name, value.removeprefix("ref: ")))
            elif tab and is_commit(value):
                listed.append((name, value))
        return cls(tuple(listed), tuple(symbolic))

    def find(self, name: str) -> Ref:
        """A ref by its whole name, or as ``git checkout`` takes it: branches before tags.

        Raises:
            Refusal: there is none.
        """
        if is_commit(name):
            return Ref("", name)
        known = dict(self.listed)
        places = (name, f"refs/{name}", f"refs/heads/{name}", f"refs/tags/{name}")
        for place in places:
            if place in known:
                commit = known.get(place + _PEELED, known[place])
                return Ref(dict(self.symbolic).get(place, place), commit)
        raise Refusal(f"git repository: it does not contain ref {name!r}", hint=self._alike(name))

    def _alike(self, name: str) -> str:
        some = [
            short for short in (*self.branches(), *self.tags()) if name in short or short in name
        ]
        return f"there is {', '.join(some[:5])}" if some else ""

    def branches(self, patterns: Sequence[str] = ()) -> list[str]:
        """Short names of the branches that match any of the patterns, or all."""
        return self._short("refs/heads/", patterns)

    def tags(self, patterns: Sequence[str] = ()) -> list[str]:
        """Short names of the tags that match any of the patterns, or all."""
        return self._short("refs/tags/", patterns)

    def _short(self, prefix: str, patterns: Sequence[str]) -> list[str]:
        return [
            name.removeprefix(prefix)
            for name, _ in self.listed
            if name.startswith(prefix) and not name.endswith(_PEELED) and _matches(name, patterns)
        ]

    def latest_version(self) -> Ref:
        """The tag of the highest version, as Semantic Versioning 2.0 orders them.

        Raises:
            Refusal: no tag is a version such as v1.2.3.
        """
        versions = [(order, tag) for tag in self.tags() if (order := _order(tag)) is not None]
        if not versions:
            raise Refusal("git repository", got="no tag that is a version", expected="v1.2.3")
        return self.find(f"refs/tags/{max(versions)[1]}")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """As git matches the patterns of ``ls-remote``: from the end of the name."""
    return not patterns or any(fnmatchcase(f"/{name}", f"*/{pattern}") for pattern in patterns)


def _order(tag: str) -> tuple[object, ...] | None:
    """What versions are compared by; None for what is none."""
    found = _VERSION.fullmatch(tag)
    if found is None:
        return None
    numbers = tuple(int(part or 0) for part in found.groups()[:3])
    return (*numbers, found[4] is None, tuple(_identifiers((found[4] or "").split("."))))


def _identifiers(parts: Iterable[str]) -> Iterable[tuple[bool, int, str]]:
    """Numbers are lower than words, and compared as numbers."""
    for part in parts:
        yield (False, int(part), "") if part.isdigit() else (True, 0, part)
