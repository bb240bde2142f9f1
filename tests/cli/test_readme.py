"""README.md keeps its word: what it quotes is what there is, and what it says to type works."""

from __future__ import annotations

import inspect
import itertools
import re
import shlex
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import httpx
import pytest
import yaml

from ci import cli, exits, signature
from ci.config import parse
from ci.errors import CiError, ConfigError
from ci.flow.run import exit_code_of
from ci.module import Ci
from ci.records.run import RunRecord
from ci.results import check
from ci.values import Outcome
from tests.cli.conftest import EXAMPLE, TOP, Cli, edit

#: On a machine that has no image yet, the first test that needs one waits for it.
pytestmark = pytest.mark.timeout(600)

README = (TOP / "README.md").read_text()
FUNCTIONS = dict(signature.functions(Ci))


def blocks(language: str) -> list[str]:
    """What stands in the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def typed(program: str) -> list[list[str]]:
    """The commands of a program that README says to type, in their order."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))[0] == program]


# -- what it quotes -------------------------------------------------------------------------------


def test_the_configuration_shown_is_that_of_the_example():
    assert (EXAMPLE / "ci.toml").read_text() in blocks("toml")


def test_every_configuration_shown_is_valid():
    for block in blocks("toml"):
        parse(block)


def test_the_defaults_told_are_the_defaults():
    gates = parse("").gates
    assert f"coverage = 85            # per cent; {gates.quality.coverage:g} unless" in README
    assert f'fail_on = "critical"     # "{gates.security.fail_on}" unless' in README


def test_the_graph_shown_is_what_ci_graph_draws(ci: Cli):
    [block] = blocks("console")
    command, _, shown = block.partition("\n")
    assert command == "$ ci graph --source=examples/gym-api"
    assert shown == ci("graph", f"--source={EXAMPLE}").out


def test_the_picture_is_what_ci_graph_draws(ci: Cli):
    [picture] = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert (TOP / picture).read_text() == ci("graph", f"--source={EXAMPLE}", "--form=svg").out


def test_the_workflow_shown_is_what_the_reusable_workflow_takes():
    [block] = blocks("yaml")
    job = yaml.safe_load(block)["jobs"]["pipeline"]
    path = job["uses"].partition("/towpath/")[2].partition("@")[0]
    workflow = yaml.safe_load((TOP / path).read_text())
    inputs = workflow[True]["workflow_call"]["inputs"]  # YAML 1.1 reads `on` as true
    required = {name for name, each in inputs.items() if each.get("required")}
    assert required <= set(job["with"]) <= set(inputs)
    [called] = workflow["jobs"].values()
    assert job["permissions"] == called["permissions"]


def test_the_exit_codes_told_are_those_there_are():
    table = README.partition("| exit code |")[2].partition("\n\n")[0]
    told = dict(re.findall(r"^\| (\d+) \| (\w+)", table, re.MULTILINE))
    assert told == {
        str(exit_code_of(Outcome.PASSED)): "passed",
        str(exit_code_of(Outcome.FAILED)): "failed",
        str(exit_code_of(Outcome.ERRORED)): "errored",
        str(ConfigError.exit_code): "wrong",
        str(exits.INTERRUPTED): "interrupted",
    }
    assert CiError.exit_code == exit_code_of(Outcome.INCONCLUSIVE) == 2


def test_links_lead_to_what_there_is():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (TOP / target).exists(), target


# -- what it says to type -------------------------------------------------------------------------


def test_make_has_the_targets():
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for words in typed("make")} | set(re.findall(r"`make ([a-z-]+)", README))
    assert named <= targets


def test_dagger_call_names_functions_and_options_that_there_are():
    commands = typed("dagger")
    assert ["dagger", "call", "pipeline", "--source=."] in commands
    for words in commands:
        name, *rest = _function(words)
        assert name in FUNCTIONS, words
        options = list(itertools.takewhile(lambda word: word.startswith("-"), rest))
        known = {f"--{flag.name.replace('_', '-')}" for flag in signature.flags(FUNCTIONS[name])}
        assert {option.partition("=")[0] for option in options} <= known, words
        check(typing.get_type_hints(FUNCTIONS[name])["return"], rest[len(options) :])


def _function(words: list[str]) -> list[str]:
    """What is behind ``dagger call`` or ``dagger -c``, less the module's address."""
    rest = words[2:]
    return rest[2:] if rest[0] == "-m" else rest


