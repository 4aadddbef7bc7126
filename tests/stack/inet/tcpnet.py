"""Two hosts on an impaired wire, and TCP sockets without the file layer: the harness of test_tcp*.

Deterministic: one VirtualClock, a seeded wire. What crosses the wire is kept (`net.log`) so that
tests can look at it; `net.filter` may drop, change or delay single segments.
"""

from __future__ import annotations

import errno
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e1000emu.clock import VirtualClock
from fastpath.base.csum import csum_ipv6_magic, csum_partial, csum_tcpudp_magic, ip_compute_csum
from stack.core.bsd_socket import socket
from stack.core.dev import dev_open, register_netdev
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.irq import request_irq
from stack.core.napi import netif_napi_add
from stack.core.netdevice import NETIF_F_GSO, NETIF_F_SG, net_device_ops
from stack.core.sock import lock_sock, release_sock, sk_alloc, sock_graft, sock_init_data
from stack.core.sock_flags import SOCK_DEAD
from stack.core.sockaddr import sockaddr
from stack.core.sockopt_table import OPTLEN_ANY
from stack.core.tcp_states import STATE_NAMES, TCP_SYN_RECV, TCP_SYN_SENT
from stack.core.uapi import AF_INET, MSG_DONTWAIT, O_NONBLOCK, SOCK_STREAM
from stack.ethernet.eth import alloc_etherdev
from stack.host import Host
from stack.inet.af_ops import af_ops_of
from stack.inet.inet_connection_sock import inet_csk_accept, inet_csk_listen_start
from stack.inet.tcp import tcp_poll
from stack.inet.tcp_close import tcp_close, tcp_shutdown
from stack.inet.tcp_recvmsg import tcp_recvmsg
from stack.inet.tcp_sendmsg import tcp_sendmsg
from stack.ipv4.tcp_ipv4 import tcp_prot
from tests.stack.core.wire import QUIET6, WireDevice, assert_no_leak
from tests.stack.ipv4.net import at

A = 0x0A000001
B = 0x0A000002
A6 = 0x20010DB8_00000000_00000000_00000001
B6 = 0x20010DB8_00000000_00000000_00000002
PEER_OF = {A: B, B: A, A6: B6, B6: A6}
MS = 1_000_000
S = 1_000_000_000

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
M32 = 0xFFFFFFFF


@dataclass(slots=True)
class Segment:
    """One TCP segment as it crossed the wire (or will)."""

    time_ns: int
    src: int
    sport: int
    dport: int
    seq: int
    ack: int
    flags: int
    window: int
    options: bytes
    payload: bytes
    frame: bytes = b""

    @property
    def tos(self) -> int:
        """The IP header's type of service or traffic class, ECN bits included."""
        if self.frame[12:14] == b"\x86\xdd":
            return int.from_bytes(self.frame[14:16], "big") >> 4 & 0xFF
        return self.frame[15]

    def with_tos(self, tos: int) -> bytes:
        """The frame with another type of service, as a router changes it."""
        ip = bytearray(self.frame[14:34])
        ip[1] = tos
        ip[10:12] = bytes(2)
        ip[10:12] = ip_compute_csum(ip).to_bytes(2, "big")
        return self.frame[:14] + bytes(ip) + self.frame[34:]

    @property
    def dst(self) -> int:
        return PEER_OF[self.src]

    def opt(self, kind: int) -> bytes | None:
        """The value of an option, None when absent."""
        data, i = self.options, 0
        while i < len(data):
            if data[i] == 0:
                break
            if data[i] == 1:
                i += 1
                continue
            size = data[i + 1]
            if data[i] == kind:
                return data[i + 2 : i + size]
            i += size
        return None

    @property
    def sacks(self) -> list[tuple[int, int]]:
        value = self.opt(5) or b""
        return [
            (int.from_bytes(value[i : i + 4], "big"), int.from_bytes(value[i + 4 : i + 8], "big"))
            for i in range(0, len(value), 8)
        ]

    @property
    def text(self) -> str:
        names = "".join(
            c for c, bit in zip("FSRPAU", (1, 2, 4, 8, 16, 32), strict=True) if self.flags & bit
        )
        who = "A>B" if self.src in (A, A6) else "B>A"
        return (
            f"{self.time_ns / 1e6:10.3f} {who} {names:4s} seq {self.seq} ack {self.ack} "
            f"win {self.window} len {len(self.payload)} {self.sacks or ''}"
        )


