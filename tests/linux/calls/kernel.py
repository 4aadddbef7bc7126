"""The kernel's half: the tables' calls, made in a network namespace of their own.

`python -m tests.linux.calls.kernel TABLE ...` leaves the machine's network (unshare), creates the
devices of a table, and writes the calls' results, pickled, to standard output.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.linux.calls.tables import TABLES
from tests.linux.calls.world import ADDR4, ADDR6, Calls, Control, World

CLONE_NEWNET = 0x40000000
NAME_BYTES = 128

libc = ctypes.CDLL(None, use_errno=True)


class IoVec(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class MsgHdr(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


def checked(result: int) -> int:
    """Return the result of a call of libc. Raises OSError."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def align(n: int) -> int:
    """CMSG_ALIGN."""
    return n + 7 & ~7


def pack_control(control: Control) -> bytes:
    """Return control messages for sendmsg."""
    out = b""
    for level, kind, data in control:
        out += struct.pack("=Qii", 16 + len(data), level, kind) + data.ljust(
            align(len(data)), b"\0"
        )
    return out


def unpack_control(data: bytes) -> Control:
    """Return the control messages in a buffer filled by recvmsg."""
    out: Control = []
    while len(data) >= 16:
        size, level, kind = struct.unpack_from("=Qii", data)
        out.append((level, kind, data[16:size]))
        data = data[align(size) :]
    return out


class Kernel(Calls):
    """System calls through libc."""

    def socket(self, family: int, kind: int, protocol: int) -> int:
        return checked(libc.socket(family, kind, protocol))

    def socketpair(self, family: int, kind: int, protocol: int) -> tuple[int, int]:
        fds = (ctypes.c_int * 2)()
        checked(libc.socketpair(family, kind, protocol, fds))
        return fds[0], fds[1]

    def close(self, fd: int) -> None:
        checked(libc.close(fd))

    def bind(self, fd: int, addr: bytes) -> None:
        checked(libc.bind(fd, addr, len(addr)))

    def connect(self, fd: int, addr: bytes) -> None:
        checked(libc.connect(fd, addr, len(addr)))

    def listen(self, fd: int, backlog: int) -> None:
        checked(libc.listen(fd, backlog))

    def accept(self, fd: int, flags: int) -> tuple[int, bytes]:
        name, size = ctypes.create_string_buffer(NAME_BYTES), ctypes.c_uint(NAME_BYTES)
        made = checked(libc.accept4(fd, name, ctypes.byref(size), flags))
        return made, name.raw[: size.value]

    def shutdown(self, fd: int, how: int) -> None:
        checked(libc.shutdown(fd, how))

    def getsockname(self, fd: int) -> bytes:
        name, size = ctypes.create_string_buffer(NAME_BYTES), ctypes.c_uint(NAME_BYTES)
        checked(libc.getsockname(fd, name, ctypes.byref(size)))
        return name.raw[: size.value]

    def getpeername(self, fd: int) -> bytes:
        name, size = ctypes.create_string_buffer(NAME_BYTES), ctypes.c_uint(NAME_BYTES)
        checked(libc.getpeername(fd, name, ctypes.byref(size)))
        return name.raw[: size.value]

    def sendto(self, fd: int, data: bytes, flags: int, addr: bytes | None) -> int:
        size = ctypes.c_size_t(len(data))
        return checked(libc.sendto(fd, data, size, flags, addr, len(addr or b"")))

    def recvfrom(self, fd: int, size: int, flags: int) -> tuple[int, bytes, bytes]:
        data = ctypes.create_string_buffer(max(size, 1))
        name, room = ctypes.create_string_buffer(NAME_BYTES), ctypes.c_uint(NAME_BYTES)
        n = checked(libc.recvfrom(fd, data, ctypes.c_size_t(size), flags, name, ctypes.byref(room)))
        return n, data.raw[: min(n, size)], name.raw[: room.value]

    def sendmsg(
        self, fd: int, bufs: list[bytes], control: Control, flags: int, addr: bytes | None
    ) -> int:
        kept = [ctypes.create_string_buffer(b, len(b) or 1) for b in bufs]
        iov = (IoVec * max(len(bufs), 1))()
        for vec, buf, data in zip(iov, kept, bufs, strict=False):
            vec.base, vec.len = ctypes.addressof(buf), len(data)
        packed = pack_control(control)
        room = ctypes.create_string_buffer(packed, len(packed) or 1)
        name = ctypes.create_string_buffer(addr or b"", max(len(addr or b""), 1))
        msg = MsgHdr(
            ctypes.addressof(name) if addr is not None else None,
            len(addr or b""),
            ctypes.addressof(iov),
            len(bufs),
            ctypes.addressof(room) if packed else None,
            len(packed),
            0,
        )
        return checked(libc.sendmsg(fd, ctypes.byref(msg), flags))

    def recvmsg(
        self, fd: int, sizes: list[int], room: int, flags: int
    ) -> tuple[int, bytes, Control, int, bytes]:
        bufs = [ctypes.create_string_buffer(max(size, 1)) for size in sizes]
        iov = (IoVec * max(len(sizes), 1))()
        for vec, buf, size in zip(iov, bufs, sizes, strict=False):
            vec.base, vec.len = ctypes.addressof(buf), size
        control = ctypes.create_string_buffer(max(room, 1))
        name = ctypes.create_string_buffer(NAME_BYTES)
        msg = MsgHdr(
            ctypes.addressof(name),
            NAME_BYTES,
            ctypes.addressof(iov),
            len(sizes),
            ctypes.addressof(control) if room else None,
            room,
            0,
        )
        n = checked(libc.recvmsg(fd, ctypes.byref(msg), flags))
        data = b"".join(buf.raw[:size] for buf, size in zip(bufs, sizes, strict=True))[:n]
        got = unpack_control(control.raw[: msg.controllen])
        return n, data, got, msg.flags, name.raw[: msg.namelen]

    def setsockopt(self, fd: int, level: int, name: int, value: bytes) -> None:
        checked(libc.setsockopt(fd, level, name, value, len(value)))

    def getsockopt(self, fd: int, level: int, name: int, size: int) -> bytes:
        value, got = ctypes.create_string_buffer(max(size, 1)), ctypes.c_uint(size)
        checked(libc.getsockopt(fd, level, name, value, ctypes.byref(got)))
        return value.raw[: min(got.value, size)]

    def ioctl(self, fd: int, request: int, value: int) -> int:
        arg = ctypes.create_string_buffer(256)
        struct.pack_into("=i", arg, 0, value)
        checked(libc.ioctl(fd, ctypes.c_ulong(request), arg))
        return int(struct.unpack_from("=i", arg)[0])

    def poll(self, fds: list[tuple[int, int]]) -> list[int]:
        raw = ctypes.create_string_buffer(b"".join(struct.pack("=iHH", f, e, 0) for f, e in fds))
        checked(libc.poll(raw, len(fds), 0))
        return [int(struct.unpack_from("=H", raw, 8 * i + 6)[0]) for i in range(len(fds))]

    def settle(self) -> None:
        # Packets over loopback wait in this processor's backlog, which is a queue. When a datagram
        # of ours has come through, so has all that was in front of it. The next one is behind what
        # that has brought about.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            probe.connect(probe.getsockname())
            for _ in range(8):
                probe.send(b"")
                probe.recv(1)

    def rest(self) -> None:
        time.sleep(0.06)
        self.settle()


