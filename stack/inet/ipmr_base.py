"""Multicast routing of both families: interfaces, routes, and packets that wait for a route.

net/ipv4/ipmr_base.c, ipmr.c, net/ipv6/ip6mr.c. A daemon (of PIM, DVMRP ...) sets the routes. The
stack forwards packets, and reports those without a route to the daemon.

    a packet to a group => mr_input         (ip_mr_input, ip6_mr_input)
        mr_mfc_find, mr_mfc_find_any        the route (S,G), else (*,G)
        mr_forward                          out of each interface whose threshold the TTL exceeds
            mr_assert                       it was received on another interface than the route's
        mr_cache_unresolved                 no route: keep it, ask the daemon (report NOCACHE)
    mr_mfc_add -> mr_cache_resolve          the daemon's answer: send waiting packets
    mr_expire_process                       no answer in 10 s: drop it

State: an `mr_table` of each family and namespace, created on first use. Without one, packets to
groups cost one more test. Addresses are ints. `mr_table_ops` has the families' own functions. Read
mr_forward first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from fastpath.base.skbuff import (
    PACKET_LOOPBACK,
    alloc_skb,
    consume_skb,
    kfree_skb,
    sk_buff,
    skb_clone,
    skb_pull,
    skb_put_data,
    skb_reset_network_header,
    skb_set_transport_header,
)
from stack.core import drop_reason
from stack.core.dev import free_netdev, unregister_netdevice
from stack.core.drop_reason import kfree_skb_reason
from stack.core.errors import os_error
from stack.core.netdevice import NETREG_REGISTERED, net_device
from stack.core.rows import row, state, wide
from stack.core.sock import sock, sock_queue_rcv_skb_reason
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list
from stack.core.uapi import RTM_DELROUTE, RTM_NEWCACHEREPORT, RTM_NEWROUTE
from stack.net import Net

RTNL_FAMILY_IPMR, RTNL_FAMILY_IP6MR = 128, 129
ARPHRD_PIMREG = 779
MAXVIFS = 32
MFC_ASSERT_THRESH = 3_000_000_000
"""Minimum time between two reports of a wrong interface of one route, ns."""
UNRESOLVED_NS = 10_000_000_000
UNRESOLVED_PACKETS = 4
"""Most packets that wait for one route."""
NEVER = 255
"""The threshold of an interface that a route does not use."""
IGMPMSG_NOCACHE, IGMPMSG_WRONGVIF, IGMPMSG_WHOLEPKT, IGMPMSG_WRVIFWHOLE = 1, 2, 3, 4
VIFF_TUNNEL, VIFF_REGISTER, VIFF_USE_IFINDEX, VIFF_STATIC = 0x1, 0x4, 0x8, 0x8000
MFC_STATIC = 1 << 0
MRT_FLUSH_MFC, MRT_FLUSH_MFC_STATIC, MRT_FLUSH_VIFS, MRT_FLUSH_VIFS_STATIC = 1, 2, 4, 8


@state
class vif_device:
    """include/linux/mroute_base.h: an interface of the table; `dev` None: unused."""

    dev: net_device | None = row()
    bytes_in: int = row(0)
    bytes_out: int = row(0)
    pkt_in: int = row(0)
    pkt_out: int = row(0)
    flags: int = row(0)
    """VIFF_*."""
    local: wide = row(0)
    remote: wide = row(0)


@state
class mr_mfc:
    """include/linux/mroute_base.h: a route, or (`mfc_parent` -1) an unresolved one."""

    origin: wide
    """The sender; 0: any."""
    group: wide
    mfc_parent: int
    """The interface that receives the packets."""
    ttls: list[int] = row(make=list)
    """The thresholds of the interfaces; NEVER: not this one."""
    minvif: int = row(MAXVIFS)
    maxvif: int = row(0)
    """Only interfaces from `minvif` to before `maxvif` have thresholds."""
    mfc_flags: int = row(0)
    bytes: int = row(0)
    pkt: int = row(0)
    wrong_if: int = row(0)
    lastuse: int = row(0)
    last_assert: int = row(-MFC_ASSERT_THRESH)
    expires: int = row(0)
    unresolved: list[sk_buff] = row(make=list)


@state
class mr_table_ops:
    """The families' own functions and values."""

    family: int
    """RTNL_FAMILY_IPMR or RTNL_FAMILY_IP6MR."""
    protocol: int
    """Of the daemon's raw socket: IPPROTO_IGMP or IPPROTO_ICMPV6."""
    table: int
    """The number of the only table."""
    netns: Callable[[Net], Any]
    """netns_ipv4 or netns_ipv6: `mrt` is the table, None: not used yet."""
    daemon: Callable[[mr_table, Any, int], None]
    """A socket becomes the daemon's (1), or no longer is (-1)."""
    queue_xmit: Callable[[mr_table, int, sk_buff], None]
    """Send a packet over an interface. Takes ownership."""
    report: Callable[[mr_table, sk_buff, int, int], int]
    """Report a packet, an interface and IGMPMSG_* to the daemon: 0 or -errno. Borrows skb."""
    ttl: Callable[[sk_buff], int]
    vif_changed: Callable[[net_device, int], None]
    """An interface is added to the table (1) or removed (-1)."""
    input: Callable[[sk_buff], int]
    """The input function of a route to a group."""
    own_may_differ: bool
    """This host's own packet may be looped back on another interface than its route's."""
    reg_name: str
    """The name of the register interface."""


