"""vfio-user on the wire: constants, message layouts, and a stream parser without I/O.

Names are those of the vfio-user specification and of Linux's vfio.h.  All integers are little
endian.  A message is a 16-byte header (id, command, size of all, flags, errno) and a payload; file
descriptors travel with its first byte.  `MessageReader` takes data from a socket in pieces of any
size; the `parse` methods check every length and field once, and raise `Refused` for errors.
"""

from __future__ import annotations

import errno
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

VERSION_MAJOR, VERSION_MINOR = 0, 0

# Header flags.
TYPE_MASK, TYPE_COMMAND, TYPE_REPLY = 0xF, 0x0, 0x1
NO_REPLY, ERROR = 0x10, 0x20

HEADER_BYTES = 16
MAX_DATA_XFER_BYTES = 1 << 20
"""Maximum data of one region access: QEMU reads an option ROM of up to 512 KiB at once."""
MAX_DMA_BYTES = 1 << 16
"""Maximum data of our DMA requests."""
MAX_MESSAGE_BYTES = HEADER_BYTES + 16 + MAX_DATA_XFER_BYTES
DEFAULT_DATA_XFER_BYTES = 1 << 20
"""The default if the client sends none."""
MIN_DATA_XFER_BYTES = 16
"""A descriptor is written in one piece."""
MAX_MSG_FDS = 16
MAX_DMA_MAPS = 512
"""Every mapping holds a descriptor, and 1024 is the usual limit of a process."""
PAGE_BYTES = 4096

VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE = 1, 2
VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, VFIO_DMA_UNMAP_FLAG_ALL = 1, 2
VFIO_DEVICE_FLAGS_RESET, VFIO_DEVICE_FLAGS_PCI = 1, 2
VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE = 1, 2
VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_INFO_AUTOMASKED = 1, 2, 4

VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR5_REGION_INDEX = 0, 5
VFIO_PCI_ROM_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX = 6, 7
VFIO_PCI_NUM_REGIONS = 9
VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_ERR_IRQ_INDEX = 0, 1, 3
VFIO_PCI_NUM_IRQS = 5


class Command(IntEnum):
    """The command of a message."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    REGION_WRITE_MULTI = 15


class IrqFlags(IntFlag):
    """Flags of DEVICE_SET_IRQS: one kind of data and one action."""

    DATA_NONE = 0x01
    DATA_BOOL = 0x02
    DATA_EVENTFD = 0x04
    ACTION_MASK = 0x08
    ACTION_UNMASK = 0x10
    ACTION_TRIGGER = 0x20


# Plain ints, because inverting an IntFlag loses the bits without a name.
IRQ_DATA, IRQ_ACTION = 0x07, 0x38

HEADER = struct.Struct("<HHIII")
VERSION_HEAD = struct.Struct("<HH")
DMA_MAP = struct.Struct("<IIQQQ")
DMA_UNMAP = struct.Struct("<IIQQ")
DEVICE_INFO = struct.Struct("<IIII")
REGION_INFO = struct.Struct("<IIIIQQ")
IRQ_INFO = struct.Struct("<IIII")
IRQ_SET = struct.Struct("<IIIII")
REGION_ACCESS = struct.Struct("<QII")
DMA_ACCESS = struct.Struct("<QQ")


class Refused(Exception):
    """A request with an error reply: `number` is its errno, the text is for the user."""

    def __init__(self, number: int, text: str, *, quiet: bool = False) -> None:
        super().__init__(text)
        self.number = number
        self.quiet = quiet
        """Whether it is a normal reply to a query, not to be reported."""


class Message(NamedTuple):
    """One whole message.  The receiver owns `fds`."""

    id: int
    command: int
    flags: int
    error: int
    payload: bytes
    fds: tuple[int, ...] = ()

    @property
    def is_reply(self) -> bool:
        """Whether it answers our request."""
        return self.flags & TYPE_MASK == TYPE_REPLY

    @property
    def wants_reply(self) -> bool:
        """Whether it is a request and not posted."""
        return self.flags & (TYPE_MASK | NO_REPLY) == TYPE_COMMAND


def pack(
    ident: int, command: int, payload: bytes = b"", *, flags: int = 0, error: int = 0
) -> bytes:
    """Return one message as bytes."""
    size = HEADER_BYTES + len(payload)
    return HEADER.pack(ident & 0xFFFF, command & 0xFFFF, size, flags, error) + payload


def reply(request: Message, payload: bytes = b"") -> bytes:
    """Return the answer to `request`."""
    size = HEADER_BYTES + len(payload)
    return HEADER.pack(request.id, request.command, size, TYPE_REPLY, 0) + payload


def error_reply(request: Message, number: int) -> bytes:
    """Return the answer with errno `number`: the bare header."""
    return HEADER.pack(request.id, request.command, HEADER_BYTES, TYPE_REPLY | ERROR, number)


class MessageReader:
    """Bytes and descriptors in, messages out; keeps at most one unfinished message.

    A header with an invalid size ends the stream: `error` is then the reason; nothing later is
    read.
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._buffer = bytearray()
        self._fds: list[int] = []
        self._max_bytes = max_bytes
        self.error = ""

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished message."""
        return len(self._buffer)

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> list[Message]:
        """Take one read's `data` and `fds`; return the messages that are complete now.

        The kernel ends a read after the sender's piece that carried descriptors, so `fds` belong
        to the last message that has a byte in `data`.  Takes ownership of `fds`.
        """
        self._fds += fds
        if self.error:
            return []
        buffer = self._buffer
        buffer += data
        total, at = len(buffer), 0
        out: list[Message] = []
        held = len(self._fds) - len(fds)
        while total - at >= HEADER_BYTES:
            ident, command, size, flags, error = HEADER.unpack_from(buffer, at)
            if not HEADER_BYTES <= size <= self._max_bytes:
                self.error = (
                    f"message {ident} (command {command}) says it is {size} bytes; "
                    f"{HEADER_BYTES} to {self._max_bytes} can be"
                )
                buffer.clear()
                return out
            if total - at < size:
                break
            payload = bytes(buffer[at + HEADER_BYTES : at + size])
            at += size
            count = len(self._fds) if at == total else held
            own: tuple[int, ...] = ()
            if count:
                own = tuple(self._fds[:count])
                del self._fds[:count]
                held = 0
            out.append(Message(ident, command, flags, error, payload, own))
        del buffer[:at]
        if len(self._fds) > MAX_MSG_FDS:
            self.error = f"a message with more than {MAX_MSG_FDS} file descriptors"
        return out

    def take_fds(self) -> list[int]:
        """Return the descriptors of the unfinished message, to be closed."""
        fds, self._fds = self._fds, []
        return fds


def _unpack(layout: struct.Struct, payload: bytes, what: str) -> tuple[Any, ...]:
    if len(payload) < layout.size:
        raise Refused(
            errno.EINVAL, f"{what}: {len(payload)} bytes of payload, {layout.size} are needed"
        )
    return layout.unpack_from(payload)


def _sized(layout: struct.Struct, payload: bytes, what: str) -> tuple[Any, ...]:
    """Unpack the fields after argsz, the first field, which is the client's size."""
    argsz, *found = _unpack(layout, payload, what)
    if argsz < layout.size:
        raise Refused(errno.EINVAL, f"{what}: argsz {argsz} of a structure of {layout.size} bytes")
    return tuple(found)


