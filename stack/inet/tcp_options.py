"""TCP options: building them (net/ipv4/tcp_output.c) and reading them (net/ipv4/tcp_input.c).

    tcp_transmit_skb -> tcp_syn_options, tcp_established_options
    tcp_make_synack -> tcp_synack_options
        tcp_options_of_syn              those of a SYN and of a SYN-ACK, in Linux's order
        tcp_fastopen_option             a cookie of TCP Fast Open behind them
    tcp_rcv -> tcp_inbound_hash -> tcp_parse_auth_options       a signature (RFC 2385)
    tcp_rcv_established -> tcp_parse_fast_options
        tcp_parse_options               also for SYNs, requests and TIME_WAIT
    tcp_sacktag_write_queue -> tcp_parse_sack_blocks

State: the peer's options are in `tcp_options_received` (sk.rx_opt); the file has none.
Read tcp_options_of_syn and tcp_parse_options first.
"""

from __future__ import annotations

from struct import Struct

from fastpath.base.skbuff import sk_buff, skb_copy_bits
from fastpath.net.hdr import tcp_hdr, tcp_parse_ts
from stack.core.dst import dst_metric_advmss
from stack.core.tcp_states import TCP_SYN_RECV
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import TCP_HLEN
from stack.inet.inet_connection_sock import request_sock
from stack.inet.tcp_accecn import (
    TCPOLEN_ACCECN_BASE,
    TCPOPT_ACCECN0,
    TCPOPT_ACCECN1,
    tcp_accecn_fit,
    tcp_accecn_option,
    tcp_accecn_option_wanted,
    tcp_accecn_padded,
)
from stack.inet.tcp_md5 import TCPOLEN_MD5SIG, TCPOLEN_MD5SIG_ALIGNED, TCPOPT_MD5SIG, tcp_md5_lookup
from stack.inet.tcp_sock import (
    M32,
    MAX_TCP_WSCALE,
    TCP_ECN_MODE_ACCECN,
    TCP_SACK_SEEN,
    tcp_fastopen_cookie,
    tcp_options_received,
    tcp_sock,
)
from stack.net import Net

# options of a header: kinds and lengths
TCPOPT_NOP = 1
TCPOPT_EOL = 0
TCPOPT_MSS = 2
TCPOPT_WINDOW = 3
TCPOPT_SACK_PERM = 4
TCPOPT_SACK = 5
TCPOPT_TIMESTAMP = 8
TCPOPT_FASTOPEN = 34
TCPOPT_EXP = 254
TCPOPT_FASTOPEN_MAGIC = b"\xf9\x89"
TCPOLEN_MSS = 4
TCPOLEN_WINDOW = 3
TCPOLEN_SACK_PERM = 2
TCPOLEN_TIMESTAMP = 10
TCPOLEN_TSTAMP_ALIGNED = 12
TCPOLEN_SACK_BASE_ALIGNED = 4
TCPOLEN_SACK_PERBLOCK = 8
TCPOLEN_FASTOPEN_BASE = 2
TCPOLEN_EXP_FASTOPEN_BASE = 4
TCP_FASTOPEN_COOKIE_MIN = 4
TCP_FASTOPEN_COOKIE_MAX = 16
MAX_TCP_OPTION_SPACE = 40


# sk_buff.tcp_opts (fastpath/net/parse.pxd)
OPTS_NONE = 0
OPTS_TS = 1

