"""Sockets and associations of XTP, and their lookup tables."""

from __future__ import annotations

from collections import deque

from fastpath.base.skbuff import sk_buff
from fastpath.net.inetkey import inet_siphash
from stack.core.rows import FRESH, row, state
from stack.core.secure_seq import SECURE_EHASH
from stack.core.sockaddr import sockaddr
from stack.core.tcp_states import TCP_ESTABLISHED, TCP_LISTEN
from stack.core.timer import timer_list, timer_shutdown
from stack.core.uapi import AF_INET, SOCK_STREAM
from stack.inet.inet_hashtables import compute_score, inet_free_port
from stack.inet.inet_sock import inet_sock
from stack.inet.udp_hash import udp_lib_lport_inuse
from stack.net import Net
from stack.xtp.context import xtp_context
from stack.xtp.packet import XTP_KEY_MASK, XTP_SERVICE_STREAM

XTP_ANSWERED_MAX = 4096
"""Acknowledged datagrams remembered, so that a repeated one is not delivered twice."""


@state
class xtp_datagram:
    """A queued datagram: `size` bytes of `skb` from `offset`."""

    skb: sk_buff
    offset: int
    size: int
    name: sockaddr
    acked: xtp_acked | None = None


@state
class xtp_acked:
    """A received acknowledged datagram: the answer to its sender, also for repetitions."""

    key: int
    saddr: int
    daddr: int
    size: int
    sync: int
    delivered: bool
    """Whether the sender's request is fulfilled: received, or with DREQ read."""
    expires_ns: int


@state
class xtp_sock(inet_sock):
    """struct xtp_sock: a socket of XTP; `assoc` is its association (the source's `xtp_ctxt`)."""

    assoc: xtp_assoc | None = row(None, clone=FRESH)
    service: int = row(XTP_SERVICE_STREAM)
    noerr: bool = row(False)
    noflow: bool = row(False)
    nocheck: bool = row(False)
    fastnak: bool = row(True)
    dreq: bool = row(False)
    rate: int = row(0)
    burst: int = row(0)
    inrate: int = row(0)
    inburst: int = row(0)
    sort: int = row(0)
    accept_queue: deque[xtp_sock] = row(make=deque, clone=FRESH)
    datagrams: deque[xtp_datagram] = row(make=deque, clone=FRESH)
    pending_acks: dict[int, xtp_assoc] = row(make=dict, clone=FRESH)
    """Acknowledged datagrams awaiting acknowledgement, by key."""


@state
class xtp_assoc:
    """A context with its socket, its addresses and its timer."""

    ctx: xtp_context
    sk: xtp_sock
    saddr: int
    daddr: int
    timer: timer_list = row()
    timer_missed: bool = row(False)
    """Whether the timer expired while the socket was owned."""
    waited: bool = row(False)
    """Whether a sendto waits for the acknowledgement."""


@state
class xtp_mib:
    """Counters of a namespace, shown in /proc/net/xtp."""

    InPkts: int = row(0)
    InErrors: int = row(0)
    InCsumErrors: int = row(0)
    NoPorts: int = row(0)
    OutPkts: int = row(0)
    OutDiags: int = row(0)
    InDiags: int = row(0)
    ActiveOpens: int = row(0)
    PassiveOpens: int = row(0)
    ListenOverflows: int = row(0)
    InDatagrams: int = row(0)
    OutDatagrams: int = row(0)
    RcvbufErrors: int = row(0)
    DupDatagrams: int = row(0)
    Retransmits: int = row(0)


@state
class xtp_net:
    """XTP's state of a namespace."""

    mib: xtp_mib = row(make=xtp_mib)
    initiated: dict[int, xtp_assoc] = row(make=dict)
    """Associations opened by us, by key."""
    accepted: dict[tuple[int, int], xtp_assoc] = row(make=dict)
    """Associations by (peer's address, key)."""
    ports: dict[tuple[int, int], list[xtp_sock]] = row(make=dict)
    """Bound sockets by (socket type, port)."""
    answered: dict[tuple[int, int], xtp_acked] = row(make=dict)
    """Acknowledged datagrams by (sender's address, key), oldest first."""
    ctl_sk: inet_sock = row()
    """Socket for replies without a socket."""


