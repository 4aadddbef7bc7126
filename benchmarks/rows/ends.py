"""Two ends that talk to each other: our two hosts on a wire, and the kernel's in a few forms.

A kernel's socket belongs to the namespace in which its thread was when it made the socket. So one
thread can use two ends in two namespaces, under one CPU clock.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from e1000emu.lab import two_hosts
from stack.core.uapi import SO_RCVBUFFORCE
from stack.host import Host
from stack.ipv6.addr import parse_addr6
from stack.ipv6.addrconf import inet6_addr_add
from stack.ipv6.if_inet6 import IFA_F_NODAD
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, SOL_SOCKET, Socket

from . import Unavailable

__all__ = [
    "OURS",
    "Ends",
    "Namespace",
    "datagrams",
    "hosts",
    "kernel_datagrams",
    "kernel_listener",
    "kernel_stream",
    "loopback",
    "namespace",
    "open_files",
    "veth",
    "veth_offloads",
    "veth_plain",
    "wait_for_link",
]

OURS = {AF_INET: "10.0.0.2", AF_INET6: "2001:db8::2"}
"""The second host's address by family."""
RECEIVE_BUFFER = 32 << 20
"""Bytes: no batch is lost for want of room."""
LINUX_SO_RCVBUFFORCE = 33
CLONE_NEWNET = 0x40000000

_numbers = itertools.count()


@contextmanager
def hosts(family: int = AF_INET, **options: Any) -> Iterator[tuple[Host, Host]]:
    """Two hosts on a wire, closed at the end; with IPv6 addresses for AF_INET6."""
    a, b = two_hosts(**options)
    with a, b:
        if family == AF_INET6:
            for host, addr in ((a, "2001:db8::1"), (b, OURS[AF_INET6])):
                dev = host.dev_by_name["eth0"]
                inet6_addr_add(dev, parse_addr6(addr), 64, flags=IFA_F_NODAD)
        yield a, b


@contextmanager
def datagrams(a: Host, b: Host, family: int, port: int = 9001) -> Iterator[tuple[Socket, Socket]]:
    """A sender and a receiver bound to OURS[family], which has room for every batch.

    One datagram was sent, so that ARP is resolved and no datagram of a batch waits or is lost.
    """
    with Socket(b, family, SOCK_DGRAM) as receiver, Socket(a, family, SOCK_DGRAM) as sender:
        receiver.setsockopt(SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        receiver.bind((OURS[family], port))
        sender.sendto(b"first", (OURS[family], port))
        receiver.recv(16)
        yield sender, receiver


class Namespace:
    """A network namespace by its name; `with` it, the thread makes its sockets there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._fd = os.open(f"/run/netns/{name}", os.O_RDONLY)
        self._back: list[int] = []

    def __enter__(self) -> None:
        self._back.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        _set_namespace(self._fd)

    def __exit__(self, *exc: object) -> None:
        back = self._back.pop()
        try:
            _set_namespace(back)
        finally:
            os.close(back)

    def ip(self, *commands: list[str]) -> None:
        """Run `ip` commands here. Raises Unavailable when one fails."""
        text = "".join(" ".join(words) + "\n" for words in commands)
        words = ["ip", "-n", self.name, "-batch", "-"]
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"ip -batch: {(done.stderr.splitlines() or ['failed'])[0]}")

    def address(self, device: str) -> str:
        """Return the device's Ethernet address."""
        words = ["ip", "-n", self.name, "-json", "link", "show", device]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found: str = json.loads(done.stdout)[0]["address"]
        return found

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def _set_namespace(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@dataclass(slots=True)
class Ends:
    """Two ends of the kernel's: `with a:` is where the first one's sockets are made."""

    a: AbstractContextManager[None]
    b: AbstractContextManager[None]
    address: dict[int, str]
    """The second end's by family."""


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"ip {' '.join(words)}: {done.stderr.strip() or 'failed'}")


def namespace(stack: ExitStack, name: str) -> Namespace:
    """Make a network namespace that `stack` removes. Raises Unavailable without root."""
    _ip("netns", "add", name)
    stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True, check=False)
    _ip("-n", name, "link", "set", "lo", "up")
    namespace = Namespace(name)
    stack.callback(namespace.close)
    return namespace


