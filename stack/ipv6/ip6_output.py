"""Sending IPv6: headers, output to the neighbour, groups (net/ipv6/ip6_output.c).

    inet6_csk_xmit -> ip6_xmit              a TCP segment that has its route: header, MTU check
    ip6_push_pending_frames -> ip6_send_skb -> ip6_local_out        a datagram (ip6_append.py)
        __ip6_local_out                     payload length, LOCAL_OUT hook
    ip6_forward -> ip6_forward_finish       another host's packet
    dst_output => ip6_output                POST_ROUTING hook
        ip6_finish_output                   larger than the MTU: ip6_fragment
            ip6_finish_output2              the neighbour: ip_neigh_gw6 -> neigh_output
                ip6_mc_finish               to a group: loop back a copy

Packet-path functions return 0, a NET_XMIT_* code or a negative errno; those that take an skb own
it. The file keeps no state: route and device come from `skb.dst`, hop limit and flow label from
`ipv6_pinfo`, else from route and sysctls. Read ip6_xmit, then ip6_finish_output2. The header is
drawn in ip6_input.py.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff, skb_clone, skb_cow_head, skb_headroom
from fastpath.net.gso import skb_gso_validate_network_len
from fastpath.net.hdr import ipv6_hdr, ipv6_push
from fastpath.net.inet import ip6_neigh_key
from fastpath.net.inetkey import inet_siphash
from stack.core import drop_reason
from stack.core.backlog import dev_loopback_xmit
from stack.core.drop_reason import kfree_skb_reason
from stack.core.dst import dst_output
from stack.core.l3mdev import l3mdev_l3_out
from stack.core.neighbour import neigh_output
from stack.core.netdevice import (
    ETH_P_IPV6,
    IFF_L3MDEV_SLAVE,
    IFF_LOOPBACK,
    LL_MAX_HEADER,
    net_device,
    net_xmit_errno,
)
from stack.core.netfilter import NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING, nf_hook6
from stack.core.rows import wide
from stack.core.secure_seq import SECURE_FLOWLABEL
from stack.core.sock import sock
from stack.core.uapi import AF_INET6, IPV6_FLOWLABEL_MASK, IPV6_HLEN
from stack.inet.do_fragment import inet_gso_slowpath
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_sock
from stack.inet.ipmr_base import mr_table
from stack.ipv4.neigh import ip_neigh_gw6
from stack.ipv6.if_inet6 import inet6_dev, ipv6_chk_mcast_addr
from stack.ipv6.ip6_cb import IP6SKB_FORWARDED, IP6SKB_REROUTED
from stack.ipv6.ip6_flowlabel import IPV6_FLOWLABEL_STATELESS_FLAG
from stack.ipv6.ip6_fragment import ip6_fragment
from stack.ipv6.pinfo import IPV6_PMTUDISC_PROBE, inet6_sk, ipv6_pinfo
from stack.ipv6.rt6_info import (
    IP6_MAX_MTU,
    IPV6_MAXPLEN,
    ip6_dst_hoplimit,
    ip6_dst_mtu_maybe_forward,
    rt6_info,
)
from stack.ipv6.txoptions import ipv6_push_frag_opts, ipv6_push_nfrag_opts, ipv6_txoptions
from stack.net import Net

IP6_AUTO_FLOW_LABEL_OFF = 0
IP6_AUTO_FLOW_LABEL_OPTIN = 2
IP6_AUTO_FLOW_LABEL_FORCED = 3


# --- fields of the header ------------------------------------------------------------------


def ip6_autoflowlabel(net: Net, np: ipv6_pinfo | None) -> bool:
    """net/ipv6/ip6_output.c: whether the socket uses automatic flow labels."""
    if np is not None and np.autoflowlabel_set:
        return np.autoflowlabel
    mode = net.ipv6.sysctl.auto_flowlabels
    return bool(mode not in (IP6_AUTO_FLOW_LABEL_OFF, IP6_AUTO_FLOW_LABEL_OPTIN))


def ip6_make_flowlabel(net: Net, flow_hash: int, label: int, auto: bool, fl6: flowi) -> int:
    """include/net/ipv6.h: the given flow label, or one computed from the flow (RFC 6437 3)."""
    mode = net.ipv6.sysctl.auto_flowlabels
    if label or not mode or (not auto and mode != IP6_AUTO_FLOW_LABEL_FORCED):
        return label
    bits = flow_hash
    if not bits:
        ports = fl6.fl_sport << 16 | fl6.fl_dport
        bits = inet_siphash(net.secret, fl6.saddr, fl6.daddr, ports, SECURE_FLOWLABEL)
    label = (bits ^ bits >> 20) & IPV6_FLOWLABEL_MASK
    if net.ipv6.sysctl.flowlabel_state_ranges:
        label |= IPV6_FLOWLABEL_STATELESS_FLAG
    return label


def ip6_reply_mark(net: Net, mark: int) -> int:
    """include/net/ipv6.h IP6_REPLY_MARK: as ip4_reply_mark."""
    return mark if net.ipv6.sysctl.fwmark_reflect else 0


def ip6_sk_dst_hoplimit(np: ipv6_pinfo | None, daddr: wide, rt: rt6_info) -> int:
    """include/net/ipv6.h: the socket's hop limit for this destination, else the route's."""
    hlimit = -1
    if np is not None:
        hlimit = np.mcast_hops if daddr >> 120 == 0xFF else np.hop_limit
    return hlimit if hlimit >= 0 else ip6_dst_hoplimit(rt)


def ip6_skb_dst_mtu(skb: sk_buff) -> int:
    """include/net/ip6_route.h: the size in bytes above which skb must be fragmented."""
    rt: rt6_info = skb.dst
    sk = skb.sk  # a packet socket's frame may have been encapsulated
    np = inet6_sk(sk) if isinstance(sk, inet_sock) else None
    if np is not None and np.pmtudisc >= IPV6_PMTUDISC_PROBE:
        mtu = min(rt.dev.mtu, IP6_MAX_MTU)
    else:
        mtu = ip6_dst_mtu_maybe_forward(rt, bool(skb.ip_cb_flags & IP6SKB_FORWARDED))
    if np is not None and np.frag_size and np.frag_size < mtu:
        mtu = np.frag_size
    return mtu


# --- local output --------------------------------------------------------------------------


def __ip6_local_out(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv6/output_core.c: payload length, LOCAL_OUT hook. 1 = go on with dst_output."""
    size = skb.len - IPV6_HLEN
    ipv6_hdr(skb).payload_len = size if size <= IPV6_MAXPLEN else 0
    if skb.dst.dev.priv_flags & IFF_L3MDEV_SLAVE and l3mdev_l3_out(sk, skb, AF_INET6) is None:
        return 0
    skb.protocol = ETH_P_IPV6
    if net.ipv6.nf_hooks[NF_INET_LOCAL_OUT]:
        return nf_hook6(NF_INET_LOCAL_OUT, net, sk, skb, None, skb.dst.dev, dst_output)
    return 1


