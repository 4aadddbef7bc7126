"""UDP over IPv4: sending, errors, and the protocol's tables (net/ipv4/udp.c; RFC 768).

    inet_sendmsg => udp_sendmsg -> udp_lib_sendmsg (inet/udp_flow.py), which calls for this family
        udp4_family, udp4_route             can IPv4 send it, and by which route
        udp4_make_flow, udp4_flow_xmit      plain datagrams, with prebuilt headers
        udp4_make_skb, udp4_append, udp_send_skb        all others, through ip_output.py
    inet_protos: udp_v4_early_demux, udp_rcv -> udp_lib_rcv (inet/udp.py)
                 udp_err -> sk_icmp_err     an ICMP error about a datagram of ours

stack/inet has the code of both families. The functions named udp4_* are members of inet_af_ops,
where they are specified. State is udp_sock (inet/udp_hash.py) and, for one message, its udp_dest.
`udp_prot` and `udp_protocol` at the end list the functions. Read udp4_route first.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import CHECKSUM_NONE, sk_buff
from fastpath.net.hdr import icmp_hdr, iphdr_at, udp4_send_check, udphdr_at
from fastpath.net.inet import UdpFlow
from fastpath.net.inetkey import inet_err_ends, udp_rcv_usual
from stack.core import uapi
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.l3mdev import inet_sdif
from stack.core.netdevice import LL_MAX_HEADER, NETIF_F_HW_CSUM, NETIF_F_IP_CSUM
from stack.core.netfilter import NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING
from stack.core.proto import proto
from stack.core.rows import narrow
from stack.core.snmp import udp_mib
from stack.core.sock import sk_dst_check, sk_dst_set, sock_wfree
from stack.core.sock_flags import SOCK_BROADCAST, SOCK_LOCALROUTE
from stack.core.sockaddr import sockaddr
from stack.core.uapi import NUD_VALID
from stack.inet.af_ops import af_ops_of, inet_af_ops
from stack.inet.append import inet_cork_of, ip_generic_getfrag
from stack.inet.datagram import sk_icmp_err, udp_disconnect
from stack.inet.early_demux import inet_sk_rx_dst_set, sk_rx_dst_of
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_cork
from stack.inet.protocol import net_protocol
from stack.inet.udp import (
    udp_abort,
    udp_check_peer,
    udp_close,
    udp_cmsg_send,
    udp_destroy_sock,
    udp_headers,
    udp_init_sock,
    udp_ioctl,
    udp_lib_rcv,
    udp_queue_rcv_one_skb,
    udp_queue_rcv_skb,
    udp_recvmmsg,
    udp_recvmsg,
)
from stack.inet.udp_encap import udp_lib_err_encap
from stack.inet.udp_flow import UDP_HLEN, udp_lib_sendmsg, udp_sendmmsg, udp_sent
from stack.inet.udp_hash import (
    __udp_lib_lookup,
    udp_dest,
    udp_lib_get_port,
    udp_lib_lookup_skb,
    udp_lib_rehash,
    udp_lib_unhash,
    udp_sock,
)
from stack.inet.udp_sockopt import udp_getsockopt, udp_setsockopt
from stack.ipv4 import route
from stack.ipv4.addr import ipv4_is_multicast
from stack.ipv4.datagram import check_destination, ip4_datagram_connect
from stack.ipv4.icmp_codes import ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, ICMP_REDIRECT
from stack.ipv4.ip_output import (
    __ip_make_skb,
    ip_append_data,
    ip_datagram_flow,
    ip_ident_slot,
    ip_make_skb,
    ip_push_pending_frames,
    ip_select_ttl,
    ipcm_cookie,
    ipcm_init_sk,
)
from stack.ipv4.ip_sockglue import ip_cmsg_send
from stack.ipv4.route import ip_route_output_flow, ipv4_redirect, ipv4_update_pmtu, rtable
from stack.net import Net

IP_UDP_HLEN = 28


# --- sending -----------------------------------------------------------------------------


def udp_sendmsg(sk: udp_sock, msg: msghdr, length: int) -> int:
    """net/ipv4/udp.c: udp_lib_sendmsg over IPv4. Returns `length`. Raises: OSError."""
    return udp_lib_sendmsg(sk, msg, length, uapi.AF_INET)


def udp4_family(sk: udp_sock, msg: msghdr, length: int) -> int:
    """Check what IPv4 cannot send (inet_af_ops). Raises: OSError EMSGSIZE, EOPNOTSUPP."""
    if length > 0xFFFF:
        raise os_error(errno.EMSGSIZE, f"{length} bytes do not fit a UDP datagram")
    if msg.msg_flags & uapi.MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "UDP has no urgent data")
    return uapi.AF_INET


def udp4_route(sk: udp_sock, msg: msghdr, af: inet_af_ops) -> udp_dest:
    """A message's destination (inet_af_ops). Raises: OSError EINVAL, EACCES, routing errors."""
    name = msg.msg_name
    if name is not None and (name.family != uapi.AF_INET or name.sa_len):
        check_destination(name)
    udp_check_peer(sk, name)
    connected = name is None
    daddr = narrow(sk.inet_daddr if name is None else name.addr)
    ipc = ipcm_init_sk(sk)
    ipc.gso_size = sk.gso_size
    if msg.msg_control:
        ip_cmsg_send(sk, udp_cmsg_send(msg.msg_control, ipc), ipc)
        connected = False
    fl4 = ip_datagram_flow(sk, ipc, daddr, msg.msg_flags, sk.sk_protocol)
    fl4.fl_dport = sk.inet_dport if name is None else name.port
    fl4.fl_sport = sk.inet_sport
    srr = ipc.opt is not None and ipc.opt.srr
    if srr or fl4.flowi_scope or ipv4_is_multicast(daddr):
        connected = False
    rt: rtable | None = sk_dst_check(sk, 0) if connected else None
    if rt is not None:
        fl4.saddr = fl4.saddr or rt.rt_src
        return udp_dest(af, None, fl4, rt, ipc, None)
    net = sk.net
    try:
        rt = ip_route_output_flow(net, fl4, sk)
    except OSError as exc:
        if exc.errno == errno.ENETUNREACH:
            net.mib.ip.OutNoRoutes += 1
        raise
    if rt.rt_flags & route.RTCF_BROADCAST and not sk.sk_flags & SOCK_BROADCAST:
        raise os_error(errno.EACCES, "sending to a broadcast needs SO_BROADCAST")
    if connected:
        sk_dst_set(sk, rt)
    if not ipc.addr:
        ipc.addr = narrow(fl4.daddr)
    return udp_dest(af, None, fl4, rt, ipc, None)


