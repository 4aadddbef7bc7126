"""include/net/inet_connection_sock.h: a family's operations for a connection.

There are three tables: `ipv4_specific` (stack/ipv4/tcp_ipv4.py), `ipv6_specific` and, for an
AF_INET6 socket whose peer is v4-mapped, `ipv6_mapped` (stack/ipv6/tcp_ipv6.py). Requests have
tables of their own (request_sock.py).

How a member reports an error depends on its caller. The packet path calls queue_xmit, send_check,
rebuild_header, conn_request, syn_recv_sock and mtu_reduced: they never raise, and return 0, a
NET_XMIT_* code or a negative errno (syn_recv_sock: a socket or None). System calls call setsockopt
and getsockopt: they raise OSError and return a result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastpath.base.skbuff import sk_buff
from stack.core.dst import dst_entry
from stack.core.rows import state
from stack.inet.flow import flowi

if TYPE_CHECKING:
    from stack.inet.inet_connection_sock import request_sock
    from stack.inet.tcp_sock import tcp_sock


@state
class inet_connection_sock_af_ops:
    """struct inet_connection_sock_af_ops."""

    net_header_len: int
    """Bytes of the IP header without options or extension headers."""

    queue_xmit: Callable[[tcp_sock, sk_buff, flowi | None], int]
    """Add the IP header and send; data at the TCP header. Takes ownership of skb."""

    send_check: Callable[[tcp_sock, sk_buff], None]
    """Prepare checksum offload: store the pseudo-header sum, set start and offset."""

    rebuild_header: Callable[[tcp_sock], int]
    """Make sure the socket has a valid route. 0 or -EHOSTUNREACH."""

    conn_request: Callable[[tcp_sock, sk_buff], int]
    """Process a SYN for a listener. Borrows skb. Returns 0."""

    syn_recv_sock: Callable[
        [tcp_sock, sk_buff, request_sock, dst_entry | None, request_sock | None],
        tcp_sock | None,
    ]
    """(listener, skb, req, route or None, request to replace in the hash): the child, or None."""

    setsockopt: Callable[[tcp_sock, int, int, Any], None]
    """Set an option of a level other than TCP's."""

    getsockopt: Callable[[tcp_sock, int, int, int], Any]
    """Read such an option: an int or bytes."""

    mtu_reduced: Callable[[tcp_sock], None]
    """Apply a smaller path MTU of an ICMP error (sk.mtu_info)."""
