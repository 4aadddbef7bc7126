"""One function for each rule of the translator: run compiled and not, they must agree."""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack import callee, consts
from stack.callee import half, holds, minus_one, replaced, twice, with_default
from stack.consts import HOOKED, HUGE, LARGE, LIMIT, MASK, NEGATIVE, SMALL
from stack.core.dst import dst_entry
from stack.core.netdevice import net_device
from stack.core.rows import FRESH, clone_state, i32, replace, row, state, u8, u16, u32, wide

counter = 0
UNBOUND = 5


# --- arithmetic: (int, int) -> int ---


def add(a: int, b: int) -> int:
    return a + b


def subtract(a: int, b: int) -> int:
    return a - b


def multiply(a: int, b: int) -> int:
    return a * b


def multiply_small(a: int, b: int) -> int:
    return a * 1000 + (b & 0xFF) * a


def divide(a: int, b: int) -> int:
    return a // b


def modulo(a: int, b: int) -> int:
    return a % b


def negate(a: int, b: int) -> int:
    return -a


def negate_sum(a: int, b: int) -> int:
    return -(a + b) * 2


def invert(a: int, b: int) -> int:
    return ~a ^ b


def absolute(a: int, b: int) -> int:
    return abs(a)


def shift_left(a: int, b: int) -> int:
    return a << b


def shift_masked(a: int, b: int) -> int:
    return a << (b & MASK)


def shift_right(a: int, b: int) -> int:
    return a >> b


def shift_far(a: int, b: int) -> int:
    return (a >> 62) + (b >> 63) + (a >> 64)


def mask_of_bits(a: int, b: int) -> int:
    return ((1 << (b & 63)) - 1) & a


def power(a: int, b: int) -> int:
    return a ** (b & 3)


def augmented(a: int, b: int) -> int:
    x: int = a
    x += b
    x -= SMALL
    x ^= LARGE
    return x


def augmented_multiply(a: int, b: int) -> int:
    x: int = a
    x *= b
    return x


def augmented_shift(a: int, b: int) -> int:
    x: int = a
    x <<= b & 63
    return x


def augmented_untyped(a: int, b: int) -> int:
    x = a
    x <<= b & 63
    x *= b
    return x & 0xFFFFFFFF


def augmented_wide(a: int, b: int) -> int:
    x: wide = a
    x <<= 80
    x *= b
    x += 1
    return x >> 90


def wide_sum(a: int, b: int) -> int:
    x: wide = a
    y = x + b
    return y & 0xFFFF


def sequence_number(a: int, b: int) -> int:
    x = (a - b) & 0xFFFFFFFF
    return x - (1 << 32) if x & 0x80000000 else x


def compare(a: int, b: int) -> int:
    return (a < b) | (a <= b) << 1 | (a == b) << 2 | (a < LARGE) << 3 | (a < HUGE) << 4


def chained(a: int, b: int) -> int:
    return 1 if 0 <= a < b < LARGE else 0


def constants(a: int, b: int) -> int:
    return (a & LARGE) + LIMIT + NEGATIVE + consts.SMALL - consts.NEGATIVE + (HUGE >> 69)


def shadowed(a: int, b: int) -> int:
    SMALL = b & 0xFF
    half = a & 0xFF
    return SMALL + half


def in_a_loop(a: int, b: int) -> int:
    total: int = 0
    i: int
    for i in range(b & 15):
        step: int = i * 3
        if i & 1:
            odd: int = step
            total += odd
    return total + (a & 1)


def calls(a: int, b: int) -> int:
    return half(a) + callee.half(b & 0xFF)


def truth(a: int, b: int) -> bool:
    return holds(a) and holds(b)


def matched(a: int, b: int) -> int:
    match a & 7, b & 3:
        case 0, SMALL:
            return SMALL
        case 1 | 2, 3:
            return LIMIT
        case x, consts.NEGATIVE:
            return x
        case 7, half:
            return half
    return NEGATIVE


def closure(a: int, b: int) -> int:
    low: int = a & 0xFFFF
    dev: net_device = net_device("c")

    def more(by: int) -> int:
        LIMIT = by
        return low + LIMIT + len(dev.name)

    alone: int = more(b & 0xFF)
    route: dst_entry = dst_entry()
    route.mtu = alone
    return route.mtu + LIMIT


def keyword_only(a: int, b: int, *, third: int = LIMIT) -> int:
    dev: net_device = net_device("k")
    dev.mtu = third
    kept: int = dev.mtu + (a & 0xFF)
    return kept + SMALL


