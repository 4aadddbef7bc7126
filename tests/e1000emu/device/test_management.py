"""Management: which frames the filters of MANC take, who gets them, and what is counted.

The frames are made from a description, which also says what has to be set for them (`Packet`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.device.board import INTERNAL_RESET
from e1000emu.device.management import FILTERS, FRAME_BYTES, RECEIVE_BYTES, required
from e1000emu.device.nic import Nic
from e1000emu.errors import ArgumentError, SnapshotError
from e1000emu.insight.examine import nic_of_file
from e1000emu.record import snapshot
from e1000emu.record.recording import Kind
from e1000emu.record.snapshot import NicState
from e1000emu.registers.models import MODELS
from e1000emu.registers.regs import reg
from e1000emu.testing.bench import BENCH_MAC, Bench, make_bench
from e1000emu.testing.recorders import RecordingController
from fastpath.base.batch import FB_BAD_CRC, FB_HAS_FCS
from fastpath.lifecycle import RunState
from fastpath.nic.macpath import WATCH_MANAGEMENT
from tests.e1000emu.common import BROADCAST, PEER, RX_ON, frame, rd, until_held, wr
from tests.e1000emu.device.test_flow import pause
from tests.e1000emu.device.test_wakeup import BC, D3, PMCSR, PME_EN
from tests.e1000emu.record.test_record import events, recorded, same
from tests.e1000emu.witness import witness
from tests.support import examples

MANC = reg("MANC")
SMBUS_EN, ASF_EN, R_ON_FORCE, TCO_RESET, RCV_TCO_EN, REPORT_STATUS = (
    MANC.mask(name)
    for name in ("SMBUS_EN", "ASF_EN", "R_ON_FORCE", "TCO_RESET", "RCV_TCO_EN", "REPORT_STATUS")
)
ALL = MANC.mask(*FILTERS)
CTRL_RST, CTRL_SLU, CTRL_RFCE = 1 << 26, 1 << 6, 1 << 27
GROUP = bytes.fromhex("01005e000001")
OTHER = bytes.fromhex("02000000aa01")


@dataclass(frozen=True)
class Packet:
    """A frame in words."""

    what: str
    """arp, udp4, udp6, icmp6, other"""
    number: int = 0
    """ARP operation, UDP port, ICMPv6 type"""
    dst: bytes = BENCH_MAC
    tagged: bool = False
    snap: bool = False
    extensions: tuple[int, ...] = ()
    options: int = 0
    offset: int = 0
    """of the fragment, with DF and MF above"""
    hops: int = 255
    code: int = 0
    payload: int = 24

    def bits(self) -> set[str]:
        """What MANC needs for it; empty: it never passes."""
        port = {0x26F: "RMCP_EN", 0x298: "0298_EN"}.get(self.number)
        if self.what == "arp":
            found = {1: {"ARP_EN"}, 2: {"ARP_RES_EN"}}.get(self.number, set())
        elif self.what == "udp4":
            found = {port, "IPV4_EN"} if port and not self.offset & 0x1FFF else set()
        elif self.what == "udp6":
            found = {port, "IPV6_EN"} if port else set()
        elif self.what == "icmp6":
            whole = self.payload >= 20  # type, code, checksum, reserved, target
            good = self.number == 135 and self.code == 0 and self.hops == 255 and whole
            found = {"NEIGHBOR_EN"} if good else set()
        else:
            found = set()
        return {name for name in found if name} | ({"SNAP_EN"} if found and self.snap else set())

    def frame(self) -> bytes:
        """Return its bytes, without FCS."""
        kind, body = self._body()
        head = self.dst + PEER + (b"\x81\x00\x00\x07" if self.tagged else b"")
        if self.snap:
            head += (8 + len(body)).to_bytes(2, "big") + bytes.fromhex("aaaa03000000")
        return (head + kind.to_bytes(2, "big") + body).ljust(60, b"\0")

    def _body(self) -> tuple[int, bytes]:
        if self.what == "arp":
            return 0x0806, bytes.fromhex("000108000604") + word(self.number) + bytes(20)
        udp = word(623) + word(self.number) + word(8 + self.payload) + bytes(2 + self.payload)
        if self.what == "udp4":
            size = 20 + 4 * self.options
            head = bytes((0x45 + self.options, 0)) + word(size + len(udp)) + bytes(2)
            head += word(self.offset) + bytes((64, 17)) + bytes(size - 10)
            return 0x0800, head + udp
        if self.what in ("udp6", "icmp6"):
            icmp = bytes((self.number & 0xFF, self.code, 0, 0)) + bytes(self.payload)
            upper = (17, udp) if self.what == "udp6" else (58, icmp)
            chain = b""
            for i, _ in enumerate(self.extensions):
                last = i + 1 == len(self.extensions)
                chain += bytes((upper[0] if last else self.extensions[i + 1], 0)) + bytes(6)
            first = self.extensions[0] if self.extensions else upper[0]
            size = len(chain) + len(upper[1])
            return 0x86DD, b"\x60" + bytes(3) + word(size) + bytes((first, self.hops)) + bytes(
                32
            ) + chain + upper[1]
        return 0x88B5, bytes(range(40))


def word(value: int) -> bytes:
    return value.to_bytes(2, "big")


PORTS = st.sampled_from((0x26F, 0x298, 0x26E, 0x299, 53))
PACKETS = st.builds(
    Packet,
    what=st.sampled_from(("arp", "udp4", "udp6", "icmp6", "other")),
    number=PORTS | st.sampled_from((1, 2, 3, 134, 135, 136)),
    dst=st.sampled_from((BENCH_MAC, BROADCAST, GROUP, OTHER)),
    tagged=st.booleans(),
    snap=st.booleans(),
    extensions=st.lists(st.sampled_from((0, 43, 60)), max_size=3).map(tuple),
    options=st.integers(0, 3),
    offset=st.sampled_from((0, 0x4000, 0x2000, 1, 0x2001)),
    hops=st.sampled_from((255, 255, 64)),
    code=st.sampled_from((0, 0, 1)),
    payload=st.sampled_from((0, 19, 20, 24, 60)),
)


@settings(max_examples=examples(400))
@given(PACKETS)
def test_what_a_frame_needs_is_what_its_description_says(packet: Packet) -> None:
    assert required(packet.frame(), 0x8100) == MANC.mask(*packet.bits())


@settings(max_examples=examples(300))
@given(PACKETS, st.integers(0, 120), st.binary(max_size=8), st.integers(0, 0xFFFF))
def test_damaged_frames_need_known_bits_or_none(
    packet: Packet, at: int, new: bytes, vet: int
) -> None:
    data = packet.frame()
    for cut in (data[:at], data[:at] + new + data[at + len(new) :]):
        bits = required(cut, vet)
        assert bits & ~ALL == 0
        assert not bits or bits & ~MANC.mask("SNAP_EN")


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(PACKETS, max_size=6),
    st.sets(st.sampled_from(FILTERS)),
    st.booleans(),
    st.booleans(),
)
def test_each_frame_has_one_owner(
    packets: list[Packet], filters: set[str], promiscuous: bool, broadcast: bool
) -> None:
    """Controller, host or nobody: by address first, then by MANC."""
    bench, controller = managed(
        rctl=RX_ON & ~0x8000 | (0x8000 if broadcast else 0) | (0x18 if promiscuous else 0)
    )
    controller.port.receive_enable(sorted(filters))
    ours, host = [], []
    for packet in packets:
        ours_by_address = packet.dst in (BENCH_MAC, BROADCAST) or promiscuous
        host_by_address = packet.dst == BENCH_MAC or promiscuous
        host_by_address |= packet.dst == BROADCAST and broadcast
        need = packet.bits()
        if ours_by_address and need and need <= filters:
            ours.append(packet.frame())
        elif host_by_address:
            host.append(packet.frame())
    assert all(len(one) <= FRAME_BYTES - 4 for one in ours)
    bench.link.inject(*[packet.frame() for packet in packets])
    assert controller.frames == ours
    assert [got.data for got in bench.guest.receive()] == host
    assert rd(bench.nic, "MGTPRC") == len(ours)
    assert rd(bench.nic, "GPRC") == len(ours) + len(host)


# --- the filters, a bit at a time -----------------------------------------------------------------


def managed(
    *, rctl: int | None = RX_ON, filters: tuple[str, ...] | None = None, **options: Any
) -> tuple[Bench, RecordingController]:
    """Return a bench with a driver and a controller; `filters` lets frames in."""
    controller = RecordingController(**options)
    bench = make_bench(management=controller)
    if rctl is not None:
        bench.guest.up(mac=BENCH_MAC, rctl=rctl, ims=0)
    bench.clock.run_for(5_000_000_000)
    rd(bench.nic, "ICR")
    if filters is not None:
        controller.port.receive_enable(filters)
    return bench, controller


ARP = Packet("arp", 1, dst=BROADCAST)
RMCP = Packet("udp4", 0x26F)
ONE_OF_EACH = {
    "RMCP_EN": (RMCP, "IPV4_EN"),
    "0298_EN": (Packet("udp4", 0x298), "IPV4_EN"),
    "IPV4_EN": (RMCP, "RMCP_EN"),
    "IPV6_EN": (Packet("udp6", 0x26F), "RMCP_EN"),
    "SNAP_EN": (Packet("arp", 1, snap=True), "ARP_EN"),
    "ARP_EN": (ARP, ""),
    "NEIGHBOR_EN": (Packet("icmp6", 135), ""),
    "ARP_RES_EN": (Packet("arp", 2), ""),
}


@pytest.mark.parametrize("name", ONE_OF_EACH)
@witness("MANC.{name}", "MGTPRC.COUNT")
def test_a_filter_takes_its_frame_from_the_host(name: str) -> None:
    packet, other = ONE_OF_EACH[name]
    bench, controller = managed()
    others = (MANC.mask(other) if other else 0) | RCV_TCO_EN
    wr(bench.nic, "MANC", others)
    bench.link.inject(packet.frame())
    assert [got.data for got in bench.guest.receive()] == [packet.frame()]
    wr(bench.nic, "MANC", others | MANC.mask(name))
    bench.link.inject(packet.frame(), frame())
    assert controller.frames == [packet.frame()]
    assert [got.data for got in bench.guest.receive()] == [frame()]
    assert rd(bench.nic, "MGTPRC") == 1


@witness("MANC.RCV_TCO_EN")
def test_without_rcv_tco_en_the_filters_take_nothing() -> None:
    bench, controller = managed()
    wr(bench.nic, "MANC", ALL)
    bench.link.inject(ARP.frame())
    assert controller.frames == []
    wr(bench.nic, "MANC", ALL | RCV_TCO_EN)
    bench.link.inject(ARP.frame())
    assert controller.frames == [ARP.frame()]
    controller.port.receive_disable()
    bench.link.inject(ARP.frame())
    assert [got.data for got in bench.guest.receive()] == [ARP.frame()] * 2


@pytest.mark.parametrize("model", ["82540EM", "82545EM"])
@witness("MANC.SMBUS_EN")
def test_a_controller_shows_in_manc(model: str) -> None:
    with_one = make_bench(model=model, management=RecordingController()).nic
    without = make_bench(model=model).nic
    assert rd(with_one, "MANC") == SMBUS_EN | R_ON_FORCE
    assert rd(without, "MANC") == 0
    assert with_one.management.attached
    assert not without.management.attached


def test_a_part_without_manc_has_no_controller() -> None:
    assert "MANC" in MODELS["82544GC"].lacks
    with pytest.raises(ArgumentError, match="82544GC has no management interface"):
        make_bench(model="82544GC", management=RecordingController())


def test_without_a_controller_nothing_is_taken_or_counted() -> None:
    bench = make_bench()
    bench.guest.up(mac=BENCH_MAC, rctl=RX_ON, ims=0)
    bench.clock.run_for(5_000_000_000)
    wr(bench.nic, "MANC", ALL | RCV_TCO_EN)
    assert not bench.nic.rx.watching & WATCH_MANAGEMENT
    bench.link.inject(ARP.frame(), RMCP.frame())
    assert len(bench.guest.receive()) == 2
    assert [rd(bench.nic, name) for name in ("MGTPRC", "MGTPDC", "MGTPTC")] == [0, 0, 0]
    port = bench.nic.management
    for call in (port.receive_enable, port.receive_disable, port.read, port.force_tco):
        with pytest.raises(ArgumentError, match="no management controller"):
            call()
    with pytest.raises(ArgumentError, match="no management controller"):
        port.send(frame())


def test_receive_enable_names_its_filters() -> None:
    bench, controller = managed()
    controller.port.receive_enable(("ARP_EN", "ARP_EN", "IPV6_EN"), True)
    on = RCV_TCO_EN | REPORT_STATUS | SMBUS_EN | R_ON_FORCE
    assert rd(bench.nic, "MANC") == on | MANC.mask("ARP_EN", "IPV6_EN")
    controller.port.receive_enable()
    assert rd(bench.nic, "MANC") == (on | MANC.mask("ARP_EN", "IPV6_EN")) & ~REPORT_STATUS
    controller.port.receive_enable([])
    assert rd(bench.nic, "MANC") & ALL == 0
    with pytest.raises(ArgumentError, match="RCV_ALL"):
        controller.port.receive_enable(["RCV_ALL"])


# --- what is received -----------------------------------------------------------------------------


def test_no_driver_need_run() -> None:
    bench, controller = managed(rctl=None, filters=("ARP_EN",))
    assert rd(bench.nic, "STATUS") & 2
    assert not rd(bench.nic, "RCTL") & 2
    bench.link.inject(ARP.frame(), frame())
    assert controller.frames == [ARP.frame()]
    assert (rd(bench.nic, "MGTPRC"), rd(bench.nic, "TPR")) == (1, 0)


@witness("MGTPDC.COUNT")
def test_a_long_frame_and_one_too_many_are_dropped_and_counted() -> None:
    bench, controller = managed(reads=False, filters=("RMCP_EN", "IPV4_EN"))
    longest = FRAME_BYTES - 4 - len(Packet("udp4", 0x26F, payload=18).frame()) + 18
    full = Packet("udp4", 0x26F, payload=longest)
    assert len(full.frame()) == FRAME_BYTES - 4
    bench.link.inject(Packet("udp4", 0x26F, payload=longest + 1).frame())
    assert (rd(bench.nic, "MGTPRC"), rd(bench.nic, "MGTPDC")) == (1, 1)
    fits = RECEIVE_BYTES // len(full.frame())
    bench.link.inject(*[full.frame()] * (fits + 2))
    assert (rd(bench.nic, "MGTPRC"), rd(bench.nic, "MGTPDC")) == (fits + 2, 2)
    assert controller.port.waiting == fits
    assert controller.drain() == [full.frame()] * fits
    assert bench.guest.receive() == []
    bench.link.inject(full.frame())
    assert (controller.port.waiting, rd(bench.nic, "MGTPDC")) == (1, 0)


@pytest.mark.parametrize(
    ("data", "flags", "got"),
    [
        (ARP.frame() + crc32(ARP.frame()).to_bytes(4, "little"), FB_HAS_FCS, 1),
        (ARP.frame() + bytes(4), FB_HAS_FCS, 0),
        (ARP.frame()[:56] + crc32(ARP.frame()[:56]).to_bytes(4, "little"), FB_HAS_FCS, 0),
        (ARP.frame(), FB_BAD_CRC, 0),
        (ARP.frame()[:42], 0, 1),
        (Packet("udp4", 0x26F, payload=1500).frame(), 0, 0),
        (b"x", FB_HAS_FCS, 0),
    ],
)
def test_a_frame_with_an_error_is_no_management_frame(data: bytes, flags: int, got: int) -> None:
    bench, controller = managed(filters=FILTERS)
    bench.link.inject(data, flags=[flags])
    assert controller.frames == [ARP.frame()] * got
    assert rd(bench.nic, "MGTPRC") == got


def test_a_runt_that_is_one_is_not_taken() -> None:
    controller = RecordingController()
    bench = make_bench(management=controller)
    bench.guest.up(mac=BENCH_MAC, rctl=RX_ON, ims=0)
    bench.clock.run_for(5_000_000_000)
    bench.nic.rx.engine.pad_runts = False
    controller.port.receive_enable(FILTERS)
    bench.link.inject(ARP.frame()[:42])
    assert controller.frames == []
    assert rd(bench.nic, "RUC") == 1


def test_a_frame_is_counted_as_any_good_one() -> None:
    kinds = [Packet("udp4", 0x26F, dst=dst, payload=n) for dst in (BENCH_MAC, BROADCAST, GROUP)
             for n in (0, 60, 100)]  # fmt: skip
    names = ["TPR", "TORL", "GPRC", "GORCL", "BPRC", "MPRC", "PRC64", "PRC127", "PRC255"]
    counted = []
    for filters in ([], ["RMCP_EN", "IPV4_EN"]):
        bench, controller = managed(filters=tuple(filters), rctl=RX_ON | 0x10)
        bench.link.inject(*[kind.frame() for kind in kinds])
        assert len(controller.frames) == (len(kinds) if filters else 0)
        counted.append({name: rd(bench.nic, name) for name in names})
    assert counted[0] == counted[1]
    assert all(counted[0].values())


def test_vlan_filter_and_tag() -> None:
    bench, controller = managed(filters=("ARP_EN",), rctl=RX_ON | 1 << 18)  # VFE
    tagged = Packet("arp", 1, tagged=True)
    bench.link.inject(tagged.frame())
    assert controller.frames == []
    wr(bench.nic, "VFTA", 1 << 7)
    bench.link.inject(tagged.frame())
    assert controller.frames == [tagged.frame()]


def test_pause_frames_are_obeyed_beside() -> None:
    bench, controller = managed(filters=FILTERS)
    wr(bench.nic, "CTRL", rd(bench.nic, "CTRL") | CTRL_RFCE)
    bench.link.inject(frame(), ARP.frame(), pause(0xFFFF), frame(70), ARP.frame())
    assert len(controller.frames) == 2
    assert [len(got.data) for got in bench.guest.receive()] == [60, 70]
    assert bench.nic.tx.paused
    assert rd(bench.nic, "XOFFRXC") == 1


def test_a_link_that_holds_gives_each_frame_once() -> None:
    bench, controller = managed(filters=("ARP_EN",))
    until_held(bench)
    assert bench.link.inject(ARP.frame(), frame(1000), ARP.frame(), hold=True) == 1
    assert len(controller.frames) == 1
    got = len(bench.guest.receive())
    assert got
    bench.guest.refill()
    assert bench.link.rx_ready_calls
    assert bench.link.inject(frame(1000), ARP.frame(), hold=True) == 2
    assert len(controller.frames) == 2


# --- asleep ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ignore", [False, pytest.param(True, marks=witness("WUFC.IGNORE_TCO"))])
def test_management_frames_wake_unless_they_are_not_to(ignore: bool) -> None:
    bench, controller = managed(filters=("ARP_EN",))
    nic = bench.nic
    wr(nic, "WUFC", BC | (0x8000 if ignore else 0))
    nic.slot.config_write(PMCSR, D3 | PME_EN, 2)
    bench.link.inject(ARP.frame())
    assert controller.frames == [ARP.frame()]
    assert controller.port.status().asleep
    assert bool(rd(nic, "WUS")) is not ignore
    bench.link.inject(frame(dst=BROADCAST))
    assert rd(nic, "WUS") == BC
    assert bench.guest.receive() == []


# --- what it sends --------------------------------------------------------------------------------


@witness("MGTPTC.COUNT")
def test_it_sends_as_any_station_does() -> None:
    bench, controller = managed()
    assert controller.port.send(ARP.frame()[:42])
    assert bench.link.take() == [ARP.frame()]
    counted = [rd(bench.nic, name) for name in ("MGTPTC", "GPTC", "TPT", "BPTC", "PTC64", "GOTCL")]
    assert counted == [1, 1, 1, 1, 1, 64]
    for size in (13, 1519):
        with pytest.raises(ArgumentError, match=f"{size} bytes"):
            controller.port.send(bytes(size))
    assert controller.port.send(bytes(1518))
    assert [len(sent) for sent in bench.link.take()] == [1518]


@pytest.mark.parametrize("why", ["no room", "no link", "a pause", "a loop", "stillness"])
def test_a_frame_waits_for_its_turn(why: str) -> None:
    bench, controller = managed()
    nic, port = bench.nic, controller.port
    if why == "no room":
        bench.link.room = 0
    elif why == "no link":
        bench.link.set_carrier(False)
    elif why == "a pause":
        wr(nic, "CTRL", rd(nic, "CTRL") | CTRL_RFCE)
        bench.link.inject(pause(1000))
    elif why == "a loop":
        wr(nic, "RCTL", RX_ON | 0x40)
    else:
        nic.pause()
    assert port.send(frame())
    assert not port.send(frame(70))
    assert bench.link.frames == []
    before = controller.alerts
    if why == "no room":
        bench.link.open_room(None)
    elif why == "no link":
        bench.link.set_carrier(True)
    elif why == "a loop":
        wr(nic, "RCTL", RX_ON)
    elif why == "stillness":
        nic.resume()
    bench.clock.run_for(5_000_000_000)
    assert bench.link.take() == [frame()]
    assert controller.alerts == before + 1
    assert port.send(frame(70))
    assert bench.link.take() == [frame(70)]


def test_a_paused_device_tells_nobody_until_it_goes_on() -> None:
    bench, controller = managed(filters=("ARP_EN",))
    bench.nic.pause()
    bench.link.inject(ARP.frame())
    assert (controller.alerts, controller.port.waiting) == (0, 1)
    bench.nic.resume()
    assert (controller.alerts, controller.frames) == (1, [ARP.frame()])


# --- status and resets ----------------------------------------------------------------------------


@witness("MANC.REPORT_STATUS")
def test_it_hears_of_the_link_when_it_wants_to() -> None:
    bench, controller = managed(filters=())
    bench.link.set_carrier(False)
    assert controller.alerts == 0
    assert not controller.port.status().link_up
    controller.port.receive_enable((), True)
    assert rd(bench.nic, "MANC") & REPORT_STATUS
    bench.link.set_carrier(True)
    bench.clock.run_for(5_000_000_000)
    assert controller.alerts == 1
    assert controller.port.status().link_up


@pytest.mark.parametrize(
    "allowed",
    [False, pytest.param(True, marks=witness("MANC.TCO_RESET", "MANC.R_ON_FORCE"))],
)
def test_force_tco_resets_the_part_if_the_board_allows_it(allowed: bool) -> None:
    bench, controller = managed(reset_on_force=allowed, filters=("ARP_EN",))
    nic = bench.nic
    assert bool(rd(nic, "MANC") & R_ON_FORCE) is allowed
    resets = nic.resets
    controller.port.force_tco()
    assert nic.resets == resets + allowed
    assert bool(rd(nic, "MANC") & TCO_RESET) is allowed
    assert controller.port.status().tco_reset is allowed
    assert rd(nic, "RCTL") == (0 if allowed else RX_ON)
    assert rd(nic, "STATUS") & 2
    bench.link.inject(ARP.frame())
    assert controller.frames == [ARP.frame()]
    nic.power_on_reset()
    assert rd(nic, "MANC") & TCO_RESET == 0


def reset_by_software(nic: Nic) -> None:
    wr(nic, "CTRL", CTRL_RST)


def leave_d3hot(nic: Nic) -> None:
    nic.request_reset(INTERNAL_RESET)


@pytest.mark.parametrize("reset", [reset_by_software, Nic.reset, leave_d3hot])
def test_a_session_outlives_every_reset_but_power_on(reset: Any) -> None:
    bench, controller = managed(reads=False, filters=("ARP_EN",))
    bench.link.inject(ARP.frame())
    bench.link.room = 0
    assert controller.port.send(frame())
    before = rd(bench.nic, "MANC")
    reset(bench.nic)
    assert rd(bench.nic, "MANC") == before
    bench.clock.run_for(5_000_000_000)
    assert rd(bench.nic, "CTRL") & CTRL_SLU
    assert rd(bench.nic, "STATUS") & 2
    bench.link.open_room(None)
    assert bench.link.take() == [frame()]
    bench.link.inject(ARP.frame())
    assert controller.port.waiting == 2
    bench.nic.power_on_reset()
    assert rd(bench.nic, "MANC") == SMBUS_EN | R_ON_FORCE
    assert controller.port.waiting == 0


LIFE = st.lists(
    st.tuples(
        st.sampled_from(
            ("come", "read", "send", "room", "carrier", "pause", "reset", "force", "manc", "save")
        ),
        st.integers(0, 7),
    ),
    max_size=30,
)


@settings(max_examples=examples(100), deadline=None)
@given(LIFE)
def test_nothing_is_lost_and_nothing_comes_twice(ops: list[tuple[str, int]]) -> None:
    """Each frame that passed is read once, or counted as dropped; each that was taken is sent."""
    bench, controller = managed(reads=False, filters=("ARP_EN",))
    nic, port = bench.nic, controller.port
    came, dropped, accepted = 0, 0, 0
    for number, (name, value) in enumerate(ops):
        if name == "come":
            taken = nic.stats["MGTPRC"], nic.stats["MGTPDC"]
            bench.link.inject(*[ARP.frame()] * value, hold=bool(value % 2))
            came += nic.stats["MGTPRC"] - taken[0]
            dropped += nic.stats["MGTPDC"] - taken[1]
        elif name == "read":
            controller.drain()
        elif name == "send":
            accepted += port.send(frame(60 + number))
        elif name == "room":
            bench.link.open_room(None if value % 2 else 0)
        elif name == "carrier":
            bench.link.set_carrier(bool(value % 2))
        elif name == "pause":
            (nic.resume if nic.run_state is RunState.PAUSED else nic.pause)()
        elif name == "reset":
            (reset_by_software, Nic.reset, leave_d3hot)[value % 3](nic)
        elif name == "force":
            port.force_tco()
        elif name == "manc":
            wr(nic, "MANC", ALL | RCV_TCO_EN if value % 2 else 0)
        else:
            nic.load_state(nic.state())
        bench.clock.run_for(value * 400_000_000)
        assert port.waiting * len(ARP.frame()) <= RECEIVE_BYTES
        assert came == dropped + port.waiting + len(controller.frames)
    if nic.run_state is RunState.PAUSED:
        nic.resume()
    bench.link.set_carrier(True)
    bench.link.open_room(None)
    bench.clock.run_for(5_000_000_000)
    sent = [len(one) for one in bench.link.frames]
    assert len(sent) == accepted
    assert sent == sorted(set(sent))
    assert controller.drain() == [ARP.frame()] * (came - dropped)


def test_a_halted_device_looks_no_more_for_room() -> None:
    bench, controller = managed()
    bench.nic.management._interrupts = SimpleNamespace(threaded=True)  # type: ignore[assignment]
    bench.link.room = 0
    assert controller.port.send(frame())
    assert bench.clock.next_ns() is not None
    bench.nic.halt()
    assert bench.clock.next_ns() is None


# --- snapshots, recordings ------------------------------------------------------------------------


def test_a_snapshot_has_what_waits() -> None:
    bench, controller = managed(reads=False, filters=("ARP_EN",))
    bench.link.inject(ARP.frame())
    bench.link.room = 0
    controller.port.send(frame())
    state = bench.nic.state()
    other, its = managed(reset_on_force=False)
    other.link.room = 0
    other.nic.load_state(state)
    assert its.frames == [ARP.frame()]
    assert rd(other.nic, "MANC") == rd(bench.nic, "MANC") & ~R_ON_FORCE
    other.link.inject(ARP.frame())
    assert len(its.frames) == 2
    other.link.open_room(None)
    assert other.link.take() == [frame()]
    with pytest.raises(SnapshotError, match="management controller"):
        make_bench().nic.load_state(state)


def test_a_snapshot_of_a_board_without_one_loads() -> None:
    bench, controller = managed(reads=False, filters=("ARP_EN",))
    bench.link.inject(ARP.frame())
    bench.nic.load_state(make_bench().nic.state())
    assert controller.port.waiting == 0
    assert rd(bench.nic, "MANC") == SMBUS_EN | R_ON_FORCE
    assert not bench.nic.rx.watching & WATCH_MANAGEMENT


@pytest.mark.parametrize(
    "damage",
    [
        {"waiting": [bytes(59)]},
        {"waiting": [bytes(1000), bytes(60)]},
        {"waiting": [7]},
        {"waiting": None},
        {"sending": "frame"},
        {"sending": bytes(2000)},
    ],
)
def test_a_damaged_snapshot_is_refused(damage: dict[str, Any]) -> None:
    bench, _ = managed(reads=False)
    state = msgspec.msgpack.decode(bench.nic.state(), type=NicState)
    state.management = {"waiting": [], "sending": None, "refused": False} | damage
    with pytest.raises(SnapshotError, match="damaged"):
        snapshot.load(bench.nic, msgspec.msgpack.encode(state))


def test_a_state_file_is_examined_with_a_controller(tmp_path: Path) -> None:
    bench, _ = managed(reads=False, filters=("ARP_EN",))
    bench.link.inject(ARP.frame())
    snapshot.save_file(bench.nic, tmp_path / "x")
    nic = nic_of_file(tmp_path / "x")
    assert nic.management.waiting == 1
    said = [line for line in nic.explain() if "MANC" in line]
    assert [line for line in bench.nic.explain() if "MANC" in line] == said
    assert len(said) == 1
    assert "(ARP_EN) gives frames to the board's management controller" in said[0]
    wr(bench.nic, "MANC", RCV_TCO_EN)
    assert bench.nic.explain() == []


def test_a_recording_has_the_controller_in_it(tmp_path: Path) -> None:
    controller = RecordingController(reads=False)
    bench, recorder = recorded(tmp_path / "x", management=controller)
    bench.guest.up(mac=BENCH_MAC, ims=0)
    controller.port.receive_enable(("ARP_EN",), True)
    bench.clock.run_for(5_000_000_000)
    assert controller.port.read() is None
    bench.link.inject(ARP.frame(), frame())
    controller.reads = True
    bench.link.inject(ARP.frame())
    assert controller.port.send(frame())
    bench.link.room = 0
    assert controller.port.send(frame())
    assert not controller.port.send(frame())
    bench.link.open_room(None)
    bench.nic.load_state(bench.nic.state())
    with pytest.raises(ArgumentError):
        controller.port.send(b"")
    controller.port.force_tco()
    controller.port.receive_disable()
    recorder.close()
    same(tmp_path / "x")
    kinds = [kind for _, _, kind, _ in events(tmp_path / "x")]
    # The link came up, two frames came, and one that was refused may be sent.
    assert kinds.count(Kind.ALERT) == 5
    assert len(controller.frames) == 2
    assert kinds.count(Kind.READ_FRAME) == controller.alerts - 2 + 2 + 1
