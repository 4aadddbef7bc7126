"""The NIC as a shared object for programs in C and C++.

`e1000emu.h` is the interface; `build` builds ``libe1000emu.so``; `shim.c` and `host.py` are its C
and its Python half.
"""

from __future__ import annotations

from e1000emu.embed.capi.build import Built, CapiError, build

__all__ = ["Built", "CapiError", "build"]
