"""A vfio-user server: one NIC behind a UNIX socket, for QEMU's `vfio-user-pci` and its kin.

It serves one client at a time, and each message in order and at once.  After a client that left or
sent an invalid message, the next one finds the NIC as after RST#.  Everything runs on the clock of
the NIC and its link (`RealClock` or `AsyncioClock`), so many servers share one process.
"""

from __future__ import annotations

import array
import errno
import logging
import os
import select
import socket
import stat
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from e1000emu import snapshot
from e1000emu.clock import ClockError
from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.embed.vfio_user.beside import (
    BUSY_POLL_NS,
    GuardedClock,
    MessageThread,
    one_for_all,
    start_thread,
)
from e1000emu.embed.vfio_user.caretaker import Caretaker, hang_up
from e1000emu.embed.vfio_user.guestmem import GuestMemory
from e1000emu.embed.vfio_user.irqs import Irqs
from e1000emu.embed.vfio_user.msgdma import MessageDma
from e1000emu.embed.vfio_user.protocol import (
    Command,
    DmaMap,
    DmaUnmap,
    Message,
    MessageReader,
    Refused,
    RegionAccess,
    SetIrqs,
    Version,
)
from e1000emu.errors import E1000Error
from e1000emu.faults import Faults
from e1000emu.links.handover import QUEUE_FRAMES, Handover
from e1000emu.links.pace import Pace
from e1000emu.links.tap import Tap
from e1000emu.models import Model
from e1000emu.models import model as find_model
from e1000emu.nic import Nic
from e1000emu.pci import CONFIG_BYTES
from e1000emu.phy import AUTONEG_NS
from e1000emu.ports import Clock, Link, ManagementController
from e1000emu.record import Recorder
from e1000emu.wakeup import PmeCallback
from fastpath.datapath import (
    NOTICE_CONTROL,
    NOTICE_FIFO,
    NOTICE_LINK,
    NOTICE_RX,
    NOTICE_TX,
    BusPump,
    DataPath,
)
from fastpath.lifecycle import RunState

__all__ = ["VfioUserServer"]

READ_BYTES = 16384
ANCILLARY_BYTES = socket.CMSG_SPACE(vu.MAX_MSG_FDS * array.array("i").itemsize)
RETRY_NS = 500_000
"""How soon an answer that the socket did not take is tried again."""
ACCEPT_RETRY_NS = 200_000_000
"""How soon the listener is looked at again when the process had no descriptor for a client."""
HANG_UP_NS = 1_000_000
"""The same when the last messages of a client that has gone are still being served."""
GRACE_NS = 200_000_000
"""The same while there is a client, whose process may have ended: Linux closes a socket that was
polled with io_uring, as by QEMU, a little later, and the next QEMU may connect before that."""
READ_RETRY_NS = 50_000_000
"""How soon a TAP that is down is read again."""
UNSENT_BYTES = 1 << 20
"""Bytes of answers that a client may leave unread."""
COMPLAINTS = 10
"""Refusals that are reported for each client; the rest are counted."""
DRAIN_NS = 1_000_000_000
"""How long a client may take to answer DMA before the state is saved."""
FLUSH_TURNS = 8
NO_CLIENT = "the server's client has mapped no memory yet"
PACED_FRAMES = 32
"""Frames between the rings' thread and a wire that takes its time: as in a board's FIFO."""
CONNECTION_ERRORS = (errno.EAGAIN, errno.ECONNABORTED)
READ_WRITE = vu.VFIO_REGION_INFO_FLAG_READ | vu.VFIO_REGION_INFO_FLAG_WRITE

logger = logging.getLogger("e1000emu.vfio_user")


