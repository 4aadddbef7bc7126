"""Datagram sockets of AF_INET6: connect, sendmsg's flow, error queue (net/ipv6/datagram.c).

    inet_dgram_connect => ip6_datagram_connect -> __ip6_datagram_connect    peer, route, source
    udp6_route, rawv6_sendmsg, ping_v6_sendmsg -> sendmsg_flow, sendmsg_options
    sk_icmp_err => ipv6_icmp_error          an ICMPv6 error, into the error queue
    __ip6_append_data -> ipv6_local_error, ipv6_local_rxpmtu        a datagram above the path MTU
    recvmsg => ipv6_recv_error, ipv6_recv_rxpmtu        read what these queued

State is inet_sock and ipv6_pinfo (`np_of(sk)`). With a v4-mapped peer the socket uses IPv4 on the
wire (set_wire, mapped_sockaddr). Read datagram_flow, then sendmsg_flow.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import (
    consume_skb,
    sk_buff,
)
from fastpath.net.hdr import ip_hdr, ipv6_hdr, ipv6hdr_at
from fastpath.net.hdr6 import icmp6_hdr
from stack.core import uapi
from stack.core.errors import os_error
from stack.core.errqueue import (
    is_icmp_err,
    is_stamp,
    sock_exterr_skb,
    sock_next_error,
    sock_recv_errqueue,
)
from stack.core.iov import msghdr
from stack.core.l3mdev import sk_dev_equal_l3scope
from stack.core.netdevice import ETH_P_IPV6
from stack.core.rows import wide
from stack.core.sock import lock_sock, release_sock, sk_dst_reset, sk_dst_set
from stack.core.sock_flags import SOCK_BINDADDR_LOCK
from stack.core.sockaddr import SIN6_LEN_RFC2133, SOCKADDR_IN6_LEN, need_sa_len, sockaddr
from stack.core.sockopt import put_cmsg
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.uapi import AF_INET, AF_INET6, INADDR_LOOPBACK, IPV6_FLOWLABEL_MASK, SOL_IPV6
from stack.inet.af_ops import af_ops_of
from stack.inet.datagram import inet_icmp_error, inet_local_error
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_sock
from stack.ipv4.datagram import __ip4_datagram_connect
from stack.ipv6.addr import (
    IN6ADDR_LOOPBACK,
    IN6ADDR_V4MAPPED,
    ipv6_addr_is_multicast,
    ipv6_addr_set_v4mapped,
    ipv6_addr_v4mapped,
)
from stack.ipv6.ip6_append import ipcm6_cookie
from stack.ipv6.ip6_cmsg import MTUINFO, iface_scope_id, sockaddr_in6
from stack.ipv6.ip6_flowlabel import fl6_sock_lookup
from stack.ipv6.ip6_icmp import ICMPV6_DEST_UNREACH, ICMPV6_TIME_EXCEED
from stack.ipv6.pinfo import np_of
from stack.ipv6.route import ip6_dst_lookup_flow
from stack.ipv6.txoptions import fl6_update_dst


def set_wire(sk: inet_sock, family: int) -> None:
    """Set the family that the socket uses on the wire, and clear its addresses."""
    sk.sk_af = af_ops_of[family]
    sk.inet_saddr = sk.inet_rcv_saddr = sk.inet_daddr = 0


def mapped_sockaddr(sk: inet_sock, uaddr: sockaddr) -> sockaddr | None:
    """The IPv4 destination given to an AF_INET6 socket; None for an IPv6 destination.

    The unspecified address is the host itself, over IPv4 if the socket has a v4-mapped address.

    Raises: OSError EAFNOSUPPORT, ENETUNREACH (an IPV6_V6ONLY socket).
    """
    if uaddr.family == AF_INET:
        if sk.sk_ipv6only:
            raise os_error(errno.EAFNOSUPPORT, "an IPv4 address on an IPV6_V6ONLY socket")
        return uaddr
    need_sa_len(uaddr, SIN6_LEN_RFC2133)
    if uaddr.family != AF_INET6:
        raise os_error(errno.EAFNOSUPPORT, f"family {uaddr.family} on an IPv6 socket")
    if not uaddr.addr and sk.sk_af.family == AF_INET:
        return sockaddr(AF_INET, INADDR_LOOPBACK, uaddr.port)
    if not ipv6_addr_v4mapped(uaddr.addr):
        return None
    if sk.sk_ipv6only:
        raise os_error(errno.ENETUNREACH, "a v4-mapped address on an IPV6_V6ONLY socket")
    return sockaddr(AF_INET, uaddr.addr & 0xFFFFFFFF, uaddr.port)


def check_label(sk: inet_sock, label: int) -> None:
    """Check that a given flow label is leased, if any label is exclusive (RFC 3697).

    Raises: OSError EINVAL.
    """
    try:
        fl6_sock_lookup(sk, label)
    except OSError:
        raise os_error(errno.EINVAL, f"flow label {label:#x} is not the socket's") from None


def scope_of(name: sockaddr) -> int:
    """The interface in an address; 0 for one of RFC 2133, which is shorter and has none."""
    return 0 if 0 < name.sa_len < SOCKADDR_IN6_LEN else name.scope_id


def scope_device(sk: inet_sock, addr: wide, scope_id: int) -> None:
    """Bind the socket to the interface that a link-local peer is on. Raises: OSError EINVAL."""
    if not iface_scope_id(addr, 1):
        return
    if scope_id:
        if not sk_dev_equal_l3scope(sk, scope_id):
            raise os_error(errno.EINVAL, f"the socket is bound to interface {sk.sk_bound_dev_if}")
        sk.sk_bound_dev_if = scope_id
    if not sk.sk_bound_dev_if and ipv6_addr_is_multicast(addr):
        sk.sk_bound_dev_if = np_of(sk).mcast_oif
    if not sk.sk_bound_dev_if:
        raise os_error(errno.EINVAL, "a link-local address needs its interface (scope id)")


def __ip6_datagram_connect(sk: inet_sock, uaddr: sockaddr) -> int:
    """net/ipv6/datagram.c: fix the peer, choose route and source. Raises: OSError."""
    np = np_of(sk)
    v4 = mapped_sockaddr(sk, uaddr)
    if v4 is not None:
        af, saddr, rcv_saddr, daddr = sk.sk_af, sk.inet_saddr, sk.inet_rcv_saddr, sk.inet_daddr
        if af.family != AF_INET:
            set_wire(sk, AF_INET)
        try:
            return __ip4_datagram_connect(sk, v4)
        except OSError:
            if af.family != AF_INET:
                sk.sk_af, sk.inet_saddr, sk.inet_rcv_saddr = af, saddr, rcv_saddr
                sk.inet_daddr = daddr
            raise
    if sk.sk_af.family != AF_INET6:
        if sk.inet_saddr or sk.sk_flags & SOCK_BINDADDR_LOCK:
            raise os_error(errno.EAFNOSUPPORT, "the socket has a v4-mapped address")
        set_wire(sk, AF_INET6)
    sk_dst_reset(sk)
    daddr = uaddr.addr or IN6ADDR_LOOPBACK
    scope_device(sk, daddr, scope_of(uaddr))
    label = uaddr.flowinfo & IPV6_FLOWLABEL_MASK if np.sndflow else 0
    if label:
        check_label(sk, label)
    fl6 = datagram_flow(sk, daddr, sk.inet_saddr, uaddr.port, label)
    default_oif(sk, fl6)
    final = daddr
    via = fl6_update_dst(daddr, np.opt)
    if via:
        fl6.daddr = via
    rt = ip6_dst_lookup_flow(sk.net, sk, fl6, final if via else 0, np.srcprefs)
    if not sk.inet_saddr:
        sk.inet_saddr = fl6.saddr
    if not sk.inet_rcv_saddr:
        sk.inet_rcv_saddr = fl6.saddr
    sk.inet_daddr = daddr
    sk.inet_dport = uaddr.port
    np.flow_label = label
    sk.sk_state = TCP_ESTABLISHED
    if sk.sk_prot.rehash is not None:
        sk.sk_prot.rehash(sk)
    sk_dst_set(sk, rt)
    return 0


def datagram_flow(sk: inet_sock, daddr: wide, saddr: wide, dport: int, label: int) -> flowi:
    """net/ipv6/datagram.c ip6_datagram_flow_key_init: the flow to a peer."""
    np = np_of(sk)
    return flowi(
        AF_INET6,
        daddr,
        saddr,
        sk.sk_bound_dev_if or np.sticky_ifindex,
        max(np.tclass, 0),
        sk.sk_protocol,
        dport,
        sk.inet_sport,
        0,
        sk.sk_mark,
        0,
        label,
    )


def default_oif(sk: inet_sock, fl6: flowi) -> None:
    """IPV6_MULTICAST_IF, IPV6_UNICAST_IF: the interface of a flow that has none."""
    if not fl6.flowi_oif:
        np = np_of(sk)
        fl6.flowi_oif = np.mcast_oif if ipv6_addr_is_multicast(fl6.daddr) else np.ucast_oif


def sendmsg_flow(sk: inet_sock, name: sockaddr | None, dport: int) -> flowi:
    """udpv6_sendmsg, rawv6_sendmsg, ping_v6_sendmsg: the flow to `name`; None: the connected peer.

    Raises: OSError EINVAL: a flow label that is not the socket's own.
    """
    np = np_of(sk)
    daddr: wide = sk.inet_daddr
    label = np.flow_label
    scope_id = 0
    if name is not None:
        daddr = name.addr
        label = name.flowinfo & IPV6_FLOWLABEL_MASK if np.sndflow else 0
        if iface_scope_id(daddr, 1):
            scope_id = scope_of(name)
    if label:
        check_label(sk, label)
    saddr: wide = sk.inet_saddr
    if sk.sk_af.family == AF_INET:
        saddr = ipv6_addr_set_v4mapped(sk.inet_saddr)  # IPv6 has no route to it
    fl6 = datagram_flow(sk, daddr or IN6ADDR_LOOPBACK, saddr, dport, label)
    if scope_id:
        fl6.flowi_oif = scope_id
    elif sk.sk_type == uapi.SOCK_RAW:
        fl6.flowi_oif = sk.sk_bound_dev_if  # as on Linux, not the one of IPV6_PKTINFO
    return fl6


def sendmsg_options(sk: inet_sock, fl6: flowi, ipc6: ipcm6_cookie) -> wide:
    """udpv6_sendmsg, rawv6_sendmsg: set the interface, and the socket's options if the message has
    none.

    With a routing header the flow goes to its first hop, and the final destination is returned.
    Otherwise 0 is returned.
    """
    if ipc6.opt is None:
        ipc6.opt = np_of(sk).opt
    fl6.flowi_tos = max(ipc6.tclass, 0)
    final: wide = fl6.daddr
    via: wide = fl6_update_dst(final, ipc6.opt) if ipc6.opt is not None else 0
    if via:
        fl6.daddr = via
    default_oif(sk, fl6)
    return final if via else 0


def ip6_datagram_connect(sk: inet_sock, uaddr: sockaddr, addr_len: int = 28) -> int:
    """net/ipv6/datagram.c: connect of UDP, ping and raw. Raises: OSError."""
    lock_sock(sk)
    try:
        return __ip6_datagram_connect(sk, uaddr)
    finally:
        release_sock(sk)


def ip6_datagram_connect_v6_only(sk: inet_sock, uaddr: sockaddr, addr_len: int = 28) -> int:
    """net/ipv6/datagram.c: ip6_datagram_connect for ping and raw sockets: AF_INET6 only.

    Raises: OSError.
    """
    if uaddr.family != AF_INET6:
        raise os_error(errno.EAFNOSUPPORT, f"family {uaddr.family} on an IPv6 socket")
    return ip6_datagram_connect(sk, uaddr, addr_len)


# --- error queue ---------------------------------------------------------------------------


def ipv6_icmp_error(
    sk: inet_sock, skb: sk_buff, err: int, port: int, info: int, payload_off: int
) -> None:
    """net/ipv6/datagram.c: put an ICMPv6 error on the error queue, with the quoted payload.

    `skb` (borrowed): data at the embedded IPv6 header; `payload_off` = where its payload begins.
    """
    icmp6h = icmp6_hdr(skb)
    kind, code = icmp6h.icmp6_type, icmp6h.icmp6_code
    daddr = ipv6hdr_at(skb, 0).daddr
    name = sockaddr(AF_INET6, daddr, port, 0, iface_scope_id(daddr, skb.skb_iif))
    serr = sock_exterr_skb(err, uapi.SO_EE_ORIGIN_ICMP6, kind, code, info, name)
    extended = kind in (ICMPV6_DEST_UNREACH, ICMPV6_TIME_EXCEED)
    at = 4 if extended and np_of(sk).recverr_rfc4884 else 0
    inet_icmp_error(sk, skb, serr, payload_off, at, 8)


def ipv6_local_error(sk: inet_sock, err: int, fl6: flowi, info: int) -> None:
    """net/ipv6/datagram.c: queue an error of this host (a datagram above the path MTU)."""
    np = sk.pinet6
    if np is not None and np.recverr:
        scope = iface_scope_id(fl6.daddr, fl6.flowi_oif)
        name = sockaddr(AF_INET6, fl6.daddr, fl6.fl_dport, 0, scope)
        inet_local_error(sk, sock_exterr_skb(err, uapi.SO_EE_ORIGIN_LOCAL, 0, 0, info, name))


def ipv6_local_rxpmtu(sk: inet_sock, fl6: flowi, mtu: int) -> None:
    """net/ipv6/datagram.c: make the next recvmsg report the path MTU (RFC 3542 11.3)."""
    np = sk.pinet6
    if np is not None and np.rxopt.rxpmtu:
        np.rx_pmtu = fl6.daddr, iface_scope_id(fl6.daddr, fl6.flowi_oif), mtu


def ipv6_recv_rxpmtu(sk: inet_sock, msg: msghdr) -> bool:
    """net/ipv6/datagram.c: report a pending path MTU, without data; False when there is none."""
    np = np_of(sk)
    if not np.rxopt.rxpmtu or np.rx_pmtu is None:
        return False
    addr, scope, mtu = np.rx_pmtu
    np.rx_pmtu = None
    name = sockaddr(AF_INET6, addr, 0, 0, scope)
    msg.msg_name = name
    put_cmsg(msg, SOL_IPV6, uapi.IPV6_PATHMTU, MTUINFO.pack(sockaddr_in6(name), mtu))
    return True


def as_ipv6(name: sockaddr | None) -> sockaddr | None:
    """The v4-mapped address of an IPv4 one; others unchanged."""
    if name is None or name.family == AF_INET6:
        return name
    return sockaddr(AF_INET6, IN6ADDR_V4MAPPED | name.addr, name.port)


def sent_from(skb: sk_buff) -> sockaddr:
    """The source of an ICMP error, or of our packet that is returned with a time stamp."""
    if skb.protocol != ETH_P_IPV6:
        return sockaddr(AF_INET, ip_hdr(skb).saddr)
    saddr = ipv6_hdr(skb).saddr
    return sockaddr(AF_INET6, saddr, 0, 0, iface_scope_id(saddr, skb.skb_iif))


def ipv6_recv_error(sk: inet_sock, msg: msghdr, length: int) -> int:
    """net/ipv6/datagram.c: recvmsg with MSG_ERRQUEUE: the failed packet's payload and its error.

    Raises: BlockingIOError when the queue is empty.
    """
    copied, skb = sock_recv_errqueue(sk, msg, length)
    serr = skb.cb
    if isinstance(serr, sock_exterr_skb):
        msg.msg_name = as_ipv6(serr.name)
        if is_icmp_err(serr) or (skb.skb_iif and is_stamp(serr)):
            serr.offender = sent_from(skb)
            if sk.cmsg_flags:
                af_ops_of[AF_INET6].cmsg_recv(msg, sk, skb, 0, 0)
        offender = sockaddr_in6(as_ipv6(serr.offender))
        put_cmsg(msg, SOL_IPV6, uapi.IPV6_RECVERR, serr.pack() + offender)
    sock_next_error(sk, serr)
    consume_skb(skb)
    return copied
