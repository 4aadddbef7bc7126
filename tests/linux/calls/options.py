"""setsockopt and getsockopt: every level and number, with valid and invalid lengths and values."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tests.linux.calls.states import KINDS, STATES, fresh
from tests.linux.calls.world import GIVEN, World

LEVELS = {
    "SOCKET": 1,
    "IP": 0,
    "TCP": 6,
    "UDP": 17,
    "IPV6": 41,
    "ICMPV6": 58,
    "RAW": 255,
    "PACKET": 263,
    "UNIX": 273,
    "NONE": 99,
}
NUMBERS = (*range(81), 100, 101, 102, 103, 104, 105)
ALSO = {"SOCKET": (83,)}  # SO_PASSRIGHTS; of IP it is iptables'
TCP_QUICKACK = 12
GET_SIZES = (64, 0, 1, 2, 3, 4, 5, 7, 8, 12, 16)


def number(value: int) -> bytes:
    """An int as C has it."""
    return struct.pack("=I", value & 0xFFFFFFFF)


VALUES: dict[str, bytes] = {
    "1": number(1),
    "no bytes": b"",
    "1 byte 0": b"\0",
    "1 byte 1": b"\1",
    "2 bytes": b"\1\0",
    "3 bytes": b"\1\0\0",
    "0": number(0),
    "-1": number(-1),
    "-2": number(-2),
    "2": number(2),
    "3": number(3),
    "64": number(64),
    "255": number(255),
    "256": number(256),
    "1000": number(1000),
    "65535": number(65535),
    "65536": number(65536),
    "200000": number(200000),
    "0x7fffffff": number(0x7FFFFFFF),
    "-0x80000000": number(-0x80000000),
    "5 bytes": number(1) + b"\0",
    "8 bytes 0": bytes(8),
    "8 bytes 1": number(1) + number(0),
    "8 bytes 1 5": number(1) + number(5),
    "12 bytes": number(1) + bytes(8),
    "16 bytes 0": bytes(16),
    "16 bytes 1 1": struct.pack("=qq", 1, 1),
    "16 bytes -1": struct.pack("=qq", -1, -1),
    "20 bytes": number(1) + bytes(16),
}

Rule = Callable[[bytes], object]


def length(value: bytes) -> object:
    """Only its length: a time, a cookie, a count of memory."""
    return f"{len(value)} bytes"


def jiffies(unit: int) -> Rule:
    """A time that the kernel rounds up to jiffies, of 4 ms at most; `unit`: 4 ms in its unit."""

    def rounded(value: bytes) -> object:
        if len(value) < 4:
            return value
        return -(-int.from_bytes(value[:4], "little") // unit) * unit

    return rounded


def clamp(value: bytes) -> object:
    """TCP_WINDOW_CLAMP, of a large one 64 bytes: two builds of Linux 6.18.44 differ by 12.

    One takes the time stamps off the advertised MSS before it sets a server's clamp, one later.
    """
    number = int.from_bytes(value[:4], "little")
    return value if len(value) < 4 or number < 1 << 16 else f"about {number >> 6 << 6}"


def timeval(value: bytes) -> object:
    """A struct timeval: its microseconds are rounded up to jiffies too."""
    if len(value) < 16:
        return value
    seconds, micros = struct.unpack("=qq", value[:16])
    return seconds, -(-micros // 10_000)


def linger(value: bytes) -> object:
    """A struct linger: the maximum is that of the kernel's timers, a matter of CONFIG_HZ."""
    if len(value) < 8:
        return value
    on, seconds = struct.unpack("=iI", value[:8])
    return on, "for ever" if seconds > 0x7FFFFFFF else seconds


def port(value: bytes) -> object:
    """A port; a port not from a table was chosen by bind."""
    number = int.from_bytes(value, "little")
    return number if number in GIVEN else "chosen"


SAME: dict[tuple[str, int], Rule] = {
    ("SOCKET", 57): length,  # SO_COOKIE
    ("SOCKET", 49): length,  # SO_INCOMING_CPU
    ("SOCKET", 71): length,  # SO_NETNS_COOKIE
    ("SOCKET", 17): length,  # SO_PEERCRED: a process of one world
    ("SOCKET", 55): length,  # SO_MEMINFO
    ("SOCKET", 13): linger,
    ("SOCKET", 20): timeval,
    ("SOCKET", 21): timeval,
    ("SOCKET", 66): timeval,
    ("SOCKET", 67): timeval,
    ("IP", 52): port,
    ("TCP", 44): jiffies(4),
    ("TCP", 10): clamp,
    ("TCP", 45): jiffies(4000),
    ("TCP", 46): jiffies(4000),
    ("TCP", 24): length,  # TCP_TIMESTAMP
    ("TCP", 11): length,  # TCP_INFO
    ("TCP", 26): length,  # TCP_CC_INFO
}
LEAVE_OUT = {
    ("SOCKET", 26): "SO_ATTACH_FILTER takes a pointer; tests/programs/test_scripts.py compares",
    ("SOCKET", 51): "SO_ATTACH_REUSEPORT_CBPF, the same",
}


def get(w: World, fd: int, level: str, name: int, size: int) -> object:
    """Return an option's value, without inherent differences."""
    value = w.raw.getsockopt(fd, LEVELS[level], name, size)
    rule = SAME.get((level, name))
    return rule(value) if rule is not None else value


def set_and_get(w: World, fd: int, level: str, name: int, value: bytes) -> object:
    """Set an option, and return its new value."""
    w.raw.setsockopt(fd, LEVELS[level], name, value)
    try:
        return get(w, fd, level, name, 64)
    except OSError as error:
        return f"set, get {error.errno}"


def options(w: World) -> None:
    """Every kind of socket, level and number."""
    for kind in KINDS:
        for level in LEVELS:
            with w.case(f"{kind}/{level}"):
                one = fresh(w, kind)
                for name in (*NUMBERS, *ALSO.get(level, ())):
                    with w.case(f"{name}"):
                        # A kernel takes long to close a packet socket: one must do.
                        fd = one if kind.startswith("packet") else fresh(w, kind)
                        of_one_number(w, fd, level, name)


def of_one_number(w: World, fd: int, level: str, name: int) -> None:
    """Get with every length, then set every value and get."""
    for size in GET_SIZES:
        w.row(f"get {size}", get, w, fd, level, name, size)
    if (level, name) in LEAVE_OUT:
        return
    for label, value in VALUES.items():
        w.row(f"set {label}", set_and_get, w, fd, level, name, value)


def options_in_states(w: World) -> None:
    """Readable options in each state."""
    for state in STATES:
        if state.name == "new":
            continue
        with w.case(f"{state.kind}/{state.name}"):
            fd = state.make(w)
            if state.kind.startswith("tcp"):
                w.raw.rest()
            for level in LEVELS:
                with w.case(level):
                    for name in (*NUMBERS, *ALSO.get(level, ())):
                        if (level, name) != ("TCP", TCP_QUICKACK):  # a matter of jiffies
                            w.row(f"get {name}", get, w, fd, level, name, 64)
