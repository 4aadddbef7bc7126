"""net/ipv6/ip6mr.c: IPv6 multicast routing: the part that is specific to the family.

    ip6_mc_input => ip6_mr_input            a received packet to a group; own ones too, looped back
    ip6mr_queue_xmit                        out over an interface: hop limit - 1, the FORWARD hook
    ip6mr_cache_report                      a message to the daemon, on its raw socket of ICMPv6

The common part is stack/inet/ipmr_base.py. A message is struct mrt6msg, whose first byte is not a
type of ICMPv6, and 40 unused bytes; MRT6MSG_WHOLEPKT and WRMIFWHOLE have the packet instead:

    | 0 | im6_msgtype | im6_mif 2 | im6_pad 4 | im6_src 16 | im6_dst 16 | ...
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_cow
from fastpath.net.hdr import ipv6_hdr
from stack.core import drop_reason, uapi
from stack.core.dev import dev_set_allmulti
from stack.core.devconf import netconf_notify
from stack.core.drop_reason import kfree_skb_reason
from stack.core.netdevice import net_device
from stack.core.netfilter import NF_INET_FORWARD, nf_hook6
from stack.core.uapi import IPV6_HLEN
from stack.inet.flow import flowi
from stack.inet.ipmr_base import (
    IGMPMSG_WHOLEPKT,
    IGMPMSG_WRVIFWHOLE,
    RTNL_FAMILY_IP6MR,
    mr_find,
    mr_forward,
    mr_no_route,
    mr_queue_report,
    mr_report,
    mr_table,
    mr_table_ops,
    vif_device,
)
from stack.ipv6.ip6_cb import IP6SKB_FORWARDED
from stack.ipv6.ip6_fib import RT6_TABLE_MAIN
from stack.ipv6.ip6_forward import ip6_forward_finish
from stack.ipv6.ip6_input import ip6_rcv_dev
from stack.ipv6.route import ip6_route_output

if TYPE_CHECKING:
    from stack.inet.raw import raw_sock
    from stack.net import Net

MRT6MSG = struct.Struct("=BBHI16s16s")

# --- packets --------------------------------------------------------------------------------------


def ip6_mr_input(skb: sk_buff) -> int:
    """net/ipv6/ip6mr.c: route a packet to a group. 0 or -errno. Takes ownership."""
    dev = ip6_rcv_dev(skb)
    mrt: mr_table | None = dev.net.ipv6.mrt
    if mrt is None:
        kfree_skb_reason(dev.net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
        return 0
    iph = ipv6_hdr(skb)
    saddr, daddr = iph.saddr, iph.daddr
    c = mr_find(mrt, saddr, daddr, dev)
    if c is None:
        return mr_no_route(mrt, dev, skb, saddr, daddr)
    mr_forward(mrt, dev, skb, c, False)
    return 0


def ip6mr_queue_xmit(mrt: mr_table, vifi: int, skb: sk_buff) -> None:
    """net/ipv6/ip6mr.c ip6mr_forward2: send a packet over an interface. Takes ownership of skb."""
    net: Net = mrt.net
    vif: vif_device = mrt.vif_table[vifi]
    dev = vif.dev
    if dev is None:
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
        return
    fl6 = flowi(uapi.AF_INET6, daddr=ipv6_hdr(skb).daddr, flowi_oif=dev.ifindex)
    rt = ip6_route_output(net, None, fl6)
    if rt.error:
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_OUTNOROUTES)
        return
    came = skb.dev
    skb.dst = rt
    skb.dev = dev
    vif.pkt_out += 1
    vif.bytes_out += skb.len
    if not skb_cow(skb, dev.hard_header_len + dev.needed_headroom + 16):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOMEM)
        return
    ipv6_hdr(skb).hop_limit -= 1
    skb.ip_cb_flags |= IP6SKB_FORWARDED
    if net.ipv6.nf_hooks[NF_INET_FORWARD]:
        hook = NF_INET_FORWARD
        if nf_hook6(hook, net, None, skb, came, dev, ip6_forward_finish) != 1:
            return
    ip6_forward_finish(net, None, skb)


def ip6mr_cache_report(mrt: mr_table, pkt: sk_buff, mifi: int, kind: int) -> int:
    """net/ipv6/ip6mr.c: send the daemon a message (MRT6MSG_*). 0 or -errno. Borrows pkt."""
    iph = ipv6_hdr(pkt)
    saddr, daddr = iph.saddr, iph.daddr
    whole = kind in (IGMPMSG_WHOLEPKT, IGMPMSG_WRVIFWHOLE)
    packet = skb_copy_bits(pkt, 0, pkt.len) if whole else bytes(MRT6MSG.size)
    addrs = (saddr.to_bytes(16, "big"), daddr.to_bytes(16, "big"))
    head = bytearray(skb_copy_bits(pkt, 0, IPV6_HLEN))
    head += MRT6MSG.pack(0, kind, mifi, 0, *addrs) + packet
    told = mr_report(mrt, kind, mifi, saddr, daddr, packet)
    return mr_queue_report(mrt, pkt, head, IPV6_HLEN, told)


def ip6mr_hop_limit(skb: sk_buff) -> int:
    """The packet's hop limit."""
    return ipv6_hdr(skb).hop_limit


def ip6mr_vif_changed(dev: net_device, by: int) -> None:
    """net/ipv6/ip6mr.c mif6_add, mif6_delete: prepare or restore an interface."""
    dev_set_allmulti(dev, by)
    idev = dev.ip6_ptr
    if idev is not None:
        idev.cnf.store("mc_forwarding", idev.cnf.mc_forwarding + by)
        netconf_notify(dev.net, uapi.AF_INET6, idev.cnf, "mc_forwarding", dev.ifindex)


def ip6mr_daemon(mrt: mr_table, sk: raw_sock, by: int) -> None:
    """net/ipv6/ip6mr.c ip6mr_sk_init, ip6mr_sk_done: a daemon starts or stops."""
    conf = mrt.net.ipv6.devconf_all
    conf.store("mc_forwarding", conf.mc_forwarding + by)
    netconf_notify(mrt.net, uapi.AF_INET6, conf, "mc_forwarding")


def ip6mr_netns(net: Net) -> Any:
    """The family's multicast routing state of a namespace."""
    return net.ipv6


ip6mr_ops = mr_table_ops(
    family=RTNL_FAMILY_IP6MR,
    protocol=uapi.IPPROTO_ICMPV6,
    table=RT6_TABLE_MAIN,
    netns=ip6mr_netns,
    daemon=ip6mr_daemon,
    queue_xmit=ip6mr_queue_xmit,
    report=ip6mr_cache_report,
    ttl=ip6mr_hop_limit,
    vif_changed=ip6mr_vif_changed,
    input=ip6_mr_input,
    own_may_differ=False,
    reg_name="pim6reg",
)
