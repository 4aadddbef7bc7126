"""User data of one call: struct msghdr and its iterator (lib/iov_iter.c, linux/socket.h).

Most calls bring one buffer, so a msghdr is its own iterator: `buf`, `off`, `count` describe the
current piece and `more` the following ones. Buffers are anything with the buffer protocol and one
byte per item; for receiving they must be writable. A `UserBuffer` is memory of another process, and
an unmapped address gives EFAULT.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

from fastpath.base.seccomp import UserBuffer, read_memory, write_memory
from fastpath.base.skbuff import (
    SkbPool,
    kfree_skb,
    pskb_trim,
    sk_buff,
    skb_add_data,
    skb_append_linear,
)
from fastpath.base.skbuff import skb_copy_datagram_iter as _copy_datagram
from fastpath.net.zerocopy import ubuf_info
from stack.core.errors import os_error
from stack.core.rows import row, state
from stack.core.sockaddr import sockaddr
from stack.core.uapi import MSG_TRUNC, SOL_SOCKET

UIO_MAXIOV = 1024
MALFORMED = (SOL_SOCKET, -1, b"")
"""Replaces a malformed control message; every protocol rejects it with EINVAL."""
ZEROCOPY_FRAGS = 17
"""MAX_SKB_FRAGS of a Linux with pages of 4 KiB."""


def as_buffer(data: Any) -> Any:
    """`data` as a buffer of single bytes. Raises TypeError when it is none."""
    kind = type(data)
    if kind is bytes or kind is bytearray or kind is UserBuffer:
        return data
    view = data if kind is memoryview else memoryview(data)
    return view if view.itemsize == 1 and view.ndim == 1 else view.cast("B")


def bytes_at(buf: Any, off: int, n: int) -> bytes:
    """Bytes of a buffer. Raises: OSError EFAULT."""
    if type(buf) is UserBuffer:
        return bytes(read_memory(buf.tid, buf.addr + off, n))
    return bytes(memoryview(buf)[off : off + n])


def put_at(buf: Any, off: int, data: bytes) -> None:
    """Write bytes of a buffer. Raises: OSError EFAULT."""
    if type(buf) is UserBuffer:
        write_memory(buf.tid, buf.addr + off, data)
    else:
        memoryview(buf)[off : off + len(data)] = data


@state
class iov_iter:
    """struct iov_iter: `count` bytes still to go, the next one at `buf[off]`."""

    buf: Any = row()
    off: int = row(0)
    count: int = row(0)
    more: list[Any] | None = row()
    msg_ubuf: ubuf_info | None = row()
    """Set for MSG_ZEROCOPY: fragments point into the caller's buffers."""

    def __init__(self, bufs: Iterable[Any] = ()) -> None:
        self.set_bufs(bufs)

    def set_bufs(self, bufs: Iterable[Any]) -> None:
        """Start over with these buffers."""
        pieces = [p for p in map(as_buffer, bufs) if len(p)]
        self.buf = pieces[0] if pieces else bytearray()
        self.more = pieces[1:] or None
        self.off = 0
        self.count = sum(len(p) for p in pieces)

    def advance(self, n: int) -> None:
        """lib/iov_iter.c iov_iter_advance: skip `n` bytes (at most `count`)."""
        self.count -= n
        self.off += n
        while self.more is not None and self.off >= len(self.buf):
            self.off -= len(self.buf)
            self.buf = self.more[0]
            self.more = self.more[1:] or None

    def contiguous(self) -> int:
        """Bytes left in the buffer at hand."""
        if self.more is None:
            return self.count
        return len(self.buf) - self.off

    def take(self, n: int) -> bytes:
        """The next `n` bytes as an object of their own (headers; not for payload).

        Raises: OSError EFAULT.
        """
        out = b""
        while len(out) < n and self.count:
            piece = min(n - len(out), self.contiguous())
            if not piece:
                break
            out += bytes_at(self.buf, self.off, piece)
            self.advance(piece)
        return out

    def put(self, data: bytes) -> int:
        """Copy `data` into the user's buffers; bytes that fitted. Raises: OSError EFAULT."""
        done = 0
        while done < len(data) and self.count:
            piece = min(len(data) - done, self.contiguous())
            if not piece:
                break
            put_at(self.buf, self.off, data[done : done + piece])
            self.advance(piece)
            done += piece
        return done


@state
class msghdr(iov_iter):
    """struct msghdr. `msg_name` = the peer or None; it is its own msg_iter.

    `msg_control`: on sending [(level, type, bytes or value)], on receiving the list to fill, or
    None when the caller wants none. `msg_iocb_nowait` is MSG_DONTWAIT of a non-blocking file.
    """

    msg_name: sockaddr | None = row()
    msg_control: list[Any] | None = row()
    msg_controllen: int = row(65536)
    msg_flags: int = row(0)
    msg_noname: bool = row(False)
    """The receiver wants no address (the kernel's NULL `msg_name`), so UDP does not make one."""

    def __init__(
        self,
        msg_name: sockaddr | None = None,
        msg_iov: Any = (),
        msg_control: list[Any] | None = None,
        msg_flags: int = 0,
    ) -> None:
        msghdr_init(self, msg_name, msg_iov, msg_control, msg_flags)