def udp4_make_flow(sk: udp_sock, dest: udp_dest) -> UdpFlow | None:
    """The flow of plain datagrams to `dest`, None if they need the slow path (inet_af_ops)."""
    rt: rtable = dest.rt
    dev = rt.dev
    ipc: ipcm_cookie = dest.ipc
    if (
        ipc.opt is not None
        or sk.sk_flags & SOCK_LOCALROUTE
        or sk.sk_tsflags & uapi.SOF_TIMESTAMPING_TX_RECORD_MASK
        or sk.sk_no_check_tx
        or rt.rt_flags & (route.RTCF_BROADCAST | route.RTCF_MULTICAST)
        or rt.rt_pmtu
        or rt.metrics
        or rt.rt_mtu_locked
        or not dev.features & (NETIF_F_HW_CSUM | NETIF_F_IP_CSUM)
    ):
        return None
    net = sk.net
    fl4 = dest.fl
    pmtudisc = sk.pmtudisc
    return UdpFlow(
        sk,
        rt,
        sock_wfree,
        net.skb_small,
        LL_MAX_HEADER + dev.needed_headroom + IP_UDP_HLEN,
        fl4.saddr,
        fl4.daddr,
        fl4.fl_sport,
        fl4.fl_dport,
        tos=sk.tos,
        ttl=ip_select_ttl(sk, rt),
        df=pmtudisc in (uapi.IP_PMTUDISC_WANT, uapi.IP_PMTUDISC_DO, uapi.IP_PMTUDISC_PROBE),
        ignore_df=pmtudisc < uapi.IP_PMTUDISC_DO or pmtudisc == uapi.IP_PMTUDISC_OMIT,
        mark=sk.sk_mark,
        priority=sk.sk_priority,
        ident_slot=ip_ident_slot(net, narrow(fl4.daddr), narrow(fl4.saddr), uapi.IPPROTO_UDP),
        idents=net.ipv4.ip_idents,
        randrange=net.random.randrange,
        small=net.skb_small_head,
        mtu=dev.mtu,  # a change makes the route obsolete
    )


def udp4_flow_folds(sk: udp_sock, flow: UdpFlow, fl4: flowi) -> bool:
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


def udp4_flow_aim(sk: udp_sock, flow: UdpFlow, fl4: flowi) -> None:
    """Change a flow's destination port; routes do not depend on ports (inet_af_ops)."""
    flow.aim(fl4.fl_dport)


def udp4_flow_xmit(sk: udp_sock, flow: UdpFlow, skb: sk_buff, count: int) -> int:
    """The end of udp_send_skb for `count` datagrams of a flow in one sk_buff (inet_af_ops)."""
    net = sk.net
    if sk.inet_daddr:
        ident = sk.inet_id
        sk.inet_id = (ident + (skb.gso_segs or 1)) & 0xFFFF
        flow.push_ip(skb, ident)
    else:
        flow.push_ip_at(skb, net.clock.now_ns() >> 22)
    err = ip_push_pending_frames(sk, skb)
    if count > 1:
        mib, more = net.mib, count - 1
        mib.ip.OutRequests += more
        mib.ip.OutTransmits += more
        mib.ipext.OutOctets += more * IP_UDP_HLEN
        if err:
            mib.ip.OutDiscards += more
    return udp_sent(sk, err, sk.recverr, count)


