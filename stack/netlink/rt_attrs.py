"""uapi/linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h, fib_rules.h, netconf.h: NETLINK_ROUTE.

The structures after the header of each kind of message, and its attributes. The policies are those
of the kernel's parsers. Where the families differ there is a table for each.

    rt_link.py, rt_newlink.py       IFLA with LINKINFO, VLAN, BR, VETH, BRPORT, AF_SPEC
    rt_addr.py                      IFA4, IFA6
    rt_neigh.py                     NDA
    rt_route.py, rt_getroute.py     RTA4, RTA6, RTAX
    rt_nexthop.py                   NHA
    rt_rule.py                      FRA
    rt_netconf.py                   NETCONFA, NETNSA
    rt_addrlabel.py                 IFAL

A request's handler calls `TABLE.parse(nlh.whole, offset, validate)` and reads values by name. What
is sent is built by `TABLE.build({name: value})`, in the order of the mapping. The file keeps no
state. A number that is missing here has no policy: liberal parsers accept any payload, strict ones
refuse it. Read IFA4 and IFA6 first.
"""

from __future__ import annotations

import struct

from stack.core.dst import RTAX_CC_ALGO
from stack.core.netdevice import ETH_ALEN, IFNAMSIZ
from stack.inet.metrics import METRICS
from stack.netlink.nlattr import (
    BE16,
    BE32,
    BE64,
    BINARY,
    FLAG,
    IN6,
    NESTED,
    NUL_STRING,
    REJECT,
    S32,
    STRING,
    U8,
    U16,
    U32,
    U64,
    UNSPEC,
    Attr,
    AttrTable,
)

IFINFOMSG = struct.Struct("=BxHiII")
"""family, ARPHRD_*, index, flags, mask of flags to change."""
IFADDRMSG = struct.Struct("=BBBBI")
"""family, prefix length, flags, scope, index."""
RTMSG = struct.Struct("=BBBBBBBBI")
"""family, lengths of destination and source, TOS, table, protocol, scope, type, flags."""
IFADDRLBLMSG = struct.Struct("=BxBBII")
"""family, prefix length, flags, index, how often a row was added."""
NDMSG = struct.Struct("=BBHiHBB")
"""family, two of padding, index, state, flags, type."""
CACHEINFO = struct.Struct("=IIII")
"""struct ifa_cacheinfo: preferred and valid lifetime in s; created and changed, 1/100 s."""
NDA_CACHE = struct.Struct("=IIII")
"""struct nda_cacheinfo: confirmed, used and updated so many 1/100 s ago; references."""
RTA_CACHE = struct.Struct("=IIiIIIII")
"""struct rta_cacheinfo: references, last use, expires in 1/100 s, error ..."""
RTNEXTHOP = struct.Struct("=HBBi")
"""struct rtnexthop: length, flags, weight - 1, index."""
FRA_RANGE16 = struct.Struct("=HH")
"""struct fib_rule_port_range: first and last."""
FRA_RANGE32 = struct.Struct("=II")
"""struct fib_rule_uid_range."""

NTF_EXT_MASK = 0x7
MAX_TCP_HEADER = 320

MFC_STATS = struct.Struct("=QQQ")
"""struct rta_mfc_stats: packets, bytes, packets by a wrong interface."""
MROUTE = AttrTable(
    "RTA",
    Attr("RTA_DST", 1, BINARY, 16),
    Attr("RTA_SRC", 2, BINARY, 16),
    Attr("RTA_IIF", 3, U32),
    Attr("RTA_MULTIPATH", 9, BINARY),
    Attr("RTA_TABLE", 15, U32),
    Attr("RTA_MFC_STATS", 17, BINARY),
    Attr("RTA_EXPIRES", 23, U64),
)
"""Attributes of a multicast route in answers."""
MROUTE_GET = AttrTable(
    "RTA",
    Attr("RTA_DST", 1, BINARY),
    Attr("RTA_SRC", 2, BINARY),
    Attr("RTA_TABLE", 15, U32),
    last=30,
)
"""A request's attributes; the lengths of addresses are the family's."""
RTGENMSG = struct.Struct("=B3x")
"""struct rtgenmsg: family."""
CREPORT = AttrTable(
    "IPMRA_CREPORT",
    Attr("IPMRA_CREPORT_MSGTYPE", 1, U8),
    Attr("IPMRA_CREPORT_VIF_ID", 2, U32),
    Attr("IPMRA_CREPORT_SRC_ADDR", 3, BINARY, 16),
    Attr("IPMRA_CREPORT_DST_ADDR", 4, BINARY, 16),
    Attr("IPMRA_CREPORT_PKT", 5, BINARY),
    Attr("IPMRA_CREPORT_TABLE", 6, U32),
)
"""A message to the daemon; IP6MRA_CREPORT_* are the same except the table."""