def msghdr_init(
    msg: msghdr, name: sockaddr | None, iov: Any, control: list[Any] | None, flags: int
) -> None:
    """Start over with these buffers: one, or a list or tuple of them."""
    msg.msg_name = name
    msg.msg_ubuf = None
    msg.msg_control = control
    msg.msg_controllen = 1 << 16
    msg.msg_flags = flags
    msg.msg_noname = False
    kind = type(iov)
    if kind is list or kind is tuple:
        if len(iov) > UIO_MAXIOV:
            raise os_error(errno.EMSGSIZE, f"{len(iov)} buffers; {UIO_MAXIOV} at most")
        msg.set_bufs(iov)
        return
    import_ubuf(msg, iov)


def import_ubuf(i: iov_iter, data: Any) -> None:
    """lib/iov_iter.c: start over with one buffer."""
    kind = type(data)
    view = data if kind is bytes or kind is bytearray else as_buffer(data)
    i.buf = view
    i.off = 0
    i.count = len(view)
    i.more = None


def copy_to_skb(frm: iov_iter, skb: sk_buff, n: int) -> int:
    """Append `n` bytes to the linear tail of `skb`; bytes copied. Raises: OSError EFAULT."""
    return put_to_skb(frm, skb, None, n)


def add_to_skb(frm: iov_iter, skb: sk_buff, pages: SkbPool, n: int) -> int:
    """Append `n` bytes to `skb` as page fragments; how many found room. Raises: OSError EFAULT."""
    if frm.msg_ubuf is not None:
        return zerocopy_to_skb(frm, skb, frm.msg_ubuf, n)
    return put_to_skb(frm, skb, pages, n)


def put_to_skb(frm: iov_iter, skb: sk_buff, pages: SkbPool | None, n: int) -> int:
    """Copy `n` bytes into fragments of `pages`, without them to the linear tail; bytes copied."""
    single = frm.more is None
    old, truesize = skb.len, skb.truesize
    total = 0
    while total < n:
        piece = n - total if single else min(n - total, frm.contiguous())
        try:
            if pages is None:
                done = skb_append_linear(skb, frm.buf, frm.off, piece)
            else:
                done = skb_add_data(skb, pages, frm.buf, frm.off, piece)
        except OSError:  # the pieces before it are not taken either
            pskb_trim(skb, old)
            skb.truesize = truesize
            raise
        if single:  # `advance` without a call
            frm.off += done
            frm.count -= done
        else:
            frm.advance(done)
        total += done
        if done < piece or not piece:
            break
    return total


def zerocopy_to_skb(frm: iov_iter, skb: sk_buff, uarg: ubuf_info, n: int) -> int:
    """Append `n` bytes to `skb` without a copy, for `uarg`; bytes that found room.

    Each of the user's buffers is a fragment, and an sk_buff takes ZEROCOPY_FRAGS of them.
    """
    total = 0
    while total < n and skb.nr_frags < ZEROCOPY_FRAGS:
        done = uarg.add(skb, frm.buf, frm.off, min(n - total, frm.contiguous()))
        frm.advance(done)
        total += done
        if not done:
            break
    return total


def skb_copy_datagram_iter(skb: sk_buff, offset: int, to: iov_iter, n: int) -> int:
    """net/core/datagram.c: copy `n` bytes from `offset` of skb to the user. Returns what fitted.

    Raises: OSError EFAULT.
    """
    if to.more is None:
        done = _copy_datagram(skb, offset, to.buf, to.off, n if n < to.count else to.count)
        to.off += done
        to.count -= done
        return done
    total = 0
    while total < n and to.count:
        piece = min(n - total, to.contiguous())
        if not piece:
            break
        done = _copy_datagram(skb, offset + total, to.buf, to.off, piece)
        to.advance(done)
        total += done
        if done < piece:
            break
    return total


def skb_read_datagram(skb: sk_buff, msg: msghdr, length: int, off: int = 0) -> int:
    """Copy at most `length` bytes of a dequeued packet to the reader, from `off` on: how many.

    Sets MSG_TRUNC when that is not all. When it cannot be written, the packet is freed.
    Raises: OSError EFAULT.
    """
    copied = skb.len - off
    if length <= copied:
        copied = length
        if length < skb.len:
            msg.msg_flags |= MSG_TRUNC
    try:
        if copied:
            skb_copy_datagram_iter(skb, off, msg, copied)
    except (OSError, ValueError, BufferError, TypeError) as exc:
        kfree_skb(skb)
        raise os_error(errno.EFAULT, f"cannot write to the caller's buffer: {exc}") from exc
    return copied
