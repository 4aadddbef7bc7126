"""The vfio-user server, driven as QEMU drives it: start-up, registers, rings, interrupts, ends."""

from __future__ import annotations

import asyncio
import errno
import json
import mmap
import os
import resource
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e1000emu import embed
from e1000emu.clock import AsyncioClock, RealClock, VirtualClock
from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.embed.vfio_user.protocol import Command
from e1000emu.embed.vfio_user.server import VfioUserServer
from e1000emu.errors import ArgumentError, E1000Error
from e1000emu.links import pair
from e1000emu.registers.eeprommap import eeprom_word
from e1000emu.registers.regs import reg
from e1000emu.testing.guest import GuestRings, Int, Reg
from e1000emu.testing.recorders import RecordingLink
from fastpath.base.dma import HostMemory
from tests.e1000emu.embed.fakeclient import (
    QEMU_VERSION,
    RAM_BASE,
    RAM_BYTES,
    FakeClient,
    Rig,
    error_of,
    u32,
)
from tests.support import examples

CFG = vu.VFIO_PCI_CONFIG_REGION_INDEX
FRAME = b"\xff" * 6 + b"\x52\x54\x00\x12\x34\x56" + b"\x08\x00" + bytes(range(50))


# --- the sequence that QEMU 11.1.3 begins with ---------------------------------------------------


def test_start_of_qemu(rig: Rig, client: FakeClient) -> None:
    answer = client.version()
    assert len(answer) <= 4 + len(QEMU_VERSION)
    assert answer[:4] == bytes(4)
    assert answer.endswith(b"\0")
    # Five maps back to back: RAM with a descriptor, ROM without.
    fd = os.memfd_create("ram")
    os.ftruncate(fd, 0x100_0000)
    maps = [
        (3, 0, 0x0, 0xA_0000, True),
        (1, 0, 0xC_0000, 0x2_0000, False),
        (1, 0xE_0000, 0xE_0000, 0x2_0000, True),
        (3, 0x10_0000, 0x10_0000, 0xF0_0000, True),
        (1, 0, 0xFFFC_0000, 0x4_0000, False),
    ]
    sent = [
        client.post(
            Command.DMA_MAP, vu.DMA_MAP.pack(32, flags, off, iova, size), [fd] if with_fd else []
        )
        for flags, off, iova, size, with_fd in maps
    ]
    assert [client.answer(ident) for ident in sent] == [b""] * 5
    os.close(fd)
    assert len(rig.server.memory) == 5
    assert rig.server.memory.mapped_bytes == 0xA_0000 + 0x2_0000 + 0xF0_0000

    info = vu.DEVICE_INFO.unpack(
        client.request(Command.DEVICE_GET_INFO, vu.DEVICE_INFO.pack(16, 0, 0, 0))
    )
    assert info == (16, 3, 9, 5)
    sizes = []
    for index in range(9):
        argsz, flags, got, cap, size, offset = vu.REGION_INFO.unpack(
            client.request(
                Command.DEVICE_GET_REGION_INFO, vu.REGION_INFO.pack(32, 0, index, 0, 0, 0)
            )
        )
        assert (argsz, got, cap, offset) == (32, index, 0, 0)
        assert flags == (3 if size else 0)
        sizes.append(size)
    assert sizes == [0x2_0000, 0, 8, 0, 0, 0, 0, 256, 0]
    counts = []
    for index in (0, 1, 2, 4):
        argsz, flags, got, count = vu.IRQ_INFO.unpack(
            client.request(Command.DEVICE_GET_IRQ_INFO, vu.IRQ_INFO.pack(16, 0, index, 0))
        )
        assert (argsz, got, flags) == (16, index, 7 if count else 0)
        counts.append(count)
    assert counts == [1, 0, 0, 0]
    # As the kernel says of a conventional PCI function: no error interrupt, and QEMU is content.
    error = vu.IRQ_INFO.pack(16, 0, vu.VFIO_PCI_ERR_IRQ_INDEX, 0)
    assert error_of(client.request, Command.DEVICE_GET_IRQ_INFO, error) == errno.EINVAL

    config = client.region_read(CFG, 0, 256)
    assert config[:4] == bytes.fromhex("86800e10")
    assert config[0x10] & 0xF == 0  # 32-bit memory
    assert config[0x18] & 0x3 == 1  # I/O
    assert config[0x3D] == 1  # INTA
    rom = client.region_read(CFG, 0x30, 4)
    client.region_write(CFG, 0x30, b"\x00\xf8\xff\xff")
    assert client.region_read(CFG, 0x30, 4) == bytes(4)
    client.region_write(CFG, 0x30, rom)
    assert client.region_read(CFG, 0x3D, 1) == b"\x01"
    client.new_trigger()
    # The machine's reset.
    client.set_irqs(0x21, 0)
    client.config_write(4, client.config_read(4, 2) & ~0x407, 2)
    client.request(Command.DEVICE_RESET)
    client.new_trigger()
    for bar in range(6):
        client.config_write(0x10 + 4 * bar, 0, 4)
    # Firmware remaps the low megabyte.
    assert client.dma_unmap(0xC_0000, 0x2_0000) == 0x2_0000
    assert client.dma_unmap(0xE_0000, 0x2_0000) == 0x2_0000
    client.dma_map(0xC_0000, 0x4_0000, None, flags=1)
    # Bar sizing by the guest, then addresses.
    client.config_write(0x10, 0xFFFF_FFFF, 4)
    assert client.config_read(0x10, 4) == 0xFFFE_0000
    client.config_write(0x10, 0xFEBC_0000, 4)
    client.config_write(4, 7, 2)
    assert client.bar_read(0, Reg.STATUS, 4) not in (0, 0xFFFF_FFFF)
    assert rig.server.refusals == 0


