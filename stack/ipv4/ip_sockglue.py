"""Socket code at the IP level: options, control messages, the error queue.

net/ipv4/ip_sockglue.c. The options are the rows of IP_LEVEL; those about groups are in
ip_mcast_sockopt.py. Addresses inside option values and control messages are in network order, as on
Linux; ints are in the machine's order.
"""

from __future__ import annotations

import errno
import struct
from functools import partial
from typing import Any

from fastpath.base.csum import csum_fold
from fastpath.base.skbuff import sk_buff, skb_checksum, skb_copy_bits, skb_transport_offset
from fastpath.net.hdr import ip_hdr, udp_hdr
from stack.core import uapi
from stack.core.dst import dst_mtu
from stack.core.errors import os_error
from stack.core.errqueue import sock_exterr_skb
from stack.core.iov import msghdr
from stack.core.l3mdev import inet_sdif, l3mdev_master_ifindex_by_index, sk_dev_equal_l3scope
from stack.core.rows import narrow, state
from stack.core.sock import lock_sock, release_sock, sk_dst_reset
from stack.core.sockaddr import sockaddr
from stack.core.sockopt import __sock_cmsg_send, put_cmsg, sockcm_cookie
from stack.core.sockopt_table import (
    ADMIN,
    ON_OFF,
    OPTLEN_ANY,
    RAW,
    TCP,
    Level,
    SockOpt,
    exact_int,
    fact,
    flag,
    get_option,
    int_bytes,
    need_device,
    number,
    only,
    opt_bytes,
    opt_int,
    opt_raw,
    opt_struct,
    set_option,
    swapped,
    swapped_int,
    switch,
)
from stack.core.tcp_states import TCP_CLOSE, TCP_LISTEN
from stack.core.uapi import CAP_NET_ADMIN, CAP_NET_RAW, IP_XFRM_POLICY, SOL_IP, SOL_IPV6
from stack.inet.inet_sock import inet_sock, ip_options
from stack.inet.mroute_sockopt import mroute_socket
from stack.inet.raw import ra_control, ra_has
from stack.inet.tcp_sock import tcp_sock
from stack.inet.xfrm_policy import xfrm_user_policy
from stack.ipv4.fib import ip_dev_find
from stack.ipv4.ip_errqueue import net_addr, sockaddr_in
from stack.ipv4.ip_mcast_sockopt import GROUP_OPTIONS
from stack.ipv4.ip_options import (
    __ip_options_echo,
    fib_compute_spec_dst,
    ip_options_get,
    ip_options_undo,
    received_options,
)
from stack.ipv4.ip_output import ipcm_cookie
from stack.ipv4.ipmr import ipmr_ops
from stack.ipv4.ipmr_sockopt import MRT_OPTIONS
from stack.ipv4.route import rt_tos2priority

CMSGHDR = struct.Struct("=Qii")
MAX_CONTROL = 1 << 16
IP_CMSG_PKTINFO = 1 << 0
IP_CMSG_TTL = 1 << 1
IP_CMSG_TOS = 1 << 2
IP_CMSG_RECVOPTS = 1 << 3
IP_CMSG_RETOPTS = 1 << 4
IP_CMSG_ORIGDSTADDR = 1 << 6
IP_CMSG_CHECKSUM = 1 << 7
IP_CMSG_RECVFRAGSIZE = 1 << 8

PKTINFO = struct.Struct("=i4s4s")
PKTINFO6 = struct.Struct("=16si")
MAPPED = bytes(10) + b"\xff\xff"
"""Prefix of v4-mapped addresses."""


@state
class in_skb_info:
    """What ipv4_pktinfo_prepare saves for control messages: the PKTINFO_SKB_CB."""

    ifindex: int
    spec_dst: int
    opt: ip_options | None


