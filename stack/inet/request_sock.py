"""include/net/request_sock.h, include/net/tcp.h: what a family does for connection requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastpath.skbuff import sk_buff
from stack.core.rows import state

if TYPE_CHECKING:
    from stack.core.dst import dst_entry
    from stack.inet.inet_connection_sock import request_sock
    from stack.inet.inet_timewait_sock import inet_timewait_sock
    from stack.inet.tcp_sock import tcp_sock
    from stack.net import Net


@state
class request_sock_ops:
    """struct request_sock_ops: how a request sends, and what frees it.

    rtx_syn_ack returns 0 or -errno; the others return nothing. All borrow the skb.
    """

    family: int
    rtx_syn_ack: Callable[[tcp_sock, request_sock], int]
    send_ack: Callable[[tcp_sock, sk_buff, request_sock], None]
    send_reset: Callable[[tcp_sock | inet_timewait_sock | None, sk_buff, int], None]
    destructor: Callable[[request_sock], None]


@state
class tcp_request_sock_ops:
    """struct tcp_request_sock_ops: what tcp_conn_request calls for the family of the SYN.

    route_req sets the request's addresses and returns the route to the peer, or None. send_synack
    returns 0 or an error (-errno, NET_XMIT_*). Nothing here raises; the skb is borrowed.
    """

    mss_clamp: int  # bytes of a segment when the SYN names none
    cookie_init_seq: Callable[[sk_buff, request_sock], int]
    route_req: Callable[[tcp_sock, sk_buff, request_sock], dst_entry | None]
    init_seq: Callable[[Net, sk_buff], int]
    init_ts_off: Callable[[Net, sk_buff], int]
    send_synack: Callable[[tcp_sock, dst_entry | None, request_sock, sk_buff | None], int]
