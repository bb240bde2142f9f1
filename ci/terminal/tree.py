"""The tree of a run as lines of styled text, for a width and a height; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from rich.text import Text

from ci.records.text import duration
from ci.terminal.board import Board, Row

__all__ = ["STYLES", "Glyphs", "draw", "pad"]

#: Of the states, as rich names them.
STYLES = {
    "passed": "green",
    "failed": "bold red",
    "errored": "bold magenta",
    "inconclusive": "bold yellow",
    "running": "cyan",
    "waiting": "dim",
    "skipped": "dim",
    "cancelled": "dim",
}
#: Wider than this, lines are hard to follow.
_WIDEST = 120
_TAIL_LIVE = 6
_TAIL_FINAL = 20
_NAMES_WIDEST = 24


class Glyphs:
    """The signs of the states, in Unicode or in ASCII."""

    def __init__(self, *, ascii_only: bool = False) -> None:
        self.bar = "|" if ascii_only else "│"
        self._spin = "|/-\\" if ascii_only else "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
        self._signs = (
            {"passed": "+", "failed": "x", "errored": "!", "inconclusive": "?", "skipped": "-"}
            if ascii_only
            else {"passed": "✓", "failed": "✗", "errored": "!", "inconclusive": "?", "skipped": "○"}
        )
        self._other = {"cancelled": "-", "waiting": "."} if ascii_only else {"waiting": "·"}

    def sign(self, state: str, now: datetime) -> str:
        """One character; that of ``running`` moves with the time."""
        if state == "running":
            return self._spin[int(now.timestamp() * 10) % len(self._spin)]
        return self.still(state)

    def still(self, state: str) -> str:
        """The character of a state that is an end."""
        return self._signs.get(state) or self._other.get(state, "-")


def draw(
    board: Board, now: datetime, *, width: int, height: int | None, glyphs: Glyphs
) -> list[Text]:
    """The lines: none wider than ``width``, not more of them than ``height``.

    For a height of None, which is for good, they are all there, and what a broken node wrote is as
    wide as it is.
    """
    width = min(width, _WIDEST)
    names = min(max((len(row.name) for row in board.rows.values()), default=0), _NAMES_WIDEST)
    head = _fit([_heading(board, now, glyphs)], width)
    if height is None:
        for row in board.rows.values():
            first, *rest = _row_lines(row, now, names, glyphs, tail=_TAIL_FINAL)
            head += [*_fit([first], width), *rest]
        return head
    room = max(height - 1, 0)
    for shown, tail in _ways(list(board.rows.values())):
        body = [
            line
            for item in shown
            for line in (
                _row_lines(item, now, names, glyphs, tail=tail)
                if isinstance(item, Row)
                else [_group_line(item, now, glyphs)]
            )
        ]
        if len(body) <= room:
            break
    return _fit([*head, *body[:room]], width)


def _ways(rows: Sequence[Row]) -> Iterator[tuple[list[Row | list[Row]], int]]:
    """Ever shorter ways to show the rows, with the lines of output that broken ones get."""
    quiet = ("passed", "skipped", "cancelled")
    for tail in (_TAIL_LIVE, 2):
        yield list(rows), tail
    yield _grouped(rows, ("waiting",)), 2
    yield _grouped(rows, ("waiting",), quiet), 2
    yield _grouped(rows, ("waiting",), quiet), 0


def _grouped(rows: Iterable[Row], *groups: tuple[str, ...]) -> list[Row | list[Row]]:
    """Runs of two or more neighbours in the same group of states as one item."""
    items: list[Row | list[Row]] = []
    last: tuple[str, ...] | None = None
    for row in rows:
        group = next((each for each in groups if row.state in each), None)
        if group is not None and group == last:
            before = items[-1]
            items[-1] = [*before, row] if isinstance(before, list) else [before, row]
        else:
            items.append(row)
        last = group
    return items


def _heading(board: Board, now: datetime, glyphs: Glyphs) -> Text:
    state = board.finished.outcome.value if board.finished else "running"
    ended = sum(1 for row in board.rows.values() if row.status is not None)
    counted = "" if board.finished else f", {ended} of {len(board.rows)}"
    return Text.assemble(
        (f"{glyphs.sign(state, now)} ", STYLES[state]),
        (board.pipeline, "bold"),
        (f"  {duration(board.seconds(now))}{counted}", "dim"),
    )


def _row_lines(row: Row, now: datetime, names: int, glyphs: Glyphs, *, tail: int) -> Iterator[Text]:
    state = row.state
    seconds = row.seconds(now)
    # Tenths that run are hard on the eye, and on a terminal over a slow line.
    spent = duration(seconds) if row.end or seconds >= 60 else f"{int(seconds)} s"
    timed = row.running or (row.end is not None and row.end.attempts > 0)
    name_style = "bold" if row.kind == "gate" else "dim" if state == "waiting" else ""
    line = Text.assemble(
        "  ",
        (glyphs.sign(state, now), STYLES[state]),
        " ",
        (pad(row.name, names), name_style),
        (f"{spent if timed and row.kind != 'gate' else '':>11}  ", "dim"),
    )
    if row.cached:
        line.append("cached  ", "blue")
    note_style = STYLES[state] if row.broken else "dim"
    line.append(row.note(), note_style)
    yield line
    if (row.broken and tail) or (row.hinted and tail == _TAIL_FINAL):
        for each in row.advice():
            yield Text(f"    {each}")
    if row.broken and tail:
        for each in row.tail(tail):
            yield Text.assemble("    ", (f"{glyphs.bar} ", STYLES[state]), each.expandtabs(4))


def _group_line(rows: list[Row], now: datetime, glyphs: Glyphs) -> Text:
    state = rows[0].state
    names = ", ".join(row.name for row in rows)
    style = STYLES[state]
    return Text.assemble("  ", (glyphs.sign(state, now), style), f" {len(rows)} ", (names, "dim"))


def _fit(lines: list[Text], width: int) -> list[Text]:
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def pad(text: str, width: int) -> str:
    """``text`` in exactly that many cells."""
    padded = Text(text)
    padded.truncate(width, overflow="ellipsis", pad=True)
    return padded.plain
