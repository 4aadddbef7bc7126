"""Snapshots: a restored Nic goes on as the first would have, and damage is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu import SnapshotError
from e1000emu.device.nic import Nic
from e1000emu.record import snapshot
from e1000emu.record.snapshot import VERSION, NicState
from e1000emu.registers.regs import TABLE
from e1000emu.testing.bench import Bench, make_bench
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from tests.e1000emu.common import frame, rd, running, wr
from tests.support import examples


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


def test_copy_sends_and_receives_where_the_first_stopped(bench: Bench) -> None:
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


def test_unplugged_copy_loses_the_link(bench: Bench) -> None:
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
    for change, word in (({"version": VERSION + 1}, "reads 1"), ({"model": "82574L"}, "82574L")):
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
    # no statistics by name are statistics that are 0
    empty = {"regs": b"", "stats": {"TPT": -1}}.get(field, {})
    data = msgspec.msgpack.encode(msgspec.structs.replace(state, **{field: empty}))
    with pytest.raises(SnapshotError, match="damaged"):
        nic.load_state(data)
    assert rd(nic, "PBA") == 0x00100030


_nics: list[Nic] = []


def _nic() -> Nic:
    if not _nics:
        _nics.append(make_bench().nic)
    return _nics[0]


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything in plain data that is not a container."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path


def _misused() -> Bench:
    bench = running(ims=0x80)
    bench.nic.mmio_read(0x5818)
    return bench


# Every register below the packet buffer's memory, and some offsets of none.
OFFSETS = {r.offset + n * r.step for r in TABLE for n in range(r.count)} | {*range(0, 0x6000, 0x40)}
REGISTERS = sorted(offset for offset in OFFSETS if offset < 0x6000)
STATE = msgspec.msgpack.decode(_misused().nic.state())
LEAVES = [path for path in _leaves(STATE) if path[0] not in ("version", "model")]
BLOCKS = sorted({path[0] for path in LEAVES})
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.sampled_from([-1, 0, 1, 3, 100, 0xFFFF, 0x10000, 1 << 31]),
    st.binary(max_size=300),
    st.text(max_size=4),
    st.lists(st.integers(0, 70000), max_size=40),
    st.dictionaries(st.text(max_size=3), st.integers(-1, 70000), max_size=3),
)


@settings(max_examples=examples(300))
@given(
    st.lists(
        st.tuples(
            # a block first: most leaves are words of the EEPROM
            st.sampled_from(BLOCKS).flatmap(
                lambda block: st.sampled_from([path for path in LEAVES if path[0] == block])
            ),
            VALUES,
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
def test_a_state_with_any_value_is_taken_or_refused(
    changes: list[tuple[tuple[Any, ...], Any]], rebase: bool
) -> None:
    """Whatever a state says, the Nic takes it whole and works, or is as at power-on."""
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(STATE))
    for path, value in changes:
        at = state
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
    bench = make_bench()
    nic = bench.nic
    try:
        snapshot.load(nic, msgspec.msgpack.encode(state), rebase=rebase)
    except SnapshotError:
        assert rd(nic, "IMS") == 0
    for offset in REGISTERS:
        nic.mmio_read(offset)
    for n in range(32):
        wr(nic, "MDIC", 2 << 26 | 1 << 21 | n << 16)
        wr(nic, "MDIC", 1 << 26 | 1 << 21 | n << 16)
    for offset in range(0, 256, 4):
        nic.slot.config_read(offset, 4)
    wr(nic, "TDT", 1)
    bench.link.inject(frame())
    bench.clock.run_for(1_000_000)
    assert nic.state()


@settings(max_examples=examples(50))
@given(st.binary(max_size=400), st.integers(0, 400))
def test_no_file_harms(tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int) -> None:
    """A file of anything, or a real one with a piece exchanged, is loaded or refused by name."""
    path = tmp_path_factory.mktemp("state") / "state"
    bench = make_bench()
    snapshot.save_file(bench.nic, path)
    good = path.read_bytes()
    for bad in (data, good[:cut] + data, good[:cut] + data + good[cut + len(data) :]):
        path.write_bytes(bad)
        if bad == good:
            snapshot.load_file(bench.nic, path)
        else:
            with pytest.raises(SnapshotError, match="state"):
                snapshot.load_file(bench.nic, path)


def test_a_file_is_the_owner_s_and_tells_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("old")
    path.chmod(0o644)
    bench = running(ims=0x80)
    snapshot.save_file(bench.nic, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["state"]
    head, facts, _ = path.read_bytes().split(b"\n", 2)
    assert head.startswith(b"e1000emu-nic-state 1 ")
    told = json.loads(facts)
    assert told["model"] == "82540EM"
    assert told["mac"] == "52:54:00:12:34:56"
    assert bytes.fromhex(told["pci"])[:4] == bytes.fromhex("86800e10")
    copy = make_bench()
    snapshot.load_file(copy.nic, path)
    assert rd(copy.nic, "IMS") == 0x80


def test_rebase_moves_every_time(tmp_path: Path) -> None:
    bench = running(ims=0x80)
    wr(bench.nic, "RDTR", 500)
    bench.link.inject(frame())
    wr(bench.nic, "CTRL", rd(bench.nic, "CTRL") | 1 << 27)  # RFCE
    bench.nic.tx.pause(bench.clock.now_ns() + 5_000)
    state = bench.nic.state()
    other = make_bench()
    other.clock.run_for(10_000_000_000)
    snapshot.load(other.nic, state, rebase=True)
    shift = other.clock.now_ns() - bench.clock.now_ns()
    was = msgspec.msgpack.decode(state)
    now = msgspec.msgpack.decode(other.nic.state())
    assert now["interrupts"]["rx"][0] == was["interrupts"]["rx"][0] + shift
    assert now["interrupts"]["rx"][1] == -1
    assert now["tx"]["paused_until_ns"] == was["tx"]["paused_until_ns"] + shift
    other.clock.run_for(5_000)
    assert not other.nic.tx.paused
    assert not other.nic.interrupts.asserted
    other.clock.run_for(500 * 1024)
    assert other.nic.interrupts.asserted
