"""Routes of received packets: local, to be forwarded, or martians (net/ipv4/route.c).

ip_rcv_finish calls ip_route_input for each packet without an early-demultiplexed route:

    ip_route_input                      the usual packet to us: rth_find in `rth_input`
        ip_route_input_noref            the other caches: loopback, next hops of forwarded packets
            ip_route_input_mc           to a group that we are a member of
            ip_route_input_slow         fib_lookup decides:
                martian_source, martian_destination         impossible addresses: count, log
                fib_validate_source     is the source valid on this interface? (sysctl rp_filter)
                ip_mkroute_input        to be forwarded: route over the next hop
                ip_route_input_none     no route: ip_error becomes the input function

Functions return 0, with the route in `skb.dst`, or a drop reason. As in Linux only routes that
depend on the destination alone are cached, with its next hop: a spoofer could fill a cache with a
route per source. State: `net.ipv4.rth_input` and `rth_checked` by local address, `nh_rth_input` in
each next hop. source_is_usual decides which one may be used. Read ip_route_input_slow first.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from fastpath.base.skbuff import (
    sk_buff,
    skb_copy_bits,
    skb_mac_header_was_set,
    skb_mac_offset,
    skb_network_offset,
)
from fastpath.net.hdr import ip_hdr
from fastpath.net.inet import rth_find, rth_key
from stack.core import drop_reason, uapi
from stack.core.drop_reason import kfree_skb_reason
from stack.core.fib_rules import LOOPBACK_IFINDEX
from stack.core.l3mdev import IFF_L3MDEV, l3mdev_master_dev, l3mdev_master_ifindex
from stack.core.netdevice import ETH_P_IP, IFF_LOOPBACK, NET_RX_DROP, net_device
from stack.core.ratelimit import net_ratelimit
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import AF_INET, IPPROTO_IGMP, IPPROTO_TCP, IPPROTO_UDP
from stack.inet.flow import flowi
from stack.inet.icmp_limit import inet_peer_xrlim_allow
from stack.inet.ipmr_base import mr_table
from stack.ipv4 import fib, icmp_codes, route
from stack.ipv4.addr import (
    ipv4_is_lbcast,
    ipv4_is_local_multicast,
    ipv4_is_loopback,
    ipv4_is_multicast,
    ipv4_is_zeronet,
)
from stack.ipv4.devinet import in_device, inet_addr_onlink
from stack.ipv4.fib import (
    __fib_lookup,
    fib_alias,
    fib_info_nh_uses_dev,
    fib_lookup,
    fib_result,
    fib_select_path,
    format_addr,
    inet_addr_type,
)
from stack.ipv4.mc_list import ip_check_mc_rcu
from stack.ipv4.netns import in_dev_conf, in_dev_forward
from stack.ipv4.route import (
    find_exception,
    inet_getpeer_v4,
    ip_mforward,
    ip_rt_get_dev,
    log,
    rt_dst_alloc,
    rt_set_nexthop,
    rtable,
)

if TYPE_CHECKING:
    from fastpath.base.intmap import IntMap
    from stack.core.sock import sock
    from stack.net import Net


WITH_PORTS = (IPPROTO_TCP, IPPROTO_UDP)


def ip_route_input(skb: sk_buff, daddr: int, saddr: int, tos: int, dev: net_device) -> int:
    """net/ipv4/route.c: set skb.dst for a received packet. 0 or a drop reason. Borrows skb.

    For a unicast packet to one of our addresses the address has a cached route. The source is
    checked for each packet, as in Linux.
    """
    ipv4 = dev.net.ipv4
    rt = rth_find(ipv4.rth_input, ipv4.own_addresses, daddr, saddr, tos, dev.ifindex)
    if rt is not None:
        skb.dst = rt
        return 0
    return ip_route_input_noref(skb, daddr, saddr, tos, dev)


def ip_route_input_noref(skb: sk_buff, daddr: int, saddr: int, tos: int, dev: net_device) -> int:
    """net/ipv4/route.c: ip_route_input for packets without a route in `rth_input`."""
    if dev.flags & IFF_LOOPBACK and 0 < saddr >> 24 < 224:  # looped back; any source is valid
        rt = dev.net.ipv4.rth_checked.find(rth_key(daddr, tos, dev.ifindex))
        if rt is not None:
            skb.dst = rt
            return 0
    # A packet to be forwarded: its next hop may have a cached route. It has one only if the source
    # needs no further check and no redirect can be due; groups and broadcasts have none.
    net = dev.net
    ipv4 = net.ipv4
    top = saddr >> 24
    to = daddr >> 24
    if (
        ipv4.rth_forwards
        and 0 < top < 224
        and top != 127
        and 0 < to < 224
        and to != 127
        and saddr not in ipv4.own_addresses
    ):
        res = fib_lookup(net, daddr, tos & route.IPTOS_RT_MASK)
        if res.__class__ is fib_result and len(res.fi.fib_nh) == 1:
            rth = res.nh.nh_rth_input.get(dev.ifindex)
            if rth is not None and rth.rt_genid == ipv4.rt_genid and daddr not in ipv4.fnhe:
                skb.dst = rth
                return 0
    if ipv4_is_multicast(daddr):
        in_dev = dev.ip_ptr
        if in_dev is None:
            return drop_reason.SKB_DROP_REASON_IP_INADDRERRORS
        proto = ip_hdr(skb).protocol if skb.protocol == ETH_P_IP else 0
        our = ip_check_mc_rcu(in_dev, daddr, saddr, proto)
        if not our and (master := l3mdev_master_dev(dev)) is not None:
            of_master = master.ip_ptr
            our = of_master is not None and ip_check_mc_rcu(of_master, daddr, saddr, proto)
        if not our and (net.ipv4.mrt is None or not ip_mforward(dev, daddr)):
            return drop_reason.SKB_DROP_REASON_IP_INADDRERRORS
        return ip_route_input_mc(skb, daddr, saddr, tos, dev, our)
    return ip_route_input_slow(skb, daddr, saddr, tos, dev)


def ip_route_input_mc(
    skb: sk_buff, daddr: int, saddr: int, tos: int, dev: net_device, our: bool
) -> int:
    """net/ipv4/route.c: route a packet to a group, of which this host is a member if `our`."""
    if ipv4_is_multicast(saddr) or ipv4_is_lbcast(saddr) or skb.protocol != ETH_P_IP:
        return drop_reason.SKB_DROP_REASON_IP_INVALID_SOURCE
    in_dev = dev.ip_ptr
    assert in_dev is not None
    if ipv4_is_loopback(saddr) and not (
        dev.flags & IFF_LOOPBACK or in_dev_conf(in_dev, "route_localnet")
    ):
        return drop_reason.SKB_DROP_REASON_IP_LOCALNET
    if ipv4_is_zeronet(saddr):
        if not ipv4_is_local_multicast(daddr) and ip_hdr(skb).protocol != IPPROTO_IGMP:
            return drop_reason.SKB_DROP_REASON_IP_INVALID_SOURCE
    else:
        err = fib_validate_source(skb, saddr, 0, tos, 0, dev, in_dev)
        if err < 0:
            return source_reason(err)
    flags = route.RTCF_MULTICAST | (route.RTCF_LOCAL if our else 0)
    rt = rt_dst_alloc(dev, flags, uapi.RTN_MULTICAST)
    rt.output = ip_rt_bug
    mrt: mr_table | None = dev.net.ipv4.mrt
    if mrt is not None and ip_mforward(dev, daddr):
        rt.input = mrt.ops.input
    rt.rt_is_input = True
    rt.rt_iif = dev.ifindex
    rt.rt_src, rt.rt_dst = saddr, daddr
    dev.net.ipv4.in_slow_mc += 1
    skb.dst = rt
    return 0


def ip_route_input_slow(skb: sk_buff, daddr: int, saddr: int, tos: int, dev: net_device) -> int:
    """net/ipv4/route.c: classify a unicast or broadcast packet; 0 or a drop reason."""
    net = dev.net
    in_dev = dev.ip_ptr
    if in_dev is None:
        return drop_reason.SKB_DROP_REASON_IP_INADDRERRORS
    loopback = dev.flags & IFF_LOOPBACK
    if ipv4_is_multicast(saddr) or ipv4_is_lbcast(saddr):
        return martian_source(skb, dev, daddr, saddr, drop_reason.SKB_DROP_REASON_IP_INVALID_SOURCE)
    broadcast = ipv4_is_lbcast(daddr) or (saddr == 0 and daddr == 0)
    res: fib_result | None = None
    by_rule = False
    if not broadcast:
        if ipv4_is_zeronet(saddr):
            return martian_source(
                skb, dev, daddr, saddr, drop_reason.SKB_DROP_REASON_IP_INVALID_SOURCE
            )
        if ipv4_is_zeronet(daddr):
            return martian_destination(dev, daddr, saddr)
        if not loopback and not in_dev_conf(in_dev, "route_localnet"):
            if ipv4_is_loopback(daddr):
                return martian_destination(dev, daddr, saddr)
            if ipv4_is_loopback(saddr):
                return martian_source(
                    skb, dev, daddr, saddr, drop_reason.SKB_DROP_REASON_IP_LOCALNET
                )
        found = fib_lookup(net, daddr, tos & route.IPTOS_RT_MASK)
        if net.ipv4.rt_by_flow and found == -errno.ENETUNREACH:
            by_rule = True
            found = __fib_lookup(net, input_flow(skb, daddr, saddr, tos), dev.ifindex)
        if not isinstance(found, fib_result):
            err = -found if in_dev_forward(in_dev) else errno.EHOSTUNREACH
            return ip_route_input_none(skb, daddr, saddr, tos, dev, err)
        res = found
        if res.type == uapi.RTN_BROADCAST:
            broadcast = True
    if broadcast:
        if skb.protocol != ETH_P_IP:
            return drop_reason.SKB_DROP_REASON_IP_INVALID_DEST
        if not ipv4_is_zeronet(saddr):
            err = fib_validate_source(skb, saddr, 0, tos, 0, dev, in_dev)
            if err < 0:
                return martian_source(skb, dev, daddr, saddr, source_reason(err))
        if res is not None and in_dev_conf(in_dev, "bc_forwarding") and res.nh.nh_dev is not dev:
            # RFC 1812 5.3.5.2: a directed broadcast to another of our networks.
            return ip_mkroute_input(skb, res, in_dev, daddr, saddr, tos)
        flags, rtype = route.RTCF_BROADCAST | route.RTCF_LOCAL, uapi.RTN_BROADCAST
        net.ipv4.in_brd += 1
    elif res is not None and res.type == uapi.RTN_LOCAL:
        err = fib_validate_source(skb, saddr, daddr, tos, 0, dev, in_dev)
        if err < 0:
            return martian_source(skb, dev, daddr, saddr, source_reason(err))
        flags, rtype = route.RTCF_LOCAL, uapi.RTN_LOCAL
    else:
        if not in_dev_forward(in_dev):
            return ip_route_input_none(skb, daddr, saddr, tos, dev, errno.EHOSTUNREACH)
        if res is None or res.type != uapi.RTN_UNICAST:
            return martian_destination(dev, daddr, saddr)
        return ip_mkroute_input(skb, res, in_dev, daddr, saddr, tos)
    # Cache the route by local address, so that their number is limited.
    ipv4 = net.ipv4
    usual = rtype == uapi.RTN_LOCAL and source_is_usual(dev, in_dev)
    cache = ipv4.rth_input if usual else ipv4.rth_checked
    key = rth_key(daddr, tos, dev.ifindex)
    rt = cache.find(key) if not by_rule else None
    if rt is None:
        ipv4.in_slow_tot += 1
        out = ip_rt_get_dev(net, res) if by_rule and res is not None else net.loopback_dev
        rt = rt_dst_alloc(out, flags, rtype)
        rt.output = ip_rt_bug
        rt.rt_is_input = True
        rt.rt_iif = dev.ifindex
        if skb.protocol == ETH_P_IP and not by_rule:
            cache[key] = rt
    skb.dst = rt
    return 0


def input_flow(skb: sk_buff, daddr: int, saddr: int, tos: int) -> flowi:
    """net/ipv4/fib_rules.c fib4_rules_early_flow_dissect: a received packet's fields for rules."""
    fl4 = flowi(AF_INET, daddr, saddr, 0, tos, flowi_mark=skb.mark)
    if skb.protocol == ETH_P_IP:
        iph = ip_hdr(skb)
        fl4.flowi_proto = iph.protocol
        at = skb_network_offset(skb) + 4 * iph.ihl
        if iph.protocol in WITH_PORTS and not iph.frag_off & route.IP_OFFSET and skb.len >= at + 4:
            ports = skb_copy_bits(skb, at, 4)
            fl4.fl_sport = ports[0] << 8 | ports[1]
            fl4.fl_dport = ports[2] << 8 | ports[3]
    return fl4


