"""net/ethtool/*.c: GET of the ethtool family: one function for each message.

`linkinfo(dev, want)` and others read the driver by stack.core.ethtool and return the attributes of
the answer by name, without the header. `want.compact` selects the format of bit sets,
`want.stats` whether statistics are included. An unsupported operation of a driver is OSError
EOPNOTSUPP.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from stack.core import ethtool as core
from stack.core.ethtool_names import (
    ETH_SS_COUNT,
    ETH_SS_MSG_CLASSES,
    ETH_SS_SOF_TIMESTAMPING,
    ETH_SS_STATS_STD,
    ETH_SS_WOL_MODES,
    FEATURES,
    LINK_MODES,
    NEVER_CHANGE,
    STRING_SETS,
    features_of,
)
from stack.core.netdevice import net_device
from stack.netlink.ethnl_attrs import STATS_GRP, STRING_TOLD, STRINGSET, STRINGSET_TOLD
from stack.netlink.ethnl_bitset import ethnl_parse_bitset, ethnl_put_bitset
from stack.netlink.netlink_sock import nlmsg
from stack.netlink.nlattr import (
    NLA_F_NESTED,
    NLA_HDRLEN,
    NLA_TYPE_MASK,
    STRICT,
    Attrs,
    NlError,
    nest,
    nla_for_each,
)

Told = dict[str, Any]
NESTED_1 = 1 | NLA_F_NESTED
ALL_FEATURES = (1 << len(FEATURES)) - 1
PER_DEVICE = (core.ETH_SS_TEST, core.ETH_SS_STATS, 2, 7)
"""Driver-specific sets of strings."""


@dataclass(slots=True)
class Wanted:
    """A request's options besides the interface; `nlh` None: a notification."""

    compact: bool = False
    stats: bool = False
    tb: Attrs | None = None
    nlh: nlmsg | None = None


def link_settings(dev: net_device) -> core.ethtool_link_ksettings:
    """The driver's settings. Raises: NlError EOPNOTSUPP."""
    try:
        return core.ethtool_get_settings(dev)
    except OSError as error:
        text = "failed to retrieve link settings"
        raise NlError(error.errno or errno.EIO, text) from error


# --- settings -----------------------------------------------------------------------------------


def linkinfo(dev: net_device, want: Wanted) -> Told:
    """net/ethtool/linkinfo.c."""
    link = link_settings(dev)
    return {
        "PORT": core.PORTS[link.port],
        "PHYADDR": link.phy_address,
        "TP_MDIX": link.eth_tp_mdix,
        "TP_MDIX_CTRL": link.eth_tp_mdix_ctrl if link.supported else core.ETH_TP_MDI_INVALID,
        "TRANSCEIVER": 0,
    }


def linkmodes(dev: net_device, want: Wanted) -> Told:
    """net/ethtool/linkmodes.c."""
    link = link_settings(dev)
    offered, supported = core.mode_bits(link)
    size = len(LINK_MODES)
    return {
        "AUTONEG": int(link.autoneg),
        "OURS": ethnl_put_bitset(offered, supported, size, LINK_MODES, want.compact),
        "SPEED": link.speed & 0xFFFFFFFF,
        "DUPLEX": link.duplex,
        "RATE_MATCHING": 0,
    }


def linkstate(dev: net_device, want: Wanted) -> Told:
    """net/ethtool/linkstate.c."""
    return {"LINK": int(core.ethtool_get_link(dev))}


def debug(dev: net_device, want: Wanted) -> Told:
    """net/ethtool/debug.c."""
    ops = dev.ethtool_ops
    if ops is None or ops.get_msglevel is None:
        raise NlError(errno.EOPNOTSUPP)
    level = ops.get_msglevel(dev)
    names = STRING_SETS[ETH_SS_MSG_CLASSES]
    return {"MSGMASK": ethnl_put_bitset(level, None, len(names), names, want.compact)}


def wol(dev: net_device, want: Wanted) -> Told:
    """net/ethtool/wol.c."""
    found, names = core.ethtool_get_wol(dev), STRING_SETS[ETH_SS_WOL_MODES]
    modes = ethnl_put_bitset(found.wolopts, found.supported, len(names), names, want.compact)
    return {"MODES": modes}


def feature_set(value: int, mask: int | None, compact: bool) -> bytes:
    """A set of features; Linux's bits."""
    return ethnl_put_bitset(value, mask, len(FEATURES), FEATURES, compact)


def features(dev: net_device, want: Wanted) -> Told:
    """net/ethtool/features.c."""
    return {
        "HW": feature_set(features_of(dev.hw_features), ALL_FEATURES, want.compact),
        "WANTED": feature_set(features_of(dev.wanted_features), None, want.compact),
        "ACTIVE": feature_set(features_of(dev.features), None, want.compact),
        "NOCHANGE": feature_set(NEVER_CHANGE, None, want.compact),
    }


def rings(dev: net_device, want: Wanted) -> Told:
    """net/ethtool/rings.c."""
    ring = core.ethtool_get_ringparam(dev)
    told: Told = {}
    if ring.rx_max_pending:
        told |= {"RX_MAX": ring.rx_max_pending, "RX": ring.rx_pending}
    if ring.tx_max_pending:
        told |= {"TX_MAX": ring.tx_max_pending, "TX": ring.tx_pending}
    return told | {"TX_PUSH": 0, "RX_PUSH": 0}


def coalesce(dev: net_device, want: Wanted) -> Told:
    """net/ethtool/coalesce.c: drivers here have rx-usecs."""
    return {"RX_USECS": core.ethtool_get_coalesce(dev).rx_coalesce_usecs}


