"""ioctl(2): who may, what memory has to be like, what changes an interface."""

from __future__ import annotations

import array
import ctypes
import errno
import struct

import pytest

from e1000emu.clock import VirtualClock
from stack.api import fcntl
from stack.api.select import epoll
from stack.core import dev_ioctl as d
from stack.core.ioctl import sys_ioctl
from stack.core.memory import read_string, write_address
from stack.core.uapi import FIOASYNC, FIOCLEX, FIONCLEX, SIOCGSTAMP, SIOCGSTAMPNS
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM
from tests.stack.core.wire import QUIET6, add_wire_device
from tests.stack.ipv4.ioctl_program import (
    ADDRT,
    GIFCONF,
    SARP,
    SIFADDR,
    SIFFLAGS,
    arp,
    hw,
    ifr,
    in6,
    integer,
    rtentry,
    rtmsg,
    sin,
)
from tests.support import errno_of


@pytest.fixture
def host():
    with Host("h", clock=VirtualClock(), sysctl=QUIET6) as host:
        add_wire_device(host, b"\2\0\0\0\0\1")
        yield host


def test_only_root_changes_anything() -> None:
    with Host("h", clock=VirtualClock(), uid=1000, sysctl=QUIET6) as host:
        add_wire_device(host, b"\2\0\0\0\0\1")
        sock, six = host.socket(AF_INET, SOCK_DGRAM), host.socket(10, SOCK_DGRAM)
        for which, request, arg in (
            (sock, SIFFLAGS, ifr("eth0", b"\1\0")),
            (sock, d.SIOCSIFMTU, ifr("eth0", integer(1400))),
            (sock, d.SIOCSIFNAME, ifr("eth0", b"wan")),
            (sock, d.SIOCSIFHWADDR, ifr("eth0", hw(b"\2\0\0\0\0\2"))),
            (sock, d.SIOCSIFTXQLEN, ifr("eth0", integer(1))),
            (sock, d.SIOCADDMULTI, ifr("eth0", hw(b"\1\0\0\0\0\2", 0))),
            (sock, SIFADDR, ifr("eth0", sin("10.0.0.1"))),
            (sock, ADDRT, rtentry("10.0.0.0", "255.0.0.0")),
            (sock, SARP, arp("10.0.0.2", b"\2\0\0\0\0\2", 2)),
            (six, SIFADDR, in6("2001:db8::1", 64, 2)),
            (six, d.SIOCDIFADDR, in6("2001:db8::1", 64, 2)),
            (six, ADDRT, rtmsg("2001:db8::", 32, dev=2)),
        ):
            assert errno_of(fcntl.ioctl, host, which, request, arg) == errno.EPERM
        flags = fcntl.ioctl(host, sock, d.SIOCGIFFLAGS, ifr("eth0"))
        assert not flags[16] & 1


def test_memory_that_is_not_there(host: Host) -> None:
    sock = host.socket(AF_INET, SOCK_DGRAM)
    for arg in (None, 0, bytearray(39), b"\0" * 40):  # the last can be read, but not written
        assert errno_of(sys_ioctl, host, sock.host_fd, d.SIOCGIFMTU, arg) in (
            errno.EFAULT,
            errno.ENODEV,
        )
    assert errno_of(sys_ioctl, host, sock.host_fd, d.SIOCGIFHWADDR, ifr("lo")) == errno.EFAULT
    assert errno_of(fcntl.ioctl, host, sock, GIFCONF, struct.pack("@iP", 4000, 8)) == errno.EFAULT
    room = ctypes.create_string_buffer(b"eth0")
    entry = bytearray(rtentry("10.0.0.0", "255.0.0.0", dev=room))
    entry[88:96] = (16).to_bytes(8, "little")  # rt_dev, an address where nothing is
    assert errno_of(fcntl.ioctl, host, sock, ADDRT, bytes(entry)) == errno.EFAULT
    assert read_string(ctypes.addressof(room), 15) == b"eth0"
    assert read_string(ctypes.addressof(room), 2) == b"et"
    write_address(ctypes.addressof(room), b"lo\0")
    assert room.value == b"lo"
    with pytest.raises(OSError, match="address"):
        read_string(24, 4)


