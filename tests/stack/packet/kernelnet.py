"""A network namespace of this machine's kernel that a test can open sockets in.

A thread leaves for a namespace of its own; what it opens stays there, and any thread may use it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import queue
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

AF_PACKET = 17
MACS = "52:54:00:12:34:56", "52:54:00:12:34:57"
A, B = (bytes.fromhex(m.replace(":", "")) for m in MACS)
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFREQ = struct.Struct("16sh22x")
IFF_UP = 1
IFF_RUNNING = 0x40


@dataclass
class World:
    """Two ends of a wire: sockets at each, the state of an interface, time to arrive."""

    open: Callable[[int, int, int], Any]
    """(end, type, protocol in host order) -> socket"""
    set_up: Callable[[int, bool], None]
    settle: Callable[[], None]
    mapped: Callable[[Any, int, int], Any]
    """(socket, bytes, offset) -> its memory"""
    down: set[int] = field(default_factory=set)
    """The ends whose interface a program has set down."""


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gave, or the name of its errno."""
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except (OverflowError, ValueError, TypeError) as error:
        return type(error).__name__


class KernelNet:
    """One namespace; `call(function, ...)` runs in it. Close it in the end."""

    def __init__(self) -> None:
        self._work: queue.Queue[Any] = queue.Queue()
        self._done: queue.Queue[Any] = queue.Queue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.tid = self.call(threading.get_native_id)
        self.run("ip link set lo up")

    def _serve(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.unshare(CLONE_NEWNET)
        while (job := self._work.get()) is not None:
            function, args = job
            try:
                if failed:
                    raise OSError("unshare(CLONE_NEWNET) failed")
                self._done.put((function(*args), None))
            except BaseException as error:
                self._done.put((None, error))

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of `function(*args)` in the namespace."""
        self._work.put((function, args))
        result, error = self._done.get()
        if error is not None:
            raise error
        return result

    def run(self, *commands: str) -> str:
        """Shell commands in the namespace; what they print."""
        out = ""
        for command in commands:
            done = self.call(
                lambda text: subprocess.run(text, shell=True, capture_output=True, text=True),
                command,
            )
            assert not done.returncode, (command, done.stderr)
            out += done.stdout
        return out

    def socket(self, family: int, kind: int, proto: int = 0) -> socket.socket:
        """A socket in the namespace."""
        found: socket.socket = self.call(socket.socket, family, kind, proto)
        return found

    def set_up(self, name: str, up: bool) -> None:
        """`ip link set NAME up`, or down."""
        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            flags = self.flags(name)
            flags = flags | IFF_UP if up else flags & ~IFF_UP
            fcntl.ioctl(sock, SIOCSIFFLAGS, IFREQ.pack(name.encode(), flags))

    def flags(self, name: str) -> int:
        """IFF_* of an interface."""
        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            found = fcntl.ioctl(sock, SIOCGIFFLAGS, IFREQ.pack(name.encode(), 0))
            return int(IFREQ.unpack(found)[1])

    def is_up(self, name: str) -> bool:
        """The interface was set up."""
        return bool(self.flags(name) & IFF_UP)

    def running(self, name: str) -> bool:
        """The kernel's link watch has seen that the interface has a carrier."""
        return bool(self.flags(name) & IFF_RUNNING)

    def close(self) -> None:
        """Leave the namespace, which ends when its last socket does."""
        self._work.put(None)
        self._thread.join()


def two_nets(macs: tuple[str, str]) -> tuple[KernelNet, KernelNet]:
    """Two namespaces joined by a pair of veth called eth0, without addresses, both up."""
    nets = KernelNet(), KernelNet()
    one, two = nets
    one.run(
        f"ip link add name eth0 index 2 address {macs[0]} type veth "
        f"peer name eth0 index 2 address {macs[1]} netns {two.tid}"
    )
    for net in nets:
        net.run(
            "[ ! -e /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6",
            "ip link set eth0 up",
        )
    assert os.getpid() != one.tid
    return nets
