"""drivers/net/ipvlan/ipvlan_main.c: IFLA_IPVLAN_*: slaves of ipvlan by RTM_NEWLINK."""

from __future__ import annotations

import errno
from typing import Any

from stack.core.netdevice import net_device
from stack.drivers.ipvlan import ipvlan_link_new, ipvlan_link_ops, ipvlan_set_port_mode
from stack.drivers.ipvlan_core import (
    IPVLAN_F_PRIVATE,
    IPVLAN_F_VEPA,
    IPVLAN_MODE_L2,
    IPVLAN_MODE_L3,
    IPVLAN_MODE_L3S,
    ipvl_port,
)
from stack.drivers.stacked import stacked_get_iflink
from stack.net import Net
from stack.netlink.nlattr import U16, Attr, Attrs, AttrTable, NlError
from stack.netlink.rt_kind_row import link_kind, link_name, lower_link, validate_mtu

IPVLAN = AttrTable(
    "IFLA_IPVLAN", Attr("IFLA_IPVLAN_MODE", 1, U16), Attr("IFLA_IPVLAN_FLAGS", 2, U16)
)


def ipvlan_nl_validate(tb: Attrs, data: Attrs | None) -> None:
    """Validate mode and flags. Raises: NlError EINVAL."""
    if data is None:
        return
    if data.get("IFLA_IPVLAN_MODE", IPVLAN_MODE_L2) > IPVLAN_MODE_L3S:
        raise NlError(errno.EINVAL)
    if data.get("IFLA_IPVLAN_FLAGS", 0) not in (0, IPVLAN_F_PRIVATE, IPVLAN_F_VEPA):
        raise NlError(errno.EINVAL)


def ipvlan_new(net: Net, tb: Attrs, data: Attrs) -> net_device:
    """ipvlan_link_new. Raises: OSError."""
    validate_mtu(tb)
    mode, flags = data.get("IFLA_IPVLAN_MODE", IPVLAN_MODE_L3), data.get("IFLA_IPVLAN_FLAGS")
    name = link_name(tb, "ipvlan")
    return ipvlan_link_new(net, name, lower_link(net, tb), mode, flags, tb.get("IFLA_MTU"))


def ipvlan_nl_changelink(dev: net_device, tb: Attrs, data: Attrs) -> None:
    """`ip link set DEV type ipvlan ...`: of all slaves of its master."""
    port: ipvl_port = dev.priv.port
    if "IFLA_IPVLAN_MODE" in data:
        ipvlan_set_port_mode(port, data["IFLA_IPVLAN_MODE"])
    port.flags = data.get("IFLA_IPVLAN_FLAGS", port.flags)


def ipvlan_nl_fillinfo(dev: net_device) -> dict[str, Any]:
    """IFLA_INFO_DATA"""
    port: ipvl_port = dev.priv.port
    return {"IFLA_IPVLAN_MODE": port.mode, "IFLA_IPVLAN_FLAGS": port.flags}


IPVLAN_ROW = link_kind(
    ipvlan_link_ops,
    ipvlan_new,
    IPVLAN,
    ipvlan_nl_validate,
    ipvlan_nl_changelink,
    ipvlan_nl_fillinfo,
    stacked_get_iflink,
)