class Version(NamedTuple):
    """The first message: protocol version and the client's capabilities."""

    major: int
    minor: int
    capabilities: dict[str, Any]

    @classmethod
    def parse(cls, payload: bytes) -> Version:
        """Check and unpack.  Missing JSON or capabilities mean none.  Raises: Refused."""
        major, minor = _unpack(VERSION_HEAD, payload, "VERSION")
        text = payload[VERSION_HEAD.size :]
        if not text.strip(b"\0"):
            return cls(major, minor, {})
        if text[-1]:
            raise Refused(errno.EINVAL, "VERSION: the JSON text does not end in NUL")
        try:
            value = json.loads(text.rstrip(b"\0"))
        except (ValueError, RecursionError):
            raise Refused(errno.EINVAL, "VERSION: the data is not JSON") from None
        if not isinstance(value, dict):
            raise Refused(errno.EINVAL, "VERSION: the JSON is not an object")
        capabilities = value.get("capabilities", {})
        if not isinstance(capabilities, dict):
            raise Refused(errno.EINVAL, "VERSION: capabilities is not an object")
        return cls(major, minor, capabilities)

    @property
    def max_data_xfer_bytes(self) -> int:
        """Maximum data of one DMA request.  Raises: Refused."""
        size = self.capabilities.get("max_data_xfer_size", DEFAULT_DATA_XFER_BYTES)
        if not isinstance(size, int) or isinstance(size, bool) or size < MIN_DATA_XFER_BYTES:
            raise Refused(
                errno.EINVAL,
                f"VERSION: max_data_xfer_size {size!r}: a number from {MIN_DATA_XFER_BYTES} up",
            )
        return min(size, MAX_DMA_BYTES)

    def emit(self, room: int) -> bytes:
        """Return the payload in at most `room` bytes, omitting the last capabilities if needed.

        QEMU's buffer for the reply is as long as its request was.
        """
        left = dict(self.capabilities)
        while True:
            head = VERSION_HEAD.pack(self.major, self.minor)
            body = json.dumps({"capabilities": left}, separators=(",", ":")).encode() + b"\0"
            if len(head) + len(body) <= room:
                return head + body
            if not left:
                return head
            left.popitem()


SERVER_CAPABILITIES: dict[str, Any] = {
    "max_data_xfer_size": MAX_DATA_XFER_BYTES,
    "max_msg_fds": MAX_MSG_FDS,
    "pgsizes": PAGE_BYTES,
    "max_dma_maps": MAX_DMA_MAPS,
}
"""Our capabilities, most important first. write_multiple is omitted: QEMU gains nothing."""


