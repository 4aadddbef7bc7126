"""Source address selection: net/ipv6/addrconf.c ipv6_dev_get_saddr, RFC 6724 5.

Candidates are compared rule by rule until one decides. The first in the interface's list wins among
equal candidates.
"""

from __future__ import annotations

from stack.core.l3mdev import l3mdev_master_dev
from stack.core.netdevice import net_device
from stack.core.rows import row, state, wide
from stack.ipv6 import if_inet6
from stack.ipv6.addr import (
    IPV6_ADDR_LINKLOCAL,
    IPV6_ADDR_LOOPBACK,
    IPV6_ADDR_MAPPED,
    IPV6_ADDR_MULTICAST,
    IPV6_ADDR_SCOPE_LINKLOCAL,
    IPV6_ADDR_COMPATv4,
    ipv6_addr_diff,
    ipv6_addr_scope,
    ipv6_addr_type,
)
from stack.ipv6.if_inet6 import inet6_dev, inet6_ifaddr
from stack.net import Net

# include/uapi/linux/in6.h: IPV6_ADDR_PREFERENCES (RFC 5014)
IPV6_PREFER_SRC_TMP = 0x0001
IPV6_PREFER_SRC_PUBLIC = 0x0002
IPV6_PREFER_SRC_COA = 0x0004
IPV6_PREFER_SRC_PUBTMP_DEFAULT = 0x0100
IPV6_PREFER_SRC_HOME = 0x0400
IPV6_PREFER_SRC_CGA = 0x0008
IPV6_PREFER_SRC_NONCGA = 0x0800

RULES = 10

# net/ipv6/addrconf.c ipv6_saddr_preferred: kinds that count as preferred even when deprecated
_PREFERRED = IPV6_ADDR_MAPPED | IPV6_ADDR_COMPATv4 | IPV6_ADDR_LOOPBACK


def ipv6_use_optimistic_addr(idev: inet6_dev) -> bool:
    """net/ipv6/addrconf.c: may an optimistic address be preferred (RFC 4429 3.3)?"""
    all_ = idev.net.ipv6.devconf_all
    return bool(
        (idev.cnf.optimistic_dad or all_.optimistic_dad)
        and (idev.cnf.use_optimistic or all_.use_optimistic)
    )


def _orchid(addr: wide) -> bool:
    """include/net/ipv6.h ipv6_addr_orchid: 2001:10::/28."""
    return addr >> 100 == 0x2001001


@state
class saddr_dst:
    """struct ipv6_saddr_dst: the destination for which a source address is chosen."""

    net: Net
    dst_dev: net_device | None
    addr: wide
    prefs: int
    ifindex: int = row(of=lambda dst: dst.dst_dev.ifindex if dst.dst_dev is not None else 0)
    type: int = row(of=lambda dst: ipv6_addr_type(dst.addr))
    scope: int = row(of=lambda dst: ipv6_addr_scope(dst.addr))
    label: int = row(-1)
    """Looked up when rule 6 is asked, -1 before."""


def ipv6_get_saddr_eval(dst: saddr_dst, ifa: inet6_ifaddr, rule: int) -> int:
    """net/ipv6/addrconf.c: a candidate's score by one rule, numbered 0 to RULES - 1.

    Higher is better.
    """
    idev: inet6_dev = ifa.idev
    addr: wide = ifa.addr
    if rule == 0:  # rule 1: the same address
        return addr == dst.addr
    if rule == 1:  # rule 2: the smallest scope that reaches, else the largest
        scope: int = ipv6_addr_scope(addr)
        return -scope if scope >= dst.scope else scope - 128
    if rule == 2:  # rule 3: not deprecated (and not optimistic)
        avoid: int = if_inet6.IFA_F_DEPRECATED
        if not ipv6_use_optimistic_addr(idev):
            avoid |= if_inet6.IFA_F_OPTIMISTIC
        return not ifa.flags & avoid or bool(ipv6_addr_type(addr) & _PREFERRED)
    if rule == 3:  # rule 4: home address
        return bool(ifa.flags & if_inet6.IFA_F_HOMEADDRESS) != bool(dst.prefs & IPV6_PREFER_SRC_COA)
    if rule == 4:  # rule 5: outgoing interface
        return not dst.ifindex or dst.ifindex == idev.dev.ifindex
    if rule == 5:  # rule 6: the same label
        labels = idev.net.ipv6.addrlabel
        if dst.label < 0:
            dst.label = labels.lookup(dst.addr, dst.ifindex).label
        return bool(labels.lookup(addr, idev.dev.ifindex).label == dst.label)
    if rule == 6:  # rule 7: public or temporary
        want_temporary: bool = idev.cnf.use_tempaddr >= 2
        if dst.prefs & (IPV6_PREFER_SRC_PUBLIC | IPV6_PREFER_SRC_TMP):
            want_temporary = bool(dst.prefs & IPV6_PREFER_SRC_TMP)
        return bool(ifa.flags & if_inet6.IFA_F_TEMPORARY) == want_temporary
    if rule == 7:
        return _orchid(addr) == _orchid(dst.addr)
    if rule == 8:  # rule 8: longest matching prefix
        return min(ipv6_addr_diff(addr, dst.addr), ifa.prefix_len)
    return not ifa.flags & if_inet6.IFA_F_OPTIMISTIC


