"""What the initramfs builder reads from ELF files."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.guest import elf
from tests.support import run_to_end


def test_libraries_of_a_program_are_those_that_readelf_names():
    program = Path(shutil.which("sleep") or sys.executable).resolve()
    interpreter, names = elf.needed(program.read_bytes())
    if shutil.which("readelf") is None:
        assert any(name.startswith("libc.so") for name in names)
        return
    text = run_to_end(["readelf", "-d", "-l", program], check=True).stdout
    want = [line.split("[")[1].rstrip("]") for line in text.splitlines() if "(NEEDED)" in line]
    assert names == want
    assert f"interpreter: {interpreter}]" in text


def test_what_is_no_elf_file_needs_nothing():
    assert elf.needed(b"#!/bin/sh\n") == ("", [])
    assert elf.needed(b"") == ("", [])
    assert elf.needed(b"\x7fELF\x01\x01" + bytes(100)) == ("", [])  # 32 bits


def test_notes_are_those_that_readelf_shows():
    program = Path(shutil.which("sleep") or sys.executable).resolve()
    assert ("GNU", 3) in elf.notes(program.read_bytes())  # NT_GNU_BUILD_ID
    assert elf.notes(b"#!/bin/sh\n") == set()


def test_module_names_what_it_depends_on():
    head = b"\x7fELF" + bytes(60) + b"license=GPL\0"
    assert elf.module_depends(head + b"depends=mrp,garp\0retpoline=Y\0") == ["mrp", "garp"]
    assert elf.module_depends(head + b"depends=\0") == []
    assert elf.module_depends(head) == []


@given(st.data())
def test_damaged_file_is_a_value_error_or_read(data: st.DataObject):
    image = bytearray(Path(sys.executable).resolve().read_bytes()[:65536])
    for _ in range(data.draw(st.integers(1, 20))):
        image[data.draw(st.integers(6, 4095))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        elf.needed(bytes(image[: data.draw(st.integers(0, len(image)))]))
    with contextlib.suppress(ValueError):
        elf.notes(bytes(image[: data.draw(st.integers(0, len(image)))]))


def test_string_that_never_ends_is_a_value_error():
    with pytest.raises(ValueError, match="cut short"):
        elf.module_depends(b"x\0depends=abc")
