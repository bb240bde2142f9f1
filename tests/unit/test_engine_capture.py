"""Captured output is scrubbed, bounded and in order."""

from __future__ import annotations

from ci.engine.solver.capture import Capture
from ci.engine.vertices.execution import NoSecrets, Scrubber, Stream


class Late:
    """Holds back its last byte, as a scrubber may that waits for the rest of a secret."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        text = self._held + chunk
        self._held = text[-1:]
        return text[:-1]

    def finish(self) -> bytes:
        return self._held


def scrubbers() -> dict[Stream, Scrubber]:
    plain = NoSecrets()
    return {"stdout": plain.scrubber(()), "stderr": plain.scrubber(())}


def test_streams_are_kept_apart_and_together() -> None:
    capture = Capture(scrubbers())
    capture.feed("stdout", b"one ")
    capture.feed("stderr", b"two ")
    capture.feed("stdout", b"three")
    capture.finish()
    assert capture.text("stdout") == "one three"
    assert capture.text("stderr") == "two "
    assert capture.text("combined") == "one two three"


def test_what_the_scrubber_held_back_comes_at_the_end() -> None:
    capture = Capture({"stdout": Late(), "stderr": Late()})
    capture.feed("stdout", b"abc")
    assert capture.text("stdout") == "ab"
    capture.finish()
    assert capture.text("stdout") == "abc"


def test_text_that_is_cut_inside_a_letter_is_passed_on_whole() -> None:
    seen: list[tuple[str, str]] = []
    capture = Capture(scrubbers(), lambda stream, text: seen.append((stream, text)))
    letter = "é".encode()
    capture.feed("stdout", b"a" + letter[:1])
    capture.feed("stdout", letter[1:])
    capture.finish()
    assert seen == [("stdout", "a"), ("stdout", "é")]


def test_output_beyond_the_limit_is_cut_with_a_note() -> None:
    capture = Capture(scrubbers(), limit=10)
    for _ in range(5):
        capture.feed("stdout", b"abcd")
    capture.finish()
    assert capture.text("stdout") == "abcdabcdab\n[towpath: output cut after 10 bytes]\n"
    assert capture.text("stderr") == ""


def test_a_tail_keeps_the_end() -> None:
    capture = Capture(scrubbers(), limit=6, keep_tail=True)
    for chunk in (b"abc", b"def", b"ghi"):
        capture.feed("stdout", chunk)
    capture.finish()
    assert capture.text("combined") == "defghi"
