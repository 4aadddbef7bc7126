"""/dev/net/tun without a program: the file's functions, and what a hostile one may write."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from stack.core.bsd_socket import sys_close
from stack.core.dev import dev_get_stats
from stack.core.file import O_RDWR, fget, vfs_poll
from stack.core.ioctl import sys_ioctl
from stack.core.read_write import sys_read, sys_readv, sys_write, sys_writev
from stack.core.rtnetlink import rtnl_delete_link
from stack.core.uapi import POLLERR, POLLIN, POLLOUT
from stack.drivers.tun import IFF_NO_PI, IFF_TAP, IFF_TUN, IFF_VNET_HDR
from stack.drivers.tun_chr import tun_chr_open
from stack.drivers.tun_ioctl import (
    REQUESTS,
    TUNGETFEATURES,
    TUNGETIFF,
    TUNSETGROUP,
    TUNSETIFF,
    TUNSETPERSIST,
    TUNSETTXFILTER,
    tun_arg_bytes,
)
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM, Socket
from tests.stack.core.wire import QUIET6, assert_no_leak
from tests.support import examples

KINDS = [
    kind | pi | vnet
    for kind in (IFF_TUN, IFF_TAP)
    for pi in (0, IFF_NO_PI)
    for vnet in (0, IFF_VNET_HDR)
]
HEADERS = (b"\x45", b"\x60", b"\0\0\x08\0\x45", b"\0\0\x86\xdd\x60", bytes(12) + b"\x08\0\x45")
WRITES = (0, errno.EINVAL, errno.EIO, errno.EMSGSIZE)
KNOWN = (0, errno.EINVAL, errno.EFAULT, errno.EEXIST, errno.EBUSY, errno.EADDRNOTAVAIL, errno.EPERM)


@pytest.fixture
def host() -> Iterator[Host]:
    one = Host("a", clock=VirtualClock(), sysctl=QUIET6)
    yield one
    assert_no_leak(one)


def opened(host: Host, flags: int = IFF_TUN | IFF_NO_PI, name: bytes = b"") -> int:
    """A descriptor with an interface."""
    fd = tun_chr_open(host, O_RDWR)
    sys_ioctl(host, fd, TUNSETIFF, bytearray(struct.pack("16sH22x", name, flags)))
    return fd


def errno_of(call: Any, *args: Any) -> int:
    """The errno with which the call fails; 0: it does not."""
    try:
        call(*args)
    except OSError as exc:
        return exc.errno or -1
    return 0


def refused(code: int, call: Any, *args: Any) -> None:
    """The call fails with this errno."""
    assert errno_of(call, *args) == code


def test_a_packet_each_way(host: Host) -> None:
    with host.lock:
        fd = opened(host)
        file = fget(host, fd)
        refused(errno.EAGAIN, sys_read, host, fd, bytearray(99))
        assert not vfs_poll(file)
    host.ifconfig("tun0", "10.5.0.1/24", up=True)
    assert vfs_poll(file) & (POLLIN | POLLOUT) == POLLOUT
    with Socket(host, AF_INET, SOCK_DGRAM) as sock:
        sock.bind(("10.5.0.1", 7))
        sock.sendto(b"there", ("10.5.0.2", 7))
        with host.lock:
            assert vfs_poll(file) & POLLIN
            head, rest = bytearray(20), bytearray(99)
            assert sys_readv(host, fd, [head, rest]) == 33
            assert rest[8:13] == b"there"
            back = bytes(head[:12] + head[16:20] + head[12:16])
            assert sys_writev(host, fd, [back, bytes(rest[:13])]) == 33
        assert sock.recvfrom(99) == (b"there", ("10.5.0.2", 7))
    with host.lock:
        sys_close(host, fd)
        assert "tun0" not in host.dev_by_name


def test_the_interface_ends_first(host: Host) -> None:
    with host.lock:
        fd = opened(host, name=b"vpn%d")
        file = fget(host, fd)
        rtnl_delete_link(host.dev("vpn0"))
        assert vfs_poll(file) == POLLERR
        refused(errno.EBADFD, sys_read, host, fd, bytearray(9))
        refused(errno.EBADFD, sys_ioctl, host, fd, TUNSETPERSIST, 1)
        sys_close(host, fd)


def test_the_host_ends_first() -> None:
    host = Host("a", clock=VirtualClock(), sysctl=QUIET6)
    with host.lock:
        opened(host)
        opened(host, IFF_TAP)
    host.close()


def test_a_link_of_the_lab_is_nobodys_to_open(host: Host) -> None:
    from e1000emu.links import pair

    host.add_tap("tap0", pair(host.clock)[0])
    with host.lock:
        refused(errno.EBUSY, opened, host, IFF_TAP | IFF_NO_PI, b"tap0")
        refused(errno.EINVAL, opened, host, IFF_TUN | IFF_NO_PI, b"tap0")


def test_the_group_of_an_interface_may_open_it(host: Host) -> None:
    ifreq = struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI)
    with host.lock:
        fd = opened(host, name=b"tun0")
        sys_ioctl(host, fd, TUNSETPERSIST, 1)
        sys_ioctl(host, fd, TUNSETGROUP, 7)
        sys_close(host, fd)
        host.uid, host.gid = 1000, 8
        fd = tun_chr_open(host, O_RDWR)
        refused(errno.EPERM, sys_ioctl, host, fd, TUNSETIFF, bytearray(ifreq))
        host.gid = 7
        sys_ioctl(host, fd, TUNSETIFF, bytearray(ifreq))
        sys_close(host, fd)
        rtnl_delete_link(host.dev("tun0"))


def test_answers_without_memory_for_them(host: Host) -> None:
    with host.lock:
        fd = opened(host)
        assert sys_ioctl(host, fd, TUNGETFEATURES) & (IFF_TUN | IFF_TAP)
        refused(errno.EFAULT, sys_ioctl, host, fd, TUNGETIFF)
        assert tun_arg_bytes(TUNSETTXFILTER, struct.pack("=HH", 0, 3)) == 4 + 18
        sys_close(host, fd)


@given(
    flags=st.sampled_from(KINDS),
    written=st.lists(
        st.builds(
            lambda vnet, head, body: vnet + head + body,
            st.sampled_from((b"", bytes(10)))
            | st.builds(
                lambda *fields: struct.pack("=BBHHHH", *fields),
                st.sampled_from((0, 1, 2)),
                st.sampled_from((0, 1, 3, 4, 5, 0x81, 255)),
                *[st.integers(0, 99) | st.integers(0, 65535)] * 4,
            ),
            st.sampled_from(HEADERS) | st.just(b""),
            st.binary(max_size=80) | st.integers(0, 70000).map(bytes),
        ),
        max_size=8,
    ),
    up=st.booleans(),
)
@settings(deadline=None, max_examples=examples(300))
def test_whatever_is_written_is_a_packet_or_an_errno(
    flags: int, written: list[bytes], up: bool
) -> None:
    host = Host("a", clock=VirtualClock(), sysctl=QUIET6)
    with host.lock:
        fd = opened(host, flags, b"t0")
    host.ifconfig("t0", "10.5.0.1/24", up=up)
    with host.lock:
        for data in written:
            assert errno_of(sys_write, host, fd, data) in WRITES
        assert up or not dev_get_stats(host.dev("t0")).rx_packets
        sys_close(host, fd)
    assert_no_leak(host)


@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from([*REQUESTS, TUNSETIFF, 0x54FF]),
            st.none() | st.integers(-(1 << 31), 1 << 31) | st.binary(max_size=50).map(bytearray),
        ),
        max_size=8,
    )
)
@settings(deadline=None, max_examples=examples(200))
def test_whatever_is_requested_is_done_or_an_errno(requests: list[tuple[int, Any]]) -> None:
    host = Host("a", clock=VirtualClock(), sysctl=QUIET6)
    with host.lock:
        fd = opened(host, IFF_TAP)
        for request, arg in requests:
            assert errno_of(sys_ioctl, host, fd, request, arg) in KNOWN
        sys_close(host, fd)
    host.close()
