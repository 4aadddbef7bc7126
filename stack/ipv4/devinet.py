"""net/ipv4/devinet.c: the IPv4 addresses of interfaces.

    device events => inetdev_event
        NETDEV_REGISTER     inetdev_init            `dev.ip_ptr`, the IPv4 side of the device
        NETDEV_UP           127.0.0.1/8 on lo; announce the addresses if sysctl arp_notify is set
        NETDEV_UNREGISTER   inetdev_destroy
    `ip addr add` -> inet_addr_add -> inet_insert_ifa       primary, or secondary of its subnet
    `ip addr del` -> inet_addr_del -> __inet_del_ifa        perhaps a secondary becomes primary
        _notify => fib_inetaddr_event       the routing table adds or removes its routes
    check_lifetime                      deprecates and removes expired addresses
    ARP -> inet_confirm_addr, inet_addr_onlink

State: an `in_device` per device holds its addresses (`ifa_list`, primaries before secondaries), its
sysctls (`cnf`) and its groups (`mc_list`, of igmp.py). An `in_ifaddr` is one address; integers are
in host order. Read inet_insert_ifa first.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from fastpath.errors import ArgumentError
from stack.core import netdevice, uapi
from stack.core.dev_notifier import register_netdevice_notifier
from stack.core.devconf import (
    ALL,
    DEFAULT,
    add_devconf,
    devconf,
    netconf_gone,
    netconf_notify,
    remove_devconf,
)
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.neigh_table import (
    neigh_parms,
    neigh_parms_alloc,
    neigh_parms_data_state_setall,
    neigh_parms_release,
)
from stack.core.net_namespace import pernet_operations
from stack.core.netdevice import NETDEV_DOWN, NETDEV_UP, net_device
from stack.core.rows import row, state
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list
from stack.core.uapi import AF_INET, INFINITY_LIFE_TIME, RTM_DELADDR, RTM_NEWADDR
from stack.inet.addr_validator import validate_addr
from stack.ipv4.addr import ipv4_is_loopback
from stack.ipv4.arp_send import arp_send_gratuitous
from stack.ipv4.devconf import CONF4_ROWS, inet_forward_change, ipv4_devconf
from stack.ipv4.netns import in_dev_conf
from stack.ipv4.rt_cache import rt_cache_flush
from stack.net import Net

if TYPE_CHECKING:
    from stack.ipv4.igmp import igmp_state
    from stack.ipv4.mc_list import ip_mc_list

IFA_F_SECONDARY = 0x01
IFA_F_DEPRECATED = 0x20
IFA_F_NOPREFIXROUTE = 0x200
IFA_F_MCAUTOJOIN = 0x400
IPV4_FLAGS = IFA_F_DEPRECATED | uapi.IFA_F_PERMANENT | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN
"""Flags that an address of IPv4 can have besides IFA_F_SECONDARY."""
IPV4_MIN_MTU = 68
ADDR_CHECK_FUZZ = NSEC_PER_SEC // 50
"""Addresses that expire this soon are processed now."""


def inet_make_mask(prefixlen: int) -> int:
    """include/linux/inetdevice.h: 24 -> 255.255.255.0 (host order)."""
    return 0xFFFFFFFF << (32 - prefixlen) & 0xFFFFFFFF


def inet_ifa_match(addr: int, ifa: in_ifaddr) -> bool:
    """include/linux/inetdevice.h: `addr` is in the subnet of `ifa`."""
    return not (addr ^ ifa.ifa_address) & ifa.ifa_mask


@state
class in_ifaddr:
    """struct in_ifaddr: one address. `ifa_address` is the peer's on point-to-point links."""

    ifa_local: int
    ifa_prefixlen: int
    ifa_label: str = ""
    ifa_dev: in_device = row()
    """Set by inet_insert_ifa."""
    ifa_address: int = row(of=lambda ifa: ifa.ifa_local)
    ifa_mask: int = row(of=lambda ifa: inet_make_mask(ifa.ifa_prefixlen))
    ifa_broadcast: int = row(0)
    ifa_flags: int = row(uapi.IFA_F_PERMANENT)
    ifa_scope: int = row(uapi.RT_SCOPE_UNIVERSE)
    ifa_rt_priority: int = row(0)
    """The metric of its prefix's route."""
    ifa_proto: int = row(0)
    """Origin of the address: IFAPROT_*, 0: unspecified."""
    ifa_valid_lft: int = row(INFINITY_LIFE_TIME)
    ifa_preferred_lft: int = row(INFINITY_LIFE_TIME)
    """Seconds from `ifa_tstamp` on until it is removed, and until it is deprecated."""
    ifa_cstamp: int = row(0)
    """When it was added, and (`ifa_tstamp`) when its lifetimes were last set, ns."""
    ifa_tstamp: int = row(0)


