"""UDP over IPv4: sending, errors, and the protocol's tables (net/ipv4/udp.c; RFC 768)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from fastpath.hdr import icmp_hdr, iphdr_at, udp4_send_check, udp_push, udphdr_at
from fastpath.inet import UdpFlow
from fastpath.inetkey import inet_err_ends, udp_rcv_usual
from fastpath.skbuff import (
    CHECKSUM_NONE,
    kfree_skb,
    sk_buff,
)
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.neigh_table import NUD_VALID
from stack.core.neighbour import neigh_confirm
from stack.core.netdevice import NETIF_F_HW_CSUM, NETIF_F_IP_CSUM
from stack.core.netfilter import NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING
from stack.core.proto import proto
from stack.core.rows import narrow
from stack.core.snmp import udp_mib
from stack.core.sock import (
    SOCK_BROADCAST,
    SOCK_LOCALROUTE,
    lock_sock,
    release_sock,
    sk_dst_check,
    sk_dst_set,
    sk_error_report,
    sock_wfree,
)
from stack.core.sockaddr import sockaddr
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.uapi import (
    AF_INET,
    IP_PMTUDISC_DO,
    IP_PMTUDISC_DONT,
    IP_PMTUDISC_OMIT,
    IP_PMTUDISC_PROBE,
    IP_PMTUDISC_WANT,
    IPPROTO_UDP,
    MSG_CONFIRM,
    MSG_DONTROUTE,
    MSG_MORE,
    MSG_OOB,
    MSG_PROBE,
    SOL_UDP,
)
from stack.inet.af_ops import af_ops_of
from stack.inet.datagram import udp_disconnect
from stack.inet.early_demux import sk_rx_dst_of
from stack.inet.flow import flowi
from stack.inet.inet_sock import (
    inet_cork,
    inet_cork_of,
)
from stack.inet.protocol import net_protocol
from stack.inet.udp import (
    UDP_HLEN,
    __udp_cmsg_send,
    udp_abort,
    udp_close,
    udp_destroy_sock,
    udp_flush_pending_frames,
    udp_ioctl,
    udp_lib_getsockopt,
    udp_lib_rcv,
    udp_lib_setsockopt,
    udp_prepare_gso,
    udp_queue_rcv_one_skb,
    udp_queue_rcv_skb,
    udp_recvmmsg,
    udp_recvmsg,
    udp_sk_rx_dst_set,
)
from stack.inet.udp_flow import (
    raise_send_error,
    udp_flow_takes,
    udp_flow_to,
    udp_plain,
    udp_send_flow,
    udp_sendmmsg,
    udp_sent,
)
from stack.inet.udp_hash import (
    __udp_lib_lookup,
    udp_lib_get_port,
    udp_lib_lookup_skb,
    udp_lib_rehash,
    udp_lib_unhash,
    udp_sock,
)
from stack.ipv4.datagram import check_destination, ip4_datagram_connect
from stack.ipv4.fib import RT_SCOPE_LINK, RT_SCOPE_UNIVERSE
from stack.ipv4.icmp_codes import (
    ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
    NR_ICMP_UNREACH,
    icmp_err_convert,
)
from stack.ipv4.ip_errqueue import ip_icmp_error
from stack.ipv4.ip_output import (
    LL_MAX_HEADER,
    ip_append_data,
    ip_finish_skb,
    ip_generic_getfrag,
    ip_ident_slot,
    ip_make_skb,
    ip_push_pending_frames,
    ip_select_ttl,
    ip_sk_accept_pmtu,
    ipcm_cookie,
)
from stack.ipv4.ip_sockglue import ip_cmsg_send, ip_getsockopt, ip_setsockopt
from stack.ipv4.route import (
    IPTOS_RT_MASK,
    RTCF_BROADCAST,
    RTCF_MULTICAST,
    ip_route_output_flow,
    ipv4_sk_redirect,
    ipv4_sk_update_pmtu,
    rtable,
)

if TYPE_CHECKING:
    from stack.core.sockaddr import sockaddr
    from stack.inet.flow import flowi
    from stack.net import Net


IP_UDP_HLEN = 28


# --- sending -----------------------------------------------------------------------------


def udp_cmsg_send(sk: udp_sock, msg: msghdr, ipc: ipcm_cookie) -> None:
    """net/ipv4/udp.c: control messages of a sendmsg. Raises: OSError EINVAL."""
    rest = []
    for level, kind, data in msg.msg_control or ():
        if level == SOL_UDP:
            ipc.gso_size = __udp_cmsg_send(kind, data)
        else:
            rest.append((level, kind, data))
    ip_cmsg_send(sk, rest, ipc)


def udp_sendmsg(sk: udp_sock, msg: msghdr, length: int) -> int:
    """net/ipv4/udp.c: send one datagram (or, corked, a piece of one). Returns `length`.

    Raises: OSError EMSGSIZE, EOPNOTSUPP, EINVAL, EDESTADDRREQ, EACCES, EAGAIN, routing errors.
    """
    if udp_plain(msg):
        flow = udp_flow_to(sk, msg.msg_name)
        if flow is not None and udp_flow_takes(sk, flow, length):
            return udp_send_flow(sk, flow, msg, length)
    if length > 0xFFFF:
        raise os_error(errno.EMSGSIZE, f"{length} bytes do not fit a UDP datagram")
    net = sk.net
    flags = msg.msg_flags
    if flags & MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "UDP has no urgent data")
    corkreq = sk.corkflag or flags & MSG_MORE
    if sk.pending:
        lock_sock(sk)
        if sk.pending:
            return udp_append(sk, msg, length, None, None, None, corkreq)
        release_sock(sk)
    ulen = length + UDP_HLEN
    name = msg.msg_name
    if name is not None:
        daddr, dport = name.addr, name.port
        if name.family != AF_INET or name.sa_len:
            check_destination(name)
        if not dport:
            raise os_error(errno.EINVAL, "port 0 cannot be sent to")
        connected = False
    else:
        if sk.sk_state != TCP_ESTABLISHED:
            raise os_error(errno.EDESTADDRREQ, "no destination: not connected and no address given")
        daddr = narrow(sk.inet_daddr)
        dport = sk.inet_dport
        connected = True
    ipc = ipcm_cookie(sk)
    ipc.gso_size = sk.gso_size
    if msg.msg_control:
        udp_cmsg_send(sk, msg, ipc)
        connected = False
    if ipc.opt is None:
        ipc.opt = sk.inet_opt
    saddr = ipc.addr
    ipc.addr = faddr = daddr
    if ipc.opt is not None and ipc.opt.srr:
        if not daddr:
            raise os_error(errno.EINVAL, "a source route needs a destination")
        faddr = ipc.opt.faddr
        connected = False
    tos = sk.tos if ipc.tos == -1 else ipc.tos
    scope = RT_SCOPE_UNIVERSE
    if (
        sk.sk_flags & SOCK_LOCALROUTE
        or flags & MSG_DONTROUTE
        or (ipc.opt is not None and ipc.opt.is_strictroute)
    ):
        scope = RT_SCOPE_LINK
        connected = False
    if daddr >> 28 == 0xE:
        if not ipc.oif:
            ipc.oif = sk.mc_index
        if not saddr:
            saddr = narrow(sk.mc_addr)
        connected = False
    elif not ipc.oif:
        ipc.oif = sk.uc_index
    rt = sk_dst_check(sk, 0) if connected else None
    if rt is None:
        fl4 = flowi(
            AF_INET,
            faddr,
            saddr,
            ipc.oif,
            tos & IPTOS_RT_MASK,
            sk.sk_protocol,
            dport,
            sk.inet_sport,
            1 if sk.transparent else 0,
            ipc.sockc_mark,
            scope,
        )
        try:
            rt = ip_route_output_flow(net, fl4, sk)
        except OSError as exc:
            if exc.errno == errno.ENETUNREACH:
                net.mib.ip.OutNoRoutes += 1
            raise
        if rt.rt_flags & RTCF_BROADCAST and not sk.sk_flags & SOCK_BROADCAST:
            raise os_error(errno.EACCES, "sending to a broadcast needs SO_BROADCAST")
        if connected:
            sk_dst_set(sk, rt)
        if not ipc.addr:
            ipc.addr = narrow(fl4.daddr)
    else:
        fl4 = flowi(
            AF_INET, faddr, saddr or rt.rt_src, ipc.oif, tos, sk.sk_protocol, dport, sk.inet_sport
        )
    if flags & MSG_CONFIRM:
        if rt.neigh is not None:
            neigh_confirm(rt.neigh)
        if flags & MSG_PROBE and not length:
            return 0
    if not corkreq:
        if udp_plain(msg):
            made = udp_make_flow(sk, fl4, rt, ipc, name)
            if made is not None and udp_flow_takes(sk, made, length):
                return udp_send_flow(sk, made, msg, length)
        cork = inet_cork_of(sk)
        skb = ip_make_skb(sk, fl4, ip_generic_getfrag, msg, ulen, UDP_HLEN, ipc, rt, cork, flags)
        if skb is None:
            return length
        err = udp_send_skb(skb, fl4, cork)
        if err:
            raise_send_error(sk, err)
        return length
    lock_sock(sk)
    if sk.pending:
        release_sock(sk)
        raise os_error(errno.EINVAL, "another datagram is being collected on this socket")
    sk.pending = AF_INET
    sk.len = 0
    sk.sk_tx_flow = None  # the next sendmsg adds to this datagram
    return udp_append(sk, msg, length, fl4, ipc, rt, corkreq)


def udp_make_flow(
    sk: udp_sock, fl4: flowi, rt: rtable, ipc: ipcm_cookie, name: sockaddr | None
) -> UdpFlow | None:
    """Make the flow of a socket's plain datagrams to `name` (None: to its peer); see udp_flow.py.

    None when each datagram needs udp_send_skb: for IP options, a group, route metrics, or a device
    without checksum offload.
    """
    dev = rt.dev
    sk.sk_tx_flow = None
    if (
        ipc.opt is not None
        or sk.sk_flags & SOCK_LOCALROUTE
        or sk.sk_no_check_tx
        or rt.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST)
        or rt.rt_pmtu
        or rt.metrics
        or rt.rt_mtu_locked
        or not dev.features & (NETIF_F_HW_CSUM | NETIF_F_IP_CSUM)
    ):
        return None
    pmtudisc = sk.pmtudisc
    flow = UdpFlow(
        sk,
        rt,
        sock_wfree,
        sk.net.skb_small,
        LL_MAX_HEADER + dev.needed_headroom + IP_UDP_HLEN,
        fl4.saddr,
        fl4.daddr,
        fl4.fl_sport,
        fl4.fl_dport,
        tos=sk.tos,
        ttl=ip_select_ttl(sk, rt),
        df=pmtudisc in (IP_PMTUDISC_WANT, IP_PMTUDISC_DO, IP_PMTUDISC_PROBE),
        ignore_df=pmtudisc < IP_PMTUDISC_DO or pmtudisc == IP_PMTUDISC_OMIT,
        mark=sk.sk_mark,
        priority=sk.sk_priority,
        ident_slot=ip_ident_slot(sk.net, narrow(fl4.daddr), narrow(fl4.saddr), IPPROTO_UDP),
        idents=sk.net.ipv4.ip_idents,
        randrange=sk.net.random.randrange,
        small=sk.net.skb_small_head,
        mtu=dev.mtu,  # a change makes the route obsolete
    )
    if name is None and sk.sk_dst_cache is not rt:
        sk_dst_set(sk, rt)
    sk.sk_tx_flow = flow
    sk.udp_flow_af = af_ops_of[AF_INET]
    sk.udp_name = name
    return flow


def udp4_flow_folds(sk: udp_sock, flow: UdpFlow) -> bool:
    """Whether IP treats a super-packet of the flow like its single datagrams (inet_af_ops)."""
    net = sk.net
    rt: rtable = flow.dst
    neigh = rt.neigh
    return not (
        net.nf_hooks[NF_INET_LOCAL_OUT]
        or net.nf_hooks[NF_INET_POST_ROUTING]
        or neigh is None
        or neigh.dead
        or not neigh.nud_state & NUD_VALID
        or not (flow.counted or sk.inet_daddr)  # single datagrams would all have identification 0
    )


def udp4_flow_aim(sk: udp_sock, flow: UdpFlow, name: sockaddr) -> None:
    """Change a flow's destination port; routes do not depend on ports (inet_af_ops)."""
    flow.aim(name.port)


