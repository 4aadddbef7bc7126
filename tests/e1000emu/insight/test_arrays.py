"""Arrays show the memory itself, keep it alive, and are safe whatever becomes of it."""

from __future__ import annotations

import gc
import mmap
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scapy.layers.l2 import Ether
from scapy.utils import PcapReader, wrpcap

from e1000emu import VirtualClock
from e1000emu.capture import DIRECTION_IN, DIRECTION_OUT
from e1000emu.errors import E1000Error, LinkError
from e1000emu.insight import arrays
from e1000emu.insight.arrays import (
    CAPTURED,
    DATAGRAM,
    FRAME,
    STATISTICS,
    TCP_INFO,
    Datagrams,
    Series,
)
from e1000emu.lab import two_hosts
from e1000emu.lab.measure import PING, CounterSampler, ping
from e1000emu.registers.descriptors import RX, TX_DATA, TX_LEGACY
from e1000emu.testing.bench import Bench
from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable, HostMemory
from stack.socket import AF_INET, MSG_WAITFORONE, SOCK_DGRAM, Socket
from tests.e1000emu.common import frame
from tests.stack.core.wire import QUIET6
from tests.support import require


def test_dtypes_are_the_layouts_in_memory() -> None:
    assert (RX.itemsize, FRAME.itemsize, TCP_INFO.itemsize) == (16, 24, 248)
    assert STATISTICS.itemsize == 54 * 8
    assert CAPTURED.fields is not None
    assert DATAGRAM.names == ("length", "addr", "port")


# --- rings ---------------------------------------------------------------------------------------


def test_rings_show_what_device_and_driver_do_from_then_on(bench: Bench) -> None:
    rx, tx = arrays.rx_ring(bench.nic), arrays.tx_ring(bench.nic)
    assert len(rx) == bench.guest.rx.size_bytes // 16
    assert not rx["status"].any()
    bench.link.inject(frame(100), frame(200))
    assert rx["length"][:3].tolist() == [100, 200, 0]
    assert rx["status"][:2].tolist() == [7, 7]
    assert not tx["sta"].any()
    bench.guest.send(frame(60))
    bench.clock.run_for(1_000_000)
    assert tx["sta"][0] & 1
    assert tx.view(TX_DATA)["addr"][0] == tx["addr"][0]
    base = bench.guest.rx.base
    assert np.shares_memory(rx, np.frombuffer(bench.memory.view(base, 16), RX))


def test_rings_are_read_only_and_keep_the_memory(bench: Bench) -> None:
    bench.link.inject(frame(100))
    rx = arrays.rx_ring(bench.nic)
    with pytest.raises(ValueError, match="read-only"):
        rx["status"][0] = 0
    del bench
    gc.collect()
    assert rx["length"][0] == 100


def test_a_ring_that_is_not_there_or_not_in_one_piece_is_named(bench: Bench) -> None:
    bench.nic.regs["RDLEN"] = 0
    with pytest.raises(E1000Error, match="receive ring: RDLEN is 0"):
        arrays.rx_ring(bench.nic)
    bench.nic.regs["TDBAH"] = 1 << 8
    with pytest.raises(E1000Error, match=r"transmit ring.*nic.memory.read"):
        arrays.tx_ring(bench.nic)


def test_a_mapping_that_is_closed_or_removed_stays_while_a_view_lives() -> None:
    table = DmaTable()
    area = mmap.mmap(-1, 8192)
    area[4096:4100] = b"ring"
    table.add(0x10000, memoryview(area)[:8192])
    view = table.view(0x11000, 4)
    table.remove(0x10000, 8192)
    with pytest.raises(BufferError):
        area.close()  # what mmap says instead of unmapping under our feet
    del area, table
    gc.collect()
    assert bytes(view) == b"ring"


@pytest.mark.parametrize(
    ("addr", "size"), [(0xFFF, 1), (0x1000, 4097), (0x1FFF, 2), (2**64 - 1, 1)]
)
def test_a_view_outside_a_region_is_refused(addr: int, size: int) -> None:
    table = DmaTable()
    table.add(0x1000, bytearray(4096))
    with pytest.raises(ValueError, match="no region holds"):
        table.view(addr, size)
    assert table.aborts == 0
    assert len(table.view(0x1FFF, 1)) == 1


# --- batches -------------------------------------------------------------------------------------


