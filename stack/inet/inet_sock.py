"""struct inet_sock and what IP keeps per socket (include/net/inet_sock.h, include/net/ip.h).

Addresses and ports are host-order ints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stack.core.rows import FRESH, i32, row, state, u8, u16, u32, wide
from stack.core.sock import sock
from stack.core.uapi import IP_PMTUDISC_WANT

if TYPE_CHECKING:
    from stack.inet.af_ops import inet_af_ops
    from stack.inet.flow import flowi
    from stack.ipv6.pinfo import ipv6_pinfo

IPCORK_OPT = 1


@state
class ip_options:
    """struct ip_options: a parsed option area.

    `data` is the area itself (padded to 4 bytes); `srr`, `rr`, `ts`, `router_alert`, `cipso` are
    offsets of the option inside the IP header (20 + offset in `data`), 0 when absent.
    """

    data: bytearray = row(make=bytearray)
    optlen: int = row(0)
    faddr: int = row(0)
    nexthop: int = row(0)
    srr: int = row(0)
    rr: int = row(0)
    ts: int = row(0)
    router_alert: int = row(0)
    cipso: int = row(0)
    is_strictroute: bool = row(False)
    srr_is_hit: bool = row(False)
    is_changed: bool = row(False)
    rr_needaddr: bool = row(False)
    ts_needtime: bool = row(False)
    ts_needaddr: bool = row(False)

    if TYPE_CHECKING:

        def init_state(self) -> None:
            """Give every field its start value (generated from the rows)."""

    def __init__(self, data: bytes = b"") -> None:
        self.init_state()
        self.data = bytearray(data)
        self.optlen = len(data)


@state
class inet_cork:
    """struct inet_cork_full: what a corked (MSG_MORE, UDP_CORK) datagram remembers."""

    flags: int = row(0)
    addr: wide = row(0)
    opt: ip_options | None = row()
    fragsize: int = row(0)
    length: int = row(0)
    base_dst: Any = row()
    """An rtable or rt6_info, by the family of the cork's user."""
    ttl: int = row(0)
    tos: int = row(-1)
    priority: int = row(0)
    gso_size: int = row(0)
    mark: int = row(0)
    fl4: flowi | None = row()

    if TYPE_CHECKING:

        def init_state(self) -> None:
            """Give every field its start value (generated from the rows)."""

    def clear(self) -> None:
        """Forget everything: no datagram is being put together."""
        self.init_state()


@state
class ip_mc_socklist:
    """One multicast membership of a socket; `sflist` = source filter of mode `sfmode`."""

    multiaddr: wide
    ifindex: int
    sfmode: int
    sflist: list[int] = row(make=list)


NO_GROUPS: Final[list[ip_mc_socklist]] = []
"""The empty list shared by sockets that have not joined a group. It is never changed."""


@state
class inet_sock(sock):
    """struct inet_sock: `inet_num` is the local port, `inet_sport`/`inet_dport` the wire's."""

    sk_af: inet_af_ops = row(hot=True)
    """The family of the addresses below."""
    sk_ipv6only: bool = row(False)
    pinet6: ipv6_pinfo | None = row(None, clone=lambda np: np.clone() if np is not None else None)
    """The IPv6 members of an AF_INET6 socket."""
    inet_saddr: wide = row(0, hot=True)
    inet_rcv_saddr: wide = row(0, hot=True)
    inet_daddr: wide = row(0, hot=True)
    inet_num: u16 = row(0, hot=True)
    inet_sport: u16 = row(0, hot=True)
    inet_dport: u16 = row(0, hot=True)
    inet_id: u16 = row(0)
    rx_dst_ifindex: i32 = row(0, clone=FRESH)
    """The device that sk_rx_dst belongs to."""
    is_icsk: bool = row(False, hot=True)
    bind_address_no_port: bool = row(False)
    local_port_range: tuple[int, int] = row((0, 0))
    freebind: bool = row(False)
    transparent: bool = row(False)

    # options of packets sent
    inet_opt: ip_options | None = row(hot=True)
    tos: u8 = row(0, ss="tos", hot=True)
    uc_ttl: i32 = row(-1, hot=True)
    pmtudisc: u8 = row(IP_PMTUDISC_WANT, hot=True)
    hdrincl: bool = row(False)
    uc_index: i32 = row(0)

    # options of packets received
    min_ttl: u8 = row(0)
    min_hopcount: u8 = row(0)
    recverr: bool = row(False, hot=True)
    cmsg_flags: u32 = row(0, hot=True)
    rcv_tos: u8 = row(0)

    # multicast
    mc_loop: bool = row(True)
    mc_ttl: i32 = row(1)
    mc_all: bool = row(True)
    mc_index: i32 = row(0)
    mc_addr: wide = row(0)
    mc_list: list[ip_mc_socklist] = row(NO_GROUPS, shared=True, clone=FRESH)

    # the corked datagram
    pending: u16 = row(0, clone=FRESH, hot=True)
    cork: inet_cork | None = row(None, clone=FRESH)
    """See `inet_cork_of`."""


def inet_cork_of(sk: inet_sock) -> inet_cork:
    """The socket's cork, made when it is first asked for: connections never need one."""
    if sk.cork is None:
        sk.cork = inet_cork()
    return sk.cork
