"""Each scanner stage finds its planted fault, and is errored, never passed, where it is blind."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ci import stages
from ci.errors import StageErrored, StageFailed, StageSkipped
from ci.stages.history import History, with_history
from ci.stages.proof import Sample
from ci.values import Finding, Output, Severity, Status

EVAL = 'from flask import request\n\n\ndef go():\n    return eval(request.args["x"])\n'


def found(output: Output[Any]) -> set[tuple[str, str]]:
    """(rule, path) of each finding."""
    return {(f.rule, f.place.path if f.place else "") for f in output.evidence.findings}


def only(output: Output[Any]) -> Finding:
    (finding,) = output.evidence.findings
    return finding


def is_proven(output: Output[Any]) -> bool:
    assert output.evidence.status == Status.PASSED
    scanners = output.evidence.scanners
    return bool(scanners) and all(s.proven and s.version and s.proof for s in scanners)


@pytest.fixture
def blind(monkeypatch):
    """Plant nothing where a stage plants its fault: what a scanner sees that has gone blind."""

    def plant_nothing(stage: str, name: str) -> None:
        module = sys.modules[f"ci.stages.{stage}"]
        real: Sample = getattr(module, name)
        files = dict.fromkeys(real.files, "x = 1\n")
        monkeypatch.setattr(module, name, Sample(title=real.title, files=files, rules=real.rules))

    return plant_nothing


# -- sast -----------------------------------------------------------------------------------------


async def test_an_eval_of_request_input_is_found_once_and_high(folder):
    output = await stages.sast(
        source=folder({"app.py": EVAL, "tests/test_app.py": "assert True\n"})
    )
    finding = only(output)
    assert (finding.rule, finding.severity) == ("S307", Severity.HIGH)
    assert finding.place
    assert (finding.place.path, finding.place.line) == ("app.py", 5)
    assert {s.name for s in output.evidence.scanners} == {"ruff", "bandit"}
    assert is_proven(output)
    assert set(output.reports) == {"ruff.sarif", "bandit.sarif"}


async def test_a_comment_beside_the_line_counts_for_both_tools(folder):
    code = 'eval("1")  # noqa: S307\nexec("1")  # nosec B102\n'
    assert found(await stages.sast(source=folder({"app.py": code}))) == set()


async def test_configuration_in_the_repository_switches_no_rule_off(folder):
    files = {
        "app.py": EVAL,
        "pyproject.toml": '[tool.ruff]\nexclude = ["app.py"]\n[tool.bandit]\nskips = ["B307"]\n',
        ".bandit": "[bandit]\nskips = B307\n",
        "ruff.toml": 'exclude = ["app.py"]\n',
        ".gitignore": "app.py\n",
    }
    assert found(await stages.sast(source=folder(files))) == {("S307", "app.py")}


async def test_a_file_that_no_scanner_can_read_is_never_clean(folder):
    finding = only(await stages.sast(source=folder({"broken.py": "def (\n", "fine.py": "x = 1\n"})))
    assert (finding.rule, finding.severity) == ("not-scanned", Severity.UNKNOWN)
    assert finding.place
    assert finding.place.path == "broken.py"


async def test_sast_is_skipped_without_python(folder):
    with pytest.raises(StageSkipped):
        await stages.sast(source=folder({"README.md": "", ".venv/lib/x.py": EVAL}))


async def test_sast_that_misses_the_planted_fault_is_errored(folder, blind):
    blind("sast", "PYTHON")
    with pytest.raises(StageErrored, match="ruff missed a planted eval"):
        await stages.sast(source=folder({"app.py": "x = 1\n"}))


# -- secrets --------------------------------------------------------------------------------------


def private_key() -> str:
    body = base64.encodebytes(hashlib.shake_256(b"test").digest(400)).decode()
    name = "RSA PRIVATE" + " KEY"
    return f"-----BEGIN {name}-----\n{body}-----END {name}-----\n"


async def test_a_private_key_is_found_and_told_in_no_report(folder):
    output = await stages.secrets(source=folder({"deploy/id": private_key(), "a.txt": "a\n"}))
    assert found(output) == {("private-key", "deploy/id")}
    assert only(output).severity == Severity.HIGH
    assert is_proven(output)
    told = output.evidence.model_dump_json() + "".join(output.reports.values())
    assert private_key().splitlines()[1] not in told
    assert "/files/" not in told


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)


@pytest.fixture
def repository(tmp_path):
    """A repository whose second commit takes away the key that the first one brought."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "id").write_text(private_key())
    (tmp_path / "a.txt").write_text("a\n")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message=add")
    git(tmp_path, "rm", "--quiet", "id")
    git(tmp_path, "commit", "--quiet", "--message=remove")
    return tmp_path


