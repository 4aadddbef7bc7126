"""net/ipv4/tcp_cong.c: pluggable congestion control, and the built-in Reno (RFC 5681).

A module is a table of functions (`tcp_congestion_ops`). Once registered, its name can be used with
`TCP_CONGESTION`, `tcp_congestion_control` and a route's `congctl`. The window reduction that all
modules share (RFC 6937; tcp_input.c in the kernel) is at the end.
"""

from __future__ import annotations

import errno
import zlib
from collections.abc import Callable
from typing import Any

from stack.core.dst import RTAX_CC_ALGO, dst_entry
from stack.core.errors import os_error
from stack.core.rows import state
from stack.core.sock import ns_capable
from stack.core.sock_flags import SOCK_NOSPACE
from stack.core.sysctl_net_core import SysctlError
from stack.core.tcp_states import TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCPF_CLOSE, TCPF_LISTEN
from stack.core.uapi import CAP_NET_ADMIN
from stack.inet.tcp_ecn import tcp_ecn_queue_cwr
from stack.inet.tcp_sock import (
    CA_EVENT_COMPLETE_CWR,
    FLAG_SND_UNA_ADVANCED,
    TCP_CA_CWR,
    TCP_CHRONO_SNDBUF_LIMITED,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
    TCP_CA_Open,
    tcp_chrono_start,
    tcp_in_cwnd_reduction,
    tcp_packets_in_flight,
    tcp_sock,
)
from stack.net import Net

TCP_CONG_NON_RESTRICTED = 1


@state
class tcp_congestion_ops:
    """One congestion control (include/net/tcp.h). Its functions never raise.

    `ssthresh`, `undo_cwnd` and `cong_avoid` or `cong_control` are required. `priv` makes the
    module's state in `sk.icsk_ca_priv` when a socket is given the module; `init` is called later,
    when the connection opens. `pkts_acked(sk, segments, rtt_us)` gets an ACK's result: how many
    segments it acknowledges, and the round-trip time of the newest of them, -1 when unknown
    (retransmitted). `get_info` returns what `ss` shows.
    """

    name: str
    ssthresh: Callable[[tcp_sock], int]
    undo_cwnd: Callable[[tcp_sock], int]
    cong_avoid: Callable[[tcp_sock, int, int], None] | None = None
    cong_control: Callable[[tcp_sock, int, int, Any], None] | None = None
    priv: Callable[[], object] | None = None
    init: Callable[[tcp_sock], None] | None = None
    release: Callable[[tcp_sock], None] | None = None
    set_state: Callable[[tcp_sock, int], None] | None = None
    cwnd_event: Callable[[tcp_sock, int], None] | None = None
    pkts_acked: Callable[[tcp_sock, int, int], None] | None = None
    get_info: Callable[[tcp_sock], dict[str, int | str]] | None = None
    flags: int = 0


# --- Reno ---------------------------------------------------------------------------------


def tcp_slow_start(tp: tcp_sock, acked: int) -> int:
    """Grow by `acked` up to ssthresh; returns the rest of `acked`."""
    cwnd = tp.snd_cwnd + acked
    if cwnd > tp.snd_ssthresh:
        cwnd = tp.snd_ssthresh
    acked -= cwnd - tp.snd_cwnd
    tp.snd_cwnd = cwnd if cwnd < tp.snd_cwnd_clamp else tp.snd_cwnd_clamp
    return acked


def tcp_cong_avoid_ai(tp: tcp_sock, w: int, acked: int) -> None:
    """Additive increase: one segment per `w` acknowledged."""
    if tp.snd_cwnd_cnt >= w:
        tp.snd_cwnd_cnt = 0
        tp.snd_cwnd += 1
    tp.snd_cwnd_cnt += acked
    if tp.snd_cwnd_cnt >= w:
        delta = tp.snd_cwnd_cnt // w
        tp.snd_cwnd_cnt -= delta * w
        tp.snd_cwnd += delta
    tp.snd_cwnd = min(tp.snd_cwnd, tp.snd_cwnd_clamp)


def tcp_is_cwnd_limited(sk: tcp_sock) -> bool:
    """include/net/tcp.h: whether the window limited sending; only then may it grow (RFC 7661)."""
    if sk.is_cwnd_limited:
        return True
    return sk.snd_cwnd < sk.snd_ssthresh and sk.snd_cwnd < 2 * sk.max_packets_out


def tcp_reno_cong_avoid(sk: tcp_sock, ack: int, acked: int) -> None:
    if not tcp_is_cwnd_limited(sk):
        return
    if sk.snd_cwnd < sk.snd_ssthresh:
        acked = tcp_slow_start(sk, acked)
        if not acked:
            return
    tcp_cong_avoid_ai(sk, sk.snd_cwnd, acked)


