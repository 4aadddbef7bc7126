"""Hardware that fails, by a seed: what a driver must survive (`Nic(faults=...)`, `--faults`).

Every kind draws from a random stream of its own, so one kind does not change what another does, and
under a VirtualClock a run is the same each time.  What goes wrong is what the buses and the part
can do wrong; the device itself goes on by the datasheet, and `Nic.explain` knows the symptoms only.
`Injector.log` has what was injected and when.

Some kinds hit runs of the rings or the line: a NIC with those runs its rings by the clock, as one
whose memory answers by messages does.  The others (`Faults.spares_rings`) go with threads too.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from random import Random
from typing import TYPE_CHECKING, Any

from e1000emu.errors import E1000Error
from e1000emu.regs import reg
from fastpath.errors import whole_number

if TYPE_CHECKING:
    from e1000emu.nic import Nic
    from e1000emu.ports import InterruptLine, TimerHandle
    from fastpath.batch import FrameBatch

__all__ = ["ABORTS", "Faults", "Injector"]

ABORTS = ("tx-descriptor", "tx-data", "rx-descriptor", "rx-data")
"""Which access of a run of an engine a master abort can hit: the ring's first, or its data's."""
NOWHERE = 1 << 62
"""Added to an address: no memory answers there."""
RXO = reg("ICR").mask("RXO")
DESCRIPTOR_BYTES = 16
LOGGED = 1024
MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong. Probabilities are 0 to 1; a time of 0 turns its kind off.

    Times between two faults of a kind are random, between half and one and a half of the given one.
    """

    seed: int = 0
    flap_ns: int = 0
    """About how often the link goes,"""
    down_ns: int = 200 * MS
    """and for how long."""
    phy_busy: float = 0.0
    """Of MDIO operations: READY comes late,"""
    phy_busy_ns: int = MS
    """by this time."""
    eeprom_bits: int = 0
    """Bits of the EEPROM that are wrong from the start."""
    abort: tuple[tuple[str, int], ...] = ()
    """Master aborts: an access of `ABORTS`, and in which run of that ring (from 1).

    A run sends what a doorbell has posted, or stores a batch of frames.
    """
    irq_lost: float = 0.0
    """Of rises of the interrupt line: the host does not see it."""
    irq_late: float = 0.0
    """Of rises: the host sees it late,"""
    irq_late_ns: int = MS
    """by up to this time."""
    overrun: float = 0.0
    """Of batches of received frames: the FIFO overruns, they are missed (MPC, RXO)."""
    writeback_ns: int = 0
    """Sent descriptors are written back late, by up to this time."""
    reset_ns: int = 0
    """About how often the MAC resets itself, as CTRL.RST does."""
    remove_ns: int = 0
    """When the device is pulled out of its slot, from its start; it does not come back."""

    @property
    def spares_rings(self) -> bool:
        """There are faults, and none hits a run of a ring or the interrupt line."""
        kept = ("seed", "down_ns", "phy_busy_ns", "irq_late_ns")
        others = ("flap_ns", "phy_busy", "eeprom_bits", "reset_ns", "remove_ns")
        there = {f.name for f in fields(self) if f.name not in kept and getattr(self, f.name)}
        return bool(there) and there <= set(others)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type == "float":
                if not isinstance(value, int | float) or not 0 <= value <= 1:
                    raise E1000Error(f"Faults: {f.name}={value!r}: give a probability, 0 to 1")
            elif f.type == "int" and f.name != "seed":
                whole_number("Faults", f.name, value, 0)
        for kind, n in self.abort:
            if kind not in ABORTS or n < 1:
                known = ", ".join(ABORTS)
                raise E1000Error(f"Faults: abort {kind}:{n}: give {known} and a number from 1")