def test_the_recipe_of_every_tutorial(host: Host) -> None:
    """SIOCGIFCONF into an array, by its address: each interface with an IPv4 address."""
    host.ifconfig("eth0", "10.0.0.7/24", up=True)
    sock = host.socket(AF_INET, SOCK_DGRAM)
    names = array.array("B", b"\0" * 4096)
    (size, _) = struct.unpack(
        "iL", fcntl.ioctl(host, sock, GIFCONF, struct.pack("iL", 4096, names.buffer_info()[0]))
    )
    text = names.tobytes()
    found = {
        text[i : i + 16].partition(b"\0")[0]: ".".join(map(str, text[i + 20 : i + 24]))
        for i in range(0, size, 40)
    }
    assert found == {b"lo": "127.0.0.1", b"eth0": "10.0.0.7"}
    answer = fcntl.ioctl(host, sock, d.SIOCGIFADDR, struct.pack("256s", b"eth0"))
    assert (answer[20:24], len(answer)) == (bytes([10, 0, 0, 7]), 256)
    again = bytearray(ifr("eth0"))
    assert fcntl.ioctl(host, sock, d.SIOCGIFINDEX, again) == 0
    assert struct.unpack_from("i", again, 16)[0] == host.dev("eth0").ifindex
    assert fcntl.ioctl(host, sock, d.SIOCGIFINDEX, again, False) == bytes(again)
    with pytest.raises(ValueError, match="too long"):
        fcntl.ioctl(host, sock, d.SIOCGIFINDEX, bytes(2000))


def test_an_address_set_by_ioctl_carries_traffic() -> None:
    """ifconfig as of old: address, mask, up, a route; then a datagram goes its way."""
    with Host("h", clock=VirtualClock(), sysctl=QUIET6) as host:
        wire = add_wire_device(host, b"\2\0\0\0\0\1")
        sock = host.socket(AF_INET, SOCK_DGRAM)
        for request, arg in (
            (SIFADDR, ifr("eth0", sin("10.1.0.1"))),
            (d.SIOCSIFNETMASK, ifr("eth0", sin("255.255.255.0"))),
            (SIFFLAGS, ifr("eth0", struct.pack("=H", 0x1043))),
            (SARP, arp("10.1.0.9", b"\2\0\0\0\0\x09", 6)),
            (ADDRT, rtentry("192.0.2.0", "255.255.255.0", "10.1.0.9", 3)),
        ):
            fcntl.ioctl(host, sock, request, arg)
        sock.sendto(b"x", ("192.0.2.5", 9))
        host.clock.run_for(1000)
        assert wire.sent[-1][:6] == b"\2\0\0\0\0\x09"


def test_stamps_flags_and_what_is_no_socket(host: Host) -> None:
    one, two = (host.socket(AF_INET, SOCK_DGRAM) for _ in range(2))
    two.bind(("127.0.0.1", 9))
    assert errno_of(fcntl.ioctl, host, two, SIOCGSTAMP, bytes(16)) == errno.ENOENT
    one.sendto(b"x", ("127.0.0.1", 9))
    two.recv(9)
    sec, usec = struct.unpack("qq", fcntl.ioctl(host, two, SIOCGSTAMP, bytes(16)))
    assert struct.unpack("qq", fcntl.ioctl(host, two, SIOCGSTAMPNS, bytes(16)))[0] == sec
    assert 0 <= usec < 1_000_000
    fcntl.ioctl(host, two, FIOCLEX)
    assert fcntl.fcntl(host, two, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
    fcntl.ioctl(host, two, FIONCLEX)
    assert fcntl.fcntl(host, two, fcntl.F_GETFD) == 0
    with epoll(host) as ep:
        assert errno_of(fcntl.ioctl, host, ep, d.SIOCGIFMTU, ifr("lo")) == errno.ENOTTY
        assert errno_of(fcntl.ioctl, host, ep, FIOASYNC, integer(1)) == errno.ENOTTY
    assert errno_of(fcntl.ioctl, host, 999, FIOCLEX) == errno.EBADF