def udp4_make_skb(sk: udp_sock, dest: udp_dest, msg: msghdr, size: int) -> sk_buff | None:
    """ip_make_skb of a datagram (inet_af_ops). Raises: OSError."""
    cork = inet_cork_of(sk)
    flags = msg.msg_flags
    return ip_make_skb(
        sk, dest.fl, ip_generic_getfrag, msg, size, UDP_HLEN, dest.ipc, dest.rt, cork, flags
    )


def udp4_append(sk: udp_sock, dest: udp_dest | None, msg: msghdr, size: int) -> None:
    """ip_append_data of a piece (inet_af_ops). Raises: OSError."""
    flags = msg.msg_flags
    if dest is not None:
        ip_append_data(
            sk, dest.fl, ip_generic_getfrag, msg, size, UDP_HLEN, dest.ipc, dest.rt, flags
        )
        return
    fl4 = inet_cork_of(sk).fl4
    assert fl4 is not None
    ip_append_data(sk, fl4, ip_generic_getfrag, msg, size, 0, None, None, flags)


def udp_send_skb(skb: sk_buff, fl4: flowi, cork: inet_cork) -> int:
    """net/ipv4/udp.c: UDP header and checksum (or what the NIC needs to do it), then IP.

    0 or a negative errno. Takes ownership of skb.
    """
    sk = skb.sk
    assert isinstance(sk, udp_sock)
    no_check = sk.sk_no_check_tx
    iplen = 20 + (cork.opt.optlen if cork.opt is not None else 0)
    err = udp_headers(skb, fl4, cork, iplen, no_check)
    if err:
        return err
    if no_check:
        skb.ip_summed = CHECKSUM_NONE
    else:
        udp4_send_check(skb, narrow(fl4.saddr), narrow(fl4.daddr))
    __ip_make_skb(sk, fl4, skb, cork)
    return udp_sent(sk, ip_push_pending_frames(sk, skb), sk.recverr, 1)


# --- receiving ---------------------------------------------------------------------------


def udp_rcv(skb: sk_buff) -> int:
    """net/ipv4/udp.c: handler of protocol 17. Takes ownership of skb."""
    rt: rtable = skb.dst
    net = rt.net
    many = rt.rt_flags & (route.RTCF_BROADCAST | route.RTCF_MULTICAST)
    sk: udp_sock | None = skb.sk  # type: ignore[assignment]
    if sk is not None:  # early demux
        skb.sk = None
        # An earlier packet of the list may have run code that disconnected the socket.
        if sk.udp_tuple is None or not udp_rcv_usual(skb):
            sk = None
    if not many:
        if sk is None:
            sk = udp_lib_lookup_skb(net, skb)
            if sk is not None and sk.udp_tuple is not None:
                inet_sk_rx_dst_set(sk, skb)
        if sk is not None:
            udp_queue_rcv_skb(sk, skb)
            return 0
    return udp_lib_rcv(net, skb, af_ops_of[uapi.AF_INET], bool(many))


def udp_err(skb: sk_buff, info: int) -> int:
    """net/ipv4/udp.c (__udp4_lib_err): handle an ICMP error about our datagram. Borrows skb.

    Data at the embedded IP header.
    """
    net = skb.dst.net
    iph = iphdr_at(skb, 0)
    hlen = iph.ihl * 4
    uh = udphdr_at(skb, hlen)
    dif = skb.dev.ifindex if skb.dev else 0
    sk = __udp_lib_lookup(net, inet_err_ends(skb, 0, hlen), dif, inet_sdif(skb))
    if sk is None:
        if udp_lib_err_encap(net, skb, uapi.AF_INET, hlen):
            icmph = icmp_hdr(skb)
            if icmph.type == ICMP_REDIRECT:
                ipv4_redirect(skb, net, 0, uapi.IPPROTO_UDP)
            elif icmph.type == ICMP_DEST_UNREACH and icmph.code == ICMP_FRAG_NEEDED:
                ipv4_update_pmtu(skb, net, info, 0, uapi.IPPROTO_UDP)
            return 0
        net.mib.icmp.InErrors += 1
        return -errno.ENOENT
    sk_icmp_err(sk, skb, af_ops_of[uapi.AF_INET], sk.recverr, uh.dest, hlen + UDP_HLEN, info)
    return 0


# --- socket calls ------------------------------------------------------------------------


def udp4_mib(net: Net) -> udp_mib:
    """/proc/net/snmp Udp:"""
    return net.mib.udp


def udp_connect(sk: udp_sock, uaddr: sockaddr, addr_len: int = 16) -> int:
    """net/ipv4/udp.c: ip4_datagram_connect with the sock owned inside. Raises: OSError."""
    return ip4_datagram_connect(sk, uaddr)


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
    """net/ipv4/udp.c: attach the connected socket and its route to a datagram. Borrows skb."""
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
