"""include/net/netfilter/nf_tables.h: tables, chains, rules, sets, and the state of evaluation.

    nftables_pernet         of a namespace: its tables
        nft_table           of a family: chains, sets, objects
            nft_chain       rules; a base chain (nft_base_chain) is attached to a hook point
                nft_rule    expressions, in order
                    nft_expr    reads the packet, compares, counts, decides
            nft_set         keys; a map has data for each
            nft_object      a named counter, quota, limit

An expression reads and writes the registers (nft_regs): 16 of 4 bytes, after 16 bytes of verdict.
The verdict says whether a rule continues: NFT_CONTINUE, or NFT_BREAK for no match. An index
of a register counts words of 4 bytes; nft_parse_register_load and _store return it. A register
holds the packet's bytes, or a number in host byte order.

A module defines a class of expressions and calls nft_register_expr. stack/netlink/nf_tables_api.py
reads and writes messages, stack/netfilter/nf_tables_core.py runs the rules. Read nft_expr first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fastpath.base.skbuff import sk_buff
from stack.core.netfilter import NF_ACCEPT, NF_DROP, nf_hook_state
from stack.net import Net
from stack.netlink.nlattr import Attrs, AttrTable, NlError

NFPROTO_INET = 1

# Verdicts besides NF_*.
NFT_CONTINUE = -1
NFT_BREAK = -2
NFT_JUMP = -3
NFT_GOTO = -4
NFT_RETURN = -5

NFT_REG_VERDICT, NFT_REG_4 = 0, 4
NFT_REG32_00, NFT_REG32_15 = 8, 23
NFT_REG_WORDS = 4
"""Words of 4 bytes in a register of 16, and in the verdict."""
NFT_REG32_NUM = 20
NFT_REG_BYTES = NFT_REG32_NUM * 4

NFT_DATA_VALUE = 0
NFT_DATA_VERDICT = 0xFFFFFF00
NFT_DATA_VALUE_MAXLEN = 64
NFT_DATA_BYTES = 16
"""struct nft_data: the longest value of an expression."""

NFT_JUMP_STACK_SIZE = 16
NFT_USERDATA_MAXLEN = 256

# Flags of tables, chains, sets, elements.
NFT_TABLE_F_DORMANT, NFT_TABLE_F_OWNER, NFT_TABLE_F_PERSIST = 1, 2, 4
NFT_CHAIN_BASE, NFT_CHAIN_HW_OFFLOAD, NFT_CHAIN_BINDING = 1, 2, 4
NFT_SET_ANONYMOUS, NFT_SET_CONSTANT, NFT_SET_INTERVAL, NFT_SET_MAP = 1, 2, 4, 8
NFT_SET_TIMEOUT, NFT_SET_EVAL, NFT_SET_OBJECT, NFT_SET_CONCAT, NFT_SET_EXPR = 16, 32, 64, 128, 256
NFT_SET_ELEM_INTERVAL_END, NFT_SET_ELEM_CATCHALL = 1, 2

# Valid fields of nft_pktinfo.
NFT_PKTINFO_L4PROTO = 1


@dataclass(slots=True)
class nft_data:
    """struct nft_data: a value, or a verdict with the chain that it names. `value` is None then."""

    value: bytes | None = None
    code: int = 0
    chain: nft_chain | None = None

    @property
    def type(self) -> int:
        """NFT_DATA_VALUE or NFT_DATA_VERDICT."""
        return NFT_DATA_VERDICT if self.value is None else NFT_DATA_VALUE


class nft_regs:
    """struct nft_regs: the registers while the rules of a chain are evaluated."""

    __slots__ = ("chain", "data", "verdict")

    def __init__(self) -> None:
        self.data = bytearray(NFT_REG_BYTES)
        self.verdict = NFT_CONTINUE
        self.chain: nft_chain | None = None
        """The target of NFT_JUMP and NFT_GOTO."""

    def load(self, reg: int, length: int) -> bytes:
        """`length` bytes from a register on."""
        return bytes(self.data[reg * 4 : reg * 4 + length])

    def store(self, reg: int, data: bytes) -> None:
        """Write bytes from a register on; the rest of the last word becomes 0."""
        at = reg * 4
        data += bytes(-len(data) & 3)
        self.data[at : at + len(data)] = data


class nft_pktinfo:
    """struct nft_pktinfo: the packet. skb.data is at the network header, offsets count from there.

    `tprot` and `thoff` are valid only with NFT_PKTINFO_L4PROTO in `flags`; `fragoff` is that of a
    fragment, in units of 8 bytes.
    """

    __slots__ = ("flags", "fragoff", "pf", "skb", "state", "thoff", "tprot")

    def __init__(self, skb: sk_buff, state: nf_hook_state) -> None:
        self.skb = skb
        self.state = state
        self.pf = state.pf
        """NFPROTO_IPV4 or NFPROTO_IPV6, in inet tables too."""
        self.flags = 0
        self.tprot = 0
        self.fragoff = 0
        self.thoff = 0


class nft_expr:
    """struct nft_expr with its nft_expr_ops: one expression of a rule, a set or an element."""

    name: ClassVar[str]
    attrs: ClassVar[AttrTable]
    """The attributes of NFTA_EXPR_DATA."""
    families: ClassVar[tuple[int, ...]] = ()
    """Families of tables (NFPROTO_*) that have the expression; empty: all."""
    gc: ClassVar[bool] = False
    """The collector of sets must look after it (NFT_EXPR_GC), which not all kinds of sets have."""
    stateful: ClassVar[bool] = False
    """It is allowed in a set's elements (NFT_EXPR_STATEFUL); it has `clone`."""
    # A subclass may be stateless and keep its fields in ordinary attributes.

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        """`init` of nft_expr_ops. Raises: NlError: the errno that Linux gives."""

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """Evaluate the expression; a condition that does not hold sets NFT_BREAK."""
        raise NotImplementedError

    def dump(self, reset: bool = False) -> Mapping[str, Any] | bytes | None:
        """The contents of NFTA_EXPR_DATA, for `attrs.build`; None: it has none.

        `reset`: counters restart.
        """
        raise NotImplementedError

    def validate(self, ctx: nft_ctx) -> None:
        """Check that a rule reached from the base chain `ctx.chain` may have it.

        Called before a batch is committed, for all rules that a base chain reaches.
        Raises: NlError.
        """

    def activate(self, ctx: nft_ctx) -> None:
        """Undo `deactivate`: the deletion of the rule is rolled back."""

    def deactivate(self, ctx: nft_ctx) -> None:
        """The rule is deleted: release the uses of chains, sets and objects."""

    def destroy(self, ctx: nft_ctx) -> None:
        """The rule is destroyed, after `deactivate`."""

    def clone(self) -> nft_expr:
        """A copy for an element of a dynamic set. Raises: NlError EOPNOTSUPP."""
        raise NlError(errno.EOPNOTSUPP)


