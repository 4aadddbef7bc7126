"""ioctl(2) of IPv6's sockets: routes (struct in6_rtmsg) and addresses (struct in6_ifreq).

net/ipv6/af_inet6.c, route.c, addrconf.c. As on Linux, no request reads IPv6 addresses.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from stack.core import dev_ioctl, uapi
from stack.core.bsd_socket import socket
from stack.core.dev_ioctl import need_admin
from stack.core.errors import os_error
from stack.core.memory import copy_from_user
from stack.core.netdevice import net_device
from stack.inet.inet_common import sk_ioctl
from stack.ipv6.addr import format_addr6
from stack.ipv6.addrconf import inet6_addr_add, inet6_addr_del
from stack.ipv6.route_config import ip6_route_add, ip6_route_del
from stack.net import Net

IN6_RTMSG = struct.Struct("@16s16s16sIHHILIi")
"""struct in6_rtmsg, 80 bytes: three addresses, type, lengths, metric, info, flags, interface."""
IN6_IFREQ = struct.Struct("=16sIi")
"""struct in6_ifreq, 24 bytes: address, prefix length, interface."""


def ipv6_route_ioctl(net: Net, cmd: int, arg: Any) -> None:
    """net/ipv6/route.c: SIOCADDRT, SIOCDELRT.

    Raises: OSError EPERM, EINVAL, ENODEV, ESRCH, EEXIST, EHOSTUNREACH, EFAULT ...
    """
    need_admin(net)
    data = copy_from_user(arg, IN6_RTMSG.size)
    dst, _, gateway, _, dst_len, src_len, metric, _, flags, ifindex = IN6_RTMSG.unpack(data)
    if cmd == dev_ioctl.SIOCDELRT and (
        dst_len > 128 or src_len or (ifindex and ifindex not in net.dev_by_index)
    ):
        raise os_error(errno.ESRCH, "no such route")
    if dst_len > 128 or src_len > 128:
        raise os_error(errno.EINVAL, f"prefix lengths {dst_len} and {src_len}")
    if src_len:
        raise os_error(errno.EINVAL, "routes are chosen by destination only")
    dev = device(net, ifindex) if ifindex else None
    mask = (1 << 128) - (1 << 128 - dst_len)
    prefix = f"{format_addr6(int.from_bytes(dst, 'big') & mask)}/{dst_len}"
    via = format_addr6(int.from_bytes(gateway, "big")) if flags & uapi.RTF_GATEWAY else None
    if cmd == dev_ioctl.SIOCADDRT:
        rtype = uapi.RTN_UNREACHABLE if flags & uapi.RTF_REJECT else uapi.RTN_UNICAST
        ip6_route_add(net, prefix, via=via, dev=dev, metric=metric, rtype=rtype)
    else:
        ip6_route_del(net, prefix, via=via, dev=dev, metric=metric or None)


def device(net: Net, ifindex: int) -> net_device:
    """Raises: OSError ENODEV."""
    dev = net.dev_by_index.get(ifindex)
    if dev is None:
        raise os_error(errno.ENODEV, f"{net.name} has no interface {ifindex}")
    return dev


def in6_ifreq(net: Net, arg: Any) -> tuple[net_device, int, int]:
    """Interface, address and prefix length of the administrator's request. Raises: OSError."""
    need_admin(net)
    addr, plen, ifindex = IN6_IFREQ.unpack(copy_from_user(arg, IN6_IFREQ.size))
    if plen > 128:
        raise os_error(errno.EINVAL, f"prefix length {plen}")
    return device(net, ifindex), int.from_bytes(addr, "big"), plen


def addrconf_add_ifaddr(net: Net, arg: Any) -> None:
    """net/ipv6/addrconf.c: SIOCSIFADDR. Raises: OSError EPERM, ENODEV, EINVAL, EEXIST ..."""
    inet6_addr_add(*in6_ifreq(net, arg))


def addrconf_del_ifaddr(net: Net, arg: Any) -> None:
    """net/ipv6/addrconf.c: SIOCDIFADDR. Raises: OSError EPERM, ENODEV, EADDRNOTAVAIL ..."""
    inet6_addr_del(*in6_ifreq(net, arg))


def addrconf_set_dstaddr(net: Net, arg: Any) -> None:
    """net/ipv6/addrconf.c: SIOCSIFDSTADDR makes SIT tunnels, which do not exist here.

    Raises: OSError ENODEV.
    """
    copy_from_user(arg, IN6_IFREQ.size)
    raise os_error(errno.ENODEV, "there is no SIT device")


def inet6_ioctl(sock: socket, cmd: int, arg: Any = None) -> Any:
    """net/ipv6/af_inet6.c: requests about routes and addresses; others go to the protocol.

    Raises: OSError; ENOTTY for an unknown request.
    """
    net = sock.net
    if cmd in (dev_ioctl.SIOCADDRT, dev_ioctl.SIOCDELRT):
        ipv6_route_ioctl(net, cmd, arg)
    elif cmd == dev_ioctl.SIOCSIFADDR:
        addrconf_add_ifaddr(net, arg)
    elif cmd == dev_ioctl.SIOCDIFADDR:
        addrconf_del_ifaddr(net, arg)
    elif cmd == dev_ioctl.SIOCSIFDSTADDR:
        addrconf_set_dstaddr(net, arg)
    else:
        return sk_ioctl(sock.sk, cmd, arg)
    return None
