"""net/ipv4/arp.c: address resolution (RFC 826) on Ethernet for IPv4.

The neighbour cache (core/neighbour.py) has the states and timers; this file gives it a table,
`arp_tbl`, and adds the parts specific to ARP:

    neigh_create => arp_constructor         which addresses need no request; which output function
    neigh_probe => arp_solicit -> arp_send              "who has", unicast first, then broadcast
    neigh_invalidate => arp_error_report                no answer: host unreachable
    __netif_receive_skb_core => arp_rcv -> arp_process
        request for our address             learn the sender (neigh_event_ns), answer (arp_send)
        request for a proxied address (arp_fwd_proxy)           the same, after proxy_delay
        reply, or change of a known neighbour           neigh_update, which sends waiting packets
    device events => arp_netdev_event
    SIOCSARP, SIOCGARP, SIOCDARP -> arp_req_set, arp_req_get, arp_req_delete

Message on Ethernet (fields as in RFC 826; ours are called ar_*):

     0               1               2               3
    | ar$hrd: 1     | ar$pro: 0800  |
    | hln: 6| pln: 4| ar$op: 1, 2   |       1 request, 2 reply
    | ar$sha: sender's hardware address, 6 bytes    |
    | ar$spa: sender's IPv4 address, 4 (`ar_sip`)   |
    | ar$tha: target's hardware address, 6          |
    | ar$tpa: target's IPv4 address, 4 (`ar_tip`)   |
"""

from __future__ import annotations

import errno
from functools import partial

from fastpath.base import skbuff
from fastpath.base.skbuff import consume_skb, pskb_may_pull, sk_buff, skb_share_check
from fastpath.errors import whole_number
from fastpath.net.hdr import arp_hdr, ip_hdr
from stack.core import drop_reason, netdevice, uapi
from stack.core.dev_notifier import register_netdevice_notifier
from stack.core.dev_receive import dev_add_pack
from stack.core.drop_reason import kfree_skb_reason
from stack.core.dst import dst_link_failure
from stack.core.errors import check, os_error
from stack.core.l3mdev import l3mdev_master_ifindex
from stack.core.neigh_gc import (
    neigh_carrier_down,
    neigh_changeaddr,
    neigh_ifdown,
    neigh_remove_one,
    neigh_table_clear,
    neigh_table_init,
    pneigh_enqueue,
    pneigh_lookup,
)
from stack.core.neigh_table import (
    NEIGH_UPDATE_F_ADMIN,
    NEIGH_UPDATE_F_OVERRIDE,
    neigh_ops,
    neigh_table,
    neighbour,
)
from stack.core.neighbour import (
    __neigh_lookup,
    neigh_app_ns,
    neigh_connected_output,
    neigh_direct_output,
    neigh_event_ns,
    neigh_lookup,
    neigh_resolve_output,
    neigh_setup,
    neigh_update,
)
from stack.core.net_namespace import pernet_operations
from stack.core.netdevice import net_device, netif_carrier_ok, packet_type
from stack.core.rows import narrow
from stack.core.sock import sock
from stack.ipv4.addr import ipv4_is_loopback, ipv4_is_multicast
from stack.ipv4.arp_send import ARP_HDR_LEN, ARPOP_REPLY, ARPOP_REQUEST, arp_mc_map, arp_send
from stack.ipv4.devinet import in_device, in_ifaddr, inet_confirm_addr
from stack.ipv4.fib import inet_addr_type_dev_table, inet_select_addr
from stack.ipv4.netns import in_dev_conf, in_dev_forward
from stack.ipv4.route import ip_route_output, rtable
from stack.ipv4.route_input import ip_route_input
from stack.net import Net

ARPHRD_IEEE802 = 6

# flags of the table in /proc/net/arp (include/uapi/linux/if_arp.h)
ATF_COM = 0x02
ATF_PERM = 0x04


