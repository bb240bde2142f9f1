"""``ci engine``: the embedded engine for any program, and its store. It imports no SDK."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import App, Parameter

from ci import store_commands
from ci.settings import Settings

__all__ = ["register"]


def register(app: App) -> None:
    """Add the commands."""
    engine = App(name="engine", help="The embedded engine: use it for any program, look after it.")
    engine.command(_engine_run, name="run")
    store_commands.register(engine)
    app.command(engine)


def _engine_run(
    *command: Annotated[str, Parameter(help="The program.", allow_leading_hyphen=True)],
) -> int:
    """Run a program that uses a Dagger SDK on the embedded engine: `ci engine run -- CMD`."""
    from ci import embedded  # noqa: PLC0415 - an extra, and costly to import
    from ci.engine import command as engine  # noqa: PLC0415 - as above
    from ci.engine.terminal import own_terminal  # noqa: PLC0415 - as above

    settings = Settings.from_environment()

    async def within_session() -> int:
        session = embedded.session(settings, source=Path.cwd(), terminal=own_terminal)
        return await engine.run(command, session)

    return anyio.run(within_session)
