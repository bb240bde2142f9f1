"""Why a command ran again: each kind of change is named, and no secret is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ci.engine.solver.secrets import Secrets
from ci.engine.solver.solver import Solver
from ci.engine.store.prune import prune
from ci.engine.store.store import Store
from ci.engine.trees.delta import Delta
from ci.engine.vertices.vertex import (
    BindMount,
    Copy,
    CopySource,
    DirectoryMount,
    DirectoryRef,
    DockerCopy,
    Exec,
    ExecMountOutput,
    ExecRootOutput,
    HostDirectory,
    ImageRoot,
    NewFile,
    Patterns,
    Scratch,
    SecretMount,
)
from ci.engine.why.compare import Cause, explain
from ci.engine.why.describe import describe
from ci.engine.why.files import changed_files
from ci.engine.why.history import History
from ci.engine.why.step import Input, Step, Steps
from ci.engine.why.telling import tell
from ci.errors import CiError
from tests.engine.core.conftest import PLAIN, sh

SALT = b"s" * 32


async def ran(store: Store, *execs: Exec, secrets: Secrets | None = None, stage: str = "") -> Steps:
    """A session that runs these, and what it leaves."""
    async with Solver(store, host=PLAIN, secrets=secrets) as solver:
        for exec_ in execs:
            try:
                await solver.run(exec_)
            except CiError:
                continue
        stages = {exec_.digest: stage for exec_ in execs}
        run = await describe(solver, salt=SALT, scrub=lambda text: text, stages=stages)
    History(store, "/here").add(run)
    return run


def told(store: Store, wanted: str = "") -> str:
    """What a user reads, without the line of times."""
    runs = History(store, "/here").runs()
    text = tell(
        explain(runs[0], runs[1:]), lambda old, new: changed_files(store, old, new), wanted=wanted
    )
    return text.partition("\n\nCompared with")[0]


async def test_a_changed_file_of_a_mounted_folder_is_named(
    store: Store, image: ImageRoot, tmp_path: Path
) -> None:
    folder = tmp_path / "src"
    (folder / "sub").mkdir(parents=True)
    for name in ("same", "changed", "removed", "sub/deep"):
        (folder / name).write_text(name)

    def build() -> Exec:
        source = DirectoryRef(tree=HostDirectory(path=str(folder)))
        return sh(image, "ls /src", mounts=(DirectoryMount(path="/src", source=source),))

    await ran(store, build())
    (folder / "changed").write_text("x")
    (folder / "sub/new").write_text("x")
    (folder / "removed").unlink()
    await ran(store, build())
    assert told(store) == (
        f"The one command ran.\n\nls /src\n  mount /src (from {folder}):\n"
        "    modified  changed\n    added     sub/new\n    removed   removed"
    )


async def test_only_files_that_were_asked_for_are_named(
    store: Store, image: ImageRoot, tmp_path: Path
) -> None:
    folder = tmp_path / "src"
    folder.mkdir()

    def build() -> Exec:
        source = DirectoryRef(tree=HostDirectory(path=str(folder)))
        only = Patterns(exclude=("*.log",))
        return sh(Copy(tree=image, path="/app", source=source, patterns=only), "ls /app")

    (folder / "code").write_text("1")
    (folder / "a.log").write_text("1")
    await ran(store, build())
    (folder / "code").write_text("2")
    (folder / "a.log").write_text("2")
    await ran(store, build())
    assert "modified  code" in told(store)
    assert "a.log" not in told(store)


async def test_each_input_of_an_exec_that_changes_is_named(store: Store, image: ImageRoot) -> None:
    base = sh(image, "true", env=(("A", "1"), ("B", "1")), user="app")
    await ran(store, base)
    variants = {
        "command: has other words\n    - true\n    + echo": replace(
            base, args=("sh", "-c", "echo")
        ),
        "variable A: has another value": replace(base, env=(("A", "2"), ("B", "1"))),
        "variable B: is there no more": replace(base, env=(("A", "1"),)),
        "variable C: is new": replace(base, env=(("A", "1"), ("B", "1"), ("C", "1"))),
        "user: app is now root": replace(base, user="root"),
        "workdir: / is now /tmp": replace(base, workdir="/tmp"),
        "standard input: is new": replace(base, stdin="x"),
        "init process left out: is new": replace(base, no_init=True),
        "network left out: is new": replace(base, offline=True),
        "new file /f: is new": replace(base, root=NewFile(tree=image, path="/f", contents=b"")),
    }
    for line, variant in variants.items():
        await ran(store, base)
        await ran(store, variant)
        assert told(store).split("\n\n")[1].partition("\n")[2].strip() == line


async def test_a_new_value_of_a_secret_is_told_of_and_no_value_is_kept(
    store: Store, image: ImageRoot
) -> None:
    for value in ("first-value", "second-value"):
        secrets = Secrets(SALT, environ={})
        reference = secrets.set("TOKEN", value)
        mount = SecretMount(path="/run/key", secret=reference)
        exec_ = sh(image, "true", secret_env=(("TOKEN", reference),), mounts=(mount,))
        await ran(store, exec_, secrets=secrets)
    assert "secret TOKEN: has another value" in told(store)
    assert "secret /run/key: has another value (TOKEN)" in told(store)
    kept = b"".join(path.read_bytes() for path in store.records())
    assert b"first-value" not in kept
    assert b"second-value" not in kept
    assert reference.name.rpartition("@")[2].encode() not in kept


async def test_what_a_step_before_made_is_named_with_that_step(
    store: Store, image: ImageRoot
) -> None:
    def chain(text: str) -> tuple[Exec, Exec, Exec]:
        mount = DirectoryMount(path="/out", source=DirectoryRef(tree=Scratch()))
        first = sh(image, f"echo {text} > /out/made", mounts=(mount,))
        made = DirectoryRef(tree=ExecMountOutput(exec=first, path="/out"))
        second = sh(Copy(tree=image, path="/got", source=made), "cat /got/made")
        return first, second, sh(ExecRootOutput(exec=second), "ls")

    await ran(store, *chain("one"))
    await ran(store, *chain("two"))
    text = told(store)
    assert "copy to /got (made by: echo two > /out/made):\n    modified  made" in text
    assert "the step before it ran again: cat /got/made" in text
    # Whoever asks for the last one is told of the first, too.
    assert told(store, "ls") == text


async def test_without_a_change_it_is_said_why_the_store_has_no_result(
    store: Store, image: ImageRoot
) -> None:
    await ran(store, sh(image, "exit 3"))
    await ran(store, sh(image, "exit 3"))
    assert "it failed the last time" in told(store)
    await ran(store, sh(image, "true"))
    store.drop("exec", History(store, "/here").runs()[0].steps[0].key)
    await ran(store, sh(image, "true"))
    assert "its result is in the store no more" in told(store)
    await ran(store, sh(image, "true"))
    assert told(store) == "The one command of the last run came from the store."
    assert "did not run: its result was in the store" in told(store, "true")


async def test_files_that_the_store_has_no_more_are_told_of_as_that(
    store: Store, image: ImageRoot, tmp_path: Path
) -> None:
    folder = tmp_path / "src"
    folder.mkdir()

    def build() -> Exec:
        source = DirectoryRef(tree=HostDirectory(path=str(folder)))
        return sh(image, "ls /src", mounts=(DirectoryMount(path="/src", source=source),))

    (folder / "code").write_text("1")
    first = await ran(store, build())
    (folder / "code").write_text("2")
    await ran(store, build())
    (layer,) = first.steps[0].by_name()["mount /src"].layers
    store.layer_folder.remove(layer)
    assert "what they were is in the store no more" in told(store)


async def test_what_is_kept_keeps_no_layer_alive_and_few_runs(
    store: Store, image: ImageRoot, tmp_path: Path
) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    for number in range(7):
        (folder / "code").write_text(str(number))
        source = DirectoryRef(tree=HostDirectory(path=str(folder)))
        await ran(store, sh(Copy(tree=image, path="/src", source=source), "true"))
    assert len(History(store, "/here").runs()) == 4
    with Store(store.root.parent) as other:
        for path in other.records():
            if path.parts[-3] not in {"run", "runs"}:
                path.unlink()
    root = store.root.parent
    store.close()
    with Store(root) as other:
        prune(other)
        assert other.layers() == []
        assert len(History(other, "/here").runs()) == 4


def test_runs_of_other_folders_and_shapes_do_not_count(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        History(store, "/there").add(Steps(at=1.0, steps=()))
        assert History(store, "/here").runs() == []
        store.put("runs", "/here", {"last": 1})
        store.put("run", "/here\x001", {"at": 1.0, "steps": [{"of": "another shape"}]})
        assert History(store, "/here").runs() == []


# -- comparing, without an engine ----------------------------------------------------------------


def step(name: str, stage: str = "", *, key: str = "", cached: bool = False, **inputs: str) -> Step:
    found = tuple(Input(name=label, digest=digest) for label, digest in inputs.items())
    return Step(
        key=key or f"{name}{inputs}", command=(name,), inputs=found, cached=cached, exit_code=0,
        kept=True, stage=stage,
    )  # fmt: skip


def run(*steps: Step, at: float = 0.0) -> Steps:
    return Steps(at=at, steps=steps)


def test_a_step_is_compared_with_the_same_command_of_the_newest_run_that_has_it() -> None:
    (answer,) = explain(
        run(step("b", x="3")), [run(step("c", x="3"), at=3), run(step("b", x="2"), at=2)]
    )
    assert answer.cause is Cause.CHANGED
    assert answer.at == 2
    assert [change.name for change in answer.changes] == ["x"]


def test_another_command_is_a_successor_where_most_inputs_are_the_same() -> None:
    earlier = [run(step("old", x="1", y="1", command="1"))]
    (answer,) = explain(run(step("new", x="1", y="1", command="2")), earlier)
    assert [change.name for change in answer.changes] == ["command"]
    (answer,) = explain(run(step("new", x="2", y="2", command="2")), earlier)
    assert answer.cause is Cause.NEW


def test_two_steps_are_not_compared_with_the_same_one() -> None:
    answers = explain(run(step("a", x="2"), step("a", x="3")), [run(step("a", x="1"))])
    assert [answer.cause for answer in answers] == [Cause.CHANGED, Cause.NEW]


@pytest.mark.parametrize(("wanted", "shown"), [("lint", ["a"]), ("b --x", ["b --x"]), ("no", [])])
def test_a_stage_or_a_part_of_a_command_chooses(wanted: str, shown: list[str]) -> None:
    answers = explain(run(step("a", "lint"), step("b --x", "test"), step("c", cached=True)), [])
    text = tell(answers, lambda old, new: Delta(), wanted=wanted)
    assert text.startswith("2 of 3 commands ran; 1 came from the store.")
    assert [command for command in ("a", "b --x", "c") if f": {command!r}" in text
            or f": {command}\n" in text or f": '{command}'\n" in text] == shown  # fmt: skip
    assert ("No command of the last run" in text) is (not shown)


async def test_files_that_a_dockerfile_copies_or_binds_are_named(store, image, tmp_path):
    def exec_() -> Exec:
        context = DirectoryRef(tree=HostDirectory(path=str(tmp_path / "src")))
        sources = (CopySource(source=context, path="/used"),)
        made = DockerCopy(tree=image, destination="/d/", sources=sources)
        bound = DirectoryRef(tree=context.tree, path="/bound")
        return sh(made, "true", mounts=(BindMount(path="/b", source=bound),))

    for name in ("used", "bound", "other"):
        (tmp_path / "src" / name).mkdir(parents=True)
        (tmp_path / "src" / name / "f").write_text("1")
    await ran(store, exec_())
    (tmp_path / "src/other/f").write_text("2")
    (run,) = (await ran(store, exec_())).steps
    assert run.cached
    for name, told_as in (("used", "copy to /d/"), ("bound", "mount /b")):
        (tmp_path / "src" / name / "f").write_text("new")
        await ran(store, exec_())
        assert told_as in told(store)
