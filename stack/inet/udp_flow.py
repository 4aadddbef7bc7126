"""udp_sendmsg of both families.

    udp_sendmsg, udpv6_sendmsg                   the kernel's entries
      udp_lib_sendmsg
        udp_dest_to       the destination that the socket has cached ...
        udp_dest_new      ... or a new one: udp_family, udp_route and udp_make_flow of the family
        udp_send_flow     fast path of a flow: an sk_buff with the prebuilt headers
        udp_send_cork     everything else: IP collects the datagram (stack/inet/append.py)
      ip_push_pending_frames, ip6_push_pending_frames

A destination (udp_dest) has what datagrams to one address need: the route and
IP's parameters. If plain datagrams need no more than headers that never change, it has a flow too
(fastpath.net.inet.UdpFlow). The socket keeps it until the socket is connected, an option is set, or
the route is obsolete. A destination for the connected peer is also invalid when its route is not
sk_dst_cache; one for another address leaves sk_dst_cache, the peer's, alone.

A flow does not support control messages, several buffers, flags like MSG_MORE, a corked socket, or
more data than fits one linear buffer (or, with UDP_SEGMENT, one super-packet). Neither does it
support IP options, groups and broadcasts, routes with metrics, or devices without checksum offload.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff
from fastpath.net.inet import UdpFlow
from fastpath.net.udp_batches import mmsg_send
from stack.core import uapi
from stack.core.dst import dst_confirm_neigh, dst_entry
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.netdevice import NETIF_F_CSUM_MASK, NETIF_F_GSO_UDP_L4, NETIF_F_SG, net_device
from stack.core.sock import lock_sock, release_sock, sk_dst_set, sock_wait_for_wmem
from stack.core.sockaddr import sockaddr
from stack.inet.af_ops import af_ops_of, inet_af_ops
from stack.inet.append import inet_cork_of
from stack.inet.udp_hash import udp_dest, udp_sock

PLAIN_FLAGS = uapi.MSG_DONTWAIT | uapi.MSG_NOSIGNAL
UDP_MAX_SEGMENTS = 128
UDP_HLEN = 8


def udp_lib_sendmsg(sk: udp_sock, msg: msghdr, length: int, family: int) -> int:
    """net/ipv{4,6}/udp.c: send one datagram (or, corked, a piece of one). Returns `length`.

    `family`: the socket's. Raises: OSError EMSGSIZE, EINVAL, EDESTADDRREQ, EAGAIN, routing errors.
    """
    plain = not (msg.msg_flags & ~PLAIN_FLAGS or msg.msg_control or msg.more)
    dest: udp_dest | None = None
    if plain and length <= 0xFFFF:
        dest = udp_dest_to(sk, msg.msg_name)
    if dest is None:
        name = msg.msg_name
        af: inet_af_ops = af_ops_of[family]
        wire = af.udp_family(sk, msg, length)
        if wire != family:
            af = af_ops_of[wire]
        if sk.pending:
            lock_sock(sk)
            if sk.pending:
                return udp_append(sk, msg, length, af, None)
            release_sock(sk)
        dest = udp_dest_new(sk, msg, af, name, plain)
    flow = dest.flow
    if flow is not None and udp_flow_takes(sk, flow, length):
        return udp_send_flow(sk, dest, flow, msg, length)
    return udp_send_cork(sk, msg, length, dest)


def udp_dest_to(sk: udp_sock, name: sockaddr | None) -> udp_dest | None:
    """The kept destination if it is valid for `name` (None: the connected peer), else None.

    If only the port of `name` differs, the destination is changed to that port.
    """
    flow = sk.sk_tx_flow
    dest = sk.tx_dest
    if flow is None or dest is None:
        return None
    rt: dst_entry = dest.rt
    if rt.obsolete or sk.sk_err or sk.sk_shutdown:
        return None
    last = dest.name
    if last is None and rt is not sk.sk_dst_cache:
        return None
    if name is last or name == last:
        return dest
    if (
        name is None
        or last is None
        or not name.port
        or name.addr != last.addr
        or name.family != last.family
        or name.flowinfo != last.flowinfo
        or name.scope_id != last.scope_id
    ):
        return None
    dest.fl.fl_dport = name.port
    dest.af.udp_flow_aim(sk, flow, dest.fl)
    dest.name = name
    return dest


def udp_dest_new(
    sk: udp_sock, msg: msghdr, af: inet_af_ops, name: sockaddr | None, plain: bool
) -> udp_dest:
    """Look up a message's destination; cache it if the message is `plain` and has a flow.

    `name`: as the caller gave it. Raises: OSError.
    """
    dest = af.udp_route(sk, msg, af)
    rt: dst_entry = dest.rt
    if msg.msg_flags & uapi.MSG_CONFIRM:
        dst_confirm_neigh(rt, dest.fl.daddr)
    if not plain or sk.corkflag:
        return dest
    dest.flow = flow = af.udp_make_flow(sk, dest)
    if flow is not None and msg.msg_name is not None:
        dest.name = name
    elif flow is not None and sk.sk_dst_cache is not rt:
        sk_dst_set(sk, rt)
    sk.sk_tx_flow = flow
    sk.tx_dest = dest
    return dest


def udp_flow_takes(sk: udp_sock, flow: UdpFlow, length: int) -> bool:
    """Whether the flow can send `length` bytes: as a datagram, or as a UDP_SEGMENT super-packet."""
    if length <= flow.room and (not sk.gso_size or length <= sk.gso_size):
        return True
    return flow.cuts(length, sk.gso_size)


def udp_send_flow(sk: udp_sock, dest: udp_dest, flow: UdpFlow, msg: msghdr, length: int) -> int:
    """Send a message by the flow, if `udp_flow_takes` allows it. Returns `length`.

    Raises: OSError EAGAIN, EPIPE, ENOBUFS, an error of the layers below.
    """
    if sk.sk_wmem_alloc >= sk.sk_sndbuf or sk.sk_err or sk.sk_shutdown & uapi.SEND_SHUTDOWN:
        udp_wait_for_wmem(sk, msg.msg_flags & uapi.MSG_DONTWAIT)
    if sk.gso_size and length > sk.gso_size:
        skb = flow.segments(msg.buf, msg.off, length, sk.gso_size, sk.net.skb_pages)
    else:
        skb = flow.datagram(msg.buf, msg.off, length)
    if skb is None:
        raise udp_send_error(sk, os_error(errno.ENOBUFS, "no packet buffer left on the host"))
    msg.off += length
    msg.count = 0
    udp_flow_xmit(sk, dest, flow, skb, 1)
    return length


def udp_wait_for_wmem(sk: udp_sock, noblock: int) -> None:
    """sock_wait_for_wmem, whose failure is counted. Raises: OSError."""
    try:
        sock_wait_for_wmem(sk, noblock)
    except OSError as error:
        udp_send_error(sk, error)
        raise


def udp_flow_xmit(sk: udp_sock, dest: udp_dest, flow: UdpFlow, skb: sk_buff, count: int) -> None:
    """Pass a flow's sk_buff of `count` datagrams to IP. Takes ownership of skb. Raises: OSError."""
    sk.sk_wmem_alloc += skb.truesize
    err = dest.af.udp_flow_xmit(sk, flow, skb, count)
    if err:
        raise udp_send_error(sk, os_error(err))


