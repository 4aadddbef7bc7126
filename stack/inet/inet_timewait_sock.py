"""net/ipv4/inet_timewait_sock.c: the rest of a connection in TIME_WAIT (or FIN_WAIT2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stack.core.tcp_states import TCP_TIME_WAIT
from stack.core.timer import mod_timer, timer_delete, timer_list
from stack.inet.af_ops import inet_sk_key

if TYPE_CHECKING:
    from stack.inet.inet_connection_sock import inet_connection_sock
    from stack.inet.inet_hashtables import inet_bind_bucket, inet_hashinfo


@dataclass(slots=True, frozen=True, eq=False, kw_only=True)
class timewait_sock_ops:
    """include/net/timewait_sock.h struct timewait_sock_ops (proto.twsk_prot)."""

    twsk_unique: Callable[[Any, inet_timewait_sock], bool]
    """(a connecting socket, the remnant at its place): may it take the place?"""


def twsk_unique(sk: inet_connection_sock, sktw: inet_timewait_sock) -> bool:
    """include/net/timewait_sock.h: whether a new connection may replace sktw."""
    ops: timewait_sock_ops | None = sk.sk_prot.twsk_prot
    return ops is not None and ops.twsk_unique(sk, sktw)


class inet_timewait_death_row:
    """How many TIME_WAIT sockets this host has, and how many it may have."""

    __slots__ = ("hashinfo", "sysctl_max_tw_buckets", "tw_refcount")

    def __init__(self, hashinfo: inet_hashinfo, max_tw_buckets: int = 4096) -> None:
        self.hashinfo = hashinfo
        self.sysctl_max_tw_buckets = max_tw_buckets
        self.tw_refcount = 0

    def set_max_tw_buckets(self, value: int) -> None:
        """net.ipv4.tcp_max_tw_buckets was written."""
        self.sysctl_max_tw_buckets = value


class inet_timewait_sock:
    """The small socket that answers in place of the closed one.

    It stands in the same hash as full sockets, hence the sk_* names of what a lookup reads.
    """

    __slots__ = (
        "inet_daddr",
        "inet_dport",
        "inet_num",
        "inet_rcv_saddr",
        "last_oow_ack_time",
        "net",
        "sk_af",
        "sk_bound_dev_if",
        "sk_family",
        "sk_ipv6only",
        "sk_mark",
        "sk_prot",
        "sk_reuse",
        "sk_reuseport",
        "sk_state",
        "tw_bind_hash",
        "tw_hashed",
        "tw_priority",
        "tw_rcv_nxt",
        "tw_rcv_wnd",
        "tw_rcv_wscale",
        "tw_snd_nxt",
        "tw_substate",
        "tw_timeout",
        "tw_timer",
        "tw_tos",
        "tw_ts_offset",
        "tw_ts_recent",
        "tw_ts_recent_stamp",
        "tw_ttl",
    )
    # Set by the init functions of the kernel's names, so declared here for the type checker.
    tw_rcv_nxt: Any
    tw_rcv_wnd: Any
    tw_rcv_wscale: Any
    tw_snd_nxt: Any
    tw_ts_offset: Any
    tw_ts_recent: Any
    tw_ts_recent_stamp: Any

    def __init__(self, sk: inet_connection_sock, state: int) -> None:
        self.net = sk.net
        self.sk_af = sk.sk_af
        self.sk_family = sk.sk_family
        self.sk_ipv6only = sk.sk_ipv6only
        self.sk_prot = sk.sk_prot
        self.sk_state = TCP_TIME_WAIT
        self.tw_substate = state
        self.sk_bound_dev_if = sk.sk_bound_dev_if
        self.sk_reuse = sk.sk_reuse
        self.sk_reuseport = sk.sk_reuseport
        self.sk_mark = sk.sk_mark
        self.inet_daddr = sk.inet_daddr
        self.inet_dport = sk.inet_dport
        self.inet_rcv_saddr = sk.inet_rcv_saddr
        self.inet_num = sk.inet_num
        self.tw_tos = sk.tos
        self.tw_ttl = sk.uc_ttl
        self.tw_priority = sk.sk_priority
        self.tw_bind_hash: inet_bind_bucket | None = None
        self.tw_hashed = False
        self.tw_timeout = 0
        self.last_oow_ack_time = 0
        self.tw_timer = timer_list(sk.net.machine, self._tw_timer_handler)

    def _tw_timer_handler(self, *_: Any) -> None:
        tw_timer_handler(self)


def inet_twsk_alloc(
    sk: inet_connection_sock, dr: inet_timewait_death_row, state: int
) -> inet_timewait_sock | None:
    """None when the host already keeps as many as tcp_max_tw_buckets allows."""
    if dr.tw_refcount >= dr.sysctl_max_tw_buckets:
        return None
    dr.tw_refcount += 1
    return inet_timewait_sock(sk, state)


def inet_twsk_hashdance(
    tw: inet_timewait_sock, sk: inet_connection_sock, hashinfo: inet_hashinfo
) -> None:
    """Put tw in the established hash and the bind bucket in place of sk."""
    tb = sk.icsk_bind_hash
    tw.tw_bind_hash = tb
    if tb is not None:
        tb.owners.append(tw)
    key = inet_sk_key(tw)
    if hashinfo.ehash.get(key) is sk:
        sk.sk_hashed = 0
    hashinfo.ehash[key] = tw
    tw.tw_hashed = True


def tw_timer_handler(tw: inet_timewait_sock) -> None:
    """TIME_WAIT is over."""
    linux = tw.net.mib.linux
    linux.TWKilled += 0
    linux.TW += 1
    inet_twsk_kill(tw)


def inet_twsk_kill(tw: inet_timewait_sock) -> None:
    """Take tw out of both hashes."""
    net = tw.net
    key = inet_sk_key(tw)
    ehash = net.tcp_hashinfo.ehash
    if ehash.get(key) is tw:
        del ehash[key]
    if tw.tw_hashed:
        tw.tw_hashed = False
        net.tcp_death_row.tw_refcount -= 1
    inet_twsk_bind_unhash(tw, net.tcp_hashinfo)


def inet_twsk_bind_unhash(tw: inet_timewait_sock, hashinfo: inet_hashinfo) -> None:
    tb = tw.tw_bind_hash
    if tb is not None:
        tw.tw_bind_hash = None
        tb.owners.remove(tw)
        if not tb.owners:
            hashinfo.bhash.pop(tb.port, None)


def inet_twsk_schedule(tw: inet_timewait_sock, timeo_ns: int) -> None:
    """Arm the timer."""
    mod_timer(tw.tw_timer, tw.net.now() + timeo_ns)


def inet_twsk_reschedule(tw: inet_timewait_sock, timeo_ns: int) -> None:
    """Start the wait anew (RFC 9293 3.10.7.4: a retransmitted FIN restarts 2 MSL)."""
    mod_timer(tw.tw_timer, tw.net.now() + timeo_ns)


def inet_twsk_deschedule_put(tw: inet_timewait_sock) -> None:
    """End TIME_WAIT now."""
    timer_delete(tw.tw_timer)
    inet_twsk_kill(tw)
