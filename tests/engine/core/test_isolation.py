"""What a command sees of the machine: nothing but what it was given, whoever runs the engine.

Each test runs in every mode that this user has; as root, all of them once more as an ordinary user.
What is right is what Docker's documentation says.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ci.engine.sandbox.argv import Mode
from ci.engine.sandbox.box import Sandbox
from ci.engine.services.network import private_network
from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.vertices.execution import Attachment, ExecResult, Namespaces
from ci.engine.vertices.vertex import (
    CacheMount,
    DirectoryMount,
    DirectoryRef,
    Exec,
    FileRef,
    ImageRoot,
    NewFile,
    SocketMount,
)
from tests.engine.core.conftest import PLAIN, add_image, libraries, sh
from tests.engine.core.test_sandbox import REPOSITORY, SITE, ordinary_python

MODES = [Mode.ROOT, Mode.ONE_UID] if os.geteuid() == 0 else [Mode.ONE_UID]
#: Docker's default set, as /proc writes it.
DOCKER = "00000000a80425fb"

#: A program that tries what no shell command does; the tests add it to the image.
PROBE = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (!strcmp(argv[1], "call")) {
        long result = syscall(atol(argv[2]), argc > 3 ? atol(argv[3]) : -1, -1, -1, -1, -1, -1);
        printf("%s\n", result < 0 ? strerrorname_np(errno) : "done");
    } else if (!strcmp(argv[1], "shm")) {
        printf("%s\n", shmget(atoi(argv[2]), 1, 0) < 0 ? strerrorname_np(errno) : "found");
    } else if (!strcmp(argv[1], "abstract")) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        strcpy(to.sun_path + 1, argv[2]);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        socklen_t size = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(argv[2]);
        int failed = connect(fd, (struct sockaddr *)&to, size);
        printf("%s\n", failed ? strerrorname_np(errno) : "connected");
    } else if (!strcmp(argv[1], "write")) {
        int fd = open(argv[2], O_WRONLY);
        printf("%s\n", fd < 0 ? strerrorname_np(errno) : "open");
        if (fd >= 0) write(fd, "overwritten", 11);
    }
    return 0;
}
"""