def source_is_usual(dev: net_device, in_dev: in_device) -> bool:
    """Whether rth_find checks all that fib_validate_source would check for packets from `dev`."""
    net = dev.net
    if dev.flags & IFF_LOOPBACK or dev.priv_flags & IFF_L3MDEV:
        return False
    if in_dev_conf(in_dev, "rp_filter"):
        return False
    local = net.fib.tables[fib.RT_TABLE_LOCAL]
    return all(plen == 32 or not _foreign_local(local.maps[plen]) for plen in local.lens)


def _foreign_local(routes: IntMap[list[fib_alias]]) -> bool:
    """Whether there are local networks outside 127.0.0.0/8."""
    return any(not ipv4_is_loopback(dst) for dst in routes)


def ip_route_input_none(
    skb: sk_buff, daddr: int, saddr: int, tos: int, dev: net_device, err: int
) -> int:
    """net/ipv4/route.c (no_route): route the packet to ip_error, which may answer with ICMP."""
    net = dev.net
    net.ipv4.in_no_route += 1
    rt = rt_dst_alloc(net.loopback_dev, 0, uapi.RTN_UNREACHABLE)
    rt.output = ip_rt_bug
    rt.input = ip_error
    rt.error = err
    rt.rt_is_input = True
    rt.rt_iif = dev.ifindex
    skb.dst = rt
    return 0


