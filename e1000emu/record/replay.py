"""Replay a recording: the same device with the same events (`e1000emu replay`).

The device gets the recorded events again, at their recorded times; its reads of memory and its
queries of the link are answered from the recording.  All its actions (values read, memory
written, frames, interrupt edges, timers) must match the recording, to the byte and in the same
order.  The replay ends at the first difference, the divergence.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from e1000emu.device.board import Ports
from e1000emu.device.bus import Bus
from e1000emu.device.eepromfile import EEPROM_BYTES
from e1000emu.device.nic import Nic
from e1000emu.errors import E1000Error
from e1000emu.insight.faults import Faults
from e1000emu.links.caps import LinkCaps
from e1000emu.links.farend import FarEnd, from_plain
from e1000emu.links.station import Station
from e1000emu.ports import LinkPort
from e1000emu.record.recorder import (
    CALLS,
    FAULT_CALLS,
    MANAGEMENT_CALLS,
    STAGE_CALLS,
    STATION_CALLS,
    Edges,
    Setup,
    stored,
)
from e1000emu.record.recording import (
    INPUTS,
    NESTING,
    WORK,
    Event,
    Header,
    Kind,
    Reader,
    RecordingError,
    describe,
)
from e1000emu.record.snapshot import NicState
from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable
from fastpath.nic.datapath import DataPath
from fastpath.nic.irqblock import EventLine
from fastpath.nic.wire import FrameQueue

__all__ = ["Divergence", "Replay", "replay"]

MMIO, IO = -1, -2
"""BAR of an access outside the slot."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a replay first differs from the recording."""

    number: int
    """The number of the event, from 1."""
    offset: int
    """The offset at which it begins in the file."""
    time_ns: int
    """The device's time, ns."""
    expected: str
    came: str

    def __str__(self) -> str:
        return (
            f"event {self.number} (offset {self.offset}) at {self.time_ns} ns: "
            f"expected {self.expected}; came {self.came}"
        )


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of a replay."""

    header: Header
    events: int
    """Number of equal events."""
    time_ns: int
    """The device's time at the last event."""
    divergence: Divergence | None
    complete: bool
    """Whether the recording is complete, with its `END`."""
    why: str
    """The reason for the end of the recording."""
    nic: Nic | None
    """The device after the replay."""


class _Diverged(Exception):
    """Unwinds to `replay`."""


def replay(path: str | os.PathLike[str], *, partial: bool = False) -> Replay:
    """Replay the recording at `path`, up to its end or the first divergence.

    `partial` accepts a truncated file.  Raises: RecordingError, with the offset and reason.
    """
    with Reader(Path(path), partial=partial) as reader:
        player = _Player(reader)
        player.run()
        return player.result()


