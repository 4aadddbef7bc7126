"""UDP over IPv6: sending, errors, the protocol's tables (net/ipv6/udp.c; RFC 768, 8200 8.1).

Datagrams to a v4-mapped address are sent by stack/ipv4/udp.py.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from fastpath.hdr import ipv6_hdr, udp6_send_check, udp_hdr, udp_push
from fastpath.inet import UdpFlow
from fastpath.inetkey import inet_err_ends
from fastpath.skbuff import kfree_skb, pskb_may_pull, sk_buff
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.neigh_table import NUD_VALID
from stack.core.neighbour import neigh_confirm
from stack.core.netdevice import NETIF_F_HW_CSUM, NETIF_F_IPV6_CSUM
from stack.core.netfilter import NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING
from stack.core.proto import proto
from stack.core.snmp import udp_mib
from stack.core.sock import (
    SOCK_LOCALROUTE,
    lock_sock,
    release_sock,
    sk_dst_set,
    sk_error_report,
    sock_wfree,
)
from stack.core.sockaddr import SA_FAMILY_LEN, need_sa_len, sockaddr
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    MSG_CONFIRM,
    MSG_ERRQUEUE,
    MSG_MORE,
    SOL_UDP,
)
from stack.inet.af_ops import af_ops_of
from stack.inet.datagram import udp_disconnect
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_cork_of
from stack.inet.udp import (
    UDP_HLEN,
    __udp_cmsg_send,
    udp_abort,
    udp_close,
    udp_destroy_sock,
    udp_drop_short,
    udp_ioctl,
    udp_lib_rcv,
    udp_prepare_gso,
    udp_queue_rcv_one_skb,
    udp_queue_rcv_skb,
    udp_recvmmsg,
    udp_recvmsg,
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
from stack.inet.udp_sockopt import udp_lib_getsockopt, udp_lib_setsockopt
from stack.ipv4.ip_output import ip_generic_getfrag
from stack.ipv4.udp import udp_sendmsg
from stack.ipv6.addr import (
    IN6ADDR_LOOPBACK,
    ipv6_addr_is_multicast,
)
from stack.ipv6.datagram import (
    check_label,
    datagram_flow,
    ip6_datagram_connect,
    ipv6_icmp_error,
    ipv6_recv_rxpmtu,
    mapped_sockaddr,
)
from stack.ipv6.ip6_append import (
    ip6_append_data,
    ip6_finish_skb,
    ip6_make_skb,
    ip6_push_pending_frames,
    ip6_sk_ignore_df,
    ipcm6_cookie,
)
from stack.ipv6.ip6_cmsg import iface_scope_id, ip6_datagram_send_ctl
from stack.ipv6.ip6_icmp import ICMPV6_PKT_TOOBIG, NDISC_REDIRECT, icmpv6_err_convert
from stack.ipv6.ip6_output import (
    LL_MAX_HEADER,
    ip6_autoflowlabel,
    ip6_make_flowlabel,
    ip6_send_skb,
    ip6_sk_dst_hoplimit,
)
from stack.ipv6.ipv6_sockglue import ipv6_getsockopt, ipv6_setsockopt
from stack.ipv6.pinfo import IPV6_PMTUDISC_INTERFACE, inet6_cork, np_of
from stack.ipv6.protocol import INET6_PROTO_FINAL, INET6_PROTO_NOPOLICY, inet6_protocol
from stack.ipv6.route import ip6_dst_lookup_flow, ip6_sk_dst_lookup_flow
from stack.ipv6.route_learned import ip6_sk_redirect, ip6_sk_update_pmtu
from stack.ipv6.rt6_info import rt6_info
from stack.ipv6.txoptions import fl6_update_dst

if TYPE_CHECKING:
    from stack.net import Net

IPV6_UDP_HLEN = 48


# --- sending -------------------------------------------------------------------------------


def udpv6_sendmsg(sk: udp_sock, msg: msghdr, length: int) -> int:
    """net/ipv6/udp.c: send one datagram (or, corked, a piece of one). Returns `length`.

    Raises: OSError EMSGSIZE, EINVAL, EDESTADDRREQ, EAGAIN, routing errors.
    """
    name = msg.msg_name
    if udp_plain(msg):
        flow = udp_flow_to(sk, name)
        if flow is not None and flow.family == AF_INET6 and udp_flow_takes(sk, flow, length):
            return udp_send_flow(sk, flow, msg, length)
    if name is None:
        if sk.sk_af.family == AF_INET:
            return udp_sendmsg(sk, msg, length)
    else:
        need_sa_len(name, SA_FAMILY_LEN)
        if name.family == AF_UNSPEC:
            msg.msg_name = None
            return udpv6_sendmsg(sk, msg, length)
        if name.family == AF_INET and sk.sk_ipv6only:
            raise os_error(errno.ENETUNREACH, "an IPv4 address on an IPV6_V6ONLY socket")
        if name.family not in (AF_INET, AF_INET6):
            raise os_error(errno.EINVAL, f"family {name.family} on an IPv6 socket")
        v4 = mapped_sockaddr(sk, name)
        if v4 is not None:
            if sk.inet_saddr and sk.sk_af.family == AF_INET6:
                raise os_error(errno.ENETUNREACH, "the socket is bound to an IPv6 address")
            msg.msg_name = v4
            return udp_sendmsg(sk, msg, length)
    return udpv6_send(sk, msg, length, name)


def udp6_flow_folds(sk: udp_sock, flow: UdpFlow) -> bool:
    """Whether IP treats a super-packet of the flow like its single datagrams (inet_af_ops)."""
    net = sk.net
    hooks = net.ipv6.nf_hooks
    if hooks[NF_INET_LOCAL_OUT] or hooks[NF_INET_POST_ROUTING]:
        return False
    rt: rt6_info = flow.dst
    name = sk.udp_name
    daddr = rt.rt6i_gateway or (sk.inet_daddr if name is None else name.addr)
    tbl = net.ipv6.nd_tbl
    neigh = tbl.hash.get(daddr << 16 | rt.dev.ifindex) if tbl is not None else None
    return neigh is not None and not neigh.dead and bool(neigh.nud_state & NUD_VALID)


def udp6_flow_aim(sk: udp_sock, flow: UdpFlow, name: sockaddr) -> None:
    """Change a flow's destination port, and the flow label with it (inet_af_ops)."""
    net = sk.net
    np = np_of(sk)
    label = name.flowinfo & 0xFFFFF if np.sndflow else 0
    fl6 = flowi(AF_INET6, flow.daddr, flow.saddr)
    fl6.flowi_proto = sk.sk_protocol
    fl6.fl_sport = sk.inet_sport
    fl6.fl_dport = name.port
    flow.aim(name.port, ip6_make_flowlabel(net, 0, label, ip6_autoflowlabel(net, np), fl6))


