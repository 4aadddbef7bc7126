"""A NIC on a bus that takes time: when frames are fetched, wait in the FIFO, and go out."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from e1000emu.device.bus import BUSES, Bus
from e1000emu.device.nic import Nic
from e1000emu.errors import ArgumentError, SnapshotError
from e1000emu.insight.faults import Faults
from e1000emu.links import Capture, Hub, Impair
from e1000emu.links.pair import pair
from e1000emu.record.recorder import Recorder
from e1000emu.record.replay import replay
from e1000emu.testing.bench import BENCH_MAC, enable_bus_master
from e1000emu.testing.guest import GuestRings, Popts, Tucmd, TxCmd
from e1000emu.testing.recorders import RecordingLine
from fastpath.base.dma import DmaTable, HostMemory
from fastpath.nic.datapath import DataPath
from fastpath.nic.irqblock import EventLine
from fastpath.nic.wire import FrameQueue
from tests.e1000emu.common import frame, rd, wr
from tests.e1000emu.device.test_flow import pause
from tests.e1000emu.links.ports import RecordingPort
from tests.e1000emu.witness import witness
from tests.support import examples

GIGABIT = 1_000_000_000
PCI_CLOCK, WORD = 30, 4
DESCRIPTOR = 16
HDRLEN = 54
COUNTERS = [
    *("GPTC", "TPT", "MPTC", "BPTC", "GOTCL", "TOTL", "TSCTC", "TSCTFC", "DC"),
    *("PTC64", "PTC127", "PTC255", "PTC511", "PTC1023", "PTC1522"),
]
TSE = TxCmd.TSE | TxCmd.DEXT | TxCmd.IFCS | TxCmd.RS


def fetch_ns(count: int, clock_ns: int = PCI_CLOCK) -> int:
    """Return what a transaction of PCI, 32 bits, takes for so many aligned bytes."""
    return (3 + -(-count // WORD)) * clock_ns


def wire_ns(count: int) -> int:
    """Return how long a frame is on a gigabit wire, its gap included."""
    return 8 * (count + 24)


class Sender:
    """A NIC on a bus and a cable, its driver, and who hears it."""

    def __init__(
        self,
        bus: str | Bus | None,
        *,
        rate_bps: int | None = GIGABIT,
        model: str = "82540EM",
        wrap: Any = lambda link: link,
        link: Any = None,
        clock: VirtualClock | None = None,
        **options: Any,
    ) -> None:
        self.clock = clock or VirtualClock()
        near, far = pair(self.clock, rate_bps=rate_bps)
        self.memory, dma = HostMemory(4 << 20), DmaTable()
        dma.add(self.memory.base, self.memory.buffer)
        self.nic = Nic(
            memory=dma,
            irq=RecordingLine(self.clock),
            link=wrap(near) if link is None else link,
            clock=self.clock,
            model=model,
            bus=bus,
            **options,
        )
        self.far = RecordingPort(far) if link is None else None
        enable_bus_master(self.nic)
        self.guest = GuestRings(self.nic.slot, self.memory)
        self.guest.up(mac=BENCH_MAC)
        wr(self.nic, "TIPG", 0x00602008)  # a gap of 12 bytes
        # A multiple of every bus's clock, so that a doorbell finds an edge.
        self.clock.run_for(5_000_000_040)
        assert self.clock.now_ns() % 120 == 0
        self.start = self.clock.now_ns()

    def post(self, *sizes: int) -> None:
        for size in sizes:
            self.guest.post_legacy(frame(size))

    def post_tso(self, payload: int, mss: int, *, pieces: int = 1) -> None:
        """One segmentation context over a header's descriptor and `pieces` of payload."""
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 0, 1, 0, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
        tcp = struct.pack(">HHIIBBHHH", 1, 2, 1000, 0, 0x50, 0x18, 512, 0, 0)
        header = frame(14, kind=0x0800) + ip + tcp
        data = bytes(i * 7 & 0xFF for i in range(payload))
        self.guest.post_context(
            ipcss=14, ipcso=24, ipcse=33, tucss=34, tucso=50, paylen=payload, hdrlen=HDRLEN,
            mss=mss, tucmd=Tucmd.TCP | Tucmd.IP | Tucmd.TSE | Tucmd.DEXT,
        )  # fmt: skip
        popts = Popts.IXSM | Popts.TXSM
        self.guest.post_data(header, dcmd=TSE, popts=popts)
        step = -(-payload // pieces)
        for at in range(0, payload, step):
            last = TxCmd.EOP if at + step >= payload else TxCmd(0)
            where = self.memory.alloc(max(step, 64))
            self.memory.write(where, data[at : at + step])
            self.guest.post_data(
                None, dcmd=TSE | last, popts=popts, address=where, length=len(data[at : at + step])
            )

    def ring(self) -> None:
        wr(self.nic, "TDT", self.guest.tx.next_to_use)

    def at(self, ns: int) -> None:
        """Let the time be `ns` after the start."""
        self.clock.run_for(self.start + ns - self.clock.now_ns())

    def times(self) -> list[int]:
        """When the last bit of each frame was heard, from the start on."""
        return [t - self.start for t in self.far.times]

    def counters(self) -> dict[str, int]:
        return {name: rd(self.nic, name) for name in COUNTERS}


# --- the bus -------------------------------------------------------------------------------------


def test_a_frame_comes_when_the_bus_has_brought_it() -> None:
    sender = Sender("pci")
    sender.post(1500)
    sender.ring()
    there = fetch_ns(DESCRIPTOR) + fetch_ns(1500)
    sender.at(there - 1)
    assert rd(sender.nic, "TDH") == 0
    assert not sender.guest.tx_done(0)
    sender.at(there)
    assert rd(sender.nic, "TDH") == 1
    assert sender.guest.tx_done(0)
    sender.at(1_000_000)
    assert sender.times() == [there + wire_ns(1500)]


@pytest.mark.parametrize(
    ("bus", "clocks", "clock_ps"),
    [
        ("pci", 3 + 375, 30_000),
        ("pci-66", 3 + 375, 15_000),
        ("pci-64", 3 + 188, 30_000),
        ("pci-64-66", 3 + 188, 15_000),
        ("pci-x-66", 3 * 4 + 188, 15_000),
        ("pci-x-100", 3 * 4 + 188, 10_000),
        ("pci-x-133", 3 * 4 + 188, 7_500),
    ],
)
def test_each_bus_has_its_pace(bus: str, clocks: int, clock_ps: int) -> None:
    """1500 bytes, on PCI-X in reads of 512 (MMRBC is 0 at reset); no wire is in the way."""
    sender = Sender(bus, rate_bps=None, model="82545EM")
    sender.post(*[1500] * 20)
    sender.ring()
    sender.at(1_000_000)
    apart = [(b - a) * 1000 for a, b in zip(sender.times(), sender.times()[1:], strict=False)]
    assert len(apart) == 19
    assert all(abs(ps - clocks * clock_ps) < 1000 for ps in apart)
    assert abs(sum(apart) - 19 * clocks * clock_ps) < 1000  # nothing adds up


@witness("PCI:PCIX_COMMAND.MMRBC")
@pytest.mark.parametrize(("mmrbc", "reads"), [(1, 2), (2, 1), (3, 1)])
def test_mmrbc_is_the_longest_read(mmrbc: int, reads: int) -> None:
    """PCI-X 1.0a 7.2.3; 3 is 4096 bytes, and the part's own most is 2048."""
    sender = Sender("pci-x-66", rate_bps=None, model="82545EM")
    command = 0xE6
    assert sender.nic.slot.config_read(command, 2) & 0xC == 0
    sender.nic.slot.config_write(command, mmrbc << 2, 2)
    sender.post(1500, 1500)
    sender.ring()
    sender.at(1_000_000)
    first, second = sender.times()
    assert second - first == (4 * reads + 188) * 15


def test_latency_and_alignment_take_clocks() -> None:
    sender = Sender("pci,latency=700ns", rate_bps=None)
    where = sender.memory.alloc(256)
    for offset in (0, 3):
        sender.memory.write(where + offset, frame(60))
        sender.guest.post_legacy(None, address=where + offset, length=60)
    sender.ring()
    sender.at(1_000_000)
    # 700 ns are no whole clocks: the next transaction begins at an edge
    first, second = sender.times()
    assert first == 780 + 10 + 32 // WORD * 30 + 20 + 90 + 700 + 15 * 30
    assert second == -(-first // 30) * 30 + 90 + 700 + 16 * 30


@pytest.mark.parametrize(
    ("bus", "bits"),
    [
        (None, 0),
        ("pci", 0),
        pytest.param("pci-66", 0x0800, marks=witness("STATUS.PCI66")),
        pytest.param("pci-64", 0x1000, marks=witness("STATUS.BUS64")),
        ("pci-64-66", 0x1800),
        pytest.param("pci-x-66", 0x3000, marks=witness("STATUS.PCIX_MODE")),
        pytest.param("pci-x-100", 0x7000, marks=witness("STATUS.PCIXSPD")),
        ("pci-x-133", 0xB000),
    ],
)
def test_status_says_which_bus_it_is(bus: str | None, bits: int) -> None:
    """SDM 13.4.2."""
    sender = Sender(bus, model="82544GC")
    assert rd(sender.nic, "STATUS") & 0xF800 == bits
    wr(sender.nic, "CTRL", 1 << 26)
    assert rd(sender.nic, "STATUS") & 0xF800 == bits


@pytest.mark.parametrize(
    ("bus", "says"),
    [
        ("isa", "one of pci, pci-66"),
        ("pci,latency", "no duration"),
        ("pci,latency=-1", "no duration"),
        ("pci,speed=1", "no option"),
        ("pci,latency=2s", "latency_ns=2000000000"),
        (33, "give a name"),
        ("pci-64", "'pci' or 'pci-66'"),
        ("pci-x-133", "'pci' or 'pci-66'"),
    ],
)
def test_a_bus_that_cannot_be_is_refused(bus: Any, says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        Sender(bus)


@pytest.mark.parametrize(
    "fields",
    [{"width_bytes": 3}, {"clock_ps": 0}, {"overhead_clocks": -1}, {"latency_ns": 0.5}],
)
def test_a_bus_of_ones_own_has_numbers_that_can_be(fields: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(fields))):
        Bus(**fields)


def test_a_bus_says_its_rate_and_the_nic_its_bus() -> None:
    assert BUSES["pci"].bytes_per_s == 133_333_333
    assert BUSES["pci-x-133"].bytes_per_s == 1_066_666_666
    assert "bus pci-66 " in repr(Sender("pci-66").nic)
    assert "bus" not in repr(Sender(None).nic)
    own = Sender(Bus(width_bytes=1, clock_ps=8_000_000), rate_bps=None)
    own.post(60, 60)
    own.ring()
    own.at(10_000_000)
    assert own.times()[1] - own.times()[0] == 63 * 8000


# --- the FIFO ------------------------------------------------------------------------------------


def test_frames_are_fetched_while_others_are_on_the_wire() -> None:
    """Packet prefetching: the wire has no hole in it."""
    sender = Sender("pci-66")
    sender.post(*[1500] * 8)
    sender.ring()
    first = (3 + 8 * 4 + 3 + 375) * 15
    sender.at(first + wire_ns(1500) // 2)
    assert rd(sender.nic, "TDFPC") == 2
    sender.at(1_000_000)
    assert sender.times() == [first + (n + 1) * wire_ns(1500) for n in range(8)]
    assert rd(sender.nic, "TDFPC") == 0


@witness("TXDMAC.DPP")
def test_dpp_fetches_a_frame_when_the_one_before_is_out() -> None:
    sender = Sender("pci-66")
    wr(sender.nic, "TXDMAC", 1)
    sender.post(*[1500] * 4)
    sender.ring()
    sender.at(1_000_000)
    apart = {b - a for a, b in zip(sender.times(), sender.times()[1:], strict=False)}
    assert len(sender.times()) == 4
    assert all(0 <= gap - wire_ns(1500) - (3 + 375) * 15 < 15 for gap in apart)  # an edge


def test_dpp_holds_for_the_segments_of_a_context_too() -> None:
    sender = Sender("pci-66")
    wr(sender.nic, "TXDMAC", 1)
    sender.post_tso(4 * 1000, 1000)
    sender.ring()
    sender.at(1_000_000)
    apart = [b - a for a, b in zip(sender.times(), sender.times()[1:], strict=False)]
    assert len(apart) == 3
    assert all(0 <= gap - wire_ns(1000 + HDRLEN) - (3 + 250) * 15 < 15 for gap in apart)


def test_the_fifo_shows_what_waits() -> None:
    """TDFPC, TDFH, TDFT and PBM while a slow wire has the first of three frames."""
    sender = Sender("pci-66", rate_bps=10_000_000)
    sender.post(100, 200, 300)
    sender.ring()
    sender.at(20_000)
    assert rd(sender.nic, "TDFPC") == 3
    head, tail = rd(sender.nic, "TDFH"), rd(sender.nic, "TDFT")
    words = [(n + 16 + 15) // 16 * 2 for n in (100, 200, 300)]
    assert (tail - head) % 2048 == sum(words)
    pbm, base = 0x10000, (rd(sender.nic, "PBA") & 0xFFFF) << 10
    second = base + 8 * ((head + words[0]) % 2048)
    assert sender.nic.mmio_read(pbm + second) == 200
    first = [sender.nic.mmio_read(pbm + second + 16 + n) for n in range(0, 12, 4)]
    assert struct.pack("<3I", *first) == frame(200)[:12]
    assert rd(sender.nic, "GPTC") == 0  # none is out
    sender.at(10_000_000)
    assert rd(sender.nic, "TDFPC") == 0
    assert rd(sender.nic, "TDFH") == rd(sender.nic, "TDFT") == tail
    assert rd(sender.nic, "GPTC") == 3


def test_no_descriptor_begins_that_the_fifo_has_no_room_for() -> None:
    """13.4.45: room for all of its data; the FIFO has 8 KiB, and a frame of 1500 takes 1520."""
    sender = Sender("pci-66", rate_bps=10_000_000)
    wr(sender.nic, "PBA", 56)
    wr(sender.nic, "CTRL", 1 << 26)
    sender.guest.up(mac=BENCH_MAC)
    sender.clock.run_for(5_000_000_000)
    sender.post(*[1500] * 8)
    sender.ring()
    sender.clock.run_for(200_000)
    assert rd(sender.nic, "TDFPC") == rd(sender.nic, "TDH") == 8192 // 1520
    assert "the bus (pci-66), or for room in the FIFO, where 5 frames" in sender.nic.explain()[0]
    sender.clock.run_for(wire_ns(1500) * 100)
    assert rd(sender.nic, "TDH") == 8192 // 1520 + 1
    sender.clock.run_for(1_000_000_000)
    assert len(sender.far.frames) == 8


def test_a_pause_fills_the_fifo_and_the_frames_go_out_afterwards() -> None:
    sender = Sender("pci-66")
    wr(sender.nic, "CTRL", rd(sender.nic, "CTRL") | 1 << 27)
    for name, value in (("FCAL", 0x00C28001), ("FCAH", 0x100), ("FCT", 0x8808)):
        wr(sender.nic, name, value)
    sender.far.link.transmit(_batch(pause(0xFFFF)))
    sender.clock.run_for(10_000)
    assert rd(sender.nic, "STATUS") & 0x10
    sender.post(*[1000] * 5)
    sender.ring()
    sender.clock.run_for(1_000_000)
    assert rd(sender.nic, "TDFPC") == rd(sender.nic, "TDH") == 5
    assert sender.far.frames == []
    assert rd(sender.nic, "GPTC") == 0
    sender.far.link.transmit(_batch(pause(0)))
    sender.clock.run_for(1_000_000)
    assert sender.far.frames == [frame(1000)] * 5
    assert rd(sender.nic, "GPTC") == 5


def test_what_is_in_the_fifo_stays_while_the_transmitter_is_off() -> None:
    """13.4.33, TCTL.EN."""
    sender = Sender("pci-66", rate_bps=100_000_000)
    tctl = rd(sender.nic, "TCTL")
    sender.post(*[1000] * 4)
    sender.ring()
    sender.at(30_000)
    assert rd(sender.nic, "TDFPC") == 4
    wr(sender.nic, "TCTL", tctl & ~2)
    sender.clock.run_for(10_000_000)
    assert len(sender.far.frames) == 1
    assert rd(sender.nic, "TDFPC") == 3
    wr(sender.nic, "TCTL", tctl)
    sender.clock.run_for(10_000_000)
    assert len(sender.far.frames) == 4
    assert rd(sender.nic, "TDFPC") == 0


def test_a_reset_empties_the_fifo() -> None:
    sender = Sender("pci-66", rate_bps=10_000_000)
    sender.post(*[1000] * 4)
    sender.ring()
    sender.at(30_000)
    assert rd(sender.nic, "TDFPC") > 1
    wr(sender.nic, "CTRL", 1 << 26)
    assert rd(sender.nic, "TDFPC") == 0
    sender.clock.run_for(100_000_000)
    assert len(sender.far.frames) == 1
    sender.guest.up(mac=BENCH_MAC)
    sender.clock.run_for(5_000_000_000)
    sender.post(500)
    sender.ring()
    sender.clock.run_for(100_000_000)
    assert sender.far.frames[1:] == [frame(500)]


def test_a_ring_that_moves_takes_the_transfer_with_it() -> None:
    sender = Sender("pci")
    sender.post(1500)
    sender.ring()
    sender.at(5_000)
    wr(sender.nic, "TCTL", 0)
    wr(sender.nic, "TDH", 0)
    wr(sender.nic, "TDT", 0)
    sender.clock.run_for(1_000_000)
    assert sender.far.frames == []
    assert sender.nic.tx.dma.idle


def _batch(data: bytes) -> Any:
    from fastpath.base.batch import FrameBatch

    batch = FrameBatch()
    batch.append(data)
    return batch


# --- segmentation --------------------------------------------------------------------------------


@witness("TSPMT.TSMT")
@pytest.mark.parametrize("tsmt", [2000, 4000, 6000])
def test_tsmt_is_the_least_that_a_burst_has(tsmt: int) -> None:
    """13.4.45: with a FIFO that a slow wire keeps full, a burst waits for room for so much."""
    sender = Sender("pci-66", rate_bps=100_000_000)
    wr(sender.nic, "TSPMT", 1024 << 16 | tsmt)
    sender.post_tso(40_000, 1000)
    sender.ring()
    bursts: list[tuple[int, bool]] = []
    dma = sender.nic.tx.dma
    burst_of = dma._burst_of

    def watched(room: int, has: int, rest: int, limit: int) -> int:
        count = burst_of(room, has, rest, limit)
        if count and dma.waiting:
            bursts.append((count, count == rest - dma._come))
        return count

    dma._burst_of = watched
    sender.clock.run_for(50_000_000)
    assert len(sender.far.frames) == 40
    limited = [count for count, the_rest in bursts if not the_rest]
    assert limited
    assert min(limited) >= tsmt
    assert min(limited) < tsmt + 1100  # and no more than what a frame that leaves makes free


@witness("TSPMT.TSPBP")
@pytest.mark.parametrize("tspbp", [3000, 6000, 12_000])
def test_tspbp_bytes_of_the_fifo_stay_free(tspbp: int) -> None:
    """13.4.45: a burst leaves them; what goes there are the headers of the segments within it."""
    sender = Sender("pci-66", rate_bps=10_000_000)
    wr(sender.nic, "TSPMT", tspbp << 16 | 256)
    sender.post_tso(30_000, 1000)
    sender.ring()
    sender.clock.run_for(500_000)
    payload = sender.nic.buffer.tx_words * 8 - tspbp
    waiting = rd(sender.nic, "TDFPC")
    assert payload - 1500 <= waiting * 1000 <= payload
    sender.clock.run_for(100_000_000)
    assert len(sender.far.frames) == 30


def test_a_pad_without_room_beside_it_stops_segmentation_alone() -> None:
    """13.4.45: the FIFO must be larger than HDRLEN + MSS + TSPBP + 80."""
    sender = Sender("pci")
    wr(sender.nic, "TSPMT", 0xFFFF << 16)
    sender.post_tso(3000, 1000)
    sender.ring()
    sender.clock.run_for(10_000_000)
    assert sender.far.frames == []
    assert "TSPBP leaves a segment no room" in " ".join(sender.nic.explain())
    assert [e.name for e in sender.nic.misuse.events()] == ["tx-tso-pad"]
    wr(sender.nic, "TSPMT", 256 << 16)
    sender.ring()
    sender.clock.run_for(10_000_000)
    assert len(sender.far.frames) == 3


def test_a_pad_too_small_for_the_headers_does_not_overfill_the_fifo() -> None:
    sender = Sender("pci-66", rate_bps=10_000_000)
    wr(sender.nic, "TSPMT", 1)
    sender.post_tso(30_000, 64)
    sender.ring()
    words = sender.nic.buffer.tx_words
    for _ in range(200):
        sender.clock.run_for(100_000)
        assert sender.nic.tx.dma._words <= words
    sender.clock.run_for(1_000_000_000)
    assert len(sender.far.frames) == -(-30_000 // 64)


# --- against the same device without a bus -------------------------------------------------------

WORK = st.one_of(
    st.tuples(st.just("frames"), st.lists(st.integers(1, 1518), min_size=1, max_size=12)),
    st.tuples(st.just("pieces"), st.lists(st.integers(0, 700), min_size=1, max_size=6)),
    st.tuples(
        st.just("tso"), st.integers(1, 9000), st.integers(1, 1460), st.integers(1, 5)
    ),
    st.tuples(st.just("bad"), st.integers(0, 100)),
    st.tuples(st.just("wait"), st.integers(0, 100_000)),
)  # fmt: skip


def run(sender: Sender, work: list[tuple[Any, ...]], *, watch: bool = False) -> None:
    for what, *args in work:
        room = sender.guest.tx_unused()
        match what:
            case "frames" if len(args[0]) <= room:
                sender.post(*args[0])
            case "pieces" if len(args[0]) <= room:
                sender.guest.post_pieces([frame(n) for n in args[0]])
            case "tso" if args[2] + 8 <= room and args[0] <= 90 * args[1]:
                sender.post_tso(args[0], args[1], pieces=args[2])
            case "bad" if room > 4:  # a context that cannot be, and legacy among data
                sender.guest.post_context(paylen=50, hdrlen=args[0], mss=args[0], tucmd=0x25)
                sender.guest.post_data(frame(60), dcmd=TSE)
                sender.guest.post_legacy(frame(60), cmd=8)
                sender.guest.post_data(frame(90), dcmd=TxCmd.DEXT | TxCmd.EOP | TxCmd.IFCS)
            case "wait":
                if watch:
                    for _ in range(8):
                        sender.clock.run_for(args[0] // 8)
                        check_fifo(sender)
                else:
                    sender.clock.run_for(args[0])
                continue
        sender.ring()
        sender.clock.run_for(0)
        sender.guest.reap()
    for _ in range(50):
        sender.clock.run_for(4_000_000)
        sender.guest.reap()


def check_fifo(sender: Sender) -> None:
    fifo, dma = sender.nic.buffer.pointers(True), sender.nic.tx.dma
    words = sender.nic.buffer.tx_words
    assert dma._words <= words
    assert fifo[4] == dma.waiting


@settings(max_examples=examples(120), deadline=None)
@given(
    bus=st.one_of(
        st.sampled_from(list(BUSES.values())),
        st.builds(
            Bus,
            width_bytes=st.sampled_from([1, 4, 8]),
            clock_ps=st.integers(900, 60_000),
            overhead_clocks=st.integers(0, 20),
            latency_ns=st.integers(0, 2000),
        ),
    ),
    rate=st.sampled_from([None, 100_000_000, GIGABIT]),
    dpp=st.booleans(),
    tspmt=st.builds(
        lambda pad, least: pad << 16 | least, st.integers(0, 8000), st.integers(0, 9000)
    ),
    thresholds=st.sampled_from([0, 0x0101_0804, 0x0100_0000, 0x0101_013F]),
    work=st.lists(WORK, min_size=1, max_size=8),
)
@example(BUSES["pci"], None, True, 0, 0, [("tso", 5000, 700, 3), ("frames", [60] * 12)])
def test_any_bus_changes_times_and_nothing_else(
    bus: Bus, rate: int | None, dpp: bool, tspmt: int, thresholds: int, work: list[Any]
) -> None:
    """The same frames in the same order, the same counters, and no frame before its bytes can be
    there."""
    plain, slow = (Sender(b, rate_bps=rate, model="82545EM") for b in (None, bus))
    for sender in (plain, slow):
        wr(sender.nic, "TXDMAC", int(dpp))
        wr(sender.nic, "TSPMT", tspmt)
        wr(sender.nic, "TXDCTL", thresholds)
    # Whether a ring has room is a matter of time: what is posted must not hang on it.
    free = [w for w in work if w[0] == "wait"]
    posts = [w for w in work if w[0] != "wait"]
    total = sum(len(w[1]) if w[0] in ("frames", "pieces") else 10 for w in posts)
    work = [*posts, *free] if total < plain.guest.tx.count else posts[:3]
    run(plain, work)
    run(slow, work, watch=True)
    assert slow.far.frames == plain.far.frames
    assert slow.far.flags == plain.far.flags
    assert slow.counters() == plain.counters()
    assert rd(slow.nic, "TDH") == rd(plain.nic, "TDH")
    assert slow.nic.tx.dma.idle
    done = [
        [sender.guest.tx_done(n) for n in range(sender.guest.tx.count)] for sender in (plain, slow)
    ]
    assert done[0] == done[1]
    carried = 0
    for data, ns in zip(slow.far.frames, slow.times(), strict=True):
        carried += len(data) - HDRLEN if len(data) > 64 else 0
        assert ns * 1000 >= carried * bus.clock_ps // bus.width_bytes


def _context(fields: tuple[int, ...]) -> bytes:
    ipcss, tucss, hdrlen, mss, paylen, tucmd = fields
    offsets = ipcss | (ipcss + 10) << 8 | (tucss - 1) << 16
    rest = tucss | (tucss + 16) << 8
    return struct.pack(
        "<IIII", offsets & 0xFFFFFFFF, rest, paylen | tucmd << 24, hdrlen << 8 | mss << 16
    )


ADDRESSES = st.one_of(
    st.integers(0, 1 << 16).map(lambda n: 0x10_0000 + n), st.just(0), st.just(9 << 32)
)
LENGTHS = st.one_of(st.integers(0, 3000), st.integers(0, 20_000))
RAW = st.one_of(
    st.builds(  # legacy
        lambda at, n, cmd: struct.pack("<QI", at, min(n, 0xFFFF) | cmd << 24) + bytes(4),
        ADDRESSES, LENGTHS, st.sampled_from([0x8, 0x9, 0xB, 0x3, 0x4B, 0xF, 0x0]),
    ),
    st.builds(  # data
        lambda at, n, cmd, popts: struct.pack("<QIHH", at, n | 1 << 20 | cmd << 24, popts << 8, 7),
        ADDRESSES, LENGTHS, st.sampled_from([0x2B, 0x2F, 0x2E, 0x26, 0x6F, 0x2A, 0x23]),
        st.integers(0, 3),
    ),
    st.builds(_context, st.tuples(
        st.sampled_from([14, 14, 14, 0, 200]), st.sampled_from([34, 34, 54, 0]),
        st.sampled_from([54, 54, 74, 3, 255]), st.sampled_from([1460, 100, 9000, 0, 16_000]),
        st.integers(0, 20_000), st.sampled_from([0x27, 0x26, 0x25, 0x20]),
    )),
    st.binary(min_size=16, max_size=16),
)  # fmt: skip


@st.composite
def tso(draw: st.DrawFn) -> list[bytes]:
    """A context and its data, that fit or nearly."""
    header = draw(st.sampled_from([54, 54, 66, 40]))
    paylen = draw(st.integers(1, 20_000))
    mss = draw(st.sampled_from([1460, 1448, 536, 9000, paylen, max(1, paylen // 3)]))
    tucmd = draw(st.sampled_from([0x27, 0x27, 0x26]))
    total = header + paylen + draw(st.sampled_from([0, 0, 0, 0, -1, 1]))
    cuts = sorted({0, total, *draw(st.lists(st.integers(0, total), max_size=5))})
    data = [
        struct.pack(
            "<QIHH", 0x10_0000 + a, (b - a) | 1 << 20 | (0x2F if b == total else 0x2E) << 24, 768, 7
        )
        for a, b in itertools.pairwise(cuts)
    ]
    return [_context((14, 34, header, mss, paylen, tucmd)), *data]


@settings(max_examples=examples(150), deadline=None)
@given(
    groups=st.lists(st.one_of(RAW.map(lambda d: [d]), tso()), min_size=1, max_size=30),
    bus=st.sampled_from(["pci", "pci-x-133", "pci-64,latency=3us"]),
    rate=st.sampled_from([None, GIGABIT]),
    dpp=st.booleans(),
    tagged=st.booleans(),
    rounds=st.integers(1, 3),
)
def test_any_ring_gives_the_same_with_a_bus(
    groups: list[list[bytes]], bus: str, rate: int | None, dpp: bool, tagged: bool, rounds: int
) -> None:
    """Also one that no driver would post."""
    raw = [descriptor for group in groups for descriptor in group]
    found = []
    for sender in (Sender(b, rate_bps=rate, model="82545EM") for b in (None, bus)):
        wr(sender.nic, "TXDMAC", int(dpp))
        wr(sender.nic, "TSPMT", 0)  # a pad without room beside it would stop the ring
        if tagged:
            wr(sender.nic, "CTRL", rd(sender.nic, "CTRL") | 1 << 30)
        for part in range(rounds):
            for descriptor in raw[part::rounds]:
                sender.guest.post_raw(descriptor)
            sender.ring()
            for _ in range(100):
                sender.clock.run_for(500_000)
                if sender.nic.bus is not None:
                    check_fifo(sender)
        engine = sender.nic.tx.engine
        found.append(
            {
                "frames": sender.far.frames,
                "flags": sender.far.flags,
                "counters": sender.counters(),
                "head": rd(sender.nic, "TDH"),
                "phase": engine.state()["phase"],
                "ring": sender.memory.read(sender.guest.tx.base, 16 * len(raw)),
                "engine": [
                    getattr(engine, name)
                    for name in (
                        *("mixed_drops", "oversize_drops", "tso_fails", "empty_frames"),
                        *("csum_skips", "ring_errors", "desc_aborts", "data_aborts"),
                    )
                ],
            }
        )
    assert found[1] == found[0]


# --- other ports ---------------------------------------------------------------------------------


def test_frames_at_a_hub_leave_the_fifo_when_they_are_over() -> None:
    clock = VirtualClock()
    hub = Hub(clock, seed=3)
    senders = [
        Sender("pci", link=port, clock=clock, mac=bytes([2, 0, 0, 0, 0, n]))
        for n, port in enumerate(hub.ports)
    ]
    clock.run_for(5_000_000_000)
    for sender in senders:
        wr(sender.nic, "RCTL", 0x0400800A)
        sender.post(*[500] * 10)
    for sender in senders:
        sender.ring()
    clock.run_for(300_000)
    assert all(rd(sender.nic, "TDFPC") == 10 for sender in senders)
    clock.run_for(1_000_000_000)
    for sender in senders:
        assert rd(sender.nic, "TDFPC") == 0
        assert rd(sender.nic, "GPTC") == rd(sender.nic, "GPRC") == 10
    assert rd(senders[0].nic, "COLC") > 0


def test_a_frame_that_a_hub_gives_up_leaves_too() -> None:
    clock = VirtualClock()
    hub = Hub(clock)
    senders = [
        Sender("pci", link=port, clock=clock, mac=bytes([2, 0, 0, 0, 0, n]))
        for n, port in enumerate(hub.ports)
    ]
    clock.run_for(5_000_000_000)
    for sender in senders:
        wr(sender.nic, "TCTL", 0x4000A)  # CT 0: one collision is the end of a frame
        sender.post(500)
    for sender in senders:
        sender.ring()
    clock.run_for(1_000_000_000)
    for sender in senders:
        assert rd(sender.nic, "TDFPC") == 0
        assert rd(sender.nic, "GPTC") == 0


@pytest.mark.parametrize(
    "wrap",
    [
        lambda link: Capture(link, _Nowhere()),
        lambda link: Impair(link, seed=1, direction="rx", delay_ns=1),
        lambda link: Impair(link, seed=1, rate_bps=GIGABIT),
    ],
    ids=["capture", "impair", "impair-rate"],
)
def test_a_wire_is_asked_through_what_stands_before_it(wrap: Any) -> None:
    sender = Sender("pci-66", wrap=wrap)
    wr(sender.nic, "TXDMAC", 1)
    sender.post(*[1500] * 3)
    sender.ring()
    sender.at(1_000_000)
    first, second, _ = sender.times()
    assert second - first >= wire_ns(1500) + (3 + 375) * 15


class _Nowhere:
    """A writer of captures that keeps nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: 0


def test_loopback_takes_no_wire() -> None:
    sender = Sender("pci")
    wr(sender.nic, "RCTL", 0x0400804A)  # LBM=1, UPE
    sender.post(1500)
    sender.ring()
    sender.at(fetch_ns(DESCRIPTOR) + fetch_ns(1500))
    assert [f.data for f in sender.guest.receive()] == [frame(1500)]
    assert rd(sender.nic, "TDFPC") == 0
    assert rd(sender.nic, "GPTC") == 1


def test_pause_and_resume_hold_the_bus() -> None:
    sender = Sender("pci")
    sender.post(*[1500] * 4)
    sender.ring()
    sender.at(20_000)
    sender.nic.pause()
    was = sender.nic.state()
    done = rd(sender.nic, "TDH")
    sender.clock.run_for(1_000_000)
    assert rd(sender.nic, "TDH") == done
    assert len(sender.far.frames) <= 1
    assert sender.nic.run_state.name == "PAUSED"
    assert was
    sender.nic.resume()
    sender.clock.run_for(1_000_000)
    assert sender.far.frames == [frame(1500)] * 4


def test_halt_leaves_nothing_on_the_clock() -> None:
    sender = Sender("pci")
    sender.post(*[1500] * 4)
    sender.ring()
    sender.at(14_000)
    sender.nic.halt()
    sender.clock.run_for(10_000_000)
    assert len(sender.far.frames) <= 1
    assert sender.nic.tx.dma.idle


def test_faults_hit_what_the_bus_has_brought() -> None:
    faults = Faults(abort=(("tx-data", 2), ("tx-descriptor", 3)))
    sender = Sender("pci", faults=faults)
    sender.post(*[300] * 4)
    sender.ring()
    sender.clock.run_for(10_000_000)
    assert sender.far.frames == [frame(300), b"\xff" * 300]
    assert {e.name for e in sender.nic.misuse.events()} == {"tx-data-abort", "tx-abort"}
    sender.ring()
    sender.clock.run_for(10_000_000)
    assert sender.far.frames[2:] == [frame(300)] * 2


def test_a_thread_that_works_rings_is_refused() -> None:
    nic = Sender("pci").nic
    path = DataPath(nic.tx, nic.rx, nic.interrupts, FrameQueue())
    with pytest.raises(ArgumentError, match="threads=False"):
        path.attach(EventLine())
    path.close()


def test_memory_by_messages_is_refused() -> None:
    with pytest.raises(ArgumentError, match="messages"):
        Sender("pci").nic.tx.use_stage(object())  # type: ignore[arg-type]


def test_a_snapshot_needs_a_bus_and_an_old_one_none() -> None:
    with_bus, without = Sender("pci"), Sender(None)
    with_bus.post(1500, 1500)
    with_bus.ring()
    with_bus.at(20_000)
    with pytest.raises(SnapshotError, match="the same bus"):
        without.nic.load_state(with_bus.nic.state())
    with_bus.nic.load_state(without.nic.state())
    assert with_bus.nic.tx.dma.idle


def test_what_is_recorded_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "bus"
    recorder = Recorder(path)
    sender = Sender("pci-66,latency=300ns", rate_bps=100_000_000, record=recorder)
    wr(sender.nic, "TXDMAC", 1)
    sender.post(60, 1500, 700)
    sender.ring()
    sender.clock.run_for(200_000)
    wr(sender.nic, "TXDMAC", 0)
    sender.post_tso(9000, 1460, pieces=3)
    sender.post(60)
    sender.ring()
    rd(sender.nic, "TDFPC")
    sender.clock.run_for(10_000_000)
    rd(sender.nic, "TDFPC")
    recorder.close()
    assert len(sender.far.frames) == 3 + 7 + 1
    done = replay(path)
    assert done.divergence is None, str(done.divergence)
    assert done.complete
    assert done.header.bus is not None
    assert done.header.bus["latency_ns"] == 300
