"""The driver of our stack, unchanged, on the e1000 that QEMU emulates."""

from __future__ import annotations

import hashlib
import random
import socket
from collections.abc import Callable

import pytest

from e1000emu.lab import pump
from stack.core.dev import dev_get_stats, dev_set_mac_address
from stack.core.dev_queue import dev_queue_xmit
from stack.core.ethtool import ethtool_get_stats, ethtool_self_test, ethtool_set_ringparam
from stack.core.netdevice import NETIF_F_TSO6
from stack.drivers.e1000.e1000 import E1000_NO_TSO6
from tests.qemu.machine import MAC, SECOND_NS, A, B, Machine, connection, ping
from tests.stack.drivers.e1000.machine import ipv6_frames, ipv6_super_packet
from tests.support import require

KIB = 1024


def test_the_driver_finds_the_card(machine: Machine) -> None:
    dev = machine.dev
    assert dev is not None
    assert dev.dev_addr == MAC  # bit by bit out of QEMU's EEPROM, whose checksum was right
    assert dev.priv.pdev.device == 0x100E
    assert dev.priv.hw.phy_id & ~0xF == 0x01410C20  # Marvell 88E1000
    assert (dev.priv.link_speed, dev.priv.link_duplex) == (1000, 2)
    assert machine.qemu.interrupts > 0  # the link change came by interrupt


@pytest.mark.parametrize("size", [0, 1, 56, 1472, 1473, 8000, 40000])
def test_ping_both_ways(machine: Machine, size: int) -> None:
    assert ping(machine.a, B, size, seq=size)
    assert ping(machine.b, A, size, seq=size)


@pytest.mark.parametrize("size", [0, 1, 18, 1400, 1472, 30000])
def test_udp_both_ways(machine: Machine, size: int) -> None:
    server = machine.b.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client = machine.a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        server.bind((B, 7))
        server.settimeout(10)
        client.settimeout(10)
        data = random.Random(size).randbytes(size)
        client.sendto(data, (B, 7))
        got, source = server.recvfrom(70000)
        assert got == data
        server.sendto(got[::-1], source)
        assert client.recv(70000) == data[::-1]
    finally:
        server.close()
        client.close()


@pytest.mark.parametrize("sender", ["ours on QEMU's card", "the other"])
def test_tcp_carries_every_byte(machine: Machine, sender: str) -> None:
    data = random.Random(sender).randbytes(700 * KIB + 11)
    ours, theirs = connection(machine.b, machine.a, B, 9)
    pieces = iter([memoryview(data)])
    got = hashlib.sha256()
    pair = (ours, theirs) if sender.startswith("ours") else (theirs, ours)
    try:
        assert pump(*pair, lambda: next(pieces, None), got.update) == len(data)
    finally:
        ours.close()
        theirs.close()
    assert got.digest() == hashlib.sha256(data).digest()


def test_tso_and_checksums_are_the_cards_work(machine: Machine) -> None:
    before = ethtool_get_stats(machine.dev)["tx_tcp_seg_good"]
    mib = machine.b.mib
    errors = mib.tcp.InCsumErrors + mib.udp.InCsumErrors + mib.ip.InHdrErrors
    ours, theirs = connection(machine.b, machine.a, B, 10)
    pieces = iter([memoryview(bytes(200 * KIB))])
    try:
        pump(ours, theirs, lambda: next(pieces, None), lambda piece: None)
    finally:
        ours.close()
        theirs.close()
    collected(machine, lambda: ethtool_get_stats(machine.dev)["tx_tcp_seg_good"] > before)
    assert ethtool_get_stats(machine.dev)["tx_tcp_seg_good"] > before
    assert mib.tcp.InCsumErrors + mib.udp.InCsumErrors + mib.ip.InHdrErrors == errors