def udp4_flow_xmit(sk: udp_sock, flow: UdpFlow, skb: sk_buff, count: int) -> int:
    """The end of udp_send_skb for `count` datagrams of a flow in one sk_buff (inet_af_ops)."""
    err = ip_push_pending_frames(sk, None, skb, flow)
    if count > 1:
        mib, more = sk.net.mib, count - 1
        mib.ip.OutRequests += more
        mib.ip.OutTransmits += more
        mib.ipext.OutOctets += more * IP_UDP_HLEN
        if err:
            mib.ip.OutDiscards += more
    return udp_sent(sk, err, sk.recverr, count)


def udp_append(
    sk: udp_sock,
    msg: msghdr,
    length: int,
    fl4: flowi | None,
    ipc: ipcm_cookie | None,
    rt: rtable | None,
    corkreq: int | bool,
) -> int:
    """udp_sendmsg's do_append_data: add a piece; send unless more is to come. Sock owned, freed."""
    try:
        first = rt is not None
        if not first:
            fl4 = inet_cork_of(sk).fl4
        assert fl4 is not None
        ulen = length + (UDP_HLEN if first else 0)
        try:
            if sk.len + ulen > 0xFFFF:
                raise os_error(errno.EMSGSIZE, "the collected datagram became too long")
            ip_append_data(
                sk,
                fl4,
                ip_generic_getfrag,
                msg,
                ulen,
                UDP_HLEN if first else 0,
                ipc,
                rt,
                msg.msg_flags,
            )
        except OSError:
            udp_flush_pending_frames(sk)
            raise
        sk.len += ulen
        if not corkreq:
            err = udp_push_pending_frames(sk)
            if err:
                raise_send_error(sk, err)
        elif not sk.sk_write_queue.qlen:
            sk.pending = 0
        return length
    finally:
        release_sock(sk)