class VfioUserServer:
    """Listens at `path` and offers a `Nic` on `link` to the client that connects.

    `report` gets a line for people when a client comes, goes or is refused something (default:
    the logger `e1000emu.vfio_user`).  With a `caretaker` clients survive even a SIGKILL of this
    process.  With `state` the NIC outlives client and server: a client that goes leaves it as it
    is, `close` saves it to that file, and the next server goes on from there (and removes the
    file).  Until a client has given its memory and its interrupt, or its guest touches a register,
    such a NIC reaches no memory and frames wait.

    With `threads` rings and DMA have a thread of their own. So have the messages: that thread
    polls for `busy_poll_ns` after each message before it sleeps. On a machine of one or two
    processors one thread does both.  They run on the processors `cpus` (none: Linux chooses).  The
    data thread reads and writes a `Tap` itself; any other link stays on the clock, and frames are
    handed over.  The default (None) has threads with a `Tap` only: no other link needs real time.
    `moderation` is `Nic`'s: `adaptive` combines interrupts, `datasheet` only as ITR says.
    `faults` are what the NIC's hardware does wrong, with threads too (e1000emu/faults.py).
    `record` names a file that takes what crosses its ports (docs/record.md).  `flash` is `Nic`'s:
    an option ROM, for a client that has none of its own to give the guest.  `wide_bars` and
    `eeprom` are `Nic`'s.  With `pace` frames take the time that they need at the speed which the
    NIC has negotiated (`links.Pace`); no data thread works a TAP then.
    `on_pme(level)` is called when PME# changes, for which vfio-user has no message: it has to wake
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
        clock: Clock,
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
        self.path = Path(path)
        self.state_path = None if state is None else Path(state)
        self._waited = False
        self._closing = False
        self.caretaker = caretaker
        self.clock = clock
        self.report = report if report is not None else logger.info
        self.memory = GuestMemory()
        guarded = GuardedClock(clock)
        part = find_model(model)
        self.irqs = Irqs(guarded, msi="MSI" in part.capabilities)
        self.busy_poll_ns = busy_poll_ns
        self.cpus = None if cpus is None else frozenset(cpus) or None
        self.data: DataPath | None = None
        """The rings in a thread of their own."""
        self.guard = guarded.guard
        wire: Tap | Handover | None = None
        paced: Pace | None = None
        if pace:
            threads = threads is not False and (bool(threads) or isinstance(link, Tap))
            link = paced = Pace(link, clock=clock)
        if threads is not False and isinstance(link, Tap):
            wire = link
        elif threads:
            box = QUEUE_FRAMES if paced is None else PACED_FRAMES
            link = wire = Handover(link, clock=clock, queue_frames=box)
        self._listener = _listen(self.path)
        self.record: Recorder | None = None
        try:
            self.record = None if record is None else Recorder(record)
            self._inode = os.stat(self.path).st_ino
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
            clock.add_reader(self._listener.fileno(), self._connection)
        except BaseException:
            self._listener.close()
            self.path.unlink(missing_ok=True)
            if "nic" in self.__dict__:
                self._end_nic()
            elif self.record is not None:
                self.record.close("the NIC was not made")
            raise
        self._client: _Client | None = None
        self._regions: dict[int, int] = {}
        self._find_regions()
        self._handlers: dict[int, Callable[[Message], bytes]] = {
            Command.VERSION: self._version,
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.DEVICE_GET_INFO: self._get_info,
            Command.DEVICE_GET_REGION_INFO: self._get_region_info,
            Command.DEVICE_GET_IRQ_INFO: self._get_irq_info,
            Command.DEVICE_SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._region_read,
            Command.REGION_WRITE: self._region_write,
            Command.DEVICE_RESET: self._device_reset,
        }
        self.clients = 0
        self.messages = 0
        self.reads = 0
        self.writes = 0
        self.posted = 0
        self.refusals = 0
        self._faults = 0

    # --- life ------------------------------------------------------------------------------------

    def _start_data(self, wire: Tap | Handover) -> None:
        """Let a thread of its own work the rings, and a TAP."""
        nic = self.nic
        self._wire = wire
        self.data = self.guard = DataPath(nic.tx, nic.rx, nic.interrupts, wire.lend())
        if isinstance(wire, Handover):
            wire.guard = self.data
        if self.record is None:
            self.data.attach(self.irqs.line)
        else:
            self.record.attach_worker(self.data, self.irqs.line)
        self.clock.add_reader(self.data.fileno(), self._notices)
        self._data_thread = start_thread(self.data.run, "vfio-user data", self.cpus)

    def _notices(self) -> None:
        """The data thread met what only the NIC's Python can deal with."""
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
        """Guest RAM is out of the data thread's reach, or in it again.  Call with the guard."""
        if self.data is not None:
            if by_message:
                self._wire.reclaim(self.data.pause())
            else:
                self.data.resume()
                self._wire.lend()

    def _report_dma(self, text: str) -> None:
        self.report(f"{self.path}: {text}")

    @property
    def connected(self) -> bool:
        """A client is here."""
        return self._client is not None

    def close(self) -> None:
        """Let the client go, save the state, unplug the NIC, remove the socket; safe to call twice.

        Raises: SnapshotError when the state cannot be saved; everything is closed then too.
        """
        if self._listener.fileno() < 0:
            return
        self._closing = True
        if self.state_path is not None:
            self._drain()
        self.disconnect()
        self.clock.remove_reader(self._listener.fileno())
        self._listener.close()
        with suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                self.path.unlink()
        self._end_nic(save=self.state_path)

    def _end_nic(self, save: Path | None = None) -> None:
        """Stop the data thread, write the state, unplug the NIC."""
        self._pause()
        if self.data is not None:
            self.data.halt()
            self._data_thread.join()
            # What was taken from the ring goes out.
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
        """Let the NIC wait until a client is ready for it."""
        with self.guard:
            if self.nic.run_state is RunState.RUNNING:
                self.nic.pause(NO_CLIENT)

    def _resume(self) -> None:
        """A client is ready.  Call with the guard."""
        if self.nic.shared.still and not self._closing:
            self.nic.resume()

    def _drain(self) -> None:
        """Let the client answer what was written: its interrupts belong to the state."""
        self._pause()
        # Inside a running asyncio loop nobody can wait.
        with suppress(ClockError), self.clock.lock:
            self.clock.wait(lambda: self._client is None or self._paused, DRAIN_NS)
        if not self.dma.idle:
            self.report(f"{self.path}: DMA without an answer: the guest may miss frames")

    @property
    def _paused(self) -> bool:
        return self.nic.run_state is RunState.PAUSED

    def __enter__(self) -> VfioUserServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def counters(self) -> dict[str, int]:
        """Return what crossed the socket since the start."""
        if self.data is not None:
            self._wire.settle()
        pumps = [self._client.pump] if self._client is not None and self._client.pump else []
        return {
            "clients": self.clients,
            "messages": self.messages + sum(pump.messages for pump in pumps),
            "region_reads": self.reads + sum(pump.reads for pump in pumps),
            "region_writes": self.writes + sum(pump.writes for pump in pumps),
            "posted_writes": self.posted + sum(pump.posted for pump in pumps),
            "interrupts": self.irqs.fired,
            "unmasks": self.irqs.unmasks,
            "refusals": self.refusals,
            "dma_reads": self.dma.reads,
            "dma_writes": self.dma.writes,
            "dma_errors": self.dma.errors,
            "memory_faults": self.memory.faults,
        }

    def _connection(self) -> None:
        """The listener is readable: take the client, or turn it away while another is here."""
        old = self._client
        while old is not None and old.negotiated and old.look():
            old = self._client  # it may have gone, and nobody has looked yet
        if old is not None and old.negotiated and old.hung_up():
            self._accept_later(HANG_UP_NS)  # its last messages are being served
            return
        if old is not None and old.negotiated and not self._waited:
            self._waited = True
            self._accept_later(GRACE_NS)
            return
        self._waited = False
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno not in CONNECTION_ERRORS:
                self.report(f"{self.path}: cannot accept a client now: {error.strerror}")
                self._accept_later(ACCEPT_RETRY_NS)
            return
        old = self._client
        if old is not None:
            if old.negotiated:
                self.report(f"{self.path}: a second client was turned away")
                hang_up(sock)
                return
            self.disconnect("gave way to another before it had said VERSION")
        self.clients += 1
        if self.caretaker is not None:
            self.caretaker.hold(sock)
        self._client = _Client(self, sock)
        self.report(f"{self.path}: client connected")

    def _accept_later(self, after_ns: int) -> None:
        self.clock.remove_reader(self._listener.fileno())
        self.clock.call_at(self.clock.now_ns() + after_ns, self._accept_again)

    def _accept_again(self) -> None:
        if self._listener.fileno() >= 0:
            self.clock.add_reader(self._listener.fileno(), self._connection)

    def disconnect(self, why: str = "the server let it go") -> None:
        """Close the connection and forget the client's memory.

        The NIC is reset; but one with a state file keeps its state, for the client to come back.
        """
        client, self._client = self._client, None
        if client is None:
            return
        client.close()
        if client.pump is not None:
            self.messages += client.pump.messages
            self.reads += client.pump.reads
            self.writes += client.pump.writes
            self.posted += client.pump.posted
        with self.guard:
            if self.state_path is None:
                self.nic.reset()
                self._find_regions()
            elif not self.nic.shared.still:
                self.nic.pause(NO_CLIENT)
            self.irqs.disable()
            self.dma.disconnect()
            faults = self.memory.faults
            self.memory.clear()
        if faults > self._faults:
            why += f" (of its memory {faults - self._faults} pages were gone before)"
            self._faults = faults
        self.report(f"{self.path}: client gone: {why}")

    # --- messages --------------------------------------------------------------------------------

    def serve(self, client: _Client, message: Message) -> bytes:
        """Carry out one request and return the answer, b"" for none.  Takes its descriptors."""
        self.messages += 1
        try:
            if message.flags & vu.TYPE_MASK != vu.TYPE_COMMAND:
                with self.guard:
                    wrong = self.dma.replied(message)
                if wrong:
                    self.disconnect(wrong)
                return b""
            if not client.negotiated and message.command != Command.VERSION:
                self.disconnect(f"command {message.command} came before VERSION")
                return b""
            handler = self._handlers.get(message.command)
            if handler is None:
                raise Refused(errno.ENOTSUP, f"command {message.command}: not offered")
            with self.guard:
                payload = handler(message)
        except Refused as refusal:
            if not refusal.quiet:
                self.refusals += 1
                client.complain(str(refusal))
            return vu.error_reply(message, refusal.number) if message.wants_reply else b""
        finally:
            for fd in message.fds:
                os.close(fd)
        return vu.reply(message, payload) if message.wants_reply else b""

    def _version(self, message: Message) -> bytes:
        client = self._client
        assert client is not None
        if client.negotiated:
            raise Refused(errno.EINVAL, "VERSION: said twice")
        asked = Version.parse(message.payload)
        if asked.major != vu.VERSION_MAJOR:
            raise Refused(
                errno.ENOTSUP,
                f"VERSION: the client speaks {asked.major}.{asked.minor}, this server "
                f"{vu.VERSION_MAJOR}.{vu.VERSION_MINOR}",
            )
        self.dma.connect(client.post, asked.max_data_xfer_bytes)
        client.negotiated = True
        minor = min(asked.minor, vu.VERSION_MINOR)
        answer = Version(vu.VERSION_MAJOR, minor, vu.SERVER_CAPABILITIES)
        return answer.emit(len(message.payload))

    def _dma_map(self, message: Message) -> bytes:
        piece = DmaMap.parse(message.payload)
        if len(message.fds) > 1:
            raise Refused(errno.EINVAL, f"DMA_MAP: {len(message.fds)} file descriptors, not one")
        self.memory.map(piece, message.fds[0] if message.fds else None)
        return b""

    def _dma_unmap(self, message: Message) -> bytes:
        wanted = DmaUnmap.parse(message.payload)
        size = self.memory.unmap(wanted)
        return vu.DMA_UNMAP.pack(vu.DMA_UNMAP.size, wanted.flags, wanted.iova, size)

    def _get_info(self, message: Message) -> bytes:
        _need(message, vu.DEVICE_INFO.size, "GET_INFO")
        flags = vu.VFIO_DEVICE_FLAGS_RESET | vu.VFIO_DEVICE_FLAGS_PCI
        return vu.DEVICE_INFO.pack(
            vu.DEVICE_INFO.size, flags, vu.VFIO_PCI_NUM_REGIONS, vu.VFIO_PCI_NUM_IRQS
        )

    def _get_region_info(self, message: Message) -> bytes:
        _need(message, vu.REGION_INFO.size, "GET_REGION_INFO")
        index = vu.REGION_INFO.unpack_from(message.payload)[2]
        if index >= vu.VFIO_PCI_NUM_REGIONS:
            raise Refused(errno.EINVAL, f"GET_REGION_INFO: no region {index}")
        size = self._regions.get(index, 0)
        # No region is for mmap: registers have side effects, and QEMU would post no write then.
        flags = READ_WRITE if size else 0
        if index == vu.VFIO_PCI_ROM_REGION_INDEX:
            flags &= vu.VFIO_REGION_INFO_FLAG_READ
        return vu.REGION_INFO.pack(vu.REGION_INFO.size, flags, index, 0, size, 0)

    def _get_irq_info(self, message: Message) -> bytes:
        _need(message, vu.IRQ_INFO.size, "GET_IRQ_INFO")
        index = vu.IRQ_INFO.unpack_from(message.payload)[2]
        if index >= vu.VFIO_PCI_NUM_IRQS:
            raise Refused(errno.EINVAL, f"GET_IRQ_INFO: no interrupt index {index}")
        if index == vu.VFIO_PCI_ERR_IRQ_INDEX:
            # As the kernel answers for a conventional PCI function, which has no error reporting;
            # a count of 0 makes QEMU warn.
            raise Refused(errno.EINVAL, "GET_IRQ_INFO: no error interrupt", quiet=True)
        flags, count = self.irqs.describe(index)
        return vu.IRQ_INFO.pack(vu.IRQ_INFO.size, flags, index, count)

    def _set_irqs(self, message: Message) -> bytes:
        self.irqs.apply(SetIrqs.parse(message.payload), message.fds)
        if self.irqs.line.fd >= 0 and len(self.memory):
            self._resume()
        return b""

    def _find_regions(self) -> None:
        """Take the sizes of the BARs, which the EEPROM decides at a reset."""
        bars = range(vu.VFIO_PCI_CONFIG_REGION_INDEX)
        self._regions = {bar: self.nic.slot.bar_size(bar) for bar in bars}
        self._regions[vu.VFIO_PCI_CONFIG_REGION_INDEX] = CONFIG_BYTES

    def _device_reset(self, message: Message) -> bytes:
        self.nic.reset()
        self._find_regions()
        self._resume()
        return b""

    # --- regions ---------------------------------------------------------------------------------

    def _region_read(self, message: Message) -> bytes:
        access = RegionAccess.parse_read(message.payload)
        offset, region, size, _ = access
        self._check(access, "REGION_READ")
        self.reads += 1
        if region == vu.VFIO_PCI_CONFIG_REGION_INDEX:
            config_read = self.nic.slot.config_read
            parts = [config_read(at, n).to_bytes(n, "little") for at, n in _pieces(offset, size)]
            return access.head() + b"".join(parts)
        if region == vu.VFIO_PCI_ROM_REGION_INDEX:
            # A client copies the option ROM before the guest has enabled anything.
            return access.head() + self.nic.flash.contents(offset, size)
        self._resume()  # the guest runs, so its memory is there
        bar_read = self.nic.slot.bar_read
        if size == 4 and not offset & 3:
            return access.head() + bar_read(region, offset, 4).to_bytes(4, "little")
        parts = [bar_read(region, at, n).to_bytes(n, "little") for at, n in _dwords(offset, size)]
        return access.head() + b"".join(parts)

    def _region_write(self, message: Message) -> bytes:
        access = RegionAccess.parse_write(message.payload)
        offset, region, size, data = access
        self._check(access, "REGION_WRITE")
        self.writes += 1
        if message.flags & vu.NO_REPLY:
            self.posted += 1
        slot = self.nic.slot
        if region == vu.VFIO_PCI_CONFIG_REGION_INDEX:
            for at, n in _pieces(offset, size):
                value = int.from_bytes(data[at - offset : at - offset + n], "little")
                slot.config_write(at, value, n)
            return access.head()
        self._resume()  # the guest runs, so its memory is there
        if size == 4 and not offset & 3:
            slot.bar_write(region, offset, int.from_bytes(data, "little"), 4)
        else:
            for at, n in _dwords(offset, size):
                value = int.from_bytes(data[at - offset : at - offset + n], "little")
                slot.bar_write(region, at, value, n)
        return access.head()

    def _check(self, access: RegionAccess, what: str) -> None:
        limit = self._regions.get(access.region, 0)
        if access.offset + access.size > limit:
            raise Refused(
                errno.EINVAL,
                f"{what}: {access.size} bytes at {access.offset:#x} of region {access.region}, "
                f"which has {limit}",
            )