def udp_send_cork(sk: udp_sock, msg: msghdr, length: int, dest: udp_dest) -> int:
    """Send without a flow, or begin to collect (UDP_CORK, MSG_MORE). Returns `length`.

    Raises: OSError.
    """
    if sk.corkflag or msg.msg_flags & uapi.MSG_MORE:
        lock_sock(sk)
        if sk.pending:
            release_sock(sk)
            raise os_error(errno.EINVAL, "another datagram is being collected on this socket")
        sk.pending = dest.af.family
        sk.len = 0
        sk.sk_tx_flow = None  # the next sendmsg adds to this datagram
        return udp_append(sk, msg, length, dest.af, dest)
    try:
        skb = dest.af.udp_make_skb(sk, dest, msg, length + UDP_HLEN)
    except OSError as error:
        udp_send_error(sk, error)
        raise
    if skb is not None:
        err = dest.af.udp_send_skb(skb, dest.fl, inet_cork_of(sk))
        if err:
            raise udp_send_error(sk, os_error(err))
    return length


def udp_append(
    sk: udp_sock, msg: msghdr, length: int, af: inet_af_ops, dest: udp_dest | None
) -> int:
    """udp_sendmsg's do_append_data: add a piece; send unless more is to come. Sock owned, freed.

    `af`: the family of the message; `dest`: of the first piece, else None. Raises: OSError.
    """
    try:
        if sk.pending != af.family and af.family == uapi.AF_INET:
            raise os_error(errno.EINVAL, "an IPv6 datagram is being collected on this socket")
        ulen = length + UDP_HLEN if dest is not None else length
        try:
            if sk.len + ulen > 0xFFFF:
                raise os_error(errno.EMSGSIZE, "the collected datagram became too long")
            af_ops_of[sk.pending].udp_append(sk, dest, msg, ulen)
        except OSError as error:
            udp_send_error(sk, error)
            udp_flush_pending_frames(sk)
            raise
        sk.len += ulen
        if not (sk.corkflag or msg.msg_flags & uapi.MSG_MORE):
            err = udp_push_pending_frames(sk)
            if err:
                raise udp_send_error(sk, os_error(err))
        elif not sk.sk_write_queue.qlen:
            sk.pending = 0
        return length
    finally:
        release_sock(sk)


