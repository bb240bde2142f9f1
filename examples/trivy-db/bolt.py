"""Writes a bbolt database from nested dicts: same content, same bytes.

The format is that of https://github.com/etcd-io/bbolt (page.go, bucket.go, db.go): pages of
4,096 bytes; two meta pages, an empty freelist, then a B+tree for each bucket, leaves first.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TypeAlias

__all__ = ["Bucket", "write"]

#: Keys to values, or to buckets of their own.
Bucket: TypeAlias = "Mapping[bytes, bytes | Bucket]"

PAGE = 4096
HEADER = struct.Struct("<QHHI")  # page id, flags, count of elements, pages of overflow
LEAF_ELEMENT = struct.Struct("<IIII")  # flags, position from this element, key size, value size
BRANCH_ELEMENT = struct.Struct("<IIQ")  # position from this element, key size, page id
BUCKET_VALUE = struct.Struct("<QQ")  # root page (0: inline, the page follows), sequence
META = struct.Struct("<IIIIQQQQQ")

BRANCH, LEAF, META_PAGE, FREELIST = 0x01, 0x02, 0x04, 0x10
IS_BUCKET = 1
MAGIC, VERSION = 0xED0CDAED, 2
#: A bucket of values alone that is no larger stands inside its parent's leaf.
INLINE_LIMIT = PAGE // 4


def write(root: Bucket) -> bytes:
    """The database file whose root bucket this is; the root may hold buckets only."""
    pages = _Pages()
    root_page = pages.tree(_items(root, pages))
    return pages.file(root_page)


def _items(bucket: Bucket, pages: _Pages) -> list[tuple[bytes, int, bytes]]:
    """(key, flags, value) of each entry, in the order of the keys; buckets are written first."""
    items = []
    for key in sorted(bucket):
        value = bucket[key]
        if isinstance(value, bytes):
            items.append((key, 0, value))
        else:
            items.append((key, IS_BUCKET, _bucket(value, pages)))
    return items


def _bucket(bucket: Bucket, pages: _Pages) -> bytes:
    items = _items(bucket, pages)
    inline = _leaf(0, items)
    if len(inline) <= INLINE_LIMIT and not any(flags for _, flags, _ in items):
        return BUCKET_VALUE.pack(0, 0) + inline
    return BUCKET_VALUE.pack(pages.tree(items), 0)


def _leaf(page_id: int, items: list[tuple[bytes, int, bytes]]) -> bytes:
    """A leaf page, not padded; ``overflow`` follows from its size."""
    elements, data = b"", b""
    offset = LEAF_ELEMENT.size * len(items)
    for index, (key, flags, value) in enumerate(items):
        position = offset - LEAF_ELEMENT.size * index + len(data)
        elements += LEAF_ELEMENT.pack(flags, position, len(key), len(value))
        data += key + value
    size = HEADER.size + len(elements) + len(data)
    return HEADER.pack(page_id, LEAF, len(items), (size - 1) // PAGE) + elements + data


def _branch(page_id: int, children: list[tuple[bytes, int]]) -> bytes:
    elements, data = b"", b""
    offset = BRANCH_ELEMENT.size * len(children)
    for index, (key, child) in enumerate(children):
        position = offset - BRANCH_ELEMENT.size * index + len(data)
        elements += BRANCH_ELEMENT.pack(position, len(key), child)
        data += key
    return HEADER.pack(page_id, BRANCH, len(children), 0) + elements + data


class _Pages:
    """The pages of a file as they are written; the first three come last."""

    def __init__(self) -> None:
        self._next = 3
        self._written: list[bytes] = []

    def _add(self, page: bytes) -> None:
        padded = page + bytes(-len(page) % PAGE)
        self._written.append(padded)
        self._next += len(padded) // PAGE

    def tree(self, items: list[tuple[bytes, int, bytes]]) -> int:
        """Write a B+tree of these items, leaves first; the page of its root."""
        level = []
        for group in _grouped(items, lambda i: LEAF_ELEMENT.size + len(i[0]) + len(i[2])):
            level.append((group[0][0] if group else b"", self._next))
            self._add(_leaf(self._next, group))
        while len(level) > 1:
            above = []
            for children in _grouped(level, lambda child: BRANCH_ELEMENT.size + len(child[0])):
                above.append((children[0][0], self._next))
                self._add(_branch(self._next, children))
            level = above
        return level[0][1]

    def file(self, root_page: int) -> bytes:
        """The whole file."""
        metas = [_meta(number, root_page, self._next) for number in (0, 1)]
        freelist = HEADER.pack(2, FREELIST, 0, 0)
        return b"".join(page + bytes(PAGE - len(page)) for page in (*metas, freelist)) + b"".join(
            self._written
        )


def _grouped(items, size):
    """Runs of items that fit a page each; an item larger than a page is alone in its run."""
    groups, room = [[]], PAGE - HEADER.size
    for item in items:
        if groups[-1] and size(item) > room:
            groups.append([])
            room = PAGE - HEADER.size
        groups[-1].append(item)
        room -= size(item)
    return groups


def _meta(number: int, root_page: int, high_water: int) -> bytes:
    fields = (MAGIC, VERSION, PAGE, 0, root_page, 0, 2, high_water, number)
    body = META.pack(*fields)
    return HEADER.pack(number, META_PAGE, 0, 0) + body + struct.pack("<Q", _fnv(body))


def _fnv(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value