class _Player:
    """Serves the ports of the Nic that it creates."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._events: Iterator[Event] = iter(reader)
        self._ahead: Event | None = None
        self._same = 0
        self._end: Event | None = None
        self.now = 0
        self.divergence: Divergence | None = None
        self._error: RecordingError | None = None
        self._over = False
        self._calls: dict[int, Callable[[], Any]] = {}
        self._numbers = 0
        self._nic: Nic | None = None
        self._port: LinkPort | None = None
        self.station: Station | None = None
        """The device's station on a shared wire."""
        self._worker: DataPath | None = None
        self._edges: Edges | None = None

    def result(self) -> Replay:
        """Return the result."""
        why = self._end.args[1] if self._end is not None else "cut off"
        return Replay(
            header=self._reader.header,
            events=self._same,
            time_ns=self.now,
            divergence=self.divergence,
            complete=self._end is not None,
            why=str(why),
            nic=self._nic,
        )

    # --- the recording ---------------------------------------------------------------------------

    def _peek(self) -> Event | None:
        if self._ahead is None:
            try:
                self._ahead = next(self._events, None)
            except RecordingError as error:
                self._error = error
                raise _Diverged from error
        return self._ahead

    def _take(self) -> Event | None:
        event = self._peek()
        self._ahead = None
        if event is not None:
            self._same = event.number
        return event

    def _differ(self, event: Event, expected: str, came: str) -> _Diverged:
        if self.divergence is None and self._error is None:
            self.divergence = Divergence(event.number, event.offset, self.now, expected, came)
            self._same = event.number - 1
        return _Diverged()

    @property
    def over(self) -> bool:
        """Whether the replay has diverged or ended, so that the device's calls are ignored."""
        return self._over or self.divergence is not None or self._error is not None

    def run(self) -> None:
        """Replay all of it.  Raises: RecordingError."""
        with suppress(_Diverged):
            self._inputs(None)
        if self._error is not None:
            raise self._error

    def _inputs(self, until: Kind | None) -> None:
        """Give the device its inputs, up to and including an event of kind `until`."""
        while True:
            event = self._take()
            if event is None or event.kind is Kind.END:
                raise self._ended(event)
            if event.kind in INPUTS:
                self._input(event)
            elif event.kind is until:
                return
            else:
                raise self._differ(event, describe(event.kind, event.args), "nothing of the device")

    def _ended(self, event: Event | None) -> _Diverged:
        """The recording ends, perhaps inside an event, which is not a difference."""
        self._end = event
        self._over = True
        if event is not None:
            self._same = event.number - 1
        return _Diverged()

    def _input(self, event: Event) -> None:
        time, *args = event.args
        self.now = time
        result, error = None, None
        try:
            result = self._give(event, args)
        except _Diverged:
            raise
        except Exception as raised:  # also exceptions that only a damaged recording causes, by name
            error = type(raised).__name__
        if self._edges is not None:
            for level in self._edges.take():
                self.check(Kind.LEVEL, level)
        if self.over:
            raise _Diverged
        self._expect(Kind.RETURN, result if isinstance(result, int) else None, error)

    def _give(self, event: Event, args: list[Any]) -> Any:
        kind, nic = event.kind, self._nic
        if kind is Kind.CALL and args[0] == "create" and nic is None:
            return self._create()
        if nic is None:
            raise self._differ(event, "the device to be made first", describe(kind, event.args))
        if kind is Kind.READ and args[0] in (MMIO, IO):
            return (nic.mmio_read if args[0] == MMIO else nic.io_read)(*args[1:])
        if kind is Kind.WRITE and args[0] in (MMIO, IO):
            return (nic.mmio_write if args[0] == MMIO else nic.io_write)(*args[1:])
        if kind is Kind.READ:
            return nic.slot.bar_read(*args)
        if kind is Kind.WRITE:
            return nic.slot.bar_write(*args)
        if kind is Kind.CONFIG_READ:
            return nic.slot.config_read(*args)
        if kind is Kind.CONFIG_WRITE:
            return nic.slot.config_write(*args)
        if kind in (Kind.TIMER, Kind.SOON):
            call = self._calls.pop(args[0], None)
            if call is None:
                raise self._differ(event, describe(kind, event.args), "no such timer is set")
            return call()
        if kind is Kind.CALL:
            return self._call(event, nic, *args)
        if kind in WORK:
            return self._work(event, nic, args)
        port = self._port
        if port is None:
            raise self._differ(event, describe(kind, event.args), "the device is not plugged in")
        if kind is Kind.RECEIVE:
            hold, frames, flags = args
            return port.receive(_batch(frames, flags), 0, hold)
        if kind is Kind.LINK:
            return port.link_changed(*args)
        return port.tx_ready()

    def _work(self, event: Event, nic: Nic, args: list[Any]) -> Any:
        """Repeat an action of a worker or of the message thread."""
        worker, kind, now = self._worker, event.kind, self.now
        if worker is None:
            raise self._differ(event, describe(kind, event.args), "the device has no worker")
        if kind is Kind.SEND:
            batch = FrameBatch()
            flags = worker.run_tx(batch, args[0], now)
            if batch:
                marks = [batch.flags(i) for i in range(len(batch))]
                self.check(Kind.TRANSMIT, list(batch), marks)
            return flags
        if kind is Kind.STORE:
            return stored(*worker.run_rx(_batch(*args), 0, now))
        if kind is Kind.TICK:
            return worker.run_tick(now)
        if kind is Kind.HOT_READ:
            value = worker.run_read(nic.regs.file, args[0], now)
            if value is not None:
                return value
        elif worker.run_write(nic.regs.file, args[0], args[1], now):
            return None
        raise self._differ(event, describe(kind, event.args), "an access that takes Python")

    def _attach_worker(self, nic: Nic) -> None:
        """Give the device its worker; the replay repeats its actions."""
        line = EventLine()
        self._edges = Edges(line)
        self._worker = DataPath(nic.tx, nic.rx, nic.interrupts, FrameQueue())
        self._worker.attach(line)

    def _call(self, event: Event, nic: Nic, name: str, args: list[Any]) -> Any:
        # Recordings of releases before `Nic.halt` and `Nic.pause`.
        if name == "hold":
            return nic.pause() if args[0] else nic.resume()
        name = "halt" if name == "close" else name
        if name == "attach_worker" and self._worker is None:
            return self._attach_worker(nic)
        if name in ("pause_worker", "resume_worker") and self._worker is not None:
            return self._worker.pause() if name == "pause_worker" else self._worker.resume()
        if name == "rx_config_changed":
            return nic.link_unit.rx_config_changed()
        side, _, part = name.partition(".")
        if side == "station" and part in STATION_CALLS and self.station is not None:
            return getattr(self.station, part)(*args)
        if side == "faults" and part in FAULT_CALLS and nic.faults is not None:
            what = [msgspec.json.decode(arg, type=Faults) for arg in args]
            return getattr(nic.faults, part)(*what)
        if side == "management" and part == "read":
            frame = nic.management.read()
            self.check(Kind.READ_FRAME, frame or b"")
            return None
        if side == "management" and part in MANAGEMENT_CALLS:
            return getattr(nic.management, part)(*args)
        if side in STAGE_CALLS and part == "use_stage":
            return getattr(nic, side).use_stage(_Stage(self, side) if args[0] else None)
        if part in STAGE_CALLS.get(side, ()):
            return getattr(getattr(nic, side), part)(*args)
        if name not in CALLS:
            raise self._differ(event, f"call of {name}", "the device has no such function")
        if name == "restore":
            return nic.restore(msgspec.msgpack.decode(args[0], type=NicState))
        return getattr(nic, name)(*args)

    def _create(self) -> Any:
        header = self._reader.header
        try:
            faults = None
            if header.faults is not None:
                aborts = tuple((str(kind), int(n)) for kind, n in header.faults["abort"])
                faults = Faults(**(header.faults | {"abort": aborts}))
            self._nic = Nic(
                memory=DmaTable(),
                irq=self,  # every port is exchanged by `ports`
                link=_Link(self, header),
                clock=_Clock(self),  # type: ignore[arg-type]
                model=header.model,
                strict=header.strict,
                autoneg_ns=header.autoneg_ns,
                moderation=header.moderation,
                faults=faults,
                flash=header.flash,
                pad_runts=header.pad_runts,
                bus=None if header.bus is None else Bus(**header.bus),
                management=self._controller(),
                record=self,
            )
        except _Diverged:
            raise
        except (E1000Error, LookupError, TypeError, ValueError) as error:
            self._error = RecordingError(
                f"recording {self._reader.path}: the header asks for what cannot be: {error}"
            )
            raise _Diverged from error

    # --- outputs of the device --------------------------------------------------------------------

    def _expect(self, kind: Kind, *args: Any) -> Event:
        """Compare an action of the device with the next event; return the event."""
        event = self._take()
        if event is None or event.kind is Kind.END:
            raise self._ended(event)
        if event.kind is not kind or event.args != args:
            raise self._differ(event, *_difference(event, kind, args))
        return event

    def check(self, kind: Kind, *args: Any) -> None:
        """Check an action of the device."""
        if self.over:
            return
        try:
            self._expect(kind, *args)
            if kind in NESTING:
                self._inputs(Kind.DONE)
        except _Diverged:
            return  # `over` is True from now on; the device's caller ends the replay

    def answer(self, kind: Kind, like: tuple[Any, ...], default: Any) -> Any:
        """Return the recorded answer to a query; `like` are the arguments that must match."""
        if self.over:
            return default
        try:
            event = self._take()
            if event is None or event.kind is Kind.END:
                raise self._ended(event)
            if event.kind is not kind or event.args[: len(like)] != like:
                self._differ(event, *_difference(event, kind, like))
                return default
        except _Diverged:
            return default
        return event.args[len(like) :]

    # --- the ports -------------------------------------------------------------------------------

    def ports(self, ports: Ports, setup: Setup) -> Ports:
        """Return the ports of the replay, all of them on this object."""
        header = self._reader.header
        table = DmaTable()
        table.set_message_dma(self._dma_read, self._dma_write)
        clock: Any = _Clock(self)
        return Ports(
            memory=table,
            irq=self,
            link=_Link(self, header),
            clock=clock,
            on_message=self._message if header.messages else None,
            on_pme=self._pme,
            on_pin=lambda number, level: self.check(Kind.PIN, number, level),
            management=ports.management,
        )

    def eeprom(self, words: list[int]) -> list[int]:
        """Return the EEPROM of the recording."""
        text = self._reader.header.eeprom
        own = [int(text[i : i + 4], 16) for i in range(0, len(text), 4)]
        if 2 * len(own) not in EEPROM_BYTES:
            raise ValueError(f"an EEPROM of {len(own)} words, which no chip has")
        return own

    def made(self, nic: Nic) -> None:
        """No effect, since the replay does not wrap the device."""

    def plug(self, port: LinkPort | None) -> None:
        """The device plugs or unplugs itself."""
        if port is not None:
            self._port = port
        self.check(Kind.DETACH if port is None else Kind.ATTACH)

    def _controller(self) -> _Controller | None:
        said = self._reader.header.management
        return None if said is None else _Controller(self, bool(said["reset_on_force"]))

    def set_level(self, level: bool) -> None:
        """Take the interrupt line's level."""
        self.check(Kind.LEVEL, bool(level))

    def _message(self, address: int, data: int) -> None:
        self.check(Kind.MESSAGE, address, data)

    def _pme(self, level: bool) -> None:
        self.check(Kind.PME, bool(level))

    def _dma_read(self, addr: int, n: int) -> bytes:
        (data,) = self.answer(Kind.DMA_READ, (addr, n), (None,))
        return b"" if data is None else data

    def _dma_write(self, addr: int, data: bytes) -> bool:
        (good,) = self.answer(Kind.DMA_WRITE, (addr, data), (False,))
        return not good

    def later(self, kind: Kind, fn: Callable[[], Any], *when: int) -> int:
        """The device sets a timer."""
        self._numbers += 1
        self._calls[self._numbers] = fn
        self.check(kind, self._numbers, *when)
        return self._numbers

    def forget(self, number: int) -> None:
        """It cancels a timer."""
        self._calls.pop(number, None)


