"""A Linux guest in QEMU whose network card is ours: prepared from Debian packages, without root.

`prepare` fetches a stock Debian kernel and makes a small initramfs, once. Where the machine's QEMU
is too old, it fetches one with a vfio-user client. `GuestLinux` boots them and runs commands in the
guest.
"""

from e1000emu.guest.image import (
    Extra,
    GuestImage,
    Qemu,
    prepare,
    prepare_qemu,
    unpacked,
    unpacked_linux,
)
from e1000emu.guest.machine import (
    BuiltinNic,
    Completed,
    GuestCrashed,
    GuestError,
    GuestLinux,
    Job,
    VfioUserNic,
)

__all__ = [
    "BuiltinNic",
    "Completed",
    "Extra",
    "GuestCrashed",
    "GuestError",
    "GuestImage",
    "GuestLinux",
    "Job",
    "Qemu",
    "VfioUserNic",
    "prepare",
    "prepare_qemu",
    "unpacked",
    "unpacked_linux",
]