class nft_object:
    """struct nft_object with its nft_object_ops: a named counter, quota, limit.

    nf_tables_api sets the fields after __init__ of the subclass.
    """

    type: ClassVar[int]
    """NFT_OBJECT_*."""
    attrs: ClassVar[AttrTable]
    """The attributes of NFTA_OBJ_DATA."""
    families: ClassVar[tuple[int, ...]] = ()

    table: nft_table
    name: str
    handle: int
    use: int
    udata: bytes | None

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        """`init` of nft_object_ops. Raises: NlError."""

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """Evaluate it for a rule that names it (nft_objref)."""
        raise NotImplementedError

    def dump(self, reset: bool = False) -> Mapping[str, Any] | bytes:
        """The contents of NFTA_OBJ_DATA, for `attrs.build`."""
        raise NotImplementedError

    def update(self, ctx: nft_ctx, tb: Attrs) -> Callable[[], None] | None:
        """Update the values. Returns an undo function; None: the kind has no update."""
        return None

    def destroy(self, ctx: nft_ctx) -> None:
        """It is destroyed."""


EXPRESSIONS: dict[str, type[nft_expr]] = {}
OBJECTS: dict[int, type[nft_object]] = {}


def nft_register_expr(cls: type[nft_expr]) -> None:
    """net/netfilter/nf_tables_api.c nft_register_expr: register a class of expressions."""
    EXPRESSIONS[cls.name] = cls


def nft_register_obj(cls: type[nft_object]) -> None:
    """net/netfilter/nf_tables_api.c nft_register_obj: register a class of objects."""
    OBJECTS[cls.type] = cls


