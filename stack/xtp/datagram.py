"""The socket calls of XTP's datagrams, unacknowledged and acknowledged: `xtp_dgram_prot`.

An unacknowledged datagram is a FIRST with END, without context or answer. An acknowledged one is a
context for one message. Its FIRST is repeated until the receiver acknowledges it (with XTP_DREQ:
until the application has read it), which ends the context.
"""

from __future__ import annotations

import errno
from typing import Any

from fastpath.base.skbuff import consume_skb, kfree_skb, sk_buff, skb_copy_bits, skb_get
from stack.core import uapi
from stack.core.bsd_socket import socket
from stack.core.datagram import datagram_poll_begin
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.rows import narrow
from stack.core.sock import (
    lock_sock,
    raise_sock_error,
    release_sock,
    sk_data_ready,
    sk_dst_reset,
    sk_free,
    sk_wait_event,
    sock_orphan,
    sock_rcvtimeo,
    sock_sndtimeo,
)
from stack.core.sock_flags import SOCK_DEAD
from stack.core.sockaddr import sockaddr
from stack.core.sockopt import sock_recv_cmsgs
from stack.core.tcp_states import TCP_CLOSE, TCP_ESTABLISHED
from stack.inet.af_ops import af_ops_of
from stack.ipv4.addr import ipv4_is_multicast
from stack.ipv4.datagram import check_sockaddr
from stack.ipv4.ip_sockglue import ip_cmsg_recv_offset, ipv4_pktinfo_prepare
from stack.ipv4.route import RTCF_BROADCAST, RTCF_MULTICAST
from stack.net import Net
from stack.xtp.context import XTP_CLOSED, XTP_LINGER_NS, xtp_context
from stack.xtp.output import xtp_abort, xtp_close_read, xtp_close_write, xtp_open, xtp_write
from stack.xtp.packet import (
    DREQ,
    END,
    EOM,
    NOCHECK,
    NOERR,
    NOFLOW,
    RCLOSE,
    SORT,
    WCLOSE,
    XTP_CNTL,
    XTP_FIRST,
    XTP_FIRST_BYTES,
    XTP_HLEN,
    XTP_RTN,
    XTP_SERVICE_ACKED_DATAGRAM,
    xtp_build,
    xtp_cntl_segment,
    xtp_packet,
)
from stack.xtp.stream import xtp_connect_route, xtp_own_first
from stack.xtp.xmit import xtp_alloc_skb, xtp_new_assoc, xtp_push, xtp_route, xtp_send_to
from stack.xtp.xtp_sock import (
    XTP_ANSWERED_MAX,
    xtp_acked,
    xtp_assoc,
    xtp_datagram,
    xtp_new_key,
    xtp_put_port,
    xtp_sock,
)

XTP_MAX_DATAGRAM = 65535 - 20 - XTP_HLEN - XTP_FIRST_BYTES


# --- sending -----------------------------------------------------------------------------------


def xtp_dgram_sendmsg(sk: xtp_sock, msg: msghdr, size: int) -> int:
    """proto.sendmsg. Returns `size`, for an acknowledged datagram once the peer has it.

    A non-blocking call returns at once, and a failure becomes the socket's next error.
    Raises: OSError EMSGSIZE, EDESTADDRREQ, EPIPE, ECONNREFUSED, ETIMEDOUT, EAGAIN, routing errors.
    """
    if msg.msg_flags & uapi.MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "XTP has no urgent data")
    if size > XTP_MAX_DATAGRAM:
        raise os_error(
            errno.EMSGSIZE, f"{size} bytes; a datagram of XTP has at most {XTP_MAX_DATAGRAM}"
        )
    lock_sock(sk)
    try:
        raise_sock_error(sk)
        if sk.sk_shutdown & uapi.SEND_SHUTDOWN:
            raise os_error(errno.EPIPE, "socket was shut down for sending")
        name = xtp_dgram_peer(sk, msg)
        rt = xtp_route(sk, narrow(sk.inet_saddr), name.addr)
        if rt.rt_flags & (RTCF_MULTICAST | RTCF_BROADCAST) or ipv4_is_multicast(name.addr):
            raise os_error(
                errno.ENETUNREACH, "XTP here is for one peer: no multicast, no broadcast"
            )
        saddr = sk.inet_saddr or rt.rt_src
        data = msg.take(size)
        sk.net.xtp.mib.OutDatagrams += 1
        first = xtp_own_first(sk, narrow(saddr), name.addr, name.port)
        if sk.service == XTP_SERVICE_ACKED_DATAGRAM:
            xtp_dgram_acked(sk, narrow(saddr), name.addr, first, data, msg.msg_flags)
        else:
            xtp_dgram_plain(sk, narrow(saddr), name.addr, first, data)
        return size
    finally:
        release_sock(sk)


def xtp_dgram_peer(sk: xtp_sock, msg: msghdr) -> sockaddr:
    """The destination of a message. Raises: OSError EDESTADDRREQ, EAFNOSUPPORT."""
    if msg.msg_name is not None:
        check_sockaddr(msg.msg_name)
        return msg.msg_name
    if sk.sk_state != TCP_ESTABLISHED:
        raise os_error(errno.EDESTADDRREQ, "no destination: not connected and no address given")
    return sockaddr(uapi.AF_INET, sk.inet_daddr, sk.inet_dport)


