"""Results of execs as records of the store: small output inline, large output as blobs."""

from __future__ import annotations

import hashlib
from typing import Any

from ci.engine.solver.execs import Finished
from ci.engine.store.layers import Snapshot
from ci.engine.store.records import Record
from ci.engine.store.store import Store, StoreError
from ci.engine.vertices.execution import ExecResult

__all__ = ["Outputs"]

_INLINE = 32 << 10
_AGAIN = "run again: the command is run anew"
_STREAMS = ("stdout", "stderr", "combined")


class Outputs:
    """Writes and reads the records of execs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def record(self, finished: Finished, root: Snapshot, mounts: dict[str, Any]) -> Record:
        """A record of a result. The layers that it names are in the store already."""
        texts = {name: getattr(finished, name) for name in _STREAMS}
        if texts["combined"] == texts["stdout"]:
            del texts["combined"]
        return {
            "exit_code": finished.exit_code,
            "seconds": finished.seconds,
            "layers": list(root),
            "mounts": mounts,
            "output": {name: self._keep(text) for name, text in texts.items()},
        }

    def _keep(self, text: str) -> str | dict[str, list[str]]:
        if len(text) <= _INLINE:
            return text
        content = text.encode("utf-8", "surrogateescape")
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        if self._store.blob(digest) is None:
            folder = self._store.temporary()
            with self._store.guard():
                (folder / "output").write_bytes(content)
                self._store.add_blob(folder / "output", digest)
            folder.rmdir()
        return {"blobs": [digest]}

    def whole(self, record: Record) -> bool:
        """Whether a record is one, and all that it names is there and sound."""
        try:
            int(record["exit_code"]), float(record["seconds"])
            snapshots = [record["layers"], *(m["layers"] for m in record["mounts"].values())]
            blobs = [
                digest
                for kept in record["output"].values()
                if isinstance(kept, dict)
                for digest in kept["blobs"]
            ]
        except (KeyError, TypeError, ValueError, AttributeError):
            return False
        return all(self._store.has_layers(tuple(layers)) for layers in snapshots) and all(
            self._store.blob(digest) is not None for digest in blobs
        )

    @staticmethod
    def is_inline(record: Record) -> bool:
        """Whether ``result`` needs no file, and so no thread."""
        return all(isinstance(kept, str) for kept in record["output"].values())

    def result(self, record: Record) -> ExecResult:
        """A record as a result, its output read."""
        output = {name: self._text(kept) for name, kept in record["output"].items()}
        return ExecResult(
            exit_code=record["exit_code"],
            stdout=output["stdout"],
            stderr=output["stderr"],
            combined=output.get("combined", output["stdout"]),
            cached=bool(record.get("cached", False)),
            seconds=record["seconds"],
        )

    def _text(self, kept: str | dict[str, list[str]]) -> str:
        if isinstance(kept, str):
            return kept
        path = self._store.blob(kept["blobs"][0])
        if path is None:
            raise StoreError("output of a command", got="it went while it was used", hint=_AGAIN)
        return path.read_text("utf-8", "surrogateescape")
