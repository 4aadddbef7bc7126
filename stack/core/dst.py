"""include/net/dst.h, net/core/dst.c: routing decisions for packets; cached by sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastpath.base.skbuff import sk_buff
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.neigh_table import neighbour
from stack.core.netdevice import net_device
from stack.core.rows import row, state, wide
from stack.core.time64 import NSEC_PER_MSEC
from stack.net import Net

if TYPE_CHECKING:
    from stack.core.sock import sock

DST_NOXFRM = 0x0002
"""No IPsec for packets of this route."""
DST_OBSOLETE_NONE = 0
DST_OBSOLETE_FORCE_CHK = -1
DST_OBSOLETE_KILL = -2

# include/uapi/linux/rtnetlink.h: names of `dst.metrics` keys
RTAX_MTU = "mtu"
RTAX_ADVMSS = "advmss"
RTAX_CC_ALGO = "congctl"

RTAX_LOCK_MTU, RTAX_LOCK_RTO_MIN = 1 << 2, 1 << 13
RTAX_LOCK_RTT, RTAX_LOCK_RTTVAR, RTAX_LOCK_SSTHRESH, RTAX_LOCK_CWND = 1 << 4, 1 << 5, 1 << 6, 1 << 7
RTAX_LOCK_REORDERING = 1 << 9
"""Bits of the metric "lock"."""
RTAX_FEATURE_ECN = 1

RTAX_MTU_MAX = 65535 - 15
RTAX_ADVMSS_MAX = 65535 - 40
"""Larger configured metrics are cut to these maxima (net/ipv4/metrics.c)."""


@state
class dst_ops:
    """The family's operations on its dst entries (include/net/dst_ops.h)."""

    family: int
    check: Callable[[Any, int], dst_entry | None]
    mtu: Callable[[Any], int] | None = None
    default_advmss: Callable[[Any], int] | None = None
    update_pmtu: Callable[..., None] | None = None
    link_failure: Callable[[Any], None] | None = None
    confirm_neigh: Callable[[Any, wide], None] | None = None
    """(dst, daddr): an upper layer received from `daddr`, so the next hop is reachable."""


def dst_discard(skb: sk_buff) -> int:
    """net/core/dst.c: input of a dead or unset route. Takes ownership of skb."""
    kfree_skb_reason(skb.dev.net, skb, drop_reason.SKB_DROP_REASON_IP_INNOROUTES)
    return 0


def dst_discard_out(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/core/dst.c: output of a dead or unset route. Takes ownership of skb."""
    kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_OUTNOROUTES)
    return 0


@state
class dst_entry:
    """One routing decision. `input(skb)` and `output(net, sk, skb)` are the next step of a packet.

    `expires` is host time in ns, 0 = never. `metrics` holds what is set, by RTAX_* name.
    """

    dev: net_device
    """None only in a dst that no family made."""
    ops: dst_ops | None
    """The family's operations; None in a dst that no family made."""
    net: Net = row(of=lambda dst: dst.dev.net)
    """The namespace of `dev`."""
    flags: int = row(0)
    """Bits DST_*."""
    obsolete: int = row(DST_OBSOLETE_NONE)
    """DST_OBSOLETE_*: other than NONE, dst_check decides whether it still holds."""
    error: int = row(0)
    """The errno that using it gives (blackhole, prohibit ...); 0: none."""
    expires: int = row(0)
    """When learned values (MTU, redirect) expire, ns; 0: never."""
    metrics: dict[str, int] = row(make=dict)
    """Set metrics, by RTAX_* name."""
    neigh: neighbour | None = row()
    """The neighbour that this dst used last (see ip_neigh_for_gw)."""
    refcnt: int = row(0)
    """Sockets whose sk_dst_cache it is (dst_hold, dst_release)."""
    input: Callable[[sk_buff], int] = row(dst_discard)
    """The next step of a packet received."""
    output: Callable[[Net, sock | None, sk_buff], int] = row(dst_discard_out)
    """The next step of a packet to send."""


def dst_input(skb: sk_buff) -> int:
    """include/net/dst.h: call the route's input function. Takes ownership of skb."""
    dst: dst_entry = skb.dst
    return dst.input(skb)


def dst_output(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """include/net/dst.h: call the route's output function. Takes ownership of skb."""
    dst: dst_entry = skb.dst
    return dst.output(net, sk, skb)


def dst_hold(dst: dst_entry) -> None:
    """include/net/dst.h: count a socket that caches `dst`."""
    dst.refcnt += 1


def dst_release(dst: dst_entry | None) -> None:
    """net/core/dst.c: one socket fewer; the last one of a dead dst releases its neighbour.

    Memory is Python's. Packets and the routing caches hold a dst without being counted.
    """
    if dst is not None:
        dst.refcnt -= 1
        if not dst.refcnt and dst.obsolete > 0:
            dst.neigh = None


def dst_mtu(dst: dst_entry) -> int:
    """include/net/dst.h: path MTU in bytes: the family's answer, else metric or device."""
    ops = dst.ops
    if ops is not None and ops.mtu is not None:
        return ops.mtu(dst)
    mtu = dst.metrics.get(RTAX_MTU, 0)
    return mtu or (dst.dev.mtu if dst.dev is not None else 65535)


def dst_metric_locked(dst: dst_entry, lock: int) -> bool:
    """include/net/dst.h: whether the route's metric RTAX_LOCK has the bit `lock`."""
    return bool(dst.metrics) and dst.metrics.get("lock", 0) & lock != 0


def dst_metric_rtt(dst: dst_entry, name: str) -> int:
    """include/net/dst.h: a metric in ms, as ns."""
    return dst.metrics.get(name, 0) * NSEC_PER_MSEC


def dst_feature(dst: dst_entry | None, feature: int) -> bool:
    """include/net/dst.h: whether the route has the feature RTAX_FEATURE_*."""
    return dst is not None and bool(dst.metrics) and dst.metrics.get("features", 0) & feature != 0


def dst_metric_advmss(dst: dst_entry) -> int:
    """include/net/dst.h: MSS to advertise, bytes."""
    advmss = dst.metrics.get(RTAX_ADVMSS, 0)
    if not advmss and dst.ops is not None and dst.ops.default_advmss is not None:
        advmss = dst.ops.default_advmss(dst)
    return advmss


def dst_confirm_neigh(dst: dst_entry, daddr: wide) -> None:
    """include/net/dst.h: confirm that the next hop to `daddr` over `dst` is reachable."""
    ops = dst.ops
    if ops is not None and ops.confirm_neigh is not None:
        ops.confirm_neigh(dst, daddr)


def dst_check(dst: dst_entry, cookie: int) -> dst_entry | None:
    """include/net/dst.h: dst itself while it is still valid, else None (look up again)."""
    if dst.obsolete:
        ops = dst.ops
        if ops is not None:
            return ops.check(dst, cookie)
        return None if dst.obsolete > 0 else dst
    return dst


def dst_link_failure(skb: sk_buff) -> None:
    """include/net/dst.h: tell the route's ops that the next hop is unreachable; they send ICMP."""
    dst = skb.dst
    if dst is not None and dst.ops is not None and dst.ops.link_failure is not None:
        dst.ops.link_failure(skb)
