"""Probes of MRT_*: what each does to a packet to a group that comes to a router of two wires."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable
from typing import Any

from scapy.layers.inet import IP
from scapy.packet import Raw

from stack.core import uapi as u
from stack.core.bsd_socket import sys_getsockopt, sys_recvfrom, sys_setsockopt, sys_socket
from tests.stack.knobs.rig import PEER, Rig

GROUP, OTHER = "239.1.1.1", "239.1.1.2"


def vif(number: int, index: int) -> bytes:
    """struct vifctl"""
    return struct.pack("=HBBIi4s", number, 8, 1, 0, index, bytes(4))


def mfc(src: str, group: str, iif: int, *out: int) -> bytes:
    """struct mfcctl: by the interfaces `out`."""
    ttls = bytes(n in out for n in range(32))
    addrs = socket.inet_aton(src) + socket.inet_aton(group)
    return struct.pack("=8sH32s2xIIIi", addrs, iif, ttls, 0, 0, 0, 0)


VIF0, VIF1 = vif(0, 2), vif(1, 3)
ROUTE, ANY = mfc(PEER, GROUP, 0, 1), mfc("0.0.0.0", "0.0.0.0", 1, 0, 1)
WRONG, UNUSED = mfc(PEER, GROUP, 1, 0), mfc(PEER, GROUP, 1)
SETUP = (
    (u.MRT_INIT, 1),
    (u.MRT_ADD_VIF, VIF0),
    (u.MRT_ADD_VIF, VIF1),
    (u.MRT_ADD_MFC, ROUTE),
)


def routed(number: int, *steps: tuple[int, Any]) -> Callable[[Any], tuple[int, int]]:
    """A probe: the steps, where `number` without a value is the option that is tried.

    What leaves by the other wire, and how many messages the daemon gets.
    """

    def probe(value: Any) -> tuple[int, int]:
        net = Rig({}, False).router()
        fd = sys_socket(net.host, u.AF_INET, u.SOCK_RAW, u.IPPROTO_IGMP)
        for option, given in steps:
            if option == number and given is None:
                given = value
            if given is not None:
                sys_setsockopt(net.host, fd, u.SOL_IP, option, given)
        net.frames(), net.frames(wire=1)
        net.inject(IP(src=PEER, dst=GROUP, ttl=9, proto=46) / Raw(bytes(20)))
        out = [f for f in net.frames(wire=1) if f[12:14] == b"\x08\0" and f[23] == 46]
        heard = 0
        with contextlib.suppress(OSError):
            while True:
                room = bytearray(99)
                sys_recvfrom(net.host, fd, room, u.MSG_DONTWAIT)
                heard += room[9] == 0
        return len(out), heard

    return probe


def mrt_table(value: int) -> str:
    """The only table is 253."""
    net = Rig({}, False).router()
    fd = sys_socket(net.host, u.AF_INET, u.SOCK_RAW, u.IPPROTO_IGMP)
    try:
        sys_setsockopt(net.host, fd, u.SOL_IP, u.MRT_TABLE, value)
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    return ""


def mrt_version(value: None) -> int:
    """The version of DVMRP's interface."""
    net = Rig({}, False).router()
    fd = sys_socket(net.host, u.AF_INET, u.SOCK_RAW, u.IPPROTO_IGMP)
    return int(sys_getsockopt(net.host, fd, u.SOL_IP, u.MRT_VERSION))


def last(number: int, *steps: tuple[int, Any]) -> Callable[[Any], tuple[int, int]]:
    """A probe of what follows the steps."""
    return routed(number, *steps, (number, None))


INIT, ADD0, ADD1, MFC = SETUP
MROUTE_PROBES: dict[str, tuple[Callable[[Any], Any], dict[Any, Any]]] = {
    "MRT_INIT": (
        routed(u.MRT_INIT, (u.MRT_INIT, None), ADD0, ADD1, MFC),
        {None: (0, 0), 1: (1, 0)},
    ),
    "MRT_DONE": (last(u.MRT_DONE, *SETUP), {None: (1, 0), 1: (0, 0)}),
    "MRT_ADD_VIF": (
        routed(u.MRT_ADD_VIF, INIT, ADD0, (u.MRT_ADD_VIF, None), MFC),
        {None: (0, 0), VIF1: (1, 0)},
    ),
    "MRT_DEL_VIF": (last(u.MRT_DEL_VIF, *SETUP), {None: (1, 0), VIF1: (0, 0)}),
    "MRT_ADD_MFC": (last(u.MRT_ADD_MFC, INIT, ADD0, ADD1), {None: (0, 1), ROUTE: (1, 0)}),
    "MRT_DEL_MFC": (last(u.MRT_DEL_MFC, *SETUP), {None: (1, 0), ROUTE: (0, 1)}),
    "MRT_ADD_MFC_PROXY": (
        last(u.MRT_ADD_MFC_PROXY, INIT, ADD0, ADD1),
        {None: (0, 1), ANY: (1, 0)},
    ),
    "MRT_DEL_MFC_PROXY": (
        last(u.MRT_DEL_MFC_PROXY, INIT, ADD0, ADD1, (u.MRT_ADD_MFC_PROXY, ANY)),
        {None: (1, 0), ANY: (0, 1)},
    ),
    "MRT_FLUSH": (last(u.MRT_FLUSH, *SETUP), {None: (1, 0), 1: (0, 1)}),
    "MRT_ASSERT": (
        last(u.MRT_ASSERT, INIT, ADD0, ADD1, (u.MRT_ADD_MFC, WRONG)),
        {None: (0, 0), 1: (0, 1)},
    ),
    "MRT_PIM": (
        last(u.MRT_PIM, INIT, ADD0, ADD1, (u.MRT_ADD_MFC, UNUSED)),
        {None: (0, 0), 1: (0, 1)},
    ),
    "MRT_TABLE": (mrt_table, {253: "", 99: "EINVAL"}),
    "MRT_VERSION": (mrt_version, {None: 0x0305}),
}
