"""DockerfileError: the one error of a Dockerfile, with its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ci.engine.refusal import Refusal
from ci.engine.vertices.execution import ExecFailed
from ci.errors import CiError

__all__ = ["DockerfileError", "nearest", "told"]


class DockerfileError(Refusal):
    """A Dockerfile is wrong, or asks for what the engine does not do."""

    def __init__(
        self, file: str, line: int, what: str, *, got: str, expected: str = "", hint: str = ""
    ) -> None:
        where = f"{file}:{line}" if line else file
        super().__init__(
            f"{where}: {what}" if what else where, got=got, expected=expected, hint=hint
        )
        self.line = line


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean X?`` for the known word that is most like it; empty where none is."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {found[0]}?" if found else ""


def told(origin: str, error: CiError, hint: str = "") -> CiError:
    """The error with the place of the instruction, where there is one; ``hint`` beats its own."""
    if not origin or isinstance(error, ExecFailed) or error.subject.startswith(origin):
        return error
    return CiError(
        f"{origin}: {error.subject}",
        got=error.got,
        expected=error.expected,
        hint=hint or error.hint,
    )
