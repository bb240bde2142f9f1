from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ci.events import (
    DeliveryMoved,
    Event,
    ExecStarted,
    ImageAwaited,
    Kind,
    NodeFinished,
    NodeOutput,
    NodePlan,
    NodeRetried,
    NodeStarted,
    RunFinished,
    RunStarted,
    VerdictReached,
    parse,
)
from ci.flow import Run
from ci.records.run import RunRecord
from ci.terminal import Display
from ci.terminal.board import Board
from ci.terminal.display import JsonLines, LiveTree, PlainLines
from ci.terminal.tree import Glyphs, draw
from ci.values import Outcome, Status, Verdict
from tests.fake_clock import EPOCH, FakeClock
from tests.unit.records.samples import failed_run, passed_run

GLYPHS = Glyphs()


def begun(*names: str, kinds: Sequence[Kind] = ()) -> RunStarted:
    plans = [NodePlan(name=name) for name in names]
    for number, kind in enumerate(kinds):
        plans[number] = plans[number].model_copy(update={"kind": kind})
    return RunStarted(at=EPOCH, run="r1", pipeline="shop", nodes=tuple(plans))


def ended(
    node: str, status: Status = Status.PASSED, *, seconds: float = 1.5, **more
) -> NodeFinished:
    at = EPOCH + timedelta(seconds=2)
    return NodeFinished(at=at, node=node, status=status, seconds=seconds, attempts=1, **more)


def started(node: str, attempt: int = 1) -> NodeStarted:
    return NodeStarted(at=EPOCH, node=node, attempt=attempt)


def board_of(*events: Event) -> Board:
    board = Board()
    for event in events:
        board.apply(event)
    return board


def text_of(board: Board, *, seconds: float = 2, width: int = 80, height: int | None = None) -> str:
    now = EPOCH + timedelta(seconds=seconds)
    lines = draw(board, now, width=width, height=height, glyphs=GLYPHS)
    return "\n".join(line.plain.rstrip() for line in lines)


def run_of(record: RunRecord) -> Run:
    verdict = Verdict(gate=record.pipeline, outcome=record.outcome)
    return Run(record=record, verdict=verdict, reports={})


FAILURE: tuple[Event, ...] = (
    begun("lint", "unit", "quality", "build", kinds=["stage", "stage", "gate", "stage"]),
    started("lint"),
    ended("lint", execs=2, cached_execs=2, summary="40 files checked"),
    started("unit"),
    NodeOutput(at=EPOCH, node="unit", text="\x1b[31mE   assert 201 == 409\x1b[0m"),
    ended("unit", Status.FAILED, reason="1 of 64 tests failed\nhint: pytest -x"),
    started("quality"),
    VerdictReached(
        at=EPOCH,
        verdict=Verdict(
            gate="quality", outcome=Outcome.FAILED, reasons=("unit: 1 of 64 tests failed",)
        ),
    ),
    ended("quality", Status.FAILED),
    NodeFinished(at=EPOCH, node="build", status=Status.CANCELLED, reason="quality failed"),
    RunFinished(
        at=EPOCH + timedelta(seconds=3), run="r1", outcome=Outcome.FAILED, exit_code=1, seconds=3
    ),
)


# -- the tree -------------------------------------------------------------------------------------


def test_each_state_shows_how_it_stands():
    board = board_of(
        begun("lint", "types", "unit", "build", "scan"),
        started("lint"),
        ended("lint", execs=1, cached_execs=1, summary="40 files checked"),
        started("types"),
        ExecStarted(at=EPOCH, node="types", exec="1", command=("mypy", "src")),
        started("unit"),
        NodeOutput(at=EPOCH, node="unit", text="\x1b[32mtests/test_api.py\x1b[0m .....\n"),
        started("build"),
        ImageAwaited(at=EPOCH, node="build", address="debian:bookworm-slim"),
    )
    lines = text_of(board, seconds=12.7).splitlines()
    assert re.fullmatch(r". shop  13 s, 1 of 5", lines[0])
    assert lines[1] == "  ✓ lint       1.5 s  cached  40 files checked"
    assert re.fullmatch(r"  . types       12 s  mypy src", lines[2])
    assert re.fullmatch(r"  . unit        12 s  tests/test_api\.py \.\.\.\.\.", lines[3])
    assert re.fullmatch(r"  . build       12 s  image debian:bookworm-slim", lines[4])
    assert lines[5] == "  · scan"


def test_what_a_broken_node_wrote_is_cut_only_while_it_may_change():
    wrote = "src/shop/page.py:7: " + "F841 assigned but never used " * 6
    board = board_of(begun("lint", "types"), ended("lint", Status.FAILED, log=wrote))
    assert wrote.rstrip() in text_of(board, width=80)
    assert wrote.rstrip() not in text_of(board, width=80, height=20)


def test_what_was_skipped_shows_its_hint_at_the_end_and_not_before():
    skipped = ended("lint", Status.SKIPPED, reason="no linter is chosen\nhint: add [tool.ruff]")
    board = board_of(begun("lint", "types"), started("lint"), skipped)
    assert "  ○ lint       1.5 s  no linter is chosen\n    hint: add [tool.ruff]\n" in text_of(
        board
    )
    assert "hint" not in text_of(board, height=20)