# --- multicast groups of bridges ------------------------------------------------------------------

BR_PORT_MSG = struct.Struct("=B3xI")
"""struct br_port_msg: family, index."""
BR_MDB_ENTRY = struct.Struct("=IBBH16sH2x")
"""struct br_mdb_entry: index of the port, state, flags, VLAN, address, EtherType (big-endian)."""
MDBE_ATTRS = AttrTable(
    "MDBE_ATTR",
    Attr("MDBE_ATTR_SOURCE", 1, BINARY, legal=range(4, 17)),
    Attr("MDBE_ATTR_SRC_LIST", 2, NESTED),
    Attr("MDBE_ATTR_GROUP_MODE", 3, U8, legal=range(2)),
    Attr("MDBE_ATTR_RTPROT", 4, U8, legal=range(4, 256)),
)
MDBA_SET = AttrTable(
    "MDBA_SET",
    Attr("MDBA_SET_ENTRY", 1, BINARY),
    Attr("MDBA_SET_ENTRY_ATTRS", 2, NESTED),
)
MDBE_GET = AttrTable("MDBE_ATTR", Attr("MDBE_ATTR_SOURCE", 1, BINARY, legal=range(4, 17)), last=9)
"""br_mdbe_attrs_get_pol: what MDBA_GET_ENTRY_ATTRS has for a bridge."""
MDBA_GET = AttrTable(
    "MDBA_GET",
    Attr("MDBA_GET_ENTRY", 1, BINARY),
    Attr("MDBA_GET_ENTRY_ATTRS", 2, NESTED),
)
MDBA_EATTR = AttrTable(
    "MDBA_MDB_EATTR",
    Attr("MDBA_MDB_EATTR_TIMER", 1, U32),
    Attr("MDBA_MDB_EATTR_GROUP_MODE", 3, U8),
    Attr("MDBA_MDB_EATTR_SOURCE", 4, BINARY, 16),
    Attr("MDBA_MDB_EATTR_RTPROT", 5, U8),
)
MDBA_PATTR = AttrTable(
    "MDBA_ROUTER_PATTR",
    Attr("MDBA_ROUTER_PATTR_TIMER", 1, U32),
    Attr("MDBA_ROUTER_PATTR_TYPE", 2, U8),
    Attr("MDBA_ROUTER_PATTR_INET_TIMER", 3, U32),
    Attr("MDBA_ROUTER_PATTR_INET6_TIMER", 4, U32),
)

# --- interfaces ---------------------------------------------------------------------------------

