"""net/ipv4/tcp_ipv4.c, net/ipv6/tcp_ipv6.c: what both families' receive functions share.

tcp_v4_rcv, tcp_v6_rcv           entries of inet_protos, inet6_protos
  tcp_rcv                        header, checksum, look-up; TIME_WAIT, requests, backlog
  tcp_v4_do_rcv, tcp_v6_do_rcv   for the socket that tcp_rcv returned; also sk_backlog_rcv
    tcp_do_rcv
      tcp_rcv_established
      tcp_rcv_state_process      all other states
"""

from __future__ import annotations

from fastpath.base.skbuff import CHECKSUM_UNNECESSARY, kfree_skb, sk_buff, skb_copy_bits
from fastpath.net.hdr import ip_hdr, ipv6_hdr, tcp_fill_cb, tcp_hdr_validate
from fastpath.net.inetkey import inet_key
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.l3mdev import inet_sdif
from stack.core.netdevice import net_device
from stack.core.sock import (
    sk_add_backlog,
    sk_backlog_of,
    sk_data_ready,
    sk_filter_trim_cap,
    sock_common,
    sock_owned_by_user,
)
from stack.core.tcp_states import (
    TCP_ESTABLISHED,
    TCP_LISTEN,
    TCP_NEW_SYN_RECV,
    TCP_SYN_RECV,
    TCP_TIME_WAIT,
)
from stack.core.uapi import AF_INET, TCP_HLEN
from stack.inet.early_demux import inet_sk_rx_dst_set
from stack.inet.inet_connection_sock import inet_csk_reqsk_queue_drop, request_sock
from stack.inet.inet_hashtables import __inet_lookup_listener, __inet_lookup_skb
from stack.inet.inet_timewait_sock import inet_timewait_sock, inet_twsk_deschedule_put
from stack.inet.tcp_family import tcp_family_ops
from stack.inet.tcp_input import tcp_rcv_established, tcp_rcv_state_process
from stack.inet.tcp_md5 import TCPOLEN_MD5SIG, tcp_inbound_md5_hash
from stack.inet.tcp_minisocks import tcp_check_req
from stack.inet.tcp_options import tcp_parse_auth_options
from stack.inet.tcp_reply import tcp_timewait_ack
from stack.inet.tcp_sock import TCPHDR_SYN, tcp_sock
from stack.inet.tcp_syncookies import cookie_check
from stack.inet.tcp_timewait import (
    TCP_TW_ACK,
    TCP_TW_ACK_OOW,
    TCP_TW_RST,
    TCP_TW_SYN,
    tcp_timewait_state_process,
)
from stack.inet.xfrm_policy import XFRM_POLICY_IN, xfrm_policy_check


