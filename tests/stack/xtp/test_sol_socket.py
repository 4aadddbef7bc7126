"""Options of SOL_SOCKET on sockets of XTP: each has its effect, or is refused."""

from __future__ import annotations

import errno
import socket as stdlib
import struct
from typing import Any

import pytest

from stack.api.sockopts import SOCKET_OPTIONS
from stack.core import uapi
from stack.core.netfilter import NF_ACCEPT, NF_INET_LOCAL_OUT, nf_register_net_hook
from stack.core.uapi import POLLERR, POLLIN, POLLPRI
from stack.host import Host
from stack.socket import Socket
from stack.xtp.packet import XTP_HLEN, XTP_SERVICE_ACKED_DATAGRAM, XTP_SERVICE_STREAM
from stack.xtp.sockopt import SOL_XTP, XTP_SERVICE
from tests.stack.xtp.test_sockets import SERVER, connected, dgram, info, stream
from tests.support import errno_of

SOL = uapi.SOL_SOCKET
Hosts = tuple[Host, Host]
NOTHING = ((6, 0, 0, 0),)
FIRST_HEAD = XTP_HLEN + 40
SHORT = ((6, 0, 0, FIRST_HEAD + 2),)
STAMPS = {
    uapi.SO_TIMESTAMP: uapi.SCM_TIMESTAMP,
    uapi.SO_TIMESTAMPNS: uapi.SCM_TIMESTAMPNS,
    uapi.SO_TIMESTAMP_NEW: uapi.SO_TIMESTAMP_NEW,
    uapi.SO_TIMESTAMPNS_NEW: uapi.SO_TIMESTAMPNS_NEW,
    uapi.SO_TIMESTAMPING: uapi.SCM_TIMESTAMPING,
    uapi.SO_TIMESTAMPING_NEW: uapi.SO_TIMESTAMPING_NEW,
}
IN_US = (uapi.SO_TIMESTAMP, uapi.SO_TIMESTAMP_NEW)
RECEIVED = uapi.SOF_TIMESTAMPING_RX_SOFTWARE | uapi.SOF_TIMESTAMPING_SOFTWARE
SEC = 1_000_000_000

BOTH = [
    "SO_ATTACH_FILTER",
    "SO_DETACH_FILTER",
    "SO_LOCK_FILTER",
    "SO_BINDTODEVICE",
    "SO_BINDTOIFINDEX",
    "SO_DONTROUTE",
    "SO_MARK",
    "SO_PRIORITY",
    "SO_RCVBUF",
    "SO_RCVBUFFORCE",
    "SO_RCVTIMEO",
    "SO_RCVTIMEO_NEW",
    "SO_REUSEADDR",
    "SO_REUSEPORT",
    "SO_SELECT_ERR_QUEUE",
    "SO_SNDBUF",
    "SO_SNDBUFFORCE",
    "SO_SNDTIMEO",
    "SO_SNDTIMEO_NEW",
    "SO_TIMESTAMP",
    "SO_TIMESTAMPING",
    "SO_TIMESTAMPING_NEW",
    "SO_TIMESTAMPNS",
    "SO_TIMESTAMPNS_NEW",
    "SO_TIMESTAMP_NEW",
]
EFFECTS = {
    stdlib.SOCK_STREAM: {*BOTH, "SO_LINGER", "SO_RCVLOWAT"},
    stdlib.SOCK_DGRAM: {*BOTH, "SO_RXQ_OVFL"},
}
"""What is accepted, and shown to work below or in test_sockets.py (timeouts, linger, ports)."""


def datagrams(a: Host, b: Host, service: int = 1) -> tuple[Socket, Socket]:
    sender, receiver = dgram(a), dgram(b)
    sender.setsockopt(SOL_XTP, XTP_SERVICE, service)
    receiver.bind(SERVER)
    receiver.settimeout(1)
    return sender, receiver


@pytest.mark.parametrize("kind", [stdlib.SOCK_STREAM, stdlib.SOCK_DGRAM])
def test_an_option_without_effect_is_refused(hosts: Hosts, kind: int) -> None:
    accepted = set()
    for option in SOCKET_OPTIONS:
        for value in (NOTHING,) if "ATTACH_F" in option.name else (1, bytes(16), b"lo\0"):
            sock = hosts[0].socket(stdlib.AF_INET, kind, uapi.IPPROTO_XTP)
            err = errno_of(sock.setsockopt, SOL, option.number, value)
            sock.close()
            if err in (0, errno.ENOENT):  # there is no filter to detach
                accepted.add(option.name)
            if option.name not in EFFECTS[kind]:
                assert err in (errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)
    assert accepted == EFFECTS[kind]


