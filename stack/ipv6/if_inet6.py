"""The IPv6 side of an interface: its addresses and groups (include/net/if_inet6.h).

The data, and the lookups of the packet path. addrconf.py changes addresses, mcast.py groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stack.core.l3mdev import l3mdev_master_ifindex
from stack.core.neigh_table import neigh_parms, neigh_parms_alloc
from stack.core.netdevice import net_device
from stack.core.rows import row, state, wide
from stack.core.timer import timer_list
from stack.core.uapi import INFINITY_LIFE_TIME
from stack.inet.mc_filter import mc_group
from stack.ipv6.addr import ipv6_prefix_equal
from stack.ipv6.devconf import ipv6_devconf
from stack.ipv6.idev_state import mld_state, nd_state
from stack.net import Net

if TYPE_CHECKING:
    from stack.ipv6.ip6_fib import fib6_info

# include/uapi/linux/if_addr.h
IFA_F_TEMPORARY = 0x01
IFA_F_NODAD = 0x02
IFA_F_OPTIMISTIC = 0x04
IFA_F_DADFAILED = 0x08
IFA_F_HOMEADDRESS = 0x10
IFA_F_DEPRECATED = 0x20
IFA_F_TENTATIVE = 0x40
IFA_F_MANAGETEMPADDR = 0x100
IFA_F_NOPREFIXROUTE = 0x200
IFA_F_STABLE_PRIVACY = 0x800

# include/net/if_inet6.h: inet6_dev.if_flags
IF_RA_OTHERCONF = 0x80
IF_RA_MANAGED = 0x40
IF_RA_RCVD = 0x20
IF_RS_SENT = 0x10
IF_READY = 0x80000000

INET6_IFADDR_STATE_PREDAD = 0
INET6_IFADDR_STATE_DAD = 1
INET6_IFADDR_STATE_POSTDAD = 2
INET6_IFADDR_STATE_ERRDAD = 3
INET6_IFADDR_STATE_DEAD = 4


@state
class inet6_ifaddr:
    """struct inet6_ifaddr: one address. Lifetimes in seconds, time stamps in ns of the machine."""

    idev: inet6_dev
    addr: wide
    prefix_len: int
    scope: int
    flags: int
    peer_addr: wide = row(0)
    valid_lft: int = row(INFINITY_LIFE_TIME)
    prefered_lft: int = row(INFINITY_LIFE_TIME)
    rt_priority: int = row(0)
    cstamp: int = row(0)
    tstamp: int = row(0)
    state: int = row(INET6_IFADDR_STATE_PREDAD)
    dad_probes: int = row(0)
    dad_nonce: bytes = row(b"")
    dad_work: timer_list = row()
    rt: fib6_info | None = row()
    ifpub: inet6_ifaddr | None = row()
    regen_count: int = row(0)
    stable_privacy_retry: int = row(0)
    tokenized: bool = row(False)
    """Its lower half is the interface's token."""


@state
class ifmcaddr6(mc_group):
    """struct ifmcaddr6: a group that the interface listens to.

    `timer` answers queries and repeats version 1 reports.
    """

    idev: inet6_dev
    mca_addr: wide
    last_reporter: bool = row(False)
    timer: timer_list = row()


@state
class ifacaddr6:
    """struct ifacaddr6: an anycast address of the interface and its users."""

    aca_addr: wide
    aca_rt: fib6_info
    aca_users: int = row(1)


@state
class inet6_dev:
    """struct inet6_dev: `dev.ip6_ptr`."""

    dev: net_device
    cnf: ipv6_devconf
    net: Net = row(of=lambda idev: idev.dev.net)
    addr_list: list[inet6_ifaddr] = row(make=list)
    mc_list: dict[wide, ifmcaddr6] = row(make=dict)
    ac_list: dict[wide, ifacaddr6] = row(make=dict)
    if_flags: int = row(0)
    dead: bool = row(False)
    nd_parms: neigh_parms = row(of=lambda idev: neigh_parms_alloc(idev.dev, idev.net.ipv6.nd_tbl))
    nd: nd_state = row(make=nd_state)
    mld: mld_state = row(of=lambda idev: mld_state(idev.net.ipv6.sysctl.mld_qrv))
    tstamp: int = row(0)

    def __repr__(self) -> str:
        return f"<inet6_dev {self.dev.name}>"