def test_a_batch_as_arrays_is_the_batch_itself() -> None:
    batch = FrameBatch([b"a" * 60, b"b" * 1514])
    batch.set_mark(1, 7)
    rows, memory = arrays.frames(batch), arrays.frame_memory(batch)
    assert rows["length"].tolist() == [60, 1514]
    assert rows["mark"].tolist() == [0, 7]
    at, size = int(rows["offset"][1]), int(rows["length"][1])
    assert memory[at : at + size].tobytes() == batch[1]
    batch.view(1)[0] = ord("c")
    assert memory[at] == ord("c")
    assert not rows.flags.writeable
    assert not memory.flags.writeable


def test_a_batch_may_be_used_again_while_its_arrays_live() -> None:
    batch = FrameBatch([bytes([i]) * 100 for i in range(20)])
    rows, memory = arrays.frames(batch), arrays.frame_memory(batch)
    seen = rows.tobytes(), memory.tobytes()
    batch.drop(3)
    assert (rows.tobytes(), memory.tobytes()) == seen
    batch.clear()
    batch.extend(FrameBatch([b"z" * 1514] * 500))
    assert (rows.tobytes(), memory.tobytes()) == seen
    batch.swap(FrameBatch([b"q"]))
    del batch
    gc.collect()
    assert (rows.tobytes(), memory.tobytes()) == seen


def test_an_empty_batch_has_empty_arrays() -> None:
    assert len(arrays.frames(FrameBatch())) == len(arrays.frame_memory(FrameBatch())) == 0


# --- captures ------------------------------------------------------------------------------------


def captured(path: Path) -> None:
    """Capture a few datagrams of two sizes."""
    a, b = two_hosts(capture=path, rate_bps=10**9)
    with a, b, Socket(a, AF_INET, SOCK_DGRAM) as sock:
        for size in (10, 1000, 100):
            sock.sendto(bytes(size), ("10.0.0.2", 9))
        a.clock.run_for(10_000_000)


def test_a_capture_as_an_array_is_what_scapy_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    captured(path)
    capture = arrays.read_capture_array(path)
    with PcapReader(str(path)) as reader:
        packets = [(bytes(p), float(p.time), p.wirelen) for p in reader]
    assert len(packets) == len(capture.rows) >= 6
    for number, (data, when_s, length) in enumerate(packets):
        row = capture.rows[number]
        assert capture.payload(number).tobytes() == data
        assert np.shares_memory(capture.payload(number), capture.data)
        assert row["length"] == length
        assert row["time_ns"] / 1e9 == pytest.approx(when_s, abs=1e-6)
    assert set(capture.rows["direction"]) == {DIRECTION_IN, DIRECTION_OUT}


def test_a_capture_as_an_array_is_what_tshark_reads(tmp_path: Path) -> None:
    require.tool("tshark")
    path = tmp_path / "a.pcapng"
    captured(path)
    words = ["tshark", "-r", str(path), "-T", "fields", "-e", "frame.len", "-e", "frame.cap_len"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in told.splitlines()]
    rows = arrays.read_capture_array(path).rows
    assert list(zip(rows["length"].tolist(), rows["captured"].tolist(), strict=True)) == pairs


def test_a_classic_capture_is_read_as_well(tmp_path: Path) -> None:
    path = str(tmp_path / "old.pcap")
    packets = [Ether(bytes([i]) * 60) for i in range(3)]
    wrpcap(path, packets)
    capture = arrays.read_capture_array(path)
    assert [capture.payload(i).tobytes() for i in range(3)] == [bytes(p) for p in packets]


def test_a_capture_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="give a pcap"):
        arrays.read_capture_array(tmp_path / "none")
    path = tmp_path / "text"
    path.write_text("no capture")
    with pytest.raises(LinkError, match="neither pcapng nor pcap"):
        arrays.read_capture_array(path)


# --- counters, latencies, datagrams --------------------------------------------------------------


def test_statistics_are_the_counters_themselves(bench: Bench) -> None:
    now = arrays.statistics(bench.nic)
    before = now.copy()
    bench.link.inject(frame(100), frame(200))
    assert now["GPRC"] - before["GPRC"] == 2
    assert now["GORC"] - before["GORC"] == 308  # with the FCS
    assert bench.nic.stats["GPRC"] == 2  # nothing was cleared
    assert {name: int(now[name]) for name in STATISTICS.names or ()} == bench.nic.stats.as_dict()
    assert not now.flags.writeable
    del bench
    gc.collect()
    assert now["GPRC"] == 2