VLAN_QOS = AttrTable("IFLA_VLAN_QOS", Attr("IFLA_VLAN_QOS_MAPPING", 1, UNSPEC, 8))
VLAN = AttrTable(
    "IFLA_VLAN",
    Attr("IFLA_VLAN_ID", 1, U16),
    Attr("IFLA_VLAN_FLAGS", 2, UNSPEC, 8),
    Attr("IFLA_VLAN_EGRESS_QOS", 3, NESTED, inner=VLAN_QOS),
    Attr("IFLA_VLAN_INGRESS_QOS", 4, NESTED, inner=VLAN_QOS),
    Attr("IFLA_VLAN_PROTOCOL", 5, BE16),
)
BR_QUERIER = AttrTable(
    "BRIDGE_QUERIER",
    Attr("BRIDGE_QUERIER_IP_ADDRESS", 1, BINARY, 4),
    Attr("BRIDGE_QUERIER_IP_PORT", 2, U32),
    Attr("BRIDGE_QUERIER_IP_OTHER_TIMER", 3, U64),
    Attr("BRIDGE_QUERIER_IPV6_ADDRESS", 5, BINARY, 16),
    Attr("BRIDGE_QUERIER_IPV6_PORT", 6, U32),
    Attr("BRIDGE_QUERIER_IPV6_OTHER_TIMER", 7, U64),
)
BR = AttrTable(
    "IFLA_BR",
    Attr("IFLA_BR_HELLO_TIMER", 16, U64, told=True),
    Attr("IFLA_BR_TCN_TIMER", 17, U64, told=True),
    Attr("IFLA_BR_TOPOLOGY_CHANGE_TIMER", 18, U64, told=True),
    Attr("IFLA_BR_GC_TIMER", 19, U64, told=True),
    Attr("IFLA_BR_FORWARD_DELAY", 1, U32),
    Attr("IFLA_BR_HELLO_TIME", 2, U32),
    Attr("IFLA_BR_MAX_AGE", 3, U32),
    Attr("IFLA_BR_AGEING_TIME", 4, U32),
    Attr("IFLA_BR_STP_STATE", 5, U32),
    Attr("IFLA_BR_PRIORITY", 6, U16),
    Attr("IFLA_BR_GROUP_FWD_MASK", 9, U16),
    Attr("IFLA_BR_BRIDGE_ID", 11, BINARY, 8, told=True),
    Attr("IFLA_BR_ROOT_ID", 10, BINARY, 8, told=True),
    Attr("IFLA_BR_ROOT_PORT", 12, U16, told=True),
    Attr("IFLA_BR_ROOT_PATH_COST", 13, U32, told=True),
    Attr("IFLA_BR_TOPOLOGY_CHANGE", 14, U8, told=True),
    Attr("IFLA_BR_TOPOLOGY_CHANGE_DETECTED", 15, U8, told=True),
    Attr("IFLA_BR_GROUP_ADDR", 20, BINARY, ETH_ALEN),
    Attr("IFLA_BR_FDB_FLUSH", 21, UNSPEC),
    Attr("IFLA_BR_MCAST_ROUTER", 22, U8),
    Attr("IFLA_BR_MCAST_SNOOPING", 23, U8),
    Attr("IFLA_BR_MCAST_QUERY_USE_IFADDR", 24, U8),
    Attr("IFLA_BR_MCAST_QUERIER", 25, U8),
    Attr("IFLA_BR_MCAST_HASH_ELASTICITY", 26, U32),
    Attr("IFLA_BR_MCAST_HASH_MAX", 27, U32),
    Attr("IFLA_BR_MCAST_LAST_MEMBER_CNT", 28, U32),
    Attr("IFLA_BR_MCAST_STARTUP_QUERY_CNT", 29, U32),
    Attr("IFLA_BR_MCAST_IGMP_VERSION", 43, U8),
    Attr("IFLA_BR_MCAST_MLD_VERSION", 44, U8),
    Attr("IFLA_BR_MCAST_QUERIER_STATE", 47, NESTED, inner=BR_QUERIER, told=True),
    Attr("IFLA_BR_MCAST_LAST_MEMBER_INTVL", 30, U64),
    Attr("IFLA_BR_MCAST_MEMBERSHIP_INTVL", 31, U64),
    Attr("IFLA_BR_MCAST_QUERIER_INTVL", 32, U64),
    Attr("IFLA_BR_MCAST_QUERY_INTVL", 33, U64),
    Attr("IFLA_BR_MCAST_QUERY_RESPONSE_INTVL", 34, U64),
    Attr("IFLA_BR_MCAST_STARTUP_QUERY_INTVL", 35, U64),
    Attr("IFLA_BR_FDB_N_LEARNED", 48, REJECT),
    Attr("IFLA_BR_FDB_MAX_LEARNED", 49, U32),
    last=50,
    strict_from=48,
)
VETH = AttrTable("VETH_INFO", Attr("VETH_INFO_PEER", 1, UNSPEC, IFINFOMSG.size))
TUN = AttrTable(
    "IFLA_TUN",
    Attr("IFLA_TUN_OWNER", 1, U32),
    Attr("IFLA_TUN_GROUP", 2, U32),
    Attr("IFLA_TUN_TYPE", 3, U8),
    Attr("IFLA_TUN_PI", 4, U8),
    Attr("IFLA_TUN_VNET_HDR", 5, U8),
    Attr("IFLA_TUN_PERSIST", 6, U8),
    Attr("IFLA_TUN_MULTI_QUEUE", 7, U8),
)
VRF = AttrTable("IFLA_VRF", Attr("IFLA_VRF_TABLE", 1, U32))
VRF_PORT = AttrTable("IFLA_VRF_PORT", Attr("IFLA_VRF_PORT_TABLE", 1, U32, told=True))
LINKINFO = AttrTable(
    "IFLA_INFO",
    Attr("IFLA_INFO_KIND", 1, STRING),
    Attr("IFLA_INFO_DATA", 2, NESTED),
    Attr("IFLA_INFO_SLAVE_KIND", 4, STRING),
    Attr("IFLA_INFO_SLAVE_DATA", 5, NESTED),
)
BRPORT = AttrTable(
    "IFLA_BRPORT",
    Attr("IFLA_BRPORT_STATE", 1, U8),
    Attr("IFLA_BRPORT_PRIORITY", 2, U16),
    Attr("IFLA_BRPORT_COST", 3, U32),
    Attr("IFLA_BRPORT_MODE", 4, U8),
    Attr("IFLA_BRPORT_GUARD", 5, U8),
    Attr("IFLA_BRPORT_PROTECT", 6, U8),
    Attr("IFLA_BRPORT_FAST_LEAVE", 7, U8),
    Attr("IFLA_BRPORT_LEARNING", 8, U8),
    Attr("IFLA_BRPORT_UNICAST_FLOOD", 9, U8),
    Attr("IFLA_BRPORT_MCAST_FLOOD", 27, U8),
    Attr("IFLA_BRPORT_BCAST_FLOOD", 30, U8),
    Attr("IFLA_BRPORT_ROOT_ID", 13, BINARY, 8, told=True),
    Attr("IFLA_BRPORT_BRIDGE_ID", 14, BINARY, 8, told=True),
    Attr("IFLA_BRPORT_DESIGNATED_PORT", 15, U16, told=True),
    Attr("IFLA_BRPORT_DESIGNATED_COST", 16, U16, told=True),
    Attr("IFLA_BRPORT_ID", 17, U16, told=True),
    Attr("IFLA_BRPORT_NO", 18, U16, told=True),
    Attr("IFLA_BRPORT_TOPOLOGY_CHANGE_ACK", 19, U8, told=True),
    Attr("IFLA_BRPORT_CONFIG_PENDING", 20, U8, told=True),
    Attr("IFLA_BRPORT_MESSAGE_AGE_TIMER", 21, U64, told=True),
    Attr("IFLA_BRPORT_FORWARD_DELAY_TIMER", 22, U64, told=True),
    Attr("IFLA_BRPORT_HOLD_TIMER", 23, U64, told=True),
    Attr("IFLA_BRPORT_FLUSH", 24, FLAG),
    Attr("IFLA_BRPORT_GROUP_FWD_MASK", 31, U16),
    Attr("IFLA_BRPORT_MULTICAST_ROUTER", 25, U8),
    Attr("IFLA_BRPORT_ISOLATED", 33, U8),
    Attr("IFLA_BRPORT_MCAST_N_GROUPS", 41, REJECT),
    Attr("IFLA_BRPORT_MCAST_MAX_GROUPS", 42, U32),
)
INET6_LINK = AttrTable(
    "IFLA_INET6",
    Attr("IFLA_INET6_FLAGS", 1, U32),
    Attr("IFLA_INET6_CACHEINFO", 5, UNSPEC, 16),
    Attr("IFLA_INET6_TOKEN", 7, IN6),
    Attr("IFLA_INET6_ADDR_GEN_MODE", 8, U8),
)
AF_SPEC = AttrTable(
    "IFLA_AF_SPEC",
    Attr("AF_INET", 2, NESTED),
    Attr("AF_INET6", 10, NESTED, inner=INET6_LINK),
)
XDP = AttrTable("IFLA_XDP", Attr("IFLA_XDP_FD", 1, S32), Attr("IFLA_XDP_ATTACHED", 2, U8))
IFLA = AttrTable(
    "IFLA",
    Attr("IFLA_ADDRESS", 1, BINARY, 32),
    Attr("IFLA_BROADCAST", 2, BINARY, 32),
    Attr("IFLA_IFNAME", 3, STRING, IFNAMSIZ - 1),
    Attr("IFLA_MTU", 4, U32),
    Attr("IFLA_LINK", 5, U32),
    Attr("IFLA_QDISC", 6, STRING, told=True),
    Attr("IFLA_STATS", 7, BINARY, told=True),
    Attr("IFLA_MASTER", 10, U32),
    Attr("IFLA_PROTINFO", 12, NESTED, flagged=True, told=True),
    Attr("IFLA_TXQLEN", 13, U32),
    Attr("IFLA_MAP", 14, UNSPEC, 32),
    Attr("IFLA_WEIGHT", 15, U32),
    Attr("IFLA_OPERSTATE", 16, U8),
    Attr("IFLA_LINKMODE", 17, U8),
    Attr("IFLA_LINKINFO", 18, NESTED, inner=LINKINFO),
    Attr("IFLA_NET_NS_PID", 19, U32),
    Attr("IFLA_IFALIAS", 20, BINARY, 255),
    Attr("IFLA_VFINFO_LIST", 22, NESTED),
    Attr("IFLA_STATS64", 23, BINARY, told=True),
    Attr("IFLA_AF_SPEC", 26, NESTED),
    Attr("IFLA_GROUP", 27, U32),
    Attr("IFLA_NET_NS_FD", 28, U32),
    Attr("IFLA_EXT_MASK", 29, U32),
    Attr("IFLA_PROMISCUITY", 30, U32),
    Attr("IFLA_NUM_TX_QUEUES", 31, U32),
    Attr("IFLA_NUM_RX_QUEUES", 32, U32),
    Attr("IFLA_CARRIER", 33, U8),
    Attr("IFLA_CARRIER_CHANGES", 35, U32),
    Attr("IFLA_LINK_NETNSID", 37, S32),
    Attr("IFLA_PROTO_DOWN", 39, U8),
    Attr("IFLA_GSO_MAX_SEGS", 40, U32),
    Attr("IFLA_GSO_MAX_SIZE", 41, U32, legal=range(MAX_TCP_HEADER + 1, 1 << 32)),
    Attr("IFLA_XDP", 43, NESTED, inner=XDP),
    Attr("IFLA_TARGET_NETNSID", 46, S32),
    Attr("IFLA_CARRIER_UP_COUNT", 47, U32),
    Attr("IFLA_CARRIER_DOWN_COUNT", 48, U32),
    Attr("IFLA_MIN_MTU", 50, U32),
    Attr("IFLA_MAX_MTU", 51, U32),
    Attr("IFLA_PROP_LIST", 52, NESTED, flagged=True),
    Attr("IFLA_ALT_IFNAME", 53, STRING, 127),
    Attr("IFLA_PERM_ADDRESS", 54, REJECT),
    Attr("IFLA_PROTO_DOWN_REASON", 55, NESTED),
    Attr("IFLA_PARENT_DEV_NAME", 56, NUL_STRING),
    Attr("IFLA_PARENT_DEV_BUS_NAME", 57, NUL_STRING, told=True),
    Attr("IFLA_GRO_MAX_SIZE", 58, U32),
    Attr("IFLA_TSO_MAX_SIZE", 59, REJECT),
    Attr("IFLA_TSO_MAX_SEGS", 60, REJECT),
    Attr("IFLA_ALLMULTI", 61, REJECT),
    Attr("IFLA_GSO_IPV4_MAX_SIZE", 63, U32, legal=range(MAX_TCP_HEADER + 1, 1 << 32)),
    Attr("IFLA_GRO_IPV4_MAX_SIZE", 64, U32),
    last=69,
)

