"""DMA by messages: a client that does not share its memory, as QEMU with a plain -m."""

from __future__ import annotations

import errno
import os
import random
import struct
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e1000emu.embed.vfio_user import msgdma
from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.embed.vfio_user.protocol import Command, Message
from e1000emu.testing.guest import Ctrl, GuestRings, Int, Rctl, Reg, TxCmd
from fastpath.base.dma import HostMemory
from tests.e1000emu.embed.fakeclient import (
    QEMU_VERSION,
    RAM_BASE,
    RAM_BYTES,
    FakeClient,
    Rig,
    error_of,
)
from tests.support import examples

FRAME = b"\xff" * 6 + b"\x52\x54\x00\x12\x34\x56" + b"\x08\x00" + bytes(range(50))
READ, WRITE = Command.DMA_READ, Command.DMA_WRITE


def frame(n: int, size: int = 200) -> bytes:
    return b"\xff" * 6 + b"\x52\x54\x00\x12\x34\x56\x08\x00" + bytes([n]) * (size - 14)


def up(rig: Rig, *, ims: int = int(Int.RXT0 | Int.TXDW)) -> tuple[FakeClient, GuestRings]:
    """A client whose RAM is reached by messages, with its rings set up and the link up."""
    client = rig.client()
    guest = client.start(by_message=True)
    guest.up(ims=ims)
    client.run(lambda: rig.server.nic.link_up)
    client.settle()
    guest.read(Reg.ICR)
    client.unmask()
    client.interrupts()
    client.dma_log.clear()
    return client, guest


def unanswered(rig: Rig, *, receives: bool = False) -> tuple[FakeClient, GuestRings]:
    """As `up`, and a frame is to be sent, or comes too; the client answers no request."""
    client, guest = up(rig)
    client.answers_dma = False
    if receives:
        rig.link.inject(FRAME)
    guest.post_legacy(FRAME)
    guest.kick()
    return client, guest


def answer(client: FakeClient, requests: list[Message]) -> None:
    """Answer these requests, and those that come from now on."""
    client.answers_dma = True
    for request in requests:
        client.answer_dma(request)


def turn(client: FakeClient, times: int = 6) -> None:
    """Let the server work without looking at the socket."""
    for _ in range(times):
        with client.clock.lock:
            client.clock.run(timeout_ns=100_000)


def asked(client: FakeClient, count: int = 1) -> list[Message]:
    """Wait for DMA requests that are not answered, and return them."""
    client.run(lambda: client.poll() or len(client.unanswered) >= count)
    out, client.unanswered = client.unanswered, []
    return out


# --- frames --------------------------------------------------------------------------------------


def test_frames_cross_by_messages(rig: Rig) -> None:
    client, guest = up(rig)
    frames = [frame(n) for n in range(10)]
    assert guest.send(*frames) == 10
    assert rig.link.take() == frames
    rig.link.inject(*frames)
    client.settle()
    assert [got.data for got in guest.receive()] == frames
    assert rig.server.memory.table.aborts == 0
    assert rig.server.dma.errors == 0
    assert sum("without a file descriptor" in line for line in rig.log) == 1
    counters = rig.server.counters()
    assert counters["dma_reads"] == client.dma_reads
    assert counters["dma_writes"] == client.dma_writes


def test_a_burst_costs_few_messages(rig: Rig) -> None:
    """Descriptors are read in bursts, as the part's own cache lines; touching buffers join.

    Written are they one by one: see test_vfio_user_writeback.py.
    """
    client, guest = up(rig)
    guest.send(*[frame(n) for n in range(10)])
    kinds = [command for command, _, _ in client.dma_log]
    assert kinds.count(READ) <= 1 + 10
    assert kinds.count(WRITE) == 10
    assert (READ, guest.tx.base, 160) in client.dma_log
    client.dma_log.clear()
    rig.link.inject(*[frame(n) for n in range(10)])
    client.settle()
    ring = range(guest.rx.base, guest.rx.base + guest.rx.size_bytes)
    assert [at in ring for _, at, _ in client.dma_log] == [False] * 10 + [True] * 20


