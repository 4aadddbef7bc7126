"""The common part of UDP over both families (net/ipv4/udp.c; RFC 768, 1122 4.1).

    udp_rcv, udpv6_rcv                      the families' handlers; a known socket is found first
      udp_lib_rcv                           lengths, checksum; then by the ports
        __udp_lib_mcast_deliver             a group: a clone to each matching socket
        udp_queue_rcv_skb                   one socket; merged datagrams are split unless UDP_GRO
          udp_queue_rcv_one_skb             policy, filter, memory; into the queue, wake the reader
        udp_no_port                         no socket: port unreachable
    recvmsg, recvmmsg => udp_recvmsg, udp_recvmmsg -> __skb_recv_udp -> udp_rmem_release
    udp_route of a family -> udp_cmsg_send, udp_check_peer
    udp_send_skb, udp_v6_send_skb -> udp_headers

Sending is in stack/inet/udp_flow.py. Ports, lookup and udp_sock, the state, are in udp_hash.py. The
receive queue is charged to `sk_rmem_alloc` and uncharged in portions.
Functions of the receive path take ownership of skb and count what they drop, with a reason.

A received checksum is verified when the datagram is queued, not (as in Linux) when it is read. The
reader sees no difference, and poll never reports a datagram that is then dropped.
"""

from __future__ import annotations

import errno
import sys
from typing import Any

from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    SKB_GSO_UDP_L4,
    consume_skb,
    inet_checksum_init,
    kfree_skb,
    pskb_may_pull,
    pskb_trim_rcsum,
    sk_buff,
    skb_checksum_complete,
    skb_clone,
    skb_orphan,
    skb_pull,
    skb_push,
)
from fastpath.net.gso import skb_gso_segment, udp_rcv_segment
from fastpath.net.hdr import udp_hdr, udp_push
from fastpath.net.inet import skb_queue_owned
from fastpath.net.inetkey import InetEnds, inet_skb_ends, udp_name_consume
from fastpath.net.udp_batches import mmsg_recv, udp_carve, udp_carve_all, udp_charge_split
from stack.core import drop_reason, uapi
from stack.core.bsd_socket import socket
from stack.core.datagram import (
    __skb_try_recv_from_queue,
    __skb_wait_for_more_packets,
    datagram_poll,
)
from stack.core.drop_reason import kfree_skb_reason
from stack.core.errors import os_error
from stack.core.iov import MALFORMED, msghdr, skb_read_datagram
from stack.core.l3mdev import inet_sdif
from stack.core.netdevice import ETH_P_IPV6
from stack.core.sk_mem import proto_mem_of_ram, sk_mem_reclaim, sk_rmem_schedule
from stack.core.snmp import udp_mib
from stack.core.sock import (
    RCV_HOARD,
    raise_sock_error,
    sk_common_release,
    sk_data_ready,
    sk_error_report,
    sk_filter_trim_cap,
    sock_rfree,
)
from stack.core.sock_flags import FLAGS_RECV_CMSGS, SOCK_DEAD
from stack.core.sockaddr import sockaddr
from stack.core.sockopt import put_cmsg, sock_recv_cmsgs
from stack.core.sockopt_table import int_bytes, opt_bytes
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.wait import MAX_SCHEDULE_TIMEOUT
from stack.inet.af_ops import af_ops_of, inet_af_ops, inet_sk_takes
from stack.inet.datagram import udp_disconnect
from stack.inet.early_demux import inet_sk_rx_dst_set
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_cork
from stack.inet.udp_flow import UDP_HLEN, UDP_MAX_SEGMENTS, udp_flush_pending_frames
from stack.inet.udp_hash import (
    __udp_lib_lookup,
    udp_port_socks,
    udp_sk_bound_dev_eq,
    udp_sock,
    udp_table,
)
from stack.inet.xfrm_policy import XFRM_POLICY_IN, xfrm4_policy_check, xfrm6_policy_check
from stack.net import Net

CHECKSUM_BREAK = 76
"""include/linux/skbuff.h: Linux verifies longer packets when they are read."""


# --- sending -----------------------------------------------------------------------------