def arp_init(net: Net) -> None:
    """net/ipv4/arp.c: a namespace's arp_tbl, its packet handler and device notifier."""
    net.arp_tbl = neigh_table(net, "arp_cache", netdevice.ETH_P_IP, arp_constructor)
    net.arp_tbl.proxy_redo = parp_redo
    neigh_table_init(net.arp_tbl)
    for name in ("gc_thresh1", "gc_thresh2", "gc_thresh3"):
        net.sysctl.on_write(name, partial(setattr, net.arp_tbl, name))
    net.arp_conflicts = 0
    dev_add_pack(net, packet_type(netdevice.ETH_P_ARP, arp_rcv))
    register_netdevice_notifier(net, arp_netdev_event)


def arp_exit(net: Net) -> None:
    """The namespace ends: forget every neighbour, stop the table's timers."""
    neigh_table_clear(net.arp_tbl)


arp_net_ops = pernet_operations(init=arp_init, exit=arp_exit)


def arp_constructor(neigh: neighbour) -> int:
    """net/ipv4/arp.c: set up a new entry; some addresses need no ARP. 0 or -EINVAL."""
    dev = neigh.dev
    addr = neigh.primary_key
    if dev.ip_ptr is None:
        return -errno.EINVAL
    neigh.parms = dev.ip_ptr.arp_parms
    if dev.flags & (netdevice.IFF_LOOPBACK | netdevice.IFF_POINTOPOINT):
        addr = neigh.primary_key = 0  # one entry stands for every address
    kind = inet_addr_type_dev_table(neigh.net, dev, narrow(addr))
    group_ha = arp_mc_map(narrow(addr), dev) if kind == uapi.RTN_MULTICAST else None
    neigh_setup(neigh, kind, group_ha, arp_hh_ops, arp_direct_ops)
    return 0


def arp_error_report(neigh: neighbour, skb: sk_buff) -> None:
    """net/ipv4/arp.c: ARP got no answer: report host unreachable. Takes ownership of skb."""
    dst_link_failure(skb)
    kfree_skb_reason(neigh.net, skb, drop_reason.SKB_DROP_REASON_NEIGH_FAILED)


def _same_net(ifa: in_ifaddr, a: int, b: int) -> bool:
    """Both addresses are on the network of `ifa` (inet_addr_onlink, for one address)."""
    return not ((a ^ ifa.ifa_address) | (b ^ ifa.ifa_address)) & ifa.ifa_mask


def arp_solicit(neigh: neighbour, skb: sk_buff | None) -> None:
    """net/ipv4/arp.c: send a request, by unicast to a known address first, else by broadcast.

    Borrows skb, a packet that waits. The request has its source address if arp_announce allows.
    """
    dev = neigh.dev
    target = neigh.primary_key
    saddr = 0
    in_dev = dev.ip_ptr
    announce = in_dev_conf(in_dev, "arp_announce") if in_dev is not None else 2
    if skb is not None and announce < 2 and skb.protocol == netdevice.ETH_P_IP:
        source = ip_hdr(skb).saddr
        # arp_announce 0: any local address; 1: only an address in the target's network.
        if inet_addr_type_dev_table(neigh.net, dev, source) == uapi.RTN_LOCAL and (
            not announce
            or in_dev is None
            or any(_same_net(ifa, narrow(target), source) for ifa in in_dev.ifa_list)
        ):
            saddr = source
    if not saddr:
        saddr = inet_select_addr(dev, narrow(target), uapi.RT_SCOPE_LINK)
    dest_hw, parms = None, neigh.parms
    if neigh.probes < parms.ucast_probes:
        if neigh.nud_state & uapi.NUD_VALID:
            dest_hw = neigh.ha
    elif neigh.probes < parms.ucast_probes + parms.app_probes:
        neigh_app_ns(neigh)
        return
    arp_send(
        ARPOP_REQUEST, netdevice.ETH_P_ARP, narrow(target), dev, saddr, dest_hw, dev.dev_addr, None
    )


arp_hh_ops = neigh_ops(arp_solicit, arp_error_report, neigh_resolve_output, neigh_connected_output)


arp_direct_ops = neigh_ops(arp_solicit, arp_error_report, neigh_direct_output, neigh_direct_output)


# --- sending -----------------------------------------------------------------------------------


# --- receiving ---------------------------------------------------------------------------------


