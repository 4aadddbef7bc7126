"""A vfio-user server for a PCI function: the protocol, independent of the function.

It serves one client at a time, and messages in order.  The function is any object with the methods
of `Device`. `VfioUserServer` serves a NIC, examples/doorbell.py a device of its own.
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
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

from e1000emu.clock import RealClock
from e1000emu.closing import Closing
from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.embed.vfio_user.beside import MessageThread
from e1000emu.embed.vfio_user.caretaker import Caretaker, hang_up
from e1000emu.embed.vfio_user.guestmem import GuestMemory
from e1000emu.embed.vfio_user.irqs import Irqs
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
from e1000emu.errors import ArgumentError, E1000Error
from e1000emu.ports import Clock, PciSlot
from fastpath.nic.datapath import BusPump

__all__ = ["Device", "DeviceServer"]

READ_BYTES = 16384
ANCILLARY_BYTES = socket.CMSG_SPACE(vu.MAX_MSG_FDS * array.array("i").itemsize)
RETRY_NS = 500_000
"""Time until a reply that the socket did not accept is retried."""
ACCEPT_RETRY_NS = 200_000_000
"""Time until accept is retried if the process has no free descriptor."""
HANG_UP_NS = 1_000_000
"""As above, while the last messages of a disconnected client are still being served."""
GRACE_NS = 200_000_000
"""As above, while there is a client, whose process may have ended. Linux closes a socket that was
polled with io_uring, as by QEMU, a little later, and the next QEMU may connect before that."""
UNSENT_BYTES = 1 << 20
"""Bytes of answers that a client may leave unread."""
COMPLAINTS = 10
"""Number of errors reported for each client; the rest are only counted."""
CONFIG_BYTES = 256
"""The size of a conventional PCI function's configuration space."""
CONNECTION_ERRORS = (errno.EAGAIN, errno.ECONNABORTED)
READ_WRITE = vu.VFIO_REGION_INFO_FLAG_READ | vu.VFIO_REGION_INFO_FLAG_WRITE

logger = logging.getLogger("e1000emu.vfio_user")


class Device(PciSlot, Protocol):
    """A conventional PCI function, as called by the server, with the clock's lock held.

    `bar_size` is called after each reset; BAR 6 is the expansion ROM.  BAR accesses are passed on
    as the guest made them, split at multiples of four bytes; the function itself must check its
    command register.
    """

    def rom_read(self, offset: int, size: int) -> bytes:
        """Return bytes of the expansion ROM, which a client copies before enabling the device."""

    def reset(self) -> None:
        """Reset as by RST#: a client requests it, or has disconnected."""


