"""Finding a packet's socket before its route (ip_rcv_finish_core): what both families share.

Sysctl ip_early_demux is for all protocols, tcp_early_demux and udp_early_demux for one. As in
Linux, they apply to IPv6, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeAlias

from fastpath.base.intmap import IntMap
from fastpath.base.skbuff import sk_buff
from stack.core.dst import dst_entry
from stack.core.l3mdev import inet_sdif
from stack.core.netdevice import net_device
from stack.core.sock import sock_common
from stack.core.tcp_states import TCP_NEW_SYN_RECV, TCP_TIME_WAIT
from stack.core.uapi import IPPROTO_TCP, IPPROTO_UDP
from stack.inet.inet_hashtables import __inet_lookup_established
from stack.inet.inet_sock import inet_sock
from stack.net import Net

Demux = Callable[[sk_buff], object]

ALL = "ip_early_demux"
AS_STORED: Mapping[str, int] = {}
KNOBS = {IPPROTO_TCP: "tcp_early_demux", IPPROTO_UDP: "udp_early_demux"}


class HasEarlyDemux(Protocol):
    """A row of inet_protos or inet6_protos."""

    @property
    def early_demux(self) -> Demux | None:
        """Optional: attach the socket and route to a packet (borrows)."""


Protos: TypeAlias = Sequence[HasEarlyDemux | None]


class EarlyDemux(Protocol):
    """net.ipv4 and net.ipv6, as far as this file needs them."""

    early_demux: IntMap[Demux]
    """By protocol: the function called before routing."""


def early_demux_init(net: Net, protos: Protos, ip: EarlyDemux) -> None:
    """Keep `ip.early_demux` current with the sysctls, for UDP also with connected sockets."""

    def choose(new: Mapping[str, int]) -> None:
        for number, prot in enumerate(protos):
            if prot is not None:
                early_demux_choose(net, protos, ip, number, new)

    def written(knob: str, value: int) -> None:
        choose({knob: value})

    choose(AS_STORED)
    for knob in (ALL, *KNOBS.values()):
        net.sysctl.on_write(knob, partial(written, knob), now=False)
    udp = partial(early_demux_choose, net, protos, ip, IPPROTO_UDP)
    net.udp_table.connected_changed.append(udp)


def early_demux_choose(
    net: Net, protos: Protos, ip: EarlyDemux, number: int, new: Mapping[str, int] = AS_STORED
) -> None:
    """Call a protocol's early_demux if it has one and sysctls allow it; UDP's while it may help.

    `new`: sysctls that are being written.
    """
    ip.early_demux.pop(number, None)
    prot = protos[number]
    if prot is None or prot.early_demux is None:
        return
    for knob in (ALL, KNOBS.get(number, ALL)):
        if not new.get(knob, getattr(net.sysctl, knob)):
            return
    if number != IPPROTO_UDP or net.udp_table.connected:
        ip.early_demux[number] = prot.early_demux


def sk_rx_dst_of(sk: inet_sock, skb: sk_buff) -> dst_entry | None:
    """The input route that the socket cached; None when it is obsolete or of another device."""
    dst = sk.sk_rx_dst
    if dst is None or dst.obsolete or sk.rx_dst_ifindex != skb.skb_iif:
        return None
    return dst


def inet_sk_rx_dst_set(sk: inet_sock, skb: sk_buff) -> None:
    """net/ipv4/tcp_ipv4.c (also inet6_ and udp_sk_rx_dst_set): cache a packet's input route."""
    dst = skb.dst
    if dst is not None:
        sk.sk_rx_dst = dst
        sk.rx_dst_ifindex = skb.skb_iif


def tcp_early_demux(skb: sk_buff) -> None:
    """net/ipv4/tcp_ipv4.c, net/ipv6/tcp_ipv6.c: find the socket of a segment. Borrows skb."""
    dev: net_device = skb.dev
    dif, sdif = skb.skb_iif, inet_sdif(skb)
    try:
        sk = __inet_lookup_established(dev.net.tcp_hashinfo, skb, None, dif, sdif)
    except IndexError:  # too short; tcp_v4_rcv and tcp_v6_rcv count it
        return
    if sk is None:
        return
    skb.sk = sk
    entry: sock_common = sk
    if entry.sk_state not in (TCP_TIME_WAIT, TCP_NEW_SYN_RECV):
        dst = sk_rx_dst_of(sk, skb)
        if dst is not None:
            skb.dst = dst
