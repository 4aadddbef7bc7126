"""Handlers of protocol numbers (net/ipv4/protocol.c, include/net/protocol.h)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastpath.base.skbuff import sk_buff
from stack.core.rows import state
from stack.core.uapi import MAX_INET_PROTOS
from stack.net import Net


@state
class net_protocol:
    """struct net_protocol: the handlers of one protocol number.

    `handler(skb) -> int` takes ownership of skb (data at the transport header).
    `err_handler(skb, info) -> int` borrows it (data at the embedded IP header).
    `early_demux(skb)` may attach socket and route to a packet before it is routed (borrows).
    """

    handler: Callable[[sk_buff], int]
    err_handler: Callable[..., Any] | None = None
    no_policy: bool = False
    """The handler calls xfrm4_policy_check itself, since it knows the packet's socket."""
    icmp_strict_tag_validation: bool = False
    flags: int = 0
    early_demux: Callable[[sk_buff], None] | None = None


def new_inet_protos() -> list[Any]:
    """An empty table of protocols: inet_protos, inet6_protos (index = protocol number)."""
    return [None] * MAX_INET_PROTOS


def inet_add_protocol(net: Net, prot: net_protocol, protocol: int) -> int:
    """net/ipv4/protocol.c: 0, or -1 when the number is taken."""
    if net.inet_protos[protocol] is not None:
        return -1
    net.inet_protos[protocol] = prot
    return 0


def inet_del_protocol(net: Net, prot: net_protocol, protocol: int) -> int:
    """net/ipv4/protocol.c: 0, or -1 when another one sits there."""
    if net.inet_protos[protocol] is not prot:
        return -1
    net.inet_protos[protocol] = None
    return 0
