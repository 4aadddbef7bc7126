"""Snapshots of a Nic: one versioned structure, apart from the engines that it restores.

What is not in it belongs to others: host memory, the link and what is on it, the clock.  Timers are
kept as absolute times, so a snapshot is to be loaded under a clock that stands where it stood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from e1000emu.errors import SnapshotError

if TYPE_CHECKING:
    from e1000emu.nic import Nic

__all__ = ["VERSION", "NicState", "load", "save"]

VERSION = 1


class NicState(msgspec.Struct, kw_only=True):
    """Everything that a Nic knows.  A field that is added later gets a default."""

    version: int
    model: str
    regs: bytes
    stats: bytes
    tx: dict[str, Any]
    rx: dict[str, Any]
    interrupts: dict[str, Any]
    eeprom: dict[str, Any]
    phy: dict[str, Any]
    pci: bytes
    io_address: int
    now_ns: int = 0
    xoff_sent: bool = False


def save(nic: Nic) -> bytes:
    """Return the state of `nic` as bytes."""
    return msgspec.msgpack.encode(
        NicState(
            version=VERSION,
            model=nic.model.name,
            regs=nic.regs.file.state(),
            stats=nic.stats.state(),
            tx=nic.tx.state(),
            rx=nic.rx.state(),
            interrupts=nic.interrupts.state(),
            eeprom=nic.eeprom.state(),
            phy=nic.phy.state(),
            pci=nic.pci.state(),
            io_address=nic.io_address,
            now_ns=nic.clock.now_ns(),
            xoff_sent=nic.flow.xoff_sent,
        )
    )


def load(nic: Nic, data: bytes) -> None:
    """Put `nic` into the state that `save` returned.

    Raises: SnapshotError when the bytes are no snapshot, of a newer version or another model.
    """
    try:
        state = msgspec.msgpack.decode(data, type=NicState)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise SnapshotError(f"these {len(data)} bytes are no snapshot of a Nic: {error}") from None
    if state.version > VERSION:
        raise SnapshotError(
            f"snapshot version {state.version}: this e1000emu reads up to {VERSION}; update it"
        )
    if state.model != nic.model.name:
        raise SnapshotError(
            f"snapshot of a {state.model}, this is a {nic.model.name}; make a Nic of that model"
        )
    try:
        nic.restore(state)
    except (AssertionError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        nic.power_on_reset()
        raise SnapshotError(
            f"snapshot is damaged ({type(error).__name__}: {error}); the Nic was powered on anew"
        ) from None
