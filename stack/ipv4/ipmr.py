"""net/ipv4/ipmr.c: IPv4 multicast routing: the part that is specific to the family.

    ip_route_input_mc => ip_mr_input        a received packet to a group; own ones too, looped back
    ipmr_queue_xmit                         out over an interface: TTL - 1, the FORWARD hook
    ipmr_cache_report                       a message to the daemon, on its raw socket of IGMP

The common part is stack/inet/ipmr_base.py. A message is an IP header with protocol 0, whose other
fields have another meaning (struct igmpmsg):

    | - 8 | im_msgtype | 0 | im_vif | im_vif_hi | im_src 4 | im_dst 4 | IGMP: type, 0 ... 8 |

IGMPMSG_WHOLEPKT and WRVIFWHOLE have the whole packet after such a header instead.
"""

from __future__ import annotations

from typing import Any

from fastpath.base.skbuff import sk_buff, skb_clone, skb_copy_bits, skb_cow
from fastpath.net.hdr import ip_decrease_ttl, ip_hdr
from stack.core import drop_reason, uapi
from stack.core.dev import dev_set_allmulti
from stack.core.devconf import netconf_notify
from stack.core.drop_reason import kfree_skb_reason
from stack.core.dst import dst_mtu
from stack.core.netdevice import net_device
from stack.core.netfilter import NF_INET_FORWARD, nf_hook
from stack.inet.af_ops import af_ops_of
from stack.inet.ipmr_base import (
    IGMPMSG_WHOLEPKT,
    IGMPMSG_WRVIFWHOLE,
    RTNL_FAMILY_IPMR,
    mr_find,
    mr_forward,
    mr_no_route,
    mr_queue_report,
    mr_report,
    mr_table,
    mr_table_ops,
    vif_device,
)
from stack.inet.raw import ra_drop, raw_sock
from stack.ipv4.fib import RT_TABLE_DEFAULT
from stack.ipv4.ip_forward import ip_forward_finish
from stack.ipv4.ip_input import ip_call_ra_chain, ip_local_deliver
from stack.ipv4.ip_options import received_options
from stack.ipv4.ip_output import IPSKB_FORWARDED
from stack.ipv4.route import IP_DF, IPTOS_RT_MASK, RTCF_LOCAL, ip_route_output, rtable
from stack.ipv4.rt_cache import rt_cache_flush
from stack.net import Net

IGMPMSG_SIZE = 20

# --- packets --------------------------------------------------------------------------------------


def ip_mr_input(skb: sk_buff) -> int:
    """net/ipv4/ipmr.c: route a packet to a group. 0 or -errno. Takes ownership."""
    rt: rtable = skb.dst
    dev: net_device = skb.dev
    net: Net = dev.net
    mrt: mr_table | None = net.ipv4.mrt
    local = rt.rt_flags & RTCF_LOCAL != 0
    if mrt is None or skb.ip_cb_flags & IPSKB_FORWARDED:
        if local:
            return ip_local_deliver(skb)
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
        return 0
    iph = ip_hdr(skb)
    if not local:
        opt = received_options(skb)
        if opt is not None and opt.router_alert:
            if ip_call_ra_chain(skb):
                return 0
        elif iph.protocol == uapi.IPPROTO_IGMP and mrt.mroute_sk is not None:
            # IGMPv1 and old implementations of v2 send no router alert.
            af_ops_of[uapi.AF_INET].raw_rcv(mrt.mroute_sk, skb)
            return 0
    saddr, daddr = iph.saddr, iph.daddr
    c = mr_find(mrt, saddr, daddr, dev)
    if c is None:
        if local:
            clone = skb_clone(skb)
            clone.dev = dev
            ip_local_deliver(skb)
            skb = clone
        return mr_no_route(mrt, dev, skb, saddr, daddr)
    mr_forward(mrt, dev, skb, c, local)
    return ip_local_deliver(skb) if local else 0


