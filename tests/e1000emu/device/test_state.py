"""The structs of the blocks' states: every time moves with the clock, and nothing else does."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from e1000emu.device.interrupts import NEVER_NS, InterruptsState
from e1000emu.device.state import BlockState, Due, Time, moved
from e1000emu.device.txdma import ON_THE_WIRE, PicoTime, TransmitDmaState
from e1000emu.record.snapshot import NicState

AT, LATER = 1000, 5
MOVED = {Due: AT + LATER, Time: AT + LATER, PicoTime: AT + LATER * 1000}


def structs(base: type = BlockState) -> Iterator[type[BlockState]]:
    for kind in base.__subclasses__():
        yield kind
        yield from structs(kind)


def filled(hint: Any, times: dict[Any, int]) -> Any:
    """Return a value of the type, with these times in it; None for what has none."""
    if hint in times:
        return times[hint]
    if isinstance(hint, type) and issubclass(hint, BlockState):
        return made(hint, times)
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return tuple(filled(part, times) for part in parts)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next((value for p in parts if (value := filled(p, times)) is not None), None)
    return None


def made(kind: type[BlockState], times: dict[Any, int]) -> BlockState:
    hints = typing.get_type_hints(kind, include_extras=True)
    values = {name: filled(hints[name], times) for name in kind.__struct_fields__}
    if kind is InterruptsState:
        values["last_ns"] = times[Due]  # which may be negative, so it is no Due
    return kind(**values)


@pytest.mark.parametrize("kind", sorted(set(structs()), key=lambda kind: kind.__name__))
def test_each_time_of_a_block_moves(kind: type[BlockState]) -> None:
    state = made(kind, dict.fromkeys(MOVED, AT))
    if kind.__name__ == "ArbiterState":
        return  # `TbiState` moves it
    state.move(LATER)
    assert state == made(kind, MOVED)


def test_what_is_not_due_stays_so() -> None:
    assert (moved(-1, LATER), moved(0, LATER), moved(0, LATER, 0)) == (-1, LATER, 0)
    irq = InterruptsState(
        asserted=False, assertions=0, disabled=False, last_ns=NEVER_NS, rx=(-1, -1), tx=(-1, 7)
    )
    irq.move(LATER)
    assert (irq.last_ns, irq.rx, irq.tx) == (NEVER_NS, (-1, -1), (-1, 12))
    bus: Any = made(TransmitDmaState, {Due: ON_THE_WIRE, PicoTime: 0})
    bus.move(LATER)
    assert (bus.leaves_ns, bus.free_ps, bus.until_ps, bus.data_ps) == (ON_THE_WIRE, 0, 0, 0)
    bus.free_ps = 3000
    bus.move(-LATER)
    assert bus.free_ps == 0


def test_a_snapshot_moves_all_of_its_blocks() -> None:
    blocks = {kind for kind in structs() if kind.__name__ not in ("ArbiterState",)}
    inside = {TransmitDmaState}  # of TxState
    hints = typing.get_type_hints(NicState, include_extras=True)
    named: set[Any] = set()
    for hint in hints.values():
        named |= {hint, *typing.get_args(hint)}
    assert blocks - inside <= named


@pytest.mark.parametrize("value", [-2, 1 << 63, 1.5, "1", None])
def test_a_time_out_of_range_is_refused(value: object) -> None:
    data = msgspec.msgpack.encode(value)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(data, type=Due)