def udp6_flow_xmit(sk: udp_sock, flow: UdpFlow, skb: sk_buff, count: int) -> int:
    """The end of udp_v6_send_skb for `count` datagrams of a flow in one sk_buff (inet_af_ops)."""
    flow.push_ip(skb, 0)
    mib = sk.net.mib.ip6
    mib.OutRequests += count
    err = ip6_send_skb(skb)
    if count > 1:
        mib.OutTransmits += count - 1
        mib.OutOctets += (count - 1) * IPV6_UDP_HLEN
        if err:
            mib.OutDiscards += count - 1
    return udp_sent(sk, err, np_of(sk).recverr, count)


def udpv6_send(sk: udp_sock, msg: msghdr, length: int, name: sockaddr | None) -> int:
    """udpv6_sendmsg to an IPv6 address; `name` None: to the connected peer."""
    flags = msg.msg_flags
    corkreq = bool(sk.corkflag or flags & MSG_MORE)
    if sk.pending:
        lock_sock(sk)
        if sk.pending:
            return udpv6_append(sk, msg, length, None, None, None, corkreq)
        release_sock(sk)
    np = np_of(sk)
    net = sk.net
    connected = name is None
    if name is None:
        if sk.sk_state != TCP_ESTABLISHED:
            raise os_error(errno.EDESTADDRREQ, "no destination: not connected and no address given")
        daddr, dport = sk.inet_daddr, sk.inet_dport
        label = np.flow_label
        scope_id = 0
    else:
        daddr, dport = name.addr, name.port
        if not dport:
            raise os_error(errno.EINVAL, "port 0 cannot be sent to")
        label = name.flowinfo & 0xFFFFF if np.sndflow else 0
        scope_id = name.scope_id if iface_scope_id(daddr, 1) else 0
    daddr = daddr or IN6ADDR_LOOPBACK
    if label:
        check_label(sk, label)
    fl6 = datagram_flow(sk, daddr, sk.inet_saddr, dport, label)
    if scope_id:
        if sk.sk_bound_dev_if and sk.sk_bound_dev_if != scope_id:
            raise os_error(errno.EINVAL, f"the socket is bound to interface {sk.sk_bound_dev_if}")
        fl6.flowi_oif = scope_id
    elif np.sticky_ifindex and not sk.sk_bound_dev_if:
        fl6.flowi_oif = np.sticky_ifindex
    if np.sticky_addr and not fl6.saddr:
        fl6.saddr = np.sticky_addr
    ipc6 = ipcm6_cookie(sk)
    ipc6.gso_size = sk.gso_size
    if msg.msg_control:
        rest = []
        for level, kind, data in msg.msg_control:
            if level == SOL_UDP:
                ipc6.gso_size = __udp_cmsg_send(kind, data)
            else:
                rest.append((level, kind, data))
        ip6_datagram_send_ctl(sk, rest, fl6, ipc6)
        connected = False
    if ipc6.opt is None:
        ipc6.opt = np.opt
    via = fl6_update_dst(daddr, ipc6.opt)
    if via:
        fl6.daddr = via
        connected = False
    if ipv6_addr_is_multicast(fl6.daddr):
        connected = False
    fl6.flowi_tos = max(ipc6.tclass, 0)
    prefs = np.srcprefs
    if connected:
        rt = ip6_sk_dst_lookup_flow(sk, fl6, 0, True, prefs)
        fl6.saddr = fl6.saddr or sk.inet_saddr
    else:
        rt = ip6_dst_lookup_flow(net, sk, fl6, daddr if via else 0, prefs)
    if flags & MSG_CONFIRM and rt.neigh is not None:
        neigh_confirm(rt.neigh)
    if not corkreq:
        sk.sk_tx_flow = None
        if udp_plain(msg) and not (
            ipc6.opt is not None
            or via
            or sk.sk_flags & SOCK_LOCALROUTE
            or ipv6_addr_is_multicast(daddr)
        ):
            flow = udpv6_make_flow(sk, fl6, rt, name)
            if flow is not None and udp_flow_takes(sk, flow, length):
                return udp_send_flow(sk, flow, msg, length)
        return udpv6_send_one(sk, msg, length, ipc6, fl6, rt)
    lock_sock(sk)
    if sk.pending:
        release_sock(sk)
        raise os_error(errno.EINVAL, "another datagram is being collected on this socket")
    sk.pending = AF_INET6
    sk.len = 0
    sk.sk_tx_flow = None  # the next sendmsg adds to this datagram
    return udpv6_append(sk, msg, length, fl6, ipc6, rt, corkreq)


