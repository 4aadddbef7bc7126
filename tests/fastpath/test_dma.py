"""fastpath.base.dma: the bus-master's view of memory, and the host RAM behind it."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import dma as ref
from fastpath.base.dma import DmaTable, HostMemory

TOP = 1 << 64

regions = st.lists(
    st.tuples(
        st.sampled_from([0, 16, 40, 64, 100, 200, TOP - 64, TOP - 32]),
        st.integers(1, 40),
        st.booleans(),
        st.booleans(),
    ),
    max_size=6,
)
addresses = st.one_of(st.integers(0, 260), st.integers(TOP - 80, TOP - 1))


def build(table: DmaTable | ref.DmaTable, layout: list[tuple[int, int, bool, bool]]) -> list:
    kept = []
    for i, (base, size, readable, writable) in enumerate(layout):
        buffer = bytearray([i + 1] * size)
        try:
            table.add(base, buffer, readable=readable, writable=writable)
        except ValueError:
            continue
        kept.append((base, buffer))
    return kept


@given(regions, st.lists(st.tuples(st.booleans(), addresses, st.integers(0, 90)), max_size=12))
def test_table_equals_reference(layout, accesses) -> None:
    ours, twin = DmaTable(), ref.DmaTable()
    ours_mem, twin_mem = build(ours, layout), build(twin, layout)
    assert ours.regions() == twin.regions()
    for write, addr, n in accesses:
        if write:
            data = bytes(range(n))
            ours.write(addr, data)
            twin.write(addr, data)
        else:
            assert ours.read(addr, n) == twin.read(addr, n)
        assert ours.aborts == twin.aborts
    assert ours_mem == twin_mem


def test_outside_reads_ones_and_writes_vanish() -> None:
    table = DmaTable()
    memory = bytearray(64)
    table.add(0x1000, memory)
    assert table.read(0x0FFE, 4) == b"\xff\xff\0\0"
    table.write(0x103E, b"abcd")
    assert bytes(memory[-2:]) == b"ab"
    assert table.aborts == 2


def test_bus_master_off_aborts_everything() -> None:
    table = DmaTable()
    table.add(0, bytearray(64))
    table.enabled = False
    assert table.read(0, 2) == b"\xff\xff"
    table.write(0, b"x")
    assert table.aborts == 2
    table.enabled = True
    assert table.read(0, 2) == b"\0\0"


def test_adjacent_regions_are_gathered() -> None:
    table = DmaTable()
    a, b = bytearray(b"a" * 16), bytearray(b"b" * 16)
    table.add(16, b)
    table.add(0, a)
    assert table.read(14, 4) == b"aabb"
    table.write(14, b"1234")
    assert (bytes(a[-2:]), bytes(b[:2])) == (b"12", b"34")
    assert table.aborts == 0


@pytest.mark.parametrize(
    ("base", "size"), [(0, 0), (TOP - 8, 16), (-1, 4), (8, 16), (0, 100), (24, 40)]
)
def test_add_refuses_bad_regions(base: int, size: int) -> None:
    table = DmaTable()
    table.add(16, bytearray(16))
    with pytest.raises(ValueError, match="DmaTable"):
        table.add(base, bytearray(size))


def test_read_only_buffer_needs_writable_false() -> None:
    table = DmaTable()
    with pytest.raises(ValueError, match="read-only"):
        table.add(0, b"abc")
    table.add(0, b"abc", writable=False)
    table.write(0, b"xyz")
    assert table.read(0, 3) == b"abc"
    assert table.aborts == 1


def test_region_keeps_its_buffer_until_removed() -> None:
    table = DmaTable()
    buffer = bytearray(32)
    table.add(0, buffer)
    with pytest.raises(BufferError):
        buffer.extend(b"x")
    table.remove(0, 32)
    buffer.extend(b"x")
    with pytest.raises(KeyError):
        table.remove(0, 32)


def test_message_dma_answers_what_no_region_holds() -> None:
    table = DmaTable()
    seen: list[tuple[int, bytes]] = []
    table.add(0, bytearray(16))
    table.set_message_dma(
        lambda addr, n: bytes([addr & 0xFF]) * n, lambda a, d: seen.append((a, d))
    )
    assert table.read(14, 4) == b"\0\0\x10\x10"
    table.write(14, b"abcd")
    assert seen == [(16, b"cd")]
    assert table.aborts == 0
    table.set_message_dma(lambda addr, n: b"short")
    assert table.read(100, 2) == b"\xff\xff"
    assert table.aborts == 1
    table.set_message_dma()
    assert table.read(100, 2) == b"\xff\xff"


def test_failing_message_dma_is_an_abort() -> None:
    def broken(addr: int, n: int) -> bytes:
        raise ConnectionError

    table = DmaTable()
    table.set_message_dma(broken)
    assert table.read(0, 3) == b"\xff\xff\xff"
    assert table.aborts == 1


def test_host_memory_access_is_bounded() -> None:
    ram = HostMemory(8192, base=0x10000)
    ram.write(0x10000, b"hello")
    assert ram.read(0x10000, 5) == b"hello"
    assert bytes(ram.view(0x10001, 3)) == b"ell"
    ram.write32(0x10010, 0xFFFFFFFF12345678)
    assert ram.read32(0x10010) == 0x12345678
    ram.write64(0x10018, -1)
    assert ram.read64(0x10018) == TOP - 1
    for addr, n in ((0xFFFF, 1), (0x12000, 1), (0x11FFF, 2), (-1, 1), (TOP, 1), (0x10000, 8193)):
        with pytest.raises(IndexError):
            ram.read(addr, n)
    with pytest.raises(IndexError):
        ram.write(0x11FFF, b"ab")
    with pytest.raises(ValueError, match="multiple of 4096"):
        HostMemory(100)


def test_address_zero_is_never_allocated() -> None:
    ram = HostMemory(16384)
    assert ram.alloc(16) == 4096
    with pytest.raises(ValueError, match="outside RAM"):
        ram.free(0, 64)
    assert (ram.alloc(16), ram.allocated_bytes) == (4160, 128)
    assert HostMemory(16384, base=4096 * 16).alloc(16) == 4096 * 16


def test_poison_shows_early_use() -> None:
    ram = HostMemory(16384, poison=0xFF)
    assert ram.read(ram.alloc(64), 64) == b"\xff" * 64


def test_alloc_refuses_nonsense_and_exhaustion() -> None:
    ram = HostMemory(16384)
    for n, align in ((0, 64), (-1, 64), (64, 3), (64, 0)):
        with pytest.raises(ValueError, match="alloc"):
            ram.alloc(n, align)
    with pytest.raises(MemoryError, match="more RAM"):
        ram.alloc(16384)


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.sampled_from([1, 64, 4096])), max_size=30),
    st.data(),
)
def test_allocations_are_aligned_disjoint_and_come_back(requests, data) -> None:
    ram = HostMemory(1 << 16)
    live: dict[int, int] = {}
    for n, align in requests:
        try:
            addr = ram.alloc(n, align)
        except MemoryError:
            addr = None
        if addr is not None:
            assert addr % align == 0
            assert all(addr + n <= a or a + s <= addr for a, s in live.items())
            live[addr] = n
        if live and data.draw(st.booleans()):
            victim = data.draw(st.sampled_from(sorted(live)))
            size = live.pop(victim)
            ram.free(victim, size)
            with pytest.raises(ValueError, match="free already"):
                ram.free(victim, size)
    for addr, n in live.items():
        ram.free(addr, n)
    assert ram.allocated_bytes == 0
    assert ram.alloc((1 << 16) - 4096, 1) == 4096


def test_host_memory_maps_a_file_shared(tmp_path) -> None:
    path = tmp_path / "ram"
    path.write_bytes(bytes(8192))
    with path.open("r+b") as f:
        ram = HostMemory(4096, fd=f.fileno(), fd_offset=4096)
        ram.write(8, b"seen")
        with mmap.mmap(f.fileno(), 8192) as m:
            assert m[4096 + 8 : 4096 + 12] == b"seen"
        with pytest.raises(ValueError, match="ends before"):  # SIGBUS, where there is nothing
            HostMemory(8192, fd=f.fileno(), fd_offset=4096)
