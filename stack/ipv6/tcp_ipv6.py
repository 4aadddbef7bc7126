"""net/ipv6/tcp_ipv6.c: where TCP meets IPv6: connect, receive, errors, resets, requests.

An AF_INET6 socket with a v4-mapped peer uses IPv4: its table is `ipv6_mapped`, its addresses and
`sk_af` are IPv4's, and only its application sees IPv6 addresses. A listener for both families keeps
its own table; requests and children have that of the SYN's family.
"""

from __future__ import annotations

import errno

from fastpath.base.csum import csum_ipv6_magic
from fastpath.base.skbuff import (
    CHECKSUM_NONE,
    SKB_GSO_TCPV6,
    alloc_skb,
    pskb_may_pull,
    sk_buff,
    skb_checksum_complete,
    skb_checksum_init_v6,
    skb_put_data,
    skb_set_transport_header,
)
from fastpath.net.hdr import ipv6_hdr
from fastpath.net.hdr import tcp_v6_send_check as _send_check
from fastpath.net.inetkey import inet_key
from stack.core.dst import dst_entry
from stack.core.errors import os_error
from stack.core.inet_ecn import INET_ECN_MASK
from stack.core.l3mdev import inet_sdif, netif_index_is_l3_master, sk_dev_equal_l3scope
from stack.core.netdevice import ETH_P_IP, NET_XMIT_CN
from stack.core.proto import proto
from stack.core.rows import replace, wide
from stack.core.sock import sk_alloc, sk_setup_caps, sock_init_data
from stack.core.sock_flags import SOCK_BINDADDR_LOCK
from stack.core.sockaddr import SIN6_LEN_RFC2133, need_sa_len, sockaddr
from stack.core.tcp_states import TCP_SYN_SENT
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    IPV6_FLOWLABEL_MASK,
    IPV6_HLEN,
    IPV6_MIN_MTU,
    SOCK_RAW,
    TCP_HLEN,
)
from stack.inet.af_ops import af_ops_of
from stack.inet.early_demux import tcp_early_demux
from stack.inet.flow import flowi
from stack.inet.icsk_af_ops import inet_connection_sock_af_ops
from stack.inet.inet_connection_sock import request_sock
from stack.inet.inet_hashtables import inet_hash_connect
from stack.inet.inet_sock import inet_sock
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.inet.protosw import inet_protosw
from stack.inet.tcp import tcp_init_sock
from stack.inet.tcp_close import tcp_disconnect
from stack.inet.tcp_ctl import (
    tcp_connect_begin,
    tcp_connect_failed,
    tcp_connect_forget,
    tcp_make_synack,
)
from stack.inet.tcp_done import tcp_set_state
from stack.inet.tcp_family import tcp_family_ops
from stack.inet.tcp_minisocks import (
    tcp_request_tos,
    tcp_syn_recv_child,
    tcp_syn_recv_hash,
    tcp_syn_recv_route,
)
from stack.inet.tcp_prot import tcp_proto
from stack.inet.tcp_rcv import tcp_do_rcv, tcp_rcv
from stack.inet.tcp_reply import tcp_answer, tcp_answer_bytes, tcp_reply_reset
from stack.inet.tcp_request import tcp_conn_request
from stack.inet.tcp_sock import M32, MAX_TCP_HEADER, tcp_sock
from stack.inet.tcp_window import tcp_sync_mss
from stack.ipv4.tcp_ipv4 import (
    ipv4_specific,
    tcp_v4_conn_request,
    tcp_v4_connect,
    tcp_v4_do_rcv,
    tcp_v4_syn_recv_sock,
)
from stack.ipv6.addr import (
    IN6ADDR_LOOPBACK,
    ipv6_addr_is_linklocal,
    ipv6_addr_is_multicast,
    ipv6_addr_set_v4mapped,
    ipv6_addr_v4mapped,
)
from stack.ipv6.inet6_connection_sock import (
    inet6_csk_flow,
    inet6_csk_route_req,
    inet6_csk_route_socket,
    inet6_csk_xmit,
)
from stack.ipv6.ip6_fib import RTF_ANYCAST
from stack.ipv6.ip6_output import ip6_reply_mark, ip6_xmit
from stack.ipv6.ipv6_sockglue import ipv6_getsockopt, ipv6_setsockopt
from stack.ipv6.protocol import (
    INET6_PROTO_FINAL,
    INET6_PROTO_NOPOLICY,
    NEXTHDR_TCP,
    inet6_add_protocol,
    inet6_protocol,
    inet6_register_protosw,
)
from stack.ipv6.route import ip6_dst_lookup_flow
from stack.ipv6.rt6_info import rt6_info
from stack.ipv6.tcp_err import tcp_v6_err, tcp_v6_mtu_reduced
from stack.net import Net

