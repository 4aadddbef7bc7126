"""The file of a recorded device: the data at its ports, in order (docs/record.md has the format).

It has a line of text (type, version), a line of JSON (the header), then records. A record is
four bytes of length, little endian, and a MessagePack array of a kind and its arguments. A
recording ends with `END`. A truncated one has none, and can be replayed to its last record.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from e1000emu.closing import Closing
from e1000emu.errors import E1000Error, LinkError
from e1000emu.links.farend import from_plain
from e1000emu.registers.regs import at_offset
from fastpath.errors import check_type

FILE_KIND = "e1000emu-recording"
VERSION = 1
MAX_RECORD_BYTES = 64 << 20
MAX_HEADER_BYTES = 1 << 20
FLUSH_BYTES = 256 << 10
LENGTH_BYTES = 4
LATEST_NS = 1 << 62
MAX_BATCH = 1 << 16
MAX_FRAME_BYTES = 1 << 17


class RecordingError(E1000Error):
    """A file is not a recording, is damaged, or cannot be written."""


def _number(low: int, high: int) -> Callable[[Any], bool]:
    return lambda v: type(v) is int and low <= v <= high


def _bytes(high: int) -> Callable[[Any], bool]:
    return lambda v: type(v) is bytes and len(v) <= high


def _flag(v: Any) -> bool:
    return type(v) is bool


def _frames(v: Any) -> bool:
    one = _bytes(MAX_FRAME_BYTES)
    return type(v) is list and len(v) <= MAX_BATCH and all(one(f) for f in v)


def _flags(v: Any) -> bool:
    return type(v) is list and len(v) <= MAX_BATCH and all(_WORD(f) for f in v)


def _text(v: Any) -> bool:
    return type(v) is str and len(v) <= 1 << 10


def _far_end(v: Any) -> bool:
    if not (v is None or (type(v) is dict and "on_page" not in v)):
        return False
    try:
        from_plain(v)
    except (LinkError, LookupError, TypeError, ValueError):
        return False
    return True


def _maybe(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: v is None or check(v)


def _any(v: Any) -> bool:
    return type(v) is list


_TIME = _number(-LATEST_NS, LATEST_NS)
_WORD = _number(0, 0xFFFFFFFF)
_QUAD = _number(0, (1 << 64) - 1)
_PLACE = _number(-LATEST_NS, LATEST_NS)
_SIZE = _number(-16, 16)
_BAR = _number(-16, 16)
_ADDRESS = _QUAD
_CONFIG = _number(-2, 0xFFFF)
_SPEED = _number(0, 1 << 31)


class Kind(IntEnum):
    """Kinds of records.  Those below RETURN are inputs of the device, with the time in ns first."""

    shape: tuple[Callable[[Any], bool], ...]
    """The type of each argument."""

    def __new__(cls, number: int, *shape: Callable[[Any], bool]) -> Kind:
        """Create a kind with `number` in the file."""
        kind = int.__new__(cls, number)
        kind._value_ = number
        kind.shape = shape
        return kind

    READ = 1, _TIME, _BAR, _PLACE, _SIZE
    """A read of a BAR: time, BAR, offset, bytes."""
    WRITE = 2, _TIME, _BAR, _PLACE, _QUAD, _SIZE
    """A write to a BAR: time, BAR, offset, value, bytes."""
    CONFIG_READ = 3, _TIME, _PLACE, _SIZE
    """A read of configuration space: time, offset, bytes."""
    CONFIG_WRITE = 4, _TIME, _PLACE, _QUAD, _SIZE
    """A write to configuration space: time, offset, value, bytes."""
    RECEIVE = 5, _TIME, _flag, _frames, _flags
    """Frames received: time, whether the link can hold them, the frames, their FB_* flags."""
    LINK = 6, _TIME, _flag, _SPEED, _flag
    """The far end changed: time, carrier, Mb/s, full duplex."""
    ROOM = 7, _TIME
    """The link has room again: time."""
    TIMER = 8, _TIME, _QUAD
    """A timer expired: time, its number (`AT`)."""
    SOON = 9, _TIME, _QUAD
    """A deferred call: time, its number (`LATER`)."""
    CALL = 10, _TIME, _text, _any
    """A call of a device function: time, name, arguments."""
    HOT_READ = 11, _TIME, _QUAD
    """A read of BAR 0 that the message thread served: time, offset."""
    HOT_WRITE = 12, _TIME, _QUAD, _WORD
    """A write to BAR 0 that the message thread served: time, offset, value."""
    SEND = 13, _TIME, _number(0, MAX_BATCH)
    """A worker ran the transmit engine: time, maximum of frames."""
    STORE = 14, _TIME, _frames, _flags
    """A worker passed frames to the receive side: time, the frames, their FB_* flags."""
    TICK = 15, _TIME
    """A worker ran the interrupt block: time."""
    RETURN = 16, _maybe(_QUAD), _maybe(_text)
    """The device has handled an event: result, name of an exception."""
    DMA_READ = 32, _ADDRESS, _WORD, _maybe(_bytes(MAX_RECORD_BYTES))
    """The device read memory: address, bytes, data; None is a master abort."""
    DMA_WRITE = 33, _ADDRESS, _bytes(MAX_RECORD_BYTES), _flag
    """The device wrote memory: address, data, whether it succeeded."""
    TRANSMIT = 34, _frames, _flags
    """Frames were sent: the frames, their FB_* flags."""
    LEVEL = 35, _flag
    """The interrupt line: level."""
    RX_READY = 36
    """The device has room again."""
    MESSAGE = 37, _ADDRESS, _WORD
    """A message signalled interrupt: address, data."""
    PME = 38, _flag
    """PME#: level."""
    AT = 39, _QUAD, _TIME
    """A timer was set: its number, time (ns)."""
    LATER = 40, _QUAD
    """A call was deferred until after this event: its number."""
    TX_ROOM = 41, _number(-LATEST_NS, LATEST_NS)
    """The device queried the link's room: number of frames."""
    CARRIER = 42, _flag, _SPEED
    """The device queried the far end: carrier, Mb/s."""
    ATTACH = 43
    """The device plugged itself into its link."""
    DETACH = 44
    """It unplugged itself."""
    PIN = 45, _WORD, _flag
    """An output of a software definable pin: number, level."""
    GAP = 46, _WORD
    """The device's gap between frames: bytes."""
    DONE = 48
    """A call out of the device has returned; events during it are recorded before this."""
    STAGE = 49, _text, _text, _WORD
    """The device calls the stage before an engine (`ports.Stage`): tx or rx, what, causes."""
    STAGE_BUSY = 50, _text, _flag
    """The device queried whether that waits for memory: tx or rx, result."""
    BUSY = 51, _TIME
    """The device queried until when the wire is busy: time (ns)."""
    ALERT = 52
    """The device has a frame for the management controller."""
    READ_FRAME = 53, _bytes(MAX_FRAME_BYTES)
    """The management controller read a frame; empty: there was none."""
    FAR_END = 54, _far_end
    """The device queried the far end in autonegotiation: the fields of a `links.FarEnd`."""
    TX_CONFIG = 55, _CONFIG
    """A fibre board changed its signal besides frames: a /C/ word, -1 idles, -2 nothing."""
    RX_CONFIG = 56, _maybe(_CONFIG)
    """The device queried the received signal; None: no fibre board at the far end."""
    END = 63, _QUAD, _text
    """End of the recording: number of records before, reason."""

    @property
    def opens(self) -> bool:
        """Whether records that belong to it follow, up to the one that ends it."""
        return self in INPUTS or self in NESTING

    @property
    def closes(self) -> bool:
        """Whether it ends an earlier record."""
        return self is Kind.RETURN or self is Kind.DONE


