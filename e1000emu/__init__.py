"""A register-level Intel e1000: give a `Nic` memory, an interrupt line, a link and a clock."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "AsyncioClock": "clock",
    "DmaTable": "memory",
    "E1000Error": "errors",
    "FrameBatch": "memory",
    "HostMemory": "memory",
    "LinkError": "errors",
    "MisuseError": "misuse",
    "Model": "models",
    "Nic": "nic",
    "RealClock": "clock",
    "SimulationDeadlock": "clock",
    "SnapshotError": "errors",
    "VirtualClock": "clock",
    "host_memory": "memory",
    "pair": "links",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module 'e1000emu' has no attribute {name!r}") from None
    return getattr(import_module(f"e1000emu.{home}"), name)
