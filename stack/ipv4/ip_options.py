"""IPv4 options: parse, apply, record, reverse, fragment (net/ipv4/ip_options.c; RFC 791 3.1).

    received    ip_rcv_options (ip_options_rcv.py) -> ip_options_compile    fills in our slots
    answered    icmp_reply, ip_send_unicast_reply -> __ip_options_echo      reverses the route
    set         IP_OPTIONS, IP_RETOPTS -> ip_options_get -> ip_options_compile
    read        getsockopt(IP_OPTIONS) -> ip_options_undo
    sent        ip_queue_xmit, ip_finish_header -> ip_options_build         fills in address, time
    cut         ip_do_fragment -> ip_options_fragment

      | type 1: copied 1 bit, class 2, number 5 | length 1 | pointer 1 | data             |
    route (RR, LSRR, SSRR):  data = slots of 4 bytes, an address each
    time stamp (TS):         data = overflow 4 bits, flag 4 bits | slots of 4 or 8 bytes

`pointer` counts from 1, so the smallest one is 4 (5 for time stamps); a pointer beyond the length
means that the slots are full. A parsed area is an `ip_options` (stack/inet/inet_sock.py), in which
`srr`, `rr` and `ts` are offsets in the IP header, 0 if absent. A received packet with options
carries it as `skb.cb`; a packet without options has None there. Read ip_options_compile first.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import ip_hdr
from stack.core import uapi
from stack.core.errors import os_error
from stack.core.errqueue import sock_exterr_skb
from stack.core.fib_rules import LOOPBACK_IFINDEX
from stack.core.l3mdev import l3mdev_master_ifindex
from stack.core.netdevice import net_device
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import IP_HLEN
from stack.inet.flow import flowi
from stack.inet.inet_sock import ip_options
from stack.ipv4.fib import (
    IPTOS_RT_MASK,
    __fib_lookup,
    fib_lookup,
    fib_result,
    fib_result_prefsrc,
    inet_addr_type,
    inet_select_addr,
)
from stack.ipv4.netns import in_dev_conf
from stack.net import Net

if TYPE_CHECKING:
    from stack.ipv4.route import rtable

IPOPT_END = 0
IPOPT_NOOP = 1
IPOPT_RR = 7
IPOPT_TIMESTAMP = 68
IPOPT_LSRR = 131
IPOPT_CIPSO = 134
IPOPT_SSRR = 137
IPOPT_RA = 148
IPOPT_COPY = 0x80
IPOPT_TS_TSONLY = 0
IPOPT_TS_TSANDADDR = 1
IPOPT_TS_PRESPEC = 3
MAX_IPOPTLEN = 40
MS_PER_DAY = 86_400_000


class OptionError(ValueError):
    """The option area is malformed; `pointer` is the offending byte's offset in the IP header."""

    def __init__(self, pointer: int) -> None:
        super().__init__(f"IP option malformed at header byte {pointer}")
        self.pointer = pointer


def inet_current_timestamp(net: Net) -> int:
    """net/ipv4/af_inet.c: ms since midnight UT, as in RFC 791 time stamps."""
    return net.machine.realtime_ns() // NSEC_PER_MSEC % MS_PER_DAY


def ip_options_compile(net: Net, opt: ip_options, received: bool, spec_dst: int = 0) -> None:
    """net/ipv4/ip_options.c: parse an option area; in a received one fill in our slots.

    `spec_dst`: our address for record-route and time-stamp slots. In a user's area the first hop
    of a source route moves to `faddr`. Raises: OptionError; options before the error are applied.
    """
    buf = opt.data
    total = len(buf)
    at = 0
    addr = spec_dst.to_bytes(4, "big")
    while at < total:
        kind = buf[at]
        if kind == IPOPT_END:
            for i in range(at + 1, total):
                if buf[i] != IPOPT_END:
                    buf[i] = IPOPT_END
                    opt.is_changed = True
            break
        if kind == IPOPT_NOOP:
            at += 1
            continue
        left = total - at
        if left < 2:
            raise OptionError(IP_HLEN + at)
        optlen = buf[at + 1]
        if optlen < 2 or optlen > left:
            raise OptionError(IP_HLEN + at)
        if kind in (IPOPT_SSRR, IPOPT_LSRR):
            _compile_srr(opt, at, optlen, kind == IPOPT_SSRR, received)
        elif kind == IPOPT_RR:
            _compile_rr(opt, at, optlen, addr if received else None)
        elif kind == IPOPT_TIMESTAMP:
            _compile_ts(net, opt, at, optlen, addr, received)
        elif kind == IPOPT_RA:
            if optlen < 4:
                raise OptionError(IP_HLEN + at + 1)
            if buf[at + 2] == 0 and buf[at + 3] == 0:
                opt.router_alert = IP_HLEN + at
        elif kind == IPOPT_CIPSO:
            if opt.cipso:
                raise OptionError(IP_HLEN + at)
            opt.cipso = IP_HLEN + at
        at += optlen