def ip_mkroute_input(
    skb: sk_buff, res: fib_result, in_dev: in_device, daddr: int, saddr: int, tos: int
) -> int:
    """net/ipv4/route.c: route a packet that is to be forwarded. 0 or a drop reason."""
    dev = in_dev.dev
    net = dev.net
    fl4 = flowi(AF_INET, daddr, saddr, 0, tos & route.IPTOS_RT_MASK)
    fib_select_path(net, res, fl4, skb)
    nh = res.nh
    out_dev = nh.nh_dev
    out_in_dev = out_dev.ip_ptr
    if out_in_dev is None:
        return drop_reason.SKB_DROP_REASON_IP_INNOROUTES
    err = fib_validate_source(skb, saddr, daddr, tos, nh.nh_oif, dev, in_dev)
    if err < 0:
        return martian_source(skb, dev, daddr, saddr, source_reason(err))
    flags = 0
    if out_dev is dev and err and skb.protocol == ETH_P_IP:
        shared = in_dev_conf(out_in_dev, "shared_media")
        if in_dev_conf(out_in_dev, "send_redirects") and (
            shared or inet_addr_onlink(out_in_dev, saddr, nh.nh_gw)
        ):
            flags |= route.RTCF_DOREDIRECT
    # A learned exception is for one destination, and a redirect for one sender. Without either
    # the next hop may cache the route.
    own = bool(flags) or find_exception(net, daddr) is not None
    net.ipv4.in_slow_tot += 1
    rt = rt_dst_alloc(out_dev, flags, res.type)
    rt.input = net.ipv4.steps.forward
    rt.rt_is_input = True
    rt.rt_iif = dev.ifindex
    rt_set_nexthop(rt, daddr, res)
    if not own and out_dev is not dev and source_is_usual(dev, in_dev):
        nh.nh_rth_input[dev.ifindex] = rt
        net.ipv4.rth_forwards = True
    skb.dst = rt
    return 0


