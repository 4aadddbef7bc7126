"""XTP's input from IP: packets of protocol 36, and ICMP errors about our packets.

    ip_local_deliver_finish => xtp_rcv
        xtp_bytes, xtp_checksum_ok, xtp_parse       one packet, without padding
        xtp_find                            its association, by key (and sender)
            sk_add_backlog                  the socket is owned: xtp_backlog_rcv later
            xtp_rcv_packet                  stream.py -> xtp_input (input.py)
        xtp_rcv_first                       no association:
            xtp_dgram_rcv                   a datagram's FIRST (datagram.py)
            xtp_new_child                   a stream's FIRST: the listener gets a child
            xtp_send_diag                   no listener, no such service, no such context
    icmp_unreach => xtp_err                 an ICMP error quotes one of our packets

State in `net.xtp`: `initiated` has associations by the key that we chose, `accepted` those by the
peer's address and key. `answered` has the last acknowledged datagrams, so that a repeated one is
answered and not delivered again. Read xtp_rcv first.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import (
    PACKET_HOST,
    consume_skb,
    kfree_skb,
    pskb_may_pull,
    sk_buff,
    skb_copy_bits,
)
from fastpath.net.hdr import icmp_hdr, ip_hdr, iphdr_at
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.dst import dst_mtu
from stack.core.sock import (
    release_sock,
    sk_add_backlog,
    sk_clone_lock,
    sk_data_ready,
    sk_filter_trim_cap,
    sk_setup_caps,
    sock_owned_by_user,
)
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.uapi import SOCK_DGRAM, SOCK_STREAM
from stack.ipv4 import icmp_codes
from stack.ipv4.icmp_codes import icmp_err_convert
from stack.ipv4.ip_output import ip_sk_accept_pmtu
from stack.ipv4.route import ipv4_sk_redirect, ipv4_sk_update_pmtu
from stack.net import Net
from stack.xtp.context import XTP_ACTIVE, XTP_OPENING, xtp_context, xtp_end
from stack.xtp.datagram import xtp_answer_acked, xtp_dgram_rcv
from stack.xtp.packet import (
    DREQ,
    END,
    SREQ,
    XTP_DIAG,
    XTP_DIAG_INVALID,
    XTP_DIAG_REFUSED,
    XTP_FIRST,
    XTP_FIRST_BYTES,
    XTP_HLEN,
    XTP_KEY_MASK,
    XTP_RTN,
    XTP_SERVICE_ACKED_DATAGRAM,
    XTP_SERVICE_DATAGRAM,
    XTP_SERVICE_STREAM,
    XTP_SERVICE_TRANSACTION,
    XTP_VAL_BAD_STATE,
    XTP_VAL_NO_LISTENER,
    XTP_VAL_NO_PROVIDER,
    xtp_build,
    xtp_checksum_ok,
    xtp_diag_segment,
    xtp_packet,
    xtp_parse,
)
from stack.xtp.stream import xtp_rcv_packet
from stack.xtp.xmit import xtp_alloc_skb, xtp_mss, xtp_new_assoc, xtp_push, xtp_route, xtp_send_to
from stack.xtp.xtp_sock import xtp_assoc, xtp_lookup, xtp_sock

# --- packets in --------------------------------------------------------------------------------


def xtp_rcv(skb: sk_buff) -> int:
    """Handler of protocol 36; data at the transport header. Takes ownership of skb."""
    net = skb.dst.net
    mib = net.xtp.mib
    mib.InPkts += 1
    if skb.pkt_type != PACKET_HOST:
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_OTHERHOST)
        return 0
    packet = xtp_bytes(skb)
    if packet is not None and not xtp_checksum_ok(packet):
        mib.InCsumErrors += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_SKB_CSUM)
        return 0
    pkt = xtp_parse(packet) if packet is not None else None
    if pkt is None:
        mib.InErrors += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL)
        return 0
    pkt.arrived_ns = skb.tstamp_ns
    if pkt.format == XTP_DIAG:
        mib.InDiags += 1
    iph = ip_hdr(skb)
    saddr = iph.saddr
    daddr = iph.daddr
    assoc = xtp_find(net, pkt, saddr)
    if assoc is not None:
        sk = assoc.sk
        if xtp_filter(sk, skb, skb.len):
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_SOCKET_FILTER)
            return 0
        if sock_owned_by_user(sk):
            if sk_add_backlog(sk, skb, sk.sk_rcvbuf + sk.sk_sndbuf):
                kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_SOCKET_BACKLOG)
            return 0
        xtp_rcv_packet(assoc, pkt)
        consume_skb(skb)
        return 0
    reason = xtp_rcv_first(net, pkt, saddr, daddr, skb)
    if reason == drop_reason.SKB_NOT_DROPPED_YET:
        consume_skb(skb)
    else:
        kfree_skb_reason(net, skb, reason)
    return 0


def xtp_filter(sk: xtp_sock, skb: sk_buff, cap: int) -> bool:
    """Whether the socket's filter or a security module rejects the packet, data at its header.

    A rejection is counted. A filter leaves at least `cap` bytes of a packet. Borrows skb.
    """
    if sk.sk_filter is None and sk.net.security is None:
        return False
    if not sk_filter_trim_cap(sk, skb, cap):
        return False
    sk.sk_drops += 1
    return True


def xtp_bytes(skb: sk_buff) -> bytes | None:
    """The packet without padding; None if it is shorter than its dlen field says."""
    size = skb.len
    if size < XTP_HLEN:
        return None
    packet = skb_copy_bits(skb, 0, size)
    dlen = int.from_bytes(packet[12:16], "big")
    if dlen > size - XTP_HLEN:
        return None
    return packet[: XTP_HLEN + dlen]


def xtp_find(net: Net, pkt: xtp_packet, saddr: int) -> xtp_assoc | None:
    """The association of a packet from saddr."""
    if pkt.rtn:
        assoc = net.xtp.initiated.get(pkt.key)
        return assoc if assoc is not None and assoc.daddr == saddr else None
    return net.xtp.accepted.get((saddr, pkt.key))


def xtp_backlog_rcv(sk: xtp_sock, skb: sk_buff) -> int:
    """proto.backlog_rcv: a packet queued while the socket was owned. Takes ownership of skb."""
    packet = xtp_bytes(skb)
    pkt = xtp_parse(packet) if packet is not None else None
    saddr = ip_hdr(skb).saddr
    arrived_ns = skb.tstamp_ns
    kfree_skb(skb)
    if pkt is not None:
        pkt.arrived_ns = arrived_ns
        assoc = xtp_find(sk.net, pkt, saddr)
        if assoc is not None and assoc.sk is sk:
            xtp_rcv_packet(assoc, pkt)
    return 0


def xtp_rcv_first(net: Net, pkt: xtp_packet, saddr: int, daddr: int, skb: sk_buff) -> int:
    """Process a packet of no association; a FIRST may begin one.

    SKB_NOT_DROPPED_YET, or the drop reason. Borrows skb.
    """
    known = net.xtp.answered.get((saddr, pkt.key)) if not pkt.rtn else None
    if known is not None:
        net.xtp.mib.DupDatagrams += 1
        if pkt.options & (SREQ | DREQ):
            known.sync = pkt.sync
            xtp_answer_acked(net.xtp.ctl_sk, known)
        return drop_reason.SKB_NOT_DROPPED_YET
    if pkt.format == XTP_DIAG:
        return drop_reason.SKB_DROP_REASON_NO_SOCKET
    if pkt.format != XTP_FIRST or pkt.rtn or pkt.tspec is None:
        if not pkt.options & END:
            xtp_send_diag(net, pkt, saddr, daddr, XTP_DIAG_INVALID, XTP_VAL_BAD_STATE)
        return drop_reason.SKB_DROP_REASON_NO_SOCKET
    service = pkt.tspec.service
    if service in (XTP_SERVICE_DATAGRAM, XTP_SERVICE_ACKED_DATAGRAM):
        kind = SOCK_DGRAM
    elif service in (XTP_SERVICE_TRANSACTION, XTP_SERVICE_STREAM):
        kind = SOCK_STREAM
    else:
        xtp_send_diag(net, pkt, saddr, daddr, XTP_DIAG_REFUSED, XTP_VAL_NO_PROVIDER)
        return drop_reason.SKB_DROP_REASON_NO_SOCKET
    sk = xtp_lookup(net, kind, saddr, pkt.sport, daddr, pkt.dport, skb.dev.ifindex)
    if sk is None:
        net.xtp.mib.NoPorts += 1
        if service != XTP_SERVICE_DATAGRAM:
            xtp_send_diag(net, pkt, saddr, daddr, XTP_DIAG_REFUSED, XTP_VAL_NO_LISTENER)
        return drop_reason.SKB_DROP_REASON_NO_SOCKET
    if kind == SOCK_DGRAM:
        if xtp_filter(sk, skb, XTP_HLEN + XTP_FIRST_BYTES):
            return drop_reason.SKB_DROP_REASON_SOCKET_FILTER
        xtp_dgram_rcv(sk, pkt, saddr, daddr, skb)
    else:
        if xtp_filter(sk, skb, skb.len):
            return drop_reason.SKB_DROP_REASON_SOCKET_FILTER
        xtp_new_child(sk, pkt, saddr, daddr)
    return drop_reason.SKB_NOT_DROPPED_YET


def xtp_new_child(listener: xtp_sock, pkt: xtp_packet, saddr: int, daddr: int) -> None:
    """Create the association of a listener's FIRST, which accept will return.

    With a full backlog the FIRST is ignored; its sender repeats it.
    """
    net = listener.net
    if listener.sk_ack_backlog > listener.sk_max_ack_backlog:
        net.xtp.mib.ListenOverflows += 1
        listener.sk_drops += 1
        return
    try:
        rt = xtp_route(listener, daddr, saddr)
    except OSError:
        return
    child = sk_clone_lock(listener)
    assert pkt.tspec is not None
    child.service = pkt.tspec.service
    child.inet_num = child.inet_sport = pkt.dport
    child.inet_saddr = child.inet_rcv_saddr = daddr
    child.inet_daddr = saddr
    child.inet_dport = pkt.sport
    child.inet_id = net.random.getrandbits(16)
    child.sk_state = TCP_ESTABLISHED
    sk_setup_caps(child, rt)
    ctx = xtp_context(pkt.key, False, b"", child.service)
    ctx.mss = xtp_mss(dst_mtu(rt))
    ctx.state = XTP_ACTIVE
    child.assoc = assoc = xtp_new_assoc(child, ctx, daddr, saddr)
    listener.accept_queue.append(child)
    listener.sk_ack_backlog += 1
    net.xtp.mib.PassiveOpens += 1
    xtp_rcv_packet(assoc, pkt)
    release_sock(child)
    sk_data_ready(listener)


def xtp_send_diag(net: Net, pkt: xtp_packet, saddr: int, daddr: int, code: int, value: int) -> None:
    """Answer a packet that cannot be processed, other than a DIAG, by a DIAG."""
    text = {
        XTP_VAL_NO_LISTENER: "no listener",
        XTP_VAL_NO_PROVIDER: "no such service",
        XTP_VAL_BAD_STATE: "no such context",
    }[value]
    key = pkt.key if pkt.rtn else pkt.key | XTP_RTN
    segment = xtp_diag_segment(code, value, text)
    packet = xtp_build(key, 0, XTP_DIAG, 0, pkt.sync, 0, segment, b"")
    sk = net.xtp.ctl_sk
    skb = xtp_alloc_skb(sk, packet)
    if skb is not None:
        net.xtp.mib.OutDiags += 1
        net.xtp.mib.OutPkts += 1
        xtp_send_to(sk, skb, daddr, saddr)


# --- ICMP ----------------------------------------------------------------------------------------


def xtp_err(skb: sk_buff, info: int) -> int:
    """An ICMP error quotes one of our packets; data at the quoted IP header. Borrows skb.

    Its key is in the eight bytes of every quote. A hard error ends a context that is being
    opened; later it is the socket's soft error.
    """
    net = skb.dst.net
    iph = iphdr_at(skb, 0)
    off = iph.ihl * 4
    if not pskb_may_pull(skb, off + 8):
        return 0
    raw = int.from_bytes(skb_copy_bits(skb, off, 8), "big")
    key = raw & XTP_KEY_MASK
    if raw > XTP_KEY_MASK:
        assoc = net.xtp.accepted.get((iph.daddr, key))
    else:
        assoc = net.xtp.initiated.get(key)
    if assoc is None or assoc.daddr != iph.daddr:
        net.mib.icmp.InErrors += 1
        return -errno.ENOENT
    sk = assoc.sk
    icmph = icmp_hdr(skb)
    kind, code = icmph.type, icmph.code
    if kind == icmp_codes.ICMP_REDIRECT:
        if not sock_owned_by_user(sk):
            ipv4_sk_redirect(skb, sk)
        return 0
    err = errno.EHOSTUNREACH
    if kind == icmp_codes.ICMP_PARAMETERPROB:
        err = errno.EPROTO
    elif kind == icmp_codes.ICMP_DEST_UNREACH and code == icmp_codes.ICMP_FRAG_NEEDED:
        if ip_sk_accept_pmtu(sk):
            ipv4_sk_update_pmtu(skb, sk, info)
            if sk.sk_type == SOCK_STREAM:
                assoc.ctx.mss = min(assoc.ctx.mss, xtp_mss(max(info, 68)))
        return 0
    elif kind == icmp_codes.ICMP_DEST_UNREACH and code <= icmp_codes.NR_ICMP_UNREACH:
        err = icmp_err_convert[code].errno
    elif kind != icmp_codes.ICMP_TIME_EXCEEDED:
        return 0
    if assoc.ctx.state == XTP_OPENING and not sock_owned_by_user(sk):
        xtp_end(assoc.ctx, err, net.clock.now_ns(), False)
        xtp_push(assoc)
    else:
        sk.sk_err_soft = err
    return 0