# --- connect ------------------------------------------------------------------------------


def tcp_v6_connect(sk: tcp_sock, uaddr: sockaddr, addr_len: int = 28) -> int:
    """Open a connection: find route and source address, choose a port, send a SYN. Returns 0.

    Raises: OSError ENETUNREACH, EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL (no scope), ...
    """
    need_sa_len(uaddr, SIN6_LEN_RFC2133)
    if uaddr.family != AF_INET6:
        raise os_error(errno.EAFNOSUPPORT)
    net = sk.net
    np = sk.pinet6
    daddr: wide = uaddr.addr or IN6ADDR_LOOPBACK
    dport: int = uaddr.port
    if not uaddr.addr and sk.sk_af.family == AF_INET:
        daddr = 0xFFFF_7F00_0001  # bound to a v4-mapped address: ::ffff:127.0.0.1
    if ipv6_addr_is_multicast(daddr):
        raise os_error(errno.ENETUNREACH)
    if ipv6_addr_is_linklocal(daddr):
        if uaddr.scope_id:
            if not sk_dev_equal_l3scope(sk, uaddr.scope_id):
                raise os_error(errno.EINVAL)
            sk.sk_bound_dev_if = uaddr.scope_id
        if not sk.sk_bound_dev_if:
            raise os_error(errno.EINVAL)
    if np is not None:
        np.flow_label = uaddr.flowinfo & IPV6_FLOWLABEL_MASK if np.sndflow else 0
    tcp_connect_forget(sk, daddr)
    if ipv6_addr_v4mapped(daddr):
        return tcp_v6_connect_mapped(sk, daddr, dport)
    if sk.sk_af.family == AF_INET:  # bound to a v4-mapped address: no route takes it
        saddr: wide = ipv6_addr_set_v4mapped(sk.inet_saddr)
        ip6_dst_lookup_flow(net, sk, flowi(AF_INET6, daddr, saddr, sk.sk_bound_dev_if))
        raise os_error(errno.EAFNOSUPPORT, "the socket is bound to a v4-mapped address")
    opt = np.opt if np is not None else None
    sk.inet_daddr = daddr
    sk.inet_dport = dport
    fl6: flowi = inet6_csk_flow(sk)
    rt = ip6_dst_lookup_flow(net, sk, fl6)
    if not sk.inet_saddr:
        sk.inet_saddr = fl6.saddr
    if not sk.inet_rcv_saddr:
        sk.inet_rcv_saddr = sk.inet_saddr
    sk.sk_gso_type = SKB_GSO_TCPV6
    sk_setup_caps(sk, rt)
    sk.icsk_ext_hdr_len = opt.tot_len if opt is not None else 0
    sk.rx_opt.mss_clamp = IPV6_MIN_MTU - TCP_HLEN - IPV6_HLEN
    tcp_set_state(sk, TCP_SYN_SENT)
    try:
        inet_hash_connect(sk)
    except OSError:
        tcp_connect_failed(sk)
        raise
    fl6 = inet6_csk_flow(sk)
    sk.inet_fl = fl6
    fl6.daddr = daddr
    return tcp_connect_begin(sk)


def tcp_v6_connect_mapped(sk: tcp_sock, daddr: wide, dport: int) -> int:
    """Connect to a v4-mapped peer over IPv4."""
    if sk.sk_ipv6only or (sk.sk_af.family == AF_INET6 and sk.inet_rcv_saddr):
        raise os_error(errno.ENETUNREACH)
    ops, af, backlog_rcv = sk.icsk_af_ops, sk.sk_af, sk.sk_backlog_rcv
    sk.icsk_af_ops, sk.sk_af, sk.sk_backlog_rcv = ipv6_mapped, af_ops_of[AF_INET], tcp_v4_do_rcv
    try:
        return tcp_v4_connect(sk, sockaddr(AF_INET, daddr & M32, dport))
    except OSError:
        sk.icsk_af_ops, sk.sk_af, sk.sk_backlog_rcv = ops, af, backlog_rcv
        raise