# Options are written in words of 32 bits.
_WORDS = tuple(Struct(f"!{count}I") for count in range(MAX_TCP_OPTION_SPACE // 4 + 1))
_U32x2 = _WORDS[2]
_NOPS = TCPOPT_NOP << 8 | TCPOPT_NOP
_MSS = TCPOPT_MSS << 24 | TCPOLEN_MSS << 16
_WINDOW = TCPOPT_NOP << 24 | TCPOPT_WINDOW << 16 | TCPOLEN_WINDOW << 8
_SACK_PERM = TCPOPT_SACK_PERM << 8 | TCPOLEN_SACK_PERM
_TS = TCPOPT_TIMESTAMP << 8 | TCPOLEN_TIMESTAMP
_SACK = TCPOPT_SACK << 8


def tcp_advertise_mss(sk: tcp_sock) -> int:
    """net/ipv4/tcp_output.c: value of the MSS option: the route's, but never more than before."""
    mss = sk.advmss
    dst = sk.sk_dst_cache
    if dst is not None:
        metric = dst_metric_advmss(dst)
        if metric and metric < mss:
            mss = metric
            sk.advmss = mss
    return mss


def tcp_syn_options(sk: tcp_sock, used: int) -> bytes:
    """Options of our SYN, or of the SYN-ACK of a simultaneous open, which offers the same.

    `used`: bytes of a signature before them. It leaves no room for timestamps and SACK blocks.
    """
    sysctl = sk.net.sysctl
    rx_opt = sk.rx_opt
    timestamps = not used and sysctl.tcp_timestamps != 0
    sack = sysctl.tcp_sack != 0
    wscale = sysctl.tcp_window_scaling != 0
    tsval = (sk.tcp_mstamp // NSEC_PER_MSEC + sk.tsoffset) & M32
    mss = tcp_advertise_mss(sk)
    shift = rx_opt.rcv_wscale if wscale else -1
    accecn = -1
    if (
        sk.sk_state == TCP_SYN_RECV
        and sk.ecn_flags & TCP_ECN_MODE_ACCECN
        and sk.icsk_retransmits < 2
        and sysctl.tcp_ecn_option
    ):
        size = used + len(tcp_options_of_syn(mss, timestamps, sack, shift, 0, 0, -1))
        accecn = tcp_syn_accecn_fields(MAX_TCP_OPTION_SPACE - size, timestamps, sack, shift)
    options = tcp_options_of_syn(mss, timestamps, sack, shift, tsval, rx_opt.ts_recent, accecn)
    if sk.fastopen_req is None:
        return options
    cookie = sk.fastopen_req.cookie
    option = tcp_fastopen_option(cookie, used + len(options))
    if option:
        sk.syn_fastopen = True
        sk.syn_fastopen_exp = cookie.exp
    return options + option


def tcp_fastopen_option(cookie: tcp_fastopen_cookie | None, used: int) -> bytes:
    """The option for a Fast Open cookie behind `used` bytes of others; b"" if it does not fit."""
    if cookie is None or cookie.val is None:
        return b""
    base = TCPOLEN_EXP_FASTOPEN_BASE if cookie.exp else TCPOLEN_FASTOPEN_BASE
    size = base + len(cookie.val)
    if used + (size + 3 & ~3) > MAX_TCP_OPTION_SPACE:
        return b""
    head = bytes((TCPOPT_FASTOPEN, size))
    if cookie.exp:
        head = bytes((TCPOPT_EXP, size)) + TCPOPT_FASTOPEN_MAGIC
    return head + cookie.val + bytes((TCPOPT_NOP,)) * (-size & 3)


def tcp_options_of_syn(
    mss: int, timestamps: bool, sack: bool, wscale: int, tsval: int, tsecr: int, accecn: int
) -> bytes:
    """Options of a SYN or SYN-ACK in Linux's order; `wscale` -1: no window scaling.

    `accecn`: fields of the AccECN option, -1: there is none.
    """
    words = [_MSS | mss & 0xFFFF]
    if timestamps:
        words += ((_SACK_PERM if sack else _NOPS) << 16 | _TS, tsval, tsecr)
    if accecn < 0:
        if sack and not timestamps:
            words.append(_NOPS << 16 | _SACK_PERM)
        if wscale >= 0:
            words.append(_WINDOW | wscale)
        return _WORDS[len(words)].pack(*words)
    options = _WORDS[len(words)].pack(*words) + tcp_accecn_option(accecn, 0, 0, 0)
    if sack and not timestamps:
        options = pad(options, 2) + bytes((TCPOPT_SACK_PERM, TCPOLEN_SACK_PERM))
    if wscale >= 0:
        options = pad(options, 1) + bytes((TCPOPT_WINDOW, TCPOLEN_WINDOW, wscale))
    return pad(options, 0)


def pad(options: bytes, place: int) -> bytes:
    """The options with NOPs behind them, up to byte `place` of a word."""
    return options + bytes((TCPOPT_NOP,)) * (place - len(options) & 3)


def tcp_synack_options(sk: tcp_sock, req: request_sock, mss: int, now: int, used: int) -> bytes:
    """Options of the SYN-ACK for a request: what the SYN offered and we support.

    `used`: bytes of a signature before them.
    """
    tsval = (now // NSEC_PER_MSEC + req.ts_off) & M32
    if req.tstamp_ok:
        if not req.snt_tsval_first:
            tsval = tsval or M32
            req.snt_tsval_first = tsval
        req.snt_tsval_last = tsval
    tstamp_ok, sack_ok = req.tstamp_ok, req.sack_ok
    wscale = req.rcv_wscale if req.wscale_ok else -1
    options = tcp_options_of_syn(mss, tstamp_ok, sack_ok, wscale, tsval, req.ts_recent, -1)
    cookie = tcp_fastopen_option(req.fastopen_cookie, used + len(options))
    if req.accecn_ok and not req.snt_synack and sk.net.sysctl.tcp_ecn_option:
        room = MAX_TCP_OPTION_SPACE - used - len(options) - len(cookie)
        fields = tcp_syn_accecn_fields(room, tstamp_ok, sack_ok, wscale)
        options = tcp_options_of_syn(mss, tstamp_ok, sack_ok, wscale, tsval, req.ts_recent, fields)
    return options + cookie


def tcp_syn_accecn_fields(room: int, timestamps: bool, sack: bool, wscale: int) -> int:
    """Fields of the AccECN option that fit into a SYN-ACK with `room` bytes left, or -1."""
    if room < TCPOLEN_ACCECN_BASE:
        return -1
    saving = 2 if sack and not timestamps else 1 if wscale >= 0 else 0
    return tcp_accecn_fit(0, room, 0, saving)[0]


def tcp_established_options(sk: tcp_sock, used: int) -> bytes:
    """Options after the handshake: timestamps, AccECN, SACK blocks (RFC 2018, 2883).

    `used`: bytes of a signature before them. Sent now, so a D-SACK block and the request for the
    AccECN option are cleared.
    """
    rx_opt = sk.rx_opt
    words: list[int] = []
    if rx_opt.tstamp_ok:
        tsval = (sk.tcp_mstamp // NSEC_PER_MSEC + sk.tsoffset) & M32
        words = [_NOPS << 16 | _TS, tsval, rx_opt.ts_recent]
    accecn = b""
    fields, sacks = tcp_established_fit(sk, used + 4 * len(words))
    if fields >= 0:
        accecn = tcp_accecn_option(
            fields, sk.received_e1_bytes, sk.received_ce_bytes, sk.received_e0_bytes
        )
        sk.accecn_opt_sent_w_dsack = rx_opt.dsack
        sk.accecn_minlen = 0
        sk.accecn_opt_tstamp = sk.tcp_mstamp
        if sk.accecn_opt_demand:
            sk.accecn_opt_demand -= 1
        accecn = _WORDS[len(words)].pack(*words) + pad(accecn, 2 if sacks else 0)
        words = []
    else:
        sk.accecn_opt_sent_w_dsack = False
    if sacks:
        blocks = list(sk.selective_acks[: rx_opt.num_sacks])
        if rx_opt.dsack:
            blocks.insert(0, sk.duplicate_sack)
            rx_opt.dsack = False
        blocks = blocks[:sacks]
        words.append(_NOPS << 16 | _SACK | 2 + 8 * len(blocks))
        for block in blocks:
            words += block
    options = _WORDS[len(words)].pack(*words)
    if accecn:
        options = accecn + options[2:] if sacks else accecn
    return options


def tcp_established_fit(sk: tcp_sock, size: int) -> tuple[int, int]:
    """(fields of the AccECN option or -1, SACK blocks) behind `size` bytes of other options."""
    sacks = sk.rx_opt.num_sacks + (1 if sk.rx_opt.dsack else 0)
    room = MAX_TCP_OPTION_SPACE - size
    if sacks:
        sacks = min(sacks, (room - TCPOLEN_SACK_BASE_ALIGNED) // TCPOLEN_SACK_PERBLOCK)
    if sacks:
        room -= TCPOLEN_SACK_BASE_ALIGNED + TCPOLEN_SACK_PERBLOCK * sacks
    if not sk.ecn_flags & TCP_ECN_MODE_ACCECN or not tcp_accecn_option_wanted(sk):
        return -1, sacks
    return tcp_accecn_fit(sk.accecn_minlen, room, sacks, 2 if sacks else 0)


def tcp_established_options_size(sk: tcp_sock) -> int:
    """Bytes that tcp_established_options would return. Changes nothing."""
    size = TCPOLEN_TSTAMP_ALIGNED if sk.rx_opt.tstamp_ok else 0
    if sk.md5sig_info is not None and tcp_md5_lookup(sk) is not None:
        size += TCPOLEN_MD5SIG_ALIGNED
    fields, sacks = tcp_established_fit(sk, size)
    if fields >= 0:
        size += tcp_accecn_padded(fields, 2 if sacks else 0)
    return size + (TCPOLEN_SACK_BASE_ALIGNED + TCPOLEN_SACK_PERBLOCK * sacks if sacks else 0)


def tcp_parse_fast_options(sk: tcp_sock, skb: sk_buff) -> bool:
    """Read the options of a segment of an open connection; True when there is a timestamp.

    The aligned timestamps form (RFC 7323 appendix A) is in the sk_buff (`tcp_fill_cb`).
    """
    rx_opt = sk.rx_opt
    if skb.tcp_opts == OPTS_NONE:
        rx_opt.saw_tstamp = False
        rx_opt.accecn = 0
        return False
    if rx_opt.tstamp_ok and skb.tcp_opts == OPTS_TS:
        rx_opt.saw_tstamp = True
        rx_opt.accecn = 0
        rx_opt.rcv_tsval = skb.tsval
        rx_opt.rcv_tsecr = (skb.tsecr - sk.tsoffset) & M32 if skb.tsecr else 0
        return True
    tcp_parse_options(sk.net, skb, rx_opt, True)
    if rx_opt.saw_tstamp and rx_opt.rcv_tsecr:
        rx_opt.rcv_tsecr = (rx_opt.rcv_tsecr - sk.tsoffset) & M32
    return rx_opt.saw_tstamp


def tcp_parse_options(
    net: Net,
    skb: sk_buff,
    opt_rx: tcp_options_received,
    estab: bool,
    foc: tcp_fastopen_cookie | None = None,
) -> None:
    """Read the options up to the first malformed one (RFC 9293 3.2), but for SACK blocks.

    In a SYN (not `estab`) an option that our sysctls turn off is ignored. `foc` gets the Fast Open
    cookie of a SYN or SYN-ACK.
    """
    ts = tcp_parse_ts(skb)
    if ts is not None:  # only the timestamps of RFC 7323 appendix A
        opt_rx.accecn = 0
        opt_rx.saw_tstamp = bool(opt_rx.tstamp_ok if estab else net.sysctl.tcp_timestamps)
        if opt_rx.saw_tstamp:
            opt_rx.rcv_tsval, opt_rx.rcv_tsecr = ts
        return
    th = tcp_hdr(skb)
    data = bytes(th.options)  # gives a concrete type
    syn = bool(th.syn)
    opt_rx.saw_tstamp = False
    opt_rx.accecn = 0
    sysctl = net.sysctl
    i: int = 0
    end = len(data)
    while i < end:
        kind: int = data[i]
        if kind == TCPOPT_EOL:
            break
        if kind == TCPOPT_NOP:
            i += 1
            continue
        if i + 1 >= end:
            break
        size: int = data[i + 1]
        if size < 2 or i + size > end:
            break
        if kind == TCPOPT_MSS:
            if size == TCPOLEN_MSS and syn and not estab:
                in_mss: int = data[i + 2] << 8 | data[i + 3]
                if in_mss:
                    if opt_rx.user_mss and opt_rx.user_mss < in_mss:
                        in_mss = opt_rx.user_mss
                    opt_rx.mss_clamp = in_mss
        elif kind == TCPOPT_WINDOW:
            if size == TCPOLEN_WINDOW and syn and not estab and sysctl.tcp_window_scaling:
                opt_rx.wscale_ok = True
                opt_rx.snd_wscale = min(data[i + 2], MAX_TCP_WSCALE)
        elif kind == TCPOPT_TIMESTAMP:
            if size == TCPOLEN_TIMESTAMP and (
                (estab and opt_rx.tstamp_ok) or (not estab and sysctl.tcp_timestamps)
            ):
                opt_rx.saw_tstamp = True
                opt_rx.rcv_tsval = be32(data[i + 2], data[i + 3], data[i + 4], data[i + 5])
                opt_rx.rcv_tsecr = be32(data[i + 6], data[i + 7], data[i + 8], data[i + 9])
        elif kind == TCPOPT_SACK_PERM:
            if size == TCPOLEN_SACK_PERM and syn and not estab and sysctl.tcp_sack:
                opt_rx.sack_ok = TCP_SACK_SEEN
                opt_rx.dsack = False
                opt_rx.num_sacks = 0
        elif kind in (TCPOPT_ACCECN0, TCPOPT_ACCECN1):
            opt_rx.accecn = 20 + i
        elif foc is not None and syn and kind in (TCPOPT_FASTOPEN, TCPOPT_EXP):
            tcp_parse_fastopen_option(foc, kind, data[i + 2 : i + size])
        i += size


def tcp_parse_fastopen_option(foc: tcp_fastopen_cookie, kind: int, value: bytes) -> None:
    """net/ipv4/tcp_input.c: a Fast Open option; an odd length or another experiment is ignored."""
    if kind == TCPOPT_EXP:
        if value[:2] != TCPOPT_FASTOPEN_MAGIC:
            return
        value = value[2:]
    size = len(value)
    if size & 1:
        return
    legal = not size or TCP_FASTOPEN_COOKIE_MIN <= size <= TCP_FASTOPEN_COOKIE_MAX
    foc.val = value if legal else None
    foc.exp = kind == TCPOPT_EXP


def tcp_parse_auth_options(skb: sk_buff, hlen: int) -> int:
    """net/ipv4/tcp_input.c: where the MD5 signature of a header of `hlen` bytes begins; 0: none.

    -1: it has two, or one of a wrong length, or an option before it is malformed. Data at the
    TCP header.
    """
    data = bytes(skb_copy_bits(skb, 0, hlen))  # gives a concrete type
    found = 0
    i: int = TCP_HLEN
    while hlen - i >= TCPOLEN_MD5SIG:
        kind: int = data[i]
        if kind == TCPOPT_EOL:
            break
        if kind == TCPOPT_NOP:
            i += 1
            continue
        size: int = data[i + 1]
        if size < 2 or size > hlen - i:
            return -1
        if kind == TCPOPT_MD5SIG:
            if size != TCPOLEN_MD5SIG or found:
                return -1
            found = i + 2
        i += size
    return found


def be32(b0: int, b1: int, b2: int, b3: int) -> int:
    """include/linux/unaligned.h (get_unaligned_be32): the word of four bytes."""
    return b0 << 24 | b1 << 16 | b2 << 8 | b3


def tcp_option_at(options: bytes, at: int) -> int:
    """The offset of the next whole option at or after `at`; -1 after the last (RFC 9293 3.1)."""
    data = bytes(options)  # gives a concrete type
    end = len(data)
    while at < end and data[at] == TCPOPT_NOP:
        at += 1
    if at + 1 >= end or data[at] == TCPOPT_EOL:
        return -1
    size: int = data[at + 1]
    return at if 2 <= size <= end - at else -1


def tcp_parse_sack_blocks(net: Net, skb: sk_buff) -> list[tuple[int, int]]:
    """The SACK blocks of a segment, in the order of the option; at most 4."""
    data = bytes(tcp_hdr(skb).options)
    i: int = tcp_option_at(data, 0)
    while i >= 0:
        size: int = data[i + 1]
        if data[i] == TCPOPT_SACK and size >= 10 and not (size - 2) % 8:
            return [_U32x2.unpack_from(data, i + 2 + 8 * k) for k in range((size - 2) // 8)]
        i = tcp_option_at(data, i + size)
    return []


def tcp_clear_options(rx_opt: tcp_options_received) -> None:
    """include/linux/tcp.h"""
    rx_opt.tstamp_ok = False
    rx_opt.sack_ok = 0
    rx_opt.wscale_ok = False
    rx_opt.snd_wscale = 0
