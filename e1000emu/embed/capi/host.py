"""The Python half of ``libe1000emu.so``: NICs by slot, and the hooks that shim.c calls.

Registers, frames and the clock bypass this file; they use `fastpath.nic.c_abi`.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import Any

import msgspec

from e1000emu.clock import VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.device.phy import AUTONEG_NS
from e1000emu.embed.capi.build import fingerprint
from e1000emu.errors import E1000Error, LifecycleError, SnapshotError
from e1000emu.insight.misuse import MisuseError
from fastpath import rebuild_command
from fastpath.base.dma import DmaTable
from fastpath.errors import did_you_mean
from fastpath.nic import c_abi

# e1000emu.h: enum e1000emu_error.
EINTERNAL, EINVAL, ERANGE, EBUSY, ENOENT = -1, -2, -4, -5, -6
ENOSPC, ESTATE, EMISUSE, EPYTHON, ENOMEM = -7, -8, -9, -10, -11
# shim.c: arguments of py_connect and py_store.
CONNECT_IRQ, CONNECT_TX, CONNECT_RX_READY, CONNECT_DMA = range(4)
STORE_STATE, STORE_COUNTERS, STORE_EXPLAIN, STORE_MISUSE = range(4)
# e1000emu.h: flags.
STRICT, PCI_ON, WIDE_BARS = 1, 2, 4
DMA_READ, DMA_WRITE = 1, 2

DEFAULT_MODEL = "82540EM"
MAX_NS = (1 << 63) - 1
MAX_CHOSEN_NS = 1 << 62
NEVER = (1 << 64) - 1
# Where a BIOS might put the BARs.
MMIO_BASE, IO_BASE = 0xFEBC_0000, 0xC000
PCI_COMMAND, PCI_BARS, COMMAND_ALL_ON = 0x04, 0x10, 0x0007


class CapiRangeError(E1000Error):
    """A number is out of range."""


class NoSpaceError(E1000Error):
    """The program's buffer is too small."""


class DeviceClock(VirtualClock):
    """The virtual time of one NIC; a loaded state may set it."""

    __slots__ = ()

    def next_event_ns(self) -> int:
        """Return when the next event is due, not before now; 2^64-1 if there is none."""
        if self.waiting_now:
            return self._now
        when = self.next_ns()
        return NEVER if when is None else max(when, self._now)

    def advance(self, duration_ns: int) -> None:
        """Run events due within `duration_ns`, and advance the time by that."""
        until = self._now + duration_ns
        if until > MAX_NS:
            raise CapiRangeError(
                f"e1000emu_advance: {self._now} + {duration_ns} ns is after the end of time, 2^63"
            )
        self.run_until(until)

    def set_ns(self, when_ns: int) -> None:
        """Set the time to `when_ns`."""
        self._now = when_ns


class _When(msgspec.Struct):
    """The part of a snapshot that the clock needs."""

    now_ns: int = 0


