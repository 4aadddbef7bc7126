"""RTM_*ADDR: addresses of interfaces (net/ipv4/devinet.c, net/ipv6/addrconf.c).

RTM_NEWADDR     inet_rtm_newaddr => inet_addr_add       inet6_rtm_newaddr => inet6_addr_add
RTM_DELADDR     inet_rtm_deladdr                        inet6_rtm_deladdr
RTM_GETADDR     inet_dump_ifaddr                        inet6_dump_addr, inet6_rtm_getaddr
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from stack.core import uapi
from stack.core.netdevice import net_device
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_SEC, TICK_NS
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    INFINITY_LIFE_TIME,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTM_NEWADDR,
)
from stack.inet.addr_validator import validate_addr
from stack.ipv4.addr import ipv4_is_multicast
from stack.ipv4.devinet import (
    IFA_F_MCAUTOJOIN,
    __inet_del_ifa,
    in_device,
    in_ifaddr,
    inet_addr_add,
    inet_addr_change,
    inet_ifa_match,
)
from stack.ipv4.igmp import ip_mc_dec_group, ip_mc_inc_group
from stack.ipv6.addr import IPV6_ADDR_LINKLOCAL, IPV6_ADDR_LOOPBACK, IPV6_ADDR_SITELOCAL
from stack.ipv6.addrconf import MNGTMPADDR, inet6_addr_add, inet6_addr_del, inet6_addr_modify
from stack.ipv6.if_inet6 import (
    IFA_F_HOMEADDRESS,
    IFA_F_MANAGETEMPADDR,
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    IFA_F_OPTIMISTIC,
    inet6_dev,
    inet6_ifaddr,
    ipv6_get_ifaddr,
)
from stack.netlink.af_netlink import netlink_reply, nlmsg_part
from stack.netlink.netlink_sock import NLM_F_DUMP_FILTERED, NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import DEPRECATED_STRICT, LIBERAL, Attrs, AttrTable, NlError
from stack.netlink.rt_attrs import CACHEINFO, IFA4, IFA6, IFADDRMSG
from stack.netlink.rt_link import device_of, for_each_netdev_dump, header, nlmsg_parse, only

SETTABLE = (
    IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE | IFA_F_OPTIMISTIC
)
SITE_SCOPE = 200


# --- dumping ------------------------------------------------------------------------------------


def inet_fill_ifaddr(ifa: in_ifaddr) -> bytes:
    """net/ipv4/devinet.c: struct ifaddrmsg and attributes of an IPv4 address."""
    dev, flags = ifa.ifa_dev.dev, ifa.ifa_flags
    head = IFADDRMSG.pack(AF_INET, ifa.ifa_prefixlen, flags & 0xFF, ifa.ifa_scope, dev.ifindex)
    valid, preferred = ifa.ifa_valid_lft, ifa.ifa_preferred_lft
    if flags & uapi.IFA_F_PERMANENT:
        preferred = INFINITY_LIFE_TIME
    left = lifetimes(preferred, valid, dev.net.now() - ifa.ifa_tstamp)
    return head + IFA4.build(
        {
            "IFA_ADDRESS": ifa.ifa_address or None,
            "IFA_LOCAL": ifa.ifa_local or None,
            "IFA_BROADCAST": ifa.ifa_broadcast or None,
            "IFA_LABEL": ifa.ifa_label or None,
            "IFA_PROTO": ifa.ifa_proto or None,
            "IFA_FLAGS": flags,
            "IFA_RT_PRIORITY": ifa.ifa_rt_priority or None,
            "IFA_CACHEINFO": CACHEINFO.pack(*left, *ticks(ifa.ifa_cstamp, ifa.ifa_tstamp)),
        }
    )


def rt6_scope(scope: int) -> int:
    """net/ipv6/addrconf.c rt_scope: RT_SCOPE_* of the scope bits of an IPv6 address."""
    if scope & IPV6_ADDR_LOOPBACK:
        return uapi.RT_SCOPE_HOST
    if scope & IPV6_ADDR_LINKLOCAL:
        return uapi.RT_SCOPE_LINK
    return SITE_SCOPE if scope & IPV6_ADDR_SITELOCAL else uapi.RT_SCOPE_UNIVERSE


def ticks(*stamps: int) -> Iterator[int]:
    """Times in ns as struct ifa_cacheinfo has them."""
    return (stamp // TICK_NS & 0xFFFFFFFF for stamp in stamps)


def lifetimes(preferred: int, valid: int, age_ns: int) -> tuple[int, int]:
    """Seconds that an address is preferred and valid from now on."""
    age = age_ns // NSEC_PER_SEC
    if preferred != INFINITY_LIFE_TIME:
        preferred = max(preferred - age, 0)
    if valid != INFINITY_LIFE_TIME:
        valid = max(valid - age, 0)
    return preferred, valid


def inet6_fill_ifaddr(ifp: inet6_ifaddr) -> bytes:
    """net/ipv6/addrconf.c: struct ifaddrmsg and attributes of an IPv6 address."""
    dev, flags = ifp.idev.dev, ifp.flags
    left = lifetimes(ifp.prefered_lft, ifp.valid_lft, dev.net.now() - ifp.tstamp)
    scope = rt6_scope(ifp.scope)
    head = IFADDRMSG.pack(AF_INET6, ifp.prefix_len, flags & 0xFF, scope, dev.ifindex)
    return head + IFA6.build(
        {
            "IFA_LOCAL": ifp.addr if ifp.peer_addr else None,
            "IFA_ADDRESS": ifp.peer_addr or ifp.addr,
            "IFA_RT_PRIORITY": ifp.rt_priority or None,
            "IFA_CACHEINFO": CACHEINFO.pack(*left, *ticks(ifp.cstamp, ifp.tstamp)),
            "IFA_FLAGS": flags,
        }
    )


def refuse_busy(dev: net_device, addr: wide, family: int) -> None:
    """Refuse an address that another slave of the ipvlan has. Raises: NlError."""
    err = validate_addr(dev, addr, family)
    if err:
        raise NlError(-err, "Address already assigned to an ipvlan device")


def addr_filter(nlh: nlmsg, what: str, table: AttrTable) -> tuple[list[net_device], int]:
    """The interfaces of a dump, limited by a strict request; the answer's flags.

    Raises: NlError EINVAL, ENODEV.
    """
    if not nlh.sk.strict_chk:
        return for_each_netdev_dump(nlh), 0
    name = f"{what}: "
    values = header(nlh, IFADDRMSG, f"{name}Invalid header for address dump request")
    _, plen, flags, scope, index = values
    if plen or flags or scope:
        raise NlError(errno.EINVAL, f"{name}Invalid values in header for address dump request")
    tb = table.parse(nlh.whole, NLMSG_HDRLEN + IFADDRMSG.size, DEPRECATED_STRICT)
    if "IFA_TARGET_NETNSID" in tb:
        raise NlError(errno.EINVAL, f"{name}Invalid target network namespace id")
    only(tb, (), f"{name}Unsupported attribute in dump request")
    if not index:
        return for_each_netdev_dump(nlh), 0
    return [device_of(nlh.sk.net, index)], NLM_F_DUMP_FILTERED


def inet_dump_ifaddr(nlh: nlmsg) -> Iterator[bytes]:
    """net/ipv4/devinet.c: RTM_GETADDR of AF_INET."""
    devices, flags = addr_filter(nlh, "ipv4", IFA4)
    for dev in devices:
        in_dev: in_device | None = dev.ip_ptr
        for ifa in tuple(in_dev.ifa_list) if in_dev is not None else ():
            yield nlmsg_part(nlh, RTM_NEWADDR, inet_fill_ifaddr(ifa), flags)


def inet6_dump_addr(nlh: nlmsg) -> Iterator[bytes]:
    """net/ipv6/addrconf.c: RTM_GETADDR of AF_INET6."""
    devices, flags = addr_filter(nlh, "ipv6", IFA6)
    for dev in devices:
        idev: inet6_dev | None = dev.ip6_ptr
        for ifp in tuple(idev.addr_list) if idev is not None else ():
            yield nlmsg_part(nlh, RTM_NEWADDR, inet6_fill_ifaddr(ifp), flags)


def inet6_rtm_getaddr(nlh: nlmsg) -> None:
    """net/ipv6/addrconf.c: RTM_GETADDR of one address."""
    sk = nlh.sk
    what = "ipv6: Invalid header for get address request"
    _, plen, flags, scope, index = header(nlh, IFADDRMSG, what)
    validate = DEPRECATED_STRICT if sk.strict_chk else LIBERAL
    tb = IFA6.parse(nlh.whole, NLMSG_HDRLEN + IFADDRMSG.size, validate)
    if sk.strict_chk:
        if plen or flags or scope:
            raise NlError(errno.EINVAL, "ipv6: Invalid values in header for get address request")
        known = ("IFA_TARGET_NETNSID", "IFA_ADDRESS", "IFA_LOCAL")
        only(tb, known, "ipv6: Unsupported attribute in get address request")
    addr = own_address(tb)
    if addr is None:
        raise NlError(errno.EINVAL)
    dev = sk.net.dev_by_index.get(index) if index else None
    ifp = ipv6_get_ifaddr(sk.net, addr, dev, True)
    if ifp is None:
        raise NlError(errno.EADDRNOTAVAIL)
    netlink_reply(nlh, RTM_NEWADDR, inet6_fill_ifaddr(ifp))


# --- changing -----------------------------------------------------------------------------------


def own_address(tb: Attrs) -> int | None:
    """net/ipv6/addrconf.c extract_addr: the local address, also from IFA_ADDRESS alone."""
    addr: int | None = tb.get("IFA_LOCAL", tb.get("IFA_ADDRESS"))
    return addr


def cacheinfo(tb: Attrs, family: str) -> tuple[int, int]:
    """Preferred and valid lifetime in s. Raises: NlError EINVAL."""
    if "IFA_CACHEINFO" not in tb:
        return INFINITY_LIFE_TIME, INFINITY_LIFE_TIME
    preferred, valid, _, _ = CACHEINFO.unpack_from(tb["IFA_CACHEINFO"])
    if not valid or preferred > valid:
        raise NlError(errno.EINVAL, f"{family}: address lifetime invalid")
    return preferred, valid


def inet_rtm_newaddr(nlh: nlmsg) -> None:
    """net/ipv4/devinet.c: RTM_NEWADDR of AF_INET; with NLM_F_REPLACE change its lifetimes."""
    (_, plen, flags, scope, index), tb = nlmsg_parse(nlh, IFADDRMSG, IFA4)
    if plen > 32:
        raise NlError(errno.EINVAL, "ipv4: Invalid prefix length")
    if "IFA_LOCAL" not in tb:
        raise NlError(errno.EINVAL, "ipv4: Local address is not supplied")
    if not tb["IFA_LOCAL"]:
        return
    dev = device_of(nlh.sk.net, index, "ipv4: Device not found")
    preferred, valid = cacheinfo(tb, "ipv4")
    local, metric = tb["IFA_LOCAL"], tb.get("IFA_RT_PRIORITY", 0)
    in_dev: in_device | None = dev.ip_ptr
    for ifa in in_dev.ifa_list if in_dev is not None else ():
        apart = (ifa.ifa_address ^ tb.get("IFA_ADDRESS", local)) & ifa.ifa_mask
        if ifa.ifa_local == local and ifa.ifa_prefixlen == plen and not apart:
            if nlh.flags & NLM_F_EXCL or not nlh.flags & NLM_F_REPLACE:
                raise NlError(errno.EEXIST, "ipv4: Address already assigned")
            inet_addr_change(ifa, valid, preferred, metric, tb.get("IFA_PROTO", 0))
            return
    refuse_busy(dev, local, AF_INET)
    flags = tb.get("IFA_FLAGS", flags)
    if flags & IFA_F_MCAUTOJOIN and not ipv4_is_multicast(tb.get("IFA_ADDRESS", local)):
        raise NlError(errno.EINVAL, "ipv4: Multicast auto join failed")
    ifa = inet_addr_add(
        dev,
        local,
        plen,
        broadcast=tb.get("IFA_BROADCAST", 0),
        peer=tb.get("IFA_ADDRESS"),
        scope=scope,
        label=tb.get("IFA_LABEL", ""),
        flags=flags,
        metric=metric,
        proto=tb.get("IFA_PROTO", 0),
        valid_lft=valid,
        preferred_lft=preferred,
    )
    if flags & IFA_F_MCAUTOJOIN:
        ip_mc_inc_group(ifa.ifa_dev, ifa.ifa_address)


def inet_rtm_deladdr(nlh: nlmsg) -> None:
    """net/ipv4/devinet.c: RTM_DELADDR: the first address that matches the request."""
    (_, plen, _, _, index), tb = nlmsg_parse(nlh, IFADDRMSG, IFA4)
    dev = nlh.sk.net.dev_by_index.get(index)
    in_dev: in_device | None = dev.ip_ptr if dev is not None else None
    if dev is None or in_dev is None:
        raise NlError(errno.ENODEV, "ipv4: Device not found")
    for ifa in in_dev.ifa_list:
        if "IFA_LOCAL" in tb and ifa.ifa_local != tb["IFA_LOCAL"]:
            continue
        if "IFA_LABEL" in tb and ifa.ifa_label != tb["IFA_LABEL"]:
            continue
        match = plen == ifa.ifa_prefixlen and inet_ifa_match(tb.get("IFA_ADDRESS", 0), ifa)
        if "IFA_ADDRESS" in tb and not match:
            continue
        if ifa.ifa_flags & IFA_F_MCAUTOJOIN:
            ip_mc_dec_group(in_dev, ifa.ifa_address)
        __inet_del_ifa(in_dev, ifa)
        return
    raise NlError(errno.EADDRNOTAVAIL, "ipv4: Address not found")


def inet6_rtm_newaddr(nlh: nlmsg) -> None:
    """net/ipv6/addrconf.c: RTM_NEWADDR of AF_INET6; with NLM_F_REPLACE change its lifetimes."""
    net = nlh.sk.net
    (_, plen, flags, _, index), tb = nlmsg_parse(nlh, IFADDRMSG, IFA6)
    addr = own_address(tb)
    if addr is None:
        raise NlError(errno.EINVAL)
    preferred, valid = cacheinfo(tb, "ipv6")
    dev = device_of(net, index, "ipv6: Unable to find the interface")
    peer, metric = tb.get("IFA_ADDRESS", addr), tb.get("IFA_RT_PRIORITY", 0)
    peer = peer if peer != addr else 0
    flags = tb.get("IFA_FLAGS", flags) & SETTABLE
    idev: inet6_dev | None = dev.ip6_ptr
    conf = net.ipv6.devconf_all if idev is None else idev.cnf
    if not net.ipv6.devconf_all.optimistic_dad and not conf.optimistic_dad:
        flags &= ~IFA_F_OPTIMISTIC
    if flags & IFA_F_NODAD and flags & IFA_F_OPTIMISTIC:
        text = "ipv6: IFA_F_NODAD and IFA_F_OPTIMISTIC are mutually exclusive"
        raise NlError(errno.EINVAL, text)
    there = ipv6_get_ifaddr(net, addr, dev, True)
    if there is not None:
        if nlh.flags & NLM_F_EXCL or not nlh.flags & NLM_F_REPLACE:
            raise NlError(errno.EEXIST, "ipv6: address already assigned")
        inet6_addr_modify(there, flags, valid, preferred, peer, metric)
        return
    if plen > 128:
        raise NlError(errno.EINVAL, "ipv6: Invalid prefix length")
    if flags & IFA_F_MANAGETEMPADDR and plen != 64:
        raise NlError(errno.EINVAL, f"ipv6: {MNGTMPADDR}")
    if not addr:
        raise NlError(errno.EADDRNOTAVAIL, "ipv6: Invalid address")
    if addr >> 120 == 0xFF:
        text = 'Cannot assign multicast address without "IFA_F_MCAUTOJOIN" flag'
        raise NlError(errno.EADDRNOTAVAIL, f"ipv6: {text}")
    refuse_busy(dev, addr, AF_INET6)
    inet6_addr_add(
        dev,
        addr,
        plen,
        flags=flags,
        valid_lft=valid,
        preferred_lft=preferred,
        peer=peer,
        metric=metric,
    )


def inet6_rtm_deladdr(nlh: nlmsg) -> None:
    """net/ipv6/addrconf.c: RTM_DELADDR of AF_INET6."""
    (_, plen, _, _, index), tb = nlmsg_parse(nlh, IFADDRMSG, IFA6)
    addr = own_address(tb)
    if addr is None:
        raise NlError(errno.EINVAL)
    if plen > 128:
        raise NlError(errno.EINVAL, "ipv6: Invalid prefix length")
    dev = device_of(nlh.sk.net, index, "ipv6: Unable to find the interface")
    if dev.ip6_ptr is None:
        raise NlError(errno.ENXIO, "ipv6: IPv6 is disabled on this device")
    try:
        inet6_addr_del(dev, addr, plen)
    except OSError as exc:
        raise NlError(exc.errno or errno.EIO, "ipv6: address not found") from None
