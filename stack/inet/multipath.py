"""Which next hop of several a packet takes: a hash of its flow, and weights (RFC 2992).

net/ipv4/route.c fib_multipath_hash, net/ipv6/route.c rt6_multipath_hash, net/core/flow_dissector.c,
net/ipv4/fib_semantics.c fib_rebalance. Nothing here runs for a route with one next hop.

    fib_multipath_hash      31 bits of a flow or packet, by sysctl fib_multipath_hash_policy
    fib_rebalance           where the share of each next hop ends
    fib_select_hop          the next hop whose share a hash falls into

The two ends of a flow are hashed in order of size. So both directions, and the ICMP error about a
packet, which quotes it, take the same path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_network_offset
from fastpath.net.inetkey import inet_siphash
from stack.core.rows import wide
from stack.core.secure_seq import SECURE_MULTIPATH
from stack.core.uapi import (
    AF_INET,
    IPPROTO_FRAGMENT,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPV6_FLOWLABEL_MASK,
)
from stack.inet.flow import flowi
from stack.net import Net

# include/net/ip_fib.h FIB_MULTIPATH_HASH_FIELD_*
FIELD_SRC_IP, FIELD_DST_IP, FIELD_IP_PROTO, FIELD_FLOWLABEL = 1, 2, 4, 8
FIELD_SRC_PORT, FIELD_DST_PORT = 16, 32
FIELDS_INNER_SHIFT = 6
FIELDS_ALL = 0xFFF
FIELDS_DEFAULT = FIELD_SRC_IP | FIELD_DST_IP | FIELD_IP_PROTO

# values of fib_multipath_hash_policy
POLICY_L3, POLICY_L4, POLICY_INNER_L3, POLICY_CUSTOM = range(4)
BY_PORTS = (POLICY_L4, POLICY_CUSTOM)
"""Policies by which flows between the same two hosts may take different paths."""

HASH_BITS = 31
HEAD = 192
"""Bytes of a packet that are examined."""
IPPROTO_IPIP, IPPROTO_IPV6, IPPROTO_GRE = 4, 41, 47
WITH_PORTS = (IPPROTO_TCP, IPPROTO_UDP, 33, 50, 132, 136)
"""proto_ports_offset: also DCCP, ESP (its SPI), SCTP and UDP-Lite."""
EXTENSIONS = (0, 43, 60)
GRE_CSUM, GRE_ROUTING, GRE_KEY, GRE_SEQ, GRE_VERSION = 0x8000, 0x4000, 0x2000, 0x1000, 7
ETH_P_IP, ETH_P_IPV6, ETH_P_TEB = 0x0800, 0x86DD, 0x6558
ICMP_ERRORS = (3, 4, 5, 11, 12)
ICMPV6_ERRORS = (1, 2, 3, 4)


class flow_keys(NamedTuple):
    """struct flow_keys. Fields that are missing in the packet, or not hashed, are 0."""

    saddr: wide = 0
    daddr: wide = 0
    proto: int = 0
    label: int = 0
    sport: int = 0
    dport: int = 0


def ip_keys(data: bytes, at: int) -> tuple[flow_keys, int] | None:
    """The keys of the IP packet at `at`, and where its payload is (-1: a fragment).

    None: there is no whole header.
    """
    version = data[at] >> 4 if at < len(data) else 0
    if version == 4 and len(data) >= at + 20:
        saddr, daddr = data[at + 12 : at + 16], data[at + 16 : at + 20]
        proto, label, fragment = data[at + 9], 0, bool(data[at + 6] & 0x3F or data[at + 7])
        at += 4 * (data[at] & 15)
    elif version == 6 and len(data) >= at + 40:
        saddr, daddr = data[at + 8 : at + 24], data[at + 24 : at + 40]
        proto, fragment = data[at + 6], False
        label = int.from_bytes(data[at + 1 : at + 4], "big") & IPV6_FLOWLABEL_MASK
        at += 40
        while proto in EXTENSIONS and len(data) >= at + 8:
            proto, at = data[at], at + 8 * (data[at + 1] + 1)
        if proto == IPPROTO_FRAGMENT and len(data) >= at + 8:
            proto, fragment = data[at], True
    else:
        return None
    sport = dport = 0
    if fragment:
        at = -1
    elif proto in WITH_PORTS and len(data) >= at + 4:
        sport, dport = data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
    ends = int.from_bytes(saddr, "big"), int.from_bytes(daddr, "big")
    return flow_keys(*ends, proto, label, sport, dport), at


def _behind_gre(data: bytes, at: int) -> int:
    """Where the packet behind a GRE header (RFC 2784, RFC 2890) begins; -1: there is no IP."""
    if len(data) < at + 4:
        return -1
    flags, proto = data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
    if flags & (GRE_ROUTING | GRE_VERSION):
        return -1
    at += 4 + 4 * sum(bool(flags & bit) for bit in (GRE_CSUM, GRE_KEY, GRE_SEQ))
    if proto == ETH_P_TEB:
        proto = int.from_bytes(data[at + 12 : at + 14], "big")
        at += 14
    return at if proto in (ETH_P_IP, ETH_P_IPV6) else -1


def dissect(data: bytes) -> tuple[flow_keys, flow_keys | None]:
    """net/core/flow_dissector.c: keys of a packet, and of the innermost one in it, if there is."""
    found = ip_keys(data, 0)
    if found is None:
        return flow_keys(), None
    outer, at = found
    keys, inner = outer, None
    while at >= 0:
        if keys.proto == IPPROTO_GRE:
            at = _behind_gre(data, at)
        elif keys.proto not in (IPPROTO_IPIP, IPPROTO_IPV6):
            break
        within = ip_keys(data, at) if at >= 0 else None
        if within is None:
            break
        keys, at = within
        inner = keys
    return outer, inner


def l3_keys(data: bytes) -> flow_keys:
    """ip_multipath_l3_keys, ip6_multipath_l3_keys: of an ICMP error the packet that it is about."""
    found = ip_keys(data, 0)
    if found is None:
        return flow_keys()
    keys, at = found
    errors = {IPPROTO_ICMP: ICMP_ERRORS, IPPROTO_ICMPV6: ICMPV6_ERRORS}.get(keys.proto, ())
    if 0 <= at < len(data) and data[at] in errors:
        about = ip_keys(data, at + 8)
        if about is not None:
            keys = about[0]
    return without_ports(keys)


def without_ports(keys: flow_keys) -> flow_keys:
    """What IPv4 and IPv6 hash below the transport: of IPv6 protocol and flow label too."""
    if keys.saddr >> 32 or keys.daddr >> 32:
        return flow_keys(keys.saddr, keys.daddr, keys.proto, keys.label)
    return flow_keys(keys.saddr, keys.daddr)


def chosen_fields(keys: flow_keys, fields: int) -> flow_keys:
    """The keys that fib_multipath_hash_fields names."""
    return flow_keys(
        keys.saddr if fields & FIELD_SRC_IP else 0,
        keys.daddr if fields & FIELD_DST_IP else 0,
        keys.proto if fields & FIELD_IP_PROTO else 0,
        keys.label if fields & FIELD_FLOWLABEL else 0,
        keys.sport if fields & FIELD_SRC_PORT else 0,
        keys.dport if fields & FIELD_DST_PORT else 0,
    )


def flow_hash_from_keys(net: Net, keys: flow_keys, more: int = 0) -> int:
    """net/core/flow_dissector.c: 31 bits of a flow, the same for both directions.

    `more`: another hash to mix in, or a seed.
    """
    low, high = sorted((keys.saddr, keys.daddr))
    first, second = sorted((keys.sport, keys.dport))
    rest = keys.proto << 20 | keys.label
    if rest or more:
        more = inet_siphash(net.secret, rest, more, 0, SECURE_MULTIPATH)
    found = inet_siphash(net.secret, low, high, first << 16 | second, SECURE_MULTIPATH ^ more)
    return found >> 32 - HASH_BITS


def fib_multipath_hash(net: Net, fl: flowi, skb: sk_buff | None = None) -> int:
    """fib_multipath_hash, rt6_multipath_hash: 31 bits of `skb`, received; without it of `fl`.

    `fl.mp_hash`, if not 0, is used as the hash.
    """
    if fl.mp_hash:
        return fl.mp_hash
    v4 = fl.family == AF_INET
    sysctl = net.sysctl if v4 else net.ipv6.sysctl
    policy, fields = sysctl.fib_multipath_hash_policy, sysctl.fib_multipath_hash_fields
    seed = net.sysctl.fib_multipath_hash_seed
    inner: flow_keys | None = None
    if skb is not None:
        at = skb_network_offset(skb)
        data = skb_copy_bits(skb, at, min(HEAD, skb.len - at))
        outer, inner = dissect(data)
    else:
        data = b""
        outer = flow_keys(
            fl.saddr, fl.daddr, fl.flowi_proto, fl.flowlabel, fl.fl_sport, fl.fl_dport
        )
    if policy == POLICY_L4:
        keys = outer._replace(label=0)
    elif policy == POLICY_CUSTOM:
        keys = chosen_fields(outer, fields)
        if inner is not None:
            within = chosen_fields(inner, fields >> FIELDS_INNER_SHIFT)
            seed ^= flow_hash_from_keys(net, within, 1)
    elif policy == POLICY_INNER_L3 and data:
        keys = without_ports(inner or outer)
    elif data:
        keys = l3_keys(data)
    else:
        keys = outer._replace(sport=0, dport=0)
        keys = keys._replace(proto=0, label=0) if v4 else keys
    return flow_hash_from_keys(net, keys, seed)


def fib_rebalance(weights: Sequence[int]) -> list[int]:
    """net/ipv4/fib_semantics.c: the highest hash of each next hop's share; of weight 0 below 0."""
    total = sum(weights)
    bounds, so_far = [], 0
    for weight in weights:
        so_far += weight
        bounds.append(((so_far << HASH_BITS) + total // 2) // total - 1 if weight else -1)
    return bounds


def fib_select_hop(weights: Sequence[int], found: int) -> int:
    """Which of the next hops a hash chooses; -1: all weights are 0."""
    if not any(weights):
        return -1
    for at, bound in enumerate(fib_rebalance(weights)):
        if found <= bound:
            return at
    return -1
