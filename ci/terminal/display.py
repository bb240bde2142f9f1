"""The display of a run: chosen by where its output goes, fed with events, closed with a summary."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, Self, TextIO

import structlog
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from ci.clock import Clock, SystemClock
from ci.events import (
    DeliveryMoved,
    Event,
    NodeFinished,
    NodeRetried,
    NodeStarted,
    RunFinished,
    RunStarted,
    VerdictReached,
)
from ci.flow import Run
from ci.records.folder import REPORT_NAME
from ci.records.text import clean, duration
from ci.records.verdicts import reasons_told
from ci.terminal.board import Board, Row
from ci.terminal.closing import closing
from ci.terminal.tree import Glyphs, draw

__all__ = ["Display", "JsonLines", "LiveTree", "PlainLines"]

_TAIL = 40
_FRAMES_A_SECOND = 8
#: Those steps of a delivery that move traffic; a log needs no others.
_STEPS_TOLD = frozenset({"shifting", "restoring", "returning"})


class Display(ABC):
    """A sink of events, used as a context; ``finish`` closes a run with its summary."""

    @staticmethod
    def of(
        *,
        json: bool = False,
        plain: bool = False,
        no_color: bool = False,
        clock: Clock | None = None,
    ) -> Display:
        """JSON on stdout where asked for; a live tree where stderr is a terminal; else lines."""
        if json:
            return JsonLines(sys.stdout, sys.stderr)
        console = Console(stderr=True, no_color=no_color or None, highlight=False)
        if plain or not console.is_terminal or console.is_dumb_terminal:
            return PlainLines(sys.stderr)
        return LiveTree(console, clock or SystemClock())

    @abstractmethod
    def __call__(self, event: Event) -> None:
        """Show what happened. May be called from any thread."""

    @abstractmethod
    def finish(self, run: Run, folder: Path) -> None:
        """Tell how the run ended, where its environments answer, and where its reports are."""

    def __enter__(self) -> Self:
        """Show nothing yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        self.close()

    @contextmanager
    def stepping_aside(self) -> Iterator[None]:
        """While the context lasts, the terminal is another's."""
        yield

    def close(self) -> None:  # noqa: B027 - most displays hold nothing
        """Stop showing what changes."""


class JsonLines(Display):
    """Each event as a line of JSON on ``data``, as it happens; see ``ci.events``."""

    def __init__(self, data: TextIO, messages: TextIO) -> None:
        self._data = data
        self._messages = messages
        self._lock = RLock()

    def __call__(self, event: Event) -> None:
        """Write it."""
        with self._lock:
            self._data.write(event.to_json() + "\n")
            self._data.flush()

    def finish(self, run: Run, folder: Path) -> None:
        """Only the path of the report: the events have said the rest."""
        del run
        self._messages.write(f"report: {folder / REPORT_NAME}\n")
        self._messages.flush()