class Listener:
    """A listening UNIX socket at `path`, replacing one of a dead server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sock = _listen(path)
        self._inode = os.stat(path).st_ino

    def close(self) -> None:
        """Stop listening, and remove the socket unless another one is there."""
        self.sock.close()
        with suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                self.path.unlink()


class DeviceServer(Closing):
    """Listens at `path` and offers a PCI function to the client that connects.

    `make(memory=..., irq=...)` returns the function: your own class, for instance derived
    from `PciDevice`. `memory` is the guest's, a `fastpath.base.dma.DmaTable`, `irq` the interrupt
    line. Guest memory without a file descriptor is unreachable: start QEMU with shared memory.
    `report` gets a text line when a client connects, disconnects or has a request refused.
    Call everything with the clock's lock held.  Raises: E1000Error when `path` cannot be used.
    """

    device: Device

    def __init__(
        self,
        path: str | os.PathLike[str],
        make: Callable[..., Device],
        *,
        clock: Clock | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self._prepare(path, RealClock() if clock is None else clock, report)
        self._listener = Listener(self.path)
        try:
            self.irqs = Irqs(self.clock)
            self.device = make(memory=self.memory.table, irq=self.irqs)
            self._offer()
        except BaseException:
            self._listener.close()
            raise

    def _prepare(
        self, path: str | os.PathLike[str], clock: Clock, report: Callable[[str], None] | None
    ) -> None:
        """Set the state that needs neither socket nor device."""
        self.path = Path(path)
        self.clock = clock
        self.report = report if report is not None else logger.info
        self.memory = GuestMemory()
        self.guard: AbstractContextManager[Any] = nullcontext()
        """Held around each call of the device."""
        self.caretaker: Caretaker | None = None
        self.cpus: frozenset[int] | None = None
        """Processors for the message thread; None: any."""
        self._waited = False
        self._client: _Client | None = None
        self._regions: dict[int, int] = {}
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

    def _offer(self) -> None:
        """Accept clients, after the device was created."""
        self._find_regions()
        self.clock.add_reader(self._listener.sock.fileno(), self._connection)

    # --- methods that servers of other devices override ------------------------------------------

    def pump_for(self, sock: socket.socket) -> BusPump | None:
        """Return the pump that reads messages in its own thread; None: the clock's thread
        reads them."""
        return None

    def _negotiated(self, send: Callable[[bytes], None], max_data_xfer_bytes: int) -> None:
        """Called after VERSION, with the maximum data of a request by `send`."""

    def _replied(self, message: Message) -> str:
        """Process a reply; return why the client must be disconnected, or ""."""
        return f"reply {message.id} answers nothing"

    def _ready(self) -> None:
        """Called when the guest runs: a BAR access, or an interrupt was set up."""

    def _left(self) -> None:
        """The client has disconnected; its memory is then unmapped."""
        self.device.reset()
        self._find_regions()
        self.irqs.disable()

    # --- life ------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether a client is connected."""
        return self._client is not None

    def close(self) -> None:
        """Disconnect the client and remove the socket; safe to call twice."""
        if self._stop_listening():
            self._listener.close()

    def _stop_listening(self) -> bool:
        """Disconnect the client and accept no more; False if already done."""
        if self._listener.sock.fileno() < 0:
            return False
        self.disconnect()
        self.clock.remove_reader(self._listener.sock.fileno())
        return True

    def serve_forever(self) -> None:
        """Run the clock in this thread until Ctrl-C or its `request_stop`, then close.

        Raises: ArgumentError, something else runs the clock (an asyncio loop, a simulation).
        """
        clock = self.clock
        if not isinstance(clock, RealClock):
            raise ArgumentError(
                f"serve_forever: a {type(clock).__name__} is not run by one server; use RealClock()"
            )
        with self, suppress(KeyboardInterrupt):
            clock.run()

    def counters(self) -> dict[str, int]:
        """Return the socket's counters since the start."""
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
            "memory_faults": self.memory.faults,
        }

    def _connection(self) -> None:
        """The listener is readable: accept the client, or reject it while another is connected."""
        old = self._client
        while old is not None and old.negotiated and old.look():
            old = self._client  # it may have disconnected unnoticed
        if old is not None and old.negotiated and old.hung_up():
            self._accept_later(HANG_UP_NS)  # its last messages are being served
            return
        if old is not None and old.negotiated and not self._waited:
            self._waited = True
            self._accept_later(GRACE_NS)
            return
        self._waited = False
        try:
            sock, _ = self._listener.sock.accept()
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
        self.clock.remove_reader(self._listener.sock.fileno())
        self.clock.call_at(self.clock.now_ns() + after_ns, self._accept_again)

    def _accept_again(self) -> None:
        if self._listener.sock.fileno() >= 0:
            self.clock.add_reader(self._listener.sock.fileno(), self._connection)

    def disconnect(self, why: str = "the server let it go") -> None:
        """Close the connection, unmap the client's memory and reset the device."""
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
            self._left()
            faults = self.memory.faults
            self.memory.clear()
        if faults > self._faults:
            why += f" (of its memory {faults - self._faults} pages were gone before)"
            self._faults = faults
        self.report(f"{self.path}: client gone: {why}")

    # --- messages --------------------------------------------------------------------------------

    def serve(self, client: _Client, message: Message) -> bytes:
        """Execute one request and return the answer, b"" for none.  Takes its descriptors."""
        self.messages += 1
        try:
            if message.flags & vu.TYPE_MASK != vu.TYPE_COMMAND:
                with self.guard:
                    wrong = self._replied(message)
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
        self._negotiated(client.post, asked.max_data_xfer_bytes)
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
            self._ready()
        return b""

    def _find_regions(self) -> None:
        """Read the sizes of the BARs, which the EEPROM sets at a reset."""
        bars = range(vu.VFIO_PCI_CONFIG_REGION_INDEX)
        self._regions = {bar: self.device.bar_size(bar) for bar in bars}
        self._regions[vu.VFIO_PCI_CONFIG_REGION_INDEX] = CONFIG_BYTES

    def _device_reset(self, message: Message) -> bytes:
        self.device.reset()
        self._find_regions()
        self._ready()
        return b""

    # --- regions ---------------------------------------------------------------------------------

    def _region_read(self, message: Message) -> bytes:
        access = RegionAccess.parse_read(message.payload)
        offset, region, size, _ = access
        self._check(access, "REGION_READ")
        self.reads += 1
        if region == vu.VFIO_PCI_CONFIG_REGION_INDEX:
            config_read = self.device.config_read
            parts = [config_read(at, n).to_bytes(n, "little") for at, n in _pieces(offset, size)]
            return access.head() + b"".join(parts)
        if region == vu.VFIO_PCI_ROM_REGION_INDEX:
            # A client copies the option ROM before the guest enables the device.
            return access.head() + self.device.rom_read(offset, size)
        self._ready()  # the guest runs, so its memory exists
        bar_read = self.device.bar_read
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
        device = self.device
        if region == vu.VFIO_PCI_CONFIG_REGION_INDEX:
            for at, n in _pieces(offset, size):
                value = int.from_bytes(data[at - offset : at - offset + n], "little")
                device.config_write(at, value, n)
            return access.head()
        self._ready()  # the guest runs, so its memory exists
        if size == 4 and not offset & 3:
            device.bar_write(region, offset, int.from_bytes(data, "little"), 4)
        else:
            for at, n in _dwords(offset, size):
                value = int.from_bytes(data[at - offset : at - offset + n], "little")
                device.bar_write(region, at, value, n)
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

    def __init__(self, server: DeviceServer, sock: socket.socket) -> None:
        self._server = server
        self._clock = server.clock
        self._sock = sock
        self._reader = MessageReader()
        self._todo: deque[Message] = deque()
        self._unsent = bytearray()
        self._unsent_answers = 0
        self._stuck = False
        """Whether reading stops because too many replies are not sent yet."""
        self._complaints = 0
        self.negotiated = False
        self._thread: MessageThread | None = None
        sock.setblocking(False)
        self.pump = server.pump_for(sock)
        if self.pump is not None:
            self._thread = MessageThread(self.pump, server.clock, self._taken, server.cpus)
        else:
            self._clock.add_reader(sock.fileno(), self._readable)

    def close(self) -> None:
        """Stop reading and close every descriptor."""
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
        """Report an error, with a limit for each client."""
        self._complaints += 1
        if self._complaints <= COMPLAINTS:
            last = "; more of this client's are only counted" * (self._complaints == COMPLAINTS)
            self._server.report(f"{self._server.path}: refused: {text}{last}")

    def hung_up(self) -> bool:
        """Whether the client has closed its end, even with unread data."""
        poll = select.poll()
        poll.register(self._sock, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def _readable(self) -> None:
        self.look()

    def look(self) -> bool:
        """Read the socket and serve complete messages; False if there was no data."""
        if self._thread is not None:
            try:
                if self._sock.recv(1, socket.MSG_PEEK):
                    return False
            except BlockingIOError:
                return False
            except OSError as error:
                self._server.disconnect(error.strerror or "the connection broke")
                return True
            self._server.disconnect("it closed the connection")
            return True
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
        """Serve one read's bytes and descriptors; no bytes: the client has closed."""
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
        """Handle a message that the message thread does not serve."""
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
        """Everything was served and answered: continue reading."""
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
        """Serve read messages until the socket accepts no more answers."""
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
        """Send one message, in one call if the socket accepts it."""
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
            # wait: it may first have to send data that we requested.
            self._stuck = True
            if self._thread is None:
                self._clock.remove_reader(self._sock.fileno())

    def _put(self, data: bytes | bytearray) -> int | None:
        """Write to the socket; returns the bytes accepted, None if the connection is broken."""
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            # Deferred, because a disconnect destroys the objects that send our requests.
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
    """Check that the structure and its argsz are complete."""
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
    """Split an access at registers, so that a partly read one is read and cleared once."""
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
    """Return a listening socket at `path`; replace one of a dead server."""
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
