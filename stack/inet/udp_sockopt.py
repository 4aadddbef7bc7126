"""SOL_UDP options (net/ipv4/udp.c: udp_lib_setsockopt, udp_lib_getsockopt), in both families."""

from __future__ import annotations

import errno
from typing import Any

from fastpath.base.skbuff import skb_gso_reset
from fastpath.net.udp_batches import udp_carve_all
from stack.core import uapi
from stack.core.errors import os_error
from stack.core.sock import lock_sock, release_sock
from stack.core.sockopt_table import UDP, Level, SockOpt, get_option, number, set_option, switch
from stack.inet.af_ops import af_ops_of
from stack.inet.espinudp import UDP_ENCAP_ESPINUDP, xfrm_udp_encap_rcv
from stack.inet.udp_flow import udp_push_pending_frames
from stack.inet.udp_hash import udp_sock


def udp_push_if_uncorked(sk: udp_sock) -> None:
    """UDP_CORK was set: when it is off, send the corked datagram."""
    if not sk.corkflag and sk.pending:
        lock_sock(sk)
        try:
            udp_push_pending_frames(sk)
        finally:
            release_sock(sk)


def udp_set_gro(sk: udp_sock, on: int) -> None:
    """Switch UDP_GRO; datagrams already queued are read as they were queued.

    Devices merge datagrams for every socket; only sockets with UDP_GRO read them merged.
    Raises: OSError ENOBUFS.
    """
    if on and not sk.gro_enabled and not udp_carve_all(sk.sk_receive_queue):
        raise os_error(errno.ENOBUFS, "no memory for the datagrams that wait")
    if not on and sk.gro_enabled:
        for skb in sk.sk_receive_queue:
            skb_gso_reset(skb)
    sk.gro_enabled = bool(on)


def udp_set_encap(sk: udp_sock, kind: int) -> None:
    """UDP_ENCAP: its datagrams are ESP, but for those of IKE. Raises: OSError ENOPROTOOPT."""
    if kind not in (0, UDP_ENCAP_ESPINUDP):
        raise os_error(errno.ENOPROTOOPT, f"UDP_ENCAP {kind}: 2 (ESPINUDP) or 0")
    sk.encap_rcv = xfrm_udp_encap_rcv if kind else None


def udp_get_encap(sk: udp_sock) -> int:
    """UDP_ENCAP."""
    return UDP_ENCAP_ESPINUDP if sk.encap_rcv is xfrm_udp_encap_rcv else 0


# fmt: off
UDP_LEVEL = Level("IPPROTO_UDP", uapi.SOL_UDP, vars(uapi), (
    switch("UDP_CORK", "corkflag", "sends make one datagram, until it is off",
        sockets=UDP, then=udp_push_if_uncorked),
    switch("UDP_GRO", "gro_enabled", "merged datagrams in one read", since="5.0",
        sockets=UDP, set=udp_set_gro),
    number("UDP_SEGMENT", "gso_size", range(0x10000), "one send makes datagrams of this size",
        since="4.18", sockets=UDP),
    SockOpt("UDP_ENCAP", "2: takes ESP in UDP (RFC 3948); IKE is read", since="2.6.6", sockets=UDP,
        set=udp_set_encap, get=udp_get_encap),
))
# fmt: on


def udp_setsockopt(sk: udp_sock, level: int, optname: int, optval: Any) -> None:
    """net/ipv4/udp.c, net/ipv6/udp.c (udpv6_setsockopt): SOL_UDP; everything else is IP's.

    Raises: OSError ENOPROTOOPT, EINVAL, ENOBUFS.
    """
    sk.sk_tx_flow = None
    if level == uapi.SOL_UDP:
        set_option(UDP_LEVEL, sk, optname, optval)
    else:
        af_ops_of[sk.sk_family].setsockopt(sk, level, optname, optval)


def udp_getsockopt(sk: udp_sock, level: int, optname: int, optlen: int) -> Any:
    """net/ipv4/udp.c, net/ipv6/udp.c (udpv6_getsockopt). Raises: OSError ENOPROTOOPT."""
    if level == uapi.SOL_UDP:
        return get_option(UDP_LEVEL, sk, optname)
    return af_ops_of[sk.sk_family].getsockopt(sk, level, optname, optlen)