def test_rings_wrap(rig: Rig) -> None:
    client, guest = up(rig)
    sent, received = [], []
    for turn_ in range(12):
        frames = [frame(n + turn_, 60 + 100 * n) for n in range(7)]
        assert guest.send(*frames) == 7
        sent += frames
        rig.link.inject(*frames)
        client.settle()
        received += [got.data for got in guest.receive()]
        client.settle()
    assert rig.link.take() == sent
    assert received == sent


def test_an_interrupt_waits_for_what_it_tells_of(rig: Rig) -> None:
    client, guest = up(rig)
    client.answers_dma = False
    before = rig.server.irqs.fired
    rig.link.inject(FRAME)
    writes = asked(client, 3)
    assert [m.command for m in writes] == [WRITE] * 3
    assert guest.read(Reg.ICR) == 0
    assert rig.server.irqs.fired == before
    for write in writes[:2]:
        client.answer_dma(write)
        turn(client)
        assert guest.read(Reg.ICR) == 0  # the descriptor is not there yet
    client.answer_dma(writes[2])
    client.run(lambda: rig.server.irqs.fired == before + 1)
    assert guest.read(Reg.ICR) & Int.RXT0
    assert [got.data for got in guest.receive()] == [FRAME]


def test_requests_are_served_while_dma_waits(rig: Rig) -> None:
    """The guest's processor never waits for an answer that it must give itself."""
    client, guest = unanswered(rig)
    for _ in range(5):
        assert client.bar_read(0, Reg.STATUS, 4)
        assert client.config_read(0, 2) == 0x8086
    (fetch,) = asked(client)
    assert (fetch.command, *vu.DMA_ACCESS.unpack(fetch.payload)) == (READ, guest.tx.base, 16)
    assert client.bar_read(0, Reg.TDH, 4) == 0
    client.answers_dma = True
    client.answer_dma(fetch)
    client.run(lambda: client.poll() or rig.link.frames == [FRAME])


def test_a_link_without_room_is_not_overrun(rig: Rig) -> None:
    client, guest = up(rig)
    rig.link.room = 2
    frames = [frame(n) for n in range(8)]
    guest.send(*frames)
    assert rig.link.frames == frames[:2]
    rig.link.open_room(3)
    client.settle()
    assert rig.link.frames == frames[:5]
    rig.link.open_room(None)
    client.settle()
    assert rig.link.take() == frames


def test_frames_wait_for_descriptors(rig: Rig) -> None:
    """A held batch goes on when descriptors were given and fetched; none is lost."""
    client, guest = up(rig)
    rig.server.nic.rx.engine.fifo_bytes = 512
    frames = [frame(n) for n in range(40)]
    at = 0
    got: list[bytes] = []
    for _ in range(20):
        if at < len(frames):
            at += rig.link.inject(*frames[at:], hold=True)
        client.settle()
        got += [one.data for one in guest.receive()]
        client.settle()
    assert got == frames
    assert rig.link.rx_ready_calls > 0


def test_large_segmentation(rig: Rig) -> None:
    """A TSE context whose payload takes several messages leaves as segments."""
    client, guest = up(rig)
    header = (
        bytes.fromhex("525400aabbcc5254001234560800")
        + bytes.fromhex("4500000000010000400600000a0000010a000002")
        + bytes.fromhex("1389138900000001000000015010ffff00000000")
    )
    payload = random.Random(3).randbytes(60_000)
    post_tso(guest, header, payload)
    guest.kick()
    client.settle()
    client.settle()
    out = rig.link.take()
    assert b"".join(one[54:] for one in out) == payload
    assert all(len(one) == 54 + 1460 for one in out[:-1])


