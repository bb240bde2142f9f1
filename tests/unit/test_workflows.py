"""The GitHub workflows: thin, pinned, least permissions, and nothing that zizmor objects to."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")

every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def load(path):
    workflow = yaml.safe_load(path.read_text())
    workflow["on"] = workflow.pop(True)  # YAML 1.1 reads the key "on" as a boolean
    return workflow


def steps(path):
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def action(path, name):
    (step,) = [s for s in steps(path) if s.get("uses", "").startswith(f"{name}@")]
    return step


def test_there_is_one_for_this_repository_and_one_for_others():
    triggers = {path.name: set(load(path)["on"]) for path in WORKFLOWS}
    assert triggers == {
        "ci.yml": {"push", "pull_request"},
        "pipeline.yml": {"workflow_call"},
    }


def test_zizmor_finds_nothing_even_as_an_auditor():
    zizmor = Path(sys.executable).with_name("zizmor")
    done = subprocess.run(
        [zizmor, "--offline", "--no-progress", "--persona=auditor", "--format=json", FOLDER],
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout) == [], done.stderr
    assert done.returncode == 0


@every_workflow
def test_actions_are_pinned_by_hash_and_say_which_version_that_is(path):
    used = re.findall(r"uses: (.*)", path.read_text().split("\njobs:", 1)[1])
    assert used
    for line in used:
        reference, _, version = line.partition(" # ")
        assert PINNED.fullmatch(reference), line
        assert re.fullmatch(r"v\d+\.\d+\.\d+", version), line


def test_an_action_has_the_same_pin_everywhere():
    pins = {s["uses"] for path in WORKFLOWS for s in steps(path) if "uses" in s}
    assert len({pin.split("@")[0] for pin in pins}) == len(pins)


@every_workflow
def test_the_installed_cli_is_the_one_that_dagger_json_asks_for(path):
    version = action(path, "dagger/dagger-for-github")["with"]
    engine = json.loads((ROOT / "dagger.json").read_text())["engineVersion"]
    assert version == {"version": engine}, "install only: no verb, no args"


@every_workflow
def test_the_pipeline_is_executed_once(path):
    calls = [s["run"] for s in steps(path) if "dagger" in s.get("run", "")]
    assert len(calls) == 1
    assert calls[0].startswith("dagger call ")
    assert calls[0].endswith(" reports export --path=reports")


@every_workflow
def test_reports_are_kept_and_shown_before_the_verdict_ends_the_job(path):
    names = [s.get("uses", s.get("run", "")).split("@")[0] for s in steps(path)]
    assert names[-3:-1] == ["actions/upload-artifact", "github/codeql-action/upload-sarif"]
    assert names[-1].endswith("reports/verdict")
    assert all("!cancelled()" in s["if"] for s in steps(path)[-3:-1])
    assert "if" not in steps(path)[-1]


@pytest.mark.parametrize(
    ("verdict", "code"), [("passed\n", 0), ("failed\n", 1), ("inconclusive\n", 1), ("", 1)]
)
@every_workflow
def test_the_last_step_ends_by_the_verdict(path, verdict, code, tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "verdict").write_text(verdict)
    done = subprocess.run(
        ["bash", "-e", "-c", steps(path)[-1]["run"]], cwd=tmp_path, check=False, timeout=60
    )
    assert done.returncode == code


@every_workflow
def test_a_token_may_only_read_and_show_findings(path):
    workflow = load(path)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"] == {
            "contents": "read",
            "actions": "read",
            "security-events": "write",
        }
        assert job["timeout-minutes"] <= 60
    checkout = action(path, "actions/checkout")["with"]
    assert checkout["persist-credentials"] is False
    assert checkout["fetch-depth"] == 0, "the secret scanner reads the history"


@every_workflow
def test_there_is_no_logic_in_yaml(path):
    for step in steps(path):
        run = step.get("run", "")
        assert "${{" not in run, "expressions go through env: a script must not be made of input"
        assert "\n" not in run.strip()
        assert not re.search(r"[;|]|&&|\bif\b", run)


def test_both_workflows_take_the_same_steps():
    ours, theirs = (
        [(s["name"], s.get("uses")) for s in steps(FOLDER / name)]
        for name in ("ci.yml", "pipeline.yml")
    )
    assert ours == theirs
