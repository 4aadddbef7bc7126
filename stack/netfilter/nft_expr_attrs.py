"""include/uapi/linux/netfilter/nf_tables.h: attributes of expressions and stateful objects, as rows
(see stack/netlink/nlattr.py). Those of the basic expressions are in
nft_attrs.py."""

from __future__ import annotations

from stack.netfilter.nft_attrs import NFTA_DATA
from stack.netlink.nlattr import (
    BE16,
    BE32,
    BE64,
    BINARY,
    NUL_STRING,
    STRING,
    U8,
    Attr,
    AttrTable,
)

BYTE = range(256)
"""NLA_POLICY_MAX(NLA_BE32, 255)."""
NAME_MAXLEN = 255
NF_LOG_PREFIXLEN = 128
NF_NAT_RANGE_MASK = 0x7F

NFTA_BYTEORDER = AttrTable(
    "NFTA_BYTEORDER",
    Attr("NFTA_BYTEORDER_SREG", 1, BE32),
    Attr("NFTA_BYTEORDER_DREG", 2, BE32),
    Attr("NFTA_BYTEORDER_OP", 3, BE32, legal=BYTE),
    Attr("NFTA_BYTEORDER_LEN", 4, BE32, legal=BYTE),
    Attr("NFTA_BYTEORDER_SIZE", 5, BE32, legal=BYTE),
)
NFTA_RANGE = AttrTable(
    "NFTA_RANGE",
    Attr("NFTA_RANGE_SREG", 1, BE32),
    Attr("NFTA_RANGE_OP", 2, BE32, legal=BYTE),
    Attr("NFTA_RANGE_FROM_DATA", 3, BINARY, inner=NFTA_DATA, flagged=True),
    Attr("NFTA_RANGE_TO_DATA", 4, BINARY, inner=NFTA_DATA, flagged=True),
)
NFTA_CT = AttrTable(
    "NFTA_CT",
    Attr("NFTA_CT_DREG", 1, BE32),
    Attr("NFTA_CT_KEY", 2, BE32, legal=BYTE),
    Attr("NFTA_CT_DIRECTION", 3, U8),
    Attr("NFTA_CT_SREG", 4, BE32),
)
NFTA_NOTRACK = AttrTable("NFTA_NOTRACK")
NFTA_REJECT = AttrTable(
    "NFTA_REJECT",
    Attr("NFTA_REJECT_TYPE", 1, BE32, legal=BYTE),
    Attr("NFTA_REJECT_ICMP_CODE", 2, U8),
)
NFTA_LOG = AttrTable(
    "NFTA_LOG",
    Attr("NFTA_LOG_GROUP", 1, BE16),
    Attr("NFTA_LOG_PREFIX", 2, STRING, NF_LOG_PREFIXLEN - 1),
    Attr("NFTA_LOG_SNAPLEN", 3, BE32),
    Attr("NFTA_LOG_QTHRESHOLD", 4, BE16),
    Attr("NFTA_LOG_LEVEL", 5, BE32),
    Attr("NFTA_LOG_FLAGS", 6, BE32),
)
NFTA_LIMIT = AttrTable(
    "NFTA_LIMIT",
    Attr("NFTA_LIMIT_RATE", 1, BE64),
    Attr("NFTA_LIMIT_UNIT", 2, BE64),
    Attr("NFTA_LIMIT_BURST", 3, BE32),
    Attr("NFTA_LIMIT_TYPE", 4, BE32),
    Attr("NFTA_LIMIT_FLAGS", 5, BE32, mask=1),
)
NFTA_NAT = AttrTable(
    "NFTA_NAT",
    Attr("NFTA_NAT_TYPE", 1, BE32),
    Attr("NFTA_NAT_FAMILY", 2, BE32),
    Attr("NFTA_NAT_REG_ADDR_MIN", 3, BE32),
    Attr("NFTA_NAT_REG_ADDR_MAX", 4, BE32),
    Attr("NFTA_NAT_REG_PROTO_MIN", 5, BE32),
    Attr("NFTA_NAT_REG_PROTO_MAX", 6, BE32),
    Attr("NFTA_NAT_FLAGS", 7, BE32, mask=NF_NAT_RANGE_MASK),
)
NFTA_MASQ = AttrTable(
    "NFTA_MASQ",
    Attr("NFTA_MASQ_FLAGS", 1, BE32, mask=NF_NAT_RANGE_MASK),
    Attr("NFTA_MASQ_REG_PROTO_MIN", 2, BE32),
    Attr("NFTA_MASQ_REG_PROTO_MAX", 3, BE32),
)
NFTA_REDIR = AttrTable(
    "NFTA_REDIR",
    Attr("NFTA_REDIR_REG_PROTO_MIN", 1, BE32),
    Attr("NFTA_REDIR_REG_PROTO_MAX", 2, BE32),
    Attr("NFTA_REDIR_FLAGS", 3, BE32, mask=NF_NAT_RANGE_MASK),
)
NFTA_QUOTA = AttrTable(
    "NFTA_QUOTA",
    Attr("NFTA_QUOTA_BYTES", 1, BE64),
    Attr("NFTA_QUOTA_FLAGS", 2, BE32),
    Attr("NFTA_QUOTA_CONSUMED", 4, BE64),
)
NFTA_CONNLIMIT = AttrTable(
    "NFTA_CONNLIMIT",
    Attr("NFTA_CONNLIMIT_COUNT", 1, BE32),
    Attr("NFTA_CONNLIMIT_FLAGS", 2, BE32),
)
NFTA_EXTHDR = AttrTable(
    "NFTA_EXTHDR",
    Attr("NFTA_EXTHDR_DREG", 1, BE32),
    Attr("NFTA_EXTHDR_TYPE", 2, U8),
    Attr("NFTA_EXTHDR_OFFSET", 3, BE32),
    Attr("NFTA_EXTHDR_LEN", 4, BE32, legal=BYTE),
    Attr("NFTA_EXTHDR_FLAGS", 5, BE32),
    Attr("NFTA_EXTHDR_OP", 6, BE32, legal=BYTE),
    Attr("NFTA_EXTHDR_SREG", 7, BE32),
)
NFTA_FIB = AttrTable(
    "NFTA_FIB",
    Attr("NFTA_FIB_DREG", 1, BE32),
    Attr("NFTA_FIB_RESULT", 2, BE32),
    Attr("NFTA_FIB_FLAGS", 3, BE32, mask=0x3F),
)
NFTA_RT = AttrTable(
    "NFTA_RT",
    Attr("NFTA_RT_DREG", 1, BE32),
    Attr("NFTA_RT_KEY", 2, BE32, legal=BYTE),
)
NFTA_NG = AttrTable(
    "NFTA_NG",
    Attr("NFTA_NG_DREG", 1, BE32),
    Attr("NFTA_NG_MODULUS", 2, BE32),
    Attr("NFTA_NG_TYPE", 3, BE32),
    Attr("NFTA_NG_OFFSET", 4, BE32),
)
NFTA_HASH = AttrTable(
    "NFTA_HASH",
    Attr("NFTA_HASH_SREG", 1, BE32),
    Attr("NFTA_HASH_DREG", 2, BE32),
    Attr("NFTA_HASH_LEN", 3, BE32, legal=BYTE),
    Attr("NFTA_HASH_MODULUS", 4, BE32),
    Attr("NFTA_HASH_SEED", 5, BE32),
    Attr("NFTA_HASH_OFFSET", 6, BE32),
    Attr("NFTA_HASH_TYPE", 7, BE32),
)
NFTA_OBJREF = AttrTable(
    "NFTA_OBJREF",
    Attr("NFTA_OBJREF_IMM_TYPE", 1, BE32),
    Attr("NFTA_OBJREF_IMM_NAME", 2, STRING, NAME_MAXLEN),
    Attr("NFTA_OBJREF_SET_SREG", 3, BE32),
    Attr("NFTA_OBJREF_SET_NAME", 4, STRING, NAME_MAXLEN),
    Attr("NFTA_OBJREF_SET_ID", 5, BE32),
)
NFTA_QUEUE = AttrTable(
    "NFTA_QUEUE",
    Attr("NFTA_QUEUE_NUM", 1, BE16),
    Attr("NFTA_QUEUE_TOTAL", 2, BE16),
    Attr("NFTA_QUEUE_FLAGS", 3, BE16),
    Attr("NFTA_QUEUE_SREG_QNUM", 4, BE32),
)
NFTA_LAST = AttrTable(
    "NFTA_LAST",
    Attr("NFTA_LAST_SET", 1, BE32),
    Attr("NFTA_LAST_MSECS", 2, BE64),
)
NFTA_MATCH = AttrTable(
    "NFTA_MATCH",
    Attr("NFTA_MATCH_NAME", 1, NUL_STRING),
    Attr("NFTA_MATCH_REV", 2, BE32, legal=BYTE),
    Attr("NFTA_MATCH_INFO", 3, BINARY),
)
NFTA_TARGET = AttrTable(
    "NFTA_TARGET",
    Attr("NFTA_TARGET_NAME", 1, NUL_STRING),
    Attr("NFTA_TARGET_REV", 2, BE32, legal=BYTE),
    Attr("NFTA_TARGET_INFO", 3, BINARY),
)
NFTA_COMPAT = AttrTable(
    "NFTA_COMPAT",
    Attr("NFTA_COMPAT_NAME", 1, NUL_STRING, 31),
    Attr("NFTA_COMPAT_REV", 2, BE32),
    Attr("NFTA_COMPAT_TYPE", 3, BE32),
)
NFTA_RULE_COMPAT = AttrTable(
    "NFTA_RULE_COMPAT",
    Attr("NFTA_RULE_COMPAT_PROTO", 1, BE32),
    Attr("NFTA_RULE_COMPAT_FLAGS", 2, BE32),
)