# --- registers -----------------------------------------------------------------------------------


def test_accesses_of_every_size(client: FakeClient) -> None:
    client.start()
    ral = bytes.fromhex("525400123456")
    client.run(lambda: True)
    assert client.region_read(0, Reg.RAL, 8) == ral + b"\x00\x80"
    assert client.region_read(0, Reg.RAL, 4) == ral[:4]
    assert client.region_read(0, Reg.RAL + 2, 2) == ral[2:4]
    assert client.region_read(0, Reg.RAL + 5, 1) == ral[5:6]
    assert client.region_read(0, Reg.RAL + 1, 4) == ral[1:5]
    client.region_write(0, Reg.MTA, bytes(range(1, 9)))
    assert client.region_read(0, Reg.MTA, 4) == bytes([1, 2, 3, 4])
    assert client.region_read(0, Reg.MTA + 4, 4) == bytes([5, 6, 7, 8])
    client.region_write(0, Reg.MTA, b"\xaa")
    assert client.region_read(0, Reg.MTA, 4) == bytes([0xAA, 2, 3, 4])
    assert client.region_read(0, 0, 0) == b""
    assert len(client.region_read(0, Reg.MTA, 512)) == 512


def test_an_access_in_part_leaves_other_bytes_and_clears_once(client: FakeClient) -> None:
    client.start()
    client.run(lambda: True)
    client.region_read(0, Reg.ICR, 4)
    client.bar_write(0, Reg.ICS, 0x204, 4)
    client.region_write(0, Reg.ICR + 1, b"\x02")
    assert client.region_read(0, Reg.ICR, 4) == b"\x04\0\0\0"
    client.bar_write(0, Reg.ICS, 0x01_0200, 4)
    assert client.region_read(0, Reg.ICR + 1, 3) == b"\x02\x01\0"
    assert client.region_read(0, Reg.ICR, 4) == bytes(4)
    client.bar_write(0, Reg.ICS, 0x01_0204, 4)
    client.region_write(0, Reg.ICR, b"\x04\0\x01\0\0\0\0\0")
    assert client.region_read(0, Reg.ICR, 4) == b"\0\x02\0\0"


def test_io_bar_reaches_the_registers(client: FakeClient) -> None:
    client.start()
    client.bar_write(2, 0, Reg.STATUS, 4)
    assert client.bar_read(2, 4, 4) == client.bar_read(0, Reg.STATUS, 4)
    assert client.region_read(2, 0, 8)[:4] == struct.pack("<I", Reg.STATUS)


def test_accesses_outside_a_region_are_refused(client: FakeClient) -> None:
    client.start()
    for region, offset, size in ((0, 0x2_0000, 4), (0, 0x1_FFFE, 4), (2, 8, 1), (CFG, 253, 4)):
        assert error_of(client.region_read, region, offset, size) == errno.EINVAL
        assert error_of(client.region_write, region, offset, bytes(size)) == errno.EINVAL
    assert error_of(client.region_read, 1, 0, 4) == errno.EINVAL
    assert error_of(client.region_read, 99, 0, 4) == errno.EINVAL
    assert error_of(client.region_read, 0, (1 << 64) - 4, 4) == errno.EINVAL
    assert client.bar_read(0, Reg.STATUS, 4)


def test_decoding_obeys_the_command_register(client: FakeClient) -> None:
    client.start()
    client.config_write(4, 0, 2)
    assert client.bar_read(0, Reg.STATUS, 4) == 0xFFFF_FFFF
    client.config_write(4, 2, 2)
    assert client.bar_read(0, Reg.STATUS, 4) != 0xFFFF_FFFF


def test_posted_writes_keep_their_order_and_get_no_answer(rig: Rig, client: FakeClient) -> None:
    client.start()
    for value in range(200):
        client.bar_write(0, Reg.MTA, value, 4)
        client.bar_write(0, Reg.MTA + 4, value ^ 0xFF, 4)
    assert client.bar_read(0, Reg.MTA, 4) == 199
    assert client.bar_read(0, Reg.MTA + 4, 4) == 199 ^ 0xFF
    assert client.got == []
    assert rig.server.counters()["posted_writes"] == 400


def test_a_posted_write_outside_is_dropped_without_an_answer(rig: Rig, client: FakeClient) -> None:
    client.start()
    client.bar_write(0, 0x2_0000, 1, 4)
    assert client.bar_read(0, Reg.STATUS, 4)
    assert client.got == []
    assert rig.server.refusals == 1


# --- frames --------------------------------------------------------------------------------------


def test_frames_cross_shared_memory(rig: Rig, client: FakeClient) -> None:
    guest = client.start()
    guest.up(ims=int(Int.RXT0 | Int.TXDW))
    client.bar_read(0, Reg.STATUS, 4)
    client.run(lambda: rig.server.nic.link_up)
    assert guest.send(FRAME) == 1
    assert rig.link.take() == [FRAME]
    assert rig.link.inject(FRAME, FRAME[:60]) == 2
    assert [frame.data for frame in guest.receive()] == [FRAME, FRAME[:60]]
    assert rig.server.memory.table.aborts == 0


