"""Queries are read as graphql-core reads them, and as deep as they are nested."""

from __future__ import annotations

import graphql
import pytest
from graphql import GraphQLError
from hypothesis import given
from hypothesis import strategies as st

from ci.engine.parsing import DEPTH_LIMIT, parse

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
#: What strings are made of, and what breaks them.
PIECES = st.sampled_from(
    ['"', "\\", '\\"', "\\n", "\\u0041", "\\ud83d\\ude00", "\\u{1F600}", "\\ud83d", "\\x", "\n",
     "\r", "\t", "\0", "\ud83d", "\ud83d\ude00", "{", "[", "#", "é", "😀", " ", "a"]
)  # fmt: skip


def read(parser, text: str) -> object:
    try:
        return parser(text).to_dict()
    except GraphQLError as error:
        return error.message


def of_core(text: str) -> graphql.DocumentNode:
    return graphql.parse(text, no_location=True)


@given(st.lists(st.one_of(PIECES, TEXT)).map("".join))
def test_strings_are_read_as_graphql_core_reads_them(inside):
    text = f'{{a(b: "{inside}") {{c}}}}'
    assert read(parse, text) == read(of_core, text)


@given(TEXT)
def test_any_text_is_read_as_graphql_core_reads_it(text):
    assert read(parse, text) == read(of_core, text)


@given(TEXT)
def test_what_is_printed_is_read_back(value):
    text = f"{{a(b: {graphql.print_ast(graphql.StringValueNode(value=value))})}}"
    assert graphql.print_ast(parse(text)).split() == graphql.print_ast(of_core(text)).split()


@pytest.mark.parametrize("quote", ['"', '"""'])
def test_braces_in_a_string_nest_nothing(quote):
    parse(f"{{a(b: {quote}{'{[' * DEPTH_LIMIT}{quote})}}")


def test_what_nests_too_deep_is_refused():
    levels = DEPTH_LIMIT + 1
    with pytest.raises(GraphQLError, match=f"more than {DEPTH_LIMIT} levels"):
        parse("{a" * levels + "}" * levels)
