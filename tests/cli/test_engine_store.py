"""`ci engine df` and `ci engine prune`, on a store of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ci.engine.store import Store

CI = Path(sys.executable).with_name("ci")


def ci(store: Path, *arguments: str) -> str:
    environ = {**os.environ, "TOWPATH_CACHE": str(store)}
    command: list[str | Path] = [CI, *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_in_the_store_is_told_and_dropped(tmp_path: Path):
    with Store(tmp_path) as store:
        volume = store.volume("downloads")
        (volume / "large").write_bytes(b"x" * 20 * 1024**2)
    assert "volumes       1     0.02 GiB" in ci(tmp_path, "engine", "df")
    assert "1 volumes" in ci(tmp_path, "engine", "prune", "--max-gib=0")
    assert not volume.exists()
    assert "volumes       0     0.00 GiB" in ci(tmp_path, "engine", "df")
