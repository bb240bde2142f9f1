"""What the files of a Python repository say, read without running any of them."""

from __future__ import annotations

import pytest

from ci.errors import ConfigError
from ci.toolchains.python import PythonProject, describe, is_python, is_read

PROJECT = """
[project]
name = "shop"
version = "2.1"
requires-python = ">=3.12"
dependencies = ["six>=1.16"]
[project.scripts]
shop = "shop:main"
[tool.ruff]
"""


def of(files: dict[str, str]) -> PythonProject:
    tops = {path.split("/")[0] for path in files}
    return describe(sorted(tops), {path: text for path, text in files.items() if is_read(path)})


@pytest.mark.parametrize(
    "entries",
    [["pyproject.toml"], ["setup.py"], ["setup.cfg"], ["app.py"], ["requirements-dev.txt"]],
)
def test_a_repository_is_told_by_one_file(entries):
    assert is_python(entries)
    assert not is_python(["package.json", "README.md", "src"])


def test_a_project_tells_its_name_version_interpreter_and_commands():
    found = of({"pyproject.toml": PROJECT})
    assert (found.name, found.version, found.python) == ("shop", "2.1", "3.12")
    assert found.scripts == ("shop",)
    assert found.installable
    assert not found.dynamic
    assert found.uses("ruff")
    assert not found.uses("mypy")


@pytest.mark.parametrize(
    ("specifier", "version"),
    [
        ("", "3.11"),
        (">=3.8", "3.11"),
        (">=3.12,<4", "3.12"),
        ("<3.11", "3.10"),
        ("==3.13.*", "3.13"),
        ("~=3.10", "3.11"),
        (">=3.8,!=3.11.*", "3.12"),
        (">=3.11.5", "3.11"),
        ("no specifier", "3.11"),
    ],
)
def test_the_interpreter_is_the_default_one_unless_the_project_excludes_it(specifier, version):
    text = f'[project]\nname = "a"\nversion = "1"\nrequires-python = "{specifier}"\n'
    assert of({"pyproject.toml": text}).python == version


def test_dependencies_of_pyproject_are_what_is_installed():
    found = of({"pyproject.toml": PROJECT})
    assert found.runtime.requirements == ("six>=1.16",)
    assert found.runtime.files == ()
    assert found.runtime.lock is None


def test_a_requirements_file_that_pins_all_of_them_is_their_lock():
    found = of({"pyproject.toml": PROJECT, "requirements.txt": "six==1.16.0\n"})
    assert found.runtime.files == ("requirements.txt",)
    assert found.runtime.requirements == ()


@pytest.mark.parametrize(
    "text",
    ["six\n", "toml==0.10.2\n", "-e .\n", "-r other.txt\nsix==1.16.0\n", ""],
    ids=["not pinned", "of something else", "of the project itself", "with includes", "empty"],
)
def test_a_requirements_file_that_does_not_is_no_lock(text):
    found = of({"pyproject.toml": PROJECT, "requirements.txt": text})
    assert found.runtime.files == ()
    assert found.runtime.requirements == ("six>=1.16",)


def test_without_a_project_a_requirements_file_is_the_list_of_dependencies():
    found = of({"app.py": "", "requirements.txt": "six\n"})
    assert found.runtime.files == ("requirements.txt",)
    assert not found.installable


def test_lines_that_ask_for_the_repository_itself_are_left_to_the_installation_of_the_code():
    found = of({"app.py": "", "requirements.txt": "six\n-e .\n.[test]\n./lib\nabc\n"})
    assert found.requirements_files == {"requirements.txt": "six\nabc\n"}


def test_a_lock_of_uv_pins_what_pyproject_declares():
    lock = '[[package]]\nname = "six"\nversion = "1.16.0"\nsource = { registry = "x" }\n'
    found = of({"pyproject.toml": PROJECT, "uv.lock": lock})
    assert found.runtime.requirements == ("six>=1.16",)
    assert found.runtime.lock
    assert found.runtime.lock.version("six") == "1.16.0"


def test_what_tests_need_comes_from_extras_and_groups_with_what_they_include():
    found = of(
        {
            "pyproject.toml": PROJECT
            + """
[project.optional-dependencies]
redis = ["redis>=5"]
test = ["pytest>=8", "shop[redis]"]
docs = ["sphinx"]
[dependency-groups]
dev = ["ruff", {include-group = "lint"}]
lint = ["mypy"]
"""
        }
    )
    assert set(found.development.requirements) == {
        "six>=1.16",
        "pytest>=8",
        "redis>=5",
        "ruff",
        "mypy",
    }


def test_groups_that_include_each_other_end():
    groups = '[dependency-groups]\ndev=["a", {include-group="test"}]\ntest=[{include-group="dev"}]'
    assert "a" in of({"pyproject.toml": PROJECT + groups}).development.requirements


