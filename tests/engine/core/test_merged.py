"""The merged view agrees with overlayfs, and no link leads out of the root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ci.engine.store.layers import make_opaque, make_whiteout
from ci.engine.trees.merged import MergedTree, NoSuchPath, normalize


def build(folder: Path, files: dict[str, str]) -> str:
    """A layer: content, ``-> target``, ``WHITEOUT``, ``OPAQUE`` (a directory) by path."""
    folder.mkdir(parents=True)
    for path, what in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if what == "WHITEOUT":
            make_whiteout(str(place))
        elif what == "OPAQUE":
            place.mkdir(exist_ok=True)
            make_opaque(str(place))
        elif what.startswith("-> "):
            place.symlink_to(what[3:])
        else:
            place.write_text(what)
    return str(folder)


@pytest.fixture
def tree(tmp_path: Path) -> MergedTree:
    return MergedTree(
        [
            build(
                tmp_path / "1",
                {
                    "a/one": "1",
                    "a/both": "low",
                    "b/gone": "x",
                    "c/hidden": "x",
                    "d/file": "x",
                    "e": "was a file",
                    "f/under": "x",
                },
            ),
            build(
                tmp_path / "2",
                {
                    "a/two": "2",
                    "a/both": "high",
                    "b/gone": "WHITEOUT",
                    "c": "OPAQUE",
                    "c/seen": "y",
                    "d": "WHITEOUT",
                    "e/now": "a directory",
                    "f": "now a file",
                },
            ),
            build(tmp_path / "3", {"d/back": "z", "a/three": "3"}),
        ]
    )


def test_folders_merge_and_higher_layers_win(tree: MergedTree) -> None:
    root = tree.root()
    assert root is not None
    seen = {entry.path: entry.kind for entry in tree.walk(root)}
    assert seen == {
        "/a": "directory",
        "/a/both": "file",
        "/a/one": "file",
        "/a/three": "file",
        "/a/two": "file",
        "/b": "directory",
        "/c": "directory",
        "/c/seen": "file",
        "/d": "directory",
        "/d/back": "file",
        "/e": "directory",
        "/e/now": "file",
        "/f": "file",
    }
    assert list(seen) == sorted(seen)
    assert Path(tree.require("/a/both").host).read_text() == "high"


@pytest.mark.parametrize("path", ["/b/gone", "/c/hidden", "/d/file", "/f/under", "/e/no", "/a/x/y"])
def test_what_is_hidden_or_missing_is_not_there(tree: MergedTree, path: str) -> None:
    assert tree.lookup(path) is None
    with pytest.raises(NoSuchPath, match=path):
        tree.require(path)


def test_another_type_than_expected_is_told(tree: MergedTree) -> None:
    with pytest.raises(NoSuchPath, match=r"'/f': got a file; expected a directory"):
        tree.require("/f", "directory")


LINKS = {
    "etc/passwd": "inside",
    "up": "-> ../../../../../etc/passwd",
    "absolute": "-> /etc/passwd",
    "chain": "-> absolute",
    "folder": "-> etc",
    "through": "-> folder/../etc/./passwd",
    "round": "-> dnuor",
    "dnuor": "-> round",
    "dangling": "-> /nowhere/at/all",
    "deep/er/back": "-> ../../etc",
}


@pytest.mark.parametrize(
    "path",
    ["up", "absolute", "chain", "folder/passwd", "through", "deep/er/back/passwd",
     "folder/../../../etc/passwd"],
)  # fmt: skip
def test_links_are_resolved_inside_the_root(tmp_path: Path, path: str) -> None:
    tree = MergedTree([build(tmp_path / "root", LINKS)])
    entry = tree.require("/" + path, "file")
    assert entry.path == "/etc/passwd"
    assert Path(entry.host).read_text() == "inside"


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    tree = MergedTree([build(tmp_path / "root", LINKS)])
    with pytest.raises(NoSuchPath, match="circle"):
        tree.lookup("/round")


def test_a_link_itself_can_be_asked_for(tmp_path: Path) -> None:
    tree = MergedTree([build(tmp_path / "root", LINKS)])
    assert tree.require("/dangling", follow=False).kind == "symlink"
    assert tree.lookup("/dangling") is None
    assert tree.resolve("/dangling/x") == "/nowhere/at/all/x"
    assert tree.resolve("/folder/new/file") == "/etc/new/file"


def test_a_link_in_a_higher_layer_leads_to_a_lower_one(tmp_path: Path) -> None:
    tree = MergedTree(
        [
            build(tmp_path / "1", {"usr/lib/x": "found"}),
            build(tmp_path / "2", {"lib": "-> usr/lib"}),
        ]
    )
    assert tree.require("/lib/x").path == "/usr/lib/x"


def test_no_layers_are_an_empty_tree() -> None:
    tree = MergedTree([])
    assert tree.root() is None
    assert tree.lookup("/a") is None


def test_names_that_are_no_text_are_kept(tmp_path: Path) -> None:
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / os.fsdecode(b"\xff\xfe")).touch()
    tree = MergedTree([str(tmp_path / "l")])
    root = tree.root()
    assert root is not None
    assert [os.fsencode(entry.path) for entry in tree.walk(root)] == [b"/\xff\xfe"]


@pytest.mark.parametrize(
    ("path", "clean"),
    [("", "/"), ("a//b/./c/", "/a/b/c"), ("/../..", "/"), ("/a/../../b", "/b")],
)
def test_paths_are_made_normal(path: str, clean: str) -> None:
    assert normalize(path) == clean