def tcp_rcv(skb: sk_buff, ops: tcp_family_ops) -> tcp_sock | None:
    """Find the socket to process a segment, data at the TCP header; None: it was handled.

    Takes ownership of skb when it returns None.
    """
    dev: net_device = skb.dev
    net = dev.net
    if skb.pkt_type:  # PACKET_HOST
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_OTHERHOST)
        return None
    mib = net.mib.tcp
    mib.InSegs += skb.gso_segs or 1
    hlen = tcp_hdr_validate(skb)
    if not hlen:
        if skb.len >= TCP_HLEN and skb_copy_bits(skb, 12, 1)[0] >> 4 < TCP_HLEN >> 2:
            mib.InErrs += 1  # but not for a header longer than the segment
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL)
        return None
    if skb.ip_summed != CHECKSUM_UNNECESSARY and ops.csum_bad(skb):
        mib.InCsumErrors += 1
        mib.InErrs += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_TCP_CSUM)
        return None
    sk = __inet_lookup_skb(net.tcp_hashinfo, skb)
    while True:
        if sk is None:
            # RFC 9293 3.10.7.1
            if xfrm_policy_check(None, XFRM_POLICY_IN, skb, ops.family):
                tcp_fill_cb(skb)
                ops.send_reset(None, skb)
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NO_SOCKET)
            return None
        entry: sock_common = sk
        sk_state = entry.sk_state
        if sk_state == TCP_TIME_WAIT:
            if not xfrm_policy_check(None, XFRM_POLICY_IN, skb, ops.family):
                kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_XFRM_POLICY)
                return None
            tcp_fill_cb(skb)
            sk = tcp_rcv_time_wait(sk, skb, ops)
            if sk is None:
                return None
            break
        if sk_state == TCP_NEW_SYN_RECV:
            req = sk
            sk = req.rsk_listener
            reason = drop_reason.SKB_DROP_REASON_XFRM_POLICY
            if xfrm_policy_check(sk, XFRM_POLICY_IN, skb, ops.family):
                reason = tcp_inbound_hash(sk, skb, hlen, ops.family)
            if reason:
                sk.sk_drops += 1
                kfree_skb_reason(net, skb, reason)
                return None
            if sk.sk_state != TCP_LISTEN:
                inet_csk_reqsk_queue_drop(sk, req)
                sk = __inet_lookup_skb(net.tcp_hashinfo, skb)
                continue
            if tcp_filter(sk, skb):
                kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_SOCKET_FILTER)
                return None
            tcp_fill_cb(skb)
            return tcp_rcv_request(sk, skb, req, ops)
        if sk_state == TCP_LISTEN:
            net.tcp_tw_isn = 0
        break
    tp: tcp_sock = sk
    if (tp.min_ttl or tp.min_hopcount) and too_few_hops(tp, skb, ops.family):
        net.mib.linux.TCPMinTTLDrop += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_TCP_MINTTL)
        return None
    reason = drop_reason.SKB_DROP_REASON_XFRM_POLICY
    if xfrm_policy_check(tp, XFRM_POLICY_IN, skb, ops.family):
        reason = tcp_inbound_hash(tp, skb, hlen, ops.family)
    if reason:
        tp.sk_drops += 1
        kfree_skb_reason(net, skb, reason)
        return None
    if tcp_filter(tp, skb):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_SOCKET_FILTER)
        return None
    tcp_fill_cb(skb)
    if tp.sk_state == TCP_LISTEN:
        return tp
    tcp_segs_in(tp, skb, hlen)
    if not sock_owned_by_user(tp):
        return tp
    if tcp_add_backlog(tp, skb):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_SOCKET_BACKLOG)
    return None


def tcp_segs_in(sk: tcp_sock, skb: sk_buff, hlen: int) -> None:
    """include/net/tcp.h: count a segment with a header of `hlen` bytes, data at that header."""
    segs: int = skb.gso_segs or 1
    sk.segs_in += segs
    if skb.len > hlen:
        sk.data_segs_in += segs


def too_few_hops(sk: tcp_sock, skb: sk_buff, family: int) -> bool:
    """Whether a packet came from farther than IP_MINTTL or IPV6_MINHOPCOUNT allows (RFC 5082)."""
    if family == AF_INET:
        return ip_hdr(skb).ttl < sk.min_ttl
    return ipv6_hdr(skb).hop_limit < sk.min_hopcount


def tcp_inbound_hash(sk: tcp_sock, skb: sk_buff, hlen: int, family: int) -> int:
    """include/net/tcp.h: why a segment's signature, or its absence, is wrong; 0: it is right.

    `hlen`: bytes of the TCP header, where data is. Shorter ones have no room for a signature.
    """
    at = tcp_parse_auth_options(skb, hlen) if hlen >= TCP_HLEN + TCPOLEN_MD5SIG else 0
    if at < 0:
        return drop_reason.SKB_DROP_REASON_TCP_AUTH_HDR
    if not at and sk.md5sig_info is None:
        return 0
    return tcp_inbound_md5_hash(sk, skb, at, family)


def tcp_rcv_request(
    sk: tcp_sock, skb: sk_buff, req: request_sock, ops: tcp_family_ops
) -> tcp_sock | None:
    """A segment for a request of listener sk: sk if it should process it, else None.

    Takes ownership of skb when it returns None.
    """
    nsk = tcp_check_req(sk, skb, req, False)
    if nsk is sk:
        return sk
    if nsk is not None and tcp_child_process(sk, nsk, skb):
        ops.send_reset(nsk, skb)
        kfree_skb(skb)
    return None