def ipv4_pktinfo_prepare(sk: inet_sock, skb: sk_buff, drop_dst: bool = True) -> None:
    """net/ipv4/ip_sockglue.c: save data for the control messages IP_PKTINFO and of IP options."""
    if not sk.cmsg_flags:
        return
    ifindex = spec = 0
    if sk.cmsg_flags & IP_CMSG_PKTINFO or (sk.pinet6 is not None and sk.pinet6.rxopt.rxinfo):
        dev = skb.dev
        rt = skb.dst
        # In a VRF it is the port that received the packet.
        ifindex = inet_sdif(skb) or (dev.ifindex if dev else 0)
        if rt is not None and rt.rt_iif and not (rt.rt_is_input and inet_sdif(skb)):
            ifindex = rt.rt_iif
        if dev is not None and rt is not None:
            spec = fib_compute_spec_dst(skb)
    skb.cb = in_skb_info(ifindex, spec, received_options(skb))


def ip_cmsg_recv_offset(msg: msghdr, sk: inet_sock, skb: sk_buff, tlen: int, offset: int) -> None:
    """net/ipv4/ip_sockglue.c: the control messages that the socket enabled."""
    flags = sk.cmsg_flags
    iph = ip_hdr(skb)
    info = skb.cb if isinstance(skb.cb, in_skb_info) else None
    opt = info.opt if info is not None else received_options(skb)
    if flags & IP_CMSG_PKTINFO:
        ifindex = spec = 0
        if info is not None:
            ifindex, spec = info.ifindex, info.spec_dst
        elif isinstance(skb.cb, sock_exterr_skb) or (
            sk.sk_type == uapi.SOCK_DGRAM and sk.sk_protocol == uapi.IPPROTO_ICMP
        ):
            # An error's packet or a ping socket's was not prepared, so this is unchanged.
            ifindex = skb.skb_iif
        data = PKTINFO.pack(ifindex, net_addr(spec), net_addr(iph.daddr))
        put_cmsg(msg, SOL_IP, uapi.IP_PKTINFO, data)
    if flags & IP_CMSG_TTL:
        put_cmsg(msg, SOL_IP, uapi.IP_TTL, int_bytes(iph.ttl))
    if flags & IP_CMSG_TOS:
        put_cmsg(msg, SOL_IP, uapi.IP_TOS, bytes((iph.tos,)))
    if flags & IP_CMSG_RECVOPTS and opt is not None and opt.optlen:
        put_cmsg(msg, SOL_IP, uapi.IP_RECVOPTS, iph.options)
    if flags & IP_CMSG_RETOPTS and opt is not None and opt.optlen:
        reply = __ip_options_echo(sk.net, skb, opt)
        if reply is None:
            msg.msg_flags |= uapi.MSG_CTRUNC
        else:
            put_cmsg(msg, SOL_IP, uapi.IP_RETOPTS, ip_options_undo(reply))
    if flags & IP_CMSG_ORIGDSTADDR:
        xtp = sk.sk_protocol == uapi.IPPROTO_XTP
        dport = sk.inet_sport if xtp else transport_dport(skb)
        if dport >= 0:
            to = sockaddr(uapi.AF_INET, iph.daddr, dport)
            put_cmsg(msg, SOL_IP, uapi.IP_ORIGDSTADDR, sockaddr_in(to))
    if flags & IP_CMSG_CHECKSUM:
        total = ~csum_fold(skb_checksum(skb, 0, skb.len)) & 0xFFFF
        put_cmsg(msg, SOL_IP, uapi.IP_CHECKSUM, int_bytes(total))
    if flags & IP_CMSG_RECVFRAGSIZE and skb.frag_max_size:
        put_cmsg(msg, SOL_IP, uapi.IP_RECVFRAGSIZE, int_bytes(skb.frag_max_size))


def transport_dport(skb: sk_buff) -> int:
    """The two bytes at the place of a destination port; -1 when the packet is too short."""
    at = skb_transport_offset(skb)
    if at < 0:
        return udp_hdr(skb).dest  # the protocol has pulled the header
    return int.from_bytes(skb_copy_bits(skb, at + 2, 2), "big") if skb.len >= at + 4 else -1


