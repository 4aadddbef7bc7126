"""Programs: what they are made of, how they are written down, made at random and mutated."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from e1000emu.registers.models import MODELS
from e1000emu.registers.regs import BAR0_BYTES, TABLE, reg
from e1000emu.testing.bench import BENCH_MAC

BASE = 0x10_0000
"""Where memory begins; descriptors and buffers of programs are mostly there."""
MOST_STEPS = 40
CLOCK = "clock"
KINDS = (CLOCK, "one thread", "two threads", "one thread, handed over", "unshared memory")
"""How a program is run; all but the first by a vfio-user server with threads of its own."""

Step = tuple[Any, ...]
"""A name, which is a method of the target, and its arguments: numbers, bytes, lists of bytes."""

REGISTERS = [offset for row in TABLE for offset in row.offsets[:4]]
RINGS = [
    reg(name).offset
    for name in ("TDT", "TDH", "TDLEN", "TDBAL", "RDT", "RDH", "RDLEN", "RDBAL", "RCTL", "TCTL")
]
VALUES = (0, 1, 7, 8, 15, 128, 255, 256, 4096, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, BASE)
BROADCAST, PAUSE_TO = b"\xff" * 6, bytes.fromhex("0180c2000001")
ETHERTYPES = (0x0800, 0x86DD, 0x8808, 0x0806, 0x88B5, 0x8100)
MOST = {"time": 3_000_000_000, "ours": 9000, "size": 8, "word": 0xFFFF_FFFF}


@dataclass(frozen=True)
class Program:
    """What one run does."""

    steps: tuple[Step, ...]
    kind: str = CLOCK
    model: str = "82540EM"

    def text(self) -> str:
        """Return it as JSON, a step a line; bytes are in hexadecimal."""
        lines = ",\n".join(json.dumps(step, default=_hexadecimal) for step in self.steps)
        head = json.dumps({"kind": self.kind, "model": self.model})[:-1]
        return f'{head}, "steps": [\n{lines}\n]}}\n'

    def name(self) -> str:
        """Return a name for a file of it."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:8]


def _hexadecimal(data: bytes) -> str:
    """Return bytes as digits; what ends in one that repeats has it once, and how often: 5a*1400."""
    head = data.rstrip(data[-1:])
    again = len(data) - len(head)
    return f"{head.hex()} {data[-1:].hex()}*{again}" if again > 4 else data.hex()


def _bytes(text: str) -> bytes:
    head, _, tail = text.rpartition(" ")
    if "*" not in tail:
        return bytes.fromhex(text)
    digits, _, again = tail.partition("*")
    return bytes.fromhex(head) + bytes.fromhex(digits) * int(again)


def parse(text: str) -> Program:
    """Return the program of a `text`.  Raises: ValueError, KeyError."""

    def value(given: Any) -> Any:
        if isinstance(given, list):
            return [value(each) for each in given]
        return _bytes(given) if isinstance(given, str) else given

    made = json.loads(text)
    if made["kind"] not in KINDS or made["model"] not in MODELS:
        raise ValueError(f"no kind {made['kind']!r} or model {made['model']!r}")
    steps = tuple((step[0], *map(value, step[1:])) for step in made["steps"])
    return Program(steps, made["kind"], made["model"])


# --- at random -----------------------------------------------------------------------------------


def _offset(rng: Random) -> int:
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(RINGS)
    return rng.choice(REGISTERS) if kind < 0.95 else rng.randrange(BAR0_BYTES + 64)


def _value(rng: Random) -> int:
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(VALUES)
    return rng.getrandbits(32) if kind < 0.7 else rng.randrange(600)


def _size(rng: Random) -> int:
    return rng.choice((4, 4, 4, 4, 4, 4, 1, 2, 8))


def descriptor(rng: Random) -> bytes:
    """Return a transmit descriptor; most of them make sense."""
    address = BASE + rng.randrange(0x2_0000) if rng.random() < 0.9 else rng.getrandbits(64)
    length = rng.choice((0, 1, 13, 60, 64, 1514, rng.randrange(0x10000)))
    command = rng.getrandbits(8) if rng.random() < 0.4 else rng.choice((0x0B, 0x09, 0x01, 0x4B))
    kind = rng.random()
    if kind < 0.4:
        last = rng.choice((0, rng.getrandbits(16)))
        return struct.pack(
            "<QHBBBBH",
            *(address, length, rng.randrange(80), command & 0xDF, 0, rng.randrange(80), last),
        )
    if kind < 0.6:
        return struct.pack(
            "<BBHBBHIBBH",
            *(rng.choice((14, 18, rng.getrandbits(8))), rng.choice((24, 28, rng.getrandbits(8)))),
            rng.choice((33, 0, rng.getrandbits(16))),
            *(rng.choice((34, 38, rng.getrandbits(8))), rng.choice((50, 40, rng.getrandbits(8)))),
            rng.choice((0, rng.getrandbits(16))),
            rng.choice((0, 100, 4000, rng.getrandbits(20))) | (0x20 | rng.getrandbits(8)) << 24,
            *(0, rng.choice((54, 42, 0, rng.getrandbits(8)))),
            rng.choice((0, 1, 100, 1460, rng.getrandbits(16))),
        )
    word = length | 1 << 20 | (0x20 | command) << 24
    return struct.pack("<QII", address, word, rng.choice((0, 0x300, 0x100, rng.getrandbits(32))))


