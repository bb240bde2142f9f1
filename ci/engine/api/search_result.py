"""Fields of SearchResult and SearchSubmatch."""

from __future__ import annotations

from ci.engine.api.context import Context
from ci.engine.api.values import SearchResult, SearchSubmatch

__all__ = [
    "absolute_offset",
    "end",
    "file_path",
    "line_number",
    "matched_lines",
    "start",
    "submatches",
    "text",
]


def file_path(result: SearchResult, _: Context) -> str:
    """Of the file, from the directory that was searched."""
    return result.file_path


def line_number(result: SearchResult, _: Context) -> int:
    """Of the first line, from 1."""
    return result.line_number


def absolute_offset(result: SearchResult, _: Context) -> int:
    """Of the first line in the file, in bytes."""
    return result.absolute_offset


def matched_lines(result: SearchResult, _: Context) -> str:
    """The whole lines."""
    return result.matched_lines


def submatches(result: SearchResult, _: Context) -> tuple[SearchSubmatch, ...]:
    """What matched in them."""
    return result.submatches


def text(submatch: SearchSubmatch, _: Context) -> str:
    """That matched."""
    return submatch.text


def start(submatch: SearchSubmatch, _: Context) -> int:
    """Where it starts in the lines, in bytes."""
    return submatch.start


def end(submatch: SearchSubmatch, _: Context) -> int:
    """Where it ends in the lines, in bytes."""
    return submatch.end
