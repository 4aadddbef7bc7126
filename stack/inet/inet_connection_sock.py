"""net/ipv4/inet_connection_sock.c, include/net/{inet_connection_sock,request_sock}.h.

The common part of connection-oriented protocols, for both families, in this order:

    ports       inet_csk_get_port           bind, listen and autobind, through proto.get_port
                    inet_csk_find_open_port, inet_csk_bind_conflict
    timers      inet_csk_init_xmit_timers, inet_csk_reset_xmit_timer, inet_csk_clear_xmit_timer
    requests    inet_reqsk_alloc            a SYN was received (tcp_conn_request)
                inet_csk_reqsk_queue_hash_add           into ehash, with the SYN-ACK timer
                reqsk_timer_handler         no third segment: resend the SYN-ACK, or give up
    children    inet_csk_clone_lock         the third segment was received (tcp_check_req)
                inet_csk_complete_hashdance -> inet_csk_reqsk_queue_add
                inet_csk_accept             accept() takes the oldest child
    end         inet_csk_listen_stop, inet_csk_destroy_sock

State: a listener has a `request_sock_queue` (requests counted, children waiting). A `request_sock`
represents a connection in the handshake in ehash, so it has the members that a lookup reads. An
`inet_connection_sock` adds timers, congestion control and delayed ACKs to inet_sock. All times are
ns. Read the two structures first; tcp_conn_request and tcp_check_req use the rest.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastpath.base.skbuff import sk_buff
from stack.core import tcp_states
from stack.core.dst import dst_entry
from stack.core.errors import os_error
from stack.core.l3mdev import l3mdev_master_ifindex_by_index
from stack.core.rows import FRESH, i32, row, state, u8, u16, u32, wide
from stack.core.security import security_inet_csk_clone
from stack.core.sock import (
    SK_CAN_REUSE,
    bh_lock_sock,
    bh_unlock_sock,
    lock_sock,
    release_sock,
    sk_clone_lock,
    sk_dst_reset,
    sk_free,
    sk_wait_event,
    sock_common,
    sock_orphan,
    sock_rcvtimeo,
)
from stack.core.sock_flags import SOCK_DEAD
from stack.core.stream import sk_stream_kill_queues
from stack.core.tcp_states import tcp_check_transition
from stack.core.timer import mod_timer, timer_delete, timer_list, timer_shutdown
from stack.core.uapi import O_NONBLOCK
from stack.inet import tcp_const
from stack.inet.af_ops import (
    InetKey,
    af_ops_of,
    inet_af_ops,
    inet_ehash_add,
    inet_ehash_match,
    inet_ehash_remove,
    inet_rcv_saddr_equal,
    inet_sk_key,
)
from stack.inet.flow import flowi
from stack.inet.icsk_af_ops import inet_connection_sock_af_ops
from stack.inet.inet_hashtables import (
    inet_bind_bucket,
    inet_bind_hash,
    inet_sk_get_local_port_range,
)
from stack.inet.inet_sock import inet_sock, ip_options
from stack.inet.tcp_family import tcp_family_ops

if TYPE_CHECKING:
    from stack.inet.tcp_cong import tcp_congestion_ops
    from stack.inet.tcp_sock import tcp_fastopen_cookie, tcp_sock

FASTREUSEPORT_ANY = 1
FASTREUSEPORT_STRICT = 2

ICSK_TIME_RETRANS = 1
ICSK_TIME_DACK = 2
ICSK_TIME_PROBE0 = 3
ICSK_TIME_LOSS_PROBE = 5
ICSK_TIME_REO_TIMEOUT = 6

ICSK_ACK_SCHED = 1
ICSK_ACK_TIMER = 2
ICSK_ACK_PUSHED = 4
ICSK_ACK_PUSHED2 = 8
ICSK_ACK_NOW = 16
ICSK_ACK_NOMEM = 32


@state
class fastopen_queue:
    """struct fastopen_queue: the TCP Fast Open side of a listener."""

    max_qlen: int = row(0)
    """TCP_FASTOPEN: most children with an unfinished handshake; 0: Fast Open is off."""
    qlen: int = row(0)
    """Number of such children, and of those that a RST ended within the last minute."""
    rst: deque[int] = row(make=deque)
    """When each of the latter stops counting, ns, ascending (the kernel's rskq_rst_head)."""
    ctx: tuple[bytes, ...] = row(())
    """TCP_FASTOPEN_KEY: the listener's own keys; (): the namespace's."""


@state
class request_sock_queue:
    """Requests of a listener, and the children waiting for accept()."""

    rskq_accept_head: deque[request_sock] = row(make=deque)
    """Finished requests, whose children wait, oldest first."""
    pending: set[request_sock] = row(make=set)
    """Requests that wait for the third segment."""
    young: int = row(0)
    """How many of them have not resent their SYN-ACK."""


@state
class icsk_timer_handlers:
    """The functions that a protocol's timers call; its sockets share one instance."""

    retransmit: Callable[[timer_list], None]
    delack: Callable[[timer_list], None]
    keepalive: Callable[[timer_list], None]
    pacing: Callable[[timer_list], None]
    compressed_ack: Callable[[timer_list], None]


@state
class inet_connection_sock(inet_sock):
    """struct inet_connection_sock; `icsk_ack.pending` of the kernel is `icsk_ack_pending` here."""

    sk_hashed: u8 = row(0, clone=FRESH)
    inet_tuple: InetKey = row(None, clone=FRESH)
    """The key in ehash, kept after leaving it; request, socket and TIME_WAIT remnant share it."""
    inet_fl: flowi | None = row(None, clone=FRESH)
    """The key of its route lookup. The kernel keeps it in `inet->cork.fl`."""
    icsk_bind_hash: inet_bind_bucket | None = row(None, clone=FRESH)
    icsk_accept_queue: request_sock_queue = row(None, clone=FRESH)
    """None until the socket listens."""
    icsk_af_ops: inet_connection_sock_af_ops = row()
    icsk_ext_hdr_len: u16 = row(0)
    icsk_sync_mss: Callable[[tcp_sock, int], int] = row()
    icsk_pmtu_cookie: u32 = row(0, ss="pmtu")

    # congestion control
    icsk_ca_ops: tcp_congestion_ops = row()
    icsk_ca_priv: Any = row(None, clone=FRESH)
    """State of the algorithm, of whatever type it declares."""
    icsk_ca_setsockopt: bool = row(False)
    icsk_ca_state: u8 = row(0, clone=FRESH)

    # timers and what they count
    icsk_retransmit_timer: timer_list = row()
    icsk_delack_timer: timer_list = row(None, clone=FRESH)
    """Created when first armed, like `sk_timer`: many connections need neither."""
    icsk_handlers: icsk_timer_handlers | None = row(None, clone=FRESH)
    """None once the socket is destroyed, so that no timer is armed again."""
    icsk_pending: u8 = row(0, clone=FRESH)
    icsk_timeout: int = row(0, clone=FRESH)
    icsk_rto: int = row(tcp_const.TCP_TIMEOUT_INIT, clone=FRESH, ss="rto")
    icsk_rto_min: int = row(tcp_const.TCP_RTO_MIN)
    icsk_rto_max: int = row(tcp_const.TCP_RTO_MAX)
    icsk_retransmits: i32 = row(0, clone=FRESH)
    icsk_backoff: i32 = row(0, clone=FRESH, ss="backoff")
    icsk_probes_out: i32 = row(0, clone=FRESH)
    icsk_probes_tstamp: int = row(0, clone=FRESH)
    icsk_syn_retries: i32 = row(0)
    icsk_user_timeout: int = row(0)

    # delayed acknowledgements
    icsk_delack_max: int = row(tcp_const.TCP_DELACK_MAX)
    icsk_ack_pending: u8 = row(0, clone=FRESH)
    icsk_ack_quick: i32 = row(0, clone=FRESH)
    icsk_ack_pingpong: i32 = row(0, clone=FRESH)
    icsk_ack_retry: i32 = row(0, clone=FRESH)
    icsk_ack_ato: int = row(0, clone=FRESH, ss="ato")
    icsk_ack_timeout: int = row(0, clone=FRESH)
    icsk_ack_lrcvtime: int = row(0, clone=FRESH)
    icsk_ack_last_seg_size: i32 = row(0, clone=FRESH)
    icsk_ack_rcv_mss: i32 = row(0, clone=FRESH, ss="rcvmss")


@state
class request_sock(sock_common):
    """struct {,inet_,tcp_}request_sock: a connection whose peer has not confirmed its address yet.

    It is an entry of ehash, so it has the members that a lookup reads (inet_*, sk_*).
    """

    rsk_listener: tcp_sock = row()
    """The listener that got the SYN."""
    rsk_ops: tcp_family_ops = row()
    """Operations of the SYN's family."""
    sk: tcp_sock | None = row()
    """The child, once there is one."""
    sk_af: inet_af_ops = row()
    """The family of the addresses below."""
    sk_state: u8 = row(tcp_states.TCP_NEW_SYN_RECV)
    """Always TCP_NEW_SYN_RECV: it distinguishes requests from sockets in a lookup."""
    sk_mark: int = row(0)
    """The mark of its packets."""
    inet_daddr: wide = row(0)
    """The peer's address."""
    inet_dport: int = row(0)
    """The peer's port."""
    inet_rcv_saddr: wide = row(0)
    """Our address, the SYN's destination."""
    inet_num: int = row(0)
    """Our port."""
    inet_tuple: InetKey = row()
    """The key in ehash."""
    ir_iif: int = row(0)
    """Index of the interface that received the SYN."""
    ireq_opt: ip_options | None = row()
    """IP options for the reply, from the SYN's."""
    dst: dst_entry | None = row()
    """The route to the peer, once it is known."""
    tos: int = row(0)
    """DSCP and ECN bits of the SYN-ACK."""

    # from the SYN
    mss: int = row(0)
    """The peer's MSS, bytes."""
    tstamp_ok: bool = row(False)
    """The SYN had a timestamp, and we use them."""
    sack_ok: bool = row(False)
    """The SYN permitted SACK, and we use it."""
    wscale_ok: bool = row(False)
    """The SYN had a window scale, and we use it."""
    ecn_ok: bool = row(False)
    """ECN was agreed."""
    accecn_ok: bool = row(False)
    """It is Accurate ECN."""
    syn_ect_rcv: int = row(0)
    """ECN codepoint of the received SYN (AccECN)."""
    accecn_fail_mode: int = row(0)
    """Bits TCP_ACCECN_ACE_FAIL_*."""
    saw_accecn_opt: int = row(0)
    """TCP_ACCECN_OPT_*: the option of the handshake's last ACK."""
    snd_wscale: int = row(0)
    """Bits to shift the peer's windows by."""
    ts_recent: int = row(0)
    """The peer's last timestamp, to echo."""
    rcv_isn: int = row(0)
    """Sequence number of the SYN."""
    rcv_nxt: int = row(0)
    """Sequence number expected next."""
    saved_syn: bytes | None = row()
    """The SYN's headers (TCP_SAVE_SYN)."""

    # of the SYN-ACK
    snt_isn: int = row(0)
    """Sequence number of our SYN-ACK."""
    snt_synack: int = row(0)
    """When the first SYN-ACK was sent, ns; 0: never, or a cookie."""
    snt_tsval_first: int = row(0)
    """The timestamp of the first SYN-ACK; 0: none was sent."""
    snt_tsval_last: int = row(0)
    """The timestamp of the last SYN-ACK."""
    ts_off: int = row(0)
    """Offset of the connection's timestamps from the clock, ms."""
    rcv_wscale: int = row(0)
    """Bits to shift our windows by."""
    rsk_rcv_wnd: int = row(0)
    """The window of the SYN-ACK, bytes."""
    rsk_window_clamp: int = row(0)
    """The largest window to offer, bytes."""

    fastopen_cookie: tcp_fastopen_cookie | None = row(None)
    """The Fast Open cookie of the SYN-ACK, while the first one is built."""
    tfo_listener: bool = row(False)
    """A Fast Open child exists, which resends the SYN-ACK itself."""

    # waiting for the third segment
    acked: bool = row(False)
    """The third segment was received, but there was no room or no data (TCP_DEFER_ACCEPT)."""
    num_retrans: int = row(0)
    """Number of resent SYN-ACKs."""
    num_timeout: int = row(0)
    """How often rsk_timer has expired."""
    timeout: int = row(tcp_const.TCP_TIMEOUT_INIT)
    """The first wait for the third segment, ns; it doubles each time."""
    rsk_timer: timer_list = row()
    """Timer that resends the SYN-ACK and ends the request."""
    last_oow_ack_time: int = row(0)
    """When an ACK for a segment outside the window was last sent, ns."""


# --- states -------------------------------------------------------------------------------


def inet_sk_set_state(sk: inet_connection_sock, state: int) -> None:
    """net/ipv4/af_inet.c: the only writer of a connection's state.

    Raises ValueError when the table of tcp_states.py has no event from the old state to `state`.
    """
    tcp_check_transition(sk.sk_state, state)
    sk.sk_state = state


# --- ports --------------------------------------------------------------------------------


def inet_sk_bound_l3mdev(sk: Any) -> int:
    """include/net/inet_sock.h: the VRF of a socket's port; 0: none.

    With sysctl tcp_l3mdev_accept all VRFs share one port space.
    """
    if sk.net.sysctl.tcp_l3mdev_accept:
        return 0
    return l3mdev_master_ifindex_by_index(sk.net, sk.sk_bound_dev_if)


def inet_request_bound_dev_if(sk: inet_connection_sock, skb: sk_buff) -> int:
    """include/net/inet_sock.h: the device that the child of a listener is bound to, or 0."""
    if sk.sk_bound_dev_if or not sk.net.sysctl.tcp_l3mdev_accept:
        return sk.sk_bound_dev_if
    return l3mdev_master_ifindex_by_index(sk.net, skb.skb_iif)


def inet_request_mark(sk: inet_connection_sock, skb: sk_buff) -> int:
    """include/net/inet_sock.h: the mark of a request: the listener's, or the SYN's."""
    if not sk.sk_mark and sk.net.sysctl.tcp_fwmark_accept:
        mark: int = skb.mark
        return mark
    return sk.sk_mark


def inet_csk_bind_conflict(
    sk: inet_connection_sock, tb: inet_bind_bucket, relax: bool, reuseport_ok: bool
) -> bool:
    """True when another owner of the port forbids this bind (SO_REUSEADDR, SO_REUSEPORT rules)."""
    reuse = sk.sk_reuse
    reuseport = sk.sk_reuseport and reuseport_ok
    for sk2 in tb.owners():
        if sk2 is sk:
            continue
        d1, d2 = sk.sk_bound_dev_if, sk2.sk_bound_dev_if
        if d1 != d2 and ((d1 and d2) or inet_sk_bound_l3mdev(sk) != inet_sk_bound_l3mdev(sk2)):
            continue
        if not inet_rcv_saddr_equal(sk, sk2):
            continue
        if reuse and sk2.sk_reuse and sk2.sk_state != tcp_states.TCP_LISTEN:
            if relax and (reuseport_ok or not (sk.sk_reuseport and sk2.sk_reuseport)):
                continue
            # A port that is chosen for the caller is shared by sysctl ip_autobind_reuse alone.
            return True
        if reuseport and sk2.sk_reuseport:
            continue
        return True
    return False


def inet_csk_find_open_port(sk: inet_connection_sock) -> tuple[int, inet_bind_bucket | None]:
    """A free ephemeral port for bind(0): odd offsets first, connect() takes the even ones."""
    net = sk.net
    bhash = net.tcp_hashinfo.bhash
    low, high = inet_sk_get_local_port_range(sk)
    reserved = net.sysctl.ip_local_reserved_ports
    remaining = high + 1 - low
    offset = net.random.randrange(remaining) | 1
    for relaxed in range(2 if net.sysctl.ip_autobind_reuse else 1):
        for parity in (0, 1):
            for step in range(0, remaining, 2):
                port = low + (offset + parity + step) % remaining
                if port in reserved:
                    continue
                tb = bhash.get(port)
                if tb is None:
                    return port, None
                if not inet_csk_bind_conflict(sk, tb, relaxed == 1, False):
                    return port, tb
    return 0, None


def sk_reuseport_match(tb: inet_bind_bucket, sk: inet_connection_sock) -> bool:
    """Whether SO_REUSEPORT of the port's owners is known to allow this bind, too."""
    if tb.fastreuseport <= 0 or not sk.sk_reuseport:
        return False
    if tb.fastreuseport == FASTREUSEPORT_ANY:
        return True
    # If there is one owner, its address is known not to conflict.
    saddr = tb.fast_rcv_saddr
    if tb.fast_family == sk.sk_af.family:
        return not saddr or saddr == sk.inet_rcv_saddr
    return not saddr and not (tb.fast_ipv6_only or sk.sk_ipv6only)


def inet_csk_update_fastreuse(tb: inet_bind_bucket, sk: inet_connection_sock, reuse: bool) -> None:
    """Update what the owners of a port allow, before `sk` becomes one."""
    free = tb.is_free()
    if free or not reuse:
        tb.fastreuse = int(reuse)
    if not sk.sk_reuseport:
        tb.fastreuseport = 0
    elif free or not sk_reuseport_match(tb, sk):
        tb.fastreuseport = FASTREUSEPORT_ANY if free else FASTREUSEPORT_STRICT
        tb.fast_family = sk.sk_af.family
        tb.fast_rcv_saddr = sk.inet_rcv_saddr
        tb.fast_ipv6_only = bool(sk.sk_ipv6only)


def inet_csk_get_port(sk: inet_connection_sock, snum: int) -> int:
    """proto.get_port: bind to `snum` (0 = choose). 0, or 1 when the port is not available."""
    bhash = sk.net.tcp_hashinfo.bhash
    reuse = bool(sk.sk_reuse == SK_CAN_REUSE and sk.sk_state != tcp_states.TCP_LISTEN)
    if snum:
        tb = bhash.get(snum)
        if (
            tb is not None
            and not tb.is_free()
            and not (tb.fastreuse > 0 and reuse)
            and not sk_reuseport_match(tb, sk)
            and inet_csk_bind_conflict(sk, tb, True, True)
        ):
            return 1
        port = snum
    else:
        port, tb = inet_csk_find_open_port(sk)
        if not port:
            return 1
    if tb is None:
        tb = bhash[port] = inet_bind_bucket(port)
    inet_csk_update_fastreuse(tb, sk, reuse)
    if sk.icsk_bind_hash is None:
        inet_bind_hash(sk, tb, port)
    return 0


# --- timers -------------------------------------------------------------------------------


def inet_csk_init_xmit_timers(sk: inet_connection_sock, handlers: icsk_timer_handlers) -> None:
    """Make the retransmission timer; the others are made when they are first armed."""
    sk.icsk_retransmit_timer = timer_list(sk.net.machine, handlers.retransmit, 0, sk)
    sk.icsk_handlers = handlers


def inet_csk_clear_xmit_timers(sk: inet_connection_sock) -> None:
    """Disarm all timers of the socket."""
    sk.icsk_pending = 0
    sk.icsk_ack_pending = 0
    timer_delete(sk.icsk_retransmit_timer)
    if sk.icsk_delack_timer is not None:
        timer_delete(sk.icsk_delack_timer)
    inet_csk_delete_keepalive_timer(sk)


def inet_csk_shutdown_timers(sk: inet_connection_sock) -> None:
    """Shut the timers of a destroyed socket down: they cannot be armed, and do not refer to it."""
    timer_shutdown(sk.icsk_retransmit_timer)
    if sk.icsk_delack_timer is not None:
        timer_shutdown(sk.icsk_delack_timer)
    if sk.sk_timer is not None:
        timer_shutdown(sk.sk_timer)
    sk.icsk_handlers = None


def inet_csk_clear_xmit_timer(sk: inet_connection_sock, what: int) -> None:
    """Disarm the timer `what`: the delayed ACK timer or the retransmission timer."""
    if what == ICSK_TIME_DACK:
        sk.icsk_ack_pending = 0
        sk.icsk_ack_retry = 0
        if sk.icsk_delack_timer is not None and sk.icsk_delack_timer.pending:
            timer_delete(sk.icsk_delack_timer)
    else:
        sk.icsk_pending = 0
        if sk.icsk_retransmit_timer.pending:
            timer_delete(sk.icsk_retransmit_timer)


def inet_csk_reset_xmit_timer(
    sk: inet_connection_sock, what: int, when: int, max_when: int
) -> None:
    """Arm the timer `what` to expire `when` ns from now."""
    if when > max_when:
        when = max_when
    now: int = sk.net.clock.now_ns()
    expires: int = now + when
    if what == ICSK_TIME_DACK:
        sk.icsk_ack_pending |= ICSK_ACK_TIMER
        sk.icsk_ack_timeout = expires
        if sk.icsk_delack_timer is None:
            inet_csk_make_delack_timer(sk)
        mod_timer(sk.icsk_delack_timer, expires)
    else:
        sk.icsk_pending = what
        sk.icsk_timeout = expires
        mod_timer(sk.icsk_retransmit_timer, expires)


def inet_csk_delack_armed(sk: inet_connection_sock) -> bool:
    """Whether the timer of delayed acknowledgements is pending."""
    return sk.icsk_delack_timer is not None and sk.icsk_delack_timer.pending


def inet_csk_make_delack_timer(sk: inet_connection_sock) -> None:
    """Create the delayed ACK timer. That of a destroyed socket calls nothing."""
    handlers = sk.icsk_handlers
    if handlers is None:
        sk.icsk_delack_timer = timer_list(sk.net.machine)
    else:
        sk.icsk_delack_timer = timer_list(sk.net.machine, handlers.delack, 0, sk)


def inet_csk_reset_keepalive_timer(sk: inet_connection_sock, timeout: int) -> None:
    """Arm the keepalive timer to expire `timeout` ns from now."""
    timer = sk.sk_timer
    if timer is None:
        handlers = sk.icsk_handlers
        if handlers is None:
            return
        timer = sk.sk_timer = timer_list(sk.net.machine, handlers.keepalive, 0, sk)
    mod_timer(timer, sk.net.clock.now_ns() + timeout)


def inet_csk_delete_keepalive_timer(sk: inet_connection_sock) -> None:
    """Disarm the keepalive timer."""
    if sk.sk_timer is not None:
        timer_delete(sk.sk_timer)


def inet_csk_schedule_ack(sk: inet_connection_sock) -> None:
    sk.icsk_ack_pending |= ICSK_ACK_SCHED


def inet_csk_ack_scheduled(sk: inet_connection_sock) -> int:
    return sk.icsk_ack_pending & ICSK_ACK_SCHED


def inet_csk_delack_init(sk: inet_connection_sock) -> None:
    sk.icsk_ack_pending = 0
    sk.icsk_ack_quick = 0
    sk.icsk_ack_pingpong = 0
    sk.icsk_ack_retry = 0
    sk.icsk_ack_ato = 0
    sk.icsk_ack_timeout = 0
    sk.icsk_ack_lrcvtime = 0
    sk.icsk_ack_last_seg_size = 0
    sk.icsk_ack_rcv_mss = 0


def inet_csk_enter_pingpong_mode(sk: inet_connection_sock) -> None:
    sk.icsk_ack_pingpong = sk.net.sysctl.tcp_pingpong_thresh


def inet_csk_exit_pingpong_mode(sk: inet_connection_sock) -> None:
    sk.icsk_ack_pingpong = 0


def inet_csk_in_pingpong_mode(sk: inet_connection_sock) -> bool:
    """The connection is interactive: ACKs are sent with the replies."""
    thresh: int = sk.net.sysctl.tcp_pingpong_thresh
    return sk.icsk_ack_pingpong >= thresh


def inet_csk_inc_pingpong_cnt(sk: inet_connection_sock) -> None:
    if sk.icsk_ack_pingpong < 255:
        sk.icsk_ack_pingpong += 1


# --- requests -----------------------------------------------------------------------------


TCP_FASTOPEN_RST_NS = 60_000_000_000
"""How long a Fast Open child counts after a RST."""


def inet_reqsk_alloc(ops: tcp_family_ops, sk_listener: tcp_sock) -> request_sock:
    """net/ipv4/tcp_input.c: a request of a listener, in no table yet."""
    net = sk_listener.net
    req = request_sock(net)
    req.rsk_ops = ops
    req.rsk_listener = sk_listener
    req.sk_af = af_ops_of[ops.family]
    req.sk_family = ops.family
    req.sk_bound_dev_if = sk_listener.sk_bound_dev_if
    req.sk_mark = sk_listener.sk_mark
    req.rsk_timer = timer_list(net.machine, reqsk_timer_handler, 0, req)
    return req


def reqsk_fastopen_remove(sk: tcp_sock, req: request_sock, reset: bool) -> None:
    """net/core/request_sock.c: a Fast Open child's handshake ended, with a RST if `reset`.

    After a RST an accepted child counts for a minute more (tcp_fastopen_queue_check).
    """
    lsk = req.rsk_listener
    queue = lsk.fastopenq
    sk.fastopen_rsk = None
    req.tfo_listener = False
    assert queue is not None, "a listener with such children has one"
    if req.sk is not None or not reset or lsk.sk_state != tcp_states.TCP_LISTEN:
        queue.qlen = max(queue.qlen - 1, 0)
    else:
        queue.rst.append(req.net.clock.now_ns() + TCP_FASTOPEN_RST_NS)


def reqsk_queue_empty(queue: request_sock_queue) -> bool:
    return not queue.rskq_accept_head


def reqsk_queue_remove(queue: request_sock_queue, parent: inet_connection_sock) -> request_sock:
    """Oldest finished request; its child is `.sk`."""
    req = queue.rskq_accept_head.popleft()
    parent.sk_ack_backlog -= 1
    return req


def sk_acceptq_is_full(sk: inet_connection_sock) -> bool:
    """Whether more children wait for accept() than listen() allowed."""
    return sk.sk_ack_backlog > sk.sk_max_ack_backlog


def inet_csk_reqsk_queue_len(sk: inet_connection_sock) -> int:
    """Number of half-open connections of a listener."""
    return len(sk.icsk_accept_queue.pending)


def inet_csk_reqsk_queue_is_full(sk: inet_connection_sock) -> bool:
    """Whether there are too many half-open connections (then SYN cookies are used)."""
    return inet_csk_reqsk_queue_len(sk) > sk.sk_max_ack_backlog


def inet_csk_reqsk_queue_hash_add(
    sk: inet_connection_sock, req: request_sock, timeout: int
) -> bool:
    """Enter a request of listener sk into ehash and arm its SYN-ACK timer.

    False when the 4-tuple is taken.
    """
    hashinfo = req.net.tcp_hashinfo
    key = inet_sk_key(req)
    bound = req.sk_bound_dev_if
    if inet_ehash_match(hashinfo, key, bound, bound) is not None:
        return False
    inet_ehash_add(hashinfo, key, req)
    req.inet_tuple = key
    mod_timer(req.rsk_timer, req.net.clock.now_ns() + timeout)
    sk.icsk_accept_queue.pending.add(req)
    sk.icsk_accept_queue.young += 1
    return True


def inet_csk_reqsk_queue_drop(sk: inet_connection_sock, req: request_sock) -> None:
    """Discard a request: from ehash and the listener, with its timer."""
    inet_ehash_remove(req.net.tcp_hashinfo, req.inet_tuple, req)
    timer_shutdown(req.rsk_timer)
    queue = sk.icsk_accept_queue
    if queue is not None and req in queue.pending:
        queue.pending.remove(req)
        if not req.num_timeout:
            queue.young -= 1


def syn_ack_recalc(
    req: request_sock, max_syn_ack_retries: int, rskq_defer_accept: int
) -> tuple[bool, bool]:
    """(expire, resend) for the SYN-ACK timer.

    With TCP_DEFER_ACCEPT a request that was ACKed waits for data, and resends only near the end.
    """
    if not rskq_defer_accept:
        return req.num_timeout >= max_syn_ack_retries, True
    expire = req.num_timeout >= max_syn_ack_retries and (
        not req.acked or req.num_timeout >= rskq_defer_accept
    )
    resend = not req.acked or req.num_timeout >= rskq_defer_accept - 1
    return expire, resend


def inet_rtx_syn_ack(parent: tcp_sock, req: request_sock) -> int:
    """Resend the SYN-ACK, with tcp_rtx_synack's counters; 0 or an error.

    `parent`: the listener, or the Fast Open child, whose retransmissions it counts among.
    """
    err = req.rsk_ops.send_synack(parent, None, req, None)
    if not err:
        parent.net.mib.tcp.RetransSegs += 1
        parent.net.mib.linux.TCPSynRetrans += 1
        if parent.sk_state == tcp_states.TCP_SYN_RECV:
            parent.total_retrans += 1
        req.num_retrans += 1
    return err


def tcp_reqsk_timeout(req: request_sock) -> int:
    """include/net/tcp.h: ns until the SYN-ACK is resent, at most the listener's limit."""
    timeout = req.timeout << (req.num_timeout & 31)
    longest: int = req.rsk_listener.icsk_rto_max
    return timeout if timeout < longest else longest


def reqsk_timer_handler(timer: timer_list) -> None:
    """SYN-ACK timer: resend with doubled timeout, or drop the request."""
    req: request_sock = timer.data
    sk = req.rsk_listener
    net = req.net
    if sk.sk_state != tcp_states.TCP_LISTEN:
        inet_csk_reqsk_queue_drop(sk, req)
        return
    max_syn_ack_retries = sk.icsk_syn_retries or net.sysctl.tcp_synack_retries
    queue = sk.icsk_accept_queue
    # More than half full: old requests expire sooner, so that young ones find room.
    qlen = inet_csk_reqsk_queue_len(sk)
    if qlen << 1 > max(8, sk.sk_max_ack_backlog):
        young = queue.young << 1
        while max_syn_ack_retries > 2 and qlen >= young:
            max_syn_ack_retries -= 1
            young <<= 1
    net.mib.linux.TCPTimeouts += 1
    expire, resend = syn_ack_recalc(req, max_syn_ack_retries, sk.defer_accept)
    if not expire and (not resend or not inet_rtx_syn_ack(sk, req) or req.acked):
        if req.num_timeout == 0:
            queue.young -= 1
        req.num_timeout += 1
        mod_timer(req.rsk_timer, net.clock.now_ns() + tcp_reqsk_timeout(req))
        return
    inet_csk_reqsk_queue_drop(sk, req)


# --- listen, accept -----------------------------------------------------------------------


def inet_csk_listen_start(sk: tcp_sock) -> None:
    """Enter LISTEN. Raises: OSError EADDRINUSE when the port cannot be listened on."""
    sk.icsk_accept_queue = request_sock_queue()
    if sk.fastopenq is not None:
        sk.fastopenq.rst.clear()
        sk.fastopenq.qlen = 0
    sk.sk_ack_backlog = 0
    inet_csk_delack_init(sk)
    inet_sk_set_state(sk, tcp_states.TCP_LISTEN)
    if sk.sk_prot.get_port(sk, sk.inet_num):
        inet_sk_set_state(sk, tcp_states.TCP_CLOSE)
        raise os_error(errno.EADDRINUSE)
    sk.inet_sport = sk.inet_num
    sk_dst_reset(sk)
    sk.sk_prot.hash(sk)


def inet_csk_wait_for_connect(sk: inet_connection_sock, timeo: int) -> None:
    """Sleep until a child waits. Raises: OSError EAGAIN (none in time), EINVAL (it was closed)."""
    queue = sk.icsk_accept_queue
    sk_wait_event(sk, timeo, inet_csk_connection_came, queue)
    if not queue.rskq_accept_head:
        raise os_error(errno.EAGAIN if sk.sk_state == tcp_states.TCP_LISTEN else errno.EINVAL)


def inet_csk_connection_came(sk: inet_connection_sock, queue: request_sock_queue) -> bool:
    """Whether `inet_csk_wait_for_connect` may return: a child waits, or sk no longer listens."""
    return bool(queue.rskq_accept_head) or sk.sk_state != tcp_states.TCP_LISTEN


def inet_csk_accept(sk: inet_connection_sock, flags: int = 0) -> inet_connection_sock:
    """proto.accept (old name: tcp_accept): the next child, waiting for it unless O_NONBLOCK.

    Raises: OSError EINVAL when not listening, EAGAIN when none is there in time.
    """
    lock_sock(sk)
    try:
        if sk.sk_state != tcp_states.TCP_LISTEN:
            raise os_error(errno.EINVAL)
        queue = sk.icsk_accept_queue
        if reqsk_queue_empty(queue):
            timeo = sock_rcvtimeo(sk, flags & O_NONBLOCK)
            if not timeo:
                raise os_error(errno.EAGAIN, "no connection waits")
            inet_csk_wait_for_connect(sk, timeo)
        req = reqsk_queue_remove(queue, sk)
        newsk = req.sk
        assert newsk is not None, "inet_csk_reqsk_queue_add put it there"
        req.sk = None
        return newsk
    finally:
        release_sock(sk)


def inet_csk_reqsk_queue_add(
    sk: inet_connection_sock, req: request_sock, child: tcp_sock
) -> tcp_sock | None:
    """Queue a finished child for accept(); None when the listener was closed."""
    if sk.sk_state != tcp_states.TCP_LISTEN:
        inet_child_forget(child)
        return None
    req.sk = child
    sk.icsk_accept_queue.rskq_accept_head.append(req)
    sk.sk_ack_backlog += 1
    return child


def inet_csk_complete_hashdance(
    sk: inet_connection_sock, child: tcp_sock, req: request_sock
) -> tcp_sock | None:
    """The third ACK came: the request ends, and its child goes to the accept queue.

    The kernel's `own_req` is always true: one context at a time creates a child.
    """
    inet_csk_reqsk_queue_drop(sk, req)
    return inet_csk_reqsk_queue_add(sk, req, child)


def inet_child_forget(child: inet_connection_sock) -> None:
    """Reset a child that will not be accepted."""
    child.sk_prot.disconnect(child, O_NONBLOCK)
    sock_orphan(child)
    child.sk_mem.orphan_count += 1
    inet_csk_destroy_sock(child)


def inet_csk_listen_stop(sk: inet_connection_sock) -> None:
    """The listener closes (old: tcp_close_pending): drop requests, reset waiting children."""
    queue = sk.icsk_accept_queue
    if queue is None:
        return
    for req in list(queue.pending):
        inet_csk_reqsk_queue_drop(sk, req)
    while not reqsk_queue_empty(queue):
        req = reqsk_queue_remove(queue, sk)
        child = req.sk
        assert child is not None, "inet_csk_reqsk_queue_add put it there"
        req.sk = None
        child.fastopen_rsk = None
        bh_lock_sock(child)
        inet_child_forget(child)
        bh_unlock_sock(child)


def inet_csk_clone_lock(sk: tcp_sock, req: request_sock, priority: int = 0) -> tcp_sock:
    """A child of the listener: cloned, in SYN_RECV, with the request's addresses."""
    newsk: tcp_sock = sk_clone_lock(sk, priority)
    newsk.sk_lock_owned = False  # the kernel holds the spinlock only
    newsk.sk_state = tcp_states.TCP_SYN_RECV  # its first state, so no transition is checked
    newsk.inet_daddr = req.inet_daddr
    newsk.inet_rcv_saddr = req.inet_rcv_saddr
    newsk.inet_saddr = req.inet_rcv_saddr
    newsk.inet_dport = req.inet_dport
    newsk.inet_num = req.inet_num
    newsk.inet_sport = req.inet_num
    newsk.sk_mark = req.sk_mark
    newsk.sk_af = req.sk_af  # an IPv6 listener may have received an IPv4 SYN
    security_inet_csk_clone(newsk, req)
    return newsk


def inet_csk_prepare_forced_close(sk: inet_connection_sock) -> None:
    """Prepare a child that could not be set up for tcp_done, by which the caller frees it."""
    sk.sk_lock_owned = False
    sk.sk_flags |= SOCK_DEAD
    sk.sk_mem.orphan_count += 1
    sk.inet_num = 0


def inet_csk_destroy_sock(sk: inet_connection_sock) -> None:
    """The last step of a dead socket in CLOSE (old: destroy_sock)."""
    if sk.sk_freed:
        return
    sk.sk_prot.destroy(sk)
    sk_stream_kill_queues(sk)
    sk.sk_mem.orphan_count -= 1
    sk_free(sk)


# --- routing ------------------------------------------------------------------------------


def inet_csk_update_pmtu(sk: tcp_sock, mtu: int) -> dst_entry | None:
    """Tell the route its new path MTU; returns the dst to use from now on, or None.

    For IPv6 the kernel calls it inet6_csk_update_pmtu.
    """
    rebuild_header = sk.icsk_af_ops.rebuild_header
    if rebuild_header(sk):
        return None
    dst = sk.sk_dst_cache
    if dst is not None and dst.ops is not None and dst.ops.update_pmtu is not None:
        dst.ops.update_pmtu(dst, sk, None, mtu)
    return None if rebuild_header(sk) else sk.sk_dst_cache
