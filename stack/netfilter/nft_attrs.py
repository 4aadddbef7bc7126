"""include/uapi/linux/netfilter/nf_tables.h: attributes of nf_tables' messages.

Numbers are big-endian. The message after the netlink header begins with struct nfgenmsg.
The attributes of single expressions are in their modules.
"""

from __future__ import annotations

import struct

from stack.netlink.nlattr import (
    BE16,
    BE32,
    BE64,
    BINARY,
    NESTED,
    STRING,
    U8,
    U32,
    Attr,
    AttrTable,
    AttrType,
)

NFT_NAME_MAXLEN = 256
NFT_USERDATA_MAXLEN = 256
IFNAMSIZ = 16
NFT_MODULE_AUTOLOAD_LIMIT = 49

_SIGNED = struct.Struct(">i")
BES32 = AttrType("BES32", lambda data: _SIGNED.unpack_from(data)[0], _SIGNED.pack, 4)
"""Signed, in network order: a verdict, a priority."""


def nested(name: str, number: int, inner: AttrTable | None = None) -> Attr:
    """An attribute with others in it; nf_tables builds them without NLA_F_NESTED."""
    return Attr(name, number, NESTED, inner=inner)


def named(name: str, number: int) -> Attr:
    """The name of a table, chain, set or object."""
    return Attr(name, number, STRING, NFT_NAME_MAXLEN - 1)


def userdata(name: str, number: int) -> Attr:
    """A program's data for its object: comments, types."""
    return Attr(name, number, BINARY, NFT_USERDATA_MAXLEN)


