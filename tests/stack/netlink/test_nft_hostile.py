"""Batches of nf_tables with bytes changed at random: nothing but an errno comes, no use is lost."""

from __future__ import annotations

import errno
import struct
from collections import Counter
from random import Random

import pytest

from stack.host import Host
from stack.netfilter.nf_tables import nft_pernet, nft_table

SUBSYS, IPV4 = 10, 2
REQUEST, CREATE, APPEND = 1, 0x400, 0x800
NEWTABLE, DELTABLE, NEWCHAIN, DELCHAIN, NEWRULE, DELRULE = 0, 2, 3, 5, 6, 8
NEWSET, DELSET, NEWSETELEM, DELSETELEM = 9, 11, 12, 14
JUMP, VERDICTS, MAP = -3, 0xFFFFFF00, 8


def attr(kind: int, value: bytes) -> bytes:
    """An attribute of netlink."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) & 3)


def be(value: int) -> bytes:
    return struct.pack(">I", value & 0xFFFFFFFF)


def message(kind: int, *attrs: bytes, res: int = 0, family: int = IPV4) -> bytes:
    body = struct.pack(">BBH", family, 0, res) + b"".join(attrs)
    return struct.pack("=IHHII", 16 + len(body), kind, REQUEST | CREATE | APPEND, 7, 0) + body


def nft(kind: int, *attrs: bytes) -> bytes:
    return message(SUBSYS << 8 | kind, TABLE, *attrs)


def expr(name: bytes, *attrs: bytes) -> bytes:
    return attr(1, attr(1, name + b"\0") + attr(2, b"".join(attrs)))


BEGIN, END = message(16, res=SUBSYS, family=0), message(17, res=SUBSYS, family=0)
TABLE = attr(1, b"t\0")
CHAINS = [attr(3, name) for name in (b"a\0", b"b\0")]
HOOK = attr(4, attr(1, be(1)) + attr(2, be(0)))
SET = (attr(2, b"m\0"), attr(3, be(MAP)), attr(5, be(4)), attr(6, be(VERDICTS)), attr(10, be(1)))
JUMPS = attr(2, attr(2, attr(1, be(JUMP)) + attr(2, b"b\0")))
LOAD = expr(b"meta", attr(2, be(3)), attr(1, be(1)))
LOOKUP = expr(b"lookup", attr(1, b"m\0"), attr(2, be(1)), attr(3, be(0)))
COUNT = expr(b"counter")
COMPARE = expr(b"cmp", attr(1, be(1)), attr(2, be(0)), attr(3, attr(1, bytes(4))))
RULES = (
    expr(b"immediate", attr(1, be(0)), JUMPS),
    LOAD + COMPARE + COUNT,
    LOAD + LOOKUP,
    expr(b"payload", attr(1, be(1)), attr(2, be(1)), attr(3, be(9)), attr(4, be(4))) + COMPARE,
)
ELEMENT = attr(3, attr(1, attr(1, attr(1, b"key1")) + attr(2, JUMPS[4:])))
MAKES = [
    nft(NEWTABLE),
    *(nft(NEWCHAIN, chain) for chain in CHAINS),
    nft(NEWCHAIN, attr(3, b"base\0"), HOOK, attr(7, b"filter\0")),
    nft(NEWSET, *SET),
    nft(NEWSETELEM, SET[0], ELEMENT),
]
MESSAGES = [
    *MAKES,
    *(nft(NEWRULE, attr(2, b"a\0"), attr(4, rule)) for rule in RULES),
    *(nft(NEWRULE, attr(2, b"base\0"), attr(4, rule)) for rule in RULES),
    *(nft(DELCHAIN, chain) for chain in CHAINS),
    nft(DELRULE, attr(2, b"a\0")),
    nft(DELSETELEM, SET[0]),
    nft(DELSET, SET[0]),
    nft(DELTABLE),
]


def changed(random: Random, whole: bytes) -> bytes:
    """The message, often with some of its bytes changed."""
    data = bytearray(whole)
    for _ in range(random.choice((0, 0, 0, 0, 0, 0, 0, 1, 2, 4))):
        data[random.randrange(16, len(data))] = random.choice((0, 1, 2, 3, 4, 8, 16, 128, 255))
    return bytes(data)


def uses(table: nft_table) -> Counter[str]:
    """How often each chain is used: by its rules, and by the verdicts that lead to it."""
    found: Counter[str] = Counter({name: len(chain.rules) for name, chain in table.chains.items()})
    exprs = [e for chain in table.chains.values() for rule in chain.rules for e in rule.expressions]
    elements = [elem for one in table.sets.values() for elem in one.elems.all()]
    for holder in (*exprs, *elements):
        data = getattr(holder, "data", None)  # of `immediate`, and of a map's elements
        if data is not None and data.chain is not None:
            found[data.chain.name] += 1
    return found


@pytest.mark.parametrize("seed", range(4))
def test_broken_batches_leave_what_was_there(host: Host, seed: int) -> None:
    random, pernet = Random(seed), nft_pernet(host)
    answers: Counter[int] = Counter()
    with host.socket(16, 3, 12) as sock:
        sock.bind((0, 0))
        sock.setblocking(False)
        for _ in range(2000):
            batch = MAKES if random.random() < 0.3 else random.choices(MESSAGES, k=3)
            before = pernet.base_seq, sorted(pernet.tables)
            sock.send(BEGIN + b"".join(changed(random, one) for one in batch) + END)
            wrong = 0
            while True:
                try:
                    data = sock.recv(1 << 16)
                except BlockingIOError:
                    break
                wrong += 1
                answers[-struct.unpack_from("=i", data, 16)[0]] += 1
            assert pernet.trans == []
            if wrong:
                assert (pernet.base_seq, sorted(pernet.tables)) == before
            for table in pernet.tables.values():
                assert uses(table) == Counter({n: c.use for n, c in table.chains.items()})
    assert pernet.base_seq > 100  # many were right
    assert answers.keys() >= {errno.EINVAL, errno.ENOENT, errno.EBUSY}