def xtp_new_key(net: Net) -> int:
    """A random key unused by our other associations."""
    while True:
        key = net.random.getrandbits(63) & XTP_KEY_MASK
        if key and key not in net.xtp.initiated:
            return key


# --- ports -----------------------------------------------------------------------------------


def xtp_port_taken(sk: xtp_sock, port: int) -> bool:
    """Whether a port has an owner."""
    return (sk.sk_type, port) in sk.net.xtp.ports


def xtp_get_port(sk: xtp_sock, snum: int) -> int:
    """proto.get_port: take `snum`, or a free port for 0. 0, or 1 if there is none."""
    net = sk.net
    ports = net.xtp.ports
    if not snum:
        snum = inet_free_port(sk, xtp_port_taken)
        if not snum:
            return 1
    else:
        others = ports.get((sk.sk_type, snum))
        if others is not None and udp_lib_lport_inuse(sk, others):
            return 1
    sk.inet_num = snum
    ports.setdefault((sk.sk_type, snum), []).append(sk)
    return 0


def xtp_put_port(sk: xtp_sock) -> None:
    """proto.unhash: release the port."""
    ports = sk.net.xtp.ports
    bucket = ports.get((sk.sk_type, sk.inet_num))
    if bucket is not None and sk in bucket:
        bucket.remove(sk)
        if not bucket:
            del ports[(sk.sk_type, sk.inet_num)]
        sk.inet_num = 0


def xtp_lookup(
    net: Net, kind: int, saddr: int, sport: int, daddr: int, dport: int, dif: int
) -> xtp_sock | None:
    """The listener or datagram socket that matches a FIRST best.

    Among SO_REUSEPORT sockets that match equally the sender's address and port choose.
    """
    best: list[xtp_sock] = []
    score = -1
    for sk in net.xtp.ports.get((kind, dport), ()):
        points = xtp_score(sk, saddr, sport, daddr, dif)
        if points > score:
            best = [sk]
            score = points
        elif points == score >= 0 and sk.sk_reuseport:
            best.append(sk)
    if not best:
        return None
    if not best[0].sk_reuseport:
        return best[0]
    ports = sport << 16 | dport
    return best[inet_siphash(net.secret, saddr, daddr, ports, SECURE_EHASH) % len(best)]


def xtp_score(sk: xtp_sock, saddr: int, sport: int, daddr: int, dif: int) -> int:
    """How specifically sk matches a FIRST; -1: not at all. A connected one counts most."""
    peer = 0
    if sk.sk_type == SOCK_STREAM:
        if sk.sk_state != TCP_LISTEN:
            return -1
    elif sk.sk_state == TCP_ESTABLISHED:
        if sk.inet_daddr != saddr or sk.inet_dport != sport:
            return -1
        peer = 8
    score = compute_score(sk, AF_INET, daddr, dif)
    return score if score < 0 else score + peer


# --- associations ----------------------------------------------------------------------------


def xtp_hash_assoc(assoc: xtp_assoc) -> None:
    """Enter an association into the table for its packets."""
    xtp = assoc.sk.net.xtp
    if assoc.ctx.initiator:
        xtp.initiated[assoc.ctx.key] = assoc
    else:
        xtp.accepted[(assoc.daddr, assoc.ctx.key)] = assoc


def xtp_forget_assoc(assoc: xtp_assoc) -> None:
    """Remove an association whose context has ended from the tables."""
    xtp = assoc.sk.net.xtp
    ctx = assoc.ctx
    if ctx.initiator:
        if xtp.initiated.get(ctx.key) is assoc:
            del xtp.initiated[ctx.key]
    elif xtp.accepted.get((assoc.daddr, ctx.key)) is assoc:
        del xtp.accepted[(assoc.daddr, ctx.key)]
    timer_shutdown(assoc.timer)
