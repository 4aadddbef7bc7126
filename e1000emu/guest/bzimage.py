"""Unpacks the kernel in Debian's vmlinuz, so that the emulated processor need not do it.

The source is the kernel's Documentation/arch/x86/boot.rst (the setup header). An ELF note,
XEN_ELFNOTE_PHYS32_ENTRY of Xen's public/elfnote.h, tells QEMU where to enter an unpacked kernel.
"""

from __future__ import annotations

import lzma
import shutil
import struct
import subprocess

from e1000emu.guest import elf

SETUP_SECTS, MAGIC, VERSION, PAYLOAD = 0x1F1, 0x202, 0x206, 0x248
SECTOR_BYTES = 512
OLDEST = 0x208
"""The first version of the header that says where the payload is."""
SIZE_BYTES = 4
"""After the payload: its unpacked length."""
XZ, ZSTD = b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"
PVH_NOTE = ("Xen", 18)


def vmlinux(image: bytes) -> bytes | None:
    """Return the ELF file in a bzImage; None for one that cannot be unpacked or entered here."""
    if image[MAGIC : MAGIC + 4] != b"HdrS":
        return None
    (version,) = struct.unpack_from("<H", image, VERSION)
    if version < OLDEST:
        return None
    offset, length = struct.unpack_from("<II", image, PAYLOAD)
    start = (image[SETUP_SECTS] + 1) * SECTOR_BYTES + offset
    kernel = _unpacked(image[start : start + length])
    if kernel is None or PVH_NOTE not in elf.notes(kernel):
        return None
    return kernel


def _unpacked(payload: bytes) -> bytes | None:
    if payload.startswith(XZ):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(ZSTD) and (program := shutil.which("zstd")):
        made = subprocess.run(
            [program, "-dcq"], input=payload[:-SIZE_BYTES], capture_output=True, check=False
        )
        return made.stdout if made.returncode == 0 else None
    return None
