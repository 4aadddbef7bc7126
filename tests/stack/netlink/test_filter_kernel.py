"""The same sequences of messages about filters, chains and actions to the kernel and to a host.

After each message the errno is the same, and so are all filters, chains and actions: their places,
numbers, parameters and users. Times and statistics are left out.
"""

from __future__ import annotations

import socket as stdlib
import struct
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack.host import Host
from stack.netlink.cls_attrs import ACTIONS, CLASSIFIERS, ROOT, action_spec, nested
from stack.netlink.netlink_sock import NLMSG_HDRLEN
from stack.netlink.tc_attrs import TCA, TCMSG
from stack.sched.cls_u32 import KEY, SEL
from tests.stack.netlink.requests import ACK, DUMP, HDR, REQUEST, Asker, Request, attr
from tests.stack.packet.kernelnet import KernelNet
from tests.support import examples, require

pytestmark = pytest.mark.netns

TFILTER, ACTION, CHAIN = 44, 48, 100
INGRESS, EGRESS, HTB = 0xFFFFFFF2, 0xFFFFFFF3, 0x10000
OTHER = b"\xfe\xca\xad\xde"
"""Stands for the number of the other device in a message."""
SETUP = (
    "tc qdisc add dev v0 clsact",
    "tc qdisc add dev v0 root handle 1: htb default 10",
    "tc class add dev v0 parent 1: classid 1:10 htb rate 1mbit",
)


def mirred(random: Random) -> bytes:
    """The payload of one action, mostly right."""
    parms = struct.pack(
        "=IIiiiiI",
        random.choice((0, 0, 0, 0, 1, 2, 7)),
        0,
        random.choice((3, 3, 0, 2, 4, 8, 9, 99, -1, -2, 1 << 28 | 1, 2 << 28 | 3, 3 << 28)),
        0,
        0,
        random.choice((1, 2, 3, 4, 0, 5)),
        random.choice((0, 0xDEADCAFE, 0xDEADCAFE, 0xDEADCAFE, 77)),
    )
    kind = random.choice((b"mirred\0",) * 8 + (b"nosuch\0", b"name-of-17-bytes\0"))
    opt = attr(2, attr(2, parms[: random.choice((28, 28, 28, 28, 8))]))
    return (
        attr(1, kind)
        + random.choice((opt, opt, opt, opt, b"", attr(2, b"")))
        + random.choice(
            (b"", b"", attr(6, b"cookie"), attr(6, bytes(17)), attr(8, struct.pack("=II", 4, 4)))
        )
    )


def actions(random: Random) -> bytes:
    """A list of some."""
    first = random.choice((1, 1, 1, 1, 2))
    count = random.choice((1, 1, 1, 2, 3))
    return b"".join(attr(first + at, mirred(random)) for at in range(count))


def selector(random: Random) -> bytes:
    keys = random.choice((0, 1, 2))
    head = SEL.pack(random.choice((0, 1, 9, 13)), 0, keys, 0, 0, 0, 0, 0)
    data = head + b"".join(KEY.pack(0xFFFF, at, 4 * at, 0) for at in range(keys))
    return data[: random.choice((99, 99, 99, 99, 99, 12, 16))]


U32_HANDLES = (
    *(0, 0, 0, 0x80000800, 0x80000801, 0x80000000, 0x80100000, 0x00500000, 0x00501001, 0x00500801),
    *(0x80100800, 0x800, 0xFFF00801, 5),
)


def u32(random: Random) -> bytes:
    number = struct.pack
    found = b""
    if random.random() < 0.15:
        found += attr(4, number("=I", random.choice((1, 2, 4, 256, 512, 3, 0))))
    if random.random() < 0.9:
        found += attr(5, selector(random))
    if random.random() < 0.3:
        table = random.choice((0x80000000, 0x00500000, 0x00501000, 0x600000))
        found += attr(2, number("=I", table))
    if random.random() < 0.5:
        found += attr(1, number("=I", random.choice((0x10001, 0x10010, 0x10077))))
    if random.random() < 0.2:
        found += attr(3, number("=I", random.choice((0x00500000, 0x80000000, 0, 0x00500001))))
    if random.random() < 0.1:
        found += attr(11, number("=I", random.choice((0, 1, 2, 3, 16, 32))))
    if random.random() < 0.05:
        found += attr(8, random.choice((b"v1\0", b"nodev\0")))
    if random.random() < 0.3:
        found += attr(7, actions(random))
    return found


