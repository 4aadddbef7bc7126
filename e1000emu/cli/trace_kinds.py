"""What `e1000emu trace` can record: for each kind the hosts, and one round of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from sys import byteorder
from typing import Any

from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic, mac_address
from e1000emu.links import pair
from stack.api.sockaddr import inet6_aton, inet_aton
from stack.core.neigh_table import NEIGH_UPDATE_F_ADMIN, NEIGH_UPDATE_F_OVERRIDE
from stack.core.neighbour import __neigh_lookup, neigh_update
from stack.core.uapi import IPPROTO_XTP, NUD_PERMANENT
from stack.drivers.e1000.main import e1000_init_module
from stack.host import Host
from stack.ipv4.arp import arp_req_set
from stack.socket import (
    AF_INET,
    AF_INET6,
    AF_PACKET,
    AF_UNIX,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    Socket,
    create_connection,
    create_server,
)

# `with trace(host):` records what is called meanwhile, for one host or for all (None).
Trace = Callable[[Any], AbstractContextManager[Any]]
Round = Callable[[Trace], None]
UNRECORDED = object()
"""For a step of a round: run, but not recorded."""

DAD_NS = 3_000_000_000
"""By then the addresses of IPv6 are no longer tentative, and routers have been solicited."""

ECHO = b"\x08\x00\x00\x00\x00\x00\x00\x01" + b"x" * 56


@dataclass(frozen=True, slots=True)
class Family:
    """A kind's data for an address family: the addresses of hosts a and b, an echo request."""

    af: int
    a: str
    b: str
    prefix: int
    icmp: int
    echo: bytes


V4 = Family(AF_INET, "10.0.0.1", "10.0.0.2", 24, IPPROTO_ICMP, ECHO)
V6 = Family(AF_INET6, "2001:db8::1", "2001:db8::2", 64, IPPROTO_ICMPV6, b"\x80" + ECHO[1:])


def introduce(host: Host, addr: str, addr6: str, mac: bytes) -> None:
    """Add a permanent neighbour to `host`, as `ip neigh add … nud permanent` does."""
    dev = host.dev("eth0")
    arp_req_set(dev, inet_aton(addr), mac)
    assert host.ipv6.nd_tbl is not None
    neigh = __neigh_lookup(host.ipv6.nd_tbl, inet6_aton(addr6), dev, True)
    assert neigh is not None
    neigh_update(neigh, mac, NUD_PERMANENT, NEIGH_UPDATE_F_ADMIN | NEIGH_UPDATE_F_OVERRIDE)


class Scene:
    """Two hosts on a wire, so warmed up that a trace shows one packet, the same each time.

    Args:
        staged: no packet bypasses an empty queue, and a kind's own arrangements are made.
        napi: False: the drivers work in the hard interrupt.
        acquainted: each host has the other as a permanent neighbour.
    """

    def __init__(self, *, staged: bool = True, napi: bool = True, acquainted: bool = True) -> None:
        self.staged = staged
        self.clock = VirtualClock()
        ends = pair(self.clock)
        hosts = []
        for number, name in enumerate("ab"):
            host = Host(name=name, clock=self.clock, drivers=False)
            with host.lock:
                e1000_init_module(host.machine, NAPI=int(napi))
            addr = f"10.0.0.{number + 1}/24"
            add_nic(host, ends[number], mac=mac_address(0x3456 + number), addr=addr, wait=False)
            host.ifconfig("eth0", f"2001:db8::{number + 1}/64")
            hosts.append(host)
        self.a, self.b = hosts
        for host in hosts:
            host.wait_carrier("eth0")
            self.queue_every_packet(host)
        self.clock.run_for(DAD_NS)
        self.others: list[Host | Scene] = []
        """Further objects of a kind."""
        if acquainted:
            introduce(self.a, V4.b, V6.b, mac_address(0x3456 + 1))
            introduce(self.b, V4.a, V6.a, mac_address(0x3456))

    def queue_every_packet(self, host: Host) -> None:
        """Make the qdiscs of `host` queue each packet, which would otherwise bypass an empty queue
        (TCQ_F_CAN_BYPASS), so that a trace shows where packets wait under load."""
        for dev in host.dev_base_head if self.staged else ():
            dev.qdisc.can_bypass = False

    def close(self) -> None:
        """Close both hosts, and what belongs to a kind."""
        for other in self.others:
            other.close()
        self.a.close()
        self.b.close()

    def settle(self, seconds: float = 0.3) -> None:
        """Let timers and late acknowledgements pass."""
        self.clock.run_for(int(seconds * 1e9))

    def settle_briefly(self) -> None:
        """Let a packet arrive."""
        self.settle(0.001)

    def udp(self, family: Family = V4) -> tuple[Socket, Socket]:
        """Return a sender on a and a bound receiver on b, the neighbour resolved."""
        receiver = Socket(self.b, family.af, SOCK_DGRAM)
        receiver.bind((family.b, 9000))
        sender = Socket(self.a, family.af, SOCK_DGRAM)
        sender.sendto(b"warm", (family.b, 9000))
        receiver.recvfrom(100)
        self.settle()
        return sender, receiver

    def tcp(self, family: Family = V4) -> tuple[Socket, Socket]:
        """Return both ends of an established connection, quiet."""
        listener = create_server(self.b, (family.b, 9000), family=family.af)
        client = create_connection(self.a, (family.b, 9000))
        server, _ = listener.accept()
        client.sendall(b"warm")
        server.recv(100)
        self.settle()
        return client, server