def ip_cmsg_send(sk: inet_sock, control: list[Any], ipc: ipcm_cookie) -> None:
    """net/ipv4/ip_sockglue.c: set `ipc` by the control messages of a sendmsg.

    `control`: [(level, type, bytes or int)]. Raises: OSError EINVAL.
    """
    sockc = sockcm_cookie(sk, ipc.sockc_mark, ipc.priority)
    for level, kind, data in control:
        if level == uapi.SOL_SOCKET:
            __sock_cmsg_send(sk, kind, data, sockc)
            ipc.sockc_mark, ipc.priority, ipc.sockc = sockc.mark, sockc.priority, sockc
            continue
        if level == SOL_IPV6 and kind == uapi.IPV6_PKTINFO and sk.sk_family == uapi.AF_INET6:
            ifindex, ipc.addr = mapped_pktinfo(opt_bytes(data))
            if ifindex:
                ipc.oif = ifindex
            continue
        if level != SOL_IP:
            continue
        if kind == uapi.IP_RETOPTS:
            # An empty option area also counts: then the socket's options are not sent.
            ipc.opt = ip_options_get(sk.net, opt_bytes(data)[:40]) or ip_options()
        elif kind == uapi.IP_PKTINFO:
            raw = opt_bytes(data)
            if len(raw) != PKTINFO.size:
                raise os_error(errno.EINVAL, "IP_PKTINFO takes a struct in_pktinfo of 12 bytes")
            ifindex, spec_dst, _ = PKTINFO.unpack(raw)
            if ifindex:
                ipc.oif = ifindex
            ipc.addr = int.from_bytes(spec_dst, "big")
        elif kind == uapi.IP_TTL:
            ttl = exact_int(data)
            if not 1 <= ttl <= 255:
                raise os_error(errno.EINVAL, f"TTL {ttl} is not between 1 and 255")
            ipc.ttl = ttl
        elif kind == uapi.IP_TOS:
            tos = data[0] if not isinstance(data, int) and len(data) == 1 else exact_int(data)
            if not 0 <= tos <= 255:
                raise os_error(errno.EINVAL, f"TOS {tos} is not between 0 and 255")
            ipc.tos = tos
            ipc.priority = rt_tos2priority(tos)
        elif kind == uapi.IP_PROTOCOL:
            ipc.protocol = exact_int(data)
            if not 1 <= ipc.protocol <= 255:
                raise os_error(errno.EINVAL, f"protocol {ipc.protocol} is not between 1 and 255")
        else:
            raise os_error(errno.EINVAL, f"control message {kind} of IPPROTO_IP")


def mapped_pktinfo(raw: bytes) -> tuple[int, int]:
    """Interface and IPv4 source of an IPV6_PKTINFO whose address is v4-mapped. Raises: EINVAL."""
    if len(raw) < PKTINFO6.size:
        raise os_error(errno.EINVAL, "IPV6_PKTINFO takes a struct in6_pktinfo of 20 bytes")
    text, ifindex = PKTINFO6.unpack_from(raw)
    if not text.startswith(MAPPED):
        raise os_error(errno.EINVAL, "the source of a datagram of IPv4 is a v4-mapped address")
    return ifindex, int.from_bytes(text[12:], "big")


# --- IPPROTO_IP options --------------------------------------------------------------------


def ip_sock_set_tos(sk: inet_sock, val: int) -> None:
    """net/ipv4/ip_sockglue.c: TOS and the priority that follows from it."""
    if sk.sk_type == uapi.SOCK_STREAM:
        val = val & ~3 | sk.tos & 3  # TCP sets the ECN bits of a stream
    if sk.tos != val:
        sk.tos = val & 0xFF
        sk.sk_priority = rt_tos2priority(val)
        sk_dst_reset(sk)


def opt_char(optval: Any) -> int:
    """The value of an int option, also given as 1 byte or as none (0). Raises: OSError EINVAL."""
    if isinstance(optval, int):
        return int(optval)
    data = opt_bytes(optval)
    if len(data) < 4:
        return data[0] if data else 0
    return opt_int(data)


def opt_byte(optval: Any) -> int:
    """The value of an int option, also given as 1 byte. Raises: OSError EINVAL."""
    if not isinstance(optval, int) and not opt_bytes(optval):
        raise os_error(errno.EINVAL, "an option value without bytes")
    return opt_char(optval)