def udpv6_send_one(
    sk: udp_sock, msg: msghdr, length: int, ipc6: ipcm6_cookie, fl6: flowi, rt: rt6_info
) -> int:
    """udpv6_sendmsg's lockless path: make a datagram and send it."""
    cork, v6_cork = inet_cork_of(sk), inet6_cork()
    flags = msg.msg_flags
    ulen = length + UDP_HLEN
    skb = ip6_make_skb(
        sk, ip_generic_getfrag, msg, ulen, UDP_HLEN, ipc6, rt, fl6, flags, cork, v6_cork
    )
    if skb is None:
        return length
    err = udp_v6_send_skb(skb, sk, fl6, v6_cork)
    if err:
        raise_send_error(sk, err)
    return length


def udpv6_make_flow(
    sk: udp_sock, fl6: flowi, rt: rt6_info, name: sockaddr | None
) -> UdpFlow | None:
    """Make the flow of a socket's plain datagrams to `name` (None: to its peer); see udp_flow.py.

    None when each datagram needs udp_v6_send_skb.
    """
    dev = rt.dev
    np = np_of(sk)
    if (
        np.frag_size
        or rt.expires
        or rt.metrics
        or np.pmtudisc >= IPV6_PMTUDISC_INTERFACE
        or not dev.features & (NETIF_F_HW_CSUM | NETIF_F_IPV6_CSUM)
    ):
        return None
    net = sk.net
    if name is None and sk.sk_dst_cache is not rt:
        sk_dst_set(sk, rt)
    sk.udp_name = name
    sk.udp_flow_af = af_ops_of[AF_INET6]
    label = ip6_make_flowlabel(net, 0, fl6.flowlabel, ip6_autoflowlabel(net, np), fl6)
    sk.sk_tx_flow = flow = UdpFlow(
        sk,
        rt,
        sock_wfree,
        net.skb_small,
        LL_MAX_HEADER + dev.needed_headroom + IPV6_UDP_HLEN,
        fl6.saddr,
        fl6.daddr,
        fl6.fl_sport,
        fl6.fl_dport,
        tos=fl6.flowi_tos,
        ttl=ip6_sk_dst_hoplimit(np, fl6.daddr, rt),
        df=False,
        ignore_df=ip6_sk_ignore_df(np),
        mark=sk.sk_mark,
        priority=sk.sk_priority,
        small=net.skb_small_head,
        family=AF_INET6,
        flowlabel=label,
        mtu=dev.mtu,
    )
    return flow


