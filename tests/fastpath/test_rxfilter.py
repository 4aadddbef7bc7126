"""fastpath.nic.rxfilter: addresses, multicast hash and VLAN table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import rxfilter as ref
from fastpath._ref.e1000_hw import REGISTERS, Registers
from fastpath.nic.regfile import RegFile
from fastpath.nic.rxfilter import ACCEPT, BROADCAST, MULTICAST, PIF, VLAN, RxFilter
from tests.fastpath.rings import registers, set_address

UPE, MPE, BAM, VFE, CFIEN, CFI = 1 << 3, 1 << 4, 1 << 15, 1 << 18, 1 << 19, 1 << 20
MAC = bytes.fromhex("525400123456")
GROUP = bytes.fromhex("01005e7f1234")
ALL = b"\xff" * 6

macs = st.sampled_from([MAC, GROUP, ALL, bytes(6), bytes.fromhex("020000000001"), b"\x03" * 6])
words = st.integers(0, 0xFFFFFFFF)


def frame(dst: bytes, src: bytes = bytes.fromhex("020000000001"), rest: bytes = b"\x08\0") -> bytes:
    return (dst + src + rest).ljust(60, b"\0")


def program(f, entries=(), mta=(), vfta=()) -> None:
    """Write addresses (address, AS, AV) from entry 0 on, and words of the tables."""
    regs = f.regs if isinstance(f.regs, Registers) else Registers(f.regs)
    for i, (mac, select, valid) in enumerate(entries):
        set_address(regs, i, mac, select, valid=valid)
    for name, words in (("MTA", mta), ("VFTA", vfta)):
        for i, value in words:
            regs.file.poke(REGISTERS[name] + 4 * i, value)


def made() -> RxFilter:
    return RxFilter(registers().file)


@given(
    st.lists(st.tuples(macs, st.integers(0, 3), st.integers(0, 1)), max_size=16),
    st.lists(st.tuples(st.integers(0, 127), words), max_size=4),
    st.lists(st.tuples(st.integers(0, 127), words), max_size=4),
    macs,
    macs,
    st.binary(max_size=8).map(lambda b: b"\x81\x00" + b) | st.binary(max_size=8),
    words,
    st.integers(1, 16),
)
def test_verdict_equals_reference(entries, mta, vfta, dst, src, rest, rctl, n_rar) -> None:
    ours, twin = made(), ref.RxFilter(registers(reference=True).file)
    for f in (ours, twin):
        program(f, entries, mta, vfta)
        f.n_rar = n_rar
    data = dst + src + rest
    assert ours.verdict(data, rctl) == twin.verdict(data, rctl)
    file = registers().file
    other = RxFilter(file)
    other.n_rar = n_rar
    file.load(ours.regs.state())
    assert other.verdict(data, rctl) == ours.verdict(data, rctl)


def test_entry_without_av_does_not_match() -> None:
    f = made()
    program(f, [(MAC, 0, 0)], [], [])
    assert f.verdict(frame(MAC), 0) == 0
    f.regs.set_bits(REGISTERS["RAH"], 1 << 31)
    assert f.verdict(frame(MAC), 0) == ACCEPT
    f.regs.clear_bits(REGISTERS["RAH"], 1 << 31)
    assert f.verdict(frame(MAC), 0) == 0


def test_a_written_address_counts_at_once_when_its_row_is_decoded() -> None:
    f = made()
    for name in ("RAL", "RAH"):
        f.regs.define(REGISTERS[name] // 4, rw=0xFFFFFFFF, decoded=True)
    f.regs.write32(REGISTERS["RAL"], int.from_bytes(MAC[:4], "little"))
    f.regs.write32(REGISTERS["RAH"], int.from_bytes(MAC[4:], "little") | 1 << 31)
    assert f.verdict(frame(MAC), 0) == ACCEPT
    f.regs.reset()
    assert f.verdict(frame(MAC), 0) == 0


def test_last_entry_works() -> None:
    f = made()
    program(f, [(bytes(6), 0, 0)] * 15 + [(MAC, 0, 1)], [], [])
    assert f.verdict(frame(MAC), 0) == ACCEPT
    f.n_rar = 15
    assert f.verdict(frame(MAC), 0) == 0
    with pytest.raises(ValueError, match="n_rar"):
        f.n_rar = 17


def test_address_select_matches_the_source() -> None:
    f = made()
    program(f, [(MAC, 1, 1)], [], [])
    assert f.verdict(frame(MAC), 0) == 0
    assert f.verdict(frame(b"\x02" * 6, src=MAC), 0) == ACCEPT


def test_broadcast_needs_bam() -> None:
    f = made()
    assert f.verdict(frame(ALL), 0) == BROADCAST
    assert f.verdict(frame(ALL), BAM) == ACCEPT | BROADCAST
    assert f.verdict(frame(ALL), MPE) == ACCEPT | PIF | BROADCAST


@pytest.mark.parametrize("mo", range(4))
def test_multicast_hash_takes_the_bits_that_mo_names(mo: int) -> None:
    low = {0: 36, 1: 35, 2: 34, 3: 32}[mo]
    index = int.from_bytes(GROUP, "little") >> low & 0xFFF
    f = made()
    program(f, mta=[(index >> 5, 1 << (index & 31))])
    assert f.verdict(frame(GROUP), mo << 12) == ACCEPT | PIF | MULTICAST
    program(f, mta=[(index >> 5, ~(1 << (index & 31)) & 0xFFFFFFFF)])
    assert f.verdict(frame(GROUP), mo << 12) == MULTICAST


def test_promiscuous_modes_are_inexact() -> None:
    f = made()
    assert f.verdict(frame(MAC), UPE) == ACCEPT | PIF
    assert f.verdict(frame(MAC), MPE) == 0
    assert f.verdict(frame(GROUP), MPE) == ACCEPT | PIF | MULTICAST
    assert f.verdict(frame(GROUP), UPE) == MULTICAST


def test_vlan_table() -> None:
    f = made()
    program(f, [(MAC, 0, 1)], [], [(5, 1 << 4)])
    good = frame(MAC, rest=b"\x81\0" + (5 * 32 + 4 | 0xE000).to_bytes(2, "big"))
    bad = frame(MAC, rest=b"\x81\0" + (5 * 32 + 5).to_bytes(2, "big"))
    assert f.verdict(good, VFE) == ACCEPT | VLAN
    assert f.verdict(bad, VFE) == VLAN
    assert f.verdict(bad, 0) == ACCEPT | VLAN
    assert f.verdict(frame(MAC), VFE) == ACCEPT
    assert f.verdict(bad, VFE, vet=0x88A8) == ACCEPT


def test_cfi_is_compared_when_enabled() -> None:
    f = made()
    program(f, [(MAC, 0, 1)], [], [])
    one, zero = (frame(MAC, rest=b"\x81\0" + b) for b in (b"\x10\x01", b"\0\x01"))
    assert f.verdict(one, 0) & ACCEPT
    assert not f.verdict(one, CFIEN) & ACCEPT
    assert f.verdict(zero, CFIEN) & ACCEPT
    assert f.verdict(one, CFIEN | CFI) & ACCEPT
    assert not f.verdict(zero, CFIEN | CFI) & ACCEPT


def test_short_and_wrong_input() -> None:
    f = made()
    assert f.verdict(ALL, BAM) == 0
    with pytest.raises(ValueError, match="are needed"):
        RxFilter(RegFile(16))
