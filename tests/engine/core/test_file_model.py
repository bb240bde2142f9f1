"""What is done to trees, against a plain model: a dictionary of paths.

Programs of operations are drawn (hypothesis), evaluated by the engine and by the model, and their
trees compared: every path, type, permission, content and link target.
"""

from __future__ import annotations

import asyncio
import fnmatch
import operator
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.trees.merged import NoSuchPath
from ci.engine.vertices.vertex import (
    Copy,
    Diff,
    DirectoryRef,
    FileRef,
    Filter,
    NewDirectory,
    NewFile,
    Patterns,
    Scratch,
    Symlink,
    Tree,
    Without,
)
from tests.engine.core.conftest import PLAIN

T = TypeVar("T")


# -- the model -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """A file, a folder (no content) or a link (its target)."""

    kind: str
    mode: int
    content: bytes = b""


#: Path without a slash at its beginning, to what is there. The root is not in it.
Model = dict[str, Node]

FOLDER = Node("directory", 0o755)


class InTheWay(Exception):
    """Not an operation that this model is about: a path through a file, a change of type."""


def need(condition: bool) -> None:  # noqa: FBT001
    """Leave out what the model is not about."""
    if not condition:
        raise InTheWay


def parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def follow(model: Model, path: str, *, last: bool, hops: int = 0) -> str:
    """``path`` without links on its way, nor at its end where ``last``."""
    if hops > 40:
        raise InTheWay
    done: list[str] = []
    parts = path.split("/")
    for place, part in enumerate(parts):
        here = "/".join([*done, part])
        found = model.get(here)
        if found is not None and found.kind == "symlink" and (last or place < len(parts) - 1):
            target = found.content.decode()
            rest = "/".join([*done, target, *parts[place + 1 :]])
            return follow(model, os.path.normpath(rest), last=last, hops=hops + 1)
        done.append(part)
    return "/".join(done)


def with_parents(model: Model, path: str) -> Model:
    made = dict(model)
    for parent in parents(path):
        if made.setdefault(parent, FOLDER).kind != "directory":
            raise InTheWay
    return made


def removed(model: Model, path: str) -> Model:
    return {name: node for name, node in model.items() if not within(name, path)}


def merged(model: Model, at: str, entries: Model) -> Model:
    """Entries put below a folder. What changes its type is for another test."""
    made = with_parents(model, f"{at}/x" if at else "x")
    for name, node in entries.items():
        place = f"{at}/{name}" if at else name
        there = made.get(place)
        if there is not None and (there.kind == "directory") != (node.kind == "directory"):
            raise InTheWay
        made[place] = node
    return made


def matches(pattern: str, path: str) -> bool:
    def match(wanted: list[str], parts: list[str]) -> bool:
        if not wanted:
            return not parts
        if wanted[0] == "**":
            return any(match(wanted[1:], parts[n:]) for n in range(len(parts) + 1))
        head = bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0])
        return head and match(wanted[1:], parts[1:])

    return match(pattern.split("/"), path.split("/"))


def selected(model: Model, include: tuple[str, ...], exclude: tuple[str, ...]) -> Model:
    def chosen(patterns: tuple[str, ...], path: str) -> bool:
        return any(matches(p, each) for p in patterns for each in (*parents(path), path))

    found = {
        path for path in model
        if (not include or chosen(include, path)) and not chosen(exclude, path)
    }  # fmt: skip
    found |= {parent for path in found for parent in parents(path)}
    return {path: node for path, node in model.items() if path in found}


def below(model: Model, folder: str) -> Model:
    if not folder:
        return model
    if folder not in model or model[folder].kind != "directory":
        raise InTheWay
    return {
        path[len(folder) + 1 :]: node for path, node in model.items()
        if path.startswith(folder + "/")
    }  # fmt: skip


# -- programs ------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c.txt", "d e", "\u00e9"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FOLDERS = st.one_of(st.just(""), PATHS)
MODES = st.sampled_from([0o644, 0o600, 0o755, 0o777])
PATTERNS = st.lists(
    st.one_of(
        PATHS, st.sampled_from(["*", "*.txt", "a/*", "**/b", "**/c.txt", "?", "[ab]", "*/*"])
    ),
    max_size=2,
).map(tuple)
TARGETS = st.sampled_from(["a", "b/c.txt", "a/b", "nowhere"])

#: Tree and model, side by side.
Pair = tuple[Tree, Model]


@dataclass(frozen=True)
class Operation:
    """One of the functions below, with all that it draws but its trees."""

    apply: Callable[..., Pair]
    arguments: tuple[Any, ...]
    #: Which of the trees so far it is done to, and which it takes from: counted from the last.
    on: int
    other: int


