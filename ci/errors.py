"""Errors that a user reads: each says what, what was got, what was expected, and what to do."""

from __future__ import annotations

from ci import exits

__all__ = ["CiError", "ConfigError", "StageErrored", "StageFailed", "StageSkipped", "foremost"]


class CiError(Exception):
    """Base of every error that Towpath raises on purpose.

    The constructor takes facts and writes the sentence, so that all messages read alike:
    ``subject: got X; expected Y`` and, on a line of its own, ``hint: Z``.
    """

    #: Exit code of the ``ci`` command when this error ends it.
    exit_code: int = exits.ERRORED

    def __init__(self, subject: str, *, got: str = "", expected: str = "", hint: str = "") -> None:
        self.subject = subject
        self.got = got
        self.expected = expected
        self.hint = hint
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """The whole message, hint included."""
        facts = [
            *([f"got {self.got}"] if self.got else []),
            *([f"expected {self.expected}"] if self.expected else []),
        ]
        line = self.subject + (": " + "; ".join(facts) if facts else "")
        return line + (f"\nhint: {self.hint}" if self.hint else "")


class ConfigError(CiError):
    """The configuration or the command line is wrong; nothing was run."""

    exit_code = exits.MISUSED


class StageFailed(CiError):
    """Raised by a stage when the code under test is at fault."""

    exit_code = exits.FAILED


class StageErrored(CiError):
    """Raised by a stage when its tool, or the machine, is at fault."""


class StageSkipped(CiError):
    """Raised by a stage that does not apply here; the subject is the reason."""

    exit_code = exits.PASSED


def foremost(
    group: BaseExceptionGroup[BaseException], kinds: tuple[type[BaseException], ...]
) -> BaseException:
    """The one error that matters of several: of the first kind that is there, else the first."""
    flat = [
        foremost(error, kinds) if isinstance(error, BaseExceptionGroup) else error
        for error in group.exceptions
    ]
    return next((error for kind in kinds for error in flat if isinstance(error, kind)), flat[0])
