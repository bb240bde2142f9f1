"""Structured logging: dotted past-tense events with fields, to stderr.

Unless more is asked for, only warnings are told, and as sentences.
"""

from __future__ import annotations

import logging
import re
import sys
import tempfile
from typing import TextIO

import structlog

__all__ = ["configure"]

_LONG_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]+")


def configure(*, json: bool = False, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Send log events of this process to ``stream`` (stderr), as lines or as JSON."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
        if verbose
        else _sentence
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


def _sentence(_logger: object, _method: str, event: structlog.types.EventDict) -> str:
    """``warning: image stood in: <what the event says> (field=value)``."""
    level, name = event.pop("level"), event.pop("event")
    event.pop("timestamp")
    hint = event.pop("hint", "")
    texts = {
        key: _LONG_DIGEST.sub(r"\1", str(value))
        for key, value in event.items()
        if value not in (None, "")
    }
    said = [text for text in texts.values() if " " in text]
    rest = [f"{key}={text}" for key, text in texts.items() if " " not in text]
    words = str(name).replace(".", " ").replace("_", " ")
    fields = f" ({', '.join(rest)})" if rest else ""
    line, *more = f"{level}: {': '.join([words, *said])}".splitlines()
    return "\n".join([line + fields, *more, *([f"hint: {hint}"] if hint else [])])


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
