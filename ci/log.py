"""Structured logging: dotted past-tense events with fields, to stderr."""

from __future__ import annotations

import logging
import sys
import tempfile
from typing import TextIO

import structlog

__all__ = ["configure"]


def configure(*, json: bool = False, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Send log events of this process to ``stream`` (stderr), as lines or as JSON."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if verbose else [_file_away]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.DEBUG if verbose else logging.WARNING
        ),
        # The stream of the moment: whoever replaces sys.stderr gets what is logged from then on.
        logger_factory=lambda *_: structlog.PrintLogger(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def _file_away(
    _logger: object, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    """Put a traceback into a file, which the event then names: nothing is lost, nobody is hit."""
    if "traceback" in event:
        with tempfile.NamedTemporaryFile(
            "w", prefix="towpath-", suffix=".traceback", delete=False
        ) as file:
            file.write(str(event["traceback"]))
        event["traceback"] = file.name
    return event
