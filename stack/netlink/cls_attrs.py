"""uapi/linux/pkt_cls.h, tc_act/*.h: messages of filters and actions: attributes, as rows.

As in stack/netlink/tc_attrs.py, messages of `tc` are converted to mappings by name and back.
CLASSIFIERS and ACTIONS have the attributes of each kind. In a filter's mapping `actions` is a list
of tc_action objects in a dump. In a request it is a function that yields mappings (kind, options,
cookie ...), so that errors in them are raised when the classifier reads them.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stack.core.netdevice import IFNAMSIZ
from stack.netlink.gen_stats import stats2
from stack.netlink.nlattr import (
    BE16,
    BE32,
    BINARY,
    IN6,
    NLA_HDRLEN,
    NLA_TYPE_MASK,
    STRING,
    U8,
    U16,
    U32,
    U64,
    UNSPEC,
    Attr,
    AttrTable,
    AttrType,
    NlError,
    nest,
    nla_for_each,
)
from stack.netlink.tc_attrs import Options, Shape, Structure
from stack.sched.act_api import TCA_ACT_MAX_PRIO, tc_action

GEN = "index capab action refcnt bindcnt"
"""struct tc_gen, at the start of each action's parameters."""
GEN_FMT = "IIiii"
TC_COOKIE_MAX_SIZE = 16
HW_STATS_ANY = 3
ACT_FLAGS = 7
BITFIELD32 = struct.Struct("=II")


def told(row: Structure) -> Structure:
    """A structure for answers only."""
    return replace(row, told=True)


TM = told(Shape("QQQQ", "install lastuse expires firstuse").row("TM", 1))
"""struct tcf_t: hundredths of a second since."""


# --- actions ------------------------------------------------------------------------------------

PEDIT_SEL = Shape(f"{GEN_FMT}BBxx", f"{GEN} nkeys pedit_flags")


def _pedit_get(data: bytes) -> dict[str, Any]:
    return {**PEDIT_SEL.get(data), "keys": data[PEDIT_SEL.code.size :]}


def _pedit_put(opt: Mapping[str, Any]) -> bytes:
    return PEDIT_SEL.put(opt) + bytes(opt.get("keys") or opt.get("keys_ex") or b"")


def _pedit(name: str, number: int, keys: str) -> Structure:
    kind = AttrType("UNSPEC", _pedit_get, _pedit_put)
    return Structure(name, number, kind, PEDIT_SEL.code.size, shape=Shape("", keys))


PEDIT_KEY_EX = AttrTable("TCA_PEDIT_KEY_EX", Attr("htype", 1, U16), Attr("cmd", 2, U16))


def nested(data: bytes) -> list[tuple[int, bytes]]:
    """The numbers and payloads of what is nested in an attribute."""
    return [
        (kind & NLA_TYPE_MASK, data[at + NLA_HDRLEN : end]) for kind, at, end in nla_for_each(data)
    ]


def _keys_ex_get(data: bytes) -> list[tuple[int, int]]:
    found = []
    for number, payload in nested(data):
        tb = PEDIT_KEY_EX.parse(payload)
        if number != 6 or len(tb) != 2:
            raise NlError(errno.EINVAL)
        found.append((tb["htype"], tb["cmd"]))
    return found


def _keys_ex_put(keys: Sequence[tuple[int, int]]) -> bytes:
    rows = [PEDIT_KEY_EX.build({"htype": htype, "cmd": cmd}) for htype, cmd in keys]
    return b"".join([nest(6, row) for row in rows])


def spec_of(name: str) -> str:
    """The members of struct tc_ratespec."""
    return f"{name}_cell_log {name}_linklayer {name}_overhead - {name}_mpu {name}"


