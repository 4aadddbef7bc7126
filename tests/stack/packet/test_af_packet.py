"""Packet sockets on hosts of ours: what the kernel in a namespace cannot be asked for."""

from __future__ import annotations

import errno
import socket as stdlib
import struct
from typing import Any

import pytest

from stack.core.dev import dev_change_name, dev_close, dev_open, unregister_netdev
from stack.core.drop_reason import SKB_DROP_REASON_PACKET_SOCK_ERROR, SKB_DROP_REASON_SOCKET_FILTER
from stack.core.netdevice import IFF_ALLMULTI, IFF_PROMISC
from stack.host import Host
from tests.support import errno_of

AF_PACKET, SOL_PACKET, SOL_SOCKET = 17, 263, 1
ALL = stdlib.htons(3)
TEST = 0x88B5
FRAME = b"\xff" * 6 + bytes.fromhex("020000000001") + b"\x88\xb5" + bytes(range(50))

pytestmark = pytest.mark.sends_bad_frames


def mreq(host: Host, kind: int, addr: bytes = b"") -> bytes:
    return struct.pack("=iHH8s", host.dev("eth0").ifindex, kind, len(addr), addr)


def settle(host: Host) -> None:
    host.clock.run_for(1_000_000)


def test_nothing_is_looked_at_without_sockets(a: Host) -> None:
    dev = a.dev("eth0")
    plain = dict(dev.rx_fast)
    assert plain
    with a.socket(AF_PACKET, 3, ALL):
        assert a.ptype_all
        assert not dev.rx_fast
    with a.socket(AF_PACKET, 3, stdlib.htons(TEST)) as sock:
        assert dev.rx_fast.keys() >= plain.keys()  # the others' packets are not slowed down
        sock.bind(("eth0", TEST))
        assert len(dev.ptype_specific) == 1
    assert not a.ptype_all
    assert not dev.ptype_specific
    assert dict(dev.rx_fast) == plain
    assert a.packet_sklist == []


def test_memberships_end_with_the_socket(a: Host) -> None:
    dev = a.dev("eth0")
    group = b"\x01\x00\x5e\x01\x02\x03"
    before = list(dev.mc)
    one, two = (a.socket(AF_PACKET, 3, 0) for _ in range(2))
    for sock in (one, one, two):
        sock.setsockopt(SOL_PACKET, 1, mreq(a, 1))
        sock.setsockopt(SOL_PACKET, 1, mreq(a, 2))
        sock.setsockopt(SOL_PACKET, 1, mreq(a, 0, group))
        sock.setsockopt(SOL_PACKET, 1, mreq(a, 3, b"\x02\0\0\0\0\x09"))
    assert (dev.promiscuity, dev.allmulti) == (2, 2)
    assert dev.flags & IFF_PROMISC
    assert dev.flags & IFF_ALLMULTI
    one.setsockopt(SOL_PACKET, 2, mreq(a, 1))
    assert dev.promiscuity == 2  # asked for twice
    one.setsockopt(SOL_PACKET, 2, mreq(a, 1))
    assert dev.promiscuity == 1
    one.close()
    assert (dev.promiscuity, dev.allmulti) == (1, 1)
    assert group in dev.mc
    two.close()
    assert (dev.promiscuity, dev.allmulti) == (0, 0)
    assert list(dev.mc) == before
    assert not len(dev.uc)
    assert not dev.flags & (IFF_PROMISC | IFF_ALLMULTI)


def test_a_promiscuous_socket_hears_what_is_for_others(a: Host, b: Host) -> None:
    other = b"\x02\0\0\0\0\x77" + FRAME[6:]
    with a.socket(AF_PACKET, 3, 0) as sender, b.socket(AF_PACKET, 3, 0) as sock:
        sender.bind(("eth0", 0))
        sock.bind(("eth0", TEST))
        sock.setblocking(False)
        sender.send(other)
        settle(a)
        with pytest.raises(BlockingIOError):
            sock.recv(100)
        sock.setsockopt(SOL_PACKET, 1, mreq(b, 1))
        sender.send(other)
        settle(a)
        data, name = sock.recvfrom(100)
        assert data == other
        assert name == ("eth0", TEST, 3, 1, FRAME[6:12])


def test_an_interface_that_goes_away(a: Host) -> None:
    dev = a.dev("eth0")
    with a.socket(AF_PACKET, 3, ALL) as sock, a.socket(AF_PACKET, 3, 0) as idle:
        sock.bind(("eth0", 3))
        idle.bind(("eth0", 0))
        sock.setsockopt(SOL_PACKET, 1, mreq(a, 1))
        dev_close(dev)
        assert sock.poll() & 8
        for sock_ in (sock, sock):
            assert errno_of(sock_.send, FRAME) == errno.ENETDOWN
        assert sock.getsockopt(SOL_SOCKET, 4) == errno.ENETDOWN
        dev_open(dev)
        settle(a)
        assert sock.net.ptype_all or dev.ptype_specific  # it hears again
        unregister_netdev(dev)
        assert dev.promiscuity == 0
        assert sock.getsockname() == ("", 3, 0, 0, b"")
        sock.getsockopt(SOL_SOCKET, 4)
        for gone in (sock, idle):
            assert errno_of(gone.send, FRAME) == errno.ENXIO


