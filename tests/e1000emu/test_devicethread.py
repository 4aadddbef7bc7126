"""The second core: what another thread stores is what one thread would have stored."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from e1000emu.devicethread import share_device_thread
from e1000emu.links import pair
from e1000emu.nic import Nic
from e1000emu.testing.bench import POISON, enable_bus_master
from e1000emu.testing.guest import GuestRings, Popts, Rctl, Reg, Tucmd, TxCmd
from e1000emu.testing.recorders import RecordingLine
from fastpath.dma import DmaTable, HostMemory
from fastpath.secondcore import SecondCore
from tests.support import examples

MACS = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))
EVER = 1 << 30
RAM = 2 << 20


@contextmanager
def second_core(*, runs: bool = True) -> Iterator[SecondCore]:
    """One that is never left alone, however busy the machine."""
    core = SecondCore()
    core.patience = EVER
    thread = threading.Thread(target=core.run)
    if runs:
        thread.start()
    try:
        yield core
    finally:
        core.stop()
        if runs:
            thread.join()


class Rig:
    """Two NICs on a cable, each with a driver that does what it is told."""

    def __init__(self, core: SecondCore | None, rx_count: int) -> None:
        self.clock = VirtualClock()
        self.ends = pair(self.clock, queue_frames=300)
        self.memories = [HostMemory(RAM, base=0x10_0000, poison=POISON) for _ in MACS]
        self.lines = [RecordingLine(self.clock) for _ in MACS]
        self.nics: list[Nic] = []
        self.guests: list[GuestRings] = []
        for n, mac in enumerate(MACS):
            dma = DmaTable()
            dma.add(self.memories[n].base, self.memories[n].buffer)
            nic = Nic(memory=dma, irq=self.lines[n], link=self.ends[n], clock=self.clock, mac=mac)
            enable_bus_master(nic)
            self.nics.append(nic)
            self.guests.append(GuestRings(nic.slot, self.memories[n], rx_count=rx_count))
        for n in range(2):
            self.bring_up(n)
        self.clock.run_for(5_000_000_000)
        for nic in self.nics if core is not None else ():
            nic.tx._share(core)

    def bring_up(self, n: int) -> None:
        rctl = Rctl.EN | Rctl.BAM | Rctl.SECRC
        self.guests[n].up(mac=MACS[n], rctl=rctl, ims=0xFFFF)

    def look(self) -> list[Any]:
        """Everything there is to see, in order."""
        out: list[Any] = [self.clock.now_ns()]
        for n, nic in enumerate(self.nics):
            stats = self.ends[n].stats
            out += [
                nic.counters(),
                nic.tx.engine.state(),
                nic.rx.engine.state(),
                [nic.regs.peek(reg) for reg in Reg],
                list(self.lines[n].edges),
                (stats.tx_frames, stats.tx_bytes, stats.rx_frames, stats.rx_bytes, stats.drops),
                (self.ends[n]._queued, nic.tx.credit, nic.rx._held),
                zlib.crc32(self.memories[n].buffer),
            ]
        return out

    def tso(self, n: int, payload: int, mss: int, cut: int, kick: bool) -> None:
        """A segmentation context of TCP over IPv4."""
        guest = self.guests[n]
        head = (
            MACS[1 - n]
            + MACS[n]
            + b"\x08\x00"
            + bytes.fromhex("4500000012340000400600000a0000010a000002")
        )
        head += bytes.fromhex("0001000200000001000000025010ffff00000000")
        data = head + bytes(i * 7 & 0xFF for i in range(payload))
        pieces = [data[at : at + cut] for at in range(0, len(data), cut)]
        if guest.tx_unused() < len(pieces) + 2:
            return
        guest.post_context(
            ipcss=14, ipcso=24, ipcse=33, tucss=34, tucso=50, paylen=payload, hdrlen=54, mss=mss,
            tucmd=Tucmd.DEXT | Tucmd.TSE | Tucmd.TCP | Tucmd.IP,
        )  # fmt: skip
        for at, piece in enumerate(pieces):
            end = TxCmd.EOP | TxCmd.RS if at == len(pieces) - 1 else TxCmd(0)
            guest.post_data(
                piece,
                dcmd=TxCmd.DEXT | TxCmd.TSE | TxCmd.IFCS | end,
                popts=Popts.IXSM | Popts.TXSM,
            )
        if kick:
            guest.kick()

    def frames(self, n: int, sizes: list[int], control: bool, kick: bool) -> None:
        """Plain frames, with a MAC control frame (no PAUSE) among them."""
        guest = self.guests[n]
        for at, size in enumerate(sizes):
            if guest.tx_unused():
                kind = b"\x88\x08\x00\x02" if control and at == len(sizes) // 2 else b"\x88\xb5"
                guest.post_legacy((MACS[1 - n] + MACS[n] + kind + bytes(range(256)) * 6)[:size])
        if kick:
            guest.kick()

    def step(self, step: tuple[Any, ...]) -> Any:
        """Do one; what a driver would have got of it."""
        what, n, *rest = step
        if what in ("tso", "frames"):
            getattr(self, what)(n, *rest)
        elif what == "time":
            self.clock.run_for(rest[0])
        elif what == "take":
            self.guests[n].reap()
            return [(f.data, f.status, f.errors) for f in self.guests[n].receive(refill=rest[0])]
        elif what == "refill":
            self.guests[n].refill()
        elif what == "plug":
            self.ends[n].plug(rest[0])
        elif what == "pause frames":
            ctrl = self.nics[n].mmio_read(Reg.CTRL)
            self.nics[n].mmio_write(Reg.CTRL, ctrl & ~(1 << 27) | rest[0] << 27)
        else:
            self.guests[n].reset()
            self.bring_up(n)
        return None


nic = st.integers(0, 1)
steps = st.one_of(
    st.tuples(
        st.just("tso"), nic, st.integers(1, 100_000), st.sampled_from([200, 1000, 1448]),
        st.sampled_from([700, 4096, 16384, 60_000]), st.booleans(),
    ),
    st.tuples(
        st.just("tso"), nic, st.integers(20_000, 150_000), st.just(1448),
        st.just(16384), st.just(True),
    ),
    st.tuples(
        st.just("frames"), nic, st.lists(st.sampled_from([60, 594, 1514]), min_size=1, max_size=80),
        st.booleans(), st.booleans(),
    ),
    st.tuples(st.just("time"), nic, st.sampled_from([0, 1000, 10**7])),
    st.tuples(st.just("take"), nic, st.booleans()),
    st.tuples(st.just("take"), nic, st.just(True)),
    st.tuples(st.just("refill"), nic),
    st.tuples(st.just("plug"), nic, st.booleans()),
    st.tuples(st.just("pause frames"), nic, st.booleans()),
    st.tuples(st.just("reset"), nic),
)  # fmt: skip


@settings(max_examples=examples(20), deadline=None)
@given(st.lists(steps, min_size=1, max_size=14), st.sampled_from([16, 64, 256]), st.booleans())
def test_two_nics_are_the_same_with_and_without(
    todo: list[tuple[Any, ...]], rx_count: int, runs: bool
) -> None:
    with second_core(runs=runs) as core:
        alone, shared = Rig(None, rx_count), Rig(core, rx_count)
        for step in [*todo, ("time", 0, 10**9)]:
            assert shared.step(step) == alone.step(step)
            assert shared.look() == alone.look()
        event(f"shared runs: {min(core.runs, 3)}, thread: {runs}")


def test_one_host_on_both_ends_of_a_cable_shares_nothing() -> None:
    with second_core() as core:
        rig = Rig(core, 256)
        nic = rig.nics[0]
        nic.memory.add(0x4000_0000, rig.memories[1].buffer)
        rig.tso(0, 60_000, 1448, 16384, True)
        assert core.runs == 0
        nic.memory.remove(0x4000_0000, RAM)
        rig.guests[1].receive()
        rig.tso(0, 60_000, 1448, 16384, True)
        assert core.runs > 0


def test_memory_by_messages_is_left_to_one_thread() -> None:
    with second_core() as core:
        rig = Rig(core, 256)
        rig.nics[1].memory.set_message_dma(lambda addr, n: bytes(n), lambda addr, data: None)
        rig.tso(0, 60_000, 1448, 16384, True)
        assert core.runs == 0


def test_leaving_twice_is_leaving_once() -> None:
    rig = Rig(None, 64)
    leave, again = (share_device_thread(nic) for nic in rig.nics)
    leave()
    leave()
    assert isinstance(rig.nics[1].tx.second, SecondCore)
    again()
    assert rig.nics[1].tx.second is None
