"""Initialization of IPv6's network layer in a namespace (net/ipv6/af_inet6.c inet6_net_init)."""

from __future__ import annotations

from stack.core.dev_receive import dev_add_pack, dev_remove_pack
from stack.core.net_namespace import pernet_operations, register_pernet_subsys
from stack.core.netdevice import ETH_P_IPV6, packet_type
from stack.inet.early_demux import early_demux_init
from stack.ipv6.exthdrs import ipv6_exthdrs_init
from stack.ipv6.icmp import icmpv6_protocol, icmpv6_sk_init
from stack.ipv6.ip6_append import ip6_flush_pending_frames
from stack.ipv6.ip6_flowlabel import ip6_flowlabel_init
from stack.ipv6.ip6_forward import (
    ip6_forward,
    ip6_pkt_discard,
    ip6_pkt_discard_out,
    ip6_pkt_prohibit,
    ip6_pkt_prohibit_out,
)
from stack.ipv6.ip6_input import ip6_input, ip6_input_finish, ip6_mc_input, ipv6_list_rcv, ipv6_rcv
from stack.ipv6.ip6_output import ip6_output
from stack.ipv6.netns import netns_ipv6
from stack.ipv6.protocol import NEXTHDR_ICMP, inet6_add_protocol
from stack.ipv6.reassembly import ipv6_frag_exit, ipv6_frag_init
from stack.ipv6.route_config import fib6_gw_init
from stack.ipv6.route_learned import ip6_route_net_init
from stack.machine import Machine
from stack.net import Net


def ipv6_net_init(net: Net) -> None:
    """net/ipv6/af_inet6.c inet6_net_init: tables, routes, ICMPv6, extension headers, reassembly.

    The device lo must exist. Addresses and neighbour discovery are set up after this.
    """
    net.ipv6 = ipv6 = netns_ipv6(net)
    steps = ipv6.steps
    steps.input, steps.mc_input, steps.forward = ip6_input, ip6_mc_input, ip6_forward
    steps.output, steps.input_finish = ip6_output, ip6_input_finish
    steps.discard, steps.discard_out = ip6_pkt_discard, ip6_pkt_discard_out
    steps.prohibit, steps.prohibit_out = ip6_pkt_prohibit, ip6_pkt_prohibit_out
    ipv6.gw6_init = fib6_gw_init
    early_demux_init(net, ipv6.inet6_protos, ipv6)
    ip6_route_net_init(net)
    icmpv6_sk_init(net)
    inet6_add_protocol(net, icmpv6_protocol, NEXTHDR_ICMP)
    ip6_flowlabel_init(net)
    ipv6_exthdrs_init(net)
    ipv6_frag_init(net)
    ipv6.ip6_packet_type = packet_type(ETH_P_IPV6, ipv6_rcv, list_func=ipv6_list_rcv)
    dev_add_pack(net, ipv6.ip6_packet_type)


def ipv6_net_pre_exit(net: Net) -> None:
    """Free packets in reassembly and an unsent message, while the devices still work."""
    ipv6_frag_exit(net)
    ip6_flush_pending_frames(net.ipv6.icmp_sk)


def ipv6_net_exit(net: Net) -> None:
    """net/ipv6/af_inet6.c inet6_net_exit: the namespace ends."""
    dev_remove_pack(net, net.ipv6.ip6_packet_type)


ipv6_net_ops = pernet_operations(init=ipv6_net_init, pre_exit=ipv6_net_pre_exit, exit=ipv6_net_exit)


def ipv6_init(machine: Machine) -> None:
    """net/ipv6/af_inet6.c inet6_init, the network layer's part: IPv6 in each namespace."""
    register_pernet_subsys(machine, ipv6_net_ops)
