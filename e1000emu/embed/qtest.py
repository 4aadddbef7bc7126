"""QEMU's own devices as hardware for our drivers, over the socket of QEMU's qtest.

`Qtest` is the client of the protocol (text lines: MMIO, port I/O, memory, interrupts, clock).
`QtestMachine` starts a QEMU with one network card, whose RAM is the `HostMemory` of a host. It
offers the card as a `ports.PciSlot` and the far end of its cable as a `ports.Link`:

    machine = QtestMachine(clock)                      # RealClock
    host = Host("a", clock=clock, ram=machine.ram)
    machine.connect_irq(host.irq_line(machine.irq))
    host.pci_add(machine.slot, machine.irq)            # the driver probes QEMU's e1000

QEMU runs no guest. With `accel=qtest` its time advances only by `clock_step`, so it follows any
clock of ours. Distributions often build QEMU without that accelerator (Debian does). Then QEMU's
processor sleeps in `hlt`, its time is real, and the clock must be real too.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Sequence

from e1000emu.closing import Closing
from e1000emu.errors import E1000Error
from e1000emu.links.qemu import PollClock, QemuDgram, QemuStream
from e1000emu.ports import InterruptLine
from fastpath.base.dma import HostMemory

__all__ = ["Qtest", "QtestError", "QtestGone", "QtestMachine", "QtestSlot"]

log = logging.getLogger("e1000emu.embed.qtest")

QEMU = "qemu-system-x86_64"
RAM_BASE = 1 << 20
"""Below are the PC's BIOS and video holes, where QEMU's RAM is not visible."""
IRQ = 11
SLOT = 3
REPLY_TIMEOUT_S = 20.0
STEP_NS, IDLE_STEP_NS = 50_000, 1_000_000
"""Maximum lag of QEMU's time behind ours, busy and idle."""

CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC
"""PCI configuration mechanism 1 (PCI 2.3 section 3.2.2.3.2)."""
PCI_COMMAND, PCI_BARS, PCI_BAR_END = 0x04, 0x10, 0x28
PCI_BAR_KIND, PCI_BAR_MEM_64 = 0x7, 0x4
"""The type of a 64-bit memory BAR: its upper half is the next BAR (PCI 2.3 section 6.2.5.1)."""
COMMAND_IO_MEMORY_MASTER = 0x7
PIIX3_SLOT, PIIX3_PIRQ = 1, 0x60
"""Interrupt routes of the south bridge: four bytes, the ISA interrupt of each INTx line."""
MMIO_WINDOW, IO_WINDOW = 0xFEB0_0000, 0xC000

HALT_ROM = bytes(65536 - 16) + b"\xfa\xf4\xeb\xfd" + bytes(12)
"""At the reset vector: cli; hlt; and back to hlt."""


class QtestError(E1000Error):
    """QEMU does not start, does not answer, or refuses a command."""


class QtestGone(QtestError):
    """QEMU has ended, or closed the connection."""