# --- addresses ----------------------------------------------------------------------------------

_IFA_BOTH = (
    Attr("IFA_CACHEINFO", 6, UNSPEC, CACHEINFO.size),
    Attr("IFA_FLAGS", 8, U32),
    Attr("IFA_RT_PRIORITY", 9, U32),
    Attr("IFA_TARGET_NETNSID", 10, S32),
    Attr("IFA_PROTO", 11, U8),
)
IFA4 = AttrTable(
    "IFA",
    Attr("IFA_ADDRESS", 1, BE32),
    Attr("IFA_LOCAL", 2, BE32),
    Attr("IFA_LABEL", 3, STRING, IFNAMSIZ - 1),
    Attr("IFA_BROADCAST", 4, BE32),
    *_IFA_BOTH,
)
IFA6 = AttrTable(
    "IFA",
    Attr("IFA_ADDRESS", 1, IN6),
    Attr("IFA_LOCAL", 2, IN6),
    *_IFA_BOTH,
)

# --- neighbours ---------------------------------------------------------------------------------

NDA = AttrTable(
    "NDA",
    Attr("NDA_DST", 1, BINARY, 32),
    Attr("NDA_LLADDR", 2, BINARY, 32),
    Attr("NDA_CACHEINFO", 3, UNSPEC, NDA_CACHE.size),
    Attr("NDA_PROBES", 4, U32),
    Attr("NDA_VLAN", 5, U16),
    Attr("NDA_PORT", 6, BE16),
    Attr("NDA_VNI", 7, U32),
    Attr("NDA_IFINDEX", 8, U32),
    Attr("NDA_MASTER", 9, U32),
    Attr("NDA_PROTOCOL", 12, U8),
    Attr("NDA_FLAGS_EXT", 15, U32, mask=NTF_EXT_MASK),
    last=16,
    strict_from=13,
)