# --- tables, chains, rules -----------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class nft_table:
    """struct nft_table."""

    family: int
    name: str
    flags: int = 0
    handle: int = 0
    hgenerator: int = 0
    """The last handle given to a chain, rule, set or object of the table."""
    udata: bytes | None = None
    nlpid: int = 0
    """The port id of its owner (NFT_TABLE_F_OWNER)."""
    updated: bool = False
    """The current batch changed its flags (__NFT_TABLE_F_UPDATE)."""
    chains: dict[str, nft_chain] = field(default_factory=dict)
    sets: dict[str, nft_set] = field(default_factory=dict)
    objects: dict[tuple[int, str], nft_object] = field(default_factory=dict)
    """By type and name."""

    @property
    def use(self) -> int:
        """Chains, objects and sets in it, without the anonymous sets of rules."""
        bound = [
            one for one in self.sets.values() if one.flags & NFT_SET_ANONYMOUS and one.bindings
        ]
        return len(self.chains) + len(self.objects) + len(self.sets) - len(bound)

    def new_handle(self) -> int:
        """nf_tables_alloc_handle."""
        self.hgenerator += 1
        return self.hgenerator


@dataclass(slots=True, eq=False)
class nft_stats:
    """struct nft_stats: packets to which a base chain's policy was applied, if counted."""

    packets: int = 0
    bytes: int = 0


@dataclass(slots=True, eq=False)
class nft_base_chain:
    """struct nft_base_chain: a chain attached to a hook point."""

    type: str
    """"filter", "nat" or "route"."""
    hooknum: int
    priority: int
    policy: int
    stats: nft_stats | None = None
    unregister: list[Callable[[], None]] = field(default_factory=list)
    """Functions that unregister its hooks; empty while the table is dormant."""


@dataclass(slots=True, eq=False)
class nft_chain:
    """struct nft_chain."""

    table: nft_table
    name: str
    handle: int = 0
    flags: int = 0
    use: int = 0
    """Rules in it, and jumps to it."""
    rules: list[nft_rule] = field(default_factory=list)
    base: nft_base_chain | None = None
    udata: bytes | None = None
    bound: bool = False
    """It belongs to one rule (NFT_CHAIN_BINDING)."""


@dataclass(slots=True, eq=False)
class nft_rule:
    """struct nft_rule."""

    handle: int
    expressions: list[nft_expr]
    udata: bytes | None = None
    gone: bool = False
    """It was deleted."""


@dataclass(slots=True, eq=False)
class nft_set_elem:
    """struct nft_set_elem: a key, or with `key_end` a range of keys, and its data."""

    key: bytes
    key_end: bytes | None = None
    flags: int = 0
    data: nft_data | None = None
    obj: nft_object | None = None
    expressions: list[nft_expr] = field(default_factory=list)
    timeout: int = 0
    """ns; 0: no timeout."""
    expires: int = 0
    """When it expires, ns, if it has a timeout."""
    udata: bytes | None = None
    holds: bool = True
    """It counts as a user of its chain and its object."""


@dataclass(slots=True, eq=False)
class nft_set:
    """struct nft_set. `elems` (stack/netfilter/nft_set.py) holds the elements."""

    table: nft_table
    name: str
    handle: int = 0
    flags: int = 0
    ktype: int = 0
    klen: int = 0
    dtype: int = 0
    dlen: int = 0
    objtype: int = 0
    size: int = 0
    policy: int = 0
    timeout: int = 0
    """ms, for elements that specify none."""
    gc_int: int = 0
    field_len: tuple[int, ...] = ()
    """Bytes of the parts of a concatenation."""
    udata: bytes | None = None
    bindings: int = 0
    """Rules that look it up or add to it; an anonymous set ends with the last."""
    expressions: list[nft_expr] = field(default_factory=list)
    """Expressions that are copied to each element."""
    elems: Any = None


@dataclass(slots=True, eq=False)
class nftables_pernet:
    """struct nftables_pernet: the tables of a namespace, in the order in which they were added."""

    net: Net
    tables: dict[tuple[int, str], nft_table] = field(default_factory=dict)
    """By family and name."""
    base_seq: int = 1
    """The generation: incremented by each batch that changes something."""
    table_handle: int = 0
    trans: list[Any] = field(default_factory=list)
    """The changes of the current batch (nf_tables_trans.nft_trans)."""
    trace_send: Callable[[int, bytes], None] | None = None
    """Sends a trace message, with the table's family; None: nobody listens."""
    traced: int = 0
    """The number of the last packet that is traced (sk_buff.nf_trace)."""


def nft_pernet(net: Net) -> nftables_pernet:
    """include/net/netfilter/nf_tables.h: the tables of a namespace."""
    found: nftables_pernet = net.gen["nf_tables"]
    return found