def test_a_doorbell_waits_for_the_messages_behind_it(rig: Rig, client: FakeClient) -> None:
    """The guest's processor is not kept waiting while frames are copied."""
    guest = client.start()
    guest.up()
    guest.read(Reg.STATUS)  # what was posted before has been served
    client.run(lambda: rig.server.nic.link_up)
    seen: list[int] = []
    serve = rig.server.serve

    def record(*args: object) -> bytes:
        answer = serve(*args)  # type: ignore[arg-type]
        seen.append(len(rig.link.frames))
        return answer

    rig.server.serve = record  # type: ignore[method-assign, assignment]
    guest.post_legacy(FRAME)
    guest.kick()
    ident = client.post(Command.REGION_READ, vu.REGION_ACCESS.pack(Reg.STATUS, 0, 4))
    client.answer(ident)
    assert seen == [0, 0]  # both served before the first frame was on the link
    client.run(lambda: rig.link.take() == [FRAME])


def test_endless_traffic_and_messages_share_the_clock(rig: Rig, client: FakeClient) -> None:
    """Each turn of the clock serves both: neither waits for the other to end."""
    guest = client.start()
    guest.up()
    client.run(lambda: rig.server.nic.link_up)
    nic, rounds = rig.server.nic, 0

    def again() -> None:
        nonlocal rounds
        rounds += 1
        nic.tx.pump()
        rig.clock.call_soon(again)

    again()
    for _ in range(50):
        guest.post_legacy(FRAME)
        before = rounds
        client.bar_read(0, Reg.STATUS, 4)
        assert rounds - before < 20
        guest.kick()
        client.run(lambda: rig.link.take() == [FRAME])
        guest.reap()


def test_bus_master_bit_stops_dma_though_memory_is_mapped(rig: Rig, client: FakeClient) -> None:
    guest = client.start()
    guest.up()
    client.run(lambda: rig.server.nic.link_up)
    client.config_write(4, 3, 2)
    guest.post_legacy(FRAME)
    guest.kick()
    client.settle()
    assert rig.link.take() == []
    client.config_write(4, 7, 2)
    client.run(lambda: rig.link.take() == [FRAME])


def test_unmapped_memory_is_not_touched(rig: Rig, client: FakeClient) -> None:
    guest = client.start()
    guest.up()
    client.run(lambda: rig.server.nic.link_up)
    assert client.dma_unmap(RAM_BASE, RAM_BYTES) == RAM_BYTES
    guest.post_legacy(FRAME)
    guest.kick()
    client.run(lambda: rig.server.memory.table.aborts > 0)
    assert rig.link.take() == []
    rig.link.inject(FRAME)
    assert guest.receive() == []


def test_read_only_memory_is_read_and_never_written(rig: Rig, client: FakeClient) -> None:
    client.version()
    fd = os.memfd_create("rom")
    os.ftruncate(fd, 8192)
    os.pwrite(fd, b"firmware", 4096)
    client.dma_map(0xE_0000, 4096, fd, offset=4096, flags=1)
    client.config_write(4, 4, 2)
    table = rig.server.memory.table
    assert table.read(0xE_0000, 8) == b"firmware"
    table.write(0xE_0000, b"overwrit")
    assert table.aborts == 1
    assert os.pread(fd, 8, 4096) == b"firmware"
    os.close(fd)


# --- DMA_MAP and DMA_UNMAP that cannot be --------------------------------------------------------


def test_maps_that_cannot_be_are_refused(rig: Rig, client: FakeClient) -> None:
    client.version()
    fd = os.memfd_create("ram")
    os.ftruncate(fd, 0x10000)
    pipe = os.pipe()
    client.dma_map(0x10000, 0x4000, fd)
    assert error_of(client.dma_map, 0x12000, 0x4000, fd) == errno.EEXIST
    assert error_of(client.dma_map, 0xF000, 0x2000, None, flags=1) == errno.EEXIST
    assert error_of(client.dma_map, 0x20000, 0x20000, fd) == errno.EINVAL
    assert error_of(client.dma_map, 0x20000, 0x1000, fd, offset=0x10000) == errno.EINVAL
    assert error_of(client.dma_map, 0x20000, 0x1000, pipe[0]) == errno.EINVAL
    assert error_of(client.dma_map, 0x20000, (1 << 63) - 4096, fd) == errno.EINVAL
    two = vu.DMA_MAP.pack(32, 3, 0, 0x20000, 0x1000)
    assert error_of(client.request, Command.DMA_MAP, two, [fd, fd]) == errno.EINVAL
    read_only = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    assert error_of(client.dma_map, 0x20000, 0x1000, read_only) == errno.EACCES
    client.dma_map(0x20000, 0x1000, read_only, flags=1)
    for one in (fd, read_only, *pipe):
        os.close(one)
    assert len(rig.server.memory) == 2


