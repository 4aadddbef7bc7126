"""Routing decisions: from flows and received headers to cached rtables; path MTU and redirects.

net/ipv4/route.c, include/net/route.h.

Lookups raise OSError (EINVAL, ENETUNREACH, EHOSTUNREACH, EACCES, ENODEV) where the kernel returns
an error pointer. Output routes are cached by flow (`net.ipv4.rt_cache_out`), input routes by our
own address (`rth_input`, `rth_checked`; route_input.py). A change of tables, addresses, devices or
path MTU marks cached routes obsolete, so that a socket's `sk_dst_check` looks again.
"""

from __future__ import annotations

import errno
import logging

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import icmp_hdr, ip_hdr, iphdr_at
from stack.core import uapi
from stack.core.dst import (
    DST_NOXFRM,
    DST_OBSOLETE_KILL,
    RTAX_LOCK_MTU,
    dst_entry,
    dst_metric_locked,
    dst_ops,
)
from stack.core.errors import os_error
from stack.core.fib_rules import LOOPBACK_IFINDEX
from stack.core.l3mdev import IFF_L3MDEV, l3mdev_master_dev, netif_is_l3_master
from stack.core.neigh_table import neigh_key
from stack.core.neighbour import neigh_confirm
from stack.core.netdevice import IFF_LOOPBACK, IFF_UP, net_device
from stack.core.rows import narrow, row, state, wide
from stack.core.security import security_sk_classify_flow
from stack.core.sock import sk_dst_check, sk_dst_reset, sk_dst_set
from stack.core.sock_flags import SOCK_LOCALROUTE
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.core.uapi import AF_INET, INADDR_LOOPBACK, IPPROTO_IGMP
from stack.inet.flow import FLOWI_FLAG_ANYSRC, flowi
from stack.inet.icmp_limit import PEERS_MAX, inet_getpeer, inet_peer
from stack.inet.inet_sock import inet_sock
from stack.inet.ipmr_base import mr_routes, mr_table
from stack.inet.xfrm_policy import xfrm_lookup
from stack.ipv4 import fib, icmp_codes
from stack.ipv4.addr import (
    ipv4_is_lbcast,
    ipv4_is_local_multicast,
    ipv4_is_loopback,
    ipv4_is_multicast,
    ipv4_is_zeronet,
)
from stack.ipv4.devinet import in_device, inet_addr_onlink
from stack.ipv4.fib import IPTOS_RT_MASK as IPTOS_RT_MASK
from stack.ipv4.fib import (
    __fib_lookup,
    fib_flows_changed,
    fib_lookup,
    fib_result,
    fib_result_prefsrc,
    fib_select_path,
    inet_addr_type,
    inet_select_addr,
    ip_dev_find,
    netns_fib,
)
from stack.ipv4.mc_list import ip_check_mc_rcu
from stack.ipv4.netns import in_dev_conf, in_dev_rx_redirects
from stack.ipv4.rt_cache import RT_CACHE_MAX, rt_cache_flush, rt_flush_exceptions, rt_kill_daddr
from stack.net import Net

log = logging.getLogger(__name__)

RTCF_DOREDIRECT = 0x01000000
RTCF_REDIRECTED = 0x00040000
RTCF_BROADCAST = 0x10000000
RTCF_MULTICAST = 0x20000000
RTCF_LOCAL = 0x80000000

IP_MAX_MTU = 0xFFFF
IP_RT_GC_TIMEOUT_NS = 300 * NSEC_PER_SEC
"""ip_rt_gc_timeout: the time for which a redirect is followed."""

IP_MF = 0x2000
IP_DF = 0x4000
IP_OFFSET = 0x1FFF


@state
class rtable(dst_entry):
    """struct rtable. `rt_src`, `rt_dst`: the addresses looked up (of an output: source chosen)."""

    rt_genid: int = row(0)
    rt_flags: int = row(0)
    rt_type: int = row(0)
    rt_is_input: bool = row(False)
    rt_iif: int = row(0)
    rt_pmtu: int = row(0)
    rt_mtu_locked: bool = row(False)
    rt_uses_gateway: bool = row(False)
    rt_gw4: int = row(0)
    rt_gw6: wide = row(0)
    rt_src: int = row(0)
    rt_dst: int = row(0)

    def __repr__(self) -> str:
        return (
            f"<rtable type={self.rt_type} dev={self.dev.name if self.dev else None} "
            f"dst={self.rt_dst:#x} src={self.rt_src:#x} gw={self.rt_gw4:#x}>"
        )


