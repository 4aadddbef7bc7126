"""drivers/net/vrf.c: VRF devices: ports with their own routing table (the term is from RFC 4364).

    vrf_newlink             create a device with its table; the first one of a namespace
                            adds the rules "l3mdev" (vrf_add_fib_rules), which stay
    vrf_add_slave           add a port: its routes move to the VRF's table (cycle_netdev)
    vrf_l3_rcv              a packet received by a port, from ip_rcv_finish: its device is now
                            the VRF, and its taps receive it
    vrf_l3_out              a local packet sent by a port, from __ip_local_out: hooks and
                            taps of the VRF receive it
    vrf_xmit                a packet routed to the VRF: looked up again, in its table. One for an
                            address of the VRF itself is received at once (vrf_local_xmit)

State is `l3mdev_ops`, the private object. core/l3mdev.py explains how a lookup finds the table. A
qdisc on the VRF only gets packets routed to it (vrf_ip_out_redirect is not implemented).
"""

from __future__ import annotations

import errno
from functools import partial

from fastpath.base.skbuff import (
    PACKET_HOST,
    PACKET_LOOPBACK,
    sk_buff,
    skb_copy_bits,
    skb_headroom,
    skb_mac_header_was_set,
    skb_orphan,
    skb_pull,
    skb_push,
)
from fastpath.net.hdr import eth_header_push, ip_hdr, ipv6_hdr
from stack.core import netdevice
from stack.core.backlog import netif_rx
from stack.core.dev import dev_close, dev_open, free_netdev, unregister_netdevice
from stack.core.dev_notifier import register_netdevice_notifier
from stack.core.dev_upper import netdev_master_upper_dev_link, netdev_upper_dev_unlink
from stack.core.dev_xmit import dev_queue_xmit_nit
from stack.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED, kfree_skb_reason
from stack.core.dst import dst_entry, dst_output
from stack.core.errors import os_error
from stack.core.ethtool import ethtool_ops, fixed_drvinfo
from stack.core.fib_rules import fib_rule, fib_rule_add
from stack.core.l3mdev import (
    IFF_L3MDEV,
    l3mdev_fib_table,
    l3mdev_mark,
    l3mdev_ops,
    netif_is_l3_master,
    netif_is_l3_slave,
)
from stack.core.net_namespace import load_module, pernet_operations
from stack.core.netdevice import ETH_HLEN, net_device, net_device_ops, rtnl_link_ops
from stack.core.netfilter import NF_INET_LOCAL_OUT, NF_INET_PRE_ROUTING, Okfn, nf_hook_list
from stack.core.rtnetlink import rtnl_newlink
from stack.core.sock import sock
from stack.core.sysctl_net_core import SysctlError
from stack.core.uapi import AF_INET, AF_INET6, IPV6_HLEN, IPV6_MIN_MTU, RTPROT_KERNEL
from stack.ethernet.eth import eth_mac_addr, eth_type_trans, eth_validate_addr, ether_setup_software
from stack.inet.flow import FLOWI_FLAG_ANYSRC, flowi
from stack.ipv4.addr import ipv4_is_lbcast, ipv4_is_multicast
from stack.ipv4.fib import fib_disable_ip
from stack.ipv4.route import IPTOS_RT_MASK, ip_route_output_flow
from stack.ipv6.addr import rt6_need_strict
from stack.ipv6.addrconf import addrconf_ifdown
from stack.ipv6.ip6_icmp import NDISC_REDIRECT, NDISC_ROUTER_SOLICITATION
from stack.ipv6.protocol import NEXTHDR_ICMP
from stack.ipv6.route import ip6_route_output, ip6_table_route
from stack.ipv6.rt6_info import IP6_MAX_MTU
from stack.net import Net

FIB_RULE_PREF = 1000
"""Priority of the rules that the first VRF adds."""
VRF_FEATURES = (
    netdevice.NETIF_F_SOFTWARE_DEVICE | netdevice.NETIF_F_SCTP_CRC | netdevice.NETIF_F_RXCSUM
)


def vrf_hook(
    family: int,
    hook: int,
    net: Net,
    sk: sock | None,
    skb: sk_buff,
    indev: net_device | None,
    outdev: net_device | None,
    okfn: Okfn,
) -> bool:
    """Run the family's hooks; False if one of them consumed the packet."""
    entries = net.nf_hooks[hook] if family == AF_INET else net.ipv6.nf_hooks[hook]
    if not entries:
        return True
    return nf_hook_list(entries, family, hook, net, sk, skb, indev, outdev, okfn) == 1


