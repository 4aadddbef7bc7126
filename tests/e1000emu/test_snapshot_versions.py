"""States that older versions saved load, and what was under way then goes on."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import pytest

from e1000emu.errors import SnapshotError
from e1000emu.record import snapshot
from e1000emu.record.snapshot import VERSION, NicState
from e1000emu.testing.bench import BENCH_MAC, Bench, make_bench
from tests.e1000emu.common import PEER, frame, rd, running, wr
from tests.e1000emu.device.test_flow import pause

STATES = Path(__file__).parent / "states"
WAITING = (60, 700, 1514)
BEGUN = 300


def busy_device() -> Bench:
    """Return a device with something under way in each block; what the states were saved of.

    Three frames wait in the FIFO, a frame to send is begun and has no EOP, RDTR and a PAUSE run. A
    word is being shifted out of the EEPROM, and two statistics are not 0.
    """
    bench = running(ims=0x80, rx_count=8, tx_count=8)
    nic, guest = bench.nic, bench.guest
    for _ in range(7):
        bench.link.inject(frame())
    wr(nic, "RDTR", 500)
    guest.post_legacy(frame(BEGUN), cmd=0)
    for size in WAITING:
        bench.link.inject(frame(size))
    wr(nic, "TDT", guest.tx.next_to_use)
    wr(nic, "CTRL", rd(nic, "CTRL") | 1 << 27)
    bench.link.inject(pause(0xFFFF))
    bench.clock.run_for(100_000)
    rd(nic, "ICR")
    wr(nic, "EECD", 0x40)
    for bits in (0b10, 0b110, 0b111, 0b110, 0b111, 0b010, 0b011):
        wr(nic, "EECD", 0x40 | bits)
    wr(nic, "MTA", 0x12345678)
    nic.mmio_write(0x5404 + 8, 0x80000000)
    nic.slot.bar_write(2, 0, 0x5400, 4)
    return bench


def state_file(version: int, tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.write_bytes(gzip.decompress((STATES / f"version-{version}.gz").read_bytes()))
    return path


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_state_of_each_version_goes_on(version: int, tmp_path: Path) -> None:
    """The file is loaded over the memory that the device had when it was saved."""
    bench, was = make_bench(rx_count=8, tx_count=8), busy_device()
    path = state_file(version, tmp_path)
    facts, body = snapshot.read_file(path)
    assert facts["model"] == "82540EM"
    assert msgspec.msgpack.decode(body)["version"] == version
    nic, guest = bench.nic, was.guest
    bench.memory.buffer[:] = was.memory.buffer
    snapshot.load_file(nic, path)
    guest.slot, guest.memory = nic.slot, bench.memory

    assert nic.mac == BENCH_MAC
    assert rd(nic, "MTA") == 0x12345678
    assert nic.mmio_read(0x5404 + 8) == 0x80000000
    assert nic.slot.bar_read(2, 0, 4) == 0x5400
    assert (rd(nic, "XOFFRXC"), rd(nic, "RNBC")) == (1, len(WAITING))
    assert nic.tx.paused
    # seven were stored already; when the driver gives the descriptors back, the FIFO empties
    assert [len(f.data) for f in guest.receive() + guest.receive()] == [60] * 7 + list(WAITING)
    # what was begun of a frame and what comes now is one frame, when the PAUSE is over
    guest.post_legacy(frame(100, PEER))
    wr(nic, "TDT", guest.tx.next_to_use)
    assert bench.link.frames == []
    bench.clock.run_for(1_000_000_000)
    assert bench.link.frames == [frame(BEGUN) + frame(100, PEER)]
    assert rd(nic, "EECD") & 0x40


def test_no_state_of_this_version_is_missing() -> None:
    """Whoever changes the version keeps a state of the old one."""
    assert {path.name for path in STATES.iterdir()} == {
        f"version-{n}.gz" for n in range(1, VERSION + 1)
    }


def test_a_field_that_a_state_does_not_have_is_as_after_a_reset() -> None:
    """What engines remember is kept by name."""
    bench = busy_device()
    state = msgspec.msgpack.decode(bench.nic.state())
    assert state["tx"]["engine"]["have"] == BEGUN
    assert state["rx"]["engine"]["fifo_bytes"] == bench.nic.rx.engine.fifo_bytes
    del state["rx"]["engine"]["fifo_bytes"], state["tx"]["engine"]["css"]
    state["tx"]["engine"]["what_is_new"] = 5
    state["stats"]["OF_TOMORROW"] = 5
    other = make_bench()
    other.nic.load_state(msgspec.msgpack.encode(state))
    assert other.nic.tx.engine.mid_frame()
    assert other.nic.rx.engine.fifo_bytes == 48 << 10
    state["tx"]["engine"]["have"] = 1 << 40
    with pytest.raises(SnapshotError, match="damaged"):
        other.nic.load_state(msgspec.msgpack.encode(state))
    assert msgspec.msgpack.decode(bench.nic.state(), type=NicState).version == VERSION
