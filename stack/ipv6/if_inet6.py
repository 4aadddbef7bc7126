"""The IPv6 side of an interface: its addresses and groups (include/net/if_inet6.h).

Data and the questions that the packet path asks of it. What changes it is in addrconf.py
(addresses) and mcast.py (groups).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stack.core.neigh_table import neigh_parms
from stack.core.rows import wide
from stack.inet.mc_filter import mc_changes, mc_filter
from stack.ipv6.addr import ipv6_prefix_equal
from stack.ipv6.devconf import ipv6_devconf
from stack.ipv6.idev_state import mld_state, nd_state

if TYPE_CHECKING:
    from stack.core.netdevice import net_device
    from stack.core.timer import timer_list
    from stack.ipv6.ip6_fib import fib6_info
    from stack.net import Net

# include/uapi/linux/if_addr.h
IFA_F_TEMPORARY = 0x01
IFA_F_NODAD = 0x02
IFA_F_OPTIMISTIC = 0x04
IFA_F_DADFAILED = 0x08
IFA_F_HOMEADDRESS = 0x10
IFA_F_DEPRECATED = 0x20
IFA_F_TENTATIVE = 0x40
IFA_F_PERMANENT = 0x80
IFA_F_MANAGETEMPADDR = 0x100
IFA_F_NOPREFIXROUTE = 0x200
IFA_F_MCAUTOJOIN = 0x400
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

INFINITY_LIFE_TIME = 0xFFFFFFFF
IPV6_MIN_MTU = 1280


class inet6_ifaddr:
    """struct inet6_ifaddr: one address. Lifetimes in seconds, time stamps in ns of the machine."""

    __slots__ = (
        "addr",
        "cstamp",
        "dad_nonce",
        "dad_probes",
        "dad_work",
        "flags",
        "idev",
        "ifpub",
        "peer_addr",
        "prefered_lft",
        "prefix_len",
        "regen_count",
        "rt",
        "rt_priority",
        "scope",
        "stable_privacy_retry",
        "state",
        "tstamp",
        "valid_lft",
    )

    def __init__(
        self, idev: inet6_dev, addr: wide, prefix_len: int, scope: int, flags: int
    ) -> None:
        self.idev = idev
        self.addr = addr
        self.prefix_len = prefix_len
        self.scope = scope
        self.flags = flags
        self.peer_addr = 0
        self.valid_lft = INFINITY_LIFE_TIME
        self.prefered_lft = INFINITY_LIFE_TIME
        self.rt_priority = 0
        self.cstamp = self.tstamp = 0
        self.state = INET6_IFADDR_STATE_PREDAD
        self.dad_probes = 0
        self.dad_nonce = b""
        self.dad_work: timer_list | None = None
        self.rt: fib6_info | None = None
        self.ifpub: inet6_ifaddr | None = None
        self.regen_count = 0
        self.stable_privacy_retry = 0


class ifmcaddr6:
    """struct ifmcaddr6: a group that the interface listens to.

    `filter` counts the listeners and their sources, `changes` are reports still to be sent;
    `timer` answers queries and repeats version 1 reports; `gsquery` are the sources that a specific
    query asked about. `loaded`: the NIC hears it.
    """

    __slots__ = (
        "changes",
        "filter",
        "gsquery",
        "idev",
        "last_reporter",
        "loaded",
        "mca_addr",
        "timer",
        "unsolicit_count",
    )

    def __init__(self, idev: inet6_dev, addr: wide) -> None:
        self.idev = idev
        self.mca_addr = addr
        self.filter = mc_filter()
        self.changes = mc_changes()
        self.gsquery: frozenset[int] = frozenset()
        self.last_reporter = False
        self.loaded = False
        self.unsolicit_count = 0
        self.timer: timer_list | None = None


class ifacaddr6:
    """struct ifacaddr6: an anycast address of the interface and its users."""

    __slots__ = ("aca_addr", "aca_idev", "aca_rt", "aca_users")

    def __init__(self, idev: inet6_dev, addr: wide, rt: fib6_info) -> None:
        self.aca_idev = idev
        self.aca_addr = addr
        self.aca_rt = rt
        self.aca_users = 1


class inet6_dev:
    """struct inet6_dev: `dev.ip6_ptr`."""

    __slots__ = (
        "ac_list",
        "addr_list",
        "cnf",
        "dead",
        "dev",
        "if_flags",
        "mc_list",
        "mld",
        "nd",
        "nd_parms",
        "net",
        "tstamp",
    )

    def __init__(self, dev: net_device, cnf: ipv6_devconf) -> None:
        self.dev = dev
        self.net: Net = dev.net
        self.cnf = cnf
        self.addr_list: list[inet6_ifaddr] = []
        self.mc_list: dict[int, ifmcaddr6] = {}
        self.ac_list: dict[int, ifacaddr6] = {}
        self.if_flags = 0
        self.dead = False
        self.nd_parms = neigh_parms()
        self.nd = nd_state()
        self.mld = mld_state(dev.net.ipv6.sysctl.mld_qrv)
        self.tstamp = 0

    def __repr__(self) -> str:
        return f"<inet6_dev {self.dev.name}>"


def ipv6_accept_ra(idev: inet6_dev) -> bool:
    """net/ipv6/ndisc.c: take router advertisements? A router does with accept_ra 2 only."""
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
    """net/ipv6/addrconf.c: our address; with `strict` (or a link-local one) that of `dev`."""
    for ifp in net.ipv6.addr_hash.get(addr, ()):
        if dev is None or ifp.idev.dev is dev:
            return ifp
        if not strict and not ifp.scope & 0x30:  # IFA_LINK | IFA_HOST
            return ifp
    return None


def ipv6_chk_addr(net: Net, addr: wide, dev: net_device | None, strict: bool) -> bool:
    """net/ipv6/addrconf.c: is it an address of ours that may be used (not tentative)?"""
    return ipv6_chk_addr_and_flags(net, addr, dev, not strict, strict, IFA_F_TENTATIVE) is not None


def ipv6_chk_addr_and_flags(
    net: Net,
    addr: wide,
    dev: net_device | None,
    skip_dev_check: bool,
    strict: bool,
    banned_flags: int,
) -> inet6_ifaddr | None:
    """net/ipv6/addrconf.c: our address without any of `banned_flags`; optimistic ones may be used.

    `skip_dev_check`: another interface's global address will do.
    """
    for ifp in net.ipv6.addr_hash.get(addr, ()):
        flags = ifp.flags
        if flags & IFA_F_TENTATIVE and flags & IFA_F_OPTIMISTIC:
            flags &= ~IFA_F_TENTATIVE
        if flags & banned_flags:
            continue
        if (
            dev is None
            or ifp.idev.dev is dev
            or (skip_dev_check and not strict and not ifp.scope & 0x30)
        ):
            return ifp
    return None


def ipv6_chk_mcast_addr(dev: net_device, group: wide, src_addr: wide = 0) -> bool:
    """net/ipv6/mcast.c: does the interface listen to `group` (from `src_addr`)?"""
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None:
        return False
    mc = idev.mc_list.get(group)
    if mc is None:
        return False
    return not src_addr or mc.filter.wants(src_addr)


def ipv6_chk_acast_addr(net: Net, dev: net_device | None, addr: wide) -> bool:
    """net/ipv6/anycast.c: is it an anycast address of `dev` (None: of any interface)?"""
    devices = (dev,) if dev is not None else net.dev_base_head
    for each in devices:
        idev: inet6_dev | None = each.ip6_ptr
        if idev is not None and addr in idev.ac_list:
            return True
    return False


def ipv6_chk_prefix(addr: wide, dev: net_device) -> bool:
    """net/ipv6/addrconf.c: is `addr` on link, by a prefix of the interface's own addresses?"""
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None:
        return False
    return any(ipv6_prefix_equal(addr, ifp.addr, ifp.prefix_len) for ifp in idev.addr_list)
