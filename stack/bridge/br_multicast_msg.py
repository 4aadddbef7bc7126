"""net/bridge/br_multicast.c: snooping of IGMP and MLD messages: reports, leaves, queries.

    br_multicast_rcv (br_multicast_rcv.py) => br_multicast_ipv4_rcv, br_multicast_ipv6_rcv
        ip_mc_check_igmp, ipv6_mc_check_mld     is it complete and well-formed?
        br_multicast_add_group                  a report
        br_multicast_leave_group                a leave: the group is removed soon, unless reported
        br_multicast_report                     IGMPv3, MLDv2: a list of records
        br_multicast_query                      a query of another host

A malformed message is dropped with its frame. The tables that senders can fill are bounded
(`hash_max`). `p` is the receiving port, None: the host sent it.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from fastpath.base.csum import csum_ipv6_magic, csum_partial, ip_compute_csum
from stack.bridge import br_private
from stack.bridge.br_mdb import (
    RTPROT_KERNEL,
    br_mdb_notify,
    br_multicast_fast_leave,
    br_multicast_find_port,
    br_multicast_host_join,
    br_multicast_new_group,
    br_multicast_new_port_group,
)
from stack.bridge.br_multicast import (
    PROTOS,
    __br_multicast_send_query,
    br_multicast_mark_router,
    br_multicast_query_received,
)
from stack.bridge.br_private import DECISEC, mod_timer_in, net_bridge_mcast, net_bridge_port
from stack.core.netdevice import netif_running
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.timer import timer_list
from stack.core.uapi import IPPROTO_ICMPV6, IPPROTO_IGMP
from stack.inet.mc_filter import mc_time_code
from stack.ipv6.mld_messages import mldv2_mrc

IPPROTO_HOPOPTS, IPPROTO_PIM = 0, 103
PIM_HELLO = 0x20
"""The first byte of one: version 2, type 0 (RFC 7761 4.9)."""
IGMP_MRDISC_ADV, ICMPV6_MRDISC_ADV = 0x30, 151
ALLHOSTS = b"\xe0\x00\x00\x01"
ALL_PIM_ROUTERS = b"\xe0\x00\x00\x0d"
ALLSNOOPERS = b"\xe0\x00\x00\x6a"
ALLNODES = b"\xff\x02" + bytes(13) + b"\x01"
ALLSNOOPERS6 = b"\xff\x02" + bytes(13) + b"\x6a"
LINK_LOCAL_GROUPS = b"\xe0\x00\x00"
ANY4 = bytes(4)

TO_INCLUDE, MODE_IS_INCLUDE = 3, 1
RECORD_TYPES = range(1, 7)
"""MODE_IS_INCLUDE to BLOCK_OLD_SOURCES; others are passed over."""


class mc_format(NamedTuple):
    """The layout of IGMP or MLD messages. Sizes and offsets are bytes."""

    at: int
    """The family: 0 is IPv4, 1 IPv6."""
    report: tuple[int, ...]
    leave: int
    report2: int
    """The report that has records."""
    query: int
    addr: int
    """An address' size."""
    group: int
    """Where the group is in a query, report or leave; these end behind it."""
    nodes: bytes
    """The group of general queries, which is not tracked."""


IGMP = mc_format(0, (0x12, 0x16), 0x17, 0x22, 0x11, 4, 4, ALLHOSTS)
MLD = mc_format(1, (131,), 132, 143, 130, 16, 8, ALLNODES)
HEADER2 = 8
"""The size of a report with records before these."""

NO_MESSAGE = 0
MROUTERS_ONLY = 1 << 8
"""In a result: forward the packet to routers only."""


def br_multicast_ipv4_rcv(
    ctx: net_bridge_mcast, p: net_bridge_port | None, packet: bytes, length: int
) -> int:
    """net/bridge/br_multicast.c: look at a packet of `length` bytes, of IGMP and PIM at all of it.

    The type of the IGMP message (0: it is none), perhaps with MROUTERS_ONLY, or -EINVAL: drop it.
    """
    size = ip_mc_check_iphdr(packet, length)
    if size < 0:
        return size
    daddr, protocol = packet[16:20], packet[9]
    local = daddr[:3] == LINK_LOCAL_GROUPS
    data = packet[size : int.from_bytes(packet[2:4], "big")]
    if protocol != IPPROTO_IGMP or (len(data) >= 8 and not known(IGMP, data[0])):
        if protocol == IPPROTO_IGMP and ip_compute_csum(data):
            return -errno.EINVAL
        if not local:
            return MROUTERS_ONLY
        if daddr == ALL_PIM_ROUTERS and protocol == IPPROTO_PIM and data[:1] == bytes((PIM_HELLO,)):
            br_multicast_mark_router(ctx, p, IGMP.at)
        if daddr == ALLSNOOPERS and protocol == IPPROTO_IGMP and data[0] == IGMP_MRDISC_ADV:
            br_multicast_mark_router(ctx, p, IGMP.at)
        return NO_MESSAGE
    if len(data) < 8 or ip_compute_csum(data):
        return -errno.EINVAL
    return br_multicast_message(ctx, p, IGMP, packet[12:16], daddr, data)


