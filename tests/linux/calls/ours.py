"""Our half: the tables' calls, made on a host of this process."""

from __future__ import annotations

import socket
import struct
from typing import Any

from e1000emu.clock import VirtualClock
from stack.core import bsd_socket as sys
from stack.core.ioctl import sys_ioctl
from stack.core.iov import msghdr
from stack.core.select import sys_poll
from stack.core.sockaddr import sockaddr, sockaddr_ll, sockaddr_un
from stack.host import Host
from tests.linux.calls.world import ADDR4, ADDR6, Calls, Control

SETTLE_NS = 2_000_000


def name_bytes(name: sockaddr | None) -> bytes:
    """The struct sockaddr that a call would write."""
    if name is None:
        return b""
    if isinstance(name, sockaddr_un):
        head = struct.pack("=H", socket.AF_UNIX)
        path = name.path
        return head + path + (b"\0" if path and path[0] else b"")
    if isinstance(name, sockaddr_ll):
        head = struct.pack("=H", socket.AF_PACKET) + struct.pack(">H", name.protocol)
        rest = struct.pack("=IHBB", name.ifindex, name.hatype, name.pkttype, len(name.lladdr))
        return head + rest + name.lladdr.ljust(8, b"\0")
    head = struct.pack("=H", name.family) + struct.pack(">H", name.port)
    if name.family == socket.AF_INET6:
        addr = name.addr.to_bytes(16, "big")
        return head + struct.pack(">I", name.flowinfo) + addr + struct.pack("=I", name.scope_id)
    return head + name.addr.to_bytes(4, "big") + bytes(8)


class Ours(Calls):
    """A host with `lo`, and `eth0` on a wire without a peer."""

    def __init__(self, sysctl: dict[str, Any]) -> None:
        clock = VirtualClock()
        self.host = Host("h", clock=clock, sysctl=sysctl)
        far = self.host.netns_add("far")
        mac = bytes.fromhex("525400120001")
        self.host.add_veth("eth0", (far, "far0"), mac=mac, up=True)
        self.host.ifconfig("eth0", f"{ADDR4}/24")
        self.host.ifconfig("eth0", f"{ADDR6}/64")
        clock.run_for(5_000_000_000)

    def end(self) -> None:
        """Close the host."""
        self.host.close()

    def socket(self, family: int, kind: int, protocol: int) -> int:
        return sys.sys_socket(self.host, family, kind, protocol)

    def socketpair(self, family: int, kind: int, protocol: int) -> tuple[int, int]:
        one, two = sys.sys_socketpair(self.host, family, kind, protocol)
        return one, two

    def close(self, fd: int) -> None:
        sys.sys_close(self.host, fd)

    def bind(self, fd: int, addr: bytes) -> None:
        sys.sys_bind(self.host, fd, addr)

    def connect(self, fd: int, addr: bytes) -> None:
        sys.sys_connect(self.host, fd, addr)

    def listen(self, fd: int, backlog: int) -> None:
        sys.sys_listen(self.host, fd, backlog)

    def accept(self, fd: int, flags: int) -> tuple[int, bytes]:
        made, name = sys.sys_accept4(self.host, fd, flags)
        return made, name_bytes(name)

    def shutdown(self, fd: int, how: int) -> None:
        sys.sys_shutdown(self.host, fd, how)

    def getsockname(self, fd: int) -> bytes:
        name = sys.sys_getsockname(self.host, fd)
        size = 12 + len(name.lladdr) if isinstance(name, sockaddr_ll) else None
        return name_bytes(name)[:size]

    def getpeername(self, fd: int) -> bytes:
        return name_bytes(sys.sys_getpeername(self.host, fd))

    def sendto(self, fd: int, data: bytes, flags: int, addr: bytes | None) -> int:
        return sys.sys_sendto(self.host, fd, data, flags, addr)

    def recvfrom(self, fd: int, size: int, flags: int) -> tuple[int, bytes, bytes]:
        buf = bytearray(size)
        n, name = sys.sys_recvfrom(self.host, fd, buf, flags)
        return n, bytes(buf[:n]), name_bytes(name)

    def sendmsg(
        self, fd: int, bufs: list[bytes], control: Control, flags: int, addr: bytes | None
    ) -> int:
        msg = msghdr(sys.move_addr_to_kernel(addr), bufs, list(control))
        return sys.sys_sendmsg(self.host, fd, msg, flags)

    def recvmsg(
        self, fd: int, sizes: list[int], room: int, flags: int
    ) -> tuple[int, bytes, Control, int, bytes]:
        bufs = [bytearray(size) for size in sizes]
        msg = msghdr(None, bufs, [] if room else None)
        msg.msg_controllen = room
        n = sys.sys_recvmsg(self.host, fd, msg, flags)
        control = [(level, kind, bytes(data)) for level, kind, data in msg.msg_control or []]
        return n, b"".join(bufs)[:n], control, msg.msg_flags, name_bytes(msg.msg_name)

    def setsockopt(self, fd: int, level: int, name: int, value: bytes) -> None:
        sys.sys_setsockopt(self.host, fd, level, name, value)

    def getsockopt(self, fd: int, level: int, name: int, size: int) -> bytes:
        value = sys.sys_getsockopt(self.host, fd, level, name, size)
        if isinstance(value, bytes):
            return value
        return struct.pack("=I", value & 0xFFFFFFFF)[:size]

    def ioctl(self, fd: int, request: int, value: int) -> int:
        arg = bytearray(struct.pack("=i", value).ljust(40, b"\0"))
        sys_ioctl(self.host, fd, request, arg)
        return int(struct.unpack_from("=i", arg)[0])

    def poll(self, fds: list[tuple[int, int]]) -> list[int]:
        found = dict(sys_poll(self.host, fds, 0))
        return [found.get(fd, 0) for fd, _ in fds]

    def settle(self) -> None:
        self.host.clock.run_for(SETTLE_NS)

    def rest(self) -> None:
        self.host.clock.run_for(30 * SETTLE_NS)