class _Handle:
    """A timer of the device's."""

    def __init__(self, player: _Player, number: int) -> None:
        self._player = player
        self._number = number

    def cancel(self) -> None:
        """Forget the call."""
        self._player.forget(self._number)


class _Clock:
    """The recorded time."""

    def __init__(self, player: _Player) -> None:
        self._player = player

    def now_ns(self) -> int:
        """Return the time of the event."""
        return self._player.now

    def call_at(self, when_ns: int, fn: Callable[[], Any], **options: Any) -> _Handle:
        """Call `fn` at the recorded time."""
        return _Handle(self._player, self._player.later(Kind.AT, fn, when_ns))

    def call_soon(self, fn: Callable[[], Any]) -> None:
        """Call `fn` at the recorded time."""
        self._player.later(Kind.LATER, fn)

    def cancel(self, handle: _Handle) -> None:
        """Forget a call."""
        handle.cancel()


class _Link:
    """The recorded link."""

    def __init__(self, player: _Player, header: Header) -> None:
        self._player = player
        self._shared = header.station
        self.full_duplex = header.full_duplex
        self.on_rx_config: Callable[[], object] | None = None
        """Never called: the changes are calls in the recording."""

    @property
    def caps(self) -> LinkCaps:
        """The capabilities of the recorder's link (`recorder._Link`)."""
        shared = self if self._shared else None
        return LinkCaps(timed=self, shared=shared, fibre=self, negotiation=self)

    @property
    def far_end(self) -> FarEnd | None:
        """The recorded far end."""
        return from_plain(self._player.answer(Kind.FAR_END, (), (None,))[0])

    @property
    def tx_config(self) -> int | None:
        """Signal of the optics; never read."""
        return None

    @tx_config.setter
    def tx_config(self, value: int | None) -> None:
        self._player.check(Kind.TX_CONFIG, value)

    @property
    def rx_config(self) -> int | None:
        """The recorded signal to the optics."""
        value: int | None = self._player.answer(Kind.RX_CONFIG, (), (None,))[0]
        return value

    @property
    def carrier(self) -> bool:
        """The recorded carrier."""
        return bool(self._player.answer(Kind.CARRIER, (), (False, 1000))[0])

    @property
    def speed_mbps(self) -> int:
        """The recorded speed."""
        return int(self._player.answer(Kind.CARRIER, (), (False, 1000))[1])

    @property
    def gap_bytes(self) -> int:
        """The gap between frames; never read."""
        return 0

    @gap_bytes.setter
    def gap_bytes(self, value: int) -> None:
        self._player.check(Kind.GAP, value)

    @property
    def busy_ns(self) -> int:
        """The recorded time when the wire was free."""
        return int(self._player.answer(Kind.BUSY, (), (0,))[0])

    def attach(self, port: LinkPort) -> None:
        """Attach the Nic's port."""
        self._player.plug(port)

    def detach(self) -> None:
        """The Nic unplugs itself."""
        self._player.plug(None)

    def tx_room(self) -> int:
        """Return the recorded room of the link."""
        return int(self._player.answer(Kind.TX_ROOM, (), (0,))[0])

    def transmit(self, batch: FrameBatch) -> None:
        """Compare the frames."""
        flags = [batch.flags(i) for i in range(len(batch))]
        frames = list(batch)
        batch.clear()
        self._player.check(Kind.TRANSMIT, frames, flags)

    def rx_ready(self) -> None:
        """The Nic has room."""
        self._player.check(Kind.RX_READY)

    @property
    def station(self) -> Station:
        """The station to which a shared wire reports."""
        return self._player.station or Station()

    @station.setter
    def station(self, station: Station) -> None:
        self._player.station = station