@dataclass(slots=True, eq=False)
class nft_ctx:
    """struct nft_ctx: the context of a request."""

    net: Net
    family: int
    table: nft_table
    chain: nft_chain | None = None
    nla: Attrs | None = None
    """The attributes of the whole message."""
    whole: bytes = b""
    """The message; offsets of attributes (Attrs.at) count from its start."""
    portid: int = 0
    seq: int = 0
    flags: int = 0
    report: bool = False
    quiet: bool = False
    """Its changes are no events."""
    level: int = 0
    """Jumps from the base chain to here, while rules are validated."""
    validated: set[tuple[int, int]] = field(default_factory=set)
    """Chains that were validated for the base chain, by id and level."""
    reg_inited: set[int] = field(default_factory=set)
    """Register words written by expressions of this rule."""


# --- registers -----------------------------------------------------------------------------------


def nft_parse_register(reg: int) -> int:
    """net/netfilter/nf_tables_api.c: the first word of a register. Raises: NlError ERANGE."""
    if NFT_REG_VERDICT <= reg <= NFT_REG_4:
        return reg * NFT_REG_WORDS
    if NFT_REG32_00 <= reg <= NFT_REG32_15:
        return reg + NFT_REG_WORDS - NFT_REG32_00
    raise NlError(errno.ERANGE)


def nft_dump_register(word: int) -> int:
    """net/netfilter/nf_tables_api.c: the number of a register for a message."""
    if word % NFT_REG_WORDS == 0:
        return word // NFT_REG_WORDS
    return word - NFT_REG_WORDS + NFT_REG32_00


