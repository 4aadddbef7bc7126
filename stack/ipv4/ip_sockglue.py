"""What sockets share at the IP level: options, control messages, the error queue.

net/ipv4/ip_sockglue.c. Addresses inside option values and control messages are in network order,
as on Linux; ints are in the machine's order.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any

from fastpath.csum import csum_fold
from fastpath.hdr import ip_hdr, udp_hdr
from fastpath.skbuff import (
    sk_buff,
    skb_checksum,
)
from stack.core import uapi
from stack.core.dst import dst_mtu
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.rows import narrow, state
from stack.core.sock import (
    CAP_NET_ADMIN,
    CAP_NET_RAW,
    lock_sock,
    ns_capable,
    release_sock,
    sk_dst_check,
    sk_dst_reset,
)
from stack.core.sockaddr import sockaddr
from stack.core.sockopt import (
    __sock_cmsg_send,
    exact_int,
    int_bytes,
    opt_bytes,
    opt_int,
    put_cmsg,
    sockcm_cookie,
)
from stack.core.tcp_states import TCP_CLOSE, TCP_LISTEN
from stack.core.uapi import SOL_IP
from stack.inet.inet_connection_sock import inet_connection_sock
from stack.inet.inet_sock import ip_options
from stack.ipv4 import igmp
from stack.ipv4.fib import ip_dev_find
from stack.ipv4.ip_errqueue import net_addr, sockaddr_in
from stack.ipv4.ip_mcast_sockopt import (
    ip_mcast_join_leave,
    ip_mcast_source,
    ip_mreq,
    ip_set_mcast_msfilter,
    ip_set_msfilter,
)
from stack.ipv4.ip_options import (
    __ip_options_echo,
    fib_compute_spec_dst,
    ip_options_get,
    ip_options_undo,
    received_options,
)

if TYPE_CHECKING:
    from stack.inet.inet_sock import inet_sock
    from stack.ipv4.ip_output import ipcm_cookie

IP_CMSG_PKTINFO = 1 << 0
IP_CMSG_TTL = 1 << 1
IP_CMSG_TOS = 1 << 2
IP_CMSG_RECVOPTS = 1 << 3
IP_CMSG_RETOPTS = 1 << 4
IP_CMSG_PASSSEC = 1 << 5
IP_CMSG_ORIGDSTADDR = 1 << 6
IP_CMSG_CHECKSUM = 1 << 7
IP_CMSG_RECVFRAGSIZE = 1 << 8

CMSG_OPTIONS = {
    uapi.IP_PKTINFO: IP_CMSG_PKTINFO,
    uapi.IP_RECVTTL: IP_CMSG_TTL,
    uapi.IP_RECVTOS: IP_CMSG_TOS,
    uapi.IP_RECVOPTS: IP_CMSG_RECVOPTS,
    uapi.IP_RETOPTS: IP_CMSG_RETOPTS,
    uapi.IP_ORIGDSTADDR: IP_CMSG_ORIGDSTADDR,
    uapi.IP_CHECKSUM: IP_CMSG_CHECKSUM,
    uapi.IP_RECVFRAGSIZE: IP_CMSG_RECVFRAGSIZE,
}

PKTINFO = struct.Struct("=i4s4s")
MOST = 1 << 30
"""No limit to an option's length."""


@state
class in_skb_info:
    """What ipv4_pktinfo_prepare saves for control messages: the PKTINFO_SKB_CB."""

    ifindex: int
    spec_dst: int
    opt: ip_options | None


def ipv4_pktinfo_prepare(sk: inet_sock, skb: sk_buff, drop_dst: bool = True) -> None:
    """net/ipv4/ip_sockglue.c: save what the control messages IP_PKTINFO and of IP options need."""
    if sk.cmsg_flags:
        opt = received_options(skb)
        dev = skb.dev
        rt = skb.dst
        ifindex = rt.rt_iif if rt is not None and rt.rt_iif else (dev.ifindex if dev else 0)
        spec = fib_compute_spec_dst(skb) if dev is not None and rt is not None else 0
        skb.cb = in_skb_info(ifindex, spec, opt)


