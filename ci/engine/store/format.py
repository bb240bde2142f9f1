"""Whose a store is and which Towpath wrote it: looked at before anything in it is used."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from ci.engine.store.error import StoreError

__all__ = ["FORMAT", "require_format", "require_owner", "write_tag"]

#: Changes when older stores cannot be read any more.
FORMAT = "towpath store 1\n"

#: By which backup and tidying programs know a cache. https://bford.info/cachedir/
_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This file marks a cache of Towpath: it can be removed, and is made again.\n"
)


def require_owner(root: Path) -> None:
    """Raise StoreError for another user's store: what one makes there the other cannot use."""
    owner = root.stat().st_uid
    if owner != os.geteuid():
        raise StoreError(
            f"store {root}",
            got=f"it belongs to {_user(owner)}",
            expected=f"one that belongs to {_user(os.geteuid())}",
            hint="name a folder of your own in TOWPATH_CACHE"
            f", or give this one away: chown -R {os.geteuid()} {root.parent}",
        )


def require_format(root: Path) -> None:
    """Raise StoreError for a store that another version wrote in a way of its own."""
    path = root / "format"
    try:
        found = path.read_text(errors="replace")
    except FileNotFoundError:
        found = ""
    if not found:
        path.write_text(FORMAT)
    elif found != FORMAT:
        raise StoreError(
            f"store {root}",
            got=f"its format is {found.strip()[:60]!r}",
            expected=repr(FORMAT.strip()),
            hint="another version of Towpath made it: use that one, or remove the folder, or name "
            "another in TOWPATH_CACHE",
        )


def write_tag(folder: Path) -> None:
    """Mark a folder that we made as a cache."""
    tag = folder / "CACHEDIR.TAG"
    if not tag.exists():
        tag.write_text(_TAG)


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