@state
class fib_nh_exception:
    """struct fib_nh_exception: what was learned by ICMP about a destination. Times in host ns."""

    fnhe_gw: int = row(0)
    fnhe_pmtu: int = row(0)
    fnhe_mtu_locked: bool = row(False)
    fnhe_expires: int = row(0)


# --- dst operations ------------------------------------------------------------------------


def ipv4_dst_check(dst: rtable, cookie: int) -> rtable | None:
    """net/ipv4/route.c: the route if it is still valid, else None (look it up again)."""
    if dst.obsolete == DST_OBSOLETE_KILL or rt_is_expired(dst):
        return None
    return dst


def rt_is_expired(rt: rtable) -> bool:
    """net/ipv4/route.c: whether a table changed since the route was made."""
    return rt.rt_genid != rt.net.ipv4.rt_genid


def ipv4_mtu(dst: rtable) -> int:
    """net/ipv4/route.c: path MTU: learned, else the route's, else the device's (at most 65535)."""
    return ip_dst_mtu_maybe_forward(dst, False)


def ip_dst_mtu_maybe_forward(dst: rtable, forwarding: bool) -> int:
    """include/net/ip.h: the path MTU, bytes; a learned one is not trusted when forwarding."""
    net = dst.net
    if not forwarding or dst.rt_mtu_locked or net.sysctl.ip_forward_use_pmtu:
        pmtu = dst.rt_pmtu
        if pmtu and net.clock.now_ns() < dst.expires:
            return pmtu
    mtu: int = dst.metrics.get("mtu", 0) if dst.metrics else 0
    if not mtu:
        mtu = dst.dev.mtu
        if dst.rt_mtu_locked and dst.rt_uses_gateway and mtu > 576:
            mtu = 576
    return mtu if mtu < IP_MAX_MTU else IP_MAX_MTU


def ipv4_default_advmss(dst: rtable) -> int:
    """net/ipv4/route.c: MSS to advertise when the route has none."""
    advmss: int = max(ipv4_mtu(dst) - 40, dst.net.sysctl.min_adv_mss)
    return min(advmss, IP_MAX_MTU - 40)


def ip4_dst_hoplimit(dst: dst_entry) -> int:
    """include/net/route.h: TTL of packets over this route."""
    return dst.metrics.get("hoplimit", 0) or dst.net.sysctl.ip_default_ttl


def ip_rt_update_pmtu(
    dst: rtable, sk: inet_sock, skb: sk_buff | None, mtu: int, confirm_neigh: bool = True
) -> None:
    """net/ipv4/route.c: dst_ops.update_pmtu."""
    __ip_rt_update_pmtu(dst, dst.rt_dst, mtu)


def ipv4_confirm_neigh(dst: rtable, daddr: wide) -> None:
    """net/ipv4/route.c: dst_ops.confirm_neigh."""
    n = dst.neigh
    if n is None and not dst.rt_gw6:
        n = dst.net.arp_tbl.hash.get(neigh_key(dst.dev, dst.rt_gw4 or daddr))
    if n is not None:
        neigh_confirm(n)


def ipv4_link_failure(skb: sk_buff) -> None:
    """net/ipv4/route.c: the neighbour did not answer: send ICMP host unreachable."""
    rt = skb.dst
    assert rt is not None
    rt.net.ipv4.steps.icmp_send(skb, icmp_codes.ICMP_DEST_UNREACH, icmp_codes.ICMP_HOST_UNREACH, 0)
    if isinstance(rt, rtable):
        rt.rt_pmtu = 0  # the path may have changed


ipv4_dst_ops = dst_ops(
    family=AF_INET,
    check=ipv4_dst_check,
    mtu=ipv4_mtu,
    default_advmss=ipv4_default_advmss,
    update_pmtu=ip_rt_update_pmtu,
    link_failure=ipv4_link_failure,
    confirm_neigh=ipv4_confirm_neigh,
)


# --- making and keeping rtables ------------------------------------------------------------


