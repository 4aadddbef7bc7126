"""Load a device from its state file for inspection (`e1000emu explain hang`)."""

from __future__ import annotations

import os

import msgspec

from e1000emu.clock import VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.errors import SnapshotError
from e1000emu.links.null import NullLink
from e1000emu.record.snapshot import NicState, load, read_file
from e1000emu.registers.models import model
from fastpath.base.dma import DmaTable


class _Cable(NullLink):
    """A far end with or without a carrier."""

    def __init__(self, clock: VirtualClock, *, plugged: bool) -> None:
        super().__init__(clock)
        self._carrier = plugged


class _NoController:
    """A management controller without a function."""

    reset_on_force = True

    def attach(self, port: object) -> None:
        """No effect."""

    def alert(self) -> None:
        """No listeners."""


class _NoLine:
    """An unconnected interrupt line."""

    def set_level(self, level: bool) -> None:
        """Ignore the level."""


def nic_of_file(path: str | os.PathLike[str]) -> Nic:
    """Return a Nic in the state written by `snapshot.save_file`.

    It is paused, has no memory, and its clock does not run. The cable is plugged in
    if the state needs one. Raises: SnapshotError.
    """
    facts, data = read_file(path)
    try:
        state = msgspec.msgpack.decode(data, type=NicState)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotError(f"state {path}: is damaged ({error})") from None
    clock = VirtualClock()
    managed = state.management is not None and "MANC" not in model(facts["model"]).lacks
    nic = Nic(
        memory=DmaTable(),
        irq=_NoLine(),
        link=_Cable(clock, plugged=state.phy.plugged),
        clock=clock,
        model=facts["model"],
        mac=bytes.fromhex(facts["mac"].replace(":", "")),
        management=_NoController() if managed else None,
    )
    nic.pause()
    try:
        load(nic, data, rebase=True)
    except SnapshotError as error:
        raise SnapshotError(f"state {path}: {error}") from None
    return nic
