"""include/net/rtnetlink.h struct rtnl_link_ops: a row of the table of kinds (rt_kinds.py)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stack.core.netdevice import ETH_ALEN, ETH_MAX_MTU, ETH_MIN_MTU, net_device, rtnl_link_ops
from stack.ethernet.eth import is_valid_ether_addr
from stack.net import Net
from stack.netlink.nlattr import Attr, Attrs, AttrTable, NlError
from stack.tunnel.udp_tunnel import PORT_RANGE

EMPTY = AttrTable("IFLA_INFO_DATA")
"""The policy of kinds without attributes."""


@dataclass(frozen=True, slots=True)
class Parm(Attr):
    """An attribute that `sets` a member of a device's parameters, to a value of the member's type.

    One that sets none is not supported here. `fixed`: why a change is refused.
    """

    sets: str = ""
    fixed: str = ""

    def set(self, cfg: Any, data: Attrs) -> None:
        """Set the member to the request's value. Raises: NlError EOPNOTSUPP."""
        value = data[self.name]
        if self.sets:
            kind = type(getattr(cfg, self.sets))
            setattr(cfg, self.sets, kind(value))
        elif value:
            raise data.wrong(self.name, f"{self.name} is not supported", errno.EOPNOTSUPP)


def validate_address(
    tb: Attrs, size: str = "", group: str = "", name: str = "IFLA_ADDRESS", at: bool = False
) -> None:
    """Check that an address is valid for a station. Raises: NlError EINVAL, EADDRNOTAVAIL.

    `size` and `group` are the error texts; `at`: report its offset, too.
    """
    if name in tb:
        place = tb.at.get(name, -1) if at else -1
        if len(tb[name]) != ETH_ALEN:
            raise NlError(errno.EINVAL, size, place)
        if not is_valid_ether_addr(tb[name]):
            raise NlError(errno.EADDRNOTAVAIL, group, place)


def validate_ether(tb: Attrs, data: Attrs | None) -> None:
    """dummy_validate and its like: the address. Raises: NlError."""
    validate_address(tb)


def validate_unicast(tb: Attrs) -> None:
    """vxlan_validate, geneve_validate: as validate_ether, with texts. Raises: NlError."""
    size = "Provided link layer address is not Ethernet"
    validate_address(tb, size, "Provided Ethernet address is not unicast", at=True)


def validate_port_range(data: Attrs, name: str) -> None:
    """The source ports of vxlan and geneve: first and last. Raises: NlError EINVAL."""
    if name in data:
        data[name] = data[name][: PORT_RANGE.size]
        low, high = PORT_RANGE.unpack(data[name])
        if high < low:
            raise data.wrong(name, "Invalid source port range")


def validate_mtu(tb: Attrs) -> None:
    """net/core/dev.c dev_validate_mtu: check the kind's limits. Raises: NlError EINVAL."""
    mtu = tb.get("IFLA_MTU", ETH_MIN_MTU)
    if mtu < ETH_MIN_MTU:
        raise NlError(errno.EINVAL, "mtu less than device minimum")
    if mtu > ETH_MAX_MTU:
        raise NlError(errno.EINVAL, "mtu greater than device maximum")


@dataclass(frozen=True, slots=True)
class link_kind:
    """One kind. Functions may raise OSError, and ValueError for an invalid value."""

    ops: rtnl_link_ops
    newlink: Callable[[Net, Attrs, Attrs], net_device] | None = None
    """(namespace, attributes of the message, of IFLA_INFO_DATA); None: not created by netlink."""
    policy: AttrTable = EMPTY
    validate: Callable[[Attrs, Attrs | None], None] = validate_ether
    changelink: Callable[[net_device, Attrs, Attrs], None] | None = None
    fill_info: Callable[[net_device], dict[str, Any]] | None = None
    link: Callable[[net_device], net_device | None] | None = None
    add_slave: Callable[[net_device, net_device], int] | None = None
    """(master, port) -> 0 or -errno; so is del_slave."""
    del_slave: Callable[[net_device, net_device], int] | None = None
    fill_slave: Callable[[net_device], dict[str, Any]] | None = None
    slave_policy: AttrTable = EMPTY
    slave_changelink: Callable[[net_device, Attrs], None] | None = None
    """`ip link set DEV type KIND_slave ...`; None: refused."""
    fdb_add: Callable[[net_device, Attrs, int, int, int], None] | None = None
    """`bridge fdb add ... self`: (device, NDA_*, state, NTF_*, NLM_F_*)."""
    fdb_del: Callable[[net_device, Attrs], None] | None = None
    fdb_dump: Callable[[net_device], list[Any]] | None = None
    """For each entry the state, flags, attributes, and times of use and change, ns."""

    @property
    def kind(self) -> str:
        """IFLA_INFO_KIND."""
        return self.ops.kind


def lower_link(net: Net, tb: Attrs, unnamed: str = "", unknown: str = "") -> net_device:
    """The device of IFLA_LINK, which the kind needs. Raises: NlError EINVAL, ENODEV."""
    if "IFLA_LINK" not in tb:
        raise NlError(errno.EINVAL, unnamed)
    lower = net.dev_by_index.get(tb["IFLA_LINK"])
    if lower is None:
        raise NlError(errno.ENODEV, unknown)
    return lower


def link_name(tb: Attrs, kind: str) -> str:
    """The name of a new device, or the pattern of its kind. Raises: NlError EINVAL."""
    name: str = tb.get("IFLA_IFNAME", f"{kind}%d")
    if not name or "/" in name or any(c.isspace() for c in name) or name in (".", ".."):
        raise tb.wrong("IFLA_IFNAME", f"{name!r} is no name of an interface")
    return name
