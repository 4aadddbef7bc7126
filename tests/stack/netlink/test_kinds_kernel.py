"""RTM_NEWLINK and RTM_DELLINK of random kinds and attributes: the errno of this machine's kernel.

Each sequence goes to a namespace of the kernel and to a host, both with a veth pair. After each
message the errno is the same, and at the end the interfaces have the same names. Changes of devices
that exist have the kernel's messages, too, and `ip` and `bridge` tell the same of them afterwards.
"""

from __future__ import annotations

import json
import socket as stdlib
from collections.abc import Iterator
from random import Random

import pytest

from e1000emu.clock import VirtualClock
from stack.host import Host
from stack.netlink.rt_attrs import IFINFOMSG
from stack.netlink.rt_kind_row import link_kind
from stack.netlink.rt_kinds import KINDS
from stack.netlink.rt_vxlan import PARMS
from tests.hosts import real_host, run_script
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
    "vxlan": {row.name for row in PARMS if not row.sets},
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


DEVICES = {
    "vxlan": """
        ip link add v6 type vxlan id 6 dstport 4789 dev v0 local 2001:db8::1 remote 2001:db8::2
        ip link add v7 type vxlan id 7 dstport 4789
        ip link add v8 type vxlan id 5 dstport 4789 dev v0 local fe80::1
        ip link add n0 type vxlan id 5 dstport 4789 dev v0 local 10.0.0.1 remote 10.0.0.2""",
    "macvlan": "ip link add n0 link v0 type macvlan mode bridge",
    "bridge": "ip link add n0 type bridge",
}
"""Of each kind the device n0 and others in its way."""
VXLAN_VALUES = {
    "IFLA_VXLAN_ID": (b"\5\0\0\0", b"\6\0\0\0"),
    "IFLA_VXLAN_GROUP": (b"\n\0\0\2", b"\n\0\0\3", b"\xe0\1\1\1", bytes(4)),
    "IFLA_VXLAN_LOCAL": (b"\n\0\0\1", b"\xe0\1\1\1", bytes(4)),
    "IFLA_VXLAN_GROUP6": (b"\xfe\x80" + bytes(13) + b"\2", b"\xff\2" + bytes(14), bytes(16)),
    "IFLA_VXLAN_LOCAL6": (b"\xfe\x80" + bytes(13) + b"\2", b"\x20\1" + bytes(14)),
    "IFLA_VXLAN_LINK": tuple(n.to_bytes(4, "little") for n in (0, 1, 2, 3, 4, 7, 99)),
    "IFLA_VXLAN_LABEL": (b"\0\0\0\5", bytes(4)),
}
TELL = "ip -d -j link show; bridge fdb show | grep -v '33:33\\|01:00:5e\\|permanent' | sort"
OTHER = {"bridge_id", "root_id", "gc_timer", "ageing_time"}
OTHER |= {
    f"mcast_{one}_intvl" for one in ("last_member", "membership", "querier", "query_response")
}
OTHER |= {"mcast_query_intvl", "mcast_startup_query_intvl"}
"""Random, or in ticks of the kernel."""


def links(text: str) -> tuple[dict[str, object], str]:
    """What `ip` tells of each device, and the rest."""
    told, _, rest = text.partition("\n")
    found = {
        one["ifname"]: (one["mtu"], one.get("link"), one.get("linkinfo"))
        for one in json.loads(told)
    }
    return found, rest


def same(ours: object, theirs: object) -> bool:
    """All that we tell is what the kernel tells; it may tell more."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return all(same(ours[one], theirs.get(one)) for one in set(ours) - OTHER)
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        return all(map(same, ours, theirs))
    return ours == theirs


def changes(random: Random, kind: str, name: str) -> Request:
    """`ip link set NAME type KIND ...`, of some attributes."""
    row, data = KINDS[kind], b""
    rows = [one for one in row.policy.by_number.values() if not one.told]
    for one in random.sample(rows, random.choice((1, 1, 1, 2, 3))):
        values = VXLAN_VALUES.get(one.name)
        if values and random.random() < 0.8:
            payload = random.choice(values)
        elif one.type.size:
            number = random.choice((0, 1, 2, 3, 4, 7, 100, 2000, 0xFFFFFFFF))
            number &= (1 << 8 * min(one.type.size, 4)) - 1
            payload = number.to_bytes(one.type.size, "little")
        else:
            payload = bytes(random.choice((0, 1, 4, 6, 8)))
        data += attr(one.number, payload)
    tail = attr(IFLA_IFNAME, name.encode() + b"\0")
    tail += some(random, tuple(n.to_bytes(4, "little") for n in (68, 1300, 1400)), IFLA_MTU, 0.05)
    info = attr(IFLA_INFO_KIND, kind.encode() + b"\0") + attr(IFLA_INFO_DATA, data)
    body = IFINFOMSG.pack(0, 0, 0, 0, 0) + tail + attr(IFLA_LINKINFO, info)
    return Request(f"{name} {kind} {data.hex()} {tail.hex()}", LINK, REQUEST | ACK, body)


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("seed", range(examples(4)))
def test_changes_of_devices_are_taken_and_refused_as_by_the_kernel(
    kernel: KernelNet, seed: int, kind: str
) -> None:
    require.tool("bridge", "iproute2")
    random, made = Random(f"{kind} {seed}"), DEVICES[kind]
    names = [word for line in made.split("link add ")[1:] for word in line.split()[:1]]
    kernel.run(f"ip link set v0 up; {made}")
    theirs = Asker(kernel.call(stdlib.socket, stdlib.AF_NETLINK, stdlib.SOCK_RAW, 0))
    different = []
    with real_host() as host:
        host.add_veth("v0", "v1")
        run_script(host, f"ip link set v0 up; {made}")
        ours = Asker(host.socket(stdlib.AF_NETLINK, stdlib.SOCK_RAW, 0))
        for _ in range(200):
            request = changes(random, kind, random.choice(names))
            want, got = theirs.refused(request), ours.refused(request)
            if want[0] != got[0] or (want[1] and want[1] != got[1]):
                different.append(f"{request.name}: kernel {want}, here {got}")
                break
        assert different == []
        told, want_told = links(run_script(host, TELL)), links(kernel.run(TELL))
        assert same(told, want_told), (told, want_told)
        assert set(told[0]) == set(want_told[0])
        ours.sock.close()
    theirs.sock.close()
