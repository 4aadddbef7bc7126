"""What IPv6 keeps for one network namespace (include/net/netns/ipv6.h), and its calls upward.

A module calls one above it through a slot that inet6_init (af_inet6.py) or the module's own init
fills: `steps` are the ends of dst.input and dst.output, `nd` what neighbour discovery and address
configuration do for the network layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stack.core.dst import DST_OBSOLETE_KILL, dst_discard, dst_discard_out
from stack.core.netfilter import new_nf_hooks
from stack.core.rows import wide
from stack.inet.protosw import inet_protosw
from stack.ipv6.addrlabel import ip6addrlbl_table
from stack.ipv6.ip6_fib import fib6_nh, netns_fib6
from stack.ipv6.pinfo import ipv6_pinfo
from stack.ipv6.protocol import inet6_protocol, new_inet6_protos

if TYPE_CHECKING:
    from fastpath.skbuff import sk_buff
    from stack.core.dst import dst_ops
    from stack.core.neigh_table import neigh_table
    from stack.core.netdevice import net_device, packet_type
    from stack.core.sock import sock
    from stack.core.timer import timer_list
    from stack.inet.flow import flowi
    from stack.inet.icmp_limit import inet_peer
    from stack.inet.inet_fragment import fqdir
    from stack.inet.inet_sock import inet_sock
    from stack.ipv6.if_inet6 import inet6_ifaddr
    from stack.ipv6.ip6_flowlabel import netns_flowlabels
    from stack.ipv6.reassembly import frag_queue
    from stack.ipv6.rt6_info import rt6_info
    from stack.net import Net

Input = Callable[["sk_buff"], int]
IcmpSender = Callable[["sk_buff", int, int, int], None]
Output = Callable[["Net", "sock | None", "sk_buff"], int]


class ip6_dst_steps:
    """What the routes of IPv6 give their packets to; each takes ownership of the packet.

    `input_finish` is where a packet that reassembly has put together goes on.
    """

    __slots__ = (
        "discard",
        "discard_out",
        "forward",
        "input",
        "input_finish",
        "mc_input",
        "output",
        "prohibit",
        "prohibit_out",
    )

    def __init__(self) -> None:
        self.input: Input = dst_discard
        self.mc_input: Input = dst_discard
        self.forward: Input = dst_discard
        self.discard: Input = dst_discard
        self.prohibit: Input = dst_discard
        self.output: Output = dst_discard_out
        self.input_finish: Output = dst_discard_out
        self.discard_out: Output = dst_discard_out
        self.prohibit_out: Output = dst_discard_out


class nd_slots:
    """What the network layer asks of neighbour discovery and of address configuration.

    rt6_probe(nh): ask a router that is not known to answer (RFC 4191 3.5), rate limited.
    proxied(dev, addr): we answer solicitations for `addr` on `dev` (proxy_ndp).
    send_redirect(skb, target): tell skb's sender of a better first hop (borrows skb).
    ndisc_rcv(skb), mld_rcv(skb): a message of RFC 4861 (types 133 to 137) or of MLD (130 to 132
    and 143), checksum verified, data at its ICMPv6 header. A drop reason, 0 when fine (borrows
    skb). dad_work(timer): the next step of an address's duplicate address detection.
    """

    __slots__ = ("dad_work", "mld_rcv", "ndisc_rcv", "proxied", "rt6_probe", "send_redirect")

    def __init__(self) -> None:
        self.dad_work: Callable[[timer_list], None] | None = None
        self.rt6_probe: Callable[[fib6_nh], None] | None = None
        self.proxied: Callable[[net_device, int], bool] | None = None
        self.send_redirect: Callable[[sk_buff, int], None] | None = None
        self.ndisc_rcv: Callable[[sk_buff], int] | None = None
        self.mld_rcv: Callable[[sk_buff], int] | None = None


class socket_slots:
    """What the network layer asks of the sockets of IPv6, which stand above it.

    raw6_local_deliver(skb, nexthdr): a clone for every raw socket; whether there was one (borrows
    skb, data at the transport header). raw6_icmp_error and ping_err(skb, type, code, offset, info):
    an error about a packet of theirs (borrow skb, data at the embedded IPv6 header). ping_rcv(skb):
    an echo reply, data behind its ICMPv6 header (borrows). local_error(sk, errno, fl6, info) and
    local_rxpmtu(sk, fl6, mtu): a packet is larger than the path takes. rawv6_rcv(sk, skb): a packet
    for a raw socket (takes ownership).
    """

    __slots__ = (
        "local_error",
        "local_rxpmtu",
        "ping_err",
        "ping_rcv",
        "raw6_icmp_error",
        "raw6_local_deliver",
        "rawv6_rcv",
    )

    def __init__(self) -> None:
        self.raw6_local_deliver: Callable[[sk_buff, int], bool] = lambda skb, nexthdr: False
        self.rawv6_rcv: Callable[..., object] | None = None
        self.raw6_icmp_error: Callable[[sk_buff, int, int, int, int, int], None] | None = None
        self.ping_rcv: Callable[[sk_buff], object] | None = None
        self.ping_err: Callable[[sk_buff, int, int], object] | None = None
        self.local_error: Callable[[inet_sock, int, flowi, int], None] = _no_report
        self.local_rxpmtu: Callable[[inet_sock, flowi, int], None] = _no_rxpmtu


def _no_report(sk: inet_sock, err: int, fl6: flowi, info: int) -> None:
    """Nobody has an error queue."""


def _no_rxpmtu(sk: inet_sock, fl6: flowi, mtu: int) -> None:
    """Nobody has IPV6_RECVPATHMTU."""


def _mc_all(sk: inet_sock, group: wide, source: wide) -> bool:
    """IPV6_MULTICAST_ALL decides while no socket joins groups."""
    return sk.pinet6 is not None and sk.pinet6.mc_all


class group_slots:
    """What sockets ask of multicast and anycast groups.

    check(sk, group, source): does the socket want this datagram? close(sk): a socket that is closed
    leaves its groups. setsockopt(sk, np, optname, value): join, leave or filter; False for an
    option that is none of these (raises OSError).
    """

    __slots__ = ("check", "close", "setsockopt")

    def __init__(self) -> None:
        self.check: Callable[[inet_sock, int, int], bool] = _mc_all
        self.close: Callable[[inet_sock], None] = lambda sk: None
        self.setsockopt: Callable[[inet_sock, ipv6_pinfo, int, object], bool] = (
            lambda sk, np, optname, value: False
        )


class netns_ipv6:
    """struct netns_ipv6."""

    __slots__ = (
        "addr_chk_timer",
        "addr_hash",
        "addrlabel",
        "devconf_all",
        "devconf_dflt",
        "dst_ops",
        "early_demux",
        "early_demux_allowed",
        "fib6",
        "flowlabels",
        "frags",
        "groups",
        "icmp_sender",
        "icmp_sk",
        "inet6_protos",
        "inet6addr_chain",
        "inetsw6",
        "ip6_null_entry",
        "ip6_packet_type",
        "nd",
        "nd_tbl",
        "ndisc_sk",
        "nf_hooks",
        "peers",
        "ra_chain",
        "rt6_exceptions",
        "rt_live",
        "secret",
        "sockets",
        "steps",
        "sysctl",
        "tcp_sk",
    )

    # Set by the init functions of their modules, in inet6_init's order.
    dst_ops: dst_ops
    flowlabels: netns_flowlabels
    frags: fqdir[frag_queue]
    icmp_sk: inet_sock
    ip6_null_entry: rt6_info
    ip6_packet_type: packet_type
    inetsw6: list[list[inet_protosw]]
    ndisc_sk: inet_sock
    tcp_sk: inet_sock
    """Sends what TCP answers without a socket."""

    def __init__(self, net: Net) -> None:
        self.sysctl = net.sysctl.ipv6
        self.devconf_all = self.sysctl.conf["all"]
        self.devconf_dflt = self.sysctl.conf["default"]
        self.inet6_protos: list[inet6_protocol | None] = new_inet6_protos()
        self.early_demux: dict[int, Callable[[sk_buff], object]] = {}
        """By next header value; what the sysctls *_early_demux leave of inet6_protos."""
        self.early_demux_allowed: dict[str, bool] = {}
        self.steps = ip6_dst_steps()
        self.nd = nd_slots()
        self.sockets = socket_slots()
        self.groups = group_slots()
        self.nf_hooks = new_nf_hooks()
        self.secret = net.random.getrandbits(64) & (1 << 63) - 1
        self.fib6 = netns_fib6(net)
        self.nd_tbl: neigh_table | None = None
        self.addr_hash: dict[int, list[inet6_ifaddr]] = {}
        self.inet6addr_chain: list[Callable[[int, inet6_ifaddr], None]] = []
        self.addr_chk_timer: timer_list | None = None  # when the next address ages
        self.addrlabel = ip6addrlbl_table()
        self.rt_live: list[rt6_info] = []  # what may stand in a socket's cache
        self.icmp_sender: IcmpSender | None = None
        self.peers: dict[int, inet_peer] = {}
        self.rt6_exceptions = 0
        self.ra_chain: list[tuple[int, inet_sock]] = []
        """IPV6_ROUTER_ALERT of raw sockets: (value of the alert, socket)."""

    def rt_cache_flush(self) -> None:
        """Tables, addresses or devices changed: sockets and routes look again."""
        for rt in self.rt_live:
            rt.obsolete = DST_OBSOLETE_KILL
            rt.neigh = None
            if rt.from6 is not None and rt.from6.fib6_nh.rt6i_pcpu is rt:
                rt.from6.fib6_nh.rt6i_pcpu = None
        self.rt_live.clear()