def post_tso(guest: GuestRings, header: bytes, payload: bytes) -> None:
    """Put a context and two data descriptors into the ring by hand."""
    memory, ring = guest.memory, guest.tx
    at = memory.alloc(len(header) + len(payload), 64)
    memory.write(at, header + payload)
    context = struct.pack(
        "<BBHBBHII",
        14,
        24,
        33,
        34,
        50,
        0,
        len(payload) | 0x27 << 24 | 1 << 29,
        54 << 8 | 1460 << 16,
    )
    dcmd = (TxCmd.DEXT | TxCmd.TSE | TxCmd.IFCS) << 24 | 1 << 20
    first = struct.pack("<QII", at, len(header) | dcmd, 3 << 8)
    last = struct.pack(
        "<QII", at + len(header), len(payload) | dcmd | (TxCmd.EOP | TxCmd.RS) << 24, 3 << 8
    )
    for desc in (context, first, last):
        memory.write(ring.address(ring.next_to_use), desc)
        ring.next_to_use = (ring.next_to_use + 1) % ring.count


def test_requests_are_split_at_what_the_client_takes(rig: Rig, client: FakeClient) -> None:
    small = QEMU_VERSION.replace(b"1048576", b"100")
    client.request(Command.VERSION, bytes(4) + small)
    memory = client.map_ram(by_message=True)
    client.config_write(0x10, 0xFEBC_0000, 4)
    client.config_write(0x04, 0x0007, 2)
    guest = GuestRings(client, memory, tx_count=16, rx_count=16, step=client.settle)
    guest.up()
    client.run(lambda: rig.server.nic.link_up)
    frames = [frame(n, 1000) for n in range(3)]
    assert guest.send(*frames) == 3
    assert rig.link.take() == frames
    rig.link.inject(*frames)
    client.settle()
    assert [got.data for got in guest.receive()] == frames
    assert max(count for _, _, count in client.dma_log) == 100


@pytest.mark.parametrize("size", [b"0", b"15", b"-1", b'"x"', b"true", b"1.5"])
def test_a_size_that_cannot_be_is_refused(rig: Rig, size: bytes, client: FakeClient) -> None:
    version = QEMU_VERSION.replace(b"1048576", size)
    assert error_of(client.request, Command.VERSION, bytes(4) + version) == errno.EINVAL
    assert "max_data_xfer_size" in rig.log[-1]


def test_loopback(rig: Rig) -> None:
    client, guest = up(rig)
    guest.write(Reg.RCTL, guest.rctl | Rctl.LBM_MAC)
    assert guest.send(FRAME) == 1
    client.settle()
    assert [got.data for got in guest.receive()] == [FRAME]
    assert rig.link.take() == []


# --- which memory --------------------------------------------------------------------------------


def mixed(client: FakeClient, cut: int) -> HostMemory:
    """Map RAM below `cut` with a descriptor and the rest without."""
    fd = os.memfd_create("ram")
    os.ftruncate(fd, RAM_BYTES)
    memory = client.memory = HostMemory(RAM_BYTES, base=RAM_BASE, fd=fd)
    client.dma_map(RAM_BASE, cut, fd)
    client.dma_map(RAM_BASE + cut, RAM_BYTES - cut)
    os.close(fd)
    return memory


@pytest.mark.parametrize("cut", [0x1000, 0x2000, 0x3000, 0x8000])
def test_memory_shared_in_part(rig: Rig, cut: int, client: FakeClient) -> None:
    """Rings and buffers on either side of the border, and across it."""
    client.version()
    memory = mixed(client, cut)
    client.new_trigger()
    client.config_write(0x04, 0x0007, 2)
    memory.alloc(0x1000 - 128, 64)  # the rings straddle a page
    guest = GuestRings(client, memory, tx_count=16, rx_count=16, step=client.settle)
    guest.up(ims=int(Int.RXT0))
    client.run(lambda: rig.server.nic.link_up)
    client.settle()
    for _ in range(5):
        frames = [frame(n, 1500) for n in range(6)]
        assert guest.send(*frames) == 6
        assert rig.link.take() == frames
        rig.link.inject(*frames)
        client.settle()
        assert [got.data for got in guest.receive()] == frames
        client.settle()
    assert rig.server.memory.table.aborts == 0


