"""Programs of unpacked images: they get what they are given, and nothing of them is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ci.engine.bootstrap.catalogue import with_stand_ins
from ci.engine.images import archive
from ci.engine.images.sources import Sources
from ci.engine.runtime import Program, Runtime
from ci.engine.sandbox.argv import Mode
from ci.engine.store.store import Store
from ci.errors import CiError
from ci.settings import Settings

MODES = [Mode.ROOT, Mode.ONE_UID] if os.geteuid() == 0 else [Mode.ONE_UID]


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Busybox-like: the host's own shell and a few programs, with their libraries."""
    root = tmp_path_factory.mktemp("runtime") / "rootfs"
    for name in ("sh", "cat", "id", "env", "sleep", "touch", "ls", "kill"):
        path = Path(str(shutil.which(name))).resolve()
        _copy(root, path, Path("/bin") / name)
        listed = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False)
        for word in listed.stdout.split():
            if word.startswith("/"):
                _copy(root, Path(word).resolve(), Path(word))
    (root / "etc").mkdir()
    accounts = ["root:x:0:0::/root:/bin/sh", "app:x:1234:1234::/home/app:/bin/sh", ""]
    (root / "etc/passwd").write_text("\n".join(accounts))
    (root / "etc/group").write_text("root:x:0:\napp:x:1234:\n")
    (root / "srv").mkdir()
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    return root


def _copy(root: Path, source: Path, place: Path) -> None:
    target = root / str(place).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


@pytest.fixture(params=MODES)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return Runtime(mode=request.param)


CONFIG: Mapping[str, Any] = {
    "config": {
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["echo default"],
        "Env": ["PATH=/bin", "WHO=image", "ONLY=image"],
        "User": "app",
        "WorkingDir": "/srv/made",
    }
}


def command(
    runtime: Runtime,
    rootfs: Path,
    script: str = "",
    *,
    env: Mapping[str, str] | None = None,
    binds: Mapping[str, Path] | None = None,
    config: Mapping[str, Any] = CONFIG,
) -> list[str]:
    args = [script] if script else []
    return runtime.argv(rootfs, config, env=env or {}, binds=binds or {}, args=args)


def run(
    argv: Sequence[str], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, env=dict(env or {}), capture_output=True, text=True, timeout=30, check=False
    )


def test_the_image_says_what_runs_as_whom_and_where(runtime: Runtime, rootfs: Path) -> None:
    assert run(command(runtime, rootfs)).stdout == "default\n"
    said = run(command(runtime, rootfs, "id -u; id -g; pwd; echo $WHO $HOME")).stdout
    assert said.split() == ["1234", "1234", "/srv/made", "image", "/home/app"]


def test_given_variables_win_and_are_not_on_the_command_line(
    runtime: Runtime, rootfs: Path
) -> None:
    env = {"WHO": "given", "TOKEN": "s3cr3t", "LEAK": "x"}
    argv = command(runtime, rootfs, "echo $WHO $ONLY $TOKEN; env", env=env)
    assert "s3cr3t" not in " ".join(argv)
    assert "given" not in " ".join(argv)
    said = run(argv, {**env, "STRAY": "not given", "PYTHONPATH": "/nowhere"})
    assert said.stdout.startswith("given image s3cr3t\n")
    assert "STRAY" not in said.stdout