class Qtest:
    """The protocol: one line is a command, one line its answer; interrupts come in between.

    After `irq_intercept_in`, `on_irq(number, level)` is called for each change of an interrupt
    line, after the answer to the current command. `on_end()` returns why the other side may
    have closed. Takes ownership of `sock`. Call with the clock's lock held.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_irq: Callable[[int, bool], None] | None = None,
        on_end: Callable[[], str] | None = None,
    ) -> None:
        self._sock = sock
        sock.settimeout(REPLY_TIMEOUT_S)
        self._buffer = b""
        self._irqs: list[tuple[int, bool]] = []
        self._on_irq = on_irq
        self._on_end = on_end
        self.commands = 0
        """Round trips so far."""
        self.gone = ""
        """Why QEMU has ended; empty while it runs."""

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 when closed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    # --- lines ------------------------------------------------------------------------------------

    def command(self, *lines: str) -> str:
        """Send commands in one piece; return the words after OK of the last one's answer.

        Raises:
            QtestError: refused, or no answer. QtestGone: the connection has ended.
        """
        if self.gone:
            raise QtestGone(self.gone)
        self.commands += 1
        answer = refused = ""
        try:
            self._sock.sendall(("\n".join(lines) + "\n").encode())
            for line in lines:
                answer = self._answer()
                if not answer.startswith("OK"):
                    refused = refused or f"{line!r}: {answer}"
        except TimeoutError:
            raise QtestError(
                f"qtest: no answer to {lines[-1]!r} in {REPLY_TIMEOUT_S:g} s; is QEMU stopped?"
            ) from None
        except OSError as error:
            raise self._ended(str(error.strerror or error)) from None
        if self._irqs:
            self._deliver()
        if refused:
            raise QtestError(f"qtest: {refused}")
        return answer[3:].strip()

    def _answer(self) -> str:
        """Return the next line that is not an interrupt; keep interrupts before it."""
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if not found:
                piece = self._sock.recv(65536)
                if not piece:
                    raise self._ended("QEMU hung up")
                self._buffer += piece
                continue
            self._buffer = rest
            if line.startswith(b"OK") or not self._interrupt(line):
                return line.decode("ascii", "replace")

    def _interrupt(self, line: bytes) -> bool:
        """Queue an interrupt line: `IRQ raise N` or `IRQ lower N`."""
        words = line.split()
        if len(words) != 3 or words[0] != b"IRQ" or words[1] not in (b"raise", b"lower"):
            return False
        if not words[2].isdigit():
            return False
        self._irqs.append((int(words[2]), words[1] == b"raise"))
        return True

    def _deliver(self) -> None:
        # A handler talks to the device, so more may be added to the list.
        while self._irqs:
            number, level = self._irqs.pop(0)
            if self._on_irq is not None:
                self._on_irq(number, level)

    def _ended(self, what: str) -> QtestGone:
        why = self._on_end() if self._on_end is not None else ""
        self.gone = f"qtest: {what}{': ' if why else ''}{why}"
        return QtestGone(self.gone)

    def poll(self) -> None:
        """Process interrupts that came between commands.

        Raises:
            QtestError: QEMU sent another line than an interrupt. QtestGone: it closed.
        """
        if self.gone:
            raise QtestGone(self.gone)
        self._sock.setblocking(False)
        try:
            while True:
                piece = self._sock.recv(65536)
                if not piece:
                    raise self._ended("QEMU hung up")
                self._buffer += piece
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            raise self._ended(str(error.strerror or error)) from None
        finally:
            self._sock.settimeout(REPLY_TIMEOUT_S)
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if not found:
                break
            self._buffer = rest
            if not self._interrupt(line):
                raise QtestError(f"qtest: unexpected {line.decode('ascii', 'replace')!r}")
        self._deliver()

    # --- commands ---------------------------------------------------------------------------------

    def _value(self, command: str) -> int:
        answer = self.command(command)
        try:
            return int(answer, 16)
        except ValueError:
            raise QtestError(f"qtest: {command!r}: {answer!r} is no number") from None

    def port_in(self, port: int, size: int) -> int:
        """Read 1, 2 or 4 bytes from an I/O port."""
        return self._value(f"in{_IO_SUFFIX[size]} {port:#x}")

    def port_out(self, port: int, value: int, size: int) -> None:
        """Write 1, 2 or 4 bytes to an I/O port."""
        self.command(f"out{_IO_SUFFIX[size]} {port:#x} {value:#x}")

    def read(self, addr: int, size: int) -> int:
        """Read 1, 2, 4 or 8 bytes at a physical address in one access."""
        return self._value(f"read{_MEMORY_SUFFIX[size]} {addr:#x}")

    def write(self, addr: int, value: int, size: int) -> None:
        """Write 1, 2, 4 or 8 bytes at a physical address in one access."""
        self.command(f"write{_MEMORY_SUFFIX[size]} {addr:#x} {value:#x}")

    def read_bytes(self, addr: int, n: int) -> bytes:
        """Read memory."""
        answer = self.command(f"read {addr:#x} {n:#x}") if n else "0x"
        try:
            data = bytes.fromhex(answer.removeprefix("0x"))
        except ValueError:
            data = b""
        if len(data) != n:
            raise QtestError(f"qtest: read of {n} bytes: {answer[:40]!r}")
        return data

    def write_bytes(self, addr: int, data: bytes) -> None:
        """Write memory."""
        if data:
            self.command(f"write {addr:#x} {len(data):#x} 0x{data.hex()}")

    def irq_intercept_in(self, path: str) -> None:
        """Report the interrupt inputs of the device at QOM `path` ("ioapic") from now on."""
        self.command(f"irq_intercept_in {path}")

    def clock_step(self, duration_ns: int) -> int:
        """Advance QEMU's time; return it. Only with `accel=qtest`."""
        answer = self.command(f"clock_step {duration_ns}")
        try:
            return int(answer)
        except ValueError:
            raise QtestError(f"qtest: clock_step: {answer!r} is no number") from None


