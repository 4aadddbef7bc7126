"""drivers/net/ipvlan/ipvlan_core.c: packet path of ipvlan, whose slaves share one MAC address.

    ipvlan_queue_xmit           sends a slave's packet
        ipvlan_xmit_mode_l2     by the frame's MAC address: to a slave, to the master, or out
        ipvlan_xmit_mode_l3     by the IP address: to a slave, or routed in the master's namespace
            ipvlan_process_outbound
    ipvlan_handle_frame         the master's rx_handler: finds the slave by address
    ipvlan_multicast_enqueue -> ipvlan_process_multicast    mode l2: multicast, deferred
    ipvlan_l3_rcv, ipvlan_nf_input      mode l3s: the master's PRE_ROUTING hooks process the packet,
                                then it gets the slave's route, and the slave as device in LOCAL_IN

State: the master's `rx_handler_data` is its ipvl_port, with mode and flags for all slaves. Its
`hlhead` has the addresses of the slaves that are up. Read ipvlan_addr_lookup first.
"""

from __future__ import annotations

from collections import deque

from fastpath.base import skbuff
from fastpath.base.skbuff import (
    consume_skb,
    sk_buff,
    skb_clone,
    skb_copy_bits,
    skb_pull,
    skb_reset_mac_header,
    skb_reset_network_header,
    skb_share_check,
)
from fastpath.net.hdr import eth_hdr, ip_hdr, ipv6_hdr
from stack.core import netdevice
from stack.core.backlog import netif_rx
from stack.core.dev_forward import (
    __dev_forward_skb,
    dev_count_rx,
    dev_count_tx,
    dev_wants_group,
    skb_scrub_packet,
)
from stack.core.dev_queue import dev_queue_xmit
from stack.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED, kfree_skb_reason
from stack.core.dst import dst_entry
from stack.core.l3mdev import l3mdev_ops
from stack.core.netdevice import ETH_HLEN, ETH_P_PAUSE, net_device
from stack.core.netfilter import NF_ACCEPT, nf_hook_state
from stack.core.rows import row, state, wide
from stack.core.uapi import AF_INET, AF_INET6, IPV6_HLEN, RTN_LOCAL, RTN_UNICAST
from stack.core.workqueue import schedule_work, work_struct
from stack.inet.flow import FLOWI_FLAG_ANYSRC, flowi
from stack.ipv4.ip_output import ip_local_out
from stack.ipv4.route import IPTOS_RT_MASK, ip_route_output_flow
from stack.ipv4.route_input import ip_route_input
from stack.ipv6.addr import rt6_need_strict
from stack.ipv6.ip6_icmp import NDISC_NEIGHBOUR_SOLICITATION
from stack.ipv6.ip6_output import ip6_local_out
from stack.ipv6.protocol import NEXTHDR_ICMP
from stack.ipv6.route import ip6_route_input, ip6_route_output
from stack.net import Net

# include/uapi/linux/if_link.h
IPVLAN_MODE_L2, IPVLAN_MODE_L3, IPVLAN_MODE_L3S = 0, 1, 2
IPVLAN_F_PRIVATE, IPVLAN_F_VEPA = 1, 2
IPVLAN_QBACKLOG_LIMIT = 1000
"""Limit of queued multicast frames."""
IPV6_KEY = 1 << 128
"""Marks an IPv6 address in `hlhead`."""
ARP_LEN, IPV4_HLEN, NS_LEN = 28, 20, 24


@state
class ipvl_dev:
    """Private data of a slave."""

    dev: net_device
    lowerdev: net_device
    """phy_dev: the master."""
    port: ipvl_port
    addrs: list[wide] = row(make=list)
    """Its addresses, as keys of `hlhead`."""
    dev_id: int = row(0)
    """Its number on the master, which makes its interface identifier (EUI-64) unique."""


@state
class ipvl_port:
    """Data of a master about its slaves."""

    dev: net_device
    net: Net = row(of=lambda port: port.dev.net)
    """The namespace with the LOCAL_IN hooks of mode l3s."""
    mode: int = row(IPVLAN_MODE_L3)
    flags: int = row(0)
    """IPVLAN_F_*."""
    ipvlans: list[ipvl_dev] = row(make=list)
    hlhead: dict[wide, ipvl_dev] = row(make=dict)
    count: int = row(0)
    dev_id_start: int = row(1)
    backlog: deque[tuple[sk_buff, bool]] = row(make=deque)
    """Queued multicast frames, and whether a slave sent them."""
    wq: work_struct = row()
    l3mdev_ops: l3mdev_ops = row()


