"""Searching text: lines, offsets, globs; each against a plain model."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ci.engine.trees import matching
from ci.engine.trees.matching import Match, Submatch
from ci.engine.trees.merged import MergedTree
from ci.engine.trees.search import Search, SearchError

LINES = st.lists(st.text("abné.*(\r\t ", max_size=6), max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("searched")


def found(folder: Path, search: Search) -> list[Match]:
    return search.among(files(folder, search))


def files(folder: Path, search: Search) -> list[tuple[str, str]]:
    tree = MergedTree([str(folder)])
    return list(search.files(tree, tree.root()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=LINES, needle=st.text("abné.*( ", min_size=1, max_size=2))
def test_a_literal_search_finds_every_line_that_holds_it(folder, lines, needle):
    text = "\n".join(lines)
    (folder / "f").write_bytes(text.encode())
    expected, offset = [], 0
    for number, line in enumerate(text.split("\n"), 1):
        if needle in line:
            expected.append((number, offset, line))
        offset += len(line.encode()) + 1
    matches = found(folder, Search(pattern=needle, literal=True))
    assert [(m.line, m.offset, m.lines.removesuffix("\n")) for m in matches] == expected
    for match in matches:
        raw = match.lines.encode()
        assert all(raw[sub.start : sub.end].decode() == sub.text for sub in match.submatches)
        assert all(sub.text == needle for sub in match.submatches)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=LINES, needle=st.sampled_from(["a", "b\n", "a\nb", "(?:a|b)+", "$", "^", "n\n*"]))
def test_a_search_across_lines_gives_whole_lines_without_overlap(folder, lines, needle):
    text = "\n".join(lines)
    (folder / "f").write_bytes(text.encode())
    matches = found(folder, Search(pattern=needle, multiline=True))
    data, end = text.encode(), 0
    for match in matches:
        assert match.offset >= end
        end = match.offset + len(match.lines.encode())
        assert data[match.offset : end].decode() == match.lines
        assert match.line == data[: match.offset].count(b"\n") + 1
        assert match.offset == 0 or data[match.offset - 1 : match.offset] == b"\n"
    shown = "".join(sub.text for match in matches for sub in match.submatches)
    assert shown == "".join(found[0] for found in re.finditer(needle, text, re.MULTILINE))


def test_what_is_no_text_is_passed_over(tmp_path):
    (tmp_path / "binary").write_bytes(b"needle\0")
    (tmp_path / "latin").write_bytes(b"needle \xe9\nneedle\n")
    assert found(tmp_path, Search(pattern="needle")) == [
        Match(
            path="latin", line=2, offset=9, lines="needle\n",
            submatches=(Submatch(text="needle", start=0, end=6),),
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("globs", "paths"),
    [
        (("*.py",), ["a.py", "d/b.py"]),
        (("d/*",), ["d/b.py", "d/c.txt"]),
        (("!*.py",), ["d/c.txt"]),
        (("*.py", "!d"), ["a.py"]),
        (("/*.py",), ["a.py"]),
        (("**/b.*",), ["d/b.py"]),
    ],
)
def test_globs_choose_files_as_gitignore_has_them(tmp_path, globs, paths):
    for name in ("a.py", "d/b.py", "d/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x\n")
    assert [m.path for m in found(tmp_path, Search(pattern="x", globs=globs))] == paths


def test_links_are_not_followed(tmp_path):
    (tmp_path / "f").write_text("x\n")
    (tmp_path / "link").symlink_to("f")
    (tmp_path / "out").symlink_to("/etc")
    assert [m.path for m in found(tmp_path, Search(pattern="x"))] == ["f"]


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(SearchError, match="search path 'none': got no such file"):
        found(tmp_path, Search(pattern="x", paths=("none",)))


@pytest.mark.parametrize("pattern", ["(", "*", "[", "(?P<a>x)(?P<a>y)"])
def test_what_is_no_expression_is_an_error(pattern):
    with pytest.raises(SearchError, match="search pattern: got "):
        Search(pattern=pattern)
    assert Search(pattern=pattern, literal=True)


@pytest.mark.parametrize("pattern", ["né|x+", "(?:ll)?o $", "n.é"])
async def test_what_could_take_long_is_found_in_a_process_of_its_own(tmp_path, pattern):
    (tmp_path / os.fsdecode(b"name\xff")).write_text("hello \nnöné\n")
    (tmp_path / "other").write_text("nné\n")
    search = Search(pattern=pattern)
    assert search.is_quick == (pattern == "n.é")
    assert await search.matches(files(tmp_path, search)) == found(tmp_path, search) != []


ENDLESS = "(a+)+$"


@pytest.fixture
def hopeless(tmp_path):
    (tmp_path / "f").write_text("a" * 100 + "b\n")
    return files(tmp_path, Search(pattern=ENDLESS))


@pytest.fixture
def impatient(tmp_path, monkeypatch):
    """The program, given one second."""
    program = tmp_path / "program.py"
    text = Path(matching.__file__).read_text()
    program.write_text(text.replace("CPU_SECONDS = 60", "CPU_SECONDS = 1"))
    assert program.read_text() != text
    monkeypatch.setattr(matching, "__file__", str(program))


@pytest.mark.usefixtures("impatient")
async def test_a_search_without_end_is_given_up(hopeless):
    with pytest.raises(SearchError, match=r"search for '\(a\+\)\+\$': got no end after"):
        await Search(pattern=ENDLESS).matches(hopeless)


async def test_a_search_without_end_can_be_cancelled(hopeless, monkeypatch):
    started = list[anyio.abc.Process]()
    open_process = anyio.open_process

    async def opened(*args: Any, **kwargs: Any) -> anyio.abc.Process:
        started.append(await open_process(*args, **kwargs))
        tasks.cancel_scope.cancel()
        return started[0]

    monkeypatch.setattr("anyio._core._subprocesses.open_process", opened)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Search(pattern=ENDLESS).matches, hopeless)
    assert started[0].returncode == -signal.SIGKILL


async def test_a_file_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(SearchError, match="No such file"):
        await Search(pattern="a+").matches([("gone", str(tmp_path / "gone"))])
