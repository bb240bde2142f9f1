"""Patterns select as .dockerignore and .gitignore do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.engine.trees.merged import MergedTree
from ci.engine.trees.patterns import PatternList, select
from ci.engine.vertices.vertex import Patterns

FILES = [
    "a.py",
    "a.pyc",
    "README.md",
    "docs/index.md",
    "docs/api/ref.md",
    "docs/api/img/x.png",
    "src/app.py",
    "src/app.pyc",
    "src/node_modules/left/index.js",
    "node_modules/right/index.js",
    "build/out",
    "build/keep/me",
    ".hidden",
]


@pytest.fixture
def tree(tmp_path: Path) -> MergedTree:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return MergedTree([str(tmp_path)])


def chosen(tree: MergedTree, patterns: Patterns, *, folders: bool = False) -> set[str]:
    root = tree.root()
    assert root is not None
    return {
        path for path, entry in select(tree, root, patterns) if folders or not entry.is_directory
    }


@pytest.mark.parametrize(
    ("exclude", "gone"),
    [
        (("*.pyc",), {"a.pyc"}),
        (("**/*.pyc",), {"a.pyc", "src/app.pyc"}),
        (("docs",), {"docs/index.md", "docs/api/ref.md", "docs/api/img/x.png"}),
        (("./docs/",), {"docs/index.md", "docs/api/ref.md", "docs/api/img/x.png"}),
        (("docs/**/*.md",), {"docs/index.md", "docs/api/ref.md"}),
        (("docs/*/*.md",), {"docs/api/ref.md"}),
        (("**/node_modules",), {"src/node_modules/left/index.js", "node_modules/right/index.js"}),
        (("build", "!build/keep"), {"build/out"}),
        (("*", "!src", "src/*.pyc"), set(FILES) - {"src/app.py", "src/node_modules/left/index.js"}),
        (("[ab].py",), {"a.py"}),
        (("[!b].py",), {"a.py"}),
        (("?.py",), {"a.py"}),
        ((r"a\.py",), {"a.py"}),
        (("absent",), set()),
        (("",), set()),
    ],
)
def test_excludes_follow_dockerignore(
    tree: MergedTree, exclude: tuple[str, ...], gone: set[str]
) -> None:
    assert chosen(tree, Patterns(exclude=exclude)) == set(FILES) - gone


@pytest.mark.parametrize(
    ("include", "kept"),
    [
        (("a.py",), {"a.py"}),
        (("docs",), {"docs/index.md", "docs/api/ref.md", "docs/api/img/x.png"}),
        (("docs/api/*.md",), {"docs/api/ref.md"}),
        (("**/*.py",), {"a.py", "src/app.py"}),
        (("*.md", "docs/*.md"), {"README.md", "docs/index.md"}),
        (("docs", "!docs/api"), {"docs/index.md"}),
        (("absent",), set()),
    ],
)
def test_includes_keep_what_matches_and_what_leads_there(
    tree: MergedTree, include: tuple[str, ...], kept: set[str]
) -> None:
    assert chosen(tree, Patterns(include=include)) == kept


def test_folders_come_before_their_content_and_only_where_there_is_any(tree: MergedTree) -> None:
    seen = chosen(tree, Patterns(include=("docs/api/ref.md",)), folders=True)
    assert seen == {"docs", "docs/api", "docs/api/ref.md"}


def test_excludes_win_over_includes(tree: MergedTree) -> None:
    patterns = Patterns(include=("docs",), exclude=("**/*.png", "docs/index.md"))
    assert chosen(tree, patterns) == {"docs/api/ref.md"}


def test_gitignore_files_count_from_where_they_are_and_the_deepest_decides(
    tmp_path: Path, tree: MergedTree
) -> None:
    (tmp_path / ".gitignore").write_text("*.pyc\n/build/\nnode_modules\n")
    (tmp_path / "src/.gitignore").write_text("!app.pyc\n")
    seen = chosen(tree, Patterns(gitignore=True))
    assert seen == set(FILES) - {
        "a.pyc", "build/out", "build/keep/me", "src/node_modules/left/index.js",
        "node_modules/right/index.js",
    } | {".gitignore", "src/.gitignore"}  # fmt: skip


def test_a_glob_matches_paths_and_not_what_is_below_them() -> None:
    wanted = PatternList(("*",))
    assert wanted.matches_itself("a")
    assert not wanted.matches_itself("a/b")
    assert PatternList(("**/b",)).matches_itself("b")
    assert PatternList(("a/**",)).matches_itself("a/b/c")


def test_no_folder_is_entered_that_can_hold_nothing() -> None:
    wanted = PatternList(("docs/api/*.md", "src/**/x"))
    assert wanted.may_match_below("docs")
    assert wanted.may_match_below("docs/api")
    assert wanted.may_match_below("src/a/b/c")
    assert not wanted.may_match_below("build")
    assert not wanted.may_match_below("docs/other")


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("[a-c]", "b", "d"),
        ("[!a-c]", "d", "b"),
        ("[^a]x", "bx", "ax"),
        ("[[a]", "[", "b"),
        ("[a&&b]", "&", "c"),
        ("[--a]", "a", "b"),
        ("[z-a]", "[z-a", "z"),
        ("a[", "a[", "a"),
    ],
)
def test_classes_of_characters_are_no_regular_expressions(pattern, matching, other) -> None:
    found = PatternList((pattern,))
    assert found.matches(matching) is (pattern != "[z-a]")
    assert not found.matches(other)


@given(st.text(alphabet="ab[]!^-*?\\&|~/.", max_size=10), st.text(alphabet="ab[-/", max_size=5))
def test_any_pattern_matches_or_does_not(pattern: str, path: str) -> None:
    assert PatternList((pattern,)).matches(path) in (True, False)
