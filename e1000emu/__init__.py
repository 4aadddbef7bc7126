"""A register-level Intel e1000: give a `Nic` memory, an interrupt line, a link and a clock."""

from __future__ import annotations

from e1000emu.clock import AsyncioClock, RealClock, SimulationDeadlock, VirtualClock
from e1000emu.errors import E1000Error, LinkError, SnapshotError
from e1000emu.links import pair
from e1000emu.memory import DmaTable, FrameBatch, HostMemory, host_memory
from e1000emu.misuse import MisuseError
from e1000emu.models import Model
from e1000emu.nic import Nic

__all__ = [
    "AsyncioClock",
    "DmaTable",
    "E1000Error",
    "FrameBatch",
    "HostMemory",
    "LinkError",
    "MisuseError",
    "Model",
    "Nic",
    "RealClock",
    "SimulationDeadlock",
    "SnapshotError",
    "VirtualClock",
    "host_memory",
    "pair",
]
