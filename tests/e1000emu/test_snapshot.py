"""Snapshots: a restored Nic goes on as the first would have, and damage is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu import SnapshotError
from e1000emu.nic import Nic
from e1000emu.snapshot import VERSION, NicState
from e1000emu.testing.fixtures import Bench, make_bench
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from tests.e1000emu.common import frame, rd, running, wr


def twin(bench: Bench) -> Nic:
    """Return a second Nic over the same memory and clock, in the first one's state."""
    link = RecordingLink()
    nic = Nic(memory=bench.dma, irq=RecordingLine(bench.clock), link=link, clock=bench.clock)
    nic.load_state(bench.nic.state())
    return nic


def test_state_of_the_copy_is_the_state() -> None:
    bench = running(ims=0x80)
    wr(bench.nic, "RDTR", 500)
    bench.link.inject(frame())
    bench.guest.post_legacy(frame(), cmd=2)
    wr(bench.nic, "TDT", 1)
    bench.nic.slot.bar_write(2, 0, 0x38, 4)
    assert twin(bench).state() == bench.nic.state()


def test_running_delay_goes_on_in_the_copy() -> None:
    bench = running(ims=0x80)
    wr(bench.nic, "RDTR", 500)
    bench.link.inject(frame())
    copy = twin(bench)
    bench.clock.run_for(500 * 1024 - 1)
    assert not copy.interrupts.asserted
    bench.clock.run_for(1)
    assert copy.interrupts.asserted
    assert bench.nic.interrupts.asserted


def test_copy_sends_and_receives_where_the_first_stopped() -> None:
    bench = running()
    for size in (60, 70):
        bench.guest.post_legacy(frame(size))
        wr(bench.nic, "TDT", bench.guest.tx.next_to_use)
        bench.link.inject(frame(size))
    copy = twin(bench)
    assert rd(copy, "TDH") == 2
    bench.guest.post_legacy(frame(80))
    wr(copy, "TDT", bench.guest.tx.next_to_use)
    assert copy.link.frames == [frame(80)]  # type: ignore[attr-defined]
    copy.link.inject(frame(90))  # type: ignore[attr-defined]
    assert [len(f.data) for f in bench.guest.receive()] == [60, 70, 90]


def test_negotiation_goes_on_in_the_copy() -> None:
    bench = make_bench()
    wr(bench.nic, "CTRL", 0x40)
    bench.clock.run_for(400_000_000)
    copy = twin(bench)
    bench.clock.run_for(599_999_999)
    assert not copy.link_up
    bench.clock.run_for(1)
    assert copy.link_up


def test_unplugged_copy_loses_the_link() -> None:
    bench = running()
    other = Nic(
        memory=bench.dma,
        irq=RecordingLine(),
        link=RecordingLink(carrier=False),
        clock=bench.clock,
    )
    other.load_state(bench.nic.state())
    bench.clock.run_for(10_000_000_000)
    assert not other.link_up


def test_other_model_or_newer_version_is_refused() -> None:
    nic = make_bench().nic
    state = msgspec.msgpack.decode(nic.state(), type=NicState)
    for change, word in (({"version": VERSION + 1}, "update"), ({"model": "82574L"}, "82574L")):
        data = msgspec.msgpack.encode(msgspec.structs.replace(state, **change))
        with pytest.raises(SnapshotError, match=word):
            nic.load_state(data)


@given(st.binary(max_size=64))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(SnapshotError):
        _nic().load_state(noise)


def test_text_that_is_no_utf8_is_refused() -> None:
    data = _nic().state()
    with pytest.raises(SnapshotError, match="no snapshot"):
        _nic().load_state(data.replace(b"82540EM", b"\xff2540EM"))


@pytest.mark.parametrize("field", ["regs", "stats", "tx", "rx", "interrupts", "eeprom", "phy"])
def test_damaged_parts_are_refused_and_the_nic_survives(field: str) -> None:
    nic = _nic()
    state = msgspec.msgpack.decode(nic.state(), type=NicState)
    empty = b"" if isinstance(getattr(state, field), bytes) else {}
    data = msgspec.msgpack.encode(msgspec.structs.replace(state, **{field: empty}))
    with pytest.raises(SnapshotError, match="damaged"):
        nic.load_state(data)
    assert rd(nic, "PBA") == 0x00100030


_nics: list[Nic] = []


def _nic() -> Nic:
    if not _nics:
        _nics.append(make_bench().nic)
    return _nics[0]
