"""Probes of MRT_* and MRT6_*: what each does to a packet to a group that comes to a router."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from stack.core import uapi as u
from stack.core.bsd_socket import sys_getsockopt, sys_recvfrom, sys_setsockopt, sys_socket
from tests.stack.ipv6.net import ME as ME6
from tests.stack.ipv6.net import OUT as OUT6
from tests.stack.ipv6.net import PEER as PEER6
from tests.stack.ipv6.net import Net6, one_host6
from tests.stack.knobs.rig import PEER, Rig

Probe = Callable[[Any], Any]
FORWARDING = "net.ipv6.conf.all.forwarding"
GROUP, GROUP6 = "239.1.1.1", "ff1e::1"


def vif(number: int, index: int) -> bytes:
    """struct vifctl"""
    return struct.pack("=HBBIi4s", number, 8, 1, 0, index, bytes(4))


def mfc(src: str, group: str, iif: int, *out: int) -> bytes:
    """struct mfcctl: by the interfaces `out`."""
    ttls = bytes(n in out for n in range(32))
    addrs = socket.inet_aton(src) + socket.inet_aton(group)
    return struct.pack("=8sH32s2xIIIi", addrs, iif, ttls, 0, 0, 0, 0)


def mif(number: int, index: int) -> bytes:
    """struct mif6ctl"""
    return struct.pack("=HBBH2xI", number, 0, 1, index, 0)


def mf6c(src: str, group: str, iif: int, *out: int) -> bytes:
    """struct mf6cctl"""
    addrs = [
        struct.pack("=HHI16sI", u.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, addr), 0)
        for addr in (src, group)
    ]
    ways = sum(1 << n for n in out).to_bytes(32, "little")
    return b"".join(addrs) + struct.pack("=H2x32s", iif, ways)


class Family(NamedTuple):
    """How a family's probes are made."""

    family: int
    protocol: int
    level: int
    prefix: str
    vif: str
    table: int
    make: Callable[[], Any]
    packet: Any
    is_packet: Callable[[bytes], bool]
    is_message: Callable[[bytes], bool]
    route: Callable[..., bytes]
    interface: Callable[[int, int], bytes]
    removed: bytes
    """What MRT_DEL_VIF takes, for interface 1."""
    src: str
    group: str
    any: str


def router6() -> Net6:
    """Two wires, forwarding."""
    return one_host6(addrs=(f"{ME6}/64", f"{OUT6}/64"), sysctl={FORWARDING: 1})


FAMILIES = (
    Family(
        *(u.AF_INET, u.IPPROTO_IGMP, u.SOL_IP, "MRT", "VIF", 253),
        lambda: Rig({}, False).router(),
        IP(src=PEER, dst=GROUP, ttl=9, proto=46) / Raw(bytes(20)),
        lambda f: f[12:14] == b"\x08\0" and f[23] == 46,
        lambda data: data[9] == 0,
        *(mfc, vif, vif(1, 3), PEER, GROUP, "0.0.0.0"),
    ),
    Family(
        *(u.AF_INET6, u.IPPROTO_ICMPV6, u.SOL_IPV6, "MRT6", "MIF", 254),
        router6,
        IPv6(src=PEER6, dst=GROUP6, hlim=9, nh=46) / Raw(bytes(20)),
        lambda f: f[12:14] == b"\x86\xdd" and f[20] == 46,
        lambda data: data[0] == 0,
        *(mf6c, mif, struct.pack("=H", 1), PEER6, GROUP6, "::"),
    ),
)


