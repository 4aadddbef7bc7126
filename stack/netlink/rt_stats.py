"""net/core/rtnetlink.c: RTM_GETSTATS, statistics of interfaces: `ip stats`."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

from stack.core.dev import dev_get_stats
from stack.core.netdevice import net_device
from stack.core.uapi import AF_UNSPEC, RTM_NEWSTATS
from stack.netlink.af_netlink import netlink_reply, nlmsg_part
from stack.netlink.netlink_sock import NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import NESTED, STRICT, U8, U32, UNSPEC, Attr, AttrTable, NlError
from stack.netlink.rt_link import COUNTERS, STATS64, device_of, for_each_netdev_dump, header

IF_STATS_MSG = struct.Struct("=BBHII")

L3_STATS = AttrTable(
    "IFLA_OFFLOAD_XSTATS_HW_S_INFO",
    Attr("IFLA_OFFLOAD_XSTATS_HW_S_INFO_REQUEST", 1, U8),
    Attr("IFLA_OFFLOAD_XSTATS_HW_S_INFO_USED", 2, U8),
)
HW_S_INFO_KINDS = AttrTable(
    "IFLA_OFFLOAD_XSTATS_HW_S_INFO of kinds",
    Attr("IFLA_OFFLOAD_XSTATS_L3_STATS", 3, NESTED, inner=L3_STATS, flagged=True),
)
OFFLOAD_XSTATS = AttrTable(
    "IFLA_OFFLOAD_XSTATS",
    Attr("IFLA_OFFLOAD_XSTATS_HW_S_INFO", 2, NESTED, flagged=True, inner=HW_S_INFO_KINDS),
    last=3,
)
IFLA_STATS = AttrTable(
    "IFLA_STATS",
    Attr("IFLA_STATS_LINK_64", 1, UNSPEC),
    Attr("IFLA_STATS_LINK_OFFLOAD_XSTATS", 4, NESTED, inner=OFFLOAD_XSTATS),
    Attr("IFLA_STATS_AF_SPEC", 5, UNSPEC),
)
FILTERS = AttrTable(
    "IFLA_STATS_GET_FILTERS",
    Attr("IFLA_STATS_LINK_OFFLOAD_XSTATS", 4, U32, mask=0b1111),
    last=5,
)
GETSET = AttrTable(
    "IFLA_STATS_GETSET",
    Attr("IFLA_STATS_GET_FILTERS", 1, NESTED, inner=FILTERS, policed=True),
    last=2,
)
LINK_64, OFFLOAD, AF_SPEC = 1 << 0, 1 << 3, 1 << 4
"""IFLA_STATS_FILTER_BIT of the supported groups; bridges and bonds have no LINK_XSTATS."""
HW_S_INFO = 1 << 1


def rtnl_valid_stats_req(nlh: nlmsg, dump: bool) -> tuple[int, int, int]:
    """net/core/rtnetlink.c: (index, groups, kinds of offloaded counts) of a request.

    Raises: NlError EINVAL, ENODEV.
    """
    _, pad1, pad2, index, mask = header(nlh, IF_STATS_MSG, "Invalid header for stats dump")
    if nlh.sk.strict_chk:
        if pad1 or pad2 or (dump and index):
            raise NlError(errno.EINVAL, "Invalid values in header for stats dump request")
        if mask >= 1 << IFLA_STATS.last:
            raise NlError(errno.EINVAL, "Invalid stats requested through filter mask")
    if not dump:
        if not index:
            raise NlError(errno.EINVAL)
        device_of(nlh.sk.net, index)
    if not mask:
        what = "dump" if dump else "get"
        raise NlError(errno.EINVAL, f"Filter mask must be set for stats {what}")
    tb = GETSET.parse(nlh.whole, NLMSG_HDRLEN + IF_STATS_MSG.size, STRICT)
    filters = tb.get("IFLA_STATS_GET_FILTERS", {})
    if filters and not mask & OFFLOAD:
        raise NlError(errno.EINVAL, "Filtered attribute not enabled in filter_mask")
    return index, mask, filters.get("IFLA_STATS_LINK_OFFLOAD_XSTATS", 0xFFFFFFFF)


def rtnl_fill_statsinfo(dev: net_device, mask: int, offload: int) -> bytes:
    """net/core/rtnetlink.c: struct if_stats_msg and the requested groups of an interface."""
    counters = dev_get_stats(dev)
    # No device here has offload counters in hardware.
    unused = {"IFLA_OFFLOAD_XSTATS_HW_S_INFO_REQUEST": 0, "IFLA_OFFLOAD_XSTATS_HW_S_INFO_USED": 0}
    kinds = {"IFLA_OFFLOAD_XSTATS_L3_STATS": unused}
    xstats = {"IFLA_OFFLOAD_XSTATS_HW_S_INFO": kinds} if offload & HW_S_INFO else None
    return IF_STATS_MSG.pack(AF_UNSPEC, 0, 0, dev.ifindex, mask) + IFLA_STATS.build(
        {
            "IFLA_STATS_LINK_64": STATS64.pack(*(getattr(counters, name) for name in COUNTERS))
            if mask & LINK_64
            else None,
            "IFLA_STATS_LINK_OFFLOAD_XSTATS": xstats if mask & OFFLOAD else None,
            "IFLA_STATS_AF_SPEC": b"" if mask & AF_SPEC else None,
        }
    )


def rtnl_stats_get(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: RTM_GETSTATS of one interface. Raises: NlError."""
    index, mask, offload = rtnl_valid_stats_req(nlh, dump=False)
    dev = device_of(nlh.sk.net, index)
    netlink_reply(nlh, RTM_NEWSTATS, rtnl_fill_statsinfo(dev, mask, offload))


def rtnl_stats_dump(nlh: nlmsg) -> Iterator[bytes]:
    """net/core/rtnetlink.c: RTM_GETSTATS of all interfaces. Raises: NlError."""
    _, mask, offload = rtnl_valid_stats_req(nlh, dump=True)
    for dev in for_each_netdev_dump(nlh):
        yield nlmsg_part(nlh, RTM_NEWSTATS, rtnl_fill_statsinfo(dev, mask, offload))
