"""Classic BPF in plain Python: the twin of ``fastpath.base.bpf``."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any

from fastpath.base.skbuff import skb_copy_bits

Insn = tuple[int, int, int, int]
"""(code, jt, jf, k)"""
Bytes = Callable[[int, int], bytes | None]
"""Bytes off … off + n of a packet, None when they are not there."""

M32 = 0xFFFFFFFF
BPF_MAXINSNS = 4096
SKF_AD_OFF, SKF_NET_OFF, SKF_LL_OFF = -0x1000, -0x100000, -0x200000
UNSET = 0xFFFFFFFF
LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)
ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR = range(11)
LOADS = {0x20: 4, 0x28: 2, 0x30: 1}
INDIRECT = {0x40: 4, 0x48: 2, 0x50: 1}
MSH = 0xB1
ALLOWED = (
    {*LOADS, *INDIRECT, MSH, 0x80, 0x00, 0x60, 0x81, 0x01, 0x61, 0x02, 0x03, 0x07, 0x87}
    | {0x06, 0x16, 0x05, 0x84}
    | {ALU | op << 4 | src for op in (*range(NEG), MOD, XOR) for src in (0, 8)}
    | {JMP | op << 4 | src for op in (1, 2, 3, 4) for src in (0, 8)}
)
AD = (
    *("PROTOCOL", "PKTTYPE", "IFINDEX", "NLATTR", "NLATTR_NEST", "MARK", "QUEUE", "HATYPE"),
    *("RXHASH", "CPU", "ALU_XOR_X", "VLAN_TAG", "VLAN_TAG_PRESENT", "PAY_OFFSET", "RANDOM"),
    "VLAN_TPID",
)
AD_INSNS = dict(zip(AD, (2, 2, 4, 4, 4, 1, 1, 4, 1, 4, 1, 1, 3, 4, 4, 2), strict=True))


def signed(value: int) -> int:
    """The 32 bits as a signed number."""
    value &= M32
    return value - (1 << 32) if value >> 31 else value


def ancillary(code: int, k: int) -> str:
    """The name of the ancillary load that an instruction is, "" when it is none."""
    at = signed(k) - SKF_AD_OFF
    return AD[at // 4] if code in LOADS and 0 <= at < 64 and at % 4 == 0 else ""


def is_branch(code: int) -> bool:
    """Whether the instruction jumps on a condition."""
    return code & 7 == JMP and code != 0x05


def insns_of(data: bytes | Iterable[Insn]) -> list[Insn]:
    """The rows of a program given in either form."""
    if isinstance(data, bytes):
        if len(data) % 8:
            raise ValueError("not whole instructions")
        return list(struct.iter_unpack("=HBBI", data))
    return [(code, jt, jf, k & M32) for code, jt, jf, k in data]


def bpf_check_classic(prog: list[Insn]) -> None:
    """net/core/filter.c. Raises: ValueError."""
    n = len(prog)
    if not 0 < n <= BPF_MAXINSNS:
        raise ValueError("no program, or too long")
    for pc, (code, jt, jf, k) in enumerate(prog):
        left = n - pc - 1
        bad = (
            code not in ALLOWED
            or (code in (0x34, 0x94) and not k)
            or (code in (0x64, 0x74) and k >= 32)
            or (code in (0x60, 0x61, 0x02, 0x03) and k >= 16)
            or (code == 0x05 and k >= left)
            or (is_branch(code) and max(jt, jf) >= left)
            or (code in LOADS and k >= SKF_AD_OFF & M32 and not ancillary(code, k))
        )
        if bad:
            raise ValueError(f"instruction {pc}")
    if prog[-1][0] not in (0x06, 0x16):
        raise ValueError("no return")
    check_load_and_stores(prog)


def check_load_and_stores(prog: list[Insn]) -> None:
    """Check that every path stores a word before it loads it (net/core/filter.c). ValueError."""
    ways: list[set[int] | None] = [None] * len(prog)  # stored on every path; None: no path

    def meet(target: int, stored: set[int]) -> None:
        known = ways[target]
        ways[target] = set(stored) if known is None else known & stored

    everything = set(range(16))
    now: set[int] = set()
    for pc, (code, jt, jf, k) in enumerate(prog):
        came = ways[pc]
        if came is not None:
            now = now & came
        if code in (0x02, 0x03):
            now = now | {k}
        elif code in (0x60, 0x61) and k not in now:
            raise ValueError(f"instruction {pc}: word {k} is not stored")
        elif code == 0x05:
            meet(pc + 1 + k, now)
            now = everything
        elif is_branch(code):
            meet(pc + 1 + jt, now)
            meet(pc + 1 + jf, now)
            now = everything


def reads_packet(code: int, k: int) -> bool:
    """Whether an instruction loads from the packet's bytes."""
    return code in INDIRECT or code == MSH or (code in LOADS and not ancillary(code, k))


