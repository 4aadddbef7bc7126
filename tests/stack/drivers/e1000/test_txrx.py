"""The packet path: offloads, rings that wrap and fill, interrupts, hangs."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from fastpath.base.csum import csum_partial
from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    kfree_skb,
    skb_add_data,
    skb_from_bytes,
)
from fastpath.base.skbuff import skb_to_bytes as to_bytes
from stack.core.dev_queue import dev_queue_xmit
from stack.core.netdevice import ETH_P_ALL, QUEUE_STATE_DRV_XOFF
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import e1000 as e
from stack.drivers.e1000.txrx import BULK_LATENCY, LOW_LATENCY, LOWEST_LATENCY, e1000_update_itr
from stack.tools.trace import Tracer
from tests.stack.core.wire import heard
from tests.stack.drivers.e1000.machine import (
    ETH_P_TEST,
    MAC_A,
    MAC_B,
    MILLISECOND,
    SECOND,
    Machine,
    cabled,
    ipv4_super_packet,
    recorded,
)


def checksum_ok(frame: bytes) -> bool:
    """IPv4 header and TCP or UDP checksum of a frame, computed here from scratch."""
    ip = frame[14:34]
    total = struct.unpack(">H", ip[2:4])[0]
    segment = frame[34 : 14 + total]

    def fold(data: bytes, acc: int = 0) -> int:
        acc = csum_partial(data, acc)
        while acc >> 16:
            acc = (acc & 0xFFFF) + (acc >> 16)
        return acc

    pseudo = ip[12:20] + bytes([0, ip[9]]) + struct.pack(">H", len(segment))
    return fold(ip) == 0xFFFF and fold(segment, fold(pseudo)) == 0xFFFF


@pytest.mark.parametrize("size", [1, 45, 46, 47, 200, 1499, 1500])
def test_a_frame_of_any_size_comes_out_whole(size: int, machine: Machine) -> None:
    payload = bytes(number & 0xFF for number in range(size))
    machine.send(payload)
    (frame,) = machine.link.take()
    assert frame[:14] == b"\xff" * 6 + MAC_A + ETH_P_TEST.to_bytes(2, "big")
    assert frame[14:] == payload + bytes(max(0, 46 - size))  # padded by the part
    assert machine.buffers_in_use() == 0


def test_rings_wrap_many_times_without_loss_or_disorder() -> None:
    a, b = cabled(TxDescriptors=48, RxDescriptors=48)
    sent = [struct.pack(">I", number) * (12 + number % 300) for number in range(2000)]
    for number, payload in enumerate(sent):
        a.send(payload)
        if number % 17 == 0:
            a.run(1000)
    a.run()
    assert b.received == sent
    assert a.buffers_in_use() == b.buffers_in_use() == 0


def test_transmit_needs_no_interrupt_when_the_part_is_quick(machine: Machine) -> None:
    machine.run(100 * MILLISECOND)
    before = machine.host.irq_line(10).count
    for _ in range(100):
        machine.send(bytes(50))
    assert machine.host.irq_line(10).count == before
    assert machine.dev.stats.tx_packets == 100
    assert not machine.adapter.ims_mask & d.E1000_ICR_TXDW


def test_link_that_pushes_back_stops_and_wakes_the_queue() -> None:
    machine = recorded(TxDescriptors=48)
    machine.link.room = 0
    for number in range(200):
        machine.send(struct.pack(">I", number) * 20)
    assert machine.dev.queue_state
    assert machine.adapter.ims_mask & d.E1000_ICR_TXDW
    machine.link.open_room(None)
    machine.run()
    assert [struct.unpack(">I", frame[14:18])[0] for frame in machine.link.take()] == list(
        range(200)
    )
    assert not machine.dev.queue_state
    assert machine.buffers_in_use() == 0


def test_xmit_more_rings_the_doorbell_once_per_burst(machine: Machine) -> None:
    machine.dev.dql.limit = machine.dev.dql.adj_limit = 5000  # more than the burst
    writes: list[int] = []
    real = machine.adapter.hw.bar_write

    def spy(bar: int, off: int, value: int, size: int) -> None:
        if bar == 0 and off == d.E1000_TDT:
            writes.append(value)
        real(bar, off, value, size)

    machine.adapter.hw.bar_write = spy
    machine.dev.queue_state = QUEUE_STATE_DRV_XOFF
    for _ in range(20):
        machine.send(bytes(50))
    assert writes == []
    from stack.core.dev_queue import netif_wake_queue

    netif_wake_queue(machine.dev)
    machine.run()
    assert len(machine.link.take()) == 20
    assert len(writes) == 1


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("length", [1, 1000, 1460, 1461, 2920, 60000, 200_000])
def test_super_packet_is_cut_by_the_part_with_right_headers(
    length: int, udp: bool, machine: Machine
) -> None:
    payload = bytes(number % 251 for number in range(length))
    skb = ipv4_super_packet(machine, payload, mss=1460, udp=udp)
    assert dev_queue_xmit(skb) == 0
    frames = machine.link.take()
    header = 42 if udp else 54
    got = b""
    for number, frame in enumerate(frames):
        total = struct.unpack(">H", frame[16:18])[0]
        assert checksum_ok(frame[: 14 + total])
        assert struct.unpack(">H", frame[18:20])[0] == 7 + number  # IP id counts up
        if udp:
            assert struct.unpack(">H", frame[38:40])[0] == total - 20
        else:
            assert struct.unpack(">I", frame[38:42])[0] == 1 + 1460 * number
            assert bool(frame[47] & 8) == (number == len(frames) - 1)  # PSH in the last only
        got += frame[header : 14 + total]
    assert len(frames) == -(-length // 1460)
    assert got == payload
    assert machine.buffers_in_use() == 0


@pytest.mark.sends_bad_frames  # headers half filled in: only one sum is of interest
@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("length", [2, 20, 1400])
def test_sum_of_zero_is_sent_as_zero_by_tcp_and_as_ones_by_udp(
    length: int, udp: bool, machine: Machine
) -> None:
    """RFC 768 keeps 0 for "no checksum"; in TCP 0 is a sum like any other."""
    at = 40 if udp else 50

    def check_of(payload: bytes) -> bytes:
        skb = ipv4_super_packet(machine, payload, mss=1460, udp=udp)
        skb.gso_size = skb.gso_segs = skb.gso_type = 0
        assert dev_queue_xmit(skb) == 0
        (frame,) = machine.link.take()
        return frame[at : at + 2]

    rest = bytes(number % 251 for number in range(length - 2))
    check = check_of(bytes(2) + rest)
    assert check not in (b"\0\0", b"\xff\xff")
    # with its own complement added, the sum becomes 0xFFFF, and the check its complement
    assert check_of(check + rest) == (b"\xff\xff" if udp else b"\0\0")


def test_super_packets_merge_again_on_the_other_side() -> None:
    a, b = cabled()
    seen = heard(b.host, 0x0800, lambda skb: (skb.len, skb.ip_summed, skb.gso_size, to_bytes(skb)))
    payload = bytes(number % 253 for number in range(100_000))
    assert dev_queue_xmit(ipv4_super_packet(a, payload, mss=1460)) == 0
    a.run()
    assert b"".join(data[40:] for _, _, _, data in seen) == payload
    assert len(seen) <= 3
    # A merged packet looks as if it were to be sent on (tcp_gro_complete): partial, that is good.
    assert all(summed in (CHECKSUM_UNNECESSARY, CHECKSUM_PARTIAL) for _, summed, _, _ in seen)
    assert seen[0][2] == 1460
    assert a.buffers_in_use() == b.buffers_in_use() == 0
    assert b.adapter.rx_pool.in_use == b.adapter.rx_ring.count - 1 - unfilled(b)


def unfilled(machine: Machine) -> int:
    ring = machine.adapter.rx_ring
    return (ring.next_to_clean - ring.next_to_use - 1) % ring.count


def partial(machine: Machine, payload: bytes) -> Any:
    """A UDP packet whose checksum the part must fill in."""
    udp = struct.pack(">HHHH", 5000, 7, 8 + len(payload), 0)
    ip = bytes.fromhex("4500") + struct.pack(">H", 28 + len(payload)) + bytes.fromhex("0001000040")
    ip += b"\x11" + b"\0\0" + bytes([10, 0, 0, 1, 10, 0, 0, 2])
    acc = csum_partial(ip)
    while acc >> 16:
        acc = (acc & 0xFFFF) + (acc >> 16)
    ip = ip[:10] + struct.pack(">H", ~acc & 0xFFFF) + ip[12:]
    pseudo = csum_partial(ip[12:20] + struct.pack(">BBH", 0, 17, 8 + len(payload)))
    while pseudo >> 16:
        pseudo = (pseudo & 0xFFFF) + (pseudo >> 16)
    udp = udp[:6] + struct.pack(">H", pseudo)
    skb = skb_from_bytes(
        machine.host.skb_small, MAC_B + MAC_A + b"\x08\x00" + ip + udp + payload, 16
    )
    assert skb is not None
    skb.dev = machine.dev
    skb.protocol = 0x0800
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.network_header = skb.data_offset + 14
    skb.transport_header = skb.csum_start = skb.data_offset + 34
    skb.csum_offset = 6
    return skb


def test_checksum_context_is_written_once_for_equal_packets(machine: Machine) -> None:
    used = []
    for number in range(5):
        before = machine.adapter.tx_ring.next_to_use
        dev_queue_xmit(partial(machine, bytes([number]) * 33))
        used.append(machine.adapter.tx_ring.next_to_use - before)
    frames = machine.link.take()
    assert [checksum_ok(frame) for frame in frames] == [True] * 5
    assert used == [2, 1, 1, 1, 1]


def test_checksum_context_survives_a_super_packet_in_between(machine: Machine) -> None:
    dev_queue_xmit(partial(machine, b"first" * 20))
    dev_queue_xmit(ipv4_super_packet(machine, bytes(5000), mss=1000))
    dev_queue_xmit(partial(machine, b"second" * 20))
    frames = machine.link.take()
    assert len(frames) == 7
    assert all(checksum_ok(frame) for frame in frames)


def test_received_checksums_are_judged_by_the_part() -> None:
    a, b = cabled()
    seen = heard(b.host, 0x0800, lambda skb: skb.ip_summed)
    good = partial(a, b"payload!" * 10)
    dev_queue_xmit(good)
    a.run()
    assert seen == [CHECKSUM_UNNECESSARY]


def test_vlan_tag_is_inserted_and_stripped_by_the_part(machine: Machine) -> None:
    machine.send(bytes(50), vlan=5 | 3 << 13)
    (frame,) = machine.link.take()
    assert frame[12:16] == bytes.fromhex("8100 6005")
    assert frame[16:18] == ETH_P_TEST.to_bytes(2, "big")


def test_receive_more_frames_than_the_ring_holds_in_one_batch() -> None:
    machine = recorded(RxDescriptors=64)
    frames = [b"\xff" * 6 + MAC_B + b"\x88\xb5" + struct.pack(">I", n) * 20 for n in range(1000)]
    taken = 0
    for start in range(0, len(frames), 32):
        taken += machine.link.inject(*frames[start : start + 32])
        machine.run()
    assert taken == 1000
    assert len(machine.received) == 1000
    assert machine.received == [frame[14:] for frame in frames]


def test_taps_see_frames_in_both_directions(machine: Machine) -> None:
    seen = heard(machine.host, ETH_P_ALL, to_bytes)
    machine.send(b"out" * 20)
    machine.link.inject(b"\xff" * 6 + MAC_B + b"\x88\xb5" + b"in!" * 20)
    machine.run()
    assert len(seen) == 2


def test_hung_transmitter_is_seen_and_reset(machine: Machine) -> None:
    machine.link.room = 0  # the far side takes nothing: the part cannot finish a descriptor
    machine.send(bytes(50))
    for _ in range(8):
        machine.run(2 * SECOND)
        if machine.adapter.tx_timeout_count:
            break
    assert machine.adapter.tx_hang_count >= 1
    assert machine.adapter.tx_timeout_count == 1
    machine.link.open_room(None)
    assert machine.host.wait_carrier("eth0")
    machine.run(SECOND)
    machine.link.take()
    machine.send(b"again" * 20)
    assert [frame[14:19] for frame in machine.link.take()] == [b"again"]
    assert machine.buffers_in_use() == 0


def test_pulled_cable_with_packets_in_the_ring_resets(machine: Machine) -> None:
    machine.link.room = 0
    machine.send(bytes(50))
    machine.link.set_carrier(False)
    machine.run(5 * SECOND)
    assert machine.adapter.tx_timeout_count >= 1
    assert machine.buffers_in_use() == 0


def test_empty_receive_pool_recovers_without_an_interrupt(machine: Machine) -> None:
    pool = machine.adapter.rx_pool
    hoard = []
    while pool.available:
        skb = skb_from_bytes(pool, b"x", 0)
        assert skb is not None
        hoard.append(skb)
    for number in range(600):
        machine.link.inject(b"\xff" * 6 + MAC_B + b"\x88\xb5" + struct.pack(">I", number) * 20)
        machine.run(1000)
        # Nothing is freed to the pool but what the test receives.
        while pool.available:
            skb = skb_from_bytes(pool, b"x", 0)
            assert skb is not None
            hoard.append(skb)
    assert machine.adapter.rx_ring.alloc_failed > 0
    for skb in hoard:
        kfree_skb(skb)
    machine.run(100 * MILLISECOND)
    machine.received.clear()
    machine.link.inject(b"\xff" * 6 + MAC_B + b"\x88\xb5" + b"alive" * 20)
    machine.run()
    assert machine.received[-1] == b"alive" * 20


def test_packet_of_more_fragments_than_the_ring_is_cut_in_software() -> None:
    machine = recorded(TxDescriptors=48)
    small_pages = machine.host.skb_small

    skb = ipv4_super_packet(machine, b"h" * 100, mss=1000)
    body = bytes(number % 251 for number in range(190_000))
    at = 0
    while at < len(body):
        at += skb_add_data(skb, small_pages, body, at, len(body) - at)
    skb.gso_segs = -(-(100 + len(body)) // 1000)
    assert skb.nr_frags > 48
    dev_queue_xmit(skb)
    machine.run()
    frames = machine.link.take()
    assert all(checksum_ok(frame) for frame in frames)
    assert b"".join(frame[54:] for frame in frames) == b"h" * 100 + body
    assert machine.buffers_in_use() == 0


# -- interrupt moderation --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "packets", "nbytes", "expected"),
    [
        (LOWEST_LATENCY, 0, 0, LOWEST_LATENCY),
        (LOWEST_LATENCY, 1, 9000, BULK_LATENCY),
        (LOWEST_LATENCY, 2, 1000, LOW_LATENCY),
        (LOWEST_LATENCY, 20, 1280, LOWEST_LATENCY),
        (LOW_LATENCY, 9, 13_626, BULK_LATENCY),
        (LOW_LATENCY, 100, 20_000, LOWEST_LATENCY),
        (LOW_LATENCY, 1, 60, LOWEST_LATENCY),
        (LOW_LATENCY, 1, 3000, BULK_LATENCY),
        (BULK_LATENCY, 50, 60_000, LOW_LATENCY),
        (BULK_LATENCY, 2, 1000, LOW_LATENCY),
        (BULK_LATENCY, 10, 15_140, BULK_LATENCY),
    ],
)
def test_latency_class_follows_the_traffic(
    setting: int, packets: int, nbytes: int, expected: int
) -> None:
    assert e1000_update_itr(setting, packets, nbytes) == expected


@pytest.mark.parametrize("rate", [0, 1, 3, 8000])
def test_every_throttle_mode_delivers_everything(rate: int) -> None:
    a, b = cabled(InterruptThrottleRate=rate)
    for number in range(500):
        a.send(struct.pack(">I", number) * 50)
        if number % 10 == 0:
            a.run(5_000)
    a.run(100 * MILLISECOND)
    assert [struct.unpack(">I", frame[:4])[0] for frame in b.received] == list(range(500))
    itr = b.reg(d.E1000_ITR) & 0xFFFF
    assert bool(itr) == bool(rate)


def test_delayed_transmit_interrupts_still_free_everything() -> None:
    machine = recorded(TxIntDelay=100, TxAbsIntDelay=200)
    machine.link.room = 0
    for _ in range(20):
        machine.send(bytes(50))
    machine.link.open_room(None)
    machine.run(10 * MILLISECOND)
    assert machine.buffers_in_use() == 0


def test_poll_takes_a_bounded_number_of_frames() -> None:
    machine = recorded(RxDescriptors=2048)
    machine.adapter.fp_weight = 16
    frames = [b"\xff" * 6 + MAC_B + b"\x88\xb5" + struct.pack(">I", n) * 20 for n in range(100)]
    machine.link.inject(*frames)
    machine.run()
    assert len(machine.received) == 100
    assert e.E1000_RX_FRAMES_PER_POLL >= 400


# -- what the part's context descriptors cannot say ------------------------------------------------


def test_super_packet_beyond_paylen_is_cut_in_software(machine: Machine) -> None:
    machine.dev.gso_max_size = 2 << 20
    payload = bytes(number % 251 for number in range(1 << 20))
    dev_queue_xmit(ipv4_super_packet(machine, payload, mss=8000))
    for _ in range(20):
        machine.run()
    frames = machine.link.take()
    assert all(len(frame) <= 8054 for frame in frames)
    assert b"".join(frame[54:] for frame in frames) == payload
    assert machine.buffers_in_use() == 0


def test_checksum_beyond_the_contexts_reach_is_done_in_software(machine: Machine) -> None:
    frame = bytearray(b"\xff" * 6 + MAC_A + b"\x88\xb5" + bytes(range(256)) * 3)
    skb = skb_from_bytes(machine.host.skb_small, bytes(frame), 16)
    assert skb is not None
    skb.dev = machine.dev
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.csum_start = skb.data_offset + 300
    skb.csum_offset = 16
    dev_queue_xmit(skb)
    (sent,) = machine.link.take()
    acc = csum_partial(sent[300:316] + sent[318:])
    while acc >> 16:
        acc = (acc & 0xFFFF) + (acc >> 16)
    stored = struct.unpack(">H", sent[316:318])[0]
    before = struct.unpack(">H", frame[316:318])[0]
    total = acc + before
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert stored == ~total & 0xFFFF


def test_checksum_start_that_makes_no_sense_drops_the_packet(machine: Machine) -> None:
    skb = skb_from_bytes(machine.host.skb_small, b"\xff" * 6 + MAC_A + b"\x88\xb5" + bytes(60), 16)
    assert skb is not None
    skb.dev = machine.dev
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.csum_start = skb.data_offset + 5000
    skb.csum_offset = 16
    dev_queue_xmit(skb)
    assert machine.link.take() == []
    assert machine.dev.stats.tx_dropped == 1
    assert machine.buffers_in_use() == 0
    machine.send(b"fine" * 20)
    assert len(machine.link.take()) == 1


# -- without NAPI ----------------------------------------------------------------------------------


@pytest.mark.uncompiled
def test_without_napi_the_interrupt_frees_through_the_completion_queue() -> None:
    machine = recorded(NAPI=0)
    machine.run(100 * MILLISECOND)
    machine.link.room = 0
    machine.send(b"waits" * 20)
    assert machine.buffers_in_use() == 1
    with Tracer(packages=("stack",)) as tracer:
        machine.link.open_room(None)
        machine.run()
    names = [call.name for call in tracer.calls]
    assert names.index("e1000_intr") < names.index("e1000_clean_tx_irq")
    assert names.index("e1000_clean_tx_irq") < names.index("dev_kfree_skb_irq")
    assert names.index("dev_kfree_skb_irq") < names.index("net_tx_action")
    assert machine.buffers_in_use() == 0


@pytest.mark.uncompiled
def test_without_napi_frames_go_up_through_netif_rx() -> None:
    machine = recorded(NAPI=0)
    machine.run(100 * MILLISECOND)
    with Tracer(packages=("stack",)) as tracer:
        machine.link.inject(b"\xff" * 6 + MAC_B + b"\x88\xb5" + b"up" * 30)
        machine.run()
    names = [call.name for call in tracer.calls]
    order = ["e1000_intr", "e1000_clean_rx_irq", "netif_rx", "process_backlog", "deliver_skb"]
    assert list(dict.fromkeys(name for name in names if name in order)) == order
    assert machine.received == [b"up" * 30]


def test_without_napi_nothing_is_lost_both_ways() -> None:
    a, b = cabled(NAPI=0, TxDescriptors=64, RxDescriptors=64)
    sent = [struct.pack(">I", number) * 20 for number in range(1000)]
    for number, payload in enumerate(sent):
        a.send(payload)
        b.send(payload)
        if number % 13 == 0:
            a.run(1000)
    a.run(10 * MILLISECOND)
    assert a.received == b.received == sent
    assert a.buffers_in_use() == b.buffers_in_use() == 0


@pytest.mark.uncompiled
def test_order_of_calls_with_napi(machine: Machine) -> None:
    with Tracer(packages=("stack",)) as tracer:
        machine.link.inject(b"\xff" * 6 + MAC_B + b"\x88\xb5" + b"up" * 30)
        machine.run()
    order = [
        "e1000_intr",
        "napi_schedule",
        "net_rx_action",
        "e1000_clean",
        "e1000_clean_tx_irq",
        "e1000_clean_rx_irq",
        "eth_type_trans",
        "netif_receive_skb",
        "deliver_skb",
    ]
    assert [call.name for call in tracer.calls if call.name in order] == order
