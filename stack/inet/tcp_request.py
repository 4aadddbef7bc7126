"""net/ipv4/tcp_input.c: the passive open: from a SYN to a request and its SYN-ACK.

tcp_conn_request            a SYN for a listener
    tcp_try_fastopen        TCP Fast Open: a child at once, with the data of the SYN
        tcp_fastopen_create_child
    ops.send_synack
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_network_header_len
from fastpath.net.inetkey import inet_key
from stack.core.dst import dst_entry
from stack.core.secure_seq import secure_tcp_seq, secure_tcp_ts_off
from stack.core.security import security_inet_conn_request
from stack.core.sock import sk_data_ready
from stack.inet.inet_connection_sock import (
    ICSK_TIME_RETRANS,
    inet_csk_reqsk_queue_add,
    inet_csk_reqsk_queue_hash_add,
    inet_csk_reqsk_queue_is_full,
    inet_csk_reqsk_queue_len,
    inet_reqsk_alloc,
    inet_request_bound_dev_if,
    inet_request_mark,
    request_sock,
    sk_acceptq_is_full,
)
from stack.inet.tcp_const import TCP_TIMEOUT_INIT
from stack.inet.tcp_data import tcp_fastopen_add_skb
from stack.inet.tcp_ecn import tcp_ecn_create_request
from stack.inet.tcp_family import tcp_family_ops
from stack.inet.tcp_fastopen import (
    TFO_SERVER_COOKIE_NOT_REQD,
    TFO_SERVER_ENABLE,
    tcp_fastopen_cookie_gen,
    tcp_fastopen_cookie_gen_check,
    tcp_fastopen_get_ctx,
    tcp_fastopen_no_cookie,
    tcp_fastopen_queue_check,
)
from stack.inet.tcp_input import tcp_init_transfer
from stack.inet.tcp_md5 import tcp_md5_lookup_req
from stack.inet.tcp_metrics import tcp_peer_is_proven
from stack.inet.tcp_minisocks import tcp_openreq_init_rwin
from stack.inet.tcp_options import tcp_clear_options, tcp_parse_options
from stack.inet.tcp_output import tcp_reset_xmit_timer
from stack.inet.tcp_sock import M32, tcp_fastopen_cookie, tcp_options_received, tcp_sock
from stack.inet.tcp_syncookies import cookie_init_sequence
from stack.net import Net


def tcp_init_seq(net: Net, skb: sk_buff) -> int:
    """tcp_v4_init_seq, tcp_v6_init_seq: initial sequence number of the SYN-ACK that answers skb."""
    _, saddr, sport, daddr, dport = inet_key(skb)
    return secure_tcp_seq(net, daddr, saddr, dport, sport)


def tcp_init_ts_off(net: Net, skb: sk_buff) -> int:
    """tcp_v4_init_ts_off, tcp_v6_init_ts_off: offset of our timestamps towards skb's sender."""
    _, saddr, _, daddr, _ = inet_key(skb)
    return secure_tcp_ts_off(net, daddr, saddr)


def tcp_syn_flood_action(sk: tcp_sock) -> bool:
    """Too many half-open connections: True: answer with a cookie. False: drop."""
    linux = sk.net.mib.linux
    if sk.net.sysctl.tcp_syncookies:
        linux.TCPReqQFullDoCookies += 1
        return True
    linux.TCPReqQFullDrop += 1
    return False


def tcp_openreq_init(
    req: request_sock, rx_opt: tcp_options_received, skb: sk_buff, sk: tcp_sock
) -> None:
    """Fill a request from a SYN and its options."""
    req.rsk_rcv_wnd = 0
    req.rcv_isn = skb.seq
    req.rcv_nxt = (skb.seq + 1) & M32
    req.mss = rx_opt.mss_clamp
    req.ts_recent = rx_opt.rcv_tsval if rx_opt.saw_tstamp else 0
    req.tstamp_ok = rx_opt.tstamp_ok
    req.sack_ok = bool(rx_opt.sack_ok)
    req.snd_wscale = rx_opt.snd_wscale
    req.wscale_ok = rx_opt.wscale_ok
    req.inet_dport = skb.sport
    req.inet_num = skb.dport
    req.sk_mark = inet_request_mark(sk, skb)


def tcp_reqsk_record_syn(sk: tcp_sock, req: request_sock, skb: sk_buff) -> None:
    """TCP_SAVE_SYN: keep the headers of the SYN, IP's and TCP's. Data at the TCP header."""
    if sk.save_syn:
        hlen = skb_network_header_len(skb)
        req.saved_syn = skb_copy_bits(skb, -hlen, hlen + skb.l4_hlen)


def tcp_fastopen_create_child(sk: tcp_sock, skb: sk_buff, req: request_sock) -> tcp_sock | None:
    """net/ipv4/tcp_fastopen.c: a child of listener sk from a SYN alone. Borrows skb."""
    child: tcp_sock | None = sk.icsk_af_ops.syn_recv_sock(sk, skb, req, None, None)
    if child is None:
        return None
    assert sk.fastopenq is not None, "tcp_fastopen_queue_check saw it"
    sk.fastopenq.qlen += 1
    child.fastopen_rsk = req
    child.syn_fastopen_child = True
    req.tfo_listener = True
    child.snd_wnd = child.max_window = skb.th_window  # RFC 7323 2.2: never scaled in a SYN
    tcp_reset_xmit_timer(child, ICSK_TIME_RETRANS, req.timeout)
    tcp_init_transfer(child)
    child.rcv_nxt = (skb.seq + 1) & M32
    tcp_fastopen_add_skb(child, skb)
    req.rcv_nxt = child.rcv_wup = child.rcv_nxt
    child.rcv_mwnd_seq = (child.rcv_wup + child.rcv_wnd) & M32
    return child