def _compile_srr(opt: ip_options, at: int, optlen: int, strict: bool, received: bool) -> None:
    """Loose and strict source route."""
    buf = opt.data
    if optlen < 3:
        raise OptionError(IP_HLEN + at + 1)
    if buf[at + 2] < 4:
        raise OptionError(IP_HLEN + at + 2)
    if opt.srr:  # RFC 1812 5.2.4.1: two source routes are an error
        raise OptionError(IP_HLEN + at)
    if not received:
        if buf[at + 2] != 4 or optlen < 7 or (optlen - 3) & 3:
            raise OptionError(IP_HLEN + at + 1)
        opt.faddr = int.from_bytes(buf[at + 3 : at + 7], "big")
        if optlen > 7:
            buf[at + 3 : at + optlen - 4] = buf[at + 7 : at + optlen]
    opt.is_strictroute = strict
    opt.srr = IP_HLEN + at


def _compile_rr(opt: ip_options, at: int, optlen: int, addr: bytes | None) -> None:
    """Record route: write our address into the next slot of a received packet."""
    buf = opt.data
    if opt.rr:
        raise OptionError(IP_HLEN + at)
    if optlen < 3:
        raise OptionError(IP_HLEN + at + 1)
    ptr = buf[at + 2]
    if ptr < 4:
        raise OptionError(IP_HLEN + at + 2)
    if ptr <= optlen:
        if ptr + 3 > optlen:
            raise OptionError(IP_HLEN + at + 2)
        if addr is not None:
            buf[at + ptr - 1 : at + ptr + 3] = addr
            opt.is_changed = True
        buf[at + 2] = ptr + 4
        opt.rr_needaddr = True
    opt.rr = IP_HLEN + at


def _compile_ts(
    net: Net, opt: ip_options, at: int, optlen: int, addr: bytes, received: bool
) -> None:
    """Time stamp, with or without addresses; the overflow counter when it is full."""
    buf = opt.data
    if opt.ts:
        raise OptionError(IP_HLEN + at)
    if optlen < 4:
        raise OptionError(IP_HLEN + at + 1)
    ptr = buf[at + 2]
    if ptr < 5:
        raise OptionError(IP_HLEN + at + 2)
    kind = buf[at + 3] & 0xF
    if ptr <= optlen:
        if ptr + 3 > optlen:
            raise OptionError(IP_HLEN + at + 2)
        timeptr = -1
        if kind == IPOPT_TS_TSONLY:
            timeptr = ptr - 1
            opt.ts_needtime = True
            buf[at + 2] = ptr + 4
        elif kind == IPOPT_TS_TSANDADDR:
            if ptr + 7 > optlen:
                raise OptionError(IP_HLEN + at + 2)
            if received:
                buf[at + ptr - 1 : at + ptr + 3] = addr
            timeptr = ptr + 3
            opt.ts_needaddr = True
            opt.ts_needtime = True
            buf[at + 2] = ptr + 8
        elif kind == IPOPT_TS_PRESPEC:
            if ptr + 7 > optlen:
                raise OptionError(IP_HLEN + at + 2)
            slot = int.from_bytes(buf[at + ptr - 1 : at + ptr + 3], "big")
            if inet_addr_type(net, slot) != uapi.RTN_UNICAST:
                timeptr = ptr + 3
                opt.ts_needtime = True
                buf[at + 2] = ptr + 8
        elif not received:
            raise OptionError(IP_HLEN + at + 3)
        if timeptr >= 0 and received:
            stamp = inet_current_timestamp(net)
            buf[at + timeptr : at + timeptr + 4] = stamp.to_bytes(4, "big")
            opt.is_changed = True
    elif kind != IPOPT_TS_PRESPEC:
        overflow = buf[at + 3] >> 4
        if overflow == 15:
            raise OptionError(IP_HLEN + at + 3)
        if received:
            buf[at + 3] = kind | (overflow + 1) << 4
            opt.is_changed = True
    opt.ts = IP_HLEN + at


