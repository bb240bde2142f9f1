"""Queries made from the schema itself, valid and nearly so: every one is answered, and in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.engine.api.schema import build
from ci.engine.session import Session

#: They reach the machine or the network: a random path or address is none to try them with.
OUTWARD = {
    "address", "export", "from", "git", "host", "http", "import", "publish", "start", "up",
    "withServiceBinding", "asGit",
}  # fmt: skip

TEXTS = [
    "", "/", ".", "..", "../../etc/passwd", "/a", "a/b/", "a", "x" * 300, "a\x00b", "é",
    "\U0001f600", "$HOME", "${A", "*", "**/[", "linux/amd64", "mips/x/y/z", "root", "nobody:",
    "0:0", ":", "10s", "-1h", "{}", "[1", "env://A", "env://", "file:///absent", "A=1", "\n", "sh",
    "true", "%s", "1.0",
    "sha256:" + "0" * 64, "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n", "(", "a@sha256:b", "//host:99999/",
]  # fmt: skip
NUMBERS = [0, 1, -1, 0o644, 0o7777, 80, 65535, 65536, 2**31 - 1, -(2**31)]

#: Made once; their IDs are what fields are given that want an object.
MADE = [
    "{container{id}}",
    '{container{withNewFile(path:"/f",contents:"x"){withWorkdir(path:"/w"){id}}}}',
    '{container{withExec(args:["true"]){id}}}',
    "{directory{id}}",
    '{directory{withNewFile(path:"a/b",contents:"x"){withSymlink(target:"..",linkName:"l"){id}}}}',
    '{file(name:"f",contents:"x=1"){id}}',
    '{setSecret(name:"s",plaintext:"p"){id}}',
    '{secret(uri:"env://ABSENT"){id}}',
    '{cacheVolume(key:"k"){id}}',
    "{envFile{id}}",
    "{json{id}}",
    '{error(message:"m"){id}}',
    '{container{withEnvVariable(name:"A",value:"1"){envVariables{id}}}}',
]


class Drawing:
    """Draws parts of queries."""

    def __init__(self, draw: Callable[..., Any], schema: GraphQLSchema, ids: list[str]) -> None:
        self._draw = draw
        self._schema = schema
        self._ids = ids

    def one_of(self, values: list[Any]) -> Any:
        return self._draw(st.sampled_from(values))

    def rarely(self) -> bool:
        return bool(self._draw(st.integers(0, 14)) == 0)

    def value(self, kind: GraphQLInputType) -> str:
        """A literal, now and then of another type."""
        if self.rarely():
            return str(self.one_of(["null", "7", '"text"', "[]", "{}", "NAME", "1.5", "true"]))
        if isinstance(kind, GraphQLNonNull):
            return self.value(kind.of_type)
        if isinstance(kind, GraphQLList):
            count = self._draw(st.integers(0, 3))
            return "[" + ",".join(self.value(kind.of_type) for _ in range(count)) + "]"
        if isinstance(kind, GraphQLEnumType):
            return str(self.one_of(list(kind.values)))
        if isinstance(kind, GraphQLInputObjectType):
            pairs = (f"{name}:{self.value(each.type)}" for name, each in kind.fields.items())
            return "{" + ",".join(pairs) + "}"
        return self.scalar(kind.name)

    def scalar(self, name: str) -> str:
        match name:
            case "Int":
                return str(self.one_of(NUMBERS))
            case "Boolean":
                return str(self.one_of(["true", "false"]))
            case "Float":
                return "0.5"
            case "ID":
                return json.dumps(self.one_of(self._ids))
        return json.dumps(self.one_of(TEXTS), ensure_ascii=False)

    def arguments(self, field: GraphQLField) -> str:
        given = [
            f"{name}:{self.value(argument.type)}"
            for name, argument in field.args.items()
            if (isinstance(argument.type, GraphQLNonNull) and not self.rarely())
            or self._draw(st.integers(0, 3)) == 0
        ]
        return "(" + ",".join(given) + ")" if given else ""

    def selection(self, kind: GraphQLObjectType | GraphQLInterfaceType, depth: int) -> str:
        """A field, or two, with what is selected of them."""
        if isinstance(kind, GraphQLInterfaceType):
            below = self.one_of(self._schema.get_possible_types(kind))
            return f"... on {below.name}{{{self.selection(below, depth)}}}"
        names = [name for name in kind.fields if name not in OUTWARD]
        parts = []
        for alias in ("a", "b")[: self._draw(st.integers(1, 2))]:
            name = self.one_of(names)
            field = kind.fields[name]
            inner = get_named_type(field.type)
            text = f"{alias}:{name}{self.arguments(field)}"
            if isinstance(inner, GraphQLObjectType | GraphQLInterfaceType):
                text += "{" + (self.selection(inner, depth - 1) if depth else "id") + "}"
            else:
                assert is_leaf_type(inner)
            parts.append(text)
        return " ".join(parts)


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], httpx.Response]]:
    """Sends a query to a session that lives as long as the tests of this file."""
    session = Session(
        cache=tmp_path_factory.mktemp("cache"),
        workdir=tmp_path_factory.mktemp("work"),
        environ={"A": "1"},
        healthy_seconds=1,
    )
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(session),
        httpx.Client(auth=(session.token, ""), timeout=120) as client,
    ):
        url = f"http://127.0.0.1:{session.port}/query"
        yield lambda query: client.post(url, json={"query": query})


@pytest.fixture(scope="module")
def ids(ask: Callable[[str], httpx.Response]) -> list[str]:
    """IDs of this session, and some that it never gave."""
    found = ["", "nonsense", "Container:00", "Directory:" + "0" * 64, "a" * 10_000]
    for query in MADE:
        value = ask(query).json()["data"]
        while not isinstance(value, str):
            value = value[0] if isinstance(value, list) else next(iter(value.values()))
        found.append(value)
    return found


def check(response: httpx.Response, query: str) -> None:
    """One JSON object with data, errors or both; nobody was taken by surprise."""
    assert response.status_code == 200, query
    answer = response.json()
    assert set(answer) <= {"data", "errors"}, query
    for error in answer.get("errors", ()):
        assert error["message"], query
        assert "internal error" not in error["message"], f"{error}\n{query}"
        assert "Traceback" not in error["message"], query
    if "errors" not in answer:
        assert answer["data"] is not None, query


SCHEMA = build()


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_query_of_the_schema_is_answered(ask, ids, data) -> None:
    drawing = Drawing(data.draw, SCHEMA, ids)
    start = data.draw(st.sampled_from(["Query", "Container", "Directory", "File", "Changeset"]))
    depth = data.draw(st.integers(0, 4))
    kind = SCHEMA.type_map[start]
    assert isinstance(kind, GraphQLObjectType)
    query = "{" + drawing.selection(kind, depth) + "}"
    if start != "Query":
        of_kind = [each for each in ids if each.startswith(start)]
        identity = json.dumps(data.draw(st.sampled_from(of_kind or ids)))
        query = f"{{node(id:{identity}){{... on {start}{query}}}}}"
    check(ask(query), query)


@pytest.mark.parametrize(
    "name", [name for name, kind in SCHEMA.type_map.items() if isinstance(kind, GraphQLObjectType)]
)
def test_every_field_of_every_type_is_answered(ask, ids, name) -> None:
    """Each alone, with the plainest arguments, of each object that there is of its type."""
    kind = SCHEMA.type_map[name]
    assert isinstance(kind, GraphQLObjectType)
    if name.startswith("__"):
        return
    for field_name, field in kind.fields.items():
        if field_name in OUTWARD:
            continue
        inner = get_named_type(field.type)
        arguments = ",".join(
            f"{each}:{plainest(argument.type, ids)}"
            for each, argument in field.args.items()
            if isinstance(argument.type, GraphQLNonNull)
        )
        query = field_name + (f"({arguments})" if arguments else "")
        query += "" if is_leaf_type(inner) else "{__typename}"
        if name == "Query":
            query = f"{{{query}}}"
            check(ask(query), query)
            continue
        for identity in [each for each in ids if each.startswith(f"{name}:")]:
            whole = f"{{node(id:{json.dumps(identity)}){{... on {name}{{{query}}}}}}}"
            check(ask(whole), whole)


def plainest(kind: GraphQLInputType, ids: list[str]) -> str:
    """A literal of that type."""
    match kind:
        case GraphQLNonNull():
            return plainest(kind.of_type, ids)
        case GraphQLList():
            return f"[{plainest(kind.of_type, ids)}]"
        case GraphQLEnumType():
            return str(next(iter(kind.values)))
        case GraphQLInputObjectType():
            return "{}"
    plain = {"Int": "1", "Boolean": "true", "Float": "1", "ID": json.dumps(ids[-1])}
    found: str = plain.get(kind.name, '"a"')
    return found
