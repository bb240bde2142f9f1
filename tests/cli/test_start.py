"""A quick start changes nothing of what the SDK does but when it does it."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import partial

import anyio.to_thread
import pytest
from rich.console import Console

from ci import cli, outline, signature
from ci.engine.session import Session
from ci.module import Ci

QUICK = """
import inspect, sys
from ci import sdk
sdk.import_quickly()
import beartype, dagger
"""


def python(program: str, *, quick: str = QUICK, environ: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", quick + program],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **(environ or {})},
    )
    return done.stdout


@pytest.fixture
async def session(tmp_path):
    async with Session(cache=tmp_path / "store", workdir=tmp_path) as session:
        yield session.environment()


def test_a_wrong_argument_is_refused_as_by_the_sdk_itself():
    program = """
for wrong in (
    lambda c: c.with_exec(3),
    lambda c: c.with_new_file("a", contents=3),
    lambda c: c.directory(["a"]),
    lambda c: c.with_rootfs(c),
    lambda c: c.import_("a"),
    lambda _: object.__new__(dagger.Directory).with_directory("a", source=3),
    lambda _: object.__new__(dagger.Directory).diff("a"),
):
    try:
        wrong(object.__new__(dagger.Container))
    except TypeError as error:
        print(error)
"""
    refused = python(program).splitlines()
    assert len(refused) == 7
    plain = subprocess.run(
        [sys.executable, "-c", f"import dagger{program}"],
        check=True,
        capture_output=True,
        text=True,
    )
    # Beartype names a class by a reference to it where it is checked before the class is there.
    told = re.sub(r"<forwardref (\w+)\(.*?\)>", r"<class 'dagger.\1'>", plain.stdout)
    address = re.compile(" at 0x[0-9a-f]+")
    assert [address.sub("", each) for each in refused] == address.sub("", told).splitlines()


def test_functions_are_as_the_sdk_has_them():
    assert python("""
print(inspect.signature(dagger.Container.with_exec).parameters["use_entrypoint"].default)
print(dagger.Container.with_exec.__doc__.splitlines()[0])
print(inspect.iscoroutinefunction(dagger.Container.stdout))
print(inspect.iscoroutinefunction(dagger.Container.with_exec))
print(beartype.beartype.__module__.startswith("beartype"))
""").splitlines() == ["False", first_line_of_with_exec(), "True", "False", "True"]


async def test_answers_are_converted_as_by_the_sdk_itself(session):
    program = """
import anyio
from dagger import dag
from dagger.client import _core
async def main():
    async with dagger.connection():
        container = (
            dag.container().with_env_variable("A", "1").with_env_variable("B", "2")
            .with_new_file("/a", "text").with_exposed_port(80, protocol=dagger.NetworkProtocol.UDP)
        )
        print([await v.name() + await v.value() for v in await container.env_variables()])
        print([(await p.port(), await p.protocol()) for p in await container.exposed_ports()])
        print(await container.file("/a").size(), await container.directory("/").entries())
        print(await container.env_variable("C"), await container.exists("/a"))
        print(await (await container.sync()).file("/a").contents(), type(await container.id()))
anyio.run(main)
"""

    async def answers(quick: str) -> str:
        run = partial(python, program, quick=quick, environ=session)
        return await anyio.to_thread.run_sync(run)

    plain = await answers("import dagger")
    assert len(plain.splitlines()) == 5
    assert await answers(QUICK) == plain
    assert "_Converter" in python("from dagger.client import _core; print(_core.make_converter)")


def first_line_of_with_exec() -> str:
    import dagger

    return (dagger.Container.with_exec.__doc__ or "").splitlines()[0]


@pytest.mark.parametrize("arguments", [["--version"], ["engine", "df"], ["engine", "--help"]])
def test_what_needs_no_sdk_imports_none(arguments, tmp_path):
    program = f"""
import sys
sys.argv = ["ci", *{arguments}]
from ci.start import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("dagger" in sys.modules, "beartype" in sys.modules, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "TOWPATH_CACHE": str(tmp_path)},
    )
    assert done.stderr.splitlines()[-1] == "False False"
    assert done.stdout


def test_the_list_of_commands_is_that_of_the_functions_though_no_sdk_is_imported():
    assert list(outline.functions()) == [
        (name, signature.summary(function)) for name, function in signature.functions(Ci)
    ]
    whole = io.StringIO()
    cli.build().help_print([], console=Console(file=whole, width=80))
    short = io.StringIO()
    cli.build(["--help"]).help_print([], console=Console(file=short, width=80))
    assert short.getvalue() == whole.getvalue()
    assert "pipeline" in whole.getvalue()


@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["-h"], ["--version"], ["doctor", "--help"], ["environments", "--project=no"],
     ["stop", "--help"], ["rollback"], ["engine"], ["engine", "run", "--help"]],
    ids=" ".join,
)  # fmt: skip
def test_what_is_not_about_functions_imports_no_sdk(words, tmp_path):
    program = (
        "import sys; from ci import start\n"
        f"sys.argv[1:] = {words!r}\n"
        "try: start.main()\n"
        "except SystemExit: pass\n"
        "print('dagger' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TOWPATH_STATE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines()[-1] == "False", ran