class PlainLines(Display):
    """A line for each thing that happens, with the time since the start: for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._board = Board()
        self._lock = RLock()
        encoding = (stream.encoding or "ascii").lower()
        self._glyphs = Glyphs(ascii_only=not encoding.startswith("utf"))

    def __call__(self, event: Event) -> None:
        """Write its line, where it has one."""
        with self._lock:
            self._board.apply(event)
            match event:
                case RunStarted():
                    self._write(f"{event.pipeline}: {_steps(event)}, run {event.run}")
                case NodeStarted(node=node, attempt=attempt) if (
                    self._board.rows[node].kind != "gate"
                ):
                    again = f", attempt {attempt}" if attempt > 1 else ""
                    self._say(event.at, node, f"started{again}")
                case NodeRetried():
                    reason = f"again in {event.delay:.1f} s: {clean(event.reason)}"
                    self._say(event.at, event.node, reason)
                case DeliveryMoved() if event.step in _STEPS_TOLD:
                    self._say(event.at, event.environment, f"{event.step} {event.version}".rstrip())
                case VerdictReached():
                    self._verdict(event)
                case NodeFinished():
                    self._ended(event, self._board.rows[event.node])
                case RunFinished():
                    self._say(event.at, event.outcome.value, f"in {duration(event.seconds)}")
                case _:
                    pass

    def finish(self, run: Run, folder: Path) -> None:
        """The summary."""
        with self._lock:
            for line in closing(run.record, folder, self._glyphs):
                self._write(line.plain)

    def _ended(self, event: NodeFinished, row: Row) -> None:
        if row.verdict is not None:
            return
        spent = f" in {duration(event.seconds)}" if event.attempts else ""
        cached = " (cached)" if event.cached else ""
        said = clean(event.reason or event.summary).strip()
        first, *rest = said.splitlines() or [""]
        why = f": {first}" if first else ""
        self._say(event.at, event.node, f"{event.status.value}{spent}{cached}{why}")
        if row.broken or row.hinted:
            for line in rest:
                self._write(f"{'':12}{line}")
        if row.broken:
            for line in row.tail(_TAIL):
                self._write(f"{'':12}{self._glyphs.bar} {line}")

    def _verdict(self, event: VerdictReached) -> None:
        verdict = event.verdict
        self._say(event.at, verdict.gate, f"gate {verdict.outcome.value}")
        for reason in reasons_told(verdict):
            self._write(f"{'':12}{clean(reason)}")

    def _say(self, at: datetime, name: str, what: str) -> None:
        seconds = self._board.seconds(at)
        width = max((len(each) for each in self._board.rows), default=0)
        self._write(f"{duration(seconds):>11} {name:<{width}} {what}")

    def _write(self, line: str) -> None:
        self._stream.write(line.rstrip() + "\n")
        self._stream.flush()


def _steps(event: RunStarted) -> str:
    count = len(event.nodes)
    return f"{count} step{'s' * (count != 1)}"


class LiveTree(Display):
    """The tree of nodes, drawn again as it changes, and once more for good when the run ends.

    What else is written to stderr meanwhile, log lines too, appears above it.
    """

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._board = Board()
        self._lock = RLock()
        self._live: Live | None = None
        self._logger_factory: Callable[..., Any] | None = None
        self._glyphs = Glyphs(ascii_only=console.options.ascii_only)

    def __call__(self, event: Event) -> None:
        """Take note of it; the next frame shows it."""
        with self._lock:
            self._board.apply(event)
        if isinstance(event, RunStarted):
            self.close()
            self._open()
        elif isinstance(event, RunFinished):
            self.close()

    def finish(self, run: Run, folder: Path) -> None:
        """The summary, below the tree."""
        self.close()
        for line in closing(run.record, folder, self._glyphs):
            self._console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Draw the tree for good."""
        live, self._live = self._live, None
        if live is None:
            return
        # Not under the lock: the thread that draws may be waiting for it.
        live.stop()
        structlog.configure(logger_factory=self._logger_factory)
        with self._lock:
            for line in self._lines(self._console.width, None):
                self._console.print(line, soft_wrap=True)

    @contextmanager
    def stepping_aside(self) -> Iterator[None]:
        """The tree is drawn as it stands, and from then on again."""
        is_drawn = self._live is not None
        self.close()
        try:
            yield
        finally:
            if is_drawn and self._live is None:
                self._open()

    def _open(self) -> None:
        self._live = Live(
            _Frame(self),
            console=self._console,
            refresh_per_second=_FRAMES_A_SECOND,
            transient=True,
            redirect_stdout=False,
            vertical_overflow="crop",
        )
        self._live.start()
        self._logger_factory = structlog.get_config()["logger_factory"]
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

    def _lines(self, width: int, height: int | None) -> list[Text]:
        with self._lock:
            now = self._clock.now()
            return draw(self._board, now, width=width, height=height, glyphs=self._glyphs)

    def frame(self, options: ConsoleOptions) -> list[Text]:
        """The tree as it stands, for a terminal of this size."""
        return self._lines(options.max_width, options.size.height - 1)


class _Frame:
    """What rich draws: asked anew for each frame."""

    def __init__(self, tree: LiveTree) -> None:
        self._tree = tree

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines of this moment."""
        yield from self._tree.frame(options)
