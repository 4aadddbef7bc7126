"""Fast sending of plain datagrams by a flow that the socket caches, one or many at once.

A flow (fastpath.inet.UdpFlow) caches what udp_sendmsg's general path found out about datagrams to
one address: route, headers, room. The socket keeps it in sk_tx_flow until the socket is connected,
an option is set, or the flow's route is obsolete. A flow to the connected peer is also invalid when
its route is not sk_dst_cache. A flow to another address leaves sk_dst_cache, the peer's, alone.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from fastpath.inet import UdpFlow
from fastpath.mmsg import mmsg_send
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.netdevice import NETIF_F_CSUM_MASK, NETIF_F_GSO_UDP_L4, NETIF_F_SG
from stack.core.sock import sock_wait_for_wmem
from stack.core.uapi import MSG_DONTWAIT, MSG_NOSIGNAL, SEND_SHUTDOWN

if TYPE_CHECKING:
    from fastpath.skbuff import sk_buff
    from stack.core.dst import dst_entry
    from stack.core.netdevice import net_device
    from stack.core.sockaddr import sockaddr
    from stack.inet.udp_hash import udp_sock

PLAIN_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL
UDP_MAX_SEGMENTS = 128


def udp_plain(msg: msghdr) -> bool:
    """Whether a message has one buffer, no control messages and no flags that need more."""
    return not (msg.msg_flags & ~PLAIN_FLAGS or msg.msg_control or msg.more)


def udp_flow_to(sk: udp_sock, name: sockaddr | None) -> UdpFlow | None:
    """The socket's flow if it is valid for `name` (None: the connected peer), else None.

    If only the port of `name` differs, the flow is changed to that port.
    """
    flow = sk.sk_tx_flow
    if flow is None:
        return None
    rt: dst_entry = flow.dst
    if rt.obsolete or sk.sk_err or sk.sk_shutdown:
        return None
    last = sk.udp_name
    if last is None and rt is not sk.sk_dst_cache:
        return None
    if name is last or name == last:
        return flow
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
    sk.udp_flow_af.udp_flow_aim(sk, flow, name)
    sk.udp_name = name
    return flow


def udp_flow_takes(sk: udp_sock, flow: UdpFlow, length: int) -> bool:
    """Whether the flow can send `length` bytes: as a datagram, or as a UDP_SEGMENT super-packet."""
    if length <= flow.room and (not sk.gso_size or length <= sk.gso_size):
        return True
    return flow.cuts(length, sk.gso_size)


def udp_send_flow(sk: udp_sock, flow: UdpFlow, msg: msghdr, length: int) -> int:
    """Send a message by the flow, if `udp_flow_takes` allows it. Returns `length`.

    Raises: OSError EAGAIN, EPIPE, ENOBUFS, an error of the layers below.
    """
    if sk.sk_wmem_alloc >= sk.sk_sndbuf or sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN:
        sock_wait_for_wmem(sk, msg.msg_flags & MSG_DONTWAIT)
    if sk.gso_size and length > sk.gso_size:
        skb = flow.segments(msg.buf, msg.off, length, sk.gso_size, sk.net.skb_pages)
    else:
        skb = flow.datagram(msg.buf, msg.off, length)
    if skb is None:
        raise os_error(errno.ENOBUFS, "no packet buffer left on the host")
    msg.off += length
    msg.count = 0
    udp_flow_xmit(sk, flow, skb, 1)
    return length


def udp_flow_xmit(sk: udp_sock, flow: UdpFlow, skb: sk_buff, count: int) -> None:
    """Give a flow's sk_buff of `count` datagrams to IP. Takes ownership of skb. Raises: OSError."""
    sk.sk_wmem_alloc += skb.truesize
    err = sk.udp_flow_af.udp_flow_xmit(sk, flow, skb, count)
    if err:
        raise_send_error(sk, err)


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


def raise_send_error(sk: udp_sock, err: int) -> None:
    """Count a failed send and raise it as OSError."""
    if err == -errno.ENOBUFS:
        sk.udp_mib.SndbufErrors += 1
    raise os_error(err)


def udp_sendmmsg(sk: udp_sock, rows: mmsg_send, start: int, flags: int) -> int:
    """Send row `start` and those behind it in one super-packet; returns how many rows were sent.

    The wire, the counters and the send buffer show no difference from single datagrams. Where they
    would (a queue, a tap), it returns 0 and the caller uses sendmsg for row `start`. Rows to
    different ports cannot share a super-packet and are sent one by one.
    Raises: OSError, also of resolving an address; rows.went is how many rows were sent before.
    """
    flow = sk.sk_tx_flow
    if flow is None or sk.gso_size or flags & ~PLAIN_FLAGS:
        return 0
    if not rows.alike(start):
        return udp_send_rows(sk, rows, start)
    flow = udp_flow_to(sk, rows.row(start)[1])
    if flow is None or not udp_flow_folds(sk, flow):
        return 0
    room = sk.sk_sndbuf - sk.sk_wmem_alloc
    skb = rows.fold(flow, start, room, UDP_MAX_SEGMENTS, sk.net.skb_pages)
    if skb is None:
        return 0
    count = skb.gso_segs
    udp_flow_xmit(sk, flow, skb, count)
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
        flow = udp_flow_to(sk, name)
        if flow is None or type(data) is not bytes or sk.sk_wmem_alloc >= sk.sk_sndbuf:
            break
        length = len(data)
        if length > flow.room:
            break
        skb = flow.datagram(data, 0, length)
        if skb is None:
            break
        udp_flow_xmit(sk, flow, skb, 1)
        sent += 1
        rows.went = sent
    return sent


def udp_flow_folds(sk: udp_sock, flow: UdpFlow) -> bool:
    """Whether nothing can tell a super-packet of the flow from its single datagrams.

    The device must cut it up, no tap or hook see it and no queue count packets; the neighbour must
    be known.
    """
    rt: dst_entry = flow.dst
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
        or dev.queue_stopped
        or sk.net.ptype_all
        or dev.ptype_specific
    ):
        return False
    return sk.udp_flow_af.udp_flow_folds(sk, flow)