def ip_cmsg_recv_offset(msg: msghdr, sk: inet_sock, skb: sk_buff, tlen: int, offset: int) -> None:
    """net/ipv4/ip_sockglue.c: the control messages that the socket asked for."""
    flags = sk.cmsg_flags
    iph = ip_hdr(skb)
    info = skb.cb if isinstance(skb.cb, in_skb_info) else None
    opt = info.opt if info is not None else None
    if flags & IP_CMSG_PKTINFO:
        # ipv4_pktinfo_prepare was not called for the packets of a ping socket: spec_dst is 0.
        ifindex = info.ifindex if info is not None else skb.skb_iif
        data = PKTINFO.pack(ifindex, net_addr(info.spec_dst if info else 0), net_addr(iph.daddr))
        put_cmsg(msg, SOL_IP, uapi.IP_PKTINFO, data)
    if flags & IP_CMSG_TTL:
        put_cmsg(msg, SOL_IP, uapi.IP_TTL, int_bytes(iph.ttl))
    if flags & IP_CMSG_TOS:
        put_cmsg(msg, SOL_IP, uapi.IP_TOS, bytes((iph.tos,)))
    if flags & IP_CMSG_RECVOPTS and opt is not None and opt.optlen:
        put_cmsg(msg, SOL_IP, uapi.IP_RECVOPTS, iph.options)
    if flags & IP_CMSG_RETOPTS and opt is not None and opt.optlen:
        reply = __ip_options_echo(sk.net, skb, opt)
        if reply is not None:
            put_cmsg(msg, SOL_IP, uapi.IP_RETOPTS, ip_options_undo(reply))
    if flags & IP_CMSG_ORIGDSTADDR:
        # Of the other protocols the transport header begins with the ports.
        dport = sk.inet_sport if sk.sk_protocol == uapi.IPPROTO_XTP else udp_hdr(skb).dest
        to = sockaddr(uapi.AF_INET, iph.daddr, dport)
        put_cmsg(msg, SOL_IP, uapi.IP_ORIGDSTADDR, sockaddr_in(to))
    if flags & IP_CMSG_CHECKSUM:
        total = ~csum_fold(skb_checksum(skb, 0, skb.len)) & 0xFFFF
        put_cmsg(msg, SOL_IP, uapi.IP_CHECKSUM, int_bytes(total))
    if flags & IP_CMSG_RECVFRAGSIZE and skb.frag_max_size:
        put_cmsg(msg, SOL_IP, uapi.IP_RECVFRAGSIZE, int_bytes(skb.frag_max_size))


def ip_cmsg_send(sk: inet_sock, control: list[Any], ipc: ipcm_cookie) -> None:
    """net/ipv4/ip_sockglue.c: set `ipc` by the control messages of a sendmsg.

    `control`: [(level, type, bytes or int)]. Raises: OSError EINVAL.
    """
    sockc = sockcm_cookie(ipc.sockc_mark, ipc.priority)
    for level, kind, data in control:
        if level == uapi.SOL_SOCKET:
            __sock_cmsg_send(sk, kind, data, sockc)
            ipc.sockc_mark, ipc.priority = sockc.mark, sockc.priority
            continue
        if level != SOL_IP:
            continue
        if kind == uapi.IP_RETOPTS:
            ipc.opt = ip_options_get(sk.net, opt_bytes(data)[:40])
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
            ipc.priority = (0, 1, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4)[tos >> 1 & 15]
        elif kind == uapi.IP_PROTOCOL:
            ipc.protocol = exact_int(data)
            if not 1 <= ipc.protocol <= 255:
                raise os_error(errno.EINVAL, f"protocol {ipc.protocol} is not between 1 and 255")
        else:
            raise os_error(errno.EINVAL, f"control message {kind} of IPPROTO_IP")


# --- error queue ---------------------------------------------------------------------------


# --- IPPROTO_IP options --------------------------------------------------------------------


def ip_sock_set_tos(sk: inet_sock, val: int) -> None:
    """net/ipv4/ip_sockglue.c: TOS and the priority that follows from it."""
    if sk.sk_type == uapi.SOCK_STREAM:
        val = val & ~3 | sk.tos & 3  # ECN bits of a stream are TCP's
    if sk.tos != val:
        sk.tos = val & 0xFF
        sk.sk_priority = (0, 1, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4)[val >> 1 & 15]
        sk_dst_reset(sk)


