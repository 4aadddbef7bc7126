"""net/ipv4/syncookies.c, net/ipv6/syncookies.c: answer SYNs without keeping state.

When the listener's queue is full, the initial sequence number is a cookie. It consists of a keyed
hash of the connection, a counter of minutes and an index into a table of MSS values. Window scale,
SACK and ECN are stored in the low bits of our timestamp. Each family has its table of MSS values.
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import tcp_hdr
from fastpath.net.inetkey import inet_key, inet_siphash
from stack.core.dst import dst_entry
from stack.core.rows import wide
from stack.core.security import security_inet_conn_request
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.inet.inet_connection_sock import (
    inet_csk_reqsk_queue_add,
    inet_reqsk_alloc,
    inet_request_bound_dev_if,
    inet_request_mark,
    request_sock,
)
from stack.inet.tcp_accecn import tcp_accecn_ace
from stack.inet.tcp_ecn import tcp_ecn_granted
from stack.inet.tcp_family import tcp_family_ops
from stack.inet.tcp_minisocks import tcp_openreq_init_rwin
from stack.inet.tcp_options import tcp_parse_options
from stack.inet.tcp_sock import (
    M32,
    MAX_TCP_WSCALE,
    TCPHDR_ACK,
    TCPHDR_RST,
    tcp_options_received,
    tcp_sock,
)
from stack.net import Net

COOKIEBITS = 24
COOKIEMASK = (1 << COOKIEBITS) - 1
MAX_SYNCOOKIE_AGE = 2
TCP_SYNCOOKIE_PERIOD_S = 60

TS_OPT_WSCALE_MASK = 0xF
TS_OPT_SACK = 1 << 4
TS_OPT_ECN = 1 << 5
TSBITS = 6
TSMASK = (1 << TSBITS) - 1


def cookie_hash(net: Net, saddr: wide, daddr: wide, ports: int, count: int, c: int) -> int:
    """Hash a connection and the minute `count` with secret `c` (0 or 1)."""
    return inet_siphash(net.syncookie_secret[c], saddr, daddr, ports, count & M32)


def tcp_cookie_time(net: Net) -> int:
    """Minutes of the host's clock."""
    return net.now() // (NSEC_PER_SEC * TCP_SYNCOOKIE_PERIOD_S)


def secure_tcp_syn_cookie(
    net: Net, saddr: wide, daddr: wide, ports: int, sseq: int, data: int
) -> int:
    count = tcp_cookie_time(net)
    return (
        cookie_hash(net, saddr, daddr, ports, 0, 0)
        + sseq
        + (count << COOKIEBITS)
        + ((cookie_hash(net, saddr, daddr, ports, count, 1) + data) & COOKIEMASK)
    ) & M32


def check_tcp_syn_cookie(
    net: Net, cookie: int, saddr: wide, daddr: wide, ports: int, sseq: int
) -> int:
    """The data in the cookie, or -1 when it is too old."""
    cookie = (cookie - cookie_hash(net, saddr, daddr, ports, 0, 0) - sseq) & M32
    count = tcp_cookie_time(net)
    diff = (count - (cookie >> COOKIEBITS)) & (M32 >> COOKIEBITS)
    if diff >= MAX_SYNCOOKIE_AGE:
        return -1
    return (cookie - cookie_hash(net, saddr, daddr, ports, count - diff, 1)) & COOKIEMASK


def cookie_init_timestamp(req: request_sock, now_ms: int) -> int:
    """The offset that encodes our bits in a SYN-ACK's timestamp without moving it to the future."""
    bits = req.snd_wscale if req.wscale_ok else TS_OPT_WSCALE_MASK
    if req.sack_ok:
        bits |= TS_OPT_SACK
    if req.ecn_ok:
        bits |= TS_OPT_ECN
    ts = (now_ms & ~TSMASK) | bits
    if ts > now_ms:
        ts -= 1 << TSBITS
    return (ts - now_ms) & M32


