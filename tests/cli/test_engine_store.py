"""`ci engine df`, `prune`, `check` and `why`, on a store of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from ci.engine.store.store import Store
from ci.engine.why.history import History
from ci.engine.why.step import Input, Step, Steps

CI = Path(sys.executable).with_name("ci")


def ci(store: Path, *arguments: str, code: int = 0, folder: Path | None = None) -> str:
    environ = {**os.environ, "TOWPATH_CACHE": str(store)}
    command: list[str | Path] = [CI, *arguments]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def test_what_is_in_the_store_is_told_and_dropped(tmp_path: Path):
    with Store(tmp_path) as store:
        volume = store.volume("downloads")
        (volume / "large").write_bytes(b"x" * 20 * 1024**2)
    assert "volumes       1     0.02 GiB" in ci(tmp_path, "engine", "df")
    assert "1 volumes" in ci(tmp_path, "engine", "prune", "--max-gib=0")
    assert not volume.exists()
    assert "volumes       0     0.00 GiB" in ci(tmp_path, "engine", "df")


def test_a_check_tells_what_was_damaged_and_the_next_finds_nothing(tmp_path: Path):
    with Store(tmp_path) as store:
        folder = store.temporary()
        (folder / "file").write_text("content")
        store.put("kind", "key", {"layers": [store.add_layer(folder)]})
    assert "checked 1 layers, 0 blobs and 1 records: 0 damaged" in ci(tmp_path, "engine", "check")
    (damaged,) = tmp_path.glob("v1/l/*/file")
    damaged.write_text("CONTENT")
    told = ci(tmp_path, "engine", "check", code=2)
    assert "dropped layer 1: files were added, removed, cut or written to" in told
    assert "other contents in /file" in told
    assert "0 damaged" in ci(tmp_path, "engine", "check")


def test_why_tells_what_changed_between_the_last_two_runs_of_a_folder(tmp_path: Path):
    inputs = (Input(name="variable A", digest="1"), Input(name="command", digest="1"))
    step = Step(key="1", command=("make", "it"), inputs=inputs, cached=False, exit_code=0,
                kept=True, stage="build")  # fmt: skip
    other = replace(step, key="2", inputs=(Input(name="variable A", digest="2"), inputs[1]))
    with Store(tmp_path / "cache") as store:
        for number, each in enumerate((step, other)):
            History(store, str(tmp_path)).add(Steps(at=float(number), steps=(each,)))
    told = ci(tmp_path / "cache", "engine", "why", "build", folder=tmp_path)
    assert "build: make it\n  variable A: has another value\n" in told
    assert ci(tmp_path / "cache", "engine", "why") == ""
