"""Runs alone, as a process of its own: executes a program inside a sandbox that runs already.

Started by ``visit.py`` as ``python -I -S enter.py ORDER LAUNCHER [USER_NAMESPACE]``, all of them
descriptors; ORDER is JSON. It ends as the program does, and takes it along when it is killed.

Nothing of this package is imported here, so that it starts quickly.
"""

import ctypes
import json
import os
import signal
import sys

_CLONE_NEWUSER = 0x10000000
#: Those of the sandbox, in the order to enter them. Its user namespace, if any, comes first.
_KINDS = ("user", "ipc", "uts", "net", "pid", "mnt")
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CANNOT_ENTER = 125

_libc = ctypes.CDLL(None, use_errno=True)


def _join(fd: int, kind: int = 0) -> None:
    if _libc.setns(fd, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _enter(pid: int) -> None:
    """Enter the namespaces of a process, but for those that this one is in."""
    wanted = []
    for kind in _KINDS:
        theirs, own = (os.stat(f"/proc/{who}/ns/{kind}") for who in (pid, "self"))
        if theirs.st_ino != own.st_ino:
            wanted.append(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC))
    for fd in wanted:
        _join(fd)


def _execute(launcher: int, order: dict[str, object]) -> None:
    """Become the program. Called in the new process, which is in the sandbox's numbering."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.chdir(str(order["workdir"]))
    os.execve(launcher, ["launcher", *order["args"]], order["env"])  # type: ignore[misc,arg-type]  # noqa: S606


def main() -> None:
    """Enter, execute, wait."""
    with open(int(sys.argv[1]), encoding="utf-8", errors="surrogateescape") as file:
        order = json.load(file)
    launcher = int(sys.argv[2])
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        if len(sys.argv) > 3:
            _join(int(sys.argv[3]), _CLONE_NEWUSER)
        _enter(order["pid"])
        child = os.fork()
        if child == 0:
            _execute(launcher, order)
    except OSError as error:
        os.write(2, f"towpath: cannot enter the sandbox: {error}\n".encode())
        os._exit(_CANNOT_ENTER)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