def test_a_filter_cuts_and_drops_datagrams(hosts: Hosts) -> None:
    sender, receiver = datagrams(*hosts, XTP_SERVICE_ACKED_DATAGRAM)
    receiver.setsockopt(SOL, uapi.SO_ATTACH_FILTER, SHORT)
    assert sender.sendto(b"abcdef", SERVER) == 6
    assert receiver.recv(100) == b"ab"
    receiver.setsockopt(SOL, uapi.SO_ATTACH_FILTER, NOTHING)
    sender.settimeout(2)
    assert errno_of(sender.sendto, b"abcdef", SERVER) == errno.ETIMEDOUT
    assert errno_of(receiver.recv, 100) != 0
    receiver.setsockopt(SOL, uapi.SO_DETACH_FILTER, 0)
    sender.sendto(b"abcdef", SERVER)
    assert receiver.recv(100) == b"abcdef"
    receiver.setsockopt(SOL, uapi.SO_ATTACH_FILTER, SHORT)
    receiver.setsockopt(SOL, uapi.SO_LOCK_FILTER, 1)
    assert errno_of(receiver.setsockopt, SOL, uapi.SO_DETACH_FILTER, 0) == errno.EPERM


def test_a_filter_drops_a_streams_packets(hosts: Hosts) -> None:
    client, server, _ = connected(*hosts)
    server.setsockopt(SOL, uapi.SO_ATTACH_FILTER, NOTHING)
    server.settimeout(5)
    client.send(b"lost")
    assert errno_of(server.recv, 100) != 0
    server.setsockopt(SOL, uapi.SO_ATTACH_FILTER, ((6, 0, 0, 40),))  # a stream's are taken whole
    assert server.recv(100) == b"lost"


def test_a_listeners_filter_drops_who_connects(a: Host, b: Host) -> None:
    listener = stream(b)
    listener.setsockopt(SOL, uapi.SO_ATTACH_FILTER, NOTHING)
    listener.bind(SERVER)
    listener.listen()
    client = stream(a)
    client.settimeout(5)
    assert errno_of(client.connect, SERVER) != 0
    assert b.xtp.mib.PassiveOpens == b.xtp.mib.OutDiags == 0
    listener.setsockopt(SOL, uapi.SO_DETACH_FILTER, 0)
    client.settimeout(10)
    assert errno_of(client.connect, SERVER) in (0, errno.EALREADY)
    listener.settimeout(10)
    assert listener.accept()


@pytest.mark.parametrize("option", STAMPS)
@pytest.mark.parametrize("kind", ["stream", "datagram"])
def test_the_time_of_arrival(a: Host, b: Host, kind: str, option: int) -> None:
    if kind == "stream":
        client, server, _ = connected(a, b)
    else:
        client, server = datagrams(a, b)
        client.connect(SERVER)
    client.send(b"unasked")
    assert server.recvmsg(100, 100)[1] == []
    server.setsockopt(SOL, option, RECEIVED)
    client.send(b"x")
    a.clock.run_for(SEC)
    came = b.machine.realtime_ns() - SEC
    a.clock.run_for(2 * SEC)
    _, [(level, number, data)], _, _ = server.recvmsg(100, 100)
    sec, fraction = struct.unpack_from("=qq", data)
    unit = 1000 if option in IN_US else 1
    assert (level, number) == (SOL, STAMPS[option])
    assert 0 <= sec * SEC + fraction * unit - came + 1000 < SEC // 100


def test_the_destination_of_a_datagram(hosts: Hosts) -> None:
    sender, receiver = datagrams(*hosts)
    receiver.setsockopt(stdlib.IPPROTO_IP, uapi.IP_ORIGDSTADDR, 1)
    sender.sendto(b"x", SERVER)
    _, [(_, kind, data)], _, _ = receiver.recvmsg(100, 100)
    assert kind == uapi.IP_ORIGDSTADDR
    assert struct.unpack_from("!H4s", data, 2) == (SERVER[1], stdlib.inet_aton(SERVER[0]))


def test_lost_datagrams_are_told(hosts: Hosts) -> None:
    sender, receiver = datagrams(*hosts)
    receiver.setsockopt(SOL, uapi.SO_RCVBUF, 2304)
    receiver.setsockopt(SOL, uapi.SO_RXQ_OVFL, 1)
    for _ in range(20):
        sender.sendto(bytes(1000), SERVER)
    hosts[0].clock.run_for(SEC)
    _, [(_, number, data)], _, _ = receiver.recvmsg(2000, 100)
    assert (number, int.from_bytes(data, "little")) == (uapi.SO_RXQ_OVFL, receiver.sk.sk_drops)
    assert receiver.sk.sk_drops > 10


