"""A run with secrets leaves them nowhere: not in the store, in events, errors, logs or a ``ps``."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import dagger
import pytest

from ci.engine.session import Session
from tests.engine.api.conftest import Client, Events
from tests.engine.core.conftest import fill_rootfs

REGISTRY = "registry.example:5000"


def spellings(value: str) -> list[bytes]:
    """What would give it away. Base64 at other alignments holds the middle one's letters."""
    found = [value.encode(), quote(value, safe="").encode()]
    return found + [base64.b64encode(value.encode()[skip:])[2:-4] for skip in range(3)]


def where(folder: Path, wanted: list[bytes]) -> Iterator[str]:
    """Files, names and extended attributes under a folder that hold one of these."""
    for path in (folder, *folder.rglob("*")):
        found = os.fsencode(path)
        if path.is_symlink():
            found += os.fsencode(path.readlink())
        elif path.is_file():
            found += path.read_bytes()
        for name in os.listxattr(path, follow_symlinks=False):
            found += os.getxattr(path, name, follow_symlinks=False)
        if any(each in found for each in wanted):
            yield str(path)


def in_shared_memory(wanted: list[bytes]) -> list[str]:
    """Files of engines in memory that hold one of these."""
    return [str(path) for path in Path("/dev/shm").glob("towpath-*") if list(where(path, wanted))]


def in_processes(wanted: list[bytes]) -> Iterator[str]:
    """Processes of this machine whose command line holds one of these."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if any(each in line for each in wanted):
            yield line.decode(errors="replace")


@pytest.fixture
def value(tmp_path: Path) -> str:
    """A secret, with what base64, URLs and JSON write in another way."""
    return f'hu"nt&er/2+{uuid.uuid4().hex}'


class WatchedEvents(Events):
    """Looks at the processes whenever something happens, so while a command runs too."""

    def __init__(self, wanted: list[bytes]) -> None:
        super().__init__()
        self._wanted = wanted
        self.seen: list[str] = []

    def __call__(self, event) -> None:
        self.seen += in_processes(self._wanted)
        super().__call__(event)


async def test_a_run_with_secrets_leaves_them_nowhere(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    wanted = spellings(value)
    events = WatchedEvents(wanted)
    cache = tmp_path / "cache"
    (tmp_path / "key").write_text(value)
    (tmp_path / "cache").mkdir()
    async with Session(cache=cache, on_event=events, environ={"TOKEN": value}) as session:
        for name, setting in session.environment().items():
            monkeypatch.setenv(name, setting)
        async with dagger.connection():
            errors, answers = await use_everywhere(dagger.dag, value, tmp_path)
        client = Client(session)
        async with client.http:
            answers.append(str(await client.ask('{secret(uri:"file:///absent"){plaintext}}')))
    told = [repr(event) for event in events] + errors + answers + list(capfd.readouterr())
    assert len(events) > 5
    assert any("***" in each for each in told), "nothing was masked: nothing was printed"
    assert [each for each in told if any(w.decode() in each for w in wanted)] == []
    assert list(where(cache, wanted)) == []
    assert list(where(cache, [b"made\n"])), "what was written was not found either"
    assert events.seen == []
    assert in_shared_memory(wanted) == []


async def use_everywhere(
    dag: dagger.Client, value: str, folder: Path
) -> tuple[list[str], list[str]]:
    """Use a secret in every way; errors and answers that came back."""
    given = dag.set_secret("given", value)
    read = dag.secret("env://TOKEN")
    filed = dag.secret(f"file://{folder}/key")
    (folder / "root").mkdir()
    fill_rootfs(folder / "root", "base64")
    root = dag.host().directory(str(folder / "root"))
    base = await dag.container().with_rootfs(root).sync()
    used = (
        base.with_secret_variable("GIVEN", given)
        .with_secret_variable("READ", read)
        .with_mounted_secret("/run/filed", filed)
        .with_mounted_secret("/run/owned", given, owner="app")
        .with_registry_auth(REGISTRY, "ada", given)
        .with_label("kept", "label")
    )
    printing = """echo "$GIVEN"; cat /run/filed /run/owned >&2; echo "$READ" | base64
        printf 'x%s' "$READ" | base64 -w0; printf 'xy%s' "$READ" | base64 -w 0
        for i in 1 2 3; do printf '%s' "$READ" | dd bs=1 status=none; done"""
    ran = used.with_exec(["sh", "-c", printing])
    answers = [await ran.stdout(), await ran.stderr(), await ran.combined_output()]
    stored = ran.with_exec(["sh", "-c", "echo made > /made"], redirect_stdout="/said")
    answers.append(await stored.as_tarball().id())
    await stored.export(str(folder / "image.tar"))
    assert list(where(folder / "image.tar", spellings(value))) == []
    errors = []
    for failing in (
        used.with_exec(["sh", "-c", f"{printing}; exit 3"]),
        used.with_exec(["/absent"]),
        used.with_user("absent").with_exec(["true"]),
        used.with_mounted_secret("/etc/passwd/x", given).with_exec(["true"]),
    ):
        with pytest.raises(dagger.QueryError) as caught:
            await failing.sync()
        errors += [str(caught.value), repr(vars(caught.value))]
    return errors, answers
