"""net/ipv6/ndisc.c: the messages of Neighbor Discovery that this host sends (RFC 4861 4)."""

from __future__ import annotations

import errno

from fastpath.base.csum import csum_fold, csum_ipv6_nofold, csum_partial
from fastpath.base.skbuff import (
    alloc_skb,
    sk_buff,
    skb_copy_bits,
    skb_network_offset,
    skb_put_data,
    skb_set_transport_header,
)
from fastpath.net.hdr import ipv6_hdr, ipv6_push
from stack.core.netdevice import ETH_P_IPV6, net_device
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import (
    AF_INET6,
    IPPROTO_ICMPV6,
    IPV6_HLEN,
    IPV6_MIN_MTU,
    NUD_VALID,
    RTF_GATEWAY,
)
from stack.inet.flow import flowi
from stack.inet.icmp_limit import inet_getpeer, inet_peer_xrlim_allow
from stack.ipv4.neigh import ip_neigh_gw6
from stack.ipv6 import if_inet6, nd_options
from stack.ipv6.addr import (
    IN6ADDR_ANY,
    IN6ADDR_LINKLOCAL_ALLNODES,
    IPV6_ADDR_LINKLOCAL,
    IPV6_ADDR_UNICAST,
    ipv6_addr_type,
)
from stack.ipv6.if_inet6 import inet6_dev, ipv6_get_ifaddr
from stack.ipv6.ip6_output import ip6_local_out
from stack.ipv6.nd_messages import (
    RD_LEN,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    Redirect,
    RouterSolicitation,
)
from stack.ipv6.nd_options import ndisc_fill_addr_option, opt_nonce, opt_redirected_header
from stack.ipv6.route import ip6_route_output
from stack.ipv6.rt6_info import icmp6_dst_alloc, rt6_info
from stack.ipv6.saddr import ipv6_dev_get_saddr, ipv6_get_lladdr

ND_HOP_LIMIT = 255


def ndisc_send_skb(
    dev: net_device,
    message: bytes,
    daddr: wide,
    saddr: wide,
    *,
    options: bytes = b"",
    hop_limit: int = ND_HOP_LIMIT,
    loops: bool = False,
    dst: rt6_info | None = None,
) -> int:
    """net/ipv6/ndisc.c: send an ICMPv6 message. 0 or a negative errno.

    Without `dst` no route is looked up. `message` is complete except for its checksum. `options`
    are extension headers that begin with hop-by-hop options (MLD's router alert). `loops`: our own
    sockets in the group get it too.
    """
    net = dev.net
    idev: inet6_dev | None = dev.ip6_ptr
    size = len(message) + len(options)
    pool = net.skb_small if size <= 1280 else net.skb_pages
    skb = alloc_skb(pool, size, dev.hard_header_len + dev.needed_headroom + IPV6_HLEN + 16)
    if skb is None:
        return -errno.ENOMEM
    data = bytearray(message)
    acc = csum_partial(message, csum_ipv6_nofold(saddr, daddr, len(data), IPPROTO_ICMPV6))
    data[2:4] = csum_fold(acc).to_bytes(2, "big")
    if options:
        skb_put_data(skb, options)
    skb_put_data(skb, data)
    skb_set_transport_header(skb, len(options))
    skb.dev = dev
    skb.protocol = ETH_P_IPV6
    skb.priority = 7  # TC_PRIO_CONTROL
    skb.dst = icmp6_dst_alloc(dev, daddr) if dst is None else dst
    nexthdr = 0 if options else IPPROTO_ICMPV6
    tclass = idev.cnf.ndisc_tclass if idev is not None else 0
    ipv6_push(skb, tclass, 0, size, nexthdr, hop_limit, saddr, daddr)
    mib = net.mib
    mib.ip6.OutRequests += 1
    err = ip6_local_out(net, None if loops else net.ipv6.ndisc_sk, skb)
    if not err:
        mib.icmp6msg.outtype[data[0]] = mib.icmp6msg.outtype.get(data[0], 0) + 1
        mib.icmp6.OutMsgs += 1
    return err


def ndisc_send_ns(
    dev: net_device, solicit: wide, daddr: wide, saddr: wide | None, nonce: bytes = b""
) -> None:
    """net/ipv6/ndisc.c: solicit `solicit`; `saddr` None: our link-local address, 0: :: (DAD)."""
    if saddr is None:
        saddr = ipv6_get_lladdr(dev, if_inet6.IFA_F_TENTATIVE | if_inet6.IFA_F_OPTIMISTIC)
        if saddr is None:
            return
    options = b""
    # RFC 4861 4.3: the option is not allowed with source ::.
    if dev.addr_len and saddr != IN6ADDR_ANY:
        options += ndisc_fill_addr_option(nd_options.ND_OPT_SOURCE_LL_ADDR, dev.dev_addr)
    if nonce:
        options += opt_nonce(nonce)
    ndisc_send_skb(dev, NeighbourSolicitation(solicit).pack(options), daddr, saddr)


