"""The reader of Trivy's database reads what a writer wrote, and refuses what is damaged."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.stages.programs import read_database
from ci.stages.programs.read_database import IS_BUCKET, Bolt, Broken, describe

WRITER = Path(__file__).parents[3] / "examples" / "trivy-db" / "bolt.py"


def _load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bolt = _load(WRITER)


def tree(reader: Bolt, items) -> dict[bytes, Any]:
    return {
        key: tree(reader, reader.inside(start)) if kind == IS_BUCKET else reader.value(start, end)
        for key, kind, start, end in items
    }


keys = st.binary(min_size=1, max_size=40)
values = st.binary(max_size=6000)
buckets = st.recursive(
    st.dictionaries(keys, values, max_size=30),
    lambda inner: st.dictionaries(keys, values | inner, max_size=10),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(keys, buckets, max_size=20))
def test_what_was_written_is_read(root):
    reader = Bolt(bolt.write(root))
    assert tree(reader, reader.items(reader.root)) == root


def database(folder: Path, **buckets) -> Path:
    def record(value) -> bytes:
        return json.dumps(value).encode()

    systems = {
        name.replace("_", " ").encode(): {
            package.encode(): {rule.encode(): record(advisory) for rule, advisory in rules.items()}
            for package, rules in packages.items()
        }
        for name, packages in buckets.items()
    }
    everything = {b"data-source": {}, b"vulnerability": {b"CVE-1": b"{}", b"CVE-2": b"{}"}}
    (folder / "db").mkdir()
    (folder / "db" / "trivy.db").write_bytes(bolt.write(everything | systems))
    (folder / "db" / "metadata.json").write_text("{}")
    return folder


def test_buckets_advisories_and_samples_are_told(tmp_path):
    made = database(
        tmp_path,
        debian_12={
            "a": {"CVE-1": {"Status": 1}, "CVE-3": {"FixedVersion": "0"}},
            "b": {"DSA-1": {"FixedVersion": "1"}, "CVE-2": {"FixedVersion": "1"}},
        },
        plan9={"c": {"CVE-1": {"FixedVersion": "1"}}},
    )
    said = describe(made)
    assert said["advisories"] == 2
    assert said["buckets"] == ["data-source", "debian 12", "plan9", "vulnerability"]
    assert said["samples"] == {"debian 12": {"package": "b", "version": "0", "rule": "CVE-2"}}
    assert said["manifest"] is None


def test_every_cut_of_a_database_is_refused_or_reads_as_itself(tmp_path):
    made = database(
        tmp_path, debian_12={f"p{i}": {"CVE-1": {"FixedVersion": "1" * 300}} for i in range(99)}
    )
    path = made / "db" / "trivy.db"
    whole = path.read_bytes()
    for pages in range(len(whole) // 4096):
        path.write_bytes(whole[: pages * 4096])
        with pytest.raises(Broken):
            describe(made)


def test_a_damaged_database_is_one_line_on_stderr_and_exit_code_1(tmp_path, monkeypatch, capsys):
    made = database(tmp_path)
    (made / "db" / "trivy.db").write_bytes(b"not a database" * 1000)
    monkeypatch.setattr(sys, "argv", ["read_database", str(made)])
    assert read_database.main() == 1
    assert capsys.readouterr() == ("", "no sound meta page\n")