class Router:
    """A host between two wires: a - host - b, with a datagram socket at either end."""

    def __init__(self, scene: Scene, family: Family) -> None:
        clock = scene.clock
        knobs = {"ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}
        self.host = Host(name="router", clock=clock, sysctl=knobs)
        self.ends = [Host(name=name, clock=clock) for name in ("left", "right")]
        wires = [pair(clock), pair(clock)]
        for number, end in enumerate(self.ends):
            far = f"10.{number}.0.254", f"2001:db8:{number}::fe"
            near = f"10.{number}.0.1", f"2001:db8:{number}::1"
            router, host = mac_address(2 * number + 1), mac_address(2 * number + 2)
            wire = wires[number]
            add_nic(self.host, wire[0], mac=router, addr=f"{far[0]}/24", wait=False)
            add_nic(end, wire[1], mac=host, addr=f"{near[0]}/24", wait=False)
            self.host.ifconfig(f"eth{number}", f"{far[1]}/64")
            end.ifconfig("eth0", f"{near[1]}/64")
            end.wait_carrier("eth0")
            end.route_add("0.0.0.0/0", via=far[0])
            end.route_add("::/0", via=far[1])
        scene.queue_every_packet(self.host)
        clock.run_for(DAD_NS)
        scene.others += [*self.ends, self.host]
        self.to = ("10.1.0.1" if family is V4 else "2001:db8:1::1"), 9000
        self.sender = Socket(self.ends[0], family.af, SOCK_DGRAM)
        self.receiver = Socket(self.ends[1], family.af, SOCK_DGRAM)
        self.receiver.bind(self.to)


def steps(*each: tuple[object, Callable[[], object]]) -> Round:
    """Return a round that makes these calls in turn. Each is recorded for its host, or for all
    (None), or is UNRECORDED."""

    def one(trace: Trace) -> None:
        for host, call in each:
            with nullcontext() if host is UNRECORDED else trace(host):
                call()

    return one


def sending(
    scene: Scene, send: Callable[[], object], receiver: Socket | None = None, seconds: float = 0.001
) -> Round:
    """Return a round that records `send`; after `seconds` the data is read from `receiver`."""
    taken = [(UNRECORDED, partial(receiver.recv, 100))] if receiver is not None else []
    return steps((None, send), (UNRECORDED, partial(scene.settle, seconds)), *taken)


def passing(scene: Scene, send: Callable[[], object], host: Host, receiver: Socket) -> Round:
    """Return a round that records how `host` receives what `send` sends."""
    return steps(
        (UNRECORDED, send), (host, scene.settle_briefly), (UNRECORDED, partial(receiver.recv, 100))
    )


def taking(
    scene: Scene,
    send: Callable[[], object],
    host: Host,
    take: Callable[[], object],
    settle: Callable[[], object],
) -> Round:
    """Return a round that records how `host` receives what `send` sends, then `take`."""
    return steps(
        (UNRECORDED, send), (host, scene.settle_briefly), (None, take), (UNRECORDED, settle)
    )


def _udp_send(scene: Scene, family: Family = V4) -> Round:
    sender, receiver = scene.udp(family)
    return sending(scene, lambda: sender.sendto(b"x" * 64, (family.b, 9000)), receiver)


def _udp_recv(scene: Scene, family: Family = V4) -> Round:
    sender, receiver = scene.udp(family)
    return taking(
        scene,
        lambda: sender.sendto(b"x" * 64, (family.b, 9000)),
        scene.b,
        lambda: receiver.recvfrom(100),
        scene.settle_briefly,
    )


def _tcp_send(scene: Scene, family: Family = V4) -> Round:
    client, server = scene.tcp(family)
    return sending(scene, lambda: client.send(b"x" * 64), server, 0.3)


def _tcp_recv(scene: Scene, family: Family = V4) -> Round:
    if not scene.staged:
        client, server = scene.tcp(family)
        return taking(
            scene, lambda: client.send(b"x" * 64), scene.b, lambda: server.recv(100), scene.settle
        )
    # Header prediction is not armed yet for the first segment that a connecting side gets (with a
    # window scale that segment arms it). So it takes the slow path, which shows more. So does
    # routing, which a connection's packets skip where early demux finds their socket.
    scene.b.sysctl.ip_early_demux = 0
    listener = create_server(scene.a, (family.a, 9000), family=family.af)

    def one(trace: Trace) -> None:
        receiver = create_connection(scene.b, (family.a, 9000))
        sender, _ = listener.accept()
        scene.settle()
        sender.send(b"x" * 64)
        with trace(scene.b):
            scene.settle(0.001)
        with trace(None):
            receiver.recv(100)
        sender.close()
        receiver.close()
        scene.settle()

    return one


def _tcp_connect(scene: Scene, family: Family = V4) -> Round:
    scene.udp(family)
    listener = create_server(scene.b, (family.b, 9000), family=family.af)

    def one(trace: Trace) -> None:
        with trace(scene.a):
            client = create_connection(scene.a, (family.b, 9000))
        server, _ = listener.accept()
        client.close()
        server.close()
        scene.settle()

    return one


def _xtp(scene: Scene) -> Round:
    scene.udp()
    listener = Socket(scene.b, AF_INET, SOCK_STREAM, IPPROTO_XTP)
    listener.bind((V4.b, 9001))
    listener.listen(5)

    def one(trace: Trace) -> None:
        with trace(None):
            client = Socket(scene.a, AF_INET, SOCK_STREAM, IPPROTO_XTP)
            client.connect((V4.b, 9001))
            server, _ = listener.accept()
            client.send(b"x" * 64)
            server.recv(100)
            server.close()
        client.close()
        scene.settle()

    return one


def _first(scene: Scene, family: Family = V4) -> Round:
    def one(trace: Trace) -> None:
        # neighbours that know each other cannot be asked again: two new ones each time
        fresh = Scene(staged=scene.staged, acquainted=False)
        try:
            sender = Socket(fresh.a, family.af, SOCK_DGRAM)
            with trace(None):
                sender.sendto(b"x" * 64, (family.b, 9000))
            with trace(fresh.b):
                fresh.settle(0.0005)
            with trace(fresh.a):
                fresh.settle(0.0005)
        finally:
            fresh.close()

    return one


def _icmp(scene: Scene, family: Family = V4) -> Round:
    scene.udp(family)
    sender = Socket(scene.a, family.af, SOCK_DGRAM, family.icmp)
    return steps(
        (None, lambda: sender.sendto(family.echo, (family.b, 0))),
        (scene.b, scene.settle_briefly),
        (UNRECORDED, lambda: sender.recv(100)),
        (UNRECORDED, scene.settle),
    )


def _socket(scene: Scene, family: Family = V4) -> Round:
    return steps((None, lambda: Socket(scene.a, family.af).close()))


def _forward(scene: Scene, family: Family = V4) -> Round:
    router = Router(scene, family)
    router.sender.sendto(b"warm", router.to)
    scene.settle()
    router.receiver.recvfrom(100)
    return passing(
        scene, lambda: router.sender.sendto(b"x" * 64, router.to), router.host, router.receiver
    )


def _icmp_error(scene: Scene, family: Family = V4) -> Round:
    scene.udp(family)
    sender = Socket(scene.a, family.af, SOCK_DGRAM)
    sender.connect((family.b, 9001))

    def one(trace: Trace) -> None:
        sender.send(b"x" * 64)
        with trace(None):
            scene.settle(0.001)
        with suppress(ConnectionRefusedError):
            sender.recv(100)
        scene.settle(1.0)  # replies are rate-limited

    return one


def _raw(scene: Scene) -> Round:
    return _watched(scene, AF_INET, IPPROTO_ICMP)


def _packet_recv(scene: Scene) -> Round:
    return _watched(scene, AF_PACKET, int.from_bytes(b"\x08\x00", byteorder))


def _watched(scene: Scene, family: int, protocol: int) -> Round:
    """A ping whose request a raw socket also receives."""
    scene.udp()
    sender = Socket(scene.a, AF_INET, SOCK_DGRAM, IPPROTO_ICMP)
    watcher = Socket(scene.b, family, SOCK_RAW, protocol)
    return taking(
        scene,
        lambda: sender.sendto(ECHO, ("10.0.0.2", 0)),
        scene.b,
        lambda: watcher.recv(1000),
        lambda: sender.recv(100),
    )


def _packet_send(scene: Scene) -> Round:
    scene.udp()
    sender = Socket(scene.a, AF_PACKET, SOCK_RAW, 0)
    sender.bind(("eth0", 0))
    frame = b"\xff" * 6 + scene.a.dev("eth0").dev_addr + b"\x88\xb5" + bytes(50)
    return sending(scene, lambda: sender.send(frame))


def _blocked_qdisc(scene: Scene) -> Round:
    sender, receiver = scene.udp()
    # a full bucket pays for one frame of 106 bytes, and is full again after 850 us
    scene.a.qdisc_add("eth0", "tbf", rate=125_000, burst=110, limit=10_000)

    def one(trace: Trace) -> None:
        sender.sendto(b"x" * 64, ("10.0.0.2", 9000))
        with trace(scene.a):
            sender.sendto(b"x" * 64, ("10.0.0.2", 9000))
            scene.settle(0.002)
        for _ in range(2):
            receiver.recvfrom(100)

    return one


def _completion(scene: Scene) -> Round:
    # A driver without NAPI frees sent packets in the hard interrupt.
    fresh = Scene(staged=scene.staged, napi=not scene.staged)
    scene.others.append(fresh)
    sender, receiver = fresh.udp()
    return steps(
        (None, lambda: sender.sendto(b"x" * 64, ("10.0.0.2", 9000))),
        (fresh.a, fresh.settle_briefly),
        (UNRECORDED, lambda: receiver.recvfrom(100)),
    )


def _tcp_close(scene: Scene) -> Round:
    listener = create_server(scene.b, ("10.0.0.2", 9000))

    def one(trace: Trace) -> None:
        client = create_connection(scene.a, ("10.0.0.2", 9000))
        server, _ = listener.accept()
        scene.settle()
        with trace(None):
            client.close()
        with trace(scene.b):
            scene.settle(0.001)
        server.close()
        scene.settle()

    return one


def _unix_send(scene: Scene) -> Round:
    one, two = scene.a.socketpair()
    return sending(scene, lambda: one.send(b"x" * 64), two)


def _unix_recv(scene: Scene) -> Round:
    one, two = scene.a.socketpair()
    return steps((UNRECORDED, lambda: one.send(b"x" * 64)), (None, lambda: two.recv(100)))


def _unix_dgram(scene: Scene) -> Round:
    receiver = Socket(scene.a, AF_UNIX, SOCK_DGRAM)
    receiver.bind(b"\0trace")
    sender = Socket(scene.a, AF_UNIX, SOCK_DGRAM)
    return steps(
        (None, lambda: sender.sendto(b"x" * 64, b"\0trace")), (None, lambda: receiver.recvfrom(100))
    )


def _loopback(scene: Scene, family: Family = V4) -> Round:
    receiver = Socket(scene.a, family.af, SOCK_DGRAM)
    receiver.bind((family.a, 9000))
    sender = Socket(scene.a, family.af, SOCK_DGRAM)
    return steps(
        (None, lambda: sender.sendto(b"x" * 64, (family.a, 9000))),
        (None, lambda: receiver.recvfrom(100)),
    )


def _raw_send(scene: Scene, family: Family = V4) -> Round:
    scene.udp(family)
    sender = Socket(scene.a, family.af, SOCK_RAW, UNKNOWN_PROTOCOL)
    return sending(scene, lambda: sender.sendto(b"x" * 64, (family.b, 0)), seconds=0.3)


def _ping_recv(scene: Scene, family: Family = V4) -> Round:
    scene.udp(family)
    sender = Socket(scene.a, family.af, SOCK_DGRAM, family.icmp)
    return taking(
        scene,
        lambda: sender.sendto(family.echo, (family.b, 0)),
        scene.a,
        lambda: sender.recv(100),
        scene.settle,
    )


UNKNOWN_PROTOCOL = 253
"""RFC 3692: for experiments."""

Kinds = dict[str, tuple[str, Callable[..., Round]]]


def over_ipv6(kinds: Kinds, names: str) -> Kinds:
    """Return the kinds of `names` over IPv6: of udp-send udp6-send, of calls calls6."""
    return {
        re.sub("^[a-z]+", r"\g<0>6", name): (
            f"as {name}, over IPv6",
            partial(kinds[name][1], family=V6),
        )
        for name in names.split()
    }


KINDS: Kinds = {
    "udp-send": ("sendto() of 64 bytes to the doorbell", _udp_send),
    "udp-recv": ("interrupt to recvfrom() of 64 bytes", _udp_recv),
    "tcp-send": ("send() of 64 bytes to the doorbell", _tcp_send),
    "tcp-recv": ("interrupt to recv() of 64 bytes, with the acknowledgement", _tcp_recv),
    "tcp-connect": ("connect(): the client's side of the handshake", _tcp_connect),
    "arp": ("first packet to an unknown neighbour: request, reply, packet", _first),
    "tcp-close": ("close(): FIN out, and what it does on the other host", _tcp_close),
    "forward": ("a router: interrupt to the doorbell of the other NIC", _forward),
    "icmp-error": ("a datagram that nobody wants, and the error back to its sender", _icmp_error),
    "raw": ("a packet for a raw socket and for its protocol", _raw),
    "packet-recv": ("a frame for a packet socket and for IP", _packet_recv),
    "packet-send": ("a whole frame from a packet socket to the NIC's doorbell", _packet_send),
    "blocked-qdisc": ("a queue holds a packet back until its watchdog expires", _blocked_qdisc),
    "completion": ("a sent packet freed after a hard interrupt (no NAPI)", _completion),
    "icmp": ("echo request out, and its answer on the other host", _icmp),
    "socket": ("socket() and close()", _socket),
    "xtp": ("a stream of XTP: socket() to close(), 64 bytes between", _xtp),
    "nd": (
        "first packet to an unknown neighbour: solicitation, advertisement",
        partial(_first, family=V6),
    ),
    "unix-send": ("send() of 64 bytes to a socket of the same host", _unix_send),
    "unix-recv": ("recv() of 64 bytes from a socket of the same host", _unix_recv),
    "unix-dgram": ("sendto() and recvfrom() of a datagram on one host", _unix_dgram),
    "loopback": ("sendto() and recvfrom() of 64 bytes over lo", _loopback),
    "raw-send": ("sendto() of a raw socket to the doorbell", _raw_send),
    "ping-recv": ("the answer of an echo request: interrupt to recv()", _ping_recv),
}
KINDS |= over_ipv6(
    KINDS,
    "socket udp-send udp-recv tcp-send tcp-recv tcp-connect icmp icmp-error forward loopback "
    "raw-send ping-recv",
)
