"""net/ipv4/tcp_ipv4.c: TCP over IPv4: connect, receive, requests, the protocol's tables.

    inet_stream_connect => tcp_v4_connect       route, source, port, sequence number; then the SYN
    tcp_transmit_skb => tcp_v4_send_check       the checksum of a segment
    inet_protos: tcp_v4_early_demux, tcp_v4_rcv -> tcp_rcv, tcp_v4_do_rcv       (inet/tcp_rcv.py)
        tcp_v4_conn_request                     a SYN for a listener
            tcp_v4_route_req, tcp_v4_send_synack
        tcp_v4_syn_recv_sock                    the ACK that ends the handshake: the child
        cookie_v4_init_sequence, cookie_v4_check        the same without keeping a request
    inet_sk_rebuild_header -> tcp_v4_rebuild_route      the route of a connection is obsolete

stack/inet has the code of both families. The functions here do what is specific to IPv4's header or
routes, and call it. ICMP errors are in tcp_err.py, resets and replies without a socket in
tcp_reply.py. State is tcp_sock and request_sock. `ipv4_specific`, `tcp_prot` and `tcp_protocol` at
the end list the functions. Read tcp_v4_connect first; IPv6's counterpart is ipv6/tcp_ipv6.py.
"""

from __future__ import annotations

import errno

from fastpath.base.csum import csum_tcpudp_magic
from fastpath.base.skbuff import SKB_GSO_TCPV4, sk_buff, skb_checksum_complete, skb_checksum_init
from fastpath.net.hdr import ip_hdr
from fastpath.net.hdr import tcp_v4_send_check as _send_check
from fastpath.net.inetkey import inet_key
from stack.core import tcp_states
from stack.core.dst import dst_entry
from stack.core.errors import os_error
from stack.core.inet_ecn import INET_ECN_MASK
from stack.core.netdevice import NET_XMIT_CN
from stack.core.rows import narrow
from stack.core.sock import sk_dst_reset, sk_setup_caps
from stack.core.sockaddr import sockaddr
from stack.core.uapi import AF_INET, IPPROTO_TCP, RTN_LOCAL
from stack.inet.af_ops import inet_ehash_entries
from stack.inet.early_demux import tcp_early_demux
from stack.inet.flow import flowi
from stack.inet.icsk_af_ops import inet_connection_sock_af_ops
from stack.inet.inet_connection_sock import request_sock
from stack.inet.inet_hashtables import inet_hash_connect
from stack.inet.inet_timewait_sock import inet_timewait_sock, inet_twsk_deschedule_put
from stack.inet.protocol import net_protocol
from stack.inet.tcp import tcp_init_sock
from stack.inet.tcp_close import tcp_disconnect
from stack.inet.tcp_const import TCP_MSS_DEFAULT
from stack.inet.tcp_ctl import (
    tcp_connect_begin,
    tcp_connect_failed,
    tcp_connect_forget,
    tcp_make_synack,
)
from stack.inet.tcp_done import tcp_done, tcp_set_state
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
from stack.inet.tcp_sock import tcp_sock
from stack.ipv4.datagram import check_sockaddr
from stack.ipv4.ip_options import __ip_options_echo, received_options
from stack.ipv4.ip_output import (
    ip4_reply_mark,
    ip_build_and_send_pkt,
    ip_queue_xmit,
    ip_send_unicast_reply,
)
from stack.ipv4.ip_sockglue import ip_getsockopt, ip_setsockopt
from stack.ipv4.route import (
    RTCF_BROADCAST,
    RTCF_MULTICAST,
    inet_sk_flowi_flags,
    ip_route_connect,
    ip_route_newports,
    ip_route_output_flow,
    ip_route_output_ports,
    ip_sock_rt_scope,
)
from stack.ipv4.tcp_err import tcp_v4_err, tcp_v4_mtu_reduced
from stack.net import Net

# --- connect ------------------------------------------------------------------------------


