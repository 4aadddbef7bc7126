"""Socket calls that both families share (net/ipv4/af_inet.c, include/net/inet_common.h).

proto_ops of both families point here. The functions do the common part and call the protocol:

    inet_create, inet6_create -> inet_create_sock, inet_start_sock => proto.init, proto.hash
    ops.bind -> inet_bind_port => proto.get_port        (the families check the address before)
    ops.listen => inet_listen -> inet_csk_listen_start
    ops.accept => inet_accept => proto.accept
    ops.connect => inet_stream_connect -> __inet_stream_connect => proto.connect
                       inet_wait_for_connect            blocks until the handshake is over
                => inet_dgram_connect -> inet_autobind
    ops.sendmsg => inet_sendmsg -> inet_send_prepare (a port) => proto.sendmsg
    ops.recvmsg => inet_recvmsg => proto.recvmsg
    ops.shutdown => inet_shutdown => proto.shutdown
    ops.release => inet_release => proto.close

State: `socket.state` (SS_*) is the BSD layer's, `sk.sk_state` the protocol's. Functions that block
return the ns left, and raise OSError. Read __inet_stream_connect first.
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core import tcp_states, uapi
from stack.core.bsd_socket import socket
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.rows import wide
from stack.core.sock import (
    SK_CAN_REUSE,
    lock_sock,
    ns_capable,
    release_sock,
    sk_alloc,
    sk_dst_reset,
    sk_free,
    sk_state_change,
    sk_wait_event,
    sock_error,
    sock_graft,
    sock_init_data,
    sock_no_sendpage,
    sock_sndtimeo,
)
from stack.core.sock_flags import SOCK_BINDPORT_LOCK, SOCK_DEAD, SOCK_LINGER
from stack.core.sockaddr import SA_FAMILY_LEN, need_sa_len, sockaddr
from stack.core.stream import sk_connect_over
from stack.core.uapi import CAP_NET_BIND_SERVICE, CAP_NET_RAW
from stack.inet.af_ops import af_ops_of
from stack.inet.inet_connection_sock import inet_csk_listen_start
from stack.inet.inet_sock import inet_sock
from stack.inet.protosw import (
    INET_PROTOSW_REUSE,
    inet_protosw,
    inet_protosw_find,
)
from stack.inet.tcp_fastopen import tcp_fastopen_listen
from stack.inet.tcp_sock import tcp_sock
from stack.net import Net

# --- life of a socket ----------------------------------------------------------------------


def inet_create_sock(
    net: Net,
    sock: socket,
    family: int,
    inetsw: list[list[inet_protosw]],
    protocol: int,
    kern: bool,
) -> Any:
    """The common part of inet_create and inet6_create: make the sock of (type, protocol).

    `inet_start_sock` must follow. Raises: OSError EINVAL, ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM.
    """
    if not 0 <= protocol < uapi.IPPROTO_MAX:
        raise os_error(errno.EINVAL, f"protocol {protocol} does not exist")
    sock.state = uapi.SS_UNCONNECTED
    answer, protocol = inet_protosw_find(inetsw, sock.type, protocol)
    if sock.type == uapi.SOCK_RAW and not kern and not ns_capable(net, CAP_NET_RAW):
        raise os_error(errno.EPERM, f"raw sockets: the user is {net.uid}, not root")
    sock.ops = answer.ops
    sk: inet_sock = sk_alloc(net, family, 0, answer.prot, kern)
    sk.sk_af = af_ops_of[family]
    if answer.flags & INET_PROTOSW_REUSE:
        sk.sk_reuse = SK_CAN_REUSE
    if sock.type == uapi.SOCK_RAW:
        sk.inet_num = protocol
        sk.hdrincl = protocol == uapi.IPPROTO_RAW
    sock_init_data(sock, sk)
    if net.sysctl.ip_no_pmtu_disc:
        sk.pmtudisc = uapi.IP_PMTUDISC_DONT
    sk.destruct = inet_sock_destruct
    sk.sk_protocol = protocol
    return sk


def inet_start_sock(sock: socket, sk: inet_sock) -> None:
    """The end of inet_create and inet6_create: hash a raw socket, prot->init. Raises: OSError."""
    if sk.inet_num:
        # A raw socket is bound to its protocol from the start.
        sk.inet_sport = sk.inet_num
        sk.sk_prot.hash(sk)
    if sk.sk_prot.init is None:
        return
    try:
        sk.sk_prot.init(sk)
    except OSError:
        if sk.sk_prot.unhash is not None:
            sk.sk_prot.unhash(sk)
        sk_free(sk)
        sock.sk = None
        sock.ops = None  # type: ignore[assignment]  # NULL
        raise


def inet_sock_destruct(sk: inet_sock) -> None:
    """net/ipv4/af_inet.c: drop what a sock that is being freed refers to."""
    sk.sk_flags |= SOCK_DEAD
    sk.inet_opt = None
    sk_dst_reset(sk)
    sk.sk_rx_dst = None


def inet_release(sock: socket) -> int:
    """net/ipv4/af_inet.c: close the socket. Its transport may remain to send queued data."""
    sk: inet_sock | None = sock.sk
    if sk is None:
        return 0
    if sock.state != uapi.SS_UNCONNECTED:
        sock.state = uapi.SS_DISCONNECTING
    for af in af_ops_of.values():
        af.mc_drop_socket(sk)
    timeout = 0
    if sk.sk_flags & SOCK_LINGER:
        timeout = sk.sk_lingertime
    wq = sk.sk_wq
    sk.sk_prot.close(sk, timeout)
    sock.sk = None
    # Threads that sleep on the socket, and pollers, must notice that it is closed.
    if wq is not None:
        for fn in tuple(wq.waiters):
            fn()
    sk.net.clock.wake()
    return 0


def inet_bind_port(sk: inet_sock, addr: wide, source: wide, snum: int) -> None:
    """The common part of __inet_bind and __inet6_bind: take address and port. sk must be owned.

    `source`: the source address of packets sent (0 when bound to a group).
    Raises: OSError EINVAL, EADDRINUSE.
    """
    if sk.sk_state != tcp_states.TCP_CLOSE or sk.inet_num:
        raise os_error(errno.EINVAL, "the socket is bound or connected")
    sk.inet_rcv_saddr = addr
    sk.inet_saddr = source
    if snum or not sk.bind_address_no_port:
        taken = True
        try:
            taken = bool(sk.sk_prot.get_port(sk, snum))
        finally:
            if taken:
                sk.inet_saddr = sk.inet_rcv_saddr = 0
        if taken:
            raise os_error(errno.EADDRINUSE, f"port {snum} is in use")
    if snum:
        sk.sk_flags |= SOCK_BINDPORT_LOCK
    sk.inet_sport = sk.inet_num
    sk.inet_daddr = 0
    sk.inet_dport = 0
    sk_dst_reset(sk)


def inet_check_port(net: Net, snum: int) -> None:
    """Ports below ip_unprivileged_port_start are root's. Raises: PermissionError EACCES."""
    start = net.sysctl.ip_unprivileged_port_start
    if snum and snum < start and not ns_capable(net, CAP_NET_BIND_SERVICE):
        raise os_error(
            errno.EACCES,
            f"port {snum}: user {net.uid} may bind from {start} on (ip_unprivileged_port_start)",
        )


