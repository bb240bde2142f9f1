"""The engine behind a command: the embedded one, or the session that the environment names."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagger

from ci.errors import CiError
from ci.events import Feed
from ci.records.run import EngineRecord, ImageRecord
from ci.settings import Settings

__all__ = ["Connection", "connected", "named_session"]


@dataclass(frozen=True, kw_only=True)
class Connection:
    """An engine that ``dagger.dag`` speaks to."""

    engine: EngineRecord
    #: Images that it has used so far; a Dagger engine does not tell.
    images: Callable[[], Sequence[ImageRecord]] = tuple
    #: Told the digest of an exec and the stage that asked for it.
    name_stage: Callable[[str, str], None] = lambda _exec, _stage: None


def named_session() -> bool:
    """The environment names a session, as within ``dagger run`` or ``ci engine run``."""
    return bool(os.environ.get("DAGGER_SESSION_PORT") and os.environ.get("DAGGER_SESSION_TOKEN"))


@asynccontextmanager
async def connected(
    settings: Settings,
    feed: Feed,
    *,
    source: Path,
    workdir: Path,
    stepping_aside: Callable[[], AbstractContextManager[None]],
) -> AsyncIterator[Connection]:
    """Within the context ``dagger.dag`` is connected.

    Args:
        settings: Of this machine.
        feed: Gets what the embedded engine does.
        source: Folder of the repository, whose ci.toml may limit what commands use.
        workdir: Where relative host paths start.
        stepping_aside: Leaves the terminal to a command while what it gives lasts.

    Raises:
        CiError: the embedded engine is not installed, or cannot work on this machine.
    """
    if named_session():
        async with dagger.connection():
            yield Connection(engine=EngineRecord(kind="dagger", version=await dagger.dag.version()))
        return
    try:
        from ci import embedded  # noqa: PLC0415 - needs an extra, which may not be installed
        from ci.engine.session import API_VERSION  # noqa: PLC0415 - as above
        from ci.engine.terminal import own_terminal  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        raise CiError(
            "the embedded engine",
            got=f"no module {error.name}",
            hint="pip install 'towpath[local]', or run within `dagger run`",
        ) from None

    @contextmanager
    def terminal() -> Iterator[int]:
        with own_terminal() as fd, stepping_aside():
            yield fd

    async with embedded.session(
        settings, source=source, workdir=workdir, on_event=feed, terminal=terminal
    ) as session:
        os.environ.update(session.environment())
        try:
            async with dagger.connection():
                yield Connection(
                    engine=EngineRecord(
                        kind="embedded", version=API_VERSION, sandbox=session.sandbox_mode().value
                    ),
                    images=lambda: [
                        ImageRecord(
                            reference=use.reference, digest=use.digest, stand_in=use.stand_in
                        )
                        for use in session.provenance()
                    ],
                    name_stage=session.name_stage,
                )
        finally:
            for variable in session.environment():
                os.environ.pop(variable, None)