def udp_push_pending_frames(sk: udp_sock) -> int:
    """net/ipv{4,6}/udp.c: send the corked datagram. 0 or a negative errno."""
    cork = inet_cork_of(sk)
    skb = sk.sk_write_queue.dequeue()
    err = 0
    if skb is not None:
        assert cork.fl4 is not None
        err = af_ops_of[sk.pending].udp_send_skb(skb, cork.fl4, cork)
    udp_flush_pending_frames(sk)
    return err


def udp_flush_pending_frames(sk: udp_sock) -> None:
    """net/ipv4/udp.c: discard the corked datagram."""
    family = sk.pending
    if family:
        sk.len = 0
        sk.pending = 0
        af_ops_of[family].flush_pending_frames(sk)


def udp_sent(sk: udp_sock, err: int, recverr: bool, count: int) -> int:
    """The end of udp_send_skb: count `count` datagrams; returns 0 or the sender's negative errno.

    Congestion (ENOBUFS) is an error only for sockets with `recverr`.
    """
    if not err:
        sk.udp_mib.OutDatagrams += count
        return 0
    if err == -errno.ENOBUFS and not recverr:
        sk.udp_mib.SndbufErrors += count
        return 0
    return err


def udp_send_error(sk: udp_sock, error: OSError) -> OSError:
    """The end of udp_sendmsg: `error`, counted if memory or room to send is missing."""
    if error.errno in (errno.ENOBUFS, errno.EAGAIN):
        sk.udp_mib.SndbufErrors += 1
    return error


def udp_sendmmsg(sk: udp_sock, rows: mmsg_send, start: int, flags: int) -> int:
    """Send row `start` and following ones in one super-packet; returns how many rows were sent.

    The wire, the counters and the send buffer show no difference from single datagrams. Where they
    would (a queue, a tap), it returns 0 and the caller uses sendmsg for row `start`. Rows to
    different ports cannot share a super-packet and are sent one by one.
    Raises: OSError, also of resolving an address; rows.went is how many rows were sent before.
    """
    if sk.sk_tx_flow is None or sk.gso_size or flags & ~PLAIN_FLAGS:
        return 0
    if not rows.alike(start):
        return udp_send_rows(sk, rows, start)
    dest = udp_dest_to(sk, rows.row(start)[1])
    flow = sk.sk_tx_flow
    if dest is None or flow is None or not udp_flow_folds(sk, dest, flow):
        return 0
    room = sk.sk_sndbuf - sk.sk_wmem_alloc
    skb = rows.fold(flow, start, room, UDP_MAX_SEGMENTS, sk.net.skb_pages)
    if skb is None:
        return 0
    count = skb.gso_segs
    udp_flow_xmit(sk, dest, flow, skb, count)
    return count


def udp_send_rows(sk: udp_sock, rows: mmsg_send, start: int) -> int:
    """Send rows by the socket's flow, a packet each; returns how many were sent.

    This is udp_sendmsg for plain datagrams, without a msghdr for each. It stops where udp_sendmsg
    would wait or do more, and where two rows could share a super-packet.
    Raises: OSError, also of resolving an address; rows.went is how many rows were sent before.
    """
    data: object
    name: sockaddr | None
    sent = 0
    last = min(len(rows) - start, UDP_MAX_SEGMENTS >> 1)
    while sent < last:
        if sent and rows.alike(start + sent):
            break
        data, name = rows.row(start + sent)
        dest = udp_dest_to(sk, name)
        flow = sk.sk_tx_flow
        if (
            dest is None
            or flow is None
            or type(data) is not bytes
            or sk.sk_wmem_alloc >= sk.sk_sndbuf
        ):
            break
        length = len(data)
        if length > flow.room:
            break
        skb = flow.datagram(data, 0, length)
        if skb is None:
            break
        udp_flow_xmit(sk, dest, flow, skb, 1)
        sent += 1
        rows.went = sent
    return sent


def udp_flow_folds(sk: udp_sock, dest: udp_dest, flow: UdpFlow) -> bool:
    """Whether a super-packet of the flow is equivalent to its single datagrams.

    The device must segment it, no tap or hook may see it and no queue may count packets. The
    neighbour must be known.
    """
    rt: dst_entry = dest.rt
    dev: net_device = rt.dev
    features = dev.features
    q = dev.qdisc
    if (
        not features & NETIF_F_GSO_UDP_L4
        or not features & NETIF_F_SG
        or not features & NETIF_F_CSUM_MASK
        or q.noqueue
        or q.qlen
        or not q.can_bypass
        or q.running
        or dev.queue_state
        or sk.net.ptype_all
        or dev.ptype_specific
    ):
        return False
    return dest.af.udp_flow_folds(sk, flow, dest.fl)