def inet_autobind(sk: inet_sock) -> int:
    """net/ipv4/af_inet.c: a free port for a socket that was never bound. 0 or -EAGAIN."""
    lock_sock(sk)
    try:
        if not sk.inet_num:
            if sk.sk_prot.get_port(sk, 0):
                return -errno.EAGAIN
            sk.inet_sport = sk.inet_num
        return 0
    finally:
        release_sock(sk)


def inet_check_peer(sk: inet_sock, peer: int) -> None:
    """Check that there is a peer: connected (`peer` 1), or possibly closed again (2).

    Raises: OSError ENOTCONN.
    """
    if not sk.inet_dport or (
        peer == 1 and 1 << sk.sk_state & (tcp_states.TCPF_CLOSE | tcp_states.TCPF_SYN_SENT)
    ):
        raise os_error(errno.ENOTCONN, "the socket is not connected")


def inet_listen(sock: socket, backlog: int) -> int:
    """net/ipv4/af_inet.c: become a listener, or change its backlog. Raises: OSError."""
    sk: tcp_sock = sock.sk
    lock_sock(sk)
    try:
        if sock.state != uapi.SS_UNCONNECTED or sock.type != uapi.SOCK_STREAM:
            raise os_error(errno.EINVAL, "only an unconnected stream can listen")
        if not 1 << sk.sk_state & (tcp_states.TCPF_CLOSE | tcp_states.TCPF_LISTEN):
            raise os_error(errno.EINVAL, "the socket is connected")
        sk.sk_max_ack_backlog = backlog
        if sk.sk_state != tcp_states.TCP_LISTEN:
            tcp_fastopen_listen(sk, backlog)
            inet_csk_listen_start(sk)
        return 0
    finally:
        release_sock(sk)


def inet_accept(sock: socket, newsock: socket, flags: int, kern: bool = False) -> int:
    """net/ipv4/af_inet.c: the next connection becomes `newsock`. Raises: OSError."""
    sk1 = sock.sk
    sk2 = sk1.sk_prot.accept(sk1, flags)
    lock_sock(sk2)
    sock_graft(sk2, newsock)
    newsock.state = uapi.SS_CONNECTED
    release_sock(sk2)
    return 0


