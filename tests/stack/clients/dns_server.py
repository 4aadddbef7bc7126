"""Name servers made of scapy's layers, and a resolver of ours that asks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRROPT, DNSRRSOA

from stack.clients.action import SetTimer
from stack.clients.dns_answer import Outcome
from stack.clients.dns_wire import RRType
from stack.clients.resolvconf import ResolvConf
from stack.clients.resolver import CloseSocket, Finished, Lookup, OpenStream, SendDatagram
from stack.core.sockaddr import sockaddr
from stack.core.uapi import AF_INET
from tests.stack.clients.simulation import Simulation

TYPES = {"A": 1, "CNAME": 5, "PTR": 12, "AAAA": 28}


def address(number: int) -> sockaddr:
    """Of name server `number`, from 1."""
    return sockaddr(AF_INET, 0x0A000000 + number, 53)


@dataclass
class Server:
    """Answers from `zone`: name -> [(type, data)]; other names do not exist."""

    zone: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    silent: bool = False
    rcode: int = 0
    edns: bool = True
    truncate: bool = False
    chase: bool = True
    """Follow CNAMEs in the answer, as recursive servers do."""
    refuse: bool = False
    """Connections and datagrams come back with an ICMP error."""
    change: Callable[[DNS], DNS] | None = None
    seen: list[DNS] = field(default_factory=list)
    streams: int = 0

    def answer(self, data: bytes, *, tcp: bool = False) -> bytes | None:
        query = DNS(data)
        self.seen.append(query)
        assert query.qr == 0
        assert query.rd == 1
        assert query.qdcount == 1
        if self.silent:
            return None
        asked = query.qd[0]
        reply = DNS(
            id=query.id, qr=1, rd=1, ra=1, qd=DNSQR(qname=asked.qname, qtype=asked.qtype), ancount=0
        )
        opt = query.ar[0] if query.arcount else None
        if opt is not None and not self.edns:
            reply.rcode = 1
            return bytes(reply)
        if self.rcode:
            reply.rcode = self.rcode
            return bytes(reply)
        records: list[Any] = []
        name = asked.qname.decode().lower()
        known = name in self.zone
        while name in self.zone:
            rows = self.zone[name]
            records += [
                DNSRR(rrname=name, type=t, ttl=60, rdata=d)
                for t, d in rows
                if TYPES[t] == asked.qtype or t == "CNAME"
            ]
            alias = next((d for t, d in rows if t == "CNAME"), None)
            if alias is None or not self.chase or len(records) > 40:
                break
            name = alias
        reply.an = records
        reply.ancount = len(records)
        if not known:
            reply.rcode = 3
        if not records:
            reply.ns = [DNSRRSOA(rrname="example.", mname="ns.", rname="root.")]
        if opt is not None:
            reply.ar = [DNSRROPT(rclass=4096)]
        if self.truncate and not tcp:
            reply.tc, reply.an, reply.ancount = 1, [], 0
        return bytes(reply if self.change is None else self.change(reply))


class World:
    """Servers, a wire and one lookup after the other."""

    def __init__(self, *servers: Server, sim: Simulation | None = None, **conf: Any) -> None:
        self.sim = sim or Simulation()
        self.servers = {address(n): server for n, server in enumerate(servers, 1)}
        conf.setdefault("servers", tuple(self.servers))
        self.conf = ResolvConf(**conf)
        self.random = Random(11)
        self.asked: list[tuple[int, sockaddr, bool]] = []
        self.sockets: set[int] = set()
        self.most_sockets = 0
        self.closed: list[int] = []
        self.finished: list[Finished] = []

    def lookup(
        self, name: Any, types: tuple[int, ...] = (RRType.A, RRType.AAAA), seconds: float = 600
    ) -> Finished:
        """Resolve, and check that nothing is left open."""
        self.core = Lookup(name, types, conf=self.conf, random=self.random)
        before = len(self.finished)
        self.do(self.core.start(self.sim.now_ns))
        assert self.sim.run(seconds, lambda: len(self.finished) > before)
        assert self.sockets == set()
        assert self.core.result == self.finished[-1]
        return self.finished[-1]

    def do(self, actions: list[Any]) -> None:
        core = self.core
        for action in actions:
            match action:
                case SetTimer():
                    self.sim.set_timer(action.at_ns, lambda: self.do(core.timer(self.sim.now_ns)))
                case SendDatagram() | OpenStream():
                    tcp = isinstance(action, OpenStream)
                    assert tcp is False or action.number not in self.sockets
                    self.sockets.add(action.number)
                    self.most_sockets = max(self.most_sockets, len(self.sockets))
                    self.asked.append((self.sim.now_ns, action.server, tcp))
                    self.sim.carry(lambda a=action, t=tcp: self.serve(core, a, t))  # type: ignore[misc]
                case CloseSocket():
                    self.sockets.remove(action.number)
                    self.closed.append(action.number)
                case Finished():
                    self.finished.append(action)
                case _:
                    raise AssertionError(action)

    def serve(self, core: Lookup, action: SendDatagram | OpenStream, tcp: bool) -> None:
        server = self.servers[action.server]
        number = action.number
        if server.refuse:
            self.sim.carry(lambda: self.do(core.failed(number, self.sim.now_ns)))
            return
        data = action.data
        if tcp:
            server.streams += 1
            assert int.from_bytes(data[:2], "big") == len(data) - 2
            data = data[2:]
        reply = server.answer(data, tcp=tcp)
        if reply is None:
            return
        if not tcp:
            self.sim.carry(lambda: self.do(core.datagram(number, reply, self.sim.now_ns)))
            return
        framed = len(reply).to_bytes(2, "big") + reply
        for piece in (framed[:1], framed[1:7], framed[7:]):  # as a stream may cut it
            self.do(core.stream(number, piece, self.sim.now_ns))


def found(result: Finished) -> list[int]:
    """The addresses of a result."""
    assert result.outcome is Outcome.FOUND
    assert all(isinstance(record.data, int) for record in result.records)
    return [int(record.data) for record in result.records]  # type: ignore[arg-type]
