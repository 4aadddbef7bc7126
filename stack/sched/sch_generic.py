"""net/sched/sch_generic.c: queueing disciplines above a driver; the default, pfifo_fast.

The kernel's Qdisc_ops are methods: `enqueue` and `dequeue` for packets, `init`, `change` and `dump`
for `tc`. A classful one is a `Qdisc_class`: its methods are Qdisc_class_ops. A discipline may hold
packets back (return None although `qlen` > 0) and arm its watchdog. Each counts its own packets and
those of its children (`qlen`, `qstats.backlog`).

Parameters are mappings by the names of Linux's structures and attributes: `limit`, `quantum` ...
(stack/netlink/tc_attrs.py has their positions in messages).
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastpath.base import skbuff
from fastpath.base.skbuff import kfree_skb, sk_buff, sk_buff_head
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.errors import os_error
from stack.core.extack import ExtAckError, netlink_ext_ack
from stack.core.netdevice import (
    IFF_NO_QUEUE,
    NET_XMIT_BYPASS,
    NET_XMIT_CN,
    NET_XMIT_DROP,
    NET_XMIT_STOLEN,
    NET_XMIT_SUCCESS,
    net_device,
)
from stack.core.rows import row, state

if TYPE_CHECKING:
    from stack.sched.cls_api import tcf_block
    from stack.sched.cls_u32 import tc_u_common
    from stack.sched.gen_estimator import net_rate_estimator
    from stack.sched.sch_api import qdisc_watchdog
    from stack.sched.sch_stab import qdisc_size_table

Options = Mapping[str, Any]
"""Parameters of a discipline or a class, by name."""

TC_H_ROOT = 0xFFFFFFFF
TC_PRIO_CONTROL = 7
# include/uapi/linux/pkt_sched.h, sch_generic.c: skb->priority & 15 -> band
PRIO2BAND = (1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)


@state
class gnet_stats_queue:
    """include/uapi/linux/gen_stats.h; `backlog`: bytes that wait."""

    drops: int = row(0)
    requeues: int = row(0)
    overlimits: int = row(0)
    backlog: int = row(0)


@state
class gnet_stats_basic_sync:
    """include/net/gen_stats.h: counts of sent packets and bytes."""

    bytes: int = row(0)
    packets: int = row(0)


def fields(what: object, *names: str) -> dict[str, Any]:
    """Some of the fields of a discipline, a class or an action as parameters of the same names."""
    return {name: getattr(what, name) for name in names}


def qdisc_pkt_len(skb: sk_buff) -> int:
    """include/net/sch_generic.h: bytes on the wire, by the size table of the root."""
    dev: net_device = skb.dev
    table = dev.qdisc.size_table
    if table is not None:
        return table.pkt_len(skb.len)
    return qdisc_pkt_len_init(skb)


def qdisc_pkt_len_init(skb: sk_buff) -> int:
    """net/core/dev.c: bytes before there is a discipline.

    Each segment of a super-packet has headers of its own.
    """
    if skb.gso_size == 0 or skb.gso_segs < 2:
        return skb.len
    headers = skb.len - skb.gso_size * (skb.gso_segs - 1)
    encapsulated = skb.gso_type & skbuff.SKB_GSO_ENCAP
    at = (skb.csum_start if encapsulated else skb.transport_header) - skb.data_offset
    if 0 < at < headers:
        tcp = skb.gso_type & (skbuff.SKB_GSO_TCPV4 | skbuff.SKB_GSO_TCPV6)
        hlen = (skbuff.skb_copy_bits(skb, at + 12, 1)[0] >> 4) * 4 if tcp else 8
        return skb.len + (skb.gso_segs - 1) * (at + hlen)
    return skb.len


@state
class Qdisc:
    """A queueing discipline of one device. Subclasses give `enqueue`, `dequeue` and `reset`."""

    kind = "none"

    dev: net_device
    handle: int = row(0)
    """Its major number in the upper half; 0: a default one without a name for `tc`."""
    parent: int = row(TC_H_ROOT)
    """The class whose packets it holds; TC_H_ROOT: the device's."""
    up: Qdisc | None = row()
    """The discipline that has the class `parent`."""
    invisible: bool = row(False)
    """TCQ_F_INVISIBLE: `tc` shows it only on request."""
    hashed: int = row(0)
    """qdisc_hash_add: its number in order of creation. 0: not listed, such as a root."""
    limit: int = row(of=lambda qdisc: qdisc.dev.tx_queue_len)
    noqueue: bool = row(False)
    can_bypass: bool = row(False)
    """TCQ_F_CAN_BYPASS: while it is empty, packets may skip it."""
    qlen: int = row(0)
    qstats: gnet_stats_queue = row(make=gnet_stats_queue)
    bstats: gnet_stats_basic_sync = row(make=gnet_stats_basic_sync)
    running: bool = row(False)
    """__QDISC_STATE_RUNNING: qdisc_run is on the call stack."""
    plug_priority: int = row(-1)
    """While it is plugged (dev_plug), the priority of the collected packets; else -1."""
    scheduled: bool = row(False)
    """__QDISC_STATE_SCHED: on the output queue."""
    deactivated: bool = row(False)
    gso_skb: deque[sk_buff] = row(make=deque)
    """Packets that the driver rejected; they are sent first."""
    watchdog: qdisc_watchdog | None = row()
    """The timer of a discipline that holds packets back (sch_api.py)."""
    block: tcf_block | None = row()
    """Its filters; None: it supports none."""
    u32_common: tc_u_common | None = row()
    """Data shared by its u32 filters."""
    rate_est: net_rate_estimator | None = row()
    """The estimator of its rate; None: nobody asked for one."""
    size_table: qdisc_size_table | None = row()
    """Size table of its packets; None: their real length."""

    def enqueue(self, skb: sk_buff) -> int:
        """Queue or drop; NET_XMIT_*. Takes ownership of skb."""
        raise TypeError(f"qdisc {self.kind} cannot enqueue")

    def dequeue(self) -> sk_buff | None:
        """The next packet that may leave now, or None."""
        raise TypeError(f"qdisc {self.kind} cannot dequeue")

    def peek(self) -> sk_buff | None:
        """include/net/sch_generic.h qdisc_peek_dequeued: the packet that dequeue would give.

        It stays part of the queue until `dequeue_peeked` removes it.
        """
        if not self.gso_skb:
            skb = self.dequeue()
            if skb is None:
                return None
            self.gso_skb.append(skb)
            self.qstats.backlog += qdisc_pkt_len(skb)
            self.qlen += 1
        return self.gso_skb[0]

    def dequeue_peeked(self) -> sk_buff | None:
        """include/net/sch_generic.h qdisc_dequeue_peeked: the peeked packet, else the next."""
        if not self.gso_skb:
            return self.dequeue()
        skb = self.gso_skb.popleft()
        self.qstats.backlog -= qdisc_pkt_len(skb)
        self.qlen -= 1
        return skb

    def reset(self) -> None:
        """Free everything queued."""
        while self.gso_skb:
            kfree_skb(self.gso_skb.popleft(), drop_reason.SKB_DROP_REASON_QDISC_DROP)
        if self.watchdog is not None:
            self.watchdog.cancel()
        self.qlen = 0
        self.qstats.backlog = 0

    # Qdisc_ops that tc calls

    def init(self, opt: Options | None) -> None:
        """Initialize with parameters; None: `tc` gave none. Raises: OSError."""
        if opt is not None:
            self.change(opt)

    def change(self, opt: Options) -> None:
        """Change parameters; those not given are kept. Raises: OSError."""
        raise ExtAckError(errno.EINVAL, "Change operation not supported by specified qdisc")

    def destroy(self) -> None:
        """Free its packets and its children, when it is no longer used."""
        self.deactivated = True
        self.reset()
        for block in self.blocks():
            block.put()
        if self.rate_est is not None:
            self.rate_est.kill()

    def dump(self) -> Options | None:
        """Its parameters as `init` takes them; None: it has none."""
        return None

    def dump_stats(self) -> Options | None:
        """Statistics of this kind, by Linux's names."""
        return None

    def block_of(self, cl: Any) -> tcf_block | None:
        """The filters of the discipline (`cl` is None) or of a class; None: it takes none."""
        return self.block if cl is None else None

    def blocks(self) -> list[tcf_block]:
        """All its filters."""
        return [self.block] if self.block is not None else []

    def update_stats(self) -> None:
        """Update `bstats` and `qstats`, in a discipline that does not count each packet."""


