"""RTM_NEWLINK and RTM_DELLINK of random kinds and attributes: the errno of this machine's kernel.

Each sequence goes to a namespace of the kernel and to a host, both with a veth pair. After each
message the errno is the same, and at the end the interfaces have the same names.
"""

from __future__ import annotations

import socket as stdlib
from collections.abc import Iterator
from random import Random

import pytest

from e1000emu.clock import VirtualClock
from stack.host import Host
from stack.netlink.rt_attrs import IFINFOMSG
from stack.netlink.rt_kind_row import link_kind
from stack.netlink.rt_kinds import KINDS
from stack.netlink.rt_vxlan import LEFT_OUT as vxlan_left_out
from stack.netlink.rt_vxlan import LEFT_OUT_FLAGS as vxlan_flags
from tests.stack.netlink.requests import ACK, CREATE, EXCL, REPLACE, REQUEST, Asker, Request, attr
from tests.stack.packet.kernelnet import KernelNet
from tests.support import examples, require

pytestmark = pytest.mark.netns

LINK = 16
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_TXQLEN, IFLA_NUM_TX_QUEUES, IFLA_MAP = 13, 31, 14
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_DATA = 1, 2, 5
NAMES = ("n0", "n1", "n2", "v0", "v1", "lo", "", "a/b", "n%d", "a" * 15, "a" * 16)
MACS = (b"\2\0\0\0\0\5", b"\3\0\0\0\0\5", bytes(6), b"\2\0\0", b"\2" * 7)
NUMBERS = (0, 1, 2, 67, 68, 100, 1280, 1500, 9000, 65535, 65536, 1 << 31, 0xFFFFFFFF)
FLAGS = (CREATE | EXCL, CREATE | EXCL, CREATE | EXCL, CREATE, 0, REPLACE, CREATE | REPLACE)
LEFT_OUT: dict[str, set[str]] = {
    "vxlan": {f"IFLA_VXLAN_{name}" for name in (*vxlan_left_out, *vxlan_flags)},
}
"""Attributes whose values the kernel judges and we take, or that we refuse."""
TOLD = (("bridge", "veth", "vxlan"), ("macvlan", "macvlan", "veth"))
"""The kinds that the kernel of the tests has, too, in mixtures."""


def info_data(random: Random, row: link_kind) -> bytes:
    """Attributes of a kind, right and wrong."""
    found = b""
    rows = [one for one in row.policy.by_number.values() if not one.told]
    rows = [one for one in rows if one.name not in LEFT_OUT.get(row.kind, ())]
    for one in random.sample(rows, min(len(rows), random.choice((0, 1, 1, 2, 3)))):
        size = one.type.size
        if size and random.random() < 0.9:
            value = random.choice(NUMBERS) & (1 << 8 * min(size, 4)) - 1
            payload = value.to_bytes(size, "little")
        else:
            payload = bytes(random.choice((0, 1, 3, 4, 6, 8, 16, 20)))
        found += attr(one.number, payload)
    if random.random() < 0.1:
        found += random.choice((attr(200, bytes(4)), b"\3\0\1\0", b"\x40\0\1\0aaaa"))
    return found


def some(random: Random, payloads: tuple[bytes, ...], kind: int, chance: float) -> bytes:
    return attr(kind, random.choice(payloads)) if random.random() < chance else b""


def newlink(random: Random, kinds: tuple[str, ...]) -> Request:
    """One message."""
    names = tuple(name.encode() + b"\0" for name in NAMES)
    numbers = tuple(n.to_bytes(4, "little") for n in NUMBERS)
    indices = tuple(n.to_bytes(4, "little") for n in (0, 1, 2, 3, 99))
    kind = random.choice((*kinds, *kinds, *kinds, "nokind", ""))
    tail = some(random, names, IFLA_IFNAME, 0.9) + some(random, MACS, IFLA_ADDRESS, 0.3)
    tail += some(random, numbers, IFLA_MTU, 0.2) + some(random, indices, IFLA_LINK, 0.2)
    tail += some(random, indices, IFLA_MASTER, 0.15) + some(random, numbers, IFLA_TXQLEN, 0.05)
    tail += some(random, numbers[:4], IFLA_NUM_TX_QUEUES, 0.05)
    tail += some(random, (bytes(32),), IFLA_MAP, 0.03)
    info = attr(IFLA_INFO_KIND, kind.encode() + b"\0") if random.random() < 0.95 else b""
    if kind in KINDS and random.random() < 0.6:
        info += attr(IFLA_INFO_DATA, info_data(random, KINDS[kind]))
    if random.random() < 0.05:
        info += attr(IFLA_INFO_SLAVE_DATA, b"")
    if random.random() < 0.95:
        tail += attr(IFLA_LINKINFO, info)
    index = random.choice((0, 0, 0, 0, 0, 1, 2, 99, -1))
    body = IFINFOMSG.pack(0, 0, index, 0, 0)
    if random.random() < 0.15:
        return Request(f"del {index} {tail.hex()}", LINK + 1, REQUEST | ACK, body + tail)
    flags = REQUEST | ACK | random.choice(FLAGS)
    if kind == "vxlan":  # one that is there cannot be changed here
        flags |= CREATE | EXCL
    if flags & CREATE and index > 0:  # a new device cannot choose its index here
        flags, index = flags & ~CREATE, random.choice((1, 2))
        body = IFINFOMSG.pack(0, 0, index, 0, 0)
    return Request(f"new {flags:#x} {kind} {index} {tail.hex()}", LINK, flags, body + tail)


@pytest.fixture
def kernel() -> Iterator[KernelNet]:
    require.netns()
    net = KernelNet()
    net.run("ip link add v0 type veth peer name v1")
    yield net
    net.close()


def names_of(net: KernelNet) -> dict[str, int]:
    """The interfaces of the kernel's namespace, and their indices."""
    return {name: index for index, name in net.call(stdlib.if_nameindex)}


@pytest.mark.parametrize("kinds", TOLD)
@pytest.mark.parametrize("seed", range(examples(40)))
def test_requests_have_the_errno_of_the_kernel(
    kernel: KernelNet, seed: int, kinds: tuple[str, ...]
) -> None:
    random = Random(seed)
    theirs = Asker(kernel.call(stdlib.socket, stdlib.AF_NETLINK, stdlib.SOCK_RAW, 0))
    asked, different = 0, []
    with Host("h", clock=VirtualClock()) as host:
        host.add_veth("v0", "v1")
        ours = Asker(host.socket(stdlib.AF_NETLINK, stdlib.SOCK_RAW, 0))
        for _ in range(150):
            request = newlink(random, kinds)
            want, got = theirs.ask(request), ours.ask(request)
            asked += 1
            if want != got:
                different.append(f"{request.name}: kernel {want}, here {got}")
            before = names_of(kernel)
            if set(before) != set(host.dev_by_name):
                different.append(f"{request.name}: kernel {before}, here {set(host.dev_by_name)}")
            # A request that failed used up an index in one of both: the next mean other devices.
            moved = before != {name: dev.ifindex for name, dev in host.dev_by_name.items()}
            if different or moved:
                break
        ours.sock.close()
    theirs.sock.close()
    assert asked
    assert different == []
