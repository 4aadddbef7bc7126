"""ioctl(2) of interfaces (net/core/dev_ioctl.c), with Linux's struct ifreq of 40 bytes.

    sys_ioctl -> sock_do_ioctl -> the family's ioctl; ENOTTY -> dev_ioctl
        dev_ifname, netif_get_mac_address   a name, a hardware address
        dev_ifsioc_locked                   requests that read (ASKING)
        dev_ifsioc                          requests that write (CHANGING)
        dev_ethtool                         SIOCETHTOOL
        br_ioctl_hook                       those about bridges (stack.bridge.br_ioctl)

A request's struct is a bytearray that the function changes. Its pointers refer to the memory that
the caller names (Memory). They raise OSError. The only state are registered handlers: gifconf_list
by family, br_ioctl_hook by request.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import Any

from stack.core import netdevice
from stack.core.dev import (
    dev_change_flags,
    dev_change_name,
    dev_mc_add_global,
    dev_mc_del_global,
    dev_set_mac_address,
    dev_set_mtu,
)
from stack.core.dev_notifier import call_netdevice_notifiers
from stack.core.errors import check, os_error
from stack.core.ethtool_ioctl import Memory, dev_ethtool, ifr_data
from stack.core.memory import copy_from_user, copy_to_user, read_address, write_address
from stack.core.netdevice import dev_get_flags, net_device, netif_device_present
from stack.core.sock import ns_capable
from stack.core.uapi import CAP_NET_ADMIN
from stack.net import Net

# include/uapi/linux/sockios.h
SIOCADDRT = 0x890B
SIOCDELRT = 0x890C
SIOCRTMSG = 0x890D
SIOCGIFNAME = 0x8910
SIOCGIFCONF = 0x8912
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
SIOCGIFADDR = 0x8915
SIOCSIFADDR = 0x8916
SIOCGIFDSTADDR = 0x8917
SIOCSIFDSTADDR = 0x8918
SIOCGIFBRDADDR = 0x8919
SIOCSIFBRDADDR = 0x891A
SIOCGIFNETMASK = 0x891B
SIOCSIFNETMASK = 0x891C
SIOCGIFMETRIC = 0x891D
SIOCSIFMETRIC = 0x891E
SIOCGIFMTU = 0x8921
SIOCSIFMTU = 0x8922
SIOCSIFNAME = 0x8923
SIOCSIFHWADDR = 0x8924
SIOCGIFHWADDR = 0x8927
SIOCGIFSLAVE = 0x8929
SIOCSIFSLAVE = 0x8930
SIOCADDMULTI = 0x8931
SIOCDELMULTI = 0x8932
SIOCGIFINDEX = 0x8933
SIOCSIFPFLAGS = 0x8934
SIOCGIFPFLAGS = 0x8935
SIOCDIFADDR = 0x8936
SIOCSIFHWBROADCAST = 0x8937
SIOCGIFTXQLEN = 0x8942
SIOCSIFTXQLEN = 0x8943
SIOCETHTOOL = 0x8946
SIOCGMIIPHY = 0x8947
SIOCGMIIREG = 0x8948
SIOCSMIIREG = 0x8949
SIOCWANDEV = 0x894A
SIOCDARP = 0x8953
SIOCGARP = 0x8954
SIOCSARP = 0x8955
SIOCGIFBR = 0x8940
SIOCSIFBR = 0x8941
SIOCGIFMAP = 0x8970
SIOCSIFMAP = 0x8971
SIOCGIFVLAN = 0x8982
SIOCSIFVLAN = 0x8983
SIOCBONDSLAVEINFOQUERY = 0x8993
SIOCBONDINFOQUERY = 0x8994
SIOCBRADDBR = 0x89A0
SIOCBRDELBR = 0x89A1
SIOCBRADDIF = 0x89A2
SIOCBRDELIF = 0x89A3
SIOCGHWTSTAMP = 0x89B1
SIOCPROTOPRIVATE = 0x89E0
SIOCDEVPRIVATE = 0x89F0

IFREQ_BYTES = 40  # sizeof(struct ifreq) where addresses have 64 bits
SA_DATA_BYTES = 14
U16 = struct.Struct("=H")
S32 = struct.Struct("=i")
IFCONF = struct.Struct("@iP")
OWN = Memory(read_address, write_address)
"""The memory of this process."""

gifconf_list: dict[int, Callable[[net_device, int | None], list[bytes]]] = {}
"""By family: `gifconf(dev, room)` returns a struct ifreq per address, `room` bytes at most."""
family_ioctl: dict[int, Callable[[Any, int, Any], Any]] = {}
"""By family: its ioctl for sockets of other families. Packet sockets use inet_ioctl."""


BRIDGES = (SIOCBRADDBR, SIOCBRDELBR, SIOCBRADDIF, SIOCBRDELIF, SIOCSIFBR, SIOCDEVPRIVATE)
"""Requests about bridges. SIOCDEVPRIVATE has another meaning for interfaces of other drivers."""

br_ioctl_hook: dict[int, Callable[[Net, int, bytearray, Memory], None]] = {}
"""By request: `stub(net, cmd, ifr, memory)` of the bridge's module."""


