"""Routes by ioctl(2): SIOCADDRT and SIOCDELRT with struct rtentry (net/ipv4/fib_frontend.c)."""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

from stack.core import uapi
from stack.core.dev_ioctl import SIOCDELRT, need_admin
from stack.core.errors import os_error
from stack.core.memory import copy_from_user, read_string
from stack.core.netdevice import IFNAMSIZ, net_device
from stack.core.uapi import AF_INET, NLM_F_CREATE, RTF_GATEWAY, RTF_REJECT
from stack.ipv4 import fib
from stack.ipv4.devinet_ioctl import bad_mask, inet_mask_len
from stack.ipv4.fib import (
    fib_check_nh,
    fib_get_table,
    fib_info,
    fib_nh,
    fib_table_delete,
    fib_table_insert,
    inet_addr_type,
)
from stack.net import Net

# struct rtentry: addresses at 8, 24 and 40, then flags, metric, the interface's name, mtu ...
RTENTRY = struct.Struct("@L16s16s16sHhLPhPLLH")
RTENTRY_BYTES = 120
RTENTRY_DEV = 9
"""The field with the address of the interface's name."""
SOCKADDR = struct.Struct("=H2s4s8s")

RTF_HOST = 0x0004
RTF_MTU = 0x0040
RTF_WINDOW = 0x0080
RTF_IRTT = 0x0100


class rt_config:
    """The part of struct fib_config that rtentry_to_fib_config fills. `scope` None: not given."""

    def __init__(self) -> None:
        self.dst = 0
        self.dst_len = 32
        self.rtype = uapi.RTN_UNICAST
        self.scope: int | None = None
        self.priority: int | None = None
        self.dev: net_device | None = None
        self.prefsrc = 0
        self.gw = 0
        self.metrics: dict[str, int] = {}


def sk_extract_addr(addr: bytes) -> tuple[int, int]:
    """net/ipv4/fib_frontend.c: family and address of a struct sockaddr_in."""
    family, _, data, _ = SOCKADDR.unpack(addr)
    return family, int.from_bytes(data, "big")


def rt_device(net: Net, address: int, cfg: rt_config) -> None:
    """Set cfg's interface by the name at `address`; an alias ("eth0:1") sets its address as source.

    Raises: OSError ENODEV, EFAULT.
    """
    name = os.fsdecode(read_string(address, IFNAMSIZ - 1))
    plain, colon, _ = name.partition(":")
    dev = net.dev_by_name.get(plain)
    if dev is None:
        raise os_error(errno.ENODEV, f"{net.name} has no interface {plain!r}")
    cfg.dev = dev
    if colon:
        found = [ifa for ifa in dev.ip_ptr.ifa_list if ifa.ifa_label == name] if dev.ip_ptr else []
        if not found:
            raise os_error(errno.ENODEV, f"{dev.name} has no label {name!r}")
        cfg.prefsrc = found[0].ifa_local


def rtentry_to_fib_config(net: Net, cmd: int, data: bytes) -> rt_config:
    """net/ipv4/fib_frontend.c. Raises: OSError EAFNOSUPPORT, EINVAL, ENODEV, EFAULT."""
    (_, dst, gateway, genmask, flags, _, _, _, metric, dev, mtu, _, _) = RTENTRY.unpack(
        data[: RTENTRY.size]
    )
    cfg = rt_config()
    family, cfg.dst = sk_extract_addr(dst)
    if family != AF_INET:
        raise os_error(errno.EAFNOSUPPORT, f"rt_dst: family {family}")
    if not flags & RTF_HOST:
        family, mask = sk_extract_addr(genmask)
        if family != AF_INET and (mask or family):
            raise os_error(errno.EAFNOSUPPORT, f"rt_genmask: family {family}")
        if bad_mask(mask, cfg.dst):
            raise os_error(errno.EINVAL, f"mask {mask:#010x} of {cfg.dst:#010x}")
        cfg.dst_len = inet_mask_len(mask)
    if metric:
        cfg.priority = (metric - 1) & 0xFFFFFFFF
    if flags & RTF_REJECT:
        cfg.scope = uapi.RT_SCOPE_HOST
        cfg.rtype = uapi.RTN_UNREACHABLE
        return cfg
    if dev:
        rt_device(net, dev, cfg)
    family, addr = sk_extract_addr(gateway)
    if family == AF_INET and addr:
        cfg.gw = addr
        if flags & RTF_GATEWAY and inet_addr_type(net, addr) == uapi.RTN_UNICAST:
            cfg.scope = uapi.RT_SCOPE_UNIVERSE
    if cmd == SIOCDELRT:
        return cfg
    if flags & RTF_GATEWAY and not cfg.gw:
        raise os_error(errno.EINVAL, "RTF_GATEWAY without a gateway")
    if cfg.scope is None:
        cfg.scope = uapi.RT_SCOPE_LINK
    if flags & RTF_MTU:
        cfg.metrics["advmss"] = max(mtu - 40, 0)
    return cfg


def ip_rt_ioctl(net: Net, cmd: int, arg: Any) -> None:
    """net/ipv4/fib_frontend.c: SIOCADDRT, SIOCDELRT; `arg` has a struct rtentry of 120 bytes.

    RTF_WINDOW and RTF_IRTT are accepted without effect. Raises: OSError EPERM, ESRCH, EEXIST,
    EINVAL, ENODEV, ENETUNREACH, ENETDOWN, EAFNOSUPPORT, EFAULT.
    """
    need_admin(net)
    cfg = rtentry_to_fib_config(net, cmd, bytes(copy_from_user(arg, RTENTRY_BYTES)))
    table = fib_get_table(net, fib.RT_TABLE_MAIN)
    if cmd == SIOCDELRT:
        fib_table_delete(
            net,
            table,
            cfg.dst,
            cfg.dst_len,
            rtype=cfg.rtype,
            dev=cfg.dev,
            gw=cfg.gw or None,
            prefsrc=cfg.prefsrc,
            priority=cfg.priority,
            scope=cfg.scope,
        )
        return
    assert cfg.scope is not None
    nhs: list[fib_nh] = []
    if cfg.rtype == uapi.RTN_UNICAST:
        # A gateway may be given without a device (NULL); fib_check_nh finds the device.
        nh = fib_nh(cfg.dev, cfg.gw, 1, 0)  # type: ignore[arg-type]
        if cfg.dev is None and not cfg.gw:
            raise os_error(errno.ENODEV, "a route needs a device or a gateway")
        fib_check_nh(net, nh, cfg.scope)
        nhs.append(nh)
    info = fib_info(
        nhs,
        rtype=cfg.rtype,
        scope=cfg.scope,
        protocol=uapi.RTPROT_BOOT,
        prefsrc=cfg.prefsrc,
        priority=cfg.priority or 0,
        metrics=cfg.metrics,
    )
    fib_table_insert(net, table, cfg.dst, cfg.dst_len, info, flags=NLM_F_CREATE)