def parse_segment(frame: bytes, now_ns: int) -> Segment | None:
    """The TCP segment in a frame; None for anything else. Verifies lengths and checksum."""
    if frame[12:14] == b"\x86\xdd":
        return parse_segment6(frame, now_ns)
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    tot = int.from_bytes(frame[16:18], "big")
    tcp = frame[34 : 14 + tot]
    saddr, daddr = int.from_bytes(frame[26:30], "big"), int.from_bytes(frame[30:34], "big")
    assert csum_tcpudp_magic(saddr, daddr, len(tcp), 6, csum_partial(tcp)) == 0, "bad TCP checksum"
    doff = (tcp[12] >> 4) * 4
    return Segment(
        now_ns,
        saddr,
        int.from_bytes(tcp[0:2], "big"),
        int.from_bytes(tcp[2:4], "big"),
        int.from_bytes(tcp[4:8], "big"),
        int.from_bytes(tcp[8:12], "big"),
        tcp[13],
        int.from_bytes(tcp[14:16], "big"),
        tcp[20:doff],
        tcp[doff:],
        frame,
    )


def parse_segment6(frame: bytes, now_ns: int) -> Segment | None:
    """The same over IPv6, without extension headers."""
    if len(frame) < 74 or frame[20] != 6:
        return None
    tcp = frame[54 : 54 + int.from_bytes(frame[18:20], "big")]
    saddr, daddr = int.from_bytes(frame[22:38], "big"), int.from_bytes(frame[38:54], "big")
    assert csum_ipv6_magic(saddr, daddr, len(tcp), 6, csum_partial(tcp)) == 0, "bad TCP checksum"
    ports_and_numbers = struct.unpack("!HHII", tcp[:12])
    doff = (tcp[12] >> 4) * 4
    window = int.from_bytes(tcp[14:16], "big")
    return Segment(
        now_ns, saddr, *ports_and_numbers, tcp[13], window, tcp[20:doff], tcp[doff:], frame
    )


def dest_unreach(quoted: bytes, code: int, mtu: int = 0) -> bytes:
    """An IP packet with the ICMP error about an IP packet, from whom that was for."""
    icmp = bytearray((3, code, 0, 0, 0, 0)) + mtu.to_bytes(2, "big") + quoted[:28]
    icmp[2:4] = ip_compute_csum(icmp).to_bytes(2, "big")
    ip = bytearray(b"\x45\0" + (20 + len(icmp)).to_bytes(2, "big") + b"\0\0\0\0\x40\x01\0\0")
    ip += quoted[16:20] + quoted[12:16]
    ip[10:12] = ip_compute_csum(ip).to_bytes(2, "big")
    return bytes(ip + icmp)


def build_segment(
    src: int,
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    window: int = 65535,
    payload: bytes = b"",
    options: bytes = b"",
    urg: int = 0,
) -> bytes:
    """An IP packet carrying the segment, with right checksums."""
    options += b"\0" * (-len(options) % 4)
    dst = B if src == A else A
    size = 20 + len(options)
    tcp = bytearray(
        sport.to_bytes(2, "big")
        + dport.to_bytes(2, "big")
        + (seq & M32).to_bytes(4, "big")
        + (ack & M32).to_bytes(4, "big")
        + bytes((size << 2, flags))
        + window.to_bytes(2, "big")
        + b"\0\0"
        + urg.to_bytes(2, "big")
        + options
        + payload
    )
    tcp[16:18] = csum_tcpudp_magic(src, dst, len(tcp), 6, csum_partial(tcp)).to_bytes(2, "big")
    ip = bytearray(
        b"\x45\0"
        + (20 + len(tcp)).to_bytes(2, "big")
        + b"\0\0\x40\0\x40\x06\0\0"
        + src.to_bytes(4, "big")
        + dst.to_bytes(4, "big")
    )
    ip[10:12] = ip_compute_csum(ip).to_bytes(2, "big")
    return bytes(ip + tcp)