def rt_dst_alloc(dev: net_device, flags: int, rtype: int) -> rtable:
    """net/ipv4/route.c: make a route over `dev`, with its input and output functions."""
    rt = rtable(dev, ipv4_dst_ops)
    ipv4 = rt.net.ipv4
    steps = ipv4.steps
    rt.rt_genid = ipv4.rt_genid
    rt.rt_flags = flags
    rt.rt_type = rtype
    rt.output = steps.output
    in_dev: in_device | None = dev.ip_ptr
    if in_dev is not None and in_dev_conf(in_dev, "disable_xfrm"):
        rt.flags = DST_NOXFRM
    if flags & RTCF_LOCAL:
        rt.input = steps.local_deliver
    return rt


def rt_set_nexthop(rt: rtable, daddr: int, res: fib_result | None) -> None:
    """net/ipv4/route.c: set gateway, metrics and what was learned about `daddr`."""
    nh = res.nh if res is not None else None
    if nh is not None and nh.nh_gw and nh.nh_scope == uapi.RT_SCOPE_LINK:
        rt.rt_uses_gateway = True
        rt.rt_gw4 = nh.nh_gw
    elif nh is not None and nh.nh_gw6:
        rt.rt_uses_gateway = True
        rt.rt_gw6 = nh.nh_gw6
    if res is not None and res.fi.fib_metrics:
        rt.metrics = dict(res.fi.fib_metrics)
        rt.rt_mtu_locked = dst_metric_locked(rt, RTAX_LOCK_MTU)
    fnhe = find_exception(rt.net, daddr)
    if fnhe is not None:
        rt_bind_exception(rt, fnhe)


def find_exception(net: Net, daddr: int) -> fib_nh_exception | None:
    """net/ipv4/route.c: what was learned by ICMP about `daddr`; None when nothing, or expired."""
    fnhe = net.ipv4.fnhe.get(daddr)
    if fnhe is None:
        return None
    if fnhe.fnhe_expires and net.clock.now_ns() >= fnhe.fnhe_expires:
        del net.ipv4.fnhe[daddr]
        return None
    return fnhe


def rt_bind_exception(rt: rtable, fnhe: fib_nh_exception) -> None:
    """net/ipv4/route.c: apply learned path MTU and gateway."""
    rt.expires = fnhe.fnhe_expires
    if fnhe.fnhe_pmtu:
        rt.rt_pmtu = fnhe.fnhe_pmtu
        rt.rt_mtu_locked = fnhe.fnhe_mtu_locked
    if fnhe.fnhe_gw:
        rt.rt_flags |= RTCF_REDIRECTED
        rt.rt_uses_gateway = True
        rt.rt_gw4 = fnhe.fnhe_gw
        rt.rt_gw6 = 0


# --- output --------------------------------------------------------------------------------


def flowi4_init_output(
    fl4: flowi,
    oif: int,
    mark: int,
    tos: int,
    scope: int,
    proto: int,
    flags: int,
    daddr: int,
    saddr: int,
    dport: int,
    sport: int,
) -> None:
    """include/net/flow.h: fill `fl4` with the key of an output lookup, replacing all it had."""
    fl4.family = AF_INET
    fl4.flowi_oif = oif
    fl4.flowi_mark = mark
    fl4.flowi_tos = tos
    fl4.flowi_scope = scope
    fl4.flowi_proto = proto
    fl4.flowi_flags = flags
    fl4.daddr = daddr
    fl4.saddr = saddr
    fl4.fl_dport = dport
    fl4.fl_sport = sport
    fl4.flowlabel = 0
    fl4.ident = -1
    fl4.mp_hash = 0


