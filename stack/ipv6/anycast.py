"""net/ipv6/anycast.c: anycast addresses of interfaces, by routers and by sockets (RFC 4291 2.6)."""

from __future__ import annotations

import errno

from stack.core import uapi
from stack.core.dev_ioctl import need_admin
from stack.core.errors import os_error
from stack.core.netdevice import IFF_LOOPBACK, IFF_UP, net_device
from stack.core.rows import wide
from stack.inet.inet_sock import inet_sock
from stack.ipv6 import ip6_fib
from stack.ipv6.addr import addrconf_addr_solict_mult
from stack.ipv6.if_inet6 import ifacaddr6, inet6_dev, ipv6_chk_addr, ipv6_chk_prefix
from stack.ipv6.ip6_fib import fib6_add_once, fib6_del, fib6_kernel_route
from stack.ipv6.mcast import ipv6_dev_mc_dec, ipv6_dev_mc_inc
from stack.ipv6.pinfo import np_of
from stack.ipv6.route import rt6_lookup_dev
from stack.net import Net


def ipv6_dev_ac_inc(idev: inet6_dev, addr: wide) -> None:
    """net/ipv6/anycast.c __ipv6_dev_ac_inc: one more user of an anycast address.

    Raises: OSError ENODEV, the interface is going away.
    """
    if idev.dead:
        raise os_error(errno.ENODEV, f"{idev.dev.name}: the interface is going away")
    aca = idev.ac_list.get(addr)
    if aca is not None:
        aca.aca_users += 1
        return
    flags = ip6_fib.RTF_NONEXTHOP | ip6_fib.RTF_ANYCAST
    local = ip6_fib.RT6_TABLE_LOCAL
    rt = fib6_kernel_route(idev.dev, local, addr, 128, uapi.RTN_ANYCAST, flags)
    idev.ac_list[addr] = ifacaddr6(addr, rt)
    fib6_add_once(idev.net, rt)
    if not idev.dev.flags & IFF_LOOPBACK:
        ipv6_dev_mc_inc(idev.dev, addrconf_addr_solict_mult(addr))


def ipv6_dev_ac_dec(idev: inet6_dev, addr: wide) -> None:
    """net/ipv6/anycast.c __ipv6_dev_ac_dec: one user fewer."""
    aca = idev.ac_list.get(addr)
    if aca is None:
        return
    aca.aca_users -= 1
    if aca.aca_users:
        return
    del idev.ac_list[addr]
    _unlink(idev, aca)


def _unlink(idev: inet6_dev, aca: ifacaddr6) -> None:
    if not idev.dev.flags & IFF_LOOPBACK:
        ipv6_dev_mc_dec(idev.dev, addrconf_addr_solict_mult(aca.aca_addr))
    rt = aca.aca_rt
    if rt in rt.fib6_table.leaf(rt.fib6_dst, rt.fib6_plen):
        fib6_del(idev.net, rt)


def ipv6_ac_destroy_dev(idev: inet6_dev) -> None:
    """net/ipv6/anycast.c: remove the anycast addresses of an interface that is removed."""
    while idev.ac_list:
        _unlink(idev, idev.ac_list.popitem()[1])


def _anycast_dev(net: Net, ifindex: int, addr: wide) -> net_device | None:
    """The interface of a membership; without an index by the route, on a router any interface."""
    if ifindex:
        return net.dev_by_index.get(ifindex)
    found = rt6_lookup_dev(net, addr)
    if found is not None:
        return found
    if not net.ipv6.devconf_all.forwarding:
        raise os_error(errno.EADDRNOTAVAIL, "no route to this address")
    for dev in net.dev_base_head:
        if dev.flags & (IFF_UP | IFF_LOOPBACK) == IFF_UP:
            return dev
    return None


def ipv6_sock_ac_join(sk: inet_sock, ifindex: int, addr: wide) -> None:
    """net/ipv6/anycast.c: IPV6_JOIN_ANYCAST.

    Raises: OSError EPERM (not an administrator), EINVAL (a unicast address of ours, a group),
    ENODEV, EADDRNOTAVAIL.
    """
    net = sk.net
    need_admin(net)
    if addr >> 120 == 0xFF or ipv6_chk_addr(net, addr, None, False):
        raise os_error(errno.EINVAL, "not an anycast address")
    dev = _anycast_dev(net, ifindex, addr)
    idev: inet6_dev | None = dev.ip6_ptr if dev is not None else None
    if dev is None:
        raise os_error(errno.ENODEV, "no interface for it")
    if idev is None:
        raise os_error(errno.ENODEV if ifindex else errno.EADDRNOTAVAIL, f"{dev.name}: no IPv6")
    # A host may join on-link addresses only; a router any.
    if not idev.cnf.forwarding and not ipv6_chk_prefix(addr, dev):
        raise os_error(errno.EADDRNOTAVAIL, f"no prefix of {dev.name} has this address")
    ipv6_dev_ac_inc(idev, addr)
    np_of(sk).ipv6_ac_list.append((addr, dev.ifindex))


def ipv6_sock_ac_drop(sk: inet_sock, ifindex: int, addr: wide) -> None:
    """net/ipv6/anycast.c: IPV6_LEAVE_ANYCAST. Raises: OSError ENOENT, not joined."""
    held = np_of(sk).ipv6_ac_list
    for item in held:
        if item[0] == addr and (not ifindex or item[1] == ifindex):
            held.remove(item)
            _drop(sk, item)
            return
    raise os_error(errno.ENOENT, "the socket has not joined this address")


def ipv6_sock_ac_close(sk: inet_sock) -> None:
    """net/ipv6/anycast.c: the socket closes."""
    held = np_of(sk).ipv6_ac_list
    while held:
        _drop(sk, held.pop())


def _drop(sk: inet_sock, item: tuple[wide, int]) -> None:
    dev = sk.net.dev_by_index.get(item[1])
    if dev is not None and dev.ip6_ptr is not None:
        ipv6_dev_ac_dec(dev.ip6_ptr, item[0])