def udp4_iplen(cork: inet_cork) -> int:
    """Bytes of the corked datagram's IP header with its options."""
    return 20 + (cork.opt.optlen if cork.opt is not None else 0)


def udp_send_skb(skb: sk_buff, fl4: flowi, cork: inet_cork) -> int:
    """net/ipv4/udp.c: UDP header and checksum (or what the NIC needs to do it), then IP.

    0 or a negative errno. Takes ownership of skb.
    """
    sk = skb.sk
    assert isinstance(sk, udp_sock)
    gso_size = cork.gso_size
    if (
        gso_size
        and skb.len > gso_size
        and not udp_prepare_gso(skb, sk.sk_no_check_tx, udp4_iplen(cork), cork, gso_size)
    ):
        kfree_skb(skb)
        return -errno.EINVAL
    udp_push(skb, fl4.fl_sport, fl4.fl_dport, skb.len + UDP_HLEN, 0)
    if sk.sk_no_check_tx:
        skb.ip_summed = CHECKSUM_NONE
    else:
        udp4_send_check(skb, narrow(fl4.saddr), narrow(fl4.daddr))
    return udp_sent(sk, ip_push_pending_frames(sk, fl4, skb, cork), sk.recverr, 1)


def udp_push_pending_frames(sk: udp_sock) -> int:
    """net/ipv4/udp.c: send the corked datagram. 0 or a negative errno."""
    cork = inet_cork_of(sk)
    fl4 = cork.fl4
    assert fl4 is not None
    skb = ip_finish_skb(sk, fl4)
    err = 0
    if skb is not None:
        err = udp_send_skb(skb, fl4, cork)
        cork.clear()
    sk.len = 0
    sk.pending = 0
    return err


