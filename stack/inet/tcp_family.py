"""include/net/request_sock.h, include/net/tcp.h: per-family functions of TCP for segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastpath.base.skbuff import sk_buff
from stack.core.dst import dst_entry
from stack.core.rows import state
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.net import Net

if TYPE_CHECKING:
    from stack.inet.inet_connection_sock import request_sock
    from stack.inet.tcp_reply import tcp_answer
    from stack.inet.tcp_sock import tcp_sock


@state
class tcp_family_ops:
    """struct request_sock_ops and tcp_request_sock_ops: the functions of a segment's family.

    It is not the socket's table: dual-stack listeners and segments without a socket use
    the segment's family. Nothing here raises; the skb is borrowed.
    """

    family: int

    mss_clamp: int
    """Segment size in bytes if the SYN has no MSS option."""

    msstab: tuple[int, ...]
    """The MSS values that a SYN cookie can encode, ascending."""

    csum_bad: Callable[[sk_buff], bool]
    """Whether the checksum is wrong, if the device did not verify it."""

    route_req: Callable[[tcp_sock, sk_buff, request_sock], dst_entry | None]
    """Set the request's addresses; the route to the peer, None when there is none."""

    send_synack: Callable[[tcp_sock, dst_entry | None, request_sock, sk_buff | None], int]
    """Answer a request; 0 or an error (-errno, NET_XMIT_*). Without a dst, look up the route."""

    send_response: Callable[[Net, sk_buff, tcp_answer], bool]
    """Send a segment without data to skb's sender; False when there is no route."""

    send_reset: Callable[[tcp_sock | inet_timewait_sock | None, sk_buff], None]
    """Send a RST in answer to skb, unless its destination is not a unicast address of ours."""