@state
class mr_table:
    """include/linux/mroute_base.h."""

    net: Net
    id: int
    ops: mr_table_ops
    mroute_sk: Any = row()
    """The daemon's socket; None: there is no daemon, so nothing is forwarded."""
    vif_table: list[vif_device] = row(make=list)
    maxvif: int = row(0)
    mfc_hash: dict[tuple[wide, wide], list[mr_mfc]] = row(make=dict)
    """Routes by sender and group. Several (*,*) routes differ in their parents."""
    mfc_unres_queue: dict[tuple[wide, wide], mr_mfc] = row(make=dict)
    """Unresolved routes, the oldest first; dumps show them in reverse order."""
    expire_timer: timer_list = row()
    mroute_do_assert: int = row(0)
    mroute_do_pim: bool = row(False)
    mroute_do_wrvifwhole: bool = row(False)
    mroute_reg_vif_num: int = row(-1)
    """The register interface of PIM (pimreg.py), -1: there is none."""


def mr_table_alloc(net: Net, ident: int, ops: mr_table_ops) -> mr_table:
    """net/ipv4/ipmr_base.c."""
    mrt = mr_table(net, ident, ops)
    mrt.vif_table = [vif_device() for _ in range(MAXVIFS)]
    mrt.expire_timer = timer_list(net.machine, mr_expire_process, TIMER_DEFERRABLE, mrt)
    return mrt


def mr_find_vif(mrt: mr_table, dev: net_device) -> int:
    """net/ipv4/ipmr.c ipmr_find_vif: the number of an interface, -1: it has none."""
    vif: vif_device
    at = mrt.maxvif - 1
    while at >= 0:
        vif = mrt.vif_table[at]
        if vif.dev is dev:
            break
        at -= 1
    return at


def mr_routes(mrt: mr_table, dev: net_device) -> bool:
    """include/linux/inetdevice.h IN_DEV_MFORWARD: whether packets to groups are routed at `dev`."""
    return mrt.mroute_sk is not None and mr_find_vif(mrt, dev) >= 0


# --- routes ---------------------------------------------------------------------------------------


def mr_mfc_find_parent(mrt: mr_table, origin: wide, group: wide, parent: int) -> mr_mfc | None:
    """net/ipv4/ipmr_base.c: find a route; `parent` -1: with any interface."""
    for c in mrt.mfc_hash.get((origin, group), ()):
        if parent in (-1, c.mfc_parent):
            return c
    return None


