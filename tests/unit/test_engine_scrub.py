"""The scrubber: nothing of a secret passes, however the stream is cut."""

from __future__ import annotations

import base64
import json
import re
import textwrap
import types
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.engine.solver.scrub import MASK, SHORTEST, Scrubber, forms

# Few letters, so that secrets overlap each other and the text.
letters = st.binary(min_size=1, max_size=6).map(lambda b: bytes(65 + byte % 3 for byte in b))
secrets_ = st.lists(st.one_of(letters, st.binary(min_size=3, max_size=8)), max_size=4)


def stream(scrubber: Scrubber, pieces: list[bytes]) -> bytes:
    return b"".join([*(scrubber.feed(piece) for piece in pieces), scrubber.finish()])


def naive(secrets: list[bytes], text: bytes) -> bytes:
    """The same by looking at every place for every spelling."""
    wanted = {form for secret in secrets for form in forms(secret)}
    shown, at, end = b"", 0, 0
    while at < len(text):
        longest = max((len(form) for form in wanted if text.startswith(form, at)), default=0)
        if longest:
            shown += MASK if at >= end else b""
            end = max(end, at + longest)
        elif at >= end:
            shown += text[at : at + 1]
        at += 1
    return shown


@given(secrets_, st.lists(letters, max_size=30))
def test_a_stream_is_masked_as_the_naive_model_does_however_it_is_cut(secrets, pieces):
    whole = b"".join(pieces)
    assert stream(Scrubber(secrets), pieces) == naive(secrets, whole)
    assert stream(Scrubber(secrets), [bytes([byte]) for byte in whole]) == naive(secrets, whole)


@given(st.lists(letters, min_size=1, max_size=4), st.lists(letters, max_size=30))
def test_no_secret_is_left_between_masks(secrets, pieces):
    shown = stream(Scrubber(secrets), pieces)
    for part in shown.split(MASK):
        assert not any(secret in part for secret in secrets if len(secret) >= SHORTEST)


@given(st.lists(letters, min_size=1, max_size=4), st.lists(letters, max_size=30), st.data())
def test_no_secret_is_told_whole_where_not_all_can_be_awaited(secrets, pieces, data):
    scrubber, shown = Scrubber(secrets), b""
    for piece in pieces:
        shown += scrubber.feed(piece)
        if scrubber.holds and data.draw(st.booleans()):
            shown += scrubber.overdue()
            assert not scrubber.holds
    shown += scrubber.finish()
    for part in shown.split(MASK):
        assert not any(secret in part for secret in secrets if len(secret) >= SHORTEST)


def test_what_completes_a_secret_that_could_not_be_awaited_is_masked():
    scrubber = Scrubber([b"passed on to nobody", b"passed"])
    assert scrubber.feed(b"$ pas") == b"$ "
    assert scrubber.overdue() == b"pas"
    assert scrubber.feed(b"sed on to") == b""
    assert scrubber.overdue() == b"*** on to"
    assert scrubber.feed(b" nobody; pa") == b"***; "
    assert scrubber.overdue() == b"pa"
    assert scrubber.feed(b"ssing") == b"ssing"
    assert scrubber.finish() == b""


