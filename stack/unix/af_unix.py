"""The AF_UNIX family: its sockets and their calls (net/unix/af_unix.c).

    sock_create => unix_create -> unix_create1      a unix_sock, with the vector of its type
    sys_bind => unix_bind           a path, an abstract name, or one that is chosen (unix_names.py)
    sys_listen => unix_listen
    sys_connect => unix_stream_connect              does not wait for accept:
        unix_find_other             the listener by its name
        unix_wait_for_peer          its backlog is full
        unix_create1                the accepted side, `newsk`, whose peer is the caller
        other.sk_receive_queue      gets an empty skb that carries newsk
    sys_accept => unix_accept       takes that skb
    sys_close => unix_release -> unix_release_sock  notifies the peer, frees queued data

unix_stream.py, unix_dgram.py send and receive; unix_poll.py waits. State: `unix_sock.peer` is the
other end, into whose `sk_receive_queue` a sender writes directly; `addr` is the name;
`net.unx` holds names and sockets. The vectors at the end name all calls. Read unix_stream_connect
first.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import Any

from fastpath.base.skbuff import alloc_skb, kfree_skb, sk_buff
from stack.core import uapi
from stack.core.bsd_socket import sock_register, socket
from stack.core.datagram import __skb_wait_for_more_packets
from stack.core.errors import os_error
from stack.core.fasync import SOCK_WAKE_WAITD
from stack.core.net_namespace import pernet_operations
from stack.core.proto import net_proto_family, proto, proto_ops, proto_register
from stack.core.rows import replace
from stack.core.security import security_unix_stream_connect
from stack.core.sock import (
    raise_sock_error,
    sk_alloc,
    sk_data_ready,
    sk_free,
    sk_state_change,
    sk_wake_async,
    sock_graft,
    sock_init_data,
    sock_no_accept,
    sock_no_listen,
    sock_no_mmap,
    sock_no_sendpage,
    sock_orphan,
)
from stack.core.sock_flags import SOCK_DEAD, SOCK_PASSCRED, SOCK_PASSRIGHTS
from stack.core.sockaddr import sockaddr, sockaddr_un
from stack.core.tcp_states import TCP_CLOSE, TCP_ESTABLISHED, TCP_LISTEN
from stack.core.uapi import POLL_HUP, POLL_IN
from stack.core.workqueue import cancel_delayed_work, work_struct
from stack.net import Net
from stack.unix.garbage import unix_gc, unix_schedule_gc, unix_update_edges
from stack.unix.unix_dgram import (
    unix_dgram_connect,
    unix_dgram_recvmsg,
    unix_dgram_sendmsg,
    unix_seqpacket_recvmsg,
    unix_seqpacket_sendmsg,
)
from stack.unix.unix_names import (
    unix_autobind,
    unix_bind_abstract,
    unix_bind_bsd,
    unix_find_other,
    unix_remove_socket,
    unix_validate_addr,
)
from stack.unix.unix_poll import (
    unix_dgram_peer_wake_disconnect,
    unix_dgram_poll,
    unix_poll,
    unix_wait_for_peer,
    unix_wake_peers,
    unix_write_space,
)
from stack.unix.unix_scm import copy_peercred, init_peercred
from stack.unix.unix_sock import netns_unix, unix_recvq_full, unix_skb_len, unix_sock
from stack.unix.unix_stream import unix_stream_recvmsg, unix_stream_sendmsg, unix_stream_splice_read

# --- life ----------------------------------------------------------------------------------


def unix_create(net: Net, sock: socket, protocol: int, kern: bool) -> None:
    """net/unix/af_unix.c. Raises: OSError EPROTONOSUPPORT, ESOCKTNOSUPPORT."""
    if protocol not in (0, uapi.PF_UNIX):
        raise os_error(errno.EPROTONOSUPPORT, f"AF_UNIX has no protocol {protocol}")
    sock.state = uapi.SS_UNCONNECTED
    if sock.type == uapi.SOCK_RAW:
        sock.type = uapi.SOCK_DGRAM  # believed to be what 4.4BSD programs mean
    if sock.type == uapi.SOCK_STREAM:
        sock.ops = unix_stream_ops
    elif sock.type == uapi.SOCK_DGRAM:
        sock.ops = unix_dgram_ops
    elif sock.type == uapi.SOCK_SEQPACKET:
        sock.ops = unix_seqpacket_ops
    else:
        raise os_error(errno.ESOCKTNOSUPPORT, f"AF_UNIX has no sockets of type {sock.type}")
    unix_create1(net, sock, kern, sock.type)


def unix_create1(net: Net, sock: socket | None, kern: bool, kind: int) -> unix_sock:
    """net/unix/af_unix.c: a sock; without `sock` one that is accepted later."""
    prot = unix_stream_proto if kind == uapi.SOCK_STREAM else unix_dgram_proto
    sk: unix_sock = sk_alloc(net, uapi.PF_UNIX, 0, prot, kern)
    sock_init_data(sock, sk)
    sk.sk_type = kind
    sk.sk_flags |= SOCK_PASSRIGHTS
    sk.sk_max_ack_backlog = net.sysctl.max_dgram_qlen
    sk.write_space = unix_write_space
    net.unx.sockets[sk.sk_cookie] = sk
    return sk


def unix_release(sock: socket) -> int:
    """net/unix/af_unix.c"""
    sk: unix_sock | None = sock.sk
    if sk is None:
        return 0
    sock.sk = None
    unix_release_sock(sk, False)
    return 0


def unix_release_sock(sk: unix_sock, embrion: bool) -> None:
    """net/unix/af_unix.c: release a sock; an `embrion` was never accepted."""
    unix_remove_socket(sk)
    sock_orphan(sk)
    sk.sk_shutdown = uapi.SHUTDOWN_MASK
    state = sk.sk_state
    sk.sk_state = TCP_CLOSE
    skpair: unix_sock | None = sk.peer
    sk.peer = None
    sk.oob_skb = None
    unix_wake_peers(sk)
    if skpair is not None:
        if sk.sk_type in (uapi.SOCK_STREAM, uapi.SOCK_SEQPACKET):
            skb: sk_buff | None = sk.sk_receive_queue.peek()
            if skb is not None and not unix_skb_len(skb):
                # Skip the mark of a byte that was read out of band, or an empty packet.
                skb = sk.sk_receive_queue.next(skb)
            skpair.sk_shutdown = uapi.SHUTDOWN_MASK
            if skb is not None or embrion:
                skpair.sk_err = errno.ECONNRESET
            sk_state_change(skpair)
            sk_wake_async(skpair, SOCK_WAKE_WAITD, POLL_HUP)
        unix_dgram_peer_wake_disconnect(sk, skpair)
    sk_state_change(sk)
    while True:
        message: sk_buff | None = sk.sk_receive_queue.dequeue()
        if message is None:
            break
        if state == TCP_LISTEN:
            embryo: unix_sock = message.sk  # type: ignore[assignment]  # who connects
            unix_release_sock(embryo, True)
        kfree_skb(message)
    sk_free(sk)
    unix_schedule_gc(sk.net, False)


# --- names and connections -----------------------------------------------------------------


def unix_bind(sock: socket, uaddr: sockaddr, addr_len: int) -> int:
    """net/unix/af_unix.c: take a name; the empty one chooses an abstract one.

    Raises: OSError EINVAL, EADDRINUSE, ENOENT, ENOTDIR, ENAMETOOLONG, ENOSPC.
    """
    sk: unix_sock = sock.sk
    if isinstance(uaddr, sockaddr_un) and not uaddr.path:
        return unix_autobind(sk)
    sunaddr: sockaddr_un = unix_validate_addr(uaddr)
    if sunaddr.path[0]:
        return unix_bind_bsd(sk, sunaddr)
    return unix_bind_abstract(sk, sunaddr)


def unix_listen(sock: socket, backlog: int) -> int:
    """net/unix/af_unix.c: listen, or change the backlog. Raises: OSError EOPNOTSUPP, EINVAL."""
    sk: unix_sock = sock.sk
    if sock.type not in (uapi.SOCK_STREAM, uapi.SOCK_SEQPACKET):
        raise os_error(errno.EOPNOTSUPP, "only streams and SOCK_SEQPACKET listen")
    if sk.addr is None:
        raise os_error(errno.EINVAL, "a listener needs a name")
    if sk.sk_state not in (TCP_CLOSE, TCP_LISTEN):
        raise os_error(errno.EINVAL, "the socket is connected")
    more = backlog > sk.sk_max_ack_backlog
    sk.sk_max_ack_backlog = backlog
    sk.sk_state = TCP_LISTEN
    init_peercred(sk)  # sockets that connect copy it
    if more:
        unix_wake_peers(sk)
    return 0


def unix_stream_connect(sock: socket, uaddr: sockaddr | None, addr_len: int, flags: int) -> int:
    """net/unix/af_unix.c: connect to a listener, without waiting for its accept.

    Raises: OSError EINVAL, ECONNREFUSED, ENOENT, EPROTOTYPE, EISCONN, EAGAIN (the backlog is full).
    """
    sk: unix_sock = sock.sk
    net = sk.net
    sunaddr: sockaddr_un = unix_validate_addr(uaddr)
    if sk.sk_flags & SOCK_PASSCRED:
        unix_autobind(sk)
    timeo_ns = 0 if flags & uapi.O_NONBLOCK else sk.sk_sndtimeo_ns
    while True:
        other: unix_sock = unix_find_other(net, sunaddr, sk.sk_type)
        if other.sk_state != TCP_LISTEN or other.sk_shutdown & uapi.RCV_SHUTDOWN:
            raise os_error(errno.ECONNREFUSED, f"{sunaddr.path!r} does not listen")
        if not unix_recvq_full(other):
            break
        if timeo_ns <= 0:
            raise os_error(errno.EAGAIN, f"the backlog of {sunaddr.path!r} is full")
        timeo_ns = unix_wait_for_peer(other, timeo_ns)
    if sk.sk_flags & SOCK_DEAD:
        raise os_error(errno.EBADF, "socket was closed")
    if sk.sk_state != TCP_CLOSE:
        if sk.sk_state == TCP_ESTABLISHED:
            raise os_error(errno.EISCONN, "the socket is connected already")
        raise os_error(errno.EINVAL, "the socket listens")
    skb = alloc_skb(net.skb_small_head, 1)
    if skb is None:
        raise os_error(errno.ENOBUFS, f"no packet buffer left on host {net.name}")
    newsk: unix_sock = unix_create1(net, None, False, sock.type)
    err = security_unix_stream_connect(sk, other, newsk)
    if err:
        kfree_skb(skb)
        raise os_error(err)
    skb.sk = newsk
    newsk.peer = sk
    newsk.sk_state = TCP_ESTABLISHED
    passed = SOCK_PASSCRED | SOCK_PASSRIGHTS
    newsk.sk_flags = newsk.sk_flags & ~passed | other.sk_flags & passed
    newsk.listener = other
    init_peercred(newsk)
    newsk.addr = other.addr
    copy_peercred(sk, other)
    sock.state = uapi.SS_CONNECTED
    sk.sk_state = TCP_ESTABLISHED
    sk.peer = newsk
    other.sk_receive_queue.queue_tail(skb)
    sk_data_ready(other)
    return 0


def unix_socketpair(socka: socket, sockb: socket) -> None:
    """net/unix/af_unix.c: join two sockets."""
    ska: unix_sock = socka.sk
    skb: unix_sock = sockb.sk
    ska.peer = skb
    skb.peer = ska
    init_peercred(ska)
    init_peercred(skb)
    ska.sk_state = TCP_ESTABLISHED
    skb.sk_state = TCP_ESTABLISHED
    socka.state = uapi.SS_CONNECTED
    sockb.state = uapi.SS_CONNECTED


def unix_accept(sock: socket, newsock: socket, flags: int, kern: bool = False) -> None:
    """net/unix/af_unix.c: the next connection. Raises: OSError EINVAL, EAGAIN."""
    sk: unix_sock = sock.sk
    if sk.sk_state != TCP_LISTEN:
        raise os_error(errno.EINVAL, "the socket does not listen")
    timeo_ns = 0 if flags & uapi.O_NONBLOCK else sk.sk_rcvtimeo_ns
    while True:
        raise_sock_error(sk)
        skb: sk_buff | None = sk.sk_receive_queue.dequeue()
        if skb is not None:
            break
        if timeo_ns <= 0:
            raise os_error(errno.EAGAIN, "nobody has connected")
        if sk.sk_shutdown & uapi.RCV_SHUTDOWN:
            raise os_error(errno.EINVAL, "the socket was shut down")
        timeo_ns = __skb_wait_for_more_packets(sk, sk.sk_receive_queue, timeo_ns)
    tsk: unix_sock = skb.sk  # type: ignore[assignment]  # who connected
    kfree_skb(skb)
    unix_wake_peers(sk)
    unix_update_edges(tsk)
    newsock.state = uapi.SS_CONNECTED
    sock_graft(tsk, newsock)


def unix_getname(sock: socket, uaddr: Any, addr_len: int, peer: int) -> sockaddr:
    """net/unix/af_unix.c: the name, or the peer's. Raises: OSError ENOTCONN."""
    sk: unix_sock | None = sock.sk
    if peer and sk is not None:
        sk = sk.peer
    if sk is None:
        raise os_error(errno.ENOTCONN, "the socket is not connected")
    return sk.addr or UNNAMED