def mr_mfc_find_any_parent(mrt: mr_table, vifi: int) -> mr_mfc | None:
    """net/ipv4/ipmr_base.c: find a (*,*) route that uses an interface."""
    for c in mrt.mfc_hash.get((0, 0), ()):
        if c.ttls[vifi] < NEVER:
            return c
    return None


def mr_mfc_find_any(mrt: mr_table, vifi: int, group: wide) -> mr_mfc | None:
    """net/ipv4/ipmr_base.c: find a (*,G) or (*,*) route for packets received on `vifi`."""
    for c in mrt.mfc_hash.get((0, group), ()):
        if c.ttls[vifi] < NEVER:
            return c
        proxy = mr_mfc_find_any_parent(mrt, c.mfc_parent) if c.mfc_parent < MAXVIFS else None
        if proxy is not None and proxy.ttls[vifi] < NEVER:
            return c
    return mr_mfc_find_any_parent(mrt, vifi)


def mr_find(mrt: mr_table, origin: wide, group: wide, dev: net_device) -> mr_mfc | None:
    """The route of a packet received on `dev`; None: there is none yet."""
    found = mrt.mfc_hash.get((origin, group))
    if found:
        return found[0]
    vifi = mr_find_vif(mrt, dev)
    return mr_mfc_find_any(mrt, vifi, group) if vifi >= 0 else None


def mr_update_thresholds(mrt: mr_table, c: mr_mfc, ttls: bytes) -> None:
    """net/ipv4/ipmr.c ipmr_update_thresholds: of interfaces that are there, 1 to 254."""
    c.ttls = [NEVER] * MAXVIFS
    c.minvif, c.maxvif = MAXVIFS, 0
    for at in range(mrt.maxvif):
        if mrt.vif_table[at].dev is not None and 0 < ttls[at] < NEVER:
            c.ttls[at] = ttls[at]
            c.minvif = min(c.minvif, at)
            c.maxvif = at + 1
    c.lastuse = mrt.net.now()


def mr_notify(mrt: mr_table, c: mr_mfc, kind: int) -> None:
    """net/ipv4/ipmr.c mroute_netlink_event: notify listeners."""
    rtnl = mrt.net.rtnl
    if rtnl is not None:
        rtnl(kind, (mrt, c), 0)


def mr_mfc_add(
    mrt: mr_table, origin: wide, group: wide, iif: int, ttls: bytes, owner: bool, parent: int
) -> None:
    """net/ipv4/ipmr.c ipmr_mfc_add: add or replace the route of a sender and group.

    `owner`: it is the daemon's, so it is removed with the daemon. Raises: OSError ENFILE.
    """
    if iif >= MAXVIFS:
        raise os_error(errno.ENFILE, f"interface {iif}: there are {MAXVIFS}")
    c = mr_mfc_find_parent(mrt, origin, group, parent)
    if c is None:
        c = mr_mfc(origin, group, iif)
        mrt.mfc_hash.setdefault((origin, group), []).append(c)
    c.mfc_parent = iif
    mr_update_thresholds(mrt, c, ttls)
    if not owner:
        c.mfc_flags |= MFC_STATIC
    waiting = mrt.mfc_unres_queue.pop((origin, group), None)
    if not mrt.mfc_unres_queue:
        timer_delete(mrt.expire_timer)
    if waiting is not None:
        mr_cache_resolve(mrt, waiting, c)
    mr_notify(mrt, c, RTM_NEWROUTE)


def mr_cache_resolve(mrt: mr_table, waiting: mr_mfc, c: mr_mfc) -> None:
    """net/ipv4/ipmr.c ipmr_cache_resolve: forward the packets that waited for the route."""
    skbs, waiting.unresolved = waiting.unresolved, []
    for skb in skbs:
        mr_forward(mrt, skb.dev, skb, c, False)