def ip_route_output_flow(net: Net, fl4: flowi, sk: inet_sock | None = None) -> rtable:
    """net/ipv4/route.c: the route of a flow; fills fl4.saddr and fl4.flowi_oif.

    Raises: OSError EINVAL, ENETUNREACH, EHOSTUNREACH, EACCES, ENODEV; EPERM by a policy.
    """
    key: tuple[wide, ...] = (
        fl4.daddr,
        fl4.saddr,
        fl4.flowi_oif,
        fl4.flowi_tos & IPTOS_RT_MASK,
        fl4.flowi_scope,
        fl4.flowi_flags,
    )
    if net.ipv4.rt_by_flow:
        key += (fl4.flowi_mark, fl4.flowi_proto, fl4.fl_sport, fl4.fl_dport)
    if sk is not None and net.security is not None:
        security_sk_classify_flow(sk, fl4)
    rt: rtable
    cached: rtable | None = net.ipv4.rt_cache_out.get(key)
    if cached is not None and cached.expires and net.clock.now_ns() >= cached.expires:
        rt_kill_daddr(net, cached.rt_dst)
        cached = None
    if cached is None:
        rt = ip_route_output_key_hash(net, fl4, key)
    else:
        rt = cached
        fl4.saddr = rt.rt_src
        fl4.daddr = rt.rt_dst
        if not fl4.flowi_oif:
            fl4.flowi_oif = rt.dev.ifindex
    if not net.xfrm.nopolicy:
        rt = xfrm_lookup(net, fl4, rt, sk)  # perhaps a bundle
    return rt


def ip_route_output_key(net: Net, fl4: flowi) -> rtable:
    """include/net/route.h: ip_route_output_flow without a socket."""
    return ip_route_output_flow(net, fl4, None)


def ip_route_output(net: Net, daddr: int, saddr: int = 0, tos: int = 0, oif: int = 0) -> rtable:
    """include/net/route.h"""
    return ip_route_output_flow(net, flowi(AF_INET, daddr, saddr, oif, tos), None)


def ip_route_output_ports(
    net: Net,
    fl4: flowi,
    sk: inet_sock,
    daddr: int,
    saddr: int,
    dport: int,
    sport: int,
    proto: int,
    tos: int,
    oif: int,
) -> rtable:
    """include/net/route.h: fill `fl4` and look it up."""
    flowi4_init_output(
        fl4,
        oif,
        sk.sk_mark if sk is not None else 0,
        tos & IPTOS_RT_MASK,
        ip_sock_rt_scope(sk) if sk is not None else uapi.RT_SCOPE_UNIVERSE,
        proto,
        inet_sk_flowi_flags(sk) if sk is not None else 0,
        daddr,
        saddr,
        dport,
        sport,
    )
    return ip_route_output_flow(net, fl4, sk)


def ip_sock_rt_scope(sk: inet_sock) -> int:
    """include/net/route.h: SO_DONTROUTE limits a socket to its links."""
    return uapi.RT_SCOPE_LINK if sk.sk_flags & SOCK_LOCALROUTE else uapi.RT_SCOPE_UNIVERSE


def inet_sk_flowi_flags(sk: inet_sock) -> int:
    """include/net/inet_sock.h: IP_TRANSPARENT and IP_HDRINCL allow any source."""
    return FLOWI_FLAG_ANYSRC if sk.transparent or sk.hdrincl else 0


