"""net/bridge/br_ioctl.c: the requests with which brctl(8) makes bridges and adds ports.

SIOCBRADDBR and similar requests have a name or a struct ifreq. When one of them fails, brctl tries
the older SIOCSIFBR and SIOCDEVPRIVATE, whose argument points to numbers, and reports their error.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable

from stack.bridge.br_if import br_add_bridge, br_add_if, br_del_if, br_dev_delete
from stack.bridge.br_private import net_bridge, net_bridge_port
from stack.bridge.br_stp import br_get_port
from stack.bridge.br_stp_if import (
    br_set_ageing_time,
    br_set_forward_delay,
    br_set_hello_time,
    br_set_max_age,
    br_stp_set_bridge_priority,
    br_stp_set_enabled,
    br_stp_set_path_cost,
    br_stp_set_port_priority,
)
from stack.core.dev_ioctl import (
    SIOCBRADDBR,
    SIOCBRADDIF,
    SIOCBRDELBR,
    SIOCBRDELIF,
    SIOCDEVPRIVATE,
    SIOCSIFBR,
    ifr_int,
    ifr_name,
    need_admin,
)
from stack.core.errors import check, os_error
from stack.core.ethtool_ioctl import Memory, ifr_data
from stack.core.netdevice import IFF_UP, IFNAMSIZ, net_device, netif_device_present
from stack.core.time64 import TICK_NS
from stack.net import Net

BRCTL_ADD_BRIDGE = 2
BRCTL_DEL_BRIDGE = 3
BRCTL_ADD_IF = 4
BRCTL_DEL_IF = 5
ARGS = struct.Struct("=QQ")
OLD_DEVICELESS = {BRCTL_ADD_BRIDGE: SIOCBRADDBR, BRCTL_DEL_BRIDGE: SIOCBRDELBR}
OLD_ARGS = struct.Struct("=4Q")
BRCTL_GET_PORT_LIST = 7
MAX_PORTS = 1024
OLD_SETS: dict[int, Callable[[net_bridge, int], int | None]] = {
    8: lambda br, ticks: br_set_forward_delay(br, ticks * TICK_NS),
    9: lambda br, ticks: br_set_hello_time(br, ticks * TICK_NS),
    10: lambda br, ticks: br_set_max_age(br, ticks * TICK_NS),
    11: lambda br, ticks: br_set_ageing_time(br, ticks * TICK_NS),
    14: lambda br, on: br_stp_set_enabled(br, bool(on)),
    15: br_stp_set_bridge_priority,
}
"""BRCTL_SET_BRIDGE_*, by number."""
OLD_PORT_SETS: dict[int, Callable[[net_bridge_port, int], int]] = {
    16: br_stp_set_port_priority,
    17: br_stp_set_path_cost,
}
"""BRCTL_SET_PORT_PRIORITY, BRCTL_SET_PATH_COST."""
OLD_DEV = {BRCTL_ADD_IF: SIOCBRADDIF, BRCTL_DEL_IF: SIOCBRDELIF}


def br_ioctl_stub(net: Net, cmd: int, ifr: bytearray, memory: Memory) -> None:
    """Add or delete a bridge, add or remove a port, or change a setting.

    Raises: OSError EPERM, EEXIST, EINVAL, ENXIO, ENODEV, EBUSY, EOPNOTSUPP.
    """
    if cmd == SIOCSIFBR:
        what, addr = ARGS.unpack_from(ifr)
        if what not in OLD_DEVICELESS:
            raise os_error(errno.EOPNOTSUPP, f"request {what} about bridges")
        br_bridge(net, OLD_DEVICELESS[what], bytearray(memory.read(addr, IFNAMSIZ)))
    elif cmd == SIOCDEVPRIVATE:
        br = bridge_of(net, ifr)
        args = OLD_ARGS.unpack(memory.read(ifr_data(ifr), OLD_ARGS.size))
        old_dev_ioctl(net, br, args, memory)
    elif cmd in (SIOCBRADDIF, SIOCBRDELIF):
        add_del_if(net, bridge_of(net, ifr), ifr_int(ifr), cmd)
    else:
        br_bridge(net, cmd, ifr)


def old_dev_ioctl(net: Net, br: net_bridge, args: tuple[int, ...], memory: Memory) -> None:
    """net/bridge/br_ioctl.c: SIOCDEVPRIVATE of a bridge. Raises: OSError."""
    what, first, second, _ = args
    if what in OLD_DEV:
        add_del_if(net, br, first & 0x7FFFFFFF, OLD_DEV[what])
    elif what == BRCTL_GET_PORT_LIST:
        numbers = [0] * min(second or MAX_PORTS, MAX_PORTS)
        for p in br.port_list:
            if p.port_no < len(numbers):
                numbers[p.port_no] = p.dev.ifindex
        memory.write(first, struct.pack(f"={len(numbers)}i", *numbers))
    elif what in OLD_SETS:
        need_admin(net)
        check(OLD_SETS[what](br, first) or 0, "what a bridge is set to")
    elif what in OLD_PORT_SETS:
        need_admin(net)
        port = br_get_port(br, first & 0x7FFFFFFF)
        err = -errno.EINVAL if port is None else OLD_PORT_SETS[what](port, second)
        check(err, "what a port is set to")
    else:
        raise os_error(errno.EOPNOTSUPP, f"request {what} of {br.dev.name}")


def br_bridge(net: Net, cmd: int, name: bytearray) -> None:
    """SIOCBRADDBR and SIOCBRDELBR: `name` is an array of IFNAMSIZ bytes."""
    text = os.fsdecode(ifr_name(name))
    need_admin(net)
    if cmd == SIOCBRADDBR:
        br_add_bridge(net, text)
        return
    dev = net.dev_by_name.get(text)
    if dev is None:
        raise os_error(errno.ENXIO, f"no interface {text!r}")
    if not isinstance(dev.priv, net_bridge):
        raise os_error(errno.EPERM, f"{text} is no bridge")
    if dev.flags & IFF_UP:
        raise os_error(errno.EBUSY, f"{text} is up")
    br_dev_delete(dev)


def bridge_of(net: Net, ifr: bytearray) -> net_bridge:
    """The bridge that a struct ifreq names. Raises: OSError ENODEV, EOPNOTSUPP."""
    name = os.fsdecode(ifr_name(ifr))
    dev = net.dev_by_name.get(name)
    if dev is None or not netif_device_present(dev):
        raise os_error(errno.ENODEV, f"no interface {name!r}")
    if not isinstance(dev.priv, net_bridge):
        raise os_error(errno.EOPNOTSUPP, f"{name} is no bridge")
    return dev.priv


def add_del_if(net: Net, br: net_bridge, ifindex: int, cmd: int) -> None:
    """net/bridge/br_ioctl.c: add or remove a port. Raises: OSError EPERM, EINVAL, EBUSY ..."""
    need_admin(net)
    dev: net_device | None = net.dev_by_index.get(ifindex)
    if dev is None:
        raise os_error(errno.EINVAL, f"no interface {ifindex}")
    check((br_add_if if cmd == SIOCBRADDIF else br_del_if)(br, dev), f"{dev.name} in {br.dev.name}")