def _may_make_namespaces() -> bool:
    return os.geteuid() == 0 and shutil.which("ip") is not None


@contextmanager
def loopback() -> Iterator[Ends]:
    """The kernel's loopback: as root in a namespace of its own, else the machine's."""
    address = {AF_INET: "127.0.0.1", AF_INET6: "::1"}
    with ExitStack() as stack:
        place: AbstractContextManager[None] = contextlib.nullcontext()
        if _may_make_namespaces():
            place = namespace(stack, f"e1000emu-bench-{os.getpid()}-{next(_numbers)}")
        yield Ends(place, place, address)


def wait_for_link(name: str, device: str) -> None:
    """Wait until the kernel's link watch has seen a carrier, up to a second after it is up.

    Until then IPv6 has no routes there, and what is sent may get lost. Raises Unavailable.
    """
    words = ["ip", "-n", name, "-6", "route", "show", "table", "local", "ff00::/8", "dev", device]
    deadline = time.monotonic() + 30
    while not subprocess.run(words, capture_output=True, check=False).stdout.strip():
        if time.monotonic() > deadline:
            raise Unavailable(f"{device} does not come up in {name}")
        time.sleep(0.02)


@contextmanager
def veth(*, offloads: bool) -> Iterator[Ends]:
    """A veth pair between two namespaces; without `offloads` no GSO, GRO and checksums left out.

    Raises Unavailable without root, iproute2 and ethtool.
    """
    if not _may_make_namespaces():
        raise Unavailable("a veth pair needs root and iproute2")
    if not offloads and shutil.which("ethtool") is None:
        raise Unavailable("offloads are switched by ethtool; apt-get install ethtool")
    with ExitStack() as stack:
        number = next(_numbers)
        names = [f"e1000emu-bench-{os.getpid()}-{number}{end}" for end in "ab"]
        places = [namespace(stack, name) for name in names]
        _ip(
            *("link", "add", "veth0", "netns", names[0], "type", "veth"),
            *("peer", "name", "veth0", "netns", names[1]),
        )
        for end, name in enumerate(names, 1):
            _ip("-n", name, "addr", "add", f"10.0.0.{end}/24", "dev", "veth0")
            _ip("-n", name, "addr", "add", f"2001:db8::{end}/64", "dev", "veth0", "nodad")
            if not offloads:
                off = [word for f in ("tso", "gso", "gro", "tx", "rx") for word in (f, "off")]
                _ip("netns", "exec", name, "ethtool", "-K", "veth0", *off)
            _ip("-n", name, "link", "set", "veth0", "up")
        for name in names:
            wait_for_link(name, "veth0")
        yield Ends(places[0], places[1], dict(OURS))


veth_offloads = partial(veth, offloads=True)
veth_plain = partial(veth, offloads=False)


@contextmanager
def kernel_datagrams(ends: Ends, family: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected sender and a receiver, which has room for every batch where that is allowed."""
    with ends.b:
        receiver = socket.socket(family, socket.SOCK_DGRAM)
    with ends.a:
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with receiver, sender:
        try:
            receiver.setsockopt(socket.SOL_SOCKET, LINUX_SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except PermissionError:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        receiver.settimeout(2)  # a lost datagram is an error, not an endless wait
        receiver.bind((ends.address[family], 0))
        sender.connect(receiver.getsockname())
        yield sender, receiver


@contextmanager
def kernel_stream(ends: Ends, family: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection."""
    with ends.b:
        listener = socket.create_server((ends.address[family], 0), family=family)
    with listener:
        with ends.a:
            client = socket.create_connection(listener.getsockname()[:2])
        server, _ = listener.accept()
    with client, server:
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield client, server


@contextmanager
def kernel_listener(ends: Ends, family: int) -> Iterator[socket.socket]:
    """A socket that listens at the second end."""
    with ends.b:
        listener = socket.create_server((ends.address[family], 0), family=family, backlog=128)
    with listener:
        yield listener


def open_files(count: int) -> None:
    """Let this process open so many descriptors more. Raises Unavailable when it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + len(os.listdir("/proc/self/fd"))
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (ValueError, OSError):
        raise Unavailable(f"{wanted} open files; this process may have {hard}") from None
