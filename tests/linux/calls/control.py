"""Control messages: known and unknown ones in sendmsg, and requested ones in recvmsg."""

from __future__ import annotations

import contextlib
import struct
from socket import SOCK_DGRAM

from tests.linux.calls.data import payload
from tests.linux.calls.states import FAMILIES, PORT, STATES, UNIX_KINDS, V4, Family, State, tcp_pair
from tests.linux.calls.world import Control, World, sll

DONTWAIT = 0x40
LEVELS = {
    "SOCKET": 1,
    "IP": 0,
    "TCP": 6,
    "UDP": 17,
    "IPV6": 41,
    "RAW": 255,
    "PACKET": 263,
    "NONE": 99,
}
TYPES = (*range(1, 81), 103, 104)


def number(value: int) -> bytes:
    """An int as C has it."""
    return struct.pack("=i", value)


SIZES: dict[str, bytes] = {
    "none": b"",
    "1": b"\1",
    "int 1": number(1),
    "int -1": number(-1),
    "int 300": number(300),
    "8": number(1) + number(0),
    "12": bytes(12),
    "20": bytes(20),
}


def to_itself(w: World, state: State) -> tuple[int, bytes | None]:
    """Return a socket and its destination."""
    fd = state.make(w)
    if state.kind.startswith("packet"):
        return fd, sll(1, 0x88B5, bytes(6))
    return fd, None


def sending(w: World) -> None:
    """One message of each level, type and length, to a capable receiver."""
    for state in STATES:
        if state.name not in ("connected", "pair") and not state.kind.startswith("packet"):
            continue
        if state.kind.startswith("packet") and state.name != "bound":
            continue
        with w.case(state.kind):
            packet = state.kind.startswith("packet")
            fd, addr = to_itself(w, state) if packet else (0, None)
            for level, value in LEVELS.items():
                for kind in TYPES:
                    if (value, kind) == (1, 1):
                        continue  # SCM_RIGHTS: descriptors are a world's own; see rights()
                    with w.case(f"{level}/{kind}"):
                        # A kernel takes long to close a packet socket: one must do.
                        if not packet:
                            fd, addr = to_itself(w, state)
                        for label, data in SIZES.items():
                            control = [(value, kind, data)]
                            w.sendmsg(fd, [payload(state)], control, DONTWAIT, addr, label)


def rights(w: World) -> None:
    """SCM_RIGHTS and SCM_CREDENTIALS."""
    for name, kind in UNIX_KINDS.items():
        with w.case(f"unix_{name}/rights"):
            one, two = w.make_pair(kind)
            fds = struct.pack("=ii", one, two)
            for label, data in (
                ("two", fds),
                ("none", b""),
                ("short", fds[:3]),
                ("bad", number(99)),
            ):
                w.sendmsg(one, [b"x"], [(1, 1, data)], DONTWAIT, None, f"SCM_RIGHTS {label}")
                w.recvmsg(two, [10], 64, DONTWAIT, label, counted)
            w.sendmsg(one, [b"x"], [(1, 1, fds), (1, 1, fds)], DONTWAIT, None, "twice")
            w.recvmsg(two, [10], 64, DONTWAIT, "twice", counted)
            w.sendmsg(one, [b"x"], [(1, 1, fds)], DONTWAIT, None, "small room")
            w.recvmsg(two, [10], 20, DONTWAIT, "small room", counted)
            for label, data in (
                ("root", struct.pack("=iII", 1, 0, 0)),
                ("short", bytes(8)),
                ("long", bytes(16)),
            ):
                w.sendmsg(one, [b"x"], [(1, 2, data)], DONTWAIT, None, f"SCM_CREDENTIALS {label}")


def counted(control: Control) -> list[tuple[int, int, int]]:
    """Keep kinds and lengths: descriptors' numbers are a world's own."""
    return [(level, kind, len(data)) for level, kind, data in control]


RECEIVE = {
    "v4": ((0, (6, 7, 8, 11, 12, 13, 18, 20, 23, 25)), (1, (29, 35, 40))),
    "v6": ((41, (2, 3, 4, 5, 8, 25, 49, 51, 53, 56, 58, 60, 66, 70, 74, 77)), (1, (29, 35, 40))),
}
STAMPS = frozenset([(1, 29), (1, 35), (1, 37)])


def same_stamps(control: Control) -> list[tuple[int, int, object]]:
    """Only whether there is a time."""
    return [
        (level, kind, len(data) if (level, kind) in STAMPS else data)
        for level, kind, data in control
    ]


