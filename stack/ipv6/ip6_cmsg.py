"""Control messages of AF_INET6 sockets, both ways (net/ipv6/datagram.c; RFC 3542).

    recvmsg of UDP, raw, ping, TCP -> ip6_datagram_recv_ctl
        ip6_datagram_recv_specific_ctl      fields of the IPv6 packet's headers, one put_cmsg each
            received_exthdrs                its extension headers, in wire order
        ip_cmsg_recv_offset                 a v4-mapped packet: IPv4's messages
    sendmsg -> ip6_datagram_send_ctl        sets the flow `fl6` and the cookie `ipc6`
        _pktinfo                            source address and interface
        check_opt_hdr, with_header          extension headers, also from socket options

`RECV_OPTIONS` joins each socket option to its field of `rxopt` in `ipv6_pinfo`; the file keeps no
other state. Addresses inside messages are in network order, ints in the machine's order. Read
ip6_datagram_send_ctl first.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import replace
from typing import Any

from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_network_offset, skb_pull, skb_push
from fastpath.net.hdr import ip_hdr, ipv6_hdr
from stack.core import uapi
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.l3mdev import sk_dev_equal_l3scope
from stack.core.netdevice import ETH_P_IP
from stack.core.rows import wide
from stack.core.sock import ns_capable
from stack.core.sockaddr import sockaddr
from stack.core.sockopt import __sock_cmsg_send, put_cmsg, sockcm_cookie
from stack.core.sockopt_table import exact_int, int_bytes, opt_bytes
from stack.core.uapi import CAP_NET_RAW, IPV6_FLOWLABEL_MASK, IPV6_HLEN, SOL_IPV6
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_can_nonlocal_bind, inet_sock
from stack.ipv4.ip_sockglue import (
    PKTINFO6,
    in_skb_info,
    ip_cmsg_recv_offset,
    ipv4_pktinfo_prepare,
    transport_dport,
)
from stack.ipv6.addr import (
    IN6ADDR_LOOPBACK,
    IN6ADDR_V4MAPPED,
    in6_bytes,
    ipv6_addr_is_linklocal,
)
from stack.ipv6.if_inet6 import IFA_F_TENTATIVE, ipv6_chk_acast_addr, ipv6_chk_addr_and_flags
from stack.ipv6.ip6_append import ipcm6_cookie
from stack.ipv6.pinfo import ipv6_pinfo
from stack.ipv6.protocol import (
    NEXTHDR_AUTH,
    NEXTHDR_DEST,
    NEXTHDR_FRAGMENT,
    NEXTHDR_HOP,
    NEXTHDR_NONE,
    NEXTHDR_ROUTING,
)
from stack.ipv6.txoptions import IPV6_SRCRT_TYPE_2, IPV6_SRCRT_TYPE_4, ipv6_ext_hdr, ipv6_txoptions
from stack.net import Net

SOCKADDR_IN6 = struct.Struct("=H2s4s16sI")
MTUINFO = struct.Struct("=28sI")

CMSG_IPV6 = 1 << 16
"""A bit of inet_sock.cmsg_flags, beside IPv4's: some IPV6_RECV* option is on."""


def sockaddr_in6(name: sockaddr | None) -> bytes:
    """struct sockaddr_in6; an IPv4 address is mapped; zeros for None."""
    if name is None:
        return bytes(SOCKADDR_IN6.size)
    addr = name.addr if name.family == uapi.AF_INET6 else IN6ADDR_V4MAPPED | name.addr
    return SOCKADDR_IN6.pack(
        uapi.AF_INET6,
        name.port.to_bytes(2, "big"),
        name.flowinfo.to_bytes(4, "big"),
        in6_bytes(addr),
        name.scope_id,
    )


def iface_scope_id(addr: wide, ifindex: int) -> int:
    """include/net/ipv6.h ipv6_iface_scope_id: the scope of an address seen on an interface."""
    if ipv6_addr_is_linklocal(addr) or (addr >> 120 == 0xFF and (addr >> 112 & 15) in (1, 2)):
        return ifindex
    return 0


# --- receiving -----------------------------------------------------------------------------


def ipv6_pktinfo_prepare(sk: inet_sock, skb: sk_buff) -> None:
    """Save an IPv4 packet's data for control messages; an IPv6 packet keeps its headers."""
    if skb.protocol == ETH_P_IP:
        ipv4_pktinfo_prepare(sk, skb)


