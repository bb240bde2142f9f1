"""The journal: where the rollout of an environment stands, on disk before it goes on."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import anyio.to_thread
from pydantic import ValidationError

from ci.deploy.rollout import Rollout
from ci.errors import CiError

__all__ = ["FileJournal", "write_whole"]


class FileJournal:
    """Keeps the last state of a rollout in a file, which is whole at any instant."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def write(self, rollout: Rollout) -> None:
        """Return when the state is on the disk."""
        text = rollout.model_dump_json()
        await anyio.to_thread.run_sync(write_whole, self.path, text)

    def read(self) -> Rollout | None:
        """The last state written; None before the first.

        Raises:
            CiError: the file was changed by someone else and says nothing now.
        """
        try:
            return Rollout.model_validate_json(self.path.read_text())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise CiError(
                f"{self.path}: journal not read",
                got=error.errors()[0]["msg"],
                hint="look which release serves, then remove the file",
            ) from error


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file's content: after a crash it holds the old text or the new, never a part.

    Raises:
        CiError: it cannot be written; the old content is still there.
    """
    try:
        _write_whole(path, text, mode)
    except OSError as error:
        raise CiError(
            f"{path}: not written",
            got=error.strerror or str(error),
            hint="environments are kept in the folder that TOWPATH_STATE names",
        ) from error


def _write_whole(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
