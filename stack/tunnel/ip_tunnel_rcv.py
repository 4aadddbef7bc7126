"""net/ipv4/tunnel4.c, gre_demux.c, ipip.c, sit.c, net/ipv6/ip6_tunnel.c: reception from tunnels.

    ip_local_deliver_finish => tunnel4_rcv                              outside is IPv4
    ip6_input_finish => tunnel6_rcv                                     outside is IPv6
        receive             which tunnel it is for -> ip_tunnel_rcv
    icmp_unreach => ip_tunnel_err           an error about a packet of ours
        update the path MTU, or report to the next senders
        ip6_err_gen_icmpv6_unreach          IPv6 inside: report to the sender at once
    icmpv6_notify => ip6_tnl_err, relayed to the inner sender

Handlers take ownership of their packets, error handlers borrow them. A packet that no tunnel
accepts is answered with ICMP port unreachable, as by Linux.
"""

from __future__ import annotations

import errno
from functools import partial

from fastpath.base.skbuff import (
    PACKET_HOST,
    kfree_skb,
    pskb_may_pull,
    sk_buff,
    skb_clone,
    skb_pull,
    skb_reset_network_header,
)
from fastpath.net.hdr import icmp_hdr, ip_hdr, iphdr_at, ipv6_hdr, ipv6hdr_at
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.net_namespace import pernet_operations
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6, ETH_P_TEB, net_device
from stack.core.rows import wide
from stack.core.uapi import AF_INET, AF_INET6, IP_HLEN, IPPROTO_IPV6, IPV6_HLEN
from stack.inet.flow import flowi
from stack.inet.protocol import inet_add_protocol, net_protocol
from stack.inet.xfrm_policy import XFRM_POLICY_IN, xfrm_policy_check
from stack.ipv4 import icmp_codes
from stack.ipv4.icmp import icmp_send
from stack.ipv4.route import ip_route_output, ipv4_redirect, ipv4_update_pmtu
from stack.ipv6.ip6_icmp import (
    ICMPV6_ADDR_UNREACH,
    ICMPV6_DEST_UNREACH,
    ICMPV6_EXC_HOPLIMIT,
    ICMPV6_PKT_TOOBIG,
    ICMPV6_PORT_UNREACH,
    ICMPV6_TIME_EXCEED,
    NDISC_REDIRECT,
    icmpv6_send,
)
from stack.ipv6.protocol import (
    INET6_PROTO_FINAL,
    INET6_PROTO_NOPOLICY,
    inet6_add_protocol,
    inet6_protocol,
)
from stack.ipv6.route import ip6_route_output
from stack.ipv6.route_learned import ip6_redirect, ip6_update_pmtu
from stack.net import Net
from stack.tunnel.gre import gre_parse_header, tnl_ptk_info
from stack.tunnel.ip_tunnel import (
    IPPROTO_GRE,
    IPPROTO_IPIP,
    IPTUNNEL_ERR_TIMEO_NS,
    ip_tunnel,
    ip_tunnel_init_net,
    ip_tunnel_lookup,
    ip_tunnel_rcv,
)

INSIDE = {IPPROTO_IPIP: ETH_P_IP, IPPROTO_IPV6: ETH_P_IPV6}
TAKERS: dict[tuple[int, int], tuple[str, ...]] = {
    (AF_INET, IPPROTO_IPIP): ("ipip", "sit"),
    (AF_INET, IPPROTO_IPV6): ("sit",),
    (AF_INET6, IPPROTO_IPIP): ("ip6tnl",),
    (AF_INET6, IPPROTO_IPV6): ("ip6tnl",),
}
"""The kinds that may take a packet, by family outside and protocol; in this order."""


def find(
    net: Net, family: int, proto: int, tpi: tnl_ptk_info, link: int, remote: wide, local: wide
) -> ip_tunnel | None:
    """The tunnel for a packet, or None."""
    if proto == IPPROTO_GRE:
        tap = tpi.proto == ETH_P_TEB
        kind = ("gretap" if tap else "gre") if family == AF_INET else ("ip6gre", "ip6gretap")[tap]
        return ip_tunnel_lookup(net, kind, link, tpi.flags, tpi.key, remote, local)
    for kind in TAKERS[family, proto]:
        t = ip_tunnel_lookup(net, kind, link, 0, 0, remote, local)
        if t is not None and t.parms.proto in (0, proto):
            return t
    return None


def header_of(skb: sk_buff, proto: int, at: int, verify: bool) -> tnl_ptk_info | None:
    """What is between both IP headers; None: malformed."""
    if proto == IPPROTO_GRE:
        return gre_parse_header(skb, at, verify)
    tpi = tnl_ptk_info()
    tpi.proto = INSIDE[proto]
    return tpi


