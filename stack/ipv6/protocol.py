"""What IPv6 calls for a next header value (net/ipv6/protocol.c, include/net/protocol.h)."""

from __future__ import annotations

from collections.abc import Callable

from fastpath.base.skbuff import sk_buff
from stack.core.rows import state
from stack.inet.early_demux import early_demux_choose
from stack.inet.protosw import inet_protosw, inet_register_protosw
from stack.net import Net

INET6_PROTO_NOPOLICY = 0x1  # an extension header, or the handler calls xfrm6_policy_check itself
INET6_PROTO_FINAL = 0x2  # a transport, not an extension header

NEXTHDR_HOP = 0
NEXTHDR_TCP = 6
NEXTHDR_UDP = 17
NEXTHDR_ROUTING = 43
NEXTHDR_FRAGMENT = 44
NEXTHDR_AUTH = 51
NEXTHDR_ICMP = 58
NEXTHDR_NONE = 59
NEXTHDR_DEST = 60


@state
class inet6_protocol:
    """struct inet6_protocol.

    `handler(skb) -> int` takes ownership of skb, data at the header. For an extension header (no
    INET6_PROTO_FINAL) 1 means: go on with the header at transport_header, which the field at
    IP6CB(skb).nhoff names; else skb was freed. For a transport a value above 0 means: go on with
    that protocol; else skb was freed.
    `err_handler(skb, opt, type, code, offset, info) -> int` borrows it, data at the embedded IPv6
    header and `offset` that of its transport header.
    `early_demux(skb)` may give a packet its socket and its route (borrows).
    """

    handler: Callable[[sk_buff], int | None]
    err_handler: Callable[[sk_buff, object, int, int, int, int], int] | None = None
    early_demux: Callable[[sk_buff], object] | None = None
    flags: int = 0


def inet6_add_protocol(net: Net, prot: inet6_protocol, protocol: int) -> int:
    """net/ipv6/protocol.c: 0, or -1 when the number is taken."""
    table = net.ipv6.inet6_protos
    if table[protocol] is not None:
        return -1
    table[protocol] = prot
    early_demux_choose(net, table, net.ipv6, protocol)
    return 0


def inet6_del_protocol(net: Net, prot: inet6_protocol, protocol: int) -> int:
    """net/ipv6/protocol.c: 0, or -1 when another one is registered."""
    table = net.ipv6.inet6_protos
    if table[protocol] is not prot:
        return -1
    table[protocol] = None
    early_demux_choose(net, table, net.ipv6, protocol)
    return 0


def inet6_register_protosw(net: Net, row: inet_protosw) -> None:
    """net/ipv6/af_inet6.c: link a row into inetsw6. Raises: OSError as inet_register_protosw."""
    inet_register_protosw(net.ipv6.inetsw6, row)
