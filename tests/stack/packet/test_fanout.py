"""Fanout groups: which socket of several gets a frame; the calls are held against Linux's in
test_packet_kernel.py."""

from __future__ import annotations

import errno
import socket as stdlib
import struct
from typing import Any

import pytest

from stack.host import Host
from stack.proc import read
from tests.support import errno_of

AF_PACKET, SOL_PACKET = 17, 263
FANOUT, ROLLOVER_STATS, FANOUT_DATA = 18, 21, 22
HASH, LB, CPU, ROLLOVER, RND, QM, CBPF, EBPF = range(8)
FLAG_ROLLOVER, FLAG_UNIQUEID, FLAG_IGNORE_OUTGOING, FLAG_DEFRAG = 0x1000, 0x2000, 0x4000, 0x8000
IP = 0x0800


def group(host: Host, count: int, way: int, ident: int = 7, proto: int = IP) -> list[Any]:
    socks = []
    for _ in range(count):
        sock = host.socket(AF_PACKET, stdlib.SOCK_DGRAM, stdlib.htons(proto))
        sock.bind(("eth0", proto))
        sock.setsockopt(SOL_PACKET, FANOUT, ident | way << 16)
        socks.append(sock)
    return socks


def datagrams(a: Host, b: Host, ports: list[tuple[int, int]]) -> None:
    """UDP from a to b, each (source port, destination port)."""
    to = a.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM)
    to.connect(("10.0.0.2", 1))
    source = to.getsockname()[0]
    to.close()
    for sport, dport in ports:
        with a.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as sock:
            sock.bind((source, sport))
            sock.sendto(b"x" * 30, ("10.0.0.2", dport))
    a.clock.run_for(5_000_000)


def received(sock: Any) -> list[tuple[int, int]]:
    """(source port, destination port) of what waits; of UDP alone."""
    sock.setblocking(False)
    got = []
    while True:
        try:
            data = sock.recv(2000)
        except BlockingIOError:
            return got
        if data[9] == 17:
            got.append(struct.unpack("!HH", data[20:24]))


def everything(sock: Any) -> list[bytes]:
    sock.setblocking(False)
    got = []
    while True:
        try:
            got.append(sock.recv(2000))
        except BlockingIOError:
            return got


PORTS = [(2000 + i % 16, 9000) for i in range(64)]


def test_round_robin(a: Host, b: Host) -> None:
    socks = group(b, 4, LB)
    datagrams(a, b, PORTS)
    assert [len(received(sock)) for sock in socks] == [16] * 4


@pytest.mark.parametrize("way", [CPU, QM, CBPF])
def test_one_cpu_one_queue_and_no_program_choose_the_first(a: Host, b: Host, way: int) -> None:
    socks = group(b, 3, way)
    datagrams(a, b, PORTS)
    assert [len(received(sock)) for sock in socks] == [64, 0, 0]


def test_a_flow_stays_with_a_socket(a: Host, b: Host) -> None:
    socks = group(b, 4, HASH)
    datagrams(a, b, PORTS)
    flows = [set(received(sock)) for sock in socks]
    assert sum(map(len, flows)) == 16
    assert set.union(*flows) == set(PORTS)
    assert sum(map(bool, flows)) > 1


def test_both_directions_of_a_flow_meet(a: Host, b: Host) -> None:
    socks = group(b, 4, HASH, proto=3)
    datagrams(a, b, PORTS)
    datagrams_back = [(dport, sport) for sport, dport in PORTS]
    with b.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as sock:
        sock.bind(("10.0.0.2", 9000))
        for _, port in datagrams_back:
            sock.sendto(b"y" * 30, ("10.0.0.1", port))
    a.clock.run_for(5_000_000)
    for sock in socks:
        seen = set(received(sock))
        assert {(dport, sport) for sport, dport in seen} == seen


def test_at_random_all_are_chosen(a: Host, b: Host) -> None:
    socks = group(b, 2, RND)
    datagrams(a, b, PORTS)
    counts = [len(received(sock)) for sock in socks]
    assert sum(counts) == 64
    assert all(counts)


def test_a_program_chooses(a: Host, b: Host) -> None:
    socks = group(b, 2, CBPF)
    by_port = [(0x28, 0, 0, 20), (0x16, 0, 0, 0)]  # ldh [20]; ret a: the source port
    socks[1].setsockopt(SOL_PACKET, FANOUT_DATA, by_port)
    datagrams(a, b, PORTS)
    for i, sock in enumerate(socks):
        assert {port % 2 for port, _ in received(sock)} == {i}