def udp_cmsg_send(control: list[Any], ipc: Any) -> list[Any]:
    """net/ipv4/udp.c: put a UDP_SEGMENT message into `ipc`; returns the messages that are IP's.

    Raises: OSError EINVAL.
    """
    rest = []
    for level, kind, data in control:
        if level == uapi.SOL_UDP:
            ipc.gso_size = __udp_cmsg_send(kind, data)
        elif (level, kind) == MALFORMED[:2]:
            raise os_error(errno.EINVAL, "a malformed control message")
        else:
            rest.append((level, kind, data))
    return rest


def __udp_cmsg_send(kind: int, data: int | bytes) -> int:
    """net/ipv4/udp.c: the size of a UDP_SEGMENT message, the only one. Raises: OSError EINVAL."""
    if kind != uapi.UDP_SEGMENT:
        raise os_error(errno.EINVAL, f"control message {kind} of SOL_UDP")
    raw = data if isinstance(data, int) else opt_bytes(data)
    if not isinstance(raw, int):
        if len(raw) != 2:
            raise os_error(errno.EINVAL, "UDP_SEGMENT is a 16-bit number")
        raw = int.from_bytes(raw, sys.byteorder)
    return raw


def udp_check_peer(sk: udp_sock, name: sockaddr | None) -> None:
    """Check a destination; None is the connected peer. Raises: OSError EINVAL, EDESTADDRREQ."""
    if name is not None:
        if not name.port:
            raise os_error(errno.EINVAL, "port 0 cannot be sent to")
    elif sk.sk_state != TCP_ESTABLISHED:
        raise os_error(errno.EDESTADDRREQ, "no destination: not connected and no address given")


def udp_headers(skb: sk_buff, fl: flowi, cork: inet_cork, iplen: int, no_check: bool) -> int:
    """udp_send_skb's start: the UDP header, and what the device needs to cut a super-packet.

    `iplen`: bytes of the IP header with its options; `no_check`: the socket sends no checksums.
    0, or a negative errno: UDP_SEGMENT's datagrams cannot be sent, and skb is freed.
    """
    gso_size = cork.gso_size
    if gso_size:
        err = 0
        if iplen + UDP_HLEN + min(skb.len, gso_size) > cork.fragsize:
            err = -errno.EMSGSIZE
        elif skb.len > gso_size * UDP_MAX_SEGMENTS or no_check:
            err = -errno.EINVAL
        if err:
            kfree_skb(skb)
            return err
        if skb.len > gso_size:
            skb.ip_summed = CHECKSUM_PARTIAL
            skb.gso_size = gso_size
            skb.gso_type = SKB_GSO_UDP_L4
            skb.gso_segs = -(-skb.len // gso_size)
    udp_push(skb, fl.fl_sport, fl.fl_dport, skb.len + UDP_HLEN, 0)
    return 0


# --- receiving ---------------------------------------------------------------------------


def udp_lib_rcv(net: Net, skb: sk_buff, af: inet_af_ops, many: bool) -> int:
    """net/ipv{4,6}/udp.c (__udp4_lib_rcv): check length and checksum, find the socket.

    `many`: for a group or broadcast. Takes ownership of skb.
    """
    mib = af.udp_mib(net)
    if not pskb_may_pull(skb, UDP_HLEN):
        return udp_drop_short(net, skb, af)
    uh = udp_hdr(skb)
    if not skb.gso_size:
        ulen = uh.len
        size = skb.len
        if ulen != size:
            if not ulen and skb.protocol == ETH_P_IPV6:
                ulen = size  # a jumbogram's (RFC 2675 4)
            if ulen > size or ulen < UDP_HLEN:
                return udp_drop_short(net, skb, af)
            if ulen != size:
                pskb_trim_rcsum(skb, ulen)
    ends = inet_skb_ends(skb)
    takers: list[udp_sock] | None = udp_mcast_takers(skb, af, ends) if many else None
    summed = skb.ip_summed
    if (
        summed != CHECKSUM_UNNECESSARY
        and summed != CHECKSUM_PARTIAL
        and uh.check
        and not (takers is not None and not takers and skb.len > CHECKSUM_BREAK)
        and udp_csum_bad(skb)
    ):
        mib.InCsumErrors += 1
        mib.InErrors += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_UDP_CSUM)
        return 0
    if takers is not None:
        return __udp_lib_mcast_deliver(net, skb, af, takers)
    sk = __udp_lib_lookup(net, ends, skb.skb_iif, inet_sdif(skb))
    if sk is not None:
        if sk.udp_tuple is not None:
            inet_sk_rx_dst_set(sk, skb)
        udp_queue_rcv_skb(sk, skb)
        return 0
    if not udp_policy_check(None, skb):
        mib.InErrors += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_XFRM_POLICY)
    elif skb.gso_size:
        for seg in udp_split(net, mib, skb):
            udp_no_port(net, seg, af)
    else:
        udp_no_port(net, skb, af)
    return 0


