"""IPPROTO_IPV6 options (net/ipv6/ipv6_sockglue.c; RFC 3493, RFC 3542, RFC 5014).

IPPROTO_IP options of an AF_INET6 socket are for its IPv4 packets. Multicast: ip6_mcast_opt.py.
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core import uapi
from stack.core.errors import os_error
from stack.core.sock import (
    CAP_NET_ADMIN,
    CAP_NET_RAW,
    lock_sock,
    ns_capable,
    release_sock,
    sk_dst_check,
    sk_dst_reset,
)
from stack.core.sockopt import opt_bytes, opt_int
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.uapi import AF_INET, AF_INET6, SOL_IP, SOL_IPV6
from stack.inet.af_ops import af_ops_of
from stack.inet.inet_sock import inet_sock
from stack.ipv4.ip_sockglue import ip_getsockopt, ip_setsockopt
from stack.ipv6.ip6_cmsg import (
    CMSG_IPV6,
    HEADER_MESSAGES,
    MTUINFO,
    PKTINFO6,
    RECV_OPTIONS,
    check_opt_hdr,
    with_header,
)
from stack.ipv6.ip6_flowlabel import ipv6_flowlabel_opt, ipv6_flowlabel_opt_get
from stack.ipv6.ip6_mcast_opt import ipv6_mcast_getsockopt, ipv6_mcast_setsockopt
from stack.ipv6.pinfo import IPV6_PMTUDISC_DONT, IPV6_PMTUDISC_OMIT, ipv6_pinfo, np_of
from stack.ipv6.rt6_info import IPV6_MIN_MTU, ip6_mtu
from stack.ipv6.saddr import (
    IPV6_PREFER_SRC_CGA,
    IPV6_PREFER_SRC_COA,
    IPV6_PREFER_SRC_HOME,
    IPV6_PREFER_SRC_NONCGA,
    IPV6_PREFER_SRC_PUBLIC,
    IPV6_PREFER_SRC_PUBTMP_DEFAULT,
    IPV6_PREFER_SRC_TMP,
)
from stack.ipv6.txoptions import ipv6_txoptions

ipv6_families: dict[int, Any] = {}
"""What IPV6_ADDRFORM turns a socket into: protocol number -> (struct proto, proto_ops) of IPv4."""


def boolean(optval: Any) -> bool:
    """The value of an option that is on or off."""
    return opt_int(optval) != 0


def short_is_off(optval: Any) -> bool:
    """The value of an on/off option whose length Linux does not check: off if it is too short."""
    return (isinstance(optval, int) or len(opt_bytes(optval)) >= 4) and boolean(optval)


def in_range(optval: Any, low: int, high: int, what: str) -> int:
    """The value of an int option from `low` to `high`. Raises: OSError EINVAL."""
    value = opt_int(optval)
    if not low <= value <= high:
        raise os_error(errno.EINVAL, f"{what} {value} is not between {low} and {high}")
    return value


def ipv6_setsockopt(sk: inet_sock, level: int, optname: int, optval: Any) -> None:
    """net/ipv6/ipv6_sockglue.c. Raises: OSError ENOPROTOOPT, EINVAL, ..."""
    if level == SOL_IP and sk.sk_type != uapi.SOCK_RAW:
        ip_setsockopt(sk, level, optname, optval)
        return
    if level != SOL_IPV6:
        raise os_error(errno.ENOPROTOOPT, f"unknown option level {level}")
    lock_sock(sk)
    try:
        sk.sk_tx_flow = None
        do_ipv6_setsockopt(sk, np_of(sk), optname, optval)
    finally:
        release_sock(sk)


def do_ipv6_setsockopt(sk: inet_sock, np: ipv6_pinfo, optname: int, optval: Any) -> None:
    """net/ipv6/ipv6_sockglue.c: IPPROTO_IPV6, sock owned. Raises: OSError."""
    if optname in RECV_OPTIONS:
        on = short_is_off(optval) if optname == uapi.IPV6_RECVFRAGSIZE else boolean(optval)
        setattr(np.rxopt, RECV_OPTIONS[optname], on)
        sk.cmsg_flags &= ~CMSG_IPV6
        if any(getattr(np.rxopt, field) for field in RECV_OPTIONS.values()):
            sk.cmsg_flags |= CMSG_IPV6
        return
    if optname in HEADER_MESSAGES:
        header = b"" if optval is None else opt_bytes(optval)
        if len(header) & 7:
            raise os_error(errno.EINVAL, f"an extension header of {len(header)} bytes")
        header = check_opt_hdr(sk.net, optname, header)
        if len(header) & 7 or len(header) > 8 * 255:
            raise os_error(errno.EINVAL, f"an extension header of {len(header)} bytes")
        ipv6_update_options(sk, np, with_header(np.opt, optname, header))
        return
    if ipv6_mcast_setsockopt(sk, np, optname, optval):
        return
    net = sk.net
    match optname:
        case uapi.IPV6_V6ONLY:
            if sk.inet_num:
                raise os_error(errno.EINVAL, "IPV6_V6ONLY comes before bind()")
            sk.sk_ipv6only = boolean(optval)
        case uapi.IPV6_UNICAST_HOPS:
            np.hop_limit = in_range(optval, -1, 255, "hop limit")
        case uapi.IPV6_MTU_DISCOVER:
            what = "path MTU discovery mode"
            np.pmtudisc = in_range(optval, IPV6_PMTUDISC_DONT, IPV6_PMTUDISC_OMIT, what)
        case uapi.IPV6_MTU:
            val = opt_int(optval)
            if val and val < IPV6_MIN_MTU:
                raise os_error(errno.EINVAL, f"an MTU of {val}; at least {IPV6_MIN_MTU}")
            np.frag_size = val
        case uapi.IPV6_RECVERR:
            np.recverr = boolean(optval)
            if not np.recverr:
                sk.sk_error_queue.purge()
        case uapi.IPV6_FLOWINFO_SEND:
            np.sndflow = boolean(optval)
        case uapi.IPV6_FLOWLABEL_MGR:
            ipv6_flowlabel_opt(sk, optval if isinstance(optval, bytearray) else opt_bytes(optval))
        case uapi.IPV6_TCLASS:
            val = max(in_range(optval, -1, 255, "traffic class"), 0)
            if sk.sk_type == uapi.SOCK_STREAM:
                val = val & ~3 | np.tclass & 3  # ECN bits of a stream are TCP's
            np.tclass = val
            sk_dst_reset(sk)
        case uapi.IPV6_DONTFRAG:
            np.dontfrag = short_is_off(optval)
        case uapi.IPV6_AUTOFLOWLABEL:
            np.autoflowlabel = short_is_off(optval)
            np.autoflowlabel_set = True
        case uapi.IPV6_ADDR_PREFERENCES:
            _set_preferences(np, opt_int(optval))
        case uapi.IPV6_MINHOPCOUNT:
            sk.min_hopcount = in_range(optval, 0, 255, "minimum hop count")
        case uapi.IPV6_UNICAST_IF:
            if not isinstance(optval, int) and len(opt_bytes(optval)) != 4:
                raise os_error(errno.EINVAL, "IPV6_UNICAST_IF takes an int")
            ifindex = int.from_bytes((opt_int(optval) & 0xFFFFFFFF).to_bytes(4, "little"), "big")
            if ifindex and ifindex not in net.dev_by_index:
                raise os_error(errno.EADDRNOTAVAIL, f"no device with index {ifindex}")
            np.ucast_oif = ifindex
            sk_dst_reset(sk)
        case uapi.IPV6_FREEBIND:
            sk.freebind = boolean(optval)
        case uapi.IPV6_TRANSPARENT:
            val = boolean(optval)
            if val and not (ns_capable(net, CAP_NET_ADMIN) or ns_capable(net, CAP_NET_RAW)):
                raise os_error(errno.EPERM, f"IPV6_TRANSPARENT: the user is {net.uid}")
            sk.transparent = val
            sk_dst_reset(sk)
        case uapi.IPV6_PKTINFO:
            _set_sticky_pktinfo(sk, np, opt_bytes(optval))
        case uapi.IPV6_ROUTER_ALERT:
            _set_router_alert(sk, opt_int(optval))
        case uapi.IPV6_ADDRFORM:
            ipv6_addrform(sk, opt_int(optval))
        case _:
            raise os_error(errno.ENOPROTOOPT, f"unknown IPPROTO_IPV6 option {optname}")


def ipv6_update_options(sk: inet_sock, np: ipv6_pinfo, opt: ipv6_txoptions | None) -> None:
    """net/ipv6/ipv6_sockglue.c: set every packet's extension headers; a stream adapts its MSS."""
    np.opt = opt
    if sk.is_icsk:
        sync_mss = getattr(sk, "icsk_sync_mss", None)
        sk.icsk_ext_hdr_len = opt.tot_len if opt is not None else 0  # type: ignore[attr-defined]
        if sync_mss is not None and sk.sk_state == TCP_ESTABLISHED:
            sync_mss(sk, sk.icsk_pmtu_cookie)  # type: ignore[attr-defined]
    sk_dst_reset(sk)