def new_file(on: Pair, _: Pair, path: str, contents: bytes, mode: int) -> Pair:
    tree, model = on
    place = follow(model, path, last=True)
    made = with_parents(model, place)
    if place in made and made[place].kind == "directory":
        raise InTheWay
    made[place] = Node("file", mode, contents)
    return NewFile(tree=tree, path="/" + path, contents=contents, permissions=mode), made


def new_directory(on: Pair, _: Pair, path: str, mode: int) -> Pair:
    tree, model = on
    place = follow(model, path, last=True)
    made = with_parents(model, place)
    if made.get(place, FOLDER).kind != "directory":
        raise InTheWay
    made[place] = Node("directory", mode)
    return NewDirectory(tree=tree, path="/" + path, permissions=mode), made


def symlink(on: Pair, _: Pair, path: str, target: str) -> Pair:
    tree, model = on
    need(path not in model)
    place = follow(model, path, last=False)
    need(place not in model)
    made = with_parents(model, place)
    made[place] = Node("symlink", 0o777, target.encode())
    return Symlink(tree=tree, path="/" + path, target=target), made


def without(on: Pair, _: Pair, path: str) -> Pair:
    tree, model = on
    need(path == follow(model, path, last=False))
    return Without(tree=tree, paths=("/" + path,)), removed(model, path)


def without_pattern(on: Pair, _: Pair, pattern: str) -> Pair:
    tree, model = on
    need(pattern not in model)
    made = model
    for path in model:
        if matches(pattern, path):
            made = removed(made, path)
    return Without(tree=tree, paths=(pattern,)), made


def copy_directory(
    on: Pair, other: Pair, path: str, source: str, include: tuple[str, ...],
    exclude: tuple[str, ...],
) -> Pair:  # fmt: skip
    tree, model = on
    need(not source or source == follow(other[1], source, last=True))
    need(not path or path == follow(model, path, last=True))
    entries = selected(below(other[1], source), include, exclude)
    made = merged(model, path, entries)
    if path and path not in model:
        made[path] = other[1][source] if source else FOLDER
    patterns = Patterns(include=include, exclude=exclude)
    reference = DirectoryRef(tree=other[0], path="/" + source)
    return Copy(tree=tree, path="/" + path, source=reference, patterns=patterns), made


def copy_file(on: Pair, other: Pair, path: str, source: str, mode: int | None) -> Pair:
    tree, model = on
    node = other[1].get(source)
    need(node is not None and node.kind == "file" and source == follow(other[1], source, last=True))
    assert node is not None
    place = follow(model, path, last=False)
    need(model.get(place, node).kind == "file")
    made = with_parents(model, place)
    made[place] = replace(node, mode=node.mode if mode is None else mode)
    reference = FileRef(tree=other[0], path="/" + source)
    return Copy(tree=tree, path="/" + path, source=reference, permissions=mode), made


def filtered(on: Pair, _: Pair, include: tuple[str, ...], exclude: tuple[str, ...]) -> Pair:
    tree, model = on
    patterns = Patterns(include=include, exclude=exclude)
    made = Filter(source=DirectoryRef(tree=tree), patterns=patterns)
    return made, selected(model, include, exclude)


def difference(on: Pair, other: Pair) -> Pair:
    changed = {path for path, node in on[1].items() if other[1].get(path) != node}
    changed |= {parent for path in changed for parent in parents(path)}
    made = Diff(lower=DirectoryRef(tree=other[0]), upper=DirectoryRef(tree=on[0]))
    return made, {path: node for path, node in on[1].items() if path in changed}


def operation(apply: Callable[..., Pair], *arguments: st.SearchStrategy[Any]) -> Any:
    places = st.integers(0, 3)
    return st.builds(Operation, st.just(apply), st.tuples(*arguments), places, places)


CONTENTS = st.sampled_from([b"", b"one", b"two\n", b"\0\xff"])
OPERATIONS = st.one_of(
    operation(new_file, PATHS, CONTENTS, MODES),
    operation(new_file, PATHS, CONTENTS, MODES),
    operation(new_directory, PATHS, MODES),
    operation(symlink, PATHS, TARGETS),
    operation(without, PATHS),
    operation(without_pattern, st.sampled_from(["*.txt", "a/*", "**/b", "?"])),
    operation(copy_directory, FOLDERS, FOLDERS, PATTERNS, PATTERNS),
    operation(copy_directory, FOLDERS, FOLDERS, PATTERNS, PATTERNS),
    operation(copy_file, PATHS, PATHS, st.one_of(st.none(), MODES)),
    operation(filtered, PATTERNS, PATTERNS),
    operation(difference),
)
#: Some files to begin with, so that there is something to choose from.
FIRST = st.lists(operation(new_file, PATHS, CONTENTS, MODES), min_size=2, max_size=6)
PROGRAMS = st.builds(operator.add, FIRST, st.lists(OPERATIONS, min_size=1, max_size=8))


