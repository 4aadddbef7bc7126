"""net/ipv4/inet_timewait_sock.c: the small socket of a connection in TIME_WAIT (or FIN_WAIT2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stack.core.inet_ecn import INET_ECN_MASK
from stack.core.proto import proto
from stack.core.rows import row, state, u8, wide
from stack.core.sock import sock_common
from stack.core.tcp_states import TCP_TIME_WAIT
from stack.core.timer import mod_timer, timer_list, timer_shutdown
from stack.core.uapi import AF_INET6, IPV6_FLOWLABEL_MASK
from stack.inet.af_ops import (
    InetKey,
    inet_af_ops,
    inet_ehash_add,
    inet_ehash_remove,
    inet_ehash_replace,
)

if TYPE_CHECKING:
    from stack.inet.inet_connection_sock import inet_connection_sock
    from stack.inet.inet_hashtables import inet_bind_bucket
    from stack.inet.tcp_md5 import tcp_md5sig_key
    from stack.inet.tcp_sock import tcp_sock


@state
class timewait_sock_ops:
    """include/net/timewait_sock.h struct timewait_sock_ops (proto.twsk_prot)."""

    twsk_unique: Callable[[tcp_sock, inet_timewait_sock, bool], bool]
    """Whether a connecting socket may replace the remnant that has its 4-tuple."""


def twsk_unique(sk: tcp_sock, sktw: inet_timewait_sock, bound: bool) -> bool:
    """include/net/timewait_sock.h: whether a new connection may replace sktw.

    `bound`: the socket is bound already, so no other port is possible.
    """
    ops: timewait_sock_ops | None = sk.sk_prot.twsk_prot
    return ops is not None and ops.twsk_unique(sk, sktw, bound)


@state
class inet_timewait_death_row:
    """How many TIME_WAIT sockets this host has."""

    tw_refcount: int = row(0)


@state
class inet_timewait_sock(sock_common):
    """The small socket that answers in place of the closed one.

    It is in the same hash as full sockets, so members that a lookup reads have their sk_* names.
    """

    sk_af: inet_af_ops = row()
    sk_ipv6only: bool = row(False)
    sk_prot: proto = row()
    sk_state: u8 = row(TCP_TIME_WAIT)
    sk_reuse: int = row(0)
    sk_reuseport: bool = row(False)
    sk_mark: int = row(0)
    inet_daddr: wide = row(0)
    inet_dport: int = row(0)
    inet_rcv_saddr: wide = row(0)
    inet_num: int = row(0)
    inet_tuple: InetKey = row()
    tw_substate: int = row(0)
    """FIN_WAIT2 until the peer's FIN is received."""
    tw_tos: int = row(0)
    tw_flowlabel: int = row(0)
    tw_bind_hash: inet_bind_bucket | None = row()
    tw_hashed: bool = row(False)
    tw_timer: timer_list = row()

    # TCP's (struct tcp_timewait_sock)
    tw_rcv_nxt: int = row(0)
    tw_snd_nxt: int = row(0)
    tw_rcv_wnd: int = row(0)
    tw_rcv_wscale: int = row(0)
    tw_ts_offset: int = row(0)
    tw_ts_recent: int = row(0)
    tw_ts_recent_stamp: int = row(0)
    tw_md5_key: tcp_md5sig_key | None = row(None)
    """The key that signs its ACKs."""
    tw_entry_stamp: int = row(0)
    """When it entered TIME_WAIT or FIN_WAIT2, ns."""
    last_oow_ack_time: int = row(0)


def inet_twsk_alloc(sk: inet_connection_sock, state: int) -> inet_timewait_sock | None:
    """Make sk's TIME_WAIT socket; None when the host already has tcp_max_tw_buckets of them."""
    dr = sk.net.tcp_death_row
    if dr.tw_refcount >= sk.net.sysctl.tcp_max_tw_buckets:
        return None
    dr.tw_refcount += 1
    tw = inet_timewait_sock(sk.net)
    tw.sk_af = sk.sk_af
    tw.sk_family = sk.sk_family
    tw.sk_ipv6only = sk.sk_ipv6only
    tw.sk_prot = sk.sk_prot
    tw.tw_substate = state
    tw.sk_bound_dev_if = sk.sk_bound_dev_if
    tw.sk_reuse = sk.sk_reuse
    tw.sk_reuseport = sk.sk_reuseport
    tw.sk_mark = sk.sk_mark
    tw.inet_daddr = sk.inet_daddr
    tw.inet_dport = sk.inet_dport
    tw.inet_rcv_saddr = sk.inet_rcv_saddr
    tw.inet_num = sk.inet_num
    tw.inet_tuple = sk.inet_tuple
    np = sk.pinet6
    if np is None or sk.sk_af.family != AF_INET6:
        tw.tw_tos = sk.tos
    else:
        tw.tw_tos = np.tclass | (sk.tos & INET_ECN_MASK)
        tw.tw_flowlabel = np.flow_label & IPV6_FLOWLABEL_MASK
    tw.tw_timer = timer_list(sk.net.machine, tw_timer_handler, 0, tw)
    return tw


def inet_twsk_hashdance(tw: inet_timewait_sock, sk: inet_connection_sock) -> None:
    """Put tw in the established hash and the bind bucket in place of sk."""
    hashinfo = tw.net.tcp_hashinfo
    tb = sk.icsk_bind_hash
    tw.tw_bind_hash = tb
    if tb is not None:
        tb.add(tw)
    key = tw.inet_tuple
    if inet_ehash_replace(hashinfo, key, sk, tw):
        sk.sk_hashed = 0
    else:
        inet_ehash_add(hashinfo, key, tw)
    tw.tw_hashed = True


def tw_timer_handler(timer: timer_list) -> None:
    """TIME_WAIT is over."""
    tw: inet_timewait_sock = timer.data
    inet_twsk_deschedule_put(tw)


def inet_twsk_deschedule_put(tw: inet_timewait_sock) -> None:
    """End TIME_WAIT now: take tw out of both hashes."""
    timer_shutdown(tw.tw_timer)
    net = tw.net
    inet_ehash_remove(net.tcp_hashinfo, tw.inet_tuple, tw)
    if tw.tw_hashed:
        tw.tw_hashed = False
        net.tcp_death_row.tw_refcount -= 1
    tb = tw.tw_bind_hash
    if tb is not None:
        tw.tw_bind_hash = None
        tb.remove(tw)
        if tb.is_free():
            net.tcp_hashinfo.bhash.pop(tb.port, None)


TW_KILL_NS = 4_000_000_000
"""A wait that is no longer counts as TWKilled: that of an orphan in FIN_WAIT2 may be short."""


def inet_twsk_schedule(tw: inet_timewait_sock, timeo_ns: int) -> None:
    """Arm the timer."""
    linux = tw.net.mib.linux
    if timeo_ns <= TW_KILL_NS:
        linux.TWKilled += 1
    else:
        linux.TW += 1
    mod_timer(tw.tw_timer, tw.net.clock.now_ns() + timeo_ns)


def inet_twsk_reschedule(tw: inet_timewait_sock, timeo_ns: int) -> None:
    """Restart the wait (RFC 9293 3.10.7.4: a retransmitted FIN restarts 2 MSL)."""
    mod_timer(tw.tw_timer, tw.net.clock.now_ns() + timeo_ns)