@pytest.mark.parametrize("left", [0, 1])
def test_memory_that_its_owner_shortens_reads_as_zeros(
    rig: Rig, left: int, client: FakeClient
) -> None:
    """Without a guard the NIC's next access would end this process by SIGBUS."""
    client.version()
    fd = os.memfd_create("ram")
    os.ftruncate(fd, RAM_BYTES)
    client.memory = HostMemory(RAM_BYTES, base=RAM_BASE, fd=fd)
    client.dma_map(RAM_BASE, RAM_BYTES, fd)
    client.config_write(0x04, 0x0007, 2)
    guest = GuestRings(client, client.memory, tx_count=16, rx_count=16, step=client.settle)
    guest.up()
    client.run(lambda: rig.server.nic.link_up)
    guest.post_legacy(FRAME)
    os.ftruncate(fd, left * 4096)
    guest.kick()
    client.bar_read(0, Reg.STATUS, 4)
    client.settle()
    assert rig.server.counters()["memory_faults"] > 0
    rig.link.inject(FRAME)
    assert client.bar_read(0, Reg.STATUS, 4)
    assert client.dma_unmap(RAM_BASE, RAM_BYTES) == RAM_BYTES
    os.close(fd)
    client.close()
    rig.clock.run(lambda: not rig.server.connected, timeout_ns=10_000_000_000)
    assert "pages were gone before" in rig.log[-1]
    again = rig.client()
    again.start()
    again.close()
    rig.clock.run(lambda: not rig.server.connected, timeout_ns=10_000_000_000)
    assert "pages were gone" not in rig.log[-1]


def test_a_file_on_a_disk_is_memory_too(rig: Rig, client: FakeClient) -> None:
    client.version()
    with tempfile.TemporaryFile() as file:
        file.write(b"on a disk")
        file.truncate(0x10000)
        client.dma_map(0x10000, 0x10000, file.fileno())
    client.config_write(4, 4, 2)
    assert rig.server.memory.table.read(0x10000, 9) == b"on a disk"


@pytest.fixture
def huge() -> Iterator[int]:
    """Make a memfd of four huge pages; skip where there are none."""
    knob = Path("/proc/sys/vm/nr_hugepages")
    try:
        before = int(knob.read_text())
        knob.write_text(str(before + 4))
    except OSError as error:
        pytest.skip(f"needs huge pages: {error}")
    try:
        fd = os.memfd_create("huge", os.MFD_HUGETLB)
        size = os.fstat(fd).st_blksize
        os.ftruncate(fd, 4 * size)
        try:
            mmap.mmap(fd, 4 * size).close()
        except OSError as error:
            pytest.skip(f"needs huge pages: {error}")
        yield fd
        os.close(fd)
    finally:
        knob.write_text(str(before))


def test_huge_pages_are_mapped_though_low_memory_is_cut_anywhere(rig: Rig, huge: int) -> None:
    page = os.fstat(huge).st_blksize
    with mmap.mmap(huge, 4 * page) as whole:
        for offset in range(0, 4 * page, 0x2_0000):
            whole[offset : offset + 8] = offset.to_bytes(8, "big")
    client = rig.client()
    client.version()
    client.config_write(4, 4, 2)
    maps_before = Path("/proc/self/maps").read_text().count("memfd:huge")
    pieces = [(0, 0xA_0000), (0xC_0000, 0x2_0000), (0x10_0000, 4 * page - 0x10_0000)]
    for offset, size in pieces:
        client.dma_map(offset, size, huge, offset=offset)
    table = rig.server.memory.table
    for offset in (0, 0x8_0000, 0xC_0000, 0x10_0000, 2 * page, 4 * page - 0x2_0000):
        assert table.read(offset, 8) == offset.to_bytes(8, "big")
    assert table.aborts == 0
    table.read(0xA_0000, 8)
    assert table.aborts == 1
    os.ftruncate(huge, page)
    assert table.read(3 * page, 8) == bytes(8)
    assert table.read(0x8_0000, 8) == (0x8_0000).to_bytes(8, "big")
    assert rig.server.memory.faults == 1
    for offset, size in pieces:
        assert client.dma_unmap(offset, size) == size
    assert Path("/proc/self/maps").read_text().count("memfd:huge") == maps_before


def test_unmap_takes_whole_pieces_only(rig: Rig, client: FakeClient) -> None:
    client.version()
    for base in (0x1000, 0x3000, 0x8000):
        client.dma_map(base, 0x2000, None, flags=1)
    assert error_of(client.dma_unmap, 0x1000, 0x1000) == errno.EINVAL
    assert error_of(client.dma_unmap, 0x2000, 0x4000) == errno.EINVAL
    assert error_of(client.dma_unmap, 0x10_0000, 0x1000) == errno.ENOENT
    assert client.dma_unmap(0x1000, 0x4000) == 0x4000
    assert client.dma_unmap(0, 0, flags=2) == 0x2000
    assert len(rig.server.memory) == 0


def test_number_of_maps_is_bounded(client: FakeClient) -> None:
    client.version()
    for index in range(1, vu.MAX_DMA_MAPS + 1):
        client.dma_map(index << 12, 4096, None, flags=1)
    assert error_of(client.dma_map, 1 << 40, 4096, None, flags=1) == errno.ENOSPC


# --- interrupts ----------------------------------------------------------------------------------


def interrupt_rig(rig: Rig) -> tuple[FakeClient, GuestRings]:
    client = rig.client()
    guest = client.start()
    guest.write(Reg.IMS, Int.LSC | Int.TXDW)
    guest.read(Reg.ICR)
    client.unmask()
    client.interrupts()
    return client, guest


def test_an_interrupt_masks_itself_until_unmask(rig: Rig) -> None:
    client, guest = interrupt_rig(rig)
    guest.write(Reg.ICS, Int.LSC)
    client.config_read(0, 4)
    assert client.interrupts() == 1
    assert client.config_read(6, 2) & 8  # PCI status says so too
    guest.write(Reg.ICS, Int.TXDW)
    client.config_read(0, 4)
    assert client.interrupts() == 0
    assert guest.read(Reg.ICR) & (Int.LSC | Int.TXDW) == Int.LSC | Int.TXDW
    guest.write(Reg.ICS, Int.TXDW)  # rises again while masked
    client.config_read(0, 4)
    assert client.interrupts() == 0
    client.unmask()
    assert client.interrupts() == 1