def udp_policy_check(sk: udp_sock | None, skb: sk_buff) -> bool:
    """Check the policies of the packet's family: an IPv6 socket may receive IPv4 packets too."""
    if skb.protocol == ETH_P_IPV6:
        return xfrm6_policy_check(sk, XFRM_POLICY_IN, skb)
    return xfrm4_policy_check(sk, XFRM_POLICY_IN, skb)


def udp_no_port(net: Net, skb: sk_buff, af: inet_af_ops) -> None:
    """__udp4_lib_rcv's end for a datagram without a socket. Takes ownership of skb."""
    af.udp_mib(net).NoPorts += 1
    af.port_unreachable(skb)
    kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NO_SOCKET)


def udp_split(net: Net, mib: udp_mib, skb: sk_buff) -> list[sk_buff]:
    """Split a merged sk_buff into its datagrams; none, counted as InErrors, without memory.

    Takes ownership of skb.
    """
    segs = skb.gso_segs or 1
    try:
        if not skb.gso_type & SKB_GSO_UDP_L4:
            return udp_split_tunnel(net, skb)
        return udp_rcv_segment(skb, net.skb_small)
    except (ValueError, MemoryError):
        mib.InErrors += segs
        return []


def udp_split_tunnel(net: Net, skb: sk_buff) -> list[sk_buff]:
    """The datagrams of a tunnel's super-packet, for a socket that is no tunnel. Takes ownership.

    Raises: ValueError, MemoryError.
    """
    back = skb.data_offset - skb.network_header
    try:
        skb_push(skb, back)
        split = skb_gso_segment(skb, net.skb_small)
    finally:
        consume_skb(skb)
    for seg in split:
        skb_pull(seg, back)
    return split


def udp_drop_short(net: Net, skb: sk_buff, af: inet_af_ops) -> int:
    """Drop and count a datagram that is shorter than its length field. Takes ownership of skb."""
    af.udp_mib(net).InErrors += 1
    kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL)
    return 0


def udp_csum_bad(skb: sk_buff) -> bool:
    """net/ipv4/udp.c (udp4_csum_init, udp_lib_checksum_complete): verify in software."""
    if inet_checksum_init(skb, uapi.IPPROTO_UDP):
        return True
    return skb.ip_summed != CHECKSUM_UNNECESSARY and bool(skb_checksum_complete(skb))


def __udp_lib_mcast_deliver(net: Net, skb: sk_buff, af: inet_af_ops, takers: list[udp_sock]) -> int:
    """net/ipv{4,6}/udp.c: deliver a group or broadcast to its sockets. Takes ownership."""
    if not takers:
        af.udp_mib(net).IgnoredMulti += 1
        consume_skb(skb)
        return 0
    for sk in takers[:-1]:
        copy = skb_clone(skb)
        copy.dst = skb.dst
        copy.dev = skb.dev
        udp_queue_rcv_skb(sk, copy)
    udp_queue_rcv_skb(takers[-1], skb)
    return 0


def udp_mcast_takers(skb: sk_buff, af: inet_af_ops, ends: InetEnds) -> list[udp_sock]:
    """The sockets that a group or broadcast datagram concerns."""
    dif, sdif = skb.skb_iif, inet_sdif(skb)
    socks = udp_port_socks(skb.dev.net, ends.dport)
    return [sk for sk in socks if __udp_is_mcast_sock(sk, af, ends, dif, sdif)]