INPUTS = frozenset(kind for kind in Kind if kind < Kind.RETURN)
NESTING = frozenset(
    (
        Kind.TRANSMIT,
        Kind.LEVEL,
        Kind.RX_READY,
        Kind.MESSAGE,
        Kind.PME,
        Kind.PIN,
        Kind.ATTACH,
        Kind.DETACH,
        Kind.STAGE,
        Kind.ALERT,
    )
)
"""Outputs during which the device may get events: `DONE` follows."""
WORK = frozenset((Kind.HOT_READ, Kind.HOT_WRITE, Kind.SEND, Kind.STORE, Kind.TICK))
"""Records of a device with a worker."""


class Header(msgspec.Struct, kw_only=True):
    """The device and its arguments: all that a replay needs besides the records."""

    program: str
    """The release that recorded it."""
    model: str
    mac: str
    eeprom: str
    """Its words at power-on, hexadecimal, four digits each."""
    autoneg_ns: int
    moderation: str
    strict: bool
    messages: bool
    """Whether MSI is passed to a function, not written to memory."""
    faults: dict[str, Any] | None = None
    """Its hardware faults (`Faults`)."""
    flash: bytes | None = None
    """The content of its boot flash at power-on."""
    pad_runts: bool = True
    """Whether received short frames are padded."""
    bus: dict[str, Any] | None = None
    """The bus used to read memory (`Bus`)."""
    management: dict[str, Any] | None = None
    """Properties of its board's management controller (`ports.ManagementController`)."""
    full_duplex: bool = True
    """Whether its link is not a shared wire."""
    station: bool = False
    """Whether a shared wire reports the outcome of its frames."""


