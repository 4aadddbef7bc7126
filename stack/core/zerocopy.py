"""Sending from the caller's memory: MSG_ZEROCOPY (net/core/skbuff.c, msg_zerocopy.rst).

Fragments point into the caller's buffer, which stays exported (a bytearray cannot be resized) until
the last packet with a piece of it is freed: sent, acknowledged or dropped. A device reads it in
place if its DMA goes through one of the machine's own tables. For other devices, local receivers
and taps the bytes are copied, and the notification says so.

A softirq releases the buffers, since packets may be freed at any point. There is no RLIMIT_MEMLOCK.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING

from fastpath.base.dma import DmaTable
from fastpath.base.skbuff import alloc_skb, consume_skb, sk_buff
from fastpath.net.zerocopy import skb_copy_ubufs, skb_zcopy, skb_zcopy_map, ubuf_info, zc_page
from stack.core.errors import os_error
from stack.core.errqueue import sock_exterr_skb
from stack.core.iov import msghdr
from stack.core.sock import sk_error_queue_of, sk_error_report, sock, sock_wfree
from stack.core.sock_flags import SOCK_DEAD
from stack.core.softirq import tasklet_schedule, tasklet_struct
from stack.core.uapi import SO_EE_CODE_ZEROCOPY_COPIED, SO_EE_ORIGIN_ZEROCOPY, SOCK_STREAM

if TYPE_CHECKING:
    from stack.machine import Machine


OPTMEM_TRUESIZE = 832
"""Option memory charged for an unread notification: SKB_TRUESIZE of Linux's empty sk_buff."""
BYTE_LIMIT = 1 << 19
USHRT_MAX = 0xFFFF
M32 = 0xFFFFFFFF
IOVA_FIRST, IOVA_STEP = 1 << 40, 1 << 12
RETRY_NS = 1000


# --- one call ------------------------------------------------------------------------------------


def sock_ofree(skb: sk_buff) -> None:
    """net/core/sock.c: destructor of what is charged to option memory."""
    if skb.sk is not None:
        skb.sk.sk_omem_alloc -= OPTMEM_TRUESIZE


def msg_zerocopy_alloc(sk: sock, size: int) -> ubuf_info:
    """net/core/skbuff.c: make the state of a call and reserve its notification.

    Raises: OSError ENOBUFS above sysctl optmem_max, or without a packet buffer.
    """
    net = sk.net
    limit = net.sysctl.optmem_max
    if sk.sk_omem_alloc + OPTMEM_TRUESIZE > limit:
        raise os_error(
            errno.ENOBUFS, f"notifications wait to be read: sysctl optmem_max is {limit}"
        )
    skb = alloc_skb(net.skb_small_head, 0, 0) or alloc_skb(net.skb_small, 0, 0)
    if skb is None:
        raise os_error(errno.ENOBUFS, "no packet buffer left on the host")
    skb.sk = sk
    skb.destructor = sock_ofree
    sk.sk_omem_alloc += OPTMEM_TRUESIZE
    machine = net.machine
    uarg = ubuf_info(sk, machine.zc_done, machine.zc_kick, sk.sk_zckey, size)
    uarg.skb = skb
    sk.sk_zckey = (sk.sk_zckey + 1) & M32
    return uarg


def msg_zerocopy_realloc(sk: sock, size: int, uarg: ubuf_info | None) -> ubuf_info:
    """net/core/skbuff.c: add the call to `uarg`, that of the last packet, or make a new one.

    Raises: OSError ENOBUFS.
    """
    if uarg is not None:
        bytelen = uarg.bytelen + size
        if uarg.len == USHRT_MAX - 1 or bytelen > BYTE_LIMIT:
            if sk.sk_type != SOCK_STREAM:
                raise os_error(errno.ENOBUFS, "too much for one datagram's notification")
        elif uarg.sk is sk and (uarg.id + uarg.len) & M32 == sk.sk_zckey:
            uarg.len += 1
            uarg.bytelen = bytelen
            sk.sk_zckey = (sk.sk_zckey + 1) & M32
            uarg.refs += 1
            return uarg
    return msg_zerocopy_alloc(sk, size)


def msg_zerocopy_start(
    sk: sock, tail: sk_buff | None, msg: msghdr, size: int, stays: bool
) -> ubuf_info:
    """Begin a call of `size` bytes, which go behind packet `tail`; `stays`: without a copy.

    `msg_zerocopy_end` must follow. Raises: OSError ENOBUFS.
    """
    last: ubuf_info | None = None
    if tail is not None:
        kept = tail.destructor
        last = kept.uarg if isinstance(kept, zcopy_wfree) else skb_zcopy(tail)
    uarg = msg_zerocopy_realloc(sk, size, last)
    if stays:
        msg.msg_ubuf = uarg
    else:
        uarg.zerocopy = False
    return uarg


class zcopy_wfree:
    """Destructor of a datagram whose bytes were copied: the call is notified when it is freed."""

    __slots__ = ("uarg",)

    def __init__(self, uarg: ubuf_info) -> None:
        """Takes a reference to `uarg`."""
        self.uarg = uarg
        uarg.refs += 1

    def __call__(self, skb: sk_buff) -> None:
        """sock_wfree, and net_zcopy_put."""
        sock_wfree(skb)
        net_zcopy_put(self.uarg)


