"""The structs of system calls in a program's memory (64 bits): struct msghdr, iovec, cmsghdr.

Everything here comes from the program. Lengths are bounded before use, and
addresses are only passed to process_vm_readv(2) and process_vm_writev(2).
"""

from __future__ import annotations

import errno
import struct
from typing import Any, Final

from fastpath.base.seccomp import UserBuffer, read_memory, write_memory
from stack.core.errors import os_error
from stack.core.iov import MALFORMED, UIO_MAXIOV
from stack.core.rows import narrow, wide
from stack.core.sockaddr import SOCKADDR_LL_LEN, sockaddr, sockaddr_bytes, sockaddr_ll
from stack.core.splice import MAX_RW_COUNT
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import MSG_CTRUNC

MSGHDR = struct.Struct("=QI4xQQQQi4x")
MSG_NAMELEN, MSG_CONTROLLEN = 8, 40
"""Offsets of these members; msg_flags follows the second."""
MMSGHDR_BYTES = MSGHDR.size + 8
IOVEC = struct.Struct("=QQ")
CMSGHDR = struct.Struct("=Qii")
TIMESPEC = struct.Struct("=qq")
NEVER_NS = (1 << 63) - 1
PIECE_BYTES: Final = 1 << 20
"""Maximum size read from a program at a time."""
NAME_BYTES: Final = 128

Iov = list[tuple[int, int]]


def get_name(tid: int, addr: wide, size: wide) -> bytes | None:
    """The bytes of a struct sockaddr; None for a null pointer. Raises: OSError EINVAL, EFAULT."""
    if not addr:
        return None
    room = narrow(size & 0xFFFFFFFF)
    if room > NAME_BYTES:
        raise os_error(errno.EINVAL, f"an address of {size} bytes")
    return bytes(read_memory(tid, addr, room))


def put_name(
    tid: int, addr: wide, len_addr: wide, name: sockaddr | None, sender: bool = False
) -> None:
    """net/socket.c move_addr_to_user: the struct, truncated to the room, and its full
    length. A sender's struct sockaddr_ll is complete. Raises: OSError EFAULT, EINVAL."""
    (room,) = struct.unpack("=i", read_memory(tid, len_addr, 4))
    data = b"" if name is None else sockaddr_bytes(name)
    if sender and isinstance(name, sockaddr_ll):
        data = data.ljust(SOCKADDR_LL_LEN, b"\0")
    room = min(room, len(data))
    if room < 0:
        raise os_error(errno.EINVAL, f"room for an address of {room} bytes")
    if room:
        write_memory(tid, addr, data[:room])
    write_memory(tid, len_addr, struct.pack("=i", len(data)))


def get_time(tid: int, addr: wide, unit_ns: int = 1) -> int:
    """A struct timespec, or a timeval with `unit_ns` of 1000, in ns. Raises: OSError EINVAL."""
    seconds, rest = TIMESPEC.unpack(read_memory(tid, addr, TIMESPEC.size))
    if seconds < 0 or not 0 <= rest * unit_ns < NSEC_PER_SEC:
        raise os_error(errno.EINVAL, f"a time of {seconds} s and {rest}")
    return int(min(seconds * NSEC_PER_SEC + rest * unit_ns, NEVER_NS))


def get_iov(tid: int, addr: wide, count: wide) -> Iov:
    """import_iovec: (address, bytes) of each buffer. Raises: OSError EINVAL, EMSGSIZE, EFAULT."""
    if not 0 <= count <= UIO_MAXIOV:
        raise os_error(errno.EMSGSIZE if count > 0 else errno.EINVAL, f"{count} buffers")
    rows = list(IOVEC.iter_unpack(bytes(read_memory(tid, addr, IOVEC.size * narrow(count)))))
    for _, size in rows:
        if size >> 63:
            raise os_error(errno.EINVAL, "a buffer of negative size")
    return rows


def user_buffers(tid: int, iov: Iov, skip: int = 0) -> Any:
    """The buffers from `skip` on for direct copies, in a list unless there is one only.

    At most MAX_RW_COUNT.
    """
    if len(iov) == 1:
        addr, size = iov[0]
        return UserBuffer(tid, addr + skip, narrow(min(size, MAX_RW_COUNT)) - skip)
    found = []
    left = MAX_RW_COUNT
    for addr, whole in iov:
        size = narrow(min(whole, left))
        left -= size
        if skip >= size:
            skip -= size
            continue
        found.append(UserBuffer(tid, addr + skip, size - skip))
        skip = 0
    return found


def gather(tid: int, iov: Iov, skip: int = 0) -> bytearray:
    """The bytes of the buffers from `skip` on, at most PIECE_BYTES. Raises: OSError EFAULT."""
    found = user_buffers(tid, iov, skip)
    data = bytearray()
    for part in found if type(found) is list else [found]:
        data += read_memory(tid, part.addr, min(part.size, PIECE_BYTES - len(data)))
    return data


def total(iov: Iov) -> int:
    """Bytes of all buffers, at most MAX_RW_COUNT."""
    found: wide = 0
    for _, size in iov:
        found += size
    return narrow(min(found, MAX_RW_COUNT))


def parse_control(data: bytes) -> list[tuple[int, int, bytes]]:
    """Control messages: (level, type, data). A malformed one becomes `MALFORMED`, since
    errors of other arguments may come first."""
    found: list[tuple[int, int, bytes]] = []
    at = 0
    while at + CMSGHDR.size <= len(data):
        size, level, kind = CMSGHDR.unpack_from(data, at)
        if size < CMSGHDR.size or at + size > len(data):
            return [*found, MALFORMED]
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