_IO_SUFFIX = {1: "b", 2: "w", 4: "l"}
_MEMORY_SUFFIX = {1: "b", 2: "w", 4: "l", 8: "q"}


class QtestSlot:
    """A PCI function of QEMU's, by configuration mechanism 1 and its BARs: a `ports.PciSlot`.

    If QEMU ends while it is used, this behaves like a card removed from its slot: reads give all
    ones and writes are lost. It is logged once; `Qtest.gone` says why.
    """

    def __init__(self, qtest: Qtest, slot: int, function: int = 0, bus: int = 0) -> None:
        self._qtest = qtest
        self._address = 0x8000_0000 | bus << 16 | slot << 11 | function << 8
        self._bars: dict[int, int] = {}  # raw register, as last read; of both halves if it has two
        self._pulled = False

    def _ask(self, size: int, *lines: str) -> int:
        try:
            return int(self._qtest.command(*lines), 16)
        except QtestGone as error:
            self._pull(error)
            return (1 << 8 * size) - 1

    def _tell(self, *lines: str) -> None:
        try:
            self._qtest.command(*lines)
        except QtestGone as error:
            self._pull(error)

    def _pull(self, error: QtestGone) -> None:
        if not self._pulled:
            self._pulled = True
            log.error("the card is gone: %s", error)

    def config_read(self, off: int, size: int) -> int:
        """Read `size` (1, 2, 4) bytes of configuration space at `off`, little endian."""
        self._check(off, size)
        return self._ask(
            size,
            f"outl {CONFIG_ADDRESS:#x} {self._address | off & ~3:#x}",
            f"in{_IO_SUFFIX[size]} {CONFIG_DATA + (off & 3):#x}",
        )

    def config_write(self, off: int, value: int, size: int) -> None:
        """Write `size` (1, 2, 4) bytes of configuration space at `off`."""
        self._check(off, size)
        if off < PCI_BAR_END and off + size > PCI_BARS:
            for bar in (off - PCI_BARS >> 2, (off - PCI_BARS >> 2) - 1):
                self._bars.pop(bar, None)
        self._tell(
            f"outl {CONFIG_ADDRESS:#x} {self._address | off & ~3:#x}",
            f"out{_IO_SUFFIX[size]} {CONFIG_DATA + (off & 3):#x} {value:#x}",
        )

    def _check(self, off: int, size: int) -> None:
        if size not in (1, 2, 4) or not 0 <= off <= 256 - size or off & 3 > 4 - size:
            raise QtestError(
                f"qtest: configuration access of {size} bytes at {off:#x}; give 1, 2 or 4 bytes "
                "inside one of the 64 dwords"
            )

    def _bar(self, bar: int) -> int:
        raw = self._bars.get(bar)
        if raw is None:
            if not 0 <= bar < 6:
                raise QtestError(f"qtest: there is no BAR {bar}; give 0 to 5")
            raw = self._bars[bar] = self._read_bar(bar)
        return raw

    def _read_bar(self, bar: int) -> int:
        where = PCI_BARS + 4 * bar
        raw = self.config_read(where, 4)
        if bar < 5 and raw & PCI_BAR_KIND == PCI_BAR_MEM_64:
            raw |= self.config_read(where + 4, 4) << 32
        return raw

    def _write_bar(self, bar: int, value: int) -> None:
        wide = self._bar(bar) & PCI_BAR_KIND == PCI_BAR_MEM_64
        for half in range(2 if wide else 1):
            self.config_write(PCI_BARS + 4 * (bar + half), value >> 32 * half & 0xFFFF_FFFF, 4)

    def _is_upper_half(self, bar: int) -> bool:
        first = 0
        while first < bar:
            first += 2 if self._bar(first) & PCI_BAR_KIND == PCI_BAR_MEM_64 else 1
        return first > bar

    def bar_read(self, bar: int, off: int, size: int) -> int:
        """Read `size` bytes at `off` inside base address register `bar`."""
        raw = self._bar(bar)
        if raw & 1:
            return self._ask(size, f"in{_IO_SUFFIX[size]} {(raw & ~3) + off:#x}")
        return self._ask(size, f"read{_MEMORY_SUFFIX[size]} {(raw & ~15) + off:#x}")

    def bar_write(self, bar: int, off: int, value: int, size: int) -> None:
        """Write `size` bytes at `off` inside base address register `bar`."""
        raw = self._bar(bar)
        if raw & 1:
            self._tell(f"out{_IO_SUFFIX[size]} {(raw & ~3) + off:#x} {value:#x}")
        else:
            self._tell(f"write{_MEMORY_SUFFIX[size]} {(raw & ~15) + off:#x} {value:#x}")

    def bar_size(self, bar: int) -> int:
        """Return the size of `bar` in bytes; 0 if it is not implemented, or an upper half."""
        old = self._bar(bar)
        if self._is_upper_half(bar):
            return 0
        self._write_bar(bar, (1 << 64) - 1)
        mask = self._bar(bar)
        self._write_bar(bar, old)
        if not mask:
            return 0
        if mask & 1:
            return (~(mask & ~3) & 0xFFFF) + 1
        wide = mask & PCI_BAR_KIND == PCI_BAR_MEM_64
        return (~(mask & ~15) & ((1 << 64) - 1 if wide else 0xFFFF_FFFF)) + 1

    def enable(self) -> None:
        """Do what a PCI layer does, for callers without one: place the BARs, enable the device."""
        mmio, ports = MMIO_WINDOW, IO_WINDOW
        for bar in range(6):
            size = self.bar_size(bar)
            if not size:
                continue
            if self._bar(bar) & 1:
                at = ports = -(-ports // size) * size
                ports += size
            else:
                at = mmio = -(-mmio // size) * size
                mmio += size
            self._write_bar(bar, at)
        self.config_write(PCI_COMMAND, COMMAND_IO_MEMORY_MASTER, 2)


class QtestMachine(Closing):
    """A QEMU PC whose processor sleeps, with one network card; ends with `close` or `with`.

    Args:
        clock: a RealClock or AsyncioClock; a VirtualClock where QEMU has `accel=qtest`.
        device: QEMU's name of the card and its properties: "e1000", "e1000-82545em",
            "e1000,mitigation=off".
        mac: of the card.
        ram_bytes: size of `ram`, the part above the first MiB.
        framing: "stream" or "dgram", the netdev between card and `link`.
        qemu: the program.
        qemu_arguments: appended to ours: with `-icount shift=0,sleep=off` QEMU's timers expire at
            once, for programs that do not read the time.

    Raises:
        QtestError: QEMU is missing, or ends at once; the text has its output.
    """

    irq = IRQ
    """The interrupt that the card raises."""

    def __init__(
        self,
        clock: PollClock,
        *,
        device: str = "e1000",
        mac: bytes = b"\x52\x54\x00\x12\x34\x56",
        ram_bytes: int = 64 << 20,
        framing: str = "stream",
        qemu: str = QEMU,
        qemu_arguments: Sequence[str] = (),
    ) -> None:
        program = shutil.which(qemu)
        if program is None:
            raise QtestError(f"qtest: no program {qemu!r}; apt-get install qemu-system-x86")
        if framing not in ("stream", "dgram"):
            raise QtestError(f"qtest: framing {framing!r}; give 'stream' or 'dgram'")
        if len(mac) != 6:
            raise QtestError(f"qtest: mac {mac!r} has {len(mac)} bytes; give 6")
        if ram_bytes <= 0 or ram_bytes % 4096:
            raise QtestError(f"qtest: ram_bytes {ram_bytes} is not a multiple of 4096")
        self.clock = clock
        self.interrupts = 0
        """Number of rises of the card's line."""
        self._line: InterruptLine | None = None
        self._level = False
        self._timer: object = None
        self._reading = False
        self._closed = False
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        ours, theirs = socket.socketpair()
        kind = socket.SOCK_STREAM if framing == "stream" else socket.SOCK_DGRAM
        wire, card = socket.socketpair(socket.AF_UNIX, kind)
        ram = os.memfd_create("e1000emu-ram")
        rom = os.memfd_create("e1000emu-rom")
        try:
            total = RAM_BASE + ram_bytes
            os.ftruncate(ram, total)
            os.write(rom, HALT_ROM)
            self.ram = HostMemory(ram_bytes, base=RAM_BASE, fd=ram, fd_offset=RAM_BASE)
            self.args = [
                program,
                *_machine_arguments(total, ram, rom, theirs.fileno()),
                *_card_arguments(f"{device},mac={mac.hex(':')}", framing, card.fileno()),
                *qemu_arguments,
            ]
            self._process = subprocess.Popen(
                self.args,
                pass_fds=(theirs.fileno(), card.fileno(), ram, rom),
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=self._words,
            )
        except BaseException:
            ours.close()
            wire.close()
            self._words.close()
            raise
        finally:
            theirs.close()
            card.close()
            os.close(ram)
            os.close(rom)
        # Also if the interpreter ends without a call of close.
        self._ending = weakref.finalize(self, _end, self._process)
        self.qtest = Qtest(ours, on_irq=self._interrupt, on_end=self._last_words)
        self.slot = QtestSlot(self.qtest, SLOT)
        try:
            self.steps = self._has_clock_step()
            """QEMU's time is ours to step; else it is real."""
            self.qemu_ns = clock.now_ns()
            """How far QEMU's time has come, on our clock."""
            self._route_interrupts()
            self._watch()
            poll_ns = None if self._reading else STEP_NS
            far_end: type[QemuStream | QemuDgram] = QemuStream if framing == "stream" else QemuDgram
            self.link: QemuStream | QemuDgram = far_end(wire, clock, poll_ns=poll_ns)
        except BaseException:
            wire.close()
            self.close()
            raise

    def __repr__(self) -> str:
        return f"QtestMachine(pid={self._process.pid}, steps={self.steps})"

    def _last_words(self) -> str:
        """Return QEMU's output, and its exit status if it ended."""
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return ""
        self._words.seek(0)
        text = self._words.read().decode("utf-8", "replace").strip()
        return f"QEMU ended with {code}: {text}"

    def _has_clock_step(self) -> bool:
        try:
            self.qtest.clock_step(1)
        except QtestError as error:
            if "nknown command" in str(error):
                return False
            raise
        return True

    def _route_interrupts(self) -> None:
        """Let all INTx lines raise our interrupt, as a BIOS would, and get notified of it."""
        bridge = QtestSlot(self.qtest, PIIX3_SLOT)
        bridge.config_write(PIIX3_PIRQ, IRQ * 0x0101_0101, 4)
        self.qtest.irq_intercept_in("ioapic")

    def _watch(self) -> None:
        """Poll for interrupts at every wake-up of the clock, or at every step of it."""
        try:
            self.clock.add_reader(self.qtest.fileno(), self._readable)
            self._reading = True
        except RuntimeError:
            if not self.steps:
                raise QtestError(
                    "qtest: this QEMU is built without accel=qtest, so its time is real; "
                    "give the machine a RealClock"
                ) from None
        if self.steps:
            self._step_later(STEP_NS)

    # --- time and interrupts ----------------------------------------------------------------------

    def _step_later(self, interval_ns: int) -> None:
        seen = self.qtest.commands
        self._timer = self.clock.call_at(
            self.clock.now_ns() + interval_ns,
            lambda: self._step(interval_ns, seen),
            background=True,
        )

    def _step(self, interval_ns: int, seen: int) -> None:
        if self._closed or self.qtest.gone:
            return
        idle = self.qtest.commands == seen
        self._step_later(min(2 * interval_ns, IDLE_STEP_NS) if idle else STEP_NS)
        self.sync()

    def sync(self) -> None:
        """Advance QEMU's time to ours, with `accel=qtest`."""
        behind = self.clock.now_ns() - self.qemu_ns
        if self.steps and behind > 0:
            self.qemu_ns += behind
            try:
                self.qtest.clock_step(behind)
            except QtestGone as error:
                self._lost(error)

    def _readable(self) -> None:
        try:
            self.qtest.poll()
        except QtestGone as error:
            self._lost(error)
        finally:
            if self.qtest.gone:
                self._unwatch()

    def _lost(self, error: QtestGone) -> None:
        """The card is pulled out: later reads give all ones, and its line is down."""
        log.error("the machine is gone: %s", error)
        if self._level:
            self._interrupt(IRQ, False)

    def _interrupt(self, number: int, level: bool) -> None:
        if number != IRQ:
            return
        self._level = level
        self.interrupts += level
        if self._line is not None:
            self._line.set_level(level)

    def connect_irq(self, line: InterruptLine) -> None:
        """Give the card's interrupt to `line`, beginning with its present level."""
        self._line = line
        if self._level:
            line.set_level(True)

    # --- end --------------------------------------------------------------------------------------

    def _unwatch(self) -> None:
        if self._reading:
            self.clock.remove_reader(self.qtest.fileno())
            self._reading = False

    def kill(self) -> None:
        """End QEMU at once, as a crash would: the card is pulled out of its slot."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End QEMU. Close hosts that use its card first. May be repeated."""
        if self._closed:
            return
        self._closed = True
        self._unwatch()
        link = getattr(self, "link", None)
        if link is not None:
            link.close()
        self.qtest.close()
        self._ending()
        self._words.close()


def _machine_arguments(total: int, ram: int, rom: int, protocol: int) -> list[str]:
    """Return QEMU's arguments for a PC with files as RAM and firmware, driven over a socket."""
    return [
        *("-no-user-config", "-nodefaults", "-display", "none"),
        *("-machine", "pc,memory-backend=ram", "-m", f"{total // 1024}K"),
        *("-accel", "qtest", "-accel", "tcg", "-bios", f"/proc/self/fd/{rom}"),
        "-object",
        f"memory-backend-file,id=ram,size={total},mem-path=/proc/self/fd/{ram},share=on",
        *("-chardev", f"socket,id=qtest,fd={protocol}"),
        *("-qtest", "chardev:qtest", "-qtest-log", "none"),
    ]


def _card_arguments(device: str, framing: str, wire: int) -> list[str]:
    """Return QEMU's arguments for the card, whose frames go over the socket `wire`."""
    where = "addr.type=fd,addr.str" if framing == "stream" else "local.type=fd,local.str"
    return [
        *("-netdev", f"{framing},id=n0,{where}={wire}"),
        *("-device", f"{device},netdev=n0,addr={SLOT:02x}.0,romfile="),
    ]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