def expansion(code: int, jt: int, jf: int, k: int) -> int:
    """How many instructions bpf_convert_filter makes of one, on x86-64."""
    name = ancillary(code, k)
    if name:
        return AD_INSNS[name]
    if code in INDIRECT:
        return 8 + bool(k)
    if reads_packet(code, k):
        direct = 12 + (LOADS.get(code, 1) > 1) + bool(k) + 2 * (k > 0x7FFF)
        return (direct if signed(k) >= 0 else 8) + 6 * (code == MSH)
    if is_branch(code):
        one = not jf or (not jt and code >> 4 != 4)
        return (1 if one else 2) + (k >> 31 and not code & 8)
    return {0x3C: 5, 0x9C: 5, 0x06: 2}.get(code, 1)


class bpf_prog:
    """A checked program."""

    def __init__(self, filter: bytes | Iterable[Insn], seed: int = 1) -> None:  # noqa: A002
        self.insns = insns_of(filter)
        bpf_check_classic(self.insns)
        self.filter = b"".join(struct.pack("=HBBI", *row) for row in self.insns)
        self.len = len(self.insns)
        size = sum(expansion(*row) for row in self.insns)
        reads = any(reads_packet(code, k) for code, _, _, k in self.insns)
        self.size_bytes = 120 + 8 * (size + 4 * reads)
        self.state = seed or 1

    def random(self) -> int:
        """xorshift64*."""
        s = self.state
        s ^= s >> 12
        s ^= s << 25 & (1 << 64) - 1
        s ^= s >> 27
        self.state = s
        return (s * 0x2545F4914F6CDD1D & (1 << 64) - 1) >> 32


def load(at: Bytes, off: int, n: int, mac: int | None, net: int | None) -> int:
    """`n` bytes in network order; -1 when they are not there."""
    if off < 0:
        base = net if off >= SKF_NET_OFF else mac if off >= SKF_LL_OFF else None
        if base is None:
            return -1
        off = off - (SKF_NET_OFF if off >= SKF_NET_OFF else SKF_LL_OFF) + base
    data = at(off, n)
    return -1 if data is None else int.from_bytes(data, "big")


def nla_find(at: Bytes, pos: int, end: int, kind: int) -> int:
    """Where an attribute of a type begins, 0 for nowhere."""
    while end - pos >= 4:
        data = at(pos, 4)
        if data is None:
            return 0
        size, type_ = struct.unpack("=HH", data)
        if not 4 <= size <= end - pos:
            return 0
        if type_ & 0x3FFF == kind:
            return pos
        pos += size + 3 & ~3
    return 0


def poff(at: Bytes, size: int, proto: int, net: int | None) -> int:
    """Where the payload of the transport layer begins."""
    if net is None:
        return 0
    off = net

    def number(where: int, n: int) -> int:
        data = at(where, n)
        return -1 if data is None else int.from_bytes(data, "big")

    def capped() -> int:
        return min(off, size) & 0xFFFF

    transport = None
    for _ in range(16):
        if proto == 0x0800:
            if at(off, 20) is None or number(off, 1) & 15 < 5:
                return 0
            transport, frag = number(off + 9, 1), number(off + 6, 2) & 0x3FFF
            off += (number(off, 1) & 15) * 4
            if frag & 0x1FFF:
                return capped()
            if frag:
                break
        elif proto == 0x86DD:
            if at(off, 40) is None:
                return 0
            transport = number(off + 6, 1)
            off += 40
            fragment = False
            while transport in (0, 43, 60, 44):
                if transport == 44:
                    if at(off, 8) is None:
                        return 0
                    later = number(off + 2, 2) & 0xFFF8
                    transport = number(off, 1)
                    off += 8
                    if later:
                        return capped()
                    fragment = True
                    break
                if at(off, 2) is None:
                    return 0
                transport, off = number(off, 1), off + (number(off + 1, 1) + 1) * 8
            if fragment:
                break
        elif proto in (0x8100, 0x88A8):
            proto = number(off + 2, 2)
            if proto < 0:
                return 0
            off += 4
            continue
        elif proto in (0x0806, 0x8035):
            return capped()
        else:
            return 0
        if transport not in (4, 41):
            break
        proto = 0x0800 if transport == 4 else 0x86DD
    off = capped()
    if transport == 6:
        doff = number(off + 12, 1)
        return off if doff < 0 else off + max(20, (doff & 0xF0) >> 2)
    return off + {17: 8, 136: 8, 1: 8, 58: 8, 2: 8, 33: 12, 132: 12}.get(transport or 0, 0)


