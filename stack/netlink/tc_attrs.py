"""uapi/linux/pkt_sched.h: messages of traffic control: structures and attributes, as rows.

The parameters that `tc` sends become one mapping, `{"rate": 125000, "limit": 3000}`, which its
`init` and `change` take. What its `dump` returns becomes a message again. OPTIONS has a row per
kind: the structure at the start of TCA_OPTIONS, if there is one, and the attributes. The members of
a structure are in the mapping by their names; `Shape` gives these. XSTATS has the statistics.

    Options.parse(data)     bytes of TCA_OPTIONS -> mapping. Raises: NlError EINVAL, ERANGE.
    Options.build(opt)      mapping -> bytes; missing or None values are omitted

Read `Options` first.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stack.netlink.nlattr import (
    BINARY,
    FLAG,
    NESTED,
    S64,
    STRING,
    U8,
    U32,
    U64,
    UNSPEC,
    Attr,
    AttrTable,
    AttrType,
    NlError,
)

TCMSG = struct.Struct("=BxxxiIII")
"""family, index, handle, parent, info."""

TCA = AttrTable(
    "TCA",
    Attr("TCA_KIND", 1, STRING),
    Attr("TCA_OPTIONS", 2, UNSPEC),
    Attr("TCA_STATS", 3, UNSPEC),
    Attr("TCA_XSTATS", 4, UNSPEC),
    Attr("TCA_RATE", 5, UNSPEC),
    Attr("TCA_STATS2", 7, NESTED),
    Attr("TCA_STAB", 8, NESTED),
    Attr("TCA_DUMP_INVISIBLE", 10, FLAG),
    Attr("TCA_CHAIN", 11, U32),
    Attr("TCA_HW_OFFLOAD", 12, U8),
    Attr("TCA_INGRESS_BLOCK", 13, U32),
    Attr("TCA_EGRESS_BLOCK", 14, U32),
    last=16,
)
STATS2 = AttrTable(
    "TCA_STATS",
    Attr("TCA_STATS_BASIC", 1, UNSPEC),
    Attr("TCA_STATS_RATE_EST", 2, UNSPEC),
    Attr("TCA_STATS_QUEUE", 3, UNSPEC),
    Attr("TCA_STATS_APP", 4, UNSPEC),
    Attr("TCA_STATS_RATE_EST64", 5, UNSPEC),
    Attr("TCA_STATS_BASIC_HW", 7, UNSPEC),
    Attr("TCA_STATS_PKT64", 8, U64),
)
BASIC = struct.Struct("=QI4x")
"""struct gnet_stats_basic: bytes, packets."""
QUEUE = struct.Struct("=IIIII")
"""struct gnet_stats_queue: qlen, backlog, drops, requeues, overlimits."""
RATE_EST = struct.Struct("=II")
RATE_EST64 = struct.Struct("=QQ")
"""struct gnet_stats_rate_est and gnet_stats_rate_est64: bytes/s, packets/s."""
TC_STATS = struct.Struct("=QIIIIIII4x")
"""struct tc_stats: bytes, packets, drops, overlimits, bps, pps, qlen, backlog."""


class Shape:
    """A structure: the names of its members and their format; "-" for one that is not used."""

    def __init__(self, fmt: str, names: str) -> None:
        self.code = struct.Struct("=" + fmt)
        self.names = tuple(names.split())
        self.zeros = self.code.unpack(bytes(self.code.size)) if fmt else (None,) * len(self.names)

    def get(self, data: bytes) -> dict[str, Any]:
        """The members by name."""
        found = zip(self.names, self.code.unpack_from(data), strict=True)
        return {name: value for name, value in found if name != "-"}

    def put(self, opt: Mapping[str, Any]) -> bytes:
        """The structure; a member that is not given is 0."""
        given = (opt.get(name) for name in self.names)
        both = zip(given, self.zeros, strict=True)
        return self.code.pack(*(zero if value is None else value for value, zero in both))

    def row(self, name: str, number: int) -> Structure:
        """An attribute with this structure, which is built if one of its members is given."""
        return Structure(
            name, number, AttrType("UNSPEC", self.get, self.put), self.code.size, shape=self
        )


@dataclass(frozen=True, slots=True)
class Structure(Attr):
    """An attribute whose payload is a structure."""

    shape: Shape = field(default_factory=lambda: Shape("", ""))


class Options:
    """TCA_OPTIONS of one kind: `head` is the structure at its start, `rows` are the attributes.

    `least`: bytes of the structure that old programs send; the rest is 0.
    """

    def __init__(self, *rows: Attr, head: Shape | None = None, least: int = 0) -> None:
        self.head = head
        self.least = least
        self.rows = rows
        self.table = AttrTable("TCA_OPTIONS", *rows)
        members = [row.shape.names for row in rows if isinstance(row, Structure)]
        self.names = {
            *(head.names if head is not None else ()),
            *(name for names in members for name in names),
            *(row.name for row in rows if not isinstance(row, Structure)),
        } - {"-"}
        """All parameters."""
        scalar = (row for row in rows if not isinstance(row, Structure))
        self.tables = {"priomap", *(row.name for row in scalar if not row.type.size)}
        """Non-numeric ones: bytes, or several numbers."""

    def parse(self, data: bytes) -> dict[str, Any]:
        """The parameters by name. Raises: NlError EINVAL, ERANGE."""
        at, opt = 0, {}
        if self.head is not None:
            at = self.head.code.size
            if len(data) < (self.least or at):
                raise NlError(errno.EINVAL)
            opt.update(self.head.get(data.ljust(at, b"\0")))
            at = at + 3 & ~3
        for name, value in self.table.parse(data, at).items():
            if isinstance(value, dict):
                opt.update(value)
            else:
                opt[name] = value
        return opt

    def build(self, opt: Mapping[str, Any]) -> bytes:
        """The bytes of the given parameters."""
        out = bytearray(self.head.put(opt) if self.head is not None else b"")
        out += bytes(-len(out) & 3)
        for row in self.rows:
            if isinstance(row, Structure):
                if not opt.keys().isdisjoint(row.shape.names):
                    self.table.put(out, row.name, opt)
            elif opt.get(row.name) is not None:
                self.table.put(out, row.name, opt[row.name])
        return bytes(out)


def Nest(name: str, number: int, *rows: Attr) -> Structure:
    """An attribute with attributes in it, whose names are parameters too."""
    inner = Options(*rows)
    shape = Shape("", " ".join(sorted(inner.names)))
    kind = AttrType("NESTED", inner.parse, inner.build)
    return Structure(name, number, kind, shape=shape)


def numbers(names: str) -> Options:
    """Attributes of 32 bits, numbered from 1."""
    return Options(*(Attr(name, at, U32) for at, name in enumerate(names.split(), 1)))


def ratespec(name: str) -> str:
    """The members of struct tc_ratespec, whose format is RATESPEC."""
    return f"- {name}_linklayer {name}_overhead - {name}_mpu {name}"


RATESPEC = "BBHhHI"
FIFO = Options(head=Shape("I", "limit"))
PRIO_QOPT = Shape("i16s", "bands priomap")
TBF = Options(
    Shape(
        f"{RATESPEC}{RATESPEC}III",
        f"{ratespec('rate')} {ratespec('peakrate')} limit buffer mtu",
    ).row("PARMS", 1),
    Attr("rate64", 4, U64),
    Attr("prate64", 5, U64),
    Attr("burst", 6, U32),
    Attr("pburst", 7, U32),
)


def many(code: str) -> AttrType:
    """Numbers of 16 bits, as many as there are."""

    def get(data: bytes) -> tuple[int, ...]:
        return struct.unpack(f"={len(data) // 2}{code}", data[: len(data) & ~1])

    return AttrType("BINARY", get, lambda values: struct.pack(f"={len(values)}{code}", *values))


INT16S, UINT16S = many("h"), many("H")
NETEM = Options(
    Attr("latency64", 10, S64),
    Attr("jitter64", 11, S64),
    Shape("III", "delay_corr loss_corr dup_corr").row("CORR", 1),
    Attr("delay_dist", 2, INT16S),
    Shape("II", "reorder reorder_corr").row("REORDER", 3),
    Shape("II", "corrupt corrupt_corr").row("CORRUPT", 4),
    Shape("IiIi", "rate packet_overhead cell_size cell_overhead").row("RATE", 6),
    Attr("rate64", 8, U64),
    Attr("ecn", 7, U32),
    Nest(
        "LOSS",
        5,
        Shape("IIIII", "p13 p31 p32 p14 p23").row("GI", 1),
        Shape("IIII", "p r h k1").row("GE", 2),
    ),
    Shape("qqiiqq", "min_delay max_delay max_packets max_bytes dist_delay dist_jitter").row(
        "SLOT", 12
    ),
    Attr("slot_dist", 13, INT16S),
    Attr("prng_seed", 14, U64),
    head=Shape("IIIIII", "latency limit loss gap duplicate jitter"),
)


STAB = Options(
    Shape("BBhiIIII", "cell_log size_log cell_align overhead linklayer mpu mtu tsize").row(
        "BASE", 1
    ),
    Attr("data", 2, UINT16S),
)
"""TCA_STAB."""

OPTIONS: dict[str, Options] = {
    "ingress": Options(),
    "clsact": Options(),
    "pfifo": FIFO,
    "bfifo": FIFO,
    "pfifo_head_drop": FIFO,
    "pfifo_fast": Options(head=PRIO_QOPT),
    "tbf": TBF,
    "prio": Options(head=PRIO_QOPT),
    "netem": NETEM,
    "codel": numbers("target limit interval ecn ce_threshold"),
    "fq_codel": numbers(
        "target limit interval ecn flows quantum ce_threshold drop_batch_size memory_limit"
    ),
    "fq": Options(
        *numbers(
            "plimit flow_plimit quantum initial_quantum rate_enable flow_default_rate "
            "flow_max_rate buckets_log flow_refill_delay orphan_mask low_rate_threshold "
            "ce_threshold"
        ).rows,
        Attr("horizon", 14, U32),
        Attr("horizon_drop", 15, U8),
    ),
    "etf": Options(Shape("iiI", "delta clockid flags").row("PARMS", 1)),
    "sfq": Options(
        head=Shape(
            "IiIIIIIIIIBBBBI6I",
            "quantum perturb_period limit divisor flows depth headdrop - qth_min qth_max - - - - - "
            "- - - - - -",
        ),
        least=20,
    ),
    "red": Options(
        Shape("IIIBBBB", "limit qth_min qth_max Wlog Plog Scell_log flags").row("PARMS", 1),
        Attr("stab", 2, BINARY),
        Attr("max_P", 3, U32),
        Shape("II", "flags_value flags_selector").row("FLAGS", 4),
    ),
    "htb": Options(
        Shape("IiIII", "version rate2quantum defcls debug direct_pkts").row("INIT", 2),
        Attr("direct_qlen", 5, U32),
        Attr("offload", 9, FLAG),
    ),
}
"""TCA_OPTIONS of disciplines."""
CLASS_OPTIONS: dict[str, Options] = {
    "htb": Options(
        Shape(
            f"{RATESPEC}{RATESPEC}IIIII",
            f"{ratespec('rate')} {ratespec('ceil')} buffer cbuffer quantum level prio",
        ).row("PARMS", 1),
        Attr("rate64", 6, U64),
        Attr("ceil64", 7, U64),
    )
}
"""TCA_OPTIONS of classes."""
XSTATS: dict[str, Shape] = {
    "codel": Shape(
        "IIIIiIIII",
        "maxpacket count lastcount ldelay drop_next drop_overlimit ecn_mark dropping ce_mark",
    ),
    "fq_codel": Shape(
        "10I",
        "type maxpacket drop_overlimit ecn_mark new_flow_count new_flows_len old_flows_len ce_mark "
        "memory_usage drop_overmemory",
    ),
    "red": Shape("IIII", "early pdrop other marked"),
    "fq": Shape(
        "QQQQQQQqIIIIQQQ",
        "gc_flows highprio_packets tcp_retrans throttled flows_plimit pkts_too_long "
        "allocation_errors time_next_delayed_flow flows inactive_flows throttled_flows - ce_mark "
        "horizon_drops horizon_caps",
    ),
}
"""TCA_STATS_APP of disciplines."""
CLASS_XSTATS: dict[str, Shape] = {"htb": Shape("IIIii", "lends borrows giants tokens ctokens")}
"""TCA_STATS_APP of classes."""
