"""drivers/net/bonding/bond_netlink.c: IFLA_BOND_* and IFLA_BOND_SLAVE_*: the kind `bond`."""

from __future__ import annotations

import errno
from typing import Any

from stack.bonding.bond_3ad import bond_active_aggregator
from stack.bonding.bond_main import bond_create, bond_enslave, bond_link_ops, bond_release
from stack.bonding.bond_options import (
    bond_opt_set,
    bond_option_active_slave_set,
    bond_option_ad_actor_system_set,
    bond_option_primary_set,
    bond_option_prio_set,
)
from stack.bonding.bonding import (
    BOND_MODE_8023AD,
    BondError,
    bond_slave_get,
    bond_uses_primary,
    bonding,
)
from stack.core.netdevice import ETH_ALEN, net_device
from stack.net import Net
from stack.netlink.nlattr import BINARY, NESTED, S32, U8, U16, U32, Attr, Attrs, AttrTable, NlError
from stack.netlink.rt_kind_row import link_kind, link_name

AD_INFO = AttrTable(
    "IFLA_BOND_AD_INFO",
    Attr("IFLA_BOND_AD_INFO_AGGREGATOR", 1, U16),
    Attr("IFLA_BOND_AD_INFO_NUM_PORTS", 2, U16),
    Attr("IFLA_BOND_AD_INFO_ACTOR_KEY", 3, U16),
    Attr("IFLA_BOND_AD_INFO_PARTNER_KEY", 4, U16),
    Attr("IFLA_BOND_AD_INFO_PARTNER_MAC", 5, BINARY, ETH_ALEN),
)
BOND = AttrTable(
    "IFLA_BOND",
    Attr("IFLA_BOND_MODE", 1, U8),
    Attr("IFLA_BOND_ACTIVE_SLAVE", 2, U32),
    Attr("IFLA_BOND_MIIMON", 3, U32),
    Attr("IFLA_BOND_UPDELAY", 4, U32),
    Attr("IFLA_BOND_DOWNDELAY", 5, U32),
    Attr("IFLA_BOND_PEER_NOTIF_DELAY", 28, U32, legal=range(300_001)),
    Attr("IFLA_BOND_USE_CARRIER", 6, U8),
    Attr("IFLA_BOND_ARP_INTERVAL", 7, U32),
    Attr("IFLA_BOND_ARP_IP_TARGET", 8, NESTED),
    Attr("IFLA_BOND_NS_IP6_TARGET", 31, NESTED),
    Attr("IFLA_BOND_ARP_VALIDATE", 9, U32),
    Attr("IFLA_BOND_ARP_ALL_TARGETS", 10, U32),
    Attr("IFLA_BOND_PRIMARY", 11, U32),
    Attr("IFLA_BOND_PRIMARY_RESELECT", 12, U8),
    Attr("IFLA_BOND_FAIL_OVER_MAC", 13, U8),
    Attr("IFLA_BOND_XMIT_HASH_POLICY", 14, U8),
    Attr("IFLA_BOND_RESEND_IGMP", 15, U32),
    Attr("IFLA_BOND_NUM_PEER_NOTIF", 16, U8),
    Attr("IFLA_BOND_ALL_SLAVES_ACTIVE", 17, U8),
    Attr("IFLA_BOND_MIN_LINKS", 18, U32),
    Attr("IFLA_BOND_LP_INTERVAL", 19, U32),
    Attr("IFLA_BOND_PACKETS_PER_SLAVE", 20, U32),
    Attr("IFLA_BOND_AD_LACP_ACTIVE", 29, U8),
    Attr("IFLA_BOND_AD_LACP_RATE", 21, U8),
    Attr("IFLA_BOND_AD_SELECT", 22, U8),
    Attr("IFLA_BOND_AD_ACTOR_SYS_PRIO", 24, U16),
    Attr("IFLA_BOND_AD_USER_PORT_KEY", 25, U16),
    Attr("IFLA_BOND_AD_ACTOR_SYSTEM", 26, BINARY, ETH_ALEN),
    Attr("IFLA_BOND_TLB_DYNAMIC_LB", 27, U8),
    Attr("IFLA_BOND_MISSED_MAX", 30, U8),
    Attr("IFLA_BOND_COUPLED_CONTROL", 32, U8),
    Attr("IFLA_BOND_AD_INFO", 23, NESTED, inner=AD_INFO),
)
ORDER = tuple(name for name in BOND.by_name if name != "IFLA_BOND_AD_INFO")
"""The kernel sets options in this order, so the mode is set before its dependents."""
BOND_SLAVE = AttrTable(
    "IFLA_BOND_SLAVE",
    Attr("IFLA_BOND_SLAVE_STATE", 1, U8, told=True),
    Attr("IFLA_BOND_SLAVE_MII_STATUS", 2, U8, told=True),
    Attr("IFLA_BOND_SLAVE_LINK_FAILURE_COUNT", 3, U32, told=True),
    Attr("IFLA_BOND_SLAVE_PERM_HWADDR", 4, BINARY, told=True),
    Attr("IFLA_BOND_SLAVE_QUEUE_ID", 5, U16),
    Attr("IFLA_BOND_SLAVE_AD_AGGREGATOR_ID", 6, U16, told=True),
    Attr("IFLA_BOND_SLAVE_AD_ACTOR_OPER_PORT_STATE", 7, U8, told=True),
    Attr("IFLA_BOND_SLAVE_AD_PARTNER_OPER_PORT_STATE", 8, U16, told=True),
    Attr("IFLA_BOND_SLAVE_PRIO", 9, S32),
)
NAMES = {
    "IFLA_BOND_XMIT_HASH_POLICY": "xmit_policy",
    "IFLA_BOND_AD_LACP_RATE": "lacp_fast",
    "IFLA_BOND_AD_LACP_ACTIVE": "lacp_active",
}
"""Options with another name in bond_params."""
DEVICES = {
    "IFLA_BOND_ACTIVE_SLAVE": bond_option_active_slave_set,
    "IFLA_BOND_PRIMARY": bond_option_primary_set,
}
MONITORS = ("IFLA_BOND_ARP_INTERVAL", "IFLA_BOND_ARP_VALIDATE")
ACTOR = ("IFLA_BOND_AD_ACTOR_SYS_PRIO", "IFLA_BOND_AD_USER_PORT_KEY", "IFLA_BOND_AD_ACTOR_SYSTEM")
"""Reported for 802.3ad bonds only, after the others."""
TARGETS = ("IFLA_BOND_ARP_IP_TARGET", "IFLA_BOND_NS_IP6_TARGET")