NDTPA = AttrTable(
    "NDTPA",
    Attr("NDTPA_IFINDEX", 1, U32),
    Attr("NDTPA_REFCNT", 2, U32, told=True),
    Attr("NDTPA_REACHABLE_TIME", 3, U64, told=True),
    Attr("NDTPA_BASE_REACHABLE_TIME", 4, U64),
    Attr("NDTPA_RETRANS_TIME", 5, U64),
    Attr("NDTPA_GC_STALETIME", 6, U64),
    Attr("NDTPA_DELAY_PROBE_TIME", 7, U64),
    Attr("NDTPA_QUEUE_LEN", 8, U32),
    Attr("NDTPA_APP_PROBES", 9, U32),
    Attr("NDTPA_UCAST_PROBES", 10, U32),
    Attr("NDTPA_MCAST_PROBES", 11, U32),
    Attr("NDTPA_ANYCAST_DELAY", 12, U64),
    Attr("NDTPA_PROXY_DELAY", 13, U64),
    Attr("NDTPA_PROXY_QLEN", 14, U32),
    Attr("NDTPA_LOCKTIME", 15, U64),
    Attr("NDTPA_QUEUE_LENBYTES", 16, U32),
    Attr("NDTPA_MCAST_REPROBES", 17, U32),
    Attr("NDTPA_INTERVAL_PROBE_TIME_MS", 19, U64, legal=range(1, 1 << 64)),
)
NDTA = AttrTable(
    "NDTA",
    Attr("NDTA_NAME", 1, STRING),
    Attr("NDTA_THRESH1", 2, U32),
    Attr("NDTA_THRESH2", 3, U32),
    Attr("NDTA_THRESH3", 4, U32),
    Attr("NDTA_CONFIG", 5, BINARY, told=True),
    Attr("NDTA_PARMS", 6, NESTED, inner=NDTPA),
    Attr("NDTA_STATS", 7, BINARY, told=True),
    Attr("NDTA_GC_INTERVAL", 8, U64),
    last=9,
)