class Event(NamedTuple):
    """One record: its number from 1, its offset in the file, its content."""

    number: int
    offset: int
    kind: Kind
    args: tuple[Any, ...]


class Writer:
    """Writes a recording.  `close` reports later failures, since the device goes on without a
    recording."""

    def __init__(self, path: str | os.PathLike[str], *, flush: bool = False) -> None:
        """Open `path`, readable by its owner only; `flush` writes each record at once.

        Raises: RecordingError.
        """
        check_type("Writer", "path", path, (str, os.PathLike), "the path of a file")
        self.path = path = Path(path)
        self.events = 0
        self.error: OSError | None = None
        self._encode = msgspec.msgpack.Encoder().encode
        self._buffer = bytearray()
        self._flush_bytes = 0 if flush else FLUSH_BYTES
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RecordingError(
                f"recording {path}: cannot be written: {error.strerror}; give another path"
            ) from None
        self._file: IO[bytes] | None = os.fdopen(fd, "wb", buffering=0)

    def begin(self, header: Header) -> None:
        """Write the part before the records."""
        self._buffer += f"{FILE_KIND} {VERSION}\n".encode()
        self._buffer += msgspec.json.encode(header) + b"\n"

    def put(self, kind: Kind, *args: Any) -> None:
        """Write one record."""
        if self._file is None:
            return
        body = self._encode((int(kind), *args))
        self._buffer += len(body).to_bytes(LENGTH_BYTES, "little")
        self._buffer += body
        self.events += kind is not Kind.END
        if len(self._buffer) >= self._flush_bytes:
            self._flush()

    def _flush(self) -> None:
        data, self._buffer = self._buffer, bytearray()
        file = self._file
        assert file is not None
        try:
            while data:
                del data[: file.write(data)]
        except OSError as error:
            self.error = error
            self._file = None
            file.close()

    def close(self, why: str) -> None:
        """Write `END`, close the file.  Raises: RecordingError if it is incomplete."""
        if self._file is not None:
            self.put(Kind.END, self.events, why)
        if self._file is not None:
            self._flush()
        if self._file is not None:
            self._file.close()
            self._file = None
        error, self.error = self.error, None
        if error is not None:
            raise RecordingError(
                f"recording {self.path}: ends after {self.events} events: {error.strerror}"
            )