def tcp_reno_ssthresh(sk: tcp_sock) -> int:
    return max(sk.snd_cwnd >> 1, 2)


def tcp_reno_undo_cwnd(sk: tcp_sock) -> int:
    return max(sk.snd_cwnd, sk.prior_cwnd)


tcp_reno = tcp_congestion_ops(
    name="reno",
    ssthresh=tcp_reno_ssthresh,
    undo_cwnd=tcp_reno_undo_cwnd,
    cong_avoid=tcp_reno_cong_avoid,
    flags=TCP_CONG_NON_RESTRICTED,
)


# --- registry (of a net) ------------------------------------------------------------------


def tcp_register_congestion_control(net: Net, ca: tcp_congestion_ops) -> int:
    """0, or -EINVAL (a required function is missing), -EEXIST."""
    if ca.cong_avoid is None and ca.cong_control is None:
        return -errno.EINVAL
    if ca.name in net.tcp_cong_list or tcp_ca_find_key(net, tcp_ca_key(ca.name)) is not None:
        return -errno.EEXIST
    net.tcp_cong_list[ca.name] = ca
    _tell_available(net)
    if ca.flags & TCP_CONG_NON_RESTRICTED:
        _allow(net, ca.name)
    return 0


def tcp_unregister_congestion_control(net: Net, ca: tcp_congestion_ops) -> None:
    """Remove the module; sockets that use it keep it."""
    net.tcp_cong_list.pop(ca.name, None)
    _tell_available(net)
    allowed = net.sysctl.tcp_allowed_congestion_control.split()
    left = " ".join(name for name in allowed if name != ca.name)
    net.sysctl.publish("tcp_allowed_congestion_control", left)


def tcp_ca_find(net: Net, name: str) -> tcp_congestion_ops | None:
    return net.tcp_cong_list.get(name)


def tcp_ca_key(name: str) -> int:
    """Return the number of a module in a route's metrics; never 0."""
    return zlib.crc32(name.encode()) or 1


def tcp_ca_find_key(net: Net, key: int) -> tcp_congestion_ops | None:
    """Return the module of a route's metric; None if it was removed."""
    return next((ca for ca in net.tcp_cong_list.values() if tcp_ca_key(ca.name) == key), None)


def tcp_ca_get_key_by_name(net: Net, name: str) -> int:
    """`ip route add ... congctl NAME`. Raises: OSError EINVAL for a name that is not registered."""
    if tcp_ca_find(net, name) is None:
        known = tcp_get_available_congestion_control(net)
        raise os_error(errno.EINVAL, f"congctl {name!r}: there are: {known}")
    return tcp_ca_key(name)


def tcp_ca_get_name_by_key(net: Net, key: int) -> str:
    """The reverse, "" for a module that was removed."""
    ca = tcp_ca_find_key(net, key)
    return "" if ca is None else ca.name


def _give(sk: tcp_sock, ca: tcp_congestion_ops) -> None:
    sk.icsk_ca_ops = ca
    sk.icsk_ca_priv = None if ca.priv is None else ca.priv()


def tcp_assign_congestion_control(sk: tcp_sock) -> None:
    """Give a new socket the host's default."""
    ca = tcp_ca_find(sk.net, sk.net.sysctl.tcp_congestion_control)
    _give(sk, ca if ca is not None else tcp_reno)  # unregistered since it was set


def tcp_ca_dst_init(sk: tcp_sock, dst: dst_entry | None) -> None:
    """net/ipv4/tcp_output.c: a route's `congctl` overrides the socket's choice."""
    if dst is None or not dst.metrics:
        return
    key = dst.metrics.get(RTAX_CC_ALGO, 0)
    ca = tcp_ca_find_key(sk.net, key) if key else None
    if ca is not None:
        _give(sk, ca)


def tcp_ca_openreq_child(sk: tcp_sock, dst: dst_entry | None) -> None:
    """net/ipv4/tcp_minisocks.c: give an accepted socket its module.

    The route's, else the listener's TCP_CONGESTION, else the default.
    """
    ca: tcp_congestion_ops = sk.icsk_ca_ops
    if not sk.icsk_ca_setsockopt or tcp_ca_find(sk.net, ca.name) is not ca:
        tcp_assign_congestion_control(sk)
    else:
        _give(sk, ca)
    tcp_ca_dst_init(sk, dst)
    sk.icsk_ca_state = TCP_CA_Open


