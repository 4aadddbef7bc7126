"""net/ipv4/ipmr.c, net/ipv6/ip6mr.c: RTM_GETROUTE of RTNL_FAMILY_IPMR, IP6MR: `ip mroute`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stack.core.uapi import RTM_NEWROUTE
from stack.inet.ipmr_base import (
    MAXVIFS,
    MFC_STATIC,
    NEVER,
    RTNL_FAMILY_IPMR,
    mr_mfc,
    mr_table,
    mr_unresolved,
)
from stack.netlink.af_netlink import nlmsg_put
from stack.netlink.netlink_sock import nlmsg
from stack.netlink.rt_attrs import MFC_STATS, MROUTE, RTMSG, RTNEXTHOP
from stack.netlink.rt_kind_row import BR_TICK_NS

RTPROT_MROUTED, RTPROT_STATIC = 17, 4
RTN_MULTICAST = 5
RTNH_F_UNRESOLVED = 32


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
        attrs["RTA_EXPIRES"] = max(mrt.net.now() - c.lastuse, 0) // BR_TICK_NS
    flags = 0 if resolved else RTNH_F_UNRESOLVED
    bits = size * 8
    head = (mrt.ops.family, bits, bits, 0, mrt.id, protocol, 0, RTN_MULTICAST, flags)
    return RTMSG.pack(*head) + MROUTE.build(attrs)


def dump(nlh: nlmsg, mrt: mr_table | None) -> Iterator[bytes]:
    """net/ipv4/ipmr_base.c mr_table_dump: the routes, then those that are asked for."""
    if mrt is None:
        return
    found = [c for each in mrt.mfc_hash.values() for c in each]
    for c in (*found, *mr_unresolved(mrt)):
        yield nlmsg_put(RTM_NEWROUTE, 0, nlh.seq, nlh.sk.portid, ipmr_fill_mroute((mrt, c)))


def ipmr_rtm_dumproute(nlh: nlmsg) -> Iterator[bytes]:
    """net/ipv4/ipmr.c."""
    return dump(nlh, nlh.sk.net.ipv4.mrt)


def ip6mr_rtm_dumproute(nlh: nlmsg) -> Iterator[bytes]:
    """net/ipv6/ip6mr.c: none, as IPv6 has no multicast routing here."""
    return dump(nlh, None)