def source_reason(err: int) -> int:
    """The drop reason for an error of fib_validate_source."""
    if err == -errno.EXDEV:
        return drop_reason.SKB_DROP_REASON_IP_RPFILTER
    return drop_reason.SKB_DROP_REASON_IP_LOCAL_SOURCE


def martian_source(skb: sk_buff, dev: net_device, daddr: int, saddr: int, reason: int) -> int:
    """net/ipv4/route.c (ip_handle_martian_source): count, log, return the drop reason."""
    net = dev.net
    net.ipv4.in_martian_src += 1
    in_dev = dev.ip_ptr
    if in_dev is not None and in_dev_conf(in_dev, "log_martians") and net_ratelimit(net):
        to, of = format_addr(daddr), format_addr(saddr)
        log.warning("%s: IPv4: martian source %s from %s, on dev %s", net.name, to, of, dev.name)
        # RFC 1812 5.3.8: only the link-layer header can tell who sent the packet.
        if dev.hard_header_len and skb_mac_header_was_set(skb):
            header = skb_copy_bits(skb, skb_mac_offset(skb), dev.hard_header_len)
            log.warning("%s: ll header: 00000000: %s", net.name, header.hex(" "))
    return reason


def martian_destination(dev: net_device, daddr: int, saddr: int) -> int:
    """net/ipv4/route.c: count, log, return the drop reason."""
    net = dev.net
    net.ipv4.in_martian_dst += 1
    in_dev = dev.ip_ptr
    if in_dev is not None and in_dev_conf(in_dev, "log_martians") and net_ratelimit(net):
        to, of = format_addr(daddr), format_addr(saddr)
        log.warning("%s: IPv4: martian destination %s from %s, dev %s", net.name, to, of, dev.name)
    return drop_reason.SKB_DROP_REASON_IP_INVALID_DEST


