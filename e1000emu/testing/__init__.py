"""The far side of the device, faked: for our tests, our fuzzers and our users.

``from e1000emu.testing import Bench, GuestRings, RecordingLine, RecordingLink``
"""

from __future__ import annotations

from e1000emu.testing.bench import BENCH_MAC, Bench
from e1000emu.testing.guest import (
    GuestRings,
    Int,
    Popts,
    Rctl,
    Reg,
    RxErrors,
    RxFrame,
    RxStatus,
    Tctl,
    Tucmd,
    TxCmd,
)
from e1000emu.testing.recorders import RecordingController, RecordingLine, RecordingLink

__all__ = [
    "BENCH_MAC",
    "Bench",
    "GuestRings",
    "Int",
    "Popts",
    "Rctl",
    "RecordingController",
    "RecordingLine",
    "RecordingLink",
    "Reg",
    "RxErrors",
    "RxFrame",
    "RxStatus",
    "Tctl",
    "Tucmd",
    "TxCmd",
]