def brioctl_set(stub: Callable[[Net, int, bytearray, Memory], None]) -> None:
    """net/socket.c: register the handler of requests about bridges."""
    for cmd in BRIDGES:
        br_ioctl_hook[cmd] = stub


def register_gifconf(family: int, gifconf: Callable[[net_device, int | None], list[bytes]]) -> None:
    """net/core/dev_ioctl.c (until 3.12): make SIOCGIFCONF call `gifconf(dev, room)`."""
    gifconf_list[family] = gifconf


# --- struct ifreq --------------------------------------------------------------------------


def ifr_name(ifr: bytearray, at: int = 0) -> bytes:
    """The name at `at`, which ends at a NUL or after 15 bytes."""
    end = at + netdevice.IFNAMSIZ
    ifr[end - 1] = 0
    return bytes(ifr[at:end]).partition(b"\0")[0]


def ifr_dev(net: Net, ifr: bytearray) -> net_device:
    """The interface of ifr_name, whose alias (":1") is ignored. Raises: OSError ENODEV."""
    name = ifr_name(ifr).partition(b":")[0]
    dev = net.dev_by_name.get(os.fsdecode(name))
    if dev is None:
        raise os_error(errno.ENODEV, f"{net.name} has no interface {os.fsdecode(name)!r}")
    return dev


def ifr_int(ifr: bytearray) -> int:
    """ifr_ifindex, ifr_mtu, ifr_qlen: an int."""
    number: int = S32.unpack_from(ifr, netdevice.IFNAMSIZ)[0]
    return number


def ifr_family(ifr: bytearray) -> int:
    """sa_family of the address."""
    family: int = U16.unpack_from(ifr, netdevice.IFNAMSIZ)[0]
    return family


def need_admin(net: Net) -> None:
    """Raises: OSError EPERM."""
    if not ns_capable(net, CAP_NET_ADMIN):
        raise os_error(errno.EPERM, f"{net.name}: the user is {net.uid}, not root")


# --- requests ------------------------------------------------------------------------------


def dev_ifname(net: Net, ifr: bytearray) -> None:
    """net/core/dev_ioctl.c: SIOCGIFNAME, a number to its name. Raises: OSError ENODEV."""
    dev = net.dev_by_index.get(ifr_int(ifr))
    if dev is None:
        raise os_error(errno.ENODEV, f"{net.name} has no interface {ifr_int(ifr)}")
    name = os.fsencode(dev.name) + b"\0"
    ifr[: len(name)] = name


