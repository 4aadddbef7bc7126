"""net/ipv4/tcp.c: tcp_set_state, tcp_done: ending a connection, for the other files."""

from __future__ import annotations

import errno
import logging

from stack.core import tcp_states
from stack.core.sock import sk_error_report, sk_state_change
from stack.core.sock_flags import SOCK_BINDPORT_LOCK, SOCK_DBG, SOCK_DEAD
from stack.core.tcp_states import STATE_NAMES
from stack.core.timer import timer_delete
from stack.core.uapi import SHUTDOWN_MASK
from stack.inet.inet_connection_sock import (
    inet_csk_clear_xmit_timers,
    inet_csk_destroy_sock,
    inet_sk_set_state,
    reqsk_fastopen_remove,
)
from stack.inet.inet_hashtables import inet_put_port
from stack.inet.tcp_output import tcp_write_queue_purge
from stack.inet.tcp_sock import tcp_sock

log = logging.getLogger(__name__)


def tcp_set_state(sk: tcp_sock, state: int) -> None:
    """Enter `state` and count it. In CLOSE, unhash the socket and release its port.

    Raises ValueError (a defect of this stack) when TRANSITIONS has no such step.
    """
    oldstate = sk.sk_state
    mib = sk.net.mib.tcp
    if state == tcp_states.TCP_ESTABLISHED:
        if oldstate != tcp_states.TCP_ESTABLISHED:
            mib.CurrEstab += 1
    elif state == tcp_states.TCP_CLOSE_WAIT:
        if oldstate == tcp_states.TCP_SYN_RECV:
            mib.CurrEstab += 1
    else:
        if state == tcp_states.TCP_CLOSE:
            if oldstate in (tcp_states.TCP_CLOSE_WAIT, tcp_states.TCP_ESTABLISHED):
                mib.EstabResets += 1
            sk.sk_prot.unhash(sk)
            if sk.icsk_bind_hash is not None and not sk.sk_flags & SOCK_BINDPORT_LOCK:
                inet_put_port(sk)
        if oldstate in (tcp_states.TCP_ESTABLISHED, tcp_states.TCP_CLOSE_WAIT):
            mib.CurrEstab -= 1
    if sk.sk_flags & SOCK_DBG:
        log.info(
            "%s: TCP port %d to port %d: %s -> %s",
            sk.net.name,
            sk.inet_num,
            sk.inet_dport,
            STATE_NAMES[oldstate],
            STATE_NAMES[state],
        )
    inet_sk_set_state(sk, state)


def tcp_clear_xmit_timers(sk: tcp_sock) -> None:
    """include/net/tcp.h: disarm all timers."""
    inet_csk_clear_xmit_timers(sk)
    if sk.pacing_timer is not None:
        timer_delete(sk.pacing_timer)
    if sk.compressed_ack_timer is not None:
        timer_delete(sk.compressed_ack_timer)


def tcp_done(sk: tcp_sock) -> None:
    """End the connection: CLOSE, no timers; an orphan is destroyed."""
    if sk.sk_state in (tcp_states.TCP_SYN_SENT, tcp_states.TCP_SYN_RECV):
        sk.net.mib.tcp.AttemptFails += 1
    tcp_set_state(sk, tcp_states.TCP_CLOSE)
    tcp_clear_xmit_timers(sk)
    if sk.fastopen_rsk is not None:
        reqsk_fastopen_remove(sk, sk.fastopen_rsk, False)
    sk.sk_shutdown = SHUTDOWN_MASK
    if not sk.sk_flags & SOCK_DEAD:
        sk_state_change(sk)
    else:
        inet_csk_destroy_sock(sk)


def tcp_write_err(sk: tcp_sock) -> None:
    """net/ipv4/tcp_timer.c: fail with the last ICMP error, else ETIMEDOUT."""
    tcp_done_with_error(sk, sk.sk_err_soft or errno.ETIMEDOUT)
    sk.net.mib.linux.TCPAbortOnTimeout += 1


def tcp_done_with_error(sk: tcp_sock, err: int) -> None:
    """net/ipv4/tcp_input.c: end with an error for the application."""
    sk.sk_err = err
    tcp_write_queue_purge(sk)
    dead = sk.sk_flags & SOCK_DEAD
    tcp_done(sk)
    if not dead:
        sk_error_report(sk)


def tcp_reset(sk: tcp_sock) -> None:
    """net/ipv4/tcp_input.c: an acceptable RST came (RFC 9293 3.10.7.4)."""
    if sk.sk_state == tcp_states.TCP_SYN_SENT:
        err = errno.ECONNREFUSED
    elif sk.sk_state == tcp_states.TCP_CLOSE_WAIT:
        err = errno.EPIPE
    elif sk.sk_state == tcp_states.TCP_CLOSE:
        return
    else:
        err = errno.ECONNRESET
    tcp_done_with_error(sk, err)
