"""The last words of a run: the gates, where it is live, what to bear in mind, the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from ci.records.folder import REPORT_NAME
from ci.records.run import RunRecord
from ci.records.text import clean, duration
from ci.records.verdicts import reasons_told
from ci.records.view import caveats, stopped_at
from ci.terminal.tree import STYLES, Glyphs, pad
from ci.values import DeliveryRecord, Outcome, Verdict

__all__ = ["closing"]


def closing(record: RunRecord, folder: Path, glyphs: Glyphs) -> list[Text]:
    """The lines. The path of the report stands alone on the last one, to be copied."""
    names = [each.gate for each in record.verdicts]
    names += [each.environment for each in record.deliveries]
    width = max((len(name) for name in names), default=0)
    lines = [Text()]
    for verdict in record.verdicts:
        lines += _gate(verdict, width, glyphs)
    for delivery in record.deliveries:
        lines += _environment(delivery, width, glyphs)
    if names:
        lines.append(Text())
    lines += [Text.assemble(("  note: ", "yellow"), clean(each)) for each in caveats(record)]
    stopped = "" if record.outcome is Outcome.PASSED else clean(stopped_at(record))
    lines += [Text(f"  stopped at {stopped}")] if stopped else []
    state = record.outcome.value
    commit = f" at {named}" if (named := record.source.named(9)) else ""
    spent = f" in {duration(record.seconds)}"
    ended = (f"{record.pipeline}{commit} {state}", STYLES[state])
    lines.append(Text.assemble("  ", ended, spent, _exit(record)))
    path = folder / REPORT_NAME
    link = f"link {path.absolute().as_uri()}"
    lines.append(Text.assemble("  report: ", (str(path), link)))
    return lines


def _gate(verdict: Verdict, width: int, glyphs: Glyphs) -> Iterator[Text]:
    state = verdict.outcome.value
    yield _line(glyphs, state, pad(verdict.gate, width), f"gate {state}")
    for reason in reasons_told(verdict):
        yield Text(f"      {clean(reason)}")


def _environment(delivery: DeliveryRecord, width: int, glyphs: Glyphs) -> Iterator[Text]:
    state = delivery.outcome.value
    live = delivery.previous if delivery.rolled_back else delivery.release
    version = live.version if live else ""
    note = " ".join(filter(None, (version, delivery.url)))
    more = ", it was there already" if delivery.unchanged else ""
    more = ", as before: the new release did not pass" if delivery.rolled_back else more
    if state != Outcome.PASSED.value and not delivery.rolled_back:
        more = f", {state}"
    yield _line(glyphs, state, pad(delivery.environment, width), note, more)
    for line in clean(delivery.reason).splitlines():
        yield Text(f"      {line}")


def _line(glyphs: Glyphs, state: str, name: str, said: str, more: str = "") -> Text:
    return Text.assemble(
        "  ", (glyphs.still(state), STYLES[state]), f" {name}  ", said, (more, "dim")
    )


def _exit(record: RunRecord) -> str:
    return f", exit code {record.exit_code}" if record.exit_code else ""