def arp_rcv(skb: sk_buff, dev: net_device, pt: packet_type, orig_dev: net_device) -> int:
    """net/ipv4/arp.c: receive an ARP frame. Takes ownership of skb."""
    net = dev.net
    pkt_type = skb.pkt_type
    if dev.flags & netdevice.IFF_NOARP or pkt_type in (
        skbuff.PACKET_OTHERHOST,
        skbuff.PACKET_LOOPBACK,
    ):
        consume_skb(skb)
        return netdevice.NET_RX_SUCCESS
    shared = skb_share_check(skb)
    if shared is None:
        return netdevice.NET_RX_DROP
    skb = shared
    if not pskb_may_pull(skb, ARP_HDR_LEN):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_HDR_TRUNC)
        return netdevice.NET_RX_DROP
    arp = arp_hdr(skb)
    if arp.ar_hln != dev.addr_len or arp.ar_pln != 4:
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_ARP_INHDR)
        return netdevice.NET_RX_DROP
    return arp_process(net, None, skb)


def parp_redo(skb: sk_buff) -> int:
    """net/ipv4/arp.c: proxy_delay is over: answer. Takes ownership of skb."""
    return arp_process(skb.dev.net, None, skb, locally_enqueued=True)


def arp_process(net: Net, sk: sock | None, skb: sk_buff, *, locally_enqueued: bool = False) -> int:
    """net/ipv4/arp.c: answer requests for our addresses, learn from received packets.

    `locally_enqueued`: skb has waited for proxy_delay. Takes ownership of skb.
    """
    dev = skb.dev
    in_dev = dev.ip_ptr
    if in_dev is None:
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
        return netdevice.NET_RX_DROP
    arp = arp_hdr(skb)
    op = arp.ar_op
    sha = arp.ar_sha
    sip = arp.ar_sip
    tip = arp.ar_tip
    if (
        arp.ar_hrd not in (netdevice.ARPHRD_ETHER, ARPHRD_IEEE802)
        or arp.ar_pro != netdevice.ETH_P_IP
        or op not in (ARPOP_REQUEST, ARPOP_REPLY)
        or ipv4_is_multicast(tip)
        or (ipv4_is_loopback(tip) and not in_dev_conf(in_dev, "route_localnet"))
        or (sip == tip and in_dev_conf(in_dev, "drop_gratuitous_arp"))
    ):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_ARP_INHDR)
        return netdevice.NET_RX_DROP
    if not sip:
        # Duplicate address detection (RFC 5227 2.1.1): answer, learn nothing.
        ours = op == ARPOP_REQUEST and inet_addr_type_dev_table(net, dev, tip) == uapi.RTN_LOCAL
        if ours and not arp_ignore(net, in_dev, sip, tip):
            arp_send(ARPOP_REPLY, netdevice.ETH_P_ARP, sip, dev, tip, sha, dev.dev_addr, sha)
        consume_skb(skb)
        return netdevice.NET_RX_SUCCESS
    if sha != dev.dev_addr and inet_addr_type_dev_table(net, dev, sip) == uapi.RTN_LOCAL:
        net.arp_conflicts += 1  # another station uses our address
    if op == ARPOP_REQUEST and not ip_route_input(skb, tip, sip, 0, dev):
        rt: rtable = skb.dst
        skb.dst = None
        if rt.rt_type == uapi.RTN_LOCAL:
            answer = not arp_ignore(net, in_dev, sip, tip)
            if answer and in_dev_conf(in_dev, "arp_filter"):
                answer = not arp_filter(net, sip, tip, dev)
            if answer and neigh_event_ns(net.arp_tbl, sha, sip, dev) is not None:
                arp_send(ARPOP_REPLY, netdevice.ETH_P_ARP, sip, dev, tip, sha, dev.dev_addr, sha)
            consume_skb(skb)
            return netdevice.NET_RX_SUCCESS
        if in_dev_forward(in_dev) and arp_fwd_any(in_dev, rt, sip, tip):
            neigh_event_ns(net.arp_tbl, sha, sip, dev)
            parms = in_dev.arp_parms
            if not locally_enqueued and skb.pkt_type != skbuff.PACKET_HOST and parms.proxy_delay:
                # The station itself should answer first, in case it is on this wire.
                pneigh_enqueue(net.arp_tbl, parms, skb)
                return netdevice.NET_RX_SUCCESS
            arp_send(ARPOP_REPLY, netdevice.ETH_P_ARP, sip, dev, tip, sha, dev.dev_addr, sha)
            consume_skb(skb)
            return netdevice.NET_RX_SUCCESS
    arp_learn(in_dev, skb, op, sha, sip, tip)
    consume_skb(skb)
    return netdevice.NET_RX_SUCCESS


