"""include/uapi/linux/netfilter/nfnetlink_conntrack.h: attributes of conntrack's messages.

Numbers are big-endian. The message after the netlink header begins with struct nfgenmsg.
"""

from __future__ import annotations

import struct

from stack.netlink.nlattr import BE16, BE32, BE64, BINARY, IN6, NESTED, U8, Attr, AttrTable

NFGENMSG = struct.Struct(">BBH")
"""family, version, res_id."""


def _nest(name: str, number: int, inner: AttrTable, told: bool = False) -> Attr:
    return Attr(name, number, NESTED, inner=inner, flagged=True, told=told)


CTA_IP = AttrTable(
    "CTA_IP",
    Attr("CTA_IP_V4_SRC", 1, BE32),
    Attr("CTA_IP_V4_DST", 2, BE32),
    Attr("CTA_IP_V6_SRC", 3, IN6),
    Attr("CTA_IP_V6_DST", 4, IN6),
)
CTA_PROTO = AttrTable(
    "CTA_PROTO",
    Attr("CTA_PROTO_NUM", 1, U8),
    Attr("CTA_PROTO_SRC_PORT", 2, BE16),
    Attr("CTA_PROTO_DST_PORT", 3, BE16),
    Attr("CTA_PROTO_ICMP_ID", 4, BE16),
    Attr("CTA_PROTO_ICMP_TYPE", 5, U8),
    Attr("CTA_PROTO_ICMP_CODE", 6, U8),
    Attr("CTA_PROTO_ICMPV6_ID", 7, BE16),
    Attr("CTA_PROTO_ICMPV6_TYPE", 8, U8),
    Attr("CTA_PROTO_ICMPV6_CODE", 9, U8),
)
CTA_TUPLE = AttrTable(
    "CTA_TUPLE",
    _nest("CTA_TUPLE_IP", 1, CTA_IP),
    _nest("CTA_TUPLE_PROTO", 2, CTA_PROTO),
    Attr("CTA_TUPLE_ZONE", 3, BE16),
)
CTA_TCP = AttrTable(
    "CTA_PROTOINFO_TCP",
    Attr("CTA_PROTOINFO_TCP_STATE", 1, U8),
    Attr("CTA_PROTOINFO_TCP_WSCALE_ORIGINAL", 2, U8),
    Attr("CTA_PROTOINFO_TCP_WSCALE_REPLY", 3, U8),
    Attr("CTA_PROTOINFO_TCP_FLAGS_ORIGINAL", 4, BINARY),
    Attr("CTA_PROTOINFO_TCP_FLAGS_REPLY", 5, BINARY),
)
CTA_PROTOINFO = AttrTable("CTA_PROTOINFO", _nest("CTA_PROTOINFO_TCP", 1, CTA_TCP))
CTA_COUNTERS = AttrTable(
    "CTA_COUNTERS",
    Attr("CTA_COUNTERS_PACKETS", 1, BE64),
    Attr("CTA_COUNTERS_BYTES", 2, BE64),
)
CTA_FILTER = AttrTable(
    "CTA_FILTER",
    Attr("CTA_FILTER_ORIG_FLAGS", 1, BINARY),
    Attr("CTA_FILTER_REPLY_FLAGS", 2, BINARY),
)
CTA = AttrTable(
    "CTA",
    _nest("CTA_TUPLE_ORIG", 1, CTA_TUPLE),
    _nest("CTA_TUPLE_REPLY", 2, CTA_TUPLE),
    Attr("CTA_STATUS", 3, BE32),
    _nest("CTA_PROTOINFO", 4, CTA_PROTOINFO),
    Attr("CTA_TIMEOUT", 7, BE32),
    Attr("CTA_MARK", 8, BE32),
    _nest("CTA_COUNTERS_ORIG", 9, CTA_COUNTERS, told=True),
    _nest("CTA_COUNTERS_REPLY", 10, CTA_COUNTERS, told=True),
    Attr("CTA_USE", 11, BE32, told=True),
    Attr("CTA_ID", 12, BE32),
    Attr("CTA_ZONE", 18, BE16),
    Attr("CTA_MARK_MASK", 21, BE32),
    _nest("CTA_FILTER", 25, CTA_FILTER),
    Attr("CTA_STATUS_MASK", 26, BE32),
)
CTA_STATS = AttrTable(
    "CTA_STATS",
    *(
        Attr(f"CTA_STATS_{name}", number, BE32)
        for name, number in (
            *(("FOUND", 2), ("INVALID", 4), ("INSERT", 8), ("INSERT_FAILED", 9), ("DROP", 10)),
            *(("EARLY_DROP", 11), ("ERROR", 12), ("SEARCH_RESTART", 13), ("CLASH_RESOLVE", 14)),
            ("CHAIN_TOOLONG", 15),
        )
    ),
)
CTA_STATS_GLOBAL = AttrTable(
    "CTA_STATS_GLOBAL",
    Attr("CTA_STATS_GLOBAL_ENTRIES", 1, BE32),
    Attr("CTA_STATS_GLOBAL_MAX_ENTRIES", 2, BE32),
)
CTA_EXPECT = AttrTable("CTA_EXPECT", _nest("CTA_EXPECT_TUPLE", 2, CTA_TUPLE), last=11)
