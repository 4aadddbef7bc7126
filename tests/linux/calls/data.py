"""send and recv with every MSG_ flag, in every state."""

from __future__ import annotations

import socket
import struct

from tests.linux.calls.states import ECHO, STATES, State
from tests.linux.calls.world import FAR4, FAR6, World, sin, sin6, sll, sun

DONTWAIT = 0x40
FLAGS = tuple(1 << bit for bit in range(32) if bit not in (6, 31))
"""MSG_* one by one; MSG_DONTWAIT is always set, and MSG_CMSG_COMPAT is internal."""
PAIRS = (
    0x2 | 0x20,
    0x2 | 0x100,
    0x1 | 0x2,
    0x20 | 0x100,
    0x2000 | 0x2,
    0x8000 | 0x4000,
    0x80 | 0x1,
)


def payload(state: State) -> bytes:
    """Return bytes that the socket may send."""
    if state.kind.startswith("ping") and state.family is not None:
        return ECHO[state.family] + b"data"
    if state.kind == "packet_raw":
        return bytes(12) + b"\x88\xb5" + b"some frame's payload"
    return b"some data"


def names_for() -> dict[str, bytes]:
    """Return destinations for sendto()."""
    port = 7777
    return {
        "in": sin("127.0.0.1", port),
        "in port 0": sin("127.0.0.1", 0),
        "in far": sin(FAR4, port),
        "in any": sin("0.0.0.0", port),
        "in broadcast": sin("255.255.255.255", port),
        "in group": sin("224.0.0.9", port),
        "in6": sin6("::1", port),
        "in6 port 0": sin6("::1", 0),
        "in6 far": sin6(FAR6, port),
        "in6 any": sin6("::", port),
        "in6 mapped": sin6("::ffff:127.0.0.1", port),
        "in6 group": sin6("ff02::9", port, 2),
        "in6 link-local without scope": sin6("fe80::99", port),
        "in6 raw port": sin6("::1", 200),
        "unspec in": sin("127.0.0.1", port, 0),
        "unspec in6": sin6("::1", port, family=0),
        "unspec 2": bytes(2),
        "99 in": sin("127.0.0.1", port, 99),
        "99 in6": sin6("::1", port, family=99),
        "in 2 bytes": sin("127.0.0.1", port)[:2],
        "in 8 bytes": sin("127.0.0.1", port)[:8],
        "in6 8 bytes": sin6("::1", port)[:8],
        "in6 24 bytes": sin6("::1", port)[:24],
        "nothing": b"",
        "un nobody": sun(b"\0nobody"),
        "un empty": sun(b""),
        "ll lo": sll(1, 0x88B5, bytes(6)),
        "ll bad": sll(99, 0x88B5, bytes(6)),
        "ll none": sll(0, 0x88B5, bytes(6)),
    }


def data(w: World) -> None:
    """All of it."""
    for state in STATES:
        at = f"{state.kind}/{state.name}"
        bits = payload(state)
        for flags in (0, *FLAGS, *PAIRS):
            with w.case(at):
                fd = state.make(w)
                w.sendto(fd, bits, flags | DONTWAIT, None)
            for size in (0, 3, 100):
                with w.case(at):
                    fd = state.make(w)
                    w.recvfrom(fd, size, flags | DONTWAIT)
                    if flags in (0, 0x2, 0x2000):
                        with w.case(f"after recv({size}, {flags:#x})"):
                            w.recvfrom(fd, 100, DONTWAIT)
                            w.recvfrom(fd, 100, DONTWAIT)
                            w.row("error", w.raw.getsockopt, fd, 1, 4, 4)
                            w.poll(fd)
        with w.case(at):
            fd = state.make(w)
            w.sendto(fd, b"", DONTWAIT, None)
            w.sendto(fd, bits, DONTWAIT, None)
            w.sendto(fd, bits, DONTWAIT, None)
        with w.case(at):
            fd = state.make(w)
            w.recvmsg(fd, [2, 3], 512, DONTWAIT, same=without_values)
            w.recvmsg(fd, [], 512, DONTWAIT, label="no iov", same=without_values)
            w.recvmsg(fd, [100], 0, DONTWAIT | 0x2000, same=without_values)
        for label, addr in names_for().items():
            with w.case(at):
                fd = state.make(w)
                w.sendto(fd, bits, DONTWAIT, addr, label)
                w.settle()
                w.row(f"error after {label}", w.raw.getsockopt, fd, 1, 4, 4)
    vectors(w)


def without_values(control: list[tuple[int, int, bytes]]) -> list[tuple[int, int, int]]:
    """Keep kinds and lengths of control messages."""
    return [(level, kind, len(data)) for level, kind, data in control]


COUNTS = (0, 1, 2, 16, 1023, 1024, 1025, 5000)


def vectors(w: World) -> None:
    """Numbers of iovecs, and payloads of every length around a protocol's limits."""
    for state in STATES:
        if state.name not in ("new", "connected", "data", "pair", "bound"):
            continue
        at = f"{state.kind}/{state.name}"
        for count in COUNTS:
            with w.case(at):
                fd = state.make(w)
                w.sendmsg(fd, [b"x"] * count, [], DONTWAIT, label=f"{count} iovecs")
                w.recvmsg(fd, [1] * count, 0, DONTWAIT, label=f"{count} iovecs")
        for size in (
            0,
            1,
            7,
            8,
            19,
            20,
            39,
            40,
            1400,
            1500,
            1501,
            65487,
            65488,
            65507,
            65508,
            65515,
            65516,
            65527,
            65528,
            65535,
            65536,
            70000,
        ):
            with w.case(at):
                fd = state.make(w)
                head = payload(state)[:8] if state.kind.startswith("ping") else b""
                w.sendto(fd, (head + bytes(size))[:size], DONTWAIT, None)
    to = sin("127.0.0.1", 0)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 0, 0, 0, 64, 200, 0) + bytes(
        (0, 0, 0, 0, 127, 0, 0, 1)
    )
    with w.case("raw4 hdrincl"):
        for size in (0, 8, 19, 20, 24, 28, 60):
            fd = w.make(socket.AF_INET, socket.SOCK_RAW, 255)
            w.sendto(fd, head.ljust(size, b"\0")[:size], DONTWAIT, to, "header")
            w.sendto(
                fd, (b"\x6f" + head[1:]).ljust(size, b"\0")[:size], DONTWAIT, to, "header of 6f"
            )
