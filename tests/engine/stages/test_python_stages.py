"""The Python stages on small repositories, each with its fault and without."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import dagger
import pytest

from ci import stages
from ci.errors import ConfigError, StageErrored, StageSkipped
from ci.events import ExecFinished
from ci.values import Output, Status
from tests.engine.stages.conftest import Folder
from tests.sdk_session import user_session

PYPROJECT = """
[project]
name = "shop"
version = "1.2"
description = "Sells."
dependencies = ["six==1.16.0"]
[project.scripts]
shop = "shop.main:main"
[build-system]
requires = ["setuptools==80.9.0"]
build-backend = "setuptools.build_meta"
[tool.setuptools]
packages = ["shop"]
[tool.ruff.lint]
select = ["F", "I"]
[tool.mypy]
files = ["shop"]
ignore_missing_imports = true
"""
MAIN = '''\
"""The shop."""

import http.server
import importlib.metadata
import os

import six


def price(count: int) -> int:
    """In cents."""
    return 100 * count if six.PY3 else 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = importlib.metadata.version("shop").encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    port = int(os.environ["PORT"])
    http.server.HTTPServer(("0.0.0.0", port), Handler).serve_forever()
'''
TEST = """\
from shop.main import price


def test_two_cost_twice_as_much():
    assert price(2) == 200
"""
SMOKE = """\
import os
import urllib.request


def test_it_answers_with_its_version():
    with urllib.request.urlopen(os.environ["SMOKE_BASE_URL"]) as answer:
        assert answer.read() == b"1.2"
"""
#: Speaks to PostgreSQL by its own protocol, so that no driver is needed: a start-up message, and
#: the request for a password that the server answers with.
INTEGRATION = """\
import os
import socket
import struct
from urllib.parse import urlsplit


def test_the_database_asks_who_comes():
    url = urlsplit(os.environ["DATABASE_URL"])
    assert url.scheme == "postgresql"
    with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
        who = f"user\\0{url.username}\\0database\\0{url.path[1:]}\\0\\0".encode()
        connection.sendall(struct.pack("!II", len(who) + 8, 196608) + who)
        assert connection.recv(1) == b"R"