# --- receiving ---------------------------------------------------------------------------


def udp_rcv(skb: sk_buff) -> int:
    """net/ipv4/udp.c: handler of protocol 17. Takes ownership of skb."""
    rt: rtable = skb.dst
    net = rt.net
    many = rt.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST)
    sk: udp_sock | None = skb.sk  # type: ignore[assignment]
    if sk is not None:  # early demux
        skb.sk = None
        # A packet before this one may have called a program that disconnected the socket.
        if sk.udp_tuple is None or not udp_rcv_usual(skb):
            sk = None
    if not many:
        if sk is None:
            sk = udp_lib_lookup_skb(net, skb)
            if sk is not None and sk.udp_tuple is not None:
                udp_sk_rx_dst_set(sk, skb)
        if sk is not None:
            udp_queue_rcv_skb(sk, skb)
            return 0
    return udp_lib_rcv(net, skb, af_ops_of[AF_INET], bool(many))


def udp_err(skb: sk_buff, info: int) -> int:
    """net/ipv4/udp.c (__udp4_lib_err): handle an ICMP error about our datagram. Borrows skb.

    Data at the embedded IP header.
    """
    net = skb.dst.net
    iph = iphdr_at(skb, 0)
    hlen = iph.ihl * 4
    uh = udphdr_at(skb, hlen)
    sk = __udp_lib_lookup(net, inet_err_ends(skb, 0, hlen), skb.dev.ifindex if skb.dev else 0)
    if sk is None:
        net.mib.icmp.InErrors += 1
        return -errno.ENOENT
    icmph = icmp_hdr(skb)
    kind, code = icmph.type, icmph.code
    err = errno.EHOSTUNREACH
    harderr = False
    if kind == ICMP_SOURCE_QUENCH:
        return 0
    if kind == ICMP_PARAMETERPROB:
        err, harderr = errno.EPROTO, True
    elif kind == ICMP_DEST_UNREACH:
        if code == ICMP_FRAG_NEEDED:
            if ip_sk_accept_pmtu(sk):
                ipv4_sk_update_pmtu(skb, sk, info)
            if sk.pmtudisc == IP_PMTUDISC_DONT:
                return 0
            err, harderr = errno.EMSGSIZE, True
        elif code <= NR_ICMP_UNREACH:
            err, harderr = icmp_err_convert[code]
    elif kind == ICMP_REDIRECT:
        ipv4_sk_redirect(skb, sk)
        return 0
    elif kind == ICMP_TIME_EXCEEDED:
        err = errno.EHOSTUNREACH
    if not sk.recverr:
        if not harderr or sk.sk_state != TCP_ESTABLISHED:
            return 0
    else:
        ip_icmp_error(sk, skb, err, uh.dest, info, hlen + UDP_HLEN)
    sk.sk_err = err
    sk_error_report(sk)
    return 0


