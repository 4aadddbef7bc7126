"""Wake-up: what each filter takes, what it leaves, PME#, and the frame that is kept (SDM 6.4)."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import pytest

from e1000emu.device.nic import Nic
from e1000emu.registers.models import MODELS
from e1000emu.registers.regs import reg
from e1000emu.testing.bench import BENCH_MAC, Bench, make_bench
from e1000emu.testing.guest import Rctl
from fastpath.base.batch import FB_HAS_FCS
from tests.e1000emu.common import BROADCAST, PEER, RX_ON, frame, rd, running, wr
from tests.e1000emu.witness import witness

PMCSR = 0xE0
D0, D3, PME_EN, PME_STATUS = 0, 3, 0x100, 0x8000
LNKC, MAG, EX, MC, BC, ARP, IPV4, IPV6 = (1 << n for n in range(8))
FLX = [1 << 16 + n for n in range(4)]
ALL = 0xFF | sum(FLX)
GROUP = bytes.fromhex("01005e000001")
OTHER = bytes.fromhex("02000000aa01")
IP4, IP6 = bytes([10, 9, 0, 2]), bytes.fromhex("fe80") + bytes(13) + b"\x02"
MAGIC = BROADCAST + 16 * BENCH_MAC
PATTERN = b"wake up!"


def ether(dst: bytes, kind: int, body: bytes, *, vlan: bool = False) -> bytes:
    tag = b"\x81\x00\x00\x07" if vlan else b""
    return (dst + PEER + tag + kind.to_bytes(2, "big") + body).ljust(60, b"\0")


def arp(target: bytes = IP4, op: int = 1, **more: bool) -> bytes:
    body = bytes.fromhex("0001080006040000")[:6] + op.to_bytes(2, "big")
    return ether(BROADCAST, 0x0806, body + PEER + bytes(4) + bytes(6) + target, **more)


def ipv4(dst: bytes = IP4, mac: bytes = BENCH_MAC, **more: bool) -> bytes:
    return ether(mac, 0x0800, b"\x45" + bytes(15) + dst + bytes(8), **more)


def ipv6(dst: bytes = IP6) -> bytes:
    return ether(BENCH_MAC, 0x86DD, b"\x60" + bytes(23) + dst + bytes(8))


FRAMES = {
    "magic to us": (ether(BENCH_MAC, 0x0842, MAGIC), MAG | EX),
    "magic to all": (ether(BROADCAST, 0x0842, b"x" + MAGIC), MAG | BC),
    "magic to another": (ether(OTHER, 0x0842, MAGIC), 0),
    "magic of another": (ether(BENCH_MAC, 0x0842, BROADCAST + 16 * OTHER), EX),
    "magic cut short": (ether(BENCH_MAC, 0x0842, MAGIC[:-1]), EX),
    "to us": (frame(), EX),
    "to another": (frame(dst=OTHER), 0),
    "to a group of ours": (frame(dst=GROUP), MC),
    "to another group": (frame(dst=bytes.fromhex("01005e7f0102")), 0),
    "to all": (frame(dst=BROADCAST), BC),
    "ARP for us": (arp(), ARP | BC),
    "ARP for us, tagged": (arp(vlan=True), ARP | BC),
    "ARP for another": (arp(bytes([10, 9, 0, 3])), BC),
    "ARP reply": (arp(op=2), BC),
    "IPv4 to us": (ipv4(), IPV4 | EX),
    "IPv4 to us, tagged": (ipv4(vlan=True), IPV4 | EX),
    "IPv4 to another address": (ipv4(bytes([10, 9, 0, 3])), EX),
    "IPv4 to another card": (ipv4(mac=OTHER), 0),
    "IPv6 to us": (ipv6(), IPV6 | EX),
    "IPv6 to another address": (ipv6(IP6[:-1] + b"\x03"), EX),
    "a pattern": (ether(BENCH_MAC, 0x88B5, PATTERN), FLX[2] | EX),
    "a pattern, one byte off": (ether(BENCH_MAC, 0x88B5, b"x" + PATTERN[1:]), EX),
    "a pattern, a byte that does not count": (ether(BENCH_MAC, 0x88B5, b"wakE up!"), FLX[2] | EX),
    "a pattern to another": (ether(OTHER, 0x88B5, PATTERN), 0),
}


WITNESSES = {
    name: witness(*words.split())
    for name, words in {
        "magic to us": "WUFC.MAG WUS.MAG",
        "to us": "WUFC.EX WUS.EX",
        "to a group of ours": "WUFC.MC WUS.MC",
        "to all": "WUFC.BC WUS.BC",
        "ARP for us": "WUFC.ARP WUS.ARP",
        "IPv4 to us": "WUFC.IPV4 WUS.IPV4",
        "IPv6 to us": "WUFC.IPV6 WUS.IPV6 IPAV.V60 IP6AT.IPADD",
    }.items()
}


def pme_of(bench: Bench) -> list[bool]:
    levels: list[bool] = []
    bench.nic.wakeup._on_pme = levels.append
    return levels


@pytest.fixture
def bench() -> Bench:
    """A driver has set every table up, chosen no filter, and the function is in D0."""
    made = running(rctl=RX_ON)
    nic = made.nic
    at = {name: reg(name).offsets for name in ("MTA", "IP4AT", "IP6AT", "FFLT", "FFMT", "FFVT")}
    # GROUP's bit in the hash (RCTL.MO 0: bits 47:36 of the address)
    index = int.from_bytes(GROUP[4:6], "little") >> 4 & 0xFFF
    nic.mmio_write(at["MTA"][index >> 5], 1 << (index & 31))
    nic.mmio_write(at["IP4AT"][1], int.from_bytes(IP4, "little"))
    for i, offset in enumerate(at["IP6AT"]):
        nic.mmio_write(offset, int.from_bytes(IP6[4 * i : 4 * i + 4], "little"))
    wr(nic, "IPAV", 1 << 1 | 1 << 16)
    wr(nic, "WUC", 0)  # as Linux's driver, for which APM is the firmware's
    nic.mmio_write(at["FFLT"][2], 14 + len(PATTERN))
    for i, byte in enumerate(PATTERN, 14):
        nic.mmio_write(at["FFMT"][i], (byte != ord("e")) << 2)
        nic.mmio_write(at["FFVT"][i], byte << 16)
    return made


def sleep(bench: Bench, filters: int, *, pme: bool = True) -> None:
    wr(bench.nic, "WUFC", filters)
    bench.nic.slot.config_write(PMCSR, D3 | (PME_EN if pme else 0), 2)


def woken(nic: Nic) -> int:
    return rd(nic, "WUS")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=WITNESSES.get(name, ())) for name in FRAMES]
)
def test_each_filter_takes_its_frames(bench: Bench, name: str) -> None:
    data, events = FRAMES[name]
    sleep(bench, ALL)
    levels = pme_of(bench)
    bench.link.inject(data)
    assert woken(bench.nic) == events
    assert levels == [True] * bool(events)
    assert bool(bench.nic.slot.config_read(PMCSR, 2) & PME_STATUS) == bool(events)


@pytest.mark.parametrize("name", [name for name, (_, events) in FRAMES.items() if events])
def test_a_filter_that_is_off_takes_nothing(bench: Bench, name: str) -> None:
    data, events = FRAMES[name]
    sleep(bench, ALL & ~events)
    bench.link.inject(data)
    assert woken(bench.nic) == 0
    assert not bench.nic.wakeup.pme


def test_nothing_wakes_a_function_in_d0(bench: Bench) -> None:
    wr(bench.nic, "WUFC", ALL)
    bench.link.inject(FRAMES["magic to us"][0])
    assert woken(bench.nic) == 0
    assert len(bench.guest.receive()) == 1


def test_the_receiver_has_to_be_on(bench: Bench) -> None:
    wr(bench.nic, "RCTL", 0)
    sleep(bench, ALL)
    for data, _ in FRAMES.values():
        bench.link.inject(data)
    assert woken(bench.nic) == 0


def test_frames_that_wake_are_not_stored(bench: Bench) -> None:
    sleep(bench, ALL)
    bench.link.inject(*(data for data, _ in FRAMES.values()))
    assert bench.nic.rx.engine.fifo_frames == 0
    assert bench.guest.receive() == []


@witness("WUPL.LEN", "WUPM.WUPD")
def test_the_first_frame_that_wakes_is_kept_until_wus_is_cleared(bench: Bench, nic: Nic) -> None:
    first, second = ether(BENCH_MAC, 0x88B5, bytes(range(200))), frame(61, dst=BROADCAST)
    sleep(bench, EX | BC)

    def kept() -> bytes:
        return b"".join(nic.mmio_read(at).to_bytes(4, "little") for at in reg("WUPM").offsets)

    bench.link.inject(frame(dst=OTHER), first, second)
    assert (nic.regs["WUPL"], kept()) == (len(first), first[:128])
    nic.slot.config_write(PMCSR, D0 | PME_STATUS, 2)
    nic.slot.config_write(4, 7, 2)
    assert (rd(nic, "WUPL"), kept()) == (len(first), first[:128])  # over the reset of D3 to D0
    assert rd(nic, "WUS") == EX
    wr(nic, "WUS", BC)
    assert rd(nic, "WUS") == EX
    wr(nic, "WUS", EX)
    wr(nic, "CTRL", rd(nic, "CTRL") | 1 << 6)  # SLU
    wr(nic, "RCTL", RX_ON)
    sleep(bench, EX | BC)
    bench.link.inject(second)
    assert (nic.regs["WUPL"], kept()) == (len(second), second.ljust(128, b"\0"))


@witness("PCI:PMCSR.PME_STATUS")
def test_pme_falls_when_software_clears_its_status(bench: Bench) -> None:
    levels = pme_of(bench)
    sleep(bench, MAG)
    bench.link.inject(FRAMES["magic to us"][0])
    bench.nic.slot.config_write(PMCSR, D3 | PME_EN | PME_STATUS, 2)
    assert levels == [True, False]


@witness("PCI:PMCSR.PME_EN")
def test_without_pme_enable_there_is_a_status_and_no_signal(bench: Bench) -> None:
    levels = pme_of(bench)
    sleep(bench, MAG, pme=False)
    bench.link.inject(FRAMES["magic to us"][0])
    assert bench.nic.slot.config_read(PMCSR, 2) & PME_STATUS
    assert levels == []
    bench.nic.slot.config_write(PMCSR, D3 | PME_EN, 2)
    assert levels == [True]


def test_a_damaged_frame_wakes_nobody(bench: Bench) -> None:
    sleep(bench, ALL)
    bench.link.inject(FRAMES["magic to us"][0], flags=[2])
    assert woken(bench.nic) == 0


@pytest.mark.parametrize("wanted", [0, pytest.param(LNKC, marks=witness("WUFC.LNKC", "WUS.LNKC"))])
def test_a_change_of_the_link_wakes(bench: Bench, wanted: int) -> None:
    sleep(bench, wanted)
    bench.link.set_carrier(False)
    assert woken(bench.nic) == wanted


def with_apm(change: Callable[[Nic], None], model: str = "82540EM") -> Bench:
    bench = make_bench(model=model)
    change(bench.nic)
    bench.nic.power_on_reset()
    bench.clock.run_for(5_000_000_000)
    return bench


@pytest.mark.parametrize("model", [name for name, part in MODELS.items() if not part.fiber])
def test_apm_wakes_by_a_magic_packet_before_any_driver(model: str) -> None:
    def enable(nic: Nic) -> None:
        word, bit = nic.model.apm_enable
        nic.eeprom.words[word] |= bit
        nic.eeprom.words[0x0F] |= 0x8000

    bench = with_apm(enable, model)
    levels = pme_of(bench)
    bench.link.inject(frame(), FRAMES["magic of another"][0])
    assert (woken(bench.nic), levels) == (0, [])
    bench.link.inject(FRAMES["magic to all"][0])
    assert (woken(bench.nic), levels) == (MAG, [True])


@witness("WUC.PME_EN")
def test_apm_without_apmpme_asks_for_pme_enable() -> None:
    def enable(nic: Nic) -> None:
        nic.eeprom.words[0x24] |= 0x0400

    bench = with_apm(enable)
    levels = pme_of(bench)
    bench.link.inject(FRAMES["magic to us"][0])
    assert (woken(bench.nic), levels) == (MAG, [])
    wr(bench.nic, "WUC", 1 | 2)
    assert levels == [True]


@witness("WUC.APME")
def test_apm_lets_frames_through_in_d0() -> None:
    bench = running(rctl=RX_ON)
    wr(bench.nic, "WUC", 1)
    sent = [frame(), FRAMES["magic to us"][0]]
    bench.link.inject(*sent)
    assert [f.data for f in bench.guest.receive()] == sent
    assert woken(bench.nic) == MAG


def test_a_snapshot_asleep_wakes_as_the_first_would(bench: Bench) -> None:
    sleep(bench, ALL)
    other = make_bench()
    other.nic.load_state(bench.nic.state())
    levels = pme_of(other)
    other.link.inject(FRAMES["a pattern"][0])
    assert (woken(other.nic), levels) == (FLX[2] | EX, [True])


def test_promiscuous_frames_wake_by_exact_match_only_when_they_are_ours(bench: Bench) -> None:
    wr(bench.nic, "RCTL", RX_ON | Rctl.UPE | Rctl.MPE)
    sleep(bench, EX)
    bench.link.inject(frame(dst=OTHER))
    assert woken(bench.nic) == 0
    bench.link.inject(frame())
    assert woken(bench.nic) == EX


@witness("WUFC.FLX{n}", "WUS.FLX{n}", "FFLT.LEN", "FFMT.MASK", "FFVT.VALUES")
@pytest.mark.parametrize("n", range(4))
def test_each_flexible_filter_has_its_length_mask_and_bytes(n: int) -> None:
    bench = running(rctl=RX_ON)
    nic, at = bench.nic, {name: reg(name).offsets for name in ("FFLT", "FFMT", "FFVT")}
    nic.mmio_write(at["FFLT"][n], 14 + len(PATTERN))
    for i, byte in enumerate(PATTERN, 14):
        nic.mmio_write(at["FFMT"][i], 1 << n)
        nic.mmio_write(at["FFVT"][i], byte << 8 * n)
    sleep(bench, sum(FLX))
    bench.link.inject(FRAMES["a pattern, one byte off"][0])
    assert woken(nic) == 0
    bench.link.inject(FRAMES["a pattern"][0])
    assert woken(nic) == FLX[n]


@witness("IPAV.V4{n}", "IP4AT.IPADD")
@pytest.mark.parametrize("n", range(4))
def test_each_ipv4_address_counts_when_it_is_valid(n: int) -> None:
    bench = running(rctl=RX_ON)
    nic = bench.nic
    nic.mmio_write(reg("IP4AT").offsets[n], int.from_bytes(IP4, "little"))
    wr(nic, "IPAV", 0xF & ~(1 << n))
    sleep(bench, ARP)
    bench.link.inject(arp())
    assert woken(nic) == 0
    wr(nic, "IPAV", 1 << n)
    bench.link.inject(arp())
    assert woken(nic) == ARP


@witness("WUC.APMPME", "WUC.PME_STATUS")
def test_apmpme_asserts_and_the_status_in_wuc_takes_it_back() -> None:
    bench = running(rctl=RX_ON)
    nic, levels = bench.nic, pme_of(bench)
    wr(nic, "WUC", 1 | 8)
    bench.link.inject(FRAMES["magic to us"][0])
    assert levels == [True]
    assert rd(nic, "WUC") == 1 | 4 | 8
    wr(nic, "WUC", 1 | 4 | 8)
    assert levels == [True, False]
    assert rd(nic, "WUC") == 1 | 8


def test_later_frames_are_ignored_until_wus_is_cleared(bench: Bench) -> None:
    sleep(bench, EX | BC | LNKC)
    bench.link.inject(frame())
    bench.nic.slot.config_write(PMCSR, D3 | PME_EN | PME_STATUS, 2)
    bench.link.inject(frame(dst=BROADCAST))
    assert woken(bench.nic) == EX
    assert not bench.nic.slot.config_read(PMCSR, 2) & PME_STATUS
    bench.link.set_carrier(False)  # LNKC is a bit of its own
    assert woken(bench.nic) == EX | LNKC
    bench.nic.slot.config_write(PMCSR, D3 | PME_EN | PME_STATUS, 2)
    bench.link.set_carrier(True)
    bench.clock.run_for(5_000_000_000)
    assert not bench.nic.slot.config_read(PMCSR, 2) & PME_STATUS


def test_a_change_of_the_link_keeps_no_frame_out_of_wupm(bench: Bench) -> None:
    sleep(bench, EX | LNKC)
    bench.link.set_carrier(False)
    bench.nic.wakeup.frame(frame(100))
    assert woken(bench.nic) == EX | LNKC
    assert bench.nic.regs["WUPL"] == 100


def test_wupl_counts_to_2047(bench: Bench) -> None:
    wr(bench.nic, "RCTL", RX_ON | Rctl.LPE)
    sleep(bench, EX)
    bench.link.inject(frame(3000))
    assert bench.nic.regs["WUPL"] == 2047


@pytest.mark.parametrize(("size", "woke"), [(199, False), (200, True)])
def test_a_flexible_filter_takes_no_frame_shorter_than_its_length(
    bench: Bench, size: int, woke: bool
) -> None:
    bench.nic.mmio_write(reg("FFLT").offsets[2], 200)  # more than the filter can compare
    sleep(bench, FLX[2])
    bench.link.inject(FRAMES["a pattern"][0].ljust(size, b"\0"))
    assert woken(bench.nic) == (FLX[2] if woke else 0)


@pytest.mark.parametrize(("fcs", "woke"), [(crc32(frame(100)), True), (0, False)])
def test_an_fcs_that_comes_with_the_frame_is_checked_and_not_kept(
    bench: Bench, fcs: int, woke: bool
) -> None:
    sleep(bench, EX)
    bench.link.inject(frame(100) + fcs.to_bytes(4, "little"), flags=[FB_HAS_FCS])
    assert woken(bench.nic) == (EX if woke else 0)
    assert bench.nic.regs["WUPL"] == (100 if woke else 0)
