"""net/ipv4/tcp_minisocks.c, the beginning: requests, and the full sockets they become.

    tcp_conn_request -> tcp_openreq_init_rwin       the window that a SYN-ACK offers
    tcp_rcv -> tcp_rcv_request -> tcp_check_req     a segment for a request
        icsk_af_ops.syn_recv_sock           the family's; with the handshake's last ACK, the child:
            tcp_syn_recv_route, tcp_syn_recv_child -> tcp_create_openreq_child, tcp_syn_recv_hash
        tcp_embryonic_reset                 a RST ends the request
    tcp_rcv_request -> tcp_child_process    the child gets the segment (tcp_rcv.py)

State is request_sock until the child, a tcp_sock, takes it over. Read tcp_check_req first.
"""

from __future__ import annotations

from collections.abc import Callable

from fastpath.base.skbuff import kfree_skb, sk_buff
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.dst import dst_entry, dst_metric_advmss, dst_mtu
from stack.core.inet_ecn import INET_ECN_MASK
from stack.core.sock import sk_setup_caps
from stack.core.sock_flags import SOCK_KEEPOPEN, SOCK_RCVBUF_LOCK
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import mod_timer
from stack.inet.early_demux import inet_sk_rx_dst_set
from stack.inet.inet_connection_sock import (
    inet_csk_clone_lock,
    inet_csk_complete_hashdance,
    inet_csk_prepare_forced_close,
    inet_csk_reqsk_queue_drop,
    inet_csk_reset_keepalive_timer,
    inet_rtx_syn_ack,
    reqsk_fastopen_remove,
    request_sock,
    sk_acceptq_is_full,
    tcp_reqsk_timeout,
)
from stack.inet.inet_hashtables import __inet_inherit_port, inet_ehash_nolisten
from stack.inet.tcp_accecn import tcp_accecn_option_init, tcp_accecn_req_syn_again
from stack.inet.tcp_challenge import tcp_oow_rate_limited
from stack.inet.tcp_cong import tcp_ca_openreq_child
from stack.inet.tcp_done import tcp_done, tcp_reset
from stack.inet.tcp_ecn import tcp_ecn_openreq_child
from stack.inet.tcp_md5 import tcp_md5_inherit
from stack.inet.tcp_options import tcp_parse_options
from stack.inet.tcp_reply import tcp_reqsk_ack
from stack.inet.tcp_sock import (
    M32,
    TCPHDR_ACK,
    TCPHDR_RST,
    TCPHDR_SYN,
    after,
    between,
    jiffies_s,
    keepalive_time_when,
    tcp_full_space,
    tcp_options_received,
    tcp_paws_reject,
    tcp_sock,
)
from stack.inet.tcp_timer import tcp_init_xmit_timers
from stack.inet.tcp_timewait import tcp_challenge_limited_mini, tcp_in_window
from stack.inet.tcp_window import (
    tcp_initialize_rcv_mss,
    tcp_mss_clamp,
    tcp_select_initial_window,
    tcp_sync_mss,
)


def tcp_openreq_init_rwin(
    req: request_sock, sk: tcp_sock, dst: dst_entry, cookie_mss: int = 0
) -> None:
    """Choose the window and its scale that the SYN-ACK offers.

    `cookie_mss`: the peer's MSS from a SYN cookie, from which Linux computes the window.
    """
    mss = cookie_mss
    if not mss:
        mss = tcp_mss_clamp(sk, dst_metric_advmss(dst)) - (12 if req.tstamp_ok else 0)
    window_clamp = sk.window_clamp
    full_space = tcp_full_space(sk)
    req.rsk_window_clamp = window_clamp or dst.metrics.get("window", 0)
    if sk.sk_flags & SOCK_RCVBUF_LOCK and (
        req.rsk_window_clamp > full_space or req.rsk_window_clamp == 0
    ):
        req.rsk_window_clamp = full_space
    req.rsk_rcv_wnd, req.rsk_window_clamp, req.rcv_wscale = tcp_select_initial_window(
        sk,
        full_space,
        mss,
        req.rsk_window_clamp,
        req.wscale_ok,
        dst.metrics.get("initrwnd", 0),
    )