def nft_parse_register_load(ctx: nft_ctx, reg: int, length: int) -> int:
    """net/netfilter/nf_tables_api.c: the word from which an expression reads `length` bytes.

    Raises: NlError EINVAL: the verdict, or no bytes; ERANGE: too many; ENODATA: never written.
    """
    word = nft_parse_register(reg)
    if word < NFT_REG_WORDS or not length:
        raise NlError(errno.EINVAL)
    if word * 4 + length > NFT_REG_BYTES:
        raise NlError(errno.ERANGE)
    if any(one not in ctx.reg_inited for one in range(word, word + (length + 3) // 4)):
        raise NlError(errno.ENODATA)
    return word


def nft_parse_register_store(
    ctx: nft_ctx, reg: int, length: int, kind: int = NFT_DATA_VALUE
) -> int:
    """net/netfilter/nf_tables_api.c: the word from which an expression writes `length` bytes.

    A verdict goes to NFT_REG_VERDICT. Raises: NlError EINVAL, ERANGE.
    """
    word = nft_parse_register(reg)
    if word == NFT_REG_VERDICT:
        if kind != NFT_DATA_VERDICT:
            raise NlError(errno.EINVAL)
        return word
    if word < NFT_REG_WORDS or not length:
        raise NlError(errno.EINVAL)
    if word * 4 + length > NFT_REG_BYTES:
        raise NlError(errno.ERANGE)
    if kind != NFT_DATA_VALUE:
        raise NlError(errno.EINVAL)
    ctx.reg_inited.update(range(word, word + (length + 3) // 4))
    return word


# --- checks of an expression's chain -------------------------------------------------------------


def nft_chain_validate_dependency(ctx: nft_ctx, kind: str) -> None:
    """net/netfilter/nf_tables_api.c: a base chain must be of that type. Raises: NlError."""
    base = ctx.chain.base if ctx.chain is not None else None
    if base is not None and base.type != kind:
        raise NlError(errno.EOPNOTSUPP)


def nft_chain_validate_hooks(ctx: nft_ctx, hooks: int) -> None:
    """net/netfilter/nf_tables_api.c: a base chain must be at one of these hook points (bits).

    Raises: NlError EOPNOTSUPP.
    """
    base = ctx.chain.base if ctx.chain is not None else None
    if base is not None and not hooks >> base.hooknum & 1:
        raise NlError(errno.EOPNOTSUPP)


def nft_chain_validate(ctx: nft_ctx, chain: nft_chain) -> None:
    """net/netfilter/nf_tables_api.c: validate the rules of a chain and those that it jumps to.

    Raises: NlError EMLINK: jumps are nested too deeply, as they are in a loop.
    """
    if ctx.level == NFT_JUMP_STACK_SIZE:
        raise NlError(errno.EMLINK)
    if (id(chain), ctx.level) in ctx.validated:
        return
    ctx.validated.add((id(chain), ctx.level))
    for rule in chain.rules:
        for expr in rule.expressions:
            expr.validate(ctx)


def nft_verdict_validate(ctx: nft_ctx, data: nft_data) -> None:
    """Validate the chain that a verdict leads to (nft_immediate_validate, nft_setelem_validate)."""
    if data.value is not None or data.code not in (NFT_JUMP, NFT_GOTO):
        return
    assert data.chain is not None
    ctx.level += 1
    nft_chain_validate(ctx, data.chain)
    ctx.level -= 1


# --- data ----------------------------------------------------------------------------------------


def nft_value_init(tb: Attrs, length: int = 0, size: int = NFT_DATA_BYTES) -> bytes:
    """net/netfilter/nf_tables_api.c: a value (NFTA_DATA_VALUE) of that length; 0: of any.

    Raises: NlError EINVAL: a verdict, no bytes, another length; EOVERFLOW: more than `size` bytes.
    """
    value: bytes = tb.get("NFTA_DATA_VALUE", b"")
    if not value:
        raise NlError(errno.EINVAL)
    if len(value) > size:
        raise NlError(errno.EOVERFLOW)
    if length and len(value) != length:
        raise NlError(errno.EINVAL)
    return value


def nft_data_init(ctx: nft_ctx, tb: Attrs, size: int = NFT_DATA_BYTES) -> nft_data:
    """net/netfilter/nf_tables_api.c: a value of at most `size` bytes, or a verdict (NFTA_DATA_*).

    The chain of a verdict is referenced (nft_data_hold). Raises: NlError EINVAL, EOVERFLOW, ENOENT,
    EOPNOTSUPP.
    """
    if "NFTA_DATA_VALUE" not in tb and "NFTA_DATA_VERDICT" in tb:
        return nft_verdict_init(ctx, tb["NFTA_DATA_VERDICT"])
    return nft_data(nft_value_init(tb, size=size))


def nft_verdict_init(ctx: nft_ctx, tb: Attrs) -> nft_data:
    """net/netfilter/nf_tables_api.c: a verdict. Raises: NlError EINVAL, ENOENT, EOPNOTSUPP."""
    if "NFTA_VERDICT_CODE" not in tb:
        raise NlError(errno.EINVAL)
    code: int = tb["NFTA_VERDICT_CODE"]
    if code in (NFT_CONTINUE, NFT_BREAK, NFT_RETURN, NF_DROP, NF_ACCEPT):
        return nft_data(None, code)
    if code not in (NFT_JUMP, NFT_GOTO):
        raise NlError(errno.EINVAL)
    chain: nft_chain | None
    if "NFTA_VERDICT_CHAIN" in tb:
        chain = ctx.table.chains.get(tb["NFTA_VERDICT_CHAIN"])
        if chain is None:
            raise NlError(errno.ENOENT)
    elif "NFTA_VERDICT_CHAIN_ID" in tb:
        chain = nft_chain_lookup_byid(ctx, tb["NFTA_VERDICT_CHAIN_ID"])
    else:
        raise NlError(errno.EINVAL)
    if chain.flags & NFT_CHAIN_BASE:
        raise NlError(errno.EOPNOTSUPP)
    if chain.bound:
        raise NlError(errno.EINVAL)
    chain.use += 1
    return nft_data(None, code, chain)


def nft_chain_lookup_byid(ctx: nft_ctx, number: int) -> nft_chain:
    """net/netfilter/nf_tables_api.c: a chain that this batch added. Raises: NlError ENOENT."""
    for trans in nft_pernet(ctx.net).trans:
        added = trans.rule is None and trans.id == number and trans.table is ctx.table
        if trans.chain is not None and added:
            found: nft_chain = trans.chain
            return found
    raise NlError(errno.ENOENT)


def nft_data_hold(data: nft_data | None, uses: int = 1) -> None:
    """net/netfilter/nf_tables_api.c: count a user of a verdict's chain; -1: nft_data_release."""
    if data is not None and data.chain is not None:
        data.chain.use += uses


def nft_data_release(data: nft_data | None) -> None:
    """net/netfilter/nf_tables_api.c: remove a user of a verdict's chain."""
    nft_data_hold(data, -1)


def nft_data_dump(data: nft_data) -> dict[str, Any]:
    """net/netfilter/nf_tables_api.c: NFTA_DATA_*, for a row whose inner table is NFTA_DATA."""
    if data.value is not None:
        return {"NFTA_DATA_VALUE": data.value}
    told: dict[str, Any] = {"NFTA_VERDICT_CODE": data.code}
    if data.chain is not None:
        told["NFTA_VERDICT_CHAIN"] = data.chain.name
    return {"NFTA_DATA_VERDICT": told}