@pytest.fixture(scope="session")
def equipped(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small root file system, with the probe."""
    if subprocess.run(["sh", "-c", "command -v cc"], capture_output=True, check=False).returncode:
        pytest.skip("needs a C compiler")
    place = tmp_path_factory.mktemp("equipped")
    subprocess.run(["cp", "-a", f"{rootfs}/.", place], check=True)
    (place / "probe.c").write_text(PROBE)
    command = ["cc", "-D_GNU_SOURCE", "-include", "stddef.h", "-o", "bin/probe", "probe.c"]
    subprocess.run(command, cwd=place, check=True)
    for library in libraries(str(place / "bin/probe")):
        target = place / library.lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(Path(library).read_bytes())
    return place


@pytest.fixture(params=MODES, ids=lambda mode: mode.value)
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


@pytest.fixture
async def solver(store: Store, mode: Mode) -> AsyncIterator[Solver]:
    sandbox = Sandbox(mode=mode)
    async with Solver(store, sandbox=sandbox, host=PLAIN) as solver:
        yield solver
    sandbox.close()


@pytest.fixture
def image(store: Store, equipped: Path) -> ImageRoot:
    return add_image(store, equipped, "sha256:equipped")


async def said(solver: Solver, exec_: Exec) -> str:
    result: ExecResult = await solver.run(exec_)
    return result.stdout


# -- the file system -----------------------------------------------------------------------------


async def test_no_file_of_the_host_is_there(solver: Solver, image: ImageRoot, tmp_path) -> None:
    mark = uuid.uuid4().hex
    (tmp_path / mark).write_text("")
    found = await said(solver, sh(image, "find / -xdev -name '*" + mark + "*'; ls -A /tmp"))
    assert found == ""
    found = await said(solver, sh(image, f"ls {tmp_path} 2>&1 || true"))
    assert "No such file" in found


async def test_file_systems_are_the_containers_own(solver: Solver, image: ImageRoot) -> None:
    mounts = await said(solver, sh(image, "cat /proc/self/mounts"))
    targets = {line.split()[1] for line in mounts.splitlines()}
    outside = {t for t in targets if not t.startswith(("/proc", "/sys", "/dev")) and t != "/"}
    assert outside == set()


async def test_devices_are_dockers(solver: Solver, image: ImageRoot) -> None:
    script = """ls /dev; for name in null zero full random urandom tty; do
        stat -c '%n %a %t:%T' /dev/$name; done; stat -f -c %T /dev/shm /dev/mqueue /dev/pts"""
    *found, shm, mqueue, pts = (await said(solver, sh(image, script))).splitlines()
    assert found == [
        "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero", "/dev/null 666 1:3", "/dev/zero 666 1:5",
        "/dev/full 666 1:7", "/dev/random 666 1:8", "/dev/urandom 666 1:9", "/dev/tty 666 5:0",
    ]  # fmt: skip
    assert (shm, pts) == ("tmpfs", "devpts")
    assert "mqueue" in mqueue or "UNKNOWN" in mqueue


@pytest.mark.parametrize("mode", MODES[:-1], indirect=True)  # only root can make device nodes
async def test_a_device_node_opens_no_device(solver: Solver, image: ImageRoot) -> None:
    """A disk's number on a file that the image, a mount or the command itself brought."""
    script = """
        for place in / /dev/ /dev/shm/ /m/ /c/ /tmp/; do
            mknod ${place}disk c 1 3 || echo cannot make
            { head -c 1 ${place}disk || echo cannot open; } 2>/dev/null
        done"""
    store = solver.store
    folder = store.temporary()
    os.mknod(folder / "node", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    layer = store.add_layer(folder)
    store.put("image", "sha256:node", {"layers": [layer], "config": {}, "stand_in": ""})
    brought = DirectoryRef(tree=ImageRoot(image_digest="sha256:node", reference="node"))
    mounts = (
        DirectoryMount(path="/m", source=brought), CacheMount(path="/c", volume="nodes"),
    )  # fmt: skip
    exec_ = sh(image, script + "\nhead -c 1 /m/node 2>/dev/null || echo cannot open", mounts=mounts)
    assert await said(solver, with_tool(exec_, "mknod")) == "cannot open\n" * 7


def with_tool(exec_: Exec, name: str) -> Exec:
    """The exec, with one more program of the machine in its root."""
    path = next(p for p in (f"/usr/bin/{name}", f"/bin/{name}") if Path(p).exists())
    tree = NewFile(
        tree=exec_.root, path=f"/bin/{name}", contents=Path(path).read_bytes(), permissions=0o755
    )
    return replace(exec_, root=tree)


async def test_what_is_done_to_devices_does_not_reach_the_host(
    solver: Solver, image: ImageRoot
) -> None:
    before = owners()
    script = "chmod 600 /dev/null /dev/full /proc/self/fd/0 /proc/1/fd/0; chown 7 /dev/full; true"
    await solver.run(sh(image, script + " 2>&1"))
    assert owners() == before


def owners(*paths: str) -> list[tuple[int, int, float]]:
    """Mode, owner and time of change of files of the host."""
    found = [Path(path).stat() for path in paths or ("/dev/null", "/dev/full")]
    return [(status.st_mode, status.st_uid, status.st_ctime) for status in found]


async def test_the_sandboxs_own_program_cannot_be_changed(solver: Solver, image: ImageRoot) -> None:
    program = solver.sandbox.program()
    before = owners(program)
    script = "chmod 4711 /proc/1/exe; chown 7 /proc/1/exe; probe write /proc/1/exe"
    found = await said(solver, sh(image, script + " 2>/dev/null; true"))
    assert "open" not in found
    assert owners(program) == before
    assert await said(solver, sh(image, "echo the next one runs")) == "the next one runs\n"


async def test_redirected_input_cannot_be_written_to(solver: Solver, image: ImageRoot) -> None:
    exec_ = sh(image, "probe write /proc/self/fd/0; chmod 0 /proc/self/fd/0", redirect_stdin="/in")
    made = NewFile(tree=image, path="/in", contents=b"as it was")
    await solver.run(replace(exec_, root=made))
    assert await solver.read(FileRef(tree=made, path="/in")) == b"as it was"


async def test_a_socket_of_the_host_serves_and_stays_the_hosts(
    solver: Solver, image: ImageRoot, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        mode = path.stat().st_mode
        mount = SocketMount(path="/run/s", host_path=str(path))
        exec_ = sh(image, "chmod 0 /run/s 2>&1; rm -f /run/s 2>&1; true", mounts=(mount,))
        await solver.run(exec_)
        assert path.stat().st_mode == mode


async def test_the_kernels_files_are_masked_as_in_docker(solver: Solver, image: ImageRoot) -> None:
    files = "kcore keys timer_list interrupts latency_stats sched_debug timer_stats"
    script = f"""
        for file in {files}; do [ ! -e /proc/$file ] || cat /proc/$file | head -c 1; done
        for folder in /proc/acpi /proc/asound /proc/scsi /sys/firmware /sys/fs/cgroup \\
            /sys/devices/virtual/powercap; do [ ! -e $folder ] || ls -A $folder; done
        for file in sys/kernel/printk_ratelimit sys/kernel/hostname sysrq-trigger irq/x bus/x; do
            {{ cat /proc/$file > /proc/$file; }} 2>/dev/null && echo wrote $file
        done
        {{ echo > /sys/x; }} 2>/dev/null && echo wrote; true"""
    assert await said(solver, sh(image, script)) == ""


async def test_a_mask_cannot_be_taken_off(solver: Solver, image: ImageRoot) -> None:
    exec_ = sh(image, "umount /proc/keys 2>&1; umount -l /proc/sys 2>&1; mount 2>&1; true")
    await solver.run(with_tool(exec_, "umount"))
    script = "umount /proc/keys /proc/sys; head -c 1 /proc/keys | wc -c"
    assert await said(solver, with_tool(sh(image, script + " 2>/dev/null"), "umount")) == "0\n"


# -- processes, IPC, environment -----------------------------------------------------------------


async def test_no_process_of_the_host_is_there(solver: Solver, image: ImageRoot) -> None:
    script = "for p in /proc/[0-9]*; do grep -h ^Name: $p/status; done"
    found = (await said(solver, sh(image, script))).split()
    first, *others = found[1::2]
    assert first not in others, "bubblewrap, under the name of its descriptor"
    assert others == ["sh"]
    script = f"kill -0 {os.getpid()} 2>/dev/null && echo reached; true"
    assert await said(solver, sh(image, script)) == ""


async def test_no_variable_of_the_host_is_there(
    solver: Solver, image: ImageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = uuid.uuid4().hex
    monkeypatch.setenv("TOWPATH_TEST", mark)
    found = await said(solver, sh(image, "env; cat /proc/*/environ"))
    assert mark not in found
    assert {line.partition("=")[0] for line in found.split("\0")[0].splitlines()} <= {
        "PATH", "HOME", "PWD", "SHLVL", "OLDPWD", "_",
    } | {"LD_LIBRARY_PATH"}  # fmt: skip


@pytest.fixture
def shared_memory() -> Iterator[int]:
    """A System V segment of the host that everybody may read."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    key = 0x70000000 | int.from_bytes(os.urandom(3))
    segment = libc.shmget(key, 4096, 0o1000 | 0o666)
    assert segment >= 0
    yield key
    libc.shmctl(segment, 0, None)


async def test_no_shared_memory_of_the_host_is_there(
    solver: Solver, image: ImageRoot, shared_memory: int
) -> None:
    mark = Path("/dev/shm") / f"towpath-test-{uuid.uuid4().hex}"
    mark.write_text("")
    try:
        found = await said(solver, sh(image, f"probe shm {shared_memory}; ls -A /dev/shm"))
    finally:
        mark.unlink()
    assert found == "ENOENT\n"


async def test_no_message_queue_of_the_host_is_there(solver: Solver, image: ImageRoot) -> None:
    assert await said(solver, sh(image, "ls -A /dev/mqueue; cat /proc/sysvipc/msg | wc -l")) == (
        "1\n"
    )


class Attached:
    """Execs run in this network."""

    def __init__(self, namespaces: Namespaces | None) -> None:
        self._attachment = Attachment(namespaces=namespaces)

    def attach(self, services):
        return self

    async def __aenter__(self) -> Attachment:
        return self._attachment

    async def __aexit__(self, *exc: object) -> None:
        return None


async def test_no_abstract_socket_of_the_host_is_in_a_private_network(
    store: Store, image: ImageRoot, mode: Mode
) -> None:
    name = f"towpath-{uuid.uuid4().hex}"
    sandbox = Sandbox(mode=mode)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        async with private_network() as network, network.place() as place:
            services = Attached(place.namespaces)
            async with Solver(store, sandbox=sandbox, services=services, host=PLAIN) as solver:
                assert await said(solver, sh(image, f"probe abstract {name}")) == "ECONNREFUSED\n"
    sandbox.close()


# -- rights --------------------------------------------------------------------------------------


async def status(solver: Solver, exec_: Exec) -> dict[str, str]:
    lines = (await said(solver, exec_)).splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def test_root_has_dockers_capabilities_and_no_other(solver: Solver, image: ImageRoot) -> None:
    found = await status(solver, sh(image, "cat /proc/self/status"))
    assert {found[f"Cap{kind}"] for kind in ("Prm", "Eff", "Bnd")} == {DOCKER}
    assert {found[f"Cap{kind}"] for kind in ("Inh", "Amb")} == {"0" * 16}
    assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "1")


async def test_another_user_has_no_capability(solver: Solver, image: ImageRoot) -> None:
    found = await status(solver, sh(image, "cat /proc/self/status", user="app"))
    assert {found[f"Cap{kind}"] for kind in ("Prm", "Eff", "Inh", "Amb")} == {"0" * 16}
    assert found["CapBnd"] == DOCKER
    assert found["Uid"].split() == ["1000"] * 4
    assert found["Gid"].split() == ["1001"] * 4


async def test_who_asks_for_all_capabilities_has_all_that_the_engine_has(
    solver: Solver, image: ImageRoot
) -> None:
    exec_ = sh(image, "cat /proc/self/status", insecure_root_capabilities=True)
    found = await status(solver, exec_)
    assert int(found["CapEff"], 16) & 1 << 21, "CAP_SYS_ADMIN"
    assert found["CapEff"] == found["CapPrm"]


#: Name to number on x86-64, and an argument that would be valid.
CALLS = {
    "keyctl": (250, 0), "add_key": (248, 0), "bpf": (321, 0), "unshare": (272, 0x20000),
    "mount": (165, 0), "perf_event_open": (298, 0), "userfaultfd": (323, 0), "kexec_load": (246, 0),
    "open_by_handle_at": (304, 0), "io_uring_setup": (425, 1), "init_module": (175, 0),
    "settimeofday": (164, 0), "swapon": (167, 0), "reboot": (169, 0), "setns": (308, 0),
}  # fmt: skip


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
async def test_calls_that_docker_refuses_are_refused(solver: Solver, image: ImageRoot) -> None:
    lines = [f"probe call {number} {argument}" for number, argument in CALLS.values()]
    found = (await said(solver, sh(image, "\n".join(lines)))).split()
    assert dict(zip(CALLS, found, strict=True)) == dict.fromkeys(CALLS, "EPERM")
    unknown = await said(solver, sh(image, "probe call 435; probe call 999; probe call 39"))
    assert unknown.split() == ["ENOSYS", "ENOSYS", "done"]


async def test_the_umask_is_dockers_whoever_starts_the_engine(
    solver: Solver, image: ImageRoot
) -> None:
    before = os.umask(0o077)
    try:
        assert await said(solver, sh(image, "umask; echo > /f; stat -c %a /f")) == "0022\n644\n"
    finally:
        os.umask(before)


async def test_the_first_process_gives_no_way_out(solver: Solver, image: ImageRoot) -> None:
    """Its files in /proc can be reached, so it has no capability and no file of the host."""
    found = await said(solver, sh(image, "grep -h Cap... /proc/1/status; ls -l /proc/1/fd"))
    assert "CapEff:\t0000000000000000" in found
    targets = [line.rpartition("-> ")[2] for line in found.splitlines() if "->" in line]
    assert len(targets) >= 3
    assert all(target.startswith(("pipe:", "anon_inode:")) for target in targets), targets


@pytest.mark.parametrize("mode", MODES[:-1], indirect=True)  # as a user it is one like any other
async def test_the_first_process_may_call_no_more_than_the_others(
    solver: Solver, image: ImageRoot
) -> None:
    assert "Seccomp:\t2" in await said(solver, sh(image, "cat /proc/1/status"))


def test_only_the_engines_user_reaches_the_store(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    with Store(tmp_path / "cache") as store:
        assert stat.S_IMODE(store.root.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="this user is an ordinary one")
def test_all_of_this_holds_for_an_ordinary_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    python = ordinary_python()
    if python is None:
        pytest.skip("no Python that an ordinary user of this machine may run")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        Path(place).chmod(0o777)
        become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        command = [*become, python, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        ran = subprocess.run(
            [*command, f"--basetemp={place}/t", f"--rootdir={REPOSITORY}", str(Path(__file__))],
            env={
                "PYTHONPATH": f"{SITE}:{REPOSITORY}", "PATH": os.environ["PATH"], "HOME": place,
                "HYPOTHESIS_STORAGE_DIRECTORY": f"{place}/h",
            },
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