class Device:
    """One NIC with its far sides in C."""

    def __init__(
        self,
        on_error: Callable[[BaseException], int],
        *,
        model: str,
        mac: bytes | None,
        eeprom: bytes | None,
        flags: int,
        autoneg_ns: int,
        start_ns: int,
    ) -> None:
        if max(autoneg_ns, start_ns) > MAX_CHOSEN_NS:
            raise CapiRangeError(
                f"e1000emu_create: autoneg_ns {autoneg_ns}, start_ns {start_ns}; give up to 2^62"
            )
        self.clock = DeviceClock(start_ns)
        self.memory = DmaTable()
        self.line = c_abi.CallbackLine()
        self.link = c_abi.CallbackLink()
        self.nic = Nic(
            memory=self.memory,
            irq=self.line,
            link=self.link,
            clock=self.clock,
            model=model,
            mac=mac,
            eeprom=eeprom,
            strict=bool(flags & STRICT),
            autoneg_ns=autoneg_ns or AUTONEG_NS,
            wide_bars=bool(flags & WIDE_BARS),
        )
        self.compiled = c_abi.CNic(self.nic.slot, self.link, self.clock, on_error)
        if flags & PCI_ON:
            config_write = self.nic.slot.config_write
            config_write(PCI_BARS, MMIO_BASE, 4)
            config_write(PCI_BARS + 4 * self.nic.slot.io_bar, IO_BASE, 4)
            config_write(PCI_COMMAND, COMMAND_ALL_ON, 2)

    def close(self) -> None:
        """Unplug; functions of the program are no longer called."""
        self.line.connect(0, 0)
        self.link.connect_tx(0, 0)
        self.link.connect_ready(0, 0)
        c_abi.connect_dma(self.memory, 0, 0, 0)
        self.nic.halt()

    def load(self, data: bytes) -> None:
        """Load a snapshot and its time."""
        before = self.clock.now_ns()
        try:
            now = msgspec.msgpack.decode(data, type=_When).now_ns
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            now = before  # load_state raises the error
        if not 0 <= now <= MAX_NS:
            raise SnapshotError(f"snapshot is damaged: its time is {now} ns")
        self.clock.set_ns(now)
        try:
            self.nic.load_state(data)
        except BaseException:
            self.clock.set_ns(before)
            raise

    def store(self, what: int) -> bytes:
        """Return the state, or a text with its NUL."""
        nic = self.nic
        if what == STORE_STATE:
            return nic.state()
        if what == STORE_COUNTERS:
            text = "".join(f"{name} {value}\n" for name, value in nic.counters().items())
        elif what == STORE_EXPLAIN:
            text = "".join(f"{line}\n" for line in nic.explain())
        else:
            text = "".join(f"{event}\n" for event in nic.misuse.events())
        return text.encode() + b"\0"


def code_of(error: BaseException) -> int:
    """Return the code of e1000emu.h that stands for an exception."""
    match error:
        case MisuseError():
            return EMISUSE
        case SnapshotError():
            return ESTATE
        case CapiRangeError():
            return ERANGE
        case NoSpaceError():
            return ENOSPC
        case LookupError():
            return ENOENT
        case BufferError() | LifecycleError():
            return EBUSY
        case MemoryError():
            return ENOMEM
        case E1000Error() | ValueError() | OverflowError():
            return EINVAL
    return EINTERNAL


