"""Rows of sockopts.py for options that the table of calls (tests/linux/calls) asked for."""

from __future__ import annotations

import struct
from typing import Any

from scapy.layers.inet import ICMP, IP
from scapy.packet import Raw

from stack.core import uapi as u
from stack.core.bsd_socket import (
    sys_connect,
    sys_getsockopt,
    sys_poll_one,
    sys_recvfrom,
    sys_recvmsg,
    sys_sendmsg,
    sys_setsockopt,
    sys_socket,
)
from stack.core.iov import msghdr
from tests.stack.ipv4.net import ME, PEER, Net, at, ip4, one_host
from tests.stack.knobs.core_and_ip import GROUP
from tests.stack.knobs.rig import S, datagram, err, makes_a_probe, send, udp, udp_host
from tests.stack.knobs.sockopts import JOIN, NO, SOL, Probe, control, member, option

TIMEVAL_1S = struct.pack("=qq", 1, 0)
ETH0 = 2


def storage(addr: str) -> bytes:
    """A struct sockaddr_storage."""
    return (struct.pack("=HH", u.AF_INET, 0) + ip4(addr).to_bytes(4, "big")).ljust(128, b"\0")


GROUP_REQ = struct.pack("=q", ETH0) + storage(GROUP)
FROM_PEER = GROUP_REQ + storage(PEER)


def group_filter(mode: int, *sources: str) -> bytes:
    """A struct group_filter."""
    return GROUP_REQ + struct.pack("=II", mode, len(sources)) + b"".join(map(storage, sources))


def msfilter(mode: int, *sources: str) -> bytes:
    """A struct ip_msfilter."""
    addrs = b"".join(ip4(a).to_bytes(4, "big") for a in (GROUP, ME))
    return (
        addrs
        + struct.pack("=II", mode, len(sources))
        + b"".join(ip4(a).to_bytes(4, "big") for a in sources)
    )


def after(name: int, value: bytes, *before: tuple[int, bytes]) -> Probe:
    """Datagrams of PEER to the group, without and with the option."""
    return lambda on: member(*before, *([(name, value)] if on else []))


INCLUDE, EXCLUDE = 1, 0
OF_GROUP = (u.MCAST_JOIN_GROUP, GROUP_REQ)
OF_SOURCE = (u.MCAST_JOIN_SOURCE_GROUP, FROM_PEER)


def receive_timeout(value: Any) -> str:
    net, fd = udp_host()
    option(net, fd, SOL, u.SO_RCVTIMEO_NEW, value)
    net.clock.call_at(net.clock.now_ns() + 2 * S, lambda: net.inject(datagram()))
    return err(sys_recvfrom, net.host, fd, bytearray(99), 0)


def send_timeout(value: Any) -> bytes:
    """What the old number reads then."""
    net, fd = udp_host()
    option(net, fd, SOL, u.SO_SNDTIMEO_NEW, value)
    data: bytes = sys_getsockopt(net.host, fd, SOL, u.SO_SNDTIMEO)
    return data


def buf_lock(value: Any) -> int:
    net, fd = udp_host()
    option(net, fd, SOL, u.SO_BUF_LOCK, value)
    sys_setsockopt(net.host, fd, SOL, u.SO_RCVBUF, 5000)
    return int(sys_getsockopt(net.host, fd, SOL, u.SO_BUF_LOCK))


def peername(connected: bool) -> Any:
    net, fd = udp_host()
    if connected:
        sys_connect(net.host, fd, at(PEER, 9))
    return err(sys_getsockopt, net.host, fd, SOL, u.SO_PEERNAME) or sys_getsockopt(
        net.host, fd, SOL, u.SO_PEERNAME
    )


def protocol_of(kind: tuple[int, int]) -> int:
    net = one_host()
    fd = sys_socket(net.host, u.AF_INET, *kind)
    return int(sys_getsockopt(net.host, fd, u.SOL_IP, u.IP_PROTOCOL))


def pktoptions(asked: Any) -> list[int]:
    net = one_host()
    fd = sys_socket(net.host, u.AF_INET, u.SOCK_STREAM)
    if asked:
        sys_setsockopt(net.host, fd, u.SOL_IP, asked, 1)
    data = sys_getsockopt(net.host, fd, u.SOL_IP, u.IP_PKTOPTIONS)
    return [struct.unpack_from("=i", data, 12)[0]] if data else []


def extensions(_: Any) -> int:
    net: Net = one_host()
    return int(sys_getsockopt(net.host, udp(net), SOL, u.SO_BPF_EXTENSIONS))


@makes_a_probe
def stamping(flags: int | None, name: int) -> list[tuple[int, int]]:
    """What the error queue has after a datagram was sent."""
    net: Net = one_host()
    fd = udp(net)
    option(net, fd, SOL, name, flags)
    send(net.host, fd, PEER)
    if not sys_poll_one(net.host, fd) & u.POLLERR:
        return []
    msg = msghdr(None, [bytearray(2000)], [])
    sys_recvmsg(net.host, fd, msg, u.MSG_ERRQUEUE)
    return [(level, kind) for level, kind, _ in msg.msg_control or ()]