def test_unmask_fires_again_while_the_level_is_high_only(rig: Rig) -> None:
    client, guest = interrupt_rig(rig)
    guest.write(Reg.ICS, Int.LSC)
    client.unmask()
    assert client.interrupts() == 2
    guest.write(Reg.IMC, 0xFFFF_FFFF)  # posted, and in order before UNMASK
    client.unmask()
    assert client.interrupts() == 0
    guest.write(Reg.IMS, Int.LSC)
    client.config_read(0, 4)
    assert client.interrupts() == 1


def test_mask_holds_an_interrupt_back(rig: Rig) -> None:
    client, guest = interrupt_rig(rig)
    client.set_irqs(0x09)
    guest.write(Reg.ICS, Int.LSC)
    client.config_read(0, 4)
    assert client.interrupts() == 0
    client.unmask()
    assert client.interrupts() == 1


def test_disable_drops_the_eventfd_and_a_new_one_gets_a_waiting_interrupt(rig: Rig) -> None:
    client, guest = interrupt_rig(rig)
    client.set_irqs(0x21, 0)
    guest.write(Reg.ICS, Int.LSC)
    client.config_read(0, 4)
    assert client.interrupts() == 0
    client.new_trigger()
    assert client.interrupts() == 1


def test_msi_is_told_at_each_rise_and_needs_no_unmask(tmp_path: Path, clock: RealClock) -> None:
    """In QEMU's order: enabled in the device first, INTx off, the message's eventfd last."""
    with VfioUserServer(
        tmp_path / "s", link=RecordingLink(), clock=clock, autoneg_ns=0, model="82545EM"
    ) as server:
        client = FakeClient(server.path, clock)
        guest = client.start()
        guest.up(ims=int(Int.LSC))
        client.run(lambda: server.nic.link_up)
        guest.read(Reg.ICR)
        client.unmask()
        client.interrupts()
        client.config_write(0xF2, 1, 2)
        guest.write(Reg.ICS, Int.LSC)  # comes before anybody has an eventfd for it
        client.set_irqs(0x21, 0)
        client.set_irqs(0x24, 1, [client.trigger], index=1)
        assert client.interrupts() == 1
        for _ in range(3):
            assert guest.read(Reg.ICR) & Int.LSC
            guest.write(Reg.ICS, Int.LSC)
            client.config_read(0, 4)
            assert client.interrupts() == 1
        client.set_irqs(0x21, 0, index=1)
        client.config_write(0xF2, 0, 2)
        client.set_irqs(0x24, 1, [client.trigger])
        assert client.interrupts() == 1  # the level of INTA#
        client.close()


def test_an_eventfd_can_unmask(rig: Rig) -> None:
    client, guest = interrupt_rig(rig)
    resample = os.eventfd(0, os.EFD_NONBLOCK)
    client.set_irqs(0x14, 1, [resample])
    guest.write(Reg.ICS, Int.LSC)
    client.config_read(0, 4)
    assert client.interrupts() == 1
    os.eventfd_write(resample, 1)
    client.run(lambda: client.interrupts() == 1)
    client.set_irqs(0x14, 1)  # none any more
    os.eventfd_write(resample, 1)
    client.config_read(0, 4)
    assert client.interrupts() == 0
    os.close(resample)


def test_interrupt_disable_bit_lowers_the_line(rig: Rig) -> None:
    client, guest = interrupt_rig(rig)
    client.config_write(4, 0x407, 2)
    guest.write(Reg.ICS, Int.LSC)
    client.config_read(0, 4)
    assert client.interrupts() == 0
    client.config_write(4, 0x007, 2)
    assert client.interrupts() == 1


def test_client_can_test_its_own_trigger(rig: Rig) -> None:
    client, _ = interrupt_rig(rig)
    client.set_irqs(0x21, 1)
    assert client.interrupts() == 1


def test_eventfds_that_are_none_are_refused(client: FakeClient) -> None:
    client.start()
    pipe = os.pipe()
    assert error_of(client.set_irqs, 0x24, 1, [pipe[1]]) == errno.EINVAL
    assert error_of(client.set_irqs, 0x24, 1, [client.trigger, client.trigger]) == errno.EINVAL
    assert error_of(client.set_irqs, 0x0C, 1, [client.trigger]) == errno.ENOTSUP
    assert error_of(client.set_irqs, 0x24, 2, [client.trigger]) == errno.EINVAL
    assert error_of(client.set_irqs, 0x24, 1, [client.trigger], index=3) == errno.EINVAL
    client.set_irqs(0x21, 0, index=1)
    for fd in pipe:
        os.close(fd)


def test_a_full_eventfd_blocks_nothing(rig: Rig) -> None:
    client, guest = interrupt_rig(rig)
    os.eventfd_write(client.trigger, 0xFFFF_FFFF_FFFF_FFFE)
    guest.write(Reg.ICS, Int.LSC)
    assert client.config_read(0, 2) == 0x8086


# --- resets, ends, reconnect ---------------------------------------------------------------------


