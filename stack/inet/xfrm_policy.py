"""Policies: which packets may come in, go on and leave without IPsec (net/xfrm/xfrm_policy.c).

There are no transformations and no policies of sockets, so a policy only allows or blocks. The
policies of a direction are tried in order of priority, and the first whose selector matches
decides. A packet that no policy matches is allowed. Without policies a check costs one test.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_network_offset
from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from fastpath.net.hdr6 import ipv6_skip_exthdr
from stack.core.rows import row, state, wide
from stack.core.uapi import AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP
from stack.inet.flow import flowi

if TYPE_CHECKING:
    from stack.core.sock import sock
    from stack.net import Net

# include/uapi/linux/xfrm.h
XFRM_POLICY_IN = 0
XFRM_POLICY_OUT = 1
XFRM_POLICY_FWD = 2
XFRM_POLICY_MAX = 3
XFRM_POLICY_ALLOW = 0
XFRM_POLICY_BLOCK = 1

DIRECTIONS = {"in": XFRM_POLICY_IN, "out": XFRM_POLICY_OUT, "fwd": XFRM_POLICY_FWD}
IP_OFFSET = 0x1FFF


@state
class xfrm_selector:
    """struct xfrm_selector: the packets that a policy matches.

    0 as protocol, port, interface or prefix length matches any.
    """

    family: int
    saddr: wide = 0
    prefixlen_s: int = 0
    daddr: wide = 0
    prefixlen_d: int = 0
    proto: int = 0
    sport: int = 0
    dport: int = 0
    ifindex: int = 0


@state
class xfrm_policy:
    """struct xfrm_policy. `packets` counts the packets and flows that it decided about."""

    selector: xfrm_selector
    dir: int
    action: int = XFRM_POLICY_ALLOW
    priority: int = 0
    packets: int = row(0)


def new_xfrm_policies() -> list[list[xfrm_policy]]:
    """An empty list of policies for each direction."""
    return [[] for _ in range(XFRM_POLICY_MAX)]


@state
class netns_xfrm:
    """struct netns_xfrm: the policies of a namespace by direction, in order."""

    policy: list[list[xfrm_policy]] = row(make=new_xfrm_policies)
    changed: list[Callable[[], Any]] = row(make=list)
    """Functions that drop cached routes when a policy changes (rt_genid_bump_all)."""


def selector(
    src: str = "0.0.0.0/0",
    dst: str = "0.0.0.0/0",
    proto: int = 0,
    sport: int = 0,
    dport: int = 0,
    ifindex: int = 0,
) -> xfrm_selector:
    """A selector as `ip xfrm policy` has it, of prefixes of one family ("::/0" for any of IPv6).

    Raises:
        ValueError: no prefix, two families, a number out of its range.
    """
    s, d = ipaddress.ip_network(src, strict=False), ipaddress.ip_network(dst, strict=False)
    if s.version != d.version:
        if s.prefixlen and d.prefixlen:
            raise ValueError(f"src {src} and dst {dst} are of two families")
        version = d.version if d.prefixlen else s.version
        whole = ipaddress.ip_network("0.0.0.0/0" if version == 4 else "::/0")
        s, d = (s, whole) if s.version == version else (whole, d)
    for name, value, high in (
        ("proto", proto, 255),
        ("sport", sport, 65535),
        ("dport", dport, 65535),
    ):
        if not 0 <= value <= high:
            raise ValueError(f"{name} {value}: 0 to {high}")
    family = AF_INET if s.version == 4 else AF_INET6
    sa, da = int(s.network_address), int(d.network_address)
    return xfrm_selector(family, sa, s.prefixlen, da, d.prefixlen, proto, sport, dport, ifindex)


def xfrm_policy_insert(net: Net, pol: xfrm_policy) -> xfrm_policy:
    """net/xfrm/xfrm_policy.c: add a policy, behind those of the same or a lower priority value.

    Raises:
        ValueError: there is no such direction or action.
    """
    if not 0 <= pol.dir < XFRM_POLICY_MAX:
        raise ValueError(f"direction {pol.dir}: XFRM_POLICY_IN (0), OUT (1) or FWD (2)")
    if pol.action not in (XFRM_POLICY_ALLOW, XFRM_POLICY_BLOCK):
        raise ValueError(f"action {pol.action}: XFRM_POLICY_ALLOW (0) or XFRM_POLICY_BLOCK (1)")
    chain = net.xfrm.policy[pol.dir]
    at = len(chain)
    while at and chain[at - 1].priority > pol.priority:
        at -= 1
    net.xfrm.policy[pol.dir] = [*chain[:at], pol, *chain[at:]]
    _changed(net)
    return pol


def _changed(net: Net) -> None:
    for forget in net.xfrm.changed:
        forget()


def xfrm_policy_delete(net: Net, pol: xfrm_policy) -> None:
    """net/xfrm/xfrm_policy.c: remove a policy; no error when it is absent."""
    net.xfrm.policy[pol.dir] = [one for one in net.xfrm.policy[pol.dir] if one is not pol]
    _changed(net)


def xfrm_policy_flush(net: Net) -> None:
    """net/xfrm/xfrm_policy.c: remove all policies."""
    net.xfrm.policy = new_xfrm_policies()
    _changed(net)


def xfrm_selector_match(sel: xfrm_selector, fl: flowi, ifindex: int) -> bool:
    """net/xfrm/xfrm_policy.c: is this flow one of the selector's?"""
    if sel.family != fl.family:
        return False
    bits = 32 if sel.family == AF_INET else 128
    return (
        (fl.saddr ^ sel.saddr) >> (bits - sel.prefixlen_s) == 0
        and (fl.daddr ^ sel.daddr) >> (bits - sel.prefixlen_d) == 0
        and (not sel.proto or sel.proto == fl.flowi_proto)
        and (not sel.sport or sel.sport == fl.fl_sport)
        and (not sel.dport or sel.dport == fl.fl_dport)
        and (not sel.ifindex or sel.ifindex == ifindex)
    )