def _set_preferences(np: ipv6_pinfo, val: int) -> None:
    """RFC 5014: set the preferred kinds of source address, at most one of each group."""
    for group in (
        (IPV6_PREFER_SRC_TMP, IPV6_PREFER_SRC_PUBLIC, IPV6_PREFER_SRC_PUBTMP_DEFAULT),
        (IPV6_PREFER_SRC_COA, IPV6_PREFER_SRC_HOME),
        (IPV6_PREFER_SRC_CGA, IPV6_PREFER_SRC_NONCGA),
    ):
        if sum(bool(val & bit) for bit in group) > 1:
            raise os_error(errno.EINVAL, f"address preferences {val:#x} exclude each other")
    np.srcprefs = val & (IPV6_PREFER_SRC_TMP | IPV6_PREFER_SRC_PUBLIC | IPV6_PREFER_SRC_COA)


def _set_sticky_pktinfo(sk: inet_sock, np: ipv6_pinfo, data: bytes) -> None:
    """IPV6_PKTINFO as an option: source and interface of every datagram (RFC 3542 6.1)."""
    if len(data) < PKTINFO6.size:
        raise os_error(errno.EINVAL, "IPV6_PKTINFO takes a struct in6_pktinfo of 20 bytes")
    text, ifindex = PKTINFO6.unpack_from(data)
    if sk.sk_bound_dev_if and ifindex != sk.sk_bound_dev_if:
        raise os_error(errno.EINVAL, "the socket is bound to another interface")
    np.sticky_addr, np.sticky_ifindex = int.from_bytes(text, "big"), ifindex