def test_names_of_interfaces_are_those_of_now(a: Host, b: Host) -> None:
    with b.socket(AF_PACKET, 3, ALL) as sock, a.socket(AF_PACKET, 3, 0) as sender:
        sender.bind(("eth0", 0))
        sender.send(FRAME)
        settle(a)
        dev_close(b.dev("eth0"))
        assert dev_change_name(b.dev("eth0"), "wan0") == 0
        assert sock.recvfrom(100)[1][0] == "wan0"


def test_a_full_buffer_drops_and_counts(a: Host, b: Host) -> None:
    with a.socket(AF_PACKET, 3, 0) as sender, b.socket(AF_PACKET, 3, 0) as sock:
        sender.bind(("eth0", 0))
        sock.setsockopt(SOL_SOCKET, 8, 1)
        sock.bind(("eth0", TEST))
        for _ in range(20):
            sender.send(FRAME)
            settle(a)
        packets, drops = struct.unpack("=II", sock.getsockopt(SOL_PACKET, 6, 8))
        assert packets == 20
        assert 0 < drops < 20
        assert b.drop_reasons[SKB_DROP_REASON_PACKET_SOCK_ERROR] == drops
        assert sock.getsockopt(SOL_PACKET, 6, 8) == bytes(8)
        sock.setblocking(False)
        for _ in range(packets - drops):
            assert sock.recv(100)[:14] == FRAME[:14]
        with pytest.raises(BlockingIOError):
            sock.recv(100)


def test_time_stamps(a: Host, b: Host) -> None:
    with a.socket(AF_PACKET, 3, 0) as sender, b.socket(AF_PACKET, 3, 0) as sock:
        sender.bind(("eth0", 0))
        sock.bind(("eth0", TEST))
        sock.setsockopt(SOL_SOCKET, 35, 1)
        sender.send(FRAME)
        settle(a)
        came = b.realtime_ns() - 1_000_000
        b.clock.run_for(5_000_000_000)
        _, anc, _, _ = sock.recvmsg(100, 64)
        ((level, kind, value),) = anc
        assert (level, kind) == (SOL_SOCKET, 35)
        sec, nsec = struct.unpack("=qq", value)
        assert came <= sec * 10**9 + nsec <= came + 1_000_000


def test_only_root_may(a: Host) -> None:
    user = a.netns_add("user", uid=1000)
    with pytest.raises(PermissionError) as info:
        user.socket(AF_PACKET, 3, ALL)
    assert info.value.errno == errno.EPERM


@pytest.mark.parametrize(
    ("address", "error"),
    [
        (("eth0",), TypeError),
        ("eth0", TypeError),
        (("eth0", "x"), TypeError),
        ((1, 2), TypeError),
        (("eth0", 0x10000), OverflowError),
        (("eth0", 3, 0, 0, bytes(9)), ValueError),
        (("none", 3), OSError),
    ],
)
def test_bad_addresses(a: Host, address: Any, error: type[Exception]) -> None:
    with a.socket(AF_PACKET, 3, 0) as sock, pytest.raises(error):
        sock.bind(address)
    with a.socket(2, 2) as udp, pytest.raises((TypeError, OSError)):
        udp.bind(("eth0", 3, 0, 0, b""))  # type: ignore[arg-type]


def test_address_of_another_family_is_refused(hosts: tuple[Host, Host]) -> None:
    from stack.core.bsd_socket import sys_bind, sys_sendto
    from stack.core.sockaddr import sockaddr, sockaddr_ll

    a, _ = hosts
    with a.socket(AF_PACKET, 3, 0) as sock, a.socket(2, 2) as udp:
        for call in (
            lambda: sys_bind(a, sock.host_fd, sockaddr(2, 1, 2)),
            lambda: sys_sendto(a, sock.host_fd, FRAME, 0, sockaddr(2, 1, 2)),
            lambda: sys_sendto(a, udp.host_fd, FRAME, 0, sockaddr_ll(3, 2)),
        ):
            assert errno_of(call) in (errno.EINVAL, errno.EAFNOSUPPORT)


def test_large_frames_by_loopback(a: Host) -> None:
    frame = bytes(12) + b"\x88\xb5" + bytes(range(256)) * 200
    with a.socket(AF_PACKET, 3, 0) as sender, a.socket(AF_PACKET, 2, 0) as sock:
        sender.bind(("lo", 0))
        sock.bind(("lo", TEST))
        assert sender.send(frame) == len(frame)
        settle(a)
        data, name = sock.recvfrom(100000)
        assert data == frame[14:]
        assert name == ("lo", TEST, 0, 772, bytes(6))


def test_bypass_of_the_queue_is_not_seen_by_taps(a: Host, b: Host) -> None:
    with a.socket(AF_PACKET, 3, 0) as sender, a.socket(AF_PACKET, 3, ALL) as tap, \
            b.socket(AF_PACKET, 3, stdlib.htons(TEST)) as sock:  # fmt: skip
        sender.bind(("eth0", 0))
        sender.setsockopt(SOL_PACKET, 20, 1)
        tap.setblocking(False)
        sender.send(FRAME)
        settle(a)
        assert sock.recv(100) == FRAME
        with pytest.raises(BlockingIOError):
            tap.recv(100)