def tcp_create_openreq_child(sk: tcp_sock, req: request_sock, skb: sk_buff) -> tcp_sock:
    """A full socket in SYN_RECV from a listener and a request that was acknowledged."""
    newsk: tcp_sock = inet_csk_clone_lock(sk, req)
    now = sk.net.clock.now_ns()
    seq = (req.rcv_isn + 1) & M32
    newsk.rcv_nxt = newsk.copied_seq = newsk.rcv_wup = seq
    newsk.segs_in = 1
    seq = (req.snt_isn + 1) & M32
    newsk.snd_sml = newsk.snd_una = newsk.snd_nxt = newsk.snd_up = seq
    newsk.write_seq = newsk.pushed_seq = seq
    newsk.high_seq = newsk.highest_sack_end = seq
    newsk.snd_wl1 = req.rcv_isn
    newsk.rttvar_us = 1_000_000
    newsk.min_rtt_stamp = newsk.icsk_ack_lrcvtime = newsk.lsndtime = newsk.rcv_tstamp = now
    newsk.total_retrans = req.num_retrans
    tcp_init_xmit_timers(newsk)
    if sk.sk_flags & SOCK_KEEPOPEN:
        inet_csk_reset_keepalive_timer(newsk, keepalive_time_when(newsk))
    tcp_ecn_openreq_child(newsk, req, skb)
    newsk.reordering = sk.net.sysctl.tcp_reordering
    rx_opt = newsk.rx_opt
    rx_opt.user_mss = sk.rx_opt.user_mss
    rx_opt.tstamp_ok = req.tstamp_ok
    rx_opt.sack_ok = 1 if req.sack_ok else 0
    newsk.window_clamp = req.rsk_window_clamp
    newsk.rcv_ssthresh = req.rsk_rcv_wnd
    newsk.rcv_wnd = req.rsk_rcv_wnd
    newsk.rcv_mwnd_seq = (newsk.rcv_wup + newsk.rcv_wnd) & M32
    rx_opt.wscale_ok = req.wscale_ok
    if rx_opt.wscale_ok:
        rx_opt.snd_wscale = req.snd_wscale
        rx_opt.rcv_wscale = req.rcv_wscale
    else:
        newsk.window_clamp = min(newsk.window_clamp, 65535)
    newsk.snd_wnd = skb.th_window << (rx_opt.snd_wscale & 15)
    newsk.max_window = newsk.snd_wnd
    if rx_opt.tstamp_ok:
        newsk.tsoffset = req.ts_off
        rx_opt.ts_recent = req.ts_recent
        rx_opt.ts_recent_stamp = jiffies_s(sk.net)
        newsk.tcp_header_len = 32
    if req.num_timeout:
        newsk.total_rto = req.num_timeout
        newsk.undo_marker = req.snt_isn or 1
        newsk.undo_retrans = 0
        newsk.retrans_stamp = req.snt_synack
        newsk.total_rto_time = now - req.snt_synack
        newsk.total_rto_recoveries = 1
    rx_opt.mss_clamp = req.mss
    newsk.saved_syn = req.saved_syn
    sk.net.mib.tcp.PassiveOpens += 1
    return newsk


