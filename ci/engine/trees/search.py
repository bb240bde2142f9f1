"""Searching the text of files, as ripgrep does it: in which files, and by what."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import anyio
import anyio.to_thread

from ci.engine.trees import matching
from ci.engine.trees.matching import Expression, Match
from ci.engine.trees.merged import Entry, MergedTree
from ci.engine.trees.patterns import glob_expression, select
from ci.engine.vertices.vertex import Patterns
from ci.errors import CiError

__all__ = ["Search", "SearchError"]


class SearchError(CiError):
    """There is nothing to search by, or not there."""


@dataclass(frozen=True, kw_only=True)
class Search(Expression):
    """What to look for, and where.

    Raises:
        SearchError: the pattern is no regular expression.
    """

    skip_ignored: bool = False
    skip_hidden: bool = False
    paths: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            self.compiled()
        except (re.error, RecursionError, OverflowError) as error:
            raise SearchError(
                "search pattern", got=f"{self.pattern!r} ({error})",
                expected="a regular expression", hint="literal takes the pattern as it is",
            ) from None  # fmt: skip

    async def matches(self, files: Sequence[tuple[str, str]]) -> list[Match]:
        """Results in files, by the path to tell and the path to read. Can be cancelled.

        Raises:
            SearchError: they took too long, or cannot be read.
        """
        if self.is_quick:
            return await anyio.to_thread.run_sync(self.among, files)
        done = await anyio.run_process(
            [sys.executable, "-I", "-S", matching.__file__],
            input=matching.request(self, files),
            check=False,
        )
        if done.returncode == -signal.SIGXCPU:
            raise SearchError(
                f"search for {self.pattern!r}",
                got=f"no end after {matching.CPU_SECONDS} seconds",
                expected="an expression that is soon decided",
                hint="repeat nothing that repeats itself, as in (a+)+",
            )
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise SearchError(
                f"search for {self.pattern!r}", got=said[0] if said else f"{done.returncode}"
            )
        return matching.answer(done.stdout)

    # -- which files ---------------------------------------------------------------------------

    def files(self, tree: MergedTree, root: Entry | None) -> Iterator[tuple[str, str]]:
        """Those below a directory that are searched: their paths from there, and on the host.

        Raises:
            SearchError: a path that was named is not there.
        """
        if root is None:
            return
        wanted = [path.strip("/").removeprefix("./") for path in self.paths]
        wanted = [path for path in wanted if path not in ("", ".")]
        for path in wanted:
            base = "" if root.path == "/" else root.path
            if tree.lookup(f"{base}/{path}") is None:
                raise SearchError(f"search path {path!r}", got="no such file or directory")
        globs = _Globs(self.globs)
        for path, entry in select(tree, root, Patterns(gitignore=self.skip_ignored)):
            if entry.kind != "file" or not globs.take(path):
                continue
            if self.skip_hidden and any(part.startswith(".") for part in path.split("/")):
                continue
            if not self.paths or len(wanted) < len(self.paths) or _below(path, wanted):
                yield path, entry.host


class _Globs:
    """Which paths are named by globs: a later one wins, ``!`` takes back."""

    def __init__(self, globs: tuple[str, ...]) -> None:
        self._rules = [
            (glob.startswith("!"), re.compile(_anywhere(glob.removeprefix("!")), re.DOTALL))
            for glob in globs
        ]
        self._default = all(negated for negated, _ in self._rules)

    def take(self, path: str) -> bool:
        """Whether the path counts."""
        for negated, expression in reversed(self._rules):
            if expression.fullmatch(path):
                return not negated
        return self._default


def _anywhere(glob: str) -> str:
    """A glob as in .gitignore: without a slash it is about names, at any depth."""
    inside = glob.rstrip("/")
    prefix = "" if "/" in inside else "(?:.*/)?"
    return prefix + glob_expression(inside.lstrip("/")) + "(?:/.*)?"


def _below(path: str, wanted: list[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in wanted)