def _words(error: BaseException) -> str:
    """Return the text of an exception; an unexpected one with its type."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return f"{type(error).__name__}: {text}" if code_of(error) == EINTERNAL else text


class Host:
    """All NICs of the process; its `py_` methods are the hooks."""

    def __init__(self, ffi: Any, lib: Any) -> None:
        self._ffi = ffi
        self._lib = lib
        self._devices: dict[int, Device] = {}

    def failed(self, error: BaseException) -> int:
        """Keep the text of an exception for the program; return its code."""
        code: int = self._lib.shim_error(code_of(error), _words(error).encode("utf-8", "replace"))
        return code

    def _number(self, pointer: Any) -> int:
        return int(self._ffi.cast("uintptr_t", pointer))

    def py_create(
        self,
        slot: int,
        model: Any,
        mac: Any,
        flags: int,
        autoneg_ns: int,
        start_ns: int,
        eeprom: Any,
        eeprom_bytes: int,
    ) -> None:
        """Create a NIC; zeros are defaults."""
        ffi = self._ffi
        address = bytes(ffi.buffer(mac, 6))
        device = Device(
            self.failed,
            model=ffi.string(model).decode("utf-8", "replace") if model else DEFAULT_MODEL,
            mac=address if any(address) else None,
            eeprom=bytes(ffi.buffer(eeprom, eeprom_bytes)) if eeprom else None,
            flags=flags,
            autoneg_ns=autoneg_ns,
            start_ns=start_ns,
        )
        self._devices[slot] = device
        self._lib.shim_nic(slot, ffi.cast("void *", id(device.compiled)))

    def py_destroy(self, slot: int) -> None:
        """Delete a NIC."""
        self._devices.pop(slot).close()
        if self._lib.shim_owns_python():
            # A NIC's blocks refer to each other, and its megabytes must not wait for the collector.
            gc.collect()

    def py_reset(self, slot: int) -> None:
        """RST#."""
        self._devices[slot].nic.reset()

    def py_pause(self, slot: int, on: int) -> None:
        """Pause, or resume."""
        nic = self._devices[slot].nic
        if on:
            nic.pause()
        else:
            nic.resume()

    def py_connect(self, slot: int, what: int, fn: Any, second: Any, opaque: Any) -> None:
        """Connect a function of the program to the NIC."""
        device, number = self._devices[slot], self._number
        if what == CONNECT_IRQ:
            device.line.connect(number(fn), number(opaque))
        elif what == CONNECT_TX:
            device.link.connect_tx(number(fn), number(opaque))
        elif what == CONNECT_RX_READY:
            device.link.connect_ready(number(fn), number(opaque))
        else:
            c_abi.connect_dma(device.memory, number(fn), number(second), number(opaque))

    def py_irq_level(self, slot: int, level: Any) -> None:
        """Return the level of the line."""
        level[0] = self._devices[slot].line.level

    def py_dma_add(self, slot: int, base: int, memory: Any, size: int, flags: int) -> None:
        """Map memory of the program."""
        if not 0 < size <= MAX_NS:
            raise ValueError(f"e1000emu_dma_add: size {size}; give 1 to 2^63-1 bytes")
        self._devices[slot].memory.add(
            base,
            self._ffi.buffer(self._ffi.cast("char *", memory), size),
            readable=bool(flags & DMA_READ),
            writable=bool(flags & DMA_WRITE),
        )

    def py_dma_remove(self, slot: int, base: int, size: int) -> None:
        """Unmap it."""
        self._devices[slot].memory.remove(base, size)

    def py_set_link(self, slot: int, up: int, speed_mbps: int) -> None:
        """Plug or pull the cable."""
        self._devices[slot].link.set_carrier(bool(up), speed_mbps)

    def py_store(self, slot: int, what: int, buffer: Any, size: Any) -> None:
        """Store the state or a text in the program's buffer."""
        data = self._devices[slot].store(what)
        room, size[0] = size[0], len(data)
        if not buffer:
            return
        if room < len(data):
            raise NoSpaceError(f"the buffer has {room} bytes, this takes {len(data)}")
        self._ffi.memmove(buffer, data, len(data))

    def py_state_load(self, slot: int, state: Any, size: int) -> None:
        """Load a state."""
        if size > MAX_NS:
            raise ValueError(f"e1000emu_state_load: size {size} is more than there is")
        data = bytes(self._ffi.buffer(self._ffi.cast("char *", state), size)) if size else b""
        self._devices[slot].load(data)

    def py_counter(self, slot: int, name: Any, value: Any) -> None:
        """Return one counter."""
        wanted = self._ffi.string(name).decode("utf-8", "replace")
        counters = self._devices[slot].nic.counters()
        if wanted not in counters:
            hint = did_you_mean(wanted, counters) or "; e1000emu_counters lists them"
            raise KeyError(f"e1000emu_counter: no counter {wanted!r}{hint}")
        value[0] = counters[wanted]


def serve(ffi: Any, lib: Any) -> None:
    """Connect the hooks and hand the compiled entries to shim.c; called once, when Python starts.

    Raises: E1000Error when the library was built from another version of this package.
    """
    built = ffi.string(lib.shim_fingerprint()).decode()
    if built != fingerprint():
        raise E1000Error(
            "libe1000emu.so was built from another version of e1000emu than the one that Python "
            f"finds ({__file__}); run e1000emu capi --out DIR again"
        )
    host = Host(ffi, lib)
    hooks = [name for name in dir(Host) if name.startswith("py_")]
    for name in hooks:
        ffi.def_extern(name, error=EINTERNAL)(_guarded(host, getattr(host, name)))
    entries = c_abi.entries()
    if lib.shim_entries(entries, len(entries)) != 0:
        raise E1000Error(
            "fastpath.nic.c_abi is of another version than libe1000emu.so; run: "
            + rebuild_command()
        )
    if lib.shim_owns_python():
        gc.collect()
        gc.freeze()  # all of this is permanent: collections need to scan the NICs only


def _guarded(host: Host, hook: Callable[..., None]) -> Callable[..., int]:
    @functools.wraps(hook)
    def call(*args: Any) -> int:
        try:
            hook(*args)
        except BaseException as error:
            return host.failed(error)
        return 0

    return call