UNNAMED = sockaddr_un(b"")


def unix_shutdown(sock: socket, mode: int) -> int:
    """net/unix/af_unix.c: shut down; a stream's or SOCK_SEQPACKET's peer is shut down in reverse.

    Raises: OSError EINVAL.
    """
    if not uapi.SHUT_RD <= mode <= uapi.SHUT_RDWR:
        raise os_error(errno.EINVAL, f"shutdown: {mode} is not 0, 1 or 2")
    mode += 1
    sk: unix_sock = sock.sk
    sk.sk_shutdown |= mode
    other: unix_sock | None = sk.peer
    sk_state_change(sk)
    unix_wake_peers(sk)
    if other is not None and sk.sk_type in (uapi.SOCK_STREAM, uapi.SOCK_SEQPACKET):
        if mode & uapi.RCV_SHUTDOWN:
            other.sk_shutdown |= uapi.SEND_SHUTDOWN
        if mode & uapi.SEND_SHUTDOWN:
            other.sk_shutdown |= uapi.RCV_SHUTDOWN
        sk_state_change(other)
        if mode == uapi.SHUTDOWN_MASK:
            sk_wake_async(other, SOCK_WAKE_WAITD, POLL_HUP)
        elif mode & uapi.SEND_SHUTDOWN:
            sk_wake_async(other, SOCK_WAKE_WAITD, POLL_IN)
    return 0


