"""Make a program read the time from the kernel: its vDSO's functions become system calls.

libc reads the time without a system call, from a page that the kernel maps into each program
(vdso(7)). No filter sees this. The page with the code is the program's own copy once it is written
to, which ptrace's access to its memory allows (/proc/PID/mem). fork copies it too; exec maps
a new page, whose program announces itself by set_tid_address(2) or arch_prctl(2).
"""

from __future__ import annotations

import os
import struct

from fastpath.base.seccomp import read_memory

HEADER = struct.Struct("=16sHHIQQQIHHHHHH")
SECTION = struct.Struct("=IIQQQQIIQQ")
SYMBOL = struct.Struct("=IBBHQQ")
SHT_DYNSYM = 11
MOST_BYTES = 1 << 20
CALLS = {  # names in x86-64's vDSO, in aarch64's; numbers of the calls there
    "x86_64": {"__vdso_clock_gettime": 228, "__vdso_gettimeofday": 96, "__vdso_time": 201},
    "aarch64": {"__kernel_clock_gettime": 113, "__kernel_gettimeofday": 169},
}


def stub(machine: str, number: int) -> bytes:
    """A function that makes a system call with its own arguments, and returns its value."""
    if machine == "x86_64":  # mov eax, number; syscall; ret
        return b"\xb8" + number.to_bytes(4, "little") + b"\x0f\x05\xc3"
    # mov x8, number; svc 0; ret
    return struct.pack("<III", 0xD2800008 | number << 5, 0xD4000001, 0xD65F03C0)


def functions(image: bytes) -> dict[str, int]:
    """The offsets of the functions of an ELF object. Raises: ValueError: not an ELF object."""
    try:
        return dynamic_symbols(image)
    except (struct.error, IndexError, OverflowError) as exc:
        raise ValueError(f"no ELF object: {exc}") from None


def dynamic_symbols(image: bytes) -> dict[str, int]:
    """Names and values of a 64-bit object's dynamic symbols, those within the object."""
    fields = HEADER.unpack_from(image)
    at, size, count = fields[6], fields[11], fields[12]
    rows = [SECTION.unpack_from(image, at + size * number) for number in range(count)]
    found = {}
    for row in rows:
        if row[1] != SHT_DYNSYM:
            continue
        names = rows[row[6]][4]
        for symbol in range(row[4], row[4] + row[5], SYMBOL.size):
            name, _, _, _, value, _ = SYMBOL.unpack_from(image, symbol)
            end = image.index(b"\0", names + name)
            if value < len(image):
                found[image[names + name : end].decode(errors="replace")] = value
    return found


def patch(tid: int) -> None:
    """Replace the time functions of a thread's program.

    Raises: OSError. ValueError: the kernel's object cannot be read.
    """
    machine = os.uname().machine
    with open(f"/proc/{tid}/maps") as maps:
        ranges = [line.split()[0] for line in maps if line.rstrip().endswith("[vdso]")]
    for text in ranges:
        begin, end = (int(word, 16) for word in text.split("-"))
        image = bytes(read_memory(tid, begin, min(end - begin, MOST_BYTES)))
        found = functions(image)
        with open(f"/proc/{tid}/mem", "r+b", buffering=0) as memory:
            for name, number in CALLS[machine].items():
                if name in found:
                    memory.seek(begin + found[name])
                    memory.write(stub(machine, number))