def bpf(random: Random) -> bytes:
    ops = struct.pack("=HBBI", random.choice((6, 6, 6, 6, 255)), 0, 0, random.choice((0, 1, 7)))
    found = attr(4, struct.pack("=H", random.choice((1, 1, 1, 1, 2, 0)))) + attr(5, ops)
    if random.random() < 0.1:
        found = random.choice((attr(5, ops), attr(6, struct.pack("=I", 999)), b""))
    if random.random() < 0.5:
        found += attr(3, struct.pack("=I", random.choice((0x10001, 0x10010))))
    if random.random() < 0.2:
        found += attr(8, struct.pack("=I", random.choice((1, 1, 2))))
    if random.random() < 0.1:
        found += attr(9, struct.pack("=I", random.choice((1, 2, 4))))
    if random.random() < 0.3:
        found += attr(1, actions(random))
    return found


def about_filter(random: Random) -> tuple[int, int, bytes]:
    """Type, flags and what is behind the header, with OTHER for the other device."""
    kind = TFILTER + random.choice((0, 0, 0, 0, 1, 2))
    name = random.choice(("u32", "u32", "u32", "bpf", "bpf", "", "nokind", "name-of-17-bytes."))
    handle = random.choice(U32_HANDLES if name != "bpf" else (0, 0, 1, 2))
    parent = random.choice(
        (INGRESS, INGRESS, INGRESS, EGRESS, HTB, HTB, 0, 0x10010, 0x10077, 0x20000, 0xFFFF0000)
    )
    prio = random.choice((0, 1, 1, 2, 2, 3)) if kind == TFILTER else random.choice((0, 1, 2, 3))
    if name == "bpf" and prio:
        prio += 10
    proto = random.choice((0x0008, 0x0008, 0x0008, 0x0300, 0))
    tail = attr(1, name.encode() + b"\0") if name else b""
    if kind == TFILTER and random.random() < 0.95:
        tail += attr(2, u32(random) if name != "bpf" else bpf(random))
    if random.random() < 0.2:
        tail += attr(11, struct.pack("=I", random.choice((0, 3, 3, 5, 1 << 28))))
    flags = random.choice((0x600, 0x600, 0x600, 0x400, 0x500, 0)) if kind == TFILTER else 0
    if kind != TFILTER and random.random() < 0.2:
        proto = handle = 0
        tail = b""
    return kind, flags, TCMSG.pack(0, 0, handle, parent, prio << 16 | proto) + tail


def about_chain(random: Random) -> tuple[int, int, bytes]:
    """The same of a chain."""
    kind = CHAIN + random.choice((0, 0, 1, 2))
    parent = random.choice((INGRESS, INGRESS, EGRESS, HTB, 0x20000))
    tail = attr(11, struct.pack("=I", random.choice((0, 3, 5, 5, 1 << 28))))
    tail += attr(1, random.choice((b"u32\0", b"nokind\0"))) if random.random() < 0.1 else b""
    return kind, random.choice((0x600, 0)), TCMSG.pack(0, 0, 0, parent, 0) + tail


def about_action(random: Random) -> tuple[int, int, bytes]:
    """The same of actions."""
    kind = ACTION + random.choice((0, 0, 1, 1, 2))
    flags = random.choice((0x600, 0x600, 0x500)) if kind == ACTION else 0
    tail = attr(1, actions(random))
    if kind != ACTION:
        index = attr(3, struct.pack("=I", random.choice((1, 1, 2, 3, 7))))
        name = attr(1, random.choice((b"mirred\0",) * 5 + (b"nosuch\0",)))
        tail = attr(1, attr(1, name + random.choice((index, index, index, b""))))
        if kind == ACTION + 1 and random.random() < 0.2:
            flags = 0x100
    return kind, flags, b"\0\0\0\0" + (tail if random.random() < 0.95 else b"")