def _set_router_alert(sk: inet_sock, val: int) -> None:
    """IPV6_ROUTER_ALERT: receive forwarded packets with this alert (RFC 2711); -1: none."""
    if sk.sk_type != uapi.SOCK_RAW or sk.inet_num != uapi.IPPROTO_RAW:
        raise os_error(errno.ENOPROTOOPT, "IPV6_ROUTER_ALERT is for raw sockets of IPPROTO_RAW")
    chain = sk.net.ipv6.ra_chain
    mine = [entry for entry in chain if entry[1] is sk]
    if val < 0:
        for entry in mine:
            chain.remove(entry)
        return
    if mine:
        raise os_error(errno.EADDRINUSE, "already set")
    chain.append((val, sk))


def ipv6_addrform(sk: inet_sock, family: int) -> None:
    """IPV6_ADDRFORM: make a socket with a v4-mapped peer an AF_INET one (RFC 2553, obsolete).

    Raises: OSError EADDRNOTAVAIL, ENOTCONN, EBUSY, ENOPROTOOPT.
    """
    if family != AF_INET:
        raise os_error(errno.EINVAL, "IPV6_ADDRFORM takes AF_INET")
    if sk.sk_type == uapi.SOCK_RAW:
        raise os_error(errno.ENOPROTOOPT, "IPV6_ADDRFORM is for streams and datagrams")
    made = ipv6_families.get(sk.sk_protocol)
    if made is None:
        raise os_error(errno.ENOPROTOOPT, "IPV6_ADDRFORM is for TCP and UDP")
    if sk.sk_state != TCP_ESTABLISHED:
        raise os_error(errno.ENOTCONN, "only a connected socket changes its family")
    if sk.sk_ipv6only or sk.sk_af.family != AF_INET:
        raise os_error(errno.EADDRNOTAVAIL, "the peer is no v4-mapped address")
    prot, ops, icsk_af_ops = made
    for af in af_ops_of.values():
        af.mc_drop_socket(sk)
    sk.sk_prot = prot
    if icsk_af_ops is not None:
        sk.icsk_af_ops = icsk_af_ops  # type: ignore[attr-defined]
    if sk.sk_socket is not None:
        sk.sk_socket.ops = ops
    sk.sk_family = AF_INET
    sk.pinet6 = None
    sk.cmsg_flags &= ~CMSG_IPV6
    sk.sk_backlog_rcv = prot.backlog_rcv