def tcp_child_process(parent: tcp_sock, child: tcp_sock, skb: sk_buff) -> int:
    """net/ipv4/tcp_minisocks.c: pass a new child its first segment; wake the listener.

    Non-zero: answer with a RST. Takes ownership of skb unless it returns non-zero.
    """
    tcp_segs_in(child, skb, skb.l4_hlen)
    ret = 0
    if not sock_owned_by_user(child):
        state = child.sk_state
        ret = tcp_rcv_state_process(child, skb)
        if state == TCP_SYN_RECV and child.sk_state != state and parent.sk_state == TCP_LISTEN:
            sk_data_ready(parent)
    else:
        sk_backlog_of(child).queue_tail(skb)
        child.sk_backlog_len += skb.truesize
    return ret


def tcp_rcv_time_wait(tw: inet_timewait_sock, skb: sk_buff, ops: tcp_family_ops) -> tcp_sock | None:
    """A segment for a socket in TIME_WAIT; returns the listener if a new SYN is for it.

    Takes ownership of skb when it returns None.
    """
    net = tw.net
    verdict = tcp_timewait_state_process(tw, skb)
    if verdict == TCP_TW_SYN:
        sk2 = __inet_lookup_listener(
            net.tcp_hashinfo, skb, inet_key(skb), skb.skb_iif, inet_sdif(skb)
        )
        if sk2 is not None:
            inet_twsk_deschedule_put(tw)
            return sk2
        verdict = TCP_TW_ACK
        net.tcp_tw_isn = 0
    if verdict in (TCP_TW_ACK, TCP_TW_ACK_OOW):
        tcp_timewait_ack(tw, skb, ops, verdict == TCP_TW_ACK_OOW)
    elif verdict == TCP_TW_RST:
        ops.send_reset(tw, skb)
        inet_twsk_deschedule_put(tw)
    kfree_skb(skb)
    return None


def tcp_do_rcv(sk: tcp_sock, skb: sk_buff, ops: tcp_family_ops) -> None:
    """Process a segment for a socket that is not owned, or whose owner processes the backlog.

    Takes ownership of skb.
    """
    if sk.sk_state == TCP_ESTABLISHED:
        if sk.sk_rx_dst is not skb.dst:
            inet_sk_rx_dst_set(sk, skb)
        tcp_rcv_established(sk, skb)
        return
    if sk.sk_state == TCP_LISTEN and not skb.tcp_flags & TCPHDR_SYN:
        nsk = cookie_check(sk, skb, ops)
        if nsk is None:
            kfree_skb(skb)
            return
        if nsk is not sk:
            if tcp_child_process(sk, nsk, skb):
                ops.send_reset(nsk, skb)
                kfree_skb(skb)
            return
    reason = tcp_rcv_state_process(sk, skb)
    if reason:
        ops.send_reset(sk, skb)
        kfree_skb_reason(sk.net, skb, reason)


def tcp_filter(sk: tcp_sock, skb: sk_buff) -> bool:
    """net/ipv4/tcp_ipv4.c: True if the socket's filter drops the segment, data at its header.

    Call it before tcp_fill_cb: bytes that the filter trims must not count as received.
    """
    if sk.sk_filter is None and sk.net.security is None:
        return False
    hlen = skb_copy_bits(skb, 12, 1)[0] >> 4 << 2
    return sk_filter_trim_cap(sk, skb, hlen) != 0


def tcp_add_backlog(sk: tcp_sock, skb: sk_buff) -> bool:
    """The socket is owned: queue skb for release_sock. True: no room (skb not taken)."""
    limit = sk.sk_rcvbuf + (sk.sk_sndbuf >> 1) + 65536
    if sk_add_backlog(sk, skb, limit):
        sk.net.mib.linux.TCPBacklogDrop += 1
        return True
    return False
