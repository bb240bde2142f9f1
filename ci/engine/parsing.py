"""Parsing of GraphQL text by graphql-core, made fit for what SDKs send.

A chain of calls nests as deep as it is long, and the content of a file comes as one string. The
parser would refuse the first, and look at each character of the second.
"""

from __future__ import annotations

import re
from json import JSONDecoder

from graphql import DocumentNode, GraphQLError, Source, Token, TokenKind
from graphql.language.lexer import Lexer
from graphql.language.parser import Parser

__all__ = ["DEPTH_LIMIT", "TOKEN_LIMIT", "parse"]

#: Levels of selections that a query may have; a chain of calls takes one each.
DEPTH_LIMIT = 2_000

#: Words and marks that a query may have; a string is one, however long. About two seconds' work.
TOKEN_LIMIT = 100_000

#: A string with none but the escapes that JSON has too, and no code point in two halves.
_PLAIN = r'"(?:[^"\\\r\n\ud800-\udfff]++|\\["\\/bfnrt])*+"'
_PLAIN_STRING = re.compile(_PLAIN)
_JSON = JSONDecoder(strict=False)
_NESTING = re.compile(rf'"""(?:[^"\\]++|\\"""|\\|"(?!""))*+"""|{_PLAIN}|([{{\[])|([}}\]])')


def parse(text: str) -> DocumentNode:
    """The document of a text, without locations.

    Raises:
        GraphQLError: it is none, nested too deep, or too long.
    """
    if _depth(text) > DEPTH_LIMIT:
        raise GraphQLError(f"query: got more than {DEPTH_LIMIT} levels of selections")
    lexer = _Lexer(Source(text))
    return _Parser(text, no_location=True, lexer=lexer, max_tokens=TOKEN_LIMIT).parse_document()


class _Parser(Parser):
    """graphql-core's parser, without its limit of 200 levels; ours was looked at before."""

    def _enter_nesting(self) -> None:
        pass


class _Lexer(Lexer):
    """graphql-core's lexer, which reads plain strings in one go."""

    def read_string(self, start: int) -> Token:
        """The token of the string that begins here."""
        body = self.source.body
        plain = _PLAIN_STRING.match(body, start)
        if plain is None:
            return super().read_string(start)
        return self.create_token(TokenKind.STRING, start, plain.end(), _JSON.decode(plain[0]))


def _depth(text: str) -> int:
    """At most how deep braces and brackets are nested."""
    deepest = level = 0
    for found in _NESTING.finditer(text):
        if found[1]:
            level += 1
            deepest = max(deepest, level)
        elif found[2]:
            level -= 1
    return deepest
