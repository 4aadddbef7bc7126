"""Hosts as a shared object for programs in C, C++ or Rust, and for packetdrill.

`e1000stack.h` is the interface of ``libe1000stack.so``. `packetdrill.c` fills packetdrill's table
instead. `host.py` is the Python half of both: a call's name and its numbers go to `calls.py`.
"""

from __future__ import annotations

from pathlib import Path

from e1000emu.embed.capi.build import Built, Library, build

__all__ = ["PACKETDRILL", "STACK", "Built", "build"]

HERE = Path(__file__).parent
STACK = Library("e1000stack", HERE, "e1000emu.lab.cstack.host", "e1000stack.h")
"""The C sources of ``libe1000stack.so``."""
PACKETDRILL = Library(
    "e1000packetdrill", HERE, "e1000emu.lab.cstack.packetdrill", shim="packetdrill.c"
)
"""The C source for packetdrill's table: a shared object for packetdrill's `--so_filename`."""