# --- routes -------------------------------------------------------------------------------------

RTAX = AttrTable(
    "RTAX",
    *(Attr(name, n, STRING if name == RTAX_CC_ALGO else U32) for n, name in enumerate(METRICS, 1)),
)
"""Metrics, by the names of stack.inet.metrics."""
_RTA_BOTH = (
    Attr("RTA_IIF", 3, U32),
    Attr("RTA_OIF", 4, U32),
    Attr("RTA_PRIORITY", 6, U32),
    Attr("RTA_METRICS", 8, NESTED),
    Attr("RTA_MULTIPATH", 9, UNSPEC, RTNEXTHOP.size),
    Attr("RTA_CACHEINFO", 12, UNSPEC, told=True),
    Attr("RTA_TABLE", 15, U32),
    Attr("RTA_MARK", 16, U32),
    Attr("RTA_ENCAP_TYPE", 21, U16),
    Attr("RTA_ENCAP", 22, NESTED),
    Attr("RTA_UID", 25, U32),
    Attr("RTA_IP_PROTO", 27, U8),
    Attr("RTA_SPORT", 28, BE16),
    Attr("RTA_DPORT", 29, BE16),
    Attr("RTA_NH_ID", 30, U32),
)
RTA4 = AttrTable(
    "RTA",
    Attr("RTA_DST", 1, BE32),
    Attr("RTA_SRC", 2, BE32),
    Attr("RTA_GATEWAY", 5, BE32),
    Attr("RTA_PREFSRC", 7, BE32),
    Attr("RTA_FLOW", 11, U32),
    Attr("RTA_VIA", 18, UNSPEC, told=True),
    *_RTA_BOTH,
    last=31,
    strict_from=30,
)
RTA6 = AttrTable(
    "RTA",
    Attr("RTA_DST", 1, IN6, told=True),
    Attr("RTA_SRC", 2, IN6, told=True),
    Attr("RTA_GATEWAY", 5, IN6),
    Attr("RTA_PREFSRC", 7, IN6),
    Attr("RTA_VIA", 18, UNSPEC, told=True),
    Attr("RTA_PREF", 20, U8),
    Attr("RTA_EXPIRES", 23, U32),
    Attr("RTA_FLOWLABEL", 31, BE32),
    *_RTA_BOTH,
    strict_from=30,
)

