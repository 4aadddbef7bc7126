"""Capture files: pcapng written a batch at a time, pcapng and classic pcap read.

Sources: "PCAP Next Generation (pcapng) Capture File Format" (IETF draft, section numbers below) and
"PCAP Capture File Format" for the older one. Times are ns.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from e1000emu.closing import Closing
from e1000emu.errors import ArgumentError, LinkError
from fastpath.errors import check_methods, check_type
from fastpath.nic.linkops import epb_encode

if TYPE_CHECKING:
    from fastpath.base.batch import FrameBatch

__all__ = [
    "DIRECTION_IN",
    "DIRECTION_OUT",
    "DIRECTION_UNKNOWN",
    "LINKTYPE_ETHERNET",
    "PcapngWriter",
    "Record",
    "read_capture",
    "read_records",
    "with_comments",
]

LINKTYPE_ETHERNET = 1
DIRECTION_UNKNOWN, DIRECTION_IN, DIRECTION_OUT = 0, 1, 2

SHB, IDB, PACKET, SPB, EPB = 0x0A0D0D0A, 1, 2, 3, 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D
# Options: every block has 0 and 1, the rest by block (sections 3.5, 4.1 to 4.3).
OPT_END, OPT_COMMENT = 0, 1
SHB_USERAPPL, IF_NAME, IF_SPEED, IF_TSRESOL, IF_TSOFFSET, EPB_FLAGS = 4, 2, 8, 9, 14, 2
PCAP_MAGICS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # ns for one unit of the second time field

# No frame and no other block comes near this size; it bounds how much a damaged length makes us
# read.
MAX_BLOCK_BYTES = 16 << 20
BUFFER_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Record:
    """One captured frame: `data` may be shorter than the `length` that was on the wire."""

    when_ns: int
    data: bytes
    length: int
    interface: int = 0
    linktype: int = LINKTYPE_ETHERNET
    direction: int = DIRECTION_UNKNOWN
    comments: tuple[str, ...] = ()
    offset: int = field(default=0, compare=False)
    """Where in the file `data` begins."""


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    size = 12 + len(body)
    return struct.pack("=II", kind, size) + body + struct.pack("=I", size)


def with_comments(block: bytes, comments: Sequence[str]) -> bytes:
    """Return an Enhanced Packet Block of this machine's byte order with `opt_comment`s (section
    3.5) before its other options.  Raises: ArgumentError, it is none."""
    if not isinstance(block, bytes) or len(block) < 32 or block[:4] != struct.pack("=I", EPB):
        raise ArgumentError(f"with_comments: block={block!r}; give an Enhanced Packet Block")
    kept = struct.unpack_from("=I", block, 20)[0]
    at = 28 + kept + -kept % 4
    options = b"".join(_option(OPT_COMMENT, text.encode()[:0xFFFF]) for text in comments)
    return _block(EPB, block[8:at] + options + block[at:-4])


class PcapngWriter(Closing):
    """A pcapng file with any number of Ethernet interfaces, times in ns.

    `path` is overwritten; a binary file will do too, and is closed with the writer. Not thread
    safe: the callers hold the clock's lock.
    """

    def __init__(self, path: str | os.PathLike[str] | BinaryIO) -> None:
        if isinstance(path, str | os.PathLike):
            self.path = Path(path)
            try:
                self._file: BinaryIO = open(self.path, "wb", buffering=BUFFER_BYTES)  # noqa: SIM115
            except OSError as error:
                raise LinkError(
                    f"capture {os.fspath(path)!r}: {error.strerror}; "
                    "give a file that can be written"
                ) from None
        else:
            check_methods("capture", "path", path, ("write", "flush"), "a path or a binary file")
            self.path = Path(str(getattr(path, "name", "-")))
            self._file = path
        self.frames = 0
        self._snap: list[int] = []
        body = struct.pack("=IHHq", BYTE_ORDER_MAGIC, 1, 0, -1)
        body += _option(SHB_USERAPPL, b"e1000emu") + _option(OPT_END, b"")
        self._put(_block(SHB, body))

    def __repr__(self) -> str:
        return f"PcapngWriter({str(self.path)!r}, frames={self.frames})"

    def add_interface(
        self, name: str, *, speed_bps: int = 1_000_000_000, snap_bytes: int = 262144
    ) -> int:
        """Describe an Ethernet interface and return its number for `write`."""
        body = struct.pack("=HHI", LINKTYPE_ETHERNET, 0, snap_bytes)
        body += _option(IF_NAME, name.encode())
        body += _option(IF_SPEED, struct.pack("=Q", speed_bps))
        body += _option(IF_TSRESOL, b"\x09") + _option(OPT_END, b"")
        self._put(_block(IDB, body))
        self._snap.append(snap_bytes)
        return len(self._snap) - 1

    def write(
        self,
        batch: FrameBatch,
        start: int,
        stop: int,
        *,
        interface: int,
        now_ns: int,
        epoch_ns: int = 0,
        direction: int = DIRECTION_UNKNOWN,
    ) -> None:
        """Append frames [start, stop) of `batch` in one write. Borrows `batch` until return.

        Raises LinkError, once, when the file takes no more; later frames are not written.
        """
        if start < stop and not self._file.closed:
            snap = self._snap[interface]
            self._put(epb_encode(batch, start, stop, interface, now_ns, epoch_ns, direction, snap))
            self.frames += stop - start

    def put_record(self, record: Record, interface: int) -> None:
        """Append one frame, on `interface` whatever the record says."""
        data = record.data
        body = struct.pack("=IIIII", interface, record.when_ns >> 32, record.when_ns & 0xFFFFFFFF,
                           len(data), record.length)  # fmt: skip
        body += data + bytes(-len(data) % 4)
        if record.direction:
            body += _option(EPB_FLAGS, struct.pack("=I", record.direction)) + _option(OPT_END, b"")
        self.append(_block(EPB, body))

    def append(self, block: bytes) -> None:
        """Append one frame as the block that it already is."""
        if not self._file.closed:
            self._put(block)
            self.frames += 1

    def flush(self) -> None:
        """Hand what is buffered to the operating system, so that a reader sees whole blocks."""
        if not self._file.closed:
            try:
                self._file.flush()
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Write what is buffered and close the file. Harmless when repeated."""
        try:
            self._file.close()
        except OSError as error:
            self._fail(error)

    def _put(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        with contextlib.suppress(OSError):
            self._file.close()  # tries to write once more, and closes in any case
        raise LinkError(
            f"capture {str(self.path)!r}: {error.strerror}; give a file that can be written"
        ) from None


def read_capture(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Yield the frames of a pcapng or classic pcap file of either byte order.

    Raises LinkError, naming the file and the byte, for a file that is neither or is damaged; frames
    before the damage have been yielded by then.
    """
    check_type("read_capture", "path", path, (str, os.PathLike), "the path of a capture")
    name = os.fspath(path)
    try:
        file = open(path, "rb", buffering=BUFFER_BYTES)  # noqa: SIM115
    except OSError as error:
        raise LinkError(f"capture {name!r}: {error.strerror}; give a pcap or pcapng file") from None
    with file:
        yield from read_records(file, name)


def read_records(file: BinaryIO, name: str) -> Iterator[Record]:
    """Yield the frames of an open file as `read_capture` does; errors call it `name`."""
    check_methods("read_records", "file", file, ("read",), "a file opened for reading bytes")
    reader = _Reader(file, name)
    magic = reader.take(4, "magic number")
    if magic == SHB.to_bytes(4, "little"):
        yield from _read_pcapng(reader)
        return
    for order in "<>":
        unit = PCAP_MAGICS.get(struct.unpack(order + "I", magic)[0])
        if unit is not None:
            yield from _read_pcap(reader, order, unit)
            return
    raise reader.error("neither pcapng nor pcap; convert it with editcap -F pcapng", at=0)


class _Reader:
    """Reads exactly, and knows where it is for the error text."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name
        self.at = 0

    def error(self, what: str, at: int | None = None) -> LinkError:
        return LinkError(f"capture {self.name!r}: byte {self.at if at is None else at}: {what}")

    def take(self, n: int, what: str) -> bytes:
        data = self.file.read(n)
        if len(data) != n:
            raise self.error(f"file ends inside the {what}")
        self.at += n
        return data

    def take_or_end(self, n: int, what: str) -> bytes:
        data = self.file.read(n)
        if len(data) not in (0, n):
            raise self.error(f"file ends inside the {what}")
        self.at += len(data)
        return data


def _read_pcap(reader: _Reader, order: str, unit_ns: int) -> Iterator[Record]:
    _, _, _, _, snap, network = struct.unpack(order + "HHiIII", reader.take(20, "file header"))
    linktype = network & 0xFFFF  # above it: FCS length (section 4 of the pcap draft)
    limit = max(snap, 65535) if snap <= MAX_BLOCK_BYTES else MAX_BLOCK_BYTES
    while header := reader.take_or_end(16, "record header"):
        seconds, part, kept, length = struct.unpack(order + "IIII", header)
        if kept > limit:
            raise reader.error(f"record of {kept} bytes is longer than the snapshot length {limit}")
        at, data = reader.at, reader.take(kept, "record")
        when_ns = seconds * 1_000_000_000 + part * unit_ns
        yield Record(when_ns, data, length, 0, linktype, offset=at)


@dataclass(slots=True)
class _Interface:
    linktype: int
    snap_bytes: int
    units_per_s: int = 1_000_000
    offset_s: int = 0

    def ns(self, stamp: int) -> int:
        return self.offset_s * 1_000_000_000 + stamp * 1_000_000_000 // self.units_per_s


def _options(reader: _Reader, body: bytes, at: int, order: str) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(body):
        code, size = struct.unpack_from(order + "HH", body, at)
        at += 4
        if code == OPT_END:
            return
        if at + size > len(body):
            raise reader.error(f"option {code} of {size} bytes runs past its block")
        yield code, body[at : at + size]
        at += size + -size % 4


def _interface(reader: _Reader, body: bytes, order: str) -> _Interface:
    if len(body) < 8:
        raise reader.error("interface description shorter than 8 bytes")
    linktype, _, snap = struct.unpack_from(order + "HHI", body)
    found = _Interface(linktype, snap)
    for code, value in _options(reader, body, 8, order):
        if code == IF_TSRESOL and len(value) == 1:
            power = value[0] & 0x7F
            found.units_per_s = 2**power if value[0] & 0x80 else 10**power
        elif code == IF_TSOFFSET and len(value) == 8:
            found.offset_s = struct.unpack(order + "q", value)[0]
    return found


def _read_pcapng(reader: _Reader) -> Iterator[Record]:
    interfaces: list[_Interface] = []
    order = "<"
    head = SHB.to_bytes(4, "little") + reader.take(4, "section header")
    while head:
        began = reader.at - 8
        # The type of a section header reads the same both ways; its magic gives the byte order.
        if head[:4] == SHB.to_bytes(4, "little"):
            magic = reader.take(4, "section header")
            for order in "<>":
                if struct.unpack(order + "I", magic)[0] == BYTE_ORDER_MAGIC:
                    break
            else:
                raise reader.error(f"byte-order magic is {magic.hex()}", at=began)
            interfaces = []
            already = 4
        else:
            already = 0
        kind, size = struct.unpack(order + "II", head)
        if size < 12 + already or size % 4 or size > MAX_BLOCK_BYTES:
            raise reader.error(f"block of type {kind:#x} has length {size}", at=began)
        body = reader.take(size - 12 - already, "block")
        if struct.unpack(order + "I", reader.take(4, "block"))[0] != size:
            raise reader.error(f"the two lengths of block {kind:#x} differ", at=began)
        if kind == IDB:
            interfaces.append(_interface(reader, body, order))
        elif kind in (EPB, PACKET, SPB):
            yield _packet(reader, kind, body, order, interfaces)
        head = reader.take_or_end(8, "block header")


def _packet(
    reader: _Reader, kind: int, body: bytes, order: str, interfaces: list[_Interface]
) -> Record:
    number, stamp, direction = 0, 0, DIRECTION_UNKNOWN
    comments: list[str] = []
    fixed = 4 if kind == SPB else 20
    if len(body) < fixed:
        raise reader.error(f"packet block has {len(body)} bytes of content, needs {fixed}")
    if kind == SPB:
        length = struct.unpack_from(order + "I", body)[0]
        kept = length
    else:
        layout = "IIIII" if kind == EPB else "HHIIII"
        fields = struct.unpack_from(order + layout, body)
        number, (high, low, kept, length) = fields[0], fields[-4:]
        stamp = high << 32 | low
    if number >= len(interfaces):
        raise reader.error(f"packet of interface {number}, which was not described")
    interface = interfaces[number]
    if kind == SPB:
        kept = min(length, interface.snap_bytes or length)
    if fixed + kept > len(body):
        raise reader.error(f"packet of {kept} bytes runs past its block")
    if kind != SPB:
        for code, value in _options(reader, body, fixed + kept + -kept % 4, order):
            if code == EPB_FLAGS and len(value) == 4:
                direction = struct.unpack(order + "I", value)[0] & 3
            elif code == OPT_COMMENT:
                comments.append(value.decode("utf-8", "replace"))
    data = body[fixed : fixed + kept]
    at = reader.at - 4 - len(body) + fixed  # the block's length is repeated behind the body
    return Record(
        interface.ns(stamp),
        data,
        length,
        number,
        interface.linktype,
        direction,
        tuple(comments),
        at,
    )
