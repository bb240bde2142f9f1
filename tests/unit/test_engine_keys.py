"""Cache keys: every input of every vertex is in them, but for those that are left out on purpose.

Vertices are found by themselves: one that is new is tried here without being named.
"""

from __future__ import annotations

import enum
import inspect
import typing
from collections.abc import Iterator
from dataclasses import fields, replace
from types import UnionType
from typing import Any

import pytest

from ci.engine.git import repository as git
from ci.engine.git.repository import GitRef, GitRepository, GitTree
from ci.engine.solver.keys import Keys
from ci.engine.vertices import edits, vertex
from ci.engine.vertices.execution import Scrubber
from ci.engine.vertices.health import HealthTiming
from ci.engine.vertices.vertex import (
    BindMount,
    CacheMount,
    DirectoryRef,
    DockerCopy,
    Exec,
    FileRef,
    HostDirectory,
    HostFile,
    Http,
    ImageRoot,
    Mount,
    Patterns,
    SecretRef,
    Tree,
    Vertex,
)

#: Keyed by content alone, by whatever way that was come by.
BY_CONTENT = (HostDirectory, HostFile, Http)
#: What keys do without: it is of the volume's identity.
LEFT_OUT = {(CacheMount, name) for name in ("sharing", "source", "owner", "permissions")}


class SecretNames:
    """Secrets whose values are their names."""

    async def value(self, ref: SecretRef) -> bytes:
        return ref.name.encode()

    async def fingerprint(self, ref: SecretRef) -> str:
        return ref.name

    def scrubber(self, values: object) -> Scrubber:
        raise NotImplementedError


async def content(ref: DirectoryRef | FileRef, patterns: Patterns) -> str:
    return f"content of {ref.digest} {patterns.digest}"


async def taken(taking: DockerCopy | BindMount) -> str:
    sources = taking.sources if isinstance(taking, DockerCopy) else (taking.source,)
    return "taken of " + " ".join(source.digest for source in sources)


async def key_of(made: Vertex, flavour: str = "root") -> str:
    if isinstance(made, Mount):
        made = Exec(root=ImageRoot(image_digest="i"), args=("a",), mounts=(made,))
    assert isinstance(made, Tree | Exec)
    return await Keys(content, taken, SecretNames(), flavour=flavour).of(made)


def sample(hint: Any, which: int) -> Any:
    """A value of a field's type; those of 0 and 1 differ."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return sample(next(each for each in arguments if each is not type(None)), which)
    if origin is tuple:
        return tuple(sample(each, which) for each in arguments if each is not Ellipsis)
    if hint is Exec:  # an example of it has services, which have one
        return Exec(root=ImageRoot(image_digest="i"), args=(f"{which}",))
    hint = {Tree: ImageRoot, Mount: vertex.TmpfsMount}.get(hint, hint)
    if issubclass(hint, enum.Enum):
        return list(hint)[which]
    if issubclass(hint, Vertex | HealthTiming):
        return example(hint, which)
    return {str: f"/{which}", int: which, bytes: bytes([which]), bool: bool(which)}.get(hint, which)


def example(kind: type, which: int = 0) -> Any:
    hints = typing.get_type_hints(kind)
    return kind(**{each.name: sample(hints[each.name], which) for each in fields(kind)})


def kinds() -> list[type[Vertex]]:
    found = {
        each
        for module in (vertex, edits, git)
        for _, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, Tree | Mount | Exec)
    }
    abstract = {Tree, vertex.Built, edits.Edit, Mount}
    return sorted(found - abstract, key=lambda each: each.__name__)


def inputs() -> Iterator[Any]:
    for kind in kinds():
        for name in example(kind).inputs():
            if kind not in BY_CONTENT and (kind, name) not in LEFT_OUT:
                yield pytest.param(kind, name, id=f"{kind.__name__}.{name}")


@pytest.mark.parametrize(("kind", "name"), list(inputs()))
async def test_another_input_is_another_key(kind: type[Any], name: str) -> None:
    one = example(kind)
    changed = replace(one, **{name: getattr(example(kind, 1), name)})
    assert await key_of(changed) != await key_of(one)
    assert await key_of(example(kind)) == await key_of(one)


@pytest.mark.parametrize(("kind", "name"), sorted(LEFT_OUT, key=str))
async def test_what_is_left_out_makes_no_difference(kind: type[Any], name: str) -> None:
    one = example(kind)
    changed = replace(one, **{name: getattr(example(kind, 1), name)})
    assert changed.digest != one.digest
    assert await key_of(changed) == await key_of(one)


async def test_two_kinds_of_the_same_inputs_have_two_keys() -> None:
    made = {kind.__name__: await key_of(example(kind)) for kind in kinds()}
    assert len(set(made.values())) == len(made), made


async def test_an_exec_is_keyed_by_the_kind_of_sandbox_too() -> None:
    assert await key_of(example(Exec), "root") != await key_of(example(Exec), "user")


async def test_a_commit_is_the_same_whoever_may_fetch_it() -> None:
    def tree(token: str) -> GitTree:
        repository = GitRepository(url="https://a.test/b", token=SecretRef(name=token))
        return GitTree(ref=GitRef(repository=repository, name="main", commit="c"))

    assert await key_of(tree("one")) == await key_of(tree("two"))


async def test_what_would_be_keyed_by_its_recipe_is_refused() -> None:
    class Unknown(Vertex):
        pass

    unknown: Any = Unknown()
    with pytest.raises(TypeError, match="no key for Unknown"):
        await key_of(Exec(root=ImageRoot(image_digest="i"), args=("a", unknown)))