def test_device_reset_is_rst(rig: Rig) -> None:
    client, guest = interrupt_rig(rig)
    guest.write(Reg.ICS, Int.LSC)
    client.config_read(0, 4)
    assert client.interrupts() == 1
    assert client.request(Command.DEVICE_RESET) == b""
    assert client.config_read(4, 2) == 0
    assert client.config_read(0x10, 4) == 0
    assert not rig.server.irqs.level
    client.unmask()
    assert client.interrupts() == 0
    client.config_write(4, 7, 2)
    assert client.bar_read(0, Reg.IMS, 4) == 0
    assert len(rig.server.memory) == 1


def test_reboot_of_the_guest(rig: Rig, client: FakeClient) -> None:
    guest = client.start()
    for _ in range(3):
        guest.up(ims=int(Int.RXT0))
        client.run(lambda: rig.server.nic.link_up)
        assert guest.send(FRAME) == 1
        client.set_irqs(0x21, 0)
        client.config_write(4, client.config_read(4, 2) & ~7, 2)
        client.request(Command.DEVICE_RESET)
        client.new_trigger()
        client.config_write(4, 7, 2)
    assert rig.link.take() == [FRAME] * 3


def test_a_client_that_goes_leaves_a_fresh_nic_to_the_next(rig: Rig) -> None:
    first = rig.client()
    guest = first.start()
    guest.up(ims=0xFFFF)
    first.run(lambda: rig.server.nic.link_up)
    first.close()
    second = rig.client()
    guest = second.start()
    assert rig.server.clients == 2
    assert len(rig.server.memory) == 1
    assert second.bar_read(0, Reg.IMS, 4) == 0
    guest.up()
    second.run(lambda: rig.server.nic.link_up)
    assert guest.send(FRAME) == 1
    assert rig.link.take() == [FRAME]
    assert any("gone: it closed the connection" in line for line in rig.log)


def test_frames_that_arrive_without_a_client_harm_nobody(rig: Rig) -> None:
    rig.link.inject(FRAME)
    client = rig.client()
    client.start()
    client.close()
    rig.clock.run(lambda: not rig.server.connected, timeout_ns=10_000_000_000)
    rig.link.inject(FRAME)


def test_a_second_client_is_turned_away(rig: Rig) -> None:
    first = rig.client()
    first.start()
    second = rig.client()
    second.run(second.poll)
    assert second.gone
    assert first.bar_read(0, Reg.STATUS, 4)


def test_the_next_client_may_be_here_before_the_last_one_has_gone(rig: Rig) -> None:
    first = rig.client()
    first.start()
    second = rig.client()
    seen = rig.clock.now_ns() + 50_000_000  # the server has looked at it by then
    rig.clock.run(lambda: rig.clock.now_ns() > seen, timeout_ns=10_000_000_000)
    first.close()
    second.start()
    assert rig.server.clients == 2
    assert not any("turned away" in line for line in rig.log)


def test_a_client_without_version_gives_way(rig: Rig) -> None:
    silent = rig.client()
    rig.clock.run(lambda: rig.server.connected, timeout_ns=10_000_000_000)
    client = rig.client()
    client.version()
    silent.run(silent.poll)
    assert silent.gone


def test_version_is_first_and_once(rig: Rig) -> None:
    rude = rig.client()
    rude.post(Command.DEVICE_GET_INFO, vu.DEVICE_INFO.pack(16, 0, 0, 0))
    rude.run(rude.poll)
    assert rude.gone
    client = rig.client()
    assert error_of(client.request, Command.VERSION, struct.pack("<HH", 9, 0)) == errno.ENOTSUP
    assert client.request(Command.VERSION, bytes(4)) == bytes(4)
    assert error_of(client.version) == errno.EINVAL


def test_unknown_commands_are_refused(client: FakeClient) -> None:
    client.version()
    for command in (0, 6, 11, 12, 14, 15, 999):
        assert error_of(client.request, command, bytes(40)) == errno.ENOTSUP
    assert error_of(client.request, Command.DEVICE_GET_INFO, b"") == errno.EINVAL
    assert error_of(client.request, Command.DEVICE_GET_INFO, bytes(16)) == errno.EINVAL


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\xff" * 64, vu.pack(1, 9, b"", flags=1)]
)
def test_garbage_ends_the_connection_with_a_reason(
    rig: Rig, garbage: bytes, client: FakeClient
) -> None:
    client.sock.send(garbage)
    client.run(client.poll)
    assert client.gone
    assert "client gone" in rig.log[-1]
    again = rig.client()
    again.start()
    assert again.bar_read(0, Reg.STATUS, 4)


def test_descriptors_of_garbage_are_closed(rig: Rig, client: FakeClient) -> None:
    client.version()
    null = os.open("/dev/null", os.O_RDONLY)
    fds = [null] * 16
    assert error_of(client.request, Command.DEVICE_RESET + 900, b"", fds) == errno.ENOTSUP
    client.request(Command.DEVICE_RESET, b"", fds)
    socket.send_fds(client.sock, [vu.pack(5, 1, bytes(100))[:20]], fds)
    os.close(null)
    client.close()
    rig.clock.run(lambda: not rig.server.connected, timeout_ns=10_000_000_000)
    # the fixture counts what is open in the end


def test_complaints_about_one_client_are_bounded(rig: Rig, client: FakeClient) -> None:
    client.version()
    for _ in range(50):
        assert error_of(client.request, 999) == errno.ENOTSUP
    assert sum("refused" in line for line in rig.log) == 10
    assert rig.server.counters()["refusals"] == 50