def ipmr_queue_xmit(mrt: mr_table, vifi: int, skb: sk_buff) -> None:
    """net/ipv4/ipmr.c: send a packet over an interface. Takes ownership of skb."""
    net: Net = mrt.net
    vif: vif_device = mrt.vif_table[vifi]
    dev = vif.dev
    iph = ip_hdr(skb)
    if dev is None:
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
        return
    try:
        rt = ip_route_output(net, iph.daddr, 0, iph.tos & IPTOS_RT_MASK, dev.ifindex)
    except OSError:
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_OUTNOROUTES)
        return
    if skb.len > dst_mtu(rt) and iph.frag_off & IP_DF:
        net.mib.ip.FragFails += 1  # no ICMP error, because the packet was to a group
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_BIG)
        return
    if not skb_cow(skb, rt.dev.hard_header_len + rt.dev.needed_headroom + 16):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOMEM)
        return
    vif.pkt_out += 1
    vif.bytes_out += skb.len
    came = skb.dev
    skb.dst = rt
    ip_decrease_ttl(ip_hdr(skb))
    skb.ip_cb_flags |= IPSKB_FORWARDED
    if net.nf_hooks[NF_INET_FORWARD]:
        hook = NF_INET_FORWARD
        if nf_hook(hook, net, None, skb, came, rt.dev, ip_forward_finish) != 1:
            return
    ip_forward_finish(net, None, skb)


def ipmr_cache_report(mrt: mr_table, pkt: sk_buff, vifi: int, kind: int) -> int:
    """net/ipv4/ipmr.c: send the daemon a message (IGMPMSG_*). 0 or -errno. Borrows pkt."""
    iph = ip_hdr(pkt)
    whole = kind in (IGMPMSG_WHOLEPKT, IGMPMSG_WRVIFWHOLE)
    head = bytearray(skb_copy_bits(pkt, 0, pkt.len if whole else iph.ihl * 4))
    if whole:
        head[0:0] = head[:IGMPMSG_SIZE]
        head[0] = 0x45
    else:
        head += bytes((kind, 0, 0, 0, 0, 0, 0, 0))
    head[8:12] = bytes((kind, 0, vifi & 0xFF, vifi >> 8))
    head[2:4] = (len(head) & 0xFFFF).to_bytes(2, "big")
    told = mr_report(mrt, kind, vifi, iph.saddr, iph.daddr, bytes(head[IGMPMSG_SIZE:]))
    return mr_queue_report(mrt, pkt, head, 0, told)


def ipmr_ttl(skb: sk_buff) -> int:
    """The packet's TTL."""
    return ip_hdr(skb).ttl


def ipmr_vif_changed(dev: net_device, by: int) -> None:
    """net/ipv4/ipmr.c vif_add, vif_delete: prepare or restore an interface."""
    dev_set_allmulti(dev, by)
    in_dev = dev.ip_ptr
    if in_dev is not None:
        in_dev.cnf.store("mc_forwarding", in_dev.cnf.mc_forwarding + by)
        netconf_notify(dev.net, uapi.AF_INET, in_dev.cnf, "mc_forwarding", dev.ifindex)
    rt_cache_flush(dev.net)


def ipmr_daemon(mrt: mr_table, sk: raw_sock, by: int) -> None:
    """net/ipv4/ipmr.c ipmr_mroute_setsockopt, mrtsock_destruct: a daemon starts or stops."""
    net: Net = mrt.net
    if by > 0:
        net.ra_chain.append((sk.inet_num, sk))
    else:
        ra_drop(net.ra_chain, sk)
    conf = net.ipv4.devconf_all
    conf.store("mc_forwarding", conf.mc_forwarding + by)
    netconf_notify(mrt.net, uapi.AF_INET, conf, "mc_forwarding")
    rt_cache_flush(net)


def ipmr_netns(net: Net) -> Any:
    """The family's multicast routing state of a namespace."""
    return net.ipv4


ipmr_ops = mr_table_ops(
    family=RTNL_FAMILY_IPMR,
    protocol=uapi.IPPROTO_IGMP,
    table=RT_TABLE_DEFAULT,
    netns=ipmr_netns,
    daemon=ipmr_daemon,
    queue_xmit=ipmr_queue_xmit,
    report=ipmr_cache_report,
    ttl=ipmr_ttl,
    vif_changed=ipmr_vif_changed,
    input=ip_mr_input,
    own_may_differ=True,
    reg_name="pimreg",
)