def msg_zerocopy_end(msg: msghdr, uarg: ubuf_info, sent: bool, skb: sk_buff | None = None) -> None:
    """End a call. One that failed with nothing sent is not notified.

    `skb` is the datagram with the bytes; if they were copied, freeing it sends the notification.
    """
    if sent and skb is not None and msg.msg_ubuf is None and skb.destructor is sock_wfree:
        skb.destructor = zcopy_wfree(uarg)
    msg.msg_ubuf = None
    uarg.end_add()
    if sent:
        net_zcopy_put(uarg)
    else:
        msg_zerocopy_put_abort(uarg)


def net_zcopy_put(uarg: ubuf_info) -> None:
    """linux/skbuff.h: drop a reference of a call or page; the last one sends the notification."""
    uarg.refs -= 1
    if not uarg.refs:
        msg_zerocopy_callback(uarg)


def msg_zerocopy_put_abort(uarg: ubuf_info) -> None:
    """net/core/skbuff.c: take back a call that failed with nothing sent: no notification."""
    sk = uarg.sk
    sk.sk_zckey = (sk.sk_zckey - 1) & M32
    uarg.len -= 1
    net_zcopy_put(uarg)


def msg_zerocopy_callback(uarg: ubuf_info) -> None:
    """net/core/skbuff.c (__msg_zerocopy_callback): queue the notification, or extend the last one.

    As in Linux an extended one keeps its code.
    """
    sk: sock = uarg.sk
    skb = uarg.skb
    uarg.skb = None
    assert skb is not None
    if not uarg.len or sk.sk_flags & SOCK_DEAD:
        consume_skb(skb)
        return
    low, high = uarg.id, (uarg.id + uarg.len - 1) & M32
    queue = sk_error_queue_of(sk)
    tail = queue.peek_tail()
    last = tail.cb if tail is not None else None
    if (
        isinstance(last, sock_exterr_skb)
        and last.ee_origin == SO_EE_ORIGIN_ZEROCOPY
        and low == (last.ee_data + 1) & M32
        and ((last.ee_data - last.ee_info) & M32) + 1 + uarg.len <= M32
    ):
        last.ee_data = high
        consume_skb(skb)
    else:
        code = 0 if uarg.zerocopy else SO_EE_CODE_ZEROCOPY_COPIED
        skb.cb = sock_exterr_skb(0, SO_EE_ORIGIN_ZEROCOPY, 0, code, low, None, None, high)
        queue.queue_tail(skb)
    sk_error_report(sk)


# --- buffers that come back ----------------------------------------------------------------------


def zerocopy_init(machine: Machine) -> None:
    """The tasklet that gives buffers back."""
    machine.zc_done = []
    tasklet = tasklet_struct(partial(zerocopy_action, machine))
    machine.zc_kick = partial(tasklet_schedule, machine, tasklet)
    machine.dma_tables = []
    machine.iova = IOVA_FIRST
    machine.on_closed(partial(zerocopy_action, machine))


def zerocopy_action(machine: Machine) -> None:
    """Release the buffers of freed packets, and notify calls without any left."""
    done: list[zc_page] = machine.zc_done
    pages = done[:]
    done.clear()
    for page in pages:
        if page.mapped and not dma_unmap(machine, page.dma, page.size):
            # A device further up the call stack is using the table.
            done.append(page)
            continue
        net_zcopy_put(page.finish())
    if done and not machine.closed:
        clock = machine.clock
        clock.call_at(clock.now_ns() + RETRY_NS, machine.zc_kick)


# --- devices -------------------------------------------------------------------------------------


def dma_map(machine: Machine, memory: memoryview) -> int:
    """Map `memory` in all DMA tables of the machine; its bus address, 0 when a table is in use.

    Addresses are behind all RAM, with a gap between any two, and are not reused.
    """
    base = machine.iova
    size = len(memory)
    shown: list[DmaTable] = []
    try:
        for table in machine.dma_tables:
            table.add(base, memory, writable=False)
            shown.append(table)
    except BufferError:
        for table in shown:
            table.remove(base, size)
        return 0
    machine.iova = base + (size + 2 * IOVA_STEP - 1 & -IOVA_STEP)
    return base


def dma_unmap(machine: Machine, base: int, size: int) -> bool:
    """Undo `dma_map`; False while a device is using a table."""
    for table in machine.dma_tables:
        try:
            table.remove(base, size)
        except BufferError:
            return False
        except KeyError:  # an earlier call removed it, or the table is newer
            continue
    return True


def skb_dma_map(machine: Machine, skb: sk_buff, slot: object) -> bool:
    """Make fragments in callers' memory readable for the device at `slot`: map or copy them.

    False without memory to copy to; then the packet must be dropped.
    """
    table = getattr(slot, "dma_table", None)
    if any(table is own for own in machine.dma_tables) and skb_zcopy_map(
        skb, partial(dma_map, machine)
    ):
        return True
    return skb_copy_ubufs(skb, machine.skb_pages)