DATAGRAMS = (uapi.SOCK_DGRAM, uapi.SOCK_RAW)
not_stream = only("sk_type", DATAGRAMS, errno.EINVAL, "streams have no fragments, no multicast")
only_raw = only("sk_type", (uapi.SOCK_RAW,), errno.ENOPROTOOPT, "IP_HDRINCL is for raw sockets")


def ip_set_options(sk: inet_sock, optval: Any) -> None:
    """IP_OPTIONS: IP options of every packet; a stream adapts its MSS. Raises: OSError EINVAL."""
    opt = ip_options_get(sk.net, b"" if optval is None else opt_bytes(optval))
    old = sk.inet_opt
    sk.inet_opt = opt
    sk_dst_reset(sk)
    if isinstance(sk, tcp_sock):
        sk.icsk_ext_hdr_len += (opt.optlen if opt else 0) - (old.optlen if old else 0)
        if sk.sk_state not in (TCP_CLOSE, TCP_LISTEN):
            sk.icsk_sync_mss(sk, sk.icsk_pmtu_cookie)


def ip_get_mtu(sk: inet_sock) -> int:
    """IP_MTU, IPV6_MTU: also from an obsolete cached route. Raises: ENOTCONN."""
    dst = sk.sk_dst_cache
    if dst is None:
        raise os_error(errno.ENOTCONN, "the path MTU is known to connected sockets only")
    return dst_mtu(dst)


def ip_purge_unless_recverr(sk: inet_sock) -> None:
    """IP_RECVERR was set: when it is off, discard the queued errors."""
    if not sk.recverr:
        sk.sk_error_queue.purge()


def ip_set_multicast_ttl(sk: inet_sock, val: int) -> None:
    """IP_MULTICAST_TTL; -1: 1."""
    sk.mc_ttl = 1 if val == -1 else val


def ip_set_local_port_range(sk: inet_sock, val: int) -> None:
    """IP_LOCAL_PORT_RANGE. Raises: OSError EINVAL."""
    low, high = val & 0xFFFF, val >> 16 & 0xFFFF
    if low and high and low > high:
        raise os_error(errno.EINVAL, f"port range {low}-{high}")
    sk.local_port_range = (low, high)


def ip_set_multicast_if(sk: inet_sock, optval: Any) -> None:
    """IP_MULTICAST_IF: struct ip_mreqn, ip_mreq or in_addr."""
    not_stream(sk)
    data = opt_struct(optval, 4)
    addr = int.from_bytes(data[4:8] if len(data) >= 8 else data[:4], "big")
    ifindex = struct.unpack("=i", data[8:12])[0] if len(data) >= 12 else 0
    if not ifindex:
        if not addr:
            sk.mc_index = 0
            sk.mc_addr = 0
            return
        dev = ip_dev_find(sk.net, addr)
        if dev is not None:
            ifindex = dev.ifindex
    if ifindex not in sk.net.dev_by_index:
        raise os_error(errno.EADDRNOTAVAIL, "no such interface")
    if not sk_dev_equal_l3scope(sk, ifindex):
        raise os_error(errno.EINVAL, "the socket is bound to another interface")
    sk.mc_index = ifindex
    sk.mc_addr = addr


def ip_check_unicast_if(sk: inet_sock, ifindex: int) -> None:
    """IP_UNICAST_IF: a socket that is bound to a VRF may have a port of it, others that are bound
    none. Raises: OSError EADDRNOTAVAIL, EINVAL."""
    need_device(sk, ifindex)
    bound = sk.sk_bound_dev_if
    if ifindex and bound and l3mdev_master_ifindex_by_index(sk.net, ifindex) != bound:
        raise os_error(errno.EINVAL, "the socket is bound to an interface")


def ip_set_router_alert(sk: inet_sock, val: int) -> None:
    """IP_ROUTER_ALERT: receive forwarded packets of this protocol that have a router alert."""
    if sk.sk_type != uapi.SOCK_RAW or sk.inet_num == uapi.IPPROTO_RAW:
        raise os_error(errno.EINVAL, "IP_ROUTER_ALERT is for raw sockets")
    ra_control(sk.net.ra_chain, sk, sk.inet_num if val else -1)


