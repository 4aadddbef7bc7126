"""UDP over IPv6: sending, errors, the protocol's tables (net/ipv6/udp.c; RFC 768, 8200 8.1).

    inet6_sendmsg => udpv6_sendmsg -> udp_lib_sendmsg (inet/udp_flow.py), which calls for IPv6
        udp6_family, udp6_route             IPv4 or IPv6, and where to
        udp6_make_flow, udp6_flow_xmit      plain datagrams, by prebuilt headers
        udp6_make_skb, udp6_append, udp_v6_send_skb     all others, through ip6_append.py
    inet6_protos: udpv6_rcv -> udp_lib_rcv (inet/udp.py)
                  udpv6_err -> sk_icmp_err  an ICMPv6 error about a datagram of ours
    inet6_recvmsg => udpv6_recvmsg          a path MTU to report, else udp_recvmsg

stack/inet has the code of both families. The functions named udp6_* are members of inet_af_ops,
where they are specified. State is udp_sock, its ipv6_pinfo and, for one message, its udp_dest. Read
udp6_route first. Datagrams to a v4-mapped address are sent by stack/ipv4/udp.py.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import pskb_may_pull, sk_buff
from fastpath.net.hdr import ipv6_hdr, udp6_send_check, udp_hdr
from fastpath.net.inet import UdpFlow
from fastpath.net.inetkey import inet_err_ends, inet_skb_ends
from stack.core import drop_reason, uapi
from stack.core.drop_reason import kfree_skb_reason
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.l3mdev import inet_sdif
from stack.core.netdevice import LL_MAX_HEADER, NETIF_F_HW_CSUM, NETIF_F_IPV6_CSUM
from stack.core.netfilter import NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING
from stack.core.rows import replace
from stack.core.snmp import udp_mib
from stack.core.sock import sock_wfree
from stack.core.sock_flags import SOCK_LOCALROUTE
from stack.core.sockaddr import SA_FAMILY_LEN, need_sa_len
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.uapi import NUD_VALID
from stack.inet.af_ops import af_ops_of, inet_af_ops
from stack.inet.append import inet_cork_of, ip_generic_getfrag
from stack.inet.datagram import sk_icmp_err
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_cork
from stack.inet.udp import (
    udp_check_peer,
    udp_cmsg_send,
    udp_drop_short,
    udp_headers,
    udp_lib_rcv,
    udp_queue_rcv_skb,
    udp_recvmsg,
)
from stack.inet.udp_encap import udp_lib_err_encap
from stack.inet.udp_flow import UDP_HLEN, udp_lib_sendmsg, udp_sent
from stack.inet.udp_hash import __udp_lib_lookup, udp_dest, udp_lib_lookup_skb, udp_sock
from stack.ipv4.udp import udp4_family, udp_prot
from stack.ipv6.addr import ipv6_addr_is_multicast
from stack.ipv6.datagram import (
    ip6_datagram_connect,
    ipv6_recv_rxpmtu,
    mapped_sockaddr,
    sendmsg_flow,
    sendmsg_options,
)
from stack.ipv6.ip6_append import (
    __ip6_make_skb,
    ip6_append_data,
    ip6_make_skb,
    ip6_push_pending_frames,
    ip6_sk_ignore_df,
    ipcm6_cookie,
    ipcm6_init_sk,
)
from stack.ipv6.ip6_cmsg import ip6_datagram_send_ctl
from stack.ipv6.ip6_icmp import ICMPV6_PKT_TOOBIG, NDISC_REDIRECT
from stack.ipv6.ip6_output import (
    ip6_autoflowlabel,
    ip6_make_flowlabel,
    ip6_send_skb,
    ip6_sk_dst_hoplimit,
)
from stack.ipv6.pinfo import IPV6_PMTUDISC_INTERFACE, np_of
from stack.ipv6.protocol import INET6_PROTO_FINAL, INET6_PROTO_NOPOLICY, inet6_protocol
from stack.ipv6.route import ip6_dst_lookup_flow, ip6_sk_dst_lookup_flow
from stack.ipv6.route_learned import ip6_redirect, ip6_update_pmtu
from stack.ipv6.rt6_info import rt6_info
from stack.net import Net

IPV6_UDP_HLEN = 48


# --- sending -------------------------------------------------------------------------------


def udpv6_sendmsg(sk: udp_sock, msg: msghdr, length: int) -> int:
    """net/ipv6/udp.c: udp_lib_sendmsg over IPv6. Returns `length`. Raises: OSError."""
    return udp_lib_sendmsg(sk, msg, length, uapi.AF_INET6)


def udp6_family(sk: udp_sock, msg: msghdr, length: int) -> int:
    """AF_INET for a v4-mapped destination, else AF_INET6 (inet_af_ops). Raises: OSError."""
    name = msg.msg_name
    if name is not None:
        need_sa_len(name, SA_FAMILY_LEN)
        if name.family == uapi.AF_UNSPEC:
            msg.msg_name = name = None
            if sk.sk_state == TCP_ESTABLISHED and not sk.pending:
                return uapi.AF_INET6  # also to a v4-mapped peer, to which no route of IPv6 leads
    if name is None:
        if sk.sk_af.family == uapi.AF_INET or sk.pending == uapi.AF_INET:
            if not sk.pending:
                udp_check_peer(sk, None)
            family = udp4_family(sk, msg, length)
            if not sk.inet_dport and not sk.pending:
                raise os_error(errno.EINVAL, "connected to port 0 of a v4-mapped address")
            return family
        return uapi.AF_INET6
    if name.family == uapi.AF_INET and sk.sk_ipv6only:
        raise os_error(errno.ENETUNREACH, "an IPv4 address on an IPV6_V6ONLY socket")
    if name.family not in (uapi.AF_INET, uapi.AF_INET6):
        raise os_error(errno.EINVAL, f"family {name.family} on an IPv6 socket")
    v4 = mapped_sockaddr(sk, name)
    if v4 is None:
        return uapi.AF_INET6
    if sk.inet_saddr and sk.sk_af.family == uapi.AF_INET6:
        raise os_error(errno.ENETUNREACH, "the socket is bound to an IPv6 address")
    msg.msg_name = v4
    return udp4_family(sk, msg, length)


def udp6_route(sk: udp_sock, msg: msghdr, af: inet_af_ops) -> udp_dest:
    """A message's destination (inet_af_ops). Raises: OSError EINVAL, routing errors."""
    np = np_of(sk)
    name = msg.msg_name
    udp_check_peer(sk, name)
    connected = name is None
    fl6 = sendmsg_flow(sk, name, sk.inet_dport if name is None else name.port)
    ipc6 = ipcm6_init_sk(sk)
    ipc6.gso_size = sk.gso_size
    if msg.msg_control:
        ip6_datagram_send_ctl(sk, udp_cmsg_send(msg.msg_control, ipc6), fl6, ipc6)
        connected = False
    final = sendmsg_options(sk, fl6, ipc6)
    if connected and not final and not ipv6_addr_is_multicast(fl6.daddr):
        rt = ip6_sk_dst_lookup_flow(sk, fl6, np.srcprefs)
        fl6.saddr = fl6.saddr or sk.inet_saddr
    else:
        rt = ip6_dst_lookup_flow(sk.net, sk, fl6, final, np.srcprefs)
    return udp_dest(af, None, fl6, rt, ipc6, None)