class FaultyLine:
    """An interrupt line that loses rises, or shows them late."""

    def __init__(self, injector: Injector, line: InterruptLine) -> None:
        self._injector = injector
        self._line = line
        self._shown = False
        self._timer: TimerHandle | None = None

    def set_level(self, level: bool) -> None:
        """Take the device's level; show it, later or never."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not level:
            self._show(False)
            return
        injector, what = self._injector, self._injector.what
        if injector.hit("irq_lost", what.irq_lost):
            return
        if injector.hit("irq_late", what.irq_late):
            self._timer = injector.after(injector.upto("irq_late", what.irq_late_ns), self._late)
            return
        self._show(True)

    def _late(self) -> None:
        self._timer = None
        self._show(True)

    def _show(self, level: bool) -> None:
        if level != self._shown:
            self._shown = level
            self._line.set_level(level)


class Injector:
    """The faults of one Nic.  Made before its blocks; `start` when they exist."""

    def __init__(self, nic: Nic, what: Faults) -> None:
        self._nic = nic
        self.what = what
        self.counts: Counter[str] = Counter()
        """How often each kind was injected."""
        self.log: deque[tuple[int, str]] = deque(maxlen=LOGGED)
        """When (ns) and what, the latest."""
        self._streams: dict[str, Random] = {}
        self._runs: Counter[str] = Counter()
        self._timers: dict[str, TimerHandle] = {}
        self._flapped = False

    # --- randomness ------------------------------------------------------------------------------

    def stream(self, kind: str) -> Random:
        """Return the random stream of `kind`: no other kind draws from it."""
        if kind not in self._streams:
            self._streams[kind] = Random(f"{self.what.seed}/{kind}")
        return self._streams[kind]

    def hit(self, kind: str, probability: float) -> bool:
        """Draw whether it happens now; note it if so."""
        if not probability or self.stream(kind).random() >= probability:
            return False
        self.count(kind)
        return True

    def count(self, kind: str) -> None:
        """Note that `kind` was injected now."""
        self.counts[kind] += 1
        self.log.append((self._nic.clock.now_ns(), kind))

    def upto(self, kind: str, ns: int) -> int:
        """Draw a time from 1 to `ns`."""
        return self.stream(kind).randint(1, max(ns, 1))

    def after(self, ns: int, fn: Callable[[], Any]) -> TimerHandle:
        """Call `fn` in `ns`."""
        clock = self._nic.clock
        return clock.call_at(clock.now_ns() + ns, fn)

    def _every(self, kind: str, ns: int, fn: Callable[[], None]) -> None:
        """Call `fn` again and again, about every `ns`."""
        if not ns:
            return

        def again() -> None:
            wait = self.stream(kind).randint(ns // 2, ns * 3 // 2)
            self._timers[kind] = self.after(wait, run)

        def run() -> None:
            self.count(kind)
            fn()
            again()

        again()

    # --- the Nic's life --------------------------------------------------------------------------

    def line(self, line: InterruptLine) -> InterruptLine:
        """Return `line` as the Nic is to drive it."""
        return FaultyLine(self, line)

    def start(self) -> None:
        """Begin: every block exists, nothing is powered on yet."""
        self._nic.defer_doorbells()
        self._begin()

    def change(self, what: Faults) -> None:
        """Inject `what` from now on, and nothing else; times and runs count from here.

        What has gone wrong stays so, but a link that flaps comes back.  Raises: E1000Error, threads
        work the rings and `what` hits their runs.
        """
        hits = what != Faults(seed=what.seed) and not what.spares_rings
        if hits and self._nic.interrupts.threaded:
            raise E1000Error(
                "Faults: abort, irq_lost, irq_late, overrun and writeback_ns need rings on the "
                "clock, and threads work them here; make the NIC with one of them, or with Faults()"
            )
        self.stop()
        self.what = what
        self._runs.clear()
        self._streams.clear()
        self._begin()

    def _begin(self) -> None:
        nic, what = self._nic, self.what
        for _ in range(what.eeprom_bits):
            self.count("eeprom_bits")
            at = self.stream("eeprom_bits").randrange(64 * 16)
            nic.eeprom.words[at >> 4] ^= 1 << (at & 15)
        self._every("flap", what.flap_ns, self._flap)
        self._every("reset", what.reset_ns, nic.glitch)
        if what.remove_ns:
            self._timers["remove"] = self.after(what.remove_ns, self._remove)

    def stop(self) -> None:
        """Inject nothing more; what has gone wrong stays so, but a link that flaps comes back."""
        self.what = Faults(seed=self.what.seed)
        if self._flapped:
            self._plugged()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _flap(self) -> None:
        self._flapped = True
        self._nic.phy.cable(False, self._nic.phy.cable_speed_mbps, True)
        self._timers["plugged"] = self.after(self.what.down_ns, self._plugged)

    def _plugged(self) -> None:
        self._flapped = False
        link = self._nic.link
        self._nic.phy.cable(link.carrier, link.speed_mbps, True)

    def _remove(self) -> None:
        self.count("remove")
        self._nic.pull()

    @property
    def cut(self) -> bool:
        """The link is gone by a flap: what the far end does makes no difference."""
        return self._flapped

    # --- what the blocks ask ---------------------------------------------------------------------

    def soon(self, fn: Callable[[], Any]) -> None:
        """Run a ring after this event, or late."""
        nic, late = self._nic, self.what.writeback_ns
        if getattr(fn, "__self__", None) is not nic.tx:
            nic.clock.call_soon(fn)
        elif late:
            self.count("writeback")
            self.after(self.upto("writeback", late), lambda: self._run("tx", fn))
        else:
            nic.clock.call_soon(lambda: self._run("tx", fn))

    def mdio(self, operation: Callable[[], None]) -> bool:
        """Return whether `operation` happens late; it is called then."""
        if not self.hit("phy_busy", self.what.phy_busy):
            return False
        self.after(self.what.phy_busy_ns, operation)
        return True

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Take frames for the Nic, or lose them."""
        nic = self._nic
        if nic.rx.open and not nic.shared.still and self.hit("overrun", self.what.overrun):
            nic.stats.add("MPC", len(batch) - start)
            nic.interrupts.cause(RXO)
            return len(batch)
        done: int = self._run("rx", lambda: nic.rx.receive(batch, start, hold))
        return done

    def _run(self, which: str, fn: Callable[[], Any]) -> Any:
        """Run an engine; one access of it ends in a master abort when its number has come."""
        nic = self._nic
        engine = nic.tx.engine if which == "tx" else nic.rx.engine
        if (
            not self.what.abort
            or nic.shared.still
            or (which == "tx" and engine.head == engine.tail)
        ):
            return fn()
        self._runs[which] += 1
        base, n = engine.base, self._runs[which]
        due = [kind for kind, at in self.what.abort if at == n and kind.startswith(which)]
        if not due:
            return fn()
        for kind in due:
            self.count(f"abort {kind}")
        head = engine.head
        place = base + head * DESCRIPTOR_BYTES
        turned = f"{which}-data" in due and engine.turn(NOWHERE)
        data = nic.memory.read(place, 8) if f"{which}-data" in due and not turned else b""
        if data:
            nic.memory.write(
                place, (int.from_bytes(data, "little") | NOWHERE).to_bytes(8, "little")
            )
        if f"{which}-descriptor" in due:
            engine.misdirect = NOWHERE
        try:
            return fn()
        finally:
            engine.misdirect = 0
            if turned and engine.head == head:
                engine.turn(NOWHERE)
            if data:
                nic.memory.write(place, data)
