"""struct rt6_info: a routing decision for IPv6 packets, and exceptions of destinations.

net/ipv6/route.c, include/net/ip6_fib.h. All packets of a route share one rt6_info (the kernel's
per-CPU copy); a destination with a path MTU or a redirect has its own. The functions for dst.input
and dst.output depend on this module, so they are registered in net.ipv6.steps.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from stack.core import uapi
from stack.core.dst import (
    DST_OBSOLETE_FORCE_CHK,
    DST_OBSOLETE_KILL,
    dst_discard,
    dst_discard_out,
    dst_entry,
)
from stack.core.l3mdev import l3mdev_master_dev, netif_is_l3_master
from stack.core.netdevice import net_device
from stack.core.rows import row, state, wide
from stack.core.uapi import IPV6_MIN_MTU, TCP_HLEN
from stack.ipv6 import ip6_fib
from stack.ipv6.addr import format_addr6, rt6_need_strict
from stack.ipv6.ip6_fib import FIB6_TYPE_ERROR, RTF_OWN, fib6_info
from stack.net import Net

if TYPE_CHECKING:
    from stack.ipv6.if_inet6 import inet6_dev

IP6_MAX_MTU = 0xFFFF + 40
IPV6_MAXPLEN = 65535


@state
class rt6_info(dst_entry):
    """struct rt6_info. `rt6i_gateway` 0: the destination itself is the next hop."""

    from6: fib6_info | None
    rt6i_gateway: wide = row(0)
    rt6i_flags: int = row(0)
    rt6i_dst: wide = row(0)
    rt6i_plen: int = row(0)
    rt6i_idev: inet6_dev | None = row(of=lambda rt: rt.dev.ip6_ptr)

    def __repr__(self) -> str:
        via = f" via {format_addr6(self.rt6i_gateway)}" if self.rt6i_gateway else ""
        return f"<rt6_info {format_addr6(self.rt6i_dst)}/{self.rt6i_plen}{via} dev {self.dev.name}>"

    def kill(self) -> None:
        """Make the route obsolete: sockets look it up again."""
        self.obsolete = DST_OBSOLETE_KILL
        self.neigh = None


@state
class rt6_exception:
    """struct rt6_exception: a destination's own route; `stamp` ns orders them by age."""

    rt6i: rt6_info
    stamp: int


# --- making them ---------------------------------------------------------------------------


def ip6_rt_init_dst(rt: rt6_info, f6i: fib6_info) -> None:
    """net/ipv6/route.c: set the input and output functions of a route."""
    steps = rt.net.ipv6.steps
    rt.output = steps.output
    if f6i.fib6_flags & uapi.RTF_REJECT or f6i.fib6_type in FIB6_TYPE_ERROR:
        ip6_rt_init_dst_reject(rt, f6i.fib6_type)
    elif f6i.fib6_flags & RTF_OWN:
        rt.input = steps.input
    elif f6i.fib6_dst >> 120 == 0xFF:
        rt.input = steps.mc_input
    else:
        rt.input = steps.forward


def ip6_rt_init_dst_reject(rt: rt6_info, rtype: int) -> None:
    """net/ipv6/route.c: set the functions and the error of a route that drops packets."""
    steps = rt.net.ipv6.steps
    rt.rt6i_flags |= uapi.RTF_REJECT
    rt.error = FIB6_TYPE_ERROR.get(rtype, 0)
    if rtype == uapi.RTN_BLACKHOLE:
        rt.input, rt.output = dst_discard, dst_discard_out
    elif rtype == uapi.RTN_PROHIBIT:
        rt.input, rt.output = steps.prohibit, steps.prohibit_out
    else:
        rt.input, rt.output = steps.discard, steps.discard_out


def rt6_make_pcpu_route(net: Net, f6i: fib6_info) -> rt6_info:
    """net/ipv6/route.c: make the rt6_info that all packets of a route share."""
    nh = f6i.fib6_nh
    dev = nh.fib_nh_dev
    rt = rt6_info(ip6_rt_get_dev(net, f6i), net.ipv6.dst_ops, f6i)
    ip6_rt_copy_init(rt, f6i)
    rt.rt6i_idev = dev.ip6_ptr
    nh.rt6i_pcpu = rt
    net.ipv6.rt_live.append(rt)
    return rt


def ip6_rt_copy_init(rt: rt6_info, f6i: fib6_info) -> None:
    """net/ipv6/route.c: copy a route's attributes to its rt6_info."""
    ip6_rt_init_dst(rt, f6i)
    rt.rt6i_dst = f6i.fib6_dst
    rt.rt6i_plen = f6i.fib6_plen
    rt.rt6i_flags |= f6i.fib6_flags
    gw = f6i.fib6_nh.fib_nh_gw6
    if gw:
        rt.rt6i_gateway = gw
        rt.rt6i_flags |= uapi.RTF_GATEWAY
    rt.metrics = f6i.fib6_metrics