# --- packets that ports receive -------------------------------------------------------------------


def vrf_tap(vrf_dev: net_device, skb: sk_buff) -> None:
    """Pass a packet (data at its network header) to the VRF's taps with an Ethernet header.

    vrf_finish_direct, vrf_add_mac_header_if_unset. Skipped if there is no room for the header.
    """
    if not vrf_dev.ptype_specific:
        return
    had = skb_mac_header_was_set(skb) and skb.network_header - skb.mac_header == ETH_HLEN
    if had and skb.mac_header == skb.data_offset - ETH_HLEN:
        skb_push(skb, ETH_HLEN)
    elif skb_headroom(skb) >= ETH_HLEN:
        eth_header_push(skb, bytes(6), vrf_dev.dev_addr, skb.protocol)
    else:
        return
    dev_queue_xmit_nit(skb, vrf_dev)
    skb_pull(skb, ETH_HLEN)


def vrf_rcv_finish(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """okfn of the VRF's PRE_ROUTING hook: drop a packet that a hook queued."""
    kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    return 0


def vrf_ip_rcv(vrf_dev: net_device, skb: sk_buff) -> sk_buff | None:
    """Move an IPv4 packet from a port, or a looped-back one, to the VRF.

    Returns it, or None if a hook consumed it.
    """
    l3mdev_mark(skb)
    skb.dev = vrf_dev
    skb.skb_iif = vrf_dev.ifindex
    if ipv4_is_multicast(ip_hdr(skb).daddr):
        return skb
    if skb.pkt_type == PACKET_LOOPBACK:
        skb.pkt_type = PACKET_HOST
        return skb
    vrf_dev.stats.rx_packets += 1
    vrf_dev.stats.rx_bytes += skb.len
    vrf_tap(vrf_dev, skb)
    passes = vrf_hook(
        AF_INET, NF_INET_PRE_ROUTING, vrf_dev.net, None, skb, vrf_dev, None, vrf_rcv_finish
    )
    return skb if passes else None


def ipv6_ndisc_frame(skb: sk_buff) -> bool:
    """Whether it is neighbour discovery, which concerns its own link (RFC 4861)."""
    nexthdr = ipv6_hdr(skb).nexthdr
    if nexthdr != NEXTHDR_ICMP or skb.len <= IPV6_HLEN:
        return False
    return NDISC_ROUTER_SOLICITATION <= skb_copy_bits(skb, IPV6_HLEN, 1)[0] <= NDISC_REDIRECT


def vrf_ip6_input_dst(skb: sk_buff, vrf_dev: net_device, ifindex: int) -> None:
    """The route of a packet to a link-local address or group, on its receiving link."""
    net = vrf_dev.net
    daddr = ipv6_hdr(skb).daddr
    rt = ip6_table_route(net, vrf_dev, daddr, ifindex)
    if rt is not net.ipv6.ip6_null_entry:
        skb.dst = rt


def vrf_ip6_rcv(vrf_dev: net_device, skb: sk_buff) -> sk_buff | None:
    """vrf_ip_rcv for IPv6. Neighbour discovery stays on the port."""
    ifindex = skb.skb_iif
    strict, ndisc = rt6_need_strict(ipv6_hdr(skb).daddr), ipv6_ndisc_frame(skb)
    looped = skb.pkt_type == PACKET_LOOPBACK
    if looped or not ndisc:
        l3mdev_mark(skb)
        skb.dev = vrf_dev
        skb.skb_iif = vrf_dev.ifindex
    if looped:
        skb.pkt_type = PACKET_HOST
        return skb
    if strict:
        vrf_ip6_input_dst(skb, vrf_dev, ifindex)
        if not ndisc:
            return skb
    if not ndisc:
        vrf_dev.stats.rx_packets += 1
        vrf_dev.stats.rx_bytes += skb.len
        vrf_tap(vrf_dev, skb)
    passes = vrf_hook(
        AF_INET6, NF_INET_PRE_ROUTING, vrf_dev.net, None, skb, vrf_dev, None, vrf_rcv_finish
    )
    return skb if passes else None


def vrf_l3_rcv(vrf_dev: net_device, skb: sk_buff, family: int) -> sk_buff | None:
    """l3mdev_l3_rcv"""
    return vrf_ip_rcv(vrf_dev, skb) if family == AF_INET else vrf_ip6_rcv(vrf_dev, skb)


# --- packets that leave by ports ------------------------------------------------------------------


def vrf_out_finish(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """vrf_ip_out_direct_finish: okfn: send a packet that a hook queued."""
    vrf_tap(skb.dev, skb)
    return dst_output(net, sk, skb)


def vrf_out_direct(
    vrf_dev: net_device, sk: sock | None, skb: sk_buff, family: int
) -> sk_buff | None:
    """vrf_ip_out_direct, vrf_ip6_out_direct. Returns skb, or None if a hook consumed it."""
    skb.dev = vrf_dev
    skb.protocol = netdevice.ETH_P_IP if family == AF_INET else netdevice.ETH_P_IPV6
    if not vrf_hook(family, NF_INET_LOCAL_OUT, vrf_dev.net, sk, skb, None, vrf_dev, vrf_out_finish):
        return None
    vrf_tap(vrf_dev, skb)
    return skb


def vrf_ip_out(vrf_dev: net_device, sk: sock | None, skb: sk_buff) -> sk_buff | None:
    """Run the VRF's LOCAL_OUT hook and taps for a local IPv4 packet sent by a port."""
    daddr = ip_hdr(skb).daddr
    if ipv4_is_multicast(daddr) or ipv4_is_lbcast(daddr):
        return skb
    return vrf_out_direct(vrf_dev, sk, skb, AF_INET)


def vrf_l3_out(vrf_dev: net_device, sk: sock | None, skb: sk_buff, family: int) -> sk_buff | None:
    """l3mdev_l3_out"""
    return vrf_ip_out(vrf_dev, sk, skb) if family == AF_INET else vrf_ip6_out(vrf_dev, sk, skb)


def vrf_ip6_out(vrf_dev: net_device, sk: sock | None, skb: sk_buff) -> sk_buff | None:
    """vrf_ip_out for IPv6, except link-local and multicast addresses and neighbour discovery."""
    if rt6_need_strict(ipv6_hdr(skb).daddr) or ipv6_ndisc_frame(skb):
        return skb
    return vrf_out_direct(vrf_dev, sk, skb, AF_INET6)


# --- packets routed to the VRF --------------------------------------------------------------------


def vrf_local_xmit(skb: sk_buff, dev: net_device, dst: dst_entry) -> int:
    """Receive a packet for an address of the VRF itself. Takes ownership."""
    size = skb.len
    skb_orphan(skb)
    skb.dst = dst
    skb.protocol = eth_type_trans(skb, dev)
    skb.pkt_type = PACKET_LOOPBACK  # so that taps do not receive it twice
    if netif_rx(skb) == netdevice.NET_RX_SUCCESS:
        dev.stats.rx_packets += 1
        dev.stats.rx_bytes += size
    return netdevice.NET_XMIT_SUCCESS


def vrf_route_xmit(skb: sk_buff, dev: net_device, dst: dst_entry, family: int) -> int:
    """Send a packet along its route after the LOCAL_OUT hook. Takes ownership."""
    net = dev.net
    skb.dst = dst
    skb_pull(skb, ETH_HLEN)
    skb.ip_cb_flags = 0
    passes = vrf_hook(family, NF_INET_LOCAL_OUT, net, skb.sk, skb, None, dst.dev, dst_output)
    if passes and dst_output(net, skb.sk, skb) < 0:
        dev.stats.tx_errors += 1
    return netdevice.NET_XMIT_SUCCESS


def vrf_xmit_drop(skb: sk_buff, dev: net_device) -> int:
    """vrf_tx_error. Takes ownership. NET_XMIT_DROP."""
    dev.stats.tx_errors += 1
    kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    return netdevice.NET_XMIT_DROP


def vrf_process_v4_outbound(skb: sk_buff, vrf_dev: net_device) -> int:
    """Look up a packet in the VRF's table and send it. NET_XMIT_*. Takes ownership."""
    net = vrf_dev.net
    if skb.len < ETH_HLEN + 20:
        return vrf_xmit_drop(skb, vrf_dev)
    skb.network_header = skb.data_offset + ETH_HLEN
    iph = ip_hdr(skb)
    fl4 = flowi(AF_INET, iph.daddr, iph.saddr, vrf_dev.ifindex, iph.tos & IPTOS_RT_MASK)
    fl4.flowi_proto, fl4.flowi_flags = iph.protocol, FLOWI_FLAG_ANYSRC
    try:
        rt = ip_route_output_flow(net, fl4)
    except OSError:
        return vrf_xmit_drop(skb, vrf_dev)
    if rt.dev is vrf_dev:
        return vrf_local_xmit(skb, vrf_dev, rt)
    return vrf_route_xmit(skb, vrf_dev, rt, AF_INET)


def vrf_process_v6_outbound(skb: sk_buff, vrf_dev: net_device) -> int:
    """vrf_process_v4_outbound for IPv6."""
    net = vrf_dev.net
    if skb.len < ETH_HLEN + IPV6_HLEN:
        return vrf_xmit_drop(skb, vrf_dev)
    skb.network_header = skb.data_offset + ETH_HLEN
    iph = ipv6_hdr(skb)
    fl6 = flowi(AF_INET6, iph.daddr, iph.saddr, vrf_dev.ifindex, iph.priority)
    fl6.flowi_proto, fl6.flowlabel, fl6.flowi_mark = iph.nexthdr, iph.flow_lbl, skb.mark
    rt = ip6_route_output(net, None, fl6)
    if rt.error:
        return vrf_xmit_drop(skb, vrf_dev)
    if rt.dev is vrf_dev:
        return vrf_local_xmit(skb, vrf_dev, rt)
    return vrf_route_xmit(skb, vrf_dev, rt, AF_INET6)


def vrf_xmit(skb: sk_buff, dev: net_device) -> int:
    """ndo_start_xmit: NETDEV_TX_OK. Takes ownership."""
    size = skb.len
    if skb.protocol == netdevice.ETH_P_IP:
        ret = vrf_process_v4_outbound(skb, dev)
    elif skb.protocol == netdevice.ETH_P_IPV6:
        ret = vrf_process_v6_outbound(skb, dev)
    else:
        ret = vrf_xmit_drop(skb, dev)
    if ret == netdevice.NET_XMIT_SUCCESS:
        dev.stats.tx_packets += 1
        dev.stats.tx_bytes += size
    else:
        dev.stats.tx_dropped += 1
    return netdevice.NETDEV_TX_OK


# --- ports ----------------------------------------------------------------------------------------


def cycle_netdev(dev: net_device) -> None:
    """Bring it down and up, so that routes and neighbours are recreated."""
    if dev.flags & netdevice.IFF_UP:
        dev_close(dev)
        dev_open(dev)


def vrf_changeupper(dev: net_device) -> None:
    """NETDEV_CHANGEUPPER with an L3 master, as handled by fib_netdev_event and addrconf_notify."""
    fib_disable_ip(dev)
    addrconf_ifdown(dev, False)


def vrf_add_slave(dev: net_device, port_dev: net_device) -> int:
    """ndo_add_slave: `port_dev` becomes a port of the VRF `dev`.

    0; -EINVAL: a VRF or a port of one; -EOPNOTSUPP: lo; -EBUSY: it has a master.
    """
    if port_dev.priv_flags & IFF_L3MDEV:
        return -errno.EINVAL
    if port_dev is dev.net.loopback_dev:
        return -errno.EOPNOTSUPP
    port_dev.priv_flags |= netdevice.IFF_L3MDEV_SLAVE
    err = netdev_master_upper_dev_link(port_dev, dev)
    if err:
        port_dev.priv_flags &= ~netdevice.IFF_L3MDEV_SLAVE
        return err
    vrf_changeupper(port_dev)
    cycle_netdev(port_dev)
    return 0


def vrf_del_slave(dev: net_device, port_dev: net_device) -> int:
    """ndo_del_slave. 0."""
    netdev_upper_dev_unlink(port_dev, dev)
    port_dev.priv_flags &= ~netdevice.IFF_L3MDEV_SLAVE
    vrf_changeupper(port_dev)
    cycle_netdev(port_dev)
    return 0


# --- the device -----------------------------------------------------------------------------------


vrf_netdev_ops = net_device_ops(
    ndo_start_xmit=vrf_xmit,
    ndo_set_mac_address=eth_mac_addr,
    ndo_validate_addr=eth_validate_addr,
)
vrf_ethtool_ops = ethtool_ops(get_drvinfo=fixed_drvinfo("vrf", "1.0"))


def vrf_setup(dev: net_device) -> None:
    """Ethernet without ARP and queue; the MTU has no effect, as for lo."""
    ether_setup_software(dev, vrf_netdev_ops, vrf_ethtool_ops)
    dev.flags = netdevice.IFF_MASTER | netdevice.IFF_NOARP
    dev.min_mtu, dev.max_mtu, dev.mtu = IPV6_MIN_MTU, IP6_MAX_MTU, IP6_MAX_MTU
    dev.priv_flags |= netdevice.IFF_L3MDEV_MASTER
    dev.features = VRF_FEATURES | netdevice.NETIF_F_NETNS_LOCAL
    dev.hw_features = VRF_FEATURES


def vrf_newlink(net: Net, name: str, table: int, mac: bytes | None = None) -> net_device:
    """`ip link add NAME type vrf table TABLE`.

    Raises:
        OSError: EEXIST, the name is taken. EINVAL: the table is 0. EBUSY: another VRF uses the
            table (net.vrf.strict_mode).
        ValueError: the name is empty or too long.
    """
    if not table:
        raise os_error(errno.EINVAL, "Invalid VRF table id")
    load_module(net.machine, "vrf", vrf_net_ops)
    if vrf_table_taken(net, table):
        raise os_error(errno.EBUSY, "Table is used by another VRF")
    priv = l3mdev_ops(table, vrf_l3_rcv, vrf_l3_out)
    dev = rtnl_newlink(net, name, vrf_link_ops, vrf_setup, mac, lambda _dev: priv)
    vrf_add_fib_rules(net)
    return dev


def vrf_tables(net: Net) -> list[int]:
    """vrf_map: the table of each VRF of the namespace."""
    return [l3mdev_fib_table(dev) for dev in net.dev_base_head if netif_is_l3_master(dev)]


def vrf_table_taken(net: Net, table: int) -> bool:
    """vrf_map_register_dev: whether strict mode rejects another VRF with this table."""
    return bool(net.sysctl.strict_mode) and table in vrf_tables(net)


def vrf_strict_mode(net: Net, mode: int) -> None:
    """vrf_strict_mode_change: set net.vrf.strict_mode.

    Raises: OSError EBUSY: two VRFs have the same table.
    """
    tables = vrf_tables(net)
    if mode and not net.sysctl.strict_mode and len(set(tables)) < len(tables):
        raise SysctlError(errno.EBUSY, "sysctl net.vrf.strict_mode: VRFs share a table")


def vrf_add_fib_rules(net: Net) -> None:
    """Add the rules "l3mdev" of both families with a namespace's first VRF; they stay."""
    for ops in (net.fib.ops, net.ipv6.fib6.ops):
        if not ops.l3mdev_rule:
            ops.l3mdev_rule = True
            rule = fib_rule(FIB_RULE_PREF, l3mdev=1, proto=RTPROT_KERNEL)
            if rule not in ops.rules:
                fib_rule_add(net, ops, rule)


def vrf_dellink(dev: net_device) -> None:
    """`ip link del`: release the ports."""
    if dev.reg_state != netdevice.NETREG_REGISTERED:
        return
    for port in tuple(dev.lower):
        vrf_del_slave(dev, port)
    unregister_netdevice(dev)
    free_netdev(dev)


vrf_link_ops = rtnl_link_ops("vrf", vrf_dellink)


def vrf_device_event(event: int, dev: net_device) -> int | None:
    """A port is removed or changes its namespace."""
    if event == netdevice.NETDEV_UNREGISTER and netif_is_l3_slave(dev) and dev.master is not None:
        vrf_del_slave(dev.master, dev)
    return None


def vrf_init_net(net: Net) -> None:
    """Register the device notifier and the sysctl."""
    register_netdevice_notifier(net, vrf_device_event)
    net.sysctl.on_write("strict_mode", partial(vrf_strict_mode, net), now=False)


vrf_net_ops = pernet_operations(init=vrf_init_net)
