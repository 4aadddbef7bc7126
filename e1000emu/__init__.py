"""A register-level Intel e1000: give a `Nic` memory, an interrupt line, a link and a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e1000emu.lazy import lazy_names

if TYPE_CHECKING:
    from e1000emu.clock import AsyncioClock, RealClock, SimulationDeadlock, VirtualClock
    from e1000emu.device.nic import Nic
    from e1000emu.errors import E1000Error, LifecycleError, LinkError, SnapshotError
    from e1000emu.insight.faults import Faults
    from e1000emu.insight.misuse import MisuseError
    from e1000emu.links import pair
    from e1000emu.memory import DmaTable, FrameBatch, HostMemory, host_memory
    from e1000emu.registers.models import Model

__all__ = [
    "AsyncioClock",
    "DmaTable",
    "E1000Error",
    "Faults",
    "FrameBatch",
    "HostMemory",
    "LifecycleError",
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

# Imported when first asked for: commands that need no device start sooner, and without the compiled
# modules the command line can say that they are missing.
_MODULES = {
    "clock": ("AsyncioClock", "RealClock", "SimulationDeadlock", "VirtualClock"),
    "errors": ("E1000Error", "LifecycleError", "LinkError", "SnapshotError"),
    "insight.faults": ("Faults",),
    "links": ("pair",),
    "memory": ("DmaTable", "FrameBatch", "HostMemory", "host_memory"),
    "insight.misuse": ("MisuseError",),
    "registers.models": ("Model",),
    "device.nic": ("Nic",),
}
if not TYPE_CHECKING:  # a type checker knows the names above, and no others
    __getattr__ = lazy_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