def xfrm_policy_lookup(net: Net, fl: flowi, direction: int, ifindex: int) -> xfrm_policy | None:
    """net/xfrm/xfrm_policy.c: the first policy that matches a flow; None: the flow is allowed."""
    for pol in net.xfrm.policy[direction]:
        if xfrm_selector_match(pol.selector, fl, ifindex):
            pol.packets += 1
            return pol
    return None


def decode_session(skb: sk_buff, family: int) -> flowi | None:
    """net/xfrm/xfrm_policy.c: the flow of a packet by its headers; None when they are cut off.

    Ports are 0 for protocols other than TCP and UDP, and for fragments other than the first.
    """
    off = skb_network_offset(skb)
    if family == AF_INET:
        iph = iphdr_at(skb, off)
        fl = flowi(AF_INET, iph.daddr, iph.saddr, flowi_proto=iph.protocol)
        at = off + iph.ihl * 4
        first = not iph.frag_off & IP_OFFSET
    else:
        ip6h = ipv6hdr_at(skb, off)
        fl = flowi(AF_INET6, ip6h.daddr, ip6h.saddr)
        at, fl.flowi_proto, frag_off = ipv6_skip_exthdr(skb, off + 40, ip6h.nexthdr)
        first = at >= 0 and not frag_off & ~7
    if first and fl.flowi_proto in (IPPROTO_TCP, IPPROTO_UDP):
        if skb.len < at + 8:
            return None
        ports = skb_copy_bits(skb, at, 4)  # skb.data may be at the payload already, behind `at`
        fl.fl_sport, fl.fl_dport = ports[0] << 8 | ports[1], ports[2] << 8 | ports[3]
    return fl


def __xfrm_policy_check(net: Net, direction: int, skb: sk_buff, family: int) -> bool:
    """net/xfrm/xfrm_policy.c: whether the policies allow the packet; counts one they block."""
    fl = decode_session(skb, family)
    if fl is None:
        net.mib.xfrm.XfrmInHdrError += 1
        return False
    iif = skb.dev.ifindex if skb.dev is not None else 0
    pol = xfrm_policy_lookup(net, fl, direction, iif)
    if pol is not None and pol.action == XFRM_POLICY_BLOCK:
        net.mib.xfrm.XfrmInPolBlock += 1
        return False
    return True


def xfrm_policy_check(sk: sock | None, direction: int, skb: sk_buff, family: int) -> bool:
    """include/net/xfrm.h: may the packet be delivered, or forwarded?"""
    net: Net = skb.dev.net
    return not net.xfrm.policy[direction] or __xfrm_policy_check(net, direction, skb, family)


def xfrm4_policy_check(sk: sock | None, direction: int, skb: sk_buff) -> bool:
    """include/net/xfrm.h: xfrm_policy_check of IPv4."""
    return xfrm_policy_check(sk, direction, skb, AF_INET)


def xfrm6_policy_check(sk: sock | None, direction: int, skb: sk_buff) -> bool:
    """include/net/xfrm.h: xfrm_policy_check of IPv6."""
    return xfrm_policy_check(sk, direction, skb, AF_INET6)


def xfrm_lookup(net: Net, fl: flowi) -> int:
    """net/xfrm/xfrm_policy.c: may this flow be sent? 0, or -EPERM, which is counted.

    Call it when the flow has a route.
    """
    if not net.xfrm.policy[XFRM_POLICY_OUT] or not fl.flowi_proto:
        return 0
    pol = xfrm_policy_lookup(net, fl, XFRM_POLICY_OUT, fl.flowi_oif)
    if pol is not None and pol.action == XFRM_POLICY_BLOCK:
        net.mib.xfrm.XfrmOutPolBlock += 1
        return -errno.EPERM
    return 0


def xfrm_route_forward(net: Net, skb: sk_buff, family: int, ifindex: int) -> bool:
    """net/xfrm/xfrm_policy.c __xfrm_route_forward: may a packet that is forwarded leave?"""
    if not net.xfrm.policy[XFRM_POLICY_OUT]:
        return True
    fl = decode_session(skb, family)
    if fl is None:
        net.mib.xfrm.XfrmFwdHdrError += 1
        return False
    fl.flowi_oif = ifindex
    return xfrm_lookup(net, fl) == 0