NHMSG = struct.Struct("=BBBBI")
"""struct nhmsg: family, scope, protocol, 0, flags."""
NH_GRP = struct.Struct("=IBBH")
"""struct nexthop_grp: id, weight - 1, its upper bits, 0."""
NHA_RES_GROUP = AttrTable(
    "NHA_RES_GROUP",
    Attr("NHA_RES_GROUP_BUCKETS", 1, U16),
    Attr("NHA_RES_GROUP_IDLE_TIMER", 2, U32),
    Attr("NHA_RES_GROUP_UNBALANCED_TIMER", 3, U32),
    Attr("NHA_RES_GROUP_UNBALANCED_TIME", 4, U64),
)
"""Buckets, and times in hundredths of a second."""
NHA_RES_BUCKET = AttrTable(
    "NHA_RES_BUCKET",
    Attr("NHA_RES_BUCKET_INDEX", 1, U16),
    Attr("NHA_RES_BUCKET_IDLE_TIME", 2, U64),
    Attr("NHA_RES_BUCKET_NH_ID", 3, U32),
)
_NHA = {
    row.name: row
    for row in (
        Attr("NHA_ID", 1, U32),
        Attr("NHA_GROUP", 2, UNSPEC),
        Attr("NHA_GROUP_TYPE", 3, U16),
        Attr("NHA_BLACKHOLE", 4, FLAG),
        Attr("NHA_OIF", 5, U32),
        Attr("NHA_GATEWAY", 6, BINARY),
        Attr("NHA_ENCAP_TYPE", 7, U16),
        Attr("NHA_ENCAP", 8, NESTED),
        Attr("NHA_GROUPS", 9, FLAG),
        Attr("NHA_MASTER", 10, U32),
        Attr("NHA_FDB", 11, FLAG),
        Attr("NHA_RES_GROUP", 12, NESTED, inner=NHA_RES_GROUP, flagged=True),
        Attr("NHA_RES_BUCKET", 13, NESTED, inner=NHA_RES_BUCKET, flagged=True),
        Attr("NHA_OP_FLAGS", 14, U32),
        Attr("NHA_HW_STATS_ENABLE", 16, U32, legal=range(2)),
    )
}


