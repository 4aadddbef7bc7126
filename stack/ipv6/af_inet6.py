"""The IPv6 family: its sockets (net/ipv6/af_inet6.c)."""

from __future__ import annotations

import errno
from typing import Any

from stack.core import uapi
from stack.core.bsd_socket import sock_register, socket
from stack.core.errors import os_error
from stack.core.net_namespace import pernet_operations, register_pernet_subsys
from stack.core.proto import net_proto_family, proto_register
from stack.core.rows import wide
from stack.core.sock import lock_sock, release_sock
from stack.core.sock_flags import SOCK_BINDADDR_LOCK
from stack.core.sockaddr import SIN6_LEN_RFC2133, need_sa_len, sockaddr
from stack.core.tcp_states import TCP_CLOSE
from stack.inet.af_ops import inet_register_af_ops
from stack.inet.inet_common import (
    inet_bind_port,
    inet_check_peer,
    inet_check_port,
    inet_create_sock,
    inet_release,
    inet_start_sock,
)
from stack.inet.inet_ops import inet_proto_ops
from stack.inet.inet_sock import inet_sock
from stack.inet.pimreg import IPPROTO_PIM
from stack.inet.protosw import (
    INET_PROTOSW_PERMANENT,
    INET_PROTOSW_REUSE,
    inet_protosw,
    new_inetsw,
)
from stack.inet.tcp_sock import tcp_sock
from stack.ipv4.af_inet import inet_dgram_ops, inet_stream_ops
from stack.ipv4.datagram import inet_bind_source
from stack.ipv4.tcp_ipv4 import ipv4_specific, tcp_prot
from stack.ipv4.udp import udp_prot
from stack.ipv6.addr import IN6ADDR_V4MAPPED, ipv6_addr_is_multicast, ipv6_addr_v4mapped
from stack.ipv6.af_ops import ipv6_af_ops
from stack.ipv6.bind import inet6_bind_check
from stack.ipv6.datagram import ipv6_local_error, ipv6_local_rxpmtu, set_wire
from stack.ipv6.inet6_ioctl import inet6_ioctl
from stack.ipv6.ip6_cmsg import iface_scope_id
from stack.ipv6.ipv6_sockglue import ipv6_families
from stack.ipv6.pim6 import pim6_protocol
from stack.ipv6.pinfo import ipv6_pinfo, np_of
from stack.ipv6.ping import pingv6_prot
from stack.ipv6.protocol import inet6_add_protocol, inet6_register_protosw
from stack.ipv6.raw import raw6_local_deliver, rawv6_prot
from stack.ipv6.tcp_ipv6 import tcp_v6_use, tcpv6_init, tcpv6_prot
from stack.ipv6.udp import udpv6_prot, udpv6_protocol
from stack.machine import Machine
from stack.net import Net

# --- life of a socket ----------------------------------------------------------------------


def inet6_create(net: Net, sock: socket, protocol: int, kern: bool = False) -> None:
    """net/ipv6/af_inet6.c: find (type, protocol) in inetsw6 and build the sock.

    Raises: OSError EINVAL, ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM, or an error of prot->init.
    """
    sk = inet_create_sock(net, sock, uapi.PF_INET6, net.ipv6.inetsw6, protocol, kern)
    sysctl = net.ipv6.sysctl
    sk.pinet6 = ipv6_pinfo(repflow=bool(sysctl.flowlabel_reflect & 1))
    sk.sk_ipv6only = bool(sysctl.bindv6only)
    sk.mc_all = False  # IP_MULTICAST_ALL: of IPv4's groups it receives only those it joined
    inet_start_sock(sock, sk)


def inet6_bind(sock: socket, uaddr: sockaddr, addr_len: int = 28) -> int:
    """net/ipv6/af_inet6.c: local address and port. Raises: OSError."""
    sk: inet_sock = sock.sk
    if sk.sk_prot.bind is not None:
        return sk.sk_prot.bind(sk, uaddr, addr_len)
    return __inet6_bind(sk, uaddr)


def __inet6_bind(sk: inet_sock, uaddr: sockaddr) -> int:
    """net/ipv6/af_inet6.c. Raises: OSError EAFNOSUPPORT, EADDRNOTAVAIL, EACCES, EINVAL, EADDRINUSE.

    Bound to a v4-mapped address the socket uses IPv4; bound to another one but ::, only IPv6.
    """
    net = sk.net
    need_sa_len(uaddr, SIN6_LEN_RFC2133)
    if uaddr.family != uapi.AF_INET6:
        raise os_error(errno.EAFNOSUPPORT, f"family {uaddr.family} on an IPv6 socket")
    addr, snum = uaddr.addr, uaddr.port
    mapped = ipv6_addr_v4mapped(addr)
    multicast = ipv6_addr_is_multicast(addr)
    if multicast and sk.sk_type == uapi.SOCK_STREAM:
        raise os_error(errno.EINVAL, "a stream is bound to no group")
    inet_check_port(net, snum)
    lock_sock(sk)
    try:
        if sk.sk_state != TCP_CLOSE or sk.inet_num:
            raise os_error(errno.EINVAL, "the socket is bound or connected")
        if mapped:
            if sk.sk_ipv6only:
                raise os_error(errno.EINVAL, "a v4-mapped address on an IPV6_V6ONLY socket")
            addr &= 0xFFFFFFFF
            source = inet_bind_source(sk, addr)
            set_wire(sk, uapi.AF_INET)
        else:
            inet6_bind_check(sk, addr, uaddr.scope_id)
            source = 0 if multicast else addr
            if sk.sk_af.family == uapi.AF_INET:  # a connection to a v4-mapped address failed
                set_wire(sk, uapi.AF_INET6)
                if isinstance(sk, tcp_sock):
                    tcp_v6_use(sk)
        before = sk.sk_ipv6only
        if addr and not mapped:
            sk.sk_ipv6only = True  # so that it does not conflict with IPv4 sockets
        try:
            inet_bind_port(sk, addr, source, snum)
        except OSError:
            sk.sk_ipv6only = before
            if mapped:
                set_wire(sk, uapi.AF_INET6)
            raise
        if addr or mapped:
            sk.sk_flags |= SOCK_BINDADDR_LOCK
        return 0
    finally:
        release_sock(sk)


