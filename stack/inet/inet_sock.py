"""struct inet_sock and what IP keeps per socket (include/net/inet_sock.h, include/net/ip.h).

Addresses and ports are host-order ints.
"""

from __future__ import annotations

from typing import Any

from stack.core.sock import sock
from stack.core.uapi import IP_PMTUDISC_DO, IP_PMTUDISC_PROBE

IPCORK_OPT = 1
IPCORK_ALLFRAG = 2


class ip_options:
    """struct ip_options: a parsed option area.

    `data` is the area itself (padded to 4 bytes); `srr`, `rr`, `ts`, `router_alert`, `cipso` are
    offsets of the option inside the IP header (20 + offset in `data`), 0 when absent.
    """

    __slots__ = (
        "cipso",
        "data",
        "faddr",
        "is_changed",
        "is_strictroute",
        "nexthop",
        "optlen",
        "router_alert",
        "rr",
        "rr_needaddr",
        "srr",
        "srr_is_hit",
        "ts",
        "ts_needaddr",
        "ts_needtime",
    )

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.optlen = len(data)
        self.faddr = 0
        self.nexthop = 0
        self.srr = 0
        self.rr = 0
        self.ts = 0
        self.router_alert = 0
        self.cipso = 0
        self.is_strictroute = False
        self.srr_is_hit = False
        self.is_changed = False
        self.rr_needaddr = False
        self.ts_needtime = False
        self.ts_needaddr = False


class inet_cork:
    """struct inet_cork_full: what a corked (MSG_MORE, UDP_CORK) datagram remembers."""

    __slots__ = (
        "addr",
        "base_dst",
        "fl4",
        "flags",
        "fragsize",
        "gso_size",
        "length",
        "mark",
        "opt",
        "priority",
        "tos",
        "transmit_time",
        "ttl",
    )

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: no datagram is being put together."""
        self.flags = 0
        self.addr = 0
        self.opt: ip_options | None = None
        self.fragsize = 0
        self.length = 0
        self.base_dst: Any = None
        self.ttl = 0
        self.tos = -1
        self.priority = 0
        self.gso_size = 0
        self.mark = 0
        self.transmit_time = 0
        self.fl4: Any = None


class ip_mc_socklist:
    """One multicast membership of a socket; `sflist` = source filter of mode `sfmode`."""

    __slots__ = ("ifindex", "multiaddr", "sflist", "sfmode")

    def __init__(self, multiaddr: int, ifindex: int, sfmode: int) -> None:
        self.multiaddr = multiaddr
        self.ifindex = ifindex
        self.sfmode = sfmode
        self.sflist: list[int] = []


class inet_sock(sock):
    """struct inet_sock: `inet_num` is the local port, `inet_sport`/`inet_dport` the wire's."""

    __slots__ = (
        "bind_address_no_port",
        "cmsg_flags",
        "convert_csum",
        "cork",
        "defer_connect",
        "freebind",
        "hdrincl",
        "inet_daddr",
        "inet_dport",
        "inet_id",
        "inet_num",
        "inet_opt",
        "inet_rcv_saddr",
        "inet_saddr",
        "inet_sport",
        "is_icsk",
        "local_port_range",
        "mc_addr",
        "mc_all",
        "mc_index",
        "mc_list",
        "mc_loop",
        "mc_ttl",
        "min_ttl",
        "pending",
        "pmtudisc",
        "rcv_tos",
        "recverr",
        "rx_dst_ifindex",
        "sk_af",
        "sk_ipv6only",
        "tos",
        "transparent",
        "uc_index",
        "uc_ttl",
    )

    def __init__(self, net: Any) -> None:
        super().__init__(net)
        self.sk_af: Any = None  # inet_af_ops of the addresses below
        self.sk_ipv6only = False
        self.inet_saddr = 0
        self.inet_rcv_saddr = 0
        self.inet_daddr = 0
        self.inet_num = 0
        self.inet_sport = 0
        self.inet_dport = 0
        self.inet_id = 0
        self.inet_opt: ip_options | None = None
        self.uc_ttl = -1
        self.tos = 0
        self.rcv_tos = 0
        self.min_ttl = 0
        self.pmtudisc = 1
        self.recverr = False
        self.hdrincl = False
        self.freebind = False
        self.transparent = False
        self.is_icsk = False
        self.mc_loop = True
        self.mc_ttl = 1
        self.mc_all = True
        self.mc_index = 0
        self.mc_addr = 0
        self.mc_list: list[ip_mc_socklist] = []
        self.uc_index = 0
        self.cmsg_flags = 0
        self.bind_address_no_port = False
        self.local_port_range = (0, 0)
        self.defer_connect = False
        self.convert_csum = False
        self.pending = 0
        self.cork = inet_cork()
        self.rx_dst_ifindex = 0


def inet_sk(sk: Any) -> Any:
    """include/net/inet_sock.h: the same object; kept for the map."""
    return sk


def ip_sk_dont_fragment(sk: Any) -> bool:
    """include/net/ip.h (ip_dont_fragment, part): the socket always wants DF."""
    return sk.pmtudisc in (IP_PMTUDISC_DO, IP_PMTUDISC_PROBE)