def test_so_rcvlowat_delays_poll(hosts: Hosts) -> None:
    client, server, _ = connected(*hosts)
    server.setsockopt(SOL, uapi.SO_RCVLOWAT, 10)
    client.send(b"five5")
    hosts[0].clock.run_for(SEC)
    assert not server.poll() & POLLIN
    client.send(b"five5")
    hosts[0].clock.run_for(SEC)
    assert server.poll() & POLLIN
    server.recv(10)
    client.send(b"end", uapi.MSG_EOR)  # the message will not grow
    hosts[0].clock.run_for(SEC)
    assert server.poll() & POLLIN


def test_so_rcvbuf_changes_a_streams_window(hosts: Hosts) -> None:
    client, server, _ = connected(*hosts)
    server.setsockopt(SOL, uapi.SO_RCVBUFFORCE, 4 << 20)
    client.send(b"x")
    server.recv(1)
    hosts[0].clock.run_for(SEC)
    client.send(b"x")
    hosts[0].clock.run_for(SEC)
    assert info(client)["alloc"] > 7 << 20


@pytest.mark.parametrize("service", [1, XTP_SERVICE_STREAM])
def test_mark_and_priority_are_on_every_packet(a: Host, service: int) -> None:
    seen = []

    def hook(skb: Any, state: Any) -> int:
        seen.append((skb.mark, skb.priority))
        return NF_ACCEPT

    nf_register_net_hook(a, NF_INET_LOCAL_OUT, hook)
    sock = stream(a) if service == XTP_SERVICE_STREAM else dgram(a)
    sock.setsockopt(SOL, uapi.SO_MARK, 77)
    sock.setsockopt(SOL, uapi.SO_PRIORITY, 5)
    if service == XTP_SERVICE_STREAM:
        errno_of(sock.connect, SERVER)
    else:
        sock.sendto(b"x", SERVER)
    assert set(seen) == {(77, 5)}


def test_so_dontroute_keeps_to_the_link(a: Host) -> None:
    a.route_add("default", via="10.0.0.2")
    for make in (stream, dgram):
        sock = make(a)
        sock.setsockopt(SOL, uapi.SO_DONTROUTE, 1)
        assert errno_of(sock.connect, ("192.0.2.1", 7)) == errno.ENETUNREACH
    sock = dgram(a)
    sock.sendto(b"x", ("192.0.2.1", 7))
    sock.setsockopt(SOL, uapi.SO_DONTROUTE, 1)
    assert errno_of(sock.sendto, b"x", ("192.0.2.1", 7)) == errno.ENETUNREACH


def test_so_bindtodevice(hosts: Hosts) -> None:
    sender, receiver = datagrams(*hosts)
    receiver.setsockopt(SOL, uapi.SO_BINDTODEVICE, b"lo\0")
    sender.sendto(b"x", SERVER)
    assert errno_of(receiver.recv, 1) != 0
    receiver.setsockopt(SOL, uapi.SO_BINDTODEVICE, b"eth0\0")
    sender.sendto(b"x", SERVER)
    assert receiver.recv(1) == b"x"


def test_so_reuseport_spreads_who_connects(a: Host, b: Host) -> None:
    listeners = [stream(b) for _ in range(3)]
    for listener in listeners[:2]:
        listener.setsockopt(SOL, uapi.SO_REUSEPORT, 1)
        listener.bind(SERVER)
        listener.listen(50)
    assert errno_of(listeners[2].bind, SERVER) == errno.EADDRINUSE
    for _ in range(30):
        stream(a).connect(SERVER)
    assert [len(listener.sk.accept_queue) > 5 for listener in listeners] == [True, True, False]


def test_so_select_err_queue(a: Host) -> None:
    sock = dgram(a)
    sock.setsockopt(SOL, uapi.SO_SELECT_ERR_QUEUE, 1)
    sock.setsockopt(SOL_XTP, XTP_SERVICE, XTP_SERVICE_ACKED_DATAGRAM)
    sock.setblocking(False)
    sock.sendto(b"x", SERVER)
    a.clock.run_for(SEC)
    assert sock.poll() & (POLLERR | POLLPRI) == POLLERR | POLLPRI
    quiet = dgram(a)
    assert not quiet.poll() & (POLLERR | POLLPRI)