def tcp_check_req(sk: tcp_sock, skb: sk_buff, req: request_sock, fastopen: bool) -> tcp_sock | None:
    """A segment for a request (RFC 9293 3.10.7.4 in SYN-RECEIVED).

    Returns the new child; or `sk`, the listener, to make it answer (with a RST). Takes ownership of
    skb when it returns None. With `fastopen` the child `sk` already exists; None or `sk` says
    whether it continues with the segment.
    """
    net = sk.net
    flags = skb.tcp_flags
    seq, end_seq = skb.seq, skb.end_seq
    flg = flags & (TCPHDR_RST | TCPHDR_SYN | TCPHDR_ACK)
    linux = net.mib.linux
    tmp_opt: tcp_options_received = tcp_options_received()
    paws_reject = tsecr_reject = False
    if skb.l4_hlen > 20:
        tcp_parse_options(net, skb, tmp_opt, False)
        if tmp_opt.saw_tstamp:
            tmp_opt.ts_recent = req.ts_recent
            if tmp_opt.rcv_tsecr:
                # Only a time stamp of one of our SYN-ACKs can come back, or of a child's data.
                first, last = req.snt_tsval_first, req.snt_tsval_last
                if req.tstamp_ok and not fastopen:
                    tsecr_reject = not between(tmp_opt.rcv_tsecr, first, last)
                tmp_opt.rcv_tsecr = (tmp_opt.rcv_tsecr - req.ts_off) & M32
            tmp_opt.ts_recent_stamp = jiffies_s(sk.net) - tcp_reqsk_timeout(req) // NSEC_PER_SEC
            paws_reject = tcp_paws_reject(tmp_opt, bool(flags & TCPHDR_RST), jiffies_s(sk.net))
    if seq == req.rcv_isn and flg == TCPHDR_SYN and not paws_reject:
        # A retransmitted SYN: our SYN-ACK was lost.
        limited = tcp_oow_rate_limited(req, skb, "TCPACKSkippedSynRecv")
        if req.accecn_ok and not limited:
            tcp_accecn_req_syn_again(req, skb)
        if not limited and not inet_rtx_syn_ack(sk, req) and not fastopen:
            mod_timer(req.rsk_timer, net.clock.now_ns() + tcp_reqsk_timeout(req))
        kfree_skb(skb)
        return None
    acks = flg & (TCPHDR_ACK | TCPHDR_RST) == TCPHDR_ACK and not fastopen
    if acks and skb.ack_seq != (req.snt_isn + 1) & M32:
        return sk
    window = min(req.rsk_rcv_wnd, 65535)
    reject = paws_reject or tsecr_reject
    if reject or not tcp_in_window(seq, end_seq, req.rcv_nxt, (req.rcv_nxt + window) & M32):
        if not flg & TCPHDR_RST and not tcp_oow_rate_limited(req, skb, "TCPACKSkippedSynRecv"):
            tcp_reqsk_ack(sk, skb, req)
        reason = drop_reason.SKB_DROP_REASON_TCP_OVERWINDOW
        if paws_reject:
            linux.PAWSEstab += 1
            reason = drop_reason.SKB_DROP_REASON_TCP_RFC7323_PAWS
        elif tsecr_reject:
            linux.TSEcrRejected += 1
            reason = drop_reason.SKB_DROP_REASON_TCP_RFC7323_TSECR
        kfree_skb_reason(net, skb, reason)
        return None
    if seq == req.rcv_isn:
        flg &= ~TCPHDR_SYN  # the SYN in front of the window is cut off
    if flg & TCPHDR_RST and seq != req.rcv_nxt:
        # RFC 5961 3.2, RFC 9293 3.10.7.4: whatever ACK number a reset has.
        if not tcp_challenge_limited_mini(req):
            tcp_reqsk_ack(sk, skb, req)
        kfree_skb(skb)
        return None
    if flg & (TCPHDR_RST | TCPHDR_SYN):
        net.mib.tcp.AttemptFails += 1
        if fastopen:
            tcp_fastopen_embryonic_reset(sk, skb, req, flg)
        else:
            tcp_embryonic_reset(sk, skb, req, flg)
        kfree_skb(skb)
        return None
    if not flg & TCPHDR_ACK:
        kfree_skb(skb)
        return None
    if tmp_opt.accecn and req.accecn_ok:
        req.saw_accecn_opt = tcp_accecn_option_init(skb, tmp_opt.accecn)
    if fastopen:
        return sk
    if req.num_timeout < sk.defer_accept and end_seq == (req.rcv_isn + 1) & M32:
        # TCP_DEFER_ACCEPT: the connection is accepted only when data follows the bare ACK.
        req.acked = True
        linux.TCPDeferAcceptDrop += 1
        kfree_skb(skb)
        return None
    child = sk.icsk_af_ops.syn_recv_sock(sk, skb, req, None, req)
    if child is None:
        if net.sysctl.tcp_abort_on_overflow:
            tcp_embryonic_reset(sk, skb, req, flg)
        else:
            req.acked = True
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_TCP_LISTEN_OVERFLOW)
        return None
    if tmp_opt.saw_tstamp and not after(seq, req.rcv_nxt):
        child.rx_opt.ts_recent = tmp_opt.rcv_tsval
    return inet_csk_complete_hashdance(sk, child, req)