POLICE = Options(
    Shape(
        "IiIIIBBHhHIBBHhHIiiI",
        f"index action limit burst mtu {spec_of('rate')} {spec_of('peakrate')} "
        "refcnt bindcnt capab",
    ).row("TBF", 1),
    Attr("rate64", 8, U64),
    Attr("peakrate64", 9, U64),
    Attr("pktrate64", 10, U64),
    Attr("pktburst64", 11, U64),
    Attr("result", 5, U32),
    Attr("avrate", 4, U32),
    Attr("rtab", 2, BINARY, 1024),
    Attr("ptab", 3, BINARY, 1024),
    replace(TM, number=6),
)
ACTIONS: dict[str, Options] = {
    "gact": Options(
        Shape(GEN_FMT, GEN).row("PARMS", 2),
        Shape("HHi", "ptype pval paction").row("PROB", 3),
        TM,
    ),
    "mirred": Options(Shape(f"{GEN_FMT}iI", f"{GEN} eaction ifindex").row("PARMS", 2), TM),
    "police": POLICE,
    "vlan": Options(
        Shape(f"{GEN_FMT}i", f"{GEN} v_action").row("PARMS", 2),
        Attr("push_vid", 3, U16),
        Attr("push_proto", 4, BE16),
        Attr("push_prio", 6, U8),
        TM,
    ),
    "pedit": Options(
        Attr("extended", 5, AttrType("NESTED", _keys_ex_get, _keys_ex_put)),
        _pedit("PARMS", 2, "keys"),
        _pedit("PARMS_EX", 4, "keys_ex"),
        TM,
    ),
    "skbedit": Options(
        Shape(GEN_FMT, GEN).row("PARMS", 2),
        Attr("priority", 3, U32),
        Attr("queue_mapping", 4, U16),
        Attr("mark", 5, U32),
        Attr("ptype", 7, U16),
        Attr("mask", 8, U32),
        Attr("skbedit_flags", 9, U64),
        TM,
    ),
}
"""TCA_ACT_OPTIONS of each kind."""


def bitfield32(legal: int) -> AttrType:
    """lib/nlattr.c: a value under a selector, both within `legal`."""

    def get(data: bytes) -> int:
        value, selector = BITFIELD32.unpack_from(data)
        if (value | selector) & ~legal or value & ~selector:
            raise NlError(errno.EINVAL)
        return value  # type: ignore[no-any-return]

    return AttrType("BITFIELD32", get, lambda pair: BITFIELD32.pack(*pair), BITFIELD32.size)


ACT = AttrTable(
    "TCA_ACT",
    Attr("TCA_ACT_KIND", 1, STRING),
    Attr("TCA_ACT_OPTIONS", 2, BINARY),
    Attr("TCA_ACT_INDEX", 3, U32),
    Attr("TCA_ACT_STATS", 4, UNSPEC, told=True),
    Attr("TCA_ACT_COOKIE", 6, BINARY, TC_COOKIE_MAX_SIZE),
    Attr("TCA_ACT_FLAGS", 7, bitfield32(ACT_FLAGS)),
    Attr("TCA_ACT_HW_STATS", 8, bitfield32(HW_STATS_ANY)),
    Attr("TCA_ACT_USED_HW_STATS", 9, bitfield32(HW_STATS_ANY), told=True),
    Attr("TCA_ACT_IN_HW_COUNT", 10, U32, told=True),
)
ROOT = AttrTable(
    "TCA_ROOT",
    Attr("TCA_ROOT_TAB", 1, BINARY),
    Attr("TCA_ROOT_FLAGS", 2, bitfield32(3)),
    Attr("TCA_ROOT_COUNT", 3, U32),
    Attr("TCA_ROOT_TIME_DELTA", 4, U32),
)
"""Behind struct tcamsg: a list of actions."""


def action_kind(tb: Mapping[str, Any]) -> str:
    """net/sched/act_api.c: the name of an action. Raises: NlError EINVAL."""
    kind: str | None = tb.get("TCA_ACT_KIND")
    if kind is None:
        raise NlError(errno.EINVAL, "TC action kind must be specified")
    if len(kind) >= IFNAMSIZ:
        raise NlError(errno.EINVAL, "TC action name too long")
    return kind