def ndisc_send_na(
    dev: net_device,
    daddr: wide,
    solicited_addr: wide,
    router: bool,
    solicited: bool,
    override: bool,
    inc_opt: bool,
) -> None:
    """net/ipv6/ndisc.c: send a neighbour advertisement of `solicited_addr` to `daddr`."""
    ifp = ipv6_get_ifaddr(dev.net, solicited_addr, dev, True)
    if ifp is not None:
        src_addr = solicited_addr
        if ifp.flags & if_inet6.IFA_F_OPTIMISTIC:
            override = False  # RFC 4429 3.3: neighbours keep the entries that they have
        inc_opt = inc_opt or bool(ifp.idev.cnf.force_tllao)
    else:  # an anycast or proxied address cannot be the source
        src_addr = ipv6_dev_get_saddr(dev.net, dev, daddr)
        if not src_addr:
            return
    options = b""
    if inc_opt and dev.addr_len:
        options = ndisc_fill_addr_option(nd_options.ND_OPT_TARGET_LL_ADDR, dev.dev_addr)
    message = NeighbourAdvertisement(solicited_addr, router, solicited, override)
    ndisc_send_skb(dev, message.pack(options), daddr, src_addr)


def ndisc_send_unsol_na(dev: net_device) -> None:
    """net/ipv6/ndisc.c: send unsolicited advertisements of all usable addresses."""
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None:
        return
    for ifa in tuple(idev.addr_list):
        if ifa.flags & if_inet6.IFA_F_TENTATIVE and not ifa.flags & if_inet6.IFA_F_OPTIMISTIC:
            continue
        router = bool(idev.cnf.forwarding)
        ndisc_send_na(dev, IN6ADDR_LINKLOCAL_ALLNODES, ifa.addr, router, False, True, True)


def ndisc_send_rs(dev: net_device, saddr: wide, daddr: wide) -> None:
    """net/ipv6/ndisc.c: send a router solicitation.

    From an optimistic address it has no source link-layer address option (RFC 4429 2.2).
    """
    options = b""
    if dev.addr_len and saddr != IN6ADDR_ANY:
        ifp = ipv6_get_ifaddr(dev.net, saddr, dev, True)
        if ifp is not None and not ifp.flags & if_inet6.IFA_F_OPTIMISTIC:
            options = ndisc_fill_addr_option(nd_options.ND_OPT_SOURCE_LL_ADDR, dev.dev_addr)
    ndisc_send_skb(dev, RouterSolicitation().pack(options), daddr, saddr)


def ndisc_send_redirect(skb: sk_buff, target: wide) -> None:
    """net/ipv6/ndisc.c: tell skb's sender that `target` is the better first hop (RFC 4861 8.2).

    Only a neighbour gets one, at most one a second once it has got six. Borrows skb, data at or
    behind its IPv6 header.
    """
    dev: net_device = skb.dev
    idev: inet6_dev | None = dev.ip6_ptr
    saddr = ipv6_get_lladdr(dev)
    if idev is None or saddr is None:
        return
    iph = ipv6_hdr(skb)
    dest, sender = iph.daddr, iph.saddr
    if dest != target and ipv6_addr_type(target) != IPV6_ADDR_UNICAST | IPV6_ADDR_LINKLOCAL:
        return
    rt = ip6_route_output(dev.net, None, flowi(AF_INET6, sender, saddr, dev.ifindex))
    if (
        rt.error
        or rt.rt6i_flags & RTF_GATEWAY
        or not inet_peer_xrlim_allow(
            dev.net, inet_getpeer(dev.net, dev.net.ipv6.peers, sender), NSEC_PER_SEC
        )
    ):
        return  # not a neighbour, or told too often
    options = b""
    if dev.addr_len:
        neigh = ip_neigh_gw6(dev, target)
        if neigh is None:
            return
        if neigh.nud_state & NUD_VALID:
            options = ndisc_fill_addr_option(nd_options.ND_OPT_TARGET_LL_ADDR, neigh.ha)
    start = skb_network_offset(skb)
    room = IPV6_MIN_MTU - IPV6_HLEN - RD_LEN - len(options) - 8
    quoted = skb_copy_bits(skb, start, min(room, skb.len - start))
    message = Redirect(target, dest).pack(options + opt_redirected_header(quoted))
    ndisc_send_skb(dev, message, sender, saddr, dst=rt)