def test_a_development_lock_that_holds_everything_stands_alone():
    found = of(
        {
            "pyproject.toml": PROJECT,
            "requirements.lock": "six==1.16.0\n",
            "requirements-dev.lock": "six==1.16.0\npytest==8.3.5\nruff==0.8.4\n",
        }
    )
    assert found.development.files == ("requirements-dev.lock",)
    assert found.runtime.files == ("requirements.lock",)
    assert found.pinned("ruff") == "0.8.4"
    assert found.pinned("mypy") == ""


def test_a_development_lock_of_tools_alone_comes_after_the_plain_one():
    found = of(
        {
            "pyproject.toml": PROJECT,
            "requirements.lock": "six==1.16.0\n",
            "requirements-dev.txt": "pytest==8.3.5\n",
        }
    )
    assert found.development.files == ("requirements.lock", "requirements-dev.txt")


def test_a_development_lock_does_not_hide_what_only_pyproject_declares():
    found = of({"pyproject.toml": PROJECT, "requirements-dev.txt": "pytest==8.3.5\n"})
    assert found.development.files == ("requirements-dev.txt",)
    assert found.development.requirements == ("six>=1.16",)


def test_a_tool_of_ours_gives_way_to_a_declared_bound():
    extra = '[dependency-groups]\ndev = ["pytest<9", "mypy>=1"]\n'
    found = of({"pyproject.toml": PROJECT + extra})
    assert not found.allows("pytest", "9.2.0")
    assert found.allows("mypy", "2.4.1")
    assert found.allows("ruff", "0.17.6")
    assert found.requires("mypy")
    assert not found.requires("ruff")


def test_poetry_tells_dependencies_groups_commands_and_interpreter_in_its_own_words():
    found = of(
        {
            "pyproject.toml": """
[tool.poetry]
name = "shop"
version = "0.3"
[tool.poetry.dependencies]
python = "^3.12"
six = "^1.16"
[tool.poetry.group.dev.dependencies]
pytest = "^8.1"
[tool.poetry.scripts]
shop = "shop:main"
[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
"""
        }
    )
    assert (found.name, found.version, found.python) == ("shop", "0.3", "3.12")
    assert found.runtime.requirements == ("six>=1.16,<2",)
    assert found.development.requirements == ("six>=1.16,<2", "pytest>=8.1,<9")
    assert found.scripts == ("shop",)
    assert found.installable
    assert not found.dynamic


def test_what_only_a_build_backend_knows_is_left_to_it():
    script = 'from setuptools import setup\nsetup(name="a", python_requires=">=3.12")\n'
    found = of({"setup.py": script})
    assert found.installable
    assert found.dynamic
    assert found.python == "3.12"
    assert of({"pyproject.toml": '[project]\nname = "a"\ndynamic = ["dependencies"]\n'}).dynamic


def test_setup_py_tells_what_it_passes_as_texts_and_setup_cfg_comes_first():
    script = "import setuptools\nsetuptools.setup(name='toolz', version=find(), license='MIT')\n"
    assert of({"setup.py": script}).name == "toolz"
    assert of({"setup.py": script}).version == ""
    found = of({"setup.py": script, "setup.cfg": "[metadata]\nname = other\n"})
    assert found.name == "other"
    assert of({"setup.py": "def setup(:\n"}).name == ""


def test_setup_cfg_tells_commands_interpreter_extras_and_tools():
    found = of(
        {
            "setup.py": "",
            "setup.cfg": """
[metadata]
name = shop
version = attr: shop.VERSION
[options]
python_requires = >=3.12
[options.entry_points]
console_scripts =
    shop = shop:main
[options.extras_require]
test = pytest
[mypy]
strict = true
""",
        }
    )
    assert (found.name, found.version, found.python) == ("shop", "", "3.12")
    assert found.scripts == ("shop",)
    assert found.test_extras == ("test",)
    assert found.uses("mypy")


@pytest.mark.parametrize("text", ["[metadata\n", "= 1\n", "[a]\n[a]\n"])
def test_a_broken_setup_cfg_is_left_to_what_builds_by_it(text):
    assert of({"setup.py": "", "setup.cfg": text}).installable


def test_a_version_from_git_is_told():
    backend = '[build-system]\nrequires = ["setuptools", "setuptools-scm"]\n'
    assert of({"pyproject.toml": PROJECT + backend}).versioned_by_git
    assert not of({"pyproject.toml": PROJECT}).versioned_by_git


def test_pytest_that_measures_coverage_itself_is_told():
    options = '[tool.pytest.ini_options]\naddopts = "--cov=shop"\n'
    assert of({"pyproject.toml": PROJECT + options}).measures_coverage
    assert not of({"pyproject.toml": PROJECT}).measures_coverage


def test_a_pyproject_that_is_no_toml_is_named_with_the_place():
    with pytest.raises(ConfigError, match=r"pyproject\.toml: got .*line 1"):
        of({"pyproject.toml": "[project\n"})


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("pyproject.toml", True),
        ("uv.lock", True),
        ("requirements/dev.txt", True),
        ("dev-requirements.txt", True),
        ("constraints.txt", True),
        ("README.md", False),
        ("app.py", False),
        ("src/requirements.txt", False),
    ],
)
def test_only_files_that_tell_something_are_read(path, read):
    assert is_read(path) is read