"""
SHOP = {
    "pyproject.toml": PYPROJECT,
    "shop/__init__.py": "",
    "shop/main.py": MAIN,
    "tests/unit/test_main.py": TEST,
    "tests/integration/test_database.py": INTEGRATION,
    "tests/smoke/test_smoke.py": SMOKE,
}
#: Needs no installation of its own.
PLAIN = {"app.py": "A = 1\n"}


def shop(**changed: str) -> Mapping[str, str]:
    """The shop with other texts: ``main``, ``test``, ``pyproject``."""
    paths = {
        "main": "shop/main.py",
        "test": "tests/unit/test_main.py",
        "pyproject": "pyproject.toml",
        "integration": "tests/integration/test_database.py",
        "smoke": "tests/smoke/test_smoke.py",
    }
    return {**SHOP, **{paths[name]: text for name, text in changed.items()}}


def rules(output: Output[Any]) -> set[tuple[str, str, int | None]]:
    """(rule, path, line) of each finding."""
    return {
        (f.rule, f.place.path, f.place.line)
        for f in output.evidence.findings
        if f.place is not None
    }


# -- format and lint ------------------------------------------------------------------------------


async def test_format_names_each_file_that_is_not_formatted(folder: Folder):
    good = await stages.format(folder(SHOP))
    assert good.evidence.status == Status.PASSED
    assert all(scanner.proven for scanner in good.evidence.scanners)
    bad = await stages.format(folder(shop(main=MAIN + "x = {  }\n")))
    assert bad.evidence.status == Status.FAILED
    assert rules(bad) == {("format", "shop/main.py", None)}
    pinned = {**shop(main=MAIN + "x = {  }\n"), "requirements-dev.txt": "ruff==0.8.4\n"}
    assert rules(await stages.format(folder(pinned))) == {("format", "shop/main.py", None)}


async def test_format_is_skipped_where_no_formatter_was_chosen(folder: Folder):
    with pytest.raises(StageSkipped, match="no formatter"):
        await stages.format(folder(PLAIN))


async def test_lint_fails_by_the_rules_of_the_repository(folder: Folder):
    good = await stages.lint(folder(SHOP))
    assert (good.evidence.status, good.evidence.findings) == (Status.PASSED, ())
    assert all(scanner.proven for scanner in good.evidence.scanners)
    bad = await stages.lint(folder(shop(main="import sys\nimport os\n")))
    assert bad.evidence.status == Status.FAILED
    assert ("F401", "shop/main.py", 1) in rules(bad)
    assert "ruff.sarif" in bad.reports


async def test_lint_without_a_choice_looks_for_faults_and_not_for_taste(folder: Folder):
    taste = {"app.py": "import sys\nimport os\n\n\nprint(os, sys)\n"}
    assert (await stages.lint(folder(taste))).evidence.status == Status.PASSED
    fault = await stages.lint(folder({"app.py": "print(nothing)\n"}))
    assert rules(fault) == {("F821", "app.py", 1)}


async def test_a_file_that_is_no_python_fails_lint(folder: Folder):
    output = await stages.lint(folder({"app.py": "def (:\n"}))
    assert output.evidence.status == Status.FAILED
    assert {path for _, path, _ in rules(output)} == {"app.py"}


async def test_a_configuration_that_ruff_cannot_read_is_an_error_and_no_failure(folder: Folder):
    broken = {"pyproject.toml": '[tool.ruff]\nline-length = "wide"\n', "app.py": ""}
    with pytest.raises(StageErrored, match="line-length"):
        await stages.lint(folder(broken))


async def test_the_version_of_ruff_that_the_repository_pins_is_used(folder: Folder):
    pinned = {**PLAIN, "requirements-dev.txt": "ruff==0.8.4\n"}
    (scanner,) = (await stages.lint(folder(pinned))).evidence.scanners
    assert scanner.version == "0.8.4"


# -- types ----------------------------------------------------------------------------------------


async def test_types_are_checked_with_the_dependencies_at_hand(folder: Folder):
    good = await stages.types(folder(SHOP))
    assert (good.evidence.status, good.evidence.findings) == (Status.PASSED, ())
    bad = await stages.types(folder(shop(main=MAIN + '\n\nprice("two")\n')))
    assert bad.evidence.status == Status.FAILED
    assert {(rule, path) for rule, path, _ in rules(bad)} == {("arg-type", "shop/main.py")}


async def test_types_are_checked_without_configuration_where_the_code_says_that_it_is_typed(
    folder: Folder,
):
    typed = {"app.py": "import nowhere\n\nx: int = 'a'\n", "py.typed": ""}
    output = await stages.types(folder(typed))
    assert rules(output) == {("assignment", "app.py", 3)}
    with pytest.raises(StageSkipped, match="typed"):
        await stages.types(folder(PLAIN))


# -- unit -----------------------------------------------------------------------------------------


async def test_unit_counts_tests_and_measures_coverage(folder: Folder):
    output = await stages.unit(folder(SHOP))
    assert output.evidence.status == Status.PASSED
    assert output.evidence.tests
    assert output.evidence.tests.counts.model_dump() == {
        "passed": 1, "failed": 0, "errored": 0, "skipped": 0,
    }  # fmt: skip
    assert output.evidence.coverage
    assert 0 < output.evidence.coverage.percent < 100
    assert set(output.reports) == {"junit.xml", "coverage.xml"}


@pytest.mark.parametrize(
    ("test", "counts"),
    [
        ("def test_a():\n    assert 1 == 2\n", (0, 1, 0)),
        ("import nothere\n", (0, 0, 1)),
        ("def test_a(no_such_fixture):\n    pass\n", (0, 0, 1)),
    ],
    ids=["an assertion", "an import", "a fixture"],
)
async def test_a_broken_test_fails_the_stage_and_is_named(folder: Folder, test, counts):
    output = await stages.unit(folder({**PLAIN, "tests/test_app.py": test}))
    assert output.evidence.status == Status.FAILED
    assert output.evidence.tests
    found = output.evidence.tests.counts
    assert (found.passed, found.failed, found.errored) == counts
    assert "test_app" in output.evidence.log


@pytest.mark.parametrize("tests", [{}, {"tests/helper.py": "X = 1\n"}], ids=["none", "no test"])
async def test_unit_is_skipped_where_there_are_no_tests(folder: Folder, tests):
    with pytest.raises(StageSkipped, match="no tests"):
        await stages.unit(folder({**PLAIN, **tests}))


async def test_a_suite_that_hangs_is_errored_and_tells_where(folder: Folder):
    hanging = "import time\n\n\ndef test_hangs():\n    time.sleep(600)\n"
    with pytest.raises(StageErrored, match="no end within 15 s") as error:
        await stages.unit(folder({**PLAIN, "tests/test_app.py": hanging}), limit=15)
    assert "in test_hangs" in str(error.value)


async def test_a_suite_that_is_killed_is_errored_and_says_by_what(folder: Folder):
    killed = "import os\n\n\ndef test_dies():\n    os.kill(os.getpid(), 9)\n"
    with pytest.raises(StageErrored, match="signal 9"):
        await stages.unit(folder({**PLAIN, "tests/test_app.py": killed}))


async def test_a_usage_error_of_pytest_is_errored(folder: Folder):
    files = {**PLAIN, "tests/test_app.py": TEST, "pytest.ini": "[pytest]\naddopts = --nonsense\n"}
    with pytest.raises(StageErrored, match="--nonsense"):
        await stages.unit(folder(files))


@pytest.mark.parametrize(
    "files",
    [
        {"requirements.txt": "six==1.16.0\n-e .\n"},
        {
            "setup.py": (
                "from setuptools import setup\n"
                "setup(name='a', py_modules=['a'], install_requires=['six'])\n"
            )
        },
        {
            "pyproject.toml": """
