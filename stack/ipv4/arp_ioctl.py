"""The ARP table by ioctl(2): SIOCSARP, SIOCGARP, SIOCDARP with struct arpreq (net/ipv4/arp.c)."""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

from stack.core.dev_ioctl import SIOCDARP, SIOCGARP, SIOCSARP, need_admin
from stack.core.errors import check, os_error
from stack.core.memory import copy_from_user, copy_to_user
from stack.core.neigh_table import NEIGH_UPDATE_F_ADMIN, NEIGH_UPDATE_F_OVERRIDE
from stack.core.neighbour import __neigh_lookup, neigh_update
from stack.core.netdevice import IFNAMSIZ, net_device
from stack.core.uapi import AF_INET, NUD_PERMANENT, NUD_STALE
from stack.ipv4 import arp
from stack.ipv4.arp import ATF_COM, ATF_PERM, arp_state_to_flags
from stack.ipv4.route import ip_route_output
from stack.net import Net

ARPREQ = struct.Struct("=H2s4s8sH14si4s4s8s16s")
"""struct arpreq: sin_family, port, address; sa_family and address; flags; mask; interface."""

ATF_PUBL = 0x08
ATF_NETMASK = 0x20
ATF_DONTPUB = 0x40
ALL = 0xFFFFFFFF


class arpreq:
    """The fields of a struct arpreq. `ip` and `mask` are in host order."""

    def __init__(self, data: bytes | bytearray) -> None:
        pa_family, _, ip, _, ha_family, ha, flags, _, mask, _, dev = ARPREQ.unpack(data)
        self.pa_family: int = pa_family
        self.ip = int.from_bytes(ip, "big")
        self.ha_family: int = ha_family
        self.ha: bytes = ha
        self.flags: int = flags
        self.mask = int.from_bytes(mask, "big") if flags & ATF_NETMASK else ALL
        self.dev: bytes = dev[: IFNAMSIZ - 1].partition(b"\0")[0]


def arp_req_dev_by_name(net: Net, r: arpreq) -> net_device:
    """net/ipv4/arp.c. Raises: OSError ENODEV; EINVAL, an address of another type."""
    dev = net.dev_by_name.get(os.fsdecode(r.dev))
    if dev is None:
        raise os_error(errno.ENODEV, f"{net.name} has no interface {os.fsdecode(r.dev)!r}")
    if not r.ha_family:
        r.ha_family = dev.type
    if r.flags & ATF_COM and r.ha_family != dev.type:
        raise os_error(errno.EINVAL, f"{dev.name} is of type {dev.type}, not {r.ha_family}")
    return dev


def arp_req_dev(net: Net, r: arpreq) -> net_device:
    """net/ipv4/arp.c: the interface of the request, else the one of the route to its address.

    Raises: OSError ENODEV, EINVAL, ENETUNREACH ...
    """
    if r.dev:
        return arp_req_dev_by_name(net, r)
    return ip_route_output(net, r.ip).dev


def arp_req_set(net: Net, r: arpreq) -> None:
    """net/ipv4/arp.c: SIOCSARP. Raises: OSError ENOBUFS, EINVAL, ..."""
    dev = arp_req_dev(net, r)
    neigh = __neigh_lookup(net.arp_tbl, r.ip, dev, True)
    if neigh is None:
        raise os_error(errno.ENOBUFS)
    state = NUD_STALE
    if r.flags & ATF_PERM:
        r.flags |= ATF_COM
        state = NUD_PERMANENT
    ha = r.ha[: dev.addr_len] if r.flags & ATF_COM else None
    check(neigh_update(neigh, ha, state, NEIGH_UPDATE_F_OVERRIDE | NEIGH_UPDATE_F_ADMIN), dev.name)


def arp_req_get(net: Net, r: arpreq, data: bytearray) -> None:
    """net/ipv4/arp.c: SIOCGARP, the answer in `data`. Raises: OSError ENODEV, ENXIO."""
    if not r.dev:
        raise os_error(errno.ENODEV, "SIOCGARP needs an interface")
    dev = arp_req_dev_by_name(net, r)
    neigh = arp.arp_req_get(dev, r.ip)
    data[16:18] = dev.type.to_bytes(2, "little")
    ha = neigh.ha[: min(dev.addr_len, 14)].ljust(dev.addr_len, b"\0")
    data[18 : 18 + len(ha)] = ha
    data[32:36] = arp_state_to_flags(neigh).to_bytes(4, "little")
    if not r.flags & ATF_NETMASK:
        data[40:44] = b"\xff" * 4
    data[52:68] = os.fsencode(dev.name).ljust(IFNAMSIZ, b"\0")


def arp_req_delete(net: Net, r: arpreq) -> None:
    """net/ipv4/arp.c: SIOCDARP. Raises: OSError ENXIO, ENODEV, EINVAL, ENETUNREACH ..."""
    arp.arp_req_delete(arp_req_dev(net, r), r.ip)


def arp_ioctl(net: Net, cmd: int, arg: Any) -> None:
    """net/ipv4/arp.c: `arg` has a struct arpreq of 68 bytes.

    Published entries (ATF_PUBL) cannot be made, EOPNOTSUPP, so there are none to delete, ENOENT.
    Raises: OSError EPERM, EPFNOSUPPORT, EINVAL, ENODEV, ENXIO, EFAULT.
    """
    if cmd in (SIOCSARP, SIOCDARP):
        need_admin(net)
    data = copy_from_user(arg, ARPREQ.size)
    r = arpreq(data)
    if r.pa_family != AF_INET:
        raise os_error(errno.EPFNOSUPPORT, f"arp_pa: family {r.pa_family}")
    if not r.flags & ATF_PUBL and r.flags & (ATF_NETMASK | ATF_DONTPUB):
        raise os_error(errno.EINVAL, "a mask is for what is published")
    if r.mask not in (0, ALL):
        raise os_error(errno.EINVAL, f"mask {r.mask:#010x} is neither one address nor all")
    if r.flags & ATF_PUBL and cmd == SIOCDARP:
        if r.mask:
            raise os_error(errno.ENOENT, "no such published entry")
        return
    if r.flags & ATF_PUBL and cmd == SIOCSARP:
        raise os_error(errno.EOPNOTSUPP, "ARP answers for nobody else here")
    if cmd == SIOCSARP:
        arp_req_set(net, r)
    elif cmd == SIOCDARP:
        arp_req_delete(net, r)
    elif cmd == SIOCGARP:
        arp_req_get(net, r, data)
        copy_to_user(arg, data)
