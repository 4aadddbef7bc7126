"""A kernel is unpacked when QEMU can enter what comes out, and left as it is otherwise."""

from __future__ import annotations

import lzma
import shutil
import struct
import subprocess

import pytest

from e1000emu.guest.bzimage import vmlinux
from e1000emu.guest.elf import EHDR, PHDR

SETUP_SECTORS, OFFSET = 3, 40


def kernel(note: int = 18) -> bytes:
    """An ELF file with one note of Xen's."""
    content = struct.pack("<III4sI", 4, 4, note, b"Xen\0", 0x100000)
    at = EHDR.size + PHDR.size
    head = EHDR.pack(
        b"\x7fELF\x02\x01".ljust(16, b"\0"), 2, 62, 1, 0, EHDR.size, 0, 0, 64, PHDR.size, 1, 0, 0, 0
    )
    return head + PHDR.pack(4, 0, at, 0, 0, len(content), len(content), 4) + content


def image(payload: bytes, version: int = 0x20F) -> bytes:
    made = bytearray((SETUP_SECTORS + 1) * 512 + OFFSET) + payload
    made[0x1F1] = SETUP_SECTORS
    made[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", made, 0x206, version)
    struct.pack_into("<II", made, 0x248, OFFSET, len(payload))
    return bytes(made) + b"behind the payload"


def xz(content: bytes) -> bytes:
    return lzma.compress(content) + struct.pack("<I", len(content))


def test_xz_is_unpacked() -> None:
    assert vmlinux(image(xz(kernel()))) == kernel()


def test_zstd_is_unpacked_where_the_program_is(monkeypatch: pytest.MonkeyPatch) -> None:
    program = shutil.which("zstd")
    if program is not None:
        made = subprocess.run([program, "-cq"], input=kernel(), capture_output=True, check=True)
        assert vmlinux(image(made.stdout + bytes(4))) == kernel()
    monkeypatch.setenv("PATH", "/nowhere")
    assert vmlinux(image(b"\x28\xb5\x2f\xfd" + bytes(100))) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no kernel" * 100,
        image(xz(kernel(note=17))),
        image(xz(b"no ELF file")),
        image(b"\x1f\x8b" + bytes(100)),
        image(xz(kernel()), version=0x207),
    ],
    ids=["empty", "none", "no entry", "no ELF", "gzip", "old"],
)
def test_what_cannot_be_entered_stays_as_it_is(content: bytes) -> None:
    assert vmlinux(content) is None