def __udp_is_mcast_sock(sk: udp_sock, af: inet_af_ops, ends: InetEnds, dif: int, sdif: int) -> bool:
    """net/ipv{4,6}/udp.c: whether a group or broadcast datagram is for this sock."""
    if not inet_sk_takes(sk, ends.family) or (
        (sk.inet_daddr and not ends.is_from(sk.inet_daddr))
        or (sk.inet_dport and sk.inet_dport != ends.sport)
        or (sk.inet_rcv_saddr and not ends.is_to(sk.inet_rcv_saddr))
        or not udp_sk_bound_dev_eq(sk, dif, sdif)
    ):
        return False
    _, saddr, _, daddr, _ = ends.key()
    return af.mc_sf_allow(sk, daddr, saddr, sdif or dif)


def udp_queue_rcv_skb(sk: udp_sock, skb: sk_buff) -> int:
    """net/ipv4/udp.c: give a packet to a sock.

    A merged packet is queued whole without UDP_GRO too. It is charged for as much memory as its
    datagrams would take, and readers carve them off. It is split first if there is no room for all
    of them, or if a filter must see each. Takes ownership of skb.
    """
    if sk.encap_rcv is not None:
        return udp_encap_rcv(sk, skb)
    tunnel = skb.gso_size and not skb.gso_type & SKB_GSO_UDP_L4
    if not skb.gso_size or (sk.gro_enabled and not tunnel):
        return udp_queue_rcv_one_skb(sk, skb)
    if sk.sk_filter is None and sk.net.security is None and not tunnel:
        size = udp_charge_split(skb)
        if sk.sk_rmem_alloc + size <= sk.sk_rcvbuf and (
            size <= sk.sk_forward_alloc or sk_rmem_schedule(sk, skb, size)
        ):
            return udp_queue_rcv_one_skb(sk, skb)
    segs = skb.gso_segs
    split = udp_split(sk.net, sk.udp_mib, skb)
    if not split:
        sk.sk_drops += segs
    for seg in split:
        udp_queue_rcv_one_skb(sk, seg)
    return 0


def udp_encap_rcv(sk: udp_sock, skb: sk_buff) -> int:
    """net/ipv4/udp.c (in udp_queue_rcv_one_skb): a tunnel's datagrams, one by one. 0.

    Datagrams that the tunnel does not accept go to the socket. Takes ownership of skb.
    """
    encap_rcv = sk.encap_rcv
    assert encap_rcv is not None
    merged = skb.gso_type & SKB_GSO_UDP_L4
    for seg in udp_split(sk.net, sk.udp_mib, skb) if merged else [skb]:
        if encap_rcv(sk, seg) > 0:
            udp_queue_rcv_one_skb(sk, seg)
    return 0


def udp_queue_rcv_one_skb(sk: udp_sock, skb: sk_buff) -> int:
    """net/ipv4/udp.c (with __udp_enqueue_schedule_skb): ask policy and filter, queue, wake.

    Takes ownership of skb.
    """
    if not udp_policy_check(sk, skb):
        sk.udp_mib.InErrors += 1
        sk.sk_drops += 1
        kfree_skb_reason(sk.net, skb, drop_reason.SKB_DROP_REASON_XFRM_POLICY)
        return -1
    if (sk.sk_filter is not None or sk.net.security is not None) and sk_filter_trim_cap(
        sk, skb, UDP_HLEN
    ):
        net = sk.net
        sk.udp_mib.InErrors += 1
        sk.sk_drops += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_SOCKET_FILTER)
        return -1
    if sk.cmsg_flags:
        af_ops_of[sk.sk_family].pktinfo_prepare(sk, skb)
    # One datagram may overrun the limit, so a big one always fits an empty buffer.
    if sk.sk_rmem_alloc > sk.sk_rcvbuf:
        return udp_drop_full(sk, skb, "RcvbufErrors", drop_reason.SKB_DROP_REASON_SOCKET_RCVBUFF)
    queue = sk.sk_receive_queue
    truesize = skb_queue_owned(queue, skb, sk, sock_rfree, UDP_HLEN, sk.sk_forward_alloc)
    if not truesize:
        truesize = skb.truesize
        if truesize > sk.sk_forward_alloc and not sk_rmem_schedule(sk, skb, truesize):
            return udp_drop_full(sk, skb, "MemErrors", drop_reason.SKB_DROP_REASON_PROTO_MEM)
        if skb.destructor is not None:
            skb_orphan(skb)
        skb_queue_owned(queue, skb, sk, sock_rfree, UDP_HLEN, truesize)
    sk.sk_rmem_alloc += truesize
    sk.sk_forward_alloc -= truesize
    if not sk.sk_flags & SOCK_DEAD:
        sk_data_ready(sk)
    return 0


