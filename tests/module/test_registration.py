"""What Dagger's SDKs register of the module, by the way on which an engine has them do it."""

from __future__ import annotations

from itertools import chain

from tests.module.api import Function, Module, TypeDef

#: GraphQL names its types; ``!`` is what must be given, and what is always returned.
FUNCTIONS = """
build(ws: Workspace!, source: Directory) -> Container!
dependencies(ws: Workspace!, source: Directory, database: Directory) -> STRING!
format(ws: Workspace!, source: Directory) -> STRING!
graph(ws: Workspace!, source: Directory, form: STRING! = "text") -> STRING!
iac(ws: Workspace!, source: Directory) -> STRING!
integration(ws: Workspace!, source: Directory) -> STRING!
lint(ws: Workspace!, source: Directory) -> STRING!
pipeline(ws: Workspace!, source: Directory, database: Directory, only: [STRING!], \
skip: [STRING!], fail_fast: BOOLEAN! = false) -> STRING!
run(ws: Workspace!, source: Directory, database: Directory, only: [STRING!], \
skip: [STRING!], fail_fast: BOOLEAN! = false) -> Run!
sast(ws: Workspace!, source: Directory) -> STRING!
sbom(ws: Workspace!, source: Directory) -> Directory!
scan(ws: Workspace!, source: Directory, database: Directory) -> STRING!
secrets(ws: Workspace!, source: Directory) -> STRING!
smoke(ws: Workspace!, url: STRING!, source: Directory) -> STRING!
types(ws: Workspace!, source: Directory) -> STRING!
unit(ws: Workspace!, source: Directory) -> STRING!
workflows(ws: Workspace!, source: Directory) -> STRING!
"""

#: Functions of the main object become fields of Query, where Dagger's CLI hides these. `pipeline`
#: is hidden too, but by CLIs newer than the one of dagger.json's engineVersion.
HIDDEN = {"with", "function", "typeDef", "cacheVolume", "setSecret", "currentModule", "id"}


def types(module: Module) -> dict[str, TypeDef]:
    return {each.name: each for each in module.objects}


def functions(module: Module) -> list[Function]:
    """Of all its objects."""
    return list(chain.from_iterable(each.functions for each in module.objects))


def test_every_function_has_its_arguments_and_result(module: Module):
    found = sorted(map(str, types(module)["Ci"].functions))
    assert found == FUNCTIONS.strip().splitlines()


def test_an_execution_has_its_fields_and_a_verdict(module: Module):
    run = types(module)["Run"]
    fields = {name: str(type_) for name, type_ in run.fields}
    assert fields == {
        "outcome": "STRING!",
        "summary": "STRING!",
        "reports": "Directory!",
        "exit_code": "INTEGER!",
    }
    assert list(map(str, run.functions)) == ["verdict() -> STRING!"]


def test_what_acts_on_the_outside_is_never_answered_from_a_cache(module: Module):
    found = {each.name: each.cache for each in types(module)["Ci"].functions}
    acting = {"pipeline", "run", "smoke"}
    assert {name: found.pop(name) for name in acting} == dict.fromkeys(acting, "Never")
    assert set(found.values()) == {"PerSession"}


def test_the_source_is_the_callers_not_the_modules(module: Module):
    arguments = [a for each in functions(module) for a in each.arguments]
    assert not [a for a in arguments if a.default_path or a.default_address or a.ignore]
    assert not [a for a in arguments if a.type.name == "Workspace" and a.default is not None]


def test_everything_is_documented(module: Module):
    assert module.description
    assert not [each.name for each in module.objects if not each.description]
    for function in functions(module):
        assert function.description.split("\n")[0].endswith("."), function.name
        assert not [a.name for a in function.arguments if not a.description], function.name


def test_nothing_has_a_name_that_the_command_line_hides(module: Module):
    assert not {each.name for each in functions(module)} & HIDDEN


def test_it_is_made_without_arguments(module: Module):
    made = types(module)["Ci"].constructor
    assert made
    assert not made.arguments
