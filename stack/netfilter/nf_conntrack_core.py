"""Which connection a packet belongs to (net/netfilter/nf_conntrack_core.c).

`nf_ct_netns_get(net, family)` turns tracking on in a namespace. Hooks at PRE_ROUTING and LOCAL_OUT,
after defragmentation, look connections up. Hooks at LOCAL_IN and POST_ROUTING, after all others,
insert new ones into the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.base.skbuff import sk_buff
from stack.core import netfilter
from stack.core.net_namespace import pernet_operations, register_pernet_subsys
from stack.core.netfilter import nf_hook_state, nf_register_net_hook, nf_unregister_net_hook
from stack.core.uapi import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP
from stack.netfilter import nf_conntrack
from stack.netfilter.nf_conntrack import Tuple, netns_ct, nf_conn
from stack.netfilter.nf_conntrack_ecache import IPCT_REPLY, nf_conntrack_event_cache
from stack.netfilter.nf_conntrack_life import nf_conntrack_cleanup_net
from stack.netfilter.nf_conntrack_proto import (
    nf_conntrack_generic_packet,
    nf_conntrack_icmp_packet,
    nf_conntrack_icmpv4_error,
    nf_conntrack_icmpv6_error,
    nf_conntrack_udp_packet,
)
from stack.netfilter.nf_conntrack_proto_tcp import nf_conntrack_tcp_packet
from stack.netfilter.nf_conntrack_table import (
    nf_conntrack_alloc,
    nf_conntrack_confirm,
    nf_conntrack_find_get,
)
from stack.netfilter.nf_conntrack_tuple import (
    nf_ct_get_tuple,
    nf_ct_invert_tuple,
    nf_ct_l4_offset,
    nf_ct_plain_tuple,
)
from stack.netfilter.nf_defrag import ipv4_conntrack_defrag, ipv6_defrag
from stack.netfilter.reroute import reroute_init

if TYPE_CHECKING:
    from stack.machine import Machine
    from stack.net import Net


def nf_conntrack_in(skb: sk_buff, state: nf_hook_state) -> int:
    """net/netfilter/nf_conntrack_core.c: assign the packet to its connection; a verdict.

    An INVALID packet continues without one: rules decide about it.
    """
    net: Net = state.net
    ct: nf_conn = skb.nfct
    if ct is not None:
        if ct.net is net:  # it was sent over loopback and is already tracked
            return netfilter.NF_ACCEPT
        skb.nfct = None  # set by another namespace
        skb.nfctinfo = 0
    elif skb.nfctinfo == nf_conntrack.IP_CT_UNTRACKED:
        return netfilter.NF_ACCEPT
    table: netns_ct = net.ct
    pf = state.pf
    tup = nf_ct_plain_tuple(skb, pf)
    if tup is not None:
        dataoff = skb.transport_header - skb.network_header
        proto = skb.l4_proto
    else:
        dataoff, proto = nf_ct_l4_offset(skb, 0, pf)
        if dataoff < 0:
            table.stat.invalid += 1
            return netfilter.NF_ACCEPT
        if proto in (IPPROTO_ICMP, IPPROTO_ICMPV6):
            ret = nf_conntrack_handle_icmp(skb, dataoff, proto, state)
            if ret <= 0:
                table.stat.error += 1
                return -ret
            if skb.nfct is not None or skb.nfctinfo == nf_conntrack.IP_CT_UNTRACKED:
                return netfilter.NF_ACCEPT
        tup = nf_ct_get_tuple(skb, 0, dataoff, pf, proto)
        if tup is None:
            table.stat.invalid += 1
            return netfilter.NF_ACCEPT
    for _ in range(2):  # the second time after -NF_REPEAT
        ret = resolve_normal_ct(skb, net, tup)
        if ret < 0:
            table.stat.drop += 1
            return netfilter.NF_DROP
        ct = skb.nfct  # type: ignore[assignment]  # None: nothing can answer it
        if ct is None:
            table.stat.invalid += 1
            return netfilter.NF_ACCEPT
        ret = nf_conntrack_handle_packet(ct, skb, dataoff, proto, skb.nfctinfo, state)
        if ret > 0:
            break
        skb.nfct = None
        if ret != -netfilter.NF_REPEAT:
            table.stat.invalid += 1
            skb.nfctinfo = 0
            if ret == netfilter.NF_DROP:
                table.stat.drop += 1
            return -ret
    if (
        skb.nfctinfo == nf_conntrack.IP_CT_ESTABLISHED_REPLY
        and not ct.status & nf_conntrack.IPS_SEEN_REPLY
    ):
        ct.status |= nf_conntrack.IPS_SEEN_REPLY
        nf_conntrack_event_cache(IPCT_REPLY, ct)
    return netfilter.NF_ACCEPT


def nf_conntrack_handle_icmp(skb: sk_buff, dataoff: int, proto: int, state: nf_hook_state) -> int:
    """net/netfilter/nf_conntrack_core.c: assign an ICMP error to the connection that it quotes."""
    if proto == IPPROTO_ICMP and state.pf == netfilter.NFPROTO_IPV4:
        return nf_conntrack_icmpv4_error(skb, dataoff, state)
    if proto == IPPROTO_ICMPV6 and state.pf == netfilter.NFPROTO_IPV6:
        return nf_conntrack_icmpv6_error(skb, dataoff, state)
    return netfilter.NF_ACCEPT


def resolve_normal_ct(skb: sk_buff, net: Net, tup: Tuple) -> int:
    """net/netfilter/nf_conntrack_core.c: find the connection, or create one. -1: the table is full.

    skb.nfct stays None if such a packet has no reply tuple.
    """
    found = nf_conntrack_find_get(net, tup)
    if found is None:
        reply = nf_ct_invert_tuple(tup)
        if reply is None:
            return 0
        ct = nf_conntrack_alloc(net, tup, reply)
        if ct is None:
            return -1
        skb.nfct = ct
        skb.nfctinfo = nf_conntrack.IP_CT_NEW
        return 0
    ct = found.ct
    net.ct.stat.found += 1
    skb.nfct = ct
    if found.dir:
        skb.nfctinfo = nf_conntrack.IP_CT_ESTABLISHED_REPLY
    else:
        skb.nfctinfo = (
            nf_conntrack.IP_CT_ESTABLISHED
            if ct.status & nf_conntrack.IPS_SEEN_REPLY
            else nf_conntrack.IP_CT_NEW
        )
    return 0


def nf_conntrack_handle_packet(
    ct: nf_conn, skb: sk_buff, dataoff: int, proto: int, ctinfo: int, state: nf_hook_state
) -> int:
    """net/netfilter/nf_conntrack_core.c: the protocol's checks. A verdict, negative
    for an INVALID packet.
    """
    if proto == IPPROTO_TCP:
        return nf_conntrack_tcp_packet(ct, skb, dataoff, ctinfo, state)
    if proto == IPPROTO_UDP:
        return nf_conntrack_udp_packet(ct, skb, dataoff, ctinfo, state)
    if proto in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        return nf_conntrack_icmp_packet(ct, skb, ctinfo, state)
    return nf_conntrack_generic_packet(ct, skb, ctinfo)


# --- users ---------------------------------------------------------------------------------


def nf_ct_netns_get(net: Net, pf: int) -> None:
    """net/netfilter/nf_conntrack_proto.c: start tracking connections of a family."""
    users = net.ct.users
    users[pf] = users.get(pf, 0) + 1
    if users[pf] > 1:
        return
    defrag = ipv4_conntrack_defrag if pf == netfilter.NFPROTO_IPV4 else ipv6_defrag
    for hook in (netfilter.NF_INET_PRE_ROUTING, netfilter.NF_INET_LOCAL_OUT):
        nf_register_net_hook(net, hook, defrag, pf, netfilter.NF_IP_PRI_CONNTRACK_DEFRAG)
        nf_register_net_hook(net, hook, nf_conntrack_in, pf, netfilter.NF_IP_PRI_CONNTRACK)
    for hook in (netfilter.NF_INET_LOCAL_IN, netfilter.NF_INET_POST_ROUTING):
        nf_register_net_hook(
            net, hook, nf_conntrack_confirm, pf, netfilter.NF_IP_PRI_CONNTRACK_CONFIRM
        )


def nf_ct_netns_put(net: Net, pf: int) -> None:
    """net/netfilter/nf_conntrack_proto.c: remove a user; tracking ends with the last one.

    The connections stay until they expire.
    """
    users = net.ct.users
    if not users.get(pf):
        return
    users[pf] -= 1
    if users[pf]:
        return
    defrag = ipv4_conntrack_defrag if pf == netfilter.NFPROTO_IPV4 else ipv6_defrag
    for hook in (netfilter.NF_INET_PRE_ROUTING, netfilter.NF_INET_LOCAL_OUT):
        nf_unregister_net_hook(net, hook, defrag, pf)
        nf_unregister_net_hook(net, hook, nf_conntrack_in, pf)
    for hook in (netfilter.NF_INET_LOCAL_IN, netfilter.NF_INET_POST_ROUTING):
        nf_unregister_net_hook(net, hook, nf_conntrack_confirm, pf)


def nf_conntrack_init_net(net: Net) -> None:
    """net/netfilter/nf_conntrack_core.c: an empty table."""
    net.ct = netns_ct(net)
    reroute_init(net)


nf_conntrack_net_ops = pernet_operations(init=nf_conntrack_init_net, exit=nf_conntrack_cleanup_net)


def nf_conntrack_init(machine: Machine) -> None:
    """Give every namespace of the machine a table."""
    register_pernet_subsys(machine, nf_conntrack_net_ops)