def test_a_client_that_reads_no_answers_is_not_read_from(rig: Rig, client: FakeClient) -> None:
    client.start()
    head = vu.REGION_ACCESS.pack(0, 0, 0x1000)
    wanted = 0
    message = vu.pack(77, Command.REGION_READ, head)
    full = False
    while not full:
        before = rig.server.reads
        try:
            while True:
                client.sock.send(message)
                wanted += 1
        except BlockingIOError:
            rig.clock.run(timeout_ns=2_000_000)
            full = rig.server.reads == before
    assert before < wanted
    assert before * 0x1000 < 4 << 20  # what is kept for it is bounded
    client.gather(wanted)
    assert len(client.got) == wanted
    assert all(len(m.payload) == 16 + 0x1000 for m in client.got)
    client.got.clear()
    assert client.bar_read(0, Reg.STATUS, 4)


def test_a_process_without_free_descriptors_accepts_later(rig: Rig, client: FakeClient) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        rig.clock.run(timeout_ns=20_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(rig.log) == 1
    assert "cannot accept a client now" in rig.log[0]
    client.version()


def test_server_close_ends_the_client(rig: Rig, client: FakeClient) -> None:
    client.start()
    rig.server.close()
    assert client.poll()
    assert client.gone
    assert not rig.path.exists()
    rig.server.close()


@settings(
    max_examples=examples(40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*Command, 0, 14, 500]),
            st.one_of(
                st.binary(max_size=48),
                st.builds(
                    lambda o, r, n, d: vu.REGION_ACCESS.pack(o, r, n) + d,
                    st.one_of(st.integers(0, 0x2_0010), st.integers(0, (1 << 64) - 1)),
                    st.integers(0, 9),
                    st.one_of(st.integers(0, 12), st.integers(0, 0xFFFF_FFFF)),
                    st.binary(max_size=12),
                ),
                st.builds(
                    vu.IRQ_SET.pack,
                    st.integers(19, 21),
                    st.integers(0, 63),
                    st.integers(0, 5),
                    st.integers(0, 1),
                    st.integers(0, 2),
                ),
            ),
            st.sampled_from([0, 0, 0, 0x10, 1]),
            st.integers(0, 2),
        ),
        max_size=12,
    ),
    st.binary(max_size=40),
)
def test_no_stream_of_messages_hurts_the_server(
    rig: Rig, messages: list[tuple[int, bytes, int, int]], tail: bytes
) -> None:
    client = FakeClient(rig.path, rig.clock)
    client.version()
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        for command, payload, flags, count in messages:
            client.post(command, payload, [fd] * count, flags=flags)
        client.sock.send(tail)
        client.sock.shutdown(socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        pass
    client.run(lambda: client.poll() and client.gone)
    client.close()
    os.close(fd)
    again = FakeClient(rig.path, rig.clock)
    again.version()
    assert u32(again.region_read(CFG, 0, 4)) == 0x100E_8086
    again.close()
    rig.clock.run(lambda: not rig.server.connected, timeout_ns=10_000_000_000)


# --- several servers, other clocks, the socket's path --------------------------------------------


def test_two_servers_in_one_process_exchange_frames(tmp_path: Path, clock: RealClock) -> None:
    ends = pair(clock)
    servers = [
        VfioUserServer(
            tmp_path / name, link=end, clock=clock, mac=bytes([2, 0, 0, 0, 0, n]), autoneg_ns=0
        )
        for n, (name, end) in enumerate(zip("ab", ends, strict=True))
    ]
    clients = [FakeClient(server.path, clock) for server in servers]
    guests = [client.start() for client in clients]
    for guest, client, server in zip(guests, clients, servers, strict=True):
        guest.up(ims=int(Int.RXT0))
        client.run(lambda server=server: server.nic.link_up)  # type: ignore[misc]
        guest.read(Reg.ICR)
        client.unmask()
        client.interrupts()
    assert guests[0].send(FRAME) == 1
    clients[1].run(lambda: clients[1].interrupts() > 0)
    assert [frame.data for frame in guests[1].receive()] == [FRAME]
    for client, server in zip(clients, servers, strict=True):
        client.close()
        server.close()


def test_serves_on_an_asyncio_loop(tmp_path: Path) -> None:
    async def main() -> bytes:
        clock = AsyncioClock(asyncio.get_running_loop())
        with VfioUserServer(tmp_path / "s", link=RecordingLink(), clock=clock) as server:
            reader, writer = await asyncio.open_unix_connection(server.path)
            writer.write(vu.pack(1, Command.VERSION, bytes(4) + QEMU_VERSION))
            await reader.readexactly(16)
            writer.write(vu.pack(2, Command.REGION_READ, vu.REGION_ACCESS.pack(0, CFG, 4)))
            data = b""
            while vu.pack(2, Command.REGION_READ)[:4] not in data or len(data) < 36:
                data += await reader.read(1000)
            writer.close()
            await writer.wait_closed()
            return data[-4:]

    assert asyncio.run(main()) == bytes.fromhex("86800e10")


def test_serve_forever_runs_the_clock_of_the_link(tmp_path: Path, clock: RealClock) -> None:
    answers = []

    def client() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(tmp_path / "s"))
            sock.sendall(vu.pack(1, Command.VERSION, bytes(4) + QEMU_VERSION))
            answers.append(sock.recv(16))
        clock.request_stop()

    server = embed.VfioUserServer(tmp_path / "s", link=pair(clock)[0])
    thread = threading.Thread(target=client)
    thread.start()
    server.serve_forever()
    thread.join()
    assert vu.HEADER.unpack(answers[0])[:2] == (1, Command.VERSION)
    assert not (tmp_path / "s").exists()