def inet6_name(sk: inet_sock, addr: wide, port: int, flowinfo: int = 0) -> sockaddr:
    """The sockaddr_in6 that an AF_INET6 socket reports for `addr`, which may be an IPv4 address."""
    if sk.sk_af.family == uapi.AF_INET:
        return sockaddr(uapi.AF_INET6, IN6ADDR_V4MAPPED | addr, port)
    return sockaddr(uapi.AF_INET6, addr, port, flowinfo, iface_scope_id(addr, sk.sk_bound_dev_if))


def inet6_getname(sock: socket, uaddr: Any, addr_len: int, peer: int) -> sockaddr:
    """net/ipv6/af_inet6.c: the local address (`peer` 0) or the peer's (1; 2: even when closed).

    Raises: OSError ENOTCONN.
    """
    sk: inet_sock = sock.sk
    if peer:
        inet_check_peer(sk, peer)
        np = np_of(sk)
        return inet6_name(sk, sk.inet_daddr, sk.inet_dport, np.flow_label if np.sndflow else 0)
    addr = sk.inet_rcv_saddr or sk.inet_saddr
    if not addr and not sk.sk_flags & SOCK_BINDADDR_LOCK:
        return sockaddr(uapi.AF_INET6, 0, sk.inet_sport)
    return inet6_name(sk, addr, sk.inet_sport)


def inet6_release(sock: socket) -> int:
    """net/ipv6/af_inet6.c: inet_release, which drops groups and flow labels of both families."""
    return inet_release(sock)


# --- tables --------------------------------------------------------------------------------


inet6_stream_ops, inet6_dgram_ops, inet6_sockraw_ops = inet_proto_ops(
    uapi.PF_INET6, inet6_release, inet6_bind, inet6_getname, inet6_ioctl, inet6_ioctl
)

inet6_family_ops = net_proto_family(family=uapi.PF_INET6, create=inet6_create)

tcpv6_protosw = inet_protosw(
    uapi.SOCK_STREAM,
    uapi.IPPROTO_TCP,
    tcpv6_prot,
    inet6_stream_ops,
    INET_PROTOSW_PERMANENT,
)
inetsw6_array = (
    inet_protosw(
        uapi.SOCK_DGRAM, uapi.IPPROTO_UDP, udpv6_prot, inet6_dgram_ops, INET_PROTOSW_PERMANENT
    ),
    inet_protosw(
        uapi.SOCK_DGRAM, uapi.IPPROTO_ICMPV6, pingv6_prot, inet6_sockraw_ops, INET_PROTOSW_REUSE
    ),
    inet_protosw(uapi.SOCK_RAW, uapi.IPPROTO_IP, rawv6_prot, inet6_sockraw_ops, INET_PROTOSW_REUSE),
)


def inet6_net_init(net: Net) -> None:
    """net/ipv6/af_inet6.c: set up the sockets of a namespace, after its network layer."""
    ipv6 = net.ipv6
    ipv6.inetsw6 = new_inetsw()
    for prot in (tcpv6_prot, udpv6_prot, rawv6_prot, pingv6_prot):
        proto_register(net, prot)
    sock_register(net, inet6_family_ops)
    for row in inetsw6_array:
        inet6_register_protosw(net, row)
    inet6_add_protocol(net, udpv6_protocol, uapi.IPPROTO_UDP)
    inet6_add_protocol(net, pim6_protocol, IPPROTO_PIM)
    tcpv6_init(net, tcpv6_protosw)
    slots = ipv6.sockets
    slots.raw6_local_deliver = raw6_local_deliver
    slots.local_error = ipv6_local_error
    slots.local_rxpmtu = ipv6_local_rxpmtu


def inet6_init(machine: Machine) -> None:
    """net/ipv6/af_inet6.c: AF_INET6 sockets on a machine, in each of its namespaces."""
    inet_register_af_ops(ipv6_af_ops)
    ipv6_families[uapi.IPPROTO_UDP] = udp_prot, inet_dgram_ops, None
    ipv6_families[uapi.IPPROTO_TCP] = tcp_prot, inet_stream_ops, ipv4_specific
    register_pernet_subsys(machine, pernet_operations(init=inet6_net_init))