def xtp_dgram_plain(sk: xtp_sock, saddr: int, daddr: int, first: bytes, data: bytes) -> None:
    """Send an unacknowledged datagram. Raises: OSError."""
    options = END | EOM | WCLOSE | RCLOSE | NOERR | NOFLOW
    options |= (NOCHECK if sk.nocheck else 0) | (SORT if sk.sort else 0)
    packet = xtp_build(xtp_new_key(sk.net), options, XTP_FIRST, 0, 0, sk.sort, first, data)
    skb = xtp_alloc_skb(sk, packet)
    if skb is None:
        raise os_error(errno.ENOBUFS, "no packet buffer left on the host")
    sk.net.xtp.mib.OutPkts += 1
    err = xtp_send_to(sk, skb, saddr, daddr)
    if err < 0:
        raise os_error(err)


def xtp_dgram_acked(
    sk: xtp_sock, saddr: int, daddr: int, first: bytes, data: bytes, flags: int
) -> None:
    """Send an acknowledged datagram, and wait until its context ends. Raises: OSError."""
    timeo = sock_sndtimeo(sk, flags & uapi.MSG_DONTWAIT)
    if sk.sk_wmem_queued and sk.sk_wmem_queued + len(data) > sk.sk_sndbuf:
        if timeo <= 0:
            raise os_error(errno.EAGAIN, "too much is not acknowledged yet")
        timeo = sk_wait_event(sk, timeo, xtp_dgram_room, len(data))
        raise_sock_error(sk)
    net = sk.net
    now = net.clock.now_ns()
    ctx = xtp_context(xtp_new_key(net), True, first, XTP_SERVICE_ACKED_DATAGRAM)
    ctx.mss = XTP_MAX_DATAGRAM
    assoc = xtp_new_assoc(sk, ctx, saddr, daddr)
    xtp_write(ctx, data, True)
    xtp_close_write(ctx)
    xtp_close_read(ctx, now)
    sk.pending_acks[ctx.key] = assoc
    sk.sk_wmem_queued += len(data)
    assoc.waited = timeo > 0
    xtp_open(ctx, now)
    xtp_push(assoc)
    if timeo <= 0:
        return
    sk_wait_event(sk, timeo, xtp_dgram_over, assoc)
    if ctx.state != XTP_CLOSED:
        xtp_abort(ctx, errno.EAGAIN, net.clock.now_ns())
        xtp_push(assoc)
        raise os_error(errno.EAGAIN, "SO_SNDTIMEO is over and nothing was acknowledged")
    if ctx.err:
        raise os_error(ctx.err)


def xtp_dgram_over(sk: xtp_sock, assoc: xtp_assoc) -> bool:
    """Whether the sender of an acknowledged datagram can stop waiting."""
    return assoc.ctx.state == XTP_CLOSED or bool(sk.sk_flags & SOCK_DEAD)


def xtp_dgram_room(sk: xtp_sock, size: int) -> bool:
    """Whether a sender may send a datagram of `size` bytes, or must see an error."""
    return not sk.sk_wmem_queued or sk.sk_wmem_queued + size <= sk.sk_sndbuf or bool(sk.sk_err)


# --- receiving -----------------------------------------------------------------------------------


def xtp_dgram_rcv(sk: xtp_sock, pkt: xtp_packet, saddr: int, daddr: int, skb: sk_buff) -> None:
    """Queue the datagram of a FIRST of service 1 or 2; a filter may have cut skb. Borrows skb."""
    net = sk.net
    xtp = net.xtp
    if sk.sk_rmem_alloc >= sk.sk_rcvbuf:
        xtp.mib.RcvbufErrors += 1
        sk.sk_drops += 1
        return
    acked = None
    if pkt.tspec is not None and pkt.tspec.service == XTP_SERVICE_ACKED_DATAGRAM:
        delivered = not pkt.options & DREQ
        acked = xtp_acked(pkt.key, saddr, daddr, len(pkt.data), pkt.sync, delivered, 0)
        xtp_remember(net, acked)
    if sk.cmsg_flags:
        ipv4_pktinfo_prepare(sk, skb)
    dlen = int.from_bytes(skb_copy_bits(skb, 12, 4), "big")
    offset = XTP_HLEN + dlen - len(pkt.data)
    size = min(len(pkt.data), skb.len - offset)
    name = sockaddr(uapi.AF_INET, saddr, pkt.sport)
    sk.datagrams.append(xtp_datagram(skb_get(skb), offset, size, name, acked))
    sk.sk_rmem_alloc += size + XTP_HLEN
    xtp.mib.InDatagrams += 1
    if acked is not None:
        xtp_answer_acked(sk, acked)
    if not sk.sk_flags & SOCK_DEAD:
        sk_data_ready(sk)


