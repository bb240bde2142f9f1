"""Lists what is installed below a root, without Trivy: ``python inventory.py ROOT`` prints JSON.

A scan whose own list lacks one of these packages has not seen everything.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

#: Where systems say what they are; scanners read one or the other of these files.
RELEASES = ("etc/os-release", "usr/lib/os-release")
IDENTITY = (*RELEASES, "etc/debian_version", "etc/lsb-release", "etc/alpine-release")
PSEUDO = {"proc", "sys", "dev"}


def system(root: Path) -> dict[str, str]:
    """ID and VERSION_ID of os-release; empty where there is none."""
    for name in RELEASES:
        path = root / name
        if path.is_file():
            pairs = (line.partition("=") for line in path.read_text(errors="replace").splitlines())
            said = {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
            return {"id": said.get("ID", ""), "version": said.get("VERSION_ID", "")}
    return {"id": "", "version": ""}


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Each paragraph of a Debian control file."""
    for paragraph in text.split("\n\n"):
        if paragraph.strip():
            yield {key: str(value) for key, value in HeaderParser().parsestr(paragraph).items()}


def dpkg(root: Path) -> Iterator[tuple[str, str]]:
    """(package, version) of each installed Debian package."""
    folder = root / "var/lib/dpkg"
    files = [folder / "status"]
    if (folder / "status.d").is_dir():
        files += [p for p in sorted((folder / "status.d").iterdir()) if p.suffix != ".md5sums"]
    for path in files:
        if path.is_file():
            for fields in paragraphs(path.read_text(encoding="utf-8", errors="replace")):
                state = fields.get("Status", "install ok installed").split()
                if state[-1] == "installed" and fields.get("Package"):
                    yield fields["Package"], fields.get("Version", "")


def apk(root: Path) -> Iterator[tuple[str, str]]:
    """(package, version) of each installed Alpine package."""
    path = root / "lib/apk/db/installed"
    if not path.is_file():
        return
    for paragraph in path.read_text(encoding="utf-8", errors="replace").split("\n\n"):
        fields = dict(line.split(":", 1) for line in paragraph.splitlines() if line[1:2] == ":")
        if fields.get("P"):
            yield fields["P"], fields.get("V", "")


def owned(root: Path) -> set[str]:
    """Metadata of Python packages that the system's package manager put there."""
    found: set[str] = set()
    for path in sorted((root / "var/lib/dpkg/info").glob("*.list")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.endswith(("METADATA", "PKG-INFO", ".egg-info")):
                found.add(line.lstrip("/"))
    return found


def python(root: Path) -> Iterator[tuple[str, str]]:
    """(project, version) of each installed Python package that no system package owns."""
    skip = owned(root)
    for folder, folders, files in os.walk(root):
        if folder == str(root):
            folders[:] = [name for name in folders if name not in PSEUDO]
        for name in metadata_files(folder, files):
            path = Path(folder, name)
            if path.is_symlink() or str(path.relative_to(root)) in skip:
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            fields = HeaderParser().parsestr(text)
            if fields["Name"] and fields["Version"]:
                yield fields["Name"], fields["Version"]


def metadata_files(folder: str, files: list[str]) -> list[str]:
    """The files in this folder that say what a Python package is called."""
    if folder.endswith(".dist-info"):
        return [name for name in files if name == "METADATA"]
    if folder.endswith((".egg-info", "EGG-INFO")):
        return [name for name in files if name == "PKG-INFO"]
    return [name for name in files if name.endswith(".egg-info")]


def describe(root: Path) -> dict[str, object]:
    """Everything that is installed below ``root``."""
    return {
        "system": system(root),
        "identity": [name for name in IDENTITY if (root / name).is_file()],
        "dpkg": sorted(set(dpkg(root))),
        "apk": sorted(set(apk(root))),
        "python": sorted(set(python(root))),
    }


if __name__ == "__main__":
    json.dump(describe(Path(sys.argv[1])), sys.stdout, indent=1)
