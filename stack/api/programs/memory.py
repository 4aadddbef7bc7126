"""The structs of system calls in a program's memory (64 bits): struct msghdr, iovec, cmsghdr.

Everything here comes from the program. Lengths are bounded before anything is made of them, and
addresses go to process_vm_readv(2) alone.
"""

from __future__ import annotations

import errno
import mmap
import struct
from typing import Any, Final

from fastpath.base.seccomp import read_into, read_memory, write_memory
from stack.core.errors import os_error
from stack.core.rows import narrow, row, state, wide
from stack.core.sockaddr import sockaddr, sockaddr_bytes

MSGHDR = struct.Struct("=QI4xQQQQi4x")
MMSGHDR_BYTES = MSGHDR.size + 8
IOVEC = struct.Struct("=QQ")
CMSGHDR = struct.Struct("=Qii")
TIMESPEC = struct.Struct("=qq")
SECOND_NS, NEVER_NS = 1_000_000_000, (1 << 63) - 1
UIO_MAXIOV: Final = 1024
PIECE_BYTES: Final = 1 << 20
"""Read from or written to a program at a time, at most; a stream goes on after it."""
NAME_BYTES: Final = 128
CONTROL_BYTES: Final = 1 << 16
MSG_CTRUNC: Final = 0x8

Iov = list[tuple[int, int]]


@state
class Room:
    """Who answers calls has a room through which a call moves data. The next call overwrites it."""

    view: memoryview | None = row()


def room_of(at: Room) -> memoryview:
    """PIECE_BYTES, of which memory is taken as far as they are used."""
    if at.view is None:
        at.view = memoryview(mmap.mmap(-1, PIECE_BYTES))
    return at.view


def get_name(tid: int, addr: wide, size: wide) -> bytes | None:
    """The bytes of a struct sockaddr; None for a null pointer. Raises: OSError EINVAL, EFAULT."""
    if not addr:
        return None
    room = narrow(size & 0xFFFFFFFF)
    if room > NAME_BYTES:
        raise os_error(errno.EINVAL, f"an address of {size} bytes")
    return bytes(read_memory(tid, addr, room))


def put_name(tid: int, addr: wide, len_addr: wide, name: sockaddr | None) -> None:
    """move_addr_to_user: the struct, cut to what there is room for, and its whole length."""
    if not addr or not len_addr:
        return
    (room,) = struct.unpack("=i", read_memory(tid, len_addr, 4))
    if room < 0:
        raise os_error(errno.EINVAL, f"room for an address of {room} bytes")
    data = b"" if name is None else sockaddr_bytes(name)
    write_memory(tid, addr, data[:room])
    write_memory(tid, len_addr, struct.pack("=i", len(data)))


def get_time(tid: int, addr: wide, unit_ns: int = 1) -> int:
    """A struct timespec, or a timeval with `unit_ns` of 1000, in ns. Raises: OSError EINVAL."""
    seconds, rest = TIMESPEC.unpack(read_memory(tid, addr, TIMESPEC.size))
    if seconds < 0 or not 0 <= rest * unit_ns < SECOND_NS:
        raise os_error(errno.EINVAL, f"a time of {seconds} s and {rest}")
    return int(min(seconds * SECOND_NS + rest * unit_ns, NEVER_NS))


def get_iov(tid: int, addr: wide, count: wide) -> Iov:
    """import_iovec: (address, bytes) of each buffer. Raises: OSError EINVAL, EMSGSIZE, EFAULT."""
    if not 0 <= count <= UIO_MAXIOV:
        raise os_error(errno.EMSGSIZE if count > 0 else errno.EINVAL, f"{count} buffers")
    rows = list(IOVEC.iter_unpack(bytes(read_memory(tid, addr, IOVEC.size * narrow(count)))))
    for _, size in rows:
        if size >> 63:
            raise os_error(errno.EINVAL, "a buffer of negative size")
    return rows


def gather(tid: int, iov: Iov, skip: int = 0, room: Any = None) -> Any:
    """The bytes of the buffers from `skip` on, at most PIECE_BYTES, or as many as `room` has.

    A part of the memoryview `room`; without one a bytearray. Raises: OSError EFAULT.
    """
    if room is None:
        data = bytearray(min(max(total(iov) - skip, 0), PIECE_BYTES))
        gather(tid, iov, skip, memoryview(data))
        return data
    if len(iov) == 1:
        part = room[: max(iov[0][1] - skip, 0)]
        read_into(tid, iov[0][0] + skip, part)
        return part
    done = 0
    for addr, size in iov:
        if skip >= size:
            skip -= size
            continue
        piece = min(size - skip, len(room) - done)
        read_into(tid, addr + skip, room[done : done + piece])
        done += piece
        skip = 0
        if done >= len(room):
            break
    return room[:done]


def scatter(tid: int, iov: Iov, data: Any, skip: int = 0) -> None:
    """Write to the buffers from `skip` on. Raises: OSError EFAULT."""
    if not skip and len(iov) == 1 and len(data) <= iov[0][1]:
        write_memory(tid, iov[0][0], data)
        return
    view = memoryview(data)
    for addr, size in iov:
        if skip >= size:
            skip -= size
            continue
        piece = view[: size - skip]
        write_memory(tid, addr + skip, piece)
        view = view[len(piece) :]
        skip = 0
        if not view:
            break


def total(iov: Iov) -> wide:
    """Bytes of all buffers."""
    found: wide = 0
    for _, size in iov:
        found += size
    return found


def parse_control(data: bytes) -> list[tuple[int, int, bytes]]:
    """Control messages: (level, type, data). Raises: OSError EINVAL."""
    found = []
    at = 0
    while at + CMSGHDR.size <= len(data):
        size, level, kind = CMSGHDR.unpack_from(data, at)
        if size < CMSGHDR.size or at + size > len(data):
            raise os_error(errno.EINVAL, f"a control message of {size} bytes")
        found.append((level, kind, data[at + CMSGHDR.size : at + size]))
        at += size + 7 & ~7
    return found


def build_control(messages: list[Any] | None, room: int) -> tuple[bytes, int]:
    """put_cmsg: the bytes that fit into `room`, and MSG_CTRUNC or 0."""
    out = b""
    for level, kind, data in messages or ():
        left = room - len(out)
        if left < CMSGHDR.size:
            return out, MSG_CTRUNC
        size = CMSGHDR.size + len(data)
        cut = min(size, left)
        piece = CMSGHDR.pack(cut, level, kind) + data[: cut - CMSGHDR.size]
        if cut < size:
            return out + piece, MSG_CTRUNC
        out += piece.ljust(min(size + 7 & ~7, left), b"\0")
    return out, 0