def xtp_remember(net: Net, acked: xtp_acked) -> None:
    """Remember the datagram for as long as its sender may repeat it."""
    answered = net.xtp.answered
    now = net.clock.now_ns()
    for key in list(answered):
        entry = answered[key]
        if entry.expires_ns > now and len(answered) < XTP_ANSWERED_MAX:
            break
        del answered[key]
    acked.expires_ns = now + 7 * XTP_LINGER_NS
    answered[(acked.saddr, acked.key)] = acked


def xtp_answer_acked(sk: Any, acked: xtp_acked) -> None:
    """Acknowledge a datagram to its sender; with END once `delivered`."""
    options = RCLOSE | WCLOSE | END if acked.delivered else 0
    segment = xtp_cntl_segment(acked.size, acked.size, acked.sync)
    packet = xtp_build(acked.key | XTP_RTN, options, XTP_CNTL, 0, 0, 0, segment, b"")
    skb = xtp_alloc_skb(sk, packet)
    if skb is not None:
        sk.net.xtp.mib.OutPkts += 1
        xtp_send_to(sk, skb, acked.daddr, acked.saddr)


def xtp_dgram_recvmsg(sk: xtp_sock, msg: msghdr, size: int, flags: int) -> int:
    """proto.recvmsg: one datagram. Raises: OSError EAGAIN, EOPNOTSUPP, the pending error."""
    if flags & uapi.MSG_ERRQUEUE:
        return af_ops_of[sk.sk_family].recv_error(sk, msg, size)
    if flags & uapi.MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "XTP has no urgent data")
    lock_sock(sk)
    try:
        timeo = sock_rcvtimeo(sk, flags & uapi.MSG_DONTWAIT)
        while not sk.datagrams:
            raise_sock_error(sk)
            if sk.sk_shutdown & uapi.RCV_SHUTDOWN:
                return 0
            if timeo <= 0:
                raise os_error(errno.EAGAIN, "nothing to read")
            timeo = sk_wait_event(sk, timeo, xtp_dgram_came)
        datagram = sk.datagrams[0]
        skb = datagram.skb
        full = datagram.size
        try:
            done = msg.put(skb_copy_bits(skb, datagram.offset, min(full, size)))
        except (ValueError, BufferError, TypeError) as exc:
            raise os_error(errno.EFAULT, f"cannot write to the caller's buffer: {exc}") from exc
        msg.msg_name = datagram.name
        if done < full:
            msg.msg_flags |= uapi.MSG_TRUNC
        sock_recv_cmsgs(msg, sk, skb)
        if sk.cmsg_flags:
            ip_cmsg_recv_offset(msg, sk, skb, 0, 0)
        if not flags & uapi.MSG_PEEK:
            sk.datagrams.popleft()
            consume_skb(skb)
            sk.sk_rmem_alloc -= full + XTP_HLEN
            if datagram.acked is not None and not datagram.acked.delivered:
                datagram.acked.delivered = True
                xtp_answer_acked(sk, datagram.acked)
        return full if flags & uapi.MSG_TRUNC else done
    finally:
        release_sock(sk)


def xtp_dgram_came(sk: xtp_sock, seen: Any) -> bool:
    """Whether a reader can stop waiting."""
    return bool(
        sk.datagrams or sk.sk_err or sk.sk_shutdown & uapi.RCV_SHUTDOWN or sk.sk_flags & SOCK_DEAD
    )


# --- the rest -----------------------------------------------------------------------------


def xtp_dgram_connect(sk: xtp_sock, uaddr: sockaddr, addr_len: int = 16) -> int:
    """proto.connect: fix the peer. Raises: OSError."""
    lock_sock(sk)
    try:
        xtp_connect_route(sk, uaddr)
        sk.sk_state = TCP_ESTABLISHED
        return 0
    finally:
        release_sock(sk)


def xtp_dgram_disconnect(sk: xtp_sock, flags: int) -> int:
    """proto.disconnect: forget the peer."""
    lock_sock(sk)
    sk.sk_state = TCP_CLOSE
    sk.inet_daddr = 0
    sk.inet_dport = 0
    sk_dst_reset(sk)
    release_sock(sk)
    return 0


def xtp_dgram_close(sk: xtp_sock, timeout: int) -> None:
    """proto.close: drop unacknowledged datagrams and notify their receivers."""
    lock_sock(sk)
    sk.sk_shutdown = uapi.SHUTDOWN_MASK
    sock_orphan(sk)
    for assoc in list(sk.pending_acks.values()):
        xtp_abort(assoc.ctx, 0, sk.net.clock.now_ns())
        xtp_push(assoc)
    while sk.datagrams:
        kfree_skb(sk.datagrams.popleft().skb)
    sk.sk_rmem_alloc = 0
    xtp_put_port(sk)
    release_sock(sk)
    sk_free(sk)


def xtp_dgram_poll(file: Any, sock: socket, wait: Any) -> int:
    """proto_ops.poll. `wait`: callback to add to its queue."""
    sk: xtp_sock = sock.sk
    mask = datagram_poll_begin(sk, wait)
    if sk.datagrams:
        mask |= uapi.POLLIN | uapi.POLLRDNORM
    if sk.sk_wmem_queued < sk.sk_sndbuf:
        mask |= uapi.POLLOUT | uapi.POLLWRNORM
    return mask