def ip6_rt_cache_alloc(net: Net, f6i: fib6_info, daddr: wide) -> rt6_info:
    """net/ipv6/route.c: make a destination's own route."""
    rt = rt6_info(ip6_rt_get_dev(net, f6i), net.ipv6.dst_ops, f6i)
    ip6_rt_copy_init(rt, f6i)
    rt.rt6i_flags |= ip6_fib.RTF_CACHE
    rt.rt6i_dst = daddr
    rt.rt6i_plen = 128
    rt.rt6i_idev = f6i.fib6_nh.fib_nh_dev.ip6_ptr
    rt.metrics = dict(f6i.fib6_metrics)
    rt.obsolete = DST_OBSOLETE_FORCE_CHK  # it expires by itself
    return rt


def ip6_rt_get_dev(net: Net, f6i: fib6_info) -> net_device:
    """net/ipv6/route.c ip6_rt_get_dev_rcu: the device of a route's packets.

    Of an address of the host it is lo, or the VRF of its device. Packets to a port's link-local
    address go over lo, too.
    """
    dev = f6i.fib6_nh.fib_nh_dev
    if not f6i.fib6_flags & RTF_OWN or netif_is_l3_master(dev):
        return dev
    strict = rt6_need_strict(f6i.fib6_dst)
    return (None if strict else l3mdev_master_dev(dev)) or net.loopback_dev


def icmp6_dst_alloc(dev: net_device, daddr: wide) -> rt6_info:
    """net/ipv6/route.c: make a route without a lookup, for messages of neighbour discovery."""
    net = dev.net
    rt = rt6_info(dev, net.ipv6.dst_ops, None)
    rt.input, rt.output = net.ipv6.steps.input, net.ipv6.steps.output
    rt.rt6i_dst = daddr
    rt.rt6i_plen = 128
    rt.metrics = {"hoplimit": 0}
    return rt


def ip6_null_entry(net: Net) -> rt6_info:
    """net/ipv6/route.c ip6_null_entry_template: no route."""
    rt = rt6_info(net.loopback_dev, net.ipv6.dst_ops, None)
    rt.rt6i_flags = uapi.RTF_REJECT | ip6_fib.RTF_NONEXTHOP
    rt.error = errno.ENETUNREACH
    rt.input, rt.output = net.ipv6.steps.discard, net.ipv6.steps.discard_out
    return rt


def ip6_error_entry(net: Net, action: int) -> rt6_info:
    """net/ipv6/fib6_rules.c __fib6_rule_action: what a rule answers; its actions are RTN_*.

    ip6_null_entry, or what ip6_prohibit_entry and ip6_blk_hole_entry are.
    """
    if action == uapi.RTN_UNREACHABLE:
        return net.ipv6.ip6_null_entry
    rt = ip6_null_entry(net)
    ip6_rt_init_dst_reject(rt, action if action in FIB6_TYPE_ERROR else uapi.RTN_BLACKHOLE)
    return rt


# --- dst operations ------------------------------------------------------------------------


def ip6_dst_check(dst: rt6_info, cookie: int) -> rt6_info | None:
    """net/ipv6/route.c: the route if it is still valid, else None: look it up again."""
    if dst.obsolete == DST_OBSOLETE_KILL:
        return None
    if dst.expires and dst.net.clock.now_ns() >= dst.expires:
        return None
    return dst


def ip6_mtu(dst: rt6_info) -> int:
    """net/ipv6/route.c: the path MTU in bytes: learned or the route's, else the interface's."""
    return ip6_dst_mtu_maybe_forward(dst, False)


def ip6_dst_mtu_maybe_forward(dst: rt6_info, forwarding: bool) -> int:
    """include/net/ip6_route.h: the path MTU, bytes; for forwarded packets without a learned one."""
    if dst.metrics and not (forwarding and dst.rt6i_flags & ip6_fib.RTF_CACHE):
        mtu = dst.metrics.get("mtu", 0)
        if mtu:
            return min(mtu, IP6_MAX_MTU)
    idev: inet6_dev | None = dst.dev.ip6_ptr
    return min(idev.cnf.mtu, IP6_MAX_MTU) if idev is not None else IPV6_MIN_MTU


def ip6_default_advmss(dst: rt6_info) -> int:
    """net/ipv6/route.c: MSS to advertise; IPV6_MAXPLEN means any that fits (RFC 2675)."""
    mtu = ip6_mtu(dst) - 40 - TCP_HLEN
    mtu = max(mtu, dst.net.ipv6.sysctl.ip6_rt_min_adv_mss)
    return IPV6_MAXPLEN if mtu > IPV6_MAXPLEN - TCP_HLEN else mtu


def ip6_dst_hoplimit(dst: rt6_info) -> int:
    """net/ipv6/output_core.c: hop limit of packets whose socket sets none."""
    if dst.metrics:
        hoplimit = dst.metrics.get("hoplimit", 0)
        if hoplimit:
            return hoplimit
    idev: inet6_dev | None = dst.dev.ip6_ptr
    return idev.cnf.hop_limit if idev is not None else dst.net.ipv6.devconf_all.hop_limit
