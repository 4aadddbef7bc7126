"""Tables of requests: sent to the kernel of this machine and to a host, whose answers are compared.

`Side` is a socket of one world. It gives answers in a form that both worlds have. Of errors that is
the errno, the text and the place, of other messages what the table's `plain` makes of them.
`compared` sends each request to both. A table names the requests that are answered otherwise.
"""

from __future__ import annotations

import itertools
import re
import socket as stdlib
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from stack.host import Host
from tests.stack.netlink.requests import (
    EXT_ACK,
    HDR,
    NLMSG_DONE,
    NLMSG_ERROR,
    SOL_NETLINK,
    STRICT,
    Request,
)
from tests.stack.packet.kernelnet import KernelNet

SHOWN = 40
ACK_TLVS = (1, 2, 5, 6)
"""NLMSGERR_ATTR_MSG, OFFS, MISS_TYPE, MISS_NEST."""
TYPE_MASK = 0x3FFF
Plain = Callable[[int, int, bytes], Any]
"""(type, flags, payload of a message) -> what of it is compared; None: nothing."""


def walk(data: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """Number with its flags, and payload, of each attribute."""
    while at + 4 <= len(data):
        size, number = struct.unpack_from("=HH", data, at)
        if size < 4:
            return
        yield number, data[at + 4 : at + size]
        at += size + 3 & ~3


class Side:
    """A socket of the kernel or of a host, and what it answers without what it chooses."""

    def __init__(self, sock: Any, plain: Plain, ordered: bool = True) -> None:
        self.sock = sock
        self.plain = plain
        self.ordered = ordered
        self.seq = 0
        self.settle: Callable[[], object] = bool
        """What lets a world do what it does behind an answer."""
        self.strict = False
        sock.setsockopt(SOL_NETLINK, EXT_ACK, 1)
        sock.bind((0, 0))

    def messages(self, request: Request) -> list[bytes]:
        """What answers, message by message."""
        if request.strict != self.strict:
            self.strict = request.strict
            self.sock.setsockopt(SOL_NETLINK, STRICT, int(request.strict))
        self.seq += 1
        self.sock.sendto(request.message(self.seq), (0, 0))
        found: list[bytes] = []
        while True:
            try:
                data = self.sock.recv(1 << 18, stdlib.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            at = 0
            while at < len(data):
                size = HDR.unpack_from(data, at)[0]
                found.append(data[at : at + size])
                at += size + 3 & ~3

    def ask(self, request: Request) -> list[Any]:
        """The answers in a form that both worlds have."""
        found = [self.told(one) for one in self.messages(request)]
        found = [one for one in found if one is not None]
        self.settle()
        return found if self.ordered else sorted(found, key=repr)

    def told(self, data: bytes) -> Any:
        """One message."""
        _, kind, flags, _, _ = HDR.unpack_from(data)
        if kind not in (NLMSG_ERROR, NLMSG_DONE):
            return self.plain(kind, flags, data[HDR.size :])
        err = struct.unpack_from("=i", data, HDR.size)[0]
        return kind, -err, self.text(data, kind, flags) if err else ()

    def text(self, data: bytes, kind: int, flags: int) -> tuple[Any, ...]:
        """Text, place and what is missing of the extended acknowledgement."""
        if not flags & 0x200:
            return ()
        at = HDR.size + 4
        if kind == NLMSG_ERROR:
            at += HDR.unpack_from(data, at)[0] + 3 & ~3
        table = {number: value for number, value in walk(data, at) if number in ACK_TLVS}
        return tuple(sorted(table.items()))


def sides(
    kernel: KernelNet, host: Host, protocol: int, plain: Plain, ordered: bool = True
) -> tuple[Side, Side]:
    """The socket of the kernel, and that of the host."""
    args = stdlib.AF_NETLINK, stdlib.SOCK_RAW, protocol
    theirs = Side(kernel.call(stdlib.socket, *args), plain, ordered)
    return theirs, Side(host.socket(*args), plain, ordered)


def apart(kernel: Any, here: Any, place: str = "") -> str:
    """The first place where two answers differ, and what is there."""
    if isinstance(kernel, list | tuple) and isinstance(here, list | tuple):
        for at, (one, other) in enumerate(itertools.zip_longest(kernel, here)):
            if one != other:
                return apart(one, other, f"{place}[{at}]")
    return f"{place} kernel {kernel!r:.300}, here {here!r:.300}"


def compared(theirs: Side, ours: Side, rows: Iterable[Request], differences: dict[str, str]) -> int:
    """How many requests were sent. Fails on those that differ without a reason, and the reverse.

    `differences`: patterns of the names of requests -> why the answers are not the same.
    """
    asked, different, known = 0, [], set()
    for request in rows:
        asked += 1
        want, got = theirs.ask(request), ours.ask(request)
        if want == got:
            continue
        found = [one for one in differences if re.fullmatch(one, request.name)]
        known.update(found)
        if not found:
            different.append(f"{request.name}: {apart(want, got)}")
    theirs.sock.close()
    ours.sock.close()
    told = "\n".join(different[:SHOWN])
    assert not different, f"{len(different)} of {asked} requests differ:\n{told}"
    unused = sorted(set(differences) - known)
    assert not unused, f"no request differs so any more: {unused}"
    return asked
