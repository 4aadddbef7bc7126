"""net/ipv6/ndisc.c: IPv6's neighbour table: new entries and their solicitations (RFC 4861 7.2)."""

from __future__ import annotations

import errno
from functools import partial

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import ipv6_hdr
from stack.core import netdevice
from stack.core.drop_reason import SKB_DROP_REASON_NEIGH_FAILED, kfree_skb_reason
from stack.core.dst import dst_link_failure
from stack.core.neigh_gc import (
    neigh_carrier_down,
    neigh_changeaddr,
    neigh_ifdown,
    neigh_table_clear,
    neigh_table_init,
    pneigh_lookup,
)
from stack.core.neigh_table import neigh_ops, neigh_table, neighbour, pneigh_entry
from stack.core.neighbour import (
    neigh_app_ns,
    neigh_connected_output,
    neigh_direct_output,
    neigh_resolve_output,
    neigh_setup,
)
from stack.core.netdevice import net_device, netif_carrier_ok
from stack.core.proto import proto
from stack.core.rows import wide
from stack.core.sock import sk_alloc, sock_init_data
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import (
    AF_INET6,
    IPPROTO_ICMPV6,
    NUD_VALID,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_UNICAST,
    SOCK_RAW,
)
from stack.inet.inet_sock import inet_sock
from stack.ipv6 import if_inet6
from stack.ipv6.addr import addrconf_addr_solict_mult, ipv6_addr_is_multicast, ipv6_eth_mc_map
from stack.ipv6.if_inet6 import inet6_dev, ipv6_chk_addr_and_flags
from stack.ipv6.ip6_fib import fib6_nh, fib6_run_gc
from stack.ipv6.mcast import ipv6_dev_mc_dec, ipv6_dev_mc_inc
from stack.ipv6.ndisc_send import ndisc_send_ns, ndisc_send_unsol_na
from stack.ipv6.pinfo import ipv6_pinfo
from stack.net import Net


def ndisc_constructor(neigh: neighbour) -> int:
    """net/ipv6/ndisc.c: set up a new entry; some addresses need no solicitation. 0 or -EINVAL."""
    dev = neigh.dev
    addr = neigh.primary_key
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None:
        return -errno.EINVAL
    neigh.parms = idev.nd_parms
    kind, group_ha = RTN_UNICAST, None
    if ipv6_addr_is_multicast(addr):
        kind, group_ha = RTN_MULTICAST, ipv6_eth_mc_map(addr)
    elif dev.flags & netdevice.IFF_LOOPBACK and dev.header_ops is not None:
        kind = RTN_LOCAL
    neigh_setup(neigh, kind, group_ha, ndisc_hh_ops, ndisc_direct_ops)
    return 0


def ndisc_error_report(neigh: neighbour, skb: sk_buff) -> None:
    """net/ipv6/ndisc.c: no answer came: report address unreachable. Takes ownership of skb."""
    dst_link_failure(skb)
    kfree_skb_reason(neigh.net, skb, SKB_DROP_REASON_NEIGH_FAILED)


def ndisc_solicit(neigh: neighbour, skb: sk_buff | None) -> None:
    """net/ipv6/ndisc.c: solicit the neighbour, by unicast to a known address first, else its group.

    Borrows skb, a packet that waits: its source address is used if it is ours (RFC 4861 7.2.2).
    """
    dev = neigh.dev
    target = neigh.primary_key
    saddr: wide | None = None
    if skb is not None and skb.protocol == netdevice.ETH_P_IPV6:
        source = ipv6_hdr(skb).saddr
        banned = if_inet6.IFA_F_TENTATIVE | if_inet6.IFA_F_OPTIMISTIC
        if ipv6_chk_addr_and_flags(neigh.net, source, dev, False, True, banned) is not None:
            saddr = source
    parms = neigh.parms
    if neigh.probes < parms.ucast_probes:
        ndisc_send_ns(dev, target, target, saddr)
    elif neigh.probes < parms.ucast_probes + parms.app_probes:
        neigh_app_ns(neigh)
    else:
        ndisc_send_ns(dev, target, addrconf_addr_solict_mult(target), saddr)


ndisc_hh_ops = neigh_ops(
    ndisc_solicit, ndisc_error_report, neigh_resolve_output, neigh_connected_output
)
ndisc_direct_ops = neigh_ops(
    ndisc_solicit, ndisc_error_report, neigh_direct_output, neigh_direct_output
)


def pndisc_constructor(entry: pneigh_entry) -> None:
    """net/ipv6/ndisc.c: join the solicited-node group of an address that we proxy."""
    if entry.dev is not None:
        ipv6_dev_mc_inc(entry.dev, addrconf_addr_solict_mult(entry.key))