def do_ip_setsockopt(sk: inet_sock, level: int, optname: int, optval: Any) -> None:
    """net/ipv4/ip_sockglue.c: IPPROTO_IP, sock owned. Raises: OSError."""
    net = sk.net
    cmsg = CMSG_OPTIONS.get(optname)
    if cmsg is not None:
        if optname == uapi.IP_RECVFRAGSIZE and sk.sk_type == uapi.SOCK_STREAM:
            raise os_error(errno.EINVAL, "streams have no fragments")
        if opt_char(optval):
            sk.cmsg_flags |= cmsg
        else:
            sk.cmsg_flags &= ~cmsg
        return
    match optname:
        case uapi.IP_OPTIONS:
            data = b"" if optval is None else opt_bytes(optval)
            opt = ip_options_get(net, data)
            old = sk.inet_opt
            sk.inet_opt = opt
            sk_dst_reset(sk)
            if isinstance(sk, inet_connection_sock):
                delta = (opt.optlen if opt else 0) - (old.optlen if old else 0)
                sk.icsk_ext_hdr_len += delta
                sync_mss = getattr(sk, "icsk_sync_mss", None)
                if sync_mss is not None and sk.sk_state not in (TCP_CLOSE, TCP_LISTEN):
                    sync_mss(sk, sk.icsk_pmtu_cookie)
            return
        case uapi.IP_ADD_MEMBERSHIP | uapi.IP_DROP_MEMBERSHIP:
            if sk.sk_type == uapi.SOCK_STREAM:
                raise os_error(errno.EPROTO, "streams join no groups")
            group, ifindex = ip_mreq(sk, optval, optname == uapi.IP_DROP_MEMBERSHIP)
            if optname == uapi.IP_ADD_MEMBERSHIP:
                igmp.ip_mc_join_group(sk, group, ifindex)
            else:
                igmp.ip_mc_leave_group(sk, group, ifindex)
            return
        case (
            uapi.IP_ADD_SOURCE_MEMBERSHIP
            | uapi.IP_DROP_SOURCE_MEMBERSHIP
            | uapi.IP_BLOCK_SOURCE
            | uapi.IP_UNBLOCK_SOURCE
        ):
            data = opt_bytes(optval)
            if len(data) != 12:
                raise os_error(errno.EINVAL, "struct ip_mreq_source has 12 bytes")
            group, ifindex = ip_mreq(sk, data[:8])
            igmp.ip_mc_source(sk, optname, group, int.from_bytes(data[8:12], "big"), ifindex)
            return
        case uapi.IP_MSFILTER:
            ip_set_msfilter(sk, opt_bytes(optval))
            return
        case uapi.MCAST_JOIN_GROUP | uapi.MCAST_LEAVE_GROUP:
            ip_mcast_join_leave(sk, optname, opt_bytes(optval))
            return
        case (
            uapi.MCAST_JOIN_SOURCE_GROUP
            | uapi.MCAST_LEAVE_SOURCE_GROUP
            | uapi.MCAST_BLOCK_SOURCE
            | uapi.MCAST_UNBLOCK_SOURCE
        ):
            ip_mcast_source(sk, optname, opt_bytes(optval))
            return
        case uapi.MCAST_MSFILTER:
            ip_set_mcast_msfilter(sk, opt_bytes(optval))
            return
        case uapi.IP_MULTICAST_IF:
            _set_multicast_if(sk, optval)
            return
    val = opt_char(optval)
    match optname:
        case uapi.IP_TOS:
            ip_sock_set_tos(sk, val)
        case uapi.IP_TTL:
            need_opt_len(optval, 1, MOST)
            if val != -1 and not 1 <= val <= 255:
                raise os_error(errno.EINVAL, f"TTL {val} is not between 1 and 255")
            sk.uc_ttl = val
        case uapi.IP_HDRINCL:
            if sk.sk_type != uapi.SOCK_RAW:
                raise os_error(errno.ENOPROTOOPT, "IP_HDRINCL is for raw sockets")
            sk.hdrincl = bool(val)
        case uapi.IP_BIND_ADDRESS_NO_PORT:
            sk.bind_address_no_port = bool(val)
        case uapi.IP_MTU_DISCOVER:
            if not uapi.IP_PMTUDISC_DONT <= val <= uapi.IP_PMTUDISC_OMIT:
                raise os_error(errno.EINVAL, f"{val} is no path MTU discovery mode")
            sk.pmtudisc = val
        case uapi.IP_RECVERR:
            sk.recverr = bool(val)
            if not val:
                sk.sk_error_queue.purge()
        case uapi.IP_MULTICAST_TTL:
            need_opt_len(optval, 1, MOST)
            if sk.sk_type == uapi.SOCK_STREAM or not -1 <= val <= 255:
                raise os_error(errno.EINVAL, f"multicast TTL {val}")
            sk.mc_ttl = 1 if val == -1 else val
        case uapi.IP_MULTICAST_LOOP:
            need_opt_len(optval, 1, MOST)
            sk.mc_loop = bool(val)
        case uapi.IP_MULTICAST_ALL:
            need_opt_len(optval, 1, MOST)
            if val not in (0, 1):
                raise os_error(errno.EINVAL, "0 or 1")
            sk.mc_all = bool(val)
        case uapi.IP_UNICAST_IF:
            need_opt_len(optval, 4, 4)
            ifindex = int.from_bytes((val & 0xFFFFFFFF).to_bytes(4, "little"), "big")
            if ifindex and ifindex not in net.dev_by_index:
                raise os_error(errno.EADDRNOTAVAIL, f"no device with index {ifindex}")
            sk.uc_index = ifindex
            sk_dst_reset(sk)
        case uapi.IP_ROUTER_ALERT:
            _set_router_alert(sk, val)
        case uapi.IP_FREEBIND:
            need_opt_len(optval, 1, MOST)
            sk.freebind = bool(val)
        case uapi.IP_TRANSPARENT:
            need_opt_len(optval, 1, MOST)
            if val and not (ns_capable(net, CAP_NET_ADMIN) or ns_capable(net, CAP_NET_RAW)):
                raise os_error(errno.EPERM, f"IP_TRANSPARENT: the host's user is {net.uid}")
            sk.transparent = bool(val)
            sk_dst_reset(sk)
        case uapi.IP_MINTTL:
            need_opt_len(optval, 1, MOST)
            if not 0 <= val <= 255:
                raise os_error(errno.EINVAL, f"minimum TTL {val}")
            sk.min_ttl = val
        case uapi.IP_LOCAL_PORT_RANGE:
            need_opt_len(optval, 4, 4)
            low, high = val & 0xFFFF, val >> 16 & 0xFFFF
            if low and high and low > high:
                raise os_error(errno.EINVAL, f"port range {low}-{high}")
            sk.local_port_range = (low, high)
        case _:
            raise os_error(errno.ENOPROTOOPT, f"unknown IPPROTO_IP option {optname}")