def receive(skb: sk_buff, family: int, proto: int) -> bool:
    """A packet of a tunnel's protocol, data behind the IP header. Takes ownership of skb.

    False: no tunnel accepts it, and the caller keeps it.
    """
    dev: net_device = skb.dev
    net = dev.net
    tpi = header_of(skb, proto, 0, True)
    if tpi is None:
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
        return True
    remote: wide
    local: wide
    if family == AF_INET:
        iph = ip_hdr(skb)
        remote, local, tos = iph.saddr, iph.daddr, iph.tos
    else:
        ip6h = ipv6_hdr(skb)
        remote, local, tos = ip6h.saddr, ip6h.daddr, ip6h.priority
    t = find(net, family, proto, tpi, skb.skb_iif or dev.ifindex, remote, local)
    if t is None:
        return False
    if not xfrm_policy_check(None, XFRM_POLICY_IN, skb, family):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_XFRM_POLICY)
        return True
    skb_pull(skb, tpi.hdr_len)
    ip_tunnel_rcv(t, skb, tpi, tos)
    return True


def tunnel4_rcv(skb: sk_buff) -> int:
    """net/ipv4/tunnel4.c, gre_demux.c: a packet with IPv4 outside. Takes ownership of skb."""
    if not receive(skb, AF_INET, ip_hdr(skb).protocol):
        net = skb.dev.net
        icmp_send(skb, icmp_codes.ICMP_DEST_UNREACH, icmp_codes.ICMP_PORT_UNREACH, 0)
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
    return 0


def tunnel6_rcv(proto: int, skb: sk_buff) -> int:
    """net/ipv6/tunnel6.c, ip6_gre.c: a packet with IPv6 outside. Takes ownership of skb.

    Unlike IPv4's, its protocol need not be in the first header.
    """
    if not receive(skb, AF_INET6, proto):
        net = skb.dev.net
        icmpv6_send(skb, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0)
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
    return 0


# --- errors, IPv4 outside -------------------------------------------------------------------------


def remember_error(t: ip_tunnel) -> None:
    """ipip_err and similar: store the error for the next packets' senders (tell_errors)."""
    now = t.net.clock.now_ns()
    t.err_count = t.err_count + 1 if now - t.err_time < IPTUNNEL_ERR_TIMEO_NS else 1
    t.err_time = now


def ip_tunnel_err(skb: sk_buff, info: int) -> int:
    """net/ipv4/ipip.c ipip_err, gre_err, ipip6_err. Data at the quoted header. Borrows skb."""
    net: Net = skb.dst.net if skb.dst is not None else skb.dev.net
    iph = iphdr_at(skb, 0)
    icmph = icmp_hdr(skb)
    kind, code, at, proto = icmph.type, icmph.code, iph.ihl * 4, iph.protocol
    tpi = header_of(skb, proto, at, False)
    if tpi is None:
        return -errno.EINVAL
    t = find(net, AF_INET, proto, tpi, skb.skb_iif, iph.daddr, iph.saddr)
    if t is None:
        return -errno.ENOENT
    if kind == icmp_codes.ICMP_DEST_UNREACH:
        if code == icmp_codes.ICMP_SR_FAILED:
            return 0
        if code == icmp_codes.ICMP_FRAG_NEEDED:
            ipv4_update_pmtu(skb, net, info, t.parms.link, proto)
            return 0
    elif kind == icmp_codes.ICMP_REDIRECT:
        ipv4_redirect(skb, net, t.parms.link, proto)
        return 0
    elif kind == icmp_codes.ICMP_TIME_EXCEEDED:
        if code != icmp_codes.ICMP_EXC_TTL:
            return 0
    else:
        return 0
    if tpi.proto == ETH_P_IPV6 and ip6_err_gen_icmpv6_unreach(skb, net, at + tpi.hdr_len, kind):
        return 0
    if not t.parms.remote:
        return -errno.ENOENT
    if not t.parms.ttl and kind == icmp_codes.ICMP_TIME_EXCEEDED:
        return 0
    remember_error(t)
    return 0