def mr_mfc_delete(mrt: mr_table, origin: wide, group: wide, parent: int) -> None:
    """net/ipv4/ipmr.c ipmr_mfc_delete. Raises: OSError ENOENT."""
    c = mr_mfc_find_parent(mrt, origin, group, parent)
    if c is None:
        raise os_error(errno.ENOENT, "no such multicast route")
    mr_mfc_free(mrt, c)


def mr_mfc_free(mrt: mr_table, c: mr_mfc) -> None:
    """Remove a route."""
    found = mrt.mfc_hash[c.origin, c.group]
    found.remove(c)
    if not found:
        del mrt.mfc_hash[c.origin, c.group]
    mr_notify(mrt, c, RTM_DELROUTE)


def mr_unresolved(mrt: mr_table) -> list[mr_mfc]:
    """Unresolved routes, the newest first."""
    return list(reversed(mrt.mfc_unres_queue.values()))


# --- interfaces -----------------------------------------------------------------------------------


def mr_vif_add(mrt: mr_table, vifi: int, dev: net_device, flags: int, owner: bool) -> vif_device:
    """net/ipv4/ipmr.c vif_add: add an interface. Raises: OSError EADDRINUSE."""
    vif = vif_device()
    vif.dev = dev
    vif.flags = flags if owner else flags | VIFF_STATIC
    mrt.vif_table[vifi] = vif
    mrt.maxvif = max(mrt.maxvif, vifi + 1)
    mrt.ops.vif_changed(dev, 1)
    return vif


def mr_vif_delete(mrt: mr_table, vifi: int) -> None:
    """net/ipv4/ipmr.c vif_delete. Raises: OSError EADDRNOTAVAIL: no interface has this number."""
    dev = mrt.vif_table[vifi].dev if 0 <= vifi < mrt.maxvif else None
    if dev is None:
        raise os_error(errno.EADDRNOTAVAIL, f"no multicast interface {vifi}")
    registers = vifi == mrt.mroute_reg_vif_num
    if registers:
        mrt.mroute_reg_vif_num = -1
    mrt.vif_table[vifi] = vif_device()
    while mrt.maxvif and mrt.vif_table[mrt.maxvif - 1].dev is None:
        mrt.maxvif -= 1
    mrt.ops.vif_changed(dev, -1)
    if registers and dev.reg_state == NETREG_REGISTERED:
        unregister_netdevice(dev)
        free_netdev(dev)


def mr_device_gone(mrt: mr_table, dev: net_device) -> None:
    """net/ipv4/ipmr.c ipmr_device_event: an interface is unregistered."""
    for at in range(mrt.maxvif):
        if mrt.vif_table[at].dev is dev:
            mr_vif_delete(mrt, at)


def mroute_clean_tables(mrt: mr_table, flags: int) -> None:
    """net/ipv4/ipmr.c: remove what MRT_FLUSH_* selects."""
    if flags & (MRT_FLUSH_VIFS | MRT_FLUSH_VIFS_STATIC):
        for at in range(MAXVIFS):
            vif = mrt.vif_table[at]
            wanted = MRT_FLUSH_VIFS_STATIC if vif.flags & VIFF_STATIC else MRT_FLUSH_VIFS
            if vif.dev is not None and flags & wanted:
                mr_vif_delete(mrt, at)
    if flags & (MRT_FLUSH_MFC | MRT_FLUSH_MFC_STATIC):
        for c in [c for found in mrt.mfc_hash.values() for c in found]:
            wanted = MRT_FLUSH_MFC_STATIC if c.mfc_flags & MFC_STATIC else MRT_FLUSH_MFC
            if flags & wanted:
                mr_mfc_free(mrt, c)
    if flags & MRT_FLUSH_MFC:
        for c in list(mrt.mfc_unres_queue.values()):
            mr_destroy_unres(mrt, c)
        timer_delete(mrt.expire_timer)