@given(st.binary(min_size=8, max_size=600), st.integers(1, 64), st.binary(max_size=20))
def test_a_secret_in_any_spelling_is_under_one_mask(secret, size, around):
    if len(secret.strip()) < 8 or secret.strip() != secret:
        return
    text = secret.decode("latin-1")
    for spelling in (
        secret,
        base64.b64encode(secret),
        base64.urlsafe_b64encode(secret),
        quote(secret, safe="").encode(),
        quote_plus(secret).encode(),
    ):
        shown = stream(
            Scrubber([secret]),
            [spelling[at : at + size] for at in range(0, len(spelling), size)],
        )
        assert shown == MASK, spelling
    utf8 = text.encode()
    for spelling in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        assert Scrubber([utf8]).scrub(b'"' + spelling.encode() + b'"') == b'"***"'


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=20), st.binary(max_size=20))
def test_base64_of_what_holds_a_secret_shows_no_long_piece_of_it(secret, before, after):
    encoded = base64.b64encode(before + secret + after)
    shown = Scrubber([secret]).scrub(encoded)
    start = -(-len(before) * 8 // 6)
    known = encoded[start : (len(before) + len(secret)) * 8 // 6]
    if len(known) >= 6 and secret.strip() == secret:
        assert known not in shown


def test_secrets_that_overlap_leave_nothing_of_either():
    assert Scrubber([b"abcd", b"cdef"]).scrub(b"xabcdefx") == b"x***x"
    assert Scrubber([b"abab"]).scrub(b"abababab!") == b"***!"
    assert Scrubber([b"abcd", b"efgh"]).scrub(b"abcdefgh") == b"******"


@pytest.mark.parametrize("columns", [76, 64])
def test_base64_that_is_broken_into_lines_is_masked(columns):
    secret = bytes(range(33, 127)) * 2
    encoded = base64.b64encode(secret).decode()
    lines = "\n".join(textwrap.wrap(encoded, columns)).encode()
    shown = Scrubber([secret]).scrub(lines)
    assert not re.search(rb"\w{6}", shown)


def test_a_part_of_a_long_secret_is_masked_too():
    secret = "".join(chr(33 + (n * n + n // 7) % 90) for n in range(2000)).encode()
    shown = Scrubber([secret]).scrub(b"<" + secret[100:1900] + b">")
    assert len(shown) < 300


@pytest.mark.parametrize("value", [b"", b" ", b"\n", b"a", b"ab", b" a \n"])
def test_a_value_that_is_too_short_to_be_a_secret_leaves_the_output_alone(value):
    text = b"a word about an abbot\n"
    assert Scrubber([value]).scrub(text) == text


def test_what_is_held_back_is_bounded():
    for secret in (b"a" * 10_000 + b"b", b"aaaa", b"abcabc" * 1000):
        scrubber = Scrubber([secret])
        for _ in range(64):
            scrubber.feed(secret[:8192] or b"a")
            assert len(scrubber._held) < 256


def test_a_hundred_megabytes_pass(monkeypatch):
    """Work for each byte is bounded: it is counted here in bytes that are searched again."""
    searched = 0
    secret = b"hunter2-hunter2-hunter2"
    scrubber = Scrubber([secret, b"x" * 5000])
    real = scrubber._spellings.pattern
    assert real is not None
    search = real.search

    class Counting:
        def search(self, data: bytes, position: int):
            nonlocal searched
            match = search(data, position)
            searched += (match.end() if match else len(data)) - position
            return match

    counting = types.SimpleNamespace(
        pattern=Counting(),
        overlap=scrubber._spellings.overlap,
        undecided=scrubber._spellings.undecided,
    )
    monkeypatch.setattr(scrubber, "_spellings", counting)
    chunk = (b"a line of output that tells nothing, and then xxxxxxx hunter2-\n" * 1025)[:65536]
    total = 0
    for _ in range(1600):
        total += len(scrubber.feed(chunk))
    total += len(scrubber.finish())
    assert total == 1600 * len(chunk) > 100_000_000
    assert searched < 1.1 * total


def test_a_longer_secret_wins_over_one_that_it_begins_with():
    assert stream(Scrubber([b"abc", b"abcdef"]), [b"xabc", b"defx"]) == b"x***x"


def test_the_trimmed_value_is_hidden_too():
    assert Scrubber([b" hunter2\n"]).scrub(b"is hunter2!") == b"is ***!"


def test_each_line_of_a_secret_of_several_lines_is_hidden():
    key = b"-----BEGIN KEY-----\nMIIEowIBAAKCAQEA\nzz\n-----END KEY-----\n"
    assert Scrubber([key]).scrub(b"> MIIEowIBAAKCAQEA\r\n") == b"> ***\r\n"
    assert b"zz" not in forms(key)


def test_text_without_secrets_passes_at_once():
    scrubber = Scrubber([b"secret"])
    assert scrubber.feed(b"plain text\n") == b"plain text\n"
    assert Scrubber([]).feed(b"anything") == b"anything"
