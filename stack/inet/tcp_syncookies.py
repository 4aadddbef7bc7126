"""net/ipv4/syncookies.c: answer SYNs without keeping state when the listener's queue is full.

The cookie is the initial sequence number: a keyed hash of the connection, a counter of minutes and
an index into a table of MSS values. Window scale and SACK ride in the low bits of our timestamp.
"""

from __future__ import annotations

from hashlib import blake2s
from typing import Any

from fastpath.hdr import inet_tuple, tcp_hdr
from fastpath.skbuff import sk_buff
from stack.inet.inet_connection_sock import inet_csk_reqsk_queue_add, request_sock
from stack.inet.tcp_options import tcp_parse_options
from stack.inet.tcp_sock import M32, MSEC, SEC, TCPHDR_ACK, TCPHDR_RST, tcp_options_received

COOKIEBITS = 24
COOKIEMASK = (1 << COOKIEBITS) - 1
MAX_SYNCOOKIE_AGE = 2
TCP_SYNCOOKIE_PERIOD_S = 60
msstab = (536, 1300, 1440, 1460)

TS_OPT_WSCALE_MASK = 0xF
TS_OPT_SACK = 1 << 4
TS_OPT_ECN = 1 << 5
TSBITS = 6
TSMASK = (1 << TSBITS) - 1


def cookie_hash(net: Any, saddr: int, daddr: int, ports: int, count: int, c: int) -> int:
    data = b"".join(v.to_bytes(4, "big") for v in (saddr, daddr, ports, count & M32, c))
    return int.from_bytes(blake2s(data, digest_size=4, key=net.tcp_secret).digest(), "big")


def tcp_cookie_time(net: Any) -> int:
    """Minutes of the host's clock."""
    return net.now() // (SEC * TCP_SYNCOOKIE_PERIOD_S)


def secure_tcp_syn_cookie(
    net: Any, saddr: int, daddr: int, ports: int, sseq: int, data: int
) -> int:
    count = tcp_cookie_time(net)
    return (
        cookie_hash(net, saddr, daddr, ports, 0, 0)
        + sseq
        + (count << COOKIEBITS)
        + ((cookie_hash(net, saddr, daddr, ports, count, 1) + data) & COOKIEMASK)
    ) & M32


def check_tcp_syn_cookie(
    net: Any, cookie: int, saddr: int, daddr: int, ports: int, sseq: int
) -> int:
    """The data in the cookie, or -1 when it is too old."""
    cookie = (cookie - cookie_hash(net, saddr, daddr, ports, 0, 0) - sseq) & M32
    count = tcp_cookie_time(net)
    diff = (count - (cookie >> COOKIEBITS)) & (M32 >> COOKIEBITS)
    if diff >= MAX_SYNCOOKIE_AGE:
        return -1
    return (cookie - cookie_hash(net, saddr, daddr, ports, count - diff, 1)) & COOKIEMASK


def cookie_v4_init_sequence(sk: Any, skb: sk_buff, req: request_sock) -> int:
    """The ISN of a SYN-ACK that is also the memory of its SYN."""
    net = sk.net
    saddr, sport, daddr, dport = inet_tuple(skb)
    mssind = max((i for i, m in enumerate(msstab) if m <= req.mss), default=0)
    req.mss = msstab[mssind]
    net.mib.linux.SyncookiesSent += 1
    if req.tstamp_ok:
        # The SYN-ACK's timestamp must have our bits at its end and still not lie in the future.
        now = net.now() // MSEC
        bits = (req.snd_wscale if req.wscale_ok else TS_OPT_WSCALE_MASK) | (
            TS_OPT_SACK if req.sack_ok else 0
        )
        if req.ecn_ok:
            bits |= TS_OPT_ECN
        ts = (now & ~TSMASK) | bits
        if ts > now:
            ts -= 1 << TSBITS
        req.ts_off = (ts - now) & M32
    return secure_tcp_syn_cookie(net, saddr, daddr, sport << 16 | dport, skb.seq, mssind)


def cookie_v4_check(sk: Any, skb: sk_buff) -> Any:
    """An ACK came to a listener: the child its cookie proves; sk when it is no cookie of ours."""
    net = sk.net
    flags = skb.tcp_flags
    if not net.sysctl.tcp_syncookies or not flags & TCPHDR_ACK or flags & TCPHDR_RST:
        return sk
    if not net.mib.linux.SyncookiesSent:
        return sk
    saddr, sport, daddr, dport = inet_tuple(skb)
    cookie = (skb.ack_seq - 1) & M32
    mssind = check_tcp_syn_cookie(
        net, cookie, saddr, daddr, sport << 16 | dport, (skb.seq - 1) & M32
    )
    if not 0 <= mssind < len(msstab):
        net.mib.linux.SyncookiesFailed += 1
        return sk
    net.mib.linux.SyncookiesRecv += 1
    from stack.inet.tcp_minisocks import tcp_openreq_init_rwin
    from stack.ipv4.tcp_ipv4 import inet_csk_route_req

    opts = tcp_options_received()
    tcp_parse_options(net, skb, opts, False)
    req = request_sock(sk)
    th = tcp_hdr(skb)
    req.rcv_isn = (skb.seq - 1) & M32
    req.rcv_nxt = skb.seq
    req.snt_isn = cookie
    req.mss = msstab[mssind]
    req.inet_daddr, req.inet_rcv_saddr = saddr, daddr
    req.inet_dport, req.inet_num = th.source, th.dest
    req.ir_iif = skb.skb_iif
    req.tos = sk.tos
    if opts.saw_tstamp and opts.rcv_tsecr:
        bits = opts.rcv_tsecr & TSMASK
        wscale = bits & TS_OPT_WSCALE_MASK
        req.tstamp_ok = True
        req.ts_recent = opts.rcv_tsval
        req.sack_ok = bool(bits & TS_OPT_SACK)
        req.ecn_ok = bool(bits & TS_OPT_ECN and net.sysctl.tcp_ecn)
        if wscale != TS_OPT_WSCALE_MASK:
            req.wscale_ok = True
            req.snd_wscale = min(wscale, 14)
    dst = inet_csk_route_req(sk, req)
    if dst is None:
        return None
    tcp_openreq_init_rwin(req, sk, dst)
    child = sk.icsk_af_ops.syn_recv_sock(sk, skb, req, dst, None)
    if child is None or inet_csk_reqsk_queue_add(sk, req, child) is None:
        return None
    return child
