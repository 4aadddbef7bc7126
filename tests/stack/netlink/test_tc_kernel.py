"""The same sequences of traffic control messages to this machine's kernel and to a host.

After each message the errno is the same, and at the end so are the disciplines and classes with
their places and parameters.
"""

from __future__ import annotations

import socket as stdlib
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack.host import Host
from stack.netlink.netlink_sock import NLMSG_HDRLEN
from stack.netlink.tc_attrs import CLASS_OPTIONS, OPTIONS, TCA, TCMSG
from tests.stack.netlink.requests import ACK, DUMP, HDR, REQUEST, Asker, Request, attr
from tests.stack.packet.kernelnet import KernelNet
from tests.support import examples, require

pytestmark = pytest.mark.netns

QDISC, TCLASS = 36, 40
ROOT = 0xFFFFFFFF
PFIFO = {"limit": 7}
TBF = {"rate": 125_000, "rate_linklayer": 1, "limit": 9000, "buffer": 400_000}
HTB = {"version": 3, "rate2quantum": 10, "defcls": 0x10}
LEAF = {"rate": 125_000, "ceil": 125_000, "buffer": 200_000, "cbuffer": 200_000}
KINDS: tuple[tuple[str, dict[str, Any] | bytes | None], ...] = (
    *(("pfifo", PFIFO), ("pfifo", None), ("bfifo", {"limit": 9000}), ("pfifo", b"\0\0")),
    *(("tbf", TBF), ("tbf", {**TBF, "peakrate": 125_001, "mtu": 99_999}), ("tbf", None)),
    *(("tbf", {**TBF, "rate": 0}), ("tbf", {**TBF, "peakrate": 100_000}), ("tbf", b"\0\0\0\0")),
    *(("htb", HTB), ("htb", {**HTB, "version": 4}), ("htb", None), ("pfifo_fast", None)),
    *(("", None), ("nokind", None), ("mq", None), ("noqueue", None), ("pfifo_head_drop", PFIFO)),
)
HANDLES = (0, 0, 0x10000, 0x10000, 0x20000, 0x30000, 0x10001)
PARENTS = (ROOT, ROOT, 0, 0x10001, 0x10010, 0x10011, 0x20001, 0x20010, 0x30001, 0x40001)
FLAGS = (0, 0x600, 0x600, 0x500, 0x100, 0x400, 0x200, 0x700)
"""CREATE, EXCL and REPLACE as `tc` add, replace, change and others set them."""


def mixed(random: Random) -> tuple[str, int, int, tuple[int, int], bytes]:
    """A message: name, type, flags, (handle, parent) and the attributes."""
    if random.random() < 0.4:
        kind = TCLASS + random.choice((0, 0, 0, 1, 2))
        handle = random.choice((0x10001, 0x10010, 0x10011, 0x20010, 0, 0x10))
        opt = CLASS_OPTIONS["htb"].build({**LEAF, "rate": random.choice((0, 125_000, 250_000))})
        tail = attr(1, b"htb\0") + (attr(2, opt) if random.random() < 0.9 else b"")
    else:
        kind = QDISC + random.choice((0, 0, 0, 0, 1, 2))
        handle = random.choice(HANDLES)
        name, given = random.choice(KINDS)
        tail = attr(1, name.encode() + b"\0") if name else b""
        if isinstance(given, dict):
            given = OPTIONS[name].build(given)
        if given is not None:
            tail += attr(2, given)
        if kind != QDISC and random.random() < 0.7:
            tail = b""
    parent = random.choice(PARENTS)
    flags = random.choice(FLAGS) if kind in (QDISC, TCLASS) else 0
    return (
        f"{kind} {flags:#x} {handle:#x} {parent:#x} {tail.hex()}",
        kind,
        flags,
        (handle, parent),
        tail,
    )


class Side:
    """One of the two, and the index of its device."""

    def __init__(self, sock: Any, index: int) -> None:
        self.asker = Asker(sock)
        self.index = index
        self.auto: dict[int, int] = {}

    def ask(self, kind: int, flags: int, where: tuple[int, int], tail: bytes) -> list[Any]:
        body = TCMSG.pack(0, self.index, *where, 0) + tail
        return self.asker.ask(Request("", kind, REQUEST | ACK | flags, body))

    def told(self, kind: int) -> list[tuple[Any, ...]]:
        """What a dump tells of the device, with handles that it chose in their order."""
        body = TCMSG.pack(0, self.index, 0, 0, 0)
        sock = self.asker.sock
        sock.sendto(HDR.pack(HDR.size + len(body), kind + 2, REQUEST | DUMP, 1, 0) + body, (0, 0))
        found = []
        while True:
            data, at = sock.recv(1 << 16), 0
            while at < len(data):
                size, what, *_ = HDR.unpack_from(data, at)
                if what == 3:
                    return sorted(found)
                message = data[at : at + size]
                _, index, handle, parent, _ = TCMSG.unpack_from(message, NLMSG_HDRLEN)
                tb = TCA.parse(message, NLMSG_HDRLEN + TCMSG.size)
                if index == self.index:
                    options = OPTIONS if kind == QDISC else CLASS_OPTIONS
                    opt = tb.get("TCA_OPTIONS")
                    name = tb["TCA_KIND"]
                    parsed = options[name].parse(opt) if opt is not None else {}
                    for unlike in ("version", "direct_pkts"):
                        parsed.pop(unlike, None)
                    values = sorted((k, v) for k, v in parsed.items() if "TCA" not in k)
                    place = self.number(handle), self.number(parent)
                    found.append((name, *place, str(values)))
                at += size + 3 & ~3

    def number(self, handle: int) -> int:
        """A handle; 0x80000000 for those that it chose itself."""
        chosen = 0x80000000 <= handle < 0xFFFF0000
        return 0x80000000 | handle & 0xFFFF if chosen else handle


@pytest.fixture(scope="module")
def kernel() -> Iterator[Side]:
    require.netns()
    require.tool("ip", "iproute2")
    net = KernelNet()
    net.run("ip link add v0 numtxqueues 1 type veth peer name v1", "ip link set v0 up")
    net.run("ip link set v1 up")
    index = net.call(stdlib.if_nametoindex, "v0")
    with net.call(stdlib.socket, stdlib.AF_NETLINK, stdlib.SOCK_RAW, 0) as sock:
        yield Side(sock, index)
    net.close()


@pytest.mark.parametrize("seed", range(examples(20)))
def test_answers_and_disciplines_are_those_of_the_kernel(kernel: Side, seed: int) -> None:
    random = Random(seed)
    with Host("h", clock=VirtualClock()) as host:
        host.add_veth("v0", "v1", up=True)
        host.ifconfig("v1", up=True)
        host.wait_carrier("v0")
        ours = Side(host.socket(stdlib.AF_NETLINK, stdlib.SOCK_RAW, 0), host.dev("v0").ifindex)
        kernel.ask(QDISC + 1, 0, (0, ROOT), b"")
        done = []
        for _ in range(60):
            name, *message = mixed(random)
            done.append(name)
            want, got = kernel.ask(*message), ours.ask(*message)
            assert got == want, done[-4:]
            for kind in (QDISC, TCLASS):
                assert ours.told(kind) == kernel.told(kind), done[-4:]
        ours.asker.sock.close()