def dev_ifconf(net: Net, arg: Any) -> None:
    """net/core/dev_ioctl.c: SIOCGIFCONF, every IPv4 address with its interface.

    `arg` is a struct ifconf: a buffer's length and address. With a null address the answer is the
    length that a buffer needs. Raises: OSError EFAULT.
    """
    size, address = IFCONF.unpack(copy_from_user(arg, IFCONF.size))
    room = None if not address else size
    total = 0
    found: list[bytes] = []
    for dev in net.dev_base_head:
        for gifconf in gifconf_list.values():
            rows = gifconf(dev, None if room is None else room - total)
            total += sum(map(len, rows))
            found += rows
    if address:
        write_address(address, b"".join(found))
    copy_to_user(arg, S32.pack(total))


def dev_ifsioc_locked(net: Net, ifr: bytearray, cmd: int) -> None:
    """net/core/dev_ioctl.c: the requests that only read. Raises: OSError ENODEV, EINVAL."""
    dev = ifr_dev(net, ifr)
    if cmd == SIOCGIFFLAGS:
        U16.pack_into(ifr, netdevice.IFNAMSIZ, dev_get_flags(dev) & 0xFFFF)
    elif cmd == SIOCGIFMETRIC:
        S32.pack_into(ifr, netdevice.IFNAMSIZ, 0)
    elif cmd == SIOCGIFMTU:
        S32.pack_into(ifr, netdevice.IFNAMSIZ, dev.mtu)
    elif cmd == SIOCGIFMAP:
        # no ISA memory, I/O port, IRQ or DMA
        ifr[netdevice.IFNAMSIZ :] = bytes(IFREQ_BYTES - netdevice.IFNAMSIZ)
    elif cmd == SIOCGIFINDEX:
        S32.pack_into(ifr, netdevice.IFNAMSIZ, dev.ifindex)
    elif cmd == SIOCGIFTXQLEN:
        S32.pack_into(ifr, netdevice.IFNAMSIZ, dev.tx_queue_len)
    else:
        raise os_error(errno.EINVAL, f"request {cmd:#x} is not for {dev.name}")


def netif_get_mac_address(net: Net, ifr: bytearray) -> None:
    """net/core/dev.c: SIOCGIFHWADDR, ARPHRD_* and the address. Raises: OSError ENODEV."""
    dev = ifr_dev(net, ifr)
    U16.pack_into(ifr, netdevice.IFNAMSIZ, dev.type)
    at = netdevice.IFNAMSIZ + U16.size
    if not dev.addr_len:
        ifr[at : at + SA_DATA_BYTES] = bytes(SA_DATA_BYTES)
    else:
        addr = dev.dev_addr[: min(SA_DATA_BYTES, dev.addr_len)]
        ifr[at : at + len(addr)] = addr


def dev_set_mac_address_user(dev: net_device, ifr: bytearray) -> None:
    """net/core/dev.c: SIOCSIFHWADDR. Raises: OSError EOPNOTSUPP, EINVAL, ENODEV."""
    if dev.netdev_ops.ndo_set_mac_address is None:
        raise os_error(errno.EOPNOTSUPP, f"{dev.name} has no address to change")
    if ifr_family(ifr) != dev.type:
        raise os_error(errno.EINVAL, f"{dev.name} is of type {dev.type}, not {ifr_family(ifr)}")
    if not netif_device_present(dev):
        raise os_error(errno.ENODEV, f"{dev.name} is not there")
    check(dev_set_mac_address(dev, hw_data(dev, ifr)), dev.name)


def hw_data(dev: net_device, ifr: bytearray) -> bytes:
    """The first `addr_len` bytes of sa_data."""
    at = netdevice.IFNAMSIZ + U16.size
    return bytes(ifr[at : at + min(SA_DATA_BYTES, dev.addr_len)])


