"""SO_TIMESTAMPING: stamps of sent packets in the error queue, of received ones in recvmsg."""

from __future__ import annotations

import struct
from socket import SOCK_DGRAM

from tests.linux.calls.control import DONTWAIT, number
from tests.linux.calls.data import payload
from tests.linux.calls.states import FAMILIES, PORT, STATES, Family, State, tcp_pair
from tests.linux.calls.world import Control, World, sin, sll

SOL, TIMESTAMPNS, TIMESTAMPNS_NEW = 1, 35, 64
OLD, NEW, OPT_STATS, TS_OPT_ID = 37, 65, 54, 81
ERRQUEUE = 0x2000
TX_HW, TX_SW, RX_SW, TELL, ID, SCHED, ACK, CMSG, TSONLY, STATS, ID_TCP, RX_FILTER = (
    1 << bit for bit in (0, 1, 3, 4, 7, 8, 9, 10, 11, 12, 16, 17)
)
SENT = (
    TX_SW,
    TX_SW | TELL,
    TX_HW | TELL | ID,
    SCHED | TELL,
    ACK | TELL | ID,
    TX_SW | SCHED | ACK | TELL,
    TX_SW | SCHED | ACK | TELL | ID,
    TX_SW | SCHED | ACK | TELL | ID | TSONLY,
    TX_SW | SCHED | TELL | ID | CMSG,
    TX_SW | SCHED | TELL | ID | CMSG | TSONLY,
    TX_SW | ACK | TELL | STATS | TSONLY,
    TX_SW | ACK | TELL | ID | ID_TCP | TSONLY,
)
CAME = (RX_SW, RX_SW | TELL, TELL, TELL | RX_FILTER, RX_SW | TELL | RX_FILTER)


def without_times(control: Control) -> list[tuple[int, int, object]]:
    """Of times only which are there, of statistics their kinds."""
    return [(level, kind, shown(level, kind, data)) for level, kind, data in control]


def shown(level: int, kind: int, data: bytes) -> object:
    """A message without its time."""
    if level == SOL and kind in (OLD, NEW):
        return [bool(word) for word in struct.unpack("=6q", data)]
    if level == SOL and kind in (TIMESTAMPNS, TIMESTAMPNS_NEW):
        return len(data)
    if level == SOL and kind == OPT_STATS:
        kinds = []
        while data:
            size, number = struct.unpack_from("=HH", data)
            kinds.append((number, size))
            data = data[size + 3 & ~3 :]
        return kinds
    return data


def queue(w: World, fd: int) -> None:
    """Read the whole error queue."""
    w.poll(fd)
    for _ in range(8):

        def call() -> object:
            size, _, control, flags, addr = w.raw.recvmsg(fd, [3000], 600, ERRQUEUE | DONTWAIT)
            return size, without_times(control), flags, addr

        if w.row("errqueue", call) is None:
            break
    w.poll(fd)


def speakers() -> list[State]:
    """A socket of each kind that can send datagrams over loopback."""
    kinds = [f"{kind}{f.name[1]}" for f in FAMILIES for kind in ("udp", "raw", "ping")]
    return [s for s in STATES if s.kind in kinds and s.name == "connected"] + [
        s for s in STATES if s.kind.startswith("packet") and s.name == "bound"
    ]


def address(state: State) -> bytes | None:
    """Its destination; None: it is connected."""
    return sll(1, 0x88B5, bytes(6)) if state.kind.startswith("packet") else None


def datagrams(w: World, state: State) -> None:
    """Each combination of flags, as an option and as a message."""
    bits, to = payload(state), address(state)
    for flags in SENT:
        with w.case(f"option {flags:#x}"):
            fd = state.make(w)
            w.row("on", w.raw.setsockopt, fd, SOL, OLD, number(flags))
            w.sendto(fd, bits, DONTWAIT, to)
            w.sendto(fd, bits, DONTWAIT, to)
            w.settle()
            queue(w, fd)
    with w.case("message"):
        fd = state.make(w)
        w.row("on", w.raw.setsockopt, fd, SOL, OLD, number(TELL | ID | TSONLY))
        for label, control in MESSAGES.items():
            w.sendmsg(fd, [bits], control, DONTWAIT, to, label)
            w.settle()
            queue(w, fd)


