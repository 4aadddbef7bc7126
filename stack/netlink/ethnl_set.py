"""net/ethtool/*.c: SET of the ethtool family: one function for each message.

`set_rings(nlh, dev, tb)` and others take the request's values, keep the others as they
are, and call the driver by stack.core.ethtool, which also notifies listeners. A request that
changes nothing does not reach the driver. Raises: NlError and the driver's errors.
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core import ethtool as core
from stack.core.dev import __netdev_update_features, netdev_features_change
from stack.core.ethtool_names import (
    ETH_SS_MSG_CLASSES,
    ETH_SS_WOL_MODES,
    FEATURES,
    LINK_MODES,
    NEVER_CHANGE,
    STRING_SETS,
    features_of,
    our_features,
)
from stack.core.netdevice import net_device
from stack.netlink.ethnl_attrs import COALESCE, RING_NEVER
from stack.netlink.ethnl_bitset import ethnl_parse_bitset
from stack.netlink.ethnl_get import ALL_FEATURES, feature_set, link_settings
from stack.netlink.netlink_sock import nlmsg
from stack.netlink.nlattr import Attrs, NlError

MASTER_SLAVE = range(2, 6)
"""MASTER_SLAVE_CFG_*."""
NAMELESS = ("Autoneg", *core.PORT_MODES.values())
"""Link modes that other members of a driver's settings report."""


def need(dev: net_device, *functions: str) -> None:
    """Functions of the driver's ethtool_ops. Raises: NlError EOPNOTSUPP: one or all are missing."""
    ops = dev.ethtool_ops
    if ops is None or any(getattr(ops, name) is None for name in functions):
        raise NlError(errno.EOPNOTSUPP)


def update_bitset(nlh: nlmsg, tb: Attrs, name: str, old: int, names: tuple[str, ...]) -> int:
    """net/ethtool/bitset.c ethnl_update_bitset: `old` with what the request changes."""
    if name not in tb:
        return old
    value, mask = ethnl_parse_bitset(nlh, tb, name, len(names), names)
    return old & ~mask | value & mask


# --- the link -----------------------------------------------------------------------------------


def apply_link(dev: net_device, link: core.ethtool_link_ksettings, told: str) -> None:
    """Pass settings to the driver. Raises: NlError."""
    try:
        core.ethtool_set_settings(dev, link, (told,))
    except OSError as error:
        raise NlError(error.errno or errno.EIO, "link settings update failed") from error


def set_linkinfo(nlh: nlmsg, dev: net_device, tb: Attrs) -> None:
    """net/ethtool/linkinfo.c: port, PHY and crossing are fixed."""
    need(dev, "get_link_ksettings", "set_link_ksettings")
    link = link_settings(dev)
    now = {
        "PORT": core.PORTS[link.port],
        "PHYADDR": link.phy_address,
        "TP_MDIX_CTRL": link.eth_tp_mdix_ctrl,
    }
    if all(tb.get(name, value) == value for name, value in now.items()):
        return
    link.eth_tp_mdix_ctrl = tb.get("TP_MDIX_CTRL", link.eth_tp_mdix_ctrl)
    if any(tb.get(name, now[name]) != now[name] for name in ("PORT", "PHYADDR")):
        raise NlError(errno.EINVAL, "link settings update failed")
    apply_link(dev, link, "linkinfo")


def set_linkmodes(nlh: nlmsg, dev: net_device, tb: Attrs) -> None:
    """net/ethtool/linkmodes.c: negotiation, speed, duplex, what is offered."""
    if tb.get("MASTER_SLAVE_CFG", MASTER_SLAVE[0]) not in MASTER_SLAVE:
        raise tb.wrong("MASTER_SLAVE_CFG", "master/slave value is invalid", errno.EOPNOTSUPP)
    need(dev, "get_link_ksettings", "set_link_ksettings")
    link = link_settings(dev)
    if "MASTER_SLAVE_CFG" in tb:
        text = "master/slave configuration not supported by device"
        raise tb.wrong("MASTER_SLAVE_CFG", text, errno.EOPNOTSUPP)
    if "LANES" in tb:
        raise tb.wrong("LANES", "lanes configuration not supported by device", errno.EOPNOTSUPP)
    before = (link.autoneg, link.speed, link.duplex)
    link.autoneg = bool(tb.get("AUTONEG", link.autoneg))
    offered, _ = core.mode_bits(link)
    wanted = update_bitset(nlh, tb, "OURS", offered, LINK_MODES)
    link.speed = tb.get("SPEED", link.speed & 0xFFFFFFFF)
    link.duplex = tb.get("DUPLEX", link.duplex)
    modes = [name for at, name in enumerate(LINK_MODES) if wanted >> at & 1]
    chosen = [name for name in modes if name not in NAMELESS]
    if "OURS" not in tb and link.autoneg and ("SPEED" in tb or "DUPLEX" in tb):
        chosen = auto_linkmodes(link, tb)
    if before == (link.autoneg, link.speed, link.duplex) and chosen == link.advertising:
        return
    link.advertising = chosen
    apply_link(dev, link, "linkmodes")


def auto_linkmodes(link: core.ethtool_link_ksettings, tb: Attrs) -> list[str]:
    """net/ethtool/linkmodes.c ethnl_auto_linkmodes: the modes with a speed and duplex."""
    found = []
    for name in link.supported:
        words, _, duplex = name.partition("/")
        speed = int(words.partition("base")[0])
        number = core.DUPLEX_FULL if duplex == "Full" else core.DUPLEX_HALF
        if tb.get("SPEED", speed) == speed and tb.get("DUPLEX", number) == number:
            found.append(name)
    return found