@state
class class_dump:
    """The attributes of a class in `tc class show`."""

    handle: int
    parent: int
    leaf: Qdisc | None
    opt: Options | None = None
    bstats: gnet_stats_basic_sync | None = None
    qstats: gnet_stats_queue | None = None
    qlen: int = 0
    app: Options | None = None
    rate_est: net_rate_estimator | None = None


@state
class Qdisc_class(Qdisc):
    """A classful discipline, whose children hold the packets: Qdisc_class_ops."""

    def find(self, classid: int) -> Any:
        """The class of that number; None: there is none."""
        raise NotImplementedError

    def walk(self) -> Sequence[Any]:
        """All classes, in the order that `tc class show` lists them."""
        raise NotImplementedError

    def leaf(self, cl: Any) -> Qdisc | None:
        """The discipline of a class; None: an inner class."""
        raise NotImplementedError

    def graft(self, cl: Any, new: Qdisc | None) -> Qdisc | None:
        """Replace it; None: by a default one. Returns the old one. Raises: OSError."""
        raise NotImplementedError

    def change_class(
        self, classid: int, parent: int, opt: Options | None, cl: Any, extack: netlink_ext_ack
    ) -> Any:
        """Make a class (`cl` is None) or change one. Returns it. Raises: OSError."""
        raise os_error(errno.EOPNOTSUPP)

    def delete_class(self, cl: Any) -> None:
        """Raises: OSError EBUSY."""
        raise os_error(errno.EOPNOTSUPP)

    def dump_class(self, cl: Any) -> class_dump:
        """Number, parent, leaf, parameters and statistics of a class."""
        raise NotImplementedError

    def qlen_notify(self, classid: int) -> None:
        """The class' discipline has lost its packets without a dequeue."""

    def leaves(self) -> list[Qdisc]:
        """The disciplines of all classes."""
        found = [self.leaf(cl) for cl in self.walk()]
        return [q for q in found if q is not None]

    def reset(self) -> None:
        super().reset()
        for q in self.leaves():
            q.reset()

    def destroy(self) -> None:
        super().destroy()
        for q in self.leaves():
            q.destroy()