[tool.poetry]
name = "a"
version = "1"
description = ""
authors = []
packages = [{ include = "a.py" }]
[tool.poetry.dependencies]
six = "^1.16"
[build-system]
requires = ["poetry-core==2.1.3"]
build-backend = "poetry.core.masonry.api"
"""
        },
        {
            "pyproject.toml": """
[project]
name = "a"
dynamic = ["version"]
dependencies = ["six"]
[build-system]
requires = ["hatchling==1.27.0", "hatch-vcs==0.5.0"]
build-backend = "hatchling.build"
[tool.hatch]
version.source = "vcs"
build.targets.wheel.only-include = ["a.py"]
"""
        },
    ],
    ids=["requirements", "setup.py", "poetry", "hatchling, version from git"],
)
async def test_a_project_of_any_kind_finds_its_dependencies(folder: Folder, files):
    test = "import six\n\nimport a\n\n\ndef test_a():\n    assert six.PY3 and a.A\n"
    output = await stages.unit(folder({**files, "a.py": "A = 1\n", "test_a.py": test}))
    assert output.evidence.status == Status.PASSED, output.evidence.log


async def test_a_lock_with_a_wrong_hash_installs_nothing(folder: Folder):
    lock = f"six==1.16.0 --hash=sha256:{'0' * 64}\n"
    files = {**PLAIN, "requirements.txt": lock, "test_app.py": "def test_a(): pass\n"}
    with pytest.raises(dagger.ExecError) as error:
        await stages.unit(folder(files))
    assert "DO NOT MATCH THE HASHES" in error.value.stderr


# -- integration and smoke ------------------------------------------------------------------------


async def test_integration_tests_have_a_postgresql(folder: Folder):
    good = await stages.integration(folder(SHOP))
    assert good.evidence.status == Status.PASSED, good.evidence.log
    bad = await stages.integration(folder(shop(integration=INTEGRATION.replace('"R"', '"X"'))))
    assert bad.evidence.status == Status.FAILED
    with pytest.raises(StageSkipped, match="no integration tests"):
        await stages.integration(folder(PLAIN))


async def test_smoke_tests_the_image_as_a_service(folder: Folder):
    image = (await stages.build(folder(SHOP))).artifact
    assert image is not None
    service = image.as_service()
    good = await stages.smoke(folder(SHOP), service=service)
    assert good.evidence.status == Status.PASSED, good.evidence.log
    bad = await stages.smoke(folder(shop(smoke=SMOKE.replace("1.2", "9"))), service=service)
    assert bad.evidence.status == Status.FAILED


async def test_smoke_tests_against_nothing_fail_and_without_a_target_are_refused(folder: Folder):
    output = await stages.smoke(folder(SHOP), url="http://127.0.0.1:9")
    assert output.evidence.status == Status.FAILED
    with pytest.raises(ConfigError, match="neither a URL nor a service"):
        await stages.smoke(folder(SHOP))
    with pytest.raises(StageSkipped, match="no smoke tests"):
        await stages.smoke(folder(PLAIN), url="http://127.0.0.1:9")


# -- build ----------------------------------------------------------------------------------------


async def built(source: dagger.Directory, **arguments: Any) -> dagger.Container:
    image = (await stages.build(source, **arguments)).artifact
    assert image is not None
    return image


async def test_an_image_says_what_it_is_and_runs_as_an_ordinary_user(folder: Folder):
    output = await stages.build(folder(SHOP), revision="c0ffee", url="https://example.com/shop")
    assert output.artifact
    assert output.evidence.image
    prefix = "org.opencontainers.image."
    assert {name.removeprefix(prefix): value for name, value in output.evidence.image.labels} == {
        "title": "shop",
        "version": "1.2",
        "description": "Sells.",
        "revision": "c0ffee",
        "source": "https://example.com/shop",
    }
    assert output.evidence.image.user == "10001:10001"
    assert await output.artifact.default_args() == ["shop"]
    assert await output.artifact.with_exec(["id", "-u"]).stdout() == "10001\n"


async def test_an_image_holds_the_dependencies_and_the_code_and_no_byte_code(folder: Folder):
    image = await built(folder(SHOP))
    app = image.directory("/app")
    assert await app.glob("lib/python*/site-packages/shop/main.py")
    assert await app.glob("lib/python*/site-packages/six.py")
    assert not await app.glob("**/*.pyc")
    assert not await app.glob("**/tests/**")
    imported = image.with_exec(["python", "-c", "import shop.main, sys; print(sys.prefix)"])
    assert await imported.stdout() == "/app\n"


async def test_the_version_of_an_image_is_that_of_its_wheel(folder: Folder):
    dynamic = PYPROJECT.replace('version = "1.2"', 'dynamic = ["version"]') + (
        '[tool.setuptools.dynamic]\nversion = { attr = "shop.VERSION" }\n'
    )
    files = {**shop(pyproject=dynamic), "shop/__init__.py": 'VERSION = "3.4"\n'}
    image = await built(folder(files))
    assert await image.label("org.opencontainers.image.version") == "3.4"


async def test_dependencies_that_only_the_wheel_tells_are_in_the_image(folder: Folder):
    script = (
        "from setuptools import setup\n"
        "setup(name='a', version='7', py_modules=['a'], install_requires=['six==1.16.0'],\n"
        "      entry_points={'console_scripts': ['a = a:main']})\n"
    )
    code = "import six\n\n\ndef main():\n    print(six.__version__)\n"
    image = await built(folder({"setup.py": script, "a.py": code}), command=["a"])
    assert await image.with_exec(["a"]).stdout() == "1.16.0\n"


async def test_code_that_is_no_package_runs_from_its_folder(folder: Folder):
    files = {"requirements.txt": "six==1.16.0\n", "app.py": "import six\nprint(six.__version__)\n"}
    image = await built(folder(files), command=["python", "-m", "app"])
    assert await image.with_exec(["python", "-m", "app"]).stdout() == "1.16.0\n"


async def test_a_library_has_nothing_to_run_and_is_skipped(folder: Folder):
    library = PYPROJECT.replace('shop = "shop.main:main"\n', "")
    with pytest.raises(StageSkipped, match="nothing to run"):
        await stages.build(folder(shop(pyproject=library)))


@pytest.mark.skipif(
    "DAGGER_SESSION_PORT" in os.environ, reason="Dagger's engine keeps times in layers"
)
async def test_the_same_code_and_dependencies_make_the_same_image_whenever_they_are_built(
    folder: Folder,
):
    """What differs makes every command of the build run again, and ends in no image."""
    files = shop(pyproject=PYPROJECT.replace('"six==1.16.0"', '"six"'))
    first = {**files, "requirements.txt": "six==1.16.0\n", "notes.txt": "a"}
    again = {**files, "requirements.txt": "# again\nsix==1.16.0\n", "notes.txt": "b"}
    digests = {await (await built(folder(each))).as_tarball().digest() for each in (first, again)}
    assert len(digests) == 1


@pytest.mark.skipif("DAGGER_SESSION_PORT" in os.environ, reason="looks at this engine's commands")
async def test_an_edit_of_the_code_installs_nothing_again(tmp_path, monkeypatch):
    commands: list[tuple[str, ...]] = []

    def note(event: object) -> None:
        if isinstance(event, ExecFinished) and not event.cached:
            commands.append(event.command)

    async def stages_of(files: Mapping[str, str]) -> list[tuple[str, ...]]:
        commands.clear()
        source = dagger.dag.directory()
        for path, text in files.items():
            source = source.with_new_file(path, text)
        await stages.unit(source)
        await stages.build(source)
        return [command for command in commands if "install" in command]

    async with user_session(on_event=note) as session:
        for name, value in session.environment().items():
            monkeypatch.setenv(name, value)
        async with dagger.connection():
            await stages_of(shop())
            again = await stages_of(shop(main=MAIN + f"# {tmp_path}\n"))
    assert len(again) == 2, "the code, editable for its tests and as a wheel for the image"
    assert all("--no-deps" in command for command in again)
