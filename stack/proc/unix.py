"""/proc/net/unix and `ss -x`: the AF_UNIX sockets of a net."""

from __future__ import annotations

import os
from collections.abc import Iterator

from stack.core import uapi
from stack.core.sock import sock_i_ino
from stack.core.tcp_states import TCP_ESTABLISHED, TCP_LISTEN
from stack.net import Net
from stack.proc.text import text
from stack.unix.unix_sock import unix_skb_len, unix_sock

SO_ACCEPTCON = 1 << 16
NETID = {uapi.SOCK_STREAM: "u_str", uapi.SOCK_DGRAM: "u_dgr", uapi.SOCK_SEQPACKET: "u_seq"}


def unix_sockets(net: Net) -> Iterator[unix_sock]:
    """All AF_UNIX sockets, the oldest first; also those that wait to be accepted."""
    yield from net.unx.sockets.values()


def unix_name(sk: unix_sock) -> str:
    """The name as /proc/net/unix writes it: "@" for each NUL of an abstract one; "" without."""
    if sk.addr is None:
        return ""
    path = sk.addr.path
    return os.fsdecode(path.replace(b"\0", b"@") if path[:1] == b"\0" else path)


def unix(net: Net) -> str:
    """net/unix/af_unix.c: unix_seq_show. Addresses are 0."""
    lines = ["Num       RefCount Protocol Flags    Type St Inode Path"]
    for sk in unix_sockets(net):
        state = uapi.SS_UNCONNECTED
        if sk.sk_state == TCP_ESTABLISHED:
            state = uapi.SS_CONNECTING if sk.sk_socket is None else uapi.SS_CONNECTED
        flags = SO_ACCEPTCON if sk.sk_state == TCP_LISTEN else 0
        refs = 2 + (sk.peer is not None)
        name = unix_name(sk)
        lines.append(
            f"{0:016x}: {refs:08X} {0:08X} {flags:08X} {sk.sk_type:04X} {state:02X} "
            f"{sock_i_ino(sk):5d}{' ' + name if name else ''}"
        )
    return text(lines)


def unix_queues(sk: unix_sock) -> tuple[int, int]:
    """(receive queue, send queue) in bytes; of a listener (waiting, backlog)."""
    if sk.sk_state == TCP_LISTEN:
        return sk.sk_receive_queue.qlen, sk.sk_max_ack_backlog
    return sum(unix_skb_len(skb) for skb in sk.sk_receive_queue), sk.sk_wmem_alloc


def unix_ends(sk: unix_sock) -> tuple[str, str]:
    """The socket and its peer as `ss -x` names them: the name, or "*", and the inode."""
    peer = sk.peer
    other = f"{unix_name(peer) or '*'} {sock_i_ino(peer)}" if peer is not None else "* 0"
    return f"{unix_name(sk) or '*'} {sock_i_ino(sk)}", other