def recverr_rfc4884(value: int | None) -> int:
    """Where an error's extensions begin, in the data that it brings back."""
    net, fd = udp_host()
    option(net, fd, u.SOL_IP, u.IP_RECVERR, 1)
    option(net, fd, u.SOL_IP, u.IP_RECVERR_RFC4884, value)
    send(net.host, fd, PEER, 200)
    quoted = bytes(net.ip_sent()[0])[:128] + bytes.fromhex("2000000000080101000101ff")
    net.inject(IP(src=PEER, dst=ME, proto=1) / ICMP(type=3, code=1, length=32) / Raw(quoted))
    msg = msghdr(None, [bytearray(2000)], [])
    sys_recvmsg(net.host, fd, msg, u.MSG_ERRQUEUE)
    return int(struct.unpack_from("=12xH", (msg.msg_control or [])[0][2])[0])


def txtime(value: bytes | None) -> str:
    """Whether a datagram may say when to leave."""
    net: Net = one_host()
    fd = udp(net)
    option(net, fd, SOL, u.SO_TXTIME, value)
    message = [(SOL, u.SCM_TXTIME, bytes(8))]
    return err(sys_sendmsg, net.host, fd, msghdr(at(PEER, 9), [bytes(10)], message), 0)


TOLD = u.SOF_TIMESTAMPING_TX_SCHED | u.SOF_TIMESTAMPING_SOFTWARE
STAMPED = (u.SOL_IP, u.IP_RECVERR)

FOUND: dict[str, tuple[Probe, dict[Any, Any]]] = {
    "SO_BPF_EXTENSIONS": (extensions, {None: 64}),
    "SO_BUF_LOCK": (buf_lock, {None: 2, 1: 3}),
    "SO_PEERNAME": (
        peername,
        {False: "ENOTCONN", True: struct.pack("=H", 2) + b"\0\x09" + storage(PEER)[4:16]},
    ),
    "SO_RCVTIMEO_NEW": (receive_timeout, {None: "", TIMEVAL_1S: "EAGAIN"}),
    "SO_SNDTIMEO_NEW": (send_timeout, {None: bytes(16), TIMEVAL_1S: TIMEVAL_1S}),
    "SO_TIMESTAMPING": (
        stamping(u.SO_TIMESTAMPING),
        {None: [], TOLD: [(SOL, u.SCM_TIMESTAMPING), STAMPED]},
    ),
    "SO_TIMESTAMPING_NEW": (
        stamping(u.SO_TIMESTAMPING_NEW),
        {None: [], TOLD: [(SOL, u.SO_TIMESTAMPING_NEW), STAMPED]},
    ),
    "SO_TIMESTAMPNS_NEW": (
        control(SOL, u.SO_TIMESTAMPNS_NEW),
        {None: NO, 1: [(SOL, u.SO_TIMESTAMPNS_NEW)]},
    ),
    "SO_TIMESTAMP_NEW": (
        control(SOL, u.SO_TIMESTAMP_NEW),
        {None: NO, 1: [(SOL, u.SO_TIMESTAMP_NEW)]},
    ),
    "SO_TXTIME": (txtime, {None: "EINVAL", struct.pack("=iI", u.CLOCK_MONOTONIC, 0): ""}),
    "IP_RECVERR_RFC4884": (recverr_rfc4884, {None: 0, 1: 100}),
    "IP_MSFILTER": (
        after(u.IP_MSFILTER, msfilter(EXCLUDE, PEER), JOIN),
        {False: 1, True: 0},
    ),
    "IP_PKTOPTIONS": (pktoptions, {None: [], u.IP_RECVTTL: [u.IP_TTL]}),
    "IP_PROTOCOL": (protocol_of, {(u.SOCK_RAW, 200): 200, (u.SOCK_DGRAM, 0): 0}),
    "MCAST_BLOCK_SOURCE (IPv4)": (
        after(u.MCAST_BLOCK_SOURCE, FROM_PEER, OF_GROUP),
        {False: 1, True: 0},
    ),
    "MCAST_JOIN_GROUP (IPv4)": (after(u.MCAST_JOIN_GROUP, GROUP_REQ), {False: 0, True: 1}),
    "MCAST_JOIN_SOURCE_GROUP (IPv4)": (
        after(u.MCAST_JOIN_SOURCE_GROUP, FROM_PEER),
        {False: 0, True: 1},
    ),
    "MCAST_LEAVE_GROUP (IPv4)": (
        after(u.MCAST_LEAVE_GROUP, GROUP_REQ, OF_GROUP),
        {False: 1, True: 0},
    ),
    "MCAST_LEAVE_SOURCE_GROUP (IPv4)": (
        after(u.MCAST_LEAVE_SOURCE_GROUP, FROM_PEER, OF_SOURCE),
        {False: 1, True: 0},
    ),
    "MCAST_MSFILTER (IPv4)": (
        after(u.MCAST_MSFILTER, group_filter(INCLUDE, "10.0.0.77"), OF_GROUP),
        {False: 1, True: 0},
    ),
    "MCAST_UNBLOCK_SOURCE (IPv4)": (
        after(u.MCAST_UNBLOCK_SOURCE, FROM_PEER, OF_GROUP, (u.MCAST_BLOCK_SOURCE, FROM_PEER)),
        {False: 0, True: 1},
    ),
}