class ImpairedWire(WireDevice):
    """A wire that can lose, delay, duplicate and reorder, by the seed of its net."""

    net: TcpNet

    def start_xmit(self, skb: Any, dev: Any) -> int:
        peer, self.peer = self.peer, None
        try:
            code = super().start_xmit(skb, dev)
        finally:
            self.peer = peer
        if peer is not None and self.sent:
            self.net.carry(self, self.sent.pop())
        return code


class TcpNet:
    """Hosts `a` (10.0.0.1) and `b` (10.0.0.2). Times ns, probabilities per frame and direction."""

    def __init__(
        self,
        *,
        latency_ns: int = 5 * MS,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        seed: int = 1,
        gso: bool = True,
        gso_max_size: int = 65536,
        sysctl: dict[str, Any] | None = None,
        sysctl_b: dict[str, Any] | None = None,
        mtu: int = 1500,
        ram_bytes: int = 64 << 20,
        rate_bps: int = 0,
    ) -> None:
        self.clock = VirtualClock(start_ns=100 * S)
        self.random = random.Random(seed)
        self.latency_ns = latency_ns
        self.loss, self.duplicate, self.reorder = loss, duplicate, reorder
        self.rate_bps = rate_bps
        self.free_at = {0: 0, 1: 0}
        self.log: list[Segment] = []
        self.keep_log = True
        self.filter: Callable[[Segment], Any] | None = None
        self.frames = 0
        self.socks: list[Sock] = []
        base = dict(sysctl or {})
        self.a = make_host("a", self.clock, base, ram_bytes)
        self.b = make_host("b", self.clock, {**base, **(sysctl_b or {})}, ram_bytes)
        self.wires = []
        for i, host in enumerate((self.a, self.b)):
            wire = add_impaired_wire(host, b"\x02\0\0\0\0" + bytes((i + 1,)))
            wire.net = self
            dev = wire.dev
            dev.features = dev.hw_features = (NETIF_F_SG | NETIF_F_GSO) if gso else 0
            dev.gso_max_size = gso_max_size if gso else 1400
            if not gso:
                dev.gso_max_segs = 1
            dev.mtu = mtu
            assert dev_open(dev) == 0
            self.wires.append(wire)
        self.wires[0].peer, self.wires[1].peer = self.wires[1], self.wires[0]
        self.configure()

    def configure(self) -> None:
        """Addresses, and who has them."""
        for i, wire in enumerate(self.wires):
            wire.dev.net.ifconfig(wire.dev.name, f"10.0.0.{i + 1}/24")
        self.warm_arp()

    def warm_arp(self) -> None:
        """Let both ends know each other's address, so that traces begin with TCP."""
        from stack.core.neighbour import neigh_create, neigh_update
        from stack.core.uapi import NUD_PERMANENT

        for wire, addr in ((self.wires[0], B), (self.wires[1], A)):
            net = wire.dev.net
            n = neigh_create(net.arp_tbl, addr, wire.dev)
            neigh_update(n, wire.peer.dev.dev_addr, NUD_PERMANENT, 1)

    # --- the wire ----------------------------------------------------------------------------

    def carry(self, wire: WireDevice, frame: bytes) -> None:
        """A frame leaves `wire`: decide its fate."""
        now = self.clock.now_ns()
        side = self.wires.index(wire)
        self.frames += 1
        segment = parse_segment(frame, now)
        delay = self.latency_ns
        if segment is not None:
            if self.keep_log:
                self.log.append(segment)
            if self.filter is not None:
                verdict = self.filter(segment)
                if verdict is False:
                    return
                if isinstance(verdict, bytes):
                    frame = verdict
                elif isinstance(verdict, int) and verdict is not True:
                    delay += verdict
        rng = self.random
        if self.loss and rng.random() < self.loss:
            return
        if self.rate_bps:
            start = max(now, self.free_at[side])
            self.free_at[side] = start + len(frame) * 8 * S // self.rate_bps
            delay += self.free_at[side] - now
        if self.reorder and rng.random() < self.reorder:
            delay += rng.randrange(1, 4 * self.latency_ns + 2 * MS)
        copies = 2 if self.duplicate and rng.random() < self.duplicate else 1
        peer = wire.peer
        assert peer is not None
        for i in range(copies):
            self.clock.call_at(now + delay + i * 1000, lambda: peer.receive(frame))

    def inject(self, packet: bytes, to: Host | None = None, *, now: bool = True) -> None:
        """An IP packet arrives at a host (default: by its destination address)."""
        dst = int.from_bytes(packet[16:20], "big")
        wire = self.wires[0 if dst == A else 1]
        assert wire.peer is not None
        frame = wire.dev.dev_addr + wire.peer.dev.dev_addr + b"\x08\0" + packet
        wire.receive(frame)

    # --- time --------------------------------------------------------------------------------

    def run(self, ns: int) -> None:
        self.clock.run_for(ns)

    def run_until(self, cond: Callable[[], Any], limit_ns: int = 600 * S) -> bool:
        """Run until cond(); False when the limit comes first."""
        end = self.clock.now_ns() + limit_ns
        while not cond():
            if self.clock.now_ns() >= end or not self.clock.step():
                return bool(cond())
        return True

    def close(self) -> None:
        """Close what a test left open, and both hosts; nothing may be left of their buffers."""
        if any(sock.open for sock in self.socks):
            self.finish()
        self.filter = None
        for wire in self.wires:
            wire.peer = None
            wire.inbox.clear()
        assert_no_leak(self.a, self.b)

    def __enter__(self) -> TcpNet:
        return self

    def __exit__(self, *exc: Any) -> None:
        if exc[0] is None:
            self.close()

    # --- sockets -----------------------------------------------------------------------------

    peer_addr = B
    """Host b's."""

    def socket(self, host: Host) -> Sock:
        return Sock(self, host)

    def listening(self, backlog: int = 8, *, port: int = 80) -> Sock:
        """A listener of b."""
        sock = self.socket(self.b)
        sock.bind(port)
        sock.listen(backlog)
        return sock

    def client(self, port: int = 80) -> Sock:
        """A socket of a that connects to b."""
        sock = self.socket(self.a)
        sock.connect(self.peer_addr, port)
        return sock

    def pair(self, port: int = 80) -> tuple[Sock, Sock]:
        """A connection from a to b: (client, server); the listener is gone afterwards."""
        listener = self.listening(port=port)
        client = self.client(port)
        assert self.run_until(lambda: listener.readable and client.state == "ESTABLISHED", 200 * S)
        server = listener.accept()
        listener.close()
        return client, server

    def finish(self, *socks: Sock) -> None:
        """Close these (default: all) on a wire without faults, and let TIME_WAIT go by."""
        self.filter = None
        self.loss = self.duplicate = self.reorder = 0
        for sock in socks or self.socks:
            if sock.open:
                sock.close()
        self.run(2000 * S)


