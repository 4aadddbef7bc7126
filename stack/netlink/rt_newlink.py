"""net/core/rtnetlink.c: RTM_NEWLINK: change a device, or create one of KINDS."""

from __future__ import annotations

import errno

from stack.core.errors import check
from stack.core.netdevice import net_device
from stack.core.rtnetlink import rtnl_delete_link
from stack.core.uapi import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, RTM_NEWLINK
from stack.net import Net
from stack.netlink.af_netlink import netlink_reply
from stack.netlink.netlink_sock import NLM_F_ECHO, nlmsg
from stack.netlink.nlattr import LIBERAL, Attrs, AttrTable, NlError
from stack.netlink.rt_attrs import IFINFOMSG, IFLA
from stack.netlink.rt_kind_row import link_kind
from stack.netlink.rt_kinds import KINDS, link_kind_of
from stack.netlink.rt_link import (
    do_set_master,
    do_setlink,
    nlmsg_parse,
    no_namespaces,
    rtnl_fill_ifinfo,
)

LATER = (
    "IFLA_MTU", "IFLA_GROUP", "IFLA_TXQLEN", "IFLA_AF_SPEC",
    "IFLA_GSO_MAX_SIZE", "IFLA_GSO_MAX_SEGS", "IFLA_GRO_MAX_SIZE",
)  # fmt: skip
MAX_QUEUES = 4096


def rtnl_newlink(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: RTM_NEWLINK: change an interface, or create one."""
    net = nlh.sk.net
    (_, _, index, flags, mask), tb = nlmsg_parse(nlh, IFINFOMSG, IFLA)
    no_namespaces(tb)
    if "IFLA_TARGET_NETNSID" in tb:
        raise NlError(errno.EINVAL)
    if "IFLA_LINK_NETNSID" in tb:
        raise NlError(errno.EINVAL, "Unknown network namespace id")
    info: Attrs = tb.get("IFLA_LINKINFO") or Attrs()
    row = KINDS.get(info.get("IFLA_INFO_KIND", ""))
    data = None
    if row is not None:
        data = nested(nlh, info, "IFLA_INFO_DATA", row.policy)
        row.validate(tb, data)
    if index < 0:
        raise NlError(errno.EINVAL, "ifindex can't be negative")
    dev, named = None, tb.get("IFLA_IFNAME", tb.get("IFLA_ALT_IFNAME"))
    if index:
        dev = net.dev_by_index.get(index)
    elif named is not None:
        dev = net.dev_by_name.get(named)
    if dev is not None:
        rtnl_changelink(nlh, dev, tb, info, row, data)
        do_setlink(dev, flags, mask, tb)
        return
    if not nlh.flags & NLM_F_CREATE:
        if index or named is not None or "IFLA_GROUP" not in tb:
            raise NlError(errno.ENODEV)
        for member in tuple(net.dev_base_head):  # rtnl_group_changelink
            if member.group == tb["IFLA_GROUP"]:
                do_setlink(member, flags, mask, tb)
        return
    if "IFLA_MAP" in tb or "IFLA_PROTINFO" in tb:
        raise NlError(errno.EOPNOTSUPP)
    if row is None:
        raise NlError(errno.EOPNOTSUPP, "Unknown device type")
    dev = rtnl_newlink_create(net, row, tb, data or Attrs())
    configure(dev, flags, mask, tb)
    if nlh.flags & NLM_F_ECHO:
        netlink_reply(nlh, RTM_NEWLINK, rtnl_fill_ifinfo(dev, change=0xFFFFFFFF))


def nested(nlh: nlmsg, info: Attrs, name: str, policy: AttrTable) -> Attrs | None:
    """Parse IFLA_INFO_DATA or IFLA_INFO_SLAVE_DATA; None: absent. Raises: NlError."""
    if name not in info:
        return None
    at, end = info.span(name)
    return policy.parse(nlh.whole, at, LIBERAL, end)


def rtnl_changelink(
    nlh: nlmsg,
    dev: net_device,
    tb: Attrs,
    info: Attrs,
    row: link_kind | None,
    data: Attrs | None,
) -> None:
    """net/core/rtnetlink.c: `ip link set DEV type KIND ...`. Raises: NlError."""
    if nlh.flags & NLM_F_EXCL:
        raise NlError(errno.EEXIST)
    if nlh.flags & NLM_F_REPLACE:
        raise NlError(errno.EOPNOTSUPP)
    if "IFLA_INFO_DATA" in info:
        if row is None or row is not link_kind_of(dev) or row.changelink is None:
            raise NlError(errno.EOPNOTSUPP)
        row.changelink(dev, tb, data or Attrs())
    if "IFLA_INFO_SLAVE_DATA" in info:
        master = link_kind_of(dev.master) if dev.master is not None else None
        if master is None or master.slave_changelink is None:
            raise NlError(errno.EOPNOTSUPP)
        given = nested(nlh, info, "IFLA_INFO_SLAVE_DATA", master.slave_policy) or Attrs()
        master.slave_changelink(dev, given)


def rtnl_newlink_create(net: Net, row: link_kind, tb: Attrs, data: Attrs) -> net_device:
    """net/core/rtnetlink.c: create a device of a kind. Raises: OSError."""
    for name in ("IFLA_NUM_TX_QUEUES", "IFLA_NUM_RX_QUEUES"):
        if not 1 <= tb.get(name, 1) <= MAX_QUEUES:
            which = "transmit" if name == "IFLA_NUM_TX_QUEUES" else "receive"
            raise NlError(errno.EINVAL, f"Invalid number of {which} queues")
    if row.newlink is None:
        raise NlError(errno.EOPNOTSUPP)
    try:
        return row.newlink(net, tb, data)
    except ValueError as exc:
        raise NlError(errno.EINVAL, str(exc)) from None


def configure(dev: net_device, flags: int, mask: int, tb: Attrs) -> None:
    """Set a new device's common attributes; on failure the device is deleted."""
    rest = Attrs()
    rest.at = tb.at
    rest.update({name: tb[name] for name in LATER if name in tb})
    try:
        do_setlink(dev, flags, mask, rest)
        if "IFLA_MASTER" in tb:
            do_set_master(dev, tb["IFLA_MASTER"])
    except OSError:
        check(rtnl_delete_link(dev))
        raise
