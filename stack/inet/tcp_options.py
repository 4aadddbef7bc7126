"""TCP options: building them (net/ipv4/tcp_output.c) and reading them (net/ipv4/tcp_input.c)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from fastpath.hdr import tcp_hdr, tcp_parse_ts
from fastpath.skbuff import sk_buff
from stack.core.dst import dst_metric_advmss
from stack.core.tcp_states import TCP_SYN_RECV
from stack.inet.tcp_const import MSEC
from stack.inet.tcp_sock import (
    M32,
    MAX_TCP_OPTION_SPACE,
    MAX_TCP_WSCALE,
    TCP_SACK_SEEN,
    TCPOLEN_MSS,
    TCPOLEN_SACK_PERBLOCK,
    TCPOLEN_SACK_PERM,
    TCPOLEN_TIMESTAMP,
    TCPOLEN_WINDOW,
    TCPOPT_EOL,
    TCPOPT_MSS,
    TCPOPT_NOP,
    TCPOPT_SACK,
    TCPOPT_SACK_PERM,
    TCPOPT_TIMESTAMP,
    TCPOPT_WINDOW,
    tcp_options_received,
    tcp_sock,
)

if TYPE_CHECKING:
    from stack.inet.inet_connection_sock import request_sock
    from stack.net import Net


# sk_buff.tcp_opts (fastpath/parse.pxd)
OPTS_NONE = 0
OPTS_TS = 1

_TS = Struct("!BBBBII")
_MSS = Struct("!BBH")
_U32x2 = Struct("!II")
_NOPS = bytes((TCPOPT_NOP, TCPOPT_NOP))
_SACK_PERM = bytes((TCPOPT_SACK_PERM, TCPOLEN_SACK_PERM))
_NOPS_SACK_PERM = _NOPS + _SACK_PERM
_NOPS_SACK = _NOPS + bytes((TCPOPT_SACK,))
_TS_HEAD = bytes((TCPOPT_TIMESTAMP, TCPOLEN_TIMESTAMP))


def tcp_advertise_mss(sk: tcp_sock) -> int:
    """net/ipv4/tcp_output.c: MSS option value: what the route says, never more than before."""
    mss = sk.advmss
    dst = sk.sk_dst_cache
    if dst is not None:
        metric = dst_metric_advmss(dst)
        if metric and metric < mss:
            mss = metric
            sk.advmss = mss
    return mss


def tcp_syn_options(sk: tcp_sock) -> bytes:
    """Options of our SYN (or of the SYN-ACK of a simultaneous open)."""
    sysctl = sk.net.sysctl
    out = _MSS.pack(TCPOPT_MSS, TCPOLEN_MSS, tcp_advertise_mss(sk) & 0xFFFF)
    ack = sk.sk_state == TCP_SYN_RECV  # answer only what the peer offered
    rx_opt = sk.rx_opt
    timestamps = rx_opt.tstamp_ok if ack else sysctl.tcp_timestamps
    sack = rx_opt.sack_ok if ack else sysctl.tcp_sack
    wscale = rx_opt.wscale_ok if ack else sysctl.tcp_window_scaling
    if timestamps:
        tsval = (sk.tcp_mstamp // MSEC + sk.tsoffset) & M32
        head = _SACK_PERM if sack else _NOPS
        out += head + _TS_HEAD + _U32x2.pack(tsval, rx_opt.ts_recent)
    elif sack:
        out += _NOPS_SACK_PERM
    if wscale:
        out += bytes((TCPOPT_NOP, TCPOPT_WINDOW, TCPOLEN_WINDOW, rx_opt.rcv_wscale))
    return out


def tcp_synack_options(sk: tcp_sock, req: request_sock, mss: int, now: int) -> bytes:
    """Options of the SYN-ACK for a request: what the SYN offered and we have."""
    out = _MSS.pack(TCPOPT_MSS, TCPOLEN_MSS, mss & 0xFFFF)
    if req.tstamp_ok:
        tsval = (now // MSEC + req.ts_off) & M32
        if not req.snt_tsval:
            req.snt_tsval = tsval or 1
        head = _SACK_PERM if req.sack_ok else _NOPS
        out += head + _TS_HEAD + _U32x2.pack(tsval, req.ts_recent)
    elif req.sack_ok:
        out += _NOPS_SACK_PERM
    if req.wscale_ok:
        out += bytes((TCPOPT_NOP, TCPOPT_WINDOW, TCPOLEN_WINDOW, req.rcv_wscale))
    return out


def tcp_established_options(sk: tcp_sock) -> tuple[int, bytes]:
    """(bytes, options) after the handshake: timestamps, SACK blocks (RFC 2018, 2883)."""
    rx_opt = sk.rx_opt
    out = b""
    if rx_opt.tstamp_ok:
        tsval = (sk.tcp_mstamp // MSEC + sk.tsoffset) & M32
        out = _TS.pack(1, 1, 8, 10, tsval, rx_opt.ts_recent)
    eff_sacks = rx_opt.num_sacks + (1 if rx_opt.dsack else 0)
    if eff_sacks:
        room = (MAX_TCP_OPTION_SPACE - len(out) - 4) // TCPOLEN_SACK_PERBLOCK
        blocks = list(sk.selective_acks[: rx_opt.num_sacks])
        if rx_opt.dsack:
            blocks.insert(0, sk.duplicate_sack)
            rx_opt.dsack = False
        blocks = blocks[:room]
        out += _NOPS_SACK + bytes((2 + 8 * len(blocks),))
        for start, end in blocks:
            out += _U32x2.pack(start, end)
    return len(out), out


def tcp_established_options_size(sk: tcp_sock) -> int:
    """Bytes that tcp_established_options would give, without building (or using up) anything."""
    rx_opt = sk.rx_opt
    size = 12 if rx_opt.tstamp_ok else 0
    eff_sacks = rx_opt.num_sacks + (1 if rx_opt.dsack else 0)
    if eff_sacks:
        size += 4 + 8 * min(eff_sacks, (MAX_TCP_OPTION_SPACE - size - 4) // 8)
    return size


def tcp_parse_fast_options(sk: tcp_sock, skb: sk_buff) -> bool:
    """Read the options of a segment of an open connection; True when there is a timestamp.

    The aligned timestamps form (RFC 7323 appendix A) is in the sk_buff (`tcp_v4_fill_cb`).
    """
    rx_opt = sk.rx_opt
    if skb.tcp_opts == OPTS_NONE:
        rx_opt.saw_tstamp = False
        return False
    if rx_opt.tstamp_ok and skb.tcp_opts == OPTS_TS:
        rx_opt.saw_tstamp = True
        rx_opt.rcv_tsval = skb.tsval
        rx_opt.rcv_tsecr = (skb.tsecr - sk.tsoffset) & M32 if skb.tsecr else 0
        return True
    tcp_parse_options(sk.net, skb, rx_opt, True)
    if rx_opt.saw_tstamp and rx_opt.rcv_tsecr:
        rx_opt.rcv_tsecr = (rx_opt.rcv_tsecr - sk.tsoffset) & M32
    return rx_opt.saw_tstamp


def tcp_parse_options(
    net: Net, skb: sk_buff, opt_rx: tcp_options_received, estab: bool
) -> list[tuple[int, int]]:
    """Walk the options; what is malformed ends the walk (RFC 9293 3.2). Returns SACK blocks.

    In a SYN (not `estab`) the negotiating options count only as far as our sysctls allow.
    """
    ts = tcp_parse_ts(skb)
    if ts is not None:  # nothing but the timestamps of RFC 7323 appendix A
        opt_rx.saw_tstamp = bool(opt_rx.tstamp_ok if estab else net.sysctl.tcp_timestamps)
        if opt_rx.saw_tstamp:
            opt_rx.rcv_tsval, opt_rx.rcv_tsecr = ts
        return []
    th = tcp_hdr(skb)
    data = th.options
    syn = th.syn
    opt_rx.saw_tstamp = False
    sacks: list[tuple[int, int]] = []
    sysctl = net.sysctl
    i = 0
    end = len(data)
    while i < end:
        kind = data[i]
        if kind == TCPOPT_EOL:
            break
        if kind == TCPOPT_NOP:
            i += 1
            continue
        if i + 1 >= end:
            break
        size = data[i + 1]
        if size < 2 or i + size > end:
            break
        if kind == TCPOPT_MSS:
            if size == TCPOLEN_MSS and syn and not estab:
                in_mss = data[i + 2] << 8 | data[i + 3]
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
                opt_rx.rcv_tsval, opt_rx.rcv_tsecr = _U32x2.unpack_from(data, i + 2)
        elif kind == TCPOPT_SACK_PERM:
            if size == TCPOLEN_SACK_PERM and syn and not estab and sysctl.tcp_sack:
                opt_rx.sack_ok = TCP_SACK_SEEN
                opt_rx.dsack = False
                opt_rx.num_sacks = 0
        elif kind == TCPOPT_SACK and size >= 10 and not (size - 2) % 8 and opt_rx.sack_ok:
            sacks = [_U32x2.unpack_from(data, i + 2 + 8 * k) for k in range((size - 2) // 8)]
        i += size
    return sacks


def tcp_parse_sack_blocks(net: Net, skb: sk_buff) -> list[tuple[int, int]]:
    """The SACK blocks of a segment, in the order of the option; at most 4."""
    data = tcp_hdr(skb).options
    i = 0
    end = len(data)
    while i < end:
        kind = data[i]
        if kind == TCPOPT_EOL:
            break
        if kind == TCPOPT_NOP:
            i += 1
            continue
        if i + 1 >= end:
            break
        size = data[i + 1]
        if size < 2 or i + size > end:
            break
        if kind == TCPOPT_SACK and size >= 10 and not (size - 2) % 8:
            return [_U32x2.unpack_from(data, i + 2 + 8 * k) for k in range((size - 2) // 8)]
        i += size
    return []


def tcp_clear_options(rx_opt: tcp_options_received) -> None:
    """include/linux/tcp.h"""
    rx_opt.tstamp_ok = False
    rx_opt.sack_ok = 0
    rx_opt.wscale_ok = False
    rx_opt.snd_wscale = 0