def test_what_failed_shows_its_reason_its_hint_and_the_tail_of_its_output():
    text = text_of(board_of(*FAILURE))
    assert "  ✗ unit" in text
    assert "1 of 64 tests failed\n    hint: pytest -x\n    │ E   assert 201 == 409\n" in text
    assert re.search(r"✗ quality +unit: 1 of 64 tests failed", text)
    assert re.search(r"- build +quality failed", text)


def test_the_log_of_the_evidence_goes_before_what_was_seen():
    events = [
        event.model_copy(update={"log": "kept\nby the stage\n"})
        if isinstance(event, NodeFinished) and event.node == "unit"
        else event
        for event in FAILURE
    ]
    text = text_of(board_of(*events))
    assert "│ by the stage" in text
    assert "assert 201" not in text


def test_a_retry_is_told_with_its_reason_and_then_by_its_number():
    board = board_of(
        begun("scan"),
        started("scan"),
        NodeRetried(at=EPOCH, node="scan", attempt=1, delay=2.0, reason="no route\nto host"),
    )
    assert "again in 2 s: no route" in text_of(board)
    board.apply(started("scan", 2))
    board.apply(NodeOutput(at=EPOCH, node="scan", text="scanning"))
    assert "attempt 2: scanning" in text_of(board)


def test_a_delivery_shows_its_steps_and_where_it_answers():
    board = board_of(
        begun("deploy-staging", kinds=["delivery"]),
        started("deploy-staging"),
        DeliveryMoved(at=EPOCH, environment="staging", step="switched", version="1.0.0"),
    )
    assert "switched 1.0.0" in text_of(board)
    url = "http://127.0.0.1:8082"
    board.apply(DeliveryMoved(at=EPOCH, environment="staging", step="ended", url=url))
    board.apply(ended("deploy-staging"))
    assert f"1.0.0 at {url}" in text_of(board)


def test_a_second_run_starts_with_an_empty_board():
    board = board_of(*FAILURE, begun("lint"))
    assert [row.state for row in board.rows.values()] == ["waiting"]
    assert board.finished is None


STATES = st.lists(
    st.sampled_from(["waiting", "running", "passed", "failed", "skipped", "cancelled"]), max_size=60
)


def board_in(states: Sequence[str]) -> Board:
    names = [f"stage-{number}-" + "ä" * (number % 30) for number in range(len(states))]
    board = board_of(begun(*names))
    for name, state in zip(names, states, strict=True):
        if state != "waiting":
            board.apply(started(name))
            board.apply(NodeOutput(at=EPOCH, node=name, text="漢字 output\tline " * 20))
        if state not in {"waiting", "running"}:
            board.apply(ended(name, Status(state), log="one\ntwo\n" * 20))
    return board


@given(states=STATES, width=st.integers(20, 200), height=st.integers(4, 60))
def test_a_frame_never_outgrows_the_terminal(states: list[str], width: int, height: int):
    lines = draw(board_in(states), EPOCH, width=width, height=height, glyphs=GLYPHS)
    assert len(lines) <= height
    assert all(line.cell_len <= width for line in lines)


@given(states=STATES)
def test_the_last_drawing_leaves_no_node_out(states: list[str]):
    board = board_in(states)
    text = text_of(board, width=200)
    assert all(name[:20] in text for name in board.rows)


def test_where_there_is_no_room_what_waits_and_what_is_done_is_counted():
    board = board_in(["passed"] * 10 + ["running"] * 2 + ["waiting"] * 20)
    lines = text_of(board, height=6).splitlines()
    assert len(lines) == 5
    assert lines[1].startswith("  ✓ 10 stage-0-")
    assert lines[4].startswith("  · 20 stage-12-")


def test_signs_are_ascii_where_the_terminal_is():
    glyphs = Glyphs(ascii_only=True)
    lines = draw(board_of(*FAILURE), EPOCH, width=80, height=None, glyphs=glyphs)
    assert all(line.plain.isascii() for line in lines)


# -- the displays ---------------------------------------------------------------------------------


def test_json_goes_to_stdout_and_can_be_read_back(capsys: pytest.CaptureFixture[str]):
    with Display.of(json=True) as display:
        for event in FAILURE:
            display(event)
        display.finish(run_of(failed_run()), Path("runs/x"))
    out, err = capsys.readouterr()
    assert tuple(parse(line) for line in out.splitlines()) == FAILURE
    assert err == "report: runs/x/report.html\n"


def test_what_is_no_terminal_gets_plain_lines(capsys: pytest.CaptureFixture[str]):
    with Display.of() as display:
        assert isinstance(display, PlainLines)
        for event in FAILURE:
            display(event)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "shop: 4 steps, run r1\n"
        "       0 ms lint    started\n"
        "      2.0 s lint    passed in 1.5 s (cached): 40 files checked\n"
        "       0 ms unit    started\n"
        "      2.0 s unit    failed in 1.5 s: 1 of 64 tests failed\n"
        "            hint: pytest -x\n"
        "            │ E   assert 201 == 409\n"
        "       0 ms quality gate failed\n"
        "            unit: 1 of 64 tests failed\n"
        "       0 ms build   cancelled: quality failed\n"
        "      3.0 s failed  in 3.0 s\n"
    )