def ip_route_output_key_hash(net: Net, fl4: flowi, key: tuple[wide, ...] | None = None) -> rtable:
    """net/ipv4/route.c: look a flow up in the tables and cache the outcome. Raises: OSError."""
    dev_out: net_device | None = None
    flags = 0
    orig_oif = fl4.flowi_oif
    res: fib_result | None = None
    rtype = uapi.RTN_UNICAST
    daddr = narrow(fl4.daddr)
    saddr = narrow(fl4.saddr)
    make_route = False
    if saddr:
        if ipv4_is_multicast(saddr) or ipv4_is_lbcast(saddr) or ipv4_is_zeronet(saddr):
            raise os_error(errno.EINVAL, "source is not a host address")
        if not orig_oif and (ipv4_is_multicast(daddr) or ipv4_is_lbcast(daddr)):
            dev_out = ip_dev_find(net, saddr)
            if dev_out is None:
                raise os_error(errno.ENETUNREACH, "source is not an address of this host")
            fl4.flowi_oif = dev_out.ifindex
            make_route = True
        elif not fl4.flowi_flags & FLOWI_FLAG_ANYSRC and ip_dev_find(net, saddr) is None:
            raise os_error(errno.ENETUNREACH, "source is not an address of this host")
    if not make_route and fl4.flowi_oif:
        dev_out = net.dev_by_index.get(fl4.flowi_oif)
        if dev_out is None:
            raise os_error(errno.ENODEV, f"no device with index {fl4.flowi_oif}")
        if not dev_out.flags & IFF_UP or dev_out.ip_ptr is None:
            raise os_error(errno.ENETUNREACH, f"{dev_out.name} is down or has no IPv4")
        if (
            ipv4_is_local_multicast(daddr)
            or ipv4_is_lbcast(daddr)
            or fl4.flowi_proto == IPPROTO_IGMP
        ):
            if not saddr:
                saddr = inet_select_addr(dev_out, 0, uapi.RT_SCOPE_LINK)
            make_route = True
        elif not saddr:
            if ipv4_is_multicast(daddr):
                saddr = inet_select_addr(dev_out, 0, fl4.flowi_scope)
            elif not daddr:
                saddr = inet_select_addr(dev_out, 0, uapi.RT_SCOPE_HOST)
    if not make_route and not daddr:
        daddr = saddr or INADDR_LOOPBACK
        saddr = daddr
        dev_out = net.loopback_dev
        fl4.flowi_oif = dev_out.ifindex
        rtype = uapi.RTN_LOCAL
        flags |= RTCF_LOCAL
        make_route = True
    if not make_route:
        in_vrf = dev_out is not None and bool(dev_out.priv_flags & IFF_L3MDEV)
        oif = 0 if dev_out is not None and netif_is_l3_master(dev_out) else fl4.flowi_oif
        found = fib_lookup(net, daddr, fl4.flowi_tos & IPTOS_RT_MASK, fl4.flowi_scope, oif)
        if net.ipv4.rt_by_flow and found == -errno.ENETUNREACH:
            fl4.saddr, fl4.daddr = saddr, daddr
            found = __fib_lookup(net, fl4, LOOPBACK_IFINDEX)
        if found.__class__ is not fib_result:
            if not fl4.flowi_oif or dev_out is None or (in_vrf and not ipv4_is_multicast(daddr)):
                raise os_error(-found)  # type: ignore[operator]
            # No route, but the caller gave a device: treat the destination as on link.
            if not saddr:
                saddr = inet_select_addr(dev_out, 0, uapi.RT_SCOPE_LINK)
        else:
            res = found
            assert res is not None
            rtype = res.type
            if rtype == uapi.RTN_LOCAL:
                if not saddr:
                    saddr = res.fi.fib_prefsrc or daddr
                orig_oif = res.nh.nh_oif
                dev_out = ip_rt_get_dev(net, res)
                fl4.flowi_oif = dev_out.ifindex
                flags |= RTCF_LOCAL
            else:
                fl4.saddr, fl4.daddr, fl4.flowi_oif = saddr, daddr, oif
                fib_select_path(net, res, fl4)
                if not saddr:
                    saddr = fib_result_prefsrc(net, res)
                dev_out = res.nh.nh_dev
                fl4.flowi_oif = dev_out.ifindex
    fl4.saddr = saddr
    fl4.daddr = daddr
    assert dev_out is not None
    rt = __mkroute_output(res, fl4, orig_oif, dev_out, flags, rtype)
    if key is not None and rt.rt_type != uapi.RTN_MULTICAST:
        ipv4 = net.ipv4
        if len(ipv4.rt_cache_out) >= RT_CACHE_MAX:
            rt_cache_flush(net)
            rt.rt_genid = ipv4.rt_genid
        ipv4.rt_cache_out[key] = rt
        ipv4.rt_by_daddr.setdefault(daddr, []).append(key)
    return rt


def ip_rt_get_dev(net: Net, res: fib_result) -> net_device:
    """net/ipv4/route.c: the device of packets to ourselves: that of the VRF, or lo."""
    return l3mdev_master_dev(res.nh.nh_dev) or net.loopback_dev


