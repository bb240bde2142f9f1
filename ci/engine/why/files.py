"""Which files differ between an input and what it was, as far as the store still has both."""

from __future__ import annotations

from ci.engine.store.layers import Layer, Snapshot
from ci.engine.store.store import Store
from ci.engine.trees.delta import Delta, differences
from ci.engine.trees.merged import Entry, MergedTree
from ci.engine.trees.patterns import PatternList
from ci.engine.why.step import Input

__all__ = ["changed_files"]


def changed_files(store: Store, old: Input, new: Input) -> Delta | None:
    """What was added, modified and removed; None where one of the two is gone."""
    sides = [_side(store, each) for each in (old, new)]
    (old_tree, before), (new_tree, after) = sides
    if before is None or after is None:
        return None
    if not before.is_directory or not after.is_directory:
        return Delta(modified=(new.path.rpartition("/")[2],))
    include = PatternList(new.include) if new.include else None
    exclude = PatternList(new.exclude) if new.exclude else None
    return Delta.of(
        pair
        for pair in differences(old_tree, before, new_tree, after)
        if (include is None or include.matches(pair.path))
        and not (exclude is not None and exclude.matches(pair.path))
    )


def _side(store: Store, each: Input) -> tuple[MergedTree, Entry | None]:
    snapshot: Snapshot = tuple(Layer(name) for name in each.layers)
    if not snapshot or not store.has_layers(snapshot):
        return MergedTree([]), None
    tree = MergedTree(store.layer_paths(snapshot))
    return tree, tree.lookup(each.path)