def ip6_local_out(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv6/output_core.c: send a finished packet. Takes ownership of skb."""
    err = __ip6_local_out(net, sk, skb)
    if err == 1:
        err = dst_output(net, sk, skb)
    return err


def ip6_send_skb(skb: sk_buff) -> int:
    """net/ipv6/ip6_output.c: send, and turn congestion into 0 or -ENOBUFS."""
    net = skb.dst.net
    err = ip6_local_out(net, skb.sk, skb)
    if err > 0:
        err = net_xmit_errno(err)
    if err:
        net.mib.ip6.OutDiscards += 1
    return err


def ip6_xmit(
    sk: inet_sock,
    skb: sk_buff,
    fl6: flowi,
    mark: int,
    opt: ipv6_txoptions | None,
    tclass: int,
    priority: int,
) -> int:
    """net/ipv6/ip6_output.c: add the header to a segment that has its route (TCP) and send it.

    Data at the transport header, skb.dst set. Takes ownership of skb. 0 or a negative errno;
    -EMSGSIZE for what must not be fragmented.
    """
    net = sk.net
    rt: rt6_info = skb.dst
    proto = fl6.flowi_proto
    daddr = fl6.daddr
    if opt is not None:
        if not skb_cow_head(skb, LL_MAX_HEADER + IPV6_HLEN + opt.tot_len):
            net.mib.ip6.OutDiscards += 1
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOMEM)
            return -errno.ENOBUFS
        proto = ipv6_push_frag_opts(skb, opt, proto)
        proto, daddr = ipv6_push_nfrag_opts(skb, opt, proto, daddr)
    np = sk.pinet6
    hlimit = np.hop_limit if np is not None else -1
    if hlimit < 0:
        hlimit = ip6_dst_hoplimit(rt)
    label = ip6_make_flowlabel(net, skb.hash, fl6.flowlabel, ip6_autoflowlabel(net, np), fl6)
    ipv6_push(skb, tclass, label, skb.len, proto, hlimit, fl6.saddr, daddr)
    skb.protocol = ETH_P_IPV6
    skb.priority = priority
    skb.mark = mark
    if not skb.gso_size and not skb.ignore_df:
        mtu = ip6_dst_mtu_maybe_forward(rt, False)
        if skb.len > mtu:
            skb.dev = rt.dev
            net.ipv6.sockets.local_error(sk, errno.EMSGSIZE, fl6, mtu)
            net.mib.ip6.FragFails += 1
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_BIG)
            return -errno.EMSGSIZE
    net.mib.ip6.OutRequests += 1
    if rt.dev.priv_flags & IFF_L3MDEV_SLAVE and l3mdev_l3_out(sk, skb, AF_INET6) is None:
        return 0
    if net.ipv6.nf_hooks[NF_INET_LOCAL_OUT]:
        ret = nf_hook6(NF_INET_LOCAL_OUT, net, sk, skb, None, rt.dev, dst_output)
        if ret != 1:
            return ret
    return dst_output(net, sk, skb)


# --- output of a route ---------------------------------------------------------------------


def ip6_output(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv6/ip6_output.c: POST_ROUTING hook, then finish. Takes ownership of skb."""
    dev = skb.dst.dev
    indev: net_device | None = skb.dev
    idev: inet6_dev | None = dev.ip6_ptr
    skb.protocol = ETH_P_IPV6
    skb.dev = dev
    if idev is None or idev.cnf.disable_ipv6:
        net.mib.ip6.OutDiscards += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IPV6DISABLED)
        return 0
    if net.ipv6.nf_hooks[NF_INET_POST_ROUTING] and not skb.ip_cb_flags & IP6SKB_REROUTED:
        ret = nf_hook6(NF_INET_POST_ROUTING, net, sk, skb, indev, dev, ip6_finish_output)
        if ret != 1:
            return ret
    return ip6_finish_output(net, sk, skb)