MESSAGES: dict[str, Control] = {
    "nothing": [],
    "software": [(SOL, OLD, number(TX_SW))],
    "by the new number": [(SOL, NEW, number(TX_SW | SCHED))],
    "another bit": [(SOL, OLD, number(TX_SW | TELL))],
    "too long": [(SOL, OLD, number(TX_SW) + bytes(4))],
    "again": [(SOL, OLD, number(TX_SW))],
    # These come last: a kernel forgets to take the number off the socket of a raw or ping packet.
    "its number": [(SOL, OLD, number(TX_SW)), (SOL, TS_OPT_ID, number(77))],
    "its number alone": [(SOL, TS_OPT_ID, number(78))],
    "its number, too long": [(SOL, TS_OPT_ID, bytes(8))],
}


def stream(w: World, f: Family) -> None:
    """The same for TCP, which counts bytes and knows acknowledgements."""
    for flags in SENT:
        with w.case(f"option {flags:#x}"):
            client, server = tcp_pair(w, f)
            w.raw.sendto(client, b"before", 0, None)
            w.raw.recvfrom(server, 100, 0)
            w.settle()
            w.row("on", w.raw.setsockopt, client, SOL, OLD, number(flags))
            for size in (10, 3000):
                w.sendto(client, bytes(size), DONTWAIT, None)
                w.settle()
                queue(w, client)
                w.raw.recvfrom(server, 10000, 0)
    with w.case("message"):
        client, server = tcp_pair(w, f)
        w.row("on", w.raw.setsockopt, client, SOL, OLD, number(TELL | ID | TSONLY))
        for label, control in MESSAGES.items():
            w.sendmsg(client, [b"bytes"], control, DONTWAIT, None, label)
            w.settle()
            queue(w, client)
        w.settle()
        for kinds in (ID, ID | ID_TCP, 0, ID | ID_TCP):
            w.row(f"count {kinds:#x}", w.raw.setsockopt, client, SOL, OLD, number(kinds | TELL))


def arrivals(w: World, state: State) -> None:
    """Time stamps of a reader, by either number of the option."""
    bits = payload(state)
    for option in (OLD, NEW):
        for flags in CAME:
            for more in (0, 1):
                with w.case(f"{option}/{flags:#x}/{more}"):
                    fd = state.make(w)
                    if more:
                        w.row("and", w.raw.setsockopt, fd, SOL, TIMESTAMPNS, number(1))
                    w.row("on", w.raw.setsockopt, fd, SOL, option, number(flags))
                    w.sendto(fd, bits, DONTWAIT, address(state))
                    w.settle()
                    w.recvmsg(fd, [100], 512, DONTWAIT, same=without_times)


def begin(w: World) -> None:
    """Request receive stamps, which a kernel enables with a delay."""
    asker = w.make(FAMILIES[0].af, SOCK_DGRAM)
    w.raw.bind(asker, sin("127.0.0.1", PORT + 1))
    w.raw.connect(asker, sin("127.0.0.1", PORT + 1))
    w.raw.setsockopt(asker, SOL, OLD, number(RX_SW | TELL))
    for _ in range(1000):
        w.raw.sendto(asker, b"x", DONTWAIT, None)
        w.settle()
        if w.raw.recvmsg(asker, [10], 200, DONTWAIT)[2]:
            return


def stamps(w: World) -> None:
    """All of it."""
    begin(w)
    for state in speakers():
        with w.case(f"{state.kind}/sent"):
            datagrams(w, state)
        if state.kind.startswith(("udp", "raw")):
            with w.case(f"{state.kind}/came"):
                arrivals(w, state)
    for f in FAMILIES:
        with w.case(f"tcp{f.name[1]}/sent"):
            stream(w, f)
        with w.case(f"tcp{f.name[1]}/came"):
            for flags in CAME:
                client, server = tcp_pair(w, f)
                w.row(f"on {flags:#x}", w.raw.setsockopt, client, SOL, OLD, number(flags))
                w.raw.sendto(server, b"hello", 0, None)
                w.settle()
                w.recvmsg(client, [100], 512, DONTWAIT, f"{flags:#x}", without_times)
