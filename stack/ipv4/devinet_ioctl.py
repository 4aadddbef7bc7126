"""Addresses of interfaces by ioctl(2) (net/ipv4/devinet.c): SIOCGIFADDR and similar."""

from __future__ import annotations

import errno
import os
import struct

from stack.core import dev_ioctl
from stack.core.dev import dev_change_flags
from stack.core.dev_ioctl import ifr_dev, ifr_family, ifr_name, need_admin, register_gifconf
from stack.core.errors import check, os_error
from stack.core.netdevice import IFF_BROADCAST, IFF_POINTOPOINT, IFF_UP, IFNAMSIZ, net_device
from stack.core.uapi import AF_INET
from stack.ipv4.devinet import (
    __inet_del_ifa,
    in_device,
    in_ifaddr,
    inet_addr_add,
    inet_insert_ifa,
    inet_make_mask,
)
from stack.net import Net

ADDR_AT = IFNAMSIZ + 4  # sin_addr: behind sin_family and sin_port
ALL = 0xFFFFFFFF

GETTING = {
    dev_ioctl.SIOCGIFADDR: "ifa_local",
    dev_ioctl.SIOCGIFBRDADDR: "ifa_broadcast",
    dev_ioctl.SIOCGIFDSTADDR: "ifa_address",
    dev_ioctl.SIOCGIFNETMASK: "ifa_mask",
}
SETTING = (
    dev_ioctl.SIOCSIFADDR,
    dev_ioctl.SIOCSIFBRDADDR,
    dev_ioctl.SIOCSIFDSTADDR,
    dev_ioctl.SIOCSIFNETMASK,
)


def inet_abc_len(addr: int) -> int:
    """net/ipv4/devinet.c: the prefix length of an address's class; -1 for groups."""
    if not addr or addr == ALL:
        return 0
    if not addr >> 31:
        return 8
    if addr >> 30 == 2:
        return 16
    if addr >> 29 == 6:
        return 24
    return 32 if addr >> 28 == 15 else -1


def bad_mask(mask: int, addr: int) -> bool:
    """include/linux/inetdevice.h: not ones followed by zeros, or `addr` has bits outside it."""
    host = ~mask & ALL
    return bool(addr & host or host & (host + 1))


def inet_mask_len(mask: int) -> int:
    """include/linux/inetdevice.h: the prefix length of a mask."""
    return mask.bit_count()


def ifr_addr(ifr: bytearray) -> int:
    """sin_addr, in host order."""
    return int.from_bytes(ifr[ADDR_AT : ADDR_AT + 4], "big")


def ifreq_of(label: bytes, addr: int) -> bytearray:
    """struct ifreq of a name and an address."""
    ifr = bytearray(dev_ioctl.IFREQ_BYTES)
    ifr[: len(label)] = label
    struct.pack_into("=H", ifr, IFNAMSIZ, AF_INET)
    ifr[ADDR_AT : ADDR_AT + 4] = addr.to_bytes(4, "big")
    return ifr


def inet_gifconf(dev: net_device, room: int | None) -> list[bytes]:
    """net/ipv4/devinet.c: a struct ifreq of each address, as many as `room` bytes hold."""
    in_dev: in_device | None = dev.ip_ptr
    if in_dev is None:
        return []
    most = len(in_dev.ifa_list) if room is None else max(room, 0) // dev_ioctl.IFREQ_BYTES
    return [
        bytes(ifreq_of(os.fsencode(ifa.ifa_label), ifa.ifa_local)) for ifa in in_dev.ifa_list[:most]
    ]


register_gifconf(AF_INET, inet_gifconf)