def opt_char(optval: Any) -> int:
    """The value of an int option, also given as 1 byte or as none (0). Raises: OSError EINVAL."""
    if isinstance(optval, int):
        return int(optval)
    data = opt_bytes(optval)
    if len(data) < 4:
        return data[0] if data else 0
    return opt_int(data)


def need_opt_len(optval: Any, least: int, most: int) -> None:
    """Check the length of an option's value, bytes. Raises: OSError EINVAL."""
    if not isinstance(optval, int) and not least <= len(opt_bytes(optval)) <= most:
        raise os_error(errno.EINVAL, f"an option value of {len(opt_bytes(optval))} bytes")


def _set_multicast_if(sk: inet_sock, optval: Any) -> None:
    """IP_MULTICAST_IF: struct ip_mreqn, ip_mreq or in_addr."""
    if sk.sk_type == uapi.SOCK_STREAM:
        raise os_error(errno.EINVAL, "streams do not multicast")
    data = opt_bytes(optval)
    ifindex = 0
    if len(data) >= 12:
        addr = int.from_bytes(data[4:8], "big")
        ifindex = struct.unpack("=i", data[8:12])[0]
    elif len(data) >= 8:
        addr = int.from_bytes(data[4:8], "big")
    elif len(data) >= 4:
        addr = int.from_bytes(data[:4], "big")
    else:
        raise os_error(errno.EINVAL, "struct in_addr has 4 bytes")
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
    if sk.sk_bound_dev_if and ifindex != sk.sk_bound_dev_if:
        raise os_error(errno.EINVAL, "the socket is bound to another interface")
    sk.mc_index = ifindex
    sk.mc_addr = addr


def _set_router_alert(sk: inet_sock, val: int) -> None:
    """IP_ROUTER_ALERT: receive forwarded packets of this protocol that have a router alert."""
    if sk.sk_type != uapi.SOCK_RAW or sk.inet_num == uapi.IPPROTO_RAW:
        raise os_error(errno.EINVAL, "IP_ROUTER_ALERT is for raw sockets")
    net = sk.net
    if val:
        if sk in net.ra_chain:
            raise os_error(errno.EADDRINUSE, "already set")
        net.ra_chain.append(sk)
    else:
        if sk not in net.ra_chain:
            raise os_error(errno.ENOBUFS, "not set")
        net.ra_chain.remove(sk)