def udp6_make_flow(sk: udp_sock, dest: udp_dest) -> UdpFlow | None:
    """The flow of plain datagrams to `dest`, None if they need the slow path (inet_af_ops)."""
    rt: rt6_info = dest.rt
    dev = rt.dev
    np = np_of(sk)
    fl6 = dest.fl
    ipc6: ipcm6_cookie = dest.ipc
    if (
        ipc6.opt is not None
        or sk.sk_flags & SOCK_LOCALROUTE
        or sk.sk_tsflags & uapi.SOF_TIMESTAMPING_TX_RECORD_MASK
        or ipv6_addr_is_multicast(fl6.daddr)
        or np.frag_size
        or rt.expires
        or rt.metrics
        or np.pmtudisc >= IPV6_PMTUDISC_INTERFACE
        or not dev.features & (NETIF_F_HW_CSUM | NETIF_F_IPV6_CSUM)
    ):
        return None
    net = sk.net
    return UdpFlow(
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
        family=uapi.AF_INET6,
        flowlabel=ip6_make_flowlabel(net, 0, fl6.flowlabel, ip6_autoflowlabel(net, np), fl6),
        mtu=dev.mtu,
    )


def udp6_flow_folds(sk: udp_sock, flow: UdpFlow, fl6: flowi) -> bool:
    """Whether IP treats a super-packet of the flow like its single datagrams (inet_af_ops)."""
    net = sk.net
    hooks = net.ipv6.nf_hooks
    if hooks[NF_INET_LOCAL_OUT] or hooks[NF_INET_POST_ROUTING]:
        return False
    rt: rt6_info = flow.dst
    daddr = rt.rt6i_gateway or fl6.daddr
    neigh = net.ipv6.nd_tbl.hash.get(daddr << 16 | rt.dev.ifindex)
    return neigh is not None and not neigh.dead and bool(neigh.nud_state & NUD_VALID)


