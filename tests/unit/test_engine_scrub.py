"""The scrubber: nothing of a secret passes, however the stream is cut."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.engine.scrub import MASK, Scrubber, forms

# Few letters, so that secrets overlap each other and the text.
letters = st.binary(min_size=1, max_size=6).map(lambda b: bytes(65 + byte % 3 for byte in b))


def stream(scrubber: Scrubber, pieces: list[bytes]) -> bytes:
    return b"".join([*(scrubber.feed(piece) for piece in pieces), scrubber.finish()])


@given(st.lists(letters, max_size=4), st.lists(letters, max_size=30))
def test_the_cut_of_the_stream_changes_nothing(secrets, pieces):
    whole = b"".join(pieces)
    assert stream(Scrubber(secrets), pieces) == Scrubber(secrets).scrub(whole)


@given(st.lists(letters, min_size=1, max_size=4), st.lists(letters, max_size=30))
def test_no_secret_is_left_between_masks(secrets, pieces):
    shown = stream(Scrubber(secrets), pieces)
    for part in shown.split(MASK):
        assert not any(secret in part for secret in secrets)


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=20), st.binary(max_size=20))
def test_base64_of_what_holds_a_secret_shows_no_long_piece_of_it(secret, before, after):
    encoded = base64.b64encode(before + secret + after)
    shown = Scrubber([secret]).scrub(encoded)
    start = -(-len(before) * 8 // 6)
    known = encoded[start : (len(before) + len(secret)) * 8 // 6]
    if len(known) >= 6 and secret.strip() == secret:
        assert known not in shown


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


@pytest.mark.parametrize("blank", [b"", b"  ", b"\n"])
def test_a_blank_secret_does_not_break_the_stream(blank):
    assert b"word" in Scrubber([blank]).scrub(b"a word")