def ip6_datagram_recv_ctl(msg: msghdr, sk: inet_sock, skb: sk_buff, tlen: int, offset: int) -> None:
    """net/ipv6/datagram.c: the control messages that an AF_INET6 socket enabled."""
    np = sk.pinet6
    assert np is not None
    if skb.protocol == ETH_P_IP:
        if np.rxopt.rxinfo:
            info = skb.cb if isinstance(skb.cb, in_skb_info) else None
            daddr = IN6ADDR_V4MAPPED | ip_hdr(skb).daddr
            data = PKTINFO6.pack(in6_bytes(daddr), info.ifindex if info is not None else 0)
            put_cmsg(msg, SOL_IPV6, uapi.IPV6_PKTINFO, data)
        if sk.cmsg_flags & ~CMSG_IPV6:
            ip_cmsg_recv_offset(msg, sk, skb, tlen, offset)
        return
    ip6_datagram_recv_specific_ctl(msg, np, skb)


def ip6_datagram_recv_specific_ctl(msg: msghdr, np: ipv6_pinfo, skb: sk_buff) -> None:
    """net/ipv6/datagram.c: the control messages about an IPv6 packet's headers."""
    rx = np.rxopt
    iph = ipv6_hdr(skb)
    pktinfo = PKTINFO6.pack(in6_bytes(iph.daddr), skb.skb_iif)
    if rx.rxinfo:
        put_cmsg(msg, SOL_IPV6, uapi.IPV6_PKTINFO, pktinfo)
    if rx.rxhlim:
        put_cmsg(msg, SOL_IPV6, uapi.IPV6_HOPLIMIT, int_bytes(iph.hop_limit))
    if rx.rxtclass:
        put_cmsg(msg, SOL_IPV6, uapi.IPV6_TCLASS, int_bytes(iph.priority))
    if rx.rxflow:
        flowinfo = iph.priority << 20 | iph.flow_lbl
        if flowinfo:
            put_cmsg(msg, SOL_IPV6, uapi.IPV6_FLOWINFO, flowinfo.to_bytes(4, "big"))
    found: list[tuple[int, bytes]] = []
    if rx.hopopts or rx.ohopopts or rx.dstopts or rx.odstopts or rx.srcrt or rx.osrcrt:
        found = received_exthdrs(skb)
        wanted = {NEXTHDR_HOP: rx.hopopts, NEXTHDR_DEST: rx.dstopts, NEXTHDR_ROUTING: rx.srcrt}
        put_exthdrs(msg, found, wanted, EXTHDR_CMSGS)
    # in the form of RFC 2292
    if rx.rxoinfo:
        put_cmsg(msg, SOL_IPV6, uapi.IPV6_2292PKTINFO, pktinfo)
    if rx.rxohlim:
        put_cmsg(msg, SOL_IPV6, uapi.IPV6_2292HOPLIMIT, int_bytes(iph.hop_limit))
    wanted = {NEXTHDR_HOP: rx.ohopopts, NEXTHDR_DEST: rx.odstopts, NEXTHDR_ROUTING: rx.osrcrt}
    put_exthdrs(msg, last_dstopts(found), wanted, EXTHDR_CMSGS_2292)
    if rx.rxorigdstaddr and (port := transport_dport(skb)) >= 0:
        name = sockaddr(uapi.AF_INET6, iph.daddr, port, 0, iface_scope_id(iph.daddr, skb.skb_iif))
        put_cmsg(msg, SOL_IPV6, uapi.IPV6_ORIGDSTADDR, sockaddr_in6(name))
    if rx.recvfragsize and skb.frag_max_size:
        put_cmsg(msg, SOL_IPV6, uapi.IPV6_RECVFRAGSIZE, int_bytes(skb.frag_max_size))


EXTHDR_CMSGS = {
    NEXTHDR_HOP: uapi.IPV6_HOPOPTS,
    NEXTHDR_DEST: uapi.IPV6_DSTOPTS,
    NEXTHDR_ROUTING: uapi.IPV6_RTHDR,
}
EXTHDR_CMSGS_2292 = {
    NEXTHDR_HOP: uapi.IPV6_2292HOPOPTS,
    NEXTHDR_DEST: uapi.IPV6_2292DSTOPTS,
    NEXTHDR_ROUTING: uapi.IPV6_2292RTHDR,
}


def put_exthdrs(
    msg: msghdr, found: list[tuple[int, bytes]], wanted: dict[int, Any], numbers: dict[int, int]
) -> None:
    """A control message for each extension header of an enabled kind."""
    for kind, header in found:
        if wanted[kind]:
            put_cmsg(msg, SOL_IPV6, numbers[kind], header)