# --- packets without a route ----------------------------------------------------------------------


def mr_cache_unresolved(mrt: mr_table, vifi: int, skb: sk_buff, origin: wide, group: wide) -> int:
    """net/ipv4/ipmr.c ipmr_cache_unresolved: keep a packet and ask the daemon for its route.

    0 or -errno. Takes ownership of skb.
    """
    key = (origin, group)
    c = mrt.mfc_unres_queue.get(key)
    if c is None:
        err = mrt.ops.report(mrt, skb, vifi, IGMPMSG_NOCACHE)
        if err < 0:
            kfree_skb_reason(mrt.net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
            return err
        c = mr_mfc(origin, group, -1)
        c.expires = mrt.net.now() + UNRESOLVED_NS
        mrt.mfc_unres_queue[key] = c
        mr_notify(mrt, c, RTM_NEWROUTE)
        if len(mrt.mfc_unres_queue) == 1:
            mod_timer(mrt.expire_timer, c.expires)
    if len(c.unresolved) >= UNRESOLVED_PACKETS:
        kfree_skb_reason(mrt.net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
        return -errno.ENOBUFS
    skb.dst = None
    c.unresolved.append(skb)
    return 0


def mr_destroy_unres(mrt: mr_table, c: mr_mfc) -> None:
    """net/ipv4/ipmr.c ipmr_destroy_unres: drop an unresolved route and its packets."""
    del mrt.mfc_unres_queue[c.origin, c.group]
    for skb in c.unresolved:
        kfree_skb(skb)
    c.unresolved.clear()
    mr_notify(mrt, c, RTM_DELROUTE)


def mr_expire_process(timer: timer_list) -> None:
    """net/ipv4/ipmr.c ipmr_expire_process."""
    mrt: mr_table = timer.data
    now = mrt.net.now()
    for c in list(mrt.mfc_unres_queue.values()):
        if c.expires <= now:
            mr_destroy_unres(mrt, c)
    if mrt.mfc_unres_queue:
        mod_timer(timer, min(c.expires for c in mrt.mfc_unres_queue.values()))


def mr_no_route(mrt: mr_table, dev: net_device, skb: sk_buff, origin: wide, group: wide) -> int:
    """In ip_mr_input, ip6_mr_input: keep or drop a packet without a route, received on `dev`.

    0 or -errno. Takes ownership of skb.
    """
    vifi = mr_find_vif(mrt, dev)
    if vifi >= 0:
        return mr_cache_unresolved(mrt, vifi, skb, origin, group)
    kfree_skb_reason(mrt.net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
    return -errno.ENODEV


@state
class mr_report:
    """A message to the daemon, as RTNLGRP_IPV4_MROUTE_R and IPV6_MROUTE_R get it."""

    mrt: mr_table
    kind: int
    """IGMPMSG_*."""
    vifi: int
    origin: wide
    group: wide
    packet: bytes
    """The data after the message's header."""


def mr_queue_report(
    mrt: mr_table, pkt: sk_buff, head: bytearray, hlen: int, told: mr_report
) -> int:
    """In ipmr_cache_report, ip6mr_cache_report: send the daemon a message. 0 or -errno.

    `hlen` bytes of `head` are an IP header that it does not read. Borrows pkt.
    """
    net: Net = mrt.net
    sk: sock | None = mrt.mroute_sk
    if sk is None:
        return -errno.EINVAL
    skb = alloc_skb(net.skb_small, len(head), 0)
    if skb is None:
        return -errno.ENOBUFS
    skb_put_data(skb, head)
    skb_reset_network_header(skb)
    skb_pull(skb, hlen)
    skb_set_transport_header(skb, 0)
    skb.dev = pkt.dev
    rtnl = net.rtnl
    if rtnl is not None:
        rtnl(RTM_NEWCACHEREPORT, told, 0)
    reason = sock_queue_rcv_skb_reason(sk, skb)
    if reason:
        kfree_skb_reason(net, skb, reason)
        return -errno.ENOMEM
    return 0


# --- forwarding -----------------------------------------------------------------------------------


def mr_assert(mrt: mr_table, skb: sk_buff, c: mr_mfc, vifi: int) -> None:
    """Report a packet on the wrong interface to the daemon, rate limited. Borrows skb."""
    now = mrt.net.now()
    if vifi < 0 or not mrt.mroute_do_assert or now <= c.last_assert + MFC_ASSERT_THRESH:
        return
    if not mrt.mroute_do_pim and c.ttls[vifi] == NEVER:
        return
    c.last_assert = now
    mrt.ops.report(mrt, skb, vifi, IGMPMSG_WRONGVIF)
    if mrt.mroute_do_wrvifwhole:
        mrt.ops.report(mrt, skb, vifi, IGMPMSG_WRVIFWHOLE)


def mr_register_xmit(mrt: mr_table, dev: net_device, skb: sk_buff) -> None:
    """net/ipv4/ipmr.c reg_vif_xmit: the daemon gets the whole packet. Takes ownership of skb."""
    dev.stats.tx_packets += 1
    dev.stats.tx_bytes += skb.len
    mrt.ops.report(mrt, skb, mrt.mroute_reg_vif_num, IGMPMSG_WHOLEPKT)
    consume_skb(skb)


def mr_queue_xmit(mrt: mr_table, vifi: int, skb: sk_buff) -> None:
    """net/ipv4/ipmr.c ipmr_queue_xmit, net/ipv6/ip6mr.c ip6mr_forward2: send over an interface.

    Takes ownership of skb.
    """
    vif: vif_device = mrt.vif_table[vifi]
    dev = vif.dev
    if vifi != mrt.mroute_reg_vif_num or dev is None:
        mrt.ops.queue_xmit(mrt, vifi, skb)
        return
    vif.pkt_out += 1
    vif.bytes_out += skb.len
    mr_register_xmit(mrt, dev, skb)


def mr_forward(mrt: mr_table, dev: net_device, skb: sk_buff, c: mr_mfc, local: bool) -> None:
    """net/ipv4/ipmr.c ip_mr_forward, net/ipv6/ip6mr.c ip6_mr_forward: send over its interfaces.

    Takes ownership of skb unless it is received here too (`local`).
    """
    net: Net = mrt.net
    vif: vif_device = mrt.vif_table[c.mfc_parent]
    vifi = mr_find_vif(mrt, dev)
    c.pkt += 1
    c.bytes += skb.len
    c.lastuse = net.now()
    proxied = False
    if not c.origin and vifi >= 0:
        proxy = mr_mfc_find_any_parent(mrt, c.mfc_parent)
        proxied = proxy is not None and proxy.ttls[vifi] < NEVER
    ttl: int = mrt.ops.ttl(skb)
    out: list[int] = []
    if not proxied and vif.dev is not dev:
        if skb.pkt_type != PACKET_LOOPBACK or not mrt.ops.own_may_differ:
            c.wrong_if += 1
            mr_assert(mrt, skb, c, vifi)
    else:
        vif.pkt_in += 1
        vif.bytes_in += skb.len
        if not c.origin and not c.group:  # (*,*): to the upstream interface
            if 0 <= vifi != c.mfc_parent and ttl > c.ttls[c.mfc_parent]:
                out.append(c.mfc_parent)
        else:
            at = c.maxvif - 1
            while at >= c.minvif:
                if (c.origin or at != vifi) and ttl > c.ttls[at]:
                    out.append(at)
                at -= 1
    last = len(out) - 1
    for i in range(last + 1):
        if i == last and not local:
            mr_queue_xmit(mrt, out[i], skb)
        else:
            clone = skb_clone(skb)
            clone.dst = skb.dst
            clone.dev = skb.dev
            mr_queue_xmit(mrt, out[i], clone)
    if not out and not local:
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