def tcp_v4_connect(sk: tcp_sock, uaddr: sockaddr, addr_len: int = 16) -> int:
    """Open a connection: find the route, choose a port, send a SYN. Returns 0.

    Raises: OSError ENETUNREACH, EADDRNOTAVAIL, ...
    """
    check_sockaddr(uaddr)
    net = sk.net
    daddr, dport = uaddr.addr, uaddr.port
    nexthop = daddr
    inet_opt = sk.inet_opt
    if inet_opt is not None and inet_opt.srr:
        if not daddr:
            raise os_error(errno.EINVAL)
        nexthop = inet_opt.faddr
    orig_sport = sk.inet_sport
    fl4: flowi = flowi(AF_INET)
    try:
        rt = ip_route_connect(
            fl4,
            nexthop,
            narrow(sk.inet_saddr),
            sk.sk_bound_dev_if,
            IPPROTO_TCP,
            orig_sport,
            dport,
            sk,
        )
    except OSError as exc:
        if exc.errno == errno.ENETUNREACH:
            net.mib.ip.OutNoRoutes += 1
        raise
    if rt.rt_flags & (RTCF_MULTICAST | RTCF_BROADCAST):
        raise os_error(errno.ENETUNREACH)
    if inet_opt is None or not inet_opt.srr:
        daddr = narrow(fl4.daddr)
    if not sk.inet_saddr:
        sk.inet_saddr = sk.inet_rcv_saddr = fl4.saddr
    elif not sk.inet_rcv_saddr:
        sk.inet_rcv_saddr = sk.inet_saddr
    tcp_connect_forget(sk, daddr)
    sk.inet_dport = dport
    sk.inet_daddr = daddr
    sk.icsk_ext_hdr_len = inet_opt.optlen if inet_opt is not None else 0
    sk.rx_opt.mss_clamp = TCP_MSS_DEFAULT
    tcp_set_state(sk, tcp_states.TCP_SYN_SENT)
    try:
        inet_hash_connect(sk)
        rt = ip_route_newports(fl4, rt, orig_sport, dport, sk.inet_sport, dport, sk)
    except OSError:
        tcp_connect_failed(sk)
        raise
    sk.inet_fl = fl4
    sk.sk_gso_type = SKB_GSO_TCPV4
    sk_setup_caps(sk, rt)
    sk.inet_id = net.random.getrandbits(16)
    return tcp_connect_begin(sk)


def inet_sk_rebuild_header(sk: tcp_sock) -> int:
    """net/ipv4/af_inet.c: make sure the socket has a valid route. 0 or -EHOSTUNREACH."""
    dst = sk.sk_dst_cache
    if dst is not None and (
        not dst.obsolete or dst.ops is None or dst.ops.check(dst, 0) is not None
    ):
        return 0
    return 0 if tcp_v4_rebuild_route(sk) is not None else -errno.EHOSTUNREACH


def tcp_v4_rebuild_route(sk: tcp_sock) -> dst_entry | None:
    """Look up and cache a new route to the peer; None when there is none."""
    fl4: flowi = flowi(AF_INET)
    sk.inet_fl = fl4
    daddr = sk.inet_daddr
    if sk.inet_opt is not None and sk.inet_opt.srr:
        daddr = sk.inet_opt.faddr
    try:
        rt = ip_route_output_ports(
            sk.net,
            fl4,
            sk,
            narrow(daddr),
            narrow(sk.inet_saddr),
            sk.inet_dport,
            sk.inet_sport,
            sk.sk_protocol,
            sk.tos,
            sk.sk_bound_dev_if,
        )
    except OSError:
        sk_dst_reset(sk)
        return None
    sk_setup_caps(sk, rt)
    return rt


def tcp_v4_send_check(sk: tcp_sock, skb: sk_buff) -> None:
    """Prepare checksum offload: store the pseudo-header sum, set csum_start and csum_offset."""
    _send_check(skb, narrow(sk.inet_saddr), narrow(sk.inet_daddr))


# --- requests -----------------------------------------------------------------------------