def action_spec(payload: bytes) -> dict[str, Any]:
    """One action of a request as a mapping. Raises: NlError."""
    tb = ACT.parse(payload)
    kind = action_kind(tb)
    data, table = tb.get("TCA_ACT_OPTIONS"), ACTIONS.get(kind)
    return {
        "kind": kind,
        "options": table.parse(data) if table is not None and data is not None else None,
        "cookie": tb.get("TCA_ACT_COOKIE"),
        "flags": tb.get("TCA_ACT_FLAGS", 0),
        "hw_stats": tb.get("TCA_ACT_HW_STATS", HW_STATS_ANY),
    }


def action_payloads(data: bytes) -> list[bytes]:
    """net/sched/act_api.c: the actions of a list, up to the first missing number."""
    found = dict(nested(data))
    payloads = []
    for number in range(1, TCA_ACT_MAX_PRIO + 1):
        if number not in found:
            break
        payloads.append(found[number])
    return payloads


def actions_get(data: bytes) -> Iterator[dict[str, Any]]:
    """The actions of a request, each parsed when it is reached. Raises: NlError."""
    payloads = action_payloads(data)
    for payload in payloads:
        if action_kind(ACT.parse(payload)) not in ACTIONS:
            raise NlError(errno.ENOENT, "Failed to load TC action module")
    return map(action_spec, payloads)


def actions_put(actions: Sequence[tc_action], first: int = 1) -> bytes:
    """net/sched/act_api.c tcf_action_dump: a list of actions, numbered from `first`."""
    told = [tcf_action_dump_1(action) for action in actions]
    return b"".join([nest(number, one) for number, one in enumerate(told, first)])


def tcf_action_dump_1(action: tc_action) -> bytes:
    """net/sched/act_api.c: one action with its statistics."""
    return ACT.build(
        {
            "TCA_ACT_KIND": action.kind,
            "TCA_ACT_STATS": stats2(
                action.bstats, action.qstats, est=action.rate_est, hardware=True
            ),
            "TCA_ACT_COOKIE": action.cookie or None,
            "TCA_ACT_HW_STATS": (
                (action.hw_stats, HW_STATS_ANY) if action.hw_stats != HW_STATS_ANY else None
            ),
            "TCA_ACT_USED_HW_STATS": (0, HW_STATS_ANY) if action.used_hw_stats else None,
            "TCA_ACT_FLAGS": (action.flags, action.flags) if action.flags else None,
            "TCA_ACT_IN_HW_COUNT": 0,
            "TCA_ACT_OPTIONS": ACTIONS[action.kind].build(action.dump()),
        }
    )


# --- classifiers --------------------------------------------------------------------------------


def _actions(data: bytes) -> Callable[[], Iterator[dict[str, Any]]]:
    return lambda: actions_get(data)


def _police(data: bytes) -> Callable[[], Iterator[dict[str, Any]]]:
    return lambda: iter([{"kind": "police", "options": POLICE.parse(data), "compat": True}])


def _police_put(actions: Sequence[tc_action]) -> bytes:
    return POLICE.build(actions[0].dump())


def exts(action: int, police: int = 0) -> tuple[Attr, ...]:
    """The attributes for actions; `police`: the older form without actions."""
    rows = (Attr("actions", action, AttrType("BINARY", _actions, actions_put)),)
    if not police:
        return rows
    return (*rows, Attr("police", police, AttrType("BINARY", _police, _police_put)))


def _mac(data: bytes) -> int:
    return int.from_bytes(data[:6], "big")