class Reader(Closing):
    """Reads a recording: `header`, then the events by iteration.

    Raises: RecordingError, with the offset and the error.  With `partial` the events of a
    truncated file end there.
    """

    def __init__(self, path: str | os.PathLike[str], *, partial: bool = False) -> None:
        check_type("Reader", "path", path, (str, os.PathLike), "the path of a file")
        self.path = path = Path(path)
        self.partial = partial
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise RecordingError(
                f"recording {path}: cannot be read: {error.strerror}; name another file"
            ) from None
        try:
            self.header = self._head()
        except BaseException:
            self._file.close()
            raise

    def _bad(self, offset: int, what: str) -> RecordingError:
        return RecordingError(f"recording {self.path}: at offset {offset}: {what}")

    def _head(self) -> Header:
        first = self._file.readline(100)
        kind, _, version = first.decode("ascii", "replace").rstrip("\n").partition(" ")
        if kind != FILE_KIND or not version.isascii() or not version.isdigit():
            raise self._bad(0, "this is no recording of a NIC; name another file")
        if int(version[:9]) != VERSION:
            raise self._bad(0, f"version {version[:9]}; this e1000emu reads {VERSION}")
        at = len(first)
        line = self._file.readline(MAX_HEADER_BYTES)
        if not line.endswith(b"\n"):
            raise self._bad(at, "the header has no end")
        try:
            header = msgspec.json.decode(line, type=Header)
            bytes.fromhex(header.mac.replace(":", ""))
            bytes.fromhex(header.eeprom)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise self._bad(at, f"the header is damaged: {error}") from None
        return header

    def __iter__(self) -> Iterator[Event]:
        read, decode = self._file.read, msgspec.msgpack.Decoder(list[Any]).decode
        number = 0
        while True:
            offset = self._file.tell()
            head = read(LENGTH_BYTES)
            size = int.from_bytes(head, "little")
            if len(head) == LENGTH_BYTES and size > MAX_RECORD_BYTES:
                raise self._bad(offset, f"a record of {size} bytes; {MAX_RECORD_BYTES} at most")
            body = read(size) if len(head) == LENGTH_BYTES else b""
            if len(head) < LENGTH_BYTES or len(body) < size:
                if self.partial:
                    return
                raise self._bad(
                    offset, f"cut off after event {number}; --partial replays what is there"
                )
            number += 1
            try:
                parts = decode(body)
                kind = Kind(parts[0]) if parts and type(parts[0]) is int else None
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                raise self._bad(offset, f"event {number} is damaged: {error}") from None
            if kind is None:
                raise self._bad(offset, f"event {number} has no kind")
            args = tuple(parts[1:])
            self._check(offset, number, kind, args)
            yield Event(number, offset, kind, args)
            if kind is Kind.END:
                rest = self._file.tell()
                if args[0] != number - 1:
                    raise self._bad(offset, f"{number - 1} events, {args[0]} were written")
                if read(1):
                    raise self._bad(rest, "there is something behind the end")
                return

    def _check(self, offset: int, number: int, kind: Kind, args: tuple[Any, ...]) -> None:
        shape = kind.shape
        name = f"event {number} ({kind.name})"
        if len(args) != len(shape):
            raise self._bad(offset, f"{name} has {len(args)} arguments, not {len(shape)}")
        for i, (value, fits) in enumerate(zip(args, shape, strict=True)):
            if not fits(value):
                raise self._bad(offset, f"{name}: argument {i + 1} cannot be {_short(value)}")
        if kind in (Kind.RECEIVE, Kind.STORE, Kind.TRANSMIT) and len(args[-1]) != len(args[-2]):
            raise self._bad(offset, f"{name}: {len(args[-2])} frames, {len(args[-1])} flags")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        shown = value[:16].hex(" ") + (" …" if len(value) > 16 else "")
        return f"{len(value)} bytes {shown}".rstrip()
    if isinstance(value, list) and all(isinstance(v, bytes) for v in value):
        return f"{len(value)} frames of {', '.join(str(len(v)) for v in value[:8])} bytes"
    text = str(value)
    return text if len(text) <= 60 else text[:60] + " …"


def _register(bar: int, offset: int) -> str:
    found = at_offset(offset) if bar == 0 and 0 <= offset < 1 << 32 else None
    name = f" {found.name}" if found is not None else ""
    return f"BAR {bar} {offset & (1 << 64) - 1:05X}{name}"


def describe(kind: Kind, args: tuple[Any, ...]) -> str:
    """Return an event as words, without its time."""
    match kind:
        case Kind.READ:
            return f"read {_register(args[1], args[2])}, {args[3]} bytes"
        case Kind.WRITE:
            return f"write {_register(args[1], args[2])} = {args[3]:0{max(args[4], 0) * 2}X}"
        case Kind.HOT_READ:
            return f"hot read {_register(0, args[1])}"
        case Kind.HOT_WRITE:
            return f"hot write {_register(0, args[1])} = {args[2]:08X}"
        case Kind.CONFIG_READ:
            return f"configuration read {args[1]:02X}, {args[2]} bytes"
        case Kind.CONFIG_WRITE:
            return f"configuration write {args[1]:02X} = {args[2]:0{max(args[3], 0) * 2}X}"
        case Kind.RETURN:
            if args[1] is not None:
                return f"raises {args[1]}"
            return "returns" if args[0] is None else f"returns {args[0]:X}"
        case Kind.DMA_READ:
            saw = "master abort" if args[2] is None else _short(args[2])
            return f"DMA read of {args[1]} bytes at {args[0]:X}: {saw}"
        case Kind.DMA_WRITE:
            lost = "" if args[2] else ", master abort"
            return f"DMA write at {args[0]:X}: {_short(args[1])}{lost}"
        case Kind.CALL:
            return f"call of {args[1]}"
        case Kind.LEVEL | Kind.PME:
            what = "INTA#" if kind is Kind.LEVEL else "PME#"
            return f"{what} {'asserted' if args[0] else 'deasserted'}"
        case Kind.AT:
            return f"timer {args[0]} set for {args[1]} ns"
    shown = args[1:] if kind in INPUTS else args
    words = kind.name.lower().replace("_", " ")
    return " ".join([words, *(_short(value) for value in shown)])
