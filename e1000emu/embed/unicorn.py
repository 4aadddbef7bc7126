"""Our NIC on the bus of a processor in Unicorn: the template for other CPU emulators.

An adapter connects three things: shared memory, register accesses, and time with the interrupt
line. docs/unicorn.md walks through this file.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

try:
    from unicorn import UC_PROT_ALL, Uc, UcError
    from unicorn.x86_const import UC_X86_REG_RIP
except ImportError as error:
    raise ImportError(f"{error}; pip install 'e1000emu[embed]'") from None

from e1000emu import DmaTable, E1000Error, HostMemory, Nic
from e1000emu.ports import Clock, Link
from e1000emu.registers.regs import BAR0_BYTES

__all__ = ["UnicornError", "UnicornMachine"]

PCI_COMMAND, PCI_BAR0, MEMORY_AND_MASTER = 0x04, 0x10, 0x0006
Handler = Callable[[Uc], object]
NOWHERE = (1 << 64) - 1


class UnicornError(E1000Error):
    """The machine cannot be built, or its guest cannot continue; the text has the place."""


class _Irq:
    """The interrupt line (`ports.InterruptLine`): a level, checked between slices."""

    def __init__(self, handler: Handler | None) -> None:
        self.level, self.handler = False, handler

    def set_level(self, level: bool) -> None:
        self.level = level


class UnicornMachine:
    """A `Uc` that runs as an event of `clock`; a halted processor sleeps until its slice ends.

    `ram` appears at its base address in the guest; `pc` is Unicorn's number of the program counter.
    Raises: UnicornError, also for errors of Unicorn.
    """

    slice_instructions = 1000
    """Instructions between two checks of the interrupt lines and the clock."""
    ns_per_instruction = 1

    def __init__(self, uc: Uc, ram: HostMemory, clock: Clock, pc: int = UC_X86_REG_RIP) -> None:
        self.uc, self.ram, self.clock, self.pc = uc, ram, clock, pc
        self.instructions = 0  # executed so far
        self.running = False  # set to False, it ends the guest after its slice
        self._irqs: list[_Irq] = []
        self._error: BaseException | None = None
        self._timer: Any = None
        here = ctypes.addressof(ctypes.c_char.from_buffer(ram.buffer))  # no copy
        self._map(uc.mem_map_ptr, ram.base, ram.size_bytes, UC_PROT_ALL, here)

    def _map(self, how: Callable[..., None], address: int, size: int, *rest: Any) -> None:
        try:
            how(address, size, *rest)
        except UcError as error:
            raise UnicornError(f"{size:#x} bytes at {address:#x}: {error}; move them") from None

    def add_nic(
        self, link: Link, *, bar0: int, on_interrupt: Handler | None = None, **options: Any
    ) -> Nic:
        """Plug in a `Nic(**options)`, its registers at `bar0`; return it.

        `on_interrupt(uc)` is called before each slice while the interrupt line is up.
        """
        if bar0 % BAR0_BYTES or not 0 <= bar0 < 1 << 32:
            raise UnicornError(f"bar0 {bar0:#x}: give a multiple of {BAR0_BYTES:#x} below 4 GiB")
        memory, irq = DmaTable(), _Irq(on_interrupt)
        memory.add(self.ram.base, self.ram.buffer)
        nic = Nic(memory=memory, irq=irq, link=link, clock=self.clock, **options)
        nic.slot.config_write(PCI_BAR0, bar0, 4)  # as firmware does
        nic.slot.config_write(PCI_COMMAND, MEMORY_AND_MASTER, 2)
        accesses = self._read, nic.slot, self._write, nic.slot
        try:
            self._map(self.uc.mmio_map, bar0, BAR0_BYTES, *accesses)
        except UnicornError:
            nic.halt()
            raise
        self._irqs.append(irq)
        return nic

    def _read(self, uc: Uc, offset: int, size: int, slot: Any) -> int:
        try:
            return int(slot.bar_read(0, offset, size))
        except BaseException as error:  # an exception cannot pass through C
            self._stop(error)
            return 0

    def _write(self, uc: Uc, offset: int, size: int, value: int, slot: Any) -> None:
        try:
            slot.bar_write(0, offset, value, size)
        except BaseException as error:
            self._stop(error)

    def _stop(self, error: BaseException) -> None:
        self._error = self._error or error
        self.uc.emu_stop()

    def start(self, begin: int, *, until: int = NOWHERE, limit: int = NOWHERE) -> None:
        """Run from address `begin` to `until` whenever the clock runs.

        The call that runs the clock raises UnicornError when the guest cannot continue or has not
        reached `until` after `limit` instructions, and what the NIC raises (`strict`).
        """
        if self.slice_instructions <= 0 or self.ns_per_instruction <= 0:
            raise UnicornError("slice_instructions and ns_per_instruction: give positive numbers")
        self.uc.reg_write(self.pc, begin)
        self.running, self._until, self._limit = True, until, self.instructions + limit
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.clock.call_at(self.clock.now_ns(), self._slice)

    def _slice(self) -> None:
        try:
            if self.running:
                self._execute()
        except BaseException:
            self.running = False
            raise
        if self.running:
            next_ns = self.clock.now_ns() + self.slice_instructions * self.ns_per_instruction
            self._timer = self.clock.call_at(next_ns, self._slice)

    def _execute(self) -> None:
        for irq in self._irqs:
            if irq.level and irq.handler is not None:
                irq.handler(self.uc)
        self._error, begin = None, self.uc.reg_read(self.pc)
        try:
            self.uc.emu_start(begin, self._until, count=self.slice_instructions)
        except UcError as error:
            where = self.uc.reg_read(self.pc)
            raise self._error or UnicornError(f"guest at {where:#x}: {error}") from None
        if self._error is not None:
            raise self._error
        self.instructions += self.slice_instructions
        where = self.uc.reg_read(self.pc)
        if where == self._until:
            self.running = False
        elif self.instructions >= self._limit:
            raise UnicornError(f"guest at {where:#x} after its limit of instructions; give more")