def ip_mc_check_iphdr(packet: bytes, length: int) -> int:
    """net/ipv4/igmp.c: the length of a correct IPv4 header, or -EINVAL."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return -errno.EINVAL
    size = (packet[0] & 15) * 4
    total = int.from_bytes(packet[2:4], "big")
    if size < 20 or length < total or total < size or ip_compute_csum(packet[:size]):
        return -errno.EINVAL
    return size


def br_multicast_ipv6_rcv(
    ctx: net_bridge_mcast, p: net_bridge_port | None, packet: bytes, length: int
) -> int:
    """net/bridge/br_multicast.c: as br_multicast_ipv4_rcv; all of it if options come first."""
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return -errno.EINVAL
    end = 40 + int.from_bytes(packet[4:6], "big")
    if length < end:
        return -errno.EINVAL
    daddr = packet[24:40]
    only = 0 if daddr == ALLNODES else MROUTERS_ONLY
    if packet[6] != IPPROTO_HOPOPTS:
        return only
    if end < 48:
        return -errno.EINVAL
    data = packet[40 + (packet[41] + 1) * 8 : end]
    if packet[40] != IPPROTO_ICMPV6:
        return only
    saddr = packet[8:24]
    if len(data) < 8 or csum_ipv6_magic(
        int.from_bytes(saddr, "big"),
        int.from_bytes(daddr, "big"),
        len(data),
        IPPROTO_ICMPV6,
        csum_partial(data, 0),
    ):
        return -errno.EINVAL
    if not known(MLD, data[0]) or len(data) < 24:
        if daddr == ALLSNOOPERS6 and data[0] == ICMPV6_MRDISC_ADV:
            br_multicast_mark_router(ctx, p, MLD.at)
        return only
    if data[0] == MLD.query and (saddr[0] != 0xFE or saddr[1] & 0xC0 != 0x80):
        return -errno.EINVAL  # RFC 3810 5.1.14: a query has a link-local source
    return br_multicast_message(ctx, p, MLD, saddr, daddr, data)


def known(fmt: mc_format, kind: int) -> bool:
    """Whether a message is one of the protocol's four."""
    return kind in fmt.report or kind in (fmt.leave, fmt.report2, fmt.query)


def br_multicast_message(
    ctx: net_bridge_mcast,
    p: net_bridge_port | None,
    fmt: mc_format,
    saddr: bytes,
    daddr: bytes,
    data: bytes,
) -> int:
    """One message with a good checksum: its type, perhaps with MROUTERS_ONLY, or -errno."""
    kind = data[0]
    group = data[fmt.group : fmt.group + fmt.addr]
    if kind == fmt.query:
        base = fmt.group + fmt.addr
        if base < len(data) < base + 4 or (not any(group) and daddr != fmt.nodes):
            return -errno.EINVAL
        br_multicast_query(ctx, p, fmt, saddr, data)
        return kind
    if kind == fmt.report2:
        return br_multicast_report(ctx, p, fmt, data) or kind
    if kind == fmt.leave:
        br_multicast_leave_group(ctx, p, fmt, group)
        return kind
    return br_multicast_add_group(ctx, p, fmt, group) or kind | MROUTERS_ONLY


def usable(ctx: net_bridge_mcast, p: net_bridge_port | None) -> bool:
    """Whether messages are processed: the bridge is up, and the port not disabled."""
    if not netif_running(ctx.br.dev):
        return False
    return p is None or p.state != br_private.BR_STATE_DISABLED


def untracked(fmt: mc_format, group: bytes) -> bool:
    """Groups that are always flooded: 224.0.0.0/24 and ff02::1."""
    return group[:3] == LINK_LOCAL_GROUPS if fmt is IGMP else group == ALLNODES


def br_multicast_add_group(
    ctx: net_bridge_mcast, p: net_bridge_port | None, fmt: mc_format, group: bytes
) -> int:
    """net/bridge/br_multicast.c: a host behind `p` joins a group. 0, or -E2BIG: too many."""
    if untracked(fmt, group) or not usable(ctx, p):
        return 0
    mp = br_multicast_new_group(ctx.br, group)
    if mp is None:
        return -errno.E2BIG
    if p is None:
        br_multicast_host_join(mp, True)
        return 0
    pg = br_multicast_find_port(mp, p)
    if pg is None:
        pg = br_multicast_new_port_group(mp, p, 0, RTPROT_KERNEL)
        if pg is None:
            return -errno.E2BIG
        br_mdb_notify(mp, pg)
    mod_timer_in(pg.timer, ctx.multicast_membership_interval)
    return 0


