"""Relay: the solver's events as events of a run, each with the trace of who asked."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ci.clock import Clock
from ci.engine.trace import TRACE
from ci.engine.vertices import execution
from ci.engine.vertices.vertex import Exec
from ci.events import EngineEvent, ExecFinished, ExecStarted, ImageAwaited, NodeOutput

__all__ = ["Relay"]


class Relay:
    """Hands events on, output cut at its lines. May be called from any thread."""

    def __init__(self, sink: Callable[[EngineEvent], None], clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._lock = threading.Lock()
        self._traces: dict[str, str] = {}
        self._partial: dict[tuple[str, execution.Stream], str] = {}

    def __call__(self, event: execution.ExecEvent) -> None:
        """Hand one on."""
        if isinstance(event, execution.ExecStarted):
            with self._lock:
                self._traces[event.exec.digest] = TRACE.get()
            self._started(event.exec)
        elif isinstance(event, execution.ExecOutput):
            self._output(event)
        else:
            self._finished(event)

    def image_awaited(self, address: str) -> None:
        """Tell that whoever asks now waits for an image."""
        self._sink(ImageAwaited(at=self._clock.now(), address=address, trace=TRACE.get()))

    def _trace(self, ran: Exec) -> str:
        with self._lock:
            return self._traces.get(ran.digest) or TRACE.get()

    def _started(self, ran: Exec) -> None:
        self._sink(
            ExecStarted(
                at=self._clock.now(), exec=ran.digest, command=ran.args, trace=self._trace(ran)
            )
        )

    def _output(self, event: execution.ExecOutput) -> None:
        key = (event.exec.digest, event.stream)
        with self._lock:
            *lines, rest = (self._partial.pop(key, "") + event.text).split("\n")
            if rest:
                self._partial[key] = rest
        for line in lines:
            self._line(event.exec, event.stream, line)

    def _line(self, ran: Exec, stream: execution.Stream, line: str) -> None:
        self._sink(
            NodeOutput(
                at=self._clock.now(), text=line.rstrip("\r"), stream=stream, trace=self._trace(ran)
            )
        )

    def _finished(self, event: execution.ExecFinished) -> None:
        streams: tuple[execution.Stream, ...] = ("stdout", "stderr")
        for stream in streams:
            with self._lock:
                rest = self._partial.pop((event.exec.digest, stream), "")
            if rest:
                self._line(event.exec, stream, rest)
        if event.cached:
            self._started(event.exec)
        self._sink(
            ExecFinished(
                at=self._clock.now(),
                exec=event.exec.digest,
                command=event.exec.args,
                cached=event.cached,
                seconds=event.seconds,
                exit_code=event.exit_code,
                trace=self._trace(event.exec),
            )
        )
        with self._lock:
            self._traces.pop(event.exec.digest, None)