def qdisc_tree_reduce_backlog(sch: Qdisc, packets: int, nbytes: int) -> None:
    """net/sched/sch_api.c: update the parents' counts when `sch` dropped queued packets."""
    while sch.up is not None:
        up = sch.up
        if not sch.qlen and isinstance(up, Qdisc_class):
            up.qlen_notify(sch.parent)
        up.qlen -= packets
        up.qstats.backlog -= nbytes
        up.qstats.drops += max(packets, 0)
        sch = up


def qdisc_purge_queue(sch: Qdisc) -> None:
    """include/net/sch_generic.h: free its packets, and update the parents' counts."""
    sch.update_stats()
    qlen, backlog = sch.qlen, sch.qstats.backlog
    sch.reset()
    qdisc_tree_reduce_backlog(sch, qlen, backlog)


def qdisc_drop(skb: sk_buff, sch: Qdisc, reason: int) -> int:
    """include/net/sch_generic.h: count and free a packet. NET_XMIT_DROP. Takes ownership of skb."""
    sch.qstats.drops += 1
    kfree_skb_reason(sch.dev.net, skb, reason)
    return NET_XMIT_DROP


def qdisc_bstats_update(sch: Qdisc, skb: sk_buff) -> None:
    """include/net/sch_generic.h: count a packet that leaves."""
    bstats_update(sch.bstats, skb)


def bstats_update(stats: gnet_stats_basic_sync, skb: sk_buff) -> None:
    """include/net/sch_generic.h: count a packet; each segment of a super-packet."""
    stats.bytes += qdisc_pkt_len(skb)
    stats.packets += skb.gso_segs if skb.gso_size else 1


def qdisc_enqueue_tail(skb: sk_buff, sch: Qdisc, q: sk_buff_head) -> int:
    """include/net/sch_generic.h: append to the discipline's list. Takes ownership of skb."""
    sch.qstats.backlog += qdisc_pkt_len(skb)
    q.queue_tail(skb)
    sch.qlen += 1
    return NET_XMIT_SUCCESS


def qdisc_dequeue_head(sch: Qdisc, q: sk_buff_head) -> sk_buff | None:
    """include/net/sch_generic.h: the first of the discipline's list, counted as sent."""
    skb = q.dequeue()
    if skb is not None:
        sch.qlen -= 1
        sch.qstats.backlog -= qdisc_pkt_len(skb)
        qdisc_bstats_update(sch, skb)
    return skb


def qdisc_take(sch: Qdisc, q: deque[tuple[sk_buff, int]]) -> tuple[sk_buff, int]:
    """The first packet of one of the discipline's queues, with its time. It is not counted yet."""
    taken = q.popleft()
    sch.qlen -= 1
    sch.qstats.backlog -= qdisc_pkt_len(taken[0])
    return taken


@state
class noop_qdisc(Qdisc):
    """The discipline of a device that is down or has no carrier: drops everything."""

    kind = "noop"

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_generic.c: noop_enqueue."""
        qdisc_drop(skb, self, drop_reason.SKB_DROP_REASON_QDISC_DROP)
        return NET_XMIT_CN

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_generic.c: noop_dequeue."""
        return None


@state
class noqueue_qdisc(Qdisc):
    """Software devices (lo, vlan): packets go straight to the driver.

    The kernel tells by `enqueue` being NULL; here it is the flag `noqueue`.
    """

    kind = "noqueue"

    noqueue: bool = row(True)


