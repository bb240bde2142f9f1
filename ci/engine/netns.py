"""Runs alone, as a process of its own: makes a network namespace and hands sockets out of it.

Started by ``network.py`` as ``python -I -S netns.py CONTROL [USER_NAMESPACE]``; both are
descriptors. It unshares a network namespace (in the given user namespace, or in one of its own
where it may not otherwise), brings ``lo`` up, and then sends a listening socket at 127.0.0.1
over CONTROL. From then on it answers each ``s`` with an unconnected TCP socket and each ``l``
and port number with a listening one; it ends when CONTROL is closed, and with its parent.

Nothing of this package is imported here, so that it starts quickly.
"""

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import sys

_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _unshare(user_namespace: int | None) -> None:
    """Enter a new network namespace."""
    if user_namespace is not None:
        _check(_libc.setns(user_namespace, _CLONE_NEWUSER), "setns")
        _check(_libc.unshare(_CLONE_NEWNET), "unshare")
        return
    if _libc.unshare(_CLONE_NEWNET) == 0:
        return
    if ctypes.get_errno() != errno.EPERM:
        _check(1, "unshare")
    uid, gid = os.getuid(), os.getgid()
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {uid} 1"),
        ("gid_map", f"0 {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _raise_loopback() -> None:
    """Bring ``lo`` up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh14x", b"lo", 0)
        answer = fcntl.ioctl(probe, _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("h", answer, 16)
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def _serve(control: socket.socket) -> None:
    """Hand out sockets until the other side is gone."""
    while request := control.recv(64):
        try:
            if request == b"s":
                made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            else:
                made = _listen(int(request[1:]))
        except OSError as error:
            control.send(b"e" + str(error).encode())
            continue
        with made:
            socket.send_fds(control, [b"f"], [made.fileno()])


def main() -> None:
    """Make the namespace, or say why not."""
    control = socket.socket(fileno=int(sys.argv[1]))
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        _unshare(int(sys.argv[2]) if len(sys.argv) > 2 else None)
        _raise_loopback()
        with _listen(0) as listener:
            socket.send_fds(control, [b"f"], [listener.fileno()])
    except OSError as error:
        control.send(b"e" + str(error).encode())
        return
    _serve(control)


if __name__ == "__main__":
    main()