def test_counters_over_time() -> None:
    a, b = two_hosts()
    with a, b, Socket(a, AF_INET, SOCK_DGRAM) as sock:
        nic = b.nics["eth0"]  # type: ignore[attr-defined]
        sources = {"nic": nic.stats.as_dict, "udp": lambda: dict(b.mib.udp.items())}
        sock.sendto(b"resolve", ("10.0.0.2", 9))
        a.clock.run_for(1_000_000)
        with CounterSampler(a.clock, sources, every_ns=1_000_000) as sampler:
            for _ in range(5):
                sock.sendto(b"x", ("10.0.0.2", 9))
                sock.sendto(b"y", ("10.0.0.2", 9))
                a.clock.run_for(2_000_000)
        rows = sampler.samples
    assert set(np.diff(rows["time_ns"][:-1])) == {1_000_000}
    assert rows["udp.NoPorts"][-1] - rows["udp.NoPorts"][0] == 10
    assert (np.diff(rows["nic.GPRC"]) >= 0).all()
    assert rows["nic.GPRC"][-1] - rows["nic.GPRC"][0] == 10


def test_round_trips_as_an_array() -> None:
    a, b = two_hosts(latency_ns=3_000_000)
    with a, b:
        found = ping(a, "10.0.0.2", count=10, interval_ns=20_000_000)
    assert found.dtype == PING
    assert set(np.diff(found["sent_ns"])) == {20_000_000}
    # twice the cable, and for the first ARP's question and answer before it
    assert (found["rtt_ns"][1:] >= 6_000_000).all()
    assert (found["rtt_ns"][1:] < 6_100_000).all()
    assert 12_000_000 <= found["rtt_ns"][0] < 12_200_000


def test_a_lost_answer_is_minus_one_and_a_late_one_is_not_taken_for_the_next() -> None:
    a, b = two_hosts(impair={"loss": 0.3}, seed=2, sysctl=QUIET6)
    with a, b:
        found = ping(a, "10.0.0.2", count=60, interval_ns=0, timeout_ns=50_000_000)
        lost = found["rtt_ns"] < 0
        assert 10 < lost.sum() < 50
        late = ping(a, "10.0.0.2", count=3, timeout_ns=1)
    assert (found["rtt_ns"][lost] == -1).all()
    assert (found["rtt_ns"][~lost] >= 0).all()
    assert (late["rtt_ns"] == -1).all()
    for wrong in ({"count": 0}, {"interval_ns": -1}, {"timeout_ns": 0}):
        with pytest.raises(E1000Error, match="ping: count="):
            ping(a, "10.0.0.2", **wrong)


def test_datagrams_arrive_in_the_arrays() -> None:
    a, b = two_hosts()
    with a, b, Socket(a, AF_INET, SOCK_DGRAM) as sender, Socket(b, AF_INET, SOCK_DGRAM) as receiver:
        receiver.bind(("10.0.0.2", 9))
        sender.bind(("10.0.0.1", 1234))
        room = Datagrams(8, 100)
        for size in (1, 50, 100):
            sender.sendto(bytes([size]) * size, ("10.0.0.2", 9))
        a.clock.run_for(1_000_000)
        assert room.receive(receiver, MSG_WAITFORONE) == 3
        assert room.info["length"][:3].tolist() == [1, 50, 100]
        assert set(room.info["addr"][:3]) == {0x0A000001}
        assert set(room.info["port"][:3]) == {1234}
        for number, size in enumerate((1, 50, 100)):
            assert room.data[number, :size].tobytes() == bytes([size]) * size
        with pytest.raises(E1000Error, match="count=0"):
            Datagrams(0)


# --- rows that grow ------------------------------------------------------------------------------


def test_rows_handed_out_stay_what_they_were() -> None:
    series = Series([("a", "i4")], room=1)
    looks: list[tuple[Any, list[int]]] = []
    for value in range(100):
        series.append((value,))
        looks.append((series.rows, list(range(value + 1))))
    for rows, values in looks:
        assert rows["a"].tolist() == values
    assert len(series) == 100
    assert [int(row["a"]) for row in series] == list(range(100))
    assert np.shares_memory(series.rows, series.rows)
    with pytest.raises(ValueError, match="read-only"):
        series.rows["a"][0] = 1
    with pytest.raises(ValueError, match="3 bytes; a row has 4"):
        series.append_bytes(b"abc")


def test_importing_the_package_does_not_import_numpy() -> None:
    code = "import sys, e1000emu, e1000emu.lab; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_memory_of_a_host_is_kept_by_an_array() -> None:
    memory = HostMemory(1 << 20)
    view = np.frombuffer(memory.view(4096, 16), "u1")
    memory.write(4096, b"\x07")
    del memory
    gc.collect()
    assert view[0] == 7
    assert VirtualClock().now_ns() == 0
    assert TX_LEGACY.itemsize == 16
