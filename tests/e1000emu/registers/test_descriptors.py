"""Descriptor layouts and their text."""

from __future__ import annotations

import enum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.registers import descriptors as d
from e1000emu.testing.bench import Bench
from e1000emu.testing.guest import GuestRings, Popts, RxErrors, RxStatus, Tucmd, TxCmd
from tests.e1000emu.common import frame


def test_every_layout_is_16_bytes() -> None:
    for layout in (d.RX, d.TX_LEGACY, d.TX_CONTEXT, d.TX_DATA):
        assert layout.itemsize == d.DESCRIPTOR_BYTES


def test_every_bit_of_a_layout_is_claimed_once() -> None:
    assert list(d.check_layouts()) == []


@pytest.mark.parametrize(
    ("layout", "prefix", "flags"),
    [
        ("rxdesc", "STATUS", RxStatus),
        ("rxdesc", "ERRORS", RxErrors),
        ("txdesc.legacy", "CMD", TxCmd),
        ("txdesc.context", "TUCMD", Tucmd),
        ("txdesc.data", "DCMD", TxCmd),
        ("txdesc.data", "POPTS", Popts),
    ],
)
def test_bits_are_those_that_drivers_write(
    layout: str, prefix: str, flags: type[enum.IntFlag]
) -> None:
    """e1000emu.testing has a driver's own numbers, written down independently."""
    bits = [f for f in d.LAYOUTS[layout].fields if f.name.startswith(prefix + ".")]
    first = min(f.lo for f in bits) // 8 * 8
    for f in bits:
        name = f.name.partition(".")[2]
        assert flags[name] == 1 << (f.lo - first)


def test_ring_as_an_array_shows_what_the_device_wrote(bench: Bench) -> None:
    bench.link.inject(frame(100), frame(200))
    base, size = bench.guest.rx.base, bench.guest.rx.size_bytes
    ring = np.frombuffer(bench.memory.read(base, size), d.RX)
    assert ring["length"][:3].tolist() == [100, 200, 0]
    assert ring["status"][:2].tolist() == [7, 7]


def test_dump_names_fields_and_marks_head_and_tail(bench: Bench, guest: GuestRings) -> None:
    guest.post_legacy(frame(100), cmd=TxCmd.EOP | TxCmd.RS | TxCmd.VLE, special=0x123)
    guest.post_context(ipcss=14, paylen=77, hdrlen=54, mss=1460, tucmd=Tucmd.TCP | Tucmd.DEXT)
    guest.post_data(frame(60), popts=Popts.TXSM)
    lines = list(d.dump_tx(bench.nic))
    assert len(lines) == 256
    assert "HT legacy" in lines[0]
    assert "EOP|RS|VLE vlan=0x0123 sta=0" in lines[0]
    assert "context ip=14/0/0" in lines[1]
    assert "paylen=77 hdrlen=54 mss=1460 TCP|DEXT" in lines[1]
    assert "EOP|IFCS|RS|DEXT popts=TXSM" in lines[2]
    bench.link.inject(frame(100))
    received = list(d.dump_rx(bench.nic))
    assert "done" in received[0]
    assert "DD|EOP|IXSM" in received[0]
    assert "H  free" in received[1]
    assert " T " in received[255]


@given(st.binary(min_size=16, max_size=16))
def test_any_16_bytes_have_a_text(raw: bytes) -> None:
    assert "\n" not in d.describe_tx(raw) + d.describe_rx(raw)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_wrong_size_is_refused(size: int) -> None:
    for describe in (d.describe_tx, d.describe_rx):
        with pytest.raises(ValueError, match="16 bytes"):
            describe(bytes(size))