# --- socket calls ------------------------------------------------------------------------


def udp_init_sock(sk: udp_sock) -> int:
    """net/ipv4/udp.c"""
    sk.udp_mib = sk.net.mib.udp
    return 0


def udp4_mib(net: Net) -> udp_mib:
    """/proc/net/snmp Udp:"""
    return net.mib.udp


def udp_connect(sk: udp_sock, uaddr: sockaddr, addr_len: int = 16) -> int:
    """net/ipv4/udp.c: ip4_datagram_connect with the sock owned inside. Raises: OSError."""
    return ip4_datagram_connect(sk, uaddr)


def udp_setsockopt(sk: udp_sock, level: int, optname: int, optval: Any) -> None:
    """net/ipv4/udp.c: SOL_UDP; everything else is IP's. Raises: OSError."""
    sk.sk_tx_flow = None
    if level == SOL_UDP:
        udp_lib_setsockopt(sk, optname, optval)
    else:
        ip_setsockopt(sk, level, optname, optval)


def udp_getsockopt(sk: udp_sock, level: int, optname: int) -> Any:
    """net/ipv4/udp.c: SOL_UDP; everything else is IP's. Raises: OSError."""
    if level == SOL_UDP:
        return udp_lib_getsockopt(sk, optname)
    return ip_getsockopt(sk, level, optname)


udp_prot = proto(
    name="UDP",
    close=udp_close,
    connect=udp_connect,
    disconnect=udp_disconnect,
    ioctl=udp_ioctl,
    init=udp_init_sock,
    destroy=udp_destroy_sock,
    setsockopt=udp_setsockopt,
    getsockopt=udp_getsockopt,
    sendmsg=udp_sendmsg,
    recvmsg=udp_recvmsg,
    sendmmsg=udp_sendmmsg,
    recvmmsg=udp_recvmmsg,
    backlog_rcv=udp_queue_rcv_one_skb,
    unhash=udp_lib_unhash,
    rehash=udp_lib_rehash,
    get_port=udp_lib_get_port,
    diag_destroy=udp_abort,
    sock_class=udp_sock,
    sysctl_rmem="udp_rmem_min",
)


def udp_v4_early_demux(skb: sk_buff) -> None:
    """net/ipv4/udp.c: give a datagram its connected socket and that one's route. Borrows skb."""
    try:
        sk = skb.dev.net.udp_table.connected.find_skb(skb)
    except IndexError:  # too short; udp_rcv counts it
        return
    if sk is None:
        return
    dst = sk_rx_dst_of(sk, skb)
    if dst is not None:
        skb.sk = sk
        skb.dst = dst


udp_protocol = net_protocol(
    handler=udp_rcv, err_handler=udp_err, no_policy=True, early_demux=udp_v4_early_demux
)