class Sock:
    """The socket calls a test needs, non-blocking."""

    family = AF_INET
    prot = tcp_prot

    def __init__(self, net: TcpNet, host: Host, sk: Any = None) -> None:
        self.net, self.host = net, host
        self.sock = socket(host)
        self.sock.type, self.sock.state = SOCK_STREAM, 1
        if sk is None:
            sk = sk_alloc(host, self.family, 0, self.prot)
            sk.sk_af = af_ops_of[self.family]
            self.made(sk)
            sock_init_data(self.sock, sk)
            sk.sk_protocol = 6
            sk.sk_type = SOCK_STREAM
            self.prot.init(sk)
        else:
            sock_graft(sk, self.sock)
        self.sk = sk
        net.socks.append(self)

    def made(self, sk: Any) -> None:
        """What the family's create function does beside."""

    @property
    def state(self) -> str:
        return STATE_NAMES[self.sk.sk_state]

    @property
    def open(self) -> bool:
        """Neither closed nor destroyed."""
        return self.sk.sk_mem is not None and not self.sk.sk_flags & SOCK_DEAD

    @property
    def readable(self) -> bool:
        return bool(tcp_poll(None, self.sock, None) & 0x41)

    @property
    def writable(self) -> bool:
        return bool(tcp_poll(None, self.sock, None) & 4)

    def bind(self, port: int, addr: int = 0) -> None:
        sk = self.sk
        sk.inet_saddr = sk.inet_rcv_saddr = addr
        if self.prot.get_port(sk, port):
            raise os_error(errno.EADDRINUSE)
        sk.inet_sport = sk.inet_num

    def listen(self, backlog: int = 8) -> None:
        self.sk.sk_max_ack_backlog = backlog
        inet_csk_listen_start(self.sk)

    def connect(self, addr: int, port: int) -> None:
        """Start (the SYN goes out at once)."""
        lock_sock(self.sk)
        try:
            self.prot.connect(self.sk, self.at(addr, port))
        finally:
            release_sock(self.sk)

    def at(self, addr: int, port: int) -> sockaddr:
        return at(addr, port)

    def accept(self) -> Sock:
        return type(self)(self.net, self.host, inet_csk_accept(self.sk, O_NONBLOCK))

    def send(self, data: Any, flags: int = 0) -> int:
        return tcp_sendmsg(self.sk, msghdr(None, data, None, flags | MSG_DONTWAIT), len(data))

    def recv(self, n: int = 1 << 20, flags: int = 0) -> bytes:
        buf = bytearray(n)
        got = tcp_recvmsg(self.sk, msghdr(None, buf, None, flags), n, flags | MSG_DONTWAIT)
        return bytes(buf[:got])

    def recv_all(self) -> bytes:
        """Whatever is there."""
        out = b""
        while True:
            try:
                piece = self.recv()
            except BlockingIOError:
                return out
            if not piece:
                return out
            out += piece

    def setsockopt(self, name: int, value: Any, level: int = 6) -> None:
        self.prot.setsockopt(self.sk, level, name, value)

    def getsockopt(self, name: int, level: int = 6) -> Any:
        return self.prot.getsockopt(self.sk, level, name, OPTLEN_ANY)

    def shutdown(self, how: int = 2) -> None:
        """how: kernel bits RCV_SHUTDOWN 1, SEND_SHUTDOWN 2 (as inet_shutdown passes them)."""
        lock_sock(self.sk)
        self.sk.sk_shutdown |= how
        tcp_shutdown(self.sk, how)
        release_sock(self.sk)

    def close(self, timeout: int = 0) -> None:
        tcp_close(self.sk, timeout)

    @property
    def connecting(self) -> bool:
        return self.sk.sk_state in (TCP_SYN_SENT, TCP_SYN_RECV)