def ip_get_pktoptions(sk: inet_sock, optlen: int) -> bytes:
    """IP_PKTOPTIONS: the control messages that a stream's options enable. Raises: ENOPROTOOPT.

    The last one may be truncated. One without room for its header is left out.
    """
    if sk.sk_type != uapi.SOCK_STREAM:
        raise os_error(errno.ENOPROTOOPT, "IP_PKTOPTIONS is for streams")
    msg = msghdr(None, [], [])
    msg.msg_controllen = MAX_CONTROL if optlen == OPTLEN_ANY else optlen
    if sk.cmsg_flags & IP_CMSG_PKTINFO:
        addr = net_addr(narrow(sk.inet_rcv_saddr if sk.inet_rcv_saddr >> 32 == 0 else 0))
        put_cmsg(msg, SOL_IP, uapi.IP_PKTINFO, PKTINFO.pack(sk.mc_index, addr, addr))
    if sk.cmsg_flags & IP_CMSG_TTL:
        put_cmsg(msg, SOL_IP, uapi.IP_TTL, int_bytes(sk.mc_ttl))
    if sk.cmsg_flags & IP_CMSG_TOS:
        put_cmsg(msg, SOL_IP, uapi.IP_TOS, int_bytes(sk.rcv_tos))
    out = b""
    for level, kind, data in msg.msg_control or []:
        out += CMSGHDR.pack(16 + len(data), level, kind) + data + bytes(-len(data) % 8)
    return out


def cmsg(name: str, bit: int, what: str, **more: Any) -> SockOpt:
    """A row for an option that enables a control message."""
    return flag(name, bit, f"{what}, as a control message", "cmsg_flags", **more)


