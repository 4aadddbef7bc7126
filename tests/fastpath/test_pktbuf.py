"""The packet buffer's registers: pointers, the window PBM, hostile values, state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.nic.pktbuf import PacketBuffer
from fastpath.nic.regfile import RegFile
from tests.fastpath.rings import Rx, eth

RDFH, RDFT, RDFHS, RDFTS, RDFPC = range(0x2410, 0x2431, 8)
TDFH, TDFT, TDFHS, TDFTS, TDFPC = range(0x3410, 0x3431, 8)
POINTERS = (RDFH, RDFT, RDFHS, RDFTS, RDFPC, TDFH, TDFT, TDFHS, TDFTS, TDFPC)
PBM, BAR0 = 0x10000, 0x20000
BODY = bytes(i * 7 & 0xFF for i in range(2000))


def registers(buffer: PacketBuffer) -> RegFile:
    file = RegFile(BAR0 // 4)
    for at in (*POINTERS, *range(PBM, BAR0, 4)):
        file.define(at // 4, rw=0xFFFFFFFF, on_read=buffer, on_write=buffer)
    return file


def test_the_window_is_the_memory() -> None:
    buffer = PacketBuffer()
    file = registers(buffer)
    for at in (PBM, PBM + 49152, BAR0 - 4):
        file.write32(at, 0xA1B2C3D4 ^ at)
        assert file.read32(at) == 0xA1B2C3D4 ^ at
        assert buffer.memory()[at - PBM :][:4] == (0xA1B2C3D4 ^ at).to_bytes(4, "little")


def test_frames_move_the_pointers_and_the_first_look_makes_all_leave_their_bytes() -> None:
    rx = Rx(count=64)
    file = registers(rx.engine.buffer)
    rx.receive(*[eth(BODY[:100])] * 20)
    words = 20 * 2 * ((118 + 16 + 15) // 16)
    assert [file.read32(at) for at in POINTERS[:5]] == [words] * 4 + [0]
    assert not any(rx.engine.buffer.memory())
    assert file.read32(PBM) == 0
    rx.receive(*[eth(BODY[:100])] * 20)
    assert rx.engine.buffer.memory().count(eth(BODY[:100])) == 20
    assert file.read32(PBM + words * 8) == 118


def test_software_that_changes_a_waiting_frame_changes_what_is_delivered() -> None:
    rx = Rx()
    file = registers(rx.engine.buffer)
    rx.regs["RDT"] = rx.regs["RDH"]
    rx.receive(eth(BODY[:100]))
    assert file.read32(RDFPC) == 1
    file.write32(PBM + 16 + 16, 0xEEEEEEEE)
    rx.regs["RDT"] = 8
    assert rx.engine.kick() == 1
    assert rx.reap()[0].data[14:20] == BODY[:2] + b"\xee" * 4


def test_a_pointer_that_software_moves_is_where_the_fifo_goes_on() -> None:
    rx = Rx()
    file = registers(rx.engine.buffer)
    rx.regs["RDT"] = rx.regs["RDH"]
    rx.receive(eth(BODY[:100]), eth(BODY[:100]))
    file.write32(RDFT, 0x5FF + 6144)
    assert (file.read32(RDFPC), rx.engine.fifo_frames, rx.engine.fifo_used) == (0, 0, 0)
    assert file.read32(RDFT) == 0x5FF
    file.write32(RDFPC, 9)
    assert file.read32(RDFPC) == 0
    rx.receive(eth(BODY[:100]))
    assert [file.read32(at) for at in (RDFH, RDFT, RDFPC)] == [0x5FF, 0x5FF + 18, 1]
    rx.regs["RDT"] = 8
    assert rx.engine.kick() == 1
    assert rx.reap()[0].data == eth(BODY[:100])


def test_frames_lie_round_the_end_of_the_share() -> None:
    rx = Rx()
    file = registers(rx.engine.buffer)
    size = rx.engine.fifo_bytes // 8
    for start in range(size - 140, size):
        rx.regs["RDT"] = rx.regs["RDH"]
        file.write32(RDFT, start)
        rx.receive(eth(BODY[:1000]))
        rx.refill(1)
        assert rx.engine.kick() == 1
        assert [d.data for d in rx.reap()] == [eth(BODY[:1000])]
    assert not any(rx.engine.buffer.memory()[49152:]), "the transmit FIFO's share is another's"


@given(
    st.lists(
        st.tuples(st.sampled_from(POINTERS), st.integers(0, 0xFFFFFFFF), st.integers(0, 1600)),
        max_size=20,
    ),
    st.sampled_from([0, 8, 4000, 49152, 65536]),
)
def test_any_pointer_is_survived(writes: list[tuple[int, int, int]], fifo_bytes: int) -> None:
    rx = Rx()
    file = registers(rx.engine.buffer)
    rx.engine.fifo_bytes = fifo_bytes
    rx.regs["RDT"] = rx.regs["RDH"]
    for at, value, size in writes:
        file.write32(at, value)
        rx.receive(eth(BODY[:size]), hold=True)
        rx.receive(eth(BODY[:size]))
        for pointer in POINTERS:
            share = fifo_bytes if pointer < TDFH else 65536 - fifo_bytes
            assert file.read32(pointer) < max(share // 8, 1)
        if value & 1:
            rx.reap()
            rx.refill(1)
            rx.engine.kick()
    assert rx.engine.fifo_used <= fifo_bytes


def test_state_and_damage() -> None:
    rx, other = Rx(), PacketBuffer()
    rx.receive(eth(BODY[:500]))
    file = registers(rx.engine.buffer)
    file.write32(TDFHS, 77)
    file.write32(PBM + 60000, 1)
    state = rx.engine.buffer.state()
    other.load(state)
    assert other.state() == state
    assert (other.exact, other.pointers(), other.pointers(True)) == (
        True,
        rx.engine.buffer.pointers(),
        (0, 0, 77, 0, 0),
    )
    for bad in (b"", state[:-1], b"\2" + state[1:]):
        with pytest.raises(ValueError, match="PacketBuffer"):
            other.load(bad)
    other.load(state[:8] + b"\xff" * 32 + state[40:])
    assert all(n < 8192 for n in other.pointers() + other.pointers(True))