class _Controller:
    """The management controller: its actions are in the recording."""

    def __init__(self, player: _Player, reset_on_force: bool) -> None:
        self._player = player
        self.reset_on_force = reset_on_force

    def attach(self, port: object) -> None:
        """No effect: the replay calls the device itself."""

    def alert(self) -> None:
        """The device has a frame for it."""
        self._player.check(Kind.ALERT)


class _Stage:
    """The recorded stage before an engine."""

    def __init__(self, player: _Player, side: str) -> None:
        self._player = player
        self._side = side

    @property
    def busy(self) -> bool:
        """Whether it waited for memory."""
        return bool(self._player.answer(Kind.STAGE_BUSY, (self._side,), (False,))[0])

    def run(self) -> None:
        """The ring or the link has changed."""
        self._player.check(Kind.STAGE, self._side, "run", 0)

    def forget(self) -> None:
        """The ring was replaced."""
        self._player.check(Kind.STAGE, self._side, "forget", 0)

    def after(self, causes: int) -> None:
        """The engine has run."""
        self._player.check(Kind.STAGE, self._side, "after", causes)


def _batch(frames: list[bytes], flags: list[int]) -> FrameBatch:
    batch = FrameBatch()
    for frame, mark in zip(frames, flags, strict=True):
        batch.append(frame, mark)
    return batch


def _difference(event: Event, kind: Kind, args: tuple[Any, ...]) -> tuple[str, str]:
    """Return the expected and actual values; for data the first differing byte."""
    expected, came = describe(event.kind, event.args), ""
    if event.kind is kind:
        for old, new in zip(event.args, args, strict=False):
            if old != new:
                came = _first(old, new)
                break
    if kind in (Kind.DMA_READ, Kind.DMA_WRITE) and len(args) < 3:
        shown = describe(kind, (*args, True) if kind is Kind.DMA_WRITE else (*args, b""))
        return expected, shown.removesuffix(": 0 bytes") + came
    return expected, describe(kind, args) + came


def _first(old: Any, new: Any) -> str:
    """Return the first place where two values differ, if they are long."""
    if isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return f" ({len(old)} and {len(new)} frames)"
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            if a != b:
                return f" (number {i}{_first(a, b)})"
    if isinstance(old, bytes) and isinstance(new, bytes):
        for i, (x, y) in enumerate(zip(old, new, strict=False)):
            if x != y:
                return f" (byte {i}: {x:02x} expected, {y:02x} came)"
        return f" ({len(old)} bytes expected, {len(new)} came)"
    return ""