def test_dd_in_shared_memory_waits_for_data_that_goes_by_messages(
    rig: Rig, client: FakeClient
) -> None:
    """The ring is shared, the buffers are not: a driver that polls must not be early."""
    client.version()
    memory = mixed(client, 0x1000)
    client.new_trigger()
    client.config_write(0x04, 0x0007, 2)
    guest = GuestRings(client, memory, tx_count=16, rx_count=16, step=client.settle)
    memory.alloc(0x1000 - guest.tx.size_bytes - guest.rx.size_bytes, 64)  # what is left of it
    guest.up()
    assert guest.rx.base < RAM_BASE + 0x1000 <= min(guest.rx.buffers)[0]
    client.run(lambda: rig.server.nic.link_up)
    client.settle()
    client.answers_dma = False
    frames = [frame(n, 100) for n in range(3)]
    rig.link.inject(*frames)
    writes = asked(client, 3)
    assert [m.command for m in writes] == [WRITE] * 3
    for write in writes:
        assert not any(memory.read(guest.rx.address(i) + 12, 1)[0] for i in range(3))
        client.answer_dma(write)
        turn(client)
    client.answers_dma = True
    client.settle()
    assert [got.data for got in guest.receive()] == frames
    assert rig.server.memory.table.aborts == 0


def test_display_memory_beside_shared_ram_is_no_ram(rig: Rig, client: FakeClient) -> None:
    client.start()
    assert not rig.server.memory.ram_by_message
    client.dma_map(0xFD00_0000, 0x100_0000)
    assert not rig.server.memory.ram_by_message
    client.dma_map(1 << 32, 0x100_0000)
    assert rig.server.memory.ram_by_message
    client.dma_unmap(1 << 32, 0x100_0000)
    client.dma_map(RAM_BASE + RAM_BYTES, 0x100_0000)
    assert rig.server.memory.ram_by_message


def test_display_memory_is_no_ram_while_qemu_maps_the_ram_anew(
    rig: Rig, client: FakeClient
) -> None:
    client.version()
    client.map_ram()
    fd = os.memfd_create("low")
    os.ftruncate(fd, 0xA0000)
    client.dma_map(0, 0xA0000, fd)
    os.close(fd)
    client.dma_map(0xA0000, 0x1_0000)
    client.dma_map(0xFD00_0000, 0x100_0000)
    client.dma_unmap(RAM_BASE, RAM_BYTES)
    client.dma_unmap(0, 0xA0000)
    assert not any("without a file descriptor" in line for line in rig.log)
    assert not rig.server.memory.ram_by_message


def test_rom_is_read_by_message_beside_shared_ram(rig: Rig, client: FakeClient) -> None:
    guest = client.start()
    guest.up()
    client.run(lambda: rig.server.nic.link_up)
    client.dma_map(0xC_0000, 0x2_0000, flags=1)
    ram = client.memory
    assert ram is not None
    rom = HostMemory(0x2_0000, base=0xC_0000)
    rom.write(0xC_1000, FRAME)
    client.memory = rom
    guest.post_legacy(FRAME[::-1])
    ram.write(guest.tx.address(0), struct.pack("<Q", 0xC_1000))
    guest.kick()
    client.run(lambda: client.poll() or rig.link.frames == [FRAME])
    assert client.dma_log == [(READ, 0xC_1000, len(FRAME))]
    assert guest.tx_done(0)


def test_rom_is_not_written(rig: Rig) -> None:
    client, guest = up(rig)
    client.dma_map(0xC_0000, 0x2_0000, flags=1)
    guest.memory.write(guest.rx.address(0), struct.pack("<QQ", 0xC_0000, 0))
    guest.setup_rx()
    guest.memory.write(guest.rx.address(0), struct.pack("<QQ", 0xC_0000, 0))
    client.settle()
    guest.write(Reg.RDBAL, guest.rx.base)  # another ring: fetched anew
    client.settle()
    client.dma_log.clear()
    rig.link.inject(FRAME)
    client.settle()
    assert rig.server.memory.table.aborts == 1
    assert [at for command, at, _ in client.dma_log if command == WRITE] == [
        guest.rx.base + 8, guest.rx.base + 12
    ]  # fmt: skip