class DmaMap(NamedTuple):
    """Guest memory: `size` bytes at bus address `iova`, from `offset` of the descriptor."""

    flags: int
    offset: int
    iova: int
    size: int

    @property
    def readable(self) -> bool:
        """Whether the device may read it."""
        return bool(self.flags & VFIO_DMA_MAP_FLAG_READ)

    @property
    def writable(self) -> bool:
        """Whether the device may write it."""
        return bool(self.flags & VFIO_DMA_MAP_FLAG_WRITE)

    @classmethod
    def parse(cls, payload: bytes) -> DmaMap:
        """Check and unpack.  Raises: Refused."""
        flags, offset, iova, size = _sized(DMA_MAP, payload, "DMA_MAP")
        known = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE
        if not flags & known or flags & ~known:
            raise Refused(errno.EINVAL, f"DMA_MAP: flags {flags:#x} are not read, write or both")
        if not size or (offset | iova | size) % PAGE_BYTES:
            raise Refused(
                errno.EINVAL,
                f"DMA_MAP: {iova:#x} + {size:#x} bytes at offset {offset:#x}: not whole pages",
            )
        if iova + size > 1 << 64 or offset + size > 1 << 63:
            raise Refused(errno.EINVAL, f"DMA_MAP: {iova:#x} + {size:#x} bytes: too high")
        return cls(flags, offset, iova, size)


class DmaUnmap(NamedTuple):
    """Unmap all inside `iova` … `iova + size`, or everything."""

    flags: int
    iova: int
    size: int

    @property
    def all(self) -> bool:
        """Whether it covers everything."""
        return bool(self.flags & VFIO_DMA_UNMAP_FLAG_ALL)

    @classmethod
    def parse(cls, payload: bytes) -> DmaUnmap:
        """Check and unpack.  Raises: Refused."""
        flags, iova, size = _sized(DMA_UNMAP, payload, "DMA_UNMAP")
        if flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP:
            raise Refused(errno.ENOTSUP, "DMA_UNMAP: no log of dirty pages is kept")
        if flags & ~VFIO_DMA_UNMAP_FLAG_ALL:
            raise Refused(errno.EINVAL, f"DMA_UNMAP: unknown flags {flags:#x}")
        if flags:
            if iova or size:
                raise Refused(errno.EINVAL, "DMA_UNMAP: all, and yet an address or a size")
        elif not size or iova + size > 1 << 64:
            raise Refused(errno.EINVAL, f"DMA_UNMAP: {iova:#x} + {size:#x} bytes cannot be")
        return cls(flags, iova, size)


class RegionAccess(NamedTuple):
    """A read of `size` bytes, or a write of `data`, at `offset` of a region."""

    offset: int
    region: int
    size: int
    data: bytes

    @classmethod
    def parse_read(cls, payload: bytes) -> RegionAccess:
        """Check and unpack a REGION_READ.  Raises: Refused."""
        offset, region, count = _unpack(REGION_ACCESS, payload, "REGION_READ")
        if count > MAX_DATA_XFER_BYTES:
            raise Refused(
                errno.E2BIG, f"REGION_READ: {count} bytes; at most {MAX_DATA_XFER_BYTES} at once"
            )
        return cls(offset, region, count, b"")

    @classmethod
    def parse_write(cls, payload: bytes) -> RegionAccess:
        """Check and unpack a REGION_WRITE.  Raises: Refused."""
        offset, region, count = _unpack(REGION_ACCESS, payload, "REGION_WRITE")
        data = payload[REGION_ACCESS.size :]
        if len(data) != count:
            raise Refused(
                errno.EINVAL, f"REGION_WRITE: count {count}, but {len(data)} bytes follow"
            )
        return cls(offset, region, count, data)

    def head(self) -> bytes:
        """Return the first 16 bytes of the answer's payload."""
        return REGION_ACCESS.pack(self.offset, self.region, self.size)


@dataclass(frozen=True, slots=True)
class SetIrqs:
    """An action on interrupts `start` … `start + count` of kind `index`."""

    data_kind: IrqFlags
    action: IrqFlags
    index: int
    start: int
    count: int
    data: bytes

    @classmethod
    def parse(cls, payload: bytes) -> SetIrqs:
        """Check and unpack.  Raises: Refused."""
        flags, index, start, count = _sized(IRQ_SET, payload, "SET_IRQS")
        kind, action = flags & IRQ_DATA, flags & IRQ_ACTION
        if flags & ~(IRQ_DATA | IRQ_ACTION) or kind.bit_count() != 1 or action.bit_count() != 1:
            raise Refused(errno.EINVAL, f"SET_IRQS: flags {flags:#x}: one data kind, one action")
        if index >= VFIO_PCI_NUM_IRQS:
            raise Refused(errno.EINVAL, f"SET_IRQS: no interrupt index {index}")
        data = payload[IRQ_SET.size :]
        if not count and (kind, action) != (IrqFlags.DATA_NONE, IrqFlags.ACTION_TRIGGER):
            raise Refused(errno.EINVAL, f"SET_IRQS: flags {flags:#x} for no interrupt")
        if kind == IrqFlags.DATA_BOOL and len(data) < count:
            raise Refused(errno.EINVAL, f"SET_IRQS: {count} interrupts, {len(data)} bytes")
        return cls(IrqFlags(kind), IrqFlags(action), index, start, count, data)