@state
class in_device:
    """struct in_device: the IPv4 side of an interface (`dev.ip_ptr`).

    `cnf` are its sysctls, net.ipv4.conf.DEV. igmp.py maintains `mc_list`
    (the newest group first) and `igmp`.
    """

    dev: net_device
    ifa_list: list[in_ifaddr] = row(make=list)
    cnf: ipv4_devconf = row(
        of=lambda in_dev: ipv4_devconf(in_dev.dev.name, in_dev.dev.net.sysctl.conf[DEFAULT])
    )
    mc_list: list[ip_mc_list] = row(make=list)
    igmp: igmp_state | None = row()
    arp_parms: neigh_parms = row(
        of=lambda in_dev: neigh_parms_alloc(in_dev.dev, in_dev.dev.net.arp_tbl)
    )
    dead: bool = row(False)


def register_inetaddr_notifier(net: Net, fn: Callable[[int, in_ifaddr], Any]) -> None:
    """net/ipv4/devinet.c: `fn(NETDEV_UP | NETDEV_DOWN, ifa)` for each address added or removed."""
    net.inetaddr_chain.append(fn)


def unregister_inetaddr_notifier(net: Net, fn: Callable[[int, in_ifaddr], Any]) -> None:
    """net/ipv4/devinet.c."""
    if fn in net.inetaddr_chain:
        net.inetaddr_chain.remove(fn)


def _tell(kind: int, ifa: in_ifaddr) -> None:
    net = ifa.ifa_dev.dev.net
    if net.rtnl is not None:
        net.rtnl(kind, ifa, 0)


def _notify(event: int, ifa: in_ifaddr) -> None:
    net = ifa.ifa_dev.dev.net
    _tell(RTM_NEWADDR if event == NETDEV_UP else RTM_DELADDR, ifa)
    for fn in tuple(net.inetaddr_chain):
        fn(event, ifa)


def devinet_init_net(net: Net) -> None:
    """net/ipv4/devinet.c: watch the devices."""
    net.inetaddr_chain = []
    for cnf in net.sysctl.conf.values():
        cnf.on_change(partial(devinet_conf_proc, net))
    register_netdevice_notifier(net, inetdev_event)


def devinet_exit_net(net: Net) -> None:
    """net/ipv4/devinet.c: stop the timer of address lifetimes."""
    if net.ipv4.addr_chk_timer is not None:
        timer_delete(net.ipv4.addr_chk_timer)


devinet_net_ops = pernet_operations(init=devinet_init_net, exit=devinet_exit_net)


TOLD = ("forwarding", "rp_filter", "proxy_arp", "ignore_routes_with_linkdown")
"""Settings whose changes are announced by NETLINK_ROUTE."""


def devinet_conf_proc(net: Net, conf: devconf, name: str, old: int) -> None:
    """net/ipv4/devinet.c devinet_conf_proc, devinet_sysctl_forward: apply a written setting."""
    every, default = net.sysctl.conf[ALL], net.sysctl.conf[DEFAULT]
    told: list[devconf] = [conf]
    if name != "forwarding":
        assert isinstance(conf, ipv4_devconf)
        conf.written.add(name)
        for other in tuple(net.sysctl.conf.values()) if conf is default else ():
            if other is not every and name not in other.written:
                other.store(name, getattr(conf, name))
    elif conf is every and every.forwarding != old:
        inet_forward_change(net.sysctl.conf)
        told += [other for other in net.sysctl.conf.values() if other is not every]
    if name in TOLD and getattr(conf, name) != old:
        for each in told:
            netconf_notify(net, AF_INET, each, name)
    rt_cache_flush(net)