# --- ioctl ---------------------------------------------------------------------------------


def unix_inq_len(sk: unix_sock) -> int:
    """net/unix/af_unix.c: SIOCINQ, bytes to read. Raises: OSError EINVAL for a listener."""
    if sk.sk_state == TCP_LISTEN:
        raise os_error(errno.EINVAL, "a listener has nothing to read")
    if sk.sk_type == uapi.SOCK_DGRAM:
        skb: sk_buff | None = sk.sk_receive_queue.peek()
        return 0 if skb is None else skb.len
    amount = 0
    for message in sk.sk_receive_queue:
        amount += unix_skb_len(message)
    return amount


def unix_ioctl(sock: socket, cmd: int, arg: Any = None) -> int:
    """net/unix/af_unix.c: SIOCINQ, SIOCATMARK, and SIOCOUTQ: the send buffer in use.

    Raises: OSError ENOTTY, EINVAL, EOPNOTSUPP.
    """
    sk: unix_sock = sock.sk
    if cmd == uapi.SIOCOUTQ:
        return sk.sk_wmem_alloc
    if cmd == uapi.SIOCINQ:
        return unix_inq_len(sk)
    if cmd == uapi.SIOCATMARK:
        if sk.sk_type != uapi.SOCK_STREAM:
            raise os_error(errno.EOPNOTSUPP, "only streams have something out of band")
        skb: sk_buff | None = sk.sk_receive_queue.peek()
        if skb is None:
            return 0
        if skb is sk.oob_skb:
            return 1
        if unix_skb_len(skb):
            return 0
        return int(sk.oob_skb is None or sk.sk_receive_queue.next(skb) is sk.oob_skb)
    raise os_error(errno.ENOTTY, f"ioctl {cmd:#x} is not for AF_UNIX")


