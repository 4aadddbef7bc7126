"""struct inet_sock and what IP keeps per socket (include/net/inet_sock.h, include/net/ip.h).

Addresses and ports are host-order ints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.core.rows import FRESH, row, state, wide
from stack.core.sock import sock

if TYPE_CHECKING:
    from stack.inet.af_ops import inet_af_ops
    from stack.inet.flow import flowi
    from stack.ipv6.pinfo import ipv6_pinfo

IPCORK_OPT = 1


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
        self.base_dst: Any = None  # an rtable or rt6_info: whoever reads it knows the family
        self.ttl = 0
        self.tos = -1
        self.priority = 0
        self.gso_size = 0
        self.mark = 0
        self.transmit_time = 0
        self.fl4: flowi | None = None


class ip_mc_socklist:
    """One multicast membership of a socket; `sflist` = source filter of mode `sfmode`."""

    __slots__ = ("ifindex", "multiaddr", "sflist", "sfmode")

    def __init__(self, multiaddr: wide, ifindex: int, sfmode: int) -> None:
        self.multiaddr = multiaddr
        self.ifindex = ifindex
        self.sfmode = sfmode
        self.sflist: list[int] = []


@state
class inet_sock(sock):
    """struct inet_sock: `inet_num` is the local port, `inet_sport`/`inet_dport` the wire's."""

    sk_af: inet_af_ops = row()
    """The family of the addresses below."""
    sk_ipv6only: bool = row(False)
    pinet6: ipv6_pinfo | None = row(None, clone=lambda np: np.clone() if np is not None else None)
    """What an AF_INET6 socket has beyond this."""
    inet_saddr: wide = row(0)
    inet_rcv_saddr: wide = row(0)
    inet_daddr: wide = row(0)
    inet_num: int = row(0)
    inet_sport: int = row(0)
    inet_dport: int = row(0)
    inet_id: int = row(0)
    rx_dst_ifindex: int = row(0, clone=FRESH)
    """The device that sk_rx_dst belongs to."""
    is_icsk: bool = row(False)
    bind_address_no_port: bool = row(False)
    local_port_range: tuple[int, int] = row((0, 0))
    freebind: bool = row(False)
    transparent: bool = row(False)

    # what packets out carry
    inet_opt: ip_options | None = row()
    tos: int = row(0, ss="tos")
    uc_ttl: int = row(-1)
    pmtudisc: int = row(of=lambda sk: int(not sk.net.sysctl.ip_no_pmtu_disc))
    hdrincl: bool = row(False)
    uc_index: int = row(0)

    # what is asked of packets in
    min_ttl: int = row(0)
    recverr: bool = row(False)
    cmsg_flags: int = row(0)
    rcv_tos: int = row(0)

    # multicast
    mc_loop: bool = row(True)
    mc_ttl: int = row(1)
    mc_all: bool = row(True)
    mc_index: int = row(0)
    mc_addr: wide = row(0)
    mc_list: list[ip_mc_socklist] = row(make=list, clone=FRESH)

    # a datagram that is being put together
    pending: int = row(0, clone=FRESH)
    cork: inet_cork = row(make=inet_cork, clone=FRESH)