def alu(op: int, a: int, b: int) -> int:
    """One operation on 32 bits; division by zero ends the program before this."""
    results: dict[int, Callable[[], int]] = {
        ADD: lambda: a + b,
        SUB: lambda: a - b,
        MUL: lambda: a * b,
        DIV: lambda: a // b,
        OR: lambda: a | b,
        AND: lambda: a & b,
        LSH: lambda: a << (b & 31),
        RSH: lambda: a >> (b & 31),
        NEG: lambda: -a,
        MOD: lambda: a % b,
        XOR: lambda: a ^ b,
    }
    return results[op]() & M32


def run(prog: bpf_prog, at: Bytes, size: int, mac: int | None, net: int | None,
        fields: dict[str, int | None], linear: bool) -> int:  # fmt: skip
    """Run over a packet; `fields`: what ancillary loads give by name, None ends the program."""
    a = x = pc = 0
    words = [0] * 16

    def attribute(nested: bool) -> int:
        if not linear or size < 4 or a > size - 4:
            return 0
        if not nested:
            return nla_find(at, a, size, x)
        length = int.from_bytes(at(a, 2) or b"", sys.byteorder)
        return 0 if length > size - a else nla_find(at, a + 4, a + length, x)

    while True:
        code, jt, jf, k = prog.insns[pc]
        pc += 1
        name = ancillary(code, k)
        if name == "ALU_XOR_X":
            a ^= x
        elif name in ("NLATTR", "NLATTR_NEST"):
            a = attribute(name == "NLATTR_NEST")
        elif name == "RANDOM":
            a = prog.random()
        elif name == "PAY_OFFSET":
            a = poff(at, size, fields["PROTOCOL"] or 0, net)
        elif name:
            value = fields[name]
            if value is None:
                return a
            a = value
        elif code in LOADS or code in INDIRECT or code == MSH:
            n = LOADS.get(code) or INDIRECT.get(code) or 1
            got = load(at, signed(x + k if code in INDIRECT else k), n, mac, net)
            if got < 0:
                return 0
            if code == MSH:
                x = (got & 15) << 2
            else:
                a = got
        elif code & 7 == ALU:
            b = x if code & 8 else k
            if code >> 4 in (DIV, MOD) and not b:
                return 0
            a = alu(code >> 4, a, b)
        elif code == 0x05:
            pc += k
        elif code & 7 == JMP:
            b = x if code & 8 else k
            pc += jt if {1: a == b, 2: a > b, 3: a >= b, 4: a & b}[code >> 4 & 7] else jf
        elif code & 7 == RET:
            return a if code & 0x10 else k
        elif code in (0x02, 0x03):
            words[k] = a if code == 0x02 else x
        elif code in (0x07, 0x87):
            a, x = (a, a) if code == 0x07 else (x, x)
        else:
            value = {0x00: k, 0x60: words[k & 15], 0x80: size}[code & 0xE0]
            if code & 7 == LD:
                a = value
            else:
                x = value


def bpf_prog_run(prog: bpf_prog, skb: Any, off: int = 0) -> int:
    """Run over an sk_buff."""

    def at(where: int, n: int) -> bytes | None:
        try:
            return bytes(skb_copy_bits(skb, where + off, n))
        except ValueError:
            return None

    start = skb.data_offset + off
    mac = None if skb.mac_header == UNSET else skb.mac_header - start
    net = None if skb.network_header == UNSET else skb.network_header - start
    dev = skb.dev
    fields: dict[str, int | None] = {
        "PROTOCOL": skb.protocol,
        "PKTTYPE": skb.pkt_type,
        "IFINDEX": None if dev is None else dev.ifindex,
        "MARK": skb.mark,
        "QUEUE": skb.queue_mapping,
        "HATYPE": None if dev is None else dev.type,
        "RXHASH": skb.hash,
        "CPU": 0,
        "VLAN_TAG": skb.vlan_tci,
        "VLAN_TAG_PRESENT": int(bool(skb.vlan_proto or skb.vlan_tci)),
        "VLAN_TPID": skb.vlan_proto,
    }
    return run(prog, at, skb.len - off, mac, net, fields, not skb.nr_frags)


def bpf_filter(prog: bpf_prog, data: bytes, wirelen: int = -1) -> int:
    """Run over the bytes of a frame."""

    def at(where: int, n: int) -> bytes | None:
        return data[where : where + n] if 0 <= where <= len(data) - n else None

    fields: dict[str, int | None] = dict.fromkeys(AD, 0) | {"IFINDEX": None, "HATYPE": None}
    fields["PROTOCOL"] = int.from_bytes(data[12:14], "big") if len(data) >= 14 else 0
    return run(prog, at, max(wirelen, len(data)), 0, 14, fields, True)