def test_what_is_written_is_lost_but_for_the_binds(
    runtime: Runtime, rootfs: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    before = sorted(path.relative_to(rootfs) for path in rootfs.rglob("*"))
    script = "touch /tmp/lost /data/kept && ls /tmp /data"
    said = run(command(runtime, rootfs, script, binds={"/data": data}))
    assert said.stderr == ""
    assert "lost" in said.stdout
    assert [path.name for path in data.iterdir()] == ["kept"]
    assert sorted(path.relative_to(rootfs) for path in rootfs.rglob("*")) == before


@pytest.mark.parametrize("code", [0, 1, 42])
def test_the_command_ends_as_the_program_does(runtime: Runtime, rootfs: Path, code: int) -> None:
    assert run(command(runtime, rootfs, f"exit {code}")).returncode == code


def test_both_outputs_come_through(runtime: Runtime, rootfs: Path) -> None:
    said = run(command(runtime, rootfs, "echo out; echo err >&2"))
    assert (said.stdout, said.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_reach_the_program(runtime: Runtime, rootfs: Path, number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 7' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        command(runtime, rootfs, script), env={}, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "got\n"
        assert process.wait(60) == 7


def test_a_signal_that_comes_too_early_is_not_lost(runtime: Runtime, rootfs: Path) -> None:
    with subprocess.Popen(command(runtime, rootfs, "exec sleep 60"), env={}) as process:
        wait_until(lambda: handles_signals(process.pid))
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM


def handles_signals(pid: int) -> bool:
    caught = next(
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("SigCgt")
    )
    return bool(int(caught.split()[1], 16) & 1 << signal.SIGTERM - 1)


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def test_when_the_command_is_killed_so_is_the_program(
    runtime: Runtime, rootfs: Path, tmp_path: Path
) -> None:
    beat = tmp_path / "beat"
    beat.mkdir()
    beat.chmod(0o777)
    script = f": {tmp_path}; while :; do touch /beat/$((n=n+1)); sleep 0.02; done"
    argv = command(runtime, rootfs, script, binds={"/beat": beat})
    with subprocess.Popen(argv, env={}) as process:
        wait_until(lambda: len(list(beat.iterdir())) > 3)
        assert running(script)
        process.kill()
        process.wait(60)
    wait_until(lambda: not running(script))


def running(word: str) -> bool:
    """Whether a process has that in its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False


def test_an_image_without_a_program_is_refused(rootfs: Path) -> None:
    with pytest.raises(CiError, match="neither entrypoint nor command"):
        Runtime().argv(rootfs, {"config": {}}, env={}, binds={}, args=[])


def test_a_user_that_is_not_there_is_named(runtime: Runtime, rootfs: Path) -> None:
    config = {"config": {"Cmd": ["true"], "User": "nobody-here"}}
    said = run(command(runtime, rootfs, config=config))
    assert said.returncode == 125
    assert "nobody-here" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_program_survives_its_way_through_a_command_line() -> None:
    program = Program(
        rootfs="/r", args=("a", "b c"), env=(("A", "1"),), passed=("B",), binds=(("/d", "/h"),)
    )
    assert Program.load(program.dump()) == program


# -- PostgreSQL, as an environment of the local delivery runs it -----------------------------


@pytest.fixture(scope="module")
def postgres_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import anyio

    target = tmp_path_factory.mktemp("postgres") / "postgres.tar"
    with Store(Settings.from_environment().cache) as store:
        images = with_stand_ins(store, Sources(order=("store", "bootstrap")))
        image = anyio.run(images.resolve, "postgres:15-bookworm")
        layers = [store.layer_path(layer) for layer in image.snapshot]
        archive.write(
            target, platforms=[(layers, image.config)], compression="uncompressed", store=store
        )
    return target


@pytest.fixture(scope="module", params=MODES)
def postgres(
    request: pytest.FixtureRequest, postgres_archive: Path
) -> Iterator[tuple[Runtime, Path, dict[str, Any]]]:
    runtime = Runtime(mode=request.param)
    rootfs = postgres_archive.with_name(f"rootfs-{request.param}")
    yield runtime, rootfs, runtime.unpack(postgres_archive, rootfs)
    shutil.rmtree(rootfs)


class Server:
    """PostgreSQL from the image, on a port of this machine."""

    def __init__(
        self, postgres: tuple[Runtime, Path, dict[str, Any]], data: Path, init: Path
    ) -> None:
        self._runtime, self._rootfs, self._config = postgres
        self._env = {"POSTGRES_PASSWORD": "s3cr3t", "POSTGRES_DB": "app", "PGPORT": free_port()}
        binds = {"/var/lib/postgresql/data": data, "/docker-entrypoint-initdb.d": init}
        argv = self._runtime.argv(self._rootfs, self._config, env=self._env, binds=binds, args=[])
        self._process = subprocess.Popen(
            argv, env=self._env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._ready, 60)

    def _ready(self) -> bool:
        assert self._process.poll() is None, "PostgreSQL ended"
        return self.query("SELECT 1") == "1"

    def query(self, sql: str) -> str:
        env = {"PGPASSWORD": "s3cr3t", "PGPORT": self._env["PGPORT"]}
        args = ["psql", "-h", "127.0.0.1", "-U", "postgres", "-d", "app", "-Atqc", sql]
        argv = self._runtime.argv(self._rootfs, self._config, env=env, binds={}, args=args)
        return run(argv, env).stdout.strip()

    def stop(self) -> int:
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(60)


def free_port() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_postgres_initialises_answers_stops_and_keeps_its_data(
    postgres: tuple[Runtime, Path, dict[str, Any]], tmp_path: Path
) -> None:
    data, init = tmp_path / "data", tmp_path / "init"
    data.mkdir()
    init.mkdir()
    (init / "1.sql").write_text("CREATE TABLE made (by text); INSERT INTO made VALUES ('sql');")
    (init / "2.sh").write_text("psql -d app -c \"INSERT INTO made VALUES ('$POSTGRES_DB')\"")
    server = Server(postgres, data, init)
    try:
        assert server.query("SELECT string_agg(by, ',' ORDER BY by DESC) FROM made") == "sql,app"
        assert server.query("SHOW server_version").startswith("15.")
    finally:
        assert server.stop() == 0
    again = Server(postgres, data, init)
    try:
        assert again.query("SELECT count(*) FROM made") == "2"
    finally:
        assert again.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_postgres_without_a_password_says_what_to_set(
    postgres: tuple[Runtime, Path, dict[str, Any]],
) -> None:
    runtime, rootfs, config = postgres
    said = run(runtime.argv(rootfs, config, env={}, binds={}, args=[]))
    assert said.returncode == 1
    assert "POSTGRES_PASSWORD" in said.stderr