# --- filters of other sockets ------------------------------------------------------------------

ODD = [(0x30, 0, 0, 8), (0x45, 0, 1, 1), (6, 0, 0, 0xFFFF), (6, 0, 0, 0)]  # first byte of payload


def test_filter_of_udp(a: Host, b: Host) -> None:
    with a.socket(2, 2) as sender, b.socket(2, 2) as sock:
        sock.bind(("", 4000))
        sock.setsockopt(SOL_SOCKET, 26, ODD)
        for data in (b"\1one", b"\2two", b"\3three"):
            sender.sendto(data, ("10.0.0.2", 4000))
        settle(a)
        sock.setblocking(False)
        assert [sock.recv(100) for _ in range(2)] == [b"\1one", b"\3three"]
        assert b.drop_reasons[SKB_DROP_REASON_SOCKET_FILTER] == 1
        assert len(sock.getsockopt(SOL_SOCKET, 26, 1024)) == 4 * 8
        assert struct.unpack("=HBBI", sock.getsockopt(SOL_SOCKET, 26, 4)[:8]) == ODD[0]
        assert errno_of(sock.getsockopt, SOL_SOCKET, 26, 3) == errno.EINVAL
        sock.setsockopt(SOL_SOCKET, 26, [(6, 0, 0, 10)])  # header and 2 bytes
        sender.sendto(b"longer", ("10.0.0.2", 4000))
        settle(a)
        assert sock.recv(100) == b"lo"
        sock.setsockopt(SOL_SOCKET, 27, 0)
        sender.sendto(b"\2", ("10.0.0.2", 4000))
        settle(a)
        assert sock.recv(100) == b"\2"


def test_filter_of_tcp_is_its_childrens_too(a: Host, b: Host) -> None:
    with b.socket() as listener, a.socket() as client:
        # nothing that carries data of 4 bytes and more behind a header of 32
        listener.setsockopt(SOL_SOCKET, 26, [(0x80, 0, 0, 0), (0x35, 0, 1, 60), (6, 0, 0, 0),
                                             (6, 0, 0, 0xFFFF)])  # fmt: skip
        listener.bind(("", 5000))
        listener.listen()
        client.connect(("10.0.0.2", 5000))
        child, _ = listener.accept()
        with child:
            assert len(child.getsockopt(SOL_SOCKET, 26, 1024)) == 4 * 8
            client.send(b"abc")
            assert child.recv(10) == b"abc"
            client.send(b"x" * 100)
            a.clock.run_for(100_000_000)
            child.setblocking(False)
            with pytest.raises(BlockingIOError):
                child.recv(1000)
            child.setsockopt(SOL_SOCKET, 27, 0)
            a.clock.run_for(5_000_000_000)  # sent once more
            assert child.recv(1000) == b"x" * 100


def test_filter_of_raw_and_ping_sockets(a: Host, b: Host) -> None:
    with b.socket(2, 3, 1) as raw, a.socket(2, 2, 1) as ping:
        raw.setsockopt(SOL_SOCKET, 26, [(6, 0, 0, 20)])
        ping.setsockopt(SOL_SOCKET, 26, [(6, 0, 0, 8)])
        ping.sendto(b"\x08\0\0\0\0\0\0\1payload", ("10.0.0.2", 0))
        settle(a)
        assert len(raw.recv(100)) == 20
        assert len(ping.recv(100)) == 8


def test_filter_option_errors(a: Host) -> None:
    def fails(number: int, value: Any) -> int:
        return errno_of(sock.setsockopt, SOL_SOCKET, number, value)

    with a.socket(2, 2) as sock:
        assert fails(27, 0) == errno.ENOENT
        assert fails(26, b"short") == errno.EINVAL
        assert fails(26, struct.pack("@HP", 1, 0)) == errno.EINVAL
        assert fails(26, struct.pack("@HP", 1, 16)) == errno.EFAULT
        assert fails(26, []) == errno.EINVAL
        assert fails(26, [(0x30, 0, 0, 0)] * 4096 + [(6, 0, 0, 0)]) == errno.EINVAL
        assert fails(26, [(0x30, 0, 0, 0x10000)] * 4000 + [(6, 0, 0, 0)]) == errno.ENOMEM
        assert fails(50, 3) == errno.EBADF
        sock.setsockopt(SOL_SOCKET, 26, [(6, 0, 0, 1)])
        sock.setsockopt(SOL_SOCKET, 44, 1)
        assert sock.getsockopt(SOL_SOCKET, 44) == 1
        for number, value in ((26, [(6, 0, 0, 1)]), (27, 0), (44, 0), (50, 3)):
            assert fails(number, value) == errno.EPERM
        meminfo = struct.unpack("=9I", sock.getsockopt(SOL_SOCKET, 55, 36))
        assert meminfo[6] == 136
