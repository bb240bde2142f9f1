"""Each kind of fault, planted in a copy of gym-api, stops the pipeline where it should.

The pipeline is the whole one, with the real tools; nothing is deployed that a fault precedes.
"""

from __future__ import annotations

import base64
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ci.records.run import NodeRecord, RunRecord
from ci.values import Outcome, Status
from tests.cli.conftest import TOP, Cli, edit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FAULTS = Path(__file__).with_name("faults")
CHECKS = {
    "format", "lint", "types", "sast", "secrets", "dependencies", "iac", "workflows", "unit",
}  # fmt: skip
IMAGES = {"integration", "build", "sbom", "scan"}
DELIVERIES = ("deploy-development", "deploy-staging", "deploy-production")


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small vulnerability database: real advisories, few of them."""
    folder = tmp_path_factory.mktemp("trivy-db")
    make = TOP / "examples" / "trivy-db" / "make.py"
    subprocess.run([sys.executable, make, folder], check=True, stdout=subprocess.DEVNULL)
    return folder


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """A run of the whole pipeline that a fault ended."""

    code: int
    record: RunRecord
    said: str

    def node(self, name: str) -> NodeRecord:
        return next(node for node in self.record.nodes if node.name == name)

    def with_status(self, status: Status, names: Collection[str]) -> set[str]:
        return {name for name in names if self.node(name).status is status}

    def reasons(self, gate: str) -> list[str]:
        [verdict] = [verdict for verdict in self.record.verdicts if verdict.gate == gate]
        assert verdict.outcome is Outcome.FAILED
        return list(verdict.reasons)


@pytest.fixture
def pipeline(ci: Cli, gym: Path, database: Path) -> Callable[..., Stopped]:
    def run(*arguments: str) -> Stopped:
        ran = ci("pipeline", f"--source={gym}", f"--database={database}", *arguments)
        assert ci.runs, ran
        return Stopped(code=ran.code, record=RunRecord.load(ci.runs[-1]), said=ran.err)

    return run


def assert_nothing_deployed(ci: Cli, stopped: Stopped) -> None:
    assert stopped.with_status(Status.CANCELLED, DELIVERIES) == set(DELIVERIES)
    assert stopped.record.deliveries == ()
    assert ci("environments").out == ""


def assert_stopped_at_quality(ci: Cli, stopped: Stopped, stage: str, reason: str) -> None:
    """The quality gate failed because of this stage; nothing was built."""
    assert stopped.code == 1, stopped.said
    assert any(re.search(reason, each) for each in stopped.reasons("quality")), stopped.said
    assert all(stage in each for each in stopped.reasons("quality") if "fail" in each)
    ended = {status: stopped.with_status(status, CHECKS) for status in Status}
    assert ended[Status.ERRORED] == ended[Status.CANCELLED] == set(), stopped.said
    for name in IMAGES:
        assert stopped.node(name).started_at is None, name
    assert stage in stopped.said
    assert_nothing_deployed(ci, stopped)


# -- before the quality gate ----------------------------------------------------------------------


def test_a_lint_error(ci: Cli, gym: Path, pipeline):
    edit(gym / "src/gym_api/tokens.py", "import hashlib\n", "import hashlib\nimport os\n")
    stopped = pipeline()
    assert_stopped_at_quality(ci, stopped, "lint", r"lint: .*1")
    assert stopped.with_status(Status.FAILED, CHECKS) == {"lint"}
    assert "F401" in stopped.said


def test_a_type_error(ci: Cli, gym: Path, pipeline):
    edit(gym / "src/gym_api/tokens.py", 'PREFIX = "gym_"\n', 'PREFIX = "gym_"\nBITS: int = "256"\n')
    stopped = pipeline()
    assert_stopped_at_quality(ci, stopped, "types", "types")
    assert stopped.with_status(Status.FAILED, CHECKS) == {"types"}
    assert "assignment" in stopped.said


EVAL = '''

@router.get("/calculate")
async def calculate(request: Request) -> dict[str, str]:
    """The value of an expression."""
    return {"value": str(eval(request.query_params["expression"]))}
'''


def test_an_eval_of_request_input(ci: Cli, gym: Path, pipeline):
    api = gym / "src/gym_api/api.py"
    api.write_text(api.read_text() + EVAL)
    stopped = pipeline()
    assert stopped.code == 1, stopped.said
    assert any(re.search(r"sast: .*307", each) for each in stopped.reasons("quality"))
    evidence = stopped.node("sast").evidence
    assert evidence is not None
    assert {f.place.path for f in evidence.findings if f.rule.endswith("307") and f.place} == {
        "src/gym_api/api.py"
    }
    # The example's own configuration has ruff's security rules in its lint, too.
    assert stopped.with_status(Status.FAILED, CHECKS) == {"lint"}
    assert_nothing_deployed(ci, stopped)


def test_a_private_key_that_was_committed_and_removed_again(ci: Cli, gym: Path, pipeline):
    key = gym / "deploy" / "staging.pem"
    body = base64.encodebytes(secrets.token_bytes(1192)).decode()
    key.write_text(f"-----BEGIN RSA PRIVATE KEY-----\n{body}-----END RSA PRIVATE KEY-----\n")
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-C", str(gym)]
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-qm", "Add the service"],
        ["rm", "-q", "deploy/staging.pem"],
        ["commit", "-qm", "Remove the key"],
    ):
        subprocess.run([*git, *command], check=True)
    stopped = pipeline()
    assert_stopped_at_quality(ci, stopped, "secrets", r"secrets: .*private-key")
    assert body.splitlines()[3] not in "".join(
        path.read_text(errors="replace") for path in ci.runs[-1].rglob("*") if path.is_file()
    )


def test_a_failing_unit_test(ci: Cli, gym: Path, pipeline):
    edit(
        gym / "tests/unit/test_tokens.py",
        "tokens.digest(token)) == 32",
        "tokens.digest(token)) == 33",
    )
    stopped = pipeline()
    assert_stopped_at_quality(ci, stopped, "unit", r"unit: .*1 .*fail")
    assert stopped.with_status(Status.FAILED, CHECKS) == {"unit"}
    assert "test_a_digest_does_not_hold_the_token" in stopped.said


def test_coverage_below_the_gate(ci: Cli, gym: Path, pipeline):
    (gym / "tests/unit/test_api.py").unlink()
    stopped = pipeline()
    assert_stopped_at_quality(ci, stopped, "unit", r"coverage .*80")
    assert stopped.with_status(Status.PASSED, CHECKS) == CHECKS


def test_a_vulnerable_pinned_dependency(ci: Cli, gym: Path, pipeline):
    edit(
        gym / "pyproject.toml", '    "uvicorn>=0.34",\n', '    "uvicorn>=0.34",\n    "werkzeug",\n'
    )
    lock = gym / "requirements.lock"
    lock.write_text(lock.read_text() + (FAULTS / "requirements-werkzeug.txt").read_text())
    stopped = pipeline()
    assert_stopped_at_quality(ci, stopped, "dependencies", r"dependencies: .*CVE-2023-25577")


# -- before the security gate ---------------------------------------------------------------------


def test_a_failing_integration_test(ci: Cli, gym: Path, pipeline):
    edit(
        gym / "tests/integration/test_service.py",
        '.json()["name"] == "Ada"',
        '.json()["name"] == "Bob"',
    )
    stopped = pipeline()
    assert stopped.code == 1, stopped.said
    assert stopped.with_status(Status.FAILED, CHECKS | IMAGES) == {"integration"}
    assert any("integration" in each for each in stopped.reasons("security"))
    assert "test_a_request_goes_through_to_the_database" in stopped.said
    assert_nothing_deployed(ci, stopped)


def test_an_image_that_runs_as_root(ci: Cli, gym: Path, pipeline):
    edit(gym / "ci.toml", "[build]\n", '[build]\nuser = "0:0"\n')
    stopped = pipeline()
    assert stopped.code == 1, stopped.said
    assert stopped.with_status(Status.PASSED, CHECKS | IMAGES) == CHECKS | IMAGES
    assert any("root" in each for each in stopped.reasons("security"))
    assert_nothing_deployed(ci, stopped)


# -- in an environment ----------------------------------------------------------------------------


def assert_stopped_at_development(stopped: Stopped) -> None:
    assert stopped.code == 1, stopped.said
    assert [verdict.outcome for verdict in stopped.record.verdicts] == [Outcome.PASSED] * 2
    assert stopped.node("deploy-development").status is Status.FAILED
    assert stopped.with_status(Status.CANCELLED, DELIVERIES) == set(DELIVERIES[1:])
    [delivery] = stopped.record.deliveries
    assert (delivery.environment, delivery.outcome) == ("development", Outcome.FAILED)


def releases(ci: Cli) -> dict[str, str]:
    """Version in each environment that has one, as `ci environments` tells."""
    lines = [line.split() for line in ci("environments").out.splitlines()]
    return {line[0]: line[2] for line in lines if line[2] != "nothing"}


def test_a_service_that_is_not_ready(ci: Cli, gym: Path, pipeline):
    app = gym / "src/gym_api/app.py"
    edit(
        app,
        "            await store.check()\n",
        "            await asyncio.wait_for(store.check(), timeout)\n",
    )
    edit(
        app,
        "from __future__ import annotations\n\n",
        "from __future__ import annotations\n\nimport asyncio\nimport os\n",
    )
    edit(
        app,
        '    @app.get("/health")\n',
        '    timeout = float(os.environ.get("READY_TIMEOUT", "5"))\n\n    @app.get("/health")\n',
    )
    edit(
        gym / "ci.toml",
        'env = { GYM_API_LOG_LEVEL = "debug" }\n',
        'env = { READY_TIMEOUT = "0" }\nready_timeout = 20\n',
    )
    stopped = pipeline()
    assert_stopped_at_development(stopped)
    assert "503" in stopped.node("deploy-development").reason
    assert releases(ci) == {}
    # What carried its images is gone.
    assert list((ci.state / "exports").iterdir()) == []


VIA = """

def test_it_is_reached_directly(client: httpx.Client) -> None:
    assert "via" not in client.get("/health").headers
"""


def test_a_smoke_test_that_fails_after_the_switch(ci: Cli, gym: Path, pipeline):
    good = pipeline("--only=deploy-development")
    assert good.code == 0, good.said
    assert releases(ci) == {"gym-api/development": "1.0.0"}

    smoke = gym / "tests/smoke/test_smoke.py"
    smoke.write_text(smoke.read_text() + VIA)
    edit(gym / "pyproject.toml", 'version = "1.0.0"', 'version = "1.1.0"')
    stopped = pipeline()
    assert_stopped_at_development(stopped)
    assert "test_it_is_reached_directly" in stopped.said
    assert releases(ci) == {"gym-api/development": "1.0.0"}
    [delivery] = good.record.deliveries
    answer = httpx.get(f"{delivery.url}/ready")
    assert (answer.status_code, answer.json()["version"]) == (200, "1.0.0")