def udp6_flow_aim(sk: udp_sock, flow: UdpFlow, fl6: flowi) -> None:
    """Change a flow's destination port, and the flow label with it (inet_af_ops)."""
    net = sk.net
    auto = ip6_autoflowlabel(net, np_of(sk))
    flow.aim(fl6.fl_dport, ip6_make_flowlabel(net, 0, fl6.flowlabel, auto, fl6))


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


def udp6_make_skb(sk: udp_sock, dest: udp_dest, msg: msghdr, size: int) -> sk_buff | None:
    """ip6_make_skb of a datagram (inet_af_ops). Raises: OSError."""
    cork = inet_cork_of(sk)
    flags = msg.msg_flags
    return ip6_make_skb(
        sk, ip_generic_getfrag, msg, size, UDP_HLEN, dest.ipc, dest.rt, dest.fl, flags, cork
    )


def udp6_append(sk: udp_sock, dest: udp_dest | None, msg: msghdr, size: int) -> None:
    """ip6_append_data of a piece (inet_af_ops). Raises: OSError."""
    flags = msg.msg_flags
    if dest is not None:
        ip6_append_data(
            sk, ip_generic_getfrag, msg, size, UDP_HLEN, dest.ipc, dest.fl, dest.rt, flags
        )
        return
    fl6 = inet_cork_of(sk).fl4
    assert fl6 is not None
    ip6_append_data(sk, ip_generic_getfrag, msg, size, 0, None, fl6, None, flags)


def udp_v6_send_skb(skb: sk_buff, fl6: flowi, cork: inet_cork) -> int:
    """net/ipv6/udp.c: UDP header and checksum (or what the NIC needs to do it), then IP.

    0 or a negative errno. Takes ownership of skb.
    """
    sk = skb.sk
    assert isinstance(sk, udp_sock)
    np = np_of(sk)
    opt = np.cork.opt
    iplen = 40 + (opt.tot_len if opt is not None else 0)
    # SO_NO_CHECK is IPv4's; here a datagram without checksum would be dropped (RFC 8200 8.1)
    err = udp_headers(skb, fl6, cork, iplen, False)
    if err:
        return err
    udp6_send_check(skb, fl6.saddr, fl6.daddr)
    __ip6_make_skb(sk, fl6, skb, cork)
    return udp_sent(sk, ip6_push_pending_frames(sk, skb), np.recverr, 1)