def ipvlan_addr_lookup(port: ipvl_port, skb: sk_buff, off: int, use_dest: bool) -> ipvl_dev | None:
    """ipvlan_get_L3_hdr, ipvlan_addr_lookup: the slave with a packet's address.

    The network header is at data + `off`. For ARP the target's (or sender's) address is used,
    and for a duplicate address detection (no source) the target's.
    """
    size = skb.len - off
    proto = skb.protocol
    if proto == netdevice.ETH_P_IP:
        if size < IPV4_HLEN:
            return None
        head = skb_copy_bits(skb, off, IPV4_HLEN)
        hlen, total = (head[0] & 15) * 4, head[2] << 8 | head[3]
        if head[0] >> 4 != 4 or hlen < IPV4_HLEN or size < total or total < hlen:
            return None
        at = 16 if use_dest else 12
        return port.hlhead.get(int.from_bytes(head[at : at + 4], "big"))
    if proto == netdevice.ETH_P_IPV6:
        if size < IPV6_HLEN:
            return None
        head = skb_copy_bits(skb, off, IPV6_HLEN)
        if head[0] >> 4 != 6:
            return None
        at = 24 if use_dest else 8
        if head[6] == NEXTHDR_ICMP and not any(head[8:24]) and size >= IPV6_HLEN + NS_LEN:
            body = skb_copy_bits(skb, off + IPV6_HLEN, NS_LEN)
            if body[0] == NDISC_NEIGHBOUR_SOLICITATION:
                head, at = body, 8
        return port.hlhead.get(IPV6_KEY | int.from_bytes(head[at : at + 16], "big"))
    if proto != netdevice.ETH_P_ARP or size < ARP_LEN:
        return None
    addr = skb_copy_bits(skb, off + (24 if use_dest else 14), 4)
    return port.hlhead.get(int.from_bytes(addr, "big"))


# --- receiving ------------------------------------------------------------------------------------


def ipvlan_rcv_local(ipvlan: ipvl_dev, skb: sk_buff) -> int:
    """ipvlan_rcv_frame of another slave's packet (data at the MAC header). Takes ownership.

    Returns NET_XMIT_SUCCESS even if the packet is dropped.
    """
    dev = ipvlan.dev
    nbytes = skb.len + ETH_HLEN  # `skb.len` already has the header: as in Linux
    success = False
    if not dev.flags & netdevice.IFF_UP:
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    else:
        shared = skb_share_check(skb)
        if shared is not None:
            success = ipvlan_forward(dev, shared) == netdevice.NET_RX_SUCCESS
    dev_count_rx(dev, nbytes, success, False)
    return netdevice.NET_XMIT_SUCCESS


def ipvlan_forward(dev: net_device, skb: sk_buff) -> int:
    """dev_forward_skb: `dev` receives it. NET_RX_*. Takes ownership."""
    return __dev_forward_skb(dev, skb) or netif_rx(skb)


def ipvlan_handle_mode_l3(skb: sk_buff, port: ipvl_port) -> int:
    """RX_HANDLER_ANOTHER if the packet is for a slave."""
    ipvlan = ipvlan_addr_lookup(port, skb, 0, True)
    if ipvlan is None:
        return netdevice.RX_HANDLER_PASS
    skb.dev = ipvlan.dev
    dev_count_rx(ipvlan.dev, skb.len + ETH_HLEN, True, False)
    return netdevice.RX_HANDLER_ANOTHER


def ipvlan_external_frame(skb: sk_buff, port: ipvl_port) -> bool:
    """Whether no slave sent it: a switch may return our own frames."""
    if eth_hdr(skb).h_source != port.dev.dev_addr:
        return True
    return ipvlan_addr_lookup(port, skb, 0, False) is None


def ipvlan_handle_frame(skb: sk_buff) -> int:
    """The rx_handler of a master. RX_HANDLER_*. Borrows skb (data past the MAC header)."""
    lower: net_device = skb.dev
    port: ipvl_port = lower.rx_handler_data
    if port.mode == IPVLAN_MODE_L3S:
        return netdevice.RX_HANDLER_PASS
    if port.mode == IPVLAN_MODE_L2 and eth_hdr(skb).h_dest[0] & 1:
        if ipvlan_external_frame(skb, port):
            nskb = skb_clone(skb)
            skb_scrub_packet(nskb, True)
            ipvlan_multicast_enqueue(port, nskb, False)
        return netdevice.RX_HANDLER_PASS
    return ipvlan_handle_mode_l3(skb, port)


# --- frames for groups ----------------------------------------------------------------------------