def udpv6_append(
    sk: udp_sock,
    msg: msghdr,
    length: int,
    fl6: flowi | None,
    ipc6: ipcm6_cookie | None,
    rt: rt6_info | None,
    corkreq: bool,
) -> int:
    """udpv6_sendmsg's do_append_data: add a piece; send unless more is to come.

    The sock is owned, and freed.
    """
    try:
        first = rt is not None
        if sk.pending == AF_INET:
            release_sock(sk)
            try:
                return udp_sendmsg(sk, msg, length)
            finally:
                lock_sock(sk)
        if fl6 is None:
            fl6 = inet_cork_of(sk).fl4
        assert fl6 is not None
        ulen = length + (UDP_HLEN if first else 0)
        try:
            if sk.len + ulen > 0xFFFF:
                raise os_error(errno.EMSGSIZE, "the collected datagram became too long")
            ip6_append_data(
                sk,
                ip_generic_getfrag,
                msg,
                ulen,
                UDP_HLEN if first else 0,
                ipc6 if ipc6 is not None else ipcm6_cookie(sk),
                fl6,
                rt,  # type: ignore[arg-type]
                msg.msg_flags,
            )
        except OSError:
            udp_v6_flush_pending_frames(sk)
            raise
        sk.len += ulen
        if not corkreq:
            err = udp_v6_push_pending_frames(sk)
            if err:
                raise_send_error(sk, err)
        elif not sk.sk_write_queue.qlen:
            sk.pending = 0
        return length
    finally:
        release_sock(sk)


def udp_v6_send_skb(skb: sk_buff, sk: udp_sock, fl6: flowi, v6_cork: inet6_cork) -> int:
    """net/ipv6/udp.c: UDP header and checksum (or what the NIC needs to do it), then IP.

    0 or a negative errno. Takes ownership of skb.
    """
    cork = inet_cork_of(sk)
    gso_size = cork.gso_size
    if gso_size and skb.len > gso_size:
        iplen = 40 + (v6_cork.opt.tot_len if v6_cork.opt is not None else 0)
        if not udp_prepare_gso(skb, False, iplen, cork, gso_size):
            kfree_skb(skb)
            return -errno.EINVAL
    udp_push(skb, fl6.fl_sport, fl6.fl_dport, skb.len + UDP_HLEN, 0)
    # SO_NO_CHECK is IPv4's; here a datagram without checksum would be dropped (RFC 8200 8.1)
    udp6_send_check(skb, fl6.saddr, fl6.daddr)
    err = ip6_push_pending_frames(sk, fl6, skb, cork, v6_cork)
    return udp_sent(sk, err, np_of(sk).recverr, 1)


def udp_v6_push_pending_frames(sk: udp_sock) -> int:
    """net/ipv6/udp.c: send the corked datagram. 0 or a negative errno."""
    np = np_of(sk)
    cork = inet_cork_of(sk)
    fl6 = cork.fl4
    assert fl6 is not None
    skb = ip6_finish_skb(sk)
    err = 0
    if skb is not None:
        err = udp_v6_send_skb(skb, sk, fl6, np.cork)
        cork.clear()
        np.cork.opt = None
    sk.len = 0
    sk.pending = 0
    return err


def udp_v6_flush_pending_frames(sk: udp_sock) -> None:
    """net/ipv6/udp.c: discard the corked datagram."""
    if sk.pending:
        sk.len = 0
        family, sk.pending = sk.pending, 0
        af_ops_of[family].flush_pending_frames(sk)


# --- receiving -----------------------------------------------------------------------------