# --- what goes wrong -----------------------------------------------------------------------------


def test_memory_that_is_not_there_is_a_master_abort(rig: Rig) -> None:
    """QEMU answers ENODEV where no memory is."""
    client, guest = up(rig)
    client.dma_map(1 << 40, 0x1000)
    guest.post_legacy(FRAME)
    guest.memory.write(guest.tx.address(0), struct.pack("<Q", 1 << 40))
    guest.kick()
    client.settle()
    assert rig.link.take() == [b"\xff" * len(FRAME)]
    assert rig.server.memory.table.aborts == 1
    assert rig.server.dma.errors == 1
    assert any("No such device" in line for line in rig.log)
    assert client.config_read(6, 2) & 0x2000  # received master abort
    guest.memory.write(guest.rx.address(0), struct.pack("<QQ", 1 << 40, 0))
    guest.write(Reg.RDBAL, guest.rx.base)
    client.settle()
    rig.link.inject(FRAME)
    client.settle()
    assert rig.server.memory.table.aborts == 2


def test_refusals_of_one_client_are_reported_a_few_times(rig: Rig) -> None:
    client, guest = up(rig)
    client.dma_map(1 << 40, 0x1000)
    for _ in range(30):
        index = guest.tx.next_to_use
        guest.post_legacy(FRAME)
        guest.memory.write(guest.tx.address(index), struct.pack("<Q", 1 << 40))
        guest.kick()
        client.settle()
        guest.reap()
    assert rig.server.dma.errors == 30
    assert sum("master abort" in line for line in rig.log) == 10


def wrong_size(client: FakeClient, request: Message) -> bytes:
    return vu.reply(request, request.payload[:16] + b"short")


def wrong_address(client: FakeClient, request: Message) -> bytes:
    addr, count = vu.DMA_ACCESS.unpack_from(request.payload)
    return vu.reply(request, vu.DMA_ACCESS.pack(addr + 16, count) + bytes(count))


def wrong_command(client: FakeClient, request: Message) -> bytes:
    return vu.reply(request._replace(command=WRITE), request.payload[:16])


def wrong_id(client: FakeClient, request: Message) -> bytes:
    return vu.reply(request._replace(id=request.id ^ 0x55), request.payload)


def header_only(client: FakeClient, request: Message) -> bytes:
    return vu.reply(request)


def too_large(client: FakeClient, request: Message) -> bytes:
    return vu.reply(request, bytes(vu.MAX_MESSAGE_BYTES))


@pytest.mark.parametrize(
    "wrong", [wrong_size, wrong_address, wrong_command, wrong_id, header_only, too_large]
)
def test_answers_that_cannot_be_end_the_connection(
    rig: Rig, wrong: Callable[[FakeClient, Message], bytes]
) -> None:
    client, guest = unanswered(rig)
    (request,) = asked(client)
    client.sock.send(wrong(client, request)[:100_000])
    client.run(lambda: client.poll() and client.gone)
    assert "client gone: " in rig.log[-1]
    assert "it closed" not in rig.log[-1]
    _, guest = up(rig)
    assert guest.send(FRAME) == 1


def test_an_answer_twice_ends_the_connection(rig: Rig) -> None:
    client, _ = unanswered(rig)
    (request,) = asked(client)
    client.answer_dma(request)
    client.answer_dma(request)
    client.run(lambda: client.poll() and client.gone)
    assert "nobody asked" in rig.log[-1]