def shorten(timer: timer_list, delay: int) -> None:
    """Make a timer expire in `delay` at the latest."""
    if not timer.pending or timer.expires > timer.machine.clock.now_ns() + delay:
        mod_timer_in(timer, delay)


def br_multicast_leave_group(
    ctx: net_bridge_mcast, p: net_bridge_port | None, fmt: mc_format, group: bytes
) -> None:
    """net/bridge/br_multicast.c: a host at `p` left a group: query for others, then remove it."""
    mp = ctx.mdb.get(group)
    if untracked(fmt, group) or not usable(ctx, p) or mp is None:
        return
    pg = br_multicast_find_port(mp, p) if p is not None else None
    if p is not None and p.flags & br_private.BR_MULTICAST_FAST_LEAVE:
        if pg is not None:
            br_multicast_fast_leave(pg)
        return
    pf = ctx.pf[fmt.at]
    if pf.other_query.pending:
        return
    delay = ctx.multicast_last_member_count * ctx.multicast_last_member_interval
    if ctx.multicast_querier:
        __br_multicast_send_query(ctx, p, PROTOS[fmt.at], group)
        mod_timer_in(pf.own_query if p is None else p.mcast[fmt.at].own_query, delay)
    if pg is not None:
        if not pg.flags & br_private.MDB_PG_FLAGS_PERMANENT:
            shorten(pg.timer, delay)
    elif p is None and mp.host_joined:
        shorten(mp.timer, delay)


def br_multicast_report(
    ctx: net_bridge_mcast, p: net_bridge_port | None, fmt: mc_format, data: bytes
) -> int:
    """net/bridge/br_multicast.c br_ip4_multicast_igmp3_report, br_ip6_multicast_mld2_report.

    Sources are not tracked: a record joins the whole group, or (an empty INCLUDE) leaves it.
    0, -EINVAL: a record runs past the end, or -E2BIG. Records before a wrong one count.
    """
    at = HEADER2
    for _ in range(int.from_bytes(data[6:8], "big")):
        body = at + 4 + fmt.addr
        if body > len(data):
            return -errno.EINVAL
        kind, sources = data[at], int.from_bytes(data[at + 2 : at + 4], "big")
        group = data[at + 4 : body]
        at = body + sources * fmt.addr
        if at > len(data):
            return -errno.EINVAL
        if kind not in RECORD_TYPES:
            continue
        if not sources and kind in (TO_INCLUDE, MODE_IS_INCLUDE):
            br_multicast_leave_group(ctx, p, fmt, group)
        else:
            err = br_multicast_add_group(ctx, p, fmt, group)
            if err:
                return err
    return 0


def br_multicast_query(
    ctx: net_bridge_mcast, p: net_bridge_port | None, fmt: mc_format, saddr: bytes, data: bytes
) -> None:
    """net/bridge/br_multicast.c br_ip4_multicast_query, br_ip6_multicast_query."""
    if not usable(ctx, p):
        return
    base = fmt.group + fmt.addr
    group, old = data[fmt.group : base], len(data) == base
    if fmt is IGMP:
        code = data[1]
        delay = code * DECISEC if old else max(mc_time_code(code) * DECISEC, 4 * NSEC_PER_MSEC)
        if old and not code:  # IGMPv1
            delay, group = 100 * DECISEC, ANY4
        newest = ctx.multicast_igmp_version == 3
        if not old and any(data[base + 2 : base + 4]):
            return
    else:
        code = int.from_bytes(data[4:6], "big")
        delay = (code if old else max(mldv2_mrc(code), 4)) * NSEC_PER_MSEC
        newest = ctx.multicast_mld_version == 2
        if (old and not code) or (not old and any(data[base + 2 : base + 4])):
            return
    if not old and newest and any(group) and data[base] & 8:  # S: do not act on it
        return
    if not any(group):
        br_multicast_query_received(ctx, p, fmt.at, saddr, delay)
        return
    mp = ctx.mdb.get(group)
    if mp is None:
        return
    delay *= ctx.multicast_last_member_count
    if mp.host_joined:
        shorten(mp.timer, delay)
    for pg in mp.ports:
        if not pg.flags & br_private.MDB_PG_FLAGS_PERMANENT:
            shorten(pg.timer, delay)
