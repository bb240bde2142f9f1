"""Says what a Trivy database holds, without Trivy: ``python read_database.py FOLDER`` prints JSON.

FOLDER holds db/trivy.db and db/metadata.json, and towpath.json where Towpath made it. trivy.db is
a file of https://github.com/etcd-io/bbolt (page.go, bucket.go, db.go): pages; two meta pages; a
B+tree for each bucket, nested buckets inside the leaves' values.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER = struct.Struct("<QHHI")  # page id, flags, count of elements, pages of overflow
LEAF_ELEMENT = struct.Struct("<IIII")  # flags, position from this element, key size, value size
BRANCH_ELEMENT = struct.Struct("<IIQ")  # position from this element, key size, page id
BUCKET_VALUE = struct.Struct("<QQ")  # root page (0: inline, the page follows), sequence
META = struct.Struct("<IIIIQQQQQ")  # magic, version, page size, flags, root, seq, free, high, txid
BRANCH, LEAF, IS_BUCKET, MAGIC, VERSION = 0x01, 0x02, 1, 0xED0CDAED, 2

#: Systems whose installed packages a sample can be planted among.
SYSTEMS = re.compile(rb"(debian|ubuntu|alpine|wolfi|chainguard)( [0-9.]+)?")


class Broken(Exception):
    """The file is no sound database."""


class Bolt:
    """Reads a bbolt file."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        metas = [meta for at in (0, 4096) if (meta := self._meta(at))]
        if not metas:
            raise Broken("no sound meta page")
        _, self._page_size, self.root = max(metas)

    def _meta(self, at: int) -> tuple[int, int, int] | None:
        """(transaction, page size, root page) of a meta page, if its checksum is right."""
        start = at + HEADER.size
        body = self._data[start : start + META.size]
        if len(body) < META.size:
            return None
        magic, version, page_size, _, root, _, _, _, txid = META.unpack(body)
        (checksum,) = struct.unpack_from("<Q", self._data, start + META.size)
        if (magic, version) != (MAGIC, VERSION) or checksum != fnv(body):
            return None
        return txid, page_size, root

    def items(self, page: int) -> Iterator[tuple[bytes, int, int, int]]:
        """(key, flags, value's start, value's end) of each entry of the tree below a page."""
        yield from self._entries(page * self._page_size)

    def inside(self, start: int) -> Iterator[tuple[bytes, int, int, int]]:
        """The entries of the bucket whose value starts there."""
        root, _ = BUCKET_VALUE.unpack_from(self._data, start)
        if root:
            yield from self.items(root)
        else:
            yield from self._entries(start + BUCKET_VALUE.size)

    def value(self, start: int, end: int) -> bytes:
        """A value."""
        return self._data[start:end]

    def _entries(self, at: int) -> Iterator[tuple[bytes, int, int, int]]:
        if at + HEADER.size > len(self._data):
            raise Broken(f"a page beyond the end of the file, at {at}")
        _, flags, count, _ = HEADER.unpack_from(self._data, at)
        if flags == LEAF:
            for index in range(count):
                element = at + HEADER.size + index * LEAF_ELEMENT.size
                kind, position, key, value = LEAF_ELEMENT.unpack_from(self._data, element)
                start = element + position
                yield self._data[start : start + key], kind, start + key, start + key + value
        elif flags == BRANCH:
            for index in range(count):
                element = at + HEADER.size + index * BRANCH_ELEMENT.size
                _, _, page = BRANCH_ELEMENT.unpack_from(self._data, element)
                yield from self.items(page)
        else:
            raise Broken(f"a page that is neither branch nor leaf, at {at}")


def fnv(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def sample(bolt: Bolt, start: int) -> dict[str, str] | None:
    """A package of a system's bucket, a version older than any, and an advisory that covers it."""
    for package, kind, inner, _ in bolt.inside(start):
        if kind != IS_BUCKET:
            continue
        for rule, _, value, end in bolt.inside(inner):
            advisory = json.loads(bolt.value(value, end))
            if advisory.get("FixedVersion", "") not in {"", "0"} and rule.startswith(b"CVE-"):
                return {"package": package.decode(), "version": "0", "rule": rule.decode()}
    return None


def describe(folder: Path) -> dict[str, Any]:
    """What the database holds.

    Raises:
        Broken: it is no sound database.
        OSError: there is none.
    """
    path = folder / "db" / "trivy.db"
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not path.stat().st_size:
            raise Broken("an empty file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            bolt = Bolt(data)
            try:
                held = contents(bolt)
            except (struct.error, ValueError) as error:
                raise Broken(str(error)) from error
    manifest = folder / "towpath.json"
    return {
        "sha256": digest,
        "metadata": json.loads((folder / "db" / "metadata.json").read_text(encoding="utf-8")),
        "manifest": json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else None,
        **held,
    }


def contents(bolt: Bolt) -> dict[str, Any]:
    """Buckets, how many advisories, and a sample for each system that one can be planted for."""
    buckets: list[str] = []
    samples: dict[str, dict[str, str]] = {}
    advisories = 0
    for key, kind, start, _ in bolt.items(bolt.root):
        if kind != IS_BUCKET:
            raise Broken("a value where a bucket should be")
        buckets.append(key.decode())
        if key == b"vulnerability":
            advisories = sum(1 for _ in bolt.inside(start))
        if SYSTEMS.fullmatch(key) and (found := sample(bolt, start)):
            samples[key.decode()] = found
    return {"buckets": buckets, "samples": samples, "advisories": advisories}


def main() -> int:
    """Print what the folder on the command line holds; 1 and one line where it cannot be read."""
    try:
        description = describe(Path(sys.argv[1]))
    except (Broken, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    json.dump(description, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