def ip(*words: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def write(path: str, value: object) -> None:
    """Write a knob of the namespace; ignore a missing one."""
    file = Path("/proc/sys/net") / path
    if file.exists():
        file.write_text(f"{value}\n")


KNOBS = {
    "ipv4/ping_group_range": "0 2147483647",
    "ipv4/tcp_congestion_control": "reno",
}


def enter() -> None:
    """Leave the machine's network: a namespace with `lo`, and `eth0` without a peer."""
    processors = sorted(os.sched_getaffinity(0))  # `settle` is about the backlog of one
    os.sched_setaffinity(0, {processors[os.getpid() % len(processors)]})
    checked(libc.unshare(CLONE_NEWNET))
    ip("link", "set", "lo", "up")
    near = ("link", "add", "eth0", "index", "2", "address", "52:54:00:12:00:01")
    ip(*near, "type", "veth", "peer", "name", "far0", "index", "90")
    for knob, value in KNOBS.items():
        write(knob, value)
    write("ipv6/conf/far0/disable_ipv6", 1)
    write("ipv6/conf/eth0/accept_dad", 0)
    write("ipv4/conf/far0/arp_ignore", 8)
    ip("link", "set", "far0", "up")
    ip("link", "set", "eth0", "up")
    ip("addr", "add", f"{ADDR4}/24", "dev", "eth0")
    ip("-6", "addr", "add", f"{ADDR6}/64", "dev", "eth0", "nodad")
    # The link-local address and the route of groups come when the kernel's link watch sees the
    # carrier, up to a second later.
    deadline = time.monotonic() + 30
    while not any(
        line.startswith("fe80") and line.endswith(" eth0")
        for line in Path("/proc/self/net/if_inet6").read_text().splitlines()
    ):
        if time.monotonic() > deadline:
            raise TimeoutError("eth0 does not come up")
        time.sleep(0.01)


def sysctls() -> dict[str, Any]:
    """Return the knobs that configure our host like this kernel."""
    core = Path("/proc/sys/net/core")
    ours = ("rmem_max", "wmem_max", "rmem_default", "wmem_default", "optmem_max", "somaxconn")
    out: dict[str, Any] = {n: int((core / n).read_text()) for n in ours if (core / n).exists()}
    ipv4 = Path("/proc/sys/net/ipv4")
    for name in ("tcp_rmem", "tcp_wmem"):
        out[name] = tuple(map(int, (ipv4 / name).read_text().split()))
    out["tcp_congestion_control"] = (ipv4 / "tcp_congestion_control").read_text().strip()
    return out


def main() -> None:
    """Run tables."""
    enter()
    home = tempfile.mkdtemp(prefix="calls")
    os.chdir(home)
    out: dict[str, Any] = {"kernel": os.uname().release, "sysctl": sysctls(), "rows": {}}
    try:
        for name in sys.argv[1:]:
            world = World(Kernel())
            with world.case(name):
                TABLES[name](world)
            out["rows"][name] = world.rows
    finally:
        os.chdir("/")
        shutil.rmtree(home)
    # Not by sys.stdout, which PYTHONUNBUFFERED lets write a part when a signal comes.
    with open(sys.stdout.fileno(), "wb", closefd=False) as pipe:
        pickle.dump(out, pipe)


if __name__ == "__main__":
    main()