def arp_learn(in_dev: in_device, skb: sk_buff, op: int, sha: bytes, sip: int, tip: int) -> None:
    """net/ipv4/arp.c (in arp_process): update the sender's entry. Borrows skb.

    The sysctl arp_accept allows a new one, for a sender that announces or answers.
    """
    dev = in_dev.dev
    net = dev.net
    n = __neigh_lookup(net.arp_tbl, sip, dev, False)
    accept = arp_accept(in_dev, sip)
    if n is None and not accept:
        return
    unicast = inet_addr_type_dev_table(net, dev, sip) == uapi.RTN_UNICAST
    # A gratuitous answer names the sender's hardware address twice.
    garp = sip == tip and unicast and (op != ARPOP_REPLY or arp_hdr(skb).ar_tha == sha)
    if n is None and (garp or (op == ARPOP_REPLY and unicast)):
        n = __neigh_lookup(net.arp_tbl, sip, dev, True)
    if n is None:
        return
    state = uapi.NUD_REACHABLE
    # The first of several answers counts; a different one is accepted only after locktime.
    override = garp or net.clock.now_ns() > n.updated + n.parms.locktime
    # Broadcast answers and requests do not show that the neighbour receives us.
    if op != ARPOP_REPLY or skb.pkt_type != skbuff.PACKET_HOST:
        state = uapi.NUD_STALE
    neigh_update(n, sha, state, NEIGH_UPDATE_F_OVERRIDE if override else 0)


def arp_accept(in_dev: in_device, sip: int) -> bool:
    """net/ipv4/arp.c: sysctl arp_accept: 1: new entries for all; 2: only for local networks."""
    mode = in_dev_conf(in_dev, "arp_accept")
    if mode == 2:
        return inet_confirm_addr(in_dev.dev.net, in_dev, sip, 0, uapi.RT_SCOPE_LINK)
    return mode == 1


def arp_fwd_any(in_dev: in_device, rt: rtable, sip: int, tip: int) -> bool:
    """net/ipv4/arp.c (in arp_process): whether to answer for an address that `rt` leads to.

    That is so with sysctl proxy_arp of all or of the interface, and with an entry for the address
    (`ip neigh add proxy`); proxy_arp_pvlan answers for stations on the same wire.
    """
    dev = in_dev.dev
    if rt.rt_type != uapi.RTN_UNICAST:
        return False
    if rt.dev is dev:
        return sip != tip and bool(in_dev_conf(in_dev, "proxy_arp_pvlan"))
    if in_dev_conf(in_dev, "proxy_arp") and other_medium(in_dev, rt.dev):
        return True
    return pneigh_lookup(dev.net.arp_tbl, tip, dev) is not None


def other_medium(in_dev: in_device, out: net_device) -> bool:
    """net/ipv4/arp.c (in arp_fwd_proxy): medium_id of the interfaces allows the answer."""
    mine = in_dev.cnf.medium_id
    out_dev: in_device | None = out.ip_ptr
    other = out_dev.cnf.medium_id if out_dev is not None else -1
    return mine == 0 or (mine != -1 and other not in (mine, -1))


def arp_filter(net: Net, sip: int, tip: int, dev: net_device) -> bool:
    """net/ipv4/arp.c: sysctl arp_filter: True when `sip` is not reached over `dev`."""
    try:
        rt = ip_route_output(net, sip, tip, 0, l3mdev_master_ifindex(dev))
    except OSError:
        return True
    if rt.dev is dev:
        return False
    net.mib.linux.ArpFilter += 1
    return True