def receiving(w: World) -> None:
    """Every option that asks for a message, alone, all together, and with little room."""
    for f in FAMILIES:
        asked = [(level, name) for level, names in RECEIVE[f.name] for name in names]
        for kind in ("udp", "raw", "ping"):
            state = next(
                s for s in STATES if s.kind == f"{kind}{f.name[1]}" and s.name == "connected"
            )
            bits = payload(state)
            for level, name in asked:
                with w.case(f"{kind}{f.name[1]}/{level}/{name}"):
                    fd = state.make(w)
                    w.row("on", w.raw.setsockopt, fd, level, name, number(1))
                    w.sendto(fd, bits, DONTWAIT, None)
                    w.settle()
                    w.recvmsg(fd, [100], 512, DONTWAIT, same=same_stamps)
            with w.case(f"{kind}{f.name[1]}/short"):
                short_payload(w, state, asked, bits)
            for room in (0, 8, 16, 17, 20, 24, 28, 40, 60, 100, 512):
                with w.case(f"{kind}{f.name[1]}/all/{room}"):
                    fd = state.make(w)
                    for level, name in asked:
                        if (level, name) not in ((1, 35), (0, 7), (41, 25), (0, 11), (0, 23)):
                            with contextlib.suppress(OSError):
                                w.raw.setsockopt(fd, level, name, number(1))
                    w.sendto(fd, bits, DONTWAIT, None)
                    w.settle()
                    w.recvmsg(fd, [100], room, DONTWAIT, same=same_stamps)
        with w.case(f"tcp{f.name[1]}/stamps"):
            tcp_stamps(w, f)
        with w.case(f"udp{f.name[1]}/errors"):
            errors(w, f)
            asked_errors(w, f, asked)


def short_payload(w: World, state: State, asked: list[tuple[int, int]], bits: bytes) -> None:
    """Packets that end before a header of their protocol would."""
    fd = state.make(w)
    for level, name in asked:
        if (level, name) in ((0, 20), (41, 74)):
            w.row(f"on {level} {name}", w.raw.setsockopt, fd, level, name, number(1))
    for size in (0, 1, 3, 4, 5, 8):
        w.sendto(fd, bits[:size], DONTWAIT, None)
        w.settle()
        w.recvmsg(fd, [100], 512, DONTWAIT, f"of {size}")


def tcp_stamps(w: World, f: Family) -> None:
    """Control messages of TCP: TCP_INQ. No time stamps, which a kernel enables late."""
    traffic_class = (0, 13) if f is V4 else (41, 66)
    for level, name in ((6, 36), traffic_class):
        fd, peer = tcp_pair(w, f)
        w.row(f"on {level} {name}", w.raw.setsockopt, fd, level, name, number(1))
        w.raw.sendto(peer, b"hello, world", 0, None)
        w.settle()
        w.recvmsg(fd, [5], 512, DONTWAIT, f"{level} {name}", same_stamps)
        w.recvmsg(fd, [100], 512, DONTWAIT, f"{level} {name}", same_stamps)


def errors(w: World, f: Family) -> None:
    """The error queue after an ICMP error, and a datagram that is too long."""
    state = next(s for s in STATES if s.kind == f"udp{f.name[1]}" and s.name == "errqueue")
    for flags in (0x2000, 0x2002, 0x2020):
        fd = state.make(w)
        w.poll(fd)
        w.recvmsg(fd, [100], 512, DONTWAIT | flags)
        w.recvmsg(fd, [100], 512, DONTWAIT | flags)
        w.row("error", w.raw.getsockopt, fd, 1, 4, 4)
        w.poll(fd)
    for room in (0, 16, 20, 32, 48, 60, 64):
        fd = state.make(w)
        w.recvmsg(fd, [2], room, DONTWAIT | 0x2000)
    level, name, discover = (0, 11, 10) if f is V4 else (41, 25, 23)
    fd = w.make(f.af, SOCK_DGRAM)
    w.raw.setsockopt(fd, level, name, number(1))
    w.raw.setsockopt(fd, level, discover, number(2))
    w.raw.connect(fd, f.at(f.nobody, PORT))
    w.sendto(fd, bytes(3000), DONTWAIT, None)
    w.recvmsg(fd, [100], 512, DONTWAIT | 0x2000)
    fd = w.make(f.af, SOCK_DGRAM)
    w.raw.setsockopt(fd, level, name, number(1))
    w.raw.setsockopt(fd, level, discover, number(2))
    w.sendto(fd, bytes(3000), DONTWAIT, f.at(f.nobody, PORT))
    w.recvmsg(fd, [100], 512, DONTWAIT | 0x2000, "not connected")


def asked_errors(w: World, f: Family, asked: list[tuple[int, int]]) -> None:
    """Control messages about the ICMP error's packet, if the socket requested them."""
    state = next(s for s in STATES if s.kind == f"udp{f.name[1]}" and s.name == "errqueue")
    asked = [row for row in asked if row not in ((0, 18), (0, 23))]  # known to differ, see above
    for level, name in asked:
        fd = state.make(w)
        w.row(f"on {level} {name}", w.raw.setsockopt, fd, level, name, number(1))
        w.recvmsg(fd, [100], 512, DONTWAIT | 0x2000, f"{level} {name}", same_stamps)
    fd = state.make(w)
    for level, name in asked:
        with contextlib.suppress(OSError):
            w.raw.setsockopt(fd, level, name, number(1))
    w.recvmsg(fd, [100], 512, DONTWAIT | 0x2000, "all", same_stamps)


def control(w: World) -> None:
    """All of it."""
    sending(w)
    rights(w)
    receiving(w)