def last_dstopts(found: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """inet6_skb_parm dst0 and dst1: the last destination options before and after a routing
    header."""
    kept: list[tuple[int, bytes]] = []
    for kind, header in found:
        if kind == NEXTHDR_DEST and kept and kept[-1][0] == NEXTHDR_DEST:
            kept.pop()
        kept.append((kind, header))
    return kept


def headers(skb: sk_buff) -> bytes:
    """The bytes of a received packet from its IPv6 header to its data."""
    before = -skb_network_offset(skb)
    if before <= 0:
        return b""
    skb_push(skb, before)
    data = bytes(skb_copy_bits(skb, 0, before))
    skb_pull(skb, before)
    return data


def received_exthdrs(skb: sk_buff) -> list[tuple[int, bytes]]:
    """(kind, bytes) of the hop-by-hop, destination options and routing headers, in wire order."""
    data = headers(skb) or bytes(skb_copy_bits(skb, 0, min(skb.len, 1024)))
    kind = data[6]
    at = IPV6_HLEN
    found = []
    while ipv6_ext_hdr(kind) and kind != NEXTHDR_NONE and at + 8 <= len(data):
        size = (data[at + 1] + 2) << 2 if kind == NEXTHDR_AUTH else (data[at + 1] + 1) << 3
        if kind in (NEXTHDR_HOP, NEXTHDR_DEST, NEXTHDR_ROUTING):
            found.append((kind, data[at : at + size]))
        elif kind == NEXTHDR_FRAGMENT:  # it has no length field
            size = 8
        kind, at = data[at], at + size
    return found


# --- sending -------------------------------------------------------------------------------


def check_opt_hdr(net: Net, optname: int, data: bytes) -> bytes:
    """Check an extension header that an application sets; b"" removes it.

    Raises: OSError EPERM (not root), EINVAL (its length, a routing type that is not allowed).
    """
    if optname not in (uapi.IPV6_RTHDR, uapi.IPV6_2292RTHDR) and not ns_capable(net, CAP_NET_RAW):
        raise os_error(errno.EPERM, f"extension headers: the user is {net.uid}, not root")
    if not data:
        return b""
    if len(data) < 2 or (data[1] + 1) << 3 > len(data):
        raise os_error(errno.EINVAL, f"an extension header of {len(data)} bytes")
    data = data[: (data[1] + 1) << 3]
    if optname in (uapi.IPV6_RTHDR, uapi.IPV6_2292RTHDR):
        kind, hdrlen, left = data[2], data[1], data[3]
        if kind == IPV6_SRCRT_TYPE_2:
            good = hdrlen == 2 and left == 1
        elif kind == IPV6_SRCRT_TYPE_4:
            good = len(data) >= 24 and data[4] >= left and (data[4] + 1) * 2 <= hdrlen
        else:
            good = False  # type 0 is deprecated (RFC 5095)
        if not good:
            raise os_error(errno.EINVAL, f"routing header of type {kind}, length {hdrlen}")
    return data


def with_header(opt: ipv6_txoptions | None, optname: int, data: bytes) -> ipv6_txoptions | None:
    """net/ipv6/exthdrs.c ipv6_renew_options: a copy of `opt` with one header set or removed."""
    old = opt if opt is not None else ipv6_txoptions()
    if optname in (uapi.IPV6_HOPOPTS, uapi.IPV6_2292HOPOPTS):
        new = replace(old, hopopt=data)
    elif optname == uapi.IPV6_RTHDRDSTOPTS:
        new = replace(old, dst0opt=data)
    elif optname in (uapi.IPV6_RTHDR, uapi.IPV6_2292RTHDR):
        new = replace(old, srcrt=data)
    else:
        new = replace(old, dst1opt=data)
    return new if new != ipv6_txoptions() else None


HEADER_MESSAGES = (
    uapi.IPV6_HOPOPTS,
    uapi.IPV6_2292HOPOPTS,
    uapi.IPV6_RTHDRDSTOPTS,
    uapi.IPV6_RTHDR,
    uapi.IPV6_2292RTHDR,
    uapi.IPV6_DSTOPTS,
    uapi.IPV6_2292DSTOPTS,
)


def _pktinfo(sk: inet_sock, fl6: flowi, raw: bytes) -> None:
    """IPV6_PKTINFO: source and interface of this datagram."""
    if len(raw) < PKTINFO6.size:
        raise os_error(errno.EINVAL, "IPV6_PKTINFO takes a struct in6_pktinfo of 20 bytes")
    text, ifindex = PKTINFO6.unpack_from(raw)
    addr = int.from_bytes(text, "big")
    net = sk.net
    if ifindex:
        if (
            fl6.flowi_oif
            and ifindex != fl6.flowi_oif
            and (fl6.flowi_oif != sk.sk_bound_dev_if or not sk_dev_equal_l3scope(sk, ifindex))
        ):
            raise os_error(errno.EINVAL, f"interface {ifindex} is not the socket's")
        fl6.flowi_oif = ifindex
    dev = None
    if fl6.flowi_oif:
        dev = net.dev_by_index.get(fl6.flowi_oif)
        if dev is None:
            raise os_error(errno.ENODEV, f"no device with index {fl6.flowi_oif}")
    elif ipv6_addr_is_linklocal(addr):
        raise os_error(errno.EINVAL, "a link-local source needs an interface")
    if addr and not inet_can_nonlocal_bind(sk, net.ipv6.sysctl.ip_nonlocal_bind):
        strict = ipv6_addr_is_linklocal(addr) or addr == IN6ADDR_LOOPBACK
        found = ipv6_chk_addr_and_flags(net, addr, dev, not strict, False, IFA_F_TENTATIVE)
        if found is None and not ipv6_chk_acast_addr(net, dev, addr):
            raise os_error(errno.EINVAL, "the source is not an address of this host")
    if addr:
        fl6.saddr = addr


def ip6_datagram_send_ctl(
    sk: inet_sock, control: list[Any], fl6: flowi, ipc6: ipcm6_cookie
) -> None:
    """net/ipv6/datagram.c: set `fl6` and `ipc6` by the control messages of a sendmsg.

    `control`: [(level, type, bytes or int)]. Raises: OSError EINVAL, EPERM, ENODEV.
    """
    sockc = sockcm_cookie(sk, ipc6.mark, ipc6.priority)
    for level, kind, data in control:
        if level == uapi.SOL_SOCKET:
            __sock_cmsg_send(sk, kind, data, sockc)
            ipc6.mark = sockc.mark
            ipc6.sockc = sockc
            if kind == uapi.SO_MARK:
                fl6.flowi_mark = sockc.mark
            ipc6.priority = sockc.priority
            continue
        if level != SOL_IPV6:
            continue
        if kind in (uapi.IPV6_PKTINFO, uapi.IPV6_2292PKTINFO):
            _pktinfo(sk, fl6, opt_bytes(data))
        elif kind == uapi.IPV6_FLOWINFO:
            raw = opt_bytes(data)
            if len(raw) < 4:
                raise os_error(errno.EINVAL, "IPV6_FLOWINFO has 4 bytes")
            fl6.flowlabel = int.from_bytes(raw[:4], "big") & IPV6_FLOWLABEL_MASK
        elif kind in HEADER_MESSAGES:
            raw = opt_bytes(data)
            if not raw:
                raise os_error(errno.EINVAL, "an extension header without bytes")
            opt = ipc6.opt
            if opt is not None and (
                (kind in (uapi.IPV6_HOPOPTS, uapi.IPV6_2292HOPOPTS) and opt.hopopt)
                or (kind == uapi.IPV6_2292DSTOPTS and opt.dst1opt)
            ):
                raise os_error(errno.EINVAL, "this extension header is there already")
            opt = with_header(opt, kind, check_opt_hdr(sk.net, kind, raw))
            if opt is not None and kind == uapi.IPV6_2292RTHDR and opt.dst1opt:
                opt = replace(opt, dst0opt=opt.dst1opt, dst1opt=b"")
            ipc6.opt = opt
        elif kind in (uapi.IPV6_HOPLIMIT, uapi.IPV6_2292HOPLIMIT):
            hlimit = (exact_int(data) + 0x8000 & 0xFFFF) - 0x8000  # Linux compares 16 bits
            if not -1 <= hlimit <= 255:
                raise os_error(errno.EINVAL, f"hop limit {hlimit} is not between -1 and 255")
            ipc6.hlimit = hlimit
        elif kind == uapi.IPV6_TCLASS:
            tclass = exact_int(data)
            if not -1 <= tclass <= 255:
                raise os_error(errno.EINVAL, f"traffic class {tclass} is not between -1 and 255")
            ipc6.tclass = tclass
        elif kind == uapi.IPV6_DONTFRAG:
            value = exact_int(data)
            if value not in (0, 1):
                raise os_error(errno.EINVAL, "IPV6_DONTFRAG is 0 or 1")
            ipc6.dontfrag = bool(value)
        else:
            raise os_error(errno.EINVAL, f"control message {kind} of IPPROTO_IPV6")