def collected(machine: Machine, done: Callable[[], bool]) -> None:
    """Let the drivers collect the counters, as they do every two seconds or, on a machine that
    pauses, later: until `done()`, for half a minute at most."""
    for _ in range(12):
        machine.sleep(5 * SECOND_NS // 2)
        with machine.clock.lock:
            if done():
                return


@pytest.mark.parametrize("udp", [False, True])
def test_ipv6_super_packet_leaves_in_right_segments(machine: Machine, udp: bool) -> None:
    """Cut by the driver: QEMU's payload lengths are 40 too large (the next test)."""
    assert not machine.dev.features & NETIF_F_TSO6
    data = random.Random(6).randbytes(5000)
    assert send_ipv6(machine, data, 1000, udp=udp) == wanted_ipv6(machine, data, udp=udp)


def test_qemu_counts_the_ipv6_header_as_payload(machine: Machine) -> None:
    """As SDM 3.5.9.1 says; the day this fails, the driver may let QEMU segment IPv6."""
    machine.dev.features |= NETIF_F_TSO6
    machine.dev.priv.flags &= ~E1000_NO_TSO6
    try:
        frames = send_ipv6(machine, bytes(4999), 1000)
    finally:
        machine.dev.features &= ~NETIF_F_TSO6
        machine.dev.priv.flags |= E1000_NO_TSO6
    wanted = wanted_ipv6(machine, bytes(4999))
    lengths = [int.from_bytes(frame[18:20], "big") - 40 for frame in frames]
    assert lengths == [1020] * 4 + [1019]
    assert [f[:18] + f[20:] for f in frames] == [f[:18] + f[20:] for f in wanted]


@pytest.mark.parametrize("udp", [False, True])
def test_checksum_over_ipv6_is_the_cards_work(machine: Machine, udp: bool) -> None:
    data = random.Random(7).randbytes(900)
    assert send_ipv6(machine, data, 0, udp=udp) == wanted_ipv6(machine, data, udp=udp)


def send_ipv6(machine: Machine, data: bytes, mss: int, *, udp: bool = False) -> list[bytes]:
    """The IPv6 frames that come out of QEMU for one packet of our stack."""
    before = len(machine.tally.from_qemu)
    with machine.clock.lock:
        dst = machine.b.dev("eth0").dev_addr
        skb = ipv6_super_packet(machine.a, machine.dev, data, mss=mss, udp=udp, dst=dst)
        assert dev_queue_xmit(skb) == 0
        wanted = -(-len(data) // mss) if mss else 1
        machine.clock.wait(lambda: len(ipv6_only(machine, before)) >= wanted, SECOND_NS * 10)
    return ipv6_only(machine, before)


def wanted_ipv6(machine: Machine, data: bytes, *, udp: bool = False) -> list[bytes]:
    """The same packet cut by the twins."""
    dst = machine.b.dev("eth0").dev_addr
    return ipv6_frames(machine.dev, data, 1000, udp=udp, dst=dst)


FIN = 1


def ipv6_only(machine: Machine, since: int) -> list[bytes]:
    return [f for f in machine.tally.from_qemu[since:] if f[12:14] == b"\x86\xdd" and f[20] != 58]


def test_counters_agree(machine: Machine) -> None:
    """What the card counts is what was on the wire; what the driver counts, but for QEMU's extras.

    QEMU's e1000 sends a segment without payload after each TSO packet whose payload is a multiple
    of the MSS. Nothing but the two pages of counters at either end of one cable shows that.
    """
    wire = machine.qemu.link.stats
    names = ("tx_packets", "rx_packets")

    def all_counted() -> bool:
        ours, theirs = ethtool_get_stats(machine.dev), ethtool_get_stats(machine.b.dev("eth0"))
        there = (wire.rx_frames, wire.tx_frames)
        return tuple(map(ours.get, names)) == there == tuple(map(theirs.get, names[::-1]))

    collected(machine, all_counted)
    with machine.clock.lock:
        ours, theirs = ethtool_get_stats(machine.dev), ethtool_get_stats(machine.b.dev("eth0"))
        stats = dev_get_stats(machine.dev)
        far = dev_get_stats(machine.b.dev("eth0"))
    assert wire.drops == {}
    assert ours["tx_packets"] == wire.rx_frames == theirs["rx_packets"]
    assert ours["rx_packets"] == wire.tx_frames == theirs["tx_packets"]
    assert ours["rx_bytes"] == theirs["tx_bytes"]
    assert stats.rx_packets == far.tx_packets
    extra = header_only(machine.tally.from_qemu)
    assert extra <= ours["tx_tcp_seg_good"]
    assert stats.tx_packets == wire.rx_frames - extra
    assert stats.rx_errors == stats.rx_dropped == stats.tx_errors == 0


def header_only(frames: list[bytes]) -> int:
    """Count TCP frames whose payload a TSO frame just before ended, and that have none.

    The driver does not know of them, so the next frame of the flow has the same identification; an
    ACK of the stack's own has used up its own. Of a flow's last frame its acknowledgement, window
    and options decide, which are the TSO frame's.
    """
    extra = 0
    expected: dict[bytes, tuple[int, int, bytes]] = {}
    doubtful: dict[bytes, tuple[int, bool]] = {}
    for frame in frames:
        if frame[12:14] != b"\x08\x00" or frame[23] != 6:
            continue
        head = 14 + 4 * (frame[14] & 15)
        flow = frame[26:34] + frame[head : head + 4]
        seq = int.from_bytes(frame[head + 4 : head + 8], "big")
        ident = int.from_bytes(frame[18:20], "big")
        end = 14 + int.from_bytes(frame[16:18], "big")
        data = head + 4 * (frame[head + 12] >> 4)
        payload = end - data
        said = frame[head + 8 : head + 12] + frame[head + 14 : head + 16] + frame[head + 20 : data]
        extra += doubtful.pop(flow, (None, False))[0] == ident
        if payload == 0 and flow in expected and expected[flow][:2] == (seq, ident):
            doubtful[flow] = ident, expected[flow][2] == said and not frame[head + 13] & FIN
        following = ((seq + payload) & 0xFFFFFFFF, (ident + 1) & 0xFFFF, said)
        expected[flow] = following if payload else (0, -1, b"")
    return extra + sum(alike for _, alike in doubtful.values())


def test_down_and_up_again(machine: Machine) -> None:
    for cycle in range(2):
        machine.a.ifconfig("eth0", up=False)
        assert not machine.a.wait_carrier("eth0", 1)
        machine.a.ifconfig("eth0", up=True)
        machine.wait_link()
        assert ping(machine.a, B, 100, seq=cycle)
        assert ping(machine.b, A, 100, seq=cycle)


def test_changed_settings(machine: Machine) -> None:
    """A larger MTU (frames over several buffers) works on the card as on ours."""
    for host in (machine.a, machine.b):
        host.ifconfig("eth0", mtu=9000)
    machine.wait_link()
    assert ping(machine.a, B, 8972, seq=1)
    assert ping(machine.b, A, 8972, seq=2)
    for host in (machine.a, machine.b):
        host.ifconfig("eth0", mtu=1500)
    machine.wait_link()
    assert ping(machine.a, B, 1472, seq=3)


def test_small_rings_wrap(machine: Machine) -> None:
    with machine.clock.lock:
        ethtool_set_ringparam(machine.dev, rx=80, tx=80)
    machine.wait_link()
    data = random.Random(80).randbytes(300 * KIB)
    for ours, theirs in (
        connection(machine.b, machine.a, B, 11),
        connection(machine.b, machine.a, B, 12)[::-1],
    ):
        pieces = iter([memoryview(data)])
        got = bytearray()
        try:
            pump(ours, theirs, lambda pieces=pieces: next(pieces, None), got.extend)
        finally:
            ours.close()
            theirs.close()
        assert got == data
    with machine.clock.lock:
        ethtool_set_ringparam(machine.dev, rx=512, tx=1024)
    machine.wait_link()
    assert ping(machine.a, B, 56, seq=9)


def test_a_new_mac_address_is_in_the_filter(machine: Machine) -> None:
    for mac in (bytes.fromhex("020000000042"), MAC):
        with machine.clock.lock:
            assert dev_set_mac_address(machine.dev, mac) == 0
        assert ping(machine.a, B, 56, seq=mac[5])
        assert ping(machine.b, A, 56, seq=mac[5])


def test_tcp_over_a_bad_wire() -> None:
    require.tool("qemu-system-x86_64", "qemu-system-x86")
    with Machine(impair={"loss": 0.02, "reorder": 0.02, "seed": 3}) as machine:
        machine.up()
        data = random.Random(3).randbytes(300 * KIB)
        ours, theirs = connection(machine.b, machine.a, B, 9)
        pieces, got = iter([memoryview(data)]), bytearray()
        pump(ours, theirs, lambda: next(pieces, None), got.extend)
        ours.close()
        theirs.close()
        assert got == data
        assert machine.a.mib.tcp.RetransSegs > 0


def test_blocking_calls_beside_a_clock_in_its_own_thread() -> None:
    require.tool("qemu-system-x86_64", "qemu-system-x86")
    with Machine() as machine:
        machine.clock.start()
        try:
            machine.up()
            assert ping(machine.a, B, 3000, seq=1)
            ours, theirs = connection(machine.b, machine.a, B, 9)
            theirs.settimeout(20)
            ours.sendall(b"x" * 50_000)
            ours.close()
            got = b""
            while piece := theirs.recv(65536):
                got += piece
            theirs.close()
            assert got == b"x" * 50_000
        finally:
            machine.clock.stop()


@pytest.mark.slow
def test_self_test_finds_what_qemu_lacks() -> None:
    """Linux's `ethtool -t` says the same of QEMU: register test at FCAL, loopback 13 or none."""
    require.tool("qemu-system-x86_64", "qemu-system-x86")
    with Machine() as machine:
        machine.up()
        with machine.clock.lock:
            passed, results = ethtool_self_test(machine.dev)
        assert not passed
        register, eeprom, interrupt, loopback, link = results.values()
        assert register == 0x28  # FCAL takes no value
        assert (eeprom, link) == (0, 0)
        assert interrupt in (0, 4, 5)  # 10 ms of real time are not enough on a busy machine
        assert loopback in (0, 13)
        machine.wait_link()
        assert ping(machine.a, B, 56, seq=7)


@pytest.mark.parametrize("device", ["e1000-82544gc", "e1000-82545em", "e1000,mitigation=off"])
def test_other_models(device: str) -> None:
    require.tool("qemu-system-x86_64", "qemu-system-x86")
    with Machine(device=device) as machine:
        assert machine.dev is not None
        assert machine.dev.dev_addr == MAC
        machine.up()
        assert ping(machine.a, B, 1000, seq=1)
        assert ping(machine.b, A, 40000, seq=2)


def test_the_host_survives_the_end_of_qemu() -> None:
    """QEMU killed in mid-transfer is a card pulled out: calls end, and so does the host."""
    require.tool("qemu-system-x86_64", "qemu-system-x86")
    with Machine() as machine:
        machine.up()
        ours, theirs = connection(machine.b, machine.a, B, 9)
        ours.settimeout(2)
        ours.sendall(bytes(100 * KIB))
        machine.qemu.kill()
        with pytest.raises(OSError, match="timed out"):
            ours.sendall(bytes(16 << 20))
        assert machine.qemu.qtest.gone
        assert not machine.qemu.link.carrier
        theirs.close()
        ours.close()
        machine.a.ifconfig("eth0", up=False)