def ip_options_get(net: Net, data: bytes) -> ip_options | None:
    """net/ipv4/ip_options.c: parse a user's options, padded to 4 bytes. Raises: OSError EINVAL."""
    if len(data) > MAX_IPOPTLEN:
        raise os_error(errno.EINVAL, f"{len(data)} bytes of IP options; at most 40 fit")
    padded = bytes(data) + bytes(-len(data) % 4)
    if not padded:
        return None
    opt = ip_options(padded)
    try:
        ip_options_compile(net, opt, False)
    except OptionError as exc:
        raise os_error(errno.EINVAL, str(exc)) from exc
    return opt


def ip_options_undo(opt: ip_options) -> bytes:
    """net/ipv4/ip_options.c: the option area as the user gave it, before ip_options_compile."""
    buf = bytearray(opt.data)
    if opt.srr:
        at = opt.srr - IP_HLEN
        optlen = buf[at + 1]
        if optlen > 7:
            buf[at + 7 : at + optlen] = buf[at + 3 : at + optlen - 4]
        buf[at + 3 : at + 7] = opt.faddr.to_bytes(4, "big")
    if opt.rr_needaddr:
        at = opt.rr - IP_HLEN
        buf[at + 2] -= 4
        ptr = buf[at + 2]
        buf[at + ptr - 1 : at + ptr + 3] = bytes(4)
    if opt.ts:
        at = opt.ts - IP_HLEN
        if opt.ts_needtime:
            buf[at + 2] -= 4
            ptr = buf[at + 2]
            buf[at + ptr - 1 : at + ptr + 3] = bytes(4)
            if buf[at + 3] & 0xF == IPOPT_TS_PRESPEC:
                buf[at + 2] -= 4
        if opt.ts_needaddr:
            buf[at + 2] -= 4
            ptr = buf[at + 2]
            buf[at + ptr - 1 : at + ptr + 3] = bytes(4)
    return bytes(buf)


def ip_options_build(opt: ip_options, daddr: int, rt: rtable, saddr: int) -> tuple[bytes, int]:
    """net/ipv4/ip_options.c: the option area and the destination address of a packet's header.

    With a source route `daddr` becomes the route's last hop, and the header has the first hop.
    """
    buf = bytearray(opt.data)
    header_daddr = daddr
    if opt.srr:
        at = opt.srr - IP_HLEN
        end = at + buf[at + 1]
        buf[end - 4 : end] = daddr.to_bytes(4, "big")
        header_daddr = opt.faddr
    source = saddr.to_bytes(4, "big")
    if opt.rr_needaddr:
        at = opt.rr - IP_HLEN
        ptr = buf[at + 2]
        buf[at + ptr - 5 : at + ptr - 1] = source
    if opt.ts_needaddr:
        at = opt.ts - IP_HLEN
        ptr = buf[at + 2]
        buf[at + ptr - 9 : at + ptr - 5] = source
    if opt.ts_needtime:
        at = opt.ts - IP_HLEN
        ptr = buf[at + 2]
        stamp = inet_current_timestamp(rt.net)
        buf[at + ptr - 5 : at + ptr - 1] = stamp.to_bytes(4, "big")
    return bytes(buf), header_daddr


def ip_options_fragment(data: bytes) -> bytes:
    """net/ipv4/ip_options.c: the area for all fragments but the first: options without the copy
    bit become no-operations."""
    buf = bytearray(data)
    at = 0
    while at < len(buf):
        kind = buf[at]
        if kind == IPOPT_END:
            break
        if kind == IPOPT_NOOP:
            at += 1
            continue
        if len(buf) - at < 2:
            break
        optlen = buf[at + 1]
        if optlen < 2 or optlen > len(buf) - at:
            break
        if not kind & IPOPT_COPY:
            buf[at : at + optlen] = bytes([IPOPT_NOOP]) * optlen
        at += optlen
    return bytes(buf)