def ip6_finish_output(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv6/ip6_output.c: send a packet that fits the MTU; fragment a larger one."""
    mtu = ip6_skb_dst_mtu(skb)
    if skb.gso_size:
        if skb_gso_validate_network_len(skb, mtu):
            return ip6_finish_output2(net, sk, skb)
        return ip6_finish_output_gso_slowpath_drop(net, sk, skb, mtu)
    if skb.len > mtu or skb.frag_max_size:
        return ip6_fragment(net, sk, skb, mtu, ip6_finish_output2)
    return ip6_finish_output2(net, sk, skb)


def ip6_finish_output_gso_slowpath_drop(net: Net, sk: sock | None, skb: sk_buff, mtu: int) -> int:
    """net/ipv6/ip6_output.c: split a super-packet whose segments exceed the MTU.

    Each segment above the MTU causes a packet too big; the others are sent.
    """
    return inet_gso_slowpath(net, sk, skb, mtu, ip6_fragment, ip6_finish_output2)


def sk_mc_loop(sk: sock | None) -> bool:
    """net/core/sock.c: whether packets that the socket sends to our groups are looped back."""
    np = sk.pinet6 if isinstance(sk, inet_sock) else None
    return np is None or np.mc_loop


def ip6_finish_output2(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv6/ip6_output.c: find the neighbour and send to it. Takes ownership of skb."""
    rt: rt6_info = skb.dst
    dev = rt.dev
    mib = net.mib.ip6
    key = ip6_neigh_key(skb, dev.ifindex)
    if not key:
        daddr = ipv6_hdr(skb).daddr
        if daddr >> 120 == 0xFF and not ip6_mc_finish(net, sk, skb, daddr):
            return 0
    mib.OutTransmits += 1
    mib.OutOctets += skb.len
    if skb_headroom(skb) < dev.hard_header_len and not skb_cow_head(
        skb, dev.hard_header_len + dev.needed_headroom
    ):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOMEM)
        return -errno.ENOMEM
    neigh = net.ipv6.nd_tbl.hash.get(key) if key and not rt.rt6i_gateway else None
    if neigh is None:
        neigh = ip_neigh_gw6(dev, rt.rt6i_gateway or ipv6_hdr(skb).daddr)
    if neigh is None:
        mib.OutNoRoutes += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NEIGH_CREATEFAIL)
        return -errno.EINVAL
    return neigh_output(neigh, skb)


def mroute6_is_socket(net: Net, skb: sk_buff) -> bool:
    """net/ipv6/ip6mr.c: whether our own packet to a group is looped back to be routed."""
    mrt: mr_table | None = net.ipv6.mrt
    return mrt is not None and mrt.mroute_sk is not None and not skb.ip_cb_flags & IP6SKB_FORWARDED


def ip6_mc_finish(net: Net, sk: sock | None, skb: sk_buff, daddr: wide) -> bool:
    """net/ipv6/ip6_output.c (in ip6_finish_output2): loop back a copy of a packet to our group.

    Whether skb leaves the host; if not, it was freed.
    """
    dev = skb.dst.dev
    mib = net.mib.ip6
    loopback = dev.flags & IFF_LOOPBACK
    iph = ipv6_hdr(skb)
    if (
        not loopback
        and sk_mc_loop(sk)
        and (mroute6_is_socket(net, skb) or ipv6_chk_mcast_addr(dev, daddr, iph.saddr))
    ):
        newskb = skb_clone(skb)
        newskb.dev = dev
        if (
            not net.ipv6.nf_hooks[NF_INET_POST_ROUTING]
            or nf_hook6(NF_INET_POST_ROUTING, net, sk, newskb, None, dev, dev_loopback_xmit) == 1
        ):
            dev_loopback_xmit(net, sk, newskb)
        if iph.hop_limit == 0:
            mib.OutDiscards += 1
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
            return False
    mib.OutMcastPkts += 1
    mib.OutMcastOctets += skb.len
    if daddr >> 112 & 15 <= 1 and not loopback:  # interface-local scope
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
        return False
    return True