def tcp_v6_use(sk: tcp_sock) -> None:
    """The socket uses IPv6 again, after a v4-mapped peer."""
    sk.icsk_af_ops, sk.sk_af = ipv6_specific, af_ops_of[AF_INET6]
    sk.sk_backlog_rcv = tcp_v6_do_rcv


def tcp_v6_disconnect(sk: tcp_sock, flags: int) -> int:
    """tcp_disconnect; unless bound to a v4-mapped address the socket uses IPv6 again. 0."""
    tcp_disconnect(sk, flags)
    if not sk.sk_flags & SOCK_BINDADDR_LOCK:
        tcp_v6_use(sk)
    return 0


def inet6_sk_rebuild_header(sk: tcp_sock) -> int:
    """net/ipv6/af_inet6.c: make sure the socket has a valid route. 0 or a negative errno."""
    dst = sk.sk_dst_cache
    if dst is not None and not dst.obsolete:
        return 0
    err = inet6_csk_route_socket(sk)
    if err:
        sk.sk_err_soft = -err
    return err


def tcp_v6_send_check(sk: tcp_sock, skb: sk_buff) -> None:
    """Prepare checksum offload: store the pseudo-header sum, set csum_start and csum_offset."""
    _send_check(skb, sk.inet_saddr, sk.inet_daddr)


# --- requests -----------------------------------------------------------------------------


def tcp_v6_route_req(sk: tcp_sock, skb: sk_buff, req: request_sock) -> dst_entry | None:
    """Set a request's addresses; returns the route to its peer, None when there is none."""
    _, req.inet_daddr, _, req.inet_rcv_saddr, _ = inet_key(skb)
    # A link-local address is unique only on its link, so the child is bound to the interface.
    req.ir_iif = req.sk_bound_dev_if
    if ipv6_addr_is_linklocal(req.inet_daddr) and (not sk.sk_bound_dev_if or inet_sdif(skb)):
        req.ir_iif = inet_sdif(skb) or skb.skb_iif
    np = sk.pinet6
    req.tos = tcp_request_tos(sk, skb, np.tclass if np is not None else sk.tos)
    return inet6_csk_route_req(sk, req)


def tcp_v6_send_synack(
    sk: tcp_sock, dst: dst_entry | None, req: request_sock, syn_skb: sk_buff | None
) -> int:
    """Answer a request with SYN-ACK. 0 or an error."""
    if dst is None:
        dst = inet6_csk_route_req(sk, req)
        if dst is None:
            return -errno.EHOSTUNREACH
    skb = tcp_make_synack(sk, dst, req)
    if skb is None:
        return -errno.ENOMEM
    _send_check(skb, req.inet_rcv_saddr, req.inet_daddr)
    np = sk.pinet6
    fl6: flowi = flowi(AF_INET6, req.inet_daddr, req.inet_rcv_saddr, req.ir_iif)
    fl6.flowi_proto = IPPROTO_TCP
    fl6.fl_sport, fl6.fl_dport = req.inet_num, req.inet_dport
    opt = None
    if np is not None:
        opt = np.opt
        if np.repflow and syn_skb is not None:
            fl6.flowlabel = ipv6_hdr(syn_skb).flow_lbl
    err = ip6_xmit(sk, skb, fl6, req.sk_mark, opt, req.tos & ~3, sk.sk_priority)
    return 0 if err == NET_XMIT_CN else err


def tcp_v6_conn_request(sk: tcp_sock, skb: sk_buff) -> int:
    """Process a SYN for a listener, over IPv4 or IPv6. Borrows skb."""
    if skb.protocol == ETH_P_IP:
        return tcp_v4_conn_request(sk, skb)
    if not ipv6_unicast_destination(skb):
        sk.net.mib.linux.ListenDrops += 1
        return 0
    if ipv6_addr_v4mapped(ipv6_hdr(skb).saddr):
        sk.net.mib.ip6.InHdrErrors += 1
        return 0
    return tcp_conn_request(tcp_v6_family_ops, sk, skb)