class _Client:
    """One connection: reads messages, serves them in order, writes the answers."""

    def __init__(self, server: VfioUserServer, sock: socket.socket) -> None:
        self._server = server
        self._clock = server.clock
        self._sock = sock
        self._reader = MessageReader()
        self._todo: deque[Message] = deque()
        self._unsent = bytearray()
        self._unsent_answers = 0
        self._stuck = False
        """So many answers were not sent that nothing is read until they are."""
        self._complaints = 0
        self.negotiated = False
        self.pump: BusPump | None = None
        self._thread: MessageThread | None = None
        sock.setblocking(False)
        if server.data is not None:
            self.pump = BusPump(sock.fileno(), server.nic.regs.file, server.data)
            self.pump.spin_ns = server.busy_poll_ns
            self.pump.solo = one_for_all(server.cpus)
            self._thread = MessageThread(self.pump, server.clock, self._taken, server.cpus)
        else:
            self._clock.add_reader(sock.fileno(), self._readable)

    def close(self) -> None:
        """Stop reading and give back every descriptor."""
        if self._sock.fileno() < 0:
            return
        fds = self._reader.take_fds()
        if self._thread is not None:
            fds += self._thread.close()
        else:
            self._clock.remove_reader(self._sock.fileno())
        hang_up(self._sock)
        for fd in fds:
            os.close(fd)
        while self._todo:
            for fd in self._todo.popleft().fds:
                os.close(fd)

    def complain(self, text: str) -> None:
        """Report a refusal; a client that goes on and on is reported a few times only."""
        self._complaints += 1
        if self._complaints <= COMPLAINTS:
            last = "; more of this client's are only counted" * (self._complaints == COMPLAINTS)
            self._server.report(f"{self._server.path}: refused: {text}{last}")

    def hung_up(self) -> bool:
        """Whether the client has closed its end, whatever it wrote before."""
        poll = select.poll()
        poll.register(self._sock, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def _readable(self) -> None:
        self.look()

    def look(self) -> bool:
        """Read what the socket has and serve what is complete; False when there was nothing."""
        if self._thread is not None:
            with suppress(BlockingIOError):
                if not self._sock.recv(1, socket.MSG_PEEK):
                    self._server.disconnect("it closed the connection")
                    return True
            return False
        found = False
        while self._sock.fileno() >= 0 and not self._stuck:
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(
                    READ_BYTES, ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._server.disconnect(error.strerror or "the connection broke")
                break
            found = True
            fds = _descriptors(ancillary) if ancillary else []
            self._read(data, fds, bool(flags & socket.MSG_CTRUNC))
            if len(data) < READ_BYTES:
                break
        return found

    def _read(self, data: bytes, fds: list[int], truncated: bool) -> None:
        """Serve one read's bytes and descriptors; no bytes: the client has ended."""
        self._todo += self._reader.feed(data, fds)
        if truncated:
            self._server.disconnect(
                f"more than {vu.MAX_MSG_FDS} file descriptors, or none left here for them"
            )
            return
        self._work()
        if not data and self._sock.fileno() >= 0:
            self._server.disconnect("it closed the connection")

    def _taken(self, data: bytes, fds: list[int], truncated: bool, error: int) -> None:
        """The message thread has what it does not serve itself."""
        assert self.pump is not None
        unsent = self.pump.take_unsent()
        if unsent:
            self._send(unsent)
        if error:
            for fd in fds:
                os.close(fd)
            self._server.disconnect(os.strerror(error))
            return
        if data or not unsent:
            self._read(data, fds, truncated)
        if not self._stuck and self._sock.fileno() >= 0:
            self._go_on()

    def _go_on(self) -> None:
        """Everything is served and answered: read on."""
        if self._thread is not None:
            # Only one thread may write to the socket, so DMA by messages has no pump beside it.
            self._thread.proceed(
                self.negotiated
                and not self._unsent
                and not self._reader.pending_bytes
                and not self._server.memory.ram_by_message
            )
        else:
            self._clock.add_reader(self._sock.fileno(), self._readable)

    def _work(self) -> None:
        """Serve what was read, until the socket takes no more answers."""
        todo = self._todo
        while todo and not self._stuck:
            answer = self._server.serve(self, todo.popleft())
            if answer:
                self._send(answer)
        if not todo and self._reader.error and self._sock.fileno() >= 0:
            self._server.disconnect(self._reader.error)

    def post(self, data: bytes) -> None:
        """Send a request of ours."""
        self._send(data, answer=False)

    def _send(self, data: bytes, *, answer: bool = True) -> None:
        """Send one message, in one call when the socket takes it."""
        if self._sock.fileno() < 0:
            return
        if not self._unsent:
            sent = self._put(data)
            if sent is None or sent == len(data):
                return
            data = data[sent:]
            self._clock.call_at(self._clock.now_ns() + RETRY_NS, self._retry)
        self._unsent += data
        if answer:
            self._unsent_answers += len(data)
        if self._unsent_answers > UNSENT_BYTES and not self._stuck:
            # A client that does not read its answers is not read from meanwhile.  But a few may
            # wait: it may be about to send what we asked of it, and read on only then.
            self._stuck = True
            if self._thread is None:
                self._clock.remove_reader(self._sock.fileno())

    def _put(self, data: bytes | bytearray) -> int | None:
        """Give the socket what it takes: how many bytes; None when the connection is broken."""
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            # Deferred, because a disconnect tears down the objects that send our requests.
            why = error.strerror or "the connection broke"
            self._clock.call_soon(lambda: self._broken(why))
            return None

    def _broken(self, why: str) -> None:
        if self._sock.fileno() >= 0:
            self._server.disconnect(why)

    def _retry(self) -> None:
        if self._sock.fileno() < 0:
            return
        sent = self._put(self._unsent)
        if sent is None:
            self._unsent.clear()
            return
        del self._unsent[:sent]
        if self._unsent:
            self._clock.call_at(self._clock.now_ns() + RETRY_NS, self._retry)
            return
        self._unsent_answers = 0
        stuck, self._stuck = self._stuck, False
        if stuck:
            self._work()
            if not self._stuck and self._sock.fileno() >= 0:
                self._go_on()


def _need(message: Message, size: int, what: str) -> None:
    """Check that the structure and its argsz are there in full."""
    have = len(message.payload)
    argsz = int.from_bytes(message.payload[:4], "little")
    if have < size or argsz < size:
        raise Refused(
            errno.EINVAL, f"{what}: {have} bytes, argsz {argsz}; the structure has {size}"
        )


def _pieces(offset: int, size: int) -> list[tuple[int, int]]:
    """Cut an access into naturally aligned ones of 4, 2 and 1 bytes: 8 = 4 + 4."""
    out = []
    while size:
        n = 4 if size >= 4 and not offset & 3 else 2 if size >= 2 and not offset & 1 else 1
        out.append((offset, n))
        offset += n
        size -= n
    return out


def _dwords(offset: int, size: int) -> list[tuple[int, int]]:
    """Cut an access where a register ends: one that is read in part is read, and cleared, once."""
    out = []
    while size:
        n = min(size, 4 - (offset & 3))
        out.append((offset, n))
        offset += n
        size -= n
    return out


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def _listen(path: Path) -> socket.socket:
    """Return a listening socket at `path`; one that a dead server left is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise E1000Error(f"socket {path}: exists and is no socket; choose another path")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(1.0)
                try:
                    probe.connect(os.fspath(path))
                except ConnectionRefusedError:
                    path.unlink()
                else:
                    raise E1000Error(f"socket {path}: another server listens there")
        sock.bind(os.fspath(path))
        sock.listen(4)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        # a path longer than the kernel's 107 bytes has a text and no errno
        raise E1000Error(
            f"socket {path}: {error.strerror or error}; choose a short path in a directory that "
            "exists and that you may write to"
        ) from None
    except BaseException:
        sock.close()
        raise
    return sock