def _nha(*names: str, last: int = 17) -> AttrTable:
    """A policy that accepts only some attributes of a next hop."""
    return AttrTable("NHA", *(_NHA[f"NHA_{name}"] for name in names), last=last)


NHA_NEW = _nha(
    *("ID", "GROUP", "GROUP_TYPE", "BLACKHOLE", "OIF", "GATEWAY", "ENCAP_TYPE", "ENCAP"),
    *("FDB", "RES_GROUP", "HW_STATS_ENABLE"),
)
NHA_GET = _nha("ID", "OP_FLAGS")
NHA_DEL = _nha("ID", last=1)
NHA_DUMP = _nha("OIF", "GROUPS", "MASTER", "FDB", "OP_FLAGS")
NHA_BUCKET_GET = _nha("ID", "RES_BUCKET")
NHA_BUCKET_DUMP = _nha("ID", "OIF", "MASTER", "RES_BUCKET")
NHA = AttrTable("NHA", *_NHA.values())

# --- rules, settings ----------------------------------------------------------------------------

FRA = AttrTable(
    "FRA",
    Attr("FRA_DST", 1, BINARY),
    Attr("FRA_SRC", 2, BINARY),
    Attr("FRA_IIFNAME", 3, STRING, IFNAMSIZ - 1),
    Attr("FRA_GOTO", 4, U32),
    Attr("FRA_PRIORITY", 6, U32),
    Attr("FRA_FWMARK", 10, U32),
    Attr("FRA_TUN_ID", 12, BE64),
    Attr("FRA_SUPPRESS_IFGROUP", 13, U32),
    Attr("FRA_SUPPRESS_PREFIXLEN", 14, U32),
    Attr("FRA_TABLE", 15, U32),
    Attr("FRA_FWMASK", 16, U32),
    Attr("FRA_OIFNAME", 17, STRING, IFNAMSIZ - 1),
    Attr("FRA_L3MDEV", 19, U8),
    Attr("FRA_UID_RANGE", 20, UNSPEC, FRA_RANGE32.size),
    Attr("FRA_PROTOCOL", 21, U8),
    Attr("FRA_IP_PROTO", 22, U8),
    Attr("FRA_SPORT_RANGE", 23, UNSPEC, FRA_RANGE16.size),
    Attr("FRA_DPORT_RANGE", 24, UNSPEC, FRA_RANGE16.size),
    last=30,
    strict_from=25,
)
NETNSA = AttrTable(
    "NETNSA",
    Attr("NETNSA_NSID", 1, S32),
    Attr("NETNSA_PID", 2, U32),
    Attr("NETNSA_FD", 3, U32),
    last=6,
)
IFAL = AttrTable(
    "IFAL",
    Attr("IFAL_ADDRESS", 1, IN6),
    Attr("IFAL_LABEL", 2, U32),
)
NETCONFA = AttrTable(
    "NETCONFA",
    Attr("NETCONFA_IFINDEX", 1, S32),
    Attr("NETCONFA_FORWARDING", 2, S32),
    Attr("NETCONFA_RP_FILTER", 3, S32),
    Attr("NETCONFA_MC_FORWARDING", 4, S32),
    Attr("NETCONFA_PROXY_NEIGH", 5, S32),
    Attr("NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN", 6, S32),
    Attr("NETCONFA_BC_FORWARDING", 8, S32),
    last=9,
)