class Terminal(io.StringIO):
    """Stands for a terminal: says that it is one, and keeps what it was sent."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def tree_on(terminal: Terminal, **options) -> LiveTree:
    console = Console(
        file=terminal,
        force_terminal=True,
        width=80,
        height=24,
        color_system="standard",
        **options,
    )
    return LiveTree(console, FakeClock())


def test_a_terminal_gets_a_live_tree_unless_plain_lines_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    assert isinstance(Display.of(), LiveTree)
    assert isinstance(Display.of(plain=True), PlainLines)
    assert isinstance(Display.of(json=True), JsonLines)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(Display.of(), PlainLines)


def test_the_tree_stays_on_the_terminal_and_the_cursor_comes_back(
    capsys: pytest.CaptureFixture[str],
):
    terminal = Terminal()
    with tree_on(terminal) as display:
        for event in FAILURE:
            display(event)
    sent = terminal.getvalue()
    assert sent.count("\x1b[?25l") == sent.count("\x1b[?25h") == 1
    assert "\x1b[?1049h" not in sent
    final = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent.rpartition("\x1b[?25h")[2])
    assert "✗ shop  3.0 s" in final
    assert "hint: pytest -x" in final
    assert capsys.readouterr().out == ""


def test_an_error_in_mid_run_leaves_the_terminal_sound():
    terminal = Terminal()

    def break_off() -> None:
        with tree_on(terminal) as display:
            display(begun("lint"))
            display(started("lint"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")
    assert "lint" in terminal.getvalue()


def test_log_lines_appear_above_the_tree_and_logging_is_restored():
    terminal = Terminal()
    before = structlog.get_config()["logger_factory"]
    with tree_on(terminal) as display:
        display(begun("lint"))
        structlog.get_logger().warning("image.stood_in", reference="postgres:15")
        display(FAILURE[-1])
    assert "image.stood_in" in terminal.getvalue()
    assert structlog.get_config()["logger_factory"] is before


@pytest.mark.parametrize("no_color", [False, True])
def test_no_color_means_none(no_color: bool):  # noqa: FBT001
    terminal = Terminal()
    with tree_on(terminal, no_color=no_color) as display:
        for event in FAILURE:
            display(event)
    sequences = re.findall(r"\x1b\[([0-9;]*)m", terminal.getvalue())
    codes = {code for sequence in sequences for code in sequence.split(";")}
    coloured = any(re.fullmatch(r"[349]\d|10\d", code) for code in codes)
    assert coloured is not no_color


# -- the summary ----------------------------------------------------------------------------------


def summary_of(record: RunRecord, folder: str = ".towpath/runs/x") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    PlainLines(stream).finish(run_of(record), Path(folder))
    stream.seek(0)
    return stream.read()


def test_the_summary_ends_with_gates_environments_and_the_report():
    lines = summary_of(passed_run()).splitlines()
    assert "  ✓ quality      gate passed" in lines
    assert "  ✓ production   1.0.0 http://127.0.0.1:8083" in lines
    assert lines[-2] == "  gym-api at 9c1e5d8f0 passed in 1 min 20 s"
    assert lines[-1] == "  report: .towpath/runs/x/report.html"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dirty": True}, "gym-api at 9c1e5d8f0 (with local changes) passed"),
        ({"dirty": None}, "gym-api at 9c1e5d8f0 passed"),
        ({"commit": "", "dirty": True}, "gym-api passed"),
    ],
)
def test_the_summary_tells_the_commit_and_whether_it_was_quite_that(
    changes: dict[str, object], told: str
):
    run = passed_run()
    changed = run.model_copy(update={"source": run.source.model_copy(update=changes)})
    assert f"  {told} in" in summary_of(changed)


def test_the_summary_names_stand_ins_and_the_small_database():
    text = summary_of(passed_run())
    assert "note: The small vulnerability database was used: it knows 14 advisories." in text
    assert "note: 2 images were not the published ones" in text


def test_the_summary_of_a_failure_has_every_reason_and_the_exit_code():
    text = summary_of(failed_run())
    assert "  ! quality  gate errored\n      unit: 1 of 64 tests failed\n" in text
    assert text.splitlines()[-3:-1] == [
        "  stopped at iac: trivy: timed out after 60 s",
        "  gym-api at 9c1e5d8f0 errored in 1 min 13 s, exit code 2",
    ]


def test_a_rollback_says_what_answers_now():
    run = passed_run()
    delivery = run.deliveries[2].model_copy(
        update={"rolled_back": True, "outcome": Outcome.FAILED, "reason": "smoke: 1 of 5 failed"}
    )
    text = summary_of(run.model_copy(update={"deliveries": (delivery,)}))
    assert "✗ production  0.9.0 http://127.0.0.1:8083, as before: the new release did not" in text
    assert "      smoke: 1 of 5 failed" in text
