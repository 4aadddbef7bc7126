"""Packets in reassembly, of either family (net/ipv4/inet_fragment.c).

ip_defrag and ipv6_frag_rcv find the packet's inet_frag_queue in the family's table (fqdir), then
ip_frag_queue and ip6_frag_queue call

    inet_frag_put                add a fragment
      inet_frag_end              where the packet ends, when this is its last fragment
      inet_frag_queue_insert     insert it
    inet_frag_reasm              when complete: join all to one sk_buff
    inet_frag_expire             from the queue's timer: give up

Overlapping fragments discard the whole packet (RFC 5722); exact repeats are dropped alone.
Memory is bounded by the family's high_thresh, time by its timer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from fastpath.base.skbuff import (
    CHECKSUM_NONE,
    alloc_skb,
    kfree_skb,
    pskb_trim,
    sk_buff,
    skb_add_data,
    skb_copy_bits,
    skb_network_offset,
    skb_pull,
    skb_put_data,
    skb_reset_network_header,
    skb_reset_transport_header,
    skb_try_coalesce,
    skb_unclone,
)
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.inet_ecn import INET_ECN_CE, INET_ECN_NOT_ECT
from stack.core.netdevice import net_device
from stack.core.rows import row, state, wide
from stack.core.snmp import ipstats6_mib, ipstats_mib
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import mod_timer, timer_delete, timer_list
from stack.inet.do_fragment import ip_copy_metadata
from stack.net import Net

COMPACT_ABOVE = 500  # fragments; an sk_buff holds 1100 pieces
LL_ROOM = 64

INET_FRAG_FIRST_IN = 1
INET_FRAG_LAST_IN = 2
INET_FRAG_COMPLETE = 4

IPFRAG_OK = 0
IPFRAG_DUP = 1
IPFRAG_OVERLAP = 2
IPFRAG_INVALID = 3

IP_MAX_LEN = 65535
"""The largest value of the length field of either header."""

FragKey = tuple[int, wide, wide, int, int]

Q = TypeVar("Q", bound="inet_frag_queue")


@state
class inet_frag_queue:
    """struct inet_frag_queue: one packet being put together. Offsets in bytes of payload."""

    net: Net
    fqdir: fqdir[Any]
    key: FragKey
    expire: Callable[[timer_list], None]
    offsets: list[int] = row(make=list)
    """Sorted, in step with ends and skbs."""
    ends: list[int] = row(make=list)
    skbs: list[sk_buff] = row(make=list)
    flags: int = row(0)
    len: int = row(0)
    meat: int = row(0)
    mem: int = row(0)
    ecn: int = row(0)
    max_size: int = row(0)
    dev: net_device | None = row()
    timer: timer_list = row(of=lambda qp: timer_list(qp.net.machine, qp.expire, data=qp))

    @property
    def complete(self) -> bool:
        """Whether all fragments were received."""
        both = INET_FRAG_FIRST_IN | INET_FRAG_LAST_IN
        return self.flags & both == both and self.meat == self.len


class fqdir(Generic[Q]):
    """struct fqdir: the packets of a family that wait for fragments.

    `mem`: bytes of packet memory that they hold; `mib`: the family's counters.
    """

    __slots__ = ("mem", "mib", "queues")

    def __init__(self, mib: ipstats_mib | ipstats6_mib) -> None:
        self.queues: dict[FragKey, Q] = {}
        self.mem = 0
        self.mib = mib


def inet_frag_full(fq: fqdir[Any], high_thresh: int) -> bool:
    """inet_frag_find's first question: no more fragments, above the limit or if it is 0."""
    return not high_thresh or fq.mem > high_thresh


def inet_frag_start(qp: inet_frag_queue, time_s: int) -> None:
    """net/ipv4/inet_fragment.c inet_frag_create: insert a new queue and start its timer."""
    qp.fqdir.queues[qp.key] = qp
    mod_timer(qp.timer, qp.net.now() + time_s * NSEC_PER_SEC)


