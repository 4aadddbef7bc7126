"""net/core/rtnetlink.c: RTM_NEWLINK: new devices of software: dummy, veth, bridge, vlan."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from stack.bridge.br_if import br_add_bridge
from stack.bridge.br_private import net_bridge
from stack.core.dev import dev_set_mtu
from stack.core.netdevice import ETH_P_8021Q, net_device
from stack.core.rtnetlink import rtnl_delete_link
from stack.drivers.dummy import dummy_newlink
from stack.drivers.veth import veth_newlink
from stack.netlink.netlink_sock import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import Attrs, NlError
from stack.netlink.rt_attrs import BR, IFINFOMSG, IFLA, VETH, VLAN
from stack.netlink.rt_link import BR_TICK_NS, check, do_set_master, do_setlink, header
from stack.vlan.vlan import vlan_newlink
from stack.vlan.vlan_dev import VLAN_FLAG_REORDER_HDR

if TYPE_CHECKING:
    from stack.net import Net

LATER = ("IFLA_MTU", "IFLA_TXQLEN", "IFLA_AF_SPEC")
VLAN_FLAGS = struct.Struct("=II")


def link_name(tb: Attrs, kind: str) -> str:
    """The name of a new device, or the pattern of its kind. Raises: NlError EINVAL."""
    name: str = tb.get("IFLA_IFNAME") or f"{kind}%d"
    if "/" in name or any(c.isspace() for c in name) or name in (".", ".."):
        raise tb.wrong("IFLA_IFNAME", f"{name!r} is no name of an interface")
    return name


def new_dummy(net: Net, tb: Attrs, data: bytes) -> net_device:
    """drivers/net/dummy.c."""
    return dummy_newlink(net, link_name(tb, "dummy"), tb.get("IFLA_ADDRESS"))


def new_bridge(net: Net, tb: Attrs, data: bytes) -> net_device:
    """net/bridge/br_netlink.c br_dev_newlink."""
    given = BR.parse(data)
    dev = br_add_bridge(net, link_name(tb, "bridge"), tb.get("IFLA_ADDRESS"))
    br: net_bridge = dev.priv
    if "IFLA_BR_AGEING_TIME" in given:
        br.ageing_time = given["IFLA_BR_AGEING_TIME"] * BR_TICK_NS
    if "IFLA_BR_GROUP_FWD_MASK" in given:
        br.group_fwd_mask = given["IFLA_BR_GROUP_FWD_MASK"]
    br.fdb_max_learned = given.get("IFLA_BR_FDB_MAX_LEARNED", 0)
    return dev


def new_vlan(net: Net, tb: Attrs, data: bytes) -> net_device:
    """net/8021q/vlan_netlink.c vlan_newlink."""
    given = VLAN.parse(data)
    if "IFLA_VLAN_ID" not in given:
        raise NlError(errno.EINVAL, "VLAN id not specified")
    if "IFLA_LINK" not in tb:
        raise NlError(errno.EINVAL, "link not specified")
    real = net.dev_by_index.get(tb["IFLA_LINK"])
    if real is None:
        raise NlError(errno.ENODEV, "link does not exist")
    proto = given.get("IFLA_VLAN_PROTOCOL", ETH_P_8021Q)
    flags = VLAN_FLAG_REORDER_HDR
    if "IFLA_VLAN_FLAGS" in given:
        value, mask = VLAN_FLAGS.unpack_from(given["IFLA_VLAN_FLAGS"])
        flags = flags & ~mask | value & mask
    name = link_name(tb, f"{real.name}.{given['IFLA_VLAN_ID']}".replace("%", ""))
    name = name.removesuffix("%d") if "IFLA_IFNAME" not in tb else name
    mtu, mac = tb.get("IFLA_MTU", 0), tb.get("IFLA_ADDRESS")
    return vlan_newlink(net, name, real, given["IFLA_VLAN_ID"], proto, flags, mtu, mac)


def new_veth(net: Net, tb: Attrs, data: bytes) -> net_device:
    """drivers/net/veth.c veth_newlink: both ends, in one namespace."""
    given = VETH.parse(data)
    peer = Attrs()
    if "VETH_INFO_PEER" in given:
        peer = IFLA.parse(given["VETH_INFO_PEER"], IFINFOMSG.size)
    name, other = link_name(tb, "veth"), link_name(peer, "veth")
    macs = tb.get("IFLA_ADDRESS"), peer.get("IFLA_ADDRESS")
    dev = veth_newlink(net, name, net, other, *macs)
    end: net_device = dev.priv.peer
    if "IFLA_MTU" in peer:
        check(dev_set_mtu(end, peer["IFLA_MTU"]), f"{end.name}: mtu")
    return dev


KINDS: dict[str, Callable[[Net, Attrs, bytes], net_device]] = {
    "dummy": new_dummy,
    "bridge": new_bridge,
    "vlan": new_vlan,
    "veth": new_veth,
}
"""rtnl_link_ops.newlink by kind. Each may raise OSError and ValueError."""


def rtnl_newlink(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: RTM_NEWLINK: change an interface, or make one."""
    net = nlh.sk.net
    _, _, index, flags, mask = header(nlh, IFINFOMSG)
    tb = IFLA.parse(nlh.whole, NLMSG_HDRLEN + 16)
    if "IFLA_NET_NS_PID" in tb:
        raise tb.wrong("IFLA_NET_NS_PID", "programs have no namespaces of a host", errno.ESRCH)
    if "IFLA_NET_NS_FD" in tb:
        raise tb.wrong("IFLA_NET_NS_FD", "no descriptor is a namespace of a host", errno.EBADF)
    for name in ("IFLA_LINK_NETNSID", "IFLA_TARGET_NETNSID"):
        if name in tb:
            raise tb.wrong(name, "Unknown network namespace id")
    if index < 0:
        raise NlError(errno.EINVAL, "ifindex can't be negative")
    dev = None
    if index:
        dev = net.dev_by_index.get(index)
    elif "IFLA_IFNAME" in tb:
        dev = net.dev_by_name.get(tb["IFLA_IFNAME"])
    if dev is not None:
        if nlh.flags & NLM_F_EXCL:
            raise NlError(errno.EEXIST)
        if nlh.flags & NLM_F_REPLACE:
            raise NlError(errno.EOPNOTSUPP)
        do_setlink(dev, flags, mask, tb)
        return
    if not nlh.flags & NLM_F_CREATE:
        raise NlError(errno.ENODEV)
    info = tb.get("IFLA_LINKINFO", {})
    kind = info.get("IFLA_INFO_KIND", "")
    new = KINDS.get(kind)
    if new is None:
        raise NlError(errno.EOPNOTSUPP, "Unknown device type")
    try:
        dev = new(net, tb, info.get("IFLA_INFO_DATA", b""))
    except ValueError as exc:
        raise NlError(errno.EINVAL, str(exc)) from None
    configure(dev, flags, mask, tb)


def configure(dev: net_device, flags: int, mask: int, tb: Attrs) -> None:
    """What a new device gets besides its kind; where that fails, the device goes again."""
    rest = Attrs()
    rest.at = tb.at
    rest.update({name: tb[name] for name in LATER if name in tb})
    try:
        do_setlink(dev, flags, mask, rest)
        if "IFLA_MASTER" in tb:
            do_set_master(dev, tb)
    except OSError:
        rtnl_delete_link(dev)
        raise