def ip_setsockopt(sk: inet_sock, level: int, optname: int, optval: Any) -> None:
    """net/ipv4/ip_sockglue.c. Raises: OSError ENOPROTOOPT, EINVAL, ..."""
    if level != SOL_IP:
        raise os_error(errno.ENOPROTOOPT, f"unknown option level {level}")
    lock_sock(sk)
    try:
        do_ip_setsockopt(sk, level, optname, optval)
    finally:
        release_sock(sk)


def pktoptions(sk: inet_sock) -> bytes:
    """IP_PKTOPTIONS of a stream: the control messages that the socket's options ask for."""
    found: list[tuple[int, bytes]] = []
    if sk.cmsg_flags & IP_CMSG_PKTINFO:
        addr = net_addr(narrow(sk.inet_rcv_saddr if sk.inet_rcv_saddr >> 32 == 0 else 0))
        found.append((uapi.IP_PKTINFO, PKTINFO.pack(sk.mc_index, addr, addr)))
    if sk.cmsg_flags & IP_CMSG_TTL:
        found.append((uapi.IP_TTL, int_bytes(sk.mc_ttl)))
    if sk.cmsg_flags & IP_CMSG_TOS:
        found.append((uapi.IP_TOS, int_bytes(sk.rcv_tos)))
    out = b""
    for kind, data in found:
        out += struct.pack("=Qii", 16 + len(data), SOL_IP, kind) + data.ljust(
            -len(data) % 8 + len(data), b"\0"
        )
    return out


def ip_getsockopt(sk: inet_sock, level: int, optname: int) -> Any:
    """net/ipv4/ip_sockglue.c: an int or bytes. Raises: OSError ENOPROTOOPT, ENOTCONN."""
    if level != SOL_IP:
        raise os_error(errno.EOPNOTSUPP, f"unknown option level {level}")
    cmsg = CMSG_OPTIONS.get(optname)
    if cmsg is not None:
        return int(bool(sk.cmsg_flags & cmsg))
    match optname:
        case uapi.IP_OPTIONS:
            return b"" if sk.inet_opt is None else ip_options_undo(sk.inet_opt)
        case uapi.IP_TOS:
            return sk.tos
        case uapi.IP_TTL:
            return sk.net.sysctl.ip_default_ttl if sk.uc_ttl < 0 else sk.uc_ttl
        case uapi.IP_HDRINCL:
            return int(sk.hdrincl)
        case uapi.IP_BIND_ADDRESS_NO_PORT:
            return int(sk.bind_address_no_port)
        case uapi.IP_MTU_DISCOVER:
            return sk.pmtudisc
        case uapi.IP_MTU:
            dst = sk_dst_check(sk, 0)
            if dst is None:
                raise os_error(errno.ENOTCONN, "the path MTU is known to connected sockets only")
            return dst_mtu(dst)
        case uapi.IP_RECVERR:
            return int(sk.recverr)
        case uapi.IP_MULTICAST_TTL:
            return sk.mc_ttl
        case uapi.IP_MULTICAST_LOOP:
            return int(sk.mc_loop)
        case uapi.IP_MULTICAST_ALL:
            return int(sk.mc_all)
        case uapi.IP_MULTICAST_IF:
            return net_addr(narrow(sk.mc_addr))
        case uapi.IP_UNICAST_IF:
            return int.from_bytes(sk.uc_index.to_bytes(4, "big"), "little")
        case uapi.IP_FREEBIND:
            return int(sk.freebind)
        case uapi.IP_TRANSPARENT:
            return int(sk.transparent)
        case uapi.IP_MINTTL:
            return sk.min_ttl
        case uapi.IP_LOCAL_PORT_RANGE:
            low, high = sk.local_port_range
            return high << 16 | low
        case uapi.IP_ROUTER_ALERT:
            return int(sk in sk.net.ra_chain)
        case uapi.IP_PROTOCOL:
            return sk.inet_num
        case uapi.IP_PKTOPTIONS if sk.sk_type == uapi.SOCK_STREAM:
            return pktoptions(sk)
        case _:
            raise os_error(errno.ENOPROTOOPT, f"unknown IPPROTO_IP option {optname}")