def inetdev_init(dev: net_device) -> in_device:
    """net/ipv4/devinet.c: give the device its IPv4 side."""
    in_dev = in_device(dev)
    dev.ip_ptr = in_dev
    if dev.flags & netdevice.IFF_LOOPBACK:
        in_dev.cnf.store("disable_xfrm", 1)
        in_dev.cnf.store("disable_policy", 1)
    in_dev.cnf.on_change(partial(devinet_conf_proc, dev.net))
    add_devconf(dev.net.sysctl.conf, in_dev.cnf, dev.name)
    netconf_notify(dev.net, AF_INET, in_dev.cnf, index=dev.ifindex)
    return in_dev


def inetdev_destroy(in_dev: in_device) -> None:
    """net/ipv4/devinet.c: the device goes away: remove its addresses."""
    in_dev.dead = True
    while in_dev.ifa_list:
        __inet_del_ifa(in_dev, in_dev.ifa_list[0])
    neigh_parms_release(in_dev.dev.net.arp_tbl, in_dev.arp_parms)
    netconf_gone(in_dev.dev.net, AF_INET, in_dev.dev.ifindex)
    remove_devconf(in_dev.dev.net.sysctl.conf, in_dev.cnf)
    in_dev.dev.ip_ptr = None


def inetdev_valid_mtu(mtu: int) -> bool:
    """include/linux/inetdevice.h: IPv4 needs 68 bytes (RFC 791)."""
    return mtu >= IPV4_MIN_MTU


def inetdev_event(event: int, dev: net_device) -> None:
    """net/ipv4/devinet.c: update IPv4's state on a device event."""
    in_dev = dev.ip_ptr
    if in_dev is None:
        if event == netdevice.NETDEV_REGISTER or (
            event == netdevice.NETDEV_CHANGEMTU and inetdev_valid_mtu(dev.mtu)
        ):
            inetdev_init(dev)
        return
    if event == NETDEV_UP:
        if not inetdev_valid_mtu(dev.mtu):
            return
        if dev.flags & netdevice.IFF_LOOPBACK and not in_dev.ifa_list:
            ifa = in_ifaddr(uapi.INADDR_LOOPBACK, 8, dev.name)
            ifa.ifa_scope = uapi.RT_SCOPE_HOST
            set_ifa_lifetime(ifa, dev.net.now(), INFINITY_LIFE_TIME, INFINITY_LIFE_TIME)
            inet_insert_ifa(in_dev, ifa)
        if in_dev_conf(in_dev, "arp_notify"):
            inetdev_send_gratuitous_arp(dev, in_dev)
    elif event == netdevice.NETDEV_NOTIFY_PEERS or (
        event == netdevice.NETDEV_CHANGEADDR and in_dev_conf(in_dev, "arp_notify")
    ):
        inetdev_send_gratuitous_arp(dev, in_dev)
    elif event == netdevice.NETDEV_CHANGENAME:
        inetdev_changename(dev, in_dev)
    elif event == netdevice.NETDEV_UNREGISTER or (
        event == netdevice.NETDEV_CHANGEMTU and not inetdev_valid_mtu(dev.mtu)
    ):
        inetdev_destroy(in_dev)


def inetdev_changename(dev: net_device, in_dev: in_device) -> None:
    """net/ipv4/devinet.c: labels have the new name; all but the first keep what follows a colon."""
    for number, ifa in enumerate(in_dev.ifa_list):
        tail = ""
        if number:
            tail = (
                ifa.ifa_label[ifa.ifa_label.find(":") :]
                if ":" in ifa.ifa_label
                else f":{number + 1}"
            )
        ifa.ifa_label = dev.name[: netdevice.IFNAMSIZ - 1 - len(tail)] + tail
        _tell(RTM_NEWADDR, ifa)
    netconf_gone(dev.net, AF_INET, dev.ifindex)
    remove_devconf(dev.net.sysctl.conf, in_dev.cnf)
    add_devconf(dev.net.sysctl.conf, in_dev.cnf, dev.name)
    netconf_notify(dev.net, AF_INET, in_dev.cnf, index=dev.ifindex)