# --- connect -------------------------------------------------------------------------------


def inet_dgram_connect(sock: socket, uaddr: sockaddr | None, addr_len: int, flags: int) -> int:
    """net/ipv4/af_inet.c: fix the peer of a datagram socket, or (AF_UNSPEC) forget it.

    Raises: OSError.
    """
    sk: inet_sock = sock.sk
    if uaddr is not None:
        need_sa_len(uaddr, SA_FAMILY_LEN)
    if uaddr is None or uaddr.family == uapi.AF_UNSPEC:
        return sk.sk_prot.disconnect(sk, flags)
    if sk.sk_prot.pre_connect is not None:
        sk.sk_prot.pre_connect(sk, uaddr, addr_len)
    if not sk.inet_num and sk.sk_prot.get_port is not None and inet_autobind(sk):
        raise os_error(errno.EAGAIN, "no port is free")
    return sk.sk_prot.connect(sk, uaddr, addr_len)


def inet_stream_connect(sock: socket, uaddr: sockaddr | None, addr_len: int, flags: int) -> int:
    """net/ipv4/af_inet.c: connect a stream. Raises: OSError, BlockingIOError (EINPROGRESS)."""
    sk: inet_sock = sock.sk
    lock_sock(sk)
    try:
        return __inet_stream_connect(sock, uaddr, addr_len, flags)
    finally:
        release_sock(sk)


def __inet_stream_connect(
    sock: socket, uaddr: sockaddr | None, addr_len: int, flags: int, is_sendmsg: bool = False
) -> int:
    """net/ipv4/af_inet.c: the same with the sock owned."""
    sk: inet_sock = sock.sk
    if uaddr is not None:
        need_sa_len(uaddr, SA_FAMILY_LEN)
    if (uaddr is None and not is_sendmsg) or (uaddr is not None and uaddr.family == uapi.AF_UNSPEC):
        err = sk.sk_prot.disconnect(sk, flags)
        sock.state = uapi.SS_DISCONNECTING if err else uapi.SS_UNCONNECTED
        return err
    if sock.state == uapi.SS_CONNECTED:
        raise os_error(errno.EISCONN, "already connected")
    tp: tcp_sock | None = sk if isinstance(sk, tcp_sock) else None
    if sock.state == uapi.SS_CONNECTING:
        pending = errno.EALREADY
        if tp is not None and tp.defer_connect:
            pending = errno.EINPROGRESS if is_sendmsg else errno.EISCONN
        if sk.sk_err:
            return inet_sock_failed(sock, sk, flags)
    elif sock.state == uapi.SS_UNCONNECTED:
        if sk.sk_state != tcp_states.TCP_CLOSE:
            raise os_error(errno.EISCONN, "already connected")
        if uaddr is None:
            raise os_error(errno.EINVAL, "no address to connect to")
        if sk.sk_prot.pre_connect is not None:
            sk.sk_prot.pre_connect(sk, uaddr, addr_len)
        err = sk.sk_prot.connect(sk, uaddr, addr_len)
        if err:
            raise os_error(err)
        sock.state = uapi.SS_CONNECTING
        if tp is not None and tp.defer_connect:
            return 0
        pending = errno.EINPROGRESS
    else:
        raise os_error(errno.EINVAL, "the socket is closing")
    timeo_ns = sock_sndtimeo(sk, flags & uapi.O_NONBLOCK)
    if 1 << sk.sk_state & (tcp_states.TCPF_SYN_SENT | tcp_states.TCPF_SYN_RECV):
        if timeo_ns <= 0:
            raise os_error(pending, "the connection is being made")
        writes = tp is not None and tp.fastopen_req is not None and tp.fastopen_req.data is not None
        timeo_ns = inet_wait_for_connect(sk, timeo_ns, int(writes))
        if timeo_ns <= 0 and 1 << sk.sk_state & (
            tcp_states.TCPF_SYN_SENT | tcp_states.TCPF_SYN_RECV
        ):
            raise os_error(pending, "the connection is being made")
    # Refused, reset or timed out: the state is CLOSE again.
    if sk.sk_state == tcp_states.TCP_CLOSE:
        return inet_sock_failed(sock, sk, flags)
    sock.state = uapi.SS_CONNECTED
    return 0


def inet_sock_failed(sock: socket, sk: inet_sock, flags: int) -> int:
    """A connect failed: back to unconnected. Raises: OSError."""
    err = sock_error(sk) or -errno.ECONNABORTED
    sock.state = uapi.SS_UNCONNECTED
    if sk.sk_prot.disconnect is not None and sk.sk_prot.disconnect(sk, flags):
        sock.state = uapi.SS_DISCONNECTING
    raise os_error(err)