def test_a_client_that_does_not_answer_is_given_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, guest = up(rig)
    monkeypatch.setattr(msgdma, "TIMEOUT_NS", 20_000_000)
    client.answers_dma = False
    guest.post_legacy(FRAME)
    guest.kick()
    (request,) = asked(client)
    client.run(lambda: rig.server.dma.errors == 1)
    assert any("has not answered" in line and "DMA_READ" in line for line in rig.log)
    assert client.bar_read(0, Reg.STATUS, 4)
    client.run(lambda: rig.server.memory.table.aborts == 1)
    # Its late answer harms nobody, and the ring goes on at the next doorbell.
    client.answers_dma = True
    client.answer_dma(request)
    guest.kick()
    client.run(lambda: client.poll() or rig.link.frames == [FRAME])
    assert not client.gone


def test_writes_that_are_not_answered_let_the_interrupt_go(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = up(rig)
    monkeypatch.setattr(msgdma, "TIMEOUT_NS", 20_000_000)
    client.answers_dma = False
    fired = rig.server.irqs.fired
    rig.link.inject(FRAME)
    client.run(lambda: rig.server.irqs.fired > fired)
    assert rig.server.memory.table.aborts == 3
    assert rig.server.dma.idle


def test_a_client_that_goes_in_the_middle(rig: Rig) -> None:
    client, guest = unanswered(rig, receives=True)
    asked(client, 3)
    client.close()
    rig.clock.run(lambda: not rig.server.connected, timeout_ns=10_000_000_000)
    assert rig.server.dma.idle
    _, guest = up(rig)
    assert guest.send(FRAME) == 1


def test_unmap_in_the_middle_is_answered_and_nothing_is_used_after(rig: Rig) -> None:
    client, guest = unanswered(rig, receives=True)
    waiting = asked(client, 3)
    assert client.dma_unmap(RAM_BASE, RAM_BYTES) == RAM_BYTES
    answer(client, waiting)
    client.dma_log.clear()
    client.settle()
    rig.link.inject(FRAME)
    guest.kick()
    client.settle()
    assert client.dma_log == []
    assert rig.link.take() == []
    client.dma_map(RAM_BASE, RAM_BYTES)
    client.settle()
    guest.kick()
    client.settle()
    assert rig.link.take() == [FRAME]


def test_reset_in_the_middle_forgets_what_was_fetched(rig: Rig) -> None:
    client, guest = unanswered(rig, receives=True)
    waiting = asked(client, 3)
    client.bar_write(0, Reg.CTRL, Ctrl.RST, 4)
    assert client.bar_read(0, Reg.STATUS, 4)
    answer(client, waiting)
    client.settle()
    assert guest.read(Reg.ICR) == 0
    assert rig.link.take() == []
    guest.up()
    client.run(lambda: rig.server.nic.link_up)
    assert guest.send(FRAME) == 1


def test_bus_master_off_in_the_middle(rig: Rig) -> None:
    client, _ = unanswered(rig)
    (request,) = asked(client)
    client.config_write(4, 0x0003, 2)
    client.say(vu.error_reply(request, errno.ENODEV))
    client.answers_dma = True
    client.settle()
    assert rig.link.take() == []
    client.config_write(4, 0x0007, 2)
    client.settle()
    assert rig.link.take() == [FRAME]


@pytest.mark.parametrize(
    ("reg", "value"),
    [
        (Reg.TCTL, 0), (Reg.TDBAL, RAM_BASE + 0x8_0000), (Reg.TDLEN, 0), (Reg.TDH, 5),
        (Reg.RCTL, 0), (Reg.RDBAL, RAM_BASE + 0x9_0000), (Reg.RDLEN, 0), (Reg.RDH, 7),
        (Reg.RDT, 2), (Reg.CTRL, 0),
    ],
)  # fmt: skip
def test_registers_that_change_in_the_middle(rig: Rig, reg: Reg, value: int) -> None:
    """Whatever is written while DMA is under way, the NIC works after a reset."""
    client, guest = unanswered(rig, receives=True)
    guest.write(Reg.RDT, 3)
    waiting = asked(client, 3)
    client.bar_write(0, reg, value, 4)
    client.bar_read(0, Reg.STATUS, 4)
    answer(client, waiting)
    client.settle()
    rig.link.inject(FRAME)
    client.settle()
    rig.link.take()
    guest.up()
    client.run(lambda: rig.server.nic.link_up)
    client.settle()
    assert guest.send(FRAME) == 1
    assert rig.link.take() == [FRAME]
    rig.link.inject(FRAME)
    client.settle()
    assert [got.data for got in guest.receive()] == [FRAME]


def test_a_client_that_does_not_read_is_sent_a_bounded_amount(rig: Rig) -> None:
    client, _ = up(rig)
    memory = client.memory
    assert memory is not None
    guest = GuestRings(client, memory, tx_count=16, rx_count=256, step=client.settle)
    guest.up()
    client.run(lambda: rig.server.nic.link_up)
    client.settle()
    dma = rig.server.dma
    before = dma.writes
    frames = [frame(n, 1514) for n in range(200)]
    rig.link.inject(*frames)
    turn(client)
    assert dma.writes - before == msgdma.MAX_REQUESTS
    for _ in range(10):
        client.settle()
    assert [got.data for got in guest.receive()] == frames


def test_answers_asked_for_at_once_fit_into_the_client_s_socket(rig: Rig) -> None:
    """QEMU 11.1 loses the rest of an answer that its socket does not take whole."""
    client, guest = up(rig)
    client.answers_dma = False
    post_tso(guest, bytes(54), bytes(60_000))
    post_tso(guest, bytes(54), bytes(60_000))
    guest.kick()
    (fetch,) = asked(client)
    client.answer_dma(fetch)
    requests = asked(client, 4)
    turn(client)
    client.poll()
    requests += client.unanswered
    sizes = [vu.DMA_ACCESS.unpack(m.payload)[1] for m in requests]
    assert max(sizes) == msgdma.READ_BYTES
    assert sum(sizes) <= msgdma.MAX_READ_BYTES
    answer(client, requests)
    client.settle()
    client.run(lambda: client.poll() or guest.tx_done(5))


def test_server_close_with_dma_under_way(rig: Rig) -> None:
    client, _ = unanswered(rig)
    asked(client)
    rig.server.close()
    rig.clock.run(timeout_ns=5_000_000)


# --- against shared memory -----------------------------------------------------------------------


@settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.lists(st.integers(60, 3000), min_size=1, max_size=14)),
            st.tuples(st.just("receive"), st.lists(st.integers(60, 1514), min_size=1, max_size=9)),
            st.tuples(st.just("collect"), st.just([])),
            st.tuples(st.just("reset"), st.just([])),
        ),
        max_size=10,
    )
)
def test_messages_and_shared_memory_do_the_same(
    rig: Rig, steps: list[tuple[str, list[int]]]
) -> None:
    """The same driver, frames and order: what comes out is the same on both ways."""

    def run(by_message: bool) -> list[object]:
        client = FakeClient(rig.path, rig.clock)
        guest = client.start(by_message=by_message)
        out: list[object] = []

        def bring_up() -> None:
            guest.up()
            client.run(lambda: rig.server.nic.link_up)
            client.settle()

        bring_up()
        for step, sizes in steps:
            frames = [frame(n, size) for n, size in enumerate(sizes)]
            if step == "send":
                out.append(guest.send(*frames))
            elif step == "receive":
                rig.link.inject(*frames)
                client.settle()
            elif step == "collect":
                out.append([(got.data, got.status, got.checksum) for got in guest.receive()])
                client.settle()
            else:
                bring_up()
            out.append(rig.link.take())
        stats = rig.server.nic.stats.as_dict()
        out.append({name: stats[name] for name in ("TPT", "GOTC", "GPRC", "GORC", "MPC")})
        client.close()
        rig.clock.run(lambda: not rig.server.connected, timeout_ns=10_000_000_000)
        return out

    by_message = run(True)
    assert by_message == run(False)
