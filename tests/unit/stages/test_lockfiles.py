"""Lock files are read without a scanner: every pin, and every line that pins nothing."""

from __future__ import annotations

import json

import pytest

from ci.errors import StageFailed
from ci.stages.lockfiles import parse


def test_pins_are_read_with_hashes_markers_extras_and_comments():
    text = (
        "# made by a tool\r\n--index-url https://example.invalid\n"
        'Foo.Bar[x, y] == 1.0 ; python_version > "3"  # c\n'
        "baz==2.0+local \\\n    --hash=sha256:0 \\\n    --hash=sha256:1\n"
        "qux==1!2.0rc1\n\n"
    )
    lock = parse("requirements.txt", text)
    assert lock.packages == (("baz", "2.0+local"), ("foo-bar", "1.0"), ("qux", "1!2.0rc1"))
    assert lock.unpinned == ()
    assert lock.text == text


@pytest.mark.parametrize(
    "line",
    ["a", "a>=1", "a==1.*", "a===1", "a==1,!=2", "-r other.txt", "-e .", "./wheel.whl",
     "a @ https://example.invalid/a.whl", "git+https://example.invalid/a", "-c pins.txt"],
)  # fmt: skip
def test_a_line_that_leaves_the_version_open_is_told(line):
    lock = parse("requirements.txt", f"b==1\n{line}\n")
    assert lock.packages == (("b", "1"),)
    assert lock.unpinned == (line,)


def test_the_repositorys_own_projects_are_no_dependencies():
    text = (
        '[[package]]\nname = "own"\nversion = "0"\nsource = { editable = "." }\n'
        '[[package]]\nname = "Dep_A"\nversion = "1"\nsource = { registry = "x" }\n'
    )
    lock = parse("a/uv.lock", text)
    assert (lock.type, lock.packages) == ("uv", (("dep-a", "1"),))


def test_a_pipfile_lock_has_both_groups():
    text = json.dumps({"default": {"a": {"version": "==1"}}, "develop": {"b": {"version": "==2"}}})
    lock = parse("Pipfile.lock", text)
    assert (lock.type, lock.packages) == ("pip", (("a", "1"), ("b", "2")))


def test_what_trivy_does_not_read_becomes_requirements():
    lock = parse("pylock.toml", '[[packages]]\nname = "a"\nversion = "1"\n')
    assert (lock.type, lock.text) == ("pip", "a==1\n")


@pytest.mark.parametrize(
    ("path", "text"),
    [("poetry.lock", "[["), ("uv.lock", "package = 3"), ("Pipfile.lock", "{"),
     ("Pipfile.lock", "[]"), ("pylock.toml", "[[packages]]\nversion = '1'\n")],
)  # fmt: skip
def test_a_malformed_lock_file_is_the_repositorys_fault(path, text):
    with pytest.raises(StageFailed, match=path):
        parse(path, text)
