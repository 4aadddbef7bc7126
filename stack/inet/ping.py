"""Ping sockets: ICMP echo without privileges (net/ipv4/ping.c).

A datagram socket of protocol ICMP sends echo requests whose identifier is its "port"; the replies
with that identifier come back to it.
"""

from __future__ import annotations

import errno
from typing import Any

from fastpath.hdr import icmp_hdr, icmp_push, ip_hdr, iphdr_at
from fastpath.skbuff import (
    sk_buff,
    skb_clone,
    skb_copy_bits,
    skb_push,
)
from stack.core.drop_reason import SKB_DROP_REASON_SOCKET_RCVBUFF, kfree_skb_reason
from stack.core.iov import msghdr
from stack.core.rows import row, state
from stack.core.sk_mem import proto_mem_of_ram
from stack.core.sock import (
    SOCK_BROADCAST,
    SOCK_LOCALROUTE,
    lock_sock,
    os_error,
    release_sock,
    sk_common_release,
    sk_dst_check,
    sk_dst_set,
    sock_queue_rcv_skb,
)
from stack.core.sockaddr import sockaddr
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.uapi import AF_INET, IP_PMTUDISC_DONT, IPPROTO_ICMP, MSG_DONTROUTE, MSG_OOB
from stack.inet.datagram import check_sockaddr, ip4_datagram_connect, udp_disconnect
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_sock
from stack.inet.protocol import proto
from stack.inet.raw import raw_ioctl, recv_packet
from stack.ipv4.fib import (
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    inet_addr_type,
    ipv4_is_multicast,
)
from stack.ipv4.ip_output import (
    ip_append_data,
    ip_flush_pending_frames,
    ip_generic_getfrag,
    ip_push_pending_frames,
    ip_sk_accept_pmtu,
    ipcm_cookie,
)
from stack.ipv4.ip_sockglue import (
    ip_cmsg_send,
    ip_getsockopt,
    ip_icmp_error,
    ip_setsockopt,
    ipv4_pktinfo_prepare,
)
from stack.ipv4.route import (
    IPTOS_RT_MASK,
    RTCF_BROADCAST,
    ip_route_output_flow,
    ipv4_sk_redirect,
    ipv4_sk_update_pmtu,
)

ICMP_ECHO = 8
ICMP_EXT_ECHO = 42
ICMP_HLEN = 8


@state
class ping_sock(inet_sock):
    """A ping socket; `inet_num` is its identifier."""

    ping_hashed: bool = row(False)


def ping_get_port(sk: Any, ident: int) -> int:
    """net/ipv4/ping.c: take an identifier (0 = a free one). 0, or 1 when taken."""
    net = sk.net
    table = net.ping_table
    if not ident:
        for _ in range(1 << 16):
            net.ping_rover = (net.ping_rover + 1) & 0xFFFF
            if net.ping_rover and net.ping_rover not in table:
                ident = net.ping_rover
                break
        else:
            return 1
    else:
        for other in table.get(ident, ()):
            if other is not sk and not (other.sk_reuse and sk.sk_reuse):
                return 1
    ping_unhash(sk)
    sk.inet_num = ident
    table.setdefault(ident, []).append(sk)
    sk.ping_hashed = True
    return 0


def ping_unhash(sk: Any) -> None:
    """net/ipv4/ping.c: give the identifier back."""
    if sk.ping_hashed:
        bucket = sk.net.ping_table[sk.inet_num]
        bucket.remove(sk)
        if not bucket:
            del sk.net.ping_table[sk.inet_num]
        sk.ping_hashed = False
        sk.inet_num = 0
        sk.inet_sport = 0


def ping_lookup(net: Any, family: int, ident: int, laddr: int, dif: int) -> Any:
    """net/ipv4/ping.c: the socket of an identifier, local address and interface, or None."""
    for sk in net.ping_table.get(ident, ()):
        if sk.sk_family != family:
            continue
        if sk.inet_rcv_saddr and sk.inet_rcv_saddr != laddr:
            continue
        if sk.sk_bound_dev_if and sk.sk_bound_dev_if != dif:
            continue
        return sk
    return None


def ping_init_sock(sk: Any) -> int:
    """net/ipv4/ping.c: only groups within sysctl ping_group_range may; ours is Host.gid.

    Raises: OSError EACCES.
    """
    low, high = sk.net.sysctl.ping_group_range
    gid = sk.net.gid
    if not low <= gid <= high:
        raise PermissionError(
            errno.EACCES, f"group {gid} is not in sysctl ping_group_range, {low} to {high}"
        )
    return 0


def ping_close(sk: Any, timeout: int) -> None:
    """net/ipv4/ping.c"""
    sk_common_release(sk)


