"""A bare-metal x86-64 program in Unicorn drives our NIC and answers a host of our own stack.

Needs `pip install 'e1000emu[embed]'` and a gcc for x86-64. Everything runs on one virtual clock,
so the figures below are the same on every machine.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from unicorn import UC_ARCH_X86, UC_MODE_64, Uc
from unicorn.x86_const import UC_X86_REG_EFLAGS, UC_X86_REG_RIP, UC_X86_REG_RSP

from e1000emu import HostMemory, Nic, VirtualClock, pair
from e1000emu.cli.pinger import Pinger
from e1000emu.embed.unicorn import UnicornMachine
from e1000emu.lab import add_nic
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM, Socket

HERE = Path(__file__).resolve().parent
RAM, RAM_BYTES = 0x100000, 1 << 20
BAR0 = 0xFEB80000
VECTOR = RAM + 8
FLAGS_IF = 1 << 9
LIMIT = 100_000_000
GCC = shutil.which("x86_64-linux-gnu-gcc") or "gcc"
FLAGS = shlex.split("""-O2 -Wall -Wextra -Werror -ffreestanding -nostdlib -static -no-pie -fno-pic
-fno-stack-protector -fcf-protection=none -mno-red-zone -mgeneral-regs-only
-Wl,--oformat=binary,--build-id=none -T""")


def compile_guest() -> bytes:
    """Return the image to load at RAM; its first byte is the entry. Raises SystemExit."""
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "guest.bin"
        sources = [HERE / "guest.c", HERE.parent / "baremetal" / "e1000_min.c"]
        try:
            subprocess.run([GCC, *FLAGS, HERE / "guest.ld", *sources, "-o", image], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"{error}; it takes a gcc for x86-64: apt-get install gcc-x86-64-linux-gnu")
        return image.read_bytes()


def interrupt(uc: Uc) -> None:
    """Do what the processor does with an interrupt, which Unicorn leaves to us: call the handler.

    RIP and RFLAGS go on the stack; while RFLAGS.IF is 0 nothing happens.
    """
    flags, stack = uc.reg_read(UC_X86_REG_EFLAGS), uc.reg_read(UC_X86_REG_RSP) - 16
    if flags & FLAGS_IF:
        saved = flags.to_bytes(8, "little") + uc.reg_read(UC_X86_REG_RIP).to_bytes(8, "little")
        uc.mem_write(stack, saved)
        uc.reg_write(UC_X86_REG_RSP, stack)
        uc.reg_write(UC_X86_REG_EFLAGS, flags & ~FLAGS_IF)
        uc.reg_write(UC_X86_REG_RIP, int.from_bytes(uc.mem_read(VECTOR, 8), "little"))


def boot(image: bytes, **options: int) -> tuple[UnicornMachine, Nic, Host]:
    """Start the guest; return the machine, its NIC, and a host at the other end of the cable."""
    clock = VirtualClock()
    ours, guests = pair(clock)
    ram = HostMemory(RAM_BYTES, base=RAM)
    ram.write(RAM, image)
    machine = UnicornMachine(Uc(UC_ARCH_X86, UC_MODE_64), ram, clock, **options)
    nic = machine.add_nic(guests, bar0=BAR0, on_interrupt=interrupt, autoneg_ns=1_000_000)
    machine.start(RAM, limit=LIMIT)
    host = Host(name="host", clock=clock)
    add_nic(host, ours, addr="10.0.0.1/24", autoneg_ns=1_000_000)
    return machine, nic, host


if __name__ == "__main__":
    machine, nic, host = boot(compile_guest())
    pinger = Pinger(host, "10.0.0.2")
    for _ in range(4):
        rtt_ns = pinger.ping(timeout_s=0.01)
        print(f"ping 10.0.0.2: {'no answer' if rtt_ns is None else f'{rtt_ns / 1000:.3f} us'}")
    sock = Socket(host, AF_INET, SOCK_DGRAM)
    sock.settimeout(0.01)
    sock.sendto(b"hello, bare metal", ("10.0.0.2", 7))
    print("UDP echo:", *sock.recvfrom(2048))
    print(f"the guest had time for {machine.instructions} instructions")
    print("its NIC:", {name: value for name, value in nic.counters().items() if value})
    host.close()