def fib_validate_source(
    skb: sk_buff, src: int, dst: int, tos: int, oif: int, dev: net_device, idev: in_device
) -> int:
    """net/ipv4/fib_frontend.c: whether a packet from `src` is valid on `dev`.

    1: yes, and `src` is directly connected. 0: yes. -EINVAL: `src` is a local address. -EXDEV: the
    reverse path filter drops it (sysctl rp_filter: 1 strict, 2 loose; without an address as 1).
    """
    net = dev.net
    if dev.flags & IFF_LOOPBACK:
        return 0
    rpf = in_dev_conf(idev, "rp_filter")
    if rpf and net.xfrm.sec_path:
        rpf = 0  # a decrypted packet may arrive on another interface than its addresses suggest
    redirects = dev.ifindex == oif and in_dev_conf(idev, "send_redirects")
    if not rpf and not redirects and not dev.priv_flags & IFF_L3MDEV:
        # Of 127.0.0.0/8 only the addresses of lo are known to be local.
        own = inet_addr_type(net, src) == uapi.RTN_LOCAL and (
            not ipv4_is_loopback(src) or src in net.ipv4.own_addresses
        )
        if own and not in_dev_conf(idev, "accept_local"):
            return -errno.EINVAL
        return 0
    res = fib_lookup(net, src, tos & route.IPTOS_RT_MASK)
    if net.ipv4.rt_by_flow and res == -errno.ENETUNREACH:
        fl4 = input_flow(skb, src, dst, tos)  # the reverse path: ports swapped
        fl4.fl_sport, fl4.fl_dport = fl4.fl_dport, fl4.fl_sport
        if not in_dev_conf(idev, "src_valid_mark"):
            fl4.flowi_mark = 0
        res = __fib_lookup(net, fl4, oif or LOOPBACK_IFINDEX, l3mdev_master_ifindex(dev))
    if not isinstance(res, fib_result):
        return -errno.EXDEV if rpf else 0
    if res.type != uapi.RTN_UNICAST and (
        res.type != uapi.RTN_LOCAL or not in_dev_conf(idev, "accept_local")
    ):
        return -errno.EINVAL
    if fib_info_nh_uses_dev(res.fi, dev):
        return 1 if res.nh.nh_scope >= uapi.RT_SCOPE_HOST else 0
    if rpf == 1 or (rpf and not idev.ifa_list):
        return -errno.EXDEV
    return 0


def ip_rt_bug(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv4/route.c: drop output over an input route, which is a bug of the stack."""
    kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_INADDRERRORS)
    return 0


def ip_error(skb: sk_buff) -> int:
    """net/ipv4/route.c: drop a packet without a route; send an ICMP error if we forward.

    Takes ownership of skb.
    """
    rt: rtable = skb.dst
    dev = skb.dev
    net = dev.net
    in_dev = dev.ip_ptr
    if in_dev is not None and not in_dev_forward(in_dev):
        if rt.error == errno.EHOSTUNREACH:
            net.mib.ip.InAddrErrors += 1
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_INADDRERRORS)
            return NET_RX_DROP
        if rt.error == errno.ENETUNREACH:
            net.mib.ipext.InNoRoutes += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_INNOROUTES)
        return NET_RX_DROP
    code = {
        errno.EHOSTUNREACH: icmp_codes.ICMP_HOST_UNREACH,
        errno.ENETUNREACH: icmp_codes.ICMP_NET_UNREACH,
        errno.EACCES: icmp_codes.ICMP_PKT_FILTERED,
    }.get(rt.error)
    if code is not None:
        if rt.error == errno.ENETUNREACH:
            net.mib.ipext.InNoRoutes += 1
        sysctl = net.sysctl
        peer = inet_getpeer_v4(net, ip_hdr(skb).saddr)
        if inet_peer_xrlim_allow(
            net, peer, sysctl.error_cost * NSEC_PER_MSEC, sysctl.error_burst * NSEC_PER_MSEC
        ):
            net.ipv4.steps.icmp_send(skb, icmp_codes.ICMP_DEST_UNREACH, code, 0)
    kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_INNOROUTES)
    return NET_RX_DROP