def pause(dev: net_device, want: Wanted) -> Told:
    """net/ethtool/pause.c."""
    found = core.ethtool_get_pauseparam(dev)
    told: Told = {
        "AUTONEG": int(found.autoneg),
        "RX": int(found.rx_pause),
        "TX": int(found.tx_pause),
    }
    if want.stats:
        told |= {"STATS": b"", "STATS_SRC": 0}
    return told


def tsinfo(dev: net_device, want: Wanted) -> Told:
    """net/ethtool/tsinfo.c: time stamps in software; no interface has a clock."""
    stamps, names = core.ethtool_get_ts_info(dev), STRING_SETS[ETH_SS_SOF_TIMESTAMPING]
    told: Told = {"TIMESTAMPING": ethnl_put_bitset(stamps, None, len(names), names, want.compact)}
    return told | ({"STATS": b""} if want.stats else {})


def header_only(dev: net_device, want: Wanted) -> Told:
    """PHC_VCLOCKS_GET, MODULE_GET: empty for an interface without a clock or a
    module."""
    return {}


def unsupported(dev: net_device, want: Wanted) -> Told:
    """Not supported by any driver here. Raises: NlError EOPNOTSUPP."""
    raise NlError(errno.EOPNOTSUPP)


def module_eeprom(dev: net_device, want: Wanted) -> Told:
    """net/ethtool/eeprom.c: no NIC here has a module. Raises: NlError."""
    assert want.tb is not None
    needed = ("OFFSET", "LENGTH", "PAGE", "I2C_ADDRESS")
    raise NlError(errno.EOPNOTSUPP if all(one in want.tb for one in needed) else errno.EINVAL)


# --- statistics and strings -----------------------------------------------------------------------


def stats(dev: net_device, want: Wanted) -> Told:
    """net/ethtool/stats.c: the requested groups, empty: drivers here have none of them."""
    wanted = stats_groups(want)
    groups = [
        STATS_GRP.build({"ID": number, "SS_ID": ETH_SS_STATS_STD + 1 + number})
        for number in range(len(STRING_SETS[ETH_SS_STATS_STD]))
        if wanted >> number & 1
    ]
    return {"GRP": groups}


def stats_groups(want: Wanted) -> int:
    """net/ethtool/stats.c stats_parse_request: the groups. Raises: NlError EINVAL."""
    assert want.tb is not None
    assert want.nlh is not None
    names = STRING_SETS[ETH_SS_STATS_STD]
    if "GROUPS" not in want.tb:
        raise NlError(errno.EINVAL, missing=3)
    value, mask = ethnl_parse_bitset(want.nlh, want.tb, "GROUPS", len(names), names)
    if not value & mask:
        raise NlError(errno.EINVAL, "no stats requested")
    return value & mask


def strings_of(dev: net_device | None, number: int) -> list[str] | tuple[str, ...]:
    """net/ethtool/strset.c: the strings of a set; none if the driver has none."""
    if number not in PER_DEVICE:
        return STRING_SETS.get(number, ())
    ops = None if dev is None else dev.ethtool_ops
    if dev is None or ops is None or ops.get_strings is None or ops.get_sset_count is None:
        return ()
    return ops.get_strings(dev, number) if ops.get_sset_count(dev, number) > 0 else ()


def strset_ids(want: Wanted, dev: net_device | None) -> list[int]:
    """net/ethtool/strset.c strset_parse_request: the requested sets.

    Raises: NlError EOPNOTSUPP: no such set, EINVAL: a driver's set without an interface.
    """
    assert want.tb is not None
    assert want.nlh is not None
    if "STRINGSETS" not in want.tb:
        if dev is not None:
            return list(PER_DEVICE)
        return [number for number in range(ETH_SS_COUNT) if number in STRING_SETS]
    data, found = want.nlh.whole, set()
    for kind, at, end in nla_for_each(data, *want.tb.span("STRINGSETS")):
        if kind & NLA_TYPE_MASK != 1 or not kind & NLA_F_NESTED:
            text = "NLA_F_NESTED is missing" if kind & NLA_TYPE_MASK == 1 else ""
            raise NlError(errno.EINVAL, text, at if text else -1)
        one = STRINGSET.parse(data, at + NLA_HDRLEN, STRICT, end)
        if "ID" not in one:
            raise NlError(errno.EINVAL)
        if one["ID"] >= ETH_SS_COUNT:
            raise NlError(errno.EOPNOTSUPP, "unknown string set id", at)
        found.add(one["ID"])
    if dev is None and any(number in PER_DEVICE for number in found):
        raise NlError(errno.EINVAL, "requested per device strings without dev")
    return sorted(found)


def strset(dev: net_device | None, want: Wanted) -> Told:
    """net/ethtool/strset.c."""
    assert want.tb is not None
    sets = b""
    for number in strset_ids(want, dev):
        names = strings_of(dev, number)
        if not names:
            if number not in PER_DEVICE:
                raise NlError(errno.EOPNOTSUPP)
            continue
        rows = [STRING_TOLD.build({"INDEX": at, "VALUE": name}) for at, name in enumerate(names)]
        listed = b"".join([nest(NESTED_1, row) for row in rows])
        told = {
            "ID": number,
            "COUNT": len(names),
            "STRINGS": None if "COUNTS_ONLY" in want.tb else listed,
        }
        sets += nest(NESTED_1, STRINGSET_TOLD.build(told))
    return {"STRINGSETS": sets}
