"""net/ipv4/ipmr.c, net/ipv6/ip6mr.c: RTM_GETROUTE of RTNL_FAMILY_IPMR, IP6MR: `ip mroute`."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from stack.core.time64 import TICK_NS
from stack.core.uapi import RTM_NEWROUTE, RTN_MULTICAST, RTNH_F_UNRESOLVED
from stack.inet.ipmr_base import (
    MAXVIFS,
    MFC_STATIC,
    NEVER,
    RTNL_FAMILY_IPMR,
    mr_mfc,
    mr_mfc_find_parent,
    mr_report,
    mr_table,
    mr_unresolved,
)
from stack.ipv4.fib import RT_TABLE_DEFAULT
from stack.ipv6.ip6_fib import RT6_TABLE_MAIN
from stack.netlink.af_netlink import netlink_reply, nlmsg_part
from stack.netlink.netlink_sock import NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import DEPRECATED_STRICT, LIBERAL, STRICT, Attrs, NlError
from stack.netlink.rt_attrs import (
    CREPORT,
    MFC_STATS,
    MROUTE,
    MROUTE_GET,
    RTGENMSG,
    RTMSG,
    RTNEXTHOP,
)
from stack.netlink.rt_link import header, only

RTPROT_MROUTED, RTPROT_STATIC = 17, 4


def ipmr_fill_mroute(what: tuple[mr_table, mr_mfc]) -> bytes:
    """net/ipv4/ipmr.c ipmr_fill_mroute, ipmr_base.c mr_fill_mroute: struct rtmsg and attributes."""
    mrt, c = what
    size = 4 if mrt.ops.family == RTNL_FAMILY_IPMR else 16
    protocol = RTPROT_STATIC if c.mfc_flags & MFC_STATIC else RTPROT_MROUTED
    attrs: dict[str, Any] = {
        "RTA_TABLE": mrt.id,
        "RTA_SRC": c.origin.to_bytes(size, "big"),
        "RTA_DST": c.group.to_bytes(size, "big"),
    }
    resolved = 0 <= c.mfc_parent < MAXVIFS
    if resolved:
        vifs = mrt.vif_table
        dev = vifs[c.mfc_parent].dev
        attrs["RTA_IIF"] = dev.ifindex if dev is not None else None
        ways = [(c.ttls[at], vifs[at].dev) for at in range(c.minvif, c.maxvif)]
        attrs["RTA_MULTIPATH"] = b"".join(
            RTNEXTHOP.pack(RTNEXTHOP.size, 0, ttl, out.ifindex)
            for ttl, out in ways
            if out is not None and ttl < NEVER
        )
        attrs["RTA_MFC_STATS"] = MFC_STATS.pack(c.pkt, c.bytes, c.wrong_if)
        attrs["RTA_EXPIRES"] = max(mrt.net.now() - c.lastuse, 0) // TICK_NS
    flags = 0 if resolved else RTNH_F_UNRESOLVED
    bits = size * 8
    head = (mrt.ops.family, bits, bits, 0, mrt.id, protocol, 0, RTN_MULTICAST, flags)
    return RTMSG.pack(*head) + MROUTE.build(attrs)


def dump(nlh: nlmsg, mrt: mr_table | None) -> Iterator[bytes]:
    """net/ipv4/ipmr_base.c mr_table_dump: the routes, then the unresolved ones."""
    if mrt is None:
        return
    found = [c for each in mrt.mfc_hash.values() for c in each]
    for c in (*found, *mr_unresolved(mrt)):
        yield nlmsg_part(nlh, RTM_NEWROUTE, ipmr_fill_mroute((mrt, c)))


def ipmr_rtm_dumproute(nlh: nlmsg) -> Iterator[bytes]:
    """net/ipv4/ipmr.c."""
    return dump(nlh, nlh.sk.net.ipv4.mrt)


def ip6mr_rtm_dumproute(nlh: nlmsg) -> Iterator[bytes]:
    """net/ipv6/ip6mr.c."""
    return dump(nlh, nlh.sk.net.ipv6.mrt)


def mr_fill_report(what: mr_report) -> bytes:
    """net/ipv4/ipmr.c igmpmsg_netlink_event, net/ipv6/ip6mr.c mrt6msg_netlink_event."""
    four = what.mrt.ops.family == RTNL_FAMILY_IPMR
    size = 4 if four else 16
    return RTGENMSG.pack(what.mrt.ops.family) + CREPORT.build(
        {
            "IPMRA_CREPORT_MSGTYPE": what.kind,
            "IPMRA_CREPORT_VIF_ID": what.vifi,
            "IPMRA_CREPORT_SRC_ADDR": what.origin.to_bytes(size, "big"),
            "IPMRA_CREPORT_DST_ADDR": what.group.to_bytes(size, "big"),
            "IPMRA_CREPORT_TABLE": what.mrt.id if four else None,
            "IPMRA_CREPORT_PKT": what.packet,
        }
    )


# --- one route ------------------------------------------------------------------------------------


def getroute_attrs(nlh: nlmsg, name: str, bits: int, strict: bool) -> Attrs:
    """ipmr_rtm_valid_getroute_req, ip6mr_...: sender, group, table. Raises: NlError EINVAL."""
    what = "multicast route get request"
    _, dst, src, *others = header(nlh, RTMSG, f"{name}: Invalid header for {what}")
    at = NLMSG_HDRLEN + RTMSG.size
    if not strict:
        return MROUTE_GET.parse(nlh.whole, at, LIBERAL)
    if dst not in (0, bits) or src not in (0, bits) or any(others):
        raise NlError(errno.EINVAL, f"{name}: Invalid values in header for {what}")
    tb = MROUTE_GET.parse(nlh.whole, at, STRICT if bits == 128 else DEPRECATED_STRICT)
    if ("RTA_SRC" in tb and not src) or ("RTA_DST" in tb and not dst):
        text = f"{name}: rtm_src_len and rtm_dst_len must be {bits} for IP{name[2:]}"
        raise NlError(errno.EINVAL, text)
    only(tb, MROUTE_GET.by_name, f"{name}: Unsupported attribute in {what}")
    return tb


def asked(tb: Attrs, name: str, bits: int) -> int:
    """An address of a request, 0: not given. Raises: NlError ERANGE."""
    addr: bytes = tb.get(name, bytes(bits // 8))
    if len(addr) != bits // 8:
        raise tb.wrong(name, "binary attribute size out of range", errno.ERANGE)
    return int.from_bytes(addr, "big")


def answer(nlh: nlmsg, mrt: mr_table | None, tb: Attrs, bits: int, missing: str) -> None:
    """The route of the sender and group. Raises: NlError ENOENT."""
    origin, group = asked(tb, "RTA_SRC", bits), asked(tb, "RTA_DST", bits)
    c = None if mrt is None else mr_mfc_find_parent(mrt, origin, group, -1)
    if mrt is None or c is None:
        raise NlError(errno.ENOENT, missing)
    netlink_reply(nlh, RTM_NEWROUTE, ipmr_fill_mroute((mrt, c)))


def ipmr_rtm_getroute(nlh: nlmsg) -> None:
    """net/ipv4/ipmr.c: the route of a sender and a group. Raises: NlError."""
    tb = getroute_attrs(nlh, "ipv4", 32, nlh.sk.strict_chk)
    if tb.get("RTA_TABLE", 0) not in (0, RT_TABLE_DEFAULT):
        raise NlError(errno.ENOENT)
    answer(nlh, nlh.sk.net.ipv4.mrt, tb, 32, "")


def ip6mr_rtm_getroute(nlh: nlmsg) -> None:
    """net/ipv6/ip6mr.c: the same; it must name the table. Raises: NlError."""
    tb = getroute_attrs(nlh, "ipv6", 128, True)
    asked(tb, "RTA_SRC", 128), asked(tb, "RTA_DST", 128)
    if tb.get("RTA_TABLE") != RT6_TABLE_MAIN:
        raise NlError(errno.ENOENT, "ipv6: MR table does not exist")
    answer(nlh, nlh.sk.net.ipv6.mrt, tb, 128, "ipv6: MR cache entry not found")