def generated(a: int, b: int) -> int:
    base: int = a & 0xFF
    return sum(base + i for i in range(b & 7))


class Plain:
    """A class that is no @state."""

    def method(self, a: int, b: int) -> int:
        x: int = a & 0xFFFF
        y: wide = a
        y <<= 70
        return x + (y >> 70 & 1)


def method(a: int, b: int) -> int:
    return Plain().method(a, b)


def attribute(a: int, b: int) -> int:
    p = pair(a, b)
    p.first += b
    p.second -= SMALL
    p.flag = bool(a)
    return p.first ^ p.second ^ p.flag


# --- what is not arithmetic ---


@state
class pair:
    """Two numbers."""

    first: int
    second: int = LIMIT
    flag: bool = row(True)
    large: wide = row(1 << 70)
    ratio: float = row(0.5)
    names: list[str] = row(make=list, clone=FRESH)
    of: int = row(of=lambda self: self.first + 1)
    linux: int = row(1)

    def kind(self) -> str:
        return "pair"


@state
class small:
    """Fields of few bits; those that a clone gets stand beside those that it does not."""

    full: int
    one: u8 = row(1)
    two: u16 = row(2, clone=FRESH)
    four: u32 = row(4)
    sign: i32 = row(-4, clone=FRESH)
    other: u8 = row(5, clone=FRESH)
    name: str = row("small")
    flag: bool = row(True)
    fresh: bool = row(False, clone=FRESH)
    last: u8 = row(7)


def fields_of_few_bits(a: int, b: int) -> int:
    p = small(a)
    p.four = a & 0xFFFFFFFF
    p.two = b & 0xFFFF
    p.one = a & 0xFF
    p.sign = (b & 0xFFFFFFFF) - 0x80000000
    p.one ^= 3
    p.flag = bool(b & 2)
    return (
        (p.two - p.four) * 3
        + (p.four << 4)
        + ~p.four
        + p.one * p.two
        + p.sign * p.four
        - (p.one - p.other)
        + p.flag
    )


def fields_to_locals(a: int, b: int) -> int:
    p = small(0)
    p.four = a & 0xFFFFFFFF
    p.two = b & 0xFFFF
    low = p.two
    high = p.four
    low -= high
    high += high
    return low * 7 + high


def store(p: small, name: str, value: int) -> None:
    if name == "one":
        p.one = value
    elif name == "two":
        p.two = value
    elif name == "four":
        p.four = value
    elif name == "sign":
        p.sign = value
    else:
        p.full = value


def count_up(p: small, by: int) -> int:
    p.one += by
    return p.one


@state
class triple(pair):
    """One more."""

    third: int = row(9, clone=FRESH)
    flag: bool = row(False)

    def kind(self) -> str:
        return "triple of " + super().kind()


def errors(fail: bool) -> int:
    return minus_one(fail)


def defaults() -> list[list[object]]:
    return [
        with_default(1),
        with_default(1, 2),
        with_default(1, 2, True, "x"),
        with_default(1, what=5),
    ]


def redefined() -> tuple[str, str]:
    return twice(), replaced()


def count() -> int:
    global counter
    counter += 1
    return counter


def hooked() -> int:
    return consts.HOOKED + HOOKED * 0


def own() -> str:
    return "own"


def own_caller() -> str:
    return own()


def device(skb: sk_buff) -> str | None:
    return None if skb.dev is None else skb.dev.name


def local_device(what: object) -> str | None:
    skb: sk_buff = what
    return None if skb.dev is None else skb.dev.name


def route(skb: sk_buff) -> int:
    dst: dst_entry = skb.dst
    if dst is None:
        return -1
    return dst.mtu


def other_skb(skb: sk_buff) -> list[str]:
    return [(lambda skb: skb.dev)(what) for what in (Named("a"), Named("b"))]


class Named:
    """Has a `dev` that is no device."""

    def __init__(self, dev: str) -> None:
        self.dev = dev


def no_device(dev: net_device | None) -> str:
    return dev.name


def caught(a: int) -> str:
    try:
        return str(half(a))
    except ValueError as half_:
        return str(half_)


def copies() -> list[object]:
    p = triple(1, 2)
    p.names.append("x")
    p.third = 5
    p.large += 1
    q = clone_state(p)
    r = replace(p, second=4)
    p.init_state()
    return [
        (o.first, o.second, o.flag, o.large, o.ratio, o.names, o.of, o.third, o.linux, o.kind())
        for o in (p, q, r)
    ]