def dev_ifsioc(net: Net, ifr: bytearray, cmd: int) -> None:
    """net/core/dev_ioctl.c: the requests that write.

    Raises: OSError ENODEV, EINVAL, EOPNOTSUPP, and errors of the change itself.
    """
    dev = ifr_dev(net, ifr)
    if cmd == SIOCSIFFLAGS:
        check(dev_change_flags(dev, ifr_family(ifr)), dev.name)
    elif cmd == SIOCSIFMTU:
        check(dev_set_mtu(dev, ifr_int(ifr)), dev.name)
    elif cmd == SIOCSIFHWADDR:
        dev_set_mac_address_user(dev, ifr)
    elif cmd == SIOCSIFHWBROADCAST:
        if ifr_family(ifr) != dev.type:
            raise os_error(errno.EINVAL, f"{dev.name} is of type {dev.type}")
        dev.broadcast = hw_data(dev, ifr)
        call_netdevice_notifiers(netdevice.NETDEV_CHANGEADDR, dev)
    elif cmd in (SIOCADDMULTI, SIOCDELMULTI):
        if dev.netdev_ops.ndo_set_rx_mode is None or ifr_family(ifr):
            raise os_error(errno.EINVAL, f"{dev.name}: no multicast, or sa_family is not AF_UNSPEC")
        if not netif_device_present(dev):
            raise os_error(errno.ENODEV, f"{dev.name} is not there")
        addr = hw_data(dev, ifr)
        if cmd == SIOCADDMULTI:
            check(dev_mc_add_global(dev, addr), dev.name)
        else:
            check(dev_mc_del_global(dev, addr), dev.name)
    elif cmd == SIOCSIFTXQLEN:
        if ifr_int(ifr) < 0:
            raise os_error(errno.EINVAL, f"{dev.name}: a queue of {ifr_int(ifr)}")
        dev.tx_queue_len = ifr_int(ifr)
    elif cmd == SIOCSIFNAME:
        check(dev_change_name(dev, os.fsdecode(ifr_name(ifr, netdevice.IFNAMSIZ))), dev.name)
    else:
        raise os_error(errno.EOPNOTSUPP, f"{dev.name} does not offer request {cmd:#x}")


ASKING = (
    *(SIOCGIFFLAGS, SIOCGIFMETRIC, SIOCGIFMTU, SIOCGIFSLAVE, SIOCGIFMAP, SIOCGIFINDEX),
    SIOCGIFTXQLEN,
)
CHANGING = (
    *(SIOCSIFNAME, SIOCSIFMAP, SIOCSIFTXQLEN, SIOCSIFFLAGS, SIOCSIFMETRIC, SIOCSIFMTU),
    *(SIOCSIFHWADDR, SIOCSIFSLAVE, SIOCADDMULTI, SIOCDELMULTI, SIOCSIFHWBROADCAST),
    *(SIOCGMIIPHY, SIOCGMIIREG, SIOCSMIIREG),
)
OF_DRIVERS = (SIOCWANDEV, SIOCBONDSLAVEINFOQUERY, SIOCBONDINFOQUERY, SIOCGHWTSTAMP)
"""Requests that no driver supports."""


def dev_ioctl(net: Net, cmd: int, ifr: bytearray, memory: Memory = OWN) -> None:
    """net/core/dev_ioctl.c: a request to an interface; the answer is in `ifr`.

    Pointers of SIOCETHTOOL and of requests about bridges refer to this process, unless `memory` is
    given. Raises: OSError EPERM, ENOTTY, and errors of the request.
    """
    if cmd == SIOCGIFNAME:
        dev_ifname(net, ifr)
    elif cmd == SIOCGIFHWADDR:
        netif_get_mac_address(net, ifr)
    elif cmd in ASKING:
        dev_ifsioc_locked(net, ifr, cmd)
    elif cmd in CHANGING:
        need_admin(net)
        dev_ifsioc(net, ifr, cmd)
    elif cmd in br_ioctl_hook:
        br_ioctl_hook[cmd](net, cmd, ifr, memory)
    elif cmd == SIOCETHTOOL:
        dev_ethtool(net, ifr_dev(net, ifr), ifr_data(ifr), memory)
    elif cmd in OF_DRIVERS or SIOCDEVPRIVATE <= cmd <= SIOCDEVPRIVATE + 15:
        dev = ifr_dev(net, ifr)
        raise os_error(errno.EOPNOTSUPP, f"{dev.name} does not offer request {cmd:#x}")
    else:
        raise os_error(errno.ENOTTY, f"unknown request {cmd:#x}")