def inetdev_send_gratuitous_arp(dev: net_device, in_dev: in_device) -> None:
    """net/ipv4/devinet.c: announce every address."""
    for ifa in in_dev.ifa_list:
        arp_send_gratuitous(dev, ifa.ifa_local)


def inet_ifa_byprefix(in_dev: in_device, prefix: int, mask: int) -> in_ifaddr | None:
    """net/ipv4/devinet.c: the first address of a subnet, which is its primary."""
    for ifa in in_dev.ifa_list:
        if ifa.ifa_mask == mask and inet_ifa_match(prefix, ifa):
            return ifa
    return None


def set_ifa_lifetime(ifa: in_ifaddr, now: int, valid: int, preferred: int) -> None:
    """net/ipv4/devinet.c: lifetimes in s from `now` (ns) on, INFINITY_LIFE_TIME: for ever."""
    ifa.ifa_flags &= ~(uapi.IFA_F_PERMANENT | IFA_F_DEPRECATED)
    if valid == INFINITY_LIFE_TIME:
        ifa.ifa_flags |= uapi.IFA_F_PERMANENT
    if not preferred:
        ifa.ifa_flags |= IFA_F_DEPRECATED
    ifa.ifa_valid_lft, ifa.ifa_preferred_lft = valid, preferred
    ifa.ifa_tstamp = now
    ifa.ifa_cstamp = ifa.ifa_cstamp or now


def check_lifetime(net: Net) -> None:
    """net/ipv4/devinet.c: deprecate and remove old addresses; set the timer for the next one."""
    now = net.now()
    ends = []
    for dev in tuple(net.dev_base_head):
        in_dev: in_device | None = dev.ip_ptr
        for ifa in tuple(in_dev.ifa_list) if in_dev is not None else ():
            if ifa.ifa_flags & uapi.IFA_F_PERMANENT:
                continue
            valid = ifa.ifa_tstamp + ifa.ifa_valid_lft * NSEC_PER_SEC
            preferred = ifa.ifa_tstamp + ifa.ifa_preferred_lft * NSEC_PER_SEC
            if valid <= now + ADDR_CHECK_FUZZ:
                if ifa in ifa.ifa_dev.ifa_list:  # it was not removed together with its primary
                    __inet_del_ifa(ifa.ifa_dev, ifa)
            elif preferred > now + ADDR_CHECK_FUZZ:
                ends.append(preferred)
            else:
                ends.append(valid)
                if not ifa.ifa_flags & IFA_F_DEPRECATED:
                    ifa.ifa_flags |= IFA_F_DEPRECATED
                    _tell(RTM_NEWADDR, ifa)
    if ends:
        if net.ipv4.addr_chk_timer is None:
            work = timer_list(net.machine, check_lifetime_work, TIMER_DEFERRABLE, data=net)
            net.ipv4.addr_chk_timer = work
        mod_timer(net.ipv4.addr_chk_timer, max(min(ends), now + NSEC_PER_SEC))


def check_lifetime_work(timer: timer_list) -> None:
    """The timer of check_lifetime, created with the first address that has a lifetime."""
    check_lifetime(timer.data)


def inet_insert_ifa(in_dev: in_device, ifa: in_ifaddr) -> int:
    """net/ipv4/devinet.c: add an address; later ones of a subnet are secondary.

    Returns 0, -EEXIST, -EINVAL or the error of validate_addr.
    """
    if not ifa.ifa_local:
        return -errno.EINVAL
    net = in_dev.dev.net
    ifa.ifa_flags &= IPV4_FLAGS
    ifa.ifa_dev = in_dev
    last_primary = 0
    for index, other in enumerate(in_dev.ifa_list):
        if not other.ifa_flags & IFA_F_SECONDARY and ifa.ifa_scope <= other.ifa_scope:
            last_primary = index + 1
        if other.ifa_mask == ifa.ifa_mask and inet_ifa_match(ifa.ifa_address, other):
            if other.ifa_local == ifa.ifa_local:
                return -errno.EEXIST
            if other.ifa_scope != ifa.ifa_scope:
                return -errno.EINVAL
            ifa.ifa_flags |= IFA_F_SECONDARY
    err = validate_addr(in_dev.dev, ifa.ifa_local, AF_INET)
    if err:
        return err
    where = len(in_dev.ifa_list) if ifa.ifa_flags & IFA_F_SECONDARY else last_primary
    in_dev.ifa_list.insert(where, ifa)
    neigh_parms_data_state_setall(in_dev.arp_parms)
    in_dev.cnf.written.update(CONF4_ROWS)
    if not ifa.ifa_flags & uapi.IFA_F_PERMANENT:
        check_lifetime(net)
    _notify(NETDEV_UP, ifa)
    return 0