def devinet_ioctl(net: Net, cmd: int, ifr: bytearray) -> None:
    """net/ipv4/devinet.c: read or change an address, its mask, broadcast or peer address, or flags.

    The name may be an address's label ("eth0:1"). If several addresses have the label, a read uses
    the one that `ifr` holds; else the first is used.
    Raises: OSError ENODEV, EADDRNOTAVAIL, EINVAL, EPERM ...
    """
    label = os.fsdecode(ifr_name(ifr))
    family, wanted = ifr_family(ifr), ifr_addr(ifr)
    if cmd == dev_ioctl.SIOCSIFFLAGS:
        need_admin(net)
    elif cmd in SETTING:
        need_admin(net)
        if family != AF_INET:
            raise os_error(errno.EINVAL, f"sa_family is {family}, not AF_INET")
    elif cmd not in GETTING:
        raise os_error(errno.EINVAL, f"request {cmd:#x} is none of IPv4's")
    dev = ifr_dev(net, ifr)
    in_dev: in_device | None = dev.ip_ptr
    labelled = [ifa for ifa in in_dev.ifa_list if ifa.ifa_label == label] if in_dev else []
    ifa = labelled[0] if labelled else None
    if cmd in GETTING and family == AF_INET:
        ifa = next((one for one in labelled if one.ifa_local == wanted), ifa)
    if ifa is None and cmd not in (dev_ioctl.SIOCSIFADDR, dev_ioctl.SIOCSIFFLAGS):
        raise os_error(errno.EADDRNOTAVAIL, f"{label} has no IPv4 address")
    if cmd == dev_ioctl.SIOCSIFFLAGS:
        devinet_set_flags(dev, ifa, ":" in label, family)
    elif cmd == dev_ioctl.SIOCSIFADDR:
        inet_set_addr(dev, ifa, label, wanted)
    elif ifa is not None and cmd in SETTING:
        devinet_change(ifa, cmd, wanted)
    elif ifa is not None:
        value = getattr(ifa, GETTING[cmd])
        ifr[IFNAMSIZ : IFNAMSIZ + 16] = ifreq_of(b"", value)[IFNAMSIZ : IFNAMSIZ + 16]


def devinet_set_flags(dev: net_device, ifa: in_ifaddr | None, alias: bool, flags: int) -> None:
    """SIOCSIFFLAGS: set the interface's flags. An alias ("eth0:1") taken down loses its address."""
    if not alias:
        check(dev_change_flags(dev, flags), dev.name)
    elif ifa is None:
        raise os_error(errno.EADDRNOTAVAIL, f"{dev.name} has no such label")
    elif not flags & IFF_UP:
        __inet_del_ifa(ifa.ifa_dev, ifa)


def inet_set_addr(dev: net_device, ifa: in_ifaddr | None, label: str, addr: int) -> None:
    """SIOCSIFADDR: replace the label's address, with its class's mask; 0.0.0.0 only removes it."""
    if inet_abc_len(addr) < 0:
        raise os_error(errno.EINVAL, "a group is no interface's address")
    in_dev: in_device | None = dev.ip_ptr
    if in_dev is None:
        raise os_error(errno.ENOBUFS, f"{dev.name}: MTU {dev.mtu} is too small for IPv4")
    if ifa is not None:
        if ifa.ifa_local == addr:
            return
        label = ifa.ifa_label
        __inet_del_ifa(in_dev, ifa)
    elif ":" not in label:
        label = dev.name
    plen = 32 if dev.flags & IFF_POINTOPOINT else inet_abc_len(addr)
    if addr:  # the kernel's inet_insert_ifa accepts 0.0.0.0 and does nothing
        inet_addr_add(dev, addr, plen, label=label)


def devinet_change(ifa: in_ifaddr, cmd: int, value: int) -> None:
    """SIOCSIFBRDADDR, SIOCSIFDSTADDR, SIOCSIFNETMASK: remove the address and add it changed."""
    in_dev = ifa.ifa_dev
    dev = in_dev.dev
    if cmd == dev_ioctl.SIOCSIFDSTADDR:
        if ifa.ifa_address == value:
            return
        if inet_abc_len(value) < 0:
            raise os_error(errno.EINVAL, "a group is no peer")
    elif cmd == dev_ioctl.SIOCSIFNETMASK and bad_mask(value, 0):
        raise os_error(errno.EINVAL, f"{value:#010x} is no mask")
    now = ifa.ifa_broadcast if cmd == dev_ioctl.SIOCSIFBRDADDR else ifa.ifa_mask
    if cmd != dev_ioctl.SIOCSIFDSTADDR and now == value:
        return
    __inet_del_ifa(in_dev, ifa)
    if cmd == dev_ioctl.SIOCSIFBRDADDR:
        ifa.ifa_broadcast = value
    elif cmd == dev_ioctl.SIOCSIFDSTADDR:
        ifa.ifa_address = value
    else:
        old = ifa.ifa_mask
        ifa.ifa_mask = value
        ifa.ifa_prefixlen = inet_mask_len(value)
        usual = ifa.ifa_broadcast == ifa.ifa_local | ~old & ALL
        if dev.flags & IFF_BROADCAST and ifa.ifa_prefixlen < 31 and usual:
            ifa.ifa_broadcast = ifa.ifa_local | ~inet_make_mask(ifa.ifa_prefixlen) & ALL
    inet_insert_ifa(in_dev, ifa)