def cookie_timestamp_decode(opts: tcp_options_received, req: request_sock) -> bool:
    """Restore from TSecr the options that cookie_init_timestamp encoded.

    False: the options are disabled here, so the timestamp is not from our SYN-ACK.
    """
    sysctl = req.net.sysctl
    if not sysctl.tcp_timestamps:
        return False
    bits = opts.rcv_tsecr & TSMASK
    wscale = bits & TS_OPT_WSCALE_MASK
    req.tstamp_ok = True
    req.ts_recent = opts.rcv_tsval
    req.sack_ok = bool(bits & TS_OPT_SACK)
    req.ecn_ok = bool(bits & TS_OPT_ECN)
    if req.sack_ok and not sysctl.tcp_sack:
        return False
    if wscale == TS_OPT_WSCALE_MASK:
        return True
    req.wscale_ok = True
    req.snd_wscale = min(wscale, MAX_TCP_WSCALE)
    return sysctl.tcp_window_scaling != 0


def cookie_init_sequence(skb: sk_buff, req: request_sock) -> int:
    """The ISN of a SYN-ACK: a cookie that encodes its SYN. Borrows skb."""
    net = req.net
    msstab = req.rsk_ops.msstab
    _, saddr, sport, daddr, dport = inet_key(skb)
    mssind = len(msstab) - 1
    while mssind and msstab[mssind] > req.mss:
        mssind -= 1
    req.mss = msstab[mssind]
    net.mib.linux.SyncookiesSent += 1
    if req.tstamp_ok:
        req.ts_off = cookie_init_timestamp(req, net.now() // NSEC_PER_MSEC)
    return secure_tcp_syn_cookie(net, saddr, daddr, sport << 16 | dport, skb.seq, mssind)


def tcp_get_cookie_sock(
    sk: tcp_sock, skb: sk_buff, req: request_sock, dst: dst_entry
) -> tcp_sock | None:
    """Create a cookie request's child and queue it for accept(); None: no room."""
    child: tcp_sock | None = sk.icsk_af_ops.syn_recv_sock(sk, skb, req, dst, None)
    if child is None or inet_csk_reqsk_queue_add(sk, req, child) is None:
        return None
    return child


def cookie_check(sk: tcp_sock, skb: sk_buff, ops: tcp_family_ops) -> tcp_sock | None:
    """Check the cookie of an ACK to a listener; returns the child that it creates.

    `sk` if the cookie is invalid. None if no route or no room is left for a child.
    Borrows skb.
    """
    net = sk.net
    flags = skb.tcp_flags
    if not net.sysctl.tcp_syncookies or not flags & TCPHDR_ACK or flags & TCPHDR_RST:
        return sk
    if not net.mib.linux.SyncookiesSent:
        return sk
    _, saddr, sport, daddr, dport = inet_key(skb)
    cookie = (skb.ack_seq - 1) & M32
    mssind = check_tcp_syn_cookie(
        net, cookie, saddr, daddr, sport << 16 | dport, (skb.seq - 1) & M32
    )
    if not 0 <= mssind < len(ops.msstab):
        net.mib.linux.SyncookiesFailed += 1
        return sk
    net.mib.linux.SyncookiesRecv += 1
    opts = tcp_options_received()
    tcp_parse_options(net, skb, opts, False)
    req = inet_reqsk_alloc(ops, sk)
    th = tcp_hdr(skb)
    req.rcv_isn = (skb.seq - 1) & M32
    req.rcv_nxt = skb.seq
    req.snt_isn = cookie
    req.mss = ops.msstab[mssind]
    req.inet_dport, req.inet_num = th.source, th.dest
    req.ir_iif = skb.skb_iif
    req.sk_bound_dev_if = inet_request_bound_dev_if(sk, skb)
    req.sk_mark = inet_request_mark(sk, skb)
    if opts.saw_tstamp and not cookie_timestamp_decode(opts, req):
        return sk
    dst = ops.route_req(sk, skb, req)
    if dst is None or security_inet_conn_request(sk, skb, req):
        return None
    req.ecn_ok = req.ecn_ok and tcp_ecn_granted(net, dst)
    # Only with Accurate ECN has the last ACK such an ACE field (RFC 9768 3.1.2 and 5.1).
    req.accecn_ok = req.ecn_ok and tcp_accecn_ace(flags) > 1
    tcp_openreq_init_rwin(req, sk, dst, req.mss)
    return tcp_get_cookie_sock(sk, skb, req, dst)