def evaluated(program: list[Operation]) -> Iterator[Pair]:
    """Trees and models after each operation; one that cannot be is told apart."""
    so_far: list[Pair] = [(Scratch(), {})]
    for step in program:
        on = so_far[-1 - step.on % len(so_far)]
        other = so_far[-1 - step.other % len(so_far)]
        try:
            made = step.apply(on, other, *step.arguments)
        except InTheWay:
            continue
        so_far.append(made)
        yield made


# -- the comparison ------------------------------------------------------------------------------


def node_of(host: str, status: os.stat_result) -> Node:
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return Node("directory", mode)
    if stat.S_ISLNK(status.st_mode):
        return Node("symlink", 0o777, os.fsencode(Path(host).readlink()))
    return Node("file", mode, Path(host).read_bytes())


async def as_it_is(solver: Solver, tree: Tree) -> Model:
    from ci.engine.trees.merged import MergedTree

    found = MergedTree(solver.store.layer_paths(await solver.snapshot(tree)))
    root = found.root()
    entries = found.walk(root) if root is not None else ()
    return {each.path[1:]: node_of(each.host, each.status) for each in entries}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Any], Any]]:
    """Runs coroutines that are given a solver, all in one session."""
    loop = asyncio.new_event_loop()
    with Store(tmp_path_factory.mktemp("cache")) as store:
        solver = Solver(store, host=PLAIN)
        loop.run_until_complete(solver.__aenter__())
        yield lambda work: loop.run_until_complete(work(solver))
        loop.run_until_complete(solver.__aexit__(None, None, None))
    loop.close()


def modelled(examples: int) -> settings:
    checks = [HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=examples, deadline=None, derandomize=examples < 1000, database=None,
        suppress_health_check=checks,
    )  # fmt: skip


def compare(engine: Callable[[Any], Any], program: list[Operation]) -> None:
    for tree, model in evaluated(program):
        found = engine(lambda solver, tree=tree: as_it_is(solver, tree))
        assert found == model


@modelled(200)
@given(PROGRAMS)
def test_trees_are_what_a_plain_model_says(
    engine: Callable[[Any], Any], program: list[Operation]
) -> None:
    compare(engine, program)


@modelled(200)
@given(PROGRAMS, st.sampled_from(["*", "**/b", "a/*", "*.txt", "[ab]/?", "**/*.txt"]))
def test_a_glob_finds_what_a_plain_model_says(
    engine: Callable[[Any], Any], program: list[Operation], pattern: str
) -> None:
    *_, (tree, model) = [(Scratch(), {}), *evaluated(program)]
    found = engine(lambda solver: solver.glob(DirectoryRef(tree=tree), pattern))
    assert sorted(path.rstrip("/") for path in found) == sorted(
        path for path in model if matches(pattern, path)
    )


@modelled(60)
@given(PROGRAMS, PROGRAMS)
def test_equal_trees_have_equal_digests_and_others_have_not(
    engine: Callable[[Any], Any], one: list[Operation], two: list[Operation]
) -> None:
    *_, (first, model) = [(Scratch(), {}), *evaluated(one)]
    *_, (second, other) = [(Scratch(), {}), *evaluated(two)]
    # A layer's root takes its permissions from where it was copied from.
    at = NewDirectory(tree=Scratch(), path="/x")

    async def digest(solver: Solver, tree: Tree) -> str:
        inside = Copy(tree=at, path="/x", source=DirectoryRef(tree=tree))
        return await solver.content_digest(DirectoryRef(tree=inside, path="/x"))

    same = engine(lambda s: digest(s, first)) == engine(lambda s: digest(s, second))
    assert same is (model == other)


@pytest.mark.soak
@modelled(5000)
@given(PROGRAMS)
def test_many_trees_are_what_a_plain_model_says(
    engine: Callable[[Any], Any], program: list[Operation]
) -> None:
    compare(engine, program)


def test_what_leads_through_a_file_is_an_error(engine: Callable[[Any], Any]) -> None:
    tree = NewFile(tree=Scratch(), path="/a", contents=b"")
    with pytest.raises(NoSuchPath):
        engine(lambda solver: solver.snapshot(NewFile(tree=tree, path="/a/b", contents=b"")))
