"""Record all data at a Nic's ports: `Nic(record=Recorder(path))`, `e1000emu record`.

The recorder wraps each port: memory, interrupt line, link, clock, and the slot that the host
drives.  It records events in the order of the device.  It changes two things:
the device's time is constant during one event, and each access to memory is a call.
`e1000emu.record.replay` replays the events to the same device.

Where a worker serves the rings (`DataPath`), each of its steps is an event too, and so is each
register access that the message thread serves.  All of them hold the path, so they have
an order, which the record keeps.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from e1000emu.closing import Closing
from e1000emu.device.board import Ports
from e1000emu.errors import ArgumentError
from e1000emu.insight.faults import Faults
from e1000emu.links.caps import LinkCaps, SharedWire, link_caps
from e1000emu.links.farend import as_plain
from e1000emu.links.station import RelayedStation, Station
from e1000emu.record.recording import Header, Kind, Writer
from fastpath.base.dma import DmaTable

if TYPE_CHECKING:
    from e1000emu.device.bars import Slot
    from e1000emu.links.farend import FarEnd
    from e1000emu.ports import (
        Clock,
        InterruptLine,
        Link,
        LinkPort,
        ManagementController,
        ManagementPort,
        Stage,
        TimerHandle,
    )
    from e1000emu.record.snapshot import NicState
    from fastpath.base.batch import FrameBatch
    from fastpath.nic.datapath import DataPath
    from fastpath.nic.irqblock import EventLine
    from fastpath.nic.regfile import RegFile

__all__ = ["Recorder", "Recording", "Setup"]

QUAD = (1 << 64) - 1
EVENTS = 1 << 32
"""A STORE returns the number of finished frames in the bits below this, its events above."""
FAR = 1 << 62
METHODS = ("mmio_read", "mmio_write", "io_read", "io_write")
CALLS = (
    "defer_doorbells", "drive_pin", "halt", "noticed", "pause", "power_on_reset", "request_reset",
    "reset", "restore", "resume", "surprise_removal",
)  # fmt: skip

STAGE_CALLS = {
    "tx": ("pump", "pump_now", "run_to", "settle"),
    "rx": ("fetched", "kick", "kick_now", "settle"),
}
"""Calls of a stage (`ports.Stage`)."""
MANAGEMENT_CALLS = ("force_tco", "receive_disable", "receive_enable", "send")
"""Calls of a management controller, besides reading."""
FAULT_CALLS = ("change", "stop")
"""Calls that change the faults of a running device."""
STATION_CALLS = ("collided", "collided_late", "deferred", "excessive", "over", "sent")
"""A shared wire's reports of the device's frames (`links.station.Station`)."""


class Setup(msgspec.Struct):
    """The arguments of a Nic, except its ports."""

    model: str
    mac: bytes
    eeprom: list[int]
    autoneg_ns: int
    moderation: str
    strict: bool
    faults: Any
    """`Faults`, or None."""
    flash: bytes | None = None
    pad_runts: bool = True
    bus: dict[str, Any] | None = None
    management: dict[str, Any] | None = None


def program() -> str:
    """Return the running release."""
    try:
        return metadata.version("e1000emu")
    except metadata.PackageNotFoundError:
        return "unknown"


class Recording(Protocol):
    """The object at the ports of a Nic: a recorder, or a replay."""

    def eeprom(self, words: list[int]) -> list[int]:
        """Return the EEPROM's content at power-on."""

    def ports(self, ports: Ports, setup: Setup) -> Ports:
        """Return the ports to use; the Nic runs from now on."""

    def made(self, nic: Any) -> None:
        """The Nic is complete."""


