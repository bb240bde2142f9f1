"""Each SDK can ask for all that it knows: every field and argument is declared as it has them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import GraphQLObjectType, print_ast

from ci.engine.api import schema

#: What SDKs before v0.21 call the type that they start from.
ROOT_TYPES = {"Client": "Query"}
#: Interfaces, which nothing is asked of by their own name.
INTERFACES = "_"

#: (field, {argument: its default as source, or None where it must be given})
Method = tuple[str, dict[str, str | None]]


@pytest.fixture(scope="package")
def classes(python: Path) -> dict[str, list[Method]]:
    """The methods of an SDK's classes, by GraphQL type."""
    found = list(python.parent.parent.glob("lib/python3*/site-packages/dagger/client/gen.py"))
    tree = ast.parse(found[0].read_text())
    return {
        ROOT_TYPES.get(node.name, node.name): list(methods(node))
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith(INTERFACES)
    }


def methods(class_: ast.ClassDef) -> Iterator[Method]:
    """What the methods of a class select."""
    for node in ast.walk(class_):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        selected, arguments = "", {}
        for call in (inner for inner in ast.walk(node) if isinstance(inner, ast.Call)):
            called = call.func
            if isinstance(called, ast.Name) and called.id == "Arg":
                name, _, *default = call.args
                assert isinstance(name, ast.Constant)
                arguments[str(name.value)] = ast.unparse(default[0]) if default else None
            elif isinstance(called, ast.Attribute) and called.attr.endswith("_select"):
                first = call.args[0] if call.args else None
                if isinstance(first, ast.Constant):
                    selected = str(first.value)
        if selected:
            yield selected, arguments


def test_every_field_and_argument_is_declared(classes):
    whole = schema.build_whole()
    missing = []
    for type_, fields in classes.items():
        if not fields:
            continue
        kind = whole.type_map.get(type_)
        for field, arguments in fields:
            declared = kind.fields.get(field) if isinstance(kind, GraphQLObjectType) else None
            if declared is None:
                missing.append(f"{type_}.{field}")
            else:
                missing += [
                    f"{type_}.{field}({name}:)" for name in arguments if name not in declared.args
                ]
    assert not missing
    assert len(classes["Container"]) > 70


def test_arguments_have_the_defaults_that_the_sdk_leaves_out(classes):
    whole = schema.build_whole()
    differ = []
    for type_, fields in classes.items():
        for field, arguments in fields:
            kind = whole.type_map[type_]
            assert isinstance(kind, GraphQLObjectType)
            for name, default in arguments.items():
                argument = kind.fields[field].args[name]
                literal = argument.default.literal if argument.default else None
                declared = print_ast(literal) if literal is not None else None
                if default is not None and declared != graphql(default):
                    differ.append(f"{type_}.{field}({name}:): {declared}, SDK {default}")
    assert not differ


def graphql(default: str) -> str | None:
    """A default in Python as GraphQL writes it."""
    value = ast.parse(default, mode="eval").body
    if isinstance(value, ast.Attribute):
        return value.attr
    found = ast.literal_eval(value)
    if found is None:
        return None
    if isinstance(found, bool):
        return str(found).lower()
    return f'"{found}"' if isinstance(found, str) else str(found)
