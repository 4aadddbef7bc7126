"""The Unicorn adapter: the example's guest end to end, then each joint with a few instructions."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from unicorn import UC_ARCH_ARM64, UC_ARCH_X86, UC_MODE_64, UC_MODE_ARM, Uc
from unicorn.arm64_const import UC_ARM64_REG_PC, UC_ARM64_REG_W0, UC_ARM64_REG_X1
from unicorn.x86_const import UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_RIP

from e1000emu import HostMemory, MisuseError, RealClock, VirtualClock, pair
from e1000emu.cli.pinger import Pinger
from e1000emu.embed.unicorn import UnicornError, UnicornMachine
from e1000emu.registers.regs import BAR0_BYTES, reg
from e1000emu.testing import RecordingLink
from stack.socket import AF_INET, SOCK_DGRAM, Socket
from tests.support import require

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "unicorn" / "run.py"
GCC = "x86_64-linux-gnu-gcc"
RAM, RAM_BYTES, BAR0 = 0x100000, 1 << 20, 0xFEB80000
DATA = RAM + 0x1000
SECOND_NS = 1_000_000_000
RAL, RAH, ICS, IMS = (reg(name).offset for name in ("RAL", "RAH", "ICS", "IMS"))


# --- the example ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("unicorn_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def image(example: Any) -> bytes:
    require.tool(GCC, "gcc-x86-64-linux-gnu")
    return example.compile_guest()


def talk(example: Any, image: bytes) -> dict[str, Any]:
    """Ping the guest and have it echo datagrams; return all that could differ between two runs."""
    machine, nic, host = example.boot(image)
    seen: dict[str, Any] = {}
    with host:
        pinger = Pinger(host, "10.0.0.2", size_bytes=1400)
        seen["rtts"] = [pinger.ping(0.01) for _ in range(3)]
        sock = Socket(host, AF_INET, SOCK_DGRAM)
        sock.settimeout(0.01)
        for size in (0, 1, 17, 1472):
            sent = bytes(i * 7 & 0xFF for i in range(size))
            sock.sendto(sent, ("10.0.0.2", 7))
            seen[f"udp {size}"] = sock.recvfrom(4096)
            assert seen[f"udp {size}"] == (sent, ("10.0.0.2", 7))
        burst = [bytes([i]) * 600 for i in range(64)]  # the guest's rings have 32 descriptors
        for data in burst:
            sock.sendto(data, ("10.0.0.2", 7))
            seen.setdefault("burst", []).append(sock.recvfrom(4096)[0])
        assert seen["burst"] == burst
        seen["counters"] = nic.counters()
        seen["instructions"] = machine.instructions
        seen["misuse"] = nic.misuse.events()
        seen["ram"] = bytes(machine.ram.buffer)
    return seen


@pytest.mark.slow
def test_a_bare_metal_guest_answers_ping_and_udp_through_our_nic_twice_the_same(
    example: Any, image: bytes
) -> None:
    first = talk(example, image)
    assert None not in first["rtts"]
    assert not first["misuse"]
    assert first["counters"]["gprc"] == first["counters"]["gptc"] == 1 + 3 + 4 + 64
    assert talk(example, image) == first


def test_a_guest_that_does_not_come_to_its_end_is_reported_with_its_address(
    example: Any, image: bytes
) -> None:
    machine, _, host = example.boot(image)
    with host:
        with pytest.raises(UnicornError, match=r"guest at 0x10[0-9a-f]{4} .*limit"):
            host.clock.run_for(SECOND_NS)
        assert not machine.running
        assert machine.instructions == example.LIMIT


# --- each joint -----------------------------------------------------------------------------------


def assemble(text: str) -> bytes:
    """Return the machine code of `text`, to be loaded at RAM."""
    require.tool(GCC, "gcc-x86-64-linux-gnu")
    args = [GCC, "-nostdlib", "-static", "-Wl,--oformat=binary,--build-id=none,-e,0"]
    args += [f"-Wl,-Ttext={RAM:#x}", "-x", "assembler", "-", "-o", "/dev/stdout"]
    source = f".intel_syntax noprefix\n{text}\n"
    return subprocess.run(args, input=source.encode(), capture_output=True, check=True).stdout


def x86(code: bytes, clock: Any = None) -> Any:
    """Return a UnicornMachine with `code` at RAM."""
    ram = HostMemory(RAM_BYTES, base=RAM)
    ram.write(RAM, code)
    return UnicornMachine(Uc(UC_ARCH_X86, UC_MODE_64), ram, clock or VirtualClock())


def run(machine: Any, limit: int = 100_000) -> None:
    """Run all of the code at RAM, which ends where its zeros begin."""
    code = machine.ram.read(RAM, 0x1000).rstrip(b"\0")
    machine.start(RAM, until=RAM + len(code), limit=limit)
    machine.clock.run_for(SECOND_NS)
    assert not machine.running


WIDTHS = f"""
    mov rbx, {BAR0 + RAL:#x}
    mov rax, 0x8877665544332211
    mov qword ptr [rbx], rax            /* RAL and RAH at once */
    mov dword ptr [rbx+16], 0xa4a3a2a1  /* the next but one entry */
    mov word ptr [rbx+17], 0x9998       /* its middle, unaligned */
    mov byte ptr [rbx+3], 0x77
    mov rsi, {DATA:#x}
    mov rax, [rbx]
    mov [rsi], rax
    mov eax, [rbx+16]
    mov [rsi+8], eax
    mov ax, [rbx+1]
    mov [rsi+12], ax
    mov al, [rbx+3]
    mov [rsi+14], al
    mov eax, [rbx+2]                    /* over the edge of both */
    mov [rsi+16], eax
"""


def test_accesses_of_every_width_reach_the_registers() -> None:
    machine = x86(assemble(WIDTHS))
    nic = machine.add_nic(RecordingLink(), bar0=BAR0)
    run(machine)
    low, high = 0x77332211, nic.mmio_read(RAH)
    assert (nic.mmio_read(RAL), high & 0xFFFF) == (low, 0x6655)
    assert nic.mmio_read(RAL + 16) == 0xA49998A1
    assert machine.ram.read64(DATA) == high << 32 | low
    assert machine.ram.read32(DATA + 8) == 0xA49998A1
    assert machine.ram.read(DATA + 12, 3) == bytes.fromhex("223377")
    assert machine.ram.read32(DATA + 16) == (high << 32 | low) >> 16 & 0xFFFFFFFF
    assert nic.misuse.count("access-size") > 0


def test_the_guest_and_the_host_see_the_same_ram() -> None:
    machine = x86(assemble(f"mov rbx, {DATA:#x}; mov rax, [rbx]; add rax, 1; mov [rbx+8], rax"))
    machine.ram.write64(DATA, 41)
    run(machine)
    assert machine.ram.read64(DATA + 8) == 42
    machine.ram.write64(DATA, 7)
    run(machine)
    assert machine.ram.read64(DATA + 8) == 8


@pytest.mark.parametrize("access", ["mov al, [rbx]", "mov byte ptr [rbx], 1"])
def test_what_the_nic_raises_comes_out_of_the_clock(access: str) -> None:
    machine = x86(assemble(f"mov rbx, {BAR0 + RAL:#x}; {access}; 1: jmp 1b"))
    machine.add_nic(RecordingLink(), bar0=BAR0, strict=True)
    with pytest.raises(MisuseError, match="1 bytes at 0x5400"):
        run(machine)
    assert not machine.running
    machine.clock.run_for(SECOND_NS)  # and does not go on by itself
    assert machine.instructions == 0


def test_an_interrupt_from_the_keyboard_is_not_swallowed() -> None:
    machine = x86(assemble(f"mov rbx, {BAR0 + 0xFFFC:#x}; 1: mov eax, [rbx]; jmp 1b"))
    nic = machine.add_nic(RecordingLink(), bar0=BAR0)

    def pressed(off: int, is_write: bool, value: int) -> None:
        raise KeyboardInterrupt

    nic.regs.file.on_unknown = pressed
    with pytest.raises(KeyboardInterrupt):
        run(machine)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("mov rax, [0x10]", "guest at 0x100000: .*READ_UNMAPPED"),
        ("nop; mov qword ptr [0x10], rax", "guest at 0x100001: .*WRITE_UNMAPPED"),
        ("mov rax, 0x5000; jmp rax", "guest at 0x5000: .*FETCH_UNMAPPED"),
        ("ud2", "guest at 0x10000[0-2]: "),
        ("1: jmp 1b", "guest at 0x100000 after its limit"),
    ],
)
def test_a_guest_that_cannot_go_on_is_named_with_its_place(code: str, text: str) -> None:
    machine = x86(assemble(code))
    with pytest.raises(UnicornError, match=text):
        run(machine)
    assert not machine.running


def test_a_slice_takes_its_time_also_when_the_processor_halts() -> None:
    machine = x86(assemble("mov ecx, 5; 1: hlt; loop 1b"))
    machine.slice_instructions, machine.ns_per_instruction = 100, 7
    times = []
    machine.add_nic(RecordingLink(), bar0=BAR0, on_interrupt=lambda uc: times.append(1))
    machine.start(RAM, until=RAM + 8)
    while machine.running:
        machine.clock.step()
    assert machine.instructions == 600  # five sleeps, and what is left of the loop
    assert machine.clock.now_ns() == 5 * 700
    assert not times


def test_the_interrupt_line_is_looked_at_before_each_slice_until_it_falls() -> None:
    icr = reg("ICR").offset
    code = f"""
        mov rbx, {BAR0:#x}
        mov dword ptr [rbx+{IMS}], 4
        mov dword ptr [rbx+{ICS}], 4
        hlt
        hlt
        hlt
        mov eax, [rbx+{icr}]
        hlt
        hlt
    """
    machine = x86(assemble(code))
    calls: list[int] = []
    machine.add_nic(
        RecordingLink(carrier=False),
        bar0=BAR0,
        on_interrupt=lambda uc: calls.append(uc.reg_read(UC_X86_REG_RIP)),
    )
    run(machine)
    halts = [RAM + at + 1 for at, byte in enumerate(machine.ram.read(RAM, 64)) if byte == 0xF4]
    assert calls == halts[:3]


def test_a_guest_is_stopped_and_started_again() -> None:
    machine = x86(assemble("1: inc rcx; jmp 1b"))
    machine.start(RAM)
    machine.clock.run_for(10_500)
    machine.running = False
    machine.clock.run_for(10_000)
    assert machine.instructions == 11_000
    machine.start(machine.uc.reg_read(UC_X86_REG_RIP))
    machine.start(machine.uc.reg_read(UC_X86_REG_RIP))  # twice is once
    machine.clock.run_for(999)
    assert machine.instructions == 12_000
    assert machine.uc.reg_read(UC_X86_REG_RCX) == 6_000


def test_a_real_clock_runs_the_guest_too(clock: RealClock) -> None:
    machine = x86(assemble("mov rcx, 100000; 1: loop 1b"), clock)
    with clock.lock:
        machine.start(RAM, until=RAM + 9, limit=1_000_000)
        assert clock.wait(lambda: not machine.running, 20 * SECOND_NS)
    assert machine.instructions == 101_000


def test_two_nics_have_a_bus_master_bit_each() -> None:
    machine = x86(b"\x90")
    one = machine.add_nic(RecordingLink(), bar0=BAR0)
    two = machine.add_nic(RecordingLink(), bar0=BAR0 + BAR0_BYTES)
    one.slot.config_write(4, 2, 2)
    assert (one.memory.enabled, two.memory.enabled) == (False, True)
    assert two.memory.read(RAM, 1) == b"\x90"


@pytest.mark.parametrize("bar0", [BAR0 + 0x1000, 1 << 32, -BAR0_BYTES])
def test_a_bar_that_no_firmware_could_choose_is_refused(bar0: int) -> None:
    with pytest.raises(UnicornError, match="multiple of 0x20000"):
        x86(b"").add_nic(RecordingLink(), bar0=bar0)


def test_a_range_that_is_taken_is_refused_and_the_link_is_free_again() -> None:
    machine = x86(b"")
    ours, _ = pair(machine.clock)
    with pytest.raises(UnicornError, match=r"0x20000 bytes at 0x100000: .*UC_ERR_MAP"):
        machine.add_nic(ours, bar0=RAM)
    machine.add_nic(ours, bar0=BAR0)
    with pytest.raises(UnicornError, match="0x100000 bytes at 0x100000"):
        UnicornMachine(machine.uc, machine.ram, machine.clock)


@pytest.mark.parametrize("name", ["slice_instructions", "ns_per_instruction"])
def test_a_slice_without_length_is_refused(name: str) -> None:
    machine = x86(b"")
    setattr(machine, name, 0)
    with pytest.raises(UnicornError, match="positive"):
        machine.start(RAM)


def test_the_registers_stay_mapped_when_nobody_but_unicorn_holds_the_adapter() -> None:
    code = assemble(f"mov rbx, {BAR0 + RAL:#x}; mov eax, [rbx]")
    machine = x86(code)
    machine.add_nic(RecordingLink(), bar0=BAR0, mac=bytes.fromhex("02a1a2a3a4a5"))
    uc = machine.uc
    del machine
    gc.collect()
    HostMemory(RAM_BYTES).write(4096, b"\xff" * 4096)  # what would take the place of freed RAM
    uc.emu_start(RAM, RAM + len(code))
    assert uc.reg_read(UC_X86_REG_RAX) == 0xA3A2A102


def test_another_processor_needs_another_program_counter_only() -> None:
    ram = HostMemory(RAM_BYTES, base=RAM)
    # ldr w0, [x1]; str w0, [x1, #0x10]; b .
    words = 0xB9400020, 0xB9001020, 0x14000000
    ram.write(RAM, b"".join(word.to_bytes(4, "little") for word in words))
    clock = VirtualClock()
    machine = UnicornMachine(Uc(UC_ARCH_ARM64, UC_MODE_ARM), ram, clock, pc=UC_ARM64_REG_PC)
    nic = machine.add_nic(RecordingLink(), bar0=BAR0, mac=bytes.fromhex("02a1a2a3a4a5"))
    machine.uc.reg_write(UC_ARM64_REG_X1, BAR0 + RAL)
    machine.start(RAM, until=RAM + 8)
    clock.run_for(SECOND_NS)
    assert machine.uc.reg_read(UC_ARM64_REG_W0) == 0xA3A2A102
    assert nic.mmio_read(RAL + 16) == 0xA3A2A102


def test_without_unicorn_the_extra_is_named() -> None:
    code = "import sys; sys.modules['unicorn'] = None; import e1000emu.embed.unicorn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'e1000emu[embed]'" in done.stderr.splitlines()[-1]
