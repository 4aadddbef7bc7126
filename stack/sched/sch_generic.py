"""net/sched/sch_generic.c: queueing disciplines above a driver; the default, pfifo_fast.

`enqueue` and `dequeue` are methods, as the kernel's function pointers are members. A discipline
may hold packets back (return None although `qlen` > 0) and arm its watchdog.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from fastpath.base.skbuff import kfree_skb, sk_buff, sk_buff_head
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.netdevice import NET_XMIT_CN, NET_XMIT_DROP, NET_XMIT_SUCCESS, net_device
from stack.core.rows import row, state

if TYPE_CHECKING:
    from stack.sched.sch_api import qdisc_watchdog

TC_PRIO_CONTROL = 7
# include/uapi/linux/pkt_sched.h, sch_generic.c: skb->priority & 15 -> band
PRIO2BAND = (1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)


@state
class gnet_stats_queue:
    """include/uapi/linux/gen_stats.h; packets and bytes sent are the device's own counters."""

    drops: int = row(0)
    requeues: int = row(0)
    overlimits: int = row(0)
    backlog: int = row(0)


@state
class Qdisc:
    """A queueing discipline of one device. Subclasses give `enqueue`, `dequeue` and `reset`."""

    kind = "none"

    dev: net_device
    limit: int = row(of=lambda qdisc: qdisc.dev.tx_queue_len)
    noqueue: bool = row(False)
    can_bypass: bool = row(False)
    """TCQ_F_CAN_BYPASS: while it is empty, packets may skip it."""
    qlen: int = row(0)
    qstats: gnet_stats_queue = row(make=gnet_stats_queue)
    running: bool = row(False)
    """__QDISC_STATE_RUNNING: qdisc_run is on the call stack."""
    plug_priority: int = row(-1)
    """While it is plugged (dev_plug), the priority of the collected packets; else -1."""
    scheduled: bool = row(False)
    """__QDISC_STATE_SCHED: on the output queue."""
    deactivated: bool = row(False)
    gso_skb: deque[sk_buff] = row(make=deque)
    """Packets that the driver refused; they are sent first."""
    watchdog: qdisc_watchdog | None = row()
    """The timer of a discipline that holds packets back (sch_api.py)."""

    def enqueue(self, skb: sk_buff) -> int:
        """Queue or drop; NET_XMIT_*. Takes ownership of skb."""
        raise TypeError(f"qdisc {self.kind} cannot enqueue")

    def dequeue(self) -> sk_buff | None:
        """The next packet that may leave now, or None."""
        raise TypeError(f"qdisc {self.kind} cannot dequeue")

    def reset(self) -> None:
        """Free everything queued."""
        while self.gso_skb:
            kfree_skb(self.gso_skb.popleft(), drop_reason.SKB_DROP_REASON_QDISC_DROP)
        if self.watchdog is not None:
            self.watchdog.cancel()
        self.qlen = 0


@state
class noop_qdisc(Qdisc):
    """The discipline of a device that is down or has no carrier: drops everything."""

    kind = "noop"

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_generic.c: noop_enqueue."""
        self.qstats.drops += 1
        kfree_skb_reason(self.dev.net, skb, drop_reason.SKB_DROP_REASON_QDISC_DROP)
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
        self.qlen = 0


pfifo_fast_enqueue = pfifo_fast_qdisc.enqueue


def qdisc_create_dflt(dev: net_device) -> Qdisc:
    """net/sched/sch_generic.c attach_one_default_qdisc: noqueue without a queue length."""
    return pfifo_fast_qdisc(dev) if dev.tx_queue_len else noqueue_qdisc(dev)