class Probes:
    """The probes of a family: what each option does to a packet to a group that comes to a router
    of two wires."""

    def __init__(self, of: Family) -> None:
        self.of = of

    def number(self, name: str) -> int:
        """An option's number."""
        return int(getattr(u, f"{self.of.prefix}_{name.replace('VIF', self.of.vif)}"))

    def routed(self, name: str, *steps: tuple[str, Any]) -> Probe:
        """A probe: the steps, where `name` without a value is the option that is tried.

        What leaves by the other wire, and how many messages the daemon gets.
        """

        def probe(value: Any) -> tuple[int, int]:
            of, net = self.of, self.of.make()
            fd = sys_socket(net.host, of.family, u.SOCK_RAW, of.protocol)
            for option, step in steps:
                given = value if option == name and step is None else step
                if given is not None:
                    sys_setsockopt(net.host, fd, of.level, self.number(option), given)
            net.frames(), net.frames(wire=1)
            net.inject(of.packet)
            out = [f for f in net.frames(wire=1) if of.is_packet(f)]
            heard = 0
            with contextlib.suppress(OSError):
                while True:
                    room = bytearray(99)
                    sys_recvfrom(net.host, fd, room, u.MSG_DONTWAIT)
                    heard += of.is_message(bytes(room))
            return len(out), heard

        return probe

    def last(self, name: str, *steps: tuple[str, Any]) -> Probe:
        """A probe of what follows the steps."""
        return self.routed(name, *steps, (name, None))

    def table(self, value: int) -> str:
        """There is only one."""
        net = self.of.make()
        fd = sys_socket(net.host, self.of.family, u.SOCK_RAW, self.of.protocol)
        try:
            sys_setsockopt(net.host, fd, self.of.level, self.number("TABLE"), value)
        except OSError as exc:
            return errno.errorcode[exc.errno or 0]
        return ""

    def version(self, value: None) -> int:
        """The version of DVMRP's interface."""
        net = self.of.make()
        fd = sys_socket(net.host, self.of.family, u.SOCK_RAW, self.of.protocol)
        return int(sys_getsockopt(net.host, fd, self.of.level, self.number("VERSION")))

    def all(self) -> dict[str, tuple[Probe, dict[Any, Any]]]:
        """By the options' names: the probe, and what it sees by value."""
        of, last = self.of, self.last
        first, second = of.interface(0, 2), of.interface(1, 3)
        route = of.route(of.src, of.group, 0, 1)
        every = of.route(of.any, of.any, 1, 0, 1)
        wrong, unused = of.route(of.src, of.group, 1, 0), of.route(of.src, of.group, 1)
        init, add0, add1, add = (
            *(("INIT", 1), ("ADD_VIF", first), ("ADD_VIF", second), ("ADD_MFC", route)),
        )
        whole = (init, add0, add1, add)
        proxy = ("ADD_MFC_PROXY", every)
        found: dict[str, tuple[Probe, dict[Any, Any]]] = {
            "INIT": (
                self.routed("INIT", ("INIT", None), add0, add1, add),
                {None: (0, 0), 1: (1, 0)},
            ),
            "DONE": (last("DONE", *whole), {None: (1, 0), 1: (0, 0)}),
            "ADD_VIF": (
                self.routed("ADD_VIF", init, add0, ("ADD_VIF", None), add),
                {None: (0, 0), second: (1, 0)},
            ),
            "DEL_VIF": (last("DEL_VIF", *whole), {None: (1, 0), of.removed: (0, 0)}),
            "ADD_MFC": (last("ADD_MFC", init, add0, add1), {None: (0, 1), route: (1, 0)}),
            "DEL_MFC": (last("DEL_MFC", *whole), {None: (1, 0), route: (0, 1)}),
            "ADD_MFC_PROXY": (
                last("ADD_MFC_PROXY", init, add0, add1),
                {None: (0, 1), every: (1, 0)},
            ),
            "DEL_MFC_PROXY": (
                last("DEL_MFC_PROXY", init, add0, add1, proxy),
                {None: (1, 0), every: (0, 1)},
            ),
            "FLUSH": (last("FLUSH", *whole), {None: (1, 0), 1: (0, 1)}),
            "ASSERT": (
                last("ASSERT", init, add0, add1, ("ADD_MFC", wrong)),
                {None: (0, 0), 1: (0, 1)},
            ),
            "PIM": (
                last("PIM", init, add0, add1, ("ADD_MFC", unused)),
                {None: (0, 0), 1: (0, 1)},
            ),
            "TABLE": (self.table, {of.table: "", 99: "EINVAL"}),
            "VERSION": (self.version, {None: 0x0305}),
        }
        return {f"{of.prefix}_{k.replace('VIF', of.vif)}": v for k, v in found.items()}


MROUTE_PROBES: dict[str, tuple[Probe, dict[Any, Any]]] = {
    name: probe for of in FAMILIES for name, probe in Probes(of).all().items()
}