def udpv6_rcv(skb: sk_buff) -> int:
    """net/ipv6/udp.c: handler of protocol 17. Takes ownership of skb."""
    net = skb.dev.net
    sk = udp_lib_lookup_skb(net, skb)
    if sk is not None:
        udp_queue_rcv_skb(sk, skb)
        return 0
    if not pskb_may_pull(skb, UDP_HLEN):
        return udp_drop_short(net, skb, af_ops_of[AF_INET6])
    if not udp_hdr(skb).check and not skb.gso_size:
        # RFC 8200 8.1: a datagram over IPv6 has a checksum.
        net.mib.udp6.InCsumErrors += 1
        return udp_drop_short(net, skb, af_ops_of[AF_INET6])
    many = ipv6_hdr(skb).daddr >> 120 == 0xFF
    return udp_lib_rcv(net, skb, af_ops_of[AF_INET6], many)


def udpv6_err(skb: sk_buff, opt: object, kind: int, code: int, offset: int, info: int) -> int:
    """net/ipv6/udp.c: handle an ICMPv6 error about our datagram. Borrows skb.

    Data at the embedded IPv6 header, the UDP header `offset` bytes behind it.
    """
    net: Net = skb.dev.net
    ends = inet_err_ends(skb, 0, offset)
    sk = __udp_lib_lookup(net, ends, skb.dev.ifindex)
    if sk is None:
        net.mib.icmp6.InErrors += 1
        return -errno.ENOENT
    np = sk.pinet6
    if np is None:
        return 0
    err, harderr = icmpv6_err_convert(kind, code)
    if kind == ICMPV6_PKT_TOOBIG:
        if np.pmtudisc < IPV6_PMTUDISC_INTERFACE:
            ip6_sk_update_pmtu(skb, sk, info)
        if np.pmtudisc:
            harderr = True
    elif kind == NDISC_REDIRECT:
        ip6_sk_redirect(skb, sk)
        return 0
    if not np.recverr:
        if not harderr or sk.sk_state != TCP_ESTABLISHED:
            return 0
    else:
        ipv6_icmp_error(sk, skb, err, ends.sport, info, kind, code, offset + UDP_HLEN)
    sk.sk_err = err
    sk_error_report(sk)
    return 0


def udpv6_recvmsg(sk: udp_sock, msg: msghdr, length: int, flags: int) -> int:
    """net/ipv6/udp.c: udp_recvmsg, or the report of a pending path MTU. Raises: OSError."""
    np = sk.pinet6
    waits = np is not None and np.rx_pmtu is not None and not flags & MSG_ERRQUEUE
    if waits and ipv6_recv_rxpmtu(sk, msg):
        return 0
    return udp_recvmsg(sk, msg, length, flags)


# --- socket calls --------------------------------------------------------------------------


def udpv6_init_sock(sk: udp_sock) -> int:
    """net/ipv6/udp.c"""
    sk.udp_mib = sk.net.mib.udp6
    return 0


def udpv6_setsockopt(sk: udp_sock, level: int, optname: int, optval: Any) -> None:
    """net/ipv6/udp.c: SOL_UDP; everything else is IP's. Raises: OSError."""
    sk.sk_tx_flow = None
    if level == SOL_UDP:
        udp_lib_setsockopt(sk, optname, optval)
    else:
        ipv6_setsockopt(sk, level, optname, optval)


def udpv6_getsockopt(sk: udp_sock, level: int, optname: int) -> Any:
    """net/ipv6/udp.c: SOL_UDP; everything else is IP's. Raises: OSError."""
    if level == SOL_UDP:
        return udp_lib_getsockopt(sk, optname)
    return ipv6_getsockopt(sk, level, optname)


def udp6_mib(net: Net) -> udp_mib:
    """/proc/net/snmp6 Udp6*"""
    return net.mib.udp6


udpv6_prot = proto(
    name="UDPv6",
    memory="UDP",
    close=udp_close,
    connect=ip6_datagram_connect,
    disconnect=udp_disconnect,
    ioctl=udp_ioctl,
    init=udpv6_init_sock,
    destroy=udp_destroy_sock,
    setsockopt=udpv6_setsockopt,
    getsockopt=udpv6_getsockopt,
    sendmsg=udpv6_sendmsg,
    recvmsg=udpv6_recvmsg,
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

udpv6_protocol = inet6_protocol(
    handler=udpv6_rcv, err_handler=udpv6_err, flags=INET6_PROTO_NOPOLICY | INET6_PROTO_FINAL
)
