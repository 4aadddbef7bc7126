"""Receiving lists of packets: the part that IPv4 and IPv6 share.

net/ipv4/ip_input.c, net/ipv6/ip6_input.c:

    ip_list_rcv, ipv6_list_rcv                      entries of packet_type
      inet_list_rcv                                 check each header; lists of one device
      ip_sublist_rcv, ip6_sublist_rcv               PRE_ROUTING hook
        ip_list_rcv_finish, ip6_list_rcv_finish
          inet_list_rcv_finish                      find each route; lists of one route
          ip_sublist_rcv_finish, ip6_...
            inet_sublist_rcv_finish                 dst_input of each

An exception belongs to one packet: the others of its list are processed, then it is raised
(raise_later). Merged datagrams (SKB_GSO_UDP_L4) are split and received as a list if a hook or raw
socket must see each of them, or if they are not for this host.
"""

from __future__ import annotations

from collections.abc import Callable

from fastpath.base.skbuff import SKB_GSO_UDP_L4, sk_buff
from stack.core.dev_receive import gro_split
from stack.core.dst import dst_entry, dst_input
from stack.core.netdevice import NET_RX_SUCCESS, SkbList, net_device
from stack.core.netfilter import NF_INET_LOCAL_IN, NF_INET_PRE_ROUTING, nf_hook_ops
from stack.core.rows import state
from stack.core.softirq import raise_later
from stack.core.uapi import IPPROTO_UDP
from stack.net import Net

ONE_BY_ONE = 2
"""Beside NET_RX_SUCCESS and NET_RX_DROP: the caller must split the merged datagrams."""


@state
class inet_rcv_ops:
    """A family's functions for the packets of a list. They take ownership of packets."""

    one_by_one: Callable[[Net], bool]
    """Whether merged datagrams must be split, because a hook or a raw socket examines them."""

    rcv_core: Callable[[sk_buff, Net], sk_buff | None]
    """Check a header. The packet, perhaps a clone, or None when it was dropped."""

    sublist_rcv: Callable[[SkbList, net_device, Net], None]
    """Packets of one device whose headers are fine."""

    rcv_finish_core: Callable[[Net, sk_buff], int]
    """Find the route. NET_RX_SUCCESS and ONE_BY_ONE leave the packet with the caller."""

    sublist_rcv_finish: Callable[[Net, SkbList], None]
    """Packets of one route."""


def inet_list_rcv(skbs: list[sk_buff], ops: inet_rcv_ops) -> None:
    """Receive packets; neighbours of the same device are processed as a list.

    Takes ownership of them and of the list.
    """
    curr_dev: net_device | None = None
    dev: net_device
    skb: sk_buff
    sublist: list[sk_buff] = []
    at = 0
    while at < len(skbs):
        skb = skbs[at]
        dev = skb.dev
        try:
            while at < len(skbs):
                skb = skbs[at]
                at += 1
                dev = skb.dev
                if skb.gso_type & SKB_GSO_UDP_L4 and ops.one_by_one(dev.net):
                    skbs[at:at] = gro_split(skb)
                    continue
                checked = ops.rcv_core(skb, dev.net)
                if checked is None:
                    continue
                if dev is not curr_dev:
                    if sublist:
                        run, sublist = sublist, []
                        inet_sublist_rcv(run, ops)
                    curr_dev = dev
                sublist.append(checked)
        except BaseException as wrong:
            raise_later(dev.net.machine, wrong)
    if sublist:
        inet_sublist_rcv(sublist, ops)


def inet_sublist_rcv(skbs: list[sk_buff], ops: inet_rcv_ops) -> None:
    """Pass on packets of one device. Takes ownership of them and of the list."""
    dev: net_device = skbs[0].dev
    ops.sublist_rcv(skbs, dev, dev.net)


def inet_list_rcv_finish(net: Net, skbs: list[sk_buff], ops: inet_rcv_ops) -> None:
    """Route packets; neighbours of the same route are passed on as a list.

    A list is passed on when a packet has another route. Takes ownership of them and of the list.
    """
    curr_dst: dst_entry | None = None
    dst: dst_entry
    skb: sk_buff
    sublist: list[sk_buff] = []
    at = 0
    while at < len(skbs):
        try:
            while at < len(skbs):
                skb = skbs[at]
                at += 1
                verdict = ops.rcv_finish_core(net, skb)
                if verdict == ONE_BY_ONE:
                    skbs[at:at] = gro_split(skb)
                elif verdict == NET_RX_SUCCESS:
                    dst = skb.dst
                    if dst is not curr_dst:
                        if sublist:
                            run, sublist = sublist, []
                            ops.sublist_rcv_finish(net, run)
                        curr_dst = dst
                    sublist.append(skb)
        except BaseException as wrong:
            raise_later(net.machine, wrong)
    if sublist:
        ops.sublist_rcv_finish(net, sublist)


def inet_sublist_rcv_finish(net: Net, skbs: list[sk_buff]) -> None:
    """ip_sublist_rcv_finish, ip6_sublist_rcv_finish: pass on packets of one route."""
    at = 0
    while at < len(skbs):
        try:
            while at < len(skbs):
                at += 1
                dst_input(skbs[at - 1])
        except BaseException as wrong:
            raise_later(net.machine, wrong)


def inet_rcv_one_by_one(net: Net, family: int, hooks: list[list[nf_hook_ops]]) -> bool:
    """inet_rcv_ops.one_by_one of the family with these hooks."""
    return bool(
        hooks[NF_INET_PRE_ROUTING]
        or hooks[NF_INET_LOCAL_IN]
        or (net.raw_hash and (family, IPPROTO_UDP) in net.raw_hash)
    )
