"""Users and groups by the names in a tree's own /etc/passwd and /etc/group. See passwd(5)."""

from __future__ import annotations

from dataclasses import dataclass

from ci.engine.trees.merged import MergedTree
from ci.errors import CiError

__all__ = ["Account", "Identity", "account", "owner_ids"]

_MAX_ID = 2**32 - 2


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a command runs as, in numbers."""

    uid: int = 0
    gid: int = 0
    #: Supplementary groups.
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Account:
    """Who a command runs as."""

    identity: Identity
    home: str


@dataclass(frozen=True, kw_only=True)
class _User:
    name: str
    uid: int
    gid: int
    home: str


def account(tree: MergedTree, spec: str) -> Account:
    """What ``user[:group]`` means in ``tree``; the empty one is root.

    A numeric user need not exist. The user's supplementary groups come too, unless a group is
    given.

    Raises:
        CiError: a name is not there.
    """
    name, _, group = (spec or "0").partition(":")
    users = _users(tree)
    found = next((user for user in users if user.name == name), None)
    if found is None and name.isdigit() and int(name) <= _MAX_ID:
        number = int(name)
        found = next((user for user in users if user.uid == number), None) or _User(
            name="", uid=number, gid=0, home="/root" if number == 0 else "/"
        )
    if found is None:
        raise _missing("user", name, "/etc/passwd", [user.name for user in users])
    groups = _groups(tree)
    if group:
        gid = _group_id(group, groups)
        return Account(identity=Identity(uid=found.uid, gid=gid, groups=(gid,)), home=found.home)
    members = {
        found.gid,
        *(number for _, number, names in groups if found.name and found.name in names),
    }
    identity = Identity(uid=found.uid, gid=found.gid, groups=tuple(sorted(members)))
    return Account(identity=identity, home=found.home or "/")


def owner_ids(tree: MergedTree, spec: str) -> tuple[int, int]:
    """(uid, gid) of an owner ``user[:group]``; without a group it is the user's number again.

    Raises:
        CiError: a name is not there.
    """
    name, _, group = spec.partition(":")
    found = account(tree, name).identity
    if group:
        return found.uid, _group_id(group, _groups(tree))
    return found.uid, found.uid if name.isdigit() else found.gid


def _group_id(group: str, groups: list[tuple[str, int, list[str]]]) -> int:
    for name, number, _ in groups:
        if name == group:
            return number
    if group.isdigit() and int(group) <= _MAX_ID:
        return int(group)
    raise _missing("group", group, "/etc/group", [name for name, _, _ in groups])


def _missing(kind: str, name: str, file: str, known: list[str]) -> CiError:
    some = ", ".join(known[:8]) or "none"
    return CiError(
        f"{kind} {name!r}", got=f"no such {kind} in the container's {file}",
        expected=f"a number, or a name such as {some}",
    )  # fmt: skip


def _users(tree: MergedTree) -> list[_User]:
    return [
        _User(name=fields[0], uid=int(fields[2]), gid=int(fields[3]), home=fields[5])
        for fields in _lines(tree, "/etc/passwd", 6)
        if fields[2].isdigit() and fields[3].isdigit()
    ]


def _groups(tree: MergedTree) -> list[tuple[str, int, list[str]]]:
    return [
        (fields[0], int(fields[2]), (fields[3] if len(fields) > 3 else "").split(","))
        for fields in _lines(tree, "/etc/group", 3)
        if fields[2].isdigit()
    ]


def _lines(tree: MergedTree, path: str, least: int) -> list[list[str]]:
    entry = tree.lookup(path)
    if entry is None or entry.kind != "file":
        return []
    with open(entry.host, encoding="utf-8", errors="replace") as file:
        split = [line.rstrip("\n").split(":") for line in file]
    return [fields for fields in split if len(fields) >= least]