def unix_setsockopt(sock: socket, level: int, optname: int, optval: Any) -> None:
    """The family has no level of its own. Raises: OSError EOPNOTSUPP."""
    raise os_error(errno.EOPNOTSUPP, f"AF_UNIX has no options of level {level}")


def unix_getsockopt(sock: socket, level: int, optname: int, optlen: int) -> Any:
    """The family has no level of its own. Raises: OSError EOPNOTSUPP."""
    raise os_error(errno.EOPNOTSUPP, f"AF_UNIX has no options of level {level}")


# --- tables --------------------------------------------------------------------------------

unix_dgram_proto = proto(name="UNIX", sock_class=unix_sock)
unix_stream_proto = proto(name="UNIX-STREAM", sock_class=unix_sock)

unix_stream_ops = proto_ops(
    family=uapi.PF_UNIX,
    release=unix_release,
    bind=unix_bind,
    connect=unix_stream_connect,
    socketpair=unix_socketpair,
    accept=unix_accept,
    getname=unix_getname,
    poll=unix_poll,
    ioctl=unix_ioctl,
    listen=unix_listen,
    shutdown=unix_shutdown,
    setsockopt=unix_setsockopt,
    getsockopt=unix_getsockopt,
    sendmsg=unix_stream_sendmsg,
    recvmsg=unix_stream_recvmsg,
    mmap=sock_no_mmap,
    sendpage=sock_no_sendpage,
    splice_read=unix_stream_splice_read,
)
unix_dgram_ops = replace(
    unix_stream_ops,
    connect=unix_dgram_connect,
    accept=sock_no_accept,
    poll=unix_dgram_poll,
    listen=sock_no_listen,
    sendmsg=unix_dgram_sendmsg,
    splice_read=None,
    recvmsg=unix_dgram_recvmsg,
)
unix_seqpacket_ops = replace(
    unix_stream_ops,
    poll=unix_dgram_poll,
    sendmsg=unix_seqpacket_sendmsg,
    splice_read=None,
    recvmsg=unix_seqpacket_recvmsg,
)
unix_family_ops = net_proto_family(family=uapi.AF_UNIX, create=unix_create)


def unix_net_init(net: Net) -> None:
    """net/unix/af_unix.c: names and sockets of one namespace."""
    net.unx = unx = netns_unix()
    unx.gc_work = work_struct(net.machine, partial(unix_gc, net))
    proto_register(net, unix_dgram_proto)
    proto_register(net, unix_stream_proto)
    sock_register(net, unix_family_ops)


def unix_net_pre_exit(net: Net) -> None:
    """The namespace ends and descriptors are closed: free sockets that only messages still hold."""
    unx: netns_unix = net.unx
    cancel_delayed_work(unx.gc_work)
    unix_gc(net)


unix_net_ops = pernet_operations(init=unix_net_init, pre_exit=unix_net_pre_exit)