def ip6_err_gen_icmpv6_unreach(skb: sk_buff, net: Net, at: int, kind: int) -> bool:
    """net/ipv6/icmp.c: tell the sender of a quoted IPv6 packet at `at`. Borrows skb."""
    if not pskb_may_pull(skb, at + IPV6_HLEN + 8):
        return False
    inner = skb_clone(skb)
    try:
        skb_pull(inner, at)
        skb_reset_network_header(inner)
        rt = ip6_route_output(net, None, flowi(AF_INET6, ipv6_hdr(inner).saddr))
        if rt.error:
            return False
        inner.dev, inner.dst, inner.pkt_type = rt.dev, rt, PACKET_HOST
        if kind == icmp_codes.ICMP_TIME_EXCEEDED:
            icmpv6_send(inner, ICMPV6_TIME_EXCEED, ICMPV6_EXC_HOPLIMIT, 0)
        else:
            icmpv6_send(inner, ICMPV6_DEST_UNREACH, ICMPV6_ADDR_UNREACH, 0)
        return True
    finally:
        kfree_skb(inner)


# --- errors, IPv6 outside -------------------------------------------------------------------------


def ip6_tnl_err(
    proto: int, skb: sk_buff, opt: object, kind: int, code: int, at: int, info: int
) -> int:
    """net/ipv6/ip6_tunnel.c: an error about our packet, whose IPv6 header is at data. Borrows skb.

    The inner sender is notified of a smaller MTU, or that the address is unreachable.
    """
    net: Net = skb.dev.net
    ip6h = ipv6hdr_at(skb, 0)
    tpi = header_of(skb, proto, at, False)
    if tpi is None:
        return 0
    t = find(net, AF_INET6, proto, tpi, skb.skb_iif, ip6h.daddr, ip6h.saddr)
    if t is None:
        return -errno.ENOENT
    at += tpi.hdr_len
    if kind == NDISC_REDIRECT:
        ip6_redirect(skb, net, skb.dev.ifindex)
    elif kind == ICMPV6_PKT_TOOBIG:
        ip6_update_pmtu(skb, net, info, 0)
        mtu = info - at
        least = 1280 if tpi.proto == ETH_P_IPV6 else 576
        relay(skb, net, tpi.proto, at, kind, max(mtu, least))
    elif kind == ICMPV6_DEST_UNREACH or (kind == ICMPV6_TIME_EXCEED and not code):
        remember_error(t)
        relay(skb, net, tpi.proto, at, ICMPV6_DEST_UNREACH, 0)
    return 0


def relay(skb: sk_buff, net: Net, proto: int, at: int, kind: int, mtu: int) -> None:
    """ip4ip6_err, ip6ip6_err: an error about the packet inside, to its sender. Borrows skb."""
    if proto not in (ETH_P_IP, ETH_P_IPV6):
        return
    if not pskb_may_pull(skb, at + (IP_HLEN if proto == ETH_P_IP else IPV6_HLEN)):
        return
    inner = skb_clone(skb)
    try:
        skb_pull(inner, at)
        skb_reset_network_header(inner)
        inner.pkt_type = PACKET_HOST
        inner.cb = None
        if proto == ETH_P_IPV6:
            rt6 = ip6_route_output(net, None, flowi(AF_INET6, ipv6_hdr(inner).saddr))
            if rt6.error:
                return
            inner.dev, inner.dst = rt6.dev, rt6
            code = ICMPV6_ADDR_UNREACH if kind == ICMPV6_DEST_UNREACH else 0
            icmpv6_send(inner, kind, code, mtu)
            return
        try:
            rt = ip_route_output(net, ip_hdr(inner).saddr)
        except OSError:
            return
        inner.dev, inner.dst = rt.dev, rt
        code = icmp_codes.ICMP_HOST_UNREACH
        if kind == ICMPV6_PKT_TOOBIG:
            code = icmp_codes.ICMP_FRAG_NEEDED
        icmp_send(inner, icmp_codes.ICMP_DEST_UNREACH, code, mtu)
    finally:
        kfree_skb(inner)


# --- the module -----------------------------------------------------------------------------------

tunnel4_protocol = net_protocol(tunnel4_rcv, ip_tunnel_err, True)
FINAL = INET6_PROTO_NOPOLICY | INET6_PROTO_FINAL
PROTOCOLS = (IPPROTO_IPIP, IPPROTO_IPV6, IPPROTO_GRE)
PROTOCOLS6 = {
    number: inet6_protocol(partial(tunnel6_rcv, number), partial(ip6_tnl_err, number), flags=FINAL)
    for number in PROTOCOLS
}


def tunnels_init_net(net: Net) -> None:
    """Tables, and the handlers of the protocols."""
    ip_tunnel_init_net(net)
    for number in PROTOCOLS:
        inet_add_protocol(net, tunnel4_protocol, number)
    for number, prot6 in PROTOCOLS6.items():
        inet6_add_protocol(net, prot6, number)


tunnel_net_ops = pernet_operations(init=tunnels_init_net)
"""The modules ipip, sit, ip_gre, ip6_tunnel, ip6_gre."""
