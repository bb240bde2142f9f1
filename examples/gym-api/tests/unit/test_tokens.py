from __future__ import annotations

import pytest

from gym_api import tokens


def test_no_two_tokens_are_the_same() -> None:
    assert len({tokens.new_token() for _ in range(100)}) == 100


def test_a_token_in_a_header_is_found() -> None:
    token = tokens.new_token()
    assert tokens.from_header(f"Bearer {token}") == token
    assert tokens.from_header(f"bearer  {token} ") == token


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer other", "Basic gym_abc"])
def test_what_is_no_token_of_ours_is_none(header: str | None) -> None:
    assert tokens.from_header(header) is None


def test_a_digest_does_not_hold_the_token() -> None:
    token = tokens.new_token()
    assert len(tokens.digest(token)) == 32
    assert tokens.digest(token) == tokens.digest(token)
    assert token.encode() not in tokens.digest(token)