def tcp_embryonic_reset(sk: tcp_sock, skb: sk_buff, req: request_sock, flg: int) -> None:
    """End the request with a RST, ours or the peer's."""
    if not flg & TCPHDR_RST:
        req.rsk_ops.send_reset(sk, skb)
    inet_csk_reqsk_queue_drop(sk, req)
    sk.net.mib.linux.EmbryonicRsts += 1


def tcp_fastopen_embryonic_reset(
    child: tcp_sock, skb: sk_buff, req: request_sock, flg: int
) -> None:
    """tcp_check_req's embryonic_reset for a Fast Open child: an acceptable RST ends it."""
    if flg & TCPHDR_RST:
        reqsk_fastopen_remove(child, req, True)
        tcp_reset(child)
    else:
        req.rsk_ops.send_reset(child, skb)


def tcp_syn_recv_route(
    sk: tcp_sock,
    req: request_sock,
    dst: dst_entry | None,
    route_req: Callable[[tcp_sock, request_sock], dst_entry | None],
) -> dst_entry | None:
    """syn_recv_sock: `dst`, or the route that `route_req` finds. None: no route or no room."""
    linux = sk.net.mib.linux
    if sk_acceptq_is_full(sk):
        linux.ListenOverflows += 1
        linux.ListenDrops += 1
        return None
    if dst is None:
        dst = route_req(sk, req)
        if dst is None:
            linux.ListenDrops += 1
    return dst


def tcp_request_tos(sk: tcp_sock, skb: sk_buff, tos: int) -> int:
    """tcp_v4_send_synack: a SYN-ACK's class: the listener's, or the SYN's. Borrows skb."""
    if sk.net.sysctl.tcp_reflect_tos:
        tos = (skb.ip_dsfield & ~INET_ECN_MASK) | (tos & INET_ECN_MASK)
    return tos


def tcp_syn_recv_child(sk: tcp_sock, skb: sk_buff, req: request_sock) -> tcp_sock:
    """syn_recv_sock: the child of listener sk, without its family's part."""
    newsk = tcp_create_openreq_child(sk, req, skb)
    newsk.mc_index = skb.skb_iif
    newsk.rcv_tos = skb.ip_dsfield
    newsk.synack_req = req
    if sk.md5sig_info is not None:
        tcp_md5_inherit(sk, newsk, req)
    inet_sk_rx_dst_set(newsk, skb)
    return newsk


def tcp_syn_recv_hash(
    sk: tcp_sock, newsk: tcp_sock, dst: dst_entry, req_unhash: request_sock | None
) -> tcp_sock | None:
    """syn_recv_sock: apply the route to listener sk's child, hash and return it.

    None: another packet created the child first, or the request is gone.
    """
    sk_setup_caps(newsk, dst)
    tcp_ca_openreq_child(newsk, dst)
    tcp_sync_mss(newsk, dst_mtu(dst))
    newsk.advmss = tcp_mss_clamp(sk, dst_metric_advmss(dst))
    tcp_initialize_rcv_mss(newsk)
    if __inet_inherit_port(sk, newsk) < 0 or not inet_ehash_nolisten(newsk, req_unhash):
        inet_csk_prepare_forced_close(newsk)
        tcp_done(newsk)
        return None
    return newsk
