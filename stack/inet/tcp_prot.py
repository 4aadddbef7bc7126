"""struct proto of TCP: both families share all functions except those that call IP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stack.core.proto import proto
from stack.inet.inet_connection_sock import inet_csk_accept, inet_csk_get_port
from stack.inet.inet_hashtables import inet_hash, inet_unhash
from stack.inet.tcp import (
    tcp_enter_memory_pressure,
    tcp_ioctl,
    tcp_leave_memory_pressure,
    tcp_v4_destroy_sock,
)
from stack.inet.tcp_close import tcp_abort, tcp_close, tcp_shutdown
from stack.inet.tcp_recvmsg import tcp_recvmsg
from stack.inet.tcp_sendmsg import tcp_sendmsg, tcp_stream_memory_free
from stack.inet.tcp_sock import tcp_sock
from stack.inet.tcp_sockopt import tcp_get_timestamping_opt_stats, tcp_getsockopt, tcp_setsockopt
from stack.inet.tcp_timer import tcp_release_cb, tcp_set_keepalive
from stack.inet.tcp_timewait import tcp_timewait_sock_ops


def tcp_proto(
    name: str,
    connect: Callable[..., int],
    disconnect: Callable[[Any, int], int],
    init: Callable[[Any], int],
    backlog_rcv: Callable[..., int],
) -> proto:
    """`tcp_prot` (name "TCP") or `tcpv6_prot`; their memory is counted together."""
    return proto(
        name=name,
        close=tcp_close,
        connect=connect,
        disconnect=disconnect,
        accept=inet_csk_accept,
        ioctl=tcp_ioctl,
        init=init,
        destroy=tcp_v4_destroy_sock,
        shutdown=tcp_shutdown,
        setsockopt=tcp_setsockopt,
        getsockopt=tcp_getsockopt,
        keepalive=tcp_set_keepalive,
        sendmsg=tcp_sendmsg,
        recvmsg=tcp_recvmsg,
        backlog_rcv=backlog_rcv,
        opt_stats=tcp_get_timestamping_opt_stats,
        release_cb=tcp_release_cb,
        hash=inet_hash,
        unhash=inet_unhash,
        get_port=inet_csk_get_port,
        stream_memory_free=tcp_stream_memory_free,
        diag_destroy=tcp_abort,
        no_autobind=True,
        sock_class=tcp_sock,
        twsk_prot=tcp_timewait_sock_ops,
        enter_memory_pressure=tcp_enter_memory_pressure,
        leave_memory_pressure=tcp_leave_memory_pressure,
        sysctl_rmem="tcp_rmem",
        sysctl_wmem="tcp_wmem",
        memory="TCP",
    )