def test_what_has_no_room_goes_to_the_next(a: Host, b: Host) -> None:
    for way in (ROLLOVER, CPU | FLAG_ROLLOVER << 0):
        socks = group(b, 2, way, ident=way & 0xFF)
        socks[0].setsockopt(stdlib.SOL_SOCKET, stdlib.SO_RCVBUF, 0)  # the least: 2304 bytes
        datagrams(a, b, PORTS)
        stats = struct.unpack("=QQQ", socks[0].getsockopt(SOL_PACKET, ROLLOVER_STATS, 24))
        counts = [len(received(sock)) for sock in socks]
        assert sum(counts) == 64
        assert counts[1] > 32
        assert stats[0] >= counts[1]
        for sock in socks:
            sock.close()
        assert not b.packet_fanout_list


def test_a_group_does_not_see_what_its_sockets_send(a: Host, b: Host) -> None:
    socks = group(b, 2, LB, proto=3)
    with b.socket(AF_PACKET, stdlib.SOCK_DGRAM, stdlib.htons(3)) as other:
        socks[0].sendto(bytes(50), ("eth0", 0x88B5, 0, 0, b"\2" * 6))
        a.clock.run_for(1_000_000)
        other.setblocking(False)
        assert len(other.recv(100)) == 50
    for sock in socks:
        assert bytes(50) not in everything(sock)


def test_outgoing_frames_can_be_left_out(a: Host, b: Host) -> None:
    socks = group(a, 1, LB | FLAG_IGNORE_OUTGOING, proto=3)
    datagrams(a, b, PORTS)
    assert received(socks[0]) == []


def test_an_interface_that_goes_down_takes_its_sockets_out(b: Host) -> None:
    socks = group(b, 2, LB)
    assert len(socks[0].sk.fanout.arr) == 2
    b.ifconfig("eth0", up=False)
    assert socks[0].sk.fanout.arr == []
    b.ifconfig("eth0", up=True)
    assert len(socks[0].sk.fanout.arr) == 2


def test_a_socket_joins_while_its_interface_is_down(a: Host, b: Host) -> None:
    b.ifconfig("eth0", up=False)
    socks = group(b, 2, LB)
    for sock in socks:
        assert sock.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_ERROR) == errno.ENETDOWN
        assert sock.sk.fanout.arr == []
    b.ifconfig("eth0", up=True)
    assert b.wait_carrier("eth0")
    datagrams(a, b, PORTS)
    assert sum(len(received(sock)) for sock in socks) == len(PORTS)


def test_what_a_group_refuses(b: Host) -> None:
    first, second = group(b, 2, LB)
    assert first.getsockopt(SOL_PACKET, FANOUT) == 7 | LB << 16
    assert errno_of(first.setsockopt, SOL_PACKET, FANOUT, 7) == errno.EALREADY
    assert errno_of(first.bind, ("eth0", IP)) == errno.EINVAL
    assert errno_of(first.getsockopt, SOL_PACKET, ROLLOVER_STATS) == errno.EINVAL
    assert errno_of(first.setsockopt, SOL_PACKET, FANOUT_DATA, [(6, 0, 0, 0)]) == errno.EINVAL
    with b.socket(AF_PACKET, stdlib.SOCK_RAW, 0) as idle:
        for value in (7 | LB << 16, 9 | 8 << 16, 9 | (ROLLOVER | FLAG_ROLLOVER) << 16, b"123"):
            assert errno_of(idle.setsockopt, SOL_PACKET, FANOUT, value) == errno.EINVAL
    with b.socket(AF_PACKET, stdlib.SOCK_RAW, stdlib.htons(3)) as other:
        assert errno_of(other.setsockopt, SOL_PACKET, FANOUT, 7 | LB << 16) == errno.EINVAL
        assert errno_of(other.setsockopt, SOL_PACKET, FANOUT, 9 | FLAG_DEFRAG << 16) == errno.EINVAL
        other.setsockopt(SOL_PACKET, FANOUT, (EBPF | FLAG_UNIQUEID) << 16)
        assert other.getsockopt(SOL_PACKET, FANOUT) >> 16 == EBPF
        assert errno_of(other.setsockopt, SOL_PACKET, FANOUT_DATA, 3) == errno.EBADF
    small = struct.pack("=HHI", 3, LB, 1)
    with b.socket(AF_PACKET, stdlib.SOCK_RAW, stdlib.htons(3)) as one, \
            b.socket(AF_PACKET, stdlib.SOCK_RAW, stdlib.htons(3)) as two:  # fmt: skip
        one.setsockopt(SOL_PACKET, FANOUT, small)
        assert errno_of(two.setsockopt, SOL_PACKET, FANOUT, small) == errno.ENOSPC
    second.close()
    first.close()
    assert not b.packet_fanout_list


def test_proc_net_packet(b: Host) -> None:
    sock = b.socket(AF_PACKET, stdlib.SOCK_RAW, stdlib.htons(IP))
    sock.bind(("eth0", IP))
    head, line = read(b, "packet").splitlines()
    assert head == "sk               RefCnt Type Proto  Iface R Rmem   User   Inode"
    fields = line.split()
    assert fields[2:6] == ["3", "0800", str(b.dev("eth0").ifindex), "1"]
