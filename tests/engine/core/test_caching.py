"""What is run again and what is not, by the solver's counters."""

from __future__ import annotations

import os
import time
from pathlib import Path

import anyio
import pytest

from ci.engine.solver.solver import Counters, Solver
from ci.engine.store.store import Store
from ci.engine.vertices.execution import ExecFailed
from ci.engine.vertices.vertex import (
    Copy,
    DirectoryMount,
    DirectoryRef,
    Exec,
    ExecMountOutput,
    ExecRootOutput,
    Expect,
    HostDirectory,
    ImageRoot,
    NewFile,
    Patterns,
    Scratch,
    Tree,
    Vertex,
)
from tests.engine.core.conftest import PLAIN, add_image, sh


async def run_anew(store: Store, *execs: Exec) -> Counters:
    """What a new session does for these execs."""
    async with Solver(store, host=PLAIN) as solver:
        for exec_ in execs:
            await solver.run(exec_)
        return solver.counters


async def test_a_second_session_runs_nothing(store: Store, image: ImageRoot) -> None:
    one = sh(image, "echo $RANDOM > /a")
    two = sh(ExecRootOutput(exec=one), "cat /a; echo more > /b")
    assert (await run_anew(store, two)).execs == 2
    again = await run_anew(store, two)
    assert (again.execs, again.hits) == (0, 1)


async def test_every_part_of_an_exec_is_part_of_its_key(store: Store, image: ImageRoot) -> None:
    variants = [
        sh(image, "true"),
        sh(image, "true "),
        sh(image, "true", env=(("A", "1"),)),
        sh(image, "true", env=(("A", "2"),)),
        sh(image, "true", workdir="/tmp"),
        sh(image, "true", user="app"),
        sh(image, "true", stdin="x"),
        sh(image, "true", redirect_stdout="/o"),
        sh(image, "true", redirect_stderr="/o"),
        sh(image, "true", redirect_stdin="/etc/passwd"),
        sh(image, "true", expect=Expect.ANY),
        sh(image, "true", insecure_root_capabilities=True),
        sh(NewFile(tree=image, path="/f", contents=b""), "true"),
    ]
    assert (await run_anew(store, *variants)).execs == len(variants)
    assert (await run_anew(store, *variants)).hits == len(variants)


async def test_volatile_variables_are_seen_and_are_no_part_of_the_key(
    store: Store, image: ImageRoot
) -> None:
    def say(value: str) -> Exec:
        return sh(image, "echo $V", volatile_env=(("V", value),))

    assert (await run_anew(store, say("one"))).execs == 1
    async with Solver(store, host=PLAIN) as solver:
        assert (await solver.run(say("two"))).stdout == "one\n"


async def test_identical_execs_in_flight_run_once(store: Store, image: ImageRoot) -> None:
    async with Solver(store, host=PLAIN) as solver:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(solver.run, sh(image, "sleep 0.1"))
        assert solver.counters.execs == 1


async def test_one_who_gives_up_does_not_stop_the_work_of_another(
    solver: Solver, image: ImageRoot
) -> None:
    exec_ = sh(image, "sleep 0.4; echo done")

    async def impatient() -> None:
        with anyio.move_on_after(0.1):
            await solver.run(exec_)

    async with anyio.create_task_group() as group:
        group.start_soon(impatient)
        assert (await solver.run(exec_)).stdout == "done\n"
    assert solver.counters.execs == 1


async def test_a_failure_is_not_kept_unless_it_is_expected(store: Store, image: ImageRoot) -> None:
    for execs in (1, 2):
        async with Solver(store, host=PLAIN) as solver:
            for _ in range(execs):
                with pytest.raises(ExecFailed):
                    await solver.run(sh(image, "exit 4"))
            assert solver.counters.execs == execs
    allowed = sh(image, "exit 4", expect=Expect.ANY)
    assert (await run_anew(store, allowed)).execs == 1
    assert (await run_anew(store, allowed)).hits == 1


async def test_an_unchanged_result_cuts_the_rebuild_off(
    store: Store, image: ImageRoot, tmp_path: Path
) -> None:
    """A comment changes, so the first exec runs; its product is the same: the second does not."""
    folder = tmp_path / "src"
    folder.mkdir()

    def chain() -> tuple[Exec, Exec]:
        sources = HostDirectory(path=str(folder))
        build = sh(
            image, "grep -v '^#' /src/code > /src/product; rm /src/code",
            mounts=(DirectoryMount(path="/src", source=DirectoryRef(tree=sources)),),
        )  # fmt: skip
        product = DirectoryRef(tree=ExecMountOutput(exec=build, path="/src"))
        return build, sh(Copy(tree=image, path="/app", source=product), "cat /app/product")

    (folder / "code").write_text("# one\nwork\n")
    assert (await run_anew(store, chain()[1])).execs == 2
    (folder / "code").write_text("# two\nwork\n")
    assert (await run_anew(store, chain()[1])).execs == 1
    (folder / "code").write_text("other\n")
    assert (await run_anew(store, chain()[1])).execs == 2


async def test_times_and_unselected_files_of_the_host_are_no_part_of_the_key(
    store: Store, image: ImageRoot, tmp_path: Path
) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "kept").write_text("x")
    (folder / "log").write_text("1")

    def read() -> Exec:
        tree = HostDirectory(path=str(folder), patterns=Patterns(exclude=("log",)))
        mount = DirectoryMount(path="/src", source=DirectoryRef(tree=tree))
        return sh(image, "ls /src", mounts=(mount,))

    assert (await run_anew(store, read())).execs == 1
    (folder / "log").write_text("2")
    os.utime(folder / "kept", (1, 1))
    assert (await run_anew(store, read())).execs == 0
    (folder / "kept").chmod(0o755)
    assert (await run_anew(store, read())).execs == 1


