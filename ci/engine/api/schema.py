"""The executable schema: the SDL with the resolvers of this package bound to its fields."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLString,
    build_ast_schema,
    extend_schema,
    parse,
    value_from_ast_untyped,
)

from ci.engine.api.context import Context
from ci.engine.ids import type_name
from ci.engine.refusal import Refusal, Unsupported
from ci.engine.vertices.vertex import Vertex

__all__ = ["SDL", "UNSERVED", "build", "build_whole", "resolvers", "snake"]

SDL = Path(__file__).with_name("schema.graphql")
#: What SDKs know beside it.
UNSERVED = Path(__file__).with_name("unserved.graphql")

#: Where each type's resolvers are; a type that is not here answers nothing but its ID.
_MODULES = {
    "Query": ("query",),
    "Container": (
        "container_config",
        "container_files",
        "container_run",
        "container_output",
        "container_terminal",
    ),
    "Directory": ("directory", "directory_changes", "directory_terminal"),
    "File": ("file",),
    "GitRef": ("git_ref",),
    "GitRepository": ("git",),
    "Host": ("host",),
    "Secret": ("secret",),
    "Service": ("service",),
    "EnvVariable": ("plain",),
    "Label": ("plain",),
    "Port": ("plain",),
    "HealthcheckConfig": ("plain",),
    "Stat": ("plain",),
    "Address": ("address",),
    "Changeset": ("changeset",),
    "DiffStat": ("changeset",),
    "SearchResult": ("search_result",),
    "SearchSubmatch": ("search_result",),
    "EnvFile": ("env_file",),
    "JSONValue": ("json_value",),
    "Error": ("error",),
    "ErrorValue": ("error",),
    "CacheVolume": (),
    "Socket": (),
}

#: Arguments that are the content of files and the like; in all others a NUL has no meaning.
_CONTENTS = frozenset({"contents", "patch", "plaintext", "replacement", "search", "stdin"})

_LOAD = re.compile(r"load(\w+)FromID")
_KEYWORDS = {"from": "from_", "import": "import_"}

Resolver = Callable[..., Any]


@cache
def snake(name: str) -> str:
    """A GraphQL name as Python writes it."""
    snaked = re.sub(r"(?<=[a-z0-9])([A-Z])|(?<=[A-Z])([A-Z])(?=[a-z])", r"_\1\2", name).lower()
    return _KEYWORDS.get(snaked, snaked)


def build() -> GraphQLSchema:
    """The schema, every field bound: to its resolver, or to the error that names it."""
    return _bound(_declared())


def build_whole() -> GraphQLSchema:
    """The same with all that SDKs know: what is not served answers with its name, too."""
    unserved = parse(UNSERVED.read_text(encoding="utf-8"), no_location=True)
    return _bound(extend_schema(_declared(), unserved, assume_valid=True))


def _declared() -> GraphQLSchema:
    document = parse(SDL.read_text(encoding="utf-8"), no_location=True)
    return build_ast_schema(document, assume_valid=True, assume_valid_sdl=True)


def _bound(schema: GraphQLSchema) -> GraphQLSchema:
    for name in ("JSON", "Platform"):  # SDKs write both as strings; any literal would do else
        scalar = schema.type_map[name]
        assert isinstance(scalar, GraphQLScalarType)  # noqa: S101 - the SDL says so
        scalar.parse_value = GraphQLString.parse_value  # type: ignore[method-assign]
        scalar.coerce_input_value = GraphQLString.coerce_input_value
        scalar.coerce_input_literal = GraphQLString.coerce_input_literal
    for name, kind in schema.type_map.items():
        if isinstance(kind, GraphQLInterfaceType):
            kind.resolve_type = lambda value, _info, _type: type_name(value)
        if not isinstance(kind, GraphQLObjectType) or name.startswith("__"):
            continue
        functions = resolvers(name)
        for field_name, field in kind.fields.items():
            _bind(name, field_name, field, functions.get(snake(field_name)))
    return schema


def resolvers(type_: str) -> dict[str, Resolver]:
    """The resolvers of a type, by the names of its fields as Python writes them."""
    found: dict[str, Resolver] = {}
    for module_name in _MODULES.get(type_, ()):
        module = importlib.import_module(f"ci.engine.api.{module_name}")
        found |= {name: getattr(module, name) for name in module.__all__}
    return found


def _bind(type_: str, name: str, field: GraphQLField, function: Resolver | None) -> None:
    """Give the field its ``resolve``."""
    defaults = {}
    for argument_name, argument in field.args.items():
        argument.out_name = snake(argument_name)
        default = argument.default.literal if argument.default else None
        if default is not None:
            defaults[argument.out_name] = value_from_ast_untyped(default)
    if name == "id":
        field.resolve = _identify
    elif (load := _LOAD.fullmatch(name)) and load[1] in _MODULES:
        field.resolve = _loader(load[1])
    elif function is None:
        field.resolve = _unsupported(f"{type_}.{name}")
    else:
        field.resolve = _call(function, defaults)


def _identify(source: Vertex | None, info: GraphQLResolveInfo[Context]) -> str:
    """The ``id`` field of every type."""
    if source is None:
        raise Unsupported("Query.id")
    return info.context.objects.id(source)


def _loader(type_: str) -> Resolver:
    """A resolver of what older SDKs select instead of ``node(id:)``."""

    def resolve(_source: object, info: GraphQLResolveInfo[Context], /, **arguments: str) -> Vertex:
        return info.context.objects.find(arguments["id"], type_)

    return resolve


def _unsupported(field: str) -> Resolver:
    """A resolver that names the field."""

    def resolve(
        _source: object, _info: GraphQLResolveInfo[Context], /, **_arguments: object
    ) -> None:
        raise Unsupported(field)

    return resolve


def _call(function: Resolver, defaults: dict[str, Any]) -> Resolver:
    """A resolver that calls the function; null stands for the default."""

    def resolve(
        source: object, info: GraphQLResolveInfo[Context], /, **arguments: object
    ) -> object:
        for argument, default in defaults.items():
            if arguments.get(argument) is None:
                arguments[argument] = default
        for argument, value in arguments.items():
            if argument not in _CONTENTS and _has_nul(value):
                raise Refusal(argument, got="a NUL character", expected="text without one")
        return function(source, info.context, **arguments)

    return resolve


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    return isinstance(value, list) and any(_has_nul(each) for each in value)