def inet_frag_kill(qp: inet_frag_queue) -> None:
    """net/ipv4/inet_fragment.c: stop the timer and remove the queue; it takes no more fragments."""
    if qp.flags & INET_FRAG_COMPLETE:
        return
    qp.flags |= INET_FRAG_COMPLETE
    timer_delete(qp.timer)
    queues = qp.fqdir.queues
    if queues.get(qp.key) is qp:
        del queues[qp.key]


def inet_frag_purge(qp: inet_frag_queue, reason: int) -> None:
    """net/ipv4/inet_fragment.c: free the fragments that were collected."""
    for skb in qp.skbs:
        kfree_skb_reason(qp.net, skb, reason)
    qp.skbs.clear()
    qp.offsets.clear()
    qp.ends.clear()
    qp.fqdir.mem -= qp.mem
    qp.mem = 0


def inet_frag_discard(qp: inet_frag_queue, skb: sk_buff, reason: int) -> None:
    """Discard the whole packet and the fragment `skb`."""
    inet_frag_kill(qp)
    inet_frag_purge(qp, reason)
    qp.fqdir.mib.ReasmFails += 1
    kfree_skb_reason(qp.net, skb, reason)


def inet_frag_expire(qp: inet_frag_queue) -> sk_buff | None:
    """On timeout: remove the queue from the table. Returns the first fragment, if received.

    An ICMP error reports it; inet_frag_purge must follow.
    """
    inet_frag_kill(qp)
    mib = qp.fqdir.mib
    mib.ReasmFails += 1
    mib.ReasmTimeout += 1
    if not qp.flags & INET_FRAG_FIRST_IN:
        return None
    head = qp.skbs[0]
    head.dev = qp.dev
    return head


def inet_frag_put(
    qp: inet_frag_queue, skb: sk_buff, offset: int, end: int, more: bool, ecn: int
) -> int:
    """net/ipv4/ip_fragment.c, net/ipv6/reassembly.c: put a fragment into its place.

    Data at its payload; `ecn`: its codepoint. Returns IPFRAG_OK, or why the fragment was dropped.
    Takes ownership of skb.
    """
    hlen = -skb_network_offset(skb)
    if not inet_frag_end(qp, end, more) or end <= offset:
        inet_frag_discard(qp, skb, drop_reason.SKB_DROP_REASON_IP_INHDR)
        return IPFRAG_INVALID
    pskb_trim(skb, end - offset)
    verdict = inet_frag_queue_insert(qp, skb, offset, end)
    if verdict == IPFRAG_DUP:
        kfree_skb_reason(qp.net, skb, drop_reason.SKB_DROP_REASON_DUP_FRAG)
    elif verdict == IPFRAG_OVERLAP:
        inet_frag_discard(qp, skb, drop_reason.SKB_DROP_REASON_FRAG_OVERLAP)
    if verdict != IPFRAG_OK:
        return verdict
    qp.dev = skb.dev
    qp.meat += skb.len
    qp.ecn |= 1 << ecn
    qp.mem += skb.truesize
    qp.fqdir.mem += skb.truesize
    qp.max_size = max(qp.max_size, hlen + skb.len)
    if not offset:
        qp.flags |= INET_FRAG_FIRST_IN
    return IPFRAG_OK


def inet_frag_end(qp: inet_frag_queue, end: int, more: bool) -> bool:
    """Note the end of a fragment; False: invalid.

    The end of the last fragment must not move, and no fragment may end behind it.
    """
    if not more:
        if end < qp.len or (qp.flags & INET_FRAG_LAST_IN and end != qp.len):
            return False
        qp.flags |= INET_FRAG_LAST_IN
        qp.len = end
    elif end > qp.len:
        if qp.flags & INET_FRAG_LAST_IN:
            return False
        qp.len = end
    return True