def tcp_v4_route_req(sk: tcp_sock, skb: sk_buff, req: request_sock) -> dst_entry | None:
    """Set a request's addresses; returns the route to its peer, None when there is none."""
    _, req.inet_daddr, _, req.inet_rcv_saddr, _ = inet_key(skb)
    opt = received_options(skb)
    if opt is not None:  # tcp_v4_save_options
        req.ireq_opt = __ip_options_echo(sk.net, skb, opt)
    req.tos = tcp_request_tos(sk, skb, sk.tos)
    return inet_csk_route_req(sk, req)


def inet_csk_route_req(sk: tcp_sock, req: request_sock) -> dst_entry | None:
    """net/ipv4/inet_connection_sock.c"""
    opt = req.ireq_opt
    fl4: flowi = flowi(
        AF_INET,
        req.inet_daddr if opt is None or not opt.srr else opt.faddr,
        req.inet_rcv_saddr,
        req.sk_bound_dev_if,
        sk.tos & 0x1C,
        IPPROTO_TCP,
        req.inet_dport,
        req.inet_num,
        inet_sk_flowi_flags(sk),
        req.sk_mark,
        ip_sock_rt_scope(sk),
    )
    try:
        return ip_route_output_flow(sk.net, fl4, sk)
    except OSError:
        sk.net.mib.ip.OutNoRoutes += 1
        return None


def tcp_v4_send_synack(
    sk: tcp_sock, dst: dst_entry | None, req: request_sock, syn_skb: sk_buff | None
) -> int:
    """Answer a request with SYN-ACK. 0 or an error."""
    if dst is None:
        dst = inet_csk_route_req(sk, req)
        if dst is None:
            return -1
    skb = tcp_make_synack(sk, dst, req)
    if skb is None:
        return -errno.ENOMEM
    _send_check(skb, narrow(req.inet_rcv_saddr), narrow(req.inet_daddr))
    err = ip_build_and_send_pkt(
        skb, sk, narrow(req.inet_rcv_saddr), narrow(req.inet_daddr), req.ireq_opt, req.tos
    )
    return 0 if err == NET_XMIT_CN else err


def tcp_v4_conn_request(sk: tcp_sock, skb: sk_buff) -> int:
    """A SYN for a listener. Borrows skb."""
    dst = skb.dst
    # Never answer a SYN that came by broadcast or multicast.
    if dst is not None and dst.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST):
        sk.net.mib.linux.ListenDrops += 1
        return 0
    return tcp_conn_request(tcp_v4_family_ops, sk, skb)


def tcp_v4_syn_recv_sock(
    sk: tcp_sock,
    skb: sk_buff,
    req: request_sock,
    dst: dst_entry | None,
    req_unhash: request_sock | None,
) -> tcp_sock | None:
    """On the handshake's last ACK create the child and hash it in place of the request.

    None: there is no room or no route, or the request is gone.
    """
    dst = tcp_syn_recv_route(sk, req, dst, inet_csk_route_req)
    if dst is None:
        return None
    newsk = tcp_syn_recv_child(sk, skb, req)
    newsk.sk_bound_dev_if = req.sk_bound_dev_if
    newsk.sk_gso_type = SKB_GSO_TCPV4
    newsk.inet_opt = req.ireq_opt
    newsk.mc_ttl = ip_hdr(skb).ttl  # for IP_PKTOPTIONS, which reports the handshake's last packet
    newsk.icsk_ext_hdr_len = 0 if req.ireq_opt is None else req.ireq_opt.optlen
    newsk.inet_id = sk.net.random.getrandbits(16)
    if sk.net.sysctl.tcp_reflect_tos:
        newsk.tos = req.tos & ~INET_ECN_MASK
    fl4: flowi = flowi(AF_INET)
    newsk.inet_fl = fl4
    fl4.daddr, fl4.saddr = req.inet_daddr, req.inet_rcv_saddr
    return tcp_syn_recv_hash(sk, newsk, dst, req_unhash)


# --- receive ------------------------------------------------------------------------------


def tcp_v4_do_rcv(sk: tcp_sock, skb: sk_buff) -> int:
    """proto.backlog_rcv: a segment for sk, see tcp_do_rcv. Takes ownership of skb."""
    tcp_do_rcv(sk, skb, tcp_v4_family_ops)
    return 0