# --- receiving -----------------------------------------------------------------------------


def udpv6_rcv(skb: sk_buff) -> int:
    """net/ipv6/udp.c: handler of protocol 17. Takes ownership of skb."""
    net = skb.dev.net
    sk = udp_lib_lookup_skb(net, skb)
    if sk is not None:
        udp_queue_rcv_skb(sk, skb)
        return 0
    if not pskb_may_pull(skb, UDP_HLEN):
        return udp_drop_short(net, skb, af_ops_of[uapi.AF_INET6])
    many = ipv6_hdr(skb).daddr >> 120 == 0xFF
    uh = udp_hdr(skb)
    if not uh.check and not skb.gso_size and not udp6_encapsulated(net, skb):
        if uh.len > skb.len or 0 < uh.len < UDP_HLEN:
            return udp_drop_short(net, skb, af_ops_of[uapi.AF_INET6])
        if many:
            net.mib.udp6.IgnoredMulti += 1
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NO_SOCKET)
            return 0
        # RFC 8200 8.1: a datagram over IPv6 has a checksum.
        net.mib.udp6.InCsumErrors += 1
        return udp_drop_short(net, skb, af_ops_of[uapi.AF_INET6])
    return udp_lib_rcv(net, skb, af_ops_of[uapi.AF_INET6], many)


def udp6_encapsulated(net: Net, skb: sk_buff) -> bool:
    """Whether a datagram is for a tunnel, which may do without a checksum (RFC 6935)."""
    sk = __udp_lib_lookup(net, inet_skb_ends(skb), skb.skb_iif)
    return sk is not None and sk.encap_rcv is not None


def udpv6_err(skb: sk_buff, opt: object, kind: int, code: int, offset: int, info: int) -> int:
    """net/ipv6/udp.c: handle an ICMPv6 error about our datagram. Borrows skb.

    Data at the embedded IPv6 header, the UDP header `offset` bytes behind it.
    """
    net: Net = skb.dev.net
    ends = inet_err_ends(skb, 0, offset)
    sk = __udp_lib_lookup(net, ends, skb.skb_iif, inet_sdif(skb))
    if sk is None:
        if udp_lib_err_encap(net, skb, uapi.AF_INET6, offset):
            if kind == NDISC_REDIRECT:
                ip6_redirect(skb, net, skb.dev.ifindex)
            elif kind == ICMPV6_PKT_TOOBIG:
                ip6_update_pmtu(skb, net, info, 0)
            return 0
        net.mib.icmp6.InErrors += 1
        return -errno.ENOENT
    np = sk.pinet6
    if np is not None:
        af = af_ops_of[uapi.AF_INET6]
        sk_icmp_err(sk, skb, af, np.recverr, ends.sport, offset + UDP_HLEN, info)
    return 0


def udpv6_recvmsg(sk: udp_sock, msg: msghdr, length: int, flags: int) -> int:
    """net/ipv6/udp.c: udp_recvmsg, or the report of a pending path MTU. Raises: OSError."""
    np = sk.pinet6
    waits = np is not None and np.rx_pmtu is not None and not flags & uapi.MSG_ERRQUEUE
    if waits and ipv6_recv_rxpmtu(sk, msg):
        return 0
    return udp_recvmsg(sk, msg, length, flags)


# --- socket calls --------------------------------------------------------------------------


def udp6_mib(net: Net) -> udp_mib:
    """/proc/net/snmp6 Udp6*"""
    return net.mib.udp6


udpv6_prot = replace(
    udp_prot,
    name="UDPv6",
    memory="UDP",
    connect=ip6_datagram_connect,
    sendmsg=udpv6_sendmsg,
    recvmsg=udpv6_recvmsg,
)

udpv6_protocol = inet6_protocol(
    handler=udpv6_rcv, err_handler=udpv6_err, flags=INET6_PROTO_NOPOLICY | INET6_PROTO_FINAL
)
