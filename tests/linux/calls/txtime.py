"""SO_TXTIME and SCM_TXTIME of every kind of socket: values, lengths, permissions, reading back."""

from __future__ import annotations

import struct

from tests.linux.calls.control import DONTWAIT
from tests.linux.calls.data import payload
from tests.linux.calls.stamps import address
from tests.linux.calls.states import STATES, State
from tests.linux.calls.world import World

SOL, TXTIME = 1, 61
CLOCKS = (-1, 0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 1 << 30)
FLAGS = (0, 1, 2, 3, 4, 1 << 31)
TIMES = {
    "none": b"",
    "of 4 bytes": bytes(4),
    "0": bytes(8),
    "1": struct.pack("=Q", 1),
    "2^63": struct.pack("=Q", 1 << 63),
    "of 9 bytes": bytes(9),
}


def txtime(w: World) -> None:
    """Each kind once; loopback has no discipline, so all packets leave at once."""
    for state in STATES:
        connected = state.name in ("connected", "pair")
        if not (connected or (state.kind.startswith("packet") and state.name == "bound")):
            continue
        with w.case(state.kind):
            fd = state.make(w)
            for room in (0, 4, 7, 8, 16):
                w.row(f"get {room}", w.raw.getsockopt, fd, SOL, TXTIME, room)
            send(w, fd, state)
            for clock in CLOCKS:
                for flags in FLAGS:
                    value = struct.pack("=iI", clock, flags)
                    w.row(f"set {clock} {flags}", w.raw.setsockopt, fd, SOL, TXTIME, value)
                    w.row(f"get {clock} {flags}", w.raw.getsockopt, fd, SOL, TXTIME, 16)
            for length in (0, 4, 7, 9, 16):
                w.row(f"{length} bytes", w.raw.setsockopt, fd, SOL, TXTIME, bytes(length))
            send(w, fd, state)


def send(w: World, fd: int, state: State) -> None:
    """A packet with each time."""
    for label, data in TIMES.items():
        control = [(SOL, TXTIME, data)]
        w.sendmsg(fd, [payload(state)], control, DONTWAIT, address(state), label)