def ping_bind(sk: Any, uaddr: sockaddr, addr_len: int = 16) -> int:
    """net/ipv4/ping.c: local address and identifier. Raises: OSError EADDRNOTAVAIL, EADDRINUSE."""
    check_sockaddr(uaddr)
    addr, ident = uaddr.addr, uaddr.port
    net = sk.net
    lock_sock(sk)
    try:
        kind = inet_addr_type(net, addr) if addr else RTN_LOCAL
        if kind in (RTN_MULTICAST, RTN_BROADCAST) or (
            kind != RTN_LOCAL and not sk.freebind and not net.sysctl.ip_nonlocal_bind
        ):
            raise OSError(errno.EADDRNOTAVAIL, "not an address of this host")
        if sk.inet_num:
            raise OSError(errno.EINVAL, "the socket is bound")
        sk.inet_rcv_saddr = sk.inet_saddr = addr
        if ping_get_port(sk, ident):
            sk.inet_saddr = sk.inet_rcv_saddr = 0
            raise OSError(errno.EADDRINUSE, f"identifier {ident} is taken")
        sk.inet_sport = sk.inet_num
        sk.inet_daddr = 0
        sk.inet_dport = 0
        return 0
    finally:
        release_sock(sk)


def ping_v4_sendmsg(sk: Any, msg: msghdr, length: int) -> int:
    """net/ipv4/ping.c: send an echo request: the data begin with its 8-byte header.

    The identifier is replaced by the socket's. Returns `length`. Raises: OSError.
    """
    if length > 0xFFFF:
        raise OSError(errno.EMSGSIZE, f"{length} bytes do not fit an IPv4 packet")
    if length < ICMP_HLEN:
        raise OSError(errno.EINVAL, "an echo request has a header of 8 bytes")
    if msg.msg_flags & MSG_OOB:
        raise OSError(errno.EOPNOTSUPP, "ping sockets have no urgent data")
    net = sk.net
    if msg.msg_name is not None:
        check_sockaddr(msg.msg_name)
        daddr = msg.msg_name.addr
    else:
        if sk.sk_state != TCP_ESTABLISHED:
            raise OSError(errno.EDESTADDRREQ, "no destination: not connected and no address given")
        daddr = sk.inet_daddr
    head = msg.take(ICMP_HLEN)
    if head[0] != ICMP_ECHO or head[1] != 0:
        raise OSError(errno.EINVAL, "ping sockets send echo requests only")
    ipc = ipcm_cookie(sk)
    if msg.msg_control:
        ip_cmsg_send(sk, msg.msg_control, ipc)
    saddr = ipc.addr
    ipc.addr = faddr = daddr
    if ipc.opt is None:
        ipc.opt = sk.inet_opt
    if ipc.opt is not None and ipc.opt.srr:
        if not daddr:
            raise OSError(errno.EINVAL, "a source route needs a destination")
        faddr = ipc.opt.faddr
    tos = sk.tos if ipc.tos == -1 else ipc.tos
    scope = (
        RT_SCOPE_LINK
        if sk.sk_flags & SOCK_LOCALROUTE or msg.msg_flags & MSG_DONTROUTE
        else RT_SCOPE_UNIVERSE
    )
    if ipv4_is_multicast(daddr):
        ipc.oif = ipc.oif or sk.mc_index
        saddr = saddr or sk.mc_addr
    elif not ipc.oif:
        ipc.oif = sk.uc_index
    fl4 = flowi(
        AF_INET,
        faddr,
        saddr,
        ipc.oif,
        tos & IPTOS_RT_MASK,
        IPPROTO_ICMP,
        0,
        0,
        0,
        ipc.sockc_mark,
        scope,
    )
    rt = sk_dst_check(sk, 0) if msg.msg_name is None and not msg.msg_control else None
    if rt is None:
        rt = ip_route_output_flow(net, fl4, sk)
        if msg.msg_name is None:
            sk_dst_set(sk, rt)
    else:
        fl4.saddr = saddr or rt.rt_src
    if rt.rt_flags & RTCF_BROADCAST and not sk.sk_flags & SOCK_BROADCAST:
        raise PermissionError(errno.EACCES, "sending to a broadcast needs SO_BROADCAST")
    if not ipc.addr:
        ipc.addr = fl4.daddr
    lock_sock(sk)
    try:
        try:
            ip_append_data(
                sk, fl4, ip_generic_getfrag, msg, length, ICMP_HLEN, ipc, rt, msg.msg_flags
            )
        except OSError:
            ip_flush_pending_frames(sk)
            raise
        err = ping_v4_push_pending_frames(sk, int.from_bytes(head[6:8], "big"), fl4)
        if err == -errno.ENOBUFS and not sk.recverr:
            err = 0
        if err:
            raise os_error(err)
    finally:
        release_sock(sk)
    return length