async def test_a_secret_that_a_later_commit_took_away_is_found_in_the_history(dag, repository):
    output = await stages.secrets(source=dag.host().directory(str(repository)))
    assert found(output) == {("private-key", "id")}
    assert "2 commits" in output.evidence.summary
    assert "history" in output.evidence.scanners[0].proof
    assert set(output.reports) == {"gitleaks.sarif", "gitleaks-history.sarif"}


async def test_the_history_of_a_folder_is_what_changed_in_it(dag, repository):
    """Paths are the folder's, and a secret of another folder is none of it."""
    for kept, name in (("here", "an api"), ("elsewhere", "web")):
        place = repository / "services" / name
        place.mkdir(parents=True)
        (place / kept).write_text(private_key())
        git(repository, "add", "--all")
        git(repository, "commit", "--quiet", f"--message={name}")
        (place / kept).write_text("gone\n")
        git(repository, "commit", "--quiet", "--all", "--message=remove")
    whole = dag.host().directory(str(repository))
    history = History(git=whole.directory(".git"), folder="services/an api")

    source = with_history(whole.directory(history.folder), history)
    output = await stages.secrets(source=source)

    assert found(output) == {("private-key", "here")}
    assert "2 commits of services/an api" in output.evidence.summary
    assert is_proven(output)


async def test_a_history_that_git_cannot_read_is_errored(dag, repository):
    shutil.rmtree(repository / ".git" / "objects")
    with pytest.raises(StageErrored, match="git cannot read the history"):
        await stages.secrets(source=dag.host().directory(str(repository)))


async def test_a_repository_cannot_tell_gitleaks_to_look_away(folder):
    files = {
        "id": private_key(),
        ".gitleaks.toml": 'title = "nothing"\n',
        ".gitleaksignore": "id:private-key:1\n",
    }
    assert found(await stages.secrets(source=folder(files))) == {("private-key", "id")}


async def test_gitleaks_that_misses_the_planted_secret_is_errored(folder, blind):
    blind("secrets", "SECRETS")
    with pytest.raises(StageErrored, match="gitleaks missed a planted private key"):
        await stages.secrets(source=folder({"a.txt": "a\n"}))


async def test_secrets_is_skipped_where_there_are_no_files(dag):
    with pytest.raises(StageSkipped):
        await stages.secrets(source=dag.directory())


# -- workflows ------------------------------------------------------------------------------------

WORKFLOW = """\
on: issues
permissions: {}
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - run: echo ${{ github.event.issue.body }}
"""


async def test_an_injection_into_a_workflow_is_found(folder):
    files = {".github/workflows/a.yml": WORKFLOW, ".github/zizmor.yml": "rules: {}\n"}
    output = await stages.workflows(source=folder(files))
    assert ("zizmor/template-injection", ".github/workflows/a.yml") in found(output)
    assert is_proven(output)
    assert output.evidence.summary.endswith("in 1 file")


