"""What a command prints: scrubbed as it comes, kept up to a bound, passed on as text."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Final

from ci.engine.vertices.execution import Scrubber, Stream

__all__ = ["LIMIT", "Capture"]

#: Bytes that are kept of each stream.
LIMIT: Final = 64 << 20


class Capture:
    """Takes in chunks, in one thread; read it when the command is over.

    Args:
        scrubbers: One for each stream.
        on_text: Called with each piece of scrubbed text, in the thread that feeds.
        limit: Bytes of each stream to keep; the text says where it was cut.
        keep_tail: Keep the last bytes rather than the first.
    """

    def __init__(
        self,
        scrubbers: dict[Stream, Scrubber],
        on_text: Callable[[Stream, str], None] | None = None,
        *,
        limit: int = LIMIT,
        keep_tail: bool = False,
    ) -> None:
        self._scrubbers = scrubbers
        self._on_text = on_text
        self._limit = limit
        self._keep_tail = keep_tail
        self._kept = {"stdout": bytearray(), "stderr": bytearray(), "combined": bytearray()}
        self._cut: set[str] = set()
        self._decoders = {
            stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in scrubbers
        }

    def feed(self, stream: Stream, chunk: bytes) -> None:
        """Take in what came."""
        self._take(stream, self._scrubbers[stream].feed(chunk))

    def finish(self) -> None:
        """Both streams are over."""
        for stream, scrubber in self._scrubbers.items():
            self._take(stream, scrubber.finish())
        for name in self._cut:
            self._kept[name] += b"\n[towpath: output cut after %d bytes]\n" % self._limit

    def raw(self, name: str) -> bytes:
        """Bytes of ``stdout``, ``stderr`` or ``combined``."""
        return bytes(self._kept[name])

    def text(self, name: str) -> str:
        """Text of ``stdout``, ``stderr`` or ``combined``; what is no UTF-8 is replaced."""
        return self._kept[name].decode("utf-8", "replace")

    def _take(self, stream: Stream, clean: bytes) -> None:
        if not clean:
            return
        self._keep(stream, clean)
        self._keep("combined", clean)
        if self._on_text is not None:
            text = self._decoders[stream].decode(clean)
            if text:
                self._on_text(stream, text)

    def _keep(self, name: str, clean: bytes) -> None:
        kept = self._kept[name]
        if self._keep_tail:
            kept += clean
            del kept[: max(0, len(kept) - self._limit)]
            return
        room = self._limit - len(kept)
        if len(clean) > room:
            self._cut.add(name)
        if room > 0:
            kept += clean[:room]
