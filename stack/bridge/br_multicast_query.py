"""net/bridge/br_multicast.c: the queries that a bridge sends, as frames.

    IGMPv1, v2: | 0x11 | Max Resp Code | Checksum 2 | Group Address 4 |          (RFC 2236 2)
    IGMPv3:     ... | S, QRV | QQIC | Number of Sources 2 |                      (RFC 3376 4.1)
    MLD:        | 130 | 0 | Checksum 2 | Max Resp Delay 2 | 0 2 | Address 16 |   (RFC 2710 3)
    MLDv2:      ... | S, QRV | QQIC | Number of Sources 2 |                      (RFC 3810 5.1)

All go to all hosts with a TTL of 1 and the router alert option.
"""

from __future__ import annotations

from fastpath.base.csum import csum_ipv6_magic, csum_partial, ip_compute_csum
from stack.bridge.br_private import DECISEC, net_bridge_mcast
from stack.core.netdevice import ETH_P_IP
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.core.uapi import (
    IGMP_HOST_MEMBERSHIP_QUERY,
    INADDR_ALLHOSTS_GROUP,
    IPPROTO_ICMPV6,
    IPPROTO_IGMP,
    RT_SCOPE_LINK,
)
from stack.ipv4.fib import inet_select_addr
from stack.ipv6.ip6_icmp import ICMPV6_MGM_QUERY
from stack.ipv6.saddr import ipv6_dev_get_saddr

QRV = 2
"""The robustness variable in queries."""
ROUTER_ALERT = b"\x94\x04\x00\x00"
HOP_ROUTER_ALERT = bytes((IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 0, 0))
ALLHOSTS = INADDR_ALLHOSTS_GROUP.to_bytes(4, "big")
ALLHOSTS_MAC = b"\x01\x00\x5e\x00\x00\x01"
ALLNODES = 0xFF02 << 112 | 1
ALLNODES_MAC = b"\x33\x33\x00\x00\x00\x01"
CONTROL = 0xC0
"""Precedence, internetwork control."""
DF = 0x4000


def br_multicast_alloc_query(ctx: net_bridge_mcast, proto: int, group: bytes) -> bytes | None:
    """net/bridge/br_multicast.c: a general query (`group` empty), or one for a group, as a frame.

    None: the bridge has no IPv6 source address.
    """
    if proto == ETH_P_IP:
        return br_ip4_multicast_alloc_query(ctx, group)
    return br_ip6_multicast_alloc_query(ctx, group)


def delay(ctx: net_bridge_mcast, group: bytes) -> int:
    """The maximum response time (ns)."""
    if group:
        return ctx.multicast_last_member_interval
    return ctx.multicast_query_response_interval


def _robustness(ctx: net_bridge_mcast) -> bytes:
    """Additional fields of IGMPv3 and MLDv2 queries: QRV, QQIC and no sources."""
    return bytes((QRV, ctx.multicast_query_interval // NSEC_PER_SEC & 0xFF, 0, 0))


def br_ip4_multicast_alloc_query(ctx: net_bridge_mcast, group: bytes) -> bytes:
    """net/bridge/br_multicast.c."""
    dev = ctx.br.dev
    saddr = inet_select_addr(dev, 0, RT_SCOPE_LINK) if ctx.use_ifaddr else 0
    code = delay(ctx, group) // DECISEC & 0xFF
    igmp = bytes((IGMP_HOST_MEMBERSHIP_QUERY, code, 0, 0)) + (group or bytes(4))
    if ctx.multicast_igmp_version == 3:
        igmp += _robustness(ctx)
    igmp = _with(igmp, 2, ip_compute_csum(igmp))
    head = bytes((0x46, CONTROL)) + (24 + len(igmp)).to_bytes(2, "big") + bytes(2)
    head += DF.to_bytes(2, "big") + bytes((1, IPPROTO_IGMP, 0, 0))
    head += saddr.to_bytes(4, "big") + ALLHOSTS + ROUTER_ALERT
    head = _with(head, 10, ip_compute_csum(head))
    return ALLHOSTS_MAC + dev.dev_addr + b"\x08\x00" + head + igmp


def br_ip6_multicast_alloc_query(ctx: net_bridge_mcast, group: bytes) -> bytes | None:
    """net/bridge/br_multicast.c; None: there is no address yet."""
    dev = ctx.br.dev
    saddr = ipv6_dev_get_saddr(dev.net, dev, ALLNODES) if dev.ip6_ptr is not None else 0
    ctx.has_ipv6_addr = bool(saddr)
    if not saddr:
        return None
    mrc = min(delay(ctx, group) // NSEC_PER_MSEC, 0xFFFF)
    mld = bytes((ICMPV6_MGM_QUERY, 0, 0, 0)) + mrc.to_bytes(2, "big") + bytes(2)
    mld += group or bytes(16)
    if ctx.multicast_mld_version == 2:
        mld += _robustness(ctx)
    sum_ = csum_partial(mld, 0)
    mld = _with(mld, 2, csum_ipv6_magic(saddr, ALLNODES, len(mld), IPPROTO_ICMPV6, sum_))
    size = len(HOP_ROUTER_ALERT) + len(mld)
    head = b"\x60\0\0\0" + size.to_bytes(2, "big") + b"\0\x01"
    head += saddr.to_bytes(16, "big") + ALLNODES.to_bytes(16, "big") + HOP_ROUTER_ALERT
    return ALLNODES_MAC + dev.dev_addr + b"\x86\xdd" + head + mld


def _with(data: bytes, at: int, checksum: int) -> bytes:
    return data[:at] + checksum.to_bytes(2, "big") + data[at + 2 :]
