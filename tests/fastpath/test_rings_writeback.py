"""How descriptors are written back: what a driver polls for goes last, and is stored once.

This test cannot see that the mapped ring gets its eight bytes in one store. It sees the stores that
go to memory by messages, and that odd addresses work.
"""

from __future__ import annotations

import struct

import pytest

from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable
from fastpath.nic.regfile import Stats
from fastpath.nic.rxfilter import RxFilter
from fastpath.nic.rxring import RxEngine
from fastpath.nic.txring import TXDW
from tests.fastpath.rings import MAC, Rx, Tx, eth, legacy, registers, set_address

DD, END, LPE = 0x01, 0x02, 1 << 5
both = pytest.mark.parametrize("reference", [False, True], ids=["compiled", "reference"])


def by_messages(ring: Rx | Tx) -> list[tuple[int, bytes]]:
    """Take the memory out of direct reach; the writes are noted, and done."""
    writes: list[tuple[int, bytes]] = []

    def write(addr: int, data: bytes) -> None:
        writes.append((addr, data))
        ring.ram.write(addr, data)

    ring.dma.remove(ring.ram.base, ring.ram.size_bytes)
    ring.dma.set_message_dma(ring.ram.read, write)
    return writes


@both
def test_receive_stores_dd_last_and_by_itself(reference: bool) -> None:
    rx = Rx(reference=reference)
    rx.regs["RCTL"] |= LPE
    writes = by_messages(rx)
    body = bytes(range(256)) * 10
    rx.receive(eth(body))
    ends = [struct.pack("<HHBBH", 2048, 0, 0, 0, 0), struct.pack("<HHBBH", 526, 0, END, 0, 0)]
    assert [len(data) for _, data in writes] == [2048, 8, 1, 526, 8, 1]
    for index, (half, status) in enumerate([writes[1:3], writes[4:6]]):
        at = rx.ring + 16 * index
        assert half[0] == at + 8
        assert status[0] == at + 12
        assert half[1][:2] == ends[index][:2]  # the length
        assert half[1][4] & DD == 0
        assert status[1][0] & DD
        assert half[1][4] | DD == status[1][0]
    first, last = rx.reap()
    assert first.data + last.data == eth(body)
    assert last.status & END


@both
def test_what_was_held_is_written_back_though_the_threshold_went_meanwhile(reference: bool) -> None:
    rx = Rx(reference=reference)
    rx.engine.hold = 2
    rx.receive(eth(bytes(60)))
    rx.dma.enabled = False
    rx.engine.repay()
    rx.engine.hold = 0
    rx.dma.enabled = True
    rx.receive(eth(bytes(60)))
    rx.receive(eth(bytes(60)))
    rx.engine.repay()
    assert [rx.ram.read(rx.ring + 16 * i + 12, 1)[0] & DD for i in range(4)] == [DD, DD, DD, 0]


@both
def test_what_was_sent_is_written_back_though_the_threshold_went_meanwhile(reference: bool) -> None:
    tx = Tx(reference=reference)
    payload = eth(bytes(50))
    tx.engine.hold = 2
    tx.post(legacy(tx.put(payload), len(payload)))
    tx.run()
    tx.dma.enabled = False
    tx.engine.repay()
    tx.engine.hold = 0
    tx.dma.enabled = True
    tx.post(*[legacy(tx.put(payload), len(payload)) for _ in range(2)])
    tx.run()
    tx.engine.repay()
    assert [tx.ram.read(tx.ring + 16 * i + 12, 1)[0] & DD for i in range(4)] == [DD, DD, DD, 0]


@both
def test_a_threshold_beyond_the_ring_is_reached_by_what_was_received(reference: bool) -> None:
    rx = Rx(reference=reference, count=8)
    rx.engine.hold = 10
    rx.receive(*[eth(bytes(60))] * 7)
    rx.refill(7)
    rx.receive(*[eth(bytes(60))] * 2)
    assert rx.ram.read(rx.ring + 16 * 0 + 12, 1)[0] & DD == 0
    rx.receive(eth(bytes(60)))
    assert [rx.ram.read(rx.ring + 16 * i + 12, 1)[0] & DD for i in (6, 7, 0, 1)] == [DD] * 4


@both
def test_a_threshold_beyond_the_ring_is_reached_by_what_was_sent(reference: bool) -> None:
    tx = Tx(reference=reference, count=8)
    payload = eth(bytes(50))
    tx.engine.hold = 10
    tx.post(*[legacy(tx.put(payload), len(payload)) for _ in range(7)])
    assert not tx.run() & TXDW
    tx.post(*[legacy(tx.put(payload), len(payload)) for _ in range(3)])
    assert tx.run() & TXDW
    assert [tx.done(i) for i in (6, 7, 0, 1)] == [True] * 4


@both
def test_a_descriptor_without_buffer_is_given_back_the_same_way(reference: bool) -> None:
    rx = Rx(reference=reference)
    rx.ram.write(rx.ring, bytes(16))
    writes = by_messages(rx)
    rx.receive(eth(bytes(50)))
    assert writes[:2] == [(rx.ring + 8, bytes(8)), (rx.ring + 12, bytes([DD]))]


@both
def test_transmit_stores_the_status_byte_only(reference: bool) -> None:
    tx = Tx(reference=reference)
    payload = eth(bytes(50))
    tx.post(*[legacy(tx.put(payload), len(payload)) for _ in range(3)])
    writes = by_messages(tx)
    tx.run()
    assert tx.take() == [payload] * 3
    assert writes == [(tx.ring + 16 * i + 12, bytes([DD])) for i in range(3)]


@pytest.mark.parametrize("skip", range(1, 16, 2))
def test_rings_at_odd_addresses_of_this_process(skip: int) -> None:
    """A buffer that begins anywhere may hold a ring: bus addresses are aligned, pointers not."""
    ram = bytearray(1 << 16)
    table = DmaTable()
    table.add(0x1000, memoryview(ram)[skip:])
    regs = registers()
    engine = RxEngine(table, Stats(), RxFilter(regs.file))
    set_address(regs, 0, MAC)
    regs["RDBAL"], regs["RDLEN"], regs["RCTL"] = 0x1000, 128, 0x2 | 1 << 26
    for i in range(8):
        table.write(0x1000 + 16 * i, struct.pack("<QQ", 0x2000 + 2048 * i, 0))
    regs["RDT"] = 7
    frames = [eth(bytes([i]) * 60) for i in range(5)]
    assert engine.receive(FrameBatch(frames)) == 5
    for i, frame in enumerate(frames):
        addr, length, _, status, errors, special = struct.unpack(
            "<QHHBBH", table.read(0x1000 + 16 * i, 16)
        )
        assert (addr, status & (DD | END), errors, special) == (0x2000 + 2048 * i, DD | END, 0, 0)
        assert table.read(addr, length) == frame