def bond_new(net: Net, tb: Attrs, data: Attrs) -> net_device:
    """drivers/net/bonding/bond_netlink.c bond_newlink."""
    dev = bond_create(net, link_name(tb, "bond"), tb.get("IFLA_ADDRESS"))
    try:
        bond_changelink(dev, tb, data)
    except OSError:
        bond_link_ops.dellink(dev)
        raise
    return dev


def bond_changelink(dev: net_device, tb: Attrs, data: Attrs) -> None:
    """drivers/net/bonding/bond_netlink.c: set the options of the request. Raises: NlError."""
    bond: bonding = dev.priv
    miimon = data.get("IFLA_BOND_MIIMON", bond.params.miimon)
    for name in ORDER:
        if name not in data:
            continue
        if name in MONITORS and data[name] and miimon:
            raise data.wrong(name, "ARP monitoring cannot be used with MII monitoring")
        try:
            _set(bond, name, data)
        except BondError as exc:
            at = data.at.get(name, -1) if exc.text else -1
            raise NlError(exc.errno or 0, exc.text, at) from None


def _set(bond: bonding, name: str, data: Attrs) -> None:
    value = data[name]
    if name in TARGETS:
        if value:
            raise BondError(errno.EOPNOTSUPP, "ARP monitoring is not supported")
    elif name in DEVICES:
        dev = bond.dev.net.dev_by_index.get(value)
        if value and dev is None:
            raise BondError(errno.ENODEV, "")
        DEVICES[name](bond, dev)
    elif name == "IFLA_BOND_AD_ACTOR_SYSTEM":
        if len(value) != ETH_ALEN:
            raise BondError(errno.EINVAL, "")
        bond_option_ad_actor_system_set(bond, value)
    else:
        bond_opt_set(bond, option_name(name), value)


def option_name(name: str) -> str:
    """The option of an attribute."""
    return NAMES.get(name, name.removeprefix("IFLA_BOND_").lower())


