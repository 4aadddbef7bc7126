"""Hardware faults from a seed, to test drivers (`Nic(faults=...)`, `--faults`).

Every kind draws from its own random stream, so that kinds do not affect each other, and
under a VirtualClock a run is the same each time.  The faults are those of buses and of the part;
the device follows the datasheet, and `Nic.explain` sees only symptoms.  `Injector.log` lists
the injected faults and times.

Where each kind is injected:

* at a port: `overrun` for received frames (`LinkPort.receive`), `irq_lost` and `irq_late` on the
  interrupt line, `flap` in the cable's plug, `remove` in the slot. `writeback` is in the clock: the
  ring is served by a later event. A master abort is memory without response: `turn` or
  `misdirect` gave the engine such an address. `DmaTable` has no hook, since engines read its C
  struct for each descriptor;
* within the part: `phy_busy` on the MDIO wires, `eeprom_bits` in the chip, `reset`. No port sees
  these.

With threads (`DataPath.inject`) faults are chosen by number, not by time: the n-th rise of the
line, or the n-th frame. That frame is then a separate engine run, in any batch.
So a step of a ring takes the GIL while it holds the path. If no fault can affect the rings, it
does not: faults of the line and of the clock are compiled (`fastpath.nic.irqblock.LineFaults`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from random import Random
from typing import TYPE_CHECKING, Any

from e1000emu.errors import ArgumentTypeError, E1000Error
from e1000emu.quantities import MS_NS
from e1000emu.registers.regs import reg
from fastpath.base.batch import FrameBatch
from fastpath.errors import check_type, known_fields, whole_number
from fastpath.lifecycle import RunState
from fastpath.nic.irqblock import LineFaults
from fastpath.nic.txring import RUN_MORE

if TYPE_CHECKING:
    from e1000emu.device.board import Board
    from e1000emu.ports import Clock, TimerHandle
    from fastpath.nic.datapath import DataPath

__all__ = ["ABORTS", "Faults", "Injector"]

ABORTS = ("tx-descriptor", "tx-data", "rx-descriptor", "rx-data")
"""The access of an engine's run that a master abort can affect: the ring's first, or its data's."""
NOWHERE = 1 << 62
"""Added to an address to leave all memory."""
RXO = reg("ICR").mask("RXO")
RCTL, TCTL = reg("RCTL").offset, reg("TCTL").offset
RCTL_EN, TCTL_EN = reg("RCTL").mask("EN"), reg("TCTL").mask("EN")
LOGGED = 1024
MAX_LATE_NS = 1 << 60