class Recorder(Closing):
    """Writes the data at the ports of one Nic to `path`.

    Give it to `Nic(record=...)`, and `close` it after the Nic.  Call with the clock's lock held.
    With `flush` each event is written at once, so that a crash loses none.
    Raises: RecordingError if `path` cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, flush: bool = False) -> None:
        self._writer = Writer(Path(path), flush=flush)
        self._inside = False
        self._stopped = False
        self._now_ns = 0
        self._numbers = 0
        self._clock: Clock | None = None
        self._tape: _Tape | None = None

    @property
    def events(self) -> int:
        """Number of events written."""
        return self._writer.events

    def close(self, why: str = "closed") -> None:
        """End the recording; safe to call twice.  Raises: RecordingError, it is incomplete."""
        if not self._stopped:
            self._stopped = True
            self._writer.close(why)

    # --- called while a Nic is created -----------------------------------------------------------

    def ports(self, ports: Ports, setup: Setup) -> Ports:
        """Return ports that record their data; the Nic runs from now on.

        Raises: ArgumentError, it already records another Nic.
        """
        if self._clock is not None:
            raise ArgumentError("Recorder: records a Nic already; give each Nic its own")
        self._clock = ports.clock
        link = _Link(self, ports.link)
        self._writer.begin(
            Header(
                program=program(),
                model=setup.model,
                mac=setup.mac.hex(":"),
                eeprom="".join(f"{word:04x}" for word in setup.eeprom),
                autoneg_ns=setup.autoneg_ns,
                moderation=setup.moderation,
                strict=setup.strict,
                messages=ports.on_message is not None,
                faults=None if setup.faults is None else asdict(setup.faults),
                flash=setup.flash,
                pad_runts=setup.pad_runts,
                bus=setup.bus,
                management=setup.management,
                full_duplex=bool(link.below.full_duplex),
                station=link.below.shared is not None,
            )
        )
        self._begin(Kind.CALL, "create", [])
        self._inside = True
        table = DmaTable()
        memory = ports.memory
        table.set_message_dma(
            lambda addr, n: self._dma_read(memory, addr, n),
            lambda addr, data: self._dma_write(memory, addr, data),
        )
        on_message, on_pme = ports.on_message, ports.on_pme
        self._memory = memory
        return Ports(
            memory=table,
            irq=_Line(self, ports.irq),
            link=link,
            clock=_Clock(self, ports.clock),
            on_message=on_message and self._out(Kind.MESSAGE, on_message),
            on_pme=self._out(Kind.PME, on_pme or _nobody),
            on_pin=self._out(Kind.PIN, ports.on_pin or _nobody),
            management=ports.management and _Controller(self, ports.management),
        )

    def eeprom(self, words: list[int]) -> list[int]:
        """Return the EEPROM's content at power-on."""
        return words

    def made(self, nic: Any) -> None:
        """The Nic is complete: record its inputs from now on."""
        self._inside = False
        self._put(Kind.RETURN, None, None)
        nic.slot = _Slot(self, nic.slot, self._memory)
        for name in METHODS:
            write, bar = name.endswith("write"), -1 if name.startswith("mmio") else -2
            kind = Kind.WRITE if write else Kind.READ
            setattr(nic, name, self._access(kind, bar, getattr(nic, name)))
        for name in CALLS:
            setattr(nic, name, self._call(name, getattr(nic, name)))
        if nic.faults is not None:
            for name in FAULT_CALLS:
                setattr(nic.faults, name, self._call(f"faults.{name}", getattr(nic.faults, name)))
        management = nic.management
        if management.attached:
            for name in MANAGEMENT_CALLS:
                made = self._call(f"management.{name}", getattr(management, name))
                setattr(management, name, made)
            read = management.read
            management.read = lambda: self._read_frame(read)
        for side, names in STAGE_CALLS.items():
            port = getattr(nic, side)
            for name in names:
                setattr(port, name, self._call(f"{side}.{name}", getattr(port, name)))
            port.use_stage = self._use_stage(side, port.use_stage)
        # A worker's frames may be in flight: the device does not see that refusal, so it is not an
        # event.
        restore, plain = nic.restore, type(nic).restore

        def unless_busy(state: NicState) -> None:
            return plain(nic, state) if nic.tx.busy else restore(state)

        nic.restore = unless_busy

    def attach_worker(self, path: DataPath, line: EventLine) -> None:
        """`path.attach(line)`; record the actions of `path` from now on.

        Each later call of the Nic holds the path, and so does `close` while the path works.
        """
        self._tape = _Tape(self, path, line)
        self.enter(lambda: path.attach(line, self._tape), Kind.CALL, "attach_worker", [])

    # --- the device boundary -----------------------------------------------------------------

    @property
    def outside(self) -> bool:
        """Whether a query is not recorded, because the device handles no event."""
        return self._stopped or not self._inside

    def now_ns(self) -> int:
        """Return the device's time."""
        assert self._clock is not None
        if self.outside:
            return self._clock.now_ns()
        return self._now_ns

    def _put(self, kind: Kind, *args: Any) -> None:
        if not self._stopped:
            self._writer.put(kind, *args)

    def _begin(self, kind: Kind, *args: Any) -> None:
        assert self._clock is not None
        self._now_ns = max(self._now_ns, self._clock.now_ns())
        self._put(kind, self._now_ns, *args)

    def enter(self, fn: Callable[[], Any], kind: Kind, *args: Any) -> Any:
        """Record an input event of the device."""
        if self._stopped or self._inside:
            return fn()
        self._begin(kind, *args)
        self._inside = True
        try:
            result = fn()
        except Exception as error:
            self._edges()
            self._inside = False
            self._put(Kind.RETURN, None, type(error).__name__)
            raise
        self._edges()
        self._inside = False
        self._put(Kind.RETURN, int(result) if isinstance(result, int) else None, None)
        return result

    def _edges(self) -> None:
        """Record the new edges of a line that compiled code drives."""
        if self._tape is not None:
            for level in self._tape.line.take():
                self.leave(_nobody, Kind.LEVEL, level)

    def hot(self, kind: Kind, fn: Callable[[int], Any], *args: Any) -> Any:
        """Let the message thread serve a register; nothing is recorded if it cannot (None).

        `fn` takes the time, and returns the value read, or True.
        """
        assert self._clock is not None
        if self._stopped:
            return fn(self._clock.now_ns())
        self._now_ns = max(self._now_ns, self._clock.now_ns())
        result = fn(self._now_ns)
        if result is not None:
            self._put(kind, self._now_ns, *args)
            self._inside = True
            self._edges()
            self._inside = False
            self._put(Kind.RETURN, None if result is True else result, None)
        return result

    def leave(self, fn: Callable[[], Any], kind: Kind, *args: Any) -> Any:
        """Record a call out of the device, during which input events may occur."""
        if self.outside:
            return fn()
        self._put(kind, *args)
        self._inside = False
        try:
            return fn()
        finally:
            self._inside = True
            self._put(Kind.DONE)

    def note(self, kind: Kind, *args: Any) -> None:
        """Record an output of the device, during which no input event can occur."""
        if not self.outside:
            self._put(kind, *args)

    def number(self) -> int:
        """Return the next timer's number."""
        self._numbers += 1
        return self._numbers

    def _out(self, kind: Kind, fn: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: self.leave(lambda: fn(*args), kind, *args)

    def read(self, fn: Callable[..., Any], kind: Kind, *bar: int, off: int, size: int) -> Any:
        """Let the host read by `fn`."""
        return self.enter(lambda: fn(off, size), kind, *bar, _place(off), _size(size))

    def write(
        self, fn: Callable[..., Any], kind: Kind, *bar: int, off: int, value: int, size: int
    ) -> None:
        """Let the host write by `fn`."""
        what = _place(off), value & QUAD, _size(size)
        self.enter(lambda: fn(off, value, size), kind, *bar, *what)

    def _access(self, kind: Kind, bar: int, fn: Callable[..., Any]) -> Callable[..., Any]:
        if kind is Kind.READ:
            return lambda off, size=4: self.read(fn, kind, bar, off=off, size=size)
        return lambda off, value, size=4: self.write(fn, kind, bar, off=off, value=value, size=size)

    def _call(self, name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: self.enter(
            lambda: fn(*args), Kind.CALL, name, [_plain(arg) for arg in args]
        )

    def _read_frame(self, fn: Callable[[], bytes | None]) -> bytes | None:
        """Let the management controller read a frame."""

        def read() -> bytes | None:
            frame = fn()
            self.note(Kind.READ_FRAME, frame or b"")
            return frame

        frame: bytes | None = self.enter(read, Kind.CALL, "management.read", [])
        return frame

    def _use_stage(
        self, side: str, fn: Callable[[Stage | None], None]
    ) -> Callable[[Stage | None], None]:
        def use(stage: Stage | None) -> None:
            shown = None if stage is None else _Stage(self, side, stage)
            self.enter(lambda: fn(shown), Kind.CALL, f"{side}.use_stage", [stage is not None])

        return use

    # --- memory ----------------------------------------------------------------------------------

    def _dma_read(self, memory: DmaTable, addr: int, n: int) -> bytes:
        aborts = memory.aborts
        data = memory.read(addr, n)
        good = memory.aborts == aborts
        self.note(Kind.DMA_READ, addr, n, data if good else None)
        return data if good else b""

    def _dma_write(self, memory: DmaTable, addr: int, data: bytes) -> bool:
        aborts = memory.aborts
        memory.write(addr, data)
        good = memory.aborts == aborts
        self.note(Kind.DMA_WRITE, addr, data, good)
        return not good


def _nobody(*what: object) -> None:
    """For PME# or a pin without connection."""


def _content(batch: FrameBatch, start: int = 0) -> tuple[list[bytes], list[int]]:
    """Return the frames from `start` on, and their flags."""
    which = range(start, len(batch))
    return [batch[i] for i in which], [batch.flags(i) for i in which]


def _place(off: int) -> int:
    """Return an offset limited to the range of a record; no register is beyond."""
    return max(-FAR, min(off, FAR))


def _size(size: int) -> int:
    return max(-16, min(size, 16))


def _plain(arg: Any) -> Any:
    if isinstance(arg, Faults):
        return msgspec.json.encode(arg)
    return msgspec.msgpack.encode(arg) if isinstance(arg, msgspec.Struct) else arg


class Edges:
    """The edges of a line that compiled code drives."""

    def __init__(self, line: EventLine) -> None:
        self._line = line
        self._seen = line.edges

    def take(self) -> list[bool]:
        """Return the levels since the last time.  Call with the path held."""
        count, self._seen = self._line.edges - self._seen, self._line.edges
        last = self._line.level
        return [last == (not (count - i) % 2) for i in range(1, count + 1)]


class _Tape:
    """Records the actions of a worker (`DataPath.attach`), with the path and the GIL held.

    The recorder gives each step its time, so that times keep the order of the steps.
    """

    def __init__(self, recorder: Recorder, path: DataPath, line: EventLine) -> None:
        self._recorder = recorder
        self._path = path
        self.line = Edges(line)

    def send(self, batch: FrameBatch, room: int) -> int:
        """Run the transmit engine."""
        recorder = self._recorder

        def run() -> int:
            flags = self._path.run_tx(batch, room, recorder.now_ns())
            if batch:
                recorder.leave(_nobody, Kind.TRANSMIT, *_content(batch))
            return flags

        return int(recorder.enter(run, Kind.SEND, room))

    def store(self, batch: FrameBatch, start: int) -> tuple[int, int]:
        """Pass frames to the receive side."""
        recorder = self._recorder
        frames, flags = _content(batch, start)

        def run() -> int:
            end, events = self._path.run_rx(batch, start, recorder.now_ns())
            return stored(end - start, events)

        result = int(recorder.enter(run, Kind.STORE, frames, flags))
        return start + result % EVENTS, result // EVENTS

    def tick(self) -> None:
        """Handle due work of the interrupt block."""
        recorder = self._recorder
        recorder.enter(lambda: self._path.run_tick(recorder.now_ns()), Kind.TICK)

    def read(self, regs: RegFile, off: int) -> int | None:
        """Read a register in the message thread."""
        value = self._recorder.hot(
            Kind.HOT_READ, lambda now: self._path.run_read(regs, off, now), off
        )
        return None if value is None else int(value)

    def write(self, regs: RegFile, off: int, value: int) -> bool:
        """Write a register in the message thread."""

        def run(now: int) -> bool | None:
            return self._path.run_write(regs, off, value, now) or None

        return self._recorder.hot(Kind.HOT_WRITE, run, off, value) is not None

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Let Python process the frames first."""
        recorder = self._recorder
        frames, flags = _content(batch, start)

        def take() -> int:
            return int(self._path.run_receive(batch, start, hold)) - start

        return start + int(recorder.enter(take, Kind.RECEIVE, hold, frames, flags))

    def call(self, name: str, fn: Callable[[], Any]) -> Any:
        """Call a function of the worker."""
        return self._recorder.enter(fn, Kind.CALL, name, [])


def stored(frames: int, events: int) -> int:
    """Return the result of a STORE: the finished frames, and the events above."""
    return frames + events * EVENTS


class _Line:
    """The interrupt line."""

    def __init__(self, recorder: Recorder, line: InterruptLine) -> None:
        self._recorder = recorder
        self._line = line

    def set_level(self, level: bool) -> None:
        """Pass the level on."""
        self._recorder.leave(lambda: self._line.set_level(level), Kind.LEVEL, bool(level))


class _Clock:
    """The clock.  All but the device's timers are passed to the real one."""

    def __init__(self, recorder: Recorder, clock: Clock) -> None:
        self._recorder = recorder
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    def now_ns(self) -> int:
        """Return the time of the event being handled."""
        return self._recorder.now_ns()

    def call_at(self, when_ns: int, fn: Callable[[], Any], **options: Any) -> TimerHandle:
        """Call `fn` at that time."""
        recorder = self._recorder
        if recorder.outside:
            return self._clock.call_at(when_ns, fn, **options)
        number = recorder.number()
        recorder.note(Kind.AT, number, when_ns)
        return self._clock.call_at(
            when_ns, lambda: recorder.enter(fn, Kind.TIMER, number), **options
        )

    def call_soon(self, fn: Callable[[], Any]) -> None:
        """Call `fn` after this event."""
        recorder = self._recorder
        if recorder.outside:
            self._clock.call_soon(fn)
            return
        number = recorder.number()
        recorder.note(Kind.LATER, number)
        self._clock.call_soon(lambda: recorder.enter(fn, Kind.SOON, number))


class _Link:
    """The link, and its port.  It accepts wire frames, but no super-frames."""

    def __init__(self, recorder: Recorder, link: Link) -> None:
        self._recorder = recorder
        self._link = link
        self.below = link_caps("Recorder", link)
        self._port: Any = None
        self._on_rx_config: Callable[[], object] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    # the Link

    @property
    def caps(self) -> LinkCaps:
        """Records calls and results, even if the link has no such part."""
        return LinkCaps(
            timed=self,
            shared=None if self.below.shared is None else self,
            fibre=self,
            negotiation=self,
            clock=self.below.clock,
            stats=self.below.stats,
        )

    @property
    def full_duplex(self) -> bool:
        """Full duplex."""
        return self.below.full_duplex

    @property
    def carrier(self) -> bool:
        """Whether the far end is connected."""
        self._recorder.note(Kind.CARRIER, bool(self._link.carrier), self._link.speed_mbps)
        return self._link.carrier

    @property
    def speed_mbps(self) -> int:
        """The speed of the far end."""
        self._recorder.note(Kind.CARRIER, bool(self._link.carrier), self._link.speed_mbps)
        return self._link.speed_mbps

    @property
    def far_end(self) -> FarEnd | None:
        """Autonegotiation data of the far end; it may change while recording."""
        far_end = self.below.far_end
        self._recorder.note(Kind.FAR_END, as_plain(far_end))
        return far_end

    @property
    def tx_config(self) -> int | None:
        """What the device's optics send besides frames."""
        return None if self.below.fibre is None else self.below.fibre.tx_config

    @tx_config.setter
    def tx_config(self, value: int | None) -> None:
        self._recorder.note(Kind.TX_CONFIG, value)
        if self.below.fibre is not None:
            self.below.fibre.tx_config = value

    @property
    def rx_config(self) -> int | None:
        """What they receive besides frames."""
        value = None if self.below.fibre is None else self.below.fibre.rx_config
        self._recorder.note(Kind.RX_CONFIG, value)
        return value

    @property
    def on_rx_config(self) -> Callable[[], object] | None:
        """Callbacks for its changes."""
        return self._on_rx_config

    @on_rx_config.setter
    def on_rx_config(self, fn: Callable[[], object] | None) -> None:
        self._on_rx_config = fn
        if self.below.fibre is not None:
            self.below.fibre.on_rx_config = None if fn is None else self._rx_config_changed

    def _rx_config_changed(self) -> None:
        fn = self._on_rx_config
        assert fn is not None
        self._recorder.enter(fn, Kind.CALL, "rx_config_changed", [])

    @property
    def gap_bytes(self) -> int:
        """The gap between frames of a link with timing."""
        return 0 if self.below.timed is None else self.below.timed.gap_bytes

    @gap_bytes.setter
    def gap_bytes(self, value: int) -> None:
        self._recorder.note(Kind.GAP, value)
        if self.below.timed is not None:
            self.below.timed.gap_bytes = value

    @property
    def busy_ns(self) -> int:
        """The time when accepted frames have been sent."""
        busy_ns = 0 if self.below.timed is None else int(self.below.timed.busy_ns)
        self._recorder.note(Kind.BUSY, busy_ns)
        return busy_ns

    @property
    def station(self) -> Station:
        """The station of a shared wire."""
        return self._shared.station

    @station.setter
    def station(self, station: Station) -> None:
        self._shared.station = RelayedStation(station, self._told)

    @property
    def _shared(self) -> SharedWire:
        shared = self.below.shared
        assert shared is not None
        return shared

    def _told(self, name: str, fn: Callable[..., None], *args: Any) -> None:
        # Its answers (TCTL, TIPG) change nothing and are not recorded.
        self._recorder.enter(lambda: fn(*args), Kind.CALL, f"station.{name}", list(args))

    def attach(self, port: LinkPort) -> None:
        """Plug the Nic in."""
        self._port = port
        self._recorder.leave(lambda: self._link.attach(self), Kind.ATTACH)

    def detach(self) -> None:
        """Unplug it."""
        self._recorder.leave(self._link.detach, Kind.DETACH)

    def tx_room(self) -> int:
        """Return how many frames the link accepts."""
        room = self._link.tx_room()
        self._recorder.note(Kind.TX_ROOM, room)
        return room

    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames."""
        recorder = self._recorder
        if recorder.outside:
            self._link.transmit(batch)
            return
        content = _content(batch)
        recorder.leave(lambda: self._link.transmit(batch), Kind.TRANSMIT, *content)

    def rx_ready(self) -> None:
        """Report that the Nic has room."""
        self._recorder.leave(self._link.rx_ready, Kind.RX_READY)

    # the LinkPort

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Pass frames to the Nic."""
        frames, flags = _content(batch, start)

        def take() -> int:
            return int(self._port.receive(batch, start, hold)) - start

        return start + int(self._recorder.enter(take, Kind.RECEIVE, bool(hold), frames, flags))

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """Notify the Nic of a carrier change."""
        self._recorder.enter(
            lambda: self._port.link_changed(up, speed_mbps, full_duplex),
            Kind.LINK,
            bool(up),
            speed_mbps,
            bool(full_duplex),
        )

    def tx_ready(self) -> None:
        """Notify the Nic that the link has room."""
        self._recorder.enter(lambda: self._port.tx_ready(), Kind.ROOM)


class _Stage:
    """The stage before an engine with memory by messages: it is outside the device."""

    def __init__(self, recorder: Recorder, side: str, stage: Stage) -> None:
        self._recorder = recorder
        self._side = side
        self._stage = stage

    @property
    def busy(self) -> bool:
        """Whether it waits for memory."""
        busy = bool(self._stage.busy)
        self._recorder.note(Kind.STAGE_BUSY, self._side, busy)
        return busy

    def run(self) -> None:
        """The ring or the link has changed."""
        self._recorder.leave(self._stage.run, Kind.STAGE, self._side, "run", 0)

    def forget(self) -> None:
        """The ring was replaced."""
        self._recorder.leave(self._stage.forget, Kind.STAGE, self._side, "forget", 0)

    def after(self, causes: int) -> None:
        """The engine has run."""
        self._recorder.leave(
            lambda: self._stage.after(causes), Kind.STAGE, self._side, "after", causes
        )


class _Controller:
    """The management controller, as the device sees it."""

    def __init__(self, recorder: Recorder, controller: ManagementController) -> None:
        self._recorder = recorder
        self._controller = controller
        self.reset_on_force = controller.reset_on_force

    def attach(self, port: ManagementPort) -> None:
        """Pass it the port, which the recorder wraps when the Nic is created."""
        self._controller.attach(port)

    def alert(self) -> None:
        """Notify it of a frame."""
        self._recorder.leave(self._controller.alert, Kind.ALERT)


class _Slot:
    """The slot that the host's PCI layer drives."""

    def __init__(self, recorder: Recorder, slot: Slot, memory: DmaTable) -> None:
        self._recorder = recorder
        self._slot = slot
        self._memory = memory

    @property
    def dma_table(self) -> object:
        """The host's own table: a driver may map more memory there."""
        return self._memory

    def config_read(self, off: int, size: int) -> int:
        """Read configuration space."""
        fn = self._slot.config_read
        return int(self._recorder.read(fn, Kind.CONFIG_READ, off=off, size=size))

    def config_write(self, off: int, value: int, size: int) -> None:
        """Write configuration space."""
        fn = self._slot.config_write
        self._recorder.write(fn, Kind.CONFIG_WRITE, off=off, value=value, size=size)

    def bar_read(self, bar: int, off: int, size: int) -> int:
        """Read a BAR."""
        fn = partial(self._slot.bar_read, bar)
        return int(self._recorder.read(fn, Kind.READ, bar, off=off, size=size))

    def bar_write(self, bar: int, off: int, value: int, size: int) -> None:
        """Write a BAR."""
        fn = partial(self._slot.bar_write, bar)
        self._recorder.write(fn, Kind.WRITE, bar, off=off, value=value, size=size)

    def bar_size(self, bar: int) -> int:
        """Return the size of a BAR."""
        return self._slot.bar_size(bar)

    @property
    def io_bar(self) -> int:
        """Index of the I/O BAR."""
        return self._slot.io_bar