def ping_v4_push_pending_frames(sk: Any, sequence: int, fl4: flowi) -> int:
    """net/ipv4/ping.c: the echo header with checksum, then send."""
    from stack.ipv4.icmp import icmp_out_count

    skb = sk.sk_write_queue.peek()
    if skb is None:
        return 0
    icmp_push(skb, ICMP_ECHO, 0, sk.inet_num << 16 | sequence)
    icmp_out_count(sk.net, ICMP_ECHO)
    return ip_push_pending_frames(sk, fl4)


def ping_recvmsg(sk: Any, msg: msghdr, length: int, flags: int) -> int:
    """net/ipv4/ping.c: read one reply, ICMP header first. Bytes copied. Raises: OSError."""
    if flags & MSG_OOB:
        raise OSError(errno.EOPNOTSUPP, "ping sockets have no urgent data")
    return recv_packet(sk, msg, length, flags)


def ping_rcv(skb: sk_buff) -> bool:
    """net/ipv4/ping.c: an echo reply, data behind its ICMP header. Borrows skb."""
    net = skb.dst.net
    if not net.ping_table:
        return False
    sk = ping_lookup(net, AF_INET, icmp_hdr(skb).id, ip_hdr(skb).daddr, skb.dev.ifindex)
    if sk is None:
        return False
    clone = skb_clone(skb)
    if clone is None:
        return False
    clone.dst = skb.dst
    clone.dev = skb.dev
    skb_push(clone, ICMP_HLEN)
    ping_queue_rcv_skb(sk, clone)
    return True


def ping_queue_rcv_skb(sk: Any, skb: sk_buff) -> int:
    """net/ipv4/ping.c: 0 or -1. Takes ownership of skb."""
    ipv4_pktinfo_prepare(sk, skb)
    if sock_queue_rcv_skb(sk, skb) < 0:
        kfree_skb_reason(sk.net, skb, SKB_DROP_REASON_SOCKET_RCVBUFF)
        return -1
    return 0


def ping_err(skb: sk_buff, offset: int, info: int) -> None:
    """net/ipv4/ping.c: an ICMP error about our echo request, quoted header at `offset`. Borrows."""
    from stack.ipv4.icmp import (
        ICMP_DEST_UNREACH,
        ICMP_FRAG_NEEDED,
        ICMP_PARAMETERPROB,
        ICMP_REDIRECT,
        ICMP_SOURCE_QUENCH,
        NR_ICMP_UNREACH,
        icmp_err_convert,
    )

    net = skb.dst.net
    quoted = skb_copy_bits(skb, offset, 8)
    if quoted[0] not in (ICMP_ECHO, ICMP_EXT_ECHO):
        return
    ident = int.from_bytes(quoted[4:6], "big")
    dif = skb.dev.ifindex if skb.dev else 0
    sk = ping_lookup(net, AF_INET, ident, iphdr_at(skb, 0).saddr, dif)
    if sk is None:
        return
    icmph = icmp_hdr(skb)
    kind, code = icmph.type, icmph.code
    err = errno.EHOSTUNREACH
    harderr = False
    if kind == ICMP_SOURCE_QUENCH:
        return
    if kind == ICMP_PARAMETERPROB:
        err, harderr = errno.EPROTO, True
    elif kind == ICMP_REDIRECT:
        ipv4_sk_redirect(skb, sk)
        return
    elif kind == ICMP_DEST_UNREACH:
        if code == ICMP_FRAG_NEEDED:
            if ip_sk_accept_pmtu(sk):
                ipv4_sk_update_pmtu(skb, sk, info)
            if sk.pmtudisc == IP_PMTUDISC_DONT:
                return
            err, harderr = errno.EMSGSIZE, True
        elif code <= NR_ICMP_UNREACH:
            err, harderr = icmp_err_convert[code]
    if not sk.recverr:
        if not harderr or sk.sk_state != TCP_ESTABLISHED:
            return
    else:
        ip_icmp_error(sk, skb, err, 0, info, offset)
    sk.sk_err = err
    sk.sk_error_report()


ping_prot = proto(
    name="PING",
    init=ping_init_sock,
    close=ping_close,
    connect=lambda sk, uaddr, addr_len=16: ip4_datagram_connect(sk, uaddr),
    disconnect=udp_disconnect,
    ioctl=raw_ioctl,
    setsockopt=ip_setsockopt,
    getsockopt=ip_getsockopt,
    sendmsg=ping_v4_sendmsg,
    recvmsg=ping_recvmsg,
    bind=ping_bind,
    backlog_rcv=ping_queue_rcv_skb,
    unhash=ping_unhash,
    get_port=ping_get_port,
    put_port=ping_unhash,
    sock_class=ping_sock,
)


def ping_init(net: Any) -> None:
    """net/ipv4/ping.c: the table of one host."""
    net.ping_table = {}
    if "PING" not in net.prot_mem:
        net.prot_mem["PING"] = proto_mem_of_ram(net, 1, 8)
    net.ping_rover = net.random.getrandbits(16)