def pndisc_destructor(entry: pneigh_entry) -> None:
    """net/ipv6/ndisc.c"""
    if entry.dev is not None and entry.dev.ip6_ptr is not None:
        ipv6_dev_mc_dec(entry.dev, addrconf_addr_solict_mult(entry.key))


def pndisc_proxied(dev: net_device, addr: wide) -> bool:
    """Whether we proxy `addr` on this interface (pneigh, with proxy_ndp)."""
    net = dev.net
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None:
        return False
    on = net.ipv6.devconf_all.proxy_ndp or idev.cnf.proxy_ndp
    return bool(on) and pneigh_lookup(net.ipv6.nd_tbl, addr, dev) is not None


def rt6_probe(nh: fib6_nh) -> None:
    """net/ipv6/route.c: solicit a router not known to be reachable (RFC 4191 3.5), rate limited."""
    dev = nh.fib_nh_dev
    net = dev.net
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None:
        return
    neigh = net.ipv6.nd_tbl.hash.get(nh.fib_nh_gw6 << 16 | dev.ifindex)
    if neigh is not None and neigh.nud_state & NUD_VALID:
        return
    now = net.now()
    last = neigh.updated if neigh is not None else nh.last_probe
    if last and now < last + idev.cnf.router_probe_interval * NSEC_PER_SEC:
        return
    nh.last_probe = now or 1
    gateway = nh.fib_nh_gw6
    ndisc_send_ns(dev, gateway, addrconf_addr_solict_mult(gateway), None)


def ndisc_netdev_event(event: int, dev: net_device) -> None:
    """net/ipv6/ndisc.c: update the neighbour table on a device event."""
    net = dev.net
    tbl = net.ipv6.nd_tbl
    idev: inet6_dev | None = dev.ip6_ptr
    all_ = net.ipv6.devconf_all
    if event in (netdevice.NETDEV_CHANGEADDR, netdevice.NETDEV_UP):
        if event == netdevice.NETDEV_CHANGEADDR:
            neigh_changeaddr(tbl, dev)
            fib6_run_gc(net)
        if idev is not None and (idev.cnf.ndisc_notify or all_.ndisc_notify):
            ndisc_send_unsol_na(dev)
    elif event == netdevice.NETDEV_NOTIFY_PEERS:
        ndisc_send_unsol_na(dev)
    elif event == netdevice.NETDEV_CHANGE:
        evict = idev is None or (idev.cnf.ndisc_evict_nocarrier and all_.ndisc_evict_nocarrier)
        if evict and not netif_carrier_ok(dev):
            neigh_carrier_down(tbl, dev)
    elif event in (netdevice.NETDEV_DOWN, netdevice.NETDEV_UNREGISTER):
        neigh_ifdown(tbl, dev)
        fib6_run_gc(net)


ndisc_ctl_prot = proto(name="NDISC", sock_class=inet_sock)


def ndisc_ctl_sock(net: Net) -> inet_sock:
    """net/ipv6/ndisc.c ndisc_net_init: make the socket that sends, without multicast loopback."""
    sk: inet_sock = sk_alloc(net, AF_INET6, 0, ndisc_ctl_prot, True)
    sock_init_data(None, sk)
    sk.sk_type = SOCK_RAW
    sk.sk_protocol = IPPROTO_ICMPV6
    sk.pinet6 = ipv6_pinfo(mc_loop=False, hop_limit=255, mcast_hops=255)
    return sk


def ndisc_init(net: Net) -> None:
    """net/ipv6/ndisc.c: the namespace's nd_tbl, with the thresholds of its sysctls."""
    tbl = neigh_table(net, "ndisc_cache", netdevice.ETH_P_IPV6, ndisc_constructor)
    tbl.parms.locktime = 0
    tbl.pconstructor = pndisc_constructor
    tbl.pdestructor = pndisc_destructor
    sysctl = net.ipv6.sysctl
    for name in ("gc_thresh1", "gc_thresh2", "gc_thresh3"):
        setattr(tbl, name, getattr(sysctl, f"neigh_{name}"))
        sysctl.on_write(f"neigh_{name}", partial(setattr, tbl, name))
    neigh_table_init(tbl)
    net.ipv6.nd_tbl = tbl
    net.ipv6.nd.rt6_probe = rt6_probe
    net.ipv6.ndisc_sk = ndisc_ctl_sock(net)


def ndisc_cleanup(net: Net) -> None:
    """net/ipv6/ndisc.c: the namespace ends."""
    neigh_table_clear(net.ipv6.nd_tbl)