def test_a_server_needs_a_clock_that_it_can_run(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="RecordingLink has no clock; give clock="):
        embed.VfioUserServer(tmp_path / "s", link=RecordingLink())
    link = pair(VirtualClock())[0]
    with pytest.raises(E1000Error, match="VirtualClock"):
        embed.VfioUserServer(tmp_path / "s", link=link)


def test_path_that_cannot_be_used_is_said(tmp_path: Path, clock: RealClock) -> None:

    def refused(path: Path) -> str:
        link = RecordingLink()
        with pytest.raises(E1000Error) as caught:
            VfioUserServer(path, link=link, clock=clock)
        assert link.port is None
        return str(caught.value)

    file = tmp_path / "file"
    file.write_text("kept")
    assert "no socket" in refused(file)
    assert file.read_text() == "kept"
    assert "choose a short path" in refused(tmp_path / ("x" * 200))
    assert "choose a short path" in refused(tmp_path / "none" / "s")
    with VfioUserServer(tmp_path / "s", link=RecordingLink(), clock=clock):
        assert "another server" in refused(tmp_path / "s")
    with pytest.raises(E1000Error, match="model"):
        VfioUserServer(tmp_path / "s", link=RecordingLink(), clock=clock, model="8139")
    assert not (tmp_path / "s").exists()


def test_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    clock = RealClock()
    with VfioUserServer(path, link=RecordingLink(), clock=clock):
        client = FakeClient(path, clock)
        client.version()
        client.close()
    clock.close()


@pytest.mark.parametrize("kib", [64, 128, 512])
def test_an_option_rom_is_read_at_once_from_the_flash(kib: int, tmp_path: Path) -> None:
    """As QEMU does, whatever the guest has enabled; at most what the server says it takes."""
    image = bytes(range(251)) * (kib * 1024 // 251)
    clock = RealClock()
    with VfioUserServer(
        tmp_path / "s", link=RecordingLink(), clock=clock, autoneg_ns=0, flash=image
    ) as server:
        client = FakeClient(tmp_path / "s", clock)
        capabilities = json.loads(client.version()[4:].rstrip(b"\0"))["capabilities"]
        assert capabilities["max_data_xfer_size"] >= kib * 1024
        sizes = {}
        for index in (1, vu.VFIO_PCI_ROM_REGION_INDEX):
            asked = vu.REGION_INFO.pack(32, 0, index, 0, 0, 0)
            answer = client.request(Command.DEVICE_GET_REGION_INFO, asked)
            _, flags, _, _, size, _ = vu.REGION_INFO.unpack(answer)
            sizes[index] = flags, size
        assert sizes == {1: (3, kib * 1024), vu.VFIO_PCI_ROM_REGION_INDEX: (1, kib * 1024)}
        whole = client.region_read(vu.VFIO_PCI_ROM_REGION_INDEX, 0, kib * 1024)
        assert whole == image.ljust(kib * 1024, b"\xff")
        rom = vu.VFIO_PCI_ROM_REGION_INDEX
        assert error_of(client.region_read, rom, 1, kib * 1024) == errno.EINVAL
        client.config_write(4, 2, 2)
        assert client.region_read(1, 7, 300) == image[7:307]
        client.close()
        assert server.refusals == 1
    clock.close()


def test_wide_bars_are_other_regions(tmp_path: Path, clock: RealClock) -> None:
    with VfioUserServer(
        tmp_path / "s", link=RecordingLink(), clock=clock, autoneg_ns=0, flash=b"!", wide_bars=True
    ) as server:
        client = FakeClient(tmp_path / "s", clock)
        client.version()
        flash_bytes = 64 << 10
        assert [client.bar_size(bar) for bar in range(6)] == [0x20000, 0, flash_bytes, 0, 8, 0]
        client.config_write(0x10, 0xFFFFFFFF, 4)
        client.config_write(0x14, 0xFFFFFFFF, 4)
        assert client.config_read(0x10, 4) == 0xFFFE0004
        assert client.config_read(0x14, 4) == 0xFFFFFFFF
        client.config_write(4, 3, 2)
        client.bar_write(4, 0, reg("VET").offset, 4)
        assert client.bar_read(4, 4, 4) == client.bar_read(0, reg("VET").offset, 4) == 0x8100
        assert client.bar_read(2, 0, 2) == 0xFF21
        assert error_of(client.region_read, 1, 0, 4) == errno.EINVAL
        # what a guest writes into the EEPROM is there for the next client
        icw1 = eeprom_word("ICW1")
        server.nic.eeprom.words[icw1.offset] |= icw1.mask("BAR32")
        client.close()
        client = FakeClient(tmp_path / "s", clock)
        client.version()
        assert [client.bar_size(bar) for bar in range(6)] == [0x20000, flash_bytes, 8, 0, 0, 0]
        client.close()


def test_shared_memory_is_one(rig: Rig, client: FakeClient) -> None:
    """What the guest stores is what the NIC reads, without a copy in between."""
    client.start()
    memory = client.memory
    assert isinstance(memory, HostMemory)
    memory.write(RAM_BASE + 0x5000, b"from the guest")
    table = rig.server.memory.table
    assert table.read(RAM_BASE + 0x5000, 14) == b"from the guest"
    table.write(RAM_BASE + 0x6000, b"from the NIC")
    assert memory.read(RAM_BASE + 0x6000, 12) == b"from the NIC"
