"""Interfaces to use our NIC in other emulators, and our driver with other NICs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e1000emu.lazy import lazy_names

if TYPE_CHECKING:
    from e1000emu.embed.qmp import QmpError, QmpWake
    from e1000emu.embed.qtest import Qtest, QtestError, QtestGone, QtestMachine, QtestSlot
    from e1000emu.embed.unicorn import UnicornError, UnicornMachine
    from e1000emu.embed.vfio_user.deviceserver import DeviceServer
    from e1000emu.embed.vfio_user.pcidevice import PciDevice
    from e1000emu.embed.vfio_user.server import VfioUserServer

__all__ = [
    "DeviceServer",
    "PciDevice",
    "QmpError",
    "QmpWake",
    "Qtest",
    "QtestError",
    "QtestGone",
    "QtestMachine",
    "QtestSlot",
    "UnicornError",
    "UnicornMachine",
    "VfioUserServer",
]

# Imported on first use: Unicorn is another package, and the interfaces are independent.
_MODULES = {
    "qmp": ("QmpError", "QmpWake"),
    "qtest": ("Qtest", "QtestError", "QtestGone", "QtestMachine", "QtestSlot"),
    "unicorn": ("UnicornError", "UnicornMachine"),
    "vfio_user.deviceserver": ("DeviceServer",),
    "vfio_user.pcidevice": ("PciDevice",),
    "vfio_user.server": ("VfioUserServer",),
}
if not TYPE_CHECKING:  # a type checker knows the names above, and no others
    __getattr__ = lazy_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
