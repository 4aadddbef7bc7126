"""/proc/net/fib_trie and fib_triestat: the IPv4 tables as the level-compressed trie of the kernel.

Our tables are maps by length (stack/ipv4/fib.py). So the trie is built when it is read, by
the rules of Documentation/networking/fib_trie.rst:

    a leaf       the routes of one address, whatever their lengths
    a node       2 ** bits children, chosen by the `bits` of an address above its lowest `pos`
    inflate      a node whose children are mostly in use gets one more bit
    halve        one whose children are mostly empty loses one bit
    collapse     a node with one child is replaced by it

The kernel's trie also depends on the order of changes, since the limits of growing and shrinking
differ. Ours is built from the existing routes, in the order in which they were added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from stack.ipv4.fib import MASKS, RT_TABLE_LOCAL, RT_TABLE_MAIN, fib_alias, format_addr
from stack.net import Net
from stack.proc.text import text

KEYLENGTH = 32
INFLATE_PERCENT, INFLATE_ROOT_PERCENT = 50, 30
HALVE_PERCENT, HALVE_ROOT_PERCENT = 25, 15
MAX_WORK = 10
"""How often one node may grow or shrink after one change."""
LEAF_BYTES, TNODE_BYTES, ALIAS_BYTES, POINTER_BYTES = 48, 40, 56, 8
"""The kernel's sizes on a machine of 64 bits."""
SCOPES = {0: "universe", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
TYPES = {
    1: "UNICAST",
    2: "LOCAL",
    3: "BROADCAST",
    4: "ANYCAST",
    5: "MULTICAST",
    6: "BLACKHOLE",
    7: "UNREACHABLE",
    8: "PROHIBIT",
    9: "THROW",
}


@dataclass(slots=True)
class leaf:
    """The routes of one address."""

    key: int
    aliases: list[fib_alias] = field(default_factory=list)


class tnode:
    """struct tnode: 2 ** `bits` children by the bits of the address from `pos` on."""

    __slots__ = ("bits", "child", "empty", "full", "key", "pos")

    def __init__(self, key: int, pos: int, bits: int) -> None:
        self.key = key & MASKS[KEYLENGTH - pos - bits]
        self.pos = pos
        self.bits = bits
        self.child: list[leaf | tnode | None] = [None] * (1 << bits)
        self.empty = 1 << bits
        """Children that are None."""
        self.full = 0
        """Children that are nodes and skip no bit."""

    def index(self, key: int) -> int:
        """The place of an address among the children."""
        return key >> self.pos & (1 << self.bits) - 1

    def is_full(self, n: leaf | tnode | None) -> bool:
        """Whether the path to the node `n` skips no bit."""
        return isinstance(n, tnode) and n.pos + n.bits == self.pos

    def put(self, i: int, n: leaf | tnode | None) -> None:
        """Set a child, and count."""
        old = self.child[i]
        self.empty += (n is None) - (old is None)
        self.full += self.is_full(n) - self.is_full(old)
        self.child[i] = n


def trie_of(aliases: list[fib_alias]) -> leaf | tnode | None:
    """The trie of routes; None without any."""
    leaves: dict[int, leaf] = {}
    for fa in sorted(aliases, key=lambda fa: fa.serial):
        leaves.setdefault(fa.fa_dst, leaf(fa.fa_dst)).aliases.append(fa)
    root: leaf | tnode | None = None
    for new in leaves.values():
        root = _insert(root, new, True)
    return root


def _insert(n: leaf | tnode | None, new: leaf, root: bool) -> leaf | tnode | None:
    """net/ipv4/fib_trie.c fib_insert_node: `new` below `n`; returns the node that replaces `n`."""
    if n is None:
        return new
    differ = n.key ^ new.key
    if isinstance(n, tnode) and not differ >> (n.pos + n.bits):
        i = n.index(new.key)
        n.put(i, _insert(n.child[i], new, False))
        return _resize(n, root)
    fork = tnode(new.key, differ.bit_length() - 1, 1)
    fork.put(fork.index(n.key), n)
    fork.put(fork.index(new.key), new)
    return _resize(fork, root)


def _resize(tn: tnode, root: bool) -> leaf | tnode | None:
    """net/ipv4/fib_trie.c resize: adjust the node's bits to its children."""
    work = MAX_WORK
    while work and _should_inflate(tn, root):
        tn = _inflate(tn)
        work -= 1
    if work < MAX_WORK:
        return tn
    while work and _should_halve(tn, root):
        tn = _halve(tn)
        work -= 1
    if len(tn.child) - tn.empty < 2:
        return next((n for n in tn.child if n is not None), None)
    return tn


def _should_inflate(tn: tnode, root: bool) -> bool:
    """Whether the children in use, the full ones twice, fill enough of a larger node."""
    used = len(tn.child) - tn.empty + tn.full
    percent = INFLATE_ROOT_PERCENT if root else INFLATE_PERCENT
    return used > 1 and tn.pos > 0 and 50 * used >= percent * len(tn.child)


def _should_halve(tn: tnode, root: bool) -> bool:
    """Whether too few children are in use."""
    used = len(tn.child) - tn.empty
    percent = HALVE_ROOT_PERCENT if root else HALVE_PERCENT
    return used > 1 and tn.bits > 1 and 100 * used < percent * len(tn.child)


def _resize_children(tn: tnode) -> tnode:
    """Resize the full children of a rebuilt node."""
    for i in reversed(range(len(tn.child))):
        n = tn.child[i]
        if isinstance(n, tnode) and tn.is_full(n):
            tn.put(i, _resize(n, False))
    return tn


def _inflate(old: tnode) -> tnode:
    """The node with one more bit."""
    tn = tnode(old.key, old.pos - 1, old.bits + 1)
    for i, n in enumerate(old.child):
        if n is None:
            continue
        if not (isinstance(n, tnode) and old.is_full(n)):
            tn.put(tn.index(n.key), n)
            continue
        half = len(n.child) // 2
        for j in (0, 1):
            below = n.child[j * half : (j + 1) * half]
            if n.bits == 1:
                tn.put(2 * i + j, below[0])
                continue
            part = tnode(n.key | j << (n.pos + n.bits - 1), n.pos, n.bits - 1)
            for k, grandchild in enumerate(below):
                part.put(k, grandchild)
            tn.put(2 * i + j, _resize(part, False))
    return _resize_children(tn)


def _halve(old: tnode) -> tnode:
    """The node with one bit fewer: pairs of children become nodes of one bit."""
    tn = tnode(old.key, old.pos + 1, old.bits - 1)
    for i in range(len(tn.child)):
        a, b = old.child[2 * i : 2 * i + 2]
        if a is None or b is None:
            tn.put(i, b if a is None else a)
            continue
        pair = tnode(a.key, old.pos, 1)
        pair.put(0, a)
        pair.put(1, b)
        tn.put(i, _resize(pair, False))
    return _resize_children(tn)


def _tables(net: Net) -> Iterator[tuple[str, list[fib_alias]]]:
    """Each table that Linux would have created: its heading and its routes.

    Until a program adds a rule, local and main are one trie that is shown under both names.
    """
    routes = {tb_id: list(tb.aliases()) for tb_id, tb in net.fib.tables.items()}
    if not net.fib.ops.has_custom_rules:
        both = [*routes[RT_TABLE_LOCAL], *routes[RT_TABLE_MAIN]]
        routes[RT_TABLE_LOCAL] = routes[RT_TABLE_MAIN] = both
    names = {RT_TABLE_LOCAL: "Local:", RT_TABLE_MAIN: "Main:"}
    used = any(routes.values())
    for tb_id in sorted(routes, key=lambda tb_id: (tb_id & 0xFF, tb_id)):
        if routes[tb_id] or (used and tb_id in names):
            yield names.get(tb_id, f"Id {tb_id}:"), routes[tb_id]


def walk(n: leaf | tnode | None, depth: int = 0) -> Iterator[tuple[leaf | tnode, int]]:
    """Every node and leaf with the number of nodes above it, parents first."""
    if n is None:
        return
    yield n, depth
    if isinstance(n, tnode):
        for child in n.child:
            yield from walk(child, depth + 1)


def fib_trie(net: Net) -> str:
    """net/ipv4/fib_trie.c fib_trie_seq_show.

    A node: its prefix, bits, children that skip no bit, empty children. A leaf: its routes.
    """
    lines = []
    for heading, aliases in _tables(net):
        lines += [heading] if aliases else []
        for n, depth in walk(trie_of(aliases)):
            indent = "   " * depth
            if isinstance(n, tnode):
                prefix = f"{format_addr(n.key)}/{KEYLENGTH - n.pos - n.bits}"
                lines.append(f"{indent}  +-- {prefix} {n.bits} {n.full} {n.empty}")
                continue
            lines.append(f"{indent}  |-- {format_addr(n.key)}")
            n.aliases.sort(key=lambda fa: (-fa.fa_plen, -fa.tb_id))
            for fa in n.aliases:
                scope = fa.fa_info.fib_scope
                tos = f" tos={fa.fa_tos}" if fa.fa_tos else ""
                lines.append(
                    f"{indent}     /{fa.fa_plen} {SCOPES.get(scope, f'scope={scope}')} "
                    f"{TYPES[fa.fa_type]}{tos}"
                )
    return text(lines) if lines else ""


def fib_triestat(net: Net) -> str:
    """net/ipv4/fib_trie.c fib_triestat_seq_show: depths, numbers, and memory of the kernel's."""
    lines = [
        f"Basic info: size of leaf: {LEAF_BYTES} bytes, size of tnode: {TNODE_BYTES} bytes.",
    ]
    for heading, aliases in _tables(net):
        found = list(walk(trie_of(aliases)))
        depths = [depth for n, depth in found if isinstance(n, leaf)]
        nodes = [n for n, _ in found if isinstance(n, tnode)]
        by_bits = [sum(n.bits == bits for n in nodes) for bits in range(KEYLENGTH)]
        pointers = sum(len(n.child) for n in nodes)
        size = LEAF_BYTES * len(depths) + ALIAS_BYTES * len(aliases)
        size += TNODE_BYTES * len(nodes) + POINTER_BYTES * pointers
        mean = sum(depths) * 100 // max(len(depths), 1)
        sizes = "".join(f"  {bits}: {count}" for bits, count in enumerate(by_bits) if count)
        lines += [
            heading,
            f"\tAver depth:     {mean // 100}.{mean % 100:02d}",
            f"\tMax depth:      {max(depths, default=0)}",
            f"\tLeaves:         {len(depths)}",
            f"\tPrefixes:       {len(aliases)}",
            f"\tInternal nodes: {len(nodes)}",
            f"\t{sizes}",
            f"\tPointers: {pointers}",
            f"Null ptrs: {sum(n.empty for n in nodes)}",
            f"Total size: {(size + 1023) // 1024}  kB",
        ]
    return text(lines)