def inet_frag_queue_insert(qp: inet_frag_queue, skb: sk_buff, offset: int, end: int) -> int:
    """net/ipv4/inet_fragment.c: keep the fragments sorted; find repeats and overlaps."""
    offsets, ends = qp.offsets, qp.ends
    if not ends or offset >= ends[-1]:
        offsets.append(offset)
        ends.append(end)
        qp.skbs.append(skb)
        return IPFRAG_OK
    at = bisect_left(offsets, offset)
    clash_before = at > 0 and ends[at - 1] > offset
    clash_after = at < len(offsets) and offsets[at] < end
    if not clash_before and not clash_after:
        offsets.insert(at, offset)
        ends.insert(at, end)
        qp.skbs.insert(at, skb)
        return IPFRAG_OK
    # A repeat must lie within a run of adjacent fragments; otherwise it is an overlap.
    first = at - 1 if clash_before else at
    if offsets[first] > offset:
        return IPFRAG_OVERLAP
    reach = ends[first]
    i = first + 1
    while reach < end and i < len(offsets) and offsets[i] == reach:
        reach = ends[i]
        i += 1
    return IPFRAG_DUP if reach >= end else IPFRAG_OVERLAP


def ip_frag_ecn(ecn: int) -> int:
    """net/ipv4/inet_fragment.c ip_frag_ecn_table (RFC 3168 5.3): bits to OR into TOS, 255 = drop.

    `ecn` has bit n set when a fragment carried codepoint n.
    """
    if ecn & 1 << INET_ECN_NOT_ECT:
        return 0 if ecn == 1 << INET_ECN_NOT_ECT else 255
    return INET_ECN_CE if ecn & 1 << INET_ECN_CE else 0


def inet_frag_reasm(qp: inet_frag_queue, last: sk_buff, length: int, hlen: int) -> sk_buff | None:
    """net/ipv4/ip_fragment.c, net/ipv6/reassembly.c: make one packet; None when it is dropped.

    `length`: what its header's length field will say; `hlen` as for inet_frag_reasm_join. Data of
    the packet at its payload; its route is that of `last`, the fragment that came last.
    """
    mib = qp.fqdir.mib
    inet_frag_kill(qp)
    dst, dev = last.dst, qp.dev
    if length > IP_MAX_LEN or ip_frag_ecn(qp.ecn) == 255:
        inet_frag_purge(qp, drop_reason.SKB_DROP_REASON_PKT_TOO_BIG)
        mib.ReasmFails += 1
        return None
    whole = inet_frag_reasm_join(qp, hlen)
    if whole is None:
        mib.ReasmFails += 1
        return None
    whole.ip_summed = CHECKSUM_NONE
    whole.dev = dev
    whole.dst = dst
    mib.ReasmOKs += 1
    return whole


def inet_frag_reasm_join(qp: inet_frag_queue, hlen: int) -> sk_buff | None:
    """net/ipv4/inet_fragment.c inet_frag_reasm_finish: join the fragments; None without memory.

    Their buffers are moved to the packet, and copied together when they are too many for one
    sk_buff. The packet keeps the `hlen` bytes before the first fragment's data.
    """
    net = qp.net
    head, rest = qp.skbs[0], qp.skbs[1:]
    head.tstamp_ns = max([skb.tstamp_ns for skb in qp.skbs])  # the whole came with the last
    qp.fqdir.mem -= qp.mem
    qp.mem = 0
    qp.skbs = []
    if len(rest) <= COMPACT_ABOVE and skb_unclone(head):
        while rest and skb_try_coalesce(head, rest[0]):
            del rest[0]
        if not rest:
            return head
    whole = alloc_skb(net.skb_small, hlen, LL_ROOM)
    if whole is not None:
        skb_put_data(whole, skb_copy_bits(head, -hlen, hlen))
        skb_reset_network_header(whole)
        skb_pull(whole, hlen)
        skb_reset_transport_header(whole)
        ip_copy_metadata(whole, head)
        whole.tstamp_ns = head.tstamp_ns
        whole.cb = head.cb
    for skb in (head, *rest):
        data = skb_copy_bits(skb, 0, skb.len)
        if whole is not None and skb_add_data(whole, net.skb_pages, data, 0, len(data)) < len(data):
            kfree_skb_reason(net, whole, drop_reason.SKB_DROP_REASON_NOMEM)
            whole = None
        kfree_skb(skb)
    return whole


def fqdir_exit(fq: fqdir[Any], reason: int) -> None:
    """net/ipv4/inet_fragment.c: the namespace ends: free all packets in reassembly."""
    for qp in list(fq.queues.values()):
        inet_frag_kill(qp)
        inet_frag_purge(qp, reason)
