"""Runs alone, as a process of its own: makes network namespaces and hands sockets out of them.

Started by ``network.py`` as ``python -I -S netns.py CONTROL [USER_NAMESPACE]``; both are
descriptors. It unshares a network namespace (in the given user namespace, or in one of its own
where it may not otherwise), brings ``lo`` up, makes a bridge where the kernel has one, and then
sends over CONTROL its address and a socket that listens there. From then on it answers

    ``s``               with an unconnected TCP socket
    ``l ADDRESS PORT``  with one that listens there; the address is made its own first
    ``n NAME ADDRESS``  with a namespace of its own, in which it is ADDRESS, joined by the bridge
    ``d NAME``          when that namespace is cut off
    ``g NAME ROUTER``   when that interface is part of the network, and the router its way out

and it ends when CONTROL is closed, and with its parent.

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
_SIOCADDRT = 0x890B
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_SIOCBRADDBR = 0x89A0
_SIOCBRADDIF = 0x89A2
_IFF_UP = 0x1
_RTF_UP_GATEWAY = 0x3
#: The kernel's rtentry; all that is not named here is zero. Source: linux/route.h.
_ROUTE = struct.Struct("8x16s16s16sH62x")

#: Of a netlink message. Source: linux/rtnetlink.h, linux/if_link.h, linux/veth.h.
_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_NLM_F_REQUEST_ACK = 0x5
_NLM_F_CREATE_EXCL = 0x600
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1

_BRIDGE = "towpath0"
#: For benchmarks of networks: no host has it. Source: RFC 2544, appendix C.2.2.
_OWN, _MASK = "198.18.0.1", "255.254.0.0"
_LOOPBACK = "127.0.0.1"

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


# -- interfaces ------------------------------------------------------------------------------------


def _control(request: int, name: str, *fields: bytes) -> bytes:
    """An ioctl on an interface of the namespace that this process is in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return fcntl.ioctl(
            probe, request, struct.pack("16s", name.encode()) + b"".join(fields).ljust(24, b"\0")
        )


def _raise(name: str) -> None:
    """Bring an interface up."""
    (flags,) = struct.unpack_from("h", _control(_SIOCGIFFLAGS, name), 16)
    _control(_SIOCSIFFLAGS, name, struct.pack("h", flags | _IFF_UP))


def _assign(name: str, address: str) -> None:
    """Give an interface an address of the session's network."""
    for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, _MASK)):
        _control(request, name, struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(value)))


def _route(router: str) -> None:
    """Make the router the way out of the namespace that this process is in."""

    def address(value: str) -> bytes:
        return struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(value))

    anywhere = address("0.0.0.0")  # noqa: S104 - a destination
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(
            probe, _SIOCADDRT, _ROUTE.pack(anywhere, address(router), anywhere, _RTF_UP_GATEWAY)
        )


def _make_bridge() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SIOCBRADDBR, _BRIDGE.encode() + b"\0")
    _assign(_BRIDGE, _OWN)
    _raise(_BRIDGE)


def _attribute(kind: int, content: bytes) -> bytes:
    size = 4 + len(content)
    return struct.pack("=HH", size, kind) + content + b"\0" * (-size % 4)


