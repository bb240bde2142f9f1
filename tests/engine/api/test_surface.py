"""Every field of the API is served, or refuses by name, and docs/engine.md says which."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLField, GraphQLObjectType, GraphQLSchema

from ci.engine.api import schema
from ci.engine.refusal import Unsupported

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = (ROOT / "docs" / "engine.md").read_text()
WHOLE = schema.build_whole()


def types(of: GraphQLSchema = WHOLE) -> dict[str, GraphQLObjectType]:
    """The object types of a schema."""
    return {
        name: kind
        for name, kind in of.type_map.items()
        if isinstance(kind, GraphQLObjectType) and not name.startswith("__")
    }


def own_fields(type_: str) -> dict[str, GraphQLField]:
    """The fields of a type but those that all have."""
    return {
        name: field
        for name, field in types()[type_].fields.items()
        if name != "id" and not re.fullmatch(r"load\w+FromID", name)
    }


def is_served(type_: str, field: str) -> bool:
    return schema.snake(field) in schema.resolvers(type_)


@pytest.mark.parametrize("type_", types())
def test_a_field_without_a_resolver_refuses_by_its_name(type_):
    for field in own_fields(type_):
        if not is_served(type_, field):
            resolve: Any = types()[type_].fields[field].resolve
            with pytest.raises(Unsupported, match=rf"^{type_}\.{field} is not supp") as raised:
                resolve(None, None)
            assert "Dagger engine" in raised.value.hint


#: What a module of resolvers lends to others.
SHARED = {"interact"}


def test_every_resolver_is_of_a_field():
    modules: dict[str, set[str]] = {}
    for type_, names in schema._MODULES.items():
        for module in names:
            fields = modules.setdefault(module, set())
            fields |= {schema.snake(name) for name in types()[type_].fields}
    for module, fields in modules.items():
        found = __import__(f"ci.engine.api.{module}", fromlist=["__all__"]).__all__
        assert set(found) - SHARED <= fields, module


def test_ids_of_what_is_not_served_are_refused_by_name():
    resolve: Any = WHOLE.type_map["Query"].fields["loadLLMFromID"].resolve  # type: ignore[attr-defined]
    with pytest.raises(Unsupported, match=r"Query\.loadLLMFromID"):
        resolve(None, None, id="LLM:x")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ('{llm{withModel(model:"x"){model}}}', "Query.llm"),
        ('{address(value:"x"){volume{id}}}', "Address.volume"),
        ('{sshfsVolume(endpoint:"x",privateKey:"y"){id}}', "Query.sshfsVolume"),
    ],
)
async def test_what_only_sdks_know_is_refused_by_name_too(client, query, field):
    error = await client.error(query)
    assert error["message"].startswith(f"{field} is not supported by the embedded engine\nhint: ")


async def test_what_nobody_knows_is_no_field(client):
    error = await client.error("{llm{nonsense}}")
    assert error["message"] == "Cannot query field 'nonsense' on type 'LLM'."


# -- docs/engine.md ------------------------------------------------------------------------------

ROW = re.compile(r"\| `(\w+)` \| (yes|differs|no) \|(?: (.+))? \|")
TABLES = DOCUMENT.split("\n## The fields")[1]
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"(?m)^### ", TABLES)[1:]}


def rows(type_: str) -> dict[str, tuple[str, str]]:
    """(state, note) of each field in a type's table."""
    lines = [line for line in SECTIONS[type_].splitlines() if line.startswith("| `")]
    found = [ROW.fullmatch(line) for line in lines]
    assert all(found), lines
    return {row[1]: (row[2], row[3] or "") for row in found if row}


def test_every_type_has_a_table_or_is_named_as_not_served():
    last = DOCUMENT.split("\n## What is served by the Dagger engine only\n")[1]
    named = set(re.findall(r"`(\w+)`", last))
    assert set(SECTIONS) | named == set(types())
    assert named == {name for name in types() if name not in schema._MODULES}


@pytest.mark.parametrize("type_", SECTIONS)
def test_a_table_has_every_field_and_tells_whether_it_is_served(type_):
    told = rows(type_)
    assert list(told) == sorted(own_fields(type_), key=str.lower)
    for field, (state, _) in told.items():
        assert is_served(type_, field) is (state != "no"), f"{type_}.{field}"


@pytest.mark.parametrize("type_", SECTIONS)
def test_a_row_says_how_a_field_differs(type_):
    for field, (state, note) in rows(type_).items():
        assert bool(note) is (state == "differs"), f"{type_}.{field}"


def test_arguments_that_are_refused_are_in_the_table():
    source = "\n".join(path.read_text() for path in (ROOT / "ci" / "engine").rglob("*.py"))
    refused = re.findall(r'Unsupported\(\s*f?"(\w+)\.(\w+)\((\w+):', source)
    assert ("Container", "withExec", "experimentalPrivilegedNesting") in refused
    for type_, field, argument in refused:
        state, note = rows(type_)[field]
        assert state == "differs", f"{type_}.{field}"
        assert f"`{argument}`" in note, f"{type_}.{field}"