@state
class blackhole_qdisc(Qdisc):
    """net/sched/sch_blackhole.c: drops every packet silently."""

    kind = "blackhole"

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_blackhole.c: blackhole_enqueue. Takes ownership of skb."""
        qdisc_drop(skb, self, drop_reason.SKB_DROP_REASON_QDISC_DROP)
        return NET_XMIT_BYPASS

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_blackhole.c: blackhole_dequeue."""
        return None


@state
class pfifo_fast_qdisc(Qdisc):
    """net/sched/sch_generic.c: three FIFO bands by priority, `tx_queue_len` packets in all."""

    kind = "pfifo_fast"

    can_bypass: bool = row(True)
    _bands: tuple[sk_buff_head, ...] = row(
        make=lambda: (sk_buff_head(), sk_buff_head(), sk_buff_head())
    )
    _by_priority: tuple[sk_buff_head, ...] = row(
        of=lambda qdisc: tuple(qdisc._bands[band] for band in PRIO2BAND)
    )
    sent_before: tuple[int, int] = row(
        of=lambda qdisc: (qdisc.dev.stats.tx_bytes, qdisc.dev.stats.tx_packets)
    )
    """The device's counters at its start. Packets sent since then count for the discipline."""

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_generic.c: pfifo_fast_enqueue. Takes ownership of skb."""
        band: sk_buff_head
        if self.qlen >= self.limit:
            self.qstats.drops += 1
            kfree_skb_reason(self.dev.net, skb, drop_reason.SKB_DROP_REASON_QDISC_OVERLIMIT)
            return NET_XMIT_DROP
        band = self._by_priority[skb.priority & 15]
        band.queue_tail(skb)
        self.qlen += 1
        return NET_XMIT_SUCCESS

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_generic.c: pfifo_fast_dequeue: the first non-empty band, FIFO within it."""
        band: sk_buff_head
        for band in self._bands:
            if band.qlen:
                self.qlen -= 1
                return band.dequeue()
        return None

    def reset(self) -> None:
        super().reset()
        for band in self._bands:
            band.purge()

    def init(self, opt: Options | None) -> None:
        """It has no parameters. Raises: OSError EINVAL: the device's queue has no room."""
        if not self.limit:
            raise os_error(errno.EINVAL)

    def dump(self) -> Options:
        return {"bands": len(self._bands), "priomap": bytes(PRIO2BAND)}

    def update_stats(self) -> None:
        stats = self.dev.stats
        self.bstats.bytes = stats.tx_bytes - self.sent_before[0]
        self.bstats.packets = stats.tx_packets - self.sent_before[1]
        backlog = sum(qdisc_pkt_len(skb) for skb in self.gso_skb)
        self.qstats.backlog = backlog + sum(qdisc_pkt_len(skb) for q in self._bands for skb in q)


def qdisc_hash_add(q: Qdisc, invisible: bool) -> None:
    """net/sched/sch_api.c: list a discipline in `tc qdisc show`; `invisible`: only on request."""
    net = q.dev.net
    net.qdisc_hashed += 1
    q.hashed = net.qdisc_hashed
    q.invisible = invisible


def qdisc_default_leaf(sch: Qdisc, leaf: Qdisc, classid: int) -> Qdisc:
    """net/sched/sch_generic.c qdisc_create_dflt: the default discipline of a class."""
    leaf.init(None)
    leaf.up = sch
    leaf.parent = classid
    return leaf


def net_xmit_drop_count(ret: int) -> bool:
    """include/net/sch_generic.h: whether a packet that was not queued counts as dropped."""
    return not ret & NET_XMIT_STOLEN


def qdisc_child_enqueue(sch: Qdisc, child: Qdisc, skb: sk_buff) -> int:
    """Enqueue a packet in a child discipline, and count it here, too. Takes ownership of skb."""
    nbytes = qdisc_pkt_len(skb)
    ret = child.enqueue(skb)
    if ret == NET_XMIT_SUCCESS:
        sch.qlen += 1
        sch.qstats.backlog += nbytes
    elif net_xmit_drop_count(ret):
        sch.qstats.drops += 1
    return ret


def qdisc_child_sent(sch: Qdisc, skb: sk_buff) -> sk_buff:
    """Count a packet that was dequeued from a child discipline."""
    sch.qlen -= 1
    sch.qstats.backlog -= qdisc_pkt_len(skb)
    qdisc_bstats_update(sch, skb)
    return skb


def qdisc_create_dflt(dev: net_device) -> Qdisc:
    """net/sched/sch_generic.c attach_one_default_qdisc: noqueue without a queue, or a length."""
    if dev.priv_flags & IFF_NO_QUEUE or not dev.tx_queue_len:
        return noqueue_qdisc(dev)
    make = dev.machine.net_hotdata.default_qdisc
    return pfifo_fast_qdisc(dev) if make is None else make(dev)
