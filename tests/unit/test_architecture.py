"""Who may import whom. The floors are design.md's, from the top down."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from itertools import pairwise

import grimp
import pytest

from ci.graph import CycleError, Graph

FLOORS = (
    ("ci",),
    # 1: the surfaces.
    ("ci.start", "ci.sdk", "ci.cli", "ci.derived", "ci.module", "ci.entry"),
    # 2: the composition root, and whatever stands nowhere else: what it is composed with.
    ("ci.pipeline",),
    # 3: the library, and below it the rooms that it joins.
    ("ci.flow",),
    (
        "ci.scheduler",
        "ci.stages",
        "ci.gates",
        "ci.findings",
        "ci.deploy",
        "ci.records",
        "ci.engine",
    ),
    # 4
    ("ci.graph", "ci.drawing", "ci.events", "ci.config", "ci.settings", "ci.toolchains"),
    # 5
    ("ci.values", "ci.exits", "ci.errors", "ci.clock", "ci.log", "ci.sharing", "ci.sizes"),
)
ROOT = 2
#: Rooms of one floor do not import each other, but for these, and on the floors 1 and 2.
NEIGHBOURS = {
    ("ci.stages", "ci.findings"),
    ("ci.errors", "ci.exits"),
    ("ci.drawing", "ci.graph"),
    ("ci.drawing", "ci.events"),
}

LEVEL = {name: number for number, names in enumerate(FLOORS) for name in names}


def level(name: str) -> int:
    return LEVEL.get(name, ROOT)


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("ci", include_external_packages=True, cache_dir=None)


@dataclass(frozen=True)
class Import:
    """An import of one room by another; ``line`` says where, for whoever reads a failure."""

    importer: str
    imported: str
    line: str = field(compare=False)


@pytest.fixture(scope="module")
def imports(graph: grimp.ImportGraph) -> list[Import]:
    """All imports between rooms."""
    modules = {name for name in graph.modules if name == "ci" or name.startswith("ci.")}
    return [
        Import(
            room(module), room(imported), f"{module}:{one['line_number']}: {one['line_contents']}"
        )
        for module in sorted(modules)
        for imported in sorted(graph.find_modules_directly_imported_by(module) & modules)
        if room(imported) != room(module)
        for one in graph.get_import_details(importer=module, imported=imported)
    ]


def test_the_rooms_of_the_table_exist(graph: grimp.ImportGraph) -> None:
    rooms = {room(name) for name in graph.modules if name == "ci" or name.startswith("ci.")}
    assert LEVEL.keys() <= rooms


def test_imports_point_down_only(imports: list[Import]) -> None:
    assert [one for one in imports if level(one.imported) < level(one.importer)] == []


def test_rooms_of_one_floor_do_not_import_each_other(imports: list[Import]) -> None:
    across = [
        one
        for one in imports
        if level(one.imported) == level(one.importer) and level(one.importer) > ROOT
    ]
    assert [one for one in across if (one.importer, one.imported) not in NEIGHBOURS] == []


def test_only_the_composition_root_and_the_surfaces_read_the_configuration(
    imports: list[Import],
) -> None:
    readers = [one for one in imports if one.imported in ("ci.config", "ci.settings")]
    assert [one for one in readers if level(one.importer) > ROOT] == []


def test_the_embedded_engine_never_imports_dagger(graph: grimp.ImportGraph) -> None:
    assert "dagger" in graph.modules, "nothing imports dagger: the check would be empty"
    reached = graph.find_shortest_chains("ci.engine", "dagger", as_packages=True)
    assert not reached


def test_no_room_of_the_engine_needs_one_that_needs_it(graph: grimp.ImportGraph) -> None:
    """Under TYPE_CHECKING neither: whoever reads one would have to read the other first."""
    modules = {name for name in graph.modules if name.startswith("ci.engine.")}
    lines: dict[tuple[str, str], str] = {}
    needs: dict[str, set[str]] = {engine_room(module): set() for module in modules}
    for module in modules:
        for imported in graph.find_modules_directly_imported_by(module) & modules:
            needer, needed = engine_room(module), engine_room(imported)
            if needer != needed:
                needs[needer].add(needed)
                lines[needer, needed] = f"{module} imports {imported}"
    assert {"ci.engine.vertices", "ci.engine.trees"} <= needs["ci.engine.solver"]
    try:
        Graph(needs)
    except CycleError as error:
        circle = [*error.cycle, error.cycle[0]]
        pytest.fail("\n".join(lines[pair] for pair in pairwise(circle)))


def engine_room(module: str) -> str:
    return ".".join(module.split(".")[:3])


# -- what an import costs -----------------------------------------------------------------------


def core_distributions() -> set[str]:
    """What is installed with no extra: the dependencies, and theirs."""
    found: set[str] = set()
    stack = ["towpath"]
    while stack:
        name = normal(stack.pop())
        if name in found:
            continue
        found.add(name)
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        stack += [project(line) for line in requirements if "extra ==" not in line]
    return found


def extra_modules() -> set[str]:
    """Top-level modules of the extras that the core does without."""
    core = core_distributions()
    wanted = {
        normal(project(line))
        for line in metadata.requires("towpath") or []
        if re.search(r"extra == ['\"](engine|cli|deploy)['\"]", line)
    }
    return {
        module
        for module, distributions in metadata.packages_distributions().items()
        if {normal(name) for name in distributions} & wanted - core
    }


def project(requirement: str) -> str:
    return re.split(r"[\s;<>=!~\[(]", requirement, maxsplit=1)[0]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_by(statement: str) -> set[str]:
    """Top-level modules in a fresh interpreter after this, and that the SDK alone does not load."""
    code = (
        "import sys, json, dagger\n"
        "top = lambda: {name.split('.')[0] for name in sys.modules}\n"
        f"before = top()\n{statement}\n"
        "print(json.dumps(sorted(top() - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_list_of_extras_is_not_empty() -> None:
    assert {"uvicorn", "blake3", "cyclopts", "supervisor", "pathspec"} <= extra_modules()


@pytest.mark.parametrize(
    "statement",
    [
        "import ci",
        "import ci.flow, ci.stages, ci.gates, ci.findings, ci.records, ci.toolchains, ci.drawing",
    ],
)
def test_the_library_needs_no_extra(statement: str) -> None:
    loaded = imported_by(statement)
    assert "ci" in loaded
    assert not loaded & extra_modules()
    # These come with the SDK; Towpath itself adds none of them.
    assert not loaded & {"graphql", "httpx", "rich", "caddy"}
