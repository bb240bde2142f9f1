"""The part of Dagger's API that a module's runtime speaks, as values and resolvers.

Values are vertices of the embedded engine, so that they have IDs there as all others do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ci.engine.api.context import Context
from ci.engine.vertices.vertex import Vertex

__all__ = ["RESOLVERS", "Argument", "Error", "Function", "Module", "TypeDef", "Workspace", "calls"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TypeDef(Vertex):
    """A type: of an argument, a field or a result, or an object that the module defines."""

    kind: str = ""
    name: str = ""
    description: str = ""
    optional: bool = False
    element: TypeDef | None = None
    fields: tuple[tuple[str, TypeDef], ...] = ()
    functions: tuple[Function, ...] = ()
    constructor: Function | None = None

    def __str__(self) -> str:
        text = f"[{self.element}]" if self.element else self.name or self.kind.removesuffix("_KIND")
        return text + ("" if self.optional else "!")


@dataclass(frozen=True, kw_only=True, eq=False)
class Argument(Vertex):
    """An argument of a function."""

    name: str
    type: TypeDef
    description: str = ""
    default: str | None = None
    default_path: str = ""
    default_address: str = ""
    ignore: tuple[str, ...] = ()

    def __str__(self) -> str:
        default = "" if self.default in (None, "null") else f" = {self.default}"
        return f"{self.name}: {self.type}{default}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Function(Vertex):
    """A function of an object."""

    name: str
    returns: TypeDef
    description: str = ""
    cache: str = ""
    arguments: tuple[Argument, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))}) -> {self.returns}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Module(Vertex):
    """All that a module registers."""

    description: str = ""
    objects: tuple[TypeDef, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Error(Vertex):
    """What a call returns instead of a value."""

    message: str
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class FunctionCallArgValue(Vertex):
    """An argument of the call; its value is JSON."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True, eq=False)
class FunctionCall(Vertex):
    """The call that a runtime is started for. With no parent it is asked to register."""

    parent_name: str
    name: str
    parent: str
    input_args: tuple[FunctionCallArgValue, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Workspace(Vertex):
    """The caller's folder, in a boundary above which a module sees nothing."""

    path: str
    boundary: str

    def place(self, path: str) -> Path:
        """Where something is: relative to the folder, or absolute from the boundary."""
        if path.startswith("/"):
            return Path(self.boundary, path.lstrip("/")).resolve()
        return Path(self.path, path).resolve()


def with_object(made: TypeDef, _: Context, *, name: str, description: str = "", **__: Any) -> Any:
    return replace(made, kind="OBJECT_KIND", name=name, description=description or "")


def with_field(made: TypeDef, context: Context, *, name: str, type_def: str, **__: Any) -> Any:
    return replace(made, fields=(*made.fields, (name, context.get(type_def, TypeDef))))


def with_function(made: TypeDef, context: Context, *, function: str) -> Any:
    return replace(made, functions=(*made.functions, context.get(function, Function)))


def with_arg(
    made: Function,
    context: Context,
    *,
    name: str,
    type_def: str,
    description: str | None = "",
    default_value: str | None = None,
    default_path: str | None = "",
    default_address: str | None = "",
    ignore: Sequence[str] | None = (),
    **_: Any,
) -> Function:
    argument = Argument(
        name=name,
        type=context.get(type_def, TypeDef),
        description=description or "",
        default=default_value,
        default_path=default_path or "",
        default_address=default_address or "",
        ignore=tuple(ignore or ()),
    )
    return replace(made, arguments=(*made.arguments, argument))


#: By type and field.
RESOLVERS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "Query": {
        "module": lambda _, __: Module(),
        "typeDef": lambda _, __: TypeDef(),
        "function": lambda _, c, name, return_type: Function(
            name=name, returns=c.get(return_type, TypeDef)
        ),
        "error": lambda _, __, message: Error(message=message),
    },
    "Module": {
        "withDescription": lambda m, _, description: replace(m, description=description),
        "withObject": lambda m, c, object: replace(  # noqa: A006 - the field's argument
            m, objects=(*m.objects, c.get(object, TypeDef))
        ),
    },
    "TypeDef": {
        "withObject": with_object,
        "withField": with_field,
        "withFunction": with_function,
        "withConstructor": lambda t, c, function: replace(t, constructor=c.get(function, Function)),
        "withKind": lambda t, _, kind: replace(t, kind=kind),
        "withListOf": lambda t, c, element_type: replace(
            t, kind="LIST_KIND", element=c.get(element_type, TypeDef)
        ),
        "withOptional": lambda t, _, optional: replace(t, optional=optional),
    },
    "Function": {
        "withDescription": lambda f, _, description: replace(f, description=description),
        "withArg": with_arg,
        "withCachePolicy": lambda f, _, policy, time_to_live=None: replace(
            f, cache=policy + (f" {time_to_live}" if time_to_live else "")
        ),
    },
    "FunctionCall": {
        "name": lambda call, _: call.name,
        "parentName": lambda call, _: call.parent_name,
        "parent": lambda call, _: call.parent,
        "inputArgs": lambda call, _: call.input_args,
    },
    "FunctionCallArgValue": {
        "name": lambda argument, _: argument.name,
        "value": lambda argument, _: argument.value,
    },
    "Error": {
        "message": lambda error, _: error.message,
        "withValue": lambda e, _, name, value: replace(e, values=(*e.values, (name, value))),
    },
}


def calls(parent_name: str, name: str, parent: str, arguments: Mapping[str, str]) -> FunctionCall:
    """A call; the values of arguments are JSON."""
    return FunctionCall(
        parent_name=parent_name,
        name=name,
        parent=parent,
        input_args=tuple(FunctionCallArgValue(name=n, value=v) for n, v in arguments.items()),
    )
