"""A register-level Intel e1000: give a `Nic` memory, an interrupt line, a link and a clock."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e1000emu.clock import AsyncioClock, RealClock, SimulationDeadlock, VirtualClock
    from e1000emu.errors import E1000Error, LifecycleError, LinkError, SnapshotError
    from e1000emu.faults import Faults
    from e1000emu.links import pair
    from e1000emu.memory import DmaTable, FrameBatch, HostMemory, host_memory
    from e1000emu.misuse import MisuseError
    from e1000emu.models import Model
    from e1000emu.nic import Nic

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
    "faults": ("Faults",),
    "links": ("pair",),
    "memory": ("DmaTable", "FrameBatch", "HostMemory", "host_memory"),
    "misuse": ("MisuseError",),
    "models": ("Model",),
    "nic": ("Nic",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # a type checker knows the names above, and no others

    def __getattr__(name: str) -> object:
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