def ipvlan_multicast_enqueue(port: ipvl_port, skb: sk_buff, tx_pkt: bool) -> None:
    """Queue a multicast frame for `wq`, or drop it if the queue is full. Takes ownership."""
    dev: net_device = skb.dev
    if skb.protocol == ETH_P_PAUSE:
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    elif len(port.backlog) < IPVLAN_QBACKLOG_LIMIT:
        port.backlog.append((skb, tx_pkt))
        schedule_work(port.wq)
    else:
        dev.stats.rx_dropped += 1
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)


def ipvlan_process_multicast(port: ipvl_port) -> None:
    """The work of `wq`: copy to all slaves but the sender, then send the sender's frame."""
    waiting, port.backlog = port.backlog, deque()
    ipvlan: ipvl_dev
    dev: net_device
    for skb, tx_pkt in waiting:
        dest = eth_hdr(skb).h_dest
        broadcast = dest == port.dev.broadcast
        pkt_type = skbuff.PACKET_BROADCAST if broadcast else skbuff.PACKET_MULTICAST
        for ipvlan in tuple(port.ipvlans):
            dev = ipvlan.dev
            if tx_pkt and dev is skb.dev:
                continue
            if not dev.flags & netdevice.IFF_UP or not dev_wants_group(dev, dest):
                continue
            nbytes = skb.len + ETH_HLEN
            nskb = skb_clone(skb)
            if tx_pkt:
                ret = ipvlan_forward(dev, nskb)
            else:
                nskb.pkt_type = pkt_type
                nskb.dev = dev
                ret = netif_rx(nskb)
            dev_count_rx(dev, nbytes, ret == netdevice.NET_RX_SUCCESS, True)
        if tx_pkt:
            skb.dev = port.dev
            skb.pkt_type = pkt_type
            dev_queue_xmit(skb)
        else:
            consume_skb(skb)


# --- mode l3s -------------------------------------------------------------------------------------


def ipvlan_l3_rcv(dev: net_device, skb: sk_buff, family: int) -> sk_buff | None:
    """drivers/net/ipvlan/ipvlan_l3s.c: l3mdev_l3_rcv: look up the slave's route for the packet."""
    port: ipvl_port = dev.rx_handler_data
    ipvlan = ipvlan_addr_lookup(port, skb, 0, True)
    if ipvlan is None:
        return skb
    if family == AF_INET:
        iph = ip_hdr(skb)
        ip_route_input(skb, iph.daddr, iph.saddr, iph.tos, ipvlan.dev)
    else:
        daddr = ipv6_hdr(skb).daddr
        skb.dev = ipvlan.dev
        ip6_route_input(skb, daddr, rt6_need_strict(daddr))
        skb.dev = dev
    return skb


def ipvlan_nf_input(skb: sk_buff, nf: nf_hook_state) -> int:
    """drivers/net/ipvlan/ipvlan_l3s.c: last hook of LOCAL_IN: set the slave as device."""
    dev: net_device = skb.dev
    if dev.priv_flags & netdevice.IFF_L3MDEV_RX_HANDLER:
        port: ipvl_port = dev.rx_handler_data
        ipvlan = ipvlan_addr_lookup(port, skb, 0, True)
        if ipvlan is not None:
            skb.dev = ipvlan.dev
            skb.skb_iif = ipvlan.dev.ifindex
            dev_count_rx(ipvlan.dev, skb.len + ETH_HLEN, True, False)
    return NF_ACCEPT


# --- sending --------------------------------------------------------------------------------------


def ipvlan_route_v4_outbound(skb: sk_buff, dev: net_device) -> dst_entry | None:
    """The route of a packet (data at its IPv4 header) in the master's namespace, or None."""
    if skb.len < IPV4_HLEN:
        return None
    iph = ip_hdr(skb)
    fl4 = flowi(AF_INET, iph.daddr, iph.saddr, dev.ifindex, iph.tos & IPTOS_RT_MASK)
    fl4.flowi_proto, fl4.flowi_flags, fl4.flowi_mark = iph.protocol, FLOWI_FLAG_ANYSRC, skb.mark
    try:
        rt = ip_route_output_flow(dev.net, fl4)
    except OSError:
        return None
    return rt if rt.rt_type in (RTN_UNICAST, RTN_LOCAL) else None


def ipvlan_route_v6_outbound(skb: sk_buff, dev: net_device) -> dst_entry | None:
    """ipvlan_route_v4_outbound for IPv6."""
    if skb.len < IPV6_HLEN:
        return None
    iph = ipv6_hdr(skb)
    fl6 = flowi(AF_INET6, iph.daddr, iph.saddr, dev.ifindex, iph.priority)
    fl6.flowi_proto, fl6.flowlabel, fl6.flowi_mark = iph.nexthdr, iph.flow_lbl, skb.mark
    fl6.flowi_flags = FLOWI_FLAG_ANYSRC
    rt = ip6_route_output(dev.net, None, fl6)
    return None if rt.error else rt


