"""Frames through packet sockets, beside the kernel's over a pair of veth.

Ours cross two NICs and the wire between them; veth hands a frame from one namespace to the other.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from e1000emu.lab import two_hosts

from . import Row, Work, row, size_bytes
from .ends import veth_plain

SIZES = ("64B", "1472B")
QUICK = ("64B",)
FRAMES = 2048
PROTOCOL = 0x88B5
"""An EtherType for experiments, which nobody else listens to."""
AF_PACKET, SOCK_RAW = 17, 3


def _work(sender: Any, receiver: Any, head: bytes, size: str) -> Work:
    frame, room = head + bytes(size_bytes(size) - len(head)), bytearray(2048)

    def run() -> None:
        for _ in range(FRAMES):
            sender.send(frame)
            if receiver.recv_into(room) != len(frame):
                raise RuntimeError("packet: another frame came")

    return Work(run, FRAMES)


@row("stack__packet__raw", group="packet", unit="k/s", sizes=SIZES, quick=QUICK)
def raw(size: str) -> Iterator[Work]:
    """Whole frames, one by one: sent at one host, received at the other."""
    hosts = two_hosts()
    with ExitStack() as stack:
        for host in hosts:
            stack.enter_context(host)
        ends = [
            stack.enter_context(host.socket(AF_PACKET, SOCK_RAW, socket.htons(PROTOCOL)))
            for host in hosts
        ]
        for end in ends:
            end.bind(("eth0", PROTOCOL))
        macs = [host.dev_by_name["eth0"].dev_addr for host in hosts]
        yield _work(*ends, macs[1] + macs[0] + PROTOCOL.to_bytes(2, "big"), size)


@row(
    "stack__peer__packet_raw",
    group="packet",
    unit="k/s",
    sizes=SIZES,
    quick=QUICK,
    peer="Linux veth",
)
def kernel_raw(size: str) -> Iterator[Work]:
    """The same calls of the standard library."""
    with ExitStack() as stack:
        ends = stack.enter_context(veth_plain())
        pair = []
        for place in (ends.a, ends.b):
            with place:
                one = stack.enter_context(
                    socket.socket(AF_PACKET, SOCK_RAW, socket.htons(PROTOCOL))
                )
            one.bind(("veth0", PROTOCOL))
            pair.append(one)
        sender, receiver = pair
        receiver.settimeout(2)  # a lost frame is an error, not an endless wait
        macs = [one.getsockname()[4] for one in pair]
        yield _work(sender, receiver, macs[1] + macs[0] + PROTOCOL.to_bytes(2, "big"), size)


ROWS: tuple[Row, ...] = (raw, kernel_raw)
