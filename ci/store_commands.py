"""Commands that look after the embedded engine's store: ``ci engine df``, ``prune`` and so on."""

from __future__ import annotations

import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from ci import exits
from ci.settings import Settings

__all__ = ["register"]

_GIB = 1024**3
_NOT_NEGATIVE = Number(gte=0)


def register(engine: App) -> None:
    """Add the commands."""
    engine.command(_df, name="df")
    engine.command(_prune, name="prune")
    engine.command(_check, name="check")
    engine.command(_why, name="why")


def _df() -> None:
    """What the engine's store holds, and how large it is."""
    from ci.engine.store.prune import usage  # noqa: PLC0415 - an extra, and costly to import
    from ci.engine.store.store import Store  # noqa: PLC0415 - as above

    settings = Settings.from_environment()
    with Store(settings.cache) as store:
        used = usage(store)
    limit = settings.cache_max
    print(f"layers   {used.layers:>6} {_gib(used.layer_bytes)}")
    print(f"blobs    {used.blobs:>6} {_gib(used.blob_bytes)}")
    print(f"volumes  {used.volumes:>6} {_gib(used.volume_bytes)}")
    print(f"records  {used.records:>6}")
    print(f"total    {'':>6} {_gib(used.total_bytes)}")
    bound = f"{_gib(limit)}, by TOWPATH_CACHE_MAX" if limit is not None else "     none"
    print(f"limit    {'':>6} {bound}")
    print(f"in {store.root}", file=sys.stderr)


def _prune(
    *,
    max_gib: Annotated[
        float | None,
        Parameter(
            help="Keep at most so much; else TOWPATH_CACHE_MAX, 20 GiB.", validator=_NOT_NEGATIVE
        ),
    ] = None,
    days: Annotated[
        float | None,
        Parameter(help="Drop what was not used for so long.", validator=_NOT_NEGATIVE),
    ] = None,
) -> None:
    """Drop what was not used for longest from the engine's store."""
    from ci.engine.store.prune import prune  # noqa: PLC0415 - an extra, and costly to import
    from ci.engine.store.store import Store  # noqa: PLC0415 - as above

    settings = Settings.from_environment()
    with Store(settings.cache) as store:
        gone = prune(
            store,
            max_bytes=settings.cache_max if max_gib is None else int(max_gib * _GIB),
            older_than=timedelta(days=days).total_seconds() if days is not None else None,
        )
    print(
        f"dropped {gone.layers} layers, {gone.blobs} blobs, {gone.volumes} volumes and"
        f" {gone.records} records: {_gib(gone.bytes).strip()}"
    )


def _check() -> int:
    """Read all of the engine's store, and drop what is not as it was written."""
    from ci.engine.store.check import check  # noqa: PLC0415 - an extra, and costly to import
    from ci.engine.store.store import Store  # noqa: PLC0415 - as above

    with Store(Settings.from_environment().cache) as store:
        found = check(store)
    for damage in found.damaged:
        print(f"dropped {damage.what}: {damage.found}")
    print(
        f"checked {found.layers} layers, {found.blobs} blobs and {found.records} records:"
        f" {len(found.damaged)} damaged"
    )
    if found.unknown:
        print(f"{found.unknown} layers were read for the first time", file=sys.stderr)
    return exits.ERRORED if found.damaged else exits.PASSED


def _why(
    what: Annotated[str, Parameter(help="Name of a stage, or a part of a command.")] = "", /
) -> None:
    """Tell why commands of the last run in this folder ran again, and did not come from the store.

    What changed is named: a file, a variable, a secret, the image, the command itself.
    """
    from ci.engine.store.store import Store  # noqa: PLC0415 - an extra, and costly to import
    from ci.engine.why.compare import explain  # noqa: PLC0415 - as above
    from ci.engine.why.files import changed_files  # noqa: PLC0415 - as above
    from ci.engine.why.history import History  # noqa: PLC0415 - as above
    from ci.engine.why.telling import tell  # noqa: PLC0415 - as above

    with Store(Settings.from_environment().cache) as store:
        runs = History(store, str(Path.cwd())).runs()
        if not runs:
            print("the engine has run no commands in this folder yet", file=sys.stderr)
            return
        answers = explain(runs[0], runs[1:])
        print(tell(answers, partial(changed_files, store), wanted=what))


def _gib(size: int) -> str:
    return f"{size / _GIB:>8.2f} GiB"