def __mkroute_output(
    res: fib_result | None, fl4: flowi, orig_oif: int, dev_out: net_device, flags: int, rtype: int
) -> rtable:
    """net/ipv4/route.c: the rtable of a successful output lookup. Raises: OSError EINVAL."""
    in_dev = dev_out.ip_ptr
    if in_dev is None:
        raise os_error(errno.EINVAL, f"{dev_out.name} has no IPv4")
    daddr = narrow(fl4.daddr)
    loopback = bool(dev_out.flags & IFF_LOOPBACK) or netif_is_l3_master(dev_out)
    if (
        ipv4_is_loopback(narrow(fl4.saddr))
        and not loopback
        and not in_dev_conf(in_dev, "route_localnet")
    ):
        raise os_error(errno.EINVAL, "a loopback source cannot leave the host")
    if ipv4_is_lbcast(daddr):
        rtype = uapi.RTN_BROADCAST
    elif ipv4_is_multicast(daddr):
        rtype = uapi.RTN_MULTICAST
    elif ipv4_is_zeronet(daddr):
        raise os_error(errno.EINVAL, "destination 0.0.0.0/8 is not routable")
    if dev_out.flags & IFF_LOOPBACK:
        flags |= RTCF_LOCAL
    if rtype == uapi.RTN_BROADCAST:
        flags |= RTCF_BROADCAST | RTCF_LOCAL
        res = None
    elif rtype == uapi.RTN_MULTICAST:
        flags |= RTCF_MULTICAST | RTCF_LOCAL
        if not ip_check_mc_rcu(in_dev, daddr, narrow(fl4.saddr), fl4.flowi_proto):
            flags &= ~RTCF_LOCAL
        # Do not send multicast packets to the gateway of a default route.
        if res is not None and res.prefixlen < 4:
            res = None
    rt = rt_dst_alloc(dev_out, flags, rtype)
    ipv4 = dev_out.net.ipv4
    ipv4.out_slow_tot += 1
    rt.rt_iif = orig_oif
    if (
        flags & (RTCF_BROADCAST | RTCF_MULTICAST)
        and flags & RTCF_LOCAL
        and not dev_out.flags & IFF_LOOPBACK
    ):
        rt.output = ipv4.steps.mc_output
        ipv4.out_slow_mc += 1
    if ipv4.mrt is not None and rtype == uapi.RTN_MULTICAST and ip_mforward(dev_out, daddr):
        rt.input = ipv4.mrt.ops.input  # this host's own packets are routed, too
        rt.output = ipv4.steps.mc_output
    rt_set_nexthop(rt, daddr, res)
    rt.rt_src = narrow(fl4.saddr)
    rt.rt_dst = daddr
    return rt


def ip_mforward(dev: net_device, daddr: int) -> bool:
    """include/linux/inetdevice.h IN_DEV_MFORWARD: whether packets to a group are forwarded."""
    mrt: mr_table | None = dev.net.ipv4.mrt
    return mrt is not None and not ipv4_is_local_multicast(daddr) and mr_routes(mrt, dev)


def ip_route_connect(
    fl4: flowi,
    dst: int,
    src: int,
    oif: int,
    protocol: int,
    sport: int,
    dport: int,
    sk: inet_sock,
) -> rtable:
    """include/net/route.h: fill `fl4` for a connect and look it up.

    Without `dst` or `src` a first lookup chooses them, and a second uses them.

    Raises: OSError as ip_route_output_flow.
    """
    flowi4_init_output(
        fl4,
        oif,
        sk.sk_mark,
        sk.tos & IPTOS_RT_MASK,
        ip_sock_rt_scope(sk),
        protocol,
        inet_sk_flowi_flags(sk),
        dst,
        src,
        dport,
        sport,
    )
    net = sk.net
    if not dst or not src:
        ip_route_output_flow(net, fl4, sk)
        fl4.flowi_oif = oif
    return ip_route_output_flow(net, fl4, sk)


def ip_route_newports(
    fl4: flowi, rt: rtable, orig_sport: int, orig_dport: int, sport: int, dport: int, sk: inet_sock
) -> rtable:
    """include/net/route.h: look the route up again if the ports differ from the first lookup's."""
    if sport != orig_sport or dport != orig_dport:
        fl4.fl_dport = dport
        fl4.fl_sport = sport
        fl4.flowi_oif = sk.sk_bound_dev_if
        return ip_route_output_flow(sk.net, fl4, sk)
    return rt


IP_TOS2PRIO = (0, 1, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4)
"""net/ipv4/route.c ip_tos2prio: the priority of a packet, by the TOS field without its bit 0."""


def rt_tos2priority(tos: int) -> int:
    """include/net/route.h: packet priority from the TOS field."""
    return IP_TOS2PRIO[tos >> 1 & 15]


# --- per-peer rate limits (net/ipv4/inetpeer.c) --------------------------------------------


def inet_getpeer_v4(net: Net, addr: int) -> inet_peer:
    """include/net/inetpeer.h: the peer record of `addr`."""
    return inet_getpeer(net, net.ipv4.peers, addr)