async def test_a_record_whose_layers_are_gone_is_made_again(store: Store, image: ImageRoot) -> None:
    exec_ = sh(image, "echo x > /made")
    async with Solver(store, host=PLAIN) as solver:
        layer = (await solver.snapshot(ExecRootOutput(exec=exec_)))[-1]
    store.discard(store.layer_path(layer))
    async with Solver(store, host=PLAIN) as solver:
        await solver.snapshot(ExecRootOutput(exec=exec_))
        assert solver.counters.execs == 1


async def test_a_record_that_is_damaged_is_made_again(store: Store, image: ImageRoot) -> None:
    exec_ = sh(image, "echo x")
    await run_anew(store, exec_)
    (record,) = [path for path in store.records() if "exec" in path.parts]
    record.write_text('{"exit_code": 0, "layers":')
    assert (await run_anew(store, exec_)).execs == 1
    record.write_text("{}")
    assert (await run_anew(store, exec_)).execs == 1
    assert (await run_anew(store, exec_)).hits == 1


async def test_long_chains_are_evaluated_and_stay_mountable(store: Store, image: ImageRoot) -> None:
    tree: Tree = image
    for number in range(150):
        tree = NewFile(tree=tree, path=f"/files/{number % 140}", contents=b"%d" % number)
    async with Solver(store, host=PLAIN) as solver:
        result = await solver.run(sh(tree, "ls /files | wc -l; cat /files/3 /files/100"))
        assert result.stdout == "140\n143100"
        assert len(await solver.snapshot(tree)) < 100


async def test_squashed_layers_keep_what_they_hide(store: Store, image: ImageRoot) -> None:
    tree: Tree = image
    for number in range(60):
        script = f"""
            mkdir -p /d/{number}; echo {number} > /d/{number}/f; ln -s {number} /d/l{number}
            rm -rf /d/{number - 2} /d/l{number - 2} /etc/group
            rm -rf /again; mkdir /again; echo > /again/{number}"""
        tree = ExecRootOutput(exec=sh(tree, script))
    async with Solver(store, host=PLAIN) as solver:
        snapshot = await solver.snapshot(tree)
        room = len(snapshot)
        result = await solver.run(sh(tree, "echo $(ls /d /again /etc); cat /d/59/f"))
    assert room < 61
    assert result.stdout == "/again: 59 /d: 58 59 l58 l59 /etc: hosts passwd resolv.conf\n59\n"


def test_keys_do_not_depend_on_deep_recursion() -> None:
    tree: Tree = Scratch()
    for number in range(5_000):
        tree = NewFile(tree=tree, path=f"/{number}", contents=b"")
    assert isinstance(tree, Vertex)
    assert len(tree.digest) == 64


async def test_an_unchanged_folder_of_the_host_is_not_read_again(
    store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    for number in range(20):
        (folder / str(number)).write_text(str(number))
    settle(folder)
    layers = []
    for _ in range(2):
        async with Solver(store, host=PLAIN) as solver:
            layers.append(await solver.snapshot(HostDirectory(path=str(folder))))
    assert layers[0] == layers[1]
    (folder / "7").write_text("new")
    async with Solver(store, host=PLAIN) as solver:
        (layer,) = await solver.snapshot(HostDirectory(path=str(folder)))
    first, now = store.layer_path(layers[0][0]), store.layer_path(layer)
    assert (now / "7").read_text() == "new"
    assert (now / "8").stat().st_ino == (first / "8").stat().st_ino
    assert (now / "8").stat().st_ino != (folder / "8").stat().st_ino


def settle(folder: Path) -> None:
    """Wait until time stamps are old enough to be trusted."""
    newest = max(path.stat().st_ctime for path in folder.iterdir())
    while time.time() < newest + 0.06:
        time.sleep(0.01)


async def test_the_store_is_not_imported_with_the_folder_that_it_is_in(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "code").write_text("x")
    async with Solver(store, host=PLAIN) as solver:
        tree = HostDirectory(path=str(tmp_path))
        assert "cache/v1/l" not in " ".join(await solver.glob(DirectoryRef(tree=tree), "**"))
        assert await solver.entries(DirectoryRef(tree=tree)) == ["cache/", "code"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files capabilities")
async def test_files_that_differ_in_their_capabilities_alone_differ(
    store: Store, image: ImageRoot, tmp_path: Path
) -> None:
    """As setcap(8) writes them; the namespace that they count in is this machine's affair."""
    net_raw = "00200000000000000000000000000000"
    trees = []
    for name, value in (
        ("none", ""),
        ("net-raw", "01000002" + net_raw),
        ("not-effective", "00000002" + net_raw),
        ("of-a-namespace", "01000003" + net_raw + "e8030000"),
    ):
        (tmp_path / name).mkdir()
        program = tmp_path / name / "ping"
        program.write_text("ping")
        if value:
            os.setxattr(program, "security.capability", bytes.fromhex(value))
        trees.append(DirectoryRef(tree=add_image(store, tmp_path / name, f"sha256:{name}")))
    none, able, sleeping, elsewhere = trees

    async with Solver(store, host=PLAIN) as solver:
        digests = [await solver.content_digest(tree) for tree in trees]
        assert len(set(digests)) == 3
        assert digests[1] == digests[3]
        for tree in (none, able, sleeping):
            mount = DirectoryMount(path="/m", source=tree)
            await solver.run(sh(image, "test -e /m/ping", mounts=(mount,)))
        assert (solver.counters.execs, solver.counters.hits) == (3, 0)
        changed = await solver.compare(none, able, list)
        assert [pair.path for pair in changed] == ["ping"]
        assert await solver.compare(able, elsewhere, list) == []