def ipv6_accept_ra(idev: inet6_dev) -> bool:
    """net/ipv6/ndisc.c: whether to accept RAs; a router does only with accept_ra 2."""
    return idev.cnf.accept_ra == 2 if idev.cnf.forwarding else bool(idev.cnf.accept_ra)


def for_each_ifaddr6(net: Net) -> Iterator[inet6_ifaddr]:
    """Every IPv6 address of the namespace, by interface."""
    for dev in net.dev_base_head:
        idev: inet6_dev | None = dev.ip6_ptr
        if idev is not None:
            yield from tuple(idev.addr_list)


def ipv6_get_ifaddr(
    net: Net, addr: wide, dev: net_device | None, strict: bool
) -> inet6_ifaddr | None:
    """net/ipv6/addrconf.c: our address `addr`; a link-local one, or if `strict`, only of `dev`."""
    for ifp in net.ipv6.addr_hash.get(addr, ()):
        if dev is None or ifp.idev.dev is dev:
            return ifp
        if not strict and not ifp.scope & 0x30:  # IFA_LINK | IFA_HOST
            return ifp
    return None


def ipv6_dev_find(net: Net, addr: wide) -> net_device | None:
    """net/ipv6/addrconf.c: a device with our usable address `addr`."""
    ifp = ipv6_chk_addr_and_flags(net, addr, None, True, True, IFA_F_TENTATIVE)
    return ifp.idev.dev if ifp is not None else None


def ipv6_chk_addr(net: Net, addr: wide, dev: net_device | None, strict: bool) -> bool:
    """net/ipv6/addrconf.c: whether it is a usable (not tentative) address of ours."""
    return ipv6_chk_addr_and_flags(net, addr, dev, False, strict, IFA_F_TENTATIVE) is not None


def ipv6_chk_addr_and_flags(
    net: Net,
    addr: wide,
    dev: net_device | None,
    skip_dev_check: bool,
    strict: bool,
    banned_flags: int,
) -> inet6_ifaddr | None:
    """net/ipv6/addrconf.c: our address without any of `banned_flags`; optimistic ones may be used.

    Global addresses of the same VRF's other interfaces are accepted unless `strict`, and with
    `skip_dev_check` all of them.
    """
    l3mdev = l3mdev_master_ifindex(dev)
    for ifp in net.ipv6.addr_hash.get(addr, ()):
        if l3mdev_master_ifindex(ifp.idev.dev) != l3mdev:
            continue
        flags = ifp.flags
        if flags & IFA_F_TENTATIVE and flags & IFA_F_OPTIMISTIC:
            flags &= ~IFA_F_TENTATIVE
        if flags & banned_flags:
            continue
        if dev is None or ifp.idev.dev is dev or skip_dev_check or not (strict or ifp.scope & 0x30):
            return ifp
    return None


def ipv6_chk_mcast_addr(dev: net_device, group: wide, src_addr: wide = 0) -> bool:
    """net/ipv6/mcast.c: whether the interface listens to `group` (from `src_addr`)."""
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None:
        return False
    mc = idev.mc_list.get(group)
    if mc is None:
        return False
    return not src_addr or mc.filter.wants(src_addr)


def ipv6_chk_acast_addr(net: Net, dev: net_device | None, addr: wide) -> bool:
    """net/ipv6/anycast.c: whether it is an anycast address of `dev` (None: of any interface)."""
    devices = (dev,) if dev is not None else net.dev_base_head
    for each in devices:
        idev: inet6_dev | None = each.ip6_ptr
        if idev is not None and addr in idev.ac_list:
            return True
    return False


def ipv6_chk_prefix(addr: wide, dev: net_device) -> bool:
    """net/ipv6/addrconf.c: whether `addr` is in the prefix of one of the interface's addresses."""
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None:
        return False
    return any(ipv6_prefix_equal(addr, ifp.addr, ifp.prefix_len) for ifp in idev.addr_list)
