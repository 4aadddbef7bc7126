"""The vectors that join families, protocols and socket calls.

include/net/sock.h (struct proto), include/linux/net.h (struct proto_ops, struct net_proto_family),
net/core/sock.c (proto_register).

Slots that a system call reaches raise OSError and return a result, never a negative errno. The
others (`backlog_rcv`, `release_cb`, `hash`, `unhash`, `rehash`, `get_port`, `destroy`) are called
from packets and timers too and never raise. A slot that a protocol lacks is None, like a null
pointer in the kernel's tables; callers test it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stack.core.rows import state
from stack.core.sock import sock

if TYPE_CHECKING:
    from fastpath.mmsg import mmsg_recv, mmsg_send
    from stack.core.iov import msghdr
    from stack.core.sockaddr import sockaddr
    from stack.core.socket import socket
    from stack.inet.inet_timewait_sock import timewait_sock_ops
    from stack.inet.request_sock import request_sock_ops
    from stack.net import Net

UNSET: Any = None


@state
class proto:
    """struct proto: the protocol-level vector; `sk` is the protocol's own class, `sock_class`.

    bind(sk, uaddr, addr_len), connect(sk, uaddr, addr_len) and pre_connect: 0.
    sendmsg(sk, msg, size), recvmsg(sk, msg, size, flags): bytes. accept(sk, flags): the child.
    get_port(sk, number): 0, or 1 when it is taken. backlog_rcv(sk, skb) takes ownership of skb.
    """

    name: str
    close: Callable[..., None] = UNSET
    connect: Callable[..., int] = UNSET
    disconnect: Callable[..., int] = UNSET
    accept: Callable[..., Any] = UNSET
    ioctl: Callable[..., int] = UNSET
    init: Callable[..., int] = UNSET
    destroy: Callable[..., None] = UNSET
    shutdown: Callable[..., None] = UNSET
    setsockopt: Callable[..., None] = UNSET
    getsockopt: Callable[..., Any] = UNSET
    keepalive: Callable[..., None] = UNSET
    sendmsg: Callable[[Any, msghdr, int], int] = UNSET
    recvmsg: Callable[[Any, msghdr, int, int], int] = UNSET
    bind: Callable[..., int] = UNSET
    sendmmsg: Callable[[Any, mmsg_send, int, int], int] = UNSET
    """sendmmsg(sk, vec, start, flags), recvmmsg(sk, vec, most, flags): the number of rows of a
    fastpath.mmsg vector handled in one step; 0: use sendmsg or recvmsg for the next row. Ours."""
    recvmmsg: Callable[[Any, mmsg_recv, int, int], int] = UNSET
    backlog_rcv: Callable[..., int] = UNSET
    release_cb: Callable[..., None] = UNSET
    hash: Callable[..., int] = UNSET
    unhash: Callable[..., None] = UNSET
    rehash: Callable[..., None] = UNSET
    get_port: Callable[..., int] = UNSET
    pre_connect: Callable[..., int] = UNSET
    stream_memory_free: Callable[..., bool] = UNSET
    enter_memory_pressure: Callable[..., None] = UNSET
    leave_memory_pressure: Callable[..., None] = UNSET
    diag_destroy: Callable[..., int] = UNSET
    sendpage: Callable[..., int] = UNSET
    clear_sk: Callable[..., None] = UNSET
    compat_setsockopt: Callable[..., None] = UNSET
    compat_getsockopt: Callable[..., Any] = UNSET
    init_cgroup: Callable[..., int] = UNSET
    destroy_cgroup: Callable[..., None] = UNSET
    proto_cgroup: Callable[..., Any] = UNSET
    sysctl_rmem: str = ""
    """A sysctl of three numbers; the first is what each sock may always use, in bytes."""
    sysctl_wmem: str = ""
    twsk_prot: timewait_sock_ops | None = None
    """`twsk_prot` and `rsk_prot`: only connection-oriented protocols have them."""
    rsk_prot: request_sock_ops | None = None
    memory: str = ""
    """The protocol whose memory account this one shares, by name; "" for its own."""
    no_autobind: bool = False
    no_sockopts: tuple[int, ...] = ()
    """SOL_SOCKET options without effect on the protocol; they fail with ENOPROTOOPT. Ours."""
    sock_class: type[sock] = sock

    def __repr__(self) -> str:
        return f"<proto {self.name}>"


@state
class proto_ops:
    """struct proto_ops: the socket-level vector, what the sys_* calls use."""

    family: int
    release: Callable[..., int] = UNSET
    bind: Callable[..., int] = UNSET
    connect: Callable[..., int] = UNSET
    socketpair: Callable[..., None] = UNSET
    accept: Callable[..., Any] = UNSET
    getname: Callable[..., sockaddr] = UNSET
    poll: Callable[..., int] = UNSET
    ioctl: Callable[..., Any] = UNSET
    listen: Callable[..., Any] = UNSET
    shutdown: Callable[..., int] = UNSET
    setsockopt: Callable[..., None] = UNSET
    getsockopt: Callable[..., Any] = UNSET
    sendmsg: Callable[[socket, msghdr, int], int] = UNSET
    recvmsg: Callable[[socket, msghdr, int, int], int] = UNSET
    set_rcvlowat: Callable[..., None] = UNSET
    mmap: Callable[..., None] = UNSET
    sendpage: Callable[..., int] = UNSET
    splice_read: Callable[..., int] = UNSET
    compat_setsockopt: Callable[..., None] = UNSET
    compat_getsockopt: Callable[..., Any] = UNSET
    compat_ioctl: Callable[..., Any] = UNSET
    plain: proto_ops | None = None
    """The vector that stack.core.readyfd.watched_ops wrapped to make this one."""


@state
class net_proto_family:
    """struct net_proto_family: `create(net, sock, protocol, kern)` of one address family.

    It gives the socket its ops and its sock. Raises: OSError.
    """

    family: int
    create: Callable[[Net, socket, int, bool], None]


def proto_register(net: Net, prot: proto) -> None:
    """net/core/sock.c: list `prot` for /proc/net/protocols."""
    if prot not in net.proto_list:
        net.proto_list.append(prot)
