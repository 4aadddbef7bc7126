"""Networks and programs of their hosts, for processes that import them."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from e1000emu.parallel import Simulation
from e1000emu.topology import Link, Node, Topology, TopologyLab
from stack.host import Host
from stack.socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    SOCK_DGRAM,
    Socket,
    create_connection,
    create_server,
)

START_NS = 3_000_000_000
"""Links are up and addresses valid."""
PORT = 7000
LINES = """
[nodes.server]
addresses = {eth0 = ["10.0.0.1/24", "fd00::1/64"]}
[nodes.client]
count = 4
addresses = {eth0 = ["10.0.0.10/24", "fd00::10/64"]}
[nodes.near]
kind = "switch"
[nodes.far]
kind = "switch"
[[links]]
endpoints = ["near", "far"]
delay = "5ms"
[[links]]
endpoints = ["client*", "near"]
delay = "1ms"
loss = "1%"
[[links]]
endpoints = ["server", "far"]
delay = "20us"
"""


class Flow(NamedTuple):
    """A flow between two hosts."""

    kind: str
    """tcp, udp or ping."""
    source: int
    dest: int
    family: int
    size: int
    after_ns: int


class Traffic:
    """Starts flows between hosts h0, h1 ..., and counts what arrives."""

    def __init__(self, flows: list[Flow]) -> None:
        self.flows = flows
        self.got: dict[str, int] = {}

    def begin(self, lab: TopologyLab) -> None:
        for number, flow in enumerate(self.flows):
            source, dest = f"h{flow.source}", f"h{flow.dest}"
            if dest in lab and flow.kind != "ping":
                lab.clock.spawn(self.serve, lab[dest], number, flow)
            if source in lab:
                lab.clock.spawn(self.send, lab[source], number, flow)

    def figures(self, lab: TopologyLab) -> dict[str, int]:
        got, self.got = self.got, {}
        return got

    @staticmethod
    def address(flow: Flow, number: int) -> tuple[str, int]:
        return address(flow.dest, flow.family), PORT + number

    def count(self, name: str, size: int) -> None:
        self.got[name] = self.got.get(name, 0) + size

    def serve(self, host: Host, number: int, flow: Flow) -> None:
        host.clock.wait(never, START_NS)
        where = self.address(flow, number)
        if flow.kind == "udp":
            with Socket(host, flow.family, SOCK_DGRAM) as sock:
                sock.settimeout(8)
                try:
                    sock.bind(where)
                    while True:
                        data, peer = sock.recvfrom(65536)
                        self.count(f"{number} received", len(data))
                        sock.sendto(data, peer)
                except OSError:  # nothing more comes, or IPv6 is not ready
                    return
        with create_server(host, where, family=flow.family) as server:
            server.settimeout(8)
            try:
                sock, _ = server.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(4)
                with suppressed(self, f"{number} server"):
                    while data := sock.recv(65536):
                        self.count(f"{number} received", len(data))

    def send(self, host: Host, number: int, flow: Flow) -> None:
        host.clock.wait(never, START_NS + flow.after_ns)
        where = self.address(flow, number)
        with suppressed(self, f"{number} client"):
            if flow.kind == "tcp":
                with create_connection(host, where, timeout=4) as sock:
                    sock.sendall(bytes(flow.size))
                return
            protocol = 0
            if flow.kind == "ping":
                protocol = IPPROTO_ICMP if flow.family == AF_INET else IPPROTO_ICMPV6
            with Socket(host, flow.family, SOCK_DGRAM, protocol) as sock:
                sock.settimeout(0.3)
                for i in range(3):
                    data = bytes(flow.size % 3000)
                    if flow.kind == "ping":
                        data = (
                            struct.pack("!BBHHH", 128 if protocol == 58 else 8, 0, 0, 0, i) + data
                        )
                    sock.sendto(data, where)
                    with suppressed(self, f"{number} answer"):
                        self.count(f"{number} answered", len(sock.recv(65536)))


def never() -> bool:
    return False


@contextmanager
def suppressed(traffic: Traffic, name: str) -> Iterator[None]:
    """Count an OSError; what was lost may not arrive."""
    try:
        yield
    except OSError as error:
        traffic.count(f"{name}: {type(error).__name__} {error.errno}", 1)


def address(host: int, family: int) -> str:
    return f"10.0.0.{host + 1}" if family == AF_INET else f"fd00::{host + 1:x}"


def topology(hosts: int, switches: int, links: list[dict[str, Any]], seed: int | str) -> Topology:
    nodes = {
        f"h{i}": Node(
            addresses={"eth0": [f"{address(i, AF_INET)}/24", f"{address(i, AF_INET6)}/64"]}
        )
        for i in range(hosts)
    }
    nodes |= {f"s{i}": Node(kind="switch") for i in range(switches)}
    return Topology(nodes=nodes, links=[Link(**link) for link in links], seed=seed)


def random_network(
    hosts: int, switches: int, links: list[dict[str, Any]], flows: list[Flow], seed: int | str = 0
) -> Simulation:
    traffic = Traffic(flows)
    flat = topology(hosts, switches, links, seed).flat()
    return Simulation(flat, traffic.begin, traffic.figures)


# --- a small network whose clients can die -------------------------------------------------------


def streams(seed: int | str = 0, *, die: str = "", how: str = "") -> Simulation:
    """Each client sends a megabyte to the server; `die` is who raises, kills itself or hangs."""
    got: dict[str, int] = {}

    def begin(lab: TopologyLab) -> None:
        clock = lab.clock
        if "server" in lab:
            clock.spawn(serve, lab["server"], clock, got)
        for host in lab:
            if host.name.startswith("client"):
                clock.spawn(send, host, how if host.name == die else "")

    flat = Topology.from_text(LINES)
    flat.seed = seed
    return Simulation(flat.flat(), begin, lambda lab: got if "server" in lab else {})


def dying(how: str, seed: int | str) -> Simulation:
    return streams(seed, die="client3", how=how)


def serve(host: Host, clock: Any, got: dict[str, int]) -> None:
    def receive(sock: Socket, name: str) -> None:
        with sock:
            while data := sock.recv(65536):
                got[name] = got.get(name, 0) + len(data)

    with create_server(host, ("10.0.0.1", 80)) as server:
        for _ in range(4):
            sock, peer = server.accept()
            clock.spawn(receive, sock, peer[0])


def send(host: Host, how: str) -> None:
    host.clock.wait(never, START_NS)
    with create_connection(host, ("10.0.0.1", 80)) as sock:
        sock.sendall(bytes(500_000))
        match how:
            case "raise":
                raise RuntimeError("it rains")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
            case "sleep":
                signal.pause()
        sock.sendall(bytes(500_000))


def nothing() -> Simulation:
    """Two hosts that do nothing, without delay between them."""
    made = Topology(nodes={"a": Node(), "b": Node()}, links=[Link(endpoints=["a", "b"])])
    return Simulation(made.flat())


def no_simulation() -> int:
    return 7