@known_fields
@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults to inject. Shares are 0 to 1; a time of 0 turns its kind off.

    Times between two faults of a kind are random, between half and one and a half of the given one.
    """

    seed: int = 0
    """Seeds the random streams, one for each kind of fault."""
    flap_ns: int = 0
    """Mean interval between link failures."""
    down_ns: int = 200 * MS_NS
    """Duration of a flap."""
    phy_busy: float = 0.0
    """Share of MDIO operations whose READY comes late."""
    phy_busy_ns: int = MS_NS
    """Delay of READY."""
    eeprom_bits: int = 0
    """Number of wrong EEPROM bits from the start."""
    abort: tuple[tuple[str, int], ...] = ()
    """Master aborts: access (tx-descriptor, tx-data, rx-descriptor, rx-data), and the index of the
    run of that ring, from 1.

    A run handles one doorbell, or stores a batch of frames; with threads, one frame. On
    a bus with timing it sends a descriptor, or a segment of one.
    """
    irq_lost: float = 0.0
    """Share of rises of the interrupt line lost to the host."""
    irq_late: float = 0.0
    """Share of rises delayed to the host."""
    irq_late_ns: int = MS_NS
    """Maximum delay."""
    overrun: float = 0.0
    """Share of batches of received frames that overrun the FIFO and are missed (MPC, RXO).

    With threads each frame is a batch.
    """
    writeback_ns: int = 0
    """Maximum delay of the write-back of sent descriptors."""
    reset_ns: int = 0
    """Mean interval of resets of the MAC, as by CTRL.RST."""
    remove_ns: int = 0
    """Time from the start until the device is removed from its slot for good."""

    @property
    def hits_rings(self) -> bool:
        """Whether each step of a ring must call the injector."""
        return bool(self.abort or self.overrun or self.writeback_ns)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type == "float":
                if not isinstance(value, int | float) or not 0 <= value <= 1:
                    raise E1000Error(f"Faults: {f.name}={value!r}: give a probability, 0 to 1")
            elif f.type == "int":
                whole_number("Faults", f.name, value, None if f.name == "seed" else 0)
        takes = 'pairs such as (("tx-data", 1),)'
        check_type("Faults", "abort", self.abort, (tuple, list), takes)
        for number, pair in enumerate(self.abort):
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ArgumentTypeError(f"Faults: abort[{number}]={pair!r}; give {takes}")
            kind, n = pair
            whole_number("Faults", f"abort[{number}][1]", n)
            if kind not in ABORTS or n < 1:
                known = ", ".join(ABORTS)
                raise E1000Error(f"Faults: abort {kind}:{n}: give {known} and a number from 1")


class Injector:
    """The faults of one Nic (`mac.FaultHooks`).  Created before its blocks; `start` afterwards.

    Call like `Nic.pause`: with the clock's lock, and the `DataPath` if one works.
    """

    _nic: Board

    def __init__(self, what: Faults, clock: Clock) -> None:
        self.what = what
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._log: deque[tuple[int, str]] = deque(maxlen=LOGGED)
        self._streams: dict[str, Random] = {}
        self._runs: Counter[str] = Counter()
        self._timers: dict[str, TimerHandle] = {}
        self._flapped = False
        self._path: DataPath | None = None
        self._late_until = 0
        """Time when the descriptors in the ring are sent; 0: it was empty."""

    @property
    def counts(self) -> Counter[str]:
        """Number of injections of each kind."""
        self._look_at_line()
        return self._counts

    @property
    def log(self) -> list[tuple[int, str]]:
        """The latest faults with their times (ns), in order."""
        self._look_at_line()
        return sorted(self._log)

    def _look_at_line(self) -> None:
        """Collect the faults of the interrupt line."""
        hits, lost, late = self._nic.interrupts._failed()
        self._log.extend(hits)
        for kind, n in (("irq_lost", lost), ("irq_late", late)):
            if n:
                self._counts[kind] += n

    # --- randomness ------------------------------------------------------------------------------

    def stream(self, kind: str) -> Random:
        """Return the random stream of `kind`: used by no other kind."""
        if kind not in self._streams:
            self._streams[kind] = Random(f"{self.what.seed}/{kind}")
        return self._streams[kind]

    def draw(self, kind: str, probability: float) -> bool:
        """Draw whether the fault happens now; record it if so."""
        if not probability or self.stream(kind).random() >= probability:
            return False
        self.count(kind)
        return True

    def count(self, kind: str) -> None:
        """Record that `kind` was injected now."""
        self._counts[kind] += 1
        self._log.append((self._clock.now_ns(), kind))

    def draw_ns(self, kind: str, ns: int) -> int:
        """Draw a time from 1 to `ns`."""
        return self.stream(kind).randint(1, max(ns, 1))

    def after(self, ns: int, fn: Callable[[], Any]) -> TimerHandle:
        """Call `fn` in `ns`."""
        return self._clock.call_at(self._clock.now_ns() + ns, fn)

    def _every(self, kind: str, ns: int, fn: Callable[[], None]) -> None:
        """Call `fn` repeatedly, about every `ns`."""
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

    # --- the Nic's life cycle --------------------------------------------------------------------

    def start(self, nic: Board) -> None:
        """Begin: every block exists, nothing is powered on yet."""
        self._nic = nic
        nic.defer_doorbells()
        self._begin()

    def change(self, what: Faults) -> None:
        """Inject `what` from now on, and nothing else; times and runs start here.

        Damage done so far stays, but a flapping link comes up.
        """
        self.stop()
        self.what = what
        self._runs.clear()
        self._streams.clear()
        self._begin()

    def _install(self) -> None:
        """Set the faults of line and worker."""
        what = self.what
        self._look_at_line()
        self._nic.interrupts._fail(
            LineFaults(
                self.stream("irq_lost").getrandbits(64),
                self.stream("irq_late").getrandbits(64),
                what.irq_lost,
                what.irq_late,
                min(what.irq_late_ns, MAX_LATE_NS),
            )
        )
        if self._path is not None:
            self._path.inject(self if what.hits_rings else None)

    def _begin(self) -> None:
        nic, what = self._nic, self.what
        self._late_until = 0
        self._install()
        for _ in range(what.eeprom_bits):
            self.count("eeprom_bits")
            at = self.stream("eeprom_bits").randrange(64 * 16)
            nic.eeprom.words[at >> 4] ^= 1 << (at & 15)
        self._every("flap", what.flap_ns, self._flap)
        self._every("reset", what.reset_ns, nic.request_reset)
        if what.remove_ns:
            self._timers["remove"] = self.after(what.remove_ns, self._remove)

    def stop(self) -> None:
        """Inject nothing more; damage stays, but a flapping link comes up."""
        self.what = Faults(seed=self.what.seed)
        self._install()
        if self._flapped:
            self._plugged()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _flap(self) -> None:
        self._flapped = True
        self._nic.link_unit.disconnect()
        self._timers["plugged"] = self.after(self.what.down_ns, self._plugged)

    def _plugged(self) -> None:
        self._flapped = False
        self._nic.link_unit.connect()

    def _remove(self) -> None:
        self.count("remove")
        self._nic.surprise_removal()

    # --- called by the blocks ---------------------------------------------------------------------

    def schedule(self, fn: Callable[[], Any]) -> None:
        """Run a ring after this event, or delayed by a fault."""
        nic, late = self._nic, self.what.writeback_ns
        if getattr(fn, "__self__", None) is not nic.tx or self._worker_runs():
            self._clock.call_soon(fn)
        elif late:
            self.count("writeback")
            self.after(self.draw_ns("writeback", late), lambda: self._run_tx(fn))
        else:
            self._clock.call_soon(lambda: self._run_tx(fn))

    def _run_tx(self, fn: Callable[[], Any]) -> None:
        tx = self._nic.tx
        if self._worker_runs() or tx.stage is not None or tx.dma is not None:
            fn()  # the fault is in the worker's step, the stage or the DMA
        else:
            self._run("tx", fn)

    def mdio(self, operation: Callable[[], None]) -> bool:
        """Return whether `operation` is delayed; it is then called later."""
        if not self.draw("phy_busy", self.what.phy_busy):
            return False
        self.after(self.what.phy_busy_ns, operation)
        return True

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Pass frames to the Nic, or drop them."""
        rx = self._nic.rx
        if self._path is not None and self.what.hits_rings:
            return self._one_by_one(batch, start, hold, lambda one: rx.receive(one, 0, hold) > 0)
        if self._missed(len(batch) - start):
            return len(batch)
        done: int = self._run("rx", lambda: rx.receive(batch, start, hold))
        return done

    def _missed(self, frames: int) -> bool:
        """Draw whether the FIFO overruns, with `frames` missed."""
        nic = self._nic
        if not self._at_work("rx") or not self.draw("overrun", self.what.overrun):
            return False
        nic.stats.add("MPC", frames)
        nic.interrupts.cause(RXO)
        return True

    def _at_work(self, which: str) -> bool:
        """Whether the engine is on and may have work that a fault could affect."""
        nic, peek = self._nic, self._nic.regs.peek
        if nic.shared.still:
            return False
        if which == "rx":
            return bool(nic.rx.open and peek(RCTL) & RCTL_EN)
        tx = nic.tx
        return bool(tx.engine.pending() and tx.open and peek(TCTL) & TCTL_EN and nic.memory.enabled)

    # --- with threads: `DataPath` calls, holding the path and the GIL ----------------------------

    def work(self, path: DataPath) -> None:
        """`path` serves the rings from now on."""
        self._path = path
        self._install()

    def _worker_runs(self) -> bool:
        """The worker sends the ring's descriptors: a run from the clock only wakes it."""
        path = self._path
        running = path is not None and path.run_state is RunState.RUNNING
        return running and self._nic.tx.loop is None

    def send(self, batch: FrameBatch, room: int, now: int) -> int:
        """Send the next frame, or defer the ring's descriptors: RUN_* and causes."""
        path, late = self._path, self.what.writeback_ns
        assert path is not None
        if not self._at_work("tx"):
            return path.step_sending(batch, room, now)
        if late and not self._late_until:
            self.count("writeback")
            self._late_until = now + self.draw_ns("writeback", late)
        if now < self._late_until:
            path.tx_due = self._late_until
            return 0
        flags: int = self._run("tx", lambda: path.step_sending(batch, 1, now))
        if not flags & RUN_MORE:
            self._late_until = 0
        return flags

    def store(self, batch: FrameBatch, start: int, now: int) -> tuple[int, int]:
        """Store frames, each as a separate run: (index after the last, causes and RX_*)."""
        path, events = self._path, 0
        assert path is not None

        def take(one: FrameBatch) -> bool:
            nonlocal events
            end, more = path.step_storing(one, 0, now)
            events |= more
            return end > 0

        end = self._one_by_one(batch, start, True, take, path.must_filter)
        return end, events

    def _one_by_one(
        self,
        batch: FrameBatch,
        start: int,
        hold: bool,
        take: Callable[[FrameBatch], bool],
        look: Callable[[FrameBatch], bool] | None = None,
    ) -> int:
        """Pass frames to `take`, or drop them; returns the index of the first not accepted.

        Frames that `look` claims are for Python, and faults apply only there.
        """
        rx, one = self._nic.rx, FrameBatch()
        for i in range(start, len(batch)):
            one.clear()
            one.extend(batch, i, i + 1)
            if hold and rx.open and not rx.engine.takes(batch.frame_len(i)):
                return i  # it will be offered again
            if look is not None and look(one):
                take(one)  # which reports it
                return i
            if not self._missed(1) and not self._run("rx", lambda: take(one)):
                return i
        return len(batch)

    def staged(self, fn: Callable[[], Any], end: int = -1) -> Any:
        """Send the fetched descriptors, up to descriptor `end` (-1: all of it is shared)."""
        return fn() if self._worker_runs() else self._run("tx", fn, end)

    def fetched(self, fn: Callable[[], Any]) -> Any:
        """Run the transmit engine for data from a bus: a descriptor, or a segment of it."""
        return self._run("tx", fn)

    def _run(self, which: str, fn: Callable[[], Any], end: int = -1) -> Any:
        """Run an engine; one access of it ends in a master abort at the chosen run."""
        nic = self._nic
        engine = nic.tx.engine if which == "tx" else nic.rx.engine
        if not self.what.abort or not self._at_work(which) or not nic.memory.enabled:
            return fn()
        self._runs[which] += 1
        n = self._runs[which]
        due = [kind for kind, at in self.what.abort if at == n and kind.startswith(which)]
        if not due:
            return fn()
        for kind in due:
            self.count(f"abort {kind}")
        head = engine.head
        turned = f"{which}-data" in due and engine.fetch(end) and engine.turn(NOWHERE)
        if f"{which}-descriptor" in due:
            engine.drop()  # or the write-back would use a wrong descriptor
            engine.misdirect = NOWHERE
        try:
            return fn()
        finally:
            engine.misdirect = 0
            if turned and engine.head == head:
                engine.turn(NOWHERE)
