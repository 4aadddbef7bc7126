"""The host: driver, device layer, IP, transports and sockets, with Linux's names.

The protocol path is compiled from its sources (scripts/stackc). With E1000EMU_UNCOMPILED=1 in the
environment the same sources run as plain Python, for tracers, coverage and debuggers. Without it,
modules that were compiled from other sources are refused (fastpath/built.py).
"""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES

COMPILED = False
"""Whether the compiled modules are used."""

if os.environ.get("E1000EMU_UNCOMPILED", "0") not in ("", "0"):
    from stack._sources import SourcesOnly

    sys.meta_path.insert(0, SourcesOnly())
else:
    # Looked up beside this file: an import could find that of another tree in the environment.
    _STATE = f"{os.path.dirname(os.path.abspath(__file__))}/_state"
    COMPILED = any(os.path.exists(f"{_STATE}{suffix}") for suffix in EXTENSION_SUFFIXES)
    if COMPILED:
        from fastpath import refuse_stale

        refuse_stale("stack", ", or run the sources with E1000EMU_UNCOMPILED=1")