def ipv6_getsockopt(sk: inet_sock, level: int, optname: int) -> Any:
    """net/ipv6/ipv6_sockglue.c: an int or bytes. Raises: OSError ENOPROTOOPT, ENOTCONN."""
    if level == SOL_IP and sk.sk_type != uapi.SOCK_RAW:
        return ip_getsockopt(sk, level, optname)
    if level != SOL_IPV6:
        raise os_error(errno.ENOPROTOOPT, f"unknown option level {level}")
    np = np_of(sk)
    if optname in RECV_OPTIONS:
        return int(getattr(np.rxopt, RECV_OPTIONS[optname]))
    if optname in HEADER_MESSAGES:
        return sticky_header(np.opt or ipv6_txoptions(), optname)
    value = ipv6_mcast_getsockopt(sk, np, optname)
    if value is not None:
        return value
    net = sk.net
    match optname:
        case uapi.IPV6_ADDRFORM:
            if sk.sk_protocol not in (uapi.IPPROTO_UDP, uapi.IPPROTO_TCP):
                raise os_error(errno.ENOPROTOOPT, "IPV6_ADDRFORM is for TCP and UDP")
            if sk.sk_state != TCP_ESTABLISHED:
                raise os_error(errno.ENOTCONN, "not connected")
            return sk.sk_family
        case uapi.IPV6_V6ONLY:
            return int(sk.sk_ipv6only)
        case uapi.IPV6_UNICAST_HOPS:
            if np.hop_limit >= 0:
                return np.hop_limit
            return net.ipv6.devconf_all.hop_limit
        case uapi.IPV6_MTU:
            dst = sk_dst_check(sk, 0)
            if dst is None:
                raise os_error(errno.ENOTCONN, "the path MTU is known to connected sockets only")
            return dst.ops.mtu(dst) if dst.ops.family != AF_INET6 else ip6_mtu(dst)
        case uapi.IPV6_PATHMTU:
            dst = sk_dst_check(sk, 0)
            if dst is None:
                raise os_error(errno.ENOTCONN, "the path MTU is known to connected sockets only")
            mtu = ip6_mtu(dst) if dst.ops.family == AF_INET6 else dst.ops.mtu(dst)
            return MTUINFO.pack(bytes(28), mtu)  # without an address, as on Linux
        case uapi.IPV6_MTU_DISCOVER:
            return np.pmtudisc
        case uapi.IPV6_RECVERR:
            return int(np.recverr)
        case uapi.IPV6_FLOWINFO_SEND:
            return int(np.sndflow)
        case uapi.IPV6_FLOWLABEL_MGR:
            return ipv6_flowlabel_opt_get(sk, 0).pack()
        case uapi.IPV6_TCLASS:
            return np.tclass
        case uapi.IPV6_DONTFRAG:
            return int(np.dontfrag)
        case uapi.IPV6_AUTOFLOWLABEL:
            if np.autoflowlabel_set:
                return int(np.autoflowlabel)
            return int(net.ipv6.sysctl.auto_flowlabels not in (0, 2))
        case uapi.IPV6_ADDR_PREFERENCES:
            return _get_preferences(np)
        case uapi.IPV6_MINHOPCOUNT:
            return sk.min_hopcount
        case uapi.IPV6_UNICAST_IF:
            return int.from_bytes(np.ucast_oif.to_bytes(4, "big"), "little")
        case uapi.IPV6_FREEBIND:
            return int(sk.freebind)
        case uapi.IPV6_TRANSPARENT:
            return int(sk.transparent)
        case uapi.IPV6_ROUTER_ALERT:
            return int(any(one is sk for _, one in net.ipv6.ra_chain))
        case _:
            raise os_error(errno.ENOPROTOOPT, f"unknown IPPROTO_IPV6 option {optname}")


def _get_preferences(np: ipv6_pinfo) -> int:
    """The value of IPV6_ADDR_PREFERENCES for getsockopt."""
    val = np.srcprefs & (IPV6_PREFER_SRC_TMP | IPV6_PREFER_SRC_PUBLIC)
    if not val:
        val = IPV6_PREFER_SRC_PUBTMP_DEFAULT
    val |= np.srcprefs & IPV6_PREFER_SRC_COA or IPV6_PREFER_SRC_HOME
    return val


def sticky_header(opt: ipv6_txoptions, optname: int) -> bytes:
    """The extension header that every packet carries, b"" for none."""
    if optname in (uapi.IPV6_HOPOPTS, uapi.IPV6_2292HOPOPTS):
        return opt.hopopt
    if optname == uapi.IPV6_RTHDRDSTOPTS:
        return opt.dst0opt
    if optname in (uapi.IPV6_RTHDR, uapi.IPV6_2292RTHDR):
        return opt.srcrt
    return opt.dst1opt