def tcp_set_default_congestion_control(net: Net, name: str) -> None:
    """Check and apply a write of tcp_congestion_control; every user may choose the default.

    Raises: SysctlError ENOENT for a name that is not registered.
    """
    _need_modules(net, "tcp_congestion_control", name, [name])
    _allow(net, name)


def tcp_set_allowed_congestion_control(net: Net, names: str) -> None:
    """Check a write of tcp_allowed_congestion_control: modules that users other than root may set.

    Raises: SysctlError ENOENT for a name that is not registered.
    """
    _need_modules(net, "tcp_allowed_congestion_control", names, names.split())


def _need_modules(net: Net, knob: str, value: str, names: list[str]) -> None:
    if any(tcp_ca_find(net, name) is None for name in names):
        known = tcp_get_available_congestion_control(net)
        raise SysctlError(errno.ENOENT, f"sysctl net.ipv4.{knob}={value!r}: there are: {known}")


def _allow(net: Net, name: str) -> None:
    allowed = net.sysctl.tcp_allowed_congestion_control.split()
    if name not in allowed:
        order = [n for n in net.tcp_cong_list if n in (*allowed, name)]
        net.sysctl.publish("tcp_allowed_congestion_control", " ".join(order))


def _tell_available(net: Net) -> None:
    known = tcp_get_available_congestion_control(net)
    net.sysctl.publish("tcp_available_congestion_control", known)


def tcp_init_congestion_control(sk: tcp_sock) -> None:
    """The connection starts."""
    sk.prior_ssthresh = 0
    if sk.icsk_ca_ops.init is not None:
        sk.icsk_ca_ops.init(sk)


def tcp_cleanup_congestion_control(sk: tcp_sock) -> None:
    if sk.icsk_ca_ops is not None and sk.icsk_ca_ops.release is not None:
        sk.icsk_ca_ops.release(sk)


def tcp_reset_congestion_control(sk: tcp_sock) -> None:
    """Reset the module's state after a disconnect: the socket keeps the module."""
    tcp_cleanup_congestion_control(sk)
    _give(sk, sk.icsk_ca_ops)


def tcp_set_congestion_control(sk: tcp_sock, name: str) -> None:
    """TCP_CONGESTION. Raises: OSError ENOENT for an unknown name, EPERM for one that is not in
    tcp_allowed_congestion_control when the host's user is not root.
    """
    ca = tcp_ca_find(sk.net, name)
    if ca is None:
        raise os_error(errno.ENOENT)
    if ca is sk.icsk_ca_ops:
        sk.icsk_ca_setsockopt = True
        return
    allowed = sk.net.sysctl.tcp_allowed_congestion_control.split()
    if name not in allowed and not ns_capable(sk.net, CAP_NET_ADMIN):
        raise os_error(errno.EPERM)
    tcp_cleanup_congestion_control(sk)
    _give(sk, ca)
    sk.icsk_ca_setsockopt = True
    if not (1 << sk.sk_state) & (TCPF_CLOSE | TCPF_LISTEN):
        tcp_init_congestion_control(sk)


def tcp_get_available_congestion_control(net: Net) -> str:
    """Every module's name, in the order of registration."""
    return " ".join(net.tcp_cong_list)


def tcp_set_ca_state(sk: tcp_sock, ca_state: int) -> None:
    if sk.icsk_ca_ops.set_state is not None:
        sk.icsk_ca_ops.set_state(sk, ca_state)
    sk.icsk_ca_state = ca_state


def tcp_ca_event(sk: tcp_sock, event: int) -> None:
    if sk.icsk_ca_ops.cwnd_event is not None:
        sk.icsk_ca_ops.cwnd_event(sk, event)


# --- the window itself (net/ipv4/tcp_input.c, tcp_output.c) -------------------------------


def tcp_init_cwnd(sk: tcp_sock, dst: dst_entry | None) -> int:
    """Initial window: the route's metric or IW10 (RFC 6928)."""
    cwnd = dst.metrics.get("initcwnd", 0) if dst is not None else 0
    return min(cwnd or TCP_INIT_CWND, sk.snd_cwnd_clamp)


def tcp_current_ssthresh(sk: tcp_sock) -> int:
    """include/net/tcp.h: ssthresh before the reduction that is in progress."""
    if tcp_in_cwnd_reduction(sk):
        return sk.snd_ssthresh
    return max(sk.snd_ssthresh, (sk.snd_cwnd >> 1) + (sk.snd_cwnd >> 2))