# fmt: off
IP_LEVEL = Level("IPPROTO_IP", SOL_IP, vars(uapi), (
    switch("IP_BIND_ADDRESS_NO_PORT", "bind_address_no_port",
        "bind() with port 0 leaves the port to connect()", since="4.2"),
    cmsg("IP_CHECKSUM", IP_CMSG_CHECKSUM, "checksum of the payload", since="4.0"),
    switch("IP_FREEBIND", "freebind", "bind() accepts addresses that are not local",
        takes=opt_byte),
    switch("IP_HDRINCL", "hdrincl", "the program supplies the IP header",
        sockets=RAW, may_set=only_raw),
    SockOpt("IP_LOCAL_PORT_RANGE", "ports that may be chosen: high << 16 | low", "6.3",
        takes=exact_int, set=ip_set_local_port_range,
        get=lambda sk: sk.local_port_range[1] << 16 | sk.local_port_range[0]),
    number("IP_MINTTL", "min_ttl", range(256),
        "packets with a smaller TTL are dropped (TCP, RFC 5082)", since="2.6.34", takes=opt_byte),
    SockOpt("IP_MTU", "path MTU of a connected socket", get=ip_get_mtu),
    number("IP_MTU_DISCOVER", "pmtudisc",
        range(uapi.IP_PMTUDISC_DONT, uapi.IP_PMTUDISC_OMIT + 1), "DF, and what a path MTU does"),
    switch("IP_MULTICAST_ALL", "mc_all", "datagrams of groups that others joined",
        since="2.6.31", takes=opt_byte, legal=ON_OFF),
    number("IP_MULTICAST_IF", "mc_addr", None, "interface of datagrams to groups",
        takes=opt_raw, set=ip_set_multicast_if, shows=net_addr),
    switch("IP_MULTICAST_LOOP", "mc_loop", "own datagrams to groups come back", takes=opt_byte),
    number("IP_MULTICAST_TTL", "mc_ttl", range(-1, 256), "TTL of datagrams to groups",
        takes=opt_byte, may_set=not_stream, set=ip_set_multicast_ttl),
    SockOpt("IP_OPTIONS", "IP options of every packet",
        takes=opt_raw, set=ip_set_options,
        get=lambda sk: b"" if sk.inet_opt is None else ip_options_undo(sk.inet_opt)),
    cmsg("IP_ORIGDSTADDR", IP_CMSG_ORIGDSTADDR, "destination of a datagram", since="2.6.29"),
    cmsg("IP_PKTINFO", IP_CMSG_PKTINFO, "interface and destination"),
    SockOpt("IP_PKTOPTIONS", "a stream's control messages", sockets=TCP, fill=ip_get_pktoptions),
    fact("IP_PROTOCOL", "inet_num", "port, or protocol of a raw socket", "6.4"),
    switch("IP_RECVERR", "recverr", "ICMP errors on the error queue",
        then=ip_purge_unless_recverr),
    switch("IP_RECVERR_RFC4884", "recverr_rfc4884",
        "errors in the queue say where their extensions begin", since="5.9", legal=ON_OFF),
    cmsg("IP_RECVFRAGSIZE", IP_CMSG_RECVFRAGSIZE, "largest fragment of a datagram", since="4.10",
        may_set=not_stream),
    cmsg("IP_RECVOPTS", IP_CMSG_RECVOPTS, "IP options of a datagram"),
    cmsg("IP_RECVTOS", IP_CMSG_TOS, "TOS of a datagram"),
    cmsg("IP_RECVTTL", IP_CMSG_TTL, "TTL of a datagram"),
    cmsg("IP_RETOPTS", IP_CMSG_RETOPTS, "IP options for an answer"),
    SockOpt("IP_ROUTER_ALERT", "take router-alert packets that pass through",
        sockets=RAW, set=ip_set_router_alert, get=lambda sk: ra_has(sk.net.ra_chain, sk)),
    number("IP_TOS", "tos", None, "TOS of packets", set=ip_sock_set_tos),
    switch("IP_TRANSPARENT", "transparent", "bind() and send with any address", since="2.6.28",
        takes=opt_byte, caps=(CAP_NET_ADMIN, CAP_NET_RAW), free=(0,)),
    number("IP_TTL", "uc_ttl", frozenset((-1, *range(1, 256))), "TTL of packets",
        takes=opt_byte,
        get=lambda sk: sk.net.sysctl.ip_default_ttl if sk.uc_ttl < 0 else sk.uc_ttl),
    number("IP_UNICAST_IF", "uc_index", None, "interface of datagrams to hosts", since="3.4",
        takes=swapped_int, check=ip_check_unicast_if, shows=swapped),
    SockOpt("IP_XFRM_POLICY", "IPsec policy of this socket: struct xfrm_userpolicy_info, templates",
        takes=opt_raw, caps=ADMIN, set=partial(xfrm_user_policy, IP_XFRM_POLICY)),
    *GROUP_OPTIONS,
    *MRT_OPTIONS,
), takes=opt_char)
# fmt: on


def ip_setsockopt(sk: inet_sock, level: int, optname: int, optval: Any) -> None:
    """net/ipv4/ip_sockglue.c. Raises: OSError ENOPROTOOPT, EINVAL, ..."""
    if level != SOL_IP:
        raise os_error(errno.ENOPROTOOPT, f"unknown option level {level}")
    lock_sock(sk)
    try:
        do_ip_setsockopt(sk, level, optname, optval)
    finally:
        release_sock(sk)


def do_ip_setsockopt(sk: inet_sock, level: int, optname: int, optval: Any) -> None:
    """net/ipv4/ip_sockglue.c: IPPROTO_IP, sock owned. Raises: OSError."""
    if uapi.MRT_INIT <= optname <= uapi.MRT_FLUSH:
        mroute_socket(ipmr_ops, sk)
    set_option(IP_LEVEL, sk, optname, optval)


def ip_getsockopt(sk: inet_sock, level: int, optname: int, optlen: int) -> Any:
    """net/ipv4/ip_sockglue.c: an int or bytes. Raises: OSError ENOPROTOOPT, ENOTCONN."""
    if level != SOL_IP:
        raise os_error(errno.EOPNOTSUPP, f"unknown option level {level}")
    if uapi.MRT_INIT <= optname <= uapi.MRT_FLUSH:
        mroute_socket(ipmr_ops, sk)
    return get_option(IP_LEVEL, sk, optname, optlen)