def tcp_v6_syn_recv_sock(
    sk: tcp_sock,
    skb: sk_buff,
    req: request_sock,
    dst: dst_entry | None,
    req_unhash: request_sock | None,
) -> tcp_sock | None:
    """On the handshake's last ACK make the child and hash it in the request's place.

    None: there is no room or no route, or the request is gone.
    """
    if skb.protocol == ETH_P_IP:
        newsk = tcp_v4_syn_recv_sock(sk, skb, req, dst, req_unhash)
        if newsk is not None:
            newsk.icsk_af_ops = ipv6_mapped
            newsk.sk_backlog_rcv = tcp_v4_do_rcv
            tcp_sync_mss(newsk, newsk.icsk_pmtu_cookie)  # with IPv4's header, which is shorter
        return newsk
    dst = tcp_syn_recv_route(sk, req, dst, inet6_csk_route_req)
    if dst is None:
        return None
    newsk = tcp_syn_recv_child(sk, skb, req)
    newsk.sk_bound_dev_if = req.ir_iif
    newsk.sk_gso_type = SKB_GSO_TCPV6
    np = newsk.pinet6
    newsk.icsk_ext_hdr_len = np.opt.tot_len if np is not None and np.opt is not None else 0
    if np is not None:
        np.flow_label = ipv6_hdr(skb).flow_lbl if np.repflow else 0
        np.mcast_oif = skb.skb_iif
        np.mcast_hops = ipv6_hdr(skb).hop_limit
        if sk.net.sysctl.tcp_reflect_tos:
            np.tclass = req.tos & ~INET_ECN_MASK
    fl6: flowi = inet6_csk_flow(newsk)
    newsk.inet_fl = fl6
    fl6.daddr = req.inet_daddr
    return tcp_syn_recv_hash(sk, newsk, dst, req_unhash)


# --- receive ------------------------------------------------------------------------------


def tcp_v6_do_rcv(sk: tcp_sock, skb: sk_buff) -> int:
    """proto.backlog_rcv: a segment for sk, see tcp_do_rcv. Takes ownership of skb."""
    if skb.protocol == ETH_P_IP:
        return tcp_v4_do_rcv(sk, skb)  # for a listener of both families
    tcp_do_rcv(sk, skb, tcp_v6_family_ops)
    return 0


def tcp_v6_rcv(skb: sk_buff) -> int:
    """inet6_protos[IPPROTO_TCP]: a segment, data at the TCP header. Takes ownership of skb. 0."""
    sk = tcp_rcv(skb, tcp_v6_family_ops)
    return 0 if sk is None else tcp_v6_do_rcv(sk, skb)


def tcp_v6_early_demux(skb: sk_buff) -> None:
    """inet6_protos[].early_demux: give a segment its connection and its route. Borrows skb."""
    if skb.pkt_type or not pskb_may_pull(skb, skb.transport_header - skb.data_offset + TCP_HLEN):
        return
    tcp_early_demux(skb)


# --- segments without a socket --------------------------------------------------------------


def tcp_v6_csum_bad(skb: sk_buff) -> bool:
    """tcp_family_ops.csum_bad"""
    _, saddr, _, daddr, _ = inet_key(skb)
    return bool(skb_checksum_init_v6(skb, IPPROTO_TCP, saddr, daddr) or skb_checksum_complete(skb))


FLOWLABEL_REFLECT_TCP_RESET = 2


def tcp_v6_send_response(net: Net, skb: sk_buff, answer: tcp_answer) -> bool:
    """tcp_family_ops.send_response"""
    _, saddr, sport, daddr, dport = inet_key(skb)
    ctl_sk = net.ipv6.tcp_sk
    # A link-local peer is on the segment's input interface.
    oif = answer.oif
    if not oif and ipv6_addr_is_linklocal(saddr):
        oif = inet_sdif(skb) or skb.skb_iif
    elif not oif and netif_index_is_l3_master(net, skb.skb_iif):
        oif = skb.skb_iif
    fl6 = flowi(AF_INET6, saddr, daddr, oif)
    fl6.flowi_proto = IPPROTO_TCP
    fl6.flowi_mark = ip6_reply_mark(net, skb.mark) or answer.mark
    fl6.flowlabel = answer.label
    fl6.fl_sport, fl6.fl_dport = dport, sport
    try:
        dst = ip6_dst_lookup_flow(net, ctl_sk, fl6)
    except OSError:
        return False
    segment = tcp_answer_bytes(skb, answer, csum_ipv6_magic)
    buff = alloc_skb(net.skb_small, len(segment), MAX_TCP_HEADER)
    if buff is None:
        return False
    skb_put_data(buff, segment)
    skb_set_transport_header(buff, 0)
    buff.ip_summed = CHECKSUM_NONE
    buff.dst = dst
    ip6_xmit(ctl_sk, buff, fl6, fl6.flowi_mark, None, answer.tclass, 0)
    return True


