"""A vfio-user server: one NIC behind a UNIX socket, for QEMU's `vfio-user-pci` and similar clients.

It serves one client at a time, and each message in order and at once.  After a client has left or
sent an invalid message, the NIC is reset as by RST#.  Everything runs on the clock of
the NIC and its link (`RealClock` or `AsyncioClock`), so many servers share one process.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from e1000emu.clock import ClockError
from e1000emu.device.nic import Nic
from e1000emu.device.phy import AUTONEG_NS
from e1000emu.device.wakeup import PmeCallback
from e1000emu.embed.vfio_user.beside import BUSY_POLL_NS, GuardedClock, one_for_all, start_thread
from e1000emu.embed.vfio_user.caretaker import Caretaker
from e1000emu.embed.vfio_user.deviceserver import DeviceServer, Listener
from e1000emu.embed.vfio_user.hot import hot_messages
from e1000emu.embed.vfio_user.irqs import Irqs
from e1000emu.embed.vfio_user.msgdma import MessageDma
from e1000emu.embed.vfio_user.protocol import Message
from e1000emu.errors import ArgumentError, E1000Error
from e1000emu.insight.faults import Faults
from e1000emu.links.caps import link_caps
from e1000emu.links.handover import QUEUE_FRAMES, Handover, guard_port
from e1000emu.links.pace import Pace
from e1000emu.links.tap import Tap
from e1000emu.ports import Clock, Link, ManagementController
from e1000emu.record import snapshot
from e1000emu.record.recorder import Recorder
from e1000emu.registers.models import Model
from e1000emu.registers.models import model as find_model
from fastpath.lifecycle import RunState
from fastpath.nic.datapath import (
    NOTICE_CONTROL,
    NOTICE_FIFO,
    NOTICE_LINK,
    NOTICE_RX,
    NOTICE_TX,
    BusPump,
    DataPath,
    Polling,
)

__all__ = ["VfioUserServer"]

READ_RETRY_NS = 50_000_000
"""Time until a TAP that is down is read again."""
DRAIN_NS = 1_000_000_000
"""How long a client may take to answer DMA before the state is saved."""
FLUSH_TURNS = 8
HOT_MESSAGES = hot_messages()
NO_CLIENT = "the server's client has mapped no memory yet"
PACED_FRAMES = 32
"""Frames between the rings' thread and a wire with timing, like a board's FIFO."""


class NicDevice:
    """A NIC as `deviceserver.Device`."""

    def __init__(self, nic: Nic) -> None:
        slot = nic.slot
        self.config_read, self.config_write = slot.config_read, slot.config_write
        self.bar_read, self.bar_write, self.bar_size = slot.bar_read, slot.bar_write, slot.bar_size
        self.rom_read, self.reset = nic.flash.contents, nic.reset


def _far_end(
    link: Link, clock: Clock, threads: bool | None, pace: bool
) -> tuple[Link, Pace | None, Tap | Handover | None]:
    """Return the NIC's link, its pacing, and the link end for a thread of the rings."""
    paced: Pace | None = None
    if pace:
        threads = threads is not False and (bool(threads) or isinstance(link, Tap))
        link = paced = Pace(link, clock=clock)
    if threads is not False and isinstance(link, Tap):
        return link, paced, link
    if not threads:
        return link, paced, None
    wire = Handover(link, clock=clock, queue_frames=PACED_FRAMES if pace else QUEUE_FRAMES)
    return wire, paced, wire


