"""The small database of examples/trivy-db, judged by the real Trivy."""

import hashlib
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ci.findings import trivy
from ci.values import Severity
from tests import trivy as tool

GENERATOR = Path(__file__).parents[2] / "examples" / "trivy-db"
ADVISORIES = json.loads((GENERATOR / "advisories.json").read_text())
PIP, DEBIAN = ADVISORIES["pip"], ADVISORIES["debian 12"]
#: The newest version of each package that an advisory covers.
VULNERABLE = {
    "pyyaml": ["5.3.1"],
    "werkzeug": ["2.2.2"],
    "flask": ["2.2.4", "2.3.1"],
    "requests": ["2.30.0"],
    "certifi": ["2023.5.7"],
    "urllib3": ["1.26.17", "2.0.6"],
    "pillow": ["10.1.0"],
    "cryptography": ["41.0.7"],
    "gunicorn": ["21.2.0"],
    "jinja2": ["3.1.2"],
}

pytestmark = pytest.mark.timeout(300)


def make(folder):
    subprocess.run([sys.executable, GENERATOR / "make.py", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return make(tmp_path_factory.mktemp("database") / "small")


@pytest.fixture
def scan(database, tmp_path):
    """Scan with a private copy of the database, as Trivy opens it for writing."""

    def run(kind, *target, database=database):
        cache = tmp_path / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(database, cache)
        command = [tool.executable(), kind, *target, "--cache-dir", cache, "--format", "json"]
        offline = ("skip-db-update", "skip-java-db-update", "skip-check-update", "offline-scan")
        flags = [f"--{name}" for name in offline]
        done = subprocess.run(
            [*command, "--scanners", "vuln", "--list-all-pkgs", *flags],
            capture_output=True,
            text=True,
            check=True,
        )
        assert digest(cache) == digest(database)
        return trivy.parse(done.stdout)

    return run


def digest(folder):
    return hashlib.sha256((folder / "db" / "trivy.db").read_bytes()).hexdigest()


def requirements(folder, versions):
    folder.mkdir()
    lines = [f"{name}=={version}\n" for name, version in versions]
    (folder / "requirements.txt").write_text("".join(lines))
    return folder


def system(folder, packages):
    """A root file system of Debian 12 that says these (source package, version) are installed."""
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\nNAME="Debian"\n')
    (folder / "etc/debian_version").write_text("12.11\n")
    (folder / "var/lib/dpkg").mkdir(parents=True)
    status = "".join(
        f"Package: lib{source}\nStatus: install ok installed\nMaintainer: A <a@example.com>\n"
        f"Architecture: amd64\nSource: {source}\nVersion: {version}\nDescription: x\n\n"
        for source, version in packages
    )
    (folder / "var/lib/dpkg/status").write_text(status)
    return folder


def found(report):
    return {(f.rule, f.package.name, f.package.version) for f in report.findings}


@pytest.mark.parametrize("last", [0, -1])
def test_every_advisory_for_python_is_found_in_the_last_version_that_it_covers(
    scan, tmp_path, last
):
    versions = [(name, covered[last]) for name, covered in VULNERABLE.items()]
    report = scan("fs", requirements(tmp_path / "app", versions))
    expected = {(a["id"], a["package"], VULNERABLE[a["package"]][last]) for a in PIP}
    assert found(report) == expected
    severities = {a["id"]: a["severity"] for a in PIP}
    assert {f.rule: f.severity for f in report.findings} == severities


def test_a_finding_names_every_version_that_cures_it(scan, tmp_path):
    report = scan("fs", requirements(tmp_path / "app", [("urllib3", "2.0.5")]))
    (finding,) = report.findings
    assert finding.package
    assert finding.package.fixed_versions == ("1.26.18", "2.0.7")
    assert finding.severity == Severity.MEDIUM
    assert "urllib3" in finding.message
    assert "GHSA" not in finding.rule


def test_the_versions_that_cure_are_clean_and_were_looked_at(scan, tmp_path):
    cured = {a["package"]: a["fixed"][-1] for a in sorted(PIP, key=lambda a: a["fixed"])}
    report = scan("fs", requirements(tmp_path / "app", cured.items()))
    assert report.findings == ()
    assert report.packages(kind="lang-pkgs", type="pip") == set(cured.items())


def test_every_advisory_for_debian_is_found_before_the_version_that_cures_it(scan, tmp_path):
    before = {a["package"]: a["fixed"].split("+deb12u")[0].split("~deb12u")[0] for a in DEBIAN}
    older = [(source, f"{version}~~older") for source, version in before.items()]
    report = scan("rootfs", system(tmp_path / "root", older))
    assert {f.rule for f in report.findings} == {a["id"] for a in DEBIAN}
    assert {f.rule: f.severity for f in report.findings} == {a["id"]: a["severity"] for a in DEBIAN}
    assert (report.os_family, report.os_version) == ("debian", "12.11")


def test_the_versions_that_cure_a_debian_are_clean_and_were_looked_at(scan, tmp_path):
    cured = {a["package"]: a["fixed"] for a in DEBIAN}
    report = scan("rootfs", system(tmp_path / "root", cured.items()))
    assert report.findings == ()
    assert len(report.packages(kind="os-pkgs", type="debian")) == len(cured)


@pytest.mark.skipif(
    not Path("/etc/debian_version").exists()
    or 'VERSION_ID="12"' not in Path("/etc/os-release").read_text(),
    reason="this machine is no Debian 12",
)
def test_an_up_to_date_debian_12_is_clean(scan, tmp_path):
    """The packages of this machine, which are those that a fresh image gets."""
    root = system(tmp_path / "root", [])
    shutil.copy("/var/lib/dpkg/status", root / "var/lib/dpkg/status")
    report = scan("rootfs", root)
    assert len(report.packages(kind="os-pkgs", type="debian")) > 50
    assert report.findings == ()


def test_an_image_is_scanned_by_its_packages(scan, tmp_path):
    root = system(tmp_path / "root", [("glibc", "2.36-9+deb12u1")])
    archive = docker_archive(tmp_path / "image.tar", root)
    report = scan("image", "--input", archive)
    assert {f.rule for f in report.findings} == {"CVE-2023-4911", "CVE-2024-2961"}
    assert {f.severity for f in report.findings} == {Severity.HIGH}
    assert all(f.place is None for f in report.findings)


def docker_archive(path, root):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(root, arcname=".")
    diff_id = "sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    manifest = [{"Config": "config.json", "RepoTags": ["a:1"], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for name, content in (
            ("layer.tar", layer.getvalue()),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def test_the_same_list_gives_the_same_bytes(database, tmp_path):
    again = make(tmp_path / "again")
    for name in ("db/trivy.db", "db/metadata.json", "towpath.json"):
        assert (again / name).read_bytes() == (database / name).read_bytes()


def test_it_says_that_it_is_small_and_what_it_holds(database):
    manifest = json.loads((database / "towpath.json").read_text())
    assert manifest["small"] is True
    assert manifest["advisories"] == len(PIP) + len(DEBIAN)
    assert manifest["sha256"] == digest(database)
    metadata = json.loads((database / "db/metadata.json").read_text())
    assert metadata["Version"] == 2
    assert metadata["UpdatedAt"] == manifest["updated_at"]
    assert datetime.fromisoformat(metadata["NextUpdate"]) > datetime.now(UTC)


def test_the_samples_that_it_promises_are_found(database, scan, tmp_path):
    samples = json.loads((database / "towpath.json").read_text())["samples"]
    python, debian = samples["pip"], samples["debian 12"]
    app = requirements(tmp_path / "app", [(python["package"], python["version"])])
    root = system(tmp_path / "root", [(debian["package"], debian["version"])])
    assert python["rule"] in scan("fs", app).rules()
    assert debian["rule"] in scan("rootfs", root).rules()


def test_trees_of_many_pages_and_values_larger_than_a_page_are_read_by_trivy(
    database, scan, tmp_path
):
    bolt = load("bolt")
    count = 3000
    record = json.dumps({"VulnerableVersions": ["<2.0"], "PatchedVersions": ["2.0"]}).encode()
    packages = {b"package-%05d" % n: {b"CVE-2026-%05d" % n: record} for n in range(count)}
    details = {
        b"CVE-2026-%05d" % n: json.dumps(
            {"Title": f"number {n}", "Severity": "HIGH", "Description": "x" * (n % 7 * 1000)}
        ).encode()
        for n in range(count)
    }
    source = json.dumps({"ID": "ghsa", "Name": "n", "URL": "u"}).encode()
    name = b"pip::GitHub Security Advisory Pip"
    content = bolt.write(
        {b"data-source": {name: source}, b"vulnerability": details, name: packages}
    )
    big = tmp_path / "big"
    shutil.copytree(database, big)
    (big / "db/trivy.db").write_bytes(content)
    wanted = (0, 1, 1499, 1500, 2998, 2999)
    app = requirements(tmp_path / "app", [(f"package-{n:05d}", "1.0") for n in wanted])
    report = scan("fs", app, database=big)
    assert report.rules() == {f"CVE-2026-{n:05d}" for n in wanted}
    assert any("number 1500" in f.message for f in report.findings)


def load(name):
    specification = importlib.util.spec_from_file_location(name, GENERATOR / f"{name}.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