def ipvlan_process_outbound(skb: sk_buff, dev: net_device) -> int:
    """Send a slave's packet (data at the MAC header) from the master `dev`. NET_XMIT_*.

    Drops multicast, which modes l3 and l3s do not support. Takes ownership.
    """
    net = dev.net
    v4 = skb.protocol == netdevice.ETH_P_IP
    if skb_copy_bits(skb, 0, 1)[0] & 1 or not (v4 or skb.protocol == netdevice.ETH_P_IPV6):
        kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return netdevice.NET_XMIT_DROP
    skb_pull(skb, ETH_HLEN)
    skb_reset_network_header(skb)
    dst = ipvlan_route_v4_outbound(skb, dev) if v4 else ipvlan_route_v6_outbound(skb, dev)
    if dst is None:
        dev.stats.tx_errors += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return netdevice.NET_XMIT_DROP
    skb.dst = dst
    skb.cb = None
    skb.ip_cb_flags = skb.frag_max_size = 0
    err = ip_local_out(net, None, skb) if v4 else ip6_local_out(net, None, skb)
    if err in (netdevice.NET_XMIT_SUCCESS, netdevice.NET_XMIT_CN):
        return netdevice.NET_XMIT_SUCCESS
    dev.stats.tx_errors += 1
    return netdevice.NET_XMIT_DROP


def ipvlan_local(port: ipvl_port, skb: sk_buff) -> ipvl_dev | None:
    """The slave that receives another's packet; None with the flag vepa, which sends it out."""
    return None if port.flags & IPVLAN_F_VEPA else ipvlan_addr_lookup(port, skb, ETH_HLEN, True)


def ipvlan_give(port: ipvl_port, ipvlan: ipvl_dev, skb: sk_buff) -> int:
    """Pass a packet from slave to slave, unless in mode private. NET_XMIT_*. Takes ownership."""
    if port.flags & IPVLAN_F_PRIVATE:
        consume_skb(skb)
        return netdevice.NET_XMIT_DROP
    return ipvlan_rcv_local(ipvlan, skb)


def ipvlan_xmit_mode_l3(skb: sk_buff, port: ipvl_port) -> int:
    """Send by IP address. NET_XMIT_*. Takes ownership."""
    ipvlan = ipvlan_local(port, skb)
    if ipvlan is not None:
        return ipvlan_give(port, ipvlan, skb)
    skb_scrub_packet(skb, skb.dev.net is not port.dev.net)
    return ipvlan_process_outbound(skb, port.dev)


def ipvlan_xmit_mode_l2(skb: sk_buff, port: ipvl_port) -> int:
    """Send by MAC address, which all slaves share. NET_XMIT_*. Takes ownership."""
    macs = skb_copy_bits(skb, 0, 2 * netdevice.ETH_ALEN)
    if macs[:6] == macs[6:] and not port.flags & IPVLAN_F_VEPA:
        ipvlan = ipvlan_local(port, skb)
        if ipvlan is not None:
            return ipvlan_give(port, ipvlan, skb)
        shared = skb_share_check(skb)
        if shared is None:
            return netdevice.NET_XMIT_DROP
        ipvlan_forward(port.dev, shared)  # it is for the master
        return netdevice.NET_XMIT_SUCCESS
    if macs[0] & 1:
        skb_reset_mac_header(skb)
        skb_scrub_packet(skb, True)
        ipvlan_multicast_enqueue(port, skb, True)
        return netdevice.NET_XMIT_SUCCESS
    skb.dev = port.dev
    return dev_queue_xmit(skb)


def ipvlan_start_xmit(skb: sk_buff, dev: net_device) -> int:
    """ndo_start_xmit. NETDEV_TX_OK; takes ownership of skb (data at the MAC header)."""
    ipvlan: ipvl_dev = dev.priv
    port = ipvlan.port
    nbytes = skb.len
    if nbytes < ETH_HLEN:
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        ret = netdevice.NET_XMIT_DROP
    elif port.mode == IPVLAN_MODE_L2:
        ret = ipvlan_xmit_mode_l2(skb, port)
    else:
        ret = ipvlan_xmit_mode_l3(skb, port)
    dev_count_tx(dev, nbytes, ret)
    return netdevice.NETDEV_TX_OK