MAC = AttrType("UNSPEC", _mac, lambda value: value.to_bytes(6, "big"))
FLOWER_KEYS: tuple[tuple[str, int, AttrType, int], ...] = (
    ("eth_dst", 4, MAC, 5),
    ("eth_src", 6, MAC, 7),
    ("eth_type", 8, BE16, 0),
    ("vlan_id", 23, U16, 0),
    ("vlan_prio", 24, U8, 0),
    ("cvlan_id", 77, U16, 0),
    ("cvlan_prio", 78, U8, 0),
    ("vlan_eth_type", 25, BE16, 0),
    ("cvlan_eth_type", 79, BE16, 0),
    ("ip_proto", 9, U8, 0),
    ("ip_tos", 73, U8, 74),
    ("ip_ttl", 75, U8, 76),
    ("ipv4_src", 10, BE32, 11),
    ("ipv4_dst", 12, BE32, 13),
    ("ipv6_src", 14, IN6, 15),
    ("ipv6_dst", 16, IN6, 17),
    ("tcp_src", 18, BE16, 35),
    ("tcp_dst", 19, BE16, 36),
    ("tcp_flags", 71, BE16, 72),
    ("udp_src", 20, BE16, 37),
    ("udp_dst", 21, BE16, 38),
    ("sctp_src", 41, BE16, 39),
    ("sctp_dst", 42, BE16, 40),
    ("icmpv4_type", 51, U8, 52),
    ("icmpv4_code", 49, U8, 50),
    ("icmpv6_type", 55, U8, 56),
    ("icmpv6_code", 53, U8, 54),
    ("arp_sip", 57, BE32, 58),
    ("arp_tip", 59, BE32, 60),
    ("arp_op", 61, U8, 62),
    ("arp_sha", 63, MAC, 64),
    ("arp_tha", 65, MAC, 66),
    ("port_src_min", 87, BE16, 0),
    ("port_src_max", 88, BE16, 0),
    ("port_dst_min", 89, BE16, 0),
    ("port_dst_max", 90, BE16, 0),
    ("key_flags", 47, BE32, 48),
)
"""Name, number, type and number of the mask (0: none) of each field of `flower`."""


def _flower() -> tuple[Attr, ...]:
    rows = []
    for name, number, kind, mask in FLOWER_KEYS:
        most = 6 if kind is MAC else 0
        rows.append(Attr(name, number, kind, most))
        if mask:
            rows.append(Attr(f"{name}_mask", mask, kind, most))
    return tuple(rows)


CLASSIFIERS: dict[str, Options] = {
    "u32": Options(
        Attr("divisor", 4, U32),
        Attr("sel", 5, UNSPEC, 16),
        Attr("hash", 2, U32),
        Attr("classid", 1, U32),
        Attr("link", 3, U32),
        Attr("flags", 11, U32),
        Shape("III", "mark_val mark_mask mark_success").row("MARK", 10),
        *exts(7, 6),
        Attr("indev", 8, STRING, IFNAMSIZ),
    ),
    "flower": Options(
        Attr("classid", 1, U32),
        Attr("indev", 2, STRING, IFNAMSIZ),
        *_flower(),
        Attr("flags", 22, U32),
        *exts(3),
        Attr("in_hw_count", 86, U32),
    ),
    "matchall": Options(
        Attr("classid", 1, U32),
        Attr("flags", 3, U32),
        told(Shape("Q", "hits").row("PCNT", 4)),
        *exts(2),
    ),
    "bpf": Options(
        Attr("classid", 3, U32),
        Attr("ops_len", 4, U16),
        Attr("ops", 5, BINARY, 8 * 4096),
        Attr("fd", 6, U32),
        Attr("name", 7, STRING, 256),
        *exts(1, 2),
        Attr("bpf_flags", 8, U32),
        Attr("flags", 9, U32),
    ),
    "basic": Options(
        Attr("classid", 1, U32),
        Attr("ematches", 2, BINARY),
        *exts(3, 4),
        told(Shape("QQ", "rcnt rhit").row("PCNT", 5)),
    ),
    "fw": Options(
        Attr("classid", 1, U32),
        Attr("indev", 3, STRING, IFNAMSIZ),
        Attr("mask", 5, U32),
        *exts(4, 2),
    ),
}
"""TCA_OPTIONS of filters."""