def _netlink(kind: int, flags: int, *attributes: bytes) -> None:
    """Ask the kernel for a change of links.

    Raises:
        OSError: it refuses.
    """
    body = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + b"".join(attributes)
    head = struct.pack("=IHHII", 16 + len(body), kind, flags | _NLM_F_REQUEST_ACK, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.send(head + body)
        (code,) = struct.unpack_from("=i", kernel.recv(65536), 16)
    if code:
        raise OSError(-code, f"link: {os.strerror(-code)}")


def _make_pair(name: str, address: str, namespace: int) -> None:
    """A pair of interfaces: ``name`` on the bridge, and ``eth0`` in the namespace.

    The hardware address follows from ``address``, so that whoever knew it is still right when it
    is given again.
    """
    hardware = b"\x02\x42" + socket.inet_aton(address)
    peer = (
        struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)
        + _attribute(_IFLA_IFNAME, b"eth0\0")
        + _attribute(_IFLA_ADDRESS, hardware)
        + _attribute(_IFLA_NET_NS_FD, struct.pack("=I", namespace))
    )
    information = _attribute(_IFLA_INFO_KIND, b"veth\0") + _attribute(
        _IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, peer)
    )
    _netlink(
        _RTM_NEWLINK,
        _NLM_F_CREATE_EXCL,
        _attribute(_IFLA_IFNAME, name.encode() + b"\0"),
        _attribute(_IFLA_LINKINFO, information),
    )
    _control(_SIOCBRADDIF, _BRIDGE, struct.pack("i", socket.if_nametoindex(name)))
    _raise(name)


def _new_namespace(name: str, address: str, router: str) -> int:
    """A descriptor of a new namespace on the bridge, with its way out, if there is one.

    This process stays where it was.
    """
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.unshare(_CLONE_NEWNET), "unshare")
        made = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _raise("lo")
            _check(_libc.setns(own, _CLONE_NEWNET), "setns")
            _make_pair(name, address, made)
            _check(_libc.setns(made, _CLONE_NEWNET), "setns")
            _assign("eth0", address)
            _raise("eth0")
            if router:
                _route(router)
        except OSError:
            os.close(made)
            raise
        return made
    finally:
        _check(_libc.setns(own, _CLONE_NEWNET), "setns")
        os.close(own)


# -- sockets ---------------------------------------------------------------------------------------


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_at(address: str, port: int) -> socket.socket:
    """A listener at an address that is made one of the bridge's."""
    if address not in {_LOOPBACK, _OWN}:
        third, fourth = socket.inet_aton(address)[2:]
        _assign(f"{_BRIDGE}:{third << 8 | fourth}", address)
    return _listen(address, port)


# -- requests --------------------------------------------------------------------------------------


class Network:
    """What is asked for, in the namespace that this process is in."""

    def __init__(self) -> None:
        try:
            _make_bridge()
            self.address = _OWN
        except OSError:
            self.address = _LOOPBACK
        self._router = ""

    def answer(self, request: bytes) -> int | None:
        """The descriptor that was asked for; None where there is none to give."""
        verb, *words = request.decode().split()
        match verb:
            case "s":
                return socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach()
            case "l":
                return _listen_at(words[0], int(words[1])).detach()
            case "n":
                return _new_namespace(words[0], words[1], self._router)
            case "g":
                self._add_gateway(words[0], words[1])
            case "d":
                _netlink(_RTM_DELLINK, 0, _attribute(_IFLA_IFNAME, words[0].encode() + b"\0"))
        return None

    def _add_gateway(self, name: str, router: str) -> None:
        if self.address == _OWN:
            _control(_SIOCBRADDIF, _BRIDGE, struct.pack("i", socket.if_nametoindex(name)))
        else:
            _assign(name, _OWN)
        _raise(name)
        _route(router)
        self._router = router

    def serve(self, control: socket.socket) -> None:
        """Hand out descriptors until the other side is gone."""
        while request := control.recv(256):
            try:
                made = self.answer(request)
            except OSError as error:
                control.send(b"e" + str(error).encode())
                continue
            if made is None:
                control.send(b"f")
                continue
            socket.send_fds(control, [b"f"], [made])
            os.close(made)


def main() -> None:
    """Make the namespace, or say why not."""
    control = socket.socket(fileno=int(sys.argv[1]))
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        _unshare(int(sys.argv[2]) if len(sys.argv) > 2 else None)
        _raise("lo")
        network = Network()
        with _listen(network.address, 0) as listener:
            socket.send_fds(control, [b"f" + network.address.encode()], [listener.fileno()])
    except OSError as error:
        control.send(b"e" + str(error).encode())
        return
    network.serve(control)


if __name__ == "__main__":
    main()