NFTA_VERDICT = AttrTable(
    "NFTA_VERDICT",
    Attr("NFTA_VERDICT_CODE", 1, BES32),
    named("NFTA_VERDICT_CHAIN", 2),
    Attr("NFTA_VERDICT_CHAIN_ID", 3, BE32),
)
NFTA_DATA = AttrTable(
    "NFTA_DATA",
    Attr("NFTA_DATA_VALUE", 1, BINARY),
    nested("NFTA_DATA_VERDICT", 2, NFTA_VERDICT),
)
NFTA_EXPR = AttrTable(
    "NFTA_EXPR",
    Attr("NFTA_EXPR_NAME", 1, STRING, 127),
    nested("NFTA_EXPR_DATA", 2),
)
NFTA_LIST = AttrTable("NFTA_LIST", nested("NFTA_LIST_ELEM", 1))
"""Read by nla_for_each: its one attribute is repeated."""
NFTA_COUNTER = AttrTable(
    "NFTA_COUNTER",
    Attr("NFTA_COUNTER_BYTES", 1, BE64),
    Attr("NFTA_COUNTER_PACKETS", 2, BE64),
)
NFTA_TABLE = AttrTable(
    "NFTA_TABLE",
    named("NFTA_TABLE_NAME", 1),
    Attr("NFTA_TABLE_FLAGS", 2, BE32),
    Attr("NFTA_TABLE_USE", 3, BE32, told=True),
    Attr("NFTA_TABLE_HANDLE", 4, BE64),
    userdata("NFTA_TABLE_USERDATA", 6),
    Attr("NFTA_TABLE_OWNER", 7, BE32, told=True),
)
NFTA_HOOK = AttrTable(
    "NFTA_HOOK",
    Attr("NFTA_HOOK_HOOKNUM", 1, BE32),
    Attr("NFTA_HOOK_PRIORITY", 2, BES32),
    Attr("NFTA_HOOK_DEV", 3, STRING, IFNAMSIZ - 1),
    nested("NFTA_HOOK_DEVS", 4),
)
NFTA_CHAIN = AttrTable(
    "NFTA_CHAIN",
    named("NFTA_CHAIN_TABLE", 1),
    Attr("NFTA_CHAIN_HANDLE", 2, BE64),
    named("NFTA_CHAIN_NAME", 3),
    nested("NFTA_CHAIN_HOOK", 4, NFTA_HOOK),
    Attr("NFTA_CHAIN_POLICY", 5, BE32),
    Attr("NFTA_CHAIN_USE", 6, BE32, told=True),
    Attr("NFTA_CHAIN_TYPE", 7, STRING, NFT_MODULE_AUTOLOAD_LIMIT),
    nested("NFTA_CHAIN_COUNTERS", 8, NFTA_COUNTER),
    Attr("NFTA_CHAIN_FLAGS", 10, BE32),
    Attr("NFTA_CHAIN_ID", 11, BE32),
    userdata("NFTA_CHAIN_USERDATA", 12),
)
NFTA_RULE = AttrTable(
    "NFTA_RULE",
    named("NFTA_RULE_TABLE", 1),
    named("NFTA_RULE_CHAIN", 2),
    Attr("NFTA_RULE_HANDLE", 3, BE64),
    nested("NFTA_RULE_EXPRESSIONS", 4),
    nested("NFTA_RULE_COMPAT", 5),
    Attr("NFTA_RULE_POSITION", 6, BE64),
    userdata("NFTA_RULE_USERDATA", 7),
    Attr("NFTA_RULE_ID", 9, BE32),
    Attr("NFTA_RULE_POSITION_ID", 10, BE32),
    Attr("NFTA_RULE_CHAIN_ID", 11, BE32),
)
NFTA_SET_FIELD = AttrTable("NFTA_SET_FIELD", Attr("NFTA_SET_FIELD_LEN", 1, BE32))
NFTA_SET_DESC = AttrTable(
    "NFTA_SET_DESC",
    Attr("NFTA_SET_DESC_SIZE", 1, BE32),
    nested("NFTA_SET_DESC_CONCAT", 2),
)
NFTA_SET = AttrTable(
    "NFTA_SET",
    named("NFTA_SET_TABLE", 1),
    named("NFTA_SET_NAME", 2),
    Attr("NFTA_SET_FLAGS", 3, BE32),
    Attr("NFTA_SET_KEY_TYPE", 4, BE32),
    Attr("NFTA_SET_KEY_LEN", 5, BE32),
    Attr("NFTA_SET_DATA_TYPE", 6, BE32),
    Attr("NFTA_SET_DATA_LEN", 7, BE32),
    Attr("NFTA_SET_POLICY", 8, BE32),
    nested("NFTA_SET_DESC", 9, NFTA_SET_DESC),
    Attr("NFTA_SET_ID", 10, BE32),
    Attr("NFTA_SET_TIMEOUT", 11, BE64),
    Attr("NFTA_SET_GC_INTERVAL", 12, BE32),
    userdata("NFTA_SET_USERDATA", 13),
    Attr("NFTA_SET_OBJ_TYPE", 15, BE32),
    Attr("NFTA_SET_HANDLE", 16, BE64),
    nested("NFTA_SET_EXPR", 17),
    nested("NFTA_SET_EXPRESSIONS", 18),
)
NFTA_SET_ELEM = AttrTable(
    "NFTA_SET_ELEM",
    nested("NFTA_SET_ELEM_KEY", 1, NFTA_DATA),
    nested("NFTA_SET_ELEM_DATA", 2, NFTA_DATA),
    Attr("NFTA_SET_ELEM_FLAGS", 3, BE32),
    Attr("NFTA_SET_ELEM_TIMEOUT", 4, BE64),
    Attr("NFTA_SET_ELEM_EXPIRATION", 5, BE64),
    userdata("NFTA_SET_ELEM_USERDATA", 6),
    nested("NFTA_SET_ELEM_EXPR", 7),
    named("NFTA_SET_ELEM_OBJREF", 9),
    nested("NFTA_SET_ELEM_KEY_END", 10, NFTA_DATA),
    nested("NFTA_SET_ELEM_EXPRESSIONS", 11),
)
NFTA_SET_ELEM_LIST = AttrTable(
    "NFTA_SET_ELEM_LIST",
    named("NFTA_SET_ELEM_LIST_TABLE", 1),
    named("NFTA_SET_ELEM_LIST_SET", 2),
    nested("NFTA_SET_ELEM_LIST_ELEMENTS", 3),
    Attr("NFTA_SET_ELEM_LIST_SET_ID", 4, BE32),
)
NFTA_OBJ = AttrTable(
    "NFTA_OBJ",
    named("NFTA_OBJ_TABLE", 1),
    named("NFTA_OBJ_NAME", 2),
    Attr("NFTA_OBJ_TYPE", 3, BE32),
    nested("NFTA_OBJ_DATA", 4),
    Attr("NFTA_OBJ_USE", 5, BE32, told=True),
    Attr("NFTA_OBJ_HANDLE", 6, BE64),
    userdata("NFTA_OBJ_USERDATA", 8),
)
NFTA_FLOWTABLE = AttrTable(
    "NFTA_FLOWTABLE",
    named("NFTA_FLOWTABLE_TABLE", 1),
    named("NFTA_FLOWTABLE_NAME", 2),
    nested("NFTA_FLOWTABLE_HOOK", 3),
    Attr("NFTA_FLOWTABLE_USE", 4, BE32, told=True),
    Attr("NFTA_FLOWTABLE_HANDLE", 5, BE64),
    Attr("NFTA_FLOWTABLE_FLAGS", 7, BE32),
)
NFTA_GEN = AttrTable(
    "NFTA_GEN",
    Attr("NFTA_GEN_ID", 1, BE32),
    Attr("NFTA_GEN_PROC_PID", 2, BE32),
    Attr("NFTA_GEN_PROC_NAME", 3, STRING),
)
NFNL_BATCH = AttrTable("NFNL_BATCH", Attr("NFNL_BATCH_GENID", 1, BE32))
NFTA_TRACE = AttrTable(
    "NFTA_TRACE",
    named("NFTA_TRACE_TABLE", 1),
    named("NFTA_TRACE_CHAIN", 2),
    Attr("NFTA_TRACE_RULE_HANDLE", 3, BE64),
    Attr("NFTA_TRACE_TYPE", 4, BE32),
    nested("NFTA_TRACE_VERDICT", 5, NFTA_VERDICT),
    Attr("NFTA_TRACE_ID", 6, U32),
    Attr("NFTA_TRACE_LL_HEADER", 7, BINARY),
    Attr("NFTA_TRACE_NETWORK_HEADER", 8, BINARY),
    Attr("NFTA_TRACE_TRANSPORT_HEADER", 9, BINARY),
    Attr("NFTA_TRACE_IIF", 10, BE32),
    Attr("NFTA_TRACE_IIFTYPE", 11, BE16),
    Attr("NFTA_TRACE_OIF", 12, BE32),
    Attr("NFTA_TRACE_OIFTYPE", 13, BE16),
    Attr("NFTA_TRACE_MARK", 14, BE32),
    Attr("NFTA_TRACE_NFPROTO", 15, BE32),
    Attr("NFTA_TRACE_POLICY", 16, BE32),
    Attr("NFTA_TRACE_CT_ID", 18, BE32),
    Attr("NFTA_TRACE_CT_DIRECTION", 19, U8),
    Attr("NFTA_TRACE_CT_STATUS", 20, BE32),
    Attr("NFTA_TRACE_CT_STATE", 21, BE32),
)