# --- what is learned by ICMP ---------------------------------------------------------------


def __ip_rt_update_pmtu(rt: rtable, daddr: int, mtu: int) -> None:
    """net/ipv4/route.c: store a smaller path MTU (RFC 1191) for sysctl mtu_expires seconds.

    An MTU below min_pmtu is stored as min_pmtu and locked: packets are then sent without DF.
    """
    net = rt.net
    sysctl = net.sysctl
    old_mtu = ipv4_mtu(rt)
    if old_mtu < mtu or dst_metric_locked(rt, RTAX_LOCK_MTU):
        return
    lock = False
    if mtu < sysctl.min_pmtu:
        lock = True
        mtu = min(old_mtu, sysctl.min_pmtu)
    expires_ns = sysctl.mtu_expires * NSEC_PER_SEC
    now = net.clock.now_ns()
    if rt.rt_pmtu == mtu and not lock and now < rt.expires - expires_ns // 2:
        return
    fnhe = update_or_create_fnhe(net, daddr)
    fnhe.fnhe_pmtu = mtu
    fnhe.fnhe_mtu_locked = lock
    fnhe.fnhe_expires = now + expires_ns
    rt_kill_daddr(net, daddr)
    if rt.obsolete == 0:
        rt.obsolete = DST_OBSOLETE_KILL


def update_or_create_fnhe(net: Net, daddr: int) -> fib_nh_exception:
    """net/ipv4/route.c: the exception record of `daddr`; the table is bounded."""
    table = net.ipv4.fnhe
    fnhe = table.get(daddr)
    if fnhe is None:
        if len(table) >= PEERS_MAX:
            del table[next(iter(table))]
        fnhe = table[daddr] = fib_nh_exception()
    return fnhe


def ipv4_update_pmtu(skb: sk_buff, net: Net, mtu: int, oif: int, protocol: int) -> None:
    """net/ipv4/route.c: store the MTU of an ICMP error; skb data at the embedded header."""
    iph = iphdr_at(skb, 0)
    fl4 = flowi(AF_INET, iph.daddr, 0, oif, iph.tos & IPTOS_RT_MASK, protocol)
    try:
        rt = ip_route_output_flow(net, fl4, None)
    except OSError:
        return
    __ip_rt_update_pmtu(rt, narrow(fl4.daddr), mtu)


def ipv4_sk_update_pmtu(skb: sk_buff, sk: inet_sock, mtu: int) -> None:
    """net/ipv4/route.c: ipv4_update_pmtu for a socket, whose cached route is renewed."""
    net = sk.net
    odst = sk_dst_check(sk, 0)
    if sk.sk_lock_owned or odst is None:
        ipv4_update_pmtu(skb, net, mtu, sk.sk_bound_dev_if, sk.sk_protocol)
        return
    __ip_rt_update_pmtu(odst, iphdr_at(skb, 0).daddr, mtu)
    if sk_dst_check(sk, 0) is None and odst.rt_dst:
        fl4 = flowi(
            AF_INET, odst.rt_dst, 0, sk.sk_bound_dev_if, sk.tos & IPTOS_RT_MASK, sk.sk_protocol
        )
        try:
            sk_dst_set(sk, ip_route_output_flow(net, fl4, sk))
        except OSError:
            sk_dst_reset(sk)


def ipv4_redirect(skb: sk_buff, net: Net, oif: int, protocol: int) -> None:
    """net/ipv4/route.c: follow an ICMP redirect; skb data at the embedded header."""
    iph = iphdr_at(skb, 0)
    fl4 = flowi(AF_INET, iph.daddr, 0, oif, iph.tos & IPTOS_RT_MASK, protocol)
    try:
        rt = ip_route_output_flow(net, fl4, None)
    except OSError:
        return
    __ip_do_redirect(rt, skb, fl4)


def ipv4_sk_redirect(skb: sk_buff, sk: inet_sock) -> None:
    """net/ipv4/route.c: ipv4_redirect for a socket."""
    ipv4_redirect(skb, sk.net, sk.sk_bound_dev_if, sk.sk_protocol)


