"""Changes, patches, owners and times of trees, against a model: a dictionary of paths."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ci.engine.git import patch
from ci.engine.git.patch import PatchError
from ci.engine.solver.editor import Editor
from ci.engine.store.layers import Layer, Snapshot
from ci.engine.store.store import Store
from ci.engine.trees.delta import Delta, differences
from ci.engine.trees.merged import MergedTree, NoSuchPath
from ci.engine.vertices.edits import Applied, Chown, Edit, Patched, Timestamps
from ci.engine.vertices.vertex import DirectoryRef, FileRef, Owner, Scratch

#: A file's content and whether it can be executed; a link's target; None for a directory.
Node = tuple[str, bool] | str | None
Model = dict[str, Node]

NAMES = st.sampled_from(["a", "b", "é", "d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FILES = st.tuples(st.text("ab\n\0", max_size=6), st.booleans())
NODES: st.SearchStrategy[Node] = st.one_of(
    FILES, FILES, st.none(), st.sampled_from(["a", "../x", "/etc/passwd"])
)


@st.composite
def models(draw: st.DrawFn) -> Model:
    """A tree in which nothing is below a file."""
    model: Model = {}
    for path, node in draw(st.dictionaries(PATHS, NODES, max_size=7)).items():
        parents = ["/".join(path.split("/")[:n]) for n in range(1, path.count("/") + 1)]
        if all(model.get(parent, None) is None for parent in parents) and path not in model:
            model |= dict.fromkeys(parents)
            model[path] = node
    return model


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("store")) as store:
        yield store


def layer(store: Store, model: Mapping[str, Node]) -> Snapshot:
    """The model in the store."""
    folder = store.temporary()
    for path, node in sorted(model.items()):
        place = folder / path
        if node is None:
            place.mkdir()
        elif isinstance(node, str):
            place.symlink_to(node)
        else:
            place.write_bytes(node[0].encode())
            place.chmod(0o755 if node[1] else 0o644)
    return (store.add_layer(folder),)


def read(store: Store, snapshot: Snapshot) -> Model:
    """A snapshot as a model."""
    tree = MergedTree(store.layer_paths(snapshot))
    root = tree.root()
    model: Model = {}
    for entry in tree.walk(root) if root else ():
        path = entry.path[1:]
        if entry.is_directory:
            model[path] = None
        elif entry.kind == "symlink":
            model[path] = str(Path(entry.host).readlink())
        else:
            mode = stat.S_IMODE(entry.status.st_mode)
            model[path] = (Path(entry.host).read_bytes().decode(), bool(mode & 0o111))
    return model


def apply(store: Store, edit: Edit, below: Snapshot, *sources: Snapshot) -> Snapshot:
    """The snapshot with the edit on top."""
    editor = Editor(store, as_root=os.geteuid() == 0)
    made = anyio.run(anyio.to_thread.run_sync, partial(editor.layer, edit, below, sources))
    return below if made is None else (*below, Layer(made))


ROOT = DirectoryRef(tree=Scratch())
CHANGE = Applied(tree=Scratch(), path="/", before=ROOT, after=ROOT)
MODELS = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
#: Each runs git.
SOME = settings(MODELS, max_examples=15)


def compared(store: Store, before: Snapshot, after: Snapshot) -> Delta:
    old, new = (MergedTree(store.layer_paths(one)) for one in (before, after))
    return Delta.of(differences(old, old.root(), new, new.root()))


def shown(path: str, node: Node) -> str:
    return path if node is not None else f"{path}/"


@MODELS
@given(before=models(), after=models())
def test_differences_are_those_of_the_models(store, before, after):
    delta = compared(store, layer(store, before), layer(store, after))
    added = {shown(p, n) for p, n in after.items()} - {shown(p, n) for p, n in before.items()}
    removed = {shown(p, n) for p, n in before.items()} - {shown(p, n) for p, n in after.items()}
    both = {p for p in before.keys() & after.keys() if before[p] is not None}
    modified = {p for p in both if after[p] is not None and before[p] != after[p]}
    assert delta.added == tuple(sorted(added))
    assert delta.all_removed == tuple(sorted(removed))
    assert delta.modified == tuple(sorted(modified))
    assert delta.is_empty is (not modified and all(p[-1] == "/" for p in added | removed))
    for path in delta.all_removed:
        inside = [top for top in delta.removed if top[-1] == "/" and path.startswith(top)]
        assert (path in delta.removed) is (not inside or inside == [path])


@MODELS
@given(before=models(), after=models())
def test_changes_done_to_what_they_were_made_of_give_what_they_were_made_for(store, before, after):
    old, new = layer(store, before), layer(store, after)
    assert read(store, apply(store, CHANGE, old, old, new)) == after


def test_a_link_that_leads_nowhere_is_replaced_by_a_directory(store):
    old, new = layer(store, {"a": "a"}), layer(store, {"a": None, "a/a": None, "a/f": ("", False)})
    assert read(store, apply(store, CHANGE, old, old, new)) == read(store, new)


@MODELS
@given(before=models(), after=models(), other=models())
def test_changes_done_elsewhere_leave_the_rest_alone(store, before, after, other):
    old, new, base = layer(store, before), layer(store, after), layer(store, other)
    try:
        result = read(store, apply(store, CHANGE, base, old, new))
    except NoSuchPath:
        assert any(other.get(path, None) is not None for path in other)
        return
    touched = set(before) | set(after)
    for path, node in after.items():
        if node is not None and before.get(path, None) != node:
            assert result[path] == node
    for path, node in other.items():
        above = {"/".join(path.split("/")[:n]) for n in range(1, path.count("/") + 2)}
        if not above & touched:
            assert result[path] == node


def without_empty(model: Model) -> Model:
    """Less the directories that hold no file: git knows nothing of those."""
    files = [path for path, node in model.items() if node is not None]
    return {
        path: node
        for path, node in model.items()
        if node is not None or any(file.startswith(f"{path}/") for file in files)
    }


@SOME
@given(before=models().map(without_empty), after=models())
def test_a_patch_does_what_the_changes_do_to_files(store, before, after):
    # Git puts nothing where a link was.
    assume(not any(isinstance(before.get(path), str) and after[path] is None for path in after))
    old, new = layer(store, before), layer(store, after)
    trees = [MergedTree(store.layer_paths(one)) for one in (old, new)]
    with tempfile.TemporaryDirectory(dir=store.root) as scratch:
        target = Path(scratch) / "diff.patch"
        (Path(scratch) / "work").mkdir()
        pairs = differences(trees[0], trees[0].root(), trees[1], trees[1].root())
        anyio.run(patch.write, list(pairs), Path(scratch) / "work", target)
        text = (store.add_layer(moved(store, target)),)
    edit = Patched(tree=Scratch(), path="/", patch=FileRef(tree=Scratch(), path="/diff.patch"))
    result = read(store, apply(store, edit, old, text))
    files = {path: node for path, node in after.items() if node is not None}
    assert {path: node for path, node in result.items() if node is not None} == files


def moved(store: Store, file: Path) -> Path:
    """A folder that holds the file."""
    folder = store.temporary()
    file.rename(folder / file.name)
    return folder


@SOME
@given(before=models(), after=models())
def test_lines_are_counted_for_every_file_that_differs(store, before, after):
    old, new = layer(store, before), layer(store, after)
    trees = [MergedTree(store.layer_paths(one)) for one in (old, new)]
    pairs = list(differences(trees[0], trees[0].root(), trees[1], trees[1].root()))
    counts = anyio.run(patch.line_counts, pairs, store.temporary())
    delta = Delta.of(iter(pairs))
    files = {p for p in (*delta.added, *delta.modified, *delta.all_removed) if p[-1] != "/"}
    assert set(counts) <= files
    for path in set(delta.added) & files - set(delta.all_removed):
        node = after[path]
        if isinstance(node, tuple) and "\0" not in node[0]:
            text = node[0]
            lines = text.count("\n") + (text[-1:] not in ("", "\n"))
            assert counts.get(path, (0, 0)) == (lines, 0)


@pytest.mark.parametrize("target", ["../outside", "/etc/x", "link/inside", ".git/config"])
def test_a_patch_cannot_leave_the_directory(store, target):
    text = (
        f"diff --git a/{target} b/{target}\nnew file mode 100644\n--- /dev/null\n"
        f"+++ b/{target}\n@@ -0,0 +1 @@\n+x\n"
    )
    base = layer(store, {"link": "/tmp", "f": ("", False)})
    edit = Patched(tree=Scratch(), path="/", patch=FileRef(tree=Scratch(), path="/p"))
    with pytest.raises(PatchError, match="patch: got "):
        apply(store, edit, base, layer(store, {"p": (text, False)}))
    assert not Path("/tmp/inside").exists()


def test_a_layer_below_is_never_written_to(store):
    base = layer(store, {"d": None, "d/f": ("1\n", False), "g": ("2\n", False)})
    before = {p: p.stat() for p in store.layer_path(base[0]).rglob("*")}
    text = "--- a/d/f\n+++ b/d/f\n@@ -1 +1 @@\n-1\n+one\n"
    patched = Patched(tree=Scratch(), path="/", patch=FileRef(tree=Scratch(), path="/p"))
    results = [
        apply(store, patched, base, layer(store, {"p": (text, False)})),
        apply(store, Timestamps(tree=Scratch(), path="/", seconds=1), base),
        apply(store, Chown(tree=Scratch(), path="/", owner=Owner(spec="7:8")), base),
    ]
    assert read(store, results[0])["d/f"] == ("one\n", False)
    for path, status in before.items():
        now = path.stat()
        assert (now.st_mtime_ns, now.st_uid, now.st_mode) == (
            status.st_mtime_ns, status.st_uid, status.st_mode,
        )  # fmt: skip
    assert (store.layer_path(base[0]) / "d/f").read_text() == "1\n"


def test_times_are_set_on_everything_below_a_path_and_on_nothing_else(store):
    base = layer(store, {"d": None, "d/f": ("1\n", False), "d/l": "f", "g": ("2\n", False)})
    snapshot = apply(store, Timestamps(tree=Scratch(), path="/d", seconds=1_000_000_000), base)
    tree = MergedTree(store.layer_paths(snapshot))
    times = {e.path: e.status.st_mtime for e in tree.walk(tree.require("/"))}
    assert times.pop("/g") != 1_000_000_000
    assert set(times.values()) == {1_000_000_000}
    assert set(times) == {"/d", "/d/f", "/d/l"}