def tcp_try_fastopen(
    sk: tcp_sock, skb: sk_buff, req: request_sock, foc: tcp_fastopen_cookie, dst: dst_entry
) -> tcp_sock | None:
    """net/ipv4/tcp_fastopen.c: the child, if the SYN may create one; else None. Borrows skb.

    `foc` has the SYN's cookie, and receives the one for the SYN-ACK.
    """
    net = sk.net
    linux = net.mib.linux
    given = foc.val
    foc.val = None
    if given == b"":
        linux.TCPFastOpenCookieReqd += 1
    syn_data = skb.end_seq != (skb.seq + 1) & M32
    if (
        not net.sysctl.tcp_fastopen & TFO_SERVER_ENABLE
        or not (syn_data or given is not None)
        or not tcp_fastopen_queue_check(sk)
    ):
        return None
    which = 0
    if not tcp_fastopen_no_cookie(sk, dst, TFO_SERVER_COOKIE_NOT_REQD):
        if not given:
            keys = tcp_fastopen_get_ctx(sk)
            if given is not None and keys:
                foc.val = tcp_fastopen_cookie_gen(keys[0], skb, req.sk_family)
            return None
        which, foc.val = tcp_fastopen_cookie_gen_check(sk, req, skb, given)
        if not which:
            linux.TCPFastOpenPassiveFail += 1
            return None
    child = tcp_fastopen_create_child(sk, skb, req)
    if child is None:
        linux.TCPFastOpenPassiveFail += 1
        return None
    if which == 2:  # from the old key: the SYN-ACK carries a new one
        linux.TCPFastOpenPassiveAltKey += 1
    else:
        foc.val = None
    linux.TCPFastOpenPassive += 1
    return child


def tcp_conn_request(ops: tcp_family_ops, sk: tcp_sock, skb: sk_buff) -> int:
    """A SYN for a listener: make a request, answer with SYN-ACK. Borrows skb."""
    net = sk.net
    linux = net.mib.linux
    isn: int = net.tcp_tw_isn  # from a TIME_WAIT socket that this SYN replaces
    net.tcp_tw_isn = 0
    want_cookie: bool = False
    syncookies = net.sysctl.tcp_syncookies
    if (syncookies == 2 or inet_csk_reqsk_queue_is_full(sk)) and not isn:
        want_cookie = tcp_syn_flood_action(sk)
        if not want_cookie:
            linux.ListenDrops += 1
            return 0
    if sk_acceptq_is_full(sk):
        linux.ListenOverflows += 1
        linux.ListenDrops += 1
        return 0
    req: request_sock = inet_reqsk_alloc(ops, sk)
    tmp_opt: tcp_options_received = tcp_options_received()
    tmp_opt.mss_clamp = ops.mss_clamp
    tmp_opt.user_mss = sk.rx_opt.user_mss
    foc: tcp_fastopen_cookie | None = None
    if not want_cookie:
        foc = tcp_fastopen_cookie()
    tcp_parse_options(net, skb, tmp_opt, False, foc)
    if want_cookie and not tmp_opt.saw_tstamp:
        tcp_clear_options(tmp_opt)
    tmp_opt.tstamp_ok = tmp_opt.saw_tstamp
    tcp_openreq_init(req, tmp_opt, skb, sk)
    req.ir_iif = skb.skb_iif
    req.sk_bound_dev_if = inet_request_bound_dev_if(sk, skb)
    dst = ops.route_req(sk, skb, req)
    if dst is None or security_inet_conn_request(sk, skb, req):
        linux.ListenDrops += 1
        return 0
    if req.tstamp_ok:
        req.ts_off = tcp_init_ts_off(net, skb)
    tcp_ecn_create_request(req, skb, sk, dst)
    if not want_cookie and not isn and not syncookies:
        # Without cookies the last quarter is reserved for peers with cached metrics.
        max_syn_backlog = net.sysctl.tcp_max_syn_backlog
        room = max_syn_backlog - inet_csk_reqsk_queue_len(sk)
        if room < max_syn_backlog >> 2 and not tcp_peer_is_proven(req, dst):
            linux.ListenDrops += 1
            return 0
    if want_cookie:
        if not req.tstamp_ok:
            req.ecn_ok = req.accecn_ok = False  # a cookie stores it in the timestamp
        isn = cookie_init_sequence(skb, req)
    elif not isn:
        isn = tcp_init_seq(net, skb)
    req.snt_isn = isn
    tcp_openreq_init_rwin(req, sk, dst)
    tcp_reqsk_record_syn(sk, req, skb)
    req.timeout = TCP_TIMEOUT_INIT
    if sk.md5sig_info is not None and not want_cookie and tcp_md5_lookup_req(sk, req) is not None:
        # A signature and timestamps leave no room for SACK blocks.
        req.tstamp_ok = req.tstamp_ok and not req.sack_ok
    if foc is not None:
        child = tcp_try_fastopen(sk, skb, req, foc, dst)
        req.fastopen_cookie = foc
        if child is not None:
            ops.send_synack(child, dst, req, skb)
            req.fastopen_cookie = None  # a retransmitted SYN-ACK has none
            if inet_csk_reqsk_queue_add(sk, req, child) is not None:
                sk_data_ready(sk)
            return 0
    if not want_cookie and not inet_csk_reqsk_queue_hash_add(sk, req, req.timeout):
        return 0
    ops.send_synack(sk, dst, req, skb)
    req.fastopen_cookie = None
    return 0