def arp_ignore(net: Net, in_dev: in_device, sip: int, tip: int) -> bool:
    """net/ipv4/arp.c: sysctl arp_ignore: True when a request is not to be answered.

    0: answer for any local address.
    1: only for those of this interface.
    2: as 1, and the sender must be in a subnet of the address.
    3: for those of any interface, but not of scope host.
    8: never.
    """
    match in_dev_conf(in_dev, "arp_ignore"):
        case 1:
            return not inet_confirm_addr(net, in_dev, 0, tip, uapi.RT_SCOPE_HOST)
        case 2:
            return not inet_confirm_addr(net, in_dev, sip, tip, uapi.RT_SCOPE_HOST)
        case 3:
            return not inet_confirm_addr(net, None, 0, tip, uapi.RT_SCOPE_LINK)
        case 8:
            return True
        case _:
            return False


def arp_netdev_event(event: int, dev: net_device) -> None:
    """net/ipv4/arp.c: update the cache on device events."""
    tbl = dev.net.arp_tbl
    if event == netdevice.NETDEV_CHANGEADDR:
        neigh_changeaddr(tbl, dev)
    elif event == netdevice.NETDEV_CHANGE:
        in_dev: in_device | None = dev.ip_ptr
        evict = in_dev is None or in_dev_conf(in_dev, "arp_evict_nocarrier")
        if evict and not netif_carrier_ok(dev):
            neigh_carrier_down(tbl, dev)
    elif event in (netdevice.NETDEV_DOWN, netdevice.NETDEV_UNREGISTER):
        neigh_ifdown(tbl, dev)


# --- the administrator's table -----------------------------------------------------------------


def arp_req_set(dev: net_device, ip: int, ha: bytes, *, permanent: bool = True) -> None:
    """net/ipv4/arp.c: `arp -s` (SIOCSARP).

    Raises:
        OSError: EINVAL for a wrong address length, ENOBUFS when the table is full.
    """
    if not isinstance(ha, bytes) or len(ha) != dev.addr_len:
        raise os_error(
            errno.EINVAL, f"{dev.name}: hardware address {ha!r}; give {dev.addr_len} bytes"
        )
    whole_number("arp_req_set", "ip", ip, 1, 0xFFFFFFFF)
    neigh = __neigh_lookup(dev.net.arp_tbl, ip, dev, True)
    if neigh is None:
        raise os_error(errno.ENOBUFS)
    state = uapi.NUD_PERMANENT if permanent else uapi.NUD_STALE
    check(neigh_update(neigh, ha, state, NEIGH_UPDATE_F_OVERRIDE | NEIGH_UPDATE_F_ADMIN))


def arp_req_get(dev: net_device, ip: int) -> neighbour:
    """net/ipv4/arp.c: SIOCGARP.

    Raises:
        OSError: ENXIO, no such entry.
    """
    neigh = neigh_lookup(dev.net.arp_tbl, ip, dev)
    if neigh is None or neigh.nud_state & uapi.NUD_NOARP:
        raise os_error(errno.ENXIO, "no such entry")
    return neigh


def arp_req_delete(dev: net_device, ip: int) -> None:
    """net/ipv4/arp.c: `arp -d` (SIOCDARP).

    Raises:
        OSError: ENXIO, no such entry, or one that needs no ARP, which goes all the same.
    """
    neigh = neigh_lookup(dev.net.arp_tbl, ip, dev)
    found = neigh is not None and neigh.nud_state & ~uapi.NUD_NOARP
    if neigh is not None:
        if found:
            flags = NEIGH_UPDATE_F_OVERRIDE | NEIGH_UPDATE_F_ADMIN
            neigh_update(neigh, None, uapi.NUD_FAILED, flags)
        neigh_remove_one(neigh)
    if not found:
        raise os_error(errno.ENXIO, "no such entry")


def arp_state_to_flags(neigh: neighbour) -> int:
    """net/ipv4/arp.c: the Flags column of /proc/net/arp."""
    if neigh.nud_state & uapi.NUD_PERMANENT:
        return ATF_PERM | ATF_COM
    return ATF_COM if neigh.nud_state & uapi.NUD_VALID else 0