def udp_drop_full(sk: udp_sock, skb: sk_buff, counter: str, reason: int) -> int:
    """Drop and count a datagram for lack of memory."""
    net = sk.net
    mib = sk.udp_mib
    mib.InErrors += 1
    setattr(mib, counter, getattr(mib, counter) + 1)
    sk.sk_drops += 1
    kfree_skb_reason(net, skb, reason)
    return -1


def __skb_recv_udp(sk: udp_sock, flags: int, off: list[int] | None) -> sk_buff | None:
    """net/ipv4/udp.c: the next datagram; None after shutdown.

    A merged sk_buff of a socket without UDP_GRO gives one datagram after the other. `off` as in
    __skb_try_recv_from_queue. Raises: OSError EAGAIN, ENOBUFS, the pending error.
    """
    queue = sk.sk_receive_queue
    timeo_ns = 0 if flags & uapi.MSG_DONTWAIT else sk.sk_rcvtimeo_ns
    while True:
        if sk.sk_err:
            raise_sock_error(sk)
        if queue.qlen:
            # A peek offset may skip many datagrams, so all of them must be carved.
            far = off is not None and off[0]
            if not sk.gro_enabled and not (udp_carve_all(queue) if far else udp_carve(queue)):
                raise os_error(errno.ENOBUFS, "no memory for a datagram")
            skb: sk_buff | None = __skb_try_recv_from_queue(queue, flags, off)
            if skb is not None:
                return skb
        if timeo_ns <= 0:  # as on Linux, before the check for shutdown
            raise os_error(errno.EAGAIN, "no packet is waiting")
        if sk.sk_shutdown & uapi.RCV_SHUTDOWN:
            return None
        timeo_ns = __skb_wait_for_more_packets(sk, queue, timeo_ns)


def udp_rmem_release(sk: udp_sock, size: int) -> None:
    """net/ipv4/udp.c: uncharge `size` bytes of truesize, read from an sk_buff that stays queued."""
    sk.sk_rmem_alloc -= size
    sk.sk_forward_alloc = left = sk.sk_forward_alloc + size
    if left > RCV_HOARD:
        sk_mem_reclaim(sk)


def udp_recvmmsg(sk: udp_sock, vec: mmsg_recv, most: int, flags: int) -> int:
    """Read up to `most` datagrams in one step, as calls of udp_recvmsg would; returns how many.

    0: the caller must use udp_recvmsg for the next one, which may wait or has to return more than
    the data.
    """
    if (
        flags & ~uapi.MSG_DONTWAIT
        or sk.sk_err
        or sk.cmsg_flags
        or sk.gro_enabled
        or sk.sk_peek_off > 0
        or sk.sk_flags & FLAGS_RECV_CMSGS
        or (sk.pinet6 is not None and sk.pinet6.rx_pmtu is not None)
    ):
        return 0
    queue = sk.sk_receive_queue
    if not queue.qlen:
        if flags or sk.sk_rcvtimeo_ns < MAX_SCHEDULE_TIMEOUT or sk.sk_lock_owned:
            return 0
        __skb_wait_for_more_packets(sk, queue, MAX_SCHEDULE_TIMEOUT)
        if sk.sk_err:
            return 0
    got = vec.take(queue, sk.sk_family, most)
    if vec.released:
        udp_rmem_release(sk, vec.released)
    sk.udp_mib.InDatagrams += got
    if got and sk.sk_stamp_ns < 0:
        sk.sk_stamp_ns = 0
    return got