def tcp_v6_send_reset(sk: tcp_sock | inet_timewait_sock | None, skb: sk_buff) -> None:
    """tcp_family_ops.send_reset"""
    if sk is not None or ipv6_unicast_destination(skb):
        tcp_reply_reset(sk, skb, tcp_v6_family_ops, tcp_v6_reset_label(sk, skb))


def tcp_v6_reset_label(sk: tcp_sock | inet_timewait_sock | None, skb: sk_buff) -> int:
    """The flow label of a RST: of a socket that reflects labels that of skb."""
    if sk is None:
        reflect = skb.dev.net.ipv6.sysctl.flowlabel_reflect & FLOWLABEL_REFLECT_TCP_RESET
    elif isinstance(sk, inet_timewait_sock):
        return sk.tw_flowlabel
    else:
        reflect = sk.pinet6 is not None and sk.pinet6.repflow
    return ipv6_hdr(skb).flow_lbl if reflect else 0


def ipv6_unicast_destination(skb: sk_buff) -> bool:
    """include/net/ip6_route.h: whether skb's destination is a unicast address of ours."""
    rt: rt6_info | None = skb.dst
    return (
        skb.pkt_type == 0
        and not ipv6_addr_is_multicast(ipv6_hdr(skb).daddr)
        and (rt is None or not rt.rt6i_flags & RTF_ANYCAST)
    )


tcp_v6_family_ops = tcp_family_ops(
    family=AF_INET6,
    mss_clamp=IPV6_MIN_MTU - TCP_HLEN - IPV6_HLEN,
    msstab=(1280 - 60, 1480 - 60, 1500 - 60, 9000 - 60),
    csum_bad=tcp_v6_csum_bad,
    route_req=tcp_v6_route_req,
    send_synack=tcp_v6_send_synack,
    send_response=tcp_v6_send_response,
    send_reset=tcp_v6_send_reset,
)


# --- socket life --------------------------------------------------------------------------


def tcp_v6_init_sock(sk: tcp_sock) -> int:
    """proto.init: a fresh socket."""
    tcp_init_sock(sk)
    sk.icsk_af_ops = ipv6_specific
    return 0


ipv6_specific = inet_connection_sock_af_ops(
    queue_xmit=inet6_csk_xmit,
    send_check=tcp_v6_send_check,
    rebuild_header=inet6_sk_rebuild_header,
    conn_request=tcp_v6_conn_request,
    syn_recv_sock=tcp_v6_syn_recv_sock,
    net_header_len=IPV6_HLEN,
    setsockopt=ipv6_setsockopt,
    getsockopt=ipv6_getsockopt,
    mtu_reduced=tcp_v6_mtu_reduced,
)

ipv6_mapped = replace(
    ipv4_specific,
    conn_request=tcp_v6_conn_request,
    syn_recv_sock=tcp_v6_syn_recv_sock,
    setsockopt=ipv6_setsockopt,
    getsockopt=ipv6_getsockopt,
)

tcpv6_prot = tcp_proto(
    "TCPv6",
    connect=tcp_v6_connect,
    disconnect=tcp_v6_disconnect,
    init=tcp_v6_init_sock,
    backlog_rcv=tcp_v6_do_rcv,
)

tcpv6_protocol = inet6_protocol(
    handler=tcp_v6_rcv,
    err_handler=tcp_v6_err,
    early_demux=tcp_v6_early_demux,
    flags=INET6_PROTO_NOPOLICY | INET6_PROTO_FINAL,
)


tcp_v6_ctl_prot = proto(name="TCPv6 control", sock_class=inet_sock)
"""The proto of net.ipv6.tcp_sk, which only sends and is not subject to TCP's limits."""


def tcpv6_init(net: Net, tcpv6_protosw: inet_protosw) -> None:
    """net/ipv6/tcp_ipv6.c (with tcpv6_net_init): register TCP and make the control socket.

    `tcpv6_protosw` is an argument because its proto_ops are in af_inet6, which imports this module.
    """
    inet6_add_protocol(net, tcpv6_protocol, NEXTHDR_TCP)
    inet6_register_protosw(net, tcpv6_protosw)
    sk: inet_sock = sk_alloc(net, AF_INET6, 0, tcp_v6_ctl_prot, True)
    sock_init_data(None, sk)
    sk.sk_type = SOCK_RAW
    sk.sk_protocol = IPPROTO_TCP
    net.ipv6.tcp_sk = sk