def test_ci_takes_each_command():
    """Usage alone: nothing is run."""
    app = cli.build()
    for words in typed("ci"):
        command, bound, ignored = app.parse_args(words[1:], print_error=False, exit_on_error=False)
        assert ignored == {}
        inspect.signature(command).bind(*bound.args, **bound.kwargs)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A repository that holds README's pipeline of one's own."""
    folder = tmp_path / "shop"
    (folder / "prices").mkdir(parents=True)
    (folder / "prices" / "2026-11.csv").write_text("item,price\nrope,12\n")
    [code] = blocks("python")
    assert code.startswith("# shop_ci.py\n")
    (folder / "shop_ci.py").write_text(code)
    (folder / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "1"\n')
    (folder / "ci.toml").write_text('[project]\npipeline = "shop_ci:pipeline"\n')
    return folder


def test_the_pipeline_of_ones_own_runs_and_judges(ci: Cli, shop: Path):
    assert 'pipeline = "shop_ci:pipeline"` under `[project]`' in README.replace("\n", " ")
    drawn = ci("graph", f"--source={shop}")
    assert drawn.out.startswith("1  prices"), drawn
    ran = ci("pipeline", f"--source={shop}", "--only=quality")
    assert ran.code == 0, ran
    (shop / "prices" / "2026-11.csv").unlink()
    ran = ci("pipeline", f"--source={shop}", "--only=quality")
    assert ran.code == 1, ran
    assert "no price list: expected prices/*.csv" in ran.err


PROGRAM = """
import anyio, dagger
from dagger import dag

async def main():
    async with dagger.connection():
        made = dag.container().from_("debian:bookworm-slim").with_exec(["echo", "of no Towpath"])
        print((await made.stdout()).strip())

anyio.run(main)
"""


@pytest.fixture
def checkout(ci: Cli, gym: Path) -> Path:
    """A folder as README assumes it, whose environments have free ports, and a database at hand."""
    folder = ci.folder
    (folder / "examples").mkdir()
    shutil.move(gym, folder / "examples" / "gym-api")
    source = folder / "examples" / "gym-api"
    make = TOP / "examples" / "trivy-db" / "make.py"
    subprocess.run([sys.executable, make, source / "trivy-db"], check=True, capture_output=True)
    config = source / "ci.toml"
    config.write_text(config.read_text() + '\n[database]\npath = "trivy-db"\n')
    (folder / "your_program.py").write_text(PROGRAM)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_shown_do_what_is_said(ci: Cli, checkout: Path):
    ci.environ["PATH"] = f"{Path(sys.executable).parent}:{ci.variables['PATH']}"
    commands = {
        " ".join(words[1:3]) if words[1] == "engine" else words[1]: words[1:]
        for words in typed("ci")
    }
    source = checkout / "examples" / "gym-api"

    ran = ci(*commands["pipeline"])
    assert ran.code == 0, ran
    record = RunRecord.load(ci.runs[-1])
    urls = {each.environment: each.url for each in record.deliveries}
    assert list(urls) == ["development", "staging", "production"]
    assert versions(urls) == dict.fromkeys(urls, "1.0.0")
    assert ci(*commands["doctor"]).code in (0, 2)
    assert ci(*commands["graph"]).out.startswith("1  format\n")
    assert ci(*commands["lint"]).code == 0
    assert ci(*commands["build"]).code == 0
    assert (checkout / "image.tar").is_file()
    listed = ci(*commands["environments"])
    assert listed.out.count(" 1.0.0 ") == listed.out.count(" healthy ") == 3, listed

    edit(source / "pyproject.toml", 'version = "1.0.0"', 'version = "1.1.0"')
    ran = ci(*commands["run"])
    assert ran.code == 0, ran
    assert (checkout / "reports" / "report.html").is_file()
    assert (checkout / "reports" / "verdict").read_text() == "passed\n"
    assert versions(urls) == dict.fromkeys(urls, "1.1.0")
    assert re.match(r"(All )?\d+ .*commands ", ci(*commands["engine why"]).out)

    ran = ci(*commands["rollback"])
    assert ran.code == 0, ran
    assert versions(urls) == {**dict.fromkeys(urls, "1.1.0"), "production": "1.0.0"}
    assert ci(*commands["stop"]).code == 0
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{urls['development']}/ready")

    ran = ci(*commands["engine run"])
    assert (ran.code, ran.out) == (0, "of no Towpath\n"), ran
    # In a store of its own: the user's is not for tests to prune, nor to read in full.
    ci.environ["TOWPATH_CACHE"] = str(ci.folder / "store")
    for name in ("engine df", "engine prune", "engine check"):
        assert ci(*commands[name]).code == 0, name
    assert set(commands) == {
        "doctor", "graph", "lint", "build", "pipeline", "run", "environments", "rollback", "stop",
        "engine run", "engine why", "engine df", "engine prune", "engine check",
    }  # fmt: skip


def versions(urls: dict[str, str]) -> dict[str, str]:
    """The version that each environment answers with."""
    answers = {name: httpx.get(f"{url}/ready") for name, url in urls.items()}
    return {name: answer.json()["version"] for name, answer in answers.items()}
