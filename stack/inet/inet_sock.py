"""struct inet_sock and IP's other state per socket (include/net/inet_sock.h, include/net/ip.h).

Addresses and ports are host-order ints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stack.core.rows import FRESH, i32, row, state, u8, u16, u32, wide
from stack.core.sock import sock
from stack.core.sockopt import sockcm_cookie
from stack.core.uapi import IP_PMTUDISC_WANT
from stack.inet.flow import flowi
from stack.inet.mc_filter import ip_mc_socklist

if TYPE_CHECKING:
    from stack.inet.af_ops import inet_af_ops
    from stack.inet.xfrm_policy import xfrm_policy
    from stack.ipv6.pinfo import ipv6_pinfo


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
    """struct inet_cork_full: the parameters of a corked (MSG_MORE, UDP_CORK) datagram."""

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
    sockc: sockcm_cookie | None = row()
    """Requested time stamps of its first packet, and its transmit time."""
    fl4: flowi | None = row()


NO_GROUPS: Final[list[ip_mc_socklist]] = []
"""The empty list shared by sockets that have not joined a group. It is never changed."""


@state
class inet_sock(sock):
    """struct inet_sock: `inet_num` is the local port, `inet_sport`/`inet_dport` the wire's."""

    sk_af: inet_af_ops = row(hot=True)
    """The family of the addresses below."""
    sk_ipv6only: bool = row(False)
    """IPV6_V6ONLY: no IPv4 packets."""
    pinet6: ipv6_pinfo | None = row(None, clone=lambda np: np.clone() if np is not None else None)
    """The IPv6 members of an AF_INET6 socket."""
    inet_saddr: wide = row(0, hot=True)
    """The source address of packets sent; 0: the route's."""
    inet_rcv_saddr: wide = row(0, hot=True)
    """The bound address, which packets received must have; 0: any."""
    inet_daddr: wide = row(0, hot=True)
    """The peer's address; 0: not connected."""
    inet_num: u16 = row(0, hot=True)
    """The local port, or the protocol of a raw socket; 0: not bound."""
    inet_sport: u16 = row(0, hot=True)
    """The local port as packets carry it."""
    inet_dport: u16 = row(0, hot=True)
    """The peer's port; 0: not connected."""
    inet_id: u16 = row(0)
    """The IPv4 identification of the next packet."""
    rx_dst_ifindex: i32 = row(0, clone=FRESH)
    """The device that sk_rx_dst belongs to."""
    bind_address_no_port: bool = row(False)
    """IP_BIND_ADDRESS_NO_PORT: connect() chooses the port, not bind()."""
    local_port_range: tuple[int, int] = row((0, 0))
    """IP_LOCAL_PORT_RANGE: first and last port chosen for it; 0: the sysctl's."""
    freebind: bool = row(False)
    """IP_FREEBIND: bind() accepts addresses that are not local."""
    transparent: bool = row(False)
    """IP_TRANSPARENT: as freebind, and such addresses may be a source."""
    sk_policy: tuple[xfrm_policy | None, ...] | None = row()
    """IP_XFRM_POLICY: the socket's own policies, by direction (in, out)."""

    # options of packets sent
    inet_opt: ip_options | None = row(hot=True)
    """IP_OPTIONS: IP options of every packet."""
    tos: u8 = row(0, ss="tos", hot=True)
    """IP_TOS: DSCP and ECN bits of packets sent."""
    uc_ttl: i32 = row(-1, hot=True)
    """IP_TTL, hops; -1: the route's or the sysctl's."""
    pmtudisc: u8 = row(IP_PMTUDISC_WANT, hot=True)
    """IP_MTU_DISCOVER: IP_PMTUDISC_*."""
    hdrincl: bool = row(False)
    """IP_HDRINCL: data of a raw socket begin with the IP header."""
    uc_index: i32 = row(0)
    """IP_UNICAST_IF: the interface of unicast packets; 0: by the route."""

    # options of packets received
    min_ttl: u8 = row(0)
    """IP_MINTTL: packets with fewer hops left are dropped."""
    min_hopcount: u8 = row(0)
    """IPV6_MINHOPCOUNT: the same for IPv6."""
    recverr: bool = row(False, hot=True)
    """IP_RECVERR: ICMP errors go to the error queue."""
    recverr_rfc4884: bool = row(False)
    """IP_RECVERR_RFC4884: errors say where the extensions of the ICMP message begin."""
    cmsg_flags: u32 = row(0, hot=True)
    """Bits IP_CMSG_*: the control messages that recvmsg() adds."""
    rcv_tos: u8 = row(0)
    """DSCP and ECN bits of the SYN (IP_PKTOPTIONS)."""

    # multicast
    mc_loop: bool = row(True)
    """IP_MULTICAST_LOOP: groups that the host has joined get its packets, too."""
    mc_ttl: i32 = row(1)
    """IP_MULTICAST_TTL, hops."""
    mc_all: bool = row(True)
    """IP_MULTICAST_ALL: also packets to groups that other sockets joined."""
    mc_index: i32 = row(0)
    """IP_MULTICAST_IF: the interface of multicast packets; 0: by the route."""
    mc_addr: wide = row(0)
    """IP_MULTICAST_IF: their source address; 0: by the route."""
    mc_list: list[ip_mc_socklist] = row(NO_GROUPS, shared=True, clone=FRESH)
    """Groups that it joined."""

    # the corked datagram
    pending: u16 = row(0, clone=FRESH, hot=True)
    """AF_* of the datagram that is being put together; 0: none."""
    cork: inet_cork | None = row(None, clone=FRESH)
    """See `inet_cork_of` (append.py)."""


def inet_can_nonlocal_bind(sk: inet_sock, nonlocal_bind: int) -> bool:
    """include/net/inet_sock.h: whether the socket may have an address that is not local.

    `nonlocal_bind`: the sysctl ip_nonlocal_bind of the family.
    """
    return bool(nonlocal_bind) or sk.freebind or sk.transparent