def tcp_v4_rcv(skb: sk_buff) -> int:
    """inet_protos[IPPROTO_TCP]: a segment, data at the TCP header. Takes ownership of skb."""
    sk = tcp_rcv(skb, tcp_v4_family_ops)
    return 0 if sk is None else tcp_v4_do_rcv(sk, skb)


# --- segments without a socket --------------------------------------------------------------


def tcp_v4_csum_bad(skb: sk_buff) -> bool:
    """tcp_family_ops.csum_bad"""
    iph = ip_hdr(skb)
    return bool(
        skb_checksum_init(skb, IPPROTO_TCP, iph.saddr, iph.daddr) or skb_checksum_complete(skb)
    )


def tcp_v4_send_response(net: Net, skb: sk_buff, answer: tcp_answer) -> bool:
    """tcp_family_ops.send_response"""
    _, saddr, sport, daddr, dport = inet_key(skb)
    ip_send_unicast_reply(
        net.tcp_ctl_sk,
        skb,
        received_options(skb),
        saddr,
        daddr,
        tcp_answer_bytes(skb, answer, csum_tcpudp_magic),
        IPPROTO_TCP,
        answer.tclass,
        oif=answer.oif,
        mark=ip4_reply_mark(net, skb.mark) or answer.mark,
        sport=dport,
        dport=sport,
    )
    return True


def tcp_v4_send_reset(sk: tcp_sock | inet_timewait_sock | None, skb: sk_buff) -> None:
    """tcp_family_ops.send_reset"""
    dst = skb.dst
    if sk is None and dst is not None and getattr(dst, "rt_type", RTN_LOCAL) != RTN_LOCAL:
        return
    tcp_reply_reset(sk, skb, tcp_v4_family_ops)


tcp_v4_family_ops = tcp_family_ops(
    family=AF_INET,
    mss_clamp=TCP_MSS_DEFAULT,
    msstab=(536, 1300, 1440, 1460),
    csum_bad=tcp_v4_csum_bad,
    route_req=tcp_v4_route_req,
    send_synack=tcp_v4_send_synack,
    send_response=tcp_v4_send_response,
    send_reset=tcp_v4_send_reset,
)


# --- socket life --------------------------------------------------------------------------


def tcp_v4_init_sock(sk: tcp_sock) -> int:
    """proto.init: a fresh socket."""
    tcp_init_sock(sk)
    sk.icsk_af_ops = ipv4_specific
    return 0


def tcp_v4_early_demux(skb: sk_buff) -> None:
    """net/ipv4/tcp_ipv4.c: attach the connection and its route to a segment. Borrows skb."""
    tcp_early_demux(skb)


ipv4_specific = inet_connection_sock_af_ops(
    queue_xmit=ip_queue_xmit,
    send_check=tcp_v4_send_check,
    rebuild_header=inet_sk_rebuild_header,
    conn_request=tcp_v4_conn_request,
    syn_recv_sock=tcp_v4_syn_recv_sock,
    net_header_len=20,
    setsockopt=ip_setsockopt,
    getsockopt=ip_getsockopt,
    mtu_reduced=tcp_v4_mtu_reduced,
)


tcp_prot = tcp_proto(
    "TCP",
    connect=tcp_v4_connect,
    disconnect=tcp_disconnect,
    init=tcp_v4_init_sock,
    backlog_rcv=tcp_v4_do_rcv,
)


tcp_protocol = net_protocol(
    handler=tcp_v4_rcv,
    err_handler=tcp_v4_err,
    no_policy=True,
    icmp_strict_tag_validation=True,
    early_demux=tcp_v4_early_demux,
)


def tcp_sk_exit(net: Net) -> None:
    """net/ipv4/tcp_ipv4.c: the namespace ends: drop the remaining connections silently."""
    for sk in inet_ehash_entries(net.tcp_hashinfo):
        if sk.sk_state == tcp_states.TCP_TIME_WAIT:
            inet_twsk_deschedule_put(sk)
        elif sk.sk_state != tcp_states.TCP_NEW_SYN_RECV:
            tcp_done(sk)
    net.tcp_hashinfo.ehash.clear()
    net.tcp_hashinfo.twins.clear()