def udp_recvmsg(sk: udp_sock, msg: msghdr, length: int, flags: int) -> int:
    """net/ipv4/udp.c: read one datagram: bytes copied (its full length with MSG_TRUNC).

    Fills msg.msg_name, msg_flags and control messages. Raises: OSError.
    """
    if flags & uapi.MSG_ERRQUEUE:
        return af_ops_of[sk.sk_family].recv_error(sk, msg, length)
    peeking = flags & uapi.MSG_PEEK
    at = [max(sk.sk_peek_off, 0)] if peeking else None
    skb: sk_buff | None = __skb_recv_udp(sk, flags, at)
    if skb is None:
        return 0
    off: int = 0 if at is None else at[0]
    ulen = skb.len
    copied = skb_read_datagram(skb, msg, length, off)
    if not peeking:
        sk.udp_mib.InDatagrams += 1
        if sk.sk_peek_off > 0:
            taken = ulen if flags & uapi.MSG_TRUNC else copied
            sk.sk_peek_off = max(sk.sk_peek_off - taken, 0)
    elif sk.sk_peek_off >= 0:
        sk.sk_peek_off += copied
    if sk.sk_flags & FLAGS_RECV_CMSGS:
        sock_recv_cmsgs(msg, sk, skb)
    elif sk.sk_stamp_ns < 0:
        sk.sk_stamp_ns = 0
    if sk.gro_enabled and skb.gso_size:
        if msg.msg_control is None:
            msg.msg_flags |= uapi.MSG_CTRUNC
        else:
            put_cmsg(msg, uapi.SOL_UDP, uapi.UDP_GRO, int_bytes(skb.gso_size))
    if sk.cmsg_flags:
        af_ops_of[sk.sk_family].cmsg_recv(msg, sk, skb, UDP_HLEN, off)
    if msg.msg_noname:
        consume_skb(skb)
    else:
        sk.udp_from = msg.msg_name = udp_name_consume(skb, sk.sk_family, sk.udp_from)
    return ulen if flags & uapi.MSG_TRUNC else copied


# --- socket calls ------------------------------------------------------------------------


def udp_init_sock(sk: udp_sock) -> int:
    """net/ipv4/udp.c, net/ipv6/udp.c (udpv6_init_sock)"""
    sk.udp_mib = af_ops_of[sk.sk_family].udp_mib(sk.net)
    return 0


def udp_destroy_sock(sk: udp_sock) -> None:
    """net/ipv4/udp.c: discard the corked datagram."""
    sk.sk_flags |= SOCK_DEAD
    udp_flush_pending_frames(sk)


def udp_close(sk: udp_sock, timeout: int) -> None:
    """include/net/udp.h (udp_lib_close)"""
    sk_common_release(sk)


def udp_abort(sk: udp_sock, err: int) -> int:
    """net/ipv4/udp.c: fail every call on the socket with `err`."""
    sk.sk_err = err
    sk_error_report(sk)
    udp_disconnect(sk, 0)
    return 0


def udp_ioctl(sk: udp_sock, cmd: int, arg: Any = None) -> int:
    """net/ipv4/udp.c: SIOCINQ (length of the next datagram), SIOCOUTQ. Raises: OSError."""
    if cmd == uapi.SIOCOUTQ:
        return int(sk.sk_wmem_alloc)
    if cmd == uapi.SIOCINQ:
        skb = sk.sk_receive_queue.peek()
        if skb is None:
            return 0
        return skb.gso_size if skb.gso_size and not sk.gro_enabled else skb.len
    raise os_error(errno.ENOTTY, f"unknown request {cmd:#x}")


def udp_poll(file: object, sock: socket, wait: Any) -> int:
    """net/ipv4/udp.c"""
    return datagram_poll(file, sock, wait)


# --- start -------------------------------------------------------------------------------


def udp_init(net: Net) -> None:
    """net/ipv4/udp.c"""
    net.udp_table = udp_table()
    if "UDP" not in net.prot_mem:
        net.prot_mem["UDP"] = proto_mem_of_ram(net, 3, 7)
