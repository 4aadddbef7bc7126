"""Finding a packet's socket before its route (ip_rcv_finish_core): what both families share.

sysctl ip_early_demux is for all protocols, tcp_early_demux and udp_early_demux for one; IPv6 obeys
the three of net.ipv4, as in Linux.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from fastpath.skbuff import sk_buff
from stack.core.tcp_states import TCP_NEW_SYN_RECV, TCP_TIME_WAIT
from stack.core.uapi import IPPROTO_TCP, IPPROTO_UDP

if TYPE_CHECKING:
    from stack.core.dst import dst_entry
    from stack.core.netdevice import net_device
    from stack.inet.inet_sock import inet_sock
    from stack.net import Net

Demux = Callable[[sk_buff], object]

ALL = "ip_early_demux"
KNOBS = {IPPROTO_TCP: "tcp_early_demux", IPPROTO_UDP: "udp_early_demux"}


class HasEarlyDemux(Protocol):
    """A row of inet_protos or inet6_protos."""

    @property
    def early_demux(self) -> Demux | None:
        """May give a packet its socket and its route (borrows)."""


def allowed_early_demux(
    protos: Iterable[HasEarlyDemux | None], allowed: dict[str, bool]
) -> dict[int, Demux]:
    """The early_demux functions that the sysctls allow, by protocol number.

    `allowed`: the value of each knob; an absent one is on.
    """
    if not allowed.get(ALL, True):
        return {}
    return {
        number: prot.early_demux
        for number, prot in enumerate(protos)
        if prot is not None
        and prot.early_demux is not None
        and allowed.get(KNOBS.get(number, ALL), True)
    }


def follow_early_demux(net: Net, allowed: dict[str, bool], changed: Callable[[], None]) -> None:
    """Copy the sysctls to `allowed` and call `changed()`, now and whenever one is written."""

    def written(knob: str, value: int) -> None:
        allowed[knob] = bool(value)
        changed()

    for knob in (ALL, *KNOBS.values()):
        allowed[knob] = bool(getattr(net.sysctl, knob))
        net.sysctl.on_write(knob, partial(written, knob), now=False)
    changed()


def sk_rx_dst_of(sk: inet_sock, skb: sk_buff) -> dst_entry | None:
    """The input route that the socket cached; None when it is obsolete or of another device."""
    dst = sk.sk_rx_dst
    if dst is None or dst.obsolete or sk.rx_dst_ifindex != skb.skb_iif:
        return None
    return dst


def inet_sk_rx_dst_set(sk: inet_sock, skb: sk_buff) -> None:
    """net/ipv4/tcp_ipv4.c (and inet6_sk_rx_dst_set): cache the input route of what is received."""
    dst = skb.dst
    if dst is not None:
        sk.sk_rx_dst = dst
        sk.rx_dst_ifindex = skb.skb_iif


def tcp_early_demux(skb: sk_buff) -> None:
    """net/ipv4/tcp_ipv4.c, net/ipv6/tcp_ipv6.c: find the socket of a segment. Borrows skb."""
    dev: net_device = skb.dev
    try:
        sk = dev.net.tcp_hashinfo.ehash.find_skb(skb)
    except IndexError:  # too short; tcp_v4_rcv and tcp_v6_rcv count it
        return
    if sk is None or (sk.sk_bound_dev_if and sk.sk_bound_dev_if != skb.skb_iif):
        return
    skb.sk = sk
    state: int = sk.sk_state
    if state not in (TCP_TIME_WAIT, TCP_NEW_SYN_RECV):
        dst = sk_rx_dst_of(sk, skb)
        if dst is not None:
            skb.dst = dst