class VfioUserServer(DeviceServer):
    """Listens at `path` and offers a `Nic` on `link` to the client that connects.

    `clock` is the link's unless one is given.
    `report` gets a text line when a client connects, disconnects or gets an error (default:
    the logger `e1000emu.vfio_user`).  With a `caretaker` clients survive even a SIGKILL of this
    process.  With `state` the NIC outlives client and server. A disconnect leaves it as it
    is, `close` saves it to that file, and the next server continues from it (and removes the
    file).  Until a client has set up memory and interrupt, or its guest touches a register,
    such a NIC accesses no memory and frames wait.

    With `threads` rings and DMA have a thread of their own. So have the messages: that thread
    polls for `busy_poll_ns` after each message before it sleeps. On a machine of one or two
    processors one thread does both.  They run on the processors `cpus` (none: Linux chooses).  The
    data thread reads and writes a `Tap` itself; any other link stays on the clock, and frames are
    handed over.  The default (None) has threads with a `Tap` only: no other link needs real time.
    `moderation` is `Nic`'s: `adaptive` combines interrupts, `datasheet` only as ITR says.
    `faults` are faults of the NIC's hardware, with threads too (e1000emu/insight/faults.py).
    `record` names a file for a recording of its ports (docs/record.md).  `flash` is `Nic`'s:
    an option ROM, for a client that has none of its own to give the guest.  `wide_bars` and
    `eeprom` are `Nic`'s.  With `pace` frames take time according to the speed that the
    NIC has negotiated (`links.Pace`); no data thread serves a TAP then.
    `on_pme(level)` is called when PME# changes, for which vfio-user has no message: it must wake
    the machine (QEMU: `system_wakeup`).  It may be called from another thread.
    `management` is `Nic`'s; hold `guard` to call `nic.management`, but not within `alert`.
    Call everything with the clock's lock held.
    Raises: E1000Error when `path` cannot be used, or for a bad `model`, `mac`, state,
    `moderation`, `flash` or `eeprom`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        link: Link,
        clock: Clock | None = None,
        model: str | Model = "82540EM",
        mac: bytes | None = None,
        report: Callable[[str], None] | None = None,
        autoneg_ns: int = AUTONEG_NS,
        threads: bool | None = None,
        busy_poll_ns: int = BUSY_POLL_NS,
        cpus: Iterable[int] | None = None,
        caretaker: Caretaker | None = None,
        state: str | os.PathLike[str] | None = None,
        moderation: str = "adaptive",
        faults: Faults | None = None,
        record: str | os.PathLike[str] | None = None,
        flash: bytes | None = None,
        wide_bars: bool = False,
        on_pme: PmeCallback | None = None,
        management: ManagementController | None = None,
        eeprom: bytes | None = None,
        pace: bool = False,
    ) -> None:
        if clock is None:
            clock = link_caps("VfioUserServer", link).clock
            if clock is None:
                raise ArgumentError(
                    f"VfioUserServer: {type(link).__name__} has no clock; give clock=RealClock()"
                )
        self._polling = Polling(spin_ns=busy_poll_ns)
        self._prepare(path, clock, report)
        self.state_path = None if state is None else Path(state)
        self._closing = False
        self.caretaker = caretaker
        guarded = GuardedClock(clock)
        part = find_model(model)
        self.irqs = Irqs(guarded, msi="MSI" in part.capabilities)
        self.cpus = None if cpus is None else frozenset(cpus) or None
        self.data: DataPath | None = None
        """The data path of the rings' thread."""
        self.guard = guarded.guard
        link, paced, wire = _far_end(link, clock, threads, pace)
        self._listener = Listener(self.path)
        self.record: Recorder | None = None
        try:
            self.record = None if record is None else Recorder(record)
            self.nic = Nic(
                memory=self.memory.table,
                irq=self.irqs,
                link=link,
                clock=guarded,
                model=part,
                on_message=self.irqs.message,
                on_pme=on_pme,
                mac=mac,
                autoneg_ns=autoneg_ns,
                moderation=moderation,
                faults=faults,
                record=self.record,
                flash=flash,
                wide_bars=wide_bars,
                management=management,
                eeprom=eeprom,
            )
            if paced is not None:
                paced.speed = lambda: self.nic.speed
            if wire is not None:
                self._start_data(wire)
                guarded.guard = self.guard
            # A message is answered before frames are copied: the guest's processor waits for it.
            with self.guard:
                self.nic.defer_doorbells()
            self.dma = MessageDma(self.nic, self.memory, guarded, self._report_dma)
            self.dma.ram_moved = self._ram_moved
            self._load_state()
            self.device = NicDevice(self.nic)
            self._offer()
        except BaseException:
            self._listener.close()
            if "nic" in self.__dict__:
                self._end_nic()
            elif self.record is not None:
                self.record.close("the NIC was not made")
            raise

    # --- life ------------------------------------------------------------------------------------

    def _start_data(self, wire: Tap | Handover) -> None:
        """Start a thread that serves the rings and a TAP."""
        nic = self.nic
        self._wire = wire
        self.data = self.guard = DataPath(nic.tx, nic.rx, nic.interrupts, wire.lend())
        guard_port(wire, self.data)
        if self.record is None:
            self.data.attach(self.irqs.line)
        else:
            self.record.attach_worker(self.data, self.irqs.line)
        self.clock.add_reader(self.data.fileno(), self._notices)
        self._data_thread = start_thread(self.data.run, "vfio-user data", self.cpus)

    def _notices(self) -> None:
        """The data thread has work for the NIC's Python code."""
        data, nic = self.data, self.nic
        assert data is not None
        with data:
            what, tx_flags, rx_causes, error = data.take_notices()
            if what & (NOTICE_TX | NOTICE_RX | NOTICE_FIFO):
                nic.noticed(tx_flags, rx_causes, bool(what & NOTICE_FIFO))
            if what & NOTICE_CONTROL:
                data.receive_control()
            if what & NOTICE_LINK and self._wire.failed(error):
                self.clock.call_at(self.clock.now_ns() + READ_RETRY_NS, self._read_again)

    def catch_up(self) -> None:
        """Handle the events that the data thread has left for Python."""
        if self.data is not None:
            self._notices()

    def _read_again(self) -> None:
        if self.data is not None:
            with self.data:
                self.data.read_again()

    def _ram_moved(self, by_message: bool) -> None:
        """Guest RAM became inaccessible or accessible for the data thread.  Call with the guard."""
        if self.data is not None:
            if by_message:
                self._wire.reclaim(self.data.pause())
            else:
                self.data.resume()
                self._wire.lend()

    def _report_dma(self, text: str) -> None:
        self.report(f"{self.path}: {text}")

    def close(self) -> None:
        """Disconnect the client, save state, unplug the NIC, remove the socket; may be repeated.

        Raises: SnapshotError when the state cannot be saved; everything is closed then too.
        """
        if self._listener.sock.fileno() < 0:
            return
        self._closing = True
        if self.state_path is not None:
            self._drain()
        self._stop_listening()
        self._listener.close()
        self._end_nic(save=self.state_path)

    def _end_nic(self, save: Path | None = None) -> None:
        """Stop the data thread, write the state, unplug the NIC."""
        self._pause()
        if self.data is not None:
            self.data.halt()
            self._data_thread.join()
            # Frames already taken from the ring are sent.
            for _ in range(FLUSH_TURNS):
                if not self.data.step():
                    break
            self._wire.settle()
            self.clock.remove_reader(self.data.fileno())
        try:
            if save is not None:
                with self.guard:
                    snapshot.save_file(self.nic, save)
                self.report(f"{self.path}: state saved to {save}")
        finally:
            with self.guard:
                self.nic.halt()
            if self.data is not None:
                self.data.close()
            if self.record is not None:
                self.record.close()

    # --- the state's file ------------------------------------------------------------------------

    def _load_state(self) -> None:
        """Load the state from the file, if there is one, and remove the file.

        A state is loaded only once: a second time it would undo what the guest has seen since.
        """
        path = self.state_path
        if path is None or not path.exists():
            return
        self._pause()
        with self.guard:
            snapshot.load_file(self.nic, path)
        try:
            path.unlink()
        except OSError as error:
            raise E1000Error(
                f"state {path}: cannot be removed after loading: {error.strerror}; it must not be "
                "loaded twice"
            ) from None
        self.report(f"{self.path}: state loaded from {path}; the NIC waits for its client")

    def _pause(self) -> None:
        """Pause the NIC until a client is ready."""
        with self.guard:
            if self.nic.run_state is RunState.RUNNING:
                self.nic.pause(NO_CLIENT)

    def _ready(self) -> None:
        if self.nic.shared.still and not self._closing:
            self.nic.resume()

    def _drain(self) -> None:
        """Wait for the client's answers to writes: its interrupts belong to the state."""
        self._pause()
        # Inside a running asyncio loop no wait is possible.
        with suppress(ClockError), self.clock.lock:
            self.clock.wait(lambda: self._client is None or self._paused, DRAIN_NS)
        if not self.dma.idle:
            self.report(f"{self.path}: DMA without an answer: the guest may miss frames")

    @property
    def _paused(self) -> bool:
        return self.nic.run_state is RunState.PAUSED

    def counters(self) -> dict[str, int]:
        """Return the socket's counters since the start."""
        if self.data is not None:
            self._wire.settle()
        return super().counters() | {
            "dma_reads": self.dma.reads,
            "dma_writes": self.dma.writes,
            "dma_errors": self.dma.errors,
        }

    # --- overrides of DeviceServer ------------------------------------------------

    def pump_for(self, sock: socket.socket) -> BusPump | None:
        """With a rings' thread, messages also have their own thread."""
        if self.data is None:
            return None
        file = self.nic.regs.file
        pump = BusPump(sock.fileno(), file, self.data, HOT_MESSAGES, self._polling)
        pump.solo = one_for_all(self.cpus)
        return pump

    def _negotiated(self, send: Callable[[bytes], None], max_data_xfer_bytes: int) -> None:
        self.dma.connect(send, max_data_xfer_bytes)

    def _replied(self, message: Message) -> str:
        return self.dma.replied(message)

    def _left(self) -> None:
        """A NIC with a state file keeps its state, for the client to come back."""
        if self.state_path is None:
            self.device.reset()
            self._find_regions()
        elif not self.nic.shared.still:
            self.nic.pause(NO_CLIENT)
        self.irqs.disable()
        self.dma.disconnect()
