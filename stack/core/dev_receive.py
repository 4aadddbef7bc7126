"""net/core/dev.c: a received packet goes to taps, VLANs, rx_handlers and the protocol.

Called by drivers, GRO and the backlog (NAPI, in softirq context), with data after the MAC header:

    netif_receive_skb                       one packet
        deliver_skb                         fast path: `dev.rx_fast` has the only handler
        __netif_receive_skb
            __netif_receive_skb_one_core
                __netif_receive_skb_core    taps, filters, VLAN tag, rx_handler (bridge), handlers
                deliver_skb => packet_type.func             ip_rcv, ipv6_rcv, arp_rcv, packet_rcv
    netif_receive_skb_list_internal         several packets, in their order
        __netif_receive_skb_list_core       runs of one handler and device are kept together
            __netif_receive_skb_list_ptype => packet_type.list_func

__netif_receive_skb_core starts again when a VLAN device or an rx_handler gives the packet another
device. State: `net.ptype_all` and `net.ptype_base` hold taps and handlers, `dev.ptype_specific`
those of one device. rx_fast_update derives `dev.rx_fast` from them, so functions that change
handlers (dev_add_pack, netdev_rx_handler_register) call it. Read __netif_receive_skb_core first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from fastpath.base import skbuff
from fastpath.base.intmap import IntMap
from fastpath.base.skbuff import consume_skb, sk_buff, skb_get, skb_reset_network_header
from fastpath.net.gso import gro_unmerge
from fastpath.net.inet import skb_enter_network
from stack.core import netdevice
from stack.core.dev_tc import sch_handle_ingress
from stack.core.drop_reason import SKB_DROP_REASON_UNHANDLED_PROTO, kfree_skb_reason
from stack.core.if_vlan import (
    __vlan_hwaccel_clear_tag,
    eth_type_vlan,
    skb_vlan_untag,
    vlan_do_receive,
    vlan_find_dev,
)
from stack.core.netdevice import net_device, packet_type
from stack.core.netstamp import net_timestamp_check
from stack.core.redirect import TC_SKIP_CLASSIFY
from stack.core.softirq import raise_later
from stack.net import Net


def netif_receive_skb(skb: sk_buff) -> int:
    """net/core/dev.c: pass a received packet up, in softirq context. NET_RX_*.

    Takes ownership of skb (data past the MAC header; dev, protocol, pkt_type, mac_header set).
    `dev.rx_fast` finds the handler in the usual case: one handler, no tap, no rx_handler, no tag.
    All other packets go through __netif_receive_skb_core.
    """
    dev: net_device = skb.dev
    machine = dev.machine
    if machine.net_hotdata.netstamp_needed:
        net_timestamp_check(skb, machine)
    ptype = dev.rx_fast.find(skb_enter_network(skb, dev.ifindex))
    if ptype is None:
        return __netif_receive_skb(skb)
    return deliver_skb(skb, ptype, dev)


def rx_fast_update(net: Net) -> None:
    """Recompute `rx_fast` of every device: handlers, taps or rx_handlers changed."""
    alone = IntMap(
        {
            proto: handlers[0]
            for proto, handlers in net.ptype_base.items()
            if len(handlers) == 1 and proto not in (netdevice.ETH_P_8021Q, netdevice.ETH_P_8021AD)
        }
    )
    for dev in net.dev_base_head:
        slow = net.ptype_all or dev.ptype_specific or dev.rx_handler is not None
        slow = slow or dev.tcx_ingress is not None
        dev.rx_fast = IntMap() if slow else alone


def __netif_receive_skb(skb: sk_buff) -> int:
    """net/core/dev.c. Splits merged datagrams: taps and rx_handlers see them one by one."""
    if not skb.gso_type & skbuff.SKB_GSO_UDP_L4:
        return __netif_receive_skb_one_core(skb)
    dev: net_device = skb.dev
    skb_reset_network_header(skb)
    for segment in gro_split(skb):
        try:
            __netif_receive_skb_one_core(segment)
        except BaseException as wrong:
            raise_later(dev.machine, wrong)
    return netdevice.NET_RX_SUCCESS


def __netif_receive_skb_one_core(skb: sk_buff) -> int:
    """net/core/dev.c: one packet, to the last of its handlers too. Takes ownership of skb."""
    orig_dev: net_device = skb.dev
    ret, last, pt_prev = __netif_receive_skb_core(skb)
    if pt_prev is not None and last is not None:
        return deliver_skb(last, pt_prev, orig_dev)
    return ret


def netif_receive_skb_list_internal(skbs: list[sk_buff]) -> None:
    """net/core/dev.c (with __netif_receive_skb_list): without RPS, as there is one CPU."""
    dev: net_device = skbs[0].dev
    machine = dev.machine
    if machine.net_hotdata.netstamp_needed:
        for skb in skbs:
            net_timestamp_check(skb, machine)
    __netif_receive_skb_list_core(skbs)


def __netif_receive_skb_list_core(skbs: list[sk_buff]) -> None:
    """net/core/dev.c: deliver successive packets of one handler and device as one list.

    The handler of each packet is looked up before the first of its list is delivered. Does not
    raise, so that a packet's exception does not lose the following packets.
    """
    pt_curr: packet_type | None = None
    pt_prev: packet_type | None = None
    od_curr: net_device | None = None
    dev: net_device
    sublist: list[sk_buff] = []
    last: sk_buff | None
    for skb in skbs:
        dev = skb.dev
        pt_prev = dev.rx_fast.find(skb_enter_network(skb, dev.ifindex))
        if pt_prev is None and skb.gso_type & skbuff.SKB_GSO_UDP_L4:
            __netif_receive_skb_list_ptype(sublist, pt_curr, od_curr)
            sublist = []
            __netif_receive_skb(skb)
            continue
        last = skb
        if pt_prev is None:
            try:
                _, last, pt_prev = __netif_receive_skb_core(skb)
            except BaseException as wrong:
                raise_later(dev.machine, wrong)
                continue
            if pt_prev is None or last is None:
                continue
        if pt_prev is not pt_curr or dev is not od_curr:
            if sublist:
                __netif_receive_skb_list_ptype(sublist, pt_curr, od_curr)
                sublist = []
            pt_curr = pt_prev
            od_curr = dev
        sublist.append(last)
    __netif_receive_skb_list_ptype(sublist, pt_curr, od_curr)


def __netif_receive_skb_list_ptype(
    skbs: list[sk_buff], pt_prev: packet_type | None, orig_dev: net_device | None
) -> None:
    """net/core/dev.c: one handler gets packets that `orig_dev` received. Takes ownership."""
    if pt_prev is None or orig_dev is None or not skbs:
        return
    list_func = pt_prev.list_func
    if list_func is not None and len(skbs) > 1:
        list_func(skbs, pt_prev, orig_dev)
        return
    for skb in skbs:
        try:
            deliver_skb(skb, pt_prev, orig_dev)
        except BaseException as wrong:
            raise_later(orig_dev.machine, wrong)


def gro_split(skb: sk_buff) -> list[sk_buff]:
    """Split a sk_buff of merged datagrams into the received ones; none if out of memory.

    Takes ownership of skb (data at or behind its network header). The result is at that header.
    """
    dev: net_device = skb.dev
    segs = skb.gso_segs
    pool = dev.net.skb_small_head
    if skb.data_offset + skb.len - skb.data_len + skb.gso_size > pool.buf_bytes:
        pool = dev.net.skb_small
    try:
        return gro_unmerge(skb, pool)
    except (ValueError, MemoryError):
        dev.stats.rx_dropped += segs
        return []


def __netif_receive_skb_core(skb: sk_buff) -> tuple[int, sk_buff | None, packet_type | None]:
    """net/core/dev.c: taps, VLAN, rx_handler, then all but the last of the protocol's handlers.

    Returns NET_RX_*, the packet (perhaps another sk_buff) and the handler that remains; the latter
    two are None when the packet was taken or dropped. Takes ownership of skb.
    """
    orig_dev: net_device = skb.dev
    dev: net_device
    vlan_dev: net_device | None
    net: Net
    ptype: packet_type
    skb_reset_network_header(skb)
    while True:
        dev = skb.dev
        net = dev.net
        skb.skb_iif = dev.ifindex
        if eth_type_vlan(skb.protocol):
            untagged = skb_vlan_untag(skb)
            if untagged is None:
                return netdevice.NET_RX_DROP, None, None
            skb = untagged
        skip = skb.cb is TC_SKIP_CLASSIFY
        if skip:
            skb.cb = None
        tapped = False  # a tap got it last (pt_prev of the kernel): it does not count as dropped
        if not skip and (net.ptype_all or dev.ptype_specific):
            for ptype in (*net.ptype_all, *dev.ptype_specific):
                if ptype.type == netdevice.ETH_P_ALL and (ptype.dev is None or ptype.dev is dev):
                    deliver_skb(skb_get(skb), ptype, orig_dev)
                    tapped = dev.tcx_ingress is None and dev.rx_handler is None
        if dev.tcx_ingress is not None and not skip:
            ret = sch_handle_ingress(skb, dev.tcx_ingress)
            if ret >= 0:
                return ret, None, None
        if skb.vlan_proto:
            tapped = False
            vlan_dev = vlan_find_dev(dev, skb.vlan_proto, skb.vlan_tci & netdevice.VLAN_VID_MASK)
            if vlan_dev is not None:
                received = vlan_do_receive(skb, vlan_dev)
                if received is None:
                    return netdevice.NET_RX_DROP, None, None
                skb = received
                continue
        handler = dev.rx_handler
        exact = False
        if handler is not None:
            verdict = handler(skb)
            if verdict == netdevice.RX_HANDLER_CONSUMED:
                return netdevice.NET_RX_SUCCESS, None, None
            if verdict == netdevice.RX_HANDLER_ANOTHER:
                continue
            exact = verdict == netdevice.RX_HANDLER_EXACT
        vlan_dev = None
        while skb.vlan_proto:
            if skb.vlan_tci & netdevice.VLAN_VID_MASK:  # no device has this VLAN
                skb.pkt_type = skbuff.PACKET_OTHERHOST
            elif eth_type_vlan(skb.protocol):  # a priority tag around another
                __vlan_hwaccel_clear_tag(skb)
                untagged = skb_vlan_untag(skb)
                if untagged is None:
                    return netdevice.NET_RX_DROP, None, None
                skb = untagged
                vlan_dev = vlan_find_dev(
                    dev, skb.vlan_proto, skb.vlan_tci & netdevice.VLAN_VID_MASK
                )
                if vlan_dev is None:
                    continue
                received = vlan_do_receive(skb, vlan_dev)
                if received is None:
                    return netdevice.NET_RX_DROP, None, None
                skb = received
                break
            __vlan_hwaccel_clear_tag(skb)
        if vlan_dev is not None:
            continue
        break
    proto = skb.protocol
    handlers = net.ptype_base.get(proto)
    if handlers is not None and not exact and len(handlers) == 1 and not dev.ptype_specific:
        ptype = handlers[0]
        if ptype.dev is None or ptype.dev is dev:
            return netdevice.NET_RX_SUCCESS, skb, ptype
    pt_prev = None
    for ptype in (*(handlers or ()), *dev.ptype_specific):
        if ptype.type != proto or (ptype.dev is None and exact):
            continue
        if ptype.dev is not None and ptype.dev is not dev and ptype.dev is not orig_dev:
            continue
        if pt_prev is not None:
            deliver_skb(skb_get(skb), pt_prev, orig_dev)
        pt_prev = ptype
    if pt_prev is not None:
        return netdevice.NET_RX_SUCCESS, skb, pt_prev
    if tapped:
        consume_skb(skb)
        return netdevice.NET_RX_SUCCESS, None, None
    if exact:
        dev.stats.rx_nohandler += 1
    else:
        dev.stats.rx_dropped += 1
    kfree_skb_reason(net, skb, SKB_DROP_REASON_UNHANDLED_PROTO)
    return netdevice.NET_RX_DROP, None, None


def deliver_skb(skb: sk_buff, pt_prev: packet_type, orig_dev: net_device) -> int:
    """net/core/dev.c: one handler gets the packet. Takes ownership of (one reference to) skb."""
    func = pt_prev.func
    return func(skb, skb.dev, pt_prev, orig_dev)


def dev_add_pack(net: Net, pt: packet_type) -> None:
    """net/core/dev.c: add a protocol handler or tap."""
    _ptype_head(net, pt).append(pt)
    rx_fast_update(net)


def dev_remove_pack(net: Net, pt: packet_type) -> None:
    """net/core/dev.c: remove it; unknown ones are ignored."""
    head = _ptype_head(net, pt)
    if pt in head:
        head.remove(pt)
    if not head and pt.type != netdevice.ETH_P_ALL and pt.dev is None:
        net.ptype_base.pop(pt.type, None)
    rx_fast_update(net)


def _ptype_head(net: Net, pt: packet_type) -> list[packet_type]:
    if pt.type == netdevice.ETH_P_ALL:
        return net.ptype_all if pt.dev is None else pt.dev.ptype_specific
    if pt.dev is not None:
        return pt.dev.ptype_specific
    return net.ptype_base.setdefault(pt.type, [])


def netdev_rx_handler_register(dev: net_device, handler: Callable[[Any], int], data: Any) -> int:
    """net/core/dev.c: a bridge or bond takes over. 0, -EBUSY; -EINVAL: IFF_NO_RX_HANDLER."""
    if dev.rx_handler is not None:
        return -errno.EBUSY
    if dev.priv_flags & netdevice.IFF_NO_RX_HANDLER:
        return -errno.EINVAL
    dev.rx_handler_data = data
    dev.rx_handler = handler
    rx_fast_update(dev.net)
    return 0


def netdev_rx_handler_unregister(dev: net_device) -> None:
    """net/core/dev.c."""
    dev.rx_handler = None
    dev.rx_handler_data = None
    rx_fast_update(dev.net)