class Side:
    """One of the two, and the indices of its devices."""

    def __init__(self, sock: Any, index: int, other: int) -> None:
        self.asker = Asker(sock)
        self.index = index
        self.other = other

    def ask(self, kind: int, flags: int, body: bytes) -> list[Any]:
        """The answer to a message."""
        body = body.replace(OTHER, struct.pack("=I", self.other))
        if kind // 4 != ACTION // 4:
            fields = list(TCMSG.unpack_from(body))
            body = TCMSG.pack(fields[0], self.index, *fields[2:]) + body[TCMSG.size :]
        return self.asker.ask(Request("", kind, REQUEST | ACK | flags, body))

    def messages(self, kind: int, body: bytes) -> Iterator[bytes]:
        """What a dump tells."""
        sock = self.asker.sock
        sock.sendto(HDR.pack(HDR.size + len(body), kind, REQUEST | DUMP, 1, 0) + body, (0, 0))
        while True:
            data, at = sock.recv(1 << 16), 0
            while at < len(data):
                size, what, *_ = HDR.unpack_from(data, at)
                if what == 3:
                    return
                yield data[at : at + size]
                at += size + 3 & ~3

    def parameters(self, opt: dict[str, Any]) -> dict[str, Any]:
        """Without times, and with the other device as such."""
        opt.pop("TM", None)
        if opt.get("ifindex") == self.other:
            opt["ifindex"] = "other"
        return opt

    def told(self) -> list[Any]:
        """All filters, chains and actions."""
        found: list[Any] = []
        for parent in (INGRESS, EGRESS, HTB, 0x10010):
            for message in self.messages(TFILTER + 2, TCMSG.pack(0, self.index, 0, parent, 0)):
                fields = TCMSG.unpack_from(message, NLMSG_HDRLEN)
                tb = TCA.parse(message, NLMSG_HDRLEN + TCMSG.size)
                opt = tb.get("TCA_OPTIONS")
                parsed = CLASSIFIERS[tb["TCA_KIND"]].parse(opt) if opt is not None else {}
                if "actions" in parsed:
                    parsed["actions"] = list(parsed["actions"]())
                    for spec in parsed["actions"]:
                        self.parameters(spec["options"])
                found.append((fields[2:], tb["TCA_KIND"], tb["TCA_CHAIN"], parsed))
            for message in self.messages(CHAIN + 2, TCMSG.pack(0, self.index, 0, parent, 0)):
                tb = TCA.parse(message, NLMSG_HDRLEN + TCMSG.size)
                found.append((TCMSG.unpack_from(message, NLMSG_HDRLEN)[2:], tb["TCA_CHAIN"]))
        kind = attr(1, attr(1, attr(1, b"mirred\0")))
        for message in self.messages(ACTION + 2, b"\0\0\0\0" + kind):
            for _, payload in nested(ROOT.parse(message, NLMSG_HDRLEN + 4)["TCA_ROOT_TAB"]):
                spec = action_spec(payload)
                found.append({**spec, "options": self.parameters(spec["options"])})
        return found


def settle(kernel: Side, want: list[Any]) -> None:
    """Linux frees the actions of a filter somewhat later: wait for that, a second at most."""
    for _ in range(50):
        if kernel.told() == want:
            return
        time.sleep(0.02)


@pytest.fixture(scope="module")
def net() -> Iterator[KernelNet]:
    require.netns()
    require.tool("tc", "iproute2")
    net = KernelNet()
    net.run("ip link add v0 numtxqueues 1 type veth peer name v1", "ip link set v0 up")
    net.run("ip link set v1 up")
    yield net
    net.close()


@pytest.mark.parametrize("seed", range(examples(20)))
def test_answers_and_filters_are_those_of_the_kernel(net: KernelNet, seed: int) -> None:
    random = Random(seed)
    net.run("tc qdisc del dev v0 clsact || true", "tc qdisc del dev v0 root || true")
    net.run("until tc actions flush action mirred 2>&1; do sleep 0.02; done", *SETUP)
    sock = net.call(stdlib.socket, stdlib.AF_NETLINK, stdlib.SOCK_RAW, 0)
    index = [net.call(stdlib.if_nametoindex, name) for name in ("v0", "v1")]
    kernel = Side(sock, *index)
    with Host("h", clock=VirtualClock()) as host, sock:
        host.add_veth("v0", "v1", up=True)
        host.ifconfig("v1", up=True)
        host.wait_carrier("v0")
        host.qdisc_add("v0", "clsact", parent="ingress")
        host.qdisc_add("v0", "htb", handle="1:", version=3, defcls=0x10)
        host.class_add("v0", "1:10", parent="1:", rate=125_000)
        socket = host.socket(stdlib.AF_NETLINK, stdlib.SOCK_RAW, 0)
        ours = Side(socket, host.dev("v0").ifindex, host.dev("v1").ifindex)
        done: list[str] = []
        for _ in range(80):
            what = random.choice((*[about_filter] * 3, about_chain, about_action))
            kind, flags, body = what(random)
            done.append(f"{kind} {flags:#x} {body.hex()}")
            want, got = kernel.ask(kind, flags, body), ours.ask(kind, flags, body)
            assert got == want, done[-4:]
            settle(kernel, ours.told())
            assert ours.told() == kernel.told(), done[-4:]
        socket.close()


def test_every_kind_has_attributes() -> None:
    from stack.sched.act_kinds import ACTIONS as MADE
    from stack.sched.cls_kinds import CLASSIFIERS as KINDS

    assert KINDS.keys() == CLASSIFIERS.keys()
    assert MADE.keys() == ACTIONS.keys()
