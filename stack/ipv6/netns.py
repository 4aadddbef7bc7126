"""IPv6's state of a network namespace (include/net/netns/ipv6.h), and slots for calls upward.

A module calls one above it through a slot, which inet6_init (af_inet6.py) or the upper module's
init fills. `steps` has the functions for dst.input and dst.output, `nd` those of neighbour
discovery and address configuration that the network layer calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastpath.base.intmap import IntMap
from stack.core.dst import DST_OBSOLETE_KILL, dst_discard, dst_discard_out, dst_ops
from stack.core.netfilter import new_nf_hooks, nf_hook_ops
from stack.core.rows import row, state, wide
from stack.inet.protocol import new_inet_protos
from stack.inet.protosw import inet_protosw
from stack.ipv6.addrlabel import ip6addrlbl_table
from stack.ipv6.ip6_fib import fib6_nh, netns_fib6
from stack.ipv6.protocol import inet6_protocol

if TYPE_CHECKING:
    from fastpath.base.skbuff import sk_buff
    from stack.core.neigh_table import neigh_table
    from stack.core.netdevice import net_device, packet_type
    from stack.core.sock import sock
    from stack.core.timer import timer_list
    from stack.inet.flow import flowi
    from stack.inet.icmp_limit import inet_peer
    from stack.inet.inet_fragment import fqdir
    from stack.inet.inet_sock import inet_sock
    from stack.inet.ipmr_base import mr_table
    from stack.ipv6.devconf import ipv6_devconf
    from stack.ipv6.if_inet6 import inet6_ifaddr
    from stack.ipv6.ip6_flowlabel import netns_flowlabels
    from stack.ipv6.reassembly import frag_queue
    from stack.ipv6.rt6_info import rt6_info
    from stack.ipv6.sysctl_net_ipv6 import netns_sysctl_ipv6
    from stack.net import Net

Input = Callable[["sk_buff"], int]
IcmpSender = Callable[["sk_buff", int, int, int], None]
Output = Callable[["Net", "sock | None", "sk_buff"], int]


@state
class ip6_dst_steps:
    """The functions to which IPv6's routes pass packets; each takes ownership of the packet.

    `input_finish` receives a packet after reassembly.
    """

    input: Input = row(dst_discard)
    mc_input: Input = row(dst_discard)
    forward: Input = row(dst_discard)
    discard: Input = row(dst_discard)
    prohibit: Input = row(dst_discard)
    output: Output = row(dst_discard_out)
    input_finish: Output = row(dst_discard_out)
    discard_out: Output = row(dst_discard_out)
    prohibit_out: Output = row(dst_discard_out)


@state
class nd_slots:
    """What the network layer calls of neighbour discovery and of address configuration.

    rt6_probe(nh): solicit a router not known to be reachable (RFC 4191 3.5), rate limited.
    ndisc_rcv(skb): process a message of RFC 4861 (types 133 to 137), checksum verified, data at its
    ICMPv6 header; 0 or a drop reason (borrows skb).
    dad_work(timer): the next step of an address's duplicate address detection.
    """

    dad_work: Callable[[timer_list], None] = row()
    rt6_probe: Callable[[fib6_nh], None] = row()
    ndisc_rcv: Callable[[sk_buff], int] = row()


@state
class socket_slots:
    """What the network layer calls of IPv6's sockets.

    raw6_local_deliver(skb, nexthdr): give each matching raw socket a clone; whether there was one
    (borrows skb, data at the transport header).
    local_error(sk, errno, fl6, info) and local_rxpmtu(sk, fl6, mtu): report that a packet exceeds
    the path MTU.
    """

    raw6_local_deliver: Callable[[sk_buff, int], bool] = row()
    local_error: Callable[[inet_sock, int, flowi, int], None] = row()
    local_rxpmtu: Callable[[inet_sock, flowi, int], None] = row()


@state
class netns_ipv6:
    """struct netns_ipv6."""

    net: Net
    sysctl: netns_sysctl_ipv6 = row(of=lambda ipv6: ipv6.net.sysctl.ipv6)
    devconf_all: ipv6_devconf = row(of=lambda ipv6: ipv6.sysctl.conf["all"])
    devconf_dflt: ipv6_devconf = row(of=lambda ipv6: ipv6.sysctl.conf["default"])
    inet6_protos: list[inet6_protocol | None] = row(make=new_inet_protos)
    early_demux: IntMap[Callable[[sk_buff], object]] = row(make=IntMap)
    """By next header value: the early_demux functions that the sysctls allow."""
    steps: ip6_dst_steps = row(make=ip6_dst_steps)
    nd: nd_slots = row(make=nd_slots)
    sockets: socket_slots = row(make=socket_slots)
    nf_hooks: list[list[nf_hook_ops]] = row(make=new_nf_hooks)
    gw6_init: Callable[[Net, wide, net_device | None, bool, int], net_device] = row()
    """fib6_gw_init of route_config.py, which routes of IPv4 call: ipv6_stub->fib6_nh_init."""
    fib6: netns_fib6 = row(of=lambda ipv6: netns_fib6(ipv6.net))
    addr_hash: dict[wide, list[inet6_ifaddr]] = row(make=dict)
    inet6addr_chain: list[Callable[[int, inet6_ifaddr], None]] = row(make=list)
    addr_chk_timer: timer_list = row()
    """Expires when the next address ages."""
    addrlabel: ip6addrlbl_table = row(make=ip6addrlbl_table)
    rt_live: list[rt6_info] = row(make=list)
    """The routes that sockets may have cached."""
    icmp_sender: IcmpSender = row()
    peers: dict[wide, inet_peer] = row(make=dict)
    rt6_exceptions: int = row(0)
    mrt: mr_table | None = row()
    """The multicast routes; None: no daemon asked for them yet."""
    ra_chain: list[tuple[int, inet_sock]] = row(make=list)
    """IPV6_ROUTER_ALERT of raw sockets: (value of the alert, socket)."""

    # Set by the init functions of their modules, in inet6_init's order.
    dst_ops: dst_ops = row()
    nd_tbl: neigh_table = row()
    flowlabels: netns_flowlabels = row()
    frags: fqdir[frag_queue] = row()
    icmp_sk: inet_sock = row()
    ip6_null_entry: rt6_info = row()
    ip6_packet_type: packet_type = row()
    inetsw6: list[list[inet_protosw]] = row()
    ndisc_sk: inet_sock = row()
    tcp_sk: inet_sock = row()
    """The socket that sends TCP's answers to segments without a socket."""

    def rt_cache_flush(self) -> None:
        """Make all cached routes obsolete, after a change of tables, addresses or devices."""
        for rt in self.rt_live:
            rt.obsolete = DST_OBSOLETE_KILL
            rt.neigh = None
            if rt.from6 is not None and rt.from6.fib6_nh.rt6i_pcpu is rt:
                rt.from6.fib6_nh.rt6i_pcpu = None
        self.rt_live.clear()
