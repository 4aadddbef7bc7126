"""Tables of functions that connect families, protocols and socket calls.

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

from fastpath.base.skbuff import sk_buff
from fastpath.net.udp_batches import mmsg_recv, mmsg_send
from stack.core.iov import msghdr
from stack.core.pipe import pipe_inode_info
from stack.core.rows import state
from stack.core.sock import sock
from stack.core.sockaddr import sockaddr
from stack.net import Net

if TYPE_CHECKING:
    from stack.core.bsd_socket import socket
    from stack.inet.inet_timewait_sock import timewait_sock_ops

UNSET: Any = None


@state
class proto:
    """struct proto: the protocol-level vector; `sk` is the protocol's own class, `sock_class`.

    bind(sk, uaddr, addr_len), connect(sk, uaddr, addr_len) and pre_connect: 0.
    sendmsg(sk, msg, size), recvmsg(sk, msg, size, flags): bytes. accept(sk, flags): the child.
    get_port(sk, number): 0, or 1 when it is taken. backlog_rcv(sk, skb) takes ownership of skb.
    """

    name: str
    """Its name in /proc/net/protocols."""
    close: Callable[..., None] = UNSET
    """(sk, timeout ns): the application closed the socket."""
    connect: Callable[..., int] = UNSET
    """(sk, uaddr, addr_len): set the peer, and begin a handshake where there is one."""
    disconnect: Callable[..., int] = UNSET
    """(sk, flags): forget the peer (connect to AF_UNSPEC)."""
    accept: Callable[..., Any] = UNSET
    """(sk, flags): the next connection, when there is one."""
    ioctl: Callable[..., int] = UNSET
    """(sk, cmd): bytes or packets in a queue."""
    init: Callable[..., int] = UNSET
    """(sk): set up a new sock."""
    destroy: Callable[..., None] = UNSET
    """(sk): free the protocol's data."""
    shutdown: Callable[..., None] = UNSET
    """(sk, how bits): end the sending side."""
    setsockopt: Callable[[Any, int, int, Any], None] = UNSET
    """(sk, level, optname, optval)."""
    getsockopt: Callable[[Any, int, int, int], Any] = UNSET
    """(sk, level, optname, optlen): an int or bytes. See get_option of sockopt_table.py."""
    keepalive: Callable[..., None] = UNSET
    """(sk, on): SO_KEEPALIVE changed."""
    sendmsg: Callable[[Any, msghdr, int], int] = UNSET
    """(sk, msg, size): bytes taken."""
    recvmsg: Callable[[Any, msghdr, int, int], int] = UNSET
    """(sk, msg, size, flags): bytes given."""
    bind: Callable[..., int] = UNSET
    """(sk, uaddr, addr_len): take an address, where inet_bind does not."""
    sendmmsg: Callable[[Any, mmsg_send, int, int], int] = UNSET
    """sendmmsg(sk, vec, start, flags), recvmmsg(sk, vec, most, flags): the number of rows of a
    fastpath.net.udp_batches vector handled in one step; 0: use sendmsg or recvmsg for the next row.
    Ours."""
    recvmmsg: Callable[[Any, mmsg_recv, int, int], int] = UNSET
    """See sendmmsg."""
    backlog_rcv: Callable[..., int] = UNSET
    """(sk, skb): process a packet that the lock held back."""
    opt_stats: Callable[[Any, sk_buff, sk_buff | None], bytes] = UNSET
    """(sk, packet, its acknowledgement): the payload of SCM_TIMESTAMPING_OPT_STATS. Ours."""
    release_cb: Callable[[Any], None] = UNSET
    """(sk): run work that timers deferred while the socket was owned."""
    hash: Callable[..., int] = UNSET
    """(sk): enter the tables that packets are looked up in."""
    unhash: Callable[..., None] = UNSET
    """(sk): leave them."""
    rehash: Callable[..., None] = UNSET
    """(sk): the bound address changed."""
    get_port: Callable[..., int] = UNSET
    """(sk, port or 0 for any): 0, or 1 when it is taken."""
    pre_connect: Callable[..., int] = UNSET
    """(sk, uaddr, addr_len): checks before connect."""
    stream_memory_free: Callable[[Any, int], bool] = UNSET
    """(sk, wake): whether a stream's unsent data allows more."""
    enter_memory_pressure: Callable[..., None] = UNSET
    """(sk): the account reached its middle limit."""
    leave_memory_pressure: Callable[..., None] = UNSET
    """(sk): it is below that again."""
    diag_destroy: Callable[..., int] = UNSET
    """(sk, errno): end it from outside."""
    sendpage: Callable[..., int] = UNSET
    """(sk, page, offset, size, flags): Linux had it until 6.4; MSG_SPLICE_PAGES since."""
    clear_sk: Callable[..., None] = UNSET
    """(sk, size): older Linux had it, for memory that is reused with its type."""
    compat_setsockopt: Callable[..., None] = UNSET
    """Linux had it until 5.8, for 32-bit programs."""
    compat_getsockopt: Callable[..., Any] = UNSET
    """See compat_setsockopt."""
    init_cgroup: Callable[..., int] = UNSET
    """Older Linux had it and the two below: memory accounts of control groups."""
    destroy_cgroup: Callable[..., None] = UNSET
    """See init_cgroup."""
    proto_cgroup: Callable[..., Any] = UNSET
    """See init_cgroup."""
    sysctl_rmem: str = ""
    """A sysctl of three numbers; the first is what each sock may always use, in bytes."""
    sysctl_wmem: str = ""
    """The same for sending."""
    twsk_prot: timewait_sock_ops | None = None
    """Functions of TIME_WAIT; only connection-oriented protocols have it."""
    memory: str = ""
    """The protocol whose memory account this one shares, by name; "" for its own."""
    no_autobind: bool = False
    """connect() and sendmsg() take a port themselves."""
    no_sockopts: tuple[int, ...] = ()
    """SOL_SOCKET options without effect on the protocol; they fail with ENOPROTOOPT. Ours."""
    sock_class: type[sock] = sock
    """What sk_alloc makes."""

    def __repr__(self) -> str:
        return f"<proto {self.name}>"


@state
class proto_ops:
    """struct proto_ops: the socket-level functions, called by sys_*."""

    family: int
    release: Callable[..., int] = UNSET
    bind: Callable[..., int] = UNSET
    connect: Callable[..., int] = UNSET
    socketpair: Callable[..., None] = UNSET
    accept: Callable[..., Any] = UNSET
    getname: Callable[..., sockaddr] = UNSET
    poll: Callable[[Any, socket, Any], int] = UNSET
    ioctl: Callable[..., Any] = UNSET
    listen: Callable[..., Any] = UNSET
    shutdown: Callable[..., int] = UNSET
    setsockopt: Callable[[socket, int, int, Any], None] = UNSET
    getsockopt: Callable[[socket, int, int, int], Any] = UNSET
    sendmsg: Callable[[socket, msghdr, int], int] = UNSET
    recvmsg: Callable[[socket, msghdr, int, int], int] = UNSET
    set_rcvlowat: Callable[..., None] = UNSET
    mmap: Callable[..., None] = UNSET
    sendpage: Callable[..., int] = UNSET
    splice_read: Callable[[socket, int | None, pipe_inode_info, int], int] = UNSET
    """Bytes from the socket into a pipe; without it splice reads by recvmsg."""
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
