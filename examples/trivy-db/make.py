"""Makes a small vulnerability database for Trivy from the real advisories of advisories.json.

    python make.py FOLDER

writes FOLDER/db/trivy.db, FOLDER/db/metadata.json and FOLDER/towpath.json, which says that the
database is a small one. The same list gives the same bytes. It is for demonstration and for tests
where the official database cannot be reached: it knows these advisories and no others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import bolt

ADVISORIES = Path(__file__).with_name("advisories.json")
SEVERITIES = ("unknown", "low", "medium", "high", "critical")
PIP = "pip::GitHub Security Advisory Pip"
SOURCES = {
    PIP: {
        "ID": "ghsa",
        "Name": "GitHub Security Advisory Pip",
        "URL": "https://github.com/advisories?query=type%3Areviewed+ecosystem%3Apip",
    },
    "debian 12": {
        "ID": "debian",
        "Name": "Debian Security Tracker",
        "URL": "https://salsa.debian.org/security-tracker-team/security-tracker",
    },
}
#: Trivy refuses to call a database current past this; the list has no later edition to wait for.
VALID = timedelta(days=3650)


def main() -> int:
    """Write the database that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="where to write it; made if it is not there")
    folder = parser.parse_args().folder
    advisories = json.loads(ADVISORIES.read_text(encoding="utf-8"))
    content = database(advisories)
    (folder / "db").mkdir(parents=True, exist_ok=True)
    (folder / "db" / "trivy.db").write_bytes(content)
    _write(folder / "db" / "metadata.json", metadata(advisories))
    _write(folder / "towpath.json", manifest(advisories, content))
    return 0


def database(advisories: dict) -> bytes:
    """The bytes of trivy.db."""
    by_package: dict[str, dict] = {bucket: {} for bucket in SOURCES}
    for advisory in advisories["pip"]:
        record = {
            "VendorIDs": [advisory["advisory"]],
            "PatchedVersions": advisory["fixed"],
            "VulnerableVersions": [r.replace(",", ", ") for r in advisory["vulnerable"]],
        }
        _package(by_package[PIP], advisory)[advisory["id"].encode()] = _record(record)
    for advisory in advisories["debian 12"]:
        severity = SEVERITIES.index(advisory["severity"])
        record = {"FixedVersion": advisory["fixed"], "Severity": severity}
        _package(by_package["debian 12"], advisory)[advisory["id"].encode()] = _record(record)
    everything = (*advisories["pip"], *advisories["debian 12"])
    return bolt.write(
        {
            b"data-source": {name.encode(): _record(source) for name, source in SOURCES.items()},
            b"vulnerability": {a["id"].encode(): _record(detail(a)) for a in everything},
            **{bucket.encode(): packages for bucket, packages in by_package.items()},
        }
    )


def _package(bucket: dict, advisory: dict) -> dict:
    return bucket.setdefault(advisory["package"].encode(), {})


def _record(record: dict) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def detail(advisory: dict) -> dict:
    """What the ``vulnerability`` bucket says of one."""
    rated_by = "ghsa" if "advisory" in advisory else "debian"
    references = [f"https://nvd.nist.gov/vuln/detail/{advisory['id']}"]
    if "advisory" in advisory:
        references.insert(0, f"https://github.com/advisories/{advisory['advisory']}")
    return {
        "Title": advisory["title"],
        "Severity": advisory["severity"].upper(),
        "VendorSeverity": {rated_by: SEVERITIES.index(advisory["severity"])},
        "References": references,
        "PublishedDate": advisory["published"],
    }


def metadata(advisories: dict) -> dict:
    """What Trivy reads beside the database."""
    reviewed = datetime.fromisoformat(advisories["reviewed"])
    return {
        "Version": 2,
        "NextUpdate": _stamp(reviewed + VALID),
        "UpdatedAt": _stamp(reviewed),
        "DownloadedAt": _stamp(reviewed),
    }


def manifest(advisories: dict, content: bytes) -> dict:
    """What Towpath reads: that it is small, and samples that a scan with it must find."""
    return {
        "version": 1,
        "small": True,
        "source": "examples/trivy-db: a small list of published advisories",
        "advisories": len(advisories["pip"]) + len(advisories["debian 12"]),
        "updated_at": advisories["reviewed"],
        "sha256": hashlib.sha256(content).hexdigest(),
        "buckets": ["debian 12", "pip"],
        "sources": advisories["sources"],
        "samples": {
            "pip": {"package": "jinja2", "version": "3.1.2", "rule": "CVE-2024-22195"},
            "debian 12": {
                "package": "glibc",
                "version": "2.36-9+deb12u1",
                "rule": "CVE-2023-4911",
            },
        },
    }


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _write(path: Path, document: dict) -> None:
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