def set_debug(nlh: nlmsg, dev: net_device, tb: Attrs) -> None:
    """net/ethtool/debug.c: the driver's mask of messages."""
    need(dev, "get_msglevel", "set_msglevel")
    level = core.ethtool_get_msglevel(dev)
    wanted = update_bitset(nlh, tb, "MSGMASK", level, STRING_SETS[ETH_SS_MSG_CLASSES])
    if wanted != level:
        core.ethtool_set_msglevel(dev, wanted)


def set_wol(nlh: nlmsg, dev: net_device, tb: Attrs) -> None:
    """net/ethtool/wol.c: what wakes the machine."""
    need(dev, "get_wol", "set_wol")
    wol = core.ethtool_get_wol(dev)
    wanted = update_bitset(nlh, tb, "MODES", wol.wolopts, STRING_SETS[ETH_SS_WOL_MODES])
    if wanted & ~wol.supported:
        raise tb.wrong("MODES", "cannot enable unsupported WoL mode")
    if "SOPASS" in tb:
        raise tb.wrong("SOPASS", "magicsecure not supported, cannot set password")
    if wanted != wol.wolopts:
        core.ethtool_set_wol(dev, wanted)


# --- queues -------------------------------------------------------------------------------------

RING_TEXTS = {
    "TCP_DATA_SPLIT": "setting TCP data split is not supported",
    "TX_PUSH_BUF_LEN": "setting tx push buf len is not supported",
    "HDS_THRESH": "setting hds-thresh is not supported",
}


def set_rings(nlh: nlmsg, dev: net_device, tb: Attrs) -> None:
    """net/ethtool/rings.c: descriptors."""
    need(dev)
    for name in RING_NEVER:
        if name in tb:
            text = RING_TEXTS.get(name, f"setting {name.lower().replace('_', ' ')} not supported")
            raise tb.wrong(name, text, errno.EOPNOTSUPP)
    need(dev, "get_ringparam", "set_ringparam")
    ring = core.ethtool_get_ringparam(dev)
    most = {"RX": ring.rx_max_pending, "RX_MINI": 0, "RX_JUMBO": 0, "TX": ring.tx_max_pending}
    for name, limit in most.items():
        if tb.get(name, 0) > limit:
            raise tb.wrong(name, "requested ring size exceeds maximum")
    rx, tx = tb.get("RX", ring.rx_pending), tb.get("TX", ring.tx_pending)
    if (rx, tx) != (ring.rx_pending, ring.tx_pending):
        core.ethtool_set_ringparam(dev, rx=rx, tx=tx)


def set_coalesce(nlh: nlmsg, dev: net_device, tb: Attrs) -> None:
    """net/ethtool/coalesce.c: interrupt moderation."""
    need(dev, "get_coalesce", "set_coalesce")
    for row in COALESCE.by_number.values():
        if row.name in tb and row.name not in ("HEADER", "RX_USECS"):
            raise tb.wrong(row.name, "cannot modify an unsupported parameter")
    now = core.ethtool_get_coalesce(dev).rx_coalesce_usecs
    if tb.get("RX_USECS", now) != now:
        core.ethtool_set_coalesce(dev, rx_usecs=tb["RX_USECS"])


def set_pause(nlh: nlmsg, dev: net_device, tb: Attrs) -> None:
    """net/ethtool/pause.c: pause frames."""
    need(dev, "get_pauseparam", "set_pauseparam")
    now = core.ethtool_get_pauseparam(dev)
    old = {"AUTONEG": now.autoneg, "RX": now.rx_pause, "TX": now.tx_pause}
    new = {name: bool(tb.get(name, value)) for name, value in old.items()}
    if new != old:
        core.ethtool_set_pauseparam(dev, autoneg=new["AUTONEG"], rx=new["RX"], tx=new["TX"])


def set_privflags(nlh: nlmsg, dev: net_device, tb: Attrs) -> None:
    """net/ethtool/privflags.c: no driver here has any. Raises: NlError."""
    raise NlError(errno.EOPNOTSUPP if "FLAGS" in tb else errno.EINVAL)


def set_unsupported(nlh: nlmsg, dev: net_device, tb: Attrs) -> None:
    """Not supported by any driver here. Raises: NlError EOPNOTSUPP."""
    raise NlError(errno.EOPNOTSUPP)


# --- features -----------------------------------------------------------------------------------


def set_features(dev: net_device, nlh: nlmsg, tb: Attrs, compact: bool) -> dict[str, Any]:
    """net/ethtool/features.c: set offloads; returns the difference to the request, and changes."""
    if "WANTED" not in tb:
        raise NlError(errno.EINVAL, missing=3)
    value, mask = ethnl_parse_bitset(nlh, tb, "WANTED", len(FEATURES), FEATURES)
    if mask & NEVER_CHANGE:
        raise NlError(errno.EINVAL, "attempt to change non-ethtool features")
    old_active, old_wanted = features_of(dev.features), features_of(dev.wanted_features)
    wanted = value & mask | old_wanted & ~mask
    if wanted != old_wanted:
        ours = our_features(wanted) & dev.hw_features
        dev.wanted_features = dev.wanted_features & ~dev.hw_features | ours
        __netdev_update_features(dev)
    active = features_of(dev.features)
    unlike = (wanted ^ active) & mask & ALL_FEATURES
    changed = old_active ^ active
    if changed:
        netdev_features_change(dev)
    return {
        "WANTED": feature_set(wanted & unlike, unlike, compact),
        "ACTIVE": feature_set(active & changed, changed, compact),
    }
