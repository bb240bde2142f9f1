"""`ci` from outside: what may be typed, what is said, where it is said, and with which code."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import select
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ci import cli, signature
from ci.events import ImageAwaited, NodeFinished, RunFinished, RunStarted, VerdictReached, parse
from ci.module import Ci
from ci.records.run import RunRecord
from ci.values import Status
from tests.cli.conftest import CI, EXAMPLE, Cli, Ran, edit

#: On a machine that has no image yet, the first test that needs one waits for it.
pytestmark = pytest.mark.timeout(600)

FUNCTIONS = dict(signature.functions(Ci))
#: Options of every command that runs something.
COMMON = {"--output", "--json", "--plain", "--verbose"}


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`ci` within this process, for what ends before an engine is asked for."""

    def run(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(code=ended.value.code, out=said.out, err=said.err)

    return run


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A small Python project: nothing to build, nothing to deploy."""
    folder = tmp_path / "plain"
    (folder / "tests").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "plain"\nversion = "1.0"\nrequires-python = ">=3.11"\n'
    )
    (folder / "plain.py").write_text("def one() -> int:\n    return 1\n")
    return folder


# -- what there is --------------------------------------------------------------------------------


def test_every_function_of_ci_is_a_command_with_its_first_line_as_help(typed):
    shown = typed("--help")
    assert shown.code == 0
    assert shown.err == ""
    said = re.sub(r"[\s│]+", " ", shown.out)
    for name, function in FUNCTIONS.items():
        first_line = signature.summary(function).splitlines()[0]
        assert f" {name} {first_line}" in said, name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_command_has_the_options_of_its_function_and_no_others(typed, name):
    shown = typed(name, "--help")
    assert shown.code == 0
    offered = set(re.findall(r"--[a-z][a-z-]*", shown.out.partition("Parameters")[2]))
    parameters = [
        parameter
        for parameter in inspect.signature(FUNCTIONS[name]).parameters
        if parameter not in ("self", "ws")
    ]
    own = {f"--{parameter.replace('_', '-')}" for parameter in parameters}
    assert offered == own | COMMON


def test_a_function_that_is_added_is_a_command_without_further_code(monkeypatch):
    added = inspect.unwrap(Ci.lint)
    monkeypatch.setattr(Ci, "another_one", added, raising=False)
    assert "another-one" in dict(signature.functions(Ci))
    assert "another-one" in [name for each in cli.build() for name in [each]]


def test_no_arguments_show_the_help(typed):
    assert typed().out == typed("--help").out


def test_the_version_is_that_of_the_package(typed):
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", typed("--version").out)
    assert typed("--version").out != "0.0.0\n"


@pytest.mark.parametrize(
    ("shell", "says"), [("bash", "_ci"), ("zsh", "#compdef ci"), ("fish", "complete -c ci")]
)
def test_completion_is_made_for_the_usual_shells(shell, says):
    script = cli.build().generate_completion(shell=shell)
    assert says in script
    assert "pipeline" in script
    assert "fail-fast" in script


# -- bad usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pipelin"], r"command pipelin: got no command of ci; .*\nhint: did you mean pipeline\?"),
        (["engine", "dff"], r"command dff: .* ci engine; .*\nhint: did you mean df\?"),
        (["engine", "prune", "--days=-1"], r'invalid value "-1.0" for --days'),
        (["lint", "/tmp"], r"/tmp: no field of str: .*\nhint: .* --source=/tmp"),
        (["lint", "--sorce=."], r"--sorce.*expected .*--source.*\nhint: did you mean --source"),
        (["pipeline", "--fail-fats"], r"--fail-fats.*\nhint: did you mean --fail-fast"),
        (["lint", "--source"], r"--source requires an argument\nhint: ci lint --help"),
        (["lint", "--source=/no/such/folder"], r"--source=/no/such/folder: got no such folder"),
        (["lint", "--source=/etc/passwd"], r"--source=/etc/passwd: got a file"),
        (["run", "reprts"], r"reprts: no field of Run: expected .*\nhint: did you mean 'reports'"),
        (["run", "reports", "export", "--pth=x"], r"--pth: no option of export: expected .*--path"),
        (["build", "with-exec", "stdou"], r"stdou: no field of Container.*\nhint: .*'stdout'"),
        (["lint", "stdout"], r"stdout: no field of str: expected nothing behind a plain value"),
        (["smoke"], r"--url requires an argument"),
        (["environments", "--colour"], r"unknown option: --colour"),
        (["rollback"], r'command "rollback".*requires an argument'),
        (["rollback", "nowhere"], r"environment nowhere does not exist here"),
        (["engine", "run"], r"got no command; expected ci engine run -- CMD"),
    ],
)  # fmt: skip
def test_bad_usage_is_told_on_stderr_before_anything_runs(
    typed, monkeypatch, tmp_path, arguments, says
):
    monkeypatch.setenv("TOWPATH_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    ran = typed(*arguments)
    assert ran.code == 64, ran
    assert ran.out == ""
    assert re.match(rf"ci: .*{says}", ran.err, re.DOTALL), ran.err
    assert "Traceback" not in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[build]\n\nport = \n", r"ci\.toml:3: got no valid TOML"),
        ("[build]\nprot = 80\n", r"ci\.toml:2: build\.prot: .*\nhint: did you mean 'port'\?"),
        ("\n[enviroments.dev]\nport = 1\n", r"ci\.toml:2: enviroments: .*\nhint: .*'environments'"),
        ("[build]\nport = 800000\n", r"ci\.toml:2: build\.port: got 800000; expected .*65535"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_line(ci: Cli, plain: Path, text, says):
    (plain / "ci.toml").write_text(text)
    ran = ci("lint", f"--source={plain}")
    assert ran.code == 64, ran
    assert ran.out == ""
    assert re.match(rf"ci: {says}", ran.err, re.DOTALL), ran.err
    assert "Traceback" not in ran.err
    assert ci.runs == []


def test_a_configuration_as_other_editors_write_it_is_read(ci: Cli, plain: Path):
    text = "\ufeff[run]\r\nskip = ['workflows']\r\n"
    (plain / "ci.toml").write_bytes(text.encode())
    assert ci("graph", f"--source={plain}").code == 0


def test_an_empty_source_is_bad_usage(ci: Cli):
    ran = ci("pipeline")
    assert (ran.code, ran.out) == (64, ""), ran
    assert ran.err.startswith("ci: source: got an empty folder; expected a repository\nhint: ")


def test_an_unknown_node_is_bad_usage_and_the_nearest_is_named(ci: Cli, plain: Path):
    ran = ci("run", "--only=lint,typs", f"--source={plain}")
    assert (ran.code, ran.out) == (64, ""), ran
    assert re.match(r"ci: no node typs: .*\nhint: did you mean types\?", ran.err), ran.err


def test_a_form_that_no_drawing_has_is_bad_usage(ci: Cli, plain: Path):
    ran = ci("graph", "--form=svgg", f"--source={plain}")
    assert (ran.code, ran.out) == (64, ""), ran
    assert "hint: did you mean 'svg'?" in ran.err


# -- where what goes ------------------------------------------------------------------------------


def test_the_graph_is_drawn_in_each_form_on_stdout_and_nothing_else(ci: Cli):
    drawn = {form: ci("graph", f"--source={EXAMPLE}", f"--form={form}") for form in FORMS}
    for form, ran in drawn.items():
        assert (ran.code, ran.err) == (0, ""), ran
        assert re.match(FORMS[form], ran.out), ran.out
        for node in ("lint", "quality", "build", "deploy-production"):
            assert node in ran.out


FORMS = {"text": r"1  format\n", "mermaid": r"flowchart TB\n", "svg": r"<svg [^>]*>"}


def test_a_stage_alone_tells_its_run_on_stderr_and_its_result_on_stdout(ci: Cli):
    ran = ci("lint", f"--source={EXAMPLE}")
    assert ran.code == 0, ran
    assert re.match(r"gym-api( at [0-9a-f]{12})?: passed in ", ran.out), ran.out
    assert "lint" in ran.err
    [folder] = ci.runs
    assert f"report: {folder.relative_to(ci.folder)}/report.html" in ran.err
    record = RunRecord.model_validate_json((folder / "run.json").read_text())
    assert [node.name for node in record.nodes] == ["lint", "quality"]
    assert (folder / "report.html").read_text().startswith("<!doctype html>")


def test_who_reads_both_streams_is_told_the_result_once(ci: Cli):
    command = [str(CI), "lint", f"--source={EXAMPLE}"]
    said = subprocess.run(
        command,
        cwd=ci.folder,
        env=ci.variables,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout
    assert said.count("gym-api") == 2, said  # as it starts, and as it ends


def test_a_link_to_a_repository_stands_for_it(ci: Cli, plain: Path):
    link = ci.folder / "link"
    link.symlink_to(plain)
    assert ci("lint", f"--source={link}").code == ci("lint", f"--source={plain}").code == 0


def test_json_is_all_that_is_on_stdout_and_reads_back(ci: Cli):
    ran = ci("types", f"--source={EXAMPLE}", "--json")
    assert ran.code == 0, ran
    events = [parse(line) for line in ran.out.splitlines()]
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert [json.loads(line) for line in ran.out.splitlines()] == [
        json.loads(event.to_json()) for event in events
    ]
    assert {type(event) for event in events} >= {NodeFinished, VerdictReached}
    assert {event.node for event in events if isinstance(event, ImageAwaited)} == {"types"}
    ended = [event for event in events if isinstance(event, NodeFinished) and event.node == "types"]
    assert [event.status for event in ended] == [Status.PASSED]


def test_reports_of_a_run_that_failed_are_exported_and_the_verdict_ends_it(ci: Cli, gym: Path):
    edit(gym / "src/gym_api/tokens.py", "import hashlib\n", "import hashlib\nimport os\n")
    ran = ci("run", "--only=lint", f"--source={gym}", "reports", "export", "--path=kept")
    assert ran.code == 0, ran
    kept = ci.folder / "kept"
    assert json.loads((kept / "run.json").read_text())["outcome"] == "failed"
    assert "F401" in (kept / "lint" / "ruff.sarif").read_text()
    assert (kept / "report.html").is_file()
    again = ci("run", "--only=lint", f"--source={gym}", "verdict")
    assert (again.code, again.out) == (1, ""), again
    assert "F401" in again.err
    assert again.err.count("gym-api failed in") == 1


def test_an_image_is_written_as_an_oci_archive(ci: Cli):
    ran = ci("build", f"--source={EXAMPLE}", "-o", "image.tar")
    assert (ran.code, ran.out) == (0, ""), ran
    with tarfile.open(ci.folder / "image.tar") as archive:
        names = archive.getnames()
        index = archive.extractfile("index.json")
        assert index is not None
        [manifest] = json.load(index)["manifests"]
    assert "oci-layout" in names
    assert f"blobs/{manifest['digest'].replace(':', '/')}" in names


def test_a_value_behind_a_function_is_printed(ci: Cli):
    ran = ci("build", f"--source={EXAMPLE}", "default-args")
    assert (ran.code, ran.out) == (0, "gym-api\nserve\n"), ran


def test_the_doctor_tells_what_this_machine_can_do(ci: Cli):
    ran = ci("doctor")
    assert ran.code in (0, 2), ran
    lines = [line for line in ran.out.splitlines() if not line.startswith(" ")]
    assert {line.split()[0] for line in lines} <= {"good", "limited", "missing"}
    for check in ("python", "sandbox", "disk", "container registry", "vulnerability database"):
        assert any(check in line for line in lines), check
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if not line.startswith("good"):
            between = ran.out.partition(line)[2].partition(after)[0] if after else ran.out
            assert "hint: " in between, line
    assert (ran.code == 2) == any(line.startswith("missing") for line in lines)


def test_without_environments_the_list_of_them_is_empty(ci: Cli):
    ran = ci("environments")
    assert (ran.code, ran.out) == (0, ""), ran
    assert ran.err == "no environments on this machine\n"


# -- interruption ---------------------------------------------------------------------------------

ENDLESS = """
def test_that_hangs(capfd):
    with capfd.disabled():
        print("it hangs", flush=True)
    while True:
        pass
"""


def test_control_c_ends_a_run_soundly_with_its_report_and_130(ci: Cli, plain: Path):
    (plain / "tests" / "test_endless.py").write_text(ENDLESS)
    with ci.started("unit", f"--source={plain}", "--json") as process:
        await_event(process, "node.output", "it hangs")
        processes = Processes(process.pid)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    processes.wait_ended(0)
    assert isinstance(parse(out.splitlines()[-1]), RunFinished)
    [folder] = ci.runs
    assert status_of(folder, "unit") is Status.CANCELLED
    assert (folder / "report.html").is_file()


def test_after_kill_9_nothing_is_left_running_and_the_next_run_is_right(ci: Cli, plain: Path):
    endless = plain / "tests" / "test_endless.py"
    endless.write_text(ENDLESS)
    with ci.started("unit", f"--source={plain}", "--json") as process:
        await_event(process, "node.output", "it hangs")
        processes = Processes(process.pid)
        process.kill()
        process.communicate(timeout=60)
    processes.wait_ended(10)
    endless.write_text("import plain\n\n\ndef test_that_ends():\n    assert plain.one() == 1\n")
    ran = ci("unit", f"--source={plain}")
    assert ran.code == 0, ran
    assert status_of(ci.runs[-1], "unit") is Status.PASSED


def await_event(process: subprocess.Popen[str], event: str, word: str) -> None:
    """Read up to an event that speaks of ``word``."""
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == event and word in line:
            return
    raise AssertionError(f"no {event} of {word}")


class Processes:
    """All processes below one, watched until they end."""

    def __init__(self, pid: int) -> None:
        self.watched: dict[int, int] = {}
        for child in below(pid):
            with contextlib.suppress(ProcessLookupError):
                self.watched[os.pidfd_open(child)] = child
        assert self.watched, "nothing was running"

    def wait_ended(self, seconds: float) -> None:
        """Raises: AssertionError: one still runs after this time."""
        poll = select.poll()
        for descriptor in self.watched:
            poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + seconds
        while self.watched:
            ended = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            assert ended, f"still running: {sorted(self.watched.values())}"
            for descriptor, _ in ended:
                poll.unregister(descriptor)
                os.close(descriptor)
                del self.watched[descriptor]


def below(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield child
            yield from below(child)


def status_of(folder: Path, node: str) -> Status:
    """How a node of the run in this folder ended."""
    record = RunRecord.model_validate_json((folder / "run.json").read_text())
    return next(each.status for each in record.nodes if each.name == node)