def __ip_options_echo(net: Net, skb: sk_buff, sopt: ip_options) -> ip_options | None:
    """net/ipv4/ip_options.c: the options of a reply; None when the received ones need none.

    A recorded route and time stamps are continued, a source route is reversed.
    """
    out = bytearray()
    dopt = ip_options()
    src = bytes(IP_HLEN) + bytes(sopt.data)
    if sopt.rr:
        optlen, ptr = src[sopt.rr + 1], src[sopt.rr + 2]
        piece = bytearray(src[sopt.rr : sopt.rr + optlen])
        dopt.rr = len(out) + IP_HLEN
        if sopt.rr_needaddr and ptr <= optlen:
            if ptr + 3 > optlen:
                return None
            piece[2] = ptr + 4
            dopt.rr_needaddr = True
        out += piece
    if sopt.ts:
        optlen, ptr = src[sopt.ts + 1], src[sopt.ts + 2]
        piece = bytearray(src[sopt.ts : sopt.ts + optlen])
        dopt.ts = len(out) + IP_HLEN
        if ptr <= optlen:
            if sopt.ts_needaddr:
                if ptr + 3 > optlen:
                    return None
                dopt.ts_needaddr = True
                ptr += 4
            if sopt.ts_needtime:
                if ptr + 3 > optlen:
                    return None
                if piece[3] & 0xF != IPOPT_TS_PRESPEC:
                    dopt.ts_needtime = True
                    ptr += 4
                elif ptr + 7 <= optlen:
                    slot = int.from_bytes(piece[ptr - 1 : ptr + 3], "big")
                    if inet_addr_type(net, slot) != uapi.RTN_UNICAST:
                        dopt.ts_needtime = True
                        ptr += 8
            piece[2] = ptr
        out += piece
    if sopt.srr:
        route, faddr = _reverse_srr(src[sopt.srr :], ip_hdr(skb).saddr)
        if route:
            dopt.faddr = faddr
            dopt.srr = len(out) + IP_HLEN
            dopt.is_strictroute = sopt.is_strictroute
            out += route
    if sopt.cipso:
        dopt.cipso = len(out) + IP_HLEN
        out += src[sopt.cipso : sopt.cipso + src[sopt.cipso + 1]]
    out += bytes(-len(out) % 4)
    if len(out) > MAX_IPOPTLEN:
        return None
    dopt.data = out
    dopt.optlen = len(out)
    return dopt


def _reverse_srr(start: bytes, saddr: int) -> tuple[bytes, int]:
    """Reverse a source-route option: (option, first hop); (b"", 0) when no hop is left."""
    optlen, ptr = start[1], start[2]
    if ptr > optlen:
        ptr = optlen + 1
    # Go back from the pointer to the first slot. The pointer may be between two slots.
    hops = [start[i - 1 : i + 3] for i in range(ptr - 4, 3, -4)]
    if not hops:
        return b"", 0
    first, rest = hops[0], hops[1:]
    # RFC 1812: the first recorded hop must not be the source itself; leave it out.
    if hops[-1] == saddr.to_bytes(4, "big"):
        if not rest:
            return b"", 0
        rest = rest[:-1]
    slots = b"".join(rest) + bytes(4)  # the last slot takes the final destination
    return bytes((start[0], len(slots) + 3, 4)) + slots, int.from_bytes(first, "big")


def fib_compute_spec_dst(skb: sk_buff) -> int:
    """net/ipv4/fib_frontend.c: our address as the sender of `skb` should see it."""
    rt = skb.dst
    iph = ip_hdr(skb)
    if rt is not None and rt.rt_type == uapi.RTN_LOCAL:
        return iph.daddr
    dev: net_device = skb.dev
    if not iph.saddr:
        return inet_select_addr(dev, iph.saddr, uapi.RT_SCOPE_LINK)
    res = fib_lookup(dev.net, iph.saddr, iph.tos & IPTOS_RT_MASK)
    if dev.net.ipv4.rt_by_flow and res == -errno.ENETUNREACH:
        fl4 = flowi(uapi.AF_INET, iph.saddr, flowi_tos=iph.tos)
        if dev.ip_ptr is not None and in_dev_conf(dev.ip_ptr, "src_valid_mark"):
            fl4.flowi_mark = skb.mark
        res = __fib_lookup(dev.net, fl4, LOOPBACK_IFINDEX, l3mdev_master_ifindex(dev))
    if isinstance(res, fib_result):
        return fib_result_prefsrc(dev.net, res)
    return inet_select_addr(dev, iph.saddr, uapi.RT_SCOPE_UNIVERSE)


def received_options(skb: sk_buff) -> ip_options | None:
    """IPCB(skb)->opt: the parsed options of a received packet, None when it has none."""
    cb = skb.cb
    if cb.__class__ is sock_exterr_skb:
        cb = cb.opt
    return cb if cb.__class__ is ip_options else None
