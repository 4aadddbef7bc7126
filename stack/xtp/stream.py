"""The socket calls of XTP's streams and transactions: `xtp_prot`.

    proto.init      xtp_init_sock           service type of the socket
    proto.connect   xtp_connect             route, key, context; a stream sends its FIRST
    proto_ops.listen, proto.accept          xtp_listen, xtp_accept: children of xtp_new_child
    proto.sendmsg   xtp_sendmsg -> xtp_sendmsg_locked -> xtp_write, xtp_xmit
    proto.recvmsg   xtp_recvmsg -> xtp_recvmsg_locked -> xtp_peek, xtp_read
    proto.shutdown  xtp_shutdown            WCLOSE after all data, RCLOSE at once
    proto.close     xtp_close -> xtp_close_assoc
    xtp_rcv => xtp_rcv_packet               a packet: xtp_input, then wake the reader

The protocol itself is a context (xtp_context, of context.py) without socket or clock: input.py and
output.py change it. After each change xtp_push (xmit.py) sends its packets, arms its timer and
copies its state to the socket. State: `sk.assoc` joins socket and context, `sk.service` is the
service, `sk.accept_queue` has a listener's children. Read xtp_connect, then xtp_sendmsg_locked.
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core import sock_flags, uapi
from stack.core.bsd_socket import socket
from stack.core.dst import dst_mtu
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.rows import narrow
from stack.core.sock import (
    lock_sock,
    raise_sock_error,
    release_sock,
    sk_data_ready,
    sk_dst_reset,
    sk_error_report,
    sk_free,
    sk_setup_caps,
    sk_sleep,
    sk_wait_event,
    sock_orphan,
    sock_rcvlowat,
    sock_rcvtimeo,
    sock_sndtimeo,
)
from stack.core.sockaddr import sockaddr
from stack.core.sockopt import sock_put_stamps
from stack.core.sockopt_table import get_option, set_option
from stack.core.stream import (
    sk_stream_error,
    sk_stream_is_writeable,
    sk_stream_memory_free,
    sk_stream_wait_connect,
    sk_stream_wait_memory,
    sk_stream_write_space,
)
from stack.core.tcp_states import TCP_CLOSE, TCP_ESTABLISHED, TCP_LISTEN, TCP_SYN_SENT
from stack.inet.af_ops import af_ops_of
from stack.inet.flow import flowi
from stack.ipv4.datagram import check_sockaddr
from stack.ipv4.ip_sockglue import ip_getsockopt, ip_setsockopt
from stack.ipv4.route import RTCF_BROADCAST, RTCF_MULTICAST, ip_route_connect
from stack.xtp import packet
from stack.xtp.context import (
    XTP_CLOSED,
    XTP_INACTIVE,
    XTP_OPENING,
    xtp_backlog,
    xtp_context,
    xtp_w_done,
)
from stack.xtp.input import xtp_input, xtp_peek, xtp_read
from stack.xtp.output import (
    xtp_abort,
    xtp_check_end,
    xtp_close_read,
    xtp_close_write,
    xtp_open,
    xtp_write,
    xtp_xmit,
)
from stack.xtp.packet import xtp_first_segment, xtp_packet, xtp_tspec
from stack.xtp.sockopt import SOL_XTP, XTP_LEVEL
from stack.xtp.xmit import xtp_mss, xtp_new_assoc, xtp_push
from stack.xtp.xtp_sock import xtp_assoc, xtp_new_key, xtp_put_port, xtp_sock

XTP_WRITE_BYTES = 65536
"""Bytes copied from the user at a time."""


# --- life --------------------------------------------------------------------------------------


def xtp_init_sock(sk: xtp_sock) -> int:
    """proto.init: service type, and defaults of the option rows."""
    sk.service = (
        packet.XTP_SERVICE_DATAGRAM if sk.sk_type == uapi.SOCK_DGRAM else packet.XTP_SERVICE_STREAM
    )
    sk.write_space = sk_stream_write_space
    return 0


def xtp_own_first(sk: xtp_sock, saddr: int, daddr: int, dport: int) -> bytes:
    """The addresses and the traffic specifier of a FIRST of sk."""
    tspec = xtp_tspec(sk.service, 0, sk.inrate, sk.inburst, sk.rate, sk.burst)
    return xtp_first_segment(saddr, sk.inet_sport, daddr, dport, tspec)


def xtp_connect(sk: xtp_sock, uaddr: sockaddr, addr_len: int = 16) -> int:
    """proto.connect: a stream opens its context; a transaction waits for its request.

    Raises: OSError ENETUNREACH, EADDRNOTAVAIL, EAFNOSUPPORT, ...
    """
    net = sk.net
    xtp_connect_route(sk, uaddr)
    saddr, daddr = narrow(sk.inet_saddr), narrow(sk.inet_daddr)
    first = xtp_own_first(sk, saddr, daddr, sk.inet_dport)
    ctx = xtp_context(xtp_new_key(net), True, first, sk.service)
    dst = sk.sk_dst_cache
    assert dst is not None
    ctx.mss = xtp_mss(dst_mtu(dst))
    sk.assoc = assoc = xtp_new_assoc(sk, ctx, saddr, daddr)
    net.xtp.mib.ActiveOpens += 1
    if sk.service == packet.XTP_SERVICE_TRANSACTION:
        sk.sk_state = TCP_ESTABLISHED
        return 0
    sk.sk_state = TCP_SYN_SENT
    xtp_open(ctx, net.clock.now_ns())
    xtp_push(assoc)
    return 0


def xtp_connect_route(sk: xtp_sock, uaddr: sockaddr) -> None:
    """Fix the peer: route, local address and port. Raises: OSError."""
    check_sockaddr(uaddr)
    fl4 = flowi(uapi.AF_INET)
    rt = ip_route_connect(
        fl4,
        uaddr.addr,
        narrow(sk.inet_saddr),
        sk.sk_bound_dev_if,
        uapi.IPPROTO_XTP,
        sk.inet_sport,
        uaddr.port,
        sk,
    )
    if rt.rt_flags & (RTCF_MULTICAST | RTCF_BROADCAST):
        raise os_error(errno.ENETUNREACH, "XTP here is for one peer: no multicast, no broadcast")
    if not sk.inet_num:
        if sk.sk_prot.get_port(sk, 0):
            raise os_error(errno.EADDRNOTAVAIL, "no port is free")
        sk.inet_sport = sk.inet_num
    sk.inet_saddr = sk.inet_saddr or fl4.saddr
    sk.inet_rcv_saddr = sk.inet_rcv_saddr or sk.inet_saddr
    sk.inet_daddr = fl4.daddr
    sk.inet_dport = uaddr.port
    sk.inet_id = sk.net.random.getrandbits(16)
    sk_setup_caps(sk, rt)


def xtp_disconnect(sk: xtp_sock, flags: int) -> int:
    """proto.disconnect: end the association at once, or stop listening; connect works again."""
    if sk.sk_state == TCP_LISTEN:
        xtp_listen_stop(sk)
    assoc = sk.assoc
    if assoc is not None:
        xtp_abort(assoc.ctx, 0, sk.net.clock.now_ns())
        xtp_push(assoc)
        sk.assoc = None
    sk.inet_dport = 0
    sk.inet_daddr = 0
    sk.sk_state = TCP_CLOSE
    sk.sk_shutdown = 0
    sk.sk_wmem_queued = 0
    sk.sk_err = 0
    sk_dst_reset(sk)
    sk_error_report(sk)
    return 0


def xtp_shutdown(sk: xtp_sock, how: int) -> None:
    """proto.shutdown: WCLOSE after all data, RCLOSE at once."""
    assoc = sk.assoc
    if assoc is None:
        return
    ctx = assoc.ctx
    now = sk.net.clock.now_ns()
    if how & uapi.SEND_SHUTDOWN and not ctx.w_closed:
        xtp_close_write(ctx)
        if ctx.state == XTP_INACTIVE:
            xtp_open(ctx, now)  # a transaction without a request
        else:
            xtp_xmit(ctx, now)
    if how & uapi.RCV_SHUTDOWN:
        xtp_close_read(ctx, now)
    xtp_check_end(ctx, now)
    xtp_push(assoc)


def xtp_close(sk: xtp_sock, timeout: int) -> None:
    """proto.close: both directions end, in order if everything was read, else at once."""
    lock_sock(sk)
    sk.sk_shutdown = uapi.SHUTDOWN_MASK
    if sk.sk_state == TCP_LISTEN:
        xtp_listen_stop(sk)
        sk.sk_state = TCP_CLOSE
    assoc = sk.assoc
    if assoc is not None and assoc.ctx.state != XTP_CLOSED:
        xtp_close_assoc(sk, assoc, timeout)
    xtp_put_port(sk)
    sock_orphan(sk)
    release_sock(sk)
    if assoc is None:
        sk_free(sk)
    else:
        xtp_push(assoc)


def xtp_close_assoc(sk: xtp_sock, assoc: xtp_assoc, timeout: int) -> None:
    """Close the association of a socket, and wait up to `timeout` ns for the peer (SO_LINGER)."""
    ctx = assoc.ctx
    now = sk.net.clock.now_ns()
    abortive = sk.sk_flags & sock_flags.SOCK_LINGER and not sk.sk_lingertime
    if ctx.state == XTP_INACTIVE or ctx.state == XTP_OPENING or ctx.queued or abortive:
        if ctx.state == XTP_INACTIVE:
            ctx.state = XTP_CLOSED
        elif ctx.state == XTP_OPENING and ctx.service == packet.XTP_SERVICE_TRANSACTION:
            xtp_close_write(ctx)  # still send the request, and ignore the answer
            xtp_close_read(ctx, now)
        else:
            xtp_abort(ctx, 0, now)
        xtp_push(assoc)
        return
    xtp_close_write(ctx)
    xtp_close_read(ctx, now)
    xtp_xmit(ctx, now)
    xtp_check_end(ctx, now)
    xtp_push(assoc)
    if timeout > 0:
        sk_wait_event(sk, timeout, xtp_written)


def xtp_written(sk: xtp_sock, seen: Any) -> bool:
    """Whether a lingering close can stop waiting: the peer has everything."""
    assoc = sk.assoc
    return assoc is None or assoc.ctx.state == XTP_CLOSED or xtp_w_done(assoc.ctx)


# --- listening ---------------------------------------------------------------------------------


def xtp_listen(sock: socket, backlog: int) -> int:
    """proto_ops.listen: become a listener, or change its backlog. Raises: OSError."""
    sk: xtp_sock = sock.sk
    lock_sock(sk)
    try:
        if sock.state != uapi.SS_UNCONNECTED or sk.sk_state not in (TCP_CLOSE, TCP_LISTEN):
            raise os_error(errno.EINVAL, "only an unconnected stream can listen")
        sk.sk_max_ack_backlog = backlog
        if sk.sk_state != TCP_LISTEN:
            if not sk.inet_num:
                if sk.sk_prot.get_port(sk, 0):
                    raise os_error(errno.EADDRINUSE, "no port is free")
                sk.inet_sport = sk.inet_num
            sk.sk_ack_backlog = 0
            sk.sk_state = TCP_LISTEN
        return 0
    finally:
        release_sock(sk)


def xtp_listen_stop(sk: xtp_sock) -> None:
    """When a listener closes, abort the associations that were not accepted."""
    while sk.accept_queue:
        child = sk.accept_queue.popleft()
        sk.sk_ack_backlog -= 1
        lock_sock(child)
        sock_orphan(child)
        assoc = child.assoc
        if assoc is not None:
            xtp_abort(assoc.ctx, 0, sk.net.clock.now_ns())
        release_sock(child)
        if assoc is not None:
            xtp_push(assoc)


def xtp_accept(sk: xtp_sock, flags: int) -> xtp_sock:
    """proto.accept: the oldest waiting association. Raises: OSError EINVAL, EAGAIN."""
    lock_sock(sk)
    try:
        timeo = sock_rcvtimeo(sk, flags & uapi.O_NONBLOCK)
        while not sk.accept_queue:
            if sk.sk_state != TCP_LISTEN:
                raise os_error(errno.EINVAL, "the socket does not listen")
            if timeo <= 0:
                raise os_error(errno.EAGAIN, "nobody connects")
            timeo = sk_wait_event(sk, timeo, xtp_accept_ready)
        child = sk.accept_queue.popleft()
        sk.sk_ack_backlog -= 1
        return child
    finally:
        release_sock(sk)


def xtp_accept_ready(sk: xtp_sock, seen: Any) -> bool:
    """Whether accept can stop waiting."""
    return bool(sk.accept_queue) or sk.sk_state != TCP_LISTEN


# --- data --------------------------------------------------------------------------------------


def xtp_sendmsg(sk: xtp_sock, msg: msghdr, size: int) -> int:
    """proto.sendmsg: queue bytes and send within the window. MSG_EOR ends a message.

    A transaction's message and direction end with the call, unless MSG_MORE is set.
    Raises: OSError EPIPE, EAGAIN, EOPNOTSUPP, the pending error.
    """
    if msg.msg_flags & uapi.MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "XTP has no urgent data")
    lock_sock(sk)
    try:
        return xtp_sendmsg_locked(sk, msg)
    finally:
        release_sock(sk)


def xtp_sendmsg_locked(sk: xtp_sock, msg: msghdr) -> int:
    """The same with the sock owned."""
    flags = msg.msg_flags
    timeo = sock_sndtimeo(sk, flags & uapi.MSG_DONTWAIT)
    if sk.sk_state != TCP_ESTABLISHED:
        try:
            timeo = sk_stream_wait_connect(sk, timeo)
        except OSError as exc:
            raise sk_stream_error(sk, flags, exc.errno or errno.EPIPE) from None
    single = sk.service == packet.XTP_SERVICE_TRANSACTION and not flags & uapi.MSG_MORE
    copied = 0
    while msg.count or (single and not sk.sk_shutdown & uapi.SEND_SHUTDOWN):
        assoc = sk.assoc
        if (
            sk.sk_err
            or sk.sk_shutdown & uapi.SEND_SHUTDOWN
            or assoc is None
            or assoc.ctx.peer_rclose
        ):
            if copied:
                return copied
            raise sk_stream_error(sk, flags, errno.EPIPE)
        if not sk_stream_memory_free(sk):
            try:
                timeo = sk_stream_wait_memory(sk, timeo)
            except OSError as exc:
                if copied:
                    return copied
                raise sk_stream_error(sk, flags, exc.errno or errno.EAGAIN) from None
            continue
        data = msg.take(min(msg.count, XTP_WRITE_BYTES))
        last = not msg.count
        xtp_write(assoc.ctx, data, last and (single or bool(flags & uapi.MSG_EOR)))
        copied += len(data)
        sk.sk_wmem_queued = xtp_backlog(assoc.ctx)
        if last and single:
            sk.sk_shutdown |= uapi.SEND_SHUTDOWN
            xtp_close_write(assoc.ctx)
        if not last or not flags & uapi.MSG_MORE:
            if assoc.ctx.state == XTP_INACTIVE:
                xtp_open(assoc.ctx, sk.net.clock.now_ns())
            else:
                xtp_xmit(assoc.ctx, sk.net.clock.now_ns())
            xtp_push(assoc)
    return copied


def xtp_recvmsg(sk: xtp_sock, msg: msghdr, size: int, flags: int) -> int:
    """proto.recvmsg: the next bytes, not beyond the end of a message (MSG_EOR is set there).

    Raises: OSError EAGAIN, ENOTCONN, EOPNOTSUPP, the pending error.
    """
    if flags & uapi.MSG_ERRQUEUE:
        return af_ops_of[sk.sk_family].recv_error(sk, msg, size)
    if flags & uapi.MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "XTP has no urgent data")
    lock_sock(sk)
    try:
        if sk.sk_state == TCP_LISTEN or (sk.assoc is None and not sk.sk_err):
            raise os_error(errno.ENOTCONN, "the socket is not connected")
        copied = xtp_recvmsg_locked(sk, msg, size, flags)
        if copied and sk.sk_flags & sock_flags.FLAGS_STAMPS:
            sock_put_stamps(msg, sk, sk.sk_stamp_ns, False)
        return copied
    finally:
        release_sock(sk)


def xtp_recvmsg_locked(sk: xtp_sock, msg: msghdr, size: int, flags: int) -> int:
    """The same with the sock owned."""
    timeo = sock_rcvtimeo(sk, flags & uapi.MSG_DONTWAIT)
    target = sock_rcvlowat(sk, flags & uapi.MSG_WAITALL, size)
    copied = 0
    while copied < size:
        assoc = sk.assoc
        if assoc is not None and assoc.ctx.pieces:
            data, eom, arrived_ns = xtp_peek(assoc.ctx, size - copied)
            try:
                msg.put(data)
            except (ValueError, BufferError, TypeError) as exc:
                raise os_error(errno.EFAULT, f"cannot write to the caller's buffer: {exc}") from exc
            copied += len(data)
            if sk.sk_flags & sock_flags.FLAGS_STAMPS:
                sk.sk_stamp_ns = sk.net.machine.realtime_ns(arrived_ns)
            if not flags & uapi.MSG_PEEK:
                assoc.ctx.rcvbuf = sk.sk_rcvbuf
                xtp_read(assoc.ctx, len(data), sk.net.clock.now_ns())
                xtp_push(assoc)
            if eom:
                msg.msg_flags |= uapi.MSG_EOR
                break
            if flags & uapi.MSG_PEEK:
                break
            continue
        if copied >= target:
            break
        if copied and (sk.sk_err or sk.sk_shutdown & uapi.RCV_SHUTDOWN or timeo <= 0):
            break
        raise_sock_error(sk)
        if sk.sk_shutdown & uapi.RCV_SHUTDOWN or sk.sk_state == TCP_CLOSE:
            break
        if timeo <= 0:
            raise os_error(errno.EAGAIN, "nothing to read")
        timeo = sk_wait_event(sk, timeo, xtp_data_came)
    return copied


def xtp_data_came(sk: xtp_sock, seen: Any) -> bool:
    """Whether a reader can stop waiting."""
    return bool(
        (sk.assoc is not None and sk.assoc.ctx.pieces)
        or sk.sk_err
        or sk.sk_shutdown & uapi.RCV_SHUTDOWN
        or sk.sk_state == TCP_CLOSE
        or sk.sk_flags & sock_flags.SOCK_DEAD
    )


def xtp_rcv_packet(assoc: xtp_assoc, pkt: xtp_packet) -> None:
    """Process a packet of an association. Call when the socket is not otherwise owned."""
    sk = assoc.sk
    ctx = assoc.ctx
    queued = ctx.queued
    retransmits = ctx.retransmits
    ctx.rcvbuf = sk.sk_rcvbuf
    xtp_input(ctx, pkt, sk.net.clock.now_ns())
    sk.net.xtp.mib.Retransmits += ctx.retransmits - retransmits
    xtp_push(assoc)
    if ctx.queued > queued and not sk.sk_flags & sock_flags.SOCK_DEAD:
        sk_data_ready(sk)


# --- options, poll -------------------------------------------------------------------------------


def xtp_poll(file: Any, sock: socket, wait: Any) -> int:
    """proto_ops.poll: POLL* of a stream. `wait`: callback to add to its queue."""
    sk: xtp_sock = sock.sk
    if wait is not None:
        sk_sleep(sk).add(wait)
    if sk.sk_state == TCP_LISTEN:
        return uapi.POLLIN | uapi.POLLRDNORM if sk.accept_queue else 0
    mask = 0
    if sk.sk_shutdown == uapi.SHUTDOWN_MASK or sk.sk_state == TCP_CLOSE:
        mask |= uapi.POLLHUP
    if sk.sk_shutdown & uapi.RCV_SHUTDOWN:
        mask |= uapi.POLLIN | uapi.POLLRDNORM | uapi.POLLRDHUP
    if sk.sk_state != TCP_SYN_SENT:
        if sk.assoc is not None and xtp_readable(sk, sk.assoc.ctx):
            mask |= uapi.POLLIN | uapi.POLLRDNORM
        if sk.sk_shutdown & uapi.SEND_SHUTDOWN or sk_stream_is_writeable(sk):
            mask |= uapi.POLLOUT | uapi.POLLWRNORM
        else:
            sk.sk_flags |= sock_flags.SOCK_NOSPACE
    if sk.sk_err or sk.sk_error_queue.qlen:
        mask |= uapi.POLLERR
        if sk.sk_flags & sock_flags.SOCK_SELECT_ERR_QUEUE:
            mask |= uapi.POLLPRI
    return mask


def xtp_readable(sk: xtp_sock, ctx: xtp_context) -> bool:
    """Whether SO_RCVLOWAT bytes (at most half the buffer) or a whole message can be read."""
    if ctx.queued >= sock_rcvlowat(sk, 0, ctx.rcvbuf >> 1):
        return bool(ctx.queued)
    return any(eom for _, eom, _ in ctx.pieces)


def xtp_ioctl(sk: xtp_sock, cmd: int, arg: Any = None) -> int:
    """proto.ioctl: SIOCINQ, SIOCOUTQ. Raises: OSError EINVAL, ENOTTY."""
    if sk.sk_state == TCP_LISTEN:
        raise os_error(errno.EINVAL, "a listener has no data")
    if cmd == uapi.SIOCINQ:
        if sk.sk_type == uapi.SOCK_DGRAM:
            return sk.datagrams[0].size if sk.datagrams else 0
        return sk.assoc.ctx.queued if sk.assoc is not None else 0
    if cmd == uapi.SIOCOUTQ:
        return sk.sk_wmem_queued
    raise os_error(errno.ENOTTY, f"unknown request {cmd:#x}")


def xtp_setsockopt(sk: xtp_sock, level: int, optname: int, optval: Any) -> None:
    """proto.setsockopt. Raises: OSError."""
    if level != SOL_XTP:
        ip_setsockopt(sk, level, optname, optval)
        return
    lock_sock(sk)
    try:
        set_option(XTP_LEVEL, sk, optname, optval)
    finally:
        release_sock(sk)


def xtp_getsockopt(sk: xtp_sock, level: int, optname: int, optlen: int) -> Any:
    """proto.getsockopt. Raises: OSError."""
    if level != SOL_XTP:
        return ip_getsockopt(sk, level, optname, optlen)
    return get_option(XTP_LEVEL, sk, optname)