def bond_fill_info(dev: net_device) -> dict[str, Any]:
    """drivers/net/bonding/bond_netlink.c."""
    bond: bonding = dev.priv
    params = bond.params
    active, primary = bond.curr_active_slave, bond.primary_slave
    uses = bond_uses_primary(bond)
    tick = params.miimon
    found: dict[str, Any] = {
        "IFLA_BOND_MODE": params.mode,
        "IFLA_BOND_ACTIVE_SLAVE": active.dev.ifindex if uses and active is not None else None,
        "IFLA_BOND_MIIMON": tick,
        "IFLA_BOND_UPDELAY": params.updelay * tick,
        "IFLA_BOND_DOWNDELAY": params.downdelay * tick,
        "IFLA_BOND_PEER_NOTIF_DELAY": params.peer_notif_delay * tick,
        "IFLA_BOND_USE_CARRIER": 1,
        "IFLA_BOND_ARP_INTERVAL": 0,
        "IFLA_BOND_ARP_VALIDATE": 0,
        "IFLA_BOND_ARP_ALL_TARGETS": 0,
        "IFLA_BOND_PRIMARY": primary.dev.ifindex if primary is not None else None,
    }
    told = [
        name for name in ORDER[ORDER.index("IFLA_BOND_PRIMARY_RESELECT") :] if name not in ACTOR
    ]
    if params.mode == BOND_MODE_8023AD:
        told += ACTOR
    found |= {name: getattr(params, option_name(name)) for name in told}
    if params.mode == BOND_MODE_8023AD:
        agg = bond_active_aggregator(bond)
        if agg is not None:
            found["IFLA_BOND_AD_INFO"] = {
                "IFLA_BOND_AD_INFO_AGGREGATOR": agg.aggregator_identifier,
                "IFLA_BOND_AD_INFO_NUM_PORTS": len(agg.lag_ports),
                "IFLA_BOND_AD_INFO_ACTOR_KEY": agg.actor_oper_aggregator_key,
                "IFLA_BOND_AD_INFO_PARTNER_KEY": agg.partner_oper_aggregator_key,
                "IFLA_BOND_AD_INFO_PARTNER_MAC": agg.partner_system,
            }
    return found


def bond_add_slave(master: net_device, dev: net_device) -> int:
    """drivers/net/bonding/bond_main.c ndo_add_slave."""
    try:
        return bond_enslave(master.priv, dev)
    except BondError as exc:
        raise NlError(exc.errno or 0, exc.text) from None


def bond_del_slave(master: net_device, dev: net_device) -> int:
    """drivers/net/bonding/bond_main.c ndo_del_slave."""
    return bond_release(master.priv, dev)


def bond_fill_slave_info(dev: net_device) -> dict[str, Any]:
    """drivers/net/bonding/bond_netlink.c."""
    one = bond_slave_get(dev)
    if one is None:
        return {}
    found: dict[str, Any] = {
        "IFLA_BOND_SLAVE_STATE": int(one.backup),
        "IFLA_BOND_SLAVE_MII_STATUS": one.link,
        "IFLA_BOND_SLAVE_LINK_FAILURE_COUNT": one.link_failure_count,
        "IFLA_BOND_SLAVE_PERM_HWADDR": one.perm_hwaddr,
        "IFLA_BOND_SLAVE_QUEUE_ID": 0,
        "IFLA_BOND_SLAVE_PRIO": one.prio,
    }
    if one.ad is not None:
        p = one.ad.port
        if p.aggregator is not None:
            found["IFLA_BOND_SLAVE_AD_AGGREGATOR_ID"] = p.aggregator.aggregator_identifier
        found["IFLA_BOND_SLAVE_AD_ACTOR_OPER_PORT_STATE"] = p.actor.port_state
        found["IFLA_BOND_SLAVE_AD_PARTNER_OPER_PORT_STATE"] = p.partner.port_state
    return found


def bond_slave_changelink(dev: net_device, data: Attrs) -> None:
    """drivers/net/bonding/bond_netlink.c. Raises: NlError."""
    one = bond_slave_get(dev)
    assert one is not None
    if data.get("IFLA_BOND_SLAVE_QUEUE_ID"):
        raise data.wrong("IFLA_BOND_SLAVE_QUEUE_ID", "invalid option value")
    if "IFLA_BOND_SLAVE_PRIO" in data:
        try:
            bond_option_prio_set(one.bond, one, data["IFLA_BOND_SLAVE_PRIO"])
        except BondError as exc:
            raise data.wrong("IFLA_BOND_SLAVE_PRIO", exc.text, exc.errno or 0) from None


BOND_ROW = link_kind(
    bond_link_ops,
    bond_new,
    BOND,
    changelink=bond_changelink,
    fill_info=bond_fill_info,
    add_slave=bond_add_slave,
    del_slave=bond_del_slave,
    fill_slave=bond_fill_slave_info,
    slave_policy=BOND_SLAVE,
    slave_changelink=bond_slave_changelink,
)