def frame(rng: Random) -> bytes:
    """Return a frame for the device; most of them pass some filter."""
    to = rng.choice((BENCH_MAC, BENCH_MAC, BROADCAST, PAUSE_TO, rng.randbytes(6)))
    out = to + b"\x02\0\0\0\0\1"
    if rng.random() < 0.2:
        out += b"\x81\x00" + rng.randbytes(2)
    kind = rng.choice(ETHERTYPES)
    out += kind.to_bytes(2, "big")
    if kind == 0x0800:
        body = rng.randbytes(rng.choice((0, 8, 20, 40)))
        protocol = rng.choice((1, 6, 17, 17, rng.getrandbits(8)))
        flags = rng.choice((0x4000, 0x2000, 0))
        out += struct.pack(
            ">BBHHHBBH8s", 0x45, 0, 20 + len(body), 1, flags, 64, protocol, 0, rng.randbytes(8)
        )
        out += body
    elif kind == 0x8808:
        out += rng.choice((b"\0\1", b"\0\2")) + rng.randbytes(2)
    elif rng.random() < 0.1:
        out += b"\xff" * 6 + BENCH_MAC * 16
    return out.ljust(
        rng.choice((14, 59, 60, 64, 1514, 1518, 1600, rng.randrange(1, 4000))), b"\x5a"
    )


STEPS: dict[str, tuple[float, Callable[[Random], Step]]] = {
    "write": (6, lambda r: (_offset(r), _value(r), _size(r))),
    "read": (2, lambda r: (_offset(r), _size(r))),
    "io": (0.5, lambda r: (_value(r), _value(r))),
    "config": (1, lambda r: (r.randrange(256), _value(r), r.choice((1, 2, 4)))),
    "memory": (1, lambda r: (r.randrange(0x9000), r.randbytes(r.randrange(1, 128)))),
    "post": (5, lambda r: ([descriptor(r) for _ in range(r.randrange(1, 7))],)),
    "frames": (3, lambda r: ([frame(r) for _ in range(r.randrange(1, 4))],)),
    "ours": (1, lambda r: (r.randrange(1, 9000), r.randrange(2))),
    "up": (0.7, lambda r: (_value(r) if r.random() < 0.3 else 0,)),
    "phy": (0.7, lambda r: (r.randrange(32), r.getrandbits(16))),
    "time": (2, lambda r: (r.choice((100, 10_000, 2_000_000, r.randrange(MOST["time"]))),)),
    "cable": (0.3, lambda r: (r.randrange(2),)),
    "room": (0.3, lambda r: (r.randrange(3),)),
}
"""By name: how often, and what makes its arguments."""
NAMES, WEIGHTS = list(STEPS), [weight for weight, _ in STEPS.values()]


def random_step(rng: Random) -> Step:
    """Return a step."""
    (name,) = rng.choices(NAMES, WEIGHTS)
    return (name, *STEPS[name][1](rng))


# --- mutated -------------------------------------------------------------------------------------


def _changed(rng: Random, given: Any) -> Any:
    """Return an argument that differs a little, or by a lot."""
    if isinstance(given, list):
        out = list(given)
        at = rng.randrange(len(out)) if out else 0
        kind = rng.random()
        if kind < 0.6 and out:
            out[at] = _changed(rng, out[at])
        elif kind < 0.8 and len(out) > 1:
            del out[at]
        elif out:
            out.insert(at, rng.choice(out))
        return out[:8]
    if isinstance(given, bytes):
        data = bytearray(given)
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(data))
            data[at] = rng.choice((data[at] ^ 1 << rng.randrange(8), rng.getrandbits(8), 0, 255))
        return bytes(data)
    kind = rng.random()
    if kind < 0.4:
        return int(given) ^ 1 << rng.randrange(32)
    if kind < 0.7:
        return max(0, int(given) + rng.choice((-1, 1, -8, 8, 16, 128)))
    return _value(rng)


def legal(step: Step) -> Step:
    """Return a step whose numbers are such that every target can try it."""
    name, *args = step
    match name:
        case "write":
            args = [args[0] % (BAR0_BYTES + 64), args[1] & MOST["word"], _near_size(args[2])]
        case "read":
            args = [args[0] % (BAR0_BYTES + 64), _near_size(args[1])]
        case "io":
            args = [arg & MOST["word"] for arg in args]
        case "config":
            args = [args[0] % 256, args[1] & MOST["word"], (1, 2, 4)[args[2] % 3]]
        case "memory":
            args = [args[0] % 0x9000, args[1]]
        case "ours":
            args = [args[0] % MOST["ours"] + 1, args[1] % 2]
        case "up":
            args = [args[0] & MOST["word"]]
        case "phy":
            args = [args[0] % 32, args[1] & 0xFFFF]
        case "time":
            args = [args[0] % MOST["time"]]
        case "cable":
            args = [args[0] % 2]
        case "room":
            args = [args[0] % 3]
    return (name, *args)


def _near_size(size: int) -> int:
    return size if size in (1, 2, 4, 8) else (1, 2, 4, 8)[size % 4]


def mutated(rng: Random, program: Program, other: Program) -> Program:
    """Return a program like `program`, with something of `other` now and then."""
    steps = list(program.steps)
    kind, model = program.kind, program.model
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at = rng.randrange(len(steps) + 1)
        how = rng.random()
        if how < 0.45 and at < len(steps) and len(steps[at]) > 1:
            name, *args = steps[at]
            which = rng.randrange(len(args))
            args[which] = _changed(rng, args[which])
            steps[at] = legal((name, *args))
        elif how < 0.70 or not steps:
            steps.insert(at, random_step(rng))
        elif how < 0.80:
            del steps[min(at, len(steps) - 1)]
        elif how < 0.86:
            steps.insert(at, rng.choice(steps))
        elif how < 0.96:
            begin = rng.randrange(len(other.steps) + 1)
            steps[at:at] = other.steps[begin : begin + rng.randrange(1, 8)]
        elif how < 0.98:
            model = rng.choice(list(MODELS))
        else:
            kind = rng.choice(KINDS)
    return Program(tuple(steps[:MOST_STEPS]), kind, model)