def __ip_do_redirect(rt: rtable, skb: sk_buff, fl4: flowi) -> None:
    """net/ipv4/route.c: follow a redirect to a better first hop (RFC 1122 3.2.2.2).

    It must come from the current gateway and name one on our link.
    """
    net = rt.net
    dev = skb.dev
    in_dev = dev.ip_ptr
    new_gw = icmp_hdr(skb).gateway
    old_gw = ip_hdr(skb).saddr
    if in_dev is None or rt.rt_gw4 != old_gw or new_gw == old_gw:
        return
    if (
        not in_dev_rx_redirects(in_dev)
        or ipv4_is_multicast(new_gw)
        or ipv4_is_lbcast(new_gw)
        or ipv4_is_zeronet(new_gw)
    ):
        return
    if not in_dev_conf(in_dev, "shared_media"):
        if not inet_addr_onlink(in_dev, new_gw, old_gw):
            return
    elif inet_addr_type(net, new_gw) != uapi.RTN_UNICAST:
        return
    if in_dev_conf(in_dev, "secure_redirects") and not inet_addr_onlink(in_dev, new_gw, 0):
        return
    fnhe = update_or_create_fnhe(net, narrow(fl4.daddr))
    fnhe.fnhe_gw = new_gw
    fnhe.fnhe_expires = net.clock.now_ns() + IP_RT_GC_TIMEOUT_NS
    rt_kill_daddr(net, narrow(fl4.daddr))
    rt.obsolete = DST_OBSOLETE_KILL


def ip_rt_send_redirect(skb: sk_buff) -> None:
    """net/ipv4/route.c: tell the sender of a better first hop, with exponential back-off."""
    rt = skb.dst
    net = rt.net
    in_dev = rt.dev.ip_ptr
    if in_dev is None or not in_dev_conf(in_dev, "send_redirects"):
        return
    iph = ip_hdr(skb)
    peer = inet_getpeer_v4(net, iph.saddr)
    sysctl = net.sysctl
    now = net.clock.now_ns()
    if now > peer.rate_last + sysctl.redirect_silence * NSEC_PER_MSEC:
        peer.rate_tokens = 0
        peer.n_redirects = 0
    if peer.n_redirects >= sysctl.redirect_number:
        peer.rate_last = now
        return
    load_ns = sysctl.redirect_load * NSEC_PER_MSEC
    if peer.n_redirects == 0 or now > peer.rate_last + (load_ns << peer.n_redirects):
        net.ipv4.steps.icmp_send(
            skb, icmp_codes.ICMP_REDIRECT, icmp_codes.ICMP_REDIR_HOST, rt.rt_gw4 or iph.daddr
        )
        peer.rate_last = now
        peer.n_redirects += 1


def ip_rt_get_source(skb: sk_buff, rt: rtable) -> int:
    """net/ipv4/route.c: our address for route-recording options: the source that a route names."""
    iph = ip_hdr(skb)
    if not rt.rt_is_input:
        return iph.saddr
    net, oif, tos = rt.net, rt.dev.ifindex, iph.tos & IPTOS_RT_MASK
    res = fib_lookup(net, iph.daddr, tos, uapi.RT_SCOPE_UNIVERSE, oif)
    if isinstance(res, fib_result):
        return fib_result_prefsrc(net, res)
    return inet_select_addr(rt.dev, rt.rt_gw4 or iph.daddr, uapi.RT_SCOPE_UNIVERSE)


ROUTE_SYSCTLS = (
    *("ip_default_ttl", "min_adv_mss"),
    *("fib_multipath_hash_fields", "fib_multipath_hash_seed", "fib_multipath_use_neigh"),
)
"""Cached routes depend on these and on net.ipv4.conf, so a write makes them obsolete."""


def ip_rt_init(net: Net) -> None:
    """net/ipv4/route.c: set up routing in a namespace."""
    net.fib = netns_fib(net)
    net.xfrm.changed.append(lambda: rt_cache_flush(net))
    net.ipv4.own_addresses = net.fib.tables[fib.RT_TABLE_LOCAL].maps[32]

    for name in ROUTE_SYSCTLS:
        net.sysctl.on_write(name, lambda _: rt_cache_flush(net), now=False)
    net.sysctl.on_write("flush", lambda _: rt_flush_exceptions(net), now=False)
    net.sysctl.on_write(
        "fib_multipath_hash_policy", lambda policy: fib_flows_changed(net, policy), now=False
    )