def __inet_del_ifa(in_dev: in_device, ifa: in_ifaddr) -> None:
    """net/ipv4/devinet.c: remove an address and the secondaries of its subnet.

    With sysctl promote_secondaries the first of them becomes primary instead, and the routes of all
    are recreated with its address as source.
    """
    net = in_dev.dev.net
    same: list[in_ifaddr] = []
    if not ifa.ifa_flags & IFA_F_SECONDARY:
        same = [
            other
            for other in in_dev.ifa_list
            if other.ifa_flags & IFA_F_SECONDARY
            and other.ifa_mask == ifa.ifa_mask
            and inet_ifa_match(ifa.ifa_address, other)
        ]
    if in_dev.dead or not in_dev_conf(in_dev, "promote_secondaries"):
        for gone in same:
            in_dev.ifa_list.remove(gone)
            _notify(NETDEV_DOWN, gone)
        same = []
    for other in same:
        net.ipv4.steps.fib_del_ifaddr(other, ifa)
    in_dev.ifa_list.remove(ifa)
    _notify(NETDEV_DOWN, ifa)
    if not same:
        return
    promote, *rest = same
    in_dev.ifa_list.remove(promote)
    wider = (
        i
        for i, other in enumerate(in_dev.ifa_list)
        if not other.ifa_flags & IFA_F_SECONDARY and ifa.ifa_scope <= other.ifa_scope
    )
    in_dev.ifa_list.insert(max(wider, default=-1) + 1, promote)
    promote.ifa_flags &= ~IFA_F_SECONDARY
    _notify(NETDEV_UP, promote)
    for other in rest:
        net.ipv4.steps.fib_add_ifaddr(other)


def parse_ifaddr(text: str) -> tuple[int, int]:
    """(address, prefix length) of "10.0.0.1/24", an address that an interface can have.

    Raises: ArgumentError (a ValueError) naming the text and the remedy.
    """
    if not isinstance(text, str) or "/" not in text:
        example = f"{text}/24" if isinstance(text, str) else "10.0.0.1/24"
        raise ArgumentError(f"address {text!r} has no prefix length; write for instance {example}")
    try:
        iface = ipaddress.IPv4Interface(text)
    except ValueError as error:
        raise ArgumentError(f"address {text!r}: {error}; write for instance 10.0.0.1/24") from None
    return int(iface.ip), iface.network.prefixlen


def inet_addr_add(
    dev: net_device,
    local: int,
    prefixlen: int,
    *,
    broadcast: int | None = None,
    peer: int | None = None,
    scope: int | None = None,
    label: str = "",
    flags: int = 0,
    metric: int = 0,
    proto: int = 0,
    valid_lft: int = INFINITY_LIFE_TIME,
    preferred_lft: int = INFINITY_LIFE_TIME,
) -> in_ifaddr:
    """net/ipv4/devinet.c inet_rtm_newaddr: `ip addr add`. Broadcast 0: none.

    `metric` is that of the subnet's route, `proto` the origin of the address (IFAPROT_*); lifetimes
    are in s. With IFA_F_NOPREFIXROUTE in `flags` no route of the subnet is added.

    Raises:
        OSError: EEXIST, EINVAL (prefix length), ENOBUFS (IPv4 is off on the interface).
    """
    if not 0 <= prefixlen <= 32:
        raise os_error(errno.EINVAL, f"prefix length {prefixlen} is not 0 to 32")
    in_dev = dev.ip_ptr
    if in_dev is None:
        raise os_error(errno.ENOBUFS, f"{dev.name}: MTU {dev.mtu} is too small for IPv4")
    ifa = in_ifaddr(local, prefixlen, label or dev.name)
    if peer is not None:
        ifa.ifa_address = peer
    if broadcast is not None:
        ifa.ifa_broadcast = broadcast
    elif prefixlen < 31 and dev.flags & netdevice.IFF_BROADCAST:
        ifa.ifa_broadcast = local | ~ifa.ifa_mask & 0xFFFFFFFF
    if scope is not None:
        ifa.ifa_scope = scope
    elif ipv4_is_loopback(local):
        ifa.ifa_scope = uapi.RT_SCOPE_HOST
    ifa.ifa_flags, ifa.ifa_rt_priority, ifa.ifa_proto = flags, metric, proto
    set_ifa_lifetime(ifa, dev.net.now(), valid_lft, preferred_lft)
    err = inet_insert_ifa(in_dev, ifa)
    if err == -errno.EINVAL and local:
        raise ExtAckError(errno.EINVAL, "ipv4: Invalid scope value")
    if err:
        raise os_error(-err, dev.name)
    return ifa


