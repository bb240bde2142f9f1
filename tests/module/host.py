"""Host: what a Dagger engine is to a module, on the embedded engine.

It starts the runtime of Dagger's Python SDK as an engine does: a process for each call, that asks
over GraphQL what it is called for, and answers there.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from graphql import (
    DocumentNode,
    GraphQLObjectType,
    GraphQLSchema,
    TypeDefinitionNode,
    parse,
    print_ast,
)

from ci.engine import queries, session
from ci.engine.api import schema
from ci.engine.api.context import Context
from ci.engine.vertices.vertex import DirectoryRef, HostDirectory, Patterns, Vertex
from tests.module.api import RESOLVERS, Error, FunctionCall, Module, Workspace, calls

__all__ = ["Host", "Returned", "hosted"]

#: What the vendored SDK of a module does not have.
_RUNTIME = """
import sys
sys.modules["dagger.provisioning"] = None
from dagger.mod.cli import app
sys.exit(app())
"""


@dataclass(frozen=True, kw_only=True)
class Returned:
    """How a call ended: its value or its error, and what it wrote."""

    value: Any
    error: Error | None
    stderr: str
    code: int


class Host:
    """Calls functions of a module; one call at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._call: FunctionCall | None = None
        self._value: str | None = None
        self._error: Error | None = None
        #: What was left out of the workspace, at each time that it was read.
        self.excluded: list[Sequence[str]] = []
        self.session: session.Session
        self.context: Context

    async def register(self, python: Path) -> Module:
        """The module as this Python's SDK registers it."""
        returned = await self.call(python, "", "")
        assert returned.code == 0, returned.stderr
        return self.context.get(returned.value, Module)

    async def call(
        self,
        python: Path,
        parent_name: str,
        name: str,
        *,
        parent: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Returned:
        """Call a function of an object; vertices among the arguments are passed by ID."""
        given = {
            argument: json.dumps(self.id(value) if isinstance(value, Vertex) else value)
            for argument, value in arguments.items()
        }
        self._call = calls(parent_name, name, json.dumps(parent or {}), given)
        self._value = self._error = None
        done = await anyio.run_process(
            [str(python), "-c", _RUNTIME],
            cwd=self._folder,
            env={
                "PATH": os.defpath,
                "DAGGER_MODULE": "ci",
                "DAGGER_MAIN_OBJECT": "Ci",
                "DAGGER_DEFAULT_PYTHON_PACKAGE": "towpath",
                **self.session.environment(),
            },
            check=False,
        )
        stderr = done.stderr.decode()
        assert (self._value is None) != (self._error is None), stderr
        return Returned(
            value=json.loads(self._value) if self._value is not None else None,
            error=self._error,
            stderr=stderr,
            code=done.returncode,
        )

    def workspace(self, path: Path, boundary: Path | None = None) -> Workspace:
        """A caller's folder, and above it all that the caller's client shows an engine."""
        return Workspace(path=str(path), boundary=str(boundary or path))

    def id(self, value: Vertex) -> str:
        """What stands for the value in JSON."""
        return self.context.objects.id(value)

    # -- what runtimes ask --------------------------------------------------------------------

    def workspace_directory(
        self,
        workspace: Workspace,
        _: Context,
        *,
        path: str,
        exclude: Sequence[str],
        include: Sequence[str],
        gitignore: bool,
    ) -> DirectoryRef:
        """A folder of the caller's repository."""
        self.excluded.append(exclude)
        patterns = Patterns(include=tuple(include), exclude=tuple(exclude), gitignore=gitignore)
        place = workspace.place(path)
        return DirectoryRef(tree=HostDirectory(path=str(place), patterns=patterns))

    def workspace_find_up(
        self, workspace: Workspace, _: Context, *, name: str, from_: str
    ) -> str | None:
        """The nearest of that name, by its path from the workspace's boundary."""
        here = workspace.place(from_)
        boundary = workspace.place("/")
        for folder in (here, *here.parents):
            if not folder.is_relative_to(boundary):
                return None
            if (folder / name).exists():
                return f"/{(folder / name).relative_to(boundary)}"
        return None

    def current_call(self, _: object, context: Context) -> FunctionCall:
        """The call that the runtime was started for."""
        assert self._call
        return self._call

    def return_value(self, _: object, __: Context, *, value: str) -> None:
        """The runtime's answer."""
        assert self._value is None
        self._value = value

    def return_error(self, _: object, context: Context, *, error: str) -> None:
        """The runtime's answer."""
        self._error = context.get(error, Error)


@asynccontextmanager
async def hosted(folder: Path, cache: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    """A host on a session of its own. ``folder`` is empty, and for its use."""
    host = Host(folder)
    sdl = folder / "schema.graphql"
    sdl.write_text(print_ast(_joined()))
    built = schema.build

    def build() -> GraphQLSchema:
        made = built()
        for name, functions in RESOLVERS.items():
            _bind(made, name, functions)
        own: Mapping[str, Any] = {
            "returnValue": host.return_value,
            "returnError": host.return_error,
        }
        _bind(made, "FunctionCall", own)
        workspace: Mapping[str, Any] = {
            "directory": host.workspace_directory,
            "findUp": host.workspace_find_up,
        }
        _bind(made, "Workspace", workspace)
        _bind(made, "Query", {"currentFunctionCall": host.current_call})
        _bind_loaders(made)
        return made

    def context(**parts: Any) -> Context:
        host.context = Context(**parts)
        return host.context

    patch.setattr(schema, "SDL", sdl)
    patch.setattr(queries, "SDL", sdl)
    patch.setattr(queries, "build", build)
    patch.setattr(queries, "build_whole", build)
    patch.setattr(session, "Context", context)
    async with session.Session(cache=cache, workdir=folder) as host.session:
        yield host


def _joined() -> DocumentNode:
    """The engine's schema with the types of ours in place of its own."""
    ours = parse(Path(__file__).with_name("schema.graphql").read_text()).definitions
    own = {node.name.value for node in ours if isinstance(node, TypeDefinitionNode)}
    theirs = parse(schema.SDL.read_text()).definitions
    kept = [n for n in theirs if not isinstance(n, TypeDefinitionNode) or n.name.value not in own]
    return DocumentNode(definitions=(*kept, *ours))


def _bind(made: GraphQLSchema, type_: str, functions: Mapping[str, Any]) -> None:
    """Bind resolvers as the engine binds its own."""
    kind = made.type_map[type_]
    assert isinstance(kind, GraphQLObjectType)
    for name, function in functions.items():
        schema._bind(type_, name, kind.fields[name], function)


def _bind_loaders(made: GraphQLSchema) -> None:
    """Load by ID what the engine alone does not serve, too."""
    query = made.type_map["Query"]
    assert isinstance(query, GraphQLObjectType)
    for name, field in query.fields.items():
        if load := schema._LOAD.fullmatch(name):
            field.resolve = schema._loader(load[1])
