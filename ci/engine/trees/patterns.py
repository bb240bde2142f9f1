"""Which entries of a tree count: include and exclude patterns as in .dockerignore, .gitignore.

Patterns are relative to the tree's root. A pattern that matches a directory holds for all below it;
a later pattern that starts with ``!`` takes back; ``**`` crosses folders. Source: the .dockerignore
section of Docker's build documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from ci.engine.trees.merged import Entry, MergedTree
from ci.engine.vertices.vertex import Patterns

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["EVERYTHING", "PatternList", "glob_expression", "select"]

#: What means something to a regular expression within a class.
_SPECIAL = re.compile(r"[\\\[&~|^]")

#: Selects all of a tree.
EVERYTHING = Patterns()


def glob_expression(pattern: str) -> str:
    """A regular expression for one pattern of ``*``, ``?``, ``[...]`` and ``**``, unanchored."""
    out = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**/", at):
            out.append("(?:[^/]+/)*")
            at += 3
        elif pattern.startswith("**", at):
            out.append(".*")
            at += 2
        elif char == "[" and (end := pattern.find("]", at + 2)) > 0:
            out.append(_class(pattern[at + 1 : end]))
            at = end + 1
        else:
            if char == "\\" and at + 1 < len(pattern):
                at += 1
                char = pattern[at]
                out.append(re.escape(char))
            else:
                out.append({"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char))
            at += 1
    return "".join(out)


def _class(inside: str) -> str:
    """A class of characters; a range that runs backwards has none."""
    negated = inside[0] in "!^"
    body = _SPECIAL.sub(r"\\\g<0>", inside[negated:]).replace("--", r"-\-")
    expression = f"[{'^' if negated else ''}{body}]"
    try:
        re.compile(expression)
    except re.error:
        return "(?!)"
    return expression


class PatternList:
    """A list of patterns in which the last that matches decides."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        cleaned = [_clean(pattern) for pattern in patterns]
        self._exact = [re.compile(glob_expression(body), re.DOTALL) for _, body in cleaned if body]
        self._rules = [
            (negated, re.compile(glob_expression(body) + r"(?:/.*)?", re.DOTALL))
            for negated, body in cleaned
            if body
        ]
        #: Some pattern takes back what others selected.
        self.has_negations = any(negated for negated, _ in cleaned)
        self._folders = [body.split("/") for negated, body in cleaned if not negated]

    def matches(self, path: str) -> bool:
        """Whether ``path``, or a directory above it, is selected."""
        selected = False
        for negated, expression in self._rules:
            if selected is negated and expression.fullmatch(path):
                selected = not negated
        return selected

    def matches_itself(self, path: str) -> bool:
        """Whether a pattern matches ``path`` itself, whatever is selected above it."""
        return any(expression.fullmatch(path) for expression in self._exact)

    def may_match_below(self, folder: str) -> bool:
        """Whether something in ``folder`` could be selected, going by the patterns alone."""
        parts = folder.split("/")
        return any(_leads_into(pattern, parts) for pattern in self._folders)


def _leads_into(pattern: list[str], parts: list[str]) -> bool:
    for place, part in enumerate(parts):
        if place >= len(pattern) or "**" in pattern[place]:
            return True
        if not re.fullmatch(glob_expression(pattern[place]), part, re.DOTALL):
            return False
    return True


def _clean(pattern: str) -> tuple[bool, str]:
    """Whether it takes back, and the pattern without ``./``, doubled slashes and the like."""
    text = pattern.strip()
    negated = text.startswith("!")
    parts: list[str] = []
    for part in text[negated:].strip().split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return negated, "/".join(parts) or ("**" if text.strip("!") else "")


@lru_cache(maxsize=256)
def _compiled(patterns: tuple[str, ...]) -> PatternList:
    return PatternList(patterns)


def select(tree: MergedTree, root: Entry, patterns: Patterns) -> Iterator[tuple[str, Entry]]:
    """What counts below ``root``: (path relative to it, entry), parents first, in byte order.

    A directory that is not selected itself comes too when something in it is.
    """
    skip = len(root.path.rstrip("/")) + 1
    if patterns == EVERYTHING:
        for entry in tree.walk(root):
            yield entry.path[skip:], entry
        return
    yield from _Selection(tree, patterns, skip).below(root, ())


class _Selection:
    """One walk with patterns."""

    def __init__(self, tree: MergedTree, patterns: Patterns, skip: int) -> None:
        self._tree = tree
        self._skip = skip
        self._include = _compiled(patterns.include) if patterns.include else None
        self._exclude = _compiled(patterns.exclude) if patterns.exclude else None
        self._gitignore = patterns.gitignore

    def below(
        self, folder: Entry, specs: tuple[tuple[int, GitIgnoreSpec], ...]
    ) -> Iterator[tuple[str, Entry]]:
        """Selected entries of a directory and all below it."""
        children = self._tree.children(folder)
        if self._gitignore:
            specs = self._with_own_spec(children, specs)
        for child in children:
            path = child.path[self._skip :]
            if specs and _ignored(child, specs):
                continue
            included = self._include is None or self._include.matches(path)
            excluded = self._exclude is not None and self._exclude.matches(path)
            if not child.is_directory:
                if included and not excluded:
                    yield path, child
            elif self._worth_entering(path, included=included, excluded=excluded):
                if included and not excluded:
                    yield path, child
                    yield from self.below(child, specs)
                else:
                    yield from self._only_with_content(path, child, specs)

    def _worth_entering(self, path: str, *, included: bool, excluded: bool) -> bool:
        if excluded and not (self._exclude and self._exclude.has_negations):
            return False
        return included or (self._include is not None and self._include.may_match_below(path))

    def _only_with_content(
        self, path: str, folder: Entry, specs: tuple[tuple[int, GitIgnoreSpec], ...]
    ) -> Iterator[tuple[str, Entry]]:
        """What is selected in a directory that is not; the directory first, if anything is."""
        inside = self.below(folder, specs)
        first = next(inside, None)
        if first is not None:
            yield path, folder
            yield first
            yield from inside

    def _with_own_spec(
        self, children: list[Entry], specs: tuple[tuple[int, GitIgnoreSpec], ...]
    ) -> tuple[tuple[int, GitIgnoreSpec], ...]:
        for child in children:
            if child.path.endswith("/.gitignore") and child.kind == "file":
                from pathspec import GitIgnoreSpec  # noqa: PLC0415 - many modules, seldom needed

                with open(child.host, encoding="utf-8", errors="replace") as file:
                    spec = GitIgnoreSpec.from_lines(file)
                return (*specs, (len(child.path) - len(".gitignore"), spec))
        return specs


def _ignored(entry: Entry, specs: tuple[tuple[int, GitIgnoreSpec], ...]) -> bool:
    """Whether .gitignore files ignore it; the deepest file that says anything decides."""
    for start, spec in reversed(specs):
        path = entry.path[start:] + ("/" if entry.is_directory else "")
        decision = spec.check_file(path).include
        if decision is not None:
            return decision
    return False