def ipv6_saddr_better(dst: saddr_dst, ifa: inet6_ifaddr, best: inet6_ifaddr) -> bool:
    """Whether the first rule with different scores prefers `ifa`."""
    rule: int = 0
    while rule < RULES:
        ours: int = ipv6_get_saddr_eval(dst, ifa, rule)
        theirs: int = ipv6_get_saddr_eval(dst, best, rule)
        if ours != theirs:
            return ours > theirs
        rule += 1
    return False


def ipv6_select_ifaddr(
    net: Net, dst_dev: net_device | None, daddr: wide, prefs: int = 0
) -> inet6_ifaddr | None:
    """net/ipv6/addrconf.c: choose our source address for `daddr`; None without a candidate.

    For a group or a link-local destination only addresses of `dst_dev` qualify (RFC 6724 4).
    """
    dst: saddr_dst = saddr_dst(net, dst_dev, daddr, prefs)
    devices: tuple[net_device, ...] | list[net_device] = net.dev_base_head
    if dst_dev is not None:
        own: inet6_dev | None = dst_dev.ip6_ptr
        if (
            dst.type & IPV6_ADDR_MULTICAST
            or dst.scope <= IPV6_ADDR_SCOPE_LINKLOCAL
            or (own is not None and own.cnf.use_oif_addrs_only)
        ):
            devices = (dst_dev,)
    master = l3mdev_master_dev(dst_dev) if dst_dev is not None else None
    if master is not None and dst_dev is not None and len(devices) > 1:
        # In a VRF the device's own addresses and the VRF's go first.
        found = ipv6_select_of(dst, (dst_dev, master), master)
        if found is not None and ipv6_addr_scope(found.addr) >= dst.scope:
            return found
    return ipv6_select_of(dst, devices, master)


def ipv6_select_of(
    dst: saddr_dst,
    devices: tuple[net_device, ...] | list[net_device],
    master: net_device | None,
) -> inet6_ifaddr | None:
    """__ipv6_dev_get_saddr: the best address of the devices that are in this VRF, or in none."""
    best: inet6_ifaddr | None = None
    for dev in devices:
        idev: inet6_dev | None = dev.ip6_ptr
        if idev is None or l3mdev_master_dev(dev) is not master:
            continue
        for ifa in idev.addr_list:
            if ifa.flags & if_inet6.IFA_F_TENTATIVE and not ifa.flags & if_inet6.IFA_F_OPTIMISTIC:
                continue
            if best is None or ipv6_saddr_better(dst, ifa, best):
                best = ifa
    return best


def ipv6_dev_get_saddr(net: Net, dst_dev: net_device | None, daddr: wide, prefs: int = 0) -> wide:
    """net/ipv6/addrconf.c: our source address for `daddr`; 0 when there is none."""
    ifa = ipv6_select_ifaddr(net, dst_dev, daddr, prefs)
    return ifa.addr if ifa is not None else 0


def ipv6_get_lladdr(dev: net_device, banned_flags: int = if_inet6.IFA_F_TENTATIVE) -> wide | None:
    """net/ipv6/addrconf.c: the newest link-local address of an interface, or None."""
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None:
        return None
    for ifp in reversed(idev.addr_list):
        if ifp.scope == IPV6_ADDR_LINKLOCAL and not ifp.flags & banned_flags:
            return ifp.addr
    return None