def tcp_cwnd_application_limited(sk: tcp_sock) -> None:
    """RFC 2861: after an RTO without full use, halve the distance from the window to its use."""
    if sk.icsk_ca_state == TCP_CA_Open and not sk.sk_flags & SOCK_NOSPACE:
        win_used = max(sk.snd_cwnd_used, tcp_init_cwnd(sk, sk.sk_dst_cache))
        if win_used < sk.snd_cwnd:
            sk.snd_ssthresh = tcp_current_ssthresh(sk)
            sk.snd_cwnd = (sk.snd_cwnd + win_used) >> 1
        sk.snd_cwnd_used = 0
    sk.snd_cwnd_stamp = sk.tcp_mstamp


def tcp_cwnd_validate(sk: tcp_sock, is_cwnd_limited: bool) -> None:
    """Note whether the window limited sending in this round trip."""
    packets_out = sk.packets_out
    if (
        ((sk.snd_una - sk.cwnd_usage_seq) & 0xFFFFFFFF) < 0x80000000
        or is_cwnd_limited
        or (not sk.is_cwnd_limited and packets_out > sk.max_packets_out)
    ):
        sk.is_cwnd_limited = is_cwnd_limited
        sk.max_packets_out = packets_out
        sk.cwnd_usage_seq = sk.snd_nxt
    if tcp_is_cwnd_limited(sk):
        sk.snd_cwnd_used = 0
        sk.snd_cwnd_stamp = sk.tcp_mstamp
        return
    if packets_out > sk.snd_cwnd_used:
        sk.snd_cwnd_used = packets_out
    # Everything was sent, and a writer waits for buffer space.
    if (
        sk.sk_flags & SOCK_NOSPACE
        and not sk.sk_write_queue.qlen
        and sk.sk_state in (TCP_ESTABLISHED, TCP_CLOSE_WAIT)
    ):
        tcp_chrono_start(sk, TCP_CHRONO_SNDBUF_LIMITED)
    if (
        sk.net.sysctl.tcp_slow_start_after_idle
        and sk.tcp_mstamp - sk.snd_cwnd_stamp >= sk.icsk_rto
        and sk.icsk_ca_ops.cong_control is None
    ):
        tcp_cwnd_application_limited(sk)


def tcp_init_cwnd_reduction(sk: tcp_sock) -> None:
    """Start a proportional rate reduction (RFC 6937) towards the module's ssthresh."""
    sk.high_seq = sk.snd_nxt
    sk.tlp_high_seq = 0
    sk.snd_cwnd_cnt = 0
    sk.prior_cwnd = sk.snd_cwnd
    sk.prr_delivered = 0
    sk.prr_out = 0
    sk.snd_ssthresh = sk.icsk_ca_ops.ssthresh(sk)
    tcp_ecn_queue_cwr(sk)


def tcp_cwnd_reduction(sk: tcp_sock, newly_acked_sacked: int, newly_lost: int, flag: int) -> None:
    """One ACK's worth of RFC 6937: send in proportion to what was delivered."""
    if newly_acked_sacked <= 0 or not sk.prior_cwnd:
        return
    in_flight = tcp_packets_in_flight(sk)
    delta = sk.snd_ssthresh - in_flight
    sk.prr_delivered += newly_acked_sacked
    if delta < 0:
        dividend = sk.snd_ssthresh * sk.prr_delivered + sk.prior_cwnd - 1
        sndcnt = dividend // sk.prior_cwnd - sk.prr_out
    else:
        sndcnt = max(sk.prr_delivered - sk.prr_out, newly_acked_sacked)
        if flag & FLAG_SND_UNA_ADVANCED and not newly_lost:
            sndcnt += 1
        sndcnt = min(delta, sndcnt)
    # A fast retransmission goes out at the first opportunity.
    sndcnt = max(sndcnt, 0 if sk.prr_out else 1)
    sk.snd_cwnd = in_flight + sndcnt


def tcp_end_cwnd_reduction(sk: tcp_sock) -> None:
    """Recovery is over: the window is ssthresh."""
    if sk.icsk_ca_ops.cong_control is not None:
        return
    if sk.snd_ssthresh < TCP_INFINITE_SSTHRESH and (
        sk.icsk_ca_state == TCP_CA_CWR or sk.undo_marker
    ):
        sk.snd_cwnd = sk.snd_ssthresh
        sk.snd_cwnd_stamp = sk.tcp_mstamp
    tcp_ca_event(sk, CA_EVENT_COMPLETE_CWR)


def tcp_enter_cwr(sk: tcp_sock) -> None:
    """Reduce the window for a reason other than loss (a drop in the local queue, ECN)."""
    sk.prior_ssthresh = 0
    if sk.icsk_ca_state < TCP_CA_CWR:
        sk.undo_marker = 0
        tcp_init_cwnd_reduction(sk)
        tcp_set_ca_state(sk, TCP_CA_CWR)
