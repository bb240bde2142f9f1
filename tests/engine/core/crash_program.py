"""A program that is killed: forks, for each order it reads, a child that runs one graph.

An order is a line of JSON: ``round`` makes the graph's results another's, ``after`` is after how
many operations on the file system (of the audit hooks) the fault comes, ``delay`` how many seconds
later than that, ``fault`` is ``engine`` (the child), ``sandbox`` or ``command`` (what the child
runs), or empty for none. It answers with ``pid`` and, when the child is gone, its wait status. What
the graph came to is in the file ``result``: what it printed, how many operations it took.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import ci.engine.images.archive  # noqa: F401 - else each child imports it
from ci.engine.sandbox.lent import Host
from ci.engine.solver.secrets import Secrets
from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.vertices.vertex import (
    CacheMount,
    Copy,
    DirectoryMount,
    DirectoryRef,
    Exec,
    ExecMountOutput,
    ExecRootOutput,
    FileRef,
    HostDirectory,
    ImageRoot,
    Mount,
    NewFile,
    Owner,
    Patterns,
    Scratch,
    SecretMount,
    Sharing,
    Tarball,
    Tree,
    Without,
)
from ci.errors import CiError

#: Operations that change something, or wait for it.
EVENTS = {
    "open", "os.rename", "os.mkdir", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.utime",
    "os.chmod", "os.setxattr", "os.truncate", "fcntl.flock", "subprocess.Popen",
}  # fmt: skip
#: Exit code of a child whose graph was refused with an error made on purpose.
REFUSED = 3


def expected(number: int) -> dict[str, str]:
    """What the graph of a round comes to, found without the engine."""
    lines = "".join(f"{number} {line}\n" for line in range(9_000))
    return {
        "product": f"first {number}\nsecond first {number}\nthird\n",
        "large": lines,
        "kept": "kept\n",
        "note": f"note {number}",
        "stdout": "third\n" + lines,
    }


class Graph:
    """A chain of execs, with files, a cache volume, a secret, an image archive and an export."""

    def __init__(self, work: Path, number: int) -> None:
        self.work = work
        self.number = number
        self.mark = f"crash-{work.name}"

    async def run(self) -> dict[str, Any]:
        """Evaluate it, and say what it came to."""
        with Store(self.work / "cache") as store:
            secrets = Secrets(b"s" * 32, environ={})
            async with Solver(store, secrets=secrets, host=Host({}, anchors=())) as solver:
                return await self._solve(solver, secrets)

    async def _solve(self, solver: Solver, secrets: Secrets) -> dict[str, Any]:
        last = self._execs(secrets)
        result = await solver.run(last)
        tree = ExecRootOutput(exec=last)
        made = DirectoryRef(tree=ExecMountOutput(exec=last, path="/out"))
        note = NewFile(tree=Scratch(), path="/note", contents=f"note {self.number}".encode())
        whole = Copy(tree=note, path="/", source=made)
        out = self.work / "export"
        await solver.export_directory(DirectoryRef(tree=whole), out)
        archive = Tarball(roots=(Without(tree=tree, paths=("/bin", "/lib*", "/usr")),),
                          configs=('{"config":{}}',))  # fmt: skip
        await solver.export_file(FileRef(tree=archive, path="/container.tar"), out / "image.tar")
        found = {name: (out / name).read_text() for name in ("kept", "large", "note", "product")}
        return {**found, "stdout": result.stdout, "execs": solver.counters.execs}

    def _execs(self, secrets: Secrets) -> Exec:
        volume = CacheMount(path="/volume", volume="crash", sharing=Sharing.LOCKED)
        sources = HostDirectory(path=str(self.work / "src"), patterns=Patterns(exclude=("*.no",)))
        source = DirectoryRef(tree=sources)
        secret = SecretMount(path="/run/secret", secret=secrets.set("s", "hidden-value"),
                             owner=Owner(spec="app"))  # fmt: skip
        image = Copy(tree=ImageRoot(image_digest="sha256:test"), path="/src", source=source)
        first = self._shell(
            image,
            "cat /src/kept > /first; echo first $ROUND >> /first; date >> /volume/dates",
            volume,
        )
        second = self._shell(
            ExecRootOutput(exec=first),
            "tail -n 1 /first > /out/one; { printf 'second '; cat /out/one; } > /out/two;"
            "cat /src/kept > /out/kept; wc -c /run/secret",
            DirectoryMount(path="/out", source=DirectoryRef(tree=Scratch())),
            secret,
        )
        made = DirectoryRef(tree=ExecMountOutput(exec=second, path="/out"))
        return self._shell(
            ExecRootOutput(exec=second),
            "echo third > /three; cat /out/one /out/two /three > /out/product;"
            'rm /out/one /out/two; seq -f "$ROUND %g" 0 8999 > /out/large; cat /three /out/large',
            DirectoryMount(path="/out", source=made),
            volume,
        )

    def _shell(self, root: Tree, script: str, *mounts: Mount) -> Exec:
        return Exec(
            root=root,
            args=("sh", "-ec", f"{script}\n: {self.mark}"),
            env=(("ROUND", str(self.number)),),
            mounts=mounts,
        )


class Fault:
    """What comes after so many operations."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.kind = order["fault"]
        self.after = order["after"]
        self.delay = order["delay"]
        self.seen = 0
        self.done = False
        self.looking = False

    def hook(self, event: str, _: object) -> None:
        """An audit hook."""
        if event not in EVENTS:
            return
        self.seen += 1
        if self.looking or not self.kind or self.done or self.seen < self.after:
            return
        if self.kind != "engine":
            self.looking = True
            self.done = kill_below(os.getpid(), outer=self.kind == "sandbox")
            self.looking = False
        elif self.delay:
            self.done = True
            timer = threading.Timer(self.delay, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()
        else:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_below(pid: int, *, outer: bool) -> bool:
    """Kill a sandbox: bubblewrap itself, or the last of what it started; False: there is none."""
    below = children(pid)
    if not below:
        return False
    victim = below[-1]
    while not outer and (inner := children(victim)):
        victim = inner[-1]
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def children(pid: int) -> list[int]:
    """Of all threads of a process."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        pass
    return found


def child(work: Path, order: dict[str, Any]) -> int:
    """Run the graph in this process; the exit code."""
    fault = Fault(order)
    sys.addaudithook(fault.hook)
    try:
        came = asyncio.run(Graph(work, order["round"]).run())
    except CiError as error:
        came, code = {"refused": str(error)}, REFUSED
    except BaseException:  # noqa: BLE001 - told to the test
        came, code = {"crashed": traceback.format_exc()}, 1
    else:
        code = 0
    fault.kind = ""
    (work / "result").write_text(json.dumps({**came, "operations": fault.seen}))
    return code


def main() -> None:
    """Obey orders until there are no more."""
    work = Path(sys.argv[1])
    for line in sys.stdin:
        (work / "result").unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            os._exit(child(work, json.loads(line)))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