async def test_a_malformed_workflow_fails(folder):
    files = {".github/workflows/a.yml": WORKFLOW, ".github/workflows/b.yml": "jobs: [\n"}
    with pytest.raises(StageFailed, match=r"b\.yml"):
        await stages.workflows(source=folder(files))


async def test_workflows_is_skipped_without_any(folder):
    with pytest.raises(StageSkipped):
        await stages.workflows(source=folder({"a.py": ""}))


async def test_zizmor_that_misses_the_planted_fault_is_errored(folder, monkeypatch):
    module = sys.modules["ci.stages.workflows"]
    harmless = WORKFLOW.replace("${{ github.event.issue.body }}", "hello")
    files = {".github/workflows/planted.yml": harmless}
    rules = frozenset({"zizmor/template-injection"})
    monkeypatch.setattr(module, "WORKFLOW", Sample(title="a fault", files=files, rules=rules))
    with pytest.raises(StageErrored, match="zizmor missed a fault"):
        await stages.workflows(source=folder({".github/workflows/a.yml": WORKFLOW}))


# -- iac ------------------------------------------------------------------------------------------

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers: [{name: a, image: "a:1", securityContext: {privileged: true}}]
"""


async def test_faults_of_each_kind_of_infrastructure_are_found(folder):
    files = {
        "Dockerfile": "FROM a:1\nUSER root\n",
        "deploy/pod.yaml": POD,
        "deploy/filled-in-later.yaml": POD.replace("name: a}", "name: {{ name }}}"),
        "notes.yaml": "kind: of\n",
        ".trivyignore": "DS002\nKSV017\n",
    }
    output = await stages.iac(source=folder(files))
    assert {("DS002", "Dockerfile"), ("KSV017", "deploy/pod.yaml")} <= found(output)
    assert ("not-scanned", "deploy/filled-in-later.yaml") in found(output)
    assert output.evidence.summary.endswith("in 2 files of dockerfile, kubernetes")
    assert is_proven(output)


async def test_a_dockerfile_that_trivy_cannot_read_is_errored(folder):
    with pytest.raises(StageErrored, match="Failed to parse file"):
        await stages.iac(source=folder({"Dockerfile": "FROM a:1\nRUN <<E\n"}))


async def test_a_kubernetes_object_that_trivy_passes_over_is_errored(folder):
    with pytest.raises(StageErrored, match=r"no word of broken\.yaml"):
        await stages.iac(source=folder({"broken.yaml": POD + "  x: [}\n", "pod.yaml": POD}))


async def test_iac_is_skipped_without_any(folder):
    with pytest.raises(StageSkipped):
        await stages.iac(source=folder({"a.py": "", "values.yaml": "a: 1\n"}))


# -- dependencies ---------------------------------------------------------------------------------


class At:
    """A clock that says one time."""

    def __init__(self, year: int) -> None:
        self._now = datetime(year, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


async def test_a_vulnerable_pin_is_found_in_any_lock_file(folder, database):
    files = {
        "requirements.txt": "jinja2==3.1.2 \\\n    --hash=sha256:0 ; python_version > '3'\n",
        "requirements-dev.lock": "PyYAML==5.3.1  # via x\n",
        "service/poetry.lock": '[[package]]\nname = "Flask"\nversion = "2.2.4"\n'
        'optional = false\npython-versions = "*"\nfiles = []\n\n[metadata]\nlock-version = "2.0"\n',
        "other/pylock.toml": '[[packages]]\nname = "requests"\nversion = "2.30.0"\n',
        "tools/Pipfile.lock": '{"develop": {"urllib3": {"version": "==2.0.6"}}}',
        "worker/uv.lock": 'version = 1\nrequires-python = ">=3.11"\n\n[[package]]\n'
        'name = "own"\nversion = "1"\nsource = { virtual = "." }\n'
        'dependencies = [{ name = "certifi" }]\n\n[[package]]\nname = "certifi"\n'
        'version = "2023.5.7"\nsource = { registry = "https://index.test/simple" }\n',
        "tests/fixtures/requirements.txt": "certifi==2023.5.7\n",
        ".trivyignore": "CVE-2024-22195\n",
    }
    output = await stages.dependencies(source=folder(files), database=database)
    assert {
        ("CVE-2024-22195", "requirements.txt"),
        ("CVE-2020-14343", "requirements-dev.lock"),
        ("CVE-2023-30861", "service/poetry.lock"),
        ("CVE-2023-32681", "other/pylock.toml"),
        ("CVE-2023-45803", "tools/Pipfile.lock"),
        ("CVE-2023-37920", "worker/uv.lock"),
    } <= found(output)
    assert not any("fixtures" in path for _, path in found(output))
    assert is_proven(output)
    (scanner,) = output.evidence.scanners
    assert scanner.database
    assert scanner.database.small
    assert scanner.database.advisories == 19
    assert scanner.database.digest.startswith("sha256:")
    assert scanner.proof == "found a planted jinja2 3.1.2"


async def test_open_versions_are_resolved_as_an_installation_would(folder, database):
    files = {"requirements.txt": "idna>=3,<3.7\n"}
    output = await stages.dependencies(source=folder(files), database=database)
    assert "idna" in output.reports["trivy-dependencies.json"]
    assert "3.6" in output.reports["trivy-dependencies.json"]
    assert "versions open" in output.evidence.log


async def test_open_versions_that_cannot_be_resolved_are_errored(folder, database):
    files = {"requirements.txt": "idna>3,<3\n"}
    with pytest.raises(StageErrored, match="cannot be resolved"):
        await stages.dependencies(source=folder(files), database=database)


async def test_a_malformed_lock_file_fails(folder, database):
    with pytest.raises(StageFailed, match=r"poetry\.lock"):
        await stages.dependencies(source=folder({"poetry.lock": "[["}), database=database)


async def test_dependencies_is_skipped_without_a_lock_file(folder, database):
    with pytest.raises(StageSkipped):
        await stages.dependencies(source=folder({"pyproject.toml": ""}), database=database)


@pytest.fixture
def damaged(dag, small_database, tmp_path):
    """The small database after a change of its folder."""

    def make(change) -> Any:
        shutil.copytree(small_database, tmp_path / "database")
        (tmp_path / "database" / "towpath.json").unlink()
        change(tmp_path / "database" / "db")
        return dag.host().directory(str(tmp_path / "database"))

    return make


PINNED = {"requirements.txt": "jinja2==3.1.2\n"}


def _cut(db: Path) -> None:
    content = (db / "trivy.db").read_bytes()
    (db / "trivy.db").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda db: (db / "trivy.db").unlink(), "No such file"),
        (lambda db: (db / "metadata.json").unlink(), "No such file"),
        (lambda db: (db / "trivy.db").write_bytes(b""), "an empty file"),
        (lambda db: (db / "trivy.db").write_bytes(bytes(65536)), "no sound meta page"),
        (_cut, "beyond the end of the file"),
        (shutil.rmtree, "expected db/trivy.db"),
    ],
    ids=["missing", "undated", "empty", "zeroed", "cut", "nothing"],
)
async def test_a_database_that_trivy_would_call_clean_with_is_errored(
    folder, damaged, change, said
):
    with pytest.raises(StageErrored, match=said):
        await stages.dependencies(source=folder(PINNED), database=damaged(change))


async def test_a_database_past_its_next_update_is_errored(folder, database):
    with pytest.raises(StageErrored, match="was to be updated by 2036"):
        await stages.dependencies(source=folder(PINNED), database=database, clock=At(2040))


async def test_a_small_database_is_told_as_small_without_saying_so_itself(folder, damaged):
    output = await stages.dependencies(source=folder(PINNED), database=damaged(lambda _: None))
    (scanner,) = output.evidence.scanners
    assert scanner.database
    assert scanner.database.small
    assert scanner.database.source == "a given folder"


async def test_no_database_is_errored_with_the_reason(folder, monkeypatch):
    places = ("127.0.0.1:9/none/trivy-db:2",)
    monkeypatch.setattr(sys.modules["ci.stages.database"], "TRIVY_DATABASES", places)
    with pytest.raises(StageErrored, match=r"(?s)is not to be had.*127\.0\.0\.1:9"):
        await stages.dependencies(source=folder(PINNED))


async def test_trivy_that_misses_the_planted_package_is_errored(folder, database, monkeypatch):
    fixed = {"requirements.txt": "jinja2==3.1.6\n"}
    sample = Sample(title="a package", files=fixed, rules=frozenset({"CVE-2024-22195"}))
    monkeypatch.setattr(sys.modules["ci.stages.dependencies"], "_sample", lambda _: sample)
    with pytest.raises(StageErrored, match="trivy missed a package"):
        await stages.dependencies(source=folder(PINNED), database=database)


# -- scan and sbom --------------------------------------------------------------------------------

IMAGE = "debian:bookworm-slim"
JINJA = "Metadata-Version: 2.1\nName: Jinja2\nVersion: 3.1.2\n"


@pytest.fixture
def image(dag):
    """Debian with one Python package, that is known to be vulnerable, and an unprivileged user."""
    return (
        dag.container()
        .from_(IMAGE)
        .with_new_file("/app/lib/python3.11/site-packages/Jinja2-3.1.2.dist-info/METADATA", JINJA)
        .with_label("org.opencontainers.image.title", "shop")
        .with_user("10001")
    )


async def test_a_vulnerable_package_in_an_image_is_found(image, database):
    output = await stages.scan(image=image, database=database)
    evidence = output.evidence
    assert evidence.stage == "scan"
    packages = {(f.rule, f.package.name) for f in evidence.findings if f.package}
    assert ("CVE-2024-22195", "Jinja2") in packages
    assert is_proven(output)
    (scanner,) = evidence.scanners
    assert scanner.proof == "found a planted glibc 2.36-9+deb12u1 and a planted jinja2 3.1.2"
    assert evidence.image
    assert evidence.image.user == "10001"
    assert ("org.opencontainers.image.title", "shop") in evidence.image.labels
    assert "of debian 12 and 1 of Python" in evidence.summary


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"etc/os-release": "ID=plan9\n"}, "knows nothing of plan9"),
        ({"etc/os-release": 'ID=debian\nVERSION_ID="99"\n'}, "knows nothing of debian 99"),
        ({"var/lib/dpkg/status": ""}, "nothing in the image tells"),
    ],
    ids=["unknown-system", "unknown-release", "no-packages"],
)
async def test_an_image_that_trivy_would_call_clean_is_errored(image, database, files, said):
    for path, text in files.items():
        image = image.with_new_file(f"/{path}", text)
    with pytest.raises(StageErrored, match=said):
        await stages.scan(image=image, database=database)


async def test_a_java_archive_that_cannot_be_judged_is_errored(image, database):
    with pytest.raises(StageErrored, match="Java DB"):
        await stages.scan(image=image.with_new_file("/app/a.jar", "PK"), database=database)


async def test_an_empty_image_is_errored(dag, database):
    image = dag.container().with_new_file("/app", "")
    with pytest.raises(StageErrored, match="nothing in the image tells"):
        await stages.scan(image=image, database=database)


async def test_an_sbom_names_what_is_installed_in_both_formats(image):
    output = await stages.sbom(image=image)
    assert output.evidence.stage == "sbom"
    assert is_proven(output)
    assert set(output.reports) == {"sbom.cdx.json", "sbom.spdx.json"}
    for text in output.reports.values():
        assert "pkg:pypi/jinja2@3.1.2" in text
        assert "pkg:deb/debian/coreutils@" in text