def transfer(
    net: TcpNet,
    tx: Sock,
    rx: Sock,
    data: bytes,
    *,
    chunk: int = 65536,
    close: bool = True,
    limit_ns: int = 3600 * S,
) -> bytes:
    """Push `data` from tx to rx as fast as they go; returns what arrived."""
    out = bytearray()
    pos = 0
    view = memoryview(data)
    eof = False
    end = net.clock.now_ns() + limit_ns
    while not eof:
        moved = False
        while pos < len(data):
            try:
                n = tx.send(view[pos : pos + chunk])
            except BlockingIOError:
                break
            pos += n
            moved = True
            if n < chunk:
                break
        if pos == len(data) and close and tx.sk.sk_state in (1, 8):
            tx.shutdown(2)
        while True:
            try:
                piece = rx.recv(1 << 18)
            except BlockingIOError:
                break
            moved = True
            if not piece:
                eof = True
                break
            out += piece
        if not close and len(out) >= len(data):
            break
        if not moved and not eof and not net.clock.step():
            break
        if net.clock.now_ns() > end:
            break
    return bytes(out)


def add_impaired_wire(host: Host, mac: bytes) -> ImpairedWire:
    """An interface of the kind above; not up yet."""
    dev = alloc_etherdev(host, ImpairedWire)
    wire: ImpairedWire = dev.priv
    dev.netdev_ops = net_device_ops(
        ndo_open=wire.open, ndo_stop=wire.stop, ndo_start_xmit=wire.start_xmit
    )
    dev.dev_addr = mac
    netif_napi_add(dev, wire.napi, wire.poll)
    assert register_netdev(dev) == 0
    request_irq(host.machine, 10, wire.interrupt, wire)
    return wire


def make_host(name: str, clock: VirtualClock, sysctl: dict[str, Any], ram_bytes: int) -> Host:
    quiet = {**QUIET6, **(sysctl or {})}
    return Host(name=name, clock=clock, drivers=False, sysctl=quiet, ram_bytes=ram_bytes)


__all__ = ["ACK", "FIN", "MS", "PSH", "RST", "SYN", "URG", "A", "B", "S", "Sock", "TcpNet"]