def inet_wait_for_connect(sk: inet_sock, timeo_ns: int, writebias: int) -> int:
    """net/ipv4/af_inet.c: sleep until the handshake is over. Returns the ns left.

    `writebias` 1: data of a Fast Open follows, so the handshake's last ACK is sent with it.
    """
    sk.sk_write_pending += writebias
    try:
        return sk_wait_event(sk, timeo_ns, sk_connect_over)
    finally:
        sk.sk_write_pending -= writebias


# --- data and options ----------------------------------------------------------------------


def inet_send_prepare(sk: inet_sock) -> None:
    """net/ipv4/af_inet.c: assign a port before the first datagram. Raises: OSError EAGAIN."""
    if not sk.inet_num and not sk.sk_prot.no_autobind and inet_autobind(sk):
        raise os_error(errno.EAGAIN, "no port is free")


def inet_sendmsg(sock: socket, msg: msghdr, size: int) -> int:
    """net/ipv4/af_inet.c. Raises: OSError."""
    sk: inet_sock = sock.sk
    if not sk.inet_num:
        inet_send_prepare(sk)
    sendmsg = sk.sk_prot.sendmsg
    return sendmsg(sk, msg, size)


def inet_recvmsg(sock: socket, msg: msghdr, size: int, flags: int) -> int:
    """net/ipv4/af_inet.c. Raises: OSError."""
    sk: inet_sock = sock.sk
    recvmsg = sk.sk_prot.recvmsg
    return recvmsg(sk, msg, size, flags)


def sock_common_setsockopt(sock: socket, level: int, optname: int, optval: Any) -> None:
    """net/core/sock.c: the protocol's options. Raises: OSError."""
    sk: inet_sock = sock.sk
    sk.sk_prot.setsockopt(sk, level, optname, optval)


def sock_common_getsockopt(sock: socket, level: int, optname: int, optlen: int) -> Any:
    """net/core/sock.c: the protocol's options. Raises: OSError."""
    sk: inet_sock = sock.sk
    return sk.sk_prot.getsockopt(sk, level, optname, optlen)


def inet_shutdown(sock: socket, how: int) -> int:
    """net/ipv4/af_inet.c: SHUT_RD, SHUT_WR or SHUT_RDWR. Raises: OSError EINVAL, ENOTCONN."""
    sk: inet_sock = sock.sk
    how += 1  # 0, 1, 2 become the bits RCV_SHUTDOWN, SEND_SHUTDOWN, both
    if how & ~uapi.SHUTDOWN_MASK or not how:
        raise os_error(errno.EINVAL, f"{how - 1} is not SHUT_RD, SHUT_WR or SHUT_RDWR")
    lock_sock(sk)
    try:
        if sock.state == uapi.SS_CONNECTING:
            connecting = tcp_states.TCPF_SYN_SENT | tcp_states.TCPF_SYN_RECV | tcp_states.TCPF_CLOSE
            sock.state = (
                uapi.SS_DISCONNECTING if 1 << sk.sk_state & connecting else uapi.SS_CONNECTED
            )
        failed = False
        if sk.sk_state == tcp_states.TCP_CLOSE:
            failed = True  # ENOTCONN, but still wake sleepers
        if sk.sk_state == tcp_states.TCP_LISTEN:
            if how & uapi.RCV_SHUTDOWN:
                err = sk.sk_prot.disconnect(sk, uapi.O_NONBLOCK)
                sock.state = uapi.SS_DISCONNECTING if err else uapi.SS_UNCONNECTED
        elif sk.sk_state == tcp_states.TCP_SYN_SENT:
            err = sk.sk_prot.disconnect(sk, uapi.O_NONBLOCK)
            sock.state = uapi.SS_DISCONNECTING if err else uapi.SS_UNCONNECTED
        else:
            sk.sk_shutdown |= how
            if sk.sk_prot.shutdown is not None:
                sk.sk_prot.shutdown(sk, how)
        sk_state_change(sk)
        if failed:
            raise os_error(errno.ENOTCONN, "the socket is not connected")
        return 0
    finally:
        release_sock(sk)


def inet_sendpage(sock: socket, page: object, offset: int, size: int, flags: int) -> int:
    """net/ipv4/af_inet.c (until 6.5). Raises: OSError EOPNOTSUPP where the protocol has none."""
    sendpage = sock.sk.sk_prot.sendpage
    return (sendpage or sock_no_sendpage)(sock, page, offset, size, flags)


def sk_ioctl(sk: inet_sock, cmd: int, arg: Any = None) -> Any:
    """net/core/sock.c: the protocol's requests. Raises: OSError ENOTTY."""
    if sk.sk_prot.ioctl is None:
        raise os_error(errno.ENOTTY, f"unknown request {cmd:#x}")
    return sk.sk_prot.ioctl(sk, cmd, arg)
