"""connect of datagram sockets over IPv4 (net/ipv4/datagram.c)."""

from __future__ import annotations

import errno

from stack.core.errors import os_error
from stack.core.l3mdev import l3mdev_fib_table_by_index, netif_index_is_l3_master
from stack.core.rows import narrow
from stack.core.sock import lock_sock, release_sock, sk_dst_reset, sk_dst_set
from stack.core.sock_flags import SOCK_BROADCAST
from stack.core.sockaddr import SOCKADDR_IN_LEN, need_sa_len, sockaddr
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.uapi import AF_INET, AF_UNSPEC, RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_can_nonlocal_bind, inet_sock
from stack.ipv4.addr import ipv4_is_multicast
from stack.ipv4.fib import RT_TABLE_LOCAL, inet_addr_type_table
from stack.ipv4.route import RTCF_BROADCAST, ip_route_connect


def check_sockaddr(uaddr: sockaddr) -> None:
    """An address on an IPv4 socket must be IPv4's. Raises: OSError EINVAL, EAFNOSUPPORT."""
    need_sa_len(uaddr, SOCKADDR_IN_LEN)
    if uaddr.family != AF_INET:
        raise os_error(errno.EAFNOSUPPORT, f"family {uaddr.family} on an IPv4 socket")


def check_bind_sockaddr(uaddr: sockaddr) -> None:
    """Check the address of a bind. Old programs give 0.0.0.0 the family AF_UNSPEC.

    Raises: OSError EINVAL, EAFNOSUPPORT.
    """
    if uaddr.family != AF_UNSPEC or uaddr.addr:
        check_sockaddr(uaddr)
    need_sa_len(uaddr, SOCKADDR_IN_LEN)


def inet_bind_source(sk: inet_sock, addr: int) -> int:
    """Check the address that a socket is bound to; returns the source address of its packets.

    0, the device's address, for a group or a broadcast address. Raises: OSError EADDRNOTAVAIL.
    """
    tb_id = l3mdev_fib_table_by_index(sk.net, sk.sk_bound_dev_if) or RT_TABLE_LOCAL
    kind = inet_addr_type_table(sk.net, addr, tb_id)
    if kind in (RTN_MULTICAST, RTN_BROADCAST):
        return 0
    anywhere = inet_can_nonlocal_bind(sk, sk.net.sysctl.ip_nonlocal_bind)
    if addr and kind != RTN_LOCAL and not anywhere:
        raise os_error(errno.EADDRNOTAVAIL, "not an address of this host")
    return addr


def check_destination(name: sockaddr) -> None:
    """Check the destination of a UDP or raw sendto, where AF_UNSPEC counts as AF_INET.

    Raises: OSError EINVAL, EAFNOSUPPORT.
    """
    need_sa_len(name, SOCKADDR_IN_LEN)
    if name.family != AF_INET and name.family != AF_UNSPEC:
        raise os_error(errno.EAFNOSUPPORT, f"family {name.family} on an IPv4 socket")


def __ip4_datagram_connect(sk: inet_sock, uaddr: sockaddr) -> int:
    """net/ipv4/datagram.c: fix the peer, choose route and source. Raises: OSError."""
    check_sockaddr(uaddr)
    daddr, dport = uaddr.addr, uaddr.port
    sk_dst_reset(sk)
    oif = sk.sk_bound_dev_if
    saddr = sk.inet_saddr
    if ipv4_is_multicast(daddr):
        if not oif or netif_index_is_l3_master(sk.net, oif):
            oif = sk.mc_index or oif
        if not saddr:
            saddr = sk.mc_addr
    fl4 = flowi(AF_INET)
    try:
        rt = ip_route_connect(
            fl4, daddr, narrow(saddr), oif, sk.sk_protocol, sk.inet_sport, dport, sk
        )
    except OSError as exc:
        if exc.errno == errno.ENETUNREACH:
            sk.net.mib.ip.OutNoRoutes += 1
        raise
    if rt.rt_flags & RTCF_BROADCAST and not sk.sk_flags & SOCK_BROADCAST:
        raise os_error(errno.EACCES, "connecting to a broadcast address needs SO_BROADCAST")
    if not sk.inet_saddr:
        sk.inet_saddr = fl4.saddr
    sk.inet_daddr = fl4.daddr
    sk.inet_dport = dport
    if not sk.inet_rcv_saddr:
        sk.inet_rcv_saddr = fl4.saddr
    sk.sk_state = TCP_ESTABLISHED
    if sk.sk_prot.rehash is not None:
        sk.sk_prot.rehash(sk)
    sk.inet_id = sk.net.random.getrandbits(16)
    sk_dst_set(sk, rt)
    return 0


def ip4_datagram_connect(sk: inet_sock, uaddr: sockaddr, addr_len: int = 16) -> int:
    """net/ipv4/datagram.c: connect of UDP, ping and raw. Raises: OSError."""
    lock_sock(sk)
    try:
        return __ip4_datagram_connect(sk, uaddr)
    finally:
        release_sock(sk)