def inet_addr_change(
    ifa: in_ifaddr, valid_lft: int, preferred_lft: int, metric: int, proto: int
) -> None:
    """net/ipv4/devinet.c inet_rtm_newaddr: `ip addr change`: lifetimes in s, and the metric."""
    net = ifa.ifa_dev.dev.net
    if ifa.ifa_rt_priority != metric:
        net.ipv4.steps.fib_modify_prefix_metric(ifa, metric)
        ifa.ifa_rt_priority = metric
    ifa.ifa_proto = proto
    set_ifa_lifetime(ifa, net.now(), valid_lft, preferred_lft)
    check_lifetime(net)
    _tell(RTM_NEWADDR, ifa)


def inet_addr_del(dev: net_device, local: int, prefixlen: int) -> None:
    """net/ipv4/devinet.c inet_rtm_deladdr: `ip addr del`.

    Raises:
        OSError: EADDRNOTAVAIL.
    """
    in_dev = dev.ip_ptr
    for ifa in in_dev.ifa_list if in_dev is not None else ():
        if ifa.ifa_local == local and ifa.ifa_prefixlen == prefixlen:
            __inet_del_ifa(ifa.ifa_dev, ifa)
            return
    raise os_error(errno.EADDRNOTAVAIL, dev.name)


def localnet_scope(in_dev: in_device) -> int:
    """net/ipv4/devinet.c: the narrowest scope that counts; with route_localnet it is the link's."""
    return uapi.RT_SCOPE_LINK if in_dev_conf(in_dev, "route_localnet") else uapi.RT_SCOPE_HOST


def confirm_addr_indev(in_dev: in_device, dst: int, local: int, scope: int) -> bool:
    """net/ipv4/devinet.c: whether the interface has `local`, in a subnet that holds `dst` too.

    0 is any. `scope` is the narrowest scope that the address may have.
    """
    widest = localnet_scope(in_dev)
    has = subnet = False
    for ifa in in_dev.ifa_list:
        if local in (0, ifa.ifa_local) and min(ifa.ifa_scope, widest) <= scope:
            has = True
        if (not local or inet_ifa_match(local, ifa)) and (not dst or inet_ifa_match(dst, ifa)):
            subnet = True
    return has and subnet


def inet_confirm_addr(net: Net, in_dev: in_device | None, dst: int, local: int, scope: int) -> bool:
    """net/ipv4/devinet.c: as confirm_addr_indev, for one interface or, with None, for any."""
    if in_dev is not None:
        return confirm_addr_indev(in_dev, dst, local, scope)
    return any(
        dev.ip_ptr is not None and confirm_addr_indev(dev.ip_ptr, dst, local, scope)
        for dev in net.dev_by_index.values()
    )


def inet_addr_onlink(in_dev: in_device, a: int, b: int) -> bool:
    """net/ipv4/devinet.c: `a` (and `b` when given) are on one of the device's networks."""
    for ifa in in_dev.ifa_list:
        if not (a ^ ifa.ifa_address) & ifa.ifa_mask and (
            not b or not (b ^ ifa.ifa_address) & ifa.ifa_mask
        ):
            return True
    return False
